//! The rpc that hands somebody all that is kept about them.

use std::pin::Pin;

use chassis::caller::Caller;
use chassis::export::{self, Archive, Piece};
use proto::auth::v1 as pb;
use proto::auth::v1::export_service_server::ExportService;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert;
use crate::review::Whose;

/// How many reviews are read at once.
const PAGE: i64 = 100;

#[tonic::async_trait]
impl ExportService for Api {
    type ExportUserDataStream =
        Pin<Box<dyn Stream<Item = Result<pb::ExportUserDataResponse, Status>> + Send>>;

    async fn export_user_data(
        &self,
        request: Request<pb::ExportUserDataRequest>,
    ) -> Result<Response<Self::ExportUserDataStream>, Status> {
        let caller = Caller::of(&request)?;
        self.accounts.prove_owner_or_recent(&caller, None).await?;
        tracing::info!(user.id = %caller.user_id, "exports the data of user {}", caller.user_id);
        let api = self.clone();
        let pieces = export::stream(
            |Piece { path, data }| pb::ExportUserDataResponse { path, data },
            move |archive| async move { api.write_all(&caller, archive).await },
        );
        Ok(Response::new(pieces))
    }
}

impl Api {
    async fn write_all(&self, caller: &Caller, mut archive: Archive) -> Result<(), Status> {
        let user = convert::own_user(self.users.own(caller).await?);
        archive.json("auth/user.json", "parlor.auth.v1.User", &user).await?;
        let sessions = self.sessions.list(caller).await?.into_iter();
        let sessions = sessions.map(|session| convert::session(session, caller.session_id)).collect();
        let sessions = pb::ListSessionsResponse { sessions };
        archive.json("auth/sessions.json", "parlor.auth.v1.ListSessionsResponse", &sessions).await?;
        let keys = self.users.keys_of(caller.user_id).await?;
        let keys = pb::ListDeviceKeysResponse { device_keys: keys.into_iter().map(Into::into).collect() };
        archive.json("auth/device_keys.json", "parlor.auth.v1.ListDeviceKeysResponse", &keys).await?;
        let linked = self.doors.providers.linked(caller).await?;
        let linked = pb::ListLinkedProvidersResponse { linked: linked.into_iter().map(Into::into).collect() };
        let name = "parlor.auth.v1.ListLinkedProvidersResponse";
        archive.json("auth/linked_providers.json", name, &linked).await?;
        archive.lines("auth/background_checks.ndjson").await?;
        for check in self.doors.checks.all(caller).await? {
            archive.line("parlor.auth.v1.BackgroundCheck", &pb::BackgroundCheck::from(check)).await?;
        }
        archive.lines("auth/reviews_written.ndjson").await?;
        self.write_reviews(Whose::By(caller.user_id), &mut archive).await?;
        archive.lines("auth/reviews_received.ndjson").await?;
        self.write_reviews(Whose::About(caller.user_id), &mut archive).await?;
        archive.finish().await
    }

    async fn write_reviews(&self, whose: Whose, archive: &mut Archive) -> Result<(), Status> {
        let mut before = None;
        loop {
            let page = self.reviews.page(whose, before, PAGE).await?;
            before = page.reviews.last().map(|review| review.place());
            for review in page.reviews {
                archive.line("parlor.auth.v1.Review", &pb::Review::from(review)).await?;
            }
            if !page.has_more {
                return Ok(());
            }
        }
    }
}
