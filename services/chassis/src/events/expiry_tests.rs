//! What is published while NATS stalls or is away is not delivered when it is old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::contract::{SOON, Server, loss_noticed, moves, nothing_more, pair, participant, receive, until};
use super::{Events, Expiry};

/// A server, a bus that publishes and a bus that receives.
async fn two() -> Option<(Server, Events, Events)> {
    let (server, publisher) = Server::start_with_bus().await?;
    let receiver = Events::nats(&server.config(), participant()).await.expect("another bus");
    Some((server, publisher, receiver))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_took_before_the_connection_broke_is_not_published_later() {
    let Some((mut server, publisher, receiver)) = two().await else { return };
    let (mut back, mut heard) = (publisher.interruptions(), receiver.interruptions());
    let (sender, mut queue) = mpsc::channel(1 << 20);
    let _subscription = receiver.subscribe("room", sender).await;

    // It publishes without a pause while the server goes, so that something is under way at that very moment.
    let is_over = Arc::new(AtomicBool::new(false));
    let mut publishing = JoinSet::new();
    publishing.spawn({
        let (publisher, is_over) = (publisher.clone(), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                publisher.publish_with(Expiry::Moment, "room", "old".into());
                tokio::task::yield_now().await;
            }
        }
    });
    assert_eq!(receive(&mut queue).await, pair("room", "old"));
    server.kill();
    for events in [&publisher, &receiver] {
        loss_noticed(events).await;
    }
    is_over.store(true, Ordering::Relaxed);
    publishing.join_all().await;
    while let Ok(delivery) = queue.try_recv() {
        assert_eq!(delivery.payload, "old");
    }
    let Events::Nats(bus) = &publisher else { panic!("a bus over NATS") };
    until("what waited is dropped", || async { bus.waiting() == 0 }).await;

    server.go().await;
    for interruptions in [&mut back, &mut heard] {
        moves(interruptions).await;
    }
    publisher.publish("room", "new".into());
    assert_eq!(receive(&mut queue).await, pair("room", "new"));
    nothing_more(&mut queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_server_that_stalls_is_dropped_when_it_is_too_old() {
    let Some((server, publisher, receiver)) = two().await else { return };
    let (sender, mut queue) = mpsc::channel(64);
    let _subscription = receiver.subscribe("room", sender).await;
    publisher.publish("room", "before".into());
    assert_eq!(receive(&mut queue).await, pair("room", "before"));

    // Longer than it counts that the server has been heard.
    sleep(Duration::from_millis(500)).await;
    server.suspend();
    publisher.publish_with(Expiry::Never, "room", "offer".into());
    publisher.publish_with(Expiry::Moment, "room", "typing".into());
    publisher.publish("room", "event".into());
    sleep(Duration::from_millis(3500)).await;
    publisher.publish_with(Expiry::Moment, "room", "typing again".into());
    publisher.publish_with(Expiry::Never, "room", "candidate".into());
    server.resume();
    for text in ["offer", "event", "typing again", "candidate"] {
        assert_eq!(receive(&mut queue).await, pair("room", text));
    }
    nothing_more(&mut queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_expires_waits_for_a_bus_that_is_away_and_keeps_its_order() {
    let Some((mut server, publisher, receiver)) = two().await else { return };
    let (sender, mut queue) = mpsc::channel(64);
    let _subscription = receiver.subscribe("room", sender).await;
    let mut heard = receiver.interruptions();
    server.kill();
    for events in [&publisher, &receiver] {
        loss_noticed(events).await;
    }
    for number in 0..10 {
        publisher.publish_with(Expiry::Never, "room", format!("signal {number}").into());
        publisher.publish_with(Expiry::Moment, "room", "typing".into());
        publisher.publish("room", "event".into());
    }
    // The receiver has to be there before the publisher is, or what waited goes to nobody.
    let Events::Nats(bus) = &publisher else { panic!("a bus over NATS") };
    assert_eq!(bus.waiting(), 10 * ("room".len() + "signal 0".len()) as u64);
    server.go().await;
    moves(&mut heard).await;
    let first = timeout(SOON, queue.recv()).await;
    if let Ok(Some(delivery)) = &first {
        assert_eq!(delivery.payload, "signal 0");
    }
    for number in 1..10 {
        assert_eq!(receive(&mut queue).await, pair("room", &format!("signal {number}")));
    }
    nothing_more(&mut queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_flushed_arrives_although_the_bus_goes() {
    let Some((_server, publisher, receiver)) = two().await else { return };
    let (sender, mut queue) = mpsc::channel(2000);
    let _subscription = receiver.subscribe("room", sender).await;
    for number in 0..1000 {
        publisher.publish("room", number.to_string().into());
    }
    let begun = Instant::now();
    publisher.flush().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(publisher);
    for number in 0..1000 {
        assert_eq!(receive(&mut queue).await, pair("room", &number.to_string()));
    }
}
