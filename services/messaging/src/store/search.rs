//! What messages are found by.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::MessageKind;
use sqlx::QueryBuilder;

use super::{
    Db, LISTED, MATCHES, MATCHING, PLACEHOLDERS, Store, Tx, conversation_at, message, message_columns,
    messages, padded,
};
use crate::content::Content;
use crate::message::{Letter, Message, Sequence};
use crate::store::rows::Rows;
use crate::store::{Failure, Search};
use crate::words::words;

static INSERT_SEARCHABLE: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO searchable (conversation_id, message_sequence, message_id, sender_id, kind, words) VALUES",
    6,
    "ON CONFLICT (conversation_id, message_sequence) DO UPDATE SET kind = excluded.kind, words = excluded.words",
);

/// In so many conversations the index itself is asked for them. Who is in more finds its words first, wherever they are,
/// and then those of its conversations.
const MARKED: usize = 64;

/// A row of what a message is found by.
#[derive(Debug)]
pub(super) struct Searchable<'a> {
    conversation: ConversationId,
    sequence: Sequence,
    message_id: MessageId,
    sender: UserId,
    kind: MessageKind,
    words: &'a str,
}

impl<'a> Searchable<'a> {
    /// What a new message is found by.
    pub(super) fn new(letter: &Letter, sequence: Sequence, (kind, words): (MessageKind, &'a str)) -> Self {
        let (conversation, message_id, sender) = (letter.conversation, letter.message_id, letter.sender);
        Self { conversation, sequence, message_id, sender, kind, words }
    }
}

/// The kind and the words that a content is found by; `None` when it is not.
pub(super) type Found = Option<(MessageKind, String)>;

/// What a content is found by.
pub(super) fn found_by(conversation: ConversationId, content: &Content) -> Found {
    let kind = content.found_as()?;
    let mut found = vec![mark(conversation)];
    found.extend(words(&content.searchable().unwrap_or_default()));
    Some((kind, found.join(" ")))
}

/// Stands for a conversation among the words. It begins with a character that no word has.
fn mark(conversation: ConversationId) -> String {
    format!("\u{e000}{}", conversation.uuid().simple())
}

/// Lets messages be found.
pub(super) async fn index(tx: &mut Tx, rows: &[Searchable<'_>]) -> Result<(), Failure> {
    for (text, part) in INSERT_SEARCHABLE.parts(rows) {
        let mut query = sqlx::query::<Db>(text);
        for row in part {
            query = query
                .bind(row.conversation.uuid())
                .bind(row.sequence.get())
                .bind(row.message_id.uuid())
                .bind(row.sender.uuid())
                .bind(i64::from(i32::from(row.kind)))
                .bind(row.words.to_owned());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Lets a message that has changed be found by what it says now, or no more.
pub(super) async fn index_again(tx: &mut Tx, message: &Message) -> Result<(), Failure> {
    let found = message.content.as_ref().and_then(|content| found_by(message.conversation, content));
    let Some((kind, words)) = found else {
        sqlx::query::<Db>("DELETE FROM searchable WHERE conversation_id = $1 AND message_sequence = $2")
            .bind(message.conversation.uuid())
            .bind(message.sequence.get())
            .execute(&mut **tx)
            .await?;
        return Ok(());
    };
    let row = Searchable {
        conversation: message.conversation,
        sequence: message.sequence,
        message_id: message.message_id,
        sender: message.sender,
        kind,
        words: &words,
    };
    index(tx, &[row]).await
}

impl Store {
    pub async fn search(&self, search: &Search) -> Result<Vec<Message>, Failure> {
        let now = self.clock.now();
        let rows = find(search, now).build().fetch_all(self.pool.read()).await?;
        rows.iter().map(|row| message(conversation_at(row, 0)?, row, 1, now)).collect()
    }
}

/// The statement of a search. What is gone is left out here, too, and not only masked: a page has as many as it says.
fn find(search: &Search, now: Timestamp) -> QueryBuilder<Db> {
    let mut query = QueryBuilder::<Db>::new(concat!(
        "SELECT m.conversation_id, ",
        message_columns!(),
        " FROM searchable s CROSS JOIN ",
        messages!(),
        " WHERE m.conversation_id = s.conversation_id AND m.sequence = s.message_sequence",
        " AND m.delete_time IS NULL AND m.sequence > mh.purged_sequence",
        " AND (m.expire_time IS NULL OR m.expire_time > "
    ));
    query.push_bind(now.as_millis()).push(")");
    if !search.words.is_empty() {
        let marks = Some(&search.conversations).filter(|list| list.len() <= MARKED);
        let marks: Vec<_> = marks.into_iter().flatten().map(|id| mark(*id)).collect();
        query.push(" AND ").push(MATCHING[0]);
        query.push_bind(MATCHES.expression(&marks, &search.words)).push(MATCHING[1]);
    }
    match search.conversations.as_slice() {
        [one] => {
            query.push(" AND s.conversation_id = ").push_bind(one.uuid());
        }
        // Thousands of them, perhaps: one parameter for all, and one text of the statement.
        list => {
            let ids: Vec<_> = list.iter().map(|id| format!("\"{}\"", id.uuid().simple())).collect();
            query.push(" AND (s.conversation_id IN (").push(LISTED[0]);
            query.push_bind(format!("[{}]", ids.join(","))).push(LISTED[1]).push("))");
            if !search.words.is_empty() {
                // Says nothing more, but keeps the database from reading the conversations to look for the words there.
                query.push(" IS TRUE");
            }
        }
    }
    if let Some(sender) = search.sender {
        query.push(" AND s.sender_id = ").push_bind(sender.uuid());
    }
    if !search.kinds.is_empty() {
        if !search.kinds.contains(&MessageKind::Text) {
            // Says the same once more, in the words of the index that has everything but texts.
            query.push(" AND s.kind <> 1");
        }
        let kinds: Vec<_> = search.kinds.iter().map(|kind| i64::from(i32::from(*kind))).collect();
        query.push(" AND s.kind IN (");
        let mut list = query.separated(", ");
        for kind in padded(&kinds) {
            list.push_bind(kind);
        }
        query.push(")");
    }
    if let Some(after) = search.after {
        query.push(" AND m.create_time >= ").push_bind(after.as_millis());
    }
    if let Some(before) = search.before {
        query.push(" AND m.create_time < ").push_bind(before.as_millis());
    }
    if let Some(id) = search.older_than {
        query.push(" AND s.message_id < ").push_bind(id.uuid());
    }
    query
        .push(
            " AND NOT EXISTS (SELECT 1 FROM hidden_messages h WHERE h.conversation_id = s.conversation_id
                 AND h.message_sequence = s.message_sequence AND h.user_id = ",
        )
        .push_bind(search.user.uuid())
        .push(") ORDER BY s.message_id DESC LIMIT ")
        .push_bind(search.limit);
    query
}
