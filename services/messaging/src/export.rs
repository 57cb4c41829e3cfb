//! What messaging keeps about a person, as files: what it wrote, and what that said before; how it reacted and voted, what it
//! pinned and hid, how far it has read; its alerts, its reports and its uploads with their bytes. Read page by page, so that an export of any size takes the memory of one page.

use std::collections::BTreeSet;

use chassis::clock::Timestamp;
use chassis::export::{self, Archive, Piece};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use proto::id::{MessageId, UploadId, UserId};
use proto::messaging::v1 as pb;
use tonic::Status;

use crate::departure::Spot;
use crate::error::Error;
use crate::message::Message;
use crate::store::{Alerts, Store};
use crate::uploads::{Upload, Uploads};

/// How many rows are read at once. A message may be large.
const PAGE: i64 = 50;

/// How somebody reacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnReaction {
    /// Where, and with which emoji.
    pub spot: Spot,
    /// To which message.
    pub message_id: MessageId,
    /// When.
    pub create_time: Timestamp,
}

/// How somebody voted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnVote {
    /// Where.
    pub spot: Spot,
    /// In which poll.
    pub message_id: MessageId,
    /// For what: places in the poll's options, in their order.
    pub options: Vec<i32>,
}

/// That somebody pinned a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPin {
    /// Where.
    pub spot: Spot,
    /// Which message.
    pub message_id: MessageId,
    /// When.
    pub pin_time: Timestamp,
}

/// That somebody deleted a message for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnHidden {
    /// Where.
    pub spot: Spot,
    /// Which message.
    pub message_id: MessageId,
}

/// Writes what there is about a person.
#[derive(Clone)]
pub struct Exporter {
    /// Where everything but the bytes is.
    pub store: Store,
    /// Where the bytes are.
    pub uploads: Uploads,
}

