//! Compares what a client has with the logs, and reads them.

use std::collections::{HashMap, HashSet};

use proto::gateway::v1::Subscribe;
use proto::id::ConversationId;
use proto::messaging::v1::{
    ConversationDifference, Event, Head, ListEventsRequest, ListUserEventsRequest, SyncRequest, UserEvent,
};
use tonic::{Code, Status};

use super::{PAUSE, Resume};

/// How many entries one call reads.
const PAGE: i32 = 200;

/// How many logs one call compares.
const HEADS: usize = 1_000;

/// So many entries of the comparison are kept until it is their turn; what is beyond is read from the log then.
const KEPT: usize = 2_000;

/// How often a read is tried, and how long to wait in between.
const TRIES: u32 = 5;

/// What the comparison of heads has found out.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) epoch: String,
    pub(super) full_sync_required: bool,
    pub(super) differences: HashMap<ConversationId, (i64, Vec<Event>)>,
    pub(super) gone: HashSet<ConversationId>,
    pub(super) user_events: Vec<UserEvent>,
    pub(super) user_head: i64,
    /// How many entries it holds, or has held.
    pub(super) kept: usize,
}

impl Resume {
    /// Compares what the client has with the logs, a thousand of them with one call unless there is much to tell.
    pub(super) async fn compare(
        &self,
        request: &Subscribe,
        wanted: &HashMap<ConversationId, i64>,
    ) -> Result<Compared, Status> {
        let head =
            |(id, known): (&ConversationId, &i64)| Head { conversation_id: id.to_string(), sequence: *known };
        let heads: Vec<Head> = wanted.iter().map(head).collect();
        let mut compared = Compared::default();
        // Without any head there is still the user's own log.
        let mut chunks = heads.chunks(HEADS).map(<[Head]>::to_vec).collect::<Vec<_>>();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        let mut user_sequence = request.user_sequence;
        for heads in chunks {
            let sync = SyncRequest {
                epoch: request.epoch.clone(),
                heads,
                user_sequence,
                only_listed: true,
                page_token: String::new(),
            };
            self.compare_some(sync, &mut compared).await?;
            if compared.full_sync_required {
                break;
            }
            // Told once.
            user_sequence = 0;
        }
        Ok(compared)
    }

    pub(super) async fn compare_some(
        &self,
        mut sync: SyncRequest,
        compared: &mut Compared,
    ) -> Result<(), Status> {
        loop {
            let answer = self
                .realtime
                .upstream()
                .clients()
                .sync()
                .sync(self.request(sync.clone()))
                .await?
                .into_inner();
            self.hub().saw(&answer.epoch);
            if answer.full_sync_required {
                compared.full_sync_required = true;
                return Ok(());
            }
            compared.epoch = answer.epoch;
            compared.user_head = compared.user_head.max(answer.user_head_sequence);
            if sync.user_sequence > 0 {
                compared.user_events.extend(answer.user_events);
            }
            let gone = answer.gone_conversation_ids.iter().filter_map(|id| ConversationId::parse(id).ok());
            compared.gone.extend(gone);
            for ConversationDifference { conversation_id, head_sequence, mut events, .. } in
                answer.differences
            {
                let Ok(id) = ConversationId::parse(&conversation_id) else { continue };
                compared.kept += events.len();
                if compared.kept > KEPT {
                    events = Vec::new();
                }
                compared.differences.insert(id, (head_sequence, events));
            }
            if answer.next_page_token.is_empty() {
                return Ok(());
            }
            sync.page_token = answer.next_page_token;
        }
    }

    pub(super) async fn events(
        &self,
        conversation: ConversationId,
        after_sequence: i64,
    ) -> Result<(Vec<Event>, i64), Status> {
        let conversation_id = conversation.to_string();
        let request = ListEventsRequest { conversation_id, after_sequence, limit: PAGE };
        let mut tries = 0;
        loop {
            match self.realtime.upstream().clients().sync().list_events(self.request(request.clone())).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok((answer.events, answer.head_sequence));
                }
                Err(status) => self.pause(&mut tries, status).await?,
            }
        }
    }

    pub(super) async fn user_events(&self, after_sequence: i64) -> Result<(Vec<UserEvent>, i64), Status> {
        let request = ListUserEventsRequest { after_sequence, limit: PAGE };
        let mut tries = 0;
        loop {
            match self.realtime.upstream().clients().sync().list_user_events(self.request(request)).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok((answer.events, answer.head_sequence));
                }
                Err(status) => self.pause(&mut tries, status).await?,
            }
        }
    }

    /// Waits before the next try, or gives up.
    pub(super) async fn pause(&self, tries: &mut u32, status: Status) -> Result<(), Status> {
        *tries += 1;
        let may_pass =
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted);
        if !may_pass || *tries == TRIES {
            return Err(status);
        }
        tokio::time::sleep(PAUSE * *tries).await;
        Ok(())
    }
}
