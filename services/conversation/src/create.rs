//! Making a conversation, or finding the one that is meant.

use std::collections::BTreeSet;

use chassis::caller::Caller;
use proto::id::{ConversationId, UserId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::conversation::{Kind, Namespace, Pair, Title, Topic, View};
use crate::conversations::Conversations;
use crate::error::Error;
use crate::role::Role;

/// How often a creation that lost a race looks for what won. Only a discussion whose members change in the same moment
/// can need more than two.
const ATTEMPTS: usize = 4;

/// What a caller asks to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The kind.
    pub kind: Kind,
    /// The title.
    pub title: Title,
    /// The topic.
    pub topic: Topic,
    /// Whether it takes secure messages only. One that is found becomes so, too, and never the other way round.
    pub secure: bool,
    /// Whether everyone may read it.
    pub public_read: bool,
    /// The users named; the caller may be among them or not.
    pub user_ids: Vec<UserId>,
    /// What makes a retry safe, when the caller wants that.
    pub retry: Option<Retry>,
}

/// What makes a retry safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The caller's name for the call.
    pub request_id: Uuid,
    /// What the call said: another body under the same name is an error.
    pub fingerprint: [u8; 32],
}

/// What a conversation is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A message, which asks first where its author has to ask.
    Message,
    /// Anything else. Whoever has to ask does not get a conversation by it.
    Any,
}

/// A conversation that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The id it gets if it is made.
    pub id: ConversationId,
    /// Who makes it.
    pub creator: UserId,
    /// The kind.
    pub kind: Kind,
    /// The title.
    pub title: Title,
    /// The topic.
    pub topic: Topic,
    /// Whether it takes secure messages only.
    pub secure: bool,
    /// Whether everyone may read it.
    pub public_read: bool,
    /// The namespace of the one who makes it, when that is an external account.
    pub external_namespace: Option<Namespace>,
    /// The first members, the creator among them, ordered by id.
    pub members: Vec<(UserId, Role)>,
    /// What there is only one conversation of.
    pub sole: Sole,
    /// What makes a retry safe.
    pub retry: Option<Retry>,
}

/// What there is only one conversation of: a second one is not made, the first is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sole {
    /// Any number may be like it.
    Any,
    /// The direct conversation of two.
    OfPair(Pair),
    /// The discussion of a set of members, by its SHA-256.
    OfMembers([u8; 32]),
}

/// What came of a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The conversation that was made or found.
    pub view: View,
    /// Whether it was made by this call, or by an earlier try of it.
    pub is_new: bool,
}

impl Draft {
    /// What it means when this user asks for it.
    pub fn plan(self, creator: UserId, max_members: i64) -> Result<Plan, Error> {
        let others: BTreeSet<UserId> =
            self.user_ids.into_iter().filter(|user_id| *user_id != creator).collect();
        let sole = match self.kind {
            Kind::Direct => Sole::OfPair(only_pair(creator, &others)?),
            Kind::Discussion => Sole::OfMembers(member_set(creator, &others)),
            Kind::Group | Kind::Channel | Kind::Room => Sole::Any,
        };
        if self.kind == Kind::Direct && self.title != Title::default() {
            return Err(Error::Field { field: "title", rule: "must be empty for a direct conversation" });
        }
        if self.kind == Kind::Direct && self.topic != Topic::default() {
            return Err(Error::Field { field: "topic", rule: "must be empty for a direct conversation" });
        }
        if self.public_read && matches!(self.kind, Kind::Direct | Kind::Discussion) {
            return Err(Error::Field { field: "public_read", rule: "must not be set for this kind" });
        }
        if i64::try_from(others.len()).unwrap_or(i64::MAX) >= max_members {
            return Err(Error::TooManyMembers { most: max_members });
        }
        // Two people in a direct conversation are equals. Everywhere else somebody answers for it.
        let own_role = if self.kind == Kind::Direct { Role::Member } else { Role::Owner };
        let mut members: Vec<_> = others.into_iter().map(|user_id| (user_id, Role::Member)).collect();
        members.push((creator, own_role));
        members.sort_unstable();
        Ok(Plan {
            id: ConversationId::generate(),
            creator,
            kind: self.kind,
            title: self.title,
            topic: self.topic,
            secure: self.secure,
            public_read: self.public_read,
            external_namespace: None,
            members,
            sole,
            retry: self.retry,
        })
    }
}

