//! The promises of the store about tickets for event streams, on both databases.

use chassis::database::testing;
use tokio::task::JoinSet;

use super::contract::{after, close, create, grant, hash, user};
use super::*;
use crate::stream_ticket::{NewStreamTicket, StreamKey, StreamRedemption, StreamTicket};
use crate::token::Hash;
use crate::user::UserKind;

promises! {
    a_ticket_opens_one_stream_and_comes_back_with_its_key,
    a_ticket_that_many_use_at_once_opens_one_stream,
    a_ticket_that_is_not_used_in_time_opens_nothing,
    a_ticket_ends_with_its_session,
    a_session_has_so_many_tickets_and_the_oldest_goes,
    tickets_that_open_nothing_take_no_place,
}

/// A ticket of a session, made so many seconds after the start.
async fn made(store: &Store, session: &Session, seconds: u64) -> Hash {
    let ticket_hash = StreamTicket::generate().unwrap().hash();
    assert!(store.create_stream_ticket(&new(ticket_hash, session, seconds), 3).await.unwrap());
    ticket_hash
}

fn new(ticket_hash: Hash, session: &Session, seconds: u64) -> NewStreamTicket {
    let (user_id, session_id) = (session.user_id, session.id);
    NewStreamTicket { ticket_hash, user_id, session_id, create_time: after(seconds) }
}

fn key() -> Hash {
    StreamKey::generate().unwrap().hash()
}

async fn redeem(
    store: &Store,
    ticket_hash: Hash,
    shown: Option<Hash>,
    drawn: Hash,
    seconds: u64,
) -> Option<(Identified, bool)> {
    let redemption = StreamRedemption { ticket_hash, shown, drawn, now: after(seconds) };
    store.redeem_stream_ticket(&redemption).await.unwrap()
}

async fn a_ticket_opens_one_stream_and_comes_back_with_its_key(store: Store) {
    let ann = user("ann");
    let session = create(&store, &ann).await.session;
    let (ticket, first) = (made(&store, &session, 0).await, key());
    let identified = Identified { session, kind: UserKind::Registered };
    assert_eq!(redeem(&store, ticket, None, first, 29).await, Some((identified.clone(), true)));
    assert_eq!(redeem(&store, ticket, None, key(), 1).await, None);
    assert_eq!(redeem(&store, ticket, Some(key()), key(), 1).await, None);
    assert_eq!(redeem(&store, ticket, Some(first), key(), 9_000).await, Some((identified, false)));
    assert_eq!(redeem(&store, key(), Some(first), key(), 1).await, None);
}

async fn a_ticket_that_many_use_at_once_opens_one_stream(store: Store) {
    let ann = user("ann");
    let session = create(&store, &ann).await.session;
    let ticket = made(&store, &session, 0).await;
    let mut uses = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        uses.spawn(async move { redeem(&store, ticket, None, key(), 1).await });
    }
    assert_eq!(uses.join_all().await.into_iter().flatten().count(), 1);
}

async fn a_ticket_that_is_not_used_in_time_opens_nothing(store: Store) {
    let ann = user("ann");
    let session = create(&store, &ann).await.session;
    let ticket = made(&store, &session, 0).await;
    assert_eq!(redeem(&store, ticket, None, key(), 30).await, None);
}

async fn a_ticket_ends_with_its_session(store: Store) {
    let ann = user("ann");
    let session = create(&store, &ann).await.session;
    let (ticket, first) = (made(&store, &session, 0).await, key());
    redeem(&store, ticket, None, first, 1).await.unwrap();
    let lifetime = session.expire_time.since(session.create_time).as_secs();
    assert_eq!(redeem(&store, ticket, Some(first), key(), lifetime).await, None);
    // Another session of the same user is another matter.
    let other = grant(&ann, after(2));
    let sign_in = SignIn { grant: &other, verified: &hash("secret"), rehashed: None, most: 9 };
    store.sign_in(sign_in).await.unwrap();
    let (others, second) = (made(&store, &other.session, 2).await, key());
    redeem(&store, others, None, second, 3).await.unwrap();
    assert!(store.end_session(ann.id, session.id).await.unwrap());
    assert_eq!(redeem(&store, ticket, Some(first), key(), 4).await, None);
    assert!(redeem(&store, others, Some(second), key(), 4).await.is_some());
    assert!(!store.create_stream_ticket(&new(key(), &session, 5), 3).await.unwrap());
    store.delete_user(ann.id, Some(&hash("secret")), after(6)).await.unwrap();
    assert_eq!(redeem(&store, others, Some(second), key(), 7).await, None);
}

async fn a_session_has_so_many_tickets_and_the_oldest_goes(store: Store) {
    let ann = user("ann");
    let session = create(&store, &ann).await.session;
    let mut tickets = Vec::new();
    for seconds in 0..4 {
        tickets.push(made(&store, &session, seconds).await);
    }
    assert_eq!(redeem(&store, tickets[0], None, key(), 5).await, None);
    for ticket in &tickets[1..] {
        assert!(redeem(&store, *ticket, None, key(), 5).await.is_some());
    }
}

async fn tickets_that_open_nothing_take_no_place(store: Store) {
    let ann = user("ann");
    let session = create(&store, &ann).await.session;
    let (used, first) = (made(&store, &session, 0).await, key());
    redeem(&store, used, None, first, 1).await.unwrap();
    for seconds in [0, 1] {
        made(&store, &session, seconds).await;
    }
    made(&store, &session, 40).await;
    made(&store, &session, 41).await;
    assert!(redeem(&store, used, Some(first), key(), 42).await.is_some());
}
