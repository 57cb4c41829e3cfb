//! Conversations that everyone reads, and the anonymous viewer.

use proto::conversation::v1::presence_service_client::PresenceServiceClient;
use proto::id::GatewayId;
use uuid::Uuid;

use super::*;

/// Asked by the gateway for the anonymous viewer.
fn anonymously<T>(message: T) -> Request<T> {
    as_service(message, &credential("gateway"), None)
}

fn nobody() -> UserId {
    UserId::from(Uuid::nil())
}

impl World {
    async fn opens_to_everyone(&self, by: UserId) -> String {
        let draft =
            pb::CreateConversationRequest { public_read: true, ..draft(pb::ConversationKind::Room, &[]) };
        let made = self.client().create_conversation(by.says(draft)).await.unwrap().into_inner();
        let made = made.conversation.unwrap();
        assert!(made.public_read);
        made.conversation_id
    }

    async fn set_public_read(&self, by: UserId, id: &str, on: bool) -> Result<pb::Conversation, Status> {
        let update = pb::UpdateConversationRequest {
            conversation_id: id.to_owned(),
            conversation: Some(pb::ConversationChanges { public_read: on, ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["public_read".to_owned()] }),
        };
        let updated = self.client().update_conversation(by.says(update)).await?;
        Ok(updated.into_inner().conversation.unwrap())
    }

    async fn members_seen(
        &self,
        request: impl Fn(pb::ListMembersRequest) -> Request<pb::ListMembersRequest>,
        id: &str,
        at_least: pb::MemberRole,
    ) -> Result<Vec<String>, Status> {
        let message = pb::ListMembersRequest {
            conversation_id: id.to_owned(),
            at_least: at_least.into(),
            ..Default::default()
        };
        let members = self.client().list_members(request(message)).await?.into_inner().members;
        Ok(members.into_iter().map(|member| member.user_id).collect())
    }

    async fn online_seen(
        &self,
        request: impl Fn(pb::ListOnlineMembersRequest) -> Request<pb::ListOnlineMembersRequest>,
        id: &str,
    ) -> Result<Vec<String>, Status> {
        let message = pb::ListOnlineMembersRequest { conversation_id: id.to_owned(), ..Default::default() };
        let mut client = PresenceServiceClient::new(self.transport.clone());
        let members = client.list_online_members(request(message)).await?.into_inner().members;
        Ok(members.into_iter().map(|member| member.user_id).collect())
    }
}

#[tokio::test]
async fn everyone_reads_while_the_owner_lets_them() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let room = world.opens_to_everyone(ann).await;
    world.join(bob, &room).await.unwrap();
    world.ban(ann, &room, cem).await.unwrap();
    for reader in [cem, nobody()] {
        let access = world.access(&[(&room, reader)]).await.remove(0);
        assert!(access.exists && access.visible && access.may_read && !access.may_write);
        assert_eq!((access.role(), access.slow_mode_millis), (pb::MemberRole::Unspecified, 0));
    }
    let before = world.access(&[(&room, nobody())]).await.remove(0).membership_version;

    // Whoever may not change it changes nothing.
    world.set_role(ann, &room, bob, pb::MemberRole::Moderator).await.unwrap();
    let too_low = is(Code::PermissionDenied, "ROLE_TOO_LOW");
    assert_eq!(refusal(world.set_public_read(bob, &room, false).await), too_low);
    assert_eq!(refusal(world.set_public_read(cem, &room, false).await), too_low);
    let shut = world.set_public_read(ann, &room, false).await.unwrap();
    assert!(!shut.public_read && shut.membership_version > before);
    for reader in [cem, nobody()] {
        let access = world.access(&[(&room, reader)]).await.remove(0);
        assert_eq!((access.may_read, access.membership_version), (false, shut.membership_version));
    }
    assert!(world.access(&[(&room, bob)]).await[0].may_read);
    world.stop().await;
}

#[tokio::test]
async fn only_rooms_of_everyone_are_opened_to_everyone() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    for kind in [
        pb::ConversationKind::Direct,
        pb::ConversationKind::Group,
        pb::ConversationKind::Discussion,
        pb::ConversationKind::Channel,
    ] {
        let open = pb::CreateConversationRequest { public_read: true, ..draft(kind, &[bob]) };
        let refused = world.client().create_conversation(ann.says(open)).await;
        assert_eq!(refusal(refused), is(Code::InvalidArgument, "INVALID_FIELD"), "{kind:?}");
        let made = world.create(ann, kind, &[bob]).await;
        assert!(!made.public_read);
        let refused = world.set_public_read(ann, &made.conversation_id, true).await;
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "WRONG_KIND"), "{kind:?}");
    }
    let room = world.create(ann, pb::ConversationKind::Room, &[]).await;
    assert!(!room.public_read);
    assert!(world.set_public_read(ann, &room.conversation_id, true).await.unwrap().public_read);
    world.stop().await;
}