fn only_pair(creator: UserId, others: &BTreeSet<UserId>) -> Result<Pair, Error> {
    let mut peers = others.iter();
    match (peers.next(), peers.next()) {
        (Some(peer), None) => Pair::of(creator, *peer),
        _ => None,
    }
    .ok_or(Error::Field {
        field: "user_ids",
        rule: "must name exactly one other user for a direct conversation",
    })
}

/// The SHA-256 of the members' ids in their order.
fn member_set(creator: UserId, others: &BTreeSet<UserId>) -> [u8; 32] {
    let mut members = others.clone();
    members.insert(creator);
    let mut hash = Sha256::new();
    for user_id in members {
        hash.update(user_id.uuid().as_bytes());
    }
    hash.finalize().into()
}

impl Plan {
    /// What it means when the one who makes it is an external account of this namespace, or of none.
    fn within(self, namespace: Option<Namespace>) -> Result<Self, Error> {
        let public_read = match (self.kind, &namespace) {
            (Kind::Group | Kind::Channel | Kind::Room, Some(_)) => true,
            (Kind::Group | Kind::Channel, None) if self.public_read => {
                let rule = "must not be set for a group or a channel, unless an external account makes it";
                return Err(Error::Field { field: "public_read", rule });
            }
            _ => self.public_read,
        };
        Ok(Self { public_read, external_namespace: namespace, ..self })
    }

    /// The members besides the creator.
    fn others(&self) -> Vec<UserId> {
        self.members.iter().map(|(user_id, _)| *user_id).filter(|user_id| *user_id != self.creator).collect()
    }
}

