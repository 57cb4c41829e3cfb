//! Who may write first, and bring whom into groups.

use super::*;

impl World {
    /// Makes the direct conversation for a message, as messaging does.
    async fn direct(&self, by: UserId, other: UserId) -> String {
        let made = self.makes_direct("messaging", by, other).await.unwrap();
        made.conversation_id
    }

    /// Makes or finds the direct conversation on behalf of somebody.
    async fn makes_direct(
        &self,
        service: &str,
        by: UserId,
        other: UserId,
    ) -> Result<pb::Conversation, Status> {
        let request = draft(pb::ConversationKind::Direct, &[other]);
        let request = as_service(request, &credential(service), Some(by));
        Ok(self.client().create_conversation(request).await?.into_inner().conversation.unwrap())
    }

    async fn open_message_request(&self, user: UserId, id: &str) -> Result<pb::Access, Status> {
        let request =
            pb::OpenMessageRequestRequest { conversation_id: id.to_owned(), user_id: user.to_string() };
        let answer = self.client().open_message_request(messaging(request)).await?;
        Ok(answer.into_inner().access.unwrap())
    }

    /// May write, needs a request, has one that waits since this version.
    async fn may(&self, id: &str, user: UserId) -> (bool, bool, i64) {
        let access = self.access(&[(id, user)]).await.remove(0);
        (access.may_write, access.request_needed, access.request_version)
    }

    async fn message_requests(
        &self,
        by: UserId,
        direction: pb::RequestDirection,
        state: pb::RequestState,
    ) -> Vec<pb::Request> {
        let (direction, state) = (direction.into(), state.into());
        let request = pb::ListMessageRequestsRequest { direction, state, ..Default::default() };
        self.contacts().list_message_requests(by.says(request)).await.unwrap().into_inner().requests
    }
}

const FREE: (bool, bool, i64) = (true, false, 0);
const NEEDED: (bool, bool, i64) = (true, true, 0);
const REFUSED: (bool, bool, i64) = (false, false, 0);

#[tokio::test]
async fn the_first_message_waits_for_an_answer() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.takes_strangers_after_a_request(bob).await;
    let contact = world.check_contact(ann, bob).await.unwrap();
    assert!(contact.request_needed && !world.check_contact(bob, ann).await.unwrap().request_needed);
    let id = world.direct(ann, bob).await;
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (NEEDED, NEEDED));
    assert_eq!(world.get(ann, &id).await.unwrap().request, None);

    let access = world.open_message_request(ann, &id).await.unwrap();
    assert_eq!((access.may_write, access.request_version, access.membership_version), (true, 2, 2));
    assert_eq!(world.open_message_request(ann, &id).await.unwrap(), access, "a retry changes nothing");
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), ((true, false, 2), REFUSED));
    assert!(world.access(&[(&id, bob)]).await[0].may_read);
    let told = world.told().await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].kind(), told[0].request_version), (pb::RequestKind::Message, 2));

    // Both see it, wherever they look.
    let request = world.get(bob, &id).await.unwrap().request.unwrap();
    assert_eq!((&request.request_id, &request.conversation_id), (&told[0].request_id, &id));
    world.auth.give_device_keys(&[ann, bob]);
    for user in [ann, bob] {
        let batch = pb::BatchGetConversationsRequest {
            user_id: user.to_string(),
            conversation_ids: vec![id.clone()],
        };
        let batch = world.client().batch_get_conversations(messaging(batch)).await.unwrap().into_inner();
        let list = user.says(pb::ListConversationsRequest::default());
        let list = world.client().list_conversations(list).await.unwrap().into_inner();
        let found = draft(pb::ConversationKind::Direct, &[ann, bob]);
        let found = world.client().create_conversation(user.says(found)).await.unwrap().into_inner();
        let secure = pb::CreateConversationRequest {
            secure: true,
            ..draft(pb::ConversationKind::Direct, &[ann, bob])
        };
        let secure = world.client().create_conversation(user.says(secure)).await.unwrap().into_inner();
        for seen in [
            batch.conversations[0].clone(),
            list.conversations[0].clone(),
            found.conversation.unwrap(),
            secure.conversation.unwrap(),
        ] {
            assert_eq!(seen.request.as_ref(), Some(&request));
        }
        assert_eq!(
            world
                .check_contact(user, if user == ann { bob } else { ann })
                .await
                .unwrap()
                .message_request
                .as_ref(),
            Some(&request)
        );
    }
    let [incoming, outgoing] = [pb::RequestDirection::Incoming, pb::RequestDirection::Outgoing];
    let pending = pb::RequestState::Pending;
    assert_eq!(world.message_requests(bob, incoming, pending).await, std::slice::from_ref(&request));
    assert_eq!(world.message_requests(ann, outgoing, pending).await, [request]);
    assert!(world.message_requests(bob, outgoing, pending).await.is_empty());

    let accepted = world.accept_message_request(bob, ann).await.unwrap();
    assert_eq!(accepted.state(), pb::RequestState::Accepted);
    assert_eq!(world.accept_message_request(bob, ann).await.unwrap(), accepted);
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (FREE, FREE));
    let all = world.message_requests(bob, incoming, pb::RequestState::Unspecified).await;
    assert_eq!(all, [accepted]);
    assert_eq!(world.told().await.pop().unwrap().version, 2);
    world.stop().await;
}

