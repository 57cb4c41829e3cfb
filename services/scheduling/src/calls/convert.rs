//! Between the words of the contract and ours.

use std::time::Duration;

use chassis::caller::Caller;
use chassis::clock::Timestamp;
use chassis::page::{self, Token};
use prost::Message as _;
use proto::id::{CallId, ConversationId, SessionId, UserId};
use proto::scheduling::v1 as pb;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Listed;
use super::devices::Report;
use super::error::CallError;
use super::machine::{Call, Device, Ending, Media, Outcome, Stage, nobody};
use super::start::{Begun, Request, Target};
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::store::calling::{Listing, StateName};
use crate::users::Keyword;

/// The id in the field `call_id`.
pub fn call_id(text: &str) -> Result<CallId, Error> {
    CallId::parse(text).map_err(|_| Error::Field { field: "call_id", rule: "must be a UUID" })
}

/// The device that asks.
pub fn device(caller: &Caller) -> Result<Device, Error> {
    let session = caller.session_id.ok_or(CallError::NoSession)?;
    Ok(Device { user: caller.user_id, session })
}

impl TryFrom<pb::ReportDevicesRequest> for Report {
    type Error = Error;

    fn try_from(request: pb::ReportDevicesRequest) -> Result<Self, Error> {
        Ok(Self { came: devices("came", &request.came)?, left: devices("left", &request.left)? })
    }
}

fn devices(field: &str, devices: &[pb::CallDevice]) -> Result<Vec<Device>, Error> {
    let device = |(place, device): (usize, &pb::CallDevice)| match (
        UserId::parse(&device.user_id),
        SessionId::parse(&device.session_id),
    ) {
        (Ok(user), Ok(session)) => Ok(Device { user, session }),
        (Err(_), _) => {
            Err(Error::Item { field: format!("{field}[{place}].user_id"), rule: "must be a UUID" })
        }
        (_, Err(_)) => {
            Err(Error::Item { field: format!("{field}[{place}].session_id"), rule: "must be a UUID" })
        }
    };
    devices.iter().enumerate().map(device).collect()
}

