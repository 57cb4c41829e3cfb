//! What the store promises, on both databases.

use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::database::{Database, testing};
use prost::Message;
use proto::auth::v1::user_fact::Payload;
use proto::auth::v1::{UserFact, UserUpdated};
use tokio::task::JoinSet;

use super::*;
use crate::email::Email;
use crate::profile::{Profile, ProfileFilter};
use crate::review::Rating;
use crate::session::{DeviceName, TWO_TABS};
use crate::standing::Standing;
use crate::user::{Bio, DisplayName, Keyword, PictureUrl, UserKind};

const LIFETIME: Lifetime = Lifetime { idle: days(30), absolute: days(90) };
const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

pub(super) fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

/// Changes a user on behalf of its owner, who may replace the address.
pub(super) async fn amend(
    store: &Store,
    id: UserId,
    changes: &Changes,
    now: Timestamp,
) -> Result<Option<User>, Error> {
    let found = store.find_credentials(id).await?;
    let proof = found.as_ref().map(|Credentials { user, hash }| OwnerProof {
        email: user.email.as_ref(),
        verified: hash.as_ref(),
        farewell: None,
        notice: None,
    });
    store.update_user(&Update { user_id: id, changes, proof, now }).await
}

/// Runs each promise on a fresh database of either kind.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
                super::$name(Store::new(&database)).await;
                close(database).await;
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
                super::$name(Store::new(&database)).await;
                close(database).await;
            })*
        }
    };
}

promises! {
    an_account_is_found_by_name_and_address,
    no_name_and_no_verified_address_is_taken_twice,
    an_address_is_claimed_by_many_and_had_by_one,
    of_two_who_want_one_name_one_gets_it,
    a_token_opens_its_session_and_no_other_secret_does,
    a_use_is_written_once_and_never_backwards,
    a_refresh_replaces_the_token,
    two_tabs_get_one_successor,
    a_token_replaced_long_ago_ends_the_session,
    a_dead_session_is_not_refreshed,
    the_session_unused_for_longest_makes_room,
    sign_ins_at_once_leave_no_session_too_many,
    a_password_that_changed_meanwhile_opens_nothing,
    a_new_password_ends_the_other_sessions,
    one_ends_only_ones_own_sessions,
    a_user_changes_what_it_says_about_itself,
    names_are_searched_alike,
    pages_follow_the_order_in_which_users_came,
    accounts_are_found_by_id,
    accounts_are_found_by_name,
    what_is_left_of_a_deleted_user,
    the_name_of_a_deleted_user_rests,
    of_a_deletion_and_those_who_wait_for_its_name_none_gets_it,
    facts_have_positions_without_gaps,
    a_name_or_a_picture_that_changes_is_a_fact,
    the_sweeper_takes_what_has_ended,
}

pub(super) async fn close(database: Database) {
    database.close().await;
}

pub(super) fn user(name: &str) -> User {
    User {
        id: UserId::generate(),
        kind: UserKind::Registered,
        username: Some(Username::parse(name).unwrap()),
        display_name: DisplayName::parse("display_name", name).unwrap(),
        email: None,
        bio: Bio::default(),
        picture: None,
        create_time: START,
        update_time: START,
        profile: Profile::default(),
        rating: Rating::default(),
        standing: Standing::default(),
        external: None,
    }
}

pub(super) fn guest() -> User {
    User { kind: UserKind::Guest, username: None, ..user("guest") }
}

pub(super) fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

pub(super) fn grant(user: &User, now: Timestamp) -> Grant {
    let device_name = DeviceName::parse("phone").unwrap();
    Grant { token: Token::generate().unwrap(), session: Session::begin(user.id, device_name, LIFETIME, now) }
}

pub(super) async fn create(store: &Store, user: &User) -> Grant {
    let first = grant(user, START);
    let hash = hash("secret");
    store.create(user, user.username.is_some().then_some(&hash), &first).await.unwrap();
    first
}

async fn sign_in(store: &Store, user: &User, now: Timestamp, most: u32) -> (Grant, Vec<SessionId>) {
    let grant = grant(user, now);
    let sign_in = SignIn { grant: &grant, verified: &hash("secret"), rehashed: None, most };
    let ended = store.sign_in(sign_in).await.unwrap();
    (grant, ended)
}

pub(super) async fn opens(store: &Store, token: &Token) -> bool {
    store.find_session(token).await.unwrap().is_some()
}

