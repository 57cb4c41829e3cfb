//! Short words that stand for something: categories of users, and interests.

use crate::error::Error;

/// Whether a text is 1 to 32 of a-z, 0-9, `_`, `-`.
fn is_label(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    (1..=32).contains(&text.len()) && text.bytes().all(is_plain)
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads a label; `field` is named when it is none.
            pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
                if is_label(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Error::invalid(field, "must be 1 to 32 of a-z, 0-9, `_`, `-`"))
                }
            }

            /// Reads a label that may be left out.
            pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
                if text.is_empty() { Ok(None) } else { Self::parse(field, text).map(Some) }
            }

            /// A label that is in the database because it was parsed before.
            pub(crate) fn stored(text: &str) -> Self {
                Self(text.to_owned())
            }

            /// The label.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

labels! {
    /// What type of user somebody is, in the words of the operator.
    Category;
    /// Something to be interested in.
    InterestId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_plain() {
        for good in ["senior", "a", "2nd_row-x", &"a".repeat(32)] {
            assert_eq!(Category::parse("category", good).unwrap().as_str(), good);
        }
        for bad in ["", "Senior", "a b", "a.b", "ä", "a%", "a\n", &"a".repeat(33)] {
            assert!(matches!(
                Category::parse("category", bad),
                Err(Error::Invalid { field: "category", .. })
            ));
        }
        assert_eq!(InterestId::parse_optional("id", "").unwrap(), None);
        assert!(InterestId::parse_optional("id", "Tea").is_err());
    }
}
