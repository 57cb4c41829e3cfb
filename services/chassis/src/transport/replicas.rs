//! The choice among the addresses of a service, and the second try at another one.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;

use super::body::Lender;
use super::failure::{self, Failure};
use super::repeat::{self, Repeatable};
use super::replica::Replica;
use crate::tasks::Tasks;

/// The addresses of one service.
pub(super) struct Replicas {
    all: RwLock<Vec<Arc<Replica>>>,
    /// The place at which the choice among equals begins.
    turn: AtomicUsize,
    tasks: Tasks,
}

impl Replicas {
    pub(super) fn new(all: Vec<Arc<Replica>>) -> Self {
        Self { all: RwLock::new(all), turn: AtomicUsize::new(0), tasks: Tasks::default() }
    }

    /// The tasks that keep the addresses up to date.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The addresses now.
    pub(super) fn all(&self) -> Vec<Arc<Replica>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the addresses. Requests that are under way end where they are.
    pub(super) fn replace(&self, all: Vec<Arc<Replica>>) {
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Sends a request to one of the addresses. A request that an address has not seen goes to another one; one that may
    /// have been carried out does so only when that does no harm.
    pub(super) async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        if repeat::streams_up(request.uri().path()) {
            return self.send_stream(request).await;
        }
        let (parts, body) = request.into_parts();
        let is_repeatable =
            parts.extensions.get::<Repeatable>().is_some() || repeat::is_read(parts.uri.path());
        // One message, which is one piece: nothing is copied.
        let body = body.collect().await?.to_bytes();
        let (mut tried, mut is_second) = (HashSet::new(), false);
        loop {
            let Some(replica) = self.choose(&tried) else {
                return Err(Status::unavailable("the service has no address"));
            };
            let again = http_body_util::Full::new(body.clone()).map_err(|error| match error {});
            let request = http::Request::from_parts(parts.clone(), Body::new(again));
            let error = match replica.send(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let failure = Failure::of(&error);
            let may_repeat = match failure {
                Failure::Unconnected | Failure::Unsent => true,
                Failure::Broken => is_repeatable,
                // The time of the caller is over as well.
                Failure::Late => false,
            };
            if failure != Failure::Late {
                replica.eject();
            }
            tried.insert(replica.name().to_owned());
            // The only address is tried again when it was there: its connection may have been an old one.
            if tried.len() == 1
                && self.choose(&tried).is_none()
                && failure != Failure::Unconnected
                && !is_second
            {
                (is_second, tried) = (true, HashSet::new());
            }
            if !may_repeat || self.choose(&tried).is_none() {
                return Err(failure::status(error));
            }
        }
    }

    /// A stream of the client goes to another address as long as nothing was read of it.
    async fn send_stream(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let (lender, mut body) = (Lender::default(), Some(body));
        let mut tried = HashSet::new();
        loop {
            let (Some(replica), Some(lent)) = (self.choose(&tried), body.take()) else {
                return Err(Status::unavailable("the service has no address"));
            };
            let request = http::Request::from_parts(parts.clone(), Body::new(lender.lend(lent)));
            let error = match replica.send(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if Failure::of(&error) == Failure::Late {
                return Err(failure::status(error));
            }
            replica.eject();
            tried.insert(replica.name().to_owned());
            body = lender.take();
            if body.is_none() || self.choose(&tried).is_none() {
                return Err(failure::status(error));
            }
        }
    }

    /// Of the addresses that were not tried, the one with the fewest requests under way. One that is left out is chosen
    /// when there is no other.
    fn choose(&self, tried: &HashSet<String>) -> Option<Arc<Replica>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..all.len()).map(|place| &all[(place + turn) % all.len()]);
        in_turn
            .filter(|replica| !tried.contains(replica.name()))
            .min_by_key(|replica| (replica.is_ejected(), replica.under_way()))
            .cloned()
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.tasks.shutdown().set();
    }
}
