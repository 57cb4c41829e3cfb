//! Adding messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::AlertState;
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::alerts::{attach, raise};
use super::log::{Advance, advance_heads};
use super::search::{Searchable, index};
use super::user_log::lock_users;
use super::{
    Db, PLACEHOLDERS, Store, Tx, conversation_at, message, message_columns, messages, paces, padded,
    requests, uploads,
};
use crate::alert::Alert;
use crate::error::Error;
use crate::message::{ClientMessageId, Fingerprint, Letter, Message, Sequence, wait_for_pace};
use crate::store::rows::Rows;
use crate::store::{Appended, Failure, MAX_ROWS, Post};

static INSERT_MESSAGES: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO messages (conversation_id, sequence, message_id, sender_id, membership_version, client_message_id,
         fingerprint, content, reply_to, create_time, expire_time, details) VALUES",
    12,
    "ON CONFLICT DO NOTHING",
);

/// What a sender's key identifies: the conversation, the sender and its own id for the message.
type Key<'a> = (ConversationId, UserId, &'a ClientMessageId);

fn key(letter: &Letter) -> Option<Key<'_>> {
    letter.client_message_id.as_ref().map(|id| (letter.conversation, letter.sender, id))
}

impl Store {
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

    /// The way of a batch in which a key may have been used before, which has files, or where slow mode asks for the last
    /// message: the heads are locked first, so that what is read stays true until the commit.
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
        let known = known_keys(&mut tx, posts, &open, now).await?;
        let paced = open.iter().map(|&index| &posts[index]).filter(|post| post.access.pace.is_some());
        let paced: Vec<_> = paced.map(|post| (post.letter.conversation, post.letter.sender)).collect();
        let mut last_writes = paces::last_writes(&mut tx, &paced).await?;
        let files = open.iter().flat_map(|&index| posts[index].letter.content.upload_ids());
        let missing = uploads::hold(&mut tx, &files.collect()).await?;
        let requests: Vec<_> = open.iter().filter_map(|&index| requests::place(&posts[index])).collect();
        let asked = requests::asked(&mut tx, &requests).await?;
        let mut asking = BTreeSet::new();