async fn refresh(store: &Store, token: &Token, now: Timestamp) -> Refreshed {
    store.refresh(token, &Salt::generate().unwrap(), LIFETIME, now).await.unwrap()
}

fn granted(refreshed: Refreshed) -> Grant {
    match refreshed {
        Refreshed::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

async fn an_account_is_found_by_name_and_address(store: Store) {
    let email = Email::parse("email", "Ann@Example.org").unwrap();
    let picture = PictureUrl::parse_optional("picture_url", "https://example.org/a.png").unwrap();
    let bio = Bio::parse("bio", "Ä\n🦀").unwrap();
    let ann = User { email: Some(email), picture, bio, ..user("ann") };
    create(&store, &ann).await;
    create(&store, &user("bob")).await;
    for login in
        [Login::Username(Username::parse("ann").unwrap()), Login::Email("ann@example.org".to_owned())]
    {
        let found = store.find_login(&login).await.unwrap().unwrap();
        assert_eq!((found.user, found.hash), (ann.clone(), Some(hash("secret"))));
    }
    assert_eq!(store.find_credentials(ann.id).await.unwrap().unwrap().user, ann);
    assert!(store.find_login(&Login::Username(Username::parse("cid").unwrap())).await.unwrap().is_none());
    assert!(store.find_credentials(UserId::generate()).await.unwrap().is_none());
}

fn verified(user: User) -> User {
    User { standing: Standing { email_verify_time: Some(START), ..Standing::default() }, ..user }
}

async fn no_name_and_no_verified_address_is_taken_twice(store: Store) {
    let with_email = |name, email| User { email: Some(Email::parse("email", email).unwrap()), ..user(name) };
    create(&store, &verified(with_email("ann", "a@example.org"))).await;
    let try_create = async |user: User| {
        let grant = grant(&user, START);
        store.create(&user, Some(&hash("secret")), &grant).await
    };
    let taken = try_create(user("ann")).await;
    assert!(matches!(taken, Err(Error::UsernameTaken(name)) if name.as_str() == "ann"));
    let taken = try_create(verified(with_email("bob", "A@EXAMPLE.org"))).await;
    assert!(matches!(taken, Err(Error::EmailTaken)));
    // Nothing is left of those who were refused, and guests without a name do not collide.
    assert!(store.find_login(&Login::Username(Username::parse("bob").unwrap())).await.unwrap().is_none());
    create(&store, &guest()).await;
    create(&store, &guest()).await;
}

async fn an_address_is_claimed_by_many_and_had_by_one(store: Store) {
    let email = Some(Email::parse("email", "a@example.org").unwrap());
    let people = ["ann", "bob", "cid", "dee", "eve"].map(|name| User { email: email.clone(), ..user(name) });
    // What is no account claims nothing, however early.
    create(&store, &User { email: email.clone(), ..guest() }).await;
    for one in &people[..4] {
        create(&store, one).await;
    }
    let login = async || {
        let found = store.find_login(&Login::Email("a@example.org".to_owned())).await.unwrap();
        found.map(|found| found.user.id)
    };
    let claims = async |name: &str| {
        let name = Username::parse(name).ok();
        let found = store.find_claims("a@example.org", name.as_ref()).await.unwrap();
        found.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    let ids = people.each_ref().map(|user| user.id);
    assert_eq!((login().await, claims("").await), (Some(ids[0]), ids[..4].to_vec()));
    assert_eq!(claims("cid").await, [ids[2], ids[0], ids[1], ids[3]]);
    // A claim gives way to a proof, be it of a new account or of one that changes its address.
    create(&store, &verified(people[4].clone())).await;
    assert_eq!((login().await, claims("dee").await), (Some(ids[4]), vec![ids[4], ids[3], ids[0], ids[1]]));
    let other =
        verified(User { email: Some(Email::parse("email", "f@example.org").unwrap()), ..user("fay") });
    create(&store, &other).await;
    let changes = Changes { email: Some(email), ..Changes::default() };
    let moved = amend(&store, other.id, &changes, after(1)).await.unwrap().unwrap();
    assert_eq!((moved.standing.email_verify_time, login().await), (None, Some(ids[4])));
}

async fn of_two_who_want_one_name_one_gets_it(store: Store) {
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tries.spawn(async move {
            let ann = user("ann");
            let grant = grant(&ann, START);
            store.create(&ann, Some(&hash("secret")), &grant).await
        });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(Error::UsernameTaken(_)))));
}

