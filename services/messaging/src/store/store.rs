// The operations of the store: one text for both databases, compiled once for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, EventId, MessageId, UserId};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::{Db, Pool, Row, Tx, outbox};
use crate::conversations::Access;
use crate::error::Error;
use crate::event::{Event, Fact, FactKind, Happening, UserEvent, UserHappening};
use crate::message::{
    ClientMessageId, Content, Deletion, Fingerprint, Message, Revision, Sequence, wait_for_pace,
};
use crate::receipt::Watermark;
use crate::store::rows::Rows;
use crate::store::{
    Appended, Applied, Failure, History, MAX_ROWS, Move, Order, Place, Post, Range, Revised, Unread,
};

/// The name of the cursor of conversation's facts.
const FEED: &str = "conversation";

/// Clocks of two machines may differ by so much: who came in then and who wrote then is told with some to spare.
const SKEW: Duration = Duration::from_secs(1);

/// The columns of a message, as [`message`] reads them.
macro_rules! message_columns {
    () => {
        "m.sequence, m.message_id, m.sender_id, m.client_message_id, m.content, m.reply_to, m.create_time, \
         m.edit_time, m.delete_time, m.deleted_by, m.version"
    };
}

/// The columns of an event, as [`event`] reads them.
macro_rules! event_columns {
    () => {
        concat!(
            "e.conversation_id, e.sequence, e.kind, e.actor_id, e.membership_version, e.occur_time, e.payload, ",
            message_columns!()
        )
    };
}

/// Moves heads on and locks them until the transaction ends: two writers never share a sequence. A conversation that is
/// gone is not returned. Adds nothing when the count is 0, which is how a head is only locked.
static ADVANCE_HEADS: Rows = Rows::new(
    "INSERT INTO conversation_heads (conversation_id, last_sequence, last_message_sequence, activity_time) VALUES",
    "($1, $2, $3, $4)",
    "ON CONFLICT (conversation_id) DO UPDATE SET
         last_sequence = conversation_heads.last_sequence + excluded.last_sequence,
         last_message_sequence = CASE WHEN excluded.last_message_sequence > 0
             THEN conversation_heads.last_sequence + excluded.last_message_sequence
             ELSE conversation_heads.last_message_sequence END,
         activity_time = CASE WHEN excluded.activity_time > conversation_heads.activity_time
             THEN excluded.activity_time ELSE conversation_heads.activity_time END
     WHERE conversation_heads.delete_time IS NULL
     RETURNING conversation_id, last_sequence",
);

static INSERT_MESSAGES: Rows = Rows::new(
    "INSERT INTO messages (conversation_id, sequence, message_id, sender_id, client_message_id, fingerprint, content,
         reply_to, create_time) VALUES",
    "($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    "ON CONFLICT DO NOTHING",
);

static INSERT_MESSAGE_EVENTS: Rows = Rows::new(
    "INSERT INTO events (conversation_id, sequence, kind, message_sequence, actor_id, membership_version, occur_time)
         VALUES",
    "($1, $2, 'message_created', $2, $3, $4, $5)",
    "",
);

static INSERT_EVENTS: Rows = Rows::new(
    "INSERT INTO events (conversation_id, sequence, kind, message_sequence, actor_id, membership_version, occur_time,
         payload) VALUES",
    "($1, $2, $3, $4, $5, $6, $7, $8)",
    "",
);

static UPSERT_PACES: Rows = Rows::new(
    "INSERT INTO paces (conversation_id, user_id, send_time) VALUES",
    "($1, $2, $3)",
    "ON CONFLICT (conversation_id, user_id) DO UPDATE SET send_time = excluded.send_time",
);

static ADVANCE_WATERMARKS: Rows = Rows::new(
    "INSERT INTO watermarks (conversation_id, user_id, delivered_sequence, read_sequence, update_time) VALUES",
    "($1, $2, $3, $4, $5)",
    "ON CONFLICT (conversation_id, user_id) DO UPDATE SET
         delivered_sequence = CASE WHEN excluded.delivered_sequence > watermarks.delivered_sequence
             THEN excluded.delivered_sequence ELSE watermarks.delivered_sequence END,
         read_sequence = CASE WHEN excluded.read_sequence > watermarks.read_sequence
             THEN excluded.read_sequence ELSE watermarks.read_sequence END,
         update_time = CASE WHEN excluded.delivered_sequence > watermarks.delivered_sequence
                 OR excluded.read_sequence > watermarks.read_sequence
             THEN excluded.update_time ELSE watermarks.update_time END
     RETURNING conversation_id, user_id, delivered_sequence, read_sequence, update_time",
);

static ADVANCE_USER_HEADS: Rows = Rows::new(
    "INSERT INTO user_heads (user_id, last_sequence) VALUES",
    "($1, $2)",
    "ON CONFLICT (user_id) DO UPDATE SET last_sequence = user_heads.last_sequence + excluded.last_sequence
     RETURNING user_id, last_sequence",
);

static INSERT_USER_EVENTS: Rows = Rows::new(
    "INSERT INTO user_events (user_id, sequence, occur_time, payload) VALUES",
    "($1, $2, $3, $4)",
    "",
);

/// What a sender's key identifies: the conversation, the sender and its own id for the message.
type Key<'a> = (ConversationId, UserId, &'a ClientMessageId);

fn key<'a>(post: &Post<'a>) -> Option<Key<'a>> {
    let letter = post.letter;
    letter.client_message_id.as_ref().map(|id| (letter.conversation, letter.sender, id))
}

