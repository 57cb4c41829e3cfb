//! Who may change what.

use proto::id::ConversationId;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(5000);
const KINDS: [Kind; 4] = [Kind::Group, Kind::Discussion, Kind::Channel, Kind::Room];

/// A conversation with one member in each role, and someone who is not in.
struct Fixture {
    situation: Situation,
    owner: UserId,
    moderator: UserId,
    member: UserId,
    muted: UserId,
    stranger: UserId,
}

impl Fixture {
    fn new(kind: Kind) -> Self {
        let mut people: [UserId; 5] = std::array::from_fn(|_| UserId::generate());
        people.sort();
        let [owner, moderator, member, muted, stranger] = people;
        let in_role =
            |(user_id, role)| (user_id, Member { user_id, role, join_time: Timestamp::from_millis(1) });
        let members = [
            (owner, Role::Owner),
            (moderator, Role::Moderator),
            (member, Role::Member),
            (muted, Role::Muted),
        ];
        let situation = Situation {
            conversation: Conversation {
                id: ConversationId::generate(),
                kind,
                title: Title::default(),
                topic: Topic::default(),
                slow_mode: SlowMode::NONE,
                secure: false,
                public_read: false,
                external_namespace: None,
                member_count: 4,
                membership_version: 10,
                pair: None,
                create_time: Timestamp::from_millis(1),
                update_time: Timestamp::from_millis(1),
            },
            actor: owner,
            members: members.into_iter().map(in_role).collect(),
            bans: BTreeMap::new(),
            muted_before: BTreeSet::new(),
            owners: 1,
            heir: Some(moderator),
            unwilling: BTreeSet::new(),
            everyone: vec![owner, moderator, member, muted],
            max_members: 10,
            now: NOW,
        };
        Self { situation, owner, moderator, member, muted, stranger }
    }

    fn decide(&self, actor: UserId, change: &Change) -> Result<Vec<Step>, Error> {
        change.decide(&Situation { actor, ..self.situation.clone() })
    }

    fn everyone(&self) -> [UserId; 5] {
        [self.owner, self.moderator, self.member, self.muted, self.stranger]
    }

    /// Every change that is about members, with someone for it to be about.
    /// What comes of taking secure messages only, by name or by finding it again.
    fn secured(&self, actor: UserId, change: &Change) -> Result<usize, Error> {
        self.decide(actor, change).map(|steps| steps.len())
    }

    fn changes(&self) -> Vec<Change> {
        vec![
            Change::Configure(Settings { title: Some(Title::parse("New").unwrap()), ..Settings::default() }),
            Change::Delete,
            Change::Leave,
            Change::Add(vec![UserId::generate()]),
            Change::Remove(self.member),
            Change::SetRole(self.member, Role::Muted),
            Change::Transfer(self.member),
            Change::Ban { user_id: self.member, reason: String::new(), duration: None },
        ]
    }

    fn ban(&mut self, user_id: UserId) {
        let reason = "spam".to_owned();
        let ban = Ban { user_id, banned_by: self.owner, reason, create_time: NOW, expire_time: None };
        self.situation.bans.insert(user_id, ban);
    }
}

#[test]
fn a_stranger_learns_nothing_but_of_rooms() {
    for kind in KINDS {
        let fixture = Fixture::new(kind);
        for change in fixture.changes() {
            let refused = fixture.decide(fixture.stranger, &change).unwrap_err();
            match (kind, &change) {
                (Kind::Room, Change::Leave) => assert!(matches!(refused, Error::ConversationNotFound(_))),
                (Kind::Room, _) => assert!(matches!(refused, Error::RoleTooLow), "{change:?}"),
                _ => assert!(matches!(refused, Error::ConversationNotFound(_)), "{kind:?} {change:?}"),
            }
        }
    }
}

