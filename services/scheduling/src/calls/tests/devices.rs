//! Devices that leave, come back or are signed out, and what becomes of their calls.

use chassis::identity::ServiceCredential;
use chassis::transport::as_service;
use proto::auth::v1::SessionsEnded;

use super::*;

impl World {
    /// A call between two devices that are connected with each other.
    async fn talk(&self, ann: Phone, bob: Phone) -> String {
        let id = self.call(ann, bob.user).await.unwrap().call_id;
        self.accept(bob, &id).await.unwrap();
        for phone in [ann, bob] {
            self.connected(phone, &id).await.unwrap();
        }
        id
    }

    /// A gateway says which devices have come and which have left.
    async fn report(&self, came: &[Phone], left: &[Phone]) {
        let devices = |phones: &[Phone]| {
            let device = |phone: &Phone| pb::CallDevice {
                user_id: phone.user.to_string(),
                session_id: phone.session.to_string(),
            };
            phones.iter().map(device).collect()
        };
        let report = pb::ReportDevicesRequest { came: devices(came), left: devices(left) };
        let credential = ServiceCredential::new("gateway", &Secret::new(GATEWAY)).unwrap();
        self.client().report_devices(as_service(report, &credential, None)).await.unwrap();
    }

    /// Auth says that sessions of a user have ended: all of them, when none is named.
    fn signs_out(&self, user: UserId, sessions: &[SessionId]) {
        let session_ids = sessions.iter().map(ToString::to_string).collect();
        let ended = SessionsEnded { user_id: user.to_string(), session_ids };
        self.events.publish(proto::subject::SESSIONS_ENDED, ended.encode_to_vec().into());
    }
}

#[tokio::test]
async fn two_whose_devices_are_gone_are_free_after_the_connect_timeout() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    let (mut to_ann, mut to_bob) = (world.listen(ann.user).await, world.listen(bob.user).await);
    let id = world.talk(ann, bob).await;
    world.report(&[], &[ann, bob, Phone::of(ann.user), world.phone()]).await;
    assert_eq!(to_ann.missed().await, ann.session.to_string());
    assert_eq!(to_bob.missed().await, bob.session.to_string());
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Accepted);
    assert_eq!(world.call(cem, ann.user).await.unwrap().state(), State::Busy);

    world.clock.advance(60 * SECOND);
    assert_eq!(to_bob.becomes(State::Ended).await.call_id, id);
    for user in [ann.user, bob.user] {
        let rings = world.call(cem, user).await.unwrap();
        assert_eq!(rings.state(), State::Ringing);
        world.end(cem, &rings.call_id).await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_comes_back_in_time_goes_on_talking() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let id = world.talk(ann, bob).await;
    world.report(&[], &[bob]).await;
    world.clock.advance(59 * SECOND);
    world.report(&[bob], &[]).await;
    world.clock.advance(600 * SECOND);
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Accepted);
    // A report of devices that are in no call changes nothing.
    world.report(&[world.phone()], &[Phone::of(bob.user)]).await;
    world.clock.advance(600 * SECOND);
    assert_eq!(world.end(bob, &id).await.unwrap().state(), State::Ended);
}

#[tokio::test]
async fn a_call_of_a_session_that_ends_ends_at_once() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let mut to_bob = world.listen(bob.user).await;
    let id = world.talk(ann, bob).await;
    // Another device of the same person goes on.
    world.signs_out(ann.user, &[SessionId::generate()]);
    world.signs_out(ann.user, &[ann.session]);
    let ended = to_bob.becomes(State::Ended).await;
    assert_eq!((ended.call_id, ended.ended_by_user_id), (id, ann.user.to_string()));

    let id = world.call(ann, bob.user).await.unwrap().call_id;
    world.signs_out(bob.user, &[bob.session]);
    world.signs_out(ann.user, &[ann.session]);
    assert_eq!(to_bob.becomes(State::Cancelled).await.call_id, id);
    // Of one who has no session left nothing can be answered.
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    world.signs_out(bob.user, &[]);
    assert_eq!(to_bob.becomes(State::Missed).await.call_id, id);
}

#[tokio::test]
async fn a_device_that_follows_by_grpc_is_there_while_it_does() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let mut to_ann = world.listen(ann.user).await;
    let id = world.talk(ann, bob).await;
    let stream = world.client().stream_calls(ann.asks(pb::StreamCallsRequest {})).await.unwrap().into_inner();
    drop(stream);
    assert_eq!(to_ann.missed().await, ann.session.to_string());
    // Another gateway says that it has left: the stream that is open says that it has not.
    let mut stream =
        world.client().stream_calls(ann.asks(pb::StreamCallsRequest {})).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    world.report(&[], &[ann]).await;
    let store = Store::new(world.database.clone(), world.clock.clone());
    let call_id = CallId::parse(&id).unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    while store.call(call_id).await.unwrap().unwrap().away.until().is_some() {
        assert!(tokio::time::Instant::now() < end, "it is still missed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.clock.advance(120 * SECOND);
    assert_eq!(world.get(bob, &id).await.unwrap().state(), State::Accepted);
}
