//! What a page says about itself. Nothing but text leaves: no markup, nothing that steers how text is laid out.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

/// The most characters of a title.
const MAX_TITLE: usize = 300;

/// The most characters of a description.
const MAX_DESCRIPTION: usize = 1024;

/// What a page says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its title, 1 to 300 characters.
    pub title: String,
    /// What it is about, at most 1,024 characters; may be empty.
    pub description: String,
}

impl Summary {
    /// Reads the beginning of a page in UTF-8; `None` when it has no title. What the page says for the purpose
    /// (Open Graph) goes before what it says to browsers.
    pub fn of(page: &[u8]) -> Option<Self> {
        let mut emitter = DefaultEmitter::default();
        // So that a title is text, and a script is not markup.
        emitter.naively_switch_states(true);
        let mut found = Found::default();
        for token in Tokenizer::new_with_emitter(page, emitter) {
            let Ok(token) = token;
            found.take(token);
        }
        let title = [found.og_title, found.title.text].into_iter().flatten();
        let title = title.map(|bytes| plain(&bytes, MAX_TITLE)).find(|title| !title.is_empty())?;
        let description = [found.og_description, found.description].into_iter().flatten();
        let description =
            description.map(|bytes| plain(&bytes, MAX_DESCRIPTION)).find(|text| !text.is_empty());
        Some(Self { title, description: description.unwrap_or_default() })
    }
}

#[derive(Debug, Default)]
struct Found {
    title: Title,
    og_title: Option<Vec<u8>>,
    og_description: Option<Vec<u8>>,
    description: Option<Vec<u8>>,
}

/// The first title; further ones are those of drawings.
#[derive(Debug, Default)]
struct Title {
    text: Option<Vec<u8>>,
    is_open: bool,
}

impl Found {
    fn take(&mut self, token: Token) {
        match token {
            Token::StartTag(tag) if tag.name.as_slice() == b"title" => {
                self.title.is_open = self.title.text.is_none();
            }
            Token::StartTag(tag) if tag.name.as_slice() == b"meta" => self.meta(&tag),
            Token::String(text) if self.title.is_open => {
                self.title.text.get_or_insert_default().extend_from_slice(&text);
            }
            Token::EndTag(_) => self.title.is_open = false,
            _ => {}
        }
    }

    fn meta(&mut self, tag: &StartTag<()>) {
        let attribute = |name: &[u8]| tag.attributes.get(name).map(|value| value.value.as_slice());
        let Some(name) = attribute(b"property").or_else(|| attribute(b"name")) else { return };
        let place = match name.to_ascii_lowercase().as_slice() {
            b"og:title" => &mut self.og_title,
            b"og:description" => &mut self.og_description,
            b"description" => &mut self.description,
            _ => return,
        };
        if place.is_none() {
            *place = attribute(b"content").map(<[u8]>::to_vec);
        }
    }
}

/// Text on one line: white space is one blank, and neither control characters nor those that turn the direction of
/// writing or are not seen are left. Empty when it is not UTF-8.
fn plain(bytes: &[u8], most: usize) -> String {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let mut plain = String::new();
    let mut count = 0;
    for c in text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_unseen(*c)) {
        if c == ' ' && (plain.is_empty() || plain.ends_with(' ')) {
            continue;
        }
        if count == most {
            break;
        }
        plain.push(c);
        count += 1;
    }
    plain.truncate(plain.trim_end().len());
    plain
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn title(page: &str) -> Option<String> {
        Summary::of(page.as_bytes()).map(|summary| summary.title)
    }

    #[test]
    fn a_page_has_a_title_and_perhaps_a_description() {
        let page = "<!doctype html><head><TITLE>\n One &amp; <b>two</b>&#x202e; </TITLE>\
            <meta name=description content='for browsers'><meta property=og:title content='&quot;Best&quot;'>\
            <meta property='og:description' content='a &lt;script&gt; &eacute;'></head><title>late</title>";
        let summary = Summary::of(page.as_bytes()).unwrap();
        assert_eq!(summary.title, "\"Best\"");
        assert_eq!(summary.description, "a <script> é");
        assert_eq!(
            title("<title>\n One &amp; <b>two</b>&#x202e; </title>").as_deref(),
            Some("One & <b>two</b>")
        );
        assert_eq!(title("<title>cut off in the mid").as_deref(), Some("cut off in the mid"));
        let described = Summary::of(b"<title>x</title><meta name=description content=y>").unwrap();
        assert_eq!(described.description, "y");
    }

    #[test]
    fn what_looks_like_a_title_is_not_always_one() {
        for page in [
            "",
            "<p>text",
            "<title></title>",
            "<title> \u{202e}\u{7} </title>",
            "<!-- <title>x</title> -->",
            "<script>'<title>x</title>'</script>",
            "<style><title>x</title></style>",
            "<textarea><title>x</title></textarea>",
            "<meta property=og:title>",
        ] {
            assert_eq!(title(page), None, "{page}");
        }
        assert_eq!(Summary::of(b"<title>caf\xe9</title>"), None, "not UTF-8");
    }

    #[test]
    fn what_steers_the_layout_is_gone_and_joined_emoji_stay() {
        let says = |text: &str| title(&format!("<title>{text}</title>")).unwrap();
        assert_eq!(says("a\u{202e}b\u{2066}c\u{200b}d\u{feff}\u{1b}[0m"), "abcd[0m");
        assert_eq!(says("a\u{2028}b\r\n\tc"), "a b c");
        assert_eq!(says("👩\u{200d}👧"), "👩\u{200d}👧");
        assert_eq!(says(&"ä ".repeat(400)).chars().count(), 299, "the blank at the end is cut");
    }

    proptest! {
        #[test]
        fn whatever_a_page_holds_its_title_is_plain(
            page in prop::collection::vec(any::<u8>(), 0..200),
            text in any::<String>(),
        ) {
            let page = [b"<title>".as_slice(), text.as_bytes(), &page].concat();
            if let Some(Summary { title, description }) = Summary::of(&page) {
                prop_assert!((1..=MAX_TITLE).contains(&title.chars().count()));
                prop_assert!(!title.chars().any(is_unseen) && title.trim() == title);
                prop_assert!(description.chars().count() <= MAX_DESCRIPTION);
            }
        }
    }
}
