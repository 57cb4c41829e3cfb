//! Events of the calls of connected users.
//!
//! There is one subscription per connected user, however many connections the user has and whatever they follow: a call
//! rings on a connection that has subscribed to nothing. Events from the bus are delivered at once; there is no log to
//! compare them with, so a client that was away asks for its active call. A version of a call that arrives after a
//! newer one is not delivered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chassis::events::{Delivery, Events, Subscription};
use chassis::newest::Newest;
use chassis::tasks::{Shutdown, Tasks};
use prost::Message as _;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{CallId, SessionId, UserId};
use proto::scheduling::v1::CallEvent;
use proto::scheduling::v1::call_event::Event;
use tokio::sync::{OnceCell, mpsc};

use super::connection::Connection;
use super::frame::Frame;
use super::registry::ConnectionRegistry;

/// The prefix of the subject of a user's calls.
const SUBJECT: &str = "parlor.scheduling.v1.user.";

/// The maximum number of hints that wait. Further ones are lost.
const WAITING_HINTS: usize = 4096;

/// The minimum number of calls whose latest delivered version is remembered.
const REMEMBERED: usize = 8 * 1024;

/// The versions of calls, each as one of the two users sees it.
type Versions = Newest<(UserId, CallId), 1>;

/// Delivers events of calls to connected users.
pub(crate) struct CallEvents {
    registry: ConnectionRegistry,
    events: Events,
    /// The cell is empty until the bus has confirmed the subscription.
    users: Mutex<HashMap<UserId, Arc<OnceCell<Subscription>>>>,
    /// The sender that the bus uses for hints, and its receiver before the task is started.
    hint_sender: mpsc::Sender<Delivery>,
    pending_tasks: Mutex<Option<Inbox>>,
}

/// The receivers that the task reads.
struct Inbox {
    hints: mpsc::Receiver<Delivery>,
    /// Users whose last connection has closed.
    disconnected: mpsc::UnboundedReceiver<UserId>,
}

impl CallEvents {
    /// Creates it for the users of this registry, which reports who has disconnected.
    pub(crate) fn new(
        registry: ConnectionRegistry,
        disconnected: mpsc::UnboundedReceiver<UserId>,
        events: Events,
    ) -> Self {
        let (hint_sender, hints) = mpsc::channel(WAITING_HINTS);
        Self {
            registry,
            events,
            users: Mutex::default(),
            hint_sender,
            pending_tasks: Mutex::new(Some(Inbox { hints, disconnected })),
        }
    }

    /// Subscribes to the calls of a connected user. Events that happen after it returns are received.
    pub(crate) async fn hear(&self, user: UserId) {
        let cell = Arc::clone(self.users().entry(user).or_default());
        let subject = proto::subject::calls(user);
        cell.get_or_init(|| self.events.subscribe(&subject, self.hint_sender.clone())).await;
    }

