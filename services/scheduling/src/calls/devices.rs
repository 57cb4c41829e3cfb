//! Devices of calls: those that come and go, as gateways say, and those whose session has ended, as auth says.

use std::collections::BTreeSet;

use chassis::tasks::{Shutdown, Tasks};
use prost::Message as _;
use proto::auth::v1::SessionsEnded;
use proto::id::{CallId, SessionId, UserId};
use tokio::sync::mpsc;

use super::Calls;
use super::machine::{Act, Device};
use crate::error::Error;

/// The number of hints about ended sessions that may wait.
const WAITING_HINTS: usize = 1024;

/// The reports of gateways about devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Those that are connected.
    pub came: Vec<Device>,
    /// Those whose last connection is gone.
    pub left: Vec<Device>,
}

impl Calls {
    /// Takes in what a gateway says. A device that has left may be connected elsewhere: whoever has it says so.
    pub async fn report(&self, report: &Report) -> Result<(), Error> {
        let devices: BTreeSet<UserId> =
            report.came.iter().chain(&report.left).map(|device| device.user).collect();
        let users: Vec<UserId> = devices.into_iter().collect();
        for call in self.store.live_calls(&users).await? {
            for device in report.left.iter().filter(|device| call.has_device(**device)) {
                self.apply(call.id, Act::Left(*device)).await?;
                self.publish_missed(*device);
            }
            for device in report.came.iter().filter(|device| call.has_device(**device)) {
                self.apply(call.id, Act::Back(*device)).await?;
            }
        }
        Ok(())
    }

    /// Takes in that a device has begun to read its calls here, or has stopped.
    pub(super) fn tell_of_device(&self, device: Device, came: bool) {
        let devices = vec![device];
        let report = if came {
            Report { came: devices, ..Report::default() }
        } else {
            Report { left: devices, ..Report::default() }
        };
        let calls = self.clone();
        self.tasks.spawn("device-of-call", |_: Shutdown| async move {
            if let Err(error) = calls.report(&report).await {
                tracing::warn!(%error, user.id = %device.user, "a device of a call has come or gone, and the call does not know");
            }
        });
    }

    /// Ends the call of a user whose sessions have ended: all of them, when none is named.
    pub async fn end_sessions(&self, user: UserId, sessions: &[SessionId]) -> Result<(), Error> {
        for call in self.store.live_calls(&[user]).await? {
            if sessions.is_empty() {
                self.apply(call.id, Act::SessionsEnded(user)).await?;
            }
            for session in sessions {
                self.apply(call.id, Act::SessionEnded(Device { user, session: *session })).await?;
            }
        }
        Ok(())
    }

    /// Does something to a call that may be over, or gone.
    async fn apply(&self, id: CallId, act: Act) -> Result<(), Error> {
        if let Some(changed) = self.store.change_call(id, act, &self.spans).await? {
            self.tell_of(&changed);
        }
        Ok(())
    }

    /// Follows what auth says on the bus about sessions that have ended. A hint that is lost is made up for by the gateway,
    /// which closes the connections of the session.
    pub async fn follow_sessions(&self, tasks: &Tasks) {
        let (sender, mut hints) = mpsc::channel(WAITING_HINTS);
        let subscription = self.events.subscribe(proto::subject::SESSIONS_ENDED, sender).await;
        let calls = self.clone();
        tasks.spawn("calls-of-ended-sessions", |shutdown: Shutdown| async move {
            let _subscription = subscription;
            loop {
                let hint = tokio::select! {
                    () = shutdown.wait() => return,
                    hint = hints.recv() => hint,
                };
                let Some(hint) = hint else { return };
                let outcome = match SessionsEnded::decode(hint.payload) {
                    Ok(ended) => calls.take_in(&ended).await,
                    Err(error) => {
                        tracing::warn!(%error, "a hint about ended sessions cannot be read");
                        continue;
                    }
                };
                if let Err(error) = outcome {
                    tracing::warn!(%error, "the calls of an ended session go on until their devices are missed");
                }
            }
        });
    }

    async fn take_in(&self, ended: &SessionsEnded) -> Result<(), Error> {
        let Ok(user) = UserId::parse(&ended.user_id) else { return Ok(()) };
        let sessions: Vec<_> = ended.session_ids.iter().filter_map(|id| SessionId::parse(id).ok()).collect();
        // Sessions that cannot be read are not all sessions.
        if sessions.len() != ended.session_ids.len() {
            tracing::warn!(user.id = %user, "a hint names ended sessions by ids that are none");
        }
        if sessions.is_empty() && !ended.session_ids.is_empty() {
            Ok(())
        } else {
            self.end_sessions(user, &sessions).await
        }
    }
}
