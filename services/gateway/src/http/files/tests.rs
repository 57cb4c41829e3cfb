//! Files from the outside: HTTP in, and a messaging of the tests behind it that keeps one file.

use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::events::Events;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::transport::Transport;
use http_body_util::BodyExt as _;
use proto::messaging::v1::ErrorReason as Reason;
use proto::messaging::v1::upload_service_server::{UploadService, UploadServiceServer};
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::*;
use crate::config::Config;
use crate::http::middleware;
use crate::http::middleware::client_ip::Peer;
use crate::state::Gateway;
use crate::upstream::clients::Clients;

const ID: &str = "01937b6e-7c4a-7d3b-9f00-0242ac120002";

/// The content of the file.
const BYTES: &[u8] = b"0123456789";

/// Keeps one file. What it takes is a ticket that says what is wanted.
#[derive(Clone)]
struct Shelf {
    file: pb::Upload,
    bytes: Arc<Mutex<Vec<u8>>>,
}

fn fault(code: Code, reason: Reason) -> Status {
    Fault::new(code, reason.as_str_name()).message("no").into()
}

type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl UploadService for Shelf {
    type WriteUploadStream = BoxStream<'static, Result<pb::WriteUploadResponse, Status>>;
    type ReadUploadStream = BoxStream<'static, Result<pb::ReadUploadResponse, Status>>;

    async fn create_upload(
        &self,
        _request: tonic::Request<pb::CreateUploadRequest>,
    ) -> Answer<pb::CreateUploadResponse> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn get_upload(
        &self,
        _request: tonic::Request<pb::GetUploadRequest>,
    ) -> Answer<pb::GetUploadResponse> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn write_upload(
        &self,
        request: tonic::Request<Streaming<pb::WriteUploadRequest>>,
    ) -> Answer<Self::WriteUploadStream> {
        let (shelf, mut pieces) = (self.clone(), request.into_inner());
        let answer = async move {
            let first = pieces.message().await?.unwrap_or_default();
            assert!(first.data.is_empty() && first.upload_id == ID);
            match first.ticket.as_str() {
                "slow" => return Err(fault(Code::DeadlineExceeded, Reason::UploadTooSlow)),
                "second" => return Err(fault(Code::Aborted, Reason::UploadInProgress)),
                "third" => return Err(fault(Code::ResourceExhausted, Reason::TooManyUploads)),
                "full" => return Err(fault(Code::FailedPrecondition, Reason::StorageFull)),
                _ => {}
            }
            if first.ticket != "write" {
                return Err(fault(Code::PermissionDenied, Reason::TicketInvalid));
            }
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.message().await? {
                assert!(!piece.data.is_empty() && piece.data.len() <= PIECE && piece.ticket.is_empty());
                bytes.extend(piece.data);
            }
            if bytes.len() as i64 != shelf.file.size {
                return Err(fault(Code::FailedPrecondition, Reason::UploadIncomplete));
            }
            *shelf.bytes.lock().expect("bytes") = bytes;
            Ok(pb::WriteUploadResponse { upload: Some(shelf.file) })
        };
        Ok(tonic::Response::new(stream::once(answer).boxed()))
    }

    async fn read_upload(
        &self,
        request: tonic::Request<pb::ReadUploadRequest>,
    ) -> Answer<Self::ReadUploadStream> {
        let request = request.into_inner();
        if request.ticket != "read" {
            return Err(fault(Code::PermissionDenied, Reason::TicketInvalid));
        }
        let bytes = self.bytes.lock().expect("bytes").clone();
        let from = (request.offset as usize).min(bytes.len());
        let length = if request.length == 0 { usize::MAX } else { request.length as usize };
        let end = from.saturating_add(length).min(bytes.len());
        let first = pb::ReadUploadResponse { upload: Some(self.file.clone()), ..Default::default() };
        let pieces = bytes[from..end]
            .chunks(3)
            .map(|piece| pb::ReadUploadResponse { data: piece.to_vec(), ..Default::default() });
        let answers: Vec<_> = std::iter::once(first).chain(pieces).map(Ok).collect();
        Ok(tonic::Response::new(stream::iter(answers).boxed()))
    }
}

/// A gateway in front of the shelf.
struct World {
    router: Router,
    shelf: Shelf,
}

impl World {
    fn new() -> Self {
        Self::with("image/png", "a.png", BYTES)
    }

