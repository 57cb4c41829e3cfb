//! Unary rpcs as types: a request knows its path and its response, so that a generic caller needs no table.

use prost::Message;

use crate::Incoming;
use crate::rate::RequestRate;

/// The request of a unary rpc. Implemented for every rpc of the contract by the build.
pub trait Rpc: Message + Default + 'static {
    /// The answer to the request.
    type Response: Message + Default + Incoming + 'static;
    /// The rpc as it is called on the wire, such as `/parlor.auth.v1.AuthService/Login`.
    const PATH: &'static str;

    /// The limit that the request counts against; nothing for an rpc that clients do not reach.
    fn rate(&self) -> Option<RequestRate>;
}

include!(concat!(env!("OUT_DIR"), "/rpc.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    fn path<R: Rpc>() -> &'static str {
        R::PATH
    }

    #[test]
    fn a_request_knows_its_rpc() {
        let path = path::<crate::messaging::v1::SendMessageRequest>();
        assert_eq!(path, "/parlor.messaging.v1.MessagingService/SendMessage");
        assert!(crate::policy::of(path).is_some());
    }
}
