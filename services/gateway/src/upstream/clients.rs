//! The four services behind the gateway.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use chassis::admin::{Health, ReadinessCheck};
use chassis::fault::Fault;
use chassis::identity::{CLIENT_ADDRESS, ServiceCredential};
use chassis::transport::{Repeatable, Transport, as_service};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use proto::auth::v1::IntrospectRequest;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::export_service_client as auth;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::codec::Codec;
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::conversation::v1::export_service_client as conversation;
use proto::conversation::v1::presence_service_client::PresenceServiceClient;
use proto::conversation::v1::{AccessQuestion, CheckAccessRequest};
use proto::messaging::v1::ListHeadsRequest;
use proto::messaging::v1::export_service_client as messaging;
use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::upload_service_client::UploadServiceClient;
use proto::policy::Access;
use proto::rpc::Rpc;
use proto::scheduling::v1::ListScheduledMessagesRequest;
use proto::scheduling::v1::calendar_service_client::CalendarServiceClient;
use proto::scheduling::v1::call_service_client::CallServiceClient;
use proto::scheduling::v1::export_service_client as scheduling;
use proto::scheduling::v1::scheduled_message_service_client::ScheduledMessageServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

/// The nil UUID.
const NIL: &str = "00000000-0000-0000-0000-000000000000";

type Asked = BoxFuture<'static, Result<(), Status>>;

/// The clients of the four services behind the gateway, and the credential for the gateway's own requests.
#[derive(Clone, Debug)]
pub struct Clients {
    auth: Transport,
    conversation: Transport,
    messaging: Transport,
    scheduling: Transport,
    credential: ServiceCredential,
}

/// The authorization and the time limit with which an rpc is called for a client.
#[derive(Clone, Debug)]
pub(crate) struct OnBehalf {
    /// The client's own `authorization`, which is passed on unchanged. Only ever a bearer token.
    pub authorization: Option<MetadataValue<Ascii>>,
    /// The longest time for which the client waits.
    pub patience: Duration,
    /// The client's address. Passed to rpcs that can be called without being signed in, so that they can slow down a
    /// network that guesses.
    pub address: Option<IpAddr>,
}

impl OnBehalf {
    /// Calls with a session's token.
    pub(crate) fn of_token(token: &str, patience: Duration) -> Self {
        let mut authorization = MetadataValue::try_from(format!("Bearer {token}")).ok();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Self { authorization, patience, address: None }
    }

    /// Returns a request with this authorization and time limit.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request.set_timeout(self.patience);
        request
    }
}

impl Clients {
    /// Creates the clients with these connections.
    pub fn new(
        auth: Transport,
        conversation: Transport,
        messaging: Transport,
        scheduling: Transport,
        credential: ServiceCredential,
    ) -> Self {
        Self { auth, conversation, messaging, scheduling, credential }
    }

    /// Returns the credential for the gateway's own requests.
    pub fn credential(&self) -> &ServiceCredential {
        &self.credential
    }

    /// Signing up, in and out.
    pub fn auth(&self) -> AuthServiceClient<Transport> {
        AuthServiceClient::new(self.auth.clone())
    }

    /// Users.
    pub fn users(&self) -> UserServiceClient<Transport> {
        UserServiceClient::new(self.auth.clone())
    }

    /// Conversations and their members.
    pub fn conversations(&self) -> ConversationServiceClient<Transport> {
        ConversationServiceClient::new(self.conversation.clone())
    }

    /// Presence.
    pub fn presence(&self) -> PresenceServiceClient<Transport> {
        PresenceServiceClient::new(self.conversation.clone())
    }

    /// Messages.
    pub fn messages(&self) -> MessagingServiceClient<Transport> {
        MessagingServiceClient::new(self.messaging.clone())
    }

    /// Returns the log: past and new events.
    pub fn sync(&self) -> SyncServiceClient<Transport> {
        SyncServiceClient::new(self.messaging.clone())
    }

