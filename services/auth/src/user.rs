//! A user: an account, and what it says about itself.

use chassis::clock::Timestamp;
use chassis::text;
use proto::id::UserId;

use crate::email::Email;
use crate::error::Error;
use crate::external_account::ExternalAccount;
use crate::profile::{Profile, ProfileChanges, ProfileFilter};
use crate::review::Rating;
use crate::standing::Standing;
use crate::username::Username;

/// What kind of account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// Signs in with a password, a provider, or both.
    Registered,
    /// Came in without registering; lives as long as its session.
    Guest,
    /// Stands for a name in another system; has no way to sign in of its own.
    External,
}

/// An account that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its kind.
    pub kind: UserKind,
    /// The name to sign in with. Guests and external accounts have none.
    pub username: Option<Username>,
    /// The name that people see.
    pub display_name: DisplayName,
    /// The address, when one was given.
    pub email: Option<Email>,
    /// A sentence or two about oneself.
    pub bio: Bio,
    /// The address of a picture.
    pub picture: Option<PictureUrl>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// What else it says about itself.
    pub profile: Profile,
    /// What its reviews come to.
    pub rating: Rating,
    /// What others have found out about it.
    pub standing: Standing,
    /// The name in another system that it stands for. Guests may have one, too: they are found again by it.
    pub external: Option<ExternalAccount>,
}

impl User {
    /// What a search for a name looks at: both names, folded.
    pub fn search_text(&self) -> String {
        let username = self.username.as_ref().map_or("", Username::as_str);
        // A keyword has no line break, so it never matches across the two.
        format!("{username}\n{}", fold(self.display_name.as_str()))
    }
}

/// What an id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all accounts live")]
pub enum Account {
    /// Somebody.
    Living(User),
    /// Somebody who is gone: nothing is left but the id.
    Deleted {
        /// The id.
        id: UserId,
        /// When the account was deleted.
        delete_time: Timestamp,
    },
}

impl Account {
    /// The id.
    pub fn id(&self) -> UserId {
        match self {
            Self::Living(user) => user.id,
            Self::Deleted { id, .. } => *id,
        }
    }
}

/// What a user changes about itself. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The name that people see.
    pub display_name: Option<DisplayName>,
    /// The address, or none.
    pub email: Option<Option<Email>>,
    /// The sentence about oneself.
    pub bio: Option<Bio>,
    /// The picture, or none.
    pub picture: Option<Option<PictureUrl>>,
    /// What else it says about itself.
    pub profile: ProfileChanges,
}

impl Changes {
    /// True when the user gets a first address, another one, or loses the one that they have.
    pub fn move_email(&self, user: &User) -> bool {
        match (&self.email, &user.email) {
            (None, _) | (Some(None), None) => false,
            // More than case in ASCII may make another mailbox, whatever the keys have in common.
            (Some(Some(new)), Some(old)) => !new.as_str().eq_ignore_ascii_case(old.as_str()),
            (Some(_), _) => true,
        }
    }

    /// Whether they are of the name or the picture, which other services show.
    pub fn are_seen_by_all(&self) -> bool {
        self.display_name.is_some() || self.picture.is_some()
    }

    /// Makes them. Refuses what does not fit together.
    pub fn apply_to(&self, user: &mut User, at: Timestamp) -> Result<(), Error> {
        let Self { display_name, email, bio, picture, profile } = self.clone();
        user.display_name = display_name.unwrap_or(user.display_name.clone());
        if email
            .as_ref()
            .is_some_and(|new| new.as_ref().map(Email::key) != user.email.as_ref().map(Email::key))
        {
            user.standing.has_replaced_verified |= user.standing.email_verify_time.is_some();
            user.standing.email_verify_time = None;
        }
        user.email = email.unwrap_or(user.email.clone());
        user.bio = bio.unwrap_or(user.bio.clone());
        user.picture = picture.unwrap_or(user.picture.clone());
        user.update_time = at;
        profile.apply_to(&mut user.profile)
    }
}

/// The name that people see: 1 to 64 characters in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// Reads a name; `field` is named when it is none. White space around it does not count.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        match Self::parse_optional(field, text)? {
            Some(name) => Ok(name),
            None => Err(Error::invalid(field, "must have 1 to 64 characters")),
        }
    }

    /// Reads a name that may be left out.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
        let name = line(field, text, 64)?;
        Ok((!name.is_empty()).then_some(Self(name)))
    }

    /// The name that a text of any kind gives: without what a name must not have, and cut to its length. `None` when
    /// nothing is left.
    pub fn derived(from: &str) -> Option<Self> {
        let plain: String = from.chars().filter(|c| !is_misleading(*c)).collect();
        let cut: String = plain.trim().chars().take(64).collect();
        let name = cut.trim_end().to_owned();
        (!text::is_blank(&name)).then_some(Self(name))
    }

    /// A name that is in the database because it was parsed before, or that we made.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Username> for DisplayName {
    fn from(username: &Username) -> Self {
        Self(username.as_str().to_owned())
    }
}

