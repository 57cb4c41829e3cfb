//! What people attach to messages: reactions, pins, votes.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::World;
use tests::person::{array, number, path_of, text};

tests::stories![
    a_reaction_is_counted_once_per_person,
    a_reaction_is_one_emoji,
    pinned_messages_are_listed_newest_pin_first,
    a_vote_is_moved_and_taken_back,
    an_anonymous_poll_tells_nobody_who_voted,
    a_poll_closes_by_hand_and_by_time,
    a_vote_out_of_range_is_refused,
    many_voters_are_counted_right,
    who_is_muted_neither_reacts_nor_votes,
    what_hangs_on_a_message_goes_with_it,
];

const THUMB: &str = "%F0%9F%91%8D";
const FAMILY: &str = "%F0%9F%91%A9%E2%80%8D%F0%9F%91%A9%E2%80%8D%F0%9F%91%A7";

async fn a_reaction_is_counted_once_per_person(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.says(&conversation, "hello").await;
    let path = path_of(&message);
    let mut screen = ann.comes_online().await;
    for _ in 0..2 {
        bob.put(&format!("{path}/reactions/{THUMB}"), json!({})).await.ok();
    }
    ann.put(&format!("{path}/reactions/{THUMB}"), json!({})).await.ok();
    ann.put(&format!("{path}/reactions/{FAMILY}"), json!({})).await.ok();
    let event = screen.next_event("reactionChanged").await["reactionChanged"].clone();
    assert_eq!(
        (&event["userId"], &event["emoji"], &event["count"]),
        (&json!(bob.id), &json!("👍"), &json!(1))
    );
    // The repetition was no event.
    let event = screen.next_event("reactionChanged").await["reactionChanged"].clone();
    assert_eq!((&event["userId"], &event["count"]), (&json!(ann.id), &json!(2)));

    let shown = bob.get(&path).await.ok()["message"].clone();
    assert_eq!(shown["reactions"], json!([{ "emoji": "👍", "count": 2 }, { "emoji": "👩‍👩‍👧", "count": 1 }]));
    assert_eq!(shown["viewer"]["reactions"], json!(["👍"]));
    let listed = bob.get(&format!("{path}/reactions")).await.ok();
    let who: Vec<_> = array(&listed["reactions"]).iter().map(|one| text(&one["userId"])).collect();
    assert_eq!(who, [bob.id.clone(), ann.id.clone(), ann.id.clone()]);

    bob.delete(&format!("{path}/reactions/{THUMB}")).await.ok();
    let shown =
        ann.get(&format!("/v1/conversations/{conversation}/messages")).await.ok()["messages"][0].clone();
    assert_eq!(shown["reactions"][0], json!({ "emoji": "👍", "count": 1 }));
}

async fn a_reaction_is_one_emoji(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.says(&conversation, "hello").await;
    for wrong in ["a", "%20", "%F0%9F%91%8D%F0%9F%91%8D", "%00", "hello", "7"] {
        let refused = bob.put(&format!("{}/reactions/{wrong}", path_of(&message)), json!({})).await;
        assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD", "{wrong}");
    }
    // A megabyte of emoji does not even get that far.
    let mut screen = bob.connects().await;
    let huge = "👍".repeat(4_000);
    let call = json!({ "call": {
        "method": "parlor.messaging.v1.AnnotationService/AddReaction",
        "request": { "conversationId": conversation, "messageId": message["messageId"], "emoji": huge },
    } });
    let answer = screen.command(call).await;
    assert_eq!(answer["error"]["reason"], json!("ERROR_REASON_INVALID_FIELD"), "{answer}");
    assert_eq!(ann.get(&path_of(&message)).await.ok()["message"]["reactions"], json!([]));
}

async fn pinned_messages_are_listed_newest_pin_first(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let one = ann.says(&conversation, "one").await;
    let two = ann.says(&conversation, "two").await;
    for message in [&two, &one, &one] {
        let pinned = bob.put(&format!("{}/pin", path_of(message)), json!({})).await.ok();
        assert_eq!(pinned["message"]["pin"]["userId"], json!(bob.id));
    }
    let list = async || {
        let answer = ann.get(&format!("/v1/conversations/{conversation}/pins")).await.ok();
        array(&answer["messages"]).iter().map(|message| text(&message["content"]["text"])).collect::<Vec<_>>()
    };
    assert_eq!(list().await, ["one", "two"]);
    ann.delete(&format!("{}/pin", path_of(&one))).await.ok();
    assert_eq!(list().await, ["two"]);
    ann.delete(&path_of(&two)).await.ok();
    assert!(list().await.is_empty());
}

