//! Who is called by name in a text: `@name`.

use std::collections::HashSet;

/// The most people that one message mentions. Further names are only text.
const MAX_NAMES: usize = 20;

/// How long a username is; auth's rule.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=32;

/// The different usernames that a text calls, in lower case and in the order in which they come.
///
/// An `@` in the middle of a word calls nobody: that is an address. What is longer than a name, or goes on with letters
/// that no name has, is none; a dot or a hyphen at the end belongs to the sentence.
pub fn names(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut before = None;
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let starts_word = !rest[..at].chars().next_back().or(before).is_some_and(is_part_of_word);
        let after = &rest[at + 1..];
        let length = after.bytes().take_while(|byte| is_part_of_name(*byte)).count();
        let name = after[..length].trim_end_matches(['.', '-']).to_ascii_lowercase();
        let ends_word = !after[length..].chars().next().is_some_and(|c| c == '@' || c.is_alphanumeric());
        if starts_word && ends_word && NAME_BYTES.contains(&name.len()) && seen.insert(name.clone()) {
            found.push(name);
            if found.len() == MAX_NAMES {
                break;
            }
        }
        before = after[..length].chars().next_back().or(Some('@'));
        rest = &after[length..];
    }
    found
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '@'
}

const fn is_part_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_stands_where_a_word_begins() {
        assert_eq!(names("@ann, (@Bob) and\n@cy.d-e_f!"), ["ann", "bob", "cy.d-e_f"]);
        assert_eq!(names("@ann. @bob... @cyd-"), ["ann", "bob", "cyd"]);
        assert_eq!(names("ann@example.com x_@ann é@ann @@ann @ann@bob"), [""; 0]);
        assert_eq!(names("@ann's \"@bob\" /@cyd"), ["ann", "bob", "cyd"]);
        assert_eq!(names("„@ann“ 你好，@bob！"), ["ann", "bob"]);
    }

    #[test]
    fn what_is_no_name_is_only_text() {
        assert_eq!(names("@ @a @ab @... @jörg"), [""; 0]);
        assert_eq!(names(&format!("@{}", "a".repeat(33))), [""; 0]);
        assert_eq!(names(&format!("@{}", "a".repeat(32))), ["a".repeat(32)]);
    }

    #[test]
    fn each_is_called_once_and_not_everybody() {
        assert_eq!(names("@ann @ANN @Ann"), ["ann"]);
        let many: String = (100..200).map(|n| format!("@user{n} ")).collect();
        assert_eq!(names(&many).len(), MAX_NAMES);
        assert_eq!(names(&"@ann ".repeat(3000)), ["ann"]);
    }

    proptest! {
        #[test]
        fn anything_at_all_has_names_or_none(text in "[@a-z._ é-]{0,60}|\\PC{0,40}") {
            for name in names(&text) {
                prop_assert!(NAME_BYTES.contains(&name.len()));
                prop_assert!(name.bytes().all(is_part_of_name) && !name.ends_with(['.', '-']));
            }
        }
    }
}
