//! Streams over gRPC: they end with their session, and a user has a bounded number of them.

use std::sync::Arc;

use proto::messaging::v1::stream_events_response::Update;
use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::{StreamEventsRequest, StreamEventsResponse, content, event};
use proto::scheduling::v1::call_service_client::CallServiceClient;
use proto::scheduling::v1::{StreamCallsRequest, StreamCallsResponse};
use serde_json::json;
use tests::person::{PASSWORD, array, text};
use tests::waiting::within;
use tests::{Person, World};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

tests::stories![
    a_stream_ends_when_its_user_logs_out,
    a_stream_ends_when_its_session_is_revoked,
    a_stream_ends_when_the_password_is_changed_elsewhere,
    a_stream_ends_when_the_account_is_deleted,
    a_user_has_a_bounded_number_of_streams,
];

async fn channel(world: &World, service: &str) -> Channel {
    let address = format!("http://{}", world.grpc(service));
    Channel::from_shared(address).expect("an address").connect().await.expect("a channel")
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request
}

/// The streams of a session, both of which have begun.
struct Streams {
    events: Streaming<StreamEventsResponse>,
    calls: Streaming<StreamCallsResponse>,
}

impl Streams {
    async fn open(world: &World, token: &str) -> Self {
        let mut sync = SyncServiceClient::new(channel(world, "messaging").await);
        let asked = with_token(StreamEventsRequest::default(), token);
        let mut events = sync.stream_events(asked).await.expect("a stream").into_inner();
        while !matches!(next(&mut events).await.expect("an update").update, Some(Update::CaughtUp(_))) {}
        let mut client = CallServiceClient::new(channel(world, "scheduling").await);
        let asked = with_token(StreamCallsRequest {}, token);
        let mut calls = client.stream_calls(asked).await.expect("a stream").into_inner();
        next(&mut calls).await.expect("the active call, or none");
        Self { events, calls }
    }

    /// The texts of the messages that come until the stream of events ends, and the number of notices that come until
    /// the stream of calls ends. Both end because the session has ended.
    async fn end(mut self) -> (Vec<String>, usize) {
        let (mut texts, mut notices) = (Vec::new(), 0);
        let ends = [
            loop {
                match next(&mut self.events).await {
                    Ok(update) => texts.extend(text_of(update)),
                    Err(status) => break status,
                }
            },
            loop {
                match next(&mut self.calls).await {
                    Ok(_) => notices += 1,
                    Err(status) => break status,
                }
            },
        ];
        for end in ends {
            assert_eq!(
                (end.code(), reason(&end).as_str()),
                (Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED")
            );
        }
        (texts, notices)
    }
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    within("an update or an end", stream.message()).await.map(|update| update.expect("an end with a status"))
}

fn text_of(update: StreamEventsResponse) -> Option<String> {
    let Some(Update::Event(happened)) = update.update else { return None };
    let Some(event::Payload::MessageCreated(message)) = happened.payload else { return None };
    match message.content?.kind? {
        content::Kind::Text(words) => Some(words),
        _ => None,
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

async fn logs_in(person: &Person, device: &str) -> Person {
    let login = json!({ "login": person.username, "password": PASSWORD, "deviceName": device });
    person.with_token(&text(&person.post("/v1/auth/login", login).await.ok()["grant"]["sessionToken"]))
}

/// Bob has streams open on a phone and on a tablet; `ends` ends the session of the phone, and is given the tablet.
async fn nothing_comes_after<E>(world: &World, ends: E, tablet_goes_on: bool)
where
    E: AsyncFnOnce(&Person, &Person),
{
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let (phone, tablet) = (logs_in(&bob, "phone").await, logs_in(&bob, "tablet").await);
    let phones = Streams::open(world, &phone.token).await;
    let mut tablets = Streams::open(world, &tablet.token).await;
    ends(&phone, &tablet).await;
    // The end is acknowledged.
    ann.says(&conversation, "after").await;
    ann.tries_to_call(&bob).await;
    assert_eq!(phones.end().await, (Vec::new(), 0));
    if tablet_goes_on {
        loop {
            let update = next(&mut tablets.events).await.expect("the stream of the other session goes on");
            if text_of(update).is_some_and(|text| text == "after") {
                break;
            }
        }
        next(&mut tablets.calls).await.expect("the stream of the other session goes on");
    } else {
        assert_eq!(tablets.end().await, (Vec::new(), 0));
    }
}

async fn a_stream_ends_when_its_user_logs_out(world: Arc<World>) {
    let ends = async |phone: &Person, _: &Person| {
        phone.post("/v1/auth/logout", json!({})).await.ok();
    };
    nothing_comes_after(&world, ends, true).await;
}

async fn a_stream_ends_when_its_session_is_revoked(world: Arc<World>) {
    let ends = async |_: &Person, tablet: &Person| {
        let sessions = tablet.get("/v1/sessions").await.ok();
        let is_phone = |session: &&serde_json::Value| session["deviceName"] == json!("phone");
        let phone = array(&sessions["sessions"]).iter().find(is_phone).expect("the phone");
        tablet.delete(&format!("/v1/sessions/{}", text(&phone["sessionId"]))).await.ok();
    };
    nothing_comes_after(&world, ends, true).await;
}

async fn a_stream_ends_when_the_password_is_changed_elsewhere(world: Arc<World>) {
    let ends = async |_: &Person, tablet: &Person| {
        let change = json!({ "oldPassword": PASSWORD, "newPassword": "an entirely new one" });
        tablet.post("/v1/me/password", change).await.ok();
    };
    nothing_comes_after(&world, ends, true).await;
}

async fn a_stream_ends_when_the_account_is_deleted(world: Arc<World>) {
    let ends = async |_: &Person, tablet: &Person| {
        tablet.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    };
    nothing_comes_after(&world, ends, false).await;
}

async fn a_user_has_a_bounded_number_of_streams(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let mut sync = SyncServiceClient::new(channel(&world, "messaging").await);
    let mut open = Vec::new();
    let refused = loop {
        match sync.stream_events(with_token(StreamEventsRequest::default(), &ann.token)).await {
            Ok(stream) => open.push(stream.into_inner()),
            Err(status) => break status,
        }
        assert!(open.len() <= 10, "{} streams are open", open.len());
    };
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "ERROR_REASON_TOO_MANY_STREAMS")
    );
    assert_eq!(open.len(), 10);
    // Others have their own, and every other service counts its own.
    sync.stream_events(with_token(StreamEventsRequest::default(), &bob.token)).await.expect("a stream");
    let mut calls = CallServiceClient::new(channel(&world, "scheduling").await);
    calls.stream_calls(with_token(StreamCallsRequest {}, &ann.token)).await.expect("a stream");
    drop(open);
    tests::waiting::until("a place for another stream", || {
        let (mut sync, asked) = (sync.clone(), with_token(StreamEventsRequest::default(), &ann.token));
        async move { sync.stream_events(asked).await.ok() }
    })
    .await;
}
