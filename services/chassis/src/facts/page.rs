//! Asking a producer for facts. The facts stay as they were sent, so that one that cannot be read is kept whole.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use proto::codec::Codec;
use proto::{Incoming, Violation};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::database::facts::{Cursor, Place};
use crate::identity::ServiceCredential;
use crate::transport::{Transport, as_service};

/// As long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The request of every rpc that lists facts.
#[derive(Clone, PartialEq, Message)]
struct ListRequest {
    #[prost(int64, tag = "1")]
    after_position: i64,
    #[prost(int32, tag = "2")]
    limit: i32,
}

/// The answer of every rpc that lists facts: the facts are not decoded yet.
#[derive(Clone, PartialEq, Message)]
struct ListResponse {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    facts: Vec<Bytes>,
    #[prost(string, tag = "2")]
    epoch: String,
    #[prost(int64, tag = "3")]
    head_position: i64,
    #[prost(string, tag = "4")]
    after_event_id: String,
}

impl Incoming for ListResponse {
    const REQUEST: bool = false;

    fn check(&self) -> Vec<Violation> {
        Vec::new()
    }
}

/// What every fact begins with.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(int64, tag = "1")]
    position: i64,
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(message, optional, tag = "3")]
    occur_time: Option<prost_types::Timestamp>,
}

/// The id of an encoded fact; empty when it has none or cannot be read.
pub fn event_id(fact: &[u8]) -> String {
    Header::decode(fact).map(|header| header.event_id).unwrap_or_default()
}

/// The time in an id, in milliseconds since 1970; 0 when there is none in it.
pub(super) fn time_of_id(id: &str) -> i64 {
    let time = Uuid::try_parse(id).ok().and_then(|id| id.get_timestamp()).map(|time| time.to_unix());
    time.and_then(|(seconds, nanos)| i64::try_from(seconds * 1000 + u64::from(nanos / 1_000_000)).ok())
        .unwrap_or(0)
}

/// One fact as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub place: Place,
    pub payload: Bytes,
}

/// What a producer says about its facts after a position.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// Oldest first, without gaps.
    pub facts: Vec<Fact>,
    /// Names the history; empty from a producer that does not know of histories.
    pub epoch: String,
    /// The last position that there is.
    pub head: i64,
    /// The id of the fact at the position that was asked about; empty when there is none.
    pub before: String,
}

impl Page {
    fn new(after: i64, answer: ListResponse) -> Self {
        let mut last = after;
        let fact = |payload: Bytes| {
            // One that cannot be read stands where the one before it says.
            let header = Header::decode(payload.clone()).unwrap_or_default();
            let position = if header.position > last { header.position } else { last + 1 };
            last = position;
            let time = header.occur_time.as_ref().and_then(Timestamp::from_proto);
            let time_millis = time.map_or(0, Timestamp::as_millis);
            Fact { place: Place { position, mark: header.event_id, time_millis }, payload }
        };
        Self {
            facts: answer.facts.into_iter().map(fact).collect(),
            epoch: answer.epoch,
            head: answer.head_position,
            before: answer.after_event_id,
        }
    }

    /// Why this is not the history that was read up to a cursor; `None` when it may be.
    pub fn contradiction(&self, cursor: &Cursor) -> Option<&'static str> {
        if self.epoch.is_empty() || cursor.position == 0 {
            return None;
        }
        if !cursor.epoch.is_empty() && cursor.epoch != self.epoch {
            return Some("the epoch of the facts is another");
        }
        if cursor.position > self.head {
            return Some("the facts end before the cursor");
        }
        (!cursor.mark.is_empty() && cursor.mark != self.before).then_some("another fact stands at the cursor")
    }
}

/// The rpc of a producer that lists facts.
#[derive(Clone, Debug)]
pub struct Source {
    client: tonic::client::Grpc<Transport>,
    method: PathAndQuery,
    credential: ServiceCredential,
}

impl Source {
    /// The facts of auth.
    pub fn auth(transport: Transport, credential: ServiceCredential) -> Self {
        let method = PathAndQuery::from_static("/parlor.auth.v1.AuthService/ListUserFacts");
        Self { client: tonic::client::Grpc::new(transport), method, credential }
    }

    /// The facts of conversation.
    pub fn conversation(transport: Transport, credential: ServiceCredential) -> Self {
        let method =
            PathAndQuery::from_static("/parlor.conversation.v1.ConversationService/ListConversationFacts");
        Self { client: tonic::client::Grpc::new(transport), method, credential }
    }

    /// The facts after a position, at most `limit`.
    pub(super) async fn page(&self, after_position: i64, limit: i32) -> anyhow::Result<Page> {
        let mut request = as_service(ListRequest { after_position, limit }, &self.credential, None);
        request.set_timeout(PATIENCE);
        let mut client = self.client.clone();
        client.ready().await.map_err(|error| anyhow!("the producer of facts cannot be reached: {error}"))?;
        let codec = Codec::<ListRequest, ListResponse>::default();
        let answer = client.unary(request, self.method.clone(), codec).await.map_err(|status| {
            anyhow!("{} answers {:?}: {}", self.method.path(), status.code(), status.message())
        })?;
        Ok(Page::new(after_position, answer.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(facts: &[Header], (epoch, head_position, before): (&str, i64, &str)) -> Page {
        let facts = facts.iter().map(|fact| fact.encode_to_vec().into()).collect();
        let (epoch, after_event_id) = (epoch.to_owned(), before.to_owned());
        Page::new(4, ListResponse { facts, epoch, head_position, after_event_id })
    }

    #[test]
    fn a_fact_that_cannot_be_read_has_the_next_position() {
        let facts = vec![
            Bytes::from_static(&[0xff]),
            Header { position: 6, ..Header::default() }.encode_to_vec().into(),
            Bytes::new(),
        ];
        let read = Page::new(4, ListResponse { facts, ..ListResponse::default() });
        let positions: Vec<_> = read.facts.iter().map(|fact| fact.place.position).collect();
        assert_eq!(positions, [5, 6, 7]);
    }

    #[test]
    fn another_history_is_told_from_the_one_that_was_read() {
        let cursor = |position, epoch: &str, mark: &str| Cursor {
            position,
            epoch: epoch.to_owned(),
            mark: mark.to_owned(),
            ..Cursor::default()
        };
        let known = cursor(4, "first", "four");
        for (page, cursor, is_another) in [
            (page(&[], ("first", 4, "four")), &known, false),
            (page(&[], ("first", 9, "four")), &known, false),
            (page(&[], ("second", 9, "four")), &known, true),
            (page(&[], ("first", 3, "")), &known, true),
            (page(&[], ("first", 9, "other")), &known, true),
            // A producer of before, and a consumer that was just brought up to date.
            (page(&[], ("", 0, "")), &known, false),
            (page(&[], ("first", 9, "four")), &cursor(4, "", ""), false),
            (page(&[], ("first", 3, "")), &cursor(4, "", ""), true),
            (page(&[], ("second", 0, "")), &cursor(0, "first", ""), false),
        ] {
            assert_eq!(page.contradiction(cursor).is_some(), is_another, "{page:?} {cursor:?}");
        }
    }

    #[test]
    fn an_id_of_a_fact_tells_its_time() {
        assert_eq!(time_of_id("01890a5d-ac96-774b-bcce-b302099a8057"), 0x0189_0a5d_ac96);
        assert_eq!(time_of_id(""), 0);
        assert_eq!(time_of_id("0f8fad5b-d9cb-469f-a165-70867728950e"), 0);
    }
}
