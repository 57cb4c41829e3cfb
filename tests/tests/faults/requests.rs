//! Requests of people who ask, answer and take back at the same moment while conversation dies: the two see one state, and
//! their alerts say the same.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::figure::{Figures, Target};
use tests::person::{array, text};
use tests::waiting::until;
use tests::{Person, Shape};

use crate::fragile::{Fragile, alerts_about, insists, messages, sees};
use crate::{assert_no_panics, is_long, pass};

/// From one pair to the next.
const PACE: Duration = Duration::from_millis(60);

/// What two people are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matter {
    /// Both ask to be connected.
    BothAsk,
    /// One has asked to be connected: it takes that back, and the other says yes.
    Connection,
    /// The same with a message that is a request.
    Message,
}

impl Matter {
    const ALL: [Self; 3] = [Self::BothAsk, Self::Connection, Self::Message];

    /// What the request is called in a path, and in the contact of the two.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::BothAsk | Self::Connection => ("connection", "connectionRequest"),
            Self::Message => ("message-request", "messageRequest"),
        }
    }
}

struct Pair {
    matter: Matter,
    ann: Person,
    bob: Person,
    /// The request that waits, unless both ask.
    request: Option<String>,
    /// Where its message is.
    conversation: Option<String>,
}

impl Pair {
    async fn prepare(fragile: &Fragile, matter: Matter) -> Self {
        let [ann, bob] = fragile.world.people(["ann", "bob"]).await;
        let (mut request, mut conversation) = (None, None);
        match matter {
            Matter::BothAsk => {}
            Matter::Connection => {
                let asked = ann.post(&format!("/v1/users/{}/connection", bob.id), json!({})).await.ok();
                request = Some(text(&asked["request"]["requestId"]));
            }
            Matter::Message => {
                bob.takes_strangers_after_a_request().await;
                let body = json!({ "userId": bob.id, "content": { "text": "may I?" } });
                let sent = ann.post("/v1/messages", body).await.ok();
                conversation = Some(text(&sent["message"]["conversationId"]));
                request = Some(text(&contact(&ann, &bob).await["messageRequest"]["requestId"]));
            }
        }
        Self { matter, ann, bob, request, conversation }
    }

    /// Both do what they are at, until it is settled; says whether it was accepted.
    async fn meet(&self, delay: Duration) -> bool {
        pass(delay).await;
        let (name, _) = self.matter.names();
        let [to_bob, to_ann] = [&self.bob, &self.ann].map(|one| format!("/v1/users/{}/{name}", one.id));
        if self.matter == Matter::BothAsk {
            let ask = async |one: &Person, path: &str| {
                let body = json!({ "requestId": proto::id::EventId::generate().to_string() });
                insists("a request", || one.try_post(path, body.clone())).await.ok();
            };
            tokio::join!(ask(&self.ann, &to_bob), ask(&self.bob, &to_ann));
            return true;
        }
        let (cancel, accept) = (format!("{to_bob}/cancel"), format!("{to_ann}/accept"));
        let (cancelled, accepted) = tokio::join!(
            insists("to take it back", || self.ann.try_post(&cancel, json!({}))),
            insists("to accept it", || self.bob.try_post(&accept, json!({}))),
        );
        let statuses = [cancelled.status, accepted.status];
        assert!([[200, 409], [409, 200]].contains(&statuses), "{cancelled:?} {accepted:?}");
        accepted.status == 200
    }

