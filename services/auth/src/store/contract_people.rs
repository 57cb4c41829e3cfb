//! What the store promises about profiles: how they are kept, who sees them, and who is found by them.

use std::collections::BTreeSet;
use std::time::Duration;

use chassis::database::testing;

use super::contract::{after, amend, close, create, hash, user};
use super::*;
use crate::profile::{
    Ages, CallPreferences, Category, DateOfBirth, Day, Gender, InterestId, Language, Location, LocationPart,
    Profile, ProfileChanges, ProfileFilter, TimeZoneName, VideoUrl, Visibility,
};
use crate::review::{Pair, Tie};
use crate::standing::Standing;
use crate::user::Keyword;

promises! {
    a_profile_is_kept_as_it_was_said,
    what_is_not_known_is_not_kept,
    a_profile_is_seen_by_whom_it_is_for,
    people_are_found_by_what_they_say,
    nobody_is_found_by_what_is_hidden,
    hidden_people_leave_no_gap_in_pages,
    an_address_is_found_by_those_who_may_find_it,
    a_deleted_user_is_found_by_nothing,
    interests_are_listed_in_their_order,
}

fn category(text: &str) -> Category {
    Category::parse("category", text).unwrap()
}

fn interests(ids: &[&str]) -> BTreeSet<InterestId> {
    ids.iter().map(|id| InterestId::parse("interest_ids", id).unwrap()).collect()
}

fn birth(text: &str) -> Option<DateOfBirth> {
    DateOfBirth::parse_optional("date_of_birth", text).unwrap()
}

fn language(text: &str) -> Option<Language> {
    Language::parse_optional("language", text).unwrap()
}

/// Somebody with this profile.
async fn person(store: &Store, name: &str, profile: ProfileChanges) -> User {
    let one = user(name);
    create(store, &one).await;
    change(store, &one, profile).await.unwrap()
}

async fn change(store: &Store, user: &User, profile: ProfileChanges) -> Result<User, Error> {
    let changes = Changes { profile, ..Changes::default() };
    Ok(amend(store, user.id, &changes, after(1)).await?.unwrap())
}

fn shown(visibility: Visibility) -> ProfileChanges {
    ProfileChanges { visibility: Some(visibility), ..ProfileChanges::default() }
}

async fn connect(store: &Store, one: &User, other: &User, is_there: bool, version: i64) {
    let pair = Pair::new(one.id, other.id).unwrap();
    let acquaintance = Acquaintance { pair, tie: Tie::Connection { is_there }, version };
    store.record_acquaintance(&acquaintance).await.unwrap();
}

fn everything() -> ProfileChanges {
    let max_duration = Some(Duration::from_secs(1800));
    ProfileChanges {
        gender: Some(Some(Gender::NonBinary)),
        birth: Some(birth("1955-04-30")),
        language: Some(language("pt-BR")),
        location: Some(Location::parse("São Paulo", "SP", "BR").unwrap()),
        interests: Some(interests(&["tea", "chess"])),
        video: Some(VideoUrl::parse_optional("video_url", "https://example.org/v.mp4").unwrap()),
        category: Some(Some(category("senior"))),
        visibility: Some(Visibility::Categories),
        visible_to: Some(BTreeSet::from([category("volunteer"), category("a_b-c")])),
        calls: Some(CallPreferences { max_per_day: Some(3), max_duration }),
        time_zone: Some(TimeZoneName::parse_optional("time_zone", "America/Sao_Paulo").unwrap()),
        found_by_email: Some(true),
    }
}

