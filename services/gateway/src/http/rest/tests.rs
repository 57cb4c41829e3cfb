//! REST from the outside: HTTP in, and gRPC services of the tests behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::transport::Transport;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use insta::assert_snapshot;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use proto::auth::v1::user_service_server::{UserService, UserServiceServer};
use proto::auth::v1::{self as auth, User};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::config::{Config, RatesConfig};
use crate::http::middleware;
use crate::http::middleware::client_ip::Peer;
use crate::state::Gateway;
use crate::upstream::clients::Clients;

const ID: &str = "01937b6e-7c4a-7d3b-9f00-0242ac120002";

/// The requests that the services have received, in order: rpc, request as JSON, headers.
type Seen = Arc<Mutex<Vec<(String, String, HeaderMap)>>>;

/// A gateway in front of services of a test.
struct World {
    router: Router,
    seen: Seen,
}

impl World {
    /// In front of services that answer everything with an empty message, and know the token `ann`.
    fn new() -> Self {
        Self::answering(|_| Ok(()))
    }

    /// In front of services that fail when this does.
    fn answering(
        answer: impl Fn(&MethodDescriptor) -> Result<(), Status> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::configured(Config::default(), answer)
    }

    fn configured(
        config: Config,
        answer: impl Fn(&MethodDescriptor) -> Result<(), Status> + Clone + Send + Sync + 'static,
    ) -> Self {
        let seen = Seen::default();
        let router = Router::new().fallback({
            let seen = seen.clone();
            move |request| answered(seen.clone(), answer.clone(), request)
        });
        Self { router: gateway(config, Transport::local(router)), seen }
    }

    /// In front of one service made of the generated code.
    fn of_users(users: impl UserService) -> Self {
        let routes = Routes::new(UserServiceServer::new(users)).into_axum_router();
        Self { router: gateway(Config::default(), Transport::local(routes)), seen: Seen::default() }
    }

    async fn send(&self, request: Request) -> Response {
        let mut request = request;
        let address = SocketAddr::from(([192, 0, 2, 7], 4711));
        request.extensions_mut().insert(Peer(address));
        let answer: Result<Response, Infallible> = self.router.clone().oneshot(request).await;
        answer.unwrap_or_else(|never| match never {})
    }

    /// Sends as Ann, with a JSON body when there is one. Says the status and the body.
    async fn ask(&self, verb: &str, path: &str, body: &str) -> String {
        let mut request =
            Request::builder().method(verb).uri(path).header(header::AUTHORIZATION, "Bearer ann");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        text(self.send(request.body(Body::from(body.to_owned())).expect("a request")).await).await
    }

    /// Returns the rpc and the request that the service received, after a request that succeeded.
    async fn arrives(&self, verb: &str, path: &str, body: &str) -> String {
        self.seen.lock().expect("seen").clear();
        let answer = self.ask(verb, path, body).await;
        assert!(answer.starts_with("200 "), "{answer}");
        let seen = self.seen.lock().expect("seen");
        let (rpc, request, _) = seen.last().expect("a request");
        format!("{rpc} {request}")
    }

    /// The field and the rule of a request that was refused with 400 and did not get through.
    async fn refused(&self, verb: &str, path: &str, body: &str) -> String {
        self.seen.lock().expect("seen").clear();
        let answer = self.ask(verb, path, body).await;
        let json = answer.strip_prefix("400 ").unwrap_or_else(|| panic!("{answer}"));
        assert!(
            !self.seen.lock().expect("seen").iter().any(|(rpc, ..)| !rpc.ends_with("Introspect")),
            "got through"
        );
        let error: serde_json::Value = serde_json::from_str(json).expect("json");
        error["message"].as_str().expect("a message").to_owned()
    }
}

fn gateway(config: Config, services: Transport) -> Router {
    let credential =
        ServiceCredential::new("gateway", &Secret::new("a secret of the tests")).expect("a credential");
    let clients = Clients::new(
        services.clone(),
        services.clone(),
        services.clone(),
        services.clone(),
        credential.clone(),
    );
    let config = config.under(Profile::Production).expect("a config");
    let gateway = Gateway::new(
        config,
        clients,
        Verifier::new(services, Some(credential)),
        Events::local(),
        Clock::system(),
    );
    let routes = crate::http::router(Profile::Development).expect("routes");
    middleware::stack(gateway.config(), gateway.upstream(), routes.with_state(gateway.clone()))
}

