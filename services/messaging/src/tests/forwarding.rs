//! Forwarding: who may, what goes along, and what does not.

use proto::conversation::v1::MemberRole;
use proto::id::MessageId;
use proto::messaging::v1::content::Kind;

use super::*;

fn forwarding(message: &pb::Message, target: ConversationId, key: &str) -> pb::ForwardMessageRequest {
    pb::ForwardMessageRequest {
        conversation_id: message.conversation_id.clone(),
        message_id: message.message_id.clone(),
        target_conversation_id: target.to_string(),
        client_message_id: key.to_owned(),
    }
}

impl World {
    async fn forwards(
        &self,
        by: UserId,
        request: pb::ForwardMessageRequest,
    ) -> Result<pb::ForwardMessageResponse, Status> {
        self.messaging().forward_message(by.says(request)).await.map(tonic::Response::into_inner)
    }

    async fn deletes(&self, by: UserId, message: &pb::Message) {
        let ids = (message.conversation_id.clone(), message.message_id.clone());
        let request = pb::DeleteMessageRequest { conversation_id: ids.0, message_id: ids.1 };
        self.messaging().delete_message(by.says(request)).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_says_where_it_comes_from_and_everybody_there_reads_it() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[bob, eve]));
    let source = world.says(ann, here, "hello").await;
    let answer = world.forwards(bob, forwarding(&source, there, "k")).await.unwrap();
    let copy = answer.message.unwrap();
    assert!(!answer.repeated);
    // Those who read it there need not be in the first conversation.
    let origin = pb::Origin {
        conversation_id: String::new(),
        message_id: source.message_id.clone(),
        sender_id: ann.to_string(),
    };
    assert_eq!((text_of(&copy), &copy.forwarded_from), ("hello", &Some(origin.clone())));
    assert_eq!((copy.sender_id.clone(), copy.conversation_id.clone()), (bob.to_string(), there.to_string()));
    let events = world.events(eve, there, copy.sequence - 1).await.events;
    assert_eq!(events[0].payload, Some(pb::event::Payload::MessageCreated(copy.clone())));

    // On from there it still comes from the first place, and the original is as it was.
    let next = world.group(&[eve]);
    let on = world.forwards(eve, forwarding(&copy, next, "")).await.unwrap().message.unwrap();
    assert_eq!(on.forwarded_from, Some(origin));
    let again = world.forwards(ann, forwarding(&source, here, "")).await.unwrap().message.unwrap();
    assert_eq!((again.version, again.conversation_id), (1, here.to_string()));
    assert_eq!(again.forwarded_from.unwrap().conversation_id, here.to_string());
    for (reader, conversation) in [(eve, there), (eve, next)] {
        let heard = format!("{:?}", world.events(reader, conversation, 0).await);
        assert!(!heard.contains(&here.to_string()), "{heard}");
    }
}

#[tokio::test]
async fn a_copy_is_not_edited_by_new_words_or_another_file() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let source = world.says(ann, here, "hello").await;
    let copy = world.forwards(bob, forwarding(&source, there, "")).await.unwrap().message.unwrap();
    let swapped = world.uploaded(bob, b"another file").await;
    let attachment = pb::Attachment {
        kind: pb::AttachmentKind::Image.into(),
        media: Some(pb::Media { source: Some(pb::media::Source::UploadId(swapped)) }),
        ..Default::default()
    };
    let kind = Some(Kind::Text("hello".to_owned()));
    for content in [content("other words").unwrap(), pb::Content { kind, attachments: vec![attachment] }] {
        let request = pb::EditMessageRequest {
            conversation_id: there.to_string(),
            message_id: copy.message_id.clone(),
            content: Some(content),
            expected_version: 0,
        };
        let outcome = world.messaging().edit_message(bob.says(request)).await;
        assert_eq!(refusal(outcome), refused(Code::FailedPrecondition, "NOT_EDITABLE"));
    }
    assert_eq!(
        world
            .list(bob, pb::ListMessagesRequest { conversation_id: there.to_string(), ..Default::default() })
            .await
            .unwrap()
            .messages,
        [copy]
    );
}

