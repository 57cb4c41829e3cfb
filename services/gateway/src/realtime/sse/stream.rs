//! The stream of one client: frames in, lines of text out.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use chassis::transport::as_service;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use proto::conversation::v1::ListMembershipsRequest;
use proto::gateway::v1::server_frame::Frame as Said;
use proto::gateway::v1::{Subscribe, Subscribed};
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Head, user_event};
use tokio::time::Interval;
use tonic::Status;

use super::Wish;
use super::checkpoint::{Checkpoints, load};
use super::event_id::{EventId, Place};
use super::progress::{Progress, tail};
use crate::realtime::Realtime;
use crate::realtime::connection::End;
use crate::realtime::frame::Frame;
use crate::realtime::identity::StreamKey;
use crate::realtime::resume::gained_conversation;
use crate::realtime::subscriber::Subscriber;
use crate::realtime::topic::Key;

/// The time after which a stream without events sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The size from which on gathered text is sent, in bytes.
const CHUNK: usize = 16 * 1024;

/// The stream of one client.
pub(super) struct EventStream {
    realtime: Realtime,
    subscriber: Subscriber,
    user_id: UserId,
    conversations: Vec<ConversationId>,
    /// The key in the ids; only of a stream that was opened with a ticket.
    key: Option<StreamKey>,
    /// An id for a client that comes back before the first event.
    greeting: Option<String>,
    progress: Progress,
    checkpoints: Checkpoints,
    /// Finds the position to begin at.
    beginning: Option<BoxFuture<'static, Result<Beginning, Status>>>,
    heartbeat: Interval,
    /// True when positions cannot be stored: the remaining events have no id.
    broken: bool,
    over: bool,
}

/// The beginning of a stream.
enum Beginning {
    /// At this position, with this request.
    At(Box<Progress>, Subscribe),
    /// The positions that the client has named are gone.
    Lost,
}

impl EventStream {
    pub(super) fn new(
        realtime: Realtime,
        subscriber: Subscriber,
        user_id: UserId,
        key: Option<StreamKey>,
        wish: Wish,
    ) -> Self {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let greeting =
            key.clone().and_then(|key| EventId { key: Some(key), place: wish.since.clone() }.text());
        let mut stream = Self {
            checkpoints: Checkpoints::new(realtime.clone(), user_id),
            realtime,
            subscriber,
            user_id,
            conversations: wish.conversations,
            key,
            greeting,
            progress: Progress::default(),
            beginning: None,
            heartbeat,
            broken: false,
            over: false,
        };
        stream.begin(wish.since);
        stream
    }

    fn begin(&mut self, since: Option<Place>) {
        let (realtime, conversations) = (self.realtime.clone(), self.conversations.clone());
        self.checkpoints.reset();
        self.beginning = Some(begin(realtime, self.user_id, conversations, since).boxed());
    }

    /// Follows the logs that the client asked for once the beginning is known.
    fn poll_beginning(&mut self, cx: &mut Context<'_>) {
        let Some(beginning) = &mut self.beginning else { return };
        let Poll::Ready(begun) = beginning.poll_unpin(cx) else { return };
        self.beginning = None;
        let handle = self.subscriber.handle();
        let subscribed = match begun {
            Ok(Beginning::At(progress, request)) => {
                self.progress = *progress;
                handle.subscribe(request).map_err(Status::from)
            }
            Ok(Beginning::Lost) => {
                let full = Subscribed { full_sync_required: true, ..Subscribed::default() };
                handle.connection().push(Frame::push(Said::Subscribed(full)));
                Ok(())
            }
            Err(status) => Err(status),
        };
        if let Err(status) = subscribed {
            handle.fail(&status);
        }
    }

    /// Keeps the ids short. Returns true when the next frame may be taken.
    fn poll_checkpoints(&mut self, cx: &mut Context<'_>) -> bool {
        if self.broken {
            return true;
        }
        if let Err(status) = self.checkpoints.poll(&mut self.progress, cx) {
            self.broken = true;
            self.subscriber.handle().fail(&status);
        }
        self.broken || !self.progress.is_full()
    }

