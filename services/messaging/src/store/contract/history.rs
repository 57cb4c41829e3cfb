//! What the store promises about pages of messages: without tombstones, and of a period.

use std::time::Duration;

use super::ends::{DELETE, OWNER, Scene, UNSEND, postgres, sqlite};
use super::*;

promises! {
    tombstones_of_every_kind_are_left_out_of_a_full_page
    a_long_run_of_tombstones_is_passed_over
    a_period_has_the_messages_that_were_created_in_it
}

/// All messages of a conversation, the oldest first.
fn all(user: UserId, conversation: ConversationId) -> History {
    History {
        user,
        conversation,
        order: Order::OldestFirst,
        after: Sequence::NONE,
        before: Sequence::END,
        exclude_tombstones: false,
        start: None,
        end: None,
        limit: 1000,
    }
}

async fn sequences(store: &Store, history: &History) -> Vec<i64> {
    let (messages, _) = store.history(history).await.unwrap();
    messages.iter().map(|message| message.sequence.get()).collect()
}

async fn tombstones_of_every_kind_are_left_out_of_a_full_page(scene: Scene) {
    let (store, conversation, ann) = (&scene.store, ConversationId::generate(), UserId::generate());
    let mut sent = Vec::new();
    for n in 0..8 {
        sent.push(send(store, conversation, ann, &n.to_string()).await);
    }
    let brief = Letter { lifetime: Some(Duration::from_secs(1)), ..letter(conversation, ann, "brief", None) };
    append(store, &[brief]).await.remove(0).unwrap();
    let present = History { exclude_tombstones: true, ..all(ann, conversation) };
    assert_eq!(sequences(store, &present).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    scene.clock.advance(Duration::from_secs(1));
    for (message, change) in [(&sent[1], DELETE), (&sent[3], UNSEND), (&sent[6], DELETE)] {
        store.revise(&revision(message, ann, change), &Access::member(), NOW).await.unwrap();
    }
    assert_eq!(sequences(store, &present).await, [1, 3, 5, 6, 8], "expired before it is swept");
    assert_eq!(sequences(store, &all(ann, conversation)).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let newest = History { order: Order::NewestFirst, limit: 3, ..present };
    assert_eq!(sequences(store, &newest).await, [8, 6, 5], "a page is full");
    let within = History { after: Sequence::new(1), before: Sequence::new(8), ..present };
    assert_eq!(sequences(store, &within).await, [3, 5, 6]);

    store.purge(conversation, ann, &OWNER, NOW).await.unwrap();
    let last = send(store, conversation, ann, "last").await;
    assert_eq!(sequences(store, &present).await, [last.sequence.get()], "purged before it is swept");
    let (messages, head) = store.history(&History { before: last.sequence, ..present }).await.unwrap();
    assert!(messages.is_empty());
    assert_eq!(head, last.sequence, "an empty page knows the head");
}

async fn a_long_run_of_tombstones_is_passed_over(scene: Scene) {
    const RUN: usize = 2_000;
    let (store, conversation, ann) = (&scene.store, ConversationId::generate(), UserId::generate());
    let letters: Vec<_> = (0..RUN + 6).map(|n| letter(conversation, ann, &n.to_string(), None)).collect();
    for part in letters.chunks(256) {
        assert!(append(store, part).await.iter().all(Result::is_ok));
    }
    let delete = "UPDATE messages SET content = NULL, delete_time = create_time, delete_reason = 1
        WHERE conversation_id = $1 AND sequence > 3 AND sequence <= $2";
    let last_gone = RUN as i64 + 3;
    scene.execute(delete, conversation, Sequence::new(last_gone)).await;
    let present = History { exclude_tombstones: true, limit: 5, ..all(ann, conversation) };
    assert_eq!(sequences(store, &present).await, [1, 2, 3, last_gone + 1, last_gone + 2]);
    let newest = History { order: Order::NewestFirst, ..present };
    assert_eq!(sequences(store, &newest).await, [last_gone + 3, last_gone + 2, last_gone + 1, 3, 2]);
}

async fn a_period_has_the_messages_that_were_created_in_it(scene: Scene) {
    let (store, conversation, ann) = (&scene.store, ConversationId::generate(), UserId::generate());
    let empty = History { start: Some(NOW), end: Some(NOW), ..all(ann, conversation) };
    assert_eq!(sequences(store, &empty).await, [0_i64; 0]);
    // Every other message is written by a replica whose clock is behind, by less than a minute; now and then, nothing is
    // written for long.
    let mut created = Vec::new();
    let mut clock = 0;
    for n in 0..40_i64 {
        clock += if n % 10 == 9 { 3_600_000 } else { 7_001 };
        let time = later(clock - if n % 2 == 0 { 0 } else { (n * 7_919) % 60_000 });
        let sent = append_with(store, &[letter(conversation, ann, "x", None)], &Access::member(), time).await;
        let message = sent.into_iter().next().unwrap().unwrap().message;
        if n % 4 == 0 {
            // An event takes a sequence, too.
            store.revise(&revision(&message, ann, edit("y")), &Access::member(), time).await.unwrap();
        }
        created.push((message.sequence.get(), time));
    }
    let mut bounds: Vec<_> = created.iter().map(|(_, time)| Some(*time)).step_by(3).collect();
    bounds.extend([None, Some(later(-1)), Some(later(1)), Some(later(100_000_000))]);
    for start in &bounds {
        for end in &bounds {
            let expected: Vec<_> = created
                .iter()
                .filter(|(_, time)| start.is_none_or(|start| *time >= start))
                .filter(|(_, time)| end.is_none_or(|end| *time < end))
                .map(|(sequence, _)| *sequence)
                .collect();
            let history = History { start: *start, end: *end, ..all(ann, conversation) };
            assert_eq!(sequences(store, &history).await, expected, "{start:?} to {end:?}");
            let mut backward = expected.clone();
            backward.reverse();
            backward.truncate(2);
            let newest = History { order: Order::NewestFirst, limit: 2, ..history };
            assert_eq!(sequences(store, &newest).await, backward);
        }
    }
}
