//! What the store promises about presence.

use proto::id::GatewayId;

use super::*;
use crate::presence::{LEASE, Presence, Report, Reported};
use crate::privacy::{PrivacyChanges, Visibility};

promises![
    who_comes_is_there_until_it_leaves,
    what_a_gateway_said_ends_with_its_lease,
    a_lease_that_has_ended_does_not_come_back,
    what_is_hidden_looks_like_nothing,
    who_is_gone_for_good_leaves_no_trace,
    many_reports_at_once_do_no_harm,
    members_who_are_there_are_listed_for_whoever_may_see_them,
];

fn report(gateway_id: GatewayId, is_first: bool, came: &[UserId], left: &[UserId]) -> Report {
    Report { gateway_id, is_first, came: came.to_vec(), left: left.to_vec() }
}

impl World {
    async fn reports(&self, millis: i64, report: Report) -> Reported {
        self.store.report_presence(&report, at(millis)).await.unwrap()
    }

    /// How somebody looks to another: whether it is there, and when it was seen last.
    async fn looks(&self, millis: i64, viewer: UserId, user: UserId) -> (bool, Option<i64>) {
        let seen = self.store.presences(viewer, &[user], at(millis)).await.unwrap();
        let presence = seen.get(&user).copied().unwrap_or(Presence::hidden(user));
        (presence.is_online, presence.last_seen.map(Timestamp::as_millis))
    }

    async fn shows(&self, user: UserId, visibility: Visibility) {
        let changes = PrivacyChanges { presence: Some(visibility), first_contact: None };
        self.store.set_privacy(user, changes).await.unwrap();
    }
}

async fn who_comes_is_there_until_it_leaves(world: World) {
    let [ann, bob] = people();
    let [one, other] = [GatewayId::generate(), GatewayId::generate()];
    assert_eq!(world.looks(1000, ann, bob).await, (false, None));
    for _ in 0..2 {
        assert_eq!(world.reports(1000, report(one, true, &[bob], &[])).await, Reported::Taken);
    }
    assert_eq!(world.looks(1000, ann, bob).await, (true, None));
    world.reports(2000, report(other, true, &[bob], &[])).await;
    world.reports(3000, report(one, false, &[], &[bob])).await;
    assert_eq!(world.looks(3000, ann, bob).await, (true, None), "it is at the other still");
    for millis in [4000, 5000] {
        // A report that is repeated finds its work done.
        world.reports(millis, report(other, false, &[], &[bob])).await;
    }
    assert_eq!(world.looks(6000, ann, bob).await, (false, Some(4000)));
    world.reports(7000, report(one, false, &[bob], &[])).await;
    assert_eq!(world.looks(7000, ann, bob).await, (true, None));
}

async fn what_a_gateway_said_ends_with_its_lease(world: World) {
    let [ann, bob, cem] = people();
    let gateway = GatewayId::generate();
    let lease = i64::try_from(LEASE.as_millis()).unwrap();
    world.reports(1000, report(gateway, true, &[bob, cem], &[])).await;
    world.reports(20_000, report(gateway, false, &[], &[])).await;
    assert_eq!(world.looks(20_000 + lease - 1, ann, bob).await, (true, None));
    let end = 20_000 + lease;
    assert_eq!(world.looks(end, ann, bob).await, (false, Some(end)));
    // The same after it was cleared up.
    let mut steps = 0;
    while world.store.sweep_presence(at(end), 1).await.unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 3, "one for each, and one that finds none");
    assert_eq!(world.looks(end + 5, ann, bob).await, (false, Some(end)));
    // Who was seen later stays so.
    let other = GatewayId::generate();
    world.reports(end + 10, report(other, true, &[bob], &[])).await;
    world.reports(end + 20, report(other, false, &[], &[bob])).await;
    assert_eq!(world.looks(end + 30, ann, bob).await, (false, Some(end + 20)));
}

async fn a_lease_that_has_ended_does_not_come_back(world: World) {
    let [ann, bob] = people();
    let gateway = GatewayId::generate();
    let nobody_knows = report(gateway, false, &[bob], &[]);
    assert_eq!(world.reports(1000, nobody_knows.clone()).await, Reported::Restate);
    assert_eq!(world.looks(1000, ann, bob).await, (false, None));
    world.reports(1000, report(gateway, true, &[bob], &[])).await;
    let end = 1000 + i64::try_from(LEASE.as_millis()).unwrap();
    for is_first in [false, true] {
        let late = report(gateway, is_first, &[bob], &[]);
        assert_eq!(world.reports(end, late).await, Reported::Restate);
    }
    while world.store.sweep_presence(at(end), 10).await.unwrap() {}
    assert_eq!(world.reports(end, nobody_knows).await, Reported::Restate);
    assert_eq!(world.reports(end, report(GatewayId::generate(), true, &[bob], &[])).await, Reported::Taken);
    assert_eq!(world.looks(end, ann, bob).await, (true, None));
}

