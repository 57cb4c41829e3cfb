//! The 18 operations, the same over HTTP and as events.

mod change;
mod conversation;
mod mark;
mod send;

use chassis::fault::Fault;
use futures_util::FutureExt;
use http::StatusCode;
use proto::conversation::v1::{Conversation, JoinConversationRequest};
use proto::id::{ConversationId, MessageId};
use serde_json::Value;

use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::{Dialects, ids};
use crate::http::error::Problem;

/// An operation. The word is its event and the last segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    JoinConversation,
    CreateConversation,
    SendMessage,
    SendSecureMessage,
    ReportMessage,
    EditMessage,
    DeleteMessage,
    ForwardMessage,
    MessageRead,
    PinMessage,
    ReactionMessage,
    ScheduleMessage,
    UnsendMessage,
    SendEphemeralMessage,
    SendVoiceMessage,
    SendSticker,
    CreatePoll,
    VotePoll,
}

impl Operation {
    const ALL: [(&'static str, Self); 18] = [
        ("joinConversation", Self::JoinConversation),
        ("createConversation", Self::CreateConversation),
        ("sendMessage", Self::SendMessage),
        ("sendSecureMessage", Self::SendSecureMessage),
        ("reportMessage", Self::ReportMessage),
        ("editMessage", Self::EditMessage),
        ("deleteMessage", Self::DeleteMessage),
        ("forwardMessage", Self::ForwardMessage),
        ("messageRead", Self::MessageRead),
        ("pinMessage", Self::PinMessage),
        ("reactionMessage", Self::ReactionMessage),
        ("scheduleMessage", Self::ScheduleMessage),
        ("unsendMessage", Self::UnsendMessage),
        ("sendEphemeralMessage", Self::SendEphemeralMessage),
        ("sendVoiceMessage", Self::SendVoiceMessage),
        ("sendSticker", Self::SendSticker),
        ("createPoll", Self::CreatePoll),
        ("votePoll", Self::VotePoll),
    ];

    /// Returns the operation of an event.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, operation)| *operation)
    }

    /// Returns the operation of a path, in any letter case.
    pub(super) fn of_path(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, operation)| *operation)
    }

    /// True when it creates something.
    pub(super) fn creates(self) -> bool {
        self.sends() || matches!(self, Self::CreateConversation | Self::ScheduleMessage | Self::ReportMessage)
    }

    /// True when it sends a message at once.
    pub(super) fn sends(self) -> bool {
        matches!(
            self,
            Self::SendMessage
                | Self::SendSecureMessage
                | Self::SendEphemeralMessage
                | Self::SendVoiceMessage
                | Self::SendSticker
                | Self::CreatePoll
                | Self::ForwardMessage
        )
    }

    /// Returns the field that names the acting user, and the name, if the request has it.
    pub(super) fn names_actor(self, fields: &Fields) -> Result<Option<(&'static str, String)>, Fault> {
        if let Some(name) = fields.filled("userID")? {
            return Ok(Some(("userID", name)));
        }
        if self != Self::CreateConversation {
            return Ok(None);
        }
        if let Some(name) = fields.filled("owner")? {
            return Ok(Some(("owner", name)));
        }
        let first = fields.texts("participants")?.into_iter().next();
        Ok(first.map(|name| ("participants", name)))
    }
}

/// The result of an operation.
pub(super) struct Done {
    /// The answer over HTTP and to an event that waits for one.
    pub(super) answer: Value,
    /// The conversation that a connection follows from now on.
    pub(super) follow: Option<Conversation>,
}

impl From<Value> for Done {
    fn from(answer: Value) -> Self {
        Self { answer, follow: None }
    }
}

