//! The open connections: admitted by address, counted per address and per user.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::fault::Fault;
use metrics::Gauge;
use proto::gateway::v1::ErrorReason;
use proto::id::UserId;
use tokio::sync::{Notify, mpsc};
use tonic::Code;

use super::connection::Connection;
use crate::config::SocketsConfig;

/// How long a client that found no slot is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The open connections, and the limits on new ones.
#[derive(Clone)]
pub(crate) struct ConnectionRegistry(Arc<Inner>);

struct Inner {
    places: Mutex<Places>,
    emptied: Notify,
    open: Gauge,
    /// Receives each user whose last connection has closed.
    disconnected: mpsc::UnboundedSender<UserId>,
}

#[derive(Default)]
struct Places {
    closed: bool,
    addresses: HashMap<IpAddr, Address>,
    users: HashMap<UserId, Vec<Arc<Connection>>>,
    /// Users whose first connection was opened, or whose last one was closed, since [`ConnectionRegistry::changed`].
    changed: HashSet<UserId>,
    total: usize,
}

#[derive(Default)]
struct Address {
    connections: usize,
    unauthenticated: usize,
}

impl ConnectionRegistry {
    /// Sends every user whose last connection has closed. The user may have connected again by then.
    pub(crate) fn new(disconnected: mpsc::UnboundedSender<UserId>) -> Self {
        let open = metrics::gauge!("sockets_open");
        Self(Arc::new(Inner { places: Mutex::default(), emptied: Notify::new(), open, disconnected }))
    }

    /// Takes a slot for a connection of which only the address is known.
    pub(crate) fn admit(&self, address: IpAddr, config: &SocketsConfig) -> Result<ConnectionSlot, Fault> {
        let mut places = self.lock();
        if places.closed {
            return Err(Fault::unavailable("the gateway"));
        }
        if places.total >= config.max {
            return Err(Fault::new(Code::Unavailable, ErrorReason::Overloaded.as_str_name())
                .message("there are too many connections")
                .retry_after(RETRY_AFTER));
        }
        let here = places.addresses.entry(address).or_default();
        if here.connections >= config.per_address
            || here.unauthenticated >= config.unauthenticated_per_address
        {
            return Err(too_many("address"));
        }
        here.connections += 1;
        here.unauthenticated += 1;
        places.total += 1;
        self.0.open.set(places.total as f64);
        Ok(ConnectionSlot { registry: self.clone(), address, connection: None })
    }

    /// All connections that are signed in.
    pub(crate) fn everyone(&self) -> Vec<Arc<Connection>> {
        self.lock().users.values().flatten().cloned().collect()
    }

    /// The connections of a user.
    pub(crate) fn of_user(&self, user: UserId) -> Vec<Arc<Connection>> {
        self.lock().users.get(&user).cloned().unwrap_or_default()
    }

    /// The users with a connection.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.lock().users.keys().copied().collect()
    }

    /// The users who connected or disconnected since the last call, and whether they are connected now.
    pub(crate) fn changed(&self) -> Vec<(UserId, bool)> {
        let mut places = self.lock();
        let changed = std::mem::take(&mut places.changed);
        changed.into_iter().map(|user| (user, places.users.contains_key(&user))).collect()
    }

    /// Admits no more connections.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Waits until no connection is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.lock().total == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Nothing in here panics half way through a change, so a poisoned lock is as good as any other.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection in the limits; given back when it is dropped.
pub(crate) struct ConnectionSlot {
    registry: ConnectionRegistry,
    address: IpAddr,
    connection: Option<Arc<Connection>>,
}

impl ConnectionSlot {
    /// Gives the slot to the user of a connection.
    pub(crate) fn sign_in(
        &mut self,
        connection: &Arc<Connection>,
        config: &SocketsConfig,
    ) -> Result<(), Fault> {
        let mut places = self.registry.lock();
        let others = places.users.entry(connection.user_id()).or_default();
        if others.len() >= config.per_user {
            return Err(too_many("user"));
        }
        let is_first = others.is_empty();
        others.push(Arc::clone(connection));
        if is_first {
            places.changed.insert(connection.user_id());
        }
        if let Some(here) = places.addresses.get_mut(&self.address) {
            here.unauthenticated = here.unauthenticated.saturating_sub(1);
        }
        self.connection = Some(Arc::clone(connection));
        Ok(())
    }

