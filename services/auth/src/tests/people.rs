//! Profiles through the door: saying who one is, being seen, being found.

use std::time::Duration;

use proto::auth::v1::interest_service_client::InterestServiceClient;

use super::reviews::connection;
use super::*;

/// A profile with something in every field.
fn said() -> pb::UserChanges {
    pb::UserChanges {
        gender: pb::Gender::Female.into(),
        date_of_birth: "1955-04-30".to_owned(),
        language: "PT-br".to_owned(),
        location: Some(pb::Location {
            city: "Lisbon".to_owned(),
            region: String::new(),
            country: "pt".to_owned(),
        }),
        interest_ids: ["tea", "chess"].map(str::to_owned).to_vec(),
        video_url: "https://example.org/ann.mp4".to_owned(),
        category: "senior".to_owned(),
        visibility: pb::Visibility::Everyone.into(),
        visible_to_categories: vec!["volunteer".to_owned()],
        call_preferences: Some(pb::CallPreferences {
            max_calls_per_day: 3,
            max_duration: Some(prost_types::Duration { seconds: 1800, nanos: 0 }),
        }),
        time_zone: "europe/lisbon".to_owned(),
        ..Default::default()
    }
}

const PATHS: [&str; 11] = [
    "gender",
    "date_of_birth",
    "language",
    "location",
    "interest_ids",
    "video_url",
    "category",
    "visibility",
    "visible_to_categories",
    "call_preferences",
    "time_zone",
];

impl World {
    pub(super) async fn update(
        &self,
        person: &Person,
        paths: &[&str],
        user: pb::UserChanges,
    ) -> Result<pb::User, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let request =
            person.asks(pb::UpdateUserRequest { user: Some(user), update_mask, ..Default::default() });
        Ok(self.users.clone().update_user(request).await?.into_inner().user.unwrap())
    }

    async fn show(&self, person: &Person, visibility: pb::Visibility) {
        let user = pb::UserChanges { visibility: visibility.into(), ..Default::default() };
        self.update(person, &["visibility"], user).await.unwrap();
    }

    /// The user as somebody gets it, alone, in a batch by id and by name, and in a list, which must all be the same.
    pub(super) async fn seen(&self, viewer: &Person, of: &Person) -> pb::User {
        let mut users = self.users.clone();
        let user_id = of.user.user_id.clone();
        let get = viewer.asks(pb::GetUserRequest { user_id: user_id.clone() });
        let alone = users.get_user(get).await.unwrap().into_inner().user.unwrap();
        for (user_ids, usernames) in [(vec![user_id], vec![]), (vec![], vec![of.user.username.clone()])] {
            let batch = viewer.asks(pb::BatchGetUsersRequest { user_ids, usernames });
            assert_eq!(
                users.batch_get_users(batch).await.unwrap().into_inner().users,
                std::slice::from_ref(&alone)
            );
        }
        let named = pb::ListUsersRequest { keyword: of.user.username.clone(), ..Default::default() };
        let listed = users.list_users(viewer.asks(named)).await.unwrap().into_inner().users;
        assert_eq!(listed, std::slice::from_ref(&alone));
        alone
    }

    pub(super) async fn found(
        &self,
        viewer: &Person,
        request: pb::ListUsersRequest,
    ) -> Result<Vec<String>, Status> {
        let answer = self.users.clone().list_users(viewer.asks(request)).await?.into_inner();
        Ok(answer.users.into_iter().map(|user| user.username).collect())
    }
}

