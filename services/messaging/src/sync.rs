//! Getting up to date: what happened in one conversation, to one user, and in all conversations at once.

use std::collections::HashMap;

use chassis::page::Token;
use proto::id::{ConversationId, UserId};

use crate::error::Error;
use crate::event::{Event, UserEvent};
use crate::message::Sequence;
use crate::messaging::{ANSWER_BYTES, Messaging, cut};
use crate::receipt::Watermark;
use crate::store::{Place, Range};

/// The most events of one conversation in an answer.
pub const EVENTS: i64 = 200;

/// The most conversations of one page of differences.
const CONVERSATIONS: usize = 100;

/// The most events that are read at once: each may be large.
const AT_ONCE: i64 = 400;

/// What a client knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The epoch that its sequences belong to; empty when it knows nothing.
    pub epoch: String,
    /// How far it has come in which conversations.
    pub heads: Vec<(ConversationId, Sequence)>,
    /// How far it has come in the user's own log.
    pub user_sequence: Sequence,
    /// Whether only the conversations in `heads` are looked at.
    pub only_listed: bool,
    /// Where to continue.
    pub token: String,
}

/// What a client missed.
#[derive(Clone, Debug)]
pub enum Missed {
    /// Its sequences mean nothing: it begins anew.
    Everything,
    /// This.
    Differences(Differences),
}

/// A page of what a client missed.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// By conversation.
    pub conversations: Vec<Difference>,
    /// Conversations that the client knows and the user is not in.
    pub gone: Vec<ConversationId>,
    /// What happened to the user.
    pub user_events: Vec<UserEvent>,
    /// The head of the user's own log.
    pub user_head: Sequence,
    /// Goes on; empty at the end.
    pub next: String,
}

/// What a client missed of a conversation.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its head.
    pub head: Sequence,
    /// The last of what happened, oldest first.
    pub events: Vec<Event>,
    /// What lies between what the client knows and the first event: the first and the last sequence.
    pub hole: Option<(Sequence, Sequence)>,
    /// How far the user has come in it.
    pub watermark: Watermark,
}

/// The highest sequences of some logs.
#[derive(Clone, Debug)]
pub struct Heads {
    /// Of conversations.
    pub conversations: HashMap<ConversationId, Sequence>,
    /// Of users' own logs.
    pub users: HashMap<UserId, Sequence>,
}

impl Messaging {
    /// What happened in a conversation after a sequence, and the conversation's head.
    pub async fn events(
        &self,
        user: UserId,
        conversation: ConversationId,
        after: Sequence,
        limit: i64,
    ) -> Result<(Vec<Event>, Sequence), Error> {
        self.conversations.admit(conversation, user).await?;
        let mut events = self.store.events(conversation, after, limit + 1).await?;
        if cut(&mut events, limit, |event| event.what.weight()) {
            let heads = self.store.heads(&[conversation]).await?;
            return Ok((events, heads.get(&conversation).copied().unwrap_or(Sequence::NONE)));
        }
        // What was read goes to the end, so its last one is the head; and past the end there is only what is known.
        let head = match events.last() {
            Some(last) => last.sequence,
            None => {
                self.store.heads(&[conversation]).await?.get(&conversation).copied().unwrap_or(Sequence::NONE)
            }
        };
        Ok((events, head))
    }

    /// What happened to a user after a sequence, and the head of the user's own log.
    pub async fn user_events(
        &self,
        user: UserId,
        after: Sequence,
        limit: i64,
    ) -> Result<(Vec<UserEvent>, Sequence), Error> {
        let events = self.store.user_events(user, after, limit).await?;
        let head = self.store.user_heads(&[user]).await?.get(&user).copied().unwrap_or(Sequence::NONE);
        Ok((events, head))
    }

    /// The highest sequences of many logs.
    pub async fn heads(&self, conversations: &[ConversationId], users: &[UserId]) -> Result<Heads, Error> {
        Ok(Heads {
            conversations: self.store.heads(conversations).await?,
            users: self.store.user_heads(users).await?,
        })
    }

