//! What others have found out about a user, and what goes with the user.

use chassis::clock::Timestamp;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Tx, refused};
use crate::error::Error;
use crate::standing::Standing;
use crate::user::User;

/// Writes down what is known of a user when that has changed.
pub(super) async fn keep_standing(tx: &mut Tx, user: &User, before: Standing) -> Result<(), Error> {
    if user.standing == before {
        return Ok(());
    }
    sqlx::query("UPDATE users SET email_verify_time = $2, background_check_time = $3, has_replaced_verified = $4 WHERE user_id = $1")
        .bind(user.id.uuid())
        .bind(user.standing.email_verify_time.map(Timestamp::as_millis))
        .bind(user.standing.background_check_time.map(Timestamp::as_millis))
        .bind(user.standing.has_replaced_verified)
        .execute(&mut **tx)
        .await
        .map_err(|error| refused(error, None))?;
    Ok(())
}

/// Removes what is kept of a user who goes: codes, links, names in other systems, checks, and errands that are not done yet.
pub(super) async fn erase_doors(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    for sql in [
        "UPDATE users SET email_verify_time = NULL, background_check_time = NULL, has_replaced_verified = FALSE
         WHERE user_id = $1",
        "DELETE FROM code_flows WHERE user_id = $1",
        "DELETE FROM provider_links WHERE user_id = $1",
        "DELETE FROM external_accounts WHERE user_id = $1",
        "DELETE FROM background_checks WHERE user_id = $1",
        "DELETE FROM errands WHERE user_id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The columns of [`Standing`].
#[derive(FromRow)]
pub(super) struct StandingRow {
    email_verify_time: Option<i64>,
    background_check_time: Option<i64>,
    has_replaced_verified: bool,
}

impl From<StandingRow> for Standing {
    fn from(row: StandingRow) -> Self {
        Self {
            email_verify_time: row.email_verify_time.map(Timestamp::from_millis),
            background_check_time: row.background_check_time.map(Timestamp::from_millis),
            has_replaced_verified: row.has_replaced_verified,
        }
    }
}
