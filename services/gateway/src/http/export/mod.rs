//! The export of a user's own data as one archive: the data that each service keeps about the caller, put into a ZIP
//! file while it passes through. The gateway collects nothing: each piece is packed, sent and dropped.
//!
//! An archive that breaks off in the middle has no directory at its end, so it cannot be mistaken for a complete one.

mod archive;
mod described;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::caller::unauthenticated;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use http::header::{self, HeaderValue};
use proto::{auth, conversation, messaging, scheduling};
use tonic::{Response as Answer, Status, Streaming};

pub(crate) use described::described;

use crate::config::Config;
use crate::http::authorization::bearer;
use crate::http::error::Problem;
use crate::upstream::Upstream;
use crate::upstream::clients::OnBehalf;
use archive::Archive;

/// The path of the archive.
pub(crate) const PATH: &str = "/v1/me/export";

/// The headers of the archive.
const HEAD: [(header::HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/zip")),
    (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"parlor-export.zip\"")),
];

/// The route of the archive.
pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Upstream: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    Router::new().route(PATH, get(export))
}

async fn export(
    State(upstream): State<Upstream>,
    State(config): State<Arc<Config>>,
    request: Request,
) -> Result<Response, Problem> {
    let token = bearer(request.headers()).ok_or_else(unauthenticated)?;
    upstream.verifier().verify(token).await?.ok_or_else(unauthenticated)?;
    let on_behalf = OnBehalf::of_token(token, config.request_timeout);
    // All sources are opened before the first byte: a refusal is then answered with an error that gives the reason.
    let sources = open(&upstream, &on_behalf).await?;
    Ok((HEAD, Body::from_stream(packed(sources))).into_response())
}

/// A piece of a file of the archive.
struct Piece {
    path: String,
    data: Vec<u8>,
}

type Source = BoxStream<'static, Result<Piece, Status>>;

/// Opens the exports of the services about the caller.
async fn open(upstream: &Upstream, on_behalf: &OnBehalf) -> Result<VecDeque<Source>, Status> {
    let clients = upstream.clients();
    let (mut auth, mut conversation) = (clients.auth_export(), clients.conversation_export());
    let (mut messaging, mut scheduling) = (clients.messaging_export(), clients.scheduling_export());
    let (auth, conversation, messaging, scheduling) = tokio::try_join!(
        auth.export_user_data(on_behalf.request(auth::v1::ExportUserDataRequest {})),
        conversation.export_user_data(on_behalf.request(conversation::v1::ExportUserDataRequest {})),
        messaging.export_user_data(on_behalf.request(messaging::v1::ExportUserDataRequest {})),
        scheduling.export_user_data(on_behalf.request(scheduling::v1::ExportUserDataRequest {})),
    )?;
    Ok(VecDeque::from([
        source(auth, |piece: auth::v1::ExportUserDataResponse| (piece.path, piece.data)),
        source(conversation, |piece: conversation::v1::ExportUserDataResponse| (piece.path, piece.data)),
        source(messaging, |piece: messaging::v1::ExportUserDataResponse| (piece.path, piece.data)),
        source(scheduling, |piece: scheduling::v1::ExportUserDataResponse| (piece.path, piece.data)),
    ]))
}

fn source<T: Send + 'static>(answer: Answer<Streaming<T>>, read: fn(T) -> (String, Vec<u8>)) -> Source {
    let pieces = answer.into_inner().map_ok(move |answer| {
        let (path, data) = read(answer);
        Piece { path, data }
    });
    pieces.boxed()
}

/// Returns the bytes of the archive. An error ends it at that point.
fn packed(sources: VecDeque<Source>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let packing = Packing { sources, archive: Some(Archive::default()) };
    stream::try_unfold(packing, |mut packing| async move {
        let bytes = packing.next().await?;
        Ok(bytes.map(|bytes| (bytes, packing)))
    })
}

struct Packing {
    sources: VecDeque<Source>,
    /// `None` once it is finished.
    archive: Option<Archive>,
}

impl Packing {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some(archive) = &mut self.archive else { return Ok(None) };
            let Some(source) = self.sources.front_mut() else {
                let archive = self.archive.take().unwrap_or_default();
                return archive.finish().map(Some);
            };
            match source.next().await {
                None => drop(self.sources.pop_front()),
                Some(Ok(piece)) => {
                    archive.add(&piece.path, &piece.data)?;
                    let bytes = archive.take();
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(status)) => {
                    tracing::warn!(code = ?status.code(), "an export breaks off: {}", status.message());
                    return Err(io::Error::other("the export breaks off"));
                }
            }
        }
    }
}