    fn with(media_type: &str, name: &str, bytes: &[u8]) -> Self {
        let file = pb::Upload {
            upload_id: ID.to_owned(),
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            size: bytes.len() as i64,
            sha256: vec![0xab; 32],
            ..Default::default()
        };
        let shelf = Shelf { file, bytes: Arc::new(Mutex::new(bytes.to_vec())) };
        let services =
            Transport::local(Routes::new(UploadServiceServer::new(shelf.clone())).into_axum_router());
        let credential = ServiceCredential::new("gateway", &Secret::new("a secret")).expect("a credential");
        let [one, two, three, four] = [0; 4].map(|_| services.clone());
        let clients = Clients::new(one, two, three, four, credential);
        let config = Config { max_upload_bytes: 1_000_000, ..Config::default() };
        let config = config.under(Profile::Production).expect("a config");
        let verifier = Verifier::new(services, None);
        let gateway = Gateway::new(config, clients, verifier, Events::local(), Clock::system());
        Self {
            router: middleware::stack(
                gateway.config(),
                gateway.upstream(),
                router().with_state(gateway.clone()),
            ),
            shelf,
        }
    }

    async fn send(&self, verb: &str, query: &str, headers: &[(&str, &str)], body: Body) -> Response {
        let uri = format!("/v1/uploads/{ID}/content{query}");
        let mut request = Request::builder().method(verb).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).expect("a request");
        request.extensions_mut().insert(Peer(SocketAddr::from(([192, 0, 2, 7], 4711))));
        self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Response {
        self.send("GET", "?ticket=read", headers, Body::empty()).await
    }

    async fn put(&self, body: impl Into<Body>) -> String {
        said(self.send("PUT", "?ticket=write", &[], body.into()).await).await
    }
}

async fn bytes(response: Response) -> Bytes {
    response.into_body().collect().await.expect("a body").to_bytes()
}

async fn said(response: Response) -> String {
    let status = response.status().as_u16();
    format!("{status} {}", String::from_utf8_lossy(&bytes(response).await))
}

fn is(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_file_is_put_and_fetched() {
    let large: Vec<u8> = (0..900_000_u32).map(|n| n as u8).collect();
    let world = World::with("application/pdf", "", &large);
    world.shelf.bytes.lock().expect("bytes").clear();
    let answer = world.put(large.clone()).await;
    assert!(answer.starts_with("200 {\"upload\":{\"uploadId\":\"01937b6e-"), "{answer}");
    let response = world.get(&[]).await;
    assert_eq!(response.status(), 200);
    assert!(bytes(response).await == large);
}

#[tokio::test]
async fn bytes_of_unknown_number_are_taken_as_they_come() {
    let world = World::new();
    let chunks = BYTES.chunks(4).map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk)));
    assert!(world.put(Body::from_stream(stream::iter(chunks))).await.starts_with("200 "));
}

#[tokio::test]
async fn a_browser_makes_nothing_else_of_a_file() {
    let response = World::new().get(&[]).await;
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-length", "10"),
        ("content-disposition", "inline; filename=\"a.png\"; filename*=UTF-8''a.png"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"),
        ("cache-control", "private, no-cache"),
        ("accept-ranges", "bytes"),
        ("etag", format!("\"{}\"", "ab".repeat(32)).as_str()),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(is(&response, name), value, "{name}");
    }
    let named = |media_type: &'static str, name: &'static str| async move {
        is(&World::with(media_type, name, BYTES).get(&[]).await, "content-disposition")
    };
    assert_eq!(named("application/pdf", "").await, "attachment");
    assert_eq!(
        named("text/plain", "Ä \"b\"; x=/..%0a.txt").await,
        "attachment; filename=\"_ _b__ x__.._0a.txt\"; filename*=UTF-8''%C3%84%20%22b%22%3B%20x%3D%2F..%250a.txt"
    );
    assert_eq!(named("video/mp4", "a.mp4").await, "inline; filename=\"a.mp4\"; filename*=UTF-8''a.mp4");
}

#[tokio::test]
async fn a_part_of_a_file_is_given() {
    let world = World::new();
    for (range, says, part) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=7-99", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=-99", "bytes 0-9/10", "0123456789"),
    ] {
        let response = world.get(&[("range", range)]).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(is(&response, "content-range"), says);
        assert_eq!(is(&response, "content-length"), part.len().to_string());
        assert_eq!(bytes(response).await, part, "{range}");
    }
    for range in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
        let response = world.get(&[("range", range)]).await;
        assert_eq!(
            (response.status().as_u16(), is(&response, "content-range")),
            (416, "bytes */10".to_owned())
        );
        assert!(said(response).await.contains("ERROR_REASON_INVALID_FIELD"));
    }
    for range in ["bytes=0-1,3-4", "lines=1-2", "bytes=5-4"] {
        let response = world.get(&[("range", range)]).await;
        assert_eq!((response.status().as_u16(), bytes(response).await.len()), (200, 10), "{range}");
    }
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let world = World::new();
    let tag = is(&world.get(&[]).await, "etag");
    let response = world.get(&[("if-none-match", &tag)]).await;
    assert_eq!((response.status().as_u16(), is(&response, "etag")), (304, tag.clone()));
    assert!(bytes(response).await.is_empty());
    assert_eq!(world.get(&[("if-none-match", "\"other\"")]).await.status(), 200);
    let part = world.get(&[("range", "bytes=1-2"), ("if-range", &tag)]).await;
    assert_eq!(part.status(), 206);
    let all = world.get(&[("range", "bytes=1-2"), ("if-range", "\"other\"")]).await;
    assert_eq!((all.status().as_u16(), bytes(all).await.len()), (200, 10));
}

