//! The admin port: whether the process lives, whether it is ready, what it has counted, and a command to try what was put
//! aside again. For operators and probes; it is never reachable from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::FutureExt;
use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::facts;
use crate::profile::Profile;
use crate::telemetry::Gauges;

/// How long a check may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// How something is that the process needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Well; the text says what there is to know about it.
    Ok(String),
    /// Not well, but the process can do its work without.
    Degraded(String),
    /// Not well, and requests would fail: send them elsewhere.
    Failed(String),
}

impl From<Result<String, String>> for Health {
    fn from(result: Result<String, String>) -> Self {
        result.map_or_else(Self::Failed, Self::Ok)
    }
}

type Check = dyn Fn() -> Pin<Box<dyn Future<Output = Health> + Send>> + Send + Sync;

/// Something to look at before saying that the process is ready.
#[derive(Clone)]
pub struct ReadinessCheck {
    /// What is looked at, such as `database`.
    pub name: String,
    check: Arc<Check>,
}

impl ReadinessCheck {
    /// Looks at `name` by running `check`, which answers with a [`Health`], or with a `Result` of what there is to know.
    pub fn new<F, Fut, H>(name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = H> + Send + 'static,
        H: Into<Health> + 'static,
    {
        Self { name: name.into(), check: Arc::new(move || check().map(Into::into).boxed()) }
    }

    /// Runs the check.
    pub async fn run(&self) -> Health {
        let outcome = tokio::time::timeout(PATIENCE, (self.check)()).await;
        outcome.unwrap_or_else(|_| Health::Failed(format!("no answer within {PATIENCE:?}")))
    }
}

impl fmt::Debug for ReadinessCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadinessCheck({})", self.name)
    }
}

/// Whether the process is ready. Cloning gives the same.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    profile: Profile,
    checks: Vec<ReadinessCheck>,
    durability: OnceLock<String>,
    is_draining: AtomicBool,
}

impl Readiness {
    /// Ready when all checks are.
    pub fn new(profile: Profile, checks: Vec<ReadinessCheck>) -> Self {
        Self(Arc::new(Inner {
            profile,
            checks,
            durability: OnceLock::new(),
            is_draining: AtomicBool::new(false),
        }))
    }

    /// Says too what an acknowledged write survives, such as `full` or `relaxed`; the first word counts.
    #[must_use]
    pub fn with_durability(self, durability: impl Into<String>) -> Self {
        let _ = self.0.durability.set(durability.into());
        self
    }

    /// From now on the process is not ready: it is about to go.
    pub fn set_draining(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to go.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Runs the checks; true for one that is well.
    pub(crate) async fn checks(&self) -> Vec<(String, bool)> {
        let checks = self.look().await.checks;
        checks.into_iter().map(|(name, finding)| (name, finding.status == Status::Ok)).collect()
    }

    async fn look(&self) -> Report {
        let healths = join_all(self.0.checks.iter().map(ReadinessCheck::run)).await;
        let mut checks: BTreeMap<String, Finding> = BTreeMap::new();
        for (check, health) in self.0.checks.iter().zip(healths) {
            // In a process of several units, those that share something look at the same thing: the worst counts.
            let finding = Finding::from(health);
            let known = checks.entry(check.name.clone()).or_insert_with(|| finding.clone());
            if finding.status > known.status {
                *known = finding;
            }
        }
        let worst = checks.values().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        let status = if self.is_draining() { Status::Draining } else { worst };
        Report {
            status,
            version: env!("CARGO_PKG_VERSION"),
            build: option_env!("PARLOR_BUILD"),
            profile: self.0.profile.to_string(),
            durability: self.0.durability.get().cloned(),
            checks,
        }
    }
}

/// In the order of how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Degraded,
    Failed,
    Draining,
}

#[derive(Clone, Debug, Serialize)]
struct Finding {
    status: Status,
    detail: String,
}

impl From<Health> for Finding {
    fn from(health: Health) -> Self {
        let (status, detail) = match health {
            Health::Ok(detail) => (Status::Ok, detail),
            Health::Degraded(detail) => (Status::Degraded, detail),
            Health::Failed(detail) => (Status::Failed, detail),
        };
        Self { status, detail }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    status: Status,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<&'static str>,
    profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<String>,
    checks: BTreeMap<String, Finding>,
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let code = match self.status {
            Status::Ok | Status::Degraded => StatusCode::OK,
            Status::Failed | Status::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        (code, [(header::CACHE_CONTROL, "no-store")], Json(self)).into_response()
    }
}

/// What the admin port serves:
///
/// | path | answers |
/// | --- | --- |
/// | `/livez` | 200 while the process can answer at all: restart it when it cannot |
/// | `/readyz` | 200 when it can work, 503 when it cannot or is about to go; JSON says why |
/// | `/metrics` | what it has counted, in the text format of Prometheus |
/// | `POST /retry-facts` | 202; the facts of other services that were put aside are tried again within seconds |
pub fn router(readiness: Readiness, metrics: &PrometheusHandle, gauges: Gauges) -> Router {
    let metrics = metrics.clone();
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(async |State(readiness): State<Readiness>| readiness.look().await))
        .route(
            "/metrics",
            get(async move |State(readiness): State<Readiness>| {
                gauges.read(&readiness).await;
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
            }),
        )
        .route(
            "/retry-facts",
            post(|| async {
                facts::try_aside();
                (StatusCode::ACCEPTED, "the facts that were put aside are tried again\n")
            }),
        )
        .with_state(readiness)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::telemetry;

