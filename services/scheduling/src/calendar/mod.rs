//! Calendars: when people are free, and calls that are booked. The use cases about free time are here; those about
//! bookings are in [`booking`], and what follows from bookings is in [`delivery`] and [`reminder`].

pub mod announce;
pub mod availability;
mod booking;
pub mod convert;
mod delivery;
pub mod error;
mod grpc;
mod ical;
pub mod limits;
pub mod people;
pub mod recurrence;
mod reminder;
pub mod schedule;
pub mod slots;
pub mod zone;

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;

pub use grpc::Grpc;

use crate::calendar::announce::Announcer;
use crate::calendar::availability::{Availability, CustomChanges, Weekly};
use crate::calendar::error::Refusal;
use crate::calendar::limits::{Daily, Limits};
use crate::calendar::people::{People, Person};
use crate::calendar::slots::Span;
use crate::calendar::zone::{Day, Zone};
use crate::conversations::Conversations;
use crate::error::Error;
use crate::store::Store;
use crate::timer::Timer;

/// Calendars.
#[derive(Clone)]
pub struct Calendar {
    /// Where they are kept.
    pub store: Store,
    /// Tells the other person of bookings.
    pub deliveries: Timer,
    /// Reminds both.
    pub reminders: Timer,
    /// Messaging.
    pub announcer: Announcer,
    /// Conversation.
    pub conversations: Conversations,
    /// Auth.
    pub people: People,
    /// How many days ahead one can book.
    pub horizon_days: u32,
    /// How many bookings of a person can be to come.
    pub max_upcoming: u32,
}

/// When somebody is free, where its clocks are, and how much it wants to be called.
#[derive(Clone, Debug)]
pub struct Hours {
    /// What the person has said.
    pub availability: Availability,
    /// The zone that holds now.
    pub zone: Zone,
    /// How much the person wants to be called.
    pub limits: Limits,
}

impl Hours {
    fn new(availability: Option<Availability>, person: Person) -> Self {
        let availability = availability.unwrap_or_else(Availability::unsaid);
        let zone = availability.weekly.zone.clone().unwrap_or(person.zone);
        Self { availability, zone, limits: person.limits }
    }

    /// How many calls the person takes a day, when that is said; a day is one where its free time is meant.
    fn daily(&self) -> Option<Daily> {
        self.limits.per_day.map(|most| Daily { most, zone: self.zone.clone() })
    }
}

impl Calendar {
    /// What somebody has said about when it is free, with all dates from yesterday on.
    pub async fn hours(&self, user: UserId) -> Result<Hours, Error> {
        let person = self.people.anybody(user).await?;
        self.hours_of(person).await
    }

    async fn hours_of(&self, person: Person) -> Result<Hours, Error> {
        // Nobody's yesterday is earlier than this.
        let oldest = Zone::utc().local(self.store.now().await?).day.plus(-2);
        let availability = self.store.availability(person.id, oldest).await?;
        let mut hours = Hours::new(availability, person);
        let yesterday = self.yesterday(&hours.zone).await?;
        hours.availability.custom.retain(|day, _| *day >= yesterday);
        Ok(hours)
    }

    /// Keeps what somebody says about its weeks.
    pub async fn set_weekly(&self, user: UserId, weekly: Weekly) -> Result<Hours, Error> {
        let now = self.store.now().await?;
        self.store.set_weekly(user, &weekly, now).await?;
        self.hours(user).await
    }

    /// Keeps what somebody says about single dates.
    pub async fn set_custom(&self, user: UserId, changes: CustomChanges) -> Result<Hours, Error> {
        let now = self.store.now().await?;
        let zone = self.hours(user).await?.zone;
        let yesterday = self.yesterday(&zone).await?;
        changes.check(yesterday.plus(1)).map_err(|(place, rule)| convert::date_broken(place, rule))?;
        self.store.set_custom(user, &changes, yesterday, now).await?;
        self.hours(user).await
    }

    async fn yesterday(&self, zone: &Zone) -> Result<Day, Error> {
        Ok(zone.local(self.store.now().await?).day.plus(-1))
    }

    /// The slots at which a user can be booked by the viewer, of this length when one is given. They are shown to those who
    /// may book them.
    pub async fn free_slots(
        &self,
        viewer: UserId,
        user: UserId,
        window: Span,
        length: Option<Duration>,
    ) -> Result<Vec<Span>, Error> {
        let person = self.people.get(user).await?;
        if viewer != user {
            let is_unaccepted = self.conversations.is_unaccepted(viewer, user).await;
            if is_unaccepted.map_err(|denial| announce::denied(denial, user))? {
                return Err(Refusal::ContactNotAccepted(user).into());
            }
        }
        let hours = self.hours_of(person).await?;
        let terms = &hours.availability.weekly.terms;
        let free = slots::free(&hours.availability, &hours.zone, window);
        // What is booked near the window reaches into it with what is kept free around it.
        let gap = terms.gap();
        let near = window.widened(gap, gap);
        let busy = slots::widened(&self.store.busy(user, near, None).await?, gap);
        let earliest: Timestamp = self.store.now().await?.plus(terms.notice);
        Ok(slots::cut(&free, &busy, length.unwrap_or(terms.slot_length), earliest, window))
    }
}
