//! What the store promises, run on both databases.

use std::collections::{BTreeMap, BTreeSet};

use chassis::database::facts::Claim;
use chassis::database::testing;
use proto::conversation::v1 as pb;
use proto::conversation::v1::conversation_fact::Payload;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;
use crate::change::Settings;
use crate::conversation::{Conversation, Kind, SlowMode, Title, Topic};
use crate::create::{Draft, Retry};
use crate::publish;
use crate::role::Role;

/// One test for each promise, on each database.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    let (database, _scratch) = super::testing::sqlite(&crate::MIGRATOR, crate::NAME).await;
                    super::$name(super::World::new(database)).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    let Some((database, _scratch)) = super::testing::postgres(&crate::MIGRATOR, crate::NAME).await else {
                        return;
                    };
                    super::$name(super::World::new(database)).await;
                }
            )*
        }
    };
}

promises![
    what_is_made_is_found,
    two_who_start_at_once_get_the_same_direct_conversation,
    a_discussion_is_found_by_its_members_until_they_change,
    many_who_start_at_once_get_the_same_discussion,
    a_retry_finds_the_first_result,
    of_two_owners_who_leave_at_once_one_stays,
    versions_and_facts_have_no_gaps,
    a_refusal_leaves_nothing,
    a_list_of_memberships_has_a_version,
    access_is_answered_for_many_at_once,
    lists_are_paged_without_loss,
    a_ban_outlives_everything,
    a_mute_outlives_leaving,
    one_who_comes_into_an_empty_room_does_not_own_it,
    what_a_deleted_owner_leaves_passes_to_the_highest_role_and_never_to_the_muted,
    a_deleted_conversation_is_gone,
    settings_are_kept,
    ownership_changes_hands_in_one_step,
    a_deleted_account_is_a_member_nowhere,
    a_deleted_account_comes_in_nowhere,
    an_end_takes_effect_once,
    many_memberships_end,
];

mod bans;
mod contacts;
mod presence;
mod public;
mod secure;

#[derive(Clone)]
struct World {
    store: Store,
    database: Database,
}

const MAX_MEMBERS: i64 = 500;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn people<const N: usize>() -> [UserId; N] {
    let mut people = std::array::from_fn(|_| UserId::generate());
    people.sort();
    people
}

fn draft(kind: Kind, others: &[UserId]) -> Draft {
    Draft {
        kind,
        title: Title::default(),
        topic: Topic::default(),
        secure: false,
        public_read: false,
        user_ids: others.to_vec(),
        retry: None,
    }
}

impl World {
    fn new(database: Database) -> Self {
        Self { store: Store::new(database.clone()), database }
    }

    fn plan(&self, kind: Kind, by: UserId, others: &[UserId]) -> Plan {
        draft(kind, others).plan(by, MAX_MEMBERS).unwrap()
    }

    async fn make(&self, kind: Kind, by: UserId, others: &[UserId]) -> ConversationId {
        self.store.create(&self.plan(kind, by, others), at(1000)).await.unwrap().unwrap().conversation.id
    }

    /// As the use case does: look, make, and look again when somebody was faster.
    async fn find_or_make(&self, kind: Kind, by: UserId, others: &[UserId]) -> Created {
        let plan = self.plan(kind, by, others);
        loop {
            if let Some(found) = self.store.find(&plan).await.unwrap() {
                return found;
            }
            if let Some(view) = self.store.create(&plan, at(1000)).await.unwrap() {
                return Created { view, is_new: true };
            }
        }
    }

    async fn change_at(
        &self,
        millis: i64,
        id: ConversationId,
        actor: UserId,
        change: Change,
    ) -> Result<Changed, Error> {
        self.store.change(id, actor, &change, Bounds { max_members: MAX_MEMBERS, now: at(millis) }).await
    }

    async fn change(&self, id: ConversationId, actor: UserId, change: Change) -> Result<Changed, Error> {
        self.change_at(2000, id, actor, change).await
    }

    async fn conversation(&self, id: ConversationId) -> Conversation {
        self.store.view(id, UserId::generate()).await.unwrap().unwrap().conversation
    }

    async fn role(&self, id: ConversationId, user: UserId) -> Option<Role> {
        self.store.view(id, user).await.unwrap().and_then(|view| view.own_role)
    }

    /// All members, as one of them sees them.
    async fn members(&self, id: ConversationId, viewer: UserId) -> Vec<(UserId, Role)> {
        let members =
            self.store.members(id, viewer, Role::Muted, Page { after: None, limit: 10_000 }).await.unwrap();
        members.iter().map(|member| (member.user_id, member.role)).collect()
    }

