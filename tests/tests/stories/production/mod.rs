//! The five dialects in the profile `production`: without a token clients sign up, sign in, enter as guests, and read and
//! watch public rooms of the playground. Everything else takes a token. Signing up to talkamie takes an address that was
//! verified with a code.

mod on_sockets;
mod over_http;

use tests::trial::Story;
use tests::{Shape, World, storage};

/// The stories of this folder.
pub fn all() -> Vec<Story> {
    [over_http::all(), on_sockets::all()].into_iter().flatten().collect()
}

/// The settings without which production does not start, and no limit on how often the stories ask without a token.
const PRODUCTION: &[(&str, &str)] = &[
    ("profile", "production"),
    ("auth.registration_open", "true"),
    ("gateway.rates.anonymous_burst_per_address", "1000000"),
];

/// Starts a world in production, with further settings.
async fn starts(shape: Shape, further: &[(&str, &str)]) -> World {
    let settings = [PRODUCTION, further].concat();
    let started = match shape {
        Shape::Embedded => World::embedded_with(&settings).await,
        Shape::Separate => {
            let database = storage::fresh_database().await.expect("a database");
            World::separate_with(&database, &storage::nats_url().expect("a bus"), &settings).await
        }
    };
    started.expect("a world in production")
}

/// Stops a world, which has written no error to its log.
async fn stops(mut world: World) {
    world.stop().await.expect("a world that stops");
    assert_eq!(world.errors(), Vec::<String>::new());
}
