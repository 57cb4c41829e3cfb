//! Auth as far as conversation can see it: it knows its people, their tokens and who was deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::routing::post;
use chassis::transport::Transport;
use prost::Message;
use proto::Incoming;
use proto::auth::v1 as pb;
use proto::codec::Codec;
use proto::id::{EventId, SessionId, UserId};
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

/// What conversation shows of itself.
pub const SECRET: &str = "the secret of conversation";

/// Cloning gives the same.
#[derive(Clone, Default)]
pub struct Auth(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    users: BTreeMap<UserId, bool>,
    guests: BTreeSet<UserId>,
    /// Those with a device key in use.
    with_key: BTreeSet<UserId>,
    /// The namespaces of external accounts.
    externals: BTreeMap<UserId, String>,
    /// The display names of those who have one.
    names: BTreeMap<UserId, String>,
    /// What it was told of who knows whom, and with what it answers instead of taking note.
    acquaintances: Vec<pb::RecordAcquaintanceRequest>,
    refusal: Option<Code>,
    refusals: usize,
    facts: Vec<pb::UserFact>,
    is_down: bool,
    lookups: usize,
}

/// A fact that an account is deleted, as it is sent.
pub fn deletion_of(user: UserId) -> Vec<u8> {
    let payload = Some(pb::user_fact::Payload::UserDeleted(pb::UserDeleted {}));
    pb::UserFact { user_id: user.to_string(), payload, ..Default::default() }.encode_to_vec()
}

impl State {
    fn tell(&mut self, user: UserId, payload: Option<pb::user_fact::Payload>) {
        let position = i64::try_from(self.facts.len()).unwrap() + 1;
        let event_id = EventId::generate().to_string();
        let user_id = user.to_string();
        self.facts.push(pb::UserFact { position, event_id, user_id, payload, ..Default::default() });
    }

    fn kind(&self, user: UserId) -> pb::UserKind {
        if self.guests.contains(&user) {
            pb::UserKind::Guest
        } else if self.externals.contains_key(&user) {
            pb::UserKind::External
        } else {
            pb::UserKind::Registered
        }
    }
}

