//! What the store promises about one-time codes and errands, on both databases.

use std::time::Duration;

use chassis::database::testing;
use proto::id::{ErrandId, EventId};
use tokio::task::JoinSet;

use super::contract::{after, amend, close, create, grant, hash, opens, user};
use super::contract_links::once;
use super::*;
use crate::email::Email;
use crate::errand::{Errand, Kind, Task};
use crate::mail::Letter;
use crate::otp::{
    AddressProof, AddressVerification, Code, Form, Issue, LIFETIME, LONG_WINDOW, PROOF_LIFETIME, Purpose,
    Slot, WINDOW,
};
use crate::providers::Link;
use crate::refusal::Refusal;
use crate::user::Changes;
use crate::vault::{Sum, Use, Vault};

promises! {
    a_code_is_right_for_its_slot_only,
    a_code_verifies_once,
    a_code_used_by_many_at_once_is_used_by_one,
    a_new_code_ends_the_one_before,
    a_code_ends_by_itself,
    tries_at_once_are_no_more_than_five,
    a_code_is_right_in_its_flow_only,
    guesses_end_the_code_of_their_own_flow_only,
    a_code_that_was_used_ends_those_of_the_other_flows,
    a_fourth_code_has_to_wait,
    of_requests_at_once_three_get_a_code,
    requests_of_others_neither_refuse_one_nor_end_a_code,
    beyond_three_live_flows_a_code_is_a_token,
    beyond_ten_codes_of_digits_an_hour_a_code_is_a_token,
    of_flows_at_once_three_have_digits,
    flows_that_are_over_are_forgotten,
    a_code_does_nothing_for_an_address_that_has_changed,
    an_address_is_verified_by_one_of_those_who_claim_it,
    of_accounts_that_verify_an_address_at_once_one_has_it,
    an_address_is_replaced_by_who_has_proven_it,
    what_replaces_a_verified_address_resets_nothing_unverified,
    another_address_is_not_verified,
    a_new_password_by_code_ends_all_sessions,
    links_outlive_a_new_password_only_under_a_verified_address,
    old_codes_are_swept,
    a_code_for_signing_up_verifies_an_address_without_an_account,
    a_proof_counts_for_its_network_and_its_time,
    a_proof_is_used_up_by_one_account,
    an_address_without_a_required_proof_is_refused_whether_taken_or_not,
    a_required_proof_is_used_by_one_of_many_at_once,
    old_proofs_are_swept,
    the_key_is_drawn_once,
    an_errand_comes_with_its_code_or_not_at_all,
    an_errand_is_taken_by_one,
    an_errand_that_was_lost_is_taken_again,
    errands_that_make_no_sense_are_swept,
    a_deleted_user_leaves_no_codes_and_no_errands,
}

fn vault() -> Vault {
    Vault::new(b"a key for tests")
}

fn slot(email: &str, purpose: Purpose) -> Slot {
    Slot::new(&vault(), &Email::parse("email", email).unwrap(), purpose)
}

/// A token.
const TOKEN: &str = "0123456789abcdefghjkmnpqrs";

fn code(digits: &str) -> Code {
    Code::parse(digits).unwrap()
}

/// A code for the address of a user, asked for so many seconds after the start.
fn issue(user: &User, purpose: Purpose, digits: &str, seconds: u64) -> Issue {
    let slot = slot(user.email.as_ref().unwrap().as_str(), purpose);
    let expire_time = after(seconds).plus(LIFETIME);
    Issue {
        id: EventId::generate(),
        slot,
        flow: network(1),
        network: network(1),
        digits: slot.sum(&vault(), &code(digits)),
        token: slot.sum(&vault(), &code(TOKEN)),
        user_id: Some(user.id),
        issue_time: after(seconds),
        expire_time,
    }
}

/// One of many networks, and its flow.
fn network(number: u8) -> Sum {
    vault().sum(Use::Network, &[&[number]])
}

/// The same request from another network.
fn from(number: u8, issue: &Issue) -> Issue {
    Issue { id: EventId::generate(), flow: network(number), network: network(number), ..issue.clone() }
}

fn letter(user: Option<&User>) -> Task {
    let email = Email::parse("email", "ann@example.org").unwrap();
    let to = if user.is_some() { Ok(email) } else { Err(email) };
    Task::Mail(Letter::with_code(to, Purpose::VerifyEmail, &code("123456"), None))
}

fn errand(user: Option<&User>, seconds: u64) -> Errand {
    let (due_time, expire_time) = (after(seconds), after(seconds).plus(LIFETIME));
    Errand::new(&vault(), &letter(user), user.map(|user| user.id), due_time, expire_time).unwrap()
}

async fn somebody(store: &Store, name: &str) -> User {
    let email = Email::parse("email", &format!("{name}@example.org")).unwrap();
    let user = User { email: Some(email), ..user(name) };
    create(store, &user).await;
    user
}

