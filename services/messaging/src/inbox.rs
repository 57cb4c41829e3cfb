//! The inbox: a user's conversations by newest activity, or those in which it writes most, and what is unread. Composed when
//! it is read; nothing is written per recipient when a message is sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::page::{Position as _, Token};
use proto::conversation::v1::{Conversation, ConversationKind};
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::InboxFilter;
use uuid::Uuid;

use crate::conversations::{Membership, Memberships};
use crate::error::Error;
use crate::message::{Message, Sequence};
use crate::messaging::Messaging;
use crate::receipt::Watermark;
use crate::store::{Place, Unread, Window};
use crate::words::fold;

/// Counting stops here.
const MOST: i64 = 1000;

/// How long ago a message may have been written to count for what is frequent.
const RECENT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Of one who has written more than this in that time, the newest count.
const MOST_RECENT: i64 = 20_000;

/// How many conversations are looked at together.
const PART: usize = 100;

/// How many conversations are looked at for one page, of those that a filter may leave out.
const LOOKED_AT: usize = 1000;

/// Which page of the inbox.
#[derive(Clone, Debug)]
pub struct InboxPage {
    /// Which of the conversations, and in what order.
    pub filter: InboxFilter,
    /// Part of the title, the topic, or the other person's names; empty for all.
    pub keyword: String,
    /// Only conversations of these kinds; none for all. Each once, in the order of their numbers.
    pub kinds: Vec<ConversationKind>,
    /// At most so many.
    pub limit: i64,
    /// Where to continue.
    pub token: String,
}

/// A conversation of the inbox.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As its owner describes it to the user.
    pub conversation: Conversation,
    /// Its last message, of those that the user has not hidden.
    pub last_message: Option<Message>,
    /// How many messages of others the user has not read.
    pub unread: i64,
    /// How far the user has come, and the conversation.
    pub place: Place,
}

/// Where a conversation stands in the inbox: what the filter orders by, and its id. Higher ones come first.
type Rank = (i64, Uuid);

