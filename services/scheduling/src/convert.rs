//! Between the words of the contract and ours. What the contract's rules check has been checked when a message comes
//! here; what they cannot say is checked here.

use chassis::clock::Timestamp;
use chassis::page::{self, Token};
use prost::Message;
use proto::id::{ConversationId, ScheduledMessageId, UserId};
use proto::messaging::v1 as messaging;
use proto::scheduling::v1 as pb;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::Error;
use crate::scheduled_message::{
    Changes, Content, Draft, Listed, Listing, Retry, ScheduledMessage, State, StateName,
};
use crate::store::Failure;

/// The id in the field `scheduled_message_id`.
pub fn scheduled_message_id(text: &str) -> Result<ScheduledMessageId, Error> {
    ScheduledMessageId::parse(text)
        .map_err(|_| Error::Field { field: "scheduled_message_id", rule: "must be a UUID" })
}

fn conversation_id(text: &str) -> Result<ConversationId, Error> {
    ConversationId::parse(text).map_err(|_| Error::Field { field: "conversation_id", rule: "must be a UUID" })
}

impl TryFrom<pb::ScheduleMessageRequest> for Draft {
    type Error = Error;

    fn try_from(request: pb::ScheduleMessageRequest) -> Result<Self, Error> {
        let retry = match request.request_id.as_str() {
            "" => None,
            text => Some(Retry {
                request_id: Uuid::try_parse(text)
                    .map_err(|_| Error::Field { field: "request_id", rule: "must be a UUID" })?,
                fingerprint: Sha256::digest(request.encode_to_vec()).into(),
            }),
        };
        Ok(Self {
            conversation: conversation_id(&request.conversation_id)?,
            content: content(CONTENT, request.content.as_ref())?,
            send_time: send_time("send_time", request.send_time.as_ref())?,
            retry,
        })
    }
}

impl TryFrom<pb::UpdateScheduledMessageRequest> for Changes {
    type Error = Error;

    fn try_from(request: pb::UpdateScheduledMessageRequest) -> Result<Self, Error> {
        let values = request.scheduled_message.unwrap_or_default();
        let paths = request.update_mask.unwrap_or_default().paths;
        if paths.is_empty() {
            return Err(Error::Field { field: "update_mask", rule: "must name content or send_time" });
        }
        let mut changes = Self::default();
        for path in paths {
            match path.as_str() {
                "content" => {
                    changes.content = Some(content(UPDATED_CONTENT, values.content.as_ref())?);
                }
                "send_time" => {
                    changes.send_time = Some(send_time(UPDATED_SEND_TIME, values.send_time.as_ref())?);
                }
                _ => {
                    return Err(Error::Field {
                        field: "update_mask",
                        rule: "must name only content and send_time",
                    });
                }
            }
        }
        Ok(changes)
    }
}

/// The content of a new one, as a path from the request.
pub const CONTENT: &str = "content";

/// The content of an update, as a path from the request.
pub const UPDATED_CONTENT: &str = "scheduled_message.content";

/// The time of an update, as a path from the request.
pub const UPDATED_SEND_TIME: &str = "scheduled_message.send_time";

fn content(field: &'static str, content: Option<&messaging::Content>) -> Result<Content, Error> {
    use messaging::content::Kind;
    let Some(content) = content else { return Err(Error::Field { field, rule: "must be set" }) };
    match &content.kind {
        // Messaging takes these from us, so that nobody else may write them through us.
        Some(Kind::Schedule(_) | Kind::Call(_) | Kind::System(_)) => {
            Err(Error::Field { field, rule: "must be of a kind that people write" })
        }
        None if content.attachments.is_empty() => Err(Error::Field { field, rule: "must be set" }),
        Some(_) | None => Ok(Content::encoded(content.encode_to_vec())),
    }
}

/// To milliseconds, and up: a time cut down to milliseconds would be before the one that was asked for.
fn send_time(field: &'static str, time: Option<&prost_types::Timestamp>) -> Result<Timestamp, Error> {
    let time = time.ok_or(Error::Field { field, rule: "must be set" })?;
    let cut =
        Timestamp::from_proto(time).ok_or(Error::Field { field, rule: "must be a time of the calendar" })?;
    let rest = i64::from(time.nanos % 1_000_000 != 0);
    Ok(Timestamp::from_millis(cut.as_millis() + rest))
}

/// A list that was asked for, and what its tokens are bound to.
pub struct Query {
    /// What is asked for.
    pub listing: Listing,
    bound_to: [Vec<u8>; 3],
}

