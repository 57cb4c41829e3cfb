//! Calls that never lie: each state is the same for both, on every device, live and afterwards.

use std::sync::Arc;

use futures_util::future::join;
use serde_json::{Value, json};
use tests::person::{array, number, text};
use tests::{Person, World};

tests::stories![
    a_call_is_answered_and_ended,
    one_device_answers,
    a_call_is_rejected_or_given_up,
    who_is_in_a_call_is_busy,
    both_call_at_once_and_meet,
    one_who_signs_out_is_in_no_call,
    signals_go_to_the_other_unchanged,
    a_call_is_nobody_elses,
    who_was_away_finds_the_call_in_the_history,
    a_call_to_one_who_is_offline_is_missed_at_once,
    calls_are_found_by_the_name_of_the_other,
    a_call_between_strangers_takes_what_a_message_takes,
    an_internal_caller_follows_calls_by_grpc,
];

/// The calls of somebody that are not over.
async fn active(person: &Person) -> Vec<Value> {
    array(&person.get("/v1/calls?active=true").await.ok()["calls"]).to_vec()
}

async fn a_call_is_answered_and_ended(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let (mut at_ann, mut at_bob) = (ann.comes_online().await, bob.comes_online().await);
    let call = ann.calls(&bob).await;
    assert_eq!(
        (&call["state"], &call["conversationId"]),
        (&json!("CALL_STATE_RINGING"), &json!(conversation))
    );
    let ringing = at_bob.expects_call("RINGING").await;
    assert_eq!((&ringing["callId"], &ringing["callerUserId"]), (&call["callId"], &json!(ann.id)));
    assert_eq!(active(&bob).await[0]["callId"], call["callId"]);

    bob.does_with_call(&call, "accept").await;
    assert_eq!(at_ann.expects_call("ACCEPTED").await["callId"], call["callId"]);
    for person in [&ann, &bob] {
        person.does_with_call(&call, "connected").await;
    }
    let ended = ann.does_with_call(&call, "end").await;
    assert_eq!((&ended["state"], &ended["endedByUserId"]), (&json!("CALL_STATE_ENDED"), &json!(ann.id)));
    let seen = at_bob.expects_call("ENDED").await;
    assert_eq!((&seen["version"], &seen["duration"]), (&ended["version"], &ended["duration"]));
    assert!(active(&ann).await.is_empty() && active(&bob).await.is_empty());

    // It stands in the conversation, once, and everything repeated changes nothing.
    assert_eq!(bob.does_with_call(&call, "end").await["version"], ended["version"]);
    let said = at_bob.next_event("messageCreated").await["messageCreated"].clone();
    assert_eq!(said["content"]["call"]["callId"], call["callId"], "{said}");
    let page = ann.get(&format!("/v1/conversations/{conversation}/messages")).await.ok();
    assert_eq!(array(&page["messages"]).len(), 1, "{page}");
}

async fn one_device_answers(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let tablet = bob.on_another_device().await;
    let mut at_tablet = tablet.comes_online().await;
    let call = ann.calls(&bob).await;
    at_tablet.expects_call("RINGING").await;
    let (one, two) =
        join(bob.tries_with_call(&call, "accept"), tablet.tries_with_call(&call, "accept")).await;
    let accepted = [&one, &two].iter().filter(|answer| answer.status == 200).count();
    assert_eq!(accepted, 1, "{one:?} {two:?}");
    let (winner, loser, refused) =
        if one.status == 200 { (&bob, &tablet, two) } else { (&tablet, &bob, one) };
    assert_eq!(refused.refused(409), "ERROR_REASON_CALL_ANSWERED_ELSEWHERE");
    at_tablet.expects_call("ACCEPTED").await;
    // The device that has it may say so again; the other does not take part.
    winner.does_with_call(&call, "accept").await;
    assert_ne!(loser.tries_with_call(&call, "connected").await.status, 200);
    winner.does_with_call(&call, "end").await;
}

async fn a_call_is_rejected_or_given_up(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let mut at_ann = ann.comes_online().await;
    let call = ann.calls(&bob).await;
    bob.does_with_call(&call, "reject").await;
    at_ann.expects_call("REJECTED").await;
    assert_eq!(bob.tries_with_call(&call, "accept").await.refused(409), "ERROR_REASON_CALL_OVER");

    let mut at_bob = bob.comes_online().await;
    let call = ann.calls(&bob).await;
    at_bob.expects_call("RINGING").await;
    assert_eq!(ann.does_with_call(&call, "end").await["state"], json!("CALL_STATE_CANCELLED"));
    at_bob.expects_call("CANCELLED").await;
    let refused = bob.tries_with_call(&call, "accept").await;
    assert_eq!(refused.body["metadata"]["state"], json!("CALL_STATE_CANCELLED"), "{}", refused.body);
    assert_eq!(refused.refused(409), "ERROR_REASON_CALL_OVER");
}

