//! The connection that publishes, and what waits for it.
//!
//! The client of NATS keeps what it has taken when its connection breaks, and publishes it when the connection is back,
//! however long that took. What it says may be wrong by then. So publications wait here, where their age is known, and
//! go to a client of their own that is thrown away, with all that it has taken, when its connection breaks: it is told
//! of no server that it could come back to.
//!
//! A connection can also stall without breaking, and what is written meanwhile waits in the buffers of the system. So a
//! batch is handed over only after the client has written what it was given before, and after the server has echoed
//! something at most [`PULSE`] ago.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_nats::connection::State as LineState;
use async_nats::{Client, ConnectOptions, ServerAddr, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use metrics::Counter;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep, timeout};

use super::config::delay;
use super::queue::{Publication, Queue};
use super::seal::Seals;
use super::{Line, Link, PATIENCE};
use crate::events::Expiry;
use crate::events::topics::{Topics, dropped_because};

/// How many publications are handed over at a time.
const BATCH: usize = 64;

/// How long ago the server has echoed something at most when publications are handed over.
const PULSE: Duration = Duration::from_millis(250);

/// How often what waits is looked at for what has expired, and the connection for its end.
const TICK: Duration = Duration::from_millis(250);

/// An address where no server is.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// What waits for the connection that publishes.
pub(super) struct Outgoing {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
    opened: Notify,
    topics: Arc<Topics<Link>>,
    seals: Arc<Seals>,
    disconnected: Counter,
    backlog: Counter,
    refused: Counter,
    expired: Counter,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// Absent while there is no connection.
    client: Option<Client>,
}

impl State {
    fn is_up(&self) -> bool {
        self.client.as_ref().is_some_and(is_up)
    }
}

fn is_up(client: &Client) -> bool {
    client.connection_state() == LineState::Connected
}

impl Outgoing {
    pub(super) fn new(topics: Arc<Topics<Link>>, seals: Arc<Seals>) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            opened: Notify::new(),
            topics,
            seals,
            disconnected: dropped_because("disconnected"),
            backlog: dropped_because("backlog"),
            refused: dropped_because("refused"),
            expired: dropped_because("expired"),
        }
    }

    /// Takes a publication. While NATS is away only what never expires is kept.
    pub(super) fn push(&self, line: &Line, subject: &str, payload: Bytes, expiry: Expiry) {
        let dropped = {
            if expiry != Expiry::Never && !line.is_up() {
                return self.disconnected.increment(1);
            }
            let (subject, since) = (Subject::from(subject), Instant::now());
            self.lock().queue.push(Publication { subject, payload, expiry, since })
        };
        if dropped > 0 {
            self.backlog.increment(dropped);
        }
        self.filled.notify_one();
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.lock().is_up()
    }

    /// Waits until there is a connection.
    pub(super) async fn opened(&self) {
        loop {
            // Asked for before looking, so that an opening in between is noticed.
            let opened = self.opened.notified();
            if self.is_up() {
                return;
            }
            opened.await;
        }
    }

    /// Waits until everything that waited has been written, or dropped.
    pub(super) async fn flush(&self) {
        loop {
            let emptied = self.emptied.notified();
            let (is_empty, client) = {
                let state = self.lock();
                (state.queue.is_empty(), state.client.clone())
            };
            if is_empty {
                if let Some(client) = client {
                    // It fails when the connection is over, and with it all that was to be written.
                    drop(client.flush().await);
                }
                return;
            }
            emptied.await;
        }
    }

    fn open(&self, client: Client) {
        self.lock().client = Some(client);
        self.opened.notify_waiters();
        self.filled.notify_one();
    }

    fn close(&self) {
        self.lock().client = None;
    }

    /// NATS is away.
    fn drop_expiring(&self) {
        let mut state = self.lock();
        let dropped = state.queue.drop_expiring();
        self.after_drop(&state, &self.disconnected, dropped);
    }

    fn drop_expired(&self) {
        let mut state = self.lock();
        let dropped = state.queue.drop_expired(Instant::now());
        self.after_drop(&state, &self.expired, dropped);
    }

    fn after_drop(&self, state: &State, counter: &Counter, dropped: u64) {
        if dropped > 0 {
            counter.increment(dropped);
        }
        if state.queue.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Hands a batch to the client. It happens under the lock: whoever finds nothing waiting knows that all has been
    /// handed over.
    fn hand_over(&self) {
        self.drop_expired();
        let mut state = self.lock();
        let State { queue, client } = &mut *state;
        let Some(client) = client.as_ref().filter(|client| is_up(client)) else { return };
        for _ in 0..BATCH {
            let Some(next) = queue.front() else { break };
            // Sealed now and not when it was taken: it is as old as it is on its way.
            let Some(sealed) = self.seals.seal(&next.subject, &next.payload) else {
                queue.pop();
                continue;
            };
            let published = client.publish(next.subject.clone(), sealed);
            // Ready at once when there is room. Not subject to the budget of the task: it would look like no room.
            match unconstrained(published).now_or_never() {
                Some(Ok(())) => self.topics.published(),
                Some(Err(_)) => self.refused.increment(1),
                None => break,
            }
            queue.pop();
        }
        if queue.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change, so a poisoned lock is as good as any other.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        self.lock().queue.bytes()
    }
}