    async fn list(&self, user: UserId) -> (i64, Vec<(ConversationId, Role)>) {
        match self.store.memberships(user, 0).await.unwrap() {
            Memberships::Unchanged { .. } => panic!("version 0 is never the present one"),
            Memberships::List { version, memberships } => {
                (version, memberships.iter().map(|m| (m.conversation_id, m.role)).collect())
            }
        }
    }

    /// How far the facts of auth have been applied.
    async fn position(&self) -> i64 {
        self.database.feed_cursor("auth").await.unwrap().position
    }

    async fn facts(&self) -> Vec<pb::ConversationFact> {
        let facts = self.store.facts(0, 100_000).await.unwrap();
        facts.iter().map(|(position, payload)| publish::decode(*position, payload).unwrap()).collect()
    }

    async fn facts_of(&self, id: ConversationId) -> Vec<pb::ConversationFact> {
        let id = id.to_string();
        self.facts().await.into_iter().filter(|fact| fact.conversation_id == id).collect()
    }
}

async fn what_is_made_is_found(world: World) {
    let [ann, bob, cem] = people();
    let draft = Draft {
        title: Title::parse("Lunch").unwrap(),
        topic: Topic::parse("Where to?").unwrap(),
        ..draft(Kind::Group, &[bob])
    };
    let plan = draft.plan(ann, MAX_MEMBERS).unwrap();
    let made = world.store.create(&plan, at(1234)).await.unwrap().unwrap();
    let id = made.conversation.id;
    assert_eq!((made.own_role, made.conversation.member_count), (Some(Role::Owner), 2));
    assert_eq!(world.store.view(id, ann).await.unwrap(), Some(made.clone()));
    let seen = world.store.view(id, bob).await.unwrap().unwrap();
    assert_eq!((seen.own_role, &seen.conversation), (Some(Role::Member), &made.conversation));
    assert_eq!(world.store.view(id, cem).await.unwrap().unwrap().own_role, None);
    assert_eq!(world.store.view(ConversationId::generate(), ann).await.unwrap(), None);

    let direct = world.make(Kind::Direct, ann, &[bob]).await;
    let views = world.store.views(&[id, direct, id], bob).await.unwrap();
    assert_eq!(views.len(), 2);
    let peer = views.iter().find(|view| view.conversation.id == direct).and_then(View::peer);
    assert_eq!(peer, Some(ann));
    assert!(world.store.views(&[id, direct], cem).await.unwrap().is_empty());

    let facts = world.facts_of(id).await;
    let [pb::ConversationFact { payload: Some(Payload::ConversationCreated(created)), .. }] =
        facts.as_slice()
    else {
        panic!("{facts:?}")
    };
    assert_eq!((created.title.as_str(), created.members.len()), ("Lunch", 2));
    assert_eq!((facts[0].membership_version, facts[0].actor_user_id.clone()), (1, ann.to_string()));
}

async fn race(world: &World, kind: Kind, group: &[UserId]) -> Vec<Created> {
    let mut racers = JoinSet::new();
    for n in 0..16 {
        let (world, group) = (world.clone(), group.to_vec());
        racers.spawn(async move { world.find_or_make(kind, group[n % group.len()], &group).await });
    }
    racers.join_all().await
}

async fn two_who_start_at_once_get_the_same_direct_conversation(world: World) {
    let pair: [UserId; 2] = people();
    let outcomes = race(&world, Kind::Direct, &pair).await;
    let ids: BTreeSet<_> = outcomes.iter().map(|created| created.view.conversation.id).collect();
    assert_eq!((ids.len(), outcomes.iter().filter(|created| created.is_new).count()), (1, 1));
    assert_eq!(world.facts().await.len(), 1);
    let (version, list) = world.list(pair[0]).await;
    assert_eq!((version, list.len()), (2, 1));
}

async fn many_who_start_at_once_get_the_same_discussion(world: World) {
    let group: [UserId; 4] = people();
    let outcomes = race(&world, Kind::Discussion, &group).await;
    let ids: BTreeSet<_> = outcomes.iter().map(|created| created.view.conversation.id).collect();
    assert_eq!((ids.len(), outcomes.iter().filter(|created| created.is_new).count()), (1, 1));
    assert_eq!(world.facts().await.len(), 1);
}

