//! A running Parlor, in one of its two shapes.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use proto::id::EventId;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::person::Person;
use crate::process::Process;
use crate::storage::free_port;

/// How Parlor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everything in one process, on SQLite.
    Embedded,
    /// Every service a process of its own, on PostgreSQL and NATS, with two replicas of messaging and of the gateway.
    Separate,
}

impl Shape {
    /// Its name in the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Separate => "separate",
        }
    }
}

/// A running Parlor.
#[derive(Debug)]
pub struct World {
    /// How it runs.
    pub shape: Shape,
    /// Its processes in call order: the first calls nobody, the last are the gateways.
    pub processes: Vec<Process>,
    /// What the gateways prove with who they are.
    gateway_secret: String,
    next_gateway: AtomicUsize,
    // Last, so that it goes after the processes that write to it.
    folder: TempDir,
}

impl World {
    /// Starts everything in one process.
    pub async fn embedded() -> anyhow::Result<Self> {
        Self::embedded_with(&[]).await
    }

    /// Starts everything in one process, with these settings.
    pub async fn embedded_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut all = listening(Some("gateway.listen"))?;
        let gateway_secret = EventId::generate().to_string();
        all.push(("secrets.gateway".to_owned(), gateway_secret.clone()));
        all.extend(
            UNHURRIED.iter().chain(settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        let process = Process::start("parlor", "parlor", folder.path(), all).await?;
        Ok(Self {
            shape: Shape::Embedded,
            processes: vec![process],
            gateway_secret,
            next_gateway: AtomicUsize::new(0),
            folder,
        })
    }

    /// Starts every service as a process of its own, on this database and this NATS.
    pub async fn separate(database_url: &str, nats_url: &str) -> anyhow::Result<Self> {
        Self::separate_with(database_url, nats_url, &[]).await
    }

    /// Starts every service as a process of its own, with these settings, named as they are for all in one process:
    /// `gateway.max_requests` is for the gateways, `log.level` for all.
    pub async fn separate_with(
        database_url: &str,
        nats_url: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let starter = Starter::new(folder.path(), database_url, nats_url, settings);
        let auth = starter.start("auth", "auth", &[]).await?;
        let conversation = starter.start("conversation", "conversation", &[&auth]).await?;
        let before_messaging = [&auth, &conversation];
        let (one, two) = tokio::try_join!(
            starter.start("messaging-1", "messaging", &before_messaging),
            starter.start("messaging-2", "messaging", &before_messaging),
        )?;
        let before_scheduling = [&auth, &conversation, &one, &two];
        let scheduling = starter.start("scheduling", "scheduling", &before_scheduling).await?;
        let before_gateway = [&auth, &conversation, &one, &two, &scheduling];
        let (gateway_1, gateway_2) = tokio::try_join!(
            starter.start("gateway-1", "gateway", &before_gateway),
            starter.start("gateway-2", "gateway", &before_gateway),
        )?;
        let processes = vec![auth, conversation, one, two, scheduling, gateway_1, gateway_2];
        let gateway_secret = starter.secret("gateway");
        let next_gateway = AtomicUsize::new(0);
        Ok(Self { shape: Shape::Separate, processes, gateway_secret, next_gateway, folder })
    }

    /// Starts two replicas of every service, with these settings.
    ///
    /// # Errors
    /// When a process does not start.
    pub async fn replicated_with(
        database_url: &str,
        nats_url: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let starter = Starter::new(folder.path(), database_url, nats_url, settings);
        let mut processes: Vec<Process> = Vec::new();
        for service in ["auth", "conversation", "messaging", "scheduling", "gateway"] {
            let peers: Vec<&Process> = processes.iter().collect();
            // One after the other: the first migrates the database.
            let one = starter.start(&format!("{service}-1"), service, &peers).await?;
            let two = starter.start(&format!("{service}-2"), service, &peers).await?;
            processes.extend([one, two]);
        }
        let gateway_secret = starter.secret("gateway");
        let next_gateway = AtomicUsize::new(0);
        Ok(Self { shape: Shape::Separate, processes, gateway_secret, next_gateway, folder })
    }

    /// The addresses of its gateways.
    pub fn gateways(&self) -> Vec<SocketAddr> {
        self.processes.iter().filter_map(|process| process.address("http").ok()).collect()
    }

    /// The next gateway in turn, so that people are spread over all of them.
    pub fn gateway(&self) -> SocketAddr {
        let gateways = self.gateways();
        gateways[self.next_gateway.fetch_add(1, Ordering::Relaxed) % gateways.len()]
    }

    /// Where a service speaks gRPC.
    pub fn grpc(&self, service: &str) -> SocketAddr {
        let name = if self.shape == Shape::Embedded { "parlor" } else { service };
        let process = self.processes.iter().find(|process| process.name().starts_with(name));
        process.and_then(|process| process.address("grpc").ok()).expect("a service that speaks gRPC")
    }

    /// Where all replicas of a service speak gRPC.
    pub fn grpc_of_all(&self, service: &str) -> Vec<SocketAddr> {
        let name = if self.shape == Shape::Embedded { "parlor" } else { service };
        let replicas = self.processes.iter().filter(|process| process.name().starts_with(name));
        replicas.filter_map(|process| process.address("grpc").ok()).collect()
    }

    /// The header by which the gateways authenticate themselves to the services.
    pub fn gateway_authorization(&self) -> String {
        format!("Service gateway:{}", self.gateway_secret)
    }

    /// A process by its name.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name() == name).expect("a process of this world")
    }

