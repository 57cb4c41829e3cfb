//! The marks that people leave on messages - reactions, pins, votes - and the rules about them.

use chassis::clock::Timestamp;
use proto::id::UserId;
use proto::messaging::v1 as pb;
use proto::messaging::v1::content::Kind;

use crate::conversations::Access;
use crate::emoji::Emoji;
use crate::error::Error;
use crate::event::{Happening, MessageChange};
use crate::message::Message;

/// The most different emojis on one message.
const MAX_EMOJIS: usize = 20;

/// The most pinned messages of one conversation.
pub const MAX_PINS: i64 = 50;

/// What somebody wants to do to a message without changing what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// React to it.
    React(Emoji),
    /// Take a reaction back.
    Unreact(Emoji),
    /// Pin it.
    Pin,
    /// Unpin it.
    Unpin,
    /// Vote in it; no option takes the vote back.
    Vote(Choice),
    /// Close it for votes.
    ClosePoll,
    /// Take the vote of one who is gone out of it, also when it is closed.
    Withdraw,
    /// Pin it by nobody: the one who did is gone.
    Disown,
}

/// Different places in a poll's options, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice(Vec<i32>);

impl Choice {
    /// Takes the places in any order, each once.
    pub fn parse(mut places: Vec<i32>) -> Result<Self, Error> {
        places.sort_unstable();
        if places.first().is_some_and(|place| *place < 0) {
            return Err(refused("must be places in the options of the poll"));
        }
        if places.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refused("must have each place once"));
        }
        Ok(Self(places))
    }

    /// The places.
    pub fn places(&self) -> &[i32] {
        &self.0
    }

    /// Refuses what this poll does not offer.
    fn check(&self, poll: &pb::PollContent) -> Result<(), Error> {
        if self.0.iter().any(|place| index(*place) >= poll.options.len()) {
            return Err(refused("must be places in the options of the poll"));
        }
        if self.0.len() > 1 && !poll.multiple_choice {
            return Err(refused("must have at most one place in this poll"));
        }
        Ok(())
    }
}

/// What one person left on a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The emojis, oldest first.
    pub reactions: Vec<String>,
    /// Places in the poll's options, in their order.
    pub votes: Vec<i32>,
}

/// That somebody reacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// When.
    pub create_time: Timestamp,
    /// Who.
    pub user: UserId,
    /// How.
    pub emoji: String,
}

/// That somebody voted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who.
    pub user: UserId,
    /// For what: places in the poll's options, in their order.
    pub places: Vec<i32>,
}

/// What a mark has to know besides the message, read under the same lock: as much of it as the mark asks for.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// What the same person left on the message before.
    pub own: Marks,
    /// How many messages of the conversation are pinned.
    pub pins: i64,
    /// Whether this is the message of the request that waits.
    pub is_request: bool,
}

impl Mark {
    /// The message after it; `None` when it changes nothing, so that a retry is safe.
    pub fn apply(
        &self,
        by: UserId,
        message: &Message,
        beside: &Beside,
        access: &Access,
        now: Timestamp,
    ) -> Result<Option<Message>, Error> {
        self.check_access(by, message, access)?;
        if message.deletion.is_some() {
            return match self {
                // It has gone from the list with all the rest.
                Self::Unpin => Ok(None),
                _ => Err(Error::MessageDeleted(message.message_id)),
            };
        }
        let mut after = message.clone();
        let changed = match self {
            Self::React(emoji) => react(&mut after, emoji, &beside.own)?,
            Self::Unreact(emoji) => unreact(&mut after, emoji, &beside.own),
            Self::Pin => pin(&mut after, by, beside.pins, now)?,
            Self::Unpin => after.details.pin.take().is_some(),
            Self::Vote(choice) => vote(&mut after, choice, &beside.own, now)?,
            Self::ClosePoll => close(&mut after, now)?,
            Self::Withdraw => withdraw(&mut after, &beside.own),
            Self::Disown => disown(&mut after, by),
        };
        Ok(changed.then_some(after))
    }

