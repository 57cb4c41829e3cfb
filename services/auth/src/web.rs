//! Asking servers that the operator has named: over HTTPS, or HTTP to a loopback address. No redirects, nothing
//! remembered, and a bound on everything that comes back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// An address that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Uri);

impl Place {
    /// Reads an address: https, or http to a loopback address; no user, no password and no fragment in it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let url = Url::parse(text).map_err(|_| anyhow::anyhow!("{text:?} is no web address"))?;
        let is_loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(_)) | None => false,
        };
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        anyhow::ensure!(is_safe, "{text:?} must be https, or http to a loopback address");
        let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        anyhow::ensure!(is_bare, "{text:?} must not hold a user, a password or a fragment");
        Ok(Self(url.as_str().parse()?))
    }
}

/// Why nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, no TLS, or no HTTP.
    #[error("it cannot be reached")]
    Unreachable,
    /// It took too long.
    #[error("it takes too long")]
    Late,
    /// It answered with another status than was hoped for.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// It said too much, or broke off.
    #[error("its answer is too long or incomplete")]
    Body,
}

/// Asks.
#[derive(Clone)]
pub struct Web {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Web {
    /// Believes the authorities that the system believes, and waits so long for a whole answer.
    pub fn new(timeout: Duration) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // Questions are rare: no connection is worth keeping.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, timeout })
    }

    /// What is at an address, when it answers 200 with at most so many bytes.
    pub async fn get(&self, place: &Place, most: usize) -> Result<Bytes, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        match self.ask(Method::GET, place, headers, Bytes::new(), most).await? {
            (StatusCode::OK, body) => body,
            (status, _) => Err(Failure::Status(status)),
        }
    }

    /// Hands something over, and says what the server answers; not more than its status.
    pub async fn post(&self, place: &Place, headers: HeaderMap, body: Bytes) -> Result<StatusCode, Failure> {
        self.ask(Method::POST, place, headers, body, 0).await.map(|(status, _)| status)
    }

    async fn ask(
        &self,
        method: Method,
        place: &Place,
        headers: HeaderMap,
        body: Bytes,
        most: usize,
    ) -> Result<(StatusCode, Result<Bytes, Failure>), Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = place.0.clone();
        *request.headers_mut() = headers;
        let agent = header::HeaderValue::from_static("Parlor/1");
        request.headers_mut().insert(header::USER_AGENT, agent);
        let asking = async {
            let answer = self.client.request(request).await.map_err(|_| Failure::Unreachable)?;
            let status = answer.status();
            if most == 0 {
                return Ok((status, Ok(Bytes::new())));
            }
            let body = Limited::new(answer.into_body(), most).collect().await;
            Ok((status, body.map(|body| body.to_bytes()).map_err(|_| Failure::Body)))
        };
        tokio::time::timeout(self.timeout, asking).await.unwrap_or(Err(Failure::Late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_protected_or_at_home_is_asked() {
        for text in [
            "https://example.org",
            "https://example.org:8443/a?b=c",
            "http://127.0.0.1:80/",
            "http://[::1]:1",
        ] {
            assert!(Place::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://example.org",
            "http://localhost:80",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "example.org",
            "",
            "https://ann:pw@example.org",
            "https://example.org#x",
            "http://127.0.0.1.example.org",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
