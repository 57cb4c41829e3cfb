//! Languages by their BCP 47 tag (RFC 5646): its form is checked, not whether anybody has registered its parts.

use std::collections::HashSet;

use crate::error::Error;

/// The longest tag that is taken; RFC 5646 (4.4.1) asks for room for 35.
const MOST: usize = 35;

/// A well-formed tag that begins with a language, written as RFC 5646 (2.1.1) writes them: `zh-Hant-TW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language(String);

impl Language {
    /// Reads a tag in whatever case, or nothing from an empty text; `field` is named when it is not well-formed.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() <= MOST && is_well_formed(text) {
            Ok(Some(Self(written(text))))
        } else {
            Err(Error::invalid(field, "must be a BCP 47 language tag such as pt-BR, or empty"))
        }
    }

    /// A tag that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the parts stand in the order that the grammar gives them. Tags of the time before it are not taken.
fn is_well_formed(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_alpha = |part: &str, lengths: &[usize]| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let is_mixed = |part: &&str, least: usize| {
        (least..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let Some((language, mut rest)) = parts.split_first() else { return false };
    if !is_alpha(language, &[2, 3, 4, 5, 6, 7, 8]) {
        return false;
    }
    if language.len() <= 3 {
        rest = skip(rest, 3, |part| is_alpha(part, &[3]));
    }
    rest = skip(rest, 1, |part| is_alpha(part, &[4]));
    rest = skip(rest, 1, |part| is_alpha(part, &[2]) || (part.len() == 3 && is_number(part)));
    let mut seen = HashSet::new();
    while let Some((part, after)) = rest.split_first() {
        let is_variant = is_mixed(part, 5) || (part.len() == 4 && is_mixed(part, 4) && is_number(&part[..1]));
        if !is_variant {
            break;
        }
        // No variant and no singleton stands twice.
        if !seen.insert(part.to_ascii_lowercase()) {
            return false;
        }
        rest = after;
    }
    while let Some((singleton, after)) = rest.split_first() {
        let is_private = singleton.eq_ignore_ascii_case("x");
        let least = if is_private { 1 } else { 2 };
        let taken = after.iter().take_while(|part| is_mixed(part, least)).count();
        if !is_mixed(singleton, 1) || singleton.len() > 1 || taken == 0 {
            return false;
        }
        if is_private {
            return taken == after.len();
        }
        if !seen.insert(singleton.to_ascii_lowercase()) {
            return false;
        }
        rest = &after[taken..];
    }
    true
}

/// What is left behind as many parts as fit, at most so many.
fn skip<'a, 'b>(parts: &'a [&'b str], most: usize, fits: impl Fn(&str) -> bool) -> &'a [&'b str] {
    let count = parts.iter().take(most).take_while(|part| fits(part)).count();
    &parts[count..]
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lower case, but scripts of four letters with a capital and regions of two in capitals, unless they stand behind a
/// singleton.
fn written(text: &str) -> String {
    let mut is_behind_singleton = false;
    let parts = text.split('-').enumerate().map(|(place, part)| {
        let mut part = part.to_ascii_lowercase();
        if place > 0 && !is_behind_singleton {
            match part.len() {
                2 => part.make_ascii_uppercase(),
                4 => part[..1].make_ascii_uppercase(),
                _ => {}
            }
        }
        is_behind_singleton |= part.len() == 1;
        part
    });
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<String> {
        Language::parse_optional("language", text).ok().flatten().map(|language| language.0)
    }

    #[test]
    fn a_tag_is_written_in_one_way() {
        for (text, expected) in [
            ("de", "de"),
            ("PT-br", "pt-BR"),
            ("zh-hANT-tw", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sl-rozaj-biske-1994", "sl-rozaj-biske-1994"),
            ("de-1996", "de-1996"),
            ("zh-cmn-Hans-CN", "zh-cmn-Hans-CN"),
            ("en-a-myext-b-another", "en-a-myext-b-another"),
            ("de-DE-u-CO-phonebk", "de-DE-u-co-phonebk"),
            ("az-Latn-x-LATN", "az-Latn-x-latn"),
            ("en-x-US", "en-x-us"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for text in [
            "d",
            "english language",
            "de_DE",
            "-de",
            "de-",
            "de--DE",
            "de-419-DE",
            "a-DE",
            "x-private",
            "i-klingon",
            "de-x",
            "de-a",
            "de-a-b",
            "de-a-aa-a-bb",
            "sl-rozaj-rozaj",
            "ar-a-aaa-b-bbb-A-ccc",
            "12",
            "dé",
            "abcdefghi",
            "en-latn-latn",
            "de-DE-abcdefghi",
            "de-abcdefgh-bcdefghi-cdefghij-defghijk",
        ] {
            let refused = Language::parse_optional("language", text);
            assert!(matches!(refused, Err(Error::Invalid { field: "language", .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_itself(text in "[a-zA-Z]{2,4}(-[a-zA-Z0-9]{1,8}){0,4}") {
            if let Some(written) = parse(&text) {
                prop_assert_eq!(parse(&written), Some(written.clone()));
                prop_assert!(written.eq_ignore_ascii_case(&text));
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
