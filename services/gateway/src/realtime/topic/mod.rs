//! One log that connections of this gateway follow, and its followers. No I/O: the hub carries out the requests of the
//! topic.
//!
//! Three steps are between a hint and a client. The [`Follower`] puts entries into the order of the log. The gate holds
//! back entries written under a list of members that is newer than the one known here, until every local follower has
//! been checked against the new list; followers without access are dropped and receive none of them. The [`Reader`] of
//! each connection leaves out entries that the connection has received from its history already.

mod entry;
mod key;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chassis::follow::{Follower, Missing, Verdict};
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::UserId;
use tokio::sync::oneshot;

use crate::realtime::connection::{Connection, End};
use crate::realtime::delivery_times::DeliveryTimes;
use crate::realtime::frame::Frame;
use crate::realtime::identity::Viewer;
use crate::realtime::log_reader::{Happened, Reader};
use crate::realtime::watermarks::Watermarks;

use self::entry::Change;
pub(super) use self::entry::{Item, lost_conversation};
pub(crate) use self::key::Key;

/// The number of entries that are held back while members are checked; with more, the followers start anew.
const HELD_BACK: usize = 1024;

/// The number of frames without a sequence that are kept while members are checked; of more, the latest.
const PASSING: usize = 64;

/// The requests of the topic to the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Earlier entries are missing: read them from the log, after a short wait.
    pub(super) repair: bool,
    /// The list of members has changed: check all of [`Topic::viewers`].
    pub(super) check: bool,
}

/// The state of a connection that has read its history up to some sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatchUp {
    /// It receives new events from here on.
    Live,
    /// There were more new events than were kept: read on after this.
    Behind(i64),
    /// It does not follow this log, or has lost access.
    Gone,
}

/// One log with followers on this gateway.
pub(super) struct Topic {
    key: Key,
    follower: Follower<Item>,
    /// Everything up to here has been delivered; `None` until the head is known.
    handed_out: Option<i64>,
    /// All followers were checked against this version of the list of members, or a newer one.
    version: i64,
    /// True while a check is in progress or needed.
    checking: bool,
    held_back: VecDeque<Item>,
    /// The latest frames without a sequence that came during a check.
    passing: VecDeque<(Arc<Frame>, Option<UserId>)>,
    readers: Vec<Following>,
    shown: Watermarks,
    times: DeliveryTimes,
    /// The connections that have read their history before the head was known.
    waiting: Vec<(u64, i64, oneshot::Sender<CatchUp>)>,
    /// True while a read of the log is in progress or planned.
    pub(super) repairing: bool,
}

struct Following {
    connection: Arc<Connection>,
    reader: Reader<Arc<Frame>>,
}

