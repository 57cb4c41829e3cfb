//! Who may do what: every rpc of the policy table, with the examples of the contract, in every role and through every
//! door, and every operation of the dialects. An rpc without a policy or an example does not build, and one that needs a row of its own and has none fails.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests: what cannot go on ends them, and they say why"
)]

mod anonymous;
mod between;
mod case;
mod dialects;
mod door;
mod pairs;
mod raw;
mod role;
mod rows;
mod stage;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libtest_mimic::{Arguments, Failed, Trial};
use proto::policy::{self, Policy};
use tests::world::WITHOUT_LIMITS;
use tests::{Shape, World, storage};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::stage::Stage;

/// The stage of one shape, set by the first row that needs it.
struct Theatre {
    shape: Shape,
    stage: OnceCell<(Arc<World>, Stage)>,
}

impl Theatre {
    async fn stage(&self) -> anyhow::Result<&Stage> {
        let set = self.stage.get_or_try_init(|| async {
            let world = match self.shape {
                Shape::Embedded => World::embedded_with(WITHOUT_LIMITS).await?,
                Shape::Separate => {
                    let database = storage::fresh_database().await?;
                    World::separate_with(&database, &storage::nats_url()?, WITHOUT_LIMITS).await?
                }
            };
            let world = Arc::new(world);
            anyhow::Ok((world.clone(), Stage::set(world).await?))
        });
        Ok(&set.await?.1)
    }

    /// Ends it; says what was wrong with its processes.
    async fn close(self) -> Vec<String> {
        let Some((world, stage)) = self.stage.into_inner() else { return Vec::new() };
        eprintln!("{}: {} cells", self.shape.name(), stage.cells.load(Ordering::Relaxed));
        drop(stage);
        let Ok(mut world) = Arc::try_unwrap(world) else {
            return vec!["somebody still holds a world".to_owned()];
        };
        let mut wrong: Vec<String> =
            world.stop().await.err().iter().map(|error| format!("{error:#}")).collect();
        wrong.extend(world.errors());
        wrong
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let theatres =
        [Shape::Embedded, Shape::Separate].map(|shape| Arc::new(Theatre { shape, stage: OnceCell::new() }));
    let trials = theatres.iter().flat_map(|theatre| trials(theatre, &runtime)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut wrong = Vec::new();
    for theatre in theatres {
        match Arc::try_unwrap(theatre) {
            Ok(theatre) => wrong.extend(runtime.block_on(theatre.close())),
            Err(_) => wrong.push("a row still holds a stage".to_owned()),
        }
    }
    for line in &wrong {
        eprintln!("after the rows: {line}");
    }
    if conclusion.has_failed() || !wrong.is_empty() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

fn trials(theatre: &Arc<Theatre>, runtime: &Arc<Runtime>) -> Vec<Trial> {
    let rows = policy::all().iter().filter(|policy| is_ours(policy)).map(|policy| {
        let name = policy.path.rsplit('.').next().unwrap_or_default().replace('/', "::");
        trial(theatre, runtime, &name, move |runtime, stage| Ok(runtime.block_on(table::row(stage, policy))))
    });
    let pairs = trial(theatre, runtime, "pairs", |runtime, stage| runtime.block_on(pairs::check(stage)));
    let public = trial(theatre, runtime, "public_read", |runtime, stage| {
        runtime.block_on(anonymous::check_public_read(stage))
    });
    let dialects = dialects::DIALECTS.into_iter().flat_map(|dialect| {
        dialect.operations.iter().map(move |operation| {
            let name = format!("{}::{}", dialect.name, operation.name.replace(' ', "_"));
            trial(theatre, runtime, &name, move |runtime, stage| {
                Ok(runtime.block_on(dialects::row(stage, dialect, operation)))
            })
        })
    });
    // The sockets of the other rows do not wait for the end of these.
    rows.chain([pairs, public]).chain(dialects).collect()
}

fn is_ours(policy: &Policy) -> bool {
    let rpc = case::rpc(policy.path);
    let service = rpc.parent_service();
    !rows::SERVED_BY_OTHERS.contains(&service.name())
}

fn trial(
    theatre: &Arc<Theatre>,
    runtime: &Arc<Runtime>,
    name: &str,
    look: impl FnOnce(&Runtime, &Stage) -> anyhow::Result<Vec<String>> + Send + 'static,
) -> Trial {
    let (theatre, runtime) = (theatre.clone(), runtime.clone());
    Trial::test(format!("{}::{name}", theatre.shape.name()), move || {
        let failed = |error: anyhow::Error| Failed::from(format!("{error:#}"));
        let stage = runtime.block_on(theatre.stage()).map_err(failed)?;
        let wrong = look(&runtime, stage).map_err(failed)?;
        if wrong.is_empty() { Ok(()) } else { Err(Failed::from(wrong.join("\n"))) }
    })
}
