//! The service through its door: its own routes with all their middleware, over an auth that is made for the purpose.

mod auth;
mod bans;
mod contacts;
mod export;
mod external;
mod first_contact;
mod presence;
mod public;
mod secure;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use chassis::database::Database;
use chassis::database::testing::{self, Scratch};
use chassis::events::{Delivery, Events};
use chassis::fault::Fault;
use chassis::identity::{AcceptedServices, ServiceCredential};
use chassis::middleware::LimitsConfig;
use chassis::rates::RatesConfig;
use chassis::transport::{Transport, as_service};
use chassis::unit::Unit;
use proto::conversation::v1 as pb;
use proto::conversation::v1::conversation_fact::Payload;
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::id::{ConversationId, UserId};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status};

use crate::tests::auth::{Auth, SECRET};
use crate::{Config, Deps, MIGRATOR, NAME};

/// What the other services show.
const OTHERS: [(&str, &str); 3] = [
    ("messaging", "the secret of messaging"),
    ("scheduling", "the secret of scheduling"),
    ("gateway", "the secret of gateway"),
];

/// The service, started.
struct World {
    auth: Auth,
    clock: Clock,
    client: ConversationServiceClient<Transport>,
    transport: Transport,
    unit: Unit,
    events: Events,
    database: Database,
    _scratch: Scratch,
}

/// Gives it up when the condition has not come true after this.
const PATIENCE: Duration = Duration::from_secs(30);

impl World {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let (database, scratch) = testing::sqlite(&MIGRATOR, NAME).await;
        let auth = Auth::default();
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
        let events = Events::local();
        let secrets = OTHERS.map(|(name, secret)| (name, Secret::new(secret)));
        let mut unit = crate::start(
            config,
            Deps {
                database: database.clone(),
                events: events.clone(),
                clock: clock.clone(),
                auth: auth.transport(),
                credential: ServiceCredential::new(NAME, &Secret::new(SECRET)).unwrap(),
                accepted: AcceptedServices::with_secrets(
                    secrets.iter().map(|(name, secret)| (*name, secret)),
                ),
                limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
            },
        )
        .await
        .unwrap();
        let transport = Transport::local(unit.grpc.take().unwrap());
        let client = ConversationServiceClient::new(transport.clone());
        Self { auth, clock, client, transport, unit, events, database, _scratch: scratch }
    }

    fn people<const N: usize>(&self) -> [UserId; N] {
        std::array::from_fn(|_| self.auth.register())
    }

    fn client(&self) -> ConversationServiceClient<Transport> {
        self.client.clone()
    }

    async fn create(&self, by: UserId, kind: pb::ConversationKind, others: &[UserId]) -> pb::Conversation {
        let created =
            self.client().create_conversation(by.says(draft(kind, others))).await.unwrap().into_inner();
        assert!(created.created);
        created.conversation.unwrap()
    }

    async fn set_role(
        &self,
        by: UserId,
        id: &str,
        user: UserId,
        role: pb::MemberRole,
    ) -> Result<pb::Member, Status> {
        let request = pb::SetMemberRoleRequest {
            conversation_id: id.to_owned(),
            user_id: user.to_string(),
            role: role.into(),
        };
        self.client()
            .set_member_role(by.says(request))
            .await
            .map(|answer| answer.into_inner().member.unwrap())
    }

    async fn get(&self, by: UserId, id: &str) -> Result<pb::Conversation, Status> {
        let request = pb::GetConversationRequest { conversation_id: id.to_owned() };
        self.client()
            .get_conversation(by.says(request))
            .await
            .map(|answer| answer.into_inner().conversation.unwrap())
    }

    async fn join(&self, by: UserId, id: &str) -> Result<pb::Conversation, Status> {
        let request = pb::JoinConversationRequest { conversation_id: id.to_owned() };
        self.client()
            .join_conversation(by.says(request))
            .await
            .map(|answer| answer.into_inner().conversation.unwrap())
    }

    async fn leave(&self, by: UserId, id: &str) -> Result<(), Status> {
        let request = pb::LeaveConversationRequest { conversation_id: id.to_owned() };
        self.client().leave_conversation(by.says(request)).await.map(|_| ())
    }

    async fn add(&self, by: UserId, id: &str, users: &[UserId]) -> Result<pb::Conversation, Status> {
        let request = pb::AddMembersRequest {
            conversation_id: id.to_owned(),
            user_ids: users.iter().map(ToString::to_string).collect(),
        };
        self.client()
            .add_members(by.says(request))
            .await
            .map(|answer| answer.into_inner().conversation.unwrap())
    }

    async fn ban(&self, by: UserId, id: &str, user: UserId) -> Result<pb::Ban, Status> {
        let request = pb::BanMemberRequest {
            conversation_id: id.to_owned(),
            user_id: user.to_string(),
            reason: "spam".to_owned(),
            duration: None,
        };
        self.client().ban_member(by.says(request)).await.map(|answer| answer.into_inner().ban.unwrap())
    }

    async fn access(&self, questions: &[(&str, UserId)]) -> Vec<pb::Access> {
        let question = |(id, user): &(&str, UserId)| pb::AccessQuestion {
            conversation_id: (*id).to_owned(),
            user_id: user.to_string(),
        };
        let request = pb::CheckAccessRequest { questions: questions.iter().map(question).collect() };
        self.client().check_access(messaging(request)).await.unwrap().into_inner().answers
    }

    async fn memberships(&self, user: UserId, known_version: i64) -> pb::ListMembershipsResponse {
        let request = pb::ListMembershipsRequest { user_id: user.to_string(), known_version };
        self.client().list_memberships(messaging(request)).await.unwrap().into_inner()
    }

    async fn facts(&self, after_position: i64, limit: i32) -> Vec<pb::ConversationFact> {
        let request = pb::ListConversationFactsRequest { after_position, limit };
        self.client().list_conversation_facts(messaging(request)).await.unwrap().into_inner().facts
    }

    /// Waits until a user is no member.
    async fn is_out(&self, user: UserId) {
        self.events.publish(proto::subject::AUTH_FACTS, bytes::Bytes::new());
        let out = async {
            while !self.memberships(user, 0).await.memberships.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, out).await.expect("the memberships end");
    }

    async fn stop(self) {
        self.unit.stop(PATIENCE).await;
    }
}