/// The same, with an address that is verified.
async fn proven(store: &Store, name: &str) -> User {
    let user = somebody(store, name).await;
    let kept = issue(&user, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let email = user.email.as_ref().unwrap();
    assert!(store.verify_email(&redemption(&user, &kept, email.key(), 0)).await.unwrap());
    user
}

fn redemption<'a>(user: &User, issue: &Issue, email_key: &'a str, seconds: u64) -> Redemption<'a> {
    let Issue { slot, flow, digits: sum, .. } = *issue;
    Redemption { user_id: user.id, email_key, slot, flow, sum, now: after(seconds) }
}

async fn is_verified(store: &Store, user: &User) -> bool {
    store.find_credentials(user.id).await.unwrap().unwrap().user.standing.email_verify_time.is_some()
}

async fn a_code_is_right_for_its_slot_only(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let tried = store.try_code(kept.slot, network(1), after(1)).await.unwrap().unwrap();
    assert_eq!((tried.sum, tried.user_id), (kept.digits, Some(ann.id)));
    for other in
        [slot("ann@example.org", Purpose::ResetPassword), slot("bob@example.org", Purpose::VerifyEmail)]
    {
        assert!(store.try_code(other, network(1), after(1)).await.unwrap().is_none());
    }
    // One for nobody is kept like any other.
    let nobody = Issue { slot: slot("bob@example.org", Purpose::VerifyEmail), user_id: None, ..kept };
    store.issue_code(&nobody, None).await.unwrap();
    assert_eq!(store.try_code(nobody.slot, network(1), after(1)).await.unwrap().unwrap().user_id, None);
}

async fn a_code_verifies_once(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let right = redemption(&ann, &kept, "ann@example.org", 5);
    let wrong = Redemption { sum: issue(&ann, Purpose::VerifyEmail, "654321", 0).digits, ..right };
    assert!(!store.verify_email(&wrong).await.unwrap() && !is_verified(&store, &ann).await);
    assert!(store.verify_email(&right).await.unwrap());
    let found = store.find_credentials(ann.id).await.unwrap().unwrap().user;
    assert_eq!((found.standing.email_verify_time, found.update_time), (Some(after(5)), after(5)));
    assert!(!store.verify_email(&right).await.unwrap());
    assert!(store.try_code(kept.slot, network(1), after(6)).await.unwrap().is_none());
}

async fn a_code_used_by_many_at_once_is_used_by_one(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::ResetPassword, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let mut tries = JoinSet::new();
    for number in 0..6 {
        let (store, ann, kept) = (store.clone(), ann.clone(), kept.clone());
        tries.spawn(async move {
            let right = redemption(&ann, &kept, "ann@example.org", 5);
            store.reset_password(&right, &hash(&format!("new {number}"))).await.unwrap()
        });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|used| *used).count(), 1);
}

async fn a_new_code_ends_the_one_before(store: Store) {
    let ann = somebody(&store, "ann").await;
    let first = issue(&ann, Purpose::VerifyEmail, "111111", 0);
    let second = issue(&ann, Purpose::VerifyEmail, "222222", 10);
    store.issue_code(&first, None).await.unwrap();
    for _ in 0..5 {
        store.try_code(first.slot, network(1), after(5)).await.unwrap().unwrap();
    }
    assert!(store.try_code(first.slot, network(1), after(5)).await.unwrap().is_none());
    store.issue_code(&second, None).await.unwrap();
    // It has tries of its own.
    assert_eq!(store.try_code(first.slot, network(1), after(11)).await.unwrap().unwrap().sum, second.digits);
    assert!(!store.verify_email(&redemption(&ann, &first, "ann@example.org", 11)).await.unwrap());
    assert!(store.verify_email(&redemption(&ann, &second, "ann@example.org", 11)).await.unwrap());
}

async fn a_code_ends_by_itself(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let end = LIFETIME.as_secs();
    assert!(store.try_code(kept.slot, network(1), after(end - 1)).await.unwrap().is_some());
    assert!(store.try_code(kept.slot, network(1), after(end)).await.unwrap().is_none());
    assert!(!store.verify_email(&redemption(&ann, &kept, "ann@example.org", end)).await.unwrap());
}

async fn tries_at_once_are_no_more_than_five(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let mut tries = JoinSet::new();
    for _ in 0..24 {
        let (store, slot) = (store.clone(), kept.slot);
        tries.spawn(async move { store.try_code(slot, network(1), after(1)).await.unwrap().is_some() });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|tried| *tried).count(), 5);
}

async fn a_code_is_right_in_its_flow_only(store: Store) {
    let ann = somebody(&store, "ann").await;
    let anns = issue(&ann, Purpose::ResetPassword, "123456", 0);
    let eves = Issue { digits: anns.slot.sum(&vault(), &code("654321")), ..from(2, &anns) };
    for kept in [&anns, &eves] {
        store.issue_code(kept, None).await.unwrap();
    }
    assert_eq!(store.try_code(anns.slot, anns.flow, after(1)).await.unwrap().unwrap().sum, anns.digits);
    assert_eq!(store.try_code(anns.slot, eves.flow, after(1)).await.unwrap().unwrap().sum, eves.digits);
    assert!(store.try_code(anns.slot, network(3), after(1)).await.unwrap().is_none());
    let right = redemption(&ann, &anns, "ann@example.org", 2);
    for flow in [eves.flow, network(3)] {
        assert!(!store.reset_password(&Redemption { flow, ..right }, &hash("new")).await.unwrap());
    }
    assert!(store.reset_password(&right, &hash("new")).await.unwrap());
}

