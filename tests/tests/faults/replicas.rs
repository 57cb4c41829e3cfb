//! Two replicas of every service, behind a balancer that goes by readiness: one of two is killed or restarted, and requests
//! are answered all the same.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use tests::figure::{Figures, Target};
use tests::http;
use tests::process::{Process, signal};
use tests::storage;
use tests::world::WITHOUT_LIMITS;
use tests::{Person, World};
use tokio::task::JoinSet;

use crate::{assert_no_panics, is_long, pass};

/// The clients, each with one request under way at a time.
const CLIENTS: usize = 8;

/// The pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// A world of two replicas each, and the clients that use it.
struct Replicated {
    world: World,
    balancer: Arc<Balancer>,
    work: JoinSet<()>,
}

impl Replicated {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let database = storage::fresh_database().await.expect("a database");
        let nats = storage::nats_url().expect("a NATS");
        let settings = [WITHOUT_LIMITS, settings].concat();
        let world = World::replicated_with(&database, &nats, &settings).await.expect("a world");
        let people = world.people(["ann", "bob"]).await;
        let conversation = people[0].starts_direct_with(&people[1]).await;
        let balancer = Arc::new(Balancer::of(&world));
        let mut work = JoinSet::new();
        for place in 0..balancer.gateways.len() {
            work.spawn(balancer.clone().watch(place));
        }
        for client in 0..CLIENTS {
            let person = people[client % 2].clone();
            work.spawn(balancer.clone().ask(person, conversation.clone(), client));
        }
        pass(Duration::from_secs(1)).await;
        Self { world, balancer, work }
    }

    async fn stop(mut self) {
        self.work.shutdown().await;
        self.world.stop().await.expect("a world that stops");
        assert_no_panics(&self.world);
    }
}

/// A gateway as the balancer sees it.
struct Gateway {
    http: SocketAddr,
    admin: SocketAddr,
    is_ready: AtomicBool,
    /// True while the trial has it killed.
    is_killed: AtomicBool,
}

/// Turns to the gateways that are ready, and counts what comes of the requests.
struct Balancer {
    gateways: Vec<Gateway>,
    turn: AtomicUsize,
    asked: AtomicUsize,
    /// The failures, by what was asked for.
    failed: Mutex<Vec<(&'static str, String)>>,
    /// The requests that a service had no room for.
    overloaded: AtomicUsize,
    /// The times at which a living gateway said that it is not ready.
    flaps: AtomicUsize,
}

impl Balancer {
    fn of(world: &World) -> Self {
        let gateways = world.processes.iter().filter(|process| process.name().starts_with("gateway"));
        let gateways = gateways.map(|process| Gateway {
            http: process.address("http").expect("an address"),
            admin: process.address("admin").expect("an address"),
            is_ready: AtomicBool::new(true),
            is_killed: AtomicBool::new(false),
        });
        Self {
            gateways: gateways.collect(),
            turn: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            failed: Mutex::default(),
            overloaded: AtomicUsize::new(0),
            flaps: AtomicUsize::new(0),
        }
    }

    /// Asks a gateway again and again whether it is ready.
    async fn watch(self: Arc<Self>, place: usize) {
        let gateway = &self.gateways[place];
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
        loop {
            let answer = client.get(format!("http://{}/readyz", gateway.admin)).send().await;
            let (status, report) = match answer {
                Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
                Err(_) => (0, String::new()),
            };
            gateway.is_ready.store(status == 200, Ordering::Relaxed);
            // A slow machine may have no time for a check.
            let is_flap = status == 503 && !report.contains("no answer within");
            if is_flap && !gateway.is_killed.load(Ordering::Relaxed) {
                self.flaps.fetch_add(1, Ordering::Relaxed);
            }
            pass(Duration::from_millis(100)).await;
        }
    }

    /// Does what a client does, one request after the other.
    async fn ask(self: Arc<Self>, person: Person, conversation: String, offset: usize) {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        for number in offset.. {
            let (what, method, path, body) = match number % 6 {
                0 => ("guest", Method::POST, "/v1/auth/guest".to_owned(), Some(json!({}))),
                1 => ("read", Method::GET, "/v1/me".to_owned(), None),
                2 => ("read", Method::GET, "/v1/inbox".to_owned(), None),
                3 => ("read", Method::GET, "/v1/schedules".to_owned(), None),
                _ => {
                    let id = EventId::generate().to_string();
                    let body = json!({ "content": { "text": "hello" }, "clientMessageId": id });
                    ("send", Method::POST, format!("/v1/conversations/{conversation}/messages"), Some(body))
                }
            };
            self.asked.fetch_add(1, Ordering::Relaxed);
            let token = (what != "guest").then_some(person.token.as_str());
            if let Err(said) = self.try_each(&client, token, method, &path, body.as_ref()).await {
                self.failed.lock().expect("a lock").push((what, format!("{path}: {said}")));
            }
            pass(PAUSE).await;
        }
    }

