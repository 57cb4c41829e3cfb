//! The services behind the gateway: their clients, the stream of sends, and the rate limits of callers.

pub(crate) mod clients;
pub(crate) mod rate_limit;
pub(crate) mod send_stream;
