//! The words that a text is found by. We cut and fold them ourselves, so that both databases find the same, and so that
//! what somebody types into a search is never anything but words.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

/// A longer word is cut to this, wherever it stands.
const MAX_WORD_BYTES: usize = 64;

/// The most different words that one message is found by: more than a text of 16 KiB, the longest, can have.
const MAX_WORDS: usize = 16 * 1024;

/// The different words of a text in the order in which they come, the emoji last. Case and accents make no difference, nor
/// does anything that is neither letter, digit nor emoji. They hold no white space and no character that means something to
/// a database.
pub fn words(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut take = |word: &str| {
        let word = cut(word);
        if found.len() < MAX_WORDS && !seen.contains(word) {
            seen.insert(word.to_owned());
            found.push(word.to_owned());
        }
    };
    if text.is_ascii() {
        // The same as below, for most of what is written in English.
        let runs = text.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
        for run in runs.filter(|run| !run.is_empty()) {
            let word = &run[..run.len().min(MAX_WORD_BYTES)];
            take(&String::from_utf8_lossy(&word.to_ascii_lowercase()));
        }
        return found;
    }
    let text = fold(text);
    for run in text.split(|c: char| !is_part_of_word(c)) {
        // Scripts without spaces are cut, too: each ideograph is a word.
        let segments = run.split_word_bounds();
        segments.filter(|segment| segment.contains(char::is_alphanumeric)).for_each(&mut take);
    }
    let mut bytes = [0; 4];
    text.chars().filter(|c| is_emoji(*c)).for_each(|c| take(c.encode_utf8(&mut bytes)));
    found
}

/// As much of a word as is looked at.
fn cut(word: &str) -> &str {
    let fits = |(start, c): &(usize, char)| start + c.len_utf8() <= MAX_WORD_BYTES;
    let end = word.char_indices().take_while(fits).last().map_or(0, |(start, c)| start + c.len_utf8());
    &word[..end]
}

/// Without what makes no difference: compatibility forms, accents, case.
pub fn fold(text: &str) -> String {
    let plain = text.nfkd().filter(|c| !is_accent(*c));
    // Up and down again: so `ß` and `SS`, and the two small sigmas, become the same.
    let plain = plain.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    plain.nfkd().filter(|c| !is_accent(*c)).collect()
}

/// Marks that go above, below or through a letter, and characters that only say how to draw the one beside them. The marks
/// that make another letter stay: the vowels of Indian and Thai scripts, the voiced kana.
fn is_accent(c: char) -> bool {
    match c {
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => true,
        '\u{fe00}'..='\u{fe0f}' | '\u{20d0}'..='\u{20f0}' | '\u{e0000}'..='\u{e0fff}' => true,
        '\u{1f3fb}'..='\u{1f3ff}' => true,
        _ => matches!(canonical_combining_class(c), 1 | 10..=36 | 202..=240),
    }
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Each is a word by itself. Those of several persons are found by each of them.
fn is_emoji(c: char) -> bool {
    let is_picture = matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}');
    is_picture && !is_part_of_word(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(text: &str) -> String {
        words(text).join(" ")
    }

    #[test]
    fn case_accents_and_forms_make_no_difference() {
        assert_eq!(joined("Hello, HELLO  wörld!"), "hello world");
        assert_eq!(joined("Straße STRASSE strasse ẞ"), "strasse ss");
        assert_eq!(joined("ΟΔΟΣ οδος"), "οδοσ");
        assert_eq!(joined("ﬁne ①② ｆｕｌｌ"), "fine 12 full");
        assert_eq!(joined("e\u{301}t\u{e9}"), "ete");
        assert_eq!(joined("İstanbul ISTANBUL"), "istanbul");
    }

    #[test]
    fn a_word_ends_where_a_person_sees_its_end() {
        assert_eq!(
            joined("l'homme don't user.name@example.com a_b"),
            "l homme don t user name example com a b"
        );
        assert_eq!(joined("你好，世界"), "你 好 世 界");
        assert_eq!(joined("がぎ か"), "か\u{3099} き\u{3099} か");
        assert_eq!(joined("हिन्दी की का"), "हिन्दी की का");
        assert_eq!(joined("שָׁלוֹם"), "שלום");
    }

    #[test]
    fn an_emoji_is_a_word_and_punctuation_is_none() {
        assert_eq!(joined("👍🏽 👩‍👩‍👧 ❤️ 1️⃣"), "1 👍 👩 👧 ❤");
        for nothing in ["", " \t\n", "\" * ( ) - + & | ! ' \\ : ^", "…—«»", "\u{301}", "\u{e000}"] {
            assert!(words(nothing).is_empty(), "{nothing:?}");
        }
        assert_eq!(joined("a AND b OR NOT \"c\" NEAR(d, 2) e* col:f"), "a and b or not c near d 2 e col f");
    }

    #[test]
    fn there_are_bounds() {
        assert_eq!(words(&"a".repeat(1000)), ["a".repeat(64)]);
        assert_eq!(words(&"ж".repeat(1000)), ["ж".repeat(32)]);
        assert_eq!(words(&"a€".repeat(100)).len(), 1);
        let many: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
        assert_eq!(words(&many.join(" ")).len(), MAX_WORDS);
    }

    #[test]
    fn the_longest_text_is_found_by_all_of_its_words() {
        let letters =
            ('a'..='z').flat_map(|a| ('a'..='z').flat_map(move |b| ('a'..='z').map(move |c| [a, b, c])));
        let latin: Vec<String> = letters.take(4096).map(|letters| letters.iter().collect()).collect();
        assert_eq!(words(&latin.join(" ")), latin);
        let han: String = ('\u{4e00}'..).take(16 * 1024 / 3).collect();
        assert_eq!(words(&han).len(), 16 * 1024 / 3);
    }

    proptest! {
        #[test]
        fn a_text_is_found_by_each_of_its_words(text in "\\PC{0,60}|[a-zA-Z0-9'._ ]{0,60}|[\\u{900}-\\u{e7f} ]{0,40}") {
            let found = words(&text);
            for word in &found {
                prop_assert!(word.len() <= MAX_WORD_BYTES);
                prop_assert_eq!(&words(word), std::slice::from_ref(word));
                prop_assert!(word.chars().all(|c| is_part_of_word(c) || is_emoji(c)));
            }
        }

        #[test]
        fn the_quick_way_is_the_same_as_the_other(text in "[ -~\\t\\n]{0,80}") {
            let slow = words(&format!("{text} ж"));
            prop_assert_eq!(words(&text), slow[..slow.len() - 1].to_vec());
        }

        #[test]
        fn anything_at_all_has_words_or_none(text in any::<String>()) {
            words(&text);
        }
    }
}
