//! Reports of connected users to conversation: arrivals and departures, in batches, and nothing while a user stays.
//!
//! A user is present with one connection as with ten. A user who disconnects counts as present for some more seconds,
//! so that a reconnect is not reported. An empty report renews the earlier ones; if conversation has not received a
//! report of this gateway for too long, it says so, and all users are reported anew, under another id.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chassis::tasks::{Shutdown, Tasks};
use chassis::transport::as_service;
use proto::conversation::v1::ReportPresenceRequest;
use proto::id::{GatewayId, UserId};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use super::{CLOSE_TIMEOUT, FINISH_TIMEOUT};
use crate::realtime::Realtime;

/// The interval between reports, if there are changes to report.
const ROUND: Duration = Duration::from_secs(1);

/// The interval between reports without changes: three fit into the time after which conversation gives a gateway up.
const RENEWAL: Duration = Duration::from_secs(20);

/// The time for which a user who has disconnected counts as present.
const LINGER: Duration = Duration::from_secs(5);

/// The maximum number of users in one report.
const BATCH: usize = 1_000;

/// The longest time for conversation to process a report.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest time for all reports when the gateway stops. Unreported departures become known a minute later.
const LAST_PATIENCE: Duration = Duration::from_millis(1_500);

/// Starts the task that reports.
pub(super) fn start(realtime: &Realtime, tasks: &Tasks) {
    let realtime = realtime.clone();
    tasks.spawn("presence", |shutdown| report(realtime, shutdown));
}

async fn report(realtime: Realtime, shutdown: Shutdown) {
    let mut ledger = Ledger::new();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            _ = rounds.tick() => {}
        }
        let outcome = round(&realtime, &mut ledger).await;
        if let Err(status) = &outcome
            && !is_failing
        {
            tracing::warn!(code = ?status.code(), "cannot tell who is here: trying again");
        }
        is_failing = outcome.is_err();
    }

    // The others have been told to leave; users who are still connected after their time are reported as departed too.
    drop(tokio::time::timeout(FINISH_TIMEOUT + CLOSE_TIMEOUT, realtime.registry().emptied()).await);
    ledger.close();
    let last_reports = async { while tell(&realtime, &mut ledger).await.is_ok_and(|more| more) {} };
    drop(tokio::time::timeout(LAST_PATIENCE, last_reports).await);
}

async fn round(realtime: &Realtime, ledger: &mut Ledger) -> Result<(), Status> {
    let now = Instant::now();
    for (user, is_in) in realtime.registry().changed() {
        ledger.note(user, is_in, now);
    }
    ledger.pass(now);
    while tell(realtime, ledger).await? {}
    Ok(())
}

/// Makes one report, if one is due. Returns true when another one is due at once.
async fn tell(realtime: &Realtime, ledger: &mut Ledger) -> Result<bool, Status> {
    let Some(report) = ledger.due(Instant::now()) else { return Ok(false) };
    let mut request = as_service(report.clone(), realtime.upstream().clients().credential(), None);
    request.set_timeout(PATIENCE);
    let answer = match realtime.upstream().clients().presence().report_presence(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            ledger.left_open(&report);
            return Err(status);
        }
    };
    if answer.restate {
        ledger.begin_anew(realtime.registry().users());
        // Not at once: if conversation repeats its answer again and again, there is a pause between the reports.
        return Ok(false);
    }
    ledger.taken(&report, Instant::now());
    Ok(!ledger.news.is_empty())
}

/// The reported state, and the changes to report.
struct Ledger {
    id: GatewayId,
    /// The time at which the last report was accepted; `None` before the first under this id.
    taken: Option<Instant>,
    /// The users whom conversation knows to be present.
    told: HashSet<UserId>,
    /// The users to report, each true when they arrived.
    news: BTreeMap<UserId, bool>,
    /// Users who have disconnected and may come back, and the time at which they did.
    away: HashMap<UserId, Instant>,
}

