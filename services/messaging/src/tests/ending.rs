//! Taking back, hiding, purging, and what a message said before.

use proto::conversation::v1::MemberRole;
use proto::id::MessageId;
use proto::messaging::v1::DeletionReason;

use super::streaming::Reader;
use super::*;

/// A world whose sweepers have only looked once, at the start, and one whose sweepers look all the time.
pub const NEVER: Duration = Duration::from_secs(3600);
pub const ALWAYS: Duration = Duration::from_millis(10);

/// The settings of such a world.
pub fn sweeps(every: Duration) -> Config {
    Config { sweep_every: every, expiry_every: every, ..Config::default() }
}

impl World {
    pub(super) async fn sweeping(every: Duration) -> Self {
        Self::with(sweeps(every)).await
    }

    pub(super) async fn get(&self, by: UserId, message: &pb::Message) -> Result<pb::Message, Status> {
        let (conversation_id, message_id) = (message.conversation_id.clone(), message.message_id.clone());
        let request = pb::GetMessageRequest { conversation_id, message_id };
        Ok(self.messaging().get_message(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn edit(
        &self,
        by: UserId,
        message: &pb::Message,
        says: &str,
    ) -> Result<pb::Message, Status> {
        let request = pb::EditMessageRequest {
            conversation_id: message.conversation_id.clone(),
            message_id: message.message_id.clone(),
            content: content(says),
            expected_version: 0,
        };
        Ok(self.messaging().edit_message(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn unsend(&self, by: UserId, message: &pb::Message) -> Result<pb::Message, Status> {
        let (conversation_id, message_id) = (message.conversation_id.clone(), message.message_id.clone());
        let request = pb::UnsendMessageRequest { conversation_id, message_id };
        Ok(self.messaging().unsend_message(by.says(request)).await?.into_inner().message.unwrap())
    }

    async fn hide(&self, by: UserId, message: &pb::Message) -> Result<pb::HideMessageResponse, Status> {
        let (conversation_id, message_id) = (message.conversation_id.clone(), message.message_id.clone());
        let request = pb::HideMessageRequest { conversation_id, message_id };
        Ok(self.messaging().hide_message(by.says(request)).await?.into_inner())
    }

    pub(super) async fn purge(&self, by: UserId, conversation: ConversationId) -> Result<i64, Status> {
        let request = pb::PurgeMessagesRequest { conversation_id: conversation.to_string() };
        Ok(self.messaging().purge_messages(by.says(request)).await?.into_inner().up_to_sequence)
    }

    async fn revisions(
        &self,
        by: UserId,
        message: &pb::Message,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListRevisionsResponse, Status> {
        let request = pb::ListRevisionsRequest {
            conversation_id: message.conversation_id.clone(),
            message_id: message.message_id.clone(),
            page_size,
            page_token: page_token.to_owned(),
        };
        Ok(self.messaging().list_revisions(by.says(request)).await?.into_inner())
    }

    pub(super) async fn sees(&self, by: UserId, conversation: ConversationId) -> Vec<pb::Message> {
        let request =
            pb::ListMessagesRequest { conversation_id: conversation.to_string(), ..Default::default() };
        self.list(by, request).await.unwrap().messages
    }

    pub(super) async fn inbox(&self, by: UserId) -> Vec<pb::InboxEntry> {
        self.sync().list_inbox(by.says(pb::ListInboxRequest::default())).await.unwrap().into_inner().entries
    }

    pub(super) async fn unread(&self, by: UserId) -> i32 {
        let request = by.says(pb::GetUnreadCountsRequest {});
        self.messaging().get_unread_counts(request).await.unwrap().into_inner().total
    }
}

fn elsewhere(message: &pb::Message, conversation: ConversationId) -> pb::Message {
    pb::Message { conversation_id: conversation.to_string(), ..message.clone() }
}

#[tokio::test]
async fn what_is_unsent_leaves_nothing_but_its_tombstone() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let message = world.says(bob, group, "a slip").await;
    world.edit(bob, &message, "a worse slip").await.unwrap();
    // A moderator deletes; only the author takes back.
    assert_eq!(refusal(world.unsend(ann, &message).await), refused(Code::PermissionDenied, "NOT_AUTHOR"));
    assert_eq!(refusal(world.unsend(eve, &message).await), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let foreign = elsewhere(&message, world.group(&[bob]));
    assert_eq!(refusal(world.unsend(bob, &foreign).await), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));

    let tombstone = world.unsend(bob, &message).await.unwrap();
    assert_eq!(tombstone.delete_reason(), DeletionReason::Unsent);
    assert_eq!((tombstone.content.clone(), tombstone.deleted_by_user_id.clone()), (None, bob.to_string()));
    assert_eq!(world.unsend(bob, &message).await.unwrap(), tombstone);
    assert_eq!(world.get(ann, &message).await.unwrap(), tombstone);
    assert_eq!(world.sees(ann, group).await, [tombstone]);
    let log = world.events(ann, group, 0).await;
    assert!(!format!("{log:?}").contains("slip"));
    assert_eq!(log.head_sequence, 4);
    let Some(pb::event::Payload::MessageDeleted(deleted)) = &log.events[3].payload else { panic!("{log:?}") };
    assert_eq!(deleted.reason(), DeletionReason::Unsent);
    let gone = world.revisions(ann, &message, 0, "").await;
    assert_eq!(refusal(gone), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    assert_eq!(
        refusal(world.edit(bob, &message, "x").await),
        refused(Code::FailedPrecondition, "MESSAGE_DELETED")
    );
    assert_eq!(world.unread(ann).await, 0);
}

#[tokio::test]
async fn members_read_what_a_message_said_before() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let message = world.says(bob, group, "1").await;
    assert!(world.revisions(ann, &message, 0, "").await.unwrap().revisions.is_empty());
    for says in ["2", "3", "4"] {
        world.clock.advance(Duration::from_secs(1));
        world.edit(bob, &message, says).await.unwrap();
    }
    let first = world.revisions(ann, &message, 2, "").await.unwrap();
    let second = world.revisions(ann, &message, 2, &first.next_page_token).await.unwrap();
    assert_eq!(second.next_page_token, "");
    let all: Vec<_> = first.revisions.iter().chain(&second.revisions).cloned().collect();
    let expected: Vec<_> = ["1", "2", "3"].into_iter().map(content).collect();
    assert_eq!(all.iter().map(|one| one.content.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(all.iter().map(|one| one.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(all[0].create_time, message.create_time);
    assert_eq!(all[2].create_time.unwrap().seconds, message.create_time.unwrap().seconds + 2);

    let stranger = world.revisions(eve, &message, 0, "").await;
    assert_eq!(refusal(stranger), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let foreign = world.revisions(bob, &elsewhere(&message, world.group(&[bob])), 0, "").await;
    assert_eq!(refusal(foreign), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    let other = world.says(bob, group, "other").await;
    for (reader, place) in [(bob, &message), (ann, &other)] {
        let fault = Fault::of(&world.revisions(reader, place, 2, &first.next_page_token).await.unwrap_err());
        assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "page_token"));
    }
    assert_eq!(world.purge(ann, group).await.unwrap(), other.sequence);
    let gone = world.revisions(ann, &message, 0, "").await;
    assert_eq!(refusal(gone), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
}

#[tokio::test]
async fn what_one_hides_others_see() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let first = world.says(bob, group, "first").await;
    let last = world.says(bob, group, "last").await;
    let mut reader = Reader::open(&world, ann, &[(group, 3)]).await;
    assert!(reader.missed().await.is_empty());
    world.hide(ann, &last).await.unwrap();
    world.hide(ann, &last).await.unwrap();
    reader.expects(&[&format!("hidden {}", last.sequence)]).await;

    assert_eq!(refusal(world.get(ann, &last).await), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    let unseen = world.revisions(ann, &last, 0, "").await;
    assert_eq!(refusal(unseen), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert_eq!(world.sees(ann, group).await, std::slice::from_ref(&first));
    assert_eq!(world.sees(bob, group).await, [last.clone(), first.clone()]);
    assert_eq!(world.get(bob, &last).await.unwrap(), last);
    assert_eq!(world.inbox(ann).await[0].last_message, Some(first.clone()));
    assert_eq!((world.inbox(ann).await[0].unread_count, world.unread(ann).await), (1, 1));
    assert_eq!(world.inbox(bob).await[0].last_message, Some(last.clone()));
    let hidden = |event: &pb::UserEvent| match event.payload.as_ref().unwrap() {
        pb::user_event::Payload::MessageHidden(hidden) => Some(hidden.clone()),
        _ => None,
    };
    let own: Vec<_> = world.user_events(ann).await.iter().filter_map(hidden).collect();
    let expected = pb::MessageHidden {
        conversation_id: group.to_string(),
        message_id: last.message_id.clone(),
        message_sequence: last.sequence,
    };
    assert_eq!(own, [expected]);
    // The log is the same for both.
    assert_eq!(world.events(ann, group, 0).await, world.events(bob, group, 0).await);
    // It can still be read up to it.
    assert_eq!(refusal(world.hide(eve, &first).await), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let foreign = elsewhere(&first, world.group(&[ann]));
    assert_eq!(refusal(world.hide(ann, &foreign).await), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert_eq!(world.user_events(bob).await.iter().filter_map(hidden).count(), 0);
}

#[tokio::test]
async fn the_owner_empties_a_conversation() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob, cy, eve] = world.people();
    let group = world.group(&[ann, bob, cy]);
    world.has_heard(bob, 1).await;
    world.others.set_role(group, cy, MemberRole::Moderator);
    let message = world.says(bob, group, "one").await;
    world.edit(bob, &message, "two").await.unwrap();
    for by in [bob, cy] {
        assert_eq!(refusal(world.purge(by, group).await), refused(Code::PermissionDenied, "NOT_OWNER"));
    }
    assert_eq!(refusal(world.purge(eve, group).await), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    // Nobody owns what two people say to each other.
    let direct = world.others.create(ConversationKind::Direct, &[ann, bob]);
    assert_eq!(refusal(world.purge(ann, direct).await), refused(Code::PermissionDenied, "NOT_OWNER"));
    assert_eq!(world.unread(cy).await, 1);

    let mut reader = Reader::open(&world, bob, &[(group, 3)]).await;
    assert!(reader.missed().await.is_empty());
    assert_eq!(world.purge(ann, group).await.unwrap(), 3);
    reader.expects(&["4 purged 3"]).await;
    let [tombstone] = world.sees(cy, group).await.try_into().unwrap();
    assert_eq!((tombstone.content.clone(), tombstone.delete_reason()), (None, DeletionReason::Purged));
    assert_eq!(tombstone.deleted_by_user_id, ann.to_string());
    assert_eq!((world.unread(cy).await, world.inbox(cy).await[0].unread_count), (0, 0));
    assert_eq!(world.purge(ann, group).await.unwrap(), 3);
    assert_eq!(world.events(ann, group, 0).await.head_sequence, 4);

    let next = world.says(bob, group, "a new beginning").await;
    eventually(async || swept(&world, group).await).await;
    assert_eq!(world.sees(cy, group).await, [next, tombstone]);
    // Erasing adds nothing to the log.
    assert_eq!(world.events(ann, group, 0).await.head_sequence, 5);
}

/// Whether everything that was purged from a conversation has been erased.
async fn swept(world: &World, conversation: ConversationId) -> bool {
    let store = crate::store::Store::new(world.database.clone(), world.clock.clone());
    !store.purged_conversations(None, 100).await.unwrap().contains(&conversation)
}

#[tokio::test]
async fn a_watermark_moves_by_messages_too() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let mut sent = Vec::new();
    for says in ["2", "3", "4", "5"] {
        sent.push(world.says(ann, group, says).await);
    }
    let advance = async |by: UserId, read_sequence, read: &str, delivered: &str| {
        let request = pb::AdvanceWatermarkRequest {
            conversation_id: group.to_string(),
            read_sequence,
            delivered_sequence: 0,
            read_message_id: read.to_owned(),
            delivered_message_id: delivered.to_owned(),
        };
        let answer = world.messaging().advance_watermark(by.says(request)).await?;
        let watermark = answer.into_inner().watermark.unwrap();
        Ok::<_, Status>((watermark.read_sequence, watermark.delivered_sequence))
    };
    let id = |n: usize| sent[n - 2].message_id.as_str();
    assert_eq!(advance(bob, 0, id(2), id(3)).await.unwrap(), (2, 3));
    // The higher one counts, whichever it is.
    assert_eq!(advance(bob, 4, id(3), "").await.unwrap(), (4, 4));
    assert_eq!(advance(bob, 1, id(2), "").await.unwrap(), (4, 4));
    world.unsend(ann, &sent[3]).await.unwrap();
    assert_eq!(advance(bob, 1, id(5), "").await.unwrap(), (5, 5));
    let foreign = world.says(bob, world.group(&[bob]), "elsewhere").await.message_id;
    for unknown in [foreign, MessageId::generate().to_string()] {
        for (read, delivered) in [(unknown.as_str(), ""), ("", unknown.as_str())] {
            let outcome = advance(bob, 9, read, delivered).await;
            assert_eq!(refusal(outcome), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
        }
    }
    let stranger = advance(eve, 0, id(2), "").await;
    assert_eq!(refusal(stranger), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let malformed = advance(bob, 0, "x", "").await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
}
