//! Streams of users behind the middleware, with an auth that says what the test tells it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use prost::Message;
use proto::auth::v1::{CallerInfo, IntrospectRequest, IntrospectResponse, SessionsEnded};
use proto::id::{SessionId, UserId};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::*;
use crate::clock::Clock;
use crate::middleware::LimitsConfig;
use crate::rates::Rates;

const PATH: &str = "/parlor.messaging.v1.SyncService/StreamEvents";

const SOON: Duration = Duration::from_secs(5);

/// The sessions that auth knows.
#[derive(Default)]
struct Auth {
    sessions: Mutex<HashMap<String, CallerInfo>>,
    is_away: std::sync::atomic::AtomicBool,
}

impl Auth {
    fn signs_in(&self, token: &str, user: UserId, expires: Timestamp) -> SessionId {
        let session = SessionId::generate();
        let known = CallerInfo {
            user_id: user.to_string(),
            session_id: session.to_string(),
            kind: UserKind::Registered.into(),
            expire_millis: expires.as_millis(),
        };
        self.sessions.lock().expect("sessions").insert(token.to_owned(), known);
        session
    }

    fn forgets(&self, token: &str) {
        self.sessions.lock().expect("sessions").remove(token);
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        if self.is_away.load(Ordering::SeqCst) {
            return Status::unavailable("away").into_http();
        }
        let asked = request.into_body().collect().await.expect("a request").to_bytes();
        // Five bytes of gRPC come before the message.
        let asked = IntrospectRequest::decode(asked.slice(5..)).expect("a message");
        let caller = self.sessions.lock().expect("sessions").get(&asked.session_token).cloned();
        let message = IntrospectResponse { caller }.encode_to_vec();
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).expect("a length"));
        framed.put_slice(&message);
        let body =
            Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok::<_, Infallible>(ok()))));
        let mut answer = Response::new(Body::new(body));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        answer
    }
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))])
}

/// A service with a stream into which the test puts what it likes.
struct World {
    auth: Arc<Auth>,
    events: Events,
    clock: Clock,
    tasks: Tasks,
    service: Router,
    opened: Arc<AtomicUsize>,
    writers: mpsc::UnboundedReceiver<mpsc::UnboundedSender<Bytes>>,
}

impl World {
    async fn start(per_user: usize) -> Self {
        let (auth, events) = (Arc::new(Auth::default()), Events::local());
        let (clock, tasks) = (Clock::manual(Timestamp::from_millis(1_000_000)), Tasks::default());
        let asked = Arc::clone(&auth);
        let introspect =
            axum::routing::post(move |request: Request<Body>| async move { asked.answer(request).await });
        let to_auth =
            Transport::local(Router::new().route("/parlor.auth.v1.AuthService/Introspect", introspect));
        let credential = ServiceCredential::new("messaging", &Secret::new("hush")).expect("a credential");
        let verifier = Verifier::new(to_auth, Some(credential));
        verifier.forget_ended_sessions(&events, &tasks).await;
        let limits = LimitsConfig { max_streams_per_user: per_user, ..LimitsConfig::default() };
        let streams = Streams::start(&verifier, &events, &clock, &limits, &tasks).await;
        let identity =
            Identity::new(verifier, AcceptedServices::default(), streams, Rates::new(&limits.rates));
        let opened = Arc::new(AtomicUsize::new(0));
        let (open, writers) = mpsc::unbounded_channel();
        let counted = Arc::clone(&opened);
        let stream = axum::routing::post(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let (writer, written) = mpsc::unbounded_channel();
            let _ = open.send(writer);
            let frames =
                UnboundedReceiverStream::new(written).map(|data| Ok::<_, Infallible>(Frame::data(data)));
            std::future::ready(Response::new(Body::new(StreamBody::new(frames))))
        });
        let enforced = axum::middleware::from_fn_with_state(identity, enforce);
        let service = Router::new().route(PATH, stream).layer(enforced);
        Self { auth, events, clock, tasks, service, opened, writers }
    }

    async fn asks(&self, token: &str) -> Response {
        let request = Request::post(PATH).header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).expect("a request");
        self.service.clone().oneshot(request).await.expect("an answer")
    }

    /// Opens a stream; gives what writes into it and what is read from it.
    async fn opens(&mut self, token: &str) -> (mpsc::UnboundedSender<Bytes>, Body) {
        let body = self.asks(token).await.into_body();
        (self.writers.recv().await.expect("a stream"), body)
    }

    fn tells_that_ended(&self, user: UserId, sessions: &[SessionId]) {
        let session_ids = sessions.iter().map(SessionId::to_string).collect();
        let ended = SessionsEnded { user_id: user.to_string(), session_ids };
        self.events.publish(proto::subject::SESSIONS_ENDED, ended.encode_to_vec().into());
    }

    fn later(&self) -> Timestamp {
        self.clock.now().plus(Duration::from_secs(3600))
    }
}

