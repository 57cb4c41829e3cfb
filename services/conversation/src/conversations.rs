//! The use cases: one method each. Making conversations is in [`create`](crate::create), what follows from other
//! services' facts in [`consume`](crate::consume).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chassis::caller::{Caller, CallerKind};
use chassis::clock::{Clock, Timestamp};
use chassis::database::facts::History;
use chassis::events::Events;
use proto::id::{ConversationId, UserId};

use crate::change::{Change, Settings, Situation};
use crate::conversation::{Conversation, Namespace, View};
use crate::error::Error;
use crate::member::{Access, Ban, Member, Memberships};
use crate::paging::{Page, Paged};
use crate::publish;
use crate::role::Role;
use crate::store::{Bounds, Store};
use crate::users::Users;

/// The most bytes of facts in one answer, if one fact alone does not have more: what an answer may have has bounds.
const FACTS_BYTES: usize = 1 << 20;

/// Conversations and who is in them.
#[derive(Clone)]
pub struct Conversations {
    pub(crate) store: Store,
    pub(crate) users: Users,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    pub(crate) max_members: i64,
}

/// Where a page of members or bans ends.
pub type Place = (Timestamp, UserId);

/// What there is to see.
impl Conversations {
    /// One conversation. Unknown ones and those of others read alike.
    pub async fn get(&self, caller: UserId, id: ConversationId) -> Result<View, Error> {
        let view = self.store.view(id, caller).await?;
        view.filter(View::is_visible).ok_or(Error::ConversationNotFound(id))
    }

    /// The caller's conversations, newest first.
    pub async fn list(
        &self,
        caller: UserId,
        page: Page<ConversationId>,
    ) -> Result<Paged<View, ConversationId>, Error> {
        let rows = self.store.list(caller, page).await?;
        Ok(Paged::cut(rows, &page, |view| view.conversation.id))
    }

    /// Those among these conversations that a user is a member of, in the order asked for.
    pub async fn batch(&self, user: UserId, ids: &[ConversationId]) -> Result<Vec<View>, Error> {
        let views = self.store.views(ids, user).await?;
        let mut by_id: BTreeMap<_, _> = views.into_iter().map(|view| (view.conversation.id, view)).collect();
        Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
    }

    /// Who is in, with this role or a higher one, in the order of coming in. Only members see all, also in a room; everyone
    /// sees those who moderate what everyone reads.
    pub async fn members(
        &self,
        caller: UserId,
        id: ConversationId,
        at_least: Role,
        page: Page<Place>,
    ) -> Result<Paged<Member, Place>, Error> {
        let rows = self.store.members(id, caller, at_least, page).await?;
        if rows.is_empty() {
            let view = self.store.view(id, caller).await?;
            view.filter(|view| view.shows_members(at_least)).ok_or(Error::ConversationNotFound(id))?;
        }
        Ok(Paged::cut(rows, &page, |member| (member.join_time, member.user_id)))
    }

    /// Who is kept out, oldest ban first. Only those who moderate see it.
    pub async fn bans(
        &self,
        caller: UserId,
        id: ConversationId,
        page: Page<Place>,
    ) -> Result<Paged<Ban, Place>, Error> {
        let rows = self.store.bans(id, caller, self.clock.now(), page).await?;
        if rows.is_empty() {
            let view = self.get(caller, id).await?;
            if view.own_role.is_none_or(|role| role < Role::Moderator) {
                return Err(Error::RoleTooLow);
            }
        }
        Ok(Paged::cut(rows, &page, |ban| (ban.create_time, ban.user_id)))
    }
}

/// What the other services ask.
impl Conversations {
    /// What each user may do in each conversation, in the order of the questions; `None` where there is no such
    /// conversation. Always read from the database: a right that was withdrawn before the question is not granted.
    pub async fn check_access(
        &self,
        questions: &[(ConversationId, UserId)],
    ) -> Result<Vec<Option<Access>>, Error> {
        let mut seen = HashSet::with_capacity(questions.len());
        let different: Vec<_> = questions.iter().copied().filter(|pair| seen.insert(*pair)).collect();
        let answers = self.store.access(&different).await?;
        Ok(questions.iter().map(|pair| answers.get(pair).copied()).collect())
    }

    /// In which conversations a user is, unless the asker knows.
    pub async fn memberships(&self, user: UserId, known_version: i64) -> Result<Memberships, Error> {
        self.store.memberships(user, known_version).await
    }

    /// What happened after a position, oldest first: position and encoded fact.
    pub async fn facts(&self, after: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let mut facts = self.store.facts(after, limit).await?;
        let mut bytes = 0;
        let fitting = facts.iter().take_while(|(_, payload)| {
            bytes += payload.len();
            bytes <= FACTS_BYTES
        });
        let count = fitting.count().max(1);
        facts.truncate(count);
        Ok(facts)
    }

    /// What there is to say of the facts as a whole, and the fact at a position. Ask after the facts.
    pub async fn history(&self, position: i64) -> Result<History, Error> {
        self.store.history(position).await
    }
}

