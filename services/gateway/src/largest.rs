//! The maximum sizes of client input: those of the settings, and never smaller than the contract allows.

use std::sync::LazyLock;

use prost_reflect::MethodDescriptor;
use proto::{largest, policy, pool};

use crate::config::{Config, SocketsConfig};

/// The size of a socket command around the request of another rpc: its id, the name of the rpc, and the field names.
const CALL: usize = 4096;

/// The rpcs whose largest request is larger than a frame: over a socket it is sent in parts.
const IN_PARTS: [&str; 1] = ["SetCustomAvailability"];

/// The largest frame that the contract allows, in bytes of JSON.
static FRAME: LazyLock<usize> = LazyLock::new(|| {
    let rpcs = pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let called = rpcs.filter(|rpc| is_public(rpc) && !IN_PARTS.contains(&rpc.name()));
    let calls = called.filter_map(|rpc| largest::of(&rpc.input()).ok()).map(|request| CALL + request.json);
    calls.max().unwrap_or_default().max(largest::json_bytes("parlor.gateway.v1.ClientFrame"))
});

/// True when the rpc can be reached over HTTP, and so over a socket.
fn is_public(rpc: &MethodDescriptor) -> bool {
    let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    policy::of(&path).is_some_and(|policy| policy.http)
}

/// The largest message that the contract allows, in bytes of JSON.
static MESSAGE: LazyLock<usize> =
    LazyLock::new(|| largest::json_bytes("parlor.messaging.v1.SendMessageRequest"));

impl SocketsConfig {
    /// Returns the largest frame from a client, in bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.max_frame_bytes.max(*FRAME)
    }
}

impl Config {
    /// Returns the largest body of a request of the canonical API, in bytes; `largest` is the contract's maximum for
    /// this request.
    pub(crate) fn body_bytes(&self, largest: usize) -> usize {
        self.max_body_bytes.max(largest)
    }

    /// Returns the largest body of a user's request of a dialect, in bytes: none is larger than that of a message.
    pub(crate) fn dialect_body_bytes(&self) -> usize {
        self.body_bytes(*MESSAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_makes_a_limit_smaller_than_the_contract() {
        let config = Config { max_body_bytes: 1, ..Config::default() };
        let sockets = SocketsConfig { max_frame_bytes: 1, ..SocketsConfig::default() };
        let message = largest::json_bytes("parlor.messaging.v1.SendMessageRequest");
        assert!(message > 65_536 * 4 / 3, "the largest ciphertext in base64");
        assert!(config.dialect_body_bytes() >= message && sockets.frame_bytes() >= message);
        assert_eq!((config.body_bytes(0), config.body_bytes(5)), (1, 5));
    }

    #[test]
    fn what_can_be_called_over_a_socket_fits_into_a_frame() {
        let frame = SocketsConfig::default().frame_bytes();
        assert!(frame < 512 * 1024, "a connection may hold {frame} bytes of a frame that is not whole");
        let rpcs = pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        for rpc in rpcs.filter(is_public) {
            let largest = largest::of(&rpc.input()).expect("a bound").json;
            let is_in_parts = IN_PARTS.contains(&rpc.name());
            assert_eq!(largest + CALL > frame, is_in_parts, "{}: {largest} bytes", rpc.full_name());
        }
    }
}
