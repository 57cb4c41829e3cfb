//! Connections, blocks and settings.

use proto::auth::v1::AcquaintanceKind;
use proto::conversation::v1::connection_service_client::ConnectionServiceClient;

use super::*;

/// A method of the world for each rpc that names one other person.
macro_rules! about_somebody {
    ($($name:ident: $request:ident -> $answer:ty, $field:ident;)*) => {
        impl World {
            $(pub(super) async fn $name(&self, by: UserId, other: UserId) -> Result<$answer, Status> {
                let mut request = pb::$request::default();
                request.user_id = other.to_string();
                let answer = self.contacts().$name(by.says(request)).await?.into_inner();
                Ok(answer.$field.unwrap())
            })*
        }
    };
}

about_somebody! {
    send_connection_request: SendConnectionRequestRequest -> pb::Request, request;
    cancel_connection_request: CancelConnectionRequestRequest -> pb::Request, request;
    accept_connection_request: AcceptConnectionRequestRequest -> pb::Request, request;
    reject_connection_request: RejectConnectionRequestRequest -> pb::Request, request;
    accept_message_request: AcceptMessageRequestRequest -> pb::Request, request;
    reject_message_request: RejectMessageRequestRequest -> pb::Request, request;
    cancel_message_request: CancelMessageRequestRequest -> pb::Request, request;
    check_contact: CheckContactRequest -> pb::Contact, contact;
    block_user: BlockUserRequest -> pb::Block, block;
}

impl World {
    pub(super) fn contacts(&self) -> ConnectionServiceClient<Transport> {
        ConnectionServiceClient::new(self.transport.clone())
    }

    pub(super) async fn connect(&self, one: UserId, other: UserId) {
        self.send_connection_request(one, other).await.unwrap();
        self.accept_connection_request(other, one).await.unwrap();
    }

    pub(super) async fn remove_connection(&self, by: UserId, other: UserId) -> Result<(), Status> {
        let request = pb::RemoveConnectionRequest { user_id: other.to_string() };
        self.contacts().remove_connection(by.says(request)).await.map(drop)
    }

    pub(super) async fn unblock(&self, by: UserId, other: UserId) -> Result<(), Status> {
        let request = pb::UnblockUserRequest { user_id: other.to_string() };
        self.contacts().unblock_user(by.says(request)).await.map(drop)
    }

    async fn connections(&self, by: UserId) -> Vec<String> {
        let request = pb::ListConnectionsRequest::default();
        let listed = self.contacts().list_connections(by.says(request)).await.unwrap().into_inner();
        listed.connections.into_iter().map(|connection| connection.user_id).collect()
    }

    async fn pending(&self, by: UserId, direction: pb::RequestDirection) -> Vec<pb::Request> {
        let request = pb::ListPendingConnectionsRequest { direction: direction.into(), ..Default::default() };
        self.contacts().list_pending_connections(by.says(request)).await.unwrap().into_inner().requests
    }

    pub(super) async fn set_privacy(
        &self,
        by: UserId,
        privacy: pb::Privacy,
        paths: &[&str],
    ) -> Result<pb::Privacy, Status> {
        let update_mask = prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        let request = pb::UpdatePrivacyRequest { privacy: Some(privacy), update_mask: Some(update_mask) };
        let answer = self.contacts().update_privacy(by.says(request)).await?;
        Ok(answer.into_inner().privacy.unwrap())
    }

    pub(super) async fn takes_strangers_after_a_request(&self, user: UserId) {
        let first_contact = pb::FirstContact::AfterRequest.into();
        let privacy = pb::Privacy { first_contact, ..Default::default() };
        self.set_privacy(user, privacy, &["first_contact"]).await.unwrap();
    }

    /// The facts about requests that are for both.
    pub(super) async fn told(&self) -> Vec<pb::RequestChanged> {
        let (told, for_one): (Vec<_>, Vec<_>) =
            self.told_each().await.into_iter().partition(|changed| changed.only_user_id.is_empty());
        assert!(for_one.iter().all(|changed| changed.only_user_id == changed.to_user_id));
        told
    }

    /// The facts about requests.
    async fn told_each(&self) -> Vec<pb::RequestChanged> {
        let facts = self.facts(0, 1000).await;
        let told = facts.into_iter().filter_map(|fact| match fact.payload {
            Some(Payload::RequestChanged(changed)) => Some(changed),
            _ => None,
        });
        told.collect()
    }

