//! What happens elsewhere and has an effect here: a deleted account sends nothing any more, and two of whom one blocks the
//! other have no calls with each other.

use chassis::events::Events;
use chassis::feed;
use chassis::tasks::Tasks;

use crate::error::Error;
use crate::scheduling::Scheduling;
use crate::store::Applied;

/// Follows auth's facts for as long as the service runs.
pub fn follow_users(scheduling: Scheduling, events: Events, tasks: &Tasks) {
    tasks.spawn("follow-users", |shutdown| async move {
        let step = || async { Ok(scheduling.follow_users().await?) };
        feed::follow("users", &events, proto::subject::AUTH_FACTS, feed::POLL, shutdown, step).await;
    });
}

/// Follows conversation's facts for as long as the service runs.
pub fn follow_blocks(scheduling: Scheduling, events: Events, tasks: &Tasks) {
    tasks.spawn("follow-blocks", |shutdown| async move {
        let step = || async { Ok(scheduling.follow_blocks().await?) };
        let subject = proto::subject::CONVERSATION_FACTS;
        feed::follow("blocks", &events, subject, feed::POLL, shutdown, step).await;
    });
}

impl Scheduling {
    /// Applies some of the facts of auth that have not been applied. Says whether there may be more.
    ///
    /// The cursor moves in the transaction of the effect, so that each fact takes effect once, however often this is
    /// repeated and whichever replica does it.
    pub async fn follow_users(&self) -> Result<bool, Error> {
        let mut cursor = self.store.cursor().await?;
        let happenings = self.users.happenings(cursor).await?;
        let more = !happenings.is_empty();
        for happening in happenings {
            // Before the cursor moves: should this process end in between, it is done again, which changes nothing.
            if let Some(user) = happening.deleted {
                self.calls.forget(user).await?;
            }
            let now = self.store.now().await?;
            match self.store.apply(cursor, happening, now).await? {
                // Another replica is at it: look where it stands.
                Applied::Overtaken => return Ok(true),
                Applied::Nothing => {}
                Applied::Ended { user_id, cancelled } => {
                    tracing::info!(user.id = %user_id, "cancelled {cancelled} scheduled messages of deleted user {user_id}");
                }
            }
            cursor = happening.position;
        }
        Ok(more)
    }
    /// Applies some of the facts of conversation that have not been applied. Says whether there may be more. As with users,
    /// the cursor moves in the transaction of the effect.
    pub async fn follow_blocks(&self) -> Result<bool, Error> {
        let mut cursor = self.store.blocks_cursor().await?;
        let happenings = self.conversations.happenings(cursor).await?;
        let more = !happenings.is_empty();
        for happening in happenings {
            match self.calls.part(cursor, happening).await? {
                // Another replica is at it: look where it stands.
                None => return Ok(true),
                Some(0) => {}
                Some(cancelled) => {
                    tracing::info!("cancelled {cancelled} schedules of two of whom one blocks the other")
                }
            }
            cursor = happening.position;
        }
        Ok(more)
    }
}
