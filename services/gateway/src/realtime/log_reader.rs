//! The position of one connection in one log: it first reads the entries that it missed, then it receives new ones. No
//! I/O.
//!
//! While the history is read, new entries are kept, at most [`MEANWHILE`]. When the reading has reached a position, the
//! entries kept beyond it follow, and the reader is live, unless there were more new entries than fit: then it reads on
//! from there. However the two interleave, every sequence after the first is delivered once and in order.

/// The number of new entries that are kept while the history is read. Further ones are read from the log.
pub(super) const MEANWHILE: usize = 64;

/// The position of one connection in one log.
#[derive(Debug)]
pub(super) struct Reader<T> {
    /// Everything up to here has been delivered, or was known to the client.
    sent: i64,
    /// The entries that arrived while the history is being read, in order; `None` once the reader is live.
    meanwhile: Option<Vec<(i64, T)>>,
}

/// The handling of a new entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happened<T> {
    /// It is delivered now.
    Now(T),
    /// It is delivered, or read from the log, after the history.
    Kept,
    /// It was in the history already.
    Known,
    /// An entry before it is missing; that does not happen as long as the topic delivers everything in order.
    Gap,
}

impl<T> Reader<T> {
    /// Creates a reader that reads its history first.
    pub(super) fn catching_up() -> Self {
        Self { sent: 0, meanwhile: Some(Vec::new()) }
    }

    /// True when it receives new entries at once.
    pub(super) fn is_live(&self) -> bool {
        self.meanwhile.is_none()
    }

    /// Returns the sequence up to which everything has been delivered.
    pub(super) fn sent(&self) -> i64 {
        self.sent
    }

    /// Handles a new entry; entries come in order, without gaps.
    pub(super) fn happened(&mut self, sequence: i64, item: T) -> Happened<T> {
        match &mut self.meanwhile {
            Some(kept) => {
                if kept.len() < MEANWHILE {
                    kept.push((sequence, item));
                }
                Happened::Kept
            }
            None if sequence <= self.sent => Happened::Known,
            None if sequence == self.sent + 1 => {
                self.sent = sequence;
                Happened::Now(item)
            }
            None => Happened::Gap,
        }
    }

    /// Records that the history has been delivered up to `sent`, while the log is known to reach to `head` at least.
    /// Returns the entries that follow now. Afterwards the reader is live, or reads on after [`Reader::sent`].
    pub(super) fn caught_up(&mut self, sent: i64, head: i64) -> Vec<T> {
        let Some(kept) = self.meanwhile.take() else {
            self.sent = self.sent.max(sent);
            return Vec::new();
        };
        self.sent = sent;
        let mut following = Vec::new();
        for (sequence, item) in kept {
            if sequence == self.sent + 1 {
                self.sent = sequence;
                following.push(item);
            }
        }
        if self.sent < head {
            self.meanwhile = Some(Vec::new());
        }
        following
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now(happened: Happened<i64>) -> Option<i64> {
        match happened {
            Happened::Now(item) => Some(item),
            Happened::Kept | Happened::Known => None,
            Happened::Gap => panic!("a gap"),
        }
    }

    #[test]
    fn what_happens_meanwhile_follows_the_history() {
        let mut reader = Reader::catching_up();
        for sequence in 4..=6 {
            assert_eq!(now(reader.happened(sequence, sequence)), None);
        }
        assert_eq!(reader.caught_up(5, 6), [6]);
        assert!(reader.is_live());
        assert_eq!(now(reader.happened(7, 7)), Some(7));
    }

    #[test]
    fn what_the_history_has_brought_is_not_handed_out_again() {
        let mut reader = Reader::catching_up();
        assert!(reader.caught_up(9, 7).is_empty());
        assert_eq!(now(reader.happened(8, 8)), None);
        assert_eq!(now(reader.happened(9, 9)), None);
        assert_eq!(now(reader.happened(10, 10)), Some(10));
    }

    #[test]
    fn one_that_falls_behind_reads_on() {
        let mut reader = Reader::catching_up();
        let busy = MEANWHILE as i64 + 10;
        for sequence in 1..=busy {
            reader.happened(sequence, sequence);
        }
        assert_eq!(reader.caught_up(0, busy).len(), MEANWHILE);
        assert!(!reader.is_live());
        assert_eq!(reader.sent(), MEANWHILE as i64);
        reader.happened(busy + 1, busy + 1);
        assert_eq!(reader.caught_up(busy, busy + 1), [busy + 1]);
        assert!(reader.is_live());
    }

    proptest! {
        /// A log that grows, a topic that hands out what has grown in order but later, and a reader that reads the log
        /// page by page meanwhile: the client sees 1..n, each once, in order.
        #[test]
        fn every_event_is_seen_once_and_in_order(
            start in 0..20_i64,
            joined in 0..20_i64,
            steps in proptest::collection::vec((0..4_u8, 1..40_i64), 1..200),
        ) {
            // The topic has handed out everything up to `head` when the reader joins; the log may reach further.
            let (mut log, mut head) = (start.max(joined), joined);
            let known = start.min(log);
            let mut reader = Reader::catching_up();
            let (mut read_to, mut seen) = (known, Vec::new());
            let settle = (0..).map(|_| (2, 64)).take(400);
            for (step, count) in steps.into_iter().map(|(step, count)| (i64::from(step), count)).chain(settle) {
                match step {
                    0 => log += count,
                    1 => {
                        for sequence in head + 1..=(head + count).min(log) {
                            seen.extend(now(reader.happened(sequence, sequence)));
                            head = sequence;
                        }
                    }
                    // A page of the log.
                    _ if !reader.is_live() => {
                        let page = (read_to + count).min(log);
                        seen.extend(read_to + 1..=page);
                        read_to = page;
                        // The reading ends where the log ended; that may be some time ago.
                        if page == log || step == 3 {
                            seen.extend(reader.caught_up(page, head));
                            read_to = reader.sent();
                        }
                    }
                    _ => {
                        for sequence in head + 1..=log {
                            seen.extend(now(reader.happened(sequence, sequence)));
                            head = sequence;
                        }
                    }
                }
            }
            prop_assert!(reader.is_live());
            for sequence in head + 1..=log {
                seen.extend(now(reader.happened(sequence, sequence)));
            }
            prop_assert_eq!(seen, (known + 1..=log).collect::<Vec<_>>());
        }
    }
}
