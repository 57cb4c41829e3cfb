//! What the store promises about external accounts, on both databases.

use chassis::database::testing;
use tokio::task::JoinSet;

use super::contract::{after, close, grant, guest, listing, opens, user};
use super::*;
use crate::external_account::{ExternalAccount, Namespace};
use crate::user::UserKind;

promises! {
    a_name_has_one_account,
    calls_at_once_for_a_name_make_one_account,
    an_account_is_signed_in_by_its_name_only,
    sign_ins_leave_no_session_too_many,
    a_deleted_account_gives_its_name_back,
    a_guest_with_a_name_goes_with_its_last_session,
    the_accounts_of_a_namespace_are_paged,
}

fn external(namespace: &str, name: &str) -> ExternalAccount {
    ExternalAccount::parse(namespace, name).unwrap()
}

fn account(namespace: &str, name: &str) -> User {
    User { kind: UserKind::External, external: Some(external(namespace, name)), ..guest() }
}

async fn create(store: &Store, user: &User) -> Grant {
    let first = grant(user, after(0));
    assert!(store.create_external(user, user.external.as_ref().unwrap(), &first).await.unwrap());
    first
}

async fn found(store: &Store, namespace: &str, name: &str) -> Option<UserId> {
    store.find_external(&external(namespace, name)).await.unwrap()
}

async fn a_name_has_one_account(store: Store) {
    let ann = account("allo", "Ann of: Łódź");
    let first = create(&store, &ann).await;
    assert!(opens(&store, &first.token).await);
    assert_eq!(store.find_session(&first.token).await.unwrap().unwrap().kind, UserKind::External);
    assert_eq!(found(&store, "allo", "Ann of: Łódź").await, Some(ann.id));
    for (namespace, name) in [("allo", "ann of: Łódź"), ("chats", "Ann of: Łódź"), ("allo", "Ann")] {
        assert_eq!(found(&store, namespace, name).await, None);
    }
    assert_eq!(store.find_accounts(&[ann.id]).await.unwrap(), [Account::Living(ann.clone())]);
    assert_eq!(store.find_credentials(ann.id).await.unwrap().unwrap().hash, None);

    let second = account("allo", "Ann of: Łódź");
    let refused = grant(&second, after(1));
    assert!(!store.create_external(&second, second.external.as_ref().unwrap(), &refused).await.unwrap());
    assert_eq!(store.find_accounts(&[second.id]).await.unwrap(), []);
    assert!(!opens(&store, &refused.token).await);

    // Among users only registered ones and guests are listed.
    let bob = user("bob");
    store.create(&bob, None, &grant(&bob, after(0))).await.unwrap();
    assert_eq!(store.list_users(&listing(|_| {})).await.unwrap().users, [bob]);
}

async fn calls_at_once_for_a_name_make_one_account(store: Store) {
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        calls.spawn(async move {
            let user = account("allo", "ann");
            let first = grant(&user, after(0));
            let created =
                store.create_external(&user, user.external.as_ref().unwrap(), &first).await.unwrap();
            created.then_some(user.id)
        });
    }
    let created: Vec<UserId> = calls.join_all().await.into_iter().flatten().collect();
    assert_eq!(created.len(), 1);
    assert_eq!(found(&store, "allo", "ann").await, created.first().copied());
}

async fn an_account_is_signed_in_by_its_name_only(store: Store) {
    let (ann, bob) = (account("allo", "ann"), account("allo", "bob"));
    create(&store, &ann).await;
    create(&store, &bob).await;
    let sign_in = async |user: &User, name: &str, kind| {
        let grant = grant(user, after(1));
        let signed_in = store.sign_in_external(&external("allo", name), kind, &grant, 20).await;
        (signed_in, opens(&store, &grant.token).await)
    };
    let (signed_in, is_open) = sign_in(&ann, "ann", UserKind::External).await;
    assert_eq!(signed_in.unwrap(), Some((ann.clone(), vec![])));
    assert!(is_open);
    let (signed_in, is_open) = sign_in(&bob, "ann", UserKind::External).await;
    assert!(signed_in.unwrap().is_none() && !is_open);
    let (signed_in, is_open) = sign_in(&ann, "ann", UserKind::Guest).await;
    assert!(matches!(signed_in, Err(Error::Invalid { field: "kind", .. })) && !is_open);
}

async fn sign_ins_leave_no_session_too_many(store: Store) {
    let ann = account("allo", "ann");
    create(&store, &ann).await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (store, ann) = (store.clone(), ann.clone());
        calls.spawn(async move {
            let (external, grant) = (external("allo", "ann"), grant(&ann, after(1)));
            let signed_in = store.sign_in_external(&external, UserKind::External, &grant, 3).await.unwrap();
            signed_in.unwrap().1.len()
        });
    }
    assert_eq!(calls.join_all().await.into_iter().sum::<usize>(), 6);
    assert_eq!(store.sessions_of(ann.id).await.unwrap().len(), 3);
}

async fn a_deleted_account_gives_its_name_back(store: Store) {
    let ann = account("allo", "ann");
    create(&store, &ann).await;
    store.delete_user(ann.id, None, after(1)).await.unwrap();
    assert_eq!(found(&store, "allo", "ann").await, None);
    let left = store.find_accounts(&[ann.id]).await.unwrap();
    assert_eq!(left, [Account::Deleted { id: ann.id, delete_time: after(1) }]);
    let (name, late) = (external("allo", "ann"), grant(&ann, after(2)));
    assert!(store.sign_in_external(&name, UserKind::External, &late, 20).await.unwrap().is_none());
    let next = account("allo", "ann");
    create(&store, &next).await;
    assert_eq!(found(&store, "allo", "ann").await, Some(next.id));
}

async fn a_guest_with_a_name_goes_with_its_last_session(store: Store) {
    let ann = account("allo", "ann");
    let gus = User { kind: UserKind::Guest, ..account("playground", "203.0.113.7") };
    let (anns, first) = (create(&store, &ann).await, create(&store, &gus).await);
    let second = grant(&gus, after(1));
    let name = gus.external.as_ref().unwrap();
    store.sign_in_external(name, UserKind::Guest, &second, 20).await.unwrap().unwrap();
    store.end_session(gus.id, first.session.id).await.unwrap();
    assert_eq!(store.sweep_guests(after(2), 100).await.unwrap(), []);
    store.end_session(gus.id, second.session.id).await.unwrap();
    store.end_session(ann.id, anns.session.id).await.unwrap();
    assert_eq!(store.sweep_guests(after(2), 100).await.unwrap(), [gus.id]);
    assert_eq!(store.find_external(name).await.unwrap(), None);
    // An external account is there without a session, too.
    assert_eq!(found(&store, "allo", "ann").await, Some(ann.id));
}

async fn the_accounts_of_a_namespace_are_paged(store: Store) {
    let people = ["c", "a", "b"].map(|name| account("allo", name));
    for user in &people {
        create(&store, user).await;
    }
    create(&store, &account("chats", "a")).await;
    create(&store, &User { kind: UserKind::Guest, ..account("allo", "guest") }).await;
    let allo = Namespace::parse("allo").unwrap();
    let first = store.list_external(&allo, None, 2).await.unwrap();
    assert_eq!((first.users.as_slice(), first.has_more), (&people[..2], true));
    let rest = store.list_external(&allo, Some(people[1].id), 2).await.unwrap();
    assert_eq!((rest.users.as_slice(), rest.has_more), (&people[2..], false));
    let none = store.list_external(&Namespace::parse("none").unwrap(), None, 2).await.unwrap();
    assert_eq!((none.users.len(), none.has_more), (0, false));
}
