//! Does the errands: takes what is due, tries it, and tries again later what did not work.
//!
//! Several processes may do errands of one database: whoever takes one moves its time on first, so that nobody else
//! takes it meanwhile, and a process that dies loses nothing. An errand can be done twice then, which is why mails carry
//! the same id again and the provider of checks gets the same key.

use std::sync::Arc;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::tasks::{Shutdown, Tasks};
use proto::id::UserId;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::background_check::End;
use crate::check_provider::CheckProvider;
use crate::email::Email;
use crate::errand::{Errand, Kind, Outcome, Task};
use crate::error::Error;
use crate::mail::{Letter, Mailer};
use crate::store::{Login, Store};
use crate::user::User;
use crate::username::Username;
use crate::vault::Vault;

/// How many of a kind are tried at once.
const AT_ONCE: usize = 8;

/// For how long nobody else takes what was taken.
const LEASE: Duration = Duration::from_secs(120);

/// How long a try may take, so that it is over before somebody else begins one.
const LONGEST: Duration = Duration::from_secs(90);

/// For how long it is tried to send news.
const NEWS: Duration = Duration::from_secs(24 * 60 * 60);

/// How often to look for what has become due.
const POLL: Duration = Duration::from_secs(1);

/// How long to wait when the database fails.
const TROUBLE: Duration = Duration::from_secs(5);

/// Wakes those who do errands. Clones wake the same ones.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    mail: Arc<Notify>,
    background_check: Arc<Notify>,
}

impl Bell {
    /// Says that there is something of this kind to do.
    pub fn ring(&self, kind: Kind) {
        self.of(kind).notify_one();
    }

    fn of(&self, kind: Kind) -> &Notify {
        match kind {
            Kind::Mail => &self.mail,
            Kind::BackgroundCheck => &self.background_check,
        }
    }
}

/// Writes down mails that are to be sent.
#[derive(Clone, Debug)]
pub struct Mails {
    /// Encrypts them.
    pub vault: Vault,
    /// Whether there is somebody to send them.
    pub can_mail: bool,
    /// Wakes the one who does.
    pub bell: Bell,
}

impl Mails {
    /// The errand of a mail about something that happened to a user; `None` when there is nobody to send it.
    pub fn news(&self, letter: Letter, user_id: UserId, now: Timestamp) -> Result<Option<Errand>, Error> {
        if !self.can_mail {
            return Ok(None);
        }
        Errand::new(&self.vault, &Task::Mail(letter), Some(user_id), now, now.plus(NEWS)).map(Some)
    }

    /// The errand of a mail to the account that has an address which another account claims; a mail to nobody when no
    /// account has it, so that making it tells nothing. `None` when there is nobody to send it.
    pub async fn claim(
        &self,
        store: &Store,
        email: &Email,
        claimed_by: Option<&Username>,
        now: Timestamp,
    ) -> Result<Option<Errand>, Error> {
        if !self.can_mail {
            return Ok(None);
        }
        let found = store.find_login(&Login::Email(email.key().to_owned())).await?;
        let (user_id, to) = match found.map(|found| found.user) {
            Some(User { id, email: Some(own), .. }) => (Some(id), Ok(own)),
            _ => (None, Err(email.clone())),
        };
        let letter = Letter::of_claim(to, claimed_by);
        Errand::new(&self.vault, &Task::Mail(letter), user_id, now, now.plus(NEWS)).map(Some)
    }
}

/// Does errands.
#[derive(Debug)]
pub struct Errands {
    /// What is kept.
    pub store: Store,
    /// Decrypts them.
    pub vault: Vault,
    /// Tells the time.
    pub clock: Clock,
    /// Sends mails, when that is configured.
    pub mailer: Option<Mailer>,
    /// Takes background checks, when one is configured.
    pub checks: Option<CheckProvider>,
    /// Rung when there is something to do.
    pub bell: Bell,
}

