//! The atomic operations of messaging, over either database. Each is a whole change or a whole read: nobody else holds
//! a transaction.

mod matches;
mod postgres;
mod rows;
mod sqlite;

#[cfg(test)]
mod contract;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use chassis::clock::{Clock, Timestamp};
use chassis::database::Database;
use chassis::database::facts::Claim;
use proto::id::{
    AlertId, ConversationId, MessageId, ObjectId, ReportId, StreamCheckpointId, UploadId, UserId,
};
use proto::messaging::v1::{AlertKind, MessageKind};
use uuid::Uuid;

use crate::alert::{Alert, News};
use crate::conversations::Access;
use crate::departure::{Departure, Left, Spot, Stage, Written};
use crate::error::Error;
use crate::event::{Event, Fact, UserEvent};
use crate::export::{OwnHidden, OwnPin, OwnReaction, OwnVote};
use crate::marks::{Marks, Reaction, Vote};
use crate::message::{ClientMessageId, Fingerprint, Letter, Message, Sequence};
use crate::people::PersonFact;
use crate::preview::Found;
use crate::receipt::{Moved, Watermark};
use crate::report::{Complaint, Report, Resolution};
use crate::request::RequestChange;
use crate::revision::Revision;
use crate::revisions::Edition;
use crate::uploads::{Bounds, Bytes, Completion, Excess, Upload};

/// The most rows that one statement adds. Longer lists become several statements of one transaction.
pub const MAX_ROWS: usize = 256;

/// The database failed, or holds what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    what: &'static str,
    #[source]
    source: Option<sqlx::Error>,
    logged: AtomicBool,
}

impl Failure {
    /// Something stored cannot be read.
    pub const fn corrupt(what: &'static str) -> Self {
        Self { what, source: None, logged: AtomicBool::new(false) }
    }

    /// Whether the same may work when it is tried again soon.
    pub fn is_transient(&self) -> bool {
        self.source.as_ref().is_some_and(chassis::database::is_transient)
    }

    /// Whether it will fail however often it is tried, and only for what was to be written: the database refuses the data,
    /// or something stored that it concerns cannot be read.
    pub fn is_permanent(&self) -> bool {
        self.source.as_ref().is_none_or(chassis::database::is_refusal_of_data)
    }

    /// Writes it to the log, once however many it concerns.
    pub fn log(&self) {
        if self.logged.swap(true, Ordering::Relaxed) {
            return;
        }
        match &self.source {
            Some(source) if self.is_transient() => {
                tracing::warn!(error = %source, "the database fails: {source}")
            }
            Some(source) => tracing::error!(error = %source, "the database refuses: {source}"),
            None => tracing::error!("the database is damaged: {}", self.what),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(source: sqlx::Error) -> Self {
        Self { what: "the database failed", source: Some(source), logged: AtomicBool::new(false) }
    }
}

impl From<sqlx::Error> for Error {
    fn from(source: sqlx::Error) -> Self {
        Failure::from(source).into()
    }
}

/// A letter that has been let in.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// What is sent.
    pub letter: &'a Letter,
    /// What the sender may do there.
    pub access: &'a Access,
}

/// What became of a letter.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The message.
    pub message: Message,
    /// Whether it had been there before: this is the answer of the first time.
    pub repeated: bool,
    /// The alerts that came with it, or with the batch that it was in.
    pub alerts: Vec<UserEvent>,
}

/// What became of a revision.
#[derive(Clone, Debug)]
pub struct Revised {
    /// The message as it is now.
    pub message: Message,
    /// The event, unless nothing changed.
    pub event: Option<Event>,
    /// The alerts that came with it.
    pub alerts: Vec<UserEvent>,
}

/// What became of emptying a conversation.
#[derive(Clone, Debug)]
pub struct Purged {
    /// Up to here everything is gone.
    pub up_to: Sequence,
    /// The event, unless nothing changed.
    pub event: Option<Event>,
    /// The mentions that count as read since.
    pub alerts: Vec<UserEvent>,
}

/// The outcome of erasing messages whose time is over.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// That they are gone.
    pub events: Vec<Event>,
    /// The mentions that count as read since.
    pub alerts: Vec<UserEvent>,
}

