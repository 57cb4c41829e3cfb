//! The rules of every kind.

use std::time::Duration;

use proptest::prelude::*;
use proto::messaging::v1::content::Kind;

use super::*;

impl Content {
    /// A text.
    pub fn text(says: &str) -> Self {
        Self::of(Kind::Text(says.to_owned()))
    }

    /// A content of this kind.
    pub fn of(kind: Kind) -> Self {
        Self::parse(Some(pb::Content { kind: Some(kind), ..pb::Content::default() }), NOW).expect("a content")
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn url(address: &str) -> Option<pb::Media> {
    Some(pb::Media { source: Some(Source::Url(address.to_owned())) })
}

fn upload() -> Option<pb::Media> {
    Some(pb::Media { source: Some(Source::UploadId(ID.to_owned())) })
}

fn picture() -> Option<pb::Media> {
    url("https://media.example.org/a")
}

fn voice() -> pb::VoiceContent {
    let duration = Some(prost_types::Duration { seconds: 3, nanos: 0 });
    pb::VoiceContent { media: picture(), duration, caption: "a caption".to_owned() }
}

fn poll() -> pb::PollContent {
    pb::PollContent {
        question: "Tea?".to_owned(),
        options: vec!["yes".to_owned(), "no".to_owned()],
        close_time: Some(NOW.plus(Duration::from_secs(60)).to_proto()),
        ..pb::PollContent::default()
    }
}

fn document() -> pb::DocumentContent {
    pb::DocumentContent { media: upload(), document_id: "d-1".to_owned(), title: "Plan.pdf".to_owned() }
}

fn link() -> pb::LinkContent {
    let (title, description) = ("Example".to_owned(), "About\nit".to_owned());
    pb::LinkContent { url: "https://example.org/a".to_owned(), title, description }
}

fn location() -> pb::LocationContent {
    pb::LocationContent { latitude: 52.5, longitude: -13.4, name: "Bridge".to_owned() }
}

fn secure() -> pb::SecureContent {
    let algorithm = "x25519-xchacha20".to_owned();
    pb::SecureContent { ciphertext: vec![1], algorithm, signature: vec![2], device_key_id: ID.to_owned() }
}

fn schedule() -> pb::ScheduleContent {
    pb::ScheduleContent {
        schedule_id: ID.to_owned(),
        title: "Standup".to_owned(),
        start_time: Some(NOW.to_proto()),
        end_time: Some(NOW.plus(Duration::from_secs(60)).to_proto()),
        ..pb::ScheduleContent::default()
    }
}

fn call() -> pb::CallContent {
    pb::CallContent {
        call_id: ID.to_owned(),
        video: true,
        outcome: pb::CallOutcome::Ended.into(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    }
}

fn every_kind() -> Vec<Kind> {
    vec![
        Kind::Text("hello".to_owned()),
        Kind::Secure(secure()),
        Kind::Voice(voice()),
        Kind::Sticker(pb::StickerContent { media: upload(), label: "hi".to_owned() }),
        Kind::Poll(poll()),
        Kind::Document(document()),
        Kind::Link(link()),
        Kind::Location(location()),
        Kind::Profile(pb::ProfileContent { user_id: ID.to_owned() }),
        Kind::Schedule(schedule()),
        Kind::Call(call()),
        Kind::System(pb::SystemContent { text: "Ann came in".to_owned() }),
    ]
}

fn attachment() -> pb::Attachment {
    pb::Attachment {
        kind: pb::AttachmentKind::Image.into(),
        media: picture(),
        name: "a.png".to_owned(),
        media_type: "image/png".to_owned(),
    }
}

fn parse(kind: Kind) -> Result<Content, Error> {
    Content::parse(Some(pb::Content { kind: Some(kind), ..pb::Content::default() }), NOW)
}

#[track_caller]
fn field(outcome: Result<Content, Error>) -> String {
    match outcome {
        Err(Error::InvalidContent { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_that_follows_the_rules_is_taken_as_it_is() {
    for kind in every_kind() {
        let content = parse(kind.clone()).expect("a content");
        assert_eq!(content.kind(), Some(&kind));
        assert_eq!(Content::decode(&content.encode()).expect("a content"), content);
    }
}

#[test]
fn every_field_that_breaks_a_rule_is_named() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let options = |options: &[&str]| options.iter().map(ToString::to_string).collect::<Vec<_>>();
    let in_a_year = NOW.plus(Duration::from_secs(366 * 24 * 3600)).to_proto();
    let beyond = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    let cases = [
        ("text", Kind::Text(" ".to_owned())),
        ("secure.ciphertext", Kind::Secure(pb::SecureContent { ciphertext: vec![], ..secure() })),
        ("secure.ciphertext", Kind::Secure(pb::SecureContent { ciphertext: vec![0; 65_537], ..secure() })),
        ("secure.algorithm", Kind::Secure(pb::SecureContent { algorithm: String::new(), ..secure() })),
        ("secure.algorithm", Kind::Secure(pb::SecureContent { algorithm: "a\nb".to_owned(), ..secure() })),
        ("secure.signature", Kind::Secure(pb::SecureContent { signature: vec![0; 1025], ..secure() })),
        (
            "secure.device_key_id",
            Kind::Secure(pb::SecureContent { device_key_id: "x".to_owned(), ..secure() }),
        ),
        ("voice.media", Kind::Voice(pb::VoiceContent { media: None, ..voice() })),
        ("voice.media.url", Kind::Voice(pb::VoiceContent { media: url("https://a:b@c.example"), ..voice() })),
        ("voice.duration", Kind::Voice(pb::VoiceContent { duration: seconds(0), ..voice() })),
        ("voice.duration", Kind::Voice(pb::VoiceContent { duration: seconds(-1), ..voice() })),
        ("voice.duration", Kind::Voice(pb::VoiceContent { duration: seconds(3601), ..voice() })),
        ("voice.duration", Kind::Voice(pb::VoiceContent { duration: seconds(i64::MAX), ..voice() })),
        ("voice.caption", Kind::Voice(pb::VoiceContent { caption: "a\0".to_owned(), ..voice() })),
        ("voice.caption", Kind::Voice(pb::VoiceContent { caption: "a".repeat(1025), ..voice() })),
        ("sticker.media", Kind::Sticker(pb::StickerContent::default())),
        ("sticker.label", Kind::Sticker(pb::StickerContent { media: picture(), label: "a\nb".to_owned() })),
        ("poll.question", Kind::Poll(pb::PollContent { question: " ".to_owned(), ..poll() })),
        ("poll.question", Kind::Poll(pb::PollContent { question: "a\u{7}".to_owned(), ..poll() })),
        ("poll.options", Kind::Poll(pb::PollContent { options: options(&["one"]), ..poll() })),
        ("poll.options", Kind::Poll(pb::PollContent { options: vec!["x".to_owned(); 21], ..poll() })),
        ("poll.options[1]", Kind::Poll(pb::PollContent { options: options(&["a", " "]), ..poll() })),
        ("poll.options[0]", Kind::Poll(pb::PollContent { options: options(&["a\n", "b"]), ..poll() })),
        ("poll.options", Kind::Poll(pb::PollContent { options: options(&["é", "e\u{301}"]), ..poll() })),
        ("poll.options", Kind::Poll(pb::PollContent { options: options(&["a", "a "]), ..poll() })),
        ("poll.close_time", Kind::Poll(pb::PollContent { close_time: Some(NOW.to_proto()), ..poll() })),
        ("poll.close_time", Kind::Poll(pb::PollContent { close_time: Some(in_a_year), ..poll() })),
        ("poll.close_time", Kind::Poll(pb::PollContent { close_time: Some(beyond), ..poll() })),
        ("document.media", Kind::Document(pb::DocumentContent::default())),
        (
            "document.media",
            Kind::Document(pb::DocumentContent { media: Some(pb::Media::default()), ..document() }),
        ),
        (
            "document.document_id",
            Kind::Document(pb::DocumentContent { document_id: "\0".to_owned(), ..document() }),
        ),
        (
            "document.title",
            Kind::Document(pb::DocumentContent { title: "x\u{202e}fdp".to_owned(), ..document() }),
        ),
        ("link.url", Kind::Link(pb::LinkContent { url: "https://".to_owned(), ..link() })),
        ("link.url", Kind::Link(pb::LinkContent { url: "http://example.org".to_owned(), ..link() })),
        ("link.title", Kind::Link(pb::LinkContent { title: "a\nb".to_owned(), ..link() })),
        ("link.description", Kind::Link(pb::LinkContent { description: "\r".to_owned(), ..link() })),
        ("location.latitude", Kind::Location(pb::LocationContent { latitude: f64::NAN, ..location() })),
        ("location.latitude", Kind::Location(pb::LocationContent { latitude: 90.000_1, ..location() })),
        (
            "location.longitude",
            Kind::Location(pb::LocationContent { longitude: f64::INFINITY, ..location() }),
        ),
        ("location.longitude", Kind::Location(pb::LocationContent { longitude: -180.1, ..location() })),
        ("location.name", Kind::Location(pb::LocationContent { name: "a\tb".to_owned(), ..location() })),
        ("profile.user_id", Kind::Profile(pb::ProfileContent { user_id: "ann".to_owned() })),
        (
            "schedule.schedule_id",
            Kind::Schedule(pb::ScheduleContent { schedule_id: String::new(), ..schedule() }),
        ),
        ("schedule.start_time", Kind::Schedule(pb::ScheduleContent { start_time: None, ..schedule() })),
        (
            "schedule.end_time",
            Kind::Schedule(pb::ScheduleContent { end_time: Some(NOW.to_proto()), ..schedule() }),
        ),
        ("call.call_id", Kind::Call(pb::CallContent { call_id: "1".to_owned(), ..call() })),
        ("call.outcome", Kind::Call(pb::CallContent { outcome: 99, ..call() })),
        ("call.duration", Kind::Call(pb::CallContent { duration: seconds(-1), ..call() })),
        ("system.text", Kind::System(pb::SystemContent { text: "\n".to_owned() })),
    ];
    for (path, kind) in cases {
        let shown = format!("{kind:?}");
        assert_eq!(field(parse(kind)), format!("content.{path}"), "{shown}");
    }
    assert_eq!(field(Content::parse(None, NOW)), "content");
}

#[test]
fn attachments_stand_alone_or_beside_what_takes_them() {
    let with = |kind, attachments| Content::parse(Some(pb::Content { kind, attachments }), NOW);
    assert!(with(None, vec![attachment(); 10]).is_ok());
    assert_eq!(field(with(None, vec![attachment(); 11])), "content.attachments");
    let takes = |kind: &Kind| {
        matches!(kind, Kind::Text(_) | Kind::Poll(_) | Kind::Document(_) | Kind::Link(_) | Kind::Location(_))
    };
    for kind in every_kind() {
        let outcome = with(Some(kind.clone()), vec![attachment()]);
        if takes(&kind) {
            assert!(outcome.is_ok(), "{kind:?}");
        } else {
            assert_eq!(field(outcome), "content.attachments", "{kind:?}");
        }
    }
    let cases = [
        ("kind", pb::Attachment { kind: 0, ..attachment() }),
        ("kind", pb::Attachment { kind: 77, ..attachment() }),
        ("media", pb::Attachment { media: None, ..attachment() }),
        ("media.url", pb::Attachment { media: url("https://exa mple"), ..attachment() }),
        ("name", pb::Attachment { name: "a\nb".to_owned(), ..attachment() }),
        ("media_type", pb::Attachment { media_type: "png".to_owned(), ..attachment() }),
    ];
    for (path, bad) in cases {
        let outcome = with(Some(Kind::Text("x".to_owned())), vec![attachment(), bad]);
        assert_eq!(field(outcome), format!("content.attachments[1].{path}"));
    }
}

#[test]
fn what_is_written_in_several_ways_is_kept_in_one() {
    let shouted = pb::ProfileContent { user_id: ID.to_uppercase() };
    assert_eq!(
        parse(Kind::Profile(shouted)).unwrap(),
        Content::of(Kind::Profile(pb::ProfileContent { user_id: ID.to_owned() }))
    );
    let accented = pb::PollContent { question: "Caf\u{65}\u{301}?".to_owned(), ..poll() };
    let composed = pb::PollContent { question: "Café?".to_owned(), ..poll() };
    assert_eq!(parse(Kind::Poll(accented)).unwrap(), Content::of(Kind::Poll(composed)));
}

#[test]
fn every_file_is_named_and_every_word_found_but_of_a_secure_one() {
    let attachments = vec![pb::Attachment { media: upload(), ..attachment() }, attachment()];
    let content = pb::Content { kind: Some(Kind::Document(document())), attachments };
    let content = Content::parse(Some(content), NOW).unwrap();
    assert_eq!(content.uploads().collect::<Vec<_>>(), [ID, ID]);
    assert_eq!(content.searchable().as_deref(), Some("Plan.pdf\nd-1\na.png\na.png"));
    let words = |kind| parse(kind).unwrap().searchable();
    assert_eq!(words(Kind::Poll(poll())).as_deref(), Some("Tea?\nyes\nno"));
    assert_eq!(words(Kind::Voice(voice())).as_deref(), Some("a caption"));
    assert_eq!(words(Kind::Secure(secure())), None);
    assert_eq!(words(Kind::Profile(pb::ProfileContent { user_id: ID.to_owned() })), None);
}

#[test]
fn a_link_is_found_in_a_text_and_in_a_link_only() {
    assert_eq!(Content::text("see https://example.org/a.").first_link(), Some("https://example.org/a"));
    assert_eq!(Content::of(Kind::Link(link())).first_link(), Some("https://example.org/a"));
    assert_eq!(Content::of(Kind::Voice(voice())).first_link(), None);
}

#[test]
fn only_what_people_word_is_edited_and_into_its_own_kind() {
    let kinds: Vec<_> = every_kind().into_iter().map(Content::of).collect();
    for (place, before) in kinds.iter().enumerate() {
        for (other, after) in kinds.iter().enumerate() {
            let is_worded = matches!(
                before.kind(),
                Some(Kind::Text(_) | Kind::Secure(_) | Kind::Voice(_))
                    | Some(Kind::Document(_) | Kind::Link(_) | Kind::Location(_))
            );
            assert_eq!(before.may_become(after), place == other && is_worded, "{before:?} {after:?}");
        }
    }
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "[a\u{301}\u{958}\u{202e}\u{0}\n\té👍]{0,8}",
        "https://[a-z@:/.\\\\\\[\\]é ]{0,20}",
        Just(ID.to_owned()),
    ]
}

fn media() -> impl Strategy<Value = Option<pb::Media>> {
    let source = prop_oneof![words().prop_map(Source::Url), words().prop_map(Source::UploadId)];
    proptest::option::of(proptest::option::of(source).prop_map(|source| pb::Media { source }))
}

fn spans() -> impl Strategy<Value = Option<prost_types::Duration>> {
    let span = (prop_oneof![any::<i64>(), 0..4000_i64], prop_oneof![any::<i32>(), Just(0)]);
    proptest::option::of(span.prop_map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }))
}

fn times() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
    let seconds = prop_oneof![any::<i64>(), 1_794_999_990..1_826_600_000_i64];
    let time = (seconds, prop_oneof![any::<i32>(), 0..1_000_000_000]);
    proptest::option::of(time.prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }))
}

