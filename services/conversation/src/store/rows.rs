//! Rows, as they are read. What a row says that it cannot is told, not guessed.

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use crate::conversation::{Conversation, Kind, Namespace, Pair, SlowMode, Title, Topic, View, is_anonymous};
use crate::error::Error;
use crate::member::{Access, Ban, Member, Membership};
use crate::request::{self, Request};
use crate::standing::{Between, Writing};
use crate::store::{Failure, code};

#[derive(sqlx::FromRow)]
pub struct ConversationRow {
    pub conversation_id: Uuid,
    pub kind: i64,
    pub title: String,
    pub topic: String,
    pub slow_mode_millis: i64,
    pub secure: bool,
    pub public_read: bool,
    pub external_namespace: Option<String>,
    pub member_count: i64,
    pub membership_version: i64,
    pub low_user_id: Option<Uuid>,
    pub high_user_id: Option<Uuid>,
    pub create_time: i64,
    pub update_time: i64,
}

impl ConversationRow {
    pub fn conversation(self) -> Result<Conversation, Error> {
        let kind = code::kind(self.kind)?;
        let pair = match (kind, self.low_user_id, self.high_user_id) {
            (Kind::Direct, Some(low), Some(high)) => Pair::of(low.into(), high.into()),
            (Kind::Direct, ..) => {
                return Err(Failure::Corrupt("a direct conversation of less than two").into());
            }
            (Kind::Group | Kind::Discussion | Kind::Channel | Kind::Room, ..) => None,
        };
        Ok(Conversation {
            id: self.conversation_id.into(),
            kind,
            title: Title::stored(self.title),
            topic: Topic::stored(self.topic),
            slow_mode: SlowMode::from_millis(self.slow_mode_millis),
            secure: self.secure,
            public_read: self.public_read,
            external_namespace: self.external_namespace.map(Namespace::known),
            member_count: self.member_count,
            membership_version: self.membership_version,
            pair,
            create_time: Timestamp::from_millis(self.create_time),
            update_time: Timestamp::from_millis(self.update_time),
        })
    }
}

#[derive(sqlx::FromRow)]
pub struct ViewRow {
    #[sqlx(flatten)]
    pub conversation: ConversationRow,
    pub role: Option<i64>,
    #[sqlx(flatten)]
    pub request: MessageRequestRow,
}

/// The last message request in a direct conversation.
#[derive(sqlx::FromRow)]
pub struct MessageRequestRow {
    request_id: Option<Uuid>,
    from_user_id: Option<Uuid>,
    request_state: Option<i64>,
    request_changes: Option<i64>,
    request_version: Option<i64>,
    request_create_time: Option<i64>,
    request_answer_time: Option<i64>,
}

impl MessageRequestRow {
    fn request(self, conversation: &Conversation) -> Result<Option<Request>, Error> {
        let (Some(id), Some(from), Some(pair)) = (self.request_id, self.from_user_id, conversation.pair)
        else {
            return Ok(None);
        };
        let (Some(state), Some(version), Some(request_version), Some(created)) =
            (self.request_state, self.request_changes, self.request_version, self.request_create_time)
        else {
            return Err(Failure::Corrupt("half a request").into());
        };
        let from = UserId::from(from);
        Ok(Some(Request {
            id: id.into(),
            kind: request::Kind::Message,
            from,
            to: pair.other_than(from),
            state: code::request_state(state)?,
            version,
            message: Some(request::Place { conversation_id: conversation.id, request_version }),
            retry_id: None,
            met_retry_id: None,
            create_time: Timestamp::from_millis(created),
            answer_time: self.request_answer_time.map(Timestamp::from_millis),
        }))
    }
}

impl ViewRow {
    pub fn view(self, viewer: UserId) -> Result<View, Error> {
        let own_role = self.role.map(code::role).transpose()?;
        let conversation = self.conversation.conversation()?;
        let request = self.request.request(&conversation)?;
        Ok(View { conversation, viewer, own_role, request })
    }
}

#[derive(sqlx::FromRow)]
pub struct MemberRow {
    pub user_id: Uuid,
    pub role: i64,
    pub join_time: i64,
}

impl MemberRow {
    pub fn member(self) -> Result<Member, Error> {
        Ok(Member {
            user_id: self.user_id.into(),
            role: code::role(self.role)?,
            join_time: Timestamp::from_millis(self.join_time),
        })
    }
}

#[derive(sqlx::FromRow)]
pub struct BanRow {
    pub user_id: Uuid,
    pub banned_by_user_id: Uuid,
    pub reason: String,
    pub create_time: i64,
    pub expire_time: Option<i64>,
}

