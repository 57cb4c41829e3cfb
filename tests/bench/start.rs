//! From the start of Parlor until it is ready, and what it holds then.

use tests::storage::Cluster;

use crate::report::{Report, Row};
use crate::system::{System, Variant};

/// How many times it is started; the best counts.
const TIMES: usize = 3;

pub(crate) async fn measure(
    variant: Variant,
    cluster: &mut Option<Cluster>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut ready, mut memory) = (f64::MAX, f64::MAX);
    for _ in 0..TIMES {
        let mut system = System::start(variant, cluster).await?;
        ready = ready.min(system.started_in.as_secs_f64());
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let own = system.world.processes.len();
        memory =
            memory.min(system.memory().iter().take(own).map(|(_, kib)| *kib).sum::<u64>() as f64 / 1024.0);
        system.stop().await?;
    }
    let shape = variant.name();
    let is_one = variant == Variant::Embedded;
    let mut row = |name: &str, value: f64, unit: &'static str, aim: f64| {
        report.row(Row {
            workload: "start",
            shape,
            name,
            value,
            unit,
            aim: is_one.then_some(aim),
            limits: &[],
        });
    };
    row("until it is ready, empty database", ready, "s", 0.5);
    row("resident when ready", memory, "MiB", 50.0);
    Ok(())
}
