//! Somebody who uses Parlor.

use std::net::SocketAddr;
use std::time::Duration;

use proto::auth::v1::{SessionGrant, User};
use proto::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::socket::Connection;
use crate::waiting::until;

/// The password of everybody.
pub const PASSWORD: &str = "a horse of some battery";

/// Somebody who uses Parlor through one gateway.
#[derive(Clone, Debug)]
pub struct Person {
    /// The name that others see.
    pub name: String,
    /// The name to sign in with.
    pub username: String,
    /// The user id.
    pub id: String,
    /// The session token.
    pub token: String,
    gateway: SocketAddr,
    client: reqwest::Client,
}

impl Person {
    /// Registers somebody new.
    ///
    /// # Panics
    /// When that fails.
    pub async fn register(gateway: SocketAddr, name: &str) -> Self {
        let client =
            reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("an HTTP client");
        let suffix = EventId::generate().uuid().simple().to_string();
        let username = format!("{}-{}", name.to_lowercase().replace(' ', "-"), &suffix[20..]);
        let body = json!({ "username": username, "password": PASSWORD, "displayName": name });
        let answer =
            http::ask(&client, gateway, None, Method::POST, "/v1/auth/register", Some(&body)).await.ok();
        Self {
            name: name.to_owned(),
            username,
            id: text(&answer["user"]["userId"]),
            token: text(&answer["grant"]["sessionToken"]),
            gateway,
            client,
        }
    }

    /// A person who was signed in by gRPC, at this gateway. Their name is that of their external account.
    ///
    /// # Panics
    /// When the answer lacks the user or the session.
    pub fn signed_in(gateway: SocketAddr, user: Option<User>, grant: Option<SessionGrant>) -> Self {
        let client =
            reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("an HTTP client");
        let (user, grant) = (user.expect("a user"), grant.expect("a session"));
        Self {
            name: user.external_account.map(|external| external.name).unwrap_or_default(),
            username: user.username,
            id: user.user_id,
            token: grant.session_token,
            gateway,
            client,
        }
    }

    /// The same person, at another gateway.
    #[must_use]
    pub fn at(&self, gateway: SocketAddr) -> Self {
        Self { gateway, ..self.clone() }
    }

    /// The same person with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Asks for something.
    pub async fn get(&self, path: &str) -> Answer {
        http::ask(&self.client, self.gateway, Some(&self.token), Method::GET, path, None).await
    }

