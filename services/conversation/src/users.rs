//! What we ask of auth, in our words.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chassis::identity::ServiceCredential;
use chassis::text::fold;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::review_service_client::ReviewServiceClient;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use tonic::Status;

use crate::acquaintance::{Acquaintance, Kind};
use crate::conversation::Namespace;
use crate::error::Error;

/// As many users can be asked for at once.
const CHUNK: usize = 100;

/// How long auth may take to note down what is between two people.
const PATIENCE: Duration = Duration::from_secs(5);

/// Auth, as far as we need it.
#[derive(Clone)]
pub struct Users {
    users: UserServiceClient<Transport>,
    reviews: ReviewServiceClient<Transport>,
    credential: ServiceCredential,
}

/// A living account, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    kind: pb::UserKind,
    /// Of an external account only.
    namespace: Option<Namespace>,
}

/// Part of a name, folded as auth folds what it searches names for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyword(String);

impl Keyword {
    /// Reads a keyword; white space around it does not count.
    pub fn parse(text: &str) -> Self {
        Self(fold(text.trim()))
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_in(&self, user: &pb::User) -> bool {
        [&user.username, &user.display_name].into_iter().any(|name| fold(name).contains(&self.0))
    }
}

impl Users {
    /// Asks auth over this transport, as the service with this credential.
    pub fn new(auth: Transport, credential: ServiceCredential) -> Self {
        Self {
            users: UserServiceClient::new(auth.clone()),
            reviews: ReviewServiceClient::new(auth),
            credential,
        }
    }

    /// Those among these users whose username or display name contains a keyword.
    pub async fn named(
        &self,
        caller: UserId,
        user_ids: &[UserId],
        keyword: &Keyword,
    ) -> Result<HashSet<UserId>, Error> {
        let mut named = HashSet::new();
        for user_ids in user_ids.chunks(CHUNK) {
            let users = self.look_up(caller, user_ids).await?.into_iter().filter(|user| keyword.is_in(user));
            named.extend(users.filter_map(|user| UserId::parse(&user.user_id).ok()));
        }
        Ok(named)
    }

    /// Refuses when one of these does not stand for a living account.
    pub async fn require(&self, caller: UserId, user_ids: &[UserId]) -> Result<(), Error> {
        for user_ids in user_ids.chunks(CHUNK) {
            let living = self.living(caller, user_ids).await?;
            if let Some(unknown) = user_ids.iter().find(|user_id| !living.contains_key(user_id)) {
                return Err(Error::UserNotFound(*unknown));
            }
        }
        Ok(())
    }

    /// Refuses when one of these does not stand for a living account of this namespace, or, without one, for a living
    /// account that is not external. Those on the other side read as unknown.
    pub async fn require_in(
        &self,
        caller: UserId,
        user_ids: &[UserId],
        namespace: Option<&Namespace>,
    ) -> Result<(), Error> {
        for user_ids in user_ids.chunks(CHUNK) {
            let living = self.living(caller, user_ids).await?;
            let is_there = |user_id: &UserId| {
                living.get(user_id).is_some_and(|account| account.namespace.as_ref() == namespace)
            };
            if let Some(unknown) = user_ids.iter().find(|user_id| !is_there(user_id)) {
                return Err(Error::UserNotFound(*unknown));
            }
        }
        Ok(())
    }

    /// Whether a user has a device key in use, with which it signs what it writes into secure conversations.
    pub async fn has_device_key(&self, caller: UserId, user_id: UserId) -> Result<bool, Error> {
        let message = pb::ListDeviceKeysRequest { user_id: user_id.to_string() };
        let request = as_service(message, &self.credential, Some(caller));
        let answer = self.users.clone().list_device_keys(request).await.map_err(unavailable)?.into_inner();
        Ok(answer.device_keys.iter().any(|key| key.revoke_time.is_none()))
    }

