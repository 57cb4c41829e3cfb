//! Conversations that take secure messages only, and lists of those who moderate.

use super::*;

impl World {
    async fn create_secure(
        &self,
        by: UserId,
        kind: pb::ConversationKind,
        others: &[UserId],
    ) -> Result<pb::CreateConversationResponse, Status> {
        let request = pb::CreateConversationRequest { secure: true, ..draft(kind, others) };
        self.client().create_conversation(by.says(request)).await.map(tonic::Response::into_inner)
    }

    async fn set_secure(&self, by: UserId, id: &str, secure: bool) -> Result<pb::Conversation, Status> {
        let request = pb::UpdateConversationRequest {
            conversation_id: id.to_owned(),
            conversation: Some(pb::ConversationChanges { secure, ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["secure".to_owned()] }),
        };
        let answer = self.client().update_conversation(by.says(request)).await?.into_inner();
        Ok(answer.conversation.unwrap())
    }
}

#[tokio::test]
async fn what_is_found_becomes_secure_when_it_is_asked_for_and_stays_so() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.auth.give_device_keys(&[ann, bob]);
    for kind in [pb::ConversationKind::Direct, pb::ConversationKind::Discussion] {
        let plain = world.create(ann, kind, &[bob]).await;
        assert!(!plain.secure);
        let lookups = world.auth.lookups();
        let found = world.create_secure(bob, kind, &[ann]).await.unwrap();
        let secured = found.conversation.unwrap();
        assert!(!found.created && secured.secure);
        assert_eq!(secured.conversation_id, plain.conversation_id);
        assert_eq!(world.auth.lookups(), lookups);

        // Who asks for nothing special gets it as it is.
        let again = world.client().create_conversation(ann.says(draft(kind, &[bob]))).await.unwrap();
        assert!(again.into_inner().conversation.unwrap().secure);
        assert!(world.get(ann, &plain.conversation_id).await.unwrap().secure);
        let access = world.access(&[(&plain.conversation_id, ann), (&plain.conversation_id, bob)]).await;
        assert!(access.iter().all(|access| access.secure));
        let facts = world.facts(0, 0).await;
        let of_this = facts.iter().filter(|fact| fact.conversation_id == plain.conversation_id);
        let told: Vec<_> = of_this
            .map(|fact| match &fact.payload {
                Some(Payload::ConversationCreated(created)) => created.secure,
                Some(Payload::ConversationUpdated(updated)) => updated.secure,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [false, true]);
    }
    world.stop().await;
}

#[tokio::test]
async fn one_who_has_no_device_key_is_not_silenced() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let [guest, other_guest] = [world.auth.welcome(), world.auth.welcome()];
    world.auth.give_device_keys(&[ann, bob]);
    let missing = is(Code::FailedPrecondition, "DEVICE_KEY_MISSING");
    let (direct, discussion) = (pb::ConversationKind::Direct, pb::ConversationKind::Discussion);
    for (by, kind, others) in [
        (ann, direct, vec![guest]),
        (other_guest, direct, vec![ann]),
        (ann, direct, vec![cem]),
        (ann, discussion, vec![bob, cem]),
    ] {
        // Neither a new one nor one that is there.
        assert_eq!(refusal(world.create_secure(by, kind, &others).await), missing);
        let plain = world.create(by, kind, &others).await;
        let refused = world.create_secure(by, kind, &others).await.unwrap_err();
        let without = others.last().filter(|other| **other != ann).unwrap_or(&by);
        assert_eq!(Fault::of(&refused).metadata().get("user_id"), Some(&without.to_string()));
        assert_eq!(refusal::<()>(Err(refused)), missing);
        assert!(!world.get(by, &plain.conversation_id).await.unwrap().secure);
    }
    world.auth.give_device_keys(&[cem]);
    assert!(world.create_secure(ann, direct, &[cem]).await.unwrap().conversation.unwrap().secure);
    assert!(world.create_secure(cem, discussion, &[ann, bob]).await.unwrap().conversation.unwrap().secure);
    // The owner of a group answers for who can write there.
    let group = world.create_secure(ann, pb::ConversationKind::Group, &[guest]).await.unwrap();
    assert!(group.conversation.unwrap().secure);
    world.stop().await;
}

#[tokio::test]
async fn who_is_muted_does_not_make_a_discussion_secure() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.auth.give_device_keys(&[ann, bob]);
    let discussion = pb::ConversationKind::Discussion;
    let id = world.create(ann, discussion, &[bob]).await.conversation_id;
    world.set_role(ann, &id, bob, pb::MemberRole::Muted).await.unwrap();
    let refused = world.create_secure(bob, discussion, &[ann]).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "ROLE_TOO_LOW"));
    assert!(!world.get(ann, &id).await.unwrap().secure);
    world.stop().await;
}

