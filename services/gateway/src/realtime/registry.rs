//! Who may come in, and who is in: connections counted per address and per user.

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

/// How long one who found no place waits.
const COME_BACK: Duration = Duration::from_secs(5);

/// Who is in.
#[derive(Clone)]
pub(crate) struct Door(Arc<Inner>);

struct Inner {
    places: Mutex<Places>,
    emptied: Notify,
    open: Gauge,
    /// Who has no connection any more.
    left: mpsc::UnboundedSender<UserId>,
}

#[derive(Default)]
struct Places {
    closed: bool,
    addresses: HashMap<IpAddr, Address>,
    users: HashMap<UserId, Vec<Arc<Connection>>>,
    /// Those whose first connection has come, or whose last has gone, since somebody looked.
    changed: HashSet<UserId>,
    total: usize,
}

#[derive(Default)]
struct Address {
    connections: usize,
    strangers: usize,
}

impl Door {
    /// Says of every user whose last connection has gone. The user may be back by then.
    pub(crate) fn new(left: mpsc::UnboundedSender<UserId>) -> Self {
        let open = metrics::gauge!("sockets_open");
        Self(Arc::new(Inner { places: Mutex::default(), emptied: Notify::new(), open, left }))
    }

    /// Gives a place to one of whom only the address is known.
    pub(crate) fn enter(&self, address: IpAddr, config: &SocketsConfig) -> Result<Place, Fault> {
        let mut places = self.lock();
        if places.closed {
            return Err(Fault::unavailable("the gateway"));
        }
        if places.total >= config.max {
            return Err(Fault::new(Code::Unavailable, ErrorReason::Overloaded.as_str_name())
                .message("there are too many connections")
                .retry_after(COME_BACK));
        }
        let here = places.addresses.entry(address).or_default();
        if here.connections >= config.per_address || here.strangers >= config.unauthenticated_per_address {
            return Err(too_many("address"));
        }
        here.connections += 1;
        here.strangers += 1;
        places.total += 1;
        self.0.open.set(places.total as f64);
        Ok(Place { door: self.clone(), address, connection: None })
    }

    /// All who are signed in.
    pub(crate) fn everyone(&self) -> Vec<Arc<Connection>> {
        self.lock().users.values().flatten().cloned().collect()
    }

    /// The connections of a user.
    pub(crate) fn of_user(&self, user: UserId) -> Vec<Arc<Connection>> {
        self.lock().users.get(&user).cloned().unwrap_or_default()
    }

    /// Who is in.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.lock().users.keys().copied().collect()
    }

    /// Those who came in or went since this was asked last, and whether they are in now.
    pub(crate) fn changed(&self) -> Vec<(UserId, bool)> {
        let mut places = self.lock();
        let changed = std::mem::take(&mut places.changed);
        changed.into_iter().map(|user| (user, places.users.contains_key(&user))).collect()
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Waits until nobody is in.
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

/// A place that is taken; given back when it is dropped.
pub(crate) struct Place {
    door: Door,
    address: IpAddr,
    connection: Option<Arc<Connection>>,
}

impl Place {
    /// The one who has it is known now.
    pub(crate) fn sign_in(
        &mut self,
        connection: &Arc<Connection>,
        config: &SocketsConfig,
    ) -> Result<(), Fault> {
        let mut places = self.door.lock();
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
            here.strangers = here.strangers.saturating_sub(1);
        }
        self.connection = Some(Arc::clone(connection));
        Ok(())
    }

    /// Where it is from.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.door.lock();
        places.total = places.total.saturating_sub(1);
        if let Entry::Occupied(mut here) = places.addresses.entry(self.address) {
            here.get_mut().connections = here.get().connections.saturating_sub(1);
            if self.connection.is_none() {
                here.get_mut().strangers = here.get().strangers.saturating_sub(1);
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
                let _ = self.door.0.left.send(connection.user_id());
            }
        }
        self.door.0.open.set(places.total as f64);
        if places.total == 0 {
            self.door.0.emptied.notify_waiters();
        }
    }
}

fn too_many(whose: &'static str) -> Fault {
    Fault::new(Code::ResourceExhausted, ErrorReason::TooManyConnections.as_str_name())
        .message(format!("the {whose} has as many connections as it may have"))
        .with("of", whose)
        .retry_after(COME_BACK)
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

    fn open() -> Door {
        Door::new(mpsc::unbounded_channel().0)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn someone(number: u64, user: UserId) -> Arc<Connection> {
        connection(number, user, Bounds { frames: 1, bytes: 1 })
    }

    #[test]
    fn strangers_of_one_address_have_few_places() {
        let door = open();
        let mut places: Vec<_> =
            (0..2).map(|_| door.enter(address(1), &config()).expect("a place")).collect();
        let fault = door.enter(address(1), &config()).err().expect("full");
        assert_eq!(fault.reason(), "ERROR_REASON_TOO_MANY_CONNECTIONS");
        assert!(fault.wait().is_some());
        assert!(door.enter(address(2), &config()).is_ok());

        places[0].sign_in(&someone(1, UserId::generate()), &config()).expect("signed in");
        places.push(door.enter(address(1), &config()).expect("a place for one more stranger"));
        assert!(door.enter(address(1), &config()).is_err(), "the address has its three");
        places.clear();
        assert!(door.enter(address(1), &config()).is_ok());
    }

    #[test]
    fn a_user_has_few_places_and_gets_them_back() {
        let (door, user) = (open(), UserId::generate());
        let mut one = door.enter(address(1), &config()).expect("a place");
        let mut other = door.enter(address(2), &config()).expect("a place");
        one.sign_in(&someone(1, user), &config()).expect("signed in");
        assert!(other.sign_in(&someone(2, user), &config()).is_err());
        assert_eq!(door.of_user(user).len(), 1);
        drop(one);
        assert!(door.of_user(user).is_empty());
        assert!(other.sign_in(&someone(2, user), &config()).is_ok());
    }

    #[test]
    fn the_first_connection_of_a_user_and_the_end_of_the_last_are_told() {
        let config = SocketsConfig { per_user: 2, ..config() };
        let (door, user) = (open(), UserId::generate());
        let mut places: Vec<_> = (1..3).map(|n| door.enter(address(n), &config).expect("a place")).collect();
        assert!(door.changed().is_empty(), "strangers are nobody");
        for (number, place) in (1..).zip(&mut places) {
            place.sign_in(&someone(number, user), &config).expect("signed in");
            let expected = if number == 1 { vec![(user, true)] } else { vec![] };
            assert_eq!(door.changed(), expected);
        }
        assert_eq!(door.users(), [user]);
        places.pop();
        assert!(door.changed().is_empty());
        places.pop();
        assert_eq!(door.changed(), [(user, false)]);
        assert!(door.users().is_empty());
    }

    #[tokio::test]
    async fn nobody_comes_in_when_it_is_closed() {
        let door = open();
        let place = door.enter(address(1), &config()).expect("a place");
        door.close();
        assert!(door.enter(address(1), &config()).is_err());
        let (emptied, ()) = tokio::join!(door.emptied(), async { drop(place) });
        assert_eq!(emptied, ());
    }
}
