//! Reports of connected and disconnected devices to scheduling, in batches, so that the call of a device that does not
//! come back ends.
//!
//! A device is a session; ten connections of it count as one device. Scheduling asks on the bus about a device that
//! another gateway reports as disconnected: the gateway to which it is connected then reports it as connected.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::tasks::{Shutdown, Tasks};
use chassis::transport::as_service;
use proto::id::{SessionId, UserId};
use proto::scheduling::v1::{CallDevice, ReportDevicesRequest};
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::{CLOSE_TIMEOUT, FINISH_TIMEOUT, Realtime};

/// The time between two reports, if there are changes to report.
const ROUND: Duration = Duration::from_secs(1);

/// The maximum number of devices in one report.
const BATCH: usize = 1_000;

/// The longest time for scheduling to process a report.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest time for all reports when the gateway stops.
const LAST_PATIENCE: Duration = Duration::from_millis(1_500);

/// Devices to report, each true when it is connected.
type News = BTreeMap<(UserId, SessionId), bool>;

/// Starts the task that reports.
pub(super) fn start(realtime: &Realtime, tasks: &Tasks) {
    let realtime = realtime.clone();
    tasks.spawn("devices", |shutdown| report(realtime, shutdown));
}

async fn report(realtime: Realtime, shutdown: Shutdown) {
    let mut news = News::new();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            _ = rounds.tick() => {}
        }
        let outcome = tell(&realtime, &mut news).await;
        if let Err(status) = &outcome
            && !is_failing
        {
            tracing::warn!(code = ?status.code(), "cannot tell which devices are here: trying again");
        }
        is_failing = outcome.is_err();
    }
    drop(tokio::time::timeout(FINISH_TIMEOUT + CLOSE_TIMEOUT, realtime.registry().emptied()).await);
    drop(tokio::time::timeout(LAST_PATIENCE, tell(&realtime, &mut news)).await);
}

/// Reports all changes. A change that was not accepted is reported with the next.
async fn tell(realtime: &Realtime, news: &mut News) -> Result<(), Status> {
    news.extend(realtime.registry().changed_devices());
    while !news.is_empty() {
        let batch: Vec<_> = news.iter().take(BATCH).map(|(device, is_in)| (*device, *is_in)).collect();
        let those = |came: bool| {
            batch.iter().filter(move |(_, is_in)| *is_in == came).map(|(device, _)| rendered(*device))
        };
        let report = ReportDevicesRequest { came: those(true).collect(), left: those(false).collect() };
        let mut request = as_service(report, realtime.upstream().clients().credential(), None);
        request.set_timeout(PATIENCE);
        realtime.upstream().clients().calls().report_devices(request).await?;
        for (device, _) in batch {
            news.remove(&device);
        }
    }
    Ok(())
}

fn rendered((user, session): (UserId, SessionId)) -> CallDevice {
    CallDevice { user_id: user.to_string(), session_id: session.to_string() }
}
