//! One-time codes: a few digits, or a token, that are sent to an address, and what holds for them.
//!
//! A code belongs to the flow that asked for it. A flow is known by the id that it was given, or else by the network that
//! asks: of an address and a purpose each network has one flow of this kind. Requests and guesses of a flow change
//! nothing for another one.

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

/// How often a code may be tried. More tries end the code of this flow and of no other.
pub const TRIES: i64 = 5;

/// The number of codes that an address gets for one purpose within [`WINDOW`] when one network asks for them.
pub const CODES: usize = 3;

/// The time for [`CODES`].
pub const WINDOW: Duration = Duration::from_secs(15 * 60);

/// The number of flows of an address and a purpose that have digits at the same time. Flows beyond it get tokens, so that
/// many networks together have no more guesses than these flows.
pub const DIGITS_AT_ONCE: usize = 3;

/// The number of codes of digits that are made for an address and a purpose within [`LONG_WINDOW`]; the codes beyond it
/// are tokens.
pub const DIGITS_IN_ALL: usize = 10;

/// The time for [`DIGITS_IN_ALL`].
pub const LONG_WINDOW: Duration = Duration::from_secs(60 * 60);

/// The number of characters of a token and of the id of a flow: 130 bits.
const TOKEN_LENGTH: usize = 26;

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

/// Which of the two forms a code has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A few digits, to be typed.
    Digits,
    /// 26 letters and digits, which nobody guesses.
    Token,
}

/// Digits or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// New digits, from the operating system.
    pub fn generate(length: CodeLength) -> Result<Self, Error> {
        let digits = match length {
            CodeLength::Four => format!("{:04}", random::below(10_000).map_err(Error::Internal)?),
            CodeLength::Six => format!("{:06}", random::below(1_000_000).map_err(Error::Internal)?),
        };
        Ok(Self(Zeroizing::new(digits)))
    }

    /// A new token, from the operating system.
    pub fn token() -> Result<Self, Error> {
        random_text().map(Zeroizing::new).map(Self)
    }

    /// Reads a code as it was typed; case and white space around it do not matter. Four digits are a wrong code where only
    /// six are made.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let code = Zeroizing::new(text.trim().to_ascii_lowercase());
        let is_digits = matches!(code.len(), 4 | 6) && code.bytes().all(|byte| byte.is_ascii_digit());
        if is_digits || is_random_text(&code) {
            return Ok(Self(code));
        }
        Err(Error::invalid(
            "code",
            "must be the digits (6, or 4 when 4 were asked for) or the 26 characters of the mail",
        ))
    }

    /// The digits, or the token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

/// The id of a flow. Only the client that asked for the code has it.
#[derive(Clone, PartialEq, Eq)]
pub struct FlowId(Zeroizing<String>);

impl FlowId {
    /// A new one, from the operating system.
    pub fn generate() -> Result<Self, Error> {
        random_text().map(Zeroizing::new).map(Self)
    }

    /// Reads an id that may be left out.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, Error> {
        match text {
            "" => Ok(None),
            id if is_random_text(id) => Ok(Some(Self(Zeroizing::new(id.to_owned())))),
            _ => Err(Error::invalid("flow_id", "must be the flow_id of the answer to GenerateOtp, or empty")),
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowId(***)")
    }
}

fn random_text() -> Result<String, Error> {
    random::text::<TOKEN_LENGTH>().map_err(Error::Internal)
}

fn is_random_text(text: &str) -> bool {
    text.len() == TOKEN_LENGTH && text.bytes().all(|byte| random::ALPHABET.contains(&byte))
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

/// What a flow is looked up by: the keyed sum of its id, or of the network when it has no id.
pub fn flow(vault: &Vault, id: Option<&FlowId>, from: Option<ClientNetwork>) -> Sum {
    match id {
        Some(id) => vault.sum(Use::Flow, &[id.as_str().as_bytes()]),
        None => network(vault, from),
    }
}

/// A code to keep, in both forms: the store decides which of them it is.
#[derive(Clone, Debug)]
pub struct Issue {
    /// Names the request.
    pub id: EventId,
    /// Where.
    pub slot: Slot,
    /// The flow that asks for it.
    pub flow: Sum,
    /// The network that asks for it.
    pub network: Sum,
    /// The sum that is kept of the digits.
    pub digits: Sum,
    /// The sum that is kept of the token.
    pub token: Sum,
    /// Who has the address; `None` when nobody has.
    pub user_id: Option<UserId>,
    /// When it is made.
    pub issue_time: Timestamp,
    /// When it ends.
    pub expire_time: Timestamp,
}

/// A request for a code of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The network that asked.
    pub network: Sum,
    /// When.
    pub time: Timestamp,
    /// What it got.
    pub form: Form,
}

