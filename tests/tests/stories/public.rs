//! Rooms that everyone reads, bans that end, and who is there.

use std::sync::Arc;

use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::{Head, StreamEventsRequest};
use reqwest::Method;
use serde_json::json;
use tests::person::{array, text};
use tests::waiting::{until, within};
use tests::{Person, World, http};
use tokio_stream::StreamExt;
use tonic::Request;

tests::stories![
    everyone_reads_a_public_room_until_its_owner_closes_it,
    who_watches_a_room_that_closes_gets_nothing_more,
    who_is_not_signed_in_is_refused_over_the_web,
    a_ban_for_a_while_ends_by_itself,
    those_who_are_there_are_listed,
    a_contact_leads_to_the_conversation,
    connections_are_found_by_a_name,
];

async fn opens_public_room(owner: &Person) -> String {
    let body = json!({ "kind": "CONVERSATION_KIND_ROOM", "title": "the square", "publicRead": true });
    let made = owner.post("/v1/conversations", body).await.ok();
    assert_eq!(made["conversation"]["publicRead"], json!(true));
    text(&made["conversation"]["conversationId"])
}

async fn closes(owner: &Person, room: &str) {
    let changes = json!({ "conversation": { "publicRead": false }, "updateMask": "publicRead" });
    owner.patch(&format!("/v1/conversations/{room}"), changes).await.ok();
}

