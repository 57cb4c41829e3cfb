//! Telling the other person of a booking: the one path, whether the caller waits for it or a timer has come back to it.
//!
//! A version of a booking is told of by a message in the direct conversation, in the name of whoever made the change, and
//! then by an alert. Both can be repeated: the message by its key, the alert by its version. Only the version that is
//! there when somebody comes to it is told of; one that was overtaken before has no message.
//!
//! A message that messaging refuses for good means that the two cannot have the call: then the booking is cancelled with
//! that reason. When the booking was cancelled anyway the message does not matter, and the alert alone tells; but where
//! the two may not write to each other any more, nobody is told.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};

use crate::calendar::Calendar;
use crate::calendar::announce::{self, Answer, News};
use crate::calendar::error::Refusal;
use crate::calendar::schedule::{Schedule, Standing};
use crate::error::Error;
use crate::store::Failure;
use crate::timer::{Claim, Setback, Timer};

/// Whoever books waits for longer than this: what is refused so soon needs no alert to the one who is told by an error.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What came of what was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Everybody knows.
    Told,
    /// It is refused, and that is written down.
    Refused,
    /// It is told, but somebody has no alert of it: messaging does not take it.
    NoAlert,
    /// It will be tried again.
    Later,
    /// There is nothing to do, or somebody else does it.
    Lost,
}

/// How the two learn of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// By this message, and an alert.
    By((ConversationId, MessageId)),
    /// By an alert.
    AlertAlone,
    /// Not at all: there is a block between them.
    Nobody,
}

impl Done {
    /// As it is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Told => "done",
            Self::Refused => "refused",
            Self::NoAlert => "no_alert",
            Self::Later => "later",
            Self::Lost => "lost",
        }
    }
}

impl Calendar {
    /// Tells of a booking, for a caller that has nobody to tell what went wrong.
    pub async fn deliver_and_log(&self, claim: Claim) {
        report(&claim, self.deliver(&claim).await);
    }

    /// Tells of a booking, and says what came of it.
    pub(crate) async fn deliver(&self, claim: &Claim) -> Result<Done, Error> {
        let now = self.store.now().await?;
        let Some(mut schedule) = self.store.claimed_schedule(claim, now).await? else {
            self.store.drop_claim(claim).await?;
            return Ok(Done::Lost);
        };
        // Asked last before others are told: whoever has been asleep in between has lost the lease.
        if claim.is_stale(self.deliveries.timing().lease) {
            return Ok(Done::Lost);
        }
        let told = match self.tell(&schedule).await? {
            Answer::Taken(told) => told,
            Answer::Refused(reason) => return self.refused(claim, &schedule, &reason, now).await,
            Answer::Again { setback, why, is_ours } => {
                return self.again(&self.deliveries, claim, setback, (&why, is_ours)).await;
            }
        };
        // The alert is about the message that there is now.
        let message = match told {
            Told::By(message) => Some(message),
            Told::AlertAlone | Told::Nobody => None,
        };
        schedule.message = message.or(schedule.message);
        let audience = if told == Told::Nobody { Vec::new() } else { audience(&schedule) };
        let mut done = Done::Told;
        for (user, news) in audience {
            let version = schedule.alert_version();
            match self.announcer.alert(&schedule, user, news, version).await {
                Answer::Taken(()) => {}
                Answer::Refused(reason) => {
                    not_taken(claim, user, &reason);
                    done = Done::NoAlert;
                }
                Answer::Again { setback, why, is_ours } => {
                    return self.again(&self.deliveries, claim, setback, (&why, is_ours)).await;
                }
            }
        }
        let is_written = self.store.finish_delivery(claim, schedule.version, message).await?;
        Ok(if is_written { done } else { Done::Lost })
    }

