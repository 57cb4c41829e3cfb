//! What the store promises about links to providers, on both databases.

use chassis::database::testing;
use tokio::task::JoinSet;

use super::contract::{after, close, create, grant, hash, opens, user};
use super::*;
use crate::email::Email;
use crate::once::Once;
use crate::providers::Link;
use crate::refusal::Refusal;
use crate::standing::Standing;

promises! {
    an_identity_opens_the_account_it_is_linked_to,
    an_identity_that_comes_twice_at_once_gets_one_account,
    an_account_comes_with_its_link_or_not_at_all,
    an_identity_opens_one_account_only,
    an_account_has_one_identity_at_a_provider,
    a_link_that_was_taken_back_opens_nothing,
    the_last_way_in_stays,
    of_two_links_one_stays,
    sign_ins_with_an_identity_leave_no_session_too_many,
    a_deleted_user_leaves_no_links,
    a_token_is_used_once,
    a_token_used_by_many_at_once_is_used_by_one,
    a_token_that_opened_nothing_is_not_used_up,
    old_tokens_are_forgotten,
}

fn link(user: &User, issuer: &str, subject: &str) -> Link {
    Link {
        user_id: user.id,
        issuer: format!("https://{issuer}.example.org"),
        subject: subject.to_owned(),
        provider: issuer.to_owned(),
        create_time: after(0),
    }
}

async fn somebody(store: &Store, name: &str) -> User {
    let user = user(name);
    create(store, &user).await;
    user
}

/// A token that no other test has.
pub(super) fn once() -> Once {
    token(&UserId::generate().to_string(), 3600)
}

/// A token with this id, which ends so many seconds after the start.
fn token(id: &str, seconds: u64) -> Once {
    let payload = UserId::generate().to_string();
    let end = f64::from(u32::try_from(after(seconds).as_millis() / 1000).unwrap());
    Once::of("https://one.example.org", payload.as_bytes(), Some(id), None, end)
}

fn is_used<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::IdTokenInvalid(rule))) if rule.contains("was used"))
}

async fn without_password(store: &Store, name: &str) -> (User, Link) {
    let user = user(name);
    let link = link(&user, "one", name);
    store.create_linked(&user, &link, &grant(&user, after(0)), &once()).await.unwrap();
    (user, link)
}

async fn opened(store: &Store, link: &Link) -> Option<UserId> {
    store.find_linked(&link.issuer, &link.subject).await.unwrap()
}

async fn an_identity_opens_the_account_it_is_linked_to(store: Store) {
    let email = Some(Email::parse("email", "ann@example.org").unwrap());
    let standing = Standing { email_verify_time: Some(after(0)), ..Standing::default() };
    let ann = User { email, standing, ..user("ann") };
    let (anns, first) = (link(&ann, "one", "42"), grant(&ann, after(0)));
    store.create_linked(&ann, &anns, &first, &once()).await.unwrap();
    assert!(opens(&store, &first.token).await);
    assert_eq!(store.links_of(ann.id).await.unwrap(), std::slice::from_ref(&anns));
    assert_eq!(opened(&store, &anns).await, Some(ann.id));
    for other in [link(&ann, "two", "42"), link(&ann, "one", "43"), link(&ann, "one", "")] {
        assert_eq!(opened(&store, &other).await, None);
    }
    let second = grant(&ann, after(1));
    let (found, ended) =
        store.sign_in_linked((&anns.issuer, &anns.subject), &second, 20, &once()).await.unwrap();
    assert_eq!((found, ended), (ann.clone(), vec![]));
    assert!(opens(&store, &second.token).await);
    // Somebody else's identity opens nothing, whatever the session says.
    let bob = somebody(&store, "bob").await;
    let forged =
        store.sign_in_linked((&anns.issuer, &anns.subject), &grant(&bob, after(1)), 20, &once()).await;
    assert!(matches!(forged, Err(Error::BadCredentials)));
}

