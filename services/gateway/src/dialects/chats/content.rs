//! The content of a message, from and to `{type, content}`.

use chassis::fault::Fault;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::{Content, DocumentContent, LinkContent, LocationContent, Message, ProfileContent};
use serde_json::{Map, Value, json};

use crate::dialects::fields::Fields;
use crate::dialects::people::Named;
use crate::dialects::{ids, text, time};

/// The longest id of a document, in characters.
const MAX_DOCUMENT_ID: usize = 256;

/// Reads the field `message`.
pub(super) fn read(fields: &Fields) -> Result<Content, Fault> {
    if fields.get("message").is_none() {
        return Err(Fault::invalid("message", "is required"));
    }
    let message = fields.object("message")?;
    let kind = match message.filled("type").map_err(inside)?.as_deref().unwrap_or("text") {
        "text" => Kind::Text(text::message("message.content", &required(&message)?)?),
        "docId" => Kind::Document(document(&message)?),
        "link" => Kind::Link(link(&message)?),
        "location" => Kind::Location(location(&message)?),
        "profileId" => Kind::Profile(profile(&message)?),
        _ => {
            let rule = "must be one of text, docId, link, location, profileId";
            return Err(Fault::invalid("message.type", rule));
        }
    };
    Ok(Content { kind: Some(kind), attachments: Vec::new() })
}

fn required(message: &Fields) -> Result<String, Fault> {
    message.required("content").map_err(inside)
}

fn document(message: &Fields) -> Result<DocumentContent, Fault> {
    let document_id = required(message)?;
    if document_id.chars().count() > MAX_DOCUMENT_ID {
        return Err(Fault::invalid("message.content", "must have at most 256 characters"));
    }
    Ok(DocumentContent { document_id, ..DocumentContent::default() })
}

fn link(message: &Fields) -> Result<LinkContent, Fault> {
    if let Some(Value::String(url)) = message.get("content") {
        return Ok(LinkContent { url: text::address("message.content", url)?, ..LinkContent::default() });
    }
    let link = message.object("content").map_err(inside)?;
    let url = link.required("url").map_err(within_content)?;
    Ok(LinkContent {
        url: text::address("message.content.url", &url)?,
        title: link.text("title").map_err(within_content)?.unwrap_or_default(),
        description: link.text("description").map_err(within_content)?.unwrap_or_default(),
    })
}

fn location(message: &Fields) -> Result<LocationContent, Fault> {
    if let Some(Value::String(text)) = message.get("content") {
        let numbers = text.split_once(',');
        let numbers = numbers.and_then(|(latitude, longitude)| {
            Some((latitude.trim().parse().ok()?, longitude.trim().parse().ok()?))
        });
        let (latitude, longitude) = numbers.ok_or_else(|| {
            Fault::invalid("message.content", "must be \"latitude,longitude\" or an object with lat and lng")
        })?;
        return Ok(LocationContent { latitude, longitude, name: String::new() });
    }
    let place = message.object("content").map_err(inside)?;
    Ok(LocationContent {
        latitude: degrees(&place, &["lat", "latitude"])?,
        longitude: degrees(&place, &["lng", "longitude", "lon"])?,
        name: place.text("name").map_err(within_content)?.unwrap_or_default(),
    })
}

fn degrees(place: &Fields, names: &[&str]) -> Result<f64, Fault> {
    let number = names.iter().find_map(|name| place.get(name)).and_then(|value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let number = number.filter(|number: &f64| number.is_finite());
    number
        .ok_or_else(|| Fault::invalid(format!("message.content.{}", names[0]), "must be a number of degrees"))
}

fn profile(message: &Fields) -> Result<ProfileContent, Fault> {
    let user = ids::user("message.content", &required(message)?)?;
    Ok(ProfileContent { user_id: user.to_string() })
}

/// Renames the field of a fault to its name in the request.
fn inside(fault: Fault) -> Fault {
    prefixed("message", &fault)
}

fn within_content(fault: Fault) -> Fault {
    prefixed("message.content", &fault)
}

fn prefixed(prefix: &str, fault: &Fault) -> Fault {
    let fields = fault.fields().iter();
    fields.fold(Fault::new(fault.code(), fault.reason()), |fault, (field, rule)| {
        fault.field(format!("{prefix}.{field}"), rule)
    })
}

/// Returns a message as this API shows it.
pub(super) fn show(message: &Message, people: &Named) -> Value {
    let (kind, content) = typed(message, people);
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(message.message_id));
    shown.insert("chatId".to_owned(), json!(message.conversation_id));
    shown.insert("type".to_owned(), json!(kind));
    shown.insert("content".to_owned(), content);
    shown.insert("userId".to_owned(), json!(message.sender_id));
    shown.insert("userUUID".to_owned(), json!(message.sender_id));
    shown.insert("userName".to_owned(), json!(people.name(&message.sender_id)));
    shown.insert("createdAt".to_owned(), json!(time::iso(message.create_time)));
    if message.edit_time.is_some() {
        shown.insert("updatedAt".to_owned(), json!(time::iso(message.edit_time)));
    }
    Value::Object(shown)
}

