//! `GET /v1/events`: what the socket pushes, as server-sent events, for clients that cannot open a WebSocket.
//!
//! Each event's `data` is the same `ServerFrame` that the socket would send, its `event` is the kind of frame, and its
//! `id` says how far the stream has come in every log that it follows. A client that sends it back as `Last-Event-ID`
//! gets everything after it, on any gateway ([`Progress`]). A stream whose client is too slow ends; the client comes
//! back in the same way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use chassis::transport::as_service;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use http::header::{self, HeaderValue};
use http::{HeaderMap, HeaderName};
use proto::conversation::v1::ListMembershipsRequest;
use proto::gateway::v1::Subscribe;
use proto::gateway::v1::server_frame::Frame as Said;
use proto::id::ConversationId;
use proto::messaging::v1::{Head, user_event};
use tokio::time::Interval;
use tonic::Status;

use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::realtime::admit;
use crate::realtime::connection::{Connection, End};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::registry::Place;
use crate::realtime::resume::{Resume, gained_conversation};
use crate::realtime::topic::Key;
use crate::state::Gateway;

/// How often a stream on which nothing happens says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// So much is put together before it is handed over.
const CHUNK: usize = 16 * 1024;

/// How many conversations one stream names.
const MAX_NAMED: usize = 1_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Proxies that gather answers before they pass them on are told not to.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The route of the events.
pub(crate) fn router(gateway: Gateway) -> axum::Router {
    axum::Router::new().route("/v1/events", get(open)).with_state(gateway)
}

/// Opens a stream, or says why not.
async fn open(
    State(gateway): State<Gateway>,
    address: Option<Extension<ClientAddress>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (mut place, who) = admit(&gateway, address, query.as_deref(), &headers).await?;
    let who = who.ok_or_else(unauthenticated)?;
    let wish = Wish::read(query.as_deref().unwrap_or_default(), &headers)?;
    let connection = gateway.sockets().connect(&mut place, who, Format::Text, &gateway.config().sockets)?;
    gateway.sockets().calls().hear(connection.user_id()).await;

    let feed = Feed::new(gateway, connection, place, wish);
    let mut response = Body::from_stream(feed).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend([NO_BUFFERING]);
    Ok(response)
}

/// What a client wants to follow, and from where.
#[derive(Debug)]
struct Wish {
    /// Nothing: all of the user's.
    conversations: Vec<ConversationId>,
    /// Nothing: from now on.
    since: Option<Progress>,
}

impl Wish {
    fn read(query: &str, headers: &HeaderMap) -> Result<Self, Fault> {
        let mut conversations = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
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
        let since = match headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes) {
            None | Some(b"") => None,
            Some(id) => {
                let progress = Progress::parse(id);
                Some(progress.ok_or_else(|| {
                    Fault::invalid("last_event_id", "must be the id of an event of this stream")
                })?)
            }
        };
        Ok(Self { conversations, since })
    }
}

/// How far a stream has come in every log that it follows.
///
/// It is kept short, because every event carries it: a conversation is known by the last five bytes of its id, which
/// are random; who comes back names the conversations, or is in them. Should two conversations of one user ever end in
/// the same bytes, both go on after the lower sequence, and the client drops what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    epoch: String,
    user: i64,
    conversations: HashMap<Tail, i64>,
}

/// What a conversation is known by.
type Tail = [u8; 5];

/// The first byte of every id: another form has another one.
const FORM: u8 = 1;

/// The longest epoch.
const MAX_EPOCH: usize = 64;

fn tail(conversation: ConversationId) -> Tail {
    let [.., a, b, c, d, e] = conversation.uuid().into_bytes();
    [a, b, c, d, e]
}

impl Progress {
    fn set(&mut self, conversation: ConversationId, sequence: i64) {
        self.conversations.insert(tail(conversation), sequence);
    }

    fn of(&self, conversation: ConversationId) -> Option<i64> {
        self.conversations.get(&tail(conversation)).copied()
    }

    /// As the `id` of an event.
    fn write(&self) -> String {
        let mut bytes = Vec::with_capacity(16 + self.epoch.len() + 8 * self.conversations.len());
        bytes.push(FORM);
        put(&mut bytes, self.epoch.len() as u64);
        bytes.extend_from_slice(self.epoch.as_bytes());
        put(&mut bytes, self.user.unsigned_abs());
        for (tail, sequence) in &self.conversations {
            bytes.extend_from_slice(tail);
            put(&mut bytes, sequence.unsigned_abs());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (form, mut rest) = bytes.split_first()?;
        if *form != FORM {
            return None;
        }
        let len = usize::try_from(take(&mut rest)?).ok().filter(|len| *len <= MAX_EPOCH)?;
        let (epoch, after) = rest.split_at_checked(len)?;
        rest = after;
        let epoch = std::str::from_utf8(epoch).ok()?.to_owned();
        let user = i64::try_from(take(&mut rest)?).ok()?;
        let mut conversations = HashMap::new();
        while let Some((tail, after)) = rest.split_first_chunk() {
            rest = after;
            conversations.insert(*tail, i64::try_from(take(&mut rest)?).ok()?);
        }
        rest.is_empty().then_some(Self { epoch, user, conversations })
    }
}

/// Seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The stream of one client.
struct Feed {
    gateway: Gateway,
    connection: Arc<Connection>,
    conversations: Vec<ConversationId>,
    progress: Progress,
    /// Looks where to begin.
    beginning: Option<BoxFuture<'static, Result<(Progress, Subscribe), Status>>>,
    /// What brings it up to date.
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
    heartbeat: Interval,
    over: bool,
    /// Given back when the stream is dropped.
    _place: Place,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.connection.end(End::Gone);
        self.gateway.sockets().hub().leave(&self.connection);
    }
}

