//! Searching, through the service's own routes.

use chassis::database::Database;
use proto::id::MessageId;

use super::*;
use crate::store::Store;

impl World {
    async fn search(
        &self,
        by: UserId,
        request: pb::SearchMessagesRequest,
    ) -> Result<pb::SearchMessagesResponse, Status> {
        self.search.clone().search_messages(by.says(request)).await.map(tonic::Response::into_inner)
    }

    /// What somebody finds by words everywhere.
    async fn finds(&self, by: UserId, query: &str) -> Vec<String> {
        let found = self.search(by, query_for(query)).await.unwrap().messages;
        found.iter().map(|message| text_of(message).to_owned()).collect()
    }

    async fn count(&self, text: &'static str) -> i64 {
        let Database::Sqlite(pool) = &self.database else { panic!("on SQLite") };
        sqlx::query_scalar(text).fetch_one(pool.read()).await.unwrap()
    }

    /// Says something to the tables themselves.
    pub(super) async fn alter(&self, text: &'static str) {
        let Database::Sqlite(pool) = &self.database else { panic!("on SQLite") };
        let mut tx = pool.begin().await.unwrap();
        sqlx::raw_sql(text).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

fn query_for(query: &str) -> pb::SearchMessagesRequest {
    pb::SearchMessagesRequest { query: query.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn what_was_acknowledged_is_found_at_once_by_everybody_in_it() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let sent = world.says(ann, group, "Grüße aus KÖLN").await;
    for reader in [ann, bob] {
        let found = world.search(reader, query_for("koln gru")).await.unwrap();
        assert_eq!(found.messages, std::slice::from_ref(&sent));
        assert_eq!(found.next_page_token, "");
    }
    assert!(world.finds(eve, "koln").await.is_empty());
    let there = pb::SearchMessagesRequest { conversation_id: group.to_string(), ..query_for("koln") };
    assert_eq!(world.search(bob, there.clone()).await.unwrap().messages.len(), 1);
    let not_found = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
    assert_eq!(refusal(world.search(eve, there).await), not_found);
    let nowhere = ConversationId::generate().to_string();
    let nowhere = pb::SearchMessagesRequest { conversation_id: nowhere, ..query_for("koln") };
    assert_eq!(refusal(world.search(ann, nowhere).await), not_found);
}

#[tokio::test]
async fn who_leaves_finds_nothing_any_more_and_a_room_is_nobody_s_own() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    world.says(ann, group, "hello").await;
    assert_eq!(world.finds(bob, "hello").await, ["hello"]);
    world.others.remove(group, bob);
    assert!(world.finds(bob, "hello").await.is_empty());
    assert_eq!(world.finds(ann, "hello").await, ["hello"]);
    let room = world.others.create(ConversationKind::Room, &[ann]);
    world.says(ann, room, "welcome").await;
    assert!(world.finds(eve, "welcome").await.is_empty());
    let there = pb::SearchMessagesRequest { conversation_id: room.to_string(), ..query_for("welcome") };
    assert_eq!(refusal(world.search(eve, there).await), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
}

#[tokio::test]
async fn what_is_edited_deleted_expired_hidden_or_purged_is_not_found() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let [edited, deleted] =
        [world.says(ann, group, "one word").await, world.says(ann, group, "two word").await];
    world.says(ann, group, "three word").await;
    let short = pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..to(group, "four word")
    };
    world.send(ann, short).await.unwrap();
    assert_eq!(world.finds(bob, "word").await, ["four word", "three word", "two word", "one word"]);

    let edit = pb::EditMessageRequest {
        conversation_id: group.to_string(),
        message_id: edited.message_id.clone(),
        content: content("changed word"),
        ..Default::default()
    };
    world.messaging().edit_message(ann.says(edit)).await.unwrap();
    assert!(world.finds(bob, "one").await.is_empty());
    assert_eq!(world.finds(bob, "changed").await, ["changed word"]);
    let delete =
        pb::DeleteMessageRequest { conversation_id: group.to_string(), message_id: deleted.message_id };
    world.messaging().delete_message(ann.says(delete)).await.unwrap();
    assert!(world.finds(bob, "two").await.is_empty());
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.finds(bob, "word").await, ["three word", "changed word"]);

    let hide = pb::HideMessageRequest { conversation_id: group.to_string(), message_id: edited.message_id };
    world.messaging().hide_message(bob.says(hide)).await.unwrap();
    assert_eq!(world.finds(bob, "word").await, ["three word"]);
    assert_eq!(world.finds(ann, "word").await, ["three word", "changed word"]);
    let unsent = world.says(ann, group, "five word").await;
    let unsend =
        pb::UnsendMessageRequest { conversation_id: group.to_string(), message_id: unsent.message_id };
    world.messaging().unsend_message(ann.says(unsend)).await.unwrap();
    assert_eq!(world.finds(bob, "word").await, ["three word"]);
    let purge = pb::PurgeMessagesRequest { conversation_id: group.to_string() };
    world.messaging().purge_messages(ann.says(purge)).await.unwrap();
    assert!(world.finds(ann, "word").await.is_empty());
    world.says(ann, group, "six word").await;
    assert_eq!(world.finds(bob, "word").await, ["six word"]);
    // The index has what the table has; and once it is swept, nothing of what is gone.
    world.alter("INSERT INTO searchable_words (searchable_words, rank) VALUES ('integrity-check', 1)").await;
    let store = Store::new(world.database.clone(), world.clock.clone());
    store.sweep_purged(group, 100).await.unwrap();
    assert_eq!(world.count("SELECT COUNT(*) FROM searchable").await, 1);
    world.alter("INSERT INTO searchable_words (searchable_words, rank) VALUES ('integrity-check', 1)").await;
}