#[test]
fn the_lower_the_role_the_less_may_be_changed() {
    for kind in KINDS {
        let fixture = Fixture::new(kind);
        for change in fixture.changes() {
            let least = match change {
                Change::Delete | Change::Transfer(_) => Role::Owner,
                Change::Leave => continue,
                _ => Role::Moderator,
            };
            for actor in [fixture.owner, fixture.moderator, fixture.member, fixture.muted] {
                let outcome = fixture.decide(actor, &change);
                let role = fixture.situation.members[&actor].role;
                assert_eq!(outcome.is_ok(), role >= least, "{kind:?} {role:?} {change:?} {outcome:?}");
                assert!(outcome.is_ok() || matches!(outcome, Err(Error::RoleTooLow)));
            }
        }
    }
}

#[test]
fn a_direct_conversation_stays_as_it_is() {
    let fixture = Fixture::new(Kind::Direct);
    for change in fixture.changes() {
        for actor in [fixture.owner, fixture.member] {
            assert!(matches!(fixture.decide(actor, &change), Err(Error::WrongKind)), "{change:?}");
        }
        let refused = fixture.decide(fixture.stranger, &change);
        assert!(matches!(refused, Err(Error::ConversationNotFound(_))), "{change:?}");
    }
}

#[test]
fn nobody_is_put_out_by_an_equal_or_a_lower_one() {
    let fixture = Fixture::new(Kind::Group);
    for actor in fixture.everyone() {
        for target in [fixture.owner, fixture.moderator, fixture.member, fixture.muted] {
            let roles =
                [actor, target].map(|user| fixture.situation.members.get(&user).map(|member| member.role));
            let may = roles[0].is_some_and(|role| role >= Role::Moderator) && roles[0] > roles[1];
            assert_eq!(fixture.decide(actor, &Change::Remove(target)).is_ok(), may, "{roles:?}");
            let ban = Change::Ban { user_id: target, reason: String::new(), duration: None };
            assert_eq!(fixture.decide(actor, &ban).is_ok(), may, "{roles:?}");
        }
    }
    let removed = fixture.decide(fixture.owner, &Change::Remove(fixture.stranger));
    assert!(matches!(removed, Err(Error::MemberNotFound(user)) if user == fixture.stranger));
}

#[test]
fn moderators_deal_with_members_only() {
    let fixture = Fixture::new(Kind::Group);
    let by_moderator = |target, role| fixture.decide(fixture.moderator, &Change::SetRole(target, role));
    assert_eq!(
        by_moderator(fixture.member, Role::Muted).unwrap(),
        [Step::Assign(fixture.member, Role::Muted)]
    );
    assert_eq!(
        by_moderator(fixture.muted, Role::Member).unwrap(),
        [Step::Assign(fixture.muted, Role::Member)]
    );
    for (target, role) in [
        (fixture.member, Role::Moderator),
        (fixture.member, Role::Owner),
        (fixture.owner, Role::Muted),
        (fixture.moderator, Role::Member),
        (fixture.moderator, Role::Owner),
    ] {
        assert!(matches!(by_moderator(target, role), Err(Error::RoleTooLow)), "{target} {role:?}");
    }
}

#[test]
fn a_role_that_is_held_already_is_no_change() {
    let fixture = Fixture::new(Kind::Group);
    for (user, role) in [(fixture.owner, Role::Owner), (fixture.member, Role::Member)] {
        assert_eq!(fixture.decide(fixture.owner, &Change::SetRole(user, role)).unwrap(), []);
    }
}

#[test]
fn the_last_owner_neither_goes_nor_steps_down() {
    let mut fixture = Fixture::new(Kind::Group);
    let step_down = Change::SetRole(fixture.owner, Role::Moderator);
    assert!(matches!(fixture.decide(fixture.owner, &Change::Leave), Err(Error::LastOwner)));
    assert!(matches!(fixture.decide(fixture.owner, &step_down), Err(Error::LastOwner)));
    assert!(fixture.decide(fixture.moderator, &Change::Leave).is_ok());

    fixture.situation.owners = 2;
    assert!(fixture.decide(fixture.owner, &Change::Leave).is_ok());
    assert!(fixture.decide(fixture.owner, &step_down).is_ok());

    fixture.situation.owners = 1;
    fixture.situation.conversation.member_count = 1;
    assert!(fixture.decide(fixture.owner, &Change::Leave).is_ok(), "the last member may go");
}

