//! What conversation tells, as it becomes part of the logs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::database::facts::Claim;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{AlertState, DeletionReason};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::alerts::tell;
use super::departures::{depart, lock_present};
use super::erase::{Going, tombstone};
use super::log::{Advance, advance_heads, insert_events};
use super::user_log::{append_user_events, lock_users};
use super::{Db, Store, Tx, feeds, padded, requests, uploads};
use crate::alert::News;
use crate::event::{Event, Fact, FactKind, Happening, UserEvent, UserHappening};
use crate::message::{Deletion, Sequence};
use crate::people::PersonFact;
use crate::request::{RequestChange, Waits};
use crate::store::{Applied, Failure, MAX_ROWS};

/// Clocks of two machines may differ by so much: who came in then and who wrote then is told with some to spare.
const SKEW: Duration = Duration::from_secs(1);

impl Store {
    pub async fn apply(
        &self,
        claim: &Claim,
        facts: &[Fact],
        requests: &[RequestChange],
    ) -> Result<Option<Applied>, Failure> {
        let mut tx = self.pool.begin().await?;
        if !feeds::claim(&mut tx, claim).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let mut advances: BTreeMap<ConversationId, Advance> = BTreeMap::new();
        for fact in facts {
            let advance = advances.entry(fact.conversation).or_insert(Advance::events(0));
            advance.events += 1;
            if fact.kind == FactKind::Created {
                advance.activity_time = fact.occur_time.as_millis();
            }
        }
        for waits in requests.iter().filter_map(|request| request.waits) {
            advances.entry(waits.conversation).or_insert(Advance::LOCK);
        }
        let mut next = advance_heads(&mut tx, &advances).await?;
        for (conversation, last) in &mut next {
            *last -= advances.get(conversation).map_or(0, |advance| advance.events);
        }

        let mut events = Vec::new();
        let mut happened = Vec::new();
        for fact in facts {
            // Not there when the conversation was gone already: it cannot be told anything more.
            if let Some(last) = next.get_mut(&fact.conversation) {
                *last += 1;
                events.push(Event {
                    conversation: fact.conversation,
                    sequence: Sequence::new(*last),
                    membership_version: fact.membership_version,
                    occur_time: fact.occur_time,
                    actor: fact.actor,
                    what: Happening::ToConversation { kind: fact.kind, payload: fact.payload.clone() },
                });
            }
            let mut starts: HashMap<Timestamp, Sequence> = HashMap::new();
            for &(user, since) in &fact.gained {
                let after = match starts.get(&since) {
                    Some(&after) => after,
                    None if fact.kind == FactKind::Created => Sequence::NONE,
                    None => last_before(&mut tx, fact.conversation, since).await?,
                };
                starts.insert(since, after);
                let gained = UserHappening::ConversationGained { conversation: fact.conversation, after };
                happened.push((user, fact.occur_time, gained));
            }
            for &(user, reason) in &fact.lost {
                let lost = UserHappening::ConversationLost { conversation: fact.conversation, reason };
                happened.push((user, fact.occur_time, lost));
            }
        }
        insert_events(&mut tx, &Vec::from_iter(&events)).await?;
        for fact in facts {
            let gained = fact.gained.iter().map(|(user, _)| *user).collect::<Vec<_>>();
            let lost = fact.lost.iter().map(|(user, _)| *user).collect::<Vec<_>>();
            set_members(&mut tx, fact.conversation, &gained, true).await?;
            set_members(&mut tx, fact.conversation, &lost, false).await?;
        }
        let (mut news, mut asked) = (Vec::new(), Vec::new());
        for request in requests {
            // Of a conversation that is gone, all that was asked there has gone, too.
            if request.waits.is_none_or(|waits| next.contains_key(&waits.conversation)) {
                let (told, unsent) = settle(&mut tx, request).await?;
                news.extend(told);
                events.extend(unsent);
                let who = |waits: Waits| [request.from, request.to].map(|user| (user, waits.conversation));
                asked.extend(request.waits.into_iter().flat_map(who));
            }
        }
        // All at once and before anything is erased: who marks its alerts holds the head of its log and then the alerts.
        let mut users: BTreeSet<_> = happened.iter().map(|(user, ..)| *user).collect();
        users.extend(news.iter().map(|one| one.user).chain(asked.iter().map(|(user, _)| *user)));
        let gone = lock_present(&mut tx, &users).await?;
        happened.retain(|(user, ..)| !gone.contains(user));
        for (user, conversation) in asked.iter().filter(|(user, _)| gone.contains(user)) {
            requests::forget(&mut tx, *user, &[*conversation]).await?;
        }
        let mut user_events = append_user_events(&mut tx, happened).await?;
        user_events.extend(tell(&mut tx, &news).await?);
        for event in &events {
            if let Happening::ToConversation { kind: FactKind::Deleted, .. } = event.what {
                erase(&mut tx, event).await?;
            }
        }
        tx.commit().await?;
        Ok(Some(Applied { events, user_events }))
    }

