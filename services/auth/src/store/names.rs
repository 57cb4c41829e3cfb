//! Usernames of deleted accounts, which rest before somebody else gets them.

use chassis::clock::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::sweep::Ending;
use super::{Store, Tx};
use crate::error::Error;
use crate::username::Username;

impl Store {
    pub async fn sweep_usernames(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let rows = Ending { table: "released_usernames", key: "name_hash", time: "delete_time" };
        self.sweep(rows, now.minus(self.names_rest), limit).await
    }
}

/// Refuses the name of an account that was deleted after this instant.
pub(super) async fn check_free(tx: &mut Tx, name: &Username, since: Timestamp) -> Result<(), Error> {
    let released: Option<i64> = sqlx::query_scalar(
        "SELECT delete_time FROM released_usernames WHERE name_hash = $1 AND delete_time > $2",
    )
    .bind(sum(name.as_str()).as_slice())
    .bind(since.as_millis())
    .fetch_optional(&mut **tx)
    .await?;
    if released.is_some() { Err(Error::UsernameTaken(name.clone())) } else { Ok(()) }
}

/// Writes down the name of a user who goes. The row is locked.
pub(super) async fn release(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<(), Error> {
    let name: Option<String> = sqlx::query_scalar("SELECT username FROM users WHERE user_id = $1")
        .bind(id)
        .fetch_one(&mut **tx)
        .await?;
    let Some(name) = name else { return Ok(()) };
    sqlx::query(
        "INSERT INTO released_usernames (name_hash, delete_time) VALUES ($1, $2)
         ON CONFLICT (name_hash) DO UPDATE SET delete_time = excluded.delete_time",
    )
    .bind(sum(&name).as_slice())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn sum(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}
