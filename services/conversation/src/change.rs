//! Changes to a conversation that exists: who may make which, and what each does. Decided here, on what the store has
//! read under the conversation's lock, and without a database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;

use crate::conversation::{Conversation, Kind, Namespace, SlowMode, Title, Topic};
use crate::error::Error;
use crate::fact::{Event, Fact};
use crate::member::{Ban, Member, Removal};
use crate::role::Role;

/// What someone wants to be different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set title, topic or settings.
    Configure(Settings),
    /// Take secure messages only, in a conversation that is found again instead of being made twice.
    Secure,
    /// Delete the conversation.
    Delete,
    /// Come into a room, or into what external accounts of one's namespace made.
    Join {
        /// The namespace of the one who comes, when that is an external account.
        namespace: Option<Namespace>,
    },
    /// Go out.
    Leave,
    /// Bring users in.
    Add(Vec<UserId>),
    /// Put a member out.
    Remove(UserId),
    /// Give a member another role.
    SetRole(UserId, Role),
    /// Make another member owner and oneself a moderator.
    Transfer(UserId),
    /// Put a user out and keep the user out.
    Ban {
        /// The user.
        user_id: UserId,
        /// Why.
        reason: String,
        /// For how long; `None` for good.
        duration: Option<Duration>,
    },
    /// Lift a ban.
    Unban(UserId),
    /// The account is deleted. Nobody asks for this: it has happened.
    EndAccount,
}

/// New values; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The title.
    pub title: Option<Title>,
    /// The topic.
    pub topic: Option<Topic>,
    /// The slow mode.
    pub slow_mode: Option<SlowMode>,
    /// Whether it takes secure messages only. What is so stays so.
    pub secure: Option<bool>,
    /// Whether everyone may read it.
    pub public_read: Option<bool>,
}

/// What the decision rests on. Only true while the conversation's row is locked.
#[derive(Clone, Debug)]
pub struct Situation {
    /// The conversation.
    pub conversation: Conversation,
    /// Who wants the change.
    pub actor: UserId,
    /// Those among the actor and the users that the change names who are members.
    pub members: BTreeMap<UserId, Member>,
    /// Those among them who are banned now.
    pub bans: BTreeMap<UserId, Ban>,
    /// Those among them who were muted when they went out.
    pub muted_before: BTreeSet<UserId>,
    /// How many owners there are. Read only for a change that may cost one.
    pub owners: i64,
    /// The user who would own the conversation after the actor: the moderator who has been in for longest, else the member
    /// who has; never one who is muted. Read only when an account ends.
    pub heir: Option<UserId>,
    /// Those whom the change names and who do not let the actor bring them in. Read only when somebody comes in so.
    pub unwilling: BTreeSet<UserId>,
    /// All members. Read only when the conversation is deleted.
    pub everyone: Vec<UserId>,
    /// The most members that a conversation may have.
    pub max_members: i64,
    /// What time it is.
    pub now: Timestamp,
}

/// One thing that a change does. The store writes it, [`Situation::take`] says what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sets title, topic and settings.
    Configure(Settings),
    /// Deletes the conversation, with members and bans.
    Delete,
    /// Lets users in.
    Admit(Vec<Member>),
    /// Lets a member go.
    Dismiss {
        /// The member as it was.
        member: Member,
        /// How.
        removal: Removal,
    },
    /// Gives a member a role.
    Assign(UserId, Role),
    /// Keeps a user out, by this ban and no other.
    Ban(Ban),
    /// No longer keeps a user out.
    Unban(UserId),
}

impl Change {
    /// The users that the change names.
    pub fn names(&self) -> &[UserId] {
        match self {
            Self::Add(user_ids) => user_ids,
            Self::Remove(user_id)
            | Self::SetRole(user_id, _)
            | Self::Transfer(user_id)
            | Self::Ban { user_id, .. }
            | Self::Unban(user_id) => std::slice::from_ref(user_id),
            Self::Configure(_)
            | Self::Secure
            | Self::Delete
            | Self::Join { .. }
            | Self::Leave
            | Self::EndAccount => &[],
        }
    }