async fn a_profile_is_kept_as_it_was_said(store: Store) {
    let ann = person(&store, "ann", everything()).await;
    let mut expected = Profile::default();
    everything().apply_to(&mut expected).unwrap();
    assert_eq!(ann.profile, expected);
    let kept = async || store.find_credentials(ann.id).await.unwrap().unwrap().user;
    assert_eq!(kept().await, ann);

    // What is not named stays, whatever else changes.
    let less = ProfileChanges {
        interests: Some(interests(&["opera"])),
        calls: Some(CallPreferences::default()),
        language: Some(None),
        ..ProfileChanges::default()
    };
    let changed = change(&store, &ann, less.clone()).await.unwrap();
    less.apply_to(&mut expected).unwrap();
    assert_eq!((kept().await.profile, changed.profile), (expected.clone(), expected.clone()));
    let changes = Changes { bio: Some(crate::user::Bio::default()), ..Changes::default() };
    amend(&store, ann.id, &changes, after(2)).await.unwrap();
    assert_eq!(kept().await.profile, expected);

    // And everything can be taken back.
    let nothing = ProfileChanges {
        gender: Some(None),
        birth: Some(None),
        language: Some(None),
        location: Some(Location::default()),
        interests: Some(BTreeSet::new()),
        video: Some(None),
        category: Some(None),
        visibility: Some(Visibility::Everyone),
        visible_to: Some(BTreeSet::new()),
        calls: Some(CallPreferences::default()),
        time_zone: Some(None),
        found_by_email: Some(false),
    };
    change(&store, &ann, nothing).await.unwrap();
    assert_eq!(kept().await.profile, Profile::default());
}

async fn what_is_not_known_is_not_kept(store: Store) {
    let ann = person(&store, "ann", ProfileChanges::default()).await;
    let unknown = ProfileChanges {
        interests: Some(interests(&["tea", "no_such_thing"])),
        category: Some(Some(category("senior"))),
        ..ProfileChanges::default()
    };
    let refused = change(&store, &ann, unknown).await;
    assert!(
        matches!(refused, Err(Error::Invalid { field: "user.interest_ids", rule }) if rule.contains("no_such_thing"))
    );
    let refused = change(&store, &ann, shown(Visibility::Categories)).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "user.visible_to_categories", .. })));
    assert_eq!(store.find_credentials(ann.id).await.unwrap().unwrap().user.profile, Profile::default());
}

async fn a_profile_is_seen_by_whom_it_is_for(store: Store) {
    let of =
        |label: &str| ProfileChanges { category: Some(Some(category(label))), ..ProfileChanges::default() };
    let friend = person(&store, "friend", ProfileChanges::default()).await;
    let former = person(&store, "former", ProfileChanges::default()).await;
    let volunteer = person(&store, "volunteer", of("volunteer")).await;
    // `_` stands for itself and for nothing else.
    let underscore = person(&store, "underscore", of("a_b")).await;
    let letter = person(&store, "letter", of("axb")).await;
    let stranger = person(&store, "stranger", ProfileChanges::default()).await;
    let everyone = person(&store, "everyone", everything()).await;
    change(&store, &everyone, shown(Visibility::Everyone)).await.unwrap();
    let connections = person(&store, "connections", everything()).await;
    change(&store, &connections, shown(Visibility::Connections)).await.unwrap();
    let to = BTreeSet::from([category("volunteer"), category("a_b")]);
    let listed = ProfileChanges { visible_to: Some(to), ..everything() };
    let categories = person(&store, "categories", listed).await;
    let nobody = person(&store, "nobody", everything()).await;
    change(&store, &nobody, shown(Visibility::Nobody)).await.unwrap();
    let owners = [&everyone, &connections, &categories, &nobody];
    for owner in owners {
        connect(&store, &friend, owner, true, 1).await;
        connect(&store, &former, owner, true, 1).await;
        connect(&store, &former, owner, false, 2).await;
        // A call is no connection.
        let pair = Pair::new(stranger.id, owner.id).unwrap();
        store.record_acquaintance(&Acquaintance { pair, tie: Tie::Call, version: 1 }).await.unwrap();
    }
    let ids = owners.map(|owner| owner.id);
    for (viewer, sees) in [
        (&friend, &[&everyone, &connections] as &[_]),
        (&former, &[&everyone]),
        (&volunteer, &[&everyone, &categories]),
        (&underscore, &[&everyone, &categories]),
        (&letter, &[&everyone]),
        (&stranger, &[&everyone]),
        (&connections, &[&everyone, &connections]),
        (&nobody, &[&everyone, &nobody]),
    ] {
        let name = viewer.username.as_ref().map(Username::as_str);
        let expected: HashSet<UserId> = sees.iter().map(|owner| owner.id).collect();
        assert_eq!(store.seen_by(viewer.id, &ids).await.unwrap(), expected, "{name:?}");
        // A list finds exactly the same.
        let filter = ProfileFilter { gender: Some(Gender::NonBinary), ..ProfileFilter::default() };
        let page = store.list_users(&listing(viewer, filter)).await.unwrap();
        assert_eq!(page.users.iter().map(|user| user.id).collect::<HashSet<_>>(), expected, "{name:?}");
    }
    assert_eq!(store.seen_by(friend.id, &[]).await.unwrap(), HashSet::new());
}

