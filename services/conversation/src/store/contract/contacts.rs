//! What the store promises about two people.

use chassis::database::Database;

use super::*;
use crate::privacy::{FirstContact, PrivacyChanges};
use crate::request::{Direction, Filter, Kind as Asked, State};
use crate::standing::Writing;

promises![
    two_who_ask_at_once_are_connected,
    of_many_tries_at_once_one_asks,
    a_retry_finds_its_request_for_ever,
    a_retry_of_a_call_that_met_a_request_asks_for_nothing_anew,
    whatever_many_do_at_once_the_numbers_are_right,
    of_many_first_messages_one_begins_a_round,
    a_round_ends_with_its_answer_and_the_next_has_another_version,
    what_was_open_stays_open_until_a_block,
    a_block_is_felt_at_once_and_told_to_nobody,
    who_is_not_known_is_not_brought_in,
    pages_of_people_and_requests_lose_nothing,
    with_an_account_ends_what_was_between_it_and_others,
    auth_is_told_the_last_of_what_changed,
];

impl World {
    async fn acts(&self, by: UserId, other: UserId, act: Act) -> Result<Acted, Error> {
        let pair = People::of(by, other).unwrap();
        self.store.act(pair, by, act, at(5000)).await
    }

    async fn takes_strangers_after_a_request(&self, user: UserId) {
        let first_contact = Some(FirstContact::AfterRequest);
        self.store.set_privacy(user, PrivacyChanges { first_contact, presence: None }).await.unwrap();
    }

    async fn standing(&self, one: UserId, other: UserId) -> Standing {
        self.store.standing(People::of(one, other).unwrap()).await.unwrap()
    }

    /// What each may write in their direct conversation, and its membership version.
    async fn writing(&self, id: ConversationId, people: [UserId; 2]) -> ([Writing; 2], i64) {
        let answers = self.store.access(&people.map(|user| (id, user))).await.unwrap();
        let version = answers[&(id, people[0])].membership_version;
        (people.map(|user| answers[&(id, user)].writing), version)
    }

    async fn connect(&self, one: UserId, other: UserId) {
        self.acts(one, other, Act::Connect(None)).await.unwrap();
        self.acts(other, one, Act::Accept(Asked::Connection)).await.unwrap();
    }

    /// The facts about requests that are for both: of which kind, in which state, in which version.
    async fn told(&self) -> Vec<(pb::RequestKind, pb::RequestState, i64)> {
        let told = self.facts().await.into_iter().filter_map(|fact| match fact.payload {
            Some(Payload::RequestChanged(changed)) if changed.only_user_id.is_empty() => {
                assert_eq!(fact.conversation_id.is_empty(), changed.kind() == pb::RequestKind::Connection);
                Some((changed.kind(), changed.state(), changed.version))
            }
            _ => None,
        });
        told.collect()
    }

    async fn number(&self, statement: &'static str, user: UserId) -> i64 {
        match &self.database {
            Database::Sqlite(pool) => {
                sqlx::query_scalar(statement).bind(user.uuid()).fetch_one(pool.read()).await.unwrap()
            }
            Database::Postgres(pool) => {
                sqlx::query_scalar(statement).bind(user.uuid()).fetch_one(pool.read()).await.unwrap()
            }
        }
    }
}

async fn two_who_ask_at_once_are_connected(world: World) {
    for _ in 0..20 {
        let [ann, bob]: [UserId; 2] = people();
        let mut asking = JoinSet::new();
        for (by, other) in [(ann, bob), (bob, ann)] {
            let world = world.clone();
            asking.spawn(async move { world.acts(by, other, Act::Connect(None)).await.unwrap() });
        }
        let outcomes = asking.join_all().await;
        assert_eq!(outcomes.iter().filter(|acted| acted.is_new).count(), 1);
        let standing = world.standing(ann, bob).await;
        assert!(standing.connected.is_some());
        let ids: BTreeSet<_> = outcomes.iter().map(|acted| acted.answer.as_ref().unwrap().id).collect();
        assert_eq!(ids.len(), 1);
    }
}

