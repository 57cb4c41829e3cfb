//! The sessions of connections: a connection outlives the request that opened it, but not its session.
//!
//! The end of a session closes its connections at once when auth reports it on the bus, at its expiry, and, if the hint
//! was lost, within a minute, because every session is checked that often.

use std::sync::Arc;
use std::time::Duration;

use chassis::caller::unauthenticated;
use chassis::clock::Timestamp;
use chassis::tasks::{Shutdown, Tasks};
use chassis::transport::as_service;
use futures_util::{StreamExt, stream};
use prost::Message as _;
use proto::auth::v1::{
    CallerInfo, IntrospectRequest, RedeemStreamTicketRequest, RedeemStreamTicketResponse, SessionsEnded,
};
use proto::id::{SessionId, UserId};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::connection::{Connection, End};
use super::identity::{Credential, SessionProof, SignedIn, StreamKey};
use crate::realtime::Realtime;
use crate::upstream::clients::Clients;

/// The interval at which connections are checked.
const ROUND: Duration = Duration::from_secs(1);

/// The number of rounds in which every session is checked once.
const ROUNDS: u64 = 60;

/// The number of sessions that are checked at a time.
const AT_A_TIME: usize = 32;

/// The time for which an expired session is kept while auth cannot be reached to find out if it was prolonged.
const GRACE: Duration = Duration::from_secs(3);

/// The longest time for auth to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same, if auth has reported itself that the session has ended.
const PATIENCE_IN_DOUBT: Duration = Duration::from_millis(700);

/// The maximum number of hints that wait.
const WAITING_HINTS: usize = 4096;

/// Returns the session of a token.
pub(crate) async fn sign_in(clients: &Clients, token: &str) -> Result<SignedIn, Status> {
    introspect(clients, token, PATIENCE).await?.ok_or_else(|| unauthenticated().into())
}

/// Returns the session of a ticket for an event stream, together with the key that the client has shown. Its first use
/// binds the ticket to a new key.
pub(crate) async fn redeem_ticket(
    clients: &Clients,
    ticket: &str,
    shown: Option<&StreamKey>,
) -> Result<SignedIn, Status> {
    redeem(clients, ticket, shown, PATIENCE).await?.ok_or_else(|| unauthenticated().into())
}

/// Returns the current session of a secret.
async fn look_up(
    clients: &Clients,
    credential: &Credential,
    patience: Duration,
) -> Result<Option<SignedIn>, Status> {
    match credential {
        Credential::Token(token) => introspect(clients, token, patience).await,
        Credential::StreamTicket { ticket, key } => redeem(clients, ticket, Some(key), patience).await,
    }
}

async fn introspect(clients: &Clients, token: &str, patience: Duration) -> Result<Option<SignedIn>, Status> {
    if token.is_empty() || token.len() > 256 {
        return Ok(None);
    }
    let mut request =
        as_service(IntrospectRequest { session_token: token.to_owned() }, clients.credential(), None);
    request.set_timeout(patience);
    let answer = in_time(patience, async { clients.auth().introspect(request).await }).await?;
    let Some(caller) = answer.into_inner().caller else { return Ok(None) };
    signed_in(&caller, Credential::Token(Arc::from(token))).map(Some)
}

async fn redeem(
    clients: &Clients,
    ticket: &str,
    shown: Option<&StreamKey>,
    patience: Duration,
) -> Result<Option<SignedIn>, Status> {
    if ticket.is_empty() || ticket.len() > 64 {
        return Ok(None);
    }
    let stream_key = shown.map(|key| key.as_bytes().to_vec()).unwrap_or_default();
    let message = RedeemStreamTicketRequest { ticket: ticket.to_owned(), stream_key };
    let mut request = as_service(message, clients.credential(), None);
    request.set_timeout(patience);
    let answer = in_time(patience, async { clients.auth().redeem_stream_ticket(request).await }).await?;
    let RedeemStreamTicketResponse { caller, stream_key } = answer.into_inner();
    let Some(caller) = caller else { return Ok(None) };
    let key = <[u8; 16]>::try_from(stream_key.as_slice())
        .map_err(|_| Status::new(Code::Internal, "auth has answered with a key that is none"))?;
    let credential = Credential::StreamTicket { ticket: Arc::from(ticket), key: key.into() };
    signed_in(&caller, credential).map(Some)
}

async fn in_time<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(patience, answer).await;
    answer.map_err(|_| Status::deadline_exceeded("auth takes too long"))?
}

