//! A network of clients. What they send to its address in plain text goes on to the balancer over TLS, from an address of
//! the network.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::balancer::{Balancer, NAME};

/// A network of clients. Dropping it breaks their connections.
pub(super) struct Network {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Network {
    /// A network whose clients come to the balancer from this address.
    pub(super) async fn start(balancer: &Balancer, source: Ipv4Addr) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(balancer.certificate.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let line = Line { connector: Arc::new(config).into(), source, balancer: balancer.address };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut carrying = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                carrying.spawn(line.clone().carry(client));
            }
        });
        Self { address, _accepting: accepting }
    }

    /// The address for its clients.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The way from a network to the balancer.
#[derive(Clone)]
struct Line {
    connector: TlsConnector,
    source: Ipv4Addr,
    balancer: SocketAddr,
}

impl Line {
    async fn carry(self, mut client: TcpStream) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((self.source, 0).into()).expect("an address of the network");
        let stream = socket.connect(self.balancer).await.expect("the balancer");
        let name = ServerName::try_from(NAME).expect("a name");
        let mut stream = self.connector.connect(name, stream).await.expect("TLS");
        // Either end may break the connection off.
        let _ = copy_bidirectional(&mut client, &mut stream).await;
    }
}