async fn everyone_reads_a_public_room_until_its_owner_closes_it(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let room = opens_public_room(&ann).await;
    let path = format!("/v1/conversations/{room}");
    ann.says(&room, "welcome").await;
    assert_eq!(bob.reads(&room).await, [Some("welcome".to_owned())]);
    // Reading is not being in.
    assert_eq!(bob.tries_to_say(&room, "hi").await.refused(403), "ERROR_REASON_WRITE_DENIED");
    assert_eq!(bob.get(&format!("{path}/members")).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
    let moderators = bob.get(&format!("{path}/members?atLeast=MEMBER_ROLE_MODERATOR")).await.ok();
    let moderators: Vec<_> = array(&moderators["members"]).iter().map(|one| one["userId"].clone()).collect();
    assert_eq!(moderators, [json!(ann.id)]);

    // Whoever is banned does not write there, and reads like everyone.
    eve.post(&format!("{path}/join"), json!({})).await.ok();
    ann.put(&format!("{path}/bans/{}", eve.id), json!({ "reason": "spam" })).await.ok();
    assert_eq!(eve.reads(&room).await, [Some("welcome".to_owned())]);
    assert_eq!(eve.tries_to_say(&room, "but").await.refused(403), "ERROR_REASON_WRITE_DENIED");

    let changes = json!({ "conversation": { "publicRead": false }, "updateMask": "publicRead" });
    assert_eq!(bob.patch(&path, changes).await.refused(403), "ERROR_REASON_ROLE_TOO_LOW");
    closes(&ann, &room).await;
    for outside in [&bob, &eve] {
        let refused = outside.get(&format!("{path}/messages")).await;
        assert_eq!(refused.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
    }
    let group = json!({ "kind": "CONVERSATION_KIND_GROUP", "publicRead": true });
    assert_eq!(ann.post("/v1/conversations", group).await.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn who_watches_a_room_that_closes_gets_nothing_more(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = opens_public_room(&ann).await;
    ann.says(&room, "before").await;
    // Bob is not in. A list of what one is in leaves the room out, so that he names it.
    let heads = vec![Head { conversation_id: room.clone(), sequence: 0 }];
    let mut request = Request::new(StreamEventsRequest { heads });
    let bearer = format!("Bearer {}", bob.token).parse().expect("a header");
    request.metadata_mut().insert("authorization", bearer);
    let messaging = format!("http://{}", world.grpc("messaging"));
    let mut sync = SyncServiceClient::connect(messaging).await.expect("a channel");
    let mut watched = sync.stream_events(request).await.expect("a stream").into_inner();
    let mut next = async || within("an update", watched.next()).await.expect("open").expect("an update");
    for (says, expected) in [(None, "before"), (Some("for all"), "for all")] {
        if let Some(words) = says {
            ann.says(&room, words).await;
        }
        while !format!("{:?}", next().await).contains(expected) {}
    }

    closes(&ann, &room).await;
    ann.says(&room, "among us").await;
    // Whatever comes to Bob until he is told of another conversation, it is not the message.
    let elsewhere = ann.starts_direct_with(&bob).await;
    loop {
        let update = format!("{:?}", next().await);
        assert!(!update.contains("among us"), "{update}");
        if update.contains("ConversationGained") && update.contains(&elsewhere) {
            break;
        }
    }
}

async fn who_is_not_signed_in_is_refused_over_the_web(world: Arc<World>) {
    let ann = world.person("ann").await;
    let room = opens_public_room(&ann).await;
    ann.says(&room, "welcome").await;
    let client = reqwest::Client::new();
    for path in ["", "/members?atLeast=MEMBER_ROLE_MODERATOR", "/online-members", "/messages"] {
        let path = format!("/v1/conversations/{room}{path}");
        let refused = http::ask(&client, world.gateway(), None, Method::GET, &path, None).await;
        assert_eq!(refused.refused(401), "ERROR_REASON_UNAUTHENTICATED", "{path}");
    }
}

async fn a_ban_for_a_while_ends_by_itself(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = ann.opens_room("the lobby").await;
    let path = format!("/v1/conversations/{room}");
    let join = format!("{path}/join");
    bob.post(&join, json!({})).await.ok();
    let ban = format!("{path}/bans/{}", bob.id);
    for duration in ["0s", "315360001s"] {
        let refused = ann.put(&ban, json!({ "duration": duration })).await;
        assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
    }
    ann.put(&ban, json!({ "reason": "spam" })).await.ok();
    let refused = bob.post(&join, json!({})).await;
    assert_eq!(refused.body["metadata"].get("expire_time"), None);
    assert_eq!(refused.refused(403), "ERROR_REASON_BANNED");
    // The last word counts.
    let longer = ann.put(&ban, json!({ "reason": "cool down", "duration": "3600s" })).await.ok();
    let end = text(&longer["ban"]["expireTime"]);
    let refused = bob.post(&join, json!({})).await;
    assert_eq!(refused.body["metadata"]["expire_time"], json!(end));
    assert_eq!(refused.refused(403), "ERROR_REASON_BANNED");
    ann.put(&ban, json!({ "reason": "that will do", "duration": "1s" })).await.ok();
    until("the ban to end", || async { (bob.post(&join, json!({})).await.status == 200).then_some(()) })
        .await;
    bob.says(&room, "back again").await;
    assert_eq!(array(&ann.get(&format!("{path}/bans")).await.ok()["bans"]).len(), 0);
}

async fn those_who_are_there_are_listed(world: Arc<World>) {
    let [ann, bob, cid, eve] = world.people(["ann", "bob", "cid", "eve"]).await;
    let room = opens_public_room(&ann).await;
    for person in [&bob, &cid] {
        person.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    }
    let path = format!("/v1/conversations/{room}/online-members");
    let _bobs_screen = bob.comes_online().await;
    let _eves_screen = eve.comes_online().await;
    // One who only reads sees it, and is not listed.
    for reader in [&ann, &eve] {
        until("bob to be there", || async {
            let there = reader.get(&path).await.ok();
            let there: Vec<_> = array(&there["members"]).iter().map(|one| text(&one["userId"])).collect();
            (there == [bob.id.clone()]).then_some(())
        })
        .await;
    }
    let hidden = json!({ "privacy": { "presence": "PRESENCE_VISIBILITY_NOBODY" }, "updateMask": "presence" });
    bob.patch("/v1/me/privacy", hidden).await.ok();
    assert_eq!(array(&ann.get(&path).await.ok()["members"]).len(), 0);
    closes(&ann, &room).await;
    assert_eq!(eve.get(&path).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
}

async fn a_contact_leads_to_the_conversation(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let contact = format!("/v1/users/{}/contact", bob.id);
    let before = ann.get(&contact).await.ok();
    assert_eq!(before["contact"]["conversationId"].as_str().unwrap_or_default(), "");
    let direct = bob.starts_direct_with(&ann).await;
    assert_eq!(ann.get(&contact).await.ok()["contact"]["conversationId"], json!(direct));
}

async fn connections_are_found_by_a_name(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "Bob Bright", "Cid"]).await;
    for other in [&bob, &cid] {
        ann.befriends(other).await;
    }
    let list = async |query: &str| {
        let page = ann.get(&format!("/v1/connections?{query}")).await.ok();
        let found: Vec<_> = array(&page["connections"]).iter().map(|one| text(&one["userId"])).collect();
        (found, page["totalCount"].clone())
    };
    assert_eq!(list("pageSize=1").await, (vec![cid.id.clone()], json!(2)));
    assert_eq!(list("keyword=bRIGHT").await, (vec![bob.id.clone()], json!(1)));
    assert_eq!(list("keyword=nobody").await.0, Vec::<String>::new());

    let eve = world.person("eve").await;
    eve.post(&format!("/v1/users/{}/connection", ann.id), json!({})).await.ok();
    let pending = ann.get("/v1/connections/pending?direction=REQUEST_DIRECTION_INCOMING").await.ok();
    assert_eq!(pending["totalCount"], json!(1));
}