async fn guesses_end_the_code_of_their_own_flow_only(store: Store) {
    let ann = somebody(&store, "ann").await;
    let anns = issue(&ann, Purpose::ResetPassword, "123456", 0);
    store.issue_code(&anns, None).await.unwrap();
    store.issue_code(&from(2, &anns), None).await.unwrap();
    for number in 2..60 {
        for _ in 0..10 {
            store.try_code(anns.slot, network(number), after(1)).await.unwrap();
        }
    }
    assert!(store.try_code(anns.slot, network(2), after(1)).await.unwrap().is_none());
    assert_eq!(store.try_code(anns.slot, anns.flow, after(1)).await.unwrap().unwrap().sum, anns.digits);
    // The next code of the flow may be tried anew.
    store.issue_code(&from(2, &issue(&ann, Purpose::ResetPassword, "222222", 2)), None).await.unwrap();
    assert!(store.try_code(anns.slot, network(2), after(3)).await.unwrap().is_some());
}

async fn a_code_that_was_used_ends_those_of_the_other_flows(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::ResetPassword, "123456", 0);
    let other = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    for kept in [&kept, &from(2, &kept), &other] {
        store.issue_code(kept, None).await.unwrap();
    }
    assert!(
        store.reset_password(&redemption(&ann, &kept, "ann@example.org", 1), &hash("new")).await.unwrap()
    );
    for flow in [kept.flow, network(2)] {
        assert!(store.try_code(kept.slot, flow, after(1)).await.unwrap().is_none());
    }
    assert!(store.try_code(other.slot, other.flow, after(1)).await.unwrap().is_some());
}

async fn requests_of_others_neither_refuse_one_nor_end_a_code(store: Store) {
    let ann = somebody(&store, "ann").await;
    let first = issue(&ann, Purpose::ResetPassword, "123456", 0);
    store.issue_code(&first, None).await.unwrap();
    // Each of many networks asks as often as it may, and once more.
    for number in 2..40 {
        let other = from(number, &first);
        for _ in 0..3 {
            store.issue_code(&Issue { id: EventId::generate(), ..other }, None).await.unwrap();
        }
        let refused = store.issue_code(&Issue { id: EventId::generate(), ..other }, None).await;
        assert!(matches!(refused, Err(Error::RateLimited { .. })));
    }
    assert_eq!(store.try_code(first.slot, first.flow, after(1)).await.unwrap().unwrap().sum, first.digits);
    // Nor do they refuse the next one: digits in the flow that has digits, a token in another.
    let second = issue(&ann, Purpose::ResetPassword, "222222", 2);
    assert_eq!(store.issue_code(&second, None).await.unwrap(), Form::Digits);
    assert_eq!(store.try_code(first.slot, first.flow, after(3)).await.unwrap().unwrap().sum, second.digits);
    let third = from(50, &issue(&ann, Purpose::ResetPassword, "333333", 3));
    assert_eq!(store.issue_code(&third, None).await.unwrap(), Form::Token);
    let right = Redemption { sum: third.token, ..redemption(&ann, &third, "ann@example.org", 4) };
    assert!(store.reset_password(&right, &hash("new")).await.unwrap());
}

async fn beyond_three_live_flows_a_code_is_a_token(store: Store) {
    let ann = somebody(&store, "ann").await;
    let (short, long) = (errand(Some(&ann), 0), errand(Some(&ann), 0));
    let ask = async |number, seconds, letters| {
        let kept = from(number, &issue(&ann, Purpose::ResetPassword, "123456", seconds));
        store.issue_code(&kept, letters).await.unwrap()
    };
    for number in 0..3 {
        assert_eq!(ask(number, 0, None).await, Form::Digits);
    }
    // A flow that has digits gets digits again; one more does not, and the mail that is kept has the token.
    assert_eq!(ask(2, 1, None).await, Form::Digits);
    assert_eq!(ask(3, 1, Some(Letters { digits: &short, token: &long })).await, Form::Token);
    let kept = store.claim_errands(Kind::Mail, after(2), LIFETIME, 10).await.unwrap();
    assert_eq!(kept.iter().map(|one| one.id).collect::<Vec<_>>(), [long.id]);
    let other = from(3, &issue(&ann, Purpose::VerifyEmail, "123456", 1));
    assert_eq!(store.issue_code(&other, None).await.unwrap(), Form::Digits, "another purpose");
    // Two of the three have ended.
    let end = LIFETIME.as_secs();
    assert_eq!(ask(4, end, None).await, Form::Digits);
}

async fn beyond_ten_codes_of_digits_an_hour_a_code_is_a_token(store: Store) {
    let ann = somebody(&store, "ann").await;
    let ask = async |number: u8, seconds| {
        let kept = from(number, &issue(&ann, Purpose::ResetPassword, "123456", seconds));
        store.issue_code(&kept, None).await.unwrap()
    };
    let step = LIFETIME.as_secs();
    for number in 0..10 {
        assert_eq!(ask(number, u64::from(number) * step).await, Form::Digits, "{number}");
    }
    assert_eq!(ask(10, 10 * step).await, Form::Token);
    assert_eq!(ask(11, LONG_WINDOW.as_secs()).await, Form::Digits);
}

