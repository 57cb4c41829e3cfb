//! One view on the logs, of a user or of the anonymous viewer: what it follows, and the frames that come of it. The event
//! stream is built on it, and so are the sockets of dialects, which translate its typed frames.
//!
//! The [`Subscriber`] is the receiving end and belongs to one task. A [`SubscriberHandle`] changes what it follows, from
//! any task. Reading of history that a change starts is done in tasks, which wait for room in the queue of the connection:
//! a slow reader slows down its own replay and nothing else. They begin when the subscriber is polled, go on when it is
//! not, and end with it. A call that nothing polls would hold on to the things that others wait for, such as the answer
//! about the session that both are about.

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

/// How long a client is told to wait after its view broke for a reason that may pass.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Task = BoxFuture<'static, ()>;

/// The receiving end of one view on the logs. When it is dropped, its connection is closed and leaves the slot.
pub(crate) struct Subscriber {
    handle: SubscriberHandle,
    slot: ConnectionSlot,
    new_tasks: mpsc::UnboundedReceiver<Task>,
    /// What brings it up to date.
    tasks: JoinSet<()>,
}

impl Subscriber {
    /// A view of a user, who also hears of their calls from now on. It follows nothing yet. Fails when the user has as
    /// many connections as they may have.
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

    /// A view of the anonymous viewer. It follows nothing yet.
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

    /// Changes what it follows.
    pub(crate) fn handle(&self) -> &SubscriberHandle {
        &self.handle
    }

    /// The next frame, or how the view has ended once there is none.
    pub(crate) async fn next(&mut self) -> Result<Arc<Frame>, End> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next frame, or how the view has ended once there is none. When the gateway goes, the view ends by itself.
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

    /// Begins tasks, and takes note of those that have ended. A panic in one is a panic here.
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

    /// A view that follows all conversations of its user follows those that the user comes into.
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

/// Where following begins.
#[derive(Clone, Copy)]
enum Start {
    /// At the head, which was this.
    Head(i64),
    /// After a sequence: what happened since is sent first.
    After(i64),
}

/// Changes what a [`Subscriber`] follows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SubscriberHandle {
    log: LogReplay,
    identity: Option<Arc<Identity>>,
    tasks: mpsc::UnboundedSender<Task>,
}

impl SubscriberHandle {
    /// The one who views.
    pub(crate) fn viewer(&self) -> Viewer {
        self.connection().viewer()
    }

    /// The user and the session; `None` for the anonymous viewer.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The connection behind the view.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.log.connection
    }

    /// Follows a conversation from its present head on. Fails with CONVERSATION_NOT_FOUND when the viewer may not read
    /// it. One that is followed already goes on as it is.
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

    /// Follows a conversation and first sends what happened after a sequence. Fails with CONVERSATION_NOT_FOUND when the
    /// viewer may not read it. One that is followed already goes on as it is.
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

    /// Follows a conversation no more.
    pub(crate) fn unfollow(&self, conversation: ConversationId) {
        self.log.hub().unfollow(self.connection(), &[Key::Conversation(conversation)]);
    }

    /// Follows all conversations of the user, those to come included, and the user's own log, from now on. A failure is
    /// sent as an error frame. Refused for the anonymous viewer.
    pub(crate) fn follow_all(&self) -> Result<(), Fault> {
        self.subscribe(Subscribe { all: true, ..Subscribe::default() })
    }

    /// Follows the user's own log from now on. A failure is sent as an error frame. Refused for the anonymous viewer.
    pub(crate) fn follow_own_log(&self) -> Result<(), Fault> {
        self.subscribe(Subscribe::default())
    }

    /// Does what the command `subscribe` does. Refused for the anonymous viewer.
    pub(crate) fn subscribe(&self, request: Subscribe) -> Result<(), Fault> {
        let resume = self.resume().ok_or_else(unauthenticated)?;
        self.run(resume.subscribe(String::new(), request).boxed());
        Ok(())
    }

    /// Sends why the view cannot go on, and ends it so that its client comes back.
    pub(crate) fn fail(&self, status: &Status) {
        self.connection().push(Frame::error(String::new(), status));
        self.connection().end(End::Restart { retry_after: RETRY_AFTER });
    }

    /// Keeps what happens in a conversation from now on, and finds out whether the viewer may read it. The order matters:
    /// a change of access after the answer is seen by the hub, which knows the follower by then. Returns false when it is
    /// followed already.
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

    /// Brings a followed log up to date while the subscriber is polled.
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
