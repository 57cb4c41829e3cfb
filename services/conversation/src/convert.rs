//! Between the words of the contract and ours. What the contract's rules check has been checked when a message comes
//! here; what they cannot say is checked here.

pub mod contacts;

use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::page::{self, Position, Token};
use prost::Message;
use proto::conversation::v1 as pb;
use proto::id::{ConversationId, InvalidId, RequestId, UserId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::change::Settings;
use crate::conversation::{Kind, SlowMode, Title, Topic, View};
use crate::conversations::Place;
use crate::create::{Created, Draft, Retry};
use crate::error::Error;
use crate::member::{Access, Ban, Member, Membership, Memberships};
use crate::paging::{Page, Paged};
use crate::role::Role;

/// The id in the field `conversation_id`.
pub fn conversation_id(text: &str) -> Result<ConversationId, Error> {
    ConversationId::parse(text).map_err(not_an_id("conversation_id"))
}

/// The id in the field `user_id`.
pub fn user_id(text: &str) -> Result<UserId, Error> {
    UserId::parse(text).map_err(not_an_id("user_id"))
}

/// The ids in the field `user_ids`.
pub fn user_ids(texts: &[String]) -> Result<Vec<UserId>, Error> {
    texts.iter().map(|text| UserId::parse(text).map_err(not_an_id("user_ids"))).collect()
}

/// The ids in the field `conversation_ids`.
pub fn conversation_ids(texts: &[String]) -> Result<Vec<ConversationId>, Error> {
    texts.iter().map(|text| ConversationId::parse(text).map_err(not_an_id("conversation_ids"))).collect()
}

/// The pairs that access is asked for.
pub fn questions(questions: &[pb::AccessQuestion]) -> Result<Vec<(ConversationId, UserId)>, Error> {
    questions.iter().map(|q| Ok((conversation_id(&q.conversation_id)?, user_id(&q.user_id)?))).collect()
}

/// The role in the field `role`.
pub fn role(role: pb::MemberRole) -> Result<Role, Error> {
    match role {
        pb::MemberRole::Muted => Ok(Role::Muted),
        pb::MemberRole::Member => Ok(Role::Member),
        pb::MemberRole::Moderator => Ok(Role::Moderator),
        pb::MemberRole::Owner => Ok(Role::Owner),
        pb::MemberRole::Unspecified => Err(Error::Field { field: "role", rule: "must be a role" }),
    }
}

/// The lowest role in the field `at_least`: every member has at least the lowest there is.
pub fn at_least(role: pb::MemberRole) -> Role {
    self::role(role).unwrap_or(Role::Muted)
}

/// What a list of members is called in its tokens: those who have a role are another list than all.
pub fn list_of(at_least: Role) -> &'static str {
    match at_least {
        Role::Muted => "members",
        Role::Member => "members who may write",
        Role::Moderator => "moderators",
        Role::Owner => "owners",
    }
}

/// How a slow mode is written: absent for none.
pub fn slow_mode(slow_mode: SlowMode) -> Option<prost_types::Duration> {
    let millis = slow_mode.as_millis();
    (millis > 0).then(|| prost_types::Duration {
        seconds: millis / 1000,
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    })
}

fn not_an_id(field: &'static str) -> impl Fn(InvalidId) -> Error {
    move |_| Error::Field { field, rule: "must be a UUID" }
}

impl TryFrom<pb::CreateConversationRequest> for Draft {
    type Error = Error;

    fn try_from(request: pb::CreateConversationRequest) -> Result<Self, Error> {
        let kind = match request.kind() {
            pb::ConversationKind::Direct => Kind::Direct,
            pb::ConversationKind::Group => Kind::Group,
            pb::ConversationKind::Discussion => Kind::Discussion,
            pb::ConversationKind::Channel => Kind::Channel,
            pb::ConversationKind::Room => Kind::Room,
            pb::ConversationKind::Unspecified => {
                return Err(Error::Field { field: "kind", rule: "must be a kind of conversation" });
            }
        };
        let retry = match request.request_id.as_str() {
            "" => None,
            text => Some(Retry {
                request_id: Uuid::try_parse(text)
                    .map_err(|_| Error::Field { field: "request_id", rule: "must be a UUID" })?,
                fingerprint: Sha256::digest(request.encode_to_vec()).into(),
            }),
        };
        Ok(Self {
            kind,
            title: Title::parse(&request.title)?,
            topic: Topic::parse(&request.topic)?,
            secure: request.secure,
            public_read: request.public_read,
            user_ids: user_ids(&request.user_ids)?,
            retry,
        })
    }
}

