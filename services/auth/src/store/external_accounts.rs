//! External accounts: the names in other systems that accounts stand for.

use proto::id::{SessionId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{
    Db, Store, Tx, UserRow, insert_session, insert_user, kind_number, lock_user, make_room, user_columns,
};
use crate::error::Error;
use crate::external_account::{ExternalAccount, Namespace};
use crate::session::Grant;
use crate::user::{User, UserKind, UserPage};

impl Store {
    pub async fn find_external(&self, external: &ExternalAccount) -> Result<Option<UserId>, Error> {
        let found: Option<Uuid> =
            sqlx::query_scalar("SELECT user_id FROM external_accounts WHERE namespace = $1 AND name = $2")
                .bind(external.namespace().as_str())
                .bind(external.name())
                .fetch_optional(self.pool.read())
                .await?;
        Ok(found.map(UserId::from))
    }

    pub async fn create_external(
        &self,
        user: &User,
        external: &ExternalAccount,
        first: &Grant,
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        insert_user(&mut tx, user, None).await?;
        if !insert_external(&mut tx, user, external).await? {
            return Ok(false);
        }
        insert_session(&mut tx, first).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn sign_in_external(
        &self,
        external: &ExternalAccount,
        kind: UserKind,
        grant: &Grant,
        most: u32,
    ) -> Result<Option<(User, Vec<SessionId>)>, Error> {
        let user_id = grant.session.user_id;
        let mut tx = self.pool.begin().await?;
        // The sweeper deletes guests without a session under the same lock: the guest is gone before, or stays.
        let Some(credentials) = lock_user(&mut tx, user_id).await? else { return Ok(None) };
        let user = credentials.user;
        if user.external.as_ref() != Some(external) {
            return Ok(None);
        }
        if user.kind != kind {
            return Err(Error::invalid("kind", "must be the kind that the account was made with"));
        }
        let ended = make_room(&mut tx, user_id, most).await?;
        insert_session(&mut tx, grant).await?;
        tx.commit().await?;
        Ok(Some((user, ended)))
    }

    pub async fn list_external(
        &self,
        namespace: &Namespace,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<UserPage, Error> {
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", user_columns!(), " FROM users WHERE kind = "));
        query.push_bind(kind_number(UserKind::External));
        query.push(" AND user_id IN (SELECT e.user_id FROM external_accounts e WHERE e.namespace = ");
        query.push_bind(namespace.as_str().to_owned()).push(")");
        if let Some(after) = after {
            query.push(" AND user_id > ").push_bind(after.uuid());
        }
        // One more than asked for tells whether there are more.
        query.push(" ORDER BY user_id LIMIT ").push_bind(limit + 1);
        let rows: Vec<UserRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        let limit = usize::try_from(limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        let users = rows.into_iter().take(limit).map(UserRow::into_user).collect::<Result<_, _>>()?;
        Ok(UserPage { users, has_more })
    }
}

/// `false` when the name has an account. A call at the same time for the same name is waited for.
async fn insert_external(tx: &mut Tx, user: &User, external: &ExternalAccount) -> Result<bool, Error> {
    let inserted = sqlx::query(
        "INSERT INTO external_accounts (namespace, name, user_id, create_time) VALUES ($1, $2, $3, $4)
         ON CONFLICT (namespace, name) DO NOTHING",
    )
    .bind(external.namespace().as_str())
    .bind(external.name())
    .bind(user.id.uuid())
    .bind(user.create_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}
