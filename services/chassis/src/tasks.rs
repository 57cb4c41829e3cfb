//! Named background work that stops when it is told to.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Tells a task that it is time to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Waits until it is time to stop.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Whether it is time to stop.
    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Says that it is time to stop.
    pub fn set(&self) {
        self.0.cancel();
    }
}

/// The background tasks of a service.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    shutdown: Shutdown,
    tracker: TaskTracker,
}

impl Tasks {
    /// Starts a task. It runs until it is done; it is expected to be done soon after `shutdown` is set.
    pub fn spawn<F, Fut>(&self, name: &'static str, task: F)
    where
        F: FnOnce(Shutdown) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let future = task(self.shutdown.clone());
        self.tracker.spawn(future.instrument(tracing::info_span!("task", task = name)));
    }

    /// What tells the tasks to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Tells every task to stop and waits for them, at most so long. Says whether all have stopped.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.shutdown.set();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_waits_for_the_tasks() {
        let tasks = Tasks::default();
        let (done, is_done) = tokio::sync::oneshot::channel();
        tasks.spawn("one", |shutdown| async move {
            shutdown.wait().await;
            let _ = done.send(());
        });
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert!(is_done.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_not_waited_for_for_ever() {
        let tasks = Tasks::default();
        tasks.spawn("stuck", |_| std::future::pending());
        assert!(!tasks.stop(Duration::from_secs(1)).await);
    }
}
