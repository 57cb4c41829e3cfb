//! What operators and developers find: the document of the API, its page, health and figures.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::array;
use tests::process::print_config;

tests::stories![
    the_api_describes_itself,
    the_documentation_page_needs_nothing_from_outside,
    health_and_figures_are_there,
    the_time_from_sending_to_delivery_is_measured,
    browsers_of_other_origins_are_answered_in_development,
    the_example_configurations_are_accepted,
    every_operation_refuses_a_stranger_unless_it_says_otherwise,
];

async fn fetch(url: String) -> (u16, String) {
    let answer = reqwest::get(url).await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

async fn the_api_describes_itself(world: Arc<World>) {
    let (status, body) = fetch(format!("http://{}/openapi.json", world.gateway())).await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let paths = document["paths"].as_object().expect("paths");
    for path in ["/v1/auth/register", "/v1/conversations/{conversation_id}/messages", "/v1/inbox", "/v1/sync"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    assert!(!body.contains("Introspect"), "what is for services is not shown");
}

async fn the_documentation_page_needs_nothing_from_outside(world: Arc<World>) {
    let gateway = world.gateway();
    let (status, page) = fetch(format!("http://{gateway}/docs/")).await;
    assert_eq!(status, 200);
    let outside = page
        .split(['"', '\''])
        .find(|part| part.starts_with("http://") || part.starts_with("https://") || part.starts_with("//"));
    assert_eq!(outside, None);
}

async fn health_and_figures_are_there(world: Arc<World>) {
    for process in &world.processes {
        let admin = process.address("admin").expect("an admin address");
        assert_eq!(fetch(format!("http://{admin}/livez")).await.0, 200, "{}", process.name());
        let (status, body) = fetch(format!("http://{admin}/readyz")).await;
        assert_eq!(status, 200, "{}: {body}", process.name());
        let (status, figures) = fetch(format!("http://{admin}/metrics")).await;
        assert_eq!(status, 200);
        assert!(figures.contains("# TYPE"), "{}: {figures}", process.name());
    }
}

async fn the_time_from_sending_to_delivery_is_measured(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    ann.says(&conversation, "measured").await;
    screen.expects_message("measured").await;
    let mut measured = 0.0;
    for process in &world.processes {
        let admin = process.address("admin").expect("an admin address");
        let (_, figures) = fetch(format!("http://{admin}/metrics")).await;
        let count = figures.lines().find_map(|line| line.strip_prefix("delivery_seconds_count "));
        measured += count.map_or(0.0, |count| count.parse().expect("a number"));
    }
    assert!(measured > 0.0, "no process measures the delivery");
}

async fn browsers_of_other_origins_are_answered_in_development(world: Arc<World>) {
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1/me", world.gateway());
    let preflight = client
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "http://localhost:5173")
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await
        .expect("an answer");
    assert!(preflight.status().is_success());
    assert_eq!(preflight.headers()["access-control-allow-origin"], "http://localhost:5173");
    // On refusals too: otherwise a page cannot read why.
    let refused = client.get(&url).header("origin", "http://localhost:5173").send().await.expect("an answer");
    assert_eq!(refused.status().as_u16(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], "http://localhost:5173");
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(body["status"], json!(401));
    assert!(array(&body["fields"]).is_empty());
}

async fn the_example_configurations_are_accepted(_world: Arc<World>) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config");
    let services = ["auth", "conversation", "messaging", "scheduling", "gateway"];
    for (binary, file) in services
        .map(|name| (format!("parlor-{name}"), name))
        .into_iter()
        .chain([("parlor".to_owned(), "parlor")])
    {
        let printed =
            print_config(&binary, &examples.join(format!("{file}.toml"))).expect("an accepted configuration");
        assert!(printed.contains("profile = "), "{printed}");
        assert!(!printed.contains("\"0.0.0.0:") || printed.contains("behind_proxy = true"), "{printed}");
    }
}

async fn every_operation_refuses_a_stranger_unless_it_says_otherwise(world: Arc<World>) {
    let gateway = world.gateway();
    let (_, body) = fetch(format!("http://{gateway}/openapi.json")).await;
    let document: Value = serde_json::from_str(&body).expect("JSON");
    let client = reqwest::Client::new();
    let (mut refused, mut open) = (0, 0);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let somewhere: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "01890a5d-ac96-774b-bcce-b302099a8057" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for (method, operation) in operations.as_object().expect("operations") {
            if operation.get("x-authz").is_none() {
                continue;
            }
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let request =
                client.request(method.clone(), format!("http://{gateway}{somewhere}")).json(&json!({}));
            let answer = request.send().await.expect("an answer");
            let status = answer.status().as_u16();
            let said = answer.text().await.expect("a body");
            if operation["security"] == json!([]) {
                // What it needs is missing, which is another thing than who asks.
                assert!(status < 500 && status != 403, "{method} {path}: {status} {said}");
                open += 1;
            } else {
                assert_eq!(status, 401, "{method} {path}: {said}");
                refused += 1;
            }
        }
    }
    assert!(refused > 30 && open >= 4, "{refused} refuse and {open} do not");
}
