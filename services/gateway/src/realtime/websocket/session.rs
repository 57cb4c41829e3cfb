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

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use chassis::fault::Fault;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use metrics::Counter;
use prost::Message as _;
use proto::Incoming;
use proto::gateway::v1::client_frame::Command;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, ErrorReason, Hello, Pong, Ready, Subscribe, Unsubscribed};
use proto::id::{CallId, ConversationId};
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{AdvanceWatermarkRequest, SendMessageRequest, SendSignalRequest};
use proto::rate::{RateClass, RatedRequest as _};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::command_order::Lanes;
use super::rpc_command as call;
use crate::realtime::connection::{Connection, End, SignedIn, proto_duration};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::frame_json as json;
use crate::realtime::registry::Place;
use crate::realtime::resume::{Resume, gained_conversation};
use crate::realtime::session_watch::sign_in;
use crate::state::Gateway;
use crate::upstream::clients::OnBehalf;

/// A first frame has at most so many bytes.
const MAX_HELLO: usize = 4 * 1024;

/// How many commands of one connection may be under way or wait. While there are more, nothing is read.
const UNDER_WAY: usize = 64;

/// How many `subscribe` and the like may wait for the one under way.
const CONTROLS: usize = 16;

/// How long a client may take nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(10);

/// How long the client may take to take in a close, and to answer it.
const FAREWELL: Duration = Duration::from_secs(1);

/// The same for a client that is slow: what was written before has to leave first.
const SLOW_FAREWELL: Duration = Duration::from_secs(10);

/// In which time commands are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The close codes of the contract.
mod code {
    pub(super) const GONE: u16 = 1001;
    pub(super) const TOO_LARGE: u16 = 1009;
    pub(super) const RESTART: u16 = 1012;
    pub(super) const NO_HELLO: u16 = 4001;
    pub(super) const TOO_SLOW: u16 = 4008;
    pub(super) const TOO_MANY_COMMANDS: u16 = 4029;
    pub(super) const NO_FRAME: u16 = 4400;
    pub(super) const NOT_SIGNED_IN: u16 = 4401;
}

/// Why and how a connection is closed.
#[derive(Debug)]
struct Close {
    code: u16,
    why: &'static str,
    /// Said before it is closed.
    error: Option<Status>,
}

impl Close {
    const fn new(code: u16, why: &'static str) -> Self {
        Self { code, why, error: None }
    }

    fn saying(code: u16, why: &'static str, error: impl Into<Status>) -> Self {
        Self { code, why, error: Some(error.into()) }
    }
}

impl From<End> for Close {
    fn from(end: End) -> Self {
        match end {
            End::TooSlow => Self::new(code::TOO_SLOW, "slow_consumer"),
            End::SignedOut => Self::new(code::NOT_SIGNED_IN, "signed_out"),
            End::Restart { .. } => Self::new(code::RESTART, "restart"),
            End::Gone => Self::new(code::GONE, "gone"),
        }
    }
}

/// Serves one connection until it is over. `who` is known when the upgrade request carried a token.
pub(in crate::realtime) async fn run(
    gateway: Gateway,
    mut socket: WebSocket,
    mut place: Place,
    who: Option<SignedIn>,
) {
    let patience = gateway.config().sockets.hello_timeout;
    // In a box, because it is over soon and takes more room than all that follows.
    let greeted =
        Box::pin(tokio::time::timeout(patience, greet(&gateway, &mut socket, &mut place, who))).await;
    let greeted = greeted.unwrap_or(Err(Some(Close::new(code::NO_HELLO, "no_hello"))));
    let session = match greeted {
        Ok((connection, format)) => Session::new(gateway, connection, format, &place),
        Err(Some(close)) => return Box::pin(farewell(&mut socket, Format::Text, close)).await,
        Err(None) => return,
    };
    let format = session.format;
    match session.serve(&mut socket).await {
        Some(close) => Box::pin(farewell(&mut socket, format, close)).await,
        // Confirms the client's own close, when it was one.
        None => drop(tokio::time::timeout(FAREWELL, socket.flush()).await),
    }
}

