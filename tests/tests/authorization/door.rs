//! The three doors: gRPC, REST, and the command `call` of the WebSocket.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tests::socket::Connection;
use tests::{World, http};
use tokio::sync::Mutex;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::raw::Raw;

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// gRPC, at the service itself.
    Grpc,
    /// REST, at a gateway.
    Rest,
    /// The command `call`, on a gateway's WebSocket.
    Socket,
}

/// All of them.
pub const DOORS: [Door; 3] = [Door::Grpc, Door::Rest, Door::Socket];

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `OK`, or the name of the gRPC code.
    pub code: String,
    /// The reason of a refusal.
    pub reason: String,
    /// All that the caller learns, as text.
    pub said: String,
}

impl Outcome {
    fn ok(said: String) -> Self {
        Self { code: "OK".to_owned(), reason: String::new(), said }
    }

    fn of_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let (reason, metadata) = details
            .error_info()
            .map(|info| (info.reason.clone(), info.metadata.clone().into_iter().collect::<BTreeMap<_, _>>()))
            .unwrap_or_default();
        let said = format!("{reason} {} {metadata:?}", status.message());
        Self { code: code_name(status.code()), said, reason }
    }

    /// From the body of a problem, which is the same on REST and on the socket, where it names its request as well.
    fn of_problem(problem: &Value) -> Self {
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let mut said = problem.clone();
        if let Some(fields) = said.as_object_mut() {
            fields.remove("requestId");
        }
        Self { code: text("code"), reason: text("reason"), said: said.to_string() }
    }

    /// All that the caller learns, with the same word in place of every id.
    pub fn without_ids(&self) -> String {
        let mut text = String::with_capacity(self.said.len());
        let mut rest = self.said.as_str();
        while !rest.is_empty() {
            let ahead = rest.get(..36).filter(|ahead| uuid::Uuid::parse_str(ahead).is_ok());
            let next = if ahead.is_some() { 36 } else { rest.chars().next().map_or(1, char::len_utf8) };
            text.push_str(if ahead.is_some() { "<id>" } else { &rest[..next] });
            rest = &rest[next..];
        }
        format!("{} {text}", self.code)
    }
}

fn code_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The doors of a world, with what is open.
pub struct Doors {
    world: Arc<World>,
    client: reqwest::Client,
    channels: HashMap<&'static str, Channel>,
    /// By token.
    sockets: Mutex<HashMap<String, Socket>>,
}

/// A socket that was used.
struct Socket {
    connection: Arc<Mutex<Connection>>,
    use_time: Instant,
}

/// The time after which a socket is not used again. It answers pings only while it is used, and a gateway closes one that
/// does not answer.
const STALE: Duration = Duration::from_secs(15);

impl Doors {
    /// Opens what all share.
    pub async fn open(world: Arc<World>) -> anyhow::Result<Self> {
        let mut channels = HashMap::new();
        for service in ["auth", "conversation", "messaging", "scheduling"] {
            let channel = Channel::from_shared(format!("http://{}", world.grpc(service)))?.connect().await?;
            channels.insert(service, channel);
        }
        Ok(Self { world, client: reqwest::Client::new(), channels, sockets: Mutex::default() })
    }

    /// Calls an rpc through a door, with this token. What is refused because too much waits is asked again: machines are
    /// slow at times, and it says nothing about who may do what.
    pub async fn call(
        &self,
        door: Door,
        rpc: &MethodDescriptor,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        const TIMES: u32 = 20;
        for _ in 0..TIMES {
            let outcome = self.call_once(door, rpc, token, request).await?;
            if outcome.reason != "ERROR_REASON_OVERLOADED" {
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("{} is overloaded for ever", rpc.full_name())
    }

    async fn call_once(
        &self,
        door: Door,
        rpc: &MethodDescriptor,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        match door {
            Door::Grpc => {
                let authorization = token.map(|token| format!("Bearer {token}"));
                self.by_grpc(rpc, authorization.as_deref(), request).await
            }
            Door::Rest => self.by_rest(rpc, token, request).await,
            Door::Socket => match token {
                Some(token) => self.by_socket(rpc, token, request).await,
                None => self.by_unsigned_socket(rpc, request).await,
            },
        }
    }

    /// Calls an rpc for the anonymous viewer, as a gateway does.
    pub async fn call_anonymously(&self, rpc: &MethodDescriptor, request: &Value) -> anyhow::Result<Outcome> {
        self.by_grpc(rpc, Some(&self.world.gateway_authorization()), request).await
    }

    async fn by_grpc(
        &self,
        rpc: &MethodDescriptor,
        authorization: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        let service = rpc.parent_service();
        let package = service.package_name().split('.').nth(1).unwrap_or_default();
        let channel = self.channels.get(package).with_context(|| format!("no channel to {package}"))?;
        let message = DynamicMessage::deserialize(rpc.input(), request)?;
        let mut request = Request::new(message.encode_to_vec());
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization.parse()?);
        }
        let mut client = Grpc::new(channel.clone());
        client.ready().await?;
        let path = PathAndQuery::try_from(format!("/{}/{}", service.full_name(), rpc.name()))?;
        let answer = if rpc.is_server_streaming() {
            // What a stream is refused with comes instead of its first message.
            match client.server_streaming(request, path, Raw).await {
                Ok(stream) => stream.into_inner().message().await.map(Option::unwrap_or_default),
                Err(status) => Err(status),
            }
        } else {
            client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
        };
        Ok(match answer {
            Ok(bytes) => {
                let answer = DynamicMessage::decode(rpc.output(), bytes.as_slice())?;
                Outcome::ok(serde_json::to_string(&answer)?)
            }
            Err(status) => Outcome::of_status(&status),
        })
    }