#[tokio::test]
async fn who_does_not_read_here_or_write_there_forwards_nothing() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let source = world.says(ann, here, "hello").await;
    let not_found = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
    assert_eq!(refusal(world.forwards(eve, forwarding(&source, there, "")).await), not_found);
    let hers = world.group(&[eve]);
    assert_eq!(refusal(world.forwards(eve, forwarding(&source, hers, "")).await), not_found);
    assert_eq!(refusal(world.forwards(bob, forwarding(&source, hers, "")).await), not_found);
    world.others.set_role(there, bob, MemberRole::Muted);
    let denied = world.forwards(bob, forwarding(&source, there, "")).await;
    assert_eq!(refusal(denied), refused(Code::PermissionDenied, "WRITE_DENIED"));
    // The message is looked for in the conversation that is named.
    let elsewhere = pb::Message { conversation_id: there.to_string(), ..source.clone() };
    let unknown = pb::Message { message_id: MessageId::generate().to_string(), ..source.clone() };
    for wrong in [elsewhere, unknown] {
        let outcome = world.forwards(ann, forwarding(&wrong, there, "")).await;
        assert_eq!(refusal(outcome), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    }
    world.deletes(ann, &source).await;
    let gone = world.forwards(ann, forwarding(&source, there, "")).await;
    assert_eq!(refusal(gone), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    let malformed = pb::ForwardMessageRequest {
        target_conversation_id: "x".to_owned(),
        ..forwarding(&source, there, "")
    };
    assert_eq!(world.forwards(ann, malformed).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn one_key_makes_one_copy_whatever_becomes_of_the_original() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let (source, other) = (world.says(ann, here, "hello").await, world.says(ann, here, "hello").await);
    let first = world.forwards(bob, forwarding(&source, there, "k")).await.unwrap();
    let reused = refused(Code::AlreadyExists, "CLIENT_MESSAGE_ID_REUSED");
    assert_eq!(refusal(world.forwards(bob, forwarding(&other, there, "k")).await), reused);
    assert_eq!(refusal(world.send(bob, keyed(there, "hello", "k")).await), reused);
    let again = async || {
        let again = world.forwards(bob, forwarding(&source, there, "k")).await.unwrap();
        assert_eq!((again.repeated, &again.message), (true, &first.message));
    };
    again().await;
    world.deletes(ann, &source).await;
    again().await;
    world.others.remove(here, bob);
    again().await;
}

#[tokio::test]
async fn a_copy_ends_when_the_original_does() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = pb::SendMessageRequest { expire_after: lifetime, ..to(here, "soon gone") };
    let source = world.send(ann, request).await.unwrap().message.unwrap();
    world.clock.advance(Duration::from_secs(59));
    let copy = world.forwards(bob, forwarding(&source, there, "k")).await.unwrap().message.unwrap();
    assert_eq!((text_of(&copy), copy.expire_time), ("soon gone", source.expire_time));
    world.clock.advance(Duration::from_secs(1));
    let again = world.forwards(bob, forwarding(&source, there, "k")).await.unwrap();
    assert_eq!((again.repeated, again.message.unwrap().content), (true, None));
    let late = world.forwards(bob, forwarding(&source, there, "")).await;
    assert_eq!(refusal(late), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    assert!(!format!("{:?}", world.events(bob, there, 0).await).contains("soon gone"));
}

#[tokio::test]
async fn what_is_sealed_or_said_by_services_stays_where_it_is() {
    let world = World::start().await;
    let [ann] = world.people();
    let (here, there) = (world.group(&[ann]), world.group(&[ann]));
    let secure =
        pb::SecureContent { ciphertext: vec![1], algorithm: "none".to_owned(), ..Default::default() };
    let call = pb::CallContent {
        call_id: MessageId::generate().to_string(),
        outcome: pb::CallOutcome::Busy.into(),
        ..Default::default()
    };
    let schedule = pb::ScheduleContent {
        schedule_id: MessageId::generate().to_string(),
        start_time: Some(world.clock.now().to_proto()),
        end_time: Some(world.clock.now().plus(Duration::from_secs(1)).to_proto()),
        ..Default::default()
    };
    let system = pb::SystemContent { text: "Ann came in".to_owned() };
    let kinds = [Kind::Secure(secure), Kind::Call(call), Kind::Schedule(schedule), Kind::System(system)];
    for kind in kinds {
        let content = Some(pb::Content { kind: Some(kind), ..Default::default() });
        let request = pb::SendMessageRequest { content, ..to(here, "") };
        let for_ann = Service("scheduling", Some(ann)).says(request);
        let sent = world.messaging().send_message(for_ann).await.unwrap().into_inner().message.unwrap();
        let outcome = world.forwards(ann, forwarding(&sent, there, "")).await;
        assert_eq!(refusal(outcome), refused(Code::FailedPrecondition, "NOT_FORWARDABLE"));
    }
    world.others.set_secure(there);
    let plain = world.says(ann, here, "plain").await;
    let outcome = world.forwards(ann, forwarding(&plain, there, "")).await;
    assert_eq!(refusal(outcome), refused(Code::FailedPrecondition, "SECURE_ONLY"));
}

#[tokio::test]
async fn a_forwarded_poll_begins_anew_and_slow_mode_holds() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let (question, options) = ("Tea?".to_owned(), vec!["yes".to_owned(), "no".to_owned()]);
    let poll = Kind::Poll(pb::PollContent { question, options, ..Default::default() });
    let content = Some(pb::Content { kind: Some(poll), ..Default::default() });
    let request = pb::SendMessageRequest { content, ..to(here, "") };
    let source = world.send(ann, request).await.unwrap().message.unwrap();
    world.others.set_slow_mode(there, Duration::from_secs(5));
    let copy = world.forwards(bob, forwarding(&source, there, "")).await.unwrap().message.unwrap();
    let empty = pb::PollResult { counts: vec![0, 0], voter_count: 0, close_time: None };
    assert_eq!(copy.poll_result, Some(empty));
    let soon = world.forwards(bob, forwarding(&source, there, "")).await;
    assert_eq!(refusal(soon), refused(Code::ResourceExhausted, "SLOW_MODE"));
}
