//! NATS and secrets as `deploy/` ships them, and what production refuses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_nats::{Client, ConnectOptions, Event};
use proto::conversation::v1::ListMembershipsRequest;
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tests::person::text;
use tests::process::Process;
use tests::waiting::{until, within};
use tests::{Shape, World, storage};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};
use url::Url;

tests::stories![
    the_services_work_with_what_deploy_ships,
    production_refuses_servers_elsewhere_without_tls_and_credentials,
    each_process_of_compose_sees_the_files_that_its_configuration_names,
];

const SERVICES: [&str; 5] = ["auth", "conversation", "messaging", "scheduling", "gateway"];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// A nats-server with deploy/nats.conf and what deploy/secrets.sh makes. Dropping it stops it.
struct Shipped {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Shipped {
    /// Starts it with other addresses and folders; `None` where nats-server is not installed.
    async fn start() -> Option<Self> {
        let server = nats_server()?;
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new(deploy("secrets.sh")).arg(folder.path()).output().expect("deploy/secrets.sh");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = || SocketAddr::from(([127, 0, 0, 1], storage::free_port().expect("a port")));
        let (address, monitor) = (port(), port());
        let mut configuration = std::fs::read_to_string(deploy("nats.conf")).expect("deploy/nats.conf");
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (from, to) in [
            ("0.0.0.0:4222", address.to_string()),
            ("127.0.0.1:8222", monitor.to_string()),
            ("/etc/nats/nats.pem", path("tls/nats.pem")),
            ("/etc/nats/nats.key", path("tls/nats.key")),
        ] {
            assert!(configuration.contains(from), "deploy/nats.conf has no {from:?} any more");
            configuration = configuration.replace(from, &to);
        }
        std::fs::write(path("nats/nats.conf"), configuration).expect("a file");
        let log = path("nats.log");
        let mut command = Command::new(server);
        command.args(["-c", &path("nats/nats.conf"), "-l", &log]).stdin(Stdio::null());
        let mut shipped = Self { child: command.spawn().expect("nats-server starts"), address, folder };
        until("nats-server to listen", || {
            let ended = shipped.child.try_wait().expect("its status");
            assert!(ended.is_none(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
            async move { TcpStream::connect(address).await.ok() }
        })
        .await;
        Some(shipped)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn servers(&self) -> String {
        format!("tls://{}", self.address)
    }

    /// The settings of deploy/config, with other folders.
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("profile", "production".to_owned()),
            ("auth.registration_open", "true".to_owned()),
            ("nats.servers", self.servers()),
            ("nats.tls_required", "true".to_owned()),
            ("nats.authority_file", self.path("tls/authority.pem")),
            ("nats.user", "{service}".to_owned()),
            ("nats.password_file", self.path("nats/{service}")),
            ("nats.notice_keys", self.path("notice-keys")),
            ("listen.tls.certificate_file", self.path("tls/{service}.pem")),
            ("listen.tls.key_file", self.path("tls/{service}.key")),
            ("listen.tls.authority_file", self.path("tls/authority.pem")),
            ("peers.tls.certificate_file", self.path("tls/{service}.pem")),
            ("peers.tls.key_file", self.path("tls/{service}.key")),
            ("peers.tls.authority_file", self.path("tls/authority.pem")),
        ]
    }

    /// A client with the password of a service, and what the server refuses it.
    async fn connects_as(&self, service: &str) -> (Client, mpsc::UnboundedReceiver<String>) {
        let password = std::fs::read_to_string(self.path(&format!("nats/{service}"))).expect("a password");
        let (refused, refusals) = mpsc::unbounded_channel();
        let options = ConnectOptions::new()
            .user_and_password(service.to_owned(), password)
            .require_tls(true)
            .add_root_certificates(self.path("tls/authority.pem").into())
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    let _ = refused.send(error.to_string());
                }
                std::future::ready(())
            });
        (options.connect(self.servers()).await.expect("NATS"), refusals)
    }
}

