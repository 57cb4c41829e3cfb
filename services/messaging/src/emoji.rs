//! The emoji that somebody reacts with.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::UnicodeEmoji as _;
use unicode_segmentation::UnicodeSegmentation as _;

/// The most bytes of an emoji: the longest of Unicode, a family with skin tones, has fewer.
const MAX_BYTES: usize = 64;

/// What turns a digit into a keycap.
const KEYCAP: char = '\u{20e3}';

/// One emoji: one grapheme, of emoji characters and what joins and modifies them, normalised (NFC).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Emoji(String);

impl Emoji {
    /// Normalises and checks an emoji. Says which rule it breaks otherwise.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // Looked at before anything else is done with it: a long text is not worth the work.
        if text.len() > MAX_BYTES {
            return Err("must have at most 64 bytes");
        }
        let emoji: String = text.nfc().collect();
        if emoji.len() > MAX_BYTES {
            return Err("must have at most 64 bytes");
        }
        if emoji.graphemes(true).count() != 1 || !is_emoji(&emoji) {
            return Err("must be one emoji");
        }
        Ok(Self(emoji))
    }

    /// An emoji that was checked when it was stored.
    pub(crate) const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The emoji.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Emoji {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a grapheme is an emoji. Digits are emoji characters, too, because keycaps begin with one: here only as keycaps.
fn is_emoji(grapheme: &str) -> bool {
    let begins = grapheme
        .chars()
        .next()
        .is_some_and(|first| first.is_emoji_char() && (!first.is_ascii() || grapheme.ends_with(KEYCAP)));
    begins && grapheme.chars().all(|c| c.is_emoji_char_or_emoji_component())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_however_many_characters_it_takes() {
        for good in [
            "👍",
            "👍🏽",
            "❤",
            "❤️",
            "1️⃣",
            "#⃣",
            "🇨🇭",
            "👩‍👩‍👧‍👦",
            "👨🏽‍❤️‍💋‍👨🏿",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "🅰",
            "©️",
        ] {
            assert_eq!(Emoji::parse(good).as_ref().map(Emoji::as_str), Ok(good), "{good:?}");
        }
    }

    #[test]
    fn nothing_else() {
        for bad in [
            "",
            " ",
            "a",
            "ä",
            "1",
            "1\u{fe0f}",
            "#",
            "\u{7}",
            "\n",
            "\0",
            "\r\n",
            "👍👍",
            "👍 ",
            " 👍",
            "a👍",
            // One grapheme each, and yet no emoji.
            "e\u{301}",
            "a🏽",
            "👍\u{301}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{20e3}",
            "각",
            "1\u{301}\u{20e3}",
        ] {
            assert_eq!(Emoji::parse(bad), Err("must be one emoji"), "{bad:?}");
        }
        for long in ["👍".repeat(17), "👍\u{200d}".repeat(10), "x".repeat(1 << 20)] {
            assert_eq!(Emoji::parse(&long), Err("must have at most 64 bytes"));
        }
    }
}
