//! What a person takes along.

use std::collections::BTreeMap;

use super::annotating::{Marked, poll};
use super::reporting::spam;
use super::*;

impl World {
    /// The files of a person's export, in the order in which they came.
    async fn exported(&self, by: UserId) -> Vec<(String, Vec<u8>)> {
        let request = by.says(pb::ExportUserDataRequest {});
        let mut pieces = self.exports.clone().export_user_data(request).await.unwrap().into_inner();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            assert!(piece.data.len() <= 64 * 1024);
            match files.last_mut() {
                Some((path, data)) if *path == piece.path => data.extend(piece.data),
                _ => files.push((piece.path, piece.data)),
            }
        }
        files
    }
}

/// The lists of an export, in their order.
const LISTS: [&str; 10] = [
    "messages",
    "revisions",
    "reactions",
    "votes",
    "pins",
    "hidden",
    "watermarks",
    "alerts",
    "reports",
    "uploads",
];

#[tokio::test]
async fn everything_of_oneself_and_nothing_of_others_is_taken_along() {
    let world = World::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| world.others.register_as(name));
    let [here, there] = [world.group(&[bob, ann]), world.group(&[ann, bob])];
    // More than one page of them.
    for n in 0..60 {
        world.says(ann, if n % 2 == 0 { here } else { there }, &format!("own {n}")).await;
        world.clock.advance(Duration::from_millis(1));
    }
    let gone = world.says(ann, here, "deleted").await;
    world.unsend(ann, &gone).await.unwrap();
    let other = world.says(bob, here, "@ann not yours").await;
    let poll = Marked::sent(&world, bob, there, poll(true, false)).await;
    poll.vote(ann, &[0, 2]).await.unwrap();
    poll.react(ann, "👍").await.unwrap();
    poll.react(bob, "🎉").await.unwrap();
    world.report(ann, spam(&other)).await.unwrap();
    let draft = world.says(ann, here, "draft").await;
    world.edit(ann, &draft, "own 60").await.unwrap();
    let edited = world.says(bob, here, "not yours").await;
    world.edit(bob, &edited, "not yours either").await.unwrap();
    let [pinned, other_pin] = [Marked::text(&world, bob, here).await, Marked::text(&world, bob, here).await];
    pinned.pin(ann).await.unwrap();
    other_pin.pin(bob).await.unwrap();
    for by in [ann, bob] {
        let request = pb::HideMessageRequest {
            conversation_id: other.conversation_id.clone(),
            message_id: other.message_id.clone(),
        };
        world.messaging().hide_message(by.says(request)).await.unwrap();
        let request = pb::AdvanceWatermarkRequest {
            conversation_id: here.to_string(),
            read_sequence: other.sequence,
            ..Default::default()
        };
        world.messaging().advance_watermark(by.says(request)).await.unwrap();
    }
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let file = world.uploaded(ann, &bytes).await;
    world.uploaded(bob, b"not yours").await;

    let files = world.exported(ann).await;
    let name = format!("messaging/files/{file}-a.png");
    let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    let mut expected: Vec<_> = LISTS.iter().map(|list| format!("messaging/{list}.ndjson")).collect();
    expected.push(name.clone());
    assert_eq!(paths, expected);
    let files: BTreeMap<_, _> = files.into_iter().collect();
    assert!(files[&name] == bytes);
    let lines = |list: &str| {
        let text = String::from_utf8(files[&format!("messaging/{list}.ndjson")].clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let texts: Vec<_> =
        lines("messages").iter().map(|line| line["content"]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, (0..=60).map(|n| format!("own {n}")).collect::<Vec<_>>());
    let [revision] = lines("revisions").try_into().unwrap();
    assert_eq!(revision["messageId"], draft.message_id);
    assert_eq!(
        (&revision["revision"]["version"], revision["revision"]["content"]["text"].as_str()),
        (&serde_json::json!(1), Some("draft"))
    );
    let [pin] = lines("pins").try_into().unwrap();
    assert_eq!((pin["messageId"].as_str(), pin["pinTime"].is_null()), (Some(pinned.id.as_str()), false));
    let [hidden] = lines("hidden").try_into().unwrap();
    assert_eq!(hidden["messageId"], other.message_id);
    let [watermark] = lines("watermarks").try_into().unwrap();
    assert_eq!(
        (watermark["conversationId"].as_str(), watermark["readSequence"].as_str()),
        (Some(here.to_string().as_str()), Some(other.sequence.to_string().as_str()))
    );
    assert_eq!(watermark["userId"], ann.to_string());
    let [reaction] = lines("reactions").try_into().unwrap();
    assert_eq!(
        (reaction["emoji"].as_str(), reaction["messageId"].as_str()),
        (Some("👍"), Some(poll.id.as_str()))
    );
    let [vote] = lines("votes").try_into().unwrap();
    assert_eq!(vote["optionIndexes"], serde_json::json!([0, 2]));
    let [alert] = lines("alerts").try_into().unwrap();
    assert_eq!(alert["kind"], "ALERT_KIND_MENTION");
    let [report] = lines("reports").try_into().unwrap();
    assert_eq!((report["reason"].as_str(), report["snapshot"].is_null()), (Some("REPORT_REASON_SPAM"), true));
    let [upload] = lines("uploads").try_into().unwrap();
    assert_eq!(upload["uploadId"], file);
}

#[tokio::test]
async fn who_has_nothing_gets_empty_lists() {
    let world = World::start().await;
    let [ann] = world.people();
    let files = world.exported(ann).await;
    assert_eq!(files.len(), LISTS.len());
    assert!(files.iter().all(|(_, data)| data.is_empty()));
    let nobody = world.exports.clone().export_user_data(pb::ExportUserDataRequest {}).await;
    assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
}
