//! HTTP for S3, over the same TLS as everything else: rustls with ring, and the authorities that the system trusts.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientOptions, Error};
use rustls::{ClientConfig, RootCertStore};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a server may take to begin its answer. The largest request is one part of a file.
const ANSWER: Duration = Duration::from_secs(30);

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Makes the client.
#[derive(Clone, Copy, Debug)]
pub struct Connector {
    /// Whether HTTP without TLS is spoken.
    pub is_plain: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> Result<HttpClient, Error> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let tls = self.tls().map_err(|source| Error::Generic { store: "S3", source })?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = if self.is_plain { connector.https_or_http() } else { connector.https_only() };
        let connector = connector.enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(HttpClient::new(Speaker(client)))
    }
}

impl Connector {
    fn tls(self) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        // Without TLS there is nobody to trust, and the system may well know nobody.
        let config = match self.is_plain {
            true => config.with_root_certificates(RootCertStore::empty()),
            false => config.with_native_roots()?,
        };
        Ok(config.with_no_client_auth())
    }
}

/// The client.
#[derive(Debug)]
struct Speaker(Client<HttpsConnector<Tcp>, HttpRequestBody>);

#[tonic::async_trait]
impl HttpService for Speaker {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        match tokio::time::timeout(ANSWER, self.0.request(request)).await {
            Ok(Ok(answer)) => Ok(answer.map(|body| {
                HttpResponseBody::new(body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)))
            })),
            Ok(Err(error)) => Err(HttpError::new(kind(&error), error)),
            Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
        }
    }
}

/// What may work when it is tried again.
fn kind(error: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    match error.source() {
        Some(_) => HttpErrorKind::Request,
        None => HttpErrorKind::Unknown,
    }
}
