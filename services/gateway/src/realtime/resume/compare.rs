//! The comparison of a client's positions with the logs.

use std::collections::{HashMap, HashSet};

use proto::gateway::v1::Subscribe;
use proto::id::ConversationId;
use proto::messaging::v1::{ConversationDifference, Event, Head, SyncRequest, UserEvent};
use tonic::Status;

use super::Resume;

/// The maximum number of logs that one call compares.
const HEADS: usize = 1_000;

/// The number of entries of the comparison that are kept until they are sent; further ones are read from the log then.
const KEPT: usize = 2_000;

/// The result of the comparison of heads.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) epoch: String,
    pub(super) full_sync_required: bool,
    pub(super) differences: HashMap<ConversationId, (i64, Vec<Event>)>,
    pub(super) gone: HashSet<ConversationId>,
    pub(super) user_events: Vec<UserEvent>,
    pub(super) user_head: i64,
    /// The number of entries that it holds, or has held.
    pub(super) kept: usize,
}

impl Resume {
    /// Compares the client's positions with the logs, a thousand with one call unless many entries are missing.
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
            // Reported once.
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
                .log
                .realtime
                .upstream()
                .clients()
                .sync()
                .sync(self.log.request(sync.clone()))
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
}
