//! Which names of the IANA database are time zones of places, or of an offset, that a person can be in.

/// Names that are in copies of the database and say nothing about anyone's clock: the zone of a machine that was not told
/// any, the zone of the machine itself, and files that are no zones.
const NO_ZONES: [&str; 7] =
    ["Factory", "Etc/Unknown", "localtime", "posixrules", "leapseconds", "tzdata.zi", "zone.tab"];

/// Folders with copies of all zones, some of which count leap seconds.
const COPIES: [&str; 2] = ["posix/", "right/"];

/// Whether a name of the database is one that a person can name. Case does not matter, as in the database.
pub fn is_of_people(name: &str) -> bool {
    let is_copy =
        |folder: &&str| name.get(..folder.len()).is_some_and(|start| start.eq_ignore_ascii_case(folder));
    !NO_ZONES.iter().any(|other| other.eq_ignore_ascii_case(name)) && !COPIES.iter().any(is_copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_of_a_place_or_of_an_offset() {
        for name in
            ["Europe/Lisbon", "UTC", "Etc/GMT-3", "EST5EDT", "America/Argentina/Buenos_Aires", "posixtown"]
        {
            assert!(is_of_people(name), "{name}");
        }
        for name in [
            "Factory",
            "factory",
            "localtime",
            "posixrules",
            "posix/Europe/Lisbon",
            "RIGHT/UTC",
            "Etc/Unknown",
        ] {
            assert!(!is_of_people(name), "{name}");
        }
    }
}
