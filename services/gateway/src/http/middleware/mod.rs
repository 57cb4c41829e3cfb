//! What surrounds every request.

pub(crate) mod client_ip;
pub(crate) mod cors;