    fn check_access(&self, by: UserId, message: &Message, access: &Access) -> Result<(), Error> {
        match self {
            Self::React(_) | Self::Vote(_) | Self::Pin | Self::Unpin if access.peer_gone => {
                Err(Error::PeerGone(message.conversation))
            }
            Self::React(_) | Self::Unreact(_) | Self::Vote(_) if !access.may_react => {
                Err(Error::WriteDenied(message.conversation))
            }
            Self::Pin | Self::Unpin if !access.may_write => Err(Error::WriteDenied(message.conversation)),
            // It would reach the one who has not been asked yet, or has not answered.
            Self::React(_) | Self::Vote(_) | Self::Pin | Self::Unpin => {
                access.check_contact(message.conversation)
            }
            Self::ClosePoll if message.sender != by && !access.moderates => {
                Err(Error::NotAuthor(message.message_id))
            }
            // In a group its author ends what it began, muted or not.
            Self::ClosePoll if access.is_direct && !access.may_write => {
                Err(Error::WriteDenied(message.conversation))
            }
            Self::ClosePoll if access.is_direct => access.check_contact(message.conversation),
            _ => Ok(()),
        }
    }

    /// What the log says of it.
    pub fn happening(&self, by: UserId, after: &Message) -> Happening {
        let message_id = after.message_id.to_string();
        let message_sequence = after.sequence.get();
        let reaction = |emoji: &Emoji, added| {
            MessageChange::Reaction(pb::ReactionChanged {
                message_id: message_id.clone(),
                message_sequence,
                user_id: by.to_string(),
                emoji: emoji.to_string(),
                added,
                count: count(after, emoji),
            })
        };
        let payload = match self {
            Self::React(emoji) => reaction(emoji, true),
            Self::Unreact(emoji) => reaction(emoji, false),
            Self::Pin | Self::Disown => MessageChange::Pinned(pb::MessagePinned {
                message_id,
                message_sequence,
                pin: after.details.pin.clone(),
            }),
            Self::Unpin => MessageChange::Unpinned(pb::MessageUnpinned { message_id, message_sequence }),
            Self::Vote(_) | Self::Withdraw => {
                let places = if let Self::Vote(choice) = self { choice.0.as_slice() } else { &[] };
                let is_secret = poll(after).is_some_and(|poll| poll.anonymous);
                MessageChange::Voted(pb::PollVoted {
                    message_id,
                    message_sequence,
                    user_id: if is_secret { String::new() } else { by.to_string() },
                    option_indexes: if is_secret { Vec::new() } else { places.to_vec() },
                    result: after.details.poll.clone(),
                })
            }
            Self::ClosePoll => MessageChange::Closed(pb::PollClosed {
                message_id,
                message_sequence,
                result: after.details.poll.clone(),
            }),
        };
        Happening::ToMessage { sequence: after.sequence, payload }
    }

    /// Whom the log names for it: nobody who votes in an anonymous poll.
    pub fn actor(&self, by: UserId, after: &Message) -> Option<UserId> {
        if matches!(self, Self::Disown) {
            return None;
        }
        let is_secret =
            matches!(self, Self::Vote(_) | Self::Withdraw) && poll(after).is_some_and(|poll| poll.anonymous);
        (!is_secret).then_some(by)
    }
}

/// The poll that a message is.
pub fn poll(message: &Message) -> Option<&pb::PollContent> {
    match message.content.as_ref()?.kind()? {
        Kind::Poll(poll) => Some(poll),
        _ => None,
    }
}

fn react(after: &mut Message, emoji: &Emoji, own: &Marks) -> Result<bool, Error> {
    if own.reactions.iter().any(|had| had == emoji.as_str()) {
        return Ok(false);
    }
    let reactions = &mut after.details.reactions;
    let is_full = reactions.len() >= MAX_EMOJIS;
    match reactions.iter_mut().find(|reaction| reaction.emoji == emoji.as_str()) {
        Some(reaction) => reaction.count += 1,
        None if is_full => return Err(Error::TooManyReactions(after.message_id)),
        None => reactions.push(pb::ReactionCount { emoji: emoji.to_string(), count: 1 }),
    }
    Ok(true)
}

