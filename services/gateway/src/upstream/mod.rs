//! The services behind the gateway: their clients, the stream of sends, and how often what may be asked of them.

pub(crate) mod clients;
pub(crate) mod rate_limit;
pub(crate) mod send_stream;
