//! The rpcs of searching.

use std::collections::BTreeSet;

use chassis::caller::Caller;
use chassis::clock::Timestamp;
use chassis::page;
use proto::id::{InvalidId, UserId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::search_service_server::SearchService;
use tonic::Request;

use super::{Answer, Api, Response};
use crate::convert;
use crate::error::Error;
use crate::search::Wanted;

#[tonic::async_trait]
impl SearchService for Api {
    async fn search_messages(
        &self,
        request: Request<pb::SearchMessagesRequest>,
    ) -> Answer<pb::SearchMessagesResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let wanted = Wanted::try_from(&request)?;
        let limit = page::size(request.page_size);
        let (messages, next_page_token) =
            self.messaging.search(caller.user_id, &wanted, limit, &request.page_token).await?;
        let messages = messages.into_iter().map(pb::Message::from).collect();
        Ok(Response::new(pb::SearchMessagesResponse { messages, next_page_token }))
    }
}

impl TryFrom<&pb::SearchMessagesRequest> for Wanted {
    type Error = Error;

    fn try_from(request: &pb::SearchMessagesRequest) -> Result<Self, Error> {
        let conversation = match request.conversation_id.as_str() {
            "" => None,
            id => Some(convert::conversation_id(id)?),
        };
        let sender = match request.sender_id.as_str() {
            "" => None,
            id => Some(
                UserId::parse(id)
                    .map_err(|InvalidId| Error::Invalid { field: "sender_id", rule: "must be a UUID" })?,
            ),
        };
        let kinds: BTreeSet<_> = request.kinds().collect();
        let after = time("after_time", request.after_time.as_ref())?;
        let before = time("before_time", request.before_time.as_ref())?;
        Ok(Self::parse(&request.query, sender, kinds)?.within(conversation).between(after, before))
    }
}

fn time(field: &'static str, time: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Error> {
    let read = |time| {
        Timestamp::from_proto(time).ok_or(Error::Invalid { field, rule: "must be a time in years 1 to 9999" })
    };
    time.map(read).transpose()
}