#[tokio::test]
async fn head_says_the_same_without_the_bytes() {
    let world = World::new();
    let response = world.send("HEAD", "?ticket=read", &[], Body::empty()).await;
    assert_eq!((response.status().as_u16(), is(&response, "content-length")), (200, "10".to_owned()));
    assert_eq!(is(&response, "content-type"), "image/png");
    assert!(bytes(response).await.is_empty());
    let part = world.send("HEAD", "?ticket=read", &[("range", "bytes=1-3")], Body::empty()).await;
    assert_eq!((part.status().as_u16(), is(&part, "content-length")), (206, "3".to_owned()));
}

#[tokio::test]
async fn without_its_ticket_nothing_is_given_or_taken() {
    let world = World::new();
    for verb in ["GET", "PUT"] {
        for query in ["", "?", "?ticket=", "?other=read"] {
            let answer = said(world.send(verb, query, &[], Body::from(BYTES)).await).await;
            assert!(answer.starts_with("400 ") && answer.contains("\"ticket\""), "{verb} {query}: {answer}");
        }
        let wrong = world.send(verb, "?ticket=wrong", &[], Body::from(BYTES)).await;
        assert_eq!(is(&wrong, "content-type"), "application/problem+json");
        let wrong = said(wrong).await;
        assert!(wrong.starts_with("403 ") && wrong.contains("ERROR_REASON_TICKET_INVALID"), "{wrong}");
    }
    let answer = said(world.send("DELETE", "?ticket=write", &[], Body::empty()).await).await;
    assert!(answer.starts_with("405 ") && answer.contains("GET, HEAD, PUT"), "{answer}");
}

#[tokio::test]
async fn a_bound_that_is_broken_has_its_status() {
    let world = World::new();
    for (ticket, status, reason) in [
        ("slow", "408 ", "UPLOAD_TOO_SLOW"),
        ("second", "409 ", "UPLOAD_IN_PROGRESS"),
        ("third", "429 ", "TOO_MANY_UPLOADS"),
        ("full", "413 ", "STORAGE_FULL"),
    ] {
        // The rest of the body never comes: the gateway does not wait for it.
        let begun =
            stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"01"))]).chain(stream::pending());
        let response = world.send("PUT", &format!("?ticket={ticket}"), &[], Body::from_stream(begun)).await;
        assert_eq!(is(&response, "connection"), "close", "{ticket}");
        let answer = said(response).await;
        assert!(answer.starts_with(status) && answer.contains(reason), "{answer}");
    }
}

#[tokio::test]
async fn who_tries_tickets_is_slowed_down() {
    let world = World::new();
    let mut tries = 0;
    loop {
        match world.send("GET", "?ticket=wrong", &[], Body::empty()).await.status().as_u16() {
            403 => tries += 1,
            429 => break,
            other => panic!("{other}"),
        }
        // The quota is 100 at once and comes back at 20 per second.
        assert!(tries < 10_000, "{tries} tickets were tried");
    }
    assert!(tries >= 100, "{tries}");
    assert_eq!(world.get(&[]).await.status(), 200, "who has one is not");
}

#[tokio::test]
async fn a_body_is_as_long_as_the_file_and_no_longer_than_any() {
    let world = World::new();
    for wrong in [&BYTES[1..], b"01234567890", b""] {
        let answer = world.put(wrong).await;
        assert!(answer.starts_with("409 ") && answer.contains("UPLOAD_INCOMPLETE"), "{answer}");
    }
    let announced = world.put(vec![0; 1_000_001]).await;
    assert!(announced.starts_with("413 ") && announced.contains("BODY_TOO_LARGE"), "{announced}");
    // One that does not say so.
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1000])));
    let counted = world.put(Body::from_stream(endless)).await;
    assert!(counted.starts_with("413 "), "{counted}");
    let broken = stream::iter([Ok(Bytes::from_static(BYTES)), Err(std::io::Error::other("gone"))]);
    let broken = world.put(Body::from_stream(broken)).await;
    assert!(broken.starts_with("400 ") && broken.contains("breaks off"), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn bytes_may_be_slow_but_not_silent() {
    let world = World::new();
    let slowly = |wait: u64| {
        let bytes = stream::iter(BYTES.chunks(1)).then(move |byte| async move {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(byte))
        });
        Body::from_stream(bytes)
    };
    let patient = world.put(slowly(29)).await;
    assert!(patient.starts_with("200 "), "longer than other requests may take: {patient}");
    let silent = world.put(slowly(31)).await;
    assert!(silent.starts_with("408 ") && silent.contains("UPLOAD_TOO_SLOW"), "{silent}");
}
