//! The chain, on both databases.

use proto::id::EventId;

use super::*;
use crate::database::testing;
use crate::database::{postgres, sqlite};

fn entry(outcome: &str) -> Entry {
    Entry {
        audit_id: EventId::generate().uuid(),
        occur_millis: 1_795_000_000_000,
        action: "/parlor.auth.v1.AuthService/Login".to_owned(),
        actor: "user:01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        origin: "203.0.113.0/24".to_owned(),
        target: String::new(),
        outcome: outcome.to_owned(),
        request_id: "1".to_owned(),
    }
}

/// Runs each test on a fresh database of either kind.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (database, _scratch) = testing::sqlite(testing::no_migrations(), "audit").await;
                super::$name(&database).await;
                database.close().await;
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some((database, _scratch)) = testing::postgres(testing::no_migrations(), "audit").await else { return };
                super::$name(&database).await;
                database.close().await;
            })*
        }
    };
}

on_both! {
    an_intact_chain_is_verified,
    a_chain_with_a_changed_a_missing_or_a_cut_entry_is_told,
    two_replicas_make_one_chain,
}

async fn execute(database: &Database, sql: &'static str) {
    match database {
        Database::Sqlite(pool) => {
            let mut tx: sqlite::Tx = pool.begin().await.unwrap();
            sqlx::query(sql).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        }
        Database::Postgres(pool) => {
            let mut tx: postgres::Tx = pool.begin().await.unwrap();
            sqlx::query(sql).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

async fn an_intact_chain_is_verified(database: &Database) {
    assert_eq!(verify(database, None).await.unwrap().head.to_string(), "0:");
    for _ in 0..5 {
        database.audit_append(&entry("OK")).await.unwrap();
    }
    assert_eq!(verify(database, None).await.unwrap().unchained, 5);
    assert_eq!(database.audit_chain(3).await.unwrap().unwrap().0, 3);
    let early = verify(database, None).await.unwrap();
    assert_eq!(early.unchained, 2);
    assert!(early.head.to_string().starts_with("3:"), "{}", early.head);
    assert_eq!(early.head.to_string().parse::<Anchor>().unwrap(), early.head);

    assert_eq!(database.audit_chain(100).await.unwrap().unwrap().0, 2);
    assert_eq!(database.audit_chain(100).await.unwrap(), None);
    let late = verify(database, Some(&early.head)).await.unwrap();
    assert_eq!(late.unchained, 0);
    assert!(late.head.to_string().starts_with("5:"), "{}", late.head);
    for bad in ["", "5", "5:", "x:00", "5:zz", "5:00"] {
        assert!(bad.parse::<Anchor>().is_err(), "{bad}");
    }
}

async fn a_chain_with_a_changed_a_missing_or_a_cut_entry_is_told(database: &Database) {
    for outcome in ["OK", "PERMISSION_DENIED", "OK", "OK"] {
        database.audit_append(&entry(outcome)).await.unwrap();
    }
    let (_, head) = database.audit_chain(100).await.unwrap().unwrap();
    let head = Anchor::from(head);
    let told = async |anchor: Option<&Anchor>| verify(database, anchor).await.unwrap_err().to_string();

    execute(database, "UPDATE audit_log SET outcome = 'OK' WHERE sequence = 2").await;
    assert!(told(None).await.contains("entry 2 or one before it was changed"));
    execute(database, "UPDATE audit_log SET outcome = 'PERMISSION_DENIED' WHERE sequence = 2").await;
    verify(database, Some(&head)).await.unwrap();
    execute(database, "UPDATE audit_log SET sequence = 9 WHERE sequence = 2").await;
    assert!(told(None).await.contains("entry 2 is missing"));
    execute(database, "UPDATE audit_log SET sequence = 2 WHERE sequence = 9").await;

    execute(database, "DELETE FROM audit_log WHERE sequence = 4").await;
    assert!(told(None).await.contains("the log ends at entry 3, and had 4"));
    // One who writes the whole chain anew is found by a place that was kept.
    execute(database, "UPDATE audit_log SET sequence = NULL, hash = NULL, outcome = 'OK'").await;
    execute(database, "UPDATE audit_head SET sequence = 0, hash = ''").await;
    database.audit_chain(100).await.unwrap();
    verify(database, None).await.unwrap();
    assert!(told(Some(&head)).await.contains("before the place that was kept"));
    database.audit_append(&entry("OK")).await.unwrap();
    database.audit_chain(100).await.unwrap();
    assert!(told(Some(&head)).await.contains("the entries up to 4 are not those of before"));
}

async fn two_replicas_make_one_chain(database: &Database) {
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let database = database.clone();
        work.spawn(async move {
            for _ in 0..20 {
                database.audit_append(&entry("OK")).await.unwrap();
                database.audit_chain(7).await.unwrap();
            }
        });
    }
    work.join_all().await;
    while database.audit_chain(100).await.unwrap().is_some() {}
    assert!(verify(database, None).await.unwrap().head.to_string().starts_with("40:"));
}
