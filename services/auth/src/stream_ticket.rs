//! A ticket for an event stream: the secret of a client that can send no bearer token, and the sum that is kept of it.
//!
//! A ticket stands in an address and may get around. Its first use binds it to one stream, whose key the client gets
//! inside of the ids of its events; from then on the ticket is worth something only together with that key.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::clock::Timestamp;
use proto::id::{SessionId, UserId};
use zeroize::Zeroizing;

use crate::random;
use crate::token::Hash;

/// The time after it was made within which a ticket opens a stream.
pub const FIRST_USE: Duration = Duration::from_secs(30);

/// The most tickets of one session.
pub const MOST: i64 = 16;

/// The number of bytes of a ticket.
const TICKET: usize = 32;

/// The number of bytes of the key of a stream.
const KEY: usize = 16;

/// The secret that stands in the address of a stream.
#[derive(Clone)]
pub struct StreamTicket(Zeroizing<[u8; TICKET]>);

impl StreamTicket {
    /// A new one.
    pub fn generate() -> anyhow::Result<Self> {
        random::bytes().map(Zeroizing::new).map(Self)
    }

    /// Reads a ticket; `None` when the text can be none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; TICKET]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        (length == TICKET).then_some(Self(bytes))
    }

    /// The text that the client sends.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_slice())
    }

    /// The sum that is kept of it.
    pub fn hash(&self) -> Hash {
        Hash::of(self.0.as_slice())
    }
}

impl fmt::Debug for StreamTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamTicket(***)")
    }
}

/// The secret that tells the client of a stream from others who have its ticket.
#[derive(Clone)]
pub struct StreamKey(Zeroizing<[u8; KEY]>);

impl StreamKey {
    /// A new one.
    pub fn generate() -> anyhow::Result<Self> {
        random::bytes().map(Zeroizing::new).map(Self)
    }

    /// Reads a key; `None` when the bytes can be none of ours.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Zeroizing::new).map(Self)
    }

    /// The bytes that the client sends.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The sum that is kept of it.
    pub fn hash(&self) -> Hash {
        Hash::of(self.0.as_slice())
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(***)")
    }
}

/// A ticket that was made, as it is kept.
#[derive(Clone, Copy, Debug)]
pub struct NewStreamTicket {
    /// The sum of the ticket.
    pub ticket_hash: Hash,
    /// The user.
    pub user_id: UserId,
    /// The session that it ends with.
    pub session_id: SessionId,
    /// The time at which it was made.
    pub create_time: Timestamp,
}

/// A request to open a stream, or to come back to it.
#[derive(Clone, Copy, Debug)]
pub struct StreamRedemption {
    /// The sum of the ticket.
    pub ticket_hash: Hash,
    /// The sum of the key that the client has shown.
    pub shown: Option<Hash>,
    /// The sum of the key that the stream gets if the ticket is unused.
    pub drawn: Hash,
    /// The time of the request.
    pub now: Timestamp,
}

/// The worth of a ticket to a client that has shown this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamTicketUse {
    /// It opens a stream.
    First,
    /// It takes part in a reconnect.
    Again,
    /// Nothing.
    None,
}

impl StreamRedemption {
    /// Judges a ticket that was made at `create_time` and is bound to the key with the sum `bound`.
    pub fn judge(&self, create_time: Timestamp, bound: Option<Hash>) -> StreamTicketUse {
        match bound {
            Some(bound) if self.shown == Some(bound) => StreamTicketUse::Again,
            None if self.now.since(create_time) < FIRST_USE => StreamTicketUse::First,
            Some(_) | None => StreamTicketUse::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_and_a_key_are_read_as_they_were_written() {
        let ticket = StreamTicket::generate().unwrap();
        assert_eq!(ticket.text().len(), 43);
        assert!(StreamTicket::parse(&ticket.text()).unwrap().hash() == ticket.hash());
        for wrong in ["", "x", &ticket.text()[1..], &format!("{}A", ticket.text()), &"=".repeat(43)] {
            assert!(StreamTicket::parse(wrong).is_none(), "{wrong}");
        }
        let key = StreamKey::generate().unwrap();
        assert!(StreamKey::parse(key.as_bytes()).unwrap().hash() == key.hash());
        assert!(StreamKey::parse(&[]).is_none() && StreamKey::parse(&[0; 17]).is_none());
    }

    #[test]
    fn a_ticket_opens_one_stream_in_time_and_then_needs_the_key() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let [key, other] = [1_u8, 2].map(|byte| Hash::of(&[byte]));
        let redemption =
            |shown, now| StreamRedemption { ticket_hash: other, shown, drawn: key, now: at(now) };
        assert_eq!(redemption(None, 29).judge(at(0), None), StreamTicketUse::First);
        assert_eq!(redemption(Some(other), 29).judge(at(0), None), StreamTicketUse::First);
        assert_eq!(redemption(None, 30).judge(at(0), None), StreamTicketUse::None);
        assert_eq!(redemption(Some(key), 9_000).judge(at(0), Some(key)), StreamTicketUse::Again);
        assert_eq!(redemption(Some(other), 1).judge(at(0), Some(key)), StreamTicketUse::None);
        assert_eq!(redemption(None, 1).judge(at(0), Some(key)), StreamTicketUse::None);
    }

    #[test]
    fn neither_is_ever_shown() {
        assert_eq!(format!("{:?}", StreamTicket::generate().unwrap()), "StreamTicket(***)");
        assert_eq!(format!("{:?}", StreamKey::generate().unwrap()), "StreamKey(***)");
    }
}
