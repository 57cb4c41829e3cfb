//! What can be set about auth.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use chassis::profile::Profile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check_provider::ChecksConfig;
use crate::mail::MailConfig;
use crate::networks::NetworksConfig;
use crate::pepper::Peppers;
use crate::profile::Category;
use crate::provider::ProviderConfig;
use crate::session::Lifetime;
use crate::vault::VaultConfig;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What only auth has.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether strangers may make accounts. Absent means yes in development; production wants it said.
    pub registration_open: Option<bool>,
    /// Whether the gateway signs in external accounts, without a proof of ownership. Absent means yes in development and no
    /// in production; production refuses to start when it is set to yes.
    pub external_accounts: Option<bool>,
    /// How long sessions live, and how many there are.
    pub sessions: SessionsConfig,
    /// How passwords are hashed.
    pub passwords: PasswordsConfig,
    /// How often one may try a password.
    pub attempts: AttemptsConfig,
    /// The categories that users can be of, such as `senior` and `volunteer`: 1 to 32 of a-z, 0-9, `_`, `-`. Empty means
    /// any.
    pub categories: Vec<String>,
    /// The usernames that nobody registers.
    pub usernames: UsernamesConfig,
    /// How often one network may knock at the doors for those who are not signed in.
    pub networks: NetworksConfig,
    /// Where the secret comes from under which codes are hashed and errands encrypted. Development draws one when none is
    /// configured; production refuses to start without when mail or background checks are configured.
    pub vault: VaultConfig,
    /// How mails are sent.
    pub mail: MailConfig,
    /// The providers one can sign in with.
    pub oidc: Vec<ProviderConfig>,
    /// Who checks people who ask for it.
    pub background_checks: ChecksConfig,
}

/// How long sessions live, and how many there are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsConfig {
    /// Days that a session lives without being used.
    pub idle_days: u32,
    /// Days that a session lives however much it is used.
    pub absolute_days: u32,
    /// How many sessions a user has at most. Signing in once more ends the one that was unused for longest.
    pub per_user: u32,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self { idle_days: 30, absolute_days: 90, per_user: 20 }
    }
}

/// The usernames that nobody registers.
///
/// ```toml
/// [service.usernames]
/// reserved = ["acme", "acme-news"]
/// rest_days = 90
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UsernamesConfig {
    /// Names that are reserved besides those that always are, such as `admin` and `support`. Names that look like a reserved
    /// one, as `adm1n` and `sup.port` do, are reserved too.
    pub reserved: Vec<String>,
    /// Days for which nobody gets the username of a deleted account. 0 makes it free at once.
    pub rest_days: u32,
}

impl Default for UsernamesConfig {
    fn default() -> Self {
        Self { reserved: Vec::new(), rest_days: 90 }
    }
}

impl UsernamesConfig {
    /// For how long nobody gets the username of a deleted account.
    pub fn rest(&self) -> Duration {
        self.rest_days * DAY
    }
}

/// How passwords are hashed: the parameters of Argon2id, and how much of the machine it gets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordsConfig {
    /// KiB of memory that one hash takes. Production refuses less than the default.
    pub memory_kib: u32,
    /// Passes over that memory. Production refuses less than the default.
    pub passes: u32,
    /// Lanes of that memory.
    pub lanes: u32,
    /// How many passwords are hashed at once. 0 means one per core, and more than there are cores means that too.
    pub threads: usize,
    /// The most that wait for it; a request beyond is told to try again.
    pub queue: usize,
    /// A file with the pepper: a secret of at least 32 characters that goes into every hash, readable by its owner only
    /// and kept apart from the database. Without it passwords that are hashed under it are not known again. Absent means
    /// none. Hashes without it stay valid, and are made anew when their password is used.
    pub pepper_file: Option<PathBuf>,
    /// Files with the peppers of before, under which older passwords are hashed still.
    pub former_pepper_files: Vec<PathBuf>,
}

impl PasswordsConfig {
    /// The configured peppers.
    pub(crate) fn peppers(&self) -> anyhow::Result<Peppers> {
        Peppers::read(self.pepper_file.as_ref(), &self.former_pepper_files).context("the pepper of passwords")
    }
}

impl Default for PasswordsConfig {
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
            threads: 0,
            queue: 32,
            pepper_file: None,
            former_pepper_files: Vec::new(),
        }
    }
}

/// How often one may try a password, right or wrong, for one name or one account. Limits per network address are the
/// gateway's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AttemptsConfig {
    /// Tries in a row.
    pub burst: NonZeroU32,
    /// Time after which one more is allowed, such as `90s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub refill: Duration,
}

