//! What the others tell us. Each fact of conversation becomes an event of its conversation's log, and of the logs of the
//! users whom it brings in or puts out; what becomes of a request is an alert. What auth tells of people becomes alerts,
//! an event of the user's own log and a signal in the user's conversations, or is the beginning of the end of all that
//! somebody left.

use std::cmp::Reverse;
use std::sync::Arc;

use chassis::clock::Clock;
use chassis::events::Events;
use chassis::feed;
use chassis::tasks::Tasks;
use proto::id::UserId;
use proto::messaging::v1::{Signal, SignalKind};
use proto::subject;
use tokio::sync::Notify;

use crate::conversations::Conversations;
use crate::error::Error;
use crate::event::UserHappening;
use crate::people::People;
use crate::publish::Publisher;
use crate::store::Store;

/// How many facts are taken at once.
const PAGE: i32 = 200;

/// In how many of a user's conversations the others hear of a changed profile.
const ANNOUNCED: usize = 1000;

/// Turns the facts of conversation into events.
#[derive(Clone)]
pub struct Consumer {
    /// Where the logs are.
    pub store: Store,
    /// Who tells us.
    pub conversations: Conversations,
    /// Tells the others.
    pub publisher: Publisher,
}

impl Consumer {
    /// Follows the facts until the service stops.
    pub fn start(self, events: &Events, tasks: &Tasks) {
        let (consumer, events) = (Arc::new(self), events.clone());
        tasks.spawn("conversation-facts", |shutdown| async move {
            let step = || {
                let consumer = Arc::clone(&consumer);
                async move { consumer.step().await }
            };
            feed::follow(
                "conversation-facts",
                &events,
                subject::CONVERSATION_FACTS,
                feed::POLL,
                shutdown,
                step,
            )
            .await;
        });
    }

    /// Applies the next facts; says whether more may be there.
    pub async fn step(&self) -> anyhow::Result<bool> {
        let from = self.store.facts_cursor().await?;
        let facts = self.conversations.facts(from, PAGE).await?;
        let Some(to) = facts.last_position else { return Ok(false) };
        // Another replica may have been faster: then there may be more all the same.
        if let Some(applied) = self.store.apply(from, to, &facts.readable, &facts.requests).await? {
            self.publisher.applied(applied);
        }
        Ok(true)
    }
}

/// Acts on the facts of auth.
#[derive(Clone)]
pub struct PeopleConsumer {
    /// Where alerts are, and what goes with an account.
    pub store: Store,
    /// Who tells us.
    pub people: People,
    /// Say where a user is a member.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// Wakes whoever erases what an account leaves.
    pub wake: Arc<Notify>,
}

impl PeopleConsumer {
    /// Follows the facts until the service stops.
    pub fn start(self, events: &Events, tasks: &Tasks) {
        let (consumer, events) = (Arc::new(self), events.clone());
        tasks.spawn("auth-facts", |shutdown| async move {
            let step = || {
                let consumer = Arc::clone(&consumer);
                async move { consumer.step().await }
            };
            feed::follow("auth-facts", &events, subject::AUTH_FACTS, feed::POLL, shutdown, step).await;
        });
    }

    /// Applies the next facts; says whether more may be there.
    pub async fn step(&self) -> anyhow::Result<bool> {
        let from = self.store.person_facts_cursor().await?;
        let facts = self.people.facts(from, PAGE).await?;
        let Some(to) = facts.last_position else { return Ok(false) };
        let applied = self.store.apply_to_people(from, to, &facts.readable, self.clock.now()).await?;
        self.wake.notify_one();
        let mut updated = Vec::new();
        for event in applied.into_iter().flatten() {
            if event.what == UserHappening::ProfileChanged {
                updated.push(event.user);
            }
            self.publisher.user_event(event);
        }
        for user in updated {
            // A signal may be lost: it must not hold up the facts that come after it.
            if let Err(error) = self.announce(user).await {
                tracing::warn!(user.id = %user, "the conversations of a user do not hear of the changed profile: {error}");
            }
        }
        Ok(true)
    }

    /// Tells the others in a user's conversations that the profile changed.
    async fn announce(&self, user: UserId) -> Result<(), Error> {
        let memberships = self.conversations.memberships(user).await?;
        let mut ids: Vec<_> = memberships.ids().collect();
        if ids.len() > ANNOUNCED {
            let places = self.store.places(user, &ids).await?;
            ids.sort_by_key(|id| Reverse(places.get(id).map(|place| place.activity_time)));
            ids.truncate(ANNOUNCED);
        }
        let questions: Vec<_> = ids.iter().map(|id| (*id, user)).collect();
        let answers = self.conversations.check(&questions).await?;
        for (id, access) in ids.into_iter().zip(answers) {
            // Like other signals it does not reach one who has not been asked yet, has not answered, or is blocked.
            if access.is_member && !access.hides_progress() && access.check_contact(id).is_ok() {
                let signal = Signal {
                    conversation_id: id.to_string(),
                    user_id: user.to_string(),
                    kind: SignalKind::ProfileChanged.into(),
                };
                self.publisher.signal(id, signal);
            }
        }
        Ok(())
    }
}
