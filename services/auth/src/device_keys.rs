//! The use cases around device keys: registering, looking up, revoking.

use chassis::caller::Caller;
use proto::id::{DeviceKeyId, UserId};

use crate::device_key::{DeviceKey, KeyName, PublicKey};
use crate::error::Error;
use crate::password::Password;
use crate::users::Users;

impl Users {
    /// Registers a key of the caller; the same key again answers with the first registration. It takes a session that was
    /// signed in a moment ago, or the password.
    pub async fn register_key(
        &self,
        caller: &Caller,
        public_key: PublicKey,
        name: KeyName,
        password: Option<Password>,
    ) -> Result<DeviceKey, Error> {
        self.accounts.prove_owner_or_recent(caller, password).await?;
        let key = DeviceKey {
            id: DeviceKeyId::generate(),
            user_id: caller.user_id,
            name,
            public_key,
            create_time: self.clock.now(),
            revoke_time: None,
        };
        let kept = self.store.register_device_key(&key).await?;
        if kept.id == key.id {
            tracing::info!(user.id = %key.user_id, device_key.id = %key.id, "registered device key {}", key.id);
        }
        Ok(kept)
    }

    /// A user's keys, oldest first, revoked ones included. Of a deleted user none is left.
    pub async fn keys_of(&self, user_id: UserId) -> Result<Vec<DeviceKey>, Error> {
        let keys = self.store.device_keys_of(user_id).await?;
        if keys.is_empty() {
            self.find(user_id).await?;
        }
        Ok(keys)
    }

    /// Revokes a key of the caller. Again changes nothing.
    pub async fn revoke_key(&self, caller: &Caller, id: DeviceKeyId) -> Result<DeviceKey, Error> {
        let revoked = self.store.revoke_device_key(caller.user_id, id, self.clock.now()).await?;
        let key = revoked.ok_or(Error::DeviceKeyNotFound(id))?;
        tracing::info!(user.id = %key.user_id, device_key.id = %id, "revoked device key {id}");
        Ok(key)
    }
}
