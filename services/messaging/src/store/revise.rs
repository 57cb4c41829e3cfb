//! Changing messages.

use std::collections::{BTreeMap, BTreeSet};

use chassis::clock::Timestamp;
use proto::id::UserId;

use super::alerts::{raise, settle_mentions};
use super::erase::erase;
use super::history::message_by_id;
use super::log::{Advance, advance_heads, insert_events};
use super::revisions::keep;
use super::search::index_again;
use super::{Db, Store, Tx, marks, paces, requests, uploads};
use crate::alert::Alert;
use crate::content::Content;
use crate::conversations::Access;
use crate::error::Error;
use crate::event::{Event, UserEvent};
use crate::message::{Message, Sequence, wait_for_pace};
use crate::revision::{Change, Revision};
use crate::store::Revised;

impl Store {
    pub async fn revise(
        &self,
        revision: &Revision,
        access: &Access,
        now: Timestamp,
    ) -> Result<Revised, Error> {
        let conversation = revision.conversation;
        let mut tx = self.pool.begin().await?;
        // Under the lock of the head nobody else changes this message. What turns out to be nothing is rolled back.
        let heads = advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::events(1))])).await?;
        let Some(&last) = heads.get(&conversation) else {
            return Err(Error::ConversationNotFound(conversation));
        };
        match rewrite(&mut tx, revision, access, Sequence::new(last), now).await? {
            Revising::Same(message) => {
                tx.rollback().await?;
                Ok(Revised { message, event: None, alerts: Vec::new() })
            }
            Revising::Changed { message, event, alerts } => {
                tx.commit().await?;
                Ok(Revised { message, event: Some(event), alerts })
            }
        }
    }
}

/// What became of a revision within its transaction.
#[expect(clippy::large_enum_variant, reason = "nearly all of them change something")]
pub(super) enum Revising {
    /// Nothing: the message is this already.
    Same(Message),
    /// The message is this now.
    Changed { message: Message, event: Event, alerts: Vec<UserEvent> },
}

/// Holds an edit to slow mode, like a send: a changed text reaches everyone as a new one does.
async fn keep_pace(tx: &mut Tx, revision: &Revision, access: &Access, now: Timestamp) -> Result<(), Error> {
    let Some(pace) = access.pace else { return Ok(()) };
    let place = (revision.conversation, revision.by);
    let last_write = paces::last_writes(tx, &[place]).await?.get(&place).copied();
    if let Some(wait) = wait_for_pace(pace, last_write, now) {
        return Err(Error::SlowMode { wait });
    }
    Ok(paces::remember(tx, BTreeSet::from([place]), now).await?)
}

/// Changes a message under the lock of its conversation's head, and says so at this place of the log.
pub(super) async fn rewrite(
    tx: &mut Tx,
    revision: &Revision,
    access: &Access,
    sequence: Sequence,
    now: Timestamp,
) -> Result<Revising, Error> {
    let Revision { conversation, message_id, .. } = *revision;
    let before = message_by_id(&mut **tx, conversation, message_id, now).await?;
    let before = before.ok_or(Error::MessageNotFound(message_id))?;
    let mut beside = marks::beside(tx, revision, before.sequence, now).await?;
    if access.request_version > 0 && matches!(revision.change, Change::Edit { .. }) {
        let request = (conversation, revision.by, access.request_version);
        beside.is_request = requests::is_request(tx, request, before.sequence).await?;
    }
    let Some(after) = revision.apply(&before, &beside, access, now)? else {
        return Ok(Revising::Same(before));
    };
    if matches!(revision.change, Change::Edit { .. }) {
        keep_pace(tx, revision, access, now).await?;
    }
    sqlx::query::<Db>(
        "UPDATE messages SET content = $3, edit_time = $4, delete_time = $5, deleted_by = $6, version = $7,
             delete_reason = $8, details = $9
         WHERE conversation_id = $1 AND sequence = $2",
    )
    .bind(conversation.uuid())
    .bind(after.sequence.get())
    .bind(after.content.as_ref().map(Content::encode))
    .bind(after.edit_time.map(Timestamp::as_millis))
    .bind(after.deletion.map(|deletion| deletion.time.as_millis()))
    .bind(after.deletion.and_then(|deletion| deletion.by).map(UserId::uuid))
    .bind(i64::from(after.version))
    .bind(after.deletion.map(|deletion| i64::from(i32::from(deletion.reason))))
    .bind(after.details.encode())
    .execute(&mut **tx)
    .await?;
    if after.deletion.is_some() {
        erase(tx, &[(conversation, after.sequence)]).await?;
    } else if after.content != before.content {
        keep(tx, &before).await?;
        uploads::settle(tx, &before, &after).await?;
    }
    marks::write(tx, revision, &after, now).await?;
    let event = Event {
        conversation,
        sequence,
        membership_version: access.membership_version,
        occur_time: now,
        actor: revision.actor(&after),
        what: revision.happening(&after),
    };
    insert_events(tx, &[&event]).await?;
    if after.content != before.content {
        index_again(tx, &after).await?;
    }
    let called = after.details.mentions.iter().filter(|user| !before.details.mentions.contains(user));
    // Who is asked to take a message has its alert: that of the request.
    let called = called.filter(|_| access.request_version == 0);
    let alerts: Vec<_> = called.map(|user| Alert::mention(*user, &after)).collect();
    let mut alerts = raise(tx, &alerts).await?;
    let mentions = |message: &Message, user: &UserId| message.details.mentions.contains(user);
    let no_more = before.details.mentions.iter().filter(|user| !mentions(&after, user));
    let no_more: Vec<_> = no_more.map(|user| (*user, message_id)).collect();
    alerts.extend(settle_mentions(tx, &no_more, now).await?);
    Ok(Revising::Changed { message: after, event, alerts })
}
