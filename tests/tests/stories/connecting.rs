//! Who may talk to whom: connections, message requests, blocks.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::person::{array, text};
use tests::waiting::from_now;
use tests::{Person, World};

tests::stories![
    two_people_connect,
    both_ask_at_once_and_are_connected,
    a_request_is_taken_back_and_cannot_be_accepted,
    a_second_request_that_waits_is_refused,
    the_first_message_to_a_careful_person_is_a_request,
    what_is_accepted_opens_the_conversation,
    what_is_rejected_closes_it,
    what_is_cancelled_takes_its_message_along,
    who_is_connected_needs_no_request,
    a_block_beats_everything_and_tells_nobody,
    one_who_is_blocked_reads_what_one_reads_who_asks_and_waits,
    a_block_ends_what_is_under_way,
    strangers_do_not_bring_a_careful_person_into_groups,
    strangers_open_no_empty_conversation_with_a_careful_person,
    who_is_online_is_seen_by_those_who_may,
];

fn connection(other: &Person) -> String {
    format!("/v1/users/{}/connection", other.id)
}

fn request(other: &Person) -> String {
    format!("/v1/users/{}/message-request", other.id)
}

async fn contact(person: &Person, other: &Person) -> Value {
    person.get(&format!("/v1/users/{}/contact", other.id)).await.ok()["contact"].clone()
}

/// Ids of the people somebody is connected with.
async fn connected(person: &Person) -> Vec<String> {
    let listed = person.get("/v1/connections").await.ok();
    array(&listed["connections"]).iter().map(|one| text(&one["userId"])).collect()
}

async fn two_people_connect(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let (mut at_ann, mut at_bob) = (ann.comes_online().await, bob.comes_online().await);
    let asked = ann.post(&connection(&bob), json!({})).await.ok()["request"].clone();
    assert_eq!(
        (&asked["fromUserId"], &asked["toUserId"], &asked["state"]),
        (&json!(ann.id), &json!(bob.id), &json!("REQUEST_STATE_PENDING"))
    );
    let alert = at_bob.expects_alert("REQUEST_PENDING").await;
    assert_eq!((&alert["actorUserId"], &alert["subjectId"]), (&json!(ann.id), &asked["requestId"]));
    assert_eq!(alert["requesterUserId"], json!(ann.id));
    for (person, direction, count) in
        [(&ann, "OUTGOING", 1), (&ann, "INCOMING", 0), (&bob, "INCOMING", 1), (&bob, "OUTGOING", 0)]
    {
        let path = format!("/v1/connections/pending?direction=REQUEST_DIRECTION_{direction}");
        assert_eq!(array(&person.get(&path).await.ok()["requests"]).len(), count, "{direction}");
    }

    let accepted = bob.post(&format!("{}/accept", connection(&ann)), json!({})).await.ok();
    assert_eq!(accepted["request"]["state"], json!("REQUEST_STATE_ACCEPTED"));
    let told = at_ann.expects_alert("REQUEST_ACCEPTED").await;
    assert_eq!((&told["actorUserId"], &told["subjectId"]), (&json!(bob.id), &asked["requestId"]));
    // Ann asked, and Bob answered.
    assert_eq!(told["requesterUserId"], json!(ann.id));
    let requests =
        ann.get("/v1/alerts?kinds=ALERT_KIND_CONNECTION_REQUEST&kinds=ALERT_KIND_REVIEW").await.ok();
    assert_eq!((array(&requests["alerts"]).len(), &requests["unreadCount"]), (1, &json!(1)));
    let reviews = ann.get("/v1/alerts?kinds=ALERT_KIND_REVIEW").await.ok();
    assert_eq!((array(&reviews["alerts"]).len(), &reviews["unreadCount"]), (0, &json!(0)));
    assert_eq!((connected(&ann).await, connected(&bob).await), (vec![bob.id.clone()], vec![ann.id.clone()]));
    // The same alert has changed, and what Bob has answered is nothing new to him.
    let alerts = bob.get("/v1/alerts").await.ok();
    let about: Vec<_> =
        array(&alerts["alerts"]).iter().filter(|one| one["subjectId"] == asked["requestId"]).collect();
    assert_eq!(about.len(), 1, "{alerts}");
    assert_eq!(about[0]["alertId"], alert["alertId"]);

    bob.delete(&connection(&ann)).await.ok();
    assert!(connected(&ann).await.is_empty() && connected(&bob).await.is_empty());
    // Nobody asks oneself.
    let refused = ann.post(&connection(&ann), json!({})).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("user_id"));
    assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn both_ask_at_once_and_are_connected(world: Arc<World>) {
    for _ in 0..4 {
        let [ann, bob] = world.people(["ann", "bob"]).await;
        let asks = [(&ann, &bob), (&bob, &ann)];
        join_all(asks.map(|(one, other)| async move { one.post(&connection(other), json!({})).await.ok() }))
            .await;
        assert_eq!(connected(&ann).await, [bob.id.as_str()]);
        assert_eq!(connected(&bob).await, [ann.id.as_str()]);
        for person in [&ann, &bob] {
            let pending = person.get("/v1/connections/pending").await.ok();
            assert!(array(&pending["requests"]).is_empty(), "{pending}");
        }
    }
}

