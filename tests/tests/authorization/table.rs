//! The cells: every case, in every role, through every door.

use futures_util::StreamExt;
use proto::policy::Policy;

use crate::anonymous;
use crate::case::Case;
use crate::door::{Door, Outcome};
use crate::role::{Expected, NOT_FOUND, ROLES, Role};
use crate::rows;
use crate::stage::{Stage, Things};

/// How many roles of a row ask at the same time.
const AT_ONCE: usize = 4;

/// Looks at all cells of an rpc; says what is wrong.
pub async fn row(stage: &Stage, policy: &'static Policy) -> Vec<String> {
    let before = stage.state().await;
    let mut wrong = Vec::new();
    for case in Case::all_of(policy) {
        let cells = futures_util::stream::iter(ROLES.map(|role| in_role(stage, &case, role)));
        let mut found = cells.buffered(AT_ONCE).collect::<Vec<_>>().await;
        found.push(anonymous::cell(stage, &case).await);
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

fn expected(case: &Case, role: Role) -> Expected {
    let promised = role.expects(case.policy, case.is_in_scene());
    let promised = match promised {
        Expected::Allowed if case.is_foreign => NOT_FOUND,
        promised => promised,
    };
    rows::exception(case, role, promised).unwrap_or(promised)
}

async fn in_role(stage: &Stage, case: &Case, role: Role) -> anyhow::Result<Vec<String>> {
    let expected = expected(case, role);
    let things = match expected {
        Expected::Allowed if case.changes() => Things::New,
        _ => Things::Still,
    };
    let mut wrong = Vec::new();
    let mut reason: Option<String> = None;
    for door in case.doors() {
        let caller = stage.caller(role, case).await;
        let request = stage.request(case, &caller, things).await?;
        let outcome = stage.doors.call(*door, &case.rpc, caller.token(), &request).await?;
        stage.count();
        // Who is not signed in gets nowhere on the socket, whatever others may do there.
        let is_stranger_on_socket = *door == Door::Socket && role == Role::Anonymous;
        let expected = if is_stranger_on_socket { crate::role::UNAUTHENTICATED } else { expected };
        let mut complain = |what: String| {
            wrong.push(format!("{} as {role:?} through {door:?}: {what}", case.name()));
        };
        if outcome.code != code(expected) {
            complain(format!("{} instead of {}: {}", outcome.code, code(expected), outcome.said));
        }
        if !role.is_in() && outcome.said.contains(&stage.marker) {
            complain(format!("shows what is for members: {}", outcome.said));
        }
        if !is_stranger_on_socket
            && reason.replace(outcome.reason.clone()).is_some_and(|other| other != outcome.reason)
        {
            complain(format!("another reason than through the other doors: {}", outcome.reason));
        }
        if expected == NOT_FOUND && case.is_in_scene() && !role.is_in() {
            let request = stage.request(case, &caller, Things::None).await?;
            let nowhere = stage.doors.call(*door, &case.rpc, caller.token(), &request).await?;
            stage.count();
            if let Some(difference) = difference(&outcome, &nowhere) {
                complain(format!("tells what exists: {difference}"));
            }
        }
        if case.changes_account()
            && let Some(token) = caller.token()
        {
            stage.doors.forget(token).await;
        }
    }
    Ok(wrong)
}

/// How two refusals differ to somebody who knows the ids.
pub fn difference(one: &Outcome, other: &Outcome) -> Option<String> {
    let (one, other) = (one.without_ids(), other.without_ids());
    (one != other).then(|| format!("{one} and {other}"))
}

fn code(expected: Expected) -> &'static str {
    match expected {
        Expected::Allowed => "OK",
        Expected::Refused(code) => code,
    }
}
