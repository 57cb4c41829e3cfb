//! One trace from the command of a socket to the commit of its message, at a real OTLP collector; and the id by which an
//! answer names its request.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use proto::auth::v1::GetUserRequest;
use proto::auth::v1::user_service_client::UserServiceClient;
use serde_json::json;
use tests::socket::Connection;
use tests::waiting::until;
use tests::{Shape, World, storage};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

tests::stories![a_message_is_one_trace_from_the_socket_to_the_commit, every_answer_names_its_request,];

/// A span as the collector got it.
#[derive(Clone, Debug)]
struct Span {
    /// The process that it belongs to.
    service: String,
    name: String,
    trace_id: Vec<u8>,
}

/// A collector that remembers the spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = format!("{:?}", name.and_then(|name| name.value));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut known = self.0.lock().expect("the spans");
            known.extend(spans.map(|span| Span {
                service: service.clone(),
                name: span.name,
                trace_id: span.trace_id,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves on a free port until the tasks are dropped.
    async fn start(&self, tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tasks.spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("served");
        });
        format!("http://{address}")
    }

    /// The traces that have a span of this name in a process whose name holds a text.
    fn traces(&self, service: &str, name: &str) -> Vec<Vec<u8>> {
        let spans = self.0.lock().expect("the spans");
        let those = spans.iter().filter(|span| span.name == name && span.service.contains(service));
        those.map(|span| span.trace_id.clone()).collect()
    }
}

async fn a_message_is_one_trace_from_the_socket_to_the_commit(world: Arc<World>) {
    let (collector, mut tasks) = (Collector::default(), JoinSet::new());
    let endpoint = collector.start(&mut tasks).await;
    let settings = [("log.otlp_endpoint", endpoint.as_str())];
    let (mut own, gateway, messaging) = match world.shape {
        Shape::Embedded => (World::embedded_with(&settings).await.expect("a world"), "parlor", "parlor"),
        Shape::Separate => {
            let database = storage::fresh_database().await.expect("a database");
            let bus = storage::nats_url().expect("a bus");
            let world = World::separate_with(&database, &bus, &settings).await.expect("a world");
            (world, "gateway", "messaging")
        }
    };
    let [ann, bob] = own.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut socket = ann.connects().await;
    let from_rest = collector.traces(messaging, "commit").len();
    socket.says(&conversation, "traced").await;
    until("a commit in the trace of a command of the socket", async || {
        let commands = collector.traces(gateway, "request");
        let commits = collector.traces(messaging, "commit");
        (commits.len() > from_rest && commits.iter().any(|trace| commands.contains(trace))).then_some(())
    })
    .await;
    own.stop().await.expect("a world that stops");
    assert_eq!(own.errors(), Vec::<String>::new());
}

async fn every_answer_names_its_request(world: Arc<World>) {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let client = reqwest::Client::new();
    for path in ["/v1/me", "/nowhere", "/openapi.json", "/chats"] {
        let url = format!("http://{}{path}", world.gateway());
        let answer = client.get(&url).send().await.expect("an answer");
        assert!(is_id(answer.headers()["x-request-id"].to_str().expect("text")), "{path}");
        let known = "0af7651916cd43dd8448eb211c80319c";
        let traced = client.get(&url).header("traceparent", format!("00-{known}-b7ad6b7169203331-01"));
        let answer = traced.send().await.expect("an answer");
        assert_eq!(answer.headers()["x-request-id"], known, "{path}");
    }

    let channel = format!("http://{}", world.grpc("auth"));
    let mut users = UserServiceClient::connect(channel).await.expect("a channel");
    let refused = users.get_user(GetUserRequest::default()).await.expect_err("refused");
    let id = refused.metadata().get("x-request-id").expect("an id");
    assert!(is_id(id.to_str().expect("text")));

    let ann = world.person("ann").await;
    let mut socket = Connection::open(world.gateway(), &ann.token).await;
    let nowhere = "01890a5d-ac96-774b-bcce-b302099a8057";
    let command = json!({"sendMessage": {"conversationId": nowhere, "content": {"text": "x"}}});
    let error = socket.command(command).await["error"].clone();
    assert!(error["requestId"].as_str().is_some_and(is_id), "{error}");
}
