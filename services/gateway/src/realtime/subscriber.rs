//! One view on the logs, of a user or of the anonymous viewer: the logs that it follows, and their frames. The event
//! stream is built on it, and so are the sockets of dialects, which translate its typed frames.
//!
//! The [`Subscriber`] is the receiving end and belongs to one task. A [`SubscriberHandle`] changes the followed logs,
//! from any task. The history that a change needs is read in tasks, which wait for room in the queue of the connection:
//! a slow reader slows down only its own replay. They start when the subscriber is polled, continue while it is not,
//! and end with it. A call that is never polled would hold on to resources that others wait for, such as the answer
//! about the session that both use.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proto::gateway::v1::Subscribe;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::ConversationId;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tonic::{Code, Status};

use super::Realtime;
use super::connection::{Connection, End};
use super::frame::{Format, Frame};
use super::identity::{Identity, SignedIn, Viewer};
use super::registry::ConnectionSlot;
use super::resume::{LogReplay, Resume, gained_conversation, is_refusal};
use super::topic::Key;

/// The time that a client is told to wait after its view broke for a temporary reason.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Task = BoxFuture<'static, ()>;

/// The receiving end of one view on the logs. When it is dropped, its connection is closed and leaves the slot.
pub(crate) struct Subscriber {
    handle: SubscriberHandle,
    slot: ConnectionSlot,
    new_tasks: mpsc::UnboundedReceiver<Task>,
    /// The tasks that bring it up to date.
    tasks: JoinSet<()>,
}

impl Subscriber {
    /// Creates a view of a user, who also receives their calls from now on. It follows nothing yet. Fails when the user
    /// has the maximum number of connections.
    pub(crate) async fn of_user(
        realtime: &Realtime,
        slot: &ConnectionSlot,
        who: SignedIn,
        format: Format,
    ) -> Result<Self, Fault> {
        let (connection, identity) = realtime.connect(slot, who, format)?;
        let subscriber = Self::new(realtime, slot, connection, Some(Arc::clone(&identity)));
        realtime.call_events().hear(identity.user_id()).await;
        Ok(subscriber)
    }

    /// Creates a view of the anonymous viewer. It follows nothing yet.
    pub(crate) fn anonymous(
        realtime: &Realtime,
        slot: &ConnectionSlot,
        format: Format,
    ) -> Result<Self, Fault> {
        let connection = realtime.connect_anonymous(slot, format)?;
        Ok(Self::new(realtime, slot, connection, None))
    }

    fn new(
        realtime: &Realtime,
        slot: &ConnectionSlot,
        connection: Arc<Connection>,
        identity: Option<Arc<Identity>>,
    ) -> Self {
        let (sender, new_tasks) = mpsc::unbounded_channel();
        let log = LogReplay::new(realtime.clone(), connection);
        let handle = SubscriberHandle { log, identity, tasks: sender };
        Self { handle, slot: slot.clone(), new_tasks, tasks: JoinSet::new() }
    }

    /// Returns the handle that changes the followed logs.
    pub(crate) fn handle(&self) -> &SubscriberHandle {
        &self.handle
    }

    /// Returns the next frame, or the end of the view once there is none.
    pub(crate) async fn next(&mut self) -> Result<Arc<Frame>, End> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the next frame, or the end of the view once there is none. The view ends by itself when the gateway
    /// stops.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Frame>, End>> {
        self.work(cx);
        let connection = Arc::clone(self.handle.connection());
        if connection.is_draining() {
            let retry_after = self.handle.log.realtime.reconnect_delay(connection.number());
            connection.end(End::Restart { retry_after });
        }
        let next = connection.poll_next(cx);
        if let Poll::Ready(Ok(frame)) = &next {
            self.follow_gained(frame);
        }
        next
    }

    /// Starts tasks, and collects those that have ended. A panic in one is a panic here.
    fn work(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(task)) = self.new_tasks.poll_recv(cx) {
            self.tasks.spawn(task);
        }
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Follows a conversation that the user has joined, in a view that follows all.
    fn follow_gained(&mut self, frame: &Frame) {
        if let Some(Body::UserEvent(event)) = frame.body()
            && self.handle.connection().follows_all()
            && let Some((conversation, after)) = gained_conversation(event)
            && let Some(resume) = self.handle.resume()
        {
            self.tasks.spawn(resume.gained(conversation, after));
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let connection = self.handle.connection();
        connection.end(End::Gone);
        self.handle.log.hub().leave(connection);
        self.slot.detach(connection);
    }
}

/// The position at which following begins.
#[derive(Clone, Copy)]
enum Start {
    /// At the head, which was this.
    Head(i64),
    /// After a sequence: the events since are sent first.
    After(i64),
}

/// Changes the logs that a [`Subscriber`] follows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SubscriberHandle {
    log: LogReplay,
    identity: Option<Arc<Identity>>,
    tasks: mpsc::UnboundedSender<Task>,
}

