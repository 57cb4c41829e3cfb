//! The rpcs of auth: identify, parse, call, render.

mod background_checks;
mod export;
mod interests;
mod otp;
mod reviews;

use std::sync::Arc;

use chassis::caller::{Caller, ClientNetwork, Viewer};
use chassis::database::facts::History;
use chassis::facts::event_id;
use proto::auth::v1 as pb;
use proto::auth::v1::auth_service_server::AuthService;
use proto::auth::v1::user_service_server::UserService;
use tonic::{Request, Response, Status};

use crate::accounts::Accounts;
use crate::convert::providers;
use crate::convert::{self, ExternalQuery, ListQuery};
use crate::device_key::{KeyName, PublicKey};
use crate::doors::Doors;
use crate::password::Password;
use crate::reviews::Reviews;
use crate::sessions::Sessions;
use crate::users::Users;

/// The rpcs of all services.
#[derive(Clone, Debug)]
pub struct Api {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// Users.
    pub users: Arc<Users>,
    /// Reviews.
    pub reviews: Arc<Reviews>,
    /// The further doors.
    pub doors: Arc<Doors>,
}

#[tonic::async_trait]
impl AuthService for Api {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let signed_in = self.doors.register(request.into_inner().try_into()?, from).await?;
        Ok(Response::new(signed_in.into()))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Result<Response<pb::LoginResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let signing_in = request.into_inner().try_into()?;
        let signed_in = self.accounts.sign_in(signing_in, from).await?;
        Ok(Response::new(signed_in.into()))
    }

    async fn login_as_guest(
        &self,
        request: Request<pb::LoginAsGuestRequest>,
    ) -> Result<Response<pb::LoginAsGuestResponse>, Status> {
        let entry = request.into_inner().try_into()?;
        let signed_in = self.accounts.enter_as_guest(entry).await?;
        Ok(Response::new(signed_in.into()))
    }

    async fn login_as_external_account(
        &self,
        request: Request<pb::LoginAsExternalAccountRequest>,
    ) -> Result<Response<pb::LoginAsExternalAccountResponse>, Status> {
        let login = request.into_inner().try_into()?;
        let entered = self.accounts.login_external(&login).await?;
        Ok(Response::new(entered.into()))
    }

    async fn list_external_accounts(
        &self,
        request: Request<pb::ListExternalAccountsRequest>,
    ) -> Result<Response<pb::ListExternalAccountsResponse>, Status> {
        let query = ExternalQuery::try_from(request.into_inner())?;
        let page = self.users.list_external(&query.namespace, query.after, query.limit).await?;
        Ok(Response::new(query.answer(page)))
    }

    async fn refresh_session(
        &self,
        request: Request<pb::RefreshSessionRequest>,
    ) -> Result<Response<pb::RefreshSessionResponse>, Status> {
        let grant = self.sessions.refresh(&request.into_inner().session_token).await?;
        Ok(Response::new(pb::RefreshSessionResponse { grant: Some(grant.into()) }))
    }

    async fn logout(
        &self,
        request: Request<pb::LogoutRequest>,
    ) -> Result<Response<pb::LogoutResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.sessions.sign_out(&caller).await?;
        Ok(Response::new(pb::LogoutResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let sessions = self.sessions.list(&caller).await?;
        let sessions =
            sessions.into_iter().map(|session| convert::session(session, caller.session_id)).collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions }))
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<pb::RevokeSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::session_id("session_id", &request.into_inner().session_id)?;
        self.sessions.end(&caller, id).await?;
        Ok(Response::new(pb::RevokeSessionResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<pb::ChangePasswordResponse>, Status> {
        let caller = Caller::of(&request)?;
        let pb::ChangePasswordRequest { old_password, new_password } = request.into_inner();
        let (old, new) = (Password::presented(&old_password), Password::presented(&new_password));
        self.accounts.change_password(&caller, old, new).await?;
        Ok(Response::new(pb::ChangePasswordResponse {}))
    }

    async fn suggest_credentials(
        &self,
        _request: Request<pb::SuggestCredentialsRequest>,
    ) -> Result<Response<pb::SuggestCredentialsResponse>, Status> {
        let suggestion = self.accounts.suggest().await?;
        Ok(Response::new(suggestion.into()))
    }

    async fn list_providers(
        &self,
        _request: Request<pb::ListProvidersRequest>,
    ) -> Result<Response<pb::ListProvidersResponse>, Status> {
        let providers = self.doors.providers.list().iter().map(|one| (&one.config).into()).collect();
        Ok(Response::new(pb::ListProvidersResponse { providers }))
    }

    async fn login_with_provider(
        &self,
        request: Request<pb::LoginWithProviderRequest>,
    ) -> Result<Response<pb::LoginWithProviderResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let entry = request.into_inner().try_into()?;
        let signed_in = self.doors.providers.sign_in(entry, from).await?;
        Ok(Response::new(signed_in.into()))
    }

    async fn link_provider(
        &self,
        request: Request<pb::LinkProviderRequest>,
    ) -> Result<Response<pb::LinkProviderResponse>, Status> {
        let caller = Caller::of(&request)?;
        let pb::LinkProviderRequest { provider, id_token, nonce, password } = request.into_inner();
        let (nonce, password) = (providers::nonce(nonce), Password::presented(&password));
        let link =
            self.doors.providers.link(&caller, &provider, &id_token, nonce.as_deref(), password).await?;
        Ok(Response::new(pb::LinkProviderResponse { linked: Some(link.into()) }))
    }

    async fn list_linked_providers(
        &self,
        request: Request<pb::ListLinkedProvidersRequest>,
    ) -> Result<Response<pb::ListLinkedProvidersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let links = self.doors.providers.linked(&caller).await?;
        let linked = links.into_iter().map(pb::LinkedProvider::from).collect();
        Ok(Response::new(pb::ListLinkedProvidersResponse { linked }))
    }

    async fn unlink_provider(
        &self,
        request: Request<pb::UnlinkProviderRequest>,
    ) -> Result<Response<pb::UnlinkProviderResponse>, Status> {
        let caller = Caller::of(&request)?;
        let pb::UnlinkProviderRequest { provider, password } = request.into_inner();
        self.doors.providers.unlink(&caller, &provider, Password::presented(&password)).await?;
        Ok(Response::new(pb::UnlinkProviderResponse {}))
    }

    async fn introspect(
        &self,
        request: Request<pb::IntrospectRequest>,
    ) -> Result<Response<pb::IntrospectResponse>, Status> {
        let identified = self.sessions.identify(&request.into_inner().session_token).await?;
        Ok(Response::new(pb::IntrospectResponse { caller: identified.map(pb::CallerInfo::from) }))
    }

    async fn create_stream_ticket(
        &self,
        request: Request<pb::CreateStreamTicketRequest>,
    ) -> Result<Response<pb::CreateStreamTicketResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (ticket, expire_time) = self.sessions.create_stream_ticket(&caller).await?;
        let expire_time = Some(expire_time.to_proto());
        Ok(Response::new(pb::CreateStreamTicketResponse { ticket: ticket.text(), expire_time }))
    }

    async fn redeem_stream_ticket(
        &self,
        request: Request<pb::RedeemStreamTicketRequest>,
    ) -> Result<Response<pb::RedeemStreamTicketResponse>, Status> {
        let pb::RedeemStreamTicketRequest { ticket, stream_key } = request.into_inner();
        let redeemed = self.sessions.redeem_stream_ticket(&ticket, &stream_key).await?;
        Ok(Response::new(convert::redeemed(redeemed)))
    }

    async fn list_user_facts(
        &self,
        request: Request<pb::ListUserFactsRequest>,
    ) -> Result<Response<pb::ListUserFactsResponse>, Status> {
        let pb::ListUserFactsRequest { after_position, limit } = request.into_inner();
        let facts = self.users.facts_after(after_position, convert::fact_limit(limit)).await?;
        let facts = facts.into_iter().map(convert::fact).collect::<Result<_, _>>()?;
        let History { epoch, head, fact } = self.users.history(after_position).await?;
        Ok(Response::new(pb::ListUserFactsResponse {
            facts,
            epoch,
            head_position: head,
            after_event_id: fact.map(|fact| event_id(&fact)).unwrap_or_default(),
        }))
    }
}

