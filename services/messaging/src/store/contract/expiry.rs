//! What the store promises about messages whose time is over.

use std::collections::HashMap;
use std::time::Duration;

use chassis::database::facts::Claim;

use super::ends::{DELETE, OWNER, Scene, UNSEND, postgres, sqlite};
use super::*;
use crate::message::Deletion;

impl Scene {
    /// Sends something that lives for so long.
    async fn brief(&self, conversation: ConversationId, sender: UserId, key: &str, secs: u64) -> Message {
        let letter = brief(conversation, sender, key, secs);
        append_with(&self.store, &[letter], &Access::member(), self.clock.now())
            .await
            .remove(0)
            .unwrap()
            .message
    }

    async fn sweep(&self) -> Vec<Event> {
        let now = self.clock.now();
        let overdue = self.store.overdue(now, 256).await.unwrap();
        self.store.sweep(&overdue, &HashMap::new(), now).await.unwrap().events
    }
}

promises! {
    what_has_expired_is_gone_at_once_in_every_way
    nothing_is_done_to_what_has_expired
    the_sweeper_erases_and_says_so_once
    the_sweeper_comes_through_a_long_list
    sweepers_at_once_do_each_thing_once
    the_sweeper_leaves_alone_what_went_otherwise
    the_next_expiry_is_known
}

fn brief(conversation: ConversationId, sender: UserId, key: &str, secs: u64) -> Letter {
    Letter { lifetime: Some(Duration::from_secs(secs)), ..letter(conversation, sender, "secret", Some(key)) }
}

async fn what_has_expired_is_gone_at_once_in_every_way(scene: Scene) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let store = &scene.store;
    let message = scene.brief(conversation, bob, "k", 2).await;
    assert_eq!(message.expire_time, Some(later(2000)));
    store.revise(&revision(&message, bob, edit("secret too")), &Access::member(), NOW).await.unwrap();
    scene.clock.advance(Duration::from_millis(1999));
    let seen = scene.seen(ann, &message).await;
    assert!(seen.iter().all(|one| one.content == Some(text("secret too"))), "{seen:?}");
    assert_eq!(scene.unread(ann, conversation).await, 1);

    scene.clock.advance(Duration::from_millis(1));
    let tombstone = |one: &Message| {
        one.content.is_none()
            && one.deletion == Some(Deletion { time: later(2000), by: None, reason: DeletionReason::Expired })
    };
    let before = scene.seen(ann, &message).await;
    assert!(before.len() >= 9 && before.iter().all(tombstone), "{before:?}");
    assert_eq!(scene.unread(ann, conversation).await, 0);
    let letter = brief(conversation, bob, "k", 2);
    let retry = async || {
        let appended =
            append_with(store, std::slice::from_ref(&letter), &Access::member(), scene.clock.now())
                .await
                .remove(0);
        [appended, store.earlier(&letter).await.unwrap().unwrap()]
    };
    for again in retry().await.map(Result::unwrap) {
        assert!(again.repeated && tombstone(&again.message));
    }
    // To the reader nothing changes when it is erased.
    assert_eq!(scene.sweep().await.len(), 1);
    assert_eq!(scene.seen(ann, &message).await, before);
    for again in retry().await.map(Result::unwrap) {
        assert!(again.repeated && tombstone(&again.message));
    }
    assert_eq!(scene.unread(ann, conversation).await, 0);
    // One can still answer it, as one can answer any tombstone.
    let reply = Letter { reply_to: Some(message.message_id), ..super::letter(conversation, ann, "re", None) };
    assert!(append(store, &[reply]).await.remove(0).is_ok());
}