impl BanRow {
    pub fn ban(self) -> Ban {
        Ban {
            user_id: self.user_id.into(),
            banned_by: self.banned_by_user_id.into(),
            reason: self.reason,
            create_time: Timestamp::from_millis(self.create_time),
            expire_time: self.expire_time.map(Timestamp::from_millis),
        }
    }
}

#[derive(sqlx::FromRow)]
pub struct AccessRow {
    pub conversation_id: Uuid,
    pub user_id: Uuid,
    kind: i64,
    member_count: i64,
    membership_version: i64,
    slow_mode_millis: i64,
    secure: bool,
    public_read: bool,
    role: Option<i64>,
    gated: bool,
    connect_time: Option<i64>,
    is_open: Option<bool>,
    low_user_id: Option<Uuid>,
    low_block_time: Option<i64>,
    high_block_time: Option<i64>,
    from_user_id: Option<Uuid>,
    request_state: Option<i64>,
    request_version: Option<i64>,
    own_first_contact: Option<i64>,
    other_first_contact: Option<i64>,
}

impl AccessRow {
    pub fn access(self) -> Result<Access, Error> {
        let kind = code::kind(self.kind)?;
        let writing = match kind {
            Kind::Direct => self.between()?.writing(self.gated),
            Kind::Group | Kind::Discussion | Kind::Channel | Kind::Room => Writing::Free,
        };
        Ok(Access {
            kind,
            is_anonymous: is_anonymous(self.user_id.into()),
            role: self.role.map(code::role).transpose()?,
            membership_version: self.membership_version,
            slow_mode: SlowMode::from_millis(self.slow_mode_millis),
            secure: self.secure,
            public_read: self.public_read,
            // Nobody leaves a direct conversation but with the account.
            peer_gone: kind == Kind::Direct && self.member_count < 2,
            writing,
        })
    }

    fn between(&self) -> Result<Between, Error> {
        let waits = match (self.request_state, self.from_user_id, self.request_version) {
            (Some(state), Some(from), Some(request_version)) => {
                let state = code::request_state(state)?;
                state.waits().then_some((from == self.user_id, state, request_version))
            }
            _ => None,
        };
        let blocks = (self.low_block_time.is_some(), self.high_block_time.is_some());
        let (blocks, blocked) =
            if self.low_user_id == Some(self.user_id) { blocks } else { (blocks.1, blocks.0) };
        Ok(Between {
            blocks,
            blocked,
            open: self.connect_time.is_some() || self.is_open == Some(true),
            waits,
            own_gated: gated(self.own_first_contact)?,
            other_gated: gated(self.other_first_contact)?,
        })
    }
}

/// Whether strangers have to ask; one of whom nothing is known takes everyone.
fn gated(first_contact: Option<i64>) -> Result<bool, Error> {
    Ok(first_contact.map(code::first_contact).transpose()?.unwrap_or_default().is_gated())
}

/// A whole request.
#[derive(sqlx::FromRow)]
pub struct RequestRow {
    request_id: Uuid,
    kind: i64,
    from_user_id: Uuid,
    to_user_id: Uuid,
    state: i64,
    version: i64,
    conversation_id: Option<Uuid>,
    request_version: i64,
    retry_id: Option<Uuid>,
    met_retry_id: Option<Uuid>,
    create_time: i64,
    answer_time: Option<i64>,
}

impl RequestRow {
    pub fn request(self) -> Result<Request, Error> {
        let request_version = self.request_version;
        let place = |id: Uuid| request::Place { conversation_id: id.into(), request_version };
        Ok(Request {
            id: self.request_id.into(),
            kind: code::request_kind(self.kind)?,
            from: self.from_user_id.into(),
            to: self.to_user_id.into(),
            state: code::request_state(self.state)?,
            version: self.version,
            message: self.conversation_id.map(place),
            retry_id: self.retry_id,
            met_retry_id: self.met_retry_id,
            create_time: Timestamp::from_millis(self.create_time),
            answer_time: self.answer_time.map(Timestamp::from_millis),
        })
    }
}

#[derive(sqlx::FromRow)]
pub struct MembershipRow {
    pub conversation_id: Uuid,
    pub role: i64,
    pub kind: i64,
    pub join_time: i64,
}

impl MembershipRow {
    pub fn membership(self) -> Result<Membership, Error> {
        Ok(Membership {
            conversation_id: self.conversation_id.into(),
            role: code::role(self.role)?,
            kind: code::kind(self.kind)?,
            join_time: Timestamp::from_millis(self.join_time),
        })
    }
}