async fn a_request_is_taken_back_and_cannot_be_accepted(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    ann.post(&connection(&bob), json!({})).await.ok();
    bob.is_alerted("CONNECTION_REQUEST", "REQUEST_PENDING").await;
    let cancelled = ann.post(&format!("{}/cancel", connection(&bob)), json!({})).await.ok();
    assert_eq!(cancelled["request"]["state"], json!("REQUEST_STATE_CANCELLED"));
    bob.is_alerted("CONNECTION_REQUEST", "REQUEST_CANCELLED").await;
    assert_eq!(bob.unread_alerts().await, 0);
    let refused = bob.post(&format!("{}/accept", connection(&ann)), json!({})).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(connected(&bob).await.is_empty());
    // Bob, who says no to the next one, is not asked for ever.
    ann.post(&connection(&bob), json!({})).await.ok();
    bob.post(&format!("{}/reject", connection(&ann)), json!({})).await.ok();
    ann.is_alerted("CONNECTION_REQUEST", "REQUEST_REJECTED").await;
    ann.post(&connection(&bob), json!({})).await.ok();
    ann.post(&format!("{}/cancel", connection(&bob)), json!({})).await.ok();
    let refused = ann.post(&connection(&bob), json!({})).await;
    assert!(refused.retry_after.is_some(), "{refused:?}");
    assert_eq!(refused.refused(429), "ERROR_REASON_RATE_LIMITED");
}

async fn a_second_request_that_waits_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let id = proto::id::EventId::generate().to_string();
    let asked = ann.post(&connection(&bob), json!({ "requestId": id })).await.ok();
    let again = ann.post(&connection(&bob), json!({ "requestId": id })).await.ok();
    assert_eq!(asked["request"]["requestId"], again["request"]["requestId"], "a retry finds the first");
    assert_eq!(ann.post(&connection(&bob), json!({})).await.status, 409);
    bob.is_alerted("CONNECTION_REQUEST", "REQUEST_PENDING").await;
    assert_eq!(bob.unread_alerts().await, 1);
}

/// Ann writes to Bob, who takes strangers after a request only; gives the conversation and the message.
async fn asks_by_message(ann: &Person, bob: &Person) -> (String, Value) {
    let body = json!({ "userId": bob.id, "content": { "text": "may I?" } });
    let sent = ann.post("/v1/messages", body).await.ok()["message"].clone();
    (text(&sent["conversationId"]), sent)
}

