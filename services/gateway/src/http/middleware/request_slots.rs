//! The limits on concurrent requests: in total, for strangers apart from users, and for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::client_ip::ClientAddress;
use super::is_socket_io;
use super::strangers::Asker;
use crate::config::Config;
use crate::http::error::Problem;
use chassis::rates::network;

/// The time that a client is told to wait when its address has too many requests in progress.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The slots for requests.
#[derive(Clone)]
pub(super) struct RequestSlots(Arc<Inner>);

struct Inner {
    users: Semaphore,
    strangers: Semaphore,
    by_address: AddressSlots,
    strangers_by_address: AddressSlots,
}

impl RequestSlots {
    pub(super) fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            users: Semaphore::new(config.max_requests),
            strangers: Semaphore::new(config.max_stranger_requests),
            by_address: AddressSlots::new(config.max_requests_per_address),
            strangers_by_address: AddressSlots::new(config.max_stranger_requests_per_address),
        }))
    }
}

/// The middleware before the caller is known: bounds the requests of an address.
pub(super) async fn bound_address(
    State(slots): State<RequestSlots>,
    request: Request,
    next: Next,
) -> Response {
    // Waiting polls would take the slots from working requests. The limits of connections bound them.
    if is_socket_io(&request) {
        return next.run(request).await;
    }
    let Some(_slot) = slots.0.by_address.take(address(&request)) else {
        return Problem::too_many("requests_per_address", RETRY_AFTER).into_response();
    };
    next.run(request).await
}

/// The middleware after the caller is known: bounds the requests of users, and those of strangers apart from them.
pub(super) async fn bound_asker(State(slots): State<RequestSlots>, request: Request, next: Next) -> Response {
    if is_socket_io(&request) {
        return next.run(request).await;
    }
    let is_user = request.extensions().get() == Some(&Asker::User);
    let address_slot = match is_user {
        true => None,
        false => match slots.0.strangers_by_address.take(address(&request)) {
            Some(slot) => Some(slot),
            None => return Problem::too_many("stranger_requests_per_address", RETRY_AFTER).into_response(),
        },
    };
    let kind = if is_user { &slots.0.users } else { &slots.0.strangers };
    // Answer 503 at once rather than every request late.
    let Ok(_slot) = kind.try_acquire() else { return Problem::overloaded().into_response() };
    let response = next.run(request).await;
    drop(address_slot);
    response
}

fn address(request: &Request) -> IpAddr {
    let address = request.extensions().get().map(|ClientAddress(address)| *address);
    network(address.unwrap_or(IpAddr::from([0, 0, 0, 0])))
}

/// The slots of each address.
struct AddressSlots {
    max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl AddressSlots {
    fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    fn take(&self, address: IpAddr) -> Option<AddressSlot<'_>> {
        let mut taken = self.lock();
        let here = taken.entry(address).or_default();
        if *here >= self.max {
            return None;
        }
        *here += 1;
        Some(AddressSlot { slots: self, address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // No code panics between two parts of a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot of an address; released when it is dropped.
struct AddressSlot<'a> {
    slots: &'a AddressSlots,
    address: IpAddr,
}

impl Drop for AddressSlot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        if let Some(here) = taken.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_and_an_address_forgotten() {
        let slots = AddressSlots::new(1);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let slot = slots.take(one).expect("a slot");
        assert!(slots.take(one).is_none() && slots.take(other).is_some());
        drop(slot);
        assert!(slots.lock().is_empty());
        assert!(slots.take(one).is_some());
    }
}