/// A time that a device says.
pub fn time(time: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Error> {
    let rule = "must be a time of the calendar";
    time.map(|time| Timestamp::from_proto(time).ok_or(Error::Field { field: "time", rule })).transpose()
}

fn user_id(text: &str) -> Result<UserId, Error> {
    UserId::parse(text).map_err(|_| Error::Field { field: "user_id", rule: "must be a UUID" })
}

impl TryFrom<pb::StartCallRequest> for Request {
    type Error = Error;

    fn try_from(request: pb::StartCallRequest) -> Result<Self, Error> {
        use pb::start_call_request::Target as Named;
        let retry = match request.request_id.as_str() {
            "" => None,
            text => Some(Retry {
                request_id: Uuid::try_parse(text)
                    .map_err(|_| Error::Field { field: "request_id", rule: "must be a UUID" })?,
                fingerprint: Sha256::digest(request.encode_to_vec()).into(),
            }),
        };
        let target = match &request.target {
            Some(Named::UserId(id)) => Target::Person(user_id(id)?),
            Some(Named::ConversationId(id)) => Target::Conversation(
                ConversationId::parse(id)
                    .map_err(|_| Error::Field { field: "conversation_id", rule: "must be a UUID" })?,
            ),
            None => return Err(Error::Field { field: "target", rule: "must be set" }),
        };
        let media = match request.media() {
            pb::CallMedia::Audio => Media::Audio,
            pb::CallMedia::Video => Media::Video,
            pb::CallMedia::Unspecified => {
                return Err(Error::Field { field: "media", rule: "must be set" });
            }
        };
        Ok(Self { target, media, callee_offline: request.callee_offline, retry })
    }
}

/// A call that was begun, for the one who wants to call.
pub fn begun(begun: &Begun, viewer: UserId) -> pb::StartCallResponse {
    pb::StartCallResponse { call: Some(render(&begun.call, viewer)), met: begun.met }
}

/// A call as one of the two sees it.
pub fn render(call: &Call, viewer: UserId) -> pb::Call {
    let (talk, ending) = (call.talk(), call.ending());
    let own_session =
        if viewer == call.caller.user { Some(call.caller.session) } else { talk.map(|talk| talk.session) };
    pb::Call {
        call_id: call.id.to_string(),
        conversation_id: call.conversation.to_string(),
        caller_user_id: name(call.caller.user),
        callee_user_id: name(call.callee),
        media: match call.media {
            Media::Audio => pb::CallMedia::Audio,
            Media::Video => pb::CallMedia::Video,
        }
        .into(),
        state: match &call.stage {
            Stage::Ringing => pb::CallState::Ringing,
            Stage::Accepted(_) => pb::CallState::Accepted,
            Stage::Over(Ending { outcome, .. }) => state_of(*outcome),
        }
        .into(),
        version: call.version,
        create_time: Some(call.create_time.to_proto()),
        ring_expire_time: Some(call.ring_until.to_proto()),
        accept_time: talk.map(|talk| talk.accept_time.to_proto()),
        connect_time: talk.and_then(|talk| talk.connect_time).map(Timestamp::to_proto),
        end_time: ending.map(|ending| ending.time.to_proto()),
        duration: ending.and_then(|ending| ending.duration).map(span),
        ended_by_user_id: ending.and_then(|ending| ending.by).map(name).unwrap_or_default(),
        own_session_id: own_session.map(|session| session.to_string()).unwrap_or_default(),
    }
}

/// How a call is over, in the words of the contract.
pub fn state_of(outcome: Outcome) -> pb::CallState {
    match outcome {
        Outcome::Ended => pb::CallState::Ended,
        Outcome::Rejected => pb::CallState::Rejected,
        Outcome::Busy => pb::CallState::Busy,
        Outcome::Missed => pb::CallState::Missed,
        Outcome::Cancelled => pb::CallState::Cancelled,
        Outcome::Failed => pb::CallState::Failed,
    }
}

fn state_name(state: pb::CallState) -> Option<StateName> {
    Some(match state {
        pb::CallState::Unspecified => return None,
        pb::CallState::Ringing => StateName::Ringing,
        pb::CallState::Accepted => StateName::Accepted,
        pb::CallState::Ended => StateName::Over(Outcome::Ended),
        pb::CallState::Rejected => StateName::Over(Outcome::Rejected),
        pb::CallState::Busy => StateName::Over(Outcome::Busy),
        pb::CallState::Missed => StateName::Over(Outcome::Missed),
        pb::CallState::Cancelled => StateName::Over(Outcome::Cancelled),
        pb::CallState::Failed => StateName::Over(Outcome::Failed),
    })
}

fn name(user: UserId) -> String {
    if user == nobody() { String::new() } else { user.to_string() }
}

fn span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

/// A list that was asked for, and what its tokens are bound to.
pub struct Query {
    /// What is asked for.
    pub listing: Listing,
    /// What the names of the other people contain.
    pub keyword: Keyword,
    bound_to: [Vec<u8>; 6],
}

impl Query {
    /// Reads what is asked for.
    pub fn parse(user: UserId, request: &pb::ListCallsRequest) -> Result<Self, Error> {
        let peer = match request.user_id.as_str() {
            "" => None,
            text => Some(user_id(text)?),
        };
        let keyword = Keyword::parse(&request.keyword);
        let bound_to = [
            user.uuid().as_bytes().to_vec(),
            peer.map(|id| id.uuid().as_bytes().to_vec()).unwrap_or_default(),
            vec![u8::try_from(request.state).unwrap_or(0)],
            vec![u8::from(request.active)],
            vec![u8::from(request.missed)],
            keyword.as_str().as_bytes().to_vec(),
        ];
        let before: Option<(i64, Uuid)> =
            Token::after(&request.page_token, &parts(&bound_to)).map_err(Error::Page)?;
        let listing = Listing {
            user,
            peers: peer.map(|peer| vec![peer]),
            state: state_name(request.state()),
            active: request.active,
            missed: request.missed,
            before: before.map(|(time, id)| (Timestamp::from_millis(time), id.into())),
            limit: page::size(request.page_size),
        };
        Ok(Self { listing, keyword, bound_to })
    }

    /// The answer.
    pub fn answer(&self, listed: &Listed) -> pb::ListCallsResponse {
        let next =
            listed.next.map(|(time, id)| Token::at(&parts(&self.bound_to), &(time.as_millis(), id.uuid())));
        pb::ListCallsResponse {
            calls: listed.calls.iter().map(|call| render(call, self.listing.user)).collect(),
            next_page_token: next.unwrap_or_default(),
        }
    }
}

fn parts(bound_to: &[Vec<u8>; 6]) -> [&[u8]; 6] {
    bound_to.each_ref().map(Vec::as_slice)
}