#[tokio::test]
async fn a_profile_is_seen_in_full_by_its_owner_and_as_far_as_it_goes_by_others() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    let own = world.update(&ann, &PATHS, said()).await.unwrap();
    let expected = pb::User {
        gender: pb::Gender::Female.into(),
        date_of_birth: "1955-04-30".to_owned(),
        language: "pt-BR".to_owned(),
        location: Some(pb::Location {
            city: "Lisbon".to_owned(),
            region: String::new(),
            country: "PT".to_owned(),
        }),
        interest_ids: ["chess", "tea"].map(str::to_owned).to_vec(),
        video_url: "https://example.org/ann.mp4".to_owned(),
        category: "senior".to_owned(),
        visibility: pb::Visibility::Everyone.into(),
        visible_to_categories: vec!["volunteer".to_owned()],
        call_preferences: said().call_preferences,
        time_zone: "Europe/Lisbon".to_owned(),
        ..ann.user.clone()
    };
    assert_eq!(own, expected);
    let me = world.users.get_me(ann.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap();
    assert_eq!(me, expected);
    assert_eq!(world.login("ann", PASSWORD).await.unwrap().user, expected);

    // Others see the age and not the day, and neither the address nor what is between Ann and the services.
    let seen = world.seen(&bob, &ann).await;
    let as_others_do = pb::User {
        email: String::new(),
        date_of_birth: String::new(),
        age: 71,
        visibility: 0,
        visible_to_categories: Vec::new(),
        call_preferences: None,
        ..expected
    };
    assert_eq!(seen, as_others_do);
    assert_eq!(world.seen(&ann, &ann).await, as_others_do);
    world.clock.advance(Duration::from_secs(163 * 86_400));
    let (ann, bob) =
        (world.login("ann", PASSWORD).await.unwrap(), world.login("bob", PASSWORD).await.unwrap());
    assert_eq!(world.seen(&bob, &ann).await.age, 72, "it is the last day of April");

    // What is taken back is gone.
    let own = world.update(&ann, &PATHS, pb::UserChanges::default()).await.unwrap();
    let nothing = pb::User { update_time: own.update_time, ..ann.user.clone() };
    let nothing = pb::User {
        gender: 0,
        date_of_birth: String::new(),
        language: String::new(),
        location: None,
        interest_ids: Vec::new(),
        video_url: String::new(),
        category: String::new(),
        visible_to_categories: Vec::new(),
        call_preferences: None,
        time_zone: String::new(),
        ..nothing
    };
    assert_eq!(own, nothing);
}

#[tokio::test]
async fn who_is_not_meant_sees_a_card_and_services_what_they_have_to_respect() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob, cid) =
        (world.register("ann").await, world.register("bob").await, world.register("cid").await);
    world.update(&ann, &PATHS, said()).await.unwrap();
    let picture = pb::UserChanges {
        picture_url: "https://example.org/ann.png".to_owned(),
        bio: "Tea!".to_owned(),
        ..Default::default()
    };
    world.update(&ann, &["picture_url", "bio"], picture).await.unwrap();
    world.record(connection(&ann, &bob, true, 1)).await.unwrap();
    let card = pb::User {
        user_id: ann.user.user_id.clone(),
        kind: pb::UserKind::Registered.into(),
        username: "ann".to_owned(),
        display_name: "ann".to_owned(),
        picture_url: "https://example.org/ann.png".to_owned(),
        rating: Some(pb::Rating::default()),
        ..Default::default()
    };

    world.show(&ann, pb::Visibility::Nobody).await;
    assert_eq!(world.seen(&bob, &ann).await, card);
    world.show(&ann, pb::Visibility::Connections).await;
    assert_eq!(world.seen(&cid, &ann).await, card);
    let seen = world.seen(&bob, &ann).await;
    assert_eq!((seen.bio.as_str(), seen.age), ("Tea!", 71));
    world.record(connection(&ann, &bob, false, 2)).await.unwrap();
    assert_eq!(world.seen(&bob, &ann).await, card);
    world.show(&ann, pb::Visibility::Categories).await;
    assert_eq!(world.seen(&cid, &ann).await, card);
    let volunteer = pb::UserChanges { category: "volunteer".to_owned(), ..Default::default() };
    world.update(&cid, &["category"], volunteer).await.unwrap();
    assert_eq!(world.seen(&cid, &ann).await.bio, "Tea!");

    // A service acts for somebody and sees what that user sees, and the two things besides.
    let as_messaging = async |person: &Person| {
        let message = pb::GetUserRequest { user_id: ann.user.user_id.clone() };
        let request =
            as_service(message, &world.messaging, Some(UserId::parse(&person.user.user_id).unwrap()));
        world.users.clone().get_user(request).await.unwrap().into_inner().user.unwrap()
    };
    let wanted =
        pb::User { time_zone: "Europe/Lisbon".to_owned(), call_preferences: said().call_preferences, ..card };
    assert_eq!(as_messaging(&bob).await, wanted);
    let seen = as_messaging(&cid).await;
    assert_eq!((seen.bio.as_str(), seen.date_of_birth.as_str(), seen.age), ("Tea!", "", 71));
    assert_eq!(seen.call_preferences, said().call_preferences);
}

