//! Users as others see them, and oneself.

use std::collections::{HashMap, HashSet};

use chassis::caller::Caller;
use chassis::clock::Clock;
use proto::id::UserId;

use crate::error::Error;
use crate::store::Store;
use crate::user::{Account, Changes, Listing, User, UserPage};
use crate::username::Username;

/// The use cases around users.
#[derive(Debug)]
pub struct Users {
    /// What is kept.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
}

impl Users {
    /// The caller's own user.
    pub async fn own(&self, caller: &Caller) -> Result<User, Error> {
        let found = self.store.find_credentials(caller.user_id).await?;
        // Deleted since the session was verified.
        found.map(|found| found.user).ok_or(Error::Unauthenticated)
    }

    /// What an id stands for.
    pub async fn get(&self, id: UserId) -> Result<Account, Error> {
        self.store.find_accounts(&[id]).await?.pop().ok_or(Error::UserNotFound(id))
    }

    /// What these ids stand for, in their order, and then who has these names; each once. What stands for nobody is left
    /// out.
    pub async fn get_all(&self, ids: &[UserId], names: &[Username]) -> Result<Vec<Account>, Error> {
        let by_id: HashMap<UserId, Account> =
            self.store.find_accounts(ids).await?.into_iter().map(|account| (account.id(), account)).collect();
        let named = self.store.find_named(names).await?.into_iter();
        let by_name: HashMap<Username, User> =
            named.filter_map(|user| Some((user.username.clone()?, user))).collect();
        let of_names = names.iter().filter_map(|name| by_name.get(name).cloned().map(Account::Living));
        let mut seen = HashSet::new();
        let asked = ids.iter().filter_map(|id| by_id.get(id).cloned()).chain(of_names);
        Ok(asked.filter(|account| seen.insert(account.id())).collect())
    }

    /// Users by name.
    pub async fn list(&self, listing: &Listing) -> Result<UserPage, Error> {
        self.store.list_users(listing).await
    }

    /// What happened to users after a position of the outbox, oldest first, as it was written.
    pub async fn facts_after(&self, position: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        self.store.facts_after(position, limit).await
    }

    /// Changes the caller's own user.
    pub async fn update(&self, caller: &Caller, changes: &Changes) -> Result<User, Error> {
        let changed = self.store.update_user(caller.user_id, changes, self.clock.now()).await?;
        changed.ok_or(Error::Unauthenticated)
    }
}
