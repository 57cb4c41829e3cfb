//! How far a stream of events has come, as the id of an event.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::id::ConversationId;

/// How far a stream has come in every log that it follows.
///
/// It is kept short, because every event carries it: a conversation is known by the last five bytes of its id, which
/// are random; who comes back names the conversations, or is in them. Should two conversations of one user ever end in
/// the same bytes, both go on after the lower sequence, and the client drops what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) epoch: String,
    pub(super) user: i64,
    pub(super) conversations: HashMap<Tail, i64>,
}

/// What a conversation is known by.
pub(super) type Tail = [u8; 5];

/// The first byte of every id: another form has another one.
const FORM: u8 = 1;

/// The longest epoch.
const MAX_EPOCH: usize = 64;

pub(super) fn tail(conversation: ConversationId) -> Tail {
    let [.., a, b, c, d, e] = conversation.uuid().into_bytes();
    [a, b, c, d, e]
}

impl Progress {
    pub(super) fn set(&mut self, conversation: ConversationId, sequence: i64) {
        self.conversations.insert(tail(conversation), sequence);
    }

    pub(super) fn of(&self, conversation: ConversationId) -> Option<i64> {
        self.conversations.get(&tail(conversation)).copied()
    }

    /// As the `id` of an event.
    pub(super) fn write(&self) -> String {
        let mut bytes = Vec::with_capacity(16 + self.epoch.len() + 8 * self.conversations.len());
        bytes.push(FORM);
        put(&mut bytes, self.epoch.len() as u64);
        bytes.extend_from_slice(self.epoch.as_bytes());
        put(&mut bytes, self.user.unsigned_abs());
        for (tail, sequence) in &self.conversations {
            bytes.extend_from_slice(tail);
            put(&mut bytes, sequence.unsigned_abs());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (form, mut rest) = bytes.split_first()?;
        if *form != FORM {
            return None;
        }
        let len = usize::try_from(take(&mut rest)?).ok().filter(|len| *len <= MAX_EPOCH)?;
        let (epoch, after) = rest.split_at_checked(len)?;
        rest = after;
        let epoch = std::str::from_utf8(epoch).ok()?.to_owned();
        let user = i64::try_from(take(&mut rest)?).ok()?;
        let mut conversations = HashMap::new();
        while let Some((tail, after)) = rest.split_first_chunk() {
            rest = after;
            conversations.insert(*tail, i64::try_from(take(&mut rest)?).ok()?);
        }
        rest.is_empty().then_some(Self { epoch, user, conversations })
    }
}

/// Seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn progress_survives_being_written_and_read() {
        let mut progress = Progress { epoch: "e1".to_owned(), user: 300, ..Progress::default() };
        let (one, other) = (ConversationId::generate(), ConversationId::generate());
        progress.set(one, 1);
        progress.set(other, i64::MAX);
        let read = Progress::parse(progress.write().as_bytes()).expect("progress");
        assert_eq!(read, progress);
        assert_eq!((read.of(one), read.of(other)), (Some(1), Some(i64::MAX)));
        assert_eq!(read.of(ConversationId::generate()), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_as_an_id_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Progress::parse(&bytes);
            let encoded = URL_SAFE_NO_PAD.encode(&bytes);
            if let Some(progress) = Progress::parse(encoded.as_bytes()) {
                prop_assert_eq!(Progress::parse(progress.write().as_bytes()), Some(progress));
            }
        }
    }
}
