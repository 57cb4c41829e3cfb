//! Counts calls against the limits of their callers, once it is known who calls.

use std::net::IpAddr;

use axum::extract::Request;
use proto::policy::Policy;
use proto::rate::{Rate, RequestRate};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};

use super::{Admitted, Identity};
use crate::caller::CallerKind;
use crate::frame;

impl Identity {
    /// Counts a call that was admitted. Calls of services are not counted.
    pub(super) async fn count(
        &self,
        policy: &Policy,
        admitted: &Admitted,
        request: Request,
    ) -> Result<Request, Status> {
        let Some(rate) = proto::rate::of(policy.path) else { return Ok(request) };
        match admitted {
            Admitted::Caller(caller) if caller.kind != CallerKind::Service => {
                let (request, rate) = rate_of(rate, request).await?;
                self.rates.user(rate, caller.user_id)?;
                Ok(request)
            }
            Admitted::NoUser => {
                let headers = request.headers();
                if self.is_service(headers) {
                    // The gateway has counted its own strangers.
                    let address = self.client_address(headers);
                    address.map_or(Ok(()), |address| self.rates.address(rate.class, address))?;
                } else if let Some(peer) = peer(&request) {
                    self.rates.stranger(peer)?;
                    self.rates.address(rate.class, peer)?;
                }
                Ok(request)
            }
            Admitted::Caller(_) | Admitted::AnonymousViewer => Ok(request),
        }
    }

    /// Counts a call that was refused because its caller is not known, for the address that it comes from. Returns the
    /// refusal.
    pub(super) fn count_refused(&self, refusal: Status, request: &Request) -> Status {
        if refusal.code() != Code::Unauthenticated {
            return refusal;
        }
        let counted = peer(request).map_or(Ok(()), |peer| self.rates.stranger(peer));
        counted.map_or_else(Status::from, |()| refusal)
    }
}

/// The address of the other end of the connection; `None` within the process.
fn peer(request: &Request) -> Option<IpAddr> {
    let extensions = request.extensions();
    let plain = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let secured = || extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.get_ref().remote_addr();
    plain.or_else(secured).map(|address| address.ip())
}

/// What a request counts as, and the request.
async fn rate_of(rate: &Rate, request: Request) -> Result<(Request, RequestRate), Status> {
    if !rate.needs_request() {
        return Ok((request, RequestRate::of_class(rate.class)));
    }
    let (request, message) = frame::read(request).await?;
    // What cannot be read is refused later, as what it is.
    let counted = rate.of_message(&message).unwrap_or_else(|| RequestRate::of_class(rate.class));
    Ok((request, counted))
}
