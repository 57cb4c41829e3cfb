//! How one service calls another: over HTTP/2, or within the process, behind one type.
//!
//! Generated clients are built over [`Transport`] and cannot tell what is behind it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use proto::id::UserId;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::config::TlsConfig;
use crate::identity::{ON_BEHALF_OF, ServiceCredential};
use crate::middleware::deadline;
use crate::trace;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Inner = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Error>;

/// A way to reach a service.
#[derive(Clone)]
pub struct Transport(Inner);

impl Transport {
    /// Reaches the routes of a unit of this process. Nothing but the protobuf encoding stands between.
    pub fn local(routes: axum::Router) -> Self {
        let service = routes
            .map_request(|request: http::Request<Body>| request.map(axum::body::Body::new))
            .map_response(|response: http::Response<axum::body::Body>| response.map(Body::new))
            .map_err(Error::from);
        Self(BoxCloneSyncService::new(service))
    }

    /// Reaches a service of another process, at any of these addresses (`http://host:port`, `https://` with `tls`).
    /// Connects when it is first used, and again whenever the connection is lost.
    pub fn remote(urls: &[String], tls: Option<&TlsConfig>) -> anyhow::Result<Self> {
        let endpoints = urls.iter().map(|url| endpoint(url, tls)).collect::<anyhow::Result<Vec<_>>>()?;
        let channel = match <[Endpoint; 1]>::try_from(endpoints) {
            Ok([only]) => only.connect_lazy(),
            Err(several) => {
                anyhow::ensure!(!several.is_empty(), "a peer needs at least one address");
                Channel::balance_list(several.into_iter())
            }
        };
        Ok(Self(BoxCloneSyncService::new(channel.map_err(|error| told(error).into()))))
    }
}

/// A request whose connection went away under it is "cancelled" to the HTTP client, which sounds as if somebody had
/// taken it back. To the caller the service is not available: it can try again.
fn told(error: tonic::transport::Error) -> Status {
    let status = Status::from_error(error.into());
    match status.code() {
        Code::Cancelled => Status::unavailable("the connection was lost"),
        _ => status,
    }
}

fn endpoint(url: &str, tls: Option<&TlsConfig>) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("{url} is not the address of a service"))?
        .connect_timeout(Duration::from_secs(2))
        // Whoever waits longer has been given up on by its own caller.
        .timeout(Duration::from_secs(5))
        // Without it a partition leaves a channel that never recovers.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let Some(tls) = tls else { return Ok(endpoint) };
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&tls.authority_file)?))
        .identity(Identity::from_pem(read(&tls.certificate_file)?, read(&tls.key_file)?));
    endpoint.tls_config(config).context("the TLS settings do not fit together")
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        trace::inject(request.headers_mut());
        deadline::inject(request.headers_mut());
        self.0.call(request)
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

/// Puts a service's own credential on a request, and the user it acts for when it acts for one.
pub fn as_service<T>(
    message: T,
    credential: &ServiceCredential,
    on_behalf_of: Option<UserId>,
) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    credential.present(&mut request);
    if let Some(user_id) = on_behalf_of {
        // The text of a UUID is always a valid header.
        if let Ok(value) = MetadataValue::try_from(user_id.to_string()) {
            request.metadata_mut().insert(ON_BEHALF_OF, value);
        }
    }
    request
}
