//! The id of an event: the position of the stream in every log, in a size that does not depend on the number of the
//! user's conversations.
//!
//! It has a checkpoint of positions and at most 128 changes since, each of 14 bytes at most: with sequences below two
//! million that is 1.5 kB, and never more than 2.6 kB.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::id::StreamCheckpointId;
use uuid::Uuid;

use super::progress::{Changes, MOST_CHANGES, Progress};
use super::varint::{put, take};
use crate::realtime::identity::StreamKey;

/// The first byte of an id with the positions in all conversations, which gateways wrote before checkpoints existed.
const ALL_POSITIONS: u8 = 1;

/// The first byte of the ids that are written now.
const CHANGES: u8 = 2;

/// The flags of the second byte: the parts that are present.
const HAS_KEY: u8 = 1;
const HAS_PLACE: u8 = 2;
const HAS_CHECKPOINT: u8 = 4;

/// The longest epoch.
const MAX_EPOCH: usize = 64;

/// The position at which a stream continues, as the id of an event contains it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: String,
    pub(super) user: i64,
    pub(super) checkpoint: Option<StreamCheckpointId>,
    pub(super) changes: Changes,
}

/// The id of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EventId {
    /// The key of the stream; only of one that was opened with a ticket.
    pub(super) key: Option<StreamKey>,
    /// The position at which the stream continues after the event; `None` before it has begun.
    pub(super) place: Option<Place>,
}

impl EventId {
    /// Returns the id as text. `None` when it would be too long, which an id of the old form may be in the new one.
    pub(super) fn text(&self) -> Option<String> {
        let Some(place) = &self.place else { return Some(write(self.key.as_ref(), None)) };
        let Place { epoch, user, checkpoint, changes } = place;
        let place = Written { epoch, user: *user, checkpoint: *checkpoint, changes };
        (changes.len() <= MOST_CHANGES).then(|| write(self.key.as_ref(), Some(place)))
    }

    /// Returns the id of a stream with this progress.
    pub(super) fn of(progress: &Progress, key: Option<&StreamKey>) -> String {
        let checkpoint = progress.checkpoint();
        let Progress { epoch, user, .. } = progress;
        write(key, Some(Written { epoch, user: *user, checkpoint, changes: progress.changes() }))
    }

    /// Reads an id; `None` when the text is invalid.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (form, mut rest) = bytes.split_first()?;
        match *form {
            ALL_POSITIONS => {
                let (epoch, user) = (take_epoch(&mut rest)?, take_sequence(&mut rest)?);
                let place = Place { epoch, user, checkpoint: None, changes: take_positions(rest)? };
                Some(Self { key: None, place: Some(place) })
            }
            CHANGES => {
                let (flags, after) = rest.split_first()?;
                rest = after;
                let key = match flags & HAS_KEY {
                    0 => None,
                    _ => Some(StreamKey::from(take_bytes(&mut rest)?)),
                };
                let place = match *flags & !HAS_KEY {
                    0 if rest.is_empty() => None,
                    HAS_PLACE => Some(take_place(rest, false)?),
                    flags if flags == HAS_PLACE | HAS_CHECKPOINT => Some(take_place(rest, true)?),
                    _ => return None,
                };
                Some(Self { key, place })
            }
            _ => None,
        }
    }
}

/// The parts of a position that are written.
struct Written<'a> {
    epoch: &'a str,
    user: i64,
    checkpoint: Option<StreamCheckpointId>,
    changes: &'a Changes,
}

