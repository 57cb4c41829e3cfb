//! The message of a gRPC request that a middleware looks at before the handler does.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tonic::Status;

/// The length of the head of a gRPC frame: a flag and the length of the message.
pub(crate) const FRAME_HEAD: usize = 5;

/// The largest request that is looked at, with the head of its frame.
const MAX_REQUEST: usize = (1 << 20) + FRAME_HEAD;

/// Reads the request of a call that is no stream. Returns it as it came, and its encoded message; one that is cut off is
/// empty, and is refused by the handler.
pub(crate) async fn read(request: Request) -> Result<(Request, Bytes), Status> {
    let (parts, body) = request.into_parts();
    let frame = match Limited::new(body, MAX_REQUEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Status::out_of_range(format!("the request is larger than {MAX_REQUEST} bytes")));
        }
        Err(_) => return Err(Status::cancelled("the request breaks off")),
    };
    let message = if frame.len() > FRAME_HEAD { frame.slice(FRAME_HEAD..) } else { Bytes::new() };
    Ok((Request::from_parts(parts, Body::new(Full::new(frame))), message))
}
