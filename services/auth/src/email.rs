//! E-mail addresses: kept as typed, compared folded.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::error::Error;

/// An e-mail address. Whether its owner reads it is another matter.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    text: String,
    key: String,
}

impl Email {
    /// Reads an address; `field` is named when it is none.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let has_two_sides =
            text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        let fits = has_two_sides
            && text.len() <= 254
            && !text.contains(|c: char| c.is_control() || c.is_whitespace());
        if !fits {
            return Err(Error::invalid(field, "must be an e-mail address"));
        }
        Ok(Self { text: text.to_owned(), key: text.nfc().collect::<String>().to_lowercase() })
    }

    /// The address as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What two spellings of one address have in common.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for Email {
    // Addresses do not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_make_another_address() {
        let email = Email::parse("email", "Ann@Example.ORG").unwrap();
        assert_eq!((email.as_str(), email.key()), ("Ann@Example.ORG", "ann@example.org"));
    }

    #[test]
    fn what_has_not_two_sides_is_refused() {
        for text in ["", "ann", "@example.org", "ann@", "ann @example.org", "ann\0@example.org"] {
            assert!(Email::parse("email", text).is_err(), "{text:?}");
        }
    }
}