impl Messaging {
    /// A page of the inbox, and where to continue. A page of what a filter or a keyword leaves over looks at a thousand
    /// conversations at most: then it has fewer entries than it could, and says where to continue all the same.
    pub async fn inbox(&self, user: UserId, page: &InboxPage) -> Result<(Vec<Entry>, String), Error> {
        let keyword = fold(page.keyword.trim());
        let (user_id, filter) = (user.uuid(), i32::from(page.filter).to_be_bytes());
        let kinds: Vec<u8> = page.kinds.iter().flat_map(|kind| i32::from(*kind).to_be_bytes()).collect();
        let mut query: Vec<&[u8]> = vec![b"inbox", user_id.as_bytes(), &filter, keyword.as_bytes()];
        query.extend(Some(kinds.as_slice()).filter(|kinds| !kinds.is_empty()));
        let bytes = Token::decode(&page.token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let after = bytes.map(|bytes| Cursor::read(&bytes)).transpose()?;
        let (memberships, mut places) = self.places(user).await?;
        // What is written while somebody turns pages moves nothing from one to another; and what was acknowledged counts,
        // whatever the clocks of two machines say.
        let newest = places.iter().map(|place| place.activity_time).max();
        let now = self.clock.now();
        let up_to = after.map_or_else(|| newest.map_or(now, |newest| newest.max(now)), |after| after.up_to);

        let is_of_kind = |membership: &Membership| page.kinds.contains(&membership.kind);
        places.retain(|place| {
            page.kinds.is_empty() || memberships.get(place.conversation).is_some_and(is_of_kind)
        });
        let mut ranked = self.ranked(user, page.filter, places, up_to).await?;
        ranked.retain(|(rank, _)| after.is_none_or(|after| *rank < after.rank));
        ranked.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));

        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let takes_all = page.filter != InboxFilter::Unread && keyword.is_empty();
        let part = if takes_all { limit } else { PART };
        let (mut chosen, mut last, mut looked_at) = (Vec::new(), None, 0);
        for part in ranked.chunks(part.max(1)) {
            let wanted = match takes_all {
                true => part.iter().map(|(_, place)| place.conversation).collect(),
                false => self.wanted(user, page.filter, &keyword, &memberships, part).await?,
            };
            for (rank, place) in part {
                if chosen.len() == limit {
                    break;
                }
                last = Some(*rank);
                looked_at += 1;
                if wanted.contains(&place.conversation) {
                    chosen.push(*place);
                }
            }
            if chosen.len() == limit || looked_at >= LOOKED_AT {
                break;
            }
        }
        let last = last.filter(|_| looked_at < ranked.len());
        let next = last.map(|rank| Token::encode(&query, &Cursor { up_to, rank }.write()));
        Ok((self.compose(user, &memberships, chosen).await?, next.unwrap_or_default()))
    }

    /// The entries of these conversations, each once. Those that the user is not a member of are left out.
    pub async fn inbox_entries(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Entry>, Error> {
        let memberships = self.conversations.memberships(user).await?;
        let mut seen = BTreeSet::new();
        let is_own = |id: &ConversationId| memberships.get(*id).is_some() && seen.insert(*id);
        let own: Vec<_> = conversations.iter().copied().filter(is_own).collect();
        let places = self.places_in(user, &memberships, own).await?;
        self.compose(user, &memberships, places).await
    }

    /// The conversations that a filter may show, and where each stands.
    async fn ranked(
        &self,
        user: UserId,
        filter: InboxFilter,
        places: Vec<Place>,
        up_to: Timestamp,
    ) -> Result<Vec<(Rank, Place)>, Error> {
        let by_activity =
            |place: Place| ((place.activity_time.as_millis(), place.conversation.uuid()), place);
        let places = places.into_iter();
        Ok(match filter {
            InboxFilter::Unspecified => places.map(by_activity).collect(),
            InboxFilter::Unread => {
                places.filter(|place| place.last_message > place.watermark.read).map(by_activity).collect()
            }
            InboxFilter::Frequent => {
                let window = Window { after: up_to.minus(RECENT), up_to };
                let counts = self.store.frequent(user, &window, MOST_RECENT).await?;
                let rank = |place: Place| {
                    let count = counts.get(&place.conversation)?;
                    Some(((*count, place.conversation.uuid()), place))
                };
                places.filter_map(rank).collect()
            }
        })
    }

    /// Those of some conversations that filter and keyword leave over.
    async fn wanted(
        &self,
        user: UserId,
        filter: InboxFilter,
        keyword: &str,
        memberships: &Memberships,
        part: &[(Rank, Place)],
    ) -> Result<BTreeSet<ConversationId>, Error> {
        let mut places: Vec<_> = part.iter().map(|(_, place)| *place).collect();
        if filter == InboxFilter::Unread {
            let unread = self.unread(user, memberships, &places).await?;
            places.retain(|place| unread.get(&place.conversation).is_some_and(|count| *count > 0));
        }
        let ids: Vec<_> = places.iter().map(|place| place.conversation).collect();
        if keyword.is_empty() {
            return Ok(ids.into_iter().collect());
        }
        let described = self.conversations.describe(user, &ids).await?;
        let peers: BTreeSet<_> = described.values().filter_map(peer).collect();
        let names = self.people.names_of(user, &Vec::from_iter(peers)).await?;
        let has = |text: &String| fold(text).contains(keyword);
        let matches = |conversation: &Conversation| {
            let names = peer(conversation).and_then(|peer| names.get(&peer));
            has(&conversation.title)
                || has(&conversation.topic)
                || names.is_some_and(|names| names.iter().any(has))
        };
        let found = described.into_iter().filter(|(_, conversation)| matches(conversation));
        Ok(found.map(|(id, _)| id).collect())
    }

    /// These conversations with all that an entry shows.
    async fn compose(
        &self,
        user: UserId,
        memberships: &Memberships,
        places: Vec<Place>,
    ) -> Result<Vec<Entry>, Error> {
        let ids: Vec<_> = places.iter().map(|place| place.conversation).collect();
        let last = places.iter().filter(|place| place.last_message > Sequence::NONE);
        let last: Vec<_> = last.map(|place| (place.conversation, place.last_message)).collect();
        let (mut conversations, mut messages, unread) = tokio::try_join!(
            self.conversations.describe(user, &ids),
            async { Ok::<_, Error>(self.store.last_messages(user, &last).await?) },
            self.unread(user, memberships, &places),
        )?;
        let entries = places.into_iter().filter_map(|place| {
            // Not there when the user has left in between.
            let conversation = conversations.remove(&place.conversation)?;
            let last_message = messages.remove(&place.conversation);
            let unread = unread.get(&place.conversation).copied().unwrap_or(0);
            Some(Entry { conversation, last_message, unread, place })
        });
        Ok(entries.collect())
    }

    /// How many messages of others a user has not read, by conversation.
    pub async fn unread_counts(&self, user: UserId) -> Result<HashMap<ConversationId, i64>, Error> {
        let (memberships, places) = self.places(user).await?;
        let mut counts = self.unread(user, &memberships, &places).await?;
        counts.retain(|_, count| *count > 0);
        Ok(counts)
    }

    /// How far each of a user's conversations has come. One in which nothing has happened yet counts from its beginning.
    async fn places(&self, user: UserId) -> Result<(Arc<Memberships>, Vec<Place>), Error> {
        let memberships = self.conversations.memberships(user).await?;
        let places = self.places_in(user, &memberships, memberships.ids().collect()).await?;
        Ok((memberships, places))
    }

    /// The same for some of them.
    async fn places_in(
        &self,
        user: UserId,
        memberships: &Memberships,
        ids: Vec<ConversationId>,
    ) -> Result<Vec<Place>, Error> {
        let known = self.store.places(user, &ids).await?;
        let since = |id| memberships.get(id).map_or(Timestamp::from_millis(0), |membership| membership.since);
        let place = |id| known.get(&id).copied().unwrap_or_else(|| empty(id, user, since(id)));
        Ok(ids.into_iter().map(place).collect())
    }

    async fn unread(
        &self,
        user: UserId,
        memberships: &Memberships,
        places: &[Place],
    ) -> Result<HashMap<ConversationId, i64>, Error> {
        let wanted: Vec<_> = places
            .iter()
            .filter(|place| place.last_message > place.watermark.read)
            .map(|place| Unread {
                conversation: place.conversation,
                after: place.watermark.read,
                since: memberships
                    .get(place.conversation)
                    .map_or(Timestamp::from_millis(0), |membership| membership.counts_from),
            })
            .collect();
        Ok(self.store.unread(user, &wanted, MOST).await?)
    }
}

