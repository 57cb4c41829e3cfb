//! Tickets for event streams.

use chassis::clock::Timestamp;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{Db, FOR_UPDATE, IdentifiedRow, Store, kind_of, session_columns, unreadable};
use crate::error::Error;
use crate::session::{Identified, Session};
use crate::stream_ticket::{FIRST_USE, NewStreamTicket, StreamRedemption, StreamTicketUse};
use crate::token::Hash;

impl Store {
    pub async fn create_stream_ticket(&self, new: &NewStreamTicket, most: i64) -> Result<bool, Error> {
        let NewStreamTicket { ticket_hash, user_id, session_id, create_time } = new;
        let mut tx = self.pool.begin().await?;
        // The lock keeps two requests of one session from each leaving a ticket too many.
        let sql = "SELECT session_id FROM sessions WHERE user_id = $1 AND session_id = $2";
        let session: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!("{sql}{FOR_UPDATE}")))
            .bind(user_id.uuid())
            .bind(session_id.uuid())
            .fetch_optional(&mut *tx)
            .await?;
        if session.is_none() {
            return Ok(false);
        }
        // Those that open nothing any more take no place.
        sqlx::query(
            "DELETE FROM stream_tickets
             WHERE user_id = $1 AND session_id = $2 AND key_hash IS NULL AND create_time <= $3",
        )
        .bind(user_id.uuid())
        .bind(session_id.uuid())
        .bind(create_time.minus(FIRST_USE).as_millis())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM stream_tickets WHERE ticket_hash IN
                 (SELECT ticket_hash FROM stream_tickets WHERE user_id = $1 AND session_id = $2
                  ORDER BY create_time DESC, ticket_hash LIMIT 1000 OFFSET $3)",
        )
        .bind(user_id.uuid())
        .bind(session_id.uuid())
        .bind(most - 1)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO stream_tickets (ticket_hash, user_id, session_id, create_time) VALUES ($1, $2, $3, $4)",
        )
        .bind(ticket_hash.as_bytes())
        .bind(user_id.uuid())
        .bind(session_id.uuid())
        .bind(create_time.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn redeem_stream_ticket(
        &self,
        redemption: &StreamRedemption,
    ) -> Result<Option<(Identified, bool)>, Error> {
        // Tickets can be made up: only the first use of a ticket of ours waits for the writer.
        let row: Option<TicketRow> = sqlx::query_as(concat!(
            "SELECT ",
            session_columns!(),
            ", u.kind, t.create_time AS ticket_time, t.key_hash
             FROM stream_tickets t
             JOIN sessions s ON s.user_id = t.user_id AND s.session_id = t.session_id
             JOIN users u ON u.user_id = t.user_id
             WHERE t.ticket_hash = $1"
        ))
        .bind(redemption.ticket_hash.as_bytes())
        .fetch_optional(self.pool.read())
        .await?;
        let Some(TicketRow { identified: IdentifiedRow { session, kind }, ticket_time, key_hash }) = row
        else {
            return Ok(None);
        };
        let session = Session::from(session);
        if !session.is_alive(redemption.now) {
            return Ok(None);
        }
        let read = |bytes: Vec<u8>| Hash::stored(&bytes).ok_or_else(|| unreadable("a sum of a wrong length"));
        let bound = key_hash.map(read).transpose()?;
        let is_first = match redemption.judge(Timestamp::from_millis(ticket_time), bound) {
            StreamTicketUse::None => return Ok(None),
            StreamTicketUse::Again => false,
            StreamTicketUse::First if self.bind_stream_ticket(redemption).await? => true,
            StreamTicketUse::First => return Ok(None),
        };
        let kind = kind_of(kind).ok_or_else(|| unreadable("a session of no user"))?;
        Ok(Some((Identified { session, kind }, is_first)))
    }

    /// Binds a ticket to a stream; `false` when another request was faster.
    async fn bind_stream_ticket(&self, redemption: &StreamRedemption) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let bound = sqlx::query::<Db>(
            "UPDATE stream_tickets SET key_hash = $2 WHERE ticket_hash = $1 AND key_hash IS NULL",
        )
        .bind(redemption.ticket_hash.as_bytes())
        .bind(redemption.drawn.as_bytes())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(bound.rows_affected() == 1)
    }
}

#[derive(FromRow)]
struct TicketRow {
    #[sqlx(flatten)]
    identified: IdentifiedRow,
    ticket_time: i64,
    key_hash: Option<Vec<u8>>,
}
