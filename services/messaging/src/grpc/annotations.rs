//! Reactions, pins and votes over the wire.

use chassis::caller::Caller;
use chassis::clock::Timestamp;
use chassis::page;
use proto::messaging::v1 as pb;
use proto::messaging::v1::annotation_service_server::AnnotationService;
use tonic::{Request, Response};

use super::{Answer, Api, revision};
use crate::annotations::MarksPage;
use crate::convert;
use crate::emoji::Emoji;
use crate::error::Error;
use crate::marks::{Choice, Mark, Reaction, Vote};
use crate::revision::Change;

#[tonic::async_trait]
impl AnnotationService for Api {
    async fn add_reaction(
        &self,
        request: Request<pb::AddReactionRequest>,
    ) -> Answer<pb::AddReactionResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mark = Mark::React(emoji(&request.emoji)?);
        let message = self.mark(&caller, &request.conversation_id, &request.message_id, mark).await?;
        Ok(Response::new(pb::AddReactionResponse { message: Some(message) }))
    }

    async fn remove_reaction(
        &self,
        request: Request<pb::RemoveReactionRequest>,
    ) -> Answer<pb::RemoveReactionResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mark = Mark::Unreact(emoji(&request.emoji)?);
        let message = self.mark(&caller, &request.conversation_id, &request.message_id, mark).await?;
        Ok(Response::new(pb::RemoveReactionResponse { message: Some(message) }))
    }

    async fn list_reactions(
        &self,
        request: Request<pb::ListReactionsRequest>,
    ) -> Answer<pb::ListReactionsResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let of = (request.conversation_id.as_str(), request.message_id.as_str());
        let page = marks_page(of, request.page_size, request.page_token)?;
        let (reactions, next_page_token) = self.messaging.reactions(caller.user_id, page).await?;
        let reactions = reactions.into_iter().map(pb::Reaction::from).collect();
        Ok(Response::new(pb::ListReactionsResponse { reactions, next_page_token }))
    }

    async fn pin_message(&self, request: Request<pb::PinMessageRequest>) -> Answer<pb::PinMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let message = self.mark(&caller, &request.conversation_id, &request.message_id, Mark::Pin).await?;
        Ok(Response::new(pb::PinMessageResponse { message: Some(message) }))
    }

    async fn unpin_message(
        &self,
        request: Request<pb::UnpinMessageRequest>,
    ) -> Answer<pb::UnpinMessageResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let message = self.mark(&caller, &request.conversation_id, &request.message_id, Mark::Unpin).await?;
        Ok(Response::new(pb::UnpinMessageResponse { message: Some(message) }))
    }

    async fn list_pinned_messages(
        &self,
        request: Request<pb::ListPinnedMessagesRequest>,
    ) -> Answer<pb::ListPinnedMessagesResponse> {
        let caller = Caller::of(&request)?;
        let conversation = convert::conversation_id(&request.get_ref().conversation_id)?;
        let messages = self.messaging.pinned(caller.user_id, conversation).await?;
        let messages = self.messaging.with_viewer(caller.user_id, messages).await?;
        Ok(Response::new(pb::ListPinnedMessagesResponse { messages }))
    }

    async fn vote_poll(&self, request: Request<pb::VotePollRequest>) -> Answer<pb::VotePollResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mark = Mark::Vote(Choice::parse(request.option_indexes)?);
        let message = self.mark(&caller, &request.conversation_id, &request.message_id, mark).await?;
        Ok(Response::new(pb::VotePollResponse { message: Some(message) }))
    }

    async fn list_votes(&self, request: Request<pb::ListVotesRequest>) -> Answer<pb::ListVotesResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let of = (request.conversation_id.as_str(), request.message_id.as_str());
        let page = marks_page(of, request.page_size, request.page_token)?;
        let (votes, next_page_token) = self.messaging.votes(caller.user_id, page).await?;
        let votes = votes.into_iter().map(pb::Vote::from).collect();
        Ok(Response::new(pb::ListVotesResponse { votes, next_page_token }))
    }

    async fn close_poll(&self, request: Request<pb::ClosePollRequest>) -> Answer<pb::ClosePollResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let message =
            self.mark(&caller, &request.conversation_id, &request.message_id, Mark::ClosePoll).await?;
        Ok(Response::new(pb::ClosePollResponse { message: Some(message) }))
    }
}

impl Api {
    /// The message after a mark, as the caller sees it.
    async fn mark(
        &self,
        caller: &Caller,
        conversation: &str,
        message: &str,
        mark: Mark,
    ) -> Result<pb::Message, Error> {
        let revision = revision(conversation, message, caller.user_id, Change::Mark(mark))?;
        let message = self.messaging.revise(revision).await?;
        self.messaging.seen_by(caller.user_id, message).await
    }
}

fn marks_page((conversation, message): (&str, &str), size: i32, token: String) -> Result<MarksPage, Error> {
    let conversation = convert::conversation_id(conversation)?;
    let message_id = convert::message_id(message)?;
    Ok(MarksPage { conversation, message_id, limit: page::size(size), token })
}

fn emoji(text: &str) -> Result<Emoji, Error> {
    Emoji::parse(text).map_err(|rule| Error::Invalid { field: "emoji", rule })
}

impl From<Reaction> for pb::Reaction {
    fn from(reaction: Reaction) -> Self {
        Self {
            user_id: reaction.user.to_string(),
            emoji: reaction.emoji,
            create_time: Some(Timestamp::to_proto(reaction.create_time)),
        }
    }
}

impl From<Vote> for pb::Vote {
    fn from(vote: Vote) -> Self {
        Self { user_id: vote.user.to_string(), option_indexes: vote.places }
    }
}
