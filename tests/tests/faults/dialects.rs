//! Messages of the allo API that wait for their time, scheduled and ephemeral ones, while processes are killed.

use std::time::{Duration, Instant};

use proto::id::{EventId, MessageId};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tests::http;
use tests::person::{array, text};
use tests::socketio::SocketIo;
use tests::waiting::{PATIENCE, from_now, until};
use tests::{Person, Shape, node};
use tokio::time::timeout;

use crate::fragile::{Fragile, is_definite, lists, messages, sees, time};
use crate::schedules::{LEASE, since_1970};
use crate::{assert_no_panics, pass};

/// The lead in which the processes are killed, at first.
const DOWN: Duration = Duration::from_secs(4);

/// The lead in which the processes are killed and up again, at first.
const UP_AGAIN: Duration = Duration::from_secs(8);

/// A conversation of two names of the allo API. Ann writes over HTTP, and bob listens on a socket.
struct Scene {
    ann: Person,
    bob: Person,
    conversation: String,
    sockets: SocketIo,
}

/// Two messages of ann that wait for their time.
struct Pending {
    /// The text of the scheduled message.
    later: String,
    /// The answer to the scheduled message.
    scheduled: Value,
    /// The text of the ephemeral message.
    secret: String,
    /// The answer to the ephemeral message.
    ephemeral: Value,
}

impl Scene {
    /// A conversation with two messages that wait. A lead that is too short on this machine at the moment is doubled.
    async fn with_pending(fragile: &Fragile, lead: &mut Duration) -> (Self, Pending) {
        loop {
            let mut scene = Self::start(fragile).await;
            if let Some(pending) = scene.leaves_pending(fragile, *lead).await {
                return (scene, pending);
            }
            *lead *= 2;
        }
    }

    async fn start(fragile: &Fragile) -> Self {
        let (ann, bob) =
            (fragile.world.external("allo", "ann").await, fragile.world.external("allo", "bob").await);
        let body = json!({ "participants": [ann.name, bob.name], "type": "group", "topic": "Roses" });
        let conversation = text(&does(fragile, "createConversation", body).await["_id"]);
        let mut sockets = SocketIo::start(fragile.world.gateway());
        sockets.is_connected("bob").await;
        let mut scene = Self { ann, bob, conversation, sockets };
        scene.joins().await;
        scene
    }

