//! The first frame of a WebSocket signs it in.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use chassis::fault::Fault;
use proto::gateway::v1::client_frame::Command;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, Ready};
use tonic::{Code, Status};

use super::close::{Close, close_of, code};
use super::session::decode;
use crate::realtime::Realtime;
use crate::realtime::connection::{Connection, SignedIn, proto_duration};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::session_watch::sign_in;

/// A first frame has at most so many bytes.
const MAX_HELLO: usize = 4 * 1024;

/// Waits for the hello. `Err(None)` when the client has gone.
pub(super) async fn await_hello(
    realtime: &Realtime,
    socket: &mut WebSocket,
    slot: &mut ConnectionSlot,
    who: Option<SignedIn>,
) -> Result<(Arc<Connection>, Format), Option<Close>> {
    let (bytes, format) = loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => break (Bytes::from(text), Format::Text),
            Some(Ok(Message::Binary(bytes))) => break (bytes, Format::Binary),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Err(None),
            Some(Err(error)) => return Err(close_of(&error)),
        }
    };
    if bytes.len() > MAX_HELLO {
        return Err(Some(Close::new(code::TOO_LARGE, "hello_too_large")));
    }
    let frame =
        decode(format, &bytes).map_err(|fault| Close::saying(code::NO_FRAME, "not_a_frame", fault))?;
    let (id, hello) = match frame {
        ClientFrame { id, command: Some(Command::Hello(hello)) } => (id, hello),
        _ => {
            let fault = Fault::invalid("command", "must be `hello` in the first frame");
            return Err(Some(Close::saying(code::NO_FRAME, "not_a_hello", fault)));
        }
    };
    let refuse = |status: Status| match status.code() {
        Code::Unauthenticated => Close::saying(code::NOT_SIGNED_IN, "not_signed_in", status),
        Code::ResourceExhausted => Close::saying(code::TOO_MANY_COMMANDS, "too_many_connections", status),
        // Nothing is wrong with the client: it comes back.
        _ => Close::saying(code::RESTART, "unavailable", status),
    };
    let who = match who {
        Some(who) if hello.session_token.is_empty() => who,
        _ => sign_in(realtime.upstream().clients(), &hello.session_token).await.map_err(refuse)?,
    };
    let epoch = realtime.hub().epoch().await.map_err(refuse)?;
    let ready = ready(realtime, &who, &epoch);
    let connection = realtime.connect(slot, who, format);
    let connection = connection.map_err(|fault| refuse(fault.into()))?;
    // Before it is ready: who asks for the active call then misses none.
    realtime.call_events().hear(connection.user_id()).await;
    connection.push(Frame::reply(id, Body::Ready(ready)));
    Ok((connection, format))
}

pub(super) fn ready(realtime: &Realtime, who: &SignedIn, epoch: &str) -> Ready {
    Ready {
        user_id: who.user_id.to_string(),
        session_id: who.session_id.to_string(),
        epoch: epoch.to_owned(),
        ping_interval: Some(proto_duration(realtime.config().sockets.ping_interval)),
    }
}
