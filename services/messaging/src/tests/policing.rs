//! The operator's policy: a real service on a port of its own, and what becomes of messages by its word or without it.

use std::sync::{Arc, Mutex};

use proto::conversation::v1::MemberRole;
use proto::messaging::v1::check_message_response::Verdict;
use proto::messaging::v1::message_policy_service_server::{MessagePolicyService, MessagePolicyServiceServer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Response;

use super::kinds::of_services;
use super::*;
use crate::policy::{OnFailure, PolicyConfig};

/// Has a say. Cloning gives the same.
#[derive(Clone, Default)]
struct Judge {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mood: Mood,
    asked: Vec<pb::CheckMessageRequest>,
}

/// What it says to everything.
#[derive(Clone, Default)]
enum Mood {
    #[default]
    Allows,
    Refuses(&'static str),
    Replaces(pb::Content),
    SaysNothing,
    Thinks,
    Breaks,
}

#[tonic::async_trait]
impl MessagePolicyService for Judge {
    async fn check_message(
        &self,
        request: Request<pb::CheckMessageRequest>,
    ) -> Result<Response<pb::CheckMessageResponse>, Status> {
        let mood = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(request.into_inner());
            state.mood.clone()
        };
        let verdict = match mood {
            Mood::Allows => Some(Verdict::Allow(pb::Allow {})),
            Mood::Refuses(reason) => Some(Verdict::Refuse(pb::Refuse { reason: reason.to_owned() })),
            Mood::Replaces(content) => Some(Verdict::Replace(content)),
            Mood::SaysNothing => None,
            Mood::Thinks => std::future::pending().await,
            Mood::Breaks => return Err(Status::unknown("oh")),
        };
        Ok(Response::new(pb::CheckMessageResponse { verdict }))
    }
}

impl Judge {
    /// Takes its seat.
    async fn start() -> (Self, String, JoinSet<()>) {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn at(listener: TcpListener) -> (Self, String, JoinSet<()>) {
        let judge = Self::default();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = MessagePolicyServiceServer::new(judge.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        (judge, url, serving)
    }

    fn is(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// What it was asked since the last time.
    fn asked(&self) -> Vec<pb::CheckMessageRequest> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

/// A world whose messages pass somebody at this address.
async fn policed(url: &str, on_failure: OnFailure) -> World {
    let timeout = match on_failure {
        // The machine may be slow, and here the answer counts.
        OnFailure::Refuse => Duration::from_secs(2),
        OnFailure::Allow => Duration::from_millis(200),
    };
    let policy = PolicyConfig { url: url.to_owned(), timeout, on_failure, tls: None };
    World::with(Config { policy: Some(policy), ..Config::default() }).await
}

fn edit(message: &pb::Message, says: &str) -> pb::EditMessageRequest {
    pb::EditMessageRequest {
        conversation_id: message.conversation_id.clone(),
        message_id: message.message_id.clone(),
        content: content(says),
        expected_version: 0,
    }
}

impl World {
    async fn revises(&self, by: UserId, request: pb::EditMessageRequest) -> Result<pb::Message, Status> {
        let response = self.messaging().edit_message(by.says(request)).await;
        response.map(|response| response.into_inner().message.unwrap())
    }

    /// The texts of a conversation, oldest first.
    async fn texts(&self, by: UserId, conversation: ConversationId) -> Vec<String> {
        let request = pb::ListMessagesRequest {
            conversation_id: conversation.to_string(),
            order: pb::Order::OldestFirst.into(),
            ..Default::default()
        };
        let messages = self.list(by, request).await.unwrap().messages;
        messages.iter().map(|message| text_of(message).to_owned()).collect()
    }
}

#[tokio::test]
async fn the_policy_is_asked_about_what_is_sent_edited_and_checked() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Refuse).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let message = world.says(ann, group, "one").await;
    let expected = pb::CheckMessageRequest {
        conversation_id: group.to_string(),
        sender_id: ann.to_string(),
        content: content("one"),
        ..Default::default()
    };
    assert_eq!(judge.asked(), std::slice::from_ref(&expected));
    world.revises(ann, edit(&message, "two")).await.unwrap();
    let edited =
        pb::CheckMessageRequest { message_id: message.message_id, content: content("two"), ..expected };
    assert_eq!(judge.asked(), [edited]);
    world.send(ann, checked(to(group, "three"))).await.unwrap();
    assert_eq!(judge.asked().len(), 1);
    assert_eq!(world.texts(bob, group).await, ["two"]);
}

#[tokio::test]
async fn what_is_refused_is_not_sent_and_the_sender_hears_why() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Allow).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let message = world.send(ann, keyed(group, "one", "k")).await.unwrap().message.unwrap();
    judge.is(Mood::Refuses("no\nadverts"));
    let denied = refused(Code::PermissionDenied, "MESSAGE_REFUSED");
    let status = world.send(ann, to(group, "two")).await.unwrap_err();
    assert_eq!(Fault::of(&status).metadata().get("policy_reason").map(String::as_str), Some("noadverts"));
    assert_eq!(refusal(Err::<(), _>(status)), denied);
    assert_eq!(refusal(world.send(ann, checked(to(group, "two"))).await), denied);
    assert_eq!(refusal(world.revises(ann, edit(&message, "two")).await), denied);
    judge.is(Mood::Refuses(""));
    let status = world.send(ann, to(group, "two")).await.unwrap_err();
    assert_eq!(Fault::of(&status).metadata().get("policy_reason"), None);
    assert_eq!(world.texts(ann, group).await, ["one"]);
    // What was sent before stays sent: a retry hears so.
    let again = world.send(ann, keyed(group, "one", "k")).await.unwrap();
    assert!(again.repeated && again.message.unwrap().message_id == message.message_id);
    let other = world.send(ann, keyed(group, "two", "k")).await;
    assert_eq!(refusal(other), denied);
}

#[tokio::test]
async fn what_is_said_instead_is_what_everybody_reads() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Refuse).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    judge.is(Mood::Replaces(content("e\u{301}").unwrap()));
    let first = world.send(ann, keyed(group, "rude", "k")).await.unwrap().message.unwrap();
    assert_eq!(text_of(&first), "é");
    // The key belongs to what was asked for, whatever the policy makes of it by now.
    judge.is(Mood::Replaces(content("other").unwrap()));
    let again = world.send(ann, keyed(group, "rude", "k")).await.unwrap();
    assert!(again.repeated);
    assert_eq!(again.message.unwrap(), first);
    let reused = world.send(ann, keyed(group, "é", "k")).await;
    assert_eq!(refusal(reused), refused(Code::AlreadyExists, "CLIENT_MESSAGE_ID_REUSED"));
    let edited = world.revises(ann, edit(&first, "ruder")).await.unwrap();
    assert_eq!((text_of(&edited), edited.version), ("other", 2));
    let again = world.revises(ann, edit(&first, "ruder")).await.unwrap();
    assert_eq!(again.version, 2, "the same edit again is no other one");
    assert_eq!(world.texts(bob, group).await, ["other"]);
}

