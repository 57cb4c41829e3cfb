//! The owners and moderators of rooms. All other members have no role of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use proto::conversation::v1::{ListMembersRequest, MemberRole};
use proto::id::ConversationId;

use crate::dialects::backend::{Authority, Backend};
use crate::http::error::Problem;

/// The time for which the roles of a room are cached if no event reports a change.
const KEPT: Duration = Duration::from_secs(60);

/// The maximum number of rooms whose roles are cached.
const CAPACITY: u64 = 10_000;

/// The maximum number of owners and moderators that are read of one room.
const MAX_READ: usize = 1_000;

/// The owners and moderators of one room, by user id.
#[derive(Clone, Debug, Default)]
pub(super) struct RoomRoles(Arc<HashMap<String, MemberRole>>);

impl RoomRoles {
    pub(super) fn of(&self, user_id: &str) -> Option<MemberRole> {
        self.0.get(user_id).copied()
    }
}

#[cfg(test)]
impl From<HashMap<String, MemberRole>> for RoomRoles {
    fn from(roles: HashMap<String, MemberRole>) -> Self {
        Self(Arc::new(roles))
    }
}

/// The owners and moderators of rooms.
#[derive(Clone)]
pub(super) struct Roles {
    backend: Backend,
    known: Cache<ConversationId, RoomRoles>,
}

impl Roles {
    pub(super) fn new(backend: Backend) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build();
        Self { backend, known }
    }

    /// Reads the current roles.
    pub(super) async fn read(
        &self,
        room: ConversationId,
        authority: &Authority,
    ) -> Result<RoomRoles, Problem> {
        let mut roles = HashMap::new();
        let mut list = ListMembersRequest {
            conversation_id: room.to_string(),
            page_size: 100,
            at_least: MemberRole::Moderator.into(),
            ..ListMembersRequest::default()
        };
        loop {
            let page = self.backend.call(authority.clone(), list.clone()).await?;
            roles.extend(page.members.into_iter().map(|member| {
                let role = member.role();
                (member.user_id, role)
            }));
            if page.next_page_token.is_empty() || roles.len() >= MAX_READ {
                break;
            }
            list.page_token = page.next_page_token;
        }
        let roles = RoomRoles(Arc::new(roles));
        self.known.insert(room, roles.clone());
        Ok(roles)
    }

    /// Returns the roles, for a connection that receives their changes.
    pub(super) async fn known(
        &self,
        room: ConversationId,
        authority: &Authority,
    ) -> Result<RoomRoles, Problem> {
        match self.known.get(&room) {
            Some(roles) => Ok(roles),
            None => self.read(room, authority).await,
        }
    }

    /// Forgets the roles of a room, because they have changed.
    pub(super) fn forget(&self, room: ConversationId) {
        self.known.invalidate(&room);
    }
}
