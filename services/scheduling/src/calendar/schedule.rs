//! A booked call and what may become of it, as code without a database.
//!
//! ```text
//!   booked ---- time passes: upcoming, ongoing, upcoming, ... past
//!      |
//!      +-- one of the two deletes it, an account goes, or messaging refuses its message ---> cancelled
//! ```
//!
//! Every change goes one version up and compares the version that it was decided on with the one that is there. The
//! other person is told of each version by a message and an alert (see [`delivery`](crate::calendar::delivery)).

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ScheduleId, UserId};

use crate::calendar::recurrence::Recurrence;
use crate::calendar::slots::Span;
use crate::calendar::zone::Zone;
use crate::scheduled_message::Retry;

/// The shortest and the longest call.
const LENGTHS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5 * 60)..=Duration::from_secs(24 * 60 * 60);

/// A title has at most so many characters.
const LONGEST_TITLE: usize = 255;

/// The most reminders of a booking.
const MOST_REMINDERS: usize = 5;

/// Between the alerts of two versions is room for so many reminders: 366 times five, and far more.
const ALERTS_PER_VERSION: i64 = 1_000_000;

/// What a call is about: one line of text that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title(String);

impl Title {
    /// This title, without white space around it.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if chassis::text::is_blank(text) {
            return Err(chassis::text::VISIBLE);
        }
        if text.chars().count() > LONGEST_TITLE {
            return Err("must be at most 255 characters");
        }
        if text.chars().any(is_unfit) {
            return Err("must be one line without control characters");
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What breaks a line, and what turns the direction of writing around.
fn is_unfit(c: char) -> bool {
    let turns =
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
    turns || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// With pictures or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Voice only.
    Audio,
    /// Voice and pictures.
    Video,
}

/// How long before each time both are reminded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reminders(Vec<Duration>);

impl Default for Reminders {
    fn default() -> Self {
        Self(vec![Duration::from_secs(10 * 60), Duration::ZERO])
    }
}

impl Reminders {
    /// These, each once.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn new(mut before: Vec<Duration>) -> Result<Self, &'static str> {
        if before.iter().any(|span| span.subsec_nanos() != 0) {
            return Err("must be whole seconds");
        }
        before.sort_unstable_by(|one, other| other.cmp(one));
        before.dedup();
        if before.len() > MOST_REMINDERS {
            return Err("must be at most 5");
        }
        Ok(Self(before))
    }

    /// Longest first.
    pub fn as_slice(&self) -> &[Duration] {
        &self.0
    }

    /// The first reminder after an instant for what has not ended by now.
    pub fn next(&self, times: &[Span], after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let to_come = times.iter().filter(|time| time.end > now);
        let all = to_come.flat_map(|time| self.0.iter().map(|before| time.start.minus(*before)));
        all.filter(|at| *at > after).min()
    }
}

/// What somebody books, checked as far as that goes without asking others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it is about.
    pub title: Title,
    /// With pictures or without.
    pub media: Media,
    /// The first time.
    pub first: Span,
    /// The zone whose local time it keeps.
    pub zone: Zone,
    /// How it comes again.
    pub recurrence: Recurrence,
    /// When both are reminded.
    pub reminders: Reminders,
}

/// What somebody asks to book.
#[derive(Clone, Debug)]
pub struct Draft {
    /// With whom.
    pub attendee: UserId,
    /// What it is about.
    pub title: Title,
    /// With pictures or without.
    pub media: Media,
    /// The first time.
    pub first: Span,
    /// The zone whose local time it keeps, when that is said.
    pub zone: Option<Zone>,
    /// How it comes again.
    pub recurrence: Recurrence,
    /// When both are reminded.
    pub reminders: Reminders,
    /// What makes a retry safe, when the booker wants that.
    pub retry: Option<Retry>,
}

/// What is to be changed about a booking. `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What it is about.
    pub title: Option<Title>,
    /// With pictures or without.
    pub media: Option<Media>,
    /// When it begins the first time.
    pub start: Option<Timestamp>,
    /// When it ends the first time.
    pub end: Option<Timestamp>,
    /// How it comes again.
    pub recurrence: Option<Recurrence>,
    /// The zone whose local time it keeps; the inner `None` is as for a new booking.
    pub zone: Option<Option<Zone>>,
    /// When both are reminded.
    pub reminders: Option<Reminders>,
}

impl Changes {
    /// Whether it is about when the call takes place.
    pub fn moves(&self) -> bool {
        self.start.is_some() || self.end.is_some() || self.recurrence.is_some() || self.zone.is_some()
    }

