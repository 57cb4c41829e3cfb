//! What the store promises about reviews and who may write them, on both databases.

use std::collections::BTreeMap;

use chassis::database::testing;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use proto::auth::v1 as pb;
use proto::auth::v1::user_fact::Payload;
use proto::id::ReviewId;
use tokio::task::JoinSet;

use super::contract::{after, close, create, hash, user};
use super::*;
use crate::review::{Change, Pair, Tie, Verdict};

promises! {
    a_review_is_written_changed_and_deleted,
    the_same_again_changes_nothing_and_tells_nobody,
    only_who_has_met_writes,
    who_is_blocked_writes_nothing_and_takes_back_what_was_written,
    what_is_told_late_changes_nothing,
    a_rating_follows_every_order_of_changes,
    a_rating_equals_its_reviews_whoever_writes_at_once,
    one_review_put_at_once_is_one_review,
    people_who_reviewed_each_other_go_at_once,
    a_deleted_user_takes_its_reviews_along,
    reviews_are_paged_by_their_last_change,
    reviews_are_found_by_their_ids_by_those_they_concern,
}

async fn people<const N: usize>(store: &Store, names: [&str; N]) -> [User; N] {
    let people = names.map(user);
    for one in &people {
        create(store, one).await;
    }
    people
}

async fn record(store: &Store, one: &User, other: &User, tie: Tie, version: i64) {
    let pair = Pair::new(one.id, other.id).unwrap();
    store.record_acquaintance(&Acquaintance { pair, tie, version }).await.unwrap();
}

async fn had_call(store: &Store, one: &User, other: &User) {
    record(store, one, other, Tie::Call, 1).await;
}

fn connection(is_there: bool) -> Tie {
    Tie::Connection { is_there }
}

fn review(reviewer: &User, about: &User, stars: i32, text: &str, seconds: u64) -> Review {
    Review {
        id: ReviewId::generate(),
        reviewer_id: reviewer.id,
        user_id: about.id,
        verdict: Verdict::parse(stars, text).unwrap(),
        version: 1,
        create_time: after(seconds),
        update_time: after(seconds),
    }
}

async fn put(store: &Store, reviewer: &User, about: &User, stars: i32, seconds: u64) -> Result<Put, Error> {
    store.put_review(&review(reviewer, about, stars, "", seconds)).await
}

fn rating(count: i64, sum: i64) -> Rating {
    Rating { count, sum }
}

/// The rating that is kept, which must be what the reviews come to.
async fn checked_rating(store: &Store, about: &User) -> Rating {
    let reviews = store.list_reviews(Whose::About(about.id), None, 10_000).await.unwrap().reviews;
    let sum = reviews.iter().map(|review| review.verdict.stars()).sum();
    let expected = rating(reviews.len().try_into().unwrap(), sum);
    assert_eq!(store.rating_of(about.id).await.unwrap(), expected);
    if let [Account::Living(user)] = store.find_accounts(&[about.id]).await.unwrap().as_slice() {
        assert_eq!(user.rating, expected);
    }
    expected
}

/// What was told about reviews, oldest first: the review, what became of it, its version.
async fn told(store: &Store) -> Vec<(ReviewId, pb::ReviewChange, i64)> {
    let facts = store.facts_after(0, 10_000).await.unwrap();
    let read = |(_, payload): &(i64, Vec<u8>)| match pb::UserFact::decode(payload.as_slice()).unwrap().payload
    {
        Some(Payload::ReviewChanged(changed)) => {
            Some((ReviewId::parse(&changed.review_id).unwrap(), changed.change(), changed.version))
        }
        _ => None,
    };
    facts.iter().filter_map(read).collect()
}