#[test]
fn ownership_is_handed_to_another_member() {
    let mut fixture = Fixture::new(Kind::Group);
    let transfer = |fixture: &Fixture, to| fixture.decide(fixture.owner, &Change::Transfer(to));
    let (owner, muted) = (fixture.owner, fixture.muted);
    let steps = [Step::Assign(muted, Role::Owner), Step::Assign(owner, Role::Moderator)];
    assert_eq!(transfer(&fixture, muted).unwrap(), steps);
    assert!(matches!(transfer(&fixture, owner), Err(Error::Field { field: "user_id", .. })));
    assert!(matches!(transfer(&fixture, fixture.stranger), Err(Error::MemberNotFound(_))));
    // To one who owns it already: only the caller steps down.
    fixture.situation.members.get_mut(&muted).unwrap().role = Role::Owner;
    assert_eq!(transfer(&fixture, muted).unwrap(), [Step::Assign(owner, Role::Moderator)]);
}

#[test]
fn anyone_comes_into_a_room_who_is_not_banned() {
    for kind in KINDS {
        let mut fixture = Fixture::new(kind);
        // Who is in already is in already, whatever it is.
        assert_eq!(fixture.decide(fixture.member, &Change::Join { namespace: None }).unwrap(), []);
        let joined = fixture.decide(fixture.stranger, &Change::Join { namespace: None });
        if kind != Kind::Room {
            assert!(matches!(joined, Err(Error::ConversationNotFound(_))));
            continue;
        }
        let newcomer = Member { user_id: fixture.stranger, role: Role::Member, join_time: NOW };
        assert_eq!(joined.unwrap(), [Step::Admit(vec![newcomer])]);
        fixture.ban(fixture.stranger);
        assert!(matches!(
            fixture.decide(fixture.stranger, &Change::Join { namespace: None }),
            Err(Error::Banned { until: None, .. })
        ));
    }
}

#[test]
fn a_conversation_has_room_for_so_many() {
    let mut fixture = Fixture::new(Kind::Room);
    fixture.situation.max_members = 5;
    let [one, other] = [fixture.stranger, UserId::generate()];
    let add = |user_ids: &[UserId]| fixture.decide(fixture.owner, &Change::Add(user_ids.to_vec()));
    // Naming someone twice, or one who is in, takes no more room.
    assert!(add(&[one, one, fixture.member]).is_ok());
    assert!(matches!(add(&[one, other]), Err(Error::TooManyMembers { most: 5 })));
    assert_eq!(add(&[fixture.member, fixture.muted]).unwrap(), []);
    fixture.situation.max_members = 4;
    assert!(matches!(
        fixture.decide(one, &Change::Join { namespace: None }),
        Err(Error::TooManyMembers { most: 4 })
    ));
}

#[test]
fn who_is_banned_is_not_brought_in() {
    let mut fixture = Fixture::new(Kind::Group);
    fixture.ban(fixture.stranger);
    let add = Change::Add(vec![UserId::generate(), fixture.stranger]);
    assert!(
        matches!(fixture.decide(fixture.owner, &add), Err(Error::UserBanned(user)) if user == fixture.stranger)
    );
    let unban = fixture.decide(fixture.moderator, &Change::Unban(fixture.stranger));
    assert_eq!(unban.unwrap(), [Step::Unban(fixture.stranger)]);
    assert!(matches!(
        fixture.decide(fixture.member, &Change::Unban(fixture.stranger)),
        Err(Error::RoleTooLow)
    ));
    assert!(matches!(
        fixture.decide(fixture.owner, &Change::Unban(fixture.member)),
        Err(Error::BanNotFound(_))
    ));
}

#[test]
fn who_went_out_muted_comes_back_muted() {
    let mut fixture = Fixture::new(Kind::Room);
    fixture.situation.muted_before.insert(fixture.stranger);
    let Step::Admit(members) =
        &fixture.decide(fixture.stranger, &Change::Join { namespace: None }).unwrap()[0]
    else {
        panic!()
    };
    assert_eq!(members[0].role, Role::Muted);
}

