//! Fetching from a real server with TLS, which stands on loopback: exactly where nothing may be fetched from unless the
//! settings allow it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbound::{Config, Failure, Fetcher, Summary, WebAddress};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// Gives up when something has not happened after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of pages, known as `localhost` and `127.0.0.1`.
struct Site {
    port: u16,
    connections: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
    _serving: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), cert.pem()).unwrap();
        let acceptor = acceptor(cert.der().to_vec(), &signing_key);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let count = Arc::clone(&connections);
        serving.spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                talks.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, port).await;
                    }
                });
            }
        });
        Self { port, connections, folder, _serving: serving }
    }

    fn at(&self, path: &str) -> WebAddress {
        WebAddress::parse(&format!("https://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    fn roots(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("root.pem"))
    }

    /// Settings under which this server may be asked, and nothing else beyond the internet.
    fn config(&self) -> Config {
        let allow_networks = ["127.0.0.1/32", "::1/128"].map(|network| network.parse().unwrap()).to_vec();
        Config { ports: vec![443, self.port], allow_networks, extra_roots: self.roots(), ..Config::default() }
    }

    async fn title(&self, path: &str) -> Result<String, Failure> {
        let page = fetch(&self.config(), &self.at(path)).await?;
        Ok(Summary::of(&page).expect("a title").title)
    }
}

async fn fetch(config: &Config, address: &WebAddress) -> Result<Vec<u8>, Failure> {
    let fetching = async { Fetcher::new(config).unwrap().page(address).await };
    tokio::time::timeout(PATIENCE, fetching).await.expect("an end").map(|page| page.bytes)
}

fn acceptor(certificate: Vec<u8>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    Arc::new(config).into()
}

fn html(more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{more}Content-Length: {length}\r\n\r\n{body}")
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
}

/// Answers one request, each path in its own way.
async fn answer(mut stream: TlsStream<TcpStream>, port: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let page = "<title>A page</title>";
    let text = match path {
        "/page" => html("", page),
        "/head" => html("", &format!("<title>{}</title>", head.replace("\r\n", "|"))),
        "/plain" => html("", page).replace("text/html", "text/plain"),
        "/gzip" => html("Content-Encoding: gzip\r\n", page),
        "/missing" => html("", page).replace("200 OK", "404 Not Found"),
        "/once" => to("/page"),
        "/three" => to("/two"),
        "/two" => to("/once"),
        "/four" => to("/three"),
        "/name" => to(&format!("https://localhost:{port}/page")),
        "/unencrypted" => to(&format!("http://127.0.0.1:{port}/page")),
        "/private" => to("https://10.0.0.1/"),
        "/metadata" => to("https://169.254.169.254/latest/meta-data/"),
        "/hidden" => to(&format!("https://[::ffff:7f00:1]:{port}/page")),
        "/port" => to("https://127.0.0.1:22/"),
        "/password" => to(&format!("https://user:password@127.0.0.1:{port}/page")),
        "/nowhere" => "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/rubbish" => "\u{1}\u{2}\r\n\r\n".to_owned(),
        "/short" => html("", page).replace("Content-Length: ", "Content-Length: 9"),
        "/long-head" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)),
        "/slow" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>").await;
            return drip(stream).await;
        }
        "/endless" => {
            let _ = stream.write_all(html("", page).replace("Content-Length: ", "X: ").as_bytes()).await;
            while stream.write_all(&[b'x'; 16_384]).await.is_ok() {}
            return;
        }
        _ => return,
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn drip(mut stream: TlsStream<TcpStream>) {
    while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nothing_on_loopback_is_asked_unless_the_settings_allow_it() {
    let site = Site::start().await;
    let config = Config { allow_networks: Vec::new(), ..site.config() };
    let places = [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ];
    for place in places {
        let address = WebAddress::parse(&format!("https://{place}:{}/page", site.port)).unwrap();
        assert_eq!(fetch(&config, &address).await, Err(Failure::Forbidden), "{place}");
    }
    assert_eq!(site.connections.load(Ordering::SeqCst), 0);
    assert_eq!(site.title("/page").await.as_deref(), Ok("A page"));
    assert_eq!(site.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_port_is_asked_but_those_that_are_set() {
    let site = Site::start().await;
    let config = Config { ports: vec![443], ..site.config() };
    assert_eq!(fetch(&config, &site.at("/page")).await, Err(Failure::Port));
    assert_eq!(site.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_believed() {
    let site = Site::start().await;
    let config = Config { extra_roots: None, ..site.config() };
    assert_eq!(fetch(&config, &site.at("/page")).await, Err(Failure::Untrusted));
}

#[tokio::test]
async fn a_request_says_nothing_about_anybody() {
    let site = Site::start().await;
    let head = site.title("/head").await.unwrap();
    let expected = format!(
        "GET /head HTTP/1.1|host: 127.0.0.1:{}|user-agent: Parlor-Preview/1|accept: text/html|\
         accept-encoding: identity|connection: close||",
        site.port
    );
    assert_eq!(head, expected);
}

#[tokio::test]
async fn a_redirect_is_followed_three_times_and_no_cookie_with_it() {
    let site = Site::start().await;
    for path in ["/once", "/two", "/three", "/name"] {
        assert_eq!(site.title(path).await.as_deref(), Ok("A page"), "{path}");
    }
    assert_eq!(site.title("/four").await, Err(Failure::Redirects));
    assert_eq!(site.title("/nowhere").await, Err(Failure::NoPage));
}

#[tokio::test]
async fn a_redirect_leads_nowhere_where_a_link_could_not() {
    let site = Site::start().await;
    for path in ["/private", "/metadata", "/hidden"] {
        assert_eq!(site.title(path).await, Err(Failure::Forbidden), "{path}");
    }
    for path in ["/unencrypted", "/password"] {
        assert!(matches!(site.title(path).await, Err(Failure::Address(_))), "{path}");
    }
    assert_eq!(site.title("/port").await, Err(Failure::Port));
}

#[tokio::test]
async fn a_slow_server_is_left_after_a_while() {
    let site = Site::start().await;
    let config = Config { timeout: Duration::from_millis(300), ..site.config() };
    assert_eq!(fetch(&config, &site.at("/slow")).await, Err(Failure::Late));
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let site = Site::start().await;
    let page = fetch(&site.config(), &site.at("/endless")).await.unwrap();
    assert_eq!(page.len(), 512 * 1024);
    assert_eq!(Summary::of(&page).unwrap().title, "A page");
}

#[tokio::test]
async fn what_is_no_page_is_not_read() {
    let site = Site::start().await;
    for path in ["/plain", "/gzip", "/missing"] {
        assert_eq!(site.title(path).await, Err(Failure::NoPage), "{path}");
    }
    for path in ["/rubbish", "/short", "/long-head", "/hangs-up"] {
        assert_eq!(site.title(path).await, Err(Failure::Broken), "{path}");
    }
}

#[tokio::test]
async fn who_is_not_there_cannot_be_reached() {
    let site = Site::start().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let config = Config { ports: vec![free], ..site.config() };
    let address = WebAddress::parse(&format!("https://127.0.0.1:{free}/")).unwrap();
    assert_eq!(fetch(&config, &address).await, Err(Failure::Unreachable));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let missing = Some(PathBuf::from("/nowhere/root.pem"));
    for config in [
        Config { ports: Vec::new(), ..Config::default() },
        Config { timeout: Duration::ZERO, ..Config::default() },
        Config { max_bytes: 0, ..Config::default() },
        Config { extra_roots: missing, ..Config::default() },
    ] {
        assert!(Fetcher::new(&config).is_err());
    }
    assert!(Fetcher::new(&Config::default()).is_ok());
}
