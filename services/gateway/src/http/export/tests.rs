//! The archive from the outside: HTTP in, and four services of the tests behind it.

use std::io::{Cursor, Read as _};
use std::net::SocketAddr;

use bytes::{BufMut as _, BytesMut};
use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::events::Events;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::transport::Transport;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use proto::auth::v1 as pb;
use tower::ServiceExt as _;

use super::*;
use crate::config::Config;
use crate::http::middleware;
use crate::http::middleware::client_ip::Peer;
use crate::state::Gateway;
use crate::upstream::clients::Clients;

const ID: &str = "01937b6e-7c4a-7d3b-9f00-0242ac120002";

/// The behaviour of a package's service in the middle of its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answers,
    /// Refuses at once.
    IsAway,
    /// Fails after the first piece.
    BreaksOff,
}

fn status(code: u8) -> HeaderMap {
    HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from(u16::from(code)),
    )])
}

fn grpc(messages: &[Vec<u8>], code: u8) -> http::Response<Body> {
    let mut frames = BytesMut::new();
    for message in messages {
        frames.put_u8(0);
        frames.put_u32(u32::try_from(message.len()).expect("a length"));
        frames.put_slice(message);
    }
    let body = Full::new(frames.freeze()).with_trailers(std::future::ready(Some(Ok(status(code)))));
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Four services in one: everybody is Ann whose token is `ann`, and each has two files about her.
async fn services(scheduling: Fate, request: Request) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/parlor.auth.v1.AuthService/Introspect" {
        let asked = body.collect().await.expect("a body").to_bytes();
        let asked = pb::IntrospectRequest::decode(&asked[5..]).expect("a request");
        let caller =
            pb::CallerInfo { user_id: ID.to_owned(), session_id: ID.to_owned(), kind: 1, expire_millis: 0 };
        let caller = (asked.session_token == "ann").then_some(caller);
        return grpc(&[pb::IntrospectResponse { caller }.encode_to_vec()], 0);
    }
    assert_eq!(parts.headers["authorization"], "Bearer ann", "in the user's own name");
    let package = path.split('.').nth(1).expect("a package").to_owned();
    let fate = if package == "scheduling" { scheduling } else { Fate::Answers };
    // The answers of the four are alike on the wire.
    let piece = |path: &str, data: &str| {
        let path = format!("{package}/{path}");
        pb::ExportUserDataResponse { path, data: data.as_bytes().to_vec() }.encode_to_vec()
    };
    let mut pieces =
        vec![piece("one.json", "{\"a\""), piece("one.json", ":1}"), piece("two.ndjson", "1\n2\n")];
    match fate {
        Fate::Answers => grpc(&pieces, 0),
        Fate::BreaksOff => grpc(&pieces.drain(..1).collect::<Vec<_>>(), 14),
        Fate::IsAway => {
            let mut response = grpc(&[], 14);
            response.headers_mut().extend(status(14));
            response
        }
    }
}

async fn ask(scheduling: Fate, token: Option<&str>) -> Response {
    let services = Router::new().fallback(move |request: Request| services(scheduling, request));
    let services = Transport::local(services);
    let credential = ServiceCredential::new("gateway", &Secret::new("a secret")).expect("a credential");
    let [one, two, three, four] = [0; 4].map(|_| services.clone());
    let clients = Clients::new(one, two, three, four, credential.clone());
    let config = Config::default().under(Profile::Production).expect("a config");
    let verifier = Verifier::new(services, Some(credential));
    let gateway = Gateway::new(config, clients, verifier, Events::local(), Clock::system());
    let mut request = Request::get(PATH);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut request = request.body(Body::empty()).expect("a request");
    request.extensions_mut().insert(Peer(SocketAddr::from(([192, 0, 2, 7], 4711))));
    let router =
        middleware::stack(gateway.config(), gateway.upstream(), router().with_state(gateway.clone()));
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}

#[tokio::test]
async fn the_archive_has_the_files_of_all_services() {
    let response = ask(Fate::Answers, Some("ann")).await;
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &HEAD[0].1));
    assert_eq!(response.headers()["cache-control"], "no-store");
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
    let names: Vec<_> = archive.file_names().map(|name| name.expect("a name").into_owned()).collect();
    let packages = ["auth", "conversation", "messaging", "scheduling"];
    let expected = packages
        .iter()
        .flat_map(|package| ["one.json", "two.ndjson"].map(|name| format!("{package}/{name}")));
    assert_eq!(names, expected.collect::<Vec<_>>());
    for (name, expected) in [("auth/one.json", "{\"a\":1}"), ("scheduling/two.ndjson", "1\n2\n")] {
        let mut text = String::new();
        archive.by_name(name).expect("a file").read_to_string(&mut text).expect("text");
        assert_eq!(text, expected, "{name}");
    }
}

#[tokio::test]
async fn nobody_else_gets_it() {
    for token in [None, Some("bob")] {
        assert_eq!(ask(Fate::Answers, token).await.status(), 401, "{token:?}");
    }
}

#[tokio::test]
async fn without_one_of_the_services_there_is_none() {
    assert_eq!(ask(Fate::IsAway, Some("ann")).await.status(), 503);
}

#[tokio::test]
async fn half_an_archive_is_no_archive() {
    let response = ask(Fate::BreaksOff, Some("ann")).await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "the body breaks off");
}
