//! Users as others see them, and oneself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chassis::caller::{self, Caller};
use chassis::clock::Clock;
use chassis::database::facts::History;
use proto::id::UserId;

use crate::accounts::Accounts;
use crate::email::Email;
use crate::errand::Kind;
use crate::errands::Mails;
use crate::error::Error;
use crate::external_account::Namespace;
use crate::mail::Letter;
use crate::password::Password;
use crate::profile::{Category, Day};
use crate::store::{Credentials, OwnerProof, Store, Update};
use crate::user::{Account, Changes, Listing, User, UserKind, UserPage};
use crate::username::Username;
use crate::view::{Detail, View, Viewer};

/// The use cases around users.
#[derive(Debug)]
pub struct Users {
    /// What is kept.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
    /// The categories that users can be of; none means any.
    pub categories: BTreeSet<Category>,
    /// Whose they are.
    pub accounts: Arc<Accounts>,
    /// Writes down mails.
    pub mails: Mails,
}

/// A page of users as somebody sees them, and whether there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPage {
    /// In the order in which they came.
    pub views: Vec<View>,
    /// Whether somebody comes after them.
    pub has_more: bool,
}

impl Users {
    /// The caller's own user.
    pub async fn own(&self, caller: &Caller) -> Result<User, Error> {
        let found = self.store.find_credentials(caller.user_id).await?;
        // Deleted since the session was verified.
        found.map(|found| found.user).ok_or(Error::Unauthenticated)
    }

    /// Somebody who looks at others now.
    pub fn viewer(&self, viewer: &caller::Viewer) -> Viewer {
        Viewer::new(viewer, self.today())
    }

    /// The day that it is in UTC.
    pub fn today(&self) -> Day {
        Day::at(self.clock.now())
    }

    /// What an id stands for.
    pub async fn find(&self, id: UserId) -> Result<Account, Error> {
        self.store.find_accounts(&[id]).await?.pop().ok_or(Error::UserNotFound(id))
    }

    /// What an id stands for, as somebody sees it.
    pub async fn get(&self, viewer: &Viewer, id: UserId) -> Result<View, Error> {
        let account = self.find(id).await?;
        self.shown_to(viewer, vec![account]).await?.pop().ok_or(Error::UserNotFound(id))
    }

    /// What these ids stand for, in their order, and then who has these names; each once, as somebody sees them. What
    /// stands for nobody is left out.
    pub async fn get_all(
        &self,
        viewer: &Viewer,
        ids: &[UserId],
        names: &[Username],
    ) -> Result<Vec<View>, Error> {
        // Usernames are not shown to an anonymous viewer, so they are no way to find a user either.
        if viewer.id.is_none() && !names.is_empty() {
            return Err(Error::invalid("usernames", "must be empty for an anonymous viewer"));
        }
        let by_id: HashMap<UserId, Account> =
            self.store.find_accounts(ids).await?.into_iter().map(|account| (account.id(), account)).collect();
        let named = self.store.find_named(names).await?.into_iter();
        let by_name: HashMap<Username, User> =
            named.filter_map(|user| Some((user.username.clone()?, user))).collect();
        let of_names = names.iter().filter_map(|name| by_name.get(name).cloned().map(Account::Living));
        let mut seen = HashSet::new();
        let asked = ids.iter().filter_map(|id| by_id.get(id).cloned()).chain(of_names);
        let accounts = asked.filter(|account| seen.insert(account.id())).collect();
        self.shown_to(viewer, accounts).await
    }

    /// Users by name, kind, address or profile, as whoever asks sees them.
    pub async fn list(&self, viewer: &Viewer, listing: &Listing) -> Result<ViewPage, Error> {
        let UserPage { users, has_more } = self.store.list_users(listing).await?;
        let accounts = users.into_iter().map(Account::Living).collect();
        Ok(ViewPage { views: self.shown_to(viewer, accounts).await?, has_more })
    }

