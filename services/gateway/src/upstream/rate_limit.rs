//! How often what may be done, per user and per address. Every gateway counts on its own.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chassis::fault::Fault;
use chassis::tasks::Tasks;
use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use proto::gateway::v1::ErrorReason;
use proto::id::{ConversationId, UserId};
use proto::rate::{RateClass, RequestRate};
use proto::rpc::Rpc;
use tonic::Code;

use crate::config::{Config, RatesConfig};

/// How often those are forgotten who have not been seen for so long that it makes no difference.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// How many keys one limiter remembers at most.
const CAPACITY: usize = 200_000;

/// Requests refused, by limit.
const LIMITED: &str = "rate_limited_total";
/// Checks of a limit that had no room for one more to count, by limit.
const FULL: &str = "rate_limiters_full_total";

const QUARTER: Duration = Duration::from_secs(15 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How often what may be done.
pub(crate) struct Limits {
    sends: Keyed<UserId>,
    sends_per_conversation: Keyed<(UserId, ConversationId)>,
    heavy: Keyed<UserId>,
    registrations: Keyed<IpAddr>,
    guests: Keyed<IpAddr>,
    logins: Keyed<IpAddr>,
    codes: Keyed<IpAddr>,
    anonymous: Keyed<IpAddr>,
    handshakes_per_address: Keyed<IpAddr>,
    handshakes: RateLimiter<NotKeyed, InMemoryState, MonotonicClock>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let rates: &RatesConfig = &config.rates;
        let sockets = &config.sockets;
        Self {
            sends: Keyed::new("sends", per_second(rates.sends_burst, rates.sends_per_second), Full::Lets),
            sends_per_conversation: Keyed::new(
                "sends_per_conversation",
                per_second(rates.sends_per_conversation_per_second, rates.sends_per_conversation_per_second),
                Full::Lets,
            ),
            heavy: Keyed::new("heavy", per_second(rates.heavy_burst, rates.heavy_per_second), Full::Lets),
            registrations: Keyed::new(
                "registrations",
                within(rates.registrations_per_address_per_hour, HOUR),
                Full::Refuses,
            ),
            guests: Keyed::new("guests", within(rates.guests_per_address_per_hour, HOUR), Full::Refuses),
            logins: Keyed::new(
                "logins",
                within(rates.logins_per_address_per_quarter, QUARTER),
                Full::Refuses,
            ),
            codes: Keyed::new("codes", within(rates.codes_per_address_per_quarter, QUARTER), Full::Refuses),
            anonymous: Keyed::new(
                "anonymous",
                per_second(rates.anonymous_burst_per_address, rates.anonymous_per_address_per_second),
                Full::Refuses,
            ),
            handshakes_per_address: Keyed::new(
                "handshakes_per_address",
                per_second(
                    sockets.handshakes_per_address_per_second,
                    sockets.handshakes_per_address_per_second,
                ),
                Full::Refuses,
            ),
            handshakes: RateLimiter::direct_with_clock(
                per_second(sockets.handshakes_per_second, sockets.handshakes_per_second),
                MonotonicClock,
            ),
        }
    }

    /// Counts a request of a signed-in user, over REST and on the socket alike.
    pub(crate) fn call(&self, rate: RequestRate, user: UserId) -> Result<(), Fault> {
        match rate.class {
            RateClass::Send => {
                // The narrower one first: what it refuses does not count against the wider one.
                if let Some(conversation) = rate.conversation_id {
                    self.sends_per_conversation.check((user, conversation))?;
                }
                self.sends.check(user)
            }
            RateClass::Heavy => self.heavy(user),
            RateClass::Read
            | RateClass::Write
            | RateClass::Signal
            | RateClass::CallSignal
            | RateClass::Login
            | RateClass::Registration
            | RateClass::Guest
            | RateClass::Code => Ok(()),
        }
    }

    /// A user asks for something that is much work.
    pub(crate) fn heavy(&self, user: UserId) -> Result<(), Fault> {
        self.heavy.check(user)
    }

    /// Counts an rpc that is called by a user, or by a caller of whom only the address is known.
    pub(crate) fn rpc<R: Rpc>(
        &self,
        request: &R,
        user: Option<UserId>,
        address: IpAddr,
    ) -> Result<(), Fault> {
        let Some(rate) = request.rate() else { return Ok(()) };
        self.attempt(rate.class, address)?;
        match user {
            Some(user) => self.call(rate, user),
            None => Ok(()),
        }
    }

    /// Counts a call for the address that it comes from, when its class is counted so.
    pub(crate) fn attempt(&self, class: RateClass, address: IpAddr) -> Result<(), Fault> {
        let limiter = match class {
            RateClass::Registration => &self.registrations,
            RateClass::Guest => &self.guests,
            RateClass::Login => &self.logins,
            RateClass::Code => &self.codes,
            RateClass::Read
            | RateClass::Write
            | RateClass::Send
            | RateClass::Heavy
            | RateClass::Signal
            | RateClass::CallSignal => return Ok(()),
        };
        limiter.check(network(address))
    }

    /// An address asks something without being signed in, or with a token that is none.
    pub(crate) fn anonymous(&self, address: IpAddr) -> Result<(), Fault> {
        self.anonymous.check(network(address))
    }

    /// An address opens a socket.
    pub(crate) fn handshake(&self, address: IpAddr) -> Result<(), Fault> {
        self.handshakes_per_address.check(network(address))?;
        let refused = self.handshakes.check();
        refused.map_err(|not_until| too_often("handshakes", not_until.wait_time_from(MonotonicClock.now())))
    }

    /// Forgets now and then those who have not been seen for long.
    pub(crate) fn start(this: &Arc<Self>, tasks: &Tasks) {
        metrics::describe_counter!(LIMITED, "Requests refused because there were too many, by limit.");
        metrics::describe_counter!(FULL, "Checks of a limit that had no room for one more to count.");
        let limits = Arc::clone(this);
        tasks.spawn("forget-limits", |shutdown| async move {
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(FORGET_EVERY) => limits.forget(),
                }
            }
        });
    }

    fn forget(&self) {
        self.sends.forget();
        self.sends_per_conversation.forget();
        self.heavy.forget();
        for by_address in [
            &self.registrations,
            &self.guests,
            &self.logins,
            &self.codes,
            &self.anonymous,
            &self.handshakes_per_address,
        ] {
            by_address.forget();
        }
    }
}

