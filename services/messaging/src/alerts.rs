//! The inbox of alerts.

use std::collections::{BTreeSet, HashMap};

use chassis::clock::Timestamp;
use chassis::page::Token;
use proto::id::{AlertId, ConversationId, MessageId, UserId};
use proto::messaging::v1::AlertKind;
use uuid::Uuid;

use crate::alert::{Alert, News};
use crate::error::Error;
use crate::message::Message;
use crate::messaging::{Messaging, cut};
use crate::store::{Alerts, MAX_ROWS, Marked, Marking};

/// Counting stops here.
const MOST: i64 = 1000;

/// A page of the inbox of alerts.
#[derive(Clone, Debug)]
pub struct AlertPage {
    /// The one that changed last first, each with its message while the user may read it.
    pub alerts: Vec<(Alert, Option<Message>)>,
    /// Where to continue; empty at the end.
    pub next: String,
    /// How many of the kinds asked for are unread.
    pub unread: i64,
}

/// Which alerts somebody wants to mark.
#[derive(Clone, Debug)]
pub enum Which {
    /// These.
    These(BTreeSet<AlertId>),
    /// All.
    All,
}

impl Messaging {
    /// A page of a user's alerts, of these kinds or of all when there are none.
    pub async fn alerts(
        &self,
        user: UserId,
        only_unread: bool,
        kinds: BTreeSet<AlertKind>,
        limit: i64,
        token: &str,
    ) -> Result<AlertPage, Error> {
        let user_id = user.uuid();
        let mut numbers: Vec<u8> = kinds.iter().flat_map(|kind| i32::from(*kind).to_be_bytes()).collect();
        if numbers.is_empty() {
            numbers.extend(0_i32.to_be_bytes());
        }
        let query: [&[u8]; 4] = [b"alerts", user_id.as_bytes(), &[u8::from(only_unread)], &numbers];
        let before =
            Token::after::<(i64, Uuid)>(token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let before = before.map(|(time, id)| (Timestamp::from_millis(time), AlertId::from(id)));
        let wanted = Alerts { user, only_unread, kinds, before, limit: limit + 1 };
        let mut alerts = self.store.alerts(&wanted).await?;
        let is_cut = cut(&mut alerts, limit, |_| 0);
        let mut messages = self.messages_of(user, &alerts).await?;
        let mut alerts: Vec<_> = alerts
            .into_iter()
            .map(|alert| {
                let message = alert.message.and_then(|id| messages.remove(&id));
                (alert, message)
            })
            .collect();
        let weight = |(_, message): &(Alert, Option<Message>)| message.as_ref().map_or(0, Message::weight);
        let is_last = !cut(&mut alerts, limit, weight) && !is_cut;
        let position = |(alert, _): &(Alert, _)| (alert.update_time.as_millis(), alert.alert_id.uuid());
        let next = alerts.last().filter(|_| !is_last).map(|last| Token::at(&query, &position(last)));
        let unread = self.store.unread_alerts(user, &wanted.kinds, MOST).await?;
        Ok(AlertPage { alerts, next: next.unwrap_or_default(), unread })
    }

    /// The messages that alerts are about, as they stand, as far as the user may read them now.
    async fn messages_of(
        &self,
        user: UserId,
        alerts: &[Alert],
    ) -> Result<HashMap<MessageId, Message>, Error> {
        let about = |alert: &Alert| Some((alert.conversation?, alert.message?));
        let wanted: BTreeSet<(ConversationId, MessageId)> = alerts.iter().filter_map(about).collect();
        let places: BTreeSet<_> = wanted.iter().map(|(conversation, _)| *conversation).collect();
        let questions: Vec<_> = places.into_iter().map(|conversation| (conversation, user)).collect();
        let answers = self.conversations.check(&questions).await?;
        let readable = questions.iter().zip(answers).filter(|(_, access)| access.may_read);
        let readable: BTreeSet<_> = readable.map(|((conversation, _), _)| *conversation).collect();
        let wanted: Vec<_> =
            wanted.into_iter().filter(|(conversation, _)| readable.contains(conversation)).collect();
        Ok(self.store.messages_for(user, &wanted).await?)
    }

    /// Makes the alert of a user say what became of its subject; `None` when the user is gone.
    pub async fn raise_alert(&self, news: &News) -> Result<Option<Alert>, Error> {
        let (alert, events) = self.store.raise_alert(news).await?;
        events.into_iter().for_each(|event| self.publisher.user_event(event));
        Ok(alert)
    }

    /// Marks alerts as read or unread, and answers how many are unread then. All at once when they are named; and all there
    /// are in several steps, of which each can be repeated.
    pub async fn mark_alerts(&self, user: UserId, which: Which, read: bool) -> Result<i64, Error> {
        let now = self.clock.now();
        match which {
            Which::These(ids) => self.mark(Marking { user, which: Marked::These(ids), read }, now).await?,
            Which::All => {
                let limit = i64::try_from(MAX_ROWS).unwrap_or(i64::MAX);
                let step = Marking { user, which: Marked::Some { since: now, limit }, read };
                while self.mark(step.clone(), now).await? > 0 {}
                0
            }
        };
        Ok(self.store.unread_alerts(user, &BTreeSet::new(), MOST).await?)
    }

    async fn mark(&self, marking: Marking, now: Timestamp) -> Result<usize, Error> {
        let events = self.store.mark_alerts(&marking, now).await?;
        let changed = events.len();
        events.into_iter().for_each(|event| self.publisher.user_event(event));
        Ok(changed)
    }
}
