//! The distinction of users' requests from strangers', and the rate limit of strangers.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use super::client_ip::ClientAddress;
use super::is_socket_io;
use crate::http::authorization::bearer;
use crate::http::error::Problem;
use crate::http::files;
use crate::http::server::activity::Activity;
use crate::upstream::Upstream;

/// The paths at which connections are opened: the registry of connections counts them.
const SOCKETS: [&str; 3] = ["/v1/socket", "/v1/events", "/talkamie/ws"];

/// The kind of caller. In the extensions of every request that comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The token of the request belongs to a session of a user.
    User,
    /// There is no token, or it is invalid.
    Stranger,
    /// There is a token, and auth cannot be reached to verify it.
    Unverified,
}

/// The middleware: identifies the kind of caller, and refuses a stranger who asks too often, whatever the route.
pub(super) async fn recognize(
    State(upstream): State<Upstream>,
    mut request: Request,
    next: Next,
) -> Response {
    if is_socket_io(&request) {
        return next.run(request).await;
    }
    let asker = asker(&upstream, request.headers()).await;
    if asker == Asker::Stranger
        && !is_counted_elsewhere(&request)
        && let Some(ClientAddress(address)) = request.extensions().get()
        && let Err(fault) = upstream.limits().anonymous(*address)
    {
        return Problem::from(fault).into_response();
    }
    if asker == Asker::User
        && let Some(connection) = request.extensions().get::<Arc<Activity>>()
    {
        connection.serves_user();
    }
    request.extensions_mut().insert(asker);
    next.run(request).await
}

async fn asker(upstream: &Upstream, headers: &HeaderMap) -> Asker {
    let Some(token) = token(headers) else { return Asker::Stranger };
    match upstream.verifier().verify(token).await {
        Ok(Some(_)) => Asker::User,
        Ok(None) => Asker::Stranger,
        Err(_) => Asker::Unverified,
    }
}

/// Returns the token of a request. Clients of the dialect chats send it in a header of its own.
fn token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("token")?.to_str().ok())
}

/// True when a request is counted by its handler: a file is shown to the holder of its ticket, and an invalid ticket
/// counts there; a socket counts when it is opened.
fn is_counted_elsewhere(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>();
    route.is_some_and(|route| route.as_str() == files::PATH)
        || SOCKETS.iter().any(|path| request.uri().path().eq_ignore_ascii_case(path))
}