    /// The plan after the change. `zone` is what holds when the zone is to be as for a new booking.
    pub fn applied(self, plan: &Plan, zone: impl FnOnce() -> Zone) -> Plan {
        let start = self.start.unwrap_or(plan.first.start);
        // With a new start alone it lasts as long as before.
        let end = match (self.end, self.start) {
            (Some(end), _) => end,
            (None, Some(start)) => start.plus(plan.first.length()),
            (None, None) => plan.first.end,
        };
        Plan {
            title: self.title.unwrap_or_else(|| plan.title.clone()),
            media: self.media.unwrap_or(plan.media),
            first: Span::new(start, end),
            zone: match self.zone {
                None => plan.zone.clone(),
                Some(Some(said)) => said,
                Some(None) => zone(),
            },
            recurrence: self.recurrence.unwrap_or_else(|| plan.recurrence.clone()),
            reminders: self.reminders.unwrap_or_else(|| plan.reminders.clone()),
        }
    }
}

/// What is wrong with the time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTime {
    /// The start.
    Start(&'static str),
    /// The end.
    End(&'static str),
    /// The start is too far ahead.
    TooFar,
}

/// Judges the first time of a call: not past, not too far ahead, neither too short nor too long.
///
/// # Errors
/// With the rule that is broken, and where.
pub fn check_time(first: Span, now: Timestamp, horizon: Duration) -> Result<(), BadTime> {
    check_length(first)?;
    // To the second, as the times of calls are.
    if first.start.as_millis().div_euclid(1000) < now.as_millis().div_euclid(1000) {
        return Err(BadTime::Start("must not be in the past"));
    }
    if first.start > now.plus(horizon) {
        return Err(BadTime::TooFar);
    }
    Ok(())
}

/// Judges the length of a call.
///
/// # Errors
/// With the rule that is broken.
pub fn check_length(first: Span) -> Result<(), BadTime> {
    if first.end <= first.start {
        return Err(BadTime::End("must be after the start"));
    }
    if !LENGTHS.contains(&first.length()) {
        return Err(BadTime::End("must be 5 minutes to 24 hours after the start"));
    }
    Ok(())
}

/// When a booking takes place after a change, and what of that is new to the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it takes place.
    pub all: Vec<Span>,
    /// The times that have not begun.
    pub to_come: Vec<Span>,
    /// The addition to the time that is under way.
    pub added: Option<Span>,
}

impl Times {
    /// Those of a plan that has not begun.
    pub fn new(all: Vec<Span>) -> Self {
        Self { to_come: all.clone(), all, added: None }
    }

    /// Those of a plan that has begun, of which only the length is another one. What is over stays as it was; what is under
    /// way ends in the future.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn lengthened(before: &[Span], after: &[Span], now: Timestamp) -> Result<Self, BadTime> {
        let mut times = Self { all: Vec::with_capacity(after.len()), to_come: Vec::new(), added: None };
        for (old, new) in before.iter().zip(after) {
            if old.end <= now {
                times.all.push(*old);
                continue;
            }
            times.all.push(*new);
            if old.start > now {
                times.to_come.push(*new);
            } else if new.end <= now {
                return Err(BadTime::End("must not be in the past"));
            } else {
                times.added = (new.end > old.end).then_some(Span::new(old.end, new.end));
            }
        }
        Ok(times)
    }

    /// What both have to be free for, in order.
    pub fn wanted(&self) -> Vec<Span> {
        self.added.into_iter().chain(self.to_come.iter().copied()).collect()
    }
}

/// A booked call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Who booked it.
    pub booker: UserId,
    /// With whom.
    pub attendee: UserId,
    /// What is booked.
    pub plan: Plan,
    /// How often it takes place.
    pub count: usize,
    /// When the last time is over.
    pub last_end: Timestamp,
    /// 1 when it is new, and one more with every change.
    pub version: i64,
    /// Who made the last change; `None` when nobody did.
    pub actor: Option<UserId>,
    /// Whether it stands.
    pub standing: Standing,
    /// The version that the other person was told of last; 0 for none.
    pub told: i64,
    /// The message about it that messaging has taken last, and where it is.
    pub message: Option<(ConversationId, MessageId)>,
    /// When both are reminded next, and how often they were since the last change.
    pub reminding: Reminding,
    /// The time that is under way, or the next one; as of when it was read.
    pub next: Option<Span>,
    /// When it was booked.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// Whether a booking stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Booked,
    /// One of the two has cancelled it, or is no more.
    Cancelled,
    /// Messaging does not take its message, for this reason.
    Refused(String),
}

