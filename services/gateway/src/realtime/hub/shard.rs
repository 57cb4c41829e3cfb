//! One shard of the hub: the task that owns some of the topics.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::events::{Delivery, Events, Subscription};
use chassis::follow::PATIENCE;
use chassis::tasks::Shutdown;
use futures_util::future::join_all;
use metrics::Counter;
use prost::Message as _;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::UserId;
use proto::messaging::v1::Notice;
use proto::messaging::v1::notice::Notice as What;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::log_calls::{Heads, list_heads, read_log, who_is_out};
use super::{Command, Epoch, SHARDS};
use crate::realtime::connection::Connection;
use crate::realtime::delivery_times::DeliveryTimes;
use crate::realtime::frame::Frame;
use crate::realtime::identity::Viewer;
use crate::realtime::topic::{CatchUp, Item, Key, Needs, Topic, lost_conversation};
use crate::realtime::watermarks::Watermarks;
use crate::upstream::clients::Clients;

/// The maximum number of hints that wait for a shard. Further ones are lost, and the bus reports it.
const WAITING_HINTS: usize = 16 * 1024;

/// The number of hints that are taken from the queue at a time.
const BATCH: usize = 256;

/// The interval at which every topic is compared with the log.
const HEAD_CHECK: Duration = Duration::from_secs(10);

/// The pause before a failed task is repeated.
const RETRY: Duration = Duration::from_millis(500);

/// The pause before members are checked again because the answer was older than the held back entries.
const CHECK_AGAIN: Duration = Duration::from_millis(100);

/// The task that owns some of the topics.
pub(super) struct Shard {
    commands: mpsc::UnboundedReceiver<Command>,
    /// All shards, this one included.
    shards: Vec<mpsc::UnboundedSender<Command>>,
    clients: Clients,
    /// The epoch as all shards know it, and as this one does.
    shared_epoch: Arc<Epoch>,
    epoch: Option<Arc<str>>,
    hints: mpsc::Receiver<Delivery>,
    /// The sender that the bus uses for hints.
    hint_sender: mpsc::Sender<Delivery>,
    topics: HashMap<Key, Followed>,
    /// The watermarks that were shown, also in topics that are gone.
    shown: Watermarks,
    times: DeliveryTimes,
    /// Topics whose head has to be read before anything is delivered, and true while that is in progress for others.
    new: Vec<Key>,
    beginning: bool,
    /// Topics with missing entries that may still arrive by hint, and the time at which to stop waiting for them.
    patience: VecDeque<(Instant, Key)>,
    tasks: JoinSet<TaskResult>,
    permits: Arc<Semaphore>,
    /// True while a comparison of all topics is in progress, and true when another one is to follow.
    comparing: bool,
    compare_again: bool,
    turn: usize,
    counters: Counters,
}

/// A topic with followers.
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

/// The result of a task.
enum TaskResult {
    /// The bus delivers the hints of new topics from now on.
    Subscribed(Vec<(Key, Subscription)>),
    /// The heads of new topics.
    Begun { keys: Vec<Key>, heads: Result<Heads, Status> },
    /// The heads of all topics.
    Compared { keys: Vec<Key>, heads: Result<Heads, Status> },
    /// A page of a log.
    Repaired { key: Key, items: Result<Vec<Item>, Status> },
    /// The viewers without access to a conversation, and the version of the list of members by which that is so.
    Checked { key: Key, out: Result<(HashSet<Viewer>, i64), Status> },
}

