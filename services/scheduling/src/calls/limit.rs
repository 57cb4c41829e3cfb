//! How many signals a user may send: a bucket each, in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::id::UserId;
use tokio::time::Instant;

use super::error::CallError;

/// So many users are counted at a time. When more come, those whose buckets are full are forgotten, which changes nothing
/// for them.
const MOST: usize = 10_000;

/// How many signals a user may send.
#[derive(Debug)]
pub struct Signals {
    per_second: f64,
    burst: f64,
    users: Mutex<HashMap<UserId, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    looked: Instant,
}

impl Signals {
    /// So many per second in the long run, and so many at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: f64::from(per_second), burst: f64::from(burst), users: Mutex::default() }
    }

    /// Takes one, or refuses.
    pub fn take(&self, user: UserId) -> Result<(), CallError> {
        self.take_at(user, Instant::now())
    }

    fn take_at(&self, user: UserId, now: Instant) -> Result<(), CallError> {
        // Nothing in here panics half way through a change, so a poisoned lock is as good as any other.
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MOST && !users.contains_key(&user) {
            users.retain(|_, bucket| self.filled(*bucket, now) < self.burst);
        }
        if users.len() >= MOST && !users.contains_key(&user) {
            return Err(too_many(Duration::from_secs(1)));
        }
        let bucket = users.entry(user).or_insert(Bucket { left: self.burst, looked: now });
        *bucket = Bucket { left: self.filled(*bucket, now), looked: now };
        if bucket.left < 1.0 {
            return Err(too_many(Duration::from_secs_f64((1.0 - bucket.left) / self.per_second)));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(bucket.looked).as_secs_f64() * self.per_second;
        (bucket.left + gained).min(self.burst)
    }
}

fn too_many(wait: Duration) -> CallError {
    CallError::TooMany { what: "signals", wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_so_many_per_second() {
        let (signals, now) = (Signals::new(10, 3), Instant::now());
        let [ann, bob] = [UserId::generate(), UserId::generate()];
        for _ in 0..3 {
            signals.take_at(ann, now).unwrap();
        }
        let CallError::TooMany { wait, .. } = signals.take_at(ann, now).unwrap_err() else { panic!() };
        assert!(wait <= Duration::from_millis(100) && wait > Duration::from_millis(90), "{wait:?}");
        signals.take_at(bob, now).unwrap();
        signals.take_at(ann, now + wait + Duration::from_millis(1)).unwrap();
        assert!(signals.take_at(ann, now + wait + Duration::from_millis(1)).is_err());
    }

    #[test]
    fn those_who_are_counted_do_not_fill_the_memory() {
        let (signals, now) = (Signals::new(10, 3), Instant::now());
        for _ in 0..MOST {
            signals.take_at(UserId::generate(), now).unwrap();
        }
        assert!(signals.take_at(UserId::generate(), now).is_err());
        signals.take_at(UserId::generate(), now + Duration::from_secs(1)).unwrap();
        assert_eq!(signals.users.lock().unwrap().len(), 1);
    }
}
