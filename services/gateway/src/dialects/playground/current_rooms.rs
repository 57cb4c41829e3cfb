//! The room that each signed-in socket joined last: the target of a message over HTTP without a room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::id::{ConversationId, UserId};

/// The rooms of the sockets on this gateway, the one joined last at the end.
type Joined = Vec<(String, ConversationId)>;

/// The room that each signed-in socket joined last.
#[derive(Clone, Default)]
pub(super) struct CurrentRooms(Arc<Mutex<HashMap<UserId, Joined>>>);

impl CurrentRooms {
    /// Records that a socket has joined a room.
    pub(super) fn set(&self, user: UserId, socket: &str, room: ConversationId) {
        let mut rooms = self.lock();
        let joined = rooms.entry(user).or_default();
        joined.retain(|(other, _)| other != socket);
        joined.push((socket.to_owned(), room));
    }

    /// Records that a socket is in no room, or no longer the user's.
    pub(super) fn clear(&self, user: UserId, socket: &str) {
        let mut rooms = self.lock();
        if let Some(joined) = rooms.get_mut(&user) {
            joined.retain(|(other, _)| other != socket);
            if joined.is_empty() {
                rooms.remove(&user);
            }
        }
    }

    /// Returns the room that a socket of the user joined last.
    pub(super) fn of(&self, user: UserId) -> Option<ConversationId> {
        self.lock().get(&user)?.last().map(|(_, room)| *room)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Joined>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_joined_last_counts() {
        let (rooms, user) = (CurrentRooms::default(), UserId::generate());
        let [one, two, three] = [(); 3].map(|()| ConversationId::generate());
        assert_eq!(rooms.of(user), None);
        rooms.set(user, "a", one);
        rooms.set(user, "b", two);
        assert_eq!(rooms.of(user), Some(two));
        rooms.set(user, "a", three);
        assert_eq!(rooms.of(user), Some(three));
        rooms.clear(user, "a");
        assert_eq!(rooms.of(user), Some(two));
        rooms.clear(user, "b");
        assert_eq!((rooms.of(user), rooms.lock().len()), (None, 0));
    }
}