    /// Records a frame before it is written. Returns true when it advances the stream.
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
                    self.progress.follow(conversation, after);
                }
                if let Some(user_event::Payload::ConversationLost(lost)) = &event.payload
                    && let Ok(id) = ConversationId::parse(&lost.conversation_id)
                {
                    self.progress.forget(id);
                }
                true
            }
            Some(Said::Subscribed(subscribed)) if subscribed.full_sync_required => {
                // The client was told to begin anew; the stream does too, from now on.
                self.begin(None);
                false
            }
            Some(Said::Subscribed(subscribed)) => {
                for head in &subscribed.heads {
                    if let Ok(id) = ConversationId::parse(&head.conversation_id) {
                        self.progress.follow(id, head.sequence);
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
        if self.note(frame) && !self.progress.epoch.is_empty() && !self.broken {
            line(into, "id", &EventId::of(&self.progress, self.key.as_ref()));
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

    fn end(&mut self, end: End) {
        self.over = true;
        metrics::counter!("sockets_closed_total", "reason" => reason(end)).increment(1);
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
        if let Some(id) = self.greeting.take() {
            // Without data it is no event, and the client keeps the id.
            line(&mut chunk, "id", &id);
            chunk.push(b'\n');
        }
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            self.poll_beginning(cx);
            if !self.poll_checkpoints(cx) {
                // Waiting frames are not taken, and the client continues after the last id.
                if let Poll::Ready(end) = self.subscriber.handle().connection().poll_ended(cx) {
                    self.end(end);
                }
                break;
            }
            // Waiting frames leave together.
            match self.subscriber.poll_next(cx) {
                Poll::Ready(Ok(frame)) => {
                    self.write(&frame, &mut chunk);
                    if chunk.len() >= CHUNK {
                        break;
                    }
                }
                Poll::Ready(Err(end)) => {
                    self.end(end);
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

/// Returns the beginning of the stream, and its subscription.
async fn begin(
    realtime: Realtime,
    user_id: UserId,
    conversations: Vec<ConversationId>,
    since: Option<Place>,
) -> Result<Beginning, Status> {
    let hub = realtime.hub();
    let all = conversations.is_empty();
    let named = match &since {
        Some(_) if all => memberships(&realtime, user_id).await?,
        _ => conversations,
    };
    let mut progress = match since {
        None => Progress::at_start(hub.epoch().await?.to_string()),
        Some(since) => match resume(&realtime, user_id, since).await? {
            Some(progress) => progress,
            None => return Ok(Beginning::Lost),
        },
    };
    progress.restrict(&named.iter().copied().map(tail).collect::<HashSet<_>>());
    let (known, new): (Vec<_>, Vec<_>) = named.into_iter().partition(|id| progress.of(*id).is_some());
    let mut heads: Vec<_> = known.into_iter().filter_map(|id| Some((id, progress.of(id)?))).collect();
    if !all && !new.is_empty() {
        // Conversations that are named and were not followed until now: from now on.
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
    Ok(Beginning::At(Box::new(progress), subscribe))
}

/// Returns the progress of the id of an event; `None` when its checkpoint is gone.
async fn resume(realtime: &Realtime, user_id: UserId, since: Place) -> Result<Option<Progress>, Status> {
    let Place { epoch, user, checkpoint, changes } = since;
    let checkpoint = match checkpoint {
        None => None,
        Some(id) => match load(realtime, user_id, id).await? {
            None => return Ok(None),
            found => found,
        },
    };
    Ok(Some(Progress::new(epoch, user, checkpoint, changes)))
}

/// Returns the conversations of which the user is a member.
async fn memberships(realtime: &Realtime, user_id: UserId) -> Result<Vec<ConversationId>, Status> {
    let clients = realtime.upstream().clients();
    let message = ListMembershipsRequest { user_id: user_id.to_string(), known_version: 0 };
    let mut request = as_service(message, clients.credential(), None);
    request.set_timeout(realtime.config().request_timeout);
    let memberships = clients.conversations().list_memberships(request).await?.into_inner().memberships;
    Ok(memberships.iter().filter_map(|one| ConversationId::parse(&one.conversation_id).ok()).collect())
}
