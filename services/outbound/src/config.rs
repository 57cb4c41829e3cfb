//! What can be set about fetching.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a fetch may take, and what it may reach.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The ports that may be asked. Others are refused.
    pub ports: Vec<u16>,
    /// How long a fetch may take, with all its redirects, such as `5s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How much of a page is read; the rest is left where it is.
    pub max_bytes: usize,
    /// Networks that may be reached although they are not the internet, such as `10.20.0.0/16`. Whoever can write a link
    /// can make us ask every machine in them: meant for tests, and for nothing else unless you mean that.
    #[schemars(with = "Vec<String>")]
    pub allow_networks: Vec<IpNet>,
    /// A file with certificates, in PEM, of further authorities to believe. Meant for tests.
    pub extra_roots: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ports: vec![443],
            timeout: Duration::from_secs(5),
            max_bytes: 512 * 1024,
            allow_networks: Vec::new(),
            extra_roots: None,
        }
    }
}
