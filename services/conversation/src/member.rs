//! Members, those who are kept out, and what a user may do somewhere.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};

use crate::conversation::{Kind, SlowMode};
use crate::role::Role;
use crate::standing::Writing;

/// A user in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user_id: UserId,
    /// What the user may do.
    pub role: Role,
    /// Since when the user is in.
    pub join_time: Timestamp,
}

/// A user who is kept out of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The user.
    pub user_id: UserId,
    /// Who did it.
    pub banned_by: UserId,
    /// Why; may be empty.
    pub reason: String,
    /// Since when.
    pub create_time: Timestamp,
    /// When it ends; `None` for a ban without end.
    pub expire_time: Option<Timestamp>,
}

impl Ban {
    /// Whether it keeps the user out at this time. At its end it does not.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expire_time.is_none_or(|end| now < end)
    }
}

/// How a member came to be out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// By leaving.
    Left,
    /// A moderator or the owner removed the user.
    Removed,
    /// A moderator or the owner banned the user.
    Banned,
    /// The account was deleted.
    UserDeleted,
}

/// That a user is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The user's role in it.
    pub role: Role,
    /// The conversation's kind.
    pub kind: Kind,
    /// Since when the user is in.
    pub join_time: Timestamp,
}

/// All memberships of a user, or that they are as the asker knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memberships {
    /// The version that the asker knows is the present one.
    Unchanged {
        /// That version.
        version: i64,
    },
    /// The list.
    List {
        /// Its version, or an older one: whoever remembers it asks once too often, never once too little.
        version: i64,
        /// Newest conversation first.
        memberships: Vec<Membership>,
    },
}

/// What a user may do in a conversation that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The conversation's kind.
    pub kind: Kind,
    /// Whether it is about the anonymous viewer, who is not a user.
    pub is_anonymous: bool,
    /// The user's role; `None` for one who is not a member.
    pub role: Option<Role>,
    /// The conversation's membership version that this holds for.
    pub membership_version: i64,
    /// The conversation's slow mode.
    pub slow_mode: SlowMode,
    /// Whether the conversation takes secure messages only.
    pub secure: bool,
    /// Whether everyone may read the conversation.
    pub public_read: bool,
    /// True for a direct conversation whose other person has deleted their account.
    pub peer_gone: bool,
    /// What is between the two people of a direct conversation makes of it; everywhere else writing is free to whose
    /// role allows it.
    pub writing: Writing,
}

impl Access {
    /// Whether the user may know that the conversation exists. Rooms are shown to every user, what everyone reads to the
    /// anonymous viewer too.
    pub fn is_visible(&self) -> bool {
        self.may_read() || (self.kind == Kind::Room && !self.is_anonymous)
    }

    /// Whether the user may read what is in it.
    pub fn may_read(&self) -> bool {
        self.role.is_some() || self.public_read
    }

    /// Whether the user may write into it.
    pub fn may_write(&self) -> bool {
        let is_heard = !matches!(self.writing, Writing::Refused | Writing::Unheard { .. });
        is_heard && !self.peer_gone && self.role.is_some_and(|role| role.may_write(self.kind))
    }

    /// True when the user's message request waits, and takes no message.
    pub fn is_unheard(&self) -> bool {
        matches!(self.writing, Writing::Unheard { .. })
            && !self.peer_gone
            && self.role.is_some_and(|role| role.may_write(self.kind))
    }

    /// Whether the user may write only by a message request that is not made yet.
    pub fn needs_request(&self) -> bool {
        self.may_write() && self.writing == Writing::Needed
    }

    /// Since which membership version the user may have written nothing, when its message request waits.
    pub fn request_version(&self) -> Option<i64> {
        match self.writing {
            Writing::Waiting { request_version } if self.may_write() => Some(request_version),
            Writing::Unheard { request_version } if self.is_unheard() => Some(request_version),
            Writing::Waiting { .. }
            | Writing::Unheard { .. }
            | Writing::Free
            | Writing::Needed
            | Writing::Refused => None,
        }
    }

