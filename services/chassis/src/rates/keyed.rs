//! One limit, counted for each key in bounded memory.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tonic::Code;

use crate::fault::Fault;

/// How many keys one limit remembers at most.
const CAPACITY: usize = 200_000;

/// The shortest interval at which a full limit looks for keys to forget.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The lengths of the networks that an address counts for, of IPv4 and of IPv6: the first ones for as long as there is room
/// for one more, then the next.
const NETWORKS: [(u32, u32); 3] = [(32, 64), (24, 48), (16, 32)];

/// Requests refused, by limit.
const LIMITED: &str = "rate_limited_total";
/// Checks of a limit that had no room for one more key, by limit.
const FULL: &str = "rate_limiters_full_total";

/// One limit, counted for each key.
pub struct Keyed<K: Hash + Eq + Clone> {
    name: &'static str,
    limiter: RateLimiter<K, DashMapStateStore<K>, MonotonicClock>,
    capacity: usize,
    looked_at: Mutex<Option<Instant>>,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    /// A limit that lets each key do so much.
    pub fn new(name: &'static str, quota: Quota) -> Self {
        Self::with_capacity(name, quota, CAPACITY)
    }

    fn with_capacity(name: &'static str, quota: Quota, capacity: usize) -> Self {
        let limiter = RateLimiter::dashmap_with_clock(quota, MonotonicClock);
        Self { name, limiter, capacity, looked_at: Mutex::default() }
    }

    /// Counts for a key. A key for which there is no room is let through: what it does is bounded in other ways, and nothing
    /// that is known is forgotten for it.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait, when there was too much.
    pub fn check(&self, key: K) -> Result<(), Fault> {
        if self.has_room() { self.count(&key) } else { Ok(()) }
    }

    /// Forgets the keys whose quota is whole again.
    pub fn forget(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    fn count(&self, key: &K) -> Result<(), Fault> {
        let refused = self.limiter.check_key(key);
        refused.map_err(|not_until| too_often(self.name, not_until.wait_time_from(MonotonicClock.now())))
    }

    /// Whether one more key can be remembered. A full limit forgets first, at most once a second.
    fn has_room(&self) -> bool {
        if self.limiter.len() < self.capacity {
            return true;
        }
        if self.may_look_again() {
            self.limiter.retain_recent();
        }
        let has_room = self.limiter.len() < self.capacity;
        if !has_room {
            metrics::counter!(FULL, "limit" => self.name).increment(1);
        }
        has_room
    }

    fn may_look_again(&self) -> bool {
        let now = MonotonicClock.now();
        // One that is looking already is enough.
        let Ok(mut looked_at) = self.looked_at.try_lock() else { return false };
        let may = looked_at.is_none_or(|at| now.duration_since(at) >= LOOK_AGAIN);
        if may {
            *looked_at = Some(now);
        }
        may
    }
}

/// One limit, counted for the network of an address. When there is no room for one more network, it is counted for the
/// larger network around it, so that no number of addresses makes it refuse strangers elsewhere.
pub struct KeyedByAddress(Vec<Keyed<IpAddr>>);

impl KeyedByAddress {
    /// A limit that lets each network do so much.
    pub fn new(name: &'static str, quota: Quota) -> Self {
        Self::with_capacity(name, quota, CAPACITY)
    }

    fn with_capacity(name: &'static str, quota: Quota, capacity: usize) -> Self {
        Self(NETWORKS.iter().map(|_| Keyed::with_capacity(name, quota, capacity)).collect())
    }

    /// Counts for an address.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait, when there was too much.
    pub fn check(&self, address: IpAddr) -> Result<(), Fault> {
        let with_room = NETWORKS.iter().zip(&self.0).find(|(_, limit)| limit.has_room());
        with_room.map_or(Ok(()), |(lengths, limit)| limit.count(&masked(address, *lengths)))
    }

    /// Forgets the networks whose quota is whole again.
    pub fn forget(&self) {
        self.0.iter().for_each(Keyed::forget);
    }

    /// Whether no network is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|limit| limit.limiter.is_empty())
    }
}

