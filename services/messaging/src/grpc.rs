//! The rpcs: identify, parse, call, render.

mod alerts;
mod annotations;
mod export;
mod reports;
mod search;
mod uploads;

use std::collections::BTreeSet;
use std::time::Duration;

use chassis::caller::{Caller, Viewer};
use chassis::clock::Timestamp;
use chassis::page;
use chassis::tasks::Tasks;
use futures_util::stream::BoxStream;
use proto::id::{ConversationId, InvalidId, UserId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::messaging_service_server::MessagingService;
use proto::messaging::v1::sync_service_server::SyncService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub use export::ExportApi;
pub use uploads::UploadApi;

use crate::carry::Carrier;
use crate::convert;
use crate::error::Error;
use crate::forward::Forwarding;
use crate::inbox::{Entry, InboxPage};
use crate::message::{Asked, Sequence};
use crate::messaging::{HistoryPage, Messaging};
use crate::receipt::Reached;
use crate::revision::{Change, Revision};
use crate::store::{Appended, Order};
use crate::stream::Feed;
use crate::sync::{EVENTS, Known, Missed};

/// How many events a list of them has when nothing is said.
const DEFAULT_EVENTS: i64 = 100;

/// The rpcs of messaging.
#[derive(Clone)]
pub struct Api {
    /// What they do.
    pub messaging: Messaging,
    /// Carries the sends of gateways.
    pub carrier: Carrier,
    /// Feeds those who follow.
    pub feed: Feed,
    /// The tasks behind streams.
    pub tasks: Tasks,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl MessagingService for Api {
    type SendMessagesStream = ReceiverStream<Result<pb::SendMessagesResponse, Status>>;

    async fn send_message(
        &self,
        request: Request<pb::SendMessageRequest>,
    ) -> Answer<pb::SendMessageResponse> {
        let caller = Caller::of(&request)?;
        let asked = Asked::parse(request.into_inner(), caller.kind, self.messaging.clock.now())?;
        let sent = self.messaging.send(caller.user_id, asked).await?;
        Ok(Response::new(convert::sent(sent)))
    }

    async fn send_messages(
        &self,
        request: Request<Streaming<pb::SendMessagesRequest>>,
    ) -> Answer<Self::SendMessagesStream> {
        Ok(Response::new(self.carrier.clone().start(request.into_inner(), &self.tasks)))
    }

    async fn get_message(&self, request: Request<pb::GetMessageRequest>) -> Answer<pb::GetMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let id = convert::message_id(&request.message_id)?;
        let message = self.messaging.message(caller.user_id, conversation, id).await?;
        let message = self.messaging.seen_by(caller.user_id, message).await?;
        Ok(Response::new(pb::GetMessageResponse { message: Some(message) }))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Answer<pb::ListMessagesResponse> {
        let viewer = Viewer::of(&request)?;
        let page = HistoryPage::try_from(request.into_inner())?;
        let page = self.messaging.history(&viewer, page).await?;
        let messages = match viewer {
            Viewer::User(caller) => self.messaging.with_viewer(caller.user_id, page.messages).await?,
            Viewer::Anonymous => page.messages.into_iter().map(pb::Message::from).collect(),
        };
        Ok(Response::new(pb::ListMessagesResponse {
            messages,
            next_page_token: page.next,
            previous_page_token: page.previous,
            head_sequence: page.head.get(),
        }))
    }

    async fn edit_message(
        &self,
        request: Request<pb::EditMessageRequest>,
    ) -> Answer<pb::EditMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let content = convert::content(request.content, caller.kind, self.messaging.clock.now())?;
        let expected_version = Some(request.expected_version).filter(|version| *version > 0);
        let change = Change::Edit { content, expected_version };
        let revision = revision(&request.conversation_id, &request.message_id, caller.user_id, change)?;
        let message = self.messaging.revise(revision).await?;
        let message = self.messaging.seen_by(caller.user_id, message).await?;
        Ok(Response::new(pb::EditMessageResponse { message: Some(message) }))
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Answer<pb::DeleteMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let change = Change::Delete(pb::DeletionReason::Deleted);
        let revision = revision(&request.conversation_id, &request.message_id, caller.user_id, change)?;
        let message = self.messaging.revise(revision).await?;
        Ok(Response::new(pb::DeleteMessageResponse { message: Some(message.into()) }))
    }

    async fn list_revisions(
        &self,
        request: Request<pb::ListRevisionsRequest>,
    ) -> Answer<pb::ListRevisionsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let (id, limit) = (convert::message_id(&request.message_id)?, page::size(request.page_size));
        let (revisions, next_page_token) =
            self.messaging.revisions(caller.user_id, conversation, id, limit, &request.page_token).await?;
        let revisions = revisions.into_iter().map(pb::Revision::from).collect();
        Ok(Response::new(pb::ListRevisionsResponse { revisions, next_page_token }))
    }

    async fn hide_message(
        &self,
        request: Request<pb::HideMessageRequest>,
    ) -> Answer<pb::HideMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let id = convert::message_id(&request.message_id)?;
        self.messaging.hide(caller.user_id, conversation, id).await?;
        Ok(Response::new(pb::HideMessageResponse {}))
    }

    async fn unsend_message(
        &self,
        request: Request<pb::UnsendMessageRequest>,
    ) -> Answer<pb::UnsendMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let change = Change::Delete(pb::DeletionReason::Unsent);
        let revision = revision(&request.conversation_id, &request.message_id, caller.user_id, change)?;
        let message = self.messaging.revise(revision).await?;
        Ok(Response::new(pb::UnsendMessageResponse { message: Some(message.into()) }))
    }

    async fn purge_messages(
        &self,
        request: Request<pb::PurgeMessagesRequest>,
    ) -> Answer<pb::PurgeMessagesResponse> {
        let caller = Caller::of(&request)?;
        let conversation = convert::conversation_id(&request.get_ref().conversation_id)?;
        let up_to = self.messaging.purge(caller.user_id, conversation).await?;
        Ok(Response::new(pb::PurgeMessagesResponse { up_to_sequence: up_to.get() }))
    }

    async fn forward_message(
        &self,
        request: Request<pb::ForwardMessageRequest>,
    ) -> Answer<pb::ForwardMessageResponse> {
        let caller = Caller::of(&request)?;
        let forwarding = Forwarding::try_from(request.into_inner())?;
        let Appended { message, repeated, .. } = self.messaging.forward(caller.user_id, forwarding).await?;
        Ok(Response::new(pb::ForwardMessageResponse { message: Some(message.into()), repeated }))
    }

    async fn advance_watermark(
        &self,
        request: Request<pb::AdvanceWatermarkRequest>,
    ) -> Answer<pb::AdvanceWatermarkResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let reached = Reached::try_from(request)?;
        let watermark = self.messaging.advance(caller.user_id, conversation, reached).await?;
        Ok(Response::new(pb::AdvanceWatermarkResponse { watermark: Some(watermark.into()) }))
    }

    async fn list_receipts(
        &self,
        request: Request<pb::ListReceiptsRequest>,
    ) -> Answer<pb::ListReceiptsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let limit = page::size(request.page_size);
        let (watermarks, next_page_token) =
            self.messaging.receipts(caller.user_id, conversation, limit, &request.page_token).await?;
        let watermarks = watermarks.into_iter().map(pb::Watermark::from).collect();
        Ok(Response::new(pb::ListReceiptsResponse { watermarks, next_page_token }))
    }

    async fn get_unread_counts(
        &self,
        request: Request<pb::GetUnreadCountsRequest>,
    ) -> Answer<pb::GetUnreadCountsResponse> {
        let caller = Caller::of(&request)?;
        let counts = self.messaging.unread_counts(caller.user_id).await?;
        let total = small(counts.values().sum());
        let mut counts: Vec<_> = counts
            .into_iter()
            .map(|(id, count)| pb::UnreadCount { conversation_id: id.to_string(), count: small(count) })
            .collect();
        counts.sort_unstable_by(|a, b| a.conversation_id.cmp(&b.conversation_id));
        Ok(Response::new(pb::GetUnreadCountsResponse { counts, total }))
    }
}

