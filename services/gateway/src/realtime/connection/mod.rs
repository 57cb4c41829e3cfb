//! One client's connection as the rest of the gateway sees it: a bounded queue of frames, and the way in which it ends.
//!
//! Senders put their frames here and do not wait; the connection's own task takes them out and writes them. A queue
//! that overflows ends the connection with a code that tells the client to come back and resume: no frame is ever
//! omitted silently. Only signals may be omitted, because they are useless later.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use prost_types::Duration as ProtoDuration;
use proto::gateway::v1::Closing;
use proto::gateway::v1::server_frame::Frame as Body;
use tokio::sync::Notify;

use crate::realtime::frame::{Format, Frame};
use crate::realtime::identity::{Identity, Viewer};
use crate::realtime::topic::Key;

/// A queue that has held more frames than this frees its memory when it is empty.
const KEPT: usize = 32;

/// The number of waiting frames from which on a replay waits too: the rest of the queue is for new events.
const REPLAY_FRAMES: usize = 64;
const REPLAY_BYTES: usize = 128 * 1024;

/// If all queues together hold more bytes than this, no connection may hold more than [`SHARE`].
const BUDGET: usize = 256 * 1024 * 1024;
const SHARE: usize = 64 * 1024;

/// The number of bytes that wait in all queues together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<AtomicUsize>);

/// The limits on the frames that wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The maximum number of frames.
    pub(crate) frames: usize,
    /// The maximum number of bytes.
    pub(crate) bytes: usize,
}

/// The reason for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More frames waited for the client than allowed.
    TooSlow,
    /// The session has ended.
    SignedOut,
    /// The server stops, or the logs have changed their epoch: the client comes back after a while.
    Restart {
        /// The time after which to come back.
        retry_after: Duration,
    },
    /// The client is gone, or has been silent for too long.
    Gone,
}

/// One client's connection.
pub(crate) struct Connection {
    number: u64,
    identity: Option<Arc<Identity>>,
    format: Format,
    bounds: Bounds,
    waiting: Waiting,
    queue: Mutex<Queue>,
    /// Wakes the task that writes.
    writer: AtomicWaker,
    /// Wakes a replay when the queue has become short.
    room: Notify,
    draining: AtomicBool,
    follows_all: AtomicBool,
    followed: Mutex<HashSet<Key>>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    end: Option<End>,
}