async fn the_first_message_to_a_careful_person_is_a_request(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    assert_eq!(contact(&ann, &bob).await["requestNeeded"], json!(true));
    let mut at_bob = bob.comes_online().await;
    let (conversation, sent) = asks_by_message(&ann, &bob).await;
    at_bob.expects_message("may I?").await;
    let alert = bob.is_alerted("MESSAGE_REQUEST", "REQUEST_PENDING").await;
    assert_eq!((&alert["actorUserId"], &alert["conversationId"]), (&json!(ann.id), &json!(conversation)));
    let alert = tests::waiting::until("the alert to show the request's message", || async {
        let alert = bob.is_alerted("MESSAGE_REQUEST", "REQUEST_PENDING").await;
        alert["message"].is_object().then_some(alert)
    })
    .await;
    assert_eq!(alert["message"]["content"]["text"], json!("may I?"));

    // Until Bob answers nothing else goes, in either direction, by any way of sending.
    let refused = ann.tries_to_say(&conversation, "hello?").await;
    assert_eq!(refused.refused(409), "ERROR_REASON_REQUEST_PENDING");
    let body = json!({ "userId": bob.id, "content": { "text": "hello??" } });
    assert_eq!(ann.post("/v1/messages", body).await.refused(409), "ERROR_REASON_REQUEST_PENDING");
    let mut at_ann = ann.connects().await;
    let content = json!({ "text": "hello???" });
    let answer = at_ann
        .command(json!({ "sendMessage": { "conversationId": conversation, "content": content } }))
        .await;
    assert_eq!(answer["error"]["reason"], json!("ERROR_REASON_REQUEST_PENDING"), "{answer}");
    assert_eq!(bob.tries_to_say(&conversation, "yes").await.status, 403);
    assert_eq!(bob.reads(&conversation).await, [Some("may I?".to_owned())]);
    // A retry of the first finds it.
    let shown = bob.get(&tests::person::path_of(&sent)).await.ok();
    assert_eq!(shown["message"]["content"]["text"], json!("may I?"));
    let waiting = bob.get("/v1/message-requests?direction=REQUEST_DIRECTION_INCOMING").await.ok();
    assert_eq!(waiting["requests"][0]["conversationId"], json!(conversation), "{waiting}");
}

async fn what_is_accepted_opens_the_conversation(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    let (conversation, _) = asks_by_message(&ann, &bob).await;
    let mut at_ann = ann.comes_online().await;
    bob.post(&format!("{}/accept", request(&ann)), json!({})).await.ok();
    at_ann.expects_alert("REQUEST_ACCEPTED").await;
    ann.says(&conversation, "thank you").await;
    bob.says(&conversation, "welcome").await;
    ann.says(&conversation, "how are you?").await;
    let request =
        ann.get(&format!("/v1/conversations/{conversation}")).await.ok()["conversation"]["request"].clone();
    assert_eq!(request["state"], json!("REQUEST_STATE_ACCEPTED"));
}

async fn what_is_rejected_closes_it(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    let (conversation, _) = asks_by_message(&ann, &bob).await;
    bob.post(&format!("{}/reject", request(&ann)), json!({})).await.ok();
    ann.is_alerted("MESSAGE_REQUEST", "REQUEST_REJECTED").await;
    // To accept it now is too late.
    assert_eq!(bob.post(&format!("{}/accept", request(&ann)), json!({})).await.status, 409);
    // Ann may ask again, which is another request.
    ann.says(&conversation, "please").await;
    assert_eq!(ann.tries_to_say(&conversation, "please!").await.refused(409), "ERROR_REASON_REQUEST_PENDING");
    bob.post(&format!("{}/accept", request(&ann)), json!({})).await.ok();
    ann.says(&conversation, "at last").await;
}

async fn what_is_cancelled_takes_its_message_along(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    let (conversation, sent) = asks_by_message(&ann, &bob).await;
    bob.is_alerted("MESSAGE_REQUEST", "REQUEST_PENDING").await;
    ann.post(&format!("{}/cancel", request(&bob)), json!({})).await.ok();
    bob.is_alerted("MESSAGE_REQUEST", "REQUEST_CANCELLED").await;
    assert_eq!(bob.unread_alerts().await, 0);
    tests::waiting::until("the request's message to be gone", || async {
        let shown = bob.get(&tests::person::path_of(&sent)).await.ok();
        shown["message"]["content"].is_null().then_some(())
    })
    .await;
    assert_eq!(bob.reads(&conversation).await, [None]);
}

