//! Following what another service, or one's own log, has to tell: woken by hints, sure because of polling.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use metrics::{Counter, Gauge};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::events::Events;
use crate::tasks::Shutdown;
use crate::telemetry::metrics as names;

/// How long a feed waits, unless told otherwise, before it looks without having been woken.
pub const POLL: Duration = Duration::from_secs(2);

/// The first and the longest wait after a failure; each is twice the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a step may take to finish when it is time to stop. A step can be cut off anywhere, but need not be.
const GRACE: Duration = Duration::from_secs(3);

/// After how long failing becomes something for a person to look at.
const TROUBLE: Duration = Duration::from_secs(60);

/// Runs `step` again and again until `shutdown`: at once while it answers that more may be there, else when a hint comes
/// on `subject`, when hints may have been lost, or after `every`.
///
/// A step does one batch, whole or not at all: it reads what comes after its cursor, and moves the cursor in the same
/// transaction as the effect. So it can fail, be repeated, or be cut off at the end of the process, and nothing is lost
/// or done twice. A step that fails, or panics, is tried again, sooner at first and later less often.
pub async fn follow<S, F>(
    name: &'static str,
    events: &Events,
    subject: &str,
    every: Duration,
    shutdown: Shutdown,
    mut step: S,
) where
    S: FnMut() -> F,
    F: Future<Output = anyhow::Result<bool>>,
{
    let mut interruptions = events.interruptions();
    let hint = Arc::new(Notify::new());
    // Before the first step: what happens while it runs wakes the next.
    let _subscription = events.wake(subject, Arc::clone(&hint)).await;
    let mut failures = Failures::new(name);
    let mut lag = Lag::new(name);
    while !shutdown.is_set() {
        let outcome = tokio::select! {
            // `step` itself may panic before it gives a future; neither leaves anything of ours half done.
            outcome = AssertUnwindSafe(async { step().await }).catch_unwind() => outcome,
            () = async { shutdown.wait().await; sleep(GRACE).await } => {
                return tracing::warn!(feed = name, "{name} was cut off in the middle of a step: it will be repeated");
            }
        };
        match outcome.unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", what_was_said(&*panic)))) {
            Ok(true) => {
                failures.over();
                lag.behind();
            }
            Ok(false) => {
                failures.over();
                lag.caught_up();
                let mut poll = pin!(sleep(every));
                tokio::select! {
                    () = shutdown.wait() => {}
                    () = hint.notified() => {}
                    Ok(()) = interruptions.changed() => {}
                    () = &mut poll => {}
                }
            }
            Err(error) => {
                lag.behind();
                let wait = failures.another(&error);
                // Hints do not shorten it: they would come thickest when there is most to do.
                tokio::select! {
                    () = shutdown.wait() => {}
                    () = sleep(wait) => {}
                }
            }
        }
    }
}

/// The time since a feed had read everything.
struct Lag {
    gauge: Gauge,
    since: Option<Instant>,
}

impl Lag {
    fn new(feed: &'static str) -> Self {
        Self { gauge: metrics::gauge!(names::FEED_BEHIND, "feed" => feed), since: None }
    }

    fn behind(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.gauge.set(since.elapsed().as_secs_f64());
    }

    fn caught_up(&mut self) {
        self.since = None;
        self.gauge.set(0.0);
    }
}

