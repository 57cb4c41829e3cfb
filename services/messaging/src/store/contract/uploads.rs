//! What the store promises about files, on both databases.

use chassis::database::facts::Claim;
use proto::id::ObjectId;
use proto::messaging::v1::{self as pb, media::Source};

use super::*;

promises! {
    a_secret_is_decided_once
    a_file_gets_its_bytes_once
    pending_files_are_counted_while_they_can_be_written
    a_user_stores_and_brings_so_many_bytes
    many_requests_at_once_keep_the_bounds
    a_message_keeps_its_files_until_it_is_gone
    a_file_that_is_not_there_refuses_its_message_only
    an_edit_changes_what_a_message_refers_to
    what_is_gone_refers_to_nothing
    a_retry_is_answered_without_its_files
    what_nobody_finished_is_swept
    a_file_is_referred_to_or_swept_and_never_both
}

/// Long after everything.
fn much_later() -> Timestamp {
    later(1_000_000_000)
}

/// Bounds that nobody reaches.
const WIDE: Bounds = Bounds { pending: 1000, per_day: i64::MAX, stored: i64::MAX };

fn place(user: UserId, create_time: Timestamp) -> Upload {
    Upload {
        upload_id: UploadId::generate(),
        user,
        name: "a.png".to_owned(),
        media_type: "image/png".to_owned(),
        size: 3,
        create_time,
        bytes: None,
    }
}

async fn create(store: &Store, upload: &Upload, bounds: &Bounds) -> Option<Excess> {
    store.create_upload(upload, later(1000), later(-3600), bounds).await.unwrap()
}

async fn pending(store: &Store, user: UserId) -> Upload {
    let upload = place(user, NOW);
    assert_eq!(create(store, &upload, &WIDE).await, None);
    upload
}

async fn begin(store: &Store, upload: &Upload, now: Timestamp, bounds: &Bounds) -> Option<Excess> {
    let object = ObjectId::generate();
    store.begin_object(upload, object, now, later(1000), bounds).await.unwrap()
}

async fn begun(store: &Store, upload: &Upload) -> Bytes {
    let bytes = Bytes { object: ObjectId::generate(), sha256: [7; 32] };
    let begun = store.begin_object(upload, bytes.object, NOW, later(1000), &WIDE).await.unwrap();
    assert_eq!(begun, None);
    bytes
}

async fn complete(store: &Store, user: UserId) -> UploadId {
    let upload = pending(store, user).await;
    let bytes = begun(store, &upload).await;
    assert_eq!(store.complete_upload(upload.upload_id, &bytes).await.unwrap(), Completion::Complete);
    upload.upload_id
}

fn files(ids: &[UploadId]) -> Content {
    let attachment = |id: &UploadId| pb::Attachment {
        media: Some(pb::Media { source: Some(Source::UploadId(id.to_string())) }),
        kind: pb::AttachmentKind::File.into(),
        ..Default::default()
    };
    let kind = Some(pb::content::Kind::Text("see".to_owned()));
    let attachments = ids.iter().map(attachment).collect();
    Content::parse(Some(pb::Content { kind, attachments }), NOW).unwrap()
}

fn with_files(conversation: ConversationId, sender: UserId, ids: &[UploadId]) -> Letter {
    Letter { content: files(ids), ..letter(conversation, sender, "x", None) }
}

async fn post(store: &Store, conversation: ConversationId, sender: UserId, ids: &[UploadId]) -> Message {
    append(store, &[with_files(conversation, sender, ids)]).await.remove(0).unwrap().message
}

async fn change(store: &Store, message: &Message, change: Change) -> Result<Revised, Error> {
    let asked = revision(message, message.sender, change);
    store.revise(&asked, &Access::member(), later(2)).await
}

/// Sweeps once. Says which files are gone.
async fn sweep(store: &Store, now: Timestamp) -> Vec<UploadId> {
    let mut gone = Vec::new();
    for id in store.uploads_to_sweep(now, 100).await.unwrap() {
        if store.sweep_upload(id, now).await.unwrap() {
            gone.push(id);
        }
    }
    gone
}

