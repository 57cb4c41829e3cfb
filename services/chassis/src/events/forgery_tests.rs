//! Notices that others publish on NATS are not received, and do not keep the real ones from being received.

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::contract::{Server, nothing_more, pair, participant, receive};
use super::{Delivery, Events, NoticeKeys, Participant};

const ANN: &str = "parlor.messaging.v1.user.ann";
const BOB: &str = "parlor.messaging.v1.user.bob";

/// A bus that is listened to, and one who reaches NATS and hears all that is said there.
struct World {
    server: Server,
    events: Events,
    eve: Client,
    overheard: async_nats::Subscriber,
    of_ann: mpsc::Receiver<Delivery>,
    of_bob: mpsc::Receiver<Delivery>,
    _subscriptions: [super::Subscription; 2],
}

impl World {
    async fn start() -> Option<Self> {
        let (server, events) = Server::start_with_bus().await?;
        let eve = async_nats::connect(server.config().servers[0].as_str()).await.expect("NATS");
        let overheard = eve.subscribe("parlor.>").await.expect("a subscription");
        eve.flush().await.expect("NATS");
        let (ann, of_ann) = mpsc::channel(64);
        let (bob, of_bob) = mpsc::channel(64);
        let _subscriptions = [events.subscribe(ANN, ann).await, events.subscribe(BOB, bob).await];
        Some(Self { server, events, eve, overheard, of_ann, of_bob, _subscriptions })
    }

    /// Publishes this; gives what eve hears.
    async fn overhears(&mut self, subject: &str, words: &'static str) -> Bytes {
        self.events.publish(subject, words.into());
        self.overheard.next().await.expect("a message").payload
    }

    async fn eve_says(&self, subject: &'static str, payload: impl Into<Bytes>) {
        self.eve.publish(subject, payload.into()).await.expect("NATS");
        self.eve.flush().await.expect("NATS");
    }

    /// The first that is received of what was said so far is this.
    async fn expects(&mut self, words: &'static str) {
        self.events.publish(ANN, words.into());
        assert_eq!(receive(&mut self.of_ann).await, pair(ANN, words));
        nothing_more(&mut self.of_ann).await;
        nothing_more(&mut self.of_bob).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_notice_is_dropped() {
    let Some(mut world) = World::start().await else { return };
    world.eve_says(ANN, "forged").await;
    world.eve_says(ANN, "").await;
    world.eve_says(ANN, vec![1; 4096]).await;
    world.expects("real").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_of_a_service_that_has_another_key_is_dropped() {
    let Some(mut world) = World::start().await else { return };
    let keys = NoticeKeys::with(&[("messaging", &["the key of another, of 32 letters"])]);
    let other = Participant { keys, ..participant() };
    let other = Events::nats(&world.server.config(), other).await.expect("a bus");
    other.publish(ANN, "of another".into());
    other.flush().await;
    world.expects("real").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_notice_is_dropped_and_the_real_one_is_not() {
    let Some(mut world) = World::start().await else { return };
    let real = world.overhears(BOB, "one").await;
    assert_eq!(receive(&mut world.of_bob).await, pair(BOB, "one"));
    let mut changed = real.to_vec();
    changed.splice(real.len() - 3.., *b"two");
    world.eve_says(BOB, changed).await;
    world.expects("real").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_notice_is_dropped() {
    let Some(mut world) = World::start().await else { return };
    let one = world.overhears(BOB, "one").await;
    let two = world.overhears(BOB, "two").await;
    for words in ["one", "two"] {
        assert_eq!(receive(&mut world.of_bob).await, pair(BOB, words));
    }
    for sealed in [&one, &two, &one] {
        world.eve_says(BOB, sealed.clone()).await;
    }
    world.expects("real").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_notice_is_dropped() {
    let Some(mut world) = World::start().await else { return };
    let for_bob = world.overhears(BOB, "for bob").await;
    assert_eq!(receive(&mut world.of_bob).await, pair(BOB, "for bob"));
    world.eve_says(ANN, for_bob).await;
    world.expects("real").await;
}