/// What a panic said, when it is a text of ours: a formatted one may quote what somebody wrote.
fn what_was_said(panic: &(dyn std::any::Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or("see the line of the panic itself")
}

/// The failures since the last success. Each kind is told once, and the end of them all.
struct Failures {
    feed: &'static str,
    counter: Counter,
    count: u32,
    since: Instant,
    told: Vec<String>,
    is_trouble: bool,
}

impl Failures {
    fn new(feed: &'static str) -> Self {
        Self {
            feed,
            counter: metrics::counter!(names::FEED_FAILURES, "feed" => feed),
            count: 0,
            since: Instant::now(),
            told: Vec::new(),
            is_trouble: false,
        }
    }

    /// Takes note of another failure and says how long to wait.
    fn another(&mut self, error: &anyhow::Error) -> Duration {
        let feed = self.feed;
        if self.count == 0 {
            self.since = Instant::now();
        }
        self.counter.increment(1);
        self.count = self.count.saturating_add(1);
        let text = format!("{error:#}");
        let lasts = self.since.elapsed();
        if lasts >= TROUBLE && !self.is_trouble {
            self.is_trouble = true;
            tracing::error!(feed, failures = self.count, "{feed} has been failing for {lasts:.0?}: {text}");
        } else if self.told.len() < 16 && !self.told.contains(&text) {
            tracing::warn!(feed, "{feed} failed and will try again: {text}");
            self.told.push(text);
        }
        let (first, longest) = BACKOFF;
        first.saturating_mul(1 << (self.count - 1).min(16)).min(longest)
    }

    fn over(&mut self) {
        if self.count > 0 {
            let (feed, lasted) = (self.feed, self.since.elapsed());
            tracing::info!(feed, failures = self.count, "{feed} works again after {lasted:.1?}");
            (self.count, self.is_trouble) = (0, false);
            self.told.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;

    /// A feed whose steps answer what the test tells them, and report when they ran.
    struct Fixture {
        events: Events,
        shutdown: Shutdown,
        answers: Arc<Mutex<VecDeque<anyhow::Result<bool>>>>,
        ran: mpsc::UnboundedReceiver<Instant>,
        feed: JoinSet<()>,
    }

    impl Fixture {
        fn new(answers: Vec<anyhow::Result<bool>>) -> Self {
            let events = Events::local();
            let shutdown = Shutdown::default();
            let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
            let (report, ran) = mpsc::unbounded_channel();
            let mut feed = JoinSet::new();
            feed.spawn({
                let (events, shutdown, answers) = (events.clone(), shutdown.clone(), Arc::clone(&answers));
                async move {
                    let step = || {
                        let (answers, report) = (Arc::clone(&answers), report.clone());
                        async move {
                            let _ = report.send(Instant::now());
                            answers.lock().expect("answers").pop_front().unwrap_or(Ok(false))
                        }
                    };
                    follow("test", &events, "facts", POLL, shutdown, step).await;
                }
            });
            Self { events, shutdown, answers, ran, feed }
        }

        async fn runs(&mut self) -> Instant {
            self.ran.recv().await.expect("the feed runs")
        }

        async fn stops(self) {
            self.shutdown.set();
            self.feed.join_all().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_while_there_is_more_and_polls_when_there_is_not() {
        let mut feed = Fixture::new(vec![Ok(true), Ok(true), Ok(false)]);
        let start = feed.runs().await;
        assert_eq!(feed.runs().await, start);
        assert_eq!(feed.runs().await, start);
        assert!(feed.runs().await >= start + POLL);
        feed.stops().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_wakes_it() {
        let mut feed = Fixture::new(vec![]);
        let start = feed.runs().await;
        tokio::task::yield_now().await;
        feed.events.publish("facts", Bytes::new());
        assert_eq!(feed.runs().await, start);
        feed.stops().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_hint_wakes_it() {
        let mut feed = Fixture::new(vec![]);
        let start = feed.runs().await;
        let (full, _keep) = mpsc::channel(1);
        let _subscription = feed.events.subscribe("other", full).await;
        feed.events.publish("other", Bytes::new());
        feed.events.publish("other", Bytes::new());
        assert_eq!(feed.runs().await, start);
        feed.stops().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_step_is_tried_again_less_and_less_often() {
        let failing = || Err(anyhow::anyhow!("no database"));
        let mut feed = Fixture::new((0..9).map(|_| failing()).collect());
        let mut last = feed.runs().await;
        let mut waits = Vec::new();
        for _ in 0..9 {
            // Hints must not make it any quicker.
            feed.events.publish("facts", Bytes::new());
            let now = feed.runs().await;
            waits.push(now.duration_since(last).as_millis());
            last = now;
        }
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert_eq!((waits[0] / 100, waits[8] / 1000), (1, 5), "{waits:?}");
        // A success in between forgets it all.
        while last.elapsed() < POLL {
            feed.runs().await;
        }
        feed.answers.lock().expect("answers").push_back(failing());
        let failed = feed.runs().await;
        assert_eq!(feed.runs().await.duration_since(failed).as_millis() / 100, 1);
        feed.stops().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_panicking_step_does_not_end_it() {
        let shutdown = Shutdown::default();
        let mut count = 0;
        let (events, stop) = (Events::local(), shutdown.clone());
        let step = || {
            count += 1;
            let count = count;
            let stop = stop.clone();
            async move {
                if count == 3 {
                    stop.set();
                }
                assert!(count > 2, "a bug");
                Ok(false)
            }
        };
        follow("test", &events, "facts", POLL, shutdown, step).await;
        assert_eq!(count, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_cut_off_at_the_end() {
        let shutdown = Shutdown::default();
        shutdown.set();
        let begun = Instant::now();
        let running = Shutdown::default();
        let (events, stop) = (Events::local(), running.clone());
        let step = || {
            stop.set();
            std::future::pending()
        };
        follow("test", &events, "facts", POLL, running, step).await;
        assert!(begun.elapsed() >= GRACE);
    }
}
