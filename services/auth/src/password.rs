//! Passwords: what one presents, what one may choose, and what is kept of it.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::username::Username;

/// A password that somebody presents. Never shown, erased from memory when it is done with.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the whole text, in the one spelling (NFC) that every keyboard's way of typing it comes to.
    pub fn presented(text: &str) -> Self {
        Self(Zeroizing::new(text.nfc().collect()))
    }

    /// The bytes to hash.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// A password that may be used from now on.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

impl NewPassword {
    /// Accepts a password for the account with this name: 8 to 128 characters, none of the best known passwords, and
    /// without the name in it. Nothing else is asked of it: rules about kinds of characters make worse passwords.
    pub fn choose(field: &'static str, password: Password, username: &Username) -> Result<Self, Error> {
        let chosen = Self::for_anybody(field, password)?;
        if chosen.contains(username) {
            return Err(Error::WeakPassword(Weakness::ContainsName));
        }
        Ok(chosen)
    }

    /// Accepts a password when it is not known yet whose it will be: by all rules but the one about the name.
    pub fn for_anybody(field: &'static str, password: Password) -> Result<Self, Error> {
        if !(8..=128).contains(&password.0.chars().count()) {
            return Err(Error::invalid(field, "must have 8 to 128 characters"));
        }
        let folded = Zeroizing::new(password.0.to_lowercase());
        if COMMON.contains(folded.as_str()) {
            return Err(Error::WeakPassword(Weakness::Common));
        }
        Ok(Self(password))
    }

    /// Whether this name is part of it.
    pub fn contains(&self, username: &Username) -> bool {
        Zeroizing::new(self.0.0.to_lowercase()).contains(username.as_str())
    }

    /// The password.
    pub fn into_inner(self) -> Password {
        self.0
    }
}

/// Why a password would not protect the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// It is among those that are tried first.
    Common,
    /// The name is part of it.
    ContainsName,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "the password is among the best known ones: choose another",
            Self::ContainsName => "the password contains the username: choose another",
        })
    }
}

/// What is kept of a password: Argon2id in PHC form, with its parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A text in PHC form, as the hasher made it or as it is in the database.
    pub(crate) fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The text in PHC form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

/// The best known passwords of 8 characters and more, in lower case.
static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("passwords/common.txt").lines().collect());

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(text: &str) -> Result<NewPassword, Error> {
        NewPassword::choose("password", Password::presented(text), &Username::parse("ann").unwrap())
    }

    #[test]
    fn a_long_sentence_is_fine_in_any_script() {
        for text in ["correct horse battery", "лошадь-батарея", "        \u{0}", &"ä".repeat(128)]
        {
            assert!(choose(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        for text in ["", "1234567", &"x".repeat(129)] {
            assert!(matches!(choose(text), Err(Error::Invalid { field: "password", .. })), "{text:?}");
        }
        // Eight code points, but four characters once the accents have found their letters.
        assert!(choose("a\u{308}o\u{308}u\u{308}e\u{308}").is_err());
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        for text in ["password", "Password1", "QWERTYUIOP", "iloveyou"] {
            assert!(matches!(choose(text), Err(Error::WeakPassword(Weakness::Common))), "{text:?}");
        }
        assert!(matches!(choose("xxANNxxxx"), Err(Error::WeakPassword(Weakness::ContainsName))));
    }

    #[test]
    fn two_ways_of_typing_are_one_password() {
        assert_eq!(Password::presented("a\u{308}bc").as_bytes(), Password::presented("äbc").as_bytes());
    }

    #[test]
    fn the_list_is_in_lower_case_and_holds_nothing_that_is_refused_anyway() {
        assert!(COMMON.len() > 500);
        for entry in COMMON.iter() {
            assert!(entry.chars().count() >= 8 && *entry == entry.to_lowercase(), "{entry}");
        }
    }

    #[test]
    fn nothing_of_it_is_shown() {
        assert_eq!(format!("{:?}", choose("correct horse").unwrap()), "NewPassword(Password(***))");
        assert_eq!(format!("{:?}", PasswordHash::new("$argon2id$".to_owned())), "PasswordHash(***)");
    }
}