    /// The facts about blocks: who blocks whom.
    pub(super) async fn told_of_blocks(&self) -> Vec<(String, String)> {
        let facts = self.facts(0, 1000).await.into_iter();
        let told = facts.filter_map(|fact| match fact.payload {
            Some(Payload::ContactBlocked(blocked)) => {
                assert_eq!((fact.conversation_id.as_str(), fact.membership_version), ("", 0));
                assert_eq!(fact.actor_user_id, blocked.blocker_user_id);
                Some((blocked.blocker_user_id, blocked.blocked_user_id))
            }
            _ => None,
        });
        told.collect()
    }

    pub(super) async fn until<T>(&self, what: &str, found: impl AsyncFn() -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = found().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited for {what}"))
    }
}

#[tokio::test]
async fn two_people_connect_and_part() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (hints, mut told) = mpsc::channel(16);
    let _following = world.events.subscribe(proto::subject::CONVERSATION_FACTS, hints).await;
    let asked = world.send_connection_request(ann, bob).await.unwrap();
    assert_eq!((asked.kind(), asked.state()), (pb::RequestKind::Connection, pb::RequestState::Pending));
    assert_eq!((&asked.from_user_id, &asked.to_user_id), (&ann.to_string(), &bob.to_string()));
    assert_eq!(asked.create_time, Some(world.clock.now().to_proto()));
    assert!(asked.answer_time.is_none() && asked.conversation_id.is_empty());
    told.recv().await.unwrap();
    assert_eq!(world.pending(bob, pb::RequestDirection::Incoming).await, std::slice::from_ref(&asked));
    assert_eq!(world.pending(ann, pb::RequestDirection::Outgoing).await, std::slice::from_ref(&asked));
    assert_eq!(world.pending(ann, pb::RequestDirection::Unspecified).await, std::slice::from_ref(&asked));
    assert!(world.pending(ann, pb::RequestDirection::Incoming).await.is_empty());
    assert_eq!(world.check_contact(bob, ann).await.unwrap().connection_request, Some(asked.clone()));

    world.clock.advance(Duration::from_secs(5));
    for _ in 0..2 {
        let accepted = world.accept_connection_request(bob, ann).await.unwrap();
        assert_eq!((accepted.state(), &accepted.request_id), (pb::RequestState::Accepted, &asked.request_id));
        assert_eq!(accepted.answer_time, Some(world.clock.now().to_proto()));
    }
    assert_eq!(world.connections(ann).await, [bob.to_string()]);
    assert_eq!(world.connections(bob).await, [ann.to_string()]);
    let contact = world.check_contact(ann, bob).await.unwrap();
    assert!(contact.connected && contact.connect_time == Some(world.clock.now().to_proto()));
    assert!(world.pending(ann, pb::RequestDirection::Unspecified).await.is_empty());
    let late = world.cancel_connection_request(ann, bob).await;
    let state = Fault::of(late.as_ref().unwrap_err()).metadata().get("state").cloned();
    assert_eq!(state.as_deref(), Some("REQUEST_STATE_ACCEPTED"));
    assert_eq!(refusal(late), is(Code::FailedPrecondition, "REQUEST_ANSWERED"));

    for _ in 0..2 {
        world.remove_connection(ann, bob).await.unwrap();
    }
    assert!(world.connections(bob).await.is_empty());
    let contact = world.check_contact(ann, bob).await.unwrap();
    assert_eq!((contact.connected, contact.connection_request), (false, None));
    let told: Vec<_> = world.told().await.iter().map(|fact| (fact.state(), fact.version)).collect();
    assert_eq!(told, [(pb::RequestState::Pending, 1), (pb::RequestState::Accepted, 2)]);
    world.stop().await;
}

