//! External accounts: users that stand for names in other systems, which the gateway signs in.

use crate::accounts::{Accounts, SignedIn, guest_name};
use crate::error::Error;
use crate::providers::Entered;
use crate::session::{DeviceName, Grant};
use crate::user::{DisplayName, User, UserKind};

/// How often it is tried again when the account is made or deleted by another call at the same time.
const TRIES: usize = 4;

/// A system that names belong to: 1 to 32 of a-z, 0-9, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Reads a namespace.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        if (1..=32).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("namespace", "must be 1 to 32 of a-z, 0-9, `_`, `-`"))
        }
    }

    /// The namespace.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name in another system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    namespace: Namespace,
    name: String,
}

impl ExternalAccount {
    /// Reads a name: 1 to 128 characters without control characters. It is kept as it is, because the other system
    /// compares it in its own way.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, Error> {
        let namespace = Namespace::parse(namespace)?;
        if name.contains(char::is_control) {
            return Err(Error::invalid("name", "must not contain control characters"));
        }
        if !(1..=128).contains(&name.chars().count()) {
            return Err(Error::invalid("name", "must have 1 to 128 characters"));
        }
        Ok(Self { namespace, name: name.to_owned() })
    }

    /// The name in the database, which was parsed before.
    pub(crate) fn stored(namespace: &str, name: &str) -> Self {
        Self { namespace: Namespace(namespace.to_owned()), name: name.to_owned() }
    }

    /// The system.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name there.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A request to sign in an external account.
#[derive(Debug)]
pub struct ExternalLogin {
    /// The name that the account stands for.
    pub external: ExternalAccount,
    /// The kind of account: external or guest.
    pub kind: UserKind,
    /// The name that people see; derived when none was given.
    pub display_name: Option<DisplayName>,
    /// The name of the client in the list of sessions.
    pub device_name: DeviceName,
}

impl Accounts {
    /// Signs in the account of a name in another system, and makes it when there is none.
    pub async fn login_external(&self, login: &ExternalLogin) -> Result<Entered, Error> {
        if !self.external_accounts {
            return Err(Error::ExternalAccountsDisabled);
        }
        for _ in 0..TRIES {
            let entered = match self.store.find_external(&login.external).await? {
                Some(user_id) => {
                    let grant = self.new_grant(user_id, login.device_name.clone())?;
                    self.sign_in_external(login, grant).await?
                }
                None => self.create_external(login).await?,
            };
            if let Some(entered) = entered {
                return Ok(entered);
            }
        }
        Err(Error::Internal(anyhow::anyhow!("an external account was made and deleted again and again")))
    }

    /// `None` when the account was deleted since it was found.
    async fn sign_in_external(&self, login: &ExternalLogin, grant: Grant) -> Result<Option<Entered>, Error> {
        let most = self.sessions_per_user;
        let signed_in = self.store.sign_in_external(&login.external, login.kind, &grant, most).await?;
        let Some((user, ended)) = signed_in else { return Ok(None) };
        self.publisher.sessions_ended(user.id, &ended);
        tracing::info!(user.id = %user.id, session.id = %grant.session.id, "signed in external account {}", user.id);
        Ok(Some(Entered { signed_in: SignedIn { user, grant }, created: false }))
    }

    /// `None` when another call has made the account since it was looked for.
    async fn create_external(&self, login: &ExternalLogin) -> Result<Option<Entered>, Error> {
        let given = login.display_name.clone();
        // The name that a guest is found again by may be the address of a client: it is never shown.
        let derived = match login.kind {
            UserKind::Guest => None,
            _ => DisplayName::derived(login.external.name()),
        };
        let display_name = match given.or(derived) {
            Some(name) => name,
            None => guest_name().map_err(Error::Internal)?,
        };
        let user = self.new_user(login.kind, None, display_name, None);
        let user = User { external: Some(login.external.clone()), ..user };
        let grant = self.new_grant(user.id, login.device_name.clone())?;
        if !self.store.create_external(&user, &login.external, &grant).await? {
            return Ok(None);
        }
        tracing::info!(user.id = %user.id, "made external account {}", user.id);
        Ok(Some(Entered { signed_in: SignedIn { user, grant }, created: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_short_word() {
        for text in ["a", "allo", "s-1_x", &"a".repeat(32)] {
            assert_eq!(Namespace::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "A", "a b", "a.b", "ä", "a\n", &"a".repeat(33)] {
            let refused = Namespace::parse(text);
            assert!(matches!(refused, Err(Error::Invalid { field: "namespace", .. })), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_kept_as_it_is() {
        for name in [" ", "Ann", "ann", "A\u{308}nn", "0188f9a2-7f6e-4c2b", "a:b c", &"ä".repeat(128)] {
            let external = ExternalAccount::parse("allo", name).unwrap();
            assert_eq!((external.namespace().as_str(), external.name()), ("allo", name));
        }
        for name in ["", "a\0", "a\nb", "\u{85}", &"ä".repeat(129)] {
            let refused = ExternalAccount::parse("allo", name);
            assert!(matches!(refused, Err(Error::Invalid { field: "name", .. })), "{name:?}");
        }
    }
}
