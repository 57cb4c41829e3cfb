//! How a page is fetched.

use std::future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, USER_AGENT,
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Host;

use crate::address::WebAddress;
use crate::config::Config;
use crate::guard::Guard;

/// What we call ourselves. Says neither who asks nor for whom.
const AGENT: &str = "Parlor-Preview/1";

/// How often a page may send us elsewhere.
const MAX_REDIRECTS: usize = 3;

/// How many addresses of a host are tried, and how long each may take to answer.
const MAX_TRIES: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of the head of an answer.
const MAX_HEAD: usize = 32 * 1024;

/// Why nothing was fetched. None of it says what is behind an address that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The address, or one that it was redirected to, breaks a rule.
    #[error("the address {0}")]
    Address(&'static str),
    /// The port is none of those that may be asked.
    #[error("the port may not be asked")]
    Port,
    /// The host has an address that is not on the internet.
    #[error("the host is not on the internet")]
    Forbidden,
    /// The host has no address, or none that answers.
    #[error("the host cannot be reached")]
    Unreachable,
    /// The host does not prove that it is the one.
    #[error("the host cannot prove who it is")]
    Untrusted,
    /// What it says is no answer.
    #[error("the host breaks the connection or does not speak HTTP")]
    Broken,
    /// It took too long.
    #[error("it took too long")]
    Late,
    /// It sent us on too often.
    #[error("there are too many redirects")]
    Redirects,
    /// It answered, but not with a page.
    #[error("the answer is no page")]
    NoPage,
}

impl Failure {
    /// A word for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Address(_) | Self::Port | Self::Forbidden => "refused",
            Self::Unreachable | Self::Untrusted | Self::Broken => "unreachable",
            Self::Late => "late",
            Self::Redirects | Self::NoPage => "no_page",
        }
    }
}

/// The beginning of a page, in HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it says, as far as it was read.
    pub bytes: Vec<u8>,
}

/// Fetches pages.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
    guard: Guard,
    ports: Arc<[u16]>,
    timeout: Duration,
    max_bytes: usize,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetcher")
    }
}

/// What a host answered.
enum Answer {
    Page(Page),
    Elsewhere(WebAddress),
}

impl Fetcher {
    /// Fetches by these settings. Believes the authorities that the system believes.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        anyhow::ensure!(!config.ports.is_empty(), "ports must name at least one port");
        anyhow::ensure!(!config.timeout.is_zero(), "timeout must be more than nothing");
        anyhow::ensure!(config.max_bytes >= 1024, "max_bytes must be at least 1024");
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &config.extra_roots {
            let context = || format!("cannot read the certificates in {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
                roots.add(certificate.with_context(context)?).with_context(context)?;
            }
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A host recognises nobody by it.
        tls.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls).into(),
            guard: Guard::new(config.allow_networks.clone()),
            ports: config.ports.clone().into(),
            timeout: config.timeout,
            max_bytes: config.max_bytes,
        })
    }

    /// Fetches the page at an address, or where that leads to.
    pub async fn page(&self, address: &WebAddress) -> Result<Page, Failure> {
        timeout(self.timeout, self.follow(address.clone())).await.unwrap_or(Err(Failure::Late))
    }

    async fn follow(&self, mut address: WebAddress) -> Result<Page, Failure> {
        for _ in 0..=MAX_REDIRECTS {
            match self.get(&address).await? {
                Answer::Page(page) => return Ok(page),
                Answer::Elsewhere(next) => address = next,
            }
        }
        Err(Failure::Redirects)
    }

    async fn get(&self, address: &WebAddress) -> Result<Answer, Failure> {
        let stream = self.connect(address).await?;
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(broken)?;
        let exchange = async {
            let response = sender.send_request(request(address)?).await.map_err(broken)?;
            self.read(address, response).await
        };
        // What has arrived is still read when the connection ends before it.
        let driving = async {
            let _ = connection.await;
            future::pending().await
        };
        tokio::select! {
            answer = exchange => answer,
            answer = driving => answer,
        }
    }

    /// Connects to the host of an address. All its addresses are checked before the first is tried, and it is one of
    /// them that is connected to: a name that means something else a moment later gains nothing.
    async fn connect(&self, address: &WebAddress) -> Result<TlsStream<TcpStream>, Failure> {
        if !self.ports.contains(&address.port()) {
            return Err(Failure::Port);
        }
        let places = resolve(address).await?;
        if !places.iter().all(|place| self.guard.admits(place.ip())) {
            return Err(Failure::Forbidden);
        }
        for place in places.iter().take(MAX_TRIES) {
            let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(place)).await else { continue };
            return self.tls.connect(server_name(address)?, stream).await.map_err(|_| Failure::Untrusted);
        }
        Err(Failure::Unreachable)
    }

    async fn read(&self, address: &WebAddress, response: Response<Incoming>) -> Result<Answer, Failure> {
        let (head, mut body) = response.into_parts();
        if let 301 | 302 | 303 | 307 | 308 = head.status.as_u16() {
            let location = head.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let next = address.join(location.ok_or(Failure::NoPage)?).map_err(Failure::Address)?;
            return Ok(Answer::Elsewhere(next));
        }
        if !head.status.is_success() || !is_html(&head.headers) {
            return Err(Failure::NoPage);
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            let room = self.max_bytes - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() >= room {
                break;
            }
        }
        Ok(Answer::Page(Page { bytes }))
    }
}

