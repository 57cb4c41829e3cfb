//! The history of a run, and what must never be found in one.
//!
//! Clients note every step they take: a send begun, acknowledged, refused or of unknown outcome; an event received.
//! When all is over and healed, the log of every conversation is read once more, over every door. [`check`] compares
//! what clients were told with what is there. No I/O: a violation can be planted, and is, in the tests below.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A client of the run, by number.
pub type Client = usize;

/// One step of a client.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// When, since the run began.
    pub at: Duration,
    /// Whose.
    pub client: Client,
    /// What.
    pub what: What,
}

/// What a client did, or saw.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Follows a conversation: in the end it must have all of it.
    Follows {
        /// The conversation.
        conversation: String,
        /// From here on; 0 from its beginning.
        after: i64,
    },
    /// Begins to send, or tries again.
    Invoked {
        /// Names the message: the client message id, different in the whole run.
        key: String,
        /// Where to.
        conversation: String,
        /// The connection that it is sent on.
        connection: u64,
    },
    /// The send was acknowledged.
    Acknowledged {
        /// The key.
        key: String,
        /// The sequence that it was told.
        sequence: i64,
        /// The message id that it was told.
        message_id: String,
    },
    /// The send was definitely refused.
    Refused {
        /// The key.
        key: String,
        /// What was said.
        reason: String,
    },
    /// The send failed in a way that says nothing: it may have happened.
    Unknown {
        /// The key.
        key: String,
    },
    /// Takes up its place on a new connection.
    Resumed,
    /// Receives an event.
    Received {
        /// Of this conversation.
        conversation: String,
        /// Its sequence.
        sequence: i64,
        /// What it says.
        entry: Entry,
    },
    /// The deletion of a message was acknowledged.
    Deleted {
        /// In this conversation.
        conversation: String,
        /// The sequence of the message.
        sequence: i64,
    },
    /// The removal of a client from a conversation was acknowledged.
    Removed {
        /// From this conversation.
        conversation: String,
        /// Who.
        who: Client,
    },
    /// A read watermark was seen.
    Read {
        /// In this conversation.
        conversation: String,
        /// Whose, as a user id.
        user: String,
        /// How far.
        sequence: i64,
    },
    /// Something was broken on purpose.
    Fault {
        /// What.
        name: String,
    },
    /// It is whole again.
    Healed {
        /// What.
        name: String,
    },
}

/// What an entry of a log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A message.
    Message {
        /// Its client message id.
        key: String,
        /// Its id.
        message_id: String,
        /// Whether what it says is there.
        has_content: bool,
    },
    /// Something else.
    Other,
}

impl Entry {
    fn key(&self) -> Option<&str> {
        match self {
            Self::Message { key, .. } => Some(key),
            Self::Other => None,
        }
    }
}

/// The logs of all conversations, as one door shows them: sequences and what they say, in the order in which they came.
pub type Logs = BTreeMap<String, Vec<(i64, Entry)>>;

/// Where clients note their steps.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    steps: Mutex<Vec<Step>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), steps: Mutex::default() }
    }
}

impl Recorder {
    /// Notes a step that is taken now.
    pub fn note(&self, client: Client, what: What) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the order of the steps is the order of their times.
        steps.push(Step { at: self.began.elapsed(), client, what });
    }

    /// The time of the run.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many steps of this kind there are.
    pub fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|step| is(&step.what)).count()
    }

    /// All steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The checks, by the names of their figures.
pub const CHECKS: [&str; 11] = [
    "lost",
    "duplicated",
    "phantom",
    "misordered",
    "gaps",
    "fifo_broken",
    "realtime_broken",
    "resurrected",
    "watermark_fell",
    "leaked",
    "unconverged_clients",
];

/// What should not have happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

/// What is found about a history.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What should not have happened.
    pub violations: Vec<Violation>,
    /// How many sends were acknowledged.
    pub acknowledged: usize,
    /// How many sends were definitely refused, and not taken later either.
    pub refused: usize,
    /// How many tries had an unknown outcome.
    pub unknown: usize,
    /// How many sends, of those with a try of unknown outcome, are in the log.
    pub unknown_done: usize,
    /// How many are not.
    pub unknown_not_done: usize,
    /// From the first try to the receipt by another client, while nothing was broken.
    pub visible: Vec<Duration>,
    /// The same for sends while something was broken.
    pub visible_in_faults: Vec<Duration>,
    /// By the name of each fault, how long it lasted, and how long it took until a send that was begun after it was
    /// acknowledged.
    pub recoveries: Vec<(String, Duration, Duration)>,
}