/// The network of an address that counts as one caller: an IPv4 address, or the /64 that the holder of one IPv6 address has.
pub fn network(address: IpAddr) -> IpAddr {
    masked(address, NETWORKS[0])
}

fn masked(address: IpAddr, (v4, v6): (u32, u32)) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !(u32::MAX >> 1 >> (v4 - 1))).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> v6)).into(),
    }
}

/// The fault of a caller that calls too often.
pub fn too_often(limit: &'static str, wait: Duration) -> Fault {
    metrics::counter!(LIMITED, "limit" => limit).increment(1);
    Fault::new(Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED")
        .message("too many requests: slow down")
        .with("limit", limit)
        .retry_after(wait.max(Duration::from_millis(1)))
}

/// So many at once, and so many more with every second.
pub fn per_second(burst: u32, more: u32) -> Quota {
    Quota::per_second(positive(more)).allow_burst(positive(burst))
}

/// So many within a span. They come back one by one.
pub fn within(times: u32, span: Duration) -> Quota {
    let one = span / positive(times).get();
    Quota::with_period(one).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(positive(times))
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// Says in the metrics which limits there are.
pub fn describe() {
    metrics::describe_counter!(LIMITED, "Requests refused because there were too many, by limit.");
    metrics::describe_counter!(FULL, "Checks of a limit that had no room for one more key to count.");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limit = KeyedByAddress::new("test", within(1, Duration::from_secs(3600)));
        assert!(limit.check(address("2001:db8::1")).is_ok());
        assert!(limit.check(address("2001:db8::2")).is_err());
        assert!(limit.check(address("2001:db8:0:1::1")).is_ok());
        assert!(limit.check(address("192.0.2.1")).is_ok());
        assert!(
            limit.check(address("::ffff:192.0.2.1")).is_err(),
            "an IPv4 address is one however it is written"
        );
        assert!(limit.check(address("192.0.2.2")).is_ok());
    }

    #[test]
    fn networks_have_their_lengths() {
        let of = |text: &str, level: usize| masked(address(text), NETWORKS[level]).to_string();
        assert_eq!(of("192.0.2.77", 0), "192.0.2.77");
        assert_eq!(of("192.0.2.77", 1), "192.0.2.0");
        assert_eq!(of("192.0.2.77", 2), "192.0.0.0");
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 0), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1::");
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 2), "2001:db8::");
    }

    #[test]
    fn a_full_limit_counts_larger_networks_and_refuses_nobody_elsewhere() {
        let limit = KeyedByAddress::with_capacity("test", within(1, Duration::from_secs(3600)), 4);
        // As many networks of one attacker as are remembered.
        for number in 0..4 {
            assert!(limit.check(address(&format!("2001:db8:0:{number}::1"))).is_ok());
        }
        assert!(limit.check(address("2001:db8:0:99::1")).is_ok(), "the first of the larger network");
        assert!(limit.check(address("2001:db8:0:100::1")).is_err(), "the larger network has had its one");
        assert!(limit.check(address("2001:4860::1")).is_ok(), "others have theirs");
        assert!(limit.check(address("192.0.2.1")).is_ok());
        assert!(limit.check(address("192.0.2.2")).is_err());
        // The larger networks are filled too, then those around them.
        for number in 1..=9 {
            assert!(limit.check(address(&format!("2001:{number}::1"))).is_ok(), "{number}");
        }
        assert!(limit.0.iter().all(|level| level.limiter.len() <= 4));
    }

    #[test]
    fn a_full_limit_forgets_those_whose_quota_is_whole() {
        let limit = Keyed::with_capacity("test", per_second(1, 1000), 2);
        assert!(limit.check(1).is_ok() && limit.check(2).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        assert!(limit.check(3).is_ok());
        assert_eq!(limit.limiter.len(), 1, "the two others are forgotten");
    }

    #[test]
    fn a_key_without_room_is_let_through_and_the_known_ones_stay_refused() {
        let limit = Keyed::with_capacity("test", within(1, Duration::from_secs(3600)), 2);
        assert!(limit.check("ann").is_ok() && limit.check("bob").is_ok());
        assert!(limit.check("cleo").is_ok() && limit.check("cleo").is_ok());
        assert_eq!(limit.limiter.len(), 2);
    }
}
