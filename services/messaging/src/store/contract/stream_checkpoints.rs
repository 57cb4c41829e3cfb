//! The promises of the store about the positions of event streams.

use proto::id::StreamCheckpointId;

use super::departures::{gone, the_departure};
use super::*;
use crate::departure::Stage;

promises! {
    a_checkpoint_is_its_user_s_and_does_not_change
    of_too_many_checkpoints_the_one_unused_for_longest_goes
    checkpoints_made_at_once_are_not_too_many
    checkpoints_that_are_unused_are_swept
    checkpoints_go_with_their_account
}

async fn used(store: &Store, user: UserId, id: StreamCheckpointId, millis: i64) -> Option<Vec<u8>> {
    store.use_stream_checkpoint(user, id, later(millis)).await.unwrap()
}

async fn made(store: &Store, user: UserId, millis: i64) -> StreamCheckpointId {
    let id = StreamCheckpointId::generate();
    store.create_stream_checkpoint(user, id, &[1, 0, 255], 4, later(millis)).await.unwrap();
    id
}

async fn a_checkpoint_is_its_user_s_and_does_not_change(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let id = made(&store, ann, 0).await;
    store.create_stream_checkpoint(ann, id, &[2], 4, NOW).await.unwrap();
    assert_eq!(used(&store, ann, id, 1).await, Some(vec![1, 0, 255]));
    assert_eq!(used(&store, bob, id, 1).await, None);
    assert_eq!(used(&store, ann, StreamCheckpointId::generate(), 1).await, None);
    store.create_stream_checkpoint(bob, id, &[3], 4, NOW).await.unwrap();
    assert_eq!(used(&store, ann, id, 1).await, Some(vec![1, 0, 255]));
    assert_eq!(used(&store, bob, id, 1).await, Some(vec![3]));
}

async fn of_too_many_checkpoints_the_one_unused_for_longest_goes(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let bobs = made(&store, bob, 0).await;
    let mut ids = Vec::new();
    for millis in 0..4 {
        ids.push(made(&store, ann, millis).await);
    }
    used(&store, ann, ids[0], 10).await.unwrap();
    // An older use does not take the newer one back.
    used(&store, ann, ids[0], 0).await.unwrap();
    made(&store, ann, 11).await;
    let left = async |id| used(&store, ann, id, 0).await.is_some();
    assert_eq!([left(ids[0]).await, left(ids[1]).await, left(ids[2]).await], [true, false, true]);
    assert!(used(&store, bob, bobs, 0).await.is_some());
}

async fn checkpoints_made_at_once_are_not_too_many(store: Store) {
    let ann = UserId::generate();
    let mut work = JoinSet::new();
    for millis in 0..12 {
        let store = store.clone();
        work.spawn(async move { made(&store, ann, millis).await });
    }
    let ids = work.join_all().await;
    let mut left = 0;
    for id in ids {
        left += usize::from(used(&store, ann, id, 0).await.is_some());
    }
    assert_eq!(left, 4);
}

async fn checkpoints_that_are_unused_are_swept(store: Store) {
    let ann = UserId::generate();
    let [old, used_since, new] =
        [made(&store, ann, 0).await, made(&store, ann, 0).await, made(&store, ann, 9).await];
    used(&store, ann, used_since, 5).await.unwrap();
    assert_eq!(store.sweep_stream_checkpoints(later(4), 9).await.unwrap(), 1);
    assert_eq!(store.sweep_stream_checkpoints(later(4), 9).await.unwrap(), 0);
    assert_eq!(used(&store, ann, old, 10).await, None);
    assert!(used(&store, ann, new, 10).await.is_some() && used(&store, ann, used_since, 10).await.is_some());
    assert_eq!(store.sweep_stream_checkpoints(later(10), 1).await.unwrap(), 1);
}

async fn checkpoints_go_with_their_account(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let [anns, bobs] = [made(&store, ann, 0).await, made(&store, bob, 0).await];
    gone(&store, ann).await;
    while let Some(departure) = the_departure(&store, NOW).await {
        match departure.stage {
            Stage::Messages => {
                store.erase_written(&departure, &[], &HashMap::new(), NOW).await.unwrap();
            }
            Stage::Reactions | Stage::Votes | Stage::Pins => {
                store.take_back(&departure, &[], &HashMap::new(), NOW).await.unwrap();
            }
            Stage::Rest => store.erase_rest(&departure, NOW).await.unwrap(),
        }
    }
    assert_eq!(used(&store, ann, anns, 1).await, None);
    assert!(used(&store, bob, bobs, 1).await.is_some());
    // A stream that has not ended yet leaves none behind.
    let late = made(&store, ann, 2).await;
    assert_eq!(used(&store, ann, late, 3).await, None);
}