impl Verdict {
    /// How many violations a check has found.
    pub fn count(&self, check: &str) -> usize {
        self.violations.iter().filter(|violation| violation.check == check).count()
    }
}

/// Checks a history against the final logs: one per door, by its name; the first is what the others are compared with.
pub fn check(steps: &[Step], doors: &[(&str, Logs)]) -> Verdict {
    let nothing = Logs::new();
    let facts = Facts::of(steps, doors.first().map_or(&nothing, |(_, logs)| logs));
    let mut violations = Vec::new();
    let mut found = |check: &'static str, what: String| violations.push(Violation { check, what });
    lost(&facts, &mut found);
    duplicated(&facts, &mut found);
    phantom(&facts, &mut found);
    misordered(&facts, doors, &mut found);
    gaps(&facts, &mut found);
    fifo_broken(&facts, &mut found);
    realtime_broken(&facts, &mut found);
    resurrected(&facts, &mut found);
    watermark_fell(&facts, &mut found);
    leaked(&facts, &mut found);
    unconverged(&facts, &mut found);

    let unknown = facts.sends.iter().filter(|(_, send)| send.unknown > 0);
    let (done, not_done): (Vec<_>, Vec<_>) = unknown.partition(|(key, _)| facts.placed.contains_key(*key));
    let (visible, visible_in_faults) = visible(&facts);
    Verdict {
        violations,
        acknowledged: facts.sends.values().filter(|send| !send.acknowledged.is_empty()).count(),
        refused: facts
            .sends
            .values()
            .filter(|send| send.refused.is_some() && send.acknowledged.is_empty())
            .count(),
        unknown: facts.sends.values().map(|send| send.unknown).sum(),
        unknown_done: done.len(),
        unknown_not_done: not_done.len(),
        visible,
        visible_in_faults,
        recoveries: recoveries(&facts),
    }
}

/// One send, with all its tries.
struct Send<'a> {
    client: Client,
    conversation: &'a str,
    /// The connection of the last try.
    connection: u64,
    invoked: Duration,
    tries: usize,
    acknowledged: Vec<Acknowledgement<'a>>,
    refused: Option<&'a str>,
    unknown: usize,
}

struct Acknowledgement<'a> {
    at: Duration,
    sequence: i64,
    message_id: &'a str,
}

struct Receipt<'a> {
    at: Duration,
    client: Client,
    conversation: &'a str,
    sequence: i64,
    entry: &'a Entry,
}

