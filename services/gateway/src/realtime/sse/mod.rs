//! `GET /v1/events`: the frames that the socket pushes, as server-sent events, for clients that cannot open a
//! WebSocket.
//!
//! Each event's `data` is the same `ServerFrame` that the socket would send, its `event` is the type of frame, and its
//! `id` is the position of the stream in every log that it follows. A client that sends it back as `Last-Event-ID` gets
//! everything after it, on any gateway. The id is short however many conversations there are ([`event_id`]). A stream
//! whose client is too slow ends; the client comes back in the same way.
//!
//! An `EventSource` of a browser sends no bearer token: it names a ticket in the address instead, which opens one
//! stream. Its reconnects are recognized by the key in the ids of this stream.

mod checkpoint;
mod event_id;
mod progress;
mod stream;
mod varint;

use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRef, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use http::header::{self, HeaderValue};
use http::{HeaderMap, HeaderName};
use proto::id::ConversationId;

use self::event_id::{EventId, Place};
use self::stream::EventStream;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::realtime::Realtime;
use crate::realtime::frame::Format;
use crate::realtime::handshake::admit;
use crate::realtime::identity::SignedIn;
use crate::realtime::session_watch::redeem_ticket;
use crate::realtime::subscriber::Subscriber;

/// The maximum number of conversations that one stream names.
const MAX_NAMED: usize = 1_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Tells proxies that buffer answers not to.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Returns the route of the events.
pub(crate) fn router<S>() -> axum::Router<S>
where
    S: Clone + Send + Sync + 'static,
    Realtime: FromRef<S>,
{
    axum::Router::new().route("/v1/events", get(open))
}

/// Opens a stream, or refuses it.
async fn open(
    State(realtime): State<Realtime>,
    address: Option<Extension<ClientAddress>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (slot, who) = admit(&realtime, address, query.as_deref(), &headers).await?;
    let query = query.as_deref().unwrap_or_default();
    let who = identify(&realtime, who, query, &headers).await?;
    let wish = Wish::read(query, &headers)?;
    let (user_id, key) = (who.user_id, who.proof.credential.stream_key().cloned());
    let subscriber = Subscriber::of_user(&realtime, &slot, who, Format::Text).await?;

    let stream = EventStream::new(realtime, subscriber, user_id, key, wish);
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend([NO_BUFFERING]);
    Ok(response)
}

/// Returns the viewer who opens the stream: the user of the token, or else of the ticket.
async fn identify(
    realtime: &Realtime,
    of_token: Option<SignedIn>,
    query: &str,
    headers: &HeaderMap,
) -> Result<SignedIn, Problem> {
    let mut fields = form_urlencoded::parse(query.as_bytes());
    match (of_token, fields.find(|(name, _)| name == TICKET)) {
        (Some(who), None) => Ok(who),
        (Some(_), Some(_)) => Err(Fault::invalid(TICKET, "must not be given beside a bearer token").into()),
        (None, Some((_, ticket))) => {
            let shown = last_event_id(headers).and_then(EventId::parse).and_then(|id| id.key);
            Ok(redeem_ticket(realtime.upstream().clients(), &ticket, shown.as_ref()).await?)
        }
        (None, None) => Err(unauthenticated().into()),
    }
}

/// The query field of the ticket.
const TICKET: &str = "ticket";

fn last_event_id(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes).filter(|id| !id.is_empty())
}

/// The logs that a client wants to follow, and the positions from which.
#[derive(Debug)]
struct Wish {
    /// Empty: all of the user's.
    conversations: Vec<ConversationId>,
    /// `None`: from now on.
    since: Option<Place>,
}

impl Wish {
    fn read(query: &str, headers: &HeaderMap) -> Result<Self, Fault> {
        let mut conversations = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != TICKET) {
            if !matches!(&*name, "conversation_id" | "conversationId") {
                return Err(Fault::invalid(name.chars().take(64).collect::<String>(), "is not known here"));
            }
            let id = ConversationId::parse(&value)
                .map_err(|_| Fault::invalid("conversation_id", "must be a UUID"))?;
            if !conversations.contains(&id) {
                conversations.push(id);
            }
            if conversations.len() > MAX_NAMED {
                return Err(Fault::invalid(
                    "conversation_id",
                    format!("must be given at most {MAX_NAMED} times"),
                ));
            }
        }
        let since = match last_event_id(headers) {
            None => None,
            Some(id) => {
                let id = EventId::parse(id).ok_or_else(|| {
                    Fault::invalid("last_event_id", "must be the id of an event of this stream")
                })?;
                id.place
            }
        };
        Ok(Self { conversations, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_follows_is_read_from_its_request() {
        let id = ConversationId::generate();
        let query = format!("conversation_id={id}&conversation_id={id}&ticket=x");
        let wish = Wish::read(&query, &HeaderMap::new()).expect("a wish");
        assert_eq!(wish.conversations, [id]);
        assert!(wish.since.is_none());
        for query in ["conversation_id=x", "colour=red"] {
            assert_eq!(
                Wish::read(query, &HeaderMap::new()).expect_err("refused").fields().len(),
                1,
                "{query}"
            );
        }
        let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static("42"))]);
        assert!(Wish::read("", &headers).is_err());
    }
}
