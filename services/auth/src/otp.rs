//! One-time codes: a few digits that are sent to an address, and what holds for them.

use std::fmt;
use std::time::Duration;

use chassis::caller::ClientNetwork;
use chassis::clock::Timestamp;
use chassis::profile::Profile;
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

/// For how long an address that was verified for signing up counts as verified.
pub const PROOF_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What a code is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To show that one reads the address.
    VerifyEmail,
    /// To set a new password.
    ResetPassword,
    /// To show that one reads the address before there is an account.
    SignUp,
}

impl Purpose {
    /// Its number in the database and in sums.
    pub const fn number(self) -> i64 {
        match self {
            Self::VerifyEmail => 1,
            Self::ResetPassword => 2,
            Self::SignUp => 3,
        }
    }
}

/// The number of digits of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeLength {
    /// Few enough to be guessed: in development only.
    Four,
    /// The length in production.
    Six,
}

impl CodeLength {
    /// Reads a length; 0 stands for six digits.
    pub fn parse(digits: i32, profile: Profile) -> Result<Self, Error> {
        match digits {
            0 | 6 => Ok(Self::Six),
            4 if profile.is_development() => Ok(Self::Four),
            _ if profile.is_development() => Err(Error::invalid("code_length", "must be 4 or 6")),
            _ => Err(Error::invalid("code_length", "must be 6")),
        }
    }
}

/// Six digits, or four in development.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// A new one, from the operating system.
    pub fn generate(length: CodeLength) -> Result<Self, Error> {
        let digits = match length {
            CodeLength::Four => format!("{:04}", random::below(10_000).map_err(Error::Internal)?),
            CodeLength::Six => format!("{:06}", random::below(1_000_000).map_err(Error::Internal)?),
        };
        Ok(Self(Zeroizing::new(digits)))
    }

    /// Reads a code as somebody typed it. One of four digits is simply not right where there are none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if matches!(text.len(), 4 | 6) && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(Error::invalid("code", "must have 6 digits, or 4 when 4 were asked for"))
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

/// The proof that an address was verified before there is an account, for one network.
#[derive(Clone, Copy, Debug)]
pub struct AddressProof {
    /// The keyed sum of the address.
    pub address: Sum,
    /// The keyed sum of the network: a person elsewhere who registers the address meanwhile has proven nothing.
    pub network: Sum,
}

/// A code for signing up that was right.
#[derive(Clone, Copy, Debug)]
pub struct AddressVerification {
    /// Where it is kept.
    pub slot: Slot,
    /// The keyed sum of the code.
    pub sum: Sum,
    /// What it proves.
    pub proof: AddressProof,
    /// When.
    pub now: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_six_digits_or_four_in_development() {
        let length = |digits, profile| CodeLength::parse(digits, profile).ok();
        for digits in [0, 6] {
            assert_eq!(length(digits, Profile::Production), Some(CodeLength::Six));
            assert_eq!(length(digits, Profile::Development), Some(CodeLength::Six));
        }
        assert_eq!(length(4, Profile::Development), Some(CodeLength::Four));
        for (digits, profile) in
            [(4, Profile::Production), (5, Profile::Development), (-1, Profile::Development)]
        {
            let refused = CodeLength::parse(digits, profile);
            assert!(matches!(refused, Err(Error::Invalid { field: "code_length", .. })), "{digits}");
        }
        for _ in 0..100 {
            for (length, digits) in [(CodeLength::Four, 4), (CodeLength::Six, 6)] {
                let code = Code::generate(length).unwrap();
                assert_eq!(code.as_str().len(), digits);
                assert_eq!(Code::parse(code.as_str()).unwrap(), code);
            }
        }
        for text in ["", "123", "12345", "1234567", "12345x", "１23", "-12345", " 12345"] {
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
