//! The use cases around background checks: asking for one, looking how far it is, reporting what came of it.

use chassis::caller::Caller;
use chassis::clock::Clock;
use chassis::profile::Profile;
use proto::id::BackgroundCheckId;
use uuid::Uuid;

use crate::background_check::{BackgroundCheck, LIFETIME, NewCheck, Particulars, Report, State};
use crate::check_provider::CheckProvider;
use crate::errand::{Errand, Kind};
use crate::errands::Bell;
use crate::error::Error;
use crate::refusal::Refusal;
use crate::store::Store;
use crate::vault::Vault;

/// The use cases around background checks.
#[derive(Debug)]
pub struct BackgroundChecks {
    /// What is kept.
    pub store: Store,
    /// Encrypts what the provider is told.
    pub vault: Vault,
    /// Tells the time.
    pub clock: Clock,
    /// Who checks, when somebody is configured.
    pub provider: Option<CheckProvider>,
    /// Wakes the one who hands checks in.
    pub bell: Bell,
    /// In development a check is kept although there is no provider.
    pub profile: Profile,
}

impl BackgroundChecks {
    /// Asks for a check of the caller.
    pub async fn request(
        &self,
        caller: &Caller,
        request_id: Uuid,
        particulars: &Particulars,
    ) -> Result<BackgroundCheck, Error> {
        if self.provider.is_none() && !self.profile.is_development() {
            return Err(Refusal::ChecksUnavailable.into());
        }
        let (now, id) = (self.clock.now(), BackgroundCheckId::generate());
        let check = BackgroundCheck {
            id,
            user_id: caller.user_id,
            state: State::Pending,
            reference: String::new(),
            create_time: now,
            update_time: now,
        };
        let owner = (id, caller.user_id);
        // Without a provider there is no errand, so that what was said about the user is not kept.
        let errand = match &self.provider {
            Some(_) => {
                let body = particulars.body(id)?;
                Some(Errand::of_check(&self.vault, owner, body, now, now.plus(LIFETIME))?)
            }
            None => None,
        };
        let new = NewCheck { check, request_id, request_sum: particulars.sum(&self.vault)? };
        let kept = self.store.request_check(&new, errand.as_ref()).await?;
        if kept.id == id {
            if errand.is_some() {
                self.bell.ring(Kind::BackgroundCheck);
            } else {
                tracing::info!(check.id = %id, "no provider of background checks is configured: check {id} stays pending");
            }
            tracing::info!(user.id = %caller.user_id, check.id = %id, "user {} asked for check {id}", caller.user_id);
        }
        Ok(kept)
    }

    /// The caller's latest check.
    pub async fn latest(&self, caller: &Caller) -> Result<Option<BackgroundCheck>, Error> {
        self.store.latest_check(caller.user_id).await
    }

    /// All of the caller's checks, newest first. There are at most [`MOST`](crate::background_check::MOST) more of them
    /// with every [`LIFETIME`].
    pub async fn all(&self, caller: &Caller) -> Result<Vec<BackgroundCheck>, Error> {
        self.store.checks_of(caller.user_id).await
    }

    /// Writes down what came of a check, when the provider says it.
    pub async fn report(&self, report: &Report) -> Result<(), Error> {
        let now = self.clock.now();
        let is_genuine = self.provider.as_ref().is_some_and(|provider| provider.has_sent(report, now));
        if !is_genuine {
            metrics::counter!("auth_check_reports_total", "outcome" => "refused").increment(1);
            tracing::info!("refused a report on a background check that nobody has signed");
            return Err(Refusal::CheckNotFound.into());
        }
        let (id, state) = (report.id, report.finding.state());
        if self.store.report_check(id, state, report.reference.as_str(), now).await? {
            metrics::counter!("auth_check_reports_total", "outcome" => "done").increment(1);
            tracing::info!(check.id = %id, "background check {id} has ended");
        }
        Ok(())
    }
}
