//! Previews of links: a real site with TLS stands on loopback, and what becomes of messages that link to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::messaging::v1::event::Payload;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::preview::PreviewConfig;

/// A site whose every page is called like its path.
struct Site {
    port: u16,
    visits: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
    _serving: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&visits);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let page =
                    format!("<title>Page {path}</title><meta name=description content='all &amp; more'>");
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{page}");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { port, visits, folder, _serving: serving }
    }

    fn at(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }

    /// Previews, from here too.
    fn config(&self) -> PreviewConfig {
        let fetch = outbound::Config {
            ports: vec![self.port],
            allow_networks: vec!["127.0.0.1/32".parse().unwrap()],
            extra_roots: Some(self.folder.path().join("root.pem")),
            ..outbound::Config::default()
        };
        PreviewConfig { enabled: true, fetch, ..PreviewConfig::default() }
    }
}

async fn world(previews: PreviewConfig) -> World {
    World::with(Config { previews, ..Config::default() }).await
}

impl World {
    async fn got(&self, by: UserId, message: &pb::Message) -> pb::Message {
        let ids = (message.conversation_id.clone(), message.message_id.clone());
        let request = pb::GetMessageRequest { conversation_id: ids.0, message_id: ids.1 };
        self.messaging().get_message(by.says(request)).await.unwrap().into_inner().message.unwrap()
    }

    /// Waits until a message has this preview, by its title.
    async fn shows(&self, by: UserId, message: &pb::Message, title: &str) {
        let preview = async || self.got(by, message).await.link_preview;
        eventually(async || preview().await.is_some_and(|preview| preview.title == title)).await;
    }
}

#[tokio::test]
async fn a_link_gets_a_preview_that_everybody_hears_of() {
    let site = Site::start().await;
    let world = world(site.config()).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let text = world.says(ann, group, &format!("look: {}, really", site.at("/one"))).await;
    assert_eq!(text.link_preview, None, "nobody waits for it");
    world.shows(bob, &text, "Page /one").await;
    let preview = world.got(bob, &text).await.link_preview.unwrap();
    assert_eq!((preview.url, preview.description.as_str()), (site.at("/one"), "all & more"));
    let link = pb::LinkContent { url: site.at("/two"), ..Default::default() };
    let content = Some(pb::Content { kind: Some(pb::content::Kind::Link(link)), ..Default::default() });
    let request = pb::SendMessageRequest { content, ..to(group, "") };
    let link = world.send(ann, request).await.unwrap().message.unwrap();
    world.shows(bob, &link, "Page /two").await;
    let events = world.events(bob, group, text.sequence).await.events;
    let told = events.iter().find_map(|event| match &event.payload {
        Some(Payload::LinkPreviewed(change)) => Some((event, change)),
        _ => None,
    });
    let (event, change) = told.unwrap();
    assert_eq!((&change.message_id, change.message_sequence), (&text.message_id, text.sequence));
    assert_eq!((event.actor_user_id.as_str(), event.membership_version), ("", 1));
}

#[tokio::test]
async fn an_edit_changes_the_preview_with_the_link() {
    let site = Site::start().await;
    let world = world(site.config()).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let message = world.says(ann, group, &site.at("/one")).await;
    world.shows(ann, &message, "Page /one").await;
    let edit = async |says: &str| {
        let request = pb::EditMessageRequest {
            conversation_id: group.to_string(),
            message_id: message.message_id.clone(),
            content: content(says),
            expected_version: 0,
        };
        world.messaging().edit_message(ann.says(request)).await.unwrap().into_inner().message.unwrap()
    };
    assert!(edit(&format!("still {}", site.at("/one"))).await.link_preview.is_some());
    assert_eq!(site.visits(), 1, "what is shown is not fetched again");
    assert_eq!(edit(&site.at("/two")).await.link_preview, None);
    world.shows(ann, &message, "Page /two").await;
    assert_eq!(edit("no link").await.link_preview, None);
}

#[tokio::test]
async fn nothing_is_fetched_unless_the_settings_say_so() {
    let site = Site::start().await;
    let off = world(PreviewConfig { enabled: false, ..site.config() }).await;
    let fetch = outbound::Config { allow_networks: Vec::new(), ..site.config().fetch };
    let guarded = world(PreviewConfig { fetch, ..site.config() }).await;
    let open = world(site.config()).await;
    for world in [&off, &guarded, &open] {
        let [ann] = world.people();
        let group = world.group(&[ann]);
        world.says(ann, group, &site.at("/one")).await;
    }
    eventually(async || site.visits() > 0).await;
    // What leads into our own network was refused before anything was sent: only one of the three came.
    let [ann] = open.people();
    let group = open.group(&[ann]);
    let message = open.says(ann, group, &site.at("/two")).await;
    open.shows(ann, &message, "Page /two").await;
    assert_eq!(site.visits(), 2);
}

#[tokio::test]
async fn what_is_secure_or_will_expire_is_not_looked_at() {
    let site = Site::start().await;
    let world = world(PreviewConfig { workers: 1, ..site.config() }).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let expire_after = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let ephemeral = pb::SendMessageRequest { expire_after, ..to(group, &site.at("/ephemeral")) };
    world.send(ann, ephemeral).await.unwrap();
    let ciphertext = site.at("/secure").into_bytes();
    let secure = pb::SecureContent { ciphertext, algorithm: "x".to_owned(), ..Default::default() };
    let content = pb::Content { kind: Some(pb::content::Kind::Secure(secure)), ..Default::default() };
    let secure = pb::SendMessageRequest { content: Some(content), ..keyed(group, "", "k") };
    world.send(ann, secure).await.unwrap();
    let plain = world.says(ann, group, &site.at("/plain")).await;
    // There is one worker, and it takes them in their order.
    world.shows(ann, &plain, "Page /plain").await;
    assert_eq!(site.visits(), 1);
}
