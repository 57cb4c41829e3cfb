//! A real nginx with the configuration that `deploy/nginx.conf` shows, and other addresses and folders.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rcgen::generate_simple_self_signed;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tests::{process, storage, waiting};
use tokio::net::TcpStream;

/// The name in the certificate.
pub(super) const NAME: &str = "localhost";

/// The path of nginx; says so once where it is not installed, and the story then has nothing to try.
pub(super) fn nginx() -> Option<PathBuf> {
    let nginx = std::env::var_os("PARLOR_TEST_NGINX").map(PathBuf::from);
    assert!(
        nginx.is_some() || std::env::var_os("PARLOR_TEST_REQUIRE_NGINX").is_none(),
        "nginx is required and missing"
    );
    if nginx.is_none() {
        eprintln!("left out: PARLOR_TEST_NGINX is not set (tests/run installs nginx)");
    }
    nginx
}

/// A running nginx. Dropping it stops it.
pub(super) struct Balancer {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) certificate: CertificateDer<'static>,
    folder: TempDir,
}

impl Balancer {
    /// Starts nginx in front of these gateways, and waits until it listens.
    pub(super) async fn start(nginx: &Path, gateways: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The workers of nginx may run as another user.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
        let address = SocketAddr::from(([127, 0, 0, 1], storage::free_port().expect("a port")));
        let pair = generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("cert.pem", &pair.cert.pem());
        write("key.pem", &pair.signing_key.serialize_pem());
        write("nginx.conf", &configuration(folder.path(), address, gateways));

        let here = folder.path().display();
        let directives = format!("daemon off; pid {here}/nginx.pid; error_log {here}/error.log;");
        let child = Command::new(nginx)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .args(["-g", &directives])
            .spawn()
            .expect("nginx starts");
        let mut balancer = Self { child, address, certificate: pair.cert.der().clone(), folder };
        waiting::until("nginx to listen", || {
            let ended = balancer.child.try_wait().expect("its status");
            assert!(ended.is_none(), "nginx has ended: {}", balancer.log());
            async move { TcpStream::connect(address).await.ok() }
        })
        .await;
        balancer
    }

    /// The lines of its log that say that something is wrong with its configuration. That a machine for tests allows fewer
    /// open files than the configuration asks for is none.
    pub(super) fn complaints(&self) -> Vec<String> {
        let levels = ["[warn]", "[crit]", "[alert]", "[emerg]"];
        let is_complaint = |line: &&str| {
            levels.iter().any(|level| line.contains(level)) && !line.contains("setrlimit(RLIMIT_NOFILE")
        };
        self.log().lines().filter(is_complaint).map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

/// The example with other addresses and folders; everything else is as it stands there.
fn configuration(folder: &Path, address: SocketAddr, gateways: &[SocketAddr]) -> String {
    let folder = folder.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = kinds.iter().map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n")).collect();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx.conf");
    let mut text = std::fs::read_to_string(example).expect("deploy/nginx.conf");
    for (from, to) in [
        ("gateway-1:3000", gateways[0].to_string()),
        ("gateway-2:3000", gateways[1].to_string()),
        ("listen 443 ssl;", format!("listen {address} ssl;")),
        ("/etc/nginx/tls/", format!("{folder}/")),
        ("http {\n", format!("http {{\n{folders}  access_log {folder}/access.log;\n")),
    ] {
        assert!(text.contains(from), "deploy/nginx.conf has no {from:?} any more");
        text = text.replace(from, &to);
    }
    text
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It stops its workers before it goes.
        let _ = process::signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}
