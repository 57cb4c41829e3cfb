//! One connection of the canonical API: signs in, then reads commands and answers them over its [`Transport`].
//!
//! It is one task. Commands run beside the reading and the writing, so that a slow answer delays only later commands
//! about the same conversation ([`super::command_order`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ws::{Message, WebSocket};
use chassis::fault::Fault;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, ErrorReason};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::close::{Close, code};
use super::command_order::CommandOrder;
use super::commands::{Control, Done, Job, Lane};
use super::hello::await_hello;
use super::transport::{Outgoing, Received, Transport};
use crate::realtime::Realtime;
use crate::realtime::connection::{Connection, End};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::frame_json as json;
use crate::realtime::identity::{Identity, SignedIn};
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::resume::gained_conversation;

/// The maximum number of commands of one connection in progress or waiting. At the maximum, no frame is read.
const UNDER_WAY: usize = 64;

/// Serves one connection until it ends. `who` is known if the upgrade request carried a token.
pub(super) async fn run(realtime: Realtime, socket: WebSocket, slot: ConnectionSlot, who: Option<SignedIn>) {
    let mut transport = Transport::new(socket, realtime.shared_config());
    let patience = realtime.config().sockets.hello_timeout;
    // Boxed, because it ends soon and takes more memory than the rest.
    let signed_in =
        Box::pin(tokio::time::timeout(patience, await_hello(&realtime, &mut transport, &slot, who))).await;
    let signed_in = signed_in.unwrap_or(Err(Some(Close::new(code::NO_HELLO, "no_hello"))));
    let session = match signed_in {
        Ok((connection, identity, format)) => Session::new(realtime, connection, identity, format, &slot),
        Err(Some(close)) => return Box::pin(transport.close(Some(close), last_frame(Format::Text))).await,
        Err(None) => return,
    };
    let format = session.format;
    let close = session.serve(&mut transport).await;
    Box::pin(transport.close(close, last_frame(format))).await;
}

/// Encodes the reason for which a connection is closed.
fn last_frame(format: Format) -> impl FnOnce(&Status) -> Option<Message> {
    move |status| Frame::error(String::new(), status).message(format)
}

pub(super) fn decode(received: &Received) -> Result<ClientFrame, Fault> {
    match received {
        Received::Text(text) => json::read(text.as_bytes()),
        Received::Binary(bytes) => ClientFrame::decode(bytes.as_ref()).map_err(|error| {
            Fault::new(Code::InvalidArgument, ErrorReason::InvalidField.as_str_name())
                .message(format!("the frame cannot be read: {error}"))
        }),
    }
}

/// The events that wake the connection.
enum Step {
    Heard(Received),
    Done(Done),
    Tick,
    Over(Option<Close>),
}

pub(super) struct Session {
    pub(super) realtime: Realtime,
    pub(super) connection: Arc<Connection>,
    pub(super) identity: Arc<Identity>,
    pub(super) address: std::net::IpAddr,
    pub(super) format: Format,
    pub(super) under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) lanes: CommandOrder<Lane, (String, Job)>,
    pub(super) waiting: usize,
    pub(super) controls: VecDeque<Control>,
    pub(super) controlling: bool,
    pub(super) commands: u32,
    pub(super) counted_since: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.end(End::Gone);
        self.realtime.hub().leave(&self.connection);
    }
}

impl Session {
    fn new(
        realtime: Realtime,
        connection: Arc<Connection>,
        identity: Arc<Identity>,
        format: Format,
        slot: &ConnectionSlot,
    ) -> Self {
        Self {
            realtime,
            connection,
            identity,
            address: slot.address(),
            format,
            under_way: FuturesUnordered::new(),
            lanes: CommandOrder::new(),
            waiting: 0,
            controls: VecDeque::new(),
            controlling: false,
            commands: 0,
            counted_since: Instant::now(),
        }
    }

    /// Runs until the connection ends. Returns the close to send; `None` when the client is gone.
    async fn serve(mut self, transport: &mut Transport) -> Option<Close> {
        loop {
            let step = std::future::poll_fn(|cx| self.poll_step(transport, cx)).await;
            let outcome = match step {
                Step::Heard(received) => self.hear(&received),
                Step::Done(done) => {
                    self.done(done);
                    Ok(())
                }
                Step::Tick => Ok(()),
                Step::Over(close) => return close,
            };
            if let Err(close) = outcome {
                return close;
            }
        }
    }

    fn poll_step(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(over) = transport.poll_write(self, cx) {
            return Poll::Ready(Step::Over(over));
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
            && let Poll::Ready(received) = transport.poll_receive(cx)
        {
            return Poll::Ready(received.map_or_else(Step::Over, Step::Heard));
        }
        transport.poll_timer(cx).map(|outcome| outcome.map_or_else(Step::Over, |()| Step::Tick))
    }

    /// Follows conversations that the user joins, on a connection that follows all.
    fn look_at(&mut self, frame: &Frame) {
        if let Some(Body::UserEvent(event)) = frame.body()
            && self.connection.follows_all()
            && let Some((conversation, after)) = gained_conversation(event)
        {
            self.control(Control::Gained(conversation, after));
        }
    }

    fn hear(&mut self, received: &Received) -> Result<(), Option<Close>> {
        match decode(received) {
            Ok(ClientFrame { id, command }) => self.command(id, command).map_err(Some),
            // An invalid command with an id is answered: only the command is invalid, not the connection.
            Err(fault) => match id_of(received) {
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

impl Outgoing for Session {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, End>> {
        let next = self.connection.poll_next(cx);
        next.map_ok(|frame| {
            self.look_at(&frame);
            frame.message(self.format)
        })
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.connection.poll_ended(cx)
    }
}

/// Returns the id of an otherwise invalid frame.
fn id_of(received: &Received) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    match received {
        Received::Text(text) => {
            let Named { id } = serde_json::from_str(text).ok()?;
            (!id.is_empty() && id.chars().count() <= 64).then_some(id)
        }
        Received::Binary(_) => None,
    }
}
