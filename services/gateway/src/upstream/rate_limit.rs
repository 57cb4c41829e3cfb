//! The rate limits of strangers and of opening connections. Every gateway counts on its own. The services count the
//! requests of users: [`chassis::rates`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chassis::fault::Fault;
use chassis::rates::{Keyed, KeyedByAddress, per_second};
use chassis::tasks::Tasks;

use crate::config::Config;

/// The interval at which addresses with a full quota are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// The rate limits of strangers and of opening connections.
pub(crate) struct Limits {
    anonymous: KeyedByAddress,
    handshakes_per_address: KeyedByAddress,
    /// One key, shared by all.
    handshakes: Keyed<()>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let (rates, sockets) = (&config.rates, &config.sockets);
        let (per_address, in_all) =
            (sockets.handshakes_per_address_per_second, sockets.handshakes_per_second);
        Self {
            anonymous: KeyedByAddress::new(
                "anonymous",
                per_second(rates.anonymous_burst_per_address, rates.anonymous_per_address_per_second),
            ),
            handshakes_per_address: KeyedByAddress::new(
                "handshakes_per_address",
                per_second(per_address, per_address),
            ),
            handshakes: Keyed::new("handshakes", per_second(in_all, in_all)),
        }
    }

    /// Counts a request of an address without a session, or with an invalid token.
    pub(crate) fn anonymous(&self, address: IpAddr) -> Result<(), Fault> {
        self.anonymous.check(address)
    }

    /// Counts a socket that an address opens.
    pub(crate) fn handshake(&self, address: IpAddr) -> Result<(), Fault> {
        self.handshakes_per_address.check(address)?;
        self.handshakes.check(())
    }

    /// Periodically forgets the addresses with a full quota.
    pub(crate) fn start(this: &Arc<Self>, tasks: &Tasks) {
        let limits = Arc::clone(this);
        tasks.spawn("forget-limits", |shutdown| async move {
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(FORGET_EVERY) => limits.forget(),
                }
            }
        });
    }

    fn forget(&self) {
        self.anonymous.forget();
        self.handshakes_per_address.forget();
    }
}
