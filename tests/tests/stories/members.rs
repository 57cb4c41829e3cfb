//! Who is in: roles, rooms, removal that holds at once.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{PASSWORD, array, number, text};
use tests::waiting::until;

tests::stories![
    anyone_may_join_a_room_by_its_id,
    a_banned_user_stays_out,
    a_removed_member_receives_nothing_more,
    a_retry_after_the_removal_finds_what_was_sent,
    a_muted_member_reads_and_does_not_write,
    slow_mode_makes_members_wait_and_moderators_not,
    the_last_owner_hands_over_first,
    a_room_that_lost_its_owner_is_not_a_newcomers,
    membership_changes_are_part_of_the_log,
    a_direct_conversation_is_one_per_pair,
    members_come_in_pages,
    a_conversation_is_deleted_for_everybody,
    only_those_who_may_change_a_conversation,
];

async fn anyone_may_join_a_room_by_its_id(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = ann.opens_room("the lobby").await;
    let seen = bob.get(&format!("/v1/conversations/{room}")).await.ok();
    assert_eq!(seen["conversation"]["title"], json!("the lobby"));
    // Seeing that it is there is not reading what is in it.
    assert!(bob.get(&format!("/v1/conversations/{room}/messages")).await.status >= 400);
    bob.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    bob.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    bob.says(&room, "hi").await;
    assert_eq!(ann.reads(&room).await, [Some("hi".to_owned())]);

    let group = ann.starts_group_with(&[]).await;
    let refused = bob.post(&format!("/v1/conversations/{group}/join"), json!({})).await;
    assert_eq!(refused.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
}

async fn a_banned_user_stays_out(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = ann.opens_room("the lobby").await;
    let join = format!("/v1/conversations/{room}/join");
    let ban = format!("/v1/conversations/{room}/bans/{}", bob.id);
    bob.post(&join, json!({})).await.ok();
    ann.put(&ban, json!({ "reason": "spam" })).await.ok();

    assert!(bob.tries_to_say(&room, "but").await.status >= 400);
    assert_eq!(bob.post(&join, json!({})).await.refused(403), "ERROR_REASON_BANNED");
    let members = format!("/v1/conversations/{room}/members");
    let refused = ann.post(&members, json!({ "userIds": [bob.id] })).await;
    assert_eq!(refused.refused(409), "ERROR_REASON_USER_BANNED");
    let bans = ann.get(&format!("/v1/conversations/{room}/bans")).await.ok();
    assert_eq!(array(&bans["bans"])[0]["reason"], json!("spam"));

    ann.delete(&ban).await.ok();
    bob.post(&join, json!({})).await.ok();
    bob.says(&room, "thanks").await;
}

async fn a_removed_member_receives_nothing_more(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let mut bobs_screen = bob.comes_online().await;
    let mut cids_screen = cid.comes_online().await;
    ann.says(&conversation, "all three").await;
    bobs_screen.expects_message("all three").await;

    ann.delete(&format!("/v1/conversations/{conversation}/members/{}", bob.id)).await.ok();
    ann.says(&conversation, "without bob").await;
    cids_screen.expects_message("without bob").await;

    // Bob's next frames: his removal, perhaps, and what he is sent elsewhere; never the message.
    let elsewhere = ann.starts_direct_with(&bob).await;
    loop {
        let frame = bobs_screen.next().await;
        assert!(!frame.to_string().contains("without bob"), "{frame}");
        if frame["userEvent"]["conversationGained"]["conversationId"] == json!(elsewhere) {
            break;
        }
    }
    assert_eq!(
        bob.get(&format!("/v1/conversations/{conversation}/messages")).await.refused(404),
        "ERROR_REASON_CONVERSATION_NOT_FOUND"
    );
}

async fn a_retry_after_the_removal_finds_what_was_sent(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let body = json!({ "content": { "text": "in time" }, "clientMessageId": "k" });
    let first = bob.post(&path, body.clone()).await.ok();
    ann.delete(&format!("/v1/conversations/{conversation}/members/{}", bob.id)).await.ok();
    // The first answer may have been lost on its way: the second must not say that nothing was sent.
    assert_eq!(bob.post(&path, body).await.ok()["message"], first["message"]);
    let other = json!({ "content": { "text": "too late" }, "clientMessageId": "l" });
    assert_eq!(bob.post(&path, other).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
}

async fn a_muted_member_reads_and_does_not_write(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let role = format!("/v1/conversations/{conversation}/members/{}/role", bob.id);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MUTED" })).await.ok();
    assert_eq!(bob.tries_to_say(&conversation, "hm").await.refused(403), "ERROR_REASON_WRITE_DENIED");
    ann.says(&conversation, "listen").await;
    assert_eq!(bob.reads(&conversation).await, [Some("listen".to_owned())]);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MEMBER" })).await.ok();
    bob.says(&conversation, "thanks").await;
}

async fn slow_mode_makes_members_wait_and_moderators_not(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let changes = json!({ "conversation": { "slowMode": "60s" }, "updateMask": "slowMode" });
    ann.patch(&format!("/v1/conversations/{conversation}"), changes).await.ok();
    bob.says(&conversation, "first").await;
    let refused = bob.tries_to_say(&conversation, "second").await;
    assert!(refused.body.get("retryAfter").is_some(), "{}", refused.body);
    assert_eq!(refused.refused(429), "ERROR_REASON_SLOW_MODE");
    ann.says(&conversation, "one").await;
    ann.says(&conversation, "two").await;
}

async fn the_last_owner_hands_over_first(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let leave = format!("/v1/conversations/{conversation}/leave");
    assert_eq!(ann.post(&leave, json!({})).await.refused(409), "ERROR_REASON_LAST_OWNER");
    ann.post(&format!("/v1/conversations/{conversation}/owner"), json!({ "userId": bob.id })).await.ok();
    ann.post(&leave, json!({})).await.ok();
    // The last member may always go.
    bob.post(&leave, json!({})).await.ok();
}

async fn a_room_that_lost_its_owner_is_not_a_newcomers(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let (left, moderated) = (ann.opens_room("left alone").await, ann.opens_room("moderated").await);
    for person in [&bob, &cid] {
        person.post(&format!("/v1/conversations/{moderated}/join"), json!({})).await.ok();
    }
    let role = format!("/v1/conversations/{moderated}/members/{}/role", cid.id);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MODERATOR" })).await.ok();
    ann.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    for (room, members) in [(&left, 0), (&moderated, 2)] {
        until("the room to lose its owner", || async {
            let seen = bob.get(&format!("/v1/conversations/{room}")).await.ok();
            (number(&seen["conversation"]["memberCount"]) == members).then_some(())
        })
        .await;
    }

    let joined = bob.post(&format!("/v1/conversations/{left}/join"), json!({})).await.ok();
    assert_eq!(joined["conversation"]["ownRole"], json!("MEMBER_ROLE_MEMBER"));
    let purged = bob.post(&format!("/v1/conversations/{left}/purge"), json!({})).await;
    assert_eq!(purged.status, 403, "{}", purged.body);
    assert_eq!(
        bob.delete(&format!("/v1/conversations/{left}")).await.refused(403),
        "ERROR_REASON_ROLE_TOO_LOW"
    );
    // With a moderator in it the room has an owner: not the one who came first.
    let members =
        bob.get(&format!("/v1/conversations/{moderated}/members?atLeast=MEMBER_ROLE_OWNER")).await.ok();
    assert_eq!(array(&members["members"])[0]["userId"], json!(cid.id));
}

async fn membership_changes_are_part_of_the_log(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let mut screen = bob.comes_online().await;
    ann.post(&format!("/v1/conversations/{conversation}/members"), json!({ "userIds": [cid.id] })).await.ok();
    let added = screen.next_event("membersAdded").await;
    assert_eq!(added["membersAdded"]["members"][0]["userId"], json!(cid.id));
    cid.post(&format!("/v1/conversations/{conversation}/leave"), json!({})).await.ok();
    let removed = screen.next_event("memberRemoved").await;
    assert_eq!(removed["memberRemoved"]["userId"], json!(cid.id));
    assert_eq!(removed["memberRemoved"]["reason"], json!("REMOVAL_REASON_LEFT"));
    let changes = json!({ "conversation": { "title": "a new name" }, "updateMask": "title" });
    ann.patch(&format!("/v1/conversations/{conversation}"), changes).await.ok();
    let updated = screen.next_event("conversationUpdated").await;
    assert_eq!(updated["conversationUpdated"]["title"], json!("a new name"));
}

async fn a_direct_conversation_is_one_per_pair(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let pairs = [(&ann, &bob), (&bob, &ann)].into_iter().cycle().take(10);
    let found = futures_util::future::join_all(pairs.map(|(one, other)| one.starts_direct_with(other))).await;
    assert!(found.iter().all(|id| *id == found[0]), "{found:?}");
    let leave = ann.post(&format!("/v1/conversations/{}/leave", found[0]), json!({})).await;
    assert_eq!(leave.refused(409), "ERROR_REASON_WRONG_KIND");
}

async fn members_come_in_pages(world: Arc<World>) {
    let [ann, bob, cid, dan] = world.people(["ann", "bob", "cid", "dan"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid, &dan]).await;
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/v1/conversations/{conversation}/members?pageSize=3&pageToken={token}");
        let page = ann.get(&path).await.ok();
        found.extend(array(&page["members"]).iter().map(|member| text(&member["userId"])));
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    found.sort();
    let mut expected = vec![ann.id.clone(), bob.id, cid.id, dan.id];
    expected.sort();
    assert_eq!(found, expected);
    let foreign = format!("/v1/conversations/{conversation}/members?pageToken=rubbish");
    assert_eq!(ann.get(&foreign).await.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn a_conversation_is_deleted_for_everybody(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let mut screen = bob.comes_online().await;
    ann.says(&conversation, "for a while").await;
    screen.expects_message("for a while").await;
    let path = format!("/v1/conversations/{conversation}");
    assert_eq!(bob.delete(&path).await.refused(403), "ERROR_REASON_ROLE_TOO_LOW");
    ann.delete(&path).await.ok();
    loop {
        let frame = screen.next_of("userEvent").await;
        if frame["conversationLost"]["conversationId"] == json!(conversation) {
            break;
        }
    }
    for person in [&ann, &bob] {
        assert_eq!(person.get(&path).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
        assert_eq!(
            person.get(&format!("{path}/messages")).await.refused(404),
            "ERROR_REASON_CONVERSATION_NOT_FOUND"
        );
    }
}

async fn only_those_who_may_change_a_conversation(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let path = format!("/v1/conversations/{conversation}");
    let changes = json!({ "conversation": { "title": "mine" }, "updateMask": "title" });
    assert_eq!(bob.patch(&path, changes.clone()).await.refused(403), "ERROR_REASON_ROLE_TOO_LOW");
    assert_eq!(
        bob.delete(&format!("{path}/members/{}", cid.id)).await.refused(403),
        "ERROR_REASON_ROLE_TOO_LOW"
    );
    ann.put(&format!("{path}/members/{}/role", bob.id), json!({ "role": "MEMBER_ROLE_MODERATOR" }))
        .await
        .ok();
    bob.patch(&path, changes).await.ok();
    bob.delete(&format!("{path}/members/{}", cid.id)).await.ok();
    // Nobody puts out one of the same or a higher role.
    assert_eq!(
        bob.delete(&format!("{path}/members/{}", ann.id)).await.refused(403),
        "ERROR_REASON_ROLE_TOO_LOW"
    );
}
