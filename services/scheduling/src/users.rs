//! What we ask of auth, in our words: whose name contains a keyword.

use chassis::identity::ServiceCredential;
use chassis::text::fold;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;

use crate::error::Error;

/// The most users that auth gives in one answer.
const CHUNK: usize = 100;

/// Auth, as far as we need it.
#[derive(Clone)]
pub struct Users {
    users: UserServiceClient<Transport>,
    credential: ServiceCredential,
}

/// Part of a name, folded as auth folds what it searches names for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyword(String);

impl Keyword {
    /// Reads a keyword; white space around it does not count.
    pub fn parse(text: &str) -> Self {
        Self(fold(text.trim()))
    }

    /// True when it narrows nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_in(&self, user: &pb::User) -> bool {
        let is_deleted = user.delete_time.is_some();
        let names = [&user.username, &user.display_name];
        !is_deleted && names.into_iter().any(|name| fold(name).contains(&self.0))
    }
}

impl Users {
    /// Asks auth over this transport, as the service with this credential.
    pub fn new(auth: Transport, credential: ServiceCredential) -> Self {
        Self { users: UserServiceClient::new(auth), credential }
    }

    /// Those among these users whose username or display name contains a keyword, as the caller sees them.
    pub async fn named(
        &self,
        caller: UserId,
        users: &[UserId],
        keyword: &Keyword,
    ) -> Result<Vec<UserId>, Error> {
        let mut named = Vec::new();
        for users in users.chunks(CHUNK) {
            let user_ids = users.iter().map(ToString::to_string).collect();
            let message = pb::BatchGetUsersRequest { user_ids, usernames: Vec::new() };
            let request = as_service(message, &self.credential, Some(caller));
            let answer = self.users.clone().batch_get_users(request).await;
            let found =
                answer.map_err(|status| Error::Neighbour { service: "auth", source: Box::new(status) })?;
            for user in found.into_inner().users.iter().filter(|user| keyword.is_in(user)) {
                let id = UserId::parse(&user.user_id);
                named.push(id.map_err(|_| Error::Misunderstood("auth has told of a user without an id"))?);
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_is_part_of_either_name_whatever_its_case() {
        let user = |username: &str, display_name: &str| pb::User {
            username: username.to_owned(),
            display_name: display_name.to_owned(),
            ..pb::User::default()
        };
        let keyword = Keyword::parse(" ÉRIC ");
        assert_eq!(keyword.as_str(), "\u{e9}ric");
        // The last is spelled with an accent of its own.
        for found in [user("x", "Dr. \u{c9}ric"), user("\u{e9}ric7", "x"), user("x", "e\u{301}ric")] {
            assert!(keyword.is_in(&found), "{found:?}");
        }
        assert!(!keyword.is_in(&user("eric", "Eric")));
        let gone =
            pb::User { delete_time: Some(prost_types::Timestamp::default()), ..user("x", "\u{e9}ric") };
        assert!(!keyword.is_in(&gone));
        assert!(Keyword::parse(" \t ").is_empty());
    }
}