/// A message whose time is over and that is still stored.
#[derive(Clone, Copy, Debug)]
pub struct Overdue {
    /// Where it is.
    pub conversation: ConversationId,
    /// Its place.
    pub sequence: Sequence,
    /// Who sent it.
    pub sender: UserId,
    /// Since when nobody reads it.
    pub expire_time: Timestamp,
}

/// What became of some facts.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The events of conversations.
    pub events: Vec<Event>,
    /// The events of users.
    pub user_events: Vec<UserEvent>,
}

/// A move of a watermark.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Where it is to be.
    pub to: Watermark,
    /// Whether the user reads on, which the user's other devices want to know.
    pub reads: bool,
}

/// How far a conversation has come, and how far one of its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its last event.
    pub head: Sequence,
    /// Its last message.
    pub last_message: Sequence,
    /// When its last message was sent, or it was made.
    pub activity_time: Timestamp,
    /// How far the member has come.
    pub watermark: Watermark,
}

/// Which messages of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Who looks: what this user has hidden is left out. The nil UUID has hidden nothing.
    pub user: UserId,
    /// The conversation.
    pub conversation: ConversationId,
    /// In which direction.
    pub order: Order,
    /// Only after this.
    pub after: Sequence,
    /// Only before this.
    pub before: Sequence,
    /// Only messages that are there: no tombstones.
    pub exclude_tombstones: bool,
    /// Only messages that were created at this time or later.
    pub start: Option<Timestamp>,
    /// Only messages that were created before this time.
    pub end: Option<Timestamp>,
    /// At most so many.
    pub limit: i64,
}

/// The direction of a list of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

/// A run of a conversation's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The conversation.
    pub conversation: ConversationId,
    /// Only after this.
    pub after: Sequence,
    /// Up to this.
    pub up_to: Sequence,
}

/// What is to be counted as unread.
#[derive(Clone, Copy, Debug)]
pub struct Unread {
    /// The conversation.
    pub conversation: ConversationId,
    /// Only after this.
    pub after: Sequence,
    /// Only what was sent since.
    pub since: Timestamp,
}

/// Which reports of a conversation, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Reports {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who looks: what is about this user's own messages is left out.
    pub viewer: UserId,
    /// Only those that nobody has resolved.
    pub only_open: bool,
    /// The time and the id of the report before them; `None` for the newest.
    pub after: Option<(i64, Uuid)>,
    /// At most so many.
    pub limit: i64,
}

/// What became of a report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The report as it is now.
    pub report: Report,
    /// What those who hear of it are told; nothing when nothing changed.
    pub user_events: Vec<UserEvent>,
}

/// Which messages to find.
#[derive(Clone, Debug)]
pub struct Search {
    /// Who looks: what it has hidden from itself is not found.
    pub user: UserId,
    /// Only in these.
    pub conversations: Vec<ConversationId>,
    /// Words that all occur, as [`crate::words::words`] cuts them; the last may be the beginning of one. None for any.
    pub words: Vec<String>,
    /// Only by this sender.
    pub sender: Option<UserId>,
    /// Only of these kinds; none for any.
    pub kinds: BTreeSet<MessageKind>,
    /// Only from then on.
    pub after: Option<Timestamp>,
    /// Only before then.
    pub before: Option<Timestamp>,
    /// Only older than this.
    pub older_than: Option<MessageId>,
    /// At most so many.
    pub limit: i64,
}

/// Which alerts of a user.
#[derive(Clone, Debug)]
pub struct Alerts {
    /// Whose.
    pub user: UserId,
    /// Only unread ones.
    pub only_unread: bool,
    /// Only of these kinds; none for any.
    pub kinds: BTreeSet<AlertKind>,
    /// Only those before this one, by when it changed.
    pub before: Option<(Timestamp, AlertId)>,
    /// At most so many.
    pub limit: i64,
}

/// A time: after one instant, up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// After this.
    pub after: Timestamp,
    /// Up to this.
    pub up_to: Timestamp,
}

/// Alerts to be marked.
#[derive(Clone, Debug)]
pub struct Marking {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub which: Marked,
    /// Whether they are read from now on, or unread.
    pub read: bool,
}