#[tokio::test]
async fn the_policy_hears_only_what_could_be_sent() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Refuse).await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let message = world.says(ann, group, "one").await;
    judge.asked();
    world.others.set_role(group, bob, MemberRole::Muted);
    assert_eq!(
        refusal(world.send(bob, to(group, "x")).await),
        refused(Code::PermissionDenied, "WRITE_DENIED")
    );
    let nowhere = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
    assert_eq!(refusal(world.send(eve, to(group, "x")).await), nowhere);
    assert_eq!(refusal(world.revises(eve, edit(&message, "x")).await), nowhere);
    let not_hers = world.revises(bob, edit(&message, "x")).await;
    assert_eq!(refusal(not_hers), refused(Code::PermissionDenied, "NOT_AUTHOR"));
    assert_eq!(judge.asked(), []);
    // What services write in their own words is not asked about.
    for (_, kind) in of_services(&world.clock) {
        let content = Some(pb::Content { kind: Some(kind), ..Default::default() });
        let request = pb::SendMessageRequest { content, ..to(group, "") };
        world.messaging().send_message(Service("scheduling", Some(ann)).says(request)).await.unwrap();
    }
    assert_eq!(judge.asked(), []);
    // What a person has sent by a service is.
    let scheduled = Service("scheduling", Some(ann)).says(to(group, "later"));
    world.messaging().send_message(scheduled).await.unwrap();
    assert_eq!(judge.asked().len(), 1);
}

