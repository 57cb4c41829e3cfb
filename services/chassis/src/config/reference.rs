//! The configuration as a file with every setting, its documentation and its value.

use std::fmt::Write;

use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;
use toml::{Table, Value};

use super::keys::{self, Key, Kind};

const HEADER: &str = "\
# Every setting of this process with its value. A setting without a value stands behind `#`.
# The environment is over this file: a setting is PARLOR, the names of its tables and its own name, in capitals and joined
# with two underscores, such as PARLOR__LISTEN__GRPC. Items of lists are separated by commas there.
# Secrets are not shown: *** stands for one that is set.
";

/// The text in place of a secret.
const MASK: &str = "***";

/// The settings as TOML: every key that exists, with its documentation and its value. What is printed can be read
/// again, secrets aside.
pub fn reference<S: JsonSchema + Serialize>(settings: &S) -> anyhow::Result<String> {
    let values = Table::try_from(settings).context("the configuration cannot be printed")?;
    let mut text = HEADER.to_owned();
    Writer { text: &mut text }
        .table("", &keys::keys::<S>(), Some(&values))
        .map(|()| text)
        .context("no memory")
}

struct Writer<'a> {
    text: &'a mut String,
}

impl Writer<'_> {
    /// Writes the settings of a table, and then the tables in it. A table without values is absent from the configuration.
    fn table(&mut self, path: &str, keys: &[Key], values: Option<&Table>) -> std::fmt::Result {
        let value = |key: &Key| values.and_then(|values| values.get(&key.name));
        let is_value = |key: &&Key| matches!(key.kind, Kind::Value | Kind::List);
        for key in keys.iter().filter(is_value) {
            self.setting(key, value(key))?;
        }
        for key in keys.iter().filter(|key| !is_value(key)) {
            let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            self.nested(&path, key, value(key))?;
        }
        Ok(())
    }

    fn setting(&mut self, key: &Key, value: Option<&Value>) -> std::fmt::Result {
        self.describe(key)?;
        self.line(&key.name, value)
    }

    fn nested(&mut self, path: &str, key: &Key, value: Option<&Value>) -> std::fmt::Result {
        self.describe(key)?;
        match (&key.kind, value) {
            (Kind::Tables(keys), Some(Value::Array(tables))) if !tables.is_empty() => {
                tables.iter().try_for_each(|table| {
                    writeln!(self.text, "[[{path}]]")?;
                    self.table(path, keys, table.as_table())
                })
            }
            (Kind::Tables(keys), _) => {
                writeln!(self.text, "#[[{path}]]")?;
                self.table(path, keys, None)
            }
            (Kind::Table(keys), Some(Value::Table(values))) => {
                writeln!(self.text, "[{path}]")?;
                self.table(path, keys, Some(values))
            }
            (Kind::Table(keys), _) => {
                writeln!(self.text, "#[{path}]")?;
                self.table(path, keys, None)
            }
            (_, Some(Value::Table(entries))) if !entries.is_empty() => {
                writeln!(self.text, "[{path}]")?;
                entries.iter().try_for_each(|(name, value)| self.line(name, Some(value)))
            }
            _ => writeln!(self.text, "#[{path}]"),
        }
    }

    fn describe(&mut self, key: &Key) -> std::fmt::Result {
        writeln!(self.text)?;
        key.description.lines().try_for_each(|line| writeln!(self.text, "{}", format!("# {line}").trim_end()))
    }

    fn line(&mut self, name: &str, value: Option<&Value>) -> std::fmt::Result {
        match value {
            Some(value) if value.as_str() == Some(MASK) => writeln!(self.text, "#{name} = {value}"),
            Some(value) => writeln!(self.text, "{name} = {value}"),
            None => writeln!(self.text, "#{name} ="),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;
    use crate::config::{Secret, TlsConfig, load};

    /// The settings of a test.
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        /// The number of lanes,
        /// from 1 to 64.
        lanes: usize,
        /// The time to wait.
        #[serde(with = "humantime_serde")]
        #[schemars(with = "String")]
        patience: Duration,
        /// A second name.
        also: Option<String>,
        /// The hosts.
        hosts: Vec<String>,
        /// The secret.
        secret: Option<Secret>,
        /// The sums by name.
        sums: BTreeMap<String, String>,
        /// The doors.
        doors: Vec<Door>,
        /// The files for TLS.
        tls: Option<TlsConfig>,
    }

    /// A door.
    #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Door {
        /// The number of the door.
        number: u32,
    }

    impl Default for Own {
        fn default() -> Self {
            Self {
                lanes: 4,
                patience: Duration::from_secs(90),
                also: None,
                hosts: vec!["a".to_owned(), "b".to_owned()],
                secret: Some(Secret::new("hush")),
                sums: BTreeMap::new(),
                doors: Vec::new(),
                tls: None,
            }
        }
    }

    #[test]
    fn every_key_is_printed_with_its_documentation() {
        let text = reference(&Own::default()).expect("a reference");
        for part in [
            "# The number of lanes,\n# from 1 to 64.\nlanes = 4\n",
            "# The time to wait.\npatience = \"1m 30s\"\n",
            "# A second name.\n#also =\n",
            "hosts = [\"a\", \"b\"]\n",
            "#secret = \"***\"\n",
            "#[sums]\n",
            "#[[doors]]\n\n# The number of the door.\n#number =\n",
            "#[tls]\n",
            "#certificate_file =\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("hush"), "{text}");
    }

    #[test]
    fn what_is_printed_is_what_is_read() {
        let own = Own {
            also: Some("x \"y\"".to_owned()),
            sums: BTreeMap::from([("gateway".to_owned(), "00".to_owned())]),
            doors: vec![Door { number: 1 }, Door { number: 2 }],
            ..Own::default()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("parlor.toml");
        let text = reference(&own).expect("a reference");
        std::fs::write(&path, &text).expect("a file");
        let read: Own = load(Some(&path), HashMap::new()).expect("settings");
        assert_eq!(reference(&read).expect("a reference"), text);
        assert_eq!((read.doors.len(), read.sums.len()), (2, 1));
    }
}
