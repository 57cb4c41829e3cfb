//! A change of a conversation: what its decision rests on is read under the lock, and its steps are written.

use std::collections::{BTreeMap, BTreeSet};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::rows::{BanRow, ConversationRow, MemberRow};
use super::{Db, FOR_UPDATE, ITEMS, Journal, ROWS, Tx, batches, code, contacts, padded};
use crate::change::{Change, Settings, Situation, Step};
use crate::conversation::{SlowMode, Title, Topic};
use crate::error::Error;
use crate::member::{Member, Removal};
use crate::role::Role;
use crate::store::Bounds;

/// Locks a conversation and reads what the decision about a change rests on. `None` when there is no such conversation.
pub async fn situation(
    tx: &mut Tx,
    id: ConversationId,
    actor: UserId,
    change: &Change,
    bounds: Bounds,
) -> Result<Option<Situation>, Error> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT conversation_id, kind, title, topic, slow_mode_millis, secure, public_read, external_namespace,
                member_count, membership_version, low_user_id, high_user_id, create_time, update_time
         FROM conversations
         WHERE delete_time IS NULL AND conversation_id = ",
    );
    query.push_bind(id.uuid()).push(" ").push(FOR_UPDATE);
    let row: Option<ConversationRow> = query.build_query_as().fetch_optional(&mut **tx).await?;
    let Some(row) = row else { return Ok(None) };

    let mut users: BTreeSet<UserId> = change.names().iter().copied().collect();
    users.insert(actor);
    let users: Vec<UserId> = users.into_iter().collect();
    let mut situation = Situation {
        conversation: row.conversation()?,
        actor,
        members: BTreeMap::new(),
        bans: BTreeMap::new(),
        muted_before: BTreeSet::new(),
        owners: 0,
        heir: None,
        unwilling: BTreeSet::new(),
        everyone: Vec::new(),
        max_members: bounds.max_members,
        now: bounds.now,
    };
    for users in users.chunks(ITEMS) {
        read_users(tx, &mut situation, users).await?;
    }
    if matches!(change, Change::Add(_)) {
        situation.unwilling = contacts::unwilling(tx, actor, change.names()).await?;
    }
    if change.may_cost_an_owner() {
        situation.owners =
            sqlx::query_scalar("SELECT COUNT(*) FROM members WHERE conversation_id = $1 AND role = 4")
                .bind(id.uuid())
                .fetch_one(&mut **tx)
                .await?;
    }
    if *change == Change::EndAccount {
        // The highest role first, and among equals the one who has been in for longest. Rights over others do not pass to one
        // from whom a moderator has taken the right to write.
        let heir: Option<Uuid> = sqlx::query_scalar(
            "SELECT user_id FROM members
             WHERE conversation_id = $1 AND user_id <> $2 AND role >= $3
             ORDER BY role DESC, join_time, user_id
             LIMIT 1",
        )
        .bind(id.uuid())
        .bind(actor.uuid())
        .bind(code::of_role(Role::Member))
        .fetch_optional(&mut **tx)
        .await?;
        situation.heir = heir.map(UserId::from);
    }
    if *change == Change::Delete {
        let everyone: Vec<Uuid> =
            sqlx::query_scalar("SELECT user_id FROM members WHERE conversation_id = $1 ORDER BY user_id")
                .bind(id.uuid())
                .fetch_all(&mut **tx)
                .await?;
        situation.everyone = everyone.into_iter().map(UserId::from).collect();
    }
    Ok(Some(situation))
}

/// Reads what there is about these users in a conversation.
async fn read_users(tx: &mut Tx, situation: &mut Situation, users: &[UserId]) -> Result<(), Error> {
    let id = situation.conversation.id.uuid();
    let mut query = among("SELECT user_id, role, join_time FROM members WHERE conversation_id = ", id, users);
    let rows: Vec<MemberRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    for row in rows {
        let member = row.member()?;
        situation.members.insert(member.user_id, member);
    }
    let mut query = among(
        "SELECT user_id, banned_by_user_id, reason, create_time, expire_time FROM bans WHERE conversation_id = ",
        id,
        users,
    );
    let rows: Vec<BanRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    let bans = rows.into_iter().map(BanRow::ban).filter(|ban| ban.is_in_force(situation.now));
    situation.bans.extend(bans.map(|ban| (ban.user_id, ban)));
    let mut query = among("SELECT user_id FROM mutes WHERE conversation_id = ", id, users);
    let rows: Vec<Uuid> = query.build_query_scalar().fetch_all(&mut **tx).await?;
    situation.muted_before.extend(rows.into_iter().map(UserId::from));
    Ok(())
}

/// A statement that ends in the id of a conversation, cut down to these users.
fn among(statement: &str, id: Uuid, users: &[UserId]) -> QueryBuilder<Db> {
    let mut query = QueryBuilder::<Db>::new(statement);
    query.push_bind(id).push(" AND user_id IN (");
    let mut list = query.separated(", ");
    for user_id in padded(users) {
        list.push_bind(user_id.uuid());
    }
    query.push(")");
    query
}

