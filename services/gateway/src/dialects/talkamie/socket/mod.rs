//! The WebSocket at `/talkamie/ws`: JSON text frames `{action, ...}`, answered by `{action, success, statusCode,
//! message, data, pagination?}`; pushes have the same form. The first frame signs in.
//!
//! ```text
//! connection   one socket: reads, answers in order, pushes       frame     frames in and out
//! actions      the requests of clients                           calls     calls and signals
//! arrival      the work after a client has signed in             push      events, translated
//! ```

mod actions;
mod arrival;
mod calls;
mod connection;
mod frame;
mod push;

use axum::Extension;
use axum::extract::{FromRequestParts, Request, WebSocketUpgrade};
use axum::response::Response;
use chassis::fault::Fault;

use self::connection::Connection;
use crate::dialects::Dialects;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::realtime::handshake::admit;
use crate::realtime::websocket;

/// True for the path of the socket, in any letter case.
pub(in crate::dialects) fn is_at(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let expected = ["talkamie", "ws"];
    expected.iter().all(|name| segments.next().is_some_and(|segment| segment.eq_ignore_ascii_case(name)))
        && segments.next().is_none()
}

/// Opens a connection, or refuses it.
pub(in crate::dialects) async fn open(dialects: Dialects, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let address = parts.extensions.get::<ClientAddress>().copied().map(Extension);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| Fault::invalid("upgrade", "must be the handshake of a WebSocket"))?;
    // A user in a header is ignored: the first frame names the user, as for all clients.
    let (slot, _) = admit(&dialects.realtime, address, parts.uri.query(), &parts.headers).await?;
    let config = dialects.realtime.shared_config();
    Ok(websocket::serve(upgrade, &config.sockets, move |socket| async move {
        Connection::serve(dialects, socket, slot).await;
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_has_any_letter_case() {
        for path in ["/talkamie/ws", "/Talkamie/WS/"] {
            assert!(is_at(path), "{path}");
        }
        for path in ["/talkamie", "/talkamie/ws/x", "/talkamie/v1/ws", "/ws"] {
            assert!(!is_at(path), "{path}");
        }
    }
}