impl Query {
    /// Reads what is asked for.
    pub fn parse(author: UserId, request: &pb::ListScheduledMessagesRequest) -> Result<Self, Error> {
        let conversation = match request.conversation_id.as_str() {
            "" => None,
            text => Some(conversation_id(text)?),
        };
        let state = state_name(request.state());
        let bound_to = [
            author.uuid().as_bytes().to_vec(),
            conversation.map(|id| id.uuid().as_bytes().to_vec()).unwrap_or_default(),
            vec![u8::try_from(request.state).unwrap_or(0)],
        ];
        let after: Option<(i64, Uuid)> =
            Token::after(&request.page_token, &parts(&bound_to)).map_err(Error::Page)?;
        let after = after.map(|(time, id)| (Timestamp::from_millis(time), id.into()));
        let listing = Listing { author, conversation, state, after, limit: page::size(request.page_size) };
        Ok(Self { listing, bound_to })
    }

    /// The answer.
    pub fn answer(&self, listed: Listed) -> Result<pb::ListScheduledMessagesResponse, Error> {
        let next =
            listed.next.map(|(time, id)| Token::at(&parts(&self.bound_to), &(time.as_millis(), id.uuid())));
        let messages = listed.messages.into_iter().map(pb::ScheduledMessage::try_from);
        Ok(pb::ListScheduledMessagesResponse {
            scheduled_messages: messages.collect::<Result<_, _>>()?,
            next_page_token: next.unwrap_or_default(),
        })
    }
}

fn parts(bound_to: &[Vec<u8>; 3]) -> [&[u8]; 3] {
    bound_to.each_ref().map(Vec::as_slice)
}

fn state_name(state: pb::ScheduledMessageState) -> Option<StateName> {
    match state {
        pb::ScheduledMessageState::Unspecified => None,
        pb::ScheduledMessageState::Pending => Some(StateName::Pending),
        pb::ScheduledMessageState::Sent => Some(StateName::Sent),
        pb::ScheduledMessageState::Cancelled => Some(StateName::Cancelled),
        pb::ScheduledMessageState::Failed => Some(StateName::Failed),
    }
}

/// A state in the words of the contract.
pub fn state(state: StateName) -> pb::ScheduledMessageState {
    match state {
        StateName::Pending => pb::ScheduledMessageState::Pending,
        StateName::Sent => pb::ScheduledMessageState::Sent,
        StateName::Cancelled => pb::ScheduledMessageState::Cancelled,
        StateName::Failed => pb::ScheduledMessageState::Failed,
    }
}

/// A state as a word in a sentence.
pub fn word(state: StateName) -> &'static str {
    match state {
        StateName::Pending => "pending",
        StateName::Sent => "sent",
        StateName::Cancelled => "cancelled",
        StateName::Failed => "failed",
    }
}

/// The content again, to be sent or shown.
pub fn decode(content: &Content) -> Result<messaging::Content, Error> {
    messaging::Content::decode(content.as_bytes())
        .map_err(|_| Error::Store(Failure::Corrupt("a content that cannot be read")))
}

impl TryFrom<ScheduledMessage> for pb::ScheduledMessage {
    type Error = Error;