async fn an_identity_that_comes_twice_at_once_gets_one_account(store: Store) {
    let mut tries = JoinSet::new();
    for number in 0..8 {
        let store = store.clone();
        tries.spawn(async move {
            let user = user(&format!("ann{number}"));
            store.create_linked(&user, &link(&user, "one", "42"), &grant(&user, after(0)), &once()).await
        });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let expected =
        |outcome: &Result<(), Error>| matches!(outcome, Ok(()) | Err(Error::Refused(Refusal::IdentityTaken)));
    assert!(outcomes.iter().all(expected), "{outcomes:?}");
}

async fn an_account_comes_with_its_link_or_not_at_all(store: Store) {
    let (_, anns) = without_password(&store, "ann").await;
    let bob = user("bob");
    let taken = Link { user_id: bob.id, ..anns };
    let refused = store.create_linked(&bob, &taken, &grant(&bob, after(0)), &once()).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::IdentityTaken))));
    assert!(store.find_credentials(bob.id).await.unwrap().is_none());
    let named = user("ann");
    let refused =
        store.create_linked(&named, &link(&named, "one", "9"), &grant(&named, after(0)), &once()).await;
    assert!(matches!(refused, Err(Error::UsernameTaken(_))));
    assert_eq!(opened(&store, &link(&named, "one", "9")).await, None);
}

async fn an_identity_opens_one_account_only(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    let anns = link(&ann, "one", "42");
    assert_eq!(store.link(&anns, &once()).await.unwrap(), anns);
    // Again changes nothing, and answers with the first.
    let again = Link { create_time: after(9), provider: "renamed".to_owned(), ..anns.clone() };
    assert_eq!(store.link(&again, &once()).await.unwrap(), anns);
    let taken = store.link(&link(&bob, "one", "42"), &once()).await;
    assert!(matches!(taken, Err(Error::Refused(Refusal::IdentityTaken))));
    let nobody = store.link(&link(&user("nobody"), "one", "7"), &once()).await;
    assert!(matches!(nobody, Err(Error::Unauthenticated)));
}

async fn an_account_has_one_identity_at_a_provider(store: Store) {
    let ann = somebody(&store, "ann").await;
    store.link(&link(&ann, "one", "42"), &once()).await.unwrap();
    let second = store.link(&link(&ann, "one", "43"), &once()).await;
    assert!(matches!(second, Err(Error::Refused(Refusal::ProviderLinked))));
    let other = Link { create_time: after(1), ..link(&ann, "two", "42") };
    store.link(&other, &once()).await.unwrap();
    assert_eq!(store.links_of(ann.id).await.unwrap(), [link(&ann, "one", "42"), other]);
}

async fn a_link_that_was_taken_back_opens_nothing(store: Store) {
    let (ann, bob) = (somebody(&store, "ann").await, somebody(&store, "bob").await);
    for (user, subject) in [(&ann, "42"), (&bob, "43")] {
        store.link(&link(user, "one", subject), &once()).await.unwrap();
    }
    store.unlink(ann.id, "one").await.unwrap();
    assert!(matches!(store.unlink(ann.id, "one").await, Err(Error::Refused(Refusal::LinkNotFound))));
    assert!(matches!(store.unlink(bob.id, "two").await, Err(Error::Refused(Refusal::LinkNotFound))));
    let (anns, bobs) = (link(&ann, "one", "42"), link(&bob, "one", "43"));
    assert_eq!((opened(&store, &anns).await, opened(&store, &bobs).await), (None, Some(bob.id)));
    let late = store.sign_in_linked((&anns.issuer, &anns.subject), &grant(&ann, after(1)), 20, &once()).await;
    assert!(matches!(late, Err(Error::BadCredentials)));
}

async fn the_last_way_in_stays(store: Store) {
    let (ann, anns) = without_password(&store, "ann").await;
    assert!(matches!(store.unlink(ann.id, "one").await, Err(Error::Refused(Refusal::LastSignIn))));
    assert_eq!(opened(&store, &anns).await, Some(ann.id));
    store.link(&link(&ann, "two", "7"), &once()).await.unwrap();
    store.unlink(ann.id, "one").await.unwrap();
    assert!(matches!(store.unlink(ann.id, "two").await, Err(Error::Refused(Refusal::LastSignIn))));
}

async fn of_two_links_one_stays(store: Store) {
    let (ann, _) = without_password(&store, "ann").await;
    store.link(&link(&ann, "two", "7"), &once()).await.unwrap();
    let mut tries = JoinSet::new();
    for provider in ["one", "two"] {
        let store = store.clone();
        tries.spawn(async move { store.unlink(ann.id, provider).await.is_ok() });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|done| *done).count(), 1);
    assert_eq!(store.links_of(ann.id).await.unwrap().len(), 1);
}