/// One limit, counted for each key.
struct Keyed<K: Hash + Eq + Clone> {
    name: &'static str,
    limiter: RateLimiter<K, DashMapStateStore<K>, MonotonicClock>,
    full: Full,
}

/// What happens when there are more keys than are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// Everything is let through: the one who asks is known in another way.
    Lets,
    /// Everything is refused until keys have been forgotten.
    Refuses,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(name: &'static str, quota: Quota, full: Full) -> Self {
        Self { name, limiter: RateLimiter::dashmap_with_clock(quota, MonotonicClock), full }
    }

    fn check(&self, key: K) -> Result<(), Fault> {
        if self.limiter.len() >= CAPACITY {
            metrics::counter!(FULL, "limit" => self.name).increment(1);
            return match self.full {
                Full::Lets => Ok(()),
                Full::Refuses => Err(too_often(self.name, FORGET_EVERY)),
            };
        }
        let refused = self.limiter.check_key(&key);
        refused.map_err(|not_until| too_often(self.name, not_until.wait_time_from(MonotonicClock.now())))
    }

    fn forget(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

fn too_often(limit: &'static str, wait: Duration) -> Fault {
    metrics::counter!(LIMITED, "limit" => limit).increment(1);
    Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
        .message("too many requests: slow down")
        .with("limit", limit)
        .retry_after(wait.max(Duration::from_millis(1)))
}

/// So many at once, and so many more with every second.
fn per_second(burst: u32, more: u32) -> Quota {
    Quota::per_second(positive(more)).allow_burst(positive(burst))
}

/// So many within a span. They come back one by one.
fn within(times: u32, span: Duration) -> Quota {
    let one = span / positive(times).get();
    Quota::with_period(one).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(positive(times))
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// Who has one IPv6 address has a whole /64 of them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1::ForwardMessageRequest;
    use proto::rate::RatedRequest as _;

    use super::*;

    fn limits(rates: RatesConfig) -> Limits {
        Limits::new(&Config { rates, ..Config::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn send(conversation_id: Option<ConversationId>) -> RequestRate {
        RequestRate { class: RateClass::Send, conversation_id }
    }

    #[test]
    fn a_user_may_send_a_burst_and_then_waits() {
        let limits = limits(RatesConfig { sends_burst: 3, sends_per_second: 1, ..RatesConfig::default() });
        let (ann, bob) = (UserId::generate(), UserId::generate());
        for _ in 0..3 {
            assert!(limits.call(send(None), ann).is_ok());
        }
        let fault = limits.call(send(None), ann).expect_err("too many");
        assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED"));
        assert!(
            fault.wait().is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)),
            "{fault:?}"
        );
        assert!(limits.call(send(None), bob).is_ok(), "one user's sends do not count against another");
    }

    #[test]
    fn what_the_conversation_refuses_does_not_count_for_the_user() {
        let rates = RatesConfig {
            sends_burst: 3,
            sends_per_second: 1,
            sends_per_conversation_per_second: 1,
            ..RatesConfig::default()
        };
        let (limits, ann) = (limits(rates), UserId::generate());
        let (one, other) = (ConversationId::generate(), ConversationId::generate());
        assert!(limits.call(send(Some(one)), ann).is_ok());
        for _ in 0..5 {
            assert!(limits.call(send(Some(one)), ann).is_err());
        }
        assert!(limits.call(send(Some(other)), ann).is_ok());
        assert!(limits.call(send(None), ann).is_ok());
        assert!(limits.call(send(None), ann).is_err());
    }

    /// Every class is counted by the limits that it names, and no class by others.
    #[test]
    fn a_class_counts_against_its_limit() {
        const PER_USER: [RateClass; 2] = [RateClass::Send, RateClass::Heavy];
        const PER_ADDRESS: [RateClass; 4] =
            [RateClass::Login, RateClass::Registration, RateClass::Guest, RateClass::Code];
        let rates = RatesConfig {
            sends_burst: 1,
            sends_per_second: 1,
            heavy_burst: 1,
            heavy_per_second: 1,
            logins_per_address_per_quarter: 1,
            registrations_per_address_per_hour: 1,
            guests_per_address_per_hour: 1,
            codes_per_address_per_quarter: 1,
            ..RatesConfig::default()
        };
        let (limits, ann) = (limits(rates), UserId::generate());
        let mut classes: Vec<RateClass> = proto::rate::all().iter().map(|rate| rate.class).collect();
        classes.sort_by_key(|class| *class as u8);
        classes.dedup();
        assert_eq!(classes.len(), 10, "every class is the class of an rpc");
        for class in classes {
            let call = || limits.call(RequestRate { class, conversation_id: None }, ann);
            let attempt = || limits.attempt(class, address("192.0.2.1"));
            assert!(call().is_ok() && attempt().is_ok(), "{class:?} counts against the limit of another");
            assert_eq!(call().is_err(), PER_USER.contains(&class), "{class:?}");
            assert_eq!(attempt().is_err(), PER_ADDRESS.contains(&class), "{class:?}");
        }
    }

    #[test]
    fn a_forward_counts_where_it_goes() {
        let rates = RatesConfig { sends_per_conversation_per_second: 1, ..RatesConfig::default() };
        let (limits, ann) = (limits(rates), UserId::generate());
        let (from, to) = (ConversationId::generate(), ConversationId::generate());
        let forward = |target: ConversationId| ForwardMessageRequest {
            conversation_id: from.to_string(),
            target_conversation_id: target.to_string(),
            ..ForwardMessageRequest::default()
        };
        assert!(limits.call(forward(to).request_rate(), ann).is_ok());
        assert!(limits.call(forward(to).request_rate(), ann).is_err());
        assert!(limits.call(forward(from).request_rate(), ann).is_ok());
        assert!(limits.call(send(Some(to)), ann).is_err());
    }

    #[test]
    fn an_address_registers_so_often_in_an_hour() {
        let limits = limits(RatesConfig::default());
        for _ in 0..5 {
            assert!(limits.attempt(RateClass::Registration, address("192.0.2.1")).is_ok());
        }
        let fault = limits.attempt(RateClass::Registration, address("192.0.2.1")).expect_err("too many");
        let wait = fault.wait().expect("a time to wait");
        assert!(wait > Duration::from_secs(11 * 60) && wait <= Duration::from_secs(12 * 60), "{wait:?}");
        assert!(limits.attempt(RateClass::Registration, address("192.0.2.2")).is_ok());
        assert!(limits.attempt(RateClass::Login, address("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_address_tries_so_many_codes_in_a_quarter_of_an_hour() {
        let limits = limits(RatesConfig { codes_per_address_per_quarter: 3, ..RatesConfig::default() });
        for _ in 0..3 {
            assert!(limits.attempt(RateClass::Code, address("192.0.2.1")).is_ok());
        }
        let fault = limits.attempt(RateClass::Code, address("192.0.2.1")).expect_err("too many");
        let wait = fault.wait().expect("a time to wait");
        assert!(wait > Duration::from_secs(4 * 60) && wait <= Duration::from_secs(5 * 60), "{wait:?}");
        assert!(limits.attempt(RateClass::Login, address("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let rates = RatesConfig { registrations_per_address_per_hour: 1, ..RatesConfig::default() };
        let limits = limits(rates);
        assert!(limits.attempt(RateClass::Registration, address("2001:db8::1")).is_ok());
        assert!(limits.attempt(RateClass::Registration, address("2001:db8::2")).is_err());
        assert!(limits.attempt(RateClass::Registration, address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn those_who_may_do_everything_again_are_forgotten() {
        let rates = RatesConfig {
            anonymous_burst_per_address: 1,
            anonymous_per_address_per_second: 1000,
            ..RatesConfig::default()
        };
        let limits = limits(rates);
        assert!(limits.anonymous(address("192.0.2.1")).is_ok());
        assert_eq!(limits.anonymous.limiter.len(), 1);
        std::thread::sleep(Duration::from_millis(20));
        limits.forget();
        assert_eq!(limits.anonymous.limiter.len(), 0);
    }
}
