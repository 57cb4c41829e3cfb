//! Checkpoints of positions, which messaging stores: made while a stream runs, and kept in use while it lives.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chassis::transport::as_service;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proto::id::{StreamCheckpointId, UserId};
use proto::messaging::v1::{CreateStreamCheckpointRequest, GetStreamCheckpointRequest};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use super::progress::{Checkpoint, Positions, Progress, read_positions, write_positions};
use crate::realtime::Realtime;

/// The interval at which a living stream confirms that it needs its checkpoint.
const USE: Duration = Duration::from_secs(8 * 3600);

/// The pause before a failed checkpoint is retried.
const PAUSE: Duration = Duration::from_secs(1);

/// The checkpoints of one stream.
pub(super) struct Checkpoints {
    realtime: Realtime,
    user_id: UserId,
    /// The checkpoint that is being made.
    saving: Option<BoxFuture<'static, Result<Checkpoint, Status>>>,
    /// The call that confirms the current checkpoint, and finds out if it is gone.
    using: Option<BoxFuture<'static, Result<bool, Status>>>,
    use_time: Instant,
}

impl Checkpoints {
    pub(super) fn new(realtime: Realtime, user_id: UserId) -> Self {
        Self { realtime, user_id, saving: None, using: None, use_time: Instant::now() }
    }

    /// Resets the state of a stream that begins anew, or with a checkpoint that was just used.
    pub(super) fn reset(&mut self) {
        (self.saving, self.using, self.use_time) = (None, None, Instant::now());
    }

    /// Makes the checkpoint that a progress needs, and keeps the existing one in use. Fails when none can be made.
    pub(super) fn poll(&mut self, progress: &mut Progress, cx: &mut Context<'_>) -> Result<(), Status> {
        if let Poll::Ready(gone) = self.poll_use(progress, cx)
            && gone
        {
            self.save(progress);
        }
        if self.saving.is_none() && progress.wants_checkpoint() {
            self.save(progress);
        }
        while let Some(saving) = &mut self.saving {
            let Poll::Ready(saved) = saving.poll_unpin(cx) else { break };
            progress.stand_on(saved?);
            self.reset();
            if progress.wants_checkpoint() {
                self.save(progress);
            }
        }
        Ok(())
    }

    /// Periodically confirms that the checkpoint is needed. Ready with true when it is gone.
    fn poll_use(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<bool> {
        if self.using.is_none()
            && self.use_time.elapsed() >= USE
            && let Some(id) = progress.checkpoint()
        {
            let (realtime, user_id) = (self.realtime.clone(), self.user_id);
            self.using = Some(async move { Ok(load(&realtime, user_id, id).await?.is_none()) }.boxed());
        }
        let Some(using) = &mut self.using else { return Poll::Pending };
        let gone = ready!(using.poll_unpin(cx));
        (self.using, self.use_time) = (None, Instant::now());
        // A failed confirmation is repeated, long before the checkpoint counts as unused.
        Poll::Ready(gone.unwrap_or(false))
    }

    fn save(&mut self, progress: &Progress) {
        self.saving = Some(save(self.realtime.clone(), self.user_id, progress.positions()).boxed());
    }
}

/// Makes a checkpoint, however long that takes.
async fn save(realtime: Realtime, user_id: UserId, positions: Positions) -> Result<Checkpoint, Status> {
    let (id, bytes) = (StreamCheckpointId::generate(), write_positions(&positions));
    loop {
        let message =
            CreateStreamCheckpointRequest { checkpoint_id: id.to_string(), positions: bytes.clone() };
        let mut sync = realtime.upstream().clients().sync();
        match sync.create_stream_checkpoint(request(&realtime, user_id, message)).await {
            Ok(_) => return Ok(Checkpoint { id, positions: Arc::new(positions) }),
            Err(status) if may_pass(&status) => tokio::time::sleep(PAUSE).await,
            Err(status) => {
                tracing::warn!(code = ?status.code(), "positions cannot be kept: {}", status.message());
                return Err(status);
            }
        }
    }
}

/// Loads a checkpoint of a user, which counts as used; `None` when it is gone.
pub(super) async fn load(
    realtime: &Realtime,
    user_id: UserId,
    id: StreamCheckpointId,
) -> Result<Option<Checkpoint>, Status> {
    let message = GetStreamCheckpointRequest { checkpoint_id: id.to_string() };
    let mut sync = realtime.upstream().clients().sync();
    let answer = sync.get_stream_checkpoint(request(realtime, user_id, message)).await?.into_inner();
    Ok(read_positions(&answer.positions).map(|positions| Checkpoint { id, positions: Arc::new(positions) }))
}

fn request<T>(realtime: &Realtime, user_id: UserId, message: T) -> Request<T> {
    let mut request = as_service(message, realtime.upstream().clients().credential(), Some(user_id));
    request.set_timeout(realtime.config().request_timeout);
    request
}

fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted
    )
}