/// Somebody who is signed in.
trait Person {
    fn says<T>(self, message: T) -> Request<T>;
}

impl Person for UserId {
    fn says<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {self}").parse().unwrap());
        request
    }
}

/// Said by messaging for itself.
fn messaging<T>(message: T) -> Request<T> {
    as_service(message, &credential("messaging"), None)
}

fn scheduling<T>(message: T) -> Request<T> {
    as_service(message, &credential("scheduling"), None)
}

fn credential(name: &str) -> ServiceCredential {
    let (name, secret) = OTHERS.into_iter().find(|(other, _)| *other == name).unwrap();
    ServiceCredential::new(name, &Secret::new(secret)).unwrap()
}

fn draft(kind: pb::ConversationKind, others: &[UserId]) -> pb::CreateConversationRequest {
    pb::CreateConversationRequest {
        kind: kind.into(),
        user_ids: others.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// The code, the reason and the status as it reads without the ids in it.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let fault = Fault::of(&answer.unwrap_err());
    (fault.code(), fault.reason().trim_start_matches("ERROR_REASON_").to_owned())
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test]
async fn a_conversation_is_made_and_seen_by_its_members() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let request = pb::CreateConversationRequest {
        title: "Lunch".to_owned(),
        topic: "Where to?".to_owned(),
        ..draft(pb::ConversationKind::Group, &[bob])
    };
    let made = world
        .client()
        .create_conversation(ann.says(request))
        .await
        .unwrap()
        .into_inner()
        .conversation
        .unwrap();
    assert_eq!((made.title.as_str(), made.topic.as_str(), made.member_count), ("Lunch", "Where to?", 2));
    assert_eq!((made.own_role(), made.membership_version), (pb::MemberRole::Owner, 1));
    assert_eq!(made.create_time, Some(world.clock.now().to_proto()));

    let seen = world.get(bob, &made.conversation_id).await.unwrap();
    assert_eq!(seen.own_role(), pb::MemberRole::Member);
    assert_eq!(pb::Conversation { own_role: made.own_role, ..seen }, made);
    assert_eq!(
        refusal(world.get(cem, &made.conversation_id).await),
        is(Code::NotFound, "CONVERSATION_NOT_FOUND")
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_foreign_reads_like_what_is_unknown() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let foreign = world.create(ann, pb::ConversationKind::Group, &[]).await.conversation_id;
    let unknown = ConversationId::generate().to_string();
    let read = |status: Status, id: &str| {
        let fault = Fault::of(&status);
        let metadata: Vec<_> =
            fault.metadata().iter().map(|(k, v)| (k.clone(), v.replace(id, "ID"))).collect();
        (fault.code(), fault.reason().to_owned(), status.message().replace(id, "ID"), metadata)
    };
    let mut seen = vec![];
    for id in [foreign.as_str(), unknown.as_str()] {
        let members = pb::ListMembersRequest { conversation_id: id.to_owned(), ..Default::default() };
        let bans = pb::ListBansRequest { conversation_id: id.to_owned(), ..Default::default() };
        let delete = pb::DeleteConversationRequest { conversation_id: id.to_owned() };
        let remove = pb::RemoveMemberRequest { conversation_id: id.to_owned(), user_id: ann.to_string() };
        let unban = pb::UnbanMemberRequest { conversation_id: id.to_owned(), user_id: ann.to_string() };
        let transfer =
            pb::TransferOwnershipRequest { conversation_id: id.to_owned(), user_id: ann.to_string() };
        seen.push([
            read(world.get(bob, id).await.unwrap_err(), id),
            read(world.join(bob, id).await.unwrap_err(), id),
            read(world.leave(bob, id).await.unwrap_err(), id),
            read(world.add(bob, id, &[bob]).await.unwrap_err(), id),
            read(world.ban(bob, id, ann).await.unwrap_err(), id),
            read(world.set_role(bob, id, ann, pb::MemberRole::Muted).await.unwrap_err(), id),
            read(world.client().list_members(bob.says(members)).await.unwrap_err(), id),
            read(world.client().list_bans(bob.says(bans)).await.unwrap_err(), id),
            read(world.client().delete_conversation(bob.says(delete)).await.unwrap_err(), id),
            read(world.client().remove_member(bob.says(remove)).await.unwrap_err(), id),
            read(world.client().unban_member(bob.says(unban)).await.unwrap_err(), id),
            read(world.client().transfer_ownership(bob.says(transfer)).await.unwrap_err(), id),
        ]);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].iter().all(|status| *status == seen[0][0]));
    assert_eq!(seen[0][0].1, "ERROR_REASON_CONVERSATION_NOT_FOUND");
    assert_eq!(world.auth.lookups(), 0, "a stranger makes nobody look anything up");
    world.stop().await;
}

