//! The provider of background checks: handing a check in, and knowing its reports.
//!
//! Both sides sign with the secret that they share. What is signed is written down in `background_check_service.proto`,
//! for those who build a provider.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use chassis::clock::Timestamp;
use chassis::config::Secret;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proto::id::BackgroundCheckId;
use ring::hmac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::background_check::Report;
use crate::errand::Outcome;
use crate::web::{Place, Web};

/// How far a report may be from now.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// What the signed text of a request begins with.
const REQUEST: &str = "parlor.background-check.request.v1";

/// What the signed text of a report begins with.
const REPORT: &str = "parlor.background-check.report.v1";

/// Who checks people. Without an address nobody does, and nobody can ask for it.
///
/// ```toml
/// [service.background_checks]
/// url = "https://checks.example.org/parlor"   # http only with a loopback address
/// secret_file = "/run/secrets/background-checks"
/// timeout = "10s"
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChecksConfig {
    /// Where checks are handed in: https, or http with a loopback address.
    pub url: Option<String>,
    /// The secret that both sides sign with, at least 32 characters.
    pub secret: Option<Secret>,
    /// A file with that secret, readable by its owner only.
    pub secret_file: Option<PathBuf>,
    /// How long an answer may take, such as `10s`; at most `60s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for ChecksConfig {
    fn default() -> Self {
        Self { url: None, secret: None, secret_file: None, timeout: Duration::from_secs(10) }
    }
}

/// The provider that is configured.
#[derive(Clone, Debug)]
pub struct CheckProvider {
    place: Place,
    key: hmac::Key,
    web: Web,
}

impl CheckProvider {
    /// The provider that is configured, if one is.
    pub fn new(config: &ChecksConfig) -> anyhow::Result<Option<Self>> {
        let Some(url) = &config.url else { return Ok(None) };
        let secret = match (&config.secret, &config.secret_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => Secret::read(path)?,
            _ => anyhow::bail!("set background_checks.secret or background_checks.secret_file"),
        };
        anyhow::ensure!(
            secret.expose().len() >= 32,
            "background_checks.secret must have at least 32 characters"
        );
        let timeout = config.timeout;
        anyhow::ensure!(
            !timeout.is_zero() && timeout <= Duration::from_secs(60),
            "background_checks.timeout must be more than nothing and at most 60s"
        );
        Ok(Some(Self {
            place: Place::parse(url)?,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()),
            web: Web::new(timeout)?,
        }))
    }

    /// Hands a check in.
    pub async fn hand_in(&self, id: BackgroundCheckId, body: String, now: Timestamp) -> Outcome {
        let timestamp = now.as_millis().div_euclid(1000).to_string();
        let signature =
            hex(hmac::sign(&self.key, format!("{REQUEST}\n{timestamp}\n{body}").as_bytes()).as_ref());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let ours = [
            ("parlor-timestamp", timestamp),
            ("parlor-signature", signature),
            ("idempotency-key", id.to_string()),
        ];
        for (name, value) in ours {
            let Ok(value) = HeaderValue::from_str(&value) else {
                return Outcome::Again("its headers cannot be written".to_owned());
            };
            headers.insert(name, value);
        }
        match self.web.post(&self.place, headers, Bytes::from(body)).await {
            // In conflict with itself: the provider has it already.
            Ok(status) if status.is_success() || status == StatusCode::CONFLICT => Outcome::Done,
            Ok(
                status @ (StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY),
            ) => Outcome::Refused(format!("the provider refuses it: {status}")),
            // Anything else is about us or about the moment, and not about the check.
            Ok(status) => Outcome::Again(format!("the provider answers {status}")),
            Err(failure) => Outcome::Again(format!("the provider: {failure}")),
        }
    }

    /// Whether a report is one of the provider, and of now.
    pub fn has_sent(&self, report: &Report, now: Timestamp) -> bool {
        let Report { id, finding, reference, timestamp, signature } = report;
        let text = format!("{REPORT}\n{id}\n{}\n{}\n{timestamp}", finding.name(), reference.as_str());
        let Some(signature) = from_hex(signature) else { return false };
        let is_signed = hmac::verify(&self.key, text.as_bytes(), &signature).is_ok();
        let sent = Timestamp::from_millis(timestamp.saturating_mul(1000));
        is_signed && now.since(sent) <= WINDOW && sent.since(now) <= WINDOW
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background_check::{Finding, Reference};

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const SECRET: &str = "the secret of the provider of checks";

    fn provider() -> CheckProvider {
        let config = ChecksConfig {
            url: Some("http://127.0.0.1:9/checks".to_owned()),
            secret: Some(Secret::new(SECRET)),
            ..ChecksConfig::default()
        };
        CheckProvider::new(&config).unwrap().unwrap()
    }

    /// As somebody else would sign it who has read the contract.
    fn signed(id: BackgroundCheckId, timestamp: i64) -> Report {
        let text = format!(
            "parlor.background-check.report.v1\n{id}\nBACKGROUND_CHECK_OUTCOME_CLEAR\ncase 7\n{timestamp}"
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        Report {
            id,
            finding: Finding::Clear,
            reference: Reference::parse("case 7").unwrap(),
            timestamp,
            signature: hex(hmac::sign(&key, text.as_bytes()).as_ref()),
        }
    }

    #[test]
    fn only_what_the_provider_has_signed_lately_is_believed() {
        let (provider, id, seconds) = (provider(), BackgroundCheckId::generate(), NOW.as_millis() / 1000);
        let good = signed(id, seconds);
        assert!(provider.has_sent(&good, NOW));
        assert!(provider.has_sent(&Report { signature: good.signature.to_uppercase(), ..good.clone() }, NOW));
        for apart in [-300, 300] {
            assert!(provider.has_sent(&signed(id, seconds + apart), NOW), "{apart}");
        }
        for apart in [-301, 301, i64::MAX - seconds, i64::MIN + seconds] {
            assert!(!provider.has_sent(&signed(id, seconds.saturating_add(apart)), NOW), "{apart}");
        }
        let signature = |signature: &str| Report { signature: signature.to_owned(), ..good.clone() };
        let forged = [
            Report { id: BackgroundCheckId::generate(), ..good.clone() },
            Report { finding: Finding::Consider, ..good.clone() },
            Report { reference: Reference::parse("case 8").unwrap(), ..good.clone() },
            Report { timestamp: seconds + 1, ..good.clone() },
            signature(""),
            signature("nonsense"),
            signature(&"0".repeat(64)),
            signature(&good.signature[..62]),
            signature("ä0"),
        ];
        for forged in forged {
            assert!(!provider.has_sent(&forged, NOW), "{forged:?}");
        }
    }

    #[test]
    fn a_provider_has_a_safe_address_and_a_secret() {
        let config = |url: &str, secret: &str| ChecksConfig {
            url: Some(url.to_owned()),
            secret: Some(Secret::new(secret)),
            ..ChecksConfig::default()
        };
        assert!(CheckProvider::new(&ChecksConfig::default()).unwrap().is_none());
        assert!(CheckProvider::new(&config("https://checks.example.org", SECRET)).unwrap().is_some());
        for bad in [
            config("http://checks.example.org", SECRET),
            config("https://checks.example.org", "short"),
            ChecksConfig { secret: None, ..config("https://checks.example.org", SECRET) },
            ChecksConfig { secret_file: Some("/x".into()), ..config("https://checks.example.org", SECRET) },
            ChecksConfig { timeout: Duration::ZERO, ..config("https://checks.example.org", SECRET) },
        ] {
            assert!(CheckProvider::new(&bad).is_err(), "{bad:?}");
        }
    }
}