/// The next words of a stream, or the code with which it ended.
async fn next(body: &mut Body) -> Result<String, Code> {
    let frame = tokio::time::timeout(SOON, body.frame()).await.expect("a frame in time");
    let frame = frame.expect("a frame or an end with a status").expect("a frame");
    match frame.into_data() {
        Ok(data) => Ok(String::from_utf8(data.to_vec()).expect("words")),
        Err(frame) => {
            let trailers = frame.into_trailers().expect("trailers");
            let status = Status::from_header_map(&trailers).expect("a status");
            assert_eq!(Fault::of(&status).reason(), "ERROR_REASON_UNAUTHENTICATED");
            Err(status.code())
        }
    }
}

#[tokio::test]
async fn a_stream_shows_nothing_that_comes_after_the_end_of_its_session() {
    let mut world = World::start(10).await;
    let ann = UserId::generate();
    world.auth.signs_in("tablet", ann, world.later());
    for are_all_said_to_have_ended in [false, true] {
        let session = world.auth.signs_in("phone", ann, world.later());
        let (phone, mut phones) = world.opens("phone").await;
        let (tablet, mut tablets) = world.opens("tablet").await;
        for (stream, screen) in [(&phone, &mut phones), (&tablet, &mut tablets)] {
            stream.send("before".into()).expect("a reader");
            assert_eq!(next(screen).await, Ok("before".to_owned()));
        }
        world.auth.forgets("phone");
        world.tells_that_ended(
            ann,
            if are_all_said_to_have_ended { &[] } else { std::slice::from_ref(&session) },
        );
        let _ = (phone.send("after".into()), tablet.send("after".into()));
        assert_eq!(next(&mut phones).await, Err(Code::Unauthenticated));
        // The other session goes on, and what waited while auth was asked is shown.
        assert_eq!(next(&mut tablets).await, Ok("after".to_owned()));
    }
    assert!(world.tasks.stop(SOON).await);
}

#[tokio::test]
async fn a_frame_that_was_made_before_the_doubt_and_not_taken_is_held_too() {
    let mut world = World::start(10).await;
    let ann = UserId::generate();
    world.auth.signs_in("phone", ann, world.later());
    let (writer, mut screen) = world.opens("phone").await;
    world.auth.forgets("phone");
    world.tells_that_ended(ann, &[]);
    writer.send("after".into()).expect("a reader");
    assert_eq!(next(&mut screen).await, Err(Code::Unauthenticated));
    assert!(tokio::time::timeout(SOON, screen.frame()).await.expect("an end").is_none());
    tokio::time::timeout(SOON, writer.closed()).await.expect("what makes the stream is told");
    assert_eq!(
        Status::from_header_map(world.asks("phone").await.headers()).map(|it| it.code()),
        Some(Code::Unauthenticated)
    );
}

#[tokio::test(start_paused = true)]
async fn while_auth_is_away_a_stream_ends_after_the_time_of_its_session() {
    let mut world = World::start(10).await;
    let ann = UserId::generate();
    world.auth.signs_in("phone", ann, world.clock.now().plus(Duration::from_secs(100)));
    let (writer, mut screen) = world.opens("phone").await;
    world.auth.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(70)).await;
    world.clock.advance(Duration::from_secs(102));
    tokio::time::sleep(Duration::from_secs(2)).await;
    writer.send("within the grace".into()).expect("a reader");
    assert_eq!(next(&mut screen).await, Ok("within the grace".to_owned()));
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(next(&mut screen).await, Err(Code::Unauthenticated));
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_is_made_up_for() {
    let mut world = World::start(10).await;
    let ann = UserId::generate();
    world.auth.signs_in("phone", ann, world.later());
    let (_writer, mut screen) = world.opens("phone").await;
    world.auth.forgets("phone");
    let begun = tokio::time::Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(70), screen.frame()).await;
    assert!(end.expect("within a minute").is_some());
    assert!(begun.elapsed() <= Duration::from_secs(61), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_streams() {
    let mut world = World::start(2).await;
    let (ann, bob) = (UserId::generate(), UserId::generate());
    world.auth.signs_in("ann", ann, world.later());
    world.auth.signs_in("anns other", ann, world.later());
    world.auth.signs_in("bob", bob, world.later());
    let first = world.opens("ann").await;
    let _second = world.opens("anns other").await;
    let refused = world.asks("ann").await;
    let fault = Fault::of(&Status::from_header_map(refused.headers()).expect("a status"));
    assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_TOO_MANY_STREAMS"));
    assert_eq!(fault.metadata()["limit"], "2");
    assert_eq!(world.opened.load(Ordering::SeqCst), 2, "it is refused before anything is done for it");
    let _other = world.opens("bob").await;
    drop(first);
    let _third = world.opens("ann").await;
}
