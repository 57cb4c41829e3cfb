//! Which files a message has, and what files may be.

use std::collections::BTreeSet;

use anyhow::Context as _;
use proto::id::{UploadId, UserId};

use crate::content::Content;
use crate::error::Error;
use crate::message::Letter;
use crate::messaging::Messaging;
use crate::revision::{Change, Revision};

impl Content {
    /// The uploaded files that it has, each once.
    pub fn upload_ids(&self) -> BTreeSet<UploadId> {
        // What is no id was refused when the message came.
        self.uploads().filter_map(|id| UploadId::parse(id).ok()).collect()
    }
}

impl Messaging {
    /// Refuses a message with files that are not its sender's, or not there yet.
    pub async fn check_uploads(&self, letter: &Letter) -> Result<(), Error> {
        let Err(refusal) = self.own_uploads(letter.sender, &letter.content.upload_ids()).await else {
            return Ok(());
        };
        // A retry is answered as the first time, also when the message and its files are gone since.
        match self.store.earlier(letter).await? {
            Some(_) => Ok(()),
            None => Err(refusal),
        }
    }

    /// The same for what a message is to say from now on. What it has stays allowed: a copy has the files of others.
    pub async fn check_edited_uploads(&self, revision: &Revision) -> Result<(), Error> {
        let Change::Edit { content, .. } = &revision.change else { return Ok(()) };
        let mut new = content.upload_ids();
        if !new.is_empty()
            && let Some(message) = self.store.message(revision.conversation, revision.message_id).await?
        {
            let has = message.content.as_ref().map(Content::upload_ids).unwrap_or_default();
            new.retain(|id| !has.contains(id));
        }
        self.own_uploads(revision.by, &new).await
    }

    async fn own_uploads(&self, sender: UserId, ids: &BTreeSet<UploadId>) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let found = self.store.uploads(&Vec::from_iter(ids.iter().copied())).await?;
        for id in ids {
            match found.iter().find(|upload| upload.upload_id == *id && upload.user == sender) {
                Some(upload) if upload.bytes.is_some() => {}
                Some(_) => return Err(Error::UploadIncomplete(*id)),
                None => return Err(Error::UploadNotFound(*id)),
            }
        }
        Ok(())
    }
}

/// The longest name, in characters.
const MAX_NAME: usize = 255;

/// Checks the name of a file: nothing in it leads out of a folder or changes how it is shown.
pub fn name(name: String) -> Result<String, &'static str> {
    let misleads = |c: char| {
        c.is_control() || matches!(c, '/' | '\\' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match name.chars().count() {
        0..=MAX_NAME if !name.chars().any(misleads) => Ok(name),
        0..=MAX_NAME => Err("must have no control characters and no slashes"),
        _ => Err("must have at most 255 characters"),
    }
}

/// A media type without parameters, in lower case, such as `image/png`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType(String);

impl MediaType {
    /// Checks a media type; says which rule it breaks otherwise.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_word = |word: &str| {
            let first = word.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
            first && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        match text.split_once('/') {
            Some((kind, subtype)) if is_word(kind) && is_word(subtype) && text.len() <= 127 => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err("must be a media type without parameters, such as image/png"),
        }
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The media types that are taken.
#[derive(Clone, Debug)]
pub struct MediaTypes(Vec<Pattern>);

#[derive(Clone, Debug)]
enum Pattern {
    /// `image/`: whatever begins so.
    Kind(String),
    /// This one.
    Exactly(MediaType),
}

impl MediaTypes {
    /// From media types, and patterns such as `image/*`.
    pub fn parse(patterns: &[String]) -> anyhow::Result<Self> {
        let parse = |text: &String| {
            let refused = || format!("uploads.media_types: `{text}` is no media type");
            let kind = text.strip_suffix('*').filter(|kind| MediaType::parse(&format!("{kind}x")).is_ok());
            match kind {
                Some(kind) => Ok(Pattern::Kind(kind.to_ascii_lowercase())),
                None => MediaType::parse(text).ok().map(Pattern::Exactly).with_context(refused),
            }
        };
        Ok(Self(patterns.iter().map(parse).collect::<anyhow::Result<_>>()?))
    }

    /// Whether this one is taken.
    pub fn allow(&self, asked: &MediaType) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Kind(kind) => asked.0.starts_with(kind),
            Pattern::Exactly(one) => one == asked,
        })
    }
}

#[cfg(test)]
mod tests {
    use chassis::clock::Timestamp;
    use proto::messaging::v1 as pb;
    use proto::messaging::v1::content::Kind;
    use proto::messaging::v1::media::Source;

    use super::*;

    #[test]
    fn media_types_are_matched_by_kind_or_exactly() {
        let patterns = ["image/*", "Application/PDF"].map(str::to_owned);
        let types = MediaTypes::parse(&patterns).unwrap();
        let allows = |text: &str| MediaType::parse(text).is_ok_and(|asked| types.allow(&asked));
        assert!(allows("image/png") && allows("IMAGE/SVG+XML") && allows("application/pdf"));
        assert!(!allows("text/html") && !allows("imagery/png") && !allows("application/pdfx"));
        for wrong in
            ["", "image", "image/", "/png", "image/png; a=b", "image/p ng", "image/png\r\n", "*/x", "a/b/c"]
        {
            assert!(MediaType::parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["*", "*/*", "image/*/*", "image*"] {
            assert!(MediaTypes::parse(&[wrong.to_owned()]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_leads_nowhere() {
        for good in ["", "a.png", "..", "Ärger 😀.txt"] {
            assert!(name(good.to_owned()).is_ok(), "{good:?}");
        }
        for bad in ["a/b", "a\\b", "a\0", "a\r\nb", "gpj.\u{202e}exe", &"a".repeat(256)] {
            assert!(name((*bad).to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_content_names_each_of_its_files_once() {
        let (one, other) = (UploadId::generate(), UploadId::generate());
        let media = |source| Some(pb::Media { source: Some(source) });
        let upload = |id: UploadId| media(Source::UploadId(id.to_string()));
        let attachment =
            |media| pb::Attachment { kind: pb::AttachmentKind::File.into(), media, ..Default::default() };
        let parse = |kind, attachments| {
            Content::parse(Some(pb::Content { kind, attachments }), Timestamp::from_millis(0)).unwrap()
        };
        let url = media(Source::Url("https://a.example".to_owned()));
        let files = vec![
            attachment(upload(one)),
            attachment(upload(other)),
            attachment(upload(one)),
            attachment(url),
        ];
        assert_eq!(parse(None, files).upload_ids(), BTreeSet::from([one, other]));
        let voice = Kind::Voice(pb::VoiceContent { media: upload(one), ..Default::default() });
        assert_eq!(parse(Some(voice), Vec::new()).upload_ids(), BTreeSet::from([one]));
        assert!(Content::text("no files").upload_ids().is_empty());
    }
}
