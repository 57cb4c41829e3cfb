//! Messages and conversations as this API shows them.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::conversation::v1::{Conversation, ConversationKind, MemberRole};
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::media::Source;
use proto::messaging::v1::{AttachmentKind, Media, Message};
use serde_json::{Map, Value, json};

use super::NAMESPACE;
use crate::dialects::backend::Actor;
use crate::dialects::people::Named;
use crate::dialects::{Dialects, members, text, time};
use crate::http::error::Problem;

/// The maximum number of participants that a conversation shows.
const MAX_PARTICIPANTS: usize = 1000;

/// Returns the name of a user: that of an external account of this API, otherwise the UUID.
pub(super) fn name(people: &Named, id: &str) -> String {
    let account = people.get(id).and_then(|user| user.external_account.as_ref());
    match account.filter(|account| account.namespace == NAMESPACE) {
        Some(account) => account.name.clone(),
        None => id.to_owned(),
    }
}

/// Returns a message.
pub(super) async fn message(
    dialects: &Dialects,
    address: IpAddr,
    message: &Message,
) -> Result<Value, Problem> {
    let people = dialects.people.named(mentioned(message), address).await?;
    Ok(of_message(message, &people))
}

fn mentioned(message: &Message) -> impl Iterator<Item = &str> {
    let card = match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(Kind::Profile(profile)) => Some(profile.user_id.as_str()),
        _ => None,
    };
    let pinned = message.pin.as_ref().map(|pin| pin.user_id.as_str());
    [message.sender_id.as_str()].into_iter().chain(card).chain(pinned)
}

/// Returns a message whose users are known.
pub(super) fn of_message(message: &Message, people: &Named) -> Value {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    for name in ["_id", "id", "messageId"] {
        put(name, json!(message.message_id));
    }
    put("userID", json!(name(people, &message.sender_id)));
    put("conversationID", json!(message.conversation_id));
    put("message", json!(words(message, people)));
    put("createdAt", json!(time::iso(message.create_time)));
    put("status", json!("sent"));
    let attachments = attachments(message);
    if !attachments.is_empty() {
        put("attachments", json!(attachments));
    }
    match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(Kind::Secure(secure)) => {
            put("encrypted", json!(true));
            put("encryptionAlgorithm", json!(secure.algorithm));
            put("signature", json!(bytes(&secure.signature)));
        }
        Some(Kind::Poll(poll)) => {
            let counts = message.poll_result.as_ref().map(|result| result.counts.clone());
            let votes = counts.filter(|counts| !counts.is_empty()).unwrap_or(vec![0; poll.options.len()]);
            put("poll", json!({"question": poll.question, "options": poll.options, "votes": votes}));
        }
        _ => {}
    }
    if message.edit_time.is_some() {
        put("editedAt", json!(time::iso(message.edit_time)));
    }
    if let Some(origin) = &message.forwarded_from {
        // The conversation of a message copied from elsewhere is not shown; its message stands for it.
        let from =
            if origin.conversation_id.is_empty() { &origin.message_id } else { &origin.conversation_id };
        put("forwardedFrom", json!(from));
    }
    if !message.reply_to_message_id.is_empty() {
        put("replyTo", json!(message.reply_to_message_id));
    }
    if message.scheduled_time.is_some() {
        put("scheduledAt", json!(time::iso(message.scheduled_time)));
    }
    if message.expire_time.is_some() {
        put("ephemeralExpiresAt", json!(time::iso(message.expire_time)));
    }
    if let Some(pin) = &message.pin {
        put("pinned", json!(true));
        put("pinnedAt", json!(time::iso(pin.pin_time)));
        put("pinnedBy", json!(name(people, &pin.user_id)));
    }
    Value::Object(shown)
}

/// Returns the text of a message. Kinds that this API shows in fields of their own have none.
pub(super) fn words(message: &Message, people: &Named) -> String {
    match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(Kind::Secure(secure)) => bytes(&secure.ciphertext),
        Some(Kind::Voice(voice)) => voice.caption.clone(),
        Some(Kind::Sticker(_) | Kind::Poll(_)) => String::new(),
        _ => text::line(message.content.as_ref(), |id| people.get(id).map(|user| user.display_name.clone())),
    }
}

/// Returns bytes as text: bytes that clients of this API sent are UTF-8; those of other clients are shown in base64.
fn bytes(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| STANDARD.encode(bytes), str::to_owned)
}

fn attachments(message: &Message) -> Vec<Value> {
    let Some(content) = &message.content else { return Vec::new() };
    let of_kind = match &content.kind {
        Some(Kind::Voice(voice)) => Some(("voice", voice.media.as_ref())),
        Some(Kind::Sticker(sticker)) => Some(("sticker", sticker.media.as_ref())),
        _ => None,
    };
    let others = content.attachments.iter().map(|attachment| {
        let kind = match attachment.kind() {
            AttachmentKind::Image => "image",
            AttachmentKind::Video => "video",
            AttachmentKind::Audio => "audio",
            AttachmentKind::File | AttachmentKind::Unspecified => "file",
        };
        (kind, attachment.media.as_ref())
    });
    let all = of_kind.into_iter().chain(others);
    all.map(|(kind, media)| json!({"type": kind, "url": address(media)})).collect()
}

