//! Devices of a call that have no connection to us any more, and those whose session has ended.

use chassis::clock::Timestamp;

use super::{Call, Device, Outcome, Side, Spans, Stage};

/// Until when each of the two devices may come back; `None` for one that is not away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    /// The device that calls.
    pub caller: Option<Timestamp>,
    /// The device that answered.
    pub callee: Option<Timestamp>,
}

impl Away {
    /// The time at which the call is over if neither comes back.
    pub fn until(self) -> Option<Timestamp> {
        [self.caller, self.callee].into_iter().flatten().min()
    }

    fn of(&mut self, side: Side) -> &mut Option<Timestamp> {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }
}

impl Call {
    /// Whether a device is one of the two between which the call is. While it rings the one who is called has none.
    pub fn has_device(&self, device: Device) -> bool {
        self.side_of_device(device).is_some()
    }

    pub(super) fn left(&mut self, device: Device, now: Timestamp, spans: &Spans) -> bool {
        let Some(side) = self.side_of_device(device) else { return false };
        let away = self.away.of(side);
        let leaves = away.is_none();
        if leaves {
            *away = Some(now.plus(spans.connect));
            self.version += 1;
        }
        leaves
    }

    pub(super) fn back(&mut self, device: Device) -> bool {
        let side = self.side_of_device(device);
        let comes_back = side.is_some_and(|side| self.away.of(side).take().is_some());
        if comes_back {
            self.version += 1;
        }
        comes_back
    }

    pub(super) fn session_ended(&mut self, device: Device, now: Timestamp) -> bool {
        let outcome = match (&self.stage, self.side_of_device(device)) {
            (Stage::Ringing, Some(Side::Caller)) => Outcome::Cancelled,
            (Stage::Accepted(_), Some(_)) => Outcome::Ended,
            _ => return false,
        };
        self.over(outcome, now, Some(device.user))
    }

    fn side_of_device(&self, device: Device) -> Option<Side> {
        match (&self.stage, self.side(device.user)?) {
            (Stage::Ringing | Stage::Accepted(_), Side::Caller) if self.caller == device => {
                Some(Side::Caller)
            }
            (Stage::Accepted(talk), Side::Callee) if talk.session == device.session => Some(Side::Callee),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Act;
    use super::super::tests::{
        ANN, BOB, NOW, SECOND, SPANS, accepted, connected, device, done, outcome, ringing, unchanged, user,
    };
    use super::*;

    #[test]
    fn a_device_that_does_not_come_back_ends_its_call() {
        let (mut call, now) = connected();
        done(&mut call, Act::Left(device(BOB, 0)), now);
        unchanged(&mut call, Act::Left(device(BOB, 0)), now.plus(SECOND));
        let over = now.plus(SPANS.connect);
        assert_eq!(call.deadline(), Some(over));
        let seen = call.at(over);
        assert_eq!((outcome(&seen), seen.ending().unwrap().time), (Outcome::Ended, over));

        // Both, each by itself: the first that is not back ends it.
        let (mut call, now) = connected();
        done(&mut call, Act::Left(device(ANN, 0)), now);
        done(&mut call, Act::Left(device(BOB, 0)), now.plus(SECOND));
        assert_eq!(outcome(&call.at(over)), Outcome::Ended);
        // One that nobody has heard of has failed.
        let (mut call, now) = accepted();
        done(&mut call, Act::Left(device(ANN, 0)), now);
        assert_eq!(outcome(&call.at(now.plus(SPANS.connect))), Outcome::Failed);
    }

    #[test]
    fn a_device_that_comes_back_in_time_leaves_the_call_as_it_was() {
        let (before, now) = connected();
        let mut call = before.clone();
        done(&mut call, Act::Left(device(BOB, 0)), now);
        done(&mut call, Act::Back(device(BOB, 0)), now.plus(SPANS.connect - SECOND));
        assert_eq!((call.deadline(), &call.stage), (before.deadline(), &before.stage));
        unchanged(&mut call, Act::Back(device(BOB, 0)), now.plus(SPANS.connect));
        assert_eq!(call.version, before.version + 2);
    }

    #[test]
    fn a_caller_that_is_gone_does_not_ring_on() {
        let mut call = ringing();
        let ring = Spans { ring: 10 * SPANS.connect, ..SPANS };
        call.ring_until = NOW.plus(ring.ring);
        done(&mut call, Act::Left(device(ANN, 0)), NOW);
        assert_eq!(outcome(&call.at(NOW.plus(SPANS.connect))), Outcome::Cancelled);
        for (act, how) in [
            (Act::SessionEnded(device(ANN, 0)), Outcome::Cancelled),
            (Act::SessionsEnded(user(ANN)), Outcome::Cancelled),
            (Act::SessionsEnded(user(BOB)), Outcome::Missed),
        ] {
            let mut call = ringing();
            done(&mut call, act, NOW.plus(SECOND));
            assert_eq!(outcome(&call), how);
        }
    }

    #[test]
    fn a_session_that_ends_ends_its_call_at_once_and_no_other() {
        for of in [ANN, BOB] {
            let (mut call, now) = connected();
            done(&mut call, Act::SessionEnded(device(of, 0)), now.plus(3 * SECOND));
            let ending = call.ending().unwrap();
            assert_eq!((ending.outcome, ending.by), (Outcome::Ended, Some(user(of))));
            assert_eq!(ending.duration, Some(Duration::from_secs(3)));
        }
        let (mut call, now) = connected();
        for other in [device(ANN, 1), device(BOB, 1), device(7, 0)] {
            for act in [Act::SessionEnded(other), Act::Left(other), Act::Back(other)] {
                unchanged(&mut call, act, now);
            }
        }
        // While it rings the other has not answered on any device.
        unchanged(&mut ringing(), Act::SessionEnded(device(BOB, 0)), NOW);
        unchanged(&mut ringing(), Act::Left(device(BOB, 0)), NOW);
    }
}
