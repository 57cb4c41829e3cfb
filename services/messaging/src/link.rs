//! Finding the link in a message that a preview is for.

use outbound::WebAddress;
use proto::messaging::v1::content::Kind;

use crate::content::Content;

const SCHEME: &str = "https://";

/// What ends a link in a text, besides white space.
const NOT_IN_LINKS: [char; 5] = ['<', '>', '"', '`', '|'];

/// What belongs to the sentence when it stands behind a link.
const PUNCTUATION: &str = ".,;:!?'*_~…»”’";

/// The first https link of a text, or the link that a message is.
pub fn first(content: &Content) -> Option<&str> {
    match content.kind()? {
        Kind::Link(link) => Some(link.url.as_str()).filter(|url| WebAddress::parse(url).is_ok()),
        Kind::Text(text) => in_text(text),
        _ => None,
    }
}

fn in_text(text: &str) -> Option<&str> {
    let places = text.match_indices(SCHEME).filter(|(at, _)| begins_a_word(text, *at));
    places.map(|(at, _)| cut(&text[at..])).find(|link| WebAddress::parse(link).is_ok())
}

fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(char::is_alphanumeric)
}

/// The link at the beginning of a text, without what belongs to the sentence around it.
fn cut(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || NOT_IN_LINKS.contains(&c));
    let mut link = &text[..end.unwrap_or(text.len())];
    loop {
        let shorter = link.trim_end_matches(|c| PUNCTUATION.contains(c));
        let shorter = match shorter.chars().next_back() {
            Some(')') if is_unopened(shorter, '(', ')') => &shorter[..shorter.len() - 1],
            Some(']') if is_unopened(shorter, '[', ']') => &shorter[..shorter.len() - 1],
            _ => shorter,
        };
        if shorter.len() == link.len() {
            return link;
        }
        link = shorter;
    }
}

/// Whether a link has more closing brackets than opening ones: then the last was opened before it.
fn is_unopened(link: &str, open: char, close: char) -> bool {
    link.matches(close).count() > link.matches(open).count()
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1 as pb;

    use super::*;

    #[test]
    fn the_first_https_link_of_a_text_is_found() {
        for (text, link) in [
            ("https://a.example", Some("https://a.example")),
            ("see https://a.example/x?y=1#z, and https://b.example", Some("https://a.example/x?y=1#z")),
            ("(https://a.example/x_(y)).", Some("https://a.example/x_(y)")),
            ("<https://a.example/>", Some("https://a.example/")),
            ("[text](https://a.example/x)!", Some("https://a.example/x")),
            ("https://[::1]/ and", Some("https://[::1]/")),
            ("https:// https://user@a.example https://b.example", Some("https://b.example")),
            ("xhttps://a.example", None),
            ("http://a.example ftp://b.example", None),
            ("no link", None),
            ("https://", None),
            ("https://...", None),
            ("https://ä.example/ö…", Some("https://ä.example/ö")),
        ] {
            assert_eq!(first(&Content::text(text)), link, "{text}");
        }
        let long = format!("https://a.example/{} https://b.example", "x".repeat(2048));
        assert_eq!(first(&Content::text(&long)), Some("https://b.example"));
    }

    #[test]
    fn a_link_message_is_its_link_and_other_kinds_have_none() {
        let content =
            |kind| Content::parse(Some(pb::Content { kind: Some(kind), ..pb::Content::default() })).unwrap();
        let link = pb::LinkContent { url: "https://a.example/".to_owned(), ..pb::LinkContent::default() };
        assert_eq!(first(&content(Kind::Link(link))), Some("https://a.example/"));
        let secure = pb::SecureContent {
            ciphertext: b"https://a.example/".to_vec(),
            algorithm: "x".to_owned(),
            ..pb::SecureContent::default()
        };
        assert_eq!(first(&content(Kind::Secure(secure))), None);
    }
}
