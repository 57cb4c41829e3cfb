//! Tickets for event streams: making one for a session, and finding out whose session one stands for.

use chassis::caller::Caller;
use chassis::clock::Timestamp;

use crate::error::Error;
use crate::session::Identified;
use crate::sessions::Sessions;
use crate::stream_ticket::{FIRST_USE, MOST, NewStreamTicket, StreamKey, StreamRedemption, StreamTicket};

impl Sessions {
    /// Makes a ticket for the session that asks, and returns until when it opens a stream. Of too many the oldest goes.
    pub async fn create_stream_ticket(&self, caller: &Caller) -> Result<(StreamTicket, Timestamp), Error> {
        let session_id = caller.session_id.ok_or(Error::Unauthenticated)?;
        let (ticket, create_time) = (StreamTicket::generate().map_err(Error::Internal)?, self.clock.now());
        let new =
            NewStreamTicket { ticket_hash: ticket.hash(), user_id: caller.user_id, session_id, create_time };
        match self.store.create_stream_ticket(&new, MOST).await? {
            true => Ok((ticket, create_time.plus(FIRST_USE))),
            false => Err(Error::Unauthenticated),
        }
    }

    /// The session that a ticket stands for, and the key of its stream, which counts as a use of the session; `None` when
    /// it stands for nothing. The first use binds the ticket to a new key, later ones show that key.
    pub async fn redeem_stream_ticket(
        &self,
        ticket: &str,
        shown: &[u8],
    ) -> Result<Option<(Identified, StreamKey)>, Error> {
        let Some(ticket) = StreamTicket::parse(ticket) else { return Ok(None) };
        let (shown, drawn) = (StreamKey::parse(shown), StreamKey::generate().map_err(Error::Internal)?);
        let now = self.clock.now();
        let redemption = StreamRedemption {
            ticket_hash: ticket.hash(),
            shown: shown.as_ref().map(StreamKey::hash),
            drawn: drawn.hash(),
            now,
        };
        let Some((identified, is_first)) = self.store.redeem_stream_ticket(&redemption).await? else {
            return Ok(None);
        };
        if let Some(used) = identified.session.use_at(now, self.lifetime) {
            self.uses.note(used);
        }
        let key = if is_first { Some(drawn) } else { shown };
        Ok(key.map(|key| (identified, key)))
    }
}
