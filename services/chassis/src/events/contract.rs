//! What holds on both buses, and what holds on NATS besides.

use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Delivery, Events, NatsConfig, NoticeKeys, Participant};
use crate::admin::Health;
use crate::clock::Clock;

pub(super) const SOON: Duration = Duration::from_secs(10);

/// Long enough for what must not come to come, if it were to.
const WHILE: Duration = Duration::from_millis(100);

/// Runs the suite on the bus that `$new` makes. Two handles: what one part of the program publishes, another receives.
macro_rules! contract {
    ($name:ident, $new:expr) => {
        mod $name {
            use super::*;

            contract!(@ $new;
                subjects_are_separate,
                order_holds_per_subject,
                everyone_who_subscribed_receives,
                what_is_published_after_subscribing_arrives,
                dropping_ends_the_subscription,
                a_full_receiver_loses_and_everyone_hears_of_it,
                a_sleeper_is_woken_once_for_many,
                wildcards_are_no_subjects,
                a_closed_queue_is_no_loss,
                subjects_by_the_thousand,
            );
        }
    };
    (@ $new:expr; $($test:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let Some((_server, events)) = $new.await else { return };
                super::$test(events).await;
            }
        )+
    };
}

contract!(local, async { Some(((), Events::local())) });
contract!(nats, Server::start_with_bus());

/// One who has the key of the subjects in these tests, and of those of messaging.
pub(super) fn participant() -> Participant {
    let keys = NoticeKeys::with(&[("", &[KEY]), ("messaging", &[KEY])]);
    Participant { name: "test".to_owned(), keys, clock: Clock::system() }
}

pub(super) const KEY: &str = "the key of all subjects in tests";

pub(super) async fn receive(queue: &mut mpsc::Receiver<Delivery>) -> (String, String) {
    let delivery = timeout(SOON, queue.recv()).await.expect("a delivery in time").expect("a delivery");
    (delivery.subject.to_string(), String::from_utf8(delivery.payload.to_vec()).expect("text"))
}

