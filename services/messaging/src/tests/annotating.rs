//! Reactions, pins, votes: what people leave on messages.

use proto::conversation::v1::MemberRole;
use proto::id::MessageId;
use proto::messaging::v1::stream_events_response::Update;

use super::*;

pub const EMOJIS: [&str; 3] = ["👍", "👩‍👩‍👧", "1️⃣"];

/// A poll with three options.
pub fn poll(multiple_choice: bool, anonymous: bool) -> pb::Content {
    closing(multiple_choice, anonymous, None)
}

fn closing(multiple_choice: bool, anonymous: bool, close_time: Option<Timestamp>) -> pb::Content {
    let poll = pb::PollContent {
        question: "which?".to_owned(),
        options: ["a", "b", "c"].map(str::to_owned).to_vec(),
        multiple_choice,
        anonymous,
        close_time: close_time.map(Timestamp::to_proto),
    };
    pb::Content { kind: Some(pb::content::Kind::Poll(poll)), ..Default::default() }
}

/// A message, and how one does something to it.
pub(super) struct Marked<'a> {
    world: &'a World,
    conversation: ConversationId,
    pub(super) id: String,
}

pub(super) type Outcome = Result<pb::Message, Status>;

impl<'a> Marked<'a> {
    pub(super) async fn sent(
        world: &'a World,
        by: UserId,
        conversation: ConversationId,
        content: pb::Content,
    ) -> Self {
        let request = pb::SendMessageRequest { content: Some(content), ..to(conversation, "") };
        let id = world.send(by, request).await.unwrap().message.unwrap().message_id;
        Self { world, conversation, id }
    }

    pub(super) async fn text(world: &'a World, by: UserId, conversation: ConversationId) -> Self {
        Self::sent(world, by, conversation, content("hello").unwrap()).await
    }

    fn ids(&self) -> (String, String) {
        (self.conversation.to_string(), self.id.clone())
    }

