//! The operations of this API, one file per noun. Each returns the data of the answer; the socket uses them as well.

pub(super) mod alerts;
pub(super) mod auth;
pub(super) mod availability;
pub(super) mod calls;
pub(super) mod chats;
pub(super) mod connections;
pub(super) mod interests;
pub(super) mod messages;
pub(super) mod otp;
pub(super) mod requests;
pub(super) mod reviews;
pub(super) mod schedules;
pub(super) mod users;
