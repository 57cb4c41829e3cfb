//! Words and addresses inside a content, and the rules they follow.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use url::{Host, Url};

/// The most bytes of a text, after normalisation.
pub const MAX_TEXT_BYTES: usize = 16_384;

/// The most bytes of an address.
const MAX_URL_BYTES: usize = 2048;

/// How an https address begins.
const HTTPS: &str = "https://";

/// Normalises a text (NFC) and checks it: 1 to 16,384 bytes, something that can be seen, and no control characters but tab
/// and line feed. Says which rule it breaks otherwise.
pub fn text(text: &mut String) -> Result<(), &'static str> {
    normalise(text);
    if text.len() > MAX_TEXT_BYTES {
        return Err("must have at most 16384 bytes");
    }
    something(text)?;
    uncontrolled(text)
}

/// Normalises what may run over several lines, such as a caption, and checks it; it may be empty.
pub fn paragraph(text: &mut String, max_chars: usize) -> Result<(), &'static str> {
    normalise(text);
    fits(text, max_chars)?;
    uncontrolled(text)?;
    visible_or_empty(text)
}

/// Normalises what stands on one line, such as a title or the name of a file, and checks it; it may be empty. What turns
/// the direction of writing around is refused here, because a name must not show as another one.
pub fn line(text: &mut String, max_chars: usize) -> Result<(), &'static str> {
    normalise(text);
    fits(text, max_chars)?;
    if text.chars().any(|c| c.is_control() || turns_direction(c)) {
        return Err("must be one line without control characters");
    }
    visible_or_empty(text)
}

/// Refuses what is empty or shows nothing.
pub fn something(text: &str) -> Result<(), &'static str> {
    if chassis::text::is_blank(text) { Err(chassis::text::VISIBLE) } else { Ok(()) }
}

fn visible_or_empty(text: &str) -> Result<(), &'static str> {
    if chassis::text::is_filled_with_blanks(text) { Err(chassis::text::VISIBLE_OR_EMPTY) } else { Ok(()) }
}

/// Checks an address: https with a host, without a user's name or password, and without what one reader of addresses
/// takes for something else than another one does.
pub fn https(address: &str) -> Result<(), &'static str> {
    parse_https(address).map(drop)
}

/// The host of an https address, in lower case; `None` when it is no such address.
pub fn host(address: &str) -> Option<String> {
    parse_https(address).ok()?.host().as_ref().map(Host::to_string)
}

/// The first https address in a text, without the punctuation of the sentence around it.
pub fn first_address(text: &str) -> Option<&str> {
    let starts = text.match_indices(HTTPS).filter(|(start, _)| {
        let before = text[..*start].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric())
    });
    let candidates = starts.map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(|c: char| c.is_whitespace() || c.is_control() || "<>\"`".contains(c));
        without_punctuation(&rest[..end.unwrap_or(rest.len())])
    });
    candidates.into_iter().find(|address| https(address).is_ok())
}

/// Checks a media type (RFC 6838) such as `image/png`, with parameters or without; it may be empty.
pub fn media_type(text: &str) -> Result<(), &'static str> {
    const RULE: &str = "must be a media type such as image/png";
    if text.is_empty() {
        return Ok(());
    }
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    let is_printable = parameters.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    match name.trim_end_matches(' ').split_once('/') {
        Some((kind, subtype)) if is_name(kind) && is_name(subtype) && is_printable => Ok(()),
        _ => Err(RULE),
    }
}

fn normalise(text: &mut String) {
    if is_nfc_quick(text.chars()) != IsNormalized::Yes {
        *text = text.nfc().collect();
    }
}

fn fits(text: &str, max_chars: usize) -> Result<(), &'static str> {
    // Normalising can make a text longer than what the contract has counted.
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err("is too long after normalisation");
    }
    Ok(())
}

fn uncontrolled(text: &str) -> Result<(), &'static str> {
    if text.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
        return Err("must have no control characters but tab and line feed");
    }
    Ok(())
}

const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn parse_https(address: &str) -> Result<Url, &'static str> {
    if address.len() > MAX_URL_BYTES {
        return Err("must have at most 2048 bytes");
    }
    // Parsers disagree about these, or drop them silently.
    let is_ambiguous = |c: char| c.is_whitespace() || c.is_control() || c == '\\' || turns_direction(c);
    if !address.starts_with(HTTPS) || address.contains(is_ambiguous) {
        return Err("must be an https address");
    }
    let url = Url::parse(address).map_err(|_| "must be an https address")?;
    // With three slashes the first part of the path would be taken for the host.
    if authority(address).is_empty() || url.host_str().is_none_or(str::is_empty) {
        return Err("must be an https address");
    }
    if !url.username().is_empty() || url.password().is_some() || authority(address).contains('@') {
        return Err("must have no user name and no password");
    }
    Ok(url)
}

