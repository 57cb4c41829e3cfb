//! What we ask of conversation, in our words. Who may do what is its business: we ask for every read, and once for every
//! batch of sends, and remember nothing but what cannot be wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use moka::future::Cache;
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::conversation::v1::{self as pb, ConversationKind, MemberRole};
use proto::id::{ConversationId, UserId};
use tonic::{Code, Status};

use crate::content::Content;
use crate::error::Error;
use crate::message::Letter;

/// The most pairs of one `CheckAccess`.
const QUESTIONS: usize = 1000;

/// The most members of one page.
const MEMBERS: i32 = 100;

/// How many users' memberships are remembered.
const REMEMBERED_USERS: u64 = 20_000;

/// How many pairs of users are remembered with their direct conversation, which is theirs for ever.
const REMEMBERED_PAIRS: u64 = 200_000;

/// What a user may do in a conversation now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Know that it exists.
    pub visible: bool,
    /// Read what is in it: a member, or everybody where the conversation has `public_read`.
    pub may_read: bool,
    /// Takes part in it in any role. One who is not a member only reads.
    pub is_member: bool,
    /// Write into it.
    pub may_write: bool,
    /// React and vote: a member who is not muted, and between two people one who may write.
    pub may_react: bool,
    /// Delete what others wrote.
    pub moderates: bool,
    /// Empty the whole conversation.
    pub owns: bool,
    /// Send only what is encrypted by the sender's device.
    pub secure_only: bool,
    /// The membership version that this holds for.
    pub membership_version: i64,
    /// How long the user has to wait between two messages.
    pub pace: Option<Duration>,
    /// Since which membership version the user's message request waits here; 0 for none. Its one message may be written.
    pub request_version: i64,
    /// Whether the user may write only by a message request that is not made yet.
    pub request_needed: bool,
    /// True when the user's message request waits and takes no message: to the user it is as if the message was sent.
    pub request_unheard: bool,
    /// Whether it is between two people.
    pub is_direct: bool,
    /// True between two people when the account of the other one is deleted.
    pub peer_gone: bool,
}

impl From<pb::Access> for Access {
    fn from(access: pb::Access) -> Self {
        let is_direct = access.kind() == ConversationKind::Direct;
        let is_member = access.exists && access.may_read && access.role() >= MemberRole::Muted;
        let takes_part = is_member && access.role() >= MemberRole::Member;
        // One whose request waits is refused by that, and not before.
        let may_write = access.may_write || access.request_unheard;
        Self {
            visible: access.exists && access.visible,
            may_read: access.exists && access.may_read,
            is_member,
            may_write: access.exists && access.may_read && may_write,
            // In a direct conversation nobody stands over the other.
            moderates: access.role() >= MemberRole::Moderator && !is_direct,
            owns: access.role() == MemberRole::Owner && !is_direct,
            // Readers of a channel react to what they cannot answer. Of two people, who may not write is blocked or has to
            // answer first, and whatever it leaves on a message reaches the other.
            may_react: takes_part && (may_write || !is_direct),
            secure_only: access.secure,
            membership_version: access.membership_version,
            pace: u64::try_from(access.slow_mode_millis).ok().filter(|&ms| ms > 0).map(Duration::from_millis),
            request_version: access.request_version.max(0),
            request_needed: access.request_needed,
            request_unheard: access.request_unheard,
            is_direct,
            peer_gone: access.peer_gone,
        }
    }
}

impl Access {
    /// Refuses one who may not write into a conversation.
    pub const fn check_writing(&self, conversation: ConversationId) -> Result<(), Error> {
        match self {
            Self { may_write: true, .. } => Ok(()),
            Self { peer_gone: true, .. } => Err(Error::PeerGone(conversation)),
            // Who knows a room may be told that it has to come in first.
            Self { visible: true, .. } => Err(Error::WriteDenied(conversation)),
            _ => Err(Error::ConversationNotFound(conversation)),
        }
    }

    /// Refuses one who does not own a conversation. Nobody owns a direct one.
    pub const fn check_owning(&self, conversation: ConversationId) -> Result<(), Error> {
        match self {
            Self { may_read: true, owns: true, .. } => Ok(()),
            Self { visible: true, .. } => Err(Error::NotOwner(conversation)),
            _ => Err(Error::ConversationNotFound(conversation)),
        }
    }

