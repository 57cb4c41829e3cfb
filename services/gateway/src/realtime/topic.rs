//! One log that somebody here follows, and who they are. No I/O: the hub carries out what it asks for.
//!
//! Three things stand between a hint and a client. The [`Follower`] puts what comes into the order of the log. The gate
//! holds back what was written under a list of members that is newer than the one known here, until every local
//! follower has been checked against the new list; who is out is dropped and gets nothing of it. The [`Reader`] of each
//! connection leaves out what the connection has got from its history already.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chassis::follow::{Follower, Missing, Verdict};
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Event, UserEvent, event, user_event};
use tokio::sync::oneshot;

use super::connection::{Connection, End};
use super::frame::Frame;
use super::log_reader::{Happened, Reader};
use super::watermarks::Watermarks;

/// So much is held back while members are checked; more, and the followers start anew.
const HELD_BACK: usize = 1024;

/// So much of what has no place in the log is kept while members are checked; of more, the latest.
const PASSING: usize = 64;

/// A log that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A conversation's.
    Conversation(ConversationId),
    /// A user's own.
    User(UserId),
}

const CONVERSATION_SUBJECT: &str = "parlor.messaging.v1.conversation.";
const USER_SUBJECT: &str = "parlor.messaging.v1.user.";

impl Key {
    /// Where hints about it are published.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::Conversation(id) => proto::subject::conversation(id),
            Self::User(id) => proto::subject::user(id),
        }
    }

    /// The log that the hints of a subject are about.
    pub(crate) fn of_subject(subject: &str) -> Option<Self> {
        if let Some(id) = subject.strip_prefix(CONVERSATION_SUBJECT) {
            return ConversationId::parse(id).ok().map(Self::Conversation);
        }
        subject.strip_prefix(USER_SUBJECT).and_then(|id| UserId::parse(id).ok()).map(Self::User)
    }

    /// A number that spreads logs evenly: the last bytes of an id are random.
    pub(crate) fn spread(self) -> usize {
        let id = match self {
            Self::Conversation(id) => id.uuid(),
            Self::User(id) => id.uuid(),
        };
        let [.., a, b] = id.into_bytes();
        usize::from(u16::from_be_bytes([a, b]))
    }
}

/// One entry of a log.
#[derive(Clone, Debug)]
pub(super) struct Item {
    sequence: i64,
    /// The version of the list of members that it was written under; 0 in a user's own log.
    version: i64,
    change: Change,
    frame: Arc<Frame>,
}

/// What an entry says about who may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing.
    None,
    /// Nobody is out who was in.
    NobodyOut,
    /// This user is out.
    Out(UserId),
    /// Everybody is out: the conversation is gone.
    AllOut,
}

impl From<Event> for Item {
    fn from(event: Event) -> Self {
        use event::Payload;
        let change = match &event.payload {
            Some(
                Payload::ConversationCreated(_) | Payload::MembersAdded(_) | Payload::MemberRoleChanged(_),
            ) => Change::NobodyOut,
            Some(Payload::MemberRemoved(removed)) => {
                UserId::parse(&removed.user_id).map_or(Change::None, Change::Out)
            }
            Some(Payload::ConversationDeleted(_)) => Change::AllOut,
            _ => Change::None,
        };
        let (sequence, version) = (event.sequence, event.membership_version);
        Self { sequence, version, change, frame: Frame::push(Body::Event(event)) }
    }
}

impl From<UserEvent> for Item {
    fn from(event: UserEvent) -> Self {
        let sequence = event.sequence;
        Self { sequence, version: 0, change: Change::None, frame: Frame::push(Body::UserEvent(event)) }
    }
}

impl Item {
    /// With its sequence, as a follower wants it.
    pub(super) fn numbered(self) -> (i64, Self) {
        (self.sequence, self)
    }
}

/// What the topic needs from the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Something before what has come is missing: read it from the log, after a little patience.
    pub(super) repair: bool,
    /// The list of members has changed: check all of [`Topic::users`].
    pub(super) check: bool,
}

/// What became of a connection that has read its history up to some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatchUp {
    /// From here on it hears what happens.
    Live,
    /// More has happened than was kept: read on after this.
    Behind(i64),
    /// It does not follow this log, or may not any more.
    Gone,
}

