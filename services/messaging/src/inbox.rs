//! The inbox: a user's conversations by newest activity, and what is unread. Composed when it is read; nothing is written
//! per recipient when a message is sent.

use std::collections::HashMap;
use std::sync::Arc;

use chassis::clock::Timestamp;
use chassis::page::Token;
use proto::conversation::v1::Conversation;
use proto::id::{ConversationId, UserId};
use uuid::Uuid;

use crate::conversations::Memberships;
use crate::error::Error;
use crate::message::{Message, Sequence};
use crate::messaging::Messaging;
use crate::receipt::Watermark;
use crate::store::{Place, Unread};

/// Counting stops here.
const MOST: i64 = 1000;

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

impl Messaging {
    /// A page of the inbox, and where to continue.
    pub async fn inbox(&self, user: UserId, limit: i64, token: &str) -> Result<(Vec<Entry>, String), Error> {
        let user_id = user.uuid();
        let query: [&[u8]; 2] = [b"inbox", user_id.as_bytes()];
        let after =
            Token::after::<(i64, Uuid)>(token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;

        let (memberships, mut places) = self.places(user).await?;
        let position = |place: &Place| (place.activity_time.as_millis(), place.conversation.uuid());
        places.retain(|place| after.is_none_or(|after| position(place) < after));
        places.sort_unstable_by_key(|place| std::cmp::Reverse(position(place)));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_last = places.len() <= limit;
        places.truncate(limit);
        let next = places.last().filter(|_| !is_last).map(|last| Token::at(&query, &position(last)));

        let ids: Vec<_> = places.iter().map(|place| place.conversation).collect();
        let last = places.iter().filter(|place| place.last_message > Sequence::NONE);
        let last: Vec<_> = last.map(|place| (place.conversation, place.last_message)).collect();
        let (mut conversations, mut messages, unread) = tokio::try_join!(
            self.conversations.describe(user, &ids),
            async { Ok::<_, Error>(self.store.last_messages(user, &last).await?) },
            self.unread(user, &memberships, &places),
        )?;
        let entries = places.into_iter().filter_map(|place| {
            // Not there when the user has left in between.
            let conversation = conversations.remove(&place.conversation)?;
            let last_message = messages.remove(&place.conversation);
            let unread = unread.get(&place.conversation).copied().unwrap_or(0);
            Some(Entry { conversation, last_message, unread, place })
        });
        Ok((entries.collect(), next.unwrap_or_default()))
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
        let ids: Vec<_> = memberships.ids().collect();
        let known = self.store.places(user, &ids).await?;
        let since = |id| memberships.get(id).map_or(Timestamp::from_millis(0), |membership| membership.since);
        let place = |id| known.get(&id).copied().unwrap_or_else(|| empty(id, user, since(id)));
        let places = ids.into_iter().map(place).collect();
        Ok((memberships, places))
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

fn empty(conversation: ConversationId, user: UserId, since: Timestamp) -> Place {
    Place {
        conversation,
        head: Sequence::NONE,
        last_message: Sequence::NONE,
        activity_time: since,
        watermark: Watermark::start(conversation, user),
    }
}