impl Ledger {
    fn new() -> Self {
        Self {
            id: GatewayId::generate(),
            taken: None,
            told: HashSet::new(),
            news: BTreeMap::new(),
            away: HashMap::new(),
        }
    }

    /// Records that a user is connected now, or is not.
    fn note(&mut self, user: UserId, is_in: bool, now: Instant) {
        if is_in {
            self.away.remove(&user);
            if self.told.contains(&user) {
                self.news.remove(&user);
            } else {
                self.news.insert(user, true);
            }
        } else if self.told.contains(&user) || self.news.get(&user) == Some(&true) {
            // A user who was present only for a moment is reported too: they were seen.
            self.away.entry(user).or_insert(now);
        }
    }

    /// Turns users who have been away for long into departures.
    fn pass(&mut self, now: Instant) {
        let (told, news) = (&self.told, &mut self.news);
        self.away.retain(|user, since| {
            let has_left = now.duration_since(*since) >= LINGER && told.contains(user);
            if has_left {
                news.insert(*user, false);
            }
            !has_left
        });
    }

    /// Returns the next report; `None` while there is nothing to report and nothing to renew.
    fn due(&self, now: Instant) -> Option<ReportPresenceRequest> {
        let renews = self.taken.is_some_and(|taken| now.duration_since(taken) >= RENEWAL);
        if self.news.is_empty() && !renews {
            return None;
        }
        let batch = || self.news.iter().take(BATCH);
        let those =
            |came: bool| batch().filter(move |(_, is)| **is == came).map(|(user, _)| user.to_string());
        Some(ReportPresenceRequest {
            gateway_id: self.id.to_string(),
            first: self.taken.is_none(),
            came_user_ids: those(true).collect(),
            left_user_ids: those(false).collect(),
        })
    }

    /// Handles a report of which it is unknown if it was accepted. A user whose departure it contains, and who comes
    /// back before it is repeated, has to be reported.
    fn left_open(&mut self, report: &ReportPresenceRequest) {
        for user in report.left_user_ids.iter().filter_map(|text| UserId::parse(text).ok()) {
            self.told.remove(&user);
        }
    }

    /// Records that the report was accepted.
    fn taken(&mut self, report: &ReportPresenceRequest, now: Instant) {
        self.taken = Some(now);
        let users = |texts: &[String]| -> Vec<UserId> {
            texts.iter().filter_map(|text| UserId::parse(text).ok()).collect()
        };
        for user in users(&report.came_user_ids) {
            self.told.insert(user);
            self.news.remove(&user);
        }
        for user in users(&report.left_user_ids) {
            self.told.remove(&user);
            self.news.remove(&user);
        }
    }

    /// Starts over because conversation has lost its state: all present users are reported, under another id.
    fn begin_anew(&mut self, users: Vec<UserId>) {
        *self = Self { news: users.into_iter().map(|user| (user, true)).collect(), ..Self::new() };
    }

    /// Marks all users as departed.
    fn close(&mut self) {
        self.away.clear();
        self.news = self.told.iter().map(|user| (*user, false)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people<const N: usize>() -> [UserId; N] {
        std::array::from_fn(|_| UserId::generate())
    }

    /// The next report, taken in: who came and who left.
    fn told(ledger: &mut Ledger, now: Instant) -> Option<(usize, usize, bool)> {
        let report = ledger.due(now)?;
        ledger.taken(&report, now);
        Some((report.came_user_ids.len(), report.left_user_ids.len(), report.first))
    }

    #[tokio::test]
    async fn only_coming_and_leaving_is_told() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        let [ann, bob] = people();
        assert_eq!(told(&mut ledger, now), None, "nobody has come");
        ledger.note(ann, true, now);
        ledger.note(bob, true, now);
        assert_eq!(told(&mut ledger, now), Some((2, 0, true)));
        assert_eq!(told(&mut ledger, now + RENEWAL / 2), None);
        assert_eq!(told(&mut ledger, now + RENEWAL), Some((0, 0, false)), "a renewal says nothing");

        ledger.note(ann, false, now);
        ledger.pass(now + LINGER / 2);
        assert_eq!(told(&mut ledger, now + RENEWAL), None, "it may come back");
        ledger.note(ann, true, now + LINGER / 2);
        ledger.pass(now + LINGER * 2);
        assert_eq!(told(&mut ledger, now + RENEWAL), None, "it has come back");
        ledger.note(ann, false, now + LINGER * 2);
        ledger.pass(now + LINGER * 3);
        assert_eq!(told(&mut ledger, now + RENEWAL), Some((0, 1, false)));
    }

    #[tokio::test]
    async fn who_comes_back_before_it_was_told_has_not_left() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        let [ann] = people();
        ledger.note(ann, true, now);
        told(&mut ledger, now);
        ledger.note(ann, false, now);
        ledger.pass(now + LINGER);
        assert!(ledger.due(now).is_some_and(|report| report.left_user_ids.len() == 1));
        ledger.note(ann, true, now + LINGER);
        assert_eq!(told(&mut ledger, now), None);
    }

