//! What the examples of the contract leave open: `$conversation` and the like, and what stands there in the document.

/// Every name that an example may leave open, with what the document for the web shows in its place.
pub const SAMPLES: &[(&str, &str)] = &[
    ("conversation", "01937b6e-7c4a-7d3b-9f00-0242ac120002"),
    ("message", "01937b70-51e8-7a02-8c11-6f2d9d3a4b10"),
    ("poll", "01937b70-9b3d-7f64-a3c2-1d0f5e7b8a21"),
    ("target", "01937b71-0c7e-7b19-b5d4-8e3a2c6f9d32"),
    ("room", "01937b71-4f22-7e8d-9a67-3b5c7d1e0f43"),
    ("member", "01937b60-13a5-7c4e-8b78-5d9e1f2a3c54"),
    ("user", "01937b60-6d91-7d3f-9c89-7f0b2d4e5a65"),
    ("banned", "01937b60-b8c4-7a52-8d9a-9c1e3f5a6b76"),
    ("report", "01937b72-2e0b-7f17-ad2b-1e3f5a7c8d87"),
    ("scheduled_message", "01937b72-7a96-7b28-8e3c-2f4a6b8d9e98"),
    ("upload", "01937b73-1d4f-7c39-9f4d-3a5b7c9e0fa9"),
    ("alert", "01937b73-60e8-7d4a-a05e-4b6c8dafb1ba"),
    ("session", "01937b5f-4a71-7e5b-b16f-5c7d9eb0c2cb"),
    ("device_key", "01937b5f-8c05-7f6c-827a-6d8eafc1d3dc"),
    ("acquaintance", "01937b60-f1a2-7b33-8c44-1a2b3c4d5e6f"),
    ("reviewed", "01937b61-0a9b-7c55-9d66-2b3c4d5e6f70"),
    ("asking", "01937b62-2b4c-7a11-8b22-3c4d5e6f7081"),
    ("asked", "01937b62-3c5d-7b22-9c33-4d5e6f708192"),
    ("writing", "01937b62-4d6e-7c33-8d44-5e6f708192a3"),
    ("written", "01937b62-5e7f-7d44-9e55-6f708192a3b4"),
    ("call", "01937b73-a4c1-7e6b-b27f-5c7d9eb0c3d4"),
    ("accepted_call", "01937b73-e85a-7f7c-839a-6d8eafc1d4e5"),
    ("login", "ann"),
    ("password", "correct horse battery"),
    ("token", "bm90IGEgdG9rZW4gb2YgYW55Ym9keSBhdCBhbGwsIGp1c3Q"),
    ("unused_email", "ann@example.org"),
    ("unused_name", "ann"),
    ("unused_id", "3f1c9a52-7d0e-4b86-a1f4-95c27e8b60d3"),
    ("soon", "2030-01-01T09:00:00Z"),
    ("schedule", "01937b73-a2c4-7e61-b37f-5c7d9eb0c2db"),
    ("slot_start", "2030-01-01T09:00:00Z"),
    ("slot_end", "2030-01-01T09:30:00Z"),
    ("local_date", "2030-01-01"),
];

/// What the document shows for a name.
pub fn sample(name: &str) -> Option<String> {
    SAMPLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// An example with everything in place that it leaves open.
///
/// # Errors
/// With the name for which there is no value.
pub fn fill(request: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(request.len());
    let mut rest = request;
    while let Some((before, after)) = rest.split_once("\"$") {
        let (name, after) = after.split_once('"').unwrap_or((after, ""));
        let value = value(name).ok_or_else(|| name.to_owned())?;
        filled.push_str(before);
        filled.push('"');
        filled.push_str(&value);
        filled.push('"');
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled() {
        let value = |name: &str| (name != "b").then(|| format!("<{name}>"));
        assert_eq!(
            fill(r#"{"x":"$a","y":["$a","$c"]}"#, value).as_deref(),
            Ok(r#"{"x":"<a>","y":["<a>","<c>"]}"#)
        );
        assert_eq!(fill(r#"{"x":"a$"}"#, value).as_deref(), Ok(r#"{"x":"a$"}"#));
        assert_eq!(fill(r#"{"x":"$b"}"#, value), Err("b".to_owned()));
    }

    #[test]
    fn samples_are_ids_names_and_times() {
        const NO_IDS: [&str; 9] = [
            "login",
            "password",
            "token",
            "unused_email",
            "unused_name",
            "soon",
            "slot_start",
            "slot_end",
            "local_date",
        ];
        let ids = SAMPLES.iter().filter(|(_, value)| uuid::Uuid::parse_str(value).is_ok()).count();
        assert_eq!(ids, SAMPLES.len() - NO_IDS.len());
        assert!(NO_IDS.iter().all(|name| sample(name).is_some()));
        assert_eq!(sample("soon").as_deref(), Some("2030-01-01T09:00:00Z"));
        assert_eq!(sample("nobody"), None);
    }
}