async fn a_discussion_is_found_by_its_members_until_they_change(world: World) {
    let [ann, bob, cem, dee] = people();
    let first = world.find_or_make(Kind::Discussion, ann, &[bob, cem]).await.view.conversation.id;
    assert_eq!(world.find_or_make(Kind::Discussion, cem, &[ann, bob]).await.view.conversation.id, first);
    // A group with the same members is something else, and so is a role.
    assert_ne!(world.find_or_make(Kind::Group, ann, &[bob, cem]).await.view.conversation.id, first);
    world.change(first, ann, Change::SetRole(bob, Role::Moderator)).await.unwrap();
    assert_eq!(world.find_or_make(Kind::Discussion, bob, &[ann, cem]).await.view.conversation.id, first);

    world.change(first, ann, Change::Add(vec![dee])).await.unwrap();
    let second = world.find_or_make(Kind::Discussion, bob, &[ann, cem]).await;
    assert!(second.is_new);
    // It is not found by its new members either: it has become a group.
    assert!(world.find_or_make(Kind::Discussion, ann, &[bob, cem, dee]).await.is_new);
    assert_eq!(world.conversation(first).await.member_count, 4);
}

async fn a_retry_finds_the_first_result(world: World) {
    let [ann, bob, cem] = people();
    let retry = Retry { request_id: Uuid::from_u128(7), fingerprint: [1; 32] };
    let plan = |by, fingerprint| {
        let retry = Some(Retry { fingerprint, ..retry });
        Draft { retry, ..draft(Kind::Group, &[ann, bob]) }.plan(by, MAX_MEMBERS).unwrap()
    };
    assert_eq!(world.store.find(&plan(ann, [1; 32])).await.unwrap(), None);

    // All tries at once make one.
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let (store, plan) = (world.store.clone(), plan(ann, [1; 32]));
        tries.spawn(async move { store.create(&plan, at(1000)).await.unwrap().is_some() });
    }
    assert_eq!(tries.join_all().await.iter().filter(|made| **made).count(), 1);
    let first = world.store.find(&plan(ann, [1; 32])).await.unwrap().unwrap();
    assert!(first.is_new);
    assert!(matches!(world.store.find(&plan(ann, [2; 32])).await, Err(Error::RequestIdReused(_))));
    // Another user's ids are that user's own.
    assert_eq!(world.store.find(&plan(cem, [1; 32])).await.unwrap(), None);

    // Who was put out is not shown what goes on there, and a deleted conversation is not made again.
    let id = first.view.conversation.id;
    world.change(id, ann, Change::Transfer(bob)).await.unwrap();
    world.change(id, bob, Change::Remove(ann)).await.unwrap();
    assert!(matches!(world.store.find(&plan(ann, [1; 32])).await, Err(Error::ConversationNotFound(_))));
    world.change(id, bob, Change::Delete).await.unwrap();
    assert!(matches!(world.store.find(&plan(ann, [1; 32])).await, Err(Error::ConversationNotFound(_))));
    assert!(world.store.create(&plan(ann, [1; 32]), at(1000)).await.unwrap().is_none());
}

async fn of_two_owners_who_leave_at_once_one_stays(world: World) {
    for _ in 0..10 {
        let [ann, bob, cem] = people();
        let id = world.make(Kind::Group, ann, &[bob, cem]).await;
        world.change(id, ann, Change::SetRole(bob, Role::Owner)).await.unwrap();
        let mut leaving = JoinSet::new();
        for owner in [ann, bob] {
            let world = world.clone();
            leaving.spawn(async move { world.change(id, owner, Change::Leave).await.map(|_| ()) });
        }
        let outcomes = leaving.join_all().await;
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::LastOwner))).count();
        assert_eq!((outcomes.len(), refused), (2, 1), "{outcomes:?}");
        let owners = world.members(id, cem).await.iter().filter(|(_, role)| *role == Role::Owner).count();
        assert_eq!(owners, 1);
    }
}

