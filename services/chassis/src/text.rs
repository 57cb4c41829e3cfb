//! Texts: as they are searched, and what of them can be seen. The one place that says which characters cannot: what is empty
//! to the eye is empty.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, WhiteSpace};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::UnicodeNormalization as _;

/// What two spellings of one text have in common: compatibility forms and case do not count, nor do control characters.
pub fn fold(text: &str) -> String {
    text.nfkc().filter(|c| !c.is_control()).collect::<String>().to_lowercase().nfc().collect()
}

/// The rule of a text that must not be blank.
pub const VISIBLE: &str = "must have a character that can be seen";

/// The rule of a text that may be left out.
pub const VISIBLE_OR_EMPTY: &str = "must have a character that can be seen, or be empty";

/// True when nothing of a text can be seen: it is empty, or all of it is white space, control and format characters,
/// characters that Unicode has fonts ignore, and others that show nothing.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

/// True for a text that is not empty and shows nothing.
pub fn is_filled_with_blanks(text: &str) -> bool {
    !text.is_empty() && is_blank(text)
}

fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_whitespace() || c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    CodePointSetData::new::<WhiteSpace>().contains(c)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || matches!(category, GeneralCategory::Control | GeneralCategory::Format)
        || shows_nothing(c)
}

/// Characters that no property tells from letters and symbols, and whose glyph is empty: the braille pattern without dots,
/// the musical null notehead, the filler of Khitan, and the blanks of the hieroglyphs.
const fn shows_nothing(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{1D159}' | '\u{16FE4}' | '\u{13441}' | '\u{13442}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_text_are_one() {
        for text in ["ÉRIC", "e\u{301}ric", "\u{c9}\u{ff32}ic", "éric\u{7}"] {
            assert_eq!(fold(text), "éric", "{text:?}");
        }
        assert_ne!(fold("eric"), "éric");
    }

    #[test]
    fn what_shows_nothing_is_blank() {
        for text in [
            "",
            " \t\n",
            "\u{a0}\u{3000}",
            "\0\u{7f}\u{85}",
            "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}",
            "\u{ad}\u{34f}\u{61c}\u{180e}",
            "\u{115f}\u{1160}\u{3164}\u{ffa0}",
            "\u{2800}",
            "\u{fe0f}\u{e0061}\u{e007f}",
            "\u{202e}\u{2066}",
            "\u{17b4}\u{1d173}\u{1d159}",
            " \u{2800}\u{200b} ",
        ] {
            assert!(is_blank(text), "{text:?}");
            assert_eq!(is_filled_with_blanks(text), !text.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn what_shows_something_is_not() {
        for text in [
            "a",
            ".",
            "\u{200b}a",
            "ä",
            "a\u{308}",
            "한",
            "ㅎ",
            "\u{2801}",
            "🦀",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
            "🏴\u{e0067}\u{e007f}",
            "नमस्ते",
        ] {
            assert!(!is_blank(text) && !is_filled_with_blanks(text), "{text:?}");
        }
    }
}
