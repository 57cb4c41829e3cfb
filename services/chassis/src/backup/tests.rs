//! Two services, of which one reads the facts of the other.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use proto::auth::v1::UserFact;
use proto::id::EventId;

use super::*;
use crate::database::facts::{Claim, Place};
use crate::database::testing::{self, Scratch};
use crate::database::{postgres, sqlite};

/// A process with an auth that tells facts, and a messaging that reads them and has a log.
struct World {
    auth: Database,
    messaging: Database,
    data: Data,
    folder: tempfile::TempDir,
    _scratch: [Scratch; 2],
}

/// The same text for either database.
macro_rules! on {
    ($database:expr, $module:ident, $pool:ident => $body:expr) => {
        match $database {
            Database::Sqlite($pool) => {
                use sqlite as $module;
                $body
            }
            Database::Postgres($pool) => {
                use postgres as $module;
                $body
            }
        }
    };
}

impl World {
    async fn on_sqlite() -> Self {
        let auth = testing::sqlite(testing::no_migrations(), "auth").await;
        let messaging = testing::sqlite(testing::no_migrations(), "messaging").await;
        Self::new(auth, messaging).await
    }

    async fn on_postgres() -> Option<Self> {
        let auth = testing::postgres(testing::no_migrations(), "auth").await?;
        let messaging = testing::postgres(testing::no_migrations(), "messaging").await?;
        Some(Self::new(auth, messaging).await)
    }

    async fn new(auth: (Database, Scratch), messaging: (Database, Scratch)) -> Self {
        let new_epoch: &[&str] = &["DELETE FROM meta"];
        let service =
            |name, scratch: &Scratch, new_epoch| ServiceData { name, config: scratch.config(), new_epoch };
        let databases = vec![service("auth", &auth.1, &[]), service("messaging", &messaging.1, new_epoch)];
        let folder = tempfile::tempdir().unwrap();
        let data = Data { databases, files: Some(folder.path().join("uploads")) };
        messaging
            .0
            .run_all(&["CREATE TABLE meta (name TEXT)", "INSERT INTO meta VALUES ('epoch')"])
            .await
            .unwrap();
        Self { auth: auth.0, messaging: messaging.0, data, folder, _scratch: [auth.1, messaging.1] }
    }