async fn of_many_tries_at_once_one_asks(world: World) {
    let [ann, bob] = people();
    let mut asking = JoinSet::new();
    for n in 0..12_u128 {
        let world = world.clone();
        let retry = (n % 3 != 0).then(|| Uuid::from_u128(7));
        asking.spawn(async move { world.acts(ann, bob, Act::Connect(retry)).await });
    }
    let outcomes = asking.join_all().await;
    let made: Vec<_> = outcomes.iter().flatten().filter(|acted| acted.is_new).collect();
    assert_eq!(made.len(), 1);
    let id = made[0].answer.as_ref().unwrap().id;
    for outcome in &outcomes {
        match outcome {
            Ok(acted) => assert_eq!(acted.answer.as_ref().unwrap().id, id),
            Err(Error::RequestPending(pending)) => assert_eq!(*pending, id),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(world.told().await.len(), 1);
}

async fn a_retry_finds_its_request_for_ever(world: World) {
    let [ann, bob, cem] = people();
    let retry = Act::Connect(Some(Uuid::from_u128(1)));
    let first = world.acts(ann, bob, retry).await.unwrap().answer.unwrap();
    world.acts(bob, ann, Act::Reject(Asked::Connection)).await.unwrap();
    world.acts(ann, bob, Act::Connect(None)).await.unwrap();
    let again = world.acts(ann, bob, retry).await.unwrap();
    let found = again.answer.unwrap();
    assert_eq!((found.id, found.state, again.is_new), (first.id, State::Rejected, false));
    assert!(matches!(world.acts(ann, cem, retry).await, Err(Error::RequestIdReused(_))));
    // Another person's ids are that person's own.
    assert!(world.acts(cem, ann, retry).await.unwrap().is_new);
}

async fn a_retry_of_a_call_that_met_a_request_asks_for_nothing_anew(world: World) {
    let [ann, bob, cem] = people();
    let first = world.acts(ann, bob, Act::Connect(None)).await.unwrap().answer.unwrap();
    let retry = Act::Connect(Some(Uuid::from_u128(1)));
    let met = world.acts(bob, ann, retry).await.unwrap().answer.unwrap();
    assert_eq!((met.id, met.state), (first.id, State::Accepted));
    world.acts(ann, bob, Act::Disconnect).await.unwrap();
    let again = world.acts(bob, ann, retry).await.unwrap();
    assert_eq!((again.answer, again.is_new, again.has_effects), (Some(met), false, false));
    let standing = world.standing(ann, bob).await;
    assert!(standing.connected.is_none() && standing.connection.is_none());
    let elsewhere = world.acts(bob, cem, retry).await;
    assert!(matches!(elsewhere, Err(Error::RequestIdReused(_))), "{elsewhere:?}");
    // It is Bob's name for the call, and nobody else's.
    assert!(world.acts(ann, bob, retry).await.unwrap().is_new);
}

async fn whatever_many_do_at_once_the_numbers_are_right(world: World) {
    let crowd: [UserId; 4] = people();
    for (n, one) in crowd.iter().enumerate() {
        if n % 2 == 0 {
            world.takes_strangers_after_a_request(*one).await;
        }
        for other in &crowd[n + 1..] {
            world.make(Kind::Direct, *one, &[*other]).await;
        }
    }
    let mut doing = JoinSet::new();
    for device in 0..8_usize {
        let world = world.clone();
        doing.spawn(async move {
            for step in 0..40_usize {
                // Spread out, and the same in every run.
                let n = (device * 977 + step * 131) % 9973;
                let (by, other) = (n % 4, (n % 4 + 1 + n / 4 % 3) % 4);
                let kind = [Asked::Connection, Asked::Message][n / 12 % 2];
                let act = match n / 24 % 9 {
                    0 | 1 => Act::Connect(None),
                    2 | 3 => Act::Write,
                    4 | 5 => Act::Accept(kind),
                    6 => Act::Cancel(kind),
                    7 => Act::Disconnect,
                    _ => [Act::Block, Act::Unblock][n / 216 % 2],
                };
                let outcome = world.acts(crowd[by], crowd[other], act).await;
                let is_internal = matches!(outcome, Err(Error::Store(_)));
                assert!(!is_internal, "{outcome:?}");
            }
        });
    }
    doing.join_all().await;
    for user in crowd {
        for (column, rows) in [
            (
                "SELECT connections FROM people WHERE user_id = $1",
                "SELECT COUNT(*) FROM pairs
                 WHERE connect_time IS NOT NULL AND (low_user_id = $1 OR high_user_id = $1)",
            ),
            (
                "SELECT waiting_requests FROM people WHERE user_id = $1",
                "SELECT COUNT(*) FROM requests WHERE from_user_id = $1 AND state IN (1, 5)",
            ),
            (
                "SELECT blocks FROM people WHERE user_id = $1",
                "SELECT COUNT(*) FROM pairs
                 WHERE (low_user_id = $1 AND low_block_time IS NOT NULL)
                    OR (high_user_id = $1 AND high_block_time IS NOT NULL)",
            ),
        ] {
            assert_eq!(world.number(column, user).await, world.number(rows, user).await, "{rows}");
        }
    }
    // Of each request the versions rise, and nothing follows an answer.
    let mut last = BTreeMap::new();
    for fact in world.facts().await {
        let Some(Payload::RequestChanged(changed)) = fact.payload else { continue };
        // What is over for one alone goes on waiting, and the two can still meet in it.
        let state = if changed.only_user_id.is_empty() { changed.state() } else { pb::RequestState::Pending };
        let before = last.insert(changed.request_id.clone(), (changed.version, state));
        let (version, state) = before.unwrap_or((0, pb::RequestState::Pending));
        assert!(changed.version > version && state == pb::RequestState::Pending, "{changed:?}");
    }
}

async fn of_many_first_messages_one_begins_a_round(world: World) {
    let [ann, bob] = people();
    world.takes_strangers_after_a_request(bob).await;
    let id = world.make(Kind::Direct, ann, &[bob]).await;
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Needed, Writing::Needed], 1));
    let mut writing = JoinSet::new();
    for _ in 0..12 {
        let world = world.clone();
        writing.spawn(async move { world.acts(ann, bob, Act::Write).await.unwrap() });
    }
    let outcomes = writing.join_all().await;
    assert_eq!(outcomes.iter().filter(|acted| acted.is_new).count(), 1);
    let waiting = Writing::Waiting { request_version: 2 };
    assert_eq!(world.writing(id, [ann, bob]).await, ([waiting, Writing::Refused], 2));
    let facts = world.facts_of(id).await;
    let Some(Payload::RequestChanged(changed)) = &facts[1].payload else { panic!("{facts:?}") };
    assert_eq!((facts[1].membership_version, changed.request_version), (2, 2));
    assert_eq!(facts[1].actor_user_id, ann.to_string());
    let view = world.store.views(&[id], bob).await.unwrap().remove(0);
    let seen = view.request_seen().unwrap();
    assert_eq!((seen.id.to_string(), seen.from, seen.to), (changed.request_id.clone(), ann, bob));
    let seen = world.store.list(ann, Page { after: None, limit: 5 }).await.unwrap().remove(0).request_seen();
    assert_eq!(seen.map(|request| request.state), Some(State::Pending));
}

