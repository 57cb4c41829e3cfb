//! The use cases: one method each, in our own words, for whoever the caller is.

use std::sync::Arc;

use chassis::caller::Viewer;
use chassis::clock::{Clock, Timestamp};
use chassis::page::{self, Token};
use chassis::trace::{self, TraceContext};
use proto::id::{ConversationId, MessageId, UserId};
use uuid::Uuid;

use crate::conversations::Conversations;
use crate::error::Error;
use crate::lane::{Answer, Entrance};
use crate::message::{Asked, Draft, Letter, Message, Sequence, Target};
use crate::people::People;
use crate::policy::Policy;
use crate::publish::Publisher;
use crate::receipt::{Reached, Watermark};
use crate::receipts::Advancing;
use crate::revision::Revision;
use crate::send::{Errand, Sending};
use crate::store::{Appended, History, Order, Store};

/// About how many bytes of messages or events an answer holds. What does not fit comes with the next page.
pub const ANSWER_BYTES: usize = 1 << 20;

/// What one can do with messages.
#[derive(Clone)]
pub struct Messaging {
    /// Where the logs are.
    pub store: Store,
    /// Who may do what.
    pub conversations: Conversations,
    /// Who exists, and who signs how.
    pub people: People,
    /// The hosts that voices and stickers may come from; empty for all.
    pub media_hosts: Arc<[String]>,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// The way to the writers of the logs.
    pub log: Entrance<Errand>,
    /// The way to the writer of the watermarks.
    pub receipts: Entrance<Advancing>,
    /// Has a say in what is sent, where the operator wants that.
    pub policy: Option<Policy>,
    /// The epoch of the logs.
    pub epoch: Arc<str>,
}

/// Which page of messages.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The conversation.
    pub conversation: ConversationId,
    /// In which direction; a token brings its own.
    pub order: Order,
    /// Only after this.
    pub after: Sequence,
    /// Only before this; [`Sequence::END`] for no bound.
    pub before: Sequence,
    /// Only messages that are there: no tombstones.
    pub exclude_tombstones: bool,
    /// Only messages that were created at this time or later.
    pub start: Option<Timestamp>,
    /// Only messages that were created before this time.
    pub end: Option<Timestamp>,
    /// At most so many.
    pub limit: i64,
    /// Where to continue.
    pub token: String,
}

/// A page of messages.
#[derive(Clone, Debug)]
pub struct Messages {
    /// In the direction asked for.
    pub messages: Vec<Message>,
    /// Goes on; empty at the end.
    pub next: String,
    /// Goes back.
    pub previous: String,
    /// The conversation's head.
    pub head: Sequence,
}

impl Messaging {
    /// Sends a message; `None` when it was only to be checked.
    pub async fn send(&self, user: UserId, asked: Asked) -> Result<Option<Appended>, Error> {
        let Some(letter) = self.prepare(user, asked).await? else { return Ok(None) };
        self.send_letter(letter).await.map(Some)
    }

    /// Has a letter written, and waits for it.
    pub async fn send_letter(&self, letter: Letter) -> Result<Appended, Error> {
        let (answer, answered) = Answer::channel();
        self.post(letter, trace::current(), answer);
        answered.await.unwrap_or(Err(Error::Unavailable("messaging")))
    }

    /// What is to be posted; `None` when it was only to be checked, and could be sent.
    pub async fn prepare(&self, user: UserId, asked: Asked) -> Result<Option<Letter>, Error> {
        match asked {
            Asked::Send(draft) => {
                let mut letter = self.address(user, draft).await?;
                self.examine(&mut letter).await?;
                self.check_uploads(&letter).await?;
                self.ask_policy(&mut letter).await?;
                self.resolve_mentions(&mut letter).await?;
                Ok(Some(letter))
            }
            Asked::Check(draft, conversation) => {
                let mut letter = Letter::new(draft, conversation, user);
                self.examine(&mut letter).await?;
                self.check(&letter).await?;
                self.ask_policy(&mut letter).await?;
                Ok(None)
            }
        }
    }

    /// Refuses what would be refused if it were sent now, but for slow mode: that passes by itself.
    async fn check(&self, letter: &Letter) -> Result<(), Error> {
        let access = self.conversations.access(letter.conversation, letter.sender).await?;
        access.check_letter(letter)?;
        if let Some(id) = letter.reply_to {
            let found = self.store.message(letter.conversation, id).await?;
            found.ok_or(Error::MessageNotFound(id))?;
        }
        self.check_uploads(letter).await?;
        match self.store.earlier(letter).await? {
            Some(Err(reused)) => Err(reused),
            Some(Ok(_)) => Ok(()),
            None if access.request_version == 0 => Ok(()),
            None => {
                let version = access.request_version;
                self.store.check_request(letter.conversation, letter.sender, version).await
            }
        }
    }