/// The other person of a direct conversation.
fn peer(conversation: &Conversation) -> Option<UserId> {
    let is_direct = conversation.kind() == ConversationKind::Direct;
    UserId::parse(&conversation.peer_user_id).ok().filter(|_| is_direct)
}

fn empty(conversation: ConversationId, user: UserId, since: Timestamp) -> Place {
    Place {
        conversation,
        head: Sequence::NONE,
        last_message: Sequence::NONE,
        activity_time: since,
        watermark: Watermark::start(conversation, user),
    }
}

/// What a page token of the inbox says: what it counts up to, and after which place it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    up_to: Timestamp,
    rank: Rank,
}

impl Cursor {
    fn write(self) -> Vec<u8> {
        [self.up_to.as_millis().to_bytes(), self.rank.to_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = Error::Invalid { field: "page_token", rule: "must be a token of an earlier page" };
        let (up_to, rank) = bytes.split_at_checked(size_of::<i64>()).ok_or_else(|| malformed.clone())?;
        let up_to = i64::from_bytes(up_to).map(Timestamp::from_millis);
        let rank = Rank::from_bytes(rank);
        up_to.zip(rank).map(|(up_to, rank)| Self { up_to, rank }).ok_or(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let cursor = Cursor { up_to: Timestamp::from_millis(7), rank: (3, Uuid::from_u128(9)) };
        assert_eq!(Cursor::read(&cursor.write()).unwrap(), cursor);
        assert!(Cursor::read(&cursor.write()[1..]).is_err() && Cursor::read(&[]).is_err());
    }
}