async fn a_secret_is_decided_once(store: Store) {
    assert_eq!(store.secret("a key", "first").await.unwrap(), "first");
    assert_eq!(store.secret("a key", "second").await.unwrap(), "first");
    assert_eq!(store.secret("another key", "third").await.unwrap(), "third");
}

async fn a_file_gets_its_bytes_once(store: Store) {
    let upload = pending(&store, UserId::generate()).await;
    assert_eq!(
        store.uploads(&[upload.upload_id, UploadId::generate()]).await.unwrap(),
        std::slice::from_ref(&upload)
    );
    let mut work = JoinSet::new();
    for _ in 0..8 {
        let (store, bytes, id) = (store.clone(), begun(&store, &upload).await, upload.upload_id);
        work.spawn(async move { (store.complete_upload(id, &bytes).await.unwrap(), bytes) });
    }
    let outcomes = work.join_all().await;
    let winners: Vec<_> = outcomes
        .iter()
        .filter(|(outcome, _)| *outcome == Completion::Complete)
        .map(|(_, bytes)| *bytes)
        .collect();
    assert_eq!(winners.len(), 1);
    let late = |outcome: &&(Completion, Bytes)| outcome.0 == Completion::AlreadyComplete;
    assert_eq!(outcomes.iter().filter(late).count(), 7);
    let found = store.uploads(&[upload.upload_id]).await.unwrap();
    assert_eq!(found, [Upload { bytes: Some(winners[0]), ..upload }]);
    // The others' objects are rubbish, and the file's own is not.
    let rubbish = store.objects_to_sweep(much_later(), 100).await.unwrap();
    assert!(rubbish.len() == 7 && !rubbish.contains(&winners[0].object));
    store.forget_object(winners[0].object).await.unwrap();
    for object in rubbish {
        store.forget_object(object).await.unwrap();
    }
    assert_eq!(store.objects_to_sweep(much_later(), 100).await.unwrap(), []);
    let nobody = store.complete_upload(UploadId::generate(), &winners[0]).await.unwrap();
    assert_eq!(nobody, Completion::Gone);
}

async fn pending_files_are_counted_while_they_can_be_written(store: Store) {
    let (ann, bob) = (UserId::generate(), UserId::generate());
    pending(&store, ann).await;
    complete(&store, ann).await;
    pending(&store, bob).await;
    let bounds = Bounds { pending: 1, ..WIDE };
    let create = async |writable_from| {
        store.create_upload(&place(ann, NOW), later(1000), writable_from, &bounds).await.unwrap()
    };
    assert_eq!(create(later(-1)).await, Some(Excess::Pending));
    assert_eq!(create(NOW).await, None, "that one can be written no more");
}

async fn a_user_stores_and_brings_so_many_bytes(store: Store) {
    let (ann, bob) = (UserId::generate(), UserId::generate());
    // Each file has three bytes.
    let full = Bounds { stored: 8, ..WIDE };
    let stored = complete(&store, ann).await;
    pending(&store, ann).await;
    assert_eq!(create(&store, &place(ann, NOW), &full).await, Some(Excess::Stored));
    assert_eq!(create(&store, &place(bob, NOW), &full).await, None);
    assert!(store.sweep_upload(stored, much_later()).await.unwrap());
    assert_eq!(create(&store, &place(ann, NOW), &full).await, None, "what was swept counts no more");

    let cem = UserId::generate();
    let daily = Bounds { per_day: 6, ..WIDE };
    let upload = pending(&store, cem).await;
    for _ in 0..2 {
        assert_eq!(begin(&store, &upload, NOW, &daily).await, None);
    }
    // A third attempt, and a new place, are refused, and count nothing.
    for _ in 0..2 {
        assert_eq!(begin(&store, &upload, NOW, &daily).await, Some(Excess::PerDay));
        assert_eq!(create(&store, &place(cem, NOW), &daily).await, Some(Excess::PerDay));
    }
    let tomorrow = NOW.plus(std::time::Duration::from_secs(24 * 3600));
    assert_eq!(begin(&store, &upload, tomorrow, &daily).await, None);
    assert_eq!(create(&store, &place(cem, tomorrow), &daily).await, None);
}

