//! REST as a web client speaks it.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::Value;

/// An answer: its status and its JSON body (`null` when there is none).
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
    /// The seconds of its `retry-after`.
    pub retry_after: Option<u64>,
}

impl Answer {
    /// The body of an answer that is well.
    ///
    /// # Panics
    /// When it is not; shows what it says.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "unexpected answer {}: {}", self.status, self.body);
        self.body
    }

    /// The reason of an answer that refuses with this status.
    ///
    /// # Panics
    /// When it does not refuse so.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        self.body["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// Asks a gateway.
///
/// # Panics
/// When it does not answer.
pub async fn ask(
    client: &reqwest::Client,
    gateway: SocketAddr,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    try_ask(client, gateway, token, method, path, body).await.expect("an answer of the gateway")
}

/// Asks a gateway as a client of another API does: with headers of its own, JSON in any request, and paths of that API.
///
/// # Panics
/// When the gateway does not answer.
pub async fn ask_foreign(
    gateway: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut request = reqwest::Client::new().request(method, format!("http://{gateway}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    answer(request).await.expect("an answer of the gateway")
}

/// Asks a gateway that may be down.
pub async fn try_ask(
    client: &reqwest::Client,
    gateway: SocketAddr,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Answer> {
    let mut request = client.request(method, format!("http://{gateway}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    answer(request).await
}

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = response.text().await?;
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
    Ok(Answer { status, body, retry_after })
}