impl Drop for Shipped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of nats-server; says so once where it is not installed, and the story then has nothing to try.
fn nats_server() -> Option<PathBuf> {
    let named = std::env::var_os("PARLOR_TEST_NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found =
        named.or_else(|| folders.map(|folder| folder.join("nats-server")).find(|path| path.is_file()));
    assert!(
        found.is_some() || std::env::var_os("PARLOR_TEST_REQUIRE_NATS").is_none(),
        "nats-server is required and missing"
    );
    if found.is_none() {
        eprintln!("left out: nats-server is not installed (tests/run installs it)");
    }
    found
}

async fn the_services_work_with_what_deploy_ships(world: Arc<World>) {
    if world.shape == Shape::Embedded {
        return;
    }
    let Some(shipped) = Shipped::start().await else { return };
    let settings = shipped.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let database = storage::fresh_database().await.expect("a database");
    let roles = roles_in(&database, &shipped);
    let world = World::separate_with(&roles, &shipped.servers(), &settings).await;
    let mut world = world.expect("a world of its own");
    everything_that_travels_arrives(&world).await;
    a_secret_is_worth_nothing_with_the_certificate_of_another(&world, &shipped).await;
    no_service_speaks_or_hears_for_another(&shipped).await;
    strangers_are_refused(&shipped).await;
    // All is well to the end, and no process was refused what it needs.
    for process in &world.processes {
        let admin = process.address("admin").expect("an admin address");
        let ready = reqwest::get(format!("http://{admin}/readyz")).await.expect("an answer");
        let ready = ready.text().await.expect("a text");
        assert!(!ready.contains("degraded"), "{}: {ready}", process.name());
        assert!(!process.log().contains("permissions violation"), "{}", process.log());
    }
    world.stop().await.expect("a world that stops");
    assert_eq!(world.errors(), Vec::<String>::new());
    no_role_reaches_the_tables_of_another(&roles).await;
}

/// Makes the roles of deploy/postgres-roles.sh in a database. Returns its address with a role per service.
fn roles_in(database: &str, shipped: &Shipped) -> String {
    let mut url = Url::parse(database).expect("an address");
    let bin = std::env::var("PARLOR_TEST_POSTGRES_BIN").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let made = Command::new(deploy("postgres-roles.sh"))
        .env("PATH", format!("{bin}:{path}"))
        .env("ROLES", shipped.path("postgres-roles"))
        .env("PGHOST", url.host_str().unwrap_or_default())
        .env("PGPORT", url.port().unwrap_or(5432).to_string())
        .env("PGPASSWORD", url.password().unwrap_or_default())
        .env("POSTGRES_USER", url.username())
        .env("POSTGRES_DB", url.path().trim_start_matches('/'))
        .output()
        .expect("deploy/postgres-roles.sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // The server of the tests asks for no password.
    url.set_password(None).expect("an address with a user");
    url.set_username("parlor_service").expect("an address with a user");
    url.as_str().replace("parlor_service", "parlor_{service}")
}

/// Each role sees its own schema, and can neither read others nor make anything elsewhere.
async fn no_role_reaches_the_tables_of_another(roles: &str) {
    let services = ["auth", "conversation", "messaging", "scheduling"];
    for service in services {
        let role = PgConnection::connect(&roles.replace("{service}", service));
        let mut role = role.await.expect("a connection");
        for other in services {
            let sql = format!("SELECT COUNT(*) FROM parlor_{other}.outbox");
            let counted: Result<i64, _> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut role).await;
            assert_eq!(counted.is_ok(), other == service, "{service} reads {other}: {counted:?}");
        }
        for sql in ["CREATE SCHEMA mine", "CREATE TABLE public.mine (n INT)", "CREATE ROLE mine SUPERUSER"] {
            assert!(sqlx::query(sql).execute(&mut role).await.is_err(), "{service}: {sql}");
        }
    }
}

/// Events, receipts, signals, calls, facts and the ends of sessions.
async fn everything_that_travels_arrives(world: &World) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let mut screen = bob.comes_online().await;
    for words in ["one", "two", "three", "four"] {
        ann.says(&conversation, words).await;
        screen.expects_message(words).await;
    }
    let signal = json!({ "kind": "SIGNAL_KIND_TYPING" });
    ann.post(&format!("/v1/conversations/{conversation}/signals"), signal).await.ok();
    screen.next_of("signal").await;
    let call = ann.calls(&bob).await;
    screen.expects_call("RINGING").await;
    ann.does_with_call(&call, "end").await;
    let other = ann.starts_group_with(&[&bob]).await;
    // The call has made a direct conversation, which Bob gains too.
    while text(&screen.next_user_event("conversationGained").await["conversationId"]) != other {}
    bob.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(screen.expects_close().await.code, 4401);
}

