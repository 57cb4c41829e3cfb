//! Reading the configuration.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use config::{Environment, File, FileFormat};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::keys::{self, Key, Kind};

/// The beginning of each variable of the environment that is a setting.
const PREFIX: &str = "PARLOR";

/// Reads the settings from a file, when one is named, and from these variables of the environment.
///
/// The items of a list are separated by commas in the environment. A variable that names a setting with single
/// underscores (`PARLOR_LISTEN_GRPC`) is refused.
pub fn load<C: DeserializeOwned + JsonSchema>(
    file: Option<&Path>,
    environment: HashMap<String, String>,
) -> anyhow::Result<C> {
    let keys = keys::keys::<C>();
    refuse_single_underscores(&keys, &environment)?;
    let mut sources = config::Config::builder();
    if let Some(path) = file {
        let path = path.to_str().context("the path of the configuration must be UTF-8")?;
        sources = sources.add_source(File::new(path, FileFormat::Toml));
    }
    let mut variables = Environment::with_prefix(PREFIX)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .source(Some(environment));
    for list in lists(&keys) {
        variables = variables.with_list_parse_key(&list);
    }
    let merged = sources.add_source(variables).build().context("the configuration cannot be read")?;
    merged.try_deserialize().context("the configuration does not fit")
}

/// The paths of the settings that are lists.
fn lists(keys: &[Key]) -> Vec<String> {
    let mut lists = Vec::new();
    keys::visit(keys, &mut |path, kind| {
        if *kind == Kind::List {
            lists.push(path.join("."));
        }
    });
    lists
}

/// Refuses a variable that would be a setting with double underscores.
fn refuse_single_underscores(keys: &[Key], environment: &HashMap<String, String>) -> anyhow::Result<()> {
    let mut refused = Ok(());
    keys::visit(keys, &mut |path, kind| {
        let key = path.join("__").to_uppercase();
        let single = format!("{PREFIX}_{}", path.join("_").to_uppercase());
        let names = |variable: &str| {
            let rest = variable.replace("__", "_");
            rest == single || (*kind == Kind::Map && rest.starts_with(&format!("{single}_")))
        };
        let is_setting = |variable: &&String| variable.starts_with(&format!("{PREFIX}__"));
        let mut odd = environment.keys().filter(|variable| !is_setting(variable) && names(variable));
        if let (Ok(()), Some(variable)) = (&refused, odd.next()) {
            refused = Err(anyhow::anyhow!("{variable} is not read: the setting is {PREFIX}__{key}"));
        }
    });
    refused
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::Settings;
    use crate::profile::Profile;

    #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        lanes: usize,
        hosts: Option<Vec<String>>,
        names: BTreeMap<String, String>,
    }

    fn from(variables: &[(&str, &str)]) -> anyhow::Result<Settings<Own>> {
        load(None, variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_environment_is_over_the_defaults() {
        let settings = from(&[
            ("PARLOR__PROFILE", "production"),
            ("PARLOR__SERVICE__LANES", "7"),
            ("PARLOR__PEERS__AUTH", "http://a:1,http://b:2"),
            ("UNRELATED", "x"),
        ])
        .expect("settings");
        assert_eq!(settings.profile, Profile::Production);
        assert_eq!(settings.service.lanes, 7);
        assert_eq!(settings.peers.auth, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn every_list_can_be_in_the_environment() {
        let settings = from(&[("PARLOR__SERVICE__HOSTS", "a,b"), ("PARLOR__PEERS__MESSAGING", "http://a:1")])
            .expect("settings");
        assert_eq!(settings.service.hosts.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(settings.peers.messaging, ["http://a:1"]);
    }

    #[test]
    fn a_key_that_no_setting_has_is_refused() {
        let error = from(&[("PARLOR__LISTEN__GRCP", "127.0.0.1:1")]).expect_err("unknown");
        assert!(format!("{error:#}").contains("grcp"), "{error:#}");
    }

    #[test]
    fn a_setting_with_single_underscores_is_refused() {
        for (variable, setting) in [
            ("PARLOR_LISTEN_GRPC", "PARLOR__LISTEN__GRPC"),
            ("PARLOR_SERVICE__LANES", "PARLOR__SERVICE__LANES"),
            ("PARLOR_IDENTITY_SECRET_FILE", "PARLOR__IDENTITY__SECRET_FILE"),
            ("PARLOR_SERVICE_NAMES_X", "PARLOR__SERVICE__NAMES"),
        ] {
            let error = from(&[(variable, "1")]).expect_err(variable).to_string();
            assert_eq!(error, format!("{variable} is not read: the setting is {setting}"));
        }
        assert!(from(&[("PARLOR_ADDRESS", "1"), ("PARLOR_TEST_NATS", "2")]).is_ok());
    }

    #[test]
    fn the_file_is_under_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("parlor.toml");
        std::fs::write(&path, "profile = \"production\"\n[service]\nlanes = 3\n").expect("a file");
        let variables = HashMap::from([("PARLOR__SERVICE__LANES".to_owned(), "4".to_owned())]);
        let settings: Settings<Own> = load(Some(&path), variables).expect("settings");
        assert_eq!((settings.profile, settings.service.lanes), (Profile::Production, 4));
    }
}
