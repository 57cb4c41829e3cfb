//! Writers and readers that go on whatever happens, and note every step.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tests::history::{self, Client, Entry, Recorder, Verdict, What};
use tests::{Person, World};
use tokio::task::JoinSet;

use crate::reader::{self, Reader};
use crate::settled;
use crate::writer::{Door, Writer};

/// How much is going on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many conversations there are.
    pub conversations: usize,
    /// How many messages are sent per second, by all writers together.
    pub per_second: u32,
}

/// The doors of the writers.
const WRITERS: [Door; 8] = [
    Door::Rest,
    Door::Rest,
    Door::Socket,
    Door::Socket,
    Door::Pipeline,
    Door::Pipeline,
    Door::Grpc,
    Door::Grpc,
];

/// How many readers listen on sockets; every one on another gateway than the one before it.
const SOCKET_READERS: usize = 6;

/// How many listen on gRPC streams.
const GRPC_READERS: usize = 2;

/// How many listen to server-sent events.
const SSE_READERS: usize = 2;

/// All of them, and one more on a socket, who is removed from conversations on the way.
const READERS: usize = SOCKET_READERS + GRPC_READERS + SSE_READERS + 1;

/// How long clients may take, after all is whole again, until they have everything.
const CONVERGENCE: Duration = Duration::from_secs(15);

/// How long a writer may take, after all is whole again, until its last send has an outcome.
const LAST_WORD: Duration = Duration::from_secs(30);

/// What all clients know.
pub struct Shared {
    /// Where they note their steps.
    pub recorder: Recorder,
    /// The gateways.
    pub gateways: Vec<SocketAddr>,
    /// The messaging services.
    pub messaging: Vec<SocketAddr>,
    /// The conversations.
    pub conversations: Vec<String>,
    stopped: AtomicBool,
    places: Mutex<HashMap<(Client, String), i64>>,
    closes: Mutex<BTreeMap<u16, usize>>,
    complaints: Mutex<Vec<String>>,
    overloaded: AtomicUsize,
}

impl Shared {
    /// Whether writers begin nothing new.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A reader has received an event.
    pub fn received(&self, client: Client, conversation: &str, sequence: i64, entry: Entry) {
        let conversation = conversation.to_owned();
        self.recorder.note(client, What::Received { conversation: conversation.clone(), sequence, entry });
        lock(&self.places).insert((client, conversation), sequence);
    }

    /// A socket was closed by the server or broke.
    pub fn closed(&self, code: u16) {
        *lock(&self.closes).entry(code).or_default() += 1;
    }

