//! What a message says: a value that follows all rules once it is built.

mod rules;
#[cfg(test)]
mod tests;
mod words;

use chassis::clock::Timestamp;
use prost::Message as _;
use proto::messaging::v1 as pb;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::media::Source;

pub use words::host;

use crate::error::Error;
use crate::store::Failure;

/// What a message says. Built from the wire with [`Content::parse`], which checks what the contract cannot declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Content(pb::Content);

impl Content {
    /// Normalises and checks a content that is written now; the error names the field and the rule.
    pub fn parse(content: Option<pb::Content>, now: Timestamp) -> Result<Self, Error> {
        let mut content = content.unwrap_or_default();
        rules::apply(&mut content, now)?;
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

    /// The field of a kind that only services write; `None` for what people write.
    pub const fn of_services(&self) -> Option<&'static str> {
        match self.0.kind {
            Some(Kind::Schedule(_)) => Some("content.schedule"),
            Some(Kind::Call(_)) => Some("content.call"),
            Some(Kind::System(_)) => Some("content.system"),
            _ => None,
        }
    }

    /// Whether a copy of it may go elsewhere. A secure one is bound to its conversation by its signature, and what
    /// services write is about the conversation that it stands in.
    pub const fn is_forwardable(&self) -> bool {
        !self.is_secure() && self.of_services().is_none()
    }

    /// Whether an edit may turn it into this: only what people word themselves, and only into its own kind.
    pub const fn may_become(&self, other: &Self) -> bool {
        matches!(
            (&self.0.kind, &other.0.kind),
            (Some(Kind::Text(_)), Some(Kind::Text(_)))
                | (Some(Kind::Secure(_)), Some(Kind::Secure(_)))
                | (Some(Kind::Voice(_)), Some(Kind::Voice(_)))
                | (Some(Kind::Document(_)), Some(Kind::Document(_)))
                | (Some(Kind::Link(_)), Some(Kind::Link(_)))
                | (Some(Kind::Location(_)), Some(Kind::Location(_)))
        )
    }

    /// How a poll stands before anybody has voted; `None` for other kinds.
    pub fn new_poll(&self) -> Option<pb::PollResult> {
        let Some(Kind::Poll(poll)) = &self.0.kind else { return None };
        Some(pb::PollResult {
            counts: vec![0; poll.options.len()],
            voter_count: 0,
            close_time: poll.close_time,
        })
    }

    /// The files it refers to, by the ids of their uploads.
    pub fn uploads(&self) -> impl Iterator<Item = &str> {
        let own = match &self.0.kind {
            Some(Kind::Voice(voice)) => voice.media.as_ref(),
            Some(Kind::Sticker(sticker)) => sticker.media.as_ref(),
            Some(Kind::Document(document)) => document.media.as_ref(),
            _ => None,
        };
        let beside = self.0.attachments.iter().filter_map(|attachment| attachment.media.as_ref());
        own.into_iter().chain(beside).filter_map(|media| match media.source.as_ref()? {
            Source::UploadId(id) => Some(id.as_str()),
            Source::Url(_) => None,
        })
    }

    /// The field and the host of a voice or a sticker that is somewhere else; `None` for all others.
    pub fn media_host(&self) -> Option<(&'static str, String)> {
        let (field, media) = match &self.0.kind {
            Some(Kind::Voice(voice)) => ("content.voice.media.url", voice.media.as_ref()?),
            Some(Kind::Sticker(sticker)) => ("content.sticker.media.url", sticker.media.as_ref()?),
            _ => return None,
        };
        match media.source.as_ref()? {
            Source::Url(url) => Some((field, host(url).unwrap_or_default())),
            Source::UploadId(_) => None,
        }
    }

    /// The words by which it is found, one piece a line; `None` when there are none, and always for a secure one.
    pub fn searchable(&self) -> Option<String> {
        let mut pieces: Vec<&str> = match &self.0.kind {
            Some(Kind::Text(text)) => vec![text],
            Some(Kind::Secure(_)) => return None,
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
        pieces.extend(self.0.attachments.iter().map(|attachment| attachment.name.as_str()));
        pieces.retain(|piece| !piece.trim().is_empty());
        (!pieces.is_empty()).then(|| pieces.join("\n"))
    }

    /// The first https address of a text, or the address that a link is; `None` for other kinds.
    pub fn first_link(&self) -> Option<&str> {
        match &self.0.kind {
            Some(Kind::Text(text)) => words::first_address(text),
            Some(Kind::Link(link)) => Some(&link.url),
            _ => None,
        }
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
