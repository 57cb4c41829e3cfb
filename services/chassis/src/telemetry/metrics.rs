//! The metrics of this process, and the names of those that the chassis counts itself.
//!
//! | name | labels | what |
//! | --- | --- | --- |
//! | `rpc_requests_total` | `method`, `code` | requests answered by a gRPC service; a stream counts when it ends |
//! | `rpc_duration_seconds` | `method` | time until the answer, or until a stream begins |
//! | `rpc_shed_total` | | requests refused because too much was waiting already |
//! | `panics_total` | `method` | requests that ended in a panic of ours |
//! | `events_published_total` | | hints handed to the bus |
//! | `events_dropped_total` | `reason` | hints lost: `receiver_full`, `slow_consumer`, `disconnected`, `expired`, `backlog`, `refused`, `unsealed` (no key to publish with), `forged` (not sealed by the service that speaks there), `stale` (older than half a minute), `repeated` |
//! | `feed_failures_total` | `feed` | failed steps of a background feed |
//! | `feed_behind_seconds` | `feed` | the time since a background feed had read everything; 0 while it has |
//! | `feed_restarts_total` | `feed` | how often the facts of a producer were read anew because its database was another or an older one |
//! | `facts_put_aside_total` | `feed` | facts that could not be read or applied |
//! | `facts_waiting` | `feed` | facts that are put aside at this moment |
//! | `rpc_client_requests_total` | `method`, `code` | calls of other services, as their caller sees them |
//! | `rpc_client_duration_seconds` | `method` | time of such a call until its answer begins |
//! | `build_info` | `version`, `build` | always 1 |
//! | `check_healthy` | `check` | 1 while a check of `/readyz` is well, else 0; `events` is the connection to NATS |
//! | `database_connections` | `service`, `state` | connections to a database that are `used` or `idle` |
//! | `database_bytes` | `service` | the size of a database |
//! | `process_*` | | processor, memory, threads and files of the process |
//!
//! A service describes its own in its `lib.rs`, with the same `metrics::describe_*`. A label never takes a value that
//! somebody outside can choose: every value is a time series for ever.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Requests answered, by method and code.
pub const RPC_REQUESTS: &str = "rpc_requests_total";
/// Time until the answer, by method.
pub const RPC_DURATION: &str = "rpc_duration_seconds";
/// Requests refused because too much was waiting already.
pub const RPC_SHED: &str = "rpc_shed_total";
/// Requests that ended in a panic, by method.
pub const PANICS: &str = "panics_total";
/// Hints handed to the bus.
pub const EVENTS_PUBLISHED: &str = "events_published_total";
/// Hints lost, by reason.
pub const EVENTS_DROPPED: &str = "events_dropped_total";
/// Failed steps of a feed, by feed.
pub const FEED_FAILURES: &str = "feed_failures_total";

/// The time since a feed had read everything, by feed.
pub const FEED_BEHIND: &str = "feed_behind_seconds";
/// How often the facts of a producer were read anew, by feed.
pub const FEED_RESTARTS: &str = "feed_restarts_total";
/// Facts that could not be read or applied, by feed.
pub const FACTS_ASIDE: &str = "facts_put_aside_total";
/// Facts that are put aside at this moment, by feed.
pub const FACTS_WAITING: &str = "facts_waiting";
/// Calls of other services, by method and code.
pub const CLIENT_REQUESTS: &str = "rpc_client_requests_total";
/// Time of a call of another service until its answer begins, by method.
pub const CLIENT_DURATION: &str = "rpc_client_duration_seconds";

/// Every `*_seconds` histogram has these upper bounds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often recorded durations are folded into their histograms; until then each takes eight bytes.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process; recording starts with the first call. Whatever was counted before is lost, so this is
/// part of [`crate::telemetry::init`].
pub fn handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = match PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        {
            Ok(builder) => builder,
            // It refuses an empty list of bounds, and nothing else.
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed: /metrics will be empty");
        }
        describe();
        keep_up(handle.clone());
        handle
    })
}

fn describe() {
    describe_counter!(RPC_REQUESTS, Unit::Count, "Requests answered by a gRPC service.");
    describe_histogram!(RPC_DURATION, Unit::Seconds, "Time until the answer, or until a stream begins.");
    describe_counter!(RPC_SHED, Unit::Count, "Requests refused because too much was waiting already.");
    describe_counter!(PANICS, Unit::Count, "Requests that ended in a panic.");
    describe_counter!(EVENTS_PUBLISHED, Unit::Count, "Hints handed to the bus.");
    describe_counter!(EVENTS_DROPPED, Unit::Count, "Hints lost.");
    describe_counter!(FEED_FAILURES, Unit::Count, "Failed steps of a background feed.");
    describe_gauge!(FEED_BEHIND, Unit::Seconds, "Time since a background feed had read everything.");
    describe_counter!(
        FEED_RESTARTS,
        Unit::Count,
        "Facts read anew because their producer's database was replaced."
    );
    describe_counter!(FACTS_ASIDE, Unit::Count, "Facts that could not be read or applied.");
    describe_gauge!(FACTS_WAITING, Unit::Count, "Facts that are put aside at this moment.");
    describe_counter!(CLIENT_REQUESTS, Unit::Count, "Calls of other services, as their caller sees them.");
    describe_histogram!(
        CLIENT_DURATION,
        Unit::Seconds,
        "Time of a call of another service until its answer."
    );
}

/// A thread, and not a task: it must outlive every runtime of the process, and has nothing to wait for.
fn keep_up(handle: PrometheusHandle) {
    let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP);
            handle.run_upkeep();
        }
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "metrics are folded only when they are read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered() {
        let text = || handle().render();
        handle();
        metrics::counter!(PANICS, "method" => "test").increment(2);
        metrics::histogram!(RPC_DURATION, "method" => "test").record(0.003);
        assert!(text().contains("panics_total{method=\"test\"} 2"), "{}", text());
        assert!(text().contains("rpc_duration_seconds_bucket{method=\"test\",le=\"0.005\"} 1"), "{}", text());
        assert!(text().contains("# HELP panics_total"), "{}", text());
    }
}