    /// A send was refused because too much is going on.
    pub fn told_to_slow_down(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was answered that should not be.
    pub fn complain(&self, what: String) {
        lock(&self.complaints).push(what);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everybody at work.
pub struct Load {
    shared: Arc<Shared>,
    owner: Person,
    readers: Vec<Person>,
    writing: JoinSet<()>,
    reading: JoinSet<()>,
}

/// What is known when all is over.
pub struct Outcome {
    /// About the history.
    pub verdict: Verdict,
    /// Writers that never got a definite answer.
    pub stuck_writers: usize,
    /// From the last heal until every reader had everything.
    pub converged: Duration,
    /// How sockets ended, by close code; 0 is a connection that broke.
    pub closes: BTreeMap<u16, usize>,
    /// What was answered that should not be.
    pub complaints: Vec<String>,
    /// How often clients did and saw what the checks are about: a check of nothing finds nothing.
    pub steps: [(&'static str, usize); 5],
}

impl Load {
    /// Makes the people and the conversations and lets them begin.
    pub async fn start(world: &World, plan: Plan) -> Self {
        let (writers, readers) = (everybody(world, WRITERS.len()).await, everybody(world, READERS).await);
        let owner = writers[0].clone();
        let mut conversations = Vec::new();
        for _ in 0..plan.conversations {
            let others: Vec<&Person> = writers[1..].iter().chain(&readers).collect();
            conversations.push(owner.starts_group_with(&others).await);
        }
        let shared = Arc::new(Shared {
            recorder: Recorder::default(),
            gateways: world.gateways(),
            messaging: world.grpc_of_all("messaging"),
            conversations,
            stopped: AtomicBool::new(false),
            places: Mutex::default(),
            closes: Mutex::default(),
            complaints: Mutex::default(),
            overloaded: AtomicUsize::new(0),
        });
        let mut load = Self { shared, owner, readers, writing: JoinSet::new(), reading: JoinSet::new() };
        load.begins_reading();
        let every = Duration::from_secs(1) * WRITERS.len() as u32 / plan.per_second;
        for (number, (person, door)) in writers.into_iter().zip(WRITERS).enumerate() {
            let writer = Writer::new(load.shared.clone(), number, person, door);
            load.writing.spawn(writer.write(every));
        }
        load
    }

    fn begins_reading(&mut self) {
        for (number, person) in self.readers.iter().enumerate() {
            let client = WRITERS.len() + number;
            let reader = Reader { shared: self.shared.clone(), client, person: person.clone() };
            let (grpc, sse) = (SOCKET_READERS, SOCKET_READERS + GRPC_READERS);
            if (sse..sse + SSE_READERS).contains(&number) {
                self.reading.spawn(reader::events(reader));
                continue;
            }
            for conversation in self.shared.conversations.clone() {
                self.shared.recorder.note(client, What::Follows { conversation, after: 0 });
            }
            if (grpc..sse).contains(&number) {
                self.reading.spawn(reader::stream(reader));
            } else {
                self.reading.spawn(reader::socket(reader));
            }
        }
    }

    /// Where everybody notes their steps.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Notes that something is broken from now on.
    pub fn breaks(&self, name: &str) {
        self.recorder().note(0, What::Fault { name: name.to_owned() });
    }

    /// Notes that it is whole again.
    pub fn heals(&self, name: &str) {
        self.recorder().note(0, What::Healed { name: name.to_owned() });
    }

    /// How many sends were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.recorder().count(|what| matches!(what, What::Acknowledged { .. }))
    }

    /// Removes the last reader from a conversation, and notes when that is acknowledged.
    pub async fn removes_a_reader(&self, number: usize) {
        let (reader, conversation) =
            (&self.readers[self.readers.len() - 1], &self.shared.conversations[number]);
        let path = format!("/v1/conversations/{conversation}/members/{}", reader.id);
        tests::waiting::until("a member to be removed", || async {
            let answer = self.owner.try_delete(&path).await.ok()?;
            // 404: it was removed by a try whose answer did not come.
            (answer.status == 200 || answer.status == 404).then_some(())
        })
        .await;
        let who = WRITERS.len() + self.readers.len() - 1;
        self.recorder().note(0, What::Removed { conversation: conversation.clone(), who });
    }

    /// Ends it: lets every send come to its outcome and every reader to the end of every log, and checks all.
    pub async fn finish(mut self, world: &World, database: Option<&str>) -> Outcome {
        let healed = Instant::now();
        self.shared.stopped.store(true, Ordering::Relaxed);
        let last_words = async { while self.writing.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORD, last_words).await;
        let stuck_writers = self.writing.len();
        self.writing.shutdown().await;

        let rest = settled::by_rest(&self.owner, &self.shared.conversations).await;
        let heads: Vec<(String, i64)> =
            rest.iter().map(|(id, log)| (id.clone(), log.last().map_or(0, |(last, _)| *last))).collect();
        let exempt = WRITERS.len() + self.readers.len() - 1;
        let clients: Vec<Client> = (WRITERS.len()..exempt).collect();
        let written = Instant::now();
        while !self.have_everything(&clients, &heads) && written.elapsed() < CONVERGENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let converged = healed.elapsed();
        self.reading.shutdown().await;

        let mut doors = vec![("rest", rest)];
        let messaging = world.grpc("messaging");
        doors.push(("grpc", settled::by_grpc(messaging, &self.owner, &self.shared.conversations).await));
        if let Some(database) = database {
            doors.push(("sql", settled::by_sql(database, &self.shared.conversations).await));
        }
        let verdict = history::check(&self.recorder().steps(), &doors);
        let closes = std::mem::take(&mut *lock(&self.shared.closes));
        let complaints = std::mem::take(&mut *lock(&self.shared.complaints));
        if !verdict.violations.is_empty() || stuck_writers > 0 {
            settled::keep_for_inspection(&self.recorder().steps(), &doors);
        }
        let count = |is: fn(&What) -> bool| self.recorder().count(is);
        let steps = [
            ("received", count(|what| matches!(what, What::Received { .. }))),
            ("read_marks", count(|what| matches!(what, What::Read { .. }))),
            ("deleted", count(|what| matches!(what, What::Deleted { .. }))),
            ("overloaded", self.shared.overloaded.load(Ordering::Relaxed)),
            ("removed", count(|what| matches!(what, What::Removed { .. }))),
        ];
        Outcome { verdict, stuck_writers, converged, closes, complaints, steps }
    }

    fn have_everything(&self, clients: &[Client], heads: &[(String, i64)]) -> bool {
        let places = lock(&self.shared.places);
        let has = |client: Client, id: &String| places.get(&(client, id.clone())).copied().unwrap_or(0);
        clients.iter().all(|client| heads.iter().all(|(id, head)| has(*client, id) >= *head))
    }
}

async fn everybody(world: &World, count: usize) -> Vec<Person> {
    let mut people = Vec::new();
    for _ in 0..count {
        people.push(world.person("one").await);
    }
    people
}