#[tokio::test]
async fn who_asks_back_says_yes() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let asked = world.send_connection_request(ann, bob).await.unwrap();
    let met = world.send_connection_request(bob, ann).await.unwrap();
    assert_eq!((met.state(), met.request_id), (pb::RequestState::Accepted, asked.request_id));
    assert_eq!(world.connections(ann).await, [bob.to_string()]);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let guest = world.auth.welcome();
    world.auth.delete(cem);
    let (code, _) = refusal(world.send_connection_request(ann, ann).await);
    assert_eq!(code, Code::InvalidArgument);
    for somebody in [cem, guest, UserId::generate()] {
        let refused = refusal(world.send_connection_request(ann, somebody).await);
        assert_eq!(refused, is(Code::NotFound, "USER_NOT_FOUND"));
    }
    assert_eq!(refusal(world.send_connection_request(guest, ann).await).0, Code::FailedPrecondition);
    assert_eq!(
        refusal(world.accept_connection_request(ann, bob).await),
        is(Code::NotFound, "REQUEST_NOT_FOUND")
    );

    let request = |retry: u128| pb::SendConnectionRequestRequest {
        user_id: bob.to_string(),
        request_id: uuid::Uuid::from_u128(retry).to_string(),
    };
    let send = |retry| {
        let (mut contacts, message) = (world.contacts(), ann.says(request(retry)));
        async move { contacts.send_connection_request(message).await.map(tonic::Response::into_inner) }
    };
    let first = send(1).await.unwrap();
    assert_eq!(send(1).await.unwrap(), first, "a retry finds the first");
    assert_eq!(refusal(send(2).await), is(Code::AlreadyExists, "REQUEST_PENDING_ALREADY"));
    world.cancel_connection_request(ann, bob).await.unwrap();
    let late = world.accept_connection_request(bob, ann).await;
    assert_eq!(Fault::of(late.as_ref().unwrap_err()).metadata()["state"], "REQUEST_STATE_CANCELLED");
    assert_eq!(refusal(late), is(Code::FailedPrecondition, "REQUEST_ANSWERED"));
    let other = pb::SendConnectionRequestRequest { user_id: world.auth.register().to_string(), ..request(1) };
    let reused = world.contacts().send_connection_request(ann.says(other)).await;
    assert_eq!(refusal(reused), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));

    for _ in 0..2 {
        world.send_connection_request(ann, bob).await.unwrap();
        world.reject_connection_request(bob, ann).await.unwrap();
    }
    let refused = world.send_connection_request(ann, bob).await.unwrap_err();
    assert_eq!(Fault::of(&refused).wait(), Some(Duration::from_secs(24 * 60 * 60)));
    assert_eq!(refusal::<()>(Err(refused)), is(Code::ResourceExhausted, "RATE_LIMITED"));
    world.clock.advance(Duration::from_secs(24 * 60 * 60));
    world.send_connection_request(ann, bob).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn so_many_requests_wait_and_no_more() {
    let world = World::start().await;
    let [ann] = world.people();
    let others: [UserId; 101] = world.people();
    for other in &others[..100] {
        world.send_connection_request(ann, *other).await.unwrap();
    }
    let refused = world.send_connection_request(ann, others[100]).await.unwrap_err();
    assert!(Fault::of(&refused).wait().is_some());
    assert_eq!(refusal::<()>(Err(refused)), is(Code::ResourceExhausted, "RATE_LIMITED"));
    world.reject_connection_request(others[3], ann).await.unwrap();
    world.send_connection_request(ann, others[100]).await.unwrap();

    let mut listed = vec![];
    let mut token = String::new();
    loop {
        let request = pb::ListPendingConnectionsRequest {
            direction: pb::RequestDirection::Outgoing.into(),
            page_size: 40,
            page_token: token.clone(),
        };
        let page = world.contacts().list_pending_connections(ann.says(request)).await.unwrap().into_inner();
        listed.extend(page.requests.into_iter().map(|request| request.to_user_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 100);
    // A token belongs to one list.
    let request = pb::ListPendingConnectionsRequest { page_size: 1, ..Default::default() };
    let page = world.contacts().list_pending_connections(ann.says(request)).await.unwrap().into_inner();
    let request = pb::ListMessageRequestsRequest { page_token: page.next_page_token, ..Default::default() };
    let refused = world.contacts().list_message_requests(ann.says(request)).await;
    assert_eq!(refusal(refused).0, Code::InvalidArgument);
    world.stop().await;
}

#[tokio::test]
async fn who_is_blocked_learns_nothing() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.connect(ann, bob).await;
    let told = world.told().await.len();
    let block = world.block_user(bob, ann).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.block_user(bob, ann).await.unwrap(), block, "a second time changes nothing");
    assert!(world.connections(ann).await.is_empty());
    // As if the connection had just ended, and Bob took strangers after a request only.
    let contact = world.check_contact(ann, bob).await.unwrap();
    let expected = pb::Contact { user_id: bob.to_string(), request_needed: true, ..Default::default() };
    assert_eq!(contact, expected);
    assert!(world.check_contact(bob, ann).await.unwrap().blocked);

    // What Ann asks waits, for her alone.
    let asked = world.send_connection_request(ann, bob).await.unwrap();
    assert_eq!(asked.state(), pb::RequestState::Pending);
    assert_eq!(world.pending(ann, pb::RequestDirection::Outgoing).await, [asked]);
    assert!(world.pending(bob, pb::RequestDirection::Incoming).await.is_empty());
    assert_eq!(world.check_contact(bob, ann).await.unwrap().connection_request, None);
    let refused = refusal(world.accept_connection_request(bob, ann).await);
    assert_eq!(refused, is(Code::NotFound, "REQUEST_NOT_FOUND"));
    let refused = refusal(world.send_connection_request(bob, ann).await);
    assert_eq!(refused, is(Code::FailedPrecondition, "USER_BLOCKED"));
    assert_eq!(world.told().await.len(), told);

    let request = pb::ListBlockedUsersRequest::default();
    let blocks = world.contacts().list_blocked_users(bob.says(request)).await.unwrap().into_inner().blocks;
    assert_eq!(blocks, [block]);
    let request = pb::ListBlockedUsersRequest::default();
    let blocks = world.contacts().list_blocked_users(ann.says(request)).await.unwrap().into_inner().blocks;
    assert!(blocks.is_empty());
    for _ in 0..2 {
        world.unblock(bob, ann).await.unwrap();
    }
    assert!(world.pending(bob, pb::RequestDirection::Incoming).await.is_empty(), "nothing comes back");
    world.cancel_connection_request(ann, bob).await.unwrap();
    assert_eq!(world.told().await.len(), told);
    world.stop().await;
}

