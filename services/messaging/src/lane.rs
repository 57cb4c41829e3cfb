//! Lanes: work that arrives one by one and is done in batches.
//!
//! A lane takes whatever is waiting, up to a bound and without a timer: when little happens a batch is one piece of work,
//! and under load batches grow by themselves. What belongs to one conversation always takes the same lane, so that it is
//! done in the order in which it came. Several processes may write into one conversation at once; what keeps them apart
//! is the lock of the conversation's head in the database, not the lane.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chassis::tasks::{Shutdown, Tasks};
use futures_util::FutureExt as _;
use metrics::Gauge;
use proto::id::ConversationId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::Error;

/// How long a lane that is to stop waits for work that is still on its way to it.
const LINGER: Duration = Duration::from_millis(100);

/// The pieces of work that wait behind the batch of a lane.
pub const WAITING: &str = "messaging_lane_waiting";

/// How lanes work.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    /// How many there are.
    pub count: usize,
    /// The most pieces of work of one batch.
    pub batch: usize,
    /// How many pieces of work may wait in a lane; further ones are refused at once.
    pub queue: usize,
    /// How long a piece of work may wait before it is refused.
    pub patience: Duration,
}

/// A piece of work.
pub trait Job: Send + 'static {
    /// What it belongs to.
    fn conversation(&self) -> ConversationId;

    /// Answers whoever waits for it that it is not done.
    fn refuse(self, error: Error);
}

/// The ways into lanes.
#[derive(Debug)]
pub struct Entrance<J> {
    queues: Arc<[mpsc::Sender<Waiting<J>>]>,
}

impl<J> Clone for Entrance<J> {
    fn clone(&self) -> Self {
        Self { queues: Arc::clone(&self.queues) }
    }
}

#[derive(Debug)]
struct Waiting<J> {
    since: Instant,
    job: J,
}

impl Lanes {
    /// Starts the lanes; each hands its batches to `work`, one after the other.
    pub fn start<J, W, F>(self, name: &'static str, tasks: &Tasks, work: W) -> Entrance<J>
    where
        J: Job,
        W: Fn(Vec<J>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let queues = (0..self.count.max(1)).map(|number| {
            let (entrance, queue) = mpsc::channel(self.queue.max(1));
            let work = work.clone();
            let waiting = metrics::gauge!(WAITING, "lane" => name, "number" => number.to_string());
            tasks.spawn(name, move |shutdown| self.run(name, queue, waiting, shutdown, work));
            entrance
        });
        Entrance { queues: queues.collect() }
    }

    async fn run<J, W, F>(
        self,
        name: &'static str,
        mut queue: mpsc::Receiver<Waiting<J>>,
        left: Gauge,
        shutdown: Shutdown,
        work: W,
    ) where
        J: Job,
        W: Fn(Vec<J>) -> F,
        F: Future<Output = ()>,
    {
        let mut waiting = Vec::with_capacity(self.batch);
        loop {
            // What is being asked while everything stops is still done: its caller is drained, too.
            let taken = tokio::select! {
                biased;
                taken = queue.recv_many(&mut waiting, self.batch.max(1)) => taken,
                () = async { shutdown.wait().await; tokio::time::sleep(LINGER).await } => {
                    queue.close();
                    continue;
                }
            };
            if taken == 0 {
                return;
            }
            left.set(queue.len() as f64);
            let batch = self.in_time(waiting.drain(..));
            if batch.is_empty() {
                continue;
            }
            metrics::histogram!("messaging_batch_size", "lane" => name).record(batch.len() as f64);
            // Whoever waits for a batch that went wrong is answered when the batch is dropped; the lane lives on.
            if AssertUnwindSafe(work(batch)).catch_unwind().await.is_err() {
                tracing::error!(lane = name, "a batch panicked");
            }
        }
    }

    /// Refuses what has waited too long: whoever sent it will have given up, or can come again.
    fn in_time<J: Job>(&self, waiting: impl Iterator<Item = Waiting<J>>) -> Vec<J> {
        let now = Instant::now();
        let (in_time, late): (Vec<_>, Vec<_>) =
            waiting.partition(|waiting| now.duration_since(waiting.since) <= self.patience);
        for waiting in late {
            waiting.job.refuse(Error::Overloaded);
        }
        in_time.into_iter().map(|waiting| waiting.job).collect()
    }
}

impl<J: Job> Entrance<J> {
    /// Puts a piece of work into its lane, or refuses it at once when too much is waiting there.
    pub fn enter(&self, job: J) {
        let place = job.conversation().uuid().as_u128() % self.queues.len() as u128;
        let queue = &self.queues[usize::try_from(place).unwrap_or_default()];
        match queue.try_send(Waiting { since: Instant::now(), job }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(waiting)) => waiting.job.refuse(Error::Overloaded),
            Err(mpsc::error::TrySendError::Closed(waiting)) => {
                waiting.job.refuse(Error::Unavailable("messaging"));
            }
        }
    }
}

