//! The services behind the gateway, each rpc in a few lines.

use std::pin::Pin;

use chassis::clock::Clock;
use futures_util::{Stream, StreamExt};
use prost::Message as _;
use proto::auth::v1 as auth;
use proto::conversation::v1 as conversation;
use proto::id::UserId;
use proto::messaging::v1 as messaging;
use proto::messaging::v1::{notice, send_outcome};
use proto::scheduling::v1 as scheduling;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::backend::{Backend, Reply, not_found, parse};

/// Implements a service: what is given, and a refusal for the rest.
macro_rules! service {
    ($trait:path { $($real:tt)* } absent { $($name:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $trait for Backend {
            $($real)*
            $(async fn $name(&self, _: Request<$request>) -> Reply<$response> {
                Err(Status::unimplemented("not in this world"))
            })*
        }
    };
}

service!(auth::auth_service_server::AuthService {
    async fn introspect(&self, request: Request<auth::IntrospectRequest>) -> Reply<auth::IntrospectResponse> {
        self.asked("Introspect");
        let facts = self.facts();
        let now = Clock::system().now();
        let expires = facts.sessions_last.map_or(i64::MAX, |span| now.plus(span).as_millis());
        let caller = facts.sessions.get(&request.get_ref().session_token).map(|(user, session)| auth::CallerInfo {
            user_id: user.to_string(),
            session_id: session.to_string(),
            kind: auth::UserKind::Registered.into(),
            expire_millis: expires,
        });
        Ok(Response::new(auth::IntrospectResponse { caller }))
    }

    async fn redeem_stream_ticket(
        &self,
        request: Request<auth::RedeemStreamTicketRequest>,
    ) -> Reply<auth::RedeemStreamTicketResponse> {
        self.asked("RedeemStreamTicket");
        let auth::RedeemStreamTicketRequest { ticket, stream_key } = request.into_inner();
        let nothing = || Ok(Response::new(auth::RedeemStreamTicketResponse::default()));
        let mut facts = self.facts();
        let Some((token, bound)) = facts.tickets.get_mut(&ticket) else { return nothing() };
        let key = match bound {
            Some(key) if *key != stream_key => return nothing(),
            bound => bound.get_or_insert_with(|| vec![7; 16]).clone(),
        };
        let token = token.clone();
        let Some((user, session)) = facts.sessions.get(&token) else { return nothing() };
        let caller = Some(auth::CallerInfo {
            user_id: user.to_string(),
            session_id: session.to_string(),
            kind: auth::UserKind::Registered.into(),
            expire_millis: i64::MAX,
        });
        Ok(Response::new(auth::RedeemStreamTicketResponse { caller, stream_key: key }))
    }
} absent {
    create_stream_ticket(auth::CreateStreamTicketRequest) -> auth::CreateStreamTicketResponse;
    register(auth::RegisterRequest) -> auth::RegisterResponse;
    login(auth::LoginRequest) -> auth::LoginResponse;
    login_as_guest(auth::LoginAsGuestRequest) -> auth::LoginAsGuestResponse;
    refresh_session(auth::RefreshSessionRequest) -> auth::RefreshSessionResponse;
    logout(auth::LogoutRequest) -> auth::LogoutResponse;
    list_sessions(auth::ListSessionsRequest) -> auth::ListSessionsResponse;
    revoke_session(auth::RevokeSessionRequest) -> auth::RevokeSessionResponse;
    change_password(auth::ChangePasswordRequest) -> auth::ChangePasswordResponse;
    suggest_credentials(auth::SuggestCredentialsRequest) -> auth::SuggestCredentialsResponse;
    list_providers(auth::ListProvidersRequest) -> auth::ListProvidersResponse;
    login_with_provider(auth::LoginWithProviderRequest) -> auth::LoginWithProviderResponse;
    link_provider(auth::LinkProviderRequest) -> auth::LinkProviderResponse;
    list_linked_providers(auth::ListLinkedProvidersRequest) -> auth::ListLinkedProvidersResponse;
    unlink_provider(auth::UnlinkProviderRequest) -> auth::UnlinkProviderResponse;
    login_as_external_account(auth::LoginAsExternalAccountRequest) -> auth::LoginAsExternalAccountResponse;
    list_external_accounts(auth::ListExternalAccountsRequest) -> auth::ListExternalAccountsResponse;
    list_user_facts(auth::ListUserFactsRequest) -> auth::ListUserFactsResponse;
});

service!(conversation::conversation_service_server::ConversationService {
    async fn get_conversation(
        &self,
        request: Request<conversation::GetConversationRequest>,
    ) -> Reply<conversation::GetConversationResponse> {
        let user = self.who(&request)?;
        let id = parse(&request.get_ref().conversation_id);
        let facts = self.facts();
        let found = facts.conversations.get(&id).filter(|found| found.members.contains(&user));
        let found = found.ok_or_else(not_found)?;
        let conversation = conversation::Conversation {
            conversation_id: id.to_string(),
            member_count: found.members.len() as i32,
            membership_version: found.version,
            ..conversation::Conversation::default()
        };
        Ok(Response::new(conversation::GetConversationResponse { conversation: Some(conversation) }))
    }

    async fn check_access(
        &self,
        request: Request<conversation::CheckAccessRequest>,
    ) -> Reply<conversation::CheckAccessResponse> {
        self.asked("CheckAccess");
        let facts = self.facts();
        let answer = |question: &conversation::AccessQuestion| {
            let user = UserId::parse(&question.user_id).expect("a user");
            let conversation = facts.conversations.get(&parse(&question.conversation_id));
            let is_in = conversation.is_some_and(|conversation| conversation.members.contains(&user));
            let may_read = is_in || conversation.is_some_and(|conversation| conversation.public_read);
            conversation::Access {
                exists: conversation.is_some(),
                visible: may_read,
                may_read,
                may_write: is_in,
                membership_version: conversation.map_or(0, |conversation| conversation.version),
                ..conversation::Access::default()
            }
        };
        let answers = request.get_ref().questions.iter().map(answer).collect();
        Ok(Response::new(conversation::CheckAccessResponse { answers }))
    }

    async fn list_memberships(
        &self,
        request: Request<conversation::ListMembershipsRequest>,
    ) -> Reply<conversation::ListMembershipsResponse> {
        self.asked("ListMemberships");
        let user = UserId::parse(&request.get_ref().user_id).expect("a user");
        let facts = self.facts();
        let of_user = facts.conversations.iter().filter(|(_, conversation)| conversation.members.contains(&user));
        let memberships: Vec<_> = of_user
            .map(|(id, _)| conversation::Membership { conversation_id: id.to_string(), ..Default::default() })
            .collect();
        let version = facts.users.get(&user).map_or(1, |log| log.len() as i64 + 1);
        let unchanged = request.get_ref().known_version == version;
        let memberships = if unchanged { Vec::new() } else { memberships };
        Ok(Response::new(conversation::ListMembershipsResponse { version, unchanged, memberships }))
    }
} absent {
    create_conversation(conversation::CreateConversationRequest) -> conversation::CreateConversationResponse;
    list_conversations(conversation::ListConversationsRequest) -> conversation::ListConversationsResponse;
    update_conversation(conversation::UpdateConversationRequest) -> conversation::UpdateConversationResponse;
    delete_conversation(conversation::DeleteConversationRequest) -> conversation::DeleteConversationResponse;
    join_conversation(conversation::JoinConversationRequest) -> conversation::JoinConversationResponse;
    leave_conversation(conversation::LeaveConversationRequest) -> conversation::LeaveConversationResponse;
    add_members(conversation::AddMembersRequest) -> conversation::AddMembersResponse;
    remove_member(conversation::RemoveMemberRequest) -> conversation::RemoveMemberResponse;
    list_members(conversation::ListMembersRequest) -> conversation::ListMembersResponse;
    set_member_role(conversation::SetMemberRoleRequest) -> conversation::SetMemberRoleResponse;
    transfer_ownership(conversation::TransferOwnershipRequest) -> conversation::TransferOwnershipResponse;
    ban_member(conversation::BanMemberRequest) -> conversation::BanMemberResponse;
    unban_member(conversation::UnbanMemberRequest) -> conversation::UnbanMemberResponse;
    list_bans(conversation::ListBansRequest) -> conversation::ListBansResponse;
    batch_get_conversations(conversation::BatchGetConversationsRequest) -> conversation::BatchGetConversationsResponse;
    list_conversation_facts(conversation::ListConversationFactsRequest) -> conversation::ListConversationFactsResponse;
    open_message_request(conversation::OpenMessageRequestRequest) -> conversation::OpenMessageRequestResponse;
});

service!(conversation::presence_service_server::PresenceService {
    async fn report_presence(
        &self,
        request: Request<conversation::ReportPresenceRequest>,
    ) -> Reply<conversation::ReportPresenceResponse> {
        let mut facts = self.facts();
        facts.reports.push(request.into_inner());
        let restate = std::mem::take(&mut facts.forget_who_is_here);
        Ok(Response::new(conversation::ReportPresenceResponse { restate }))
    }
} absent {
    get_presence(conversation::GetPresenceRequest) -> conversation::GetPresenceResponse;
    list_online_members(conversation::ListOnlineMembersRequest) -> conversation::ListOnlineMembersResponse;
});

service!(messaging::messaging_service_server::MessagingService {
    type SendMessagesStream = Pin<Box<dyn Stream<Item = Result<messaging::SendMessagesResponse, Status>> + Send>>;

    async fn send_messages(
        &self,
        request: Request<Streaming<messaging::SendMessagesRequest>>,
    ) -> Reply<Self::SendMessagesStream> {
        self.asked("SendMessages");
        let (backend, mut incoming) = (self.clone(), request.into_inner());
        let (outgoing, outcomes) = tokio::sync::mpsc::channel(16);
        let serve = async move {
            while let Ok(Some(batch)) = incoming.message().await {
                for send in batch.sends {
                    let takes = backend.facts().send_takes;
                    tokio::time::sleep(takes).await;
                    let breaks = {
                        let mut facts = backend.facts();
                        let breaks = facts.break_streams > 0;
                        facts.break_streams = facts.break_streams.saturating_sub(1);
                        breaks
                    };
                    let outcome = backend.send(&send.session_token, send.request.unwrap_or_default());
                    if breaks {
                        return;
                    }
                    let outcome = match outcome {
                        Ok(response) => send_outcome::Outcome::Response(response),
                        Err(status) => send_outcome::Outcome::Status(status.details().to_vec()),
                    };
                    let outcome = messaging::SendOutcome { ticket: send.ticket, outcome: Some(outcome) };
                    let _ = outgoing.send(Ok(messaging::SendMessagesResponse { outcomes: vec![outcome] })).await;
                }
            }
        };
        let running = tokio::task::JoinSet::from_iter([serve]);
        let stream = ReceiverStream::new(outcomes);
        let stream = futures_util::stream::unfold((stream, running), |(mut stream, running)| async move {
            stream.next().await.map(|item| (item, (stream, running)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn advance_watermark(
        &self,
        request: Request<messaging::AdvanceWatermarkRequest>,
    ) -> Reply<messaging::AdvanceWatermarkResponse> {
        let user_id = self.who(&request)?.to_string();
        let request = request.into_inner();
        let watermark = messaging::Watermark {
            user_id,
            conversation_id: request.conversation_id.clone(),
            delivered_sequence: request.read_sequence.max(request.delivered_sequence),
            read_sequence: request.read_sequence,
            ..Default::default()
        };
        let subject = proto::subject::conversation(parse(&request.conversation_id));
        self.hint(&subject, notice::Notice::Receipt(watermark.clone()));
        Ok(Response::new(messaging::AdvanceWatermarkResponse { watermark: Some(watermark) }))
    }
} absent {
    send_message(messaging::SendMessageRequest) -> messaging::SendMessageResponse;
    get_message(messaging::GetMessageRequest) -> messaging::GetMessageResponse;
    list_messages(messaging::ListMessagesRequest) -> messaging::ListMessagesResponse;
    edit_message(messaging::EditMessageRequest) -> messaging::EditMessageResponse;
    delete_message(messaging::DeleteMessageRequest) -> messaging::DeleteMessageResponse;
    list_receipts(messaging::ListReceiptsRequest) -> messaging::ListReceiptsResponse;
    get_unread_counts(messaging::GetUnreadCountsRequest) -> messaging::GetUnreadCountsResponse;
    list_revisions(messaging::ListRevisionsRequest) -> messaging::ListRevisionsResponse;
    hide_message(messaging::HideMessageRequest) -> messaging::HideMessageResponse;
    unsend_message(messaging::UnsendMessageRequest) -> messaging::UnsendMessageResponse;
    purge_messages(messaging::PurgeMessagesRequest) -> messaging::PurgeMessagesResponse;
    forward_message(messaging::ForwardMessageRequest) -> messaging::ForwardMessageResponse;
});

/// As few as this, so that tests see pages and holes.
const SYNC_EVENTS: usize = 20;

service!(messaging::sync_service_server::SyncService {
    type StreamEventsStream = Pin<Box<dyn Stream<Item = Result<messaging::StreamEventsResponse, Status>> + Send>>;

    async fn list_events(&self, request: Request<messaging::ListEventsRequest>) -> Reply<messaging::ListEventsResponse> {
        self.asked("ListEvents");
        let viewer = self.viewer(&request)?;
        let request = request.into_inner();
        let facts = self.facts();
        let conversation = facts.conversations.get(&parse(&request.conversation_id));
        let conversation = conversation.filter(|found| {
            found.public_read || viewer.is_some_and(|user| found.members.contains(&user))
        });
        let conversation = conversation.ok_or_else(not_found)?;
        let after = conversation.events.iter().filter(|event| event.sequence > request.after_sequence);
        Ok(Response::new(messaging::ListEventsResponse {
            events: after.take(request.limit.clamp(1, 200) as usize).cloned().collect(),
            head_sequence: conversation.events.len() as i64,
            epoch: facts.epoch.clone(),
        }))
    }

    async fn list_user_events(
        &self,
        request: Request<messaging::ListUserEventsRequest>,
    ) -> Reply<messaging::ListUserEventsResponse> {
        let user = self.who(&request)?;
        let request = request.into_inner();
        let facts = self.facts();
        let log = facts.users.get(&user).cloned().unwrap_or_default();
        let head_sequence = log.len() as i64;
        let after = log.into_iter().filter(|event| event.sequence > request.after_sequence);
        let events = after.take(request.limit.clamp(1, 200) as usize).collect();
        Ok(Response::new(messaging::ListUserEventsResponse { events, head_sequence, epoch: facts.epoch.clone() }))
    }

    async fn sync(&self, request: Request<messaging::SyncRequest>) -> Reply<messaging::SyncResponse> {
        self.asked("Sync");
        let user = self.who(&request)?;
        let request = request.into_inner();
        let facts = self.facts();
        let mut response = messaging::SyncResponse { epoch: facts.epoch.clone(), ..Default::default() };
        let knows_something = request.user_sequence > 0 || request.heads.iter().any(|head| head.sequence > 0);
        if request.epoch != facts.epoch && (knows_something || !request.epoch.is_empty()) {
            response.full_sync_required = true;
            return Ok(Response::new(response));
        }
        for head in &request.heads {
            let conversation = facts.conversations.get(&parse(&head.conversation_id));
            let Some(conversation) = conversation.filter(|one| one.members.contains(&user)) else {
                response.gone_conversation_ids.push(head.conversation_id.clone());
                continue;
            };
            let missed: Vec<_> =
                conversation.events.iter().filter(|event| event.sequence > head.sequence).cloned().collect();
            if missed.is_empty() {
                continue;
            }
            let limited = missed.len() > SYNC_EVENTS;
            response.differences.push(messaging::ConversationDifference {
                conversation_id: head.conversation_id.clone(),
                head_sequence: conversation.events.len() as i64,
                events: missed[missed.len().saturating_sub(SYNC_EVENTS)..].to_vec(),
                limited,
                ..Default::default()
            });
        }
        let log = facts.users.get(&user).cloned().unwrap_or_default();
        response.user_head_sequence = log.len() as i64;
        response.user_events = log.into_iter().filter(|event| event.sequence > request.user_sequence).collect();
        response.user_events.truncate(SYNC_EVENTS);
        Ok(Response::new(response))
    }

    async fn stream_events(&self, _: Request<messaging::StreamEventsRequest>) -> Reply<Self::StreamEventsStream> {
        Err(Status::unimplemented("not in this world"))
    }

    async fn send_signal(&self, request: Request<messaging::SendSignalRequest>) -> Reply<messaging::SendSignalResponse> {
        let user_id = self.who(&request)?.to_string();
        let request = request.into_inner();
        let subject = proto::subject::conversation(parse(&request.conversation_id));
        let signal = messaging::Signal { conversation_id: request.conversation_id, user_id, kind: request.kind };
        self.hint(&subject, notice::Notice::Signal(signal));
        Ok(Response::new(messaging::SendSignalResponse {}))
    }

    async fn list_heads(&self, request: Request<messaging::ListHeadsRequest>) -> Reply<messaging::ListHeadsResponse> {
        self.asked("ListHeads");
        let request = request.into_inner();
        let facts = self.facts();
        let conversations = request.conversation_ids.iter().filter_map(|id| {
            let sequence = facts.conversations.get(&parse(id))?.events.len() as i64;
            (sequence > 0).then(|| messaging::Head { conversation_id: id.clone(), sequence })
        });
        let users = request.user_ids.iter().filter_map(|id| {
            let sequence = facts.users.get(&UserId::parse(id).ok()?)?.len() as i64;
            Some(messaging::UserHead { user_id: id.clone(), sequence })
        });
        Ok(Response::new(messaging::ListHeadsResponse {
            epoch: facts.epoch.clone(),
            conversations: conversations.collect(),
            users: users.collect(),
        }))
    }

    async fn create_stream_checkpoint(
        &self,
        request: Request<messaging::CreateStreamCheckpointRequest>,
    ) -> Reply<messaging::CreateStreamCheckpointResponse> {
        let user = self.who(&request)?;
        let request = request.into_inner();
        if self.facts().keep_no_checkpoints {
            return Err(Status::unavailable("not now"));
        }
        self.asked("CreateStreamCheckpoint");
        self.facts().checkpoints.insert((user, request.checkpoint_id), request.positions);
        Ok(Response::new(messaging::CreateStreamCheckpointResponse {}))
    }

    async fn get_stream_checkpoint(
        &self,
        request: Request<messaging::GetStreamCheckpointRequest>,
    ) -> Reply<messaging::GetStreamCheckpointResponse> {
        self.asked("GetStreamCheckpoint");
        let key = (self.who(&request)?, request.into_inner().checkpoint_id);
        let positions = self.facts().checkpoints.get(&key).cloned().unwrap_or_default();
        Ok(Response::new(messaging::GetStreamCheckpointResponse { positions }))
    }
} absent {
    list_inbox(messaging::ListInboxRequest) -> messaging::ListInboxResponse;
    batch_get_inbox_entries(messaging::BatchGetInboxEntriesRequest) -> messaging::BatchGetInboxEntriesResponse;
});

service!(scheduling::call_service_server::CallService {
    type StreamCallsStream = Pin<Box<dyn Stream<Item = Result<scheduling::StreamCallsResponse, Status>> + Send>>;

    async fn relay_signal(
        &self,
        request: Request<scheduling::RelaySignalRequest>,
    ) -> Reply<scheduling::RelaySignalResponse> {
        let from_user_id = self.who(&request)?.to_string();
        let request = request.into_inner();
        let takes = self.facts().signals_take.pop_front().unwrap_or_default();
        tokio::time::sleep(takes).await;
        // In this world everybody calls oneself.
        let user = UserId::parse(&from_user_id).expect("a user");
        let signal = scheduling::CallSignal {
            call_id: request.call_id,
            from_user_id,
            to_session_id: String::new(),
            payload: request.payload,
        };
        let event = Some(scheduling::call_event::Event::Signal(signal));
        let payload = scheduling::CallEvent { event }.encode_to_vec();
        self.events.publish(&proto::subject::calls(user), payload.into());
        Ok(Response::new(scheduling::RelaySignalResponse {}))
    }

    async fn report_devices(
        &self,
        request: Request<scheduling::ReportDevicesRequest>,
    ) -> Reply<scheduling::ReportDevicesResponse> {
        self.facts().devices.push(request.into_inner());
        Ok(Response::new(scheduling::ReportDevicesResponse {}))
    }

    async fn stream_calls(&self, _: Request<scheduling::StreamCallsRequest>) -> Reply<Self::StreamCallsStream> {
        Err(Status::unimplemented("not in this world"))
    }
} absent {
    start_call(scheduling::StartCallRequest) -> scheduling::StartCallResponse;
    accept_call(scheduling::AcceptCallRequest) -> scheduling::AcceptCallResponse;
    reject_call(scheduling::RejectCallRequest) -> scheduling::RejectCallResponse;
    end_call(scheduling::EndCallRequest) -> scheduling::EndCallResponse;
    mark_call_connected(scheduling::MarkCallConnectedRequest) -> scheduling::MarkCallConnectedResponse;
    mark_call_disconnected(scheduling::MarkCallDisconnectedRequest) -> scheduling::MarkCallDisconnectedResponse;
    get_call(scheduling::GetCallRequest) -> scheduling::GetCallResponse;
    list_calls(scheduling::ListCallsRequest) -> scheduling::ListCallsResponse;
});