    /// Refuses one whom the other person has not accepted: what it does would reach that person.
    pub const fn check_contact(&self, conversation: ConversationId) -> Result<(), Error> {
        match self {
            Self { request_needed: true, .. } => Err(Error::ContactNotAccepted(conversation)),
            Self { request_version: 1.., .. } => Err(Error::RequestPending(conversation)),
            _ => Ok(()),
        }
    }

    /// Whether the two people of a direct conversation are not to learn from each other how far they have come: one blocks
    /// the other, or one has to ask or to answer first.
    pub const fn hides_progress(&self) -> bool {
        self.is_direct && (!self.may_write || self.request_needed || self.request_unheard)
    }

    /// Refuses a letter that may not go where it wants to. One that may go by a message request only passes: whether it is
    /// the one message of the request is known under the lock. What services write is never a request.
    pub fn check_letter(&self, letter: &Letter) -> Result<(), Error> {
        self.check_writing(letter.conversation)?;
        let is_request = self.request_needed || self.request_version > 0;
        if is_request && letter.content.of_services().is_some() {
            return Err(Error::ContactNotAccepted(letter.conversation));
        }
        if self.request_unheard {
            return Err(Error::RequestPending(letter.conversation));
        }
        self.check_secrecy(letter.conversation, &letter.content, letter.is_signed)
    }

    /// Refuses what everybody could read where only secure messages go, and what no registered key of its author has signed.
    /// Messages of services are about the conversation, and theirs alone.
    pub fn check_secrecy(
        &self,
        conversation: ConversationId,
        content: &Content,
        is_signed: bool,
    ) -> Result<(), Error> {
        if !self.secure_only || content.of_services().is_some() {
            return Ok(());
        }
        match (content.is_secure(), is_signed) {
            (false, _) => Err(Error::SecureOnly(conversation)),
            (true, false) => Err(Error::SignatureInvalid),
            (true, true) => Ok(()),
        }
    }
}

/// The conversations that a user is in.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    version: i64,
    list: HashMap<ConversationId, Membership>,
}

/// That a user is in a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// The kind of the conversation.
    pub kind: ConversationKind,
    /// Since when.
    pub since: Timestamp,
    /// What was sent before this is nothing that the user has missed.
    pub counts_from: Timestamp,
}

impl Memberships {
    /// The conversations.
    pub fn ids(&self) -> impl Iterator<Item = ConversationId> + '_ {
        self.list.keys().copied()
    }

    /// The user's membership in a conversation.
    pub fn get(&self, conversation: ConversationId) -> Option<&Membership> {
        self.list.get(&conversation)
    }
}

/// The way to conversation.
#[derive(Clone)]
pub struct Conversations {
    client: ConversationServiceClient<Transport>,
    credential: ServiceCredential,
    memberships: Cache<UserId, Arc<Memberships>>,
    directs: Cache<(UserId, UserId), ConversationId>,
}

impl Conversations {
    /// Asks over this transport, with our own credential.
    pub fn new(transport: Transport, credential: ServiceCredential) -> Self {
        Self {
            client: ConversationServiceClient::new(transport),
            credential,
            memberships: Cache::new(REMEMBERED_USERS),
            directs: Cache::new(REMEMBERED_PAIRS),
        }
    }

    /// What each user may do in each conversation, in the order of the questions. Says what holds now: a right that was
    /// withdrawn before the call is not granted.
    pub async fn check(&self, questions: &[(ConversationId, UserId)]) -> Result<Vec<Access>, Error> {
        let mut answers = Vec::with_capacity(questions.len());
        for part in questions.chunks(QUESTIONS) {
            let ask = |(conversation, user): &(ConversationId, UserId)| pb::AccessQuestion {
                conversation_id: conversation.to_string(),
                user_id: user.to_string(),
            };
            let request = pb::CheckAccessRequest { questions: part.iter().map(ask).collect() };
            let request = as_service(request, &self.credential, None);
            let response =
                self.client.clone().check_access(request).await.map_err(not_answered)?.into_inner();
            if response.answers.len() != part.len() {
                tracing::error!(
                    "conversation answered {} of {} questions",
                    response.answers.len(),
                    part.len()
                );
                return Err(Error::Unavailable("conversation"));
            }
            answers.extend(response.answers.into_iter().map(Access::from));
        }
        Ok(answers)
    }