/// The form of the next code of a slot, or how long the network has to wait for it. `asked` has the requests of the last
/// [`LONG_WINDOW`], the latest first; `live` other flows have digits that are still right. Requests of other networks
/// delay nothing: they only decide the form.
pub fn next_form(asked: &[Asked], live: usize, network: Sum, now: Timestamp) -> Result<Form, Error> {
    let mut own = asked.iter().filter(|one| one.network == network);
    // The request that must be over before there is room again.
    if let Some(end) = own.nth(CODES - 1).map(|one| one.time.plus(WINDOW)).filter(|end| *end > now) {
        // Rounded up: a client that comes when told to must not be early.
        let wait = end.since(now) + Duration::from_millis(999);
        return Err(Error::RateLimited { wait: Duration::from_secs(wait.as_secs()) });
    }
    let digits = asked.iter().filter(|one| one.form == Form::Digits).count();
    Ok(if live < DIGITS_AT_ONCE && digits < DIGITS_IN_ALL { Form::Digits } else { Form::Token })
}

/// A code as it was presented.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The address that it was sent to.
    pub email: Email,
    /// The code.
    pub code: Code,
    /// The flow that it was asked for in; `None` for the flow of the network.
    pub flow: Option<FlowId>,
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
    /// The flow that it was asked for in.
    pub flow: Sum,
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
        assert_eq!(Code::parse(" 123456 ").unwrap().as_str(), "123456");
        for text in ["", "123", "12345", "1234567", "12345x", "１23", "-12345", " 12345"] {
            assert!(matches!(Code::parse(text), Err(Error::Invalid { field: "code", .. })), "{text:?}");
        }
        assert_eq!(format!("{:?}", Code::parse("123456").unwrap()), "Code(***)");
    }

    #[test]
    fn a_token_has_26_characters_and_is_read_in_any_case() {
        for _ in 0..100 {
            let (token, id) = (Code::token().unwrap(), FlowId::generate().unwrap());
            assert_eq!(Code::parse(&token.as_str().to_uppercase()).unwrap(), token);
            assert_eq!(FlowId::parse_optional(id.as_str()).unwrap(), Some(id));
        }
        assert_eq!(FlowId::parse_optional("").unwrap(), None);
        let short = &Code::token().unwrap().as_str()[1..].to_owned();
        for text in [short.as_str(), &format!("{short}u"), &format!("{short}é"), &format!("{short}00")] {
            assert!(matches!(Code::parse(text), Err(Error::Invalid { field: "code", .. })), "{text}");
            let refused = FlowId::parse_optional(text);
            assert!(matches!(refused, Err(Error::Invalid { field: "flow_id", .. })), "{text}");
        }
    }

    #[test]
    fn other_networks_change_the_form_of_a_code_and_delay_nothing() {
        let vault = Vault::new(b"key");
        let at = |seconds: u64| Timestamp::from_millis(1_795_000_000_000).plus(Duration::from_secs(seconds));
        let network = |number: u8| vault.sum(Use::Network, &[&[number]]);
        let asked = |number, seconds, form| Asked { network: network(number), time: at(seconds), form };
        let form = |asked: &[Asked], live| next_form(asked, live, network(0), at(600)).unwrap();
        assert_eq!((form(&[], 0), form(&[], 2)), (Form::Digits, Form::Digits));
        assert_eq!((form(&[], 3), form(&[], 1000)), (Form::Token, Form::Token));

        let many = |count: u8, form| (0..count).map(|number| asked(number + 1, 0, form)).collect::<Vec<_>>();
        assert_eq!(form(&many(9, Form::Digits), 0), Form::Digits);
        assert_eq!(form(&many(10, Form::Digits), 0), Form::Token);
        assert_eq!(form(&many(200, Form::Token), 0), Form::Digits);

        let own = [asked(0, 500, Form::Digits), asked(0, 400, Form::Token), asked(0, 300, Form::Digits)];
        match next_form(&own, 0, network(0), at(600)) {
            Err(Error::RateLimited { wait }) => assert_eq!(wait, Duration::from_secs(600)),
            other => panic!("{other:?}"),
        }
        assert_eq!(next_form(&own, 0, network(0), at(1200)).unwrap(), Form::Digits);
        assert_eq!(form(&own[..2], 0), Form::Digits);
    }

    #[test]
    fn a_flow_is_known_by_its_id_or_its_network() {
        let vault = Vault::new(b"key");
        let from = |address: &str| Some(ClientNetwork::of_address(address.parse().unwrap()));
        let (one, two) = (FlowId::generate().unwrap(), FlowId::generate().unwrap());
        let of = |id, address| flow(&vault, id, from(address));
        assert_eq!(of(None, "203.0.113.7"), of(None, "203.0.113.9"));
        assert_ne!(of(None, "203.0.113.7"), of(None, "198.51.100.7"));
        assert_eq!(of(Some(&one), "203.0.113.7"), of(Some(&one), "198.51.100.7"));
        assert_ne!(of(Some(&one), "203.0.113.7"), of(Some(&two), "203.0.113.7"));
        assert_ne!(of(Some(&one), "203.0.113.7"), of(None, "203.0.113.7"));
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