#[tonic::async_trait]
impl SyncService for Api {
    type StreamEventsStream = BoxStream<'static, Result<pb::StreamEventsResponse, Status>>;

    async fn list_inbox(&self, request: Request<pb::ListInboxRequest>) -> Answer<pb::ListInboxResponse> {
        let caller = Caller::of(&request)?;
        let page = InboxPage::from(request.into_inner());
        let (entries, next_page_token) = self.messaging.inbox(caller.user_id, &page).await?;
        let entries = self.entries(caller.user_id, entries).await?;
        Ok(Response::new(pb::ListInboxResponse { entries, next_page_token }))
    }

    async fn batch_get_inbox_entries(
        &self,
        request: Request<pb::BatchGetInboxEntriesRequest>,
    ) -> Answer<pb::BatchGetInboxEntriesResponse> {
        let caller = Caller::of(&request)?;
        let ids = request.get_ref().conversation_ids.iter();
        let invalid = |InvalidId| Error::Invalid { field: "conversation_ids", rule: "must be UUIDs" };
        let ids: Result<Vec<_>, _> = ids.map(|id| ConversationId::parse(id).map_err(invalid)).collect();
        let entries = self.messaging.inbox_entries(caller.user_id, &ids?).await?;
        let entries = self.entries(caller.user_id, entries).await?;
        Ok(Response::new(pb::BatchGetInboxEntriesResponse { entries }))
    }

