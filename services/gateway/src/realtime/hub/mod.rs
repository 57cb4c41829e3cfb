//! The followers of logs on this gateway, and the delivery of events to them.
//!
//! Logs are spread over a few shards. A shard is one task that owns its topics: nothing is locked, the events of one
//! log are delivered in order, and slow work (reading the log, checking members) is a task that runs beside it and
//! reports back. There is one subscription on the bus per log, however many connections follow it here.
//!
//! Hints may be lost, so every topic is compared with the log: when it begins, every ten seconds, and at once when the
//! bus reports that hints may have been lost. One call compares a thousand logs.

mod log_calls;
mod shard;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chassis::clock::Clock;
use chassis::events::Events;
use chassis::tasks::Tasks;
use futures_util::future::join_all;
use proto::id::ConversationId;
use proto::messaging::v1::Watermark;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::Status;

use self::log_calls::{list_heads, who_is_out};
use self::shard::Shard;
use crate::realtime::connection::Connection;
use crate::realtime::delivery_times::DeliveryTimes;
use crate::realtime::identity::Viewer;
use crate::realtime::topic::{CatchUp, Key};
use crate::upstream::clients::Clients;

/// The number of shards.
const SHARDS: usize = 4;

/// The maximum number of tasks that run at a time.
const MAX_TASKS: usize = 32;

/// The followers of logs on this gateway.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    shards: Vec<mpsc::UnboundedSender<Command>>,
    epoch: Arc<Epoch>,
    clients: Clients,
    events: Events,
    /// The shards before they are started.
    pending_tasks: Mutex<Vec<Shard>>,
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
    pub(crate) fn new(clients: Clients, events: Events, clock: Clock) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| mpsc::unbounded_channel()).unzip();
        let (epoch, tasks) = (Arc::<Epoch>::default(), Arc::new(Semaphore::new(MAX_TASKS)));
        let times = DeliveryTimes::new(clock);
        let shard =
            |commands| Shard::new(commands, senders.clone(), clients.clone(), &epoch, &tasks, times.clone());
        let pending_tasks = Mutex::new(receivers.into_iter().map(shard).collect());
        Self(Arc::new(Inner { shards: senders, epoch, clients, events, pending_tasks }))
    }

    /// Starts the tasks of the shards.
    pub(crate) fn start(&self, tasks: &Tasks) {
        let shards =
            std::mem::take(&mut *self.0.pending_tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for shard in shards {
            let events = self.0.events.clone();
            tasks.spawn("hub", |shutdown| shard.run(events, shutdown));
        }
    }

    /// Follows these logs from now on: their events are kept for the connection until it has caught up. Logs that it
    /// follows already stay as they are, or, with `anew`, are caught up again.
    pub(crate) async fn follow(&self, connection: &Arc<Connection>, keys: &[Key], anew: bool) {
        connection.followed().extend(keys.iter().copied());
        let mut subscribed = Vec::new();
        for (shard, keys) in self.by_shard(keys) {
            let (done, is_done) = oneshot::channel();
            let _ = shard.send(Command::Follow { keys, anew, connection: Arc::clone(connection), done });
            subscribed.push(is_done);
        }
        // A shard ends only together with the process.
        join_all(subscribed).await;
    }

    /// Reports that the connection has received or knew everything of this log up to `sent`.
    pub(crate) async fn caught_up(&self, connection: &Connection, key: Key, sent: i64) -> CatchUp {
        let (answer, answered) = oneshot::channel();
        let _ = self.shard(key).send(Command::CaughtUp { key, number: connection.number(), sent, answer });
        answered.await.unwrap_or(CatchUp::Gone)
    }

    /// Stops following these logs.
    pub(crate) fn unfollow(&self, connection: &Connection, keys: &[Key]) {
        {
            let mut followed = connection.followed();
            for key in keys {
                followed.remove(key);
            }
        }
        self.forget(connection.number(), keys);
    }

    /// Removes a closed connection.
    pub(crate) fn leave(&self, connection: &Connection) {
        let keys: Vec<_> = connection.followed().drain().collect();
        self.forget(connection.number(), &keys);
    }

    fn forget(&self, number: u64, keys: &[Key]) {
        for (shard, keys) in self.by_shard(keys) {
            let _ = shard.send(Command::Unfollow { keys, number });
        }
    }

    /// Registers a watermark that is about to be shown as the answer to a command: from then on no lower one is shown.
    /// It is raised to the one that was shown already.
    pub(crate) async fn answered(&self, watermark: Watermark) -> Watermark {
        let Ok(id) = ConversationId::parse(&watermark.conversation_id) else { return watermark };
        let (answer, answered) = oneshot::channel();
        let command = Command::Answered { watermark: watermark.clone(), answer };
        let _ = self.shard(Key::Conversation(id)).send(command);
        // A shard ends only together with the process.
        answered.await.unwrap_or(watermark)
    }

    /// Returns the epoch of the logs.
    pub(crate) async fn epoch(&self) -> Result<Arc<str>, Status> {
        if let Some(epoch) = self.0.epoch.known() {
            return Ok(epoch);
        }
        let answer = list_heads(&self.0.clients, &[]).await?;
        self.0.epoch.observe(&answer.epoch);
        Ok(answer.epoch)
    }

    /// Records the epoch in a service's answer.
    pub(crate) fn saw(&self, epoch: &str) {
        if epoch.is_empty() || self.0.epoch.known().is_none_or(|known| *known == *epoch) {
            return;
        }
        self.0.epoch.observe(&Arc::from(epoch));
        for shard in &self.0.shards {
            let _ = shard.send(Command::Compare);
        }
    }

    /// Returns the highest sequences of these logs; empty logs are left out.
    pub(crate) async fn heads(&self, keys: &[Key]) -> Result<HashMap<Key, i64>, Status> {
        Ok(list_heads(&self.0.clients, keys).await?.heads)
    }

    /// True when the viewer may read the conversation now. Once it is followed, the hub itself checks changes of
    /// access.
    pub(crate) async fn may_read(
        &self,
        viewer: Viewer,
        conversation: ConversationId,
    ) -> Result<bool, Status> {
        let (out, _) = who_is_out(&self.0.clients, conversation, &[viewer]).await?;
        Ok(out.is_empty())
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