fn listing(viewer: &User, profile: ProfileFilter) -> Listing {
    Listing { keyword: None, email: None, kind: None, profile, viewer: viewer.id, after: None, limit: 100 }
}

async fn an_address_is_found_by_those_who_may_find_it(store: Store) {
    let email = Email::parse("email", "ann@example.org").unwrap();
    let standing = Standing { email_verify_time: Some(after(0)), ..Standing::default() };
    let ann = User { email: Some(email.clone()), standing, ..user("ann") };
    let eve = User { email: Some(email.clone()), ..user("eve") };
    for one in [&eve, &ann] {
        create(&store, one).await;
    }
    let (bob, blocked) = (
        person(&store, "bob", ProfileChanges::default()).await,
        person(&store, "blocked", ProfileChanges::default()).await,
    );
    let finds = async |viewer: &User| {
        let wanted = Listing { email: Some(email.clone()), ..listing(viewer, ProfileFilter::default()) };
        let page = store.list_users(&wanted).await.unwrap();
        page.users.iter().map(|user| user.id).collect::<Vec<_>>()
    };
    let found = |is_found| ProfileChanges { found_by_email: Some(is_found), ..ProfileChanges::default() };
    assert_eq!(finds(&bob).await, [], "nobody has said that others may");
    assert_eq!((finds(&ann).await, finds(&eve).await), (vec![ann.id], vec![eve.id]), "oneself");
    // A claim finds nobody, whatever its owner says.
    change(&store, &eve, found(true)).await.unwrap();
    assert_eq!(finds(&bob).await, []);
    change(&store, &ann, found(true)).await.unwrap();
    for viewer in [&bob, &blocked] {
        assert_eq!(finds(viewer).await, [ann.id]);
    }
    for (one, other) in [(&ann, &blocked), (&blocked, &bob)] {
        let pair = Pair::new(one.id, other.id).unwrap();
        let block = Acquaintance { pair, tie: Tie::Block { is_there: true }, version: 1 };
        store.record_acquaintance(&block).await.unwrap();
    }
    assert_eq!((finds(&blocked).await, finds(&bob).await), (vec![], vec![ann.id]));
    let pair = Pair::new(ann.id, blocked.id).unwrap();
    let end = Acquaintance { pair, tie: Tie::Block { is_there: false }, version: 2 };
    store.record_acquaintance(&end).await.unwrap();
    assert_eq!(finds(&blocked).await, [ann.id]);
    change(&store, &ann, found(false)).await.unwrap();
    assert_eq!(finds(&bob).await, []);
}

