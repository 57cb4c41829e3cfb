//! Ordered delivery from hints and a log.
//!
//! A log numbers its items 1, 2, 3, ... without gaps. Whoever follows it hears of new items by hints, which may be lost,
//! doubled or late, and may read ranges of the log, which is the truth. A [`Follower`] puts the two together: it says
//! what to deliver now, in order and each once, and what has to be read because no hint brought it. It does no I/O and
//! knows no time, so that it can be simulated; the loop around it looks like this:
//!
//! ```text
//! subscribe to the hints                    before the head is read: what happens in between is offered, not missed
//! Follower::new(last sequence known)        or Follower::waiting(), then begin(head), to start from now on
//! head(highest sequence in the log)         at the start, every few seconds, and when hints may have been lost
//! hint arrives    -> offer(sequence, item)  deliver what it returns
//! missing() says  -> read the log after `after`, deliver what filled(items) returns, look at missing() again
//! ```
//!
//! A hint that was overtaken by a later one usually arrives within milliseconds, so a loop waits a little
//! ([`PATIENCE`]) between [`Verdict::Held`] and the read. A head that was read from the log needs no such patience.
//!
//! ```
//! use chassis::follow::{Follower, Missing, Verdict};
//!
//! let mut follower = Follower::new(3);
//! assert!(matches!(follower.offer(3, "three"), Verdict::Duplicate));
//! assert!(matches!(follower.offer(6, "six"), Verdict::Held));
//! assert_eq!(follower.missing(), Some(Missing { after: 3, up_to: 5 }));
//!
//! let Verdict::Deliver(run) = follower.offer(4, "four") else { unreachable!() };
//! assert_eq!(run.collect::<Vec<_>>(), ["four"]);
//! assert_eq!(follower.missing(), Some(Missing { after: 4, up_to: 5 }));
//!
//! let run = follower.filled([(5, "five")]);
//! assert_eq!(run.collect::<Vec<_>>(), ["five", "six"]);
//! assert_eq!(follower.missing(), None);
//! ```

use std::collections::BTreeMap;
use std::time::Duration;
use std::vec;

/// How many items that came too early are kept by default. What does not fit is read from the log later.
pub const HELD: usize = 256;

/// How long a loop waits for a hint that was overtaken before it reads the log.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Follows one log. Costs no allocation while hints come in order.
#[derive(Clone, Debug)]
pub struct Follower<T> {
    /// Everything up to here has been delivered; `None` until it is known where to begin.
    applied: Option<i64>,
    /// The log is known to reach at least to here.
    head: i64,
    /// What came too early, each beyond `applied + 1`.
    held: BTreeMap<i64, T>,
    capacity: usize,
}

/// What becomes of an item that a hint brought.
#[derive(Debug)]
pub enum Verdict<T> {
    /// It is the next one: deliver it and what had waited for it, in this order.
    Deliver(Run<T>),
    /// It has been delivered before: drop it.
    Duplicate,
    /// Something before it is missing, see [`Follower::missing`], or it is not known yet where to begin.
    Held,
}

/// A range of the log that has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Everything up to here is known.
    pub after: i64,
    /// What comes after this is held already, or is not known to exist.
    pub up_to: i64,
}

impl<T> Follower<T> {
    /// Follows a log of which everything up to `applied` is known; 0 when nothing is.
    pub fn new(applied: i64) -> Self {
        Self { applied: Some(applied), head: applied, held: BTreeMap::new(), capacity: HELD }
    }

    /// Follows a log from a place that is not known yet: everything is held until [`begin`](Self::begin) says it.
    pub fn waiting() -> Self {
        Self { applied: None, head: 0, held: BTreeMap::new(), capacity: HELD }
    }

    /// Keeps at most so many items that came too early.
    #[must_use]
    pub fn holding(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Goes on after `applied`, wherever it has been: the start of a waiting follower, or an announced jump over what
    /// shall not be delivered. Never goes back. Returns what had waited for it.
    pub fn begin(&mut self, applied: i64) -> Run<T> {
        let applied = self.applied.map_or(applied, |before| before.max(applied));
        self.applied = Some(applied);
        self.head = self.head.max(applied);
        self.held = self.held.split_off(&applied.saturating_add(1));
        Run { first: None, rest: self.take_ready().into_iter() }
    }

    /// A hint has brought an item.
    pub fn offer(&mut self, sequence: i64, item: T) -> Verdict<T> {
        match self.applied {
            Some(applied) if sequence <= applied => Verdict::Duplicate,
            Some(applied) if sequence == applied + 1 => {
                self.applied = Some(sequence);
                self.head = self.head.max(sequence);
                self.held.remove(&sequence);
                Verdict::Deliver(Run { first: Some(item), rest: self.take_ready().into_iter() })
            }
            Some(_) | None => {
                self.hold(sequence, item);
                Verdict::Held
            }
        }
    }

    /// The log is known to reach to `sequence`.
    pub fn head(&mut self, sequence: i64) {
        self.head = self.head.max(sequence);
    }

    /// What a read of the log has brought, oldest first. Returns what to deliver; what comes after a gap is held.
    pub fn filled(&mut self, items: impl IntoIterator<Item = (i64, T)>) -> Run<T> {
        let mut ready = Vec::new();
        for (sequence, item) in items {
            match self.applied {
                Some(applied) if sequence <= applied => {}
                Some(applied) if sequence == applied + 1 => {
                    self.applied = Some(sequence);
                    self.head = self.head.max(sequence);
                    self.held.remove(&sequence);
                    ready.push(item);
                }
                Some(_) | None => self.hold(sequence, item),
            }
        }
        ready.append(&mut self.take_ready());
        Run { first: None, rest: ready.into_iter() }
    }

    /// What has to be read from the log; `None` when everything that is known to exist has been delivered.
    pub fn missing(&self) -> Option<Missing> {
        let after = self.applied?;
        let first_held = self.held.keys().next().map(|sequence| sequence - 1);
        (after < self.head).then(|| Missing { after, up_to: first_held.unwrap_or(self.head) })
    }

    /// Everything up to here has been delivered; `None` until it is known where to begin.
    pub fn applied(&self) -> Option<i64> {
        self.applied
    }

    /// The highest sequence that is known to exist.
    pub fn known_head(&self) -> i64 {
        self.head
    }

    fn hold(&mut self, sequence: i64, item: T) {
        self.head = self.head.max(sequence);
        self.held.insert(sequence, item);
        // The highest goes: the lowest are delivered first, and the log has the rest.
        if self.held.len() > self.capacity {
            self.held.pop_last();
        }
    }

    /// What is held and can be delivered now.
    fn take_ready(&mut self) -> Vec<T> {
        let mut ready = Vec::new();
        while let (Some(applied), Some(first)) = (self.applied, self.held.first_entry()) {
            if *first.key() != applied + 1 {
                break;
            }
            self.applied = Some(applied + 1);
            ready.push(first.remove());
        }
        ready
    }
}

/// Items to deliver, in their order.
#[derive(Debug)]
pub struct Run<T> {
    first: Option<T>,
    rest: vec::IntoIter<T>,
}

impl<T> Iterator for Run<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = usize::from(self.first.is_some()) + self.rest.len();
        (len, Some(len))
    }
}