async fn versions_and_facts_have_no_gaps(world: World) {
    let [ann, bob] = people();
    let rooms = [world.make(Kind::Room, ann, &[]).await, world.make(Kind::Room, bob, &[ann]).await];
    let mut crowd = JoinSet::new();
    for n in 0..16_usize {
        let world = world.clone();
        crowd.spawn(async move {
            let user = UserId::generate();
            for turn in 0..6 {
                let room = rooms[(n + turn) % 2];
                world.change(room, user, Change::Join { namespace: None }).await.unwrap();
                if turn % 3 == 1 {
                    world.change(room, user, Change::Leave).await.unwrap();
                }
                if turn % 3 == 2 {
                    world
                        .change(room, [ann, bob][(n + turn) % 2], Change::SetRole(user, Role::Muted))
                        .await
                        .unwrap();
                }
            }
            user
        });
    }
    let crowd = crowd.join_all().await;

    let facts = world.facts().await;
    let positions: Vec<i64> = facts.iter().map(|fact| fact.position).collect();
    assert_eq!(positions, (1..=i64::try_from(facts.len()).unwrap()).collect::<Vec<_>>());
    let ids: BTreeSet<&str> = facts.iter().map(|fact| fact.event_id.as_str()).collect();
    assert_eq!(ids.len(), facts.len());
    for room in rooms {
        // The facts alone tell who is in, in which role, at every version.
        let mut told: BTreeMap<String, pb::MemberRole> = BTreeMap::new();
        let facts = world.facts_of(room).await;
        for (version, fact) in (1..).zip(&facts) {
            assert_eq!(fact.membership_version, version);
            match fact.payload.as_ref().unwrap() {
                Payload::ConversationCreated(pb::ConversationCreated { members, .. })
                | Payload::MembersAdded(pb::MembersAdded { members }) => {
                    told.extend(members.iter().map(|member| (member.user_id.clone(), member.role())));
                }
                Payload::MemberRemoved(removed) => assert!(told.remove(&removed.user_id).is_some()),
                Payload::MemberRoleChanged(changed) => {
                    assert!(told.insert(changed.user_id.clone(), changed.role()).is_some());
                }
                other => panic!("{other:?}"),
            }
        }
        let conversation = world.conversation(room).await;
        assert_eq!(Some(conversation.membership_version), facts.last().map(|fact| fact.membership_version));
        assert_eq!(usize::try_from(conversation.member_count).unwrap(), told.len());
        let members = world.members(room, ann).await.into_iter().collect::<BTreeMap<_, _>>();
        let members: BTreeMap<_, _> =
            members.into_iter().map(|(user, role)| (user.to_string(), pb::MemberRole::from(role))).collect();
        assert_eq!(members, told);
    }
    for user in crowd {
        let changes = facts.iter().filter(|fact| match fact.payload.as_ref().unwrap() {
            Payload::MembersAdded(added) => {
                added.members.iter().any(|member| member.user_id == user.to_string())
            }
            Payload::MemberRemoved(removed) => removed.user_id == user.to_string(),
            Payload::MemberRoleChanged(changed) => changed.user_id == user.to_string(),
            _ => false,
        });
        assert_eq!(world.list(user).await.0, 1 + i64::try_from(changes.count()).unwrap());
    }
}

async fn a_refusal_leaves_nothing(world: World) {
    let [ann, bob, cem, dee] = people();
    let id = world.make(Kind::Group, ann, &[bob]).await;
    let before = (world.conversation(id).await, world.members(id, ann).await, world.facts().await.len());
    for (actor, change) in [
        (bob, Change::Add(vec![cem])),
        (bob, Change::Remove(ann)),
        (cem, Change::Join { namespace: None }),
        (cem, Change::Leave),
        (ann, Change::Leave),
        (ann, Change::SetRole(ann, Role::Member)),
        (ann, Change::Remove(dee)),
        (ann, Change::Unban(bob)),
        (bob, Change::Delete),
        (bob, Change::Configure(Settings { title: Some(Title::parse("x").unwrap()), ..Settings::default() })),
    ] {
        let refused = world.change(id, actor, change.clone()).await;
        assert!(refused.is_err(), "{change:?}");
    }
    assert_eq!(
        (world.conversation(id).await, world.members(id, ann).await, world.facts().await.len()),
        before
    );
    assert_eq!(world.list(cem).await, (1, vec![]));
    let unknown = world.change(ConversationId::generate(), ann, Change::Leave).await;
    assert!(matches!(unknown, Err(Error::ConversationNotFound(_))));
}

async fn a_list_of_memberships_has_a_version(world: World) {
    let [ann, bob, cem] = people();
    assert_eq!(world.list(ann).await, (1, vec![]));
    assert_eq!(world.store.memberships(ann, 1).await.unwrap(), Memberships::Unchanged { version: 1 });

    let first = world.make(Kind::Group, ann, &[bob]).await;
    let second = world.make(Kind::Room, bob, &[ann]).await;
    assert_eq!(world.list(ann).await, (3, vec![(second, Role::Member), (first, Role::Owner)]));
    assert_eq!(world.store.memberships(ann, 3).await.unwrap(), Memberships::Unchanged { version: 3 });

    // What concerns the others alone does not move it, nor do settings.
    world.change(first, ann, Change::Add(vec![cem])).await.unwrap();
    let settings = Settings { slow_mode: Some(SlowMode::from_millis(1000)), ..Settings::default() };
    world.change(first, ann, Change::Configure(settings)).await.unwrap();
    assert_eq!(world.list(ann).await.0, 3);
    world.change(second, bob, Change::SetRole(ann, Role::Moderator)).await.unwrap();
    assert_eq!(world.list(ann).await, (4, vec![(second, Role::Moderator), (first, Role::Owner)]));
    world.change(second, bob, Change::Remove(ann)).await.unwrap();
    assert_eq!(world.list(ann).await, (5, vec![(first, Role::Owner)]));
    world.change(first, ann, Change::Delete).await.unwrap();
    assert_eq!(world.list(ann).await, (6, vec![]));
    assert_eq!(world.list(cem).await, (3, vec![]));
}

