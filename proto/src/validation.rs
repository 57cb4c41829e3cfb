//! What the generated checks are made of.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use crate::violation::{Incoming, MOST_VIOLATIONS, Violation};

include!(concat!(env!("OUT_DIR"), "/validation.rs"));

#[cfg(test)]
include!(concat!(env!("OUT_DIR"), "/testdata_validation.rs"));

/// So much of a map's key is shown in a path: whoever sends a key decides how long it is.
const LONGEST_KEY: usize = 64;

/// A message with rules, its own or those of messages in it.
pub(crate) trait Rules {
    /// Adds the rules that it breaks to the report.
    fn inspect(&self, at: &Path<'_>, report: &mut Report);
}

/// All rules that a message breaks.
pub(crate) fn check(message: &impl Rules) -> Vec<Violation> {
    let mut report = Report::default();
    message.inspect(&Path::root(), &mut report);
    report.violations
}

/// The broken rules found until now.
#[derive(Default)]
pub(crate) struct Report {
    violations: Vec<Violation>,
}

impl Report {
    /// Adds a broken rule, unless there are more than anyone would read.
    pub(crate) fn add(&mut self, at: &Path<'_>, rule: &str) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(Violation { field: at.to_string(), rule: rule.to_owned() });
        }
    }

    /// Adds a rule when it does not hold.
    pub(crate) fn require(&mut self, holds: bool, at: &Path<'_>, rule: &str) {
        if !holds {
            self.add(at, rule);
        }
    }
}

/// Where a value stands in the message. Lives on the stack and becomes text only when a rule is broken: most messages
/// break none.
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'static str),
    Index(usize),
    Key(&'a dyn Key),
}

/// The key of a map, as a path shows it.
pub(crate) trait Key {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Path<'_> {
    pub(crate) fn root() -> Self {
        Path { parent: None, step: Step::Root }
    }

    pub(crate) fn field(&self, name: &'static str) -> Path<'_> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    pub(crate) fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) fn key<'a>(&'a self, key: &'a dyn Key) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => {
                let inside = self.parent.is_some_and(|parent| !matches!(parent.step, Step::Root));
                write!(f, "{}{name}", if inside { "." } else { "" })
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                f.write_str("[")?;
                key.show(f)?;
                f.write_str("]")
            }
        }
    }
}

impl Key for String {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.char_indices().nth(LONGEST_KEY) {
            Some((end, _)) => write!(f, "{:?}...", &self[..end]),
            None => write!(f, "{self:?}"),
        }
    }
}

macro_rules! keys {
    ($($kind:ty),*) => {$(
        impl Key for $kind {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    )*};
}

keys!(i32, i64, u32, u64, bool);

/// Whether it is a UUID in its usual form: 36 characters, with hyphens.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// Whether it is an e-mail address by the rule of HTML's input field: a local part of a known set of characters, and
/// labels of letters, digits and inner hyphens, up to 63 each.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let in_local = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !local.is_empty() && local.bytes().all(in_local) && domain.split('.').all(is_label)
}

/// Whether no item stands in the list twice.
pub(crate) fn is_unique<T: Eq + Hash>(items: &[T]) -> bool {
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().all(|item| seen.insert(item))
}