/// Which alerts to mark.
#[derive(Clone, Debug)]
pub enum Marked {
    /// These, all of them or none.
    These(BTreeSet<AlertId>),
    /// Some of those that are not marked so yet and have not changed since.
    Some {
        /// Since when.
        since: Timestamp,
        /// At most so many.
        limit: i64,
    },
}

/// The store, over either database.
#[derive(Clone, Debug)]
pub enum Store {
    /// SQLite.
    Sqlite(sqlite::Store),
    /// PostgreSQL.
    Postgres(postgres::Store),
}

/// Calls the same method of whichever store it is.
macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::Sqlite(store) => store.$method($($argument),*).await,
            Self::Postgres(store) => store.$method($($argument),*).await,
        }
    };
}

impl Store {
    /// The store in a database. The clock says what has expired when it is read.
    pub fn new(database: Database, clock: Clock) -> Self {
        match database {
            Database::Sqlite(pool) => Self::Sqlite(sqlite::Store::new(pool, clock)),
            Database::Postgres(pool) => Self::Postgres(postgres::Store::new(pool, clock)),
        }
    }

    /// The epoch of the logs; the first to ask draws it.
    pub async fn epoch(&self) -> Result<String, Failure> {
        either!(self.epoch())
    }

    /// Adds messages to the logs of their conversations, in this order and in one transaction. What is wrong with one
    /// does not hurt the others.
    pub async fn append(
        &self,
        posts: &[Post<'_>],
        now: Timestamp,
    ) -> Result<Vec<Result<Appended, Error>>, Failure> {
        either!(self.append(posts, now))
    }

    /// The answer to a message whose key has been used before; `None` when it has not.
    pub async fn earlier(&self, letter: &Letter) -> Result<Option<Result<Appended, Error>>, Failure> {
        either!(self.earlier(letter))
    }

    /// The message of a sender with this key, and the fingerprint of what was asked for; `None` when the key is free.
    pub async fn first(
        &self,
        conversation: ConversationId,
        sender: UserId,
        id: &ClientMessageId,
    ) -> Result<Option<(Message, Fingerprint)>, Failure> {
        either!(self.first(conversation, sender, id))
    }

    /// Changes a message.
    pub async fn revise(
        &self,
        revision: &Revision,
        access: &Access,
        now: Timestamp,
    ) -> Result<Revised, Error> {
        either!(self.revise(revision, access, now))
    }

    /// Adds what its link leads to to a message; `None` when it is gone, has another link by now, or shows it already.
    pub async fn preview(&self, found: &Found, now: Timestamp) -> Result<Option<Event>, Failure> {
        either!(self.preview(found, now))
    }

    /// Who reacted to a message and how, oldest first, after one of them.
    pub async fn reactions(
        &self,
        conversation: ConversationId,
        message: Sequence,
        after: Option<&Reaction>,
        limit: i64,
    ) -> Result<Vec<Reaction>, Failure> {
        either!(self.reactions(conversation, message, after, limit))
    }

    /// Who voted in a poll and for what, after a user in the order of their ids.
    pub async fn votes(
        &self,
        conversation: ConversationId,
        message: Sequence,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<Vote>, Failure> {
        either!(self.votes(conversation, message, after, limit))
    }

    /// The pinned messages that are there, the one pinned last first.
    pub async fn pinned(&self, user: UserId, conversation: ConversationId) -> Result<Vec<Message>, Failure> {
        either!(self.pinned(user, conversation))
    }

    /// What a user left on messages, by their places. Those on which it left nothing are left out.
    pub async fn marks_of(
        &self,
        user: UserId,
        places: &[(ConversationId, Sequence)],
    ) -> Result<HashMap<(ConversationId, Sequence), Marks>, Failure> {
        either!(self.marks_of(user, places))
    }

    /// Claims facts and turns them into events, and what became of requests into alerts, all at once; `None` when
    /// another replica was faster. A message request that is cancelled takes its message along.
    pub async fn apply(
        &self,
        claim: &Claim,
        facts: &[Fact],
        requests: &[RequestChange],
    ) -> Result<Option<Applied>, Failure> {
        either!(self.apply(claim, facts, requests))
    }

    /// Claims what happened to people and turns it into alerts, and takes note of the accounts that are gone, all at
    /// once; `None` when another replica was faster.
    pub async fn apply_to_people(
        &self,
        claim: &Claim,
        facts: &[PersonFact],
        now: Timestamp,
    ) -> Result<Option<Vec<UserEvent>>, Failure> {
        either!(self.apply_to_people(claim, facts, now))
    }

    /// Refuses what one whose message request waits may not write: a second message, or one after the answer.
    pub async fn check_request(
        &self,
        conversation: ConversationId,
        user: UserId,
        request_version: i64,
    ) -> Result<(), Error> {
        either!(self.check_request(conversation, user, request_version))
    }

    /// Whether a message request of the other person in a direct conversation waits for this user's answer.
    pub async fn is_asked(&self, conversation: ConversationId, user: UserId) -> Result<bool, Failure> {
        either!(self.is_asked(conversation, user))
    }

    /// Accounts that are gone and of which something is to be erased now, the one that has waited longest first.
    pub async fn departures(&self, now: Timestamp, limit: i64) -> Result<Vec<Departure>, Failure> {
        either!(self.departures(now, limit))
    }

    /// Leaves an account alone until then whose step has failed. Nothing happens when another replica has done the step, or
    /// has put it off.
    pub async fn put_off_departure(&self, departure: &Departure, until: Timestamp) -> Result<(), Failure> {
        either!(self.put_off_departure(departure, until))
    }

    /// Since when the account has waited that waits longest for its next step; `None` when none waits.
    pub async fn departure_ready(&self, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
        either!(self.departure_ready(now))
    }

    /// Where somebody wrote, after a place, oldest first. Tombstones are there, too.
    pub async fn written(&self, user: UserId, after: &Spot, limit: i64) -> Result<Vec<Written>, Failure> {
        either!(self.written(user, after, limit))
    }

    /// Does a step: makes tombstones of messages, and moves on. Nothing happens when another replica has done it.
    pub async fn erase_written(
        &self,
        departure: &Departure,
        written: &[Written],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Failure> {
        either!(self.erase_written(departure, written, versions, now))
    }

    /// What marks somebody left on messages, after a place.
    pub async fn left(
        &self,
        user: UserId,
        stage: Stage,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<Left>, Failure> {
        either!(self.left(user, stage, after, limit))
    }

    /// Does a step: takes marks back, and moves on. Nothing happens when another replica has done it.
    pub async fn take_back(
        &self,
        departure: &Departure,
        left: &[Left],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Error> {
        either!(self.take_back(departure, left, versions, now))
    }

    /// Does a step: erases some of what only the user has seen, and moves on.
    pub async fn erase_rest(&self, departure: &Departure, now: Timestamp) -> Result<(), Failure> {
        either!(self.erase_rest(departure, now))
    }

    /// How many messages a user wrote in a time, by conversation. Of more than `most` the newest count.
    pub async fn frequent(
        &self,
        user: UserId,
        window: &Window,
        most: i64,
    ) -> Result<HashMap<ConversationId, i64>, Failure> {
        either!(self.frequent(user, window, most))
    }

    /// The messages that a user wrote, after a place, oldest first.
    pub async fn own_messages(
        &self,
        user: UserId,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<Message>, Failure> {
        either!(self.own_messages(user, after, limit))
    }

    /// How a user reacted, after a place.
    pub async fn own_reactions(
        &self,
        user: UserId,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<OwnReaction>, Failure> {
        either!(self.own_reactions(user, after, limit))
    }

    /// How a user voted, after a place.
    pub async fn own_votes(&self, user: UserId, after: &Spot, limit: i64) -> Result<Vec<OwnVote>, Failure> {
        either!(self.own_votes(user, after, limit))
    }

    /// What a user pinned, after a place.
    pub async fn own_pins(&self, user: UserId, after: &Spot, limit: i64) -> Result<Vec<OwnPin>, Failure> {
        either!(self.own_pins(user, after, limit))
    }

    /// What a user deleted for itself, after a place.
    pub async fn own_hidden(
        &self,
        user: UserId,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<OwnHidden>, Failure> {
        either!(self.own_hidden(user, after, limit))
    }

    /// How far a user has come, after a conversation in the order of their ids.
    pub async fn own_watermarks(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: i64,
    ) -> Result<Vec<Watermark>, Failure> {
        either!(self.own_watermarks(user, after, limit))
    }

    /// The reports that a user made, after one, oldest first.
    pub async fn own_reports(
        &self,
        user: UserId,
        after: Option<(Timestamp, ReportId)>,
        limit: i64,
    ) -> Result<Vec<Report>, Failure> {
        either!(self.own_reports(user, after, limit))
    }

    /// The files of a user, after one, oldest first.
    pub async fn own_uploads(
        &self,
        user: UserId,
        after: Option<UploadId>,
        limit: i64,
    ) -> Result<Vec<Upload>, Failure> {
        either!(self.own_uploads(user, after, limit))
    }

    /// Moves watermarks forward. Answers where each is now and was before, and the events of those who read on. Moves of one
    /// watermark are one move.
    pub async fn advance(&self, moves: &[Move]) -> Result<(Vec<Moved>, Vec<UserEvent>), Failure> {
        either!(self.advance(moves))
    }

    /// One message.
    pub async fn message(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Message>, Failure> {
        either!(self.message(conversation, id))
    }

    /// Messages of a conversation, and its head.
    pub async fn history(&self, history: &History) -> Result<(Vec<Message>, Sequence), Failure> {
        either!(self.history(history))
    }

    /// One message as a user sees it: not there when the user has hidden it.
    pub async fn message_for(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Message>, Failure> {
        either!(self.message_for(user, conversation, id))
    }

    /// The last messages up to some places, of those that a user has not hidden.
    pub async fn last_messages(
        &self,
        user: UserId,
        places: &[(ConversationId, Sequence)],
    ) -> Result<HashMap<ConversationId, Message>, Failure> {
        either!(self.last_messages(user, places))
    }

    /// Hides a message from a user; `None` when it has been hidden before.
    pub async fn hide(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: MessageId,
        now: Timestamp,
    ) -> Result<Option<UserEvent>, Error> {
        either!(self.hide(user, conversation, id, now))
    }

    /// What a message said before its edits, after a version, oldest first.
    pub async fn revisions(
        &self,
        conversation: ConversationId,
        message: Sequence,
        after_version: i64,
        limit: i64,
    ) -> Result<Vec<Edition>, Failure> {
        either!(self.revisions(conversation, message, after_version, limit))
    }

    /// Empties a conversation up to its head.
    pub async fn purge(
        &self,
        conversation: ConversationId,
        by: UserId,
        access: &Access,
        now: Timestamp,
    ) -> Result<Purged, Error> {
        either!(self.purge(conversation, by, access, now))
    }

    /// Conversations that were emptied and of which not everything is erased, in the order of their ids.
    pub async fn purged_conversations(
        &self,
        after: Option<ConversationId>,
        limit: i64,
    ) -> Result<Vec<ConversationId>, Failure> {
        either!(self.purged_conversations(after, limit))
    }

    /// Erases some of what was purged from a conversation. Answers how many messages, and whether more is there.
    pub async fn sweep_purged(
        &self,
        conversation: ConversationId,
        limit: i64,
    ) -> Result<(u64, bool), Failure> {
        either!(self.sweep_purged(conversation, limit))
    }

    /// Messages whose time is over and that are still stored, the oldest first.
    pub async fn overdue(&self, now: Timestamp, limit: i64) -> Result<Vec<Overdue>, Failure> {
        either!(self.overdue(now, limit))
    }

    /// When the next message expires that is still stored; in the past when one is overdue.
    pub async fn next_expiry(&self) -> Result<Option<Timestamp>, Failure> {
        either!(self.next_expiry())
    }

    /// Erases messages whose time is over, but for those that are gone by now. The events say so under these membership
    /// versions, or under that of the message where none is given.
    pub async fn sweep(
        &self,
        overdue: &[Overdue],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Swept, Failure> {
        either!(self.sweep(overdue, versions, now))
    }

    /// What happened in a conversation after a sequence, oldest first.
    pub async fn events(
        &self,
        conversation: ConversationId,
        after: Sequence,
        limit: i64,
    ) -> Result<Vec<Event>, Failure> {
        either!(self.events(conversation, after, limit))
    }

    /// What happened in several conversations, each oldest first.
    pub async fn events_of(&self, ranges: &[Range]) -> Result<HashMap<ConversationId, Vec<Event>>, Failure> {
        either!(self.events_of(ranges))
    }

    /// What happened to a user after a sequence, oldest first.
    pub async fn user_events(
        &self,
        user: UserId,
        after: Sequence,
        limit: i64,
    ) -> Result<Vec<UserEvent>, Failure> {
        either!(self.user_events(user, after, limit))
    }

    /// How far conversations have come. Those in which nothing has happened are left out.
    pub async fn heads(
        &self,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Sequence>, Failure> {
        either!(self.heads(conversations))
    }

    /// How far users' own logs have come. Those to whom nothing has happened are left out.
    pub async fn user_heads(&self, users: &[UserId]) -> Result<HashMap<UserId, Sequence>, Failure> {
        either!(self.user_heads(users))
    }

    /// How far conversations have come, and a user in them. Those in which nothing has happened are left out.
    pub async fn places(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Place>, Failure> {
        either!(self.places(user, conversations))
    }

    /// How many messages of others a user has not read; counting stops at `most`.
    pub async fn unread(
        &self,
        user: UserId,
        wanted: &[Unread],
        most: i64,
    ) -> Result<HashMap<ConversationId, i64>, Failure> {
        either!(self.unread(user, wanted, most))
    }

    /// What somebody has reported before.
    pub async fn report_by(
        &self,
        conversation: ConversationId,
        message_id: MessageId,
        reporter: UserId,
    ) -> Result<Option<Report>, Failure> {
        either!(self.report_by(conversation, message_id, reporter))
    }

    /// Keeps a report of a message as it is now and tells the moderators, or finds the first one of the same message by the
    /// same user. Refuses one too many within the hour.
    pub async fn file_report(
        &self,
        complaint: &Complaint,
        moderators: &[UserId],
        now: Timestamp,
    ) -> Result<Reported, Error> {
        either!(self.file_report(complaint, moderators, now))
    }

    /// One report.
    pub async fn report(&self, id: ReportId) -> Result<Option<Report>, Failure> {
        either!(self.report(id))
    }

    /// The reports of a conversation.
    pub async fn reports(&self, wanted: &Reports) -> Result<Vec<Report>, Failure> {
        either!(self.reports(wanted))
    }

    /// Says what became of a report, and tells the moderators and the reporter.
    pub async fn resolve_report(
        &self,
        conversation: ConversationId,
        id: ReportId,
        resolution: &Resolution,
        moderators: &[UserId],
    ) -> Result<Reported, Error> {
        either!(self.resolve_report(conversation, id, resolution, moderators))
    }

    /// How far the members of a conversation have come, after a user in the order of their ids.
    pub async fn receipts(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<Watermark>, Failure> {
        either!(self.receipts(conversation, after, limit))
    }

    /// A secret of all replicas; the first to ask decides on it.
    pub async fn secret(&self, name: &'static str, fresh: &str) -> Result<String, Failure> {
        either!(self.secret(name, fresh))
    }

    /// Makes a place for a file, which the sweeper may take away after this time when nothing refers to it. Makes none when
    /// that would break a bound of its user; places from before `writable_from` can be written no more and do not count.
    pub async fn create_upload(
        &self,
        upload: &Upload,
        sweep_time: Timestamp,
        writable_from: Timestamp,
        bounds: &Bounds,
    ) -> Result<Option<Excess>, Failure> {
        either!(self.create_upload(upload, sweep_time, writable_from, bounds))
    }

    /// Files. Those that are not there are left out.
    pub async fn uploads(&self, ids: &[UploadId]) -> Result<Vec<Upload>, Failure> {
        either!(self.uploads(ids))
    }

    /// Takes note of an object before its first byte is written: who does not finish it until then leaves it to the sweeper.
    /// Its bytes count for the user's day, unless that would break a bound.
    pub async fn begin_object(
        &self,
        upload: &Upload,
        object: ObjectId,
        now: Timestamp,
        sweep_time: Timestamp,
        bounds: &Bounds,
    ) -> Result<Option<Excess>, Failure> {
        either!(self.begin_object(upload, object, now, sweep_time, bounds))
    }

    /// Makes an object the bytes of a file, unless it has others.
    pub async fn complete_upload(&self, upload: UploadId, bytes: &Bytes) -> Result<Completion, Failure> {
        either!(self.complete_upload(upload, bytes))
    }

    /// The conversations with a message that refers to a file and is not gone.
    pub async fn conversations_with_upload(&self, upload: UploadId) -> Result<Vec<ConversationId>, Failure> {
        either!(self.conversations_with_upload(upload))
    }

    /// Whether this is one of them.
    pub async fn has_upload(&self, conversation: ConversationId, upload: UploadId) -> Result<bool, Failure> {
        either!(self.has_upload(conversation, upload))
    }

    /// Files that may be unused.
    pub async fn uploads_to_sweep(&self, now: Timestamp, limit: i64) -> Result<Vec<UploadId>, Failure> {
        either!(self.uploads_to_sweep(now, limit))
    }

    /// Takes a file away if nothing refers to it; says whether it did. Its objects are left, marked.
    pub async fn sweep_upload(&self, upload: UploadId, now: Timestamp) -> Result<bool, Failure> {
        either!(self.sweep_upload(upload, now))
    }

    /// Marks objects that belong to no file, and says which.
    pub async fn objects_to_sweep(&self, now: Timestamp, limit: i64) -> Result<Vec<ObjectId>, Failure> {
        either!(self.objects_to_sweep(now, limit))
    }

    /// Forgets an object that is no file and has been removed.
    pub async fn forget_object(&self, object: ObjectId) -> Result<(), Failure> {
        either!(self.forget_object(object))
    }

    /// The messages that are found, newest first.
    pub async fn search(&self, search: &Search) -> Result<Vec<Message>, Failure> {
        either!(self.search(search))
    }

    /// Alerts of a user, the one that changed last first.
    pub async fn alerts(&self, alerts: &Alerts) -> Result<Vec<Alert>, Failure> {
        either!(self.alerts(alerts))
    }

    /// How many alerts of a user are unread, of these kinds or of any when there are none; counting stops at `most`.
    pub async fn unread_alerts(
        &self,
        user: UserId,
        kinds: &BTreeSet<AlertKind>,
        most: i64,
    ) -> Result<i64, Failure> {
        either!(self.unread_alerts(user, kinds, most))
    }

    /// Makes the alert of a user say what became of its subject. Answers the alert as it is then, and the event when it
    /// changed; no alert for a user who is gone.
    pub async fn raise_alert(&self, news: &News) -> Result<(Option<Alert>, Vec<UserEvent>), Failure> {
        either!(self.raise_alert(news))
    }

    /// Marks alerts of a user. Answers the events of those that changed.
    pub async fn mark_alerts(&self, marking: &Marking, now: Timestamp) -> Result<Vec<UserEvent>, Error> {
        either!(self.mark_alerts(marking, now))
    }

    /// Messages by their ids, without those that a user has hidden from itself.
    pub async fn messages_for(
        &self,
        user: UserId,
        wanted: &[(ConversationId, MessageId)],
    ) -> Result<HashMap<MessageId, Message>, Failure> {
        either!(self.messages_for(user, wanted))
    }

    /// Keeps the positions of an event stream. The same id again changes nothing. Of more than `most` of the user, the
    /// one unused for longest goes. Nothing is kept for a user who is gone.
    pub async fn create_stream_checkpoint(
        &self,
        user: UserId,
        id: StreamCheckpointId,
        positions: &[u8],
        most: i64,
        now: Timestamp,
    ) -> Result<(), Failure> {
        either!(self.create_stream_checkpoint(user, id, positions, most, now))
    }

    /// The positions of an event stream of a user, which count as used now.
    pub async fn use_stream_checkpoint(
        &self,
        user: UserId,
        id: StreamCheckpointId,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, Failure> {
        either!(self.use_stream_checkpoint(user, id, now))
    }

    /// Removes positions that have not been used after an instant, at most `limit`, and returns how many.
    pub async fn sweep_stream_checkpoints(
        &self,
        unused_since: Timestamp,
        limit: i64,
    ) -> Result<u64, Failure> {
        either!(self.sweep_stream_checkpoints(unused_since, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_database_passes_and_a_damaged_one_does_not() {
        assert!(Failure::from(sqlx::Error::PoolTimedOut).is_transient());
        assert!(!Failure::corrupt("a row cannot be read").is_transient());
    }
}
