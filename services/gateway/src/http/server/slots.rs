//! The slots for connections. No address takes them all: when none is left, a connection that serves no user is closed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use crate::config::Config;
use chassis::rates::network;

/// Connections closed to make room for others.
const GAVE_WAY: &str = "http_connections_gave_way_total";

/// The pause between two searches for a connection to close.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The slots for connections, counted per address.
pub(super) struct ConnectionSlots {
    max: usize,
    max_per_address: usize,
    trusted_proxies: Vec<IpNet>,
    places: Mutex<Places>,
    freed: Notify,
}

#[derive(Default)]
struct Places {
    total: usize,
    next: u64,
    addresses: HashMap<IpAddr, HashMap<u64, Place>>,
}

/// The slot of one connection of an address.
struct Place {
    activity: Arc<Activity>,
    cut: CancellationToken,
}

/// The reason for which there is no slot for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its address has its maximum of connections, and each is in use.
    ByAddress,
    /// All slots are taken, and each is in use.
    ByAll,
}

impl ConnectionSlots {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        ::metrics::describe_counter!(GAVE_WAY, "Connections closed to make room for others.");
        Arc::new(Self {
            max: config.max_connections,
            max_per_address: config.max_connections_per_address,
            trusted_proxies: config.trusted_proxies.clone(),
            places: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a slot, and waits for one when all are in use. `None` when its own address has its maximum.
    pub(super) async fn take_when_free(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionSlot> {
        loop {
            match self.take(peer) {
                Ok(slot) => return Some(slot),
                Err(Taken::ByAddress) => return None,
                // A slot is also freed by a connection that stays open but is no longer in use.
                Err(Taken::ByAll) => {
                    let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
                }
            }
        }
    }

    /// Takes a slot, if necessary that of a connection that is closed for it.
    fn take(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionSlot, Taken> {
        let peer = peer.to_canonical();
        // The connections of a proxy carry the requests of many clients, which are counted by their requests.
        let is_proxy = self.trusted_proxies.iter().any(|proxies| proxies.contains(&peer));
        let address = (!is_proxy).then(|| network(peer));
        let mut places = self.lock();
        if let Some(address) = address
            && places.of(address) >= self.max_per_address
            && !places.make_room_at(address)
        {
            return Err(Taken::ByAddress);
        }
        if places.total >= self.max && !places.make_room() {
            return Err(Taken::ByAll);
        }
        let (number, activity, cut) = (places.next, Arc::<Activity>::default(), CancellationToken::new());
        places.next += 1;
        places.total += 1;
        if let Some(address) = address {
            let place = Place { activity: Arc::clone(&activity), cut: cut.clone() };
            places.addresses.entry(address).or_default().insert(number, place);
        }
        Ok(ConnectionSlot { slots: Arc::clone(self), address, number, activity, cut })
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // No code panics between two parts of a change.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Returns the number of connections of an address.
    fn of(&self, address: IpAddr) -> usize {
        self.addresses.get(&address).map_or(0, HashMap::len)
    }

    /// Closes the idlest connection that may be closed, of the address that has most of these.
    fn make_room(&mut self) -> bool {
        let may = |places: &HashMap<u64, Place>| {
            places.values().filter(|place| place.activity.gives_way_since().is_some()).count()
        };
        let counted = self.addresses.iter().map(|(address, places)| (may(places), *address));
        match counted.max_by_key(|(count, _)| *count) {
            Some((1.., address)) => self.make_room_at(address),
            _ => false,
        }
    }

    /// Closes the idlest connection of an address that may be closed.
    fn make_room_at(&mut self, address: IpAddr) -> bool {
        let Some(places) = self.addresses.get(&address) else { return false };
        let idle = places
            .iter()
            .filter_map(|(number, place)| place.activity.gives_way_since().map(|since| (since, *number)));
        let Some((_, number)) = idle.min() else { return false };
        if let Some(place) = self.leave(address, number) {
            place.cut.cancel();
            ::metrics::counter!(GAVE_WAY).increment(1);
        }
        true
    }

    /// Removes a connection of an address, if it has not been closed for another before.
    fn leave(&mut self, address: IpAddr, number: u64) -> Option<Place> {
        let places = self.addresses.get_mut(&address)?;
        let place = places.remove(&number)?;
        if places.is_empty() {
            self.addresses.remove(&address);
        }
        self.total -= 1;
        Some(place)
    }
}

/// The slot of one connection; released when it is dropped.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    /// `None` for the connection of a proxy.
    address: Option<IpAddr>,
    number: u64,
    activity: Arc<Activity>,
    cut: CancellationToken,
}

impl ConnectionSlot {
    /// Returns the activity of the connection.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Ends when the connection has to be closed for another.
    pub(super) async fn gives_way(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut places = self.slots.lock();
        match self.address {
            Some(address) => {
                places.leave(address, self.number);
            }
            None => places.total -= 1,
        }
        drop(places);
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(max_connections: usize, max_connections_per_address: usize) -> Arc<ConnectionSlots> {
        let trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        ConnectionSlots::new(&Config {
            max_connections,
            max_connections_per_address,
            trusted_proxies,
            ..Config::default()
        })
    }

    fn take(slots: &Arc<ConnectionSlots>, address: &str) -> Result<ConnectionSlot, Taken> {
        slots.take(address.parse().expect("an address"))
    }

    fn has_given_way(slot: &ConnectionSlot) -> bool {
        slot.cut.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_idlest_connection_of_the_fullest_address_gives_way() {
        let slots = slots(4, 10);
        let other = take(&slots, "192.0.2.1").expect("a slot");
        let mut full = Vec::new();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            full.push(take(&slots, "192.0.2.2").expect("a slot"));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(full[0].activity().request_begins(false));
        let new = take(&slots, "192.0.2.3").expect("a slot");
        let gone: Vec<bool> = [&full[0], &full[1], &full[2], &other, &new].map(has_given_way).into();
        assert_eq!(gone, [false, true, false, false, false]);
        full.clear();
        drop((other, new));
        assert_eq!(slots.lock().total, 0);
        assert!(slots.lock().addresses.is_empty());
    }

    #[tokio::test]
    async fn users_and_requests_under_way_do_not_give_way() {
        let slots = slots(2, 10);
        let user = take(&slots, "192.0.2.1").expect("a slot");
        user.activity().serves_user();
        let busy = take(&slots, "192.0.2.1").expect("a slot");
        let request = busy.activity().request_begins(false);
        assert_eq!(take(&slots, "192.0.2.2").err(), Some(Taken::ByAll));
        drop(request);
        let _new = take(&slots, "192.0.2.2").expect("a slot");
        assert!(has_given_way(&busy) && !has_given_way(&user));
    }

    #[tokio::test]
    async fn an_address_has_so_many_connections() {
        let slots = slots(10, 1);
        let first = take(&slots, "2001:db8::1").expect("a slot");
        let second = take(&slots, "2001:db8::2").expect("a slot");
        assert!(has_given_way(&first), "they are in one /64");
        second.activity().serves_user();
        assert_eq!(take(&slots, "2001:db8::3").err(), Some(Taken::ByAddress));
        assert!(take(&slots, "2001:db8:0:1::1").is_ok());
    }

    #[tokio::test]
    async fn a_trusted_proxy_has_as_many_connections_as_there_are() {
        let slots = slots(3, 1);
        let proxies = [(); 3].map(|()| take(&slots, "10.0.0.1").expect("a slot"));
        assert_eq!(take(&slots, "192.0.2.1").err(), Some(Taken::ByAll));
        assert!(!proxies.iter().any(has_given_way));
    }
}
