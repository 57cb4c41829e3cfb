//! What a message says: a value that follows all rules once it is built.

use prost::Message as _;
use proto::messaging::v1 as pb;
use proto::messaging::v1::content::Kind;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::error::Error;
use crate::store::Failure;

/// What a message says. Built from the wire with [`Content::parse`], which checks what the contract cannot declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Content(pb::Content);

impl Content {
    /// Normalises and checks a content; the error names the field and the rule.
    pub fn parse(content: Option<pb::Content>) -> Result<Self, Error> {
        let mut content = content.unwrap_or_default();
        let invalid = |field| move |rule| Error::Invalid { field, rule };
        match &mut content.kind {
            Some(Kind::Text(says)) => *says = text(std::mem::take(says)).map_err(invalid("content.text"))?,
            Some(_) => {}
            None if content.attachments.is_empty() => return Err(invalid("content")("must say something")),
            None => {}
        }
        Ok(Self(content))
    }

    /// As the wire has it.
    pub const fn wire(&self) -> &pb::Content {
        &self.0
    }

    /// As the wire has it.
    pub fn into_wire(self) -> pb::Content {
        self.0
    }

    /// Its kind; `None` for attachments alone.
    pub const fn kind(&self) -> Option<&Kind> {
        self.0.kind.as_ref()
    }

    /// Whether it is encrypted by the sender's device: then nobody here looks into it.
    pub const fn is_secure(&self) -> bool {
        matches!(self.0.kind, Some(Kind::Secure(_)))
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// From how it is stored.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let corrupt = |_| Failure::corrupt("the content of a message cannot be read");
        pb::Content::decode(bytes).map(Self).map_err(corrupt)
    }

    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        match &self.0.kind {
            Some(Kind::Text(text)) if self.0.attachments.is_empty() => text.len(),
            _ => self.0.encoded_len(),
        }
    }
}

/// The most bytes of a text, after normalisation.
const MAX_TEXT_BYTES: usize = 16_384;

/// Normalises a text (NFC) and checks it: 1 to 16,384 bytes, not only white space, and no control characters but tab and
/// line feed. Says which rule it breaks otherwise.
fn text(text: String) -> Result<String, &'static str> {
    let text = match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text,
        IsNormalized::No | IsNormalized::Maybe => text.nfc().collect(),
    };
    if text.len() > MAX_TEXT_BYTES {
        return Err("must have at most 16384 bytes");
    }
    if text.chars().all(char::is_whitespace) {
        return Err("must have something besides white space");
    }
    if text.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
        return Err("must have no control characters but tab and line feed");
    }
    Ok(text)
}

#[cfg(test)]
impl Content {
    /// A text.
    pub fn text(says: &str) -> Self {
        let kind = Some(Kind::Text(says.to_owned()));
        Self::parse(Some(pb::Content { kind, ..pb::Content::default() })).expect("a text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_normalised_and_bounded() {
        let parse = |says: &str| text(says.to_owned());
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
}
