//! The open connections: admitted by address, counted per address and per user.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::fault::Fault;
use metrics::Gauge;
use proto::gateway::v1::ErrorReason;
use proto::id::{SessionId, UserId};
use tokio::sync::{Notify, mpsc};
use tonic::Code;

use super::connection::Connection;
use super::identity::Viewer;
use crate::config::SocketsConfig;

/// The time that a client without a slot is told to wait.
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
    /// The connections of the anonymous viewer, by number.
    anonymous: HashMap<u64, Arc<Connection>>,
    /// Users whose first connection was opened, or whose last one was closed, since [`ConnectionRegistry::changed`].
    changed: HashSet<UserId>,
    /// Devices whose first connection was opened, or whose last one was closed, since
    /// [`ConnectionRegistry::changed_devices`].
    changed_devices: HashSet<(UserId, SessionId)>,
    total: usize,
}

#[derive(Default)]
struct Address {
    connections: usize,
    unauthenticated: usize,
}

impl ConnectionRegistry {
    /// Creates the registry. It sends every user whose last connection has closed; they may have connected again by
    /// then.
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
        let slot = Slot { registry: self.clone(), address, connections: Mutex::default() };
        Ok(ConnectionSlot(Arc::new(slot)))
    }

    /// Returns all connections, those of the anonymous viewer included.
    pub(crate) fn everyone(&self) -> Vec<Arc<Connection>> {
        let places = self.lock();
        places.users.values().flatten().chain(places.anonymous.values()).cloned().collect()
    }

    /// Returns the connections of a user.
    pub(crate) fn of_user(&self, user: UserId) -> Vec<Arc<Connection>> {
        self.lock().users.get(&user).cloned().unwrap_or_default()
    }

    /// Returns the users with a connection.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.lock().users.keys().copied().collect()
    }

    /// Returns the users who connected or disconnected since the last call, and whether they are connected now.
    pub(crate) fn changed(&self) -> Vec<(UserId, bool)> {
        let mut places = self.lock();
        let changed = std::mem::take(&mut places.changed);
        changed.into_iter().map(|user| (user, places.users.contains_key(&user))).collect()
    }

    /// Returns the devices that connected or disconnected since the last call, and whether they are connected now.
    pub(crate) fn changed_devices(&self) -> Vec<((UserId, SessionId), bool)> {
        let mut places = self.lock();
        let changed = std::mem::take(&mut places.changed_devices);
        changed.into_iter().map(|device| (device, places.has_device(device))).collect()
    }

    /// Marks a device as changed if it is connected.
    pub(crate) fn look_at_device(&self, device: (UserId, SessionId)) {
        let mut places = self.lock();
        if places.has_device(device) {
            places.changed_devices.insert(device);
        }
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

    fn forget(&self, places: &mut Places, connection: &Connection) {
        let Viewer::User(user_id) = connection.viewer() else {
            places.anonymous.remove(&connection.number());
            return;
        };
        if let Entry::Occupied(mut user) = places.users.entry(user_id) {
            user.get_mut().retain(|other| other.number() != connection.number());
            if let Some(device) = device_of(connection)
                && !user.get().iter().any(|other| device_of(other) == Some(device))
            {
                places.changed_devices.insert(device);
            }
            if user.get().is_empty() {
                user.remove();
                places.changed.insert(user_id);
                // The receiver is gone when the gateway stops.
                let _ = self.0.disconnected.send(user_id);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // No code panics between two parts of a change, so a poisoned lock is still consistent.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of one client in the limits; released when its last clone is dropped. It counts as unauthenticated while no
/// connection of a user is attached to it. A client may have several connections on one slot, and change its user by
/// detaching one and attaching another.
#[derive(Clone)]
pub(crate) struct ConnectionSlot(Arc<Slot>);

struct Slot {
    registry: ConnectionRegistry,
    address: IpAddr,
    /// Locked after the registry, and only together with it.
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl ConnectionSlot {
    /// Registers a connection of the client. Fails when its user has the maximum number of connections.
    pub(crate) fn attach(&self, connection: &Arc<Connection>, config: &SocketsConfig) -> Result<(), Fault> {
        let mut places = self.0.registry.lock();
        let mut connections = self.0.connections();
        if let Viewer::User(user) = connection.viewer() {
            let others = places.users.entry(user).or_default();
            if others.len() >= config.per_user {
                return Err(too_many("user"));
            }
            let is_first = others.is_empty();
            let device = device_of(connection);
            let is_first_of_device = !others.iter().any(|other| device_of(other) == device);
            others.push(Arc::clone(connection));
            places.changed_devices.extend(device.filter(|_| is_first_of_device));
            if is_first {
                places.changed.insert(user);
            }
            if !connections.iter().any(is_of_user)
                && let Some(here) = places.addresses.get_mut(&self.0.address)
            {
                here.unauthenticated = here.unauthenticated.saturating_sub(1);
            }
        } else {
            places.anonymous.insert(connection.number(), Arc::clone(connection));
        }
        connections.push(Arc::clone(connection));
        Ok(())
    }

    /// Removes a connection from the registry. The client keeps its slot.
    pub(crate) fn detach(&self, connection: &Connection) {
        let mut places = self.0.registry.lock();
        let mut connections = self.0.connections();
        let Some(at) = connections.iter().position(|other| other.number() == connection.number()) else {
            return;
        };
        connections.swap_remove(at);
        self.0.registry.forget(&mut places, connection);
        if connection.viewer() != Viewer::Anonymous
            && !connections.iter().any(is_of_user)
            && let Some(here) = places.addresses.get_mut(&self.0.address)
        {
            here.unauthenticated += 1;
        }
    }

    /// Returns the address of the client.
    pub(crate) fn address(&self) -> IpAddr {
        self.0.address
    }
}

impl Slot {
    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn has_device(&self, device: (UserId, SessionId)) -> bool {
        let connections = self.users.get(&device.0).into_iter().flatten();
        connections.into_iter().any(|connection| device_of(connection) == Some(device))
    }
}

/// Returns the user and the session of a connection.
fn device_of(connection: &Connection) -> Option<(UserId, SessionId)> {
    let Viewer::User(user) = connection.viewer() else { return None };
    connection.identity().map(|identity| (user, identity.session_id()))
}

fn is_of_user(connection: &Arc<Connection>) -> bool {
    connection.viewer() != Viewer::Anonymous
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut places = self.registry.lock();
        let connections = std::mem::take(&mut *self.connections());
        places.total = places.total.saturating_sub(1);
        if let Entry::Occupied(mut here) = places.addresses.entry(self.address) {
            here.get_mut().connections = here.get().connections.saturating_sub(1);
            if !connections.iter().any(is_of_user) {
                here.get_mut().unauthenticated = here.get().unauthenticated.saturating_sub(1);
            }
            if here.get().connections == 0 {
                here.remove();
            }
        }
        for connection in &connections {
            self.registry.forget(&mut places, connection);
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
    use super::super::connection::tests::{anonymous, connection};
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

        places[0].attach(&someone(1, UserId::generate()), &config()).expect("signed in");
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
        let one = registry.admit(address(1), &config()).expect("a slot");
        let other = registry.admit(address(2), &config()).expect("a slot");
        one.attach(&someone(1, user), &config()).expect("signed in");
        assert!(other.attach(&someone(2, user), &config()).is_err());
        assert_eq!(registry.of_user(user).len(), 1);
        drop(one);
        assert!(registry.of_user(user).is_empty());
        assert!(other.attach(&someone(2, user), &config()).is_ok());
    }

    #[test]
    fn the_first_connection_of_a_user_and_the_end_of_the_last_are_told() {
        let config = SocketsConfig { per_user: 2, ..config() };
        let (registry, user) = (open(), UserId::generate());
        let mut places: Vec<_> =
            (1..3).map(|n| registry.admit(address(n), &config).expect("a slot")).collect();
        assert!(registry.changed().is_empty(), "unauthenticated connections belong to no user");
        for (number, slot) in (1..).zip(&places) {
            slot.attach(&someone(number, user), &config).expect("signed in");
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

    #[test]
    fn the_first_connection_of_a_device_and_the_end_of_the_last_are_told() {
        let config = SocketsConfig { per_user: 3, ..config() };
        let (registry, user) = (open(), UserId::generate());
        let slots: Vec<_> = (1..3).map(|n| registry.admit(address(n), &config).expect("a slot")).collect();
        let [one, other] = [1, 2].map(|number| someone(number, user));
        let device = device_of(&one).expect("a device");
        slots[0].attach(&one, &config).expect("signed in");
        assert_eq!(registry.changed_devices(), [(device, true)]);
        slots[1].attach(&other, &config).expect("signed in");
        let second = device_of(&other).expect("a device");
        let expected = if second == device { vec![] } else { vec![(second, true)] };
        assert_eq!(registry.changed_devices(), expected);
        registry.look_at_device(device);
        assert_eq!(registry.changed_devices(), [(device, true)]);
        slots[0].detach(&one);
        slots[1].detach(&other);
        let mut gone = registry.changed_devices();
        gone.sort_unstable();
        let mut both = vec![(device, false), (second, false)];
        both.sort_unstable();
        both.dedup();
        assert_eq!(gone, both);
        registry.look_at_device(device);
        assert!(registry.changed_devices().is_empty(), "it is not connected");
    }

    #[test]
    fn a_client_keeps_its_slot_while_its_user_changes() {
        let config = SocketsConfig { unauthenticated_per_address: 1, ..config() };
        let (registry, ann, bob) = (open(), UserId::generate(), UserId::generate());
        let slot = registry.admit(address(1), &config).expect("a slot");
        let viewer = anonymous(1, Bounds { frames: 1, bytes: 1 });
        slot.attach(&viewer, &config).expect("attached");
        assert!(registry.admit(address(1), &config).is_err(), "the anonymous viewer is unauthenticated");
        assert!(registry.changed().is_empty() && registry.users().is_empty());

        let (of_ann, of_bob) = (someone(2, ann), someone(3, bob));
        slot.attach(&of_ann, &config).expect("attached");
        slot.attach(&of_bob, &config).expect("attached");
        assert_eq!(registry.everyone().len(), 3);
        slot.detach(&of_ann);
        slot.detach(&of_ann);
        assert!(registry.of_user(ann).is_empty());
        assert!(registry.admit(address(1), &config).is_ok(), "one of its connections is of a user");
        slot.detach(&of_bob);
        assert!(registry.admit(address(1), &config).is_err());
        drop(slot);
        assert!(registry.everyone().is_empty());
        assert!(registry.admit(address(1), &config).is_ok());
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
