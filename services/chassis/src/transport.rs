//! How one service calls another: over HTTP/2, or within the process, behind one type.
//!
//! Generated clients are built over [`Transport`] and cannot tell what is behind it.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use proto::id::UserId;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, TimeoutExpired};
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

/// What a failed request means to the caller. A connection that went away under it is "cancelled" or "unknown" to the HTTP
/// client, which sounds as if somebody had taken it back, or as if we had a defect: the service is not available, and the
/// caller can try again. One that was not answered in time took too long.
fn told(error: tonic::transport::Error) -> Status {
    let status = Status::from_error(error.into());
    let code = match status.code() {
        Code::Cancelled if was_late(&status) => Code::DeadlineExceeded,
        Code::Cancelled | Code::Unknown => Code::Unavailable,
        _ => return status,
    };
    let mut told = Status::new(code, status.message());
    told.set_source(Arc::new(status));
    told
}

fn was_late(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
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

#[cfg(test)]
mod tests {
    use proto::auth::v1::LoginRequest;
    use proto::auth::v1::auth_service_client::AuthServiceClient;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a service that does this with what it is sent.
    async fn ask<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(tokio::net::TcpStream) -> F + Send + 'static,
    ) -> Code {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut work = tokio::task::JoinSet::new();
        work.spawn(async move { serve(listener.accept().await.unwrap().0).await });
        let transport = Transport::remote(&[url], None).unwrap();
        AuthServiceClient::new(transport).login(LoginRequest::default()).await.unwrap_err().code()
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_a_service_that_is_not_available() {
        let at_once = ask(|stream| async { drop(stream) }).await;
        assert_eq!(at_once, Code::Unavailable);
        let after_the_request = ask(|mut stream| async move {
            let mut bytes = [0; 1024];
            let _ = stream.read(&mut bytes).await;
        });
        assert_eq!(after_the_request.await, Code::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_answer_takes_too_long() {
        let code = ask(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        assert_eq!(code.await, Code::DeadlineExceeded);
    }
}
