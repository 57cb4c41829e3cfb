//! What the store promises about background checks, on both databases.

use std::time::Duration;

use chassis::database::testing;
use proto::id::BackgroundCheckId;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::contract::{after, close, create, hash, user};
use super::*;
use crate::background_check::{BackgroundCheck, End, LIFETIME, NewCheck, State};
use crate::errand::{Errand, Kind};
use crate::refusal::Refusal;
use crate::vault::{Use, Vault};

promises! {
    the_same_request_makes_one_check,
    one_check_is_under_way_at_a_time,
    a_check_without_an_errand_stays_pending,
    there_are_three_checks_in_thirty_days,
    a_check_that_is_handed_in_is_submitted_and_its_words_are_gone,
    a_check_that_is_refused_has_failed,
    a_report_ends_a_check,
    a_report_before_the_answer_counts,
    a_check_that_finds_something_takes_the_mark_back,
    reports_at_once_end_a_check_once,
    checks_of_which_nothing_came_expire,
    a_deleted_user_leaves_no_checks,
}

const DAY: u64 = 86_400;

fn vault() -> Vault {
    Vault::new(b"a key for tests")
}

async fn somebody(store: &Store, name: &str) -> User {
    let user = user(name);
    create(store, &user).await;
    user
}

/// A request so many seconds after the start.
fn request(user: &User, number: u128, words: &str, seconds: u64) -> (NewCheck, Errand) {
    let check = BackgroundCheck {
        id: BackgroundCheckId::generate(),
        user_id: user.id,
        state: State::Pending,
        reference: String::new(),
        create_time: after(seconds),
        update_time: after(seconds),
    };
    let (now, owner) = (after(seconds), (check.id, user.id));
    let errand = Errand::of_check(&vault(), owner, words.to_owned(), now, now.plus(LIFETIME)).unwrap();
    let request_sum = vault().sum(Use::Request, &[words.as_bytes()]);
    (NewCheck { check, request_id: Uuid::from_u128(number), request_sum }, errand)
}

async fn ask(store: &Store, user: &User, number: u128, seconds: u64) -> Result<BackgroundCheck, Error> {
    let (new, errand) = request(user, number, "words", seconds);
    store.request_check(&new, Some(&errand)).await
}

async fn latest(store: &Store, user: &User) -> BackgroundCheck {
    store.latest_check(user.id).await.unwrap().unwrap()
}

async fn mark(store: &Store, user: &User) -> Option<Timestamp> {
    store.find_credentials(user.id).await.unwrap().unwrap().user.standing.background_check_time
}

async fn errands(store: &Store, seconds: u64) -> Vec<Errand> {
    store.claim_errands(Kind::BackgroundCheck, after(seconds), Duration::from_secs(1), 10).await.unwrap()
}

async fn the_same_request_makes_one_check(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    assert!(store.latest_check(ann.id).await.unwrap().is_none());
    let first = ask(&store, &ann, 1, 0).await.unwrap();
    assert_eq!(ask(&store, &ann, 1, 5).await.unwrap(), first);
    let (other, errand) = request(&ann, 1, "other words", 5);
    let reused = store.request_check(&other, Some(&errand)).await;
    assert!(matches!(reused, Err(Error::Refused(Refusal::RequestIdReused))));
    // The same id of somebody else is another request.
    let bobs = ask(&store, &bob, 1, 0).await.unwrap();
    assert_ne!(bobs.id, first.id);
    assert_eq!(errands(&store, 10).await.len(), 2);
    // It answers with how far the check is.
    store.report_check(first.id, State::Clear, "case 7", after(10)).await.unwrap();
    assert_eq!(ask(&store, &ann, 1, 11).await.unwrap().state, State::Clear);
    assert!(matches!(ask(&store, &user("nobody"), 1, 0).await, Err(Error::Unauthenticated)));
}

async fn a_check_without_an_errand_stays_pending(store: Store) {
    let ann = somebody(&store, "ann").await;
    let (new, _) = request(&ann, 1, "words", 0);
    let kept = store.request_check(&new, None).await.unwrap();
    assert_eq!((kept.clone(), kept.state), (latest(&store, &ann).await, State::Pending));
    assert!(errands(&store, 10).await.is_empty());
    assert!(matches!(ask(&store, &ann, 2, 10).await, Err(Error::Refused(Refusal::CheckUnderWay(_)))));
    let end = after(0).plus(LIFETIME);
    assert_eq!(store.expire_checks(end, 10).await.unwrap(), 1);
    assert_eq!(latest(&store, &ann).await.state, State::Expired);
}

