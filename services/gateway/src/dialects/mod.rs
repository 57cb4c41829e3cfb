//! Five existing chat APIs beside the canonical one, each a thin adapter: it translates requests into rpcs, and events
//! back. It contains no rule of chat, and no state but connections and short caches.
//!
//! ```text
//! allo         S1: `POST /api/chat/<operation>`, and Socket.IO
//! chats        S3: REST below `/chats`
//! messenger    S2: REST below `/api`
//! playground   S4: REST below `/users`, `/rooms`, `/messages` and others, and Socket.IO
//! socketio     one Socket.IO server for the dialects that have it
//! talkamie     S5: REST below `/talkamie/v1` and `/user`, and a WebSocket
//! request      a request over HTTP: segments, query, body        fields   the fields of a body, a query, an event
//! backend      typed rpcs under the limits                       people   names and pictures of users
//! members      the members of a conversation, page by page
//! external_accounts   the sessions of names that act without signing in
//! ids, text, time   ids, texts and times as dialects write them
//! error        the conversion of errors into the dialect's errors
//! ```

mod allo;
mod backend;
mod chats;
pub(crate) mod error;
mod external_accounts;
mod fields;
mod ids;
mod members;
mod messenger;
mod people;
mod playground;
mod request;
pub(crate) mod socketio;
mod talkamie;
mod text;
mod time;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde_json::{Value, json};

use self::backend::Backend;
use self::external_accounts::ExternalAccounts;
use self::people::People;
use self::request::{HttpRequest, token as token_of};
use crate::config::{Config, DialectsConfig};
use crate::http::error::Problem;
use crate::realtime::Realtime;
use crate::upstream::Upstream;

/// An API that existing clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// S1.
    Allo,
    /// S3.
    Chats,
    /// S2.
    Messenger,
    /// S4.
    Playground,
    /// S5.
    Talkamie,
}

impl Dialect {
    /// Returns the dialect that serves a path, by its first segments in any letter case.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let first = segments.next()?.to_ascii_lowercase();
        let second = segments.next().map(str::to_ascii_lowercase);
        match (first.as_str(), second.as_deref()) {
            ("chats", _) => Some(Self::Chats),
            ("talkamie" | "user", _) => Some(Self::Talkamie),
            ("api", None | Some(messenger::NOT_AN_ACCOUNT)) => Some(Self::Allo),
            ("api", Some(_)) => Some(Self::Messenger),
            (first, _) if playground::PATHS.contains(&first) => Some(Self::Playground),
            _ => None,
        }
    }

    /// True unless the operator has disabled it.
    pub(crate) fn is_on(self, config: &DialectsConfig) -> bool {
        match self {
            Self::Allo => config.allo,
            Self::Chats => config.chats,
            Self::Messenger => config.messenger,
            Self::Playground => config.playground,
            Self::Talkamie => config.talkamie,
        }
    }

    /// Returns the body of an error.
    fn error_body(self, problem: &Problem) -> Value {
        let (code, message) = (problem.status().as_u16(), problem.fault().text());
        match self {
            Self::Allo => allo::error_body(problem),
            Self::Chats => json!({"code": code, "message": message}),
            Self::Messenger | Self::Playground => json!({"error": message}),
            Self::Talkamie => talkamie::envelope::error_body(problem),
        }
    }
}

/// Returns the state of the server, as clients of the playground read it at `/`.
pub(crate) fn playground_status() -> Value {
    playground::status()
}

/// The shared parts of the dialects. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Dialects {
    backend: Backend,
    people: People,
    external_accounts: ExternalAccounts,
    playground: playground::State,
    realtime: Realtime,
    talkamie: talkamie::Caches,
}

impl Dialects {
    pub(crate) fn new(upstream: Upstream, config: Arc<Config>, realtime: Realtime) -> Self {
        let backend = Backend::new(upstream, config, realtime.clock().clone());
        Self {
            people: People::new(backend.clone()),
            external_accounts: ExternalAccounts::new(backend.clone()),
            playground: playground::State::new(&backend),
            backend,
            realtime,
            talkamie: talkamie::Caches::default(),
        }
    }

    /// Returns the token in the query, which is accepted on one developer's machine only: elsewhere addresses end up in
    /// logs.
    fn token_in_query(&self, request: &HttpRequest) -> Result<Option<String>, Problem> {
        if !self.backend.is_development() {
            return Ok(None);
        }
        let token = request.query.filled("token")?;
        Ok(token.as_deref().and_then(token_of).map(str::to_owned))
    }

    /// True when an enabled dialect has sockets.
    fn has_sockets(&self) -> bool {
        let config = self.backend.config();
        Dialect::Allo.is_on(config) || Dialect::Playground.is_on(config)
    }
}

/// Answers a request for a path outside the canonical API.
pub(crate) async fn serve(State(dialects): State<Dialects>, request: Request) -> Response {
    let dialect = Dialect::of_path(request.uri().path());
    let dialect = dialect.filter(|dialect| dialect.is_on(dialects.backend.config()));
    let outcome = match dialect {
        Some(dialect) => answer(dialects, dialect, request).await,
        None => Err(Problem::route_not_found()),
    };
    outcome.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(dialects: Dialects, dialect: Dialect, request: Request) -> Result<Response, Problem> {
    if dialect == Dialect::Talkamie && talkamie::socket::is_at(request.uri().path()) {
        return talkamie::socket::open(dialects, request).await;
    }
    let max_body = dialects.backend.max_body_bytes(request.extensions().get());
    let request = HttpRequest::read(request, max_body).await?;
    // Each is boxed at its own size: together they are too large for the stack of a worker.
    let answered = match dialect {
        Dialect::Allo => allo::answer(&dialects, &request).boxed(),
        Dialect::Chats => chats::answer(&dialects, &request).boxed(),
        Dialect::Messenger => messenger::answer(&dialects, &request).boxed(),
        Dialect::Playground => playground::answer(&dialects, &request).boxed(),
        Dialect::Talkamie => talkamie::answer(&dialects, &request).boxed(),
    };
    answered.await
}