    /// What a user may do in a conversation that it may read. To others it is as if there were none.
    pub async fn admit(&self, conversation: ConversationId, user: UserId) -> Result<Access, Error> {
        match self.check(&[(conversation, user)]).await?.as_slice() {
            [access] if access.may_read => Ok(*access),
            _ => Err(Error::ConversationNotFound(conversation)),
        }
    }

    /// What a member may do in a conversation. To others it is as if there were none, even where everybody may read.
    pub async fn admit_member(&self, conversation: ConversationId, user: UserId) -> Result<Access, Error> {
        let access = self.admit(conversation, user).await?;
        if access.is_member { Ok(access) } else { Err(Error::ConversationNotFound(conversation)) }
    }

    /// What a user may do in a conversation, be it nothing.
    pub async fn access(&self, conversation: ConversationId, user: UserId) -> Result<Access, Error> {
        match self.check(&[(conversation, user)]).await?.as_slice() {
            [access] => Ok(*access),
            _ => Err(Error::ConversationNotFound(conversation)),
        }
    }

    /// The conversations that a user is in now. Usually answered with "unchanged".
    pub async fn memberships(&self, user: UserId) -> Result<Arc<Memberships>, Error> {
        let known = self.memberships.get(&user).await;
        let known_version = known.as_ref().map_or(0, |known| known.version);
        let request = pb::ListMembershipsRequest { user_id: user.to_string(), known_version };
        let request = as_service(request, &self.credential, None);
        let response =
            self.client.clone().list_memberships(request).await.map_err(not_answered)?.into_inner();
        if let Some(known) = known.filter(|_| response.unchanged) {
            return Ok(known);
        }
        const BEGINNING: Timestamp = Timestamp::from_millis(0);
        let mut list = HashMap::with_capacity(response.memberships.len());
        for membership in response.memberships {
            let since = membership.join_time.as_ref().and_then(Timestamp::from_proto).unwrap_or(BEGINNING);
            // Both are in a direct conversation from its first message on, whatever the clocks of two machines say.
            let kind = membership.kind();
            let counts_from = if kind == ConversationKind::Direct { BEGINNING } else { since };
            list.insert(id(&membership.conversation_id)?, Membership { kind, since, counts_from });
        }
        let memberships = Arc::new(Memberships { version: response.version, list });
        self.memberships.insert(user, Arc::clone(&memberships)).await;
        Ok(memberships)
    }

