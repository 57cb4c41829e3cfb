//! Requests over HTTP: real operations with mutated fields, paths, methods, tokens and bodies.

use fastrand::Rng;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::scene::Scene;
use crate::values;

/// A dialect, and its operations.
pub struct Dialect {
    /// Its name.
    pub name: &'static str,
    /// Method, path, and the fields of the body. `*` stands for an id.
    operations: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// All of them.
pub const DIALECTS: &[Dialect] = &[
    Dialect {
        name: "allo",
        operations: &[
            ("POST", "/api/chat/joinConversation", &["conversationID", "userID"]),
            ("POST", "/api/chat/createConversation", &["participants", "type", "topic", "owner"]),
            ("POST", "/api/chat/sendMessage", &["userID", "conversationID", "message"]),
            (
                "POST",
                "/api/chat/sendSecureMessage",
                &["userID", "conversationID", "message", "encrypted", "encryptionAlgorithm", "signature"],
            ),
            ("POST", "/api/chat/reportMessage", &["conversationID", "messageId", "reason"]),
            ("POST", "/api/chat/editMessage", &["conversationID", "messageId", "newMessage"]),
            ("POST", "/api/chat/deleteMessage", &["conversationID", "messageId"]),
            ("POST", "/api/chat/forwardMessage", &["fromConversationID", "toConversationID", "messageId"]),
            ("POST", "/api/chat/messageRead", &["conversationID", "messageId"]),
            ("POST", "/api/chat/pinMessage", &["conversationID", "messageId", "pin"]),
            ("POST", "/api/chat/reactionMessage", &["conversationID", "messageId", "emoji"]),
            ("POST", "/api/chat/scheduleMessage", &["userID", "conversationID", "message", "scheduledTime"]),
            ("POST", "/api/chat/unsendMessage", &["conversationID", "messageId"]),
            ("POST", "/api/chat/sendEphemeralMessage", &["userID", "conversationID", "message", "expiresIn"]),
            ("POST", "/api/chat/sendVoiceMessage", &["userID", "conversationID", "message", "voiceUrl"]),
            ("POST", "/api/chat/sendSticker", &["userID", "conversationID", "stickerUrl"]),
            ("POST", "/api/chat/createPoll", &["userID", "conversationID", "question", "options"]),
            ("POST", "/api/chat/votePoll", &["conversationID", "messageId", "optionIndex"]),
        ],
    },
    Dialect {
        name: "messenger",
        operations: &[
            ("GET", "/api/accounts", &[]),
            ("GET", "/api/account/*", &[]),
            ("GET", "/api/account/*/conversations", &["pageSize", "cursor"]),
            ("POST", "/api/account/*/conversations", &["with"]),
            ("GET", "/api/*/conversation/*", &[]),
            ("GET", "/api/account/*/conversation/*/messages", &["pageSize", "cursor", "cursor_labels"]),
            ("POST", "/api/account/*/conversation/*/messages", &["text"]),
        ],
    },
    Dialect {
        name: "chats",
        operations: &[
            ("POST", "/chats/messages", &["chatId", "userUUID", "userUUIDs", "groupUUID", "message"]),
            ("GET", "/chats/messages", &["chatId", "limit", "skip", "startAt", "endAt"]),
            ("POST", "/chats/groups", &["users", "name", "desc"]),
            ("GET", "/chats/groups/*", &[]),
            ("GET", "/chats", &["limit", "skip"]),
        ],
    },
    Dialect {
        name: "playground",
        operations: &[
            ("POST", "/users/register", &["username", "password"]),
            ("POST", "/users/login", &["username", "password", "guest"]),
            ("GET", "/random", &[]),
            ("GET", "/me", &[]),
            ("GET", "/users/*", &[]),
            ("PATCH", "/me", &["display_name"]),
            ("PATCH", "/users/*", &["display_name"]),
            ("POST", "/users/*/mod", &["room"]),
            ("POST", "/users/*/unmod", &["room"]),
            ("POST", "/rooms", &["name", "description"]),
            ("GET", "/rooms/*", &[]),
            ("PATCH", "/rooms/*", &["name", "description", "slow_mode"]),
            ("GET", "/rooms/*/messages", &[]),
            ("DELETE", "/rooms/*/messages", &[]),
            ("GET", "/rooms/*/users", &[]),
            ("POST", "/messages", &["room", "message"]),
            ("DELETE", "/messages/*", &[]),
            ("POST", "/bans", &["user", "room", "duration", "reason"]),
            ("POST", "/unban", &["user", "room"]),
            ("GET", "/bans", &[]),
            ("GET", "/websocket", &[]),
            ("GET", "/health", &[]),
            ("DELETE", "/connections/*", &[]),
        ],
    },
    Dialect {
        name: "talkamie",
        operations: &[
            ("GET", "/talkamie/v1/alerts", &["pageSize", "lastEvaluatedKey"]),
            ("GET", "/talkamie/v1/auth", &[]),
            ("POST", "/talkamie/v1/auth/sign-up", &["email", "password", "name", "type"]),
            ("POST", "/talkamie/v1/auth/sign-in", &["email", "password"]),
            ("GET", "/talkamie/v1/availability/custom", &[]),
            ("POST", "/talkamie/v1/availability/custom", &["2030-01-01"]),
            ("GET", "/talkamie/v1/availability/weekly", &["year", "monthIndex", "monthDay"]),
            ("POST", "/talkamie/v1/availability/weekly", &["sun", "mon", "tue"]),
            ("GET", "/talkamie/v1/call/*", &[]),
            ("GET", "/talkamie/v1/calls/histories", &["keyword", "pageSize", "lastEvaluatedKey"]),
            ("GET", "/talkamie/v1/chat/*", &[]),
            ("GET", "/talkamie/v1/chat/*/messages", &["pageSize", "lastEvaluatedKey"]),
            ("GET", "/talkamie/v1/chats", &["keyword", "pageSize", "lastEvaluatedKey"]),
            ("GET", "/talkamie/v1/chats/frequent", &[]),
            ("GET", "/talkamie/v1/chats/unread", &[]),
            ("GET", "/talkamie/v1/connections/pending", &[]),
            ("GET", "/talkamie/v1/connections/users", &["keyword"]),
            ("GET", "/talkamie/v1/interests", &["keyword"]),
            ("POST", "/talkamie/v1/otp", &["email"]),
            ("POST", "/talkamie/v1/otp/verify", &["email", "code"]),
            ("GET", "/talkamie/v1/reviews", &[]),
            ("GET", "/talkamie/v1/schedule/*", &[]),
            (
                "PUT",
                "/talkamie/v1/schedule/*",
                &["title", "type", "recurrence", "startDateTime", "endDateTime"],
            ),
            ("DELETE", "/talkamie/v1/schedule/*", &[]),
            ("GET", "/talkamie/v1/schedules/past", &["keyword"]),
            ("GET", "/user/*", &[]),
            (
                "PUT",
                "/user/*",
                &["name", "bio", "dob", "language", "location", "interests", "preferences", "visibility"],
            ),
            ("PUT", "/user/*/password", &["oldPassword", "newPassword"]),
            ("POST", "/user/*/background-check", &["dob", "state", "links"]),
            ("POST", "/user/*/schedule", &["title", "type", "recurrence", "startDateTime", "endDateTime"]),
            ("POST", "/user/*/connection", &[]),
            ("DELETE", "/user/*/connection", &[]),
            ("POST", "/user/*/connection/accept", &[]),
            ("DELETE", "/user/*/connection/reject", &[]),
            ("POST", "/user/*/message/request", &["text"]),
            ("POST", "/user/*/message/request/accept", &[]),
            ("GET", "/user/*/reviews", &[]),
            ("POST", "/user/*/review", &["text", "rate"]),
            ("PUT", "/user/*/review", &["text", "rate"]),
            ("DELETE", "/user/*/review", &[]),
            (
                "GET",
                "/talkamie/v1/users",
                &["email", "type", "keyword", "age", "minAge", "maxAge", "location", "gender"],
            ),
        ],
    },
];

/// Sends so many requests. Says what was wrong with the answers.
pub async fn run(scene: &Scene, dialect: &Dialect, mut rng: Rng, times: usize) -> Vec<String> {
    // A connection for each request: one that a refusal has closed would fail the next request, which is not at fault.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("an HTTP client");
    let mut wrong = Vec::new();
    for _ in 0..times {
        let (request, told) = request(scene, dialect, &client, &mut rng);
        match request.send().await {
            Ok(response) if response.status().is_server_error() => {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                wrong.push(format!("{status} to {told}: {}", body.chars().take(300).collect::<String>()));
            }
            Ok(response) => {
                let (status, kind) = (response.status(), response.headers().get("content-type").cloned());
                let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
                if status.is_client_error() && !is_json {
                    wrong.push(format!("{status} to {told} is not JSON"));
                }
            }
            Err(error) => wrong.push(format!("no answer to {told}: {error:?}")),
        }
        if wrong.len() >= 20 {
            break;
        }
    }
    wrong
}

fn request(
    scene: &Scene,
    dialect: &Dialect,
    client: &reqwest::Client,
    rng: &mut Rng,
) -> (reqwest::RequestBuilder, String) {
    let (method, path, names) = dialect.operations[rng.usize(..dialect.operations.len())];
    let method = match rng.u8(..20) {
        0 => ["GET", "POST", "PUT", "PATCH", "DELETE"][rng.usize(..5)],
        _ => method,
    };
    let path = path_of(scene, path, rng);
    let mut fields = Map::new();
    for name in names {
        // Nothing of what the field should be, at times.
        if rng.u8(..10) > 0 {
            fields.insert((*name).to_owned(), values::field(scene, rng));
        }
    }
    if rng.u8(..5) == 0 {
        fields.insert(values::text(rng).chars().take(20).collect(), values::any(rng, 3));
    }
    let body = Value::Object(fields.clone()).to_string();
    let address = format!("http://{}{path}", scene.world.gateway());
    let told = format!("{method} {path} {}", body.chars().take(500).collect::<String>());
    let mut request = client.request(method.parse::<Method>().expect("a method"), address);
    if method == "GET" && rng.bool() {
        let query: Vec<(String, String)> = fields
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .filter(|(_, value)| value.len() < 2000)
            .collect();
        let query = query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let path = format!("{path}?{}", query.collect::<Vec<_>>().join("&"));
        request = client.get(format!("http://{}{path}", scene.world.gateway()));
    } else {
        request = match rng.u8(..20) {
            0 => request.header("content-type", "application/x-www-form-urlencoded").body(body),
            1 => request.header("content-type", "multipart/form-data").body(body),
            2 => request
                .header("content-type", "application/json")
                .body(body.as_bytes()[..body.len() / 2].to_vec()),
            3 => request.header("content-type", "application/json").body(values::any(rng, 2).to_string()),
            _ => request.header("content-type", "application/json").body(body),
        };
    }
    let request = match rng.u8(..10) {
        0 => request,
        1 => request.bearer_auth("made up").header("token", "made up"),
        2 => request.bearer_auth("undefined").header("token", "null"),
        _ => request.bearer_auth(&scene.ann.token).header("token", &scene.ann.token),
    };
    (request, told)
}

fn path_of(scene: &Scene, path: &str, rng: &mut Rng) -> String {
    let mut made = String::new();
    for segment in path.split('/').skip(1) {
        made.push('/');
        match (segment, rng.u8(..30)) {
            ("*", 0) => made.push_str(&encode(&values::text(rng).chars().take(60).collect::<String>())),
            ("*", 1) => made.push_str("%ff%fe"),
            ("*", _) => made.push_str(scene.id(rng).as_str().unwrap_or_default()),
            (segment, 0) => made.push_str(&segment.to_uppercase()),
            (segment, _) => made.push_str(segment),
        }
    }
    made
}

/// Percent-encodes everything but letters and digits.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