    /// Sends the message about a version, when there is somebody in whose name it can be sent.
    async fn tell(&self, schedule: &Schedule) -> Result<Answer<Told>, Error> {
        let Some(actor) = schedule.actor else { return Ok(Answer::Taken(Told::AlertAlone)) };
        if self.store.is_gone(actor).await? {
            return Ok(Answer::Taken(Told::AlertAlone));
        }
        Ok(match self.announcer.tell(schedule, actor).await {
            Answer::Taken(message) => Answer::Taken(Told::By(message)),
            // It is cancelled all the same. But who is blocked does not get through with an alert either.
            Answer::Refused(reason) if schedule.standing != Standing::Booked => {
                let is_apart = matches!(announce::refusal(&reason, actor), Refusal::WriteDenied(_));
                Answer::Taken(if is_apart { Told::Nobody } else { Told::AlertAlone })
            }
            Answer::Refused(reason) => Answer::Refused(reason),
            Answer::Again { setback, why, is_ours } => Answer::Again { setback, why, is_ours },
        })
    }

    async fn refused(
        &self,
        claim: &Claim,
        schedule: &Schedule,
        reason: &str,
        now: Timestamp,
    ) -> Result<Done, Error> {
        // Nobody but the one who waits has heard of it.
        let is_known = schedule.told == 0 && now.since(schedule.create_time) < AT_ONCE;
        let is_written = self.store.refuse_delivery(claim, schedule.version, reason, is_known).await?;
        tracing::info!(schedule.id = %schedule.id, reason, "schedule {} is refused: {reason}", schedule.id);
        Ok(if is_written { Done::Refused } else { Done::Lost })
    }

    /// Gives a claim back after a setback.
    pub(super) async fn again(
        &self,
        timer: &Timer,
        claim: &Claim,
        setback: Setback,
        (why, is_ours): (&str, bool),
    ) -> Result<Done, Error> {
        let (key, attempt) = (claim.key, claim.attempt);
        // The first time, and then now and then: an outage has many tries.
        match (attempt % 100, is_ours) {
            (1, true) => {
                tracing::error!(attempt, "{key} cannot be told, and nobody can help it but us: {why}");
            }
            (1, false) => {
                tracing::warn!(attempt, "{key} is not told yet and will be tried again: {why}");
            }
            _ => {}
        }
        let now = self.store.now().await?;
        let back = claim.after(setback, timer.timing(), now);
        let is_back = self.store.give_back(claim, back).await?;
        Ok(if is_back { Done::Later } else { Done::Lost })
    }
}

/// Who gets an alert about a version, and what it says.
fn audience(schedule: &Schedule) -> Vec<(UserId, News)> {
    let news = match (&schedule.standing, schedule.version) {
        (Standing::Booked, 1) => News::Made,
        (Standing::Booked, _) => News::Moved,
        (Standing::Cancelled | Standing::Refused(_), _) => News::Cancelled,
    };
    match schedule.actor {
        Some(actor) => vec![(schedule.other(actor), news)],
        // Nobody did it: both have to know, but for who never heard of it.
        None if schedule.told == 0 => vec![(schedule.booker, news)],
        None => vec![(schedule.booker, news), (schedule.attendee, news)],
    }
}

/// Logs that messaging does not take an alert. An alert needs nobody's leave: what we ask must be wrong, unless the user
/// is gone.
pub(super) fn not_taken(claim: &Claim, user: UserId, reason: &str) {
    let key = claim.key;
    if matches!(announce::refusal(reason, user), Refusal::UserNotFound(_)) {
        tracing::info!(user.id = %user, reason, "{user} has no alert of {key}: {reason}");
    } else {
        tracing::error!(user.id = %user, reason, "messaging does not take an alert of {key}: {reason}");
    }
}

/// Counts what came of a claim, and logs what went wrong.
pub(super) fn report(claim: &Claim, done: Result<Done, Error>) {
    let outcome = done.as_ref().map_or("error", |done| done.name());
    metrics::counter!(crate::TIMER_FIRED, "kind" => claim.key.kind.name(), "outcome" => outcome).increment(1);
    if let Err(error) = done {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let key = claim.key;
        match error {
            Error::Store(Failure::Transient(_)) => {
                tracing::warn!(cause, "{key} will be tried again when its lease is over: {error}");
            }
            _ => tracing::error!(cause, "{key} cannot be done: {error}"),
        }
    }
}
