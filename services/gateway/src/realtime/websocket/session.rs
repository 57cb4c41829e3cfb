//! One connection: signs in, reads commands, writes what waits, pings, closes.
//!
//! It is one task and holds no buffers while it is idle. Frames that wait leave together: all are handed to the socket,
//! then it is flushed once. Commands run beside the reading and the writing, so that a slow answer holds up nothing but
//! what comes after it in the same conversation ([`super::command_order`]).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use chassis::fault::Fault;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use metrics::Counter;
use prost::Message as _;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, ErrorReason};
use tokio::time::{Instant, Sleep};
use tonic::Code;

use super::close::{CLOSE_TIMEOUT, Close, close_handshake, close_of, code};
use super::command_order::CommandOrder;
use super::commands::{Control, Done, Job, Lane};
use super::hello::await_hello;
use crate::realtime::Realtime;
use crate::realtime::connection::{Connection, End, SignedIn};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::frame_json as json;
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::resume::gained_conversation;

/// How many commands of one connection may be under way or wait. While there are more, nothing is read.
const UNDER_WAY: usize = 64;

/// How long a client may take nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(10);

/// Serves one connection until it is over. `who` is known when the upgrade request carried a token.
pub(in crate::realtime) async fn run(
    realtime: Realtime,
    mut socket: WebSocket,
    mut slot: ConnectionSlot,
    who: Option<SignedIn>,
) {
    let patience = realtime.config().sockets.hello_timeout;
    // In a box, because it is over soon and takes more room than all that follows.
    let signed_in =
        Box::pin(tokio::time::timeout(patience, await_hello(&realtime, &mut socket, &mut slot, who))).await;
    let signed_in = signed_in.unwrap_or(Err(Some(Close::new(code::NO_HELLO, "no_hello"))));
    let session = match signed_in {
        Ok((connection, format)) => Session::new(realtime, connection, format, &slot),
        Err(Some(close)) => return Box::pin(close_handshake(&mut socket, Format::Text, close)).await,
        Err(None) => return,
    };
    let format = session.format;
    match session.serve(&mut socket).await {
        Some(close) => Box::pin(close_handshake(&mut socket, format, close)).await,
        // Confirms the client's own close, when it was one.
        None => drop(tokio::time::timeout(CLOSE_TIMEOUT, socket.flush()).await),
    }
}

pub(super) fn decode(format: Format, bytes: &[u8]) -> Result<ClientFrame, Fault> {
    match format {
        Format::Text => json::read(bytes),
        Format::Binary => ClientFrame::decode(bytes).map_err(|error| {
            Fault::new(Code::InvalidArgument, ErrorReason::InvalidField.as_str_name())
                .message(format!("the frame cannot be read: {error}"))
        }),
    }
}

/// What the connection wakes up for.
enum Step {
    Heard(Message),
    Done(Done),
    Tick,
    Over(Option<Close>),
}

pub(super) struct Session {
    pub(super) realtime: Realtime,
    pub(super) connection: Arc<Connection>,
    pub(super) address: std::net::IpAddr,
    pub(super) format: Format,
    pub(super) under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) lanes: CommandOrder<Lane, (String, Job)>,
    pub(super) waiting: usize,
    pub(super) controls: VecDeque<Control>,
    pub(super) controlling: bool,
    pub(super) commands: u32,
    pub(super) counted_since: Instant,
    pub(super) heard_at: Instant,
    pub(super) pinged_at: Instant,
    /// Whether something has been handed to the socket and not flushed.
    pub(super) unflushed: bool,
    /// Since when the client has taken nothing.
    pub(super) stalled_since: Option<Instant>,
    pub(super) frames_in: Counter,
    pub(super) frames_out: Counter,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.end(End::Gone);
        self.realtime.hub().leave(&self.connection);
    }
}

impl Session {
    fn new(realtime: Realtime, connection: Arc<Connection>, format: Format, slot: &ConnectionSlot) -> Self {
        let now = Instant::now();
        Self {
            realtime,
            connection,
            address: slot.address(),
            format,
            under_way: FuturesUnordered::new(),
            lanes: CommandOrder::new(),
            waiting: 0,
            controls: VecDeque::new(),
            controlling: false,
            commands: 0,
            counted_since: now,
            heard_at: now,
            pinged_at: now,
            unflushed: false,
            stalled_since: None,
            frames_in: metrics::counter!("socket_frames_total", "direction" => "in"),
            frames_out: metrics::counter!("socket_frames_total", "direction" => "out"),
        }
    }

    /// Runs until the connection is over. Says how to close it; nothing when the client has gone.
    async fn serve(mut self, socket: &mut WebSocket) -> Option<Close> {
        let mut timer = pin!(tokio::time::sleep_until(self.next_tick()));
        loop {
            let step = std::future::poll_fn(|cx| self.poll_step(socket, timer.as_mut(), cx)).await;
            let outcome = match step {
                Step::Heard(message) => self.hear(message),
                Step::Done(done) => {
                    self.done(done);
                    Ok(())
                }
                Step::Tick => {
                    let outcome = self.tick(socket);
                    timer.as_mut().reset(self.next_tick());
                    outcome
                }
                Step::Over(close) => return close,
            };
            if let Err(close) = outcome {
                return close;
            }
        }
    }