    async fn list_events(&self, request: Request<pb::ListEventsRequest>) -> Answer<pb::ListEventsResponse> {
        let viewer = Viewer::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let after = Sequence::new(request.after_sequence);
        let limit = page::limit(request.limit, DEFAULT_EVENTS, EVENTS);
        let (events, head) = self.messaging.events(viewer.user_id(), conversation, after, limit).await?;
        let events = convert::events(events, &self.messaging.epoch)?;
        let epoch = self.messaging.epoch.to_string();
        Ok(Response::new(pb::ListEventsResponse { events, head_sequence: head.get(), epoch }))
    }

    async fn list_user_events(
        &self,
        request: Request<pb::ListUserEventsRequest>,
    ) -> Answer<pb::ListUserEventsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let after = Sequence::new(request.after_sequence);
        let limit = page::limit(request.limit, DEFAULT_EVENTS, EVENTS);
        let (events, head) = self.messaging.user_events(caller.user_id, after, limit).await?;
        let epoch = self.messaging.epoch.to_string();
        let events = events.into_iter().map(|event| convert::user_event(event, &epoch)).collect();
        Ok(Response::new(pb::ListUserEventsResponse { events, head_sequence: head.get(), epoch }))
    }

    async fn sync(&self, request: Request<pb::SyncRequest>) -> Answer<pb::SyncResponse> {
        let caller = Caller::of(&request)?;
        let known = Known::try_from(request.into_inner())?;
        let epoch = self.messaging.epoch.to_string();
        let missed = match self.messaging.sync(caller.user_id, &known).await? {
            Missed::Everything => {
                return Ok(Response::new(pb::SyncResponse {
                    epoch,
                    full_sync_required: true,
                    ..Default::default()
                }));
            }
            Missed::Differences(missed) => missed,
        };
        let mut differences = Vec::with_capacity(missed.conversations.len());
        for difference in missed.conversations {
            let hole = difference
                .hole
                .map(|(from, to)| pb::Hole { from_sequence: from.get(), to_sequence: to.get() });
            differences.push(pb::ConversationDifference {
                conversation_id: difference.conversation.to_string(),
                head_sequence: difference.head.get(),
                events: convert::events(difference.events, &epoch)?,
                limited: hole.is_some(),
                hole,
                watermark: Some(difference.watermark.into()),
            });
        }
        Ok(Response::new(pb::SyncResponse {
            full_sync_required: false,
            differences,
            gone_conversation_ids: missed.gone.iter().map(ToString::to_string).collect(),
            user_events: missed
                .user_events
                .into_iter()
                .map(|event| convert::user_event(event, &epoch))
                .collect(),
            user_head_sequence: missed.user_head.get(),
            next_page_token: missed.next,
            epoch,
        }))
    }

    async fn stream_events(
        &self,
        request: Request<pb::StreamEventsRequest>,
    ) -> Answer<Self::StreamEventsStream> {
        let caller = Caller::of(&request)?;
        let heads = heads(request.into_inner().heads)?;
        let stream = self.feed.open(caller.user_id, heads, &self.tasks).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn send_signal(&self, request: Request<pb::SendSignalRequest>) -> Answer<pb::SendSignalResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        self.messaging.signal(caller.user_id, conversation, request.kind()).await?;
        Ok(Response::new(pb::SendSignalResponse {}))
    }

    async fn list_heads(&self, request: Request<pb::ListHeadsRequest>) -> Answer<pb::ListHeadsResponse> {
        let request = request.into_inner();
        let parse = |id: &String| convert::conversation_id(id);
        let conversations = request.conversation_ids.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let parse = |id: &String| UserId::parse(id).map_err(|InvalidId| invalid("user_ids"));
        let users = request.user_ids.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let heads = self.messaging.heads(&conversations, &users).await?;
        let head = |(id, sequence): (ConversationId, Sequence)| pb::Head {
            conversation_id: id.to_string(),
            sequence: sequence.get(),
        };
        let user = |(id, sequence): (UserId, Sequence)| pb::UserHead {
            user_id: id.to_string(),
            sequence: sequence.get(),
        };
        Ok(Response::new(pb::ListHeadsResponse {
            epoch: self.messaging.epoch.to_string(),
            conversations: heads.conversations.into_iter().map(head).collect(),
            users: heads.users.into_iter().map(user).collect(),
        }))
    }

    async fn create_stream_checkpoint(
        &self,
        request: Request<pb::CreateStreamCheckpointRequest>,
    ) -> Answer<pb::CreateStreamCheckpointResponse> {
        let caller = Caller::of(&request)?;
        let pb::CreateStreamCheckpointRequest { checkpoint_id, positions } = request.into_inner();
        let id = convert::checkpoint_id(&checkpoint_id)?;
        self.messaging.create_stream_checkpoint(caller.user_id, id, &positions).await?;
        Ok(Response::new(pb::CreateStreamCheckpointResponse {}))
    }

    async fn get_stream_checkpoint(
        &self,
        request: Request<pb::GetStreamCheckpointRequest>,
    ) -> Answer<pb::GetStreamCheckpointResponse> {
        let caller = Caller::of(&request)?;
        let id = convert::checkpoint_id(&request.into_inner().checkpoint_id)?;
        let positions = self.messaging.stream_checkpoint(caller.user_id, id).await?.unwrap_or_default();
        Ok(Response::new(pb::GetStreamCheckpointResponse { positions }))
    }
}