/// The gateway may list the memberships of a user, and scheduling may not.
async fn a_secret_is_worth_nothing_with_the_certificate_of_another(world: &World, shipped: &Shipped) {
    let process = world.processes.iter().find(|process| process.name() == "conversation").expect("a process");
    let address = process.address("grpc").expect("an address");
    let read = |name: &str| std::fs::read(shipped.path(name)).expect("a file");
    for (certificate, code) in [("gateway", None), ("scheduling", Some(Code::PermissionDenied))] {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("tls/authority.pem")))
            .identity(Identity::from_pem(
                read(&format!("tls/{certificate}.pem")),
                read(&format!("tls/{certificate}.key")),
            ))
            .domain_name("localhost");
        let channel = Endpoint::from_shared(format!("https://{address}")).expect("an address");
        let channel = channel.tls_config(tls).expect("settings").connect().await.expect("a connection");
        let user_id = proto::id::UserId::generate().to_string();
        let mut request = Request::new(ListMembershipsRequest { user_id, known_version: 0 });
        let authorization = world.gateway_authorization().parse().expect("a header");
        request.metadata_mut().insert("authorization", authorization);
        let answer = ConversationServiceClient::new(channel).list_memberships(request).await;
        assert_eq!(answer.err().map(|status| status.code()), code, "{certificate}");
    }
}

async fn no_service_speaks_or_hears_for_another(shipped: &Shipped) {
    for service in SERVICES {
        let (client, mut refusals) = shipped.connects_as(service).await;
        // The server refuses in the order in which it is asked, so that one refusal too many is found by the next.
        let mut expects_refusal = async |what: &str, subject: &str| {
            let refused = within("a refusal", refusals.recv()).await.expect("NATS").to_lowercase();
            let expected = format!("permissions violation for {what} to \"{}\"", subject.to_lowercase());
            assert!(refused.contains(&expected), "{service} {what} {subject}: {refused}");
        };
        let heard = proto::subject::publishers(service);
        for publisher in ["auth", "conversation", "messaging", "scheduling"] {
            let subject = format!("parlor.{publisher}.v1.facts");
            client.publish(subject.clone(), "x".into()).await.expect("sent");
            if publisher != service {
                expects_refusal("publish", &subject).await;
            }
            let _subscription = client.subscribe(subject.clone()).await.expect("sent");
            if !heard.contains(&publisher) {
                expects_refusal("subscription", &subject).await;
            }
        }
        for subject in [">", "parlor.>", "_INBOX.>", "$SYS.>", "$JS.API.>"] {
            let _subscription = client.subscribe(subject).await.expect("sent");
            expects_refusal("subscription", subject).await;
        }
    }
}

async fn strangers_are_refused(shipped: &Shipped) {
    let authority = PathBuf::from(shipped.path("tls/authority.pem"));
    let with_tls = || ConnectOptions::new().add_root_certificates(authority.clone());
    for options in [
        with_tls(),
        with_tls().user_and_password("messaging".to_owned(), "guess".to_owned()),
        // Its certificate is of an authority that this one does not know.
        ConnectOptions::new().user_and_password("messaging".to_owned(), "guess".to_owned()),
    ] {
        assert!(options.connect(shipped.servers()).await.is_err());
    }
}

