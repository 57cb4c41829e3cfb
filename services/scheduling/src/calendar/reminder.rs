//! Reminding the two of a booking. One timer stands for the next reminder of a booking; when it is done, it is set for the
//! one after. An alert of the same version changes nothing, so a reminder that is repeated is there once.

use crate::calendar::Calendar;
use crate::calendar::announce::{Answer, News};
use crate::calendar::delivery::{Done, not_taken, report};
use crate::calendar::schedule::Standing;
use crate::error::Error;
use crate::timer::Claim;

impl Calendar {
    /// Reminds the two of a booking, for a caller that has nobody to tell what went wrong.
    pub async fn remind_and_log(&self, claim: Claim) {
        report(&claim, self.remind(&claim).await);
    }

    /// Reminds the two of a booking, and says what came of it.
    pub(crate) async fn remind(&self, claim: &Claim) -> Result<Done, Error> {
        let now = self.store.now().await?;
        let found = self.store.claimed_schedule(claim, now).await?;
        let Some((schedule, at)) = found
            .filter(|schedule| schedule.standing == Standing::Booked)
            .and_then(|schedule| schedule.reminding.at.map(|at| (schedule, at)))
        else {
            self.store.drop_claim(claim).await?;
            return Ok(Done::Lost);
        };
        // Asked last before others are told: whoever has been asleep in between has lost the lease. And one that was moved
        // away under our hands is not due.
        if claim.is_stale(self.reminders.timing().lease) || at > now {
            return Ok(Done::Lost);
        }
        let times = self.store.times(&schedule).await?;
        let reminders = &schedule.plan.reminders;
        // After a long outage the call may be over: then nobody is reminded of it any more.
        let is_for = |start| reminders.as_slice().iter().any(|before| start == at.plus(*before));
        let is_worth_it = times.iter().any(|time| time.end > now && is_for(time.start));
        let mut done = Done::Told;
        if is_worth_it {
            let version = schedule.reminder_version();
            for user in [schedule.booker, schedule.attendee] {
                match self.announcer.alert(&schedule, user, News::Due, version).await {
                    Answer::Taken(()) => {}
                    Answer::Refused(reason) => {
                        not_taken(claim, user, &reason);
                        done = Done::NoAlert;
                    }
                    Answer::Again { setback, why, is_ours } => {
                        return self.again(&self.reminders, claim, setback, (&why, is_ours)).await;
                    }
                }
            }
        }
        let next = reminders.next(&times, at, now);
        if !self.store.finish_reminder(claim, &schedule, is_worth_it, next).await? {
            return Ok(Done::Lost);
        }
        if let Some(next) = next {
            self.reminders.expect(next, now);
        }
        Ok(done)
    }
}