impl Api {
    /// Entries of the inbox as the wire shows them to their user.
    async fn entries(&self, user: UserId, entries: Vec<Entry>) -> Result<Vec<pb::InboxEntry>, Error> {
        let last_messages = entries.iter().filter_map(|entry| entry.last_message.as_ref());
        let viewer = self.messaging.viewer(user, last_messages).await?;
        let entries = entries.into_iter().map(|entry| pb::InboxEntry {
            conversation: Some(entry.conversation),
            last_message: entry.last_message.map(|message| viewer.show(message)),
            unread_count: small(entry.unread),
            watermark: Some(entry.place.watermark.into()),
            head_sequence: entry.place.head.get(),
        });
        Ok(entries.collect())
    }
}

fn revision(conversation: &str, message: &str, by: UserId, change: Change) -> Result<Revision, Error> {
    let (conversation, message_id) = (convert::conversation_id(conversation)?, convert::message_id(message)?);
    Ok(Revision { conversation, message_id, by, change, mentions: Vec::new(), is_signed: false })
}

impl TryFrom<pb::ListMessagesRequest> for HistoryPage {
    type Error = Error;

    fn try_from(request: pb::ListMessagesRequest) -> Result<Self, Error> {
        Ok(Self {
            conversation: convert::conversation_id(&request.conversation_id)?,
            order: match request.order() {
                pb::Order::Unspecified | pb::Order::NewestFirst => Order::NewestFirst,
                pb::Order::OldestFirst => Order::OldestFirst,
            },
            after: Sequence::new(request.after_sequence),
            before: match request.before_sequence {
                0 => Sequence::END,
                before => Sequence::new(before),
            },
            exclude_tombstones: request.exclude_tombstones,
            start: instant("start_time", request.start_time.as_ref())?,
            end: instant("end_time", request.end_time.as_ref())?,
            limit: page::size(request.page_size),
            token: request.page_token,
        })
    }
}

impl From<pb::ListInboxRequest> for InboxPage {
    fn from(request: pb::ListInboxRequest) -> Self {
        let (filter, limit) = (request.filter(), page::size(request.page_size));
        let kinds: BTreeSet<_> = request.kinds().collect();
        let kinds = kinds.into_iter().collect();
        Self { filter, keyword: request.keyword, kinds, limit, token: request.page_token }
    }
}

impl TryFrom<pb::SyncRequest> for Known {
    type Error = Error;

    fn try_from(request: pb::SyncRequest) -> Result<Self, Error> {
        Ok(Self {
            epoch: request.epoch,
            heads: heads(request.heads)?,
            user_sequence: Sequence::new(request.user_sequence),
            only_listed: request.only_listed,
            token: request.page_token,
        })
    }
}

fn heads(heads: Vec<pb::Head>) -> Result<Vec<(ConversationId, Sequence)>, Error> {
    let head =
        |head: pb::Head| Ok((convert::conversation_id(&head.conversation_id)?, Sequence::new(head.sequence)));
    heads.into_iter().map(head).collect()
}

/// A time as a bound of times that are stored to the millisecond: the first of them that is not before it.
fn instant(field: &'static str, time: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Error> {
    let Some(time) = time else { return Ok(None) };
    let cut = Timestamp::from_proto(time)
        .ok_or(Error::Invalid { field, rule: "must be a time in years 1 to 9999" })?;
    let is_between = time.nanos % 1_000_000 != 0;
    Ok(Some(cut.plus(Duration::from_millis(u64::from(is_between)))))
}

fn small(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn invalid(field: &'static str) -> Error {
    Error::Invalid { field, rule: "must be UUIDs" }
}