#[tokio::test]
async fn who_says_no_may_still_write_first() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.takes_strangers_after_a_request(bob).await;
    let id = world.direct(ann, bob).await;
    world.open_message_request(ann, &id).await.unwrap();
    let rejected = world.reject_message_request(bob, ann).await.unwrap();
    assert_eq!(rejected.state(), pb::RequestState::Rejected);
    assert_eq!(
        refusal(world.cancel_message_request(ann, bob).await),
        is(Code::FailedPrecondition, "REQUEST_ANSWERED")
    );
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (NEEDED, NEEDED));
    let access = world.open_message_request(bob, &id).await.unwrap();
    assert!(access.may_write && access.request_version == 0 && !access.request_needed);
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (FREE, FREE));
    assert_eq!(world.told().await.len(), 2, "of this nobody is told");
    world.stop().await;
}

#[tokio::test]
async fn nobody_asks_too_often() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.takes_strangers_after_a_request(bob).await;
    let id = world.direct(ann, bob).await;
    for round in 2..5 {
        assert_eq!(world.open_message_request(ann, &id).await.unwrap().request_version, round);
        world.cancel_message_request(ann, bob).await.unwrap();
    }
    assert_eq!(world.may(&id, ann).await, NEEDED);
    let refused = world.open_message_request(ann, &id).await.unwrap_err();
    assert!(Fault::of(&refused).wait().is_some());
    assert_eq!(refusal::<()>(Err(refused)), is(Code::ResourceExhausted, "RATE_LIMITED"));
    world.stop().await;
}

#[tokio::test]
async fn only_who_is_in_opens_a_request_and_only_where_one_is_needed() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let group = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    let id = world.direct(ann, bob).await;
    world.takes_strangers_after_a_request(bob).await;
    for id in [&group, &id] {
        let access = world.open_message_request(ann, id).await.unwrap();
        assert!(access.may_write && access.request_version == 0 && access.membership_version == 1);
        let refused = refusal(world.open_message_request(cem, id).await);
        assert_eq!(refused, is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    }
    assert!(world.told().await.is_empty(), "what was there before the setting stays open");
    assert!(!world.check_contact(ann, bob).await.unwrap().request_needed);
    assert!(world.check_contact(cem, bob).await.unwrap().request_needed);
    let as_ann = pb::OpenMessageRequestRequest { conversation_id: id, user_id: ann.to_string() };
    let refused = world.client().open_message_request(ann.says(as_ann)).await;
    assert_eq!(refusal(refused).0, Code::PermissionDenied);
    world.stop().await;
}

#[tokio::test]
async fn a_connection_needs_no_request_and_answers_one() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.takes_strangers_after_a_request(bob).await;
    let id = world.direct(ann, bob).await;
    world.connect(ann, bob).await;
    assert_eq!(world.may(&id, ann).await, FREE);
    world.remove_connection(bob, ann).await.unwrap();
    assert_eq!(world.may(&id, ann).await, NEEDED);

    world.open_message_request(ann, &id).await.unwrap();
    world.connect(bob, ann).await;
    let told = world.told().await;
    let message: Vec<_> = told.iter().filter(|fact| fact.kind() == pb::RequestKind::Message).collect();
    assert_eq!(message.last().map(|fact| fact.state()), Some(pb::RequestState::Accepted));
    world.remove_connection(ann, bob).await.unwrap();
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (FREE, FREE));
    world.stop().await;
}