/// Waits for the hello. `Err(None)` when the client has gone.
async fn greet(
    gateway: &Gateway,
    socket: &mut WebSocket,
    place: &mut Place,
    who: Option<SignedIn>,
) -> Result<(Arc<Connection>, Format), Option<Close>> {
    let (bytes, format) = loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => break (Bytes::from(text), Format::Text),
            Some(Ok(Message::Binary(bytes))) => break (bytes, Format::Binary),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Err(None),
            Some(Err(error)) => return Err(close_of(&error)),
        }
    };
    if bytes.len() > MAX_HELLO {
        return Err(Some(Close::new(code::TOO_LARGE, "hello_too_large")));
    }
    let frame =
        decode(format, &bytes).map_err(|fault| Close::saying(code::NO_FRAME, "not_a_frame", fault))?;
    let (id, hello) = match frame {
        ClientFrame { id, command: Some(Command::Hello(hello)) } => (id, hello),
        _ => {
            let fault = Fault::invalid("command", "must be `hello` in the first frame");
            return Err(Some(Close::saying(code::NO_FRAME, "not_a_hello", fault)));
        }
    };
    let refuse = |status: Status| match status.code() {
        Code::Unauthenticated => Close::saying(code::NOT_SIGNED_IN, "not_signed_in", status),
        Code::ResourceExhausted => Close::saying(code::TOO_MANY_COMMANDS, "too_many_connections", status),
        // Nothing is wrong with the client: it comes back.
        _ => Close::saying(code::RESTART, "unavailable", status),
    };
    let who = match who {
        Some(who) if hello.session_token.is_empty() => who,
        _ => sign_in(gateway.clients(), &hello.session_token).await.map_err(refuse)?,
    };
    let epoch = gateway.sockets().hub().epoch().await.map_err(refuse)?;
    let ready = ready(gateway, &who, &epoch);
    let connection = gateway.sockets().connect(place, who, format, &gateway.config().sockets);
    let connection = connection.map_err(|fault| refuse(fault.into()))?;
    // Before it is ready: who asks for the active call then misses none.
    gateway.sockets().calls().hear(connection.user_id()).await;
    connection.push(Frame::reply(id, Body::Ready(ready)));
    Ok((connection, format))
}

fn ready(gateway: &Gateway, who: &SignedIn, epoch: &str) -> Ready {
    Ready {
        user_id: who.user_id.to_string(),
        session_id: who.session_id.to_string(),
        epoch: epoch.to_owned(),
        ping_interval: Some(proto_duration(gateway.config().sockets.ping_interval)),
    }
}

fn decode(format: Format, bytes: &[u8]) -> Result<ClientFrame, Fault> {
    match format {
        Format::Text => json::read(bytes),
        Format::Binary => ClientFrame::decode(bytes).map_err(|error| {
            Fault::new(Code::InvalidArgument, ErrorReason::InvalidField.as_str_name())
                .message(format!("the frame cannot be read: {error}"))
        }),
    }
}

/// How to answer an error of the socket; nothing when there is nobody to answer.
fn close_of(error: &axum::Error) -> Option<Close> {
    use tokio_tungstenite::tungstenite::Error;
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match source {
        Some(Error::Capacity(_)) => Some(Close::new(code::TOO_LARGE, "frame_too_large")),
        Some(Error::Protocol(_) | Error::Utf8(_)) => Some(Close::new(code::NO_FRAME, "not_a_frame")),
        _ => None,
    }
}

/// Says why, closes, and gives the client a moment to take it in.
async fn farewell(socket: &mut WebSocket, format: Format, close: Close) {
    metrics::counter!("sockets_closed_total", "reason" => close.why).increment(1);
    let patience = if close.code == code::TOO_SLOW { SLOW_FAREWELL } else { FAREWELL };
    let goodbye = async {
        if let Some(status) = close.error {
            let _ = socket.feed(Frame::error(String::new(), &status).message(format)).await;
        }
        let frame = CloseFrame { code: close.code, reason: close.why.into() };
        socket.send(Message::Close(Some(frame))).await
    };
    // One that does not listen is not waited for.
    if matches!(tokio::time::timeout(patience, goodbye).await, Ok(Ok(()))) {
        // Dropping a socket that has unread data would cut off what we have just said.
        let answer = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = tokio::time::timeout(FAREWELL, answer).await;
    }
}

