//! `GET /v1/events`: what the socket pushes, as server-sent events, for clients that cannot open a WebSocket.
//!
//! Each event's `data` is the same `ServerFrame` that the socket would send, its `event` is the kind of frame, and its
//! `id` says how far the stream has come in every log that it follows. A client that sends it back as `Last-Event-ID`
//! gets everything after it, on any gateway ([`Progress`]). A stream whose client is too slow ends; the client comes
//! back in the same way.

mod progress;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRef, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use chassis::transport::as_service;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use http::header::{self, HeaderValue};
use http::{HeaderMap, HeaderName};
use proto::conversation::v1::ListMembershipsRequest;
use proto::gateway::v1::Subscribe;
use proto::gateway::v1::server_frame::Frame as Said;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Head, user_event};
use tokio::time::Interval;
use tonic::Status;

use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::realtime::Realtime;
use crate::realtime::connection::End;
use crate::realtime::frame::{Format, Frame};
use crate::realtime::handshake::admit;
use crate::realtime::resume::gained_conversation;
use crate::realtime::subscriber::Subscriber;
use crate::realtime::topic::Key;
use progress::{Progress, tail};

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
pub(crate) fn router<S>() -> axum::Router<S>
where
    S: Clone + Send + Sync + 'static,
    Realtime: FromRef<S>,
{
    axum::Router::new().route("/v1/events", get(open))
}

/// Opens a stream, or says why not.
async fn open(
    State(realtime): State<Realtime>,
    address: Option<Extension<ClientAddress>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (slot, who) = admit(&realtime, address, query.as_deref(), &headers).await?;
    let who = who.ok_or_else(unauthenticated)?;
    let wish = Wish::read(query.as_deref().unwrap_or_default(), &headers)?;
    let user_id = who.user_id;
    let subscriber = Subscriber::of_user(&realtime, &slot, who, Format::Text).await?;

    let stream = EventStream::new(realtime, subscriber, user_id, wish);
    let mut response = Body::from_stream(stream).into_response();
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

/// The stream of one client.
struct EventStream {
    realtime: Realtime,
    subscriber: Subscriber,
    user_id: UserId,
    conversations: Vec<ConversationId>,
    progress: Progress,
    /// Looks where to begin.
    beginning: Option<BoxFuture<'static, Result<(Progress, Subscribe), Status>>>,
    heartbeat: Interval,
    over: bool,
}

impl EventStream {
    fn new(realtime: Realtime, subscriber: Subscriber, user_id: UserId, wish: Wish) -> Self {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stream = Self {
            realtime,
            subscriber,
            user_id,
            conversations: wish.conversations,
            progress: Progress::default(),
            beginning: None,
            heartbeat,
            over: false,
        };
        stream.begin(wish.since);
        stream
    }

    fn begin(&mut self, since: Option<Progress>) {
        let (realtime, conversations) = (self.realtime.clone(), self.conversations.clone());
        self.beginning = Some(begin(realtime, self.user_id, conversations, since).boxed());
    }

    /// Follows what the client asked for once it is known where to begin.
    fn poll_beginning(&mut self, cx: &mut Context<'_>) {
        let Some(beginning) = &mut self.beginning else { return };
        let Poll::Ready(begun) = beginning.poll_unpin(cx) else { return };
        self.beginning = None;
        let handle = self.subscriber.handle();
        let subscribed = begun.and_then(|(progress, request)| {
            self.progress = progress;
            handle.subscribe(request).map_err(Status::from)
        });
        if let Err(status) = subscribed {
            handle.fail(&status);
        }
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
                    && self.subscriber.handle().connection().follows_all()
                {
                    self.progress.conversations.entry(tail(conversation)).or_insert(after);
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

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut chunk = Vec::new();
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            self.poll_beginning(cx);
            // What waits leaves together.
            match self.subscriber.poll_next(cx) {
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
    realtime: Realtime,
    user_id: UserId,
    conversations: Vec<ConversationId>,
    since: Option<Progress>,
) -> Result<(Progress, Subscribe), Status> {
    let hub = realtime.hub();
    let all = conversations.is_empty();
    let mut progress = Progress { epoch: hub.epoch().await?.to_string(), ..Progress::default() };
    let named = match &since {
        Some(_) if all => memberships(&realtime, user_id).await?,
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
async fn memberships(realtime: &Realtime, user_id: UserId) -> Result<Vec<ConversationId>, Status> {
    let clients = realtime.upstream().clients();
    let message = ListMembershipsRequest { user_id: user_id.to_string(), known_version: 0 };
    let mut request = as_service(message, clients.credential(), None);
    request.set_timeout(realtime.config().request_timeout);
    let memberships = clients.conversations().list_memberships(request).await?.into_inner().memberships;
    Ok(memberships.iter().filter_map(|one| ConversationId::parse(&one.conversation_id).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
