//! A process from its first line to its last: arguments, configuration, logs, listening, signals, draining.

mod arguments;
mod grpc;
mod healthcheck;
mod ports;
mod signals;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, setrlimit};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use ports::Port;

use self::arguments::{Arguments, Command, DataCommand};
use self::ports::Ports;
use self::signals::Signals;
use crate::admin::{self, Readiness, ReadinessCheck};
use crate::backup::Data;
use crate::config::{self, ListenConfig, Settings};
use crate::database::Database;
use crate::profile::Profile;
use crate::tasks::{Shutdown, Tasks};
use crate::telemetry::{self, Gauges, LogConfig};
use crate::unit::Unit;

/// The stack of a worker. In one process a request goes through several services on one stack, and without optimisation
/// its frames are large. Only what is used takes memory.
const STACK_BYTES: usize = 8 << 20;

/// How long a process takes to go, at most, from the signal to its end.
const GRACE: Duration = Duration::from_secs(15);

/// How long work that is under way may take to finish when the process goes.
const IN_FLIGHT: Duration = Duration::from_secs(10);

/// The settings that every process has, whatever its services are.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its name: that of its service, or `parlor` for all in one.
    pub name: &'static str,
    /// For whom it runs.
    pub profile: Profile,
    /// Where it listens.
    pub listen: ListenConfig,
    /// What it writes to its log.
    pub log: LogConfig,
    /// The data that it keeps.
    pub data: Data,
}

