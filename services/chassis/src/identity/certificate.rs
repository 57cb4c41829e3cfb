//! Binds the credential of a service to its certificate: a secret alone that got into the hands of another process of the
//! installation is worth nothing over TLS.

use rustls_pki_types::CertificateDer;
use tonic::Status;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use webpki::EndEntityCert;

/// Refuses the credential of a service over a connection with the certificate of another. Without TLS there is no
/// certificate, and nothing is asked.
///
/// A certificate is that of `gateway` when one of its DNS names (the subject alternative names of RFC 5280, 4.2.1.6) is
/// `gateway` or begins with `gateway.`, as `gateway.parlor.svc` does. So the services that the policy of an rpc lists are
/// the certificates that may call it.
pub(super) fn check(service: &str, extensions: &http::Extensions) -> Result<(), Status> {
    let Some(connection) = extensions.get::<TlsConnectInfo<TcpConnectInfo>>() else { return Ok(()) };
    let certificates = connection.peer_certs();
    match certificates.as_ref().and_then(|chain| chain.first()) {
        Some(certificate) if is_of(certificate, service) => Ok(()),
        _ => Err(super::denied(&format!("the certificate of the caller is not that of {service}"))),
    }
}

fn is_of(certificate: &CertificateDer<'_>, service: &str) -> bool {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return false };
    let is_its = |name: &str| name.split('.').next() == Some(service);
    certificate.valid_dns_names().any(is_its)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_service() {
        let of = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            rcgen::generate_simple_self_signed(names).unwrap().cert.der().clone()
        };
        for (names, is_its) in [
            (&["gateway", "localhost"][..], true),
            (&["gateway.parlor.svc"], true),
            (&["scheduling", "not-gateway"], false),
            (&["parlor.gateway"], false),
            (&["gateway-2"], false),
        ] {
            assert_eq!(is_of(&of(names), "gateway"), is_its, "{names:?}");
        }
        assert!(!is_of(&CertificateDer::from(vec![1, 2, 3]), "gateway"));
    }
}
