//! `kill -9` under load: nothing that was acknowledged is lost, and everybody sees the same in the end.

use std::time::Duration;

use tests::World;
use tests::figure::Figures;
use tests::world::WITHOUT_LIMITS;

use crate::load::{Load, Plan};
use crate::{Separate, assert_no_panics, is_long, pass, settled};

/// What is killed, in turn.
const VICTIMS: [&str; 9] = [
    "messaging-1",
    "gateway-1",
    "nats",
    "conversation",
    "messaging-2",
    "postgres",
    "auth",
    "gateway-2",
    "scheduling",
];

pub async fn any_process_may_crash() {
    let mut figures = Figures::of("any_process_may_crash");
    let mut separate = Separate::start().await;
    let load = Load::start(&separate.world, Plan { conversations: 6, per_second: 120 }).await;
    pass(Duration::from_secs(2)).await;
    let rounds = if is_long() { 20 } else { 1 };
    for round in 0..rounds {
        for (number, victim) in VICTIMS.into_iter().enumerate() {
            load.breaks(victim);
            separate.kill(victim);
            pass(Duration::from_secs(1)).await;
            separate.start_again(victim).await;
            load.heals(victim);
            if round == 0 && number % 3 == 1 {
                load.removes_a_reader(number / 3).await;
            }
            pass(Duration::from_millis(if is_long() { 4000 } else { 1200 })).await;
        }
    }
    let outcome = load.finish(&separate.world, Some(&separate.database)).await;
    settled::print(&mut figures, &outcome);
    assert_no_panics(&separate.world);
    figures.conclude();
}

pub async fn the_only_process_may_crash() {
    let mut figures = Figures::of("the_only_process_may_crash");
    let mut world = World::embedded_with(WITHOUT_LIMITS).await.expect("a world");
    let load = Load::start(&world, Plan { conversations: 6, per_second: 150 }).await;
    for round in 0..if is_long() { 60 } else { 4 } {
        pass(Duration::from_millis(1500)).await;
        load.breaks("parlor");
        world.process("parlor").kill();
        pass(Duration::from_millis(200)).await;
        world.process("parlor").start_again().await.expect("a start on the same data");
        load.heals("parlor");
        if round == 1 {
            load.removes_a_reader(0).await;
        }
    }
    pass(Duration::from_millis(1500)).await;
    let outcome = load.finish(&world, None).await;
    settled::print(&mut figures, &outcome);
    assert_no_panics(&world);
    figures.conclude();
}
