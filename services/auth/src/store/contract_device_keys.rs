//! What the store promises about device keys, on both databases.

use chassis::database::testing;
use ed25519_dalek::SigningKey;
use tokio::task::JoinSet;

use super::contract::{after, close, create, hash, user};
use super::*;
use crate::device_key::{KeyName, MOST_EVER, MOST_IN_USE, PublicKey};

promises! {
    a_key_is_kept_as_it_was_registered,
    the_same_key_again_is_the_first_one,
    a_revoked_key_stays_revoked,
    one_revokes_only_ones_own_keys,
    there_are_so_many_keys_in_use_and_no_more,
    registrations_at_once_leave_no_key_too_many,
    one_key_registered_at_once_is_one_key,
    revoked_keys_are_not_kept_without_end,
    a_deleted_user_has_no_keys,
}

/// A key that depends on the user and on a number only.
fn key(user: &User, number: u16) -> DeviceKey {
    let mut seed = [7; 32];
    seed[..16].copy_from_slice(user.id.uuid().as_bytes());
    seed[16..18].copy_from_slice(&number.to_be_bytes());
    DeviceKey {
        id: DeviceKeyId::generate(),
        user_id: user.id,
        name: KeyName::parse(&format!("phone {number}")).unwrap(),
        public_key: PublicKey::parse(SigningKey::from_bytes(&seed).verifying_key().as_bytes()).unwrap(),
        create_time: after(1),
        revoke_time: None,
    }
}

async fn somebody(store: &Store, name: &str) -> User {
    let user = user(name);
    create(store, &user).await;
    user
}

async fn in_use(store: &Store, user: &User) -> i64 {
    let keys = store.device_keys_of(user.id).await.unwrap();
    keys.iter().filter(|key| key.revoke_time.is_none()).count().try_into().unwrap()
}

async fn a_key_is_kept_as_it_was_registered(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    let keys = [key(&ann, 1), key(&ann, 2)];
    for key in &keys {
        assert_eq!(store.register_device_key(key).await.unwrap(), *key);
    }
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), keys);
    assert_eq!(store.device_keys_of(bob.id).await.unwrap(), []);
    // Nobody has keys without being somebody.
    let nobody = user("nobody");
    assert!(matches!(store.register_device_key(&key(&nobody, 1)).await, Err(Error::Unauthenticated)));
}

async fn the_same_key_again_is_the_first_one(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    let first = store.register_device_key(&key(&ann, 1)).await.unwrap();
    let again = DeviceKey { name: KeyName::parse("another name").unwrap(), ..key(&ann, 1) };
    assert_ne!(again.id, first.id);
    assert_eq!(store.register_device_key(&again).await.unwrap(), first);
    // Another user's keys are that user's own.
    let bobs = DeviceKey { user_id: bob.id, ..key(&ann, 1) };
    assert_eq!(store.register_device_key(&bobs).await.unwrap(), bobs);
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), [first]);
}

async fn a_revoked_key_stays_revoked(store: Store) {
    let ann = somebody(&store, "ann").await;
    let [old, new] = [key(&ann, 1), key(&ann, 2)];
    store.register_device_key(&old).await.unwrap();
    store.register_device_key(&new).await.unwrap();
    let revoked = store.revoke_device_key(ann.id, old.id, after(5)).await.unwrap().unwrap();
    assert_eq!(revoked, DeviceKey { revoke_time: Some(after(5)), ..old.clone() });
    let again = store.revoke_device_key(ann.id, old.id, after(9)).await.unwrap().unwrap();
    assert_eq!(again, revoked);
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), [revoked.clone(), new.clone()]);
    let back = DeviceKey { id: DeviceKeyId::generate(), ..old };
    let refused = store.register_device_key(&back).await;
    assert!(matches!(refused, Err(Error::DeviceKeyInvalid(rule)) if rule.contains("revoked")));
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), [revoked, new]);
}

async fn one_revokes_only_ones_own_keys(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    let anns = store.register_device_key(&key(&ann, 1)).await.unwrap();
    assert_eq!(store.revoke_device_key(bob.id, anns.id, after(5)).await.unwrap(), None);
    assert_eq!(store.revoke_device_key(ann.id, DeviceKeyId::generate(), after(5)).await.unwrap(), None);
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), [anns]);
}

async fn there_are_so_many_keys_in_use_and_no_more(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    for number in 0..20 {
        store.register_device_key(&key(&ann, number)).await.unwrap();
    }
    let one_more = key(&ann, 20);
    let refused = store.register_device_key(&one_more).await;
    assert!(matches!(refused, Err(Error::TooManyDeviceKeys { most: 20 })), "{refused:?}");
    // One that is there is still found, and others have room of their own.
    assert_eq!(store.register_device_key(&key(&ann, 3)).await.unwrap().name.as_str(), "phone 3");
    store.register_device_key(&key(&bob, 20)).await.unwrap();
    let first = store.device_keys_of(ann.id).await.unwrap().remove(0);
    store.revoke_device_key(ann.id, first.id, after(5)).await.unwrap();
    store.register_device_key(&one_more).await.unwrap();
    assert_eq!(in_use(&store, &ann).await, MOST_IN_USE);
}

async fn registrations_at_once_leave_no_key_too_many(store: Store) {
    let ann = somebody(&store, "ann").await;
    for number in 0..15 {
        store.register_device_key(&key(&ann, number)).await.unwrap();
    }
    let mut devices = JoinSet::new();
    for number in 15..35 {
        let (store, key) = (store.clone(), key(&ann, number));
        devices.spawn(async move { store.register_device_key(&key).await });
    }
    let outcomes = devices.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Ok(_) | Err(Error::TooManyDeviceKeys { most: MOST_IN_USE })))
    );
    assert_eq!(in_use(&store, &ann).await, MOST_IN_USE);
}

async fn one_key_registered_at_once_is_one_key(store: Store) {
    let ann = somebody(&store, "ann").await;
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let (store, key) = (store.clone(), key(&ann, 1));
        tries.spawn(async move { store.register_device_key(&key).await.unwrap() });
    }
    let kept = only_one(tries.join_all().await);
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), [kept]);
}

fn only_one(mut keys: Vec<DeviceKey>) -> DeviceKey {
    keys.dedup();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.remove(0)
}

async fn revoked_keys_are_not_kept_without_end(store: Store) {
    let ann = somebody(&store, "ann").await;
    for number in 0..u16::try_from(MOST_EVER).unwrap() {
        let key = store.register_device_key(&key(&ann, number)).await.unwrap();
        store.revoke_device_key(ann.id, key.id, after(5)).await.unwrap();
    }
    let refused = store.register_device_key(&key(&ann, u16::MAX)).await;
    assert!(matches!(refused, Err(Error::TooManyDeviceKeys { most: MOST_EVER })), "{refused:?}");
}

async fn a_deleted_user_has_no_keys(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    for user in [&ann, &bob] {
        store.register_device_key(&key(user, 1)).await.unwrap();
    }
    store.delete_user(ann.id, Some(&hash("secret")), after(2)).await.unwrap();
    assert_eq!(store.device_keys_of(ann.id).await.unwrap(), []);
    assert!(matches!(store.register_device_key(&key(&ann, 2)).await, Err(Error::Unauthenticated)));
    assert_eq!(in_use(&store, &bob).await, 1);
}