    /// Does something.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        http::ask(&self.client, self.gateway, Some(&self.token), Method::POST, path, Some(&body)).await
    }

    /// Replaces something.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        http::ask(&self.client, self.gateway, Some(&self.token), Method::PUT, path, Some(&body)).await
    }

    /// Changes something.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        http::ask(&self.client, self.gateway, Some(&self.token), Method::PATCH, path, Some(&body)).await
    }

    /// Removes something.
    pub async fn delete(&self, path: &str) -> Answer {
        http::ask(&self.client, self.gateway, Some(&self.token), Method::DELETE, path, None).await
    }

    /// Does something on a gateway that may be down.
    pub async fn try_post(&self, path: &str, body: Value) -> anyhow::Result<Answer> {
        http::try_ask(&self.client, self.gateway, Some(&self.token), Method::POST, path, Some(&body)).await
    }

    /// Asks for something on a gateway that may be down.
    pub async fn try_get(&self, path: &str) -> anyhow::Result<Answer> {
        http::try_ask(&self.client, self.gateway, Some(&self.token), Method::GET, path, None).await
    }

    /// Removes something on a gateway that may be down.
    pub async fn try_delete(&self, path: &str) -> anyhow::Result<Answer> {
        http::try_ask(&self.client, self.gateway, Some(&self.token), Method::DELETE, path, None).await
    }

    /// Puts bytes where an address says, as they are; gives the status and the answer.
    pub async fn puts_bytes(&self, path: &str, bytes: &[u8]) -> (u16, Value) {
        let request = self.client.put(format!("http://{}{path}", self.gateway)).body(bytes.to_vec());
        let response = request.send().await.expect("an answer of the gateway");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Fetches what is at an address, or a range of it.
    pub async fn fetches(&self, path: &str, range: Option<&str>) -> Fetched {
        let mut request = self.client.get(format!("http://{}{path}", self.gateway));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        fetched(request).await
    }

    /// Fetches bytes that only this person gets.
    pub async fn fetches_signed_in(&self, path: &str) -> Fetched {
        let request = self.client.get(format!("http://{}{path}", self.gateway)).bearer_auth(&self.token);
        fetched(request).await
    }

    /// Starts the direct conversation with somebody; gives its id.
    pub async fn starts_direct_with(&self, other: &Self) -> String {
        let body = json!({ "kind": "CONVERSATION_KIND_DIRECT", "userIds": [other.id] });
        conversation_id(&self.post("/v1/conversations", body).await.ok())
    }

    /// Starts a group with these people; gives its id.
    pub async fn starts_group_with(&self, others: &[&Self]) -> String {
        let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
        let body = json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "a group", "userIds": ids });
        conversation_id(&self.post("/v1/conversations", body).await.ok())
    }

    /// Opens a room; gives its id.
    pub async fn opens_room(&self, title: &str) -> String {
        let body = json!({ "kind": "CONVERSATION_KIND_ROOM", "title": title });
        conversation_id(&self.post("/v1/conversations", body).await.ok())
    }

    /// Sends a text over REST; gives the message.
    pub async fn says(&self, conversation: &str, words: &str) -> Value {
        self.tries_to_say(conversation, words).await.ok()["message"].clone()
    }

    /// Sends a text over REST, which may be refused.
    pub async fn tries_to_say(&self, conversation: &str, words: &str) -> Answer {
        let body =
            json!({ "content": { "text": words }, "clientMessageId": EventId::generate().to_string() });
        self.post(&format!("/v1/conversations/{conversation}/messages"), body).await
    }

    /// Sends a message that says this; gives it.
    pub async fn sends(&self, conversation: &str, content: Value) -> Value {
        self.tries_to_send(conversation, json!({ "content": content })).await.ok()["message"].clone()
    }

    /// Sends a message, which may be refused.
    pub async fn tries_to_send(&self, conversation: &str, request: Value) -> Answer {
        self.post(&format!("/v1/conversations/{conversation}/messages"), request).await
    }

    /// The texts of a conversation's latest messages, oldest first; `None` stands for a tombstone.
    pub async fn reads(&self, conversation: &str) -> Vec<Option<String>> {
        let page = self.get(&format!("/v1/conversations/{conversation}/messages?pageSize=100")).await.ok();
        let texts = |message: &Value| message["content"]["text"].as_str().map(ToOwned::to_owned);
        let mut found: Vec<_> = array(&page["messages"]).iter().map(texts).collect();
        found.reverse();
        found
    }

    /// Signs in once more: the same person on another device.
    pub async fn on_another_device(&self) -> Self {
        let body = json!({ "login": self.username, "password": PASSWORD });
        self.with_token(&text(&self.post("/v1/auth/login", body).await.ok()["grant"]["sessionToken"]))
    }

    /// From now on strangers write to this person after a request only.
    pub async fn takes_strangers_after_a_request(&self) {
        let privacy = json!({ "firstContact": "FIRST_CONTACT_AFTER_REQUEST" });
        self.patch("/v1/me/privacy", json!({ "privacy": privacy, "updateMask": "firstContact" })).await.ok();
    }

    /// Asks somebody to be connected, and the other says yes.
    pub async fn befriends(&self, other: &Self) {
        self.post(&format!("/v1/users/{}/connection", other.id), json!({})).await.ok();
        other.post(&format!("/v1/users/{}/connection/accept", self.id), json!({})).await.ok();
    }

    /// Calls somebody; gives the call.
    pub async fn calls(&self, other: &Self) -> Value {
        self.tries_to_call(other).await.ok()["call"].clone()
    }

    /// Calls somebody, which may be refused.
    pub async fn tries_to_call(&self, other: &Self) -> Answer {
        self.post("/v1/calls", json!({ "userId": other.id, "media": "CALL_MEDIA_AUDIO" })).await
    }

    /// Does something with a call (`accept`, `end`, ...); gives the call.
    pub async fn does_with_call(&self, call: &Value, what: &str) -> Value {
        self.tries_with_call(call, what).await.ok()["call"].clone()
    }

    /// Does something with a call, which may be refused.
    pub async fn tries_with_call(&self, call: &Value, what: &str) -> Answer {
        self.post(&format!("/v1/calls/{}/{what}", text(&call["callId"])), json!({})).await
    }

    /// The alert of a kind and state, once it is there: `("REVIEW", "REVIEW_WRITTEN")`.
    pub async fn is_alerted(&self, kind: &str, state: &str) -> Value {
        let (kind, state) = (format!("ALERT_KIND_{kind}"), format!("ALERT_STATE_{state}"));
        until(&format!("an alert {kind} {state}"), || async {
            let listed = self.get("/v1/alerts?pageSize=100").await.ok();
            let is_it = |alert: &&Value| alert["kind"] == json!(kind) && alert["state"] == json!(state);
            array(&listed["alerts"]).iter().find(is_it).cloned()
        })
        .await
    }

    /// How many alerts are unread.
    pub async fn unread_alerts(&self) -> i64 {
        number(&self.get("/v1/alerts?onlyUnread=true").await.ok()["unreadCount"])
    }

    /// Connects a socket and signs it in.
    pub async fn connects(&self) -> Connection {
        Connection::open(self.gateway, &self.token).await
    }

    /// Connects a socket and follows all own conversations.
    pub async fn comes_online(&self) -> Connection {
        let mut connection = self.connects().await;
        connection.follows_all().await;
        connection.catches_up().await;
        connection
    }
}

async fn fetched(request: reqwest::RequestBuilder) -> Fetched {
    let response = request.send().await.expect("an answer of the gateway");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Fetched { status, headers, bytes: response.bytes().await.expect("the bytes").to_vec() }
}

/// What was at an address.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
    headers: reqwest::header::HeaderMap,
}

impl Fetched {
    /// A header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Where a message is, over REST.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn path_of(message: &Value) -> String {
    let (conversation, id) = (text(&message["conversationId"]), text(&message["messageId"]));
    format!("/v1/conversations/{conversation}/messages/{id}")
}

fn conversation_id(answer: &Value) -> String {
    text(&answer["conversation"]["conversationId"])
}

/// A JSON text.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

/// A JSON list; absent means empty.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A 64-bit number, which proto JSON writes as a text; absent means 0.
pub fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}
