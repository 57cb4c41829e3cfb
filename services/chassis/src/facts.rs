//! The facts of another service, read in their order and applied once each.
//!
//! A producer keeps its facts in its outbox and answers a rpc with those after a position. A consumer gives a [`Reader`] an
//! [`Effect`]; the reader keeps the position in the consumer's database and moves it in the transaction of the effect.
//!
//! - A fact that cannot be read, such as one of a newer producer, or that cannot be applied however often it is tried, is
//!   put aside: the feed goes on, and the fact is tried again at every start and when [`try_aside`] is called.
//! - What may work soon (a database that is busy, a service that is away) holds the feed up and is tried again.
//! - A producer whose database was replaced by an older copy has another history from there on. The reader sees it by the
//!   epoch, by the head, or by the id of the fact at its position, and reads the new history from its beginning. Facts that
//!   are not later than those that it has read take effect only where that is safe ([`Effect::is_repeatable`]).

mod page;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::page::{Fact, Page};
pub use self::page::{Source, event_id};
use crate::clock::Clock;
use crate::database::Database;
use crate::database::facts::{Aside, Claim, Cursor, Place};
use crate::events::Events;
use crate::feed;
use crate::tasks::Tasks;
use crate::telemetry::metrics as names;

/// As many facts that were put aside are looked at in one read.
const ASIDE: i64 = 100;

/// How often facts that were put aside were to be tried again since the start, which counts as the first time.
static ROUNDS: AtomicU64 = AtomicU64::new(1);

/// Tries the facts that were put aside again, in all readers of this process, within [`feed::POLL`].
pub fn try_aside() {
    ROUNDS.fetch_add(1, Ordering::Relaxed);
}

/// A feed of facts, as its consumer reads it.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// The name of its cursor in the consumer's database.
    pub name: &'static str,
    /// The name of the task that reads it, and of the feed in metrics.
    pub task: &'static str,
    /// Where its producer says that there is something to read.
    pub subject: &'static str,
    /// At most so many facts are read at once, 1 to 1,000.
    pub page: i32,
}

/// What the facts of a feed do in a consumer.
pub trait Effect: Send + Sync + 'static {
    /// A fact in the consumer's words.
    type Fact: Send;

    /// At most so many facts are applied in one transaction.
    const BATCH: usize;

    /// Reads an encoded fact; `None` for one without an effect here.
    ///
    /// # Errors
    /// When it says what this consumer does not know, or what makes no sense. It is put aside.
    fn read(&self, fact: &[u8]) -> anyhow::Result<Option<Self::Fact>>;

    /// Whether a fact may be applied a second time, after what came later: it changes nothing then.
    fn is_repeatable(fact: &Self::Fact) -> bool;

    /// Applies facts, oldest first and at most [`Self::BATCH`]. The first thing in the transaction of the effect is to
    /// claim them (`feeds::claim` of the database); `false` when another replica has.
    ///
    /// # Errors
    /// [`Refusal::Permanent`] only when the facts themselves cannot be applied.
    fn apply(
        &self,
        claim: &Claim,
        facts: Vec<Self::Fact>,
    ) -> impl Future<Output = Result<bool, Refusal>> + Send;
}

/// Why facts were not applied.
#[derive(Debug)]
pub enum Refusal {
    /// The same may work soon.
    Transient(anyhow::Error),
    /// It will not work however often it is tried.
    Permanent(anyhow::Error),
}

/// What has become of a batch.
enum Outcome {
    /// The cursor is behind it.
    Done,
    /// Another replica has moved the cursor.
    Overtaken,
}

/// Reads a feed and applies it.
pub struct Reader<E> {
    feed: Feed,
    source: Source,
    database: Database,
    clock: Clock,
    effect: E,
    /// The round in which facts that were put aside were tried last.
    tried: AtomicU64,
}

impl<E: Effect> Reader<E> {
    /// Reads a feed from a source, keeps its place in a database and applies an effect.
    pub fn new(feed: Feed, source: Source, database: Database, clock: Clock, effect: E) -> Self {
        Self { feed, source, database, clock, effect, tried: AtomicU64::new(0) }
    }

    /// Follows the feed for as long as the service runs.
    pub fn start(self, events: &Events, tasks: &Tasks) {
        let (reader, events) = (Arc::new(self), events.clone());
        tasks.spawn(reader.feed.task, |shutdown| async move {
            let Feed { task, subject, .. } = reader.feed;
            let step = || {
                let reader = Arc::clone(&reader);
                async move { reader.step().await }
            };
            feed::follow(task, &events, subject, feed::POLL, shutdown, step).await;
        });
    }

