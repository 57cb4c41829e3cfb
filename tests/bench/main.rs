//! The load generator: how fast Parlor is on this machine, and how fast this machine is.
//!
//! It starts Parlor itself, in one or several shapes, drives it over REST and WebSockets through its public doors, and
//! prints what it measures beside what the machine can do without it. `tests/bench/README.md` says what each workload is.

mod bare;
mod dialects;
mod idle;
mod latency;
mod operations;
mod pages;
mod people;
mod report;
mod room;
mod sending;
mod socketio;
mod start;
mod storage;
mod system;
mod talkamie;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::report::Report;
use crate::system::{System, Variant};
use crate::wire::Format;

/// Measures Parlor on this machine.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// What to measure; all when nothing is named.
    workloads: Vec<Workload>,
    /// How Parlor runs; may be said several times.
    #[arg(long, default_values = ["embedded"])]
    shape: Vec<Variant>,
    /// For how long each workload is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// W3: how many members the room has.
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// W4 and dialects: how many idle sockets there are, of each kind.
    #[arg(long, default_value_t = 2000)]
    sockets: usize,
    /// W5: how many messages the conversation has.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Sockets speak protobuf in binary frames; otherwise JSON, as most web clients do.
    #[arg(long)]
    binary: bool,
    /// One JSON document at the end instead of lines.
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// The limits of the machine: commits, and a WebSocket server that stores nothing.
    Machine,
    /// From the start until it is ready.
    Start,
    /// 64 closed-loop senders into 100 conversations.
    W1,
    /// Send to receipt at 200 messages per second.
    W2,
    /// One sender, one room full of members.
    W3,
    /// Idle signed-in sockets.
    W4,
    /// Pages of 50 out of a long conversation.
    W5,
    /// Every operation by itself.
    Operations,
    /// The sockets of the dialects beside the canonical one: idle connections, and 64 senders.
    Dialects,
}

impl Options {
    fn wants(&self, workload: Workload) -> bool {
        self.workloads.is_empty() || self.workloads.contains(&workload)
    }

    fn span(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn format(&self) -> Format {
        if self.binary { Format::Binary } else { Format::Json }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("the measurement failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    // One thread: the load generator shares the machine with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut report = Report::new(options.json);
        let mut cluster = system::cluster(&options.shape).await?;
        measure_machine(options, cluster.as_ref(), &mut report).await?;
        for variant in &options.shape {
            measure(options, *variant, &mut cluster, &mut report).await?;
        }
        report.finish()
    })
}

async fn measure_machine(
    options: &Options,
    cluster: Option<&tests::storage::Cluster>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let span = options.span().min(Duration::from_secs(4));
    let needed = [Workload::Machine, Workload::W1, Workload::W3];
    if needed.into_iter().any(|workload| options.wants(workload)) {
        report::say("measuring the machine");
        storage::measure(cluster, span / 2, report).await?;
        bare::measure(options.members, span, report).await?;
    }
    Ok(())
}

async fn measure(
    options: &Options,
    variant: Variant,
    cluster: &mut Option<tests::storage::Cluster>,
    report: &mut Report,
) -> anyhow::Result<()> {
    if options.wants(Workload::Start) {
        start::measure(variant, cluster, report).await?;
    }
    // Every workload on a fresh Parlor with empty databases.
    for workload in
        [Workload::W1, Workload::W2, Workload::W3, Workload::W4, Workload::W5, Workload::Operations]
    {
        if !options.wants(workload) {
            continue;
        }
        report::say(&format!("{workload:?} {}", variant.name()));
        let mut system = System::start(variant, cluster).await?;
        match workload {
            Workload::W1 => sending::measure(&system, options, report).await?,
            Workload::W2 => latency::measure(&system, options, report).await?,
            Workload::W3 => room::measure(&system, options, report).await?,
            Workload::W4 => idle::measure(&system, options, report).await?,
            Workload::W5 => pages::measure(&system, options, report).await?,
            _ => operations::measure(&system, options, report).await?,
        }
        report.memory(&format!("{workload:?}"), &system);
        system.stop().await?;
    }
    if options.wants(Workload::Dialects) {
        report::say(&format!("{:?} {}", Workload::Dialects, variant.name()));
        dialects::measure(variant, cluster, options, report).await?;
    }
    Ok(())
}