async fn who_is_in_a_call_is_busy(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let call = ann.calls(&bob).await;
    bob.does_with_call(&call, "accept").await;
    assert_eq!(cid.calls(&bob).await["state"], json!("CALL_STATE_BUSY"));
    bob.does_with_call(&call, "end").await;
    assert_eq!(cid.calls(&bob).await["state"], json!("CALL_STATE_RINGING"));
}

async fn both_call_at_once_and_meet(world: Arc<World>) {
    for _ in 0..4 {
        let [ann, bob] = world.people(["ann", "bob"]).await;
        ann.starts_direct_with(&bob).await;
        let (one, two) = join(ann.calls(&bob), bob.calls(&ann)).await;
        assert_eq!(one["callId"], two["callId"], "{one} {two}");
        let call = active(&ann).await;
        assert_eq!((call.len(), &call[0]["state"]), (1, &json!("CALL_STATE_ACCEPTED")));
        ann.does_with_call(&one, "end").await;
    }
}

async fn one_who_signs_out_is_in_no_call(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let (mut at_bob, mut at_cid) = (bob.comes_online().await, cid.comes_online().await);
    let tablet = ann.on_another_device().await;
    let call = ann.calls(&bob).await;
    bob.does_with_call(&call, "accept").await;
    ann.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(at_bob.expects_call("ENDED").await["callId"], call["callId"]);
    assert!(active(&bob).await.is_empty() && active(&tablet).await.is_empty());
    // Neither is busy, and one who rings and signs out rings no more.
    let call = tablet.calls(&cid).await;
    assert_eq!(at_cid.expects_call("RINGING").await["callId"], call["callId"]);
    tablet.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(at_cid.expects_call("CANCELLED").await["callId"], call["callId"]);
}

async fn signals_go_to_the_other_unchanged(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let tablet = bob.on_another_device().await;
    let mut at_ann = ann.comes_online().await;
    let (mut at_bob, mut at_tablet) = (bob.comes_online().await, tablet.comes_online().await);
    let call = ann.calls(&bob).await;
    at_bob.expects_call("RINGING").await;
    bob.does_with_call(&call, "accept").await;
    at_ann.expects_call("ACCEPTED").await;
    at_tablet.expects_call("ACCEPTED").await;

    let path = format!("/v1/calls/{}/signals", text(&call["callId"]));
    let offer = "{\"type\":\"offer\",\"sdp\":\"v=0\\r\\no=- 1 \u{1F600}\"}";
    ann.post(&path, json!({ "payload": offer })).await.ok();
    let signal = at_bob.next_of("callSignal").await;
    assert_eq!((&signal["payload"], &signal["fromUserId"]), (&json!(offer), &json!(ann.id)));
    bob.post(&path, json!({ "payload": "an answer" })).await.ok();
    assert_eq!(at_ann.next_of("callSignal").await["payload"], json!("an answer"));

    // The device that did not answer hears none of it: the next thing it hears is the end.
    ann.does_with_call(&call, "end").await;
    loop {
        let push = at_tablet.next().await;
        assert!(push.get("callSignal").is_none(), "{push}");
        if push["callChanged"]["call"]["state"] == json!("CALL_STATE_ENDED") {
            break;
        }
    }
    assert_eq!(ann.post(&path, json!({ "payload": "late" })).await.refused(409), "ERROR_REASON_CALL_OVER");
}

async fn a_call_is_nobody_elses(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let call = ann.calls(&bob).await;
    let path = format!("/v1/calls/{}", text(&call["callId"]));
    assert_eq!(cid.get(&path).await.refused(404), "ERROR_REASON_CALL_NOT_FOUND");
    for what in ["accept", "reject", "end", "connected", "disconnected"] {
        assert_eq!(
            cid.tries_with_call(&call, what).await.refused(404),
            "ERROR_REASON_CALL_NOT_FOUND",
            "{what}"
        );
    }
    let signal = cid.post(&format!("{path}/signals"), json!({ "payload": "psst" })).await;
    assert_eq!(signal.refused(404), "ERROR_REASON_CALL_NOT_FOUND");
    let now = bob.get(&path).await.ok()["call"].clone();
    assert_eq!(
        (&now["state"], &now["version"]),
        (&json!("CALL_STATE_RINGING"), &call["version"]),
        "nothing changed"
    );
    // Nobody calls oneself.
    let refused = ann.tries_to_call(&ann).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("user_id"));
    assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn who_was_away_finds_the_call_in_the_history(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut at_bob = bob.comes_online().await;
    ann.says(&conversation, "I will call you").await;
    at_bob.expects_message("I will call you").await;
    let place = at_bob.disconnects().await;
    let call = ann.calls(&bob).await;
    ann.does_with_call(&call, "end").await;
    let mut at_bob = bob.connects().await;
    at_bob.resumes(place).await;
    let said = at_bob.next_event("messageCreated").await;
    assert_eq!(
        (&said["conversationId"], &said["messageCreated"]["content"]["call"]["callId"]),
        (&json!(conversation), &call["callId"])
    );
    let listed = bob.get("/v1/calls").await.ok();
    assert_eq!(
        (&listed["calls"][0]["callId"], &listed["calls"][0]["state"]),
        (&call["callId"], &json!("CALL_STATE_CANCELLED"))
    );
    // Page by page it is the same.
    for _ in 0..2 {
        let call = bob.calls(&ann).await;
        bob.does_with_call(&call, "end").await;
    }
    let first = bob.get("/v1/calls?pageSize=2").await.ok();
    let token = text(&first["nextPageToken"]);
    let second = bob.get(&format!("/v1/calls?pageSize=2&pageToken={token}")).await.ok();
    assert_eq!((array(&first["calls"]).len(), array(&second["calls"]).len()), (2, 1));
    assert_eq!(second["calls"][0]["callId"], call["callId"]);
}