/// One log that somebody here follows.
pub(super) struct Topic {
    key: Key,
    follower: Follower<Item>,
    /// Everything up to here has been handed out; `None` until the head is known.
    handed_out: Option<i64>,
    /// All followers were checked against this version of the list of members, or a newer one.
    version: i64,
    /// Whether a check is under way, or has to be.
    checking: bool,
    held_back: VecDeque<Item>,
    /// What has no place in the log and came during a check: the latest of it.
    passing: VecDeque<(Arc<Frame>, Option<UserId>)>,
    readers: Vec<Following>,
    shown: Watermarks,
    /// Those who have read their history before the head was known.
    waiting: Vec<(u64, i64, oneshot::Sender<CatchUp>)>,
    /// Whether a read of the log is under way, or will be.
    pub(super) repairing: bool,
}

struct Following {
    connection: Arc<Connection>,
    reader: Reader<Arc<Frame>>,
}

impl Topic {
    pub(super) fn new(key: Key, shown: Watermarks) -> Self {
        Self {
            key,
            follower: Follower::waiting(),
            handed_out: None,
            version: 0,
            checking: false,
            held_back: VecDeque::new(),
            passing: VecDeque::new(),
            readers: Vec::new(),
            shown,
            waiting: Vec::new(),
            repairing: false,
        }
    }

    /// A connection follows from now on; `anew`, also when it did already: then it reads its history again.
    pub(super) fn follow(&mut self, connection: Arc<Connection>, anew: bool) {
        connection.followed().insert(self.key);
        match self.readers.iter_mut().find(|one| one.connection.number() == connection.number()) {
            Some(one) if anew => one.reader = Reader::catching_up(),
            Some(_) => {}
            None => self.readers.push(Following { connection, reader: Reader::catching_up() }),
        }
    }

    /// A connection follows no more.
    pub(super) fn unfollow(&mut self, number: u64) {
        if let Some(place) = self.readers.iter().position(|one| one.connection.number() == number) {
            self.readers.swap_remove(place);
        }
    }

    /// Whether nobody follows.
    pub(super) fn is_idle(&self) -> bool {
        self.readers.is_empty()
    }

    /// Whether the head is known, so that something can be handed out.
    pub(super) fn has_begun(&self) -> bool {
        self.handed_out.is_some()
    }

