//! The positions of a stream of events in the logs that it follows.
//!
//! The positions in all conversations of a user do not fit into the id of an event. So a stream keeps only the changes
//! since a checkpoint, which messaging stores, and the id names that checkpoint ([`super::event_id`]). A stream of few
//! conversations needs none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proto::id::{ConversationId, StreamCheckpointId};

use super::varint::{put, take};

/// The number of changes above which a stream makes a new checkpoint.
pub(super) const SAVE_ABOVE: usize = 64;

/// The number of changes at which a stream continues only with a new checkpoint.
pub(super) const MOST_CHANGES: usize = 128;

/// The first byte of the positions of a checkpoint, which gives their format.
const FORM: u8 = 1;

/// A short name of a conversation.
///
/// A conversation is identified by the last five bytes of its id, which are random; a returning client names the
/// conversations, or its user is a member of them. If two conversations of one user ever end in the same bytes, the
/// client may receive events of one of them again.
pub(super) type Tail = [u8; 5];

/// The positions of a stream in some conversations.
pub(super) type Positions = HashMap<Tail, i64>;

/// The positions of a stream that differ from those of a checkpoint; `None` for a conversation that is no longer
/// followed.
pub(super) type Changes = HashMap<Tail, Option<i64>>;

pub(super) fn tail(conversation: ConversationId) -> Tail {
    let [.., a, b, c, d, e] = conversation.uuid().into_bytes();
    [a, b, c, d, e]
}

/// Positions that messaging stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) id: StreamCheckpointId,
    pub(super) positions: Arc<Positions>,
}

/// The positions of a stream in every log that it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) epoch: String,
    pub(super) user: i64,
    checkpoint: Option<Checkpoint>,
    changes: Changes,
}

impl Progress {
    /// Creates a progress from a checkpoint and the changes since.
    pub(super) fn new(epoch: String, user: i64, checkpoint: Option<Checkpoint>, changes: Changes) -> Self {
        Self { epoch, user, checkpoint, changes }
    }

    /// Creates the progress of a stream that follows nothing yet.
    pub(super) fn at_start(epoch: String) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Returns the position of the stream in a conversation; `None` when it does not follow it.
    pub(super) fn of(&self, conversation: ConversationId) -> Option<i64> {
        self.get(tail(conversation))
    }

    /// Sets the position of the stream in a conversation.
    pub(super) fn set(&mut self, conversation: ConversationId, sequence: i64) {
        self.put(tail(conversation), Some(sequence));
    }

    /// Follows a conversation from here on, unless the stream follows it already.
    pub(super) fn follow(&mut self, conversation: ConversationId, sequence: i64) {
        if self.of(conversation).is_none() {
            self.set(conversation, sequence);
        }
    }

    /// Stops following a conversation.
    pub(super) fn forget(&mut self, conversation: ConversationId) {
        self.put(tail(conversation), None);
    }

    /// Stops following all conversations but these.
    pub(super) fn restrict(&mut self, followed: &HashSet<Tail>) {
        let mut positions = self.positions();
        positions.retain(|tail, _| followed.contains(tail));
        self.replace(positions);
    }

    /// Returns the checkpoint to which the changes refer.
    pub(super) fn checkpoint(&self) -> Option<StreamCheckpointId> {
        self.checkpoint.as_ref().map(|checkpoint| checkpoint.id)
    }

    /// Returns the positions that differ from the checkpoint; all of them when there is none.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// True when a new checkpoint is due.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.changes.len() > SAVE_ABOVE
    }

    /// True when the stream must not continue without a new checkpoint.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= MOST_CHANGES
    }

    /// Returns the positions of the stream in all conversations.
    pub(super) fn positions(&self) -> Positions {
        let mut positions =
            self.checkpoint.as_ref().map(|one| Positions::clone(&one.positions)).unwrap_or_default();
        for (tail, sequence) in &self.changes {
            match sequence {
                Some(sequence) => positions.insert(*tail, *sequence),
                None => positions.remove(tail),
            };
        }
        positions
    }

    /// Makes the changes refer to this checkpoint.
    pub(super) fn stand_on(&mut self, checkpoint: Checkpoint) {
        let positions = self.positions();
        self.checkpoint = Some(checkpoint);
        self.replace(positions);
    }

    /// Replaces all positions. A checkpoint is dropped if too many of its positions are no longer followed.
    fn replace(&mut self, positions: Positions) {
        let lost = self.kept().filter(|(tail, _)| !positions.contains_key(*tail)).count();
        if lost > SAVE_ABOVE {
            self.checkpoint = None;
        }
        let mut changes: Changes = self
            .kept()
            .filter(|(tail, _)| !positions.contains_key(*tail))
            .map(|(tail, _)| (*tail, None))
            .collect();
        let is_new = |(tail, sequence): &(Tail, i64)| self.in_checkpoint(*tail) != Some(*sequence);
        changes.extend(positions.into_iter().filter(is_new).map(|(tail, sequence)| (tail, Some(sequence))));
        self.changes = changes;
    }

    fn get(&self, tail: Tail) -> Option<i64> {
        self.changes.get(&tail).copied().unwrap_or_else(|| self.in_checkpoint(tail))
    }

    fn put(&mut self, tail: Tail, sequence: Option<i64>) {
        if self.in_checkpoint(tail) == sequence {
            self.changes.remove(&tail);
        } else {
            self.changes.insert(tail, sequence);
        }
    }

    fn in_checkpoint(&self, tail: Tail) -> Option<i64> {
        self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.positions.get(&tail).copied())
    }

    fn kept(&self) -> impl Iterator<Item = (&Tail, &i64)> {
        self.checkpoint.iter().flat_map(|checkpoint| checkpoint.positions.iter())
    }
}

