//! The atomic operations on conversations. Compiled once per database.
//!
//! Locks are taken in one order everywhere: two people's rows by id, the conversation's row, its member rows, the users'
//! membership lists by id, the head of the outbox last.

mod acquaintances;
mod changes;
mod contacts;
mod lists;
mod people;
mod presence;
mod rows;

use std::collections::{BTreeSet, HashMap};

use chassis::clock::Timestamp;
use chassis::database::facts::{Claim, History};
use proto::id::{ConversationId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use self::changes::{apply, insert_members, situation};
use self::rows::{AccessRow, BanRow, MemberRow, MembershipRow, ViewRow};
use super::super::{Bounds, Changed, Ending, Pair as UserSomewhere, batches, code, padded};
use super::{Db, FOR_UPDATE, Pool, SKIP_LOCKED, Tx, feeds, outbox};
use crate::change::Change;
use crate::conversation::{Conversation, Namespace, SlowMode, View};
use crate::create::{Created, Plan, Sole};
use crate::error::Error;
use crate::fact::{Event, Fact};
use crate::member::{Access, Ban, Member, Memberships};
use crate::paging::Page;
use crate::publish;
use crate::role::Role;

/// The most rows that one INSERT writes.
const ROWS: usize = 64;

/// The most items that one question has.
const ITEMS: usize = 256;

/// As many memberships end in one transaction: nobody else can write meanwhile (SQLite), or waits for our locks.
const ENDINGS: i64 = 64;

/// What a [`View`] is made of, from a conversation `c` and one of its members `m`.
macro_rules! view {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT c.conversation_id, c.kind, c.title, c.topic, c.slow_mode_millis, c.secure, c.public_read,
                    c.external_namespace, c.member_count, c.membership_version, c.low_user_id, c.high_user_id, c.create_time, c.update_time, m.role,
                    r.request_id, r.from_user_id, r.state AS request_state, r.version AS request_changes,
                    r.request_version, r.create_time AS request_create_time, r.answer_time AS request_answer_time
             FROM ",
            $from,
            " LEFT JOIN pairs p ON p.low_user_id = c.low_user_id AND p.high_user_id = c.high_user_id
              LEFT JOIN requests r ON r.request_id = p.message_request_id ",
            $rest
        )
    };
}

/// A connection to read from, or a transaction.
type Connection = <Db as sqlx::Database>::Connection;

/// The conversations in a database.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

impl Store {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    pub async fn find(&self, plan: &Plan) -> Result<Option<Created>, Error> {
        if let Some(id) = self.find_request(plan).await? {
            let view = self.view(id, plan.creator).await?;
            // The caller may have been put out since. Then it is no longer theirs to see.
            let view = view.filter(View::is_visible).ok_or(Error::ConversationNotFound(id))?;
            return Ok(Some(Created { view, is_new: true }));
        }
        let id: Option<Uuid> =
            match plan.sole {
                Sole::Any => None,
                Sole::OfPair(pair) => sqlx::query_scalar(
                    "SELECT conversation_id FROM conversations WHERE low_user_id = $1 AND high_user_id = $2",
                )
                .bind(pair.low().uuid())
                .bind(pair.high().uuid())
                .fetch_optional(self.pool.read())
                .await?,
                Sole::OfMembers(set) => {
                    sqlx::query_scalar("SELECT conversation_id FROM conversations WHERE member_set = $1")
                        .bind(&set[..])
                        .fetch_optional(self.pool.read())
                        .await?
                }
            };
        let Some(id) = id else { return Ok(None) };
        let view = self.view(id.into(), plan.creator).await?;
        Ok(view.filter(View::is_visible).map(|view| Created { view, is_new: false }))
    }

