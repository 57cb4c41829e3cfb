//! Who calls: verifies what a request brings, and lets in whom the rpc's policy lets in.
//!
//! A user comes with `authorization: Bearer <session token>`, which auth verifies; the answer is remembered for five
//! seconds at most and forgotten at once when auth says that the session has ended. A service comes with
//! `authorization: Service <name>:<secret>`, over TLS with a certificate of that name, and may name the user it acts for in
//! `x-parlor-on-behalf-of`. Nothing else
//! in a request says anything about who calls. A service that an rpc's policy lists in `anonymous_services` reads for the
//! anonymous viewer when it names no user. What answers with a stream to a user ends with the session: [`Streams`].

mod certificate;
mod counting;
mod guarded;
mod streams;
#[cfg(test)]
mod streams_tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use moka::future::Cache;
use prost::Message;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::{IntrospectRequest, SessionsEnded, UserKind};
use proto::id::{SessionId, UserId};
use proto::policy::{Access, Policy};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};

use streams::Place;
pub use streams::Streams;

use crate::caller::{ActingService, AnonymousViewer, Caller, CallerKind, ClientNetwork, unauthenticated};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::events::Events;
use crate::fault::Fault;
use crate::rates::Rates;
use crate::tasks::Tasks;
use crate::transport::{Transport, as_service};

/// The metadata key that names the user a service acts for.
pub const ON_BEHALF_OF: &str = "x-parlor-on-behalf-of";

/// The metadata key by which a service that passes on the call of somebody who is not signed in says where that comes
/// from.
pub const CLIENT_ADDRESS: &str = "x-parlor-client-address";

/// How long an answer of auth is relied on.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How many tokens are remembered.
const CAPACITY: u64 = 100_000;

/// What a service shows to the services it calls.
#[derive(Clone)]
pub struct ServiceCredential {
    header: AsciiMetadataValue,
}

impl ServiceCredential {
    /// The credential of the service `name`. Fails when the secret has characters that a header cannot carry.
    pub fn new(name: &str, secret: &Secret) -> anyhow::Result<Self> {
        let mut header = AsciiMetadataValue::try_from(format!("Service {name}:{}", secret.expose()))
            .map_err(|_| {
                anyhow::anyhow!("the secret of service {name} has characters that a header cannot carry")
            })?;
        header.set_sensitive(true);
        Ok(Self { header })
    }

    /// Puts the credential on a request.
    pub fn present<T>(&self, request: &mut tonic::Request<T>) {
        request.metadata_mut().insert("authorization", self.header.clone());
    }
}

impl std::fmt::Debug for ServiceCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceCredential(***)")
    }
}

/// The services that may call this one, by the SHA-256 of their secrets.
#[derive(Clone, Debug, Default)]
pub struct AcceptedServices(Arc<HashMap<String, [u8; 32]>>);

impl AcceptedServices {
    /// Accepts the services with these secrets.
    pub fn with_secrets<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Self {
        let hashed = secrets.into_iter().map(|(name, secret)| (name.to_owned(), sha256(secret.expose())));
        Self(Arc::new(hashed.collect()))
    }

    /// Accepts the services whose secrets have these SHA-256 sums, written in hexadecimal.
    pub fn with_sums(sums: &HashMap<String, String>) -> anyhow::Result<Self> {
        let parse = |(name, sum): (&String, &String)| {
            let bytes =
                (0..64).step_by(2).map(|i| sum.get(i..i + 2).and_then(|b| u8::from_str_radix(b, 16).ok()));
            match bytes.collect::<Option<Vec<u8>>>().map(<[u8; 32]>::try_from) {
                Some(Ok([0, .., 0])) if sum.bytes().all(|digit| digit == b'0') => {
                    anyhow::bail!(
                        "identity.accepted.{name} is the sample value: put the sum of the secret there"
                    )
                }
                Some(Ok(sum32)) if sum.len() == 64 => Ok((name.clone(), sum32)),
                _ => anyhow::bail!("identity.accepted.{name} must be a SHA-256 sum of 64 hexadecimal digits"),
            }
        };
        Ok(Self(Arc::new(sums.iter().map(parse).collect::<anyhow::Result<_>>()?)))
    }