pub(super) async fn nothing_more(queue: &mut mpsc::Receiver<Delivery>) {
    let more = timeout(WHILE, queue.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

pub(super) async fn moves(interruptions: &mut watch::Receiver<u64>) {
    timeout(SOON, interruptions.changed()).await.expect("an interruption in time").expect("the bus");
}

pub(super) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < SOON, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

async fn subjects_are_separate(events: Events) {
    let (ann, mut of_ann) = mpsc::channel(8);
    let (bob, mut of_bob) = mpsc::channel(8);
    let _ann = events.subscribe("user.ann", ann).await;
    let _bob = events.subscribe("user.bob", bob).await;
    events.publish("user.bob", "b".into());
    events.publish("user.ann", "a".into());
    events.publish("user.eve", "e".into());
    assert_eq!(receive(&mut of_ann).await, pair("user.ann", "a"));
    assert_eq!(receive(&mut of_bob).await, pair("user.bob", "b"));
    nothing_more(&mut of_ann).await;
    nothing_more(&mut of_bob).await;
}

async fn order_holds_per_subject(events: Events) {
    let (sender, mut queue) = mpsc::channel(3000);
    let _one = events.subscribe("log.one", sender.clone()).await;
    let _two = events.subscribe("log.two", sender).await;
    let mut publishers = JoinSet::new();
    for subject in ["log.one", "log.two"] {
        let events = events.clone();
        publishers.spawn(async move {
            for number in 0..1000 {
                events.publish(subject, Bytes::from(number.to_string()));
                if number % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    publishers.join_all().await;
    let mut next: HashMap<String, u32> = HashMap::new();
    for _ in 0..2000 {
        let (subject, number) = receive(&mut queue).await;
        let next = next.entry(subject).or_default();
        assert_eq!(number.parse(), Ok(*next));
        *next += 1;
    }
}

async fn everyone_who_subscribed_receives(events: Events) {
    let (sender, mut queue) = mpsc::channel(8);
    let (other, mut other_queue) = mpsc::channel(8);
    let _first = events.subscribe("room", sender.clone()).await;
    let _second = events.clone().subscribe("room", sender).await;
    let _third = events.subscribe("room", other).await;
    events.publish("room", "hello".into());
    for _ in 0..2 {
        assert_eq!(receive(&mut queue).await, pair("room", "hello"));
    }
    assert_eq!(receive(&mut other_queue).await, pair("room", "hello"));
    nothing_more(&mut queue).await;
}

async fn what_is_published_after_subscribing_arrives(events: Events) {
    for round in 0..200 {
        let (sender, mut queue) = mpsc::channel(1);
        let subject = format!("round.{round}");
        let _subscription = events.subscribe(&subject, sender).await;
        events.publish(&subject, "now".into());
        assert_eq!(receive(&mut queue).await, pair(&subject, "now"));
    }
}

async fn dropping_ends_the_subscription(events: Events) {
    let (sender, mut queue) = mpsc::channel(8);
    let kept = events.subscribe("room", sender.clone()).await;
    let dropped = events.subscribe("room", sender.clone()).await;
    drop(dropped);
    events.publish("room", "one".into());
    assert_eq!(receive(&mut queue).await, pair("room", "one"));
    nothing_more(&mut queue).await;
    drop(kept);
    events.publish("room", "two".into());
    nothing_more(&mut queue).await;
    // And the same subject can be subscribed to again.
    let _again = events.subscribe("room", sender).await;
    events.publish("room", "three".into());
    assert_eq!(receive(&mut queue).await, pair("room", "three"));
}

async fn a_full_receiver_loses_and_everyone_hears_of_it(events: Events) {
    let mut interruptions = events.interruptions();
    let (narrow, mut narrow_queue) = mpsc::channel(2);
    let (wide, mut wide_queue) = mpsc::channel(8);
    let _narrow = events.subscribe("room", narrow).await;
    let _wide = events.subscribe("room", wide).await;
    assert!(!interruptions.has_changed().expect("the bus"), "nothing was lost yet");
    for text in ["1", "2", "3"] {
        events.publish("room", text.into());
    }
    for text in ["1", "2", "3"] {
        assert_eq!(receive(&mut wide_queue).await, pair("room", text));
    }
    moves(&mut interruptions).await;
    for text in ["1", "2"] {
        assert_eq!(receive(&mut narrow_queue).await, pair("room", text));
    }
    nothing_more(&mut narrow_queue).await;
    // With room again it goes on as if nothing had been.
    events.publish("room", "4".into());
    assert_eq!(receive(&mut narrow_queue).await, pair("room", "4"));
}

async fn a_sleeper_is_woken_once_for_many(events: Events) {
    let interruptions = events.interruptions();
    let sleeper = Arc::new(Notify::new());
    let subscription = events.wake("facts", Arc::clone(&sleeper)).await;
    let (sender, mut queue) = mpsc::channel(128);
    let _last = events.subscribe("facts", sender).await;
    for _ in 0..100 {
        events.publish("facts", Bytes::new());
    }
    for _ in 0..100 {
        receive(&mut queue).await;
    }
    timeout(SOON, sleeper.notified()).await.expect("woken");
    assert!(timeout(WHILE, sleeper.notified()).await.is_err(), "woken twice");
    assert!(!interruptions.has_changed().expect("the bus"), "a sleeper loses nothing");
    drop(subscription);
    events.publish("facts", Bytes::new());
    assert!(timeout(WHILE, sleeper.notified()).await.is_err(), "woken after the end");
}

async fn wildcards_are_no_subjects(events: Events) {
    let (sender, mut queue) = mpsc::channel(8);
    let _star = events.subscribe("user.*", sender.clone()).await;
    let _rest = events.subscribe("user.>", sender.clone()).await;
    let _blank = events.subscribe("user ann", sender.clone()).await;
    let _nothing = events.subscribe("", sender.clone()).await;
    let _dots = events.subscribe("user..ann", sender.clone()).await;
    let _real = events.subscribe("user.eve", sender).await;
    for subject in ["user.ann", "user.>", "user.*", "user ann", "", "user..ann", "user.eve"] {
        events.publish(subject, Bytes::new());
    }
    assert_eq!(receive(&mut queue).await, pair("user.eve", ""));
    nothing_more(&mut queue).await;
}

async fn a_closed_queue_is_no_loss(events: Events) {
    let mut interruptions = events.interruptions();
    let (sender, queue) = mpsc::channel(1);
    let _subscription = events.subscribe("room", sender).await;
    drop(queue);
    events.publish("room", Bytes::new());
    events.publish("room", Bytes::new());
    assert!(timeout(WHILE, interruptions.changed()).await.is_err());
}

async fn subjects_by_the_thousand(events: Events) {
    let (sender, mut queue) = mpsc::channel(20_000);
    let mut subscribers = JoinSet::new();
    for part in 0..10 {
        let (events, sender) = (events.clone(), sender.clone());
        subscribers.spawn(async move {
            let mut subscriptions = Vec::new();
            for number in part * 500..(part + 1) * 500 {
                subscriptions.push(events.subscribe(&format!("many.{number}"), sender.clone()).await);
            }
            subscriptions
        });
    }
    let subscriptions = subscribers.join_all().await;
    for number in 0..5000 {
        events.publish(&format!("many.{number}"), Bytes::new());
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5000 {
        seen.insert(receive(&mut queue).await.0);
    }
    assert_eq!(seen.len(), 5000);
    let begun = Instant::now();
    drop(subscriptions);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// A private NATS server, ended with the test.
pub(super) struct Server {
    program: PathBuf,
    port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// `None`, with a line that says so, where there is no NATS server and none is required.
    pub(super) async fn start(options: &[&str]) -> Option<Self> {
        let program = program()?;
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        for _ in 0..10 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let mut server = Self { program: program.clone(), port, options: options.clone(), process: None };
            server.go().await;
            // Somebody else may have been quicker to take the port.
            let process = server.process.as_mut().expect("it was started");
            if process.try_wait().expect("its state").is_none() {
                return Some(server);
            }
        }
        panic!("no port stays free")
    }

    pub(super) async fn start_with_bus() -> Option<(Self, Events)> {
        let server = Self::start(&[]).await?;
        let events = Events::nats(&server.config(), participant()).await.expect("a bus");
        Some((server, events))
    }

    pub(super) async fn go(&mut self) {
        let process = Command::new(&self.program)
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.process = Some(process);
        let port = self.port;
        until("nats-server listens", || async move {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
        })
        .await;
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it, without its connections being closed, and waits until each of its threads has stopped.
    pub(super) fn suspend(&self) {
        self.signal("-STOP");
        while !self.is_suspended() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on after [`Self::suspend`].
    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid()]).status().expect("kill").success());
    }

    /// True where the system does not tell.
    fn is_suspended(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return true };
        // The state follows the name, which is in parentheses.
        let is_stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        let stats = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("stat")));
        stats.flatten().all(is_stopped)
    }

    fn pid(&self) -> String {
        self.process.as_ref().expect("it runs").id().to_string()
    }

    pub(super) fn config(&self) -> NatsConfig {
        NatsConfig { servers: vec![format!("nats://127.0.0.1:{}", self.port)], ..NatsConfig::default() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/bin".into()]);
    let found = folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file());
    if found.is_none() {
        let is_required = std::env::var("PARLOR_TEST_REQUIRE_NATS").is_ok_and(|value| value == "1");
        assert!(!is_required, "PARLOR_TEST_REQUIRE_NATS is set, and there is no nats-server in PATH");
        eprintln!("skipped: there is no nats-server in PATH");
    }
    found
}

/// Waits until a bus over NATS has noticed that its server is away.
pub(super) async fn loss_noticed(events: &Events) {
    let Events::Nats(bus) = events else { panic!("a bus over NATS") };
    until("the loss is noticed", || async { bus.is_away() }).await;
    assert!(matches!(events.health(), Health::Degraded(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_comes_back_and_so_do_the_subscriptions() {
    let Some((mut server, events)) = Server::start_with_bus().await else { return };
    let mut interruptions = events.interruptions();
    let (sender, mut queue) = mpsc::channel(8);
    let _before = events.subscribe("room", sender.clone()).await;
    assert!(matches!(events.health(), Health::Ok(text) if text.starts_with("NATS 2")));

    server.kill();
    loss_noticed(&events).await;
    let begun = Instant::now();
    let _while = events.subscribe("lounge", sender.clone()).await;
    events.publish("room", "lost".into());
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits for a bus that is away");

    server.go().await;
    moves(&mut interruptions).await;
    // Once the interruptions have moved, both subscriptions are in effect.
    interruptions.mark_unchanged();
    events.publish("room", "one".into());
    assert_eq!(receive(&mut queue).await, pair("room", "one"));
    let mut arrived = false;
    for _ in 0..100 {
        events.publish("lounge", "two".into());
        arrived = timeout(WHILE, queue.recv()).await.is_ok();
        if arrived {
            break;
        }
    }
    assert!(arrived, "the subscription made meanwhile came into effect");
    until("all is well again", || async { matches!(events.health(), Health::Ok(_)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_nats_and_finds_it_later() {
    let Some(mut server) = Server::start(&[]).await else { return };
    server.kill();
    let config = NatsConfig { connect_timeout: Duration::from_millis(300), ..server.config() };
    let begun = Instant::now();
    let events = Events::nats(&config, participant()).await.expect("a bus");
    let mut interruptions = events.interruptions();
    let (sender, mut queue) = mpsc::channel(8);
    let _subscription = events.subscribe("room", sender).await;
    events.publish("room", "lost".into());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(matches!(events.health(), Health::Degraded(_)));

    server.go().await;
    moves(&mut interruptions).await;
    let begun = Instant::now();
    loop {
        events.publish("room", "found".into());
        if let Ok(Some(delivery)) = timeout(WHILE, queue.recv()).await {
            assert_eq!(delivery.payload, "found");
            break;
        }
        assert!(begun.elapsed() < SOON);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_never_waits_and_keeps_nothing_for_a_bus_that_is_away() {
    let Some((mut server, events)) = Server::start_with_bus().await else { return };
    let payload = Bytes::from(vec![7; 10_000]);

    // A server that has stopped reading, without closing the connection: what it does not take must not pile up.
    server.suspend();
    let begun = Instant::now();
    for _ in 0..50_000 {
        events.publish("room", payload.clone());
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let Events::Nats(bus) = &events else { panic!("a bus over NATS") };
    let waiting = bus.waiting();
    assert!((1..=super::nats::BACKLOG.1 + 20_000).contains(&waiting), "{waiting} bytes");
    server.resume();
    until("what was kept is written", || async { bus.waiting() == 0 }).await;

    server.kill();
    loss_noticed(&events).await;
    let begun = Instant::now();
    for _ in 0..50_000 {
        events.publish("room", payload.clone());
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // A publication at the very moment of the loss may be taken, and is dropped with it.
    let waiting = bus.waiting();
    assert!(waiting <= 20_008, "{waiting} bytes are kept for a bus that is away");
    until("what was taken is dropped", || async { bus.waiting() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_processes_share_is_the_server() {
    let Some((server, events)) = Server::start_with_bus().await else { return };
    let other = Events::nats(&server.config(), participant()).await.expect("another bus");
    for round in 0..100 {
        let (sender, mut queue) = mpsc::channel(1);
        let subject = format!("round.{round}");
        let _subscription = events.subscribe(&subject, sender).await;
        // The other connection is not this one: only the confirmation of the server makes this hold.
        other.publish(&subject, "now".into());
        assert_eq!(receive(&mut queue).await, pair(&subject, "now"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_needed_where_one_is_asked_for() {
    let Some(server) = Server::start(&["--user", "me", "--pass", "hush"]).await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "hush\n").expect("a file");
    let config = NatsConfig { user: Some("me".into()), password_file: Some(file.clone()), ..server.config() };
    set_mode(&file, 0o644);
    let error = Events::nats(&config, participant()).await.expect_err("a file that everyone can read");
    assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
    set_mode(&file, 0o600);
    let events = Events::nats(&config, participant()).await.expect("a bus");
    assert!(matches!(events.health(), Health::Ok(_)));

    let config = NatsConfig { connect_timeout: Duration::from_millis(300), ..server.config() };
    let stranger = Events::nats(&config, participant()).await.expect("a bus that is away");
    assert!(matches!(stranger.health(), Health::Degraded(_)));
}

fn set_mode(file: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_dropped_leaves_nothing_behind() {
    let Some((_server, events)) = Server::start_with_bus().await else { return };
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (sender, _queue) = mpsc::channel(8);
    let subscriptions: Vec<_> = futures_util::future::join_all((0..50).map(|number| {
        let (events, sender) = (events.clone(), sender.clone());
        async move { events.subscribe(&format!("many.{number}"), sender).await }
    }))
    .await;
    assert!(tasks() >= 50);
    drop(subscriptions);
    drop(events);
    until("all tasks have ended", || async { tasks() == 0 }).await;
}
