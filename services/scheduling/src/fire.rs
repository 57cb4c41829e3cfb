//! Sending what is due: the one path, whether its time has come or its author cannot wait.

use std::time::Duration;

use crate::error::Error;
use crate::messaging::Outcome;
use crate::scheduled_message::{ScheduledMessage, State};
use crate::scheduling::Scheduling;
use crate::store::Failure;
use crate::timer::{Claim, Setback};

/// What came of firing.
#[derive(Clone, Debug)]
pub enum Fired {
    /// It is sent or has failed.
    Final(ScheduledMessage),
    /// It will be tried again after so long.
    Later(Duration),
    /// Somebody else has it by now.
    Lost,
}

impl Scheduling {
    /// Sends what was claimed and writes down what became of it. What cannot be written down is done again by whoever
    /// claims it when the lease is over, under the same key.
    pub async fn fire(&self, claim: &Claim) -> Result<Fired, Error> {
        let fired = self.send(claim).await;
        let outcome = match &fired {
            Ok(Fired::Final(message)) if message.state.is_final() => {
                crate::convert::word(message.state.name())
            }
            Ok(Fired::Final(_) | Fired::Lost) => "lost",
            Ok(Fired::Later(_)) => "later",
            Err(_) => "error",
        };
        metrics::counter!(crate::TIMER_FIRED, "kind" => claim.key.kind.name(), "outcome" => outcome)
            .increment(1);
        fired
    }

    /// As [`fire`](Self::fire), for a caller that has nobody to tell.
    pub async fn fire_and_log(&self, claim: Claim) {
        if let Err(error) = self.fire(&claim).await {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let key = claim.key;
            match error {
                Error::Store(Failure::Transient(_)) => {
                    tracing::warn!(cause, "{key} will be tried again when its lease is over: {error}");
                }
                _ => tracing::error!(cause, "{key} cannot be fired: {error}"),
            }
        }
    }

    async fn send(&self, claim: &Claim) -> Result<Fired, Error> {
        let (author, id) = (claim.key.owner, claim.key.id.into());
        let Some(message) = self.store.get(author, id).await?.filter(|message| !message.state.is_final())
        else {
            return Ok(Fired::Lost);
        };
        let Some(content) = &message.content else {
            return Err(Error::Store(Failure::Corrupt("a pending message without content")));
        };
        // Asked last before it is sent: whoever has been asleep in between has lost the lease.
        if claim.is_stale(self.timer.timing().lease) {
            return Ok(Fired::Lost);
        }
        let end = match self.messaging.send(&message, content).await? {
            Outcome::Sent(message_id) => State::Sent(message_id),
            Outcome::Refused(reason) => State::Failed(reason),
            Outcome::Again { setback, why, is_ours } => {
                tell(claim, &why, is_ours);
                return self.give_back(claim, setback).await;
            }
        };
        let Some(message) = self.store.finish(claim, &end).await? else { return Ok(Fired::Lost) };
        let conversation = message.conversation;
        match &end {
            State::Failed(reason) => tracing::info!(
                scheduled_message.id = %id, conversation.id = %conversation, user.id = %author, reason,
                "scheduled message {id} was refused: {reason}"
            ),
            State::Sent(message_id) => tracing::info!(
                scheduled_message.id = %id, conversation.id = %conversation, user.id = %author, message.id = %message_id,
                "sent scheduled message {id}"
            ),
            State::Pending | State::Cancelled => {}
        }
        Ok(Fired::Final(message))
    }

    async fn give_back(&self, claim: &Claim, setback: Setback) -> Result<Fired, Error> {
        let now = self.store.now().await?;
        let back = claim.after(setback, self.timer.timing(), now);
        if self.store.give_back(claim, back).await? {
            Ok(Fired::Later(back.wake_time.since(now)))
        } else {
            Ok(Fired::Lost)
        }
    }
}

/// The first time, and then now and then: an outage has many tries.
fn tell(claim: &Claim, why: &str, is_ours: bool) {
    let (key, attempt) = (claim.key, claim.attempt);
    if attempt % 100 != 1 {
        return;
    }
    if is_ours {
        tracing::error!(attempt, "{key} cannot be sent, and not because of its author: {why}");
    } else {
        tracing::warn!(attempt, "{key} is not sent yet and will be tried again: {why}");
    }
}
