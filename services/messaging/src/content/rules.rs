//! The rules of each kind of content. They hold whatever way it came: what the contract declares is checked by the codec
//! before, and what matters for safety is looked at here again.

use std::collections::HashSet;
use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;
use proto::messaging::v1 as pb;
use proto::messaging::v1::content::Kind;
use uuid::Uuid;

use super::words;
use crate::error::Error;

/// How far ahead a poll may close.
const LONGEST_POLL: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a recording may be.
const LONGEST_VOICE: Duration = Duration::from_secs(3600);

/// How many attachments there may be.
const ATTACHMENTS: usize = 10;

/// A field that breaks its rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    path: String,
    rule: &'static str,
}

type Check = Result<(), Broken>;

impl Broken {
    fn new(path: &str, rule: &'static str) -> Self {
        Self { path: path.to_owned(), rule }
    }

    fn inside(mut self, outer: &str) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }
}

impl From<Broken> for Error {
    fn from(Broken { path, rule }: Broken) -> Self {
        Self::InvalidContent { path, rule }
    }
}

/// Normalises a whole content and checks it.
pub fn apply(content: &mut pb::Content, now: Timestamp) -> Check {
    check(content, now).map_err(|broken| match broken.path.as_str() {
        "" => Broken::new("content", broken.rule),
        _ => broken.inside("content"),
    })
}

fn check(content: &mut pb::Content, now: Timestamp) -> Check {
    match &mut content.kind {
        Some(kind) => check_kind(kind, now)?,
        None if content.attachments.is_empty() => return Err(Broken::new("", "must say something")),
        None => {}
    }
    if content.attachments.len() > ATTACHMENTS {
        return Err(Broken::new("attachments", "must be at most 10"));
    }
    if !content.attachments.is_empty() && !takes_attachments(content.kind.as_ref()) {
        return Err(Broken::new("attachments", "must be empty beside this kind"));
    }
    for (place, attachment) in content.attachments.iter_mut().enumerate() {
        check_attachment(attachment).map_err(|broken| broken.inside(&format!("attachments[{place}]")))?;
    }
    Ok(())
}

/// Whether files make sense beside a kind: not beside what is sealed, what is a picture or a sound itself, and what
/// services write.
const fn takes_attachments(kind: Option<&Kind>) -> bool {
    match kind {
        None
        | Some(Kind::Text(_) | Kind::Poll(_) | Kind::Document(_) | Kind::Link(_) | Kind::Location(_)) => true,
        Some(
            Kind::Secure(_)
            | Kind::Voice(_)
            | Kind::Sticker(_)
            | Kind::Profile(_)
            | Kind::Schedule(_)
            | Kind::Call(_)
            | Kind::System(_),
        ) => false,
    }
}

fn check_kind(kind: &mut Kind, now: Timestamp) -> Check {
    let (name, outcome) = match kind {
        Kind::Text(text) => return words::text(text).map_err(|rule| Broken::new("text", rule)),
        Kind::Secure(secure) => ("secure", check_secure(secure)),
        Kind::Voice(voice) => ("voice", check_voice(voice)),
        Kind::Sticker(sticker) => ("sticker", check_sticker(sticker)),
        Kind::Poll(poll) => ("poll", check_poll(poll, now)),
        Kind::Document(document) => ("document", check_document(document)),
        Kind::Link(link) => ("link", check_link(link)),
        Kind::Location(location) => ("location", check_location(location)),
        Kind::Profile(profile) => ("profile", check_profile(profile)),
        Kind::Schedule(schedule) => ("schedule", check_schedule(schedule)),
        Kind::Call(call) => ("call", check_call(call)),
        Kind::System(system) => ("system", check_system(system)),
    };
    outcome.map_err(|broken| broken.inside(name))
}

fn check_secure(secure: &mut pb::SecureContent) -> Check {
    if !(1..=65_536).contains(&secure.ciphertext.len()) {
        return Err(Broken::new("ciphertext", "must have 1 to 65536 bytes"));
    }
    // It is signed as it comes, so that it is not normalised.
    let is_word = secure.algorithm.chars().all(|c| !c.is_control());
    if !is_word || !(1..=64).contains(&secure.algorithm.chars().count()) {
        return Err(Broken::new(
            "algorithm",
            "must have 1 to 64 characters, none of them a control character",
        ));
    }
    if secure.signature.len() > 1024 {
        return Err(Broken::new("signature", "must have at most 1024 bytes"));
    }
    if secure.device_key_id.is_empty() {
        return Ok(());
    }
    uuid("device_key_id", &mut secure.device_key_id)
}

fn check_voice(voice: &mut pb::VoiceContent) -> Check {
    check_media(voice.media.as_mut())?;
    if let Some(duration) = &voice.duration {
        let is_fine = span(duration).is_some_and(|span| !span.is_zero() && span <= LONGEST_VOICE);
        rule(is_fine, "duration", "must be more than nothing and at most an hour")?;
    }
    in_field("caption", words::paragraph(&mut voice.caption, 1024))
}

