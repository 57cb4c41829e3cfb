//! Databases that are put back from copies: all of them from a backup, and one of them alone.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tests::person::{PASSWORD, array, text};
use tests::socket::Place;
use tests::waiting::until;
use tests::{Person, World, storage};
use tokio::process::Command;
use tokio::task::JoinSet;

/// The messages and the position that a person had before the copy was made.
struct Before {
    conversation: String,
    words: Vec<String>,
    place: Place,
}

/// Two people talk, and one of them keeps where the log stands.
async fn talk(ann: &Person, bob: &Person) -> Before {
    let conversation = ann.starts_direct_with(bob).await;
    let mut words = Vec::new();
    for number in 0..20 {
        words.push(format!("before {number}"));
        ann.says(&conversation, &format!("before {number}")).await;
    }
    let mut screen = bob.comes_online().await;
    ann.says(&conversation, "the last before").await;
    screen.expects_message("the last before").await;
    words.push("the last before".to_owned());
    Before { conversation, words, place: screen.place.clone() }
}

/// Whatever was acknowledged before is there, clients begin anew, and the talk goes on.
async fn is_restored(ann: &Person, bob: &Person, before: &Before) {
    let found: Vec<String> = ann.reads(&before.conversation).await.into_iter().flatten().collect();
    for words in &before.words {
        assert!(found.contains(words), "{words} is not in {found:?}");
    }
    let heads = json!([{ "conversationId": before.conversation, "sequence": "100000" }]);
    let asked = json!({ "epoch": before.place.epoch, "heads": heads });
    let answer = bob.post("/v1/sync", asked).await.ok();
    assert_eq!(answer["fullSyncRequired"], json!(true), "{answer}");
    let mut screen = bob.connects().await;
    assert_ne!(screen.place.epoch, before.place.epoch);
    assert_eq!(screen.resumes(before.place.clone()).await["fullSyncRequired"], json!(true));
    let mut screen = bob.comes_online().await;
    ann.says(&before.conversation, "after").await;
    screen.expects_message("after").await;
}

pub async fn a_backup_made_under_load_is_restored() {
    let mut world = World::embedded().await.expect("a world");
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let before = talk(&ann, &bob).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (over, ann, conversation) = (Arc::clone(&over), ann.clone(), before.conversation.clone());
        writers.spawn(async move {
            let mut said = 0;
            while !over.load(Ordering::Relaxed) {
                ann.says(&conversation, &format!("meanwhile {writer} {said}")).await;
                said += 1;
            }
            said
        });
    }
    let process = world.process("parlor");
    process.runs(&["backup", "backup"]).await.expect("a backup");
    let refused = process.runs(&["restore", "backup"]).await.expect_err("refused").to_string();
    assert!(refused.contains("stop Parlor and move it away first"), "{refused}");
    over.store(true, Ordering::Relaxed);
    assert!(writers.join_all().await.into_iter().sum::<usize>() > 0, "nothing was said meanwhile");
    ann.says(&before.conversation, "after the backup").await;

    process.stop().await.expect("a stop");
    let folder = world.folder().to_owned();
    std::fs::rename(folder.join("data"), folder.join("data.before")).expect("moved away");
    let process = world.process("parlor");
    process.runs(&["restore", "backup"]).await.expect("a restore");
    process.runs(&["check-data"]).await.expect("databases that belong together");
    process.start_again().await.expect("a start");
    is_restored(&ann, &bob, &before).await;
    let found = ann.reads(&before.conversation).await;
    assert!(!found.contains(&Some("after the backup".to_owned())), "{found:?}");
    assert!(!world.process("parlor").log().contains("facts are read anew"));
    world.stop().await.expect("a stop");
    assert_eq!(world.errors(), Vec::<String>::new());
}

pub async fn a_dump_of_postgresql_is_restored() {
    let (url, nats) =
        (storage::fresh_database().await.expect("a database"), storage::nats_url().expect("NATS"));
    let mut world = World::separate(&url, &nats).await.expect("a world");
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let before = talk(&ann, &bob).await;
    let folder = world.folder().to_owned();
    run("pg_dump", &["--dbname", &url, "--file", "dump.sql"], &folder).await;
    ann.says(&before.conversation, "after the dump").await;
    world.stop().await.expect("a stop");

    let restored = storage::fresh_database().await.expect("a database");
    let psql = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", &restored, "--file", "dump.sql"];
    run("psql", &psql, &folder).await;
    check_data(&restored, &folder).await;
    let mut world = World::separate(&restored, &nats).await.expect("a world");
    let (ann, bob) = (ann.at(world.gateway()), bob.at(world.gateway()));
    is_restored(&ann, &bob, &before).await;
    world.stop().await.expect("a stop");
    assert_eq!(world.errors(), Vec::<String>::new());
}

/// Runs a program of PostgreSQL.
async fn run(program: &str, arguments: &[&str], folder: &Path) {
    let bin = std::env::var("PARLOR_TEST_POSTGRES_BIN").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("PATH", format!("{bin}:{path}"))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("a program of PostgreSQL");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The last step of a restore of PostgreSQL.
async fn check_data(url: &str, folder: &Path) {
    let binary = tests::process::binary("parlor").expect("parlor");
    let checked = Command::new(binary)
        .args(["check-data", "--new-epoch"])
        .current_dir(folder)
        .env("PARLOR__DATABASE__URL", url)
        .output()
        .await
        .expect("parlor");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

pub async fn an_older_database_of_one_service_is_noticed() {
    let mut world = World::embedded().await.expect("a world");
    let [ann, bob, cy] = world.people(["ann", "bob", "cy"]).await;
    let group = ann.starts_group_with(&[&bob, &cy]).await;
    let folder = world.folder().join("data");
    world.stop().await.expect("a stop");
    std::fs::copy(folder.join("auth.db"), folder.join("auth.db.before")).expect("a copy");

    world.process("parlor").start_again().await.expect("a start");
    let gone = world.person("gone").await;
    gone.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    delete(&cy, &ann, &group).await;
    world.stop().await.expect("a stop");

    // The consumers have read facts that the copy does not have.
    std::fs::rename(folder.join("auth.db.before"), folder.join("auth.db")).expect("put back");
    for beside in ["auth.db-wal", "auth.db-shm"] {
        std::fs::remove_file(folder.join(beside)).ok();
    }
    world.process("parlor").start_again().await.expect("a start");
    delete(&bob, &ann, &group).await;
    let log = world.process("parlor").log();
    assert!(log.contains("the database of the producer of"), "{log}");
    world.stop().await.expect("a stop");
    assert_eq!(world.errors(), Vec::<String>::new());
}

/// Deletes an account, and waits until a member sees that it has left the conversation.
async fn delete(user: &Person, member: &Person, conversation: &str) {
    user.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    until("the deleted account to leave", || async {
        let members = member.get(&format!("/v1/conversations/{conversation}/members")).await.ok();
        let is_in = array(&members["members"]).iter().any(|one| text(&one["userId"]) == user.id);
        (!is_in).then_some(())
    })
    .await;
}