fn unreact(after: &mut Message, emoji: &Emoji, own: &Marks) -> bool {
    if own.reactions.iter().all(|had| had != emoji.as_str()) {
        return false;
    }
    let reactions = &mut after.details.reactions;
    for reaction in reactions.iter_mut().filter(|reaction| reaction.emoji == emoji.as_str()) {
        reaction.count -= 1;
    }
    reactions.retain(|reaction| reaction.count > 0);
    true
}

fn count(message: &Message, emoji: &Emoji) -> i32 {
    let found = message.details.reactions.iter().find(|reaction| reaction.emoji == emoji.as_str());
    found.map_or(0, |reaction| reaction.count)
}

fn pin(after: &mut Message, by: UserId, pins: i64, now: Timestamp) -> Result<bool, Error> {
    if after.details.pin.is_some() {
        return Ok(false);
    }
    if pins >= MAX_PINS {
        return Err(Error::TooManyPins(after.conversation));
    }
    after.details.pin = Some(pb::Pin { user_id: by.to_string(), pin_time: Some(now.to_proto()) });
    Ok(true)
}

fn vote(after: &mut Message, choice: &Choice, own: &Marks, now: Timestamp) -> Result<bool, Error> {
    let poll = poll(after).ok_or(Error::NotAPoll(after.message_id))?;
    choice.check(poll)?;
    // Asked before the poll closed and asked again after it: the answer is still the same.
    if own.votes == choice.0 {
        return Ok(false);
    }
    if is_closed(poll, after.details.poll.as_ref(), now) {
        return Err(Error::PollClosed(after.message_id));
    }
    let mut result = standing(poll, after.details.poll.as_ref());
    add(&mut result, &own.votes, -1);
    add(&mut result, &choice.0, 1);
    after.details.poll = Some(result);
    Ok(true)
}

/// One vote more, or less.
fn add(result: &mut pb::PollResult, places: &[i32], by: i32) {
    for place in places {
        if let Some(count) = result.counts.get_mut(index(*place)) {
            *count += by;
        }
    }
    result.voter_count += if places.is_empty() { 0 } else { by };
}

fn withdraw(after: &mut Message, own: &Marks) -> bool {
    let Some(poll) = poll(after).filter(|_| !own.votes.is_empty()) else { return false };
    let mut result = standing(poll, after.details.poll.as_ref());
    add(&mut result, &own.votes, -1);
    after.details.poll = Some(result);
    true
}

fn disown(after: &mut Message, by: UserId) -> bool {
    let by = by.to_string();
    let Some(pin) = after.details.pin.as_mut().filter(|pin| pin.user_id == by) else { return false };
    pin.user_id.clear();
    true
}

fn close(after: &mut Message, now: Timestamp) -> Result<bool, Error> {
    let poll = poll(after).ok_or(Error::NotAPoll(after.message_id))?;
    if is_closed(poll, after.details.poll.as_ref(), now) {
        return Ok(false);
    }
    let result = standing(poll, after.details.poll.as_ref());
    after.details.poll = Some(pb::PollResult { close_time: Some(now.to_proto()), ..result });
    Ok(true)
}

/// How a poll stands: before anybody has voted there may be nothing stored.
fn standing(poll: &pb::PollContent, stored: Option<&pb::PollResult>) -> pb::PollResult {
    let mut result = stored.cloned().unwrap_or_default();
    result.counts.resize(poll.options.len(), 0);
    result.close_time = result.close_time.or(poll.close_time);
    result
}

/// Whether nobody can vote any more: closed by hand, or its time is over.
fn is_closed(poll: &pb::PollContent, stored: Option<&pb::PollResult>, now: Timestamp) -> bool {
    let time = |time: Option<&prost_types::Timestamp>| time.and_then(Timestamp::from_proto);
    let by_itself = time(poll.close_time.as_ref());
    let closes = time(stored.and_then(|result| result.close_time.as_ref())).or(by_itself);
    closes.is_some_and(|closes| {
        // By hand is before its time, and holds at once, also where another machine's clock is behind.
        closes <= now || by_itself.is_none_or(|by_itself| closes < by_itself)
    })
}

fn index(place: i32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn refused(rule: &'static str) -> Error {
    Error::Invalid { field: "option_indexes", rule }
}

#[cfg(test)]
mod tests;