/// Encodes positions for a checkpoint.
pub(super) fn write_positions(positions: &Positions) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 8 * positions.len());
    bytes.push(FORM);
    for (tail, sequence) in positions {
        bytes.extend_from_slice(tail);
        put(&mut bytes, sequence.unsigned_abs());
    }
    bytes
}

/// Decodes the positions of a checkpoint; `None` when their format is unknown.
pub(super) fn read_positions(bytes: &[u8]) -> Option<Positions> {
    let (form, mut rest) = bytes.split_first()?;
    let mut positions = Positions::new();
    while let Some((tail, after)) = rest.split_first_chunk() {
        rest = after;
        positions.insert(*tail, i64::try_from(take(&mut rest)?).ok()?);
    }
    (*form == FORM && rest.is_empty()).then_some(positions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(positions: Positions) -> Checkpoint {
        Checkpoint { id: StreamCheckpointId::generate(), positions: Arc::new(positions) }
    }

    #[test]
    fn what_comes_back_to_the_checkpoint_is_no_change() {
        let [kept, lost, new] = [(); 3].map(|()| ConversationId::generate());
        let known = Positions::from([(tail(kept), 5), (tail(lost), 7)]);
        let mut progress = Progress::new("e".to_owned(), 1, Some(checkpoint(known)), Changes::new());
        assert_eq!((progress.of(kept), progress.of(new)), (Some(5), None));
        progress.set(kept, 6);
        progress.forget(lost);
        progress.follow(new, 3);
        progress.follow(new, 4);
        assert_eq!((progress.of(kept), progress.of(lost), progress.of(new)), (Some(6), None, Some(3)));
        assert_eq!(progress.changes().len(), 3);
        progress.forget(new);
        progress.follow(lost, 7);
        assert_eq!(*progress.changes(), Changes::from([(tail(kept), Some(6))]));
    }

    #[test]
    fn a_checkpoint_of_which_little_is_left_is_given_up() {
        let conversations: Vec<_> = (0..200).map(|_| ConversationId::generate()).collect();
        let known: Positions = conversations.iter().map(|id| (tail(*id), 1)).collect();
        let new = || Progress::new("e".to_owned(), 1, Some(checkpoint(known.clone())), Changes::new());
        let mut progress = new();
        progress.restrict(&conversations[..150].iter().copied().map(tail).collect());
        assert!(progress.checkpoint().is_some() && progress.changes().len() == 50);
        let mut progress = new();
        progress.restrict(&conversations[..10].iter().copied().map(tail).collect());
        assert!(progress.checkpoint().is_none() && progress.changes().len() == 10);
        assert_eq!(progress.of(conversations[9]), Some(1));
        assert_eq!(progress.of(conversations[10]), None);
    }

    proptest! {
        /// However a stream goes on while checkpoints are made of what it was at some time, it stands where it would
        /// without any.
        #[test]
        fn checkpoints_change_no_position(
            steps in proptest::collection::vec((0..40_u8, proptest::option::of(0..5_i64), 0..12_u8), 0..300),
        ) {
            let (mut progress, mut expected) = (Progress::default(), Positions::new());
            let mut saving = None;
            for (place, sequence, what) in steps {
                let tail = [place; 5];
                progress.put(tail, sequence);
                match sequence {
                    Some(sequence) => expected.insert(tail, sequence),
                    None => expected.remove(&tail),
                };
                match what {
                    0 => saving = Some(checkpoint(progress.positions())),
                    1 => if let Some(saved) = saving.take() { progress.stand_on(saved) },
                    2 => {
                        let followed = expected.keys().copied().collect();
                        progress.restrict(&followed);
                    }
                    _ => {}
                }
                prop_assert_eq!(progress.positions(), expected.clone());
                prop_assert_eq!(progress.get(tail), sequence);
            }
            prop_assert_eq!(read_positions(&write_positions(&expected)), Some(expected));
        }

        #[test]
        fn whatever_comes_as_positions_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(positions) = read_positions(&bytes) {
                prop_assert_eq!(read_positions(&write_positions(&positions)), Some(positions));
            }
        }
    }
}