    /// What an earlier try of the same call has made.
    async fn find_request(&self, plan: &Plan) -> Result<Option<ConversationId>, Error> {
        let Some(retry) = plan.retry else { return Ok(None) };
        let first: Option<(Uuid, Vec<u8>)> = sqlx::query_as(
            "SELECT conversation_id, request_fingerprint FROM conversations WHERE creator_id = $1 AND request_id = $2",
        )
        .bind(plan.creator.uuid())
        .bind(retry.request_id)
        .fetch_optional(self.pool.read())
        .await?;
        match first {
            None => Ok(None),
            Some((id, fingerprint)) if fingerprint == retry.fingerprint => Ok(Some(id.into())),
            Some(_) => Err(Error::RequestIdReused(retry.request_id)),
        }
    }

    pub async fn create(&self, plan: &Plan, at: Timestamp) -> Result<Option<View>, Error> {
        let pair = match plan.sole {
            Sole::OfPair(pair) => Some(pair),
            Sole::Any | Sole::OfMembers(_) => None,
        };
        let set = match plan.sole {
            Sole::OfMembers(set) => Some(set.to_vec()),
            Sole::Any | Sole::OfPair(_) => None,
        };
        let conversation = Conversation {
            id: plan.id,
            kind: plan.kind,
            title: plan.title.clone(),
            topic: plan.topic.clone(),
            slow_mode: SlowMode::NONE,
            secure: plan.secure,
            public_read: plan.public_read,
            external_namespace: plan.external_namespace.clone(),
            member_count: i64::try_from(plan.members.len()).unwrap_or(i64::MAX),
            membership_version: 1,
            pair,
            create_time: at,
            update_time: at,
        };
        let member =
            |(user_id, role): &(UserId, Role)| Member { user_id: *user_id, role: *role, join_time: at };
        let members: Vec<Member> = plan.members.iter().map(member).collect();

        let mut tx = self.pool.begin().await?;
        let gated = match pair {
            Some(pair) => contacts::is_gated(&mut tx, pair).await?,
            None => false,
        };
        // The unique indexes decide a race: who comes second waits for the first to commit and then inserts nothing.
        let made = sqlx::query(
            "INSERT INTO conversations (conversation_id, kind, title, topic, slow_mode_millis, member_count,
                 membership_version, creator_id, request_id, request_fingerprint, low_user_id, high_user_id, member_set,
                 create_time, update_time, secure, gated, public_read, external_namespace)
             VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15, $16, $17)
             ON CONFLICT DO NOTHING",
        )
        .bind(conversation.id.uuid())
        .bind(code::of_kind(conversation.kind))
        .bind(conversation.title.as_str())
        .bind(conversation.topic.as_str())
        .bind(conversation.slow_mode.as_millis())
        .bind(conversation.member_count)
        .bind(plan.creator.uuid())
        .bind(plan.retry.map(|retry| retry.request_id))
        .bind(plan.retry.map(|retry| retry.fingerprint.to_vec()))
        .bind(pair.map(|pair| pair.low().uuid()))
        .bind(pair.map(|pair| pair.high().uuid()))
        .bind(set)
        .bind(at.as_millis())
        .bind(conversation.secure)
        .bind(gated)
        .bind(conversation.public_read)
        .bind(conversation.external_namespace.as_ref().map(Namespace::as_str))
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(None);
        }
        insert_members(&mut tx, conversation.id, &members).await?;
        let own_role = members.iter().find(|member| member.user_id == plan.creator).map(|member| member.role);
        let mut journal = Journal::default();
        journal.admitted.extend(members.iter().map(|member| member.user_id));
        let event = Event::Created {
            kind: plan.kind,
            title: plan.title.clone(),
            secure: plan.secure,
            public_read: plan.public_read,
            members,
        };
        journal.facts.push(Fact::about(&conversation, Some(plan.creator), at, event));
        journal.close(&mut tx, at).await?;
        tx.commit().await?;
        // Nobody has written there yet, so nobody has asked there.
        Ok(Some(View { conversation, viewer: plan.creator, own_role, request: None }))
    }

    pub async fn view(&self, id: ConversationId, viewer: UserId) -> Result<Option<View>, Error> {
        let row: Option<ViewRow> = sqlx::query_as(view!(
            "conversations c
             LEFT JOIN members m ON m.conversation_id = c.conversation_id AND m.user_id = $2",
            "WHERE c.conversation_id = $1 AND c.delete_time IS NULL"
        ))
        .bind(id.uuid())
        .bind(viewer.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        row.map(|row| row.view(viewer)).transpose()
    }

    pub async fn views(&self, ids: &[ConversationId], viewer: UserId) -> Result<Vec<View>, Error> {
        let mut views = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ITEMS) {
            let mut query = QueryBuilder::<Db>::new(view!(
                "members m
                 JOIN conversations c ON c.conversation_id = m.conversation_id",
                "WHERE c.delete_time IS NULL AND m.user_id = "
            ));
            query.push_bind(viewer.uuid()).push(" AND m.conversation_id IN (");
            let mut list = query.separated(", ");
            for id in padded(ids) {
                list.push_bind(id.uuid());
            }
            query.push(")");
            let rows: Vec<ViewRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
            for row in rows {
                views.push(row.view(viewer)?);
            }
        }
        Ok(views)
    }

    pub async fn list(&self, viewer: UserId, page: Page<ConversationId>) -> Result<Vec<View>, Error> {
        let rows: Vec<ViewRow> = sqlx::query_as(view!(
            "members m
             JOIN conversations c ON c.conversation_id = m.conversation_id",
            "WHERE m.user_id = $1 AND m.conversation_id < $2 AND c.delete_time IS NULL
             ORDER BY m.conversation_id DESC
             LIMIT $3"
        ))
        .bind(viewer.uuid())
        .bind(page.after.map_or(Uuid::max(), ConversationId::uuid))
        .bind(page.rows())
        .fetch_all(self.pool.read())
        .await?;
        rows.into_iter().map(|row| row.view(viewer)).collect()
    }

    pub async fn members(
        &self,
        id: ConversationId,
        viewer: UserId,
        at_least: Role,
        page: Page<(Timestamp, UserId)>,
    ) -> Result<Vec<Member>, Error> {
        let (time, user) = position(page);
        let rows: Vec<MemberRow> = sqlx::query_as(
            "SELECT m.user_id, m.role, m.join_time
             FROM members m
             WHERE m.conversation_id = $1 AND (m.join_time, m.user_id) > ($3, $4) AND m.role >= $6
               AND (EXISTS (SELECT 1 FROM members v WHERE v.conversation_id = $1 AND v.user_id = $2)
                    OR ($6 >= 3 AND EXISTS (SELECT 1 FROM conversations c WHERE c.conversation_id = $1 AND c.public_read)))
             ORDER BY m.join_time, m.user_id
             LIMIT $5",
        )
        .bind(id.uuid())
        .bind(viewer.uuid())
        .bind(time)
        .bind(user)
        .bind(page.rows())
        .bind(code::of_role(at_least))
        .fetch_all(self.pool.read())
        .await?;
        rows.into_iter().map(MemberRow::member).collect()
    }

    pub async fn bans(
        &self,
        id: ConversationId,
        viewer: UserId,
        now: Timestamp,
        page: Page<(Timestamp, UserId)>,
    ) -> Result<Vec<Ban>, Error> {
        let (time, user) = position(page);
        let rows: Vec<BanRow> = sqlx::query_as(
            "SELECT b.user_id, b.banned_by_user_id, b.reason, b.create_time, b.expire_time
             FROM members v
             JOIN bans b ON b.conversation_id = v.conversation_id
             WHERE v.conversation_id = $1 AND v.user_id = $2 AND v.role >= $6
               AND (b.create_time, b.user_id) > ($3, $4) AND (b.expire_time IS NULL OR b.expire_time > $7)
             ORDER BY b.create_time, b.user_id
             LIMIT $5",
        )
        .bind(id.uuid())
        .bind(viewer.uuid())
        .bind(time)
        .bind(user)
        .bind(page.rows())
        .bind(code::of_role(Role::Moderator))
        .bind(now.as_millis())
        .fetch_all(self.pool.read())
        .await?;
        Ok(rows.into_iter().map(BanRow::ban).collect())
    }

    pub async fn access(&self, pairs: &[UserSomewhere]) -> Result<HashMap<UserSomewhere, Access>, Error> {
        let mut answers = HashMap::with_capacity(pairs.len());
        for pairs in pairs.chunks(ITEMS) {
            let mut query = QueryBuilder::<Db>::new("WITH asked (conversation_id, user_id) AS (");
            query.push_values(padded(pairs), |mut row, (conversation_id, user_id)| {
                row.push_bind(conversation_id.uuid()).push_bind(user_id.uuid());
            });
            query.push(
                ") SELECT a.conversation_id, a.user_id, c.kind, c.member_count, c.membership_version, c.slow_mode_millis, c.secure,
                        c.public_read, m.role, c.gated, c.low_user_id, p.connect_time, p.is_open, p.low_block_time, p.high_block_time, r.from_user_id,
                        r.state AS request_state, r.request_version,
                        CASE WHEN c.gated THEN
                            (SELECT first_contact FROM people WHERE user_id = a.user_id)
                        END AS own_first_contact,
                        CASE WHEN c.gated THEN
                            (SELECT first_contact FROM people
                             WHERE user_id = CASE WHEN c.low_user_id = a.user_id
                                             THEN c.high_user_id ELSE c.low_user_id END)
                        END AS other_first_contact
                 FROM asked a
                 JOIN conversations c ON c.conversation_id = a.conversation_id AND c.delete_time IS NULL
                 LEFT JOIN members m ON m.conversation_id = a.conversation_id AND m.user_id = a.user_id
                 LEFT JOIN pairs p ON p.low_user_id = c.low_user_id AND p.high_user_id = c.high_user_id
                 LEFT JOIN requests r ON c.gated AND r.request_id = p.message_request_id",
            );
            let rows: Vec<AccessRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
            for row in rows {
                let about = (row.conversation_id.into(), row.user_id.into());
                answers.insert(about, row.access()?);
            }
        }
        Ok(answers)
    }

    pub async fn memberships(&self, user: UserId, known_version: i64) -> Result<Memberships, Error> {
        // The version first: a change between the two reads makes the list newer than its version, and whoever
        // remembers both only asks once more. The other way round it would never learn of the change.
        let version: Option<i64> =
            sqlx::query_scalar("SELECT version FROM membership_lists WHERE user_id = $1")
                .bind(user.uuid())
                .fetch_optional(self.pool.read())
                .await?;
        let version = version.unwrap_or(1);
        if version == known_version {
            return Ok(Memberships::Unchanged { version });
        }
        let rows: Vec<MembershipRow> = sqlx::query_as(
            "SELECT m.conversation_id, m.role, c.kind, m.join_time
             FROM members m
             JOIN conversations c ON c.conversation_id = m.conversation_id
             WHERE m.user_id = $1
             ORDER BY m.conversation_id DESC",
        )
        .bind(user.uuid())
        .fetch_all(self.pool.read())
        .await?;
        let memberships = rows.into_iter().map(MembershipRow::membership).collect::<Result<_, _>>()?;
        Ok(Memberships::List { version, memberships })
    }

    pub async fn change(
        &self,
        id: ConversationId,
        actor: UserId,
        change: &Change,
        bounds: Bounds,
    ) -> Result<Changed, Error> {
        let mut tx = self.pool.begin().await?;
        let Some(mut situation) = situation(&mut tx, id, actor, change, bounds).await? else {
            return Err(Error::ConversationNotFound(id));
        };
        let steps = change.decide(&situation)?;
        if steps.is_empty() {
            tx.rollback().await?;
            return Ok(Changed { situation, has_facts: false });
        }
        let mut journal = Journal::default();
        apply(&mut tx, &mut situation, &steps, Some(actor), &mut journal).await?;
        let has_facts = !journal.facts.is_empty();
        journal.close(&mut tx, bounds.now).await?;
        tx.commit().await?;
        Ok(Changed { situation, has_facts })
    }

    pub async fn end_account(&self, user_id: UserId, claim: &Claim, at: Timestamp) -> Result<Ending, Error> {
        // Committed before the memberships are read: whoever brings the user in afterwards is refused, and whoever did
        // so before is seen.
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO membership_lists (user_id, version, delete_time) VALUES ($1, 1, $2)
             ON CONFLICT (user_id) DO UPDATE SET delete_time = excluded.delete_time
             WHERE membership_lists.delete_time IS NULL",
        )
        .bind(user_id.uuid())
        .bind(at.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;

        let mut tx = self.pool.begin().await?;
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT conversation_id FROM members WHERE user_id = $1 ORDER BY conversation_id LIMIT $2",
        )
        .bind(user_id.uuid())
        .bind(ENDINGS)
        .fetch_all(&mut *tx)
        .await?;
        let is_last = i64::try_from(ids.len()).is_ok_and(|count| count < ENDINGS);
        if is_last && !feeds::claim(&mut tx, claim).await? {
            tx.rollback().await?;
            return Ok(Ending::Overtaken);
        }
        let mut journal = Journal::default();
        let bounds = Bounds { max_members: i64::MAX, now: at };
        // In the order of their ids, so that two of these never wait for each other.
        for id in ids {
            let change = Change::EndAccount;
            // The conversation may have been deleted since.
            let Some(mut situation) = situation(&mut tx, id.into(), user_id, &change, bounds).await? else {
                continue;
            };
            let steps = change.decide(&situation)?;
            apply(&mut tx, &mut situation, &steps, None, &mut journal).await?;
        }
        journal.close(&mut tx, at).await?;
        tx.commit().await?;
        Ok(if is_last { Ending::Complete } else { Ending::Partial })
    }

    pub async fn facts(&self, after: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        Ok(outbox::list(&self.pool, after, limit).await?)
    }

    pub async fn history(&self, position: i64) -> Result<History, Error> {
        Ok(outbox::history(&self.pool, position).await?)
    }
}