impl Conversations {
    /// Makes a conversation, or finds the one that there may be only one of, or that an earlier try has made.
    pub async fn create(&self, by: &Caller, draft: Draft, purpose: Purpose) -> Result<Created, Error> {
        let caller = by.user_id;
        let mut plan = draft.plan(caller, self.max_members)?;
        let mut others_exist = false;
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.store.find(&plan).await? {
                if !plan.secure || found.view.conversation.secure {
                    return Ok(found);
                }
                self.require_device_keys(caller, &plan).await?;
                match self.secure(caller, found.view.conversation.id).await {
                    Ok(view) => {
                        let view = View { request: found.view.request, ..view };
                        return Ok(Created { view, is_new: found.is_new });
                    }
                    // Gone since it was found, or not the caller's any more: look again.
                    Err(Error::ConversationNotFound(_)) => continue,
                    Err(error) => return Err(error),
                }
            }
            if !others_exist {
                let namespace = self.namespace_of(by).await?;
                self.users.require_in(caller, &plan.others(), namespace.as_ref()).await?;
                plan = plan.within(namespace)?;
                self.require_device_keys(caller, &plan).await?;
                match plan.sole {
                    Sole::OfPair(pair) if purpose == Purpose::Message => {
                        self.require_no_block(caller, pair).await?;
                    }
                    // It would stand in the other's list before the other was asked.
                    _ => self.require_willing(caller, &plan.others()).await?,
                }
                others_exist = true;
            }
            if let Some(view) = self.store.create(&plan, self.clock.now()).await? {
                self.announce();
                tracing::info!(conversation.id = %plan.id, user.id = %caller, "made conversation {}", plan.id);
                return Ok(Created { view, is_new: true });
            }
        }
        Err(Error::Contended)
    }

    /// Refuses to make a direct conversation or a discussion secure while one of its members has no device key in use: every
    /// member may ask for it, nobody can take it back, and without a key one could not write there any more. Elsewhere the
    /// owner answers for it.
    async fn require_device_keys(&self, caller: UserId, plan: &Plan) -> Result<(), Error> {
        if !plan.secure || plan.sole == Sole::Any {
            return Ok(());
        }
        for (user_id, _) in &plan.members {
            if !self.users.has_device_key(caller, *user_id).await? {
                return Err(Error::DeviceKeyMissing(*user_id));
            }
        }
        Ok(())
    }

    /// Refuses when one of the two blocks the other, in the words for all who are not let in.
    async fn require_no_block(&self, caller: UserId, pair: Pair) -> Result<(), Error> {
        let is_blocked = self.store.standing(pair).await?.is_blocked();
        if is_blocked { Err(Error::ContactNotAccepted(pair.other_than(caller))) } else { Ok(()) }
    }

    /// Refuses when one of these does not let the caller bring it in.
    async fn require_willing(&self, caller: UserId, user_ids: &[UserId]) -> Result<(), Error> {
        let unwilling = self.store.unwilling(caller, user_ids).await?;
        unwilling.first().map_or(Ok(()), |user_id| Err(Error::ContactNotAccepted(*user_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: Kind, user_ids: &[UserId]) -> Draft {
        Draft {
            kind,
            title: Title::default(),
            topic: Topic::default(),
            secure: false,
            public_read: false,
            user_ids: user_ids.to_vec(),
            retry: None,
        }
    }

    #[test]
    fn everyone_reads_rooms_that_are_made_so_and_what_external_accounts_make() {
        let [ann, bob] = people();
        let namespace = || Some(Namespace::known("allo".to_owned()));
        let made = |kind, public_read, namespace: Option<Namespace>| {
            let others = if kind == Kind::Room { vec![] } else { vec![bob] };
            let plan = Draft { public_read, ..draft(kind, &others) }.plan(ann, 10)?.within(namespace)?;
            Ok::<_, Error>(plan.public_read)
        };
        for kind in [Kind::Group, Kind::Channel] {
            assert!(matches!(made(kind, true, None), Err(Error::Field { field: "public_read", .. })));
            assert!(!made(kind, false, None).unwrap());
            assert!(made(kind, false, namespace()).unwrap() && made(kind, true, namespace()).unwrap());
        }
        assert!(made(Kind::Room, true, None).unwrap() && !made(Kind::Room, false, None).unwrap());
        assert!(made(Kind::Room, false, namespace()).unwrap());
        for kind in [Kind::Direct, Kind::Discussion] {
            for namespace in [None, namespace()] {
                assert!(!made(kind, false, namespace.clone()).unwrap());
                let refused = made(kind, true, namespace);
                assert!(matches!(refused, Err(Error::Field { field: "public_read", .. })), "{refused:?}");
            }
        }
    }

    fn people<const N: usize>() -> [UserId; N] {
        std::array::from_fn(|_| UserId::generate())
    }

    #[test]
    fn a_direct_conversation_has_exactly_one_other() {
        let [ann, bob, cem] = people();
        for others in [&[][..], &[ann], &[bob, cem]] {
            let refused = draft(Kind::Direct, others).plan(ann, 10);
            assert!(matches!(refused, Err(Error::Field { field: "user_ids", .. })), "{refused:?}");
        }
        let one = draft(Kind::Direct, &[bob]).plan(ann, 10).unwrap();
        let other = draft(Kind::Direct, &[ann, bob, ann]).plan(bob, 10).unwrap();
        assert_eq!(one.sole, other.sole);
        assert!(one.members.iter().all(|(_, role)| *role == Role::Member));
    }

    #[test]
    fn a_direct_conversation_has_no_name() {
        let [ann, bob] = people();
        let named = Draft { title: Title::parse("us").unwrap(), ..draft(Kind::Direct, &[bob]) };
        assert!(matches!(named.plan(ann, 10), Err(Error::Field { field: "title", .. })));
        let about = Draft { topic: Topic::parse("us").unwrap(), ..draft(Kind::Direct, &[bob]) };
        assert!(matches!(about.plan(ann, 10), Err(Error::Field { field: "topic", .. })));
    }

    #[test]
    fn a_discussion_is_its_set_of_members_whoever_asks() {
        let [ann, bob, cem] = people();
        let sole = |by, others: &[UserId]| draft(Kind::Discussion, others).plan(by, 10).unwrap().sole;
        assert_eq!(sole(ann, &[bob, cem]), sole(cem, &[cem, bob, ann, bob]));
        assert_ne!(sole(ann, &[bob, cem]), sole(ann, &[bob]));
        assert_ne!(sole(ann, &[bob]), sole(bob, &[cem]));
    }

    #[test]
    fn who_makes_it_owns_it() {
        let [ann, bob] = people();
        for kind in [Kind::Group, Kind::Discussion, Kind::Channel, Kind::Room] {
            let plan = draft(kind, &[bob, ann, bob]).plan(ann, 10).unwrap();
            let mut expected = vec![(ann, Role::Owner), (bob, Role::Member)];
            expected.sort_unstable();
            assert_eq!(plan.members, expected);
        }
    }

    #[test]
    fn the_creator_counts_as_a_member() {
        let [ann, bob, cem] = people();
        assert!(draft(Kind::Group, &[bob, ann]).plan(ann, 2).is_ok());
        let refused = draft(Kind::Group, &[bob, cem]).plan(ann, 2);
        assert!(matches!(refused, Err(Error::TooManyMembers { most: 2 })), "{refused:?}");
    }
}