/// The places that a host is at. An IP address is at itself.
async fn resolve(address: &WebAddress) -> Result<Vec<SocketAddr>, Failure> {
    let port = address.port();
    let places = match address.host() {
        Host::Ipv4(ip) => vec![SocketAddr::new(IpAddr::V4(ip), port)],
        Host::Ipv6(ip) => vec![SocketAddr::new(IpAddr::V6(ip), port)],
        Host::Domain(name) => {
            let found = tokio::net::lookup_host((name, port)).await;
            found.map_err(|_| Failure::Unreachable)?.collect()
        }
    };
    if places.is_empty() { Err(Failure::Unreachable) } else { Ok(places) }
}

fn server_name(address: &WebAddress) -> Result<ServerName<'static>, Failure> {
    match address.host() {
        Host::Ipv4(ip) => Ok(ServerName::from(IpAddr::V4(ip))),
        Host::Ipv6(ip) => Ok(ServerName::from(IpAddr::V6(ip))),
        Host::Domain(name) => {
            // A certificate names a host without the dot at its end.
            let name = name.strip_suffix('.').unwrap_or(name).to_owned();
            ServerName::try_from(name).map_err(|_| Failure::Address("must have a host that is a name"))
        }
    }
}

fn request(address: &WebAddress) -> Result<Request<Empty<Bytes>>, Failure> {
    Request::get(address.target())
        .header(HOST, address.authority())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "text/html")
        // Nothing is decompressed here: what is small on the wire is small in memory.
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| Failure::Address("cannot be put into a request"))
}

/// Whether an answer is HTML that we can read: as it is, and in UTF-8.
fn is_html(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let is_plain = match headers.get(CONTENT_ENCODING) {
        None => true,
        Some(encoding) => encoding.as_bytes().eq_ignore_ascii_case(b"identity"),
    };
    let Some(content_type) = text(CONTENT_TYPE) else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    let is_utf8 = charset.is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    });
    is_plain && is_html && is_utf8
}

fn broken(_: hyper::Error) -> Failure {
    Failure::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_html_in_utf_8_that_is_not_compressed_is_read() {
        let headers = |kind: &'static str, encoding: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            if let Some(encoding) = encoding {
                headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
            }
            headers
        };
        for good in ["text/html", "Text/HTML; charset=UTF-8", "text/html;charset=\"utf-8\""] {
            assert!(is_html(&headers(good, None)), "{good}");
        }
        for bad in
            ["text/plain", "image/svg+xml", "application/json", "text/htmlx", "text/html; charset=koi8-r"]
        {
            assert!(!is_html(&headers(bad, None)), "{bad}");
        }
        assert!(is_html(&headers("text/html", Some("identity"))));
        assert!(!is_html(&headers("text/html", Some("gzip"))));
        assert!(!is_html(&HeaderMap::new()));
    }
}