    fn try_from(message: ScheduledMessage) -> Result<Self, Error> {
        let (message_id, failure_reason) = match &message.state {
            State::Pending | State::Cancelled => (String::new(), String::new()),
            State::Sent(message_id) => (message_id.to_string(), String::new()),
            State::Failed(reason) => (String::new(), reason.clone()),
        };
        Ok(Self {
            scheduled_message_id: message.id.to_string(),
            conversation_id: message.conversation.to_string(),
            content: message.content.as_ref().map(decode).transpose()?,
            send_time: Some(message.send_time.to_proto()),
            state: state(message.state.name()).into(),
            message_id,
            failure_reason,
            create_time: Some(message.create_time.to_proto()),
            update_time: Some(message.update_time.to_proto()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::id::MessageId;

    use super::*;

    fn at(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }

    fn request() -> pb::ScheduleMessageRequest {
        let kind = messaging::content::Kind::Text("hello".to_owned());
        pb::ScheduleMessageRequest {
            conversation_id: ConversationId::generate().to_string(),
            content: Some(messaging::Content { kind: Some(kind), ..Default::default() }),
            send_time: Some(at(1_800_000_000, 0)),
            request_id: ConversationId::generate().to_string(),
        }
    }

    fn update(paths: &[&str]) -> Result<Changes, Error> {
        let request = request();
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Changes::try_from(pb::UpdateScheduledMessageRequest {
            scheduled_message_id: String::new(),
            scheduled_message: Some(pb::ScheduledMessageChanges {
                content: request.content,
                send_time: request.send_time,
            }),
            update_mask: Some(prost_types::FieldMask { paths }),
        })
    }

    #[test]
    fn a_time_is_rounded_up_so_that_nothing_is_early() {
        let time = |nanos| send_time("send_time", Some(&at(10, nanos))).unwrap().as_millis();
        assert_eq!(
            [0, 1, 999_999, 1_000_000, 1_000_001, 999_999_999].map(time),
            [10_000, 10_001, 10_001, 10_001, 10_002, 11_000]
        );
        assert!(send_time("send_time", Some(&at(i64::MAX, 0))).is_err());
        assert!(send_time("send_time", Some(&at(0, -1))).is_err());
    }

    #[test]
    fn another_body_has_another_fingerprint() {
        let print = |request: pb::ScheduleMessageRequest| {
            Draft::try_from(request).unwrap().retry.unwrap().fingerprint
        };
        let request = request();
        let other = pb::ScheduleMessageRequest { send_time: Some(at(1_800_000_000, 1)), ..request.clone() };
        assert_eq!(print(request.clone()), print(request.clone()));
        assert_ne!(print(request), print(other));
    }

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let changes = update(&["send_time"]).unwrap();
        assert!(changes.content.is_none() && changes.send_time.is_some());
        let changes = update(&["content"]).unwrap();
        assert!(changes.content.is_some() && changes.send_time.is_none());
        for paths in [&[][..], &["state"], &["content", "conversation_id"]] {
            assert!(matches!(update(paths), Err(Error::Field { field: "update_mask", .. })), "{paths:?}");
        }
    }

    #[test]
    fn what_the_mask_names_must_be_there() {
        let request = pb::UpdateScheduledMessageRequest {
            update_mask: Some(prost_types::FieldMask { paths: vec!["content".to_owned()] }),
            ..Default::default()
        };
        let refused = Changes::try_from(request);
        assert!(
            matches!(refused, Err(Error::Field { field: "scheduled_message.content", .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn nobody_writes_in_the_words_of_services_through_us() {
        use messaging::content::Kind;
        for kind in [
            Kind::System(messaging::SystemContent { text: "Ann is the owner now".to_owned() }),
            Kind::Call(messaging::CallContent::default()),
            Kind::Schedule(messaging::ScheduleContent::default()),
        ] {
            let forged = messaging::Content { kind: Some(kind), attachments: Vec::new() };
            let refused = content(CONTENT, Some(&forged));
            assert!(matches!(refused, Err(Error::Field { field: "content", .. })), "{refused:?}");
        }
        let alone = messaging::Content { kind: None, attachments: vec![messaging::Attachment::default()] };
        assert!(content(CONTENT, Some(&alone)).is_ok());
    }

    #[test]
    fn a_token_holds_for_its_own_list() {
        let author = UserId::generate();
        let first = pb::ListScheduledMessagesRequest::default();
        let query = Query::parse(author, &first).unwrap();
        let place = (Timestamp::from_millis(5), ScheduledMessageId::generate());
        let token = query.answer(Listed { messages: vec![], next: Some(place) }).unwrap().next_page_token;
        let next = pb::ListScheduledMessagesRequest { page_token: token, ..first };
        assert_eq!(Query::parse(author, &next).unwrap().listing.after, Some(place));
        let other = pb::ListScheduledMessagesRequest { state: 1, ..next.clone() };
        assert!(matches!(Query::parse(author, &other), Err(Error::Page(_))));
        assert!(matches!(Query::parse(UserId::generate(), &next), Err(Error::Page(_))));
    }

    #[test]
    fn what_was_sent_is_the_message() {
        let draft = Draft::try_from(request()).unwrap();
        let mut message = draft.scheduled(UserId::generate(), Timestamp::from_millis(1));
        let shown = pb::ScheduledMessage::try_from(message.clone()).unwrap();
        assert_eq!(shown.content, request().content);
        assert_eq!(shown.state(), pb::ScheduledMessageState::Pending);
        let message_id = MessageId::generate();
        (message.state, message.content) = (State::Sent(message_id), None);
        let shown = pb::ScheduledMessage::try_from(message).unwrap();
        assert_eq!((shown.message_id, shown.content), (message_id.to_string(), None));
    }
}
