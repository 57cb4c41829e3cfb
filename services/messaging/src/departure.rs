//! What goes with an account: what it wrote, how it reacted and voted, how far it had read, its alerts, its files. What it
//! pinned stays pinned, and what it reported stays reported, by nobody.
//!
//! What there is to do stands in a row that came with the fact, and each step moves the row on in the transaction that
//! erases: a restart goes on where the last process was, and of replicas that do a step at once one does it. A step that
//! fails is put off, for longer each time, and nobody else waits for it. What others wrote is left alone, also where it is a
//! copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::tasks::{Shutdown, Tasks};
use proto::id::{ConversationId, MessageId, UserId};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::conversations::Conversations;
use crate::error::Error;
use crate::event::Event;
use crate::marks::Mark;
use crate::message::Sequence;
use crate::publish::Publisher;
use crate::store::Store;

/// How many messages one step erases.
pub const MESSAGES: i64 = 256;

/// How many marks one step takes back: each is a change of its message.
pub const MARKS: i64 = 32;

/// How many accounts are looked up at once.
const ACCOUNTS: i64 = 16;

/// When everything is gone through once more. Sessions end within seconds of their account, and so does what was on its way.
pub const AGAIN: Duration = Duration::from_secs(600);

/// How long one is left alone after its step has failed for the first time; twice as long after each further time.
const PAUSE: Duration = Duration::from_secs(5);

/// But never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The gauge of how long the departure that waits longest has waited.
pub const WAITING: &str = "messaging_departures_waiting_seconds";

/// The counter of steps that failed.
pub const FAILED: &str = "messaging_departures_failed_total";

/// An account that is gone, and how far what it left has been erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Whose it was.
    pub user: UserId,
    /// What is erased now.
    pub stage: Stage,
    /// Where the last step ended.
    pub after: Spot,
    /// How many steps there have been.
    pub steps: i64,
    /// Whether this is the first time that everything is gone through, or the second.
    pub round: i64,
    /// How often the next step has failed.
    pub failures: i64,
}

/// A place among what somebody left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// When the message was sent, where they are gone through by time.
    pub time: Timestamp,
    /// The conversation.
    pub conversation: ConversationId,
    /// The message's place in it.
    pub sequence: Sequence,
    /// Which of several things on one message; empty for one.
    pub key: String,
}

/// What is erased, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What it wrote.
    Messages,
    /// How it reacted.
    Reactions,
    /// How it voted.
    Votes,
    /// That it was who pinned something.
    Pins,
    /// All that only it has seen.
    Rest,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Messages, Self::Reactions, Self::Votes, Self::Pins, Self::Rest];

    /// The number for it in the database.
    pub const fn number(self) -> i64 {
        match self {
            Self::Messages => 0,
            Self::Reactions => 1,
            Self::Votes => 2,
            Self::Pins => 3,
            Self::Rest => 4,
        }
    }

    /// What the number stands for.
    pub fn parse(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.number() == number)
    }

    /// What comes after it; nothing after the last.
    pub fn next(self) -> Option<Self> {
        Self::parse(self.number() + 1)
    }
}

impl Spot {
    /// Before the first.
    pub fn start() -> Self {
        Self {
            time: Timestamp::from_millis(i64::MIN),
            conversation: ConversationId::from(uuid::Uuid::nil()),
            sequence: Sequence::NONE,
            key: String::new(),
        }
    }
}

/// Where the next step begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// In the same stage, after this.
    After(Spot),
    /// In the next stage.
    Stage(Stage),
    /// At the beginning, later.
    Again,
    /// Nowhere: all is done.
    Done,
}

impl Departure {
    /// Where the next step begins when this one has found so much of what it can take at once, and its last was here.
    pub fn next(&self, found: usize, most: i64, last: Option<&Spot>) -> Next {
        let is_full = i64::try_from(found).is_ok_and(|found| found >= most);
        match (last.filter(|_| is_full), self.stage.next()) {
            (Some(last), _) => Next::After(last.clone()),
            (None, Some(stage)) => Next::Stage(stage),
            (None, None) if self.round < 2 => Next::Again,
            (None, None) => Next::Done,
        }
    }

    /// How long it is left alone when its step fails once more.
    pub fn pause(&self) -> Duration {
        let doublings = u32::try_from(self.failures).unwrap_or(u32::MAX).min(16);
        PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }
}

/// A message that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub spot: Spot,
    /// Which it is.
    pub message_id: MessageId,
    /// The membership version under which it was sent.
    pub membership_version: i64,
}

/// A mark that somebody left on a message.
#[derive(Clone, Debug)]
pub struct Left {
    /// Where it is.
    pub spot: Spot,
    /// On which message.
    pub message_id: MessageId,
    /// The membership version under which the message was sent.
    pub membership_version: i64,
    /// What takes it away.
    pub undo: Mark,
}

/// Erases what accounts leave.
#[derive(Clone)]
pub struct Undertaker {
    /// Where it is.
    pub store: Store,
    /// Say under which version of the members an event is written.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// How often it looks.
    pub every: Duration,
    /// Says that there is something to do.
    pub wake: Arc<Notify>,
}

