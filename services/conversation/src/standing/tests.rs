//! Two people, each with three devices that repeat and retry, in every order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::turn::{MOST_BLOCKED, MOST_CONNECTIONS, MOST_WAITING};
use super::*;

const KINDS: [Kind; 2] = [Kind::Connection, Kind::Message];

/// Two people and everything around what is between them.
struct Two {
    people: [UserId; 2],
    standing: Standing,
    direct: Direct,
    gated: [bool; 2],
    loads: [Load; 2],
    now: Timestamp,
    /// When each asked for what.
    asked: BTreeMap<(usize, bool), Vec<Timestamp>>,
    /// What the other services were told of each request: its versions and states.
    told: BTreeMap<RequestId, Vec<(i64, State)>>,
}

impl Two {
    fn new(gated: [bool; 2]) -> Self {
        let people: [UserId; 2] = std::array::from_fn(|_| UserId::generate());
        let Some(pair) = Pair::of(people[0], people[1]) else { panic!("they are two") };
        let id = ConversationId::generate();
        Self {
            people,
            standing: Standing::none(pair),
            direct: Direct { id, membership_version: 1, gated: gated[0] || gated[1] },
            gated,
            loads: Default::default(),
            now: Timestamp::from_millis(1_000_000),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn circumstances(&self, who: usize, act: Act) -> Circumstances {
        let load = |n: usize| Load { gated: self.gated[n], ..self.loads[n] };
        let times = self.asked.get(&(who, act == Act::Write)).into_iter().flatten();
        let recent = times.copied().filter(|time| *time > self.now.minus(DAY));
        Circumstances {
            own: load(who),
            other: load(1 - who),
            asked: recent.collect::<Vec<_>>().into_iter().rev().take(REQUESTS_A_DAY).collect(),
            conversation: Some(self.direct),
            new_id: RequestId::generate(),
            now: self.now,
        }
    }

    /// One does something, and everything that must always hold is looked at.
    fn act(&mut self, who: usize, act: Act) -> Result<Outcome, Error> {
        let at = self.circumstances(who, act);
        let before = self.standing.clone();
        let outcome = before.act(self.people[who], act, &at)?;
        let after = &outcome.standing;
        let changed = i64::from(*after != before);
        assert_eq!(after.version, before.version + changed, "versions rise by one with a change");
        assert!(changed == 1 || outcome.changes.is_empty());
        for change in &outcome.changes {
            let request = &change.request;
            let last = before.last(request.kind).filter(|last| last.id == request.id);
            assert_eq!(request.version, last.map_or(1, |last| last.version + 1));
            assert!(last.is_none_or(|last| last.state.waits()), "what is answered stays answered");
            assert_eq!(request.state.waits(), request.answer_time.is_none());
            if last.is_none() {
                let times = self.asked.entry((who, request.kind == Kind::Message)).or_default();
                times.push(self.now);
            }
            if let Some(one) = change.over_for {
                assert!(!change.told && one == request.to && request.state == State::Withheld);
            }
            if change.told {
                assert_ne!(request.state, State::Withheld, "nobody is told of what nobody is shown");
                self.told.entry(request.id).or_default().push((request.version, request.state));
            }
        }
        let user = self.people[who];
        for n in [0, 1] {
            let person = self.people[n];
            let of = |standing: &Standing| i64::from(standing.connected.is_some());
            self.loads[n].connections += of(after) - of(&before);
            self.loads[n].waiting += after.waiting_of(person) - before.waiting_of(person);
            let blocks = |standing: &Standing| i64::from(standing.blocked_by(person).is_some());
            self.loads[n].blocks += blocks(after) - blocks(&before);
        }
        self.direct.membership_version += i64::from(outcome.begins_round);
        self.direct.gated |= outcome.closes;
        if let Some(answer) = &outcome.answer {
            assert!(answer.from == user || answer.to == user);
            assert_ne!(answer.state, State::Withheld);
        }
        self.standing = outcome.standing.clone();
        self.check();
        Ok(outcome)
    }

    /// What must hold in every state.
    fn check(&self) {
        let standing = &self.standing;
        if standing.is_blocked() {
            assert!(standing.connected.is_none() && !standing.open, "a block beats everything");
            for kind in KINDS {
                let waiting = standing.waiting(kind);
                assert!(waiting.is_none_or(|request| request.state == State::Withheld));
            }
            for n in [0, 1] {
                let blocks = standing.blocked_by(self.people[n]).is_some();
                let waits = standing.waiting(Kind::Message).filter(|request| request.from == self.people[n]);
                let request_version =
                    waits.and_then(|request| request.message).map(|place| place.request_version);
                let expected = match request_version {
                    _ if blocks => Writing::Refused,
                    // As one who asks, and once it has asked, as one who waits.
                    None => Writing::Needed,
                    Some(request_version) => Writing::Unheard { request_version },
                };
                assert_eq!(self.writing(n), expected);
            }
        }
        if standing.connected.is_some() {
            let by = standing.connection.as_ref().map(|request| request.state);
            assert_eq!(by, Some(State::Accepted), "one is connected by a request");
            assert!(standing.waiting(Kind::Message).is_none());
        }
        let connection = standing.connection.as_ref();
        if connection.is_some_and(|request| request.state == State::Accepted) {
            assert!(standing.connected.is_some(), "both see the same");
        }
        for n in [0, 1] {
            assert_eq!(self.loads[n].waiting, standing.waiting_of(self.people[n]));
            assert!(self.loads[n].blocks >= 0 && self.loads[n].connections >= 0);
        }
        for kind in KINDS {
            let Some(request) = standing.last(kind) else { continue };
            assert_eq!(request.message.is_some(), kind == Kind::Message);
            // The two see the same request, but for the one that is withheld.
            let [author, other] = [request.from, request.to].map(|user| request.clone().seen_by(user));
            assert!(author.is_some());
            assert_eq!(author == other, request.state != State::Withheld);
        }
        for told in self.told.values() {
            assert!(told.is_sorted_by(|one, next| one.0 < next.0), "versions only rise: {told:?}");
            assert!(told.iter().rev().skip(1).all(|(_, state)| *state == State::Pending));
        }
    }

    fn writing(&self, who: usize) -> Writing {
        let between = self.standing.between(self.people[who], self.gated[who], self.gated[1 - who]);
        between.writing(self.direct.gated)
    }

    /// The pair is never stuck: wherever it is, the two can come to write to each other if both want to.
    fn check_not_stuck(&mut self) {
        self.now = self.now.plus(DAY);
        for who in [0, 1] {
            self.act(who, Act::Unblock).expect("one may always unblock");
        }
        for who in [0, 1] {
            // Whoever has an old request that the other does not see takes it back, as one may.
            for kind in KINDS {
                let own = self.standing.waiting(kind).is_some_and(|request| request.from == self.people[who]);
                if own {
                    self.act(who, Act::Cancel(kind)).expect("one may always take back");
                }
            }
        }
        self.now = self.now.plus(DAY);
        self.act(0, Act::Connect(None)).expect("one may ask");
        self.act(1, Act::Accept(Kind::Connection)).ok();
        self.act(1, Act::Connect(None)).expect("and who asks back says yes");
        assert!(self.standing.connected.is_some());
        assert_eq!([self.writing(0), self.writing(1)], [Writing::Free; 2]);
    }
}

/// What one device does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Act(Act),
    /// The same as this device did last.
    Retry,
    /// The person changes who may write first.
    Gate(bool),
    /// Some hours go by.
    Wait(u64),
}

fn moves() -> impl Strategy<Value = (usize, usize, Move)> {
    let kind = prop::sample::select(&KINDS[..]);
    let act = prop_oneof![
        3 => prop::option::of(0_u128..4).prop_map(|n| Act::Connect(n.map(Uuid::from_u128))),
        4 => Just(Act::Write),
        2 => kind.clone().prop_map(Act::Cancel),
        3 => kind.clone().prop_map(Act::Accept),
        2 => kind.prop_map(Act::Reject),
        1 => Just(Act::Disconnect),
        1 => Just(Act::Block),
        1 => Just(Act::Unblock),
    ];
    let step = prop_oneof![
        12 => act.prop_map(Move::Act),
        4 => Just(Move::Retry),
        1 => any::<bool>().prop_map(Move::Gate),
        2 => (1_u64..30).prop_map(Move::Wait),
    ];
    (0_usize..2, 0_usize..3, step)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_two_people_do_it_makes_sense(
        gated in any::<[bool; 2]>(),
        moves in prop::collection::vec(moves(), 1..80),
    ) {
        let mut two = Two::new(gated);
        let mut last: BTreeMap<(usize, usize), Act> = BTreeMap::new();
        for (who, device, step) in moves {
            match step {
                Move::Act(act) => {
                    last.insert((who, device), act);
                    let first = two.act(who, act).map(|outcome| outcome.answer);
                    // The same call again at once changes nothing, and says the same when it is about the same.
                    let repeatable = !matches!(act, Act::Connect(None));
                    if let (Ok(first), true) = (first, repeatable) {
                        let before = two.standing.clone();
                        let again = two.act(who, act).expect("what was done can be repeated");
                        assert_eq!(two.standing, before);
                        assert_eq!(again.answer, first);
                    }
                }
                Move::Retry => {
                    if let Some(act) = last.get(&(who, device)) {
                        two.act(who, *act).ok();
                    }
                }
                Move::Gate(gated) => two.gated[who] = gated,
                Move::Wait(hours) => two.now = two.now.plus(Duration::from_secs(hours * 3600)),
            }
        }
        two.check_not_stuck();
    }
}

/// Every act in every state that can be reached, so that none is left out and none cannot be reached.
#[test]
fn every_state_is_reached_and_none_is_a_trap() {
    type Shape = (bool, bool, bool, bool, Option<(bool, State)>, Option<(bool, State)>);
    let acts: Vec<Act> = [Act::Connect(None), Act::Write, Act::Disconnect, Act::Block, Act::Unblock]
        .into_iter()
        .chain(KINDS.into_iter().flat_map(|kind| [Act::Cancel(kind), Act::Accept(kind), Act::Reject(kind)]))
        .collect();
    let mut two = Two::new([true, true]);
    let low = two.people[0];
    let shape = |standing: &Standing| -> Shape {
        let of =
            |request: &Option<Request>| request.as_ref().map(|request| (request.from == low, request.state));
        (
            standing.connected.is_some(),
            standing.open,
            standing.blocked_by(low).is_some(),
            standing.blocked_by(standing.pair.other_than(low)).is_some(),
            of(&standing.connection),
            of(&standing.message),
        )
    };
    let mut seen = BTreeSet::new();
    let mut states = BTreeSet::new();
    let mut waiting = vec![two.standing.clone()];
    while let Some(standing) = waiting.pop() {
        let text = format!("{:?}", shape(&standing));
        if !seen.insert(text) {
            continue;
        }
        for kind in KINDS {
            states.extend(standing.last(kind).map(|request| format!("{kind:?} {:?}", request.state)));
        }
        let mut moves = 0;
        for who in [0, 1] {
            for act in &acts {
                two.standing = standing.clone();
                two.loads = [0, 1].map(|n: usize| Load {
                    gated: true,
                    waiting: standing.waiting_of(two.people[n]),
                    connections: i64::from(standing.connected.is_some()),
                    blocks: i64::from(standing.blocked_by(two.people[n]).is_some()),
                });
                two.asked.clear();
                two.told.clear();
                if two.act(who, *act).is_ok() && shape(&two.standing) != shape(&standing) {
                    moves += 1;
                    waiting.push(two.standing.clone());
                }
            }
        }
        assert!(moves > 0, "a state without a way out: {standing:?}");
    }
    let all = ["Pending", "Withheld", "Accepted", "Rejected", "Cancelled"];
    let expected = KINDS.iter().flat_map(|kind| all.map(|state| format!("{kind:?} {state}")));
    assert_eq!(states, expected.collect());
}

fn two_with(gated: [bool; 2]) -> Two {
    Two::new(gated)
}

#[test]
fn who_asks_somebody_that_asks_says_yes() {
    let mut two = two_with([false, false]);
    let [ann, bob] = two.people;
    let asked = two.act(0, Act::Connect(Some(Uuid::from_u128(1)))).unwrap().answer.unwrap();
    assert_eq!((asked.from, asked.to, asked.state), (ann, bob, State::Pending));
    let met = two.act(1, Act::Connect(Some(Uuid::from_u128(2)))).unwrap().answer.unwrap();
    assert_eq!((met.id, met.state), (asked.id, State::Accepted));
    assert!(two.standing.connected.is_some());
    // Either call again finds the same.
    for (who, retry) in [(0, 1), (1, 2)] {
        let again = two.act(who, Act::Connect(Some(Uuid::from_u128(retry)))).unwrap().answer.unwrap();
        assert_eq!((again.id, again.state), (asked.id, State::Accepted));
    }
}

#[test]
fn a_second_request_that_waits_is_refused_and_a_retry_is_not() {
    let mut two = two_with([false, false]);
    let id = two.act(0, Act::Connect(Some(Uuid::from_u128(1)))).unwrap().answer.unwrap().id;
    for retry in [None, Some(Uuid::from_u128(2))] {
        let refused = two.act(0, Act::Connect(retry));
        assert!(matches!(refused, Err(Error::RequestPending(waiting)) if waiting == id), "{refused:?}");
    }
    assert_eq!(two.act(0, Act::Connect(Some(Uuid::from_u128(1)))).unwrap().answer.unwrap().id, id);
}

#[test]
fn an_answer_is_final() {
    for kind in KINDS {
        let ask = if kind == Kind::Connection { Act::Connect(None) } else { Act::Write };
        let others = [Act::Cancel(kind), Act::Accept(kind), Act::Reject(kind)];
        let doers = [0, 1, 1];
        for (n, end) in others.into_iter().enumerate() {
            let mut two = two_with([true, true]);
            two.act(0, ask).unwrap();
            let state = two.act(doers[n], end).unwrap().answer.unwrap().state;
            for (other, act) in others.into_iter().enumerate().filter(|(other, _)| *other != n) {
                let refused = two.act(doers[other], act);
                assert!(matches!(refused, Err(Error::RequestAnswered(was)) if was == state), "{refused:?}");
            }
            // Nobody answers for the other.
            assert!(matches!(two.act(0, Act::Accept(kind)), Err(Error::RequestNotFound(_))));
            assert!(matches!(two.act(1, Act::Cancel(kind)), Err(Error::RequestNotFound(_))));
        }
    }
}

#[test]
fn nobody_asks_too_often() {
    for (kind, ask) in [(Kind::Connection, Act::Connect(None)), (Kind::Message, Act::Write)] {
        let mut two = two_with([true, true]);
        for end in [Act::Cancel(kind), Act::Reject(kind), Act::Cancel(kind)] {
            two.act(0, ask).unwrap();
            two.act(usize::from(matches!(end, Act::Reject(_))), end).unwrap();
            two.now = two.now.plus(Duration::from_secs(3600));
        }
        let Err(Error::RateLimited { wait }) = two.act(0, ask) else { panic!("not refused") };
        assert_eq!(wait, DAY - Duration::from_secs(3 * 3600));
        // The other has its own count.
        assert!(two.act(1, ask).is_ok());
        assert!(two.act(1, Act::Cancel(kind)).is_ok());
        two.now = two.now.plus(wait);
        assert!(two.act(0, ask).is_ok());
    }
}

#[test]
fn what_has_bounds_is_refused_beyond_them() {
    let mut two = two_with([true, true]);
    two.loads[0].waiting = MOST_WAITING;
    let at = two.circumstances(0, Act::Connect(None));
    let refused = two.standing.act(two.people[0], Act::Connect(None), &at);
    assert!(matches!(refused, Err(Error::RateLimited { .. })), "{refused:?}");

    let mut two = two_with([true, true]);
    two.act(0, Act::Connect(None)).unwrap();
    for full in [0, 1] {
        let mut at = two.circumstances(1, Act::Accept(Kind::Connection));
        let load = if full == 0 { &mut at.own } else { &mut at.other };
        load.connections = MOST_CONNECTIONS;
        let refused = two.standing.act(two.people[1], Act::Accept(Kind::Connection), &at);
        assert!(matches!(refused, Err(Error::TooManyConnections { .. })), "{refused:?}");
    }
    let mut at = two.circumstances(1, Act::Block);
    at.own.blocks = MOST_BLOCKED;
    let refused = two.standing.act(two.people[1], Act::Block, &at);
    assert!(matches!(refused, Err(Error::TooManyBlocked { .. })), "{refused:?}");
}

#[test]
fn the_first_message_to_who_takes_nobody_unasked_is_a_request() {
    let mut two = two_with([false, true]);
    assert_eq!((two.writing(0), two.writing(1)), (Writing::Needed, Writing::Needed));
    let outcome = two.act(0, Act::Write).unwrap();
    assert!(outcome.begins_round);
    assert_eq!(two.writing(0), Writing::Waiting { request_version: 2 });
    assert_eq!(two.writing(1), Writing::Refused, "who is asked answers first");
    two.act(1, Act::Write).unwrap();
    assert_eq!(two.writing(1), Writing::Refused);

    two.act(1, Act::Reject(Kind::Message)).unwrap();
    assert_eq!(two.writing(0), Writing::Needed);
    // Another round: another request, another version.
    two.act(0, Act::Write).unwrap();
    assert_eq!(two.writing(0), Writing::Waiting { request_version: 3 });
    two.act(1, Act::Accept(Kind::Message)).unwrap();
    assert_eq!([two.writing(0), two.writing(1)], [Writing::Free; 2]);
}

#[test]
fn who_takes_nobody_unasked_and_writes_first_is_answered() {
    let mut two = two_with([false, true]);
    two.act(0, Act::Write).unwrap();
    two.act(1, Act::Reject(Kind::Message)).unwrap();
    let outcome = two.act(1, Act::Write).unwrap();
    assert!(outcome.changes.is_empty() && !outcome.begins_round);
    assert_eq!([two.writing(0), two.writing(1)], [Writing::Free; 2]);
}

#[test]
fn a_connection_opens_the_conversation_and_its_end_closes_it_unless_a_message_was_accepted() {
    let mut two = two_with([true, true]);
    two.act(0, Act::Connect(None)).unwrap();
    two.act(1, Act::Accept(Kind::Connection)).unwrap();
    assert_eq!(two.writing(0), Writing::Free);
    two.act(1, Act::Disconnect).unwrap();
    assert_eq!(two.writing(0), Writing::Needed);

    two.act(0, Act::Write).unwrap();
    two.act(1, Act::Connect(None)).unwrap();
    let outcome = two.act(0, Act::Accept(Kind::Connection)).unwrap();
    let told: Vec<_> = outcome.changes.iter().map(|change| (change.request.kind, change.told)).collect();
    assert_eq!(told, [(Kind::Message, true), (Kind::Connection, true)]);
    two.act(0, Act::Disconnect).unwrap();
    assert_eq!([two.writing(0), two.writing(1)], [Writing::Free; 2]);
}

#[test]
fn who_is_blocked_is_not_told() {
    let mut two = two_with([true, true]);
    two.act(0, Act::Connect(None)).unwrap();
    two.act(0, Act::Write).unwrap();
    let outcome = two.act(1, Act::Block).unwrap();
    assert!(outcome.changes.iter().all(|change| !change.told));
    for kind in KINDS {
        let seen = |who: usize| two.standing.last(kind).unwrap().clone().seen_by(two.people[who]);
        assert_eq!(seen(0).map(|request| request.state), Some(State::Pending));
        assert_eq!(seen(1), None);
    }
    let before = two.standing.clone();
    assert!(matches!(two.act(0, Act::Connect(None)), Err(Error::RequestPending(_))));
    assert!(matches!(two.act(1, Act::Connect(None)), Err(Error::UserBlocked(_))));
    assert!(matches!(two.act(1, Act::Accept(Kind::Connection)), Err(Error::RequestNotFound(_))));
    assert_eq!(two.standing, before);

    // What one takes back is gone, and what one asks anew waits as before.
    let cancelled = two.act(0, Act::Cancel(Kind::Connection)).unwrap();
    assert!(cancelled.changes.iter().all(|change| !change.told));
    let again = two.act(0, Act::Connect(None)).unwrap();
    assert_eq!(again.answer.map(|request| request.state), Some(State::Pending));
    assert!(again.changes.iter().all(|change| !change.told));
    let cancelled = two.act(0, Act::Cancel(Kind::Message)).unwrap();
    assert!(cancelled.changes.iter().all(|change| change.told), "its message goes with it");
}

#[test]
fn one_who_is_blocked_asks_and_waits_and_reaches_nobody() {
    let mut two = two_with([false, false]);
    two.act(1, Act::Block).unwrap();
    two.direct.gated = true;
    assert_eq!(two.writing(0), Writing::Needed);
    let asked = two.act(0, Act::Write).unwrap();
    assert_eq!(asked.answer.map(|request| request.state), Some(State::Pending));
    assert!(asked.changes.iter().all(|change| change.news().is_none()), "nobody is told");
    assert_eq!(two.writing(0), Writing::Unheard { request_version: 2 });
    assert_eq!(two.standing.last(Kind::Message).unwrap().clone().seen_by(two.people[1]), None);
    let again = two.act(0, Act::Write).unwrap();
    assert!(again.changes.is_empty(), "it is the one request");
    let cancelled = two.act(0, Act::Cancel(Kind::Message)).unwrap();
    assert!(cancelled.changes.iter().all(|change| change.news().is_none()), "no message went with it");
    assert_eq!(two.writing(0), Writing::Needed);

    // Lifted, the block leaves one who waits with its one message.
    two.act(0, Act::Write).unwrap();
    two.act(1, Act::Unblock).unwrap();
    assert_eq!(two.writing(0), Writing::Waiting { request_version: 3 });
}

#[test]
fn unblocking_brings_nothing_back() {
    let mut two = two_with([false, false]);
    two.act(0, Act::Connect(None)).unwrap();
    two.act(1, Act::Accept(Kind::Connection)).unwrap();
    let outcome = two.act(0, Act::Block).unwrap();
    assert!(outcome.closes);
    two.gated[0] = true;
    two.act(0, Act::Unblock).unwrap();
    assert!(two.standing.connected.is_none() && two.standing.connection.is_none());
    assert_eq!(two.writing(1), Writing::Needed, "what was open before is not open now");
}

#[test]
fn the_request_of_one_who_blocks_is_taken_back_in_the_open() {
    let mut two = two_with([true, true]);
    two.act(0, Act::Connect(None)).unwrap();
    let outcome = two.act(0, Act::Block).unwrap();
    let states: Vec<_> = outcome.changes.iter().map(|change| (change.request.state, change.told)).collect();
    assert_eq!(states, [(State::Cancelled, true)]);
}

#[test]
fn two_who_both_still_want_to_meet_do_once_the_block_is_gone() {
    let mut two = two_with([true, true]);
    two.act(1, Act::Block).unwrap();
    two.act(0, Act::Connect(None)).unwrap();
    two.act(1, Act::Unblock).unwrap();
    two.act(1, Act::Connect(None)).unwrap();
    assert!(two.standing.connected.is_some());
}

#[test]
fn what_waits_ends_with_an_account() {
    let mut two = two_with([true, true]);
    two.act(0, Act::Connect(None)).unwrap();
    two.act(1, Act::Write).unwrap();
    let outcome = two.act(1, Act::EndAccount).unwrap();
    assert_eq!(outcome.changes.len(), 2);
    let ended = |change: &Change| change.told && change.request.state == State::Cancelled;
    assert!(outcome.changes.iter().all(ended));
}
