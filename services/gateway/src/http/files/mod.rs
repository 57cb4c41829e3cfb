//! The content of files: no JSON, no session, and no limit on the duration. Requests are authorized by the ticket in
//! their address, which `CreateUpload` and `GetUpload` issue.

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

/// The path at which the content of a file is uploaded and downloaded.
pub(crate) const PATH: &str = "/v1/uploads/{upload_id}/content";

/// The longest wait for the next bytes from a client. Messaging, whose settings limit how slowly a whole upload may
/// arrive, sees only the bytes that have arrived.
const SILENCE: Duration = Duration::from_secs(30);

/// The largest piece of a file in one message to messaging.
const PIECE: usize = 256 * 1024;

/// Nothing in a file runs, loads anything or is shown in a frame, whatever type a browser takes it for.
const POLICY: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");

/// A browser shows a cached file only after it has revalidated it.
const CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The route of the content.
pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Upstream: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    let refuse = || async { Problem::method_not_allowed(&[Method::GET, Method::HEAD, Method::PUT]) };
    Router::new().route(PATH, get(download).put(upload).fallback(refuse))
}

/// True when a request uploads content: it may take longer than others, as long as bytes arrive.
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
    // An error in reading the body is the cause of messaging's answer, so it is the one reported.
    if let Some(problem) = broken.get() {
        return Err(Problem::clone(problem));
    }
    let written = written.map_err(|status| refused(&upstream, address, status).without_the_rest())?;
    let json = json::typed_to_json("parlor.messaging.v1.WriteUploadResponse", &written)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Splits a body into pieces. Ends early when there are too many bytes, or when they stop arriving, and reports it.
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

/// The bytes stopped arriving.
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

/// The source of a refusal.
enum Refusal {
    /// Messaging refused.
    Status(Status),
    /// The gateway refused.
    Problem(Box<Problem>),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The file that a client requests.
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
                // A part of another version of the file is useless: the whole file is sent instead.
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

    /// Opens a file: its description, and its bytes from an offset on, all or a given number.
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

/// The answer to a refusal by messaging of a client that has only a ticket: clients that guess tickets are slowed down.
fn refused(upstream: &Upstream, address: Option<std::net::IpAddr>, status: Status) -> Problem {
    match address {
        Some(address) if status.code() == Code::PermissionDenied => {
            upstream.limits().anonymous(address).err().map_or_else(|| status.into(), Problem::from)
        }
        _ => status.into(),
    }
}

/// The headers that describe a file, and keep a browser from interpreting it as anything else.
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

/// Returns the header that tells a browser to show a file or to store it, and under which name (RFC 6266): once for
/// clients that know only ASCII, and once unchanged (RFC 8187).
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

/// Returns the tag of a file: its bytes never change, so their checksum identifies them.
fn etag(file: &pb::Upload) -> HeaderValue {
    let mut tag = String::with_capacity(66);
    tag.push('"');
    file.sha256.iter().for_each(|byte| {
        let _ = write!(tag, "{byte:02x}");
    });
    tag.push('"');
    text(tag)
}

/// Converts a text to a header. The gateway's own texts are ASCII, so always valid.
fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