#[tokio::test]
async fn nobody_comes_in_without_a_token_and_people_do_not_pass_for_services() {
    let world = World::start().await;
    let [ann] = world.people();
    let id = world.create(ann, pb::ConversationKind::Group, &[]).await.conversation_id;
    let get = pb::GetConversationRequest { conversation_id: id.clone() };
    let answer = world.client().get_conversation(Request::new(get.clone())).await;
    assert_eq!(refusal(answer).0, Code::Unauthenticated);
    let answer = world.client().get_conversation(UserId::generate().says(get.clone())).await;
    assert_eq!(refusal(answer).0, Code::Unauthenticated);
    let facts = pb::ListConversationFactsRequest::default();
    assert_eq!(
        refusal(world.client().list_conversation_facts(ann.says(facts)).await).0,
        Code::PermissionDenied
    );

    // Messaging may for a user what the user may; the gateway may not, and neither may for nobody.
    let on_behalf = |name, user| as_service(get.clone(), &credential(name), user);
    assert!(world.client().get_conversation(on_behalf("messaging", Some(ann))).await.is_ok());
    let answer = world.client().get_conversation(on_behalf("messaging", Some(UserId::generate()))).await;
    assert_eq!(refusal(answer), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let answer = world.client().get_conversation(on_behalf("gateway", Some(ann))).await;
    assert_eq!(refusal(answer).0, Code::PermissionDenied);
    let answer = world.client().get_conversation(on_behalf("messaging", None)).await;
    assert_eq!(refusal(answer).0, Code::PermissionDenied);
    world.stop().await;
}

#[tokio::test]
async fn a_direct_conversation_is_found_by_either_side() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let first = world.create(ann, pb::ConversationKind::Direct, &[bob]).await;
    assert_eq!((first.peer_user_id.clone(), first.own_role()), (bob.to_string(), pb::MemberRole::Member));
    let lookups = world.auth.lookups();
    let again = draft(pb::ConversationKind::Direct, &[ann, bob]);
    let again = world.client().create_conversation(bob.says(again)).await.unwrap().into_inner();
    assert!(!again.created);
    let again = again.conversation.unwrap();
    assert_eq!((&again.conversation_id, &again.peer_user_id), (&first.conversation_id, &ann.to_string()));
    assert_eq!(world.auth.lookups(), lookups, "what exists is found without asking who exists");

    let with_oneself = draft(pb::ConversationKind::Direct, &[ann]);
    let refused = Fault::of(&world.client().create_conversation(ann.says(with_oneself)).await.unwrap_err());
    assert_eq!((refused.code(), refused.fields()[0].0.as_str()), (Code::InvalidArgument, "user_ids"));

    let id = first.conversation_id.as_str();
    let wrong = is(Code::FailedPrecondition, "WRONG_KIND");
    assert_eq!(refusal(world.leave(ann, id).await), wrong);
    assert_eq!(refusal(world.add(ann, id, &[bob]).await), wrong);
    assert_eq!(refusal(world.ban(ann, id, bob).await), wrong);
    assert_eq!(refusal(world.set_role(ann, id, bob, pb::MemberRole::Muted).await), wrong);
    let delete = pb::DeleteConversationRequest { conversation_id: id.to_owned() };
    assert_eq!(refusal(world.client().delete_conversation(ann.says(delete)).await), wrong);
    world.stop().await;
}

