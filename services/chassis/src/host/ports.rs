//! The ports of a process, reserved before anything else is done.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::ListenConfig;

/// The number of connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port that is reserved and refuses connections until it listens.
#[derive(Debug)]
pub struct Port {
    socket: TcpSocket,
    setting: &'static str,
}

impl Port {
    /// Reserves the port of an address. Port 0 takes a free one. `setting` is the setting that the address comes from, for
    /// the error when another process listens there.
    pub fn reserve(address: SocketAddr, setting: &'static str) -> anyhow::Result<Self> {
        let reserve = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // Without it, a port stays taken for a while after a process that used it has ended.
            socket.set_reuseaddr(true)?;
            socket.bind(address).map(|()| socket)
        };
        let socket = reserve().with_context(|| format!("{setting}: cannot listen at {address}"))?;
        Ok(Self { socket, setting })
    }

    /// Listens. Needs the runtime of tokio.
    pub fn listen(self) -> anyhow::Result<TcpListener> {
        let address = self.socket.local_addr();
        self.socket.listen(BACKLOG).with_context(|| match address {
            Ok(address) => format!("{}: cannot listen at {address}", self.setting),
            Err(_) => format!("{}: cannot listen", self.setting),
        })
    }
}

/// The ports that every process has.
pub(super) struct Ports {
    pub admin: Port,
    /// `None` for the gateway, which serves no gRPC.
    pub grpc: Option<Port>,
}

impl Ports {
    /// Reserves the ports that are configured, or those that are the process's own.
    pub(super) fn reserve(name: &str, listen: &ListenConfig) -> anyhow::Result<Self> {
        let grpc = listen.grpc.or_else(|| default_grpc(name));
        Ok(Self {
            admin: Port::reserve(admin(name, listen), "listen.admin")?,
            grpc: grpc.map(|address| Port::reserve(address, "listen.grpc")).transpose()?,
        })
    }
}

/// The address of the admin port.
pub(super) fn admin(name: &str, listen: &ListenConfig) -> SocketAddr {
    listen.admin.unwrap_or_else(|| loopback(9050 + place(name).unwrap_or(0)))
}

/// The address for gRPC of a process that was told none.
fn default_grpc(name: &str) -> Option<SocketAddr> {
    match place(name) {
        Some(place) => Some(loopback(50050 + place)),
        // All in one process: the port of auth, which does not run beside it.
        None => (name == "parlor").then(|| loopback(50051)),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The place of a service among the ports.
fn place(name: &str) -> Option<u16> {
    match name {
        "auth" => Some(1),
        "conversation" => Some(2),
        "messaging" => Some(3),
        "scheduling" => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_setting() {
        let listener =
            Port::reserve(loopback(0), "listen.admin").expect("a port").listen().expect("a listener");
        let taken = listener.local_addr().expect("an address");
        let error = Port::reserve(taken, "listen.grpc").expect_err("taken");
        let text = format!("{error:#}");
        assert!(text.starts_with(&format!("listen.grpc: cannot listen at {taken}: ")), "{text}");
    }

    #[tokio::test]
    async fn a_reserved_port_refuses_connections_until_it_listens() {
        let port = Port::reserve(loopback(0), "listen.grpc").expect("a port");
        let address = port.socket.local_addr().expect("an address");
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
        let _listener = port.listen().expect("a listener");
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    }

    #[test]
    fn every_process_has_ports_of_its_own() {
        let of =
            |name| (admin(name, &ListenConfig::default()).port(), default_grpc(name).map(|it| it.port()));
        assert_eq!(of("parlor"), (9050, Some(50051)));
        assert_eq!(of("auth"), (9051, Some(50051)));
        assert_eq!(of("scheduling"), (9054, Some(50054)));
        assert_eq!(of("gateway"), (9050, None));
    }
}