async fn access_is_answered_for_many_at_once(world: World) {
    let [ann, bob, cem] = people();
    let group = world.make(Kind::Group, ann, &[bob]).await;
    let channel = world.make(Kind::Channel, ann, &[bob]).await;
    let room = world.make(Kind::Room, ann, &[]).await;
    let settings = Settings { slow_mode: Some(SlowMode::from_millis(2500)), ..Settings::default() };
    world.change(group, ann, Change::Configure(settings)).await.unwrap();
    let unknown = ConversationId::generate();

    let mut pairs: Vec<Pair> = [group, channel, room, unknown]
        .into_iter()
        .flat_map(|id| [ann, bob, cem].map(|user| (id, user)))
        .collect();
    // More than one statement takes.
    pairs.extend((0..300).map(|_| (group, UserId::generate())));
    let answers = world.store.access(&pairs).await.unwrap();
    assert_eq!(answers.len(), 309);
    let access = |id, user| answers.get(&(id, user)).copied();
    let kind_and_role = |id, user| access(id, user).map(|access: Access| (access.kind, access.role));
    assert_eq!(kind_and_role(group, ann), Some((Kind::Group, Some(Role::Owner))));
    assert_eq!(kind_and_role(group, bob), Some((Kind::Group, Some(Role::Member))));
    assert_eq!(kind_and_role(group, cem), Some((Kind::Group, None)));
    assert_eq!(kind_and_role(channel, bob), Some((Kind::Channel, Some(Role::Member))));
    assert_eq!(kind_and_role(room, cem), Some((Kind::Room, None)));
    assert_eq!(access(unknown, ann), None);
    assert_eq!(access(group, bob).map(|access| access.wait().as_millis()), Some(2500));
    assert_eq!(access(group, ann).map(|access| access.wait().as_millis()), Some(0));
    assert_eq!(world.store.access(&[]).await.unwrap().len(), 0);

    // It tells of the last change, in its version too.
    world.change(group, ann, Change::SetRole(bob, Role::Muted)).await.unwrap();
    let muted = world.store.access(&[(group, bob)]).await.unwrap()[&(group, bob)];
    assert_eq!((muted.role, muted.membership_version), (Some(Role::Muted), 2));
    world.change(group, ann, Change::Delete).await.unwrap();
    assert!(world.store.access(&[(group, ann)]).await.unwrap().is_empty());
}

async fn lists_are_paged_without_loss(world: World) {
    let [ann, bob] = people();
    let room = world.make(Kind::Room, ann, &[]).await;
    let mut expected = vec![(at(1000), ann)];
    for n in 0..10 {
        // Several come in at the same time: then the id decides.
        let user = UserId::generate();
        let millis = 2000 + n / 4;
        world.change_at(millis, room, user, Change::Join { namespace: None }).await.unwrap();
        world
            .change_at(
                millis,
                room,
                ann,
                Change::Ban { user_id: UserId::generate(), reason: n.to_string(), duration: None },
            )
            .await
            .unwrap();
        expected.push((at(millis), user));
    }
    expected.sort();

    let (mut members, mut bans) = (vec![], vec![]);
    let mut page = Page { after: None, limit: 3 };
    loop {
        let rows = world.store.members(room, ann, Role::Muted, page).await.unwrap();
        let paged = crate::paging::Paged::cut(rows, &page, |member| (member.join_time, member.user_id));
        members.extend(paged.items.iter().map(|member| (member.join_time, member.user_id)));
        let Some(next) = paged.next else { break };
        page.after = Some(next);
    }
    assert_eq!(members, expected);
    page.after = None;
    loop {
        let rows = world.store.bans(room, ann, at(2000), page).await.unwrap();
        let paged = crate::paging::Paged::cut(rows, &page, |ban| (ban.create_time, ban.user_id));
        bans.extend(paged.items);
        let Some(next) = paged.next else { break };
        page.after = Some(next);
    }
    assert_eq!(bans.len(), 10);
    assert!(bans.is_sorted_by_key(|ban| (ban.create_time, ban.user_id)));
    assert!(bans.iter().all(|ban| ban.banned_by == ann));
    // Only those who may see them, see them.
    let all = Page { after: None, limit: 100 };
    assert!(world.store.members(room, bob, Role::Muted, all).await.unwrap().is_empty());
    assert!(world.store.bans(room, expected[5].1, at(2000), all).await.unwrap().is_empty());

    let mut made = vec![room];
    for _ in 0..6 {
        made.push(world.make(Kind::Group, ann, &[]).await);
    }
    made.reverse();
    let first = world.store.list(ann, Page { after: None, limit: 4 }).await.unwrap();
    let first: Vec<_> = first.iter().map(|view| view.conversation.id).collect();
    assert_eq!(first, made[..5]);
    let rest = world.store.list(ann, Page { after: Some(made[3]), limit: 4 }).await.unwrap();
    assert_eq!(rest.iter().map(|view| view.conversation.id).collect::<Vec<_>>(), made[4..]);
}