#[tokio::test]
async fn only_those_who_exist_are_brought_in() {
    let world = World::start().await;
    let people: [UserId; 150] = world.people();
    let (ann, others) = people.split_first().unwrap();
    let stranger = UserId::generate();
    let request = draft(pb::ConversationKind::Group, &[others, &[stranger]].concat());
    let refused = Fault::of(&world.client().create_conversation(ann.says(request)).await.unwrap_err());
    assert_eq!((refused.code(), refused.reason()), (Code::NotFound, "ERROR_REASON_USER_NOT_FOUND"));
    assert_eq!(refused.metadata()["user_id"], stranger.to_string());

    let before = world.auth.lookups();
    let made = world.create(*ann, pb::ConversationKind::Group, others).await;
    assert_eq!((made.member_count, world.auth.lookups() - before), (150, 2));
    let missing = is(Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(refusal(world.add(*ann, &made.conversation_id, &[stranger]).await), missing);
    assert_eq!(refusal(world.ban(*ann, &made.conversation_id, stranger).await), missing);

    world.auth.set_down(true);
    let [newcomer] = world.people();
    let refused = Fault::of(&world.add(*ann, &made.conversation_id, &[newcomer]).await.unwrap_err());
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.wait().is_some());
    world.stop().await;
}

#[tokio::test]
async fn a_retried_creation_makes_one_conversation() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let request = pb::CreateConversationRequest {
        request_id: UserId::generate().to_string(),
        ..draft(pb::ConversationKind::Group, &[bob])
    };
    let [first, second] = [
        world.client().create_conversation(ann.says(request.clone())).await.unwrap().into_inner(),
        world.client().create_conversation(ann.says(request.clone())).await.unwrap().into_inner(),
    ];
    assert_eq!(first, second);
    assert_eq!(world.facts(0, 0).await.len(), 1);
    let other = pb::CreateConversationRequest { title: "other".to_owned(), ..request };
    let refused = world.client().create_conversation(ann.says(other)).await;
    assert_eq!(refusal(refused), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    world.stop().await;
}