/// A sentence or two about oneself: at most 512 characters, possibly none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bio(String);

impl Bio {
    /// Reads it; `field` is named when it does not fit.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let is_break = |c| matches!(c, '\n' | '\t');
        if text.contains(|c| is_misleading(c) && !is_break(c)) {
            return Err(Error::invalid(field, MISLEADING));
        }
        if text.chars().count() > 512 {
            return Err(Error::invalid(field, "must have at most 512 characters"));
        }
        visible_or_empty(field, text.trim()).map(Self)
    }

    /// A text that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The https address of a picture. Nobody here ever fetches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureUrl(String);

impl PictureUrl {
    /// Reads an address that may be left out; `field` is named when it is none.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let has_host =
            text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        let is_plain =
            !text.contains(|c: char| is_misleading(c) || c.is_whitespace() || "\"<>\\^`{|}".contains(c));
        if has_host && is_plain && text.chars().count() <= 2048 {
            Ok(Some(Self(text.to_owned())))
        } else {
            Err(Error::invalid(field, "must be an https address of at most 2048 characters, or empty"))
        }
    }

    /// An address that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What somebody looks for in names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyword(String);

impl Keyword {
    /// Reads a keyword; `None` when there is nothing in it to look for.
    pub fn parse(text: &str) -> Option<Self> {
        let folded = fold(text.trim());
        (!folded.is_empty()).then_some(Self(folded))
    }