impl Connection {
    pub(crate) fn new(
        number: u64,
        identity: Option<Arc<Identity>>,
        format: Format,
        bounds: Bounds,
        waiting: Waiting,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            identity,
            format,
            bounds,
            waiting,
            queue: Mutex::default(),
            writer: AtomicWaker::new(),
            room: Notify::const_new(),
            draining: AtomicBool::new(false),
            follows_all: AtomicBool::new(false),
            followed: Mutex::default(),
        })
    }

    /// Returns the number that identifies it among the connections of this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The user and the session; `None` for the anonymous viewer.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Returns the viewer for whom it reads.
    pub(crate) fn viewer(&self) -> Viewer {
        self.identity.as_ref().map_or(Viewer::Anonymous, |identity| Viewer::User(identity.user_id()))
    }

    /// Stops taking commands, and ends the connection when those in progress are done.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.writer.wake();
    }

    /// True when it takes no more commands.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Puts a frame into the queue, or ends the connection when there is no room for it.
    pub(crate) fn push(&self, frame: Arc<Frame>) {
        let len = frame.len(self.format);
        {
            let mut queue = self.lock();
            if queue.end.is_some() {
                return;
            }
            let share = if self.waiting.0.load(Ordering::Relaxed) > BUDGET { SHARE } else { usize::MAX };
            let bytes = queue.bytes + len;
            // A single frame always fits, however large: otherwise it could never be sent.
            let alone = queue.frames.is_empty();
            if !alone && (queue.frames.len() >= self.bounds.frames || bytes > self.bounds.bytes.min(share)) {
                self.finish(&mut queue, End::TooSlow);
            } else {
                queue.bytes = bytes;
                queue.frames.push_back(frame);
                self.waiting.0.fetch_add(len, Ordering::Relaxed);
            }
        }
        self.writer.wake();
    }

    /// Puts a frame into the queue unless that is half full: for frames that are useless later.
    pub(crate) fn push_if_quick(&self, frame: &Arc<Frame>) {
        let half_full = {
            let queue = self.lock();
            queue.frames.len() >= self.bounds.frames / 2 || queue.bytes >= self.bounds.bytes / 2
        };
        if !half_full {
            self.push(Arc::clone(frame));
        }
    }

    /// Puts a frame into the queue as soon as it is short. Returns true while the connection is open.
    pub(crate) async fn push_when_room(&self, frame: Arc<Frame>) -> bool {
        loop {
            // Registered before the check, so that room made in between is noticed.
            let room = self.room.notified();
            {
                let queue = self.lock();
                if queue.end.is_some() {
                    return false;
                }
                if queue.frames.len() < REPLAY_FRAMES.min(self.bounds.frames) && queue.bytes < REPLAY_BYTES {
                    break;
                }
            }
            room.await;
        }
        self.push(frame);
        true
    }

    /// Returns the next frame to write, or the connection's end once there is none.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Arc<Frame>, End>> {
        if let Some(next) = self.take() {
            return Poll::Ready(next);
        }
        self.writer.register(cx.waker());
        // A frame that came between the check and the registration has woken no task.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn take(&self) -> Option<Result<Arc<Frame>, End>> {
        let mut queue = self.lock();
        let Some(frame) = queue.frames.pop_front() else { return queue.end.map(Err) };
        let len = frame.len(self.format);
        queue.bytes -= len;
        self.waiting.0.fetch_sub(len, Ordering::Relaxed);
        if queue.frames.is_empty() && queue.frames.capacity() > KEPT {
            queue.frames = VecDeque::new();
        }
        let short = queue.frames.len() == REPLAY_FRAMES / 2 || queue.frames.is_empty();
        drop(queue);
        if short {
            self.room.notify_one();
        }
        Some(Ok(frame))
    }

    /// Ends the connection. The first reason counts. Waiting frames are still written, except those of a client that
    /// was too slow.
    pub(crate) fn end(&self, end: End) {
        {
            let mut queue = self.lock();
            if queue.end.is_none() {
                if let End::Restart { retry_after } = end {
                    let retry_after = Some(proto_duration(retry_after));
                    let closing = Frame::push(Body::Closing(Closing { retry_after }));
                    let len = closing.len(self.format);
                    queue.bytes += len;
                    self.waiting.0.fetch_add(len, Ordering::Relaxed);
                    queue.frames.push_back(closing);
                }
                self.finish(&mut queue, end);
            }
        }
        self.writer.wake();
    }

    fn finish(&self, queue: &mut Queue, end: End) {
        queue.end = Some(end);
        if matches!(end, End::TooSlow | End::SignedOut | End::Gone) {
            queue.frames = VecDeque::new();
            self.waiting.0.fetch_sub(std::mem::take(&mut queue.bytes), Ordering::Relaxed);
        }
        self.room.notify_one();
    }

    /// Returns the end of the connection; wakes up when it ends, while waiting frames cannot be written.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<End> {
        self.writer.register(cx.waker());
        self.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns the end of the connection, if it has ended.
    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// True when it follows every conversation of its user, future ones included.
    pub(crate) fn follows_all(&self) -> bool {
        self.follows_all.load(Ordering::Relaxed)
    }

    /// Follows every conversation of its user from now on.
    pub(crate) fn follow_all(&self) {
        self.follows_all.store(true, Ordering::Relaxed);
    }

    /// Returns the logs that it follows.
    pub(crate) fn followed(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code panics between two parts of a change, so a poisoned lock is still consistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let left = self.lock().bytes;
        self.waiting.0.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Converts a time span to its wire type.
pub(crate) fn proto_duration(span: Duration) -> ProtoDuration {
    ProtoDuration::try_from(span).unwrap_or_default()
}