#[tokio::test]
async fn what_does_not_fit_into_a_profile_is_refused_by_name() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    let default = pb::UserChanges::default;
    let location = |city: &str, country: &str| {
        Some(pb::Location { city: city.to_owned(), region: String::new(), country: country.to_owned() })
    };
    let calls = |max_calls_per_day, seconds: Option<i64>| {
        let max_duration = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        Some(pb::CallPreferences { max_calls_per_day, max_duration })
    };
    let born = |text: &str| pb::UserChanges { date_of_birth: text.to_owned(), ..default() };
    let half = prost_types::Duration { seconds: 60, nanos: 500_000_000 };
    let half = Some(pb::CallPreferences { max_calls_per_day: 0, max_duration: Some(half) });
    let cases = [
        ("gender", pb::UserChanges { gender: 99, ..default() }, "user.gender"),
        ("date_of_birth", born("2026-11-19"), "user.date_of_birth"),
        ("date_of_birth", born("2020-01-01"), "user.date_of_birth"),
        ("date_of_birth", born("1890-01-01"), "user.date_of_birth"),
        ("date_of_birth", born("1990-02-30"), "user.date_of_birth"),
        ("date_of_birth", born("30.4.1955"), "user.date_of_birth"),
        ("language", pb::UserChanges { language: "english!".to_owned(), ..default() }, "user.language"),
        ("location", pb::UserChanges { location: location("a\nb", ""), ..default() }, "user.location.city"),
        ("location", pb::UserChanges { location: location("", "XX"), ..default() }, "user.location.country"),
        ("location", pb::UserChanges { location: location("", "PRT"), ..default() }, "user.location.country"),
        (
            "interest_ids",
            pb::UserChanges { interest_ids: vec!["no_such_thing".to_owned()], ..default() },
            "user.interest_ids",
        ),
        (
            "interest_ids",
            pb::UserChanges { interest_ids: vec!["tea".to_owned(); 21], ..default() },
            "user.interest_ids",
        ),
        (
            "video_url",
            pb::UserChanges { video_url: "http://example.org".to_owned(), ..default() },
            "user.video_url",
        ),
        ("category", pb::UserChanges { category: "Senior".to_owned(), ..default() }, "user.category"),
        ("visibility", pb::UserChanges { visibility: 99, ..default() }, "user.visibility"),
        (
            "visibility",
            pb::UserChanges { visibility: pb::Visibility::Categories.into(), ..default() },
            "user.visible_to_categories",
        ),
        (
            "visible_to_categories",
            pb::UserChanges { visible_to_categories: vec!["%".to_owned()], ..default() },
            "user.visible_to_categories",
        ),
        (
            "call_preferences",
            pb::UserChanges { call_preferences: calls(101, None), ..default() },
            "user.call_preferences.max_calls_per_day",
        ),
        (
            "call_preferences",
            pb::UserChanges { call_preferences: calls(1, Some(59)), ..default() },
            "user.call_preferences.max_duration",
        ),
        (
            "call_preferences",
            pb::UserChanges { call_preferences: half, ..default() },
            "user.call_preferences.max_duration",
        ),
        (
            "time_zone",
            pb::UserChanges { time_zone: "Europe/Atlantis".to_owned(), ..default() },
            "user.time_zone",
        ),
    ];
    for (path, user, field) in cases {
        // Together with something that is right, which must not be kept alone.
        let user = pb::UserChanges { display_name: "Other".to_owned(), ..user };
        let refused = world.update(&ann, &["display_name", path], user).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        let named = &fault.fields()[0].0;
        assert!(named.starts_with(field), "{path}: {:?}", fault.fields());
    }
    for path in ["age", "rating", "location.city", "user.gender"] {
        let refused = world.update(&ann, &[path], said()).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, "update_mask");
    }
    let me = world.users.get_me(ann.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap();
    assert_eq!(me, ann.user);
}