    pub(super) async fn react(&self, by: UserId, emoji: &str) -> Outcome {
        let (conversation_id, message_id) = self.ids();
        let request = pb::AddReactionRequest { conversation_id, message_id, emoji: emoji.to_owned() };
        Ok(self.world.annotations().add_reaction(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn unreact(&self, by: UserId, emoji: &str) -> Outcome {
        let (conversation_id, message_id) = self.ids();
        let request = pb::RemoveReactionRequest { conversation_id, message_id, emoji: emoji.to_owned() };
        Ok(self.world.annotations().remove_reaction(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn pin(&self, by: UserId) -> Outcome {
        let (conversation_id, message_id) = self.ids();
        let request = pb::PinMessageRequest { conversation_id, message_id };
        Ok(self.world.annotations().pin_message(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn unpin(&self, by: UserId) -> Outcome {
        let (conversation_id, message_id) = self.ids();
        let request = pb::UnpinMessageRequest { conversation_id, message_id };
        Ok(self.world.annotations().unpin_message(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn vote(&self, by: UserId, places: &[i32]) -> Outcome {
        let (conversation_id, message_id) = self.ids();
        let request = pb::VotePollRequest { conversation_id, message_id, option_indexes: places.to_vec() };
        Ok(self.world.annotations().vote_poll(by.says(request)).await?.into_inner().message.unwrap())
    }

    pub(super) async fn close(&self, by: UserId) -> Outcome {
        let (conversation_id, message_id) = self.ids();
        let request = pb::ClosePollRequest { conversation_id, message_id };
        Ok(self.world.annotations().close_poll(by.says(request)).await?.into_inner().message.unwrap())
    }

    async fn reactions(
        &self,
        to: UserId,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListReactionsResponse, Status> {
        let (conversation_id, message_id) = self.ids();
        let page_token = page_token.to_owned();
        let request = pb::ListReactionsRequest { conversation_id, message_id, page_size, page_token };
        Ok(self.world.annotations().list_reactions(to.says(request)).await?.into_inner())
    }

    pub(super) async fn votes(
        &self,
        to: UserId,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListVotesResponse, Status> {
        let (conversation_id, message_id) = self.ids();
        let page_token = page_token.to_owned();
        let request = pb::ListVotesRequest { conversation_id, message_id, page_size, page_token };
        Ok(self.world.annotations().list_votes(to.says(request)).await?.into_inner())
    }

    async fn delete(&self, by: UserId) {
        let (conversation_id, message_id) = self.ids();
        let request = pb::DeleteMessageRequest { conversation_id, message_id };
        self.world.messaging().delete_message(by.says(request)).await.unwrap();
    }

    pub(super) async fn shown_to(&self, user: UserId) -> pb::Message {
        let (conversation_id, message_id) = self.ids();
        let request = pb::GetMessageRequest { conversation_id, message_id };
        self.world.messaging().get_message(user.says(request)).await.unwrap().into_inner().message.unwrap()
    }
}

impl World {
    async fn pinned(&self, to: UserId, conversation: ConversationId) -> Result<Vec<pb::Message>, Status> {
        let request = pb::ListPinnedMessagesRequest { conversation_id: conversation.to_string() };
        Ok(self.annotations().list_pinned_messages(to.says(request)).await?.into_inner().messages)
    }
}

fn counts(message: &pb::Message) -> Vec<(&str, i32)> {
    message.reactions.iter().map(|reaction| (reaction.emoji.as_str(), reaction.count)).collect()
}

fn left(reactions: &[&str], votes: &[i32]) -> Option<pb::ViewerState> {
    let reactions = reactions.iter().map(|emoji| (*emoji).to_owned()).collect();
    Some(pb::ViewerState { reactions, votes: votes.to_vec() })
}

fn result(counts: [i32; 3], voter_count: i32) -> pb::PollResult {
    pb::PollResult { counts: counts.to_vec(), voter_count, close_time: None }
}

#[track_caller]
fn refused_field<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str) {
    let fault = Fault::of(&outcome.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
    assert_eq!(fault.fields().iter().map(|field| field.0.as_str()).collect::<Vec<_>>(), [field]);
}

#[tokio::test]
async fn a_reaction_comes_once_and_goes() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let message = Marked::text(&world, ann, group).await;
    let first = message.react(ann, "👍").await.unwrap();
    assert_eq!((counts(&first), first.viewer.clone()), (vec![("👍", 1)], left(&["👍"], &[])));
    assert_eq!(message.react(ann, "👍").await.unwrap(), first);
    let both = message.react(bob, "👍").await.unwrap();
    assert_eq!((counts(&both), both.viewer.clone()), (vec![("👍", 2)], left(&["👍"], &[])));
    world.clock.advance(Duration::from_secs(1));
    message.react(bob, "🎉").await.unwrap();

    let all = message.reactions(ann, 0, "").await.unwrap().reactions;
    assert_eq!(all.len(), 3);
    assert_eq!((all[2].user_id.as_str(), all[2].emoji.as_str()), (bob.to_string().as_str(), "🎉"));
    assert_eq!(all[2].create_time, Some(world.clock.now().to_proto()));
    let page = message.reactions(ann, 2, "").await.unwrap();
    assert_eq!(page.reactions, all[..2]);
    let rest = message.reactions(ann, 2, &page.next_page_token).await.unwrap();
    assert_eq!((rest.reactions.as_slice(), rest.next_page_token.as_str()), (&all[2..], ""));
    // A token is of its reader and of its message.
    refused_field(message.reactions(bob, 2, &page.next_page_token).await, "page_token");
    let other = Marked::text(&world, ann, group).await;
    refused_field(other.reactions(ann, 2, &page.next_page_token).await, "page_token");

    let gone = message.unreact(ann, "👍").await.unwrap();
    assert_eq!((counts(&gone), gone.viewer.clone()), (vec![("👍", 1), ("🎉", 1)], None));
    assert_eq!(message.unreact(ann, "👍").await.unwrap(), gone);
    assert_eq!(counts(&message.unreact(bob, "👍").await.unwrap()), [("🎉", 1)]);
}

#[tokio::test]
async fn only_an_emoji_is_a_reaction_and_only_twenty_fit() {
    let world = World::start().await;
    let [ann] = world.people();
    let message = Marked::text(&world, ann, world.group(&[ann])).await;
    for bad in ["", "a", "1", " ", "👍👍", "\0", "\u{200d}", &"👍".repeat(17), &"x".repeat(1 << 19)] {
        refused_field(message.react(ann, bad).await, "emoji");
        refused_field(message.unreact(ann, bad).await, "emoji");
    }
    let mut emojis = ('🍇'..='🍳').map(String::from);
    for emoji in emojis.by_ref().take(20) {
        message.react(ann, &emoji).await.unwrap();
    }
    let one_more = message.react(ann, &emojis.next().unwrap()).await;
    assert_eq!(refusal(one_more), refused(Code::ResourceExhausted, "TOO_MANY_REACTIONS"));
    assert_eq!(message.reactions(ann, 100, "").await.unwrap().reactions.len(), 20);
}

#[tokio::test]
async fn pinned_messages_are_a_list_the_last_one_first() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(Marked::text(&world, ann, group).await);
    }
    for message in [&messages[1], &messages[0], &messages[2]] {
        world.clock.advance(Duration::from_secs(1));
        let pinned = message.pin(bob).await.unwrap();
        let pin = pb::Pin { user_id: bob.to_string(), pin_time: Some(world.clock.now().to_proto()) };
        assert_eq!(pinned.pin, Some(pin));
    }
    world.clock.advance(Duration::from_secs(1));
    let again = messages[1].pin(ann).await.unwrap();
    assert_eq!(again.pin.unwrap().user_id, bob.to_string(), "the first pin holds");
    messages[0].react(ann, "👍").await.unwrap();
    let list = world.pinned(ann, group).await.unwrap();
    let ids: Vec<_> = list.iter().map(|message| message.message_id.as_str()).collect();
    assert_eq!(ids, [&messages[2].id, &messages[0].id, &messages[1].id]);
    assert_eq!((list[1].viewer.clone(), list[0].viewer.clone()), (left(&["👍"], &[]), None));
    assert_eq!(messages[2].unpin(ann).await.unwrap().pin, None);
    messages[2].unpin(ann).await.unwrap();
    messages[1].delete(ann).await;
    assert_eq!(world.pinned(bob, group).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_vote_moves_goes_and_is_counted() {
    let world = World::start().await;
    let [ann, bob, cy] = world.people();
    let group = world.group(&[ann, bob, cy]);
    let message = Marked::sent(&world, ann, group, poll(false, false)).await;
    let voted = message.vote(bob, &[0]).await.unwrap();
    assert_eq!((voted.poll_result, voted.viewer), (Some(result([1, 0, 0], 1)), left(&[], &[0])));
    message.vote(cy, &[0]).await.unwrap();
    let moved = message.vote(bob, &[2]).await.unwrap();
    assert_eq!(
        (moved.poll_result.clone(), moved.viewer.clone()),
        (Some(result([1, 0, 1], 2)), left(&[], &[2]))
    );
    assert_eq!(message.vote(bob, &[2]).await.unwrap(), moved);

    let votes = message.votes(ann, 0, "").await.unwrap().votes;
    let mut expected = [(bob, vec![2]), (cy, vec![0])]
        .map(|(user, option_indexes)| pb::Vote { user_id: user.to_string(), option_indexes });
    expected.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    assert_eq!(votes, expected);
    let page = message.votes(ann, 1, "").await.unwrap();
    let rest = message.votes(ann, 1, &page.next_page_token).await.unwrap();
    assert_eq!(([page.votes, rest.votes].concat(), rest.next_page_token.as_str()), (votes, ""));
    refused_field(message.votes(bob, 1, &page.next_page_token).await, "page_token");

    let back = message.vote(bob, &[]).await.unwrap();
    assert_eq!((back.poll_result, back.viewer), (Some(result([1, 0, 0], 1)), None));
    for bad in [&[3][..], &[0, 1], &[0, 0], &[-1], &[20], &[i32::MAX]] {
        let fault = Fault::of(&message.vote(bob, bad).await.unwrap_err());
        assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
        assert!(fault.fields()[0].0.starts_with("option_indexes"), "{bad:?}");
    }
    let several = Marked::sent(&world, ann, group, poll(true, false)).await;
    let voted = several.vote(bob, &[2, 0]).await.unwrap();
    assert_eq!((voted.poll_result, voted.viewer), (Some(result([1, 0, 1], 1)), left(&[], &[0, 2])));

    let text = Marked::text(&world, ann, group).await;
    let no_poll = refused(Code::FailedPrecondition, "NOT_A_POLL");
    assert_eq!(refusal(text.vote(ann, &[0]).await), no_poll);
    assert_eq!(refusal(text.close(ann).await), no_poll);
    assert_eq!(refusal(text.votes(ann, 0, "").await), no_poll);
}

#[tokio::test]
async fn a_closed_poll_takes_no_votes() {
    let world = World::start().await;
    let [ann, bob, cy] = world.people();
    let group = world.group(&[ann, bob, cy]);
    world.has_heard(ann, 1).await;
    let closed = refused(Code::FailedPrecondition, "POLL_CLOSED");
    // By its author, and by a moderator, who is the owner here.
    for closer in [bob, ann] {
        let message = Marked::sent(&world, bob, group, poll(false, false)).await;
        message.vote(cy, &[1]).await.unwrap();
        let other = message.close(cy).await;
        assert_eq!(refusal(other), refused(Code::PermissionDenied, "NOT_AUTHOR"));
        let after = message.close(closer).await.unwrap();
        let close_time = Some(world.clock.now().to_proto());
        assert_eq!(after.poll_result, Some(pb::PollResult { close_time, ..result([0, 1, 0], 1) }));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(message.close(closer).await.unwrap(), after);
        assert_eq!(refusal(message.vote(cy, &[0]).await), closed);
        assert_eq!(refusal(message.vote(bob, &[0]).await), closed);
        assert_eq!(refusal(message.vote(cy, &[]).await), closed);
        assert_eq!(message.votes(bob, 0, "").await.unwrap().votes.len(), 1);
    }
    // By its time.
    let closes = world.clock.now().plus(Duration::from_secs(60));
    let message = Marked::sent(&world, bob, group, closing(false, false, Some(closes))).await;
    let voted = message.vote(cy, &[1]).await.unwrap();
    let expected = pb::PollResult { close_time: Some(closes.to_proto()), ..result([0, 1, 0], 1) };
    assert_eq!(voted.poll_result.as_ref(), Some(&expected));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refusal(message.vote(cy, &[0]).await), closed);
    let head = world.events(bob, group, 0).await.head_sequence;
    assert_eq!(message.close(bob).await.unwrap().poll_result, Some(expected));
    assert_eq!(world.events(bob, group, 0).await.head_sequence, head);
}

#[tokio::test]
async fn nobody_learns_who_voted_in_an_anonymous_poll() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let message = Marked::sent(&world, ann, group, poll(false, true)).await;
    let before = world.events(ann, group, 0).await.head_sequence;
    message.vote(bob, &[1]).await.unwrap();
    let events = world.events(ann, group, before).await.events;
    let shown = format!("{events:?}");
    assert!(!shown.contains(&bob.to_string()), "{shown}");
    assert_eq!(events.len(), 1);
    let anonymous = message.votes(ann, 0, "").await;
    assert_eq!(refusal(anonymous), refused(Code::FailedPrecondition, "POLL_ANONYMOUS"));
    assert_eq!(message.shown_to(bob).await.viewer, left(&[], &[1]));
    assert_eq!(message.shown_to(ann).await.viewer, None);
}

#[tokio::test]
async fn who_may_not_gets_the_same_refusal_everywhere() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let hers = world.group(&[eve]);
    let message = Marked::sent(&world, ann, group, poll(false, false)).await;
    message.react(ann, "👍").await.unwrap();
    world.others.set_role(group, bob, MemberRole::Muted);
    let muted = refused(Code::PermissionDenied, "WRITE_DENIED");
    let outside = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
    for (user, expected) in [(bob, &muted), (eve, &outside)] {
        assert_eq!(&refusal(message.react(user, "👍").await), expected);
        assert_eq!(&refusal(message.unreact(user, "👍").await), expected);
        assert_eq!(&refusal(message.pin(user).await), expected);
        assert_eq!(&refusal(message.unpin(user).await), expected);
        assert_eq!(&refusal(message.vote(user, &[0]).await), expected);
    }
    assert_eq!(refusal(message.close(bob).await), refused(Code::PermissionDenied, "NOT_AUTHOR"));
    assert_eq!(refusal(message.close(eve).await), outside);
    // The muted one reads all the same.
    assert_eq!(message.reactions(bob, 0, "").await.unwrap().reactions.len(), 1);
    assert!(message.votes(bob, 0, "").await.is_ok() && world.pinned(bob, group).await.is_ok());
    assert_eq!(refusal(message.reactions(eve, 0, "").await), outside);
    assert_eq!(refusal(message.votes(eve, 0, "").await), outside);
    assert_eq!(refusal(world.pinned(eve, group).await), outside);

    // A message is found in its own conversation only.
    let absent = refused(Code::NotFound, "MESSAGE_NOT_FOUND");
    let foreign = Marked { conversation: hers, id: message.id.clone(), world: &world };
    let unknown = Marked { conversation: hers, id: MessageId::generate().to_string(), world: &world };
    for message in [foreign, unknown] {
        assert_eq!(refusal(message.react(eve, "👍").await), absent);
        assert_eq!(refusal(message.unreact(eve, "👍").await), absent);
        assert_eq!(refusal(message.pin(eve).await), absent);
        assert_eq!(refusal(message.unpin(eve).await), absent);
        assert_eq!(refusal(message.vote(eve, &[0]).await), absent);
        assert_eq!(refusal(message.close(eve).await), absent);
        assert_eq!(refusal(message.reactions(eve, 0, "").await), absent);
        assert_eq!(refusal(message.votes(eve, 0, "").await), absent);
    }
}

#[tokio::test]
async fn what_is_gone_shows_nothing_and_takes_nothing() {
    let world = World::sweeping(ending::ALWAYS).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let deleted = Marked::sent(&world, ann, group, poll(false, false)).await;
    let request = pb::SendMessageRequest {
        content: Some(poll(false, false)),
        expire_after: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..to(group, "")
    };
    let id = world.send(ann, request).await.unwrap().message.unwrap().message_id;
    let expired = Marked { world: &world, conversation: group, id };
    for message in [&deleted, &expired] {
        message.react(bob, "👍").await.unwrap();
        message.vote(bob, &[1]).await.unwrap();
        message.pin(bob).await.unwrap();
    }
    deleted.delete(ann).await;
    world.clock.advance(Duration::from_secs(5));
    // The sweeper tells of the expired one; from then on nothing moves the head.
    let is_expiry = |event: &pb::Event| match &event.payload {
        Some(pb::event::Payload::MessageDeleted(deleted)) => deleted.reason() == pb::DeletionReason::Expired,
        _ => false,
    };
    while !world.events(ann, group, 0).await.events.last().is_some_and(is_expiry) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let head = world.events(ann, group, 0).await.head_sequence;
    let gone = refused(Code::FailedPrecondition, "MESSAGE_DELETED");
    for message in [&deleted, &expired] {
        let shown = message.shown_to(bob).await;
        assert!(shown.content.is_none() && shown.reactions.is_empty() && shown.pin.is_none());
        assert_eq!((&shown.poll_result, &shown.viewer), (&None, &None));
        assert_eq!(message.reactions(bob, 0, "").await.unwrap(), pb::ListReactionsResponse::default());
        assert_eq!(refusal(message.votes(bob, 0, "").await), gone);
        assert_eq!(refusal(message.react(bob, "👍").await), gone);
        assert_eq!(refusal(message.unreact(bob, "👍").await), gone);
        assert_eq!(refusal(message.pin(bob).await), gone);
        assert_eq!(refusal(message.vote(bob, &[0]).await), gone);
        assert_eq!(refusal(message.close(ann).await), gone);
        // It left the list with all the rest.
        assert_eq!(message.unpin(bob).await.unwrap(), shown);
    }
    assert!(world.pinned(bob, group).await.unwrap().is_empty());
    let events = world.events(ann, group, 0).await;
    assert_eq!(events.head_sequence, head, "{:?}", events.events.last());
    let events = world.events(bob, group, 0).await.events;
    let shown = format!("{events:?}");
    assert!(
        !shown.contains("👍") && !shown.contains("poll_voted") && !shown.contains("PollVoted"),
        "{shown}"
    );
}

#[tokio::test]
async fn each_sees_in_every_list_what_it_did_itself() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let plain = Marked::text(&world, ann, group).await;
    let message = Marked::text(&world, ann, group).await;
    let question = Marked::sent(&world, ann, group, poll(true, true)).await;
    message.react(ann, "🎉").await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    message.react(ann, "👍").await.unwrap();
    message.react(bob, "👍").await.unwrap();
    question.vote(bob, &[2, 1]).await.unwrap();
    question.react(bob, "1️⃣").await.unwrap();
    question.pin(ann).await.unwrap();
    let expected = [
        (ann, [None, left(&["🎉", "👍"], &[]), None]),
        (bob, [None, left(&["👍"], &[]), left(&["1️⃣"], &[1, 2])]),
    ];
    for (user, viewers) in expected {
        let request = pb::ListMessagesRequest { conversation_id: group.to_string(), ..Default::default() };
        let mut messages = world.list(user, request).await.unwrap().messages;
        messages.reverse();
        let listed: Vec<_> = messages.iter().map(|message| message.viewer.clone()).collect();
        assert_eq!(listed, viewers);
        for (message, viewer) in [&plain, &message, &question].into_iter().zip(&viewers) {
            assert_eq!(&message.shown_to(user).await.viewer, viewer);
        }
        let inbox = world.sync().list_inbox(user.says(pb::ListInboxRequest::default())).await.unwrap();
        let last = inbox.into_inner().entries.remove(0).last_message.unwrap();
        assert_eq!((&last.message_id, &last.viewer), (&question.id, &viewers[2]));
        assert_eq!(world.pinned(user, group).await.unwrap()[0].viewer, viewers[2]);
        let events = world.events(user, group, 0).await.events;
        assert!(!format!("{events:?}").contains("ViewerState"), "events are the same for everybody");
    }
    let request = pb::EditMessageRequest {
        conversation_id: group.to_string(),
        message_id: message.id.clone(),
        content: content("new"),
        ..Default::default()
    };
    let edited =
        world.messaging().edit_message(ann.says(request)).await.unwrap().into_inner().message.unwrap();
    assert_eq!(edited.viewer, left(&["🎉", "👍"], &[]));
}

/// What was done, as a word.
fn word(event: &pb::Event) -> String {
    use pb::event::Payload;
    match event.payload.as_ref().unwrap() {
        Payload::ReactionChanged(change) if change.added => format!("{} {}", change.emoji, change.count),
        Payload::ReactionChanged(change) => format!("no {} {}", change.emoji, change.count),
        Payload::MessagePinned(_) => "pinned".to_owned(),
        Payload::MessageUnpinned(_) => "unpinned".to_owned(),
        Payload::PollVoted(voted) => format!("voted {:?}", voted.result.as_ref().unwrap().counts),
        Payload::PollClosed(closed) => format!("closed {:?}", closed.result.as_ref().unwrap().counts),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_follows_hears_of_each_once_and_in_order() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let message = Marked::sent(&world, ann, group, poll(false, false)).await;
    let head = world.events(bob, group, 0).await.head_sequence;
    let heads = vec![pb::Head { conversation_id: group.to_string(), sequence: head }];
    let request = bob.says(pb::StreamEventsRequest { heads });
    let mut stream = world.sync().stream_events(request).await.unwrap().into_inner();
    for _ in 0..2 {
        // Each twice: the second time nothing happens.
        message.react(ann, "👍").await.unwrap();
    }
    message.react(bob, "👍").await.unwrap();
    for _ in 0..2 {
        message.unreact(ann, "👍").await.unwrap();
        message.pin(ann).await.unwrap();
    }
    for _ in 0..2 {
        message.unpin(ann).await.unwrap();
        message.vote(bob, &[0]).await.unwrap();
    }
    message.vote(bob, &[2]).await.unwrap();
    message.vote(bob, &[]).await.unwrap();
    for _ in 0..2 {
        message.close(ann).await.unwrap();
    }
    let expected = [
        "👍 1",
        "👍 2",
        "no 👍 1",
        "pinned",
        "unpinned",
        "voted [1, 0, 0]",
        "voted [0, 0, 1]",
        "voted [0, 0, 0]",
        "closed [0, 0, 0]",
    ];
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("something in time");
        if let Update::Event(event) = next.unwrap().expect("the stream goes on").update.unwrap() {
            assert_eq!(event.sequence, head + 1 + heard.len() as i64);
            heard.push(event);
        }
    }
    assert_eq!(heard.iter().map(word).collect::<Vec<_>>(), expected);
    let actors: Vec<_> = heard.iter().map(|event| event.actor_user_id.clone()).collect();
    let [ann, bob] = [ann.to_string(), bob.to_string()];
    assert_eq!(actors, [&ann, &bob, &ann, &ann, &ann, &bob, &bob, &bob, &ann].map(Clone::clone));
    // Who was away reads the same.
    let missed = world.events(UserId::parse(&bob).unwrap(), group, head).await.events;
    assert_eq!(missed, heard);
}
