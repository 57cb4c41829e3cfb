//! Fetching from the internet what others name: the one way out for addresses that we did not choose.
//!
//! Whoever writes a link decides where a request of ours goes. Behind our addresses are other machines than behind the
//! writer's: this crate sees to it that none of them is ever reached. An address is looked up once, every answer is
//! checked, and the connection goes to an answer that was checked; nothing is looked up again. Every redirect goes the
//! same way from its beginning. Time, bytes, redirects and the kind of answer are bounded, nothing is decompressed, and
//! nothing is remembered between two requests.
//!
//! Read in this order: `guard` (which networks are the internet), `address` (which addresses may be asked for), `fetch`
//! (how), `page` (what is made of the answer).

mod address;
mod config;
mod fetch;
mod guard;
mod page;

pub use address::WebAddress;
pub use config::Config;
pub use fetch::{Failure, Fetcher, Page};
pub use page::Summary;
