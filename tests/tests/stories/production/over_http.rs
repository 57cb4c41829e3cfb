//! The dialects over HTTP.

use std::sync::Arc;

use proto::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::mail::{self, MailServer};
use tests::person::{PASSWORD, array, text};
use tests::{Person, World};

use super::{starts, stops};
use crate::talkamie::client::{Client, data, refused};

tests::stories![every_dialect_takes_a_token_over_http];

async fn every_dialect_takes_a_token_over_http(world: Arc<World>) {
    let mail = mail::server();
    let settings = mail.iter().flat_map(MailServer::settings).collect::<Vec<_>>();
    let world = starts(world.shape, &settings).await;
    let people = world.people(["ann", "bob"]).await;
    chats(&world, &people).await;
    messenger(&world, &people).await;
    allo(&world, &people).await;
    playground(&world, &people).await;
    talkamie(&world).await;
    talkamie_takes_a_verified_address(&world, mail.as_ref()).await;
    stops(world).await;
}

/// One operation: its method, its path, and a body that would do.
type Operation = (Method, String, Value);

async fn ask(world: &World, token: Option<&str>, (method, path, body): Operation) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    http::ask_foreign(world.gateway(), method, &path, &headers, Some(&body)).await
}

/// Asserts that an operation is refused without a token: with none, with texts that stand for none, with tokens that do not
/// exist, and with a good one in the query.
async fn takes_token(world: &World, good: &str, operation: Operation, is_refusal: fn(&Value) -> bool) {
    let (method, path, body) = operation;
    let separator = if path.contains('?') { '&' } else { '?' };
    let with_query = format!("{path}{separator}token={good}");
    let tokens = [None, Some("undefined"), Some("valid-token"), Some("wrong")];
    let without = tokens.map(|token| (token, &path)).into_iter().chain([(None, &with_query)]);
    for (token, path) in without {
        let answer = ask(world, token, (method.clone(), path.clone(), body.clone())).await;
        assert_eq!(answer.status, 401, "{method} {path} {token:?}: {}", answer.body);
        assert!(is_refusal(&answer.body), "{method} {path} {token:?}: {}", answer.body);
    }
}

async fn chats(world: &World, [ann, bob]: &[Person; 2]) {
    let chat = ann.starts_direct_with(bob).await;
    let message = json!({ "chatId": chat, "message": { "type": "text", "content": "from a chat" } });
    for operation in [
        (Method::POST, "/chats/messages".to_owned(), message.clone()),
        (Method::GET, format!("/chats/messages?chatId={chat}"), json!({})),
        (Method::POST, "/chats/groups".to_owned(), json!({ "users": [bob.id] })),
        (Method::GET, format!("/chats/groups/{chat}"), json!({})),
        (Method::GET, "/chats".to_owned(), json!({})),
    ] {
        takes_token(world, &ann.token, operation, |body| body["code"] == 401).await;
    }
    let as_client = async |method: Method, path: &str, body: Value| {
        let headers = [("token", ann.token.as_str())];
        http::ask_foreign(world.gateway(), method, path, &headers, Some(&body)).await.ok()
    };
    let sent = as_client(Method::POST, "/chats/messages", message).await;
    let list = as_client(Method::GET, "/chats/messages", json!({ "chatId": chat })).await;
    assert_eq!(list["messages"][0]["id"], sent["id"]);
}

async fn messenger(world: &World, [ann, bob]: &[Person; 2]) {
    let conversation = ann.starts_direct_with(bob).await;
    let messages = |account: &str| format!("/api/account/{account}/conversation/{conversation}/messages");
    let mut operations = vec![(Method::GET, "/api/accounts".to_owned(), json!({}))];
    for account in ["1", &ann.id] {
        operations.extend([
            (Method::GET, format!("/api/account/{account}"), json!({})),
            (Method::GET, format!("/api/account/{account}/conversations"), json!({})),
            (Method::GET, format!("/api/{account}/conversation"), json!({})),
            (Method::POST, format!("/api/account/{account}/conversations?with={}", bob.id), json!({})),
            (Method::GET, format!("/api/account/{account}/conversation/{conversation}"), json!({})),
            (Method::GET, messages(account), json!({})),
            (Method::POST, messages(account), json!({ "text": "hi" })),
        ]);
    }
    for operation in operations {
        takes_token(world, &ann.token, operation, |body| body["error"].is_string()).await;
    }

    let token = Some(ann.token.as_str());
    let sent = ask(world, token, (Method::POST, messages(&ann.id), json!({ "text": "from the messenger" })));
    let sent = sent.await;
    assert_eq!(sent.status, 201, "{}", sent.body);
    let page = ask(world, token, (Method::GET, messages(&ann.id), json!({}))).await.ok();
    assert_eq!(page["rows"][0], sent.body);

    // The accounts that come with the API in development are not there.
    let accounts = ask(world, token, (Method::GET, "/api/accounts".to_owned(), json!({}))).await.ok();
    let ids: Vec<_> = array(&accounts["accounts"]).iter().map(|account| text(&account["id"])).collect();
    assert!(ids.contains(&ann.id) && ids.contains(&bob.id), "{accounts}");
    for account in ["1", "2", "3", "4"] {
        assert!(!ids.iter().any(|id| id == account), "{accounts}");
        let shown = ask(world, token, (Method::GET, format!("/api/account/{account}"), json!({}))).await;
        assert_eq!(shown.status, 403, "{}", shown.body);
        let with = format!("/api/account/{}/conversations?with={account}", ann.id);
        let made = ask(world, token, (Method::POST, with, json!({}))).await;
        assert_eq!(made.status, 404, "{}", made.body);
    }
}