async fn people_are_found_by_what_they_say(store: Store) {
    let viewer = person(&store, "viewer", ProfileChanges::default()).await;
    let said = |born: &str, place: (&str, &str, &str), tag: &str, liked: &[&str]| ProfileChanges {
        birth: Some(birth(born)),
        location: Some(Location::parse(place.0, place.1, place.2).unwrap()),
        language: Some(language(tag)),
        interests: Some(interests(liked)),
        ..ProfileChanges::default()
    };
    let ann = person(&store, "ann", said("1955-04-30", ("Lisbon", "", "PT"), "pt", &["tea", "chess"])).await;
    let bob =
        person(&store, "bob", said("1966-11-21", ("Porto 100%", "Norte", "PT"), "pt-BR", &["tea"])).await;
    let cid = person(&store, "cid", said("2000-02-29", ("Ängelholm", "Skåne", "SE"), "sv", &[])).await;
    let dee = ProfileChanges {
        gender: Some(Some(Gender::Female)),
        category: Some(Some(category("senior"))),
        ..said("", ("", "", "EG"), "pto", &["opera"])
    };
    let dee = person(&store, "dee", dee).await;

    let found = async |profile: ProfileFilter| {
        let page = store.list_users(&listing(&viewer, profile)).await.unwrap();
        page.users.iter().map(|user| user.id).collect::<Vec<_>>()
    };
    let default = ProfileFilter::default;
    let today = Day::at(after(0));
    let aged = async |min, max, exactly| {
        found(ProfileFilter { ages: Ages::parse(min, max, exactly, today).unwrap(), ..default() }).await
    };
    // It is 18 November 2026.
    assert_eq!(aged(60, 0, 0).await, [ann.id]);
    assert_eq!(aged(59, 0, 0).await, [ann.id, bob.id]);
    assert_eq!(aged(0, 59, 0).await, [bob.id, cid.id]);
    assert_eq!(aged(26, 59, 0).await, [bob.id, cid.id]);
    assert_eq!(aged(0, 0, 71).await, [ann.id]);
    assert_eq!(aged(0, 0, 70).await, []);
    let at = async |text| found(ProfileFilter { location: LocationPart::parse(text), ..default() }).await;
    assert_eq!(at("LISB").await, [ann.id]);
    assert_eq!(at("portugal").await, [ann.id, bob.id]);
    assert_eq!(at("ÄNGEL").await, [cid.id]);
    assert_eq!(at("%").await, [bob.id]);
    // Two letters are a country's, and part of a name: Egypt.
    assert_eq!(at("pt").await, [ann.id, bob.id, dee.id]);
    let speaks = async |tag| found(ProfileFilter { language: language(tag), ..default() }).await;
    assert_eq!(speaks("pt").await, [ann.id, bob.id]);
    assert_eq!(speaks("PT-br").await, [bob.id]);
    let likes = async |ids: &[&str]| found(ProfileFilter { interests: interests(ids), ..default() }).await;
    assert_eq!(likes(&["tea"]).await, [ann.id, bob.id]);
    assert_eq!(likes(&["tea", "chess", "opera"]).await, [ann.id, bob.id, dee.id]);
    assert_eq!(likes(&["golf"]).await, []);
    assert_eq!(found(ProfileFilter { gender: Some(Gender::Female), ..default() }).await, [dee.id]);
    assert_eq!(found(ProfileFilter { category: Some(category("senior")), ..default() }).await, [dee.id]);
    // All that is asked for must hold.
    let both =
        ProfileFilter { language: language("pt"), location: LocationPart::parse("norte"), ..default() };
    assert_eq!(found(both.clone()).await, [bob.id]);
    let named = Listing { keyword: Keyword::parse("ann"), ..listing(&viewer, both) };
    assert_eq!(store.list_users(&named).await.unwrap().users, []);
}

