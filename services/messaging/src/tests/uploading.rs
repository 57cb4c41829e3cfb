//! Files, through the door: who may put them, who may fetch them, and when they go.

use proto::messaging::v1::content::Kind;
use proto::messaging::v1::media::Source;
use sha2::{Digest as _, Sha256};
use tokio_stream::{Stream, StreamExt as _};

use super::*;
use crate::UploadsConfig;
use crate::store::Store;
use crate::uploads::Sweeper;
use crate::uploads::depot::{Depot, testing::bucket};

impl World {
    async fn with_uploads(uploads: UploadsConfig) -> Self {
        Self::with(Config { uploads, ..Config::default() }).await
    }

    fn uploads(&self) -> UploadServiceClient<Transport> {
        self.uploads.clone()
    }

    async fn create(
        &self,
        by: UserId,
        name: &str,
        media_type: &str,
        size: i64,
    ) -> Result<pb::CreateUploadResponse, Status> {
        let request =
            pb::CreateUploadRequest { name: name.to_owned(), media_type: media_type.to_owned(), size };
        self.uploads().create_upload(by.says(request)).await.map(tonic::Response::into_inner)
    }

    /// Writes with a ticket and nothing else.
    async fn write(&self, place: &pb::CreateUploadResponse, bytes: &[u8]) -> Result<pb::Upload, Status> {
        let pieces = pieces(place, bytes, 1000);
        self.write_pieces(tokio_stream::iter(pieces)).await
    }

    async fn write_pieces(
        &self,
        pieces: impl Stream<Item = pb::WriteUploadRequest> + Send + 'static,
    ) -> Result<pb::Upload, Status> {
        let mut answers = self.uploads().write_upload(pieces).await?.into_inner();
        Ok(answers.message().await?.unwrap().upload.unwrap())
    }

    /// A file that is there.
    pub(super) async fn uploaded(&self, by: UserId, bytes: &[u8]) -> String {
        let place = self.create(by, "a.png", "image/png", bytes.len() as i64).await.unwrap();
        self.write(&place, bytes).await.unwrap().upload_id
    }

    pub(super) async fn file(&self, by: UserId, id: &str) -> Result<pb::GetUploadResponse, Status> {
        let request = pb::GetUploadRequest { upload_id: id.to_owned() };
        self.uploads().get_upload(by.says(request)).await.map(tonic::Response::into_inner)
    }

    /// Reads with a ticket and nothing else.
    async fn read(&self, ticket: &str, id: &str, offset: i64, length: i64) -> Result<Vec<u8>, Status> {
        let (upload_id, ticket) = (id.to_owned(), ticket.to_owned());
        let request = pb::ReadUploadRequest { upload_id, ticket, offset, length };
        let mut answers = self.uploads().read_upload(request).await?.into_inner();
        let first = answers.message().await?.unwrap();
        assert!(first.upload.is_some() && first.data.is_empty());
        let mut bytes = Vec::new();
        while let Some(answer) = answers.next().await {
            bytes.extend(answer?.data);
        }
        Ok(bytes)
    }

    async fn fetch(&self, by: UserId, id: &str) -> Result<Vec<u8>, Status> {
        let found = self.file(by, id).await?;
        self.read(&found.ticket, id, 0, 0).await
    }

    pub(super) async fn sweep(&self) {
        let store = Store::new(self.database.clone(), self.clock.clone());
        let depot = Depot::open(&self.config.uploads).unwrap();
        Sweeper { store, depot, clock: self.clock.clone() }.sweep().await.unwrap();
    }

    /// How many files there are in the folder.
    pub(super) fn objects(&self) -> usize {
        let folders = std::fs::read_dir(self._folder.path()).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }

    pub(super) async fn sends_file(&self, by: UserId, conversation: ConversationId, id: &str) -> pb::Message {
        self.send(by, showing(conversation, &[id])).await.unwrap().message.unwrap()
    }

    async fn withdraws(&self, by: UserId, message: &pb::Message) {
        let request = pb::DeleteMessageRequest {
            conversation_id: message.conversation_id.clone(),
            message_id: message.message_id.clone(),
        };
        self.messaging().delete_message(by.says(request)).await.unwrap();
    }
}

