//! What somebody wants to change about a message that is there, and the rules about it.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::DeletionReason;

use crate::content::Content;
use crate::conversations::Access;
use crate::details::Details;
use crate::error::Error;
use crate::event::Happening;
use crate::marks::{Beside, Mark};
use crate::message::{Deletion, Message};

/// What somebody wants to change about a message that is there.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Where it is.
    pub conversation: ConversationId,
    /// Which one.
    pub message_id: MessageId,
    /// Who wants it.
    pub by: UserId,
    /// What.
    pub change: Change,
    /// Whom the new content mentions.
    pub mentions: Vec<UserId>,
    /// A registered key of the editor has signed the new content. Known once the content was examined.
    pub is_signed: bool,
}

/// What is to become of a message.
#[derive(Clone, Debug)]
pub enum Change {
    /// It gets new content.
    Edit {
        /// What it says from now on.
        content: Content,
        /// The version that the editor saw; `None` for any.
        expected_version: Option<i32>,
    },
    /// Its content goes, in this way.
    Delete(DeletionReason),
    /// Somebody leaves a mark on it, or takes one away.
    Mark(Mark),
}

impl Revision {
    /// The message after the change; `None` when the change has been made before, so that a retry is safe.
    pub fn apply(
        &self,
        message: &Message,
        beside: &Beside,
        access: &Access,
        now: Timestamp,
    ) -> Result<Option<Message>, Error> {
        match &self.change {
            Change::Mark(mark) => mark.apply(self.by, message, beside, access, now),
            Change::Edit { content, expected_version } => {
                if message.sender != self.by {
                    return Err(Error::NotAuthor(self.message_id));
                }
                access.check_writing(self.conversation)?;
                let Some(before) = &message.content else {
                    return Err(Error::MessageDeleted(self.message_id));
                };
                // Nothing but the message that waits reaches one who has not said yes.
                if !beside.is_request || access.request_unheard {
                    access.check_contact(self.conversation)?;
                }
                access.check_secrecy(self.conversation, content, self.is_signed)?;
                // The words of a copy are another's, whom it names.
                if message.details.origin.is_some() || !before.may_become(content) {
                    return Err(Error::NotEditable(self.message_id));
                }
                if before == content {
                    return Ok(None);
                }
                if expected_version.is_some_and(|expected| expected != message.version) {
                    return Err(Error::VersionMismatch {
                        message_id: self.message_id,
                        version: message.version,
                    });
                }
                let version = message.version.saturating_add(1);
                let kept = message.details.of_edit(content);
                let details = Details { mentions: self.mentions.clone(), ..kept };
                let content = Some(content.clone());
                Ok(Some(Message { content, version, edit_time: Some(now), details, ..message.clone() }))
            }
            Change::Delete(reason) => {
                let may =
                    message.sender == self.by || (access.moderates && *reason == DeletionReason::Deleted);
                if !may {
                    return Err(Error::NotAuthor(self.message_id));
                }
                if message.deletion.is_some() {
                    return Ok(None);
                }
                let deletion = Deletion { time: now, by: Some(self.by), reason: *reason };
                Ok(Some(message.clone().tombstone(deletion)))
            }
        }
    }

    /// What the log says of it, once the message is this.
    pub fn happening(&self, after: &Message) -> Happening {
        match (&self.change, after.deletion) {
            (Change::Mark(mark), _) => mark.happening(self.by, after),
            (_, Some(Deletion { reason, .. })) => {
                Happening::MessageDeleted { message_id: after.message_id, sequence: after.sequence, reason }
            }
            (_, None) => Happening::MessageEdited(after.clone()),
        }
    }

    /// Whom the log names for it.
    pub fn actor(&self, after: &Message) -> Option<UserId> {
        match &self.change {
            Change::Mark(mark) => mark.actor(self.by, after),
            Change::Edit { .. } | Change::Delete(_) => Some(self.by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Draft, Letter, Sequence, Target};
    use proto::id::UserId;

    fn text(says: &str) -> Content {
        Content::text(says)
    }

    fn message(sender: UserId) -> Message {
        let draft = Draft {
            target: Target::Person(sender),
            content: text("hello"),
            client_message_id: None,
            reply_to: None,
            lifetime: None,
            scheduled_time: None,
        };
        Letter::new(draft, ConversationId::generate(), sender)
            .posted(Sequence::new(1), Timestamp::from_millis(1))
    }

    fn revise(
        message: &Message,
        by: UserId,
        change: Change,
        access: Access,
    ) -> Result<Option<Message>, Error> {
        let revision = Revision {
            conversation: message.conversation,
            message_id: message.message_id,
            by,
            change,
            mentions: Vec::new(),
            is_signed: false,
        };
        revision.apply(message, &Beside::default(), &access, Timestamp::from_millis(2))
    }

    fn edit(text_: &str, expected_version: Option<i32>) -> Change {
        Change::Edit { content: text(text_), expected_version }
    }

    #[test]
    fn only_the_author_edits_and_only_while_writing_is_allowed() {
        let author = UserId::generate();
        let message = message(author);
        let edited =
            revise(&message, author, edit("new", None), Access::member()).expect("edited").expect("changed");
        assert_eq!((edited.version, edited.content.clone()), (2, Some(text("new"))));
        let other = revise(&message, UserId::generate(), edit("new", None), Access::moderator());
        assert!(matches!(other, Err(Error::NotAuthor(_))));
        let muted = revise(&message, author, edit("new", None), Access::muted());
        assert!(matches!(muted, Err(Error::WriteDenied(_))));
    }

    #[test]
    fn the_words_of_a_copy_stay_those_of_its_origin() {
        let author = UserId::generate();
        let origin = Some(proto::messaging::v1::Origin::default());
        let copy = Message { details: Details { origin, ..Details::default() }, ..message(author) };
        for says in ["new", "hello"] {
            let edited = revise(&copy, author, edit(says, None), Access::member());
            assert!(matches!(edited, Err(Error::NotEditable(_))));
        }
        let deleted = revise(&copy, author, Change::Delete(DeletionReason::Deleted), Access::member());
        assert!(deleted.unwrap().is_some());
    }

    #[test]
    fn an_edit_of_another_version_is_refused_unless_it_is_the_same_edit_again() {
        let author = UserId::generate();
        let message = message(author);
        let edited = revise(&message, author, edit("new", Some(1)), Access::member())
            .expect("edited")
            .expect("changed");
        assert!(matches!(revise(&edited, author, edit("new", Some(1)), Access::member()), Ok(None)));
        let late = revise(&edited, author, edit("other", Some(1)), Access::member());
        assert!(matches!(late, Err(Error::VersionMismatch { version: 2, .. })));
    }

    #[test]
    fn a_moderator_deletes_what_others_wrote_and_nobody_edits_what_is_deleted() {
        let author = UserId::generate();
        let message = message(author);
        let stranger =
            revise(&message, UserId::generate(), Change::Delete(DeletionReason::Deleted), Access::member());
        assert!(matches!(stranger, Err(Error::NotAuthor(_))));
        let moderator = UserId::generate();
        let gone = revise(&message, moderator, Change::Delete(DeletionReason::Deleted), Access::moderator())
            .expect("deleted")
            .expect("changed");
        assert_eq!((gone.content.clone(), gone.deletion.and_then(|d| d.by)), (None, Some(moderator)));
        assert!(matches!(
            revise(&gone, author, Change::Delete(DeletionReason::Deleted), Access::muted()),
            Ok(None)
        ));
        let edit = revise(&gone, author, edit("new", None), Access::member());
        assert!(matches!(edit, Err(Error::MessageDeleted(_))));
    }
}