async fn of_flows_at_once_three_have_digits(store: Store) {
    let ann = somebody(&store, "ann").await;
    let mut requests = JoinSet::new();
    for number in 0..12 {
        let (store, kept) = (store.clone(), from(number, &issue(&ann, Purpose::VerifyEmail, "123456", 0)));
        requests.spawn(async move { store.issue_code(&kept, None).await.unwrap() });
    }
    let forms = requests.join_all().await;
    assert_eq!(forms.iter().filter(|form| **form == Form::Digits).count(), 3);
}

async fn flows_that_are_over_are_forgotten(store: Store) {
    let ann = somebody(&store, "ann").await;
    let first = issue(&ann, Purpose::ResetPassword, "123456", 0);
    store.issue_code(&first, None).await.unwrap();
    let end = LIFETIME.as_secs();
    store.issue_code(&from(2, &issue(&ann, Purpose::ResetPassword, "123456", end)), None).await.unwrap();
    // At a time at which it would be right if it was still there.
    assert!(store.try_code(first.slot, first.flow, after(1)).await.unwrap().is_none());
}

async fn a_fourth_code_has_to_wait(store: Store) {
    let ann = somebody(&store, "ann").await;
    let ask = async |purpose, seconds| {
        let kept = issue(&ann, purpose, "123456", seconds);
        let errand = errand(Some(&ann), seconds);
        store.issue_code(&kept, Some(Letters { digits: &errand, token: &errand })).await
    };
    for seconds in [0, 60, 120] {
        ask(Purpose::VerifyEmail, seconds).await.unwrap();
    }
    match ask(Purpose::VerifyEmail, 180).await {
        Err(Error::RateLimited { wait }) => assert_eq!(wait, WINDOW - Duration::from_secs(180)),
        other => panic!("{other:?}"),
    }
    // What was refused has sent nothing, and ends nothing.
    assert_eq!(store.claim_errands(Kind::Mail, after(1000), LIFETIME, 100).await.unwrap().len(), 3);
    ask(Purpose::ResetPassword, 180).await.unwrap();
    let end = WINDOW.as_secs();
    assert!(ask(Purpose::VerifyEmail, end - 1).await.is_err());
    ask(Purpose::VerifyEmail, end).await.unwrap();
    assert!(ask(Purpose::VerifyEmail, end + 59).await.is_err());
    ask(Purpose::VerifyEmail, end + 60).await.unwrap();
}

async fn of_requests_at_once_three_get_a_code(store: Store) {
    let ann = somebody(&store, "ann").await;
    let mut requests = JoinSet::new();
    for _ in 0..12 {
        let (store, kept) = (store.clone(), issue(&ann, Purpose::VerifyEmail, "123456", 0));
        requests.spawn(async move { store.issue_code(&kept, None).await });
    }
    let outcomes = requests.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(Error::RateLimited { .. }))));
}

fn moving_to(email: &str) -> Changes {
    Changes { email: Some(Some(Email::parse("email", email).unwrap())), ..Changes::default() }
}

async fn a_code_does_nothing_for_an_address_that_has_changed(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::ResetPassword, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    amend(&store, ann.id, &moving_to("new@example.org"), after(1)).await.unwrap();
    let right = redemption(&ann, &kept, "ann@example.org", 2);
    assert!(!store.reset_password(&right, &hash("new")).await.unwrap());
    let found = store.find_credentials(ann.id).await.unwrap().unwrap();
    assert_eq!((found.hash, found.user.standing.email_verify_time), (Some(hash("secret")), None));
}

/// Accounts that claim one address, and codes for it.
async fn claimants(store: &Store, names: &[&str], purpose: Purpose) -> Vec<(User, Issue)> {
    let email = Email::parse("email", "ann@example.org").unwrap();
    let mut claimants = Vec::new();
    for (name, number) in names.iter().zip(1..) {
        let user = User { email: Some(email.clone()), ..user(name) };
        create(store, &user).await;
        let kept = from(number, &issue(&user, purpose, "123456", 0));
        store.issue_code(&kept, None).await.unwrap();
        claimants.push((user, kept));
    }
    claimants
}

async fn an_address_is_verified_by_one_of_those_who_claim_it(store: Store) {
    let claimants = claimants(&store, &["ann", "eve"], Purpose::VerifyEmail).await;
    let [(ann, anns), (eve, eves)] = claimants.as_slice() else { panic!("{claimants:?}") };
    assert!(store.verify_email(&redemption(ann, anns, "ann@example.org", 1)).await.unwrap());
    assert!(!store.verify_email(&redemption(eve, eves, "ann@example.org", 1)).await.unwrap());
    for purpose in [Purpose::VerifyEmail, Purpose::ResetPassword] {
        let next = from(2, &issue(eve, purpose, "123456", 2));
        store.issue_code(&next, None).await.unwrap();
        let right = redemption(eve, &next, "ann@example.org", 3);
        let refused = match purpose {
            Purpose::VerifyEmail => store.verify_email(&right).await,
            _ => store.reset_password(&right, &hash("new")).await,
        };
        assert!(matches!(refused, Err(Error::EmailTaken)), "{purpose:?} {refused:?}");
    }
    assert!(is_verified(&store, ann).await && !is_verified(&store, eve).await);
    assert_eq!(store.find_credentials(eve.id).await.unwrap().unwrap().hash, Some(hash("secret")));
}

