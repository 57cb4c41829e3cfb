//! What a user should look at, and how it changes with what it is about.

use chassis::clock::Timestamp;
use proto::id::{AlertId, ConversationId, MessageId, UserId};
use proto::messaging::v1::{AlertKind, AlertState};
use uuid::Uuid;

use crate::message::Message;

/// What a user should look at. There is one per kind and subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its id.
    pub alert_id: AlertId,
    /// Whose it is.
    pub user: UserId,
    /// What it is about.
    pub kind: AlertKind,
    /// What exactly it is about, by its id: raised again for the same, it stays the same alert.
    pub subject: Uuid,
    /// What last became of the subject.
    pub state: AlertState,
    /// The version of the subject that changed it last; 0 for a mention, which has only one.
    pub version: i64,
    /// Who caused it.
    pub actor: Option<UserId>,
    /// Who asks, where it is about a request.
    pub requester: Option<UserId>,
    /// The conversation it is about; it goes with it.
    pub conversation: Option<ConversationId>,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// When it came.
    pub create_time: Timestamp,
    /// When its subject last changed.
    pub update_time: Timestamp,
    /// When it was read.
    pub read_time: Option<Timestamp>,
}

impl Alert {
    /// That a message, as it is now, mentions a user.
    pub fn mention(user: UserId, message: &Message) -> Self {
        let time = message.edit_time.unwrap_or(message.create_time);
        Self {
            alert_id: AlertId::generate(),
            user,
            kind: AlertKind::Mention,
            subject: message.message_id.uuid(),
            state: AlertState::Unspecified,
            version: 0,
            actor: Some(message.sender),
            requester: None,
            conversation: Some(message.conversation),
            message: Some(message.message_id),
            create_time: time,
            update_time: time,
            read_time: None,
        }
    }
}

/// That something became of the subject of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose alert it is.
    pub user: UserId,
    /// What it is about.
    pub kind: AlertKind,
    /// What exactly it is about, by its id.
    pub subject: Uuid,
    /// What became of the subject.
    pub state: AlertState,
    /// Goes up with every change of the subject; at least 1.
    pub version: i64,
    /// Who caused it, as the alert shows it.
    pub actor: Option<UserId>,
    /// Who asks, where it is about a request.
    pub requester: Option<UserId>,
    /// The conversation it is about.
    pub conversation: Option<ConversationId>,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// When it happened.
    pub time: Timestamp,
    /// What it means to the user.
    pub effect: Effect,
}

/// What news mean to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It should look, also when it has looked before.
    Unread,
    /// It may look: what it has read stays read, so that nobody calls for it again and again.
    Kept,
    /// It did this itself: what it had not read it has not read still, and what is new to the list is not new to it.
    Own,
    /// There is nothing left to look at: what it has not read counts as read, and no alert is made of it.
    Settled,
}

impl Effect {
    /// What it means that others did this. Who changes a review as often as it likes does not make the reviewed look as often.
    pub const fn of(state: AlertState) -> Self {
        match state {
            AlertState::ReviewUpdated | AlertState::ReviewDeleted => Self::Kept,
            _ => Self::Unread,
        }
    }
}

impl News {
    /// The alert after this, from the one that is there; `None` when nothing changes. The same version, or an older one,
    /// changes nothing.
    pub fn apply(&self, before: Option<&Alert>) -> Option<Alert> {
        let Some(before) = before else { return self.first() };
        if self.version <= before.version {
            return None;
        }
        Some(Alert {
            state: self.state,
            version: self.version,
            actor: self.actor,
            requester: self.requester.or(before.requester),
            // What it is about may have been found out since.
            conversation: self.conversation.or(before.conversation),
            message: self.message.or(before.message),
            update_time: before.update_time.max(self.time),
            read_time: match self.effect {
                Effect::Unread => None,
                Effect::Kept | Effect::Own => before.read_time,
                Effect::Settled => before.read_time.or(Some(self.time)),
            },
            ..before.clone()
        })
    }

    fn first(&self) -> Option<Alert> {
        let read_time = match self.effect {
            Effect::Unread | Effect::Kept => None,
            Effect::Own => Some(self.time),
            Effect::Settled => return None,
        };
        Some(Alert {
            alert_id: AlertId::generate(),
            user: self.user,
            kind: self.kind,
            subject: self.subject,
            state: self.state,
            version: self.version,
            actor: self.actor,
            requester: self.requester,
            conversation: self.conversation,
            message: self.message,
            create_time: self.time,
            update_time: self.time,
            read_time,
        })
    }
}