    /// Bob joins the conversation, as often as it takes.
    async fn joins(&mut self) {
        let start = Instant::now();
        loop {
            let body = json!({ "userID": self.bob.name, "conversationID": self.conversation });
            let answer = self.sockets.asks("bob", "joinConversation", body).await;
            if answer["joined"] == json!(true) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "bob cannot join: {answer}");
            pass(Duration::from_millis(50)).await;
        }
    }

    /// The library connects by itself, and bob joins again.
    async fn comes_back(&mut self) {
        self.sockets.hears("bob", "disconnect").await;
        self.sockets.hears("bob", "connect").await;
        self.joins().await;
    }

    async fn says(&self, fragile: &Fragile, words: &str) {
        let body = json!({ "userID": self.ann.name, "conversationID": self.conversation, "message": words });
        does(fragile, "sendMessage", body).await;
    }

    /// Ann schedules a message and sends an ephemeral one, which bob hears. The time of both comes after this lead; gives
    /// nothing when it has come already.
    async fn leaves_pending(&mut self, fragile: &Fragile, lead: Duration) -> Option<Pending> {
        let word = |what: &str| format!("{what}{}", EventId::generate().uuid().simple());
        let (later, secret) = (word("later"), word("secret"));
        let with = |words: &str, field: &str, value: Value| {
            json!({
                "userID": self.ann.name, "conversationID": self.conversation, "message": words, field: value,
            })
        };
        let at = json!(from_now(lead));
        let scheduled = does(fragile, "scheduleMessage", with(&later, "scheduledTime", at)).await;
        let life = json!(lead.as_millis() as u64);
        let ephemeral = does(fragile, "sendEphemeralMessage", with(&secret, "expiresIn", life)).await;
        let heard = timeout(lead, self.sockets.hears("bob", "message")).await.ok()?;
        let stored = is_stored(fragile, &ephemeral["_id"]).await;
        if since_1970() >= time(&scheduled["scheduledAt"]) {
            return None;
        }
        assert_eq!((&heard["_id"], &heard["message"]), (&ephemeral["_id"], &json!(secret)));
        assert!(stored, "{ephemeral}");
        Some(Pending { later, scheduled, secret, ephemeral })
    }

    /// Bob hears the scheduled message, and that the ephemeral one is gone.
    async fn hears_of(&mut self, pending: &Pending) {
        let message = self.sockets.hears("bob", "message").await;
        assert_eq!(message["message"], json!(pending.later));
        assert_eq!(message["scheduledAt"], pending.scheduled["scheduledAt"]);
        assert_eq!(message["userID"], json!(self.ann.name));
        let gone = self.sockets.hears("bob", "messageDeleted").await;
        assert_eq!(gone["messageId"], pending.ephemeral["_id"]);
    }

    /// Bob hears what ann says now, and has heard nothing else.
    async fn hears_nothing_more(&mut self, fragile: &Fragile) {
        self.says(fragile, "and now?").await;
        self.sockets.hears_when("bob", "message", |message| message["message"] == "and now?").await;
        let heard = self.sockets.has_heard("bob").await;
        let again = ["message", "messageDeleted", "disconnect"];
        assert!(!heard.iter().any(|event| again.contains(&event.as_str())), "{heard:?}");
    }

    /// The scheduled message is there once and not before its time; the ephemeral one is erased and told to be gone once.
    async fn is_settled(&self, fragile: &Fragile, pending: &Pending) {
        let path = format!("/v1/scheduled-messages/{}", text(&pending.scheduled["id"]));
        let sent = until("the scheduled message to be sent", || async {
            let now = sees(&self.ann, &path).await["scheduledMessage"].clone();
            (now["state"] == json!("SCHEDULED_MESSAGE_STATE_SENT")).then_some(now)
        })
        .await;
        let ephemeral = &pending.ephemeral["_id"];
        until("the ephemeral message to be erased", || async {
            (!is_stored(fragile, ephemeral).await).then_some(())
        })
        .await;
        // A second message of the same would be seen soon after the first.
        pass(Duration::from_secs(2)).await;

        for person in [&self.ann, &self.bob] {
            let shown = messages(person, &self.conversation).await;
            let later: Vec<_> = shown.iter().filter(|one| one["content"]["text"] == pending.later).collect();
            assert_eq!(later.len(), 1, "{shown:?}");
            assert_eq!(later[0]["messageId"], sent["messageId"]);
            assert!(time(&later[0]["createTime"]) >= time(&pending.scheduled["scheduledAt"]), "{later:?}");
            let secret: Vec<_> = shown.iter().filter(|one| one["messageId"] == *ephemeral).collect();
            assert_eq!(secret.len(), 1, "{shown:?}");
            assert_eq!(secret[0]["deleteReason"], json!("DELETION_REASON_EXPIRED"));

            let path = format!("/v1/conversations/{}/events?limit=100", self.conversation);
            let log = sees(person, &path).await;
            let of = |kind: &'static str| {
                array(&log["events"]).iter().filter(move |event| event.get(kind).is_some())
            };
            let is_later =
                |event: &&Value| event["messageCreated"]["content"]["text"] == json!(pending.later);
            assert_eq!(of("messageCreated").filter(is_later).count(), 1, "{log}");
            let deleted: Vec<_> = of("messageDeleted").collect();
            assert_eq!(deleted.len(), 1, "{log}");
            assert_eq!(deleted[0]["messageDeleted"]["messageId"], *ephemeral);
            assert!(
                time(&deleted[0]["occurTime"]) >= time(&pending.ephemeral["ephemeralExpiresAt"]),
                "{log}"
            );
            self.is_unreadable(fragile, person, &pending.secret).await;
        }
    }

    /// No history shows the text, and no search finds it.
    async fn is_unreadable(&self, fragile: &Fragile, person: &Person, secret: &str) {
        for path in [
            format!("/v1/conversations/{}/messages", self.conversation),
            format!("/v1/conversations/{}/events", self.conversation),
            "/v1/inbox".to_owned(),
        ] {
            let shown = sees(person, &path).await;
            assert!(!shown.to_string().contains(secret), "{path} shows it: {shown}");
        }
        let found = lists(person, &format!("/v1/search/messages?query={secret}"), "messages").await;
        assert!(found.is_empty(), "{found:?}");
        let path = format!("/chats/messages?chatId={}", self.conversation);
        let headers = [("token", person.token.as_str())];
        let chats = until("the history of the chats API", || async {
            let answer = http::ask_foreign(fragile.world.gateway(), Method::GET, &path, &headers, None).await;
            is_definite(&answer).then_some(answer)
        })
        .await
        .ok();
        assert!(!chats.to_string().contains(secret), "{path} shows it: {chats}");
    }
}