fn poll(more: Value) -> Value {
    let mut poll = json!({ "question": "which?", "options": ["a", "b", "c"] });
    for (name, value) in more.as_object().into_iter().flatten() {
        poll[name] = value.clone();
    }
    json!({ "poll": poll })
}

async fn a_vote_is_moved_and_taken_back(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.sends(&conversation, poll(json!({}))).await;
    assert_eq!(message["pollResult"]["counts"], json!([0, 0, 0]));
    let vote = format!("{}/vote", path_of(&message));
    let votes = async |options: Value| {
        let answer = bob.put(&vote, json!({ "optionIndexes": options })).await.ok();
        (answer["message"]["pollResult"]["counts"].clone(), answer["message"]["viewer"]["votes"].clone())
    };
    assert_eq!(votes(json!([0])).await, (json!([1, 0, 0]), json!([0])));
    assert_eq!(votes(json!([2])).await, (json!([0, 0, 1]), json!([2])));
    let listed = ann.get(&format!("{}/votes", path_of(&message))).await.ok();
    assert_eq!(listed["votes"], json!([{ "userId": bob.id, "optionIndexes": [2] }]));
    assert_eq!(votes(json!([])).await.0, json!([0, 0, 0]));

    let many = ann.sends(&conversation, poll(json!({ "multipleChoice": true }))).await;
    let several = json!({ "optionIndexes": [0, 2] });
    let answer = bob.put(&format!("{}/vote", path_of(&many)), several.clone()).await.ok();
    let result = &answer["message"]["pollResult"];
    assert_eq!((&result["counts"], &result["voterCount"]), (&json!([1, 0, 1]), &json!(1)));
    assert_eq!(bob.put(&vote, several).await.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn an_anonymous_poll_tells_nobody_who_voted(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.sends(&conversation, poll(json!({ "anonymous": true }))).await;
    let mut screen = ann.comes_online().await;
    bob.put(&format!("{}/vote", path_of(&message)), json!({ "optionIndexes": [1] })).await.ok();
    let event = screen.next_event("pollVoted").await;
    assert!(!event.to_string().contains(&bob.id), "{event}");
    assert_eq!(event["pollVoted"]["result"]["counts"], json!([0, 1, 0]));
    let log = ann.get(&format!("/v1/conversations/{conversation}/events")).await.ok();
    let voted: Vec<_> =
        array(&log["events"]).iter().filter(|event| event.get("pollVoted").is_some()).collect();
    assert!(voted.len() == 1 && !voted[0].to_string().contains(&bob.id), "{voted:?}");
    let listed = ann.get(&format!("{}/votes", path_of(&message))).await;
    assert_eq!(listed.refused(409), "ERROR_REASON_POLL_ANONYMOUS");
    // One sees one's own.
    assert_eq!(bob.get(&path_of(&message)).await.ok()["message"]["viewer"]["votes"], json!([1]));
    assert!(ann.get(&path_of(&message)).await.ok()["message"].get("viewer").is_none());
}

async fn a_poll_closes_by_hand_and_by_time(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let message = bob.sends(&conversation, poll(json!({}))).await;
    let (close, vote) = (format!("{}/close", path_of(&message)), format!("{}/vote", path_of(&message)));
    cid.put(&vote, json!({ "optionIndexes": [0] })).await.ok();
    assert_eq!(cid.post(&close, json!({})).await.refused(403), "ERROR_REASON_NOT_AUTHOR");
    // Ann owns the group.
    let closed = ann.post(&close, json!({})).await.ok();
    assert!(closed["message"]["pollResult"]["closeTime"].is_string(), "{closed}");
    assert_eq!(
        ann.post(&close, json!({})).await.ok()["message"]["pollResult"],
        closed["message"]["pollResult"]
    );
    let late = cid.put(&vote, json!({ "optionIndexes": [1] })).await;
    assert_eq!(late.refused(409), "ERROR_REASON_POLL_CLOSED");
    assert_eq!(ann.get(&path_of(&message)).await.ok()["message"]["pollResult"]["counts"], json!([1, 0, 0]));

    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    let soon = prost_types::Timestamp { seconds: now.as_secs().cast_signed() + 2, nanos: 0 }.to_string();
    let timed = bob.sends(&conversation, poll(json!({ "closeTime": soon }))).await;
    let vote = format!("{}/vote", path_of(&timed));
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let refused = tests::waiting::until("the poll to close", || async {
        // Another one each time: the same vote again is no vote, and always well.
        let option = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3;
        let answer = cid.put(&vote, json!({ "optionIndexes": [option] })).await;
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.await.refused(409), "ERROR_REASON_POLL_CLOSED");
    let said = ann.says(&conversation, "no poll").await;
    let refused = cid.put(&format!("{}/vote", path_of(&said)), json!({ "optionIndexes": [0] })).await;
    assert_eq!(refused.refused(409), "ERROR_REASON_NOT_A_POLL");
}

async fn a_vote_out_of_range_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.sends(&conversation, poll(json!({ "multipleChoice": true }))).await;
    for wrong in
        [json!([3]), json!([-1]), json!([20]), json!([0, 0]), json!([1e18]), json!(["NaN"]), json!(7)]
    {
        let refused =
            bob.put(&format!("{}/vote", path_of(&message)), json!({ "optionIndexes": wrong })).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.body);
    }
    assert_eq!(ann.get(&path_of(&message)).await.ok()["message"]["pollResult"]["voterCount"], json!(0));
}

async fn many_voters_are_counted_right(world: Arc<World>) {
    const VOTERS: usize = 16;
    let ann = world.person("ann").await;
    let voters = join_all((0..VOTERS).map(|_| world.person("voter"))).await;
    let conversation = ann.starts_group_with(&voters.iter().collect::<Vec<_>>()).await;
    let message = ann.sends(&conversation, poll(json!({}))).await;
    let vote = format!("{}/vote", path_of(&message));
    join_all(voters.iter().enumerate().map(|(n, voter)| {
        let vote = vote.clone();
        async move {
            for turn in 0..4 {
                voter.put(&vote, json!({ "optionIndexes": [(n + turn) % 3] })).await.ok();
            }
        }
    }))
    .await;
    let result = ann.get(&path_of(&message)).await.ok()["message"]["pollResult"].clone();
    let votes = ann.get(&format!("{}/votes?pageSize=100", path_of(&message))).await.ok();
    let mut counts = [0; 3];
    for one in array(&votes["votes"]) {
        counts[usize::try_from(number(&one["optionIndexes"][0])).expect("a place")] += 1;
    }
    assert_eq!(result["counts"], json!(counts));
    assert_eq!((&result["voterCount"], array(&votes["votes"]).len()), (&json!(VOTERS), VOTERS));
}

async fn who_is_muted_neither_reacts_nor_votes(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let message = ann.sends(&conversation, poll(json!({}))).await;
    let role = format!("/v1/conversations/{conversation}/members/{}/role", bob.id);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MUTED" })).await.ok();
    let path = path_of(&message);
    for answer in [
        bob.put(&format!("{path}/reactions/{THUMB}"), json!({})).await,
        bob.put(&format!("{path}/vote"), json!({ "optionIndexes": [0] })).await,
        bob.put(&format!("{path}/pin"), json!({})).await,
    ] {
        assert_eq!(answer.refused(403), "ERROR_REASON_WRITE_DENIED");
    }
    let shown = bob.get(&path).await.ok()["message"].clone();
    assert_eq!((&shown["reactions"], &shown["pollResult"]["voterCount"]), (&json!([]), &json!(0)));
}

async fn what_hangs_on_a_message_goes_with_it(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.sends(&conversation, poll(json!({}))).await;
    let path = path_of(&message);
    bob.put(&format!("{path}/reactions/{THUMB}"), json!({})).await.ok();
    bob.put(&format!("{path}/vote"), json!({ "optionIndexes": [0] })).await.ok();
    bob.put(&format!("{path}/pin"), json!({})).await.ok();
    let tombstone = ann.delete(&path).await.ok()["message"].clone();
    assert_eq!(tombstone["reactions"], json!([]));
    for name in ["content", "pin", "pollResult", "viewer"] {
        assert!(tombstone.get(name).is_none(), "{name} is still there: {tombstone}");
    }
    let log = bob.get(&format!("/v1/conversations/{conversation}/events")).await.ok().to_string();
    assert!(!log.contains("👍") && !log.contains("which?"), "{log}");
    for (method, refused) in [
        ("reactions", bob.put(&format!("{path}/reactions/{THUMB}"), json!({})).await),
        ("vote", bob.put(&format!("{path}/vote"), json!({ "optionIndexes": [0] })).await),
        ("pin", bob.put(&format!("{path}/pin"), json!({})).await),
    ] {
        assert_eq!(refused.refused(409), "ERROR_REASON_MESSAGE_DELETED", "{method}");
    }
}