async fn what_is_hidden_looks_like_nothing(world: World) {
    let [ann, bob, cem] = people();
    let gateway = GatewayId::generate();
    world.reports(1000, report(gateway, true, &[ann, bob], &[])).await;
    let pair = People::of(ann, bob).unwrap();
    let act = async |by, act| world.store.act(pair, by, act, at(1500)).await.unwrap();
    act(ann, Act::Connect(None)).await;
    act(bob, Act::Connect(None)).await;
    for (visibility, to_ann, to_cem) in [
        (Visibility::Everyone, true, true),
        (Visibility::Connections, true, false),
        (Visibility::Nobody, false, false),
    ] {
        world.shows(bob, visibility).await;
        let seen = [ann, cem, bob].map(|viewer| world.looks(2000, viewer, bob));
        let [by_ann, by_cem, by_bob] = seen;
        assert_eq!((by_ann.await, by_cem.await), ((to_ann, None), (to_cem, None)), "{visibility:?}");
        assert_eq!(by_bob.await, (true, None), "one sees oneself");
    }
    world.reports(3000, report(gateway, false, &[], &[bob])).await;
    assert_eq!(world.looks(3000, ann, bob).await, (false, None), "when it was last seen is hidden too");
    world.shows(bob, Visibility::Everyone).await;
    assert_eq!(world.looks(3000, ann, bob).await, (false, Some(3000)));
    // A block hides each from the other.
    act(ann, Act::Block).await;
    assert_eq!(world.looks(3000, ann, bob).await, (false, None));
    assert_eq!(world.looks(3000, bob, ann).await, (false, None));
    assert_eq!(world.looks(3000, cem, ann).await, (true, None));
}

async fn who_is_gone_for_good_leaves_no_trace(world: World) {
    let [ann, bob] = people();
    let gateway = GatewayId::generate();
    world.reports(1000, report(gateway, true, &[bob], &[])).await;
    world.store.close_person(bob, at(1500)).await.unwrap();
    assert_eq!(world.looks(2000, ann, bob).await, (false, None));
    // What its gateway says late is not kept.
    world.reports(3000, report(gateway, false, &[], &[bob])).await;
    world.reports(3000, report(gateway, false, &[bob], &[])).await;
    assert_eq!(world.looks(4000, ann, bob).await, (false, None));
}

async fn many_reports_at_once_do_no_harm(world: World) {
    let mut users = people::<40>().to_vec();
    users.sort_unstable();
    let mut reporting = JoinSet::new();
    for _ in 0..6 {
        let (world, users) = (world.clone(), users.clone());
        reporting.spawn(async move {
            let gateway = GatewayId::generate();
            for turn in 0..5 {
                let millis = 1000 * (turn + 1);
                let came = report(gateway, turn == 0, &users, &[]);
                assert_eq!(world.reports(millis, came).await, Reported::Taken);
                let left = report(gateway, false, &[], &users);
                assert_eq!(world.reports(millis + 500, left).await, Reported::Taken);
            }
        });
    }
    reporting.join_all().await;
    let seen = world.store.presences(users[0], &users, at(6000)).await.unwrap();
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|presence| presence.last_seen == Some(at(5500)) && !presence.is_online));
}

async fn members_who_are_there_are_listed_for_whoever_may_see_them(world: World) {
    let [ann, bob, cem, dee, eve] = people();
    let nobody = UserId::from(Uuid::nil());
    let group = world.make(Kind::Group, ann, &[bob, cem, dee]).await;
    let gateways = [GatewayId::generate(), GatewayId::generate()];
    let online = async |millis: i64, viewer: UserId| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = Page { after, limit: 1 };
            let rows = world.store.online_members(group, viewer, at(millis), page).await.unwrap();
            let paged = crate::paging::Paged::cut(rows, &page, |member| member.user_id);
            found.extend(paged.items.iter().map(|member| (member.user_id, member.role)));
            after = paged.next;
            if after.is_none() {
                return found;
            }
        }
    };
    assert_eq!(online(1000, ann).await, []);
    // One who is at two gateways is one, and one who is not a member is not listed.
    for gateway in gateways {
        world.reports(1000, report(gateway, true, &[ann, bob, eve], &[])).await;
    }
    world.reports(1000, report(gateways[0], false, &[cem], &[])).await;
    let all = [(ann, Role::Owner), (bob, Role::Member), (cem, Role::Member)];
    for viewer in [ann, dee, nobody] {
        assert_eq!(online(2000, viewer).await, all);
    }
    let end = 1000 + i64::try_from(LEASE.as_millis()).unwrap();
    assert_eq!(online(end - 1, dee).await, all);
    assert_eq!(online(end, dee).await, []);

    // The same rules as for those whom one looks at.
    let pair = People::of(bob, dee).unwrap();
    world.store.act(pair, bob, Act::Connect(None), at(1500)).await.unwrap();
    world.store.act(pair, dee, Act::Connect(None), at(1500)).await.unwrap();
    world.shows(bob, Visibility::Connections).await;
    world.shows(cem, Visibility::Nobody).await;
    let ids = async |viewer| online(2000, viewer).await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(dee).await, [ann, bob]);
    assert_eq!(ids(ann).await, [ann]);
    assert_eq!(ids(cem).await, [ann, cem]);
    assert_eq!(ids(nobody).await, [ann]);
    world.store.act(People::of(ann, dee).unwrap(), ann, Act::Block, at(1600)).await.unwrap();
    assert_eq!(ids(dee).await, [bob]);
    world.reports(2000, report(gateways[0], false, &[dee], &[])).await;
    assert_eq!(ids(ann).await, [ann]);
}
