//! The Talkamie API as its clients use it: over HTTP and on its WebSocket.

mod calendar;
mod calling;
mod chats;
pub mod client;
mod live;
mod people;
pub mod socket;

use tests::trial::Story;

/// The stories of this folder.
pub fn all() -> Vec<Story> {
    [people::all(), chats::all(), calendar::all(), live::all(), calling::all()]
        .into_iter()
        .flatten()
        .collect()
}
