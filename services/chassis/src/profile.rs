//! For whom the process runs: someone who tries things out, or the public.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Decides which defaults are safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Loopback only, made-up secrets, reflection on.
    #[default]
    Development,
    /// Binds what it is told, refuses missing or sample secrets, reflection off unless asked for.
    Production,
}

impl Profile {
    /// Whether this is [`Profile::Development`].
    pub fn is_development(self) -> bool {
        self == Self::Development
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Production => "production",
        })
    }
}