#[tokio::test]
async fn a_copy_is_asked_about_as_one_and_what_is_said_instead_has_no_old_marks() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Refuse).await;
    let [ann, bob] = world.people();
    let (here, there) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let options = vec!["a".to_owned(), "b".to_owned()];
    let poll = pb::PollContent { question: "which?".to_owned(), options, ..Default::default() };
    let poll = Some(pb::Content { kind: Some(pb::content::Kind::Poll(poll)), ..Default::default() });
    let source = world.send(ann, pb::SendMessageRequest { content: poll.clone(), ..to(here, "") }).await;
    let source = source.unwrap().message.unwrap();
    judge.asked();
    let forward = async || {
        let request = pb::ForwardMessageRequest {
            conversation_id: here.to_string(),
            message_id: source.message_id.clone(),
            target_conversation_id: there.to_string(),
            ..Default::default()
        };
        world.messaging().forward_message(bob.says(request)).await.map(Response::into_inner)
    };
    assert!(forward().await.unwrap().message.unwrap().poll_result.is_some());
    let asked = judge.asked();
    assert_eq!((asked.len(), asked[0].forwarded, &asked[0].content), (1, true, &poll));
    assert_eq!(asked[0].conversation_id, there.to_string());
    judge.is(Mood::Replaces(content("no polls here").unwrap()));
    let copy = forward().await.unwrap().message.unwrap();
    assert_eq!((text_of(&copy), copy.poll_result.as_ref()), ("no polls here", None));
    assert_eq!(copy.forwarded_from, None, "the policy's words are not those of the origin");
    judge.is(Mood::Refuses("no copies"));
    assert_eq!(refusal(forward().await), refused(Code::PermissionDenied, "MESSAGE_REFUSED"));
}

#[tokio::test]
async fn a_replacement_passes_the_checks_of_what_it_replaces() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Refuse).await;
    let [ann] = world.people();
    let bob = world.others.register_as("bob");
    let group = world.group(&[ann, bob]);
    let message = world.says(ann, group, "one").await;
    judge.is(Mood::Replaces(content("hello @bob").unwrap()));
    let sent = world.send(ann, to(group, "x")).await.unwrap().message.unwrap();
    assert_eq!(sent.mentioned_user_ids, [bob.to_string()]);
    let card = pb::content::Kind::Profile(pb::ProfileContent { user_id: UserId::generate().to_string() });
    judge.is(Mood::Replaces(pb::Content { kind: Some(card), ..Default::default() }));
    let unavailable = refused(Code::Unavailable, "POLICY_UNAVAILABLE");
    assert_eq!(refusal(world.send(ann, to(group, "x")).await), unavailable, "a card of nobody");
    let link = pb::LinkContent { url: "https://a.example/".to_owned(), ..Default::default() };
    let link = pb::Content { kind: Some(pb::content::Kind::Link(link)), ..Default::default() };
    judge.is(Mood::Replaces(link));
    let edited = world.revises(ann, edit(&message, "two")).await;
    assert_eq!(refusal(edited), unavailable, "a text does not become a link");
}