/// When both are reminded next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reminding {
    /// How often they were reminded since the last change.
    pub count: i64,
    /// When they are next; `None` when they are not any more.
    pub at: Option<Timestamp>,
}

/// Where a booking stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It will take place, for the first time or again.
    Upcoming,
    /// It is under way.
    Ongoing,
    /// The last time is over.
    Past,
    /// It does not stand.
    Cancelled,
}

impl Schedule {
    /// A new one.
    pub fn new(booker: UserId, attendee: UserId, plan: Plan, times: &[Span], now: Timestamp) -> Self {
        let mut schedule = Self {
            id: ScheduleId::generate(),
            booker,
            attendee,
            plan,
            count: 0,
            last_end: now,
            version: 0,
            actor: None,
            standing: Standing::Booked,
            told: 0,
            message: None,
            reminding: Reminding::default(),
            next: None,
            create_time: now,
            update_time: now,
        };
        schedule.change(booker, times, now);
        schedule
    }

    /// The same after somebody has changed its plan; `times` is when it takes place by then.
    pub fn changed(&self, plan: Plan, by: UserId, times: &[Span], now: Timestamp) -> Self {
        let mut schedule = Self { plan, ..self.clone() };
        schedule.change(by, times, now);
        schedule
    }

    fn change(&mut self, by: UserId, times: &[Span], now: Timestamp) {
        self.version += 1;
        self.actor = Some(by);
        self.count = times.len();
        self.last_end = times.iter().map(|time| time.end).max().unwrap_or(self.plan.first.end);
        self.next = times.iter().copied().find(|time| time.end > now);
        // Those that would be past by now are not made up for.
        let just_before = now.minus(Duration::from_millis(1));
        self.reminding = Reminding { count: 0, at: self.plan.reminders.next(times, just_before, now) };
        self.update_time = now;
    }

    /// Where it stands.
    pub fn state(&self, now: Timestamp) -> State {
        match (&self.standing, self.next) {
            (Standing::Cancelled | Standing::Refused(_), _) => State::Cancelled,
            (Standing::Booked, Some(next)) if next.end > now && next.start <= now => State::Ongoing,
            (Standing::Booked, _) if self.last_end <= now => State::Past,
            (Standing::Booked, _) => State::Upcoming,
        }
    }

    /// The other one of the two.
    pub fn other(&self, than: UserId) -> UserId {
        if than == self.booker { self.attendee } else { self.booker }
    }

    /// The sender's own id of the message about this version: the same one again is shown once.
    pub fn message_key(&self) -> String {
        format!("schedule:{}:{}", self.id, self.version)
    }

    /// The version of the alert that says that it was booked, changed or cancelled.
    pub fn alert_version(&self) -> i64 {
        self.version.saturating_mul(ALERTS_PER_VERSION)
    }

    /// The version of the alert of the next reminder: above that of its own version and every reminder before, below that
    /// of the next version.
    pub fn reminder_version(&self) -> i64 {
        self.alert_version() + (self.reminding.count + 1).min(ALERTS_PER_VERSION - 1)
    }
}

/// Which of somebody's bookings.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whose.
    pub user: UserId,
    /// Which of them.
    pub filter: Filter,
    /// Only those whose title has this in it, folded.
    pub keyword: String,
    /// Only those after this place.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: i64,
    /// As of when.
    pub now: Timestamp,
}

/// Which bookings to list, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All that stand, the one that begins last first.
    All,
    /// Those that are over, the one that ended last first.
    Past,
    /// Those that are under way or to come, the one that comes next first.
    Upcoming,
    /// Those that do not stand, the one that would have begun last first.
    Cancelled,
}

/// A place in the list: the time that it is ordered by, and the id.
pub type Place = (Timestamp, ScheduleId);

/// Some of somebody's bookings.
#[derive(Clone, Debug)]
pub struct Listed {
    /// In the order of the filter.
    pub schedules: Vec<Schedule>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Place>,
}

impl Listed {
    /// The page in the rows that were read for it, which are one more when another page follows.
    pub fn cut(mut rows: Vec<(Place, Schedule)>, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(place, _)| *place);
        Self { schedules: rows.into_iter().map(|(_, schedule)| schedule).collect(), next }
    }
}

#[cfg(test)]
mod tests;