fn write(key: Option<&StreamKey>, place: Option<Written<'_>>) -> String {
    let mut bytes = vec![CHANGES, 0];
    let mut flags = 0;
    if let Some(key) = key {
        flags |= HAS_KEY;
        bytes.extend_from_slice(key.as_bytes());
    }
    if let Some(Written { epoch, user, checkpoint, changes }) = place {
        flags |= HAS_PLACE;
        put(&mut bytes, epoch.len() as u64);
        bytes.extend_from_slice(epoch.as_bytes());
        put(&mut bytes, user.unsigned_abs());
        if let Some(id) = checkpoint {
            flags |= HAS_CHECKPOINT;
            bytes.extend_from_slice(id.uuid().as_bytes());
        }
        let lost = changes.iter().filter(|(_, sequence)| sequence.is_none());
        put(&mut bytes, lost.clone().count() as u64);
        lost.for_each(|(tail, _)| bytes.extend_from_slice(tail));
        for (tail, sequence) in changes {
            if let Some(sequence) = sequence {
                bytes.extend_from_slice(tail);
                put(&mut bytes, sequence.unsigned_abs());
            }
        }
    }
    if let Some(byte) = bytes.get_mut(1) {
        *byte = flags;
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn take_place(mut rest: &[u8], has_checkpoint: bool) -> Option<Place> {
    let (epoch, user) = (take_epoch(&mut rest)?, take_sequence(&mut rest)?);
    let checkpoint = match has_checkpoint {
        true => Some(Uuid::from_bytes(take_bytes(&mut rest)?).into()),
        false => None,
    };
    let mut lost = Changes::new();
    for _ in 0..take(&mut rest)? {
        lost.insert(take_bytes(&mut rest)?, None);
    }
    let mut changes = take_positions(rest)?;
    changes.extend(lost);
    Some(Place { epoch, user, checkpoint, changes })
}

fn take_epoch(rest: &mut &[u8]) -> Option<String> {
    let len = usize::try_from(take(rest)?).ok().filter(|len| *len <= MAX_EPOCH)?;
    let (epoch, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(std::str::from_utf8(epoch).ok()?.to_owned())
}

fn take_sequence(rest: &mut &[u8]) -> Option<i64> {
    i64::try_from(take(rest)?).ok()
}

fn take_bytes<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

/// Reads positions up to the end.
fn take_positions(mut rest: &[u8]) -> Option<Changes> {
    let mut changes = Changes::new();
    while !rest.is_empty() {
        changes.insert(take_bytes(&mut rest)?, Some(take_sequence(&mut rest)?));
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::realtime::sse::progress::{Checkpoint, Positions};

    const EPOCH: &str = "0193f0aa-0000-7000-8000-000000000000";

    fn key() -> StreamKey {
        StreamKey::from([7; 16])
    }

    /// A progress with so many changes since a checkpoint.
    fn progress(changes: usize, sequence: i64) -> Progress {
        let id = StreamCheckpointId::generate();
        let checkpoint = Checkpoint { id, positions: Arc::new(Positions::from([([255; 5], 1)])) };
        let of = |n: usize| ([1, 2, 3, 4, n as u8], (n > 0).then_some(sequence));
        Progress::new(EPOCH.to_owned(), 300, Some(checkpoint), (0..changes).map(of).collect())
    }

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for key in [None, Some(key())] {
            let id = EventId { key: key.clone(), place: None };
            assert_eq!(EventId::parse(id.text().expect("short").as_bytes()), Some(id));
            let progress = progress(9, i64::MAX);
            let text = EventId::of(&progress, key.as_ref());
            let read = EventId::parse(text.as_bytes()).expect("an id");
            assert_eq!(read.key, key);
            let place = read.place.clone().expect("a place");
            assert_eq!((place.epoch.as_str(), place.user), (EPOCH, 300));
            assert_eq!((place.checkpoint, &place.changes), (progress.checkpoint(), progress.changes()));
            assert_eq!(EventId::parse(read.text().expect("short").as_bytes()), Some(read));
        }
    }

    #[test]
    fn an_id_is_short_however_much_has_changed() {
        let longest = |sequence| EventId::of(&progress(MOST_CHANGES, sequence), Some(&key())).len();
        assert!(longest(2_000_000) <= 1_500, "{}", longest(2_000_000));
        assert!(longest(i64::MAX) <= 2_600, "{}", longest(i64::MAX));
    }

    #[test]
    fn an_id_of_the_old_form_is_read() {
        let mut bytes = vec![ALL_POSITIONS, 2];
        bytes.extend_from_slice(b"e1");
        put(&mut bytes, 300);
        for n in 0..200 {
            bytes.extend_from_slice(&[n; 5]);
            put(&mut bytes, u64::from(n));
        }
        let id = EventId::parse(URL_SAFE_NO_PAD.encode(bytes).as_bytes()).expect("an id");
        let place = id.place.as_ref().expect("a place");
        assert_eq!((place.epoch.as_str(), place.user, place.checkpoint), ("e1", 300, None));
        assert_eq!((place.changes.len(), place.changes[&[199; 5]]), (200, Some(199)));
        assert!(id.key.is_none() && id.text().is_none(), "it would be too long");
    }

    proptest! {
        #[test]
        fn whatever_comes_as_an_id_is_read_or_refused(
            form in 0..4_u8,
            flags in 0..9_u8,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = EventId::parse(&bytes);
            let bytes = [&[form, flags], bytes.as_slice()].concat();
            if let Some(id) = EventId::parse(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()) {
                let text = id.text().expect("short");
                prop_assert_eq!(EventId::parse(text.as_bytes()), Some(id));
            }
        }
    }
}
