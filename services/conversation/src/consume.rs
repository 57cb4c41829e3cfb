//! What happens elsewhere and has an effect here: a deleted account is a member nowhere, and nobody's
//! contact.

use chassis::events::Events;
use chassis::feed;
use chassis::tasks::Tasks;

use crate::conversations::Conversations;
use crate::error::Error;
use crate::store::{EndedAccount, Ending};

/// Follows auth's facts for as long as the service runs.
pub fn follow_users(conversations: Conversations, events: Events, tasks: &Tasks) {
    tasks.spawn("follow-users", |shutdown| async move {
        let step = || async { Ok(conversations.follow_users().await?) };
        feed::follow("users", &events, proto::subject::AUTH_FACTS, feed::POLL, shutdown, step).await;
    });
}

impl Conversations {
    /// Applies some of the facts of auth that have not been applied. Says whether there may be more.
    ///
    /// The cursor moves in the transaction of the effect, so that each fact takes effect once, however often this is
    /// repeated and whichever replica does it.
    pub async fn follow_users(&self) -> Result<bool, Error> {
        let mut cursor = self.store.cursor().await?;
        let happenings = self.users.happenings(cursor).await?;
        let more = !happenings.is_empty();
        for happening in happenings {
            let moved = match happening.deleted {
                Some(user_id) => {
                    self.end_account(EndedAccount { user_id, from: cursor, to: happening.position }).await?
                }
                None => self.store.pass_over(cursor, happening.position).await?,
            };
            if !moved {
                // Another replica is at it: look where it stands.
                return Ok(true);
            }
            cursor = happening.position;
        }
        Ok(more)
    }

    /// Ends all contacts and memberships of a user. `false` when another replica has.
    async fn end_account(&self, ended: EndedAccount) -> Result<bool, Error> {
        // Each of these can be repeated, and is, until the cursor has moved with the last of the memberships.
        self.store.close_person(ended.user_id, self.clock.now()).await?;
        while self.store.end_contacts(ended.user_id, self.clock.now()).await? {
            self.announce();
        }
        loop {
            let ending = self.store.end_account(ended, self.clock.now()).await?;
            self.announce();
            match ending {
                Ending::Partial => {}
                Ending::Complete => {
                    tracing::info!(user.id = %ended.user_id, "ended the memberships of deleted user {}", ended.user_id);
                    return Ok(true);
                }
                Ending::Overtaken => return Ok(false),
            }
        }
    }
}
