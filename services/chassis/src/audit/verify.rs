//! The check of a chain, and the place in it that an operator keeps elsewhere.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

use super::entry::Link;
use crate::clock::Timestamp;
use crate::database::Database;

/// As many entries are read at once.
const PAGE: i64 = 1000;

/// A place in the chain with its sum, written `120:5f3c…`, as the log and the verifier show it. Kept where the database
/// cannot be reached from, it shows that nothing up to there was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor(Link);

impl From<Link> for Anchor {
    fn from(link: Link) -> Self {
        Self(link)
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.0.sequence)?;
        self.0.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Anchor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let malformed = || format!("`{text}` is no place in an audit log: it is written SEQUENCE:SUM");
        let (sequence, sum) = text.split_once(':').with_context(malformed)?;
        let byte = |place| sum.get(place..place + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let hash: Option<Vec<u8>> = (0..sum.len()).step_by(2).map(byte).collect();
        Ok(Self(Link {
            sequence: sequence.parse().ok().with_context(malformed)?,
            hash: hash.filter(|hash| hash.len() == 32).with_context(malformed)?,
        }))
    }
}

/// The figures of an intact log.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The end of the chain.
    pub head: Anchor,
    /// The entries that are not in the chain yet: those of the last seconds.
    pub unchained: i64,
}

/// Writes the entries of the chain of a service, each as a line of JSON.
pub(crate) async fn export(database: &Database, to: &mut impl Write) -> anyhow::Result<()> {
    let mut last = 0;
    loop {
        let page = database.audit_chained(last, PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        for (entry, stored) in page {
            last = stored.sequence;
            let line = serde_json::json!({
                "sequence": last,
                "time": Timestamp::from_millis(entry.occur_millis).to_string(),
                "action": entry.action,
                "actor": entry.actor,
                "origin": entry.origin,
                "target": entry.target,
                "outcome": entry.outcome,
                "requestId": entry.request_id,
            });
            writeln!(to, "{line}")?;
        }
    }
}

/// Checks every entry of the chain of a service, and that an anchor of before is in it.
///
/// # Errors
/// Names the first entry that is missing, or was changed, added or removed.
pub async fn verify(database: &Database, anchor: Option<&Anchor>) -> anyhow::Result<Verified> {
    let mut last = Link::default();
    let mut is_anchored = anchor.is_none();
    loop {
        let page = database.audit_chained(last.sequence, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for (entry, stored) in page {
            let expected = last.next(&entry);
            ensure!(stored.sequence == expected.sequence, "entry {} is missing", expected.sequence);
            ensure!(stored.hash == expected.hash, "entry {} or one before it was changed", expected.sequence);
            if let Some(Anchor(anchor)) = anchor
                && anchor.sequence == expected.sequence
            {
                ensure!(*anchor == expected, "the entries up to {} are not those of before", anchor.sequence);
                is_anchored = true;
            }
            last = expected;
        }
    }
    let head = database.audit_head().await?;
    if head != last {
        bail!("the log ends at entry {}, and had {}", last.sequence, head.sequence);
    }
    ensure!(is_anchored, "the log ends at entry {}, before the place that was kept", last.sequence);
    Ok(Verified { head: last.into(), unchained: database.audit_unchained().await? })
}
