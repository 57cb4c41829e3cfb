//! One socket: reads frames, executes actions one after the other, and pushes events.
//!
//! It is one task. At most one action and one translation of an event are in progress, so that answers come in the
//! order of the requests, and pushes in the order of the events. Further events wait in the view of the user, whose
//! queue is bounded: a client that is too slow for it is disconnected.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use chassis::fault::Fault;
use chassis::trace;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proto::gateway::v1::ErrorReason;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::actions::{self, Outcome};
use super::arrival;
use super::calls::Calls;
use super::frame::{self, Request};
use super::push::{self, Delivered, Pushed};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::talkamie::envelope::Reply;
use crate::dialects::talkamie::session::Session;
use crate::http::error::Problem;
use crate::realtime::connection::End;
use crate::realtime::frame::{Format, Frame};
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::subscriber::Subscriber;
use crate::realtime::websocket::close::{Close, code};
use crate::realtime::websocket::transport::{Outgoing, Received, Transport};

/// The longest time for a client to sign in.
const TO_AUTHENTICATE: Duration = Duration::from_secs(30);

/// The maximum number of waiting actions. At the maximum, no frame is read.
const WAITING_ACTIONS: usize = 64;

/// The maximum number of frames that wait to be written. At the maximum, no event is translated.
const WAITING_FRAMES: usize = 64;

/// The period in which commands are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The time after which a client comes back when an event could not be translated.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One socket.
pub(super) struct Connection {
    dialects: Dialects,
    slot: ConnectionSlot,
    /// The view of the user; until the client has signed in, one that follows nothing.
    view: Subscriber,
    /// The frames of the view from the time before the client had signed in.
    frames: VecDeque<Arc<Frame>>,
    calls: Arc<Calls>,
    signing_in_ends: Option<Pin<Box<Sleep>>>,
    requests: VecDeque<Request>,
    action: Option<BoxFuture<'static, Outcome>>,
    translation: Option<BoxFuture<'static, Result<Pushed, Problem>>>,
    /// The message that counts as delivered once it is written.
    delivered: Option<Delivered>,
    outbox: VecDeque<Message>,
    ended: Option<End>,
    commands: u32,
    counted_since: Instant,
}

impl Connection {
    /// Serves a socket until it ends.
    pub(super) async fn serve(dialects: Dialects, socket: WebSocket, slot: ConnectionSlot) {
        let mut transport = Transport::new(socket, dialects.realtime.shared_config());
        let close = match Subscriber::anonymous(&dialects.realtime, &slot, Format::Text) {
            Ok(view) => {
                let mut connection = Self::new(dialects, slot, view);
                std::future::poll_fn(|cx| connection.poll(&mut transport, cx)).await
            }
            Err(fault) => Some(Close::saying(code::RESTART, "unavailable", fault)),
        };
        let last = |status: &Status| Some(frame::error(None, &Problem::from(status)));
        transport.close(close, last).await;
    }

    fn new(dialects: Dialects, slot: ConnectionSlot, view: Subscriber) -> Self {
        Self {
            dialects,
            slot,
            view,
            frames: VecDeque::new(),
            calls: Arc::new(Calls::default()),
            signing_in_ends: Some(Box::pin(tokio::time::sleep(TO_AUTHENTICATE))),
            requests: VecDeque::new(),
            action: None,
            translation: None,
            delivered: None,
            outbox: VecDeque::new(),
            ended: None,
            commands: 0,
            counted_since: Instant::now(),
        }
    }

    /// Runs until the connection is over. Ready with the close to send; `None` when the client is gone.
    fn poll(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<Option<Close>> {
        loop {
            if let Poll::Ready(close) = transport.poll_write(self, cx) {
                return Poll::Ready(close);
            }
            if self.poll_action(cx) || self.poll_translation(cx) || self.poll_view(cx) {
                continue;
            }
            if self.reads()
                && let Poll::Ready(received) = transport.poll_receive(cx)
            {
                match received.and_then(|received| self.hear(&received).map_err(Some)) {
                    Ok(()) => continue,
                    Err(close) => return Poll::Ready(close),
                }
            }
            if let Some(end) = &mut self.signing_in_ends
                && end.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Some(Close::new(code::NO_HELLO, "no_hello")));
            }
            match transport.poll_timer(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(close)) => return Poll::Ready(close),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn reads(&self) -> bool {
        self.ended.is_none() && self.requests.len() < WAITING_ACTIONS && self.outbox.len() < WAITING_FRAMES
    }

    /// Starts and ends actions. True when something has changed.
    fn poll_action(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(action) = &mut self.action else {
            let Some(request) = self.requests.pop_front() else { return false };
            self.action = Some(self.begin(request));
            return true;
        };
        let Poll::Ready(outcome) = action.poll_unpin(cx) else { return false };
        self.action = None;
        match outcome {
            Outcome::Answered(message) => self.outbox.extend(message),
            Outcome::SignedIn(signed_in, message) => {
                self.view = signed_in.view;
                self.frames = signed_in.frames;
                self.signing_in_ends = None;
                self.outbox.push_back(message);
                if let Some(session) = self.session() {
                    self.translation = Some(arrival::arrive(session, Arc::clone(&self.calls)).boxed());
                }
            }
        }
        true
    }

    fn begin(&self, request: Request) -> BoxFuture<'static, Outcome> {
        let answered = |message| std::future::ready(Outcome::Answered(Some(message))).boxed();
        match (request.action.as_str(), self.session()) {
            ("ping", _) => answered(frame::reply("ping", Reply::done())),
            ("authenticate", None) => {
                let work = actions::authenticate(self.dialects.clone(), self.slot.clone(), request);
                trace::begin("talkamie", work).boxed()
            }
            (action, None) => {
                let fault = chassis::caller::unauthenticated().message("send `authenticate` first");
                answered(frame::error(Some(action), &fault.into()))
            }
            (_, Some(session)) => {
                let work = actions::perform(session, Arc::clone(&self.calls), request);
                trace::begin("talkamie", work).boxed()
            }
        }
    }

