//! The system through its public doors: starts Parlor in either shape and lets people use it.
//!
//! A story reads like the story: `world.person("ann")`, `ann.starts_group_with(..)`, `bob.connects()`, and what each of
//! them sees. Stories share one world per shape; tests that break things start their own.

#![expect(clippy::expect_used, reason = "what cannot go on ends the test, and says why")]

pub mod external;
pub mod figure;
pub mod history;
pub mod http;
pub mod mail;
pub mod node;
pub mod person;
pub mod process;
pub mod screen;
pub mod socket;
pub mod socketio;
pub mod sse;
pub mod storage;
pub mod trial;
pub mod waiting;
pub mod world;

pub use person::Person;
pub use socket::Connection;
pub use world::{Shape, World};