impl Topic {
    pub(super) fn new(key: Key, shown: Watermarks, times: DeliveryTimes) -> Self {
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
            times,
            waiting: Vec::new(),
            repairing: false,
        }
    }

    /// Adds a follower; with `anew`, a connection that followed already reads its history again.
    pub(super) fn follow(&mut self, connection: Arc<Connection>, anew: bool) {
        connection.followed().insert(self.key);
        match self.readers.iter_mut().find(|one| one.connection.number() == connection.number()) {
            Some(one) if anew => one.reader = Reader::catching_up(),
            Some(_) => {}
            None => self.readers.push(Following { connection, reader: Reader::catching_up() }),
        }
    }

    /// Removes a follower.
    pub(super) fn unfollow(&mut self, number: u64) {
        if let Some(place) = self.readers.iter().position(|one| one.connection.number() == number) {
            self.readers.swap_remove(place);
        }
    }

    /// True when there are no followers.
    pub(super) fn is_idle(&self) -> bool {
        self.readers.is_empty()
    }

    /// True when the head is known, so that entries can be delivered.
    pub(super) fn has_begun(&self) -> bool {
        self.handed_out.is_some()
    }

    /// Returns the viewers who follow, each once.
    pub(super) fn viewers(&self) -> Vec<Viewer> {
        let mut viewers: Vec<_> = self.readers.iter().map(|one| one.connection.viewer()).collect();
        viewers.sort_unstable();
        viewers.dedup();
        viewers
    }

    /// Returns a live follower on whose behalf the log can be read: a user, if there is one. Different values of `turn`
    /// select different followers.
    pub(super) fn reader(&self, turn: usize) -> Option<Viewer> {
        let live = self.readers.iter().filter(|one| one.reader.is_live()).map(|one| one.connection.viewer());
        let live: Vec<_> = live.collect();
        let users: Vec<_> = live.iter().copied().filter(|viewer| *viewer != Viewer::Anonymous).collect();
        let viewers = if users.is_empty() { live } else { users };
        viewers.get(turn.checked_rem(viewers.len())?).copied()
    }

    /// Returns the range that has to be read from the log.
    pub(super) fn missing(&self) -> Option<Missing> {
        self.follower.missing()
    }

    /// Begins at the head that the log had after its hints had been subscribed to.
    pub(super) fn begin(&mut self, head: i64) -> Needs {
        // A topic that has begun must not jump: live followers rely on receiving everything that comes after.
        if self.handed_out.is_some() {
            return self.head(head);
        }
        self.handed_out = Some(head);
        for (number, sent, answer) in std::mem::take(&mut self.waiting) {
            // The asker may be gone.
            let _ = answer.send(self.caught_up_with(number, sent, head));
        }
        let run = self.follower.begin(head);
        self.hand_out(run)
    }

    /// Records the head of the log.
    pub(super) fn head(&mut self, head: i64) -> Needs {
        self.follower.head(head);
        self.needs(false)
    }

    /// Takes an entry from a hint.
    pub(super) fn hint(&mut self, item: Item) -> Needs {
        match self.follower.offer(item.sequence, item) {
            Verdict::Deliver(run) => self.hand_out(run),
            Verdict::Duplicate => Needs::default(),
            Verdict::Held => self.needs(false),
        }
    }

    /// Takes the entries from a read of the log.
    pub(super) fn filled(&mut self, items: Vec<Item>) -> Needs {
        let run = self.follower.filled(items.into_iter().map(Item::numbered));
        self.hand_out(run)
    }

    /// Delivers a frame without a sequence to the present followers. Not to `except`, and not when it is a receipt that
    /// is older than one that was shown.
    pub(super) fn pass(&mut self, frame: &Arc<Frame>, except: Option<UserId>) {
        // Nothing is delivered while the access of the followers is unknown.
        if self.checking {
            if self.passing.len() == PASSING {
                self.passing.pop_front();
            }
            self.passing.push_back((Arc::clone(frame), except));
            return;
        }
        // Checked only now: a frame that waited for a check may have become old meanwhile.
        if let Some(Body::Receipt(watermark)) = frame.body()
            && !self.shown.admits(watermark)
        {
            return;
        }
        let there = self.readers.iter().filter(|one| one.reader.is_live());
        for one in there.filter(|one| except.is_none() || one.connection.viewer().user_id() != except) {
            match except {
                Some(_) => one.connection.push_if_quick(frame),
                None => one.connection.push(Arc::clone(frame)),
            }
        }
    }

    /// Records that a connection has read its history up to `sent`. The answer may have to wait for the head.
    pub(super) fn caught_up(&mut self, number: u64, sent: i64, answer: oneshot::Sender<CatchUp>) {
        let Some(handed_out) = self.handed_out else {
            self.waiting.push((number, sent, answer));
            return;
        };
        // The asker may be gone.
        let _ = answer.send(self.caught_up_with(number, sent, handed_out));
    }

    /// Returns the current requests of the topic.
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

    /// Holds everything back until all followers have been checked, because one may have lost access.
    pub(super) fn suspect(&mut self) -> Needs {
        let check = !std::mem::replace(&mut self.checking, true);
        Needs { repair: false, check }
    }

    /// Takes the answer of a check: the viewers without access, by the list of this version. The result requests
    /// another check if the held back entries were written under a list that is newer still.
    pub(super) fn checked(&mut self, out: &HashSet<Viewer>, version: i64) -> Needs {
        self.version = self.version.max(version);
        self.drop_viewers(|viewer| out.contains(&viewer));
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

    /// True when all followers may read an entry that was written under its version of the list of members.
    fn admits(&mut self, item: &Item) -> bool {
        if item.version <= self.version {
            return true;
        }
        // The change that made the next version names the user who has lost access.
        if item.change == Change::None || item.version != self.version + 1 || self.version == 0 {
            return false;
        }
        if let Change::Out(user) = item.change {
            self.drop_viewers(|viewer| viewer == Viewer::User(user));
        }
        self.version = item.version;
        true
    }

    fn hand_out_one(&mut self, item: Item) {
        self.handed_out = Some(item.sequence);
        let mut is_delivered = false;
        for one in &mut self.readers {
            match one.reader.happened(item.sequence, Arc::clone(&item.frame)) {
                Happened::Now(frame) => {
                    one.connection.push(frame);
                    is_delivered = true;
                }
                Happened::Kept | Happened::Known => {}
                // Nothing is left out silently, not even by a bug of the gateway.
                Happened::Gap => one.connection.end(End::Restart { retry_after: Duration::ZERO }),
            }
        }
        if let Some(time) = item.occur_time.filter(|_| is_delivered) {
            self.times.record(time);
        }
        if item.change == Change::AllOut {
            self.drop_viewers(|_| true);
        }
    }

    fn needs(&self, check: bool) -> Needs {
        Needs { repair: !self.repairing && self.follower.missing().is_some(), check }
    }

    fn drop_viewers(&mut self, is_out: impl Fn(Viewer) -> bool) {
        let key = self.key;
        self.readers.retain(|one| {
            let stays = !is_out(one.connection.viewer());
            if !stays {
                one.connection.followed().remove(&key);
            }
            stays
        });
    }

    /// Makes the followers come back and read the log: too much is held back, or the log is another one.
    pub(super) fn give_up(&mut self) {
        for one in self.readers.drain(..) {
            let retry_after = Duration::from_millis(one.connection.number() % 1000);
            one.connection.end(End::Restart { retry_after });
        }
        self.held_back = VecDeque::new();
    }
}
