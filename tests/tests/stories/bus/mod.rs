//! The bus between processes: what others publish there, and NATS with the configuration that `deploy/` ships.

mod forged;
mod nats;
mod shipped;

use tests::trial::Story;

/// The stories of this folder.
pub fn all() -> Vec<Story> {
    [forged::all(), shipped::all()].into_iter().flatten().collect()
}