/// Returns the address of a file. Uploaded files have no permanent one: they are fetched with a ticket of the canonical
/// API.
fn address(media: Option<&Media>) -> &str {
    match media.and_then(|media| media.source.as_ref()) {
        Some(Source::Url(url)) => url,
        Some(Source::UploadId(_)) | None => "",
    }
}

/// Returns a conversation as its member sees it. `asked` is the type with which it was created, as far as it is known.
pub(super) async fn conversation(
    dialects: &Dialects,
    actor: &Actor,
    conversation: &Conversation,
    asked: Option<&str>,
) -> Result<Value, Problem> {
    let id = &conversation.conversation_id;
    let members = members::first(&dialects.backend, actor, id, MAX_PARTICIPANTS).await?;
    let ids = members.iter().map(|member| member.user_id.as_str());
    let people = dialects.people.named(ids, actor.address).await?;
    let with = |role: MemberRole| {
        members
            .iter()
            .filter(move |member| member.role() == role)
            .map(|member| name(&people, &member.user_id))
    };
    let derived = match conversation.kind() {
        ConversationKind::Direct => "private",
        ConversationKind::Channel => "channel",
        _ => "group",
    };
    let owner = with(MemberRole::Owner).next().or_else(|| with(MemberRole::Member).next());
    let admins: Vec<_> = match conversation.kind() {
        ConversationKind::Direct => Vec::new(),
        _ => with(MemberRole::Owner).chain(with(MemberRole::Moderator)).collect(),
    };
    Ok(json!({
        "_id": id,
        "id": id,
        "conversationID": id,
        "participants": members.iter().map(|member| name(&people, &member.user_id)).collect::<Vec<_>>(),
        "topic": conversation.title,
        "type": asked.unwrap_or(derived),
        "owner": owner,
        "admins": admins,
        "createdAt": time::iso(conversation.create_time),
        "lastUpdated": time::iso(conversation.update_time),
    }))
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1::{Content, Origin, PollContent, SecureContent, StickerContent, VoiceContent};

    use super::*;

    fn shown(kind: Kind) -> Value {
        let content = Content { kind: Some(kind), attachments: Vec::new() };
        let message = Message {
            message_id: "m".to_owned(),
            conversation_id: "c".to_owned(),
            sender_id: "s".to_owned(),
            content: Some(content),
            create_time: Some(time::proto(1_612_312_312_312)),
            forwarded_from: Some(Origin { conversation_id: "source".to_owned(), ..Origin::default() }),
            ..Message::default()
        };
        of_message(&message, &Named::default())
    }

    fn media(url: &str) -> Option<Media> {
        Some(Media { source: Some(Source::Url(url.to_owned())) })
    }

    #[test]
    fn a_text_has_its_ids_and_its_origin() {
        assert_eq!(
            shown(Kind::Text("hi".to_owned())),
            json!({
                "_id": "m", "id": "m", "messageId": "m", "userID": "s", "conversationID": "c", "message": "hi",
                "createdAt": "2021-02-03T00:31:52.312Z", "status": "sent", "forwardedFrom": "source",
            })
        );
    }

    #[test]
    fn other_kinds_have_fields_of_their_own() {
        let voice = VoiceContent { media: media("https://a.example/v"), ..VoiceContent::default() };
        let voice = shown(Kind::Voice(voice));
        assert_eq!(voice["attachments"], json!([{"type": "voice", "url": "https://a.example/v"}]));
        assert_eq!(voice["message"], "");
        let sticker = StickerContent { media: media("https://a.example/s"), ..StickerContent::default() };
        assert_eq!(shown(Kind::Sticker(sticker))["attachments"][0]["type"], "sticker");
        let poll = PollContent {
            question: "Tea?".to_owned(),
            options: vec!["yes".to_owned(), "no".to_owned()],
            ..PollContent::default()
        };
        let poll = shown(Kind::Poll(poll));
        assert_eq!(poll["poll"], json!({"question": "Tea?", "options": ["yes", "no"], "votes": [0, 0]}));
        let secure = SecureContent {
            ciphertext: b"opaque".to_vec(),
            algorithm: "AES-256".to_owned(),
            signature: vec![0xff, 0x00],
            ..SecureContent::default()
        };
        let secure = shown(Kind::Secure(secure));
        assert_eq!((&secure["message"], &secure["signature"]), (&json!("opaque"), &json!("/wA=")));
        assert_eq!((&secure["encrypted"], &secure["encryptionAlgorithm"]), (&json!(true), &json!("AES-256")));
    }
}
