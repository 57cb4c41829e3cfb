//! Logs, metrics and traces of a process.
//!
//! The log goes to standard error: one line per event, that reads alone and carries fields. Traces go to a collector
//! when one is configured; without, every line still has the id of its trace ([`crate::trace`]).

mod gauges;
pub mod metrics;
mod otlp;
mod panics;

use std::io::IsTerminal;

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use gauges::Gauges;
pub use metrics::handle as metrics_handle;

use crate::trace::TraceContext;

/// Libraries that say what we say ourselves, or that would show headers and bodies. Whoever wants them names them:
/// `RUST_LOG=debug,h2=trace`.
const QUIET: &str =
    "async_nats=off,h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn,sqlx=warn,opentelemetry=warn";

/// What a process writes to its log, and where traces go.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is worth a line: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module such as
    /// `info,messaging=debug`. The variable `RUST_LOG` is over it.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// The OTLP collector to send traces to, over gRPC, such as `http://localhost:4317`. Absent means none.
    pub otlp_endpoint: Option<String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Pretty, otlp_endpoint: None }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// For machines: one JSON object per line.
    Json,
}

/// Begins to log, to count, and to trace. Once per process, before anything else is made; a second call fails.
///
/// `process` names the process in traces.
pub fn init(process: &'static str, config: &LogConfig) -> anyhow::Result<()> {
    let overridden = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.trim().is_empty());
    let level = overridden.as_deref().unwrap_or(&config.level);
    // What comes later in the list decides.
    let filter =
        EnvFilter::try_new(format!("{QUIET},{level}")).with_context(|| format!("log.level: {level}"))?;
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![lines(config.format, std::io::stderr)];
    if let Some(endpoint) = &config.otlp_endpoint {
        layers.push(otlp::layer(process, endpoint)?);
    }
    tracing_subscriber::registry()
        .with(layers.with_filter(filter))
        .try_init()
        .context("the log of this process was begun already")?;
    metrics_handle();
    panics::report();
    Ok(())
}

fn lines<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // All spans, not only the innermost: the trace is on the outermost.
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed()
        }
    }
}

/// Sends what is still to be sent. The last thing a process does; may take a few seconds when the collector is away.
pub fn flush() {
    otlp::flush();
}

/// True when traces are sent to a collector.
pub(crate) fn has_collector() -> bool {
    otlp::has_collector()
}

/// Puts a span under the one that its request came with, in the traces that are sent to a collector. Returns the place
/// of the new span; `None` when there is no collector.
pub(crate) fn adopt(span: &Span, came_with: Option<TraceContext>) -> Option<TraceContext> {
    otlp::adopt(span, came_with)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use http::{Request, Response};
    use tower::{Layer as _, ServiceExt, service_fn};

    use super::*;
    use crate::middleware::{self, LimitsConfig};

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("the log").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What the log says while a request is worked on that logs a line.
    async fn logged(format: LogFormat) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = lines(format, move || writer.clone()).with_filter(EnvFilter::new("info"));
        let _guard = tracing_subscriber::registry().with(layer).set_default();
        let service =
            middleware::stack(&LimitsConfig::default()).layer(service_fn(|_: Request<Body>| async {
                let work = async { tracing::info!(message.id = 7, "sent message 7") };
                tracing::Instrument::instrument(work, tracing::info_span!("append", conversation.id = 3))
                    .await;
                Ok(Response::<Body>::default())
            }));
        let request = Request::post("/parlor.auth.v1.AuthService/Login").header("traceparent", TRACEPARENT);
        service.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
        let bytes = written.0.lock().expect("the log").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[tokio::test]
    async fn a_line_carries_the_trace_of_its_request() {
        let line = logged(LogFormat::Pretty).await;
        for part in ["sent message 7", "message.id=7", "conversation.id=3", "AuthService/Login"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.contains("trace.id=0af7651916cd43dd8448eb211c80319c"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[tokio::test]
    async fn a_line_for_machines_carries_it_too() {
        let line = logged(LogFormat::Json).await;
        let line: serde_json::Value = serde_json::from_str(&line).expect("one object");
        assert_eq!(line["message.id"], 7);
        assert_eq!(line["spans"][0]["trace.id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(line["spans"][0]["rpc.method"], "parlor.auth.v1.AuthService/Login");
        assert_eq!(line["spans"][1]["conversation.id"], 3);
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(serde_json::from_str::<LogConfig>(r#"{"colour": true}"#).is_err());
        let config: LogConfig = serde_json::from_str(r#"{"format": "json"}"#).expect("settings");
        assert_eq!((config.format, config.level.as_str()), (LogFormat::Json, "info"));
    }

    #[test]
    fn what_is_named_is_over_what_is_quiet() {
        let filter = EnvFilter::try_new(format!("{QUIET},trace,h2=debug")).expect("a filter").to_string();
        assert!(filter.contains("h2=debug") && !filter.contains("h2=warn"), "{filter}");
        assert!(filter.contains("hyper=warn"), "{filter}");
    }
}
