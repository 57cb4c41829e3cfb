//! The bytes of files: no JSON, no session, and as long as they take. What they need is the ticket in their address, which
//! `CreateUpload` and `GetUpload` give out.

mod described;
mod range;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, MatchedPath, Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::fault::Fault;
use chassis::transport::as_service;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use proto::gateway::v1::ErrorReason;
use proto::messaging::v1 as pb;
use tonic::{Code, Status, Streaming};

pub(crate) use described::described;

use crate::config::Config;
use crate::http::error::Problem;
use crate::http::etag;
use crate::http::middleware::client_ip::ClientAddress;
use crate::json;
use crate::upstream::Upstream;
use range::{Asked, Part};

/// Where the bytes of a file come and go.
pub(crate) const PATH: &str = "/v1/uploads/{upload_id}/content";

/// How long the next bytes from a client may take to come. Messaging, whose settings say how slowly all of them may come,
/// sees only what has come.
const SILENCE: Duration = Duration::from_secs(30);

/// The largest piece of a file in one message to messaging.
const PIECE: usize = 256 * 1024;

/// Nothing in a file runs, loads anything or is shown in a frame, whatever a browser takes it for.
const POLICY: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");

/// What a browser keeps it shows only after it has asked whether it still may.
const CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The route of the bytes.
pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Upstream: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    let refuse = || async { Problem::method_not_allowed(&[Method::GET, Method::HEAD, Method::PUT]) };
    Router::new().route(PATH, get(download).put(upload).fallback(refuse))
}

/// Whether a request brings bytes: it may take longer than others, as long as they come.
pub(crate) fn is_upload(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    request.method() == Method::PUT && path.is_some_and(|path| path.as_str() == PATH)
}

async fn upload(
    State(upstream): State<Upstream>,
    State(config): State<Arc<Config>>,
    Path(upload_id): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let ticket = ticket(query.as_deref())?;
    let address = request.extensions().get().map(|ClientAddress(address)| *address);
    let max = config.max_upload_bytes;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > max) {
        return Err(Problem::body_too_large(max));
    }

    let broken = Arc::new(OnceLock::new());
    let first = pb::WriteUploadRequest { upload_id, ticket, ..Default::default() };
    let bytes = pieces(request.into_body(), max, broken.clone());
    let rest = bytes.map(|data| pb::WriteUploadRequest { data: data.into(), ..Default::default() });
    let written = async {
        let requests = stream::once(async { first }).chain(rest);
        let requests = as_service(requests, upstream.clients().credential(), None);
        let mut answers = upstream.clients().uploads().write_upload(requests).await?.into_inner();
        answers.message().await?.ok_or_else(|| Status::from(Fault::unavailable("messaging")))
    };
    let written = written.await;
    // What went wrong on the way here is what messaging would be asked about in vain.
    if let Some(problem) = broken.get() {
        return Err(Problem::clone(problem));
    }
    let written = written.map_err(|status| refused(&upstream, address, status).without_the_rest())?;
    let json = json::typed_to_json("parlor.messaging.v1.WriteUploadResponse", &written)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// The bytes of a body in pieces. Ends early when there are too many, or when they stay away, and says so.
fn pieces(
    body: Body,
    max: usize,
    broken: Arc<OnceLock<Problem>>,
) -> impl Stream<Item = bytes::Bytes> + Send + 'static {
    let state = (body.into_data_stream(), max);
    let chunks = stream::unfold(state, move |(mut body, left)| {
        let broken = broken.clone();
        async move {
            let problem = match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(chunk))) => match left.checked_sub(chunk.len()) {
                    Some(left) => return Some((chunk, (body, left))),
                    None => Problem::body_too_large(max),
                },
                Ok(Some(Err(_))) => {
                    let reason = ErrorReason::InvalidField.as_str_name();
                    Fault::new(Code::InvalidArgument, reason).message("the body breaks off").into()
                }
                Err(_) => too_slow(),
            };
            let _ = broken.set(problem);
            None
        }
    });
    chunks.flat_map(|mut chunk| {
        stream::iter(std::iter::from_fn(move || {
            (!chunk.is_empty()).then(|| chunk.split_to(PIECE.min(chunk.len())))
        }))
    })
}

/// The bytes stay away.
fn too_slow() -> Problem {
    let fault = Fault::new(Code::DeadlineExceeded, pb::ErrorReason::UploadTooSlow.as_str_name())
        .message(format!("no bytes have come for {} s", SILENCE.as_secs()));
    Problem::from(fault).without_the_rest()
}

async fn download(
    State(upstream): State<Upstream>,
    Path(upload_id): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let address = request.extensions().get().map(|ClientAddress(address)| *address);
    let wanted = Wanted { upstream: &upstream, upload_id, ticket: ticket(query.as_deref())? };
    let answer = wanted.answer(request.headers()).await;
    answer.map_err(|refusal| match refusal {
        Refusal::Status(status) => refused(&upstream, address, status),
        Refusal::Problem(problem) => *problem,
    })
}

/// Why there are no bytes.
enum Refusal {
    /// Messaging says so.
    Status(Status),
    /// We do.
    Problem(Box<Problem>),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Which file somebody wants to have.
struct Wanted<'a> {
    upstream: &'a Upstream,
    upload_id: String,
    ticket: String,
}

