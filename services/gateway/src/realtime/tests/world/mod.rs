//! A world for the tests: a real gateway at a free port, and the services behind it in a few lines each.

mod backend;
mod client;
mod services;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::events::Events;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::tasks::Tasks;
use chassis::unit::Unit;
use proto::id::{ConversationId, SessionId, UserId};
use serde_json::{Value, json};

use self::backend::Facts;
use crate::realtime::Realtime;
use crate::upstream::Upstream;
use crate::{Clients, Config, Deps, SocketsConfig};

pub(crate) use self::backend::Backend;
pub(crate) use self::client::Client;

/// The longest time for which a test waits for an event that must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The time for which it waits for an event that must not come.
pub(crate) const A_WHILE: Duration = Duration::from_millis(400);

/// A user with an account.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) session: SessionId,
    pub(crate) token: String,
}

/// A gateway, and what is behind it.
pub(crate) struct World {
    pub(crate) backend: Backend,
    pub(crate) unit: Unit,
    pub(crate) address: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SocketsConfig)) -> Self {
        Self::configured(|config| change(&mut config.sockets)).await
    }

    async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let facts = Facts { epoch: "epoch-1".to_owned(), ..Facts::default() };
        let backend = Backend { facts: Arc::new(Mutex::new(facts)), events: Events::local() };
        let transport = backend.transport();
        let credential = credential();
        let mut config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        config.sockets.drain_spread = Duration::from_secs(1);
        change(&mut config);
        let deps = Deps {
            auth: transport.clone(),
            conversation: transport.clone(),
            messaging: transport.clone(),
            scheduling: transport.clone(),
            verifier: Verifier::new(transport, Some(credential.clone())),
            credential,
            events: backend.events.clone(),
            clock: Clock::system(),
        };
        let reserved = crate::reserve(config, Profile::Development).expect("ports");
        let unit = crate::start(reserved, deps).await.expect("a gateway");
        let address = unit.listening.first().expect("an address").1;
        Self { backend, unit, address }
    }

    /// Live connections on the same services, without a server in front.
    pub(crate) fn realtime(&self, change: impl FnOnce(&mut SocketsConfig)) -> (Realtime, Tasks) {
        let mut config = Config::default().under(Profile::Development).expect("a config");
        change(&mut config.sockets);
        let [auth, conversation, messaging, scheduling] = [(); 4].map(|()| self.backend.transport());
        let verifier = Verifier::new(auth.clone(), Some(credential()));
        let clients = Clients::new(auth, conversation, messaging, scheduling, credential());
        let upstream = Upstream::new(&config, clients, verifier);
        let events = self.backend.events.clone();
        let (realtime, tasks) =
            (Realtime::new(Arc::new(config), upstream, events, Clock::system()), Tasks::default());
        realtime.start(&tasks);
        (realtime, tasks)
    }

    pub(crate) fn person(&self) -> Person {
        let (id, session) = (UserId::generate(), SessionId::generate());
        let person = Person { id, session, token: format!("token-{session}") };
        self.backend.facts().sessions.insert(person.token.clone(), (id, session));
        person
    }

    /// The same person on another device.
    pub(crate) fn another_device(&self, of: &Person) -> Person {
        let session = SessionId::generate();
        let person = Person { id: of.id, session, token: format!("token-{session}") };
        self.backend.facts().sessions.insert(person.token.clone(), (person.id, session));
        person
    }

    /// Opens a socket without a word.
    pub(crate) async fn socket(&self) -> Client {
        let url = format!("ws://{}/v1/socket", self.address);
        Client::open(&url, None).await.expect("a socket")
    }

    /// Opens a socket and signs in.
    pub(crate) async fn connect(&self, person: &Person) -> Client {
        let mut client = self.socket().await;
        client.say(json!({"id": "hello", "hello": {"sessionToken": person.token}})).await;
        let ready = client.answer("hello").await;
        assert_eq!(ready["ready"]["userId"], person.id.to_string());
        client
    }

    /// Opens a socket, signs in, and follows a conversation from a sequence on.
    pub(crate) async fn follow(
        &self,
        person: &Person,
        conversation: ConversationId,
        sequence: i64,
    ) -> Client {
        let mut client = self.connect(person).await;
        let heads = json!([{"conversationId": conversation.to_string(), "sequence": sequence}]);
        client.subscribe(json!({"heads": heads, "epoch": "epoch-1"})).await;
        client
    }
}

fn credential() -> ServiceCredential {
    ServiceCredential::new("gateway", &Secret::new("secret")).expect("a credential")
}

/// The sequence of a frame that is an event.
pub(crate) fn sequence(frame: &Value) -> Option<i64> {
    frame["event"]["sequence"].as_str().and_then(|sequence| sequence.parse().ok())
}

pub(crate) fn sequences(frames: &[Value]) -> Vec<i64> {
    frames.iter().filter_map(sequence).collect()
}