    /// Whether the change may cost the conversation an owner.
    pub fn may_cost_an_owner(&self) -> bool {
        matches!(self, Self::Leave | Self::SetRole(..) | Self::EndAccount)
    }

    /// Whether it is allowed, and what it does. Nothing to do is no error: a repeated call finds its work done.
    pub fn decide(&self, situation: &Situation) -> Result<Vec<Step>, Error> {
        match self {
            Self::Configure(settings) => situation.configure(settings),
            Self::Secure => situation.secure(),
            Self::Delete => situation.delete(),
            Self::Join { namespace } => situation.join(namespace.as_ref()),
            Self::Leave => situation.leave(),
            Self::Add(user_ids) => situation.add(user_ids),
            Self::Remove(user_id) => situation.remove(*user_id),
            Self::SetRole(user_id, role) => situation.set_role(*user_id, *role),
            Self::Transfer(user_id) => situation.transfer(*user_id),
            Self::Ban { user_id, reason, duration } => situation.ban(*user_id, reason, *duration),
            Self::Unban(user_id) => situation.unban(*user_id),
            Self::EndAccount => Ok(situation.end_account()),
        }
    }
}

impl Situation {
    fn configure(&self, settings: &Settings) -> Result<Vec<Step>, Error> {
        // What cannot be taken back is for the owner, and so is who reads.
        let is_for_owner = settings.secure.is_some() || settings.public_read.is_some();
        self.require(if is_for_owner { Role::Owner } else { Role::Moderator })?;
        let conversation = &self.conversation;
        if conversation.secure && settings.secure == Some(false) {
            let rule = "cannot be taken back: the conversation takes secure messages only";
            return Err(Error::Field { field: "conversation.secure", rule });
        }
        if settings.public_read == Some(true) && !conversation.can_be_public() {
            return Err(Error::NeverPublic);
        }
        let differs = settings.title.as_ref().is_some_and(|title| *title != conversation.title)
            || settings.topic.as_ref().is_some_and(|topic| *topic != conversation.topic)
            || settings.slow_mode.is_some_and(|slow_mode| slow_mode != conversation.slow_mode)
            || settings.secure.is_some_and(|secure| secure != conversation.secure)
            || settings.public_read.is_some_and(|public_read| public_read != conversation.public_read);
        Ok(if differs { vec![Step::Configure(settings.clone())] } else { vec![] })
    }

    /// Whoever may write there may ask for it: the other answer would be a conversation that is not what was asked for.
    fn secure(&self) -> Result<Vec<Step>, Error> {
        let own = self.role_of(self.actor).ok_or_else(|| self.conversation.refuses_stranger())?;
        let is_found_again = matches!(self.conversation.kind, Kind::Direct | Kind::Discussion);
        if !is_found_again || own < Role::Member {
            return Err(Error::RoleTooLow);
        }
        let settings = Settings { secure: Some(true), ..Settings::default() };
        Ok(if self.conversation.secure { vec![] } else { vec![Step::Configure(settings)] })
    }

    fn delete(&self) -> Result<Vec<Step>, Error> {
        self.require(Role::Owner)?;
        Ok(vec![Step::Delete])
    }

    /// A room is joined by whoever it is for. A group or channel is joined only where external accounts made it and
    /// everyone may read it: one that its owner has closed is entered by being added.
    fn join(&self, namespace: Option<&Namespace>) -> Result<Vec<Step>, Error> {
        if self.members.contains_key(&self.actor) {
            return Ok(vec![]);
        }
        let conversation = &self.conversation;
        if !conversation.is_visible_to_users() {
            return Err(Error::ConversationNotFound(conversation.id));
        }
        if conversation.external_namespace.as_ref() != namespace {
            return Err(Error::NamespaceMismatch(conversation.id));
        }
        if let Some(ban) = self.bans.get(&self.actor) {
            return Err(Error::Banned { conversation: conversation.id, until: ban.expire_time });
        }
        self.require_space_for(1)?;
        Ok(vec![Step::Admit(vec![self.newcomer(self.actor)])])
    }