async fn a_round_ends_with_its_answer_and_the_next_has_another_version(world: World) {
    let [ann, bob] = people();
    world.takes_strangers_after_a_request(bob).await;
    let id = world.make(Kind::Direct, bob, &[ann]).await;
    world.acts(ann, bob, Act::Write).await.unwrap();
    world.acts(bob, ann, Act::Reject(Asked::Message)).await.unwrap();
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Needed; 2], 2));
    world.acts(ann, bob, Act::Write).await.unwrap();
    world.acts(ann, bob, Act::Cancel(Asked::Message)).await.unwrap();
    world.acts(ann, bob, Act::Write).await.unwrap();
    let waiting = Writing::Waiting { request_version: 4 };
    assert_eq!(world.writing(id, [ann, bob]).await, ([waiting, Writing::Refused], 4));
    assert!(matches!(
        world.acts(ann, bob, Act::Accept(Asked::Message)).await,
        Err(Error::RequestNotFound(_))
    ));
    world.acts(bob, ann, Act::Accept(Asked::Message)).await.unwrap();
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Free; 2], 4));
    use pb::RequestState::{Accepted, Cancelled, Pending, Rejected};
    let message = pb::RequestKind::Message;
    let expected = [Pending, Rejected, Pending, Cancelled, Pending, Accepted];
    let told: Vec<_> = world.told().await;
    assert_eq!(told, expected.map(|state| (message, state, if state == Pending { 1 } else { 2 })));
}

