//! Keeping order: taking back, hiding, emptying, reporting.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{array, path_of, text};

tests::stories![
    what_is_unsent_leaves_no_trace,
    what_one_hides_the_others_still_see,
    an_owner_empties_a_conversation,
    a_report_reaches_the_moderators_and_not_the_reported,
    a_report_keeps_what_was_said,
    a_report_is_resolved_once,
];

async fn what_is_unsent_leaves_no_trace(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let message = bob.says(&conversation, "regretted").await;
    bob.patch(&path_of(&message), json!({ "content": { "text": "regretted more" } })).await.ok();
    let unsend = format!("{}/unsend", path_of(&message));
    // Not even the owner takes back what another has sent.
    assert_eq!(ann.post(&unsend, json!({})).await.refused(403), "ERROR_REASON_NOT_AUTHOR");
    let tombstone = bob.post(&unsend, json!({})).await.ok()["message"].clone();
    assert_eq!(tombstone["deleteReason"], json!("DELETION_REASON_UNSENT"));
    assert_eq!(bob.post(&unsend, json!({})).await.ok()["message"], tombstone);
    let log = ann.get(&format!("/v1/conversations/{conversation}/events")).await.ok().to_string();
    assert!(!log.contains("regretted"), "{log}");
    assert_eq!(ann.get("/v1/unread").await.ok()["total"], json!(0));
}

async fn what_one_hides_the_others_still_see(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "first").await;
    let message = ann.says(&conversation, "not for my eyes").await;
    ann.put(&format!("{}/pin", path_of(&message)), json!({})).await.ok();
    let mut phone = bob.comes_online().await;
    for _ in 0..2 {
        bob.post(&format!("{}/hide", path_of(&message)), json!({})).await.ok();
    }
    // The other devices hear of it.
    let hidden = phone.next_user_event("messageHidden").await;
    assert_eq!(hidden["messageId"], message["messageId"]);
    assert_eq!(bob.reads(&conversation).await, [Some("first".to_owned())]);
    assert_eq!(bob.get(&path_of(&message)).await.refused(404), "ERROR_REASON_MESSAGE_NOT_FOUND");
    let inbox = bob.get("/v1/inbox").await.ok();
    assert_eq!(inbox["entries"][0]["lastMessage"]["content"]["text"], json!("first"));
    assert_eq!(bob.get("/v1/unread").await.ok()["total"], json!(1));
    let pinned = bob.get(&format!("/v1/conversations/{conversation}/pins")).await.ok();
    assert!(array(&pinned["messages"]).is_empty());
    let found = bob.get("/v1/search/messages?query=eyes").await.ok();
    assert!(array(&found["messages"]).is_empty());
    assert_eq!(ann.reads(&conversation).await.len(), 2);
}

async fn an_owner_empties_a_conversation(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let mut screen = bob.comes_online().await;
    for n in 0..5 {
        ann.says(&conversation, &format!("old {n}")).await;
    }
    let purge = format!("/v1/conversations/{conversation}/purge");
    assert_eq!(bob.post(&purge, json!({})).await.refused(403), "ERROR_REASON_NOT_OWNER");
    let purged = ann.post(&purge, json!({})).await.ok();
    ann.says(&conversation, "new").await;
    let event = screen.next_event("messagesPurged").await;
    assert_eq!(event["messagesPurged"]["upToSequence"], purged["upToSequence"]);
    let words = bob.reads(&conversation).await;
    assert_eq!(words, [None, None, None, None, None, Some("new".to_owned())]);
    let log = bob.get(&format!("/v1/conversations/{conversation}/events")).await.ok().to_string();
    assert!(!log.contains("old 1"), "{log}");
    assert_eq!(bob.get("/v1/unread").await.ok()["total"], json!(1));
    let found = bob.get("/v1/search/messages?query=old").await.ok();
    assert!(array(&found["messages"]).is_empty());
    let direct = ann.starts_direct_with(&bob).await;
    let refused = ann.post(&format!("/v1/conversations/{direct}/purge"), json!({})).await;
    assert_eq!(refused.refused(403), "ERROR_REASON_NOT_OWNER");
}

