//! The contract of Parlor: every promise of one process to another.
//!
//! The `.proto` files beside this crate are the source. From them come the messages, clients and servers of each
//! package, the checks of what comes in ([`Incoming`]), the tables of who may call what ([`policy`]) and how often
//! ([`rate`]), and the descriptor set that REST, reflection and the documentation are made from ([`DESCRIPTORS`]). What
//! `.proto` files cannot say is written here: the types of ids ([`id`]) and the subjects of the event bus ([`subject`]).
//!
//! This crate knows chat and knows no runtime.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub mod codec;
pub mod id;
pub mod largest;
pub mod placeholders;
pub mod policy;
pub mod rate;
pub mod rpc;
pub mod subject;
mod validation;
mod violation;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod generators;
#[cfg(test)]
mod inputs;

pub use violation::{Incoming, Violation, invalid};

/// Accounts, users and sessions.
pub mod auth {
    /// Version 1.
    #[expect(clippy::allow_attributes, unused_qualifications, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("parlor.auth.v1");
    }
}

/// Conversations and who is in them.
pub mod conversation {
    /// Version 1.
    #[expect(clippy::allow_attributes, unused_qualifications, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("parlor.conversation.v1");
    }
}

/// Messages, receipts and the logs.
pub mod messaging {
    /// Version 1.
    #[expect(
        clippy::allow_attributes,
        clippy::large_enum_variant,
        unused_qualifications,
        reason = "generated"
    )]
    pub mod v1 {
        tonic::include_proto!("parlor.messaging.v1");
    }
}

/// What waits for a time: messages to be sent later, and calls.
pub mod scheduling {
    /// Version 1.
    #[expect(
        clippy::allow_attributes,
        clippy::large_enum_variant,
        unused_qualifications,
        reason = "generated"
    )]
    pub mod v1 {
        tonic::include_proto!("parlor.scheduling.v1");
    }
}

/// The frames of the WebSocket and of SSE.
pub mod gateway {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("parlor.gateway.v1");
    }
}

/// The whole contract as an encoded `google.protobuf.FileDescriptorSet`, with options and comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The whole contract, to look things up in by name.
pub fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| match DescriptorPool::decode(DESCRIPTORS) {
        Ok(pool) => pool,
        Err(error) => unreachable!("the build has read the same descriptors: {error}"),
    });
    &POOL
}

/// One message per kind of rule, for the tests of the checks.
#[cfg(test)]
mod testdata {
    pub mod v1 {
        tonic::include_proto!("parlor.testdata.v1");
    }
}
