//! The address of a client: the other end of the connection, or the address that a trusted proxy reports.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use ipnet::IpNet;

use crate::config::Config;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of the connection, put into every request by the accept loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The client's address, as far as it is trusted. In the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// The middleware: puts the [`ClientAddress`] into the request.
pub(crate) async fn locate(State(config): State<Arc<Config>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let address = client_address(peer, request.headers(), &config.trusted_proxies);
    request.extensions_mut().insert(ClientAddress(address));
    next.run(request).await
}

/// Returns the rightmost hop that is not a trusted proxy. The client may have forged everything left of it.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_ours = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let peer = peer.to_canonical();
    if !is_ours(peer) {
        return peer;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    let mut nearest = peer;
    for hop in hops {
        // An unreadable hop ends the trusted part.
        let Some(address) = parse_hop(hop.trim()) else { return nearest };
        nearest = address;
        if !is_ours(address) {
            return address;
        }
    }
    nearest
}

/// Reads an address, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bracketed = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bracketed.unwrap_or(hop).parse::<IpAddr>();
    let address = address.or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn located(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).expect("a header"));
        }
        let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
        client_address(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_where_it_connects_from() {
        assert_eq!(located("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(located("::ffff:203.0.113.9", &[]), "203.0.113.9");
    }

    #[test]
    fn a_proxy_of_ours_is_believed_up_to_the_first_stranger() {
        assert_eq!(located("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(located("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(located("10.0.0.1", &["1.1.1.1", "198.51.100.1,10.9.9.9"]), "198.51.100.1");
        assert_eq!(located("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(located("10.0.0.1", &["198.51.100.1:99"]), "198.51.100.1");
    }

    #[test]
    fn what_cannot_be_read_ends_what_is_believed() {
        assert_eq!(located("10.0.0.1", &["198.51.100.1, unknown"]), "10.0.0.1");
        assert_eq!(located("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(located("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(located("10.0.0.1", &["10.0.0.3"]), "10.0.0.3");
    }
}