#[tokio::test]
async fn every_kind_can_be_made_secure() {
    use pb::ConversationKind::{Channel, Direct, Discussion, Group, Room};
    let world = World::start().await;
    let [ann, bob] = world.people();
    world.auth.give_device_keys(&[ann, bob]);
    for kind in [Direct, Group, Discussion, Channel, Room] {
        let made = world.create_secure(ann, kind, &[bob]).await.unwrap();
        assert!(made.created && made.conversation.unwrap().secure, "{kind:?}");
        assert!(!world.create(ann, Group, &[bob]).await.secure);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_retry_says_the_same_about_secure() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let request = pb::CreateConversationRequest {
        request_id: UserId::generate().to_string(),
        secure: true,
        ..draft(pb::ConversationKind::Group, &[bob])
    };
    let create = async |request: &pb::CreateConversationRequest| {
        world.client().create_conversation(ann.says(request.clone())).await.map(tonic::Response::into_inner)
    };
    assert_eq!(create(&request).await.unwrap(), create(&request).await.unwrap());
    let plain = create(&pb::CreateConversationRequest { secure: false, ..request }).await;
    assert_eq!(refusal(plain), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    world.stop().await;
}

#[tokio::test]
async fn the_owner_sets_it_and_nobody_takes_it_back() {
    let world = World::start().await;
    let [ann, bob, cem, eve] = world.people();
    let id = world.create(ann, pb::ConversationKind::Group, &[bob, cem]).await.conversation_id;
    world.set_role(ann, &id, bob, pb::MemberRole::Moderator).await.unwrap();
    for secure in [true, false] {
        for actor in [bob, cem] {
            let refused = world.set_secure(actor, &id, secure).await;
            assert_eq!(refusal(refused), is(Code::PermissionDenied, "ROLE_TOO_LOW"));
        }
        let refused = world.set_secure(eve, &id, secure).await;
        assert_eq!(refusal(refused), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    }
    assert!(!world.set_secure(ann, &id, false).await.unwrap().secure);
    let secured = world.set_secure(ann, &id, true).await.unwrap();
    assert!(secured.secure);
    assert_eq!(world.set_secure(ann, &id, true).await.unwrap(), secured);
    let fault = Fault::of(&world.set_secure(ann, &id, false).await.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
    assert_eq!(fault.fields()[0].0, "conversation.secure");
    assert!(world.get(cem, &id).await.unwrap().secure && world.access(&[(&id, cem)]).await[0].secure);

    let direct = world.create(ann, pb::ConversationKind::Direct, &[bob]).await.conversation_id;
    let refused = world.set_secure(ann, &direct, true).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "WRONG_KIND"));
    world.stop().await;
}

#[tokio::test]
async fn those_with_a_role_are_a_list_of_their_own() {
    let world = World::start().await;
    let people: [UserId; 6] = world.people();
    let [ann, bob, cem, dee, eve, fay] = people;
    let id = world.create(ann, pb::ConversationKind::Group, &[bob, cem, dee, eve]).await.conversation_id;
    world.set_role(ann, &id, bob, pb::MemberRole::Moderator).await.unwrap();
    world.set_role(ann, &id, cem, pb::MemberRole::Moderator).await.unwrap();
    world.set_role(ann, &id, dee, pb::MemberRole::Muted).await.unwrap();
    let list = |at_least: pb::MemberRole, page_size, page_token: &str| pb::ListMembersRequest {
        conversation_id: id.clone(),
        at_least: at_least.into(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let ask = async |request: Request<pb::ListMembersRequest>| {
        let answer = world.client().list_members(request).await?.into_inner();
        let users = answer.members.into_iter().map(|member| member.user_id).collect::<Vec<_>>();
        Ok::<_, Status>((users, answer.next_page_token))
    };
    let moderators = [ann, bob, cem].map(|user| user.to_string());
    let (unspecified, _) = ask(eve.says(list(pb::MemberRole::Unspecified, 0, ""))).await.unwrap();
    assert_eq!(unspecified.len(), 5);
    let writers = ask(eve.says(list(pb::MemberRole::Member, 0, ""))).await.unwrap().0;
    assert!(writers.len() == 4 && !writers.contains(&dee.to_string()));
    // Messaging asks for a member, page by page.
    let for_eve = |token: &str| {
        as_service(list(pb::MemberRole::Moderator, 2, token), &credential("messaging"), Some(eve))
    };
    let (first, token) = ask(for_eve("")).await.unwrap();
    let (second, end) = ask(for_eve(&token)).await.unwrap();
    assert_eq!((first.len(), [first, second].concat(), end.as_str()), (2, moderators.to_vec(), ""));
    let owners = ask(eve.says(list(pb::MemberRole::Owner, 0, ""))).await.unwrap().0;
    assert_eq!(owners, [ann.to_string()]);

    // A token continues the list that it came from and no other.
    for other in [pb::MemberRole::Unspecified, pb::MemberRole::Member, pb::MemberRole::Owner] {
        let fault = Fault::of(&ask(eve.says(list(other, 2, &token))).await.unwrap_err());
        assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "page_token"));
    }
    let unknown = pb::ListMembersRequest { at_least: 99, ..list(pb::MemberRole::Owner, 0, "") };
    let fault = Fault::of(&ask(eve.says(unknown)).await.unwrap_err());
    assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "at_least"));
    for outsider in [
        fay.says(list(pb::MemberRole::Moderator, 0, "")),
        as_service(list(pb::MemberRole::Moderator, 0, ""), &credential("messaging"), Some(fay)),
    ] {
        assert_eq!(refusal(ask(outsider).await), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    }
    world.stop().await;
}
