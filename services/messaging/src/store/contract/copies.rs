//! What the store promises about copies: they end when they are told to, and a key brings back the first of them.

use super::*;
use crate::message::Fingerprint;

promises! {
    a_copy_ends_with_its_original_however_late_it_is_written
    a_key_brings_back_its_message_with_what_was_asked_for
}

async fn a_copy_ends_with_its_original_however_late_it_is_written(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let copy = |key, ends: i64| Letter {
        expire_time: Some(later(ends)),
        ..letter(conversation, ann, "soon gone", Some(key))
    };
    let outcomes = append(&store, &[copy("to come", 5), copy("over", 0)]).await;
    let [to_come, over] = outcomes.try_into().unwrap();
    let (to_come, over) = (to_come.unwrap().message, over.unwrap().message);
    assert_eq!((to_come.expire_time, to_come.content.is_some()), (Some(later(5)), true));
    // It was over before it was written: nobody sees what it said, not even in the answer.
    assert_eq!((over.expire_time, over.content.clone()), (Some(later(0)), None));
    assert_eq!(store.message(conversation, over.message_id).await.unwrap(), Some(over));
    assert_eq!(store.message(conversation, to_come.message_id).await.unwrap(), Some(to_come));
}

async fn a_key_brings_back_its_message_with_what_was_asked_for(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let fingerprint = Fingerprint::of_copy(ConversationId::generate(), MessageId::generate());
    let copy = Letter { fingerprint, ..letter(conversation, ann, "hello", Some("k")) };
    let key = ClientMessageId::parse("k".to_owned()).unwrap().unwrap();
    assert_eq!(store.first(conversation, ann, &key).await.unwrap(), None);
    let sent = append(&store, &[copy]).await.remove(0).unwrap().message;
    assert_eq!(store.first(conversation, ann, &key).await.unwrap(), Some((sent, fingerprint)));
    assert_eq!(store.first(ConversationId::generate(), ann, &key).await.unwrap(), None);
    assert_eq!(store.first(conversation, UserId::generate(), &key).await.unwrap(), None);
}