async fn a_ban_outlives_everything(world: World) {
    let [ann, bob, cem, dee] = people();
    let room = world.make(Kind::Room, ann, &[bob, dee]).await;
    world.change(room, ann, Change::SetRole(bob, Role::Moderator)).await.unwrap();
    let ban = |user_id| Change::Ban { user_id, reason: "spam".to_owned(), duration: None };
    // One who is in, and one who never was.
    world.change(room, bob, ban(dee)).await.unwrap();
    let outcome = world.change(room, bob, ban(cem)).await.unwrap();
    assert!(!outcome.has_facts);
    assert_eq!(world.role(room, dee).await, None);
    for user in [cem, dee] {
        assert!(matches!(
            world.change(room, user, Change::Join { namespace: None }).await,
            Err(Error::Banned { until: None, .. })
        ));
        let added = world.change(room, ann, Change::Add(vec![UserId::generate(), user])).await;
        assert!(matches!(added, Err(Error::UserBanned(banned)) if banned == user));
    }
    // A second ban says what holds from then on, and since when the user is kept out does not change.
    let again = world
        .change_at(9000, room, ann, Change::Ban { user_id: cem, reason: "other".to_owned(), duration: None })
        .await
        .unwrap();
    let kept = &again.situation.bans[&cem];
    assert_eq!((kept.reason.as_str(), kept.banned_by, kept.create_time), ("other", ann, at(2000)));
    let all = Page { after: None, limit: 10 };
    let listed = world.store.bans(room, ann, at(9000), all).await.unwrap();
    assert_eq!(listed.iter().find(|ban| ban.user_id == cem), Some(kept));

    world.change(room, ann, Change::Unban(dee)).await.unwrap();
    assert_eq!(world.role(room, dee).await, None);
    world.change(room, dee, Change::Join { namespace: None }).await.unwrap();
    assert!(matches!(world.change(room, ann, Change::Unban(dee)).await, Err(Error::BanNotFound(_))));
}

async fn a_mute_outlives_leaving(world: World) {
    let [ann, bob] = people();
    let room = world.make(Kind::Room, ann, &[bob]).await;
    world.change(room, ann, Change::SetRole(bob, Role::Muted)).await.unwrap();
    for _ in 0..2 {
        world.change(room, bob, Change::Leave).await.unwrap();
        world.change(room, bob, Change::Join { namespace: None }).await.unwrap();
        assert_eq!(world.role(room, bob).await, Some(Role::Muted));
    }
    world.change(room, ann, Change::SetRole(bob, Role::Member)).await.unwrap();
    world.change(room, bob, Change::Leave).await.unwrap();
    world.change(room, bob, Change::Join { namespace: None }).await.unwrap();
    assert_eq!(world.role(room, bob).await, Some(Role::Member));
}

async fn one_who_comes_into_an_empty_room_does_not_own_it(world: World) {
    let [ann, bob] = people();
    let room = world.make(Kind::Room, ann, &[]).await;
    world.change(room, ann, Change::Leave).await.unwrap();
    assert_eq!(world.conversation(room).await.member_count, 0);
    for user in [bob, ann] {
        world.change(room, user, Change::Join { namespace: None }).await.unwrap();
        assert_eq!(world.role(room, user).await, Some(Role::Member));
        let deleted = world.change(room, user, Change::Delete).await;
        assert!(matches!(deleted, Err(Error::RoleTooLow)), "{deleted:?}");
    }
    // One who is not the owner may go, although nobody is.
    world.change(room, bob, Change::Leave).await.unwrap();
}

