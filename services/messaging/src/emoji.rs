//! The emoji that a person reacts with.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// The most bytes of an emoji: the longest of Unicode, a family with skin tones, has fewer.
const MAX_BYTES: usize = 64;

/// Asks for the picture where a character can be shown as text too. It is often left out, and makes no other emoji.
const EMOJI_PRESENTATION: char = '\u{fe0f}';

/// All emoji that Unicode recommends for interchange (RGI), in the form that asks for the picture wherever a character can
/// be shown as text, by their form without these marks.
static KNOWN: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let with_tones = |emoji: &'static emojis::Emoji| emoji.skin_tones().into_iter().flatten().chain([emoji]);
    emojis::iter().flat_map(with_tones).map(|emoji| (unmarked(emoji.as_str()), emoji.as_str())).collect()
});

fn unmarked(text: &str) -> String {
    text.chars().filter(|c| *c != EMOJI_PRESENTATION).collect()
}

/// One emoji of Unicode, fully qualified (UTS #51): two ways of writing one emoji are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Emoji(String);

impl Emoji {
    /// Finds the emoji that a text is.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // A long text is not worth the work.
        if text.len() > MAX_BYTES {
            return Err("must have at most 64 bytes");
        }
        let known = KNOWN.get(&unmarked(text)).ok_or("must be one emoji")?;
        Ok(Self((*known).to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_however_many_characters_it_takes() {
        for good in [
            "👍",
            "👍🏽",
            "❤️",
            "1️⃣",
            "#️⃣",
            "🇨🇭",
            "👩‍👩‍👧‍👦",
            "👨🏽‍❤️‍💋‍👨🏿",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "🅰️",
            "©️",
            "👁️‍🗨️",
            "🏳️‍🌈",
        ] {
            assert_eq!(Emoji::parse(good).as_ref().map(Emoji::as_str), Ok(good), "{good:?}");
        }
    }

    #[test]
    fn one_emoji_has_one_form() {
        for (text, emoji) in [
            ("👍\u{fe0f}", "👍"),
            ("❤", "❤️"),
            ("1⃣", "1️⃣"),
            ("#⃣", "#️⃣"),
            ("🅰", "🅰️"),
            ("👁‍🗨", "👁️‍🗨️"),
            ("👨🏽‍❤‍💋‍👨🏿", "👨🏽‍❤️‍💋‍👨🏿"),
            ("🏳‍🌈", "🏳️‍🌈"),
        ] {
            assert_eq!(Emoji::parse(text).as_ref().map(Emoji::as_str), Ok(emoji), "{text:?}");
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
            // Parts of emoji.
            "🏽",
            "🇨",
            "👍\u{200d}",
            "🇨🇨🇨",
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