    /// The namespace of an external account; `None` when the account is another.
    pub async fn namespace_of(&self, user_id: UserId) -> Result<Option<Namespace>, Error> {
        let account = self.living(user_id, &[user_id]).await?.remove(&user_id);
        Ok(account.ok_or(Error::UserNotFound(user_id))?.namespace)
    }

    /// Those among these users, at most [`CHUNK`], whose account lives.
    async fn living(&self, caller: UserId, user_ids: &[UserId]) -> Result<HashMap<UserId, Account>, Error> {
        let users = self.look_up(caller, user_ids).await?.into_iter();
        users
            .filter_map(|user| Some((UserId::parse(&user.user_id).ok()?, account(user))))
            .map(|(user_id, account)| Ok((user_id, account?)))
            .collect()
    }

    /// The users among these, at most [`CHUNK`], whose account lives, as the caller sees them.
    async fn look_up(&self, caller: UserId, user_ids: &[UserId]) -> Result<Vec<pb::User>, Error> {
        let message = pb::BatchGetUsersRequest {
            user_ids: user_ids.iter().map(ToString::to_string).collect(),
            usernames: Vec::new(),
        };
        let request = as_service(message, &self.credential, Some(caller));
        let answer = self.users.clone().batch_get_users(request).await.map_err(unavailable)?.into_inner();
        Ok(answer.users.into_iter().filter(|user| user.delete_time.is_none()).collect())
    }

    /// Refuses when this does not stand for a living account that was registered: guests and external accounts are asked
    /// for nothing.
    pub async fn require_account(&self, caller: UserId, user_id: UserId) -> Result<(), Error> {
        match self.living(caller, &[user_id]).await?.remove(&user_id) {
            Some(Account { kind: pb::UserKind::Registered | pb::UserKind::Unspecified, .. }) => Ok(()),
            Some(_) | None => Err(Error::UserNotFound(user_id)),
        }
    }

    /// Tells auth what there is between two people, or is no longer.
    pub async fn record_acquaintance(&self, acquaintance: &Acquaintance) -> Result<(), Error> {
        let Acquaintance { pair, kind, version, has_ended } = *acquaintance;
        let kind = match kind {
            Kind::Connection => pb::AcquaintanceKind::Connection,
            Kind::Block => pb::AcquaintanceKind::Block,
        };
        let message = pb::RecordAcquaintanceRequest {
            user_ids: vec![pair.low().to_string(), pair.high().to_string()],
            kind: kind.into(),
            ended: has_ended,
            version,
        };
        let mut request = as_service(message, &self.credential, None);
        request.set_timeout(PATIENCE);
        self.reviews.clone().record_acquaintance(request).await.map(drop).map_err(unavailable)
    }
}

/// An external account without a namespace would pass for one that is not external, so it is an error.
fn account(user: pb::User) -> Result<Account, Error> {
    let kind = user.kind();
    let namespace = user.external_account.map(|account| account.namespace);
    let namespace = match kind {
        pb::UserKind::External => {
            let namespace = namespace.filter(|namespace| !namespace.is_empty());
            Some(namespace.ok_or(Error::Misunderstood("an external account without a namespace"))?)
        }
        pb::UserKind::Registered | pb::UserKind::Guest | pb::UserKind::Unspecified => None,
    };
    Ok(Account { kind, namespace: namespace.map(Namespace::known) })
}

fn unavailable(status: Status) -> Error {
    Error::Auth(Box::new(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_is_part_of_either_name_whatever_its_case() {
        let user = pb::User {
            username: "ann-archer".to_owned(),
            display_name: "Änn Ｘ".to_owned(),
            ..Default::default()
        };
        for text in ["ARCH", " änn ", "A\u{308}NN", "x", ""] {
            assert!(Keyword::parse(text).is_in(&user), "{text:?}");
        }
        // Part of one name, not of the two as they follow each other.
        for text in ["bob", "archerä"] {
            assert!(!Keyword::parse(text).is_in(&user), "{text:?}");
        }
        assert!(Keyword::parse(" \n").is_empty());
    }
}