#[tokio::test]
async fn what_waits_for_one_who_blocks_is_over_for_that_one_alone() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let asked = world.send_connection_request(ann, bob).await.unwrap();
    for _ in 0..2 {
        world.block_user(bob, ann).await.unwrap();
    }
    let told = world.told_each().await;
    assert_eq!(told.len(), 2);
    assert_eq!((&told[1].request_id, told[1].version), (&asked.request_id, 2));
    assert_eq!((told[1].state(), &told[1].only_user_id), (pb::RequestState::Cancelled, &bob.to_string()));
    assert_eq!(world.check_contact(ann, bob).await.unwrap().connection_request, Some(asked));
    world.stop().await;
}

#[tokio::test]
async fn auth_learns_who_knows_whom_however_long_it_is_away() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    world.auth.refuse_acquaintances(Some(Code::Unavailable));
    world.connect(ann, bob).await;
    world.connect(cem, ann).await;
    world.remove_connection(cem, ann).await.unwrap();
    world.auth.refuse_acquaintances(None);
    let told = world
        .until("auth to know of both", async || {
            Some(world.auth.acquaintances()).filter(|told| told.len() >= 2)
        })
        .await;
    let of = |one: UserId, other: UserId| {
        let expected = [one.min(other).to_string(), one.max(other).to_string()];
        told.iter().rfind(|news| news.user_ids == expected).cloned().unwrap()
    };
    let (met, parted) = (of(ann, bob), of(ann, cem));
    assert_eq!((met.ended, met.version, met.kind()), (false, 2, AcquaintanceKind::Connection));
    assert!(parted.ended && parted.version == 3, "the last is what counts");

    // One that auth will not take holds up no other.
    let before = world.auth.refusals();
    world.auth.refuse_acquaintances(Some(Code::InvalidArgument));
    let [dee, eve] = world.people();
    world.connect(dee, eve).await;
    world.until("auth to refuse", async || (world.auth.refusals() > before).then_some(())).await;
    world.auth.refuse_acquaintances(None);
    let [fay, gus] = world.people();
    world.connect(fay, gus).await;
    let knows = |one: UserId| {
        let told = world.auth.acquaintances();
        told.iter().any(|news| news.user_ids.contains(&one.to_string())).then_some(())
    };
    world.until("auth to know of the next", async || knows(fay)).await;
    world.clock.advance(Duration::from_secs(60));
    world.until("auth to be told again", async || knows(dee)).await;
    world.stop().await;
}

