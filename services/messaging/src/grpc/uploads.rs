//! The rpcs of files: identify, parse, call, render.

use chassis::caller::Caller;
use chassis::tasks::Tasks;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use proto::id::{InvalidId, UploadId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::upload_service_server::UploadService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::error::Error;
use crate::uploads::{Plan, Upload, Uploads};

/// The rpcs of files.
#[derive(Clone)]
pub struct UploadApi {
    /// What they do.
    pub uploads: Uploads,
    /// The tasks behind streams.
    pub tasks: Tasks,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl UploadService for UploadApi {
    type WriteUploadStream = ReceiverStream<Result<pb::WriteUploadResponse, Status>>;
    type ReadUploadStream = BoxStream<'static, Result<pb::ReadUploadResponse, Status>>;

    async fn create_upload(
        &self,
        request: Request<pb::CreateUploadRequest>,
    ) -> Answer<pb::CreateUploadResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let plan = Plan::parse(request.name, &request.media_type, request.size)?;
        let (upload, way) = self.uploads.create(&caller, plan).await?;
        Ok(Response::new(pb::CreateUploadResponse {
            upload: Some(upload.into()),
            upload_url: way.url,
            ticket: way.ticket,
            expire_time: Some(way.expire_time.to_proto()),
        }))
    }

    async fn get_upload(&self, request: Request<pb::GetUploadRequest>) -> Answer<pb::GetUploadResponse> {
        let caller = Caller::of(&request)?;
        let id = upload_id(&request.into_inner().upload_id)?;
        let (upload, way) = self.uploads.get(&caller, id).await?;
        let mut response = pb::GetUploadResponse { upload: Some(upload.into()), ..Default::default() };
        if let Some(way) = way {
            (response.download_url, response.ticket) = (way.url, way.ticket);
            response.expire_time = Some(way.expire_time.to_proto());
        }
        Ok(Response::new(response))
    }

    async fn write_upload(
        &self,
        request: Request<Streaming<pb::WriteUploadRequest>>,
    ) -> Answer<Self::WriteUploadStream> {
        let (sender, receiver) = mpsc::channel(1);
        let (uploads, pieces) = (self.uploads.clone(), request.into_inner());
        // A task of its own: it removes what it has written also when the caller has gone away in the middle.
        self.tasks.spawn("upload", |shutdown| async move {
            let written = tokio::select! {
                written = write(uploads, pieces) => written,
                () = shutdown.wait() => Err(Error::Unavailable("messaging").into()),
            };
            let response = written.map(|upload| pb::WriteUploadResponse { upload: Some(upload.into()) });
            // Who does not wait any more finds out with `GetUpload`.
            let _ = sender.send(response).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read_upload(&self, request: Request<pb::ReadUploadRequest>) -> Answer<Self::ReadUploadStream> {
        let request = request.into_inner();
        let id = upload_id(&request.upload_id)?;
        let [offset, length] = [request.offset, request.length].map(|n| u64::try_from(n).unwrap_or_default());
        let (upload, pieces) = self.uploads.read(id, &request.ticket, offset, length).await?;
        let first = pb::ReadUploadResponse { upload: Some(upload.into()), ..Default::default() };
        let pieces = pieces.map(|piece| match piece {
            Ok(data) => Ok(pb::ReadUploadResponse { data: data.into(), ..Default::default() }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(stream::once(async { Ok(first) }).chain(pieces).boxed()))
    }
}

async fn write(uploads: Uploads, mut pieces: Streaming<pb::WriteUploadRequest>) -> Result<Upload, Status> {
    let first = uploads.first(pieces.message()).await??.unwrap_or_default();
    let id = upload_id(&first.upload_id)?;
    // A stream that breaks off is one with fewer bytes than were said.
    let rest = pieces.map(move |piece| match piece {
        Ok(piece) => Ok(piece.data.into()),
        Err(_) => Err(Error::UploadIncomplete(id)),
    });
    let bytes = stream::once(async { Ok(first.data.into()) }).chain(rest);
    Ok(uploads.write(id, &first.ticket, bytes).await?)
}

fn upload_id(text: &str) -> Result<UploadId, Error> {
    UploadId::parse(text).map_err(|InvalidId| Error::Invalid { field: "upload_id", rule: "must be a UUID" })
}

impl From<Upload> for pb::Upload {
    fn from(upload: Upload) -> Self {
        Self {
            upload_id: upload.upload_id.to_string(),
            user_id: upload.user.to_string(),
            name: upload.name,
            media_type: upload.media_type,
            size: upload.size,
            complete: upload.bytes.is_some(),
            create_time: Some(upload.create_time.to_proto()),
            sha256: upload.bytes.map(|bytes| bytes.sha256.to_vec()).unwrap_or_default(),
        }
    }
}