/// The history by what the checks ask for.
struct Facts<'a> {
    steps: &'a [Step],
    logs: &'a Logs,
    sends: BTreeMap<&'a str, Send<'a>>,
    receipts: Vec<Receipt<'a>>,
    /// What stands at each place of the final log.
    entries: HashMap<(&'a str, i64), &'a Entry>,
    /// Where each key stands in the final log.
    placed: HashMap<&'a str, Vec<(&'a str, i64, &'a Entry)>>,
    /// Conversation and sequence of the messages whose deletion was acknowledged, and when.
    deleted: HashMap<(&'a str, i64), Duration>,
    /// Conversations and clients that were removed from them, and when that was acknowledged.
    removed: HashMap<(&'a str, Client), Duration>,
}

impl<'a> Facts<'a> {
    fn of(steps: &'a [Step], logs: &'a Logs) -> Self {
        let mut facts = Self {
            steps,
            logs,
            sends: BTreeMap::new(),
            receipts: Vec::new(),
            entries: HashMap::new(),
            placed: HashMap::new(),
            deleted: HashMap::new(),
            removed: HashMap::new(),
        };
        for (conversation, log) in logs {
            for (sequence, entry) in log {
                facts.entries.insert((conversation, *sequence), entry);
                if let Some(key) = entry.key() {
                    facts.placed.entry(key).or_default().push((conversation, *sequence, entry));
                }
            }
        }
        for step in steps {
            facts.take(step);
        }
        facts
    }

    fn take(&mut self, step: &'a Step) {
        let at = step.at;
        match &step.what {
            What::Invoked { key, conversation, connection } => {
                let send = self.sends.entry(key).or_insert_with(|| Send {
                    client: step.client,
                    conversation,
                    connection: *connection,
                    invoked: at,
                    tries: 0,
                    acknowledged: Vec::new(),
                    refused: None,
                    unknown: 0,
                });
                send.connection = *connection;
                send.tries += 1;
            }
            What::Acknowledged { key, sequence, message_id } => {
                if let Some(send) = self.sends.get_mut(key.as_str()) {
                    send.acknowledged.push(Acknowledgement { at, sequence: *sequence, message_id });
                }
            }
            What::Refused { key, reason } => {
                if let Some(send) = self.sends.get_mut(key.as_str()) {
                    send.refused = Some(reason);
                }
            }
            What::Unknown { key } => {
                if let Some(send) = self.sends.get_mut(key.as_str()) {
                    send.unknown += 1;
                }
            }
            What::Received { conversation, sequence, entry } => self.receipts.push(Receipt {
                at,
                client: step.client,
                conversation,
                sequence: *sequence,
                entry,
            }),
            What::Deleted { conversation, sequence } => {
                self.deleted.entry((conversation, *sequence)).or_insert(at);
            }
            What::Removed { conversation, who } => {
                self.removed.entry((conversation, *who)).or_insert(at);
            }
            What::Follows { .. }
            | What::Resumed
            | What::Read { .. }
            | What::Fault { .. }
            | What::Healed { .. } => {}
        }
    }
}

/// An acknowledged message is not in the log.
fn lost(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    for (key, send) in &facts.sends {
        if !send.acknowledged.is_empty() && !facts.placed.contains_key(key) {
            found("lost", format!("{key}, acknowledged at {:?}", send.acknowledged[0].at));
        }
    }
}

/// One key became two messages, or one event was shown twice to one client.
fn duplicated(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    for (key, places) in &facts.placed {
        if places.len() > 1 {
            found("duplicated", format!("{key} stands in the log {} times", places.len()));
        }
        let Some(send) = facts.sends.get(key) else { continue };
        for told in &send.acknowledged {
            let is_there = |(_, sequence, entry): &(&str, i64, &Entry)| {
                *sequence == told.sequence
                    && matches!(entry, Entry::Message { message_id, .. } if message_id == told.message_id)
            };
            if !places.iter().any(is_there) {
                found("duplicated", format!("{key} was acknowledged as {} and is another", told.sequence));
            }
        }
    }
    let mut shown = BTreeSet::new();
    for receipt in &facts.receipts {
        if !shown.insert((receipt.client, receipt.conversation, receipt.sequence)) {
            let (client, sequence) = (receipt.client, receipt.sequence);
            found(
                "duplicated",
                format!("{}/{sequence} was shown to client {client} again", receipt.conversation),
            );
        }
    }
}

/// A message that nobody sent, or that was refused.
fn phantom(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    let received = facts.receipts.iter().filter_map(|receipt| receipt.entry.key());
    let keys: BTreeSet<&str> = facts.placed.keys().copied().chain(received).collect();
    for key in keys {
        match facts.sends.get(key) {
            None => found("phantom", format!("{key:?} was never sent")),
            Some(send) if send.acknowledged.is_empty() && send.unknown == 0 => {
                if let Some(reason) = send.refused {
                    found("phantom", format!("{key} was refused: {reason}"));
                }
            }
            Some(_) => {}
        }
    }
}

/// A client saw events out of order, or saw something else in a place than the final log has there; or two doors show
/// different logs.
fn misordered(facts: &Facts<'_>, doors: &[(&str, Logs)], found: &mut impl FnMut(&'static str, String)) {
    let mut last: HashMap<(Client, &str), i64> = HashMap::new();
    for receipt in &facts.receipts {
        let Receipt { client, conversation, sequence, .. } = *receipt;
        let before = last.entry((client, conversation)).or_insert(0);
        if sequence < *before {
            found("misordered", format!("client {client} saw {conversation}/{sequence} after {before}"));
        }
        *before = sequence.max(*before);
        if !facts.logs.contains_key(conversation) {
            continue;
        }
        let there = facts.entries.get(&(conversation, sequence)).and_then(|entry| entry.key());
        if there != receipt.entry.key() {
            let seen = receipt.entry.key();
            found(
                "misordered",
                format!("client {client} saw {seen:?} at {conversation}/{sequence}, the log has {there:?}"),
            );
        }
    }
    let Some((first, logs)) = doors.first() else { return };
    let keys = |logs: &Logs| -> BTreeMap<String, Vec<(i64, Option<String>)>> {
        let key = |(sequence, entry): &(i64, Entry)| (*sequence, entry.key().map(ToOwned::to_owned));
        logs.iter().map(|(id, log)| (id.clone(), log.iter().map(key).collect())).collect()
    };
    let wanted = keys(logs);
    for (door, logs) in &doors[1..] {
        let shown = keys(logs);
        for (conversation, log) in &wanted {
            if shown.get(conversation) != Some(log) {
                found("misordered", format!("{door} shows another log of {conversation} than {first}"));
            }
        }
    }
}

/// The sequences of a conversation are not 1 to n.
fn gaps(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    for (conversation, log) in facts.logs {
        let broken = log.iter().zip(1..).find(|((sequence, _), place)| sequence != place);
        if let Some(((sequence, _), place)) = broken {
            found("gaps", format!("{conversation} has {sequence} in the place of {place}"));
        }
    }
}

/// Sends of one connection to one conversation were acknowledged in another order than they are stored in. Those that
/// had to be tried again have no order of their own.
fn fifo_broken(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    type Lane<'a> = (Client, u64, &'a str);
    let mut lanes: BTreeMap<Lane<'_>, Vec<(Duration, i64)>> = BTreeMap::new();
    for send in facts.sends.values().filter(|send| send.tries == 1) {
        let Some(told) = send.acknowledged.first() else { continue };
        let lane = (send.client, send.connection, send.conversation);
        lanes.entry(lane).or_default().push((send.invoked, told.sequence));
    }
    for ((client, connection, conversation), mut lane) in lanes {
        lane.sort_unstable();
        for pair in lane.windows(2).filter(|pair| pair[0].1 >= pair[1].1) {
            let (one, two) = (pair[0].1, pair[1].1);
            found(
                "fifo_broken",
                format!("client {client}, {connection}, {conversation}: {one} before {two}"),
            );
        }
    }
}

