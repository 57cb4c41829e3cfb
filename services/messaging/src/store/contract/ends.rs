//! What the store promises about messages that go: deleted, hidden, purged.

use chassis::database::facts::Claim;
use proto::messaging::v1 as pb;

use super::*;
use crate::event::MessageChange;
use crate::message::Deletion;

/// A store, its clock and its database.
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) clock: Clock,
    database: Database,
}

impl Scene {
    fn new(database: Database) -> Self {
        let clock = Clock::manual(NOW);
        Self { store: Store::new(database.clone(), clock.clone()), clock, database }
    }

    /// Changes rows behind the store's back. The parameters are a conversation and a sequence.
    pub(super) async fn execute(&self, text: &'static str, conversation: ConversationId, sequence: Sequence) {
        macro_rules! on {
            ($pool:ident) => {{
                let mut tx = $pool.begin().await.unwrap();
                let query = sqlx::query(text).bind(conversation.uuid()).bind(sequence.get());
                query.execute(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
            }};
        }
        match &self.database {
            Database::Sqlite(pool) => on!(pool),
            Database::Postgres(pool) => on!(pool),
        }
    }

    /// How many rows there are.
    async fn count(&self, text: &'static str) -> i64 {
        match &self.database {
            Database::Sqlite(pool) => sqlx::query_scalar(text).fetch_one(pool.read()).await.unwrap(),
            Database::Postgres(pool) => sqlx::query_scalar(text).fetch_one(pool.read()).await.unwrap(),
        }
    }

    /// Puts one of everything on a message: an edit, a reaction, a pin, a vote and an event that tells of them.
    pub(super) async fn laden(&self, conversation: ConversationId, sender: UserId) -> Message {
        let message = send(&self.store, conversation, sender, "first").await;
        let message = self
            .store
            .revise(&revision(&message, sender, edit("second")), &Access::member(), NOW)
            .await
            .unwrap()
            .message;
        for text in [
            "INSERT INTO reactions (conversation_id, message_sequence, user_id, emoji, create_time)
             VALUES ($1, $2, $1, 'x', 0)",
            "INSERT INTO pins (conversation_id, message_sequence, pin_time) VALUES ($1, $2, 0)",
            "INSERT INTO votes (conversation_id, message_sequence, user_id, slot, option_index)
             VALUES ($1, $2, $1, 0, 1)",
        ] {
            self.execute(text, conversation, message.sequence).await;
        }
        self.tell(&message).await;
        message
    }

    /// Turns the event of a message's edit into one that tells something.
    async fn tell(&self, message: &Message) {
        let payload = MessageChange::Reaction(pb::ReactionChanged::default()).encode();
        macro_rules! on {
            ($pool:ident) => {{
                let mut tx = $pool.begin().await.unwrap();
                sqlx::query(
                    "UPDATE events SET kind = 'reaction_changed', payload = $3
                     WHERE conversation_id = $1 AND message_sequence = $2",
                )
                .bind(message.conversation.uuid())
                .bind(message.sequence.get())
                .bind(payload)
                .execute(&mut *tx)
                .await
                .unwrap();
                tx.commit().await.unwrap();
            }};
        }
        match &self.database {
            Database::Sqlite(pool) => on!(pool),
            Database::Postgres(pool) => on!(pool),
        }
    }

    /// How many rows hang on messages, by table.
    pub(super) async fn load(&self) -> [i64; 5] {
        [
            self.count("SELECT COUNT(*) FROM revisions").await,
            self.count("SELECT COUNT(*) FROM reactions").await,
            self.count("SELECT COUNT(*) FROM pins").await,
            self.count("SELECT COUNT(*) FROM votes").await,
            self.count(
                "SELECT COUNT(*) FROM events WHERE payload IS NOT NULL AND message_sequence IS NOT NULL",
            )
            .await,
        ]
    }

    pub(super) async fn contents(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM messages WHERE content IS NOT NULL OR details IS NOT NULL").await
    }

    /// A message as each way of reading shows it.
    pub(super) async fn seen(&self, reader: UserId, message: &Message) -> Vec<Message> {
        let (store, conversation) = (&self.store, message.conversation);
        let history = |order| History {
            user: reader,
            conversation,
            order,
            after: Sequence::NONE,
            before: Sequence::END,
            exclude_tombstones: false,
            start: None,
            end: None,
            limit: 1000,
        };
        let place = (conversation, message.sequence);
        let mut seen = vec![
            store.message(conversation, message.message_id).await.unwrap().unwrap(),
            store.message_for(reader, conversation, message.message_id).await.unwrap().unwrap(),
            store.last_messages(reader, &[place]).await.unwrap().remove(&conversation).unwrap(),
        ];
        seen.extend(store.history(&history(Order::NewestFirst)).await.unwrap().0);
        seen.extend(store.history(&history(Order::OldestFirst)).await.unwrap().0);
        let range = Range { conversation, after: Sequence::NONE, up_to: Sequence::END };
        let mut events = log_of(store, conversation).await;
        events.extend(store.events_of(&[range]).await.unwrap().remove(&conversation).unwrap());
        seen.extend(events.into_iter().filter_map(|event| match event.what {
            Happening::MessageCreated(message) | Happening::MessageEdited(message) => Some(message),
            _ => None,
        }));
        seen.retain(|one| one.message_id == message.message_id);
        seen
    }

    pub(super) async fn unread(&self, user: UserId, conversation: ConversationId) -> i64 {
        let wanted = Unread { conversation, after: Sequence::NONE, since: Timestamp::from_millis(0) };
        self.store.unread(user, &[wanted], 1000).await.unwrap().get(&conversation).copied().unwrap_or(0)
    }
}

pub(super) async fn sqlite() -> Option<(Scene, Scratch)> {
    let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    Some((Scene::new(database), scratch))
}

pub(super) async fn postgres() -> Option<(Scene, Scratch)> {
    let (database, scratch) = testing::postgres(&MIGRATOR, "messaging").await?;
    Some((Scene::new(database), scratch))
}

promises! {
    an_edit_keeps_what_was_said_before
    what_hangs_on_a_message_goes_with_it
    what_is_hidden_is_left_out_for_one_and_nobody_else
    hiding_again_adds_nothing
    what_is_purged_is_gone_at_once_in_every_way
    purging_again_changes_nothing_until_something_new_is_there
    what_is_purged_is_erased_bit_by_bit
}

pub(super) const DELETE: Change = Change::Delete(DeletionReason::Deleted);
pub(super) const UNSEND: Change = Change::Delete(DeletionReason::Unsent);

async fn an_edit_keeps_what_was_said_before(scene: Scene) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let store = &scene.store;
    let message = send(store, conversation, sender, "1").await;
    for (n, says) in ["2", "2", "3", "4"].into_iter().enumerate() {
        let now = later(n as i64);
        store.revise(&revision(&message, sender, edit(says)), &Access::member(), now).await.unwrap();
    }
    let versions = async |after, limit| {
        let found = store.revisions(conversation, message.sequence, after, limit).await.unwrap();
        found.into_iter().map(|one| (one.version, one.content, one.create_time)).collect::<Vec<_>>()
    };
    let expected = [(1, text("1"), NOW), (2, text("2"), NOW), (3, text("3"), later(2))];
    assert_eq!(versions(0, 10).await, expected);
    assert_eq!(versions(1, 1).await, expected[1..2]);
    assert!(versions(3, 10).await.is_empty());
    store.revise(&revision(&message, sender, UNSEND), &Access::member(), later(9)).await.unwrap();
    assert!(versions(0, 10).await.is_empty());
}