async fn a_token_opens_its_session_and_no_other_secret_does(store: Store) {
    let (ann, cid) = (user("ann"), guest());
    let (first, guests) = (create(&store, &ann).await, create(&store, &cid).await);
    let found = store.find_session(&first.token).await.unwrap().unwrap();
    assert_eq!(found, Identified { session: first.session.clone(), kind: UserKind::Registered });
    assert_eq!(store.find_session(&guests.token).await.unwrap().unwrap().kind, UserKind::Guest);
    assert!(!opens(&store, &Token::generate().unwrap()).await);
    assert!(!opens(&store, &first.token.successor(&Salt::generate().unwrap())).await);
}

async fn a_use_is_written_once_and_never_backwards(store: Store) {
    let ann = user("ann");
    let first = create(&store, &ann).await;
    let used = |seconds| first.session.use_at(after(seconds), LIFETIME).unwrap();
    store.record_uses(&[used(300)]).await.unwrap();
    store.record_uses(&[used(100), Use { session_id: SessionId::generate(), ..used(400) }]).await.unwrap();
    store.record_uses(&[]).await.unwrap();
    let session = store.find_session(&first.token).await.unwrap().unwrap().session;
    assert_eq!(session.last_use_time, after(300));
    assert_eq!(session.expire_time, after(300).plus(days(30)));
}

async fn a_refresh_replaces_the_token(store: Store) {
    let ann = user("ann");
    let first = create(&store, &ann).await;
    let second = granted(refresh(&store, &first.token, after(5)).await);
    assert_eq!(second.session.id, first.session.id);
    assert_eq!(
        (second.session.last_use_time, second.session.expire_time),
        (after(5), after(5).plus(days(30)))
    );
    assert!(!opens(&store, &first.token).await && opens(&store, &second.token).await);
    // Close to the absolute end a refresh does not go beyond it.
    let mut grant = second;
    for day in [20, 40, 60, 80] {
        grant = granted(refresh(&store, &grant.token, START.plus(days(day))).await);
    }
    assert_eq!(grant.session.expire_time, START.plus(days(90)));
    assert_eq!(store.find_session(&grant.token).await.unwrap().unwrap().session, grant.session);
}

async fn two_tabs_get_one_successor(store: Store) {
    let ann = user("ann");
    let first = create(&store, &ann).await;
    let mut tabs = JoinSet::new();
    for _ in 0..6 {
        let (store, token) = (store.clone(), first.token.clone());
        tabs.spawn(async move { granted(refresh(&store, &token, after(1)).await).token.text() });
    }
    let tokens = tabs.join_all().await;
    assert!(tokens.iter().all(|token| *token == tokens[0]) && tokens[0] != first.token.text());
    let second = Token::parse(&tokens[0]).unwrap();
    assert!(opens(&store, &second).await);
    // Who is two refreshes behind, and in time, is led on to the one that works.
    let third = granted(refresh(&store, &second, after(4)).await);
    let late = granted(refresh(&store, &first.token, after(10)).await);
    assert_eq!(late.token.text(), third.token.text());
    assert_eq!(late.session.id, first.session.id);
}

async fn a_token_replaced_long_ago_ends_the_session(store: Store) {
    let ann = user("ann");
    let (first, (other, _)) = (create(&store, &ann).await, sign_in(&store, &ann, START, 20).await);
    let second = granted(refresh(&store, &first.token, after(1)).await);
    let late = after(1).plus(TWO_TABS);
    assert!(
        matches!(refresh(&store, &first.token, late).await, Refreshed::Reused(session) if session.id == first.session.id)
    );
    assert!(!opens(&store, &second.token).await && opens(&store, &other.token).await);
    assert!(matches!(refresh(&store, &second.token, late).await, Refreshed::Unknown));

    // However many refreshes lie between.
    let mut token = other.token.clone();
    for seconds in (100..200).step_by(10) {
        token = granted(refresh(&store, &token, after(seconds)).await).token;
    }
    assert!(matches!(refresh(&store, &other.token, after(200)).await, Refreshed::Reused(_)));
    assert!(!opens(&store, &token).await);
}

