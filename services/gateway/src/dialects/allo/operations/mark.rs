//! Reading, pinning, reacting to, voting on and reporting messages.

use chassis::fault::Fault;
use proto::messaging::v1::{
    AddReactionRequest, AdvanceWatermarkRequest, Message, PinMessageRequest, ReportMessageRequest,
    ReportReason, UnpinMessageRequest, VotePollRequest,
};
use serde_json::json;

use super::{Done, conversation_id, message_id};
use crate::dialects::allo::show;
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::{Dialects, time};
use crate::http::error::Problem;

/// Marks a message and everything before it as read.
pub(super) async fn read(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let id = message_id(fields)?.to_string();
    let advance = AdvanceWatermarkRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        read_message_id: id.clone(),
        ..AdvanceWatermarkRequest::default()
    };
    dialects.backend.call(actor, advance).await?;
    Ok(json!({"messageId": id, "status": "read"}).into())
}

pub(super) async fn pin(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let (conversation_id, id) = (conversation_id(fields)?.to_string(), message_id(fields)?.to_string());
    let message: Option<Message> = match fields.boolean("pin")?.unwrap_or(true) {
        true => {
            let pin = PinMessageRequest { conversation_id, message_id: id.clone() };
            dialects.backend.call(actor, pin).await?.message
        }
        false => {
            let unpin = UnpinMessageRequest { conversation_id, message_id: id.clone() };
            dialects.backend.call(actor, unpin).await?.message
        }
    };
    let pin = message.unwrap_or_default().pin;
    let by = pin.as_ref().map(|pin| pin.user_id.as_str());
    let people = dialects.people.named(by, actor.address).await?;
    Ok(json!({
        "messageId": id,
        "pinned": pin.is_some(),
        "pinnedAt": pin.as_ref().map(|pin| time::iso(pin.pin_time)),
        "pinnedBy": by.map(|id| show::name(&people, id)),
    })
    .into())
}

pub(super) async fn react(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let (id, emoji) = (message_id(fields)?.to_string(), fields.required("emoji")?);
    let react = AddReactionRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        message_id: id.clone(),
        emoji: emoji.clone(),
    };
    dialects.backend.call(actor, react).await?;
    let own = actor.user_id.to_string();
    let people = dialects.people.named([own.as_str()], actor.address).await?;
    Ok(json!({"messageId": id, "emoji": emoji, "userID": show::name(&people, &own)}).into())
}

/// Votes for one option; a second vote of the same user moves the first.
pub(super) async fn vote(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let id = message_id(fields)?.to_string();
    let index = fields.integer("optionIndex")?;
    let index = index.and_then(|index| i32::try_from(index).ok()).filter(|index| *index >= 0);
    let index = index.ok_or_else(|| Fault::invalid("optionIndex", "must be the index of an option"))?;
    let vote = VotePollRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        message_id: id.clone(),
        option_indexes: vec![index],
    };
    let message = dialects.backend.call(actor, vote).await?.message.unwrap_or_default();
    let votes = message.poll_result.unwrap_or_default().counts;
    Ok(json!({"messageId": id, "optionIndex": index, "votes": votes}).into())
}

/// Reports a message to the moderators of the conversation.
pub(super) async fn report(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let (id, reason) = (message_id(fields)?.to_string(), fields.required("reason")?);
    let report = ReportMessageRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        message_id: id.clone(),
        reason: ReportReason::Other.into(),
        comment: reason.clone(),
    };
    dialects.backend.call(actor, report).await?;
    let own = actor.user_id.to_string();
    let people = dialects.people.named([own.as_str()], actor.address).await?;
    Ok(json!({"messageId": id, "reporter": show::name(&people, &own), "reason": reason}).into())
}
