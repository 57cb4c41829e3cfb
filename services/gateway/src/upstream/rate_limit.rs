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
use prost_reflect::DynamicMessage;
use proto::gateway::v1::ErrorReason;
use proto::id::{ConversationId, UserId};
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

/// What an address may do only so often without being known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// To make an account.
    Registration,
    /// To come in as a guest.
    Guest,
    /// To sign in with a password, or with what a provider says.
    Login,
    /// To have a code sent, or to bring something that is easily tried until it fits: a code, or a signature.
    Code,
}

impl Attempt {
    /// What an rpc is an attempt at, by its full name; nothing for those that are none.
    pub(crate) fn of(rpc: &str) -> Option<Self> {
        Some(match rpc.strip_prefix("parlor.auth.v1.")? {
            "AuthService.Register" => Self::Registration,
            "AuthService.LoginAsGuest" => Self::Guest,
            "AuthService.Login" | "AuthService.LoginWithProvider" => Self::Login,
            "OtpService.GenerateOtp"
            | "OtpService.VerifyOtp"
            | "OtpService.ResetPassword"
            | "BackgroundCheckService.ReportBackgroundCheck" => Self::Code,
            _ => return None,
        })
    }
}

/// What a call of a signed-in user counts as, over REST and on the socket alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A send, into the conversation that this field names.
    Send(&'static str),
    /// Something that is much more work for us than for the one who asks, or for the people who deal with it.
    Heavy,
}

/// What makes a list of users a search, which reads many to find a few. By address there is one at most, found at once.
const SEARCHES_USERS: [&str; 10] = [
    "keyword",
    "kind",
    "category",
    "min_age",
    "max_age",
    "age",
    "gender",
    "location",
    "language",
    "interest_ids",
];

impl Counted {
    /// What this request of an rpc counts as, by its full name; nothing for those that are not counted.
    pub(crate) fn of(rpc: &str, message: &DynamicMessage) -> Option<Self> {
        Some(match rpc.strip_prefix("parlor.")? {
            "messaging.v1.MessagingService.SendMessage" => Self::Send("conversation_id"),
            "messaging.v1.MessagingService.ForwardMessage" => Self::Send("target_conversation_id"),
            // A time that has passed sends at once.
            "scheduling.v1.ScheduledMessageService.ScheduleMessage" => Self::Send("conversation_id"),
            // Calls and requests to connect are counted where they are made.
            "messaging.v1.MessagingService.PurgeMessages"
            | "messaging.v1.ReportService.ReportMessage"
            | "messaging.v1.SearchService.SearchMessages"
            | "messaging.v1.UploadService.CreateUpload"
            | "scheduling.v1.CalendarService.ListFreeSlots"
            | "scheduling.v1.CalendarService.ScheduleCall"
            | "scheduling.v1.CalendarService.UpdateSchedule" => Self::Heavy,
            "auth.v1.UserService.ListUsers"
                if SEARCHES_USERS.iter().any(|field| message.has_field_by_name(field)) =>
            {
                Self::Heavy
            }
            _ => return None,
        })
    }
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

    /// A user sends a message, into a conversation when it is known which.
    pub(crate) fn send(&self, user: UserId, conversation: Option<ConversationId>) -> Result<(), Fault> {
        // The narrower one first: what it refuses does not count against the wider one.
        if let Some(conversation) = conversation {
            self.sends_per_conversation.check((user, conversation))?;
        }
        self.sends.check(user)
    }

    /// A user asks for something that is much work.
    pub(crate) fn heavy(&self, user: UserId) -> Result<(), Fault> {
        self.heavy.check(user)
    }

    /// A user calls an rpc that is counted.
    pub(crate) fn call(&self, counted: Counted, user: UserId, message: &DynamicMessage) -> Result<(), Fault> {
        match counted {
            Counted::Send(field) => {
                let conversation = message.get_field_by_name(field);
                self.send(user, conversation.and_then(|id| ConversationId::parse(id.as_str()?).ok()))
            }
            Counted::Heavy => self.heavy(user),
        }
    }