#[tokio::test]
async fn a_block_beats_everything() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let id = world.direct(ann, bob).await;
    world.connect(ann, bob).await;
    world.block_user(ann, bob).await.unwrap();
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (REFUSED, NEEDED));
    let told = world.told().await.len();
    let access = world.open_message_request(bob, &id).await.unwrap();
    assert_eq!((access.may_write, access.request_unheard, access.request_version), (false, true, 2));
    assert_eq!(world.open_message_request(bob, &id).await.unwrap(), access, "a retry changes nothing");
    assert_eq!(world.told().await.len(), told);
    assert!(!world.open_message_request(ann, &id).await.unwrap().request_unheard);
    let seen = world.access(&[(&id, ann), (&id, bob)]).await;
    assert!(seen.iter().all(|access| access.may_read), "what was said stays");
    for (by, other) in [(ann, bob), (bob, ann)] {
        let request = draft(pb::ConversationKind::Group, &[other]);
        let refused = world.client().create_conversation(by.says(request)).await.unwrap_err();
        assert_eq!(Fault::of(&refused).metadata()["user_id"], other.to_string());
        assert_eq!(refusal::<()>(Err(refused)), is(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED"));
    }
    world.cancel_message_request(bob, ann).await.unwrap();
    world.unblock(ann, bob).await.unwrap();
    assert_eq!((world.may(&id, ann).await, world.may(&id, bob).await), (FREE, FREE), "both take everyone");
    assert_eq!(world.told().await.len(), told);
    world.stop().await;
}

#[tokio::test]
async fn strangers_bring_nobody_in_who_takes_only_whom_it_knows() {
    let world = World::start().await;
    let [ann, bob, cem, dee] = world.people();
    world.takes_strangers_after_a_request(bob).await;
    for kind in [
        pb::ConversationKind::Group,
        pb::ConversationKind::Discussion,
        pb::ConversationKind::Channel,
        pb::ConversationKind::Room,
    ] {
        let refused = world.client().create_conversation(ann.says(draft(kind, &[cem, bob]))).await;
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED"), "{kind:?}");
    }
    let group = world.create(ann, pb::ConversationKind::Group, &[cem]).await.conversation_id;
    assert_eq!(
        refusal(world.add(ann, &group, &[dee, bob]).await),
        is(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED")
    );
    assert_eq!(world.get(ann, &group).await.unwrap().member_count, 2, "all or none");
    let id = world.direct(ann, bob).await;
    world.open_message_request(ann, &id).await.unwrap();
    assert!(world.add(ann, &group, &[bob]).await.is_err());
    world.accept_message_request(bob, ann).await.unwrap();
    world.add(ann, &group, &[bob]).await.unwrap();
    // It comes into a room by itself.
    let room = world.create(cem, pb::ConversationKind::Room, &[]).await.conversation_id;
    world.join(bob, &room).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_direct_conversation_is_made_only_by_who_may_write_or_asks() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    world.takes_strangers_after_a_request(bob).await;
    let not_accepted = || is(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED");
    let by_herself = async || {
        let request = draft(pb::ConversationKind::Direct, &[bob]);
        world.client().create_conversation(ann.says(request)).await.map(tonic::Response::into_inner)
    };
    assert_eq!(refusal(by_herself().await), not_accepted());
    assert_eq!(refusal(world.makes_direct("scheduling", ann, bob).await), not_accepted());
    assert!(world.memberships(bob, 0).await.memberships.is_empty(), "there is nothing to see");
    assert!(world.facts(0, 10).await.is_empty());

    // For a message, it is made; from then on all find it.
    let made = world.makes_direct("messaging", ann, bob).await.unwrap();
    assert_eq!(world.makes_direct("scheduling", ann, bob).await.unwrap(), made);
    assert_eq!(by_herself().await.unwrap().conversation.unwrap(), made);
    // Whom one knows one need not ask, nor whoever takes everyone.
    world.connect(bob, cem).await;
    world.makes_direct("scheduling", cem, bob).await.unwrap();
    world.makes_direct("scheduling", bob, cem).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_block_lets_no_direct_conversation_come_to_be() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let there = world.direct(ann, cem).await;
    world.block_user(bob, ann).await.unwrap();
    world.block_user(cem, ann).await.unwrap();
    for (by, other) in [(ann, bob), (bob, ann)] {
        for service in ["messaging", "scheduling"] {
            let refused = world.makes_direct(service, by, other).await.unwrap_err();
            assert_eq!(Fault::of(&refused).metadata()["user_id"], other.to_string());
            assert_eq!(refusal::<()>(Err(refused)), is(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED"));
        }
    }
    assert!(world.memberships(bob, 0).await.memberships.is_empty());
    // What was there before is found.
    let found = world.makes_direct("scheduling", ann, cem).await.unwrap();
    assert_eq!(found.conversation_id, there);
    world.unblock(bob, ann).await.unwrap();
    world.makes_direct("scheduling", ann, bob).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn nobody_writes_to_one_whose_account_is_gone() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let id = world.direct(ann, bob).await;
    assert_eq!(world.may(&id, ann).await, FREE);
    world.auth.delete(bob);
    world.events.publish(proto::subject::AUTH_FACTS, bytes::Bytes::new());
    world
        .until("the conversation to know", async || {
            world.access(&[(&id, ann)]).await[0].peer_gone.then_some(())
        })
        .await;
    assert_eq!(world.may(&id, ann).await, REFUSED);
    let seen = world.access(&[(&id, ann)]).await.remove(0);
    assert!(seen.may_read && seen.visible, "what was said stays");
    let access = world.open_message_request(ann, &id).await;
    assert_eq!(refusal(access), is(Code::NotFound, "USER_NOT_FOUND"));
    world.stop().await;
}
