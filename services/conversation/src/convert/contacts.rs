//! The words of connections, requests, blocks, privacy and presence.

use prost_types::FieldMask;
use proto::conversation::v1 as pb;
use proto::id::{GatewayId, UserId};
use uuid::Uuid;

use super::{not_an_id, user_ids};
use crate::contacts::Contact;
use crate::conversations::Place;
use crate::error::Error;
use crate::presence::{Presence, Report, Reported};
use crate::privacy::{FirstContact, Privacy, PrivacyChanges, Visibility};
use crate::request::{Direction, Filter, Kind, Request, State};

/// The kind of a request.
pub fn request_kind(kind: Kind) -> pb::RequestKind {
    match kind {
        Kind::Connection => pb::RequestKind::Connection,
        Kind::Message => pb::RequestKind::Message,
    }
}

/// The state of a request. One that is withheld is shown to nobody but its author, for whom it waits.
pub fn request_state(state: State) -> pb::RequestState {
    match state {
        State::Pending | State::Withheld => pb::RequestState::Pending,
        State::Accepted => pb::RequestState::Accepted,
        State::Rejected => pb::RequestState::Rejected,
        State::Cancelled => pb::RequestState::Cancelled,
    }
}

/// The id in the field `request_id` of a call that can be repeated.
pub fn retry(text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let rule = "must be a UUID";
    Uuid::try_parse(text).map(Some).map_err(|_| Error::Field { field: "request_id", rule })
}

/// The connection requests that wait.
pub fn pending(direction: pb::RequestDirection) -> Filter {
    Filter { kind: Kind::Connection, direction: self::direction(direction), state: Some(State::Pending) }
}

/// Message requests.
pub fn message_requests(direction: pb::RequestDirection, state: pb::RequestState) -> Filter {
    let state = match state {
        pb::RequestState::Unspecified => None,
        pb::RequestState::Pending => Some(State::Pending),
        pb::RequestState::Accepted => Some(State::Accepted),
        pb::RequestState::Rejected => Some(State::Rejected),
        pb::RequestState::Cancelled => Some(State::Cancelled),
    };
    Filter { kind: Kind::Message, direction: self::direction(direction), state }
}

/// What a list of requests is called in its tokens.
pub fn list_of(filter: Filter) -> String {
    format!("{filter:?}")
}

fn direction(direction: pb::RequestDirection) -> Direction {
    match direction {
        pb::RequestDirection::Unspecified => Direction::Both,
        pb::RequestDirection::Incoming => Direction::Incoming,
        pb::RequestDirection::Outgoing => Direction::Outgoing,
    }
}

impl From<Request> for pb::Request {
    fn from(request: Request) -> Self {
        Self {
            request_id: request.id.to_string(),
            kind: request_kind(request.kind).into(),
            from_user_id: request.from.to_string(),
            to_user_id: request.to.to_string(),
            state: request_state(request.state).into(),
            conversation_id: request
                .message
                .map(|place| place.conversation_id.to_string())
                .unwrap_or_default(),
            create_time: Some(request.create_time.to_proto()),
            answer_time: request.answer_time.map(|time| time.to_proto()),
        }
    }
}