/// The operations of the allo API.
pub(super) const ALLO: [&str; 18] = [
    "joinConversation",
    "createConversation",
    "sendMessage",
    "sendSecureMessage",
    "reportMessage",
    "editMessage",
    "deleteMessage",
    "forwardMessage",
    "messageRead",
    "pinMessage",
    "reactionMessage",
    "scheduleMessage",
    "unsendMessage",
    "sendEphemeralMessage",
    "sendVoiceMessage",
    "sendSticker",
    "createPoll",
    "votePoll",
];

async fn allo(world: &World, [ann, bob]: &[Person; 2]) {
    let conversation = ann.starts_direct_with(bob).await;
    let of = |operation: &str, body: Value| (Method::POST, format!("/api/chat/{operation}"), body);
    for operation in ALLO {
        // A name, the user of the token, and what is no name at all.
        for user in [json!("somebody"), json!(ann.id), json!([])] {
            let body = json!({ "userID": user, "conversationID": conversation, "message": "x" });
            takes_token(world, &ann.token, of(operation, body), |body| {
                body["error"] == "UNAUTHENTICATED" && body["message"].is_string()
            })
            .await;
        }
    }
    let body = json!({ "participants": [ann.id, bob.id], "type": "private" });
    takes_token(world, &ann.token, of("createConversation", body.clone()), |body| body["error"].is_string())
        .await;

    let token = Some(ann.token.as_str());
    let made = ask(world, token, of("createConversation", body)).await.ok();
    let body = json!({ "conversationID": made["_id"], "message": "from allo" });
    let sent = ask(world, token, of("sendMessage", body)).await;
    assert_eq!((sent.status, &sent.body["userID"]), (201, &json!(ann.id)), "{}", sent.body);
    assert_eq!(bob.reads(&text(&made["_id"])).await.last(), Some(&Some("from allo".to_owned())));
}