async fn what_was_open_stays_open_until_a_block(world: World) {
    let [ann, bob] = people();
    let id = world.make(Kind::Direct, ann, &[bob]).await;
    world.takes_strangers_after_a_request(bob).await;
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Free; 2], 1));
    assert!(!world.acts(ann, bob, Act::Write).await.unwrap().is_new);
    world.acts(bob, ann, Act::Block).await.unwrap();
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Needed, Writing::Refused], 1));
    world.acts(bob, ann, Act::Unblock).await.unwrap();
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Needed; 2], 1));
    // Who takes nobody unasked and writes is answered.
    world.acts(bob, ann, Act::Write).await.unwrap();
    assert_eq!(world.writing(id, [ann, bob]).await, ([Writing::Free; 2], 1));
}

async fn a_block_is_felt_at_once_and_told_to_nobody(world: World) {
    let [ann, bob] = people();
    world.takes_strangers_after_a_request(bob).await;
    let id = world.make(Kind::Direct, ann, &[bob]).await;
    world.acts(ann, bob, Act::Connect(None)).await.unwrap();
    world.acts(ann, bob, Act::Write).await.unwrap();
    let told = world.told().await.len();
    world.acts(bob, ann, Act::Block).await.unwrap();
    assert_eq!(world.told().await.len(), told);
    let alone = world.facts().await.into_iter().filter_map(|fact| match fact.payload {
        Some(Payload::RequestChanged(changed)) if !changed.only_user_id.is_empty() => {
            Some((changed.kind(), changed.state(), changed.only_user_id))
        }
        _ => None,
    });
    let over = |kind| (kind, pb::RequestState::Cancelled, bob.to_string());
    let both = [pb::RequestKind::Connection, pb::RequestKind::Message].map(over);
    assert_eq!(alone.collect::<Vec<_>>(), both, "but what waits for who blocks is over");
    let unheard = Writing::Unheard { request_version: 2 };
    assert_eq!(world.writing(id, [ann, bob]).await.0, [unheard, Writing::Refused]);
    let page = Page { after: None, limit: 10 };
    for kind in [Asked::Connection, Asked::Message] {
        for (user, direction, count) in [(ann, Direction::Outgoing, 1), (bob, Direction::Incoming, 0)] {
            for state in [None, Some(State::Pending)] {
                let filter = Filter { kind, direction, state };
                let found = world.store.requests(user, filter, page).await.unwrap();
                assert_eq!(found.len(), count, "{filter:?}");
            }
        }
    }
    let seen = |user| {
        let store = world.store.clone();
        async move { store.views(&[id], user).await.unwrap().remove(0).request_seen() }
    };
    assert_eq!(seen(ann).await.map(|request| request.state), Some(State::Pending));
    assert_eq!(seen(bob).await, None);
    assert!(matches!(world.acts(bob, ann, Act::Connect(None)).await, Err(Error::UserBlocked(_))));
    assert!(matches!(world.acts(ann, bob, Act::Connect(None)).await, Err(Error::RequestPending(_))));
    assert!(!world.acts(ann, bob, Act::Write).await.unwrap().is_new);
}