async fn nothing_is_done_to_what_has_expired(scene: Scene) {
    let (conversation, bob) = (ConversationId::generate(), UserId::generate());
    let message = scene.brief(conversation, bob, "k", 1).await;
    scene.clock.advance(Duration::from_secs(1));
    let now = scene.clock.now();
    let late = scene.store.revise(&revision(&message, bob, edit("x")), &Access::member(), now).await;
    assert!(matches!(late, Err(Error::MessageDeleted(_))));
    for change in [DELETE, UNSEND] {
        let gone =
            scene.store.revise(&revision(&message, bob, change), &Access::member(), now).await.unwrap();
        assert!(gone.event.is_none());
        assert_eq!(gone.message.deletion.map(|deletion| deletion.reason), Some(DeletionReason::Expired));
    }
    assert_eq!(log_of(&scene.store, conversation).await.len(), 1);
}

async fn the_sweeper_erases_and_says_so_once(scene: Scene) {
    let (conversation, bob) = (ConversationId::generate(), UserId::generate());
    let store = &scene.store;
    let message = scene.brief(conversation, bob, "k", 1).await;
    let laden = scene.laden(conversation, bob).await;
    let soon =
        "UPDATE messages SET expire_time = create_time + 1500 WHERE conversation_id = $1 AND sequence = $2";
    scene.execute(soon, conversation, laden.sequence).await;
    let lasting = scene.brief(conversation, bob, "l", 60).await;
    assert!(scene.sweep().await.is_empty());
    scene.clock.advance(Duration::from_secs(3));
    let now = scene.clock.now();
    let overdue = store.overdue(now, 10).await.unwrap();
    assert_eq!(
        overdue.iter().map(|one| one.sequence).collect::<Vec<_>>(),
        [message.sequence, laden.sequence]
    );
    assert_eq!(store.overdue(now, 1).await.unwrap().len(), 1);

    let versions = HashMap::from([(conversation, 9)]);
    let events = store.sweep(&overdue, &versions, now).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.sequence.get()).collect::<Vec<_>>(), [5, 6]);
    for (event, gone) in events.iter().zip([&message, &laden]) {
        let what = Happening::MessageDeleted {
            message_id: gone.message_id,
            sequence: gone.sequence,
            reason: DeletionReason::Expired,
        };
        assert_eq!((event.what.clone(), event.actor, event.membership_version), (what, None, 9));
        assert_eq!(event.occur_time, now);
    }
    assert_eq!(log_of(store, conversation).await[4..], events);
    assert_eq!((scene.contents().await, scene.load().await), (1, [0; 5]));
    let kept = store.message(conversation, lasting.message_id).await.unwrap().unwrap();
    assert_eq!(kept, lasting);
    // A sweeper that has looked before finds nothing more to do.
    assert!(store.sweep(&overdue, &versions, now).await.unwrap().events.is_empty());
    assert!(scene.sweep().await.is_empty());
    assert_eq!(log_of(store, conversation).await.len(), 6);
}

async fn the_sweeper_comes_through_a_long_list(scene: Scene) {
    let bob = UserId::generate();
    let conversations: Vec<_> = (0..7).map(|_| ConversationId::generate()).collect();
    let letters: Vec<_> = (0..600).map(|n| brief(conversations[n % 7], bob, &n.to_string(), 1)).collect();
    append(&scene.store, &letters).await.into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    scene.clock.advance(Duration::from_secs(1));
    let overdue = scene.store.overdue(scene.clock.now(), 1000).await.unwrap();
    let events = scene.store.sweep(&overdue, &HashMap::new(), scene.clock.now()).await.unwrap().events;
    assert_eq!((events.len(), scene.contents().await), (600, 0));
    let mut total = 0;
    for conversation in conversations {
        total += log_of(&scene.store, conversation).await.len();
    }
    assert_eq!(total, 1200);
}