async fn playground(world: &World, [ann, bob]: &[Person; 2]) {
    let get = |path: String| (Method::GET, path, json!({}));
    let post = |path: &str, body: Value| (Method::POST, path.to_owned(), body);
    let token = Some(ann.token.as_str());
    let made = ask(world, token, post("/rooms", json!({ "name": "Salon" }))).await.ok();
    let room = text(&made["room"]["uid"]);
    let said = ask(world, token, post("/messages", json!({ "room": room, "message": "welcome" }))).await.ok();
    let message = text(&said["result"]);

    for (method, path, body) in [
        (Method::GET, "/me".to_owned(), json!({})),
        (Method::PATCH, "/me".to_owned(), json!({ "display_name": "x" })),
        (Method::PATCH, format!("/users/{}", ann.id), json!({ "display_name": "x" })),
        (Method::POST, format!("/users/{}/mod", bob.id), json!({ "room": room })),
        (Method::POST, format!("/users/{}/unmod", bob.id), json!({ "room": room })),
        (Method::POST, "/rooms".to_owned(), json!({ "name": "x" })),
        (Method::PATCH, format!("/rooms/{room}"), json!({ "name": "x" })),
        (Method::DELETE, format!("/rooms/{room}"), json!({})),
        (Method::DELETE, format!("/rooms/{room}/messages"), json!({})),
        (Method::POST, "/messages".to_owned(), json!({ "room": room, "message": "x" })),
        (Method::DELETE, format!("/messages/{message}"), json!({})),
        (Method::POST, "/bans".to_owned(), json!({ "room": room, "user": bob.id, "duration": "1d" })),
        (Method::POST, "/unban".to_owned(), json!({ "room": room, "user": bob.id })),
        (Method::DELETE, "/connections/x".to_owned(), json!({})),
    ] {
        takes_token(world, &ann.token, (method, path, body), |body| body["error"].is_string()).await;
    }

    // What is public is read by everyone, and nothing else is.
    let shown = ask(world, None, get(format!("/rooms/{room}"))).await.ok();
    assert_eq!(shown["room"]["name"], "Salon");
    let list = ask(world, None, get(format!("/rooms/{room}/messages"))).await.ok();
    assert_eq!(list["messages"][0]["message"], "welcome");
    assert!(ask(world, None, get(format!("/rooms/{room}/users"))).await.ok()["users"].is_array());
    let user = ask(world, None, get(format!("/users/{}", ann.id))).await.ok();
    assert_eq!(user["user"]["displayName"], "ann");
    let closed = ann.starts_group_with(&[bob]).await;
    for path in ["", "/messages", "/users"] {
        let refused = ask(world, None, get(format!("/rooms/{closed}{path}"))).await;
        assert_eq!(refused.status, 404, "{path}: {}", refused.body);
    }

    // Signing up, signing in and entering as a guest take no token, and give one.
    let suggested = ask(world, None, get("/random".to_owned())).await.ok();
    let signed_up = ask(world, None, post("/users/register", suggested.clone())).await.ok();
    let signed_in = ask(world, None, post("/users/login", suggested)).await.ok();
    assert_eq!(signed_in["user"]["uid"], signed_up["user"]["uid"]);
    let mut guests = Vec::new();
    for _ in 0..2 {
        guests.push(ask(world, None, post("/users/login", json!({ "guest": 1 }))).await.ok());
    }
    assert_ne!(guests[0]["user"]["uid"], guests[1]["user"]["uid"], "a guest is new each time");
    for given in [&signed_up, &signed_in, &guests[0], &guests[1]] {
        let token = text(&given["token"]);
        let me = ask(world, Some(token.as_str()), get("/me".to_owned())).await.ok();
        assert_eq!(me["user"]["uid"], given["user"]["uid"]);
    }
    let token = text(&guests[0]["token"]);
    let body = json!({ "room": room, "message": "from a guest" });
    ask(world, Some(token.as_str()), post("/messages", body)).await.ok();
}

async fn talkamie(world: &World) {
    let (ann, bob) = (Client::registered(world, "ann").await, Client::registered(world, "bob").await);
    let id = EventId::generate();
    let get = |path: &str| (Method::GET, path.to_owned(), json!({}));
    let of_user = |method: Method, rest: &str| (method, bob.path(rest), json!({}));
    let mut operations: Vec<Operation> = [
        "/alerts",
        "/auth",
        "/availability/custom",
        "/availability/weekly?year=2030&monthIndex=0&monthDay=1",
        "/calls/histories",
        "/chats",
        "/chats/frequent",
        "/chats/unread",
        "/connections/pending",
        "/connections/users",
        "/connect-requests/pending",
        "/interests",
        "/reviews",
        "/schedules",
        "/schedules/past",
        "/schedules/upcoming",
        "/users",
        "/users?email=",
        "/users?keyword=ann",
    ]
    .map(get)
    .to_vec();
    for path in ["/call", "/chat", "/schedule"] {
        operations.push(get(&format!("{path}/{id}")));
    }
    operations.push(get(&format!("/chat/{id}/messages")));
    operations.push((Method::DELETE, "/auth/sign-out".to_owned(), json!({})));
    operations.push((Method::PUT, format!("/schedule/{id}"), json!({})));
    operations.push((Method::DELETE, format!("/schedule/{id}"), json!({})));
    operations.push((Method::POST, "/availability/custom".to_owned(), json!({})));
    operations.push((Method::POST, "/availability/weekly".to_owned(), json!({})));
    let of_bob = [
        of_user(Method::GET, ""),
        of_user(Method::PUT, ""),
        of_user(Method::DELETE, ""),
        of_user(Method::PUT, "/password"),
        of_user(Method::POST, "/background-check"),
        of_user(Method::POST, "/schedule"),
        of_user(Method::DELETE, "/schedules"),
        of_user(Method::POST, "/connection"),
        of_user(Method::DELETE, "/connection"),
        of_user(Method::POST, "/connection/accept"),
        of_user(Method::DELETE, "/connection/reject"),
        of_user(Method::POST, "/message/request"),
        of_user(Method::DELETE, "/message/request"),
        of_user(Method::POST, "/message/request/accept"),
        of_user(Method::DELETE, "/message/request/reject"),
        of_user(Method::GET, "/reviews"),
        of_user(Method::POST, "/review"),
        of_user(Method::PUT, "/review"),
        of_user(Method::DELETE, "/review"),
    ];
    let is_refusal = |body: &Value| body["success"] == false && body["statusCode"] == 401;
    for (method, path, body) in operations.into_iter().chain(of_bob.clone()) {
        takes_token(world, &ann.token, (method, format!("/talkamie/v1{path}"), body), is_refusal).await;
    }
    // The paths of a user also stand without a prefix.
    for operation in of_bob {
        takes_token(world, &ann.token, operation, is_refusal).await;
    }
    let out = Client { token: String::new(), ..ann.clone() };
    refused(out.post("/auth/refresh", json!({})).await, 401);
    refused(out.post("/auth/refresh", json!({ "refresh": "wrong" })).await, 401);

    // Whether an address has an account is not told to one who is signed out.
    for email in [ann.email.as_str(), "nobody@talkamie.example"] {
        assert_eq!(data(out.get(&format!("/users?email={email}")).await), json!([]), "{email}");
        let wrong = Client { token: "wrong".to_owned(), ..ann.clone() };
        refused(wrong.get(&format!("/users?email={email}")).await, 401);
    }
    // Signed in one finds no address that was not verified.
    assert_eq!(data(bob.get(&format!("/users?email={}", ann.email)).await), json!([]));
    // A code is told to nobody but the mail server.
    let code = out.post("/otp", json!({ "email": "new@talkamie.example" })).await;
    assert!(code.body["data"]["otp"].is_null(), "{}", code.body);

    let form = json!({ "email": ann.email, "password": PASSWORD });
    let signed_in = data(out.post("/auth/sign-in", form).await);
    let again = Client { token: text(&signed_in["tokens"]["access"]), ..ann.clone() };
    let sent = data(again.post(&bob.path("/message/request"), json!({ "text": "from talkamie" })).await);
    let chat = data(bob.get(&format!("/chat/{}", text(&sent["chat"]["id"]))).await);
    assert_eq!((&chat["user"]["id"], &chat["request"]["text"]), (&json!(ann.id), &json!("from talkamie")));
}

