//! The device keys of users.

use chassis::clock::Timestamp;
use proto::id::{DeviceKeyId, UserId};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, lock_user, unreadable};
use crate::device_key::{DeviceKey, KeyName, MOST_EVER, MOST_IN_USE, PublicKey};
use crate::error::Error;

impl Store {
    pub async fn register_device_key(&self, key: &DeviceKey) -> Result<DeviceKey, Error> {
        let mut tx = self.pool.begin().await?;
        // The lock keeps two registrations of one user from each passing the same count.
        if lock_user(&mut tx, key.user_id).await?.is_none() {
            return Err(Error::Unauthenticated);
        }
        let first: Option<KeyRow> = sqlx::query_as(
            "SELECT user_id, device_key_id, public_key, name, create_time, revoke_time FROM device_keys
             WHERE user_id = $1 AND public_key = $2",
        )
        .bind(key.user_id.uuid())
        .bind(key.public_key.as_bytes())
        .fetch_optional(&mut *tx)
        .await?;
        match first.map(KeyRow::into_key).transpose()? {
            Some(DeviceKey { revoke_time: Some(_), .. }) => {
                return Err(Error::DeviceKeyInvalid("must not be one that was revoked"));
            }
            Some(first) => return Ok(first),
            None => {}
        }
        let (ever, revoked): (i64, i64) =
            sqlx::query_as("SELECT COUNT(*), COUNT(revoke_time) FROM device_keys WHERE user_id = $1")
                .bind(key.user_id.uuid())
                .fetch_one(&mut *tx)
                .await?;
        if ever - revoked >= MOST_IN_USE {
            return Err(Error::TooManyDeviceKeys { most: MOST_IN_USE });
        }
        if ever >= MOST_EVER {
            return Err(Error::TooManyDeviceKeys { most: MOST_EVER });
        }
        sqlx::query(
            "INSERT INTO device_keys (user_id, device_key_id, public_key, name, create_time)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(key.user_id.uuid())
        .bind(key.id.uuid())
        .bind(key.public_key.as_bytes())
        .bind(key.name.as_str())
        .bind(key.create_time.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(key.clone())
    }

    pub async fn device_keys_of(&self, user_id: UserId) -> Result<Vec<DeviceKey>, Error> {
        let rows: Vec<KeyRow> = sqlx::query_as(
            "SELECT user_id, device_key_id, public_key, name, create_time, revoke_time FROM device_keys
             WHERE user_id = $1 ORDER BY device_key_id",
        )
        .bind(user_id.uuid())
        .fetch_all(self.pool.read())
        .await?;
        rows.into_iter().map(KeyRow::into_key).collect()
    }

    pub async fn revoke_device_key(
        &self,
        user_id: UserId,
        id: DeviceKeyId,
        now: Timestamp,
    ) -> Result<Option<DeviceKey>, Error> {
        let mut tx = self.pool.begin().await?;
        let revoked: Option<KeyRow> = sqlx::query_as(
            "UPDATE device_keys SET revoke_time = COALESCE(revoke_time, $3)
             WHERE user_id = $1 AND device_key_id = $2
             RETURNING user_id, device_key_id, public_key, name, create_time, revoke_time",
        )
        .bind(user_id.uuid())
        .bind(id.uuid())
        .bind(now.as_millis())
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        revoked.map(KeyRow::into_key).transpose()
    }
}

#[derive(FromRow)]
struct KeyRow {
    user_id: Uuid,
    device_key_id: Uuid,
    public_key: Vec<u8>,
    name: String,
    create_time: i64,
    revoke_time: Option<i64>,
}

impl KeyRow {
    fn into_key(self) -> Result<DeviceKey, Error> {
        Ok(DeviceKey {
            id: self.device_key_id.into(),
            user_id: self.user_id.into(),
            name: KeyName::stored(self.name),
            public_key: PublicKey::stored(&self.public_key)
                .ok_or_else(|| unreadable("a key of a wrong length"))?,
            create_time: Timestamp::from_millis(self.create_time),
            revoke_time: self.revoke_time.map(Timestamp::from_millis),
        })
    }
}