/// Carries out an operation of the allo API over HTTP.
async fn does(fragile: &Fragile, operation: &str, body: Value) -> Value {
    let path = format!("/api/chat/{operation}");
    http::ask_foreign(fragile.world.gateway(), Method::POST, &path, &[], Some(&body)).await.ok()
}

/// True when the database holds the content of a message, once the database answers.
async fn is_stored(fragile: &Fragile, message: &Value) -> bool {
    let id = MessageId::parse(&text(message)).expect("the id of a message").uuid();
    let address = match &fragile.database {
        Some(address) => address.clone(),
        None => format!("sqlite://{}", fragile.world.folder().join("data/messaging.db").display()),
    };
    until("an answer of the database", || async {
        match fragile.world.shape {
            Shape::Embedded => {
                let mut connection = SqliteConnection::connect(&address).await.ok()?;
                let query = "SELECT content IS NOT NULL FROM messages WHERE message_id = $1";
                let stored = sqlx::query_scalar(query).bind(id).fetch_one(&mut connection).await;
                connection.close().await.and(stored).ok()
            }
            Shape::Separate => {
                let mut connection = PgConnection::connect(&address).await.ok()?;
                let query = "SELECT content IS NOT NULL FROM parlor_messaging.messages WHERE message_id = $1";
                let stored = sqlx::query_scalar(query).bind(id).fetch_one(&mut connection).await;
                connection.close().await.and(stored).ok()
            }
        }
    })
    .await
}

/// Those of these services that are a process of their own: in the embedded shape all are one.
fn processes(shape: Shape, services: &'static [&'static str]) -> &'static [&'static str] {
    match shape {
        Shape::Embedded => &services[..1],
        Shape::Separate => services,
    }
}

pub async fn messages_of_allo_that_wait_outlive_their_services(shape: Shape) {
    if !node::has_clients() {
        return;
    }
    let mut fragile = Fragile::start(shape, &[LEASE]).await;
    let mut lead = UP_AGAIN;
    let (mut scene, pending) = loop {
        let (mut scene, pending) = Scene::with_pending(&fragile, &mut lead).await;
        let victims = processes(shape, &["messaging", "scheduling", "gateway"]);
        for victim in victims {
            fragile.kill(victim);
        }
        for victim in victims {
            fragile.start_again(victim).await;
        }
        scene.comes_back().await;
        let shown = messages(&scene.bob, &scene.conversation).await;
        if since_1970() < time(&pending.scheduled["scheduledAt"]) {
            assert_eq!(shown.len(), 1, "{shown:?}");
            assert_eq!(shown[0]["content"]["text"], json!(pending.secret));
            break (scene, pending);
        }
        // This machine is slow at the moment.
        lead *= 2;
    };
    scene.hears_of(&pending).await;
    scene.is_settled(&fragile, &pending).await;
    scene.hears_nothing_more(&fragile).await;
    assert_no_panics(&fragile.world);
}

pub async fn messages_of_allo_that_are_due_meanwhile_end_as_they_should(shape: Shape) {
    if !node::has_clients() {
        return;
    }
    let mut fragile = Fragile::start(shape, &[LEASE]).await;
    let (mut scene, pending) = Scene::with_pending(&fragile, &mut { DOWN }).await;
    // The gateway of the separate shape stays, with the socket. Scheduling is back before messaging, which it needs.
    let victims = processes(shape, &["scheduling", "messaging"]);
    for victim in victims {
        fragile.kill(victim);
    }
    let last = time(&pending.ephemeral["ephemeralExpiresAt"]).max(time(&pending.scheduled["scheduledAt"]));
    pass(last.saturating_sub(since_1970()) + Duration::from_millis(500)).await;
    for victim in victims {
        fragile.start_again(victim).await;
    }
    scene.is_unreadable(&fragile, &scene.bob, &pending.secret).await;
    match shape {
        // What comes before bob joins again is not told to him: this API has no history.
        Shape::Embedded => {
            scene.comes_back().await;
            scene.is_settled(&fragile, &pending).await;
            let heard = scene.sockets.has_heard("bob").await;
            for told in ["message", "messageDeleted"] {
                assert!(heard.iter().filter(|event| *event == told).count() <= 1, "{heard:?}");
            }
            scene.sockets.forgets("bob");
        }
        Shape::Separate => {
            scene.hears_of(&pending).await;
            scene.is_settled(&fragile, &pending).await;
        }
    }
    scene.hears_nothing_more(&fragile).await;
    assert_no_panics(&fragile.world);
}