async fn what_hangs_on_a_message_goes_with_it(scene: Scene) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let kept = scene.laden(conversation, ann).await;
    assert_eq!(scene.load().await, [1; 5]);
    for change in [DELETE, UNSEND] {
        let gone = scene.laden(conversation, ann).await;
        assert_eq!(scene.load().await, [2; 5]);
        let revised =
            scene.store.revise(&revision(&gone, ann, change), &Access::member(), NOW).await.unwrap();
        assert!(revised.event.is_some());
        assert_eq!(scene.load().await, [1; 5]);
    }
    assert_eq!(scene.contents().await, 1);
    let message = scene.store.message(conversation, kept.message_id).await.unwrap().unwrap();
    assert_eq!(message.content, Some(text("second")));
    // What was told of the deleted ones reads as their deletion.
    let log = log_of(&scene.store, conversation).await;
    let deletions = log.iter().filter(|event| event.what.kind() == "message_deleted").count();
    assert_eq!(deletions, 4);
}

async fn what_is_hidden_is_left_out_for_one_and_nobody_else(scene: Scene) {
    let [here, empty] = [(); 2].map(|()| ConversationId::generate());
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let store = &scene.store;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(send(store, here, bob, &n.to_string()).await);
    }
    let only = send(store, empty, bob, "only").await;
    for message in [&sent[4], &sent[1], &only] {
        store.hide(ann, message.conversation, message.message_id, NOW).await.unwrap().unwrap();
    }
    let listed = async |user, order, limit| {
        let history = History {
            user,
            conversation: here,
            order,
            after: Sequence::NONE,
            before: Sequence::END,
            exclude_tombstones: false,
            start: None,
            end: None,
            limit,
        };
        let (messages, head) = store.history(&history).await.unwrap();
        assert_eq!(head.get(), 5);
        messages.into_iter().map(|message| message.sequence.get()).collect::<Vec<_>>()
    };
    assert_eq!(listed(ann, Order::NewestFirst, 2).await, [4, 3]);
    assert_eq!(listed(ann, Order::OldestFirst, 9).await, [1, 3, 4]);
    assert_eq!(listed(bob, Order::OldestFirst, 9).await, [1, 2, 3, 4, 5]);
    for (user, is_there) in [(ann, false), (bob, true)] {
        let found = store.message_for(user, here, sent[1].message_id).await.unwrap();
        assert_eq!(found.is_some(), is_there);
    }
    let places = [(here, Sequence::new(5)), (empty, Sequence::new(1))];
    let last = store.last_messages(ann, &places).await.unwrap();
    assert_eq!(last[&here].sequence.get(), 4);
    assert!(!last.contains_key(&empty));
    let last = store.last_messages(bob, &places).await.unwrap();
    assert_eq!((last[&here].sequence.get(), last[&empty].sequence.get()), (5, 1));
    let cy = UserId::generate();
    assert_eq!((scene.unread(ann, here).await, scene.unread(cy, here).await), (3, 5));
    // The log is the same for everybody.
    let shown = log_of(store, here).await;
    assert!(
        shown
            .iter()
            .all(|event| matches!(&event.what, Happening::MessageCreated(it) if it.content.is_some()))
    );
    // With the conversation goes what was hidden in it.
    store
        .apply(&Claim::forward("conversation", 0, 1), &[fact(here, FactKind::Deleted, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(scene.count("SELECT COUNT(*) FROM hidden_messages").await, 1);
    let late = store.hide(ann, here, sent[0].message_id, NOW).await;
    assert!(matches!(late, Err(Error::ConversationNotFound(_))));
}

async fn hiding_again_adds_nothing(scene: Scene) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let message = send(&scene.store, conversation, bob, "x").await;
    let mut work = JoinSet::new();
    for _ in 0..16 {
        let store = scene.store.clone();
        work.spawn(async move { store.hide(ann, conversation, message.message_id, NOW).await.unwrap() });
    }
    let mut events = Vec::new();
    while let Some(done) = work.join_next().await {
        events.extend(done.unwrap());
    }
    assert_eq!(events.len(), 1);
    let hidden = UserHappening::MessageHidden {
        conversation,
        message_id: message.message_id,
        sequence: message.sequence,
    };
    assert_eq!(events[0].what, hidden);
    assert_eq!(scene.store.user_events(ann, Sequence::NONE, 10).await.unwrap(), events);
    for (place, id) in
        [(conversation, MessageId::generate()), (ConversationId::generate(), message.message_id)]
    {
        let foreign = scene.store.hide(ann, place, id, NOW).await;
        assert!(matches!(foreign, Err(Error::MessageNotFound(found)) if found == id));
        assert!(place == conversation || scene.store.heads(&[place]).await.unwrap().is_empty());
    }
}

pub(super) const OWNER: Access = Access { owns: true, moderates: true, ..Access::member() };

async fn what_is_purged_is_gone_at_once_in_every_way(scene: Scene) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let store = &scene.store;
    let first = letter(conversation, bob, "secret", Some("k"));
    let message = append(store, std::slice::from_ref(&first)).await.remove(0).unwrap().message;
    store.revise(&revision(&message, bob, edit("secret too")), &Access::member(), NOW).await.unwrap();
    let deleted = send(store, conversation, bob, "deleted").await;
    let deleted =
        store.revise(&revision(&deleted, bob, DELETE), &Access::member(), later(1)).await.unwrap().message;
    assert_eq!(scene.unread(ann, conversation).await, 1);

    let purged = store.purge(conversation, ann, &OWNER, later(5)).await.unwrap();
    let event = purged.event.unwrap();
    assert_eq!((purged.up_to.get(), event.sequence.get(), event.actor), (4, 5, Some(ann)));
    let payload = pb::event::Payload::MessagesPurged(pb::MessagesPurged { up_to_sequence: 4 });
    let payload = prost::Message::encode_to_vec(&pb::Event { payload: Some(payload), ..Default::default() });
    assert_eq!(event.what, Happening::ToConversation { kind: FactKind::Purged, payload });
    assert_eq!(log_of(store, conversation).await[4], event);

    let tombstone = |one: &Message| {
        one.content.is_none()
            && one.deletion
                == Some(Deletion { time: later(5), by: Some(ann), reason: DeletionReason::Purged })
    };
    let seen = scene.seen(ann, &message).await;
    assert!(seen.len() >= 9 && seen.iter().all(tombstone), "{seen:?}");
    // How it went before stays as it was.
    assert!(scene.seen(ann, &deleted).await.iter().all(|one| *one == deleted));
    for outcome in [
        append(store, std::slice::from_ref(&first)).await.remove(0),
        store.earlier(&first).await.unwrap().unwrap(),
    ] {
        let again = outcome.unwrap();
        assert!(again.repeated && tombstone(&again.message));
    }
    assert_eq!(scene.unread(ann, conversation).await, 0);
    let late = store.revise(&revision(&message, bob, edit("x")), &Access::member(), later(6)).await;
    assert!(matches!(late, Err(Error::MessageDeleted(_))));
    let again = store.revise(&revision(&message, bob, DELETE), &Access::member(), later(6)).await.unwrap();
    assert!(again.event.is_none() && tombstone(&again.message));
    // What comes later is there.
    let next = send(store, conversation, bob, "next").await;
    assert!(scene.seen(ann, &next).await.iter().all(|one| one.content.is_some()));
    assert_eq!(scene.unread(ann, conversation).await, 1);
}

