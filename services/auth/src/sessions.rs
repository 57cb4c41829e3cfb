//! Sessions once they are open: whose a token is, trading it for the next one, listing and ending.

use chassis::caller::Caller;
use chassis::clock::Clock;
use proto::id::SessionId;

use crate::error::Error;
use crate::publish::Publisher;
use crate::session::{Grant, Identified, Lifetime, Session};
use crate::store::{Refreshed, Store};
use crate::token::{Salt, Token};
use crate::uses::Uses;

/// The use cases around open sessions.
#[derive(Debug)]
pub struct Sessions {
    /// What is kept.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
    /// Tells others.
    pub publisher: Publisher,
    /// Writes down uses, later.
    pub uses: Uses,
    /// How long sessions live.
    pub lifetime: Lifetime,
}

impl Sessions {
    /// Whose session a token stands for, if any. This is on the path of every request: one read, and what is to be
    /// written about it waits for another moment.
    pub async fn identify(&self, token: &str) -> Result<Option<Identified>, Error> {
        let Some(token) = Token::parse(token) else { return Ok(None) };
        let now = self.clock.now();
        let found = self.store.find_session(&token).await?;
        let alive = found.filter(|found| found.session.is_alive(now));
        if let Some(used) = alive.as_ref().and_then(|found| found.session.use_at(now, self.lifetime)) {
            self.uses.note(used);
        }
        Ok(alive)
    }

    /// Trades a token for the next one. A token that was replaced for good ends the session: either this one or the
    /// one that replaced it is in the wrong hands, and nobody can tell which.
    pub async fn refresh(&self, token: &str) -> Result<Grant, Error> {
        let token = Token::parse(token).ok_or(Error::Unauthenticated)?;
        let salt = Salt::generate().map_err(Error::Internal)?;
        match self.store.refresh(&token, &salt, self.lifetime, self.clock.now()).await? {
            Refreshed::Granted(grant) => Ok(grant),
            Refreshed::Unknown => Err(Error::Unauthenticated),
            Refreshed::Reused(Session { id, user_id, .. }) => {
                self.publisher.sessions_ended(user_id, &[id]);
                metrics::counter!("auth_tokens_reused_total").increment(1);
                tracing::warn!(user.id = %user_id, session.id = %id, "ended session {id}: a replaced token was used again");
                Err(Error::Unauthenticated)
            }
        }
    }

    /// The caller's sessions, newest first.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Session>, Error> {
        let now = self.clock.now();
        let mut sessions = self.store.sessions_of(caller.user_id).await?;
        sessions.retain(|session| session.is_alive(now));
        Ok(sessions)
    }

    /// Ends one of the caller's sessions.
    pub async fn end(&self, caller: &Caller, id: SessionId) -> Result<(), Error> {
        if !self.store.end_session(caller.user_id, id).await? {
            return Err(Error::SessionNotFound(id));
        }
        self.publisher.sessions_ended(caller.user_id, &[id]);
        tracing::info!(user.id = %caller.user_id, session.id = %id, "ended session {id}");
        Ok(())
    }

    /// Ends the session that asks.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), Error> {
        let id = caller.session_id.ok_or(Error::Unauthenticated)?;
        match self.end(caller, id).await {
            // It has ended since it was verified, which is what was asked for.
            Err(Error::SessionNotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }
}
