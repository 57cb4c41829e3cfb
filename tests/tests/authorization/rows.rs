//! What the policies and the examples of the contract cannot say: one row each, with its reason.

use crate::case::Case;
use crate::role::{DENIED, Expected, NOT_FOUND, Role};

const FAILED_PRECONDITION: Expected = Expected::Refused("FAILED_PRECONDITION");

/// The requests to rpcs that have no HTTP rule, and so no example; they are called by gRPC only.
///
/// # Panics
/// When the rpc has no row here.
pub fn request_without_example(rpc: &str) -> &'static str {
    match rpc {
        "StreamEvents" => r#"{"heads":[{"conversationId":"$conversation","sequence":"0"}]}"#,
        // The ticket is the right, whoever shows it; one that was made up is none.
        // About oneself there is always something, or nothing.
        "ExportUserData" | "StreamCalls" => "{}",
        "WriteUpload" | "ReadUpload" => r#"{"uploadId":"$upload","ticket":"made up"}"#,
        // Who is let in is decided before the request is looked at.
        "Introspect"
        | "ListUserFacts"
        | "LoginAsExternalAccount"
        | "ListExternalAccounts"
        | "RecordAcquaintance"
        | "OpenMessageRequest"
        | "ReportPresence"
        | "ReportDevices"
        | "RaiseAlert"
        | "CheckAccess"
        | "ListMemberships"
        | "BatchGetConversations"
        | "ListConversationFacts"
        | "SendMessages"
        | "ListHeads"
        | "CreateStreamCheckpoint"
        | "GetStreamCheckpoint"
        | "RedeemStreamTicket" => "{}",
        other => panic!("{other} has no example, no HTTP rule and no row in rows.rs"),
    }
}

/// The services of the contract that we do not serve: an operator does, and we are the client.
pub const SERVED_BY_OTHERS: &[&str] = &["MessagePolicyService"];

/// What is expected where the policy would say something else.
pub fn exception(case: &Case, role: Role, promised: Expected) -> Option<Expected> {
    let is_allowed = promised == Expected::Allowed;
    match (case.rpc.name(), case.title.as_str()) {
        // The last owner hands over first.
        ("LeaveConversation", _) if role == Role::Owner => Some(FAILED_PRECONDITION),
        // What nobody words does not change its words.
        ("EditMessage", "sticker" | "poll" | "profile") if is_allowed => Some(FAILED_PRECONDITION),
        // Its signature binds it to where it is.
        ("ForwardMessage", "secure") if is_allowed => Some(FAILED_PRECONDITION),
        // The member who made the report sees it like the moderators.
        ("GetReport", _) if role == Role::Member => Some(Expected::Allowed),
        // Nobody reports oneself.
        ("ReportMessage", _) if role == Role::Author => Some(Expected::Refused("INVALID_ARGUMENT")),
        ("WriteUpload" | "ReadUpload", _) => Some(DENIED),
        // A code that was made up is none, and so is a report that was.
        ("VerifyOtp" | "ResetPassword", _) => Some(Expected::Refused("INVALID_ARGUMENT")),
        ("ReportBackgroundCheck", _) => Some(NOT_FOUND),
        // No providers to sign in with are configured.
        ("LoginWithProvider", _) => Some(NOT_FOUND),
        ("LinkProvider" | "UnlinkProvider", _) if is_allowed => Some(NOT_FOUND),
        // An external account is with those of its namespace only: others read as unknown, and their rooms refuse it.
        ("JoinConversation", _) if role == Role::External && is_allowed => Some(DENIED),
        ("CreateConversation" | "SendMessage", _)
            if role == Role::External && is_allowed && (case.has("user") || case.has("member")) =>
        {
            Some(NOT_FOUND)
        }
        // An external account has nothing of this kind with people outside of its namespace.
        _ if role == Role::External
            && is_allowed
            && matches!(case.own(), Some("written" | "call" | "accepted_call")) =>
        {
            Some(NOT_FOUND)
        }
        // Guests and external accounts have nothing of this kind with other people.
        _ if role.has_no_account() && is_allowed && case.own().is_some_and(takes_an_account) => {
            Some(NOT_FOUND)
        }
        _ => None,
    }
}

/// What somebody sends who cannot send the example.
pub fn instead(case: &Case, role: Role) -> Option<&'static str> {
    match (case.rpc.name(), role) {
        // Neither has a password, or a name to be mentioned by.
        ("DeleteUser", Role::Guest | Role::External) => Some("{}"),
        ("MarkAlerts", Role::Guest | Role::External) if !case.is_foreign => Some(r#"{"all":true}"#),
        _ => None,
    }
}

/// Whether only accounts have something of this name.
fn takes_an_account(own: &str) -> bool {
    matches!(own, "asking" | "asked" | "writing" | "reviewed" | "schedule")
}
