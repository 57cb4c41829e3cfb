//! The WebSocket.

pub(super) mod command_order;
pub(super) mod rpc_command;
pub(super) mod session;