    async fn by_rest(
        &self,
        rpc: &MethodDescriptor,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        let (verb, path, body) = as_http(rpc, request)?;
        let gateway = self.world.gateway();
        let answer = http::try_ask(&self.client, gateway, token, verb, &path, body.as_ref()).await?;
        Ok(match answer.status {
            200 => Outcome::ok(answer.body.to_string()),
            _ => Outcome::of_problem(&answer.body),
        })
    }

    async fn by_socket(
        &self,
        rpc: &MethodDescriptor,
        token: &str,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        let socket = {
            let mut sockets = self.sockets.lock().await;
            let known = sockets.remove(token).filter(|socket| socket.use_time.elapsed() < STALE);
            let socket = match known {
                Some(socket) => socket.connection,
                None => Arc::new(Mutex::new(Connection::try_open(self.world.gateway(), token).await?)),
            };
            sockets.insert(token.to_owned(), Socket { connection: socket.clone(), use_time: Instant::now() });
            socket
        };
        let answer = match socket.lock().await.try_command(called(rpc, request)).await {
            // Who is gone may be shown out before the answer is there.
            Err(closed) if ends_the_session(rpc) && closed.to_string().starts_with("closed with 4401") => {
                return Ok(Outcome::ok(String::new()));
            }
            answer => answer?,
        };
        Ok(match answer.get("error") {
            Some(error) => Outcome::of_problem(error),
            None => Outcome::ok(answer["callReply"]["response"].to_string()),
        })
    }

    /// Nobody gets past the first frame without signing in, whatever is called.
    async fn by_unsigned_socket(&self, rpc: &MethodDescriptor, request: &Value) -> anyhow::Result<Outcome> {
        let mut socket = Connection::try_connect(self.world.gateway()).await?;
        socket.begins(called(rpc, request)).await?;
        let closed = socket.expects_close().await;
        ensure!(closed.code == 4400, "the socket of one who is not signed in closes with {}", closed.code);
        Ok(Outcome { code: "UNAUTHENTICATED".to_owned(), reason: String::new(), said: closed.reason })
    }

    /// The way to a service.
    pub fn channel(&self, service: &str) -> Channel {
        self.channels[service].clone()
    }

    /// Closes the socket of one who does not come back.
    pub async fn forget(&self, token: &str) {
        self.sockets.lock().await.remove(token);
    }
}

fn called(rpc: &MethodDescriptor, request: &Value) -> Value {
    let method = format!("{}/{}", rpc.parent_service().full_name(), rpc.name());
    json!({ "call": { "method": method, "request": request } })
}

/// The request as HTTP has it: by the first of the rpc's rules for which it has all that stands in the path.
fn as_http(rpc: &MethodDescriptor, request: &Value) -> anyhow::Result<(Method, String, Option<Value>)> {
    let http = rpc.parent_pool().get_extension_by_name("google.api.http").context("no google.api.http")?;
    let rule = rpc.options().get_extension(&http).as_message().cloned().context("no HTTP rule")?;
    let further = rule.get_field_by_name("additional_bindings");
    let further = further.as_ref().and_then(|rules| rules.as_list()).unwrap_or_default();
    let rules =
        std::iter::once(rule.clone()).chain(further.iter().filter_map(|rule| rule.as_message().cloned()));
    for rule in rules {
        let text = |name: &str| rule.get_field_by_name(name)?.as_str().map(str::to_owned);
        let verbs = ["get", "put", "post", "delete", "patch"];
        let (verb, path) = verbs
            .iter()
            .find_map(|verb| Some((*verb, text(verb).filter(|path| !path.is_empty())?)))
            .context("a rule without a path")?;
        let mut rest = request.clone();
        let Some(path) = filled(rpc, &path, &mut rest) else { continue };
        let verb = Method::from_bytes(verb.to_uppercase().as_bytes())?;
        return Ok(match text("body").as_deref() {
            Some("*") => (verb, path, Some(rest)),
            _ => (verb, with_query(&path, &rest)?, None),
        });
    }
    anyhow::bail!("{} cannot be reached with {request}", rpc.full_name())
}

/// The path with what it holds, which is taken out of the request.
fn filled(rpc: &MethodDescriptor, path: &str, rest: &mut Value) -> Option<String> {
    let mut url = Url::parse("http://gateway").ok()?;
    {
        let mut segments = url.path_segments_mut().ok()?;
        for segment in path.trim_start_matches('/').split('/') {
            match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
                Some(name) => {
                    let field = rpc.input().get_field_by_name(name)?;
                    let value = rest.as_object_mut()?.remove(field.json_name())?;
                    segments.push(value.as_str()?);
                }
                None => {
                    segments.push(segment);
                }
            }
        }
    }
    Some(url.path().to_owned())
}

fn with_query(path: &str, rest: &Value) -> anyhow::Result<String> {
    let mut url = Url::parse(&format!("http://gateway{path}"))?;
    for (name, value) in rest.as_object().into_iter().flatten() {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(name, &text);
        }
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{}{query}", url.path()))
}

/// Whether an rpc ends the session it is called with: then the socket may close before the answer is on it.
fn ends_the_session(rpc: &MethodDescriptor) -> bool {
    matches!(rpc.name(), "DeleteUser" | "Logout" | "RevokeSession")
}
