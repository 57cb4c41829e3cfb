//! The newest state known of many things, so that a state that arrives late is known to be old.
//!
//! It is for states that come as hints and not as entries of a log: they can be late, and out of order when there are
//! several publishers. A state is some numbers, none of which ever goes down.

use std::collections::HashMap;
use std::hash::Hash;

/// The newest states of at least the last `capacity` things of which something was said, and of at most twice as many.
#[derive(Clone, Debug)]
pub struct Newest<K, const N: usize> {
    recent: HashMap<K, [i64; N]>,
    former: HashMap<K, [i64; N]>,
    capacity: usize,
}

impl<K: Eq + Hash, const N: usize> Newest<K, N> {
    /// Nothing is known.
    pub fn new(capacity: usize) -> Self {
        Self { recent: HashMap::new(), former: HashMap::new(), capacity }
    }

    /// Takes a state into account. Returns the newest one known now: this one, or one that is newer.
    pub fn note(&mut self, key: K, state: [i64; N]) -> [i64; N] {
        let known = self.recent.get(&key).or_else(|| self.former.get(&key));
        let newest = match known {
            Some(known) => std::array::from_fn(|place| known[place].max(state[place])),
            None => state,
        };
        if self.recent.len() >= self.capacity && !self.recent.contains_key(&key) {
            self.former = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, newest);
        newest
    }

    /// Takes a state into account, and says whether none is known that is newer.
    pub fn admits(&mut self, key: K, state: [i64; N]) -> bool {
        self.note(key, state) == state
    }

    /// Forgets everything: states begin anew.
    pub fn clear(&mut self) {
        self.recent = HashMap::new();
        self.former = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_is_not_admitted_and_what_is_known_is() {
        let mut newest = Newest::new(4);
        assert!(newest.admits("ann", [5, 2]));
        assert!(newest.admits("ann", [5, 2]), "again");
        assert!(newest.admits("bob", [1, 1]), "another");
        assert!(!newest.admits("ann", [5, 1]));
        assert!(!newest.admits("ann", [4, 2]));
        assert!(newest.admits("ann", [6, 6]));
        assert_eq!(newest.note("ann", [5, 2]), [6, 6]);
        newest.clear();
        assert!(newest.admits("ann", [1, 1]));
    }

    #[test]
    fn what_is_spoken_of_is_not_forgotten() {
        let mut newest = Newest::new(4);
        newest.note(0, [9]);
        for key in 1..100 {
            newest.note(key, [1]);
            assert!(!newest.admits(0, [8]), "{key}");
        }
    }

    proptest! {
        #[test]
        fn none_of_the_last_is_forgotten_and_memory_is_bounded(keys in proptest::collection::vec(0..30_u8, 0..300), capacity in 1..10_usize) {
            let mut newest = Newest::new(capacity);
            for (turn, key) in keys.iter().enumerate() {
                newest.note(*key, [1]);
                prop_assert!(newest.recent.len() <= capacity && newest.former.len() <= capacity);
                let mut last = Vec::new();
                for key in keys[..=turn].iter().rev() {
                    if !last.contains(key) {
                        last.push(*key);
                    }
                }
                for key in last.iter().take(capacity) {
                    let known = newest.recent.get(key).or_else(|| newest.former.get(key));
                    prop_assert_eq!(known, Some(&[1]));
                }
            }
        }
    }
}
