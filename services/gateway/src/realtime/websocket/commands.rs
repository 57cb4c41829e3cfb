//! The commands of one connection: their execution, their order and their answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chassis::fault::Fault;
use chassis::trace;
use futures_util::FutureExt;
use proto::Incoming;
use proto::gateway::v1::client_frame::Command;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ErrorReason, Hello, Pong, Subscribe, Unsubscribed};
use proto::id::{CallId, ConversationId};
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{AdvanceWatermarkRequest, SendMessageRequest, SendSignalRequest};
use proto::rate::RateClass;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::close::{Close, code};
use super::hello::ready;
use super::rpc_command as call;
use super::session::Session;
use crate::realtime::frame::Frame;
use crate::realtime::identity::SignedIn;
use crate::realtime::resume::Resume;
use crate::realtime::session_watch::sign_in;
use crate::upstream::clients::OnBehalf;

/// The maximum number of `subscribe` and similar commands that wait for the one in progress.
const CONTROLS: usize = 16;

/// The period in which commands are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The commands that run one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Conversation(ConversationId),
    /// A conversation that is named by its members.
    People(Vec<String>),
    /// A call of two users: its signals arrive in the order in which they were sent.
    Call(CallId),
}

/// A command that a service executes.
pub(super) enum Job {
    Send(SendMessageRequest),
    AdvanceWatermark(AdvanceWatermarkRequest),
    SendSignal(SendSignalRequest),
    Call(Box<call::Prepared>),
}

/// A command that changes what the connection follows.
pub(super) enum Control {
    Subscribe(String, Subscribe),
    Gained(ConversationId, i64),
}

/// A finished command.
pub(super) enum Done {
    /// With the answer. `left_open` for a send of which it is unknown if it was stored.
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

impl Session {
    pub(super) fn command(&mut self, id: String, command: Option<Command>) -> Result<(), Close> {
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
                self.enter(lane, id, Job::Send(request));
            }
            Command::AdvanceWatermark(request) => {
                self.enter(conversation_lane(&request.conversation_id), id, Job::AdvanceWatermark(request));
            }
            Command::SendSignal(request) => {
                self.enter(conversation_lane(&request.conversation_id), id, Job::SendSignal(request));
            }
            Command::Call(request) => {
                if self.holds(&id, &request) {
                    match call::prepare(request) {
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

    /// Counts a command other than a send.
    pub(super) fn count(&mut self) -> Result<(), Close> {
        if self.counted_since.elapsed() >= MINUTE {
            self.counted_since = Instant::now();
            self.commands = 0;
        }
        self.commands += 1;
        if self.commands <= self.realtime.config().sockets.commands_per_minute {
            return Ok(());
        }
        let wait = MINUTE.saturating_sub(self.counted_since.elapsed());
        let fault = Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
            .message("too many commands")
            .with("limit", "socket_commands")
            .retry_after(wait);
        Err(Close::saying(code::TOO_MANY_COMMANDS, "too_many_commands", fault))
    }

    /// True when a command keeps its rules; otherwise it is answered with the violation.
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

    pub(super) fn refuse(&self, id: String, fault: Fault) {
        self.connection.push(Frame::fault(id, fault));
    }

    pub(super) fn resume(&self) -> Resume {
        Resume::new(self.realtime.clone(), Arc::clone(&self.connection), Arc::clone(&self.identity))
    }

    /// Handles a hello on a connection that is signed in: it contains a new token of the same session.
    fn renew(&mut self, id: String, hello: Hello) {
        let realtime = self.realtime.clone();
        let outcome = async move {
            let who = sign_in(realtime.upstream().clients(), &hello.session_token).await?;
            Ok((who, realtime.hub().epoch().await?))
        };
        let outcome = outcome.map(|outcome: Result<_, Status>| outcome.map_err(Box::new));
        self.under_way.push(outcome.map(|outcome| Done::Renewed { id, outcome }).boxed());
    }

    fn renewed(&mut self, id: String, outcome: Result<(SignedIn, Arc<str>), Box<Status>>) {
        match outcome {
            Ok((who, epoch)) if who.session_id == self.identity.session_id() => {
                let ready = ready(&self.realtime, &who, &epoch);
                self.identity.renew(who.proof);
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

    /// Runs one `subscribe` after the other: each begins at the end of the one before it.
    pub(super) fn control(&mut self, control: Control) {
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
        let patience = self.realtime.config().request_timeout;
        let work = self.carry_out(job);
        let done = trace::begin("websocket", async move {
            let outcome = tokio::time::timeout(patience, work).await;
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
        let (realtime, number, token) =
            (self.realtime.clone(), self.connection.number(), self.identity.token());
        let address = Some(self.address);
        async move {
            let patience = realtime.config().request_timeout;
            match job {
                Job::Send(request) => {
                    realtime.upstream().send_stream().send(number, token, request).await.map(Body::Sent)
                }
                Job::AdvanceWatermark(request) => {
                    let request = OnBehalf::of_token(&token, patience).request(request);
                    let clients = realtime.upstream().clients();
                    let mut answer = clients.messages().advance_watermark(request).await?.into_inner();
                    if let Some(watermark) = answer.watermark.take() {
                        answer.watermark = Some(realtime.hub().answered(watermark).await);
                    }
                    Ok(Body::WatermarkAdvanced(answer))
                }
                Job::SendSignal(request) => {
                    let request = OnBehalf::of_token(&token, patience).request(request);
                    let answer = realtime.upstream().clients().sync().send_signal(request).await?;
                    Ok(Body::SignalSent(answer.into_inner()))
                }
                Job::Call(call) => call
                    .carry_out(&realtime, &OnBehalf { address, ..OnBehalf::of_token(&token, patience) })
                    .await
                    .map(Body::CallReply),
            }
        }
    }

    pub(super) fn done(&mut self, done: Done) {
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

    /// Refuses the sends behind a failed one: they might be stored before it is sent again.
    fn refuse_sends_behind(&mut self, lane: &Lane) {
        for (id, _) in self.lanes.clear(lane, |(_, job)| matches!(job, Job::Send(_))) {
            self.waiting -= 1;
            let fault = Fault::unavailable("messaging").message(
                "not tried, because of the send before it nothing is known: send both again, in order",
            );
            self.refuse(id, fault);
        }
    }

    /// True when no command is in progress and every answer has been written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.waiting == 0 && (self.under_way.is_empty() || (self.under_way.len() == 1 && self.controlling))
    }
}

/// True when the code leaves it unknown if the command was executed.
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
