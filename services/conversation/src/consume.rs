//! What happens elsewhere and has an effect here: a deleted account is a member nowhere, and nobody's
//! contact.

use chassis::database::facts::Claim;
use chassis::database::is_refusal_of_data;
use chassis::facts::{Effect, Feed, Refusal};
use prost::Message;
use proto::auth::v1 as pb;
use proto::auth::v1::user_fact::Payload;
use proto::id::UserId;

use crate::conversations::Conversations;
use crate::error::Error;
use crate::store::{Ending, Failure};

/// The facts of auth.
pub const USERS: Feed = Feed { name: "auth", task: "users", subject: proto::subject::AUTH_FACTS, page: 100 };

/// What the facts of auth do here.
pub struct UserFacts(pub Conversations);

/// An account that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted(pub UserId);

impl Effect for UserFacts {
    type Fact = Deleted;

    /// The end of one account can be several transactions.
    const BATCH: usize = 1;

    fn read(&self, fact: &[u8]) -> anyhow::Result<Option<Deleted>> {
        let fact = pb::UserFact::decode(fact)?;
        match fact.payload {
            Some(Payload::UserDeleted(pb::UserDeleted {})) => {
                let user = UserId::parse(&fact.user_id);
                Ok(Some(Deleted(user.map_err(|_| anyhow::anyhow!("a fact about nobody"))?)))
            }
            // Names and reviews do not concern us.
            Some(Payload::UserUpdated(_) | Payload::ReviewChanged(_)) => Ok(None),
            None => anyhow::bail!("a fact that this version does not know"),
        }
    }

    fn is_repeatable(_: &Deleted) -> bool {
        true
    }

    async fn apply(&self, claim: &Claim, facts: Vec<Deleted>) -> Result<bool, Refusal> {
        for Deleted(user_id) in facts {
            if !self.0.end_account(user_id, claim).await.map_err(refusal)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether it is the fact that cannot be applied, or the database that is busy or away.
fn refusal(error: Error) -> Refusal {
    match &error {
        Error::Auth(_) | Error::Contended | Error::Store(Failure::Transient(_)) => {
            Refusal::Transient(error.into())
        }
        Error::Store(Failure::Permanent(cause)) if !is_refusal_of_data(cause) => {
            Refusal::Transient(error.into())
        }
        _ => Refusal::Permanent(error.into()),
    }
}

impl Conversations {
    /// Ends all contacts and memberships of a user. `false` when another replica has.
    async fn end_account(&self, user_id: UserId, claim: &Claim) -> Result<bool, Error> {
        // Each of these can be repeated, and is, until the fact is claimed with the last of the memberships.
        self.store.close_person(user_id, self.clock.now()).await?;
        while self.store.end_contacts(user_id, self.clock.now()).await? {
            self.announce();
        }
        loop {
            let ending = self.store.end_account(user_id, claim, self.clock.now()).await?;
            self.announce();
            match ending {
                Ending::Partial => {}
                Ending::Complete => {
                    tracing::info!(user.id = %user_id, "ended the memberships of deleted user {user_id}");
                    return Ok(true);
                }
                Ending::Overtaken => return Ok(false),
            }
        }
    }
}