impl TryFrom<pb::UpdateConversationRequest> for Settings {
    type Error = Error;

    fn try_from(request: pb::UpdateConversationRequest) -> Result<Self, Error> {
        let values = request.conversation.unwrap_or_default();
        let paths = request.update_mask.unwrap_or_default().paths;
        if paths.is_empty() {
            return Err(Error::Field {
                field: "update_mask",
                rule: "must name title, topic, slow_mode, secure or public_read",
            });
        }
        let mut settings = Self::default();
        for path in paths {
            match path.as_str() {
                "title" => settings.title = Some(Title::parse(&values.title)?),
                "topic" => settings.topic = Some(Topic::parse(&values.topic)?),
                "slow_mode" => settings.slow_mode = Some(wait(values.slow_mode.as_ref())),
                "secure" => settings.secure = Some(values.secure),
                "public_read" => settings.public_read = Some(values.public_read),
                _ => {
                    return Err(Error::Field {
                        field: "update_mask",
                        rule: "must name only title, topic, slow_mode, secure and public_read",
                    });
                }
            }
        }
        Ok(settings)
    }
}

fn wait(duration: Option<&prost_types::Duration>) -> SlowMode {
    SlowMode::from_millis(duration.map_or(0, millis))
}

/// How long a ban lasts, to the millisecond; `None` for good. The contract's rule has checked the bounds.
pub fn ban_duration(duration: Option<&prost_types::Duration>) -> Option<Duration> {
    duration.map(|duration| Duration::from_millis(u64::try_from(millis(duration)).unwrap_or(0)))
}

fn millis(duration: &prost_types::Duration) -> i64 {
    duration.seconds.saturating_mul(1000).saturating_add(i64::from(duration.nanos / 1_000_000))
}

/// A page of a list that was asked for, and what its tokens are bound to.
pub struct Query<P> {
    /// The page.
    pub page: Page<P>,
    bound_to: [Vec<u8>; 3],
}

/// What a list is ordered by, as it stands in a token.
pub trait Placed: Sized {
    /// The shape in the token.
    type Position: Position;
    /// To the token.
    fn to_position(&self) -> Self::Position;
    /// From the token.
    fn from_position(position: Self::Position) -> Self;
}

impl Placed for ConversationId {
    type Position = Uuid;

    fn to_position(&self) -> Uuid {
        self.uuid()
    }

    fn from_position(position: Uuid) -> Self {
        position.into()
    }
}

impl Placed for UserId {
    type Position = Uuid;

    fn to_position(&self) -> Uuid {
        self.uuid()
    }

    fn from_position(position: Uuid) -> Self {
        position.into()
    }
}

impl Placed for Place {
    type Position = (i64, Uuid);

    fn to_position(&self) -> (i64, Uuid) {
        (self.0.as_millis(), self.1.uuid())
    }

    fn from_position((millis, user_id): (i64, Uuid)) -> Self {
        (Timestamp::from_millis(millis), user_id.into())
    }
}

impl Placed for (Timestamp, RequestId) {
    type Position = (i64, Uuid);

    fn to_position(&self) -> (i64, Uuid) {
        (self.0.as_millis(), self.1.uuid())
    }

    fn from_position((millis, request_id): (i64, Uuid)) -> Self {
        (Timestamp::from_millis(millis), request_id.into())
    }
}

impl<P: Placed> Query<P> {
    /// What was asked for: by whom, of which list (its name, and the id of what it belongs to), and which page.
    pub fn parse(caller: UserId, list: (&str, &str), size: i32, token: &str) -> Result<Self, Error> {
        let bound_to =
            [list.0.into(), caller.to_string().into_bytes(), list.1.to_ascii_lowercase().into_bytes()];
        let after = Token::after::<P::Position>(token, &bound_to.each_ref().map(Vec::as_slice))
            .map_err(Error::Page)?;
        Ok(Self { page: Page { after: after.map(P::from_position), limit: page::size(size) }, bound_to })
    }

