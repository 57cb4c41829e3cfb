//! The public keys by which a user's devices sign secure messages: values that cannot be wrong once built.

use chassis::clock::Timestamp;
use ed25519_dalek::VerifyingKey;
use proto::id::{DeviceKeyId, UserId};

use crate::error::Error;
use crate::user::line;

/// How many keys a user has in use at most.
pub const MOST_IN_USE: i64 = 20;

/// How many keys a user has at most together with the revoked ones, which are kept for ever.
pub const MOST_EVER: i64 = 1000;

/// The public key of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// Its id.
    pub id: DeviceKeyId,
    /// Whose device it is.
    pub user_id: UserId,
    /// What the device is called.
    pub name: KeyName,
    /// The key.
    pub public_key: PublicKey,
    /// When it was registered.
    pub create_time: Timestamp,
    /// When it was revoked; `None` while it is in use.
    pub revoke_time: Option<Timestamp>,
}

/// An Ed25519 public key: a point of the curve, written as RFC 8032 wants it, and not of small order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads a key. One of small order is refused because anybody can sign for it, and a second spelling of the same
    /// point because it would pass for another key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: [u8; 32] =
            bytes.try_into().map_err(|_| Error::invalid("public_key", "must have 32 bytes"))?;
        let point = VerifyingKey::from_bytes(&bytes).ok().filter(|_| is_reduced(&bytes));
        match point {
            None => Err(Error::DeviceKeyInvalid("must be a point of the curve of Ed25519")),
            Some(point) if point.is_weak() => Err(Error::DeviceKeyInvalid("must not be of small order")),
            Some(_) => Ok(Self(bytes)),
        }
    }

    /// A key that is in the database because it was parsed before.
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether the coordinate in the lower 255 bits is smaller than the prime 2^255 - 19, as RFC 8032 demands.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [lowest, middle @ .., highest] = bytes;
    *highest & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *lowest < 0xed
}

/// What a device with a key is called: 1 to 64 characters in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// Reads a name. White space around it does not count.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match line("name", text, 64)? {
            name if name.is_empty() => Err(Error::invalid("name", "must have 1 to 64 characters")),
            name => Ok(Self(name)),
        }
    }

    /// A name that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn refusal(bytes: &[u8]) -> &'static str {
        match PublicKey::parse(bytes) {
            Err(Error::DeviceKeyInvalid(rule)) => rule,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_public_half_of_a_key_is_one() {
        for seed in 0..50 {
            let key = SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
            assert_eq!(PublicKey::parse(&key).unwrap().as_bytes(), key);
        }
    }

    #[test]
    fn about_half_of_all_bytes_are_no_point() {
        let refused = (0..100).filter(|byte| PublicKey::parse(&[*byte; 32]).is_err()).count();
        assert!((25..75).contains(&refused), "{refused}");
        assert!(refusal(&[2; 32]).contains("curve"));
        for wrong in [0, 31, 33] {
            let refused = PublicKey::parse(&vec![2; wrong]);
            assert!(matches!(refused, Err(Error::Invalid { field: "public_key", .. })), "{wrong}");
        }
    }

    #[test]
    fn a_point_that_anybody_can_sign_for_is_refused() {
        // The neutral element, the point of order two, and one of the points of order four.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut order_two = [0xff; 32];
        (order_two[0], order_two[31]) = (0xec, 0x7f);
        for weak in [neutral, order_two, [0; 32]] {
            assert!(refusal(&weak).contains("small order"), "{weak:?}");
        }
    }

    #[test]
    fn a_coordinate_that_is_not_reduced_is_refused() {
        // y = p + 3, which is 3 and a point of the curve when it is written as it should be.
        let mut three = [0; 32];
        three[0] = 3;
        PublicKey::parse(&three).unwrap();
        let mut again = [0xff; 32];
        (again[0], again[31]) = (0xf0, 0x7f);
        assert!(refusal(&again).contains("curve"));
        again[31] = 0xff;
        assert!(refusal(&again).contains("curve"));
    }

    #[test]
    fn a_name_is_one_line_that_says_something() {
        assert_eq!(KeyName::parse("  Ann's phone 📱 ").unwrap().as_str(), "Ann's phone 📱");
        assert!(KeyName::parse(&"ä".repeat(64)).is_ok());
        for bad in ["", "  ", "a\nb", "a\0b", "a\u{202e}b", &"ä".repeat(65)] {
            assert!(matches!(KeyName::parse(bad), Err(Error::Invalid { field: "name", .. })), "{bad:?}");
        }
    }
}
