//! Secure messages: opaque to Parlor, signed by a registered device, and never mixed with plain ones where only they may be.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use proto::id::{ConversationId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::http;
use tests::person::{PASSWORD, Person, array, path_of, text};
use tests::waiting::from_now;
use tests::{Shape, World, storage};

tests::stories![
    a_registered_device_signs_what_its_owner_sends,
    a_secure_conversation_takes_nothing_plain,
    a_guest_is_not_silenced_by_a_secure_conversation,
    the_largest_ciphertext_passes_every_door,
    a_key_is_registered_once_and_revoked_for_good,
    what_is_said_is_in_no_log,
];

const KEY_ID: &str = "deviceKeyId";

/// A device with a registered key.
struct Device {
    key: SigningKey,
    id: String,
}

impl Device {
    async fn of(person: &Person, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let body = json!({ "publicKey": base64(key.verifying_key().as_bytes()), "name": "a phone" });
        let answer = person.post("/v1/me/device-keys", body).await.ok();
        Self { key, id: text(&answer["deviceKey"][KEY_ID]) }
    }

    /// What the contract says is signed: each part after the first with its length before it.
    fn signs(&self, person: &Person, conversation: &str, client_id: &str, ciphertext: &[u8]) -> Value {
        let id = |text: &str| uuid::Uuid::parse_str(text).expect("a UUID").as_bytes().to_vec();
        let digest = Sha256::digest(ciphertext).to_vec();
        let parts =
            [id(conversation), id(&person.id), id(&self.id), client_id.into(), b"mls-1".to_vec(), digest];
        let mut form = b"chat.secure.v1".to_vec();
        for part in parts {
            form.extend(u32::try_from(part.len()).expect("short").to_be_bytes());
            form.extend(part);
        }
        json!({
            "content": { "secure": {
                "ciphertext": base64(ciphertext), "algorithm": "mls-1",
                "signature": base64(&self.key.sign(&form).to_bytes()), KEY_ID: self.id,
            } },
            "clientMessageId": client_id,
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn a_registered_device_signs_what_its_owner_sends(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let other = ann.starts_group_with(&[&bob]).await;
    let unsigned = json!({
        "content": { "secure": { "ciphertext": "c2VjcmV0", "algorithm": "mls-1" } }, "clientMessageId": "none",
    });
    // Before a key is registered it is relayed as it comes.
    ann.tries_to_send(&conversation, unsigned.clone()).await.ok();
    let device = Device::of(&ann, 7).await;
    let mut screen = bob.comes_online().await;

    let request = device.signs(&ann, &conversation, "one", b"secret");
    let sent = ann.tries_to_send(&conversation, request.clone()).await.ok()["message"].clone();
    let event = screen.next_event("messageCreated").await;
    assert_eq!(event["messageCreated"]["content"], sent["content"]);

    let mut tampered = device.signs(&ann, &conversation, "two", b"secret");
    tampered["content"]["secure"]["ciphertext"] = json!("dGFtcGVyZWQ=");
    let elsewhere = device.signs(&ann, &other, "three", b"secret");
    let renamed = json!({ "content": request["content"], "clientMessageId": "four" });
    let unsigned = json!({ "content": unsigned["content"], "clientMessageId": "another" });
    for wrong in [unsigned, tampered, elsewhere, renamed] {
        let refused = ann.tries_to_send(&conversation, wrong).await;
        assert_eq!(refused.body["fields"][0]["field"], json!("content.secure.signature"), "{}", refused.body);
        assert_eq!(refused.refused(400), "ERROR_REASON_SIGNATURE_INVALID");
    }
    // A stolen signature does not work for another sender: Bob has a key of his own.
    Device::of(&bob, 8).await;
    assert_eq!(bob.tries_to_send(&conversation, request).await.status, 400);
    // Nobody sends a secure message on.
    let forward =
        bob.post(&format!("{}/forward", path_of(&sent)), json!({ "targetConversationId": other })).await;
    assert_eq!(forward.refused(409), "ERROR_REASON_NOT_FORWARDABLE");
    // The ids in a canonical form are what they are everywhere.
    assert!(ConversationId::parse(&conversation).is_ok() && UserId::parse(&ann.id).is_ok());

    ann.delete(&format!("/v1/me/device-keys/{}", device.id)).await.ok();
    // Revoked: nothing new can be signed with it; and with no key in use things are as before the first.
    let late = device.signs(&ann, &conversation, "five", b"secret");
    let second = Device::of(&ann, 9).await;
    assert_eq!(ann.tries_to_send(&conversation, late).await.status, 400);
    ann.tries_to_send(&conversation, second.signs(&ann, &conversation, "six", b"secret")).await.ok();
}

async fn a_secure_conversation_takes_nothing_plain(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let body =
        json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "quiet", "userIds": [bob.id], "secure": true });
    let conversation = ann.post("/v1/conversations", body).await.ok()["conversation"].clone();
    assert_eq!(conversation["secure"], json!(true));
    let conversation = text(&conversation["conversationId"]);
    // Nor what is only called secure: without a signature, and with the name of another's key.
    let device = Device::of(&ann, 21).await;
    let mut unsigned = json!({ "content": { "secure": { "ciphertext": "cGxhaW4=", "algorithm": "none" } } });
    assert_eq!(
        bob.tries_to_send(&conversation, unsigned.clone()).await.refused(400),
        "ERROR_REASON_SIGNATURE_INVALID"
    );
    unsigned["content"]["secure"][KEY_ID] = json!(device.id);
    assert_eq!(
        bob.tries_to_send(&conversation, unsigned.clone()).await.refused(400),
        "ERROR_REASON_SIGNATURE_INVALID"
    );
    let later = json!({ "content": unsigned["content"], "sendTime": from_now(Duration::from_secs(60)) });
    let later = bob.post(&format!("/v1/conversations/{conversation}/scheduled-messages"), later).await;
    assert_eq!((later.status, &later.body["fields"][0]["field"]), (400, &json!("content.secure.signature")));
    let secure = device.signs(&ann, &conversation, "first", b"secret");
    let sent = ann.tries_to_send(&conversation, secure).await.ok()["message"].clone();
    for content in [
        json!({ "text": "plain" }),
        json!({ "sticker": { "media": { "url": "https://media.example/a" } } }),
        json!({ "poll": { "question": "?", "options": ["a", "b"] } }),
    ] {
        let refused = bob.tries_to_send(&conversation, json!({ "content": content })).await;
        assert_eq!(refused.refused(409), "ERROR_REASON_SECURE_ONLY");
    }
    let edit = ann.patch(&path_of(&sent), json!({ "content": { "text": "plain" } })).await;
    assert_eq!(edit.status, 409, "{}", edit.body);
    let open = ann.starts_direct_with(&bob).await;
    let said = ann.says(&open, "plain").await;
    let forward = ann
        .post(&format!("{}/forward", path_of(&said)), json!({ "targetConversationId": conversation }))
        .await;
    assert_eq!(forward.refused(409), "ERROR_REASON_SECURE_ONLY");
    // There is no way back.
    let update = json!({ "conversation": { "secure": false }, "updateMask": "secure" });
    assert_eq!(ann.patch(&format!("/v1/conversations/{conversation}"), update).await.status, 400);
    // Another conversation becomes secure when its owner says so.
    let group = ann.starts_group_with(&[&bob]).await;
    let update = json!({ "conversation": { "secure": true }, "updateMask": "secure" });
    assert_eq!(bob.patch(&format!("/v1/conversations/{group}"), update.clone()).await.status, 403);
    ann.patch(&format!("/v1/conversations/{group}"), update).await.ok();
    assert_eq!(bob.tries_to_say(&group, "plain").await.refused(409), "ERROR_REASON_SECURE_ONLY");
    assert_eq!(
        array(&ann.get(&format!("/v1/conversations/{conversation}/messages")).await.ok()["messages"]).len(),
        1
    );
}

/// One who cannot sign stays able to write: a direct conversation becomes secure only when both have a key.
async fn a_guest_is_not_silenced_by_a_secure_conversation(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let answer = ann.post("/v1/auth/guest", json!({ "displayName": "Visitor" })).await.ok();
    let mut guest = ann.with_token(&text(&answer["grant"]["sessionToken"]));
    guest.id = text(&answer["user"]["userId"]);
    let asks =
        |other: &Person| json!({ "kind": "CONVERSATION_KIND_DIRECT", "userIds": [other.id], "secure": true });
    Device::of(&ann, 31).await;
    let direct = ann.starts_direct_with(&guest).await;
    for refused in [
        ann.post("/v1/conversations", asks(&guest)).await,
        guest.post("/v1/conversations", asks(&ann)).await,
        ann.post("/v1/conversations", asks(&bob)).await,
    ] {
        assert_eq!(refused.refused(409), "ERROR_REASON_DEVICE_KEY_MISSING");
    }
    guest.says(&direct, "still here").await;
    Device::of(&bob, 32).await;
    let secured = ann.post("/v1/conversations", asks(&bob)).await.ok()["conversation"].clone();
    assert_eq!(secured["secure"], json!(true));
}

/// No transport refuses for its size a message that the contract takes.
async fn the_largest_ciphertext_passes_every_door(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let device = Device::of(&ann, 41).await;
    let largest = vec![0xff; 65_536];
    let signed = |client_id: &str| device.signs(&ann, &conversation, client_id, &largest);
    let sent = ann.tries_to_send(&conversation, signed("rest")).await.ok()["message"].clone();
    assert_eq!(sent["content"]["secure"]["ciphertext"], json!(base64(&largest)));

    let mut socket = ann.connects().await;
    let mut command = signed("socket");
    command["conversationId"] = json!(conversation);
    let answer = socket.command(json!({ "sendMessage": command })).await;
    assert!(answer.get("sent").is_some(), "{answer}");
    let method = "parlor.messaging.v1.MessagingService/SendMessage";
    let mut request = signed("call");
    request["conversationId"] = json!(conversation);
    let answer = socket.command(json!({ "call": { "method": method, "request": request } })).await;
    assert!(answer.get("callReply").is_some(), "{answer}");

    // One byte more is refused by the contract, which names the field.
    let more = device.signs(&ann, &conversation, "more", &[largest.as_slice(), &[0]].concat());
    let refused = ann.tries_to_send(&conversation, more).await;
    assert_eq!(
        (refused.status, &refused.body["fields"][0]["field"]),
        (400, &json!("content.secure.ciphertext"))
    );

    // The dialect with secure messages signs nothing, so that its user has no key.
    let secure = json!({
        "conversationID": conversation, "message": "x".repeat(65_536), "encrypted": true,
        "encryptionAlgorithm": "mls-1", "signature": "c2lnbmF0dXJl",
    });
    let bearer = format!("Bearer {}", bob.token);
    let headers = [("authorization", bearer.as_str())];
    let path = "/api/chat/sendSecureMessage";
    let answer = http::ask_foreign(world.gateway(), Method::POST, path, &headers, Some(&secure)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
}

async fn a_key_is_registered_once_and_revoked_for_good(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let device = Device::of(&ann, 11).await;
    assert_eq!(Device::of(&ann, 11).await.id, device.id);
    let keys =
        async || bob.get(&format!("/v1/users/{}/device-keys", ann.id)).await.ok()["deviceKeys"].clone();
    assert_eq!(array(&keys().await).len(), 1);
    let revoke = format!("/v1/me/device-keys/{}", device.id);
    assert_eq!(bob.delete(&revoke).await.refused(404), "ERROR_REASON_DEVICE_KEY_NOT_FOUND");
    ann.delete(&revoke).await.ok();
    assert!(keys().await[0]["revokeTime"].is_string());
    for wrong in [base64(&[0; 32]), base64(&[1; 31]), "not base64!".to_owned()] {
        let refused = ann.post("/v1/me/device-keys", json!({ "publicKey": wrong, "name": "x" })).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.body);
    }
}

/// At the most talkative level of the log, in a world of its own: what people say, secure or not, and what they sign in with.
async fn what_is_said_is_in_no_log(world: Arc<World>) {
    const TALKATIVE: &[(&str, &str)] = &[("log.level", "trace")];
    let started = match world.shape {
        Shape::Embedded => World::embedded_with(TALKATIVE).await,
        Shape::Separate => {
            let database = storage::fresh_database().await.expect("a database");
            World::separate_with(&database, &storage::nats_url().expect("a bus"), TALKATIVE).await
        }
    };
    let mut talkative = started.expect("a world of its own");
    let [ann, bob] = talkative.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    let marker = proto::id::EventId::generate().uuid().simple().to_string();
    let secure = json!({ "secure": { "ciphertext": base64(marker.as_bytes()), "algorithm": "mls-1" } });
    ann.sends(&conversation, secure).await;
    ann.tries_to_send(&conversation, json!({ "content": { "text": marker }, "expireAfter": "60s" }))
        .await
        .ok();
    let plain = ann.says(&conversation, &marker).await;
    ann.patch(&path_of(&plain), json!({ "content": { "text": format!("{marker} again") } })).await.ok();
    screen.next_event("messageEdited").await;
    talkative.stop().await.expect("a world that stops");

    let log: String = talkative.processes.iter().map(|process| process.log()).collect();
    assert!(log.contains(&text(&plain["messageId"])), "the log talks about messages");
    for secret in [marker.clone(), base64(marker.as_bytes()), ann.token.clone(), PASSWORD.to_owned()] {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}
