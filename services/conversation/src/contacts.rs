//! The use cases between two people: connections, message requests, blocks, and what each lets others do.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, RequestId, UserId};
use uuid::Uuid;

use crate::conversation::Pair;
use crate::conversations::{Conversations, Place};
use crate::error::Error;
use crate::member::Access;
use crate::paging::{Page, Paged};
use crate::privacy::{Privacy, PrivacyChanges};
use crate::request::{Filter, Kind, Request};
use crate::standing::{Act, Between, MOST_CONNECTIONS, Standing, Writing};
use crate::store::Acted;
use crate::users::Keyword;

/// Where a page of requests ends.
pub type RequestPlace = (Timestamp, RequestId);

/// What stands between a person and another, as the person may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The other person.
    pub user_id: UserId,
    /// Since when they are connected.
    pub connected: Option<Timestamp>,
    /// The connection request that waits, or by which they are connected.
    pub connection_request: Option<Request>,
    /// The last message request.
    pub message_request: Option<Request>,
    /// Whether the person blocks the other.
    pub blocked: bool,
    /// Whether the other takes the person's first message only as a request.
    pub request_needed: bool,
    /// Their direct conversation.
    pub conversation: Option<ConversationId>,
}

/// What one person does about another.
impl Conversations {
    /// Asks to be connected.
    pub async fn connect(
        &self,
        caller: UserId,
        other: UserId,
        retry: Option<Uuid>,
    ) -> Result<Request, Error> {
        two(caller, other)?;
        self.users.require_account(caller, other).await?;
        let acted = self.act(caller, other, Act::Connect(retry)).await?;
        if let Some(request) = acted.is_new.then_some(&acted.answer).and_then(Option::as_ref) {
            tracing::info!(request.id = %request.id, user.id = %caller, "made connection request {}", request.id);
        }
        acted.answer.ok_or(Error::RequestNotFound(other))
    }

    /// Takes a request back.
    pub async fn cancel(&self, caller: UserId, other: UserId, kind: Kind) -> Result<Request, Error> {
        self.answer(caller, other, Act::Cancel(kind)).await
    }

    /// Says yes to a request.
    pub async fn accept(&self, caller: UserId, other: UserId, kind: Kind) -> Result<Request, Error> {
        self.answer(caller, other, Act::Accept(kind)).await
    }

    /// Says no to a request.
    pub async fn reject(&self, caller: UserId, other: UserId, kind: Kind) -> Result<Request, Error> {
        self.answer(caller, other, Act::Reject(kind)).await
    }

    async fn answer(&self, caller: UserId, other: UserId, act: Act) -> Result<Request, Error> {
        self.act(caller, other, act).await?.answer.ok_or(Error::RequestNotFound(other))
    }

    /// Ends a connection.
    pub async fn disconnect(&self, caller: UserId, other: UserId) -> Result<(), Error> {
        self.act(caller, other, Act::Disconnect).await.map(drop)
    }

    /// Blocks somebody. Since when.
    pub async fn block(&self, caller: UserId, other: UserId) -> Result<Timestamp, Error> {
        two(caller, other)?;
        self.users.require(caller, &[other]).await?;
        let standing = self.act(caller, other, Act::Block).await?.standing;
        standing.blocked_by(caller).ok_or(Error::UserNotFound(other))
    }

    /// Blocks somebody no longer.
    pub async fn unblock(&self, caller: UserId, other: UserId) -> Result<(), Error> {
        self.act(caller, other, Act::Unblock).await.map(drop)
    }

    async fn act(&self, by: UserId, other: UserId, act: Act) -> Result<Acted, Error> {
        let pair = two(by, other)?;
        let acted = self.store.act(pair, by, act, self.clock.now()).await?;
        if acted.has_effects {
            self.announce();
        }
        Ok(acted)
    }
}

/// What there is to see.
impl Conversations {
    /// What stands between the caller and somebody.
    pub async fn contact(&self, caller: UserId, other: UserId) -> Result<Contact, Error> {
        let pair = two(caller, other)?;
        self.users.require(caller, &[other]).await?;
        let standing = self.store.standing(pair).await?;
        let direct = self.store.direct(pair).await?;
        // One that is not there yet depends on what they have set.
        let gated = self.store.privacy(other).await?.first_contact.is_gated()
            && direct.is_none_or(|direct| direct.depends_on_settings);
        let contact = Contact::new(standing, caller, other, gated);
        Ok(Contact { conversation: direct.map(|direct| direct.id), ..contact })
    }