/// By how much a head moves.
#[derive(Clone, Copy, Debug)]
struct Advance {
    events: i64,
    messages: i64,
    activity_time: i64,
}

impl Advance {
    /// Only locks it.
    const LOCK: Self = Self { events: 0, messages: 0, activity_time: 0 };

    /// By so many messages.
    const fn messages(count: i64, now: Timestamp) -> Self {
        Self { events: count, messages: count, activity_time: now.as_millis() }
    }

    /// By so many events that are no messages, which leaves the order of the inbox as it is.
    const fn events(count: i64) -> Self {
        Self { events: count, messages: 0, activity_time: 0 }
    }
}

/// The operations on this database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
}

impl Store {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    pub async fn epoch(&self) -> Result<String, Failure> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ('epoch', $1) ON CONFLICT (name) DO NOTHING")
            .bind(EventId::generate().to_string())
            .execute(&mut *tx)
            .await?;
        let epoch =
            sqlx::query_scalar("SELECT value FROM meta WHERE name = 'epoch'").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(epoch)
    }

    pub async fn append(
        &self,
        posts: &[Post<'_>],
        now: Timestamp,
    ) -> Result<Vec<Result<Appended, Error>>, Failure> {
        let unknown = self.unknown_replies(posts).await?;
        let mut outcomes = posts
            .iter()
            .map(|post| post.letter.reply_to.filter(|id| unknown.contains(&(post.letter.conversation, *id))))
            .map(|unknown| unknown.map(|id| Err(Error::MessageNotFound(id))))
            .collect::<Vec<_>>();
        if is_plain(posts) && self.append_plainly(posts, now, &mut outcomes).await? {
            return Ok(settled(outcomes));
        }
        self.append_carefully(posts, now, &mut outcomes).await?;
        Ok(settled(outcomes))
    }

    /// The way of nearly every batch: all keys are believed to be new. `false` when one was not, and nothing happened.
    async fn append_plainly(
        &self,
        posts: &[Post<'_>],
        now: Timestamp,
        outcomes: &mut [Option<Result<Appended, Error>>],
    ) -> Result<bool, Failure> {
        let fresh: Vec<usize> = (0..posts.len()).filter(|&index| outcomes[index].is_none()).collect();
        if fresh.is_empty() {
            return Ok(true);
        }
        let mut tx = self.pool.begin().await?;
        let is_new = insert(&mut tx, posts, &fresh, now, outcomes).await?;
        if is_new {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
            for index in fresh {
                outcomes[index] = None;
            }
        }
        Ok(is_new)
    }

    /// The way of a batch in which a key may have been used before, or where slow mode asks for the last message: the
    /// heads are locked first, so that what is read stays true until the commit.
    async fn append_carefully(
        &self,
        posts: &[Post<'_>],
        now: Timestamp,
        outcomes: &mut [Option<Result<Appended, Error>>],
    ) -> Result<(), Failure> {
        let mut tx = self.pool.begin().await?;
        let open = |index: &usize| outcomes[*index].is_none();
        let open: Vec<usize> = (0..posts.len()).filter(open).collect();
        let locks = open.iter().map(|&index| (posts[index].letter.conversation, Advance::LOCK));
        advance_heads(&mut tx, &locks.collect()).await?;
        let known = known_keys(&mut tx, posts, &open).await?;
        let mut paces = last_sends(&mut tx, posts, &open).await?;

        let mut fresh = Vec::new();
        let mut firsts: HashMap<Key<'_>, usize> = HashMap::new();
        let mut again = Vec::new();
        for index in open {
            let post = &posts[index];
            if let Some(key) = key(post) {
                if let Some((message, fingerprint)) = known.get(&(key.0, key.1, key.2.clone())) {
                    outcomes[index] = Some(repeat(post, message, fingerprint));
                    continue;
                }
                if let Some(&first) = firsts.get(&key) {
                    again.push((index, first));
                    continue;
                }
            }
            if let Some(pace) = post.access.pace {
                let place = (post.letter.conversation, post.letter.sender);
                if let Some(wait) = wait_for_pace(pace, paces.get(&place).copied(), now) {
                    outcomes[index] = Some(Err(Error::SlowMode { wait }));
                    continue;
                }
                paces.insert(place, now);
            }
            if let Some(key) = key(post) {
                firsts.insert(key, index);
            }
            fresh.push(index);
        }
        if fresh.is_empty() {
            return Ok(tx.rollback().await?);
        }
        if !insert(&mut tx, posts, &fresh, now, outcomes).await? {
            return Err(Failure::corrupt("a key that was not there is there under the lock"));
        }
        let paced: BTreeSet<_> = fresh
            .iter()
            .filter(|&&index| posts[index].access.pace.is_some() && matches!(outcomes[index], Some(Ok(_))))
            .map(|&index| (posts[index].letter.conversation, posts[index].letter.sender))
            .collect();
        for (text, part) in UPSERT_PACES.parts(&Vec::from_iter(paced)) {
            let mut query = sqlx::query::<Db>(text);
            for (conversation, user) in part {
                query = query.bind(conversation.uuid()).bind(user.uuid()).bind(now.as_millis());
            }
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        for (index, first) in again {
            outcomes[index] = match &outcomes[first] {
                Some(Ok(first_of)) => {
                    Some(repeat(&posts[index], &first_of.message, &posts[first].letter.fingerprint))
                }
                other => other.clone(),
            };
        }
        Ok(())
    }

    /// The messages replied to that are not there. Messages never go away one by one, so this can be asked beforehand.
    async fn unknown_replies(
        &self,
        posts: &[Post<'_>],
    ) -> Result<BTreeSet<(ConversationId, MessageId)>, Failure> {
        let replies = posts.iter().filter_map(|post| Some((post.letter.conversation, post.letter.reply_to?)));
        let mut unknown: BTreeSet<_> = replies.collect();
        if unknown.is_empty() {
            return Ok(unknown);
        }
        let mut query = QueryBuilder::<Db>::new(
            "SELECT conversation_id, message_id FROM messages WHERE (conversation_id, message_id) IN (",
        );
        query.push_values(padded(&Vec::from_iter(unknown.iter().copied())), |mut row, (conversation, id)| {
            row.push_bind(conversation.uuid()).push_bind(id.uuid());
        });
        let rows = query.push(")").build().fetch_all(self.pool.read()).await?;
        for row in rows {
            unknown.remove(&(conversation_at(&row, 0)?, MessageId::from(row.try_get::<Uuid, _>(1)?)));
        }
        Ok(unknown)
    }

    pub async fn revise(
        &self,
        revision: &Revision,
        access: &Access,
        now: Timestamp,
    ) -> Result<Revised, Error> {
        let Revision { conversation, message_id, by, .. } = *revision;
        let mut tx = self.pool.begin().await?;
        // Under the lock of the head nobody else changes this message. What turns out to be nothing is rolled back.
        let heads = advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::events(1))])).await?;
        let Some(&last) = heads.get(&conversation) else {
            return Err(Error::ConversationNotFound(conversation));
        };
        let row = sqlx::query::<Db>(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages m WHERE m.conversation_id = $1 AND m.message_id = $2"
        ))
        .bind(conversation.uuid())
        .bind(message_id.uuid())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Err(Error::MessageNotFound(message_id)) };
        let before = message(conversation, &row, 0)?;
        let Some(after) = revision.apply(&before, access, now)? else {
            tx.rollback().await?;
            return Ok(Revised { message: before, event: None });
        };
        sqlx::query::<Db>(
            "UPDATE messages SET content = $3, edit_time = $4, delete_time = $5, deleted_by = $6, version = $7
             WHERE conversation_id = $1 AND sequence = $2",
        )
        .bind(conversation.uuid())
        .bind(after.sequence.get())
        .bind(after.content.as_ref().map(Content::encode))
        .bind(after.edit_time.map(Timestamp::as_millis))
        .bind(after.deletion.map(|deletion| deletion.time.as_millis()))
        .bind(after.deletion.map(|deletion| deletion.by.uuid()))
        .bind(i64::from(after.version))
        .execute(&mut *tx)
        .await?;
        let event = Event {
            conversation,
            sequence: Sequence::new(last),
            membership_version: access.membership_version,
            occur_time: now,
            actor: Some(by),
            what: match after.deletion {
                Some(_) => Happening::MessageDeleted { message_id, sequence: after.sequence },
                None => Happening::MessageEdited(after.clone()),
            },
        };
        insert_events(&mut tx, &[&event]).await?;
        tx.commit().await?;
        Ok(Revised { message: after, event: Some(event) })
    }

    pub async fn facts_cursor(&self) -> Result<i64, Failure> {
        Ok(outbox::cursor(&self.pool, FEED).await?)
    }

    pub async fn apply(&self, from: i64, to: i64, facts: &[Fact]) -> Result<Option<Applied>, Failure> {
        let mut tx = self.pool.begin().await?;
        if !outbox::move_cursor(&mut tx, FEED, from, to).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let mut advances: BTreeMap<ConversationId, Advance> = BTreeMap::new();
        for fact in facts {
            let advance = advances.entry(fact.conversation).or_insert(Advance::events(0));
            advance.events += 1;
            if fact.kind == FactKind::Created {
                advance.activity_time = fact.occur_time.as_millis();
            }
        }
        let mut next = advance_heads(&mut tx, &advances).await?;
        for (conversation, last) in &mut next {
            *last -= advances.get(conversation).map_or(0, |advance| advance.events);
        }

        let mut events = Vec::new();
        let mut happened = Vec::new();
        for fact in facts {
            // Not there when the conversation was gone already: it cannot be told anything more.
            if let Some(last) = next.get_mut(&fact.conversation) {
                *last += 1;
                events.push(Event {
                    conversation: fact.conversation,
                    sequence: Sequence::new(*last),
                    membership_version: fact.membership_version,
                    occur_time: fact.occur_time,
                    actor: fact.actor,
                    what: Happening::ToConversation { kind: fact.kind, payload: fact.payload.clone() },
                });
            }
            let mut starts: HashMap<Timestamp, Sequence> = HashMap::new();
            for &(user, since) in &fact.gained {
                let after = match starts.get(&since) {
                    Some(&after) => after,
                    None if fact.kind == FactKind::Created => Sequence::NONE,
                    None => last_before(&mut tx, fact.conversation, since).await?,
                };
                starts.insert(since, after);
                let gained = UserHappening::ConversationGained { conversation: fact.conversation, after };
                happened.push((user, fact.occur_time, gained));
            }
            for &(user, reason) in &fact.lost {
                let lost = UserHappening::ConversationLost { conversation: fact.conversation, reason };
                happened.push((user, fact.occur_time, lost));
            }
        }
        insert_events(&mut tx, &Vec::from_iter(&events)).await?;
        for fact in facts {
            let gained = fact.gained.iter().map(|(user, _)| *user).collect::<Vec<_>>();
            let lost = fact.lost.iter().map(|(user, _)| *user).collect::<Vec<_>>();
            set_members(&mut tx, fact.conversation, &gained, true).await?;
            set_members(&mut tx, fact.conversation, &lost, false).await?;
        }
        for event in &events {
            if let Happening::ToConversation { kind: FactKind::Deleted, .. } = event.what {
                erase(&mut tx, event).await?;
            }
        }
        let user_events = append_user_events(&mut tx, happened).await?;
        tx.commit().await?;
        Ok(Some(Applied { events, user_events }))
    }

    pub async fn advance(&self, moves: &[Move]) -> Result<(Vec<Watermark>, Vec<UserEvent>), Failure> {
        // Ordered, so that two replicas lock the rows in one order; and each row once, because a statement may not move
        // a row twice.
        let mut merged: BTreeMap<(ConversationId, UserId), Move> = BTreeMap::new();
        for one in moves {
            let entry = merged.entry((one.to.conversation, one.to.user)).or_insert(*one);
            entry.reads |= one.reads;
            entry.to.delivered = entry.to.delivered.max(one.to.delivered);
            entry.to.read = entry.to.read.max(one.to.read);
            entry.to.update_time = entry.to.update_time.max(one.to.update_time);
        }
        let mut tx = self.pool.begin().await?;
        let mut moved: HashMap<(ConversationId, UserId), Watermark> = HashMap::with_capacity(merged.len());
        for (text, part) in ADVANCE_WATERMARKS.parts(&Vec::from_iter(merged.values())) {
            let mut query = sqlx::query::<Db>(text);
            for one in part {
                query = query
                    .bind(one.to.conversation.uuid())
                    .bind(one.to.user.uuid())
                    .bind(one.to.delivered.get())
                    .bind(one.to.read.get())
                    .bind(one.to.update_time.map_or(0, Timestamp::as_millis));
            }
            for row in query.fetch_all(&mut *tx).await? {
                let watermark = Watermark {
                    conversation: conversation_at(&row, 0)?,
                    user: user_at(&row, 1)?,
                    delivered: sequence_at(&row, 2)?,
                    read: sequence_at(&row, 3)?,
                    update_time: Some(time_at(&row, 4)?),
                };
                moved.insert((watermark.conversation, watermark.user), watermark);
            }
        }
        let mut happened = Vec::new();
        for one in merged.values().filter(|one| one.reads) {
            // Who is further by now has been told by whoever moved it there.
            let now_at =
                moved.get(&(one.to.conversation, one.to.user)).filter(|now_at| now_at.read == one.to.read);
            if let Some(&watermark) = now_at {
                let at = watermark.update_time.unwrap_or(Timestamp::from_millis(0));
                happened.push((watermark.user, at, UserHappening::WatermarkAdvanced(watermark)));
            }
        }
        let user_events = append_user_events(&mut tx, happened).await?;
        tx.commit().await?;
        let place = |one: &Move| moved.get(&(one.to.conversation, one.to.user)).copied().unwrap_or(one.to);
        Ok((moves.iter().map(place).collect(), user_events))
    }

    pub async fn message(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Message>, Failure> {
        let row = sqlx::query::<Db>(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages m WHERE m.conversation_id = $1 AND m.message_id = $2"
        ))
        .bind(conversation.uuid())
        .bind(id.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        row.map(|row| message(conversation, &row, 0)).transpose()
    }

    pub async fn history(&self, history: &History) -> Result<(Vec<Message>, Sequence), Failure> {
        // The head comes with the rows, and so from the same moment.
        let text = match history.order {
            Order::NewestFirst => concat!(
                "SELECT (SELECT last_sequence FROM conversation_heads WHERE conversation_id = $1), ",
                message_columns!(),
                " FROM messages m WHERE m.conversation_id = $1 AND m.sequence > $2 AND m.sequence < $3",
                " ORDER BY m.sequence DESC LIMIT $4"
            ),
            Order::OldestFirst => concat!(
                "SELECT (SELECT last_sequence FROM conversation_heads WHERE conversation_id = $1), ",
                message_columns!(),
                " FROM messages m WHERE m.conversation_id = $1 AND m.sequence > $2 AND m.sequence < $3",
                " ORDER BY m.sequence ASC LIMIT $4"
            ),
        };
        let rows = sqlx::query::<Db>(text)
            .bind(history.conversation.uuid())
            .bind(history.after.get())
            .bind(history.before.get())
            .bind(history.limit)
            .fetch_all(self.pool.read())
            .await?;
        let head = match rows.first() {
            Some(row) => Sequence::new(row.try_get::<Option<i64>, _>(0)?.unwrap_or(0)),
            None => {
                let heads = self.heads(&[history.conversation]).await?;
                heads.get(&history.conversation).copied().unwrap_or(Sequence::NONE)
            }
        };
        let messages =
            rows.iter().map(|row| message(history.conversation, row, 1)).collect::<Result<_, _>>()?;
        Ok((messages, head))
    }

    pub async fn messages_at(
        &self,
        places: &[(ConversationId, Sequence)],
    ) -> Result<HashMap<ConversationId, Message>, Failure> {
        let mut found = HashMap::with_capacity(places.len());
        for part in places.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new("WITH wanted(conversation_id, sequence) AS (");
            query.push_values(padded(part), |mut row, (conversation, sequence)| {
                row.push_bind(conversation.uuid()).push_bind(sequence.get());
            });
            query.push(concat!(
                ") SELECT m.conversation_id, ",
                message_columns!(),
                " FROM wanted w CROSS JOIN messages m",
                " WHERE m.conversation_id = w.conversation_id AND m.sequence = w.sequence"
            ));
            for row in query.build().fetch_all(self.pool.read()).await? {
                let conversation = conversation_at(&row, 0)?;
                found.insert(conversation, message(conversation, &row, 1)?);
            }
        }
        Ok(found)
    }

    pub async fn events(
        &self,
        conversation: ConversationId,
        after: Sequence,
        limit: i64,
    ) -> Result<Vec<Event>, Failure> {
        let rows = sqlx::query::<Db>(concat!(
            "SELECT ",
            event_columns!(),
            " FROM events e LEFT JOIN messages m ON m.conversation_id = e.conversation_id",
            " AND m.sequence = e.message_sequence",
            " WHERE e.conversation_id = $1 AND e.sequence > $2 ORDER BY e.sequence LIMIT $3"
        ))
        .bind(conversation.uuid())
        .bind(after.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter().map(event).collect()
    }

    pub async fn events_of(&self, ranges: &[Range]) -> Result<HashMap<ConversationId, Vec<Event>>, Failure> {
        let mut found: HashMap<ConversationId, Vec<Event>> = HashMap::with_capacity(ranges.len());
        if ranges.is_empty() {
            return Ok(found);
        }
        let mut query =
            QueryBuilder::<Db>::new("WITH wanted(conversation_id, after_sequence, up_to_sequence) AS (");
        // What fills the list up asks for nothing, so that nothing comes twice.
        let wanted = ranges.len();
        let nothing = |(index, range): (usize, Range)| match index < wanted {
            true => range,
            false => Range { up_to: Sequence::NONE, ..range },
        };
        query.push_values(padded(ranges).enumerate().map(nothing), |mut row, range| {
            row.push_bind(range.conversation.uuid())
                .push_bind(range.after.get())
                .push_bind(range.up_to.get());
        });
        query.push(concat!(
            ") SELECT ",
            event_columns!(),
            " FROM wanted w CROSS JOIN events e LEFT JOIN messages m ON m.conversation_id = e.conversation_id",
            " AND m.sequence = e.message_sequence",
            " WHERE e.conversation_id = w.conversation_id AND e.sequence > w.after_sequence",
            " AND e.sequence <= w.up_to_sequence ORDER BY e.conversation_id, e.sequence"
        ));
        for row in query.build().fetch_all(self.pool.read()).await? {
            let event = event(&row)?;
            found.entry(event.conversation).or_default().push(event);
        }
        Ok(found)
    }

    pub async fn user_events(
        &self,
        user: UserId,
        after: Sequence,
        limit: i64,
    ) -> Result<Vec<UserEvent>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT sequence, occur_time, payload FROM user_events WHERE user_id = $1 AND sequence > $2
             ORDER BY sequence LIMIT $3",
        )
        .bind(user.uuid())
        .bind(after.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                let what = UserHappening::decode(&row.try_get::<Vec<u8>, _>(2)?)?;
                Ok(UserEvent { user, sequence: sequence_at(row, 0)?, occur_time: time_at(row, 1)?, what })
            })
            .collect()
    }

    pub async fn heads(
        &self,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Sequence>, Failure> {
        let mut found = HashMap::with_capacity(conversations.len());
        for part in conversations.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT conversation_id, last_sequence FROM conversation_heads WHERE last_sequence > 0
                 AND conversation_id IN (",
            );
            let mut list = query.separated(", ");
            for conversation in padded(part) {
                list.push_bind(conversation.uuid());
            }
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                found.insert(conversation_at(&row, 0)?, sequence_at(&row, 1)?);
            }
        }
        Ok(found)
    }

    pub async fn user_heads(&self, users: &[UserId]) -> Result<HashMap<UserId, Sequence>, Failure> {
        let mut found = HashMap::with_capacity(users.len());
        for part in users.chunks(MAX_ROWS) {
            let mut query =
                QueryBuilder::<Db>::new("SELECT user_id, last_sequence FROM user_heads WHERE user_id IN (");
            let mut list = query.separated(", ");
            for user in padded(part) {
                list.push_bind(user.uuid());
            }
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                found.insert(user_at(&row, 0)?, sequence_at(&row, 1)?);
            }
        }
        Ok(found)
    }

    pub async fn places(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Place>, Failure> {
        let mut found = HashMap::with_capacity(conversations.len());
        for part in conversations.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT h.conversation_id, h.last_sequence, h.last_message_sequence, h.activity_time,
                     w.delivered_sequence, w.read_sequence, w.update_time
                 FROM conversation_heads h LEFT JOIN watermarks w
                     ON w.conversation_id = h.conversation_id AND w.user_id = ",
            );
            query.push_bind(user.uuid());
            query.push(" WHERE h.last_sequence > 0 AND h.conversation_id IN (");
            let mut list = query.separated(", ");
            for conversation in padded(part) {
                list.push_bind(conversation.uuid());
            }
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                let conversation = conversation_at(&row, 0)?;
                let watermark = match row.try_get::<Option<i64>, _>(4)? {
                    None => Watermark::start(conversation, user),
                    Some(delivered) => Watermark {
                        conversation,
                        user,
                        delivered: Sequence::new(delivered),
                        read: sequence_at(&row, 5)?,
                        update_time: Some(time_at(&row, 6)?),
                    },
                };
                let place = Place {
                    conversation,
                    head: sequence_at(&row, 1)?,
                    last_message: sequence_at(&row, 2)?,
                    activity_time: time_at(&row, 3)?,
                    watermark,
                };
                found.insert(conversation, place);
            }
        }
        Ok(found)
    }

    pub async fn unread(
        &self,
        user: UserId,
        wanted: &[Unread],
        most: i64,
    ) -> Result<HashMap<ConversationId, i64>, Failure> {
        let mut found = HashMap::with_capacity(wanted.len());
        for part in wanted.chunks(MAX_ROWS) {
            let mut query =
                QueryBuilder::<Db>::new("WITH wanted(conversation_id, after_sequence, since) AS (");
            query.push_values(padded(part), |mut row, unread| {
                row.push_bind(unread.conversation.uuid())
                    .push_bind(unread.after.get())
                    .push_bind(unread.since.as_millis());
            });
            // The inner LIMIT is what keeps a long absence from being counted through.
            query.push(
                ") SELECT w.conversation_id, (SELECT COUNT(*) FROM (
                     SELECT 1 FROM messages m WHERE m.conversation_id = w.conversation_id
                         AND m.sequence > w.after_sequence AND m.create_time >= w.since
                         AND m.delete_time IS NULL AND m.sender_id <> ",
            );
            query.push_bind(user.uuid());
            query.push(" LIMIT ").push_bind(most).push(") AS counted) FROM wanted w");
            for row in query.build().fetch_all(self.pool.read()).await? {
                found.insert(conversation_at(&row, 0)?, row.try_get(1)?);
            }
        }
        Ok(found)
    }

    pub async fn receipts(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<Watermark>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT user_id, delivered_sequence, read_sequence, update_time FROM watermarks
             WHERE conversation_id = $1 AND user_id > $2 AND is_member ORDER BY user_id LIMIT $3",
        )
        .bind(conversation.uuid())
        .bind(after.map_or(Uuid::nil(), UserId::uuid))
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Watermark {
                    conversation,
                    user: user_at(row, 0)?,
                    delivered: sequence_at(row, 1)?,
                    read: sequence_at(row, 2)?,
                    update_time: Some(time_at(row, 3)?),
                })
            })
            .collect()
    }
}