    /// Somebody new, registered and signed in. The name is what people see; the username is made unique.
    pub async fn person(&self, name: &str) -> Person {
        Person::register(self.gateway(), name).await
    }

    /// Several people.
    pub async fn people<const N: usize>(&self, names: [&str; N]) -> [Person; N] {
        let mut people = Vec::with_capacity(N);
        for name in names {
            people.push(self.person(name).await);
        }
        people.try_into().expect("as many people as names")
    }

    /// The folder of its data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks every process to stop, gateways first, and waits until all have.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for process in self.processes.iter_mut().rev() {
            let took = process.stop().await?;
            anyhow::ensure!(took.as_secs() < 16, "{} took {took:?} to stop", process.name());
        }
        Ok(())
    }

    /// The lines of the logs that ask for a person. A story that is well has none.
    pub fn errors(&self) -> Vec<String> {
        let of = |process: &Process| {
            let name = process.name().to_owned();
            let is_error = |line: &&str| line.contains(" ERROR ") || line.contains("panicked at");
            process.log().lines().filter(is_error).map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        };
        self.processes.iter().flat_map(of).collect()
    }
}

/// The settings of every world: no limits on how often people call, or register from one address, because in a story they
/// talk as fast as they can and all are on one machine; and work waits for its turn on a machine that is busy.
const UNHURRIED: &[(&str, &str)] = &[
    ("limits.max_wait", "5s"),
    ("messaging.max_wait", "5s"),
    ("gateway.request_timeout", "30s"),
    ("limits.rates.sends_burst", MANY),
    ("limits.rates.sends_per_second", MANY),
    ("limits.rates.sends_per_conversation_per_second", MANY),
    ("limits.rates.heavy_burst", MANY),
    ("limits.rates.heavy_per_second", MANY),
    ("limits.rates.writes_burst", MANY),
    ("limits.rates.writes_per_second", MANY),
    ("limits.rates.reads_burst", MANY),
    ("limits.rates.reads_per_second", MANY),
    ("limits.rates.registrations_per_address_per_hour", MANY),
    ("limits.rates.guests_per_address_per_hour", MANY),
];

/// Settings for a world that works as hard as it can for a few: no limits at all, and passwords that are hashed lightly,
/// because those who come in are not what is tested.
pub const WITHOUT_LIMITS: &[(&str, &str)] = &[
    ("messaging.uploads.max_writers_per_user", "1000"),
    ("auth.passwords.memory_kib", "64"),
    ("auth.passwords.passes", "1"),
    ("auth.passwords.queue", "4096"),
    ("limits.rates.signals_burst", MANY),
    ("limits.rates.signals_per_second", MANY),
    ("limits.rates.strangers_burst_per_address", MANY),
    ("limits.rates.strangers_per_address_per_second", MANY),
    ("gateway.rates.anonymous_burst_per_address", MANY),
    ("gateway.rates.anonymous_per_address_per_second", MANY),
    ("gateway.sockets.commands_per_minute", MANY),
    ("gateway.sockets.per_user", MANY),
    ("gateway.sockets.per_address", MANY),
    ("gateway.sockets.unauthenticated_per_address", MANY),
    ("gateway.sockets.handshakes_per_address_per_second", MANY),
    ("gateway.sockets.handshakes_per_second", MANY),
];