/// What comes one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Conversation(ConversationId),
    /// A conversation that is named by those who are in it.
    People(Vec<String>),
    /// A call of two people: its signals arrive in the order in which they were sent.
    Call(CallId),
}

/// A command that is carried out by a service.
enum Job {
    Send(SendMessageRequest),
    AdvanceWatermark(AdvanceWatermarkRequest),
    SendSignal(SendSignalRequest),
    Call(Box<call::Prepared>),
}

/// A command that changes what the connection follows.
enum Control {
    Subscribe(String, Subscribe),
    Gained(ConversationId, i64),
}

/// What has been done.
enum Done {
    /// With the answer. `left_open` when it was a send of which it is not known whether it was stored.
    Job {
        lane: Option<Lane>,
        answer: Arc<Frame>,
        left_open: bool,
    },
    Control,
    Renewed {
        id: String,
        outcome: Result<(SignedIn, Arc<str>), Box<Status>>,
    },
}

/// What the connection wakes up for.
enum Step {
    Heard(Message),
    Done(Done),
    Tick,
    Over(Option<Close>),
}

struct Session {
    gateway: Gateway,
    connection: Arc<Connection>,
    address: std::net::IpAddr,
    format: Format,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    lanes: Lanes<Lane, (String, Job)>,
    waiting: usize,
    controls: VecDeque<Control>,
    controlling: bool,
    commands: u32,
    counted_since: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    /// Whether something has been handed to the socket and not flushed.
    unflushed: bool,
    /// Since when the client has taken nothing.
    stalled_since: Option<Instant>,
    frames_in: Counter,
    frames_out: Counter,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.end(End::Gone);
        self.gateway.sockets().hub().leave(&self.connection);
    }
}