async fn who_is_connected_needs_no_request(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    ann.befriends(&bob).await;
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "one").await;
    ann.says(&conversation, "two").await;
    bob.says(&conversation, "three").await;
    assert_eq!(contact(&ann, &bob).await["connected"], json!(true));

    // A request that waits is answered by the connection.
    let cid = world.person("cid").await;
    let (conversation, _) = asks_by_message(&cid, &bob).await;
    cid.befriends(&bob).await;
    cid.is_alerted("MESSAGE_REQUEST", "REQUEST_ACCEPTED").await;
    cid.says(&conversation, "now").await;
}

async fn a_block_beats_everything_and_tells_nobody(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    ann.befriends(&bob).await;
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "hello").await;
    let before = (ann.get("/v1/alerts").await.ok(), contact(&ann, &bob).await);
    bob.put(&format!("/v1/users/{}/block", ann.id), json!({})).await.ok();
    assert_eq!(ann.tries_to_say(&conversation, "hello?").await.refused(409), "ERROR_REASON_REQUEST_PENDING");
    assert_eq!(bob.tries_to_say(&conversation, "no").await.status, 403);
    assert!(connected(&ann).await.is_empty());
    // What Ann sees is what she would see had Bob just ended the connection.
    let after = contact(&ann, &bob).await;
    assert_ne!(before.1, after);
    assert_ne!(after["blocked"], json!(true));
    assert_eq!(before.0, ann.get("/v1/alerts").await.ok());
    // She may ask, and nobody hears of it.
    ann.post(&connection(&bob), json!({})).await.ok();
    assert_ne!(ann.tries_to_call(&bob).await.status, 200);
    let listed = bob.get("/v1/me/blocks").await.ok();
    assert_eq!(listed["blocks"][0]["userId"], json!(ann.id));
    bob.delete(&format!("/v1/users/{}/block", ann.id)).await.ok();
    // What came meanwhile is not delivered afterwards; what comes now is.
    ann.says(&conversation, "friends again?").await;
    let alerts = bob.get("/v1/alerts").await.ok();
    let pending = |alert: &&Value| alert["state"] == json!("ALERT_STATE_REQUEST_PENDING");
    assert_eq!(array(&alerts["alerts"]).iter().filter(pending).count(), 0, "{alerts}");
}

/// The status and the reason of an answer.
fn outcome(answer: &tests::http::Answer) -> (u16, String) {
    (answer.status, answer.body["reason"].as_str().unwrap_or_default().to_owned())
}