#[test]
fn one_who_comes_into_an_empty_conversation_does_not_own_it() {
    let namespace = Namespace::known("allo".to_owned());
    for (kind, namespace) in
        [(Kind::Room, None), (Kind::Room, Some(namespace.clone())), (Kind::Group, Some(namespace))]
    {
        let mut fixture = Fixture::new(kind);
        fixture.situation.members.clear();
        fixture.situation.owners = 0;
        fixture.situation.conversation.member_count = 0;
        fixture.situation.conversation.external_namespace = namespace.clone();
        fixture.situation.conversation.public_read = namespace.is_some();
        let stranger = fixture.stranger;
        let join = Change::Join { namespace };
        let newcomer = Member { user_id: stranger, role: Role::Member, join_time: NOW };
        assert_eq!(fixture.decide(stranger, &join).unwrap(), [Step::Admit(vec![newcomer])]);
        fixture.situation.muted_before.insert(stranger);
        let muted = Member { role: Role::Muted, ..newcomer };
        assert_eq!(fixture.decide(stranger, &join).unwrap(), [Step::Admit(vec![muted])]);
    }
}

#[test]
fn a_ban_puts_out_and_keeps_out() {
    let fixture = Fixture::new(Kind::Group);
    let ban = |user_id| {
        fixture
            .decide(fixture.moderator, &Change::Ban { user_id, reason: "spam".to_owned(), duration: None })
            .unwrap()
    };
    assert!(matches!(
        ban(fixture.member).as_slice(),
        [Step::Ban(_), Step::Dismiss { removal: Removal::Banned, .. }]
    ));
    assert!(matches!(ban(fixture.stranger).as_slice(), [Step::Ban(ban)]
        if ban.banned_by == fixture.moderator && ban.reason == "spam" && ban.create_time == NOW));
}

#[test]
fn the_account_of_a_last_owner_leaves_an_heir() {
    let mut fixture = Fixture::new(Kind::Group);
    let end = |fixture: &Fixture, user| fixture.decide(user, &Change::EndAccount).unwrap();
    let steps = end(&fixture, fixture.owner);
    assert!(
        matches!(steps.as_slice(), [Step::Assign(heir, Role::Owner), Step::Dismiss { removal: Removal::UserDeleted, .. }]
        if *heir == fixture.moderator)
    );
    assert_eq!(end(&fixture, fixture.member).len(), 1);
    assert_eq!(end(&fixture, fixture.stranger), []);
    fixture.situation.owners = 2;
    assert_eq!(end(&fixture, fixture.owner).len(), 1);
    fixture.situation.owners = 1;
    fixture.situation.heir = None;
    assert_eq!(end(&fixture, fixture.owner).len(), 1);
    assert_eq!(end(&Fixture::new(Kind::Direct), fixture.owner), []);
}

#[test]
fn each_step_that_others_act_on_is_a_version_and_a_fact() {
    let fixture = Fixture::new(Kind::Group);
    let mut situation = fixture.situation.clone();
    let mut take = |change: Change| {
        let steps = change.decide(&situation).unwrap();
        let facts: Vec<_> =
            steps.iter().filter_map(|step| situation.take(step, Some(fixture.owner))).collect();
        let conversation = &situation.conversation;
        (facts.iter().map(|fact| fact.membership_version).collect::<Vec<_>>(), conversation.member_count)
    };
    assert_eq!(take(Change::Add(vec![UserId::generate(), UserId::generate()])), (vec![11], 6));
    assert_eq!(take(Change::SetRole(fixture.member, Role::Muted)), (vec![12], 6));
    assert_eq!(take(Change::Remove(fixture.member)), (vec![13], 5));
    assert_eq!(
        take(Change::Ban { user_id: fixture.muted, reason: String::new(), duration: None }),
        (vec![14], 4)
    );
    assert_eq!(take(Change::Unban(fixture.muted)), (vec![], 4));
    let slow = Settings { slow_mode: Some(SlowMode::from_millis(1000)), ..Settings::default() };
    assert_eq!(take(Change::Configure(slow.clone())), (vec![14], 4), "settings are no change of members");
    assert_eq!(take(Change::Configure(slow)), (vec![], 4));
    assert_eq!(take(Change::Transfer(fixture.moderator)), (vec![15, 16], 4));
    situation.actor = fixture.moderator;
    let facts: Vec<_> = Change::Delete
        .decide(&situation)
        .unwrap()
        .iter()
        .filter_map(|step| situation.take(step, None))
        .collect();
    assert!(matches!(&facts[0].event, Event::Deleted { user_ids } if user_ids.len() == 4));
    assert_eq!(facts[0].membership_version, 17);
}

