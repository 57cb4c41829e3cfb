//! Beginning a call, or finding out that there is one.

use proto::id::{CallId, ConversationId, UserId};

use super::Calls;
use super::error::CallError;
use super::machine::{Acted, Call, Device, Media, Pair};
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
    /// The caller's side knows that the person has no device online.
    pub callee_offline: bool,
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
        if let Some(pair) = self.meeting(from, &request).await? {
            let start = self.wish(pair, &request, true);
            if let Some(begun) = self.settle(&start).await? {
                return Ok(begun);
            }
        }
        let start = self.wish(self.pair(from, &request).await?, &request, false);
        self.messaging.check_call(start.id, &start.pair).await?;
        self.settle(&start).await?.ok_or(Error::Lost)
    }

    fn wish(&self, pair: Pair, request: &Request, only_meet: bool) -> Start {
        let (id, retry) = (CallId::generate(), request.retry);
        let callee_offline = request.callee_offline;
        Start { id, pair, callee_offline, retry, per_minute: self.per_minute, only_meet }
    }

    /// Has the store decide, and tells those whom it concerns. `None` when there was nothing to meet.
    async fn settle(&self, start: &Start) -> Result<Option<Begun>, Error> {
        let Settled { outcome, overdue, now } = self.store.start_call(start, &self.spans).await?;
        for call in overdue {
            self.tell_of(&Changed { call, acted: Acted { changed: true, refusal: None }, now });
        }
        match outcome {
            Started::Call { call, met, changed } => {
                let acted = Acted { changed, refusal: None };
                let told = Changed { call: *call, acted, now };
                self.tell_of(&told);
                let call = told.call;
                if changed {
                    let (id, conversation, user) = (call.id, call.conversation, start.pair.from.user);
                    tracing::info!(
                        call.id = %id, conversation.id = %conversation, user.id = %user, met, "call {id}"
                    );
                }
                Ok(Some(Begun { call, met }))
            }
            Started::NotMet => Ok(None),
            Started::InCall(id) => Err(CallError::AlreadyInCall(id).into()),
            Started::TooMany(wait) => Err(CallError::TooMany { what: "calls", wait }.into()),
            Started::Gone(user) => Err(CallError::UserNotFound(user).into()),
        }
    }

    /// The call of the one whom the caller wants to call, seen from the caller's side. To answer needs no permission, and
    /// none is asked for.
    async fn meeting(&self, from: Device, request: &Request) -> Result<Option<Pair>, Error> {
        let Some(call) = self.store.live_call(from.user).await? else { return Ok(None) };
        let is_meant = match request.target {
            Target::Person(user) => call.caller.user == user,
            Target::Conversation(id) => call.conversation == id,
        };
        let pair = Pair { from, to: call.caller.user, conversation: call.conversation, media: request.media };
        Ok(Some(pair).filter(|_| is_meant && call.callee == from.user))
    }

    /// Whom it is about, and where.
    async fn pair(&self, from: Device, request: &Request) -> Result<Pair, Error> {
        let (to, conversation) = match request.target {
            Target::Person(user) => {
                let found = self.conversations.direct(from.user, user).await;
                (user, found.map_err(|denial| CallError::denied(denial, CallError::UserNotFound(user)))?)
            }
            Target::Conversation(id) => {
                let found = self.conversations.peer(from.user, id).await;
                (found.map_err(|denial| CallError::denied(denial, Error::ConversationNotFound(id)))?, id)
            }
        };
        Ok(Pair { from, to, conversation, media: request.media })
    }
}
