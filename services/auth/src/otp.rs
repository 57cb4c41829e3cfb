//! One-time codes: six digits that are sent to an address, and what holds for them.

use std::fmt;
use std::time::Duration;

use chassis::caller::ClientNetwork;
use chassis::clock::Timestamp;
use proto::id::{EventId, UserId};
use zeroize::Zeroizing;

use crate::email::Email;
use crate::error::Error;
use crate::random;
use crate::vault::{Sum, Use, Vault};

/// How long a code lives.
pub const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// How often a code may be tried from one network. Whoever guesses shuts out nobody else.
pub const TRIES: i64 = 5;

/// How often a code may be tried in all: a guesser with many networks is right once in 50,000 codes.
pub const TRIES_IN_ALL: i64 = 20;

/// So many codes go to an address for one purpose within [`WINDOW`] when one network asks for them.
pub const CODES: usize = 3;

/// The time for [`CODES`].
pub const WINDOW: Duration = Duration::from_secs(15 * 60);

/// So many codes go to an address for one purpose within [`LONG_WINDOW`], whoever asks.
pub const CODES_IN_ALL: usize = 10;

/// The time for [`CODES_IN_ALL`].
pub const LONG_WINDOW: Duration = Duration::from_secs(60 * 60);

/// What a code is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To show that one reads the address.
    VerifyEmail,
    /// To set a new password.
    ResetPassword,
}

impl Purpose {
    /// Its number in the database and in sums.
    pub const fn number(self) -> i64 {
        match self {
            Self::VerifyEmail => 1,
            Self::ResetPassword => 2,
        }
    }
}

/// Six digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// A new one, from the operating system.
    pub fn generate() -> Result<Self, Error> {
        let number = random::below(1_000_000).map_err(Error::Internal)?;
        Ok(Self(Zeroizing::new(format!("{number:06}"))))
    }

    /// Reads a code as somebody typed it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(Error::invalid("code", "must have 6 digits"))
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

/// For what and for which address a code is: what it is looked up by.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The keyed sum of the address.
    pub address: Sum,
    /// The purpose.
    pub purpose: Purpose,
}

impl Slot {
    /// The slot of an address.
    pub fn new(vault: &Vault, email: &Email, purpose: Purpose) -> Self {
        Self { address: vault.sum(Use::Address, &[email.key().as_bytes()]), purpose }
    }

    /// What is kept of a code in this slot.
    pub fn sum(&self, vault: &Vault, code: &Code) -> Sum {
        let purpose = self.purpose.number().to_be_bytes();
        vault.sum(Use::Code, &[&purpose, self.address.as_bytes(), code.as_str().as_bytes()])
    }
}

/// The keyed sum of the network that somebody comes from. Those who come without one, past the gateway, are counted
/// together.
pub fn network(vault: &Vault, from: Option<ClientNetwork>) -> Sum {
    let text = from.map(|network| network.to_string()).unwrap_or_default();
    vault.sum(Use::Network, &[text.as_bytes()])
}

/// A code to keep.
#[derive(Clone, Debug)]
pub struct Issue {
    /// Names the request.
    pub id: EventId,
    /// Where.
    pub slot: Slot,
    /// Who asks for it.
    pub network: Sum,
    /// What is kept of it.
    pub sum: Sum,
    /// Who has the address; `None` when nobody has.
    pub user_id: Option<UserId>,
    /// When it is made.
    pub issue_time: Timestamp,
    /// When it ends.
    pub expire_time: Timestamp,
}

/// A code that is alive, and was just tried once more.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// What is kept of it.
    pub sum: Sum,
    /// Who has the address; `None` when nobody had.
    pub user_id: Option<UserId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_six_digits() {
        for _ in 0..100 {
            let code = Code::generate().unwrap();
            assert_eq!(Code::parse(code.as_str()).unwrap(), code);
        }
        for text in ["", "12345", "1234567", "12345x", "１23456", "-12345", " 12345"] {
            assert!(matches!(Code::parse(text), Err(Error::Invalid { field: "code", .. })), "{text:?}");
        }
        assert_eq!(format!("{:?}", Code::parse("123456").unwrap()), "Code(***)");
    }

    #[test]
    fn a_code_is_bound_to_its_address_and_its_purpose() {
        let vault = Vault::new(b"key");
        let code = Code::parse("123456").unwrap();
        let sum = |email: &str, purpose| {
            Slot::new(&vault, &Email::parse("email", email).unwrap(), purpose).sum(&vault, &code)
        };
        let kept = sum("ann@example.org", Purpose::VerifyEmail);
        assert_eq!(kept, sum("ANN@example.org", Purpose::VerifyEmail));
        assert_ne!(kept, sum("ann@example.org", Purpose::ResetPassword));
        assert_ne!(kept, sum("bob@example.org", Purpose::VerifyEmail));
    }
}
