//! What the others tell us. Each fact of conversation becomes an event of its conversation's log, and of the logs of the
//! users whom it brings in or puts out; what becomes of a request is an alert. What auth tells of people becomes alerts,
//! an event of the user's own log and a signal in the user's conversations, or is the beginning of the end of all that
//! somebody left.

use std::cmp::Reverse;
use std::sync::Arc;

use chassis::clock::Clock;
use chassis::database::facts::Claim;
use chassis::facts::{Effect, Feed, Refusal};
use prost::Message;
use proto::auth::v1::UserFact;
use proto::conversation::v1::ConversationFact;
use proto::conversation::v1::conversation_fact::Payload;
use proto::id::UserId;
use proto::messaging::v1::{Signal, SignalKind};
use proto::subject;
use tokio::sync::Notify;

use crate::conversations::Conversations;
use crate::error::Error;
use crate::event::{Fact, UserHappening};
use crate::people::PersonFact;
use crate::publish::Publisher;
use crate::request::RequestChange;
use crate::store::{Failure, Store};

/// The facts of conversation.
pub const CONVERSATIONS: Feed = Feed {
    name: "conversation",
    task: "conversation-facts",
    subject: subject::CONVERSATION_FACTS,
    page: 200,
};

/// The facts of auth.
pub const PEOPLE: Feed = Feed { name: "auth", task: "auth-facts", subject: subject::AUTH_FACTS, page: 200 };

/// In how many of a user's conversations the others hear of a changed profile.
const ANNOUNCED: usize = 1000;

/// Turns the facts of conversation into events.
#[derive(Clone)]
pub struct ConversationFacts {
    /// Where the logs are.
    pub store: Store,
    /// Tells the others.
    pub publisher: Publisher,
}

/// What conversation tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// Of a conversation.
    Conversation(Fact),
    /// Of a request of one person to another.
    Request(RequestChange),
}

impl Effect for ConversationFacts {
    type Fact = Told;

    const BATCH: usize = 200;

    fn read(&self, fact: &[u8]) -> anyhow::Result<Option<Told>> {
        let fact = ConversationFact::decode(fact)?;
        match fact.payload {
            // Who may write is asked anew with each message: that one person blocks another needs nothing here.
            Some(Payload::ContactBlocked(_)) => Ok(None),
            Some(Payload::RequestChanged(_)) => Ok(Some(Told::Request(fact.try_into()?))),
            Some(_) => Ok(Some(Told::Conversation(fact.try_into()?))),
            None => anyhow::bail!("a fact that this version does not know"),
        }
    }

    /// Each makes an event, an alert or both.
    fn is_repeatable(_: &Told) -> bool {
        false
    }

    async fn apply(&self, claim: &Claim, told: Vec<Told>) -> Result<bool, Refusal> {
        let (mut facts, mut requests) = (Vec::with_capacity(told.len()), Vec::new());
        for one in told {
            match one {
                Told::Conversation(fact) => facts.push(fact),
                Told::Request(request) => requests.push(request),
            }
        }
        match self.store.apply(claim, &facts, &requests).await.map_err(refusal)? {
            Some(applied) => self.publisher.applied(applied),
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// Acts on the facts of auth.
#[derive(Clone)]
pub struct UserFacts {
    /// Where alerts are, and what goes with an account.
    pub store: Store,
    /// Say where a user is a member.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// Wakes the task that erases what an account leaves.
    pub wake: Arc<Notify>,
}

impl Effect for UserFacts {
    type Fact = PersonFact;

    const BATCH: usize = 200;

    fn read(&self, fact: &[u8]) -> anyhow::Result<Option<PersonFact>> {
        Ok(Some(UserFact::decode(fact)?.try_into()?))
    }

    /// Whose account is gone stays gone. The others make events and alerts.
    fn is_repeatable(fact: &PersonFact) -> bool {
        matches!(fact, PersonFact::Gone(_))
    }

    async fn apply(&self, claim: &Claim, facts: Vec<PersonFact>) -> Result<bool, Refusal> {
        let applied = self.store.apply_to_people(claim, &facts, self.clock.now()).await.map_err(refusal)?;
        self.wake.notify_one();
        let Some(events) = applied else { return Ok(false) };
        let mut updated = Vec::new();
        for event in events {
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
}

/// Whether it is the facts that cannot be applied, or the database that is busy or away.
fn refusal(failure: Failure) -> Refusal {
    if failure.is_permanent() {
        Refusal::Permanent(failure.into())
    } else {
        Refusal::Transient(failure.into())
    }
}

impl UserFacts {
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