/// A message that was acknowledged before another was begun stands behind it.
fn realtime_broken(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    let mut conversations: BTreeMap<&str, Vec<&Send<'_>>> = BTreeMap::new();
    for send in facts.sends.values().filter(|send| !send.acknowledged.is_empty()) {
        conversations.entry(send.conversation).or_default().push(send);
    }
    for (conversation, mut sends) in conversations {
        let mut told: Vec<(Duration, i64)> =
            sends.iter().map(|send| (send.acknowledged[0].at, send.acknowledged[0].sequence)).collect();
        told.sort_unstable();
        sends.sort_by_key(|send| send.invoked);
        let (mut next, mut highest) = (0, 0);
        for send in sends {
            while next < told.len() && told[next].0 < send.invoked {
                highest = highest.max(told[next].1);
                next += 1;
            }
            let sequence = send.acknowledged[0].sequence;
            if sequence < highest {
                found(
                    "realtime_broken",
                    format!("{conversation}: {sequence} was begun after {highest} was stored"),
                );
            }
        }
    }
}

/// What a deleted message said was shown after its deletion: by the final log, or to a client that took up its place
/// later.
fn resurrected(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    let shows = |entry: &Entry| matches!(entry, Entry::Message { has_content: true, .. });
    for (conversation, sequence) in facts.deleted.keys() {
        let log = facts.logs.get(*conversation).map_or(&[][..], Vec::as_slice);
        if log.iter().any(|(place, entry)| place == sequence && shows(entry)) {
            found("resurrected", format!("the log has what {conversation}/{sequence} said"));
        }
    }
    let mut resumed: HashMap<Client, Duration> = HashMap::new();
    for step in facts.steps {
        match &step.what {
            What::Resumed => {
                resumed.insert(step.client, step.at);
            }
            What::Received { conversation, sequence, entry } if shows(entry) => {
                let deleted = facts.deleted.get(&(conversation.as_str(), *sequence));
                if deleted
                    .is_some_and(|deleted| resumed.get(&step.client).is_some_and(|since| since > deleted))
                {
                    let client = step.client;
                    found(
                        "resurrected",
                        format!("client {client} was shown what {conversation}/{sequence} said"),
                    );
                }
            }
            _ => {}
        }
    }
}