    fn poll_step(
        &mut self,
        socket: &mut WebSocket,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Step> {
        let was_stalled = self.stalled_since.is_some();
        if let Poll::Ready(over) = self.poll_write(socket, cx) {
            return Poll::Ready(Step::Over(over));
        }
        if !was_stalled && self.stalled_since.is_some() {
            timer.as_mut().reset(self.next_tick());
        }
        if !self.under_way.is_empty()
            && let Poll::Ready(Some(done)) = self.under_way.poll_next_unpin(cx)
        {
            return Poll::Ready(Step::Done(done));
        }
        if self.connection.is_draining() {
            if self.is_at_rest() {
                let retry_after = self.realtime.reconnect_delay(self.connection.number());
                // Wakes this very task.
                self.connection.end(End::Restart { retry_after });
            }
        } else if self.under_way.len() + self.waiting < UNDER_WAY
            && let Poll::Ready(message) = Pin::new(&mut *socket).poll_next(cx)
        {
            return Poll::Ready(match message {
                Some(Ok(message)) => Step::Heard(message),
                Some(Err(error)) => Step::Over(close_of(&error)),
                None => Step::Over(None),
            });
        }
        timer.poll(cx).map(|()| Step::Tick)
    }

    /// Writes what waits. Ready only when the connection is over.
    fn poll_write(&mut self, socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<Option<Close>> {
        let mut socket = Pin::new(socket);
        loop {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return self.stall(cx),
            }
            match self.connection.poll_next(cx) {
                Poll::Ready(Ok(frame)) => {
                    self.look_at(&frame);
                    if socket.as_mut().start_send(frame.message(self.format)).is_err() {
                        return Poll::Ready(None);
                    }
                    self.frames_out.increment(1);
                    self.unflushed = true;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(end)) => return Poll::Ready(Some(end.into())),
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            match socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return self.stall(cx),
            }
        }
        Poll::Pending
    }

    /// The client takes nothing at the moment; the queue fills up, and may overflow meanwhile.
    fn stall(&mut self, cx: &mut Context<'_>) -> Poll<Option<Close>> {
        self.stalled_since.get_or_insert_with(Instant::now);
        match self.connection.poll_ended(cx) {
            Poll::Ready(end @ (End::TooSlow | End::SignedOut)) => Poll::Ready(Some(end.into())),
            // What waits is written before it goes.
            Poll::Ready(End::Restart { .. } | End::Gone) | Poll::Pending => Poll::Pending,
        }
    }

    /// One who follows all follows what it comes into.
    fn look_at(&mut self, frame: &Frame) {
        if let Some(Body::UserEvent(event)) = frame.body()
            && self.connection.follows_all()
            && let Some((conversation, after)) = gained_conversation(event)
        {
            self.control(Control::Gained(conversation, after));
        }
    }

    fn next_tick(&self) -> Instant {
        let config = &self.realtime.config().sockets;
        let next = (self.pinged_at + config.ping_interval).min(self.heard_at + config.idle_timeout);
        self.stalled_since.map_or(next, |since| next.min(since + STALLED))
    }

    fn tick(&mut self, socket: &mut WebSocket) -> Result<(), Option<Close>> {
        let (now, config) = (Instant::now(), &self.realtime.config().sockets);
        if self.stalled_since.is_some_and(|since| now >= since + STALLED) {
            return Err(Some(End::TooSlow.into()));
        }
        if now >= self.heard_at + config.idle_timeout {
            return Err(Some(End::Gone.into()));
        }
        if now >= self.pinged_at + config.ping_interval {
            self.pinged_at = now;
            // One that is stalled has enough to read already.
            if self.stalled_since.is_none() {
                Pin::new(socket).start_send(Message::Ping(Bytes::new())).map_err(|_| None)?;
                self.unflushed = true;
            }
        }
        Ok(())
    }

    fn hear(&mut self, message: Message) -> Result<(), Option<Close>> {
        self.heard_at = Instant::now();
        let (bytes, format) = match message {
            Message::Text(text) => (Bytes::from(text), Format::Text),
            Message::Binary(bytes) => (bytes, Format::Binary),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(None),
        };
        self.frames_in.increment(1);
        match decode(format, &bytes) {
            Ok(ClientFrame { id, command }) => self.command(id, command).map_err(Some),
            // What can be answered is answered: only the command is wrong, not the connection.
            Err(fault) => match id_of(format, &bytes) {
                Some(id) => {
                    self.count()?;
                    self.refuse(id, fault);
                    Ok(())
                }
                None => Err(Some(Close::saying(code::NO_FRAME, "not_a_frame", fault))),
            },
        }
    }
}

/// The id of a frame that is wrong otherwise.
fn id_of(format: Format, bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    match format {
        Format::Text => {
            let Named { id } = serde_json::from_slice(bytes).ok()?;
            (!id.is_empty() && id.chars().count() <= 64).then_some(id)
        }
        Format::Binary => None,
    }
}
