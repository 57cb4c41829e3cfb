//! The duration of a ban, as clients write it: `30m`, `1d12h`, `1d 2h`.

use std::time::Duration;

/// The longest ban.
const MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Reads a duration: numbers with `s`, `m`, `h` or `d`. Weeks are accepted and ignored. `None` for an invalid text, for
/// less than a second, and for more than ten years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (mut seconds, mut number) = (0u64, None::<u64>);
    for letter in text.chars().filter(|letter| !letter.is_whitespace()) {
        if let Some(digit) = letter.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match letter.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            'w' => 0,
            _ => return None,
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let duration = Duration::from_secs(seconds);
    (number.is_none() && !duration.is_zero() && duration <= MAX).then_some(duration)
}

/// Returns the duration in words, in its largest units.
pub(super) fn words(duration: Duration) -> String {
    let mut rest = duration.as_secs().max(1);
    let mut words = Vec::new();
    for (unit, name) in [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute"), (1, "second")] {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            words.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    words.truncate(2);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs());
        for (text, expected) in
            [("1s", 1), ("30m", 1800), ("1d12h", 129_600), ("1D 2h", 93_600), ("1w1d", 86_400), ("5m5m", 600)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn others_are_no_duration() {
        for text in [
            "",
            "0",
            "0s",
            "10",
            "1w",
            "d",
            "1x",
            "-1d",
            "1.5h",
            "1d1",
            "3651d",
            "99999999999999999999d",
            "forever",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_reads_in_two_units() {
        assert_eq!(words(Duration::from_secs(86_400)), "1 day");
        assert_eq!(words(Duration::from_secs(129_661)), "1 day 12 hours");
        assert_eq!(words(Duration::from_millis(200)), "1 second");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}") {
            let _ = parse(&text);
        }
    }
}
