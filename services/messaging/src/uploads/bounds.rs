//! The bounds on what a user stores, brings in a day and has pending.

use std::time::Duration;

use chassis::caller::CallerKind;
use chassis::clock::Timestamp;

use super::config::UploadsConfig;
use crate::error::Error;

/// The milliseconds of a day.
const DAY: i64 = 24 * 3600 * 1000;

/// The bounds of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The number of places that may wait for their bytes.
    pub pending: i64,
    /// The number of bytes that may be brought on a day.
    pub per_day: i64,
    /// The number of bytes that may be stored.
    pub stored: i64,
}

/// The bound that a file would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Too many places wait for their bytes.
    Pending,
    /// Too many bytes on one day.
    PerDay,
    /// Too many bytes in all.
    Stored,
}

/// The bounds by the kind of account.
#[derive(Clone, Copy, Debug)]
pub struct BoundsByKind {
    others: Bounds,
    guests: Bounds,
}

impl BoundsByKind {
    /// As the settings say.
    pub fn of(config: &UploadsConfig) -> anyhow::Result<Self> {
        let pending = i64::from(config.max_pending);
        let bounds = |per_day, stored| -> anyhow::Result<Bounds> {
            Ok(Bounds { pending, per_day: i64::try_from(per_day)?, stored: i64::try_from(stored)? })
        };
        Ok(Self {
            others: bounds(config.max_bytes_per_day, config.max_stored_bytes)?,
            guests: bounds(config.max_bytes_per_day_of_guests, config.max_stored_bytes_of_guests)?,
        })
    }

    /// The bounds of an account of this kind.
    pub const fn for_kind(&self, kind: CallerKind) -> &Bounds {
        self.for_guest(matches!(kind, CallerKind::Guest))
    }

    /// The bounds of a guest, or of all others.
    pub const fn for_guest(&self, is_guest: bool) -> &Bounds {
        if is_guest { &self.guests } else { &self.others }
    }
}

impl Bounds {
    /// What a user is told whose file would break a bound.
    pub const fn refusal(&self, excess: Excess, now: Timestamp) -> Error {
        match excess {
            Excess::Pending => Error::TooManyUploads { rule: "uploads.max_pending", most: self.pending },
            Excess::PerDay => Error::UploadQuota { most: self.per_day, wait: rest_of_day(now) },
            Excess::Stored => Error::StorageFull { most: self.stored },
        }
    }
}

/// The day of a time, in days since 1970.
pub const fn day(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(DAY)
}

const fn rest_of_day(now: Timestamp) -> Duration {
    let rest = DAY - now.as_millis().rem_euclid(DAY);
    Duration::from_millis(rest.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_may_have_less() {
        let bounds = BoundsByKind::of(&UploadsConfig::default()).unwrap();
        let (guest, other) = (bounds.for_kind(CallerKind::Guest), bounds.for_kind(CallerKind::Registered));
        assert!(guest.per_day < other.per_day && guest.stored < other.stored);
        assert_eq!((bounds.for_guest(true), bounds.for_kind(CallerKind::External)), (guest, other));
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let (evening, midnight) = (Timestamp::from_millis(2 * DAY - 1), Timestamp::from_millis(2 * DAY));
        assert_eq!((day(evening), day(midnight)), (1, 2));
        assert_eq!(rest_of_day(evening), Duration::from_millis(1));
        assert_eq!(rest_of_day(midnight), Duration::from_secs(24 * 3600));
    }
}
