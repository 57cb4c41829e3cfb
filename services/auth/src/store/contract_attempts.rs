//! Counts of tries and the peppers of passwords, on both databases.

use std::time::Duration;

use chassis::database::testing;
use tokio::task::JoinSet;

use super::contract::{after, close};
use super::*;
use crate::attempts::Quota;
use crate::pepper::Peppers;

const QUOTA: Quota = Quota { burst: 3, refill: Duration::from_secs(90) };
const KEY: attempts::Key = [7; 32];

promises! {
    tries_in_a_row_and_then_one_per_refill_time,
    tries_at_once_are_no_more_than_allowed,
    a_clock_that_was_ahead_refuses_no_try,
    a_key_whose_quota_is_whole_is_swept,
    a_pepper_that_was_used_is_remembered,
}

async fn tries_in_a_row_and_then_one_per_refill_time(store: Store) {
    let attempt = async |key, seconds| store.count_attempt(key, QUOTA, after(seconds)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(attempt(&KEY, 0).await, Ok(()));
    }
    assert_eq!(attempt(&KEY, 0).await, Err(Duration::from_secs(90)));
    assert_eq!(attempt(&KEY, 30).await, Err(Duration::from_secs(60)));
    assert_eq!(attempt(&[8; 32], 0).await, Ok(()), "another key");
    assert_eq!(attempt(&KEY, 90).await, Ok(()));
    assert_eq!(attempt(&KEY, 90).await, Err(Duration::from_secs(90)));
    for _ in 0..3 {
        assert_eq!(attempt(&KEY, 1000).await, Ok(()), "the quota is whole again");
    }
    assert!(attempt(&KEY, 1000).await.is_err());
}

async fn tries_at_once_are_no_more_than_allowed(store: Store) {
    let mut tries = JoinSet::new();
    for _ in 0..12 {
        let store = store.clone();
        tries.spawn(async move { store.count_attempt(&KEY, QUOTA, after(0)).await.unwrap().is_ok() });
    }
    let allowed = tries.join_all().await.into_iter().filter(|is_allowed| *is_allowed).count();
    assert_eq!(allowed, 3);
}

async fn a_clock_that_was_ahead_refuses_no_try(store: Store) {
    for _ in 0..3 {
        store.count_attempt(&KEY, QUOTA, after(1_000_000)).await.unwrap().unwrap();
    }
    for _ in 0..3 {
        assert_eq!(store.count_attempt(&KEY, QUOTA, after(0)).await.unwrap(), Ok(()));
    }
    assert_eq!(store.count_attempt(&KEY, QUOTA, after(0)).await.unwrap(), Err(Duration::from_secs(90)));
}

async fn a_key_whose_quota_is_whole_is_swept(store: Store) {
    store.count_attempt(&KEY, QUOTA, after(0)).await.unwrap().unwrap();
    store.count_attempt(&[8; 32], QUOTA, after(60)).await.unwrap().unwrap();
    assert_eq!(store.sweep_attempts(after(89), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_attempts(after(90), 10).await.unwrap(), 1);
    assert_eq!(store.sweep_attempts(after(1000), 10).await.unwrap(), 1);
    assert_eq!(store.sweep_attempts(after(1000), 10).await.unwrap(), 0);
}

async fn a_pepper_that_was_used_is_remembered(store: Store) {
    assert_eq!(store.note_pepper(None).await.unwrap(), Vec::<Vec<u8>>::new());
    for _ in 0..2 {
        assert_eq!(store.note_pepper(Some([1; 8])).await.unwrap(), [vec![1; 8]]);
    }
    let mut used = store.note_pepper(Some([2; 8])).await.unwrap();
    used.sort_unstable();
    assert_eq!(used, [vec![1; 8], vec![2; 8]]);
    assert_eq!(store.note_pepper(None).await.unwrap().len(), 2);

    Peppers::default().check(&store).await.unwrap_err();
}
