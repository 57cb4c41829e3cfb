//! What the store promises about secure conversations, and about members by their role.

use super::*;

promises![
    what_is_made_secure_is_so_for_everybody,
    what_is_found_again_becomes_secure_once,
    secure_is_a_setting_that_stays,
    members_are_listed_by_their_role,
];

async fn make_secure(world: &World, kind: Kind, by: UserId, others: &[UserId]) -> ConversationId {
    let plan = Draft { secure: true, ..draft(kind, others) }.plan(by, MAX_MEMBERS).unwrap();
    world.store.create(&plan, at(1000)).await.unwrap().unwrap().conversation.id
}

async fn what_is_made_secure_is_so_for_everybody(world: World) {
    let [ann, bob, cem] = people();
    let mut made = BTreeMap::new();
    for kind in [Kind::Direct, Kind::Group, Kind::Discussion, Kind::Channel, Kind::Room] {
        made.insert(make_secure(&world, kind, ann, &[bob]).await, true);
    }
    made.insert(world.make(Kind::Group, ann, &[bob]).await, false);
    let ids: Vec<_> = made.keys().copied().collect();

    let questions: Vec<_> = ids.iter().flat_map(|id| [(*id, ann), (*id, cem)]).collect();
    let answers = world.store.access(&questions).await.unwrap();
    let views = world.store.views(&ids, bob).await.unwrap();
    let listed = world.store.list(bob, Page { after: None, limit: 100 }).await.unwrap();
    let facts = world.facts().await;
    for (id, secure) in made {
        assert_eq!(world.conversation(id).await.secure, secure);
        assert!(questions.iter().filter(|(of, _)| *of == id).all(|pair| answers[pair].secure == secure));
        for seen in [&views, &listed] {
            let seen = seen.iter().find(|view| view.conversation.id == id).unwrap();
            assert_eq!(seen.conversation.secure, secure);
        }
        let fact = facts.iter().find(|fact| fact.conversation_id == id.to_string()).unwrap();
        let Some(Payload::ConversationCreated(created)) = &fact.payload else { panic!("{fact:?}") };
        assert_eq!(created.secure, secure);
    }
}

async fn what_is_found_again_becomes_secure_once(world: World) {
    let [ann, bob] = people();
    for kind in [Kind::Direct, Kind::Discussion] {
        let id = world.make(kind, ann, &[bob]).await;
        let mut both = JoinSet::new();
        for n in 0..8 {
            let world = world.clone();
            both.spawn(async move { world.change(id, [ann, bob][n % 2], Change::Secure).await.unwrap() });
        }
        let outcomes = both.join_all().await;
        assert!(outcomes.iter().all(|changed| changed.situation.conversation.secure));
        assert_eq!(outcomes.iter().filter(|changed| changed.has_facts).count(), 1);
        let facts = world.facts_of(id).await;
        let [_, pb::ConversationFact { payload: Some(Payload::ConversationUpdated(updated)), .. }] =
            facts.as_slice()
        else {
            panic!("{facts:?}")
        };
        assert!(updated.secure);
        // It is the same one still, whoever looks for it and whatever is asked for.
        let found = world.find_or_make(kind, bob, &[ann]).await;
        assert_eq!((found.view.conversation.id, found.view.conversation.secure), (id, true));
    }
}

async fn secure_is_a_setting_that_stays(world: World) {
    let [ann, bob] = people();
    let id = world.make(Kind::Group, ann, &[bob]).await;
    world.change(id, ann, Change::SetRole(bob, Role::Moderator)).await.unwrap();
    let set = |secure| Change::Configure(Settings { secure: Some(secure), ..Settings::default() });
    assert!(matches!(world.change(id, bob, set(true)).await, Err(Error::RoleTooLow)));
    assert!(!world.change(id, ann, set(false)).await.unwrap().has_facts);
    assert!(world.change_at(5000, id, ann, set(true)).await.unwrap().has_facts);
    assert!(!world.change(id, ann, set(true)).await.unwrap().has_facts);
    let back = world.change(id, ann, set(false)).await;
    assert!(matches!(back, Err(Error::Field { field: "conversation.secure", .. })));
    let conversation = world.conversation(id).await;
    assert_eq!((conversation.secure, conversation.update_time), (true, at(5000)));
    // Other settings leave it as it is.
    let title = Settings { title: Some(Title::parse("x").unwrap()), ..Settings::default() };
    world.change(id, bob, Change::Configure(title)).await.unwrap();
    assert!(world.conversation(id).await.secure);
    let facts = world.facts_of(id).await;
    let Some(Payload::ConversationUpdated(updated)) = &facts.last().unwrap().payload else {
        panic!("{facts:?}")
    };
    assert_eq!((updated.title.as_str(), updated.secure), ("x", true));
}

async fn members_are_listed_by_their_role(world: World) {
    let people: [UserId; 12] = people();
    let [ann, rest @ ..] = people;
    let room = world.make(Kind::Room, ann, &[]).await;
    for (time, user) in (2000..).zip(rest) {
        world.change_at(time, room, user, Change::Join { namespace: None }).await.unwrap();
    }
    for (n, user) in rest.into_iter().enumerate() {
        let role = [Role::Muted, Role::Moderator, Role::Member][n % 3];
        world.change(room, ann, Change::SetRole(user, role)).await.unwrap();
    }
    let all = world.members(room, ann).await;
    for at_least in Role::ALL {
        let expected: Vec<_> = all.iter().copied().filter(|(_, role)| *role >= at_least).collect();
        let (mut listed, mut after) = (vec![], None);
        loop {
            let page = Page { after, limit: 2 };
            let mut rows = world.store.members(room, rest[0], at_least, page).await.unwrap();
            let more = rows.len() > 2;
            rows.truncate(2);
            after = rows.last().map(|member| (member.join_time, member.user_id));
            listed.extend(rows.iter().map(|member| (member.user_id, member.role)));
            if !more {
                break;
            }
        }
        assert_eq!(listed, expected, "{at_least:?}");
    }
    let counts = Role::ALL.map(|at_least| all.iter().filter(|(_, role)| *role >= at_least).count());
    assert_eq!(counts, [12, 8, 5, 1]);
    let stranger = UserId::generate();
    let page = Page { after: None, limit: 10 };
    assert!(world.store.members(room, stranger, Role::Owner, page).await.unwrap().is_empty());
}