#[tokio::test]
async fn a_secure_message_is_announced_without_what_it_says_and_never_replaced() {
    let (judge, url, _serving) = Judge::start().await;
    let world = policed(&url, OnFailure::Refuse).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let secure =
        pb::SecureContent { ciphertext: vec![7; 40], algorithm: "x".to_owned(), ..Default::default() };
    let kind = Some(pb::content::Kind::Secure(secure));
    let content_of = Some(pb::Content { kind, ..Default::default() });
    let request = pb::SendMessageRequest { content: content_of, ..to(group, "") };
    let request = pb::SendMessageRequest { client_message_id: "k".to_owned(), ..request };
    world.send(ann, request.clone()).await.unwrap();
    let asked = judge.asked();
    assert_eq!((asked.len(), asked[0].content.is_none()), (1, true));
    judge.is(Mood::Replaces(content("x").unwrap()));
    let request = pb::SendMessageRequest { client_message_id: "l".to_owned(), ..request };
    let replaced = world.send(ann, request).await;
    assert_eq!(refusal(replaced), refused(Code::Unavailable, "POLICY_UNAVAILABLE"));
}

#[tokio::test]
async fn without_a_word_that_makes_sense_nothing_is_sent_or_everything_as_it_is() {
    let (judge, url, _serving) = Judge::start().await;
    let (closed, open) = (policed(&url, OnFailure::Refuse).await, policed(&url, OnFailure::Allow).await);
    let unavailable = refused(Code::Unavailable, "POLICY_UNAVAILABLE");
    let too_long = content(&"x".repeat(17_000)).unwrap();
    for mood in [Mood::SaysNothing, Mood::Breaks, Mood::Replaces(too_long), Mood::Thinks] {
        for world in [&closed, &open] {
            judge.is(Mood::Allows);
            let [ann] = world.people();
            let group = world.group(&[ann]);
            // The first call also connects, which a slow machine may not do in time.
            eventually(async || world.send(ann, to(group, "one")).await.is_ok() && !judge.asked().is_empty())
                .await;
            let message = world.says(ann, group, "one").await;
            judge.is(mood.clone());
            let sent = world.send(ann, to(group, "two")).await;
            let edited = world.revises(ann, edit(&message, "three")).await;
            if std::ptr::eq(world, &closed) {
                assert_eq!(refusal(sent), unavailable);
                assert_eq!(refusal(edited), unavailable);
            } else {
                assert_eq!(text_of(&sent.unwrap().message.unwrap()), "two");
                assert_eq!(text_of(&edited.unwrap()), "three");
            }
        }
    }
}

#[tokio::test]
async fn a_policy_that_is_away_or_is_none_counts_as_no_word() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // Answers whatever it hears with something that is not HTTP/2.
    let babbler = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let babbling = babbler.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((stream, _)) = babbler.accept().await {
            let _ = stream.writable().await;
            let _ = stream.try_write(&[0xff; 64]);
        }
    });
    for address in [nobody, babbling] {
        for on_failure in [OnFailure::Refuse, OnFailure::Allow] {
            let world = policed(&format!("http://{address}"), on_failure).await;
            let [ann] = world.people();
            let group = world.group(&[ann]);
            let sent = world.send(ann, to(group, "x")).await;
            match on_failure {
                OnFailure::Refuse => {
                    assert_eq!(refusal(sent), refused(Code::Unavailable, "POLICY_UNAVAILABLE"));
                }
                OnFailure::Allow => assert_eq!(text_of(&sent.unwrap().message.unwrap()), "x"),
            }
        }
    }
}

#[tokio::test]
async fn a_policy_that_comes_late_is_heard() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = policed(&format!("http://{address}"), OnFailure::Refuse).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let early = world.send(ann, to(group, "one")).await;
    assert_eq!(refusal(early), refused(Code::Unavailable, "POLICY_UNAVAILABLE"));
    let (judge, _, _serving) = Judge::at(TcpListener::bind(address).await.unwrap());
    eventually(async || world.send(ann, to(group, "two")).await.is_ok()).await;
    assert!(!judge.asked().is_empty());
}
