//! The PostgreSQL and NATS that the separate processes stand on. `tests/run` starts one of each for all stories; a test
//! that kills them starts its own.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::id::EventId;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

/// Makes a fresh database in the PostgreSQL that `tests/run` started, and says its address.
pub async fn fresh_database() -> anyhow::Result<String> {
    let server =
        std::env::var("PARLOR_TEST_POSTGRES").context("PARLOR_TEST_POSTGRES is not set: use tests/run")?;
    create_database(&server).await
}

/// The address of the NATS that `tests/run` started.
pub fn nats_url() -> anyhow::Result<String> {
    std::env::var("PARLOR_TEST_NATS").context("PARLOR_TEST_NATS is not set: use tests/run")
}

async fn create_database(server: &str) -> anyhow::Result<String> {
    let name = format!("parlor_{}", uuid_text());
    let mut connection = PgConnection::connect(server).await.context("PostgreSQL cannot be reached")?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    let (front, _) = server.rsplit_once('/').context("the address of PostgreSQL names no database")?;
    Ok(format!("{front}/{name}"))
}

fn uuid_text() -> String {
    EventId::generate().uuid().simple().to_string()
}

/// A port that nobody listens at, below those that the system gives out by itself: who is killed finds it free again,
/// however many connections have been opened meanwhile.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Where two programs begin must not be the same place.
    let first = EventId::generate().uuid().as_u128() % u128::from(COUNT);
    let _ = NEXT.compare_exchange(0, first as u16, Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}

const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A PostgreSQL and a NATS of their own, in a folder of their own.
#[derive(Debug)]
pub struct Cluster {
    /// The database server.
    pub postgres: Postgres,
    /// The bus.
    pub nats: Nats,
    // Last, so that it goes after those who write to it.
    _folder: TempDir,
}

impl Cluster {
    /// Starts both.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        // The server of the database may run as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let nats = Nats::start()?;
        Ok(Self { postgres: Postgres::start(folder.path()).await?, nats, _folder: folder })
    }
}

/// A PostgreSQL of its own, which can be killed and started again.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster in `folder`, with all that durability needs, and starts it.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let binaries = std::env::var_os("PARLOR_TEST_POSTGRES_BIN").context("use tests/run")?.into();
        let server = Self { binaries, folder: folder.join("pg"), port: free_port()? };
        std::fs::create_dir_all(&server.folder)?;
        if is_root() {
            run(Command::new("chown").arg("nobody").arg(&server.folder))?;
        }
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(&server.folder);
        run(initdb.args(["-U", "parlor", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]))?;
        server.start_again().await?;
        Ok(server)
    }

    /// Makes a fresh database and says its address.
    pub async fn database(&self) -> anyhow::Result<String> {
        create_database(&self.url()).await
    }

    fn url(&self) -> String {
        format!("postgres://parlor@127.0.0.1:{}/postgres", self.port)
    }

    /// The process id of its first process, the parent of all others.
    pub fn id(&self) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.folder.join("postmaster.pid"))?;
        text.lines().next().unwrap_or_default().parse().context("postmaster.pid")
    }

    /// Kills every process of it at once, as a crash does.
    pub fn kill(&self) -> anyhow::Result<()> {
        let mut kill = Command::new("kill");
        // The parent first: it would stop the others in good order.
        kill.arg("-KILL").args(crate::process::family(self.id()?).iter().map(ToString::to_string));
        // One that has gone by itself meanwhile is no failure.
        kill.stderr(Stdio::null()).status()?;
        Ok(())
    }

    /// Starts it (again) at the same port, on the same data.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let mut start = self.command("pg_ctl");
            start.arg("-D").arg(&self.folder).args(["-s", "-w", "-l"]).arg(self.folder.join("log"));
            let options = format!(
                "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200",
                self.port
            );
            match run(start.args(["-o", &options, "start"])) {
                Ok(()) => return Ok(()),
                // The processes of the one that was killed may take a moment to go.
                Err(error) if started.elapsed() > Duration::from_secs(20) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn command(&self, name: &str) -> Command {
        let program = self.binaries.join(name);
        if !is_root() {
            return Command::new(program);
        }
        // PostgreSQL does not run as root.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--clear-groups"]).arg(program).current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        let _ = run(stop.arg("-D").arg(&self.folder).args(["-s", "-m", "immediate", "stop"]));
    }
}

/// A NATS of its own, which can be killed and started again.
#[derive(Debug)]
pub struct Nats {
    binary: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// Starts one.
    pub fn start() -> anyhow::Result<Self> {
        let binary = std::env::var_os("PARLOR_TEST_NATS_SERVER").context("use tests/run")?.into();
        let mut server = Self { binary, port: free_port()?, child: None };
        server.start_again()?;
        Ok(server)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it (again) at the same port.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        Ok(())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
