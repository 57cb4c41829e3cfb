//! Runs stories in both shapes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::storage;
use crate::world::{Shape, World};

/// What happens in a story.
pub type Run = fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A story: a name and what happens.
pub struct Story {
    /// Its name, such as `sending::a_retry_sends_once`.
    pub name: &'static str,
    /// What happens.
    pub run: Run,
}

/// The stories of a module, by the names of their functions.
#[macro_export]
macro_rules! stories {
    ($($story:ident),+ $(,)?) => {
        /// The stories of this file.
        pub fn all() -> Vec<$crate::trial::Story> {
            vec![$($crate::trial::Story {
                name: concat!(module_path!(), "::", stringify!($story)),
                run: |world| Box::pin($story(world)),
            }),+]
        }
    };
}

/// The two worlds that the stories share. Each is started by the first story that needs it.
#[derive(Default)]
pub struct Worlds {
    embedded: OnceCell<Arc<World>>,
    separate: OnceCell<Arc<World>>,
}

impl Worlds {
    async fn get(&self, shape: Shape) -> anyhow::Result<Arc<World>> {
        let cell = match shape {
            Shape::Embedded => &self.embedded,
            Shape::Separate => &self.separate,
        };
        let world = cell.get_or_try_init(|| async {
            anyhow::Ok(Arc::new(match shape {
                Shape::Embedded => World::embedded().await?,
                Shape::Separate => {
                    World::separate(&storage::fresh_database().await?, &storage::nats_url()?).await?
                }
            }))
        });
        Ok(world.await?.clone())
    }
}

/// A story in each shape.
pub fn in_both_shapes(stories: Vec<Story>, worlds: &Arc<Worlds>, runtime: &Arc<Runtime>) -> Vec<Trial> {
    let shapes = [Shape::Embedded, Shape::Separate];
    let pairs = stories.into_iter().flat_map(|story| shapes.map(|shape| (shape, story.name, story.run)));
    pairs.map(|(shape, name, run)| trial(shape, name, run, worlds.clone(), runtime.clone())).collect()
}

fn trial(shape: Shape, name: &'static str, run: Run, worlds: Arc<Worlds>, runtime: Arc<Runtime>) -> Trial {
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    Trial::test(format!("{}::{name}", shape.name()), move || {
        let world =
            runtime.block_on(worlds.get(shape)).map_err(|error| Failed::from(format!("{error:#}")))?;
        runtime.block_on(run(world));
        Ok(())
    })
}

/// Stops the worlds that were started, and says what was wrong with them: a process that did not stop well, a line in a
/// log that asks for a person.
pub async fn stop(worlds: Arc<Worlds>) -> Vec<String> {
    let Ok(worlds) = Arc::try_unwrap(worlds) else { return vec!["a story still holds a world".to_owned()] };
    let mut wrong = Vec::new();
    for world in [worlds.embedded, worlds.separate].into_iter().filter_map(OnceCell::into_inner) {
        let Ok(mut world) = Arc::try_unwrap(world) else {
            wrong.push("a story still holds a world".to_owned());
            continue;
        };
        if let Err(error) = world.stop().await {
            wrong.push(format!("{error:#}"));
        }
        wrong.extend(world.errors());
    }
    wrong
}
