//! What the store promises about conversations that everyone reads, and about those of external accounts.

use super::*;
use crate::conversation::Namespace;

promises![
    everyone_reads_what_is_public_and_nothing_more,
    a_change_of_who_reads_is_a_version,
    a_namespace_is_kept_and_joined_from_within,
];

impl World {
    async fn make_public(
        &self,
        kind: Kind,
        by: UserId,
        others: &[UserId],
        namespace: Option<&str>,
    ) -> ConversationId {
        let external_namespace = namespace.map(|text| Namespace::known(text.to_owned()));
        let plan = Plan { public_read: true, external_namespace, ..self.plan(kind, by, others) };
        self.store.create(&plan, at(1000)).await.unwrap().unwrap().conversation.id
    }
}

fn public_read(public_read: bool) -> Change {
    Change::Configure(Settings { public_read: Some(public_read), ..Settings::default() })
}

async fn everyone_reads_what_is_public_and_nothing_more(world: World) {
    let [ann, bob, cem] = people();
    let nobody = UserId::from(Uuid::nil());
    let public = world.make_public(Kind::Room, ann, &[bob], None).await;
    let closed = world.make(Kind::Room, ann, &[bob]).await;
    for viewer in [cem, nobody] {
        let answers = world.store.access(&[(public, viewer), (closed, viewer)]).await.unwrap();
        let [open, shut] = [answers[&(public, viewer)], answers[&(closed, viewer)]];
        assert!(open.may_read() && open.is_visible() && !open.may_write());
        assert_eq!(shut.is_visible(), viewer != nobody);
        assert!(!shut.may_read() && !shut.may_write());
        let view = world.store.view(closed, viewer).await.unwrap().unwrap();
        assert_eq!((view.is_visible(), view.may_read()), (viewer != nobody, false));
        assert_eq!((open.role, shut.role), (None, None));

        let view = world.store.view(public, viewer).await.unwrap().unwrap();
        assert!(view.conversation.public_read && view.may_read() && view.own_role.is_none());
        // It is in nobody's list who is not in it.
        let page = Page { after: None, limit: 10 };
        assert_eq!(world.store.list(viewer, page).await.unwrap(), []);
        assert_eq!(world.store.views(&[public], viewer).await.unwrap(), []);

        let page = Page { after: None, limit: 10 };
        let members = async |id, role| {
            let members = world.store.members(id, viewer, role, page).await.unwrap();
            members.iter().map(|member| member.user_id).collect::<Vec<_>>()
        };
        for (role, expected) in [(Role::Muted, vec![]), (Role::Member, vec![]), (Role::Moderator, vec![ann])]
        {
            assert_eq!(members(public, role).await, expected, "{role:?}");
            assert_eq!(members(closed, role).await, [], "{role:?}");
        }
        assert_eq!(members(public, Role::Owner).await, [ann]);
        assert_eq!(world.store.bans(public, viewer, at(1000), page).await.unwrap(), []);
    }
    world
        .change(public, ann, Change::Ban { user_id: bob, reason: String::new(), duration: None })
        .await
        .unwrap();
    assert!(world.store.access(&[(public, bob)]).await.unwrap()[&(public, bob)].may_read());
    world.change(public, ann, Change::Delete).await.unwrap();
    assert!(world.store.access(&[(public, nobody)]).await.unwrap().is_empty());
    let page = Page { after: None, limit: 10 };
    assert_eq!(world.store.members(public, nobody, Role::Owner, page).await.unwrap(), []);
}

async fn a_change_of_who_reads_is_a_version(world: World) {
    let [ann, bob] = people();
    let room = world.make_public(Kind::Room, ann, &[], None).await;
    let version = async || {
        let access = world.store.access(&[(room, bob)]).await.unwrap()[&(room, bob)];
        (access.may_read(), access.membership_version)
    };
    assert_eq!(version().await, (true, 1));
    for (on, expected) in [(true, 1), (false, 2), (false, 2), (true, 3)] {
        let changed = world.change(room, ann, public_read(on)).await.unwrap();
        assert_eq!(version().await, (on, expected));
        assert_eq!(changed.situation.conversation, world.conversation(room).await);
    }
    let told = world.facts_of(room).await.into_iter().filter_map(|fact| match fact.payload {
        Some(Payload::ConversationCreated(created)) => Some((created.public_read, fact.membership_version)),
        Some(Payload::ConversationUpdated(updated)) => Some((updated.public_read, fact.membership_version)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(true, 1), (false, 2), (true, 3)]);
}

async fn a_namespace_is_kept_and_joined_from_within(world: World) {
    let [ann, bob] = people();
    let join = |namespace: Option<&str>| Change::Join {
        namespace: namespace.map(|text| Namespace::known(text.to_owned())),
    };
    for kind in [Kind::Group, Kind::Channel, Kind::Room] {
        let id = world.make_public(kind, ann, &[], Some("allo")).await;
        let kept = world.conversation(id).await.external_namespace;
        assert_eq!(kept.as_ref().map(Namespace::as_str), Some("allo"));
        for stranger in [None, Some("other")] {
            let refused = world.change(id, bob, join(stranger)).await;
            assert!(
                matches!(refused, Err(Error::NamespaceMismatch(at)) if at == id),
                "{kind:?} {stranger:?}"
            );
        }
        world.change(id, bob, join(Some("allo"))).await.unwrap();
        assert_eq!(world.role(id, bob).await, Some(Role::Member));
    }
}