impl<T> ExactSizeIterator for Run<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deliver<T>(verdict: Verdict<T>) -> Vec<T> {
        match verdict {
            Verdict::Deliver(run) => run.collect(),
            Verdict::Duplicate | Verdict::Held => Vec::new(),
        }
    }

    #[test]
    fn a_waiting_follower_holds_everything_until_it_is_told_where_to_begin() {
        let mut follower = Follower::waiting();
        for sequence in [7, 6, 9] {
            assert!(matches!(follower.offer(sequence, sequence), Verdict::Held));
        }
        assert_eq!(follower.missing(), None);
        assert_eq!(follower.begin(6).collect::<Vec<_>>(), [7]);
        assert_eq!(follower.missing(), Some(Missing { after: 7, up_to: 8 }));
    }

    #[test]
    fn a_head_beyond_what_is_known_has_to_be_read() {
        let mut follower = Follower::new(2);
        follower.head(2);
        assert_eq!(follower.missing(), None);
        follower.head(5);
        follower.head(4);
        assert_eq!(follower.missing(), Some(Missing { after: 2, up_to: 5 }));
        assert_eq!(follower.filled([(3, 3), (4, 4)]).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(follower.missing(), Some(Missing { after: 4, up_to: 5 }));
    }

    #[test]
    fn a_jump_leaves_out_what_lies_between_and_never_goes_back() {
        let mut follower = Follower::new(0);
        follower.offer(5, 5);
        assert_eq!(follower.begin(4).collect::<Vec<_>>(), [5]);
        assert_eq!(follower.begin(1).len(), 0);
        assert_eq!(follower.applied(), Some(5));
    }

    #[test]
    fn what_does_not_fit_is_not_forgotten() {
        let mut follower = Follower::new(0).holding(2);
        for sequence in [5, 4, 3, 2] {
            follower.offer(sequence, sequence);
        }
        assert_eq!(follower.known_head(), 5);
        assert_eq!(deliver(follower.offer(1, 1)), [1, 2, 3]);
        assert_eq!(follower.missing(), Some(Missing { after: 3, up_to: 5 }));
    }

    /// What the world does to a follower: hints in any order, lost and doubled, and a loop that repairs now and then.
    #[derive(Clone, Debug)]
    enum Step {
        Hint(i64),
        Head,
        Repair(usize),
    }

    fn steps(len: i64) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1..=len).prop_map(Step::Hint),
            1 => Just(Step::Head),
            2 => (1..6_usize).prop_map(Step::Repair),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn everything_is_delivered_once_and_in_order(
            (len, steps) in (1..60_i64).prop_flat_map(|len| (Just(len), steps(len))),
            start in 0..3_i64,
            capacity in 0..8_usize,
        ) {
            let start = start.min(len);
            let mut follower = Follower::new(start).holding(capacity);
            let mut seen = Vec::new();
            let read = |missing: Missing, limit: usize| {
                (missing.after + 1..=missing.up_to).take(limit).map(|sequence| (sequence, sequence))
            };
            for step in steps {
                match step {
                    Step::Hint(sequence) => seen.extend(deliver(follower.offer(sequence, sequence))),
                    Step::Head => follower.head(len),
                    Step::Repair(limit) => {
                        if let Some(missing) = follower.missing() {
                            seen.extend(follower.filled(read(missing, limit)));
                        }
                    }
                }
                prop_assert_eq!(follower.applied(), Some(start + seen.len() as i64));
                prop_assert!(follower.held.len() <= capacity);
            }
            // However it went: a head check and repairs bring everything.
            follower.head(len);
            while let Some(missing) = follower.missing() {
                let before = seen.len();
                seen.extend(follower.filled(read(missing, 3)));
                prop_assert!(seen.len() > before, "a repair brings something");
            }
            prop_assert_eq!(seen, (start + 1..=len).collect::<Vec<_>>());
        }
    }
}
