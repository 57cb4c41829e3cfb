//! The Talkamie API as its clients use it: over HTTP and on its WebSocket.

mod calendar;
mod chats;
mod client;
mod people;

use tests::trial::Story;

/// The stories of this folder.
pub fn all() -> Vec<Story> {
    [people::all(), chats::all(), calendar::all()].into_iter().flatten().collect()
}