fn pieces(place: &pb::CreateUploadResponse, bytes: &[u8], size: usize) -> Vec<pb::WriteUploadRequest> {
    let first = pb::WriteUploadRequest {
        upload_id: place.upload.as_ref().unwrap().upload_id.clone(),
        ticket: place.ticket.clone(),
        data: vec![],
    };
    let rest =
        bytes.chunks(size).map(|piece| pb::WriteUploadRequest { data: piece.to_vec(), ..Default::default() });
    std::iter::once(first).chain(rest).collect()
}

fn media(id: &str) -> Option<pb::Media> {
    Some(pb::Media { source: Some(Source::UploadId(id.to_owned())) })
}

fn showing(conversation: ConversationId, ids: &[&str]) -> pb::SendMessageRequest {
    let attachment = |id: &&str| pb::Attachment {
        kind: pb::AttachmentKind::Image.into(),
        media: media(id),
        ..Default::default()
    };
    let kind = Some(Kind::Text("see".to_owned()));
    let content = pb::Content { kind, attachments: ids.iter().map(attachment).collect() };
    pb::SendMessageRequest { content: Some(content), ..to(conversation, "") }
}

/// A picture, near enough.
const PICTURE: &[u8] = b"\x89PNG and what follows";

#[tokio::test]
async fn bytes_come_and_go_with_tickets() {
    let world = World::start().await;
    let [ann] = world.people();
    let place = world.create(ann, "a.png", "Image/PNG", PICTURE.len() as i64).await.unwrap();
    let upload = place.upload.clone().unwrap();
    assert_eq!((upload.name.as_str(), upload.media_type.as_str()), ("a.png", "image/png"));
    assert!(!upload.complete && upload.sha256.is_empty() && upload.user_id == ann.to_string());
    let id = upload.upload_id;
    assert_eq!(place.upload_url, format!("/v1/uploads/{id}/content?ticket={}", place.ticket));
    let unfinished = world.file(ann, &id).await.unwrap();
    assert!(unfinished.download_url.is_empty() && unfinished.ticket.is_empty());

    let written = world.write(&place, PICTURE).await.unwrap();
    assert!(written.complete && written.sha256[..] == Sha256::digest(PICTURE)[..]);
    let found = world.file(ann, &id).await.unwrap();
    assert_eq!(found.upload.unwrap(), written);
    assert_eq!(found.download_url, format!("/v1/uploads/{id}/content?ticket={}", found.ticket));
    assert_eq!(world.read(&found.ticket, &id, 0, 0).await.unwrap(), PICTURE);
    assert_eq!(world.read(&found.ticket, &id, 1, 3).await.unwrap(), b"PNG");
    assert_eq!(world.read(&found.ticket, &id, 1, 0).await.unwrap(), &PICTURE[1..]);
    assert_eq!(world.read(&found.ticket, &id, 15, i64::MAX).await.unwrap(), &PICTURE[15..]);
    assert_eq!(world.read(&found.ticket, &id, i64::MAX, 1).await.unwrap(), b"");
}