/// Whether an address has an account is told by signing up to those only who have verified it with a code.
async fn talkamie_takes_a_verified_address(world: &World, mail: Option<&MailServer>) {
    // The address of an account that has not verified it.
    let claimed = Client { token: String::new(), ..Client::registered(world, "ann").await };
    let free = Client::signed_out(world);
    let signs_up = async |client: &Client| client.post("/auth/sign-up", client.form("Ann", "senior")).await;
    let answers = (signs_up(&claimed).await, signs_up(&free).await);
    assert_eq!(answers.0, answers.1);
    let sentence = refused(answers.0, 403);
    assert!(sentence.contains("/otp/verify"), "{sentence}");
    let Some(mail) = mail else { return };

    let mut people = Vec::new();
    for client in [&claimed, &free] {
        let code = code_by_mail(client, mail).await;
        assert_eq!(code.len(), 6, "{code}");
        let last = code.chars().last().and_then(|digit| digit.to_digit(10)).expect("a digit");
        let wrong = format!("{}{}", &code[..5], (last + 1) % 10);
        let verify = |code: &str| json!({ "email": client.email, "code": code });
        refused(client.post("/otp/verify", verify(&wrong)).await, 400);
        refused(signs_up(client).await, 403);
        data(client.post("/otp/verify", verify(&code)).await);
        // A claim gives way to a proof.
        let signed_up = client.clone().signed_in(&data(signs_up(client).await));
        assert_ne!(signed_up.id, claimed.id);
        let user = data(signed_up.get("/auth").await)["user"].clone();
        assert_eq!((&user["id"], &user["email"]), (&json!(signed_up.id), &json!(client.email)));
        // The code was good for one account: the address is taken now, and this is not told to strangers, ...
        assert_eq!(signs_up(client).await, signs_up(&Client::signed_out(world)).await);
        people.push(signed_up);
    }
    // ... but to the reader of its mails.
    let code = code_by_mail(&free, mail).await;
    data(free.post("/otp/verify", json!({ "email": free.email, "code": code })).await);
    refused(signs_up(&free).await, 409);
    // People of this API find each other by their addresses.
    let found = data(people[0].get(&format!("/users?email={}", free.email)).await);
    assert_eq!(found[0]["id"], json!(people[1].id));
}

async fn code_by_mail(client: &Client, mail: &MailServer) -> String {
    assert_eq!(data(client.post("/otp", json!({ "email": client.email })).await), Value::Null);
    mail.code_for(&client.email).await
}