async fn nobody_is_found_by_what_is_hidden(store: Store) {
    let viewer = person(&store, "viewer", ProfileChanges::default()).await;
    let hidden = person(&store, "hidden", everything()).await;
    change(&store, &hidden, shown(Visibility::Nobody)).await.unwrap();
    let filters = [
        ProfileFilter { category: Some(category("senior")), ..ProfileFilter::default() },
        ProfileFilter { ages: Ages::parse(13, 0, 0, Day::at(after(0))).unwrap(), ..ProfileFilter::default() },
        ProfileFilter { gender: Some(Gender::NonBinary), ..ProfileFilter::default() },
        ProfileFilter { location: LocationPart::parse("brazil"), ..ProfileFilter::default() },
        ProfileFilter { language: language("pt"), ..ProfileFilter::default() },
        ProfileFilter { interests: interests(&["tea"]), ..ProfileFilter::default() },
    ];
    for filter in filters {
        assert_eq!(
            store.list_users(&listing(&viewer, filter.clone())).await.unwrap().users,
            [],
            "{filter:?}"
        );
        let own = store.list_users(&listing(&hidden, filter.clone())).await.unwrap().users;
        assert_eq!(own.len(), 1, "{filter:?}");
    }
    // Names are everybody's to see.
    let named = Listing { keyword: Keyword::parse("hidden"), ..listing(&viewer, ProfileFilter::default()) };
    assert_eq!(store.list_users(&named).await.unwrap().users.len(), 1);
}

async fn hidden_people_leave_no_gap_in_pages(store: Store) {
    let viewer = person(&store, "viewer", ProfileChanges::default()).await;
    let mut visible = Vec::new();
    for n in 0..12 {
        let one = person(&store, &format!("user{n}"), everything()).await;
        if n % 3 == 0 {
            change(&store, &one, shown(Visibility::Everyone)).await.unwrap();
            visible.push(one.id);
        }
    }
    let filter = ProfileFilter { interests: interests(&["tea", "chess"]), ..ProfileFilter::default() };
    let first = store.list_users(&Listing { limit: 3, ..listing(&viewer, filter.clone()) }).await.unwrap();
    let ids: Vec<_> = first.users.iter().map(|user| user.id).collect();
    assert_eq!((ids.as_slice(), first.has_more), (&visible[..3], true));
    let rest = Listing { limit: 3, after: Some(visible[2]), ..listing(&viewer, filter) };
    let rest = store.list_users(&rest).await.unwrap();
    assert_eq!((rest.users.len(), rest.users[0].id, rest.has_more), (1, visible[3], false));
}

async fn a_deleted_user_is_found_by_nothing(store: Store) {
    let viewer = person(&store, "viewer", ProfileChanges::default()).await;
    let ann = person(&store, "ann", everything()).await;
    change(&store, &ann, shown(Visibility::Everyone)).await.unwrap();
    connect(&store, &viewer, &ann, true, 1).await;
    store.delete_user(ann.id, Some(&hash("secret")), after(2)).await.unwrap();
    let filter = ProfileFilter { interests: interests(&["tea"]), ..ProfileFilter::default() };
    assert_eq!(store.list_users(&listing(&viewer, filter)).await.unwrap().users, []);
    assert_eq!(
        store.find_accounts(&[ann.id]).await.unwrap(),
        [Account::Deleted { id: ann.id, delete_time: after(2) }]
    );
}

async fn interests_are_listed_in_their_order(store: Store) {
    let list = async |keyword: &str, after: i64, limit: i64| {
        let keyword = Keyword::parse(keyword);
        store.list_interests(&InterestListing { keyword, after, limit }).await.unwrap()
    };
    let all = list("", 0, 100).await;
    assert_eq!((all.interests.len(), all.has_more), (64, false));
    assert!(all.interests.is_sorted_by_key(|interest| interest.name.to_lowercase()));
    for interest in &all.interests {
        assert_eq!(InterestId::parse("id", interest.id.as_str()).unwrap(), interest.id);
        assert!(!interest.name.is_empty() && !interest.emoji.is_ascii(), "{interest:?}");
    }
    let found = list("MUSIC", 0, 100).await.interests;
    assert_eq!(found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["classical_music", "music"]);
    assert_eq!(list("_", 0, 100).await.interests, []);
    let first = list("", 0, 40).await;
    assert!(first.has_more);
    let rest = list("", first.interests[39].position, 40).await;
    assert!(!rest.has_more);
    assert_eq!([first.interests, rest.interests].concat(), all.interests);
}