async fn of_accounts_that_verify_an_address_at_once_one_has_it(store: Store) {
    let mut tries = JoinSet::new();
    for (user, kept) in claimants(&store, &["ann", "bob", "cid"], Purpose::VerifyEmail).await {
        let store = store.clone();
        tries.spawn(async move {
            store.verify_email(&redemption(&user, &kept, "ann@example.org", 1)).await.unwrap()
        });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|verified| *verified).count(), 1);
}

async fn an_address_is_replaced_by_who_has_proven_it(store: Store) {
    let ann = somebody(&store, "ann").await;
    let (farewell, notice) = (errand(Some(&ann), 1), errand(None, 1));
    let other = Email::parse("email", "eve@example.org").unwrap();
    let email = ann.email.as_ref().unwrap();
    let (right, wrong) = (hash("secret"), hash("another"));
    let gone = Changes { email: Some(None), ..Changes::default() };
    let replace = async |changes: &Changes, email: Option<&Email>, verified: Option<&PasswordHash>| {
        let proof = OwnerProof { email, verified, farewell: Some(&farewell), notice: Some(&notice) };
        store.update_user(&Update { user_id: ann.id, changes, proof: Some(proof), now: after(1) }).await
    };
    for changes in [&gone, &moving_to("new@example.org")] {
        // Nothing is proven, or that of another address or under another password: somebody was faster.
        for (email, verified) in
            [(None, None), (Some(&other), Some(&right)), (Some(email), Some(&wrong)), (Some(email), None)]
        {
            assert!(matches!(replace(changes, email, verified).await, Err(Error::BadCredentials)));
        }
    }
    assert!(store.claim_errands(Kind::Mail, after(1), LIFETIME, 10).await.unwrap().is_empty());
    let moved = replace(&moving_to("new@example.org"), Some(email), Some(&right)).await.unwrap().unwrap();
    assert_eq!(moved.email.unwrap().as_str(), "new@example.org");
    let told = store.claim_errands(Kind::Mail, after(1), LIFETIME, 10).await.unwrap();
    assert_eq!(told.into_iter().map(|one| one.id).collect::<Vec<_>>(), [farewell.id, notice.id]);

    // The first address takes a proof too.
    let without = amend(&store, ann.id, &gone, after(2)).await.unwrap().unwrap();
    assert_eq!(without.email, None);
    let first = moving_to("first@example.org");
    let unproven = Update { user_id: ann.id, changes: &first, proof: None, now: after(3) };
    assert!(matches!(store.update_user(&unproven).await, Err(Error::BadCredentials)));
    assert!(matches!(replace(&first, None, Some(&wrong)).await, Err(Error::BadCredentials)));
    assert!(amend(&store, ann.id, &first, after(4)).await.unwrap().unwrap().email.is_some());
}

async fn what_replaces_a_verified_address_resets_nothing_unverified(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    assert!(store.verify_email(&redemption(&ann, &kept, "ann@example.org", 1)).await.unwrap());
    let none = Changes { email: Some(None), ..Changes::default() };
    amend(&store, ann.id, &none, after(2)).await.unwrap();
    let moved = amend(&store, ann.id, &moving_to("new@example.org"), after(3)).await.unwrap().unwrap();
    let reset = async |seconds| {
        let kept = issue(&moved, Purpose::ResetPassword, "123456", seconds);
        store.issue_code(&kept, None).await.unwrap();
        let right = redemption(&moved, &kept, "new@example.org", seconds);
        store.reset_password(&right, &hash("new")).await.unwrap()
    };
    assert!(!reset(4).await);
    let kept = issue(&moved, Purpose::VerifyEmail, "123456", 5);
    store.issue_code(&kept, None).await.unwrap();
    assert!(store.verify_email(&redemption(&moved, &kept, "new@example.org", 5)).await.unwrap());
    assert!(reset(6).await);
}

