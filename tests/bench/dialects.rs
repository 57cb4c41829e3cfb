//! The sockets of the dialects beside the canonical one, each on a fresh Parlor of the same run: what an idle connection
//! costs in memory, and how many messages 64 senders send.

use std::time::Duration;

use tests::Person;
use tests::storage::Cluster;

use crate::report::{Report, Row, say};
use crate::sending::{self, Circle, Outcome};
use crate::socketio::{self, Poll};
use crate::system::{System, Variant};
use crate::wire::Socket;
use crate::{Options, people, talkamie};

/// The number of users who share the idle connections, as in W4.
const PEOPLE: usize = 100;

/// What was needed for a moment has been given back by then.
const SETTLE: Duration = Duration::from_secs(3);

/// The figures of the canonical socket, which those of the dialects are related to.
const SIGNED_IN: &str = "canonical, signed in";
const FOLLOWING: &str = "canonical, following";
const SENT: &str = "canonical, acknowledged";
const PROCESSOR: &str = "canonical, processor of Parlor";

pub(crate) async fn measure(
    variant: Variant,
    cluster: &mut Option<Cluster>,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    for kind in Idle::ALL {
        say(&format!("idle connections: {}", kind.name()));
        let mut system = System::start(variant, cluster).await?;
        kind.measure(&system, options, report).await?;
        system.stop().await?;
    }
    for is_canonical in [true, false] {
        say(if is_canonical { "64 senders: canonical" } else { "64 senders: Socket.IO" });
        let mut system = System::start(variant, cluster).await?;
        send(&system, is_canonical, options, report).await?;
        system.stop().await?;
    }
    Ok(())
}

/// A kind of idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    /// The canonical WebSocket.
    Canonical,
    /// Socket.IO by WebSocket from the beginning.
    SocketIo,
    /// Socket.IO that began to poll and went on as a WebSocket, as clients of the library do by default.
    Upgraded,
    /// Socket.IO that polls: one request waits.
    Polling,
    /// The WebSocket of Talkamie.
    Talkamie,
}

impl Idle {
    const ALL: [Self; 5] = [Self::Canonical, Self::SocketIo, Self::Upgraded, Self::Polling, Self::Talkamie];

    fn name(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::SocketIo => "Socket.IO",
            Self::Upgraded => "Socket.IO, upgraded",
            Self::Polling => "Socket.IO, polling",
            Self::Talkamie => "Talkamie",
        }
    }

    async fn measure(self, system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
        let people = people::register(system, PEOPLE).await;
        let others: Vec<&Person> = people[1..].iter().collect();
        let group = people[0].starts_group_with(&others).await;
        let crowd: Vec<Person> = people.iter().cloned().cycle().take(options.sockets).collect();
        // Some come first, so that what the first of all needs is not counted to the others.
        let (mut early, _early) = self.connect(system, &people, options).await?;
        self.follow(&mut early, &group).await?;
        tokio::time::sleep(SETTLE).await;
        let before = system.memory_of_gateways();

        let (mut sockets, _polls) = self.connect(system, &crowd, options).await?;
        tokio::time::sleep(SETTLE).await;
        let signed_in = system.memory_of_gateways();
        self.follow(&mut sockets, &group).await?;
        tokio::time::sleep(SETTLE).await;
        let following = system.memory_of_gateways();

        let each = |after: u64| after.saturating_sub(before) as f64 * 1024.0 / options.sockets as f64;
        let mut row = |state: &str, value: f64, of: &'static str| {
            if self == Self::Canonical {
                report.relate(of, value);
            }
            let of = [of];
            let limits = if self == Self::Canonical { &of[..0] } else { &of[..] };
            let (shape, name) = (system.variant.name(), format!("{}, {state}", self.name()));
            let (workload, unit, aim) = ("dialects", "bytes", None);
            report.row(Row { workload, shape, name: &name, value, unit, aim, limits });
        };
        // Talkamie has no connection that is signed in and does not follow all conversations.
        if self != Self::Talkamie {
            row("signed in", each(signed_in), SIGNED_IN);
        }
        if self != Self::Polling {
            row("following", each(following), FOLLOWING);
        }
        Ok(())
    }

    /// A connection for each: sockets, or connections that poll.
    async fn connect(
        self,
        system: &System,
        people: &[Person],
        options: &Options,
    ) -> anyhow::Result<(Vec<Socket>, Vec<Poll>)> {
        let upgraded = async |gateway, token: &str| Poll::sign_in(gateway, token).await?.upgrade().await;
        let polling = async |gateway, token: &str| Poll::sign_in(gateway, token).await?.wait().await;
        let sockets = match self {
            Self::Canonical => people::connect(system, people, options.format()).await?,
            Self::SocketIo => people::connect_each(system, people, socketio::sign_in).await?,
            Self::Upgraded => people::connect_each(system, people, upgraded).await?,
            Self::Talkamie => people::connect_each(system, people, talkamie::sign_in).await?,
            Self::Polling => {
                return Ok((Vec::new(), people::connect_each(system, people, polling).await?));
            }
        };
        Ok((sockets, Vec::new()))
    }

    /// Follows a conversation on sockets that do not follow it yet.
    async fn follow(self, sockets: &mut [Socket], conversation: &str) -> anyhow::Result<()> {
        let conversations = [conversation.to_owned()];
        match self {
            Self::Canonical => people::follow_all(sockets).await,
            Self::SocketIo | Self::Upgraded => {
                let join = async |_, socket: &mut Socket| socketio::follow(socket, &conversations).await;
                people::on_each(sockets, join).await
            }
            Self::Polling | Self::Talkamie => Ok(()),
        }
    }
}

