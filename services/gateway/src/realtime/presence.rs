//! Tells conversation who is connected here: who came and who left, in batches, and nothing while somebody stays.
//!
//! Somebody is here with one connection as with ten. Who goes counts as here for some seconds more, so that a reconnect
//! is nothing to tell. A report that says nothing keeps what was told before; when conversation has not heard of us for too
//! long it says so, and everything is told anew, under another id.

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

/// How often there is a report, if there is something to tell.
const ROUND: Duration = Duration::from_secs(1);

/// How often there is one when there is nothing to tell: three fit into what conversation waits for one.
const RENEWAL: Duration = Duration::from_secs(20);

/// How long one who has gone counts as here.
const LINGER: Duration = Duration::from_secs(5);

/// As many are in one report.
const BATCH: usize = 1_000;

/// How long conversation may take to take in a report.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all reports may take when the gateway goes. What is not told by then is known a minute later.
const LAST_PATIENCE: Duration = Duration::from_millis(1_500);

/// Starts the task that tells.
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

    // The others have been told to go; who is here still when they should have gone is told to have left all the same.
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

/// Makes one report, if one is due. Says whether there is more to tell at once.
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
        // Not at once: should conversation say so again and again, it is not asked without a pause.
        return Ok(false);
    }
    ledger.taken(&report, Instant::now());
    Ok(!ledger.news.is_empty())
}

/// What conversation knows, and what it does not know yet.
struct Ledger {
    id: GatewayId,
    /// When the last report was taken in; `None` before the first under this id.
    taken: Option<Instant>,
    /// Those of whom conversation knows that they are here.
    told: HashSet<UserId>,
    /// Those to tell of, and whether they came.
    news: BTreeMap<UserId, bool>,
    /// Those who have gone and may come back, and since when.
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

    /// Somebody is here now, or is not.
    fn note(&mut self, user: UserId, is_in: bool, now: Instant) {
        if is_in {
            self.away.remove(&user);
            if self.told.contains(&user) {
                self.news.remove(&user);
            } else {
                self.news.insert(user, true);
            }
        } else if self.told.contains(&user) || self.news.get(&user) == Some(&true) {
            // Also of one who was here for a moment it is told: it was seen.
            self.away.entry(user).or_insert(now);
        }
    }

    /// Those who have been away for long have left.
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

    /// The next report; `None` while there is nothing to tell and nothing to renew.
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

    /// It is not known whether the report was taken in. A user of whom it said that they left, and who comes back before
    /// it is made again, has to be told of.
    fn left_open(&mut self, report: &ReportPresenceRequest) {
        for user in report.left_user_ids.iter().filter_map(|text| UserId::parse(text).ok()) {
            self.told.remove(&user);
        }
    }

    /// The report was taken in.
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

    /// Conversation knows nothing any more: all who are here are to be told of, under another id.
    fn begin_anew(&mut self, users: Vec<UserId>) {
        *self = Self { news: users.into_iter().map(|user| (user, true)).collect(), ..Self::new() };
    }

    /// Nobody is here any more.
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