#[tokio::test]
async fn a_room_is_open_but_to_the_banned() {
    let world = World::with(Config { max_members: 3 }).await;
    let [ann, bob, cem, dee] = world.people();
    let room = world.create(ann, pb::ConversationKind::Room, &[]).await.conversation_id;
    assert_eq!(world.get(bob, &room).await.unwrap().own_role(), pb::MemberRole::Unspecified);
    let members = pb::ListMembersRequest { conversation_id: room.clone(), ..Default::default() };
    let listed = world.client().list_members(bob.says(members.clone())).await;
    assert_eq!(refusal(listed), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    assert_eq!(refusal(world.add(bob, &room, &[bob]).await), is(Code::PermissionDenied, "ROLE_TOO_LOW"));

    world.ban(ann, &room, cem).await.unwrap();
    assert_eq!(refusal(world.join(cem, &room).await), is(Code::PermissionDenied, "BANNED"));
    assert_eq!(refusal(world.add(ann, &room, &[cem]).await), is(Code::FailedPrecondition, "USER_BANNED"));
    let joined = world.join(bob, &room).await.unwrap();
    assert_eq!((joined.own_role(), joined.member_count), (pb::MemberRole::Member, 2));
    assert_eq!(world.join(bob, &room).await.unwrap(), joined);
    assert_eq!(world.client().list_members(bob.says(members)).await.unwrap().into_inner().members.len(), 2);

    world.join(dee, &room).await.unwrap();
    let [eve] = world.people();
    assert_eq!(refusal(world.join(eve, &room).await), is(Code::FailedPrecondition, "TOO_MANY_MEMBERS"));

    let bans = pb::ListBansRequest { conversation_id: room.clone(), ..Default::default() };
    assert_eq!(
        refusal(world.client().list_bans(bob.says(bans.clone())).await),
        is(Code::PermissionDenied, "ROLE_TOO_LOW")
    );
    let bans = world.client().list_bans(ann.says(bans)).await.unwrap().into_inner().bans;
    assert_eq!((bans.len(), bans[0].user_id.clone(), bans[0].reason.as_str()), (1, cem.to_string(), "spam"));
    let unban =
        |user: UserId| pb::UnbanMemberRequest { conversation_id: room.clone(), user_id: user.to_string() };
    world.client().unban_member(ann.says(unban(cem))).await.unwrap();
    let again = world.client().unban_member(ann.says(unban(cem))).await;
    assert_eq!(refusal(again), is(Code::NotFound, "BAN_NOT_FOUND"));
    world.stop().await;
}

#[tokio::test]
async fn roles_are_given_by_those_above() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let id = world.create(ann, pb::ConversationKind::Group, &[bob, cem]).await.conversation_id;
    let too_low = is(Code::PermissionDenied, "ROLE_TOO_LOW");
    assert_eq!(refusal(world.set_role(bob, &id, cem, pb::MemberRole::Muted).await), too_low);
    let member = world.set_role(ann, &id, bob, pb::MemberRole::Moderator).await.unwrap();
    assert_eq!((member.user_id.clone(), member.role()), (bob.to_string(), pb::MemberRole::Moderator));
    world.set_role(bob, &id, cem, pb::MemberRole::Muted).await.unwrap();
    assert_eq!(refusal(world.set_role(bob, &id, cem, pb::MemberRole::Moderator).await), too_low);
    assert_eq!(refusal(world.ban(bob, &id, ann).await), too_low);
    let last = is(Code::FailedPrecondition, "LAST_OWNER");
    assert_eq!(refusal(world.set_role(ann, &id, ann, pb::MemberRole::Member).await), last);
    assert_eq!(refusal(world.leave(ann, &id).await), last);
    let unspecified = world.set_role(ann, &id, bob, pb::MemberRole::Unspecified).await;
    assert_eq!(refusal(unspecified), is(Code::InvalidArgument, "INVALID_FIELD"));

    let transfer = pb::TransferOwnershipRequest { conversation_id: id.clone(), user_id: bob.to_string() };
    let after = world
        .client()
        .transfer_ownership(ann.says(transfer))
        .await
        .unwrap()
        .into_inner()
        .conversation
        .unwrap();
    assert_eq!(after.own_role(), pb::MemberRole::Moderator);
    world.leave(ann, &id).await.unwrap();
    let remove =
        |user: UserId| pb::RemoveMemberRequest { conversation_id: id.clone(), user_id: user.to_string() };
    world.client().remove_member(bob.says(remove(cem))).await.unwrap();
    let again = world.client().remove_member(bob.says(remove(cem))).await;
    assert_eq!(refusal(again), is(Code::NotFound, "MEMBER_NOT_FOUND"));
    world.leave(bob, &id).await.unwrap();
    assert_eq!(refusal(world.get(bob, &id).await), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    world.stop().await;
}

#[tokio::test]
async fn access_is_told_in_the_order_of_the_questions() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let group = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    let channel = world.create(ann, pb::ConversationKind::Channel, &[bob]).await.conversation_id;
    let room = world.create(ann, pb::ConversationKind::Room, &[]).await.conversation_id;
    let unknown = ConversationId::generate().to_string();
    let update = pb::UpdateConversationRequest {
        conversation_id: group.clone(),
        conversation: Some(pb::ConversationChanges {
            slow_mode: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["slow_mode".to_owned()] }),
    };
    let updated = world
        .client()
        .update_conversation(ann.says(update))
        .await
        .unwrap()
        .into_inner()
        .conversation
        .unwrap();
    assert_eq!((updated.slow_mode.unwrap().seconds, updated.membership_version), (30, 1));

    let answers = world
        .access(&[
            (&group, bob),
            (&unknown, ann),
            (&channel, bob),
            (&group, bob),
            (&room, cem),
            (&channel, ann),
            (&group, cem),
            (&group, ann),
        ])
        .await;
    let rights: Vec<_> = answers.iter().map(|a| (a.exists, a.visible, a.may_read, a.may_write)).collect();
    assert_eq!(
        rights,
        [
            (true, true, true, true),
            (false, false, false, false),
            (true, true, true, false),
            (true, true, true, true),
            (true, true, false, false),
            (true, true, true, true),
            (true, false, false, false),
            (true, true, true, true),
        ]
    );
    assert_eq!(
        answers.iter().map(|a| a.slow_mode_millis).collect::<Vec<_>>(),
        [30_000, 0, 0, 30_000, 0, 0, 0, 0]
    );

    // What was withdrawn is not granted any more, from the moment of the answer.
    world.set_role(ann, &group, bob, pb::MemberRole::Muted).await.unwrap();
    let muted = &world.access(&[(&group, bob)]).await[0];
    assert_eq!((muted.may_read, muted.may_write, muted.membership_version), (true, false, 2));
    world.ban(ann, &group, bob).await.unwrap();
    assert!(!world.access(&[(&group, bob)]).await[0].may_read);
    let many: Vec<_> = (0..1000).map(|_| (group.as_str(), ann)).collect();
    assert!(world.access(&many).await.iter().all(|access| access.may_write));
    world.stop().await;
}