    fn verify(&self, name: &str, secret: &str) -> bool {
        self.0.get(name).is_some_and(|sum| bool::from(sum.ct_eq(&sha256(secret))))
    }
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A session as auth knows it.
struct Known {
    caller: Caller,
    /// The time of its end, unless it is used before.
    expires: Timestamp,
}

/// Finds out whose session a token stands for.
#[derive(Clone)]
pub struct Verifier {
    auth: AuthServiceClient<Transport>,
    credential: Option<ServiceCredential>,
    known: Cache<[u8; 32], Option<Caller>>,
}

impl Verifier {
    /// A verifier that asks auth. Auth itself, which asks its own routes, needs no credential, and remembers nothing: it
    /// knows at once that a session has ended.
    pub fn new(auth: Transport, credential: Option<ServiceCredential>) -> Self {
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(REMEMBERED)
            .support_invalidation_closures()
            .build();
        Self { auth: AuthServiceClient::new(auth), credential, known }
    }

    /// The caller behind a token; `None` when it stands for nothing. Fails when auth cannot be asked.
    pub async fn verify(&self, token: &str) -> Result<Option<Caller>, Status> {
        if token.is_empty() || token.len() > 256 {
            return Ok(None);
        }
        let introspect = async { Ok(self.introspect(token, None).await?.map(|known| known.caller)) };
        if self.credential.is_none() {
            return introspect.await;
        }
        let key = sha256(token);
        if let Some(known) = self.known.get(&key).await {
            return Ok(known);
        }
        // Many requests with one new token ask auth once.
        let asked = self.known.try_get_with(key, introspect).await;
        asked.map_err(|status: Arc<Status>| Status::clone(&status))
    }

    /// Asks auth whose session a token stands for at this moment, whatever is remembered.
    async fn look_up(&self, token: &str, patience: Duration) -> Result<Option<Known>, Status> {
        let answer = tokio::time::timeout(patience, self.introspect(token, Some(patience))).await;
        answer.unwrap_or_else(|_| Err(not_available(Status::deadline_exceeded("it takes too long"))))
    }

    async fn introspect(&self, token: &str, patience: Option<Duration>) -> Result<Option<Known>, Status> {
        let message = IntrospectRequest { session_token: token.to_owned() };
        let mut request = match &self.credential {
            Some(credential) => as_service(message, credential, None),
            None => tonic::Request::new(message),
        };
        if let Some(patience) = patience {
            request.set_timeout(patience);
        }
        let answer = self.auth.clone().introspect(request).await;
        let Some(info) = answer.map_err(not_available)?.into_inner().caller else { return Ok(None) };
        let kind = match info.kind() {
            UserKind::Guest => CallerKind::Guest,
            UserKind::External => CallerKind::External,
            UserKind::Registered | UserKind::Unspecified => CallerKind::Registered,
        };
        match (UserId::parse(&info.user_id), SessionId::parse(&info.session_id)) {
            (Ok(user_id), Ok(session_id)) => {
                let caller = Caller { user_id, session_id: Some(session_id), kind };
                Ok(Some(Known { caller, expires: Timestamp::from_millis(info.expire_millis) }))
            }
            _ => Err(Fault::internal().into()),
        }
    }

    /// Forgets sessions as soon as auth says on the bus that they have ended.
    pub async fn forget_ended_sessions(&self, events: &Events, tasks: &Tasks) {
        let (sender, mut hints) = mpsc::channel(1024);
        let subscription = events.subscribe(proto::subject::SESSIONS_ENDED, sender).await;
        let (known, mut interruptions) = (self.known.clone(), events.interruptions());
        tasks.spawn("forget-ended-sessions", |shutdown| async move {
            let _subscription = subscription;
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    hint = hints.recv() => match hint.map(|hint| SessionsEnded::decode(hint.payload)) {
                        Some(Ok(ended)) => forget(&known, &ended),
                        Some(Err(error)) => tracing::warn!(%error, "a hint about ended sessions cannot be read"),
                        None => return,
                    },
                    // Hints may have been lost: rely on nothing that was known before.
                    Ok(()) = interruptions.changed() => known.invalidate_all(),
                }
            }
        });
    }
}

fn forget(known: &Cache<[u8; 32], Option<Caller>>, ended: &SessionsEnded) {
    let (user, sessions) = (ended.user_id.clone(), ended.session_ids.clone());
    let is_ended = move |caller: &Caller| {
        let session = || caller.session_id.map(|id| id.to_string()).unwrap_or_default();
        caller.user_id.to_string() == user && (sessions.is_empty() || sessions.contains(&session()))
    };
    let outcome = known.invalidate_entries_if(move |_, caller| caller.as_ref().is_some_and(&is_ended));
    if let Err(error) = outcome {
        tracing::error!(%error, "ended sessions cannot be forgotten one by one: forgetting all");
        known.invalidate_all();
    }
}

