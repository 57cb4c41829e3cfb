//! The live feed of one device's calls, for those who come by gRPC: first the active call, then what happens.
//!
//! It has no log to resume from, so it does not try to mend: when something may have been lost, or the reader is too
//! slow, it ends, and whoever calls again begins with the active call.

use std::time::Duration;

use chassis::events::{Delivery, Subscription};
use chassis::tasks::Shutdown;
use futures_util::Stream;
use prost::Message as _;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::call_event::Event;
use proto::scheduling::v1::stream_calls_response::Update;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::CallError;
use super::machine::Device;
use super::{Calls, convert};
use crate::error::Error;
use crate::store::calling::Listing;

/// How many hints may wait to be heard, and how many updates for the reader.
const HINTS: usize = 256;
const WAITING: usize = 256;

/// The longest wait for a slow reader to take the reason for the end of its stream.
const LAST_WORD: Duration = Duration::from_secs(10);

type Item = Result<pb::StreamCallsResponse, Status>;

impl Calls {
    /// Follows the calls of a device's user.
    pub(super) async fn stream(
        &self,
        device: Device,
    ) -> Result<impl Stream<Item = Item> + Send + use<>, Error> {
        let (hints, heard) = mpsc::channel(HINTS);
        // Before the look at what there is, so that nothing falls in between.
        let subscription = self.events.subscribe(&proto::subject::calls(device.user), hints).await;
        let (updates, taken) = mpsc::channel(WAITING + 1);
        let active = self.list(Listing { active: true, ..Listing::all(device.user, 1) }).await?;
        let call = active.calls.first().map(|call| convert::render(call, device.user));
        // There is room for the first.
        let _ = updates.try_send(Ok(answer(Update::CallChanged(pb::CallNotice { call }))));
        let feed = Feed { calls: self.clone(), device, updates, _subscription: subscription };
        self.tasks.spawn("stream-calls", |shutdown| feed.run(heard, shutdown));
        Ok(ReceiverStream::new(taken))
    }
}

struct Feed {
    calls: Calls,
    device: Device,
    updates: mpsc::Sender<Item>,
    _subscription: Subscription,
}

impl Feed {
    async fn run(self, mut heard: mpsc::Receiver<Delivery>, shutdown: Shutdown) {
        self.calls.tell_of_device(self.device, true);
        let end = self.feed(&mut heard, shutdown).await;
        // One whose feed was interrupted calls again, and is missed if it does not.
        self.calls.tell_of_device(self.device, false);
        if let Some(error) = end {
            // Whoever reads slowly still learns why, unless it takes nothing at all.
            let _ = tokio::time::timeout(LAST_WORD, self.updates.send(Err(Status::from(error)))).await;
        }
    }

    /// Feeds until something ends it; says what, when there is somebody to be told.
    async fn feed(&self, heard: &mut mpsc::Receiver<Delivery>, shutdown: Shutdown) -> Option<Error> {
        let mut interruptions = self.calls.events.interruptions();
        loop {
            let hint = tokio::select! {
                () = shutdown.wait() => return Some(CallError::Interrupted.into()),
                () = self.updates.closed() => return None,
                Ok(()) = interruptions.changed() => return Some(CallError::Interrupted.into()),
                hint = heard.recv() => hint?,
            };
            let Some(update) = self.read(&hint) else { continue };
            match self.updates.try_send(Ok(answer(update))) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Some(CallError::Interrupted.into()),
                Err(TrySendError::Closed(_)) => return None,
            }
        }
    }

    /// What a hint says to this device.
    fn read(&self, hint: &Delivery) -> Option<Update> {
        match pb::CallEvent::decode(hint.payload.clone()) {
            Ok(pb::CallEvent { event: Some(Event::Changed(notice)) }) => Some(Update::CallChanged(notice)),
            Ok(pb::CallEvent { event: Some(Event::Signal(signal)) }) => {
                let own = self.device.session.to_string();
                let is_mine = signal.to_session_id.is_empty() || signal.to_session_id == own;
                is_mine.then_some(Update::CallSignal(signal))
            }
            Ok(pb::CallEvent { event: Some(Event::DeviceMissed(missed)) }) => {
                if missed.session_id == self.device.session.to_string() {
                    self.calls.tell_of_device(self.device, true);
                }
                None
            }
            // A newer process says something that we do not know.
            Ok(pb::CallEvent { event: None }) => None,
            Err(error) => {
                tracing::warn!(%error, subject = &*hint.subject, "a hint cannot be read");
                None
            }
        }
    }
}

fn answer(update: Update) -> pb::StreamCallsResponse {
    pb::StreamCallsResponse { update: Some(update) }
}
