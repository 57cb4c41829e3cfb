//! W4: what an idle signed-in WebSocket costs in memory.

use std::time::Duration;

use tests::Person;

use crate::Options;
use crate::people;
use crate::report::{Report, Row};
use crate::system::System;

/// How many users share the sockets.
const PEOPLE: usize = 100;

/// What was needed for a moment has been given back by then.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let people = people::register(system, PEOPLE).await;
    let others: Vec<&Person> = people[1..].iter().collect();
    people[0].starts_group_with(&others).await;
    let crowd: Vec<Person> = people.iter().cloned().cycle().take(options.sockets).collect();
    // Some come first, so that what the first of all needs is not counted to the others.
    let mut early = people::connect(system, &people, options.format()).await?;
    people::follow_all(&mut early).await?;
    tokio::time::sleep(SETTLE).await;
    let before = system.memory_of_gateways();

    let mut sockets = people::connect(system, &crowd, options.format()).await?;
    tokio::time::sleep(SETTLE).await;
    let signed_in = system.memory_of_gateways();
    people::follow_all(&mut sockets).await?;
    tokio::time::sleep(SETTLE).await;
    let following = system.memory_of_gateways();

    let shape = system.variant.name();
    let each = |after: u64| after.saturating_sub(before) as f64 / options.sockets as f64;
    let mut row = |name: &str, value: f64, aim: Option<f64>| {
        report.row(Row { workload: "W4", shape, name, value, unit: "KiB", aim, limits: &[] });
    };
    row("idle signed-in socket", each(signed_in), Some(6.6));
    row("the same, following a conversation", each(following), None);
    Ok(())
}