#[tokio::test]
async fn memberships_are_listed_unless_they_are_known() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    assert_eq!(world.memberships(bob, 0).await.version, 1);
    assert!(world.memberships(bob, 1).await.unchanged);
    let group = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    let direct = world.create(ann, pb::ConversationKind::Direct, &[bob]).await.conversation_id;
    let list = world.memberships(bob, 1).await;
    assert_eq!((list.version, list.unchanged), (3, false));
    let ids: Vec<_> = list.memberships.iter().map(|m| m.conversation_id.clone()).collect();
    assert_eq!(ids, [direct.clone(), group.clone()]);
    let known = world.memberships(bob, 3).await;
    assert!(known.unchanged && known.memberships.is_empty());

    let request = pb::BatchGetConversationsRequest {
        user_id: bob.to_string(),
        conversation_ids: vec![group.clone(), ConversationId::generate().to_string(), direct.clone()],
    };
    let batch =
        world.client().batch_get_conversations(messaging(request)).await.unwrap().into_inner().conversations;
    assert_eq!(batch.iter().map(|c| &c.conversation_id).collect::<Vec<_>>(), [&group, &direct]);
    assert_eq!(
        (batch[0].own_role(), batch[1].peer_user_id.clone()),
        (pb::MemberRole::Member, ann.to_string())
    );
    world.stop().await;
}

