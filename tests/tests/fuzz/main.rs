//! Random and mutated requests to every dialect, with a seed: each is answered, none with a 5xx, no connection is dropped,
//! and no log has a line that asks for a person.
//!
//! `PARLOR_FUZZ_SEED` repeats a run.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: what cannot go on ends them, and they say why"
)]

mod events;
mod requests;
mod scene;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use fastrand::Rng;
use libtest_mimic::{Arguments, Failed, Trial};
use tests::World;
use tests::world::WITHOUT_LIMITS;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use self::scene::Scene;

/// The requests or events to each dialect.
const TIMES: usize = 2000;

/// The seed of a run where none is given.
const SEED: u64 = 20_251_130;

type Stage = Arc<OnceCell<Scene>>;

async fn scene(stage: &Stage) -> anyhow::Result<&Scene> {
    stage
        .get_or_try_init(|| async {
            let world = Arc::new(World::embedded_with(WITHOUT_LIMITS).await?);
            anyhow::Ok(Scene::set(world).await)
        })
        .await
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let seed = std::env::var("PARLOR_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let stage: Stage = Arc::default();
    let mut trials: Vec<Trial> = requests::DIALECTS
        .iter()
        .map(|dialect| {
            let (stage, runtime) = (stage.clone(), runtime.clone());
            Trial::test(format!("requests::{}", dialect.name), move || {
                let wrong = runtime.block_on(async {
                    let scene = scene(&stage).await?;
                    anyhow::Ok(requests::run(scene, dialect, Rng::with_seed(seed), TIMES).await)
                });
                verdict(seed, wrong)
            })
        })
        .collect();
    for (name, events) in [("allo", events::ALLO), ("playground", events::PLAYGROUND)] {
        let (stage, runtime) = (stage.clone(), runtime.clone());
        trials.push(Trial::test(format!("events::{name}"), move || {
            let wrong = runtime.block_on(async {
                let scene = scene(&stage).await?;
                anyhow::Ok(events::socket_io(scene, events, Rng::with_seed(seed), TIMES).await)
            });
            verdict(seed, wrong)
        }));
    }
    let (of_socket, of_runtime) = (stage.clone(), runtime.clone());
    trials.push(Trial::test("events::talkamie", move || {
        let wrong = of_runtime.block_on(async {
            let scene = scene(&of_socket).await?;
            anyhow::Ok(events::talkamie(scene, Rng::with_seed(seed), TIMES).await)
        });
        verdict(seed, wrong)
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let wrong = runtime.block_on(close(stage));
    for line in &wrong {
        eprintln!("after the requests: {line}");
    }
    if conclusion.has_failed() || !wrong.is_empty() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

fn verdict(seed: u64, wrong: anyhow::Result<Vec<String>>) -> Result<(), Failed> {
    match wrong {
        Err(error) => Err(Failed::from(format!("{error:#}"))),
        Ok(wrong) if wrong.is_empty() => Ok(()),
        Ok(wrong) => Err(Failed::from(format!("seed {seed}:\n{}", wrong.join("\n")))),
    }
}

/// Stops the world; says what was wrong with it.
async fn close(stage: Stage) -> Vec<String> {
    let Some(scene) = Arc::into_inner(stage).and_then(OnceCell::into_inner) else { return Vec::new() };
    let Some(mut world) = Arc::into_inner(scene.world) else {
        return vec!["a trial still holds the world".to_owned()];
    };
    let mut wrong: Vec<String> = world.stop().await.err().iter().map(|error| format!("{error:#}")).collect();
    wrong.extend(world.errors());
    wrong
}
