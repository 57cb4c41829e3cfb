//! Who takes part: people, their conversations, their sockets.

use std::net::SocketAddr;
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
    let one = async |gateway, token: &str| Socket::sign_in(gateway, token, format).await;
    connect_each(system, people, one).await
}

/// A connection of some kind for each, spread over the gateways. `one` makes it, with the token of its person.
pub(crate) async fn connect_each<C>(
    system: &System,
    people: &[Person],
    one: impl AsyncFn(SocketAddr, &str) -> anyhow::Result<C>,
) -> anyhow::Result<Vec<C>> {
    let (gateways, one) = (system.world.gateways(), &one);
    let each = people.iter().enumerate().map(|(number, person)| {
        let gateway = gateways[number % gateways.len()];
        async move { one(gateway, &person.token).await }
    });
    stream::iter(each).buffered(AT_ONCE).try_collect().await
}

/// Follows everything, on every socket.
pub(crate) async fn follow_all(sockets: &mut [Socket]) -> anyhow::Result<()> {
    on_each(sockets, async |_, socket| socket.follow_all().await).await
}

/// Does something on every socket, which is given with its number.
pub(crate) async fn on_each(
    sockets: &mut [Socket],
    action: impl AsyncFn(usize, &mut Socket) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let action = &action;
    let each = sockets.iter_mut().enumerate().map(|(number, socket)| action(number, socket));
    stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await
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
            let pinged = frames(&mut socket.incoming, socket.protocol, |kind, _| {
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
