//! Views on the logs, of users and of the anonymous viewer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::ConversationId;
use proto::messaging::v1::{event, user_event};
use tonic::Code;

use super::world::{A_WHILE, Person, SOON, World};
use crate::realtime::Realtime;
use crate::realtime::connection::{self, End};
use crate::realtime::frame::{Format, Frame};
use crate::realtime::identity::Viewer;
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::session_watch::sign_in;
use crate::realtime::subscriber::Subscriber;
use crate::realtime::topic::Key;

fn slot(realtime: &Realtime) -> ConnectionSlot {
    let address = IpAddr::from([192, 0, 2, 1]);
    realtime.registry().admit(address, &realtime.config().sockets).expect("a slot")
}

async fn of_user(realtime: &Realtime, slot: &ConnectionSlot, person: &Person) -> Subscriber {
    let who = sign_in(realtime.upstream().clients(), &person.token).await.expect("a session");
    Subscriber::of_user(realtime, slot, who, Format::Typed).await.expect("a view")
}

fn anonymous(realtime: &Realtime, slot: &ConnectionSlot) -> Subscriber {
    Subscriber::anonymous(realtime, slot, Format::Typed).expect("a view")
}

async fn next(subscriber: &mut Subscriber) -> Arc<Frame> {
    tokio::time::timeout(SOON, subscriber.next()).await.expect("a frame soon").expect("a frame")
}

/// The sequence of the next event.
async fn sequence(subscriber: &mut Subscriber) -> i64 {
    match next(subscriber).await.body() {
        Some(Body::Event(event)) => event.sequence,
        other => panic!("not an event: {other:?}"),
    }
}

async fn hears_nothing(subscriber: &mut Subscriber) {
    if let Ok(frame) = tokio::time::timeout(A_WHILE, subscriber.next()).await {
        panic!("something came: {frame:?}");
    }
}

/// A conversation that everybody may read, with two events in it.
fn public_conversation(world: &World, owner: &Person) -> ConversationId {
    let conversation = world.backend.conversation(&[owner.id]);
    world.backend.set_public_read(conversation, true);
    conversation
}

#[tokio::test]
async fn the_anonymous_viewer_follows_what_everybody_may_read() {
    let world = World::start().await;
    let ann = world.person();
    let (realtime, _tasks) = world.realtime(|_| {});
    let (public, private) = (public_conversation(&world, &ann), world.backend.conversation(&[ann.id]));
    let slot = slot(&realtime);
    let mut viewer = anonymous(&realtime, &slot);
    assert_eq!(viewer.handle().viewer(), Viewer::Anonymous);
    assert!(viewer.handle().follow_all().is_err() && viewer.handle().follow_own_log().is_err());

    viewer.handle().follow(public).await.expect("it may be read");
    let refused = viewer.handle().follow(private).await.expect_err("it may not be read");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(
        !viewer.handle().connection().followed().contains(&Key::Conversation(private)),
        "refused, so not followed"
    );

    assert!(viewer.next().now_or_never().is_none(), "what happened before is not sent");
    world.backend.says(private, ann.id, "secret");
    world.backend.says(public, ann.id, "hello");
    let frame = next(&mut viewer).await;
    let Some(Body::Event(event)) = frame.body() else { panic!("{frame:?}") };
    assert_eq!(event.sequence, 3);
    assert!(matches!(&event.payload, Some(event::Payload::MessageCreated(_))));

    viewer.handle().unfollow(public);
    world.backend.says(public, ann.id, "unheard");
    hears_nothing(&mut viewer).await;
}

#[tokio::test]
async fn the_anonymous_viewer_is_out_when_a_conversation_is_no_longer_public() {
    let world = World::start().await;
    let ann = world.person();
    let (realtime, _tasks) = world.realtime(|_| {});
    let public = public_conversation(&world, &ann);
    let slot = slot(&realtime);
    let (mut viewer, mut member) = (anonymous(&realtime, &slot), of_user(&realtime, &slot, &ann).await);
    for view in [&viewer, &member] {
        view.handle().follow(public).await.expect("it may be read");
    }
    assert!(viewer.next().now_or_never().is_none() && member.next().now_or_never().is_none());
    world.backend.says(public, ann.id, "for all");
    assert_eq!((sequence(&mut viewer).await, sequence(&mut member).await), (3, 3));

    world.backend.set_public_read(public, false);
    world.backend.says(public, ann.id, "for members");
    assert_eq!((sequence(&mut member).await, sequence(&mut member).await), (4, 5));
    hears_nothing(&mut viewer).await;
    assert!(viewer.handle().follow(public).await.is_err());
}

#[tokio::test]
async fn a_view_may_begin_with_what_happened_before() {
    let world = World::start().await;
    let ann = world.person();
    let (realtime, _tasks) = world.realtime(|_| {});
    let public = public_conversation(&world, &ann);
    let slot = slot(&realtime);
    for mut view in [anonymous(&realtime, &slot), of_user(&realtime, &slot, &ann).await] {
        let known = world.backend.says(public, ann.id, "known").sequence;
        world.backend.says(public, ann.id, "missed");
        view.handle().follow_from(public, known).await.expect("it may be read");
        assert_eq!(sequence(&mut view).await, known + 1);
        // One that follows already goes on as it is.
        view.handle().follow_from(public, 0).await.expect("it may be read");
        view.handle().follow(public).await.expect("it may be read");
        world.backend.says(public, ann.id, "live");
        assert_eq!(sequence(&mut view).await, known + 2);
    }
}

