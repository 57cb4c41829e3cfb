//! An address on the web that may be asked for: a value that follows the rules once it is built.

use std::fmt;

use url::{Host, Url};

/// The most bytes of an address.
const MAX_BYTES: usize = 2048;

/// An address on the web: https, with a host and without anybody's password. Numbers that stand for an IP address are
/// one, however they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress(Url);

impl WebAddress {
    /// Reads an address. Says which rule it breaks otherwise.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("must have at most 2048 bytes");
        }
        Self::new(Url::parse(text).map_err(|_| "must be an address")?)
    }

    /// Where a redirect from here leads to. Says which rule that breaks otherwise.
    pub fn join(&self, location: &str) -> Result<Self, &'static str> {
        if location.len() > MAX_BYTES {
            return Err("must have at most 2048 bytes");
        }
        Self::new(self.0.join(location).map_err(|_| "must be an address")?)
    }

    fn new(mut url: Url) -> Result<Self, &'static str> {
        if url.scheme() != "https" {
            return Err("must be https");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must have no user and no password");
        }
        if url.host().is_none() {
            return Err("must have a host");
        }
        // What follows the hash never leaves the client.
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The host: a name, or an IP address.
    pub(crate) fn host(&self) -> Host<&str> {
        self.0.host().unwrap_or(Host::Domain(""))
    }

    /// The host, and the port unless it is the usual one: as the request names it.
    pub(crate) fn authority(&self) -> &str {
        self.0.authority()
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.0.port().unwrap_or(443)
    }

    /// The path and the query.
    pub(crate) fn target(&self) -> &str {
        &self.0[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_without_a_password() {
        for bad in [
            "",
            "x",
            "//a.example/",
            "http://a.example/",
            "ftp://a.example/",
            "file:///etc/passwd",
            "https://",
            "https://user@a.example/",
            "https://user:password@a.example/",
            "https://:password@a.example/",
            "https://a.example:99999/",
            "https://[::1/",
            "https://[fe80::1%25eth0]/",
            "gopher://a.example/",
        ] {
            assert!(WebAddress::parse(bad).is_err(), "{bad}");
        }
        assert!(WebAddress::parse(&format!("https://a.example/{}", "x".repeat(2048))).is_err());
        let address = WebAddress::parse("HTTPS://A.example:443/x y?q#part").unwrap();
        assert_eq!(address.to_string(), "https://a.example/x%20y?q");
        assert_eq!((address.authority(), address.port(), address.target()), ("a.example", 443, "/x%20y?q"));
        assert_eq!(WebAddress::parse("https://a.example:8443").unwrap().authority(), "a.example:8443");
    }

    #[test]
    fn every_spelling_of_an_ip_address_is_that_address() {
        let loopback: Host<&str> = Host::Ipv4([127, 0, 0, 1].into());
        for spelling in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0177.0.0.1",
            "127.0.0.1.",
        ] {
            let address = WebAddress::parse(&format!("https://{spelling}/")).unwrap();
            assert_eq!(address.host(), loopback, "{spelling}");
        }
        // Digits of other scripts and full-width letters are folded first.
        assert_eq!(WebAddress::parse("https://１２７.0.0.1/").unwrap().host(), loopback);
        let mapped = WebAddress::parse("https://[::ffff:127.0.0.1]/").unwrap();
        assert!(matches!(mapped.host(), Host::Ipv6(address) if address.to_ipv4_mapped().is_some()));
    }

    #[test]
    fn a_redirect_follows_the_same_rules() {
        let from = WebAddress::parse("https://a.example/one/two").unwrap();
        assert_eq!(from.join("three").unwrap().to_string(), "https://a.example/one/three");
        assert_eq!(from.join("//b.example/").unwrap().to_string(), "https://b.example/");
        for bad in ["http://a.example/", "https://user@a.example/", "javascript:alert(1)", "data:text/html,x"]
        {
            assert!(from.join(bad).is_err(), "{bad}");
        }
    }
}