    /// Finds, or makes, the conversation that a draft goes to.
    async fn address(&self, user: UserId, draft: Draft) -> Result<Letter, Error> {
        let conversation = match &draft.target {
            Target::Conversation(id) => *id,
            Target::Person(peer) => self.conversations.direct(user, *peer).await?,
            Target::People(others) => self.conversations.discussion(user, others).await?,
        };
        Ok(Letter::new(draft, conversation, user))
    }

    /// Hands a message to the writer of its conversation. Letters of one conversation are written in the order of these
    /// calls.
    pub fn post(&self, letter: Letter, trace: Option<TraceContext>, answer: Answer<Appended>) {
        // Here and not in the lane, where the others would wait for it.
        letter.findable();
        self.log.enter(Errand::Send(Sending::new(letter, trace, answer)));
    }

    /// Changes a message.
    pub async fn revise(&self, mut revision: Revision) -> Result<Message, Error> {
        self.examine_edit(&mut revision).await?;
        self.check_edited_uploads(&revision).await?;
        self.ask_policy_about_edit(&mut revision).await?;
        self.resolve_new_mentions(&mut revision).await?;
        let (answer, answered) = Answer::channel();
        self.log.enter(Errand::Revise(revision, answer));
        Ok(answered.await.unwrap_or(Err(Error::Unavailable("messaging")))?.message)
    }

    /// Empties a conversation for everybody; answers up to where.
    pub async fn purge(&self, by: UserId, conversation: ConversationId) -> Result<Sequence, Error> {
        let (answer, answered) = Answer::channel();
        self.log.enter(Errand::Purge { conversation, by, answer });
        Ok(answered.await.unwrap_or(Err(Error::Unavailable("messaging")))?.up_to)
    }