    fn leave(&self) -> Result<Vec<Step>, Error> {
        // To go out of a room that one is not in reads like every room that does not exist: there is nothing to leave.
        let Some(member) = self.members.get(&self.actor) else {
            return Err(Error::ConversationNotFound(self.conversation.id));
        };
        self.conversation.require_changeable()?;
        if self.is_last_owner(member) && self.conversation.member_count > 1 {
            return Err(Error::LastOwner);
        }
        Ok(vec![Step::Dismiss { member: *member, removal: Removal::Left }])
    }

    fn add(&self, user_ids: &[UserId]) -> Result<Vec<Step>, Error> {
        self.require(Role::Moderator)?;
        let missing: BTreeSet<UserId> =
            user_ids.iter().copied().filter(|user_id| !self.members.contains_key(user_id)).collect();
        if let Some(user_id) = missing.iter().find(|user_id| self.bans.contains_key(user_id)) {
            return Err(Error::UserBanned(*user_id));
        }
        if let Some(user_id) = missing.iter().find(|user_id| self.unwilling.contains(user_id)) {
            return Err(Error::ContactNotAccepted(*user_id));
        }
        if missing.is_empty() {
            return Ok(vec![]);
        }
        self.require_space_for(missing.len())?;
        Ok(vec![Step::Admit(missing.into_iter().map(|user_id| self.newcomer(user_id)).collect())])
    }

    fn remove(&self, user_id: UserId) -> Result<Vec<Step>, Error> {
        let own = self.require(Role::Moderator)?;
        let member = self.member(user_id)?;
        if !own.may_put_out(member.role) {
            return Err(Error::RoleTooLow);
        }
        Ok(vec![Step::Dismiss { member, removal: Removal::Removed }])
    }

    fn set_role(&self, user_id: UserId, role: Role) -> Result<Vec<Step>, Error> {
        let own = self.require(Role::Moderator)?;
        let member = self.member(user_id)?;
        if !own.may_assign(member.role, role) {
            return Err(Error::RoleTooLow);
        }
        if member.role == role {
            return Ok(vec![]);
        }
        if self.is_last_owner(&member) {
            return Err(Error::LastOwner);
        }
        Ok(vec![Step::Assign(user_id, role)])
    }

    fn transfer(&self, user_id: UserId) -> Result<Vec<Step>, Error> {
        self.require(Role::Owner)?;
        if user_id == self.actor {
            return Err(Error::Field { field: "user_id", rule: "must be another member" });
        }
        let heir = self.member(user_id)?;
        // The new owner first: at no version is the conversation without one.
        let promotion = (heir.role != Role::Owner).then_some(Step::Assign(user_id, Role::Owner));
        Ok(promotion.into_iter().chain([Step::Assign(self.actor, Role::Moderator)]).collect())
    }

    fn ban(&self, user_id: UserId, reason: &str, duration: Option<Duration>) -> Result<Vec<Step>, Error> {
        let own = self.require(Role::Moderator)?;
        let member = self.members.get(&user_id);
        if member.is_some_and(|member| !own.may_put_out(member.role)) {
            return Err(Error::RoleTooLow);
        }
        let earlier = self.bans.get(&user_id);
        let ban = Ban {
            user_id,
            // The reason is the words of the one who gave it last.
            banned_by: self.actor,
            reason: reason.to_owned(),
            create_time: earlier.map_or(self.now, |earlier| earlier.create_time),
            expire_time: duration.map(|duration| self.now.plus(duration)),
        };
        let ban = (earlier != Some(&ban)).then_some(Step::Ban(ban));
        let dismissal = member.map(|member| Step::Dismiss { member: *member, removal: Removal::Banned });
        Ok(ban.into_iter().chain(dismissal).collect())
    }

    fn unban(&self, user_id: UserId) -> Result<Vec<Step>, Error> {
        self.require(Role::Moderator)?;
        if !self.bans.contains_key(&user_id) {
            return Err(Error::BanNotFound(user_id));
        }
        Ok(vec![Step::Unban(user_id)])
    }

