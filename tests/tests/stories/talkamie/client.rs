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
    /// Signs a new user up.
    pub async fn sign_up(world: &World, name: &str, kind: &str) -> Self {
        let client =
            reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("an HTTP client");
        let email = format!("{}@talkamie.example", EventId::generate());
        let mut user =
            Self { id: String::new(), email, token: String::new(), gateway: world.gateway(), client };
        let form = json!({"email": user.email, "password": PASSWORD, "name": name, "type": kind});
        let signed_up = user.post("/auth/sign-up", form).await.ok()["data"].clone();
        user.id = text(&signed_up["user"]["id"]);
        user.token = text(&signed_up["tokens"]["access"]);
        user
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
