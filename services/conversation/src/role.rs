//! What a member may do, and to whom.

use crate::conversation::Kind;

/// What a member may do. Roles rise with the rights, so that they can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and does not write.
    Muted,
    /// Reads and writes.
    Member,
    /// Adds, removes, mutes and bans members.
    Moderator,
    /// Does everything.
    Owner,
}

impl Role {
    /// Every role, lowest first.
    pub const ALL: [Self; 4] = [Self::Muted, Self::Member, Self::Moderator, Self::Owner];

    /// Whether a member in this role may write in a conversation of this kind.
    pub fn may_write(self, kind: Kind) -> bool {
        match kind {
            Kind::Channel => self >= Self::Moderator,
            Kind::Direct | Kind::Group | Kind::Discussion | Kind::Room => self >= Self::Member,
        }
    }

    /// Whether a member in this role may put out or ban one in the other role.
    pub fn may_put_out(self, other: Self) -> bool {
        self >= Self::Moderator && self > other
    }

    /// Whether a member in this role may give a member in the role `from` the role `to`. Only owners make or unmake
    /// owners and moderators.
    pub fn may_assign(self, from: Self, to: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Moderator => from < Self::Moderator && to < Self::Moderator,
            Self::Muted | Self::Member => false,
        }
    }

    /// Whether slow mode makes a member in this role wait.
    pub fn waits_in_slow_mode(self) -> bool {
        self < Self::Moderator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] = [Kind::Direct, Kind::Group, Kind::Discussion, Kind::Channel, Kind::Room];

    #[test]
    fn the_muted_write_nowhere_and_members_everywhere_but_in_channels() {
        for kind in KINDS {
            assert!(!Role::Muted.may_write(kind));
            assert_eq!(Role::Member.may_write(kind), kind != Kind::Channel);
            assert!(Role::Moderator.may_write(kind));
            assert!(Role::Owner.may_write(kind));
        }
    }

    #[test]
    fn nobody_puts_out_an_equal_or_a_higher_one() {
        for by in Role::ALL {
            for whom in Role::ALL {
                let may = by.may_put_out(whom);
                assert_eq!(may, by > whom && matches!(by, Role::Moderator | Role::Owner), "{by:?} {whom:?}");
            }
        }
    }

    #[test]
    fn only_owners_make_and_unmake_moderators_and_owners() {
        for from in Role::ALL {
            for to in Role::ALL {
                let is_high = |role| matches!(role, Role::Moderator | Role::Owner);
                assert!(Role::Owner.may_assign(from, to));
                assert_eq!(Role::Moderator.may_assign(from, to), !is_high(from) && !is_high(to));
                assert!(!Role::Member.may_assign(from, to));
                assert!(!Role::Muted.may_assign(from, to));
            }
        }
    }

    #[test]
    fn who_moderates_does_not_wait() {
        assert_eq!(Role::ALL.map(Role::waits_in_slow_mode), [true, true, false, false]);
    }
}