impl Feed {
    fn new(gateway: Gateway, connection: Arc<Connection>, place: Place, wish: Wish) -> Self {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut feed = Self {
            gateway,
            connection,
            conversations: wish.conversations,
            progress: Progress::default(),
            beginning: None,
            under_way: FuturesUnordered::new(),
            heartbeat,
            over: false,
            _place: place,
        };
        feed.begin(wish.since);
        feed
    }

    fn begin(&mut self, since: Option<Progress>) {
        let (gateway, connection) = (self.gateway.clone(), Arc::clone(&self.connection));
        let conversations = self.conversations.clone();
        self.beginning = Some(begin(gateway, connection, conversations, since).boxed());
    }

    fn resume(&self) -> Resume {
        Resume::new(self.gateway.clone(), Arc::clone(&self.connection))
    }

    /// Does what is under way. Says whether the stream is over.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(beginning) = &mut self.beginning
            && let Poll::Ready(begun) = beginning.poll_unpin(cx)
        {
            self.beginning = None;
            match begun {
                Ok((progress, request)) => {
                    self.progress = progress;
                    self.under_way.push(self.resume().subscribe(String::new(), request).boxed());
                }
                Err(status) => {
                    self.connection.push(Frame::error(String::new(), &status));
                    self.connection.end(End::Restart { retry_after: Duration::from_secs(1) });
                }
            }
        }
        while !self.under_way.is_empty()
            && matches!(self.under_way.poll_next_unpin(cx), Poll::Ready(Some(())))
        {}
        if self.connection.is_draining() {
            let spread = self.gateway.config().sockets.drain_spread;
            let retry_after = self.gateway.sockets().come_back(self.connection.number(), spread);
            self.connection.end(End::Restart { retry_after });
        }
        self.over
    }

    /// Takes a frame into account before it is written. Says whether the stream has come further by it.
    fn note(&mut self, frame: &Frame) -> bool {
        match frame.body() {
            Some(Said::Event(event)) => {
                if let Ok(id) = ConversationId::parse(&event.conversation_id) {
                    self.progress.set(id, event.sequence);
                }
                true
            }
            Some(Said::UserEvent(event)) => {
                self.progress.user = event.sequence;
                if let Some((conversation, after)) = gained_conversation(event)
                    && self.connection.follows_all()
                {
                    self.progress.conversations.entry(tail(conversation)).or_insert(after);
                    self.under_way.push(self.resume().gained(conversation, after).boxed());
                }
                if let Some(user_event::Payload::ConversationLost(lost)) = &event.payload
                    && let Ok(id) = ConversationId::parse(&lost.conversation_id)
                {
                    self.progress.conversations.remove(&tail(id));
                }
                true
            }
            Some(Said::Subscribed(subscribed)) if subscribed.full_sync_required => {
                // The client has been told to begin anew; so does the stream, from now on.
                self.begin(None);
                false
            }
            Some(Said::Subscribed(subscribed)) => {
                for head in &subscribed.heads {
                    if let Ok(id) = ConversationId::parse(&head.conversation_id) {
                        self.progress.conversations.entry(tail(id)).or_insert(head.sequence);
                    }
                }
                if self.progress.user == 0 {
                    self.progress.user = subscribed.user_head_sequence;
                }
                false
            }
            Some(Said::CaughtUp(caught_up)) => {
                self.progress.epoch.clone_from(&caught_up.epoch);
                true
            }
            _ => false,
        }
    }

    fn write(&mut self, frame: &Frame, into: &mut Vec<u8>) {
        if self.note(frame) && !self.progress.epoch.is_empty() {
            line(into, "id", &self.progress.write());
        }
        line(into, "event", frame.kind());
        if let Some(Said::Closing(closing)) = frame.body()
            && let Some(wait) = closing.retry_after.and_then(|wait| Duration::try_from(wait).ok())
        {
            line(into, "retry", &wait.as_millis().to_string());
        }
        line(into, "data", frame.text());
        into.push(b'\n');
    }
}