        let mut fresh = Vec::new();
        let mut firsts: HashMap<Key<'_>, usize> = HashMap::new();
        let mut again = Vec::new();
        for index in open {
            let post = &posts[index];
            if let Some(key) = key(post.letter) {
                if let Some((message, fingerprint)) = known.get(&(key.0, key.1, key.2.clone())) {
                    outcomes[index] = Some(repeat(post.letter, message, fingerprint));
                    continue;
                }
                if let Some(&first) = firsts.get(&key) {
                    again.push((index, first));
                    continue;
                }
            }
            if let Some(id) = post.letter.content.upload_ids().iter().find(|id| missing.contains(id)) {
                outcomes[index] = Some(Err(Error::UploadNotFound(*id)));
                continue;
            }
            if let Some(request) = requests::place(post) {
                let known = asked.get(&request).map_or(Ok(()), |asked| asked.check(request.0));
                let is_accepted =
                    asked.get(&request).is_some_and(|asked| asked.state == AlertState::RequestAccepted);
                // Of two in one batch the first is the one.
                let is_one = is_accepted || asking.insert(request);
                let allowed =
                    known.and_then(|()| if is_one { Ok(()) } else { Err(Error::RequestPending(request.0)) });
                if let Err(refusal) = allowed {
                    outcomes[index] = Some(Err(refusal));
                    continue;
                }
            }
            if let Some(pace) = post.access.pace {
                let place = (post.letter.conversation, post.letter.sender);
                if let Some(wait) = wait_for_pace(pace, last_writes.get(&place).copied(), now) {
                    outcomes[index] = Some(Err(Error::SlowMode { wait }));
                    continue;
                }
                last_writes.insert(place, now);
            }
            if let Some(key) = key(post.letter) {
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
        paces::remember(&mut tx, paced, now).await?;
        tx.commit().await?;
        for (index, first) in again {
            outcomes[index] = match &outcomes[first] {
                Some(Ok(first_of)) => {
                    Some(repeat(posts[index].letter, &first_of.message, &posts[first].letter.fingerprint))
                }
                other => other.clone(),
            };
        }
        Ok(())
    }

    pub async fn earlier(&self, letter: &Letter) -> Result<Option<Result<Appended, Error>>, Failure> {
        let Some((conversation, sender, id)) = key(letter) else { return Ok(None) };
        let found = self.first(conversation, sender, id).await?;
        Ok(found.map(|(message, fingerprint)| repeat(letter, &message, &fingerprint)))
    }

    pub async fn first(
        &self,
        conversation: ConversationId,
        sender: UserId,
        id: &ClientMessageId,
    ) -> Result<Option<(Message, Fingerprint)>, Failure> {
        let key = (conversation, sender, id);
        let known = known_of(self.pool.read(), &[key], self.clock.now()).await?;
        Ok(known.into_values().next())
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
        // The few wanted outside, the messages inside: SQLite looks up a list of pairs by reading everything.
        let mut query = QueryBuilder::<Db>::new("WITH wanted(conversation_id, message_id) AS (");
        query.push_values(padded(&Vec::from_iter(unknown.iter().copied())), |mut row, (conversation, id)| {
            row.push_bind(conversation.uuid()).push_bind(id.uuid());
        });
        query.push(
            ") SELECT m.conversation_id, m.message_id FROM wanted w CROSS JOIN messages m
             WHERE m.conversation_id = w.conversation_id AND m.message_id = w.message_id",
        );
        let rows = query.build().fetch_all(self.pool.read()).await?;
        for row in rows {
            unknown.remove(&(conversation_at(&row, 0)?, MessageId::from(row.try_get::<Uuid, _>(1)?)));
        }
        Ok(unknown)
    }
}

/// Whether all of a batch can be written without a look at what is there: no key twice, nobody has to wait or has a request
/// that waits, and no files that have to be there.
fn is_plain(posts: &[Post<'_>]) -> bool {
    let mut keys = BTreeSet::new();
    posts.iter().all(|post| {
        let is_first = key(post.letter)
            .is_none_or(|(conversation, sender, id)| keys.insert((conversation, sender, id.as_str())));
        let is_free = post.access.pace.is_none() && requests::place(post).is_none();
        is_first && is_free && post.letter.content.upload_ids().is_empty()
    })
}

/// Everybody gets an answer.
fn settled(outcomes: Vec<Option<Result<Appended, Error>>>) -> Vec<Result<Appended, Error>> {
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Error::Internal))).collect()
}

/// The answer to a key that has been used: the first message, or a refusal when something else was asked for then.
fn repeat(letter: &Letter, first: &Message, fingerprint: &Fingerprint) -> Result<Appended, Error> {
    if *fingerprint == letter.fingerprint {
        Ok(Appended { message: first.clone(), repeated: true, alerts: Vec::new() })
    } else {
        let id = letter.client_message_id.as_ref().map(ClientMessageId::as_str);
        Err(Error::ClientMessageIdReused(id.unwrap_or_default().to_owned()))
    }
}

/// Takes sequences and adds the messages, which are their own entries in the log. `false` when a key was there already: then roll back.
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
        outcomes[index] = Some(Ok(Appended { message, repeated: false, alerts: Vec::new() }));
        added.push((post, *last));
    }
    let mut rows = 0;
    for (text, part) in INSERT_MESSAGES.parts(&added) {
        let mut query = sqlx::query::<Db>(text);
        for (Post { letter, access }, sequence) in part {
            query = query
                .bind(letter.conversation.uuid())
                .bind(sequence)
                .bind(letter.message_id.uuid())
                .bind(letter.sender.uuid())
                .bind(access.membership_version)
                .bind(letter.client_message_id.as_ref().map(|id| id.as_str().to_owned()))
                .bind(letter.fingerprint.as_bytes().to_vec())
                .bind(letter.content.encode())
                .bind(letter.reply_to.map(MessageId::uuid))
                .bind(now.as_millis())
                .bind(letter.expires(now).map(Timestamp::as_millis))
                .bind(letter.details.encode());
        }
        rows += query.execute(&mut **tx).await?.rows_affected();
    }
    if usize::try_from(rows) != Ok(added.len()) {
        return Ok(false);
    }
    let rows: Vec<_> = added
        .iter()
        .filter_map(|(post, sequence)| Searchable::new(post.letter, Sequence::new(*sequence)))
        .collect();
    index(tx, &rows).await?;
    let references = added.iter().flat_map(|(Post { letter, .. }, sequence)| {
        let sequence = Sequence::new(*sequence);
        letter.content.upload_ids().into_iter().map(move |id| (id, letter.conversation, sequence))
    });
    uploads::refer(tx, &references.collect::<Vec<_>>()).await?;
    alert(tx, posts, outcomes).await?;
    Ok(true)
}

