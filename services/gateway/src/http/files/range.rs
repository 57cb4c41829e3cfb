//! The requested part of a file (RFC 9110, `Range`). A request for more than one part is answered with the whole file.

use http::HeaderMap;
use http::header::RANGE;

/// The requested range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// From this byte on.
    From(u64),
    /// From one byte to another, both included.
    Between(u64, u64),
    /// This number of bytes at the end.
    Last(u64),
}

/// An existing part, from one byte to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub first: u64,
    pub last: u64,
}

impl Asked {
    /// Returns the range that a request asks for; `None` for the whole file. An unintelligible range is ignored, as the
    /// standard requires.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let (first, last) =
            headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.trim().split_once('-')?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // A number that does not fit is larger than any file.
            is_number.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (number(first), number(last)) {
            (Some(first), None) if last.is_empty() => Some(Self::From(first)),
            (Some(first), Some(last)) if first <= last => Some(Self::Between(first, last)),
            (None, Some(count)) if first.is_empty() => Some(Self::Last(count)),
            _ => None,
        }
    }

    /// Returns the part of the range that exists in a file of this size.
    pub(super) fn within(self, size: u64) -> Option<Part> {
        let end = size.checked_sub(1)?;
        let (first, last) = match self {
            Self::From(first) => (first, end),
            Self::Between(first, last) => (first, last.min(end)),
            Self::Last(0) => return None,
            Self::Last(count) => (size.saturating_sub(count), end),
        };
        (first <= last).then_some(Part { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Asked> {
        Asked::of(&HeaderMap::from_iter([(RANGE, text.parse().expect("a header"))]))
    }

    #[test]
    fn one_part_is_understood_and_nothing_else() {
        assert_eq!(asked("bytes=0-0"), Some(Asked::Between(0, 0)));
        assert_eq!(asked("bytes=5-"), Some(Asked::From(5)));
        assert_eq!(asked("bytes=-5"), Some(Asked::Last(5)));
        assert_eq!(asked("bytes=1-99999999999999999999999"), Some(Asked::Between(1, u64::MAX)));
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=+1-2",
            "bytes=--1",
        ] {
            assert_eq!(asked(text), None, "{text}");
        }
    }

    #[test]
    fn a_part_ends_where_the_file_does() {
        let part = |text: &str, size| asked(text)?.within(size).map(|part| (part.first, part.last));
        assert_eq!(part("bytes=2-3", 10), Some((2, 3)));
        assert_eq!(part("bytes=2-99", 10), Some((2, 9)));
        assert_eq!(part("bytes=9-", 10), Some((9, 9)));
        assert_eq!(part("bytes=-3", 10), Some((7, 9)));
        assert_eq!(part("bytes=-99", 10), Some((0, 9)));
        for nothing in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            assert_eq!(part(nothing, 10), None, "{nothing}");
        }
        assert_eq!(part("bytes=0-", 0), None);
    }
}
