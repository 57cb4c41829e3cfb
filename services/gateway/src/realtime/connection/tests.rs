//! One connection's queue.

use chassis::clock::Timestamp;
use futures_util::FutureExt;
use futures_util::task::noop_waker;
use proto::gateway::v1::Pong;
use proto::id::{SessionId, UserId};

use super::*;
use crate::realtime::identity::{Credential, SessionProof, SignedIn};

pub(crate) fn connection(number: u64, user_id: UserId, bounds: Bounds) -> Arc<Connection> {
    let credential = Credential::Token(Arc::from("token"));
    let proof = SessionProof { credential, expires: Timestamp::from_millis(i64::MAX) };
    let who = SignedIn { user_id, session_id: SessionId::generate(), proof };
    Connection::new(number, Some(Arc::new(who.into())), Format::Text, bounds, Waiting::default())
}

pub(crate) fn anonymous(number: u64, bounds: Bounds) -> Arc<Connection> {
    Connection::new(number, None, Format::Text, bounds, Waiting::default())
}

impl Connection {
    pub(crate) fn user_id(&self) -> UserId {
        self.viewer().user_id().expect("a user")
    }
}

fn small() -> Arc<Connection> {
    connection(1, UserId::generate(), Bounds { frames: 4, bytes: 200 })
}

fn pong(id: &str) -> Arc<Frame> {
    Frame::reply(id.to_owned(), Body::Pong(Pong {}))
}

pub(crate) fn next(connection: &Connection) -> Option<Result<Arc<Frame>, End>> {
    match connection.poll_next(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(next) => Some(next),
        Poll::Pending => None,
    }
}

#[test]
fn what_is_pushed_comes_out_in_order() {
    let connection = small();
    assert!(next(&connection).is_none());
    for id in ["1", "2"] {
        connection.push(pong(id));
    }
    let texts =
        std::iter::from_fn(|| next(&connection)).map(|frame| frame.expect("a frame").text().to_string());
    assert_eq!(texts.collect::<Vec<_>>(), [r#"{"id":"1","pong":{}}"#, r#"{"id":"2","pong":{}}"#]);
}

#[test]
fn too_many_frames_end_it_and_nothing_is_left_out_silently() {
    let connection = small();
    for id in ["1", "2", "3", "4", "5"] {
        connection.push(pong(id));
    }
    assert_eq!(next(&connection).expect("an end").expect_err("the end"), End::TooSlow);
    connection.push(pong("6"));
    assert_eq!(next(&connection).expect("an end").expect_err("the end"), End::TooSlow);
    assert_eq!(connection.waiting.0.load(Ordering::Relaxed), 0);
}

#[test]
fn too_many_bytes_end_it_but_one_frame_always_fits() {
    let connection = small();
    connection.push(pong(&"x".repeat(500)));
    assert!(next(&connection).expect("a frame").is_ok());
    connection.push(pong(&"x".repeat(100)));
    connection.push(pong(&"x".repeat(100)));
    assert!(next(&connection).expect("an end").is_err());
}

#[test]
fn signals_are_left_out_when_the_queue_is_half_full() {
    let connection = small();
    for id in ["1", "2", "3", "4", "5"] {
        connection.push_if_quick(&pong(id));
    }
    assert_eq!(std::iter::from_fn(|| next(&connection)).count(), 2);
}

#[test]
fn a_restart_is_announced_after_what_waits() {
    let connection = small();
    connection.push(pong("1"));
    connection.end(End::Restart { retry_after: Duration::from_secs(3) });
    connection.end(End::TooSlow);
    assert_eq!(next(&connection).expect("a frame").expect("pong").kind(), "pong");
    assert_eq!(next(&connection).expect("a frame").expect("closing").kind(), "closing");
    assert!(matches!(next(&connection), Some(Err(End::Restart { .. }))));
}

#[test]
fn a_replay_waits_for_room() {
    let connection = connection(1, UserId::generate(), Bounds { frames: 2, bytes: 10_000 });
    assert_eq!(connection.push_when_room(pong("1")).now_or_never(), Some(true));
    assert_eq!(connection.push_when_room(pong("2")).now_or_never(), Some(true));
    let mut third = Box::pin(connection.push_when_room(pong("3")));
    assert_eq!((&mut third).now_or_never(), None);
    assert!(next(&connection).expect("a frame").is_ok());
    assert!(next(&connection).expect("a frame").is_ok());
    assert_eq!((&mut third).now_or_never(), Some(true));
}