    /// An rpc is called by a user, or by one of whom only the address is known.
    pub(crate) fn typed<R: Rpc>(
        &self,
        request: &R,
        user: Option<UserId>,
        address: IpAddr,
    ) -> Result<(), Fault> {
        let name = R::PATH.trim_start_matches('/').replace('/', ".");
        if let Some(attempt) = Attempt::of(&name) {
            self.attempt(attempt, address)?;
        }
        let method = proto::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let Some(method) = method.into_iter().find(|method| method.full_name() == name) else {
            return Ok(());
        };
        let mut message = DynamicMessage::new(method.input());
        if message.transcode_from(request).is_err() {
            return Err(Fault::internal());
        }
        match (user, Counted::of(&name, &message)) {
            (Some(user), Some(counted)) => self.call(counted, user, &message),
            _ => Ok(()),
        }
    }

    /// An address tries to come in.
    pub(crate) fn attempt(&self, attempt: Attempt, address: IpAddr) -> Result<(), Fault> {
        let limiter = match attempt {
            Attempt::Registration => &self.registrations,
            Attempt::Guest => &self.guests,
            Attempt::Login => &self.logins,
            Attempt::Code => &self.codes,
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
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::MethodDescriptor;

    use super::*;

    fn limits(rates: RatesConfig) -> Limits {
        Limits::new(&Config { rates, ..Config::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_user_may_send_a_burst_and_then_waits() {
        let limits = limits(RatesConfig { sends_burst: 3, sends_per_second: 1, ..RatesConfig::default() });
        let (ann, bob) = (UserId::generate(), UserId::generate());
        for _ in 0..3 {
            assert!(limits.send(ann, None).is_ok());
        }
        let fault = limits.send(ann, None).expect_err("too many");
        assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED"));
        assert!(
            fault.wait().is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)),
            "{fault:?}"
        );
        assert!(limits.send(bob, None).is_ok(), "one user's sends do not count against another");
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
        assert!(limits.send(ann, Some(one)).is_ok());
        for _ in 0..5 {
            assert!(limits.send(ann, Some(one)).is_err());
        }
        assert!(limits.send(ann, Some(other)).is_ok());
        assert!(limits.send(ann, None).is_ok());
        assert!(limits.send(ann, None).is_err());
    }

    fn rpcs() -> Vec<MethodDescriptor> {
        proto::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn what_counts_is_an_rpc_with_the_field_that_it_is_counted_by() {
        let of = |rpc: &MethodDescriptor| Counted::of(rpc.full_name(), &DynamicMessage::new(rpc.input()));
        let counted: Vec<_> = rpcs().into_iter().filter_map(|rpc| Some((of(&rpc)?, rpc))).collect();
        assert_eq!(counted.len(), 10);
        for (counted, rpc) in counted {
            if let Counted::Send(field) = counted {
                assert!(rpc.input().get_field_by_name(field).is_some(), "{}", rpc.full_name());
            }
        }
    }

    /// What somebody may ask without being signed in, and that opens something or sends something, counts for the
    /// address that asks.
    #[test]
    fn every_door_for_strangers_is_counted() {
        let attempts =
            rpcs().into_iter().filter_map(|rpc| Some((rpc.name().to_owned(), Attempt::of(rpc.full_name())?)));
        let mut attempts: Vec<_> = attempts.collect();
        attempts.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("GenerateOtp", Attempt::Code),
            ("Login", Attempt::Login),
            ("LoginAsGuest", Attempt::Guest),
            ("LoginWithProvider", Attempt::Login),
            ("Register", Attempt::Registration),
            ("ReportBackgroundCheck", Attempt::Code),
            ("ResetPassword", Attempt::Code),
            ("VerifyOtp", Attempt::Code),
        ];
        assert_eq!(attempts, expected.map(|(name, attempt)| (name.to_owned(), attempt)));
    }

    #[test]
    fn a_list_that_is_narrowed_is_a_search() {
        let input = proto::pool().get_message_by_name("parlor.auth.v1.ListUsersRequest").expect("a message");
        let counted = |field: &str, value| {
            let mut message = DynamicMessage::new(input.clone());
            message.set_field_by_name(field, value);
            Counted::of("parlor.auth.v1.UserService.ListUsers", &message)
        };
        let text = || prost_reflect::Value::String("ann".to_owned());
        assert_eq!(counted("keyword", text()), Some(Counted::Heavy));
        assert_eq!(counted("age", prost_reflect::Value::I32(70)), Some(Counted::Heavy));
        for light in ["email", "page_token"] {
            assert_eq!(counted(light, text()), None);
        }
        assert!(SEARCHES_USERS.iter().all(|field| input.get_field_by_name(field).is_some()));
    }

    #[test]
    fn a_forward_counts_where_it_goes() {
        let rates = RatesConfig { sends_per_conversation_per_second: 1, ..RatesConfig::default() };
        let (limits, ann) = (limits(rates), UserId::generate());
        let forward = "parlor.messaging.v1.MessagingService.ForwardMessage";
        let (from, to) = (ConversationId::generate(), ConversationId::generate());
        let message = |target: ConversationId| {
            let input = proto::pool().get_message_by_name("parlor.messaging.v1.ForwardMessageRequest");
            let mut message = DynamicMessage::new(input.expect("a message"));
            for (field, id) in [("conversation_id", from), ("target_conversation_id", target)] {
                message.set_field_by_name(field, prost_reflect::Value::String(id.to_string()));
            }
            message
        };
        let counted = Counted::of(forward, &message(to)).expect("counted");
        assert!(limits.call(counted, ann, &message(to)).is_ok());
        assert!(limits.call(counted, ann, &message(to)).is_err());
        assert!(limits.call(counted, ann, &message(from)).is_ok());
        assert!(limits.send(ann, Some(to)).is_err());
    }

    #[test]
    fn an_address_registers_so_often_in_an_hour() {
        let limits = limits(RatesConfig::default());
        for _ in 0..5 {
            assert!(limits.attempt(Attempt::Registration, address("192.0.2.1")).is_ok());
        }
        let fault = limits.attempt(Attempt::Registration, address("192.0.2.1")).expect_err("too many");
        let wait = fault.wait().expect("a time to wait");
        assert!(wait > Duration::from_secs(11 * 60) && wait <= Duration::from_secs(12 * 60), "{wait:?}");
        assert!(limits.attempt(Attempt::Registration, address("192.0.2.2")).is_ok());
        assert!(limits.attempt(Attempt::Login, address("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_address_tries_so_many_codes_in_a_quarter_of_an_hour() {
        let limits = limits(RatesConfig { codes_per_address_per_quarter: 3, ..RatesConfig::default() });
        for _ in 0..3 {
            assert!(limits.attempt(Attempt::Code, address("192.0.2.1")).is_ok());
        }
        let fault = limits.attempt(Attempt::Code, address("192.0.2.1")).expect_err("too many");
        let wait = fault.wait().expect("a time to wait");
        assert!(wait > Duration::from_secs(4 * 60) && wait <= Duration::from_secs(5 * 60), "{wait:?}");
        assert!(limits.attempt(Attempt::Login, address("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let rates = RatesConfig { registrations_per_address_per_hour: 1, ..RatesConfig::default() };
        let limits = limits(rates);
        assert!(limits.attempt(Attempt::Registration, address("2001:db8::1")).is_ok());
        assert!(limits.attempt(Attempt::Registration, address("2001:db8::2")).is_err());
        assert!(limits.attempt(Attempt::Registration, address("2001:db8:0:1::1")).is_ok());
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