/// What stands between the scheme and the path.
fn authority(address: &str) -> &str {
    let rest = &address[HTTPS.len()..];
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// Cuts off what ends a sentence and not an address; a closing bracket stays when it was opened inside.
fn without_punctuation(mut address: &str) -> &str {
    while let Some(last) = address.chars().next_back() {
        let is_unopened = |open| address.matches(open).count() < address.matches(last).count();
        let is_outside = match last {
            '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '…' | '*' | '_' | '~' | '|' => true,
            ')' => is_unopened('('),
            ']' => is_unopened('['),
            '}' => is_unopened('{'),
            _ => false,
        };
        if !is_outside {
            break;
        }
        address = &address[..address.len() - last.len_utf8()];
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_normalised_and_bounded() {
        let parse = |says: &str| {
            let mut says = says.to_owned();
            text(&mut says).map(|()| says)
        };
        assert_eq!(parse("e\u{301}"), Ok("é".to_owned()));
        assert!(parse(&"a".repeat(MAX_TEXT_BYTES)).is_ok());
        assert!(parse(&"a".repeat(MAX_TEXT_BYTES + 1)).is_err());
        // The bound holds for what is stored: this is one byte too long until it is normalised.
        assert!(parse(&("a".repeat(MAX_TEXT_BYTES - 2) + "e\u{301}")).is_ok());
        for bad in ["", " \t\n", "\u{a0}\u{3000}", "a\0b", "a\rb", "a\u{1b}[0m", "\u{85}x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a\tb\n", "👩‍👩‍👧", "שלום"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
    }

    #[test]
    fn a_line_is_one_line_that_shows_as_it_is() {
        for bad in ["a\nb", "a\tb", "gpj.\u{202e}exe", "\u{2067}x", "four\u{0}"] {
            assert!(line(&mut bad.to_owned(), 64).is_err(), "{bad:?}");
        }
        for good in ["", "שלום", "a b", "é"] {
            assert!(line(&mut good.to_owned(), 64).is_ok(), "{good:?}");
        }
        // One character that normalisation writes as two.
        assert!(line(&mut "\u{958}".to_owned(), 1).is_err());
    }

    #[test]
    fn an_address_is_https_with_a_host_and_nobody_s_password() {
        for good in [
            "https://example.org",
            "https://example.org:8443/a?b=c#d",
            "https://[2001:db8::1]/",
            "https://пример.рф/x",
            "https://example.org/@ann",
        ] {
            assert_eq!(https(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https:///path",
            "https://?",
            "http://example.org",
            "HTTPS://example.org",
            "https:example.org",
            "javascript:alert(1)",
            "https://ann@example.org/",
            "https://ann:secret@example.org/",
            "https://@example.org/",
            "https://good.example\\@evil.example/",
            "https://exa\nmple.org/",
            "https://example.org/a b",
            "https://exa mple.org",
            "https://example.org:99999/",
            "https://[::1",
            "https://example.org/\u{202e}gpj",
            " https://example.org",
        ] {
            assert!(https(bad).is_err(), "{bad:?}");
        }
        assert!(https(&format!("https://example.org/{}", "a".repeat(2029))).is_err());
        assert!(https(&format!("https://example.org/{}", "a".repeat(2028))).is_ok());
        assert_eq!(host("https://Media.Example.org:444/x").as_deref(), Some("media.example.org"));
    }

    #[test]
    fn the_first_address_of_a_text_is_found_without_the_sentence_around_it() {
        let cases = [
            ("see https://example.org/a, then", Some("https://example.org/a")),
            ("(https://example.org/a_(b))", Some("https://example.org/a_(b)")),
            ("(https://example.org)", Some("https://example.org")),
            ("<https://example.org>", Some("https://example.org")),
            ("https://example.org.", Some("https://example.org")),
            ("xhttps://no.example https://yes.example", Some("https://yes.example")),
            ("https:// https://ann@no.example https://yes.example", Some("https://yes.example")),
            ("http://example.org", None),
            ("nothing", None),
            ("https://", None),
        ];
        for (says, expected) in cases {
            assert_eq!(first_address(says), expected, "{says}");
        }
    }

    #[test]
    fn a_media_type_has_a_type_and_a_subtype() {
        for good in ["", "image/png", "audio/webm;codecs=opus", "application/vnd.api+json; charset=utf-8"] {
            assert_eq!(media_type(good), Ok(()), "{good}");
        }
        for bad in ["png", "/png", "image/", "image/p ng", "image/png\n", "image/png;a=\u{e9}", "<b>/x"] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
    }
}
