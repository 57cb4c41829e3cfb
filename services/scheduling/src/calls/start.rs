//! Beginning a call, or finding out that there is one.

use proto::id::{CallId, ConversationId, UserId};

use super::Calls;
use super::error::CallError;
use super::machine::{Act, Acted, Call, Device, Media, Pair, Stage};
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::store::calling::{Changed, Settled, Start, Started};

/// Whom somebody wants to call.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who it is.
    pub target: Target,
    /// What is to go over it.
    pub media: Media,
    /// What a retry is known by.
    pub retry: Option<Retry>,
}

/// Who somebody wants to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This person.
    Person(UserId),
    /// The other one in this conversation.
    Conversation(ConversationId),
}

/// A call that was begun or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// As it is now.
    pub call: Call,
    /// Whether the other had called.
    pub met: bool,
}

impl Calls {
    /// Calls somebody. Whether the caller may is judged by messaging: whoever may write to the other may call.
    pub async fn begin(&self, from: Device, request: Request) -> Result<Begun, Error> {
        if request.target == Target::Person(from.user) {
            return Err(Error::Field { field: "user_id", rule: "must be somebody else" });
        }
        // Before anything else: what was begun is begun, whatever has changed since.
        if let Some((call, met)) = self.store.find_call(from.user, request.retry.as_ref()).await? {
            return Ok(Begun { call: call.at(self.store.now().await?), met });
        }
        if let Some(call) = self.meet(from, &request).await? {
            return Ok(Begun { call, met: true });
        }
        let id = CallId::generate();
        let pair = self.pair(from, id, &request).await?;
        let start = Start { id, pair, retry: request.retry, per_minute: self.per_minute };
        let Settled { outcome, overdue, now } = self.store.start_call(&start, &self.spans).await?;
        let changed = Acted { changed: true, refusal: None };
        for call in overdue {
            self.tell_of(&Changed { call, acted: changed, now });
        }
        match outcome {
            Started::Call { call, met, changed } => {
                let acted = Acted { changed, refusal: None };
                self.tell_of(&Changed { call: call.clone(), acted, now });
                if changed {
                    let (id, conversation) = (call.id, call.conversation);
                    tracing::info!(
                        call.id = %id, conversation.id = %conversation, user.id = %from.user, met, "call {id}"
                    );
                }
                Ok(Begun { call, met })
            }
            Started::InCall(id) => Err(CallError::AlreadyInCall(id).into()),
            Started::TooMany(wait) => Err(CallError::TooMany { what: "calls", wait }.into()),
            Started::Gone(user) => Err(CallError::UserNotFound(user).into()),
        }
    }

    /// Accepts the call of the one whom the caller wants to call, when it rings. To answer needs no permission, and none
    /// is asked for. A wish with a request id goes the long way, where the id is remembered.
    async fn meet(&self, from: Device, request: &Request) -> Result<Option<Call>, Error> {
        let Some(call) = self.store.live_call(from.user).await? else { return Ok(None) };
        let is_meant = match request.target {
            Target::Person(user) => call.caller.user == user,
            Target::Conversation(id) => call.conversation == id,
        };
        let rings = call.stage == Stage::Ringing && call.callee == from.user;
        if !rings || !is_meant || request.retry.is_some() {
            return Ok(None);
        }
        match self.act(call.id, Act::Accept(from)).await {
            Ok(call) => Ok(Some(call)),
            // It was over, or another device was faster: then this is a wish like any other.
            Err(Error::Call(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds out whom it is about, and whether the caller may call there.
    async fn pair(&self, from: Device, id: CallId, request: &Request) -> Result<Pair, Error> {
        let (to, conversation) = match request.target {
            Target::Person(user) => (user, self.conversations.direct(from.user, user).await?),
            Target::Conversation(id) => (self.conversations.peer(from.user, id).await?, id),
        };
        let pair = Pair { from, to, conversation, media: request.media };
        self.messaging.check_call(id, &pair).await?;
        Ok(pair)
    }
}