    /// Conversations as one of their members sees them, at most 100. Those it is not in are left out.
    pub async fn describe(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, pb::Conversation>, Error> {
        if conversations.is_empty() {
            return Ok(HashMap::new());
        }
        let conversation_ids = conversations.iter().map(ToString::to_string).collect();
        let request = pb::BatchGetConversationsRequest { user_id: user.to_string(), conversation_ids };
        let request = as_service(request, &self.credential, None);
        let response = self.client.clone().batch_get_conversations(request).await.map_err(not_answered)?;
        let found = response.into_inner().conversations.into_iter();
        found.map(|conversation| Ok((id(&conversation.conversation_id)?, conversation))).collect()
    }

    /// The direct conversation of a user with another, found or made on behalf of the user.
    pub async fn direct(&self, user: UserId, peer: UserId) -> Result<ConversationId, Error> {
        let pair = (user.min(peer), user.max(peer));
        if let Some(known) = self.directs.get(&pair).await {
            return Ok(known);
        }
        let conversation = self.ensure(user, ConversationKind::Direct, &[peer]).await?;
        self.directs.insert(pair, conversation).await;
        Ok(conversation)
    }

    /// The discussion of a user with others, found or made on behalf of the user.
    pub async fn discussion(&self, user: UserId, others: &[UserId]) -> Result<ConversationId, Error> {
        self.ensure(user, ConversationKind::Discussion, others).await
    }

    async fn ensure(
        &self,
        user: UserId,
        kind: ConversationKind,
        others: &[UserId],
    ) -> Result<ConversationId, Error> {
        let request = pb::CreateConversationRequest {
            kind: kind.into(),
            user_ids: others.iter().map(ToString::to_string).collect(),
            ..pb::CreateConversationRequest::default()
        };
        let request = as_service(request, &self.credential, Some(user));
        let response = self.client.clone().create_conversation(request).await.map_err(not_made)?.into_inner();
        id(&response.conversation.unwrap_or_default().conversation_id)
    }

    /// Those who moderate a conversation, as one of its members sees them.
    pub async fn moderators(
        &self,
        conversation: ConversationId,
        member: UserId,
    ) -> Result<Vec<UserId>, Error> {
        let (mut moderators, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListMembersRequest {
                conversation_id: conversation.to_string(),
                at_least: MemberRole::Moderator.into(),
                page_size: MEMBERS,
                page_token,
            };
            let request = as_service(request, &self.credential, Some(member));
            let response = self.client.clone().list_members(request).await.map_err(|status| {
                // Gone, or not the member's any more, since access was checked.
                if status.code() == Code::NotFound {
                    Error::ConversationNotFound(conversation)
                } else {
                    not_answered(status)
                }
            })?;
            let page = response.into_inner();
            for member in page.members {
                moderators.push(UserId::parse(&member.user_id).map_err(|error| {
                    tracing::error!(%error, "conversation answered with an id that is none");
                    Error::Internal
                })?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(moderators);
            }
        }
    }

    /// Makes the message request by which a user may write into a direct conversation; answers what it may do then.
    pub async fn open_request(&self, conversation: ConversationId, user: UserId) -> Result<Access, Error> {
        let request = pb::OpenMessageRequestRequest {
            conversation_id: conversation.to_string(),
            user_id: user.to_string(),
        };
        let request = as_service(request, &self.credential, None);
        let response = self.client.clone().open_message_request(request).await.map_err(not_made)?;
        Ok(Access::from(response.into_inner().access.unwrap_or_default()))
    }

    /// The membership versions of the conversations of these questions, as far as conversation says so now. What goes does
    /// not wait for it: without an answer there are none.
    pub async fn versions(&self, questions: &[(ConversationId, UserId)]) -> HashMap<ConversationId, i64> {
        let Ok(answers) = self.check(questions).await else { return HashMap::new() };
        let versions = questions
            .iter()
            .zip(answers)
            .map(|((conversation, _), access)| (*conversation, access.membership_version));
        versions.filter(|(_, version)| *version > 0).collect()
    }
}

fn id(text: &str) -> Result<ConversationId, Error> {
    ConversationId::parse(text).map_err(|error| {
        tracing::error!(%error, "conversation answered with an id that is none");
        Error::Internal
    })
}

/// Nothing in these calls can be wrong but the way to conversation.
fn not_answered(status: Status) -> Error {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
            tracing::warn!(code = ?status.code(), "conversation cannot be asked: {}", status.message());
        }
        _ => tracing::error!(code = ?status.code(), "conversation refused: {}", status.message()),
    }
    Error::Neighbour(Box::new(Fault::of_neighbour("conversation", &status)))
}

/// Conversation may also refuse, for reasons that the sender should hear.
fn not_made(status: Status) -> Error {
    let fault = Fault::of_neighbour("conversation", &status);
    match (fault.code(), fault.reason()) {
        (Code::NotFound, "ERROR_REASON_USER_NOT_FOUND") => {
            Error::UserNotFound(fault.metadata().get("user_id").cloned())
        }
        (Code::Unavailable | Code::Internal, _) => not_answered(status),
        _ => Error::Neighbour(Box::new(fault)),
    }
}

impl Access {
    /// What we do ourselves for one who is gone, under this membership version.
    pub const fn of_the_service(membership_version: i64) -> Self {
        Self {
            visible: true,
            may_read: true,
            is_member: true,
            may_write: true,
            may_react: true,
            moderates: false,
            owns: false,
            secure_only: false,
            membership_version,
            pace: None,
            request_version: 0,
            request_needed: false,
            request_unheard: false,
            is_direct: false,
            peer_gone: false,
        }
    }
}

#[cfg(test)]
impl Access {
    /// The access of a plain member.
    pub const fn member() -> Self {
        Self::of_the_service(1)
    }

    /// The access of one whose message request waits since this membership version.
    pub const fn asking(request_version: i64) -> Self {
        Self { request_version, is_direct: true, ..Self::member() }
    }

    /// The access of a member who only reads.
    pub const fn muted() -> Self {
        Self { may_write: false, may_react: false, ..Self::member() }
    }

    /// The access of a moderator.
    pub const fn moderator() -> Self {
        Self { moderates: true, ..Self::member() }
    }
}
