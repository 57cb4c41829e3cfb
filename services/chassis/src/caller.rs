//! The verified identity behind a request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::id::{SessionId, UserId};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::fault::Fault;

/// The user on whose behalf a request acts. Always verified; never taken from a request's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The session, when the user came with one; a service acting for a user has none.
    pub session_id: Option<SessionId>,
    /// What kind of caller it is.
    pub kind: CallerKind,
}

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// A user with an account.
    Registered,
    /// A guest.
    Guest,
    /// An account that stands for a name in another system.
    External,
    /// A service, acting for a user.
    Service,
}

impl Caller {
    /// The caller of a request. Refuses a request that came from nobody, or from a service on its own account.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| unauthenticated().into())
    }
}

/// The service that acts for the [`Caller`] of a request; its word is verified. Absent on a request that a user makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingService(String);

impl ActingService {
    /// The service of this name, once it is known to be the one.
    pub(crate) fn verified(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The service that acts in a request.
    pub fn of<T>(request: &Request<T>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// Its name, such as `messaging`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The one who reads: a user, or the anonymous viewer, who is not signed in and for whom the gateway asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// A user.
    User(Caller),
    /// The anonymous viewer.
    Anonymous,
}

impl Viewer {
    /// The viewer of a request. Only rpcs whose policy lists `anonymous_services` have an anonymous one.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        match request.extensions().get::<AnonymousViewer>() {
            Some(AnonymousViewer(())) => Ok(Self::Anonymous),
            None => Caller::of(request).map(Self::User),
        }
    }

    /// The id of the user. For the anonymous viewer it is the nil UUID, which no user has: a check that asks for a
    /// member, an author or a contact finds nothing for it.
    pub fn user_id(&self) -> UserId {
        match self {
            Self::User(caller) => caller.user_id,
            Self::Anonymous => UserId::from(Uuid::nil()),
        }
    }

    /// The user; `None` for the anonymous viewer.
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::User(caller) => Some(caller),
            Self::Anonymous => None,
        }
    }
}

/// That a request is made for the anonymous viewer, by a service that may do so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnonymousViewer(());

impl AnonymousViewer {
    /// Once the service is known to be one that the policy lists.
    pub(crate) const fn verified() -> Self {
        Self(())
    }
}

/// Where somebody who is not signed in comes from, as the gateway says: an IPv4 network of 256 addresses or an IPv6
/// network of the size that one household gets. Absent on a request that did not come through a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// The network of an address.
    pub fn of_address(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(mapped) => return Self::of_address(mapped.into()),
                None => Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 56)).into(),
            },
        })
    }

    /// The network that a request comes from, when that is known.
    pub fn of<T>(request: &Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fault of a request that needs a caller and has none.
pub fn unauthenticated() -> Fault {
    Fault::new(Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED")
        .message("sign in: send `authorization: Bearer <session token>`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_network() {
        let network =
            |address: &str| ClientNetwork::of_address(address.parse().expect("an address")).to_string();
        assert_eq!(network("203.0.113.77"), "203.0.113.0");
        assert_eq!(network("::ffff:203.0.113.77"), "203.0.113.0");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
        assert_eq!(network("2001:db8:1:ff:3:4:5:6"), "2001:db8:1::");
    }
}
