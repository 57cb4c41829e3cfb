//! Calls: who rings, who answers, and when it is over.
//!
//! ```text
//! machine   the rules, without I/O            messages       the permission to call, and the message afterwards
//! start     beginning one, or meeting         acquaintances  that two people had a call
//! fire      what time does, and what follows  stream, limit  the feed, and how many signals
//! devices   which of them are there
//! publish   who is told live
//! ```
//!
//! The store decides under the locks of both people and by the time of the database; what is told live afterwards may
//! be lost, and what must not be lost (that a call is over, and that it took place) is a row of the timers, written in
//! the transaction of the change.

mod acquaintances;
mod config;
mod convert;
mod devices;
pub mod error;
mod fire;
mod grpc;
mod limit;
pub mod machine;
mod messages;
mod publish;
mod start;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use chassis::database::facts::Claim;
use chassis::events::Events;
use chassis::identity::ServiceCredential;
use chassis::tasks::Tasks;
use chassis::transport::Transport;
use proto::id::{CallId, UserId};
use proto::scheduling::v1::call_service_server::CallServiceServer;

pub use config::CallsConfig;
pub use convert::render;

use self::acquaintances::Acquaintances;
use self::error::CallError;
use self::grpc::CallGrpc;
use self::limit::Signals;
use self::machine::{Act, Call, Device, Spans};
use crate::conversations::{Block, Conversations};
use crate::error::Error;
use crate::messaging::Messaging;
use crate::store::calling::{Changed, Listing, Place};
use crate::store::{Parted, Store};
use crate::timer::{Kind, Timer, Timing};
use crate::users::{Keyword, Users};

/// A keyword is looked for in the names of so many people at most.
const MOST_PEERS: i64 = 1_000;

/// What calls need from outside.
pub struct CallDeps {
    /// Where they are kept.
    pub store: Store,
    /// The bus.
    pub events: Events,
    /// Messaging.
    pub messaging: Messaging,
    /// Conversation.
    pub conversations: Conversations,
    /// The way to auth.
    pub auth: Transport,
    /// How this service proves to the others who it is.
    pub credential: ServiceCredential,
    /// What the timers go by.
    pub timing: Timing,
    /// Among which its tasks run.
    pub tasks: Tasks,
}

/// Calls.
#[derive(Clone)]
pub struct Calls {
    store: Store,
    events: Events,
    messaging: Messaging,
    conversations: Conversations,
    acquaintances: Acquaintances,
    users: Users,
    deadlines: Timer,
    outcomes: Timer,
    spans: Spans,
    per_minute: u32,
    signals: Arc<Signals>,
    tasks: Tasks,
}

/// A page of calls.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Newest first.
    pub calls: Vec<Call>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Place>,
}

impl Calls {
    /// Puts it together and starts its timers.
    pub fn start(config: &CallsConfig, deps: CallDeps) -> Self {
        let CallDeps { store, events, messaging, conversations, auth, credential, timing, tasks } = deps;
        let timer = |kind| Timer::new(kind, timing.clone(), store.clone(), tasks.clone());
        let calls = Self {
            deadlines: timer(Kind::CallDeadline),
            outcomes: timer(Kind::CallOutcome),
            store,
            events,
            messaging,
            conversations,
            acquaintances: Acquaintances::new(auth.clone(), credential.clone()),
            users: Users::new(auth, credential),
            spans: config.spans(),
            per_minute: config.per_minute,
            signals: Arc::new(Signals::new(config.signals_per_second, config.signals_burst)),
            tasks,
        };
        calls.run_timers();
        calls
    }

    /// What serves the rpcs.
    pub fn server(&self) -> CallServiceServer<CallGrpc> {
        CallServiceServer::new(CallGrpc::new(self.clone()))
    }

    /// Answers a call on a device.
    pub async fn accept(&self, device: Device, id: CallId) -> Result<Call, Error> {
        self.act(id, Act::Accept(device)).await
    }

    /// Does not want a call.
    pub async fn reject(&self, device: Device, id: CallId) -> Result<Call, Error> {
        self.act(id, Act::Reject(device)).await
    }

    /// Ends a call, or gives it up.
    pub async fn end(&self, device: Device, id: CallId) -> Result<Call, Error> {
        self.act(id, Act::End(device)).await
    }