    /// The keyword, folded as names are.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which users to list, and from where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Part of a name.
    pub keyword: Option<Keyword>,
    /// Exactly this address.
    pub email: Option<Email>,
    /// Only this kind.
    pub kind: Option<UserKind>,
    /// What is asked of profiles.
    pub profile: ProfileFilter,
    /// Who asks: only profiles that this user sees answer.
    pub viewer: UserId,
    /// Only those who came after this one.
    pub after: Option<UserId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of users, and whether there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPage {
    /// In the order in which they came.
    pub users: Vec<User>,
    /// Whether somebody comes after them.
    pub has_more: bool,
}

pub(crate) const MISLEADING: &str =
    "must not contain control characters or marks that turn the direction of writing";

/// One line of text without white space around it.
pub(crate) fn line(field: &'static str, text: &str, most: usize) -> Result<String, Error> {
    let text = text.trim();
    if text.contains(is_misleading) {
        return Err(Error::invalid(field, MISLEADING));
    }
    if text.chars().count() > most {
        return Err(Error::invalid(field, format!("must have at most {most} characters")));
    }
    visible_or_empty(field, text)
}

/// A text that shows something, or is empty.
pub(crate) fn visible_or_empty(field: &'static str, text: &str) -> Result<String, Error> {
    if text::is_filled_with_blanks(text) {
        return Err(Error::invalid(field, text::VISIBLE_OR_EMPTY));
    }
    Ok(text.to_owned())
}

/// Control characters, line and paragraph separators, and the marks that make a text look like another one.
pub(crate) fn is_misleading(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// What two spellings of one name have in common: compatibility forms and case do not count.
pub(crate) fn fold(text: &str) -> String {
    text::fold(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_says_what_it_seems_to_say() {
        assert_eq!(DisplayName::parse("display_name", "  Ann Ä 🦀 ").unwrap().as_str(), "Ann Ä 🦀");
        for text in ["", " ", "a\nb", "a\0", "nna\u{202E}", "\u{200b}", "\u{2800}\u{3164}", &"ä".repeat(65)]
        {
            assert!(DisplayName::parse("display_name", text).is_err(), "{text:?}");
        }
        assert_eq!(DisplayName::parse_optional("display_name", " ").unwrap(), None);
    }

    #[test]
    fn a_derived_name_is_a_valid_one() {
        let derived = |text: &str| DisplayName::derived(text).map(|name| name.as_str().to_owned());
        assert_eq!(derived(" Ann \u{202E}B "), Some("Ann B".to_owned()));
        assert_eq!(derived(&format!("{} b", "ä".repeat(63))), Some("ä".repeat(63)));
        assert_eq!(derived(&"ä".repeat(128)), Some("ä".repeat(64)));
        assert_eq!((derived("  "), derived("\u{FEFF}"), derived("\u{2800}")), (None, None, None));
        for text in [" Ann \u{202E}B ", &"ä ".repeat(64)] {
            let name = derived(text).unwrap();
            assert_eq!(DisplayName::parse("display_name", &name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_bio_may_have_lines() {
        assert_eq!(Bio::parse("bio", "one\ntwo\n").unwrap().as_str(), "one\ntwo");
        assert!(Bio::parse("bio", "a\0b").is_err() && Bio::parse("bio", "\u{200b}\n").is_err());
        assert!(Bio::parse("bio", &"ä".repeat(512)).is_ok());
        assert!(Bio::parse("bio", &"ä".repeat(513)).is_err());
    }

    #[test]
    fn a_picture_is_at_an_https_address() {
        assert_eq!(PictureUrl::parse_optional("picture_url", "").unwrap(), None);
        assert!(
            PictureUrl::parse_optional("picture_url", "https://example.org/a.png?x=1").unwrap().is_some()
        );
        for text in [
            "http://example.org",
            "https://",
            "https:///x",
            "https://a b",
            "https://a\"onload=",
            "javascript:x",
        ] {
            assert!(PictureUrl::parse_optional("picture_url", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_search_folds_what_it_looks_for_as_it_folds_names() {
        let keyword = |text| Keyword::parse(text).map(|keyword| keyword.as_str().to_owned());
        assert_eq!(keyword(" ÄNN\0 "), Some("änn".to_owned()));
        assert_eq!(keyword("A\u{308}nn"), keyword("änn"));
        assert_eq!(keyword("ＡＮＮ"), Some("ann".to_owned()));
        assert_eq!(keyword(" \n"), None);
    }

    #[test]
    fn only_what_is_named_changes() {
        let before = User {
            id: UserId::generate(),
            kind: UserKind::Registered,
            username: Some(Username::parse("ann").unwrap()),
            display_name: DisplayName::stored("Ann".to_owned()),
            email: Some(Email::parse("email", "ann@example.org").unwrap()),
            bio: Bio::stored("hi".to_owned()),
            picture: None,
            create_time: Timestamp::from_millis(1),
            update_time: Timestamp::from_millis(1),
            profile: Profile::default(),
            rating: Rating::default(),
            standing: Standing { email_verify_time: Some(Timestamp::from_millis(1)), ..Standing::default() },
            external: None,
        };
        let mut after = before.clone();
        let changes = Changes { email: Some(None), bio: Some(Bio::default()), ..Changes::default() };
        changes.apply_to(&mut after, Timestamp::from_millis(2)).unwrap();
        let expected = User {
            email: None,
            bio: Bio::default(),
            update_time: Timestamp::from_millis(2),
            standing: Standing { has_replaced_verified: true, ..Standing::default() },
            ..before
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn only_another_address_has_to_be_verified_anew() {
        let with_email = |text: &str| {
            let email = Some(Some(Email::parse("email", text).unwrap()));
            Changes { email, ..Changes::default() }
        };
        let verified = Standing { email_verify_time: Some(Timestamp::from_millis(1)), ..Standing::default() };
        let mut user = User {
            id: UserId::generate(),
            kind: UserKind::Registered,
            username: None,
            display_name: DisplayName::stored("Ann".to_owned()),
            email: Some(Email::parse("email", "ann@example.org").unwrap()),
            bio: Bio::default(),
            picture: None,
            create_time: Timestamp::from_millis(1),
            update_time: Timestamp::from_millis(1),
            profile: Profile::default(),
            rating: Rating::default(),
            standing: verified,
            external: None,
        };
        with_email("Ann@Example.org").apply_to(&mut user, Timestamp::from_millis(2)).unwrap();
        assert_eq!(user.standing, verified);
        Changes::default().apply_to(&mut user, Timestamp::from_millis(2)).unwrap();
        assert_eq!(user.standing, verified);
        with_email("other@example.org").apply_to(&mut user, Timestamp::from_millis(2)).unwrap();
        assert_eq!(user.standing, Standing { has_replaced_verified: true, ..Standing::default() });
        assert!(verified.may_reset_password() && !user.standing.may_reset_password());
    }

    #[test]
    fn only_a_first_address_takes_the_place_of_none() {
        let with_email = |text: &str| Changes {
            email: Some(
                Some(text).filter(|text| !text.is_empty()).map(|text| Email::parse("email", text).unwrap()),
            ),
            ..Changes::default()
        };
        let nobody = User {
            id: UserId::generate(),
            kind: UserKind::Registered,
            username: None,
            display_name: DisplayName::stored("Ann".to_owned()),
            email: None,
            bio: Bio::default(),
            picture: None,
            create_time: Timestamp::from_millis(1),
            update_time: Timestamp::from_millis(1),
            profile: Profile::default(),
            rating: Rating::default(),
            standing: Standing::default(),
            external: None,
        };
        let kim = User { email: Some(Email::parse("email", "Kim@example.org").unwrap()), ..nobody.clone() };
        assert!(with_email("kim@example.org").move_email(&nobody));
        assert!(!Changes::default().move_email(&kim));
        assert!(!with_email("kim@Example.org").move_email(&kim));
        // The last one begins with a sign for kelvins, which folds to a k.
        for other in ["", "tim@example.org", "\u{212a}im@example.org"] {
            assert!(with_email(other).move_email(&kim), "{other}");
        }
    }
}
