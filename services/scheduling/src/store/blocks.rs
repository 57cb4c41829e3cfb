//! What a block ends. Compiled once per database.

use chassis::database::facts::Claim;

use super::super::super::Parted;
use super::super::{feeds, now_within};
use super::{Store, bookings, calls};
use crate::calls::machine::Spans;
use crate::conversations::Block;
use crate::error::Error;

impl Store {
    pub async fn part(&self, claim: &Claim, block: Block, spans: &Spans) -> Result<Parted, Error> {
        let mut tx = self.pool.begin().await?;
        if !feeds::claim(&mut tx, claim).await? {
            return Ok(Parted::Overtaken);
        }
        // In the order in which everybody locks: people of calls, their call, people of bookings, their bookings.
        let call = calls::part(&mut tx, block, &self.clock, spans).await?.map(Box::new);
        let now = now_within(&mut tx, &self.clock).await?;
        let cancelled = bookings::part(&mut tx, block, now).await?;
        tx.commit().await?;
        Ok(Parted::Done { call, cancelled })
    }
}
