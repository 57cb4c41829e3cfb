//! Who follows what here, and how what happens gets to them.
//!
//! Logs are spread over a few shards. A shard is one task that owns its topics: nothing is locked, what happens in one
//! log is handed out in its order, and whatever takes time (reading the log, checking members) is an errand that runs
//! beside it and reports back. There is one subscription on the bus per log, however many follow it here.
//!
//! Hints may be lost, so every topic is compared with the log: when it begins, every ten seconds, and at once when the
//! bus says that hints may have been lost. One call compares a thousand logs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chassis::events::{Delivery, Events, Subscription};
use chassis::follow::{Missing, PATIENCE};
use chassis::tasks::{Shutdown, Tasks};
use chassis::transport::as_service;
use futures_util::future::join_all;
use metrics::Counter;
use prost::Message as _;
use proto::conversation::v1::{AccessQuestion, CheckAccessRequest};
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::notice::Notice as What;
use proto::messaging::v1::{ListEventsRequest, ListHeadsRequest, ListUserEventsRequest, Notice, Watermark};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use super::connection::Connection;
use super::frame::Frame;
use super::topic::{CatchUp, Item, Key, Needs, Topic, lost_conversation};
use super::watermarks::Watermarks;
use crate::upstream::clients::Clients;

/// Into how many shards the logs are spread.
const SHARDS: usize = 4;

/// How many hints may wait for a shard. When more come they are lost, and the bus says so.
const WAITING_HINTS: usize = 16 * 1024;

/// How many hints are taken from the queue at a time.
const BATCH: usize = 256;

/// How often every topic is compared with the log.
const HEAD_CHECK: Duration = Duration::from_secs(10);

/// How many logs one call compares.
const PER_CALL: usize = 1000;

/// How many entries one call reads.
const PAGE: i32 = 200;

/// How many errands run at a time.
const ERRANDS: usize = 32;

/// How long to wait before an errand that has failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long to wait before members are checked again because the answer was older than what waits for it.
const CHECK_AGAIN: Duration = Duration::from_millis(100);

/// How long an errand may take.
const PATIENCE_OF_ERRANDS: Duration = Duration::from_secs(5);

/// Who follows what here.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    shards: Vec<mpsc::UnboundedSender<Command>>,
    epoch: Arc<Epoch>,
    clients: Clients,
    events: Events,
    /// The shards before they are started.
    unborn: Mutex<Vec<Shard>>,
}

/// The epoch of the logs, once it is known.
#[derive(Default)]
struct Epoch(Mutex<Option<Arc<str>>>);

impl Epoch {
    fn known(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn observe(&self, epoch: &Arc<str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(epoch));
    }
}

enum Command {
    Follow { keys: Vec<Key>, anew: bool, connection: Arc<Connection>, done: oneshot::Sender<()> },
    CaughtUp { key: Key, number: u64, sent: i64, answer: oneshot::Sender<CatchUp> },
    Unfollow { keys: Vec<Key>, number: u64 },
    Suspect { key: Key },
    Answered { watermark: Watermark, answer: oneshot::Sender<Watermark> },
    Compare,
}