#[tokio::test]
async fn what_the_bus_loses_is_read_for_the_anonymous_viewer_too() {
    let world = World::start().await;
    let ann = world.person();
    let (realtime, _tasks) = world.realtime(|_| {});
    let public = public_conversation(&world, &ann);
    let slot = slot(&realtime);
    let mut viewer = anonymous(&realtime, &slot);
    viewer.handle().follow(public).await.expect("it may be read");
    assert!(viewer.next().now_or_never().is_none());
    world.backend.says(public, ann.id, "heard");
    assert_eq!(sequence(&mut viewer).await, 3);
    world.backend.facts().lose = 1;
    world.backend.says(public, ann.id, "lost");
    world.backend.says(public, ann.id, "heard");
    assert_eq!((sequence(&mut viewer).await, sequence(&mut viewer).await), (4, 5));
}

#[tokio::test]
async fn a_view_of_a_user_follows_all_that_is_theirs() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let (realtime, _tasks) = world.realtime(|_| {});
    let old = world.backend.conversation(&[ann.id, bob.id]);
    let slot = slot(&realtime);
    let mut view = of_user(&realtime, &slot, &bob).await;
    assert_eq!(view.handle().identity().map(|identity| identity.session_id()), Some(bob.session));
    view.handle().follow_all().expect("a user");
    while !matches!(next(&mut view).await.body(), Some(Body::CaughtUp(_))) {}
    world.backend.says(old, ann.id, "hello");
    assert_eq!(sequence(&mut view).await, 2);

    let new = world.backend.conversation(&[ann.id, bob.id]);
    let frame = next(&mut view).await;
    let Some(Body::UserEvent(event)) = frame.body() else { panic!("{frame:?}") };
    assert!(matches!(&event.payload, Some(user_event::Payload::ConversationGained(_))));
    assert_eq!(sequence(&mut view).await, 1);
    world.backend.says(new, ann.id, "hello");
    assert_eq!(sequence(&mut view).await, 2);
}

/// A socket of a dialect calls rpcs, and does not poll its views meanwhile.
#[tokio::test]
async fn a_view_goes_on_while_it_is_not_polled() {
    let world = World::start().await;
    let ann = world.person();
    let (realtime, _tasks) = world.realtime(|_| {});
    world.backend.conversation(&[ann.id]);
    let slot = slot(&realtime);
    let mut view = of_user(&realtime, &slot, &ann).await;
    view.handle().follow_all().expect("a user");
    assert!(view.next().now_or_never().is_none(), "the calls are under way");
    let queue = view.handle().connection();
    let caught_up = async {
        loop {
            match connection::tests::next(queue) {
                Some(Ok(frame)) if matches!(frame.body(), Some(Body::CaughtUp(_))) => return,
                Some(_) => {}
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(SOON, caught_up).await.expect("it is caught up");
}

#[tokio::test]
async fn views_of_one_client_share_its_slot() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let (realtime, _tasks) = world.realtime(|sockets| {
        (sockets.unauthenticated_per_address, sockets.per_address, sockets.per_user) = (1, 2, 1);
    });
    let (registry, config) = (realtime.registry(), &realtime.config().sockets);
    let one = slot(&realtime);
    let viewer = anonymous(&realtime, &one);
    assert!(registry.admit(one.address(), config).is_err(), "it counts as unauthenticated");
    let of_ann = of_user(&realtime, &one, &ann).await;
    assert_eq!((registry.everyone().len(), registry.of_user(ann.id).len()), (2, 1));
    let other = registry.admit(one.address(), config).expect("the first has signed in");

    // Another user on the same client, who has signed out in between.
    drop(of_ann);
    assert!(registry.of_user(ann.id).is_empty());
    let of_bob = of_user(&realtime, &one, &bob).await;
    let who = sign_in(realtime.upstream().clients(), &bob.token).await.expect("a session");
    let refused = Subscriber::of_user(&realtime, &other, who, Format::Typed).await.err().expect("refused");
    assert_eq!(refused.reason(), "ERROR_REASON_TOO_MANY_CONNECTIONS");
    drop((of_bob, one, other));
    assert_eq!(registry.everyone().len(), 1, "a view keeps its slot");
    drop(viewer);
    tokio::time::timeout(SOON, registry.emptied()).await.expect("no connection is left");
}

#[tokio::test]
async fn views_end_with_the_session_and_with_the_gateway() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let (realtime, tasks) = world.realtime(|_| {});
    let slot = slot(&realtime);
    let mut of_ann = of_user(&realtime, &slot, &ann).await;
    let mut others = [of_user(&realtime, &slot, &bob).await, anonymous(&realtime, &slot)];
    drop(slot);
    world.backend.signs_out(&ann);
    let ended = tokio::time::timeout(SOON, of_ann.next()).await.expect("soon");
    assert_eq!(ended.expect_err("the end"), End::SignedOut);

    let seen = async {
        for view in &mut others {
            let frame = next(view).await;
            assert!(matches!(frame.body(), Some(Body::Closing(_))), "{frame:?}");
            assert!(matches!(view.next().await, Err(End::Restart { .. })));
        }
        drop((of_ann, others));
    };
    let (stopped, ()) = tokio::join!(tasks.stop(SOON), seen);
    assert!(stopped);
}
