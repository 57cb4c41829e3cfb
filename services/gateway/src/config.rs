//! The settings of the gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use chassis::config::check_address;
use chassis::profile::Profile;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The address to listen at when none is configured.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);

/// A second address on which development listens too if it is free: existing clients use it.
const ALSO_IN_DEVELOPMENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// In development one machine plays many clients: the limits of an address are multiplied by this.
const MORE_PER_ADDRESS_IN_DEVELOPMENT: u32 = 100;

/// The value that allows every origin. Development only.
const ANY_ORIGIN: &str = "*";

/// The settings of the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address for HTTP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// A second address for HTTP, left out when another process listens there. Absent means 127.0.0.1:5000 in
    /// development while `listen` has its default, and none otherwise.
    pub listen_also: Option<SocketAddr>,
    /// True when a proxy in front terminates TLS. Production needs this beyond loopback: the gateway itself speaks
    /// plain HTTP/1.1 and HTTP/2.
    pub behind_proxy: bool,
    /// The origins whose pages may use the gateway, exactly as browsers send them (`https://chat.example`). Empty means
    /// none in production and every one in development.
    pub allowed_origins: Vec<String>,
    /// The networks of the proxies in front (`10.0.0.0/8`, `127.0.0.1`). Only their `x-forwarded-for` is trusted for a
    /// client's address.
    #[serde(with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// The maximum number of open connections. For one more, the idlest connection without a user of the address that
    /// has most of these is closed; if there is none, it waits to be accepted. Sockets are counted on their own.
    pub max_connections: usize,
    /// The maximum number of connections of an address. For one more, its idlest without a user is closed; if there is
    /// none, it is refused with 429. Connections of `trusted_proxies` are not counted here. Multiplied by 100 in
    /// development.
    pub max_connections_per_address: usize,
    /// The maximum number of concurrent requests of users; more are refused with 503.
    pub max_requests: usize,
    /// The maximum number of concurrent requests without a session, apart from those of users; more are refused with
    /// 503.
    pub max_stranger_requests: usize,
    /// The maximum number of concurrent requests of an address; more are refused with 429. Multiplied by 100 in
    /// development.
    pub max_requests_per_address: usize,
    /// The maximum number of them without a session; more are refused with 429. Multiplied by 100 in development.
    pub max_stranger_requests_per_address: usize,
    /// The maximum number of concurrent requests on one connection of HTTP/2.
    pub max_streams_per_connection: u32,
    /// The maximum number of bytes of one answer over HTTP/2 that wait for their connection.
    pub max_send_buffer_bytes: usize,
    /// The largest body of a request, in bytes. Where the contract allows a larger request, its size is the limit.
    pub max_body_bytes: usize,
    /// The largest file, in bytes: as large as messaging's `uploads.max_bytes`.
    pub max_upload_bytes: usize,
    /// The longest time for the headers of a request, from their first byte or the start of the connection.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub header_timeout: Duration,
    /// The longest time for which a client may read none of the bytes that wait for it. Then the HTTP/2 request to
    /// which they belong is reset, or the connection closed when none of its bytes move. Sockets have limits of their
    /// own.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub send_timeout: Duration,
    /// The longest time for a request, from its headers to those of its answer.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,
    /// The longest time for requests in progress to finish when the gateway stops.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub drain_timeout: Duration,
    /// The rate limits of strangers.
    pub rates: RatesConfig,
    /// The WebSocket at `/v1/socket` and its SSE twin at `/v1/events`.
    pub sockets: SocketsConfig,
    /// The APIs of other chat servers that are served beside the canonical one.
    pub dialects: DialectsConfig,
    /// The profile under which the configuration holds; not a setting of the gateway's own.
    #[serde(skip)]
    pub profile: Profile,
}

/// The APIs of other chat servers that are served beside the canonical one, each with its switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DialectsConfig {
    /// `POST /api/chat/<operation>`, and Socket.IO.
    pub allo: bool,
    /// REST below `/chats`.
    pub chats: bool,
    /// REST below `/api/accounts`, `/api/account` and `/api/:account`.
    pub messenger: bool,
    /// The meaning of `cursor_next` and `cursor_prev` of the messenger API if a request does not choose one.
    pub messenger_cursor_labels: CursorLabels,
    /// REST below `/users`, `/rooms`, `/messages`, `/bans` and others, and Socket.IO.
    pub playground: bool,
    /// REST below `/talkamie/v1` and `/user`, and the WebSocket `/talkamie/ws`.
    pub talkamie: bool,
}

/// The meaning of `cursor_next` and `cursor_prev`: the description of the messenger API contradicts itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CursorLabels {
    /// `cursor_next` continues in the direction of the page, as the hook of its clients merges pages.
    #[default]
    Swr,
    /// `cursor_next` always continues with older rows, as the samples of its description show.
    Samples,
}

