//! What a client makes of the log: the messages as it shows them, from what it knew before and the events since.

use std::collections::{BTreeMap, BTreeSet};

use proto::messaging::v1::event::Payload;

use super::*;

/// A client's picture of one conversation.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    head: i64,
    messages: BTreeMap<String, pb::Message>,
    /// Who left what on which message, as far as the events since the beginning tell.
    marks: BTreeMap<(String, String), Left>,
}

/// What a person left on a message.
#[derive(Clone, Debug, Default, PartialEq)]
struct Left {
    reactions: BTreeSet<String>,
    votes: Vec<i32>,
}

impl Fold {
    /// Begins with messages that were read when the log had come so far.
    pub fn from(head: i64, messages: Vec<pb::Message>) -> Self {
        let messages = messages.into_iter().map(|message| (message.message_id.clone(), message));
        Self { head, messages: messages.collect(), marks: BTreeMap::new() }
    }

    /// How far it has come.
    pub const fn head(&self) -> i64 {
        self.head
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &pb::Event) {
        assert_eq!(event.sequence, self.head + 1, "the next event is the next in order");
        self.head = event.sequence;
        match event.payload.clone().expect("something happened") {
            Payload::MessageCreated(message) | Payload::MessageEdited(message) => {
                assert_eq!(message.viewer, None, "an event is the same for everybody");
                self.messages.insert(message.message_id.clone(), message);
            }
            Payload::MessageDeleted(deleted) => self.delete(&deleted.message_id, deleted.reason),
            Payload::MessagesPurged(purged) => {
                let gone = |message: &&pb::Message| message.sequence <= purged.up_to_sequence;
                let gone: Vec<_> =
                    self.messages.values().filter(gone).map(|one| one.message_id.clone()).collect();
                gone.iter().for_each(|id| self.delete(id, pb::DeletionReason::Purged.into()));
            }
            Payload::ReactionChanged(change) => self.react(&change),
            Payload::MessagePinned(pinned) => self.message(&pinned.message_id).pin = pinned.pin,
            Payload::MessageUnpinned(unpinned) => self.message(&unpinned.message_id).pin = None,
            Payload::PollVoted(voted) => {
                if !voted.user_id.is_empty() {
                    let left = self.marks.entry((voted.message_id.clone(), voted.user_id)).or_default();
                    left.votes = voted.option_indexes;
                }
                self.message(&voted.message_id).poll_result = voted.result;
            }
            Payload::PollClosed(closed) => self.message(&closed.message_id).poll_result = closed.result,
            Payload::LinkPreviewed(seen) => self.message(&seen.message_id).link_preview = seen.preview,
            Payload::ConversationCreated(_)
            | Payload::ConversationUpdated(_)
            | Payload::ConversationDeleted(_)
            | Payload::MembersAdded(_)
            | Payload::MemberRemoved(_)
            | Payload::MemberRoleChanged(_) => {}
        }
    }

    /// Asserts that it shows the same as the service shows to a user.
    #[track_caller]
    pub fn expect(&self, actual: &pb::Message) {
        assert_eq!(self.messages.get(&actual.message_id).map(common), Some(common(actual)));
    }

    /// Asserts that the service knows what this user left on a message, when all events since the beginning were seen.
    #[track_caller]
    pub fn expect_viewer(&self, user: UserId, actual: &pb::Message) {
        let mut left =
            self.marks.get(&(actual.message_id.clone(), user.to_string())).cloned().unwrap_or_default();
        let viewer = actual.viewer.clone().unwrap_or_default();
        if is_anonymous(actual) {
            left.votes.clone_from(&viewer.votes);
        }
        assert_eq!(left, Left { reactions: viewer.reactions.into_iter().collect(), votes: viewer.votes });
    }

    fn message(&mut self, id: &str) -> &mut pb::Message {
        self.messages.get_mut(id).expect("the message came before what was done to it")
    }

    fn react(&mut self, change: &pb::ReactionChanged) {
        let left = self.marks.entry((change.message_id.clone(), change.user_id.clone())).or_default();
        if change.added {
            left.reactions.insert(change.emoji.clone());
        } else {
            left.reactions.remove(&change.emoji);
        }
        let reactions = &mut self.message(&change.message_id).reactions;
        let is_new = change.added && change.count == 1;
        if is_new || change.count == 0 {
            reactions.retain(|reaction| reaction.emoji != change.emoji);
        }
        match reactions.iter_mut().find(|reaction| reaction.emoji == change.emoji) {
            Some(reaction) => reaction.count = change.count,
            None if change.count == 0 => {}
            None => reactions.push(pb::ReactionCount { emoji: change.emoji.clone(), count: change.count }),
        }
    }

    fn delete(&mut self, id: &str, reason: i32) {
        self.marks.retain(|(message, _), _| message != id);
        let message = self.message(id);
        if message.delete_reason == i32::from(pb::DeletionReason::Unspecified) {
            *message = pb::Message { delete_reason: reason, ..tombstone(message) };
        }
    }
}

/// What everybody sees of a message. When one went, and by whom, the log says with its last word only: whatever was done
/// to it before reads as its deletion, too.
fn common(message: &pb::Message) -> pb::Message {
    let message = match message.delete_reason() {
        pb::DeletionReason::Unspecified => message.clone(),
        _ => pb::Message { delete_time: None, deleted_by_user_id: String::new(), ..message.clone() },
    };
    pb::Message { viewer: None, ..message }
}

fn tombstone(message: &pb::Message) -> pb::Message {
    pb::Message {
        content: None,
        forwarded_from: None,
        mentioned_user_ids: Vec::new(),
        reactions: Vec::new(),
        pin: None,
        poll_result: None,
        link_preview: None,
        ..message.clone()
    }
}

fn is_anonymous(message: &pb::Message) -> bool {
    match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(pb::content::Kind::Poll(poll)) => poll.anonymous,
        _ => false,
    }
}