/// A client saw a read watermark go back.
fn watermark_fell(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    let mut highest: HashMap<(Client, &str, &str), i64> = HashMap::new();
    for step in facts.steps {
        let What::Read { conversation, user, sequence } = &step.what else { continue };
        let before = highest.entry((step.client, conversation, user)).or_insert(0);
        if sequence < before {
            found("watermark_fell", format!("{user} in {conversation}: {sequence} after {before}"));
        }
        *before = (*before).max(*sequence);
    }
}

/// A client was shown a message that was begun after its removal had been acknowledged.
fn leaked(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    for receipt in &facts.receipts {
        let Some(removed) = facts.removed.get(&(receipt.conversation, receipt.client)) else { continue };
        let send = receipt.entry.key().and_then(|key| facts.sends.get(key));
        if send.is_some_and(|send| send.invoked > *removed) {
            let (client, sequence) = (receipt.client, receipt.sequence);
            found("leaked", format!("client {client} was shown {}/{sequence}", receipt.conversation));
        }
    }
}

/// A client does not have the whole of a conversation that it follows. One that was removed need not.
fn unconverged(facts: &Facts<'_>, found: &mut impl FnMut(&'static str, String)) {
    let mut applied: HashMap<(Client, &str), BTreeSet<i64>> = HashMap::new();
    for receipt in &facts.receipts {
        applied.entry((receipt.client, receipt.conversation)).or_default().insert(receipt.sequence);
    }
    let mut missing: BTreeMap<Client, String> = BTreeMap::new();
    for step in facts.steps {
        let What::Follows { conversation, after } = &step.what else { continue };
        if facts.removed.contains_key(&(conversation.as_str(), step.client)) {
            continue;
        }
        let log = facts.logs.get(conversation).map_or(&[][..], Vec::as_slice);
        let all: BTreeSet<i64> =
            log.iter().map(|(sequence, _)| *sequence).filter(|place| place > after).collect();
        let has = applied.remove(&(step.client, conversation.as_str())).unwrap_or_default();
        if let Some(first) = all.symmetric_difference(&has).next() {
            missing.entry(step.client).or_insert_with(|| {
                format!(
                    "client {} has {} of {} of {conversation}, first off: {first}",
                    step.client,
                    has.len(),
                    all.len()
                )
            });
        }
    }
    for what in missing.into_values() {
        found("unconverged_clients", what);
    }
}

/// From the first try to the receipt by every other client: of sends while nothing was broken, and of the others.
fn visible(facts: &Facts<'_>) -> (Vec<Duration>, Vec<Duration>) {
    // A while after a fault its effects are still to be seen.
    const AFTERMATH: Duration = Duration::from_secs(2);
    let mut windows: Vec<(Duration, Duration)> = Vec::new();
    for step in facts.steps {
        match &step.what {
            What::Fault { .. } => windows.push((step.at, Duration::MAX)),
            What::Healed { .. } => {
                if let Some(window) = windows.iter_mut().rev().find(|(_, end)| *end == Duration::MAX) {
                    window.1 = step.at + AFTERMATH;
                }
            }
            _ => {}
        }
    }
    let others = facts.receipts.iter().filter_map(|receipt| {
        let send = facts.sends.get(receipt.entry.key()?)?;
        (send.client != receipt.client).then(|| (send.invoked, receipt.at.saturating_sub(send.invoked)))
    });
    let is_calm = |(invoked, span): &(Duration, Duration)| {
        !windows.iter().any(|(from, to)| *from <= *invoked + *span && invoked <= to)
    };
    let (mut calm, mut broken): (Vec<_>, Vec<_>) = others.partition(is_calm);
    let spans = |list: &mut Vec<(Duration, Duration)>| {
        let mut spans: Vec<Duration> = list.iter().map(|(_, span)| *span).collect();
        spans.sort_unstable();
        spans
    };
    (spans(&mut calm), spans(&mut broken))
}