async fn one_check_is_under_way_at_a_time(store: Store) {
    let ann = somebody(&store, "ann").await;
    let mut requests = JoinSet::new();
    for number in 0..8 {
        let (store, ann) = (store.clone(), ann.clone());
        requests.spawn(async move { ask(&store, &ann, number, 0).await });
    }
    let outcomes = requests.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let open = latest(&store, &ann).await.id;
    let expected = |outcome: &Result<BackgroundCheck, Error>| match outcome {
        Ok(check) => check.id == open,
        Err(Error::Refused(Refusal::CheckUnderWay(id))) => *id == open,
        Err(_) => false,
    };
    assert!(outcomes.iter().all(expected), "{outcomes:?}");
    assert_eq!(errands(&store, 1).await.len(), 1);
}

async fn there_are_three_checks_in_thirty_days(store: Store) {
    let ann = somebody(&store, "ann").await;
    for number in 0..3 {
        let check = ask(&store, &ann, number.into(), number * DAY).await.unwrap();
        store.report_check(check.id, State::Failed, "", after(number * DAY)).await.unwrap();
    }
    match ask(&store, &ann, 3, 10 * DAY).await {
        Err(Error::RateLimited { wait }) => assert_eq!(wait.as_secs(), 20 * DAY + 1),
        other => panic!("{other:?}"),
    }
    let check = ask(&store, &ann, 3, 30 * DAY).await.unwrap();
    assert_eq!(latest(&store, &ann).await, check);
    let all = store.checks_of(ann.id).await.unwrap();
    assert_eq!((all.len(), &all[0]), (4, &check));
    assert!(all.is_sorted_by_key(|check| std::cmp::Reverse(check.create_time)));
    assert!(store.checks_of(somebody(&store, "bob").await.id).await.unwrap().is_empty());
}

async fn a_check_that_is_handed_in_is_submitted_and_its_words_are_gone(store: Store) {
    let ann = somebody(&store, "ann").await;
    let check = ask(&store, &ann, 1, 0).await.unwrap();
    // Who sends mails has nothing to do with it.
    assert!(store.claim_errands(Kind::Mail, after(0), LIFETIME, 10).await.unwrap().is_empty());
    let lost = errands(&store, 0).await.pop().unwrap();
    let taken = errands(&store, 5).await.pop().unwrap();
    assert_eq!((taken.check_id(), taken.attempts), (check.id, 2));
    // Whoever lost it says nothing about it.
    store.finish_check_errand(&lost, End::Failed, after(6)).await.unwrap();
    assert_eq!(latest(&store, &ann).await, check);
    store.finish_check_errand(&taken, End::Accepted, after(7)).await.unwrap();
    let submitted = BackgroundCheck { state: State::Submitted, update_time: after(7), ..check };
    assert_eq!(latest(&store, &ann).await, submitted);
    assert!(errands(&store, 1000).await.is_empty());
}

async fn a_check_that_is_refused_has_failed(store: Store) {
    let ann = somebody(&store, "ann").await;
    let check = ask(&store, &ann, 1, 0).await.unwrap();
    let taken = errands(&store, 0).await.pop().unwrap();
    store.finish_check_errand(&taken, End::Failed, after(7)).await.unwrap();
    assert_eq!(latest(&store, &ann).await.state, State::Failed);
    assert!(errands(&store, 1000).await.is_empty() && mark(&store, &ann).await.is_none());
    let late = store.report_check(check.id, State::Clear, "", after(8)).await;
    assert!(matches!(late, Err(Error::Refused(Refusal::CheckEnded))));
}

async fn a_report_ends_a_check(store: Store) {
    let ann = somebody(&store, "ann").await;
    let check = ask(&store, &ann, 1, 0).await.unwrap();
    let taken = errands(&store, 0).await.pop().unwrap();
    store.finish_check_errand(&taken, End::Accepted, after(1)).await.unwrap();
    assert!(store.report_check(check.id, State::Clear, "case 7", after(2)).await.unwrap());
    let ended = latest(&store, &ann).await;
    assert_eq!(
        (ended.state, ended.reference.as_str(), ended.update_time),
        (State::Clear, "case 7", after(2))
    );
    assert_eq!(mark(&store, &ann).await, Some(after(2)));
    // Again changes nothing; otherwise is refused.
    assert!(!store.report_check(check.id, State::Clear, "case 8", after(3)).await.unwrap());
    let other = store.report_check(check.id, State::Consider, "", after(3)).await;
    assert!(matches!(other, Err(Error::Refused(Refusal::CheckEnded))));
    assert_eq!((latest(&store, &ann).await, mark(&store, &ann).await), (ended, Some(after(2))));
    let unknown = store.report_check(BackgroundCheckId::generate(), State::Clear, "", after(3)).await;
    assert!(matches!(unknown, Err(Error::Refused(Refusal::CheckNotFound))));
}