/// Returns the word for a kind, and its content. Kinds without a word in this API are a line of text under a word of
/// their own.
fn typed(message: &Message, people: &Named) -> (&'static str, Value) {
    let content = message.content.as_ref();
    let line = || {
        let name = |id: &str| people.get(id).map(|user| user.display_name.clone());
        Value::String(text::line(content, name))
    };
    match content.and_then(|content| content.kind.as_ref()) {
        Some(Kind::Text(text)) => ("text", json!(text)),
        Some(Kind::Document(document)) if document.media.is_none() => ("docId", json!(document.document_id)),
        Some(Kind::Link(link)) if link.title.is_empty() && link.description.is_empty() => {
            ("link", json!(link.url))
        }
        Some(Kind::Link(link)) => {
            ("link", json!({"url": link.url, "title": link.title, "description": link.description}))
        }
        Some(Kind::Location(place)) if place.name.is_empty() => {
            ("location", json!({"lat": place.latitude, "lng": place.longitude}))
        }
        Some(Kind::Location(place)) => {
            ("location", json!({"lat": place.latitude, "lng": place.longitude, "name": place.name}))
        }
        Some(Kind::Profile(profile)) => ("profileId", json!(profile.user_id)),
        Some(Kind::Document(_)) => ("document", line()),
        Some(Kind::Secure(_)) => ("secure", line()),
        Some(Kind::Voice(_)) => ("voice", line()),
        Some(Kind::Sticker(_)) => ("sticker", line()),
        Some(Kind::Poll(_)) => ("poll", line()),
        Some(Kind::Schedule(_)) => ("schedule", line()),
        Some(Kind::Call(_)) => ("call", line()),
        Some(Kind::System(_)) => ("system", line()),
        None => ("attachment", line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_message(message: Value) -> Result<Kind, Fault> {
        let body = json!({"message": message}).to_string();
        let content = read(&Fields::from_json(body.as_bytes()).expect("fields"))?;
        Ok(content.kind.expect("a kind"))
    }

    fn round(message: Value) -> Value {
        let content =
            Content { kind: Some(read_message(message).expect("content")), attachments: Vec::new() };
        let message = Message { content: Some(content), ..Message::default() };
        let (kind, content) = typed(&message, &Named::default());
        json!({"type": kind, "content": content})
    }

    #[test]
    fn every_type_comes_back_as_it_was_posted() {
        let user = "0190a5c4-7b1f-7d3e-9a6b-1c2d3e4f5a6b";
        for message in [
            json!({"type": "text", "content": "hi"}),
            json!({"type": "docId", "content": "doc-1"}),
            json!({"type": "link", "content": "https://a.example/"}),
            json!({"type": "link", "content": {"url": "https://a.example/", "title": "A", "description": ""}}),
            json!({"type": "location", "content": {"lat": 1.5, "lng": -2.25}}),
            json!({"type": "location", "content": {"lat": 1.5, "lng": -2.25, "name": "Pier"}}),
            json!({"type": "profileId", "content": user}),
        ] {
            assert_eq!(round(message.clone()), message);
        }
    }

    #[test]
    fn a_location_has_several_spellings() {
        let expected = json!({"type": "location", "content": {"lat": 1.5, "lng": 2.0}});
        for content in
            [json!("1.5,2"), json!({"latitude": 1.5, "longitude": 2}), json!({"lat": "1.5", "lon": "2"})]
        {
            assert_eq!(round(json!({"type": "location", "content": content})), expected);
        }
    }

    #[test]
    fn malformed_content_is_refused_by_name() {
        for (message, field) in [
            (json!("hi"), "message"),
            (Value::Null, "message"),
            (json!({"type": "text"}), "message.content"),
            (json!({"type": "text", "content": {}}), "message.content"),
            (json!({"type": "text", "content": " "}), "message.content"),
            (json!({"type": "gif", "content": "x"}), "message.type"),
            (json!({"type": {}, "content": "x"}), "message.type"),
            (json!({"type": "docId", "content": "x".repeat(257)}), "message.content"),
            (json!({"type": "link", "content": "http://a.example"}), "message.content"),
            (json!({"type": "link", "content": {"url": 5}}), "message.content.url"),
            (json!({"type": "location", "content": "here"}), "message.content"),
            (json!({"type": "location", "content": {"lat": 1}}), "message.content.lng"),
            (json!({"type": "profileId", "content": "ann"}), "message.content"),
        ] {
            let fault = read_message(message.clone()).expect_err("refused");
            assert_eq!(fault.fields()[0].0, field, "{message}");
        }
    }
}
