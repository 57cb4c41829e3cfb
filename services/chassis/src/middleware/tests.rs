//! The whole stack around small services.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::fault::Fault;
use crate::trace::TraceContext;

const LOGIN: &str = "/parlor.auth.v1.AuthService/Login";

/// Counts what happens on this thread from now on.
fn counting() -> (metrics::LocalRecorderGuard<'static>, PrometheusHandle) {
    let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let handle = recorder.handle();
    (metrics::set_default_local_recorder(recorder), handle)
}

fn request(path: &str) -> Request<Body> {
    Request::post(path).body(Body::empty()).expect("a request")
}

async fn answer<S>(service: S, request: Request<Body>) -> Response
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    match service.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

fn fault(answer: &Response) -> Fault {
    Fault::of(&Status::from_header_map(answer.headers()).expect("a status in the headers"))
}

fn limits() -> LimitsConfig {
    LimitsConfig { max_concurrent_requests: 1, max_waiting_requests: 1, ..LimitsConfig::default() }
}

#[test]
fn an_unknown_limit_is_refused() {
    assert!(serde_json::from_str::<LimitsConfig>(r#"{"max_wait_ms": 3}"#).is_err());
    let limits: LimitsConfig = serde_json::from_str(r#"{"deadline": "3s"}"#).expect("settings");
    assert_eq!(limits.deadline, Duration::from_secs(3));
}

#[tokio::test]
async fn an_answer_passes_and_is_counted() {
    let (_guard, counted) = counting();
    let service = stack(&limits()).layer(service_fn(|request: Request<Body>| async move {
        assert!(request.extensions().get::<TraceContext>().is_some());
        assert_eq!(trace::current(), request.extensions().get().copied());
        assert!(deadline::remaining().is_some());
        Ok(Response::new(Body::from("hello")))
    }));
    let answer = answer(service, request(LOGIN)).await;
    assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "hello");
    let text = counted.render();
    let line = "rpc_requests_total{method=\"parlor.auth.v1.AuthService/Login\",code=\"OK\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("rpc_duration_seconds_count{method=\"parlor.auth.v1.AuthService/Login\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_refused_is_counted_with_its_code() {
    let (_guard, counted) = counting();
    let service = stack(&limits()).layer(service_fn(|_: Request<Body>| async {
        Ok(Status::not_found("no such user").into_http::<Body>())
    }));
    let refusal = answer(service, request(LOGIN)).await;
    assert_eq!(fault(&refusal).code(), Code::NotFound);
    let text = counted.render();
    assert!(text.contains("code=\"NOT_FOUND\"} 1"), "{text}");
}

#[tokio::test]
async fn a_name_that_somebody_made_up_is_no_label() {
    let (_guard, counted) = counting();
    let service = stack(&limits())
        .layer(service_fn(|_: Request<Body>| async { Ok(http::StatusCode::NOT_FOUND.into_response()) }));
    answer(service, request("/parlor.auth.v1.AuthService/Made%20Up")).await;
    let text = counted.render();
    assert!(text.contains("rpc_requests_total{method=\"other\",code=\"UNIMPLEMENTED\"} 1"), "{text}");
    assert!(!text.contains("Made"), "{text}");
}

#[tokio::test]
async fn a_stream_counts_when_it_ends() {
    let (_guard, counted) = counting();
    let service = stack(&limits()).layer(service_fn(|_: Request<Body>| async {
        let trailers =
            http::HeaderMap::from_iter([(Status::GRPC_STATUS, http::HeaderValue::from_static("14"))]);
        let body = http_body_util::Full::new(bytes::Bytes::from("part"))
            .with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
        Ok(Response::new(Body::new(body)))
    }));
    let stream = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let open = answer(service.clone(), request(stream)).await;
    assert!(!counted.render().contains("rpc_requests_total"), "{}", counted.render());
    open.into_body().collect().await.expect("a body");
    assert!(counted.render().contains("code=\"UNAVAILABLE\"} 1"), "{}", counted.render());
    // A stream whose reader goes away.
    drop(answer(service, request(stream)).await);
    assert!(counted.render().contains("code=\"CANCELLED\"} 1"), "{}", counted.render());
}

#[tokio::test]
async fn a_caller_that_goes_away_is_counted() {
    let (_guard, counted) = counting();
    let service = stack(&limits())
        .layer(service_fn(|_: Request<Body>| std::future::pending::<Result<Response, Infallible>>()));
    let asked = tokio::time::timeout(Duration::from_millis(20), service.oneshot(request(LOGIN))).await;
    assert!(asked.is_err());
    assert!(counted.render().contains("code=\"CANCELLED\"} 1"), "{}", counted.render());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_answered() {
    let (_guard, counted) = counting();
    let service = stack(&limits())
        .layer(service_fn(|_: Request<Body>| std::future::pending::<Result<Response, Infallible>>()));
    let begun = tokio::time::Instant::now();
    let late = answer(service.clone(), request(LOGIN)).await;
    assert_eq!(fault(&late).code(), Code::DeadlineExceeded);
    assert_eq!(begun.elapsed().as_secs(), 10);
    let mut impatient = request(LOGIN);
    impatient.headers_mut().insert("grpc-timeout", "100m".parse().expect("a header"));
    let begun = tokio::time::Instant::now();
    assert_eq!(fault(&answer(service, impatient).await).code(), Code::DeadlineExceeded);
    assert!((90..100).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert!(counted.render().contains("code=\"DEADLINE_EXCEEDED\"} 2"), "{}", counted.render());
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_go_on_after_the_deadline() {
    let service = stack(&limits()).layer(service_fn(|_: Request<Body>| async {
        let slow = futures_util::stream::once(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, Infallible>(bytes::Bytes::from("late"))
        });
        Ok(Response::new(Body::from_stream(slow)))
    }));
    let open = answer(service, request(LOGIN)).await;
    assert_eq!(open.into_body().collect().await.expect("a body").to_bytes(), "late");
}

#[tokio::test(start_paused = true)]
async fn too_much_is_refused_early() {
    let (_guard, counted) = counting();
    let service = stack(&LimitsConfig { max_wait: Duration::from_millis(500), ..limits() }).layer(
        service_fn(|_: Request<Body>| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(Response::new(Body::empty()))
        }),
    );
    // One is worked on, one may wait for half a second, the third is refused at once.
    let begun = tokio::time::Instant::now();
    let mut asks = JoinSet::new();
    for _ in 0..3 {
        let service = service.clone();
        asks.spawn(async move { (answer(service, request(LOGIN)).await, begun.elapsed()) });
    }
    let mut outcomes = asks.join_all().await;
    outcomes.sort_by_key(|(_, took)| *took);
    let [at_once, waited, done] = &outcomes[..] else { panic!("three answers") };
    for (refusal, took) in [(&at_once.0, at_once.1), (&waited.0, waited.1)] {
        let fault = fault(refusal);
        assert_eq!((fault.code(), fault.reason()), (Code::Unavailable, "ERROR_REASON_OVERLOADED"));
        assert!(fault.wait().is_some());
        assert!(took < Duration::from_millis(600), "{took:?}");
    }
    assert!(at_once.1 < Duration::from_millis(10) && waited.1 >= Duration::from_millis(500));
    assert!(Status::from_header_map(done.0.headers()).is_none());
    assert!(counted.render().contains("rpc_shed_total 2"), "{}", counted.render());
    // And the place is free again.
    assert!(Status::from_header_map(answer(service, request(LOGIN)).await.headers()).is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_gets_the_next_place() {
    let service = stack(&limits()).layer(service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(Response::new(Body::empty()))
    }));
    let (one, two) = tokio::join!(answer(service.clone(), request(LOGIN)), answer(service, request(LOGIN)));
    assert!([one, two].iter().all(|answer| Status::from_header_map(answer.headers()).is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_calls_itself_does_not_wait_for_itself() {
    let stack = stack(&limits());
    let inner = stack.layer(service_fn(|_: Request<Body>| async { Ok(Response::new(Body::from("inner"))) }));
    let outer = stack.layer(service_fn(move |_: Request<Body>| answer_as_service(inner.clone())));
    let answer = answer(outer, request(LOGIN)).await;
    assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "inner");
}

async fn answer_as_service<S>(service: S) -> Result<Response, Infallible>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    Ok(answer(service, request(LOGIN)).await)
}

#[tokio::test]
async fn probes_get_through_when_nothing_else_does() {
    let service = stack(&limits()).layer(service_fn(|request: Request<Body>| async move {
        if request.uri().path() == LOGIN {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(Body::empty()))
    }));
    let mut stuck = JoinSet::new();
    stuck.spawn(answer(service.clone(), request(LOGIN)));
    tokio::task::yield_now().await;
    let probe = answer(service, request("/grpc.health.v1.Health/Check")).await;
    assert!(Status::from_header_map(probe.headers()).is_none());
}

#[tokio::test]
async fn a_panic_is_the_failure_of_one_request() {
    let (_guard, counted) = counting();
    let calls = Arc::new(AtomicUsize::new(0));
    let service = stack(&limits()).layer(service_fn(move |_: Request<Body>| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(call > 0, "a bug");
            Ok(Response::new(Body::empty()))
        }
    }));
    let broken = answer(service.clone(), request(LOGIN)).await;
    let told = fault(&broken);
    assert_eq!(told.code(), Code::Internal);
    assert!(!told.text().contains("bug"), "{}", told.text());
    assert!(Status::from_header_map(answer(service, request(LOGIN)).await.headers()).is_none());
    let text = counted.render();
    assert!(text.contains("panics_total{method=\"parlor.auth.v1.AuthService/Login\"} 1"), "{text}");
    assert!(text.contains("code=\"INTERNAL\"} 1"), "{text}");
}