impl Hub {
    pub(crate) fn new(clients: Clients, events: Events) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| mpsc::unbounded_channel()).unzip();
        let (epoch, errands) = (Arc::<Epoch>::default(), Arc::new(Semaphore::new(ERRANDS)));
        let shard = |commands| Shard::new(commands, senders.clone(), clients.clone(), &epoch, &errands);
        let unborn = Mutex::new(receivers.into_iter().map(shard).collect());
        Self(Arc::new(Inner { shards: senders, epoch, clients, events, unborn }))
    }

    /// Starts the tasks of the shards.
    pub(crate) fn start(&self, tasks: &Tasks) {
        let shards = std::mem::take(&mut *self.0.unborn.lock().unwrap_or_else(PoisonError::into_inner));
        for shard in shards {
            let events = self.0.events.clone();
            tasks.spawn("hub", |shutdown| shard.run(events, shutdown));
        }
    }

    /// The connection follows these logs from now on: what happens in them is kept for it until it has caught up. Those
    /// that it follows already go on as they are, or, `anew`, are caught up again.
    pub(crate) async fn follow(&self, connection: &Arc<Connection>, keys: &[Key], anew: bool) {
        connection.followed().extend(keys.iter().copied());
        let mut subscribed = Vec::new();
        for (shard, keys) in self.by_shard(keys) {
            let (done, is_done) = oneshot::channel();
            let _ = shard.send(Command::Follow { keys, anew, connection: Arc::clone(connection), done });
            subscribed.push(is_done);
        }
        // A shard that is gone goes with the process.
        join_all(subscribed).await;
    }

    /// The connection has got everything of this log up to `sent`, or knew it.
    pub(crate) async fn caught_up(&self, connection: &Connection, key: Key, sent: i64) -> CatchUp {
        let (answer, answered) = oneshot::channel();
        let _ = self.shard(key).send(Command::CaughtUp { key, number: connection.number(), sent, answer });
        answered.await.unwrap_or(CatchUp::Gone)
    }

    /// The connection follows these logs no more.
    pub(crate) fn unfollow(&self, connection: &Connection, keys: &[Key]) {
        {
            let mut followed = connection.followed();
            for key in keys {
                followed.remove(key);
            }
        }
        self.forget(connection.number(), keys);
    }

    /// The connection is over.
    pub(crate) fn leave(&self, connection: &Connection) {
        let keys: Vec<_> = connection.followed().drain().collect();
        self.forget(connection.number(), &keys);
    }

    fn forget(&self, number: u64, keys: &[Key]) {
        for (shard, keys) in self.by_shard(keys) {
            let _ = shard.send(Command::Unfollow { keys, number });
        }
    }

    /// A watermark that is about to be shown as the answer to a command: from then on no lower one is shown. It is raised
    /// to what was shown already.
    pub(crate) async fn answered(&self, watermark: Watermark) -> Watermark {
        let Ok(id) = ConversationId::parse(&watermark.conversation_id) else { return watermark };
        let (answer, answered) = oneshot::channel();
        let command = Command::Answered { watermark: watermark.clone(), answer };
        let _ = self.shard(Key::Conversation(id)).send(command);
        // A shard that is gone goes with the process.
        answered.await.unwrap_or(watermark)
    }

    /// The epoch of the logs.
    pub(crate) async fn epoch(&self) -> Result<Arc<str>, Status> {
        if let Some(epoch) = self.0.epoch.known() {
            return Ok(epoch);
        }
        let answer = list_heads(&self.0.clients, &[]).await?;
        self.0.epoch.observe(&answer.epoch);
        Ok(answer.epoch)
    }

    /// A service has answered with this epoch.
    pub(crate) fn saw(&self, epoch: &str) {
        if epoch.is_empty() || self.0.epoch.known().is_none_or(|known| *known == *epoch) {
            return;
        }
        self.0.epoch.observe(&Arc::from(epoch));
        for shard in &self.0.shards {
            let _ = shard.send(Command::Compare);
        }
    }

    /// The highest sequences of these logs; those in which nothing has happened are left out.
    pub(crate) async fn heads(&self, keys: &[Key]) -> Result<HashMap<Key, i64>, Status> {
        Ok(list_heads(&self.0.clients, keys).await?.heads)
    }

    fn shard(&self, key: Key) -> &mpsc::UnboundedSender<Command> {
        &self.0.shards[key.spread() % SHARDS]
    }

    fn by_shard(&self, keys: &[Key]) -> impl Iterator<Item = (&mpsc::UnboundedSender<Command>, Vec<Key>)> {
        let mut sorted = vec![Vec::new(); SHARDS];
        for key in keys {
            sorted[key.spread() % SHARDS].push(*key);
        }
        self.0.shards.iter().zip(sorted).filter(|(_, keys)| !keys.is_empty())
    }
}