async fn who_is_not_known_is_not_brought_in(world: World) {
    let [ann, bob, cem, dee, eve, fay] = people();
    for user in [bob, cem, dee, fay] {
        world.takes_strangers_after_a_request(user).await;
    }
    world.connect(ann, cem).await;
    world.make(Kind::Direct, ann, &[dee]).await;
    world.acts(ann, dee, Act::Write).await.unwrap();
    world.acts(dee, ann, Act::Accept(Asked::Message)).await.unwrap();
    world.acts(eve, ann, Act::Block).await.unwrap();
    world.connect(ann, fay).await;
    world.acts(ann, fay, Act::Block).await.unwrap();
    let mut unwilling = world.store.unwilling(ann, &[ann, bob, cem, dee, eve, fay]).await.unwrap();
    unwilling.sort_unstable();
    assert_eq!(unwilling, [bob, eve, fay]);

    let group = world.make(Kind::Group, ann, &[]).await;
    world.change(group, ann, Change::Add(vec![cem, dee])).await.unwrap();
    for user in [bob, eve] {
        let refused = world.change(group, ann, Change::Add(vec![cem, user])).await;
        assert!(matches!(refused, Err(Error::ContactNotAccepted(named)) if named == user), "{refused:?}");
    }
    // Those who are in already stay, whatever has become of the two since.
    world.acts(cem, ann, Act::Disconnect).await.unwrap();
    assert!(!world.change(group, ann, Change::Add(vec![cem])).await.unwrap().has_facts);
    assert_eq!(world.members(group, ann).await.len(), 3);
}

async fn pages_of_people_and_requests_lose_nothing(world: World) {
    let mut crowd: Vec<UserId> = people::<11>().to_vec();
    let ann = crowd.remove(5);
    for (n, other) in crowd.iter().enumerate() {
        world.connect(ann, *other).await;
        if n % 2 == 0 {
            let pair = People::of(ann, *other).unwrap();
            world.store.act(pair, ann, Act::Block, at(6000 + i64::try_from(n / 4).unwrap())).await.unwrap();
        }
    }
    let asking: [UserId; 7] = people();
    for (n, other) in asking.iter().enumerate() {
        let (by, other) = if n % 2 == 0 { (ann, *other) } else { (*other, ann) };
        world.acts(by, other, Act::Connect(None)).await.unwrap();
    }
    let mut found = BTreeMap::from([("connections", vec![]), ("blocks", vec![])]);
    for (name, list) in &mut found {
        let mut after = None;
        loop {
            let page = Page { after, limit: 2 };
            let mut rows = match *name {
                "connections" => world.store.connections(ann, page).await.unwrap(),
                _ => world.store.blocks(ann, page).await.unwrap(),
            };
            let more = rows.len() > 2;
            rows.truncate(2);
            after = rows.last().copied();
            list.extend(rows);
            if !more {
                break;
            }
        }
        assert!(list.is_sorted_by(|one, next| one > next), "newest first: {list:?}");
        let users: BTreeSet<_> = list.iter().map(|(_, user)| *user).collect();
        assert_eq!((users.len(), list.len()), (5, 5), "{name}");
    }
    for (direction, count) in [(Direction::Both, 7), (Direction::Incoming, 3), (Direction::Outgoing, 4)] {
        let filter = Filter { kind: Asked::Connection, direction, state: Some(State::Pending) };
        let (mut ids, mut after) = (BTreeSet::new(), None);
        loop {
            let mut rows = world.store.requests(ann, filter, Page { after, limit: 2 }).await.unwrap();
            let more = rows.len() > 2;
            rows.truncate(2);
            after = rows.last().map(|request| (request.create_time, request.id));
            ids.extend(rows.iter().map(|request| request.id));
            if !more {
                break;
            }
        }
        assert_eq!(ids.len(), count, "{direction:?}");
    }
}