fn check_sticker(sticker: &mut pb::StickerContent) -> Check {
    check_media(sticker.media.as_mut())?;
    in_field("label", words::line(&mut sticker.label, 32))
}

fn check_poll(poll: &mut pb::PollContent, now: Timestamp) -> Check {
    in_field("question", words::paragraph(&mut poll.question, 300))?;
    in_field("question", words::something(&poll.question))?;
    rule((2..=20).contains(&poll.options.len()), "options", "must be 2 to 20")?;
    for (place, option) in poll.options.iter_mut().enumerate() {
        let checked = words::line(option, 100).and_then(|()| words::something(option));
        in_field(&format!("options[{place}]"), checked)?;
    }
    let mut seen = HashSet::new();
    let are_distinct = poll.options.iter().all(|option| seen.insert(option.trim()));
    rule(are_distinct, "options", "must be different from one another")?;
    if let Some(time) = &mut poll.close_time {
        let closes =
            Timestamp::from_proto(time).filter(|time| *time > now && *time <= now.plus(LONGEST_POLL));
        let closes = closes.ok_or_else(|| Broken::new("close_time", "must be to come, and within a year"))?;
        *time = closes.to_proto();
    }
    Ok(())
}

fn check_document(document: &mut pb::DocumentContent) -> Check {
    in_field("document_id", words::line(&mut document.document_id, 256))?;
    in_field("title", words::line(&mut document.title, 255))?;
    match document.media.as_mut() {
        None => {
            rule(!document.document_id.trim().is_empty(), "media", "must be set when there is no document_id")
        }
        media => check_media(media),
    }
}

fn check_link(link: &mut pb::LinkContent) -> Check {
    in_field("url", words::https(&link.url))?;
    in_field("title", words::line(&mut link.title, 300))?;
    in_field("description", words::paragraph(&mut link.description, 1024))
}

fn check_location(location: &mut pb::LocationContent) -> Check {
    // No range has a NaN in it.
    rule((-90.0..=90.0).contains(&location.latitude), "latitude", "must be between -90 and 90")?;
    rule((-180.0..=180.0).contains(&location.longitude), "longitude", "must be between -180 and 180")?;
    in_field("name", words::line(&mut location.name, 255))
}

fn check_profile(profile: &mut pb::ProfileContent) -> Check {
    let user = UserId::parse(&profile.user_id).map_err(|_| Broken::new("user_id", "must be a UUID"))?;
    profile.user_id = user.to_string();
    Ok(())
}

fn check_schedule(schedule: &mut pb::ScheduleContent) -> Check {
    uuid("schedule_id", &mut schedule.schedule_id)?;
    in_field("title", words::line(&mut schedule.title, 255))?;
    let start = time("start_time", schedule.start_time.as_ref())?;
    let end = time("end_time", schedule.end_time.as_ref())?;
    rule(end > start, "end_time", "must be after start_time")
}

fn check_call(call: &mut pb::CallContent) -> Check {
    uuid("call_id", &mut call.call_id)?;
    rule(call.outcome() != pb::CallOutcome::Unspecified, "outcome", "must be a known outcome")?;
    let is_fine = call.duration.as_ref().is_none_or(|duration| span(duration).is_some());
    rule(is_fine, "duration", "must not be negative")
}

fn check_system(system: &mut pb::SystemContent) -> Check {
    in_field("text", words::paragraph(&mut system.text, 1024))?;
    in_field("text", words::something(&system.text))
}

fn check_attachment(attachment: &mut pb::Attachment) -> Check {
    rule(attachment.kind() != pb::AttachmentKind::Unspecified, "kind", "must be a known kind")?;
    check_media(attachment.media.as_mut())?;
    in_field("name", words::line(&mut attachment.name, 255))?;
    in_field("media_type", words::media_type(&attachment.media_type))
}

/// Checks where the bytes of something are.
fn check_media(media: Option<&mut pb::Media>) -> Check {
    match media.and_then(|media| media.source.as_mut()) {
        Some(pb::media::Source::UploadId(id)) => uuid("media.upload_id", id),
        Some(pb::media::Source::Url(url)) => in_field("media.url", words::https(url)),
        None => Err(Broken::new("media", "must be an upload or an https address")),
    }
}

/// Checks an id and writes it in its one form.
fn uuid(field: &str, text: &mut String) -> Check {
    let id = Uuid::try_parse(text).map_err(|_| Broken::new(field, "must be a UUID"))?;
    *text = id.to_string();
    Ok(())
}

fn time(field: &str, time: Option<&prost_types::Timestamp>) -> Result<Timestamp, Broken> {
    time.and_then(Timestamp::from_proto).ok_or_else(|| Broken::new(field, "must be a time of the calendar"))
}

/// A span that is not negative; `None` for others, and for what is none.
fn span(duration: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

fn rule(holds: bool, field: &str, rule: &'static str) -> Check {
    if holds { Ok(()) } else { Err(Broken::new(field, rule)) }
}

fn in_field(field: &str, outcome: Result<(), &'static str>) -> Check {
    outcome.map_err(|rule| Broken::new(field, rule))
}