    /// The token of the page after this one; empty at the end.
    pub fn next_page_token<T>(&self, paged: &Paged<T, P>) -> String {
        let query = self.bound_to.each_ref().map(Vec::as_slice);
        paged.next.as_ref().map(|next| Token::at(&query, &next.to_position())).unwrap_or_default()
    }
}

impl From<Kind> for pb::ConversationKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct,
            Kind::Group => Self::Group,
            Kind::Discussion => Self::Discussion,
            Kind::Channel => Self::Channel,
            Kind::Room => Self::Room,
        }
    }
}

impl From<Role> for pb::MemberRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Muted => Self::Muted,
            Role::Member => Self::Member,
            Role::Moderator => Self::Moderator,
            Role::Owner => Self::Owner,
        }
    }
}

/// The role of one who may not be a member.
fn role_if_any(role: Option<Role>) -> pb::MemberRole {
    role.map_or(pb::MemberRole::Unspecified, pb::MemberRole::from)
}

impl From<View> for pb::Conversation {
    fn from(view: View) -> Self {
        let peer_user_id = view.peer().map(|peer| peer.to_string()).unwrap_or_default();
        let request = view.request_seen().map(pb::Request::from);
        let conversation = view.conversation;
        Self {
            conversation_id: conversation.id.to_string(),
            kind: pb::ConversationKind::from(conversation.kind).into(),
            title: conversation.title.as_str().to_owned(),
            topic: conversation.topic.as_str().to_owned(),
            slow_mode: slow_mode(conversation.slow_mode),
            member_count: i32::try_from(conversation.member_count).unwrap_or(i32::MAX),
            membership_version: conversation.membership_version,
            create_time: Some(conversation.create_time.to_proto()),
            update_time: Some(conversation.update_time.to_proto()),
            own_role: role_if_any(view.own_role).into(),
            peer_user_id,
            secure: conversation.secure,
            request,
            public_read: conversation.public_read,
            external_namespace: conversation
                .external_namespace
                .map(|namespace| namespace.as_str().to_owned())
                .unwrap_or_default(),
        }
    }
}

impl From<Created> for pb::CreateConversationResponse {
    fn from(created: Created) -> Self {
        Self { conversation: Some(created.view.into()), created: created.is_new }
    }
}

impl From<&Member> for pb::Member {
    fn from(member: &Member) -> Self {
        Self {
            user_id: member.user_id.to_string(),
            role: pb::MemberRole::from(member.role).into(),
            join_time: Some(member.join_time.to_proto()),
        }
    }
}

impl From<&Ban> for pb::Ban {
    fn from(ban: &Ban) -> Self {
        Self {
            user_id: ban.user_id.to_string(),
            banned_by_user_id: ban.banned_by.to_string(),
            reason: ban.reason.clone(),
            create_time: Some(ban.create_time.to_proto()),
            expire_time: ban.expire_time.map(|end| end.to_proto()),
        }
    }
}

/// What a user may do; nothing where there is no conversation.
pub fn access(access: Option<Access>) -> pb::Access {
    let Some(access) = access else { return pb::Access::default() };
    pb::Access {
        exists: true,
        visible: access.is_visible(),
        may_read: access.may_read(),
        may_write: access.may_write(),
        role: role_if_any(access.role).into(),
        kind: pb::ConversationKind::from(access.kind).into(),
        membership_version: access.membership_version,
        slow_mode_millis: access.wait().as_millis(),
        secure: access.secure,
        request_version: access.request_version().unwrap_or(0),
        request_needed: access.needs_request(),
        request_unheard: access.is_unheard(),
        peer_gone: access.peer_gone && access.role.is_some(),
    }
}

impl From<Memberships> for pb::ListMembershipsResponse {
    fn from(memberships: Memberships) -> Self {
        match memberships {
            Memberships::Unchanged { version } => Self { version, unchanged: true, memberships: vec![] },
            Memberships::List { version, memberships } => Self {
                version,
                unchanged: false,
                memberships: memberships.iter().map(pb::Membership::from).collect(),
            },
        }
    }
}