async fn text(response: Response) -> String {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    format!("{status} {}", String::from_utf8_lossy(&body))
}

/// Answers any rpc, and remembers it.
async fn answered(
    seen: Seen,
    answer: impl Fn(&MethodDescriptor) -> Result<(), Status>,
    request: Request,
) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path()[1..].to_owned();
    let (service, method) = name.split_once('/').expect("an rpc");
    let service = proto::pool().get_service_by_name(service).expect("a service");
    let rpc = service.methods().find(|rpc| rpc.name() == method).expect("an rpc");

    let frame = body.collect().await.expect("a body").to_bytes();
    let message = DynamicMessage::decode(rpc.input(), frame.slice(5..)).expect("a message");
    let mut json = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &SerializeOptions::new())
        .expect("json");
    let json = String::from_utf8(json).expect("text");

    let mut output = DynamicMessage::new(rpc.output());
    if method == "Introspect" && json.contains("\"ann\"") {
        let caller =
            auth::CallerInfo { user_id: ID.to_owned(), session_id: ID.to_owned(), kind: 1, expire_millis: 0 };
        output.transcode_from(&auth::IntrospectResponse { caller: Some(caller) }).expect("a caller");
    }
    seen.lock().expect("seen").push((method.to_owned(), json, parts.headers));
    match answer(&rpc) {
        Ok(()) => grpc(&output.encode_to_vec()),
        Err(status) => status.into_http(),
    }
}