fn configure_secure(secure: bool) -> Change {
    Change::Configure(Settings { secure: Some(secure), ..Settings::default() })
}

#[test]
fn only_the_owner_sets_what_cannot_be_taken_back() {
    for kind in KINDS {
        let mut fixture = Fixture::new(kind);
        for actor in [fixture.moderator, fixture.member, fixture.muted] {
            for secure in [true, false] {
                let refused = fixture.secured(actor, &configure_secure(secure));
                assert!(matches!(refused, Err(Error::RoleTooLow)), "{kind:?} {refused:?}");
            }
        }
        assert!(fixture.secured(fixture.stranger, &configure_secure(true)).is_err());
        assert_eq!(fixture.secured(fixture.owner, &configure_secure(true)).unwrap(), 1);
        assert_eq!(fixture.secured(fixture.owner, &configure_secure(false)).unwrap(), 0);

        fixture.situation.conversation.secure = true;
        assert_eq!(fixture.secured(fixture.owner, &configure_secure(true)).unwrap(), 0);
        let back = fixture.secured(fixture.owner, &configure_secure(false));
        assert!(matches!(back, Err(Error::Field { field: "conversation.secure", .. })), "{back:?}");
        // Whoever may not set it learns nothing else than that.
        let back = fixture.secured(fixture.moderator, &configure_secure(false));
        assert!(matches!(back, Err(Error::RoleTooLow)), "{back:?}");
    }
    let direct = Fixture::new(Kind::Direct);
    let refused = direct.secured(direct.owner, &configure_secure(true));
    assert!(matches!(refused, Err(Error::WrongKind)), "{refused:?}");
}

#[test]
fn what_is_found_again_becomes_secure_by_whoever_writes_there() {
    for kind in [Kind::Direct, Kind::Discussion] {
        let mut fixture = Fixture::new(kind);
        for actor in [fixture.owner, fixture.moderator, fixture.member] {
            assert_eq!(fixture.secured(actor, &Change::Secure).unwrap(), 1);
        }
        assert!(matches!(fixture.secured(fixture.muted, &Change::Secure), Err(Error::RoleTooLow)));
        let stranger = fixture.secured(fixture.stranger, &Change::Secure);
        assert!(matches!(stranger, Err(Error::ConversationNotFound(_))));
        fixture.situation.conversation.secure = true;
        assert_eq!(fixture.secured(fixture.member, &Change::Secure).unwrap(), 0);
    }
    for kind in [Kind::Group, Kind::Channel, Kind::Room] {
        let fixture = Fixture::new(kind);
        assert!(matches!(fixture.secured(fixture.owner, &Change::Secure), Err(Error::RoleTooLow)));
    }
}

fn join(namespace: Option<&str>) -> Change {
    Change::Join { namespace: namespace.map(|text| Namespace::known(text.to_owned())) }
}

#[test]
fn external_accounts_join_what_those_of_their_namespace_made_and_nobody_else_does() {
    for kind in KINDS {
        for public_read in [false, true] {
            let mut fixture = Fixture::new(kind);
            let conversation = &mut fixture.situation.conversation;
            (conversation.external_namespace, conversation.public_read) =
                (Some(Namespace::known("allo".to_owned())), public_read);
            let joined = |namespace| fixture.decide(fixture.stranger, &join(namespace));
            if kind != Kind::Room && !public_read {
                for namespace in [None, Some("allo"), Some("other")] {
                    assert!(matches!(joined(namespace), Err(Error::ConversationNotFound(_))), "{kind:?}");
                }
                continue;
            }
            assert!(matches!(joined(Some("allo")).unwrap().as_slice(), [Step::Admit(_)]), "{kind:?}");
            for namespace in [None, Some("other")] {
                assert!(matches!(joined(namespace), Err(Error::NamespaceMismatch(_))), "{kind:?}");
            }
        }
    }
    let room = Fixture::new(Kind::Room);
    let joined = room.decide(room.stranger, &join(Some("allo")));
    assert!(matches!(joined, Err(Error::NamespaceMismatch(_))), "{joined:?}");
}

