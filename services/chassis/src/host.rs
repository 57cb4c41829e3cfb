//! A process from its first line to its last: arguments, configuration, logs, listening, signals, draining.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::future::Future;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::admin::{self, Readiness, ReadinessCheck};
use crate::config::{self, ListenConfig, Settings, TlsConfig};
use crate::database::Database;
use crate::profile::Profile;
use crate::tasks::{Shutdown, Tasks};
use crate::telemetry;
use crate::unit::Unit;

/// The stack of a worker. In one process a request goes through several services on one stack, and without optimisation
/// its frames are large. Only what is used takes memory.
const STACK_BYTES: usize = 8 << 20;

/// How long a process takes to go, at most, from the signal to its end.
const GRACE: Duration = Duration::from_secs(15);

/// How long work that is under way may take to finish when the process goes.
const IN_FLIGHT: Duration = Duration::from_secs(10);

/// What can be said to a process when it is started. Everything else is configuration.
#[derive(Debug, Parser)]
#[command(version, about = "A part of Parlor, the chat backend.")]
pub struct Arguments {
    /// The TOML file to read the configuration from.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration that results from defaults, file and environment, and stop.
    #[arg(long)]
    pub print_config: bool,
}

/// Runs one service as a process: `main` of its binary.
pub fn main<C, F, Fut>(name: &'static str, launch: F) -> ExitCode
where
    C: Clone + Debug + Default + Serialize + DeserializeOwned,
    F: FnOnce(Settings<C>) -> Fut,
    Fut: Future<Output = anyhow::Result<Unit>>,
{
    run(|settings: Settings<C>| async move {
        telemetry::init(name, &settings.log)?;
        settings.listen.check(settings.profile)?;
        let process = Process { name, profile: settings.profile, listen: settings.listen.clone() };
        let unit = launch(settings).await?;
        serve(process, vec![unit], |_| Ok(())).await
    })
}

/// Reads the configuration and runs a process with it. Says on standard error what went wrong, if something did.
pub fn run<S, F, Fut>(process: F) -> ExitCode
where
    S: Serialize + DeserializeOwned,
    F: FnOnce(S) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let outcome = configured(process, Arguments::parse());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be up yet, and whoever started the process looks here.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configured<S, F, Fut>(process: F, arguments: Arguments) -> anyhow::Result<()>
where
    S: Serialize + DeserializeOwned,
    F: FnOnce(S) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let environment: HashMap<String, String> = std::env::vars().collect();
    let settings: S = config::load(arguments.config.as_deref(), environment)?;
    if arguments.print_config {
        let text = toml::to_string_pretty(&settings).context("the configuration cannot be printed")?;
        return std::io::stdout().write_all(text.as_bytes()).context("standard output is closed");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()?;
    runtime.block_on(async {
        // From here on a hang-up does not end the process; it is listened to once units are served.
        let _hang_up = signal(SignalKind::hangup())?;
        process(settings).await
    })
}

/// A process that serves units.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its name: that of its service, or `parlor` for all in one.
    pub name: &'static str,
    /// For whom it runs.
    pub profile: Profile,
    /// Where it listens.
    pub listen: ListenConfig,
}