async fn many_requests_at_once_keep_the_bounds(store: Store) {
    let ann = UserId::generate();
    let bounds = Bounds { pending: 3, per_day: 9, stored: i64::MAX };
    let mut work = JoinSet::new();
    for _ in 0..12 {
        let store = store.clone();
        work.spawn(async move {
            let upload = place(ann, NOW);
            match create(&store, &upload, &bounds).await {
                None => Some(upload),
                Some(_) => None,
            }
        });
    }
    let places: Vec<_> = work.join_all().await.into_iter().flatten().collect();
    assert_eq!(places.len(), 3);
    let mut work = JoinSet::new();
    for upload in places.iter().cycle().take(12) {
        let (store, upload) = (store.clone(), upload.clone());
        work.spawn(async move { begin(&store, &upload, NOW, &bounds).await });
    }
    let begun = work.join_all().await;
    assert_eq!(begun.iter().filter(|excess| excess.is_none()).count(), 3);
}

async fn a_message_keeps_its_files_until_it_is_gone(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let [one, other, unused] =
        [complete(&store, ann).await, complete(&store, ann).await, complete(&store, ann).await];
    let message = post(&store, conversation, ann, &[one, other]).await;
    let copy = post(&store, ConversationId::generate(), ann, &[other]).await;
    assert_eq!(store.conversations_with_upload(one).await.unwrap(), [conversation]);
    let both: BTreeSet<_> = store.conversations_with_upload(other).await.unwrap().into_iter().collect();
    assert_eq!(both, BTreeSet::from([conversation, copy.conversation]));
    assert!(store.has_upload(conversation, one).await.unwrap());
    assert!(!store.has_upload(copy.conversation, one).await.unwrap());
    assert_eq!(sweep(&store, NOW).await, []);
    assert_eq!(sweep(&store, much_later()).await, [unused]);

    change(&store, &message, Change::Delete(DeletionReason::Deleted)).await.unwrap();
    assert!(!store.has_upload(conversation, one).await.unwrap());
    assert_eq!(sweep(&store, NOW).await, [one], "the other one is in another message");
    assert!(store.has_upload(copy.conversation, other).await.unwrap());
    assert_eq!(store.uploads(&[one]).await.unwrap(), []);
    assert_eq!(store.objects_to_sweep(NOW, 100).await.unwrap().len(), 2, "their bytes can go");
}

async fn a_file_that_is_not_there_refuses_its_message_only(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let (there, gone) = (complete(&store, ann).await, UploadId::generate());
    let unfinished = pending(&store, ann).await.upload_id;
    let letters = [
        with_files(conversation, ann, &[there]),
        with_files(conversation, ann, &[there, gone]),
        with_files(conversation, ann, &[unfinished]),
        letter(conversation, ann, "without", None),
    ];
    let outcomes = append(&store, &letters).await;
    assert!(outcomes[0].is_ok() && outcomes[3].is_ok());
    assert!(matches!(&outcomes[1], Err(Error::UploadNotFound(id)) if *id == gone));
    assert!(matches!(&outcomes[2], Err(Error::UploadNotFound(id)) if *id == unfinished));
    assert_eq!(log_of(&store, conversation).await.len(), 2);
}

async fn an_edit_changes_what_a_message_refers_to(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let [first, stays, new] =
        [complete(&store, ann).await, complete(&store, ann).await, complete(&store, ann).await];
    let message = post(&store, conversation, ann, &[first, stays]).await;
    let edit = |ids: &[UploadId]| Change::Edit { content: files(ids), expected_version: None };
    change(&store, &message, edit(&[stays, new])).await.unwrap();
    assert!(!store.has_upload(conversation, first).await.unwrap());
    assert!(store.has_upload(conversation, stays).await.unwrap());
    assert!(store.has_upload(conversation, new).await.unwrap());
    let refused = change(&store, &message, edit(&[UploadId::generate()])).await;
    assert!(matches!(refused, Err(Error::UploadNotFound(_))));
    assert_eq!(sweep(&store, much_later()).await, [first]);
    assert!(store.has_upload(conversation, stays).await.unwrap(), "a refused edit changes nothing");
}