fn signed_in(caller: &CallerInfo, credential: Credential) -> Result<SignedIn, Status> {
    match (UserId::parse(&caller.user_id), SessionId::parse(&caller.session_id)) {
        (Ok(user_id), Ok(session_id)) => {
            let expires = Timestamp::from_millis(caller.expire_millis);
            Ok(SignedIn { user_id, session_id, proof: SessionProof { credential, expires } })
        }
        _ => Err(Status::new(Code::Internal, "auth has answered with ids that are none")),
    }
}

/// Starts the tasks that close the connections of ended sessions. Two, so that a hint never waits for the periodic
/// check.
pub(super) fn start(realtime: &Realtime, tasks: &Tasks) {
    let listening = realtime.clone();
    tasks.spawn("ended-sessions", |shutdown| listen(listening, shutdown));
    let looking = realtime.clone();
    tasks.spawn("signed-in", |shutdown| look_round(looking, shutdown));
}

async fn listen(realtime: Realtime, shutdown: Shutdown) {
    let (sender, mut hints) = mpsc::channel(WAITING_HINTS);
    let _subscription = realtime.events().subscribe(proto::subject::SESSIONS_ENDED, sender).await;
    loop {
        let hint = tokio::select! {
            () = shutdown.wait() => return,
            hint = hints.recv() => hint,
        };
        match hint.map(|hint| SessionsEnded::decode(hint.payload)) {
            Some(Ok(ended)) => look_at(&realtime, those_of(&realtime, &ended), Doubt::Ended).await,
            Some(Err(error)) => tracing::warn!(%error, "a hint about ended sessions cannot be read"),
            None => return,
        }
    }
}

async fn look_round(realtime: Realtime, shutdown: Shutdown) {
    let mut interruptions = realtime.events().interruptions();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0;
    loop {
        let connections = tokio::select! {
            () = shutdown.wait() => return,
            // Hints may have been lost.
            Ok(()) = interruptions.changed() => realtime.registry().everyone(),
            _ = rounds.tick() => {
                round = (round + 1) % ROUNDS;
                due(&realtime, round)
            }
        };
        look_at(&realtime, connections, Doubt::None).await;
    }
}

/// Returns the connections that a hint is about.
fn those_of(realtime: &Realtime, ended: &SessionsEnded) -> Vec<Arc<Connection>> {
    let Ok(user) = UserId::parse(&ended.user_id) else { return Vec::new() };
    let mut connections = realtime.registry().of_user(user);
    if !ended.session_ids.is_empty() {
        let is_named = |one: &Arc<Connection>| {
            one.identity().is_some_and(|who| ended.session_ids.contains(&who.session_id().to_string()))
        };
        connections.retain(is_named);
    }
    connections
}

/// Returns the connections to check in this round, and those whose session expires.
fn due(realtime: &Realtime, round: u64) -> Vec<Arc<Connection>> {
    let now = realtime.clock().now();
    let mut everyone = realtime.registry().everyone();
    everyone.retain(|one| {
        one.number() % ROUNDS == round || one.identity().is_some_and(|identity| identity.expires() <= now)
    });
    everyone
}

/// The reason for which a session is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The periodic check.
    None,
    /// Auth has reported that it has ended, or that its token was replaced.
    Ended,
}

impl Doubt {
    /// Returns the longest time for auth to answer: a session that is reported as ended does not stay for long.
    fn patience(self) -> Duration {
        match self {
            Self::None => PATIENCE,
            Self::Ended => PATIENCE_IN_DOUBT,
        }
    }
}

async fn look_at(realtime: &Realtime, connections: Vec<Arc<Connection>>, doubt: Doubt) {
    stream::iter(connections)
        .for_each_concurrent(AT_A_TIME, |connection| async move {
            // The anonymous viewer has no session that could end.
            let Some(identity) = connection.identity() else { return };
            let credential = identity.credential();
            match look_up(realtime.upstream().clients(), &credential, doubt.patience()).await {
                Ok(Some(who)) if who.session_id == identity.session_id() => {
                    // The connection may have been signed in anew meanwhile.
                    if identity.credential() == credential {
                        identity.renew(who.proof);
                    }
                }
                Ok(_) if identity.credential() != credential => {}
                Ok(_) => connection.end(End::SignedOut),
                Err(_) if doubt == Doubt::Ended => connection.end(End::SignedOut),
                Err(status) => {
                    tracing::warn!(code = ?status.code(), "auth cannot be asked: {}", status.message());
                    if identity.expires().plus(GRACE) <= realtime.clock().now() {
                        connection.end(End::SignedOut);
                    }
                }
            }
        })
        .await;
}