async fn what_a_deleted_owner_leaves_passes_to_the_highest_role_and_never_to_the_muted(world: World) {
    let [ann, bob, cem, dee] = people();
    let at_once = world.make(Kind::Room, ann, &[bob, cem]).await;
    world.change(at_once, ann, Change::SetRole(bob, Role::Muted)).await.unwrap();
    world.change_at(7000, at_once, dee, Change::Join { namespace: None }).await.unwrap();
    let moderated = world.make(Kind::Room, ann, &[bob, cem]).await;
    world.change_at(7000, moderated, dee, Change::Join { namespace: None }).await.unwrap();
    world.change(moderated, ann, Change::SetRole(dee, Role::Moderator)).await.unwrap();
    let silent = world.make(Kind::Room, ann, &[bob]).await;
    world.change(silent, ann, Change::SetRole(bob, Role::Muted)).await.unwrap();
    let empty = world.make(Kind::Room, ann, &[]).await;
    assert_eq!(end(&world, ann, 0, 1).await, Ending::Complete);

    assert_eq!(world.role(at_once, cem).await, Some(Role::Owner));
    assert_eq!(world.role(at_once, dee).await, Some(Role::Member));
    assert_eq!(world.role(moderated, dee).await, Some(Role::Owner));
    assert_eq!(world.role(silent, bob).await, Some(Role::Muted));
    for room in [silent, empty] {
        world.change(room, cem, Change::Join { namespace: None }).await.unwrap();
        assert_eq!(world.role(room, cem).await, Some(Role::Member));
    }
}

async fn a_deleted_conversation_is_gone(world: World) {
    let [ann, bob] = people();
    let id = world.make(Kind::Discussion, ann, &[bob]).await;
    world.change(id, ann, Change::Delete).await.unwrap();
    assert_eq!(world.store.view(id, ann).await.unwrap(), None);
    assert!(matches!(world.change(id, ann, Change::Leave).await, Err(Error::ConversationNotFound(_))));
    let facts = world.facts_of(id).await;
    let Some(Payload::ConversationDeleted(deleted)) = &facts[1].payload else { panic!("{facts:?}") };
    assert_eq!(deleted.user_ids, [ann.to_string(), bob.to_string()]);
    assert_eq!(facts[1].membership_version, 2);
    // Its members are free to start another one.
    assert!(world.find_or_make(Kind::Discussion, bob, &[ann]).await.is_new);
}

async fn settings_are_kept(world: World) {
    let [ann] = people();
    let id = world.make(Kind::Channel, ann, &[]).await;
    let settings = Settings {
        title: Some(Title::parse("News").unwrap()),
        topic: None,
        slow_mode: Some(SlowMode::from_millis(60_000)),
        secure: None,
        public_read: None,
    };
    let changed = world.change_at(5000, id, ann, Change::Configure(settings.clone())).await.unwrap();
    let conversation = world.conversation(id).await;
    assert_eq!(changed.situation.conversation, conversation);
    assert_eq!((conversation.title.as_str(), conversation.slow_mode.as_millis()), ("News", 60_000));
    assert_eq!((conversation.update_time, conversation.membership_version), (at(5000), 1));
    // Nothing is different: nothing has happened.
    let again = world.change_at(6000, id, ann, Change::Configure(settings)).await.unwrap();
    assert!(!again.has_facts);
    assert_eq!(world.conversation(id).await.update_time, at(5000));
    assert_eq!(world.facts_of(id).await.len(), 2);
}

async fn ownership_changes_hands_in_one_step(world: World) {
    let [ann, bob] = people();
    let id = world.make(Kind::Group, ann, &[bob]).await;
    let changed = world.change(id, ann, Change::Transfer(bob)).await.unwrap();
    assert_eq!(changed.situation.conversation.membership_version, 3);
    assert_eq!(world.members(id, ann).await, [(ann, Role::Moderator), (bob, Role::Owner)]);
    assert_eq!((world.list(ann).await.0, world.list(bob).await.0), (3, 3));
}

async fn end(world: &World, user: UserId, from: i64, to: i64) -> Ending {
    world.store.end_account(user, &Claim::forward("auth", from, to), at(9000)).await.unwrap()
}