impl Default for DialectsConfig {
    fn default() -> Self {
        Self {
            allo: true,
            chats: true,
            messenger: true,
            messenger_cursor_labels: CursorLabels::default(),
            playground: true,
            talkamie: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            listen_also: None,
            behind_proxy: false,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            max_connections_per_address: 500,
            max_requests: 2_000,
            max_stranger_requests: 2_000,
            max_requests_per_address: 400,
            max_stranger_requests_per_address: 100,
            max_streams_per_connection: 128,
            max_send_buffer_bytes: 64 * 1024,
            max_body_bytes: 64 * 1024,
            max_upload_bytes: 50 << 20,
            header_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            rates: RatesConfig::default(),
            sockets: SocketsConfig::default(),
            dialects: DialectsConfig::default(),
            profile: Profile::default(),
        }
    }
}

/// The rate limits of strangers: a burst, and a number of further requests per second. More are refused with 429 and
/// the time to wait. `limits.rates` of the services bound the requests of users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RatesConfig {
    /// The maximum burst of requests of an address without being signed in, whatever they ask for. Multiplied by 100 in
    /// development.
    pub anonymous_burst_per_address: u32,
    /// The number of further requests per second of an address without being signed in. Multiplied by 100 in
    /// development.
    pub anonymous_per_address_per_second: u32,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self { anonymous_burst_per_address: 100, anonymous_per_address_per_second: 20 }
    }
}

/// The WebSocket at `/v1/socket` and its SSE twin at `/v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SocketsConfig {
    /// The longest time for a new connection to sign in.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub hello_timeout: Duration,
    /// The interval of the server's pings.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ping_interval: Duration,
    /// The longest silence of a connection before it is closed.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// The largest frame from a client, in bytes; never less than the largest command of the contract.
    pub max_frame_bytes: usize,
    /// The maximum number of frames that wait for a slow connection before it is closed.
    pub queue_frames: usize,
    /// The maximum number of bytes that wait for a slow connection before it is closed.
    pub queue_bytes: usize,
    /// The maximum number of commands of a connection per minute, besides sends.
    pub commands_per_minute: u32,
    /// The maximum number of connections of a user.
    pub per_user: usize,
    /// The maximum number of connections of an address. Multiplied by 100 in development.
    pub per_address: usize,
    /// The maximum number of connections of an address that have not signed in yet. Multiplied by 100 in development.
    pub unauthenticated_per_address: usize,
    /// The maximum number of connections that an address opens per second. Multiplied by 100 in development.
    pub handshakes_per_address_per_second: u32,
    /// The maximum number of connections opened per second.
    pub handshakes_per_second: u32,
    /// The maximum number of connections in total.
    pub max: usize,
    /// The period over which the reconnects of clients are spread when the gateway stops.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub drain_spread: Duration,
}

impl Default for SocketsConfig {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(25),
            idle_timeout: Duration::from_secs(60),
            max_frame_bytes: 128 * 1024,
            queue_frames: 512,
            queue_bytes: 1024 * 1024,
            commands_per_minute: 120,
            per_user: 10,
            per_address: 200,
            unauthenticated_per_address: 50,
            handshakes_per_address_per_second: 50,
            handshakes_per_second: 500,
            max: 100_000,
            drain_spread: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Returns the configuration under this profile. Fails when the profile does not allow it.
    pub(crate) fn under(mut self, profile: Profile) -> anyhow::Result<Self> {
        for address in [Some(self.listen), self.listen_also].into_iter().flatten() {
            check_address(address, profile, self.behind_proxy)?;
        }
        self.check()?;
        self.profile = profile;
        match profile {
            Profile::Development => self.opened_up(),
            Profile::Production => ensure!(
                !self.any_origin(),
                "allowed_origins: production needs the origins by name, `{ANY_ORIGIN}` is for development only"
            ),
        }
        Ok(self)
    }

