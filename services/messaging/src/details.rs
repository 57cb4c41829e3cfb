//! What hangs on a message besides what it says: where it comes from, whom it mentions, and what people did to it.

use chassis::clock::Timestamp;
use prost::Message as _;
use proto::id::UserId;
use proto::messaging::v1 as pb;

use crate::store::Failure;

/// What hangs on a message besides what it says. Nearly all messages have nothing of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Where it was forwarded from.
    pub origin: Option<pb::Origin>,
    /// The members it mentions.
    pub mentions: Vec<UserId>,
    /// What people reacted with, the first emoji first.
    pub reactions: Vec<pb::ReactionCount>,
    /// That it is pinned.
    pub pin: Option<pb::Pin>,
    /// How the poll stands; `None` for other kinds.
    pub poll: Option<pb::PollResult>,
    /// What its first link leads to.
    pub preview: Option<pb::LinkPreview>,
    /// The time that it was scheduled for.
    pub scheduled_time: Option<Timestamp>,
}

impl Details {
    /// As it is stored; `None` when there is nothing.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut stored = pb::Message::default();
        self.clone().show(&mut stored);
        Some(stored.encode_to_vec()).filter(|bytes| !bytes.is_empty())
    }

    /// From how it is stored.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let corrupt = || Failure::corrupt("what hangs on a message cannot be read");
        let stored = pb::Message::decode(bytes).map_err(|_| corrupt())?;
        let mentions = stored.mentioned_user_ids.iter().map(|id| UserId::parse(id));
        Ok(Self {
            origin: stored.forwarded_from,
            mentions: mentions.collect::<Result<_, _>>().map_err(|_| corrupt())?,
            reactions: stored.reactions,
            pin: stored.pin,
            poll: stored.poll_result,
            preview: stored.link_preview,
            scheduled_time: stored.scheduled_time.as_ref().and_then(Timestamp::from_proto),
        })
    }

    /// Puts it on a message as the wire has it.
    pub fn show(self, message: &mut pb::Message) {
        message.forwarded_from = self.origin;
        message.mentioned_user_ids = self.mentions.iter().map(ToString::to_string).collect();
        message.reactions = self.reactions;
        message.pin = self.pin;
        message.poll_result = self.poll;
        message.link_preview = self.preview;
        message.scheduled_time = self.scheduled_time.map(Timestamp::to_proto);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_nothing_takes_no_place() {
        assert_eq!(Details::default().encode(), None);
        let details = Details {
            mentions: vec![UserId::generate()],
            pin: Some(pb::Pin { user_id: "somebody".to_owned(), pin_time: None }),
            scheduled_time: Some(Timestamp::from_millis(1_795_000_000_001)),
            ..Details::default()
        };
        assert_eq!(Details::decode(&details.encode().unwrap()).unwrap(), details);
    }
}