/// The outcome of everything that a person tries with another, in a direct conversation that is there, with a message of
/// each in it.
async fn tries_everything(
    person: &Person,
    other: &Person,
    conversation: &str,
    theirs: &Value,
) -> Vec<(&'static str, (u16, String))> {
    let hour = std::time::Duration::from_secs(3600);
    let (start, end) = (from_now(hour * 40), from_now(hour * 41));
    let text = json!({ "content": { "text": "hello?" } });
    let later = json!({ "content": { "text": "hello?" }, "sendTime": start });
    let to_user = json!({ "content": { "text": "hello?" }, "userId": other.id });
    let booking = json!({
        "title": "a talk", "media": "SCHEDULE_MEDIA_AUDIO", "startTime": start, "endTime": end,
    });
    let group = json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "join us", "userIds": [other.id] });
    let own_group = person.starts_group_with(&[]).await;
    let direct = json!({ "kind": "CONVERSATION_KIND_DIRECT", "userIds": [other.id] });
    let path = |rest: &str| format!("/v1/conversations/{conversation}/{rest}");
    let reaction = format!("{}/reactions/%F0%9F%91%8D", tests::person::path_of(theirs));
    let slots = format!("/v1/users/{}/free-slots?startTime={start}&endTime={end}", other.id);
    let members = format!("/v1/conversations/{own_group}/members");
    vec![
        ("send", outcome(&person.post(&path("messages"), text.clone()).await)),
        ("send to the user", outcome(&person.post("/v1/messages", to_user).await)),
        (
            "check",
            outcome(
                &person
                    .post(&path("messages"), json!({ "content": text["content"], "validateOnly": true }))
                    .await,
            ),
        ),
        ("schedule", outcome(&person.post(&path("scheduled-messages"), later).await)),
        ("react", outcome(&person.put(&reaction, json!({})).await)),
        ("call", outcome(&person.tries_to_call(other).await)),
        ("book", outcome(&person.post(&format!("/v1/users/{}/schedules", other.id), booking).await)),
        ("free slots", outcome(&person.get(&slots).await)),
        ("found a group", outcome(&person.post("/v1/conversations", group).await)),
        ("add to a group", outcome(&person.post(&members, json!({ "userIds": [other.id] })).await)),
        ("open the conversation", outcome(&person.post("/v1/conversations", direct).await)),
        ("read", outcome(&person.get(&path("messages")).await)),
        ("contact", outcome(&person.get(&format!("/v1/users/{}/contact", other.id)).await)),
        ("profile", outcome(&person.get(&format!("/v1/users/{}", other.id)).await)),
        ("presence", outcome(&person.post("/v1/presence", json!({ "userIds": [other.id] })).await)),
    ]
}

async fn one_who_is_blocked_reads_what_one_reads_who_asks_and_waits(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    // Both have written to Bob, and he to them, before he became careful.
    ann.befriends(&bob).await;
    cid.befriends(&bob).await;
    let (at_ann, at_cid) = (ann.starts_direct_with(&bob).await, cid.starts_direct_with(&bob).await);
    let (to_ann, to_cid) = (bob.says(&at_ann, "hello").await, bob.says(&at_cid, "hello").await);
    bob.takes_strangers_after_a_request().await;
    bob.put(&format!("/v1/users/{}/block", ann.id), json!({})).await.ok();
    bob.put(&format!("/v1/users/{}/block", cid.id), json!({})).await.ok();
    bob.delete(&format!("/v1/users/{}/block", cid.id)).await.ok();

    // Before either has asked both are told that they have to.
    let needs = |contact: &Value| contact["requestNeeded"] == json!(true);
    assert!(needs(&contact(&ann, &bob).await) && needs(&contact(&cid, &bob).await));
    cid.says(&at_cid, "may I?").await;
    ann.tries_to_say(&at_ann, "may I?").await;
    let of_blocked = tries_everything(&ann, &bob, &at_ann, &to_ann).await;
    let of_waiting = tries_everything(&cid, &bob, &at_cid, &to_cid).await;
    assert_eq!(of_blocked, of_waiting);
    let (blocked, waiting) = (contact(&ann, &bob).await, contact(&cid, &bob).await);
    for contact in [&blocked, &waiting] {
        assert!(!needs(contact) && contact["blocked"] != json!(true));
        assert_eq!(contact["messageRequest"]["state"], json!("REQUEST_STATE_PENDING"));
    }
    // Of the one who is blocked nothing has arrived.
    assert_eq!(bob.reads(&at_ann).await, [Some("hello".to_owned())]);
    let requests = bob.get("/v1/message-requests?direction=REQUEST_DIRECTION_INCOMING").await.ok();
    let from: Vec<_> =
        array(&requests["requests"]).iter().map(|request| request["fromUserId"].clone()).collect();
    assert_eq!(from, [json!(cid.id)]);
}

