//! A conversation: values that cannot be wrong once built.

use chassis::clock::Timestamp;
use chassis::text;
use proto::id::{ConversationId, UserId};

use crate::error::Error;
use crate::request::Request;
use crate::role::Role;

/// Where messages live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Who may be in it, and how one comes in.
    pub kind: Kind,
    /// Its name; may be empty.
    pub title: Title,
    /// What it is about; may be empty.
    pub topic: Topic,
    /// How long a member waits between two messages.
    pub slow_mode: SlowMode,
    /// Whether it takes secure messages only. Once it does, it always does.
    pub secure: bool,
    /// Whether everyone may read what is in it, members or not.
    pub public_read: bool,
    /// The namespace of the external accounts that it is for; `None` when it is for everyone else.
    pub external_namespace: Option<Namespace>,
    /// How many members it has.
    pub member_count: i64,
    /// Goes up by one with every change of members, of roles and of `public_read`, from 1.
    pub membership_version: i64,
    /// The two people of a direct conversation.
    pub pair: Option<Pair>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When its title, topic or settings were last changed.
    pub update_time: Timestamp,
}

/// A conversation as one user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The conversation.
    pub conversation: Conversation,
    /// Who looks.
    pub viewer: UserId,
    /// The role of the one who looks; `None` for one who is not a member.
    pub own_role: Option<Role>,
    /// In a direct conversation: the last message request between the two.
    pub request: Option<Request>,
}

impl View {
    /// Whether the one who looks may know that the conversation exists. Rooms are shown to everyone who is signed in, what
    /// everyone reads to the anonymous viewer too.
    pub fn is_visible(&self) -> bool {
        self.may_read() || (self.conversation.is_visible_to_users() && !is_anonymous(self.viewer))
    }

    /// Whether the one who looks may read what is in it.
    pub fn may_read(&self) -> bool {
        self.own_role.is_some() || self.conversation.public_read
    }

    /// Whether the one who looks is shown the members with this role or a higher one. Of a conversation that everyone
    /// reads, everyone sees those who moderate it.
    pub fn shows_members(&self, at_least: Role) -> bool {
        self.own_role.is_some() || (self.conversation.public_read && at_least >= Role::Moderator)
    }

    /// In a direct conversation: the other person.
    pub fn peer(&self) -> Option<UserId> {
        self.conversation.pair.map(|pair| pair.other_than(self.viewer))
    }

    /// The last message request, as the one who looks may know it.
    pub fn request_seen(&self) -> Option<Request> {
        self.request.clone().filter(|_| self.own_role.is_some())?.seen_by(self.viewer)
    }
}

impl Conversation {
    /// The role of one who wants to change something, when that is at least this one. `own` is `None` for one who is
    /// not a member. A direct conversation is between two equals for ever: nothing about it can be changed here.
    pub fn require(&self, own: Option<Role>, least: Role) -> Result<Role, Error> {
        let own = own.ok_or_else(|| self.refuses_stranger())?;
        self.require_changeable()?;
        if own < least { Err(Error::RoleTooLow) } else { Ok(own) }
    }

    /// Refuses a kind that stays as it is.
    pub fn require_changeable(&self) -> Result<(), Error> {
        match self.kind {
            Kind::Direct => Err(Error::WrongKind),
            Kind::Group | Kind::Discussion | Kind::Channel | Kind::Room => Ok(()),
        }
    }

    /// How it reads when a user who is not a member wants what only members may: of a conversation that is not visible to
    /// every user a stranger learns nothing.
    pub fn refuses_stranger(&self) -> Error {
        if self.is_visible_to_users() { Error::RoleTooLow } else { Error::ConversationNotFound(self.id) }
    }

    /// Whether every user who knows its id may know that it exists.
    pub fn is_visible_to_users(&self) -> bool {
        self.kind == Kind::Room || self.public_read
    }

    /// Whether its owner may let everyone read it: a room, and a group or channel of external accounts.
    pub fn can_be_public(&self) -> bool {
        match self.kind {
            Kind::Room => true,
            Kind::Group | Kind::Channel => self.external_namespace.is_some(),
            Kind::Direct | Kind::Discussion => false,
        }
    }
}

/// Whether a viewer is the anonymous viewer, for whom the nil UUID stands.
pub fn is_anonymous(viewer: UserId) -> bool {
    viewer.uuid().is_nil()
}

/// Who may be in a conversation, and how one comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exactly two people; one such conversation per pair, for ever.
    Direct,
    /// People come in when a moderator or the owner adds them.
    Group,
    /// A group that is found again by its set of members, until that set changes.
    Discussion,
    /// Like a group, but only owner and moderators write.
    Channel,
    /// Anyone who knows the id may join.
    Room,
}