    /// Everything that happened in a user's conversations since a client last looked.
    pub async fn sync(&self, user: UserId, known: &Known) -> Result<Missed, Error> {
        let knows_something = known.user_sequence > Sequence::NONE
            || known.heads.iter().any(|(_, sequence)| *sequence > Sequence::NONE);
        let is_same = known.epoch == *self.epoch || (known.epoch.is_empty() && !knows_something);
        if !is_same {
            return Ok(Missed::Everything);
        }
        let query = Query::of(user, known);
        let after = query.position(&known.token)?;

        let memberships = self.conversations.memberships(user).await?;
        let listed: HashMap<ConversationId, Sequence> = known.heads.iter().copied().collect();
        let mut candidates: Vec<ConversationId> = memberships
            .ids()
            .filter(|id| !known.only_listed || listed.contains_key(id))
            .filter(|id| after.is_none_or(|after| *id > after))
            .collect();
        candidates.sort_unstable();
        let places = self.store.places(user, &candidates).await?;
        let seen = |id: ConversationId| listed.get(&id).copied().unwrap_or(Sequence::NONE);
        // A client that knows more than there is waits for sequences that mean something else by then.
        let head = |id: &ConversationId| places.get(id).map_or(Sequence::NONE, |place| place.head);
        if candidates.iter().any(|id| seen(*id) > head(id)) {
            return Ok(Missed::Everything);
        }
        let mut changed = candidates
            .iter()
            .filter_map(|id| places.get(id))
            .filter(|place| place.head > seen(place.conversation));

        let mut page = Differences::default();
        if after.is_none() {
            page.gone = listed.keys().copied().filter(|id| memberships.get(*id).is_none()).collect();
            page.gone.sort_unstable();
            (page.user_events, page.user_head) = self.user_events(user, known.user_sequence, EVENTS).await?;
            if known.user_sequence > page.user_head {
                return Ok(Missed::Everything);
            }
        } else {
            page.user_head =
                self.store.user_heads(&[user]).await?.get(&user).copied().unwrap_or(Sequence::NONE);
        }
        let wanted: Vec<_> = changed
            .by_ref()
            .take(CONVERSATIONS)
            .map(|place| Wanted::of(place, seen(place.conversation)))
            .collect();
        let mut is_last = changed.next().is_none();

        let mut room = ANSWER_BYTES;
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let mut events = 0;
            let fits = |wanted: &&Wanted| {
                events += wanted.range.up_to.get() - wanted.range.after.get();
                events <= AT_ONCE
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (part, later) = rest.split_at(count);
            let ranges: Vec<_> = part.iter().map(|wanted| wanted.range).collect();
            let mut found = self.store.events_of(&ranges).await?;
            for wanted in part {
                if room == 0 {
                    break;
                }
                let events = found.remove(&wanted.range.conversation).unwrap_or_default();
                let difference = wanted.difference(events, room);
                let weight: usize = difference.events.iter().map(|event| event.what.weight()).sum();
                room = room.saturating_sub(weight);
                page.conversations.push(difference);
            }
            rest = later;
            if room == 0 && page.conversations.len() < wanted.len() {
                is_last = false;
                break;
            }
        }
        if let Some(last) = page.conversations.last().filter(|_| !is_last) {
            page.next = query.token(last.conversation);
        }
        Ok(Missed::Differences(page))
    }
}

/// What a list of differences depends on besides the page.
struct Query {
    user: UserId,
    heads: Vec<u8>,
    only_listed: bool,
}

impl Query {
    fn of(user: UserId, known: &Known) -> Self {
        let head = |(id, sequence): &(ConversationId, Sequence)| {
            [id.uuid().as_bytes().as_slice(), &sequence.get().to_be_bytes()].concat()
        };
        let heads = known.heads.iter().flat_map(head).collect();
        Self { user, heads, only_listed: known.only_listed }
    }

    fn with_parts<T>(&self, read: impl FnOnce(&[&[u8]]) -> T) -> T {
        let user = self.user.uuid();
        read(&[b"sync", user.as_bytes(), &self.heads, &[u8::from(self.only_listed)]])
    }

    fn position(&self, token: &str) -> Result<Option<ConversationId>, Error> {
        let position = self.with_parts(|parts| Token::after(token, parts));
        let position = position.map_err(|fault| Error::PageToken(Box::new(fault)))?;
        Ok(position.map(|uuid: uuid::Uuid| uuid.into()))
    }

    fn token(&self, after: ConversationId) -> String {
        self.with_parts(|parts| Token::at(parts, &after.uuid()))
    }
}

/// What is to be read of a conversation.
struct Wanted {
    seen: Sequence,
    range: Range,
    place: Place,
}

impl Wanted {
    fn of(place: &Place, seen: Sequence) -> Self {
        let after = seen.max(Sequence::new(place.head.get() - EVENTS));
        Self {
            seen,
            range: Range { conversation: place.conversation, after, up_to: place.head },
            place: *place,
        }
    }

    /// As much of the end as fits. Nobody can overlook what is missing before it.
    fn difference(&self, mut events: Vec<Event>, room: usize) -> Difference {
        let mut weight = 0;
        let fits = |event: &&Event| {
            let fits = weight < room;
            weight += event.what.weight();
            fits
        };
        let keep = events.iter().rev().take_while(fits).count();
        events.drain(..events.len() - keep);
        let first = events.first().map_or(self.place.head.get() + 1, |event| event.sequence.get());
        let from = self.seen.get() + 1;
        Difference {
            conversation: self.place.conversation,
            head: self.place.head,
            hole: (from < first).then(|| (Sequence::new(from), Sequence::new(first - 1))),
            events,
            watermark: self.place.watermark,
        }
    }
}
