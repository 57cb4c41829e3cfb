//! What time does to calls, and what follows when they are over: the message in the conversation, and that the two know
//! each other. Both are done until they are taken.

use chassis::tasks::Shutdown;

use super::Calls;
use super::machine::{Act, Call, nobody};
use crate::error::Error;
use crate::messaging::Outcome;
use crate::store::Failure;
use crate::timer::{Claim, Kind, Setback};

impl Calls {
    /// Runs the timers for as long as the service does.
    pub(super) fn run_timers(&self) {
        for timer in [&self.deadlines, &self.outcomes] {
            let (timer, calls) = (timer.clone(), self.clone());
            self.tasks.spawn("call-timer", |shutdown: Shutdown| async move {
                let fire = |claim| {
                    let calls = calls.clone();
                    async move { calls.fire_and_log(claim).await }
                };
                timer.run(shutdown, fire).await;
            });
        }
    }

    async fn fire_and_log(&self, claim: Claim) {
        let fired = match claim.key.kind {
            Kind::CallDeadline => self.pass(&claim).await,
            _ => self.follow_up(&claim).await,
        };
        let outcome = fired.as_ref().copied().unwrap_or("error");
        metrics::counter!(crate::TIMER_FIRED, "kind" => claim.key.kind.name(), "outcome" => outcome)
            .increment(1);
        let Err(error) = fired else { return };
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let key = claim.key;
        match error {
            Error::Store(Failure::Transient(_)) => {
                tracing::warn!(cause, "{key} will be tried again when its lease is over: {error}");
            }
            _ => tracing::error!(cause, "{key} cannot be fired: {error}"),
        }
    }

    /// The time of a call may be over.
    async fn pass(&self, claim: &Claim) -> Result<&'static str, Error> {
        let Some(changed) = self.store.change_call(claim.key.id.into(), Act::Pass, &self.spans).await? else {
            // Nobody is left who had it.
            self.store.call_is_told(claim).await?;
            return Ok("gone");
        };
        self.tell_of(&changed);
        Ok(if changed.acted.changed { "over" } else { "later" })
    }

    /// A call is over: tells those who have to know.
    async fn follow_up(&self, claim: &Claim) -> Result<&'static str, Error> {
        // Asked last before anything is sent: whoever has been asleep in between has lost the lease.
        if claim.is_stale(self.outcomes.timing().lease) {
            return Ok("lost");
        }
        let mut outcomes = Vec::new();
        if let Some(call) = self.store.call(claim.key.id.into()).await?
            && let Some(ending) = call.ending()
        {
            // Beside each other: when one of the two is away, the other one is told all the same.
            let (shown, known) = tokio::join!(self.messaging.show_call(&call, ending), self.acquaint(&call));
            outcomes.extend(shown.into_iter().chain(known));
        }
        let mut setback = None;
        for outcome in outcomes {
            match outcome {
                Outcome::Sent(_) => {}
                Outcome::Refused(reason) => {
                    tracing::info!(reason, "{} is not shown: {reason}", claim.key);
                }
                Outcome::Again { setback: next, why, is_ours } => {
                    tell(claim, &why, is_ours);
                    setback = Some(worse(setback, next));
                }
            }
        }
        match setback {
            None if self.store.call_is_told(claim).await? => Ok("told"),
            None => Ok("lost"),
            Some(setback) => {
                let now = self.store.now().await?;
                let back = claim.after(setback, self.outcomes.timing(), now);
                Ok(if self.store.give_back(claim, back).await? { "later" } else { "lost" })
            }
        }
    }

    async fn acquaint(&self, call: &Call) -> Option<Outcome> {
        let users = [call.caller.user, call.callee];
        if !call.was_connected() || users.contains(&nobody()) {
            return None;
        }
        self.acquaintances.record(users).await
    }
}

/// What is to be feared more: that it may have happened, then that nobody was there.
fn worse(one: Option<Setback>, other: Setback) -> Setback {
    match (one, other) {
        (Some(Setback::Unknown), _) | (_, Setback::Unknown) => Setback::Unknown,
        (Some(Setback::Away), _) | (_, Setback::Away) => Setback::Away,
        (Some(Setback::NotYet(wait)), Setback::NotYet(other)) => Setback::NotYet(wait.max(other)),
        (None, other) => other,
    }
}

/// The first time, and then now and then: an outage has many tries.
fn tell(claim: &Claim, why: &str, is_ours: bool) {
    let (key, attempt) = (claim.key, claim.attempt);
    if attempt % 100 != 1 {
        return;
    }
    if is_ours {
        tracing::error!(attempt, "{key} cannot be told, and not because of its people: {why}");
    } else {
        tracing::warn!(attempt, "{key} is not told yet and will be tried again: {why}");
    }
}