    /// Returns warnings about proxy settings under which the addresses of clients are wrong.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(all) = self.trusted_proxies.iter().find(|network| network.prefix_len() == 0) {
            warnings.push(format!(
                "trusted_proxies: {all} is every address: each client can say that it has another one, and limits per \
                 address hold for nobody"
            ));
        }
        if self.behind_proxy && self.trusted_proxies.is_empty() {
            warnings.push(
                "behind_proxy without trusted_proxies: all clients have the address of the proxy, and share its limits"
                    .to_owned(),
            );
        }
        warnings
    }

    /// True when pages of every origin may use the gateway.
    pub(crate) fn any_origin(&self) -> bool {
        self.allowed_origins.iter().any(|origin| origin == ANY_ORIGIN)
    }

    fn check(&self) -> anyhow::Result<()> {
        for origin in self.allowed_origins.iter().filter(|origin| *origin != ANY_ORIGIN) {
            let after_scheme = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            ensure!(
                after_scheme.is_some_and(|host| !host.is_empty() && !host.contains('/')),
                "allowed_origins: `{origin}` is not an origin: write it as browsers do, such as https://chat.example"
            );
        }
        let rates = &self.rates;
        let positive = [
            ("rates.anonymous_burst_per_address", rates.anonymous_burst_per_address),
            ("rates.anonymous_per_address_per_second", rates.anonymous_per_address_per_second),
            ("sockets.handshakes_per_address_per_second", self.sockets.handshakes_per_address_per_second),
            ("sockets.handshakes_per_second", self.sockets.handshakes_per_second),
            ("sockets.commands_per_minute", self.sockets.commands_per_minute),
            ("max_streams_per_connection", self.max_streams_per_connection),
        ];
        for (name, value) in positive {
            ensure!(value > 0, "{name} must be at least 1");
        }
        let positive = [
            ("max_connections", self.max_connections),
            ("max_connections_per_address", self.max_connections_per_address),
            ("max_requests_per_address", self.max_requests_per_address),
            ("max_stranger_requests_per_address", self.max_stranger_requests_per_address),
        ];
        for (name, value) in positive {
            ensure!(value > 0, "{name} must be at least 1");
        }
        Ok(())
    }

    fn opened_up(&mut self) {
        if self.allowed_origins.is_empty() {
            self.allowed_origins.push(ANY_ORIGIN.to_owned());
        }
        if self.listen == DEFAULT_LISTEN && self.listen_also.is_none() {
            self.listen_also = Some(ALSO_IN_DEVELOPMENT);
        }
        let more = MORE_PER_ADDRESS_IN_DEVELOPMENT;
        for rate in [
            &mut self.rates.anonymous_burst_per_address,
            &mut self.rates.anonymous_per_address_per_second,
            &mut self.sockets.handshakes_per_address_per_second,
        ] {
            *rate = rate.saturating_mul(more);
        }
        for cap in [
            &mut self.max_connections_per_address,
            &mut self.max_requests_per_address,
            &mut self.max_stranger_requests_per_address,
            &mut self.sockets.per_address,
            &mut self.sockets.unauthenticated_per_address,
        ] {
            *cap = cap.saturating_mul(more as usize);
        }
    }
}

/// Networks as text: `10.0.0.0/8`, or a single address.
mod networks {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(networks.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| parse(text).map_err(Error::custom))
            .collect()
    }

    fn parse(text: &str) -> Result<IpNet, String> {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| format!("`{text}` is neither a network nor an address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_origin(origin: &str) -> Config {
        Config { allowed_origins: vec![origin.to_owned()], ..Config::default() }
    }

    #[test]
    fn settings_that_make_addresses_wrong_are_said() {
        let with = |behind_proxy, proxies: &[&str]| {
            let trusted_proxies = proxies.iter().map(|network| network.parse().expect("a network")).collect();
            Config { behind_proxy, trusted_proxies, ..Config::default() }.warnings().len()
        };
        assert_eq!((with(false, &[]), with(true, &["10.0.0.0/8"])), (0, 0));
        assert_eq!(
            (with(true, &[]), with(true, &["0.0.0.0/0"]), with(true, &["10.0.0.0/8", "::/0"])),
            (1, 1, 1)
        );
    }

    #[test]
    fn development_lets_every_origin_in_and_production_none() {
        assert!(Config::default().under(Profile::Development).expect("config").any_origin());
        assert!(Config::default().under(Profile::Production).expect("config").allowed_origins.is_empty());
        assert!(with_origin("*").under(Profile::Production).is_err());
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        assert!(with_origin("https://chat.example").under(Profile::Production).is_ok());
        for wrong in ["chat.example", "https://chat.example/", "https://", "ftp://chat.example", ""] {
            assert!(with_origin(wrong).under(Profile::Production).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_may_do_more_in_development() {
        let config = Config::default().under(Profile::Development).expect("config");
        assert_eq!(config.rates.anonymous_burst_per_address, 10_000);
        assert_eq!(config.sockets.per_address, 20_000);
        assert_eq!(config.max_connections_per_address, 50_000);
        assert_eq!(config.max_stranger_requests_per_address, 10_000);
    }

    #[test]
    fn only_the_default_address_has_a_second_one() {
        let listens_also =
            |config: Config| config.under(Profile::Development).expect("config").listen_also.is_some();
        assert!(listens_also(Config::default()));
        assert!(!listens_also(Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() }));
        assert!(Config::default().under(Profile::Production).expect("config").listen_also.is_none());
    }

    #[test]
    fn networks_are_read_and_written_as_text() {
        let config: Config =
            serde_json::from_str(r#"{"trusted_proxies": ["10.0.0.0/8", "::1"]}"#).expect("a config");
        assert_eq!(config.trusted_proxies.len(), 2);
        let text = serde_json::to_string(&config).expect("json");
        assert!(text.contains(r#""trusted_proxies":["10.0.0.0/8","::1/128"]"#), "{text}");
        assert!(serde_json::from_str::<Config>(r#"{"trusted_proxies": ["here"]}"#).is_err());
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        let rates = RatesConfig { anonymous_burst_per_address: 0, ..RatesConfig::default() };
        assert!(Config { rates, ..Config::default() }.under(Profile::Development).is_err());
    }

    #[test]
    fn a_key_that_no_setting_has_is_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"sockets": {"ping": "5s"}}"#).is_err());
    }
}
