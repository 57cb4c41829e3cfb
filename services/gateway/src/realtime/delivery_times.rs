//! The time that events take from the service that wrote them to the connections of this gateway.

use chassis::clock::{Clock, Timestamp};
use metrics::Histogram;

/// The histogram `delivery_seconds`: a value for each event delivered to at least one connection, measured from the
/// time in the event itself. Between machines it is as exact as their clocks agree; a time ahead of this clock counts
/// as 0.
#[derive(Clone)]
pub(super) struct DeliveryTimes {
    clock: Clock,
    seconds: Histogram,
}

impl DeliveryTimes {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, seconds: metrics::histogram!("delivery_seconds") }
    }

    /// Records that an event of this time was delivered to connections.
    pub(super) fn record(&self, occur_time: Timestamp) {
        self.seconds.record(self.clock.now().since(occur_time));
    }
}
