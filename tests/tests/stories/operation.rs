//! What operators and developers find: the document of the API, its page, health and figures.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::array;

tests::stories![
    the_api_describes_itself,
    the_documentation_page_needs_nothing_from_outside,
    health_and_figures_are_there,
    browsers_of_other_origins_are_answered_in_development,
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