    /// Ends translations. True when something has changed.
    fn poll_translation(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(translation) = &mut self.translation else { return false };
        let Poll::Ready(outcome) = translation.poll_unpin(cx) else { return false };
        self.translation = None;
        match outcome {
            Ok(pushed) => {
                self.outbox.extend(pushed.frames.into_iter().map(|(action, data)| frame::push(action, data)));
                self.delivered = pushed.delivered;
            }
            // Deleted or unreadable in the meantime.
            Err(problem) if matches!(problem.fault().code(), Code::NotFound | Code::PermissionDenied) => {}
            Err(problem) => {
                let code = problem.fault().code();
                tracing::warn!(?code, "an event cannot be translated: {}", problem.fault().text());
                self.view.handle().connection().end(End::Restart { retry_after: RETRY_AFTER });
            }
        }
        true
    }

    /// Takes the next event, if the one before is translated. True when something has changed.
    fn poll_view(&mut self, cx: &mut Context<'_>) -> bool {
        if self.translation.is_some() || self.ended.is_some() || self.outbox.len() >= WAITING_FRAMES {
            return false;
        }
        if self.outbox.is_empty()
            && let Some(delivered) = self.delivered.take()
            && let Some(session) = self.session()
        {
            self.translation = Some(push::deliver(session, delivered).boxed());
            return true;
        }
        let next = match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Ok(frame)),
            None => self.view.poll_next(cx),
        };
        match next {
            Poll::Ready(Ok(frame)) => {
                if let Some(session) = self.session() {
                    let calls = Arc::clone(&self.calls);
                    self.translation = Some(push::translate(session, calls, frame).boxed());
                }
                true
            }
            Poll::Ready(Err(end)) => {
                self.ended = Some(end);
                true
            }
            Poll::Pending => false,
        }
    }

    /// Returns the session of the user with its current token; `None` until the client has signed in.
    fn session(&self) -> Option<Session> {
        let identity = self.view.handle().identity()?;
        let actor = Actor {
            user_id: identity.user_id(),
            session_id: Some(identity.session_id()),
            token: identity.token(),
            address: self.slot.address(),
        };
        Some(Session { dialects: self.dialects.clone(), actor, zone: None })
    }

    /// Takes a frame of the client. A malformed one is answered and has no other effect.
    fn hear(&mut self, received: &Received) -> Result<(), Close> {
        match Request::read(received) {
            Ok(request) => {
                // Sends have limits of their own.
                if request.action != "send-message" {
                    self.count()?;
                }
                self.requests.push_back(request);
            }
            Err(malformed) => {
                self.count()?;
                self.outbox.push_back(frame::error(malformed.action.as_deref(), &malformed.fault.into()));
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Close> {
        if self.counted_since.elapsed() >= MINUTE {
            self.counted_since = Instant::now();
            self.commands = 0;
        }
        self.commands += 1;
        if self.commands <= self.dialects.realtime.config().sockets.commands_per_minute {
            return Ok(());
        }
        let fault = Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
            .message("too many commands")
            .with("limit", "socket_commands")
            .retry_after(MINUTE.saturating_sub(self.counted_since.elapsed()));
        Err(Close::saying(code::TOO_MANY_COMMANDS, "too_many_commands", fault))
    }
}

impl Outgoing for Connection {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Message>, End>> {
        if let Some(message) = self.outbox.pop_front() {
            return Poll::Ready(Ok(Some(message)));
        }
        match self.ended {
            // Earlier requests are still answered.
            Some(End::Restart { .. }) if self.action.is_some() || !self.requests.is_empty() => Poll::Pending,
            Some(end) => Poll::Ready(Err(end)),
            None => Poll::Pending,
        }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.view.handle().connection().poll_ended(cx)
    }
}
