//! A restart that is asked for: every process in turn, under load.

use std::time::Duration;

use tests::figure::{Figures, Target};

use crate::load::{Load, Plan};
use crate::{Separate, assert_no_panics, is_long, pass, settled};

const PROCESSES: [&str; 7] =
    ["gateway-1", "gateway-2", "scheduling", "messaging-1", "messaging-2", "conversation", "auth"];

/// How long a process may take to go.
const DRAIN: Duration = Duration::from_secs(15);

/// The close code of a server that restarts.
const RESTART: u16 = 1012;

pub async fn any_process_may_be_restarted() {
    let mut figures = Figures::of("any_process_may_be_restarted");
    let mut separate = Separate::start().await;
    let load = Load::start(&separate.world, Plan { conversations: 6, per_second: 100 }).await;
    pass(Duration::from_secs(1)).await;
    let mut drains = Vec::new();
    for _ in 0..if is_long() { 10 } else { 1 } {
        for name in PROCESSES {
            load.breaks(name);
            drains.push(separate.world.process(name).stop().await.expect("a process that stops well"));
            separate.start_again(name).await;
            load.heals(name);
            pass(Duration::from_millis(if is_long() { 3000 } else { 500 })).await;
        }
    }
    let outcome = load.finish(&separate.world, Some(&separate.database)).await;
    settled::print(&mut figures, &outcome);
    let longest = drains.into_iter().max().unwrap_or_default();
    figures.print("drain_max", longest.as_secs_f64(), "s", Target::AtMost(DRAIN.as_secs_f64()));
    let otherwise: usize =
        outcome.closes.iter().filter(|(code, _)| **code != RESTART).map(|(_, count)| count).sum();
    figures.print("closed_otherwise", otherwise as f64, "connections", Target::Is(0.0));
    assert_no_panics(&separate.world);
    figures.conclude();
}