/// Whether this can become of a subject of this kind.
pub const fn fits(kind: AlertKind, state: AlertState) -> bool {
    use AlertState as S;
    match kind {
        AlertKind::Unspecified => false,
        AlertKind::Mention => matches!(state, S::Unspecified),
        AlertKind::ConnectionRequest | AlertKind::MessageRequest => {
            matches!(state, S::RequestPending | S::RequestAccepted | S::RequestRejected | S::RequestCancelled)
        }
        AlertKind::Schedule => {
            matches!(state, S::ScheduleMade | S::ScheduleMoved | S::ScheduleDue | S::ScheduleCancelled)
        }
        AlertKind::Review => matches!(state, S::ReviewWritten | S::ReviewUpdated | S::ReviewDeleted),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn news(version: i64, effect: Effect) -> News {
        News {
            user: UserId::generate(),
            kind: AlertKind::Schedule,
            subject: Uuid::from_u128(7),
            state: AlertState::ScheduleMade,
            version,
            actor: None,
            requester: None,
            conversation: None,
            message: None,
            time: Timestamp::from_millis(version * 10),
            effect,
        }
    }

    #[test]
    fn what_others_do_is_unread_and_what_one_does_oneself_leaves_it() {
        let first = news(1, Effect::Unread).apply(None).unwrap();
        assert_eq!(first.read_time, None);
        assert_eq!(news(2, Effect::Own).apply(Some(&first)).unwrap().read_time, None);
        let read = Alert { read_time: Some(Timestamp::from_millis(11)), ..first };
        assert_eq!(news(2, Effect::Own).apply(Some(&read)).unwrap().read_time, read.read_time);
        let again = news(3, Effect::Unread).apply(Some(&read)).unwrap();
        assert_eq!((again.alert_id, again.read_time), (read.alert_id, None));
        assert_eq!((again.create_time, again.update_time), (read.create_time, Timestamp::from_millis(30)));
        assert!(news(1, Effect::Own).apply(None).unwrap().read_time.is_some());
    }

    #[test]
    fn what_may_be_looked_at_stays_as_it_was() {
        let first = news(1, Effect::Kept).apply(None).unwrap();
        assert_eq!(first.read_time, None);
        assert_eq!(news(2, Effect::Kept).apply(Some(&first)).unwrap().read_time, None);
        let read = Alert { read_time: Some(Timestamp::from_millis(11)), ..first };
        let after = news(2, Effect::Kept).apply(Some(&read)).unwrap();
        assert_eq!((after.version, after.read_time), (2, read.read_time));
        assert_eq!(after.update_time, Timestamp::from_millis(20));
    }

    #[test]
    fn what_is_settled_is_read_and_makes_no_alert() {
        assert_eq!(news(1, Effect::Settled).apply(None), None);
        let unread = news(1, Effect::Unread).apply(None).unwrap();
        let settled = news(2, Effect::Settled).apply(Some(&unread)).unwrap();
        assert_eq!((settled.version, settled.read_time), (2, Some(Timestamp::from_millis(20))));
    }

    #[test]
    fn what_is_known_of_the_subject_is_kept() {
        let (conversation, message) = (Some(ConversationId::generate()), Some(MessageId::generate()));
        let requester = Some(UserId::generate());
        let first = News { conversation, message, requester, ..news(1, Effect::Unread) }.apply(None).unwrap();
        let after = news(2, Effect::Unread).apply(Some(&first)).unwrap();
        assert_eq!((after.conversation, after.message, after.requester), (conversation, message, requester));
    }

    proptest! {
        /// Whatever comes again, late or in another order: the highest version has the last word.
        #[test]
        fn the_highest_version_wins(versions in proptest::collection::vec(1..9_i64, 1..12)) {
            let mut alert: Option<Alert> = None;
            for version in &versions {
                let before = alert.as_ref().map_or(0, |alert| alert.version);
                let after = news(*version, Effect::Unread).apply(alert.as_ref());
                prop_assert_eq!(after.is_some(), *version > before);
                alert = after.or(alert);
            }
            let alert = alert.unwrap();
            prop_assert_eq!(Some(alert.version), versions.iter().max().copied());
            prop_assert!(alert.update_time >= alert.create_time);
        }
    }
}