impl Errands {
    /// Starts the tasks that do them: one for each kind, so that no kind waits for another.
    pub fn start(self, tasks: &Tasks) {
        let errands = Arc::new(self);
        let others = errands.clone();
        tasks.spawn("send-mails", |shutdown| errands.run(Kind::Mail, shutdown));
        tasks.spawn("hand-in-checks", |shutdown| others.run(Kind::BackgroundCheck, shutdown));
    }

    async fn run(self: Arc<Self>, kind: Kind, shutdown: Shutdown) {
        let mut tries = JoinSet::new();
        while !shutdown.is_set() {
            let wait = match self.clone().begin(kind, &mut tries).await {
                Ok(()) => POLL,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "errands cannot be read, will try again");
                    TROUBLE
                }
            };
            tokio::select! {
                () = shutdown.wait() => {}
                () = self.bell.of(kind).notified() => {}
                () = tokio::time::sleep(wait) => {}
                // There is room for another.
                Some(_) = tries.join_next() => {}
            }
        }
        // What has begun is brought to its end, as far as there is time.
        while tries.join_next().await.is_some() {}
    }

    /// Takes what is due, as far as there is room, and begins to try it.
    async fn begin(self: Arc<Self>, kind: Kind, tries: &mut JoinSet<()>) -> Result<(), Error> {
        while tries.try_join_next().is_some() {}
        let room = AT_ONCE.saturating_sub(tries.len());
        if room == 0 {
            return Ok(());
        }
        let now = self.clock.now();
        for errand in self.store.claim_errands(kind, now, LEASE, room).await? {
            let errands = self.clone();
            tries.spawn(async move { errands.try_one(errand).await });
        }
        Ok(())
    }

    async fn try_one(&self, errand: Errand) {
        let late = |_| Outcome::Again("it takes too long".to_owned());
        let outcome = tokio::time::timeout(LONGEST, self.attempt(&errand)).await.unwrap_or_else(late);
        let (id, kind, attempt) = (errand.id, errand.kind.name(), errand.attempts);
        let (word, written) = match &outcome {
            Outcome::Done => ("done", self.finish(&errand, End::Accepted).await),
            Outcome::Refused(why) => {
                tracing::warn!(errand.id = %id, attempt, "gave up errand {id} ({kind}): {why}");
                ("refused", self.finish(&errand, End::Failed).await)
            }
            Outcome::Again(why) => {
                let due_time = self.clock.now().plus(errand.kind.backoff(attempt));
                if attempt == 1 || attempt % 20 == 0 {
                    tracing::warn!(errand.id = %id, attempt, "errand {id} ({kind}) will be tried again: {why}");
                }
                ("again", self.store.postpone_errand(&errand, due_time).await)
            }
        };
        metrics::counter!("auth_errands_total", "kind" => kind, "outcome" => word).increment(1);
        if let Err(error) = written {
            // The lease ends by itself, and somebody tries again.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, errand.id = %id, "what came of errand {id} ({kind}) cannot be written down");
        }
    }

    async fn attempt(&self, errand: &Errand) -> Outcome {
        if self.clock.now() >= errand.expire_time {
            return Outcome::Refused("its time is over".to_owned());
        }
        let Some(task) = errand.open(&self.vault) else {
            return Outcome::Refused("it was encrypted under another secret".to_owned());
        };
        match (task, &self.mailer, &self.checks) {
            (Task::Mail(letter), Some(mailer), _) => mailer.send(&letter, errand.id, self.clock.now()).await,
            (Task::BackgroundCheck { body }, _, Some(checks)) => {
                checks.hand_in(errand.check_id(), body, self.clock.now()).await
            }
            (Task::Mail(_) | Task::BackgroundCheck { .. }, _, _) => {
                Outcome::Again("nobody is configured who could do it".to_owned())
            }
        }
    }

    async fn finish(&self, errand: &Errand, end: End) -> Result<(), Error> {
        match errand.kind {
            Kind::Mail => self.store.finish_errand(errand).await,
            Kind::BackgroundCheck => {
                let now = self.clock.now();
                // What has expired says so by itself.
                let end = if now >= errand.expire_time { End::Expired } else { end };
                self.store.finish_check_errand(errand, end, now).await
            }
        }
    }
}