async fn a_dead_session_is_not_refreshed(store: Store) {
    let first = create(&store, &user("ann")).await;
    assert!(matches!(refresh(&store, &first.token, START.plus(days(30))).await, Refreshed::Unknown));
    assert!(matches!(refresh(&store, &Token::generate().unwrap(), START).await, Refreshed::Unknown));
    granted(refresh(&store, &first.token, START.plus(days(29))).await);
}

async fn the_session_unused_for_longest_makes_room(store: Store) {
    let ann = user("ann");
    let first = create(&store, &ann).await;
    let (second, ended) = sign_in(&store, &ann, after(100), 3).await;
    assert!(ended.is_empty());
    let (third, _) = sign_in(&store, &ann, after(200), 3).await;
    store.record_uses(&[first.session.use_at(after(300), LIFETIME).unwrap()]).await.unwrap();
    let (fourth, ended) = sign_in(&store, &ann, after(400), 3).await;
    assert_eq!(ended, [second.session.id]);
    let ids: Vec<_> =
        store.sessions_of(ann.id).await.unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!(ids, [fourth.session.id, third.session.id, first.session.id]);
    let (fifth, ended) = sign_in(&store, &ann, after(500), 1).await;
    assert_eq!(ended, [fourth.session.id, first.session.id, third.session.id]);
    assert_eq!(store.sessions_of(ann.id).await.unwrap(), [fifth.session]);
}

async fn sign_ins_at_once_leave_no_session_too_many(store: Store) {
    let ann = user("ann");
    create(&store, &ann).await;
    let mut devices = JoinSet::new();
    for _ in 0..8 {
        let (store, ann) = (store.clone(), ann.clone());
        devices.spawn(async move { sign_in(&store, &ann, after(1), 3).await.1.len() });
    }
    assert_eq!(devices.join_all().await.into_iter().sum::<usize>(), 6);
    assert_eq!(store.sessions_of(ann.id).await.unwrap().len(), 3);
}

async fn a_password_that_changed_meanwhile_opens_nothing(store: Store) {
    let ann = user("ann");
    create(&store, &ann).await;
    let grant = grant(&ann, START);
    let sign_in = |verified, rehashed| SignIn { grant: &grant, verified, rehashed, most: 20 };
    let (old, new) = (hash("other"), hash("rehashed"));
    assert!(matches!(store.sign_in(sign_in(&old, None)).await, Err(Error::BadCredentials)));
    store.sign_in(sign_in(&hash("secret"), Some(&new))).await.unwrap();
    assert_eq!(store.find_credentials(ann.id).await.unwrap().unwrap().hash, Some(new));
    assert!(matches!(store.delete_user(ann.id, Some(&old), START).await, Err(Error::BadCredentials)));
    assert!(matches!(store.delete_user(ann.id, None, START).await, Err(Error::BadCredentials)));
}

async fn a_new_password_ends_the_other_sessions(store: Store) {
    let ann = user("ann");
    let (first, (second, _)) = (create(&store, &ann).await, sign_in(&store, &ann, after(1), 20).await);
    let bobs = create(&store, &user("bob")).await;
    let (old, new, wrong) = (hash("secret"), hash("new"), hash("wrong"));
    let change =
        |verified, keep| PasswordChange { user_id: ann.id, verified, new: &new, keep, now: after(2) };
    let refused = store.change_password(change(&wrong, None)).await;
    assert!(matches!(refused, Err(Error::BadCredentials)));
    let ended = store.change_password(change(&old, Some(second.session.id))).await.unwrap();
    assert_eq!(ended, [first.session.id]);
    assert!(!opens(&store, &first.token).await);
    assert!(opens(&store, &second.token).await && opens(&store, &bobs.token).await);
    let found = store.find_credentials(ann.id).await.unwrap().unwrap();
    assert_eq!((found.hash, found.user.update_time), (Some(hash("new")), after(2)));
    assert_eq!(store.change_password(change(&new, None)).await.unwrap(), [second.session.id]);
}

async fn one_ends_only_ones_own_sessions(store: Store) {
    let (ann, bob) = (user("ann"), user("bob"));
    let (anns, bobs) = (create(&store, &ann).await, create(&store, &bob).await);
    assert!(!store.end_session(ann.id, bobs.session.id).await.unwrap());
    assert!(store.end_session(ann.id, anns.session.id).await.unwrap());
    assert!(!store.end_session(ann.id, anns.session.id).await.unwrap());
    assert!(!opens(&store, &anns.token).await && opens(&store, &bobs.token).await);
}