fn line(into: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\n"] {
        into.extend_from_slice(part.as_bytes());
    }
}

impl Stream for Feed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut chunk = Vec::new();
        loop {
            if self.poll_work(cx) {
                return Poll::Ready(None);
            }
            // What waits leaves together.
            let connection = Arc::clone(&self.connection);
            match connection.poll_next(cx) {
                Poll::Ready(Ok(frame)) => {
                    self.write(&frame, &mut chunk);
                    if chunk.len() >= CHUNK {
                        break;
                    }
                }
                Poll::Ready(Err(end)) => {
                    self.over = true;
                    metrics::counter!("sockets_closed_total", "reason" => reason(end)).increment(1);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if chunk.is_empty() && !self.over {
            ready!(self.heartbeat.poll_tick(cx));
            chunk.extend_from_slice(b":\n\n");
        } else {
            self.heartbeat.reset();
        }
        match chunk.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(Ok(chunk.into()))),
        }
    }
}

fn reason(end: End) -> &'static str {
    match end {
        End::TooSlow => "slow_consumer",
        End::SignedOut => "signed_out",
        End::Restart { .. } => "restart",
        End::Gone => "gone",
    }
}

/// Where the stream begins, and what it asks for.
async fn begin(
    gateway: Gateway,
    connection: Arc<Connection>,
    conversations: Vec<ConversationId>,
    since: Option<Progress>,
) -> Result<(Progress, Subscribe), Status> {
    let hub = gateway.sockets().hub();
    let all = conversations.is_empty();
    let mut progress = Progress { epoch: hub.epoch().await?.to_string(), ..Progress::default() };
    let named = match &since {
        Some(_) if all => memberships(&gateway, &connection).await?,
        _ => conversations,
    };
    if let Some(since) = &since {
        progress.epoch.clone_from(&since.epoch);
        progress.user = since.user;
    }
    let known = |id: &ConversationId| since.as_ref().and_then(|since| since.of(*id));
    for (id, sequence) in named.iter().filter_map(|id| known(id).map(|sequence| (*id, sequence))) {
        progress.set(id, sequence);
    }
    let (known, new): (Vec<_>, Vec<_>) = named.into_iter().partition(|id| progress.of(*id).is_some());
    let mut heads: Vec<_> = known.into_iter().filter_map(|id| Some((id, progress.of(id)?))).collect();
    if !all && !new.is_empty() {
        // Named, and not followed until now: from now on.
        let keys: Vec<_> = new.iter().copied().map(Key::Conversation).collect();
        let present = hub.heads(&keys).await?;
        for id in new {
            let head = present.get(&Key::Conversation(id)).copied().unwrap_or(0);
            progress.set(id, head);
            heads.push((id, head));
        }
    }
    let head = |(id, sequence): (ConversationId, i64)| Head { conversation_id: id.to_string(), sequence };
    let subscribe = Subscribe {
        heads: heads.into_iter().map(head).collect(),
        all,
        epoch: progress.epoch.clone(),
        user_sequence: progress.user,
    };
    Ok((progress, subscribe))
}

/// In which conversations the user is.
async fn memberships(gateway: &Gateway, connection: &Connection) -> Result<Vec<ConversationId>, Status> {
    let clients = gateway.clients();
    let message = ListMembershipsRequest { user_id: connection.user_id().to_string(), known_version: 0 };
    let mut request = as_service(message, clients.credential(), None);
    request.set_timeout(gateway.config().request_timeout);
    let memberships = clients.conversations().list_memberships(request).await?.into_inner().memberships;
    Ok(memberships.iter().filter_map(|one| ConversationId::parse(&one.conversation_id).ok()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn progress_survives_being_written_and_read() {
        let mut progress = Progress { epoch: "e1".to_owned(), user: 300, ..Progress::default() };
        let (one, other) = (ConversationId::generate(), ConversationId::generate());
        progress.set(one, 1);
        progress.set(other, i64::MAX);
        let read = Progress::parse(progress.write().as_bytes()).expect("progress");
        assert_eq!(read, progress);
        assert_eq!((read.of(one), read.of(other)), (Some(1), Some(i64::MAX)));
        assert_eq!(read.of(ConversationId::generate()), None);
    }

    #[test]
    fn what_a_client_follows_is_read_from_its_request() {
        let id = ConversationId::generate();
        let wish = Wish::read(&format!("conversation_id={id}&conversation_id={id}"), &HeaderMap::new())
            .expect("a wish");
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

    proptest! {
        #[test]
        fn whatever_comes_as_an_id_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Progress::parse(&bytes);
            let encoded = URL_SAFE_NO_PAD.encode(&bytes);
            if let Some(progress) = Progress::parse(encoded.as_bytes()) {
                prop_assert_eq!(Progress::parse(progress.write().as_bytes()), Some(progress));
            }
        }
    }
}