impl Default for AttemptsConfig {
    fn default() -> Self {
        const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();
        Self { burst: TEN, refill: Duration::from_secs(90) }
    }
}

impl Config {
    /// Refuses what makes no sense, and in production what is not safe.
    pub fn check(&self, profile: Profile) -> anyhow::Result<()> {
        let SessionsConfig { idle_days, absolute_days, per_user } = self.sessions;
        anyhow::ensure!(idle_days > 0 && absolute_days > 0, "sessions must live for a day at least");
        anyhow::ensure!(per_user > 0, "sessions.per_user must be at least 1");
        ProviderConfig::check(&self.oidc)?;
        if profile == Profile::Production {
            let (set, least) = (&self.passwords, PasswordsConfig::default());
            anyhow::ensure!(
                set.memory_kib >= least.memory_kib && set.passes >= least.passes,
                "passwords are hashed too lightly for production: at least {} KiB and {} passes",
                least.memory_kib,
                least.passes
            );
            anyhow::ensure!(
                self.registration_open.is_some(),
                "say whether strangers may make accounts: registration_open = true or false"
            );
            anyhow::ensure!(
                self.external_accounts != Some(true),
                "external_accounts must not be on in production: the accounts are signed in without a proof of who comes"
            );
            let keeps_secrets = self.mail.smtp_url.is_some() || self.background_checks.url.is_some();
            anyhow::ensure!(
                self.vault.is_configured() || !keeps_secrets,
                "set vault.secret_file (or vault.secret): codes, mails and background checks that wait in the database are \
                 protected by a secret, which must not lie next to them"
            );
        }
        Ok(())
    }

    /// The categories that users can be of; none means any.
    pub fn categories(&self) -> anyhow::Result<BTreeSet<Category>> {
        let parse = |text: &String| {
            Category::parse("categories", text).with_context(|| format!("`{text}` cannot be a category"))
        };
        self.categories.iter().map(parse).collect()
    }

    /// Whether strangers may make accounts.
    pub fn is_registration_open(&self, profile: Profile) -> bool {
        self.registration_open.unwrap_or(profile.is_development())
    }

    /// Whether the gateway signs in external accounts.
    pub fn has_external_accounts(&self, profile: Profile) -> bool {
        self.external_accounts.unwrap_or(true) && profile.is_development()
    }
}

impl SessionsConfig {
    /// How long sessions live.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime { idle: self.idle_days * DAY, absolute: self.absolute_days * DAY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_wants_a_word_about_registration() {
        let mut config = Config::default();
        assert!(
            config.check(Profile::Development).is_ok() && config.is_registration_open(Profile::Development)
        );
        assert!(config.check(Profile::Production).is_err());
        config.registration_open = Some(false);
        assert!(
            config.check(Profile::Production).is_ok() && !config.is_registration_open(Profile::Development)
        );
    }

    #[test]
    fn production_keeps_no_secrets_next_to_their_key() {
        let open = Config { registration_open: Some(true), ..Config::default() };
        let mail =
            MailConfig { smtp_url: Some("smtps://mail.example.org".to_owned()), ..MailConfig::default() };
        let checks =
            ChecksConfig { url: Some("https://checks.example.org".to_owned()), ..ChecksConfig::default() };
        let mailing = Config { mail, ..open.clone() };
        let checking = Config { background_checks: checks, ..open.clone() };
        assert!(open.check(Profile::Production).is_ok());
        for config in [mailing, checking] {
            assert!(config.check(Profile::Development).is_ok());
            let refused = config.check(Profile::Production).unwrap_err().to_string();
            assert!(refused.starts_with("set vault.secret_file"), "{refused}");
            let file =
                VaultConfig { secret_file: Some("/run/secrets/vault".into()), ..VaultConfig::default() };
            assert!(Config { vault: file, ..config }.check(Profile::Production).is_ok());
        }
    }

    #[test]
    fn production_has_no_external_accounts() {
        let with = |external_accounts| Config {
            registration_open: Some(true),
            external_accounts,
            ..Config::default()
        };
        for (set, in_development) in [(None, true), (Some(true), true), (Some(false), false)] {
            assert!(with(set).check(Profile::Development).is_ok());
            assert_eq!(with(set).has_external_accounts(Profile::Development), in_development);
            assert_eq!(with(set).check(Profile::Production).is_err(), set == Some(true));
            assert!(!with(set).has_external_accounts(Profile::Production));
        }
    }

    #[test]
    fn production_refuses_light_hashing() {
        let mut config = Config { registration_open: Some(true), ..Config::default() };
        config.passwords.memory_kib = 1024;
        assert!(config.check(Profile::Development).is_ok() && config.check(Profile::Production).is_err());
    }
}