/// Alerts whom the new messages mention, and adds those that are requests to the alerts of whom they ask.
async fn alert(
    tx: &mut Tx,
    posts: &[Post<'_>],
    outcomes: &mut [Option<Result<Appended, Error>>],
) -> Result<(), Failure> {
    let new = posts.iter().zip(outcomes).filter_map(|(post, outcome)| match outcome {
        Some(Ok(appended)) if !appended.repeated => Some((requests::place(post), appended)),
        _ => None,
    });
    let (mut alerts, mut asked, mut first) = (Vec::new(), Vec::new(), None);
    for (request, appended) in new {
        let message = &appended.message;
        match request {
            // Who is asked to take a message has its alert: that of the request.
            Some(request) => {
                let told = requests::keep(tx, request, message).await?;
                asked.extend(told.map(|(user, request)| (user, request, message.clone())));
            }
            None if message.details.mentions.is_empty() => continue,
            None => {
                alerts.extend(message.details.mentions.iter().map(|user| Alert::mention(*user, message)));
            }
        }
        first = first.or(Some(appended));
    }
    // Whoever publishes them does so once: it does not matter with which message.
    let Some(first) = first else { return Ok(()) };
    // All at once, in their order: two batches must not wait for each other.
    let users = alerts.iter().map(|alert| alert.user).chain(asked.iter().map(|(user, ..)| *user));
    lock_users(tx, &users.collect()).await?;
    first.alerts = raise(tx, &alerts).await?;
    for (user, request, message) in asked {
        first.alerts.extend(attach(tx, user, request, &message).await?);
    }
    Ok(())
}

/// The keys of these posts that have been used, with the first message and its fingerprint.
async fn known_keys(
    tx: &mut Tx,
    posts: &[Post<'_>],
    open: &[usize],
    now: Timestamp,
) -> Result<HashMap<(ConversationId, UserId, ClientMessageId), (Message, Fingerprint)>, Failure> {
    let mut known = HashMap::new();
    let keys: Vec<Key<'_>> = open.iter().filter_map(|&index| key(posts[index].letter)).collect();
    for part in keys.chunks(MAX_ROWS) {
        known.extend(known_of(&mut **tx, part, now).await?);
    }
    Ok(known)
}

/// The same for a part of the keys.
async fn known_of<'c>(
    executor: impl sqlx::Executor<'c, Database = Db>,
    keys: &[Key<'_>],
    now: Timestamp,
) -> Result<HashMap<(ConversationId, UserId, ClientMessageId), (Message, Fingerprint)>, Failure> {
    let mut known = HashMap::new();
    let mut query =
        QueryBuilder::<Db>::new("WITH wanted(conversation_id, sender_id, client_message_id) AS (");
    query.push_values(padded(keys), |mut row, (conversation, sender, id)| {
        row.push_bind(conversation.uuid()).push_bind(sender.uuid()).push_bind(id.as_str().to_owned());
    });
    query.push(concat!(
        ") SELECT m.conversation_id, m.fingerprint, ",
        message_columns!(),
        " FROM wanted w CROSS JOIN ",
        messages!(),
        " WHERE m.conversation_id = w.conversation_id AND m.sender_id = w.sender_id",
        " AND m.client_message_id = w.client_message_id"
    ));
    for row in query.build().fetch_all(executor).await? {
        let conversation = conversation_at(&row, 0)?;
        let print = Fingerprint::stored(&row.try_get::<Vec<u8>, _>(1)?)
            .ok_or_else(|| Failure::corrupt("a fingerprint cannot be read"))?;
        let message = message(conversation, &row, 2, now)?;
        if let Some(id) = message.client_message_id.clone() {
            known.insert((conversation, message.sender, id), (message, print));
        }
    }
    Ok(known)
}