    /// Asks a gateway that is ready; another one when the first cannot be connected to.
    async fn try_each(
        &self,
        client: &reqwest::Client,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn =
            (0..self.gateways.len()).map(|place| &self.gateways[(place + turn) % self.gateways.len()]);
        let mut in_turn: Vec<&Gateway> = in_turn.collect();
        in_turn.sort_by_key(|gateway| !gateway.is_ready.load(Ordering::Relaxed));
        let mut said = String::new();
        for gateway in in_turn {
            match http::try_ask(client, gateway.http, token, method.clone(), path, body).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                // A slow machine asks for patience, as it does without faults.
                Ok(answer) if answer.body["reason"] == "ERROR_REASON_OVERLOADED" => {
                    self.overloaded.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(answer) => return Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => {
                    let is_connect =
                        error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect);
                    said = format!("{error:#}");
                    if !is_connect {
                        return Err(said);
                    }
                }
            }
        }
        Err(said)
    }

    /// The failures since the last call.
    fn failures(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.failed.lock().expect("a lock"))
    }

    fn print(&self, figures: &mut Figures) {
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed) as f64;
        figures.print("overloaded", count(&self.overloaded), "requests", Target::Informs);
        figures.print("not_ready", count(&self.flaps), "answers", Target::Is(0.0));
    }

    fn set_killed(&self, name: &str, is_killed: bool) {
        if let Some(place) = name.strip_prefix("gateway-").and_then(|number| number.parse::<usize>().ok()) {
            self.gateways[place - 1].is_killed.store(is_killed, Ordering::Relaxed);
        }
    }
}

pub async fn with_one_of_two_dead_the_rest_goes_on() {
    let mut figures = Figures::of("with_one_of_two_dead_the_rest_goes_on");
    let mut replicated = Replicated::start(&[]).await;
    let balancer = replicated.balancer.clone();
    assert_eq!(balancer.failures(), [], "before anything is killed");
    for name in ["auth-1", "conversation-1", "messaging-1", "scheduling-1", "gateway-1"] {
        balancer.set_killed(name, true);
        let before = balancer.asked.load(Ordering::Relaxed);
        replicated.world.process(name).kill();
        pass(Duration::from_secs(if is_long() { 30 } else { 3 })).await;
        let asked = balancer.asked.load(Ordering::Relaxed) - before;
        let failures = balancer.failures();
        // Requests under way at a gateway that dies are lost to their client, and each client has one.
        let may_fail = |what: &str| what == "guest" || name.starts_with("gateway");
        let (under_way, lost): (Vec<_>, Vec<_>) = failures.into_iter().partition(|(what, _)| may_fail(what));
        figures.print(&format!("{name}_asked"), asked as f64, "requests", Target::AtLeast(1.0));
        figures.print(
            &format!("{name}_under_way"),
            under_way.len() as f64,
            "failures",
            Target::AtMost(CLIENTS as f64),
        );
        figures.print(&format!("{name}_lost"), lost.len() as f64, "failures", Target::Is(0.0));
        assert_eq!(lost, [], "with {name} dead");
        // A socket that comes meanwhile follows everything.
        let gateway = replicated.world.gateways()[1];
        let person = Person::register(gateway, "cid").await;
        tests::socket::Connection::open(gateway, &person.token).await.follows_all().await;
        replicated.world.process(name).start_again().await.expect("a start");
        balancer.set_killed(name, false);
        pass(Duration::from_millis(500)).await;
    }
    balancer.print(&mut figures);
    replicated.stop().await;
    figures.conclude();
}

pub async fn a_rolling_restart_fails_no_request() {
    let mut figures = Figures::of("a_rolling_restart_fails_no_request");
    let mut replicated = Replicated::start(&[("listen.lame_duck", "1s")]).await;
    let balancer = replicated.balancer.clone();
    let names: Vec<String> =
        replicated.world.processes.iter().rev().map(|process| process.name().to_owned()).collect();
    // A hang-up ends no process.
    for id in replicated.world.processes.iter().filter_map(Process::id) {
        signal(id, "HUP").expect("a signal that is sent");
    }
    for _ in 0..if is_long() { 10 } else { 1 } {
        for name in &names {
            balancer.set_killed(name, true);
            replicated.world.process(name).stop().await.expect("a process that stops well");
            replicated.world.process(name).start_again().await.expect("a start");
            balancer.set_killed(name, false);
            pass(Duration::from_millis(500)).await;
        }
    }
    let failures = balancer.failures();
    figures.print("asked", balancer.asked.load(Ordering::Relaxed) as f64, "requests", Target::AtLeast(200.0));
    figures.print("failed", failures.len() as f64, "requests", Target::Is(0.0));
    balancer.print(&mut figures);
    assert_eq!(failures, []);
    replicated.stop().await;
    figures.conclude();
}