    /// Does something to a call, and tells both of it.
    pub async fn act(&self, id: CallId, act: Act) -> Result<Call, Error> {
        let changed = self.store.change_call(id, act, &self.spans).await?.ok_or(CallError::NotFound(id))?;
        self.tell_of(&changed);
        match changed.acted.refusal {
            Some(refusal) => Err(CallError::of(id, refusal).into()),
            None => Ok(changed.call),
        }
    }

    /// One of a user's calls, as it stands now.
    pub async fn get(&self, user: UserId, id: CallId) -> Result<Call, Error> {
        let call = self.store.call(id).await?.filter(|call| call.has(user)).ok_or(CallError::NotFound(id))?;
        Ok(call.at(self.store.now().await?))
    }

    /// Some of a user's calls, newest first, as they stand now.
    pub async fn list(&self, listing: Listing) -> Result<Listed, Error> {
        // What is over by its time is written down first, so that it is found where it belongs.
        if let Some(live) = self.store.live_call(listing.user).await? {
            let (id, now) = (live.id, self.store.now().await?);
            if !live.at(now).is_live() {
                self.act(id, Act::Pass).await?;
            }
        }
        let mut calls = self.store.calls(&listing).await?;
        let limit = usize::try_from(listing.limit).unwrap_or(usize::MAX);
        let has_more = calls.len() > limit;
        calls.truncate(limit);
        let next = calls.last().filter(|_| has_more).map(|call| (call.create_time, call.id));
        let now = self.store.now().await?;
        calls = calls.into_iter().map(|call| call.at(now)).collect();
        if listing.active {
            calls.retain(Call::is_live);
        }
        Ok(Listed { calls, next })
    }

    /// The same of the calls with people whose names contain a keyword. Auth knows the names, so that they are looked for
    /// among the people of the latest calls.
    pub async fn list_named(&self, mut listing: Listing, keyword: &Keyword) -> Result<Listed, Error> {
        if !keyword.is_empty() {
            let peers = match listing.peers {
                Some(peers) => peers,
                None => self.store.call_peers(listing.user, MOST_PEERS).await?,
            };
            listing.peers = Some(self.users.named(listing.user, &peers, keyword).await?);
        }
        self.list(listing).await
    }

    /// Everything about a user's calls, newest first, page by page: the first page begins before nothing, and each other
    /// one where the one before it says.
    pub async fn export(&self, user: UserId, before: Option<Place>, limit: i64) -> Result<Listed, Error> {
        self.list(Listing { before, ..Listing::all(user, limit) }).await
    }

    /// Passes a signal on.
    pub async fn relay(&self, from: Device, id: CallId, payload: String) -> Result<(), Error> {
        self.signals.take(from.user)?;
        let call = self.get(from.user, id).await?;
        let route = call.route(from).map_err(|refusal| CallError::of(id, refusal))?;
        self.publish_signal(&call, from, route, payload);
        Ok(())
    }

    /// Applies what conversation says about two people, and tells them of the call that ends by it. Says how many bookings
    /// were cancelled; `None` when another replica was faster.
    pub async fn part(&self, claim: &Claim, block: Block) -> Result<Option<usize>, Error> {
        match self.store.part(claim, block, &self.spans).await? {
            Parted::Overtaken => Ok(None),
            Parted::Done { call, cancelled } => {
                if let Some(changed) = &call {
                    self.tell_of(changed);
                }
                Ok(Some(cancelled))
            }
        }
    }

    /// Forgets one whose account is gone. The same again changes nothing.
    pub async fn forget(&self, user: UserId) -> Result<(), Error> {
        for ended in self.store.forget_caller(user, &self.spans).await? {
            self.outcomes.expect(ended.create_time, ended.create_time);
            // As the other one sees it from now on.
            if let Some(call) = self.store.call(ended.id).await? {
                self.publish(&call);
            }
        }
        Ok(())
    }

    /// Tells both of a change, and the timers.
    fn tell_of(&self, Changed { call, acted, now }: &Changed) {
        if !acted.changed {
            return;
        }
        match call.deadline() {
            Some(deadline) => self.deadlines.expect(deadline, *now),
            None => {
                self.outcomes.expect(*now, *now);
                let outcome = call.ending().map_or("", |ending| ending.outcome.name());
                tracing::info!(call.id = %call.id, outcome, "call {} is {outcome}", call.id);
            }
        }
        self.publish(call);
    }
}