    fn end_account(&self) -> Vec<Step> {
        let Some(member) = self.members.get(&self.actor) else { return vec![] };
        let succession = self.heir.filter(|_| self.is_last_owner(member));
        succession
            .map(|heir| Step::Assign(heir, Role::Owner))
            .into_iter()
            .chain([Step::Dismiss { member: *member, removal: Removal::UserDeleted }])
            .collect()
    }

    /// The actor's role, when it is at least this one.
    fn require(&self, least: Role) -> Result<Role, Error> {
        self.conversation.require(self.role_of(self.actor), least)
    }

    fn role_of(&self, user_id: UserId) -> Option<Role> {
        self.members.get(&user_id).map(|member| member.role)
    }

    fn require_space_for(&self, newcomers: usize) -> Result<(), Error> {
        let newcomers = i64::try_from(newcomers).unwrap_or(i64::MAX);
        if self.conversation.member_count.saturating_add(newcomers) > self.max_members {
            return Err(Error::TooManyMembers { most: self.max_members });
        }
        Ok(())
    }

    fn member(&self, user_id: UserId) -> Result<Member, Error> {
        self.members.get(&user_id).copied().ok_or(Error::MemberNotFound(user_id))
    }

    fn is_last_owner(&self, member: &Member) -> bool {
        member.role == Role::Owner && self.owners <= 1
    }

    /// One who comes in is a member, muted when that is how the user went out. Coming in gives no rights over what others
    /// wrote: a conversation that has lost its owner stays without one.
    fn newcomer(&self, user_id: UserId) -> Member {
        let role = if self.muted_before.contains(&user_id) { Role::Muted } else { Role::Member };
        Member { user_id, role, join_time: self.now }
    }

    /// Takes a step: afterwards the situation is the one after it. Returns the fact that it is, when it is one that
    /// others act on.
    pub fn take(&mut self, step: &Step, by: Option<UserId>) -> Option<Fact> {
        let conversation = &mut self.conversation;
        let event = match step {
            Step::Configure(settings) => {
                let Settings { title, topic, slow_mode, secure, public_read } = settings.clone();
                conversation.title = title.unwrap_or_else(|| conversation.title.clone());
                conversation.topic = topic.unwrap_or_else(|| conversation.topic.clone());
                conversation.slow_mode = slow_mode.unwrap_or(conversation.slow_mode);
                conversation.secure = secure.unwrap_or(conversation.secure);
                // Those who read without being members are told apart from members by nothing but this: what is written
                // from here on carries a new version, and is handed out only to those who were checked against it.
                if public_read.is_some_and(|public_read| public_read != conversation.public_read) {
                    conversation.public_read = !conversation.public_read;
                    conversation.membership_version += 1;
                }
                conversation.update_time = self.now;
                Event::Updated {
                    title: conversation.title.clone(),
                    topic: conversation.topic.clone(),
                    slow_mode: conversation.slow_mode,
                    secure: conversation.secure,
                    public_read: conversation.public_read,
                }
            }
            Step::Delete => {
                conversation.membership_version += 1;
                conversation.member_count = 0;
                self.members.clear();
                Event::Deleted { user_ids: self.everyone.clone() }
            }
            Step::Admit(members) => {
                conversation.membership_version += 1;
                conversation.member_count += i64::try_from(members.len()).unwrap_or(0);
                self.members.extend(members.iter().map(|member| (member.user_id, *member)));
                Event::MembersAdded { members: members.clone() }
            }
            Step::Dismiss { member, removal } => {
                conversation.membership_version += 1;
                conversation.member_count -= 1;
                self.members.remove(&member.user_id);
                Event::MemberRemoved { user_id: member.user_id, removal: *removal }
            }
            Step::Assign(user_id, role) => {
                conversation.membership_version += 1;
                if let Some(member) = self.members.get_mut(user_id) {
                    member.role = *role;
                }
                Event::MemberRoleChanged { user_id: *user_id, role: *role }
            }
            Step::Ban(ban) => {
                self.bans.insert(ban.user_id, ban.clone());
                return None;
            }
            Step::Unban(user_id) => {
                self.bans.remove(user_id);
                return None;
            }
        };
        Some(Fact::about(&self.conversation, by, self.now, event))
    }
}

#[cfg(test)]
mod tests;