fn kinds() -> impl Strategy<Value = Kind> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let degrees = || prop_oneof![any::<f64>(), -200.0..200.0];
    prop_oneof![
        words().prop_map(Kind::Text),
        (bytes(), words(), bytes(), words()).prop_map(|(ciphertext, algorithm, signature, device_key_id)| {
            Kind::Secure(pb::SecureContent { ciphertext, algorithm, signature, device_key_id })
        }),
        (media(), spans(), words()).prop_map(|(media, duration, caption)| Kind::Voice(pb::VoiceContent {
            media,
            duration,
            caption
        })),
        (media(), words()).prop_map(|(media, label)| Kind::Sticker(pb::StickerContent { media, label })),
        (words(), proptest::collection::vec(words(), 0..4), times()).prop_map(
            |(question, options, close_time)| {
                Kind::Poll(pb::PollContent { question, options, close_time, ..pb::PollContent::default() })
            }
        ),
        (media(), words(), words()).prop_map(|(media, document_id, title)| {
            Kind::Document(pb::DocumentContent { media, document_id, title })
        }),
        (words(), words(), words()).prop_map(|(url, title, description)| Kind::Link(pb::LinkContent {
            url,
            title,
            description
        })),
        (degrees(), degrees(), words()).prop_map(|(latitude, longitude, name)| {
            Kind::Location(pb::LocationContent { latitude, longitude, name })
        }),
        words().prop_map(|user_id| Kind::Profile(pb::ProfileContent { user_id })),
        (words(), words(), times(), times()).prop_map(|(schedule_id, title, start_time, end_time)| {
            let schedule = pb::ScheduleContent { schedule_id, title, start_time, end_time, ..schedule() };
            Kind::Schedule(schedule)
        }),
        (words(), any::<i32>(), spans()).prop_map(|(call_id, outcome, duration)| {
            Kind::Call(pb::CallContent { call_id, video: false, outcome, duration })
        }),
        words().prop_map(|text| Kind::System(pb::SystemContent { text })),
    ]
}

fn contents() -> impl Strategy<Value = pb::Content> {
    let attachment = (any::<i32>(), media(), words(), words());
    let attachments = attachment.prop_map(|(kind, media, name, media_type)| {
        // Most are of a kind that there is.
        pb::Attachment { kind: kind.rem_euclid(6), media, name, media_type }
    });
    (proptest::option::of(kinds()), proptest::collection::vec(attachments, 0..3))
        .prop_map(|(kind, attachments)| pb::Content { kind, attachments })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_and_what_is_taken_is_taken_again_as_it_is(content in contents()) {
        if let Ok(content) = Content::parse(Some(content), NOW) {
            prop_assert_eq!(&Content::decode(&content.encode()).unwrap(), &content);
            prop_assert_eq!(&Content::parse(Some(content.wire().clone()), NOW).unwrap(), &content);
            let words = content.searchable();
            prop_assert!(!content.is_secure() || words.is_none());
            if let Some(link) = content.first_link() {
                prop_assert!(link.starts_with("https://") && words.unwrap().contains(link));
            }
        }
    }
}