async fn a_review_is_written_changed_and_deleted(store: Store) {
    let [ann, bob] = people(&store, ["ann", "bob"]).await;
    had_call(&store, &ann, &bob).await;
    let first = review(&ann, &bob, 2, "late", 1);
    let written = store.put_review(&first).await.unwrap();
    assert_eq!(written, Put { review: first.clone(), change: Some(Change::Written), rating: rating(1, 2) });
    let second = review(&ann, &bob, 5, "Ä\n🦀", 9);
    let changed = store.put_review(&second).await.unwrap();
    let expected = Review { version: 2, verdict: second.verdict, update_time: after(9), ..first.clone() };
    assert_eq!(
        changed,
        Put { review: expected.clone(), change: Some(Change::Updated), rating: rating(1, 5) }
    );
    assert_eq!(store.find_review(ann.id, bob.id).await.unwrap(), Some(expected));
    // The other direction is another review.
    assert_eq!(store.find_review(bob.id, ann.id).await.unwrap(), None);
    assert_eq!(put(&store, &bob, &ann, 4, 9).await.unwrap().rating, rating(1, 4));

    assert_eq!(store.delete_review(ann.id, bob.id, after(10)).await.unwrap(), Some(rating(0, 0)));
    assert_eq!(store.delete_review(ann.id, bob.id, after(10)).await.unwrap(), None);
    assert_eq!(checked_rating(&store, &bob).await, rating(0, 0));
    assert_eq!(checked_rating(&store, &ann).await, rating(1, 4));
    // Written anew, it is another one.
    let again = put(&store, &ann, &bob, 3, 11).await.unwrap();
    assert_eq!((again.change, again.review.version), (Some(Change::Written), 1));

    let of_first: Vec<_> = told(&store).await.into_iter().filter(|(id, ..)| *id == first.id).collect();
    let expected =
        [(pb::ReviewChange::Written, 1), (pb::ReviewChange::Updated, 2), (pb::ReviewChange::Deleted, 3)];
    assert_eq!(of_first, expected.map(|(change, version)| (first.id, change, version)));
    assert_eq!(told(&store).await.len(), 5);
}

async fn the_same_again_changes_nothing_and_tells_nobody(store: Store) {
    let [ann, bob] = people(&store, ["ann", "bob"]).await;
    had_call(&store, &ann, &bob).await;
    let first = store.put_review(&review(&ann, &bob, 4, "kind", 1)).await.unwrap().review;
    let again = store.put_review(&review(&ann, &bob, 4, "kind", 7)).await.unwrap();
    assert_eq!(again, Put { review: first, change: None, rating: rating(1, 4) });
    assert_eq!(told(&store).await.len(), 1);
    // Another text is another verdict, also with the same stars.
    let other = store.put_review(&review(&ann, &bob, 4, "Kind", 7)).await.unwrap();
    assert_eq!((other.change, other.rating), (Some(Change::Updated), rating(1, 4)));
    assert_eq!(told(&store).await.len(), 2);
}

async fn only_who_has_met_writes(store: Store) {
    let [ann, bob, cid] = people(&store, ["ann", "bob", "cid"]).await;
    let refused = put(&store, &ann, &bob, 5, 1).await;
    assert!(matches!(refused, Err(Error::NotAcquainted(id)) if id == bob.id));
    record(&store, &bob, &ann, connection(true), 1).await;
    put(&store, &ann, &bob, 5, 1).await.unwrap();
    assert!(matches!(put(&store, &ann, &cid, 5, 1).await, Err(Error::NotAcquainted(_))));

    // What was written while they were connected can be changed and deleted later; nothing new is written then.
    record(&store, &ann, &bob, connection(false), 2).await;
    put(&store, &ann, &bob, 4, 2).await.unwrap();
    assert!(matches!(put(&store, &bob, &ann, 4, 2).await, Err(Error::NotAcquainted(_))));
    store.delete_review(ann.id, bob.id, after(3)).await.unwrap().unwrap();
    assert!(matches!(put(&store, &ann, &bob, 4, 4).await, Err(Error::NotAcquainted(_))));

    // A call that was had stays one.
    had_call(&store, &ann, &bob).await;
    put(&store, &ann, &bob, 4, 5).await.unwrap();
    put(&store, &bob, &ann, 4, 5).await.unwrap();

    let nobody = user("nobody");
    assert!(
        matches!(put(&store, &ann, &nobody, 5, 1).await, Err(Error::UserNotFound(id)) if id == nobody.id)
    );
    assert!(matches!(put(&store, &nobody, &ann, 5, 1).await, Err(Error::Unauthenticated)));
    assert_eq!(told(&store).await.len(), 5);
}

