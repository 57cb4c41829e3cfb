//! Parlor under measurement, and what its processes use of the machine.

use std::fs;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tests::World;
use tests::process::family;
use tests::storage::Cluster;
use tests::world::WITHOUT_LIMITS;

/// How Parlor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// One process, SQLite, events in the process.
    Embedded,
    /// One process on PostgreSQL and NATS.
    Standalone,
    /// Separate processes on PostgreSQL and NATS, two of messaging and two gateways.
    Separate,
}

impl Variant {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Standalone => "standalone",
            Self::Separate => "separate",
        }
    }
}

/// A PostgreSQL and a NATS, when one of these shapes needs them.
pub(crate) async fn cluster(variants: &[Variant]) -> anyhow::Result<Option<Cluster>> {
    if variants.iter().all(|variant| *variant == Variant::Embedded) {
        return Ok(None);
    }
    Ok(Some(Cluster::start().await?))
}

/// Settings that let a few clients do what many would: no limits on how often, and a log of what is wrong only.
fn settings() -> Vec<(&'static str, &'static str)> {
    let mut settings = WITHOUT_LIMITS.to_vec();
    settings.extend([
        ("log.level", "warn"),
        ("gateway.sockets.ping_interval", "120s"),
        ("gateway.sockets.idle_timeout", "300s"),
    ]);
    settings
}

/// Parlor under measurement.
pub(crate) struct System {
    /// How it runs.
    pub(crate) variant: Variant,
    /// What runs.
    pub(crate) world: World,
    /// From the beginning of its start until it was ready.
    pub(crate) started_in: Duration,
    /// The processes that it stands on: the name, and those of the same name together.
    below: Vec<(&'static str, u32)>,
}

impl System {
    /// Starts one with empty databases.
    pub(crate) async fn start(variant: Variant, cluster: &mut Option<Cluster>) -> anyhow::Result<Self> {
        let mut settings = settings();
        let (url, nats, below) = match cluster {
            Some(cluster) if variant != Variant::Embedded => {
                let below =
                    vec![("postgres", cluster.postgres.id()?), ("nats", cluster.nats.id().unwrap_or(0))];
                (cluster.postgres.database().await?, cluster.nats.url(), below)
            }
            _ => (String::new(), String::new(), Vec::new()),
        };
        let began = Instant::now();
        let world = match variant {
            Variant::Embedded => World::embedded_with(&settings).await?,
            Variant::Standalone => {
                settings.extend([("database.url", url.as_str()), ("nats.servers", nats.as_str())]);
                World::embedded_with(&settings).await?
            }
            Variant::Separate => World::separate_with(&url, &nats, &settings).await?,
        };
        Ok(Self { variant, world, started_in: began.elapsed(), below })
    }

    /// The processor time that all its processes have used so far, the database and the bus included.
    fn processor_time(&self) -> Duration {
        self.processes().iter().map(|(_, id)| processor_time(*id)).sum()
    }

    /// What each of its processes holds, in KiB. A database's processes count as one; what they share counts once.
    pub(crate) fn memory(&self) -> Vec<(String, u64)> {
        let mut memory: Vec<(String, u64)> = Vec::new();
        for (name, id) in self.processes() {
            let kib = memory_of(id);
            match memory.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += kib,
                None => memory.push((name, kib)),
            }
        }
        memory
    }

    /// What the processes hold that have sockets, in KiB.
    pub(crate) fn memory_of_gateways(&self) -> u64 {
        let gateways = self.world.processes.iter().filter(|process| process.address("http").is_ok());
        gateways.filter_map(tests::process::Process::id).map(memory_of).sum()
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let own = self
            .world
            .processes
            .iter()
            .filter_map(|process| Some((process.name().to_owned(), process.id()?)));
        let below = self.below.iter().flat_map(|(name, id)| {
            family(*id).into_iter().map(|id| ((*name).to_owned(), id)).collect::<Vec<_>>()
        });
        own.chain(below).collect()
    }

    /// Stops it.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.world.stop().await
    }
}

/// Measures what a stretch of work takes of the machine.
pub(crate) struct Meter {
    began: Instant,
    parlor: Duration,
    own: Duration,
    machine: Duration,
}

/// What a stretch of work took.
pub(crate) struct Used {
    /// How long it was.
    pub(crate) span: Duration,
    /// The processor time of Parlor, the database and the bus included.
    pub(crate) parlor: Duration,
    /// The processor time of the load generator.
    pub(crate) own: Duration,
    /// How many cores others used meanwhile: what is measured beside others is slower than it could be.
    pub(crate) others: f64,
}

impl Meter {
    /// Begins.
    pub(crate) fn start(system: &System) -> Self {
        let own = processor_time(std::process::id());
        Self { began: Instant::now(), parlor: system.processor_time(), own, machine: busy_time() }
    }

    /// Ends.
    pub(crate) fn stop(&self, system: &System) -> Used {
        let span = self.began.elapsed();
        let parlor = system.processor_time().saturating_sub(self.parlor);
        let own = processor_time(std::process::id()).saturating_sub(self.own);
        let others = busy_time().saturating_sub(self.machine).saturating_sub(parlor + own);
        Used { span, parlor, own, others: others.as_secs_f64() / span.as_secs_f64() }
    }
}

/// The processor time of everything that runs on the machine.
fn busy_time() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    // User, nice, system; idle and waiting; interrupts.
    let ticks: u64 = first
        .split_whitespace()
        .skip(1)
        .take(7)
        .enumerate()
        .filter(|(place, _)| ![3, 4].contains(place))
        .filter_map(|(_, field)| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Linux counts in hundredths of a second for programs.
const TICKS: u64 = 100;

/// What `/proc/PID/stat` says after the name: the state is the first.
fn fields(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    Some(after.split_whitespace().map(ToOwned::to_owned).collect())
}

fn processor_time(id: u32) -> Duration {
    let Some(fields) = fields(id) else { return Duration::ZERO };
    // User and system time, of the process itself: those of its family are counted on their own.
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// What a process holds: its own pages, and its share of those that it has in common with others.
fn memory_of(id: u32) -> u64 {
    let in_kib = |path: String, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    in_kib(format!("/proc/{id}/smaps_rollup"), "Pss:")
        .or_else(|| in_kib(format!("/proc/{id}/status"), "VmRSS:"))
        .unwrap_or(0)
}
