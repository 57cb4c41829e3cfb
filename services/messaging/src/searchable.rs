//! What a message can be found by.

use proto::messaging::v1::content::Kind;

use crate::content::Content;

impl Content {
    /// What somebody may look for in it; `None` when nobody here may look into it. Empty for what has no words.
    pub fn searchable(&self) -> Option<String> {
        let wire = self.wire();
        let mut parts: Vec<&str> = match &wire.kind {
            Some(Kind::Secure(_)) => return None,
            Some(Kind::Text(text)) => vec![text],
            Some(Kind::Voice(voice)) => vec![&voice.caption],
            Some(Kind::Sticker(sticker)) => vec![&sticker.label],
            Some(Kind::Poll(poll)) => {
                std::iter::once(&poll.question).chain(&poll.options).map(String::as_str).collect()
            }
            Some(Kind::Document(document)) => vec![&document.title, &document.document_id],
            Some(Kind::Link(link)) => vec![&link.title, &link.description, &link.url],
            Some(Kind::Location(location)) => vec![&location.name],
            Some(Kind::Schedule(schedule)) => vec![&schedule.title],
            Some(Kind::System(system)) => vec![&system.text],
            Some(Kind::Profile(_) | Kind::Call(_)) | None => Vec::new(),
        };
        parts.extend(wire.attachments.iter().map(|attachment| attachment.name.as_str()));
        Some(parts.join("\n"))
    }
}