async fn another_address_is_not_verified(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = issue(&ann, Purpose::VerifyEmail, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    assert!(store.verify_email(&redemption(&ann, &kept, "ann@example.org", 1)).await.unwrap());
    let same = amend(&store, ann.id, &moving_to("Ann@Example.ORG"), after(2)).await.unwrap().unwrap();
    assert!(same.standing.email_verify_time.is_some() && is_verified(&store, &ann).await);
    for email in ["new@example.org", "ann@example.org"] {
        let moved = amend(&store, ann.id, &moving_to(email), after(3)).await.unwrap().unwrap();
        assert!(moved.standing.email_verify_time.is_none() && !is_verified(&store, &ann).await, "{email}");
    }
}

async fn a_new_password_by_code_ends_all_sessions(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    let (anns, bobs) = (grant(&ann, after(1)), grant(&bob, after(1)));
    for grant in [&anns, &bobs] {
        let sign_in = SignIn { grant, verified: &hash("secret"), rehashed: None, most: 20 };
        store.sign_in(sign_in).await.unwrap();
    }
    let kept = issue(&ann, Purpose::ResetPassword, "123456", 0);
    store.issue_code(&kept, None).await.unwrap();
    let right = redemption(&ann, &kept, "ann@example.org", 2);
    assert!(store.reset_password(&right, &hash("new")).await.unwrap());
    assert!(!opens(&store, &anns.token).await && opens(&store, &bobs.token).await);
    assert!(store.sessions_of(ann.id).await.unwrap().is_empty());
    let found = store.find_credentials(ann.id).await.unwrap().unwrap();
    assert_eq!((found.hash, found.user.standing.email_verify_time), (Some(hash("new")), Some(after(2))));
}

async fn links_outlive_a_new_password_only_under_a_verified_address(store: Store) {
    let ann = somebody(&store, "ann").await;
    let [issuer, subject, provider] = ["https://one.example.org", "42", "one"].map(str::to_owned);
    let link = Link { user_id: ann.id, issuer, subject, provider, create_time: after(0) };
    for (number, seconds) in [(0, 0), (1, 100)] {
        store.link(&link, &once()).await.unwrap();
        let kept = issue(&ann, Purpose::ResetPassword, "123456", seconds);
        store.issue_code(&kept, None).await.unwrap();
        let right = redemption(&ann, &kept, "ann@example.org", seconds + 1);
        assert!(store.reset_password(&right, &hash("new")).await.unwrap());
        assert_eq!(store.links_of(ann.id).await.unwrap().len(), number);
    }
}

async fn old_codes_are_swept(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    store.issue_code(&issue(&ann, Purpose::VerifyEmail, "123456", 0), None).await.unwrap();
    store.issue_code(&issue(&bob, Purpose::VerifyEmail, "123456", 60), None).await.unwrap();
    assert_eq!(store.sweep_codes(after(LONG_WINDOW.as_secs() - 1), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_codes(after(LONG_WINDOW.as_secs()), 10).await.unwrap(), 1);
    assert_eq!(store.sweep_codes(after(LONG_WINDOW.as_secs() + 60), 10).await.unwrap(), 1);
}

/// Verifies an address for signing up, from this network.
async fn verify_address(store: &Store, email: &str, from: Sum, seconds: u64) -> bool {
    let slot = slot(email, Purpose::SignUp);
    let sum = slot.sum(&vault(), &code("123456"));
    let issue = Issue {
        id: EventId::generate(),
        slot,
        flow: from,
        network: from,
        digits: sum,
        token: sum,
        user_id: None,
        issue_time: after(seconds),
        expire_time: after(seconds).plus(LIFETIME),
    };
    store.issue_code(&issue, None).await.unwrap();
    let proof = AddressProof { address: slot.address, network: from };
    let verification = AddressVerification { slot, flow: from, sum, proof, now: after(seconds) };
    store.verify_address(&verification).await.unwrap()
}

/// Registers with an address, from this network; whether it is verified.
async fn registers(store: &Store, name: &str, email: &str, from: Sum, seconds: u64) -> Result<bool, Error> {
    registers_with(store, name, email, from, seconds, false).await
}

/// The same, where a proof of the address may be required.
async fn registers_with(
    store: &Store,
    name: &str,
    email: &str,
    from: Sum,
    seconds: u64,
    requires_proof: bool,
) -> Result<bool, Error> {
    let email = Email::parse("email", email).unwrap();
    let proof = AddressProof { address: slot(email.as_str(), Purpose::SignUp).address, network: from };
    let user = User { email: Some(email), create_time: after(seconds), ..user(name) };
    let first = grant(&user, after(seconds));
    let hash = hash("secret");
    let new = NewAccount {
        user,
        hash: &hash,
        first: &first,
        proof: Some(&proof),
        requires_proof,
        requires_unclaimed: false,
        notice: None,
    };
    let kept = store.register(new).await?;
    assert!(opens(store, &first.token).await);
    let found = store.find_credentials(kept.id).await.unwrap().unwrap().user;
    assert_eq!(found, kept);
    Ok(kept.standing.email_verify_time.is_some())
}

async fn a_code_for_signing_up_verifies_an_address_without_an_account(store: Store) {
    let (email, from) = ("ann@example.org", network(1));
    let slot = slot(email, Purpose::SignUp);
    let sum = slot.sum(&vault(), &code("654321"));
    let proof = AddressProof { address: slot.address, network: from };
    let none = AddressVerification { slot, flow: from, sum, proof, now: after(0) };
    assert!(!store.verify_address(&none).await.unwrap(), "there is no code");
    assert!(verify_address(&store, email, from, 0).await);
    assert!(!store.verify_address(&none).await.unwrap(), "another code");
    let again = AddressVerification { sum: slot.sum(&vault(), &code("123456")), ..none };
    assert!(!store.verify_address(&again).await.unwrap(), "it was used");
    assert!(registers(&store, "ann", "ANN@example.org", from, 1).await.unwrap());
}

async fn a_proof_counts_for_its_network_and_its_time(store: Store) {
    let within = PROOF_LIFETIME.as_secs();
    for email in ["ann@example.org", "bob@example.org", "cid@example.org"] {
        assert!(verify_address(&store, email, network(1), 0).await);
    }
    assert!(!registers(&store, "ann", "ann@example.org", network(2), 1).await.unwrap());
    assert!(registers(&store, "bob", "bob@example.org", network(1), within - 1).await.unwrap());
    assert!(!registers(&store, "cid", "cid@example.org", network(1), within).await.unwrap());
    assert!(!registers(&store, "dan", "dan@example.org", network(1), 1).await.unwrap());
}

async fn a_proof_is_used_up_by_one_account(store: Store) {
    let ann = proven(&store, "ann").await;
    // An address that is taken may be verified, and stays taken.
    assert!(verify_address(&store, "ann@example.org", network(1), 0).await);
    let taken = registers(&store, "ann2", "ann@example.org", network(1), 1).await;
    assert!(matches!(taken, Err(Error::EmailTaken)));
    store.delete_user(ann.id, Some(&hash("secret")), after(2)).await.unwrap();
    assert!(registers(&store, "ann3", "ann@example.org", network(1), 3).await.unwrap());
    let third = store.find_login(&Login::Email("ann@example.org".to_owned())).await.unwrap().unwrap().user;
    store.delete_user(third.id, Some(&hash("secret")), after(4)).await.unwrap();
    assert!(!registers(&store, "ann4", "ann@example.org", network(1), 5).await.unwrap());
}

fn is_not_verified(result: &Result<bool, Error>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::EmailNotVerified)))
}