async fn a_report_before_the_answer_counts(store: Store) {
    let ann = somebody(&store, "ann").await;
    let check = ask(&store, &ann, 1, 0).await.unwrap();
    let taken = errands(&store, 0).await.pop().unwrap();
    assert!(store.report_check(check.id, State::Clear, "case 7", after(1)).await.unwrap());
    // What the user said is gone, and the answer that comes now changes nothing.
    assert!(errands(&store, 1000).await.is_empty());
    for end in [End::Accepted, End::Failed] {
        store.finish_check_errand(&taken, end, after(2)).await.unwrap();
        assert_eq!(latest(&store, &ann).await.state, State::Clear);
    }
}

async fn a_check_that_finds_something_takes_the_mark_back(store: Store) {
    let ann = somebody(&store, "ann").await;
    let ends = [(State::Clear, Some(1)), (State::Failed, Some(1)), (State::Consider, None)];
    for (number, (end, expected)) in (1..).zip(ends) {
        let check = ask(&store, &ann, number.into(), number).await.unwrap();
        store.report_check(check.id, end, "", after(number)).await.unwrap();
        assert_eq!(mark(&store, &ann).await, expected.map(after), "{end:?}");
    }
}

async fn reports_at_once_end_a_check_once(store: Store) {
    let ann = somebody(&store, "ann").await;
    let check = ask(&store, &ann, 1, 0).await.unwrap();
    let mut reports = JoinSet::new();
    for number in 0..8 {
        let store = store.clone();
        let end = if number % 2 == 0 { State::Clear } else { State::Consider };
        reports.spawn(async move { (end, store.report_check(check.id, end, "", after(1)).await) });
    }
    let outcomes = reports.join_all().await;
    let first: Vec<_> = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Ok(true))).collect();
    let [(end, _)] = first.as_slice() else { panic!("{outcomes:?}") };
    for (reported, outcome) in &outcomes {
        match outcome {
            Ok(_) => assert_eq!(reported, end),
            Err(error) => assert!(matches!(error, Error::Refused(Refusal::CheckEnded)) && reported != end),
        }
    }
    assert_eq!(latest(&store, &ann).await.state, *end);
    assert_eq!(mark(&store, &ann).await.is_some(), *end == State::Clear);
}

async fn checks_of_which_nothing_came_expire(store: Store) {
    let [ann, bob, cid] =
        [somebody(&store, "ann").await, somebody(&store, "bob").await, somebody(&store, "cid").await];
    ask(&store, &ann, 1, 0).await.unwrap();
    let bobs = ask(&store, &bob, 1, 0).await.unwrap();
    store.report_check(bobs.id, State::Clear, "", after(1)).await.unwrap();
    ask(&store, &cid, 1, 60).await.unwrap();
    assert_eq!(store.expire_checks(after(30 * DAY - 1), 10).await.unwrap(), 0);
    assert_eq!(store.expire_checks(after(30 * DAY), 10).await.unwrap(), 1);
    assert_eq!(store.expire_checks(after(30 * DAY), 10).await.unwrap(), 0);
    let ended = latest(&store, &ann).await;
    assert_eq!((ended.state, ended.update_time), (State::Expired, after(30 * DAY)));
    assert_eq!(latest(&store, &bob).await.state, State::Clear);
    assert_eq!(latest(&store, &cid).await.state, State::Pending);
    assert_eq!(store.sweep_errands(after(30 * DAY), 10).await.unwrap(), 1);
    ask(&store, &ann, 2, 30 * DAY).await.unwrap();
}

async fn a_deleted_user_leaves_no_checks(store: Store) {
    let ann = somebody(&store, "ann").await;
    let check = ask(&store, &ann, 1, 0).await.unwrap();
    store.delete_user(ann.id, Some(&hash("secret")), after(1)).await.unwrap();
    assert!(store.latest_check(ann.id).await.unwrap().is_none());
    assert!(errands(&store, 10).await.is_empty());
    let late = store.report_check(check.id, State::Clear, "", after(2)).await;
    assert!(matches!(late, Err(Error::Refused(Refusal::CheckNotFound))));
}