fn not_available(status: Status) -> Status {
    tracing::warn!(code = ?status.code(), "auth cannot be asked: {}", status.message());
    Fault::of_neighbour("auth", &status).into()
}

/// Verifies every request of a service and enforces the policy of its rpcs.
#[derive(Clone)]
pub struct Identity {
    verifier: Verifier,
    accepted: AcceptedServices,
    streams: Streams,
    rates: Rates,
}

impl Identity {
    /// Users are verified by `verifier`; these services are accepted; streams of users are among `streams`; calls of users
    /// and of addresses count against `rates`.
    pub fn new(verifier: Verifier, accepted: AcceptedServices, streams: Streams, rates: Rates) -> Self {
        Self { verifier, accepted, streams, rates }
    }

    /// What verifies tokens.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The address of a caller who is not signed in: only a service's word about it is believed.
    fn client_address(&self, headers: &http::HeaderMap) -> Option<IpAddr> {
        let address = headers.get(CLIENT_ADDRESS)?.to_str().ok()?.parse().ok()?;
        self.is_service(headers).then_some(address)
    }

    fn is_service(&self, headers: &http::HeaderMap) -> bool {
        match Presented::of(headers) {
            Presented::Service { name, secret } => self.accepted.verify(name, secret),
            Presented::Nothing | Presented::Token(_) => false,
        }
    }

    fn client_network(&self, headers: &http::HeaderMap) -> Option<ClientNetwork> {
        self.client_address(headers).map(ClientNetwork::of_address)
    }

    /// The place of the stream that a user asks for; `None` when it is no user, or no stream.
    async fn place(
        &self,
        admitted: &Admitted,
        path: &str,
        headers: &http::HeaderMap,
    ) -> Result<Option<Place>, Status> {
        match (admitted, Presented::of(headers)) {
            (Admitted::Caller(caller), Presented::Token(token)) => {
                self.streams.place(path, caller, token).await
            }
            _ => Ok(None),
        }
    }

    async fn admit(&self, policy: &Policy, headers: &http::HeaderMap) -> Result<Admitted, Status> {
        if policy.access == Access::Anyone {
            return Ok(Admitted::NoUser);
        }
        match Presented::of(headers) {
            Presented::Nothing => Err(unauthenticated().into()),
            Presented::Token(token) => {
                let caller = self.verifier.verify(token).await?.ok_or_else(unauthenticated)?;
                admit_user(policy, caller).map(Admitted::Caller)
            }
            Presented::Service { name, secret } => {
                if !self.accepted.verify(name, secret) {
                    return Err(unauthenticated().into());
                }
                admit_service(policy, name, headers)
            }
        }
    }
}

/// On whose behalf a request was admitted.
#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    /// A user.
    Caller(Caller),
    /// A person who is not signed in, for whom the gateway asks.
    AnonymousViewer,
    /// No user: everyone may call it, or a service calls for itself.
    NoUser,
}

fn admit_user(policy: &Policy, caller: Caller) -> Result<Caller, Status> {
    match policy.access {
        Access::Service => Err(denied("only services may call this")),
        Access::Account if matches!(caller.kind, CallerKind::Guest | CallerKind::External) => {
            let fault = Fault::new(Code::FailedPrecondition, "ERROR_REASON_GUEST_ACCOUNT");
            Err(fault.message("a guest or an external account cannot do this: register first").into())
        }
        Access::Anyone | Access::User | Access::Account => Ok(caller),
    }
}

/// On whose behalf a service calls: a user, the anonymous viewer, or the service itself.
fn admit_service(policy: &Policy, name: &str, headers: &http::HeaderMap) -> Result<Admitted, Status> {
    let acts = policy.services.contains(&name);
    let reads_anonymously = policy.anonymous_services.contains(&name);
    if !acts && !reads_anonymously {
        return Err(denied("this service may not call this"));
    }
    let user = headers.get(ON_BEHALF_OF).map(|value| value.to_str().unwrap_or_default());
    match user.map(UserId::parse) {
        None if reads_anonymously => Ok(Admitted::AnonymousViewer),
        None if policy.access == Access::Service => Ok(Admitted::NoUser),
        Some(_) if !acts => Err(denied("this service may call this for the anonymous viewer only")),
        // The nil UUID stands for the anonymous viewer, who is not a user.
        Some(Ok(user_id)) if !user_id.uuid().is_nil() => {
            Ok(Admitted::Caller(Caller { user_id, session_id: None, kind: CallerKind::Service }))
        }
        None | Some(Ok(_) | Err(_)) => {
            Err(denied("a service calls this for a user: name one in `x-parlor-on-behalf-of`"))
        }
    }
}