impl From<&Membership> for pb::Membership {
    fn from(membership: &Membership) -> Self {
        Self {
            conversation_id: membership.conversation_id.to_string(),
            role: pb::MemberRole::from(membership.role).into(),
            kind: pb::ConversationKind::from(membership.kind).into(),
            join_time: Some(membership.join_time.to_proto()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> pb::CreateConversationRequest {
        pb::CreateConversationRequest {
            kind: pb::ConversationKind::Group.into(),
            title: " Lunch ".to_owned(),
            user_ids: vec![UserId::generate().to_string()],
            request_id: UserId::generate().to_string(),
            ..Default::default()
        }
    }

    #[test]
    fn the_fingerprint_is_of_everything_that_was_said() {
        let request = request();
        let print = |request: &pb::CreateConversationRequest| {
            Draft::try_from(request.clone()).unwrap().retry.map(|retry| retry.fingerprint)
        };
        assert_eq!(print(&request), print(&request.clone()));
        assert_ne!(
            print(&request),
            print(&pb::CreateConversationRequest { topic: "x".to_owned(), ..request.clone() })
        );
        assert_ne!(
            print(&request),
            print(&pb::CreateConversationRequest { secure: true, ..request.clone() })
        );
        assert_eq!(print(&pb::CreateConversationRequest { request_id: String::new(), ..request }), None);
    }

    #[test]
    fn only_what_the_mask_names_is_looked_at() {
        let update = |paths: &[&str]| {
            Settings::try_from(pb::UpdateConversationRequest {
                conversation: Some(pb::ConversationChanges {
                    title: "New".to_owned(),
                    topic: "\u{1b}".to_owned(),
                    slow_mode: Some(prost_types::Duration { seconds: 1, nanos: 500_900_000 }),
                    secure: true,
                    public_read: true,
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: paths.iter().map(ToString::to_string).collect(),
                }),
                ..Default::default()
            })
        };
        let settings = update(&["title", "slow_mode"]).unwrap();
        assert_eq!(settings.title, Some(Title::parse("New").unwrap()));
        assert_eq!((settings.topic, settings.slow_mode), (None, Some(SlowMode::from_millis(1500))));
        assert_eq!((settings.secure, update(&["secure"]).unwrap().secure), (None, Some(true)));
        let public_read = update(&["public_read"]).unwrap().public_read;
        assert_eq!((settings.public_read, public_read), (None, Some(true)));
        assert!(matches!(update(&["topic"]), Err(Error::Field { field: "topic", .. })));
        for paths in [&[][..], &["kind"], &["title", "owner"]] {
            assert!(matches!(update(paths), Err(Error::Field { field: "update_mask", .. })), "{paths:?}");
        }
    }

    #[test]
    fn slow_mode_is_absent_when_there_is_none() {
        assert_eq!(slow_mode(SlowMode::NONE), None);
        let duration = slow_mode(SlowMode::from_millis(1500));
        assert_eq!(duration, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(wait(duration.as_ref()), SlowMode::from_millis(1500));
    }

    #[test]
    fn a_page_token_belongs_to_one_caller_and_one_list() {
        let [ann, bob] = [UserId::generate(), UserId::generate()];
        let id = ConversationId::generate().to_string();
        let query = Query::<Place>::parse(ann, ("members", &id), 0, "").unwrap();
        assert_eq!(query.page, Page { after: None, limit: 50 });
        let place = (Timestamp::from_millis(5), bob);
        let token = query.next_page_token(&Paged::<(), _> { items: vec![], next: Some(place) });
        assert_eq!(query.next_page_token(&Paged::<(), _> { items: vec![], next: None }), "");

        let again = Query::<Place>::parse(ann, ("members", &id.to_uppercase()), 7, &token).unwrap();
        assert_eq!(again.page, Page { after: Some(place), limit: 7 });
        assert!(Query::<Place>::parse(bob, ("members", &id), 7, &token).is_err());
        assert!(Query::<Place>::parse(ann, ("bans", &id), 7, &token).is_err());
    }

    #[test]
    fn where_nothing_is_nobody_may_anything() {
        let nothing = access(None);
        assert!(!nothing.exists && !nothing.visible && !nothing.may_read && !nothing.may_write);
    }
}