/// A span of time as one number.
pub(crate) fn nanoseconds(span: &prost_types::Duration) -> i128 {
    i128::from(span.seconds) * 1_000_000_000 + i128::from(span.nanos)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost_types::Duration;

    use crate::auth::v1 as auth;
    use crate::gateway::v1 as gateway;
    use crate::messaging::v1 as messaging;
    use crate::testdata::v1::{
        Bytes, Choice, Color, Colors, Lists, Maps, Numbers, Required, Spans, Texts, Tree, choice,
    };
    use crate::{Incoming, Violation};

    const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    /// The violations as `field: rule`.
    fn broken(message: &impl Incoming) -> Vec<String> {
        let show = |Violation { field, rule }| format!("{field}: {rule}");
        message.check().into_iter().map(show).collect()
    }

    fn numbers() -> Numbers {
        Numbers { ratio: 0.0, open: 1.0, small: 3, large: 0, maybe: None, unless_zero: 0 }
    }

    fn texts() -> Texts {
        Texts {
            characters: "ab".to_owned(),
            bytes: "ab".to_owned(),
            prefix: "https://example.org".to_owned(),
            choice: "red".to_owned(),
            email: "ann@example.org".to_owned(),
            uuid: UUID.to_owned(),
            uuid_or_empty: String::new(),
            maybe: None,
            maybe_empty: None,
            r#type: String::new(),
        }
    }

    fn bytes(length: usize) -> Bytes {
        Bytes { key: vec![0; length] }
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        assert_eq!(broken(&numbers()), Vec::<String>::new());
        let outside = Numbers {
            ratio: 1.5,
            open: -1.0,
            small: -3,
            large: 5_000_000_000,
            maybe: Some(0),
            unless_zero: 9,
        };
        assert_eq!(
            broken(&outside),
            [
                "ratio: must be less than 1.5",
                "open: must be more than -1",
                "small: must be more than -3",
                "large: must be less than 5000000000",
                "maybe: must be at least 10",
                "unless_zero: must be at least 10",
            ]
        );
        let below = Numbers { ratio: -0.1, open: 1.1, small: 4, large: -5_000_000_001, ..numbers() };
        assert_eq!(
            broken(&below),
            [
                "ratio: must be at least 0",
                "open: must be at most 1",
                "small: must be at most 3",
                "large: must be at least -5000000000",
            ]
        );
    }

    #[test]
    fn what_is_not_a_number_is_outside_of_every_bound() {
        let neither = Numbers { ratio: f64::NAN, open: f64::NAN, ..numbers() };
        let fields = neither.check().into_iter().map(|violation| violation.field).collect::<Vec<_>>();
        assert_eq!(fields, ["ratio", "ratio", "open", "open"]);
    }

    #[test]
    fn texts_are_measured_in_characters_or_bytes() {
        assert_eq!(broken(&texts()), Vec::<String>::new());
        let umlauts = Texts { characters: "äöü".to_owned(), bytes: "äö".to_owned(), ..texts() };
        assert_eq!(broken(&umlauts), ["bytes: must have at most 3 bytes"]);
        let short = Texts { characters: "ä".to_owned(), bytes: "a".to_owned(), ..texts() };
        assert_eq!(
            broken(&short),
            ["characters: must have at least 2 characters", "bytes: must have at least 2 bytes"]
        );
        let long = Texts { characters: "abcd".to_owned(), r#type: "ab".to_owned(), ..texts() };
        assert_eq!(
            broken(&long),
            ["characters: must have at most 3 characters", "type: must have at most 1 character"]
        );
    }

    #[test]
    fn texts_have_the_form_that_is_asked_for() {
        let wrong = Texts {
            prefix: "http://example.org".to_owned(),
            choice: "blue".to_owned(),
            email: "ann".to_owned(),
            uuid: String::new(),
            uuid_or_empty: "x".to_owned(),
            maybe: Some(String::new()),
            maybe_empty: Some("x".to_owned()),
            ..texts()
        };
        assert_eq!(
            broken(&wrong),
            [
                "prefix: must begin with https://",
                "choice: must be one of red, green",
                "email: must be an e-mail address",
                "uuid: must be a UUID",
                "uuid_or_empty: must be a UUID",
                "maybe: must have at least 1 character",
                "maybe_empty: must be a UUID",
            ]
        );
        let empty = Texts { maybe_empty: Some(String::new()), ..texts() };
        assert_eq!(broken(&empty), Vec::<String>::new());
    }

    #[test]
    fn a_uuid_is_in_its_usual_form() {
        for good in [UUID, "01890A5D-AC96-774B-BCCE-B302099A8057", "00000000-0000-0000-0000-000000000000"] {
            assert!(super::is_uuid(good), "{good}");
        }
        let simple = UUID.replace('-', "");
        let braced = format!("{{{UUID}}}");
        let misplaced = "01890a5da-c96-774b-bcce-b302099a8057";
        let not_hex = "01890a5d-ac96-774b-bcce-b302099a805g";
        for bad in ["", simple.as_str(), braced.as_str(), misplaced, not_hex, "äääääääääääääääääa"]
        {
            assert!(!super::is_uuid(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_is_what_a_browser_takes() {
        for good in ["a@b", "ann.b+c@mail.example.org", "!#$%&'*+/=?^_`{|}~-@x-y.z"] {
            assert!(super::is_email(good), "{good}");
        }
        let long_label = format!("a@{}.org", "b".repeat(64));
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b@c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "a@b.",
            "ä@b",
            "a@ä",
            &long_label,
        ] {
            assert!(!super::is_email(bad), "{bad}");
        }
    }

    #[test]
    fn bytes_are_counted() {
        assert_eq!(broken(&bytes(2)), Vec::<String>::new());
        assert_eq!(broken(&bytes(0)), ["key: must have at least 1 byte"]);
        assert_eq!(broken(&bytes(3)), ["key: must have at most 2 bytes"]);
    }

    #[test]
    fn enums_are_known_and_not_excluded() {
        let good = Colors { known: Color::Unspecified.into(), some: Color::Red.into() };
        assert_eq!(broken(&good), Vec::<String>::new());
        assert_eq!(
            broken(&Colors { known: 2, some: 0 }),
            ["known: must be a value that is known", "some: must not be UNSPECIFIED"]
        );
        // Only `defined_only` minds a value that nobody knows.
        assert_eq!(broken(&Colors { known: 5, some: 2 }), Vec::<String>::new());
        assert_eq!(broken(&Colors { known: 5, some: 5 }), ["some: must not be GREEN"]);
    }

    #[test]
    fn what_is_required_is_there() {
        let missing = Required::default();
        assert_eq!(
            broken(&missing),
            [
                "message: must be set",
                "text: must be set",
                "number: must be set",
                "list: must be set",
                "maybe: must be set",
            ]
        );
        let mut there = Required {
            message: Some(bytes(1)),
            text: "a".to_owned(),
            number: 5,
            list: vec![String::new()],
            maybe: Some(0),
        };
        assert_eq!(broken(&there), Vec::<String>::new());
        there.message = Some(bytes(0));
        there.number = 4;
        assert_eq!(broken(&there), ["message.key: must have at least 1 byte", "number: must be at least 5"]);
    }

    #[test]
    fn spans_of_time_stay_within_their_bounds() {
        let span = |seconds, nanos| Some(Duration { seconds, nanos });
        let good = [(None, None), (span(0, 0), span(0, 1)), (span(60, 0), span(59, 999_999_999))];
        for (closed, open) in good {
            assert_eq!(broken(&Spans { closed, open }), Vec::<String>::new());
        }
        assert_eq!(
            broken(&Spans { closed: span(0, -1), open: span(0, 0) }),
            ["closed: must be at least 0s", "open: must be more than 0s"]
        );
        assert_eq!(
            broken(&Spans { closed: span(60, 1), open: span(60, 0) }),
            ["closed: must be at most 60s", "open: must be less than 60s"]
        );
    }

    #[test]
    fn lists_are_counted_and_their_items_checked() {
        let text = |text: &str| text.to_owned();
        let good = Lists {
            some: vec![1],
            different: vec![text("a"), text("b")],
            each: vec![text(UUID)],
            each_or_empty: vec![text(""), text("ab")],
            messages: vec![bytes(1)],
            none_or_two: vec![],
        };
        assert_eq!(broken(&good), Vec::<String>::new());
        let bad = Lists {
            some: vec![],
            different: vec![text("a"), text("b"), text("a")],
            each: vec![text(UUID), text("")],
            each_or_empty: vec![text(""), text("a")],
            messages: vec![bytes(1), bytes(1), bytes(0)],
            none_or_two: vec![1],
        };
        assert_eq!(
            broken(&bad),
            [
                "some: must have at least 1 item",
                "different: must not contain an item twice",
                "each[1]: must be a UUID",
                "each_or_empty[1]: must have at least 2 characters",
                "messages[2].key: must have at least 1 byte",
                "none_or_two: must have at least 2 items",
            ]
        );
        let many = Lists { some: vec![1; 4], ..good };
        assert_eq!(broken(&many), ["some: must have at most 3 items"]);
    }

    #[test]
    fn maps_are_counted_and_their_keys_and_values_checked() {
        let texts = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<HashMap<_, _>>()
        };
        let good = Maps { texts: texts(&[("a", "b"), ("abc", "d")]), messages: HashMap::new() };
        assert_eq!(broken(&good), Vec::<String>::new());

        let many = Maps { texts: texts(&[("a", "b"), ("b", "c"), ("c", "d")]), ..good.clone() };
        assert_eq!(broken(&many), ["texts: must have at most 2 entries"]);

        let bad =
            Maps { texts: texts(&[("ab\"cd", "")]), messages: HashMap::from([("x".to_owned(), bytes(0))]) };
        assert_eq!(
            broken(&bad),
            [
                r#"texts["ab\"cd"]: must have at least 1 character"#,
                r#"texts["ab\"cd"]: key must have at most 3 characters"#,
                r#"messages["x"].key: must have at least 1 byte"#,
            ]
        );

        let key = "k".repeat(1000);
        let long = Maps { texts: texts(&[(&key, "a")]), ..good };
        assert_eq!(
            broken(&long),
            [format!("texts[\"{}\"...]: key must have at most 3 characters", &key[..64])]
        );
    }

    #[test]
    fn one_arm_is_set_and_keeps_its_rules() {
        let choice = |choice| Choice { choice, other: None };
        assert_eq!(broken(&choice(None)), ["choice: must be set: one of text, bytes, number"]);
        assert_eq!(broken(&choice(Some(choice::Choice::Number(0)))), Vec::<String>::new());
        assert_eq!(
            broken(&choice(Some(choice::Choice::Text(String::new())))),
            ["text: must have at least 1 character"]
        );
        assert_eq!(
            broken(&choice(Some(choice::Choice::Bytes(bytes(0))))),
            ["bytes.key: must have at least 1 byte"]
        );
        let both = Choice { choice: Some(choice::Choice::Number(1)), other: Some(choice::Other::Count(0)) };
        assert_eq!(broken(&both), ["count: must be at least 1"]);
        let flag = Choice { other: Some(choice::Other::Flag(false)), ..both };
        assert_eq!(broken(&flag), Vec::<String>::new());
    }

    #[test]
    fn a_message_in_itself_is_checked_all_the_way_down() {
        let leaf = |name: &str| Tree { name: name.to_owned(), ..Tree::default() };
        let tree = Tree {
            only: Some(Box::new(Tree { children: vec![leaf("abc"), leaf("abcd")], ..leaf("a") })),
            unchecked: Some(Box::new(leaf("abcd"))),
            ..leaf("a")
        };
        assert_eq!(broken(&tree), ["only.children[1].name: must have at most 3 characters"]);
    }

    #[test]
    fn no_more_is_told_than_anyone_would_read() {
        let lists = Lists { some: vec![1], each: vec![String::new(); 1000], ..Lists::default() };
        assert_eq!(lists.check().len(), 20);
    }

    #[test]
    fn requests_of_the_contract_are_checked() {
        let send = messaging::SendMessageRequest {
            target: Some(messaging::send_message_request::Target::ConversationId("x".to_owned())),
            content: Some(messaging::Content {
                kind: Some(messaging::content::Kind::Text(String::new())),
                attachments: Vec::new(),
            }),
            client_message_id: "c".repeat(129),
            reply_to_message_id: String::new(),
            validate_only: false,
            expire_after: Some(Duration { seconds: 0, nanos: 999_999_999 }),
            scheduled_time: None,
        };
        let rules = [
            "content.text: must have at least 1 character",
            "client_message_id: must have at most 128 characters",
            "expire_after: must be at least 1s",
            "conversation_id: must be a UUID",
        ];
        assert_eq!(broken(&send), rules);

        // Checked send by send, by whoever carries it out.
        let carried = messaging::CarriedSend { request: Some(send.clone()), ..Default::default() };
        assert_eq!(broken(&messaging::SendMessagesRequest { sends: vec![carried] }), Vec::<String>::new());

        // A frame is no rpc; the gateway checks it the same way.
        let frame = gateway::ClientFrame {
            id: String::new(),
            command: Some(gateway::client_frame::Command::SendMessage(send)),
        };
        assert_eq!(broken(&frame), rules.map(|rule| format!("send_message.{rule}")));
        assert_eq!(broken(&gateway::ClientFrame::default()).len(), 1);

        let heads = vec![messaging::Head { conversation_id: UUID.to_owned(), sequence: -1 }];
        assert_eq!(
            broken(&messaging::SyncRequest { heads, ..Default::default() }),
            ["heads[0].sequence: must be at least 0"]
        );
    }

    #[test]
    fn answers_are_trusted() {
        let heads = vec![messaging::Head::default()];
        let answer = messaging::ListHeadsResponse { conversations: heads, ..Default::default() };
        assert_eq!(broken(&answer), Vec::<String>::new());
        const { assert!(!messaging::ListHeadsResponse::REQUEST && auth::LoginRequest::REQUEST) };
    }
}