impl Undertaker {
    /// Erases until the service stops.
    pub fn start(self, tasks: &Tasks) {
        tasks.spawn("departures", |shutdown| async move {
            let mut ticks = interval(self.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = self.wake.notified() => {}
                    _ = ticks.tick() => {}
                }
                self.erase(&shutdown).await;
                self.measure().await;
            }
        });
    }

    /// Erases all that is due. What fails is put off.
    async fn erase(&self, shutdown: &Shutdown) {
        loop {
            let due = match self.store.departures(self.clock.now(), ACCOUNTS).await {
                Ok(due) => due,
                Err(failure) => return failure.log(),
            };
            let mut goes_on = false;
            // One step of each in turn: a small account does not wait for a large one, nor for one that fails.
            for departure in due {
                if shutdown.is_set() {
                    return;
                }
                match self.step(&departure).await {
                    Ok(events) => {
                        goes_on = true;
                        events.into_iter().for_each(|event| self.publisher.event(event));
                    }
                    Err(error) => goes_on |= self.put_off(&departure, error).await,
                }
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Leaves one alone whose step has failed, so that the others come first. Says whether that could be written down.
    async fn put_off(&self, departure: &Departure, error: Error) -> bool {
        let (user, pause) = (departure.user, departure.pause());
        metrics::counter!(FAILED).increment(1);
        tracing::warn!(
            user.id = %user,
            failures = departure.failures + 1,
            "what user {user} left cannot be erased now, and is put off for {} s: {error}",
            pause.as_secs()
        );
        if let Error::Store(failure) = error {
            failure.log();
        }
        match self.store.put_off_departure(departure, self.clock.now().plus(pause)).await {
            Ok(()) => true,
            Err(failure) => {
                failure.log();
                false
            }
        }
    }

    /// Shows how long the one has waited that waits longest.
    async fn measure(&self) {
        let now = self.clock.now();
        match self.store.departure_ready(now).await {
            Ok(since) => {
                let waits = since.map_or(Duration::ZERO, |since| now.since(since));
                metrics::gauge!(WAITING).set(waits.as_secs_f64());
            }
            Err(failure) => failure.log(),
        }
    }

    async fn step(&self, departure: &Departure) -> Result<Vec<Event>, Error> {
        let now = self.clock.now();
        match departure.stage {
            Stage::Messages => {
                let written = self.store.written(departure.user, &departure.after, MESSAGES).await?;
                let versions = self.versions(departure.user, written.iter().map(|one| &one.spot)).await;
                Ok(self.store.erase_written(departure, &written, &versions, now).await?)
            }
            Stage::Reactions | Stage::Votes | Stage::Pins => {
                let left = self.store.left(departure.user, departure.stage, &departure.after, MARKS).await?;
                let versions = self.versions(departure.user, left.iter().map(|one| &one.spot)).await;
                self.store.take_back(departure, &left, &versions, now).await
            }
            Stage::Rest => {
                self.store.erase_rest(departure, now).await?;
                Ok(Vec::new())
            }
        }
    }

    async fn versions<'a>(
        &self,
        user: UserId,
        spots: impl Iterator<Item = &'a Spot>,
    ) -> HashMap<ConversationId, i64> {
        let mut questions: Vec<_> = spots.map(|spot| (spot.conversation, user)).collect();
        questions.sort_unstable();
        questions.dedup();
        self.conversations.versions(&questions).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_comes_once_in_each_of_two_rounds() {
        let mut departure = Departure {
            user: UserId::generate(),
            stage: Stage::Messages,
            after: Spot::start(),
            steps: 0,
            round: 1,
            failures: 0,
        };
        let mut stages = vec![departure.stage];
        let spot = Spot { time: Timestamp::from_millis(1), ..Spot::start() };
        assert_eq!(departure.next(2, 2, Some(&spot)), Next::After(spot));
        loop {
            match departure.next(1, 2, None) {
                Next::Stage(stage) => departure.stage = stage,
                Next::Again => (departure.stage, departure.round) = (Stage::Messages, 2),
                Next::Done => break,
                Next::After(_) => panic!("there was not so much"),
            }
            stages.push(departure.stage);
        }
        assert_eq!(stages, [Stage::ALL, Stage::ALL].concat());
    }

    #[test]
    fn what_fails_is_left_alone_for_longer_each_time_and_never_for_ever() {
        let pauses = [0, 1, 2, 9, 10, 1000, i64::MAX].map(|failures| {
            let departure = Departure {
                user: UserId::generate(),
                stage: Stage::Rest,
                after: Spot::start(),
                steps: 0,
                round: 1,
                failures,
            };
            departure.pause().as_secs()
        });
        assert_eq!(pauses, [5, 10, 20, 2560, 3600, 3600, 3600]);
    }

    #[test]
    fn a_stage_is_known_by_its_number() {
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.number()), Some(stage));
        }
        assert_eq!(Stage::parse(5), None);
    }
}
