//! Tickets: that somebody was let in a moment ago, so that bytes can come and go without a session.
//!
//! A ticket says what it allows, to whom and until when, and is signed for one file (HMAC-SHA256). It is given out for
//! minutes, so that an address that gets around is soon worth nothing, and it names the user and the session that asked for
//! it: it allows nothing that the two may not do at the moment.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::clock::Timestamp;
use chassis::config::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::id::{ConversationId, SessionId, UploadId, UserId};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What a ticket allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// To bring the bytes.
    Write {
        /// The bounds of guests hold.
        is_guest: bool,
    },
    /// To fetch the bytes: because they are in a message of this conversation, or, without one, one's own.
    Read(Option<ConversationId>),
}

/// The one to whom a ticket was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The user.
    pub user: UserId,
    /// The user's session.
    pub session: SessionId,
}

/// How many bytes a ticket has before its signature: what it allows, until when, for which conversation, and to whom.
const CLAIMS: usize = 1 + 8 + 16 + 16 + 16;

/// The key that signs tickets.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// The key with this secret.
    pub fn new(secret: &Secret) -> Self {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(secret.expose()));
        Self(Hmac::new(&key.into()))
    }

    /// A ticket for a file.
    pub fn ticket(&self, grant: Grant, holder: Holder, upload: UploadId, expire_time: Timestamp) -> String {
        let (purpose, conversation) = match grant {
            Grant::Write { is_guest: false } => (1, Uuid::nil()),
            Grant::Write { is_guest: true } => (4, Uuid::nil()),
            Grant::Read(None) => (2, Uuid::nil()),
            Grant::Read(Some(conversation)) => (3, conversation.uuid()),
        };
        let mut bytes = vec![purpose];
        bytes.extend(expire_time.as_millis().to_be_bytes());
        bytes.extend(conversation.as_bytes());
        bytes.extend(holder.user.uuid().as_bytes());
        bytes.extend(holder.session.uuid().as_bytes());
        let signature = self.signed(upload, &bytes).finalize().into_bytes();
        bytes.extend(signature);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a ticket allows, and to whom; `None` when it is none for this file, or over.
    pub fn open(&self, ticket: &str, upload: UploadId, now: Timestamp) -> Option<(Grant, Holder)> {
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (claims, signature) = bytes.split_at_checked(CLAIMS)?;
        self.signed(upload, claims).verify_slice(signature).ok()?;
        let (purpose, rest) = claims.split_first()?;
        let (expire_time, rest) = rest.split_first_chunk()?;
        let (conversation, rest) = rest.split_first_chunk::<16>()?;
        let (user, session) = rest.split_first_chunk::<16>()?;
        let session = Uuid::from_slice(session).ok()?.into();
        let holder = Holder { user: Uuid::from_bytes(*user).into(), session };
        if Timestamp::from_millis(i64::from_be_bytes(*expire_time)) <= now {
            return None;
        }
        let grant = match purpose {
            1 => Grant::Write { is_guest: false },
            4 => Grant::Write { is_guest: true },
            2 => Grant::Read(None),
            3 => Grant::Read(Some(Uuid::from_bytes(*conversation).into())),
            _ => return None,
        };
        Some((grant, holder))
    }

    fn signed(&self, upload: UploadId, claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(b"parlor.upload.v1");
        mac.update(upload.uuid().as_bytes());
        mac.update(claims);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const SOON: Timestamp = Timestamp::from_millis(1_795_000_000_001);

    #[test]
    fn a_ticket_says_what_it_was_made_for() {
        let key = Key::new(&Secret::new("a key"));
        let upload = UploadId::generate();
        let writing = [false, true].map(|is_guest| Grant::Write { is_guest });
        let reading = [None, Some(ConversationId::generate())].map(Grant::Read);
        for grant in writing.into_iter().chain(reading) {
            let holder = Holder { user: UserId::generate(), session: SessionId::generate() };
            let ticket = key.ticket(grant, holder, upload, SOON);
            assert_eq!(key.open(&ticket, upload, NOW), Some((grant, holder)));
            assert_eq!(key.open(&ticket, upload, SOON), None, "it is over");
            assert_eq!(key.open(&ticket, UploadId::generate(), NOW), None, "it is for another file");
            let other = Key::new(&Secret::new("another key"));
            assert_eq!(other.open(&ticket, upload, NOW), None);
        }
    }

    #[test]
    fn no_bit_of_a_ticket_can_be_changed() {
        let key = Key::new(&Secret::new("a key"));
        let upload = UploadId::generate();
        let holder = Holder { user: UserId::generate(), session: SessionId::generate() };
        let ticket = key.ticket(Grant::Write { is_guest: false }, holder, upload, SOON);
        let ticket = URL_SAFE_NO_PAD.decode(ticket).unwrap();
        for bit in 0..ticket.len() * 8 {
            let mut forged = ticket.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(forged), upload, NOW), None);
        }
        for cut in 0..ticket.len() {
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(&ticket[..cut]), upload, NOW), None);
        }
        for nonsense in ["", "x", "=", "ä", "%00"] {
            assert_eq!(key.open(nonsense, upload, NOW), None);
        }
    }
}