impl Shard {
    pub(super) fn new(
        commands: mpsc::UnboundedReceiver<Command>,
        shards: Vec<mpsc::UnboundedSender<Command>>,
        clients: Clients,
        epoch: &Arc<Epoch>,
        permits: &Arc<Semaphore>,
        times: DeliveryTimes,
    ) -> Self {
        let (hint_sender, hints) = mpsc::channel(WAITING_HINTS);
        Self {
            commands,
            shards,
            clients,
            shared_epoch: Arc::clone(epoch),
            epoch: None,
            hints,
            hint_sender,
            topics: HashMap::new(),
            shown: Watermarks::default(),
            times,
            new: Vec::new(),
            beginning: false,
            patience: VecDeque::new(),
            tasks: JoinSet::new(),
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

    pub(super) async fn run(mut self, events: Events, shutdown: Shutdown) {
        let mut interruptions = events.interruptions();
        let mut compare = tokio::time::interval(HEAD_CHECK);
        compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let out_of_patience = self.patience.front().map(|(when, _)| *when);
            tokio::select! {
                biased;
                // Connections are closed first; their leftovers need no handling.
                () = shutdown.wait() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, &events),
                    None => return,
                },
                Some(task) = self.tasks.join_next() => match task {
                    Ok(task) => self.finish(task),
                    Err(error) => tracing::error!(%error, "an task of the hub has failed"),
                },
                () = sleep_until(out_of_patience) => self.lose_patience(),
                _ = compare.tick() => self.compare(),
                Ok(()) = interruptions.changed() => self.compare(),
                // Last, because hints may arrive without pause.
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
        // A connection that has ended meanwhile will not unfollow again.
        if connection.ended().is_some() {
            return;
        }
        let mut new = Vec::new();
        for key in keys {
            let followed = self.topics.entry(key).or_insert_with(|| {
                new.push(key);
                let topic = Topic::new(key, self.shown.clone(), self.times.clone());
                Followed { topic, subscription: None }
            });
            followed.topic.follow(Arc::clone(connection), anew);
        }
        if new.is_empty() {
            return;
        }
        // Nothing waits for the bus: entries that were delivered or missed before it has confirmed are found out when
        // the topic begins.
        let (events, hint_sender) = (events.clone(), self.hint_sender.clone());
        self.tasks.spawn(async move {
            let subscribe =
                async |key: Key| (key, events.subscribe(&key.subject(), hint_sender.clone()).await);
            TaskResult::Subscribed(join_all(new.into_iter().map(subscribe)).await)
        });
    }

    fn obey(&mut self, command: Command, events: &Events) {
        match command {
            Command::Follow { keys, anew, connection, done } => {
                self.follow(keys, anew, &connection, events);
                // The asker may be gone.
                let _ = done.send(());
            }
            Command::CaughtUp { key, number, sent, answer } => match self.topics.get_mut(&key) {
                Some(Followed { topic, .. }) => {
                    topic.caught_up(number, sent, answer);
                    let needs = topic.needs_now();
                    self.provide(key, needs);
                }
                // The asker may be gone.
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
                // The asker may be gone.
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
                    // The conversation may belong to another shard. The check finds out if the access is still lost.
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
                    // The missing entries do not come over the bus: the log is read without waiting.
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

    /// Fulfils the needs of a topic.
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

    /// Reads entries that have not arrived by hint from the log.
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
        let (Some(missing), Some(reader)) = (topic.missing(), topic.reader(self.turn)) else {
            // The entries have arrived, or there is no live follower yet to read them for.
            topic.repairing = false;
            return;
        };
        self.counters.repairs.increment(1);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let items = read_log(&clients, key, missing, reader).await;
            if let Err(status) = &items {
                tracing::warn!(code = ?status.code(), "a log cannot be read: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            TaskResult::Repaired { key, items }
        });
    }

    /// Checks all followers of a conversation against its list of members.
    fn check(&mut self, key: Key, after: Duration) {
        let Some(Followed { topic, .. }) = self.topics.get_mut(&key) else { return };
        let Key::Conversation(conversation) = key else { return };
        let viewers = topic.viewers();
        self.counters.member_checks.increment(1);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.tasks.spawn(async move {
            tokio::time::sleep(after).await;
            let _permit = permits.acquire().await;
            let out = who_is_out(&clients, conversation, &viewers).await;
            if let Err(status) = &out {
                tracing::warn!(code = ?status.code(), "members cannot be checked: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            TaskResult::Checked { key, out }
        });
    }

    /// Reads the heads of topics that are new.
    fn begin_new(&mut self) {
        // While one call is in progress, new topics gather for the next one.
        if self.new.is_empty() || self.beginning {
            return;
        }
        self.beginning = true;
        let keys = std::mem::take(&mut self.new);
        let (clients, permits) = (self.clients.clone(), Arc::clone(&self.permits));
        self.tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let heads = list_heads(&clients, &keys).await;
            if let Err(status) = &heads {
                tracing::warn!(code = ?status.code(), "heads cannot be read: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            TaskResult::Begun { keys, heads }
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
        self.tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let heads = list_heads(&clients, &keys).await;
            if let Err(status) = &heads {
                tracing::warn!(code = ?status.code(), "heads cannot be read: {}", status.message());
                tokio::time::sleep(RETRY).await;
            }
            TaskResult::Compared { keys, heads }
        });
    }

    fn finish(&mut self, task: TaskResult) {
        match task {
            TaskResult::Subscribed(subscriptions) => {
                for (key, subscription) in subscriptions {
                    if let Some(followed) = self.topics.get_mut(&key) {
                        followed.subscription = Some(subscription);
                        // The head is read after the subscription, so that no entry is missed in between.
                        self.new.push(key);
                    }
                }
            }
            TaskResult::Begun { keys, heads: Ok(heads) } => {
                self.beginning = false;
                self.observe(&heads.epoch);
                for key in keys {
                    let head = heads.heads.get(&key).copied().unwrap_or(0);
                    self.with(key, |topic| topic.begin(head));
                }
            }
            TaskResult::Begun { keys, heads: Err(_) } => {
                self.beginning = false;
                self.new.extend(keys.into_iter().filter(|key| self.topics.contains_key(key)));
            }
            TaskResult::Compared { keys, heads } => {
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
                    // Whatever caused the comparison is still unresolved.
                    Err(_) => self.compare(),
                }
            }
            TaskResult::Repaired { key, items } => {
                if let Some(Followed { topic, .. }) = self.topics.get_mut(&key) {
                    topic.repairing = false;
                }
                match items {
                    Ok(items) => {
                        self.with(key, |topic| topic.filled(items));
                        // The rest of it is read without waiting.
                        if let Some(Followed { topic, .. }) = self.topics.get_mut(&key)
                            && topic.missing().is_some()
                            && !topic.repairing
                        {
                            topic.repairing = true;
                            self.repair(key);
                        }
                    }
                    // The viewer on whose behalf it was read has lost access.
                    Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => {
                        if matches!(key, Key::Conversation(_)) {
                            self.with(key, Topic::suspect);
                        }
                        self.with(key, |topic| topic.needs_now());
                    }
                    Err(_) => self.with(key, |topic| topic.needs_now()),
                }
            }
            TaskResult::Checked { key, out } => match out {
                Ok((out, version)) => {
                    let Some(Followed { topic, .. }) = self.topics.get_mut(&key) else { return };
                    let needs = topic.checked(&out, version);
                    self.provide(key, Needs { check: false, ..needs });
                    // The held back entries are newer than conversation's answer; that lasts only moments.
                    if needs.check {
                        self.check(key, CHECK_AGAIN);
                    }
                }
                // Nothing is delivered until the access of all followers is known.
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

    /// Handles the epoch. After a change all sequences are meaningless: all followers come back and begin anew.
    fn observe(&mut self, epoch: &Arc<str>) {
        let before = self.epoch.replace(Arc::clone(epoch));
        if before.as_ref() == Some(epoch) {
            return;
        }
        self.shared_epoch.observe(epoch);
        if before.is_some() {
            tracing::warn!(epoch = &**epoch, "the logs are of another epoch: clients begin anew");
            self.shown.clear();
            // Topics that have not begun yet begin in the new epoch.
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