/// The highest sequences of some logs.
struct Heads {
    epoch: Arc<str>,
    heads: HashMap<Key, i64>,
}

/// Compares a thousand logs with each call.
async fn list_heads(clients: &Clients, keys: &[Key]) -> Result<Heads, Status> {
    let (mut conversations, mut users) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            Key::Conversation(id) => conversations.push(id.to_string()),
            Key::User(id) => users.push(id.to_string()),
        }
    }
    let calls = conversations.len().max(users.len()).div_ceil(PER_CALL).max(1);
    let mut found = Heads { epoch: Arc::from(""), heads: HashMap::with_capacity(keys.len()) };
    for call in 0..calls {
        let request =
            ListHeadsRequest { conversation_ids: page(&conversations, call), user_ids: page(&users, call) };
        let mut request = as_service(request, clients.credential(), None);
        request.set_timeout(PATIENCE_OF_ERRANDS);
        let answer = clients.sync().list_heads(request).await?.into_inner();
        for head in answer.conversations {
            if let Ok(id) = ConversationId::parse(&head.conversation_id) {
                found.heads.insert(Key::Conversation(id), head.sequence);
            }
        }
        for head in answer.users {
            if let Ok(id) = UserId::parse(&head.user_id) {
                found.heads.insert(Key::User(id), head.sequence);
            }
        }
        found.epoch = Arc::from(answer.epoch);
    }
    Ok(found)
}

fn page(ids: &[String], number: usize) -> Vec<String> {
    ids.iter().skip(number * PER_CALL).take(PER_CALL).cloned().collect()
}

/// The task that owns some of the topics.
struct Shard {
    commands: mpsc::UnboundedReceiver<Command>,
    /// All shards, this one included.
    shards: Vec<mpsc::UnboundedSender<Command>>,
    clients: Clients,
    /// The epoch as all know it, and as this shard does.
    shared_epoch: Arc<Epoch>,
    epoch: Option<Arc<str>>,
    hints: mpsc::Receiver<Delivery>,
    /// What the bus puts hints into.
    ear: mpsc::Sender<Delivery>,
    topics: HashMap<Key, Followed>,
    /// The watermarks that were shown, also in topics that are gone.
    shown: Watermarks,
    /// Topics whose head has to be read before anything is handed out, and whether that is under way for others.
    new: Vec<Key>,
    beginning: bool,
    /// Topics in which something is missing that may come by itself, and when to stop waiting for it.
    patience: VecDeque<(Instant, Key)>,
    errands: JoinSet<Errand>,
    permits: Arc<Semaphore>,
    /// Whether a comparison of all topics is under way, and whether another one is to follow.
    comparing: bool,
    compare_again: bool,
    turn: usize,
    counters: Counters,
}

/// A topic that somebody follows.
struct Followed {
    topic: Topic,
    /// Absent until the bus has confirmed it.
    subscription: Option<Subscription>,
}

struct Counters {
    repairs: Counter,
    head_checks: Counter,
    member_checks: Counter,
}

/// What an errand brings back.
enum Errand {
    /// The bus brings the hints of new topics from now on.
    Subscribed(Vec<(Key, Subscription)>),
    /// The heads of new topics.
    Begun { keys: Vec<Key>, heads: Result<Heads, Status> },
    /// The heads of all topics.
    Compared { keys: Vec<Key>, heads: Result<Heads, Status> },
    /// A page of a log.
    Repaired { key: Key, items: Result<Vec<Item>, Status> },
    /// Who is out of a conversation, and by which version of the list of members.
    Checked { key: Key, out: Result<(HashSet<UserId>, i64), Status> },
}