/// Whether all of a batch can be written without a look at what is there: no key twice, and nobody has to wait.
fn is_plain(posts: &[Post<'_>]) -> bool {
    let mut keys = BTreeSet::new();
    posts.iter().all(|post| {
        let is_first = key(post)
            .is_none_or(|(conversation, sender, id)| keys.insert((conversation, sender, id.as_str())));
        is_first && post.access.pace.is_none()
    })
}

/// Everybody gets an answer.
fn settled(outcomes: Vec<Option<Result<Appended, Error>>>) -> Vec<Result<Appended, Error>> {
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Error::Internal))).collect()
}

/// The answer to a key that has been used: the first message, or a refusal when something else was asked for then.
fn repeat(post: &Post<'_>, first: &Message, fingerprint: &Fingerprint) -> Result<Appended, Error> {
    if *fingerprint == post.letter.fingerprint {
        Ok(Appended { message: first.clone(), repeated: true })
    } else {
        let id = post.letter.client_message_id.as_ref().map(ClientMessageId::as_str);
        Err(Error::ClientMessageIdReused(id.unwrap_or_default().to_owned()))
    }
}

/// Takes sequences and adds the messages and their events. `false` when a key was there already: then roll back.
async fn insert(
    tx: &mut Tx,
    posts: &[Post<'_>],
    fresh: &[usize],
    now: Timestamp,
    outcomes: &mut [Option<Result<Appended, Error>>],
) -> Result<bool, Failure> {
    let mut advances: BTreeMap<ConversationId, Advance> = BTreeMap::new();
    for &index in fresh {
        let advance = advances.entry(posts[index].letter.conversation).or_insert(Advance::messages(0, now));
        advance.events += 1;
        advance.messages += 1;
    }
    let mut next = advance_heads(tx, &advances).await?;
    for (conversation, last) in &mut next {
        *last -= advances.get(conversation).map_or(0, |advance| advance.events);
    }
    let mut added = Vec::with_capacity(fresh.len());
    for &index in fresh {
        let post = posts[index];
        let Some(last) = next.get_mut(&post.letter.conversation) else {
            outcomes[index] = Some(Err(Error::ConversationNotFound(post.letter.conversation)));
            continue;
        };
        *last += 1;
        let message = post.letter.posted(Sequence::new(*last), now);
        outcomes[index] = Some(Ok(Appended { message, repeated: false }));
        added.push((post, *last));
    }
    let mut rows = 0;
    for (text, part) in INSERT_MESSAGES.parts(&added) {
        let mut query = sqlx::query::<Db>(text);
        for (Post { letter, .. }, sequence) in part {
            query = query
                .bind(letter.conversation.uuid())
                .bind(sequence)
                .bind(letter.message_id.uuid())
                .bind(letter.sender.uuid())
                .bind(letter.client_message_id.as_ref().map(|id| id.as_str().to_owned()))
                .bind(letter.fingerprint.as_bytes().to_vec())
                .bind(letter.content.encode())
                .bind(letter.reply_to.map(MessageId::uuid))
                .bind(now.as_millis());
        }
        rows += query.execute(&mut **tx).await?.rows_affected();
    }
    if usize::try_from(rows) != Ok(added.len()) {
        return Ok(false);
    }
    for (text, part) in INSERT_MESSAGE_EVENTS.parts(&added) {
        let mut query = sqlx::query::<Db>(text);
        for (Post { letter, access }, sequence) in part {
            query = query
                .bind(letter.conversation.uuid())
                .bind(sequence)
                .bind(letter.sender.uuid())
                .bind(access.membership_version)
                .bind(now.as_millis());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(true)
}

/// Moves heads on, in the order of their ids, so that two writers never wait for each other. Answers where each is then.
async fn advance_heads(
    tx: &mut Tx,
    advances: &BTreeMap<ConversationId, Advance>,
) -> Result<HashMap<ConversationId, i64>, Failure> {
    let mut heads = HashMap::with_capacity(advances.len());
    for (text, part) in ADVANCE_HEADS.parts(&Vec::from_iter(advances)) {
        let mut query = sqlx::query::<Db>(text);
        for (conversation, advance) in part {
            query = query
                .bind(conversation.uuid())
                .bind(advance.events)
                .bind(advance.messages)
                .bind(advance.activity_time);
        }
        for row in query.fetch_all(&mut **tx).await? {
            heads.insert(conversation_at(&row, 0)?, row.try_get(1)?);
        }
    }
    Ok(heads)
}

async fn insert_events(tx: &mut Tx, events: &[&Event]) -> Result<(), Failure> {
    for (text, part) in INSERT_EVENTS.parts(events) {
        let mut query = sqlx::query::<Db>(text);
        for event in part {
            let (message_sequence, payload) = match &event.what {
                Happening::MessageCreated(message) | Happening::MessageEdited(message) => {
                    (Some(message.sequence.get()), None)
                }
                Happening::MessageDeleted { sequence, .. } => (Some(sequence.get()), None),
                Happening::ToConversation { payload, .. } => (None, Some(payload.clone())),
            };
            query = query
                .bind(event.conversation.uuid())
                .bind(event.sequence.get())
                .bind(event.what.kind())
                .bind(message_sequence)
                .bind(event.actor.map(UserId::uuid))
                .bind(event.membership_version)
                .bind(event.occur_time.as_millis())
                .bind(payload);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// The keys of these posts that have been used, with the first message and its fingerprint.
async fn known_keys(
    tx: &mut Tx,
    posts: &[Post<'_>],
    open: &[usize],
) -> Result<HashMap<(ConversationId, UserId, ClientMessageId), (Message, Fingerprint)>, Failure> {
    let mut known = HashMap::new();
    let keys: Vec<Key<'_>> = open.iter().filter_map(|&index| key(&posts[index])).collect();
    for part in keys.chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new(concat!(
            "SELECT m.conversation_id, m.fingerprint, ",
            message_columns!(),
            " FROM messages m WHERE (m.conversation_id, m.sender_id, m.client_message_id) IN ("
        ));
        query.push_values(padded(part), |mut row, (conversation, sender, id)| {
            row.push_bind(conversation.uuid()).push_bind(sender.uuid()).push_bind(id.as_str().to_owned());
        });
        for row in query.push(")").build().fetch_all(&mut **tx).await? {
            let conversation = conversation_at(&row, 0)?;
            let print = Fingerprint::stored(&row.try_get::<Vec<u8>, _>(1)?)
                .ok_or_else(|| Failure::corrupt("a fingerprint cannot be read"))?;
            let message = message(conversation, &row, 2)?;
            if let Some(id) = message.client_message_id.clone() {
                known.insert((conversation, message.sender, id), (message, print));
            }
        }
    }
    Ok(known)
}

/// When the senders of these posts last wrote, where slow mode asks.
async fn last_sends(
    tx: &mut Tx,
    posts: &[Post<'_>],
    open: &[usize],
) -> Result<HashMap<(ConversationId, UserId), Timestamp>, Failure> {
    let mut found = HashMap::new();
    let paced = open.iter().map(|&index| &posts[index]).filter(|post| post.access.pace.is_some());
    let paced: Vec<_> = paced.map(|post| (post.letter.conversation, post.letter.sender)).collect();
    for part in paced.chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT conversation_id, user_id, send_time FROM paces WHERE (conversation_id, user_id) IN (",
        );
        query.push_values(padded(part), |mut row, (conversation, user)| {
            row.push_bind(conversation.uuid()).push_bind(user.uuid());
        });
        for row in query.push(")").build().fetch_all(&mut **tx).await? {
            found.insert((conversation_at(&row, 0)?, user_at(&row, 1)?), time_at(&row, 2)?);
        }
    }
    Ok(found)
}

/// The last event of a conversation that is surely older than this.
async fn last_before(
    tx: &mut Tx,
    conversation: ConversationId,
    time: Timestamp,
) -> Result<Sequence, Failure> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT sequence FROM events WHERE conversation_id = $1 AND occur_time < $2 ORDER BY sequence DESC LIMIT 1",
    )
    .bind(conversation.uuid())
    .bind(time.minus(SKEW).as_millis())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(Sequence::new(last.unwrap_or(0)))
}

/// Takes note of who is a member and who is not.
async fn set_members(
    tx: &mut Tx,
    conversation: ConversationId,
    users: &[UserId],
    is_member: bool,
) -> Result<(), Failure> {
    let mut users = users.to_vec();
    users.sort_unstable();
    for part in users.chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new("UPDATE watermarks SET is_member = ");
        query.push_bind(is_member).push(" WHERE conversation_id = ").push_bind(conversation.uuid());
        query.push(" AND user_id IN (");
        let mut list = query.separated(", ");
        for user in padded(part) {
            list.push_bind(user.uuid());
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Erases everything of a conversation but the last event of its log, which says that it is gone.
async fn erase(tx: &mut Tx, last: &Event) -> Result<(), Failure> {
    for text in [
        "DELETE FROM messages WHERE conversation_id = $1",
        "DELETE FROM watermarks WHERE conversation_id = $1",
        "DELETE FROM paces WHERE conversation_id = $1",
    ] {
        sqlx::query::<Db>(text).bind(last.conversation.uuid()).execute(&mut **tx).await?;
    }
    sqlx::query::<Db>("DELETE FROM events WHERE conversation_id = $1 AND sequence < $2")
        .bind(last.conversation.uuid())
        .bind(last.sequence.get())
        .execute(&mut **tx)
        .await?;
    sqlx::query::<Db>(
        "UPDATE conversation_heads SET delete_time = $2, last_message_sequence = 0 WHERE conversation_id = $1",
    )
    .bind(last.conversation.uuid())
    .bind(last.occur_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds to the logs of users. The heads are moved in the order of the users' ids.
async fn append_user_events(
    tx: &mut Tx,
    happened: Vec<(UserId, Timestamp, UserHappening)>,
) -> Result<Vec<UserEvent>, Failure> {
    let mut counts: BTreeMap<UserId, i64> = BTreeMap::new();
    for (user, ..) in &happened {
        *counts.entry(*user).or_default() += 1;
    }
    let mut next: HashMap<UserId, i64> = HashMap::with_capacity(counts.len());
    for (text, part) in ADVANCE_USER_HEADS.parts(&Vec::from_iter(&counts)) {
        let mut query = sqlx::query::<Db>(text);
        for &(user, count) in part {
            query = query.bind(user.uuid()).bind(*count);
        }
        for row in query.fetch_all(&mut **tx).await? {
            let user = user_at(&row, 0)?;
            next.insert(user, row.try_get::<i64, _>(1)? - counts.get(&user).copied().unwrap_or(0));
        }
    }
    let mut events = Vec::with_capacity(happened.len());
    for (user, occur_time, what) in happened {
        let last = next.entry(user).or_default();
        *last += 1;
        events.push(UserEvent { user, sequence: Sequence::new(*last), occur_time, what });
    }
    for (text, part) in INSERT_USER_EVENTS.parts(&events) {
        let mut query = sqlx::query::<Db>(text);
        for event in part {
            query = query
                .bind(event.user.uuid())
                .bind(event.sequence.get())
                .bind(event.occur_time.as_millis())
                .bind(event.what.encode());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(events)
}

/// A list with its last item repeated up to a power of two: few texts of a statement exist, and each can be kept prepared.
fn padded<T: Copy>(list: &[T]) -> impl Iterator<Item = T> + '_ {
    let wanted = list.len().next_power_of_two();
    list.iter().copied().chain(list.last().copied().into_iter().cycle().take(wanted - list.len()))
}

fn conversation_at(row: &Row, column: usize) -> Result<ConversationId, Failure> {
    Ok(row.try_get::<Uuid, _>(column)?.into())
}

fn user_at(row: &Row, column: usize) -> Result<UserId, Failure> {
    Ok(row.try_get::<Uuid, _>(column)?.into())
}

fn sequence_at(row: &Row, column: usize) -> Result<Sequence, Failure> {
    Ok(Sequence::new(row.try_get(column)?))
}

fn time_at(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

/// Reads the columns of a message, which begin at `first`.
fn message(conversation: ConversationId, row: &Row, first: usize) -> Result<Message, Failure> {
    let delete_time: Option<i64> = row.try_get(first + 8)?;
    let deleted_by: Option<Uuid> = row.try_get(first + 9)?;
    let content: Option<Vec<u8>> = row.try_get(first + 4)?;
    Ok(Message {
        message_id: row.try_get::<Uuid, _>(first + 1)?.into(),
        conversation,
        sequence: sequence_at(row, first)?,
        sender: user_at(row, first + 2)?,
        client_message_id: row.try_get::<Option<String>, _>(first + 3)?.map(ClientMessageId::stored),
        content: content.map(|bytes| Content::decode(&bytes)).transpose()?,
        reply_to: row.try_get::<Option<Uuid>, _>(first + 5)?.map(MessageId::from),
        create_time: time_at(row, first + 6)?,
        edit_time: row.try_get::<Option<i64>, _>(first + 7)?.map(Timestamp::from_millis),
        deletion: delete_time
            .zip(deleted_by)
            .map(|(time, by)| Deletion { time: Timestamp::from_millis(time), by: by.into() }),
        version: i32::try_from(row.try_get::<i64, _>(first + 10)?).unwrap_or(i32::MAX),
    })
}

/// Reads the columns of an event.
fn event(row: &Row) -> Result<Event, Failure> {
    const MESSAGE: usize = 7;
    let conversation = conversation_at(row, 0)?;
    let kind: String = row.try_get(2)?;
    let about = || message(conversation, row, MESSAGE);
    let what = match kind.as_str() {
        "message_created" => Happening::MessageCreated(about()?),
        "message_edited" => Happening::MessageEdited(about()?),
        "message_deleted" => {
            let message = about()?;
            Happening::MessageDeleted { message_id: message.message_id, sequence: message.sequence }
        }
        word => Happening::ToConversation {
            kind: FactKind::parse(word).ok_or_else(|| Failure::corrupt("an event is of no known kind"))?,
            payload: row.try_get::<Option<Vec<u8>>, _>(6)?.unwrap_or_default(),
        },
    };
    Ok(Event {
        conversation,
        sequence: sequence_at(row, 1)?,
        membership_version: row.try_get(4)?,
        occur_time: time_at(row, 5)?,
        actor: row.try_get::<Option<Uuid>, _>(3)?.map(UserId::from),
        what,
    })
}