    /// Applies the next facts. Says whether there may be more.
    ///
    /// # Errors
    /// When the producer or the database is away, or an effect may work soon: the same step then does what is left.
    pub async fn step(&self) -> anyhow::Result<bool> {
        self.try_aside().await?;
        let cursor = self.database.feed_cursor(self.feed.name).await?;
        let page = self.source.page(cursor.position, self.feed.page).await?;
        if let Some(why) = page.contradiction(&cursor) {
            self.restart(&cursor, &page, why).await?;
            return Ok(true);
        }
        if page.facts.is_empty() {
            self.learn(&cursor, &page).await?;
            self.count().await?;
            return Ok(false);
        }
        self.apply(&cursor, page).await?;
        Ok(true)
    }

    /// Reads the history from its beginning: it is not the one that was read before.
    async fn restart(&self, cursor: &Cursor, page: &Page, why: &'static str) -> anyhow::Result<()> {
        // A service that was just brought up to date does not know the time of what it has read.
        let read = if cursor.read_millis > 0 { cursor.read_millis } else { self.clock.now().as_millis() };
        if self.database.restart_feed(self.feed.name, cursor.position, &page.epoch, read).await? {
            metrics::counter!(names::FEED_RESTARTS, "feed" => self.feed.task).increment(1);
            tracing::warn!(
                feed = self.feed.task,
                cursor = cursor.position,
                head = page.head,
                "{why}: the database of the producer of {} is another or an older one, and its facts are read anew",
                self.feed.task
            );
        }
        Ok(())
    }

    /// Remembers which fact stands at the cursor, when that is not known yet.
    async fn learn(&self, cursor: &Cursor, page: &Page) -> anyhow::Result<()> {
        let is_known = !cursor.mark.is_empty() && !cursor.epoch.is_empty();
        if cursor.position == 0 || is_known || page.before.is_empty() {
            return Ok(());
        }
        let mark = page.before.clone();
        let time_millis = page::time_of_id(&mark);
        let at = Place { position: cursor.position, mark, time_millis };
        Ok(self.database.learn_place(self.feed.name, &at, &page.epoch).await?)
    }

    /// Applies a page of facts in batches, and puts aside what cannot be read or applied.
    async fn apply(&self, cursor: &Cursor, page: Page) -> anyhow::Result<()> {
        let mut from = cursor.position;
        let mut batch = Batch::default();
        for fact in page.facts {
            match self.effect.read(&fact.payload) {
                Ok(effect) => {
                    let is_repeated =
                        cursor.repeat_millis > 0 && fact.place.time_millis <= cursor.repeat_millis;
                    let effect = effect.filter(|effect| !is_repeated || E::is_repeatable(effect));
                    batch.push(fact, effect);
                }
                Err(error) => {
                    let before = batch.last();
                    let place = fact.place.clone();
                    if let Outcome::Overtaken =
                        self.finish(from, &page.epoch, std::mem::take(&mut batch)).await?
                    {
                        return Ok(());
                    }
                    from = before.unwrap_or(from);
                    if let Outcome::Overtaken = self.put_aside(from, &page.epoch, fact, &error).await? {
                        return Ok(());
                    }
                    from = place.position;
                }
            }
            if batch.effects.len() >= E::BATCH {
                let last = batch.last();
                if let Outcome::Overtaken = self.finish(from, &page.epoch, std::mem::take(&mut batch)).await?
                {
                    return Ok(());
                }
                from = last.unwrap_or(from);
            }
        }
        self.finish(from, &page.epoch, batch).await?;
        Ok(())
    }

    /// Applies a batch; fact by fact when it is refused as a whole.
    async fn finish(&self, from: i64, epoch: &str, batch: Batch<E::Fact>) -> anyhow::Result<Outcome> {
        let Batch { facts, effects } = batch;
        let Some(last) = facts.last() else { return Ok(Outcome::Done) };
        let claim = self.forward(from, &last.0.place, epoch);
        if effects.is_empty() {
            return Ok(outcome(self.database.pass_over(&claim).await?));
        }
        match self.effect.apply(&claim, effects).await {
            Ok(is_ours) => Ok(outcome(is_ours)),
            Err(Refusal::Transient(error)) => Err(error),
            Err(Refusal::Permanent(_)) => self.one_by_one(from, epoch, facts).await,
        }
    }

    async fn one_by_one(
        &self,
        mut from: i64,
        epoch: &str,
        facts: Vec<(Fact, bool)>,
    ) -> anyhow::Result<Outcome> {
        for (fact, has_effect) in facts {
            let to = fact.place.position;
            let claim = self.forward(from, &fact.place, epoch);
            let effect = if has_effect { self.effect.read(&fact.payload)? } else { None };
            let applied = match effect {
                Some(effect) => self.effect.apply(&claim, vec![effect]).await,
                None => Ok(self.database.pass_over(&claim).await?),
            };
            let outcome = match applied {
                Ok(is_ours) => outcome(is_ours),
                Err(Refusal::Transient(error)) => return Err(error),
                Err(Refusal::Permanent(error)) => self.put_aside(from, epoch, fact, &error).await?,
            };
            if let Outcome::Overtaken = outcome {
                return Ok(Outcome::Overtaken);
            }
            from = to;
        }
        Ok(Outcome::Done)
    }