async fn an_address_without_a_required_proof_is_refused_whether_taken_or_not(store: Store) {
    proven(&store, "ann").await;
    let (taken, free, end) = ("ann@example.org", "bob@example.org", PROOF_LIFETIME.as_secs());
    let tries = async |name: &str, email: &str, from: Sum, seconds: u64| {
        registers_with(&store, name, email, from, seconds, true).await
    };
    // No proof; then proofs of another network, and one that has ended. The name may be taken too.
    for email in [taken, free] {
        for name in ["bob", "ann"] {
            assert!(is_not_verified(&tries(name, email, network(1), 0).await), "{name} {email}");
        }
        assert!(verify_address(&store, email, network(1), 0).await);
        assert!(is_not_verified(&tries("bob", email, network(2), 1).await), "{email}");
        assert!(is_not_verified(&tries("bob", email, network(1), end).await), "{email}");
    }
    let user = User { email: None, ..user("cid") };
    let (hash, first) = (hash("secret"), grant(&user, after(1)));
    let new = NewAccount {
        user: user.clone(),
        hash: &hash,
        first: &first,
        proof: None,
        requires_proof: true,
        requires_unclaimed: false,
        notice: None,
    };
    let unnamed = store.register(new).await;
    assert!(matches!(unnamed, Err(Error::Refused(Refusal::EmailNotVerified))));

    // With a proof the taken address is said to be taken, and the account of the free one is verified. The proof outlives a
    // name that is taken.
    assert!(matches!(tries("bob", taken, network(1), 1).await, Err(Error::EmailTaken)));
    assert!(matches!(tries("ann", free, network(1), 1).await, Err(Error::UsernameTaken(_))));
    assert!(tries("bob", free, network(1), end - 1).await.unwrap());
    assert!(is_not_verified(&tries("bob2", free, network(1), end - 1).await), "the proof was used up");
}

async fn a_required_proof_is_used_by_one_of_many_at_once(store: Store) {
    assert!(verify_address(&store, "ann@example.org", network(1), 0).await);
    let mut processes = JoinSet::new();
    for number in 0..6 {
        let (store, name) = (store.clone(), format!("ann{number}"));
        processes.spawn(async move {
            registers_with(&store, &name, "ann@example.org", network(1), 1, true).await
        });
    }
    let results = processes.join_all().await;
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(true))).count(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|result| is_not_verified(result)).count(), 5, "{results:?}");
}