/// What can be changed.
impl Conversations {
    /// Sets title, topic or settings.
    pub async fn update(
        &self,
        caller: UserId,
        id: ConversationId,
        settings: Settings,
    ) -> Result<View, Error> {
        Ok(self.change(caller, id, Change::Configure(settings)).await?.into_view())
    }

    /// Makes a direct conversation or a discussion, which is found again instead of being made twice, one that takes
    /// secure messages only.
    pub(crate) async fn secure(&self, caller: UserId, id: ConversationId) -> Result<View, Error> {
        Ok(self.change(caller, id, Change::Secure).await?.into_view())
    }

    /// Deletes a conversation with everything in it.
    pub async fn delete(&self, caller: UserId, id: ConversationId) -> Result<(), Error> {
        self.change(caller, id, Change::Delete).await?;
        tracing::info!(conversation.id = %id, user.id = %caller, "deleted conversation {id}");
        Ok(())
    }

    /// Comes into a room, or into what external accounts of the caller's namespace made.
    pub async fn join(&self, caller: &Caller, id: ConversationId) -> Result<View, Error> {
        let namespace = self.namespace_of(caller).await?;
        Ok(self.change(caller.user_id, id, Change::Join { namespace }).await?.into_view())
    }

    /// The namespace of an external account; `None` for everyone else. A session says whether it is one of such an account,
    /// so that auth is asked for few.
    pub(crate) async fn namespace_of(&self, caller: &Caller) -> Result<Option<Namespace>, Error> {
        match caller.kind {
            CallerKind::Registered | CallerKind::Guest => Ok(None),
            CallerKind::External | CallerKind::Service => self.users.namespace_of(caller.user_id).await,
        }
    }

    /// Goes out.
    pub async fn leave(&self, caller: UserId, id: ConversationId) -> Result<(), Error> {
        self.change(caller, id, Change::Leave).await?;
        Ok(())
    }

    /// Brings users in.
    pub async fn add(
        &self,
        caller: UserId,
        id: ConversationId,
        user_ids: Vec<UserId>,
    ) -> Result<View, Error> {
        // Before auth is asked: a stranger learns nothing, not even who exists.
        let conversation = self.require_moderator(caller, id).await?;
        self.users.require_in(caller, &user_ids, conversation.external_namespace.as_ref()).await?;
        Ok(self.change(caller, id, Change::Add(user_ids)).await?.into_view())
    }

    /// Puts a member out.
    pub async fn remove(&self, caller: UserId, id: ConversationId, user_id: UserId) -> Result<(), Error> {
        self.change(caller, id, Change::Remove(user_id)).await?;
        Ok(())
    }

    /// Gives a member another role.
    pub async fn set_role(
        &self,
        caller: UserId,
        id: ConversationId,
        user_id: UserId,
        role: Role,
    ) -> Result<Member, Error> {
        let situation = self.change(caller, id, Change::SetRole(user_id, role)).await?;
        situation.members.get(&user_id).copied().ok_or(Error::MemberNotFound(user_id))
    }

    /// Makes another member owner, and the caller a moderator.
    pub async fn transfer(&self, caller: UserId, id: ConversationId, user_id: UserId) -> Result<View, Error> {
        Ok(self.change(caller, id, Change::Transfer(user_id)).await?.into_view())
    }

    /// Puts a user out and keeps the user out, for this long or for good.
    pub async fn ban(
        &self,
        caller: UserId,
        id: ConversationId,
        user_id: UserId,
        reason: String,
        duration: Option<Duration>,
    ) -> Result<Ban, Error> {
        self.require_moderator(caller, id).await?;
        self.users.require(caller, &[user_id]).await?;
        let situation = self.change(caller, id, Change::Ban { user_id, reason, duration }).await?;
        situation.bans.get(&user_id).cloned().ok_or(Error::BanNotFound(user_id))
    }

    /// Lifts a ban.
    pub async fn unban(&self, caller: UserId, id: ConversationId, user_id: UserId) -> Result<(), Error> {
        self.change(caller, id, Change::Unban(user_id)).await?;
        Ok(())
    }

    async fn require_moderator(&self, caller: UserId, id: ConversationId) -> Result<Conversation, Error> {
        let view = self.store.view(id, caller).await?.ok_or(Error::ConversationNotFound(id))?;
        view.conversation.require(view.own_role, Role::Moderator)?;
        Ok(view.conversation)
    }

    async fn change(&self, caller: UserId, id: ConversationId, change: Change) -> Result<Situation, Error> {
        let bounds = Bounds { max_members: self.max_members, now: self.clock.now() };
        let changed = self.store.change(id, caller, &change, bounds).await?;
        if changed.has_facts {
            self.announce();
        }
        Ok(changed.situation)
    }

    pub(crate) fn announce(&self) {
        publish::announce(&self.events);
    }
}

impl Situation {
    /// The conversation as the actor sees it.
    fn into_view(self) -> View {
        let own_role = self.members.get(&self.actor).map(|member| member.role);
        View { conversation: self.conversation, viewer: self.actor, own_role, request: None }
    }
}
