//! The meaning of a request that got no answer.

use std::error::Error as StdError;
use std::sync::Arc;

use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// The state in which a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection, and none could be made.
    Unconnected,
    /// The service has not seen it: the connection had just ended, or the service refused the stream (RFC 9113, 8.7).
    Unsent,
    /// The connection ended while it was under way. It may have been carried out.
    Broken,
    /// It was not answered in time. It may have been carried out, and the connection may be well.
    Late,
}

impl Failure {
    /// The failure that an error of the client tells of.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut found = Self::Broken;
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<TimeoutExpired>() {
                return Self::Late;
            }
            if error.is::<ConnectError>() {
                return Self::Unconnected;
            }
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
                || error.downcast_ref::<h2::Error>().is_some_and(was_refused)
            {
                found = Self::Unsent;
            }
            cause = error.source();
        }
        found
    }
}

/// True when the other end says that it has not looked at the stream.
fn was_refused(error: &h2::Error) -> bool {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // A stream that ends with a GOAWAY of the other end is one after the last that it takes.
    let is_late = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    refused || is_late
}

/// The status that a caller sees. A connection that went away under a request is "cancelled" or "unknown" to the HTTP
/// client, which sounds like a withdrawal by the caller or a defect: the service is not available, and the caller can try
/// again. A request that was not answered in time took too long.
pub(super) fn status(error: tonic::transport::Error) -> Status {
    let failure = Failure::of(&error);
    let status = Status::from_error(error.into());
    let code = match (status.code(), failure) {
        (_, Failure::Late) => Code::DeadlineExceeded,
        (Code::Cancelled | Code::Unknown, _) => Code::Unavailable,
        _ => return status,
    };
    let mut told = Status::new(code, status.message());
    told.set_source(Arc::new(status));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Box<dyn StdError + Send + Sync>);

    #[test]
    fn what_is_known_of_a_failure_stands_anywhere_among_its_causes() {
        let unsent = Outer(Box::new(ConnectError("refused".into())));
        assert_eq!(Failure::of(&unsent), Failure::Unconnected);
        let refused = Outer(Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM)));
        assert_eq!(Failure::of(&refused), Failure::Unsent);
        let reset = Outer(Box::new(h2::Error::from(h2::Reason::INTERNAL_ERROR)));
        assert_eq!(Failure::of(&reset), Failure::Broken);
    }
}
