//! Traces to a collector, over OTLP.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, Registry};

use crate::trace::{self, TraceContext};

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The layer that sends the spans of this process to a collector, in batches, from a thread of its own.
pub(super) fn layer(
    process: &'static str,
    endpoint: &str,
) -> anyhow::Result<Box<dyn Layer<Registry> + Send + Sync>> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .with_context(|| format!("log.otlp_endpoint: {endpoint}"))?;
    let resource = Resource::builder()
        .with_service_name(process)
        .with_attribute(KeyValue::new("service.namespace", "parlor"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer(process);
    let _ = PROVIDER.set(provider);
    Ok(tracing_opentelemetry::layer().with_tracer(tracer).boxed())
}

/// True when traces are sent to a collector.
pub(super) fn has_collector() -> bool {
    PROVIDER.get().is_some()
}

/// See [`super::adopt`].
pub(super) fn adopt(span: &Span, came_with: Option<TraceContext>) -> Option<TraceContext> {
    PROVIDER.get()?;
    if let Some(parent) = came_with {
        let remote = SpanContext::new(
            TraceId::from(parent.trace_id.0),
            SpanId::from(parent.parent_id),
            TraceFlags::new(parent.flags),
            true,
            TraceState::NONE,
        );
        // It fails for a span that nobody listens to, which has no place in a trace either.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    own.is_valid().then(|| TraceContext {
        trace_id: trace::TraceId(u128::from_be_bytes(own.trace_id().to_bytes())),
        parent_id: u64::from_be_bytes(own.span_id().to_bytes()),
        flags: own.trace_flags().to_u8(),
    })
}

/// See [`super::flush`].
pub(super) fn flush() {
    if let Some(error) = PROVIDER.get().and_then(|provider| provider.shutdown().err()) {
        tracing::warn!(%error, "the last traces did not reach the collector");
    }
}