#[tonic::async_trait]
impl UserService for Api {
    async fn get_me(
        &self,
        request: Request<pb::GetMeRequest>,
    ) -> Result<Response<pb::GetMeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let user = self.users.own(&caller).await?;
        Ok(Response::new(pb::GetMeResponse { user: Some(convert::own_user(user)) }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let viewer = self.users.viewer(&Viewer::of(&request)?);
        let id = convert::user_id("user_id", &request.into_inner().user_id)?;
        let view = self.users.get(&viewer, id).await?;
        Ok(Response::new(pb::GetUserResponse { user: Some(view.into()) }))
    }

    async fn batch_get_users(
        &self,
        request: Request<pb::BatchGetUsersRequest>,
    ) -> Result<Response<pb::BatchGetUsersResponse>, Status> {
        let viewer = self.users.viewer(&Viewer::of(&request)?);
        let (ids, names) = convert::users(request.get_ref())?;
        let views = self.users.get_all(&viewer, &ids, &names).await?;
        let users = views.into_iter().map(pb::User::from).collect();
        Ok(Response::new(pb::BatchGetUsersResponse { users }))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let viewer = self.users.viewer(&Viewer::User(caller.clone()));
        let query = ListQuery::parse(&caller, request.into_inner(), viewer.today)?;
        let page = self.users.list(&viewer, &query.listing).await?;
        Ok(Response::new(query.answer(page)))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let caller = Caller::of(&request)?;
        let password = Password::presented(&request.get_ref().password);
        let changes = request.into_inner().try_into()?;
        let user = self.users.update(&caller, &changes, password).await?;
        Ok(Response::new(pb::UpdateUserResponse { user: Some(convert::own_user(user)) }))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let caller = Caller::of(&request)?;
        let password = Password::presented(&request.into_inner().password);
        self.accounts.delete(&caller, password).await?;
        Ok(Response::new(pb::DeleteUserResponse {}))
    }

    async fn register_device_key(
        &self,
        request: Request<pb::RegisterDeviceKeyRequest>,
    ) -> Result<Response<pb::RegisterDeviceKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let public_key = PublicKey::parse(&request.get_ref().public_key)?;
        let name = KeyName::parse(&request.get_ref().name)?;
        let password = request.into_inner().password;
        let password = (!password.is_empty()).then(|| Password::presented(&password));
        let key = self.users.register_key(&caller, public_key, name, password).await?;
        Ok(Response::new(pb::RegisterDeviceKeyResponse { device_key: Some(key.into()) }))
    }

    async fn list_device_keys(
        &self,
        request: Request<pb::ListDeviceKeysRequest>,
    ) -> Result<Response<pb::ListDeviceKeysResponse>, Status> {
        let id = convert::user_id("user_id", &request.into_inner().user_id)?;
        let keys = self.users.keys_of(id).await?;
        let device_keys = keys.into_iter().map(pb::DeviceKey::from).collect();
        Ok(Response::new(pb::ListDeviceKeysResponse { device_keys }))
    }

    async fn revoke_device_key(
        &self,
        request: Request<pb::RevokeDeviceKeyRequest>,
    ) -> Result<Response<pb::RevokeDeviceKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::device_key_id(&request.into_inner().device_key_id)?;
        let key = self.users.revoke_key(&caller, id).await?;
        Ok(Response::new(pb::RevokeDeviceKeyResponse { device_key: Some(key.into()) }))
    }
}