impl Auth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Somebody new. The id is the token.
    pub fn register(&self) -> UserId {
        let user = UserId::generate();
        self.state().users.insert(user, true);
        user
    }

    /// Somebody new who did not register.
    pub fn welcome(&self) -> UserId {
        let user = self.register();
        self.state().guests.insert(user);
        user
    }

    /// A new external account.
    pub fn external(&self, namespace: &str) -> UserId {
        let user = self.register();
        self.state().externals.insert(user, namespace.to_owned());
        user
    }

    /// Gives users a device key.
    pub fn give_device_keys(&self, users: &[UserId]) {
        self.state().with_key.extend(users);
    }

    /// Gives somebody a display name.
    pub fn name(&self, user: UserId, name: &str) {
        self.state().names.insert(user, name.to_owned());
    }

    /// What it was told of who knows whom.
    pub fn acquaintances(&self) -> Vec<pb::RecordAcquaintanceRequest> {
        self.state().acquaintances.clone()
    }

    /// How often it took no note.
    pub fn refusals(&self) -> usize {
        self.state().refusals
    }

    /// Takes no note of who knows whom from now on, or again.
    pub fn refuse_acquaintances(&self, with: Option<Code>) {
        self.state().refusal = with;
    }

    /// Deletes an account.
    pub fn delete(&self, user: UserId) {
        let mut state = self.state();
        state.users.insert(user, false);
        state.tell(user, Some(pb::user_fact::Payload::UserDeleted(pb::UserDeleted {})));
    }

    /// Tells what only the next release knows.
    pub fn tell_of_something_new(&self, user: UserId) {
        self.state().tell(user, None);
    }

    /// Puts a copy back that was made when there were so many facts.
    pub fn is_restored_to(&self, facts: usize) {
        self.state().facts.truncate(facts);
    }

    /// Changes the name of a user.
    pub fn rename(&self, user: UserId) {
        self.state().tell(user, Some(pb::user_fact::Payload::UserUpdated(pb::UserUpdated {})));
    }

    /// Makes it answer nothing about users from now on, or again.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// How often it was asked who exists.
    pub fn lookups(&self) -> usize {
        self.state().lookups
    }

    /// The way to it.
    pub fn transport(&self) -> Transport {
        let [introspect, batch, facts, reviews, keys] = std::array::from_fn(|_| self.clone());
        Transport::local(
            Router::new()
                .route(
                    "/parlor.auth.v1.AuthService/Introspect",
                    rpc(move |request| introspect.introspect(&request)),
                )
                .route(
                    "/parlor.auth.v1.UserService/BatchGetUsers",
                    rpc(move |request| batch.batch_get_users(&request)),
                )
                .route(
                    "/parlor.auth.v1.UserService/ListDeviceKeys",
                    rpc(move |request| keys.list_device_keys(&request)),
                )
                .route(
                    "/parlor.auth.v1.AuthService/ListUserFacts",
                    rpc(move |request| facts.list_user_facts(&request)),
                )
                .route(
                    "/parlor.auth.v1.ReviewService/RecordAcquaintance",
                    rpc(move |request| reviews.record_acquaintance(&request)),
                ),
        )
    }

    fn introspect(&self, request: &Request<pb::IntrospectRequest>) -> Result<pb::IntrospectResponse, Status> {
        is_conversation(request)?;
        let user = UserId::parse(&request.get_ref().session_token).ok();
        let known = user.filter(|user| self.state().users.contains_key(user));
        let kind = |user| self.state().kind(user);
        let caller = known.map(|user| pb::CallerInfo {
            user_id: user.to_string(),
            session_id: SessionId::generate().to_string(),
            kind: kind(user).into(),
            ..Default::default()
        });
        Ok(pb::IntrospectResponse { caller })
    }

    fn batch_get_users(
        &self,
        request: &Request<pb::BatchGetUsersRequest>,
    ) -> Result<pb::BatchGetUsersResponse, Status> {
        is_conversation(request)?;
        if !request.metadata().contains_key("x-parlor-on-behalf-of") {
            return Err(Status::permission_denied("on whose behalf?"));
        }
        let mut state = self.state();
        if state.is_down {
            return Err(Status::unavailable("down"));
        }
        state.lookups += 1;
        let asked = request.get_ref().user_ids.iter().filter_map(|text| UserId::parse(text).ok());
        let user = |user: UserId| {
            let lives = *state.users.get(&user)?;
            let delete_time = (!lives).then(prost_types::Timestamp::default);
            let external_account = state.externals.get(&user).map(|namespace| pb::ExternalAccount {
                namespace: namespace.clone(),
                name: user.to_string(),
            });
            Some(pb::User {
                user_id: user.to_string(),
                kind: state.kind(user).into(),
                display_name: state.names.get(&user).cloned().unwrap_or_default(),
                delete_time,
                external_account,
                ..Default::default()
            })
        };
        Ok(pb::BatchGetUsersResponse { users: asked.filter_map(user).collect() })
    }

    /// Everyone had a key once, which is revoked.
    fn list_device_keys(
        &self,
        request: &Request<pb::ListDeviceKeysRequest>,
    ) -> Result<pb::ListDeviceKeysResponse, Status> {
        is_conversation(request)?;
        let user = UserId::parse(&request.get_ref().user_id).ok();
        let has_key = user.is_some_and(|user| self.state().with_key.contains(&user));
        let revoked =
            pb::DeviceKey { revoke_time: Some(prost_types::Timestamp::default()), ..Default::default() };
        let in_use = has_key.then(pb::DeviceKey::default);
        Ok(pb::ListDeviceKeysResponse { device_keys: std::iter::once(revoked).chain(in_use).collect() })
    }

    fn record_acquaintance(
        &self,
        request: &Request<pb::RecordAcquaintanceRequest>,
    ) -> Result<pb::RecordAcquaintanceResponse, Status> {
        is_conversation(request)?;
        let mut state = self.state();
        if let Some(code) = state.refusal {
            state.refusals += 1;
            return Err(Status::new(code, "not now"));
        }
        state.acquaintances.push(request.get_ref().clone());
        Ok(pb::RecordAcquaintanceResponse {})
    }

    fn list_user_facts(
        &self,
        request: &Request<pb::ListUserFactsRequest>,
    ) -> Result<pb::ListUserFactsResponse, Status> {
        is_conversation(request)?;
        let after = request.get_ref().after_position;
        let state = self.state();
        let at = state.facts.iter().find(|fact| fact.position == after);
        Ok(pb::ListUserFactsResponse {
            facts: state.facts.iter().filter(|fact| fact.position > after).cloned().collect(),
            epoch: "the only one".to_owned(),
            head_position: i64::try_from(state.facts.len()).unwrap(),
            after_event_id: at.map(|fact| fact.event_id.clone()).unwrap_or_default(),
        })
    }
}

fn is_conversation<T>(request: &Request<T>) -> Result<(), Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if shown == Some(&format!("Service conversation:{SECRET}")) {
        Ok(())
    } else {
        Err(Status::unauthenticated("who?"))
    }
}

/// One rpc, served as the generated servers do it, without the others of its service.
fn rpc<Q, A, F>(answer: F) -> axum::routing::MethodRouter
where
    Q: Message + Default + Incoming + Send + Sync + 'static,
    A: Message + Default + Incoming + Send + Sync + 'static,
    F: Fn(Request<Q>) -> Result<A, Status> + Clone + Send + Sync + 'static,
{
    post(move |request: axum::extract::Request| {
        let answer = answer.clone();
        async move {
            let handler =
                service_fn(move |request: Request<Q>| std::future::ready(answer(request).map(Response::new)));
            tonic::server::Grpc::new(Codec::<A, Q>::default())
                .unary(handler, request)
                .await
                .map(axum::body::Body::new)
        }
    })
}
