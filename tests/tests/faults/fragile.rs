//! A world in either shape that loses services, and what people see in it then.

use std::future::Future;
use std::time::Duration;

use prost_types::Timestamp;
use serde_json::Value;
use tests::http::Answer;
use tests::person::{array, number, text};
use tests::waiting::until;
use tests::world::WITHOUT_LIMITS;
use tests::{Person, Shape, World, storage};

/// A world that loses services and gets them back.
pub struct Fragile {
    /// The world.
    pub world: World,
    /// The address of its database, where it is a server's.
    pub database: Option<String>,
}

impl Fragile {
    /// Starts one, with these settings besides those that lift the limits.
    pub async fn start(shape: Shape, settings: &[(&str, &str)]) -> Self {
        let settings = [WITHOUT_LIMITS, settings].concat();
        match shape {
            Shape::Embedded => {
                let world = World::embedded_with(&settings).await.expect("a world");
                Self { world, database: None }
            }
            Shape::Separate => {
                let database = storage::fresh_database().await.expect("a database");
                let nats = storage::nats_url().expect("a NATS");
                let world = World::separate_with(&database, &nats, &settings).await.expect("a world");
                Self { world, database: Some(database) }
            }
        }
    }

    /// Kills a service as a crash does: all its replicas, and everything where all is one process.
    pub fn kill(&mut self, service: &str) {
        for name in self.processes_of(service) {
            self.world.process(&name).kill();
        }
    }

    /// Starts it again on the same data, and waits until it is ready.
    pub async fn start_again(&mut self, service: &str) {
        for name in self.processes_of(service) {
            self.world.process(&name).start_again().await.expect("a start on the same data");
        }
    }

    /// Kills a service and starts it again at once.
    pub async fn restart(&mut self, service: &str) {
        self.kill(service);
        self.start_again(service).await;
    }

    fn processes_of(&self, service: &str) -> Vec<String> {
        let service = if self.world.shape == Shape::Embedded { "parlor" } else { service };
        let names = self.world.processes.iter().map(|process| process.name().to_owned());
        names.filter(|name| name.starts_with(service)).collect()
    }
}

/// Whether an answer settles the matter, whichever way; one that says that somebody is away does not.
pub fn is_definite(answer: &Answer) -> bool {
    answer.status < 500 && ![408, 429, 499].contains(&answer.status)
}

/// Asks until there is a definite answer. For what can be asked again without harm.
pub async fn insists<F, Fut>(what: &str, mut ask: F) -> Answer
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Answer>>,
{
    until(what, || {
        let answer = ask();
        async { answer.await.ok().filter(is_definite) }
    })
    .await
}

/// What somebody sees at a path, once whoever it is asked of is there.
pub async fn sees(person: &Person, path: &str) -> Value {
    insists(path, || person.try_get(path)).await.ok()
}

/// All of a list, page by page.
pub async fn lists(person: &Person, path: &str, name: &str) -> Vec<Value> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = sees(person, &format!("{path}{sign}pageSize=100&pageToken={token}")).await;
        all.extend_from_slice(array(&page[name]));
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            _ => return all,
        }
    }
}

/// The messages of a conversation.
pub async fn messages(person: &Person, conversation: &str) -> Vec<Value> {
    lists(person, &format!("/v1/conversations/{conversation}/messages"), "messages").await
}

/// The alerts about a subject, as they are now.
pub async fn alerts_about(person: &Person, subject: &str) -> Vec<Value> {
    let mut alerts = lists(person, "/v1/alerts", "alerts").await;
    alerts.retain(|alert| alert["subjectId"] == subject);
    alerts
}

/// Each change of an alert that somebody was told of, from the first.
pub async fn alert_changes(person: &Person) -> Vec<Value> {
    let (mut changes, mut after) = (Vec::new(), 0);
    loop {
        let page = sees(person, &format!("/v1/me/events?afterSequence={after}&limit=100")).await;
        let events = array(&page["events"]);
        let Some(last) = events.last() else { return changes };
        after = number(&last["sequence"]);
        changes.extend(events.iter().filter_map(|event| event.get("alertChanged")).cloned());
    }
}

/// A time as proto JSON has it, since 1970.
pub fn time(value: &Value) -> Duration {
    let time: Timestamp = text(value).parse().expect("a time");
    Duration::new(time.seconds as u64, time.nanos as u32)
}
