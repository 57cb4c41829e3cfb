//! Facts that cannot be read, and facts of an older copy of the database of auth.

use prost::Message;
use proto::auth::v1 as auth;

use super::ending::ALWAYS;
use super::*;

impl World {
    /// How often a user's own log says that its profile changed.
    async fn profile_changes(&self, user: UserId) -> usize {
        let is_change = |event: &&pb::UserEvent| {
            matches!(event.payload, Some(pb::user_event::Payload::ProfileChanged(_)))
        };
        self.user_events(user).await.iter().filter(is_change).count()
    }
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_waits_and_holds_up_no_other() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    world.others.rename(bob);
    world.others.tell_of_something_new(bob);
    world.others.rename(ann);
    eventually(async || world.profile_changes(ann).await == 1).await;
    assert_eq!(world.profile_changes(bob).await, 1);
    assert_eq!(world.database.count_aside("auth").await.unwrap(), 1);

    // As the next release reads it.
    let payload = Some(auth::user_fact::Payload::UserDeleted(auth::UserDeleted {}));
    let fact = auth::UserFact { user_id: bob.to_string(), payload, ..Default::default() }.encode_to_vec();
    let Database::Sqlite(pool) = &world.database else { panic!("on SQLite") };
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("UPDATE facts_aside SET payload = $1").bind(fact).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    chassis::facts::try_aside();
    eventually(async || world.user_events(bob).await.is_empty()).await;
    assert_eq!(world.database.count_aside("auth").await.unwrap(), 0);
}

#[tokio::test]
async fn an_older_copy_of_auth_loses_nothing_that_comes_later_and_repeats_nothing() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob, cy] = world.people();
    for user in [ann, bob, cy] {
        world.others.rename(user);
    }
    eventually(async || world.profile_changes(cy).await == 1).await;
    // The facts end before the cursor.
    world.clock.advance(Duration::from_secs(1));
    world.others.is_restored_to(1);
    world.others.rename(cy);
    eventually(async || world.profile_changes(cy).await == 2).await;
    // Another fact stands at the cursor, and the facts go on beyond it.
    world.clock.advance(Duration::from_secs(1));
    world.others.is_restored_to(1);
    world.others.rename(bob);
    world.others.delete_account(cy);
    eventually(async || world.profile_changes(bob).await == 2).await;
    eventually(async || world.user_events(cy).await.is_empty()).await;
    assert_eq!(world.profile_changes(ann).await, 1);
}