#[tokio::test]
async fn an_operator_can_say_which_categories_there_are() {
    let categories = ["senior", "volunteer"].map(str::to_owned).to_vec();
    let (mut world, _scratch) = on_sqlite(Config { categories, ..config() }).await;
    let ann = world.register("ann").await;
    let of = |text: &str| pb::UserChanges { category: text.to_owned(), ..Default::default() };
    world.update(&ann, &["category"], of("senior")).await.unwrap();
    let refused = world.update(&ann, &["category"], of("admin")).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    let rule = "must be one of senior, volunteer".to_owned();
    assert_eq!(fault.fields(), [("user.category".to_owned(), rule)]);
    let named = pb::UserChanges { visible_to_categories: vec!["admin".to_owned()], ..Default::default() };
    let refused = world.update(&ann, &["visible_to_categories"], named).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    world.update(&ann, &["category"], of("")).await.unwrap();

    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let secret = Secret::new("the secret of the gateway");
    let deps = Deps {
        database,
        events: Events::local(),
        clock: Clock::manual(START),
        accepted: AcceptedServices::with_secrets([("gateway", &secret)]),
        limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
        profile: Profile::Development,
    };
    let wrong = Config { categories: vec!["Not a label".to_owned()], ..config() };
    let Err(refused) = crate::start(wrong, deps).await else { panic!("started") };
    assert!(refused.to_string().contains("Not a label"), "{refused}");
}

#[tokio::test]
async fn people_are_found_by_every_filter() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    let guest = world.guest().await;
    world.update(&ann, &PATHS, said()).await.unwrap();
    let other = pb::UserChanges {
        gender: pb::Gender::Male.into(),
        date_of_birth: "1990-01-01".to_owned(),
        language: "de".to_owned(),
        category: "volunteer".to_owned(),
        ..Default::default()
    };
    world.update(&bob, &["gender", "date_of_birth", "language", "category"], other).await.unwrap();
    let default = pb::ListUsersRequest::default;
    let text = |text: &str| text.to_owned();
    let anns = [
        pb::ListUsersRequest { keyword: text("ANN"), ..default() },
        pb::ListUsersRequest { category: text("senior"), ..default() },
        pb::ListUsersRequest { min_age: 71, ..default() },
        pb::ListUsersRequest { min_age: 60, max_age: 71, ..default() },
        pb::ListUsersRequest { age: 71, ..default() },
        pb::ListUsersRequest { gender: pb::Gender::Female.into(), ..default() },
        pb::ListUsersRequest { location: text("lisb"), ..default() },
        pb::ListUsersRequest { location: text("pt"), ..default() },
        pb::ListUsersRequest { language: text("PT"), ..default() },
        pb::ListUsersRequest { interest_ids: vec![text("golf"), text("tea")], ..default() },
        pb::ListUsersRequest { age: 71, category: text("senior"), keyword: text("n"), ..default() },
    ];
    for request in &anns {
        assert_eq!(world.found(&guest, request.clone()).await.unwrap(), ["ann"], "{request:?}");
    }
    let bobs = pb::ListUsersRequest { max_age: 50, ..default() };
    assert_eq!(world.found(&ann, bobs).await.unwrap(), ["bob"]);
    let guests = pb::ListUsersRequest { kind: pb::UserKind::Guest.into(), ..default() };
    assert_eq!(world.found(&ann, guests).await.unwrap(), [""]);
    let nobodys = pb::ListUsersRequest { age: 71, category: text("volunteer"), ..default() };
    assert_eq!(world.found(&ann, nobodys).await.unwrap(), [""; 0]);

    // Who hides is found by name and kind only.
    world.show(&ann, pb::Visibility::Nobody).await;
    for (number, request) in anns.iter().enumerate() {
        let found = world.found(&bob, request.clone()).await.unwrap();
        assert_eq!(found.len(), usize::from(number < 1), "{request:?}");
    }

    for (request, field) in [
        (pb::ListUsersRequest { min_age: 50, max_age: 40, ..default() }, "max_age"),
        (pb::ListUsersRequest { age: 50, max_age: 50, ..default() }, "age"),
        (pb::ListUsersRequest { min_age: -1, ..default() }, "min_age"),
        (pb::ListUsersRequest { age: 151, ..default() }, "age"),
        (pb::ListUsersRequest { category: text("Senior"), ..default() }, "category"),
        (pb::ListUsersRequest { language: text("1"), ..default() }, "language"),
        (pb::ListUsersRequest { gender: 9, ..default() }, "gender"),
        (pb::ListUsersRequest { interest_ids: vec![text("No Such")], ..default() }, "interest_ids"),
        (pb::ListUsersRequest { interest_ids: vec![text("tea"); 21], ..default() }, "interest_ids"),
        (pb::ListUsersRequest { location: text(&"x".repeat(101)), ..default() }, "location"),
    ] {
        let fault = assert_refused(world.found(&bob, request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert!(fault.fields()[0].0.starts_with(field), "{:?}", fault.fields());
    }
}

#[tokio::test]
async fn a_page_of_people_is_the_caller_s_own() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    for person in [&ann, &bob] {
        world.update(person, &["interest_ids"], said()).await.unwrap();
    }
    let request = |page_token: &str, interest: &str| pb::ListUsersRequest {
        interest_ids: vec![interest.to_owned()],
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let first = world.users.list_users(ann.asks(request("", "tea"))).await.unwrap().into_inner();
    assert_eq!(first.users[0].username, "ann");
    let token = first.next_page_token.as_str();
    assert_eq!(world.found(&ann, request(token, "tea")).await.unwrap(), ["bob"]);
    for (person, interest) in [(&bob, "tea"), (&ann, "chess")] {
        let refused = world.found(person, request(token, interest)).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, "page_token");
    }
}

