//! The dialects: each of their operations in every role. An operation names the rpc that it stands for, whose policy says
//! what is expected: no caller gets through a dialect what another transport refuses.

mod allo;
mod chats;
mod messenger;
mod playground;
pub mod sending;
mod talkamie;

use std::collections::HashMap;

use futures_util::StreamExt;
use proto::policy::{self, Access, Policy};
use serde_json::{Value, json};

use crate::case::Case;
use crate::role::{Expected, NOT_FOUND, ROLES, Role, UNAUTHENTICATED};
use crate::rows;
use crate::stage::{Caller, Stage, Things};
use crate::table::difference;
use tests::person::text;

/// The number of roles of a row that ask at the same time.
const AT_ONCE: usize = 4;

/// An operation of a dialect.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name; together with the rpc it is the name of the row.
    pub name: &'static str,
    /// The rpc that it stands for, as `<package>.<Service>/<Method>`.
    rpc: &'static str,
    /// The request, with places for ids: see [`sending`].
    request: &'static str,
}

const fn operation(name: &'static str, rpc: &'static str, request: &'static str) -> Operation {
    Operation { name, rpc, request }
}

/// A dialect, and its operations.
#[derive(Debug)]
pub struct Dialect {
    /// Its name.
    pub name: &'static str,
    /// All of them.
    pub operations: &'static [Operation],
    /// The external account that acts for requests without a token, in profile `development`.
    acts_without_token: Option<&'static str>,
    /// True when viewers without a token read what everyone may read.
    serves_anonymous_viewers: bool,
    /// The exceptions: the expectation where the policy of the rpc would say something else.
    exception: fn(&Case, Role) -> Option<Expected>,
}

/// All of them.
pub const DIALECTS: [&Dialect; 5] =
    [&chats::DIALECT, &messenger::DIALECT, &allo::DIALECT, &playground::DIALECT, &talkamie::DIALECT];

/// Looks at all cells of an operation; says what is wrong.
pub async fn row(stage: &Stage, dialect: &Dialect, operation: &Operation) -> Vec<String> {
    let before = stage.state().await;
    let mut wrong = Vec::new();
    for case in Case::like(policy_of(operation.rpc), operation.name, operation.request) {
        let cells = ROLES.map(|role| in_role(stage, dialect, &case, role));
        let found = futures_util::stream::iter(cells).buffered(AT_ONCE).collect::<Vec<_>>().await;
        for found in found {
            match found {
                Ok(found) => wrong.extend(found),
                Err(error) => wrong.push(format!("{}: {error:#}", case.name())),
            }
        }
    }
    if stage.state().await != before {
        wrong.push("something was changed by what was refused, or by a read".to_owned());
    }
    wrong
}

fn policy_of(name: &str) -> &'static Policy {
    policy::of(&format!("/parlor.{name}")).expect("a policy")
}

async fn in_role(stage: &Stage, dialect: &Dialect, case: &Case, role: Role) -> anyhow::Result<Vec<String>> {
    let expected = expected(dialect, case, role);
    let things = match expected {
        Expected::Allowed if case.changes() => Things::New,
        _ => Things::Still,
    };
    let mut wrong = Vec::new();
    for way in sending::ways(case) {
        let caller = match is_direct(case) {
            true => Caller { role, person: stage.person(role).cloned() },
            false => stage.caller(role, case).await,
        };
        let request = filled(stage, dialect, case, &caller, things).await?;
        let answer = stage.send(*way, caller.token(), &request).await?;
        stage.count();
        let mut complain =
            |what: String| wrong.push(format!("{} as {role:?} by {way:?}: {what}", case.name()));
        if !sending::fits(&answer, expected) {
            complain(format!("{} {} instead of {expected:?}", answer.code, answer.said));
        }
        if expected != Expected::Allowed && answer.said.contains(&stage.marker) {
            complain("a refusal that shows what is for members only".to_owned());
        }
        if expected == NOT_FOUND && names_conversation(case) && is_outside(case, role) {
            let request = filled(stage, dialect, case, &caller, Things::None).await?;
            let nowhere = stage.send(*way, caller.token(), &request).await?;
            stage.count();
            if let Some(difference) = difference(&answer, &nowhere) {
                complain(format!("tells what exists: {difference}"));
            }
        }
    }
    Ok(wrong)
}

fn expected(dialect: &Dialect, case: &Case, role: Role) -> Expected {
    if let Some(expected) = (dialect.exception)(case, role) {
        return expected;
    }
    let role = match role {
        Role::Anonymous if dialect.acts_without_token.is_some() => Role::External,
        role => role,
    };
    let is_for_anonymous_viewers =
        dialect.serves_anonymous_viewers && case.policy.anonymous_services.contains(&"gateway");
    let promised = match role {
        Role::Anonymous if is_for_anonymous_viewers && names_conversation(case) => NOT_FOUND,
        Role::Anonymous if is_for_anonymous_viewers => Expected::Allowed,
        role if is_direct(case) => in_direct(case.policy, role),
        role => role.expects(case.policy, case.is_in_scene()),
    };
    let promised = match promised {
        Expected::Allowed if case.is_foreign => NOT_FOUND,
        promised => promised,
    };
    rows::exception(case, role, promised).unwrap_or(promised)
}

/// In the direct conversation there are the author and another person, and no other role.
fn in_direct(policy: &Policy, role: Role) -> Expected {
    match (policy.access, role) {
        (_, Role::Author) => Expected::Allowed,
        (_, Role::Anonymous) => UNAUTHENTICATED,
        (Access::Account, Role::Guest | Role::External) => Expected::Refused("FAILED_PRECONDITION"),
        _ => NOT_FOUND,
    }
}

fn is_direct(case: &Case) -> bool {
    case.has("direct") || case.has("direct_message")
}

/// True for callers to whom a conversation that is named reads as if it did not exist.
fn is_outside(case: &Case, role: Role) -> bool {
    if is_direct(case) { role != Role::Author } else { !role.is_in() }
}

fn names_conversation(case: &Case) -> bool {
    ["conversation", "message", "poll", "direct", "direct_message"].iter().any(|name| case.has(name))
}

/// The request with everything in its places, also in those that only dialects have.
async fn filled(
    stage: &Stage,
    dialect: &Dialect,
    case: &Case,
    caller: &Caller,
    things: Things,
) -> anyhow::Result<Value> {
    let mut values = HashMap::new();
    if case.has("self") {
        let own = match &caller.person {
            Some(person) => person.id.clone(),
            None => dialect.acts_without_token.unwrap_or("nobody").to_owned(),
        };
        values.insert("self", own);
    }
    if is_direct(case) {
        let [conversation, message] = stage.direct(things).await;
        values.extend([("direct", conversation), ("direct_message", message)]);
    }
    if case.has("public_room") {
        values.insert("public_room", stage.public_room());
    }
    let mut request = stage.request_with(case, caller, things, values).await?;
    let numbered = request["numbered"].as_array().map(|ids| ids.iter().map(text).collect::<Vec<_>>());
    if let Some([conversation, message]) = numbered.as_deref() {
        let sequence = stage.sequence(conversation, message).await;
        let id = format!("{conversation}-{sequence}");
        request["DELETE"].as_array_mut().expect("a path").push(json!(id));
    }
    Ok(request)
}