/// How long each fault lasted, and from its beginning to the first acknowledgement of a send that was begun after it.
fn recoveries(facts: &Facts<'_>) -> Vec<(String, Duration, Duration)> {
    let mut told: Vec<(Duration, Duration)> = facts
        .sends
        .values()
        .filter_map(|send| send.acknowledged.first().map(|told| (told.at, send.invoked)))
        .collect();
    told.sort_unstable();
    let of = |(place, step): (usize, &Step)| {
        let What::Fault { name } = &step.what else { return None };
        let is_end = |later: &&Step| matches!(&later.what, What::Healed { name: healed } if healed == name);
        let healed = facts.steps[place..].iter().find(is_end)?;
        let (at, _) = told.iter().find(|(_, invoked)| *invoked > step.at)?;
        Some((name.clone(), healed.at - step.at, *at - step.at))
    };
    facts.steps.iter().enumerate().filter_map(of).collect()
}

/// A share of sorted spans: 0.5 is the median.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (share * last as f64).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history that is well, to plant violations in: client 0 writes, clients 1 and 2 read.
    struct Plant {
        steps: Vec<Step>,
        logs: Logs,
    }

    const ROOM: &str = "room";

    fn message(key: &str) -> Entry {
        Entry::Message { key: key.to_owned(), message_id: format!("id-{key}"), has_content: true }
    }

    impl Plant {
        fn new() -> Self {
            let logs = Logs::from([(
                ROOM.to_owned(),
                vec![(1, Entry::Other), (2, message("a")), (3, message("b")), (4, message("c"))],
            )]);
            let mut plant = Self { steps: Vec::new(), logs };
            for reader in [1, 2] {
                plant.step(reader, What::Follows { conversation: ROOM.to_owned(), after: 0 });
                plant.receives(reader, 1, Entry::Other);
            }
            for (key, sequence) in [("a", 2), ("b", 3), ("c", 4)] {
                plant.invokes(key);
                plant.acknowledges(key, sequence);
                for reader in [1, 2] {
                    plant.receives(reader, sequence, message(key));
                }
            }
            plant
        }

        fn step(&mut self, client: Client, what: What) {
            let at = Duration::from_millis(10 * (self.steps.len() as u64 + 1));
            self.steps.push(Step { at, client, what });
        }

        fn invokes(&mut self, key: &str) {
            let (key, conversation) = (key.to_owned(), ROOM.to_owned());
            self.step(0, What::Invoked { key, conversation, connection: 7 });
        }

        fn acknowledges(&mut self, key: &str, sequence: i64) {
            let message_id = format!("id-{key}");
            self.step(0, What::Acknowledged { key: key.to_owned(), sequence, message_id });
        }

        fn receives(&mut self, client: Client, sequence: i64, entry: Entry) {
            self.step(client, What::Received { conversation: ROOM.to_owned(), sequence, entry });
        }

        fn log(&mut self) -> &mut Vec<(i64, Entry)> {
            self.logs.get_mut(ROOM).expect("the room")
        }

        fn verdict(&self) -> Verdict {
            check(&self.steps, &[("rest", self.logs.clone()), ("grpc", self.logs.clone())])
        }

        /// The checks that find something.
        #[track_caller]
        fn is_found_by(&self, check: &str) {
            let verdict = self.verdict();
            assert!(verdict.count(check) > 0, "not found: {:?}", verdict.violations);
        }
    }

    #[test]
    fn a_history_that_is_well_has_no_violations() {
        let verdict = Plant::new().verdict();
        assert_eq!(verdict.violations, []);
        assert_eq!((verdict.acknowledged, verdict.unknown), (3, 0));
        assert_eq!(verdict.visible.len(), 6);
    }

    #[test]
    fn an_acknowledged_message_that_is_missing_is_lost() {
        let mut plant = Plant::new();
        plant.invokes("d");
        plant.acknowledges("d", 5);
        plant.is_found_by("lost");
        assert_eq!(plant.verdict().violations.len(), 1);
    }

    #[test]
    fn a_deleted_message_is_not_lost() {
        let mut plant = Plant::new();
        plant.log()[1].1 =
            Entry::Message { key: "a".to_owned(), message_id: "id-a".to_owned(), has_content: false };
        plant.step(0, What::Deleted { conversation: ROOM.to_owned(), sequence: 2 });
        assert_eq!(plant.verdict().violations, []);
    }

    #[test]
    fn one_key_with_two_messages_is_duplicated() {
        let mut plant = Plant::new();
        plant.log().push((5, message("a")));
        for reader in [1, 2] {
            plant.receives(reader, 5, message("a"));
        }
        plant.is_found_by("duplicated");
    }

    #[test]
    fn a_retry_that_is_told_of_another_message_is_duplicated() {
        let mut plant = Plant::new();
        plant.invokes("c");
        plant.acknowledges("c", 9);
        plant.is_found_by("duplicated");
    }

    #[test]
    fn an_event_shown_twice_is_duplicated() {
        let mut plant = Plant::new();
        plant.receives(2, 4, message("c"));
        plant.is_found_by("duplicated");
        assert_eq!(plant.verdict().violations.len(), 1);
    }

    #[test]
    fn what_nobody_sent_is_a_phantom() {
        let mut plant = Plant::new();
        plant.log().push((5, message("x")));
        plant.is_found_by("phantom");
        let mut plant = Plant::new();
        plant.receives(2, 5, message("x"));
        plant.is_found_by("phantom");
    }

    #[test]
    fn what_was_refused_is_a_phantom() {
        let mut plant = Plant::new();
        plant.invokes("x");
        plant.step(0, What::Refused { key: "x".to_owned(), reason: "muted".to_owned() });
        assert_eq!(plant.verdict().violations, []);
        plant.log().push((5, message("x")));
        plant.is_found_by("phantom");
    }

    #[test]
    fn events_that_come_in_another_order_are_misordered() {
        let mut plant = Plant::new();
        let last = plant.steps.len() - 1;
        plant.steps.remove(last);
        plant.receives(2, 6, Entry::Other);
        plant.receives(2, 4, message("c"));
        plant.is_found_by("misordered");
    }

    #[test]
    fn readers_that_disagree_are_misordered() {
        let mut plant = Plant::new();
        plant.invokes("d");
        plant.step(0, What::Unknown { key: "d".to_owned() });
        plant.log().push((5, Entry::Other));
        plant.receives(1, 5, message("d"));
        plant.receives(2, 5, Entry::Other);
        plant.is_found_by("misordered");
    }

    #[test]
    fn doors_that_disagree_are_misordered() {
        let plant = Plant::new();
        let mut other = plant.logs.clone();
        other.get_mut(ROOM).expect("the room").swap_remove(1);
        let verdict = check(&plant.steps, &[("rest", plant.logs.clone()), ("sql", other)]);
        assert_eq!(verdict.count("misordered"), 1);
    }

    #[test]
    fn a_sequence_that_is_left_out_is_a_gap() {
        let mut plant = Plant::new();
        plant.log().push((6, Entry::Other));
        plant.is_found_by("gaps");
    }

    #[test]
    fn sends_of_a_connection_that_change_places_break_its_order() {
        let mut plant = Plant::new();
        plant.invokes("d");
        plant.invokes("e");
        plant.acknowledges("d", 6);
        plant.acknowledges("e", 5);
        plant.log().extend([(5, message("e")), (6, message("d"))]);
        plant.is_found_by("fifo_broken");
        assert_eq!(plant.verdict().count("realtime_broken"), 0, "they were under way at the same time");
    }

    #[test]
    fn what_had_to_be_tried_again_has_no_order_of_its_own() {
        let mut plant = Plant::new();
        plant.invokes("d");
        plant.invokes("e");
        plant.step(0, What::Unknown { key: "d".to_owned() });
        plant.acknowledges("e", 5);
        plant.invokes("d");
        plant.acknowledges("d", 6);
        plant.log().extend([(5, message("e")), (6, message("d"))]);
        assert_eq!(plant.verdict().count("fifo_broken"), 0);
    }

    #[test]
    fn a_later_message_with_a_lower_sequence_breaks_real_time() {
        let mut plant = Plant::new();
        plant.invokes("d");
        plant.acknowledges("d", 6);
        plant.invokes("e");
        plant.acknowledges("e", 5);
        plant.log().extend([(5, message("e")), (6, message("d"))]);
        plant.is_found_by("realtime_broken");
    }

    #[test]
    fn a_deleted_text_that_is_still_there_is_resurrected() {
        let mut plant = Plant::new();
        plant.step(0, What::Deleted { conversation: ROOM.to_owned(), sequence: 3 });
        plant.is_found_by("resurrected");
    }

    #[test]
    fn a_deleted_text_that_a_replay_brings_is_resurrected() {
        let mut plant = Plant::new();
        let deleted =
            Entry::Message { key: "b".to_owned(), message_id: "id-b".to_owned(), has_content: false };
        plant.log()[2].1 = deleted.clone();
        plant.step(0, What::Deleted { conversation: ROOM.to_owned(), sequence: 3 });
        plant.step(3, What::Resumed);
        plant.receives(3, 1, Entry::Other);
        plant.receives(3, 2, message("a"));
        assert_eq!(plant.verdict().violations, []);
        plant.receives(3, 3, message("b"));
        plant.is_found_by("resurrected");
    }

    #[test]
    fn a_watermark_that_goes_back_has_fallen() {
        let mut plant = Plant::new();
        let read = |sequence| What::Read { conversation: ROOM.to_owned(), user: "bob".to_owned(), sequence };
        plant.step(1, read(2));
        plant.step(1, read(3));
        plant.step(2, read(2));
        assert_eq!(plant.verdict().violations, [], "each client sees on its own");
        plant.step(1, read(2));
        plant.is_found_by("watermark_fell");
    }

    #[test]
    fn what_is_shown_to_one_who_was_removed_has_leaked() {
        let mut plant = Plant::new();
        plant.invokes("d");
        plant.step(0, What::Removed { conversation: ROOM.to_owned(), who: 2 });
        plant.acknowledges("d", 5);
        plant.log().push((5, message("d")));
        plant.receives(1, 5, message("d"));
        plant.receives(2, 5, message("d"));
        assert_eq!(plant.verdict().violations, [], "it was begun before");
        plant.invokes("e");
        plant.acknowledges("e", 6);
        plant.log().push((6, message("e")));
        plant.receives(1, 6, message("e"));
        assert_eq!(plant.verdict().violations, [], "who is out need not have it");
        plant.receives(2, 6, message("e"));
        plant.is_found_by("leaked");
    }

    #[test]
    fn a_client_that_lacks_something_has_not_converged() {
        let mut plant = Plant::new();
        plant.log().push((5, Entry::Other));
        plant.receives(1, 5, Entry::Other);
        plant.is_found_by("unconverged_clients");
        assert_eq!(plant.verdict().count("unconverged_clients"), 1);
    }

    #[test]
    fn a_client_that_comes_later_needs_only_what_follows() {
        let mut plant = Plant::new();
        plant.step(3, What::Follows { conversation: ROOM.to_owned(), after: 2 });
        plant.receives(3, 3, message("b"));
        assert_eq!(plant.verdict().count("unconverged_clients"), 1);
        plant.receives(3, 4, message("c"));
        assert_eq!(plant.verdict().violations, []);
    }

    #[test]
    fn unknown_outcomes_are_resolved_by_the_log() {
        let mut plant = Plant::new();
        for key in ["d", "e"] {
            plant.invokes(key);
            plant.step(0, What::Unknown { key: key.to_owned() });
        }
        plant.log().push((5, message("d")));
        for reader in [1, 2] {
            plant.receives(reader, 5, message("d"));
        }
        let verdict = plant.verdict();
        assert_eq!(verdict.violations, []);
        assert_eq!((verdict.unknown, verdict.unknown_done, verdict.unknown_not_done), (2, 1, 1));
    }

    #[test]
    fn faults_are_measured_on_their_own() {
        let mut plant = Plant::new();
        plant.step(0, What::Fault { name: "nats".to_owned() });
        plant.invokes("d");
        plant.acknowledges("d", 5);
        plant.log().push((5, message("d")));
        for reader in [1, 2] {
            plant.receives(reader, 5, message("d"));
        }
        plant.step(0, What::Healed { name: "nats".to_owned() });
        let verdict = plant.verdict();
        assert_eq!(verdict.violations, []);
        assert_eq!((verdict.visible.len(), verdict.visible_in_faults.len()), (6, 2));
        let (lasted, took) = (Duration::from_millis(50), Duration::from_millis(20));
        assert_eq!(verdict.recoveries, [("nats".to_owned(), lasted, took)]);
    }

    #[test]
    fn every_check_has_a_planted_violation() {
        // The tests above; this one keeps the list of checks honest.
        let text = include_str!("history.rs");
        for check in CHECKS {
            assert!(text.contains(&format!("is_found_by(\"{check}\")")), "{check}");
        }
    }
}