async fn a_block_ends_what_is_under_way(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let hour = std::time::Duration::from_secs(3600);
    let booking = json!({
        "title": "a talk", "media": "SCHEDULE_MEDIA_AUDIO",
        "startTime": from_now(hour * 40), "endTime": from_now(hour * 41),
    });
    let booked = ann.post(&format!("/v1/users/{}/schedules", bob.id), booking).await.ok()["schedule"].clone();
    bob.is_alerted("SCHEDULE", "SCHEDULE_MADE").await;
    let alerts = array(&ann.get("/v1/alerts").await.ok()["alerts"]).len();
    let mut at_ann = ann.comes_online().await;
    let call = ann.calls(&bob).await;
    bob.does_with_call(&call, "accept").await;
    bob.put(&format!("/v1/users/{}/block", ann.id), json!({})).await.ok();
    assert_eq!(at_ann.expects_call("ENDED").await["callId"], call["callId"]);
    let path = format!("/v1/schedules/{}", text(&booked["scheduleId"]));
    tests::waiting::until("the booking to be cancelled", || async {
        let now = ann.get(&path).await.ok()["schedule"].clone();
        (now["state"] == json!("SCHEDULE_STATE_CANCELLED")).then_some(())
    })
    .await;
    assert_eq!(array(&ann.get("/v1/alerts").await.ok()["alerts"]).len(), alerts, "nobody is told");
}

async fn strangers_open_no_empty_conversation_with_a_careful_person(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    let body = json!({ "kind": "CONVERSATION_KIND_DIRECT", "userIds": [bob.id] });
    assert_eq!(
        ann.post("/v1/conversations", body.clone()).await.refused(409),
        "ERROR_REASON_CONTACT_NOT_ACCEPTED"
    );
    let listed = bob.get("/v1/conversations").await.ok();
    assert!(array(&listed["conversations"]).is_empty(), "{listed}");
    asks_by_message(&ann, &bob).await;
    // What is there is found.
    ann.post("/v1/conversations", body).await.ok();
}

async fn strangers_do_not_bring_a_careful_person_into_groups(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    bob.takes_strangers_after_a_request().await;
    let body = json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "join us", "userIds": [bob.id, cid.id] });
    assert_eq!(ann.post("/v1/conversations", body).await.refused(409), "ERROR_REASON_CONTACT_NOT_ACCEPTED");
    let group = ann.starts_group_with(&[&cid]).await;
    let add = json!({ "userIds": [bob.id] });
    let members = format!("/v1/conversations/{group}/members");
    assert_eq!(ann.post(&members, add.clone()).await.refused(409), "ERROR_REASON_CONTACT_NOT_ACCEPTED");
    ann.befriends(&bob).await;
    ann.post(&members, add).await.ok();
    assert_eq!(bob.get(&format!("/v1/conversations/{group}")).await.status, 200);
}

async fn who_is_online_is_seen_by_those_who_may(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let seen = async |who: &Person| {
        let answer = who.post("/v1/presence", json!({ "userIds": [bob.id] })).await.ok();
        answer["presences"][0].clone()
    };
    assert_ne!(seen(&ann).await["online"], json!(true));
    let at_bob = bob.comes_online().await;
    tests::waiting::until("Bob to be seen online", || async {
        (seen(&ann).await["online"] == json!(true)).then_some(())
    })
    .await;
    // Only for those whom Bob lets see it.
    let privacy = json!({ "presence": "PRESENCE_VISIBILITY_CONNECTIONS" });
    bob.patch("/v1/me/privacy", json!({ "privacy": privacy, "updateMask": "presence" })).await.ok();
    cid.befriends(&bob).await;
    assert_ne!(seen(&ann).await["online"], json!(true));
    assert_eq!(seen(&cid).await["online"], json!(true));
    at_bob.disconnects().await;
    tests::waiting::until("Bob to be seen offline", || async {
        let seen = seen(&cid).await;
        (seen["online"] != json!(true) && seen["lastSeenTime"].is_string()).then_some(())
    })
    .await;
    assert!(seen(&ann).await["lastSeenTime"].is_null());
}