    fn forward(&self, from: i64, to: &Place, epoch: &str) -> Claim {
        Claim::Forward { feed: self.feed.name, from, to: to.clone(), epoch: epoch.to_owned() }
    }

    async fn put_aside(
        &self,
        from: i64,
        epoch: &str,
        fact: Fact,
        error: &anyhow::Error,
    ) -> anyhow::Result<Outcome> {
        let claim = self.forward(from, &fact.place, epoch);
        let Fact { place: Place { position, mark, .. }, payload } = fact;
        let aside = Aside { position, mark, payload: payload.to_vec(), error: format!("{error:#}") };
        let now = self.clock.now().as_millis();
        if !self.database.put_aside(&claim, &aside, now).await? {
            return Ok(Outcome::Overtaken);
        }
        metrics::counter!(names::FACTS_ASIDE, "feed" => self.feed.task).increment(1);
        tracing::error!(
            feed = self.feed.task,
            position,
            event.id = %aside.mark,
            "the fact at {position} of {} is put aside, and the feed goes on without it: {}",
            self.feed.task,
            aside.error
        );
        self.count().await?;
        Ok(Outcome::Done)
    }

    /// Tries the facts that were put aside, once after the start and after each call of [`try_aside`].
    async fn try_aside(&self) -> anyhow::Result<()> {
        let round = ROUNDS.load(Ordering::Relaxed);
        if self.tried.load(Ordering::Relaxed) == round {
            return Ok(());
        }
        let mut after = (0, String::new());
        let (mut applied, mut left) = (0_u64, 0_u64);
        loop {
            let facts = self.database.facts_aside(self.feed.name, (after.0, &after.1), ASIDE).await?;
            let Some(last) = facts.last() else { break };
            after = (last.position, last.mark.clone());
            for fact in facts {
                match self.apply_aside(&fact).await {
                    Ok(()) => applied += 1,
                    Err(Refusal::Transient(error)) => return Err(error),
                    Err(Refusal::Permanent(error)) => {
                        left += 1;
                        let fact = Aside { error: format!("{error:#}"), ..fact };
                        let now = self.clock.now().as_millis();
                        self.database.note_attempt(self.feed.name, &fact, now).await?;
                    }
                }
            }
        }
        if applied > 0 {
            tracing::info!(
                feed = self.feed.task,
                "applied {applied} facts of {} that were put aside",
                self.feed.task
            );
        }
        if left > 0 {
            tracing::warn!(
                feed = self.feed.task,
                "{left} facts of {} were tried again and stay aside",
                self.feed.task
            );
        }
        self.tried.store(round, Ordering::Relaxed);
        self.count().await
    }

    /// Applies one that was put aside, unless another replica has.
    async fn apply_aside(&self, fact: &Aside) -> Result<(), Refusal> {
        let claim = Claim::Aside { feed: self.feed.name, position: fact.position, mark: fact.mark.clone() };
        match self.effect.read(&fact.payload).map_err(Refusal::Permanent)? {
            Some(effect) => self.effect.apply(&claim, vec![effect]).await.map(drop),
            None => {
                let passed = self.database.pass_over(&claim).await;
                passed.map(drop).map_err(|error| Refusal::Transient(error.into()))
            }
        }
    }

    /// Shows how many facts wait.
    async fn count(&self) -> anyhow::Result<()> {
        let waiting = self.database.count_aside(self.feed.name).await?;
        // Beyond 2^53 the last digits would be lost.
        metrics::gauge!(names::FACTS_WAITING, "feed" => self.feed.task).set(waiting as f64);
        Ok(())
    }
}

fn outcome(is_ours: bool) -> Outcome {
    if is_ours { Outcome::Done } else { Outcome::Overtaken }
}

/// Facts that are applied at once.
struct Batch<F> {
    /// All of them, each with whether it has an effect here.
    facts: Vec<(Fact, bool)>,
    /// Those with an effect.
    effects: Vec<F>,
}

impl<F> Default for Batch<F> {
    fn default() -> Self {
        Self { facts: Vec::new(), effects: Vec::new() }
    }
}

impl<F> Batch<F> {
    fn push(&mut self, fact: Fact, effect: Option<F>) {
        self.facts.push((fact, effect.is_some()));
        self.effects.extend(effect);
    }

    /// The position of the last fact.
    fn last(&self) -> Option<i64> {
        self.facts.last().map(|(fact, _)| fact.place.position)
    }
}

#[cfg(test)]
mod tests;