#[tokio::test]
async fn auth_learns_while_there_is_a_block_but_not_whose() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let told = async |count: usize| {
        let told = async || {
            let told = world.auth.acquaintances();
            (told.len() >= count).then_some(told)
        };
        let news = |news: proto::auth::v1::RecordAcquaintanceRequest| {
            assert_eq!(news.user_ids, [ann.min(bob).to_string(), ann.max(bob).to_string()]);
            (news.kind(), news.ended, news.version)
        };
        world.until("auth to know", told).await.into_iter().map(news).collect::<Vec<_>>()
    };
    world.connect(ann, bob).await;
    told(1).await;
    world.block_user(ann, bob).await.unwrap();
    let mut expected = vec![
        (AcquaintanceKind::Connection, false, 2),
        (AcquaintanceKind::Connection, true, 3),
        (AcquaintanceKind::Block, false, 3),
    ];
    assert_eq!(told(3).await, expected);
    // As long as one of them blocks the other, nothing is new.
    world.block_user(bob, ann).await.unwrap();
    world.unblock(ann, bob).await.unwrap();
    world.unblock(bob, ann).await.unwrap();
    expected.push((AcquaintanceKind::Block, true, 6));
    assert_eq!(told(4).await, expected);
    world.stop().await;
}

#[tokio::test]
async fn everyone_says_what_others_may() {
    let world = World::start().await;
    let [ann] = world.people();
    let guest = world.auth.welcome();
    let get = |who: UserId| {
        let (mut contacts, request) = (world.contacts(), who.says(pb::GetPrivacyRequest {}));
        async move { contacts.get_privacy(request).await.unwrap().into_inner().privacy.unwrap() }
    };
    let open = pb::Privacy {
        first_contact: pb::FirstContact::Everyone.into(),
        presence: pb::PresenceVisibility::Everyone.into(),
    };
    assert_eq!((get(ann).await, get(guest).await), (open, open));
    let shut = pb::Privacy {
        first_contact: pb::FirstContact::AfterRequest.into(),
        presence: pb::PresenceVisibility::Nobody.into(),
    };
    let now = world.set_privacy(ann, shut, &["presence"]).await.unwrap();
    assert_eq!(now, pb::Privacy { presence: shut.presence, ..open });
    assert_eq!(world.set_privacy(ann, shut, &["first_contact"]).await.unwrap(), shut);
    assert_eq!(get(ann).await, shut);
    let (code, _) = refusal(world.set_privacy(ann, open, &["blocks"]).await);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(get(ann).await, shut);
    let (code, _) = refusal(world.set_privacy(guest, shut, &["presence"]).await);
    assert_eq!(code, Code::FailedPrecondition);
    world.stop().await;
}

#[tokio::test]
async fn with_an_account_ends_what_was_between_it_and_others() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    world.connect(ann, bob).await;
    world.send_connection_request(cem, ann).await.unwrap();
    world.auth.delete(ann);
    world.events.publish(proto::subject::AUTH_FACTS, bytes::Bytes::new());
    world
        .until("the connection to end", async || world.connections(bob).await.is_empty().then_some(()))
        .await;
    world
        .until("the request to end", async || {
            world.pending(cem, pb::RequestDirection::Outgoing).await.is_empty().then_some(())
        })
        .await;
    let last = world.told().await.pop().unwrap();
    assert_eq!((last.from_user_id.clone(), last.state()), (cem.to_string(), pb::RequestState::Cancelled));
    assert_eq!(refusal(world.check_contact(bob, ann).await), is(Code::NotFound, "USER_NOT_FOUND"));
    world.stop().await;
}

#[tokio::test]
async fn each_block_that_begins_is_a_fact_for_services() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (hints, mut told) = mpsc::channel(16);
    let _following = world.events.subscribe(proto::subject::CONVERSATION_FACTS, hints).await;
    let (one, other) = (ann.to_string(), bob.to_string());
    for _ in 0..2 {
        world.block_user(ann, bob).await.unwrap();
        assert_eq!(world.told_of_blocks().await, [(one.clone(), other.clone())]);
    }
    told.recv().await.unwrap();
    world.block_user(bob, ann).await.unwrap();
    world.unblock(ann, bob).await.unwrap();
    world.block_user(ann, bob).await.unwrap();
    let all = [(&one, &other), (&other, &one), (&one, &other)].map(|(by, of)| (by.clone(), of.clone()));
    assert_eq!(world.told_of_blocks().await, all);
    let read = pb::ListConversationFactsRequest { after_position: 0, limit: 10 };
    let facts = world.client().list_conversation_facts(scheduling(read)).await.unwrap().into_inner().facts;
    assert_eq!(facts.len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn a_contact_names_the_direct_conversation_when_there_is_one() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.create(ann, pb::ConversationKind::Group, &[bob]).await;
    assert_eq!(world.check_contact(ann, bob).await.unwrap().conversation_id, "");
    let direct = world.create(ann, pb::ConversationKind::Direct, &[bob]).await.conversation_id;
    for (by, other) in [(ann, bob), (bob, ann)] {
        assert_eq!(world.check_contact(by, other).await.unwrap().conversation_id, direct);
    }
    // A block ends nothing of it.
    world.block_user(bob, ann).await.unwrap();
    assert_eq!(world.check_contact(ann, bob).await.unwrap().conversation_id, direct);
    world.stop().await;
}