impl Wanted<'_> {
    async fn answer(&self, headers: &HeaderMap) -> Result<Response, Refusal> {
        let asked = Asked::of(headers);
        let asked = match (asked, headers.get(header::IF_RANGE)) {
            (Some(asked), Some(known)) => {
                let (file, _) = self.open(0, 1).await?;
                // The part of another file is of no use: then all of it.
                Some(asked).filter(|_| *known == etag(&file))
            }
            (asked, _) => asked,
        };
        let (offset, length) = match asked {
            None => (0, 0),
            Some(Asked::From(first)) => (first, 0),
            Some(Asked::Between(first, last)) => (first, (last - first).saturating_add(1)),
            Some(Asked::Last(count)) => {
                let (file, _) = self.open(0, 1).await?;
                (u64::try_from(file.size).unwrap_or_default().saturating_sub(count), 0)
            }
        };
        let (file, bytes) = self.open(offset, length).await?;
        let size = u64::try_from(file.size).unwrap_or_default();
        let part = asked.map(|asked| asked.within(size).ok_or(size)).transpose();
        let part = part.map_err(|size| Refusal::Problem(Box::new(Problem::range_not_satisfiable(size))))?;
        if etag::is_known(headers, &etag(&file)) {
            return Ok((StatusCode::NOT_MODIFIED, head(&file)).into_response());
        }
        let mut head = head(&file);
        let (status, length) = match part {
            None => (StatusCode::OK, size),
            Some(Part { first, last }) => {
                head.insert(header::CONTENT_RANGE, text(format!("bytes {first}-{last}/{size}")));
                (StatusCode::PARTIAL_CONTENT, last - first + 1)
            }
        };
        head.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        Ok((status, head, Body::from_stream(bytes)).into_response())
    }

    /// What the file is, and its bytes from an offset on, all or so many.
    async fn open(
        &self,
        offset: u64,
        length: u64,
    ) -> Result<(pb::Upload, BoxStream<'static, Result<bytes::Bytes, Status>>), Status> {
        let request = pb::ReadUploadRequest {
            upload_id: self.upload_id.clone(),
            ticket: self.ticket.clone(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            length: i64::try_from(length).unwrap_or(i64::MAX),
        };
        let clients = self.upstream.clients();
        let request = as_service(request, clients.credential(), None);
        let mut answers: Streaming<pb::ReadUploadResponse> =
            clients.uploads().read_upload(request).await?.into_inner();
        let first = answers.message().await?.unwrap_or_default();
        let file = first.upload.ok_or_else(|| Status::from(Fault::unavailable("messaging")))?;
        let bytes = answers.map(|answer| answer.map(|answer| bytes::Bytes::from(answer.data)));
        Ok((file, bytes.boxed()))
    }
}

/// The ticket in the address.
fn ticket(query: Option<&str>) -> Result<String, Fault> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let found = pairs.into_iter().find(|(name, _)| name == "ticket");
    let found = found.map(|(_, value)| value.into_owned()).filter(|ticket| !ticket.is_empty());
    found.ok_or_else(|| Fault::invalid("ticket", "must be set"))
}

/// What messaging says to somebody who has nothing but a ticket: who tries tickets is slowed down.
fn refused(upstream: &Upstream, address: Option<std::net::IpAddr>, status: Status) -> Problem {
    match address {
        Some(address) if status.code() == Code::PermissionDenied => {
            upstream.limits().anonymous(address).err().map_or_else(|| status.into(), Problem::from)
        }
        _ => status.into(),
    }
}

/// The headers that say what a file is, and keep a browser from making anything else of it.
fn head(file: &pb::Upload) -> HeaderMap {
    let kind = file.media_type.split('/').next().unwrap_or_default();
    let shown = matches!(kind, "image" | "audio" | "video");
    let media_type = HeaderValue::from_str(&file.media_type);
    let headers = [
        (header::CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"))),
        (header::CONTENT_DISPOSITION, disposition(shown, &file.name)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, CACHE),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, etag(file)),
    ];
    headers.into_iter().collect()
}

/// Says whether a browser shows a file or stores it, and under which name (RFC 6266): once for clients that know nothing
/// but ASCII, and once as it is (RFC 8187).
fn disposition(shown: bool, name: &str) -> HeaderValue {
    let mut said = if shown { "inline" } else { "attachment" }.to_owned();
    if !name.is_empty() {
        let plain = |c: char| if c.is_ascii_alphanumeric() || " .-_()+".contains(c) { c } else { '_' };
        let _ =
            write!(said, "; filename=\"{}\"; filename*=UTF-8''", name.chars().map(plain).collect::<String>());
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => said.push(char::from(byte)),
                _ => {
                    let _ = write!(said, "%{byte:02X}");
                }
            }
        }
    }
    text(said)
}

/// Bytes never change: their sum says which they are.
fn etag(file: &pb::Upload) -> HeaderValue {
    let mut tag = String::with_capacity(66);
    tag.push('"');
    file.sha256.iter().for_each(|byte| {
        let _ = write!(tag, "{byte:02x}");
    });
    tag.push('"');
    text(tag)
}

/// What we write ourselves is ASCII, and so always a header.
fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
