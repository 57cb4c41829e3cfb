//! Who takes part: people, their conversations, their sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use tests::Person;

use crate::system::System;
use crate::wire::{Format, Kind, Socket, frames};

/// How many are made at once.
const AT_ONCE: usize = 16;

/// Registers people, spread over the gateways.
pub(crate) async fn register(system: &System, count: usize) -> Vec<Person> {
    let one = |number: usize| {
        let gateways = system.world.gateways();
        Person::register(gateways[number % gateways.len()], "member")
    };
    stream::iter((0..count).map(one)).buffered(AT_ONCE).collect().await
}

/// A signed-in socket for each, spread over the gateways.
pub(crate) async fn connect(
    system: &System,
    people: &[Person],
    format: Format,
) -> anyhow::Result<Vec<Socket>> {
    let gateways = system.world.gateways();
    let one = |(number, person): (usize, &Person)| {
        let (gateway, token) = (gateways[number % gateways.len()], person.token.clone());
        async move { Socket::sign_in(gateway, &token, format).await }
    };
    stream::iter(people.iter().enumerate().map(one)).buffered(AT_ONCE).try_collect().await
}

/// Follows everything, on every socket.
pub(crate) async fn follow_all(sockets: &mut [Socket]) -> anyhow::Result<()> {
    stream::iter(sockets.iter_mut().map(Socket::follow_all)).buffer_unordered(AT_ONCE).try_collect().await
}

/// What a crowd of listeners has received.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// How many events.
    pub(crate) events: AtomicU64,
    /// How many listeners have lost their connection.
    pub(crate) lost: AtomicU64,
}

/// Counts the events of a socket until it ends.
pub(crate) async fn listen(mut socket: Socket, heard: Arc<Heard>, notify: impl Fn(u64)) {
    let ended = async {
        loop {
            socket.incoming.fill().await?;
            let mut events = 0;
            let pinged = frames(&mut socket.incoming, socket.format, |kind, _| {
                events += u64::from(kind == Kind::Event);
                Ok(())
            })?;
            if events > 0 {
                notify(heard.events.fetch_add(events, Ordering::Relaxed) + events);
            }
            if pinged {
                socket.outgoing.pong();
                socket.outgoing.flush().await?;
            }
        }
    };
    let ended: anyhow::Result<()> = ended.await;
    if let Err(error) = ended
        && heard.lost.fetch_add(1, Ordering::Relaxed) == 0
    {
        crate::report::say(&format!("a listener lost its connection: {error}"));
    }
}

/// One hundred bytes.
pub(crate) const TEXT: &str =
    "so much depends upon a red wheel barrow glazed with rain water beside the white chickens, they say it";