const MANY: &str = "1000000";

const SERVICES: [&str; 5] = ["auth", "conversation", "messaging", "scheduling", "gateway"];

fn listening(http: Option<&str>) -> anyhow::Result<Vec<(String, String)>> {
    let at = |key: &str| Ok((key.to_owned(), format!("127.0.0.1:{}", free_port()?)));
    ["listen.grpc", "listen.admin"].into_iter().chain(http).map(at).collect()
}

/// The folder with the keys of notices on the bus, made when it is missing. No two worlds have the same keys, so that
/// those on one NATS do not hear each other.
fn notice_keys(folder: &Path) -> anyhow::Result<PathBuf> {
    let keys = folder.join("notice-keys");
    std::fs::create_dir_all(&keys)?;
    for service in ["auth", "conversation", "messaging", "scheduling"] {
        let file = keys.join(service);
        if !file.exists() {
            std::fs::write(&file, EventId::generate().uuid().simple().to_string())?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(keys)
}

/// Starts the processes of a world with secrets of their own.
struct Starter<'a> {
    folder: &'a Path,
    database_url: &'a str,
    nats_url: &'a str,
    settings: &'a [(&'a str, &'a str)],
    secrets: Vec<(&'static str, String)>,
}

impl<'a> Starter<'a> {
    fn new(
        folder: &'a Path,
        database_url: &'a str,
        nats_url: &'a str,
        settings: &'a [(&'a str, &'a str)],
    ) -> Self {
        let names = ["conversation", "messaging", "scheduling", "gateway"];
        let secrets = names.map(|name| (name, EventId::generate().to_string())).to_vec();
        Self { folder, database_url, nats_url, settings, secrets }
    }

    fn secret(&self, service: &str) -> String {
        let found = self.secrets.iter().find(|(name, _)| *name == service);
        found.map(|(_, secret)| secret.clone()).unwrap_or_default()
    }

    async fn start(&self, name: &str, service: &str, peers: &[&Process]) -> anyhow::Result<Process> {
        let mut settings = listening((service == "gateway").then_some("service.listen"))?;
        let mut set = |key: String, value: String| settings.push((key, value));
        set("nats.servers".to_owned(), self.nats_url.to_owned());
        set("nats.notice_keys".to_owned(), notice_keys(self.folder)?.display().to_string());
        if service != "gateway" {
            set("database.url".to_owned(), self.database_url.to_owned());
        }
        for (name, secret) in &self.secrets {
            let sum: String =
                Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            set(format!("identity.accepted.{name}"), sum);
            if *name == service {
                set("identity.secret".to_owned(), secret.clone());
            }
        }
        let has_tls = self.settings.iter().any(|(key, _)| key.starts_with("peers.tls."));
        let scheme = if has_tls { "https" } else { "http" };
        for peer in ["auth", "conversation", "messaging", "scheduling"] {
            let of_this_name = peers.iter().filter(|process| process.name().starts_with(peer));
            let urls: Vec<String> = of_this_name
                .filter_map(|process| process.address("grpc").ok())
                .map(|address| format!("{scheme}://{address}"))
                .collect();
            if !urls.is_empty() {
                set(format!("peers.{peer}"), urls.join(","));
            }
        }
        for (key, value) in UNHURRIED.iter().chain(self.settings) {
            match key.split_once('.') {
                Some((owner, rest)) if owner == service => {
                    set(format!("service.{rest}"), (*value).to_owned())
                }
                Some((owner, _)) if SERVICES.contains(&owner) => {}
                // Values that differ from service to service by its name only.
                _ => set((*key).to_owned(), value.replace("{service}", service)),
            }
        }
        Process::start(name, &format!("parlor-{service}"), self.folder, settings)
            .await
            .context(name.to_owned())
    }
}
