//! The sign-in of a WebSocket by its first frame.

use std::sync::Arc;

use chassis::fault::Fault;
use proto::gateway::v1::client_frame::Command;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, Ready};
use tonic::{Code, Status};

use super::close::{Close, code};
use super::session::decode;
use super::transport::{Received, Transport};
use crate::realtime::Realtime;
use crate::realtime::connection::{Connection, proto_duration};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::identity::{Identity, SignedIn};
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::session_watch::sign_in;

/// The maximum size of a first frame, in bytes.
const MAX_HELLO: usize = 4 * 1024;

/// Waits for the hello. `Err(None)` when the client is gone.
pub(super) async fn await_hello(
    realtime: &Realtime,
    transport: &mut Transport,
    slot: &ConnectionSlot,
    who: Option<SignedIn>,
) -> Result<(Arc<Connection>, Arc<Identity>, Format), Option<Close>> {
    let received = transport.receive().await?;
    let (len, format) = match &received {
        Received::Text(text) => (text.len(), Format::Text),
        Received::Binary(bytes) => (bytes.len(), Format::Binary),
    };
    if len > MAX_HELLO {
        return Err(Some(Close::new(code::TOO_LARGE, "hello_too_large")));
    }
    let frame = decode(&received).map_err(|fault| Close::saying(code::NO_FRAME, "not_a_frame", fault))?;
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
        // The client is not at fault: it comes back.
        _ => Close::saying(code::RESTART, "unavailable", status),
    };
    let who = match who {
        Some(who) if hello.session_token.is_empty() => who,
        _ => sign_in(realtime.upstream().clients(), &hello.session_token).await.map_err(refuse)?,
    };
    let epoch = realtime.hub().epoch().await.map_err(refuse)?;
    let ready = ready(realtime, &who, &epoch);
    let connected = realtime.connect(slot, who, format);
    let (connection, identity) = connected.map_err(|fault| refuse(fault.into()))?;
    // Before it is ready: a client that then asks for the active call misses none.
    realtime.call_events().hear(identity.user_id()).await;
    connection.push(Frame::reply(id, Body::Ready(ready)));
    Ok((connection, identity, format))
}

pub(super) fn ready(realtime: &Realtime, who: &SignedIn, epoch: &str) -> Ready {
    Ready {
        user_id: who.user_id.to_string(),
        session_id: who.session_id.to_string(),
        epoch: epoch.to_owned(),
        ping_interval: Some(proto_duration(realtime.config().sockets.ping_interval)),
    }
}
