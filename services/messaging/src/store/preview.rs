//! Adding what a link leads to.

use std::collections::BTreeMap;

use chassis::clock::Timestamp;
use proto::messaging::v1 as pb;

use super::history::message_by_id;
use super::log::{Advance, advance_heads, insert_events};
use super::{Db, Store};
use crate::event::{Event, Happening, MessageChange};
use crate::message::Sequence;
use crate::preview::Found;
use crate::store::Failure;

impl Store {
    pub async fn preview(&self, found: &Found, now: Timestamp) -> Result<Option<Event>, Failure> {
        let Found { conversation, message_id, membership_version, preview } = found;
        let mut tx = self.pool.begin().await?;
        // Under the lock of the head nobody edits or deletes this message. What turns out to be nothing is rolled back.
        let heads = advance_heads(&mut tx, &BTreeMap::from([(*conversation, Advance::events(1))])).await?;
        let before = message_by_id(&mut *tx, *conversation, *message_id, now).await?;
        let after = before.and_then(|before| found.apply(&before));
        let (Some(&last), Some(after)) = (heads.get(conversation), after) else {
            tx.rollback().await?;
            return Ok(None);
        };
        sqlx::query::<Db>("UPDATE messages SET details = $3 WHERE conversation_id = $1 AND sequence = $2")
            .bind(conversation.uuid())
            .bind(after.sequence.get())
            .bind(after.details.encode())
            .execute(&mut *tx)
            .await?;
        let change = pb::LinkPreviewed {
            message_id: message_id.to_string(),
            message_sequence: after.sequence.get(),
            preview: Some(preview.clone()),
        };
        let event = Event {
            conversation: *conversation,
            sequence: Sequence::new(last),
            membership_version: *membership_version,
            occur_time: now,
            actor: None,
            what: Happening::ToMessage {
                sequence: after.sequence,
                payload: MessageChange::Previewed(change),
            },
        };
        insert_events(&mut tx, &[&event]).await?;
        tx.commit().await?;
        Ok(Some(event))
    }
}