async fn who_is_blocked_writes_nothing_and_takes_back_what_was_written(store: Store) {
    let [ann, bob] = people(&store, ["ann", "bob"]).await;
    let blocked = |is_there| Tie::Block { is_there };
    // Blocking is no way of knowing each other.
    record(&store, &ann, &bob, blocked(true), 1).await;
    record(&store, &ann, &bob, blocked(false), 2).await;
    assert!(matches!(put(&store, &ann, &bob, 5, 1).await, Err(Error::NotAcquainted(_))));
    had_call(&store, &ann, &bob).await;
    put(&store, &ann, &bob, 5, 1).await.unwrap();

    // Whatever else is between them: neither writes anything new nor changes what is there.
    record(&store, &bob, &ann, connection(true), 1).await;
    record(&store, &bob, &ann, blocked(true), 3).await;
    for (reviewer, about) in [(&ann, &bob), (&bob, &ann)] {
        let refused = put(&store, reviewer, about, 1, 2).await;
        assert!(matches!(refused, Err(Error::NotAcquainted(id)) if id == about.id));
    }
    assert_eq!(checked_rating(&store, &bob).await, rating(1, 5));
    assert!(store.delete_review(ann.id, bob.id, after(3)).await.unwrap().is_some());

    record(&store, &ann, &bob, blocked(false), 4).await;
    put(&store, &ann, &bob, 2, 4).await.unwrap();
    put(&store, &bob, &ann, 2, 4).await.unwrap();
}

async fn what_is_told_late_changes_nothing(store: Store) {
    let [ann, bob] = people(&store, ["ann", "bob"]).await;
    let may_write = async || put(&store, &ann, &bob, 5, 1).await.is_ok();
    record(&store, &ann, &bob, connection(false), 2).await;
    record(&store, &ann, &bob, connection(true), 1).await;
    record(&store, &ann, &bob, connection(true), 2).await;
    assert!(!may_write().await);
    record(&store, &bob, &ann, connection(true), 3).await;
    record(&store, &bob, &ann, connection(true), 3).await;
    assert!(may_write().await);
    // About somebody who is not there, or not any more, nothing is written and nothing has to be repeated.
    record(&store, &ann, &user("nobody"), connection(true), 1).await;
    store.delete_user(bob.id, Some(&hash("secret")), after(1)).await.unwrap();
    record(&store, &ann, &bob, connection(true), 4).await;
}

/// A step of a random life of four people.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put { reviewer: usize, about: usize, stars: i32 },
    Delete { reviewer: usize, about: usize },
    Go { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4_usize, 0..4_usize, 1..=5).prop_map(|(reviewer, about, stars)| Step::Put { reviewer, about, stars }),
        3 => (0..4_usize, 0..4_usize).prop_map(|(reviewer, about)| Step::Delete { reviewer, about }),
        1 => (0..4_usize).prop_map(|who| Step::Go { who }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Against a map: whatever happens, the ratings are the sums of what is left.
async fn a_rating_follows_every_order_of_changes(store: Store) {
    let mut runner = TestRunner::deterministic();
    for life in 0..12 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let people = [0, 1, 2, 3].map(|n| user(&format!("life{life}.{n}")));
        for one in &people {
            create(&store, one).await;
        }
        for (one, other) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            had_call(&store, &people[one], &people[other]).await;
        }
        let mut gone = [false; 4];
        let mut model: BTreeMap<(usize, usize), i32> = BTreeMap::new();
        for (seconds, step) in (1..).zip(&steps) {
            match *step {
                Step::Put { reviewer, about, .. } | Step::Delete { reviewer, about } if reviewer == about => {
                }
                Step::Put { reviewer, about, stars } => {
                    let done = put(&store, &people[reviewer], &people[about], stars, seconds).await;
                    assert_eq!(done.is_ok(), !gone[reviewer] && !gone[about], "{steps:?}");
                    if done.is_ok() {
                        model.insert((reviewer, about), stars);
                    }
                }
                Step::Delete { reviewer, about } => {
                    let (reviewer_id, about_id) = (people[reviewer].id, people[about].id);
                    let done = store.delete_review(reviewer_id, about_id, after(seconds)).await.unwrap();
                    assert_eq!(done.is_some(), model.remove(&(reviewer, about)).is_some(), "{steps:?}");
                }
                Step::Go { who } if !gone[who] => {
                    store.delete_user(people[who].id, Some(&hash("secret")), after(seconds)).await.unwrap();
                    gone[who] = true;
                    model.retain(|(reviewer, about), _| *reviewer != who && *about != who);
                }
                Step::Go { .. } => {}
            }
            for (n, one) in people.iter().enumerate() {
                let stars: Vec<i64> =
                    model.iter().filter(|((_, about), _)| *about == n).map(|(_, s)| i64::from(*s)).collect();
                let expected = rating(stars.len().try_into().unwrap(), stars.iter().sum());
                assert_eq!(checked_rating(&store, one).await, expected, "{steps:?}");
            }
        }
    }
}

