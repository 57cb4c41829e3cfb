//! What becomes of a request of one person to another, and what the two are told of it.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::{AlertKind, AlertState};
use uuid::Uuid;

use crate::alert::{Effect, News};
use crate::error::Error;

/// That a request is new or was answered, as conversation tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestChange {
    /// The request.
    pub request: Uuid,
    /// The kind of its alerts: what is asked for.
    pub kind: AlertKind,
    /// Who asks.
    pub from: UserId,
    /// Who is asked.
    pub to: UserId,
    /// What has become of it.
    pub state: AlertState,
    /// Goes up by one with every change of this request.
    pub version: i64,
    /// When it happened.
    pub time: Timestamp,
    /// Where the message of a message request waits; `None` for a connection request.
    pub waits: Option<Waits>,
    /// For whom alone this is so; `None` for both.
    pub only: Option<UserId>,
}

/// Where the message of a message request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The direct conversation of the two.
    pub conversation: ConversationId,
    /// The conversation's membership version since when it waits.
    pub request_version: i64,
    /// The conversation's membership version after this change.
    pub membership_version: i64,
}

impl RequestChange {
    /// What the two are told, once it is known which message the request has.
    pub fn news(&self, message: Option<MessageId>) -> Vec<News> {
        let to = |user, actor, effect| News {
            user,
            kind: self.kind,
            subject: self.request,
            state: self.state,
            version: self.version,
            actor: Some(actor),
            requester: Some(self.from),
            conversation: self.waits.map(|waits| waits.conversation),
            message,
            time: self.time,
            effect,
        };
        let mut news = match self.state {
            AlertState::RequestPending => vec![to(self.to, self.from, Effect::Unread)],
            // Who answers has looked; its alert goes on naming the one who asked.
            AlertState::RequestAccepted | AlertState::RequestRejected => {
                vec![to(self.from, self.to, Effect::Unread), to(self.to, self.from, Effect::Settled)]
            }
            AlertState::RequestCancelled => vec![to(self.to, self.from, Effect::Settled)],
            _ => Vec::new(),
        };
        news.retain(|one| self.only.is_none_or(|only| one.user == only));
        news
    }
}

/// What is known of a message request when somebody writes under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What has become of it; unspecified when nothing has been told yet.
    pub state: AlertState,
    /// Whether its message is there.
    pub has_message: bool,
}

impl Asked {
    /// Refuses a message that is one too many, or too late.
    pub const fn check(self, conversation: ConversationId) -> Result<(), Error> {
        match self.state {
            // Answered while the message was on its way.
            AlertState::RequestAccepted => Ok(()),
            AlertState::RequestRejected | AlertState::RequestCancelled => {
                Err(Error::ContactNotAccepted(conversation))
            }
            _ if self.has_message => Err(Error::RequestPending(conversation)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(state: AlertState) -> RequestChange {
        RequestChange {
            request: Uuid::from_u128(1),
            kind: AlertKind::ConnectionRequest,
            from: UserId::generate(),
            to: UserId::generate(),
            state,
            version: 2,
            time: Timestamp::from_millis(5),
            waits: None,
            only: None,
        }
    }

    #[test]
    fn each_hears_of_what_the_other_did() {
        let told = |state| {
            let change = change(state);
            let news = change.news(None).into_iter();
            news.inspect(|one| assert_eq!(one.requester, Some(change.from)))
                .map(|one| (one.user == change.from, one.actor == Some(change.from), one.effect))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(AlertState::RequestPending), [(false, true, Effect::Unread)]);
        for answered in [AlertState::RequestAccepted, AlertState::RequestRejected] {
            assert_eq!(told(answered), [(true, false, Effect::Unread), (false, true, Effect::Settled)]);
        }
        assert_eq!(told(AlertState::RequestCancelled), [(false, true, Effect::Settled)]);
    }

    #[test]
    fn what_is_so_for_one_is_told_to_that_one() {
        let change = change(AlertState::RequestAccepted);
        for only in [change.from, change.to] {
            let news = RequestChange { only: Some(only), ..change.clone() }.news(None);
            assert_eq!(news.iter().map(|one| one.user).collect::<Vec<_>>(), [only]);
        }
    }

    #[test]
    fn one_message_waits_and_none_comes_after_the_answer() {
        let id = ConversationId::generate();
        let check = |state, has_message| Asked { state, has_message }.check(id);
        for waiting in [AlertState::Unspecified, AlertState::RequestPending] {
            assert!(check(waiting, false).is_ok());
            assert!(matches!(check(waiting, true), Err(Error::RequestPending(_))));
        }
        assert!(check(AlertState::RequestAccepted, true).is_ok());
        for over in [AlertState::RequestRejected, AlertState::RequestCancelled] {
            assert!(matches!(check(over, false), Err(Error::ContactNotAccepted(_))));
        }
    }
}
