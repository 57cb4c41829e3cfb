//! Who is told live of what happens to a call. What is said here may be lost.

use chassis::events::Expiry;
use prost::Message as _;
use proto::id::UserId;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::call_event::Event;

use super::machine::{Call, Device, Route, nobody};
use super::{Calls, convert};

impl Calls {
    /// Tells both how a call stands, each as it sees it.
    pub(super) fn publish(&self, call: &Call) {
        for user in [call.caller.user, call.callee] {
            let seen = convert::render(call, user);
            self.tell(Expiry::Hint, user, Event::Changed(pb::CallNotice { call: Some(seen) }));
        }
    }

    /// Passes a signal on, exactly as it came. It does not expire: the signals after it make no sense without it.
    pub(super) fn publish_signal(&self, call: &Call, from: Device, to: Route, payload: String) {
        let signal = pb::CallSignal {
            call_id: call.id.to_string(),
            from_user_id: from.user.to_string(),
            to_session_id: to.session.map(|session| session.to_string()).unwrap_or_default(),
            payload,
        };
        self.tell(Expiry::Never, to.user, Event::Signal(signal));
    }

    /// Asks the gateways whether a device is connected to one of them.
    pub(super) fn publish_missed(&self, device: Device) {
        let missed = pb::DeviceMissed { session_id: device.session.to_string() };
        self.tell(Expiry::Hint, device.user, Event::DeviceMissed(missed));
    }

    fn tell(&self, expiry: Expiry, user: UserId, event: Event) {
        if user != nobody() {
            let event = pb::CallEvent { event: Some(event) };
            self.events.publish_with(expiry, &proto::subject::calls(user), event.encode_to_vec().into());
        }
    }
}
