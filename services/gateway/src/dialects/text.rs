//! Texts in the form of dialects, and every kind of content as one line of text, for the dialects that have only text.

use chassis::fault::Fault;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::{CallOutcome, Content};

/// The longest text that a dialect accepts, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Returns the text of a message: line ends become LF; control characters, too long and invisible texts are refused.
pub(crate) fn message(field: &str, text: &str) -> Result<String, Fault> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    if text.len() > MAX_BYTES {
        return Err(Fault::invalid(field, format!("must have at most {MAX_BYTES} bytes")));
    }
    if text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\t')) {
        return Err(Fault::invalid(field, "must not contain control characters"));
    }
    visible(field, text)
}

/// Returns a text that is visible; refuses any other.
pub(crate) fn visible(field: &str, text: String) -> Result<String, Fault> {
    if chassis::text::is_blank(&text) { Err(Fault::invalid(field, chassis::text::VISIBLE)) } else { Ok(text) }
}

/// Returns an address in a message: https only.
pub(crate) fn address(field: &str, text: &str) -> Result<String, Fault> {
    match text.starts_with("https://") {
        true => Ok(text.to_owned()),
        false => Err(Fault::invalid(field, "must be an https address")),
    }
}

/// Returns content of any kind as one line of text. `name` is the display name of the user on a profile card.
pub(crate) fn line(content: Option<&Content>, name: impl Fn(&str) -> Option<String>) -> String {
    let Some(content) = content else { return String::new() };
    let first = |texts: [&str; 2], otherwise: &str| {
        let text = texts.into_iter().find(|text| !text.is_empty());
        text.unwrap_or(otherwise).to_owned()
    };
    match &content.kind {
        Some(Kind::Text(text)) => text.clone(),
        Some(Kind::Secure(_)) => "Encrypted message".to_owned(),
        Some(Kind::Voice(voice)) => first([&voice.caption, ""], "Voice message"),
        Some(Kind::Sticker(sticker)) => first([&sticker.label, ""], "Sticker"),
        Some(Kind::Poll(poll)) => poll.question.clone(),
        Some(Kind::Document(document)) => first([&document.title, &document.document_id], "Document"),
        Some(Kind::Link(link)) => link.url.clone(),
        Some(Kind::Location(place)) => match place.name.is_empty() {
            true => format!("{}, {}", place.latitude, place.longitude),
            false => place.name.clone(),
        },
        Some(Kind::Profile(profile)) => name(&profile.user_id).unwrap_or_else(|| "Contact".to_owned()),
        Some(Kind::Schedule(schedule)) => {
            let title = first([&schedule.title, ""], "Call");
            if schedule.cancelled {
                format!("{title} was cancelled")
            } else {
                format!("{title} is scheduled")
            }
        }
        Some(Kind::Call(call)) => match call.outcome() {
            CallOutcome::Missed => "Missed call",
            CallOutcome::Rejected => "Call declined",
            CallOutcome::Cancelled => "Call cancelled",
            CallOutcome::Busy => "Line busy",
            CallOutcome::Failed => "Call failed",
            CallOutcome::Ended | CallOutcome::Unspecified => "Call ended",
        }
        .to_owned(),
        Some(Kind::System(system)) => system.text.clone(),
        None if content.attachments.is_empty() => String::new(),
        None => "Attachment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1::{CallContent, LocationContent, ProfileContent, VoiceContent};

    use super::*;

    #[test]
    fn line_ends_become_lf() {
        assert_eq!(message("text", "a\r\nb\rc\td"), Ok("a\nb\nc\td".to_owned()));
    }

    #[test]
    fn control_characters_blanks_and_long_texts_are_refused() {
        for text in ["", " \r\n ", "\u{200b}\u{2800}", "a\0b", "\u{7}", &"x".repeat(MAX_BYTES + 1)] {
            assert_eq!(message("text", text).expect_err("refused").fields()[0].0, "text");
        }
        assert!(message("text", &"x".repeat(MAX_BYTES)).is_ok());
    }

    #[test]
    fn addresses_are_https() {
        assert!(address("voiceUrl", "https://a.example/v.ogg").is_ok());
        assert!(address("voiceUrl", "http://a.example/v.ogg").is_err());
    }

    #[test]
    fn every_kind_is_a_line() {
        let said = |kind: Kind| {
            let content = Content { kind: Some(kind), attachments: Vec::new() };
            line(Some(&content), |id| (id == "1").then(|| "Ann".to_owned()))
        };
        assert_eq!(said(Kind::Text("hi".to_owned())), "hi");
        assert_eq!(said(Kind::Voice(VoiceContent::default())), "Voice message");
        let place = LocationContent { latitude: 1.5, longitude: -2.0, name: String::new() };
        assert_eq!(said(Kind::Location(place)), "1.5, -2");
        assert_eq!(said(Kind::Profile(ProfileContent { user_id: "1".to_owned() })), "Ann");
        let call = CallContent { outcome: CallOutcome::Missed.into(), ..CallContent::default() };
        assert_eq!(said(Kind::Call(call)), "Missed call");
        assert_eq!(line(None, |_| None), "");
    }
}