#[tokio::test]
async fn whatever_is_typed_is_only_words() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let text = "Tom AND \"Jerry\" (NOT Spike) near:you* don't 你好 🎉";
    world.says(ann, group, text).await;
    for query in [
        "AND",
        "tom and jerry",
        "\"jerry\" \"tom\"",
        "\"AND tom",
        "NOT",
        "near:you*",
        "tom*",
        "(((tom",
        "tom OR AND",
        "don't",
        "DON",
        "t",
        "你好",
        "好你",
        "🎉🎉",
        "'tom' & !jerry | spike:*",
        "tom\\",
        "searchable_words MATCH",
    ] {
        let is_there = !query.contains("OR") && !query.contains("MATCH");
        assert_eq!(world.finds(ann, query).await.len(), usize::from(is_there), "{query}");
    }
    let long = format!("tom {}", "x".repeat(252));
    assert!(world.finds(ann, &long).await.is_empty());
    assert_eq!(world.finds(ann, &"tom ".repeat(64)).await.len(), 1);
    let many: String = (0..128).map(|n| char::from(b'a' + n % 26)).flat_map(|c| [c, ' ']).collect();
    assert!(world.finds(ann, &many).await.is_empty());
}

#[tokio::test]
async fn a_search_for_nothing_and_other_nonsense_is_refused_by_the_field_s_name() {
    let world = World::start().await;
    let [ann] = world.people();
    world.group(&[ann]);
    let bad_time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 });
    let cases = [
        ("query", query_for("")),
        ("query", query_for(" \t ")),
        ("query", query_for("\"*\"")),
        ("query", query_for(&"x".repeat(257))),
        ("sender_id", pb::SearchMessagesRequest { sender_id: "ann".to_owned(), ..query_for("x") }),
        ("conversation_id", pb::SearchMessagesRequest { conversation_id: "x".to_owned(), ..query_for("x") }),
        ("kinds[0]", pb::SearchMessagesRequest { kinds: vec![99], ..query_for("x") }),
        ("kinds[0]", pb::SearchMessagesRequest { kinds: vec![0], ..query_for("x") }),
        ("after_time", pb::SearchMessagesRequest { after_time: bad_time, ..query_for("x") }),
        ("page_size", pb::SearchMessagesRequest { page_size: -1, ..query_for("x") }),
        ("page_token", pb::SearchMessagesRequest { page_token: "x".to_owned(), ..query_for("x") }),
    ];
    for (field, request) in cases {
        let fault = Fault::of(&world.search(ann, request.clone()).await.unwrap_err());
        assert_eq!(fault.code(), Code::InvalidArgument, "{request:?}");
        assert_eq!(fault.fields()[0].0, field, "{request:?}");
    }
}

#[tokio::test]
async fn pages_are_bound_to_their_search() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let groups = [world.group(&[ann, bob]), world.group(&[ann])];
    for n in 0..10 {
        world.says(ann, groups[n % 2], &format!("hello {n}")).await;
    }
    let mut request = pb::SearchMessagesRequest { page_size: 4, ..query_for("hello") };
    let mut found = Vec::new();
    loop {
        let page = world.search(ann, request.clone()).await.unwrap();
        found.extend(page.messages.iter().map(|message| text_of(message).to_owned()));
        request.page_token = page.next_page_token;
        world.says(ann, groups[0], "hello meanwhile").await;
        if request.page_token.is_empty() {
            break;
        }
        let other = pb::SearchMessagesRequest { query: "other".to_owned(), ..request.clone() };
        assert_eq!(world.search(ann, other).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(world.search(bob, request.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(found, (0..10).rev().map(|n| format!("hello {n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn sender_and_kind_find_without_words() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.says(ann, group, "from ann").await;
    world.says(bob, group, "from bob").await;
    let by_bob = pb::SearchMessagesRequest { sender_id: bob.to_string(), ..Default::default() };
    let found = world.search(ann, by_bob).await.unwrap().messages;
    assert_eq!(found.iter().map(text_of).collect::<Vec<_>>(), ["from bob"]);
    let kinds =
        |kind: pb::MessageKind| pb::SearchMessagesRequest { kinds: vec![kind.into()], ..Default::default() };
    assert_eq!(world.search(ann, kinds(pb::MessageKind::Text)).await.unwrap().messages.len(), 2);
    assert!(world.search(ann, kinds(pb::MessageKind::Poll)).await.unwrap().messages.is_empty());
    let nobody =
        pb::SearchMessagesRequest { sender_id: MessageId::generate().to_string(), ..Default::default() };
    assert!(world.search(ann, nobody).await.unwrap().messages.is_empty());
}