    /// The two see the same, which is what they were told.
    async fn assert_agreed(&self, accepted: bool) {
        let (_, name) = self.matter.names();
        let (of_ann, of_bob) = (contact(&self.ann, &self.bob).await, contact(&self.bob, &self.ann).await);
        for field in ["connected", "connectTime", name] {
            assert_eq!(of_ann[field], of_bob[field], "{:?} {field}", self.matter);
        }
        let is_connected = of_ann["connected"] == json!(true);
        assert_eq!(is_connected, accepted && self.matter != Matter::Message, "{of_ann}");
        for (one, other) in [(&self.ann, &self.bob), (&self.bob, &self.ann)] {
            let listed = sees(one, "/v1/connections").await;
            let listed = array(&listed["connections"]).iter().any(|it| it["userId"] == json!(other.id));
            assert_eq!(listed, is_connected, "{:?}", self.matter);
            for list in ["/v1/connections/pending", "/v1/message-requests?state=REQUEST_STATE_PENDING"] {
                let pending = sees(one, list).await;
                assert!(array(&pending["requests"]).is_empty(), "{:?} {pending}", self.matter);
            }
        }
        let state = if accepted { "ACCEPTED" } else { "CANCELLED" };
        let shown = &of_ann[name];
        // One that was taken back and was to connect them is nothing between them any more.
        if accepted || self.matter == Matter::Message {
            assert_eq!(shown["state"], json!(format!("REQUEST_STATE_{state}")), "{of_ann}");
        } else {
            assert!(shown.is_null(), "{of_ann}");
        }
        let request = self.request.clone().unwrap_or_else(|| text(&shown["requestId"]));
        let (from, to) = if shown["fromUserId"] == json!(self.bob.id) {
            (&self.bob, &self.ann)
        } else {
            (&self.ann, &self.bob)
        };
        self.assert_alerted(&request, [from, to], state).await;
        if let Some(conversation) = &self.conversation {
            self.assert_open(conversation, accepted).await;
        }
    }

    /// Facts take a moment.
    async fn assert_alerted(&self, request: &str, [from, to]: [&Person; 2], state: &str) {
        let wanted = json!(format!("ALERT_STATE_{state}").replace("STATE_", "STATE_REQUEST_"));
        let what = format!("{:?}: the one who was asked to have an alert {wanted}", self.matter);
        until(&what, || async {
            let alerts = alerts_about(to, request).await;
            let is_right = alerts.len() == 1 && alerts[0]["state"] == wanted;
            (is_right && alerts[0]["readTime"].is_string()).then_some(())
        })
        .await;
        // Told in the same transaction.
        let of_asker = alerts_about(from, request).await;
        let states: Vec<&Value> = of_asker.iter().map(|alert| &alert["state"]).collect();
        let expected = if state == "ACCEPTED" { vec![&wanted] } else { vec![] };
        assert_eq!(states, expected, "{:?} {request}", self.matter);
    }

    /// Whether the conversation is open, and the message there, goes with the request.
    async fn assert_open(&self, conversation: &str, accepted: bool) {
        until("the message to be as the request is", || async {
            let messages = messages(&self.bob, conversation).await;
            (messages.len() == 1 && messages[0]["content"].is_object() == accepted).then_some(())
        })
        .await;
        if accepted {
            self.bob.says(conversation, "welcome").await;
            self.ann.says(conversation, "thank you").await;
            self.ann.says(conversation, "how are you?").await;
        }
    }
}

async fn contact(person: &Person, other: &Person) -> Value {
    sees(person, &format!("/v1/users/{}/contact", other.id)).await["contact"].clone()
}

pub async fn a_request_is_one_for_both(shape: Shape) {
    let mut figures = Figures::of(&format!("a_request_is_one_for_both_{}", shape.name()));
    let mut fragile = Fragile::start(shape, &[]).await;
    let mut pairs = Vec::new();
    for number in 0..if is_long() { 150 } else { 36 } {
        pairs.push(Pair::prepare(&fragile, Matter::ALL[number % Matter::ALL.len()]).await);
    }
    let meeting = join_all(pairs.iter().enumerate().map(|(number, pair)| pair.meet(PACE * number as u32)));
    let span = PACE * pairs.len() as u32;
    let killing = async {
        for _ in 0..3 {
            pass(span / 6).await;
            fragile.kill("conversation");
            pass(span / 12).await;
            fragile.start_again("conversation").await;
        }
    };
    let (accepted, ()) = tokio::join!(meeting, killing);
    for (pair, accepted) in pairs.iter().zip(&accepted) {
        pair.assert_agreed(*accepted).await;
    }
    let count = |is: bool| accepted.iter().filter(|accepted| **accepted == is).count() as f64;
    figures.print("accepted", count(true), "requests", Target::AtLeast(1.0));
    figures.print("cancelled", count(false), "requests", Target::Informs);
    assert_no_panics(&fragile.world);
    figures.conclude();
}
