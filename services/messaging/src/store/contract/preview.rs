//! What the store promises about previews, on both databases.

use proto::messaging::v1 as pb;

use super::*;
use crate::event::MessageChange;
use crate::preview::Found;
use crate::revision::Revision;

promises! {
    a_preview_is_an_event_and_hangs_on_the_message
    a_preview_of_what_has_changed_or_gone_leaves_no_gap
    an_edit_takes_the_preview_of_another_link_away
    a_preview_of_a_deleted_message_reads_as_its_deletion
}

const LINK: &str = "https://a.example/";

fn found(message: &Message) -> Found {
    let preview = pb::LinkPreview {
        url: LINK.to_owned(),
        title: "A page".to_owned(),
        description: "about a".to_owned(),
    };
    let (conversation, message_id) = (message.conversation, message.message_id);
    Found { conversation, message_id, membership_version: 7, preview }
}

async fn revised(store: &Store, message: &Message, change: Change) -> Message {
    let (conversation, message_id) = (message.conversation, message.message_id);
    let (by, mentions) = (message.sender, Vec::new());
    let revision = Revision { conversation, message_id, by, change, mentions, is_signed: false };
    store.revise(&revision, &Access::member(), later(2)).await.unwrap().message
}

fn edit(says: &str) -> Change {
    Change::Edit { content: text(says), expected_version: None }
}

async fn a_preview_is_an_event_and_hangs_on_the_message(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, sender, &format!("see {LINK}")).await;
    let found = found(&message);
    let event = store.preview(&found, later(1)).await.unwrap().unwrap();
    assert_eq!((event.sequence.get(), event.membership_version, event.actor), (2, 7, None));
    assert_eq!(event.occur_time, later(1));
    let Happening::ToMessage { sequence, payload: MessageChange::Previewed(change) } = &event.what else {
        panic!("{event:?}")
    };
    assert_eq!((sequence.get(), change.message_sequence), (1, 1));
    assert_eq!(change.message_id, message.message_id.to_string());
    assert_eq!(change.preview.as_ref(), Some(&found.preview));
    let stored = store.message(conversation, message.message_id).await.unwrap().unwrap();
    assert_eq!(stored.details.preview.as_ref(), Some(&found.preview));
    let unchanged = Message { details: message.details.clone(), ..stored };
    assert_eq!(unchanged, message, "nothing else has changed");
    assert_eq!(log_of(&store, conversation).await[1], event);
    // The same again is nothing new; another word about the same link is.
    assert!(store.preview(&found, later(2)).await.unwrap().is_none());
    let mut other = found;
    other.preview.title = "Another title".to_owned();
    assert!(store.preview(&other, later(3)).await.unwrap().is_some());
    assert_eq!(log_of(&store, conversation).await.len(), 3);
}

async fn a_preview_of_what_has_changed_or_gone_leaves_no_gap(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let edited = send(&store, conversation, sender, LINK).await;
    revised(&store, &edited, edit("https://b.example/")).await;
    let deleted = send(&store, conversation, sender, LINK).await;
    revised(&store, &deleted, Change::Delete(DeletionReason::Deleted)).await;
    let elsewhere = Message { conversation: ConversationId::generate(), ..edited.clone() };
    let nowhere = Message { message_id: MessageId::generate(), ..edited.clone() };
    for message in [edited, deleted, elsewhere, nowhere] {
        assert!(store.preview(&found(&message), later(3)).await.unwrap().is_none());
    }
    assert_eq!(log_of(&store, conversation).await.len(), 4);
}

async fn an_edit_takes_the_preview_of_another_link_away(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, sender, LINK).await;
    store.preview(&found(&message), later(1)).await.unwrap().unwrap();
    let same = revised(&store, &message, edit(&format!("now: {LINK}"))).await;
    assert!(same.details.preview.is_some());
    let other = revised(&store, &message, edit("https://b.example/")).await;
    assert_eq!(other.details.preview, None);
    let stored = store.message(conversation, message.message_id).await.unwrap().unwrap();
    assert_eq!(stored, other);
}

async fn a_preview_of_a_deleted_message_reads_as_its_deletion(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, sender, LINK).await;
    store.preview(&found(&message), later(1)).await.unwrap().unwrap();
    revised(&store, &message, Change::Delete(DeletionReason::Deleted)).await;
    let log = log_of(&store, conversation).await;
    assert!(matches!(log[1].what, Happening::MessageDeleted { .. }), "{:?}", log[1]);
}
