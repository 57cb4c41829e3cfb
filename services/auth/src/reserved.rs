//! The usernames that nobody registers, because people would take their owners for the operator. The one place that says
//! so; accounts that had such a name before keep it.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::username::Username;

/// The names that are always reserved.
const ALWAYS: [&str; 26] = [
    "abuse",
    "admin",
    "administration",
    "administrator",
    "helpdesk",
    "hostmaster",
    "mod",
    "moderation",
    "moderator",
    "no-reply",
    "official",
    "operator",
    "owner",
    "parlor",
    "postmaster",
    "root",
    "security",
    "service",
    "staff",
    "superuser",
    "support",
    "sysadmin",
    "sysop",
    "system",
    "system-administrator",
    "webmaster",
];

/// The reserved names, by what they look like.
#[derive(Clone, Debug)]
pub struct ReservedNames(BTreeSet<String>);

impl ReservedNames {
    /// The names that are always reserved, and these.
    pub fn new(others: &[String]) -> anyhow::Result<Self> {
        let parse = |name: &String| {
            let parsed = Username::parse(name);
            parsed.with_context(|| format!("usernames.reserved: `{name}` cannot be a username"))
        };
        let others = others.iter().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        let others = others.iter().map(|name| look(name.as_str()));
        Ok(Self(ALWAYS.into_iter().map(look).chain(others).collect()))
    }

    /// True when no account can be made with this name: it is a reserved one, or looks like one.
    pub fn contains(&self, name: &Username) -> bool {
        self.0.contains(&look(name.as_str()))
    }
}

/// What two names that look alike have in common: the characters between words do not count, and neither does the
/// difference between a letter and a digit or two letters in its shape.
fn look(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | '.'));
    let letters: String = letters
        .map(|c| match c {
            '0' => 'o',
            '1' | 'i' => 'l',
            '3' => 'e',
            '4' => 'a',
            '5' => 's',
            '7' => 't',
            '8' => 'b',
            other => other,
        })
        .collect();
    letters.replace("rn", "m").replace("vv", "w")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(names: &ReservedNames, name: &str) -> bool {
        names.contains(&Username::parse(name).unwrap())
    }

    #[test]
    fn names_that_look_like_the_operator_are_reserved() {
        let names = ReservedNames::new(&[]).unwrap();
        for name in ALWAYS {
            assert!(contains(&names, name) && contains(&names, &name.to_uppercase()), "{name}");
        }
        for name in [
            "adm1n",
            "admln",
            "4dmin",
            "a.d.m.i.n",
            "_admin_",
            "r00t",
            "5upport",
            "sup-port",
            "m0derator",
            "adrnin",
        ] {
            assert!(contains(&names, name), "{name}");
        }
        for name in ["admin1", "admins", "owners", "roo", "ann", "brave-otter-4821", "modest", "rooter"] {
            assert!(!contains(&names, name), "{name}");
        }
    }

    #[test]
    fn an_operator_adds_names() {
        let names = ReservedNames::new(&["Acme".to_owned()]).unwrap();
        assert!(contains(&names, "acme") && contains(&names, "a-c-m-3") && contains(&names, "admin"));
        assert!(!contains(&names, "acme-fan"));
        let refused = ReservedNames::new(&["not a name".to_owned()]).unwrap_err().to_string();
        assert!(refused.contains("not a name"), "{refused}");
    }
}