#[tokio::test]
async fn the_anonymous_viewer_sees_what_everyone_reads_and_who_answers_for_it() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let room = world.opens_to_everyone(ann).await;
    let closed = world.create(ann, pb::ConversationKind::Group, &[bob]).await.conversation_id;
    let dark = world.create(ann, pb::ConversationKind::Room, &[]).await.conversation_id;
    world.join(bob, &room).await.unwrap();
    let get = async |id: &str| {
        let request = pb::GetConversationRequest { conversation_id: id.to_owned() };
        let answer = world.client().get_conversation(anonymously(request)).await;
        answer.map(|answer| answer.into_inner().conversation.unwrap())
    };
    let seen = get(&room).await.unwrap();
    assert_eq!(
        (seen.member_count, seen.own_role(), seen.public_read),
        (2, pb::MemberRole::Unspecified, true)
    );
    assert_eq!(seen.peer_user_id, "");
    // What is there for those who are signed in is not there for everyone.
    let not_found = is(Code::NotFound, "CONVERSATION_NOT_FOUND");
    let unknown = ConversationId::generate().to_string();
    for id in [&closed, &dark, &unknown] {
        assert_eq!(refusal(get(id).await), not_found, "{id}");
        assert_eq!(refusal(world.members_seen(anonymously, id, pb::MemberRole::Moderator).await), not_found);
        assert_eq!(refusal(world.online_seen(anonymously, id).await), not_found);
    }

    for (at_least, is_shown) in [
        (pb::MemberRole::Unspecified, false),
        (pb::MemberRole::Muted, false),
        (pb::MemberRole::Member, false),
        (pb::MemberRole::Moderator, true),
        (pb::MemberRole::Owner, true),
    ] {
        for seen in [
            world.members_seen(anonymously, &room, at_least).await,
            world.members_seen(|message| cem.says(message), &room, at_least).await,
        ] {
            match is_shown {
                true => assert_eq!(seen.unwrap(), [ann.to_string()], "{at_least:?}"),
                false => assert_eq!(refusal(seen), not_found, "{at_least:?}"),
            }
        }
    }

    let report = pb::ReportPresenceRequest {
        gateway_id: GatewayId::generate().to_string(),
        first: true,
        came_user_ids: vec![bob.to_string(), cem.to_string()],
        left_user_ids: vec![],
    };
    let mut presence = PresenceServiceClient::new(world.transport.clone());
    presence.report_presence(anonymously(report)).await.unwrap();
    assert_eq!(world.online_seen(anonymously, &room).await.unwrap(), [bob.to_string()]);
    assert_eq!(world.online_seen(|message| cem.says(message), &room).await.unwrap(), [bob.to_string()]);
    assert_eq!(world.online_seen(|message| bob.says(message), &closed).await.unwrap(), [bob.to_string()]);
    assert_eq!(refusal(world.online_seen(|message| cem.says(message), &closed).await), not_found);

    world.set_public_read(ann, &room, false).await.unwrap();
    assert_eq!(refusal(get(&room).await), not_found);
    assert_eq!(refusal(world.members_seen(anonymously, &room, pb::MemberRole::Owner).await), not_found);
    assert_eq!(refusal(world.online_seen(anonymously, &room).await), not_found);
    world.stop().await;
}

#[tokio::test]
async fn everything_else_refuses_the_anonymous_viewer() {
    let world = World::start().await;
    let [ann] = world.people();
    let room = world.opens_to_everyone(ann).await;
    let refused = is(Code::PermissionDenied, "NOT_ADMITTED");
    let conversation_id = room.clone();
    let bans = pb::ListBansRequest { conversation_id, ..Default::default() };
    assert_eq!(refusal(world.client().list_bans(anonymously(bans)).await), refused);
    let join = pb::JoinConversationRequest { conversation_id: room.clone() };
    assert_eq!(refusal(world.client().join_conversation(anonymously(join.clone())).await), refused);
    let list = pb::ListConversationsRequest::default();
    assert_eq!(refusal(world.client().list_conversations(anonymously(list)).await), refused);

    // The nil UUID is not a user that anybody acts for, and without a credential there is no viewer.
    let get = pb::GetConversationRequest { conversation_id: room.clone() };
    for name in ["gateway", "messaging"] {
        let request = as_service(get.clone(), &credential(name), Some(nobody()));
        assert_eq!(refusal(world.client().get_conversation(request).await), refused, "{name}");
    }
    let request = as_service(get.clone(), &credential("gateway"), Some(ann));
    assert_eq!(refusal(world.client().get_conversation(request).await), refused);
    let unsigned = world.client().get_conversation(Request::new(get.clone())).await;
    assert_eq!(refusal(unsigned), is(Code::Unauthenticated, "UNAUTHENTICATED"));
    let request = as_service(get, &credential("messaging"), None);
    assert_eq!(refusal(world.client().get_conversation(request).await), refused);
    world.stop().await;
}
