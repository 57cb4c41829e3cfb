//! Sending messages of any kind, now or later.

use std::time::Duration;

use chassis::fault::Fault;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::media::Source;
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{
    Content, ForwardMessageRequest, Media, PollContent, SecureContent, SendMessageRequest, StickerContent,
    VoiceContent,
};
use proto::scheduling::v1::ScheduleMessageRequest;
use serde_json::json;

use super::{Done, conversation_id, message_id};
use crate::dialects::allo::show;
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::{Dialects, ids, text as texts, time};
use crate::http::error::Problem;

/// The bounds of the lifetime of an ephemeral message, in milliseconds.
const SHORTEST_LIFE: i64 = 1000;
const LONGEST_LIFE: i64 = 28 * 24 * 60 * 60 * 1000;

pub(super) async fn text(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let text = texts::message("message", &fields.required("message")?)?;
    send(dialects, actor, fields, Kind::Text(text), None).await
}

pub(super) async fn secure(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    if fields.boolean("encrypted")? == Some(false) {
        return Err(Fault::invalid("encrypted", "must be true").into());
    }
    let secure = SecureContent {
        ciphertext: fields.required("message")?.into_bytes(),
        algorithm: fields.required("encryptionAlgorithm")?,
        signature: fields.text("signature")?.unwrap_or_default().into_bytes(),
        device_key_id: String::new(),
    };
    send(dialects, actor, fields, Kind::Secure(secure), None).await
}

/// Sends a text that lives for `expiresIn` milliseconds.
pub(super) async fn ephemeral(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let text = texts::message("message", &fields.required("message")?)?;
    let rule = format!("must be milliseconds, at most {LONGEST_LIFE}");
    let life = fields.integer("expiresIn")?.filter(|life| (1..=LONGEST_LIFE).contains(life));
    let life = life.ok_or_else(|| Fault::invalid("expiresIn", rule))?.max(SHORTEST_LIFE);
    let life = Duration::from_millis(life.unsigned_abs());
    send(dialects, actor, fields, Kind::Text(text), Some(life)).await
}

/// Sends a voice message, whose text may be empty.
pub(super) async fn voice(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let caption = fields.filled("message")?.map(|text| texts::message("message", &text)).transpose()?;
    let voice = VoiceContent {
        media: Some(media("voiceUrl", fields)?),
        caption: caption.unwrap_or_default(),
        ..VoiceContent::default()
    };
    send(dialects, actor, fields, Kind::Voice(voice), None).await
}

pub(super) async fn sticker(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let sticker = StickerContent { media: Some(media("stickerUrl", fields)?), label: String::new() };
    send(dialects, actor, fields, Kind::Sticker(sticker), None).await
}

pub(super) async fn poll(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let poll = PollContent {
        question: texts::message("question", &fields.required("question")?)?,
        options: fields.list("options")?,
        ..PollContent::default()
    };
    send(dialects, actor, fields, Kind::Poll(poll), None).await
}

fn media(field: &str, fields: &Fields) -> Result<Media, Fault> {
    let url = texts::address(field, &fields.required(field)?)?;
    Ok(Media { source: Some(Source::Url(url)) })
}

async fn send(
    dialects: &Dialects,
    actor: &Actor,
    fields: &Fields,
    kind: Kind,
    life: Option<Duration>,
) -> Result<Done, Problem> {
    let send = SendMessageRequest {
        target: Some(Target::ConversationId(conversation_id(fields)?.to_string())),
        content: Some(Content { kind: Some(kind), attachments: Vec::new() }),
        expire_after: life.and_then(|life| life.try_into().ok()),
        ..SendMessageRequest::default()
    };
    let message = dialects.backend.send(actor, send).await?;
    Ok(show::message(dialects, actor.address, &message).await?.into())
}

/// Copies a message into another conversation.
pub(super) async fn forward(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let conversation = |name: &str| ids::conversation(name, &fields.required(name)?);
    let forward = ForwardMessageRequest {
        conversation_id: conversation("fromConversationID")?.to_string(),
        target_conversation_id: conversation("toConversationID")?.to_string(),
        message_id: message_id(fields)?.to_string(),
        ..ForwardMessageRequest::default()
    };
    let message = dialects.backend.call(actor, forward).await?.message.unwrap_or_default();
    Ok(show::message(dialects, actor.address, &message).await?.into())
}

/// Sends a text at a future time; a text whose time has passed is sent at once.
pub(super) async fn schedule(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let text = texts::message("message", &fields.required("message")?)?;
    let at = time::field(fields, "scheduledTime")?;
    let at = at.ok_or_else(|| Fault::invalid("scheduledTime", "is required"))?;
    let schedule = ScheduleMessageRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        content: Some(Content { kind: Some(Kind::Text(text)), attachments: Vec::new() }),
        send_time: Some(time::proto(at)),
        request_id: String::new(),
    };
    let scheduled = dialects.backend.call(actor, schedule).await?.scheduled_message.unwrap_or_default();
    Ok(json!({
        "id": scheduled.scheduled_message_id,
        "scheduledAt": time::iso(scheduled.send_time),
    })
    .into())
}