    /// Files.
    pub fn uploads(&self) -> UploadServiceClient<Transport> {
        UploadServiceClient::new(self.messaging.clone())
    }

    /// Availability and bookings.
    pub fn calendars(&self) -> CalendarServiceClient<Transport> {
        CalendarServiceClient::new(self.scheduling.clone())
    }

    /// Returns the data that auth keeps about a user.
    pub fn auth_export(&self) -> auth::ExportServiceClient<Transport> {
        auth::ExportServiceClient::new(self.auth.clone())
    }

    /// Returns the data that conversation keeps about a user.
    pub fn conversation_export(&self) -> conversation::ExportServiceClient<Transport> {
        conversation::ExportServiceClient::new(self.conversation.clone())
    }

    /// Returns the data that messaging keeps about a user.
    pub fn messaging_export(&self) -> messaging::ExportServiceClient<Transport> {
        messaging::ExportServiceClient::new(self.messaging.clone())
    }

    /// Returns the data that scheduling keeps about a user.
    pub fn scheduling_export(&self) -> scheduling::ExportServiceClient<Transport> {
        scheduling::ExportServiceClient::new(self.scheduling.clone())
    }

    /// Calls.
    pub fn calls(&self) -> CallServiceClient<Transport> {
        CallServiceClient::new(self.scheduling.clone())
    }

    /// Scheduled messages.
    pub fn scheduled_messages(&self) -> ScheduledMessageServiceClient<Transport> {
        ScheduledMessageServiceClient::new(self.scheduling.clone())
    }

    /// Calls any unary rpc whose messages are known only by their descriptors.
    pub(crate) async fn call(
        &self,
        method: &MethodDescriptor,
        message: &DynamicMessage,
        on_behalf: &OnBehalf,
    ) -> Result<DynamicMessage, Status> {
        let service = method.parent_service();
        let transport = self.of_package(service.package_name())?;
        let path = PathAndQuery::try_from(format!("/{}/{}", service.full_name(), method.name()))
            .map_err(|_| Fault::internal())?;

        let mut client = tonic::client::Grpc::new(transport);
        client.ready().await.map_err(|error| not_reached(service.full_name(), error.as_ref()))?;
        let mut request = on_behalf.request(Bytes::from(message.encode_to_vec()));
        if names_itself(message) {
            request.extensions_mut().insert(Repeatable);
        }
        if proto::policy::of(path.as_str()).is_some_and(|policy| policy.access == Access::Anyone) {
            self.introduce(&mut request, on_behalf);
        }
        let answer = client.unary(request, path, codec::Raw).await?.into_inner();
        DynamicMessage::decode(method.output(), answer).map_err(|error| {
            tracing::error!(%error, rpc = method.full_name(), "an answer cannot be decoded");
            Fault::internal().into()
        })
    }

    /// Calls a unary rpc. Without a user's token it is called with the gateway's own credential, if the rpc takes it.
    pub(crate) async fn unary<R>(&self, request: R, on_behalf: &OnBehalf) -> Result<R::Response, Status>
    where
        R: Rpc,
    {
        let path = PathAndQuery::from_static(R::PATH);
        let package = R::PATH.trim_start_matches('/').rsplit_once('.').map_or("", |(package, _)| package);
        let mut client = tonic::client::Grpc::new(self.of_package(package)?);
        client.ready().await.map_err(|error| not_reached(package, error.as_ref()))?;
        let mut request = on_behalf.request(request);
        let takes_gateway = proto::policy::of(R::PATH).is_some_and(|policy| {
            policy.access == Access::Anyone
                || (on_behalf.authorization.is_none()
                    && (policy.access == Access::Service || policy.anonymous_services.contains(&"gateway")))
        });
        if takes_gateway {
            self.introduce(&mut request, on_behalf);
        }
        Ok(client.unary(request, path, Codec::<R, R::Response>::default()).await?.into_inner())
    }

