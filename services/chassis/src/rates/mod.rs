//! How often callers may call, per user and per address. Every service counts the calls of users and of addresses at its
//! own doors, so that a call counts the same whether it comes over REST, a socket, a dialect or gRPC. Each process of a
//! service counts on its own. Calls that a service makes for itself or for a user are not counted.

mod config;
mod keyed;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::id::{ConversationId, UserId};
use proto::rate::{RateClass, RequestRate};

pub use config::RatesConfig;
pub use keyed::{Keyed, KeyedByAddress, network, per_second, too_often, within};

use crate::fault::Fault;
use crate::tasks::Tasks;

/// The interval at which the keys are forgotten whose quota is whole again.
const FORGET_EVERY: Duration = Duration::from_secs(10);

const QUARTER: Duration = Duration::from_secs(15 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The limits of a service. Cheap to clone.
#[derive(Clone)]
pub struct Rates(Arc<Inner>);

struct Inner {
    sends: Keyed<UserId>,
    sends_per_conversation: Keyed<(UserId, ConversationId)>,
    heavy: Keyed<UserId>,
    writes: Keyed<UserId>,
    reads: Keyed<UserId>,
    signals: Keyed<UserId>,
    registrations: KeyedByAddress,
    guests: KeyedByAddress,
    logins: KeyedByAddress,
    codes: KeyedByAddress,
    strangers: KeyedByAddress,
}

impl Rates {
    /// The limits of this configuration.
    pub fn new(config: &RatesConfig) -> Self {
        let c = config;
        let per_conversation = c.sends_per_conversation_per_second;
        Self(Arc::new(Inner {
            sends: Keyed::new("sends", per_second(c.sends_burst, c.sends_per_second)),
            sends_per_conversation: Keyed::new(
                "sends_per_conversation",
                per_second(per_conversation, per_conversation),
            ),
            heavy: Keyed::new("heavy", per_second(c.heavy_burst, c.heavy_per_second)),
            writes: Keyed::new("writes", per_second(c.writes_burst, c.writes_per_second)),
            reads: Keyed::new("reads", per_second(c.reads_burst, c.reads_per_second)),
            signals: Keyed::new("signals", per_second(c.signals_burst, c.signals_per_second)),
            registrations: KeyedByAddress::new(
                "registrations",
                within(c.registrations_per_address_per_hour, HOUR),
            ),
            guests: KeyedByAddress::new("guests", within(c.guests_per_address_per_hour, HOUR)),
            logins: KeyedByAddress::new("logins", within(c.logins_per_address_per_quarter, QUARTER)),
            codes: KeyedByAddress::new("codes", within(c.codes_per_address_per_quarter, QUARTER)),
            strangers: KeyedByAddress::new(
                "strangers",
                per_second(c.strangers_burst_per_address, c.strangers_per_address_per_second),
            ),
        }))
    }

    /// The limits of this configuration, and the task that forgets the keys whose quota is whole again.
    pub fn start(config: &RatesConfig, tasks: &Tasks) -> Self {
        keyed::describe();
        let rates = Self::new(config);
        let forgetting = rates.clone();
        tasks.spawn("forget-rates", |shutdown| async move {
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(FORGET_EVERY) => forgetting.forget(),
                }
            }
        });
        rates
    }

    /// Counts a call of a signed-in user.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait, when there were too many.
    pub fn user(&self, rate: RequestRate, user: UserId) -> Result<(), Fault> {
        let limits = &self.0;
        match rate.class {
            RateClass::Send => {
                // The narrower one first: a send that it refuses does not count against the wider one.
                if let Some(conversation) = rate.conversation_id {
                    limits.sends_per_conversation.check((user, conversation))?;
                }
                limits.sends.check(user)
            }
            RateClass::Heavy => limits.heavy.check(user),
            RateClass::Write => limits.writes.check(user),
            RateClass::Read => limits.reads.check(user),
            RateClass::Signal => limits.signals.check(user),
            RateClass::CallSignal
            | RateClass::Login
            | RateClass::Registration
            | RateClass::Guest
            | RateClass::Code => Ok(()),
        }
    }

    /// Counts a call for the address that it comes from, when its class is counted so.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait, when there were too many.
    pub fn address(&self, class: RateClass, address: IpAddr) -> Result<(), Fault> {
        let limiter = match class {
            RateClass::Registration => &self.0.registrations,
            RateClass::Guest => &self.0.guests,
            RateClass::Login => &self.0.logins,
            RateClass::Code => &self.0.codes,
            RateClass::Read
            | RateClass::Write
            | RateClass::Send
            | RateClass::Heavy
            | RateClass::Signal
            | RateClass::CallSignal => return Ok(()),
        };
        limiter.check(address)
    }

    /// Counts a call without a session, or with a token that stands for none, for the address that it comes from.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait, when there were too many.
    pub fn stranger(&self, address: IpAddr) -> Result<(), Fault> {
        self.0.strangers.check(address)
    }

    fn forget(&self) {
        let limits = &self.0;
        limits.sends_per_conversation.forget();
        for by_user in [&limits.sends, &limits.heavy, &limits.writes, &limits.reads, &limits.signals] {
            by_user.forget();
        }
        for by_address in
            [&limits.registrations, &limits.guests, &limits.logins, &limits.codes, &limits.strangers]
        {
            by_address.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of one each, within a second or longer.
    fn limits() -> Rates {
        Rates::new(&RatesConfig {
            sends_burst: 1,
            sends_per_second: 1,
            heavy_burst: 1,
            heavy_per_second: 1,
            writes_burst: 1,
            writes_per_second: 1,
            reads_burst: 1,
            reads_per_second: 1,
            signals_burst: 1,
            signals_per_second: 1,
            logins_per_address_per_quarter: 1,
            registrations_per_address_per_hour: 1,
            guests_per_address_per_hour: 1,
            codes_per_address_per_quarter: 1,
            ..RatesConfig::default()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn send(conversation_id: Option<ConversationId>) -> RequestRate {
        RequestRate { class: RateClass::Send, conversation_id }
    }

    #[test]
    fn a_user_may_send_a_burst_and_then_waits() {
        let limits =
            Rates::new(&RatesConfig { sends_burst: 3, sends_per_second: 1, ..RatesConfig::default() });
        let (ann, bob) = (UserId::generate(), UserId::generate());
        for _ in 0..3 {
            assert!(limits.user(send(None), ann).is_ok());
        }
        let fault = limits.user(send(None), ann).expect_err("too many");
        assert_eq!(fault.reason(), "ERROR_REASON_RATE_LIMITED");
        assert!(
            fault.wait().is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)),
            "{fault:?}"
        );
        assert!(limits.user(send(None), bob).is_ok(), "one user's sends do not count against another");
    }

    #[test]
    fn a_send_that_the_conversation_refuses_does_not_count_for_the_user() {
        let limits = Rates::new(&RatesConfig {
            sends_burst: 3,
            sends_per_second: 1,
            sends_per_conversation_per_second: 1,
            ..RatesConfig::default()
        });
        let ann = UserId::generate();
        let (one, other) = (ConversationId::generate(), ConversationId::generate());
        assert!(limits.user(send(Some(one)), ann).is_ok());
        for _ in 0..5 {
            assert!(limits.user(send(Some(one)), ann).is_err());
        }
        assert!(limits.user(send(Some(other)), ann).is_ok());
        assert!(limits.user(send(None), ann).is_ok());
        assert!(limits.user(send(None), ann).is_err());
    }

    /// Every class is counted by the limits that it names, and no class by others.
    #[test]
    fn a_class_counts_against_its_limit() {
        const PER_USER: [RateClass; 5] =
            [RateClass::Send, RateClass::Heavy, RateClass::Write, RateClass::Read, RateClass::Signal];
        const PER_ADDRESS: [RateClass; 4] =
            [RateClass::Login, RateClass::Registration, RateClass::Guest, RateClass::Code];
        let (limits, ann) = (limits(), UserId::generate());
        let mut classes: Vec<RateClass> = proto::rate::all().iter().map(|rate| rate.class).collect();
        classes.sort_by_key(|class| *class as u8);
        classes.dedup();
        assert_eq!(classes.len(), 10, "every class is the class of an rpc");
        for class in classes {
            let call = || limits.user(RequestRate { class, conversation_id: None }, ann);
            let attempt = || limits.address(class, address("192.0.2.1"));
            assert!(call().is_ok() && attempt().is_ok(), "{class:?} counts against the limit of another");
            assert_eq!(call().is_err(), PER_USER.contains(&class), "{class:?}");
            assert_eq!(class.is_per_user(), PER_USER.contains(&class), "{class:?}");
            assert_eq!(attempt().is_err(), PER_ADDRESS.contains(&class), "{class:?}");
        }
    }

    #[test]
    fn an_address_registers_so_often_in_an_hour() {
        let limits = Rates::new(&RatesConfig::default());
        for _ in 0..5 {
            assert!(limits.address(RateClass::Registration, address("192.0.2.1")).is_ok());
        }
        let fault = limits.address(RateClass::Registration, address("192.0.2.1")).expect_err("too many");
        let wait = fault.wait().expect("a time to wait");
        assert!(wait > Duration::from_secs(11 * 60) && wait <= Duration::from_secs(12 * 60), "{wait:?}");
        assert!(limits.address(RateClass::Registration, address("192.0.2.2")).is_ok());
        assert!(limits.address(RateClass::Login, address("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_address_tries_so_many_codes_in_a_quarter_of_an_hour() {
        let limits = Rates::new(&RatesConfig { codes_per_address_per_quarter: 3, ..RatesConfig::default() });
        for _ in 0..3 {
            assert!(limits.address(RateClass::Code, address("192.0.2.1")).is_ok());
        }
        let fault = limits.address(RateClass::Code, address("192.0.2.1")).expect_err("too many");
        let wait = fault.wait().expect("a time to wait");
        assert!(wait > Duration::from_secs(4 * 60) && wait <= Duration::from_secs(5 * 60), "{wait:?}");
    }

    #[test]
    fn keys_whose_quota_is_whole_are_forgotten() {
        let limits = Rates::new(&RatesConfig {
            strangers_burst_per_address: 1,
            strangers_per_address_per_second: 1000,
            ..RatesConfig::default()
        });
        assert!(limits.stranger(address("192.0.2.1")).is_ok());
        assert!(!limits.0.strangers.is_empty());
        std::thread::sleep(Duration::from_millis(20));
        limits.forget();
        assert!(limits.0.strangers.is_empty());
    }

    #[test]
    fn development_lets_an_address_do_more() {
        let config = RatesConfig::default();
        let more = config.clone().in_profile(crate::profile::Profile::Development);
        assert_eq!(more.guests_per_address_per_hour, 100 * config.guests_per_address_per_hour);
        assert_eq!(more.sends_burst, config.sends_burst);
        assert_eq!(config.clone().in_profile(crate::profile::Profile::Production), config);
        assert!(RatesConfig { reads_burst: 0, ..config }.check().is_err());
    }
}