async fn a_deleted_account_is_a_member_nowhere(world: World) {
    let [ann, bob, cem, dee] = people();
    let orphaned = world.make(Kind::Group, ann, &[bob, cem, dee]).await;
    world.change(orphaned, ann, Change::SetRole(bob, Role::Muted)).await.unwrap();
    let moderated = world.make(Kind::Group, ann, &[bob, cem]).await;
    world.change(moderated, ann, Change::SetRole(cem, Role::Moderator)).await.unwrap();
    let shared = world.make(Kind::Group, ann, &[bob]).await;
    world.change(shared, ann, Change::SetRole(bob, Role::Owner)).await.unwrap();
    let alone = world.make(Kind::Room, ann, &[]).await;
    let direct = world.make(Kind::Direct, ann, &[bob]).await;
    let foreign = world.make(Kind::Group, bob, &[cem]).await;
    let before = world.facts().await.len();

    assert_eq!(end(&world, ann, 0, 4).await, Ending::Complete);
    assert_eq!(world.position().await, 4);
    assert_eq!(world.list(ann).await.1, []);
    // The longest there of those who may speak, else a moderator, else nobody needs to.
    assert_eq!(world.role(orphaned, cem).await, Some(Role::Owner));
    assert_eq!(world.role(orphaned, bob).await, Some(Role::Muted));
    assert_eq!(world.role(moderated, cem).await, Some(Role::Owner));
    assert_eq!(world.role(shared, bob).await, Some(Role::Owner));
    assert_eq!(world.conversation(alone).await.member_count, 0);
    let left = world.store.view(direct, bob).await.unwrap().unwrap();
    assert_eq!((left.peer(), left.conversation.member_count), (Some(ann), 1));
    assert_eq!(world.conversation(foreign).await.membership_version, 1);

    let facts = &world.facts().await[before..];
    assert_eq!(facts.len(), 7);
    assert!(facts.iter().all(|fact| fact.actor_user_id.is_empty()));
    let orphaned: Vec<_> = world.facts_of(orphaned).await;
    let [.., promoted, removed] = orphaned.as_slice() else { panic!("{orphaned:?}") };
    assert!(
        matches!(&promoted.payload, Some(Payload::MemberRoleChanged(changed)) if changed.user_id == cem.to_string())
    );
    assert!(matches!(&removed.payload, Some(Payload::MemberRemoved(gone))
        if gone.user_id == ann.to_string() && gone.reason() == pb::RemovalReason::UserDeleted));
    assert_eq!((promoted.membership_version, removed.membership_version), (3, 4));
}

async fn a_deleted_account_comes_in_nowhere(world: World) {
    let [ann, bob, cem] = people();
    let room = world.make(Kind::Room, bob, &[]).await;
    assert_eq!(end(&world, ann, 0, 1).await, Ending::Complete);
    let facts = world.facts().await.len();
    assert!(
        matches!(world.change(room, ann, Change::Join { namespace: None }).await, Err(Error::UserNotFound(user)) if user == ann)
    );
    let added = world.change(room, bob, Change::Add(vec![cem, ann])).await;
    assert!(matches!(added, Err(Error::UserNotFound(user)) if user == ann));
    let made = world.store.create(&world.plan(Kind::Direct, bob, &[ann]), at(1)).await;
    assert!(matches!(made, Err(Error::UserNotFound(user)) if user == ann));
    assert_eq!((world.facts().await.len(), world.conversation(room).await.member_count), (facts, 1));
    assert_eq!(world.list(cem).await, (1, vec![]));

    // Whoever comes in at the same moment as the account ends is not left behind.
    for _ in 0..10 {
        let [user] = people();
        let from = world.position().await;
        let (_, ending) = tokio::join!(
            world.change(room, user, Change::Join { namespace: None }),
            end(&world, user, from, from + 1)
        );
        assert_eq!(ending, Ending::Complete);
        assert_eq!(world.role(room, user).await, None);
    }
}

async fn an_end_takes_effect_once(world: World) {
    let [ann, bob] = people();
    world.make(Kind::Group, ann, &[bob]).await;
    let mut replicas = JoinSet::new();
    for _ in 0..4 {
        let world = world.clone();
        replicas.spawn(async move { end(&world, ann, 0, 1).await });
    }
    let endings = replicas.join_all().await;
    assert_eq!(endings.iter().filter(|ending| **ending == Ending::Complete).count(), 1);
    assert_eq!(endings.iter().filter(|ending| **ending == Ending::Overtaken).count(), 3);
    assert_eq!(world.facts().await.len(), 3);
    assert_eq!(world.position().await, 1);
}

async fn many_memberships_end(world: World) {
    let [ann, bob] = people();
    let mut making = JoinSet::new();
    for _ in 0..70 {
        let world = world.clone();
        making.spawn(async move { world.make(Kind::Group, ann, &[bob]).await });
    }
    making.join_all().await;
    assert_eq!(end(&world, ann, 0, 1).await, Ending::Partial);
    assert_eq!(world.position().await, 0);
    assert_eq!(world.list(ann).await.1.len(), 6);
    assert_eq!(end(&world, ann, 0, 1).await, Ending::Complete);
    let (_, list) = world.list(bob).await;
    assert!(list.len() == 70 && list.iter().all(|(_, role)| *role == Role::Owner));
}