#[tokio::test]
async fn a_ticket_is_for_one_thing_and_for_a_while() {
    let world = World::start().await;
    let [ann] = world.people();
    let place = world.create(ann, "", "image/png", 3).await.unwrap();
    let other = world.create(ann, "", "image/png", 3).await.unwrap();
    let invalid = refused(Code::PermissionDenied, "TICKET_INVALID");
    let with = |ticket: &str| pb::CreateUploadResponse { ticket: ticket.to_owned(), ..place.clone() };
    for wrong in ["", "nonsense", other.ticket.as_str()] {
        assert_eq!(refusal(world.write(&with(wrong), b"abc").await), invalid);
    }
    let id = world.write(&place, b"abc").await.unwrap().upload_id;
    let reading = world.file(ann, &id).await.unwrap().ticket;
    assert_eq!(refusal(world.read(&place.ticket, &id, 0, 0).await), invalid, "that one is for writing");
    assert_eq!(refusal(world.write(&with(&reading), b"abc").await), invalid, "that one is for reading");
    assert_eq!(refusal(world.write(&place, b"abc").await), refused(Code::AlreadyExists, "UPLOAD_COMPLETE"));
    world.clock.advance(Duration::from_secs(299));
    assert!(world.read(&reading, &id, 0, 0).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(refusal(world.read(&reading, &id, 0, 0).await), invalid, "five minutes are over");
    world.clock.advance(Duration::from_secs(3300));
    assert_eq!(refusal(world.write(&other, b"abc").await), invalid, "the hour is over");
}

#[tokio::test]
async fn all_bytes_have_to_come_and_no_more() {
    let world = World::start().await;
    let [ann] = world.people();
    let place = world.create(ann, "", "image/png", 10).await.unwrap();
    let incomplete = refused(Code::FailedPrecondition, "UPLOAD_INCOMPLETE");
    for wrong in [&b"123456789"[..], b"12345678901", b""] {
        assert_eq!(refusal(world.write(&place, wrong).await), incomplete, "{wrong:?}");
        assert_eq!(world.objects(), 0, "nothing of it is left");
    }
    // It can be tried again, in pieces of any size.
    let again = world.write_pieces(tokio_stream::iter(pieces(&place, b"1234567890", 3))).await;
    assert!(again.unwrap().complete);
    assert_eq!(world.objects(), 1);
}

#[tokio::test]
async fn bytes_may_be_slow_but_not_silent() {
    let max_silence = Duration::from_secs(1);
    // Each byte earns a second.
    let uploads = UploadsConfig { max_silence, min_bytes_per_second: 1, ..UploadsConfig::default() };
    let world = World::with_uploads(uploads).await;
    let [ann] = world.people();
    let place = world.create(ann, "", "image/png", 5).await.unwrap();
    let slowly = |wait: Duration| {
        let all = tokio_stream::iter(pieces(&place, b"12345", 1));
        all.then(move |piece| async move {
            tokio::time::sleep(wait).await;
            piece
        })
    };
    let silent = world.write_pieces(slowly(max_silence * 3)).await;
    assert_eq!(refusal(silent), refused(Code::DeadlineExceeded, "UPLOAD_TOO_SLOW"));
    assert_eq!(world.objects(), 0);
    assert!(world.write_pieces(slowly(max_silence / 4)).await.unwrap().complete, "all in all it took longer");
}

#[tokio::test]
async fn of_many_writers_one_is_heard() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let place = world.create(ann, "", "image/png", 4000).await.unwrap();
    let [ones, twos] = [vec![1; 4000], vec![2; 4000]];
    let (first, second) = tokio::join!(world.write(&place, &ones), world.write(&place, &twos));
    let winner = match (&first, &second) {
        (Ok(_), Err(late)) | (Err(late), Ok(_)) => {
            let outcomes = [
                refused(Code::AlreadyExists, "UPLOAD_COMPLETE"),
                refused(Code::Aborted, "UPLOAD_IN_PROGRESS"),
            ];
            assert!(outcomes.contains(&refusal::<()>(Err(late.clone()))), "{late}");
            first.or(second).unwrap()
        }
        other => panic!("{other:?}"),
    };
    let bytes = world.fetch(ann, &winner.upload_id).await.unwrap();
    assert!(bytes == ones || bytes == twos);
    assert_eq!(winner.sha256[..], Sha256::digest(&bytes)[..]);
    assert_eq!(world.objects(), 1);
    assert_eq!(
        refusal(world.file(bob, &winner.upload_id).await),
        refused(Code::NotFound, "UPLOAD_NOT_FOUND")
    );
}

