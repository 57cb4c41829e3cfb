//! That an ID token is used once: by what it is recognised, and until when.

use chassis::clock::Timestamp;
use sha2::{Digest, Sha256};

/// The last instant that a token is remembered until: the end of the year 9999.
const LATEST: f64 = 253_402_300_799_000.0;

/// The marks of a token that is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// In order, so that two uses at once do not wait for each other.
    marks: Vec<[u8; 32]>,
    /// The time at which the token ends by itself.
    expire_time: Timestamp,
}

impl Once {
    /// The marks of a token of an issuer: what it says as a whole, its id, and the nonce that was asked for. It ends at
    /// `expire_seconds` since 1970.
    pub fn of(
        issuer: &str,
        payload: &[u8],
        id: Option<&str>,
        nonce: Option<&str>,
        expire_seconds: f64,
    ) -> Self {
        let mark = |kind: &[u8], what: &[u8]| -> [u8; 32] {
            let issuer = Sha256::digest(issuer.as_bytes());
            Sha256::new().chain_update(kind).chain_update(issuer).chain_update(what).finalize().into()
        };
        let mut marks = vec![mark(b"payload", payload)];
        marks.extend(id.map(|id| mark(b"id     ", id.as_bytes())));
        marks.extend(nonce.map(|nonce| mark(b"nonce  ", nonce.as_bytes())));
        marks.sort_unstable();
        let millis = (expire_seconds * 1000.0).clamp(0.0, LATEST);
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and the end of the year 9999")]
        Self { marks, expire_time: Timestamp::from_millis(millis as i64) }
    }

    /// What it is recognised by.
    pub fn marks(&self) -> impl Iterator<Item = &[u8]> {
        self.marks.iter().map(<[u8; 32]>::as_slice)
    }

    /// Until when it is remembered.
    pub fn expire_time(&self) -> Timestamp {
        self.expire_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_what_it_says_its_id_and_its_nonce() {
        let of = |issuer, payload: &str, id, nonce| {
            let once = Once::of(issuer, payload.as_bytes(), id, nonce, 5.0);
            once.marks().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let shared =
            |one: &[Vec<u8>], other: &[Vec<u8>]| one.iter().filter(|mark| other.contains(mark)).count();
        let first = of("a", "1", Some("x"), Some("n"));
        assert_eq!(first.len(), 3);
        assert_eq!(shared(&first, &of("a", "1", None, None)), 1);
        assert_eq!(shared(&first, &of("a", "2", Some("x"), None)), 1);
        assert_eq!(shared(&first, &of("a", "2", Some("y"), Some("n"))), 1);
        assert_eq!(shared(&first, &of("a", "2", Some("n"), Some("x"))), 0);
        assert_eq!(shared(&first, &of("b", "1", Some("x"), Some("n"))), 0);
    }

    #[test]
    fn a_token_is_remembered_until_it_ends() {
        let until = |seconds| Once::of("a", b"1", None, None, seconds).expire_time().as_millis();
        assert_eq!((until(1.5), until(-1.0), until(1e300)), (1500, 0, 253_402_300_799_000));
    }
}