async fn a_rating_equals_its_reviews_whoever_writes_at_once(store: Store) {
    let mut reviewers = Vec::new();
    for n in 0..10 {
        let reviewer = user(&format!("reviewer{n}"));
        create(&store, &reviewer).await;
        reviewers.push(reviewer);
    }
    let [ann, bob] = people(&store, ["ann", "bob"]).await;
    for reviewer in &reviewers {
        had_call(&store, reviewer, &ann).await;
        had_call(&store, reviewer, &bob).await;
    }
    let mut work = JoinSet::new();
    for (n, reviewer) in reviewers.iter().cloned().enumerate() {
        for about in [ann.clone(), bob.clone()] {
            let (store, reviewer) = (store.clone(), reviewer.clone());
            work.spawn(async move {
                for turn in 0..12 {
                    let stars = i32::try_from((n * 7 + turn * 3) % 5 + 1).unwrap();
                    if (n + turn) % 4 == 3 {
                        store.delete_review(reviewer.id, about.id, after(2)).await.unwrap();
                    } else {
                        let done = put(&store, &reviewer, &about, stars, 2).await;
                        assert!(matches!(done, Ok(_) | Err(Error::Unauthenticated)), "{done:?}");
                    }
                }
            });
        }
    }
    // Meanwhile every third goes for ever. What it still writes is refused then, and only that.
    for reviewer in reviewers.iter().step_by(3) {
        let (store, id) = (store.clone(), reviewer.id);
        work.spawn(async move { store.delete_user(id, Some(&hash("secret")), after(3)).await.unwrap() });
    }
    work.join_all().await;
    for about in [&ann, &bob] {
        checked_rating(&store, about).await;
        let left = store.list_reviews(Whose::About(about.id), None, 100).await.unwrap().reviews;
        let gone: Vec<_> = reviewers.iter().step_by(3).map(|reviewer| reviewer.id).collect();
        assert!(left.iter().all(|review| !gone.contains(&review.reviewer_id)));
    }

    // Each review was told of in the order of its versions, without one left out.
    let mut versions: BTreeMap<uuid::Uuid, Vec<i64>> = BTreeMap::new();
    for (id, _, version) in told(&store).await {
        versions.entry(id.uuid()).or_default().push(version);
    }
    assert!(versions.len() > 10);
    for told in versions.values() {
        assert_eq!(*told, (1..=told.len().try_into().unwrap()).collect::<Vec<i64>>());
    }
}

async fn one_review_put_at_once_is_one_review(store: Store) {
    let [ann, bob] = people(&store, ["ann", "bob"]).await;
    had_call(&store, &ann, &bob).await;
    let mut tries = JoinSet::new();
    for n in 0..10 {
        let (store, ann, bob) = (store.clone(), ann.clone(), bob.clone());
        tries.spawn(async move { put(&store, &ann, &bob, n % 5 + 1, 1).await.unwrap().change });
    }
    let changes = tries.join_all().await;
    assert_eq!(changes.iter().filter(|change| **change == Some(Change::Written)).count(), 1);
    assert_eq!(checked_rating(&store, &bob).await.count, 1);
    let told = told(&store).await.len();
    assert_eq!(told, changes.iter().filter(|change| change.is_some()).count());
}

async fn people_who_reviewed_each_other_go_at_once(store: Store) {
    let mut people = Vec::new();
    for n in 0..8 {
        let one = user(&format!("user{n}"));
        create(&store, &one).await;
        people.push(one);
    }
    for (n, one) in people.iter().enumerate() {
        for other in &people[..n] {
            had_call(&store, one, other).await;
            record(&store, one, other, connection(true), 1).await;
            put(&store, one, other, 5, 1).await.unwrap();
            put(&store, other, one, 1, 1).await.unwrap();
        }
    }
    let mut leaving = JoinSet::new();
    for one in &people[1..] {
        let (store, id) = (store.clone(), one.id);
        leaving.spawn(async move { store.delete_user(id, Some(&hash("secret")), after(2)).await });
    }
    for left in leaving.join_all().await {
        left.unwrap();
    }
    assert_eq!(checked_rating(&store, &people[0]).await, rating(0, 0));
}