#[tokio::test]
async fn what_may_be_uploaded_has_bounds() {
    let world = World::with_uploads(UploadsConfig { max_bytes: 100, ..UploadsConfig::default() }).await;
    let [ann, bob] = world.people();
    let invalid = |field: &str, outcome: Result<pb::CreateUploadResponse, Status>| {
        let fault = Fault::of(&outcome.unwrap_err());
        assert_eq!(fault.code(), Code::InvalidArgument);
        assert_eq!(fault.fields()[0].0, field, "{fault:?}");
    };
    invalid("size", world.create(ann, "", "image/png", 101).await);
    invalid("size", world.create(ann, "", "image/png", 0).await);
    invalid("size", world.create(ann, "", "image/png", -1).await);
    for media_type in ["text/html", "image", "image/png; x=y", "application/x-msdownload", ""] {
        invalid("media_type", world.create(ann, "", media_type, 1).await);
    }
    for name in ["../x", "a\0", "a\nb", &"a".repeat(256)] {
        invalid("name", world.create(ann, name, "image/png", 1).await);
    }
    for _ in 0..20 {
        world.create(ann, "", "image/png", 100).await.unwrap();
    }
    let fault = Fault::of(&world.create(ann, "", "image/png", 1).await.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_TOO_MANY_UPLOADS"));
    assert_eq!(fault.metadata().get("rule").map(String::as_str), Some("uploads.max_pending"));
    assert!(fault.wait().is_some());
    assert!(world.create(bob, "", "image/png", 1).await.is_ok());
    world.clock.advance(Duration::from_secs(3600));
    assert!(
        world.create(ann, "", "image/png", 1).await.is_ok(),
        "what cannot be written any more is not counted"
    );
}

#[tokio::test]
async fn bytes_that_drip_are_refused_and_cost_their_sender_only() {
    let max_silence = Duration::from_secs(1);
    let uploads = UploadsConfig { max_silence, min_bytes_per_second: 1000, ..UploadsConfig::default() };
    let world = World::with_uploads(uploads).await;
    let [ann] = world.people();
    let place = world.create(ann, "", "image/png", 100).await.unwrap();
    // Never silent for as long as a second, and never a hundred bytes in all.
    let drops = tokio_stream::iter(pieces(&place, &[1; 100], 1)).then(move |piece| async move {
        tokio::time::sleep(max_silence / 10).await;
        piece
    });
    let fault = Fault::of(&world.write_pieces(drops).await.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::DeadlineExceeded, "ERROR_REASON_UPLOAD_TOO_SLOW"));
    assert_eq!(fault.metadata().get("least").map(String::as_str), Some("1000"));
    assert!(world.write(&place, &[1; 100]).await.unwrap().complete, "it can be tried again");
}

/// A writer that brings the ticket and waits, until it is stopped. It begins anew when another one was there before it.
fn begins(
    world: &World,
    place: &pb::CreateUploadResponse,
    writers: &mut tokio::task::JoinSet<()>,
) -> tokio::task::AbortHandle {
    let (uploads, first) = (world.uploads(), pieces(place, b"", 1).remove(0));
    writers.spawn(async move {
        loop {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.try_send(first.clone()).unwrap();
            let pieces = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let refused = uploads.clone().write_upload(pieces).await.unwrap().into_inner().message().await;
            assert_eq!(refusal(refused), self::refused(Code::Aborted, "UPLOAD_IN_PROGRESS"));
            drop(sender);
        }
    })
}