/// The service that acts for a caller who was admitted, and with it the service.
fn acting(caller: &Caller, headers: &http::HeaderMap) -> Option<ActingService> {
    match Presented::of(headers) {
        Presented::Service { name, .. } if caller.kind == CallerKind::Service => {
            Some(ActingService::verified(name))
        }
        _ => None,
    }
}

fn denied(why: &str) -> Status {
    Fault::new(Code::PermissionDenied, "ERROR_REASON_NOT_ADMITTED").message(why).into()
}

/// What a request shows of its caller.
enum Presented<'a> {
    Nothing,
    Token(&'a str),
    Service { name: &'a str, secret: &'a str },
}

impl<'a> Presented<'a> {
    fn of(headers: &'a http::HeaderMap) -> Self {
        let value = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match value.and_then(|value| value.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Self::Token(token.trim()),
            Some(("Service", rest)) => match rest.split_once(':') {
                Some((name, secret)) => Self::Service { name, secret },
                None => Self::Nothing,
            },
            _ => Self::Nothing,
        }
    }
}

/// The middleware: lets a request through with its [`Caller`] in the extensions, or answers with the refusal.
pub async fn enforce(State(identity): State<Identity>, mut request: Request, next: Next) -> Response {
    // What has no policy is not one of our rpcs: reflection, health, or nothing at all.
    let Some(policy) = proto::policy::of(request.uri().path()) else { return next.run(request).await };
    if let Presented::Service { name, .. } = Presented::of(request.headers())
        && let Err(status) = certificate::check(name, request.extensions())
    {
        return status.into_http::<Body>();
    }
    let admitted = match identity.admit(policy, request.headers()).await {
        Ok(admitted) => match identity.count(policy, &admitted, request).await {
            Ok(counted) => {
                request = counted;
                let place = identity.place(&admitted, policy.path, request.headers()).await;
                place.map(|place| (admitted, place))
            }
            Err(status) => return status.into_http::<Body>(),
        },
        Err(status) => Err(identity.count_refused(status, &request)),
    };
    match admitted {
        Ok((admitted, place)) => {
            match admitted {
                Admitted::Caller(caller) => {
                    let service = acting(&caller, request.headers());
                    request.extensions_mut().insert(caller);
                    if let Some(service) = service {
                        request.extensions_mut().insert(service);
                    }
                }
                Admitted::AnonymousViewer => {
                    request.extensions_mut().insert(AnonymousViewer::verified());
                    if let Some(network) = identity.client_network(request.headers()) {
                        request.extensions_mut().insert(network);
                    }
                }
                Admitted::NoUser => {
                    if let Some(network) = identity.client_network(request.headers()) {
                        request.extensions_mut().insert(network);
                    }
                }
            }
            let answer = next.run(request).await;
            match place {
                Some(place) => place.bind(answer),
                None => answer,
            }
        }
        Err(status) => status.into_http::<Body>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_sum_of_its_secret() {
        let accepted = AcceptedServices::with_secrets([("messaging", &Secret::new("hush"))]);
        assert!(accepted.verify("messaging", "hush"));
        assert!(!accepted.verify("messaging", "hus"));
        assert!(!accepted.verify("auth", "hush"));
    }

    #[test]
    fn the_gateway_asks_for_an_anonymous_viewer_and_never_for_a_user() {
        let policy = |path: &str| proto::policy::of(path).expect("a policy");
        let get_user = policy("/parlor.auth.v1.UserService/GetUser");
        let introspect = policy("/parlor.auth.v1.AuthService/Introspect");
        let user_id = UserId::generate();
        let nobody = http::HeaderMap::new();
        let on_behalf = http::HeaderMap::from_iter([(
            http::HeaderName::from_static(ON_BEHALF_OF),
            http::HeaderValue::from_str(&user_id.to_string()).expect("a header"),
        )]);
        let admitted = |policy, name, headers| admit_service(policy, name, headers).map_err(|it| it.code());
        let caller = Caller { user_id, session_id: None, kind: CallerKind::Service };

        assert_eq!(admitted(get_user, "gateway", &nobody), Ok(Admitted::AnonymousViewer));
        assert_eq!(admitted(get_user, "gateway", &on_behalf), Err(Code::PermissionDenied));
        assert_eq!(admitted(get_user, "messaging", &nobody), Err(Code::PermissionDenied));
        assert_eq!(admitted(get_user, "messaging", &on_behalf), Ok(Admitted::Caller(caller)));
        assert_eq!(admitted(introspect, "gateway", &nobody), Ok(Admitted::NoUser));
        let own = policy("/parlor.auth.v1.UserService/GetMe");
        assert_eq!(admitted(own, "gateway", &nobody), Err(Code::PermissionDenied));
    }

    #[test]
    fn an_external_account_is_refused_what_takes_an_account_like_a_guest() {
        let policy = |path: &str| proto::policy::of(path).expect("a policy");
        let account = policy("/parlor.auth.v1.AuthService/ChangePassword");
        let user = policy("/parlor.auth.v1.UserService/GetMe");
        for kind in [CallerKind::Guest, CallerKind::External] {
            let caller = Caller { user_id: UserId::generate(), session_id: None, kind };
            let refused = admit_user(account, caller.clone()).expect_err("refused");
            let fault = Fault::of(&refused);
            assert_eq!(
                (fault.code(), fault.reason()),
                (Code::FailedPrecondition, "ERROR_REASON_GUEST_ACCOUNT")
            );
            assert_eq!(admit_user(user, caller.clone()).expect("admitted"), caller);
        }
    }

    #[test]
    fn a_sum_that_is_none_is_refused() {
        for sum in ["", "zz", &"a".repeat(63), &"g".repeat(64), &"é".repeat(32), &"0".repeat(64)] {
            let sums = HashMap::from([("messaging".to_owned(), (*sum).to_owned())]);
            assert!(AcceptedServices::with_sums(&sums).is_err(), "{sum}");
        }
        let sums = HashMap::from([("messaging".to_owned(), "ab".repeat(32))]);
        assert!(AcceptedServices::with_sums(&sums).is_ok());
    }

    #[test]
    fn a_service_reads_for_the_anonymous_viewer_only_where_the_policy_says_so() {
        let admit = |path: &str, name: &str, on_behalf_of: Option<&str>| {
            let policy = proto::policy::of(path).expect("a policy");
            let mut headers = http::HeaderMap::new();
            if let Some(user) = on_behalf_of {
                headers.insert(ON_BEHALF_OF, user.parse().expect("a header"));
            }
            admit_service(policy, name, &headers).map(|admitted| match admitted {
                Admitted::Caller(caller) => Some(caller.user_id.to_string()),
                Admitted::AnonymousViewer | Admitted::NoUser => None,
            })
        };
        let (user, nil) = (UserId::generate().to_string(), uuid::Uuid::nil().to_string());
        let list = "/parlor.conversation.v1.ConversationService/ListMembers";
        assert_eq!(admit(list, "gateway", None).expect("admitted"), None);
        assert_eq!(admit(list, "messaging", Some(&user)).expect("admitted"), Some(user.clone()));
        let bans = "/parlor.conversation.v1.ConversationService/ListBans";
        for (path, name, on_behalf_of) in [
            // It does not speak for people there.
            (list, "gateway", Some(user.as_str())),
            (list, "gateway", Some(nil.as_str())),
            // One that speaks for people speaks for one.
            (list, "messaging", None),
            (list, "messaging", Some(nil.as_str())),
            (list, "messaging", Some("somebody")),
            (list, "scheduling", None),
            (bans, "gateway", None),
        ] {
            let refused = admit(path, name, on_behalf_of).expect_err("refused");
            assert_eq!(refused.code(), Code::PermissionDenied, "{path} {name} {on_behalf_of:?}");
        }
    }

    #[test]
    fn the_header_says_who_calls() {
        let presented = |value: &str| {
            let headers = http::HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                http::HeaderValue::from_str(value).expect("a header"),
            )]);
            match Presented::of(&headers) {
                Presented::Nothing => "nothing".to_owned(),
                Presented::Token(token) => format!("token {token}"),
                Presented::Service { name, secret } => format!("service {name} {secret}"),
            }
        };
        assert_eq!(presented("Bearer abc"), "token abc");
        assert_eq!(presented("bearer abc"), "token abc");
        assert_eq!(presented("Service auth:s:t"), "service auth s:t");
        assert_eq!(presented("Basic abc"), "nothing");
        assert_eq!(presented("abc"), "nothing");
    }
}
