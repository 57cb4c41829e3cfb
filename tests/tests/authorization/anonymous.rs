//! The anonymous viewer: the credential of the gateways without a user, over gRPC. Somebody without any credential is the
//! role `Anonymous` and refused everywhere, over every transport. In one process the secret of the gateway is known to
//! nobody, so that these cells are looked at where each service is a process of its own.

use proto::policy::{self, Access};
use serde_json::{Value, json};
use tests::person::text;

use crate::case::{Case, rpc};
use crate::door::Outcome;
use crate::role::Role;
use crate::stage::{Caller, Stage, Things};

/// Sends a case for the anonymous viewer; says what is wrong. The scene is a group, which is not for everyone: what an rpc
/// would show of it is not found, and an rpc that shows the anonymous viewer nothing does not admit the call.
pub async fn cell(stage: &Stage, case: &Case) -> anyhow::Result<Vec<String>> {
    // What everyone may call, and what services call for themselves, is not called for a viewer.
    if !matches!(case.policy.access, Access::User | Access::Account) {
        return Ok(vec![]);
    }
    let nobody = Caller { role: Role::Anonymous, person: None };
    let request = stage.request(case, &nobody, Things::Still).await?;
    let outcome = stage.doors.call_anonymously(&case.rpc, &request).await?;
    stage.count();
    let expected = match is_for_anonymous_viewers(case) {
        // A name to sign in with is not shown to the anonymous viewer, and nobody is found by it.
        true if case.rpc.name() == "BatchGetUsers" => {
            ("INVALID_ARGUMENT", Some("ERROR_REASON_INVALID_FIELD"))
        }
        true if case.is_in_scene() => ("NOT_FOUND", None),
        true => ("OK", None),
        false => ("PERMISSION_DENIED", Some("ERROR_REASON_NOT_ADMITTED")),
    };
    let mut wrong = Vec::new();
    if outcome.code != expected.0 || expected.1.is_some_and(|reason| outcome.reason != reason) {
        let name = case.name();
        wrong.push(format!("{name} for the anonymous viewer: {} instead of {expected:?}", outcome.said));
    }
    if outcome.said.contains(&stage.marker) {
        wrong.push(format!("{} shows the anonymous viewer what is for members", case.name()));
    }
    Ok(wrong)
}

fn is_for_anonymous_viewers(case: &Case) -> bool {
    case.policy.anonymous_services.contains(&"gateway")
}

/// What the anonymous viewer is shown of a room with `public_read`, and no longer when its owner turns that off.
pub async fn check_public_read(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let owner = stage.person(Role::Owner).expect("an owner");
    let body = json!({ "kind": "CONVERSATION_KIND_ROOM", "title": "open to all", "publicRead": true });
    let made = owner.post("/v1/conversations", body).await.ok();
    let room = text(&made["conversation"]["conversationId"]);
    let mut wrong = Vec::new();
    let calls = [
        ("ConversationService/GetConversation", json!({ "conversationId": room }), true),
        (
            "ConversationService/ListMembers",
            json!({ "conversationId": room, "atLeast": "MEMBER_ROLE_MODERATOR" }),
            true,
        ),
        ("ConversationService/ListMembers", json!({ "conversationId": room }), false),
        ("PresenceService/ListOnlineMembers", json!({ "conversationId": room }), true),
    ];
    for is_public in [true, false] {
        if !is_public {
            let changes = json!({ "conversation": { "publicRead": false }, "updateMask": "publicRead" });
            owner.patch(&format!("/v1/conversations/{room}"), changes).await.ok();
        }
        for (name, request, is_shown) in &calls {
            let outcome = ask(stage, name, request).await?;
            let expected = if is_public && *is_shown { "OK" } else { "NOT_FOUND" };
            if outcome.code != expected {
                wrong.push(format!("{name} of a room, {is_public}: {} instead of {expected}", outcome.said));
            }
        }
    }
    Ok(wrong)
}

async fn ask(stage: &Stage, name: &str, request: &Value) -> anyhow::Result<Outcome> {
    let path = format!("/parlor.conversation.v1.{name}");
    anyhow::ensure!(policy::of(&path).is_some(), "there is no rpc {path}");
    stage.count();
    stage.doors.call_anonymously(&rpc(&path), request).await
}