async fn with_an_account_ends_what_was_between_it_and_others(world: World) {
    let [ann, bob, cem, dee, eve, fay] = people();
    world.takes_strangers_after_a_request(ann).await;
    world.connect(ann, bob).await;
    world.acts(ann, cem, Act::Connect(None)).await.unwrap();
    let id = world.make(Kind::Direct, dee, &[ann]).await;
    world.acts(dee, ann, Act::Write).await.unwrap();
    world.acts(eve, ann, Act::Block).await.unwrap();
    world.acts(ann, fay, Act::Block).await.unwrap();
    world.acts(fay, ann, Act::Connect(None)).await.unwrap();
    let told = world.told().await.len();

    for _ in 0..2 {
        world.store.close_person(ann, at(9000)).await.unwrap();
        while world.store.end_contacts(ann, at(9000)).await.unwrap() {}
    }
    for other in [bob, cem, dee, eve, fay] {
        assert_eq!(world.standing(ann, other).await, Standing::none(People::of(ann, other).unwrap()));
        for statement in [
            "SELECT connections + waiting_requests + blocks FROM people WHERE user_id = $1",
            "SELECT COUNT(*) FROM requests WHERE from_user_id = $1 OR to_user_id = $1",
        ] {
            assert_eq!(world.number(statement, other).await, 0, "{statement}");
        }
    }
    // Those who waited are told, and so is the one who was asked.
    let ended = &world.told().await[told..];
    assert_eq!(ended.len(), 3, "{ended:?}");
    assert!(ended.iter().all(|(_, state, _)| *state == pb::RequestState::Cancelled));
    assert!(world.facts().await.iter().rev().take(3).all(|fact| fact.actor_user_id.is_empty()));
    assert_eq!(world.writing(id, [dee, ann]).await.0[0], Writing::Free, "it takes nothing any more");
    for act in [Act::Connect(None), Act::Block] {
        let refused = world.acts(bob, ann, act).await;
        assert!(matches!(refused, Err(Error::UserNotFound(user)) if user == ann), "{refused:?}");
    }
    assert!(world.store.due_acquaintances(at(10_000), 10).await.unwrap().is_empty());
    assert_eq!(world.store.privacy(ann).await.unwrap(), Privacy::default());
    let changes = PrivacyChanges { first_contact: Some(FirstContact::AfterRequest), presence: None };
    assert!(matches!(world.store.set_privacy(ann, changes).await, Err(Error::UserNotFound(_))));
}

async fn auth_is_told_the_last_of_what_changed(world: World) {
    let [ann, bob, cem] = people();
    world.connect(ann, bob).await;
    world.connect(cem, ann).await;
    let due = world.store.due_acquaintances(at(4999), 10).await.unwrap();
    assert!(due.is_empty(), "not before its time");
    let due = world.store.due_acquaintances(at(5000), 10).await.unwrap();
    assert_eq!(due.len(), 2);
    let first = due.into_iter().find(|news| news.pair == People::of(ann, bob).unwrap()).unwrap();
    assert_eq!((first.version, first.has_ended), (2, false));

    // What has changed meanwhile is not taken for told.
    world.acts(bob, ann, Act::Disconnect).await.unwrap();
    world.store.acquaintance_told(&first).await.unwrap();
    world.store.put_off_acquaintance(&first, at(1_000_000)).await.unwrap();
    let due = world.store.due_acquaintances(at(5000), 10).await.unwrap();
    let second = due.iter().find(|news| news.pair == first.pair).unwrap();
    assert_eq!((second.version, second.has_ended), (3, true));
    world.store.put_off_acquaintance(second, at(7000)).await.unwrap();
    assert_eq!(world.store.due_acquaintances(at(6999), 10).await.unwrap().len(), 1);
    let due = world.store.due_acquaintances(at(7000), 10).await.unwrap();
    assert_eq!(due.len(), 2);
    for news in due {
        world.store.acquaintance_told(&news).await.unwrap();
    }
    assert!(world.store.due_acquaintances(at(7000), 10).await.unwrap().is_empty());
}