    /// Adds a stranger's address, vouched for by the gateway's own credential.
    fn introduce<T>(&self, request: &mut Request<T>, on_behalf: &OnBehalf) {
        let Some(address) = on_behalf.address else { return };
        self.credential.present(request);
        if let Ok(address) = MetadataValue::try_from(address.to_string()) {
            request.metadata_mut().insert(CLIENT_ADDRESS, address);
        }
    }

    /// Returns the checks that the services can be reached. Without scheduling nearly everything works; without
    /// another, nothing does.
    pub(crate) fn readiness(&self) -> Vec<ReadinessCheck> {
        let check = |name: &str, ask: fn(Self) -> Asked, without: fn(String) -> Health| {
            let clients = self.clone();
            ReadinessCheck::new(format!("to {name}"), move || {
                let asked = ask(clients.clone());
                async move {
                    asked.await.map_or_else(
                        |status| without(format!("{:?}", status.code())),
                        |()| Health::Ok("reached".to_owned()),
                    )
                }
            })
        };
        vec![
            check("auth", |clients| clients.reach_auth().boxed(), Health::Failed),
            check("conversation", |clients| clients.reach_conversation().boxed(), Health::Failed),
            check("messaging", |clients| clients.reach_messaging().boxed(), Health::Failed),
            check("scheduling", |clients| clients.reach_scheduling().boxed(), Health::Degraded),
        ]
    }

    async fn reach_auth(self) -> Result<(), Status> {
        let nobody = IntrospectRequest { session_token: "nobody".to_owned() };
        self.auth().introspect(as_service(nobody, &self.credential, None)).await.map(drop)
    }

    async fn reach_conversation(self) -> Result<(), Status> {
        let nowhere = AccessQuestion { conversation_id: NIL.to_owned(), user_id: NIL.to_owned() };
        let question = CheckAccessRequest { questions: vec![nowhere] };
        self.conversations().check_access(as_service(question, &self.credential, None)).await.map(drop)
    }

    async fn reach_messaging(self) -> Result<(), Status> {
        let nothing = ListHeadsRequest::default();
        self.sync().list_heads(as_service(nothing, &self.credential, None)).await.map(drop)
    }

    async fn reach_scheduling(self) -> Result<(), Status> {
        let nobody = ListScheduledMessagesRequest::default();
        match self.scheduled_messages().list_scheduled_messages(nobody).await {
            // The rpc refuses the gateway itself, but an answer shows that the service is reachable.
            Err(status) if status.code() != Code::Unauthenticated => Err(status),
            _ => Ok(()),
        }
    }

    fn of_package(&self, package: &str) -> Result<Transport, Status> {
        let transport = match package {
            "parlor.auth.v1" => &self.auth,
            "parlor.conversation.v1" => &self.conversation,
            "parlor.messaging.v1" => &self.messaging,
            "parlor.scheduling.v1" => &self.scheduling,
            _ => {
                tracing::error!(package, "no service is known for this package");
                return Err(Fault::internal().into());
            }
        };
        Ok(transport.clone())
    }
}

/// True for a request with an id that the client chose, by which the service detects a repetition.
fn names_itself(message: &DynamicMessage) -> bool {
    ["client_message_id", "request_id"].iter().any(|name| {
        let value = message.get_field_by_name(name);
        value.is_some_and(|value| value.as_str().is_some_and(|id| !id.is_empty()))
    })
}

fn not_reached(service: &str, error: &(dyn std::error::Error + Send + Sync)) -> Status {
    tracing::warn!(service, %error, "a service cannot be reached");
    Fault::unavailable("the service").into()
}

/// A codec of raw bytes: the messages are known by descriptors, not by types.
mod codec {
    use bytes::{Buf, BufMut, Bytes};
    use tonic::Status;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    #[derive(Clone, Copy, Debug)]
    pub(super) struct Raw;

    impl Codec for Raw {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Raw {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
            into.put(item);
            Ok(())
        }
    }

    impl Decoder for Raw {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(from.copy_to_bytes(from.remaining())))
        }
    }
}