    #[tokio::test]
    async fn one_who_comes_back_while_it_is_open_whether_it_was_told_is_told_of() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        let [ann] = people();
        ledger.note(ann, true, now);
        told(&mut ledger, now);
        ledger.note(ann, false, now);
        ledger.pass(now + LINGER);
        let report = ledger.due(now).expect("a report");
        assert_eq!(report.left_user_ids, [ann.to_string()]);
        // Conversation has taken it in, and its answer is lost.
        ledger.left_open(&report);
        ledger.note(ann, true, now + LINGER);
        assert_eq!(told(&mut ledger, now), Some((1, 0, false)));
        // Gone again before anything was taken in: it is told all the same.
        ledger.note(ann, false, now + LINGER);
        ledger.pass(now + LINGER * 2);
        let report = ledger.due(now).expect("a report");
        ledger.left_open(&report);
        assert_eq!(told(&mut ledger, now), Some((0, 1, false)));
    }

    #[tokio::test]
    async fn one_who_was_here_for_a_moment_was_seen() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        let [ann] = people();
        ledger.note(ann, true, now);
        ledger.note(ann, false, now);
        assert_eq!(told(&mut ledger, now), Some((1, 0, true)));
        ledger.pass(now + LINGER);
        assert_eq!(told(&mut ledger, now), Some((0, 1, false)));
        ledger.note(ann, false, now);
        ledger.pass(now + LINGER * 2);
        assert_eq!(told(&mut ledger, now), None);
    }

    #[tokio::test]
    async fn many_are_told_in_batches() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        for user in people::<2_500>() {
            ledger.note(user, true, now);
        }
        let reports: Vec<_> = std::iter::from_fn(|| told(&mut ledger, now)).collect();
        assert_eq!(reports, [(1000, 0, true), (1000, 0, false), (500, 0, false)]);
        ledger.close();
        let reports: Vec<_> = std::iter::from_fn(|| told(&mut ledger, now)).collect();
        assert_eq!(reports, [(0, 1000, false), (0, 1000, false), (0, 500, false)]);
    }

    #[tokio::test]
    async fn what_was_forgotten_is_told_anew_by_another() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        let [ann, bob, cem] = people();
        for user in [ann, bob] {
            ledger.note(user, true, now);
        }
        told(&mut ledger, now);
        let id = ledger.id;
        ledger.note(bob, false, now);
        ledger.begin_anew(vec![ann, cem]);
        assert_ne!(ledger.id, id);
        assert_eq!(told(&mut ledger, now), Some((2, 0, true)));
        ledger.pass(now + LINGER);
        assert_eq!(told(&mut ledger, now), None);
    }

    #[tokio::test]
    async fn a_report_that_is_lost_is_made_again() {
        let (mut ledger, now) = (Ledger::new(), Instant::now());
        let [ann] = people();
        ledger.note(ann, true, now);
        let first = ledger.due(now);
        assert_eq!(ledger.due(now + ROUND), first);
        assert!(first.is_some_and(|report| report.first));
    }
}