    /// Auth tells a fact, and messaging reads it.
    async fn goes_on(&self) {
        let fact = UserFact { event_id: EventId::generate().to_string(), ..UserFact::default() };
        on!(&self.auth, kind, pool => {
            let mut tx = pool.begin().await.unwrap();
            kind::outbox::append(&mut tx, &fact.encode_to_vec(), 1).await.unwrap();
            tx.commit().await.unwrap();
        });
        let from = self.messaging.feed_cursor("auth").await.unwrap().position;
        let told = self.auth.history(from + 1).await.unwrap();
        let to = Place { position: from + 1, mark: event_id_of(&told.fact.unwrap()), time_millis: 1 };
        let claim = Claim::Forward { feed: "auth", from, to, epoch: told.epoch };
        assert!(self.messaging.pass_over(&claim).await.unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same process with its data in another place, where nothing is yet.
    fn elsewhere(&self) -> Data {
        let config = |name| DatabaseConfig {
            url: format!("sqlite://{}", self.path(&format!("other/{name}.db")).display()),
            ..DatabaseConfig::default()
        };
        let service = |one: &ServiceData| ServiceData { config: config(one.name), ..one.clone() };
        Data {
            databases: self.data.databases.iter().map(service).collect(),
            files: Some(self.path("other/uploads")),
        }
    }
}

fn event_id_of(fact: &[u8]) -> String {
    crate::facts::event_id(fact)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_process_belongs_together_and_begins_a_new_epoch() {
    let world = Arc::new(World::on_sqlite().await);
    fs::create_dir_all(world.path("uploads/ab")).unwrap();
    fs::write(world.path("uploads/ab/file"), "bytes").unwrap();
    world.goes_on().await;
    let over = Arc::new(AtomicBool::new(false));
    let busy = {
        let (world, over) = (Arc::clone(&world), Arc::clone(&over));
        let work = async move {
            while !over.load(Ordering::Relaxed) {
                world.goes_on().await;
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(work);
        tasks
    };
    for round in 0..5 {
        world.data.back_up(&world.path(&format!("backup-{round}"))).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    busy.join_all().await;

    let other = world.elsewhere();
    other.restore(&world.path("backup-4")).await.unwrap();
    other.check(false).await.unwrap();
    let [auth, messaging] = ["auth", "messaging"]
        .map(|name| Database::attach_file(&world.path(&format!("other/{name}.db"))).unwrap());
    let cursor = messaging.feed_cursor("auth").await.unwrap();
    let restored = auth.history(cursor.position).await.unwrap();
    assert!(cursor.position > 0 && cursor.position <= restored.head);
    assert_eq!(cursor.epoch, restored.epoch);
    assert_ne!(restored.epoch, world.auth.history(0).await.unwrap().epoch);
    assert_eq!(cursor.mark, event_id_of(&restored.fact.unwrap()));
    on!(&messaging, kind, pool => {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM meta").fetch_one(pool.read()).await.unwrap();
        assert_eq!(count, 0, "the log draws a new epoch");
        let _ = kind::FOR_UPDATE;
    });
    assert_eq!(fs::read_to_string(world.path("other/uploads/ab/file")).unwrap(), "bytes");
    auth.close().await;
    messaging.close().await;
}

#[tokio::test]
async fn nothing_is_restored_over_data_or_from_a_backup_that_is_not_whole() {
    let world = World::on_sqlite().await;
    world.goes_on().await;
    let (early, late) = (world.path("early"), world.path("late"));
    world.data.back_up(&early).await.unwrap();
    world.goes_on().await;
    world.data.back_up(&late).await.unwrap();
    let refused = world.data.back_up(&late).await.unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused:#}");
    let refused = world.data.restore(&late).await.unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused:#}");

    let other = world.elsewhere();
    let sums = fs::read_to_string(late.join("SHA256SUMS")).unwrap();
    let refuses = async |why: &str| {
        let refused = format!("{:#}", other.restore(&late).await.unwrap_err());
        assert!(refused.contains(why), "{refused}");
        assert!(!world.path("other/auth.db").exists() && !world.path("other/messaging.db").exists());
    };
    fs::write(late.join("SHA256SUMS"), sums.replace("  ", "  ../")).unwrap();
    refuses("is outside of the backup").await;
    fs::remove_file(late.join("SHA256SUMS")).unwrap();
    refuses("is not a complete backup").await;
    fs::copy(early.join("auth.db"), late.join("auth.db")).unwrap();
    fs::write(late.join("SHA256SUMS"), &sums).unwrap();
    refuses("auth.db is not the file that was backed up").await;
    // The sums are right, and the databases are of two moments.
    let mut mixed = Checksums::default();
    for name in ["auth.db", "messaging.db"] {
        mixed.add(name, &late.join(name)).unwrap();
    }
    mixed.write(&late).unwrap();
    refuses("messaging has read auth up to 2, and its facts end at 1").await;

    other.restore(&early).await.unwrap();
    other.check(false).await.unwrap();
}

#[tokio::test]
async fn databases_that_do_not_belong_together_are_told_on_either_kind() {
    for world in [Some(World::on_sqlite().await), World::on_postgres().await].into_iter().flatten() {
        world.goes_on().await;
        world.data.check(false).await.unwrap();
        if world.auth.kind() == "sqlite" {
            let refused = format!("{:#}", world.data.check(true).await.unwrap_err());
            assert!(refused.contains("in use by another process"), "{refused}");
        }
        world.auth.close().await;
        world.messaging.close().await;

        let attached = async |place: usize| {
            let ServiceData { name, config, .. } = &world.data.databases[place];
            Database::attach(config, name).await.unwrap()
        };
        let epoch = async || attached(0).await.history(0).await.unwrap().epoch;
        let before = epoch().await;
        world.data.check(false).await.unwrap();
        assert_eq!(epoch().await, before);
        world.data.check(true).await.unwrap();
        let renewed = epoch().await;
        assert_ne!(renewed, before);
        assert_eq!(attached(1).await.feed_cursor("auth").await.unwrap().epoch, renewed);
        world.data.check(true).await.unwrap();

        let auth = attached(0).await;
        auth.run_all(&["UPDATE outbox_head SET position = 0", "DELETE FROM outbox"]).await.unwrap();
        let refused = world.data.check(true).await.unwrap_err().to_string();
        assert!(refused.contains("messaging has read auth up to 1, and its facts end at 0"), "{refused}");
        auth.close().await;
    }
}
