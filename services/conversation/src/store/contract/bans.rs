//! What the store promises about bans that end.

use std::time::Duration;

use super::*;

promises![a_ban_ends_at_its_instant, a_ban_is_replaced_and_an_ended_one_leaves_nothing];

fn ban(user_id: UserId, reason: &str, seconds: Option<u64>) -> Change {
    Change::Ban { user_id, reason: reason.to_owned(), duration: seconds.map(Duration::from_secs) }
}

const JOIN: Change = Change::Join { namespace: None };

async fn a_ban_ends_at_its_instant(world: World) {
    let [ann, bob, cem] = people();
    let room = world.make(Kind::Room, ann, &[]).await;
    let all = Page { after: None, limit: 10 };
    world.change_at(1000, room, ann, ban(bob, "calm down", Some(10))).await.unwrap();
    world.change_at(1000, room, ann, ban(cem, "spam", None)).await.unwrap();
    for millis in [1000, 10_999] {
        let refused = world.change_at(millis, room, bob, JOIN).await;
        assert!(matches!(refused, Err(Error::Banned { until, .. }) if until == Some(at(11_000))));
        let refused = world.change_at(millis, room, ann, Change::Add(vec![bob])).await;
        assert!(matches!(refused, Err(Error::UserBanned(user)) if user == bob));
        let listed = world.store.bans(room, ann, at(millis), all).await.unwrap();
        let ends: BTreeMap<_, _> = listed.iter().map(|ban| (ban.user_id, ban.expire_time)).collect();
        assert_eq!(ends, BTreeMap::from([(bob, Some(at(11_000))), (cem, None)]));
    }
    let listed = world.store.bans(room, ann, at(11_000), all).await.unwrap();
    assert_eq!(listed.iter().map(|ban| ban.user_id).collect::<Vec<_>>(), [cem]);
    let unban = world.change_at(11_000, room, ann, Change::Unban(bob)).await;
    assert!(matches!(unban, Err(Error::BanNotFound(user)) if user == bob));
    world.change_at(11_000, room, bob, JOIN).await.unwrap();
    assert_eq!(world.role(room, bob).await, Some(Role::Member));
    let refused = world.change_at(i64::MAX / 2, room, cem, JOIN).await;
    assert!(matches!(refused, Err(Error::Banned { until: None, .. })));
}

async fn a_ban_is_replaced_and_an_ended_one_leaves_nothing(world: World) {
    let [ann, bob] = people();
    let room = world.make(Kind::Room, ann, &[]).await;
    let stored = async |changed: Changed| {
        let kept = changed.situation.bans[&bob].clone();
        let page = Page { after: None, limit: 10 };
        let listed = world.store.bans(room, ann, changed.situation.now, page).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&kept));
        (kept.reason.clone(), kept.create_time.as_millis(), kept.expire_time.map(Timestamp::as_millis))
    };
    let first = world.change_at(1000, room, ann, ban(bob, "one", Some(10))).await.unwrap();
    assert_eq!(stored(first).await, ("one".to_owned(), 1000, Some(11_000)));
    let longer = world.change_at(2000, room, ann, ban(bob, "two", None)).await.unwrap();
    assert_eq!(stored(longer).await, ("two".to_owned(), 1000, None));
    let shorter = world.change_at(3000, room, ann, ban(bob, "three", Some(1))).await.unwrap();
    assert_eq!(stored(shorter).await, ("three".to_owned(), 1000, Some(4000)));
    // One that has ended is not the one that begins.
    let anew = world.change_at(5000, room, ann, ban(bob, "four", Some(1))).await.unwrap();
    assert_eq!(stored(anew).await, ("four".to_owned(), 5000, Some(6000)));
    // Who comes in again has no ban, whatever the clock says then.
    world.change_at(6000, room, bob, JOIN).await.unwrap();
    world.change_at(6000, room, bob, Change::Leave).await.unwrap();
    world.change_at(5500, room, bob, JOIN).await.unwrap();
}