async fn a_report_reaches_the_moderators_and_not_the_reported(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let role = format!("/v1/conversations/{conversation}/members/{}/role", cid.id);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MODERATOR" })).await.ok();
    // Cid moderates, and is the one reported.
    let message = cid.says(&conversation, "rude").await;
    let mut screens = (ann.comes_online().await, cid.comes_online().await);
    let body = json!({ "reason": "REPORT_REASON_HARASSMENT", "comment": "he always does" });
    let reports = format!("{}/reports", path_of(&message));
    let report = bob.post(&reports, body.clone()).await.ok()["report"].clone();
    assert_eq!(bob.post(&reports, body).await.ok()["report"]["reportId"], report["reportId"]);
    let heard = screens.0.next_user_event("reportChanged").await;
    assert_eq!((&heard["reportId"], &heard["reporterUserId"]), (&report["reportId"], &json!(bob.id)));

    let list = format!("/v1/conversations/{conversation}/reports");
    let listed = ann.get(&list).await.ok();
    assert_eq!(listed["reports"][0]["snapshot"]["text"], json!("rude"));
    assert!(array(&cid.get(&list).await.ok()["reports"]).is_empty());
    assert_eq!(bob.get(&list).await.refused(403), "ERROR_REASON_NOT_MODERATOR");
    let resolve = format!("{list}/{}/resolve", text(&report["reportId"]));
    let body = json!({ "state": "REPORT_STATE_DISMISSED" });
    assert_eq!(cid.post(&resolve, body).await.refused(404), "ERROR_REASON_REPORT_NOT_FOUND");
    // The next thing that reaches the reported is not the report.
    ann.says(&conversation, "calm down").await;
    screens.1.expects_message("calm down").await;
    let own = cid.get("/v1/me/events").await.ok().to_string();
    assert!(!own.contains(&text(&report["reportId"])), "{own}");
}

async fn a_report_keeps_what_was_said(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let list = format!("/v1/conversations/{conversation}/reports");
    let message = cid.says(&conversation, "rude").await;
    let body = json!({ "reason": "REPORT_REASON_SPAM" });
    bob.post(&format!("{}/reports", path_of(&message)), body.clone()).await.ok();
    cid.patch(&path_of(&message), json!({ "content": { "text": "polite" } })).await.ok();
    cid.delete(&path_of(&message)).await.ok();
    assert_eq!(ann.get(&list).await.ok()["reports"][0]["snapshot"]["text"], json!("rude"));
    let late = bob.post(&format!("{}/reports", path_of(&message)), body.clone()).await;
    // The first report again; what is gone takes no new one.
    assert_eq!(late.ok()["report"]["state"], json!("REPORT_STATE_OPEN"));
    assert_eq!(
        ann.post(&format!("{}/reports", path_of(&message)), body).await.refused(409),
        "ERROR_REASON_MESSAGE_DELETED"
    );

    let short = json!({ "content": { "text": "gone soon" }, "expireAfter": "60s" });
    let short = cid.tries_to_send(&conversation, short).await.ok()["message"].clone();
    bob.post(&format!("{}/reports", path_of(&short)), json!({ "reason": "REPORT_REASON_SPAM" })).await.ok();
    let newest = ann.get(&list).await.ok()["reports"][0].clone();
    assert_eq!(newest["messageId"], short["messageId"]);
    assert!(newest.get("snapshot").is_none(), "{newest}");
    let refused = bob.post(&format!("{}/reports", path_of(&short)), json!({ "reason": 0 })).await;
    assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn a_report_is_resolved_once(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let message = cid.says(&conversation, "rude").await;
    let body = json!({ "reason": "REPORT_REASON_OTHER", "comment": "look" });
    let report = bob.post(&format!("{}/reports", path_of(&message)), body).await.ok()["report"].clone();
    let list = format!("/v1/conversations/{conversation}/reports");
    let resolve = format!("{list}/{}/resolve", text(&report["reportId"]));
    let acted = json!({ "state": "REPORT_STATE_ACTED", "note": "talked to him" });
    for _ in 0..2 {
        let resolved = ann.post(&resolve, acted.clone()).await.ok()["report"].clone();
        assert_eq!((&resolved["state"], &resolved["resolvedByUserId"]), (&acted["state"], &json!(ann.id)));
    }
    let other = ann.post(&resolve, json!({ "state": "REPORT_STATE_DISMISSED" })).await;
    assert_eq!(other.refused(409), "ERROR_REASON_REPORT_RESOLVED");
    assert!(array(&ann.get(&format!("{list}?onlyOpen=true")).await.ok()["reports"]).is_empty());
    assert_eq!(array(&ann.get(&list).await.ok()["reports"]).len(), 1);
    // Moderators and the reporter get it by its id, each as much of it as they may see; to the author it is not there.
    let one = format!("/v1/reports/{}", text(&report["reportId"]));
    let seen = ann.get(&one).await.ok()["report"].clone();
    assert_eq!((&seen["comment"], &seen["note"]), (&json!("look"), &json!("talked to him")));
    assert_eq!(seen["snapshot"]["text"], json!("rude"));
    let own = bob.get(&one).await.ok()["report"].clone();
    assert_eq!((&own["comment"], &own["state"]), (&json!("look"), &acted["state"]));
    assert!(own.get("snapshot").is_none() && own["note"].as_str().unwrap_or_default().is_empty(), "{own}");
    assert_eq!(cid.get(&one).await.refused(404), "ERROR_REASON_REPORT_NOT_FOUND");
}
