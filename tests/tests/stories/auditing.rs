//! The audit log: what is in it, and that its chain holds.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::person::{PASSWORD, text};
use tests::waiting::until;
use tests::{Person, Shape, World};

tests::stories![what_signs_in_or_changes_rights_is_in_the_audit_log];

/// The entries of all services that name a user, as `action actor outcome target`, and the ends of the logs.
async fn audited(world: &World, user: &Person) -> (Vec<Value>, Vec<String>) {
    let (mut entries, mut ends) = (Vec::new(), Vec::new());
    for process in world.processes.iter().filter(|process| !process.name().starts_with("gateway")) {
        let printed = process.runs(&["verify-audit", "--entries"]).await.expect("an intact log");
        for line in printed.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(entry) if line.contains(&user.id) => entries.push(entry),
                Ok(_) => {}
                Err(_) => ends.push(line.to_owned()),
            }
        }
    }
    (entries, ends)
}

async fn what_signs_in_or_changes_rights_is_in_the_audit_log(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let group = ann.starts_group_with(&[&bob]).await;
    let member = format!("/v1/conversations/{group}/members/{}", bob.id);
    let role = format!("{member}/role");
    let refused = bob.put(&role, json!({ "role": "MEMBER_ROLE_MODERATOR" })).await;
    assert!(refused.status >= 400, "{}", refused.body);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MODERATOR" })).await.ok();
    ann.delete(&member).await.ok();
    bob.post("/v1/me/delete", json!({ "password": "not the password" })).await;
    bob.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();

    let expected = [
        ("AuthService/Register", "OK"),
        ("ConversationService/SetMemberRole", "PERMISSION_DENIED"),
        ("ConversationService/SetMemberRole", "OK"),
        ("ConversationService/RemoveMember", "OK"),
        ("UserService/DeleteUser", "UNAUTHENTICATED"),
        ("UserService/DeleteUser", "OK"),
    ];
    let says = |entry: &Value, (action, outcome): (&str, &str)| {
        text(&entry["action"]).ends_with(action) && entry["outcome"] == json!(outcome)
    };
    let (entries, ends) = until("the entries to be chained", || async {
        let (entries, ends) = audited(&world, &bob).await;
        let is_there = |one| entries.iter().any(|entry| says(entry, one));
        expected.into_iter().all(is_there).then_some((entries, ends))
    })
    .await;
    let set_role = entries.iter().find(|entry| says(entry, expected[2])).expect("an entry");
    assert_eq!(set_role["actor"], json!(format!("user:{}", ann.id)), "{set_role}");
    let target = text(&set_role["target"]);
    assert!(target.contains(&group) && target.contains("role=MEMBER_ROLE_MODERATOR"), "{set_role}");
    assert_eq!(text(&set_role["requestId"]).len(), 32, "{set_role}");
    let kept = entries.iter().map(Value::to_string).collect::<String>();
    assert!(!kept.contains(PASSWORD) && !kept.contains("not the password"), "{kept}");

    // The end that was kept is found again, and another one is not.
    let end = ends.iter().find(|end| end.starts_with("conversation=")).expect("the end of a log");
    let is_conversation = |name: &str| name == "conversation" || world.shape == Shape::Embedded;
    let process = world.processes.iter().find(|process| is_conversation(process.name())).expect("a process");
    process.runs(&["verify-audit", "--anchor", end]).await.expect("the same log");
    let digit = if end.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{digit}", &end[..end.len() - 1]);
    let refused = process.runs(&["verify-audit", "--anchor", &other]).await.expect_err("another log");
    assert!(refused.to_string().contains("are not those of before"), "{refused:#}");
}