async fn a_deleted_user_takes_its_reviews_along(store: Store) {
    let [ann, bob, cid] = people(&store, ["ann", "bob", "cid"]).await;
    for (one, other) in [(&ann, &bob), (&ann, &cid), (&bob, &cid)] {
        had_call(&store, one, other).await;
    }
    let anns = put(&store, &ann, &bob, 5, 1).await.unwrap().review;
    put(&store, &cid, &bob, 2, 1).await.unwrap();
    put(&store, &bob, &ann, 1, 1).await.unwrap();
    let before = told(&store).await.len();
    store.delete_user(ann.id, Some(&hash("secret")), after(2)).await.unwrap();

    assert_eq!(checked_rating(&store, &bob).await, rating(1, 2));
    assert_eq!(checked_rating(&store, &ann).await, rating(0, 0));
    for whose in [Whose::About(ann.id), Whose::By(ann.id)] {
        assert_eq!(store.list_reviews(whose, None, 10).await.unwrap().reviews, []);
    }
    // Bob is told that the review of him went; about Ann nobody needs to know more than that she is gone.
    assert_eq!(told(&store).await[before..], [(anns.id, pb::ReviewChange::Deleted, 2)]);
    let last = store.facts_after(0, 100).await.unwrap().pop().unwrap().1;
    let last = pb::UserFact::decode(last.as_slice()).unwrap();
    assert_eq!(last.payload, Some(Payload::UserDeleted(pb::UserDeleted {})));
    assert!(matches!(put(&store, &bob, &ann, 1, 3).await, Err(Error::UserNotFound(_))));
}

async fn reviews_are_paged_by_their_last_change(store: Store) {
    let [ann] = people(&store, ["ann"]).await;
    let mut reviewers = Vec::new();
    for n in 0..7 {
        let reviewer = user(&format!("reviewer{n}"));
        create(&store, &reviewer).await;
        had_call(&store, &reviewer, &ann).await;
        // Several at the same moment.
        put(&store, &reviewer, &ann, 3, n / 3).await.unwrap();
        reviewers.push(reviewer);
    }
    put(&store, &reviewers[0], &ann, 4, 100).await.unwrap();
    let all = store.list_reviews(Whose::About(ann.id), None, 100).await.unwrap();
    assert!(!all.has_more && all.reviews.len() == 7);
    assert_eq!(all.reviews[0].reviewer_id, reviewers[0].id);
    assert!(all.reviews.is_sorted_by(|one, next| one.place() > next.place()));

    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = store.list_reviews(Whose::About(ann.id), before, 2).await.unwrap();
        before = page.reviews.last().map(Review::place);
        paged.extend(page.reviews);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(paged, all.reviews);
    let own = store.list_reviews(Whose::By(reviewers[3].id), None, 10).await.unwrap().reviews;
    assert_eq!(
        own,
        store.find_review(reviewers[3].id, ann.id).await.unwrap().into_iter().collect::<Vec<_>>()
    );
}

async fn reviews_are_found_by_their_ids_by_those_they_concern(store: Store) {
    let [ann, bob, cid] = people(&store, ["ann", "bob", "cid"]).await;
    for (one, other) in [(&ann, &bob), (&bob, &cid)] {
        had_call(&store, one, other).await;
    }
    let anns = put(&store, &ann, &bob, 4, 1).await.unwrap().review;
    let bobs = put(&store, &bob, &cid, 2, 2).await.unwrap().review;
    let ids = [anns.id, bobs.id, ReviewId::generate()];
    let found = async |viewer: &User, ids: &[ReviewId]| {
        let mut found = store.find_reviews(viewer.id, ids).await.unwrap();
        found.sort_by_key(|review| review.create_time);
        found
    };
    assert_eq!(found(&ann, &ids).await, std::slice::from_ref(&anns));
    assert_eq!(found(&bob, &ids).await, [anns.clone(), bobs.clone()]);
    assert_eq!(found(&cid, &ids).await, [bobs]);
    assert_eq!(found(&cid, &[anns.id]).await, []);
    assert_eq!(found(&bob, &[]).await, []);
}