/// Answers whoever waits. Dropped without an answer, it says that the outcome is not known: nobody waits for ever.
pub struct Answer<T>(Option<Giver<T>>);

type Giver<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

impl<T: Send + 'static> Answer<T> {
    /// Answers by calling this.
    pub fn new(give: impl FnOnce(Result<T, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(give)))
    }

    /// An answer, and where it arrives.
    pub fn channel() -> (Self, oneshot::Receiver<Result<T, Error>>) {
        let (sender, receiver) = oneshot::channel();
        let give = move |outcome| {
            // Who has stopped waiting does not want to know.
            let _ = sender.send(outcome);
        };
        (Self::new(give), receiver)
    }
}

impl<T> Answer<T> {
    /// Gives the answer.
    pub fn give(mut self, outcome: Result<T, Error>) {
        if let Some(give) = self.0.take() {
            give(outcome);
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(give) = self.0.take() {
            give(Err(Error::Unavailable("messaging")));
        }
    }
}

impl<T> std::fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    struct Number {
        conversation: ConversationId,
        number: usize,
        answer: Answer<usize>,
    }

    impl Job for Number {
        fn conversation(&self) -> ConversationId {
            self.conversation
        }

        fn refuse(self, error: Error) {
            self.answer.give(Err(error));
        }
    }

    struct Scene {
        tasks: Tasks,
        entrance: Entrance<Number>,
        batches: Arc<Mutex<Vec<Vec<usize>>>>,
        gate: Arc<Semaphore>,
    }

    /// Lanes that do each batch when the gate lets one through, and panic at 13.
    fn scene(lanes: Lanes) -> Scene {
        let (tasks, gate) = (Tasks::default(), Arc::new(Semaphore::new(0)));
        let batches: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
        let work = {
            let (batches, gate) = (Arc::clone(&batches), Arc::clone(&gate));
            move |batch: Vec<Number>| {
                let (batches, gate) = (Arc::clone(&batches), Arc::clone(&gate));
                async move {
                    gate.acquire().await.unwrap().forget();
                    batches.lock().unwrap().push(batch.iter().map(|job| job.number).collect());
                    for job in batch {
                        assert_ne!(job.number, 13);
                        job.answer.give(Ok(job.number));
                    }
                }
            }
        };
        let entrance = lanes.start("test", &tasks, work);
        Scene { tasks, entrance, batches, gate }
    }

    fn lanes() -> Lanes {
        Lanes { count: 1, batch: 4, queue: 8, patience: Duration::from_millis(500) }
    }

    impl Scene {
        fn enter(&self, number: usize) -> oneshot::Receiver<Result<usize, Error>> {
            let (answer, answered) = Answer::channel();
            self.entrance.enter(Number { conversation: ConversationId::generate(), number, answer });
            answered
        }
    }

    #[tokio::test]
    async fn what_waits_becomes_a_batch() {
        let scene = scene(lanes());
        let first = scene.enter(0);
        tokio::task::yield_now().await;
        let rest: Vec<_> = (1..=6).map(|number| scene.enter(number)).collect();
        scene.gate.add_permits(10);
        first.await.unwrap().unwrap();
        for answered in rest {
            answered.await.unwrap().unwrap();
        }
        assert_eq!(*scene.batches.lock().unwrap(), [vec![0], vec![1, 2, 3, 4], vec![5, 6]]);
    }

    #[tokio::test]
    async fn a_full_lane_refuses_at_once() {
        let scene = scene(lanes());
        let _first = scene.enter(0);
        tokio::task::yield_now().await;
        let _waiting: Vec<_> = (1..=8).map(|number| scene.enter(number)).collect();
        assert!(matches!(scene.enter(9).await.unwrap(), Err(Error::Overloaded)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_too_long_is_refused() {
        let scene = scene(lanes());
        let first = scene.enter(0);
        tokio::task::yield_now().await;
        let late = scene.enter(1);
        tokio::time::advance(Duration::from_millis(501)).await;
        scene.gate.add_permits(10);
        assert!(first.await.unwrap().is_ok());
        assert!(matches!(late.await.unwrap(), Err(Error::Overloaded)));
    }

    #[tokio::test]
    async fn a_lane_outlives_a_panic() {
        let scene = scene(lanes());
        scene.gate.add_permits(10);
        assert!(matches!(scene.enter(13).await.unwrap(), Err(Error::Unavailable(_))));
        assert_eq!(scene.enter(14).await.unwrap().unwrap(), 14);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_stops_finishes_what_waits() {
        let scene = scene(lanes());
        let waiting: Vec<_> = (0..3).map(|number| scene.enter(number)).collect();
        scene.gate.add_permits(10);
        assert!(scene.tasks.stop(Duration::from_secs(5)).await);
        for answered in waiting {
            answered.await.unwrap().unwrap();
        }
        assert!(matches!(scene.enter(9).await.unwrap(), Err(Error::Unavailable(_))));
    }
}