async fn a_user_changes_what_it_says_about_itself(store: Store) {
    let email = |text| Some(Some(Email::parse("email", text).unwrap()));
    let (ann, bob) = (user("ann"), user("bob"));
    create(&store, &ann).await;
    create(&store, &bob).await;
    let changes = Changes {
        display_name: Some(DisplayName::parse("display_name", "Änn").unwrap()),
        email: email("Ann@example.org"),
        ..Changes::default()
    };
    let changed = amend(&store, ann.id, &changes, after(9)).await.unwrap().unwrap();
    assert_eq!((changed.display_name.as_str(), changed.update_time), ("Änn", after(9)));
    assert_eq!(store.find_credentials(ann.id).await.unwrap().unwrap().user, changed);
    let found = store.list_users(&listing(|l| l.keyword = Keyword::parse("ÄNN"))).await.unwrap();
    assert_eq!(found.users, [changed]);

    let claimed = Changes { email: email("ann@EXAMPLE.org"), ..Changes::default() };
    assert!(amend(&store, bob.id, &claimed, after(9)).await.unwrap().is_some());
    let none = Changes { email: Some(None), ..Changes::default() };
    amend(&store, ann.id, &none, after(10)).await.unwrap();
    assert!(amend(&store, UserId::generate(), &none, after(9)).await.unwrap().is_none());
}

pub(super) fn listing(change: impl FnOnce(&mut Listing)) -> Listing {
    let mut listing = Listing {
        keyword: None,
        email: None,
        kind: None,
        profile: ProfileFilter::default(),
        viewer: UserId::generate(),
        after: None,
        limit: 100,
    };
    change(&mut listing);
    listing
}