impl Session {
    fn new(gateway: Gateway, connection: Arc<Connection>, format: Format, place: &Place) -> Self {
        let now = Instant::now();
        Self {
            gateway,
            connection,
            address: place.address(),
            format,
            under_way: FuturesUnordered::new(),
            lanes: Lanes::new(),
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
                let (sockets, spread) = (self.gateway.sockets(), self.gateway.config().sockets.drain_spread);
                let retry_after = sockets.come_back(self.connection.number(), spread);
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
        let config = &self.gateway.config().sockets;
        let next = (self.pinged_at + config.ping_interval).min(self.heard_at + config.idle_timeout);
        self.stalled_since.map_or(next, |since| next.min(since + STALLED))
    }

    fn tick(&mut self, socket: &mut WebSocket) -> Result<(), Option<Close>> {
        let (now, config) = (Instant::now(), &self.gateway.config().sockets);
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

    fn command(&mut self, id: String, command: Option<Command>) -> Result<(), Close> {
        // Sends and signals have limits of their own.
        let is_counted = match &command {
            Some(Command::SendMessage(_)) => false,
            Some(Command::Call(call)) => {
                let rate = proto::rate::of(&format!("/{}", call.method));
                rate.is_none_or(|rate| rate.class != RateClass::CallSignal)
            }
            _ => true,
        };
        if is_counted {
            self.count()?;
        }
        let is_hello = matches!(command, Some(Command::Hello(_)));
        if (id.is_empty() && !is_hello) || id.chars().count() > 64 {
            let fault = Fault::invalid("id", "must have 1 to 64 characters");
            return Err(Close::saying(code::NO_FRAME, "no_id", fault));
        }
        let Some(command) = command else {
            self.refuse(id, Fault::invalid("command", "must be set"));
            return Ok(());
        };
        match command {
            Command::Hello(hello) => self.renew(id, hello),
            Command::Ping(_) => self.answer(id, Body::Pong(Pong {})),
            Command::Subscribe(subscribe) => {
                if self.holds(&id, &subscribe) {
                    self.control(Control::Subscribe(id, subscribe));
                }
            }
            Command::Unsubscribe(unsubscribe) => {
                if self.holds(&id, &unsubscribe) {
                    let ids =
                        unsubscribe.conversation_ids.iter().filter_map(|id| ConversationId::parse(id).ok());
                    self.resume().unsubscribe(&ids.collect::<Vec<_>>());
                    self.answer(id, Body::Unsubscribed(Unsubscribed {}));
                }
            }
            Command::SendMessage(request) => {
                let lane = lane_of(request.target.as_ref());
                match self.gateway.limits().call(request.request_rate(), self.connection.user_id()) {
                    Ok(()) => self.enter(lane, id, Job::Send(request)),
                    Err(fault) => self.refuse(id, fault),
                }
            }
            Command::AdvanceWatermark(request) => {
                self.enter(conversation_lane(&request.conversation_id), id, Job::AdvanceWatermark(request));
            }
            Command::SendSignal(request) => {
                self.enter(conversation_lane(&request.conversation_id), id, Job::SendSignal(request));
            }
            Command::Call(request) => {
                if self.holds(&id, &request) {
                    match call::prepare(&self.gateway, &self.connection, self.address, request) {
                        Ok(call) => {
                            let of_people = || Some(Lane::Call(CallId::parse(call.call_of_people()?).ok()?));
                            let lane = call.conversation().and_then(conversation_lane).or_else(of_people);
                            self.enter(lane, id, Job::Call(Box::new(call)));
                        }
                        Err(fault) => self.refuse(id, fault),
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts a command that is no send.
    fn count(&mut self) -> Result<(), Close> {
        if self.counted_since.elapsed() >= MINUTE {
            self.counted_since = Instant::now();
            self.commands = 0;
        }
        self.commands += 1;
        if self.commands <= self.gateway.config().sockets.commands_per_minute {
            return Ok(());
        }
        let wait = MINUTE.saturating_sub(self.counted_since.elapsed());
        let fault = Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
            .message("too many commands")
            .with("limit", "socket_commands")
            .retry_after(wait);
        Err(Close::saying(code::TOO_MANY_COMMANDS, "too_many_commands", fault))
    }

    /// Whether a command keeps its rules; when not, that is its answer.
    fn holds(&mut self, id: &str, command: &impl Incoming) -> bool {
        let violations = command.check();
        if violations.is_empty() {
            return true;
        }
        self.connection.push(Frame::error(id.to_owned(), &proto::invalid(violations)));
        false
    }

    fn answer(&self, id: String, body: Body) {
        self.connection.push(Frame::reply(id, body));
    }

    fn refuse(&self, id: String, fault: Fault) {
        self.connection.push(Frame::fault(id, fault));
    }

    fn resume(&self) -> Resume {
        Resume::new(self.gateway.clone(), Arc::clone(&self.connection))
    }

    /// A hello on a connection that is signed in brings a new token of the same session.
    fn renew(&mut self, id: String, hello: Hello) {
        let gateway = self.gateway.clone();
        let outcome = async move {
            let who = sign_in(gateway.clients(), &hello.session_token).await?;
            Ok((who, gateway.sockets().hub().epoch().await?))
        };
        let outcome = outcome.map(|outcome: Result<_, Status>| outcome.map_err(Box::new));
        self.under_way.push(outcome.map(|outcome| Done::Renewed { id, outcome }).boxed());
    }

    fn renewed(&mut self, id: String, outcome: Result<(SignedIn, Arc<str>), Box<Status>>) {
        match outcome {
            Ok((who, epoch)) if who.session_id == self.connection.session_id() => {
                let ready = ready(&self.gateway, &who, &epoch);
                self.connection.renew(who.ticket);
                self.answer(id, Body::Ready(ready));
            }
            Ok(_) => {
                let fault = Fault::new(Code::FailedPrecondition, ErrorReason::InvalidField.as_str_name())
                    .message("the connection belongs to another session: open a new one")
                    .field("session_token", "must be one of the same session");
                self.refuse(id, fault);
            }
            Err(status) => self.connection.push(Frame::error(id, &status)),
        }
    }

    /// One `subscribe` after the other: each begins where the one before it has left off.
    fn control(&mut self, control: Control) {
        if self.controlling {
            if self.controls.len() < CONTROLS || matches!(control, Control::Gained(..)) {
                self.controls.push_back(control);
            } else if let Control::Subscribe(id, _) = control {
                let fault = Fault::new(Code::ResourceExhausted, ErrorReason::Overloaded.as_str_name())
                    .message("too many subscriptions wait already: ask for all at once")
                    .retry_after(Duration::from_secs(1));
                self.refuse(id, fault);
            }
            return;
        }
        self.controlling = true;
        let resume = self.resume();
        let running = async move {
            match control {
                Control::Subscribe(id, request) => resume.subscribe(id, request).await,
                Control::Gained(conversation, after) => resume.gained(conversation, after).await,
            }
            Done::Control
        };
        self.under_way.push(running.boxed());
    }

    fn enter(&mut self, lane: Option<Lane>, id: String, job: Job) {
        match lane {
            None => self.begin(None, id, job),
            Some(lane) => match self.lanes.enter(&lane, (id, job)) {
                Some((id, job)) => self.begin(Some(lane), id, job),
                None => self.waiting += 1,
            },
        }
    }

    fn begin(&mut self, lane: Option<Lane>, id: String, job: Job) {
        let was_send = matches!(job, Job::Send(_));
        let patience = self.gateway.config().request_timeout;
        let outcome = tokio::time::timeout(patience, self.carry_out(job));
        let done = outcome.map(move |outcome| {
            match outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("it took too long"))) {
                Ok(body) => Done::Job { lane, answer: Frame::reply(id, body), left_open: false },
                Err(status) => {
                    let left_open = was_send && is_left_open(status.code());
                    Done::Job { lane, answer: Frame::error(id, &status), left_open }
                }
            }
        });
        self.under_way.push(done.boxed());
    }

    fn carry_out(&self, job: Job) -> impl Future<Output = Result<Body, Status>> + Send + use<> {
        let (gateway, number, token) =
            (self.gateway.clone(), self.connection.number(), self.connection.token());
        async move {
            let patience = gateway.config().request_timeout;
            match job {
                Job::Send(request) => {
                    gateway.sockets().carrier().send(number, token, request).await.map(Body::Sent)
                }
                Job::AdvanceWatermark(request) => {
                    let request = OnBehalf::of_token(&token, patience).request(request);
                    let answer = gateway.clients().messages().advance_watermark(request).await?;
                    Ok(Body::WatermarkAdvanced(answer.into_inner()))
                }
                Job::SendSignal(request) => {
                    let request = OnBehalf::of_token(&token, patience).request(request);
                    let answer = gateway.clients().sync().send_signal(request).await?;
                    Ok(Body::SignalSent(answer.into_inner()))
                }
                Job::Call(call) => {
                    call.carry_out(&gateway, &OnBehalf::of_token(&token, patience)).await.map(Body::CallReply)
                }
            }
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Job { lane, answer, left_open } => {
                self.connection.push(answer);
                let Some(lane) = lane else { return };
                if left_open {
                    self.refuse_sends_behind(&lane);
                }
                if let Some((id, job)) = self.lanes.leave(&lane) {
                    self.waiting -= 1;
                    self.begin(Some(lane), id, job);
                }
            }
            Done::Control => {
                self.controlling = false;
                if let Some(next) = self.controls.pop_front() {
                    self.control(next);
                }
            }
            Done::Renewed { id, outcome } => self.renewed(id, outcome),
        }
    }

    /// They might be stored before the one that has failed is sent again.
    fn refuse_sends_behind(&mut self, lane: &Lane) {
        for (id, _) in self.lanes.clear(lane, |(_, job)| matches!(job, Job::Send(_))) {
            self.waiting -= 1;
            let fault = Fault::unavailable("messaging").message(
                "not tried, because of the send before it nothing is known: send both again, in order",
            );
            self.refuse(id, fault);
        }
    }

    /// Whether nothing is under way and everything has been said.
    fn is_at_rest(&self) -> bool {
        self.waiting == 0 && (self.under_way.is_empty() || (self.under_way.len() == 1 && self.controlling))
    }
}

/// Whether it is not known if something was done.
fn is_left_open(code: Code) -> bool {
    match code {
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented => false,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
    }
}

fn conversation_lane(id: &str) -> Option<Lane> {
    ConversationId::parse(id).ok().map(Lane::Conversation)
}

fn lane_of(target: Option<&Target>) -> Option<Lane> {
    match target? {
        Target::ConversationId(id) => conversation_lane(id),
        Target::UserId(id) => Some(Lane::People(vec![id.to_lowercase()])),
        Target::UserIds(ids) => {
            let mut ids: Vec<_> = ids.user_ids.iter().map(|id| id.to_lowercase()).collect();
            ids.sort_unstable();
            ids.dedup();
            Some(Lane::People(ids))
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