    /// Starts the task that delivers events and unsubscribes from users who have disconnected.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks) {
        let inbox = self.pending_tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(inbox) = inbox else { return };
        let calls = Arc::clone(self);
        tasks.spawn("calls", |shutdown| async move { calls.run(inbox, shutdown).await });
    }

    async fn run(&self, Inbox { mut hints, mut disconnected }: Inbox, shutdown: Shutdown) {
        let mut versions = Versions::new(REMEMBERED);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                Some(hint) = hints.recv() => self.hand_out(&hint, &mut versions),
                Some(user) = disconnected.recv() => self.forget(user),
                else => return,
            }
        }
    }

    /// Unsubscribes from a user whose last connection has closed, unless they have connected again.
    fn forget(&self, user: UserId) {
        let mut users = self.users();
        // Under the lock: a user who connects at this moment subscribes after it, and finds the subscription gone.
        if self.registry.of_user(user).is_empty() {
            users.remove(&user);
            if users.is_empty() {
                users.shrink_to_fit();
            }
        }
    }

    fn hand_out(&self, hint: &Delivery, versions: &mut Versions) {
        let Some(Ok(user)) = hint.subject.strip_prefix(SUBJECT).map(UserId::parse) else { return };
        let event = match CallEvent::decode(hint.payload.clone()) {
            Ok(event) => event.event,
            Err(error) => {
                tracing::warn!(%error, subject = &*hint.subject, "a hint cannot be read");
                return;
            }
        };
        match event {
            Some(Event::Changed(notice)) => {
                if let Some(call) = &notice.call
                    && let Ok(id) = CallId::parse(&call.call_id)
                    && !versions.admits((user, id), [call.version])
                {
                    return;
                }
                let frame = Frame::push(Body::CallChanged(notice));
                for connection in self.registry.of_user(user) {
                    connection.push(Arc::clone(&frame));
                }
            }
            Some(Event::Signal(signal)) => {
                let to = signal.to_session_id.clone();
                let frame = Frame::push(Body::CallSignal(signal));
                for connection in self.registry.of_user(user) {
                    if to.is_empty() || is_of_session(&connection, &to) {
                        // The other device must not be able to fill the queue.
                        connection.push_if_quick(&frame);
                    }
                }
            }
            Some(Event::DeviceMissed(missed)) => {
                if let Ok(session) = SessionId::parse(&missed.session_id) {
                    self.registry.look_at_device((user, session));
                }
            }
            // An event of a newer service, unknown here.
            None => {}
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<UserId, Arc<OnceCell<Subscription>>>> {
        // No code panics between two parts of a change, so a poisoned lock is still consistent.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_session(connection: &Connection, session_id: &str) -> bool {
    connection.identity().is_some_and(|identity| identity.session_id().to_string() == session_id)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use proto::scheduling::v1::CallNotice;

    use super::super::connection::Bounds;
    use super::super::connection::tests::{connection, next};
    use super::super::registry::ConnectionSlot;
    use super::*;
    use crate::config::SocketsConfig;

    #[test]
    fn a_user_is_found_by_subject() {
        let user = UserId::generate();
        let subject = proto::subject::calls(user);
        assert_eq!(subject.strip_prefix(SUBJECT).map(UserId::parse), Some(Ok(user)));
    }

    async fn until(condition: impl Fn() -> bool) {
        for _ in 0..1000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not come true");
    }

    #[tokio::test]
    async fn one_subscription_serves_all_connections_of_a_user_and_goes_with_the_last() {
        let (disconnects, disconnected) = mpsc::unbounded_channel();
        let (registry, events, tasks) =
            (ConnectionRegistry::new(disconnects), Events::local(), Tasks::default());
        let calls = Arc::new(CallEvents::new(registry.clone(), disconnected, events.clone()));
        calls.start(&tasks);
        let config = SocketsConfig::default();
        let enter = |number, user| -> (ConnectionSlot, Arc<_>) {
            let slot = registry.admit(IpAddr::from([192, 0, 2, 1]), &config).expect("a slot");
            let connection = connection(number, user, Bounds { frames: 10, bytes: 10_000 });
            slot.attach(&connection, &config).expect("signed in");
            (slot, connection)
        };
        let [ann, bob] = [UserId::generate(), UserId::generate()];
        let places = [enter(1, ann), enter(2, ann), enter(3, bob)];
        for user in [ann, ann, bob] {
            calls.hear(user).await;
        }
        assert_eq!(calls.users().len(), 2);

        let event = CallEvent { event: Some(Event::Changed(CallNotice::default())) };
        let ring = || events.publish(&proto::subject::calls(ann), event.encode_to_vec().into());
        ring();
        let [(one, first), (two, second), (three, other)] = places;
        for connection in [&first, &second] {
            until(|| next(connection).is_some()).await;
            assert!(next(connection).is_none(), "once");
        }
        assert!(next(&other).is_none());

        drop(one);
        ring();
        until(|| next(&second).is_some()).await;
        drop(two);
        until(|| calls.users().len() == 1).await;
        drop(three);
        until(|| calls.users().is_empty()).await;
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }
}