#[tokio::test]
async fn lists_go_on_where_the_page_ends() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let mut made = vec![];
    for _ in 0..5 {
        made.push(world.create(ann, pb::ConversationKind::Room, &[bob]).await.conversation_id);
    }
    made.reverse();
    let list = |by: UserId, page_token: String| {
        let request = by.says(pb::ListConversationsRequest { page_size: 2, page_token });
        let mut client = world.client();
        async move { client.list_conversations(request).await.map(tonic::Response::into_inner) }
    };
    let mut seen = vec![];
    let mut token = String::new();
    loop {
        let page = list(ann, token).await.unwrap();
        assert!(page.conversations.len() <= 2);
        seen.extend(page.conversations.into_iter().map(|c| c.conversation_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
    let token = list(ann, String::new()).await.unwrap().next_page_token;
    assert_eq!(refusal(list(bob, token).await), is(Code::InvalidArgument, "INVALID_FIELD"));

    for _ in 0..4 {
        world.clock.advance(Duration::from_millis(1));
        let [newcomer] = world.people();
        world.join(newcomer, &made[0]).await.unwrap();
    }
    let mut members = vec![];
    let mut token = String::new();
    loop {
        let request = pb::ListMembersRequest {
            conversation_id: made[0].clone(),
            page_size: 4,
            page_token: token,
            at_least: 0,
        };
        let page = world.client().list_members(ann.says(request)).await.unwrap().into_inner();
        members.extend(page.members);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(members.len(), 6);
    assert!(members.is_sorted_by_key(|m| m.join_time.map(|time| (time.seconds, time.nanos))));
    world.stop().await;
}

#[tokio::test]
async fn every_change_is_a_fact_and_wakes_those_who_follow() {
    let world = World::start().await;
    let (sender, mut hints) = mpsc::channel::<Delivery>(100);
    let _subscription = world.events.subscribe(proto::subject::CONVERSATION_FACTS, sender).await;
    let [ann, bob, cem] = world.people();
    let id = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    world.add(ann, &id, &[cem, bob]).await.unwrap();
    world.add(ann, &id, &[cem]).await.unwrap();
    world.set_role(ann, &id, cem, pb::MemberRole::Moderator).await.unwrap();
    world.ban(cem, &id, bob).await.unwrap();
    world.leave(cem, &id).await.unwrap();
    let delete = pb::DeleteConversationRequest { conversation_id: id.clone() };
    world.client().delete_conversation(ann.says(delete)).await.unwrap();
    for _ in 0..6 {
        tokio::time::timeout(PATIENCE, hints.recv()).await.unwrap().unwrap();
    }
    assert!(hints.try_recv().is_err(), "nothing has happened when nothing has changed");

    let facts = world.facts(0, 0).await;
    let brief = |fact: &pb::ConversationFact| match fact.payload.as_ref().unwrap() {
        Payload::ConversationCreated(created) => format!("created with {}", created.members.len()),
        Payload::ConversationUpdated(_) => "updated".to_owned(),
        Payload::ConversationDeleted(deleted) => format!("deleted with {}", deleted.user_ids.len()),
        Payload::MembersAdded(added) => format!("added {}", added.members.len()),
        Payload::MemberRemoved(removed) => format!("removed {}", removed.reason().as_str_name()),
        Payload::MemberRoleChanged(changed) => format!("role {}", changed.role().as_str_name()),
        Payload::ContactBlocked(_) => "blocked".to_owned(),
        Payload::RequestChanged(changed) => format!("request {}", changed.state().as_str_name()),
    };
    assert_eq!(
        facts.iter().map(brief).collect::<Vec<_>>(),
        [
            "created with 2",
            "added 1",
            "role MEMBER_ROLE_MODERATOR",
            "removed REMOVAL_REASON_BANNED",
            "removed REMOVAL_REASON_LEFT",
            "deleted with 1",
        ]
    );
    assert!((1..).zip(&facts).all(|(n, fact)| fact.position == n && fact.membership_version == n));
    assert!(facts.iter().all(|fact| fact.conversation_id == id));
    let actors: Vec<_> = facts.iter().map(|fact| fact.actor_user_id.clone()).collect();
    assert_eq!(actors, [ann, ann, ann, cem, cem, ann].map(|user| user.to_string()));
    assert_eq!(world.facts(4, 1).await, facts[4..5]);
    assert!(world.facts(6, 0).await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn an_answer_with_facts_has_bounds() {
    let world = World::start().await;
    let people: [UserId; 900] = world.people();
    for _ in 0..25 {
        world.create(people[0], pb::ConversationKind::Group, &people[1..]).await;
    }
    let (mut after, mut answers) = (0, 0);
    loop {
        let facts = world.facts(after, 1000).await;
        let Some(last) = facts.last() else { break };
        assert_eq!(facts[0].position, after + 1);
        after = last.position;
        answers += 1;
    }
    assert_eq!(after, 25);
    assert!(answers > 1);
    world.stop().await;
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_waits_and_holds_up_no_deletion() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    world.create(ann, pb::ConversationKind::Group, &[bob, cem]).await;
    world.auth.tell_of_something_new(bob);
    world.auth.delete(cem);
    world.is_out(cem).await;
    assert_eq!(world.database.count_aside("auth").await.unwrap(), 1);
    assert!(!world.memberships(bob, 0).await.memberships.is_empty());

    // As the next release reads it.
    let fact = auth::deletion_of(bob);
    let Database::Sqlite(pool) = &world.database else { panic!("on SQLite") };
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("UPDATE facts_aside SET payload = $1").bind(fact).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    chassis::facts::try_aside();
    world.is_out(bob).await;
    assert_eq!(world.database.count_aside("auth").await.unwrap(), 0);
    world.stop().await;
}

#[tokio::test]
async fn an_older_copy_of_auth_loses_no_later_deletion() {
    let world = World::start().await;
    let [ann, bob, cem, dan] = world.people();
    world.create(ann, pb::ConversationKind::Group, &[bob, cem, dan]).await;
    for _ in 0..3 {
        world.auth.rename(ann);
    }
    world.auth.delete(bob);
    world.is_out(bob).await;
    // The facts end before the cursor.
    world.auth.is_restored_to(1);
    world.auth.delete(cem);
    world.is_out(cem).await;
    // Another fact stands at the cursor, and the facts go on beyond it.
    world.auth.is_restored_to(1);
    world.auth.rename(ann);
    world.auth.delete(dan);
    world.auth.rename(ann);
    world.is_out(dan).await;
    assert!(!world.memberships(ann, 0).await.memberships.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_account_goes_out_of_everything() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let group = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    let direct = world.create(ann, pb::ConversationKind::Direct, &[bob]).await.conversation_id;
    world.auth.delete(cem);
    // A fact about a name changes nothing and stops nothing.
    world.auth.rename(ann);
    world.auth.delete(ann);
    world.events.publish(proto::subject::AUTH_FACTS, bytes::Bytes::new());
    let gone = async {
        while world.get(bob, &group).await.unwrap().own_role() != pb::MemberRole::Owner
            || world.get(bob, &direct).await.unwrap().member_count != 1
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the memberships end");
    assert!(world.memberships(ann, 0).await.memberships.is_empty());
    assert!(!world.access(&[(&direct, ann)]).await[0].may_read);
    // The conversation with the one who is gone stays, and is found again; no other one can be started.
    let again = draft(pb::ConversationKind::Direct, &[ann]);
    let again =
        world.client().create_conversation(bob.says(again)).await.unwrap().into_inner().conversation.unwrap();
    assert_eq!((again.conversation_id, again.peer_user_id), (direct, ann.to_string()));
    let other = draft(pb::ConversationKind::Direct, &[cem]);
    assert_eq!(
        refusal(world.client().create_conversation(bob.says(other)).await),
        is(Code::NotFound, "USER_NOT_FOUND")
    );
    world.stop().await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_named() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let id = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    let named = |status: Status| {
        let fault = Fault::of(&status);
        assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
        fault.fields()[0].0.clone()
    };
    let title = pb::CreateConversationRequest {
        title: "a\u{202e}b".to_owned(),
        ..draft(pb::ConversationKind::Group, &[])
    };
    assert_eq!(named(world.client().create_conversation(ann.says(title)).await.unwrap_err()), "title");
    let kind = draft(pb::ConversationKind::Unspecified, &[]);
    assert_eq!(named(world.client().create_conversation(ann.says(kind)).await.unwrap_err()), "kind");
    let update = pb::UpdateConversationRequest {
        conversation_id: id.clone(),
        conversation: Some(pb::ConversationChanges::default()),
        update_mask: Some(prost_types::FieldMask { paths: vec!["owner".to_owned()] }),
    };
    assert_eq!(named(world.client().update_conversation(ann.says(update)).await.unwrap_err()), "update_mask");
    assert_eq!(named(world.get(ann, "nonsense").await.unwrap_err()), "conversation_id");
    let transfer = pb::TransferOwnershipRequest { conversation_id: id, user_id: ann.to_string() };
    assert_eq!(named(world.client().transfer_ownership(ann.says(transfer)).await.unwrap_err()), "user_id");
    world.stop().await;
}
