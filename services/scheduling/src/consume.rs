//! What happens elsewhere and has an effect here: a deleted account sends nothing any more, and two of whom one blocks the
//! other have no calls with each other.

use chassis::database::facts::Claim;
use chassis::database::is_refusal_of_data;
use chassis::facts::{Effect, Feed, Refusal};
use prost::Message;
use proto::auth::v1 as auth;
use proto::auth::v1::user_fact::Payload as UserPayload;
use proto::conversation::v1 as conversation;
use proto::conversation::v1::conversation_fact::Payload as ConversationPayload;
use proto::id::UserId;

use crate::conversations::Block;
use crate::error::Error;
use crate::scheduling::Scheduling;
use crate::store::{Applied, Failure};

/// The facts of auth.
pub const USERS: Feed = Feed { name: "auth", task: "users", subject: proto::subject::AUTH_FACTS, page: 100 };

/// The facts of conversation.
pub const BLOCKS: Feed =
    Feed { name: "conversation", task: "blocks", subject: proto::subject::CONVERSATION_FACTS, page: 200 };

/// What the facts of auth do here.
pub struct UserFacts(pub Scheduling);

/// What the facts of conversation do here.
pub struct BlockFacts(pub Scheduling);

/// An account that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted(pub UserId);

impl Effect for UserFacts {
    type Fact = Deleted;

    const BATCH: usize = 1;

    fn read(&self, fact: &[u8]) -> anyhow::Result<Option<Deleted>> {
        let fact = auth::UserFact::decode(fact)?;
        match fact.payload {
            Some(UserPayload::UserDeleted(auth::UserDeleted {})) => {
                let user = UserId::parse(&fact.user_id);
                Ok(Some(Deleted(user.map_err(|_| anyhow::anyhow!("a fact about nobody"))?)))
            }
            // Names and reviews do not concern us.
            Some(UserPayload::UserUpdated(_) | UserPayload::ReviewChanged(_)) => Ok(None),
            None => anyhow::bail!("a fact that this version does not know"),
        }
    }

    fn is_repeatable(_: &Deleted) -> bool {
        true
    }

    async fn apply(&self, claim: &Claim, facts: Vec<Deleted>) -> Result<bool, Refusal> {
        for Deleted(user) in facts {
            if !self.0.end_user(user, claim).await.map_err(refusal)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Effect for BlockFacts {
    type Fact = Block;

    const BATCH: usize = 1;

    fn read(&self, fact: &[u8]) -> anyhow::Result<Option<Block>> {
        let fact = conversation::ConversationFact::decode(fact)?;
        match fact.payload {
            Some(ConversationPayload::ContactBlocked(block)) => {
                let user = |id| UserId::parse(id).map_err(|_| anyhow::anyhow!("a block between nobody"));
                let (blocker, blocked) = (user(&block.blocker_user_id)?, user(&block.blocked_user_id)?);
                Ok(Some(Block { blocker, blocked }))
            }
            // What happens to conversations does not concern us.
            Some(_) => Ok(None),
            None => anyhow::bail!("a fact that this version does not know"),
        }
    }

    /// The two may have made up since, and have calls and bookings again.
    fn is_repeatable(_: &Block) -> bool {
        false
    }

    async fn apply(&self, claim: &Claim, facts: Vec<Block>) -> Result<bool, Refusal> {
        for block in facts {
            match self.0.calls.part(claim, block).await.map_err(refusal)? {
                None => return Ok(false),
                Some(0) => {}
                Some(cancelled) => {
                    tracing::info!("cancelled {cancelled} schedules of two of whom one blocks the other")
                }
            }
        }
        Ok(true)
    }
}

/// Whether it is the fact that cannot be applied, or something that is busy or away.
fn refusal(error: Error) -> Refusal {
    match &error {
        Error::Neighbour { .. } | Error::Store(Failure::Transient(_)) => Refusal::Transient(error.into()),
        Error::Store(Failure::Permanent(cause)) if !is_refusal_of_data(cause) => {
            Refusal::Transient(error.into())
        }
        _ => Refusal::Permanent(error.into()),
    }
}

impl Scheduling {
    /// Ends what a user whose account is gone has scheduled. `false` when another replica has.
    async fn end_user(&self, user: UserId, claim: &Claim) -> Result<bool, Error> {
        // Before the fact is claimed: should this process end in between, it is done again, which changes nothing.
        self.calls.forget(user).await?;
        let now = self.store.now().await?;
        match self.store.apply(claim, user, now).await? {
            Applied::Overtaken => return Ok(false),
            Applied::Ended { cancelled } => {
                tracing::info!(user.id = %user, "cancelled {cancelled} scheduled messages of deleted user {user}");
            }
        }
        Ok(true)
    }
}