async fn production_refuses_servers_elsewhere_without_tls_and_credentials(world: Arc<World>) {
    let folder = tempfile::tempdir().expect("a folder");
    let starts = async |name: &str, binary: &str, settings: &[(&str, &str)]| {
        let base =
            [("profile", "production"), ("listen.admin", "127.0.0.1:0"), ("listen.grpc", "127.0.0.1:0")];
        // The gateway is there in one process only.
        let gateway = (binary == "parlor").then_some(("gateway.listen", "127.0.0.1:0"));
        let settings = base
            .iter()
            .chain(gateway.iter())
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let refused = Process::start(name, binary, folder.path(), settings).await;
        format!("{:#}", refused.expect_err("refused"))
    };
    let binary = if world.shape == Shape::Embedded { "parlor" } else { "parlor-messaging" };
    let far = ("nats.servers", "nats://nats.example:4222");
    let tls = ("nats.tls_required", "true");
    let said = starts("one", binary, &[far]).await;
    assert!(said.contains("nats.servers: nats.example") && said.contains("nats.tls_required"), "{said}");
    let said = starts("two", binary, &[far, tls]).await;
    assert!(said.contains("nats.user and nats.password_file"), "{said}");
    let near = ("nats.servers", "nats://127.0.0.1:4222");
    for (name, url, missing) in [
        ("three", "postgres://parlor:secret@db.example/parlor", "sslmode=verify-full"),
        ("four", "postgres://parlor:secret@db.example/parlor?sslmode=require", "sslmode=verify-full"),
        ("five", "postgres://parlor@db.example/parlor?sslmode=verify-full", "password"),
    ] {
        let said = starts(name, binary, &[near, ("database.url", url)]).await;
        assert!(said.contains("database.url: db.example") && said.contains(missing), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let database = storage::fresh_database().await.expect("a database");
    let mut settings = vec![near, ("database.url", database.as_str())];
    if world.shape == Shape::Embedded {
        settings.push(("auth.registration_open", "true"));
    }
    let said = starts("six", binary, &settings).await;
    assert!(said.contains("nats.notice_keys must be set"), "{said}");
}

/// The files that a configuration names, as the process sees them.
fn named_files(configuration: &str) -> BTreeSet<String> {
    let lines = configuration.lines().filter(|line| !line.trim_start().starts_with('#'));
    let values = lines.filter_map(|line| line.split_once(" = ")).map(|(_, value)| value.trim_matches('"'));
    values.filter(|value| value.starts_with("/run/parlor/")).map(str::to_owned).collect()
}

async fn each_process_of_compose_sees_the_files_that_its_configuration_names(world: Arc<World>) {
    // Nothing runs: once is enough.
    if world.shape == Shape::Separate {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new(deploy("secrets.sh")).arg(folder.path()).output().expect("deploy/secrets.sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let compose = std::fs::read_to_string(deploy("compose.yaml")).expect("deploy/compose.yaml");
    // The volumes of a process stand below its command.
    for service in SERVICES {
        let (_, rest) = compose.split_once(&format!("/etc/parlor/{service}.toml\"]")).expect("its command");
        let volumes = rest
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- ./secret/"));
        let mut seen = BTreeSet::new();
        for volume in volumes {
            let (file, place) = volume.trim_end_matches(":ro").split_once(':').expect("a file and its place");
            assert!(folder.path().join(file).is_file(), "{service}: deploy/secrets.sh makes no {file}");
            seen.insert(place.to_owned());
        }
        let configuration =
            std::fs::read_to_string(deploy(&format!("config/{service}.toml"))).expect("its configuration");
        let mut needed = named_files(&configuration);
        if needed.remove("/run/parlor/notice-keys") {
            needed.extend(
                proto::subject::publishers(service)
                    .iter()
                    .map(|key| format!("/run/parlor/notice-keys/{key}")),
            );
        }
        // The vault is needed once mail is set up.
        seen.remove("/run/parlor/vault");
        assert_eq!(seen, needed, "{service}");
    }
    for service in ["auth", "conversation", "messaging", "scheduling"] {
        let file = folder.path().join("database-urls").join(service);
        let url = std::fs::read_to_string(file).expect("a file");
        assert!(url.starts_with(&format!("postgres://parlor_{service}:")), "{url}");
        assert!(url.contains("sslmode=verify-full&sslrootcert=/run/parlor/authority.pem"), "{url}");
    }
}