impl Shard {
    fn new(
        commands: mpsc::UnboundedReceiver<Command>,
        shards: Vec<mpsc::UnboundedSender<Command>>,
        clients: Clients,
        epoch: &Arc<Epoch>,
        permits: &Arc<Semaphore>,
    ) -> Self {
        let (ear, hints) = mpsc::channel(WAITING_HINTS);
        Self {
            commands,
            shards,
            clients,
            shared_epoch: Arc::clone(epoch),
            epoch: None,
            hints,
            ear,
            topics: HashMap::new(),
            shown: Watermarks::default(),
            new: Vec::new(),
            beginning: false,
            patience: VecDeque::new(),
            errands: JoinSet::new(),
            permits: Arc::clone(permits),
            comparing: false,
            compare_again: false,
            turn: 0,
            counters: Counters {
                repairs: metrics::counter!("log_repairs_total"),
                head_checks: metrics::counter!("log_head_checks_total"),
                member_checks: metrics::counter!("log_member_checks_total"),
            },
        }
    }

    async fn run(mut self, events: Events, shutdown: Shutdown) {
        let mut interruptions = events.interruptions();
        let mut compare = tokio::time::interval(HEAD_CHECK);
        compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let out_of_patience = self.patience.front().map(|(when, _)| *when);
            tokio::select! {
                biased;
                // Connections are told to go first; what they leave behind needs nobody.
                () = shutdown.wait() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, &events),
                    None => return,
                },
                Some(errand) = self.errands.join_next() => match errand {
                    Ok(errand) => self.finish(errand),
                    Err(error) => tracing::error!(%error, "an errand of the hub has failed"),
                },
                () = sleep_until(out_of_patience) => self.lose_patience(),
                _ = compare.tick() => self.compare(),
                Ok(()) = interruptions.changed() => self.compare(),
                // Last, because there may be no end of them.
                _ = self.hints.recv_many(&mut batch, BATCH) => {
                    for hint in batch.drain(..) {
                        self.hint(&hint);
                    }
                }
            }
            self.begin_new();
        }
    }

    fn follow(&mut self, keys: Vec<Key>, anew: bool, connection: &Arc<Connection>, events: &Events) {
        // One that has ended meanwhile will not come back to say that it follows no more.
        if connection.ended().is_some() {
            return;
        }
        let mut new = Vec::new();
        for key in keys {
            let followed = self.topics.entry(key).or_insert_with(|| {
                new.push(key);
                Followed { topic: Topic::new(key, self.shown.clone()), subscription: None }
            });
            followed.topic.follow(Arc::clone(connection), anew);
        }
        if new.is_empty() {
            return;
        }
        // Nobody waits for the bus: what is handed out before it has confirmed, and what is not, is found out when the
        // topic begins.
        let (events, ear) = (events.clone(), self.ear.clone());
        self.errands.spawn(async move {
            let subscribe = async |key: Key| (key, events.subscribe(&key.subject(), ear.clone()).await);
            Errand::Subscribed(join_all(new.into_iter().map(subscribe)).await)
        });
    }

    fn obey(&mut self, command: Command, events: &Events) {
        match command {
            Command::Follow { keys, anew, connection, done } => {
                self.follow(keys, anew, &connection, events);
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            Command::CaughtUp { key, number, sent, answer } => match self.topics.get_mut(&key) {
                Some(Followed { topic, .. }) => {
                    topic.caught_up(number, sent, answer);
                    let needs = topic.needs_now();
                    self.provide(key, needs);
                }
                // Whoever asked may have gone.
                None => drop(answer.send(CatchUp::Gone)),
            },
            Command::Unfollow { keys, number } => {
                for key in keys {
                    if let Some(Followed { topic, .. }) = self.topics.get_mut(&key) {
                        topic.unfollow(number);
                        self.drop_if_idle(key);
                    }
                }
            }
            Command::Answered { mut watermark, answer } => {
                self.shown.raise(&mut watermark);
                // Whoever asked may have gone.
                drop(answer.send(watermark));
            }
            Command::Compare => self.compare(),
            Command::Suspect { key } => {
                if let Some(Followed { topic, .. }) = self.topics.get_mut(&key) {
                    let needs = topic.suspect();
                    self.provide(key, needs);
                }
            }
        }
    }

    fn drop_if_idle(&mut self, key: Key) {
        if self.topics.get(&key).is_some_and(|followed| followed.topic.is_idle()) {
            self.topics.remove(&key);
        }
    }

    fn hint(&mut self, hint: &Delivery) {
        let Some(key) = Key::of_subject(&hint.subject) else { return };
        let Some(Followed { topic, .. }) = self.topics.get_mut(&key) else { return };
        let Some(what) = read_notice(&hint.payload, key) else { return };
        let needs = match what {
            What::Event(event) if self.epoch.as_ref().is_some_and(|known| **known != *event.epoch) => {
                self.compare();
                return;
            }
            What::Event(event) => topic.hint(Item::from(event)),
            What::UserEvent(event) => {
                let lost = lost_conversation(&event);
                let needs = topic.hint(Item::from(event));
                if let Some(key) = lost.map(Key::Conversation) {
                    // It may be one of another shard. The check finds out whether it is still so.
                    let _ = self.shards[key.spread() % SHARDS].send(Command::Suspect { key });
                }
                needs
            }
            What::Receipt(watermark) => {
                topic.pass(&Frame::push(Body::Receipt(watermark)), None);
                return;
            }
            What::Head(head) => {
                let needs = topic.head(head.sequence);
                if needs.repair {
                    // What is missing does not come over the bus: nothing is to be waited for.
                    topic.repairing = true;
                    self.patience.push_front((Instant::now(), key));
                }
                return;
            }
            What::Signal(signal) => {
                let from = UserId::parse(&signal.user_id).ok();
                topic.pass(&Frame::push(Body::Signal(signal)), from);
                return;
            }
        };
        self.provide(key, needs);
    }

    /// Carries out what a topic needs.
    fn provide(&mut self, key: Key, needs: Needs) {
        if needs.repair
            && let Some(Followed { topic, .. }) = self.topics.get_mut(&key)
        {
            topic.repairing = true;
            self.patience.push_back((Instant::now() + PATIENCE, key));
        }
        if needs.check {
            self.check(key, Duration::ZERO);
        }
        self.drop_if_idle(key);
    }

    /// What has not come by itself is read from the log.
    fn lose_patience(&mut self) {
        let now = Instant::now();
        while self.patience.front().is_some_and(|(when, _)| *when <= now) {
            if let Some((_, key)) = self.patience.pop_front() {
                self.repair(key);
            }
        }
    }

    fn repair(&mut self, key: Key) {
        let Some(Followed { topic, .. }) = self.topics.get_mut(&key) else { return };
        self.turn = self.turn.wrapping_add(1);
        let (Some(missing), Some(member)) = (topic.missing(), topic.member(self.turn)) else {
            // It has come, or there is nobody yet to read it for.
            topic.repairing = false;
            return;
        };
        self.counters.repairs.increment(1);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.errands.spawn(async move {
            let _permit = permits.acquire().await;
            let items = read_log(&clients, key, missing, member).await;
            if let Err(status) = &items {
                tracing::warn!(code = ?status.code(), "a log cannot be read: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            Errand::Repaired { key, items }
        });
    }

    /// Checks all who follow a conversation against its list of members.
    fn check(&mut self, key: Key, after: Duration) {
        let Some(Followed { topic, .. }) = self.topics.get_mut(&key) else { return };
        let Key::Conversation(conversation) = key else { return };
        let users = topic.users();
        self.counters.member_checks.increment(1);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.errands.spawn(async move {
            tokio::time::sleep(after).await;
            let _permit = permits.acquire().await;
            let out = who_is_out(&clients, conversation, &users).await;
            if let Err(status) = &out {
                tracing::warn!(code = ?status.code(), "members cannot be checked: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            Errand::Checked { key, out }
        });
    }

    /// Reads the heads of topics that are new.
    fn begin_new(&mut self) {
        // While one call is under way, the next one gathers.
        if self.new.is_empty() || self.beginning {
            return;
        }
        self.beginning = true;
        let keys = std::mem::take(&mut self.new);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.errands.spawn(async move {
            let _permit = permits.acquire().await;
            let heads = list_heads(&clients, &keys).await;
            if let Err(status) = &heads {
                tracing::warn!(code = ?status.code(), "heads cannot be read: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            Errand::Begun { keys, heads }
        });
    }

    /// Compares all topics with their logs.
    fn compare(&mut self) {
        if std::mem::replace(&mut self.comparing, true) {
            self.compare_again = true;
            return;
        }
        let begun = self.topics.iter().filter(|(_, followed)| followed.topic.has_begun());
        let keys: Vec<Key> = begun.map(|(key, _)| *key).collect();
        if keys.is_empty() {
            self.comparing = false;
            return;
        }
        self.counters.head_checks.increment(1);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.errands.spawn(async move {
            let _permit = permits.acquire().await;
            let heads = list_heads(&clients, &keys).await;
            if let Err(status) = &heads {
                tracing::warn!(code = ?status.code(), "heads cannot be read: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            Errand::Compared { keys, heads }
        });
    }

    fn finish(&mut self, errand: Errand) {
        match errand {
            Errand::Subscribed(subscriptions) => {
                for (key, subscription) in subscriptions {
                    if let Some(followed) = self.topics.get_mut(&key) {
                        followed.subscription = Some(subscription);
                        // The head is read after it, so that nothing falls in between.
                        self.new.push(key);
                    }
                }
            }
            Errand::Begun { keys, heads: Ok(heads) } => {
                self.beginning = false;
                self.observe(&heads.epoch);
                for key in keys {
                    let head = heads.heads.get(&key).copied().unwrap_or(0);
                    self.with(key, |topic| topic.begin(head));
                }
            }
            Errand::Begun { keys, heads: Err(_) } => {
                self.beginning = false;
                self.new.extend(keys.into_iter().filter(|key| self.topics.contains_key(key)));
            }
            Errand::Compared { keys, heads } => {
                self.comparing = false;
                let again = std::mem::take(&mut self.compare_again);
                match heads {
                    Ok(heads) => {
                        self.observe(&heads.epoch);
                        for key in keys {
                            let head = heads.heads.get(&key).copied().unwrap_or(0);
                            self.with(key, |topic| topic.head(head));
                        }
                        if again {
                            self.compare();
                        }
                    }
                    // Whatever it was about, it has not been found out yet.
                    Err(_) => self.compare(),
                }
            }
            Errand::Repaired { key, items } => {
                if let Some(Followed { topic, .. }) = self.topics.get_mut(&key) {
                    topic.repairing = false;
                }
                match items {
                    Ok(items) => {
                        self.with(key, |topic| topic.filled(items));
                        // The rest of it needs no patience.
                        if let Some(Followed { topic, .. }) = self.topics.get_mut(&key)
                            && topic.missing().is_some()
                            && !topic.repairing
                        {
                            topic.repairing = true;
                            self.repair(key);
                        }
                    }
                    // The one on whose behalf it was asked is out.
                    Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => {
                        if matches!(key, Key::Conversation(_)) {
                            self.with(key, Topic::suspect);
                        }
                        self.with(key, |topic| topic.needs_now());
                    }
                    Err(_) => self.with(key, |topic| topic.needs_now()),
                }
            }
            Errand::Checked { key, out } => match out {
                Ok((out, version)) => {
                    let Some(Followed { topic, .. }) = self.topics.get_mut(&key) else { return };
                    let needs = topic.checked(&out, version);
                    self.provide(key, Needs { check: false, ..needs });
                    // What waits is newer than what conversation says by now; that is so for moments only.
                    if needs.check {
                        self.check(key, CHECK_AGAIN);
                    }
                }
                // Nobody gets anything until it is known who may.
                Err(_) => self.check(key, Duration::ZERO),
            },
        }
    }

    fn with(&mut self, key: Key, change: impl FnOnce(&mut Topic) -> Needs) {
        if let Some(Followed { topic, .. }) = self.topics.get_mut(&key) {
            let needs = change(topic);
            self.provide(key, needs);
        }
    }

    /// When the epoch has changed, no sequence means what it meant: all who follow something come back and begin anew.
    fn observe(&mut self, epoch: &Arc<str>) {
        let before = self.epoch.replace(Arc::clone(epoch));
        if before.as_ref() == Some(epoch) {
            return;
        }
        self.shared_epoch.observe(epoch);
        if before.is_some() {
            tracing::warn!(epoch = &**epoch, "the logs are of another epoch: clients begin anew");
            self.shown.clear();
            // What has not begun yet begins in the new epoch.
            self.topics.retain(|_, followed| {
                let stays = !followed.topic.has_begun();
                if !stays {
                    followed.topic.give_up();
                }
                stays
            });
        }
    }
}

fn read_notice(payload: &Bytes, key: Key) -> Option<What> {
    match Notice::decode(payload.clone()) {
        Ok(notice) => notice.notice,
        Err(error) => {
            tracing::warn!(%error, subject = key.subject(), "a hint cannot be read");
            None
        }
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// A page of what is missing, read on behalf of one who follows the log.
async fn read_log(
    clients: &Clients,
    key: Key,
    missing: Missing,
    member: UserId,
) -> Result<Vec<Item>, Status> {
    let wanted = i32::try_from(missing.up_to - missing.after).unwrap_or(PAGE);
    let (after_sequence, limit) = (missing.after, wanted.clamp(1, PAGE));
    match key {
        Key::Conversation(conversation) => {
            let request =
                ListEventsRequest { conversation_id: conversation.to_string(), after_sequence, limit };
            let answer = clients.sync().list_events(on_behalf(clients, request, member)).await?;
            Ok(answer.into_inner().events.into_iter().map(Item::from).collect())
        }
        Key::User(user) => {
            let request = ListUserEventsRequest { after_sequence, limit };
            let answer = clients.sync().list_user_events(on_behalf(clients, request, user)).await?;
            Ok(answer.into_inner().events.into_iter().map(Item::from).collect())
        }
    }
}

fn on_behalf<T>(clients: &Clients, message: T, user: UserId) -> Request<T> {
    let mut request = as_service(message, clients.credential(), Some(user));
    request.set_timeout(PATIENCE_OF_ERRANDS);
    request
}

/// Who of these may not read the conversation, and the version of the list of members by which that is so.
async fn who_is_out(
    clients: &Clients,
    conversation: ConversationId,
    users: &[UserId],
) -> Result<(HashSet<UserId>, i64), Status> {
    let (mut out, mut version) = (HashSet::new(), i64::MAX);
    for users in users.chunks(PER_CALL) {
        let question = |user: &UserId| AccessQuestion {
            conversation_id: conversation.to_string(),
            user_id: user.to_string(),
        };
        let request = CheckAccessRequest { questions: users.iter().map(question).collect() };
        let mut request = as_service(request, clients.credential(), None);
        request.set_timeout(PATIENCE_OF_ERRANDS);
        let answers = clients.conversations().check_access(request).await?.into_inner().answers;
        if answers.len() != users.len() {
            return Err(Status::internal("not one answer per question"));
        }
        for (user, access) in users.iter().zip(answers) {
            if !access.may_read {
                out.insert(*user);
            }
            // What holds for all holds by the oldest list.
            version = version.min(access.membership_version);
        }
    }
    Ok((out, if version == i64::MAX { 0 } else { version }))
}