    /// The external accounts of a namespace, as an anonymous viewer sees them.
    pub async fn list_external(
        &self,
        namespace: &Namespace,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<ViewPage, Error> {
        let UserPage { users, has_more } = self.store.list_external(namespace, after, limit).await?;
        let accounts = users.into_iter().map(Account::Living).collect();
        let viewer = self.viewer(&caller::Viewer::Anonymous);
        Ok(ViewPage { views: self.shown_to(&viewer, accounts).await?, has_more })
    }

    /// Accounts as somebody sees them.
    async fn shown_to(&self, viewer: &Viewer, accounts: Vec<Account>) -> Result<Vec<View>, Error> {
        let sees = |account: &Account| match account {
            Account::Living(user) => viewer.sees(user),
            Account::Deleted { .. } => Some(Detail::Public),
        };
        let open: Vec<UserId> =
            accounts.iter().filter(|account| sees(account).is_none()).map(Account::id).collect();
        let seen = match viewer.id {
            Some(id) => self.store.seen_by(id, &open).await?,
            None => HashSet::new(),
        };
        let more = |account: &Account| match seen.contains(&account.id()) {
            true => Detail::Profile,
            false => Detail::Card,
        };
        let show = |account: Account| View {
            detail: sees(&account).unwrap_or_else(|| more(&account)),
            is_service: viewer.is_service,
            today: viewer.today,
            account,
        };
        Ok(accounts.into_iter().map(show).collect())
    }

    /// What happened to users after a position of the outbox, oldest first, as it was written.
    pub async fn facts_after(&self, position: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        self.store.facts_after(position, limit).await
    }

    /// What there is to say of the facts as a whole, and the fact at a position. Ask after the facts.
    pub async fn history(&self, position: i64) -> Result<History, Error> {
        self.store.history(position).await
    }

    /// Changes the caller's own user. The password is looked at when an address is to be set or moved.
    pub async fn update(
        &self,
        caller: &Caller,
        changes: &Changes,
        password: Password,
    ) -> Result<User, Error> {
        if let Some(Some(birth)) = changes.profile.birth {
            birth.check("user.date_of_birth", self.today())?;
        }
        for (field, category) in changes.profile.categories() {
            if !self.categories.is_empty() && !self.categories.contains(category) {
                let known: Vec<&str> = self.categories.iter().map(Category::as_str).collect();
                return Err(Error::invalid(field, format!("must be one of {}", known.join(", "))));
            }
        }
        if changes.email.is_some() {
            return self.update_with_email(caller, changes, password).await;
        }
        let update = Update { user_id: caller.user_id, changes, proof: None, now: self.clock.now() };
        self.updated(&update).await
    }

    async fn updated(&self, update: &Update<'_>) -> Result<User, Error> {
        let changed = self.store.update_user(update).await?.ok_or(Error::Unauthenticated)?;
        if update.changes.are_seen_by_all() {
            self.accounts.publisher.facts();
        }
        Ok(changed)
    }

    /// The same with an address. An address opens the account to its reader, the first one like any other, so a session
    /// alone, which may have been stolen, sets none.
    async fn update_with_email(
        &self,
        caller: &Caller,
        changes: &Changes,
        password: Password,
    ) -> Result<User, Error> {
        let found = self.store.find_credentials(caller.user_id).await?.ok_or(Error::Unauthenticated)?;
        let (Credentials { user, hash }, now) = (&found, self.clock.now());
        if user.kind == UserKind::External && matches!(changes.email, Some(Some(_))) {
            return Err(Error::ExternalWithoutEmail);
        }
        if !changes.move_email(user) {
            return self.updated(&Update { user_id: user.id, changes, proof: None, now }).await;
        }
        self.accounts.prove_owner(caller, &found, password).await?;
        let old = user.email.as_ref();
        let farewell = match old {
            Some(old) => self.mails.news(Letter::of_replaced(old, user.username.as_ref()), user.id, now)?,
            None => None,
        };
        // Of others only an account has an address that anything hangs on.
        let notice = match &changes.email {
            Some(Some(new))
                if user.kind == UserKind::Registered && old.map(Email::key) != Some(new.key()) =>
            {
                self.mails.claim(&self.store, new, user.username.as_ref(), now).await?
            }
            _ => None,
        };
        let (verified, farewell, notice) = (hash.as_ref(), farewell.as_ref(), notice.as_ref());
        let proof = OwnerProof { email: old, verified, farewell, notice };
        let changed = self.updated(&Update { user_id: user.id, changes, proof: Some(proof), now }).await?;
        self.mails.bell.ring(Kind::Mail);
        tracing::info!(user.id = %user.id, "changed the e-mail address of user {}", user.id);
        Ok(changed)
    }
}
