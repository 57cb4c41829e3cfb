//! The name that one signs in with.

use std::fmt;

use crate::error::Error;

/// 3 to 32 of `a-z`, `0-9`, `_`, `-`, `.`: no two of them look alike to a person and differ to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// Reads a name as somebody typed it. Upper case is folded: `Ann` and `ann` are one account.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let folded = text.to_ascii_lowercase();
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b);
        let fits = (3..=32).contains(&folded.len()) && folded.bytes().all(is_plain);
        if fits {
            Ok(Self(folded))
        } else {
            Err(Error::invalid("username", "must be 3 to 32 of a-z, 0-9, `_`, `-`, `.`"))
        }
    }

    /// A name that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_is_folded() {
        assert_eq!(Username::parse("Ann.B-3_x").unwrap().as_str(), "ann.b-3_x");
    }

    #[test]
    fn other_characters_are_refused() {
        for text in ["", "ab", "ann b", "ann@b", "änn", "aｎn", "ann\n", "K\u{212A}K", &"a".repeat(33)] {
            assert!(Username::parse(text).is_err(), "{text:?}");
        }
    }
}