#[tokio::test]
async fn a_ticket_has_one_writer_and_a_user_three() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let mut places = Vec::new();
    for _ in 0..4 {
        places.push(world.create(ann, "", "image/png", 2).await.unwrap());
    }
    // Too few bytes: what gets in changes nothing.
    let tries = async |place: &pb::CreateUploadResponse| refusal(world.write(place, b"1").await);
    let (mut tasks, mut writers) = (tokio::task::JoinSet::new(), Vec::new());
    for place in &places[..3] {
        writers.push(begins(&world, place, &mut tasks));
        eventually(async || tries(place).await == refused(Code::Aborted, "UPLOAD_IN_PROGRESS")).await;
    }
    let fault = Fault::of(&world.write(&places[3], b"12").await.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_TOO_MANY_UPLOADS"));
    assert_eq!(fault.metadata().get("rule").map(String::as_str), Some("uploads.max_writers_per_user"));
    assert!(fault.wait().is_some());
    world.uploaded(bob, PICTURE).await;
    // An ended stream leaves a place.
    writers.remove(2).abort();
    let incomplete = refused(Code::FailedPrecondition, "UPLOAD_INCOMPLETE");
    eventually(async || tries(&places[2]).await == incomplete).await;
    assert!(world.write(&places[3], b"12").await.unwrap().complete);
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_user_brings_and_stores_so_many_bytes_and_a_guest_fewer() {
    let uploads = UploadsConfig {
        max_bytes_per_day: 8,
        max_bytes_per_day_of_guests: 4,
        max_stored_bytes: 12,
        max_stored_bytes_of_guests: 6,
        ..UploadsConfig::default()
    };
    let world = World::with_uploads(uploads).await;
    let [ann, guest] = world.people();
    world.others.make_guest(guest);
    let quota = refused(Code::ResourceExhausted, "UPLOAD_QUOTA");
    let create = async |user, size| world.create(user, "", "image/png", size).await;
    for (user, daily) in [(ann, 8_usize), (guest, 4)] {
        world.uploaded(user, &vec![1; daily / 2]).await;
        assert_eq!(refusal(create(user, daily as i64).await), quota);
        // Of two places that are there, one gets its bytes: an attempt counts.
        let [first, second] = [create(user, daily as i64 / 2).await, create(user, daily as i64 / 2).await];
        let (first, second) = (first.unwrap(), second.unwrap());
        world.write(&first, &vec![1; daily / 2]).await.unwrap();
        assert_eq!(refusal(world.write(&second, &vec![1; daily / 2]).await), quota);
        let fault = Fault::of(&create(user, 1).await.unwrap_err());
        assert_eq!(fault.metadata().get("most"), Some(&daily.to_string()));
        assert!(fault.wait().is_some_and(|wait| wait <= Duration::from_secs(24 * 3600)));
    }
    world.clock.advance(Duration::from_secs(24 * 3600));
    for (user, left) in [(ann, 4), (guest, 2)] {
        let full = refused(Code::FailedPrecondition, "STORAGE_FULL");
        assert_eq!(refusal(create(user, left + 1).await), full);
        assert!(create(user, left).await.is_ok());
    }
}

#[tokio::test]
async fn only_members_of_a_conversation_with_the_file_fetch_it() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let other = world.group(&[ann, eve]);
    let id = world.uploaded(ann, PICTURE).await;
    let not_found = refused(Code::NotFound, "UPLOAD_NOT_FOUND");
    assert_eq!(refusal(world.file(bob, &id).await), not_found, "it is in no message yet");
    let message = world.sends_file(ann, group, &id).await;
    assert_eq!(world.fetch(bob, &id).await.unwrap(), PICTURE);
    assert_eq!(refusal(world.file(eve, &id).await), not_found);
    assert_eq!(world.fetch(ann, &id).await.unwrap(), PICTURE);

    let copy = world.sends_file(ann, other, &id).await;
    assert_eq!(world.fetch(eve, &id).await.unwrap(), PICTURE);
    world.others.remove(other, eve);
    assert_eq!(refusal(world.file(eve, &id).await), not_found, "who has left does not read");

    let ticket = world.file(bob, &id).await.unwrap().ticket;
    world.withdraws(ann, &message).await;
    assert_eq!(refusal(world.file(bob, &id).await), not_found);
    assert_eq!(refusal(world.read(&ticket, &id, 0, 0).await), not_found, "the ticket was for that message");
    assert_eq!(world.fetch(ann, &id).await.unwrap(), PICTURE);
    world.sweep().await;
    assert_eq!(world.objects(), 1, "the copy needs it");
    world.withdraws(ann, &copy).await;
    world.sweep().await;
    assert_eq!(world.objects(), 0);
    assert_eq!(refusal(world.file(ann, &id).await), not_found);
}