/// What a transaction has done, for those who have to know.
#[derive(Default)]
struct Journal {
    facts: Vec<Fact>,
    /// Who has come in.
    admitted: BTreeSet<UserId>,
    /// Whose list of memberships is different for another reason.
    touched: BTreeSet<UserId>,
}

impl Journal {
    /// Writes the facts, and a new version of every list that is different. The last thing before the commit.
    async fn close(self, tx: &mut Tx, at: Timestamp) -> Result<(), Error> {
        let users: Vec<UserId> = self.admitted.union(&self.touched).copied().collect();
        for users in batches(&users, ROWS) {
            let mut query = QueryBuilder::<Db>::new("INSERT INTO membership_lists (user_id, version) ");
            query.push_values(users, |mut row, user_id| {
                // The list that a user without a row has is version 1.
                row.push_bind(user_id.uuid()).push_bind(2_i64);
            });
            query.push(
                " ON CONFLICT (user_id) DO UPDATE SET version = membership_lists.version + 1
                 RETURNING user_id, delete_time IS NOT NULL",
            );
            let rows: Vec<(Uuid, bool)> = query.build_query_as().fetch_all(&mut **tx).await?;
            let deleted = |(user_id, is_deleted): (Uuid, bool)| is_deleted.then_some(UserId::from(user_id));
            let mut deleted = rows.into_iter().filter_map(deleted);
            if let Some(user_id) = deleted.find(|user_id| self.admitted.contains(user_id)) {
                return Err(Error::UserNotFound(user_id));
            }
        }
        let payloads: Vec<Vec<u8>> = self.facts.iter().map(publish::encode).collect();
        outbox::append_all(tx, &payloads, at.as_millis()).await?;
        Ok(())
    }
}

/// Where a page of members or bans starts: after this time and user.
fn position(page: Page<(Timestamp, UserId)>) -> (i64, Uuid) {
    page.after.map_or((i64::MIN, Uuid::nil()), |(time, user_id)| (time.as_millis(), user_id.uuid()))
}