async fn names_are_searched_alike(store: Store) {
    for (name, display_name) in [("ann", "Ängström 100%"), ("bob_x", "Bob\\ Łódź"), ("cid", "Straße ΣΑΣ")]
    {
        let display_name = DisplayName::parse("display_name", display_name).unwrap();
        create(&store, &User { display_name, ..user(name) }).await;
    }
    let ann = guest();
    create(&store, &User { display_name: DisplayName::parse("display_name", "Ann too").unwrap(), ..ann })
        .await;
    let search = async |keyword: &str| {
        let page = store.list_users(&listing(|l| l.keyword = Keyword::parse(keyword))).await.unwrap();
        page.users
            .iter()
            .map(|user| user.username.as_ref().map_or("-", Username::as_str).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(search("ANN").await, ["ann", "-"]);
    assert_eq!(search("ÄNGSTRÖM").await, ["ann"]);
    assert_eq!(search("łÓDŹ").await, ["bob_x"]);
    assert_eq!(search("strasse").await, [""; 0]);
    assert_eq!(search("STRAß").await, ["cid"]);
    // What means something in a pattern means itself.
    assert_eq!(search("%").await, ["ann"]);
    assert_eq!(search("_").await, ["bob_x"]);
    assert_eq!(search("\\").await, ["bob_x"]);
    assert_eq!(search("n%t").await, [""; 0]);
    // The two names are not one text.
    assert_eq!(search("n\u{E4}").await, [""; 0]);
    assert_eq!(search("\0").await.len(), 4);
    assert_eq!(search("").await.len(), 4);
}

async fn pages_follow_the_order_in_which_users_came(store: Store) {
    let mut ids = Vec::new();
    for n in 0..7 {
        let kind = if n % 2 == 0 { UserKind::Registered } else { UserKind::Guest };
        let one = User { kind, ..user(&format!("user{n}")) };
        create(&store, &one).await;
        ids.push(one.id);
    }
    let list = async |listing: Listing| {
        let page = store.list_users(&listing).await.unwrap();
        (page.users.iter().map(|user| user.id).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(list(listing(|l| l.limit = 3)).await, (ids[..3].to_vec(), true));
    assert_eq!(list(listing(|l| (l.limit, l.after) = (4, Some(ids[2])))).await, (ids[3..].to_vec(), false));
    assert_eq!(list(listing(|l| l.after = Some(ids[6]))).await, (vec![], false));
    assert_eq!(list(listing(|l| l.kind = Some(UserKind::Guest))).await.0, [ids[1], ids[3], ids[5]]);
    store.delete_user(ids[0], Some(&hash("secret")), after(1)).await.unwrap();
    assert_eq!(list(listing(|l| l.limit = 2)).await, (ids[1..3].to_vec(), true));
    let both = listing(|l| (l.keyword, l.kind) = (Keyword::parse("USER3"), Some(UserKind::Registered)));
    assert_eq!(list(both).await.0, []);
}

async fn accounts_are_found_by_id(store: Store) {
    let mut ids = Vec::new();
    for n in 0..5 {
        let one = user(&format!("user{n}"));
        create(&store, &one).await;
        ids.push(one.id);
    }
    store.delete_user(ids[4], Some(&hash("secret")), after(1)).await.unwrap();
    let asked = [ids[3], UserId::generate(), ids[4], ids[0], ids[3]];
    let mut found: Vec<_> = store.find_accounts(&asked).await.unwrap().iter().map(Account::id).collect();
    found.sort();
    assert_eq!(found, [ids[0], ids[3], ids[4]]);
    assert_eq!(store.find_accounts(&[]).await.unwrap(), []);
}

async fn accounts_are_found_by_name(store: Store) {
    let people = ["ann", "bob", "cid", "dee", "eve"].map(user);
    for one in &people {
        create(&store, one).await;
    }
    create(&store, &guest()).await;
    store.delete_user(people[4].id, Some(&hash("secret")), after(1)).await.unwrap();
    let names = ["dee", "nobody", "eve", "ann", "dee"].map(|name| Username::parse(name).unwrap());
    let mut found = store.find_named(&names).await.unwrap();
    found.sort_by_key(|user| user.id);
    assert_eq!(found, [people[0].clone(), people[3].clone()]);
    assert_eq!(store.find_named(&[]).await.unwrap(), []);
}

async fn what_is_left_of_a_deleted_user(store: Store) {
    let ann = User { email: Some(Email::parse("email", "ann@example.org").unwrap()), ..user("ann") };
    let (first, (second, _)) = (create(&store, &ann).await, sign_in(&store, &ann, after(1), 20).await);
    granted(refresh(&store, &first.token, after(1)).await);
    store.delete_user(ann.id, Some(&hash("secret")), after(2)).await.unwrap();

    assert!(!opens(&store, &second.token).await);
    assert_eq!(store.sessions_of(ann.id).await.unwrap(), []);
    assert!(store.find_credentials(ann.id).await.unwrap().is_none());
    assert!(store.find_login(&Login::Email("ann@example.org".to_owned())).await.unwrap().is_none());
    assert!(amend(&store, ann.id, &Changes::default(), after(3)).await.unwrap().is_none());
    let left = store.find_accounts(&[ann.id]).await.unwrap();
    assert_eq!(left, [Account::Deleted { id: ann.id, delete_time: after(2) }]);
    let again = store.delete_user(ann.id, Some(&hash("secret")), after(3)).await;
    assert!(matches!(again, Err(Error::Unauthenticated)));
    // The address is free, and the name is when it has rested.
    let next = User { email: ann.email.clone(), ..user("bob") };
    create(&store, &next).await;
    let grant = grant(&ann, after(3));
    let sign_in = SignIn { grant: &grant, verified: &hash("secret"), rehashed: None, most: 20 };
    assert!(matches!(store.sign_in(sign_in).await, Err(Error::BadCredentials)));
}

async fn the_name_of_a_deleted_user_rests(store: Store) {
    let (ann, rest) = (user("ann"), 90 * 86_400);
    create(&store, &ann).await;
    store.delete_user(ann.id, Some(&hash("secret")), after(1)).await.unwrap();
    let tries = async |seconds: u64| {
        let next = User { create_time: after(seconds), ..user("ann") };
        store.create(&next, Some(&hash("secret")), &grant(&next, after(seconds))).await
    };
    for seconds in [1, rest] {
        let taken = tries(seconds).await;
        assert!(matches!(taken, Err(Error::UsernameTaken(name)) if name.as_str() == "ann"));
    }
    assert!(store.find_login(&Login::Username(Username::parse("ann").unwrap())).await.unwrap().is_none());
    assert_eq!(store.sweep_usernames(after(rest), 10).await.unwrap(), 0);
    tries(rest + 1).await.unwrap();
    assert_eq!(store.sweep_usernames(after(rest + 1), 10).await.unwrap(), 1);
    // A guest, who has no name, releases none.
    let guest = guest();
    create(&store, &guest).await;
    store.delete_user(guest.id, None, after(2)).await.unwrap();
    assert_eq!(store.sweep_usernames(after(2 * rest), 10).await.unwrap(), 0);
}

async fn of_a_deletion_and_those_who_wait_for_its_name_none_gets_it(store: Store) {
    let ann = user("ann");
    create(&store, &ann).await;
    let mut tries = JoinSet::new();
    for _ in 0..6 {
        let store = store.clone();
        tries.spawn(async move {
            let next = User { create_time: after(1), ..user("ann") };
            store.create(&next, Some(&hash("secret")), &grant(&next, after(1))).await.is_ok()
        });
    }
    store.delete_user(ann.id, Some(&hash("secret")), after(1)).await.unwrap();
    assert!(tries.join_all().await.into_iter().all(|done| !done));
}

async fn facts_have_positions_without_gaps(store: Store) {
    let mut ids = Vec::new();
    for n in 0..6 {
        let one = user(&format!("user{n}"));
        create(&store, &one).await;
        ids.push(one.id);
    }
    let mut work = JoinSet::new();
    for id in ids.clone() {
        let store = store.clone();
        work.spawn(async move { store.delete_user(id, Some(&hash("secret")), after(1)).await.unwrap() });
    }
    work.join_all().await;
    let facts = store.facts_after(0, 100).await.unwrap();
    assert_eq!(facts.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let mut told: Vec<_> = facts
        .iter()
        .map(|(_, payload)| UserId::parse(&UserFact::decode(payload.as_slice()).unwrap().user_id).unwrap())
        .collect();
    told.sort();
    assert_eq!(told, ids);
    assert_eq!(store.facts_after(4, 1).await.unwrap(), facts[4..5]);
    assert_eq!(store.facts_after(6, 100).await.unwrap(), []);
}

async fn a_name_or_a_picture_that_changes_is_a_fact(store: Store) {
    let ann = user("ann");
    create(&store, &ann).await;
    let picture = |url: &str| Some(PictureUrl::parse_optional("picture_url", url).unwrap());
    let name = |text: &str| Some(DisplayName::parse("display_name", text).unwrap());
    let changes = [
        (Changes { display_name: name("Änn"), ..Changes::default() }, 1),
        (Changes { display_name: name("Änn"), ..Changes::default() }, 1),
        (Changes { bio: Some(Bio::parse("bio", "hi").unwrap()), ..Changes::default() }, 1),
        (Changes { picture: picture("https://example.org/a.png"), ..Changes::default() }, 2),
        (Changes { picture: picture(""), ..Changes::default() }, 3),
    ];
    for (changes, expected) in changes {
        amend(&store, ann.id, &changes, after(1)).await.unwrap();
        assert_eq!(store.facts_after(0, 100).await.unwrap().len(), expected, "{changes:?}");
    }
    for (_, payload) in store.facts_after(0, 100).await.unwrap() {
        let fact = UserFact::decode(payload.as_slice()).unwrap();
        assert_eq!(fact.user_id, ann.id.to_string());
        assert_eq!(fact.payload, Some(Payload::UserUpdated(UserUpdated {})));
    }
}

async fn the_sweeper_takes_what_has_ended(store: Store) {
    let (ann, here, gone, out) = (user("ann"), guest(), guest(), guest());
    create(&store, &ann).await;
    let (guests, signed_out) = (create(&store, &here).await, create(&store, &out).await);
    create(&store, &gone).await;
    store.end_session(out.id, signed_out.session.id).await.unwrap();
    store.record_uses(&[guests.session.use_at(after(60), LIFETIME).unwrap()]).await.unwrap();

    let end = START.plus(days(30));
    assert_eq!(store.sweep_guests(after(1), 100).await.unwrap(), [out.id]);
    assert_eq!(store.sweep_sessions(end.minus(Duration::from_secs(1)), 100).await.unwrap(), 0);
    assert_eq!(store.sweep_sessions(end, 1).await.unwrap(), 1);
    assert_eq!(store.sweep_sessions(end, 100).await.unwrap(), 1);
    assert_eq!(store.sweep_guests(end, 100).await.unwrap(), [gone.id]);
    assert_eq!(store.sweep_guests(end, 100).await.unwrap(), []);

    // A registered user without a session signs in again; a guest with one is still here.
    assert!(store.find_credentials(ann.id).await.unwrap().is_some());
    assert!(opens(&store, &guests.token).await);
    assert_eq!(store.facts_after(0, 100).await.unwrap().len(), 2);
}
