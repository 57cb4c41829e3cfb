//! The further doors, put together: codes by e-mail, providers to sign in with, background checks, and who does the
//! errands for them.

use std::sync::Arc;
use std::time::Duration;

use chassis::caller::ClientNetwork;
use chassis::profile::Profile;
use chassis::tasks::{Shutdown, Tasks};

use crate::accounts::{Accounts, Registration, SignedIn};
use crate::background_checks::BackgroundChecks;
use crate::check_provider::CheckProvider;
use crate::config::Config;
use crate::errand::Kind;
use crate::errands::{Bell, Errands, Mails};
use crate::error::Error;
use crate::mail::Mailer;
use crate::networks::Networks;
use crate::otps::Otps;
use crate::provider::{PATIENCE, Provider};
use crate::providers::Providers;
use crate::vault::Vault;
use crate::web::Web;

/// How often it is tidied up here.
const TIDY: Duration = Duration::from_secs(60);

/// How many rows of a kind in one transaction.
const BATCH: i64 = 500;

/// The use cases of the further doors.
#[derive(Debug)]
pub struct Doors {
    /// Codes by e-mail.
    pub otps: Otps,
    /// Providers to sign in with.
    pub providers: Providers,
    /// Background checks.
    pub checks: BackgroundChecks,
    /// Mails about accounts.
    pub mails: Mails,
}

impl Doors {
    /// Puts them together, and starts the tasks behind them.
    pub async fn start(
        config: &Config,
        accounts: Arc<Accounts>,
        profile: Profile,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let (store, clock) = (accounts.store.clone(), accounts.clock.clone());
        let vault = Vault::open(&config.vault, &store).await?;
        let mailer = Mailer::new(&config.mail, profile)?;
        let provider = CheckProvider::new(&config.background_checks)?;
        let networks = Arc::new(Networks::new(&config.networks, profile, clock.clone())?);
        let bell = Bell::default();
        let known = config.oidc.iter().cloned();
        let all = known.map(|one| Provider::new(one, Web::new(PATIENCE)?, clock.clone()));
        let all = all.collect::<anyhow::Result<_>>()?;
        let doors = Self {
            otps: Otps {
                accounts: accounts.clone(),
                vault: vault.clone(),
                networks: networks.clone(),
                can_mail: mailer.is_some(),
                bell: bell.clone(),
                profile,
            },
            providers: Providers { accounts: accounts.clone(), networks: networks.clone(), all },
            checks: BackgroundChecks {
                store: store.clone(),
                vault: vault.clone(),
                clock: clock.clone(),
                provider: provider.clone(),
                bell: bell.clone(),
                profile,
            },
            mails: Mails { vault: vault.clone(), can_mail: mailer.is_some(), bell: bell.clone() },
        };
        Errands { store, vault, clock, mailer, checks: provider, bell }.start(tasks);
        tasks.spawn("tidy-doors", |shutdown| tidy(accounts, networks, shutdown));
        Ok(doors)
    }
}

impl Doors {
    /// Makes an account and signs it in. The address is verified from the start when it was proven before, from this network.
    /// Otherwise it is a claim, and the account that has the address is told by mail: the answer is the same.
    pub async fn register(
        &self,
        registration: Registration,
        from: Option<ClientNetwork>,
    ) -> Result<SignedIn, Error> {
        let accounts = &self.otps.accounts;
        let Some(email) = &registration.email else {
            return accounts.register(registration, None, None).await;
        };
        let proof = self.otps.proof_of(email, from);
        let (store, name, now) = (&accounts.store, &registration.username, accounts.clock.now());
        let notice = self.mails.claim(store, email, Some(name), now).await?;
        let signed_in = accounts.register(registration, Some(proof), notice).await?;
        self.mails.bell.ring(Kind::Mail);
        Ok(signed_in)
    }
}

/// Tidies up now and then: codes that count no more, mails that came too late, checks of which nothing came, networks
/// that are quiet.
async fn tidy(accounts: Arc<Accounts>, networks: Arc<Networks>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(TIDY);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = ticks.tick() => {}
        }
        networks.forget_idle();
        if let Err(error) = sweep(&accounts, &shutdown).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not tidy up, will try again");
        }
    }
}

async fn sweep(accounts: &Accounts, shutdown: &Shutdown) -> Result<(), Error> {
    let (store, now) = (&accounts.store, accounts.clock.now());
    let is_full = |count: u64| i64::try_from(count).is_ok_and(|count| count >= BATCH) && !shutdown.is_set();
    while is_full(store.sweep_codes(now, BATCH).await?) {}
    while is_full(store.sweep_address_proofs(now, BATCH).await?) {}
    while is_full(store.sweep_used_tokens(now, BATCH).await?) {}
    while is_full(store.sweep_usernames(now, BATCH).await?) {}
    while is_full(store.expire_checks(now, BATCH).await?) {}
    while is_full(store.sweep_errands(now, BATCH).await?) {}
    Ok(())
}
