//! One process of Parlor under test: started with a configuration from its environment, watched through its report file
//! and its log, stopped with a signal.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a process may take until it is ready.
const START: Duration = Duration::from_secs(60);

/// The binary under test with this name: it is beside the test itself.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: cargo build --workspace --bins"))
}

/// A process under test. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    binary: String,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    child: Option<Child>,
    /// Where it can be reached, by what is spoken there.
    pub addresses: BTreeMap<String, SocketAddr>,
}

impl Process {
    /// Starts a binary with these settings (`listen.grpc` = `127.0.0.1:0`) in `folder`, and waits until it is ready.
    /// Addresses that were free ports stay the same when it is started again.
    pub async fn start(
        name: &str,
        binary: &str,
        folder: &Path,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let environment = settings
            .into_iter()
            .map(|(key, value)| (format!("PARLOR__{}", key.replace('.', "__").to_uppercase()), value))
            .collect();
        let mut process = Self {
            name: name.to_owned(),
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            environment,
            child: None,
            addresses: BTreeMap::new(),
        };
        process.start_again().await?;
        Ok(process)
    }

    /// Starts it again after it was killed or stopped, at the addresses that it had.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let report = self.folder.join(format!("{}.addresses", self.name));
        let _ = std::fs::remove_file(&report);
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(binary(&self.binary)?);
        command
            .current_dir(&self.folder)
            .env_clear()
            .envs(std::env::vars().filter(|(key, _)| key == "PATH" || key == "RUST_BACKTRACE"))
            .envs(&self.environment)
            .env("PARLOR__LISTEN__REPORT_FILE", &report)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (what, address) in &self.addresses {
            let key = match what.as_str() {
                "http" if self.binary == "parlor" => "PARLOR__GATEWAY__LISTEN".to_owned(),
                "http" => "PARLOR__SERVICE__LISTEN".to_owned(),
                other => format!("PARLOR__LISTEN__{}", other.to_uppercase()),
            };
            command.env(key, address.to_string());
        }
        self.child = Some(command.spawn().with_context(|| format!("{} cannot be started", self.binary))?);
        let started = Instant::now();
        loop {
            if let Ok(text) = std::fs::read(&report) {
                self.addresses = serde_json::from_slice(&text)?;
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("{} ended at the start with {status}:\n{}", self.name, self.log());
            }
            if started.elapsed() > START {
                bail!("{} is not ready after {START:?}:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a command of its binary with its settings, beside it or while it is stopped. Returns what the command printed.
    ///
    /// # Errors
    /// Fails when the command fails, with what it said.
    pub async fn runs(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(binary(&self.binary)?)
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{} {arguments:?}: {said}", self.name);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Where it speaks this.
    pub fn address(&self, what: &str) -> anyhow::Result<SocketAddr> {
        self.addresses.get(what).copied().with_context(|| format!("{} does not speak {what}", self.name))
    }

    /// Its name in this world.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it as a crash does: `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop and waits until it has. Says how long it took.
    pub async fn stop(&mut self) -> anyhow::Result<Duration> {
        let Some(mut child) = self.child.take() else { return Ok(Duration::ZERO) };
        let asked = Instant::now();
        signal(child.id(), "TERM")?;
        loop {
            if let Some(status) = child.try_wait()? {
                anyhow::ensure!(status.success(), "{} stopped with {status}:\n{}", self.name, self.log());
                return Ok(asked.elapsed());
            }
            if asked.elapsed() > Duration::from_secs(30) {
                let _ = child.kill();
                bail!("{} does not stop:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a binary prints of its configuration when it is given this file.
pub fn print_config(name: &str, file: &Path) -> anyhow::Result<String> {
    let output =
        Command::new(binary(name)?).arg("--print-config").arg("--config").arg(file).env_clear().output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{name} refuses {}: {said}", file.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// Sends a signal by name to a process.
pub fn signal(process_id: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process_id.to_string()).status()?;
    anyhow::ensure!(status.success(), "kill -{name} {process_id} failed");
    Ok(())
}

/// A process and its children, the parent first.
pub fn family(process_id: u32) -> Vec<u32> {
    let mut family = vec![process_id];
    let Ok(entries) = std::fs::read_dir("/proc") else { return family };
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // The name, in parentheses, may hold anything; the state and the parent come after it.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(process_id) {
            family.push(id);
        }
    }
    family
}