    async fn ask(readiness: &Readiness, path: &str) -> (StatusCode, String) {
        say(readiness, http::Request::get(path)).await
    }

    async fn say(readiness: &Readiness, request: http::request::Builder) -> (StatusCode, String) {
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let answer = match router(readiness.clone(), telemetry::metrics_handle(), Gauges::new(Vec::new()))
            .oneshot(request)
            .await
        {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn ready(readiness: &Readiness) -> (u16, Value) {
        let (status, body) = ask(readiness, "/readyz").await;
        (status.as_u16(), serde_json::from_str(&body).expect("json"))
    }

    fn check(name: &str, health: Health) -> ReadinessCheck {
        ReadinessCheck::new(name, move || std::future::ready(health.clone()))
    }

    #[tokio::test]
    async fn ready_until_it_drains() {
        let database = check("database", Health::Ok("postgres 15".into()));
        let readiness = Readiness::new(Profile::Development, vec![database]).with_durability("full");
        let (status, report) = ready(&readiness).await;
        assert_eq!(status, 200);
        assert_eq!(report["status"], "ok");
        assert_eq!(report["profile"], "development");
        assert_eq!(report["durability"], "full");
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(report["checks"]["database"], json!({"status": "ok", "detail": "postgres 15"}));
        readiness.set_draining();
        let (status, report) = ready(&readiness).await;
        assert_eq!((status, &report["status"]), (503, &json!("draining")));
    }

    #[tokio::test]
    async fn degraded_is_ready_and_failed_is_not() {
        let degraded = check("events", Health::Degraded("away".into()));
        let failed = ReadinessCheck::new("database", || async { Err::<String, _>("refused".to_owned()) });
        let (status, report) = ready(&Readiness::new(Profile::Production, vec![degraded.clone()])).await;
        assert_eq!((status, &report["status"]), (200, &json!("degraded")));
        let (status, report) = ready(&Readiness::new(Profile::Production, vec![degraded, failed])).await;
        assert_eq!((status, &report["status"]), (503, &json!("failed")));
        assert_eq!(report["checks"]["database"]["detail"], "refused");
    }

    #[tokio::test]
    async fn of_two_checks_with_one_name_the_worse_counts() {
        let checks = vec![
            check("database", Health::Failed("full".into())),
            check("database", Health::Ok("well".into())),
        ];
        let (status, report) = ready(&Readiness::new(Profile::Production, checks)).await;
        assert_eq!((status, &report["checks"]["database"]["detail"]), (503, &json!("full")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_has_failed() {
        let hanging = ReadinessCheck::new("database", std::future::pending::<Health>);
        assert!(matches!(hanging.run().await, Health::Failed(_)));
    }

    #[tokio::test]
    async fn facts_are_tried_again_on_command_only() {
        let readiness = Readiness::new(Profile::Production, Vec::new());
        let (status, said) = say(&readiness, http::Request::post("/retry-facts")).await;
        assert_eq!(
            (status, said.as_str()),
            (StatusCode::ACCEPTED, "the facts that were put aside are tried again\n")
        );
        // What a browser or a probe fetches commands nothing.
        assert_eq!(ask(&readiness, "/retry-facts").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn it_lives_and_shows_what_it_has_counted() {
        let failed = check("events", Health::Degraded("away".into()));
        let well = check("database", Health::Ok("well".into()));
        let readiness = Readiness::new(Profile::Development, vec![failed, well]);
        assert_eq!(ask(&readiness, "/livez").await, (StatusCode::OK, "ok".to_owned()));
        telemetry::metrics_handle();
        metrics::counter!("admin_test_total").increment(1);
        let (status, text) = ask(&readiness, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("admin_test_total 1"), "{text}");
        assert!(text.contains("check_healthy{check=\"events\"} 0"), "{text}");
        assert!(text.contains("check_healthy{check=\"database\"} 1"), "{text}");
        assert!(text.contains(&format!("build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }
}