fn configure_public_read(public_read: bool) -> Change {
    Change::Configure(Settings { public_read: Some(public_read), ..Settings::default() })
}

#[test]
fn the_owner_says_whether_everyone_reads_and_only_where_that_can_be() {
    for kind in KINDS {
        for is_external in [false, true] {
            let mut fixture = Fixture::new(kind);
            fixture.situation.conversation.external_namespace =
                is_external.then(|| Namespace::known("allo".to_owned()));
            let can_be = kind == Kind::Room || (is_external && kind != Kind::Discussion);
            let opened = fixture.decide(fixture.owner, &configure_public_read(true));
            match opened {
                Ok(steps) => assert!(can_be && steps.len() == 1, "{kind:?} {is_external}"),
                Err(error) => {
                    assert!(!can_be && matches!(error, Error::NeverPublic), "{kind:?} {is_external}")
                }
            }
            assert_eq!(fixture.decide(fixture.owner, &configure_public_read(false)).unwrap(), []);
            for actor in [fixture.moderator, fixture.member, fixture.muted] {
                let refused = fixture.decide(actor, &configure_public_read(true));
                assert!(matches!(refused, Err(Error::RoleTooLow)), "{refused:?}");
            }
        }
    }
    let direct = Fixture::new(Kind::Direct);
    assert!(matches!(direct.decide(direct.owner, &configure_public_read(true)), Err(Error::WrongKind)));
}

#[test]
fn a_change_of_who_reads_makes_a_version() {
    let mut situation = Fixture::new(Kind::Room).situation;
    let mut take = |settings: Settings| {
        let fact = situation.take(&Step::Configure(settings), None).unwrap();
        (fact.membership_version, situation.conversation.public_read)
    };
    let public_read = |public_read| Settings { public_read: Some(public_read), ..Settings::default() };
    assert_eq!(take(public_read(true)), (11, true));
    assert_eq!(take(public_read(true)), (11, true));
    assert_eq!(take(Settings::default()), (11, true));
    assert_eq!(take(public_read(false)), (12, false));
}

#[test]
fn a_stranger_who_reads_may_know_why_it_may_not_change_anything() {
    let mut fixture = Fixture::new(Kind::Group);
    fixture.situation.conversation.public_read = true;
    for change in fixture.changes() {
        let refused = fixture.decide(fixture.stranger, &change);
        let is_leave = change == Change::Leave;
        assert!(
            matches!(&refused, Err(Error::ConversationNotFound(_)) if is_leave)
                || matches!(&refused, Err(Error::RoleTooLow) if !is_leave),
            "{change:?}: {refused:?}"
        );
    }
}

#[test]
fn a_ban_for_a_while_says_when_it_ends_and_the_last_one_holds() {
    let mut fixture = Fixture::new(Kind::Group);
    let ban = |fixture: &Fixture, by, reason: &str, seconds: Option<u64>| {
        let duration = seconds.map(Duration::from_secs);
        let change = Change::Ban { user_id: fixture.stranger, reason: reason.to_owned(), duration };
        match fixture.decide(by, &change).unwrap().as_slice() {
            [Step::Ban(ban)] => Some(ban.clone()),
            steps => {
                assert_eq!(steps, []);
                None
            }
        }
    };
    let first = ban(&fixture, fixture.moderator, "spam", Some(10)).unwrap();
    assert_eq!((first.create_time, first.expire_time), (NOW, Some(NOW.plus(Duration::from_secs(10)))));
    fixture.situation.bans.insert(fixture.stranger, first.clone());
    assert_eq!(ban(&fixture, fixture.moderator, "spam", Some(10)), None, "nothing is different");
    fixture.situation.now = NOW.plus(Duration::from_secs(5));
    let second = ban(&fixture, fixture.owner, "worse", None).unwrap();
    let expected = Ban { reason: "worse".to_owned(), banned_by: fixture.owner, expire_time: None, ..first };
    assert_eq!(second, expected);
}
