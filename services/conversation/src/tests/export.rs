//! Everything about a person, as files.

use std::collections::BTreeMap;

use proto::conversation::v1::export_service_client::ExportServiceClient;

use super::*;

impl World {
    async fn export(&self, by: UserId) -> BTreeMap<String, String> {
        let mut client = ExportServiceClient::new(self.transport.clone());
        let request = by.says(pb::ExportUserDataRequest {});
        let mut pieces = client.export_user_data(request).await.unwrap().into_inner();
        let mut files = BTreeMap::<String, Vec<u8>>::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            files.entry(piece.path).or_default().extend(piece.data);
        }
        files.into_iter().map(|(path, data)| (path, String::from_utf8(data).unwrap())).collect()
    }
}

#[tokio::test]
async fn everything_about_oneself_and_nothing_about_others() {
    let world = World::start().await;
    let [ann, bob, cem, dee] = world.people();
    let mut ids = vec![];
    for _ in 0..120 {
        ids.push(world.create(ann, pb::ConversationKind::Group, &[]).await.conversation_id);
    }
    let foreign = world.create(bob, pb::ConversationKind::Group, &[]).await.conversation_id;
    world.connect(ann, bob).await;
    world.send_connection_request(cem, ann).await.unwrap();
    world.block_user(ann, dee).await.unwrap();
    // She does not see it, so it is not hers to have.
    world.send_connection_request(dee, ann).await.unwrap();
    world.takes_strangers_after_a_request(ann).await;

    let files = world.export(ann).await;
    let lines = |name: &str| -> Vec<&str> { files[&format!("conversation/{name}")].lines().collect() };
    let conversations = lines("conversations.ndjson");
    assert_eq!(conversations.len(), 120, "all pages");
    assert!(ids.iter().all(|id| conversations.iter().any(|line| line.contains(id))));
    assert!(!conversations.iter().any(|line| line.contains(&foreign)));
    assert!(matches!(lines("connections.ndjson")[..], [one] if one.contains(&bob.to_string())));
    let requests = lines("requests.ndjson");
    assert_eq!(requests.len(), 2);
    assert!(!requests.iter().any(|line| line.contains(&dee.to_string())));
    assert!(matches!(lines("blocks.ndjson")[..], [one] if one.contains(&dee.to_string())));
    assert!(matches!(lines("privacy.json")[..], [one] if one.contains("FIRST_CONTACT_AFTER_REQUEST")));

    // Who has nothing gets the files all the same, and does not learn of a block.
    let empty = world.export(dee).await;
    assert_eq!(empty.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    assert_eq!(empty["conversation/blocks.ndjson"], "");
    assert!(empty["conversation/requests.ndjson"].contains("REQUEST_STATE_PENDING"));
    world.stop().await;
}