impl SubscriberHandle {
    /// Returns the viewer.
    pub(crate) fn viewer(&self) -> Viewer {
        self.connection().viewer()
    }

    /// Returns the user and the session; `None` for the anonymous viewer.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Returns the connection behind the view.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.log.connection
    }

    /// Follows a conversation from its current head on. Fails with CONVERSATION_NOT_FOUND when the viewer may not read
    /// it. A conversation that is followed already stays as it is.
    pub(crate) async fn follow(&self, conversation: ConversationId) -> Result<(), Status> {
        let key = Key::Conversation(conversation);
        if !self.begin(conversation).await? {
            return Ok(());
        }
        let heads = self.log.hub().heads(&[key]).await;
        let head = match heads {
            Ok(heads) => heads.get(&key).copied().unwrap_or(0),
            Err(status) => {
                self.unfollow(conversation);
                return Err(status);
            }
        };
        self.go_on(key, Start::Head(head));
        Ok(())
    }

    /// Follows a conversation and first sends the events after a sequence. Fails with CONVERSATION_NOT_FOUND when the
    /// viewer may not read it. A conversation that is followed already stays as it is.
    pub(crate) async fn follow_from(
        &self,
        conversation: ConversationId,
        after_sequence: i64,
    ) -> Result<(), Status> {
        let key = Key::Conversation(conversation);
        if self.begin(conversation).await? {
            self.go_on(key, Start::After(after_sequence));
        }
        Ok(())
    }

    /// Stops following a conversation.
    pub(crate) fn unfollow(&self, conversation: ConversationId) {
        self.log.hub().unfollow(self.connection(), &[Key::Conversation(conversation)]);
    }

    /// Follows all conversations of the user, future ones included, and the user's own log, from now on. A failure is
    /// sent as an error frame. Refused for the anonymous viewer.
    pub(crate) fn follow_all(&self) -> Result<(), Fault> {
        self.subscribe(Subscribe { all: true, ..Subscribe::default() })
    }

    /// Follows the user's own log from now on. A failure is sent as an error frame. Refused for the anonymous viewer.
    pub(crate) fn follow_own_log(&self) -> Result<(), Fault> {
        self.subscribe(Subscribe::default())
    }

    /// Executes the command `subscribe`. Refused for the anonymous viewer.
    pub(crate) fn subscribe(&self, request: Subscribe) -> Result<(), Fault> {
        let resume = self.resume().ok_or_else(unauthenticated)?;
        self.run(resume.subscribe(String::new(), request).boxed());
        Ok(())
    }

    /// Sends the reason for which the view cannot continue, and ends it so that its client comes back.
    pub(crate) fn fail(&self, status: &Status) {
        self.connection().push(Frame::error(String::new(), status));
        self.connection().end(End::Restart { retry_after: RETRY_AFTER });
    }

    /// Keeps the events of a conversation from now on, and checks that the viewer may read it. The order matters: the
    /// hub sees a change of access after the answer, because it knows the follower by then. Returns false when the
    /// conversation is followed already.
    async fn begin(&self, conversation: ConversationId) -> Result<bool, Status> {
        let key = Key::Conversation(conversation);
        let is_new = self.connection().followed().insert(key);
        if !is_new {
            return Ok(false);
        }
        self.log.hub().follow(self.connection(), &[key], false).await;
        match self.log.hub().may_read(self.viewer(), conversation).await {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.unfollow(conversation);
                Err(not_found(conversation).into())
            }
            Err(status) => {
                self.unfollow(conversation);
                Err(status)
            }
        }
    }

    /// Brings a followed log up to date, in a task that starts when the subscriber is polled.
    fn go_on(&self, key: Key, start: Start) {
        let log = self.log.clone();
        let task = async move {
            let brought = async {
                let known = match start {
                    Start::Head(head) => head,
                    Start::After(known) => log.read_on(key, known).await?,
                };
                log.follow_on(key, known).await
            };
            match brought.await {
                Ok(()) => {}
                // Access has ended since.
                Err(status) if is_refusal(&status) => log.hub().unfollow(&log.connection, &[key]),
                Err(status) => {
                    tracing::warn!(code = ?status.code(), "a log cannot be followed: {}", status.message());
                    log.connection.end(End::Restart { retry_after: RETRY_AFTER });
                }
            }
        };
        self.run(task.boxed());
    }

    fn run(&self, task: Task) {
        // Without its subscriber the view has ended.
        let _ = self.tasks.send(task);
    }

    fn resume(&self) -> Option<Resume> {
        let identity = self.identity.clone()?;
        Some(Resume::new(self.log.realtime.clone(), Arc::clone(self.connection()), identity))
    }
}

fn not_found(conversation: ConversationId) -> Fault {
    use proto::conversation::v1::ErrorReason;
    Fault::new(Code::NotFound, ErrorReason::ConversationNotFound.as_str_name())
        .message(format!("there is no conversation {conversation}"))
        .with("conversation_id", conversation)
}
