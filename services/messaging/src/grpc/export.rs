//! The rpc by which a person takes along what there is about it.

use chassis::caller::Caller;
use chassis::export::Piece;
use futures_util::stream::{BoxStream, TryStreamExt as _};
use proto::messaging::v1 as pb;
use proto::messaging::v1::export_service_server::ExportService;
use tonic::{Request, Response, Status};

use super::Answer;
use crate::export::Exporter;

/// The rpcs of exports.
#[derive(Clone)]
pub struct ExportApi {
    /// What they do.
    pub exporter: Exporter,
}

#[tonic::async_trait]
impl ExportService for ExportApi {
    type ExportUserDataStream = BoxStream<'static, Result<pb::ExportUserDataResponse, Status>>;

    async fn export_user_data(
        &self,
        request: Request<pb::ExportUserDataRequest>,
    ) -> Answer<Self::ExportUserDataStream> {
        let caller = Caller::of(&request)?;
        let pieces = self.exporter.export(caller.user_id);
        let pieces = pieces.map_ok(|Piece { path, data }| pb::ExportUserDataResponse { path, data });
        Ok(Response::new(Box::pin(pieces)))
    }
}
