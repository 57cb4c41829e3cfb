//! The people that a text calls by name: `@name`.

use std::collections::HashSet;

/// The most people that one message mentions. Further names are only text.
const MAX_NAMES: usize = 20;

/// How long a username is; auth's rule.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=32;

/// The different usernames that a text calls, in lower case and in the order in which they come.
///
/// An `@` in the middle of a word calls nobody: that is an address. In a script without spaces between words every letter is
/// a word of its own. What is longer than a name, or goes on with letters that no name has, is none; a dot or a hyphen at
/// the end belongs to the sentence. A name in code, between backticks, is only text.
pub fn names(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let prose = without_code(text);
    for name in prose.iter().flat_map(|prose| called(prose)) {
        if found.len() < MAX_NAMES && seen.insert(name.clone()) {
            found.push(name);
        }
    }
    found
}

/// The parts of a text that are no code: neither spans between runs of backticks of one length nor fenced blocks, as
/// CommonMark has them.
fn without_code(text: &str) -> Vec<&str> {
    let mut prose = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].bytes().take_while(|byte| *byte == b'`').count();
        let code = &rest[start + ticks..];
        // The line that opens a block has no further backticks.
        let opens_line = rest[..start].rsplit('\n').next().is_some_and(|line| line.trim().is_empty());
        let is_fence =
            ticks >= 3 && opens_line && !code.lines().next().is_some_and(|line| line.contains('`'));
        let end =
            if is_fence { end_of_block(code, ticks).or(Some(code.len())) } else { end_of_span(code, ticks) };
        match end {
            Some(end) => {
                prose.push(&rest[..start]);
                rest = &code[end..];
            }
            // Backticks that close nothing are only text.
            None => {
                prose.push(&rest[..start]);
                rest = code;
            }
        }
    }
    prose.push(rest);
    prose
}

/// The end of a span: behind the next run of as many backticks.
fn end_of_span(code: &str, ticks: usize) -> Option<usize> {
    let mut from = 0;
    while let Some(start) = code[from..].find('`').map(|start| from + start) {
        let run = code[start..].bytes().take_while(|byte| *byte == b'`').count();
        if run == ticks {
            return Some(start + run);
        }
        from = start + run;
    }
    None
}

/// The end of a fenced block: behind the next line of nothing but at least as many backticks.
fn end_of_block(code: &str, ticks: usize) -> Option<usize> {
    let mut end = 0;
    for line in code.split_inclusive('\n') {
        let fence = line.trim();
        // The first line is the rest of the one that opens the block.
        let closes = end > 0 && fence.len() >= ticks && fence.bytes().all(|byte| byte == b'`');
        end += line.len();
        if closes {
            return Some(end);
        }
    }
    None
}

/// The names that a text without code calls.
fn called(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = None;
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let starts_word = !rest[..at].chars().next_back().or(before).is_some_and(is_part_of_word);
        let after = &rest[at + 1..];
        let length = after.bytes().take_while(|byte| is_part_of_name(*byte)).count();
        let name = after[..length].trim_end_matches(['.', '-']).to_ascii_lowercase();
        let ends_word = !after[length..].chars().next().is_some_and(is_part_of_word);
        if starts_word && ends_word && NAME_BYTES.contains(&name.len()) {
            found.push(name);
        }
        before = after[..length].chars().next_back().or(Some('@'));
        rest = &after[length..];
    }
    found
}

fn is_part_of_word(c: char) -> bool {
    c == '_' || c == '@' || (c.is_alphanumeric() && !is_unspaced(c))
}

/// True for letters of scripts that put no space between a name and the words around it: Thai, Lao, Myanmar, Khmer, Han,
/// Kana, Bopomofo, and Hangul, whose particles follow a name at once.
const fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ffdc}' | '\u{1b000}'..='\u{1b16f}' | '\u{20000}'..='\u{3ffff}')
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
    fn scripts_without_spaces_call_too() {
        assert_eq!(names("请@bob看一下"), ["bob"]);
        assert_eq!(names("ボブ@bobさん、@cyd씨 ขอ@annหน่อย"), ["bob", "cyd", "ann"]);
        assert_eq!(names("привет@bob é@ann @bobу @annä"), [""; 0]);
    }

    #[test]
    fn code_calls_nobody() {
        assert_eq!(names("see `@ann` and @bob"), ["bob"]);
        assert_eq!(names("``a ` @ann`` @bob `@cyd`"), ["bob"]);
        assert_eq!(names("```rust\n@ann\n  @bob ``` @eve\n```\n@cyd"), ["cyd"]);
        assert_eq!(names("x\n   ````\n@ann\n```\n@bob\n`````\n@cyd"), ["cyd"]);
        assert_eq!(names("```\n@ann"), [""; 0]);
        assert_eq!(names("```@ann``` @bob"), ["bob"]);
        assert_eq!(names("`@ann and ``@bob"), ["ann", "bob"]);
        assert_eq!(names("@ann`x`@bob"), ["ann", "bob"]);
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
