//! The use cases: one method each. Sending is in [`fire`](crate::fire), what follows from other services' facts in
//! [`consume`](crate::consume).

use std::future::Future;
use std::time::Duration;

use proto::id::{ScheduledMessageId, UserId};
use tokio::time::{Instant, sleep};

use crate::calls::Calls;
use crate::convert;
use crate::error::Error;
use crate::fire::Fired;
use crate::messaging::Messaging;
use crate::scheduled_message::{self, Changes, Draft, Listed, Listing, ScheduledMessage, State};
use crate::store::{Begun, Scheduled, Store, Tried};
use crate::timer::Timer;

/// How long a caller waits for the outcome of a send that is under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked for meanwhile: whoever sends may be another process.
const LOOK: Duration = Duration::from_millis(25);

/// When to ask again what is still not known after that.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Messages to be sent later.
#[derive(Clone)]
pub struct Scheduling {
    pub(crate) store: Store,
    pub(crate) timer: Timer,
    pub(crate) messaging: Messaging,
    pub(crate) bounds: Bounds,
    pub(crate) calls: Calls,
}

/// What an author may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many days ahead.
    pub horizon_days: u32,
    /// How many at a time.
    pub max_pending: u32,
}

impl Bounds {
    fn horizon(self) -> Duration {
        Duration::from_secs(u64::from(self.horizon_days) * 24 * 60 * 60)
    }
}

impl Scheduling {
    /// Schedules a message. Whether the author may send this there is judged by messaging, now and again when it is due.
    pub async fn schedule(&self, author: UserId, draft: Draft) -> Result<ScheduledMessage, Error> {
        // Before anything else: what was scheduled stays scheduled, whatever has changed since.
        if let Some(first) = self.store.find(author, draft.retry.as_ref()).await? {
            return Ok(first);
        }
        let now = self.store.now().await?;
        if !scheduled_message::is_within(self.bounds.horizon(), draft.send_time, now) {
            return Err(self.too_far_ahead("send_time"));
        }
        self.messaging.check(author, draft.conversation, &draft.content, convert::CONTENT).await?;
        let message = draft.scheduled(author, now);
        match self.store.schedule(&message, draft.retry.as_ref(), self.bounds.max_pending).await? {
            Scheduled::Already(first) => Ok(first),
            Scheduled::New => {
                self.timer.expect(message.send_time, now);
                let (id, conversation) = (message.id, message.conversation);
                tracing::info!(
                    scheduled_message.id = %id,
                    conversation.id = %conversation,
                    user.id = %author,
                    "scheduled message {id} for {}",
                    message.send_time
                );
                Ok(message)
            }
        }
    }

    /// One of the author's scheduled messages.
    pub async fn get(&self, author: UserId, id: ScheduledMessageId) -> Result<ScheduledMessage, Error> {
        self.store.get(author, id).await?.ok_or(Error::NotFound(id))
    }

    /// The author's scheduled messages, earliest first.
    pub async fn list(&self, listing: Listing) -> Result<Listed, Error> {
        let rows = self.store.list(listing).await?;
        Ok(Listed::cut(rows, listing.limit))
    }

    /// Changes one that is pending.
    pub async fn update(
        &self,
        author: UserId,
        id: ScheduledMessageId,
        changes: Changes,
    ) -> Result<ScheduledMessage, Error> {
        let now = self.store.now().await?;
        if changes
            .send_time
            .is_some_and(|time| !scheduled_message::is_within(self.bounds.horizon(), time, now))
        {
            return Err(self.too_far_ahead(convert::UPDATED_SEND_TIME));
        }
        if let Some(content) = &changes.content {
            let message = self.get(author, id).await?;
            if message.state.is_final() {
                return Err(already_final(message));
            }
            self.messaging.check(author, message.conversation, content, convert::UPDATED_CONTENT).await?;
        }
        match settled(|| self.store.change(author, id, &changes)).await? {
            Tried::Done(message) => {
                self.timer.expect(message.send_time, now);
                Ok(message)
            }
            Tried::Final(message) => Err(already_final(message)),
            Tried::BeingSent => Err(Error::BeingSent { id, wait: ASK_AGAIN }),
        }
    }

    /// Takes one back, or says what else became of it. Never both: it is cancelled only where nobody can have sent it.
    pub async fn cancel(&self, author: UserId, id: ScheduledMessageId) -> Result<ScheduledMessage, Error> {
        match settled(|| self.store.cancel(author, id)).await? {
            Tried::Done(message) => {
                tracing::info!(scheduled_message.id = %id, user.id = %author, "cancelled scheduled message {id}");
                Ok(message)
            }
            Tried::Final(message) if message.state == State::Cancelled => Ok(message),
            Tried::Final(message) => Err(already_final(message)),
            Tried::BeingSent => Err(Error::BeingSent { id, wait: ASK_AGAIN }),
        }
    }

    /// Sends one that is pending at once, ahead of its time and of everything that is in line.
    pub async fn send_now(&self, author: UserId, id: ScheduledMessageId) -> Result<ScheduledMessage, Error> {
        let lease = self.timer.timing().lease;
        let message = match settled(|| self.store.begin(author, id, lease)).await? {
            Begun::Claimed(claim) => {
                let scheduling = self.clone();
                // To the end, also when the caller goes away: the claim would be held in vain.
                let fired = self.timer.do_now(async move { scheduling.fire(&claim).await }).await;
                match fired.ok_or(Error::Lost)?? {
                    Fired::Final(message) => message,
                    Fired::Later(wait) => return Err(Error::BeingSent { id, wait: wait.max(ASK_AGAIN) }),
                    Fired::Lost => return Err(Error::BeingSent { id, wait: ASK_AGAIN }),
                }
            }
            Begun::Final(message) => message,
            Begun::BeingSent => return Err(Error::BeingSent { id, wait: ASK_AGAIN }),
        };
        match message.state {
            State::Sent(_) => Ok(message),
            State::Pending | State::Cancelled | State::Failed(_) => Err(already_final(message)),
        }
    }

    fn too_far_ahead(&self, field: &'static str) -> Error {
        Error::TooFarAhead { field, days: self.bounds.horizon_days }
    }
}

fn already_final(message: ScheduledMessage) -> Error {
    Error::AlreadyFinal { id: message.id, state: message.state }
}

/// Something that cannot be done while the message is being sent.
trait Outcome {
    fn is_open(&self) -> bool;
}

impl Outcome for Tried {
    fn is_open(&self) -> bool {
        matches!(self, Self::BeingSent)
    }
}

impl Outcome for Begun {
    fn is_open(&self) -> bool {
        matches!(self, Self::BeingSent)
    }
}

/// Tries until the message is not being sent any more, or patience ends.
async fn settled<T, F, Fut>(attempt: F) -> Result<T, Error>
where
    T: Outcome,
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        let outcome = attempt().await?;
        if !outcome.is_open() || Instant::now() >= end {
            return Ok(outcome);
        }
        sleep(LOOK).await;
    }
}