/// Takes the steps: writes them, and notes in the journal what others have to know.
pub async fn apply(
    tx: &mut Tx,
    situation: &mut Situation,
    steps: &[Step],
    by: Option<UserId>,
    journal: &mut Journal,
) -> Result<(), Error> {
    for step in steps {
        write(tx, situation, step).await?;
        match step {
            Step::Admit(members) => journal.admitted.extend(members.iter().map(|member| member.user_id)),
            Step::Dismiss { member, .. } => {
                journal.touched.insert(member.user_id);
            }
            Step::Assign(user_id, _) => {
                journal.touched.insert(*user_id);
            }
            Step::Delete => journal.touched.extend(&situation.everyone),
            Step::Configure(_) | Step::Ban(_) | Step::Unban(_) => {}
        }
        journal.facts.extend(situation.take(step, by));
    }
    let changes_members =
        steps.iter().any(|step| matches!(step, Step::Admit(_) | Step::Dismiss { .. } | Step::Delete));
    let conversation = &situation.conversation;
    sqlx::query(
        "UPDATE conversations
         SET member_count = $2, membership_version = $3, member_set = CASE WHEN $4 THEN NULL ELSE member_set END
         WHERE conversation_id = $1",
    )
    .bind(conversation.id.uuid())
    .bind(conversation.member_count)
    .bind(conversation.membership_version)
    // A discussion is found by the members it was made with for as long as they are its members.
    .bind(changes_members)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn write(tx: &mut Tx, situation: &Situation, step: &Step) -> Result<(), Error> {
    let id = situation.conversation.id;
    match step {
        Step::Configure(settings) => configure(tx, id, settings, situation.now).await,
        Step::Delete => delete(tx, id, situation.now).await,
        Step::Admit(members) => {
            insert_members(tx, id, members).await?;
            let users: Vec<UserId> = members.iter().map(|member| member.user_id).collect();
            // A ban of one who comes in has ended.
            for statement in
                ["DELETE FROM mutes WHERE conversation_id = ", "DELETE FROM bans WHERE conversation_id = "]
            {
                for users in users.chunks(ITEMS) {
                    among(statement, id.uuid(), users).build().execute(&mut **tx).await?;
                }
            }
            Ok(())
        }
        Step::Dismiss { member, removal } => {
            sqlx::query("DELETE FROM members WHERE conversation_id = $1 AND user_id = $2")
                .bind(id.uuid())
                .bind(member.user_id.uuid())
                .execute(&mut **tx)
                .await?;
            if member.role == Role::Muted && *removal != Removal::UserDeleted {
                sqlx::query(
                    "INSERT INTO mutes (conversation_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                )
                .bind(id.uuid())
                .bind(member.user_id.uuid())
                .execute(&mut **tx)
                .await?;
            }
            Ok(())
        }
        Step::Assign(user_id, role) => {
            sqlx::query("UPDATE members SET role = $3 WHERE conversation_id = $1 AND user_id = $2")
                .bind(id.uuid())
                .bind(user_id.uuid())
                .bind(code::of_role(*role))
                .execute(&mut **tx)
                .await?;
            Ok(())
        }
        Step::Ban(ban) => {
            sqlx::query(
                "INSERT INTO bans (conversation_id, user_id, banned_by_user_id, reason, create_time, expire_time)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (conversation_id, user_id) DO UPDATE
                 SET banned_by_user_id = excluded.banned_by_user_id, reason = excluded.reason,
                     create_time = excluded.create_time, expire_time = excluded.expire_time",
            )
            .bind(id.uuid())
            .bind(ban.user_id.uuid())
            .bind(ban.banned_by.uuid())
            .bind(&ban.reason)
            .bind(ban.create_time.as_millis())
            .bind(ban.expire_time.map(Timestamp::as_millis))
            .execute(&mut **tx)
            .await?;
            Ok(())
        }
        Step::Unban(user_id) => {
            sqlx::query("DELETE FROM bans WHERE conversation_id = $1 AND user_id = $2")
                .bind(id.uuid())
                .bind(user_id.uuid())
                .execute(&mut **tx)
                .await?;
            Ok(())
        }
    }
}

async fn configure(tx: &mut Tx, id: ConversationId, settings: &Settings, at: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "UPDATE conversations
         SET title = COALESCE($2, title), topic = COALESCE($3, topic),
             slow_mode_millis = COALESCE($4, slow_mode_millis), update_time = $5, secure = COALESCE($6, secure),
             public_read = COALESCE($7, public_read)
         WHERE conversation_id = $1",
    )
    .bind(id.uuid())
    .bind(settings.title.as_ref().map(Title::as_str))
    .bind(settings.topic.as_ref().map(Topic::as_str))
    .bind(settings.slow_mode.map(SlowMode::as_millis))
    .bind(at.as_millis())
    .bind(settings.secure)
    .bind(settings.public_read)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Nothing of it stays but the row that a retried creation finds.
async fn delete(tx: &mut Tx, id: ConversationId, at: Timestamp) -> Result<(), Error> {
    for statement in [
        "DELETE FROM members WHERE conversation_id = $1",
        "DELETE FROM bans WHERE conversation_id = $1",
        "DELETE FROM mutes WHERE conversation_id = $1",
    ] {
        sqlx::query(statement).bind(id.uuid()).execute(&mut **tx).await?;
    }
    sqlx::query(
        "UPDATE conversations SET title = '', topic = '', delete_time = $2 WHERE conversation_id = $1",
    )
    .bind(id.uuid())
    .bind(at.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn insert_members(tx: &mut Tx, id: ConversationId, members: &[Member]) -> Result<(), Error> {
    for members in batches(members, ROWS) {
        let mut query =
            QueryBuilder::<Db>::new("INSERT INTO members (conversation_id, user_id, role, join_time) ");
        query.push_values(members, |mut row, member| {
            row.push_bind(id.uuid())
                .push_bind(member.user_id.uuid())
                .push_bind(code::of_role(member.role))
                .push_bind(member.join_time.as_millis());
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}
