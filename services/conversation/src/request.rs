//! A request of one person to another: to be connected, or to be written to.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, RequestId, UserId};
use uuid::Uuid;

/// A request of one person to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// What is asked for.
    pub kind: Kind,
    /// Who asks.
    pub from: UserId,
    /// Who is asked.
    pub to: UserId,
    /// What has become of it.
    pub state: State,
    /// Goes up by one with every change, from 1.
    pub version: i64,
    /// Of a message request: where its message is.
    pub message: Option<Place>,
    /// What made the call that made it safe to retry.
    pub retry_id: Option<Uuid>,
    /// The same of the call by which the other person asked for the same.
    pub met_retry_id: Option<Uuid>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was answered or taken back.
    pub answer_time: Option<Timestamp>,
}

/// Where the message of a message request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The direct conversation.
    pub conversation_id: ConversationId,
    /// The message is the one that its author wrote since the conversation had this membership version.
    pub request_version: i64,
}

/// What one person asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To be connected.
    Connection,
    /// To be written to.
    Message,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for an answer.
    Pending,
    /// Its author waits, and will not get an answer: the one who is asked has blocked the author and does not see it.
    Withheld,
    /// The one who was asked said yes.
    Accepted,
    /// The one who was asked said no.
    Rejected,
    /// The one who asked took it back.
    Cancelled,
}

impl State {
    /// Whether its author waits.
    pub fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::Withheld)
    }
}

impl Request {
    /// The other one of the two.
    pub fn other_than(&self, user: UserId) -> UserId {
        if user == self.from { self.to } else { self.from }
    }

    /// The request as one of the two may know it. That it is withheld is known to neither: to its author it waits, and
    /// for the other there is none.
    pub fn seen_by(self, user: UserId) -> Option<Self> {
        match self.state {
            State::Withheld if user == self.from => Some(Self { state: State::Pending, ..self }),
            State::Withheld => None,
            State::Pending | State::Accepted | State::Rejected | State::Cancelled => Some(self),
        }
    }
}

/// In which direction requests go, seen by one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The person is asked.
    Incoming,
    /// The person asks.
    Outgoing,
    /// Both.
    Both,
}

/// Which requests of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What is asked for.
    pub kind: Kind,
    /// In which direction.
    pub direction: Direction,
    /// In which state, as the person knows it; `None` for all.
    pub state: Option<State>,
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A connection request of `from` to `to`.
    pub fn request(from: UserId, to: UserId, state: State) -> Request {
        Request {
            id: RequestId::generate(),
            kind: Kind::Connection,
            from,
            to,
            state,
            version: 1,
            message: None,
            retry_id: None,
            met_retry_id: None,
            create_time: Timestamp::from_millis(1),
            answer_time: (!state.waits()).then_some(Timestamp::from_millis(2)),
        }
    }

    #[test]
    fn what_is_withheld_waits_for_its_author_and_is_not_there_for_the_other() {
        let [ann, bob] = [UserId::generate(), UserId::generate()];
        let withheld = request(ann, bob, State::Withheld);
        assert_eq!(withheld.clone().seen_by(ann).map(|seen| seen.state), Some(State::Pending));
        assert_eq!(withheld.seen_by(bob), None);
        for state in [State::Pending, State::Accepted, State::Rejected, State::Cancelled] {
            let open = request(ann, bob, state);
            assert_eq!(open.clone().seen_by(ann), Some(open.clone()));
            assert_eq!(open.clone().seen_by(bob), Some(open));
        }
    }
}