/// Runs one service as a process: `main` of its binary.
pub fn main<C, F, Fut>(name: &'static str, launch: F) -> ExitCode
where
    C: Clone + Debug + Default + Serialize + DeserializeOwned + JsonSchema,
    F: FnOnce(Settings<C>) -> Fut,
    Fut: Future<Output = anyhow::Result<Unit>>,
{
    let process = |settings: &Settings<C>| Process {
        name,
        profile: settings.profile,
        listen: settings.listen.clone(),
        log: settings.log.clone(),
        data: Data::of_service(name, &settings.database),
    };
    let launch = async |settings: Settings<C>| {
        settings.check()?;
        Ok(vec![launch(settings).await?])
    };
    run(name, process, launch, |_, _| Ok(()))
}

/// Runs a process with the configuration that its arguments and the environment give. `launch` starts its units, in call
/// order: a unit calls only those before it. `announce` is told the addresses once all is ready. A failure is printed to
/// standard error.
pub fn run<S>(
    name: &'static str,
    process: impl Fn(&S) -> Process,
    launch: impl AsyncFnOnce(S) -> anyhow::Result<Vec<Unit>>,
    announce: impl FnOnce(&S, &Addresses) -> anyhow::Result<()>,
) -> ExitCode
where
    S: Clone + Serialize + DeserializeOwned + JsonSchema,
{
    let arguments = Arguments::of(name);
    let outcome =
        config::load::<S>(arguments.config.as_deref(), std::env::vars().collect()).and_then(|settings| {
            match arguments.command {
                _ if arguments.print_config => print(&config::reference(&settings)?),
                Some(Command::Healthcheck) => runtime()?.block_on(healthcheck::check(&process(&settings))),
                None => runtime()?.block_on(serve(process(&settings), settings, launch, announce)),
                Some(Command::Data(command)) => {
                    runtime()?.block_on(work_on(&process(&settings).data, command))
                }
            }
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be up yet, and a person who starts the process looks here.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Backs up, restores or checks what the process keeps.
async fn work_on(data: &Data, command: DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Backup { folder } => data.back_up(&folder).await,
        DataCommand::Restore { folder } => data.restore(&folder).await,
        DataCommand::CheckData { new_epoch } => data.check(new_epoch).await,
        DataCommand::VerifyAudit { anchors, entries } => data.verify_audit(&anchors, entries).await,
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("standard output is closed")
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()
}

/// Where a process can be reached, by what is spoken there: `grpc`, `admin`, `http`.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// Serves the units until a signal says to stop, for the lame-duck time after it, and then drains. Units stop from the
/// last to the first.
async fn serve<S: Clone>(
    process: Process,
    settings: S,
    launch: impl AsyncFnOnce(S) -> anyhow::Result<Vec<Unit>>,
    announce: impl FnOnce(&S, &Addresses) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // From here on a hang-up does not end the process; it is listened to once units are served.
    let _hang_up = signal(SignalKind::hangup())?;
    telemetry::init(process.name, &process.log)?;
    #[expect(clippy::disallowed_methods, reason = "a clock that was never set is what this looks for")]
    check_clock(SystemTime::now())?;
    forbid_core_dumps();
    process.listen.check(process.profile)?;
    for warning in warnings(&process) {
        tracing::warn!("{warning}");
    }
    // Before databases are opened and brought up to date: a second process on the same ports changes nothing.
    let ports = Ports::reserve(process.name, &process.listen)?;
    let mut units = launch(settings.clone()).await?;

    let mut addresses = Addresses::new();
    for (what, address) in units.iter().flat_map(|unit| &unit.listening) {
        // The first is the one to tell people; a unit may listen at others besides.
        addresses.entry((*what).to_owned()).or_insert(*address);
    }

    let databases: Vec<(&str, Database)> =
        units.iter().filter_map(|unit| Some((unit.name, unit.database.clone()?))).collect();
    let readiness = readiness(&process, &databases, &mut units);
    let admin = ports.admin.listen()?;
    addresses.insert("admin".to_owned(), admin.local_addr()?);
    let operation = Tasks::default();
    for (_, database) in &databases {
        let database = database.clone();
        operation.spawn("log-folding", |shutdown| database.fold_log(shutdown));
    }
    operation
        .spawn("admin", |shutdown| serve_admin(admin, readiness.clone(), Gauges::new(databases), shutdown));

    let grpc = Tasks::default();
    if let (Some(routes), Some(port)) = (grpc::routes(&process, &mut units).await?, ports.grpc) {
        let listener = port.listen()?;
        addresses.insert("grpc".to_owned(), listener.local_addr()?);
        let tls = process.listen.tls.as_ref().map(grpc::tls).transpose()?;
        grpc.spawn("grpc", |shutdown| grpc::serve(tls, routes, listener, shutdown));
    }

    report(process.listen.report_file.as_deref(), &addresses)?;
    announce(&settings, &addresses)?;
    tracing::info!(process = process.name, profile = %process.profile, ?addresses, "ready");

    let mut signals = Signals::listen()?;
    let why = signals.stop().await;
    let lame_duck = process.listen.lame_duck(process.profile);
    tracing::info!(process = process.name, signal = why, ?lame_duck, "stopping: not ready any more");
    readiness.set_draining();
    // Everything is served until balancers have noticed. A second signal shortens this.
    let _ = tokio::time::timeout(lame_duck, signals.stop()).await;
    tracing::info!(process = process.name, "draining");
    match tokio::time::timeout(GRACE, drain(units, &grpc)).await {
        Ok(()) => tracing::info!(process = process.name, "stopped"),
        Err(_) => tracing::warn!(process = process.name, "stopped without having finished everything"),
    }
    operation.stop(Duration::ZERO).await;
    telemetry::flush();
    Ok(())
}

fn readiness(process: &Process, databases: &[(&str, Database)], units: &mut [Unit]) -> Readiness {
    let own = units.iter_mut().flat_map(|unit| unit.ready.drain(..));
    let checks = databases.iter().map(|(name, database)| database_check(name, database)).chain(own).collect();
    let readiness = Readiness::new(process.profile, checks);
    // One database that may lose something makes the whole process one that may.
    let weakest =
        databases.iter().map(|(_, database)| database.durability()).max_by_key(|said| *said != "full");
    match weakest {
        Some(durability) => readiness.with_durability(durability),
        None => readiness,
    }
}

fn database_check(unit: &str, database: &Database) -> ReadinessCheck {
    let database = database.clone();
    ReadinessCheck::new(format!("{unit}.database"), move || {
        let database = database.clone();
        async move {
            let well = || format!("{}, durability {}", database.kind(), database.durability());
            database.ping().await.map(|()| well()).map_err(|error| format!("{error:#}"))
        }
    })
}

async fn drain(mut units: Vec<Unit>, grpc: &Tasks) {
    // The gateway is last in call order: its clients are told to go elsewhere while everything behind it still works.
    if let Some(gateway) = units.pop_if(|unit| unit.grpc.is_none() && !unit.listening.is_empty()) {
        gateway.stop(IN_FLIGHT).await;
    }
    // No new calls come in. Streams end when their unit stops, and the server ends when its streams have.
    grpc.shutdown().set();
    for unit in units.iter().rev() {
        unit.stop(IN_FLIGHT).await;
    }
    grpc.stop(IN_FLIGHT).await;
    for database in units.into_iter().filter_map(|unit| unit.database) {
        database.close().await;
    }
}

async fn serve_admin(listener: TcpListener, readiness: Readiness, gauges: Gauges, shutdown: Shutdown) {
    let served = axum::serve(listener, admin::router(readiness, telemetry::metrics_handle(), gauges));
    tokio::select! {
        outcome = served => tracing::error!(?outcome, "the admin server has ended"),
        () = shutdown.wait() => {}
    }
}

fn report(file: Option<&std::path::Path>, addresses: &Addresses) -> anyhow::Result<()> {
    let Some(path) = file else { return Ok(()) };
    // Written beside and renamed, so that a reader never sees half of it.
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec(addresses)?)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The settings that open or show more than most operators want, in words.
fn warnings(process: &Process) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(admin) = process.listen.admin.filter(|address| !address.ip().is_loopback()) {
        warnings.push(format!(
            "listen.admin: {admin} can be reached from other machines, without a password: keep it in a private network"
        ));
    }
    if process.log.level.to_ascii_lowercase().contains("trace") {
        warnings.push("log.level: trace shows what people write and the tokens of their sessions".to_owned());
    }
    warnings
}

/// No secret and no message leaves the process in a file of the system.
fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be forbidden");
    }
}

/// Refuses to start with a clock that was never set: times before 1970 are no times of messages.
fn check_clock(now: SystemTime) -> anyhow::Result<()> {
    ensure!(
        now >= SystemTime::UNIX_EPOCH,
        "the clock of this machine shows a time before 1970: set it first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_or_shows_much_is_said() {
        let with = |admin: [u8; 4], level: &str| Process {
            name: "auth",
            profile: Profile::Production,
            listen: ListenConfig { admin: Some((admin, 9050).into()), ..ListenConfig::default() },
            log: LogConfig { level: level.to_owned(), ..LogConfig::default() },
            data: Data::default(),
        };
        assert!(warnings(&with([127, 0, 0, 1], "info")).is_empty());
        let said = warnings(&with([0, 0, 0, 0], "info,h2=TRACE"));
        assert!(said[0].starts_with("listen.admin:") && said[1].starts_with("log.level:"), "{said:?}");
    }

    #[test]
    fn core_dumps_are_forbidden() {
        forbid_core_dumps();
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }

    #[test]
    fn a_clock_before_1970_is_refused() {
        assert!(check_clock(SystemTime::UNIX_EPOCH).is_ok());
        let before = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1)).expect("a time");
        assert!(check_clock(before).expect_err("refused").to_string().contains("1970"));
    }
}