/// Where a process can be reached, by what is spoken there: `grpc`, `admin`, `http`.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// Serves the units until a signal says to stop, for the lame-duck time after it, and then drains. The units are given in call order: a unit calls only
/// those before it, so they stop from the last to the first. `announce` is told the addresses once all is ready.
pub async fn serve(
    process: Process,
    mut units: Vec<Unit>,
    announce: impl FnOnce(&Addresses) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut addresses = Addresses::new();
    for (what, address) in units.iter().flat_map(|unit| &unit.listening) {
        // The first is the one to tell people; a unit may listen at others besides.
        addresses.entry((*what).to_owned()).or_insert(*address);
    }

    let readiness = readiness(&process, &mut units);
    let admin = bind(process.listen.admin, default_port(process.name, 9050)).await?;
    addresses.insert("admin".to_owned(), admin.local_addr()?);
    let operation = Tasks::default();
    operation.spawn("admin", |shutdown| serve_admin(admin, readiness.clone(), shutdown));

    let grpc = Tasks::default();
    if let Some(routes) = grpc_routes(&process, &mut units).await? {
        let listener = bind(process.listen.grpc, default_port(process.name, 50050)).await?;
        addresses.insert("grpc".to_owned(), listener.local_addr()?);
        let tls = process.listen.tls.as_ref().map(server_tls).transpose()?;
        grpc.spawn("grpc", |shutdown| serve_grpc(tls, routes, listener, shutdown));
    }

    report(process.listen.report_file.as_deref(), &addresses)?;
    announce(&addresses)?;
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

fn readiness(process: &Process, units: &mut [Unit]) -> Readiness {
    let databases: Vec<(&str, Database)> =
        units.iter().filter_map(|unit| Some((unit.name, unit.database.clone()?))).collect();
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

async fn serve_admin(listener: TcpListener, readiness: Readiness, shutdown: Shutdown) {
    let served = axum::serve(listener, admin::router(readiness, telemetry::metrics_handle()));
    tokio::select! {
        outcome = served => tracing::error!(?outcome, "the admin server has ended"),
        () = shutdown.wait() => {}
    }
}

/// All gRPC routes of the units, with health and, where it is wanted, reflection.
async fn grpc_routes(process: &Process, units: &mut [Unit]) -> anyhow::Result<Option<axum::Router>> {
    let routers: Vec<axum::Router> = units.iter_mut().filter_map(|unit| unit.grpc.take()).collect();
    if routers.is_empty() {
        return Ok(None);
    }
    let names: Vec<&'static str> = units.iter().flat_map(|unit| unit.services.iter().copied()).collect();

    let (reporter, health) = tonic_health::server::health_reporter();
    for name in &names {
        reporter.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
    }
    let mut operation = Routes::new(health);
    if process.listen.reflects(process.profile) {
        let builder = || {
            let described = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            names.iter().fold(described, |builder, name| builder.with_service_name(*name))
        };
        operation = operation.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    }
    // The fallback of the operational routes answers whatever no unit knows.
    let operation = operation.into_axum_router();
    Ok(Some(routers.into_iter().fold(operation, axum::Router::merge)))
}

async fn serve_grpc(
    tls: Option<ServerTlsConfig>,
    routes: axum::Router,
    listener: TcpListener,
    shutdown: Shutdown,
) {
    if let Err(error) = grpc_server(tls, routes, listener, shutdown).await {
        tracing::error!(%error, "gRPC cannot be served");
    }
}

async fn grpc_server(
    tls: Option<ServerTlsConfig>,
    routes: axum::Router,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        // Without a number of ours there would be no bound at all.
        .max_concurrent_streams(Some(1024))
        .http2_max_header_list_size(Some(16 * 1024))
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20));
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await })
        .await
}

fn server_tls(tls: &TlsConfig) -> anyhow::Result<ServerTlsConfig> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&tls.certificate_file)?, read(&tls.key_file)?))
        .client_ca_root(Certificate::from_pem(read(&tls.authority_file)?)))
}

async fn bind(address: Option<SocketAddr>, default_port: u16) -> anyhow::Result<TcpListener> {
    let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, default_port)));
    TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))
}

/// The port of a service that was told none: the base plus its place.
fn default_port(name: &str, base: u16) -> u16 {
    let place = match name {
        "auth" => 1,
        "conversation" => 2,
        "messaging" => 3,
        "scheduling" => 4,
        // All in one process: gRPC where auth would be, because nobody else takes it.
        _ if base == 50050 => 1,
        _ => 0,
    };
    base + place
}

fn report(file: Option<&std::path::Path>, addresses: &Addresses) -> anyhow::Result<()> {
    let Some(path) = file else { return Ok(()) };
    // Written beside and renamed, so that a reader never sees half of it.
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec(addresses)?)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The signals that a process takes notice of.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop. A hang-up (a terminal that closes, or a request to read the configuration again) is no
    /// such signal.
    async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP is ignored: the configuration is read at the start only");
                }
            }
        }
    }
}
