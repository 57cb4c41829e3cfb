//! Conversation and message are checked together: the id of a message elsewhere opens nothing here.

use proto::policy::{self, Relation};

use crate::case::Case;
use crate::role::Role;
use crate::stage::{Caller, Stage, Things};
use crate::table::difference;

/// The fields that name something of the conversation beside them.
const FIELDS: [&str; 5] =
    ["messageId", "reportId", "replyToMessageId", "readMessageId", "deliveredMessageId"];

/// Sends every example that names a conversation and something in it with something that is not in it; says what is
/// wrong.
pub async fn check(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut pairs = 0;
    for policy in policy::all().iter().filter(|policy| policy.http) {
        for case in Case::all_of(policy) {
            if !case.has("conversation") {
                continue;
            }
            for field in FIELDS.iter().filter(|field| case.request.contains(&format!("\"{field}\":\"$"))) {
                pairs += 1;
                wrong.extend(pair(stage, &case, field).await?);
            }
        }
    }
    if pairs < 10 {
        wrong.push(format!("only {pairs} requests name a conversation and something in it"));
    }
    Ok(wrong)
}

async fn pair(stage: &Stage, case: &Case, field: &str) -> anyhow::Result<Vec<String>> {
    // Somebody who may do it to what is in there.
    let role = if case.policy.relation == Some(Relation::Author) { Role::Author } else { Role::Owner };
    let caller = Caller { role, person: stage.person(role).cloned() };
    let [foreign, own, none] = stage.elsewhere(role).await;
    let mut wrong = Vec::new();
    for door in case.doors() {
        let mut answers = Vec::new();
        for elsewhere in [&none, &foreign, &own] {
            let case = case.with(field, elsewhere).unwrap_or_else(|| case.clone());
            let request = stage.request(&case, &caller, Things::Still).await?;
            let outcome = stage.doors.call(*door, &case.rpc, caller.token(), &request).await?;
            stage.count();
            if outcome.code != "NOT_FOUND" {
                let what = format!("{} with {field} of elsewhere through {door:?}", case.name());
                wrong.push(format!("{what}: {} {}", outcome.code, outcome.said));
            }
            answers.push(outcome);
        }
        for other in &answers[1..] {
            if let Some(difference) = difference(&answers[0], other) {
                wrong.push(format!("{} through {door:?} tells what exists: {difference}", case.name()));
            }
        }
    }
    Ok(wrong)
}
