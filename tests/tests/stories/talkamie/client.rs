//! A client of the Talkamie API.

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::person::{PASSWORD, text};
use tests::{Person, World};

/// A user who is signed in to the Talkamie API.
#[derive(Clone, Debug)]
pub struct Client {
    /// The user id.
    pub id: String,
    /// The e-mail address to sign in with.
    pub email: String,
    /// The session token.
    pub token: String,
    pub gateway: SocketAddr,
    pub client: reqwest::Client,
}

impl Client {
    /// A client without an account, with an e-mail address that no other has.
    pub fn signed_out(world: &World) -> Self {
        let client =
            reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("an HTTP client");
        let email = format!("{}@talkamie.example", EventId::generate());
        Self { id: String::new(), email, token: String::new(), gateway: world.gateway(), client }
    }

    /// The form by which this client signs up.
    pub fn form(&self, name: &str, kind: &str) -> Value {
        json!({"email": self.email, "password": PASSWORD, "name": name, "type": kind})
    }

    /// The client with the user and the token of an answer that signs in.
    #[must_use]
    pub fn signed_in(mut self, data: &Value) -> Self {
        self.id = text(&data["user"]["id"]);
        self.token = text(&data["tokens"]["access"]);
        self
    }

    /// Signs a new user up.
    pub async fn sign_up(world: &World, name: &str, kind: &str) -> Self {
        let user = Self::signed_out(world);
        let signed_up = user.post("/auth/sign-up", user.form(name, kind)).await.ok();
        user.signed_in(&signed_up["data"])
    }

    /// Signs a new user up whose address was verified with a code before, which the answer has in development.
    pub async fn sign_up_verified(world: &World, name: &str, kind: &str) -> Self {
        let user = Self::signed_out(world);
        let code = text(&data(user.post("/otp", json!({"email": user.email})).await)["otp"]);
        data(user.post("/otp/verify", json!({"email": user.email, "code": code})).await);
        let signed_up = user.post("/auth/sign-up", user.form(name, kind)).await.ok();
        user.signed_in(&signed_up["data"])
    }

    /// A new user who was registered over the canonical API, also where signing up takes a verified address, and who begins
    /// as those do who sign up.
    pub async fn registered(world: &World, name: &str) -> Self {
        let user = Self::signed_out(world);
        let person = world.person(name).await;
        let email = json!({"user": {"email": user.email}, "updateMask": "email", "password": PASSWORD});
        person.patch("/v1/me", email).await.ok();
        let privacy = json!({"firstContact": "FIRST_CONTACT_AFTER_REQUEST"});
        let gate = json!({"privacy": privacy, "updateMask": "firstContact"});
        person.patch("/v1/me/privacy", gate).await.ok();
        let form = json!({"email": user.email, "password": PASSWORD});
        let signed_in = data(user.post("/auth/sign-in", form).await);
        user.signed_in(&signed_in)
    }

    /// Two users: a senior and a volunteer.
    pub async fn pair(world: &World) -> (Self, Self) {
        (
            Self::sign_up(world, "Ann Archer", "senior").await,
            Self::sign_up(world, "Bob Baker", "volunteer").await,
        )
    }

    /// Asks with a method for a path below the base.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let path = format!("/talkamie/v1{path}");
        let token = (!self.token.is_empty()).then_some(self.token.as_str());
        http::ask(&self.client, self.gateway, token, method, &path, body.as_ref()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None).await
    }

    /// The user as one of the canonical API, with the same token.
    pub async fn as_person(&self, world: &World) -> Person {
        let mut person = world.person("other").await.with_token(&self.token);
        person.id.clone_from(&self.id);
        person
    }

    /// The path of another user.
    pub fn path(&self, rest: &str) -> String {
        format!("/user/{}{rest}", self.id)
    }

    /// Asks the other to be connected, and the other accepts; gives the chat of the two.
    pub async fn befriends(&self, other: &Self) -> String {
        data(self.post(&other.path("/connection"), json!({})).await);
        let accepted = data(other.post(&self.path("/connection/accept"), json!({})).await);
        text(&accepted["chat"]["id"])
    }
}

/// The data of an answer that is well.
#[track_caller]
pub fn data(answer: Answer) -> Value {
    let body = answer.ok();
    assert_eq!((&body["success"], &body["statusCode"]), (&json!(true), &json!(200)), "{body}");
    body["data"].clone()
}

/// The sentence of an answer that refuses with this status, whose envelope is as it should be.
#[track_caller]
pub fn refused(answer: Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.body);
    let body = &answer.body;
    assert_eq!((&body["success"], &body["statusCode"]), (&json!(false), &json!(status)), "{body}");
    assert_eq!(body["error"], body["message"], "{body}");
    text(&body["message"])
}