#[tokio::test]
async fn a_ticket_allows_nothing_that_its_holder_may_not_do_any_more() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let (group, other) = (world.group(&[ann, bob, eve]), world.group(&[ann, bob]));
    let id = world.uploaded(ann, PICTURE).await;
    let brief = pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..showing(group, &[&id])
    };
    world.send(ann, brief).await.unwrap();
    let ticket = async |user| world.file(user, &id).await.unwrap().ticket;
    let (of_bob, of_eve, own) = (ticket(bob).await, ticket(eve).await, ticket(ann).await);
    let read = async |ticket: &str| world.read(ticket, &id, 0, 0).await;
    for ticket in [&of_bob, &of_eve, &own] {
        assert_eq!(read(ticket).await.unwrap(), PICTURE);
    }
    let not_found = refused(Code::NotFound, "UPLOAD_NOT_FOUND");
    let invalid = refused(Code::PermissionDenied, "TICKET_INVALID");
    // Whoever has left, or was put out, reads no more; the others do.
    world.others.remove(group, bob);
    assert_eq!(refusal(read(&of_bob).await), not_found);
    assert_eq!(read(&of_eve).await.unwrap(), PICTURE);
    // Where the file is for another reason, there is another ticket.
    world.sends_file(ann, other, &id).await;
    assert_eq!(refusal(read(&of_bob).await), not_found);
    assert_eq!(read(&ticket(bob).await).await.unwrap(), PICTURE);
    // A message that expires takes the right along.
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refusal(read(&of_eve).await), not_found);
    assert_eq!(read(&own).await.unwrap(), PICTURE);
    // A session that ends takes its tickets along, those to write too.
    let place = world.create(ann, "", "image/png", 3).await.unwrap();
    world.others.sign_out(ann);
    assert_eq!(refusal(read(&own).await), invalid);
    assert_eq!(refusal(world.write(&place, b"abc").await), invalid);
    world.others.set_auth_down(true);
    assert_eq!(read(&own).await.unwrap_err().code(), Code::Unavailable, "nobody can say whether it lives");
}

#[tokio::test]
async fn one_sends_one_s_own_files_when_they_are_there() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let own = world.uploaded(ann, PICTURE).await;
    let foreign = world.uploaded(bob, PICTURE).await;
    let unfinished = world.create(ann, "", "image/png", 3).await.unwrap().upload.unwrap().upload_id;
    let not_found = refused(Code::NotFound, "UPLOAD_NOT_FOUND");
    let incomplete = refused(Code::FailedPrecondition, "UPLOAD_INCOMPLETE");
    assert_eq!(refusal(world.send(ann, showing(group, &[&own, &foreign])).await), not_found);
    assert_eq!(refusal(world.send(ann, showing(group, &[&group.to_string()])).await), not_found);
    assert_eq!(refusal(world.send(ann, showing(group, &[&own, &unfinished])).await), incomplete);
    assert_eq!(refusal(world.send(ann, checked(showing(group, &[&foreign]))).await), not_found);
    assert!(world.send(ann, checked(showing(group, &[&own]))).await.is_ok());
    let voice = Kind::Voice(pb::VoiceContent { media: media(&foreign), ..Default::default() });
    let voice = pb::Content { kind: Some(voice), ..Default::default() };
    let request = pb::SendMessageRequest { content: Some(voice), ..to(group, "") };
    assert_eq!(refusal(world.send(ann, request).await), not_found);

    // By an edit no more than by a message.
    let message = world.sends_file(ann, group, &own).await;
    let edit = |content| pb::EditMessageRequest {
        conversation_id: group.to_string(),
        message_id: message.message_id.clone(),
        content,
        ..Default::default()
    };
    let refused_edit =
        world.messaging().edit_message(ann.says(edit(showing(group, &[&foreign]).content))).await;
    assert_eq!(refusal(refused_edit), not_found);
    let new = world.uploaded(ann, b"another").await;
    world.messaging().edit_message(ann.says(edit(showing(group, &[&new]).content))).await.unwrap();
    assert_eq!(world.fetch(bob, &new).await.unwrap(), b"another");
    assert_eq!(refusal(world.file(bob, &own).await), not_found, "it is in the message no more");
}

