//! Traces reach a collector. A process of its own, because a process has one log.

#![expect(clippy::expect_used, reason = "a test")]

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use chassis::middleware::{self, LimitsConfig};
use chassis::telemetry::{self, LogConfig};
use chassis::trace;
use http::Response;
use http_body_util::BodyExt;
use tonic::Status;
use tower::{Layer, ServiceExt, service_fn};

/// What the collector was sent: the path, and the message behind its five bytes of framing.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

async fn collect(State(received): State<Received>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    received.lock().expect("received").push((path, body.to_vec()));
    // An empty message says that all is well.
    let trailers =
        http::HeaderMap::from_iter([("grpc-status".parse().expect("a name"), "0".parse().expect("a value"))]);
    let body = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]))
        .with_trailers(std::future::ready(Some(Ok::<_, std::convert::Infallible>(trailers))));
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_span_under_the_one_it_came_with() {
    let received = Received::default();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let collector = Router::new().fallback(collect).with_state(Arc::clone(&received));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, collector).await });

    let config = LogConfig { otlp_endpoint: Some(format!("http://{address}")), ..LogConfig::default() };
    telemetry::init("messaging", &config).expect("a log");
    assert!(telemetry::init("messaging", &config).is_err(), "a process has one log");

    let service = middleware::stack(&LimitsConfig::default()).layer(service_fn(|_: Request| async {
        let mut outgoing = http::HeaderMap::new();
        trace::inject(&mut outgoing);
        let context = trace::TraceContext::of_headers(&outgoing).expect("a trace");
        Ok(Status::aborted(context.to_string()).into_http::<Body>())
    }));
    let (came_with, trace_id) =
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 0x0af7651916cd43dd8448eb211c80319c_u128);
    let request = http::Request::post("/parlor.auth.v1.AuthService/Login").header("traceparent", came_with);
    let answer = service.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    let status = Status::from_header_map(answer.headers()).expect("a status");
    let outgoing: trace::TraceContext = status.message().parse().expect("a trace");
    assert_eq!(outgoing.trace_id.0, trace_id);

    tokio::task::spawn_blocking(telemetry::flush).await.expect("flushed");
    let mut waited = Duration::ZERO;
    while received.lock().expect("received").is_empty() && waited < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited += Duration::from_millis(20);
    }
    let received = received.lock().expect("received");
    let (path, message) = received.first().expect("traces");
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let holds = |bytes: &[u8]| message.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(&trace_id.to_be_bytes()), "the trace");
    assert!(holds(&0xb7ad_6b71_6920_3331_u64.to_be_bytes()), "the span it came with, as the parent");
    assert!(holds(&outgoing.parent_id.to_be_bytes()), "the span that calls belong under");
    assert!(holds(b"messaging") && holds(b"parlor.auth.v1.AuthService/Login"));
}
