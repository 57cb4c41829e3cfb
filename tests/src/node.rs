//! Real client libraries: scripts in `tests/clients` that Node.js runs.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The time that a script may take to say its next line.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running script. It says what it sees in JSON, a line each.
#[derive(Debug)]
pub struct Script {
    name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// True where the client libraries are installed; says so once where they are not, and a story then has nothing to try.
///
/// # Panics
/// When they are required and missing.
#[expect(clippy::print_stderr, reason = "a story that is left out says why")]
pub fn has_clients() -> bool {
    let there = std::env::var_os("PARLOR_TEST_NODE_MODULES").is_some();
    assert!(
        there || std::env::var_os("PARLOR_TEST_REQUIRE_NODE").is_none(),
        "the client libraries are required and missing"
    );
    if !there {
        eprintln!("left out: PARLOR_TEST_NODE_MODULES is not set (tests/run installs the client libraries)");
    }
    there
}

impl Script {
    /// Starts `tests/clients/<name>.mjs` with `PARLOR_ADDRESS` and these variables.
    ///
    /// # Panics
    /// When Node.js does not start.
    pub fn start(name: &str, gateway: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let path = format!("{}/clients/{name}.mjs", env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("node")
            .arg(path)
            .env("PARLOR_ADDRESS", gateway.to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let stdout = child.stdout.take().expect("the output of the script");
        Self { name: name.to_owned(), child, lines: BufReader::new(stdout).lines() }
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// When it ends or says nothing in time.
    pub async fn says(&mut self) -> Value {
        let line = self.says_in_time().await;
        line.unwrap_or_else(|| panic!("{} says nothing", self.name))
    }

    /// The next line that it says; `None` when it says nothing in time.
    ///
    /// # Panics
    /// When it ends.
    pub async fn says_in_time(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.ok()?.expect("a line");
        let line = line.unwrap_or_else(|| panic!("{} has ended", self.name));
        let value = serde_json::from_str(&line);
        Some(value.unwrap_or_else(|_| panic!("{} says no JSON: {line}", self.name)))
    }

    /// The next line for which a condition holds.
    pub async fn says_when(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.says().await;
            if holds(&line) {
                return line;
            }
        }
    }

    /// Sends it a line of JSON.
    ///
    /// # Panics
    /// When it has ended.
    pub async fn hears(&mut self, line: &Value) {
        use tokio::io::AsyncWriteExt as _;
        let stdin = self.child.stdin.as_mut().expect("the input of the script");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the script listens");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it fails or does not end in time.
    pub async fn ends_well(mut self) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{} does not end", self.name)).expect("a status");
        assert!(status.success(), "{} has failed: {status}", self.name);
    }
}
