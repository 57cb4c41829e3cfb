//! What conversation tells us: each fact becomes an event of its conversation's log, and of the logs of the users whom it
//! brings in or puts out.

use std::sync::Arc;

use chassis::events::Events;
use chassis::feed;
use chassis::tasks::Tasks;
use proto::subject;

use crate::conversations::Conversations;
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
        if let Some(applied) = self.store.apply(from, to, &facts.readable).await? {
            self.publisher.applied(applied);
        }
        Ok(true)
    }
}