async fn a_call_to_one_who_is_offline_is_missed_at_once(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut at_ann = ann.comes_online().await;
    let presence = ann.post("/v1/presence", json!({ "userIds": [bob.id] })).await.ok();
    assert_ne!(presence["presences"][0]["online"], json!(true), "{presence}");
    let request = json!({ "userId": bob.id, "media": "CALL_MEDIA_VIDEO", "calleeOffline": true });
    let call = ann.post("/v1/calls", request).await.ok()["call"].clone();
    assert_eq!(call["state"], json!("CALL_STATE_MISSED"));
    let told = at_ann.next_of("callChanged").await["call"].clone();
    assert_eq!((&told["callId"], &told["state"]), (&call["callId"], &json!("CALL_STATE_MISSED")));
    assert!(active(&ann).await.is_empty() && active(&bob).await.is_empty());

    // Bob comes back to a missed call, in the list and in the conversation, and to nothing that rings.
    let missed = bob.get("/v1/calls?missed=true").await.ok();
    assert_eq!(array(&missed["calls"]).len(), 1, "{missed}");
    assert_eq!(missed["calls"][0]["callId"], call["callId"]);
    let said = at_ann.next_event("messageCreated").await;
    assert_eq!(said["conversationId"], json!(conversation));
    let content = &said["messageCreated"]["content"]["call"];
    assert_eq!((&content["callId"], &content["outcome"]), (&call["callId"], &json!("CALL_OUTCOME_MISSED")));
    assert_eq!(bob.tries_with_call(&call, "accept").await.refused(409), "ERROR_REASON_CALL_OVER");
}

async fn calls_are_found_by_the_name_of_the_other(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    for (person, name) in [(&bob, "Bob Berg"), (&cid, "Cid Byrne")] {
        let request = json!({ "user": { "displayName": name }, "updateMask": "displayName" });
        person.patch("/v1/me", request).await.ok();
    }
    let to_bob = ann.calls(&bob).await;
    ann.does_with_call(&to_bob, "end").await;
    let from_cid = cid.calls(&ann).await;
    cid.does_with_call(&from_cid, "end").await;
    let found = async |query: &str| {
        let listed = ann.get(&format!("/v1/calls?{query}")).await.ok();
        array(&listed["calls"]).iter().map(|call| text(&call["callId"]).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("keyword=BERG").await, [text(&to_bob["callId"])]);
    // Names to sign in with count too.
    assert_eq!(found(&format!("keyword={}", cid.username)).await, [text(&from_cid["callId"])]);
    assert!(found("keyword=dee").await.is_empty());
    let long = ann.get(&format!("/v1/calls?keyword={}", "x".repeat(65))).await;
    assert_eq!(long.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn a_call_between_strangers_takes_what_a_message_takes(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    assert_eq!(ann.tries_to_call(&bob).await.refused(409), "ERROR_REASON_CONTACT_NOT_ACCEPTED");
    assert!(active(&bob).await.is_empty());
    ann.befriends(&bob).await;
    assert_eq!(ann.calls(&bob).await["state"], json!("CALL_STATE_RINGING"));
}

async fn an_internal_caller_follows_calls_by_grpc(world: Arc<World>) {
    use proto::scheduling::v1 as pb;
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let address = format!("http://{}", world.grpc("scheduling"));
    let mut calls = pb::call_service_client::CallServiceClient::connect(address).await.expect("scheduling");
    let mut request = tonic::Request::new(pb::StreamCallsRequest {});
    let token = format!("Bearer {}", bob.token).parse().expect("a header");
    request.metadata_mut().insert("authorization", token);
    let mut stream = calls.stream_calls(request).await.expect("a stream").into_inner();
    let call = ann.calls(&bob).await;
    // The first word is how it stands, which may be that there is none.
    let told = loop {
        let update =
            tests::waiting::within("the call", stream.message()).await.expect("an update").expect("one");
        let Some(pb::stream_calls_response::Update::CallChanged(notice)) = update.update else {
            panic!("no change of a call: {update:?}")
        };
        if let Some(told) = notice.call {
            break told;
        }
    };
    assert_eq!((json!(told.call_id), told.state()), (call["callId"].clone(), pb::CallState::Ringing));
    assert_eq!(told.version, number(&call["version"]));
}