async fn sign_ins_with_an_identity_leave_no_session_too_many(store: Store) {
    let (ann, anns) = without_password(&store, "ann").await;
    let mut devices = JoinSet::new();
    for _ in 0..8 {
        let (store, ann, anns) = (store.clone(), ann.clone(), anns.clone());
        devices.spawn(async move {
            let grant = grant(&ann, after(1));
            store.sign_in_linked((&anns.issuer, &anns.subject), &grant, 3, &once()).await.unwrap().1.len()
        });
    }
    assert_eq!(devices.join_all().await.into_iter().sum::<usize>(), 6);
    assert_eq!(store.sessions_of(ann.id).await.unwrap().len(), 3);
}

async fn a_deleted_user_leaves_no_links(store: Store) {
    let (ann, anns) = without_password(&store, "ann").await;
    assert!(matches!(
        store.delete_user(ann.id, Some(&hash("x")), after(1)).await,
        Err(Error::BadCredentials)
    ));
    store.delete_user(ann.id, None, after(1)).await.unwrap();
    assert_eq!(opened(&store, &anns).await, None);
    // The identity is free: whoever comes with it is somebody new.
    let next = user("ann2");
    store
        .create_linked(&next, &Link { user_id: next.id, ..anns }, &grant(&next, after(2)), &once())
        .await
        .unwrap();
}

async fn a_token_is_used_once(store: Store) {
    let (ann, bob) = (user("ann"), somebody(&store, "bob").await);
    let (anns, first) = (link(&ann, "one", "42"), token("first", 3600));
    store.create_linked(&ann, &anns, &grant(&ann, after(0)), &first).await.unwrap();
    let identity = (anns.issuer.as_str(), anns.subject.as_str());
    let again = grant(&ann, after(1));
    assert!(is_used(&store.sign_in_linked(identity, &again, 20, &first).await));
    assert!(!opens(&store, &again.token).await);
    // Another token of the same id is one that was used.
    assert!(is_used(&store.sign_in_linked(identity, &again, 20, &token("first", 7200)).await));
    let second = token("second", 3600);
    store.sign_in_linked(identity, &again, 20, &second).await.unwrap();
    for used in [&first, &second] {
        assert!(is_used(&store.link(&link(&bob, "one", "43"), used).await));
    }
    // A link that is there already uses up its token, too.
    let third = token("third", 3600);
    assert_eq!(store.link(&anns, &third).await.unwrap(), anns);
    assert!(is_used(&store.link(&anns, &third).await));
    let next = user("next");
    let refused =
        store.create_linked(&next, &link(&next, "one", "44"), &grant(&next, after(2)), &third).await;
    assert!(is_used(&refused));
    assert!(store.find_credentials(next.id).await.unwrap().is_none());
}

async fn a_token_used_by_many_at_once_is_used_by_one(store: Store) {
    let (ann, anns) = without_password(&store, "ann").await;
    let one = once();
    let mut tries = JoinSet::new();
    for _ in 0..6 {
        let (store, ann, anns, one) = (store.clone(), ann.clone(), anns.clone(), one.clone());
        tries.spawn(async move {
            let grant = grant(&ann, after(1));
            store.sign_in_linked((&anns.issuer, &anns.subject), &grant, 20, &one).await.is_ok()
        });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|done| *done).count(), 1);
}

async fn a_token_that_opened_nothing_is_not_used_up(store: Store) {
    somebody(&store, "ann").await;
    let (named, one) = (user("ann"), once());
    let taken = store.create_linked(&named, &link(&named, "one", "42"), &grant(&named, after(0)), &one).await;
    assert!(matches!(taken, Err(Error::UsernameTaken(_))));
    let other = user("ann2");
    store.create_linked(&other, &link(&other, "one", "42"), &grant(&other, after(0)), &one).await.unwrap();
}

async fn old_tokens_are_forgotten(store: Store) {
    let (ann, anns) = without_password(&store, "ann").await;
    store.sweep_used_tokens(after(3600), 100).await.unwrap();
    let kept = token("kept", 100);
    store.link(&Link { create_time: after(1), ..anns.clone() }, &kept).await.unwrap();
    assert_eq!(store.sweep_used_tokens(after(99), 10).await.unwrap(), 0);
    assert!(is_used(&store.link(&anns, &kept).await));
    assert_eq!(store.sweep_used_tokens(after(100), 10).await.unwrap(), 2);
    assert_eq!(store.links_of(ann.id).await.unwrap().len(), 1);
}
