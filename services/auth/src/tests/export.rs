//! What somebody is handed who asks for everything.

use std::collections::BTreeMap;

use proto::auth::v1::export_service_client::ExportServiceClient;
use serde_json::{Value, json};

use super::reviews::connection;
use super::*;

impl World {
    /// The files, in the order of their names.
    pub(super) async fn export(&self, person: &Person) -> BTreeMap<String, String> {
        let mut exports = ExportServiceClient::new(Transport::local(self.unit.grpc.clone().unwrap()));
        let request = person.asks(pb::ExportUserDataRequest {});
        let mut pieces = exports.export_user_data(request).await.unwrap().into_inner();
        let (mut files, mut last) = (BTreeMap::<String, Vec<u8>>::new(), String::new());
        while let Some(piece) = pieces.message().await.unwrap() {
            assert!(piece.data.len() <= 64 * 1024);
            assert!(last == piece.path || !files.contains_key(&piece.path), "{} comes twice", piece.path);
            last = piece.path.clone();
            files.entry(piece.path).or_default().extend(piece.data);
        }
        files.into_iter().map(|(path, data)| (path, String::from_utf8(data).unwrap())).collect()
    }
}

fn value_of(file: &str) -> Value {
    serde_json::from_str(file).unwrap()
}

pub(super) fn lines(file: &str) -> Vec<Value> {
    file.lines().map(value_of).collect()
}

#[tokio::test]
async fn everything_about_oneself_and_nothing_else_is_in_the_export() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    world.register_key(&ann, 1).await.unwrap();
    world.register_key(&bob, 2).await.unwrap();
    let profile = pb::UserChanges {
        date_of_birth: "1955-04-30".to_owned(),
        visibility: pb::Visibility::Nobody.into(),
        ..Default::default()
    };
    world.update(&ann, &["date_of_birth", "visibility"], profile).await.unwrap();
    let empty = world.export(&ann).await;
    world.record(connection(&ann, &bob, true, 1)).await.unwrap();
    world.put(&ann, &bob, 5, "one\ntwo").await.unwrap();
    world.put(&bob, &ann, 2, "").await.unwrap();
    let files = world.export(&ann).await;
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "auth/background_checks.ndjson",
            "auth/device_keys.json",
            "auth/linked_providers.json",
            "auth/reviews_received.ndjson",
            "auth/reviews_written.ndjson",
            "auth/sessions.json",
            "auth/user.json",
        ]
    );
    // What is empty is there too.
    assert!(names.iter().all(|name| empty.contains_key(*name)));
    for name in ["auth/reviews_written.ndjson", "auth/background_checks.ndjson"] {
        assert_eq!(empty[name], "");
    }
    assert_eq!(value_of(&empty["auth/linked_providers.json"]), json!({"linked": []}));

    let value = |name: &str| value_of(&files[name]);
    let user = value("auth/user.json");
    assert_eq!(user["email"], "ann@example.org");
    assert_eq!(user["dateOfBirth"], "1955-04-30");
    assert_eq!(user["visibility"], "VISIBILITY_NOBODY");
    assert_eq!(user["rating"]["sum"], "2");
    let sessions = value("auth/sessions.json");
    assert_eq!(sessions["sessions"][0]["sessionId"], ann.session.session_id.as_str());
    assert_eq!(
        (sessions["sessions"].as_array().unwrap().len(), &sessions["sessions"][0]["current"]),
        (1, &Value::Bool(true))
    );
    let keys = value("auth/device_keys.json");
    assert_eq!(keys["deviceKeys"].as_array().unwrap().len(), 1);
    let (written, received) =
        (lines(&files["auth/reviews_written.ndjson"]), lines(&files["auth/reviews_received.ndjson"]));
    assert_eq!((written.len(), received.len()), (1, 1));
    assert_eq!((&written[0]["text"], &written[0]["rating"]), (&Value::from("one\ntwo"), &Value::from(5)));
    assert_eq!(received[0]["reviewerUserId"], bob.user.user_id.as_str());
    let all: String = files.into_values().collect();
    assert!(!all.contains("bob@example.org") && !all.contains(PASSWORD) && !all.contains(&ann.token));
}

#[tokio::test]
async fn more_than_a_page_is_exported_whole() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    for n in 0..101 {
        let guest = world.guest().await;
        world.record(connection(&ann, &guest, true, 1)).await.unwrap();
        world.put(&ann, &guest, 3, &format!("number {n} {}", "ä".repeat(1000))).await.unwrap();
    }
    let files = world.export(&ann).await;
    let written = lines(&files["auth/reviews_written.ndjson"]);
    let mut ids: Vec<_> = written.iter().map(|review| review["userId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((written.len(), ids.len()), (101, 101));
}

#[tokio::test]
async fn only_oneself_is_handed_what_is_kept() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, guest) = (world.register("ann").await, world.guest().await);
    assert!(world.export(&guest).await["auth/user.json"].contains("USER_KIND_GUEST"));
    let mut exports = ExportServiceClient::new(Transport::local(world.unit.grpc.clone().unwrap()));
    let refused = exports.export_user_data(pb::ExportUserDataRequest {}).await;
    assert_refused(refused.map(drop), Code::Unauthenticated, "UNAUTHENTICATED");
    let on_behalf = Some(UserId::parse(&ann.user.user_id).unwrap());
    let request = as_service(pb::ExportUserDataRequest {}, &world.gateway, on_behalf);
    assert_eq!(exports.export_user_data(request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_old_session_exports_nothing_and_registers_no_device_key() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, guest) = (world.register("ann").await, world.guest().await);
    world.clock.advance(Duration::from_secs(600));
    let mut exports = ExportServiceClient::new(Transport::local(world.unit.grpc.clone().unwrap()));
    let refused = exports.export_user_data(ann.asks(pb::ExportUserDataRequest {})).await;
    assert_refused(refused.map(drop), Code::FailedPrecondition, "SIGN_IN_AGAIN");
    assert_refused(world.register_key(&ann, 1).await, Code::FailedPrecondition, "SIGN_IN_AGAIN");
    let with = |password: &str| {
        let request =
            pb::RegisterDeviceKeyRequest { password: password.to_owned(), ..key(public_key(1), "phone") };
        ann.asks(request)
    };
    let refused = world.users.register_device_key(with("not the password")).await;
    assert_refused(refused, Code::Unauthenticated, "BAD_CREDENTIALS");
    world.users.register_device_key(with(PASSWORD)).await.unwrap();

    // A guest has nothing but the session, and one who has signed in again has a new one.
    assert!(!world.export(&guest).await.is_empty());
    let again = world.login("ann", PASSWORD).await.unwrap();
    assert!(!world.export(&again).await.is_empty());
    world.register_key(&again, 2).await.unwrap();
}