    /// How long the user has to wait between two messages.
    pub fn wait(&self) -> SlowMode {
        match self.role {
            Some(role) if role.waits_in_slow_mode() => self.slow_mode,
            Some(_) | None => SlowMode::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(kind: Kind, role: Option<Role>) -> Access {
        Access {
            kind,
            is_anonymous: false,
            role,
            membership_version: 1,
            slow_mode: SlowMode::from_millis(5000),
            secure: false,
            public_read: false,
            peer_gone: false,
            writing: Writing::Free,
        }
    }

    #[test]
    fn one_who_is_not_a_member_reads_what_everyone_may_read_and_does_nothing_else() {
        for kind in [Kind::Group, Kind::Channel, Kind::Room] {
            let reader = Access { public_read: true, ..access(kind, None) };
            assert!(reader.is_visible() && reader.may_read());
            assert!(!reader.may_write() && !reader.needs_request());
            assert_eq!(reader.wait(), SlowMode::NONE);
        }
    }

    #[test]
    fn a_ban_ends_at_its_instant() {
        let at = Timestamp::from_millis;
        let ban = |expire_time| Ban {
            user_id: UserId::generate(),
            banned_by: UserId::generate(),
            reason: String::new(),
            create_time: at(1),
            expire_time,
        };
        assert!(ban(Some(at(10))).is_in_force(at(9)));
        assert!(!ban(Some(at(10))).is_in_force(at(10)));
        assert!(ban(None).is_in_force(at(i64::MAX)));
    }

    #[test]
    fn what_is_between_two_takes_from_what_the_role_allows_and_adds_nothing() {
        let waiting = Writing::Waiting { request_version: 7 };
        for (writing, expected) in [
            (Writing::Free, (true, false, None)),
            (Writing::Refused, (false, false, None)),
            (Writing::Needed, (true, true, None)),
            (waiting, (true, false, Some(7))),
            (Writing::Unheard { request_version: 7 }, (false, false, Some(7))),
        ] {
            let member = Access { writing, ..access(Kind::Direct, Some(Role::Member)) };
            assert_eq!((member.may_write(), member.needs_request(), member.request_version()), expected);
            let stranger = Access { writing, ..access(Kind::Direct, None) };
            let seen = (stranger.may_write(), stranger.needs_request(), stranger.request_version());
            assert_eq!(seen, (false, false, None));
        }
    }

    #[test]
    fn nobody_writes_to_one_who_is_gone_whatever_was_between_the_two() {
        let (waiting, unheard) =
            (Writing::Waiting { request_version: 7 }, Writing::Unheard { request_version: 7 });
        for writing in [Writing::Free, Writing::Needed, waiting, unheard] {
            let left = Access { writing, peer_gone: true, ..access(Kind::Direct, Some(Role::Member)) };
            assert!(left.may_read() && !left.may_write() && !left.needs_request() && !left.is_unheard());
            assert_eq!(left.request_version(), None);
        }
    }

    #[test]
    fn a_stranger_sees_rooms_and_reads_nothing() {
        for kind in [Kind::Direct, Kind::Group, Kind::Discussion, Kind::Channel, Kind::Room] {
            let access = access(kind, None);
            assert_eq!(access.is_visible(), kind == Kind::Room);
            assert!(!access.may_read() && !access.may_write());
            let anonymous = Access { is_anonymous: true, ..access };
            assert!(!anonymous.is_visible() && !anonymous.may_read() && !anonymous.may_write());
            assert!(Access { public_read: true, ..anonymous }.is_visible());
        }
    }

    #[test]
    fn every_member_reads() {
        for role in Role::ALL {
            let access = access(Kind::Channel, Some(role));
            assert!(access.is_visible() && access.may_read());
            assert_eq!(access.may_write(), role >= Role::Moderator);
        }
    }

    #[test]
    fn those_who_moderate_do_not_wait() {
        let waits = Role::ALL.map(|role| access(Kind::Room, Some(role)).wait().as_millis());
        assert_eq!(waits, [5000, 5000, 0, 0]);
    }
}