async fn sweepers_at_once_do_each_thing_once(scene: Scene) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let conversations: Vec<_> = (0..5).map(|_| ConversationId::generate()).collect();
    let letters: Vec<_> = (0..100).map(|n| brief(conversations[n % 5], bob, &n.to_string(), 1)).collect();
    append(&scene.store, &letters).await.into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    scene.clock.advance(Duration::from_secs(1));
    let now = scene.clock.now();
    let mut work = JoinSet::new();
    for _ in 0..6 {
        let store = scene.store.clone();
        work.spawn(async move {
            let mut events = Vec::new();
            loop {
                let overdue = store.overdue(now, 16).await.unwrap();
                if overdue.is_empty() {
                    return events;
                }
                events.extend(store.sweep(&overdue, &HashMap::new(), now).await.unwrap().events);
            }
        });
    }
    // People write on meanwhile.
    for n in 0..20 {
        send(&scene.store, conversations[n % 5], ann, "x").await;
    }
    let mut told = BTreeSet::new();
    let mut count = 0;
    while let Some(done) = work.join_next().await {
        for event in done.unwrap() {
            let Happening::MessageDeleted { message_id, .. } = event.what else { panic!("{event:?}") };
            told.insert(message_id);
            count += 1;
        }
    }
    assert_eq!((told.len(), count, scene.contents().await), (100, 100, 20));
    for conversation in conversations {
        assert_eq!(log_of(&scene.store, conversation).await.len(), 44);
    }
}

async fn the_sweeper_leaves_alone_what_went_otherwise(scene: Scene) {
    let [here, emptied, gone] = [(); 3].map(|()| ConversationId::generate());
    let (bob, store) = (UserId::generate(), &scene.store);
    let deleted = scene.brief(here, bob, "k", 1).await;
    let purged = scene.brief(emptied, bob, "k", 1).await;
    scene.brief(gone, bob, "k", 1).await;
    scene.clock.advance(Duration::from_secs(1));
    let overdue = store.overdue(scene.clock.now(), 10).await.unwrap();
    assert_eq!(overdue.len(), 3);
    // It went between the look and the locks.
    store.revise(&revision(&deleted, bob, UNSEND), &Access::member(), NOW).await.unwrap();
    store.purge(emptied, bob, &OWNER, later(5)).await.unwrap();
    store
        .apply(&Claim::forward("conversation", 0, 1), &[fact(gone, FactKind::Deleted, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    assert!(store.sweep(&overdue, &HashMap::new(), scene.clock.now()).await.unwrap().events.is_empty());
    assert!(scene.sweep().await.is_empty());
    store.sweep_purged(emptied, 10).await.unwrap();
    for (message, reason) in [(&deleted, DeletionReason::Unsent), (&purged, DeletionReason::Purged)] {
        let message = store.message(message.conversation, message.message_id).await.unwrap().unwrap();
        assert_eq!(message.deletion.map(|deletion| deletion.reason), Some(reason));
    }
    assert_eq!((log_of(store, here).await.len(), log_of(store, emptied).await.len()), (2, 2));
}

async fn the_next_expiry_is_known(scene: Scene) {
    let [here, emptied, gone] = [(); 3].map(|()| ConversationId::generate());
    let (bob, store) = (UserId::generate(), &scene.store);
    let next = async || store.next_expiry().await.unwrap();
    assert_eq!(next().await, None);
    send(store, here, bob, "for ever").await;
    assert_eq!(next().await, None);
    scene.brief(here, bob, "a", 5).await;
    let deleted = scene.brief(here, bob, "b", 4).await;
    scene.brief(emptied, bob, "c", 3).await;
    scene.brief(gone, bob, "d", 2).await;
    assert_eq!(next().await, Some(later(2000)));
    store
        .apply(&Claim::forward("conversation", 0, 1), &[fact(gone, FactKind::Deleted, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next().await, Some(later(3000)));
    store.purge(emptied, bob, &OWNER, NOW).await.unwrap();
    assert_eq!(next().await, Some(later(4000)));
    store.revise(&revision(&deleted, bob, UNSEND), &Access::member(), NOW).await.unwrap();
    assert_eq!(next().await, Some(later(5000)));
    scene.clock.advance(Duration::from_secs(6));
    assert_eq!(next().await, Some(later(5000)), "what is overdue comes first");
    scene.sweep().await;
    assert_eq!(next().await, None);
}
