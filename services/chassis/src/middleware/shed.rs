//! Refusing what cannot be done in time, so that the rest is.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::fault::Fault;
use crate::telemetry::metrics as names;

tokio::task_local! {
    /// Set while this task works on a request that was let in.
    static LET_IN: ();
}

/// When to come again after having been refused.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Lets in so many requests at a time. The others wait in the order they came, not many and not for long.
pub(super) struct Gate {
    places: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

impl Gate {
    pub(super) fn new(places: usize, max_waiting: usize, max_wait: Duration) -> Self {
        let places = Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS));
        Self { places, waiting: AtomicUsize::new(0), max_waiting, max_wait }
    }

    /// Works when there is a place, or answers with UNAVAILABLE.
    ///
    /// A request that was let in passes all further gates of the process: what is half done must not be refused, and a
    /// service that calls itself would otherwise wait for its own place.
    pub(super) async fn pass(&self, work: impl Future<Output = Response>) -> Response {
        if LET_IN.try_with(|()| ()).is_ok() {
            return work.await;
        }
        match self.place().await {
            Some(_place) => LET_IN.scope((), work).await,
            None => {
                metrics::counter!(names::RPC_SHED).increment(1);
                let fault = Fault::new(Code::Unavailable, "ERROR_REASON_OVERLOADED")
                    .message("too much is waiting already: nothing was done, try again later")
                    .retry_after(COME_AGAIN);
                Status::from(fault).into_http()
            }
        }
    }

    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire() {
            return Some(place);
        }
        let _waiting = Waiting::begin(&self.waiting, self.max_waiting)?;
        timeout(self.max_wait, self.places.acquire()).await.ok()?.ok()
    }
}

/// One who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