/// 64 senders, each with one message under way, in the conversations of W1 with everybody online.
async fn send(
    system: &System,
    is_canonical: bool,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let circle = Circle::gather(system).await;
    let sockets = match is_canonical {
        true => {
            let mut sockets = people::connect(system, &circle.people, options.format()).await?;
            people::follow_all(&mut sockets).await?;
            sockets
        }
        false => {
            let mut sockets = people::connect_each(system, &circle.people, socketio::sign_in).await?;
            let follow = async |number: usize, socket: &mut Socket| {
                socketio::follow(socket, &circle.conversations[number]).await
            };
            people::on_each(&mut sockets, follow).await?;
            sockets
        }
    };
    let outcome = sending::drive(system, &circle, sockets, options.span()).await?;
    tell(system, is_canonical, &outcome, report);
    Ok(())
}

fn tell(system: &System, is_canonical: bool, outcome: &Outcome, report: &mut Report) {
    let processor = outcome.used.parlor.as_secs_f64() * 1000.0 / outcome.acknowledged.max(1.0);
    if is_canonical {
        report.relate(SENT, outcome.rate());
        report.relate(PROCESSOR, processor);
    }
    let shape = system.variant.name();
    let kind = if is_canonical { "canonical" } else { "Socket.IO" };
    let mut row = |name: &str, value: f64, unit: &'static str, of: Option<&'static str>| {
        let limits: Vec<&str> = of.filter(|_| !is_canonical).into_iter().collect();
        let name = format!("{kind}, {name}");
        report.row(Row { workload: "dialects", shape, name: &name, value, unit, aim: None, limits: &limits });
    };
    let quantile = |at: f64| outcome.took.value_at_quantile(at) as f64 / 1000.0;
    row("acknowledged", outcome.rate(), "messages/s", Some(SENT));
    row("processor of Parlor", processor, "s/1000", Some(PROCESSOR));
    row("delivered", outcome.delivered / outcome.used.span.as_secs_f64(), "events/s", None);
    row("acknowledged p50", quantile(0.5), "ms", None);
    row("acknowledged p99", quantile(0.99), "ms", None);
    row("failed sends", outcome.failed as f64, "messages", None);
    row("missing at the end", outcome.missing as f64, "events", None);
    let own = outcome.used.own.as_secs_f64() * 1000.0 / outcome.acknowledged.max(1.0);
    row("processor of the generator", own, "s/1000", None);
    row("others meanwhile", outcome.used.others, "cores", None);
}
