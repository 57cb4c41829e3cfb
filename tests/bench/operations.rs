//! What each operation costs: one after the other over REST, in a conversation of three with one of them online.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tests::Person;
use tests::person::path_of;

use crate::Options;
use crate::people;
use crate::report::{Report, Row};
use crate::system::{Meter, System};

/// How often each is done.
const TIMES: usize = 200;

const THUMB: &str = "%F0%9F%91%8D";

/// The people and the messages that operations are tried on.
struct Stage {
    ann: Person,
    conversation: String,
    other: String,
    messages: Vec<Value>,
    polls: Vec<Value>,
}

/// An operation: its name, and how it is done for the n-th time.
type Operation = (&'static str, fn(&Stage, usize) -> Request);

/// A request over REST.
struct Request {
    method: Method,
    path: String,
    body: Value,
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

const OPERATIONS: &[Operation] = &[
    ("send text", |stage, _| {
        post(messages(&stage.conversation), json!({ "content": { "text": people::TEXT } }))
    }),
    ("send text that lives a minute", |stage, _| {
        let body = json!({ "content": { "text": people::TEXT }, "expireAfter": "60s" });
        post(messages(&stage.conversation), body)
    }),
    ("send a mention", |stage, _| {
        let words = format!("@{} look", stage.ann.username);
        post(messages(&stage.conversation), json!({ "content": { "text": words } }))
    }),
    ("send a poll", |stage, _| post(messages(&stage.conversation), json!({ "content": poll() }))),
    ("get", |stage, n| get(path_of(&stage.messages[n]))),
    ("list 50", |stage, _| get(format!("{}?pageSize=50", messages(&stage.conversation)))),
    ("edit", |stage, n| {
        let body = json!({ "content": { "text": format!("edited {n}") } });
        Request { method: Method::Patch, path: path_of(&stage.messages[n]), body }
    }),
    ("list revisions", |stage, n| get(format!("{}/revisions", path_of(&stage.messages[n])))),
    ("react", |stage, n| put(format!("{}/reactions/{THUMB}", path_of(&stage.messages[n])), json!({}))),
    ("take a reaction back", |stage, n| delete(format!("{}/reactions/{THUMB}", path_of(&stage.messages[n])))),
    ("pin", |stage, n| put(format!("{}/pin", path_of(&stage.messages[n % 50])), json!({}))),
    ("list pinned", |stage, _| get(format!("/v1/conversations/{}/pins", stage.conversation))),
    ("vote", |stage, n| put(format!("{}/vote", path_of(&stage.polls[n])), json!({ "optionIndexes": [0] }))),
    ("close a poll", |stage, n| post(format!("{}/close", path_of(&stage.polls[n])), json!({}))),
    ("forward", |stage, n| {
        post(
            format!("{}/forward", path_of(&stage.messages[n])),
            json!({ "targetConversationId": stage.other }),
        )
    }),
    ("read on", |stage, n| {
        let id = &stage.messages[n]["messageId"];
        post(format!("/v1/conversations/{}/watermark", stage.conversation), json!({ "readMessageId": id }))
    }),
    ("search", |_, _| get("/v1/search/messages?query=wheel+barrow&pageSize=10".to_owned())),
    ("list the inbox", |_, _| get("/v1/inbox".to_owned())),
    ("list alerts", |_, _| get("/v1/alerts".to_owned())),
    ("hide", |stage, n| post(format!("{}/hide", path_of(&stage.messages[n])), json!({}))),
    ("delete", |stage, n| delete(path_of(&stage.messages[n]))),
];

pub(crate) async fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let people = people::register(system, 3).await;
    let mut sockets = people::connect(system, &people[1..2], options.format()).await?;
    people::follow_all(&mut sockets).await?;
    let ann = people[0].clone();
    let conversation = ann.starts_group_with(&[&people[1], &people[2]]).await;
    let other = ann.starts_group_with(&[&people[1]]).await;
    let mut stage = Stage { ann, conversation, other, messages: Vec::new(), polls: Vec::new() };
    for _ in 0..TIMES {
        stage.messages.push(stage.ann.says(&stage.conversation, people::TEXT).await);
        stage.polls.push(stage.ann.sends(&stage.conversation, poll()).await);
    }
    for (name, operation) in OPERATIONS {
        one(system, report, &stage, name, *operation).await?;
    }
    Ok(())
}

async fn one(
    system: &System,
    report: &mut Report,
    stage: &Stage,
    name: &str,
    operation: fn(&Stage, usize) -> Request,
) -> anyhow::Result<()> {
    let mut took = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let meter = Meter::start(system);
    for n in 0..TIMES {
        let began = Instant::now();
        let request = operation(stage, n);
        let answer = match request.method {
            Method::Get => stage.ann.get(&request.path).await,
            Method::Post => stage.ann.post(&request.path, request.body).await,
            Method::Put => stage.ann.put(&request.path, request.body).await,
            Method::Patch => stage.ann.patch(&request.path, request.body).await,
            Method::Delete => stage.ann.delete(&request.path).await,
        };
        anyhow::ensure!(answer.status < 300, "{name}: {}", answer.body);
        took.saturating_record(began.elapsed().as_micros() as u64);
    }
    let used = meter.stop(system);
    let shape = system.variant.name();
    let mut row = |what: &str, value: f64, unit: &'static str| {
        let name = format!("{name}{what}");
        report.row(Row { workload: "ops", shape, name: &name, value, unit, aim: None, limits: &[] });
    };
    row(" p50", took.value_at_quantile(0.5) as f64 / 1000.0, "ms");
    row(" processor", per_time(used.parlor), "ms of Parlor");
    Ok(())
}

fn per_time(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0 / TIMES as f64
}

fn poll() -> Value {
    json!({ "poll": { "question": "which?", "options": ["one", "other"] } })
}

fn messages(conversation: &str) -> String {
    format!("/v1/conversations/{conversation}/messages")
}

fn get(path: String) -> Request {
    Request { method: Method::Get, path, body: Value::Null }
}

fn post(path: String, body: Value) -> Request {
    Request { method: Method::Post, path, body }
}

fn put(path: String, body: Value) -> Request {
    Request { method: Method::Put, path, body }
}

fn delete(path: String) -> Request {
    Request { method: Method::Delete, path, body: Value::Null }
}
