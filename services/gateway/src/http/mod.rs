//! HTTP: the server, what surrounds every request, and the routes that are not of a live connection.

pub(crate) mod calendar;
pub(crate) mod docs;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod home;
pub(crate) mod middleware;
pub(crate) mod rest;
pub(crate) mod server;