#[tokio::test]
async fn interests_are_listed_and_looked_for() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let guest = world.guest().await;
    let mut interests = InterestServiceClient::new(Transport::local(world.unit.grpc.clone().unwrap()));
    let mut list = async |keyword: &str, page_size, page_token: &str| {
        let (keyword, page_token) = (keyword.to_owned(), page_token.to_owned());
        let request = guest.asks(pb::ListInterestsRequest { keyword, page_size, page_token });
        Ok::<_, Status>(interests.list_interests(request).await?.into_inner())
    };
    let first = list("", 0, "").await.unwrap();
    let rest = list("", 50, &first.next_page_token).await.unwrap();
    assert_eq!((first.interests.len(), rest.interests.len()), (50, 14));
    assert_eq!(rest.next_page_token, "");
    let found = list(" Music ", 0, "").await.unwrap().interests;
    let music =
        pb::Interest { interest_id: "music".to_owned(), name: "Music".to_owned(), emoji: "🎵".to_owned() };
    assert!(found.len() == 2 && found.contains(&music), "{found:?}");
    let refused = list("music", 0, &first.next_page_token).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "page_token");
}

#[tokio::test]
async fn nothing_that_a_deleted_user_said_is_left_in_the_files() {
    let (mut world, scratch) = on_sqlite(config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    let said = pb::UserChanges {
        bio: "zebra-bio".to_owned(),
        location: Some(pb::Location { city: "zebra-city".to_owned(), ..Default::default() }),
        category: "zebra-category".to_owned(),
        video_url: "https://example.org/zebra-video".to_owned(),
        visible_to_categories: vec!["zebra-other".to_owned()],
        ..said()
    };
    let paths = [&PATHS as &[_], &["bio"]].concat();
    world.update(&ann, &paths, said).await.unwrap();
    world.record(connection(&ann, &bob, true, 1)).await.unwrap();
    world.put(&ann, &bob, 5, "zebra-written").await.unwrap();
    world.put(&bob, &ann, 1, "zebra-received").await.unwrap();
    let delete = ann.asks(pb::DeleteUserRequest { password: PASSWORD.to_owned() });
    world.users.delete_user(delete).await.unwrap();
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    world.unit.database.unwrap().close().await;
    let files = std::fs::read_dir(scratch.folder().unwrap()).unwrap();
    let bytes: Vec<u8> = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("bob@example.org"), "these are not the files");
    assert!(!text.contains("zebra"), "something of a deleted user is left");
}
