//! gRPC as internal callers and people with grpcurl use it.

use std::sync::Arc;

use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::{IntrospectRequest, LoginRequest};
use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::messaging::v1::stream_events_response::Update;
use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::{
    Content, Head, SendMessageRequest, StreamEventsRequest, content, event, send_message_request,
};
use tests::World;
use tests::person::PASSWORD;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

tests::stories![
    a_session_by_grpc_from_login_to_a_received_message,
    a_stream_begins_with_what_was_missed,
    a_stream_after_a_sequence_that_the_log_does_not_have_is_refused,
    what_is_for_services_is_refused_to_others,
    metadata_that_claims_an_identity_is_ignored,
    a_request_beyond_a_mebibyte_is_refused,
];

async fn channel(world: &World, service: &str) -> Channel {
    Channel::from_shared(format!("http://{}", world.grpc(service)))
        .expect("an address")
        .connect()
        .await
        .expect("a channel")
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request
}

fn text_to(conversation: &str, words: &str) -> SendMessageRequest {
    SendMessageRequest {
        target: Some(send_message_request::Target::ConversationId(conversation.to_owned())),
        content: Some(Content { kind: Some(content::Kind::Text(words.to_owned())), ..Default::default() }),
        ..SendMessageRequest::default()
    }
}

async fn a_session_by_grpc_from_login_to_a_received_message(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let login = LoginRequest {
        login: ann.username.clone(),
        password: PASSWORD.to_owned(),
        device_name: String::new(),
    };
    let answer = AuthServiceClient::new(channel(&world, "auth").await)
        .login(login)
        .await
        .expect("signed in")
        .into_inner();
    let token = answer.grant.expect("a grant").session_token;

    let mut sync = SyncServiceClient::new(channel(&world, "messaging").await);
    let mut updates = sync
        .stream_events(with_token(StreamEventsRequest::default(), &token))
        .await
        .expect("a stream")
        .into_inner();
    loop {
        let update =
            tests::waiting::within("an update", updates.next()).await.expect("open").expect("an update");
        if matches!(update.update, Some(Update::CaughtUp(_))) {
            break;
        }
    }
    bob.says(&conversation, "over the web").await;
    let mut messaging = MessagingServiceClient::new(channel(&world, "messaging").await);
    messaging.send_message(with_token(text_to(&conversation, "over gRPC"), &token)).await.expect("sent");

    for expected in ["over the web", "over gRPC"] {
        assert_eq!(next_text(&mut updates).await, expected);
    }
}

async fn next_text(updates: &mut tonic::Streaming<proto::messaging::v1::StreamEventsResponse>) -> String {
    loop {
        let update =
            tests::waiting::within("an event", updates.next()).await.expect("open").expect("an update");
        let Some(Update::Event(happened)) = update.update else { continue };
        let Some(event::Payload::MessageCreated(message)) = happened.payload else { continue };
        if let Some(content::Kind::Text(words)) = message.content.and_then(|content| content.kind) {
            return words;
        }
    }
}

async fn a_stream_after_a_sequence_that_the_log_does_not_have_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "one").await;
    let mut sync = SyncServiceClient::new(channel(&world, "messaging").await);
    let mut open = async |sequence: i64| {
        let heads = vec![Head { conversation_id: conversation.clone(), sequence }];
        sync.stream_events(with_token(StreamEventsRequest { heads }, &bob.token)).await
    };
    let refused = open(1_000).await.expect_err("refused");
    let info = refused.get_details_error_info().expect("details");
    assert_eq!(
        (refused.code(), info.reason.as_str()),
        (Code::OutOfRange, "ERROR_REASON_HEAD_BEYOND_LOG"),
        "{refused:?}"
    );
    let head: i64 = info.metadata["head_sequence"].parse().expect("a sequence");
    assert!((1..1_000).contains(&head), "{info:?}");
    open(head).await.expect("a stream from the head on");
}