impl Exporter {
    /// Everything about a person: first the lists, then the files, each in pieces.
    pub fn export(&self, user: UserId) -> BoxStream<'static, Result<Piece, Status>> {
        let (lists, files) = (self.clone(), self.clone());
        let lists =
            export::stream(|piece| piece, move |archive| async move { lists.write(user, archive).await });
        lists.chain(files.files(user)).boxed()
    }

    async fn write(&self, user: UserId, mut archive: Archive) -> Result<(), Status> {
        self.write_messages(user, &mut archive).await?;
        self.write_revisions(user, &mut archive).await?;
        self.write_reactions(user, &mut archive).await?;
        self.write_votes(user, &mut archive).await?;
        self.write_pins(user, &mut archive).await?;
        self.write_hidden(user, &mut archive).await?;
        self.write_watermarks(user, &mut archive).await?;
        self.write_alerts(user, &mut archive).await?;
        self.write_reports(user, &mut archive).await?;
        self.write_uploads(user, &mut archive).await?;
        archive.finish().await
    }

    async fn write_messages(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/messages.ndjson").await?;
        let mut after = Spot::start();
        loop {
            let page = self.store.own_messages(user, &after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = spot(last);
            // Of what is deleted nothing is left.
            for message in page.into_iter().filter(|message| message.deletion.is_none()) {
                archive.line("parlor.messaging.v1.Message", &pb::Message::from(message)).await?;
            }
        }
    }

    async fn write_revisions(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/revisions.ndjson").await?;
        let mut after = Spot::start();
        loop {
            let page = self.store.own_messages(user, &after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = spot(last);
            let edited = |message: &&Message| message.deletion.is_none() && message.edit_time.is_some();
            for message in page.iter().filter(edited) {
                self.write_revisions_of(message, archive).await?;
            }
        }
    }

    async fn write_revisions_of(&self, message: &Message, archive: &mut Archive) -> Result<(), Status> {
        let (conversation, id, mut version) = (message.conversation, message.message_id, 0);
        loop {
            let page = self.store.revisions(conversation, message.sequence, version, PAGE).await;
            let page = page.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            version = i64::from(last.version);
            for edition in page {
                let line = pb::ExportedRevision {
                    conversation_id: conversation.to_string(),
                    message_id: id.to_string(),
                    revision: Some(edition.into()),
                };
                archive.line("parlor.messaging.v1.ExportedRevision", &line).await?;
            }
        }
    }

    async fn write_reactions(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/reactions.ndjson").await?;
        let mut after = Spot::start();
        loop {
            let page = self.store.own_reactions(user, &after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.spot.clone();
            for reaction in page {
                let line = pb::ExportedReaction {
                    conversation_id: reaction.spot.conversation.to_string(),
                    message_id: reaction.message_id.to_string(),
                    emoji: reaction.spot.key,
                    create_time: Some(reaction.create_time.to_proto()),
                };
                archive.line("parlor.messaging.v1.ExportedReaction", &line).await?;
            }
        }
    }

    async fn write_votes(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/votes.ndjson").await?;
        let mut after = Spot::start();
        loop {
            let page = self.store.own_votes(user, &after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.spot.clone();
            for vote in page {
                let line = pb::ExportedVote {
                    conversation_id: vote.spot.conversation.to_string(),
                    message_id: vote.message_id.to_string(),
                    option_indexes: vote.options,
                };
                archive.line("parlor.messaging.v1.ExportedVote", &line).await?;
            }
        }
    }

    async fn write_pins(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/pins.ndjson").await?;
        let mut after = Spot::start();
        loop {
            let page = self.store.own_pins(user, &after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.spot.clone();
            for pin in page {
                let line = pb::ExportedPin {
                    conversation_id: pin.spot.conversation.to_string(),
                    message_id: pin.message_id.to_string(),
                    pin_time: Some(pin.pin_time.to_proto()),
                };
                archive.line("parlor.messaging.v1.ExportedPin", &line).await?;
            }
        }
    }

    async fn write_hidden(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/hidden.ndjson").await?;
        let mut after = Spot::start();
        loop {
            let page = self.store.own_hidden(user, &after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.spot.clone();
            for hidden in page {
                let line = pb::ExportedHidden {
                    conversation_id: hidden.spot.conversation.to_string(),
                    message_id: hidden.message_id.to_string(),
                };
                archive.line("parlor.messaging.v1.ExportedHidden", &line).await?;
            }
        }
    }

    async fn write_watermarks(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/watermarks.ndjson").await?;
        let mut after = None;
        loop {
            let page = self.store.own_watermarks(user, after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.conversation);
            for watermark in page {
                archive.line("parlor.messaging.v1.Watermark", &pb::Watermark::from(watermark)).await?;
            }
        }
    }

    async fn write_alerts(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/alerts.ndjson").await?;
        let mut wanted =
            Alerts { user, only_unread: false, kinds: BTreeSet::new(), before: None, limit: PAGE };
        loop {
            let page = self.store.alerts(&wanted).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            wanted.before = Some((last.update_time, last.alert_id));
            for alert in page {
                archive.line("parlor.messaging.v1.Alert", &pb::Alert::from(&alert)).await?;
            }
        }
    }

    async fn write_reports(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/reports.ndjson").await?;
        let mut after = None;
        loop {
            let page = self.store.own_reports(user, after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.create_time, last.id));
            for report in page {
                archive.line("parlor.messaging.v1.Report", &report.into_reporters()).await?;
            }
        }
    }

    async fn write_uploads(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("messaging/uploads.ndjson").await?;
        let mut after = None;
        loop {
            let page = self.store.own_uploads(user, after, PAGE).await.map_err(Error::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.upload_id);
            for upload in page {
                archive.line("parlor.messaging.v1.Upload", &pb::Upload::from(upload)).await?;
            }
        }
    }

    /// The bytes of a person's files, one file after the other.
    fn files(self, user: UserId) -> BoxStream<'static, Result<Piece, Status>> {
        let pages =
            stream::try_unfold((self.clone(), None::<UploadId>), move |(exporter, after)| async move {
                let page = exporter.store.own_uploads(user, after, PAGE).await.map_err(Error::from)?;
                let next = page.last().map(|last| last.upload_id);
                Ok::<_, Status>(next.map(|next| {
                    (stream::iter(page.into_iter().map(Ok::<_, Status>)), (exporter, Some(next)))
                }))
            });
        let files = pages.try_flatten().map_ok(move |upload| self.file(upload));
        files.try_flatten().boxed()
    }

    /// The bytes of a file, in pieces. One whose bytes have not come, or have gone a moment ago, has none.
    fn file(&self, upload: Upload) -> BoxStream<'static, Result<Piece, Status>> {
        if upload.bytes.is_none() {
            return stream::empty().boxed();
        }
        let path = path(&upload);
        // A file without bytes is a file, too.
        let first = Piece { path: path.clone(), data: Vec::new() };
        let first = (upload.size == 0).then_some(Ok(first));
        let pieces = self.uploads.content(&upload).filter_map(move |bytes| {
            let piece = match bytes {
                Ok(bytes) => Some(Ok(bytes)),
                Err(Error::UploadNotFound(_)) => None,
                Err(error) => Some(Err(Status::from(error))),
            };
            std::future::ready(piece)
        });
        let pieces = pieces.map_ok(move |bytes| {
            let path = path.clone();
            let cut = bytes.chunks(export::PIECE).map(<[u8]>::to_vec).collect::<Vec<_>>();
            stream::iter(cut.into_iter().map(move |data| Ok(Piece { path: path.clone(), data })))
        });
        stream::iter(first).chain(pieces.try_flatten()).boxed()
    }
}

/// Where a message stands among all that somebody wrote.
fn spot(message: &Message) -> Spot {
    Spot {
        time: message.create_time,
        conversation: message.conversation,
        sequence: message.sequence,
        ..Spot::start()
    }
}

/// Where a file stands in the archive. Its name has been checked for what would lead elsewhere; its id makes it the only one.
fn path(upload: &Upload) -> String {
    let name = if upload.name.is_empty() { "file" } else { upload.name.as_str() };
    format!("messaging/files/{}-{name}", upload.upload_id)
}