    /// The address of the client.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut places = self.registry.lock();
        places.total = places.total.saturating_sub(1);
        if let Entry::Occupied(mut here) = places.addresses.entry(self.address) {
            here.get_mut().connections = here.get().connections.saturating_sub(1);
            if self.connection.is_none() {
                here.get_mut().unauthenticated = here.get().unauthenticated.saturating_sub(1);
            }
            if here.get().connections == 0 {
                here.remove();
            }
        }
        if let Some(connection) = &self.connection
            && let Entry::Occupied(mut user) = places.users.entry(connection.user_id())
        {
            user.get_mut().retain(|other| other.number() != connection.number());
            if user.get().is_empty() {
                user.remove();
                places.changed.insert(connection.user_id());
                // Nobody listens any more when the gateway goes.
                let _ = self.registry.0.disconnected.send(connection.user_id());
            }
        }
        self.registry.0.open.set(places.total as f64);
        if places.total == 0 {
            self.registry.0.emptied.notify_waiters();
        }
    }
}

fn too_many(whose: &'static str) -> Fault {
    Fault::new(Code::ResourceExhausted, ErrorReason::TooManyConnections.as_str_name())
        .message(format!("the {whose} has as many connections as it may have"))
        .with("of", whose)
        .retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::super::connection::Bounds;
    use super::super::connection::tests::connection;
    use super::*;

    fn config() -> SocketsConfig {
        SocketsConfig {
            per_address: 3,
            unauthenticated_per_address: 2,
            per_user: 1,
            max: 4,
            ..SocketsConfig::default()
        }
    }

    fn open() -> ConnectionRegistry {
        ConnectionRegistry::new(mpsc::unbounded_channel().0)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn someone(number: u64, user: UserId) -> Arc<Connection> {
        connection(number, user, Bounds { frames: 1, bytes: 1 })
    }

    #[test]
    fn an_address_has_few_unauthenticated_slots() {
        let registry = open();
        let mut places: Vec<_> =
            (0..2).map(|_| registry.admit(address(1), &config()).expect("a slot")).collect();
        let fault = registry.admit(address(1), &config()).err().expect("full");
        assert_eq!(fault.reason(), "ERROR_REASON_TOO_MANY_CONNECTIONS");
        assert!(fault.wait().is_some());
        assert!(registry.admit(address(2), &config()).is_ok());

        places[0].sign_in(&someone(1, UserId::generate()), &config()).expect("signed in");
        places.push(
            registry.admit(address(1), &config()).expect("a slot for one more unauthenticated connection"),
        );
        assert!(registry.admit(address(1), &config()).is_err(), "the address has its three");
        places.clear();
        assert!(registry.admit(address(1), &config()).is_ok());
    }

    #[test]
    fn a_user_has_few_slots_and_gets_them_back() {
        let (registry, user) = (open(), UserId::generate());
        let mut one = registry.admit(address(1), &config()).expect("a slot");
        let mut other = registry.admit(address(2), &config()).expect("a slot");
        one.sign_in(&someone(1, user), &config()).expect("signed in");
        assert!(other.sign_in(&someone(2, user), &config()).is_err());
        assert_eq!(registry.of_user(user).len(), 1);
        drop(one);
        assert!(registry.of_user(user).is_empty());
        assert!(other.sign_in(&someone(2, user), &config()).is_ok());
    }

    #[test]
    fn the_first_connection_of_a_user_and_the_end_of_the_last_are_told() {
        let config = SocketsConfig { per_user: 2, ..config() };
        let (registry, user) = (open(), UserId::generate());
        let mut places: Vec<_> =
            (1..3).map(|n| registry.admit(address(n), &config).expect("a slot")).collect();
        assert!(registry.changed().is_empty(), "unauthenticated connections belong to no user");
        for (number, slot) in (1..).zip(&mut places) {
            slot.sign_in(&someone(number, user), &config).expect("signed in");
            let expected = if number == 1 { vec![(user, true)] } else { vec![] };
            assert_eq!(registry.changed(), expected);
        }
        assert_eq!(registry.users(), [user]);
        places.pop();
        assert!(registry.changed().is_empty());
        places.pop();
        assert_eq!(registry.changed(), [(user, false)]);
        assert!(registry.users().is_empty());
    }

    #[tokio::test]
    async fn a_closed_registry_admits_no_connection() {
        let registry = open();
        let slot = registry.admit(address(1), &config()).expect("a slot");
        registry.close();
        assert!(registry.admit(address(1), &config()).is_err());
        let (emptied, ()) = tokio::join!(registry.emptied(), async { drop(slot) });
        assert_eq!(emptied, ());
    }
}
