//! What becomes of each column that names a person when its account goes: a new one cannot be forgotten.

use std::collections::BTreeMap;

use chassis::database::testing;

use super::*;

/// What becomes of a column when the account goes that it names.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing names the person any more.
    Erased,
    /// It stays, because of this.
    Kept(&'static str),
}

use Fate::{Erased, Kept};

/// The columns that name people.
const PEOPLE: [(&str, &str, Fate); 26] = [
    ("alerts", "actor_id", Kept("the alert is another's, whom it tells who asked or answered")),
    ("alerts", "requester_id", Kept("the alert is another's, whom it tells who asked")),
    ("alerts", "user_id", Erased),
    ("conversation_heads", "purged_by", Kept("the log of the conversation belongs to its members")),
    ("departures", "user_id", Kept("what comes late must not be kept")),
    ("events", "actor_id", Kept("the log of the conversation belongs to its members")),
    ("hidden_messages", "user_id", Erased),
    ("message_requests", "to_user_id", Erased),
    ("message_requests", "user_id", Erased),
    ("messages", "deleted_by", Kept("the log of the conversation belongs to its members")),
    ("messages", "sender_id", Kept("a tombstone stands in the log with its sender, and keeps its key")),
    ("paces", "user_id", Erased),
    ("pins", "user_id", Erased),
    ("reactions", "user_id", Erased),
    ("reporters", "user_id", Erased),
    ("reports", "reporter_id", Erased),
    ("reports", "resolved_by", Kept("the reporter and the other moderators see who decided")),
    ("reports", "sender_id", Kept("otherwise whoever was rude would only have to go")),
    ("searchable", "sender_id", Erased),
    ("stream_checkpoints", "user_id", Erased),
    ("upload_usage", "user_id", Erased),
    ("uploads", "user_id", Kept("a file that others' messages show is whose it was; the others are swept")),
    ("user_events", "user_id", Erased),
    ("user_heads", "user_id", Erased),
    ("votes", "user_id", Erased),
    ("watermarks", "user_id", Erased),
];

/// The columns of ids that name something else. The texts of the audit log name people by their ids, and stay.
const THINGS: [&str; 12] = [
    "after_conversation",
    "alert_id",
    "audit_id",
    "checkpoint_id",
    "conversation_id",
    "message_id",
    "object_id",
    "reply_to",
    "report_id",
    "request_id",
    "subject",
    "upload_id",
];

#[tokio::test]
async fn every_column_that_names_a_person_has_its_fate() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    let Database::Sqlite(pool) = &database else { panic!("on SQLite") };
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c
         WHERE t.type = 'table' AND (c.type = 'UUID' OR c.name LIKE '%user%' OR substr(c.name, -3) = '_by')
         ORDER BY t.name, c.name",
    )
    .fetch_all(pool.read())
    .await
    .unwrap();
    let named: Vec<_> = columns.iter().filter(|(_, column)| !THINGS.contains(&column.as_str())).collect();
    let known: Vec<_> =
        PEOPLE.iter().map(|(table, column, _)| ((*table).to_owned(), (*column).to_owned())).collect();
    assert_eq!(named, known.iter().collect::<Vec<_>>(), "say what becomes of it, and see to it");
}

/// How many rows name somebody, by the columns that name people.
async fn rows_of(database: &Database, user: UserId) -> BTreeMap<(&'static str, &'static str), i64> {
    let Database::Sqlite(pool) = database else { panic!("on SQLite") };
    let mut counts = BTreeMap::new();
    for (table, column, _) in PEOPLE {
        let text = format!("SELECT COUNT(*) FROM {table} WHERE {column} = $1");
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(text)).bind(user.uuid());
        counts.insert((table, column), count.fetch_one(pool.read()).await.unwrap());
    }
    counts
}

/// A row in each table, with this person in each column that names one and some value in each of the others.
async fn fill(database: &Database, user: UserId) {
    let Database::Sqlite(pool) = database else { panic!("on SQLite") };
    let mut tx = pool.begin().await.unwrap();
    for (table, column, _) in PEOPLE {
        // What keeps nothing from being made for those who are gone, and what the stages before the last go through by
        // other tables.
        if table == "departures" || table == "conversation_heads" || table == "messages" {
            continue;
        }
        let columns: Vec<(String, String, bool, i64)> =
            sqlx::query_as("SELECT name, type, \"notnull\", pk FROM pragma_table_info($1)")
                .bind(table)
                .fetch_all(&mut *tx)
                .await
                .unwrap();
        let wanted: Vec<_> = columns
            .iter()
            .filter(|(name, kind, not_null, pk)| {
                name == column || *not_null || (*pk > 0 && kind != "INTEGER")
            })
            .collect();
        let names = wanted.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", ");
        let values: Vec<_> = (1..=wanted.len()).map(|n| format!("${n}")).collect();
        let text = format!("INSERT INTO {table} ({names}) VALUES ({})", values.join(", "));
        let mut query = sqlx::query::<sqlx::Sqlite>(sqlx::AssertSqlSafe(text));
        for (name, kind, ..) in &wanted {
            query = match kind.as_str() {
                _ if name == column => query.bind(user.uuid()),
                "UUID" => query.bind(UserId::generate().uuid()),
                "TEXT" => query.bind("x"),
                "BYTEA" => query.bind(Vec::<u8>::new()),
                _ => query.bind(1_i64),
            };
        }
        query.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn what_is_to_be_erased_is_erased() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    let store = Store::new(database.clone(), Clock::manual(NOW));
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    for user in [ann, bob] {
        fill(&database, user).await;
    }
    departures::gone(&store, ann).await;
    departures::take_marks_back(&store).await;
    while let Some(departure) = departures::the_departure(&store, NOW).await {
        store.erase_rest(&departure, NOW).await.unwrap();
    }
    let (left, others) = (rows_of(&database, ann).await, rows_of(&database, bob).await);
    for (table, column, fate) in PEOPLE {
        let (left, other) = (left[&(table, column)], others[&(table, column)]);
        // Those that go with a message have none here.
        let goes_with_message = ["reactions", "votes", "pins", "searchable"].contains(&table);
        match fate {
            Erased if !goes_with_message => assert_eq!((left, other), (0, 1), "{table}.{column}"),
            Kept(why) => {
                assert_eq!(left, i64::from(table == "departures").max(other), "{table}.{column}: {why}");
            }
            Erased => {}
        }
    }
}
