//! One client's connection as everyone else sees it: a bounded queue of frames, and how it ends.
//!
//! Whoever has something for a client puts it here and goes on at once; the connection's own task takes it out and
//! writes it. A queue that overflows ends the connection with a code that says "come back and resume": nothing is ever
//! left out without a word. Only signals may be left out, because they are worth nothing later.

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

/// A queue that has held more than this gives its memory back when it is empty.
const KEPT: usize = 32;

/// While so much waits, a replay waits too: the rest of the queue is for what happens meanwhile.
const REPLAY_FRAMES: usize = 64;
const REPLAY_BYTES: usize = 128 * 1024;

/// When all queues together hold more than this, no connection may hold more than [`SHARE`].
const BUDGET: usize = 256 * 1024 * 1024;
const SHARE: usize = 64 * 1024;

/// How many bytes wait in all queues together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<AtomicUsize>);

/// How much may wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// So many frames.
    pub(crate) frames: usize,
    /// So many bytes.
    pub(crate) bytes: usize,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More waited for the client than may wait.
    TooSlow,
    /// The session has ended.
    SignedOut,
    /// The server goes, or the logs are not what they were: come back after a while.
    Restart {
        /// When to come back.
        retry_after: Duration,
    },
    /// The client has gone, or has not been heard of for too long.
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

    /// Tells it from every other connection of this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The user and the session; `None` for the anonymous viewer.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The one for whom it reads.
    pub(crate) fn viewer(&self) -> Viewer {
        self.identity.as_ref().map_or(Viewer::Anonymous, |identity| Viewer::User(identity.user_id()))
    }

    /// Takes no more commands, and ends when those under way are done.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.writer.wake();
    }

    /// Whether it takes no more commands.
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

    /// Puts a frame into the queue unless that is half full: for what is worth nothing later.
    pub(crate) fn push_if_quick(&self, frame: &Arc<Frame>) {
        let half_full = {
            let queue = self.lock();
            queue.frames.len() >= self.bounds.frames / 2 || queue.bytes >= self.bounds.bytes / 2
        };
        if !half_full {
            self.push(Arc::clone(frame));
        }
    }

    /// Puts a frame into the queue as soon as there is little in it. Says whether the connection still lives.
    pub(crate) async fn push_when_room(&self, frame: Arc<Frame>) -> bool {
        loop {
            // Asked for before looking, so that room that is made in between is noticed.
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

    /// The next frame to write, or how the connection ends once there is none.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Arc<Frame>, End>> {
        if let Some(next) = self.take() {
            return Poll::Ready(next);
        }
        self.writer.register(cx.waker());
        // What came between the look and the registration has woken nobody.
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

    /// Ends the connection. The first reason counts. What waits is still written, except for one that was too slow.
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

    /// How the connection has ended; wakes up when it does, while what waits cannot be written.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<End> {
        self.writer.register(cx.waker());
        self.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// How the connection has ended, when it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Whether it follows every conversation of its user, those to come included.
    pub(crate) fn follows_all(&self) -> bool {
        self.follows_all.load(Ordering::Relaxed)
    }

    /// Follows every conversation of its user from now on.
    pub(crate) fn follow_all(&self) {
        self.follows_all.store(true, Ordering::Relaxed);
    }

    /// What it follows.
    pub(crate) fn followed(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics half way through a change, so a poisoned lock is as good as any other.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let left = self.lock().bytes;
        self.waiting.0.fetch_sub(left, Ordering::Relaxed);
    }
}

/// A span as the wire has it.
pub(crate) fn proto_duration(span: Duration) -> ProtoDuration {
    ProtoDuration::try_from(span).unwrap_or_default()
}
