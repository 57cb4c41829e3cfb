//! The admission of connections.

use std::net::IpAddr;

use axum::Extension;
use chassis::fault::Fault;
use http::HeaderMap;
use proto::gateway::v1::ErrorReason;
use tonic::Code;

use crate::http::authorization::bearer;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::http::middleware::cors;
use crate::realtime::Realtime;
use crate::realtime::identity::SignedIn;
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::session_watch::sign_in;

/// Admits a new connection. The user of a token is verified afterwards.
pub(crate) async fn admit(
    realtime: &Realtime,
    address: Option<Extension<ClientAddress>>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<(ConnectionSlot, Option<SignedIn>), Problem> {
    if !cors::allowed(headers, realtime.config()) {
        return Err(Problem::origin_not_allowed());
    }
    refuse_token_in(query)?;
    let address = address.map_or(IpAddr::from([0, 0, 0, 0]), |Extension(ClientAddress(address))| address);
    let slot = admit_address(realtime, address, headers)?;
    let who = match bearer(headers) {
        Some(token) => Some(sign_in(realtime.upstream().clients(), token).await?),
        None => None,
    };
    Ok((slot, who))
}

/// Takes a slot for a connection of which only the origin and the address are known.
pub(crate) fn admit_address(
    realtime: &Realtime,
    address: IpAddr,
    headers: &HeaderMap,
) -> Result<ConnectionSlot, Problem> {
    let config = realtime.config();
    if !cors::allowed(headers, config) {
        return Err(Problem::origin_not_allowed());
    }
    realtime.upstream().limits().handshake(address)?;
    Ok(realtime.registry().admit(address, &config.sockets)?)
}

/// Refuses a token in an address: it would end up in logs and browser histories.
fn refuse_token_in(query: Option<&str>) -> Result<(), Fault> {
    let names =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).map(|(name, _)| name.to_lowercase());
    let mut tokens = names.filter(|name| name.contains("token") || name.contains("auth"));
    match tokens.next() {
        None => Ok(()),
        Some(name) => Err(Fault::new(Code::InvalidArgument, ErrorReason::InvalidField.as_str_name())
            .message("a token does not belong into an address: send it in `authorization` or in the hello")
            .field(name.chars().take(64).collect::<String>(), "is not allowed in the query")),
    }
}