#[tokio::test]
async fn connections_are_found_by_a_name_and_counted() {
    let world = World::start().await;
    let [ann, bob, cem, dee] = world.people();
    for (user, name) in [(bob, "Änne Bauer"), (cem, "Cem"), (dee, "Joanne")] {
        world.auth.name(user, name);
        world.connect(ann, user).await;
        world.clock.advance(Duration::from_secs(1));
    }
    let list = async |keyword: &str, page_size: i32, page_token: &str| {
        let request = pb::ListConnectionsRequest {
            page_size,
            page_token: page_token.to_owned(),
            keyword: keyword.to_owned(),
        };
        let answer =
            world.contacts().list_connections(ann.says(request)).await.map(tonic::Response::into_inner);
        answer.map(|page| {
            let ids: Vec<_> = page.connections.into_iter().map(|connection| connection.user_id).collect();
            (ids, page.total_count, page.next_page_token)
        })
    };
    let [bob, cem, dee] = [bob, cem, dee].map(|user| user.to_string());
    let all = (vec![dee.clone(), cem.clone(), bob.clone()], 3, String::new());
    assert_eq!(list("", 0, "").await.unwrap(), all);
    assert_eq!(list(" ", 0, "").await.unwrap(), all);
    assert_eq!(list("NN", 0, "").await.unwrap(), (vec![dee.clone(), bob.clone()], 2, String::new()));
    assert_eq!(list("änne b", 0, "").await.unwrap(), (vec![bob.clone()], 1, String::new()));
    assert_eq!(list("zoe", 0, "").await.unwrap(), (vec![], 0, String::new()));

    for (keyword, expected) in [("", vec![&dee, &cem, &bob]), ("nn", vec![&dee, &bob])] {
        let (mut found, mut token) = (vec![], String::new());
        loop {
            let (ids, count, next) = list(keyword, 1, &token).await.unwrap();
            assert_eq!((ids.len(), usize::try_from(count).unwrap()), (1, expected.len()));
            found.extend(ids);
            if next.is_empty() {
                break;
            }
            token = next;
            let foreign = list("another", 1, &token).await;
            assert_eq!(refusal(foreign).0, Code::InvalidArgument, "a token belongs to its keyword");
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    }
    let long = list(&"a".repeat(65), 0, "").await;
    assert_eq!(refusal(long), is(Code::InvalidArgument, "INVALID_FIELD"));
    world.auth.set_down(true);
    assert_eq!(refusal(list("nn", 0, "").await).0, Code::Unavailable);
    assert_eq!(list("", 0, "").await.unwrap(), all);
    world.stop().await;
}

#[tokio::test]
async fn requests_that_wait_are_counted_in_their_direction() {
    let world = World::start().await;
    let [ann, bob, cem, dee] = world.people();
    let count = async |by: UserId, direction: pb::RequestDirection| {
        let request = pb::ListPendingConnectionsRequest {
            direction: direction.into(),
            page_size: 1,
            ..Default::default()
        };
        let page = world.contacts().list_pending_connections(by.says(request)).await.unwrap().into_inner();
        page.total_count
    };
    for other in [bob, cem] {
        world.send_connection_request(ann, other).await.unwrap();
    }
    world.send_connection_request(dee, ann).await.unwrap();
    let directions =
        [pb::RequestDirection::Unspecified, pb::RequestDirection::Outgoing, pb::RequestDirection::Incoming];
    for (direction, expected) in directions.into_iter().zip([3, 2, 1]) {
        assert_eq!(count(ann, direction).await, expected, "{direction:?}");
    }
    world.accept_connection_request(bob, ann).await.unwrap();
    assert_eq!(count(ann, pb::RequestDirection::Outgoing).await, 1);
    // What the one who is asked does not see is not counted for that one.
    world.block_user(ann, dee).await.unwrap();
    assert_eq!(count(ann, pb::RequestDirection::Incoming).await, 0);
    assert_eq!(count(dee, pb::RequestDirection::Outgoing).await, 1);
    world.stop().await;
}
