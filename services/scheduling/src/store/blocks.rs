//! What a block ends. Compiled once per database.

use super::super::super::Parted;
use super::super::{now_within, outbox};
use super::{Store, bookings, calls};
use crate::calls::machine::Spans;
use crate::conversations::Happening;
use crate::error::Error;

/// The name of the cursor over conversation's facts.
const CONVERSATION: &str = "conversation";

impl Store {
    pub async fn blocks_cursor(&self) -> Result<i64, Error> {
        Ok(outbox::cursor(&self.pool, CONVERSATION).await?)
    }

    pub async fn part(&self, from: i64, happening: Happening, spans: &Spans) -> Result<Parted, Error> {
        let mut tx = self.pool.begin().await?;
        if !outbox::move_cursor(&mut tx, CONVERSATION, from, happening.position).await? {
            return Ok(Parted::Overtaken);
        }
        let (mut call, mut cancelled) = (None, 0);
        if let Some(block) = happening.block {
            // In the order in which everybody locks: people of calls, their call, people of bookings, their bookings.
            call = calls::part(&mut tx, block, &self.clock, spans).await?.map(Box::new);
            let now = now_within(&mut tx, &self.clock).await?;
            cancelled = bookings::part(&mut tx, block, now).await?;
        }
        tx.commit().await?;
        Ok(Parted::Done { call, cancelled })
    }
}
