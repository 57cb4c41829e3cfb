//! The order of one connection's commands: those about one conversation run one at a time, in their order of arrival;
//! those about different conversations, and about none, run concurrently.
//!
//! So at most one send of a connection to a conversation is in progress, the next waits here, and messages are stored
//! in their order of arrival. A client that waits for each answer notices nothing of it. If the outcome of a send is
//! unknown, the sends that wait behind it are not tried: otherwise they could be stored before the client repeats the
//! first one. The client repeats all of them, in its order.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The commands that wait for an earlier one.
#[derive(Debug)]
pub(super) struct CommandOrder<L, C> {
    /// A lane exists while a command of it is in progress.
    busy: HashMap<L, VecDeque<C>>,
}

impl<L: Hash + Eq + Clone, C> CommandOrder<L, C> {
    pub(super) fn new() -> Self {
        Self { busy: HashMap::new() }
    }

    /// Adds a command. Returns it when it can begin now.
    pub(super) fn enter(&mut self, lane: &L, command: C) -> Option<C> {
        match self.busy.get_mut(lane) {
            Some(waiting) => {
                waiting.push_back(command);
                None
            }
            None => {
                self.busy.insert(lane.clone(), VecDeque::new());
                Some(command)
            }
        }
    }

    /// Ends the command in progress. Returns the one that begins now.
    pub(super) fn leave(&mut self, lane: &L) -> Option<C> {
        let next = self.busy.get_mut(lane).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.busy.remove(lane);
            if self.busy.is_empty() {
                // An idle connection keeps no memory.
                self.busy = HashMap::new();
            }
        }
        next
    }

    /// Removes the waiting commands of a lane that are not to be tried.
    pub(super) fn clear(&mut self, lane: &L, is_meant: impl FnMut(&C) -> bool) -> Vec<C> {
        let Some(waiting) = self.busy.get_mut(lane) else { return Vec::new() };
        let (meant, others) = std::mem::take(waiting).into_iter().partition::<Vec<_>, _>(is_meant);
        *waiting = others.into();
        meant
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_lane_goes_one_by_one_and_lanes_go_beside_each_other() {
        let mut lanes = CommandOrder::new();
        assert_eq!(lanes.enter(&"a", 1), Some(1));
        assert_eq!(lanes.enter(&"a", 2), None);
        assert_eq!(lanes.enter(&"b", 3), Some(3));
        assert_eq!(lanes.leave(&"a"), Some(2));
        assert_eq!(lanes.leave(&"a"), None);
        assert_eq!(lanes.enter(&"a", 4), Some(4));
    }

    #[test]
    fn what_waits_can_be_taken_out() {
        let mut lanes = CommandOrder::new();
        for command in 1..=5 {
            lanes.enter(&(), command);
        }
        assert_eq!(lanes.clear(&(), |command| command % 2 == 0), [2, 4]);
        assert_eq!(lanes.leave(&()), Some(3));
        assert_eq!(lanes.leave(&()), Some(5));
        assert_eq!(lanes.leave(&()), None);
    }

    proptest! {
        #[test]
        fn every_command_begins_once_and_in_its_order(commands in proptest::collection::vec((0..3_u8, any::<bool>()), 0..60)) {
            let mut lanes = CommandOrder::new();
            let (mut begun, mut busy) = (vec![Vec::new(); 3], [false; 3]);
            for (number, (lane, done)) in commands.into_iter().enumerate() {
                let place = usize::from(lane);
                if let Some(first) = lanes.enter(&lane, number) {
                    prop_assert!(!busy[place]);
                    busy[place] = true;
                    begun[place].push(first);
                }
                if done {
                    let next = lanes.leave(&lane);
                    busy[place] = next.is_some();
                    begun[place].extend(next);
                }
            }
            for lane in 0..3_u8 {
                while let Some(next) = lanes.leave(&lane) {
                    begun[usize::from(lane)].push(next);
                }
            }
            for lane in &begun {
                prop_assert!(lane.is_sorted_by(|one, other| one < other));
            }
            prop_assert!(lanes.busy.is_empty());
        }
    }
}