/// How many there are.
pub fn count(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// That the caller is connected with somebody.
pub fn connection((since, user_id): Place) -> pb::UserConnection {
    pb::UserConnection { user_id: user_id.to_string(), connect_time: Some(since.to_proto()) }
}

/// That the caller blocks somebody.
pub fn block((since, user_id): Place) -> pb::Block {
    pb::Block { user_id: user_id.to_string(), create_time: Some(since.to_proto()) }
}

impl From<Contact> for pb::Contact {
    fn from(contact: Contact) -> Self {
        Self {
            user_id: contact.user_id.to_string(),
            connected: contact.connected.is_some(),
            connect_time: contact.connected.map(|time| time.to_proto()),
            connection_request: contact.connection_request.map(pb::Request::from),
            message_request: contact.message_request.map(pb::Request::from),
            blocked: contact.blocked,
            request_needed: contact.request_needed,
            conversation_id: contact.conversation.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

impl From<Privacy> for pb::Privacy {
    fn from(privacy: Privacy) -> Self {
        let first_contact = match privacy.first_contact {
            FirstContact::Everyone => pb::FirstContact::Everyone,
            FirstContact::AfterRequest => pb::FirstContact::AfterRequest,
        };
        let presence = match privacy.presence {
            Visibility::Everyone => pb::PresenceVisibility::Everyone,
            Visibility::Connections => pb::PresenceVisibility::Connections,
            Visibility::Nobody => pb::PresenceVisibility::Nobody,
        };
        Self { first_contact: first_contact.into(), presence: presence.into() }
    }
}

impl TryFrom<pb::UpdatePrivacyRequest> for PrivacyChanges {
    type Error = Error;

    fn try_from(request: pb::UpdatePrivacyRequest) -> Result<Self, Error> {
        let values = request.privacy.unwrap_or_default();
        let FieldMask { paths } = request.update_mask.unwrap_or_default();
        if paths.is_empty() {
            return Err(Error::Field { field: "update_mask", rule: "must name first_contact or presence" });
        }
        let mut changes = Self::default();
        for path in paths {
            match path.as_str() {
                "first_contact" => changes.first_contact = Some(first_contact(values)?),
                "presence" => changes.presence = Some(visibility(values)?),
                _ => {
                    let rule = "must name only first_contact and presence";
                    return Err(Error::Field { field: "update_mask", rule });
                }
            }
        }
        Ok(changes)
    }
}

fn first_contact(values: pb::Privacy) -> Result<FirstContact, Error> {
    match pb::FirstContact::try_from(values.first_contact) {
        Ok(pb::FirstContact::Everyone) => Ok(FirstContact::Everyone),
        Ok(pb::FirstContact::AfterRequest) => Ok(FirstContact::AfterRequest),
        Ok(pb::FirstContact::Unspecified) | Err(_) => {
            Err(Error::Field { field: "privacy.first_contact", rule: "must say who may write first" })
        }
    }
}

fn visibility(values: pb::Privacy) -> Result<Visibility, Error> {
    match pb::PresenceVisibility::try_from(values.presence) {
        Ok(pb::PresenceVisibility::Everyone) => Ok(Visibility::Everyone),
        Ok(pb::PresenceVisibility::Connections) => Ok(Visibility::Connections),
        Ok(pb::PresenceVisibility::Nobody) => Ok(Visibility::Nobody),
        Ok(pb::PresenceVisibility::Unspecified) | Err(_) => {
            Err(Error::Field { field: "privacy.presence", rule: "must say who sees it" })
        }
    }
}

impl From<Presence> for pb::Presence {
    fn from(presence: Presence) -> Self {
        Self {
            user_id: presence.user_id.to_string(),
            online: presence.is_online,
            last_seen_time: presence.last_seen.map(|time| time.to_proto()),
        }
    }
}

impl TryFrom<pb::ReportPresenceRequest> for Report {
    type Error = Error;

    fn try_from(request: pb::ReportPresenceRequest) -> Result<Self, Error> {
        let users = |field, texts: &[String]| -> Result<Vec<UserId>, Error> {
            texts.iter().map(|text| UserId::parse(text).map_err(not_an_id(field))).collect()
        };
        Ok(Self {
            gateway_id: GatewayId::parse(&request.gateway_id).map_err(not_an_id("gateway_id"))?,
            is_first: request.first,
            came: users("came_user_ids", &request.came_user_ids)?,
            left: users("left_user_ids", &request.left_user_ids)?,
        })
    }
}

impl From<Reported> for pb::ReportPresenceResponse {
    fn from(reported: Reported) -> Self {
        Self { restate: reported == Reported::Restate }
    }
}

/// The users whose presence is asked for.
pub fn looked_at(request: &pb::GetPresenceRequest) -> Result<Vec<UserId>, Error> {
    user_ids(&request.user_ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let update = |privacy, paths: &[&str]| {
            PrivacyChanges::try_from(pb::UpdatePrivacyRequest {
                privacy: Some(privacy),
                update_mask: Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
            })
        };
        let privacy = pb::Privacy {
            first_contact: pb::FirstContact::AfterRequest.into(),
            presence: pb::PresenceVisibility::Nobody.into(),
        };
        let changes = update(privacy, &["presence"]).unwrap();
        assert_eq!((changes.first_contact, changes.presence), (None, Some(Visibility::Nobody)));
        let changes = update(privacy, &["presence", "first_contact"]).unwrap();
        assert_eq!(changes.first_contact, Some(FirstContact::AfterRequest));
        for paths in [&[][..], &["blocks"]] {
            let refused = update(privacy, paths);
            assert!(matches!(refused, Err(Error::Field { field: "update_mask", .. })), "{refused:?}");
        }
        for (path, field) in [("first_contact", "privacy.first_contact"), ("presence", "privacy.presence")] {
            let refused = update(pb::Privacy::default(), &[path]);
            assert!(matches!(refused, Err(Error::Field { field: named, .. }) if named == field));
            let unknown = pb::Privacy { first_contact: 99, presence: 99 };
            assert!(update(unknown, &[path]).is_err());
        }
    }
}
