//! Who got to know whom, as auth has to know it: only those who know each other review each other, and only while neither
//! blocks the other.
//!
//! What has to be told is written in the transaction in which two are connected or no longer are, and in which a block
//! between them begins or the last one ends. This task tells it until auth has taken note; the version makes telling it
//! twice the same as once.

use std::time::Duration;

use chassis::events::Events;
use chassis::feed;
use chassis::tasks::Tasks;
use tonic::Code;

use crate::conversation::Pair;
use crate::conversations::Conversations;
use crate::error::Error;

/// As many are told in one step.
const BATCH: i64 = 100;

/// How long to wait before auth is told again what it would not take.
const AGAIN: Duration = Duration::from_secs(60);

/// That there is something between two people, or no longer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquaintance {
    /// The two.
    pub pair: Pair,
    /// What it is.
    pub kind: Kind,
    /// The version of what is between them: goes up with every change.
    pub version: i64,
    /// Whether it is so no longer.
    pub has_ended: bool,
}

/// What there is between two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They are connected.
    Connection,
    /// One of them blocks the other, or each the other. Auth is not told who.
    Block,
}

/// Tells auth what it has to know for as long as the service runs.
pub fn tell(conversations: Conversations, events: Events, tasks: &Tasks) {
    tasks.spawn("tell-acquaintances", |shutdown| async move {
        let step = || async { Ok(conversations.tell_acquaintances().await?) };
        // Our own hint: it comes with every change.
        feed::follow(
            "acquaintances",
            &events,
            proto::subject::CONVERSATION_FACTS,
            feed::POLL,
            shutdown,
            step,
        )
        .await;
    });
}

impl Conversations {
    /// Tells auth some of what it does not know. Says whether there may be more.
    ///
    /// # Errors
    /// When auth cannot be reached: then the same is told again, before anything else.
    async fn tell_acquaintances(&self) -> Result<bool, Error> {
        let due = self.store.due_acquaintances(self.clock.now(), BATCH).await?;
        let more = i64::try_from(due.len()).is_ok_and(|count| count == BATCH);
        for acquaintance in due {
            match self.users.record_acquaintance(&acquaintance).await {
                Ok(()) => self.store.acquaintance_told(&acquaintance).await?,
                Err(Error::Auth(status)) if is_about_this_one(status.code()) => {
                    // One that auth will not take holds up none of the others.
                    tracing::error!(code = ?status.code(), "auth refuses to note what is between two users");
                    self.store.put_off_acquaintance(&acquaintance, self.clock.now().plus(AGAIN)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(more)
    }
}

/// Whether a refusal is about what was told, rather than about the way to auth.
fn is_about_this_one(code: Code) -> bool {
    !matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
    )
}
