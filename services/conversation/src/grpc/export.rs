//! Everything there is about a person, page by page, so that an export of any size takes the memory of one page.

use chassis::caller::Caller;
use chassis::export::{self, Archive, Piece};
use proto::conversation::v1 as pb;
use proto::conversation::v1::export_service_server::ExportService;
use proto::id::UserId;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Grpc;
use crate::conversations::Conversations;
use crate::convert::contacts;
use crate::paging::Page;
use crate::request::{Direction, Filter, Kind};

/// As many rows are read at once.
const ROWS: i64 = 100;

#[tonic::async_trait]
impl ExportService for Grpc {
    type ExportUserDataStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::ExportUserDataResponse, Status>> + Send>>;

    async fn export_user_data(
        &self,
        request: Request<pb::ExportUserDataRequest>,
    ) -> Result<Response<Self::ExportUserDataStream>, Status> {
        let caller = Caller::of(&request)?;
        let conversations = self.conversations.clone();
        let pieces = export::stream(
            |Piece { path, data }| pb::ExportUserDataResponse { path, data },
            move |archive| write(conversations, caller.user_id, archive),
        );
        Ok(Response::new(Box::pin(pieces)))
    }
}

async fn write(conversations: Conversations, user: UserId, mut archive: Archive) -> Result<(), Status> {
    archive.lines("conversation/conversations.ndjson").await?;
    let mut page = Page { after: None, limit: ROWS };
    loop {
        let paged = conversations.list(user, page).await?;
        for view in paged.items {
            archive.line("parlor.conversation.v1.Conversation", &pb::Conversation::from(view)).await?;
        }
        let Some(next) = paged.next else { break };
        page.after = Some(next);
    }

    archive.lines("conversation/connections.ndjson").await?;
    let mut page = Page { after: None, limit: ROWS };
    loop {
        let paged = conversations.connections(user, page).await?;
        for place in paged.items {
            archive.line("parlor.conversation.v1.UserConnection", &contacts::connection(place)).await?;
        }
        let Some(next) = paged.next else { break };
        page.after = Some(next);
    }

    archive.lines("conversation/requests.ndjson").await?;
    for kind in [Kind::Connection, Kind::Message] {
        let filter = Filter { kind, direction: Direction::Both, state: None };
        let mut page = Page { after: None, limit: ROWS };
        loop {
            let paged = conversations.requests(user, filter, page).await?;
            for request in paged.items {
                archive.line("parlor.conversation.v1.Request", &pb::Request::from(request)).await?;
            }
            let Some(next) = paged.next else { break };
            page.after = Some(next);
        }
    }

    archive.lines("conversation/blocks.ndjson").await?;
    let mut page = Page { after: None, limit: ROWS };
    loop {
        let paged = conversations.blocks(user, page).await?;
        for place in paged.items {
            archive.line("parlor.conversation.v1.Block", &contacts::block(place)).await?;
        }
        let Some(next) = paged.next else { break };
        page.after = Some(next);
    }

    let privacy = pb::Privacy::from(conversations.privacy(user).await?);
    archive.json("conversation/privacy.json", "parlor.conversation.v1.Privacy", &privacy).await?;
    for presence in conversations.presences(user, &[user]).await? {
        let presence = pb::Presence::from(presence);
        archive.json("conversation/presence.json", "parlor.conversation.v1.Presence", &presence).await?;
    }
    archive.finish().await
}
