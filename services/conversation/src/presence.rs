//! Who is there.
//!
//! Gateways say who comes and who leaves, in batches; nothing is written while somebody stays. A gateway keeps what it
//! said by being heard of: its lease ends a minute after its last report, and all who were there with it. Presence is
//! asked for by those who look, a hundred at a time, and told to nobody.

use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::tasks::{Shutdown, Tasks};
use proto::id::{ConversationId, GatewayId, UserId};

use crate::conversation::View;
use crate::conversations::Conversations;
use crate::error::Error;
use crate::member::Member;
use crate::paging::{Page, Paged};

/// How long what a gateway said counts.
pub const LEASE: Duration = Duration::from_secs(60);

/// How often those are cleared up after who were with a gateway whose lease has ended.
const SWEEP: Duration = Duration::from_secs(15);

/// As many are cleared up after in one transaction.
const BATCH: i64 = 256;

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub user_id: UserId,
    /// Whether a client is connected.
    pub is_online: bool,
    /// When the last one left. `None` when one is connected, and when there never was one.
    pub last_seen: Option<Timestamp>,
}

impl Presence {
    /// How it looks for those who may not see it: like one who was never there.
    pub fn hidden(user_id: UserId) -> Self {
        Self { user_id, is_online: false, last_seen: None }
    }
}

/// What a gateway saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The gateway.
    pub gateway_id: GatewayId,
    /// Whether this is its first.
    pub is_first: bool,
    /// Who came.
    pub came: Vec<UserId>,
    /// Who left.
    pub left: Vec<UserId>,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It was taken in.
    Taken,
    /// Nothing was: the gateway was not heard of for too long, and begins anew.
    Restate,
}

impl Conversations {
    /// Whether these are there, as the viewer may see it, in the order asked for.
    pub async fn presences(&self, viewer: UserId, user_ids: &[UserId]) -> Result<Vec<Presence>, Error> {
        let seen = self.store.presences(viewer, user_ids, self.clock.now()).await?;
        let presence = |user_id: &UserId| seen.get(user_id).copied().unwrap_or(Presence::hidden(*user_id));
        Ok(user_ids.iter().map(presence).collect())
    }

    /// The members of a conversation who are there now, as one who may read it may see them, in the order of their ids.
    pub async fn online_members(
        &self,
        viewer: UserId,
        id: ConversationId,
        page: Page<UserId>,
    ) -> Result<Paged<Member, UserId>, Error> {
        let view = self.store.view(id, viewer).await?;
        view.filter(View::may_read).ok_or(Error::ConversationNotFound(id))?;
        let rows = self.store.online_members(id, viewer, self.clock.now(), page).await?;
        Ok(Paged::cut(rows, &page, |member| member.user_id))
    }

    /// Takes in what a gateway saw.
    pub async fn report_presence(&self, mut report: Report) -> Result<Reported, Error> {
        // In one order, so that two gateways never wait for each other; and once each.
        for users in [&mut report.came, &mut report.left] {
            users.sort_unstable();
            users.dedup();
        }
        if report.came.iter().any(|user_id| report.left.binary_search(user_id).is_ok()) {
            let rule = "must not name a user that came too";
            return Err(Error::Field { field: "left_user_ids", rule });
        }
        self.store.report_presence(&report, self.clock.now()).await
    }
}

/// Clears up after gateways that are gone, for as long as the service runs.
pub fn sweep(conversations: Conversations, tasks: &Tasks) {
    tasks.spawn("sweep-presence", |shutdown| sweep_until(conversations, shutdown));
}

async fn sweep_until(conversations: Conversations, shutdown: Shutdown) {
    while !shutdown.is_set() {
        let now = conversations.clock.now();
        let wait = match conversations.store.sweep_presence(now, BATCH).await {
            Ok(true) => continue,
            Ok(false) => SWEEP,
            Err(error) => {
                tracing::warn!(%error, "cannot clear up after a gateway: trying again");
                SWEEP
            }
        };
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