    /// The caller's requests, newest first.
    pub async fn requests(
        &self,
        caller: UserId,
        filter: Filter,
        page: Page<RequestPlace>,
    ) -> Result<Paged<Request, RequestPlace>, Error> {
        let rows = self.store.requests(caller, filter, page).await?;
        let mut paged = Paged::cut(rows, &page, |request| (request.create_time, request.id));
        let requests = std::mem::take(&mut paged.items).into_iter();
        paged.items = requests.filter_map(|request| request.seen_by(caller)).collect();
        Ok(paged)
    }

    /// How many requests of the caller there are on all pages.
    pub async fn count_requests(&self, caller: UserId, filter: Filter) -> Result<i64, Error> {
        self.store.count_requests(caller, filter).await
    }

    /// Those the caller is connected with, newest first, each with the time since when.
    pub async fn connections(&self, caller: UserId, page: Page<Place>) -> Result<Paged<Place, Place>, Error> {
        let rows = self.store.connections(caller, page).await?;
        Ok(Paged::cut(rows, &page, |place| *place))
    }

    /// The same of those whose names contain a keyword, and how many there are on all pages. Auth knows the names, so that
    /// it is asked for those of all connections; there are at most [`MOST_CONNECTIONS`].
    pub async fn connections_named(
        &self,
        caller: UserId,
        keyword: &Keyword,
        page: Page<Place>,
    ) -> Result<(Paged<Place, Place>, i64), Error> {
        if keyword.is_empty() {
            let count = self.store.count_connections(caller).await?;
            return Ok((self.connections(caller, page).await?, count));
        }
        let all = Page { after: None, limit: MOST_CONNECTIONS };
        let connections = self.store.connections(caller, all).await?;
        let user_ids: Vec<_> = connections.iter().map(|(_, user_id)| *user_id).collect();
        let named = self.users.named(caller, &user_ids, keyword).await?;
        let found = connections.into_iter().filter(|(_, user_id)| named.contains(user_id));
        let found: Vec<Place> = found.collect();
        let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let rows = found.into_iter().filter(|place| page.after.is_none_or(|after| *place < after));
        let rows = rows.take(usize::try_from(page.rows()).unwrap_or(usize::MAX)).collect();
        Ok((Paged::cut(rows, &page, |place| *place), count))
    }

    /// Those the caller blocks, newest first, each with the time since when.
    pub async fn blocks(&self, caller: UserId, page: Page<Place>) -> Result<Paged<Place, Place>, Error> {
        let rows = self.store.blocks(caller, page).await?;
        Ok(Paged::cut(rows, &page, |place| *place))
    }

    /// What a person lets others do.
    pub async fn privacy(&self, caller: UserId) -> Result<Privacy, Error> {
        self.store.privacy(caller).await
    }

    /// Says what the caller lets others do.
    pub async fn set_privacy(&self, caller: UserId, changes: PrivacyChanges) -> Result<Privacy, Error> {
        self.store.set_privacy(caller, changes).await
    }
}

/// What messaging asks.
impl Conversations {
    /// Makes the message request by which a user may write into a direct conversation, where one is needed, and says what
    /// the user may do there now.
    pub async fn open_message_request(&self, user: UserId, id: ConversationId) -> Result<Access, Error> {
        let view = self.store.view(id, user).await?.filter(|view| view.own_role.is_some());
        let view = view.ok_or(Error::ConversationNotFound(id))?;
        if let Some(peer) = view.peer() {
            self.act(user, peer, Act::Write).await?;
        }
        let access = self.store.access(&[(id, user)]).await?.remove(&(id, user));
        access.ok_or(Error::ConversationNotFound(id))
    }
}

impl Contact {
    fn new(standing: Standing, caller: UserId, other: UserId, gated: bool) -> Self {
        // One who is blocked reads as one who has to ask. The caller's own block is said by itself.
        let between = Between { blocks: false, ..standing.between(caller, false, gated) };
        let request_needed = (gated || between.blocked) && between.writing(true) == Writing::Needed;
        let connected = standing.connected;
        // One that was answered and did not connect them stands in nobody's way.
        let connection = standing.connection.clone();
        let connection = connection.filter(|request| connected.is_some() || request.state.waits());
        Self {
            user_id: other,
            connected,
            connection_request: connection.and_then(|request| request.seen_by(caller)),
            blocked: standing.blocked_by(caller).is_some(),
            request_needed,
            message_request: standing.message.and_then(|request| request.seen_by(caller)),
            conversation: None,
        }
    }
}

/// The pair of two people: nobody asks, answers or blocks oneself.
fn two(caller: UserId, other: UserId) -> Result<Pair, Error> {
    Pair::of(caller, other).ok_or(Error::Field { field: "user_id", rule: "must be another user" })
}
