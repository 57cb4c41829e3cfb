//! A signed-in user of this API: the rpcs of their operations, and reads that several operations share.

use std::collections::HashMap;

use chassis::caller::unauthenticated;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, stream};
use jiff::Timestamp;
use proto::auth::v1::{BatchGetUsersRequest, User};
use proto::conversation::v1::{
    Access, CheckContactRequest, Contact, Conversation, ConversationKind, GetConversationRequest,
};
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{ListReceiptsRequest, Watermark};
use proto::rpc::Rpc;
use tonic::Code;

use super::envelope::in_our_words;
use super::words::zone;
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::request::HttpRequest;
use crate::http::error::Problem;

/// The number of users in one request.
const BATCH: usize = 100;

/// The maximum number of concurrent rpcs of one operation.
const AT_ONCE: usize = 8;

/// A signed-in user of this API. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) dialects: Dialects,
    pub(super) actor: Actor,
    /// The time zone that the client reports, which is used for a user whose profile has none.
    pub(super) zone: Option<String>,
}

/// Users by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(HashMap<String, User>);

impl Users {
    pub(super) fn get(&self, id: &str) -> Option<&User> {
        self.0.get(id)
    }
}

impl Session {
    /// Returns the user of the bearer token of a request.
    pub(super) async fn of(dialects: &Dialects, request: &HttpRequest) -> Result<Self, Problem> {
        let token = request.bearer().ok_or_else(unauthenticated)?;
        let zone = zone::of_offset(request.header(zone::HEADER))?;
        let actor = dialects.backend.sign_in(token, request.address).await?;
        Ok(Self { dialects: dialects.clone(), actor, zone })
    }

    pub(super) fn user_id(&self) -> UserId {
        self.actor.user_id
    }

    /// True when this is the user's own id.
    pub(super) fn is_own(&self, user_id: &str) -> bool {
        UserId::parse(user_id).is_ok_and(|id| id == self.actor.user_id)
    }

    /// Returns the current time, in milliseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.dialects.backend.now_millis()
    }

    /// Returns the current time by the clock of the gateway.
    pub(super) fn timestamp(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now()).unwrap_or_default()
    }

    /// Calls an rpc as the user. Errors name the fields of this API. Boxed here: an operation makes many calls, and
    /// would reserve room for each of them.
    pub(super) fn call<R: Rpc>(&self, request: R) -> BoxFuture<'_, Result<R::Response, Problem>> {
        self.dialects.backend.call(&self.actor, request).map_err(in_our_words).boxed()
    }

    /// Returns the users with these ids, as far as the user sees them. Unknown ones are left out.
    pub(super) async fn users(&self, ids: impl IntoIterator<Item = &str>) -> Result<Users, Problem> {
        let mut ids: Vec<_> = ids.into_iter().filter_map(|id| UserId::parse(id).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut users = HashMap::new();
        for batch in ids.chunks(BATCH) {
            let request = BatchGetUsersRequest {
                user_ids: batch.iter().map(UserId::to_string).collect(),
                ..BatchGetUsersRequest::default()
            };
            let found = self.call(request).await?.users;
            users.extend(found.into_iter().map(|user| (user.user_id.clone(), user)));
        }
        Ok(Users(users))
    }

    /// Returns the relationships of the user and others, by the id of the other. Deleted users are left out.
    pub(super) async fn contacts(&self, ids: &[&str]) -> Result<HashMap<String, Contact>, Problem> {
        let asked = ids.iter().map(|id| self.contact((*id).to_owned())).collect();
        Ok(all(asked).await?.into_iter().flatten().collect())
    }

    async fn contact(&self, user_id: String) -> Result<Option<(String, Contact)>, Problem> {
        match self.call(CheckContactRequest { user_id: user_id.clone() }).await {
            Ok(answer) => Ok(Some((user_id, answer.contact.unwrap_or_default()))),
            Err(problem) if problem.fault().code() == Code::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Returns the rights of the user in these conversations, by the id of the conversation.
    pub(super) async fn access(&self, ids: &[&str]) -> Result<HashMap<String, Access>, Problem> {
        let ids: Vec<_> = ids.iter().filter_map(|id| ConversationId::parse(id).ok()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let answers = self.dialects.backend.access(&self.actor, &ids).await?;
        Ok(ids.iter().map(ConversationId::to_string).zip(answers).collect())
    }

    /// Returns a direct conversation of the user. Conversations of other kinds are no chats of this API.
    pub(super) async fn direct(&self, conversation_id: ConversationId) -> Result<Conversation, Problem> {
        let request = GetConversationRequest { conversation_id: conversation_id.to_string() };
        let conversation = self.call(request).await?.conversation.unwrap_or_default();
        match conversation.kind() {
            ConversationKind::Direct => Ok(conversation),
            _ => Err(super::envelope::not_found("there is no chat with this id")),
        }
    }

    /// Returns the watermarks of the two users in a direct conversation.
    pub(super) async fn receipts(&self, conversation_id: &str) -> Result<Vec<Watermark>, Problem> {
        let request = ListReceiptsRequest {
            conversation_id: conversation_id.to_owned(),
            ..ListReceiptsRequest::default()
        };
        Ok(self.call(request).await?.watermarks)
    }
}

/// Returns the outcomes of several requests, a few of which run concurrently, in their order.
pub(super) async fn all<T, F>(asked: Vec<F>) -> Result<Vec<T>, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}