fn grpc(message: &[u8]) -> http::Response<Body> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a length"));
    frame.put_slice(message);
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[tokio::test]
async fn what_is_in_the_path_arrives() {
    let world = World::new();
    assert_snapshot!(world.arrives("GET", &format!("/v1/users/{ID}"), "").await, @r#"GetUser {"userId":"01937b6e-7c4a-7d3b-9f00-0242ac120002"}"#);
    assert_snapshot!(world.arrives("GET", "/v1/users/a%2Fb%20%C3%A4", "").await, @r#"GetUser {"userId":"a/b ä"}"#);
    assert_snapshot!(world.arrives("DELETE", "/v1/conversations/c/messages/m", "").await, @r#"DeleteMessage {"conversationId":"c","messageId":"m"}"#);
    assert_snapshot!(world.arrives("PUT", "/v1/conversations/c/members/u/role", r#"{"role": "MEMBER_ROLE_MUTED"}"#).await, @r#"SetMemberRole {"conversationId":"c","userId":"u","role":"MEMBER_ROLE_MUTED"}"#);
}

#[tokio::test]
async fn what_is_in_the_query_arrives() {
    let world = World::new();
    let path = "/v1/conversations/c/messages";
    assert_snapshot!(world.arrives("GET", &format!("{path}?pageSize=3&order=ORDER_OLDEST_FIRST&afterSequence=9007199254740993"), "").await, @r#"ListMessages {"conversationId":"c","pageSize":3,"order":"ORDER_OLDEST_FIRST","afterSequence":"9007199254740993"}"#);
    assert_snapshot!(world.arrives("GET", &format!("{path}?page_size=3&order=2&after_sequence=7&page_token=a%2Bb+c"), "").await, @r#"ListMessages {"conversationId":"c","pageSize":3,"pageToken":"a+b c","order":"ORDER_OLDEST_FIRST","afterSequence":"7"}"#);
    assert_snapshot!(world.arrives("GET", "/v1/users?keyword=a&kind=USER_KIND_GUEST", "").await, @r#"ListUsers {"keyword":"a","kind":"USER_KIND_GUEST"}"#);
    assert_snapshot!(world.arrives("GET", "/v1/users?", "").await, @"ListUsers {}");
}

#[tokio::test]
async fn what_is_in_the_body_arrives() {
    let world = World::new();
    assert_snapshot!(world.arrives("PATCH", "/v1/me", r#"{"user": {"displayName": "Ann"}, "updateMask": "displayName,pictureUrl"}"#).await, @r#"UpdateUser {"user":{"displayName":"Ann"},"updateMask":"displayName,pictureUrl"}"#);
    assert_snapshot!(world.arrives("PATCH", "/v1/conversations/c", r#"{"conversation": {"slow_mode": "1.5s"}, "update_mask": "slowMode"}"#).await, @r#"UpdateConversation {"conversationId":"c","conversation":{"slowMode":"1.500s"},"updateMask":"slowMode"}"#);
    assert_snapshot!(world.arrives("POST", "/v1/conversations/c/scheduled-messages", r#"{"content": {"text": "hi"}, "sendTime": "2030-01-01T10:00:00+01:00"}"#).await, @r#"ScheduleMessage {"conversationId":"c","content":{"text":"hi"},"sendTime":"2030-01-01T09:00:00Z"}"#);
    assert_snapshot!(world.arrives("POST", "/v1/users/batch", r#"{"userIds": ["a", "b"]}"#).await, @r#"BatchGetUsers {"userIds":["a","b"]}"#);
    assert_snapshot!(world.arrives("POST", "/v1/conversations/c/join", "").await, @r#"JoinConversation {"conversationId":"c"}"#);
    assert_snapshot!(world.arrives("POST", "/v1/conversations/c/join", "{}").await, @r#"JoinConversation {"conversationId":"c"}"#);
}

#[tokio::test]
async fn both_ways_lead_to_the_same_rpc() {
    let world = World::new();
    assert_snapshot!(world.arrives("POST", "/v1/conversations/c/messages", r#"{"content": {"text": "hi"}}"#).await, @r#"SendMessage {"conversationId":"c","content":{"text":"hi"}}"#);
    assert_snapshot!(world.arrives("POST", "/v1/messages", r#"{"userId": "u", "content": {"text": "hi"}}"#).await, @r#"SendMessage {"userId":"u","content":{"text":"hi"}}"#);
    assert_snapshot!(world.arrives("POST", "/v1/messages", r#"{"userIds": {"userIds": ["u", "v"]}, "content": {"text": "hi"}}"#).await, @r#"SendMessage {"userIds":{"userIds":["u","v"]},"content":{"text":"hi"}}"#);
}

#[tokio::test]
async fn path_and_body_must_agree() {
    let world = World::new();
    let path = "/v1/conversations/c/messages";
    assert_snapshot!(world.arrives("POST", path, r#"{"conversationId": "c"}"#).await, @r#"SendMessage {"conversationId":"c"}"#);
    assert_snapshot!(world.refused("POST", path, r#"{"conversationId": "d"}"#).await, @"conversation_id says something else than the path");
    assert_snapshot!(world.refused("POST", path, r#"{"userId": "u"}"#).await, @"conversation_id cannot be given together with user_id");
    assert_snapshot!(world.refused("GET", &format!("{path}?conversationId=d"), "").await, @"conversation_id says something else than the path");
}

#[tokio::test]
async fn a_query_that_does_not_fit_is_refused() {
    let world = World::new();
    let path = "/v1/conversations/c/messages";
    assert_snapshot!(world.refused("GET", &format!("{path}?colour=red"), "").await, @"colour is not a field of this request");
    assert_snapshot!(world.refused("GET", &format!("{path}?pageSize=many"), "").await, @"page_size must be a whole number of 32 bits");
    assert_snapshot!(world.refused("GET", &format!("{path}?pageSize=3000000000"), "").await, @"page_size must be a whole number of 32 bits");
    assert_snapshot!(world.refused("GET", &format!("{path}?pageSize=1&page_size=2"), "").await, @"page_size is given more than once");
    assert_snapshot!(world.refused("GET", &format!("{path}?afterSequence=1.5"), "").await, @"after_sequence must be a whole number of 64 bits");
    assert_snapshot!(world.refused("GET", &format!("{path}?order=SIDEWAYS"), "").await, @"order must be one of ORDER_UNSPECIFIED, ORDER_NEWEST_FIRST, ORDER_OLDEST_FIRST");
    assert_snapshot!(world.refused("GET", &format!("{path}?=x"), "").await, @"the query has a value without a name");
    assert_snapshot!(world.refused("POST", "/v1/messages?userId=u", r#"{"content": {"text": "hi"}}"#).await, @"user_id stands in the body, not in the query");
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused() {
    let world = World::new();
    let path = "/v1/messages";
    assert_snapshot!(world.refused("POST", path, "{").await, @"the body cannot be read as JSON: EOF while parsing an object at line 1 column 1");
    assert_snapshot!(world.refused("POST", path, "hello").await, @"the body cannot be read as JSON: expected value at line 1 column 1");
    assert_snapshot!(world.refused("POST", path, "[]").await, @"the body cannot be read as JSON: it must be an object");
    assert_snapshot!(world.refused("POST", path, r#"{"content": {"text": 5}}"#).await, @"content.text must be a string");
    assert_snapshot!(world.refused("POST", path, r#"{"content": {"colour": "red"}}"#).await, @"content.colour is not a field of this request");
    assert_snapshot!(world.refused("POST", path, &format!(r#"{{"content": {}{}}}"#, "[".repeat(40), "]".repeat(40))).await, @"the body cannot be read as JSON: it is nested deeper than 32 levels");
    let many = vec!["\"u\""; 1_001].join(",");
    assert_snapshot!(world.refused("POST", "/v1/users/batch", &format!(r#"{{"userIds": [{many}]}}"#)).await, @"the body cannot be read as JSON: it has a list of more than 1000 items");
}

#[tokio::test]
async fn an_answer_is_proto_json() {
    struct Users;

    #[tonic::async_trait]
    impl UserService for Users {
        async fn get_me(
            &self,
            request: tonic::Request<auth::GetMeRequest>,
        ) -> Result<tonic::Response<auth::GetMeResponse>, Status> {
            let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            let create_time = Some(prost_types::Timestamp { seconds: 1_795_168_800, nanos: 5_000_000 });
            let user = User {
                user_id: ID.to_owned(),
                kind: auth::UserKind::Registered.into(),
                username: authorization.unwrap_or_default().to_owned(),
                create_time,
                ..User::default()
            };
            Ok(tonic::Response::new(auth::GetMeResponse { user: Some(user) }))
        }

        async fn get_user(
            &self,
            request: tonic::Request<auth::GetUserRequest>,
        ) -> Result<tonic::Response<auth::GetUserResponse>, Status> {
            let fault =
                Fault::new(Code::NotFound, "ERROR_REASON_USER_NOT_FOUND").message("there is no such user");
            Err(fault.with("user_id", request.into_inner().user_id).into())
        }

        async fn batch_get_users(
            &self,
            _: tonic::Request<auth::BatchGetUsersRequest>,
        ) -> Result<tonic::Response<auth::BatchGetUsersResponse>, Status> {
            Ok(tonic::Response::new(auth::BatchGetUsersResponse::default()))
        }

        async fn list_users(
            &self,
            _: tonic::Request<auth::ListUsersRequest>,
        ) -> Result<tonic::Response<auth::ListUsersResponse>, Status> {
            panic!("a bug")
        }

        async fn update_user(
            &self,
            _: tonic::Request<auth::UpdateUserRequest>,
        ) -> Result<tonic::Response<auth::UpdateUserResponse>, Status> {
            std::future::pending().await
        }

        async fn delete_user(
            &self,
            _: tonic::Request<auth::DeleteUserRequest>,
        ) -> Result<tonic::Response<auth::DeleteUserResponse>, Status> {
            Err(Status::internal("DELETE FROM users"))
        }

        async fn register_device_key(
            &self,
            _: tonic::Request<auth::RegisterDeviceKeyRequest>,
        ) -> Result<tonic::Response<auth::RegisterDeviceKeyResponse>, Status> {
            Ok(tonic::Response::new(auth::RegisterDeviceKeyResponse::default()))
        }

        async fn list_device_keys(
            &self,
            _: tonic::Request<auth::ListDeviceKeysRequest>,
        ) -> Result<tonic::Response<auth::ListDeviceKeysResponse>, Status> {
            Ok(tonic::Response::new(auth::ListDeviceKeysResponse::default()))
        }

        async fn revoke_device_key(
            &self,
            _: tonic::Request<auth::RevokeDeviceKeyRequest>,
        ) -> Result<tonic::Response<auth::RevokeDeviceKeyResponse>, Status> {
            Ok(tonic::Response::new(auth::RevokeDeviceKeyResponse::default()))
        }
    }

    let world = World::of_users(Users);
    // Fields that are unset and cannot be absent are there, however many there come to be.
    let answer = world.ask("GET", "/v1/me", "").await;
    let (first, rest) = answer.split_once(",\"timeZone\":\"\"").expect("a field that is unset");
    assert_snapshot!(first, @r#"200 {"user":{"userId":"01937b6e-7c4a-7d3b-9f00-0242ac120002","kind":"USER_KIND_REGISTERED","username":"Bearer ann","displayName":"","email":"","bio":"","pictureUrl":"","createTime":"2026-11-20T10:00:00.005Z""#);
    assert!(rest.ends_with("}}") && !rest.contains("deleteTime"), "{rest}");
    assert_snapshot!(world.ask("GET", &format!("/v1/users/{ID}"), "").await, @r#"404 {"status":404,"code":"NOT_FOUND","reason":"ERROR_REASON_USER_NOT_FOUND","message":"there is no such user","fields":[],"metadata":{"user_id":"01937b6e-7c4a-7d3b-9f00-0242ac120002"}}"#);
    assert_snapshot!(world.ask("GET", "/v1/users/ann", "").await, @r#"400 {"status":400,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_INVALID_FIELD","message":"user_id must be a UUID","fields":[{"field":"user_id","rule":"must be a UUID"}],"metadata":{}}"#);
    assert_snapshot!(world.ask("POST", "/v1/users/batch", r#"{"userIds": ["ann"]}"#).await, @r#"400 {"status":400,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_INVALID_FIELD","message":"user_ids[0] must be a UUID","fields":[{"field":"user_ids[0]","rule":"must be a UUID"}],"metadata":{}}"#);
    assert_snapshot!(world.ask("POST", "/v1/users/batch", &format!(r#"{{"userIds": ["{ID}"]}}"#)).await, @r#"200 {"users":[]}"#);
    assert_snapshot!(world.ask("POST", "/v1/me/delete", "{}").await, @r#"500 {"status":500,"code":"INTERNAL","reason":"ERROR_REASON_INTERNAL","message":"something went wrong on our side","fields":[],"metadata":{}}"#);
    assert_snapshot!(world.ask("GET", "/v1/users", "").await, @r#"500 {"status":500,"code":"INTERNAL","reason":"ERROR_REASON_INTERNAL","message":"something went wrong on our side","fields":[],"metadata":{}}"#);
    assert_snapshot!(world.ask("GET", "/v1/sessions", "").await, @r#"501 {"status":501,"code":"UNIMPLEMENTED","reason":"ERROR_REASON_UNSPECIFIED","message":"Operation is not implemented or not supported","fields":[],"metadata":{}}"#);

    let update = r#"{"user": {}, "updateMask": "bio"}"#;
    let request = Request::builder()
        .method(Method::PATCH)
        .uri("/v1/me")
        .header(header::AUTHORIZATION, "Bearer ann")
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header("grpc-timeout", "50m");
    let response = world.send(request.body(Body::from(update)).expect("a request")).await;
    assert_snapshot!(text(response).await, @r#"504 {"status":504,"code":"DEADLINE_EXCEEDED","reason":"ERROR_REASON_DEADLINE_EXCEEDED","message":"it took too long; whether it was done is not known","fields":[],"metadata":{}}"#);
}

#[tokio::test]
async fn every_code_has_its_status() {
    let codes = [
        (Code::InvalidArgument, 400),
        (Code::Unauthenticated, 401),
        (Code::PermissionDenied, 403),
        (Code::NotFound, 404),
        (Code::AlreadyExists, 409),
        (Code::Aborted, 409),
        (Code::FailedPrecondition, 409),
        (Code::ResourceExhausted, 429),
        (Code::Unavailable, 503),
        (Code::DeadlineExceeded, 504),
        (Code::Internal, 500),
    ];
    for (code, status) in codes {
        let world =
            World::answering(move |_| Err(Fault::new(code, "ERROR_REASON_X").message("because").into()));
        let answer = world.ask("GET", "/v1/me", "").await;
        assert!(answer.starts_with(&format!("{status} ")), "{code:?}: {answer}");
        assert_eq!(answer.contains("because"), code != Code::Internal, "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_reached_is_tried_again_later() {
    let nobody = Transport::remote(&["http://127.0.0.1:1".to_owned()], None).expect("a transport");
    let world = World { router: gateway(Config::default(), nobody), seen: Seen::default() };
    let request = Request::builder().uri("/v1/me").header(header::AUTHORIZATION, "Bearer ann");
    let response = world.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert_snapshot!(text(response).await, @r#"503 {"status":503,"code":"UNAVAILABLE","reason":"ERROR_REASON_UNAVAILABLE","message":"the service is not available at the moment","fields":[],"retryAfter":"1s","metadata":{}}"#);
}

#[tokio::test]
async fn http_is_spoken_properly() {
    let world = World::new();
    let send = async |verb: &str, path: &str, kind: Option<&'static str>, body: Vec<u8>| {
        let mut request = Request::builder().method(verb).uri(path);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        world.send(request.body(Body::from(body)).expect("a request")).await
    };

    let response = send("GET", "/v2/me", None, Vec::new()).await;
    assert_eq!(
        (response.status(), response.headers()[header::CONTENT_TYPE].as_bytes()),
        (StatusCode::NOT_FOUND, &b"application/problem+json"[..])
    );
    let response = send("POST", "/v1/me", None, Vec::new()).await;
    assert_eq!(response.headers()[header::ALLOW], "GET, PATCH, HEAD, OPTIONS");
    assert_snapshot!(text(response).await, @r#"405 {"status":405,"code":"UNIMPLEMENTED","reason":"ERROR_REASON_METHOD_NOT_ALLOWED","message":"this path takes GET, PATCH, HEAD, OPTIONS","fields":[],"metadata":{"allow":"GET, PATCH, HEAD, OPTIONS"}}"#);
    let response = send("OPTIONS", "/v1/inbox", None, Vec::new()).await;
    assert_eq!(
        (response.status(), &response.headers()[header::ALLOW]),
        (StatusCode::NO_CONTENT, &HeaderValue::from_static("GET, HEAD, OPTIONS"))
    );
    assert!(world.ask("HEAD", "/v1/me", "").await.starts_with("200 "));
    assert_eq!(send("PUT", "/openapi.json", None, Vec::new()).await.status(), StatusCode::METHOD_NOT_ALLOWED);

    let login = "/v1/auth/login";
    assert_snapshot!(text(send("POST", login, Some("text/plain"), b"{}".to_vec()).await).await, @r#"415 {"status":415,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_UNSUPPORTED_MEDIA_TYPE","message":"send the body as `content-type: application/json`","fields":[],"metadata":{}}"#);
    assert_eq!(send("POST", login, None, b"{}".to_vec()).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(
        send("POST", login, Some("application/merge-patch+json"), b"{}".to_vec()).await.status(),
        StatusCode::OK
    );
    let fits = format!("{{{}}}", " ".repeat(65_534)).into_bytes();
    assert_eq!(send("POST", login, Some("application/json"), fits).await.status(), StatusCode::OK);
    let large = format!("{{{}}}", " ".repeat(65_535)).into_bytes();
    assert_snapshot!(text(send("POST", login, Some("application/json"), large).await).await, @r#"413 {"status":413,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_BODY_TOO_LARGE","message":"the body has more than 65536 bytes","fields":[],"metadata":{"max_bytes":"65536"}}"#);
    assert!(world.ask("GET", "/v1/users/%FF", "").await.starts_with("400 "));
}

#[tokio::test]
async fn a_body_without_an_announced_length_has_an_end_too() {
    let world = World::new();
    let chunks = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1024])));
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/auth/login")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(chunks))
        .expect("a request");
    assert_eq!(world.send(request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_what_is_the_clients_goes_on() {
    let world = World::new();
    let request = Request::builder()
        .uri("/v1/me")
        .header(header::AUTHORIZATION, "bearer ann")
        .header("grpc-timeout", "2S")
        .header("x-parlor-on-behalf-of", ID)
        .header("x-user-id", ID)
        .header(header::COOKIE, "a=b");
    world.send(request.body(Body::empty()).expect("a request")).await;
    let request = Request::builder()
        .uri("/v1/me")
        .header(header::AUTHORIZATION, "Service gateway:a secret of the tests");
    let response = world.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "a service does not come this way");

    let seen = world.seen.lock().expect("seen");
    let asked: Vec<_> = seen.iter().filter(|(rpc, ..)| rpc != "Introspect").collect();
    let headers = &asked[0].2;
    assert_eq!(headers[header::AUTHORIZATION], "Bearer ann");
    assert_eq!(headers["grpc-timeout"], "2000000u");
    assert!(headers.contains_key("traceparent"));
    for name in ["x-parlor-on-behalf-of", "x-user-id", "cookie"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn a_trace_goes_on() {
    let world = World::new();
    let request = Request::builder()
        .method("POST")
        .uri("/v1/auth/login")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    world.send(request.body(Body::empty()).expect("a request")).await;
    let seen = world.seen.lock().expect("seen");
    assert!(seen[0].2["traceparent"].to_str().expect("text").contains("0af7651916cd43dd8448eb211c80319c"));
}

#[tokio::test]
async fn pages_of_the_list_may_read_answers_and_errors() {
    let config = Config { allowed_origins: vec!["https://chat.example".to_owned()], ..Config::default() };
    let world = World::configured(config, |_| Ok(()));
    let from = async |verb: &str, path: &str, origin: &'static str| {
        let request = Request::builder().method(verb).uri(path).header(header::ORIGIN, origin);
        let request = request
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
        world.send(request.body(Body::empty()).expect("a request")).await
    };
    for (verb, path) in [
        ("GET", "/v1/me"),
        ("GET", "/nowhere"),
        ("PUT", "/v1/me"),
        ("OPTIONS", "/v1/me"),
        ("OPTIONS", "/nowhere"),
    ] {
        let response = from(verb, path, "https://chat.example").await;
        assert_eq!(
            response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
            "https://chat.example",
            "{verb} {path}"
        );
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert!(response.headers().get_all(header::VARY).iter().any(|vary| vary == "origin"));
        let response = from(verb, path, "https://evil.example").await;
        assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{verb} {path}");
        assert!(response.headers().get_all(header::VARY).iter().any(|vary| vary == "origin"));
    }
    let response = from("OPTIONS", "/v1/me", "https://chat.example").await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
    assert_eq!(
        response.headers()[header::ACCESS_CONTROL_ALLOW_METHODS],
        "GET, HEAD, POST, PUT, PATCH, DELETE"
    );
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let world = World::new();
    for path in ["/v1/me", "/nowhere"] {
        let response = world.send(Request::builder().uri(path).body(Body::empty()).expect("a request")).await;
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(
            response.headers()[header::CONTENT_SECURITY_POLICY],
            "default-src 'none'; frame-ancestors 'none'"
        );
    }
}

#[tokio::test]
async fn strangers_are_slowed_down() {
    let rates = RatesConfig { anonymous_burst_per_address: 3, anonymous_per_address_per_second: 1 };
    let world = World::configured(Config { rates, ..Config::default() }, |rpc| match rpc.name() {
        "GetMe" => Err(chassis::caller::unauthenticated().into()),
        _ => Ok(()),
    });
    let status = async |path: &str, token: Option<&str>| {
        let mut request = Request::builder().method(if path == "/v1/me" { "GET" } else { "POST" }).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        world.send(request.body(Body::empty()).expect("a request")).await.status().as_u16()
    };
    assert_eq!(status("/v1/auth/register", None).await, 200);
    assert_eq!(status("/v1/auth/register", None).await, 200);
    assert_eq!(status("/v1/me", Some("guessed")).await, 401, "a token that is none counts");
    assert_eq!(status("/v1/me", Some("again")).await, 429);
    assert_eq!(status("/v1/auth/login", None).await, 429);
    assert_eq!(status("/v1/auth/logout", Some("ann")).await, 200, "who is signed in is not slowed down");
}

#[tokio::test]
async fn the_body_of_a_stranger_is_not_waited_for() {
    let world = World::new();
    for token in [None, Some("guessed")] {
        let mut request = Request::builder()
            .method("POST")
            .uri("/v1/messages")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
        let answer = world.send(request.body(body).expect("a request"));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), answer).await;
        assert_eq!(answer.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn strangers_are_slowed_down_on_every_route() {
    const PATHS: [&str; 5] = ["/", "/docs/", "/docs/swagger-ui.css", "/openapi.json", "/nowhere"];
    let rates =
        RatesConfig { anonymous_burst_per_address: PATHS.len() as u32, anonymous_per_address_per_second: 1 };
    let world = World::configured(Config { rates, ..Config::default() }, |_| Ok(()));
    let status = async |path: &str, token: Option<&str>| {
        let mut request = Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = world.send(request.body(Body::empty()).expect("a request")).await;
        let waits = response.headers().contains_key(header::RETRY_AFTER);
        (response.status().as_u16(), waits)
    };
    for path in PATHS {
        assert_ne!(status(path, None).await.0, 429, "{path}");
    }
    for path in PATHS {
        assert_eq!(status(path, None).await, (429, true), "{path}");
        assert_eq!(status(path, Some("guessed")).await, (429, true), "{path}");
        assert_ne!(status(path, Some("ann")).await.0, 429, "{path}");
    }
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let world = World::configured(Config { max_requests: 0, ..Config::default() }, |_| Ok(()));
    let answer = world.ask("GET", "/v1/me", "").await;
    assert!(answer.starts_with("503 ") && answer.contains("ERROR_REASON_OVERLOADED"), "{answer}");
}