    /// The followers, each once.
    pub(super) fn users(&self) -> Vec<UserId> {
        let mut users: Vec<_> = self.readers.iter().map(|one| one.connection.user_id()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// A follower on whose behalf the log can be read. Another one each time `turn` is another.
    pub(super) fn member(&self, turn: usize) -> Option<UserId> {
        let live: Vec<_> = self.readers.iter().filter(|one| one.reader.is_live()).collect();
        let place = turn.checked_rem(live.len())?;
        live.get(place).map(|one| one.connection.user_id())
    }

    /// What has to be read from the log.
    pub(super) fn missing(&self) -> Option<Missing> {
        self.follower.missing()
    }

    /// The log reached to here after its hints had been subscribed to.
    pub(super) fn begin(&mut self, head: i64) -> Needs {
        // One that has begun must not jump: those who are live count on everything that comes after.
        if self.handed_out.is_some() {
            return self.head(head);
        }
        self.handed_out = Some(head);
        for (number, sent, answer) in std::mem::take(&mut self.waiting) {
            // Whoever asked may have gone.
            let _ = answer.send(self.caught_up_with(number, sent, head));
        }
        let run = self.follower.begin(head);
        self.hand_out(run)
    }

    /// The log reaches to here.
    pub(super) fn head(&mut self, head: i64) -> Needs {
        self.follower.head(head);
        self.needs(false)
    }

    /// A hint has brought an entry.
    pub(super) fn hint(&mut self, item: Item) -> Needs {
        match self.follower.offer(item.sequence, item) {
            Verdict::Deliver(run) => self.hand_out(run),
            Verdict::Duplicate => Needs::default(),
            Verdict::Held => self.needs(false),
        }
    }

    /// A read of the log has brought entries.
    pub(super) fn filled(&mut self, items: Vec<Item>) -> Needs {
        let run = self.follower.filled(items.into_iter().map(Item::numbered));
        self.hand_out(run)
    }

    /// Something that has no place in the log, for whoever is there. Not for `except`, and not when it is a receipt that
    /// is older than one that was shown.
    pub(super) fn pass(&mut self, frame: &Arc<Frame>, except: Option<UserId>) {
        // While it is not known who may read, nobody does.
        if self.checking {
            if self.passing.len() == PASSING {
                self.passing.pop_front();
            }
            self.passing.push_back((Arc::clone(frame), except));
            return;
        }
        // Looked at only now: what waited for a check may have become old meanwhile.
        if let Some(Body::Receipt(watermark)) = frame.body()
            && !self.shown.admits(watermark)
        {
            return;
        }
        let there = self.readers.iter().filter(|one| one.reader.is_live());
        for one in there.filter(|one| Some(one.connection.user_id()) != except) {
            match except {
                Some(_) => one.connection.push_if_quick(frame),
                None => one.connection.push(Arc::clone(frame)),
            }
        }
    }

    /// A connection has read its history up to `sent`. The answer may have to wait for the head.
    pub(super) fn caught_up(&mut self, number: u64, sent: i64, answer: oneshot::Sender<CatchUp>) {
        let Some(handed_out) = self.handed_out else {
            self.waiting.push((number, sent, answer));
            return;
        };
        // Whoever asked may have gone.
        let _ = answer.send(self.caught_up_with(number, sent, handed_out));
    }

    /// What it needs from the world now.
    pub(super) fn needs_now(&self) -> Needs {
        self.needs(false)
    }

    fn caught_up_with(&mut self, number: u64, sent: i64, handed_out: i64) -> CatchUp {
        let Some(one) = self.readers.iter_mut().find(|one| one.connection.number() == number) else {
            return CatchUp::Gone;
        };
        for frame in one.reader.caught_up(sent, handed_out) {
            one.connection.push(frame);
        }
        if one.reader.is_live() { CatchUp::Live } else { CatchUp::Behind(one.reader.sent()) }
    }

    /// Somebody may be out: nothing is handed out before all have been checked.
    pub(super) fn suspect(&mut self) -> Needs {
        let check = !std::mem::replace(&mut self.checking, true);
        Needs { repair: false, check }
    }

    /// The check has answered: who of those asked is out, by the list of this version. Returns whether another check is
    /// needed, because what waits was written under a list that is newer still.
    pub(super) fn checked(&mut self, out: &HashSet<UserId>, version: i64) -> Needs {
        self.version = self.version.max(version);
        self.drop_users(|user| out.contains(&user));
        self.checking = false;
        let held_back = std::mem::take(&mut self.held_back);
        let needs = self.hand_out(held_back);
        for (frame, except) in std::mem::take(&mut self.passing) {
            self.pass(&frame, except);
        }
        needs
    }

    fn hand_out(&mut self, items: impl IntoIterator<Item = Item>) -> Needs {
        let mut check = false;
        for item in items {
            if !self.checking && !self.admits(&item) {
                self.checking = true;
                check = true;
            }
            if !self.checking {
                self.hand_out_one(item);
            } else if self.held_back.len() < HELD_BACK {
                self.held_back.push_back(item);
            } else {
                self.give_up();
                return Needs::default();
            }
        }
        self.needs(check)
    }

    /// Whether all followers may read an entry that was written under its version of the list of members.
    fn admits(&mut self, item: &Item) -> bool {
        if item.version <= self.version {
            return true;
        }
        // The very change that made the next version says itself who is out.
        if item.change == Change::None || item.version != self.version + 1 || self.version == 0 {
            return false;
        }
        if let Change::Out(user) = item.change {
            self.drop_users(|other| other == user);
        }
        self.version = item.version;
        true
    }

    fn hand_out_one(&mut self, item: Item) {
        self.handed_out = Some(item.sequence);
        for one in &mut self.readers {
            match one.reader.happened(item.sequence, Arc::clone(&item.frame)) {
                Happened::Now(frame) => one.connection.push(frame),
                Happened::Kept | Happened::Known => {}
                // Nothing is left out silently, not even by a mistake of ours.
                Happened::Gap => one.connection.end(End::Restart { retry_after: Duration::ZERO }),
            }
        }
        if item.change == Change::AllOut {
            self.drop_users(|_| true);
        }
    }

    fn needs(&self, check: bool) -> Needs {
        Needs { repair: !self.repairing && self.follower.missing().is_some(), check }
    }

    fn drop_users(&mut self, is_out: impl Fn(UserId) -> bool) {
        let key = self.key;
        self.readers.retain(|one| {
            let stays = !is_out(one.connection.user_id());
            if !stays {
                one.connection.followed().remove(&key);
            }
            stays
        });
    }

    /// The followers come back and read the log: what is held back has grown too long, or the log is another one.
    pub(super) fn give_up(&mut self) {
        for one in self.readers.drain(..) {
            let retry_after = Duration::from_millis(one.connection.number() % 1000);
            one.connection.end(End::Restart { retry_after });
        }
        self.held_back = VecDeque::new();
    }
}

/// The conversation that a user's own log says the user is out of.
pub(super) fn lost_conversation(event: &UserEvent) -> Option<ConversationId> {
    match &event.payload {
        Some(user_event::Payload::ConversationLost(lost)) => {
            ConversationId::parse(&lost.conversation_id).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::conversation::v1::{ConversationDeleted, MemberRemoved, MembersAdded};
    use proto::messaging::v1::Watermark;
    use proto::messaging::v1::event::Payload;

    use super::super::connection::Bounds;
    use super::super::connection::tests::{connection, next};
    use super::*;

    const ROOMY: Bounds = Bounds { frames: 100_000, bytes: usize::MAX };

    fn topic() -> Topic {
        let mut topic = Topic::new(Key::Conversation(ConversationId::generate()), Watermarks::default());
        assert_eq!(topic.begin(0), Needs::default());
        topic
    }

    fn event(sequence: i64, version: i64, payload: Option<Payload>) -> Item {
        Item::from(Event { sequence, membership_version: version, payload, ..Event::default() })
    }

    fn said(sequence: i64, version: i64) -> Item {
        event(sequence, version, None)
    }

    fn removed(sequence: i64, version: i64, user: UserId) -> Item {
        let removed = MemberRemoved { user_id: user.to_string(), ..MemberRemoved::default() };
        event(sequence, version, Some(Payload::MemberRemoved(removed)))
    }

    /// A live follower of everything after `sent`.
    fn live(topic: &mut Topic, number: u64, sent: i64) -> Arc<Connection> {
        let follower = connection(number, UserId::generate(), ROOMY);
        topic.follow(Arc::clone(&follower), false);
        let (answer, mut answered) = oneshot::channel();
        topic.caught_up(number, sent, answer);
        assert_eq!(answered.try_recv(), Ok(CatchUp::Live));
        follower
    }

    fn heard(follower: &Connection) -> Vec<i64> {
        let sequence = |frame: Arc<Frame>| match frame.body() {
            Some(Body::Event(event)) => event.sequence,
            _ => 0,
        };
        std::iter::from_fn(|| next(follower)).map(|frame| sequence(frame.expect("a frame"))).collect()
    }

    fn nobody() -> HashSet<UserId> {
        HashSet::new()
    }

    #[test]
    fn what_is_newer_than_the_known_members_waits_for_a_check() {
        let mut topic = topic();
        let (ann, bob) = (live(&mut topic, 1, 0), live(&mut topic, 2, 0));
        assert!(topic.hint(said(1, 3)).check);
        assert!(!topic.hint(said(2, 3)).check, "one check at a time");
        assert!(heard(&ann).is_empty() && heard(&bob).is_empty());
        assert_eq!(topic.users().len(), 2);
        assert!(!topic.checked(&HashSet::from([bob.user_id()]), 3).check);
        assert_eq!((heard(&ann), heard(&bob)), (vec![1, 2], vec![]));
        assert!(bob.followed().is_empty(), "who is out does not follow");
        assert!(!topic.hint(said(3, 3)).check);
        assert_eq!(heard(&ann), [3]);
    }

    #[test]
    fn an_answer_that_is_older_than_what_waits_is_not_enough() {
        let mut topic = topic();
        let ann = live(&mut topic, 1, 0);
        topic.hint(said(1, 3));
        topic.hint(said(2, 4));
        assert!(topic.checked(&nobody(), 3).check);
        assert_eq!(heard(&ann), [1]);
        assert!(!topic.checked(&nobody(), 5).check);
        assert_eq!(heard(&ann), [2]);
    }

    #[test]
    fn a_change_that_makes_the_next_version_says_itself_who_is_out() {
        let mut topic = topic();
        let (ann, bob) = (live(&mut topic, 1, 0), live(&mut topic, 2, 0));
        topic.hint(said(1, 3));
        topic.checked(&nobody(), 3);
        let added = Payload::MembersAdded(MembersAdded::default());
        assert!(!topic.hint(event(2, 4, Some(added))).check);
        assert!(!topic.hint(removed(3, 5, bob.user_id())).check);
        assert!(topic.hint(removed(4, 7, ann.user_id())).check, "what made version 6 is not known");
        assert_eq!((heard(&ann), heard(&bob)), (vec![1, 2, 3], vec![1, 2]));
    }

    #[test]
    fn when_a_conversation_is_gone_everybody_hears_it_and_nothing_more() {
        let mut topic = topic();
        let ann = live(&mut topic, 1, 0);
        topic.hint(said(1, 1));
        topic.checked(&nobody(), 1);
        topic.hint(event(2, 2, Some(Payload::ConversationDeleted(ConversationDeleted::default()))));
        assert_eq!(heard(&ann), [1, 2]);
        assert!(topic.is_idle());
    }

    #[test]
    fn while_somebody_is_suspected_nobody_hears_anything() {
        let mut topic = topic();
        let ann = live(&mut topic, 1, 0);
        topic.hint(said(1, 1));
        topic.checked(&nobody(), 1);
        assert!(topic.suspect().check);
        assert!(!topic.suspect().check);
        topic.hint(said(2, 1));
        topic.pass(&Frame::push(Body::Pong(proto::gateway::v1::Pong {})), None);
        assert_eq!(heard(&ann), [1]);
        topic.checked(&nobody(), 1);
        // What was held back, then what passed meanwhile (0: it has no place in the log).
        assert_eq!(heard(&ann), [2, 0]);
    }

    #[test]
    fn of_what_passes_during_a_check_only_so_much_is_kept_and_only_for_members() {
        let mut topic = topic();
        let (ann, bob) = (live(&mut topic, 1, 0), live(&mut topic, 2, 0));
        assert!(topic.suspect().check);
        for _ in 0..2 * PASSING {
            topic.pass(&Frame::push(Body::Pong(proto::gateway::v1::Pong {})), None);
        }
        topic.checked(&HashSet::from([bob.user_id()]), 1);
        assert_eq!(heard(&ann), [0; PASSING]);
        assert_eq!(heard(&bob), [0_i64; 0]);
    }

    /// In one and the same conversation.
    fn watermark_of(user: UserId, delivered_sequence: i64, read_sequence: i64) -> Watermark {
        let conversation_id = "01939f2c-0000-7000-8000-000000000001".to_owned();
        let user_id = user.to_string();
        Watermark { conversation_id, user_id, delivered_sequence, read_sequence, update_time: None }
    }

    fn receipt(user: UserId, delivered: i64, read: i64) -> Arc<Frame> {
        Frame::push(Body::Receipt(watermark_of(user, delivered, read)))
    }

    fn read(follower: &Connection) -> Vec<i64> {
        let sequence = |frame: Arc<Frame>| match frame.body() {
            Some(Body::Receipt(watermark)) => watermark.read_sequence,
            _ => 0,
        };
        std::iter::from_fn(|| next(follower)).map(|frame| sequence(frame.expect("a frame"))).collect()
    }

    #[test]
    fn a_receipt_that_arrives_late_is_not_shown() {
        let mut topic = topic();
        let ann = live(&mut topic, 1, 0);
        let (bob, cem) = (UserId::generate(), UserId::generate());
        for (user, delivered, place) in
            [(bob, 96, 96), (bob, 22, 22), (cem, 22, 22), (bob, 97, 96), (bob, 97, 96), (bob, 97, 95)]
        {
            topic.pass(&receipt(user, delivered, place), None);
        }
        assert_eq!(read(&ann), [96, 22, 96, 96], "of bob, cem, bob and again bob");
    }

    #[test]
    fn one_who_comes_back_is_shown_no_older_receipt_either() {
        let shown = Watermarks::default();
        let key = Key::Conversation(ConversationId::generate());
        let bob = UserId::generate();
        for (place, seen) in [(96, vec![96]), (22, vec![]), (97, vec![97])] {
            // The topic goes with its last follower, and is another one for the next.
            let mut topic = Topic::new(key, shown.clone());
            topic.begin(0);
            let ann = live(&mut topic, 1, 0);
            topic.pass(&receipt(bob, place, place), None);
            assert_eq!(read(&ann), seen);
        }
    }

    #[test]
    fn a_receipt_that_waits_for_a_check_can_become_old() {
        let mut topic = topic();
        let (ann, bob) = (live(&mut topic, 1, 0), UserId::generate());
        assert!(topic.suspect().check);
        topic.pass(&receipt(bob, 22, 22), None);
        topic.shown.raise(&mut watermark_of(bob, 96, 96));
        topic.checked(&nobody(), 1);
        assert_eq!(read(&ann), [0_i64; 0]);
    }

    #[test]
    fn who_follows_is_found_by_subject() {
        for key in [Key::Conversation(ConversationId::generate()), Key::User(UserId::generate())] {
            assert_eq!(Key::of_subject(&key.subject()), Some(key));
        }
        assert_eq!(Key::of_subject("parlor.messaging.v1.conversation.x"), None);
        assert_eq!(Key::of_subject(proto::subject::SESSIONS_ENDED), None);
    }

    #[test]
    fn one_that_begins_again_does_not_jump() {
        let mut topic = topic();
        let ann = live(&mut topic, 1, 0);
        assert!(topic.begin(3).repair);
        topic.filled(vec![said(1, 0), said(2, 0), said(3, 0)]);
        assert_eq!(heard(&ann), [1, 2, 3]);
    }

    /// A follower, how far it has read the log, what it has seen, and whether it is live or waits to be told so.
    struct Joined {
        follower: Arc<Connection>,
        read: i64,
        seen: Vec<i64>,
        is_live: bool,
        asked: Option<oneshot::Receiver<CatchUp>>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Hint(i64),
        Head,
        Repair,
        Check,
        Join,
        Read(i64),
    }

    fn steps(len: i64) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            10 => (1..=len).prop_map(Step::Hint),
            1 => Just(Step::Head),
            3 => Just(Step::Repair),
            3 => Just(Step::Check),
            1 => Just(Step::Join),
            3 => (1..20_i64).prop_map(Step::Read),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// However hints, repairs, checks, joins and reading of the history interleave, each follower hears everything
        /// after what it knew, once and in order.
        #[test]
        fn every_follower_hears_everything_once((len, steps) in (1..80_i64).prop_flat_map(|len| (Just(len), steps(len))), begin in 0..10_i64) {
            let begin = begin.min(len);
            let mut topic = Topic::new(Key::Conversation(ConversationId::generate()), Watermarks::default());
            let version = |sequence: i64| sequence / 7;
            let item = |sequence: i64| said(sequence, version(sequence));
            let mut followers: Vec<Joined> = Vec::new();
            let mut checking = false;
            let rest = [Step::Join, Step::Head].into_iter().chain((0..400).map(|turn| match turn % 3 {
                0 => Step::Repair,
                1 => Step::Check,
                _ => Step::Read(len),
            }));
            for (turn, step) in steps.into_iter().chain(rest).enumerate() {
                if turn == 5 {
                    checking |= topic.begin(begin).check;
                }
                let needs = match step {
                    Step::Hint(sequence) => topic.hint(item(sequence)),
                    Step::Head => topic.head(len),
                    Step::Repair => match topic.missing() {
                        Some(missing) => topic.filled((missing.after + 1..=missing.up_to).take(5).map(item).collect()),
                        None => Needs::default(),
                    },
                    Step::Check if checking => {
                        checking = false;
                        topic.checked(&nobody(), version(len))
                    }
                    Step::Check => Needs::default(),
                    Step::Join => {
                        let follower = connection(followers.len() as u64, UserId::generate(), ROOMY);
                        topic.follow(Arc::clone(&follower), false);
                        followers.push(Joined { follower, read: 0, seen: Vec::new(), is_live: false, asked: None });
                        Needs::default()
                    }
                    Step::Read(count) => {
                        for one in followers.iter_mut().filter(|one| !one.is_live) {
                            let mut answered = one.asked.take().unwrap_or_else(|| {
                                let page = (one.read + count).min(len);
                                one.seen.extend(one.read + 1..=page);
                                one.read = page;
                                let (answer, answered) = oneshot::channel();
                                topic.caught_up(one.follower.number(), page, answer);
                                answered
                            });
                            match answered.try_recv() {
                                Ok(CatchUp::Live) => one.is_live = true,
                                Ok(CatchUp::Behind(known)) => {
                                    one.seen.extend(heard(&one.follower));
                                    one.read = known;
                                }
                                Ok(CatchUp::Gone) => prop_assert!(false, "gone"),
                                // The answer comes when the topic has begun.
                                Err(_) => one.asked = Some(answered),
                            }
                        }
                        Needs::default()
                    }
                };
                checking |= needs.check;
                for one in &mut followers {
                    one.seen.extend(heard(&one.follower));
                }
            }
            for one in followers {
                prop_assert!(one.is_live);
                prop_assert_eq!(one.seen, (1..=len).collect::<Vec<_>>());
            }
        }
    }
}
