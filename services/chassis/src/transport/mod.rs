//! How one service calls another: over HTTP/2, or within the process, behind one type.
//!
//! Generated clients are built over [`Transport`] and cannot tell what is behind it.

mod body;
mod failure;
mod measure;
mod repeat;
mod replica;
mod replicas;
mod resolver;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::id::UserId;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::config::TlsConfig;
use crate::identity::{ON_BEHALF_OF, ServiceCredential};
use crate::middleware::deadline;
use crate::trace;

pub use self::repeat::Repeatable;
use self::replicas::Replicas;
use self::resolver::Target;

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
    ///
    /// Connects when it is first used. An address that cannot be reached is left out until it can, and a request that it
    /// has not seen goes to another one; a read, and a request with [`Repeatable`], also when the connection broke under
    /// it. The addresses of a name are looked up again every 10 seconds.
    ///
    /// # Errors
    /// When there is no address, or one is none, or the files for TLS cannot be read.
    pub fn remote(urls: &[String], tls: Option<&TlsConfig>) -> anyhow::Result<Self> {
        anyhow::ensure!(!urls.is_empty(), "a peer needs at least one address");
        let targets = urls.iter().map(|url| Target::read(url, tls)).collect::<anyhow::Result<Vec<_>>>()?;
        let all = targets.iter().map(Target::replica).collect::<anyhow::Result<Vec<_>>>()?;
        let replicas = Arc::new(Replicas::new(all));
        resolver::follow(targets, &replicas);
        let service = tower::service_fn(move |request| {
            let replicas = replicas.clone();
            async move { Ok(replicas.send(request).await?) }
        });
        Ok(Self(BoxCloneSyncService::new(service)))
    }
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
        let path = request.uri().path().to_owned();
        let call = self.0.call(request);
        Box::pin(async move { measure::counted(&path, call).await })
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
mod tests;
