//! Random values: of the wrong type, too long, not what they say they are.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::scene::Scene;

/// A value for a field, most often one that means something.
pub fn field(scene: &Scene, rng: &mut Rng) -> Value {
    match rng.u8(..10) {
        0..=3 => scene.id(rng),
        4..=5 => json!(words(rng)),
        _ => any(rng, 2),
    }
}

/// Any value, nested so deep at most.
pub fn any(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(..if depth == 0 { 9 } else { 11 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(rng.i64(-3..100)),
        4 => json!(rng.f64() * 1e300),
        5..=7 => json!(words(rng)),
        8 => json!(text(rng)),
        9 => Value::Array((0..rng.usize(..6)).map(|_| any(rng, depth - 1)).collect()),
        _ => {
            let fields = (0..rng.usize(..6)).map(|_| (words(rng), any(rng, depth - 1)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

/// A text that some operation knows.
fn words(rng: &mut Rng) -> String {
    const WORDS: [&str; 24] = [
        "",
        " ",
        "0",
        "-1",
        "1",
        "text",
        "link",
        "hello",
        "private",
        "channel",
        "true",
        "undefined",
        "read",
        "https://example.com/",
        "http://example.com/",
        "2025-01-01T00:00:00Z",
        "1h30m",
        "!ban ann 1d spam",
        "NEWEST_FIRST",
        "eyJzb3J0IjoiTkVXRVNUX0ZJUlNUIiwibGFzdFNlZW4iOiIxIn0=",
        "{\"pageToken\":\"x\"}",
        "\u{1f44d}",
        "09:00",
        "audio",
    ];
    WORDS[rng.usize(..WORDS.len())].to_owned()
}

/// A random text, at times a long one.
pub fn text(rng: &mut Rng) -> String {
    let len = match rng.u8(..20) {
        0 => 20_000,
        1 => 70_000,
        _ => rng.usize(..40),
    };
    (0..len).map(|_| rng.char(..)).collect()
}