#[tokio::test]
async fn a_copy_keeps_the_file_for_those_who_get_it() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let (group, other) = (world.group(&[ann, bob]), world.group(&[bob, eve]));
    let id = world.uploaded(ann, PICTURE).await;
    let message = world.sends_file(ann, group, &id).await;
    let request = pb::ForwardMessageRequest {
        conversation_id: group.to_string(),
        message_id: message.message_id.clone(),
        target_conversation_id: other.to_string(),
        ..Default::default()
    };
    world.messaging().forward_message(bob.says(request)).await.unwrap();
    world.withdraws(ann, &message).await;
    world.sweep().await;
    assert_eq!(world.fetch(eve, &id).await.unwrap(), PICTURE);
    assert_eq!(world.fetch(bob, &id).await.unwrap(), PICTURE);
}

#[tokio::test]
async fn an_expired_message_takes_its_file_along_at_that_instant() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let id = world.uploaded(ann, PICTURE).await;
    let expire_after = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    world.send(ann, pb::SendMessageRequest { expire_after, ..showing(group, &[&id]) }).await.unwrap();
    let ticket = world.file(bob, &id).await.unwrap().ticket;
    world.clock.advance(Duration::from_secs(60));
    let not_found = refused(Code::NotFound, "UPLOAD_NOT_FOUND");
    assert_eq!(refusal(world.file(bob, &id).await), not_found);
    assert_eq!(refusal(world.read(&ticket, &id, 0, 0).await), not_found);
}

#[tokio::test]
async fn what_nobody_sends_goes_after_a_day() {
    let world = World::start().await;
    let [ann] = world.people();
    let id = world.uploaded(ann, PICTURE).await;
    let pending = world.create(ann, "", "image/png", 3).await.unwrap().upload.unwrap().upload_id;
    world.clock.advance(Duration::from_secs(24 * 3600 - 1));
    world.sweep().await;
    assert!(world.file(ann, &id).await.is_ok() && world.file(ann, &pending).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    world.sweep().await;
    for id in [id, pending] {
        assert_eq!(refusal(world.file(ann, &id).await), refused(Code::NotFound, "UPLOAD_NOT_FOUND"));
    }
    assert_eq!(world.objects(), 0);
}

#[tokio::test]
async fn replicas_take_each_other_s_tickets() {
    let first = World::start().await;
    let set_up = (first.config.clone(), first.database.clone(), first.others.clone(), first.clock.clone());
    let second = World::set_up(set_up.0, set_up.1, None, set_up.2, set_up.3).await;
    let [ann] = first.people();
    let place = first.create(ann, "", "image/png", PICTURE.len() as i64).await.unwrap();
    let id = second.write(&place, PICTURE).await.unwrap().upload_id;
    let ticket = second.file(ann, &id).await.unwrap().ticket;
    assert_eq!(first.read(&ticket, &id, 0, 0).await.unwrap(), PICTURE);
}

#[tokio::test]
async fn a_bucket_does_as_a_folder_does() {
    let Some(uploads) = bucket().await else { return };
    let base_url = Some("https://chat.example/".to_owned());
    let world = World::with_uploads(UploadsConfig { base_url, ..uploads }).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    // More than one part.
    let film: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 7) as u8).collect();
    let place = world.create(ann, "a.mp4", "video/mp4", film.len() as i64).await.unwrap();
    assert!(place.upload_url.starts_with("https://chat.example/v1/uploads/"));
    let less = refusal(world.write_pieces(tokio_stream::iter(pieces(&place, &film[1..], 200_000))).await);
    assert_eq!(less, refused(Code::FailedPrecondition, "UPLOAD_INCOMPLETE"));
    let written = world.write_pieces(tokio_stream::iter(pieces(&place, &film, 200_000))).await.unwrap();
    assert_eq!(written.sha256[..], Sha256::digest(&film)[..]);
    let message = world.sends_file(ann, group, &written.upload_id).await;
    assert!(world.fetch(bob, &written.upload_id).await.unwrap() == film);
    let ticket = world.file(ann, &written.upload_id).await.unwrap().ticket;
    let part = world.read(&ticket, &written.upload_id, 9_999_999, 1000).await.unwrap();
    assert!(part == film[9_999_999..10_000_999]);
    world.withdraws(ann, &message).await;
    world.sweep().await;
    assert_eq!(
        refusal(world.file(ann, &written.upload_id).await),
        refused(Code::NotFound, "UPLOAD_NOT_FOUND")
    );
}
