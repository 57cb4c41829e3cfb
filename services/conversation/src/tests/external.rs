//! External accounts are with those of their namespace only.

use proto::conversation::v1::connection_service_client::ConnectionServiceClient;

use super::*;

const KINDS: [pb::ConversationKind; 5] = [
    pb::ConversationKind::Direct,
    pb::ConversationKind::Group,
    pb::ConversationKind::Discussion,
    pb::ConversationKind::Channel,
    pb::ConversationKind::Room,
];

impl World {
    async fn makes(
        &self,
        by: UserId,
        kind: pb::ConversationKind,
        others: &[UserId],
    ) -> Result<pb::Conversation, Status> {
        let made = self.client().create_conversation(by.says(draft(kind, others))).await?;
        Ok(made.into_inner().conversation.unwrap())
    }
}

#[tokio::test]
async fn a_conversation_is_made_within_a_namespace_only() {
    let world = World::start().await;
    let [ann] = world.people();
    let guest = world.auth.welcome();
    let [allo, other_allo, foreign] = ["allo", "allo", "other"].map(|name| world.auth.external(name));
    let unknown = is(Code::NotFound, "USER_NOT_FOUND");
    for kind in KINDS {
        for (by, other) in [(allo, ann), (allo, guest), (allo, foreign), (ann, allo), (guest, allo)] {
            let refused = world.makes(by, kind, &[other]).await;
            assert_eq!(refusal(refused), unknown, "{kind:?} {by} {other}");
        }
        let made = world.makes(allo, kind, &[other_allo]).await.unwrap();
        assert_eq!(made.external_namespace, "allo");
        let is_public = !matches!(kind, pb::ConversationKind::Direct | pb::ConversationKind::Discussion);
        assert_eq!(made.public_read, is_public, "{kind:?}");
        let made = world.makes(ann, kind, &[guest]).await.unwrap();
        assert_eq!((made.external_namespace.as_str(), made.public_read), ("", false));
    }
    // A message to somebody is no way around it.
    for (by, other) in [(allo, ann), (ann, allo), (allo, foreign)] {
        let direct = draft(pb::ConversationKind::Direct, &[other]);
        let request = as_service(direct, &credential("messaging"), Some(by));
        assert_eq!(refusal(world.client().create_conversation(request).await), unknown);
    }
    let direct = draft(pb::ConversationKind::Direct, &[other_allo]);
    let request = as_service(direct, &credential("messaging"), Some(allo));
    assert!(!world.client().create_conversation(request).await.unwrap().into_inner().created);
    world.stop().await;
}

#[tokio::test]
async fn members_are_added_within_a_namespace_only() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let [allo, other_allo, foreign] = ["allo", "allo", "other"].map(|name| world.auth.external(name));
    let unknown = is(Code::NotFound, "USER_NOT_FOUND");
    let theirs = world.makes(allo, pb::ConversationKind::Group, &[]).await.unwrap().conversation_id;
    for other in [ann, foreign] {
        assert_eq!(refusal(world.add(allo, &theirs, &[other_allo, other]).await), unknown);
    }
    assert_eq!(world.add(allo, &theirs, &[other_allo]).await.unwrap().member_count, 2);
    let ours = world.makes(ann, pb::ConversationKind::Group, &[]).await.unwrap().conversation_id;
    assert_eq!(refusal(world.add(ann, &ours, &[bob, allo]).await), unknown);
    assert_eq!(world.add(ann, &ours, &[bob]).await.unwrap().member_count, 2);

    // It holds when the one who made it is gone.
    world.set_role(allo, &theirs, other_allo, pb::MemberRole::Owner).await.unwrap();
    world.auth.delete(allo);
    let [late] = ["allo"].map(|name| world.auth.external(name));
    assert_eq!(refusal(world.add(other_allo, &theirs, &[ann]).await), unknown);
    world.add(other_allo, &theirs, &[late]).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn an_external_account_joins_what_its_namespace_made() {
    let world = World::start().await;
    let [ann] = world.people();
    let guest = world.auth.welcome();
    let [allo, other_allo, foreign] = ["allo", "allo", "other"].map(|name| world.auth.external(name));
    let mismatch = is(Code::PermissionDenied, "NAMESPACE_MISMATCH");
    let not_found = is(Code::NotFound, "CONVERSATION_NOT_FOUND");
    for kind in [pb::ConversationKind::Group, pb::ConversationKind::Channel, pb::ConversationKind::Room] {
        let theirs = world.makes(allo, kind, &[]).await.unwrap().conversation_id;
        for stranger in [ann, guest, foreign] {
            assert!(world.get(stranger, &theirs).await.unwrap().public_read);
            assert_eq!(refusal(world.join(stranger, &theirs).await), mismatch, "{kind:?}");
        }
        let joined = world.join(other_allo, &theirs).await.unwrap();
        assert_eq!((joined.own_role(), joined.member_count), (pb::MemberRole::Member, 2));
    }
    for kind in [pb::ConversationKind::Direct, pb::ConversationKind::Discussion] {
        let theirs = world.makes(allo, kind, &[other_allo]).await.unwrap().conversation_id;
        let third = world.auth.external("allo");
        assert_eq!(refusal(world.join(third, &theirs).await), not_found, "{kind:?}");
        assert!(!world.access(&[(&theirs, third)]).await[0].may_read);
    }
    let ours = world.makes(ann, pb::ConversationKind::Room, &[]).await.unwrap().conversation_id;
    assert_eq!(refusal(world.join(allo, &ours).await), mismatch);
    // Nobody else waits for auth to come in.
    let before = world.auth.lookups();
    world.join(guest, &ours).await.unwrap();
    assert_eq!(world.auth.lookups(), before);
    world.stop().await;
}

#[tokio::test]
async fn nobody_asks_an_external_account_to_be_connected() {
    let world = World::start().await;
    let [ann] = world.people();
    let allo = world.auth.external("allo");
    let mut contacts = ConnectionServiceClient::new(world.transport.clone());
    let ask = |user: UserId| pb::SendConnectionRequestRequest {
        user_id: user.to_string(),
        request_id: String::new(),
    };
    let asked = contacts.send_connection_request(ann.says(ask(allo))).await;
    assert_eq!(refusal(asked), is(Code::NotFound, "USER_NOT_FOUND"));
    let asked = contacts.send_connection_request(allo.says(ask(ann))).await;
    assert_eq!(refusal(asked), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    world.stop().await;
}