async fn a_stream_begins_with_what_was_missed(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    for n in 0..5 {
        ann.says(&conversation, &n.to_string()).await;
    }
    let mut sync = SyncServiceClient::new(channel(&world, "messaging").await);
    let heads = vec![Head { conversation_id: conversation.clone(), sequence: 0 }];
    let mut updates = sync
        .stream_events(with_token(StreamEventsRequest { heads }, &bob.token))
        .await
        .expect("a stream")
        .into_inner();
    for n in 0..5 {
        assert_eq!(next_text(&mut updates).await, n.to_string());
    }
    ann.says(&conversation, "live").await;
    assert_eq!(next_text(&mut updates).await, "live");

    let foreign =
        vec![Head { conversation_id: proto::id::ConversationId::generate().to_string(), sequence: 0 }];
    let refused = sync.stream_events(with_token(StreamEventsRequest { heads: foreign }, &bob.token)).await;
    let code = match refused {
        Err(status) => status.code(),
        Ok(stream) => stream.into_inner().next().await.expect("an end").expect_err("refused").code(),
    };
    assert_eq!(code, Code::NotFound);
}

async fn what_is_for_services_is_refused_to_others(world: Arc<World>) {
    let ann = world.person("ann").await;
    let mut auth = AuthServiceClient::new(channel(&world, "auth").await);
    let message = IntrospectRequest { session_token: ann.token.clone() };
    let anonymous = auth.introspect(message.clone()).await.expect_err("refused");
    assert_eq!(anonymous.code(), Code::Unauthenticated);
    let user = auth.introspect(with_token(message.clone(), &ann.token)).await.expect_err("refused");
    assert_eq!(user.code(), Code::PermissionDenied);
    let mut guess = Request::new(message);
    guess.metadata_mut().insert("authorization", "Service messaging:guess".parse().expect("a header"));
    assert_eq!(auth.introspect(guess).await.expect_err("refused").code(), Code::Unauthenticated);
}

async fn metadata_that_claims_an_identity_is_ignored(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut messaging = MessagingServiceClient::new(channel(&world, "messaging").await);
    let mut forged = with_token(text_to(&conversation, "as ann"), &eve.token);
    for key in ["x-user-id", "x-parlor-on-behalf-of"] {
        forged.metadata_mut().insert(key, ann.id.parse().expect("a header"));
    }
    assert_eq!(messaging.send_message(forged).await.expect_err("refused").code(), Code::NotFound);
    assert!(ann.reads(&conversation).await.is_empty());
}

/// A request of every kind that holds more bytes than any service takes.
async fn a_request_beyond_a_mebibyte_is_refused(world: Arc<World>) {
    let ann = world.person("ann").await;
    let mut refused = 0;
    for service in proto::pool().services() {
        let package = service.full_name().split('.').nth(1).unwrap_or_default().to_owned();
        let is_served = ["auth", "conversation", "messaging", "scheduling"].contains(&package.as_str());
        // The policy is served by the operator, and asked by messaging.
        if !is_served || service.name() == "MessagePolicyService" {
            continue;
        }
        let channel = channel(&world, &package).await;
        for method in service.methods().filter(|method| !method.is_client_streaming()) {
            let path = format!("/{}/{}", service.full_name(), method.name()).parse().expect("a path");
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.expect("a channel that is ready");
            let codec = tonic_prost::ProstCodec::<Vec<u8>, Vec<u8>>::default();
            let large = with_token(vec![0; (1 << 20) + 16], &ann.token);
            let answer = client.unary(large, path, codec).await.expect_err("refused");
            match answer.code() {
                Code::OutOfRange | Code::ResourceExhausted => refused += 1,
                // It is for services only.
                code => assert_eq!(code, Code::PermissionDenied, "{}: {answer}", method.full_name()),
            }
        }
    }
    assert!(refused > 100, "{refused}");
}