/// Executes an operation. An external account joins an open conversation by its first action there.
pub(super) async fn perform(
    dialects: &Dialects,
    operation: Operation,
    actor: &Actor,
    fields: &Fields,
) -> Result<Done, Problem> {
    let problem = match once(dialects, operation, actor, fields).await {
        Ok(done) => return Ok(done),
        Err(problem) => problem,
    };
    let is_outside = matches!(problem.status(), StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
    let target = if operation == Operation::ForwardMessage { "toConversationID" } else { "conversationID" };
    let is_member_needed = is_outside && operation != Operation::JoinConversation;
    match (is_member_needed, fields.filled(target)?.and_then(|text| ids::parse(&text))) {
        (true, Some(id)) => {
            let join = JoinConversationRequest { conversation_id: ConversationId::from(id).to_string() };
            match dialects.backend.call(actor, join).await {
                Ok(_) => once(dialects, operation, actor, fields).await,
                Err(_) => Err(problem),
            }
        }
        _ => Err(problem),
    }
}

async fn once(
    dialects: &Dialects,
    operation: Operation,
    actor: &Actor,
    fields: &Fields,
) -> Result<Done, Problem> {
    // Each is boxed at its own size: together they are too large for the stack of a worker.
    let carried_out = match operation {
        Operation::JoinConversation => conversation::join(dialects, actor, fields).boxed(),
        Operation::CreateConversation => conversation::create(dialects, actor, fields).boxed(),
        Operation::SendMessage => send::text(dialects, actor, fields).boxed(),
        Operation::SendSecureMessage => send::secure(dialects, actor, fields).boxed(),
        Operation::SendEphemeralMessage => send::ephemeral(dialects, actor, fields).boxed(),
        Operation::SendVoiceMessage => send::voice(dialects, actor, fields).boxed(),
        Operation::SendSticker => send::sticker(dialects, actor, fields).boxed(),
        Operation::CreatePoll => send::poll(dialects, actor, fields).boxed(),
        Operation::ForwardMessage => send::forward(dialects, actor, fields).boxed(),
        Operation::ScheduleMessage => send::schedule(dialects, actor, fields).boxed(),
        Operation::EditMessage => change::edit(dialects, actor, fields).boxed(),
        Operation::DeleteMessage => change::delete(dialects, actor, fields).boxed(),
        Operation::UnsendMessage => change::unsend(dialects, actor, fields).boxed(),
        Operation::ReportMessage => mark::report(dialects, actor, fields).boxed(),
        Operation::MessageRead => mark::read(dialects, actor, fields).boxed(),
        Operation::PinMessage => mark::pin(dialects, actor, fields).boxed(),
        Operation::ReactionMessage => mark::react(dialects, actor, fields).boxed(),
        Operation::VotePoll => mark::vote(dialects, actor, fields).boxed(),
    };
    carried_out.await
}

/// Returns the conversation in the field `conversationID`.
fn conversation_id(fields: &Fields) -> Result<ConversationId, Fault> {
    ids::conversation("conversationID", &fields.required("conversationID")?)
}

/// Returns the message in the field `messageId`.
fn message_id(fields: &Fields) -> Result<MessageId, Fault> {
    ids::message("messageId", &fields.required("messageId")?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operation_is_found_by_its_event_and_by_its_path() {
        for (name, operation) in Operation::ALL {
            assert_eq!(Operation::named(name), Some(operation));
            assert_eq!(Operation::of_path(&name.to_lowercase()), Some(operation));
        }
        assert_eq!(Operation::named("sendmessage"), None);
        assert_eq!(Operation::of_path("nothing"), None);
    }

    #[test]
    fn a_conversation_is_made_by_its_owner_or_first_participant() {
        let named = |body: Value| {
            let fields = Fields::from_json(body.to_string().as_bytes()).expect("fields");
            Operation::CreateConversation.names_actor(&fields).expect("a name")
        };
        let participants = json!(["ann", "bob"]);
        assert_eq!(named(json!({"userID": "eve", "owner": "bob"})), Some(("userID", "eve".to_owned())));
        let body = json!({"owner": "bob", "participants": participants});
        assert_eq!(named(body), Some(("owner", "bob".to_owned())));
        assert_eq!(named(json!({"participants": participants})), Some(("participants", "ann".to_owned())));
        assert_eq!(named(json!({})), None);
    }
}
