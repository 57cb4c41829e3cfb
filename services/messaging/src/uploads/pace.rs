//! How slowly the bytes of a file may come: with pauses, and not more slowly than at the least rate on the whole.

use std::time::Duration;

/// How the bytes of one file come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long the next bytes may take, and how much longer all of them may take than the least rate allows.
    silence: Duration,
    /// Bytes per second.
    least: u64,
    received: u64,
    waited: Duration,
}

impl Pace {
    /// The pace of a file of which nothing has come.
    pub const fn new(silence: Duration, least: u64) -> Self {
        Self { silence, least, received: 0, waited: Duration::ZERO }
    }

    /// The longest time until the next bytes come.
    pub fn patience(&self) -> Duration {
        let earned = Duration::from_millis(self.received.saturating_mul(1000) / self.least.max(1));
        let on_the_whole = self.silence.saturating_add(earned).saturating_sub(self.waited);
        on_the_whole.min(self.silence)
    }

    /// Notes that so many bytes have come after a wait. The time in which we did something else does not count.
    pub fn note(&mut self, waited: Duration, bytes: usize) {
        self.waited = self.waited.saturating_add(waited);
        self.received = self.received.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bytes_that_drip_run_out_of_time() {
        let mut pace = Pace::new(30 * SECOND, 1000);
        assert_eq!(pace.patience(), 30 * SECOND);
        pace.note(29 * SECOND, 1);
        assert_eq!(pace.patience(), SECOND + Duration::from_millis(1));
        pace.note(SECOND, 1);
        assert!(pace.patience() < SECOND);
    }

    #[test]
    fn bytes_may_pause_as_long_as_they_keep_the_rate() {
        let mut pace = Pace::new(30 * SECOND, 1000);
        for _ in 0..1000 {
            pace.note(20 * SECOND, 20_000);
            assert_eq!(pace.patience(), 30 * SECOND);
        }
        // What came fast is time for later, but never for a longer silence.
        pace.note(Duration::ZERO, 1 << 40);
        assert_eq!(pace.patience(), 30 * SECOND);
    }
}