/// Where external accounts have their names, such as `allo`. Two external accounts are with each other only when theirs is
/// the same. Auth makes it, and it is taken as it comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// The namespace that auth or the database names.
    pub(crate) fn known(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Two different people, without order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    low: UserId,
    high: UserId,
}

impl Pair {
    /// The pair of these two; `None` when they are one.
    pub fn of(one: UserId, other: UserId) -> Option<Self> {
        (one != other).then(|| Self { low: one.min(other), high: one.max(other) })
    }

    /// The one with the smaller id.
    pub fn low(self) -> UserId {
        self.low
    }

    /// The one with the larger id.
    pub fn high(self) -> UserId {
        self.high
    }

    /// The other one of the two.
    pub fn other_than(self, user: UserId) -> UserId {
        if user == self.low { self.high } else { self.low }
    }
}

/// A conversation's name: one line of at most 128 characters; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Title(String);

impl Title {
    /// The most characters that a title has.
    pub const MAX: usize = 128;

    /// Reads a title; white space around it does not count.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.chars().count() > Self::MAX {
            return Err(Error::Field { field: "title", rule: "must have at most 128 characters" });
        }
        if text.chars().any(is_unprintable) {
            return Err(Error::Field { field: "title", rule: "must have no control characters" });
        }
        if text::is_filled_with_blanks(text) {
            return Err(Error::Field { field: "title", rule: text::VISIBLE_OR_EMPTY });
        }
        Ok(Self(text.to_owned()))
    }

    /// A title that was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a conversation is about: at most 1,024 characters, several lines if need be; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// The most characters that a topic has.
    pub const MAX: usize = 1024;

    /// Reads a topic; white space around it does not count.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.chars().count() > Self::MAX {
            return Err(Error::Field { field: "topic", rule: "must have at most 1024 characters" });
        }
        if text.chars().any(|letter| is_unprintable(letter) && !matches!(letter, '\n' | '\t')) {
            return Err(Error::Field {
                field: "topic",
                rule: "must have no control characters but line breaks and tabs",
            });
        }
        if text::is_filled_with_blanks(text) {
            return Err(Error::Field { field: "topic", rule: text::VISIBLE_OR_EMPTY });
        }
        Ok(Self(text.to_owned()))
    }

    /// A topic that was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, and those that turn the direction of the text around them: a title must not be able to disguise
/// what stands beside it.
fn is_unprintable(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How long a member waits between two messages, to the millisecond; zero for no wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlowMode(i64);

impl SlowMode {
    /// Nobody waits.
    pub const NONE: Self = Self(0);
    /// The longest wait: 6 hours.
    pub const MAX: Self = Self(6 * 60 * 60 * 1000);

    /// A wait of so many milliseconds, cut to between none and the longest.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, Self::MAX.0))
    }

    /// In milliseconds.
    pub fn as_millis(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_no_order() {
        let [ann, bob] = [UserId::generate(), UserId::generate()];
        let pair = Pair::of(ann, bob);
        assert_eq!(pair, Pair::of(bob, ann));
        assert_eq!(pair.map(|pair| pair.other_than(ann)), Some(bob));
        assert_eq!(pair.map(|pair| pair.other_than(bob)), Some(ann));
        assert!(pair.is_some_and(|pair| pair.low() < pair.high()));
        assert_eq!(Pair::of(ann, ann), None);
    }

    #[test]
    fn a_title_is_one_printable_line() {
        let title = |text: &str| Title::parse(text).map(|title| title.as_str().to_owned()).ok();
        assert_eq!(title("  Lunch – mañana 🍜 "), Some("Lunch – mañana 🍜".to_owned()));
        assert_eq!(title(" "), Some(String::new()));
        assert_eq!(title(&"ä".repeat(128)), Some("ä".repeat(128)));
        assert_eq!(title(&"ä".repeat(129)), None);
        for bad in ["a\nb", "a\0b", "a\u{202e}b", "a\u{2066}b"] {
            assert_eq!(title(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_topic_may_have_lines() {
        assert_eq!(Topic::parse("a\n\tb\n").unwrap().as_str(), "a\n\tb");
        assert!(Topic::parse(&"a".repeat(1025)).is_err());
        assert!(Topic::parse("a\u{1b}b").is_err());
    }

    #[test]
    fn slow_mode_has_bounds() {
        assert_eq!(SlowMode::from_millis(-1), SlowMode::NONE);
        assert_eq!(SlowMode::from_millis(i64::MAX), SlowMode::MAX);
        assert_eq!(SlowMode::from_millis(1500).as_millis(), 1500);
    }
}
