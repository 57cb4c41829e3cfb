//! Typed rpcs for the dialects, under the same limits as over REST.

use std::net::IpAddr;
use std::sync::Arc;

use chassis::caller::unauthenticated;
use chassis::clock::Clock;
use proto::conversation::v1::{Access, AccessQuestion, CheckAccessRequest};
use proto::id::{ConversationId, SessionId, UserId};
use proto::messaging::v1::{Message, SendMessageRequest};
use proto::rpc::Rpc;
use tonic::{Code, Status};

use crate::config::{Config, DialectsConfig};
use crate::http::error::Problem;
use crate::http::middleware::strangers::Asker;
use crate::upstream::Upstream;
use crate::upstream::clients::OnBehalf;

/// A signed-in user for whom a dialect acts.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) user_id: UserId,
    pub(crate) session_id: Option<SessionId>,
    pub(crate) token: Arc<str>,
    pub(crate) address: IpAddr,
}

/// The rights with which an rpc is called.
#[derive(Clone, Debug)]
pub(crate) enum Authority {
    /// The rights of a user.
    User(Actor),
    /// Without a user: a client that signs up or in, or an anonymous viewer of publicly readable content. The services
    /// learn the address from the gateway.
    Anonymous(IpAddr),
}

impl From<&Actor> for Authority {
    fn from(actor: &Actor) -> Self {
        Self::User(actor.clone())
    }
}

/// The services behind a dialect. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Backend {
    upstream: Upstream,
    config: Arc<Config>,
    clock: Clock,
}

impl Backend {
    pub(crate) fn new(upstream: Upstream, config: Arc<Config>, clock: Clock) -> Self {
        Self { upstream, config, clock }
    }

    /// Returns the settings of the dialects.
    pub(crate) fn config(&self) -> &DialectsConfig {
        &self.config.dialects
    }

    /// Returns the largest body of a request, in bytes. That of a stranger contains no message.
    pub(crate) fn max_body_bytes(&self, asker: Option<&Asker>) -> usize {
        match asker {
            Some(Asker::Stranger) => self.config.max_body_bytes,
            Some(Asker::User | Asker::Unverified) | None => self.config.dialect_body_bytes(),
        }
    }

    /// True in the profile for one developer's machine.
    pub(crate) fn is_development(&self) -> bool {
        self.config.profile.is_development()
    }

    /// Returns the current time, in milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// Returns the user of a token's session. An invalid token counts like a request without one.
    pub(crate) async fn sign_in(&self, token: &str, address: IpAddr) -> Result<Actor, Problem> {
        match self.upstream.verifier().verify(token).await? {
            Some(caller) => Ok(Actor {
                user_id: caller.user_id,
                session_id: caller.session_id,
                token: Arc::from(token),
                address,
            }),
            None => {
                self.upstream.limits().anonymous(address)?;
                Err(unauthenticated().into())
            }
        }
    }

    /// True while the session of a user has not ended.
    pub(crate) async fn is_signed_in(&self, actor: &Actor) -> Result<bool, Problem> {
        Ok(self.upstream.verifier().verify(&actor.token).await?.is_some())
    }

    /// Calls an rpc. It counts as it does over REST.
    pub(crate) async fn call<R>(
        &self,
        authority: impl Into<Authority>,
        request: R,
    ) -> Result<R::Response, Problem>
    where
        R: Rpc,
    {
        let authority = authority.into();
        self.count(&authority)?;
        let patience = self.config.request_timeout;
        let on_behalf = match &authority {
            Authority::User(actor) => {
                OnBehalf { address: Some(actor.address), ..OnBehalf::of_token(&actor.token, patience) }
            }
            Authority::Anonymous(address) => {
                OnBehalf { authorization: None, patience, address: Some(*address) }
            }
        };
        // Boxed: its callers would otherwise reserve room for every kind of call.
        let call = Box::pin(self.upstream.clients().unary(request, &on_behalf));
        let outcome = tokio::time::timeout(patience, call).await;
        let outcome = outcome.map_err(|_| Problem::deadline_exceeded())?;
        self.charge(&authority, &outcome)?;
        Ok(outcome?)
    }

    /// Returns the rights of a user in conversations, in the same order. Only the gateway may ask; it does so for
    /// requests of a signed-in user, which were counted.
    pub(crate) async fn access(
        &self,
        actor: &Actor,
        conversations: &[ConversationId],
    ) -> Result<Vec<Access>, Problem> {
        let user_id = actor.user_id.to_string();
        let question = |id: &ConversationId| AccessQuestion {
            conversation_id: id.to_string(),
            user_id: user_id.clone(),
        };
        let patience = self.config.request_timeout;
        let on_behalf = OnBehalf { authorization: None, patience, address: Some(actor.address) };
        let request = CheckAccessRequest { questions: conversations.iter().map(question).collect() };
        let call = self.upstream.clients().unary(request, &on_behalf);
        let outcome = tokio::time::timeout(patience, call).await;
        Ok(outcome.map_err(|_| Problem::deadline_exceeded())??.answers)
    }

    /// Sends a message over the stream that carries the sends of all connections.
    pub(crate) async fn send(&self, actor: &Actor, request: SendMessageRequest) -> Result<Message, Problem> {
        // The sends of one user go over one stream, so that they arrive in order.
        let lane = actor.user_id.uuid().as_u64_pair().1;
        let sent = self.upstream.send_stream().send(lane, actor.token.clone(), request);
        let outcome = tokio::time::timeout(self.config.request_timeout, sent).await;
        let outcome = outcome.map_err(|_| Problem::deadline_exceeded())?;
        self.charge(&Authority::User(actor.clone()), &outcome)?;
        Ok(outcome?.message.unwrap_or_default())
    }

    /// Counts a request without a session. The services count the requests of users.
    fn count(&self, authority: &Authority) -> Result<(), Problem> {
        match authority {
            Authority::Anonymous(address) => Ok(self.upstream.limits().anonymous(*address)?),
            Authority::User(_) => Ok(()),
        }
    }

    /// Counts an invalid token like no token, so that guessing tokens is slowed down.
    fn charge<T>(&self, authority: &Authority, outcome: &Result<T, Status>) -> Result<(), Problem> {
        let was_refused = matches!(outcome, Err(status) if status.code() == Code::Unauthenticated);
        match authority {
            Authority::User(actor) if was_refused => Ok(self.upstream.limits().anonymous(actor.address)?),
            _ => Ok(()),
        }
    }
}