async fn purging_again_changes_nothing_until_something_new_is_there(scene: Scene) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let store = &scene.store;
    let purge = async |at| {
        let purged = store.purge(conversation, ann, &OWNER, at).await.unwrap();
        (purged.up_to.get(), purged.event.map(|event| event.sequence.get()))
    };
    assert_eq!(purge(NOW).await, (0, None));
    assert!(store.heads(&[conversation]).await.unwrap().is_empty());
    send(store, conversation, ann, "1").await;
    assert_eq!(purge(NOW).await, (1, Some(2)));
    assert_eq!(purge(later(1)).await, (1, None));
    let deleted = send(store, conversation, ann, "2").await;
    store.revise(&revision(&deleted, ann, DELETE), &Access::member(), later(1)).await.unwrap();
    assert_eq!(purge(later(2)).await, (1, None));
    send(store, conversation, ann, "3").await;
    assert_eq!(purge(later(3)).await, (5, Some(6)));
    assert_eq!(log_of(store, conversation).await.len(), 6);
    store
        .apply(&Claim::forward("conversation", 0, 1), &[fact(conversation, FactKind::Deleted, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    let late = store.purge(conversation, ann, &OWNER, NOW).await;
    assert!(matches!(late, Err(Error::ConversationNotFound(_))));
    assert!(store.purged_conversations(None, 10).await.unwrap().is_empty());
    assert_eq!(store.sweep_purged(conversation, 10).await.unwrap(), (0, false));
}

async fn what_is_purged_is_erased_bit_by_bit(scene: Scene) {
    let mut conversations = [(); 3].map(|()| ConversationId::generate());
    conversations.sort_unstable();
    let [one, two, whole] = conversations;
    let (ann, store) = (UserId::generate(), &scene.store);
    for conversation in conversations {
        for _ in 0..3 {
            scene.laden(conversation, ann).await;
        }
    }
    for conversation in [one, two] {
        store.purge(conversation, ann, &OWNER, later(7)).await.unwrap();
        send(store, conversation, ann, "later").await;
    }
    assert_eq!((scene.contents().await, scene.load().await), (11, [9; 5]));
    assert_eq!(store.purged_conversations(None, 10).await.unwrap(), [one, two]);
    assert_eq!(store.purged_conversations(Some(one), 10).await.unwrap(), [two]);
    assert_eq!(store.sweep_purged(one, 2).await.unwrap(), (2, true));
    assert_eq!((scene.contents().await, scene.load().await), (9, [7; 5]));
    assert_eq!(store.sweep_purged(one, 2).await.unwrap(), (1, false));
    assert_eq!(store.purged_conversations(None, 10).await.unwrap(), [two]);
    let mut work = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        work.spawn(async move { store.sweep_purged(two, 100).await.unwrap().0 });
    }
    let mut erased = 0;
    while let Some(done) = work.join_next().await {
        erased += done.unwrap();
    }
    assert_eq!(erased, 3);
    assert_eq!((scene.contents().await, scene.load().await), (5, [3; 5]));
    assert!(store.purged_conversations(None, 10).await.unwrap().is_empty());
    // The rows say now what the mask said before, and no event was added.
    let log = log_of(store, one).await;
    assert_eq!(log.len(), 8);
    let Happening::MessageCreated(tombstone) = &log[0].what else { panic!("{:?}", log[0]) };
    let deletion = Deletion { time: later(7), by: Some(ann), reason: DeletionReason::Purged };
    assert_eq!((tombstone.content.clone(), tombstone.deletion), (None, Some(deletion)));
    assert_eq!(log_of(store, whole).await.len(), 6);
}
