//! HTTP: the server, the middleware around every request, and the routes of everything but live connections.

pub(crate) mod authorization;
mod calendar;
mod docs;
pub(crate) mod error;
pub(crate) mod etag;
mod export;
mod files;
mod home;
pub(crate) mod middleware;
pub(crate) mod rest;
pub(crate) mod server;
pub(crate) mod static_file;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use chassis::profile::Profile;

use crate::config::Config;
use crate::upstream::Upstream;

/// Returns all routes of HTTP. Fails when the contract has a rule that cannot be implemented.
pub(crate) fn router<S>(profile: Profile) -> anyhow::Result<Router<S>>
where
    S: Clone + Send + Sync + 'static,
    Upstream: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    let described = described();
    let routes = rest::router(&described)?
        .merge(docs::router(profile))
        .merge(home::router())
        .merge(files::router())
        .merge(export::router())
        .merge(calendar::router());
    Ok(routes)
}

/// Returns the paths that belong to no rpc, for the OpenAPI document.
pub(crate) fn described() -> [rest::Described; 3] {
    [
        (files::PATH, files::described()),
        (export::PATH, export::described()),
        (calendar::PATH, calendar::described()),
    ]
}