async fn what_is_gone_refers_to_nothing(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let (expired, deleted) = (complete(&store, ann).await, complete(&store, ann).await);
    let short = Letter {
        lifetime: Some(std::time::Duration::from_secs(1)),
        ..with_files(conversation, ann, &[expired])
    };
    append_with(&store, &[short], &Access::member(), later(-1000)).await.remove(0).unwrap();
    assert!(!store.has_upload(conversation, expired).await.unwrap());
    assert_eq!(store.conversations_with_upload(expired).await.unwrap(), []);

    post(&store, conversation, ann, &[deleted]).await;
    assert!(store.has_upload(conversation, deleted).await.unwrap());
    store
        .apply(
            &Claim::forward("conversation", 0, 1),
            &[fact(conversation, FactKind::Deleted, &[], &[ann])],
            &[],
        )
        .await
        .unwrap()
        .unwrap();
    assert!(!store.has_upload(conversation, deleted).await.unwrap());
    let gone: BTreeSet<_> = sweep(&store, NOW).await.into_iter().collect();
    assert_eq!(gone, BTreeSet::from([expired, deleted]), "with the conversation");
}

async fn a_retry_is_answered_without_its_files(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let id = complete(&store, ann).await;
    let sent = Letter { content: files(&[id]), ..letter(conversation, ann, "x", Some("key")) };
    let first = append(&store, std::slice::from_ref(&sent)).await.remove(0).unwrap();
    change(&store, &first.message, Change::Delete(DeletionReason::Deleted)).await.unwrap();
    assert_eq!(sweep(&store, NOW).await, [id]);
    let again = append(&store, &[sent]).await.remove(0).unwrap();
    assert!(again.repeated && again.message.message_id == first.message.message_id);
}

async fn what_nobody_finished_is_swept(store: Store) {
    let upload = pending(&store, UserId::generate()).await;
    let bytes = begun(&store, &upload).await;
    assert_eq!(store.objects_to_sweep(NOW, 100).await.unwrap(), []);
    assert_eq!(store.objects_to_sweep(later(1000), 100).await.unwrap(), [bytes.object]);
    // A process that is only slow comes too late.
    assert_eq!(store.complete_upload(upload.upload_id, &bytes).await.unwrap(), Completion::Gone);
    assert_eq!(store.uploads(&[upload.upload_id]).await.unwrap(), [upload]);
    // Until it is forgotten it comes up again: the process that was to remove it may have ended.
    assert_eq!(store.objects_to_sweep(NOW, 100).await.unwrap(), [bytes.object]);
    store.forget_object(bytes.object).await.unwrap();
    assert_eq!(store.objects_to_sweep(NOW, 100).await.unwrap(), []);
}

async fn a_file_is_referred_to_or_swept_and_never_both(store: Store) {
    let ann = UserId::generate();
    let mut work = JoinSet::new();
    for _ in 0..24 {
        let id = complete(&store, ann).await;
        let conversation = ConversationId::generate();
        let (sender, sweeper) = (store.clone(), store.clone());
        work.spawn(async move {
            let letters = [with_files(conversation, ann, &[id])];
            let (sent, swept) = tokio::join!(append(&sender, &letters), async {
                sweeper.sweep_upload(id, much_later()).await.unwrap()
            },);
            (id, conversation, sent.into_iter().next().unwrap(), swept)
        });
    }
    while let Some(done) = work.join_next().await {
        let (id, conversation, sent, swept) = done.unwrap();
        assert_eq!(sent.is_ok(), !swept, "{sent:?}");
        assert_eq!(store.has_upload(conversation, id).await.unwrap(), !swept);
        assert_eq!(store.uploads(&[id]).await.unwrap().is_empty(), swept);
    }
}