    pub async fn apply_to_people(
        &self,
        claim: &Claim,
        facts: &[PersonFact],
        now: Timestamp,
    ) -> Result<Option<Vec<UserEvent>>, Failure> {
        let mut tx = self.pool.begin().await?;
        if !feeds::claim(&mut tx, claim).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let (mut news, mut gone, mut users) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        // Several changes of one profile that are taken at once are one event.
        let mut updated: BTreeMap<UserId, Timestamp> = BTreeMap::new();
        for fact in facts {
            match fact {
                PersonFact::Reviewed(one) => {
                    users.insert(one.user);
                    news.push(one.clone());
                }
                PersonFact::ProfileChanged { user, time } => {
                    users.insert(*user);
                    updated.insert(*user, *time);
                }
                PersonFact::Gone(user) => {
                    users.insert(*user);
                    gone.insert(*user);
                }
            }
        }
        // All at once, in their order: nobody waits for anybody in a circle.
        lock_users(&mut tx, &users).await?;
        depart(&mut tx, &gone, now).await?;
        let mut events = tell(&mut tx, &news).await?;
        let gone = lock_present(&mut tx, &updated.keys().copied().collect()).await?;
        let updated = updated.into_iter().filter(|(user, _)| !gone.contains(user));
        let happened = updated.map(|(user, time)| (user, time, UserHappening::ProfileChanged));
        events.extend(append_user_events(&mut tx, happened.collect()).await?);
        tx.commit().await?;
        Ok(Some(events))
    }
}

/// Takes note of what became of a request. Answers what the two are told, and the events of what is unsent with it.
async fn settle(tx: &mut Tx, request: &RequestChange) -> Result<(Vec<News>, Vec<Event>), Failure> {
    // What is so for one of the two alone changes nothing about the message, or about who may write.
    let waits = request.waits.filter(|_| request.only.is_none());
    let Some(waits) = waits else { return Ok((request.news(None), Vec::new())) };
    let message = requests::told(tx, request, waits).await?;
    let news = request.news(message.map(|(id, _)| id));
    let Some((_, sequence)) = message.filter(|_| request.state == AlertState::RequestCancelled) else {
        return Ok((news, Vec::new()));
    };
    let there = sqlx::query::<Db>(
        "SELECT m.message_id FROM messages m JOIN conversation_heads h ON h.conversation_id = m.conversation_id
         WHERE m.conversation_id = $1 AND m.sequence = $2 AND m.delete_time IS NULL AND m.sequence > h.purged_sequence",
    )
    .bind(waits.conversation.uuid())
    .bind(sequence.get())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = there else { return Ok((news, Vec::new())) };
    let going = Going {
        conversation: waits.conversation,
        sequence,
        message_id: row.try_get::<Uuid, _>(0)?.into(),
        membership_version: waits.membership_version,
    };
    let deletion = Deletion { time: request.time, by: Some(request.from), reason: DeletionReason::Unsent };
    Ok((news, tombstone(tx, &[going], deletion).await?))
}

/// The last event of a conversation that is surely older than this.
async fn last_before(
    tx: &mut Tx,
    conversation: ConversationId,
    time: Timestamp,
) -> Result<Sequence, Failure> {
    let mut last = 0;
    for text in [
        "SELECT sequence FROM messages WHERE conversation_id = $1 AND create_time < $2 ORDER BY sequence DESC LIMIT 1",
        "SELECT sequence FROM events WHERE conversation_id = $1 AND occur_time < $2 ORDER BY sequence DESC LIMIT 1",
    ] {
        let found: Option<i64> = sqlx::query_scalar(text)
            .bind(conversation.uuid())
            .bind(time.minus(SKEW).as_millis())
            .fetch_optional(&mut **tx)
            .await?;
        last = last.max(found.unwrap_or(0));
    }
    Ok(Sequence::new(last))
}

/// Takes note of who is a member and who is not.
async fn set_members(
    tx: &mut Tx,
    conversation: ConversationId,
    users: &[UserId],
    is_member: bool,
) -> Result<(), Failure> {
    let mut users = users.to_vec();
    users.sort_unstable();
    for part in users.chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new("UPDATE watermarks SET is_member = ");
        query.push_bind(is_member).push(" WHERE conversation_id = ").push_bind(conversation.uuid());
        query.push(" AND user_id IN (");
        let mut list = query.separated(", ");
        for user in padded(part) {
            list.push_bind(user.uuid());
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Erases everything of a conversation but the last event of its log, which says that it is gone.
async fn erase(tx: &mut Tx, last: &Event) -> Result<(), Failure> {
    for text in [
        "DELETE FROM messages WHERE conversation_id = $1",
        "DELETE FROM watermarks WHERE conversation_id = $1",
        "DELETE FROM paces WHERE conversation_id = $1",
        "DELETE FROM revisions WHERE conversation_id = $1",
        "DELETE FROM hidden_messages WHERE conversation_id = $1",
        "DELETE FROM reactions WHERE conversation_id = $1",
        "DELETE FROM pins WHERE conversation_id = $1",
        "DELETE FROM votes WHERE conversation_id = $1",
        "DELETE FROM reports WHERE conversation_id = $1",
        uploads::RELEASE_ALL[0],
        uploads::RELEASE_ALL[1],
        "DELETE FROM searchable WHERE conversation_id = $1",
        "DELETE FROM alerts WHERE conversation_id = $1",
        "DELETE FROM message_requests WHERE conversation_id = $1",
    ] {
        sqlx::query::<Db>(text).bind(last.conversation.uuid()).execute(&mut **tx).await?;
    }
    sqlx::query::<Db>("DELETE FROM events WHERE conversation_id = $1 AND sequence < $2")
        .bind(last.conversation.uuid())
        .bind(last.sequence.get())
        .execute(&mut **tx)
        .await?;
    sqlx::query::<Db>(
        "UPDATE conversation_heads SET delete_time = $2, last_message_sequence = 0 WHERE conversation_id = $1",
    )
    .bind(last.conversation.uuid())
    .bind(last.occur_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