/// Keeps a connection for what waits.
pub(super) struct Publisher {
    pub(super) outgoing: Arc<Outgoing>,
    /// The connection that receives: when it is away, the server is.
    pub(super) line: Line,
    pub(super) addresses: Vec<ServerAddr>,
    pub(super) options: ConnectOptions,
}

impl Publisher {
    pub(super) async fn run(self) {
        let mut attempts = 0;
        loop {
            if !self.line.is_up() {
                self.outgoing.drop_expiring();
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            match self.connect().await {
                Ok(connection) => {
                    attempts = 0;
                    self.outgoing.open(connection.client.clone());
                    self.carry(connection).await;
                    self.outgoing.close();
                }
                Err(error) => tracing::debug!("NATS takes no publications: {error:#}"),
            }
            attempts += 1;
            self.outgoing.drop_expired();
            sleep(delay(attempts)).await;
        }
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let client = self
            .options
            .clone()
            // Each of them is tried once.
            .max_reconnects(self.addresses.len())
            .connect(&self.addresses[..])
            .await
            .context("cannot connect")?;
        client.set_server_pool(NOWHERE).await.context("cannot forget the servers")?;
        let inbox = Subject::from(client.new_inbox());
        let echoes = client.subscribe(inbox.clone()).await.context("cannot listen to echoes")?;
        let mut connection = Connection { client, inbox, echoes, round: 0, heard: None };
        if timeout(PATIENCE, connection.echo()).await.is_err() {
            // Without the permission for echoes the server counts as well for as long as the connection stands.
            connection.heard = None;
        }
        Ok(connection)
    }

    /// Hands over what waits until the connection breaks.
    async fn carry(&self, mut connection: Connection) {
        let client = connection.client.clone();
        while is_up(&client) {
            if self.outgoing.is_empty() {
                // Neither has to come: the connection may break while nothing is published.
                let _ = timeout(TICK, self.outgoing.filled.notified()).await;
                continue;
            }
            let mut is_well = std::pin::pin!(connection.is_well());
            while timeout(TICK, &mut is_well).await.is_err() {
                if !is_up(&client) {
                    return;
                }
                self.outgoing.drop_expired();
            }
            self.outgoing.hand_over();
        }
    }
}

/// A connection that publishes.
struct Connection {
    client: Client,
    inbox: Subject,
    echoes: Subscriber,
    round: u64,
    /// When the latest echo was asked for that came; `None` when the server does not echo.
    heard: Option<Instant>,
}

impl Connection {
    /// Returns when what was handed over has been written, and the server is known to take in what is written.
    async fn is_well(&mut self) {
        match self.heard {
            Some(heard) if heard.elapsed() > PULSE => self.echo().await,
            // It fails when the connection is over, which the caller looks at itself.
            Some(_) | None => drop(self.client.flush().await),
        }
    }

    /// Returns when the server has taken in everything that was handed over.
    async fn echo(&mut self) {
        let asked = Instant::now();
        self.round += 1;
        let call = Bytes::copy_from_slice(&self.round.to_be_bytes());
        if self.client.publish(self.inbox.clone(), call.clone()).await.is_err() {
            return;
        }
        while let Some(echo) = self.echoes.next().await {
            if echo.payload == call {
                self.heard = Some(asked);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::events::Events;
    use crate::events::contract::{Server, nothing_more, participant, until};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_client_whose_connection_breaks_ends_with_all_that_it_has_taken() {
        let Some((mut server, Events::Nats(bus))) = Server::start_with_bus().await else { return };
        let config = server.config();
        let (addresses, options) =
            (config.addresses().expect("addresses"), config.options("test").await.expect("options"));
        let outgoing = Arc::new(Outgoing::new(Arc::new(Topics::new()), Arc::clone(&bus.seals)));
        let publisher = Publisher { outgoing, line: bus.line.clone(), addresses, options };
        let Connection { client, .. } = publisher.connect().await.expect("a connection");
        server.kill();
        until("the loss is noticed", || async { !is_up(&client) }).await;
        // It takes publications for as long as it looks for a server.
        let publish = || async { client.publish("room", "old".into()).await };
        until("the client has ended", || async { publish().await.is_err() }).await;

        server.go().await;
        let receiver = Events::nats(&config, participant()).await.expect("a bus");
        let (sender, mut queue) = mpsc::channel(8);
        let _subscription = receiver.subscribe("room", sender).await;
        nothing_more(&mut queue).await;
        assert!(!is_up(&client));
    }
}
