//! The gRPC server of a process.

use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::Process;
use crate::config::TlsConfig;
use crate::tasks::Shutdown;
use crate::unit::Unit;

/// All gRPC routes of the units, with health and, where it is wanted, reflection.
pub(super) async fn routes(process: &Process, units: &mut [Unit]) -> anyhow::Result<Option<axum::Router>> {
    let routers: Vec<axum::Router> = units.iter_mut().filter_map(|unit| unit.grpc.take()).collect();
    if routers.is_empty() {
        return Ok(None);
    }
    let names: Vec<&'static str> = units.iter().flat_map(|unit| unit.services.iter().copied()).collect();

    let (reporter, health) = tonic_health::server::health_reporter();
    for name in &names {
        reporter.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
    }
    let mut operation = Routes::new(health);
    if process.listen.reflects(process.profile) {
        let builder = || {
            let described = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            names.iter().fold(described, |builder, name| builder.with_service_name(*name))
        };
        operation = operation.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    }
    // The fallback of the operational routes answers whatever no unit knows.
    let operation = operation.into_axum_router();
    Ok(Some(routers.into_iter().fold(operation, axum::Router::merge)))
}

/// Serves the routes until the process stops.
pub(super) async fn serve(
    tls: Option<ServerTlsConfig>,
    routes: axum::Router,
    listener: TcpListener,
    shutdown: Shutdown,
) {
    if let Err(error) = server(tls, routes, listener, shutdown).await {
        tracing::error!(%error, "gRPC cannot be served");
    }
}

async fn server(
    tls: Option<ServerTlsConfig>,
    routes: axum::Router,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        // Without a number of ours there would be no bound at all.
        .max_concurrent_streams(Some(1024))
        .http2_max_header_list_size(Some(16 * 1024))
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20));
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await })
        .await
}

/// TLS in both directions: callers show a certificate too.
pub(super) fn tls(tls: &TlsConfig) -> anyhow::Result<ServerTlsConfig> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&tls.certificate_file)?, read(&tls.key_file)?))
        .client_ca_root(Certificate::from_pem(read(&tls.authority_file)?)))
}
