//! Entries and the sums that chain them.

use sha2::{Digest, Sha256};
use sqlx::FromRow;
use uuid::Uuid;

/// One call, as it is kept. Texts hold ids and names of the contract, and nothing that people write.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Entry {
    /// UUID version 7.
    pub audit_id: Uuid,
    /// Milliseconds since 1970.
    pub occur_millis: i64,
    pub action: String,
    pub actor: String,
    pub origin: String,
    pub target: String,
    pub outcome: String,
    pub request_id: String,
}

/// A place in the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub(crate) struct Link {
    /// 1 for the first entry; 0 before it.
    pub sequence: i64,
    /// The SHA-256 sum of the entry and all before it; empty before the first.
    pub hash: Vec<u8>,
}

impl Link {
    /// The place of an entry that follows this one.
    pub fn next(&self, entry: &Entry) -> Self {
        let Entry { audit_id, occur_millis, action, actor, origin, target, outcome, request_id } = entry;
        let sequence = self.sequence + 1;
        let mut sum = Sha256::new();
        let numbers = [sequence.to_be_bytes(), occur_millis.to_be_bytes()];
        let texts = [action, actor, origin, target, outcome, request_id];
        let parts = [self.hash.as_slice(), audit_id.as_bytes()]
            .into_iter()
            .chain(numbers.iter().map(<[u8; 8]>::as_slice))
            .chain(texts.into_iter().map(String::as_bytes));
        for part in parts {
            // With their lengths, so that no part can run into the next.
            sum.update((part.len() as u64).to_be_bytes());
            sum.update(part);
        }
        Self { sequence, hash: sum.finalize().to_vec() }
    }
}