    /// One message as a user sees it.
    pub async fn message(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Message, Error> {
        self.conversations.admit(conversation, user).await?;
        self.store.message_for(user, conversation, id).await?.ok_or(Error::MessageNotFound(id))
    }

    /// A page of messages. An anonymous viewer sees what everybody may read.
    pub async fn history(&self, viewer: &Viewer, page: HistoryPage) -> Result<Messages, Error> {
        let (user, conversation) = (viewer.user_id(), page.conversation);
        let (after, before) = (page.after, page.before);
        let (user_id, id) = (user.uuid(), conversation.uuid());
        let bounds = [after.get().to_be_bytes(), before.get().to_be_bytes()];
        let filter = page.filter();
        let mut query: Vec<&[u8]> =
            vec![b"messages", user_id.as_bytes(), id.as_bytes(), &bounds[0], &bounds[1]];
        query.extend(filter.as_deref());
        let token = Token::decode(&page.token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let start = token.map(|bytes| Turn::read(&bytes)).transpose()?;
        self.conversations.admit(conversation, user).await?;

        let order = start.map_or(page.order, |turn| turn.order);
        let mut history = History {
            user,
            conversation,
            order,
            after,
            before,
            exclude_tombstones: page.exclude_tombstones,
            start: page.start,
            end: page.end,
            limit: page.limit + 1,
        };
        match start {
            Some(Turn { order: Order::NewestFirst, from }) => history.before = before.min(from),
            Some(Turn { order: Order::OldestFirst, from }) => history.after = after.max(from),
            None => {}
        }
        let (mut messages, head) = self.store.history(&history).await?;
        let is_last = !cut(&mut messages, page.limit, Message::weight);
        let turn = |order, message: Option<&Message>| {
            message.map(|message| Token::encode(&query, &Turn { order, from: message.sequence }.write()))
        };
        let next = if is_last { None } else { turn(order, messages.last()) };
        let previous = turn(order.reversed(), messages.first());
        Ok(Messages {
            next: next.unwrap_or_default(),
            previous: previous.unwrap_or_default(),
            messages,
            head,
        })
    }

    /// How far the members of a conversation have come; answers where to continue, too.
    pub async fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
        limit: i64,
        token: &str,
    ) -> Result<(Vec<Watermark>, String), Error> {
        let (user_id, id) = (user.uuid(), conversation.uuid());
        let query: [&[u8]; 3] = [b"receipts", user_id.as_bytes(), id.as_bytes()];
        let after = Token::after::<Uuid>(token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let access = self.conversations.admit_member(conversation, user).await?;
        let mut receipts = self.store.receipts(conversation, after.map(UserId::from), limit + 1).await?;
        let is_last = !cut(&mut receipts, limit, |_| 0);
        let next = receipts.last().filter(|_| !is_last).map(|last| Token::at(&query, &last.user.uuid()));
        // Who asks learns from the answer, and not from being read; whom the other blocks learns nothing at all.
        let hides = access.request_version > 0 || access.hides_progress();
        receipts.retain(|receipt| !hides || receipt.user == user);
        Ok((receipts, next.unwrap_or_default()))
    }

    /// Says how far a member has come.
    pub async fn advance(
        &self,
        user: UserId,
        conversation: ConversationId,
        reached: Reached,
    ) -> Result<Watermark, Error> {
        let access = self.conversations.admit_member(conversation, user).await?;
        let progress = self.progress(conversation, reached).await?;
        let places = self.store.places(user, &[conversation]).await?;
        let Some(place) = places.get(&conversation) else { return Ok(Watermark::start(conversation, user)) };
        let Some(to) = place.watermark.advance(progress, place.head, self.clock.now()) else {
            return Ok(place.watermark);
        };
        let is_quiet =
            access.hides_progress() || (access.is_direct && self.store.is_asked(conversation, user).await?);
        let (answer, answered) = Answer::channel();
        let reads = to.read > place.watermark.read;
        self.receipts.enter(Advancing { to, reads, is_quiet, answer });
        answered.await.unwrap_or(Err(Error::Unavailable("messaging")))
    }
}

impl HistoryPage {
    /// What it leaves out, to tell its page tokens from those of another list; `None` for nothing.
    fn filter(&self) -> Option<Vec<u8>> {
        if !self.exclude_tombstones && self.start.is_none() && self.end.is_none() {
            return None;
        }
        let mut bytes = vec![u8::from(self.exclude_tombstones)];
        for time in [self.start, self.end] {
            bytes.push(u8::from(time.is_some()));
            bytes.extend(time.map_or(0, Timestamp::as_millis).to_be_bytes());
        }
        Some(bytes)
    }
}

impl Order {
    const fn reversed(self) -> Self {
        match self {
            Self::NewestFirst => Self::OldestFirst,
            Self::OldestFirst => Self::NewestFirst,
        }
    }
}

/// What a page token of messages says: in which direction, and from where.
#[derive(Clone, Copy, Debug)]
struct Turn {
    order: Order,
    from: Sequence,
}

impl Turn {
    fn write(self) -> Vec<u8> {
        let direction = match self.order {
            Order::NewestFirst => 1,
            Order::OldestFirst => 2,
        };
        let mut bytes = vec![direction];
        bytes.extend(self.from.get().to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = Error::Invalid { field: "page_token", rule: "must be a token of an earlier page" };
        let (&direction, from) = bytes.split_first().ok_or_else(|| malformed.clone())?;
        let from = <i64 as page::Position>::from_bytes(from).ok_or_else(|| malformed.clone())?;
        let order = match direction {
            1 => Order::NewestFirst,
            2 => Order::OldestFirst,
            _ => return Err(malformed),
        };
        Ok(Self { order, from: Sequence::new(from) })
    }
}

/// Cuts a list to what fits into one answer, at least one; says whether something was cut off.
pub fn cut<T>(list: &mut Vec<T>, limit: i64, weight: impl Fn(&T) -> usize) -> bool {
    let mut room = ANSWER_BYTES;
    let fits = |item: &T| {
        let fits = room > 0;
        room = room.saturating_sub(weight(item));
        fits
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let keep = list.iter().take(limit).map(fits).take_while(|fits| *fits).count();
    let is_cut = keep < list.len();
    list.truncate(keep);
    is_cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_bound_in_bytes_and_at_least_one_item() {
        let mut list = vec![1; 10];
        assert!(cut(&mut list, 7, |_| 1) && list.len() == 7);
        assert!(!cut(&mut list, 7, |_| 1) && list.len() == 7);
        assert!(cut(&mut list, 7, |_| ANSWER_BYTES / 2) && list.len() == 2);
        assert!(cut(&mut list, 7, |_| ANSWER_BYTES * 2) && list.len() == 1);
        let mut none: Vec<u8> = Vec::new();
        assert!(!cut(&mut none, 7, |_| 1));
    }

    #[test]
    fn a_turn_comes_back_as_it_was() {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let turn = Turn::read(&Turn { order, from: Sequence::new(7) }.write()).unwrap();
            assert_eq!((turn.order, turn.from), (order, Sequence::new(7)));
        }
        assert!(Turn::read(&[]).is_err());
        assert!(Turn::read(&[3, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }
}
