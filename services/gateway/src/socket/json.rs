//! Frames as proto JSON.

use chassis::fault::Fault;
use proto::gateway::v1::{ClientFrame, ServerFrame};

use crate::json;

/// A frame for a client.
pub(super) fn write(frame: &ServerFrame) -> String {
    // What cannot be written has been logged; the client sees an empty frame rather than a torn connection.
    json::typed_to_json("parlor.gateway.v1.ServerFrame", frame).unwrap_or_else(|_| "{}".to_owned())
}

/// A frame from a client.
pub(super) fn read(text: &[u8]) -> Result<ClientFrame, Fault> {
    json::typed_from_json("parlor.gateway.v1.ClientFrame", text)
}
