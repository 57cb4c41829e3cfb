//! Who asks, and what the policy of an rpc promises them.

use proto::policy::{Access, Policy, Refusal, Relation};

/// What somebody is to the conversation of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Made it.
    Owner,
    /// Was made moderator.
    Moderator,
    /// A member, who wrote the message and the poll, and has something scheduled.
    Author,
    /// A member.
    Member,
    /// A member who only reads.
    Muted,
    /// Was a member and is kept out.
    Banned,
    /// Was a member.
    Left,
    /// Never was one.
    Outsider,
    /// A member without an account.
    Guest,
    /// An account that stands for a name in another system. Never was a member.
    External,
    /// Not signed in.
    Anonymous,
}

/// All of them.
pub const ROLES: [Role; 11] = [
    Role::Owner,
    Role::Moderator,
    Role::Author,
    Role::Member,
    Role::Muted,
    Role::Banned,
    Role::Left,
    Role::Outsider,
    Role::Guest,
    Role::External,
    Role::Anonymous,
];

/// How a call ends: with an answer, or with this gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is done.
    Allowed,
    /// It is refused.
    Refused(&'static str),
}

/// It reads as if the thing did not exist.
pub const NOT_FOUND: Expected = Expected::Refused("NOT_FOUND");
/// It may be known to exist.
pub const DENIED: Expected = Expected::Refused("PERMISSION_DENIED");
/// Nobody is signed in.
pub const UNAUTHENTICATED: Expected = Expected::Refused("UNAUTHENTICATED");

impl Role {
    /// Whether one may know that the conversation is there.
    pub fn is_in(self) -> bool {
        !matches!(self, Self::Banned | Self::Left | Self::Outsider | Self::External | Self::Anonymous)
    }

    /// Whether one has no account of one's own.
    pub fn has_no_account(self) -> bool {
        matches!(self, Self::Guest | Self::External)
    }

    /// Whether one is this to the conversation, or to the thing in it that the author made.
    fn is(self, relation: Relation) -> bool {
        match relation {
            Relation::Own => self != Self::Anonymous,
            Relation::Member => self.is_in(),
            Relation::Writer | Relation::Participant => self.is_in() && self != Self::Muted,
            Relation::Author => self == Self::Author,
            Relation::AuthorOrModerator => matches!(self, Self::Author | Self::Moderator | Self::Owner),
            Relation::Moderator => matches!(self, Self::Moderator | Self::Owner),
            Relation::Owner => self == Self::Owner,
        }
    }

    /// What the policy promises. `in_scene` says whether the request names something of the scene's conversation: what
    /// a relation is about is not there otherwise.
    pub fn expects(self, policy: &Policy, in_scene: bool) -> Expected {
        match (policy.access, self) {
            (Access::Anyone, _) => return Expected::Allowed,
            (_, Self::Anonymous) => return UNAUTHENTICATED,
            (Access::Service, _) => return DENIED,
            // They may get what they ask for by registering.
            (Access::Account, Self::Guest | Self::External) => {
                return Expected::Refused("FAILED_PRECONDITION");
            }
            (Access::User | Access::Account, _) => {}
        }
        let Some(relation) = policy.relation.filter(|_| in_scene) else { return Expected::Allowed };
        match policy.refusal {
            _ if self.is(relation) => Expected::Allowed,
            Some(Refusal::PermissionDenied) if self.is_in() => DENIED,
            Some(Refusal::PermissionDenied | Refusal::NotFound) | None => NOT_FOUND,
        }
    }
}
