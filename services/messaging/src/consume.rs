//! What the others tell us. Each fact of conversation becomes an event of its conversation's log, and of the logs of the
//! users whom it brings in or puts out; what becomes of a request is an alert. What auth tells of people becomes alerts, or
//! is the beginning of the end of all that somebody left.

use std::sync::Arc;

use chassis::clock::Clock;
use chassis::events::Events;
use chassis::feed;
use chassis::tasks::Tasks;
use proto::subject;
use tokio::sync::Notify;

use crate::conversations::Conversations;
use crate::people::People;
use crate::publish::Publisher;
use crate::store::Store;

/// How many facts are taken at once.
const PAGE: i32 = 200;

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
        applied.into_iter().flatten().for_each(|event| self.publisher.user_event(event));
        self.wake.notify_one();
        Ok(true)
    }
}