async fn old_proofs_are_swept(store: Store) {
    for email in ["ann@example.org", "bob@example.org"] {
        assert!(verify_address(&store, email, network(1), 0).await);
    }
    let end = PROOF_LIFETIME.as_secs();
    assert!(verify_address(&store, "bob@example.org", network(1), 600).await);
    assert_eq!(store.sweep_address_proofs(after(end - 1), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_address_proofs(after(end), 10).await.unwrap(), 1);
    assert_eq!(store.sweep_address_proofs(after(end), 10).await.unwrap(), 0);
    assert!(registers(&store, "bob", "bob@example.org", network(1), end).await.unwrap());
}

async fn the_key_is_drawn_once(store: Store) {
    let mut processes = JoinSet::new();
    for number in 0..6_u8 {
        let store = store.clone();
        processes.spawn(async move { store.service_key("vault", &[number; 32]).await.unwrap() });
    }
    let keys = processes.join_all().await;
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
    assert_ne!(store.service_key("another", &[9; 32]).await.unwrap(), keys[0]);
}

async fn an_errand_comes_with_its_code_or_not_at_all(store: Store) {
    let ann = somebody(&store, "ann").await;
    let kept = errand(Some(&ann), 0);
    let letters = Letters { digits: &kept, token: &kept };
    store.issue_code(&issue(&ann, Purpose::VerifyEmail, "123456", 0), Some(letters)).await.unwrap();
    // The second has the id of the first: it is refused, and with it its code.
    let refused = store.issue_code(&issue(&ann, Purpose::ResetPassword, "123456", 0), Some(letters)).await;
    assert!(refused.is_err());
    let slot = slot("ann@example.org", Purpose::ResetPassword);
    assert!(store.try_code(slot, network(1), after(1)).await.unwrap().is_none());
    let claimed = store.claim_errands(Kind::Mail, after(1), LIFETIME, 10).await.unwrap();
    let [claimed] = claimed.as_slice() else { panic!("{claimed:?}") };
    assert_eq!((claimed.id, claimed.attempts, claimed.user_id), (kept.id, 1, Some(ann.id)));
    assert!(matches!(claimed.open(&vault()), Some(Task::Mail(_))));
}

async fn keep(store: &Store, count: u64) -> Vec<ErrandId> {
    let mut ids = Vec::new();
    for number in 0..count {
        let ann = somebody(store, &format!("ann{number}")).await;
        let kept = errand(Some(&ann), number);
        let letters = Letters { digits: &kept, token: &kept };
        store.issue_code(&issue(&ann, Purpose::VerifyEmail, "123456", 0), Some(letters)).await.unwrap();
        ids.push(kept.id);
    }
    ids
}

async fn an_errand_is_taken_by_one(store: Store) {
    let ids = keep(&store, 8).await;
    let mut processes = JoinSet::new();
    for _ in 0..6 {
        let store = store.clone();
        processes
            .spawn(async move { store.claim_errands(Kind::Mail, after(100), LIFETIME, 3).await.unwrap() });
    }
    let mut taken: Vec<_> = processes.join_all().await.into_iter().flatten().map(|one| one.id).collect();
    // What somebody is taking at this moment is passed over, so a few may be left.
    taken.extend(
        store
            .claim_errands(Kind::Mail, after(100), LIFETIME, 10)
            .await
            .unwrap()
            .into_iter()
            .map(|one| one.id),
    );
    taken.sort_unstable();
    assert_eq!(taken, ids);
}

async fn an_errand_that_was_lost_is_taken_again(store: Store) {
    keep(&store, 2).await;
    let lease = Duration::from_secs(60);
    // The first is due before the second.
    let lost = store.claim_errands(Kind::Mail, after(0), lease, 10).await.unwrap().pop().unwrap();
    assert_eq!(store.claim_errands(Kind::Mail, after(10), lease, 10).await.unwrap().len(), 1);
    assert!(store.claim_errands(Kind::Mail, after(59), lease, 10).await.unwrap().is_empty());
    let taken = store.claim_errands(Kind::Mail, after(60), lease, 10).await.unwrap().pop().unwrap();
    assert_eq!((taken.id, taken.attempts), (lost.id, 2));
    // Whoever lost it neither ends it nor puts it off.
    store.finish_errand(&lost).await.unwrap();
    store.postpone_errand(&lost, after(0)).await.unwrap();
    assert!(store.claim_errands(Kind::Mail, after(61), lease, 1).await.unwrap().is_empty());
    store.postpone_errand(&taken, after(65)).await.unwrap();
    let again = store.claim_errands(Kind::Mail, after(65), lease, 1).await.unwrap().pop().unwrap();
    assert_eq!((again.id, again.attempts), (lost.id, 3));
    store.finish_errand(&again).await.unwrap();
    let left = store.claim_errands(Kind::Mail, after(1000), lease, 10).await.unwrap();
    assert!(left.len() == 1 && left[0].id != lost.id);
}

async fn errands_that_make_no_sense_are_swept(store: Store) {
    keep(&store, 3).await;
    let end = LIFETIME.as_secs();
    assert_eq!(store.sweep_errands(after(end - 1), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_errands(after(end + 1), 1).await.unwrap(), 1);
    assert_eq!(store.sweep_errands(after(end + 2), 10).await.unwrap(), 2);
}

async fn a_deleted_user_leaves_no_codes_and_no_errands(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    for user in [&ann, &bob] {
        let kept = issue(user, Purpose::VerifyEmail, "123456", 0);
        let errand = errand(Some(user), 0);
        store.issue_code(&kept, Some(Letters { digits: &errand, token: &errand })).await.unwrap();
    }
    store.delete_user(ann.id, Some(&hash("secret")), after(1)).await.unwrap();
    let tried = async |name: &str| {
        store
            .try_code(slot(&format!("{name}@example.org"), Purpose::VerifyEmail), network(1), after(2))
            .await
            .unwrap()
    };
    assert!(tried("ann").await.is_none() && tried("bob").await.is_some());
    let left = store.claim_errands(Kind::Mail, after(2), LIFETIME, 10).await.unwrap();
    assert!(left.len() == 1 && left[0].user_id == Some(bob.id));
}
