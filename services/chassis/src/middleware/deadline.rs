//! How long a request may take, and telling the services that are called for it how much of that is left.

use std::future::Future;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use crate::fault::Fault;

/// The header that says how long a caller is going to wait.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

tokio::task_local! {
    static DEADLINE: Instant;
}

/// The time that is left for the request that this task works on; `None` outside of a request.
pub fn remaining() -> Option<Duration> {
    DEADLINE.try_with(|deadline| deadline.saturating_duration_since(Instant::now())).ok()
}

/// Tells the service that is called how much time is left. A shorter time on the request stays as it is.
pub fn inject(headers: &mut HeaderMap) {
    let Some(left) = remaining() else { return };
    if asked(headers).is_some_and(|asked| asked <= left) {
        return;
    }
    // At most eight digits are allowed: more than a day is the same as a day. What we format is always a valid header.
    let left = left.as_millis().clamp(1, 86_400_000);
    if let Ok(value) = HeaderValue::try_from(format!("{left}m")) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// How long the caller of a request waits, when it says so.
pub fn asked(headers: &HeaderMap) -> Option<Duration> {
    headers.get(GRPC_TIMEOUT).and_then(parse)
}

/// How long a request may take: as long as its caller waits, and never longer than `longest`.
pub(super) fn of(headers: &HeaderMap, longest: Duration) -> Duration {
    match asked(headers) {
        // A little less, so that it is our answer that the caller gets, and not the end of its patience.
        Some(asked) => (asked - (asked / 10).min(Duration::from_millis(10))).min(longest),
        None => longest,
    }
}

/// At most eight digits and a unit.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Answers with DEADLINE_EXCEEDED when the work takes longer. Within a request that has a deadline already, the earlier
/// one holds.
pub(super) async fn within(may_take: Duration, work: impl Future<Output = Response>) -> Response {
    let own = Instant::now() + may_take;
    let deadline = DEADLINE.try_with(|outer| own.min(*outer)).unwrap_or(own);
    match timeout_at(deadline, DEADLINE.scope(deadline, work)).await {
        Ok(answer) => answer,
        Err(_) => {
            let fault = Fault::new(Code::DeadlineExceeded, "ERROR_REASON_DEADLINE_EXCEEDED")
                .message("this took too long: it may or may not have happened, and can be repeated");
            Status::from(fault).into_http()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &'static str) -> Option<Duration> {
        parse(&HeaderValue::from_static(text))
    }

    #[test]
    fn every_unit_is_understood_and_nothing_else() {
        assert_eq!(asked("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(asked("3M"), Some(Duration::from_secs(180)));
        assert_eq!(asked("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(asked("250m"), Some(Duration::from_millis(250)));
        assert_eq!(asked("7u"), Some(Duration::from_micros(7)));
        assert_eq!(asked("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "m", "5", "-5m", "+5m", "5x", "5 m", "123456789m", "1.5S"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }

    #[test]
    fn a_caller_may_ask_for_less_and_not_for_more() {
        let longest = Duration::from_secs(10);
        let with = |text| HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(text))]);
        assert_eq!(of(&HeaderMap::new(), longest), longest);
        assert_eq!(of(&with("1H"), longest), longest);
        assert_eq!(of(&with("2S"), longest), Duration::from_millis(1990));
        assert_eq!(of(&with("10m"), longest), Duration::from_millis(9));
        assert_eq!(of(&with("rubbish"), longest), longest);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_goes_with_the_calls() {
        let headers = |text: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(text.map(|text| (GRPC_TIMEOUT, HeaderValue::from_static(text))));
            inject(&mut headers);
            headers.get(GRPC_TIMEOUT).and_then(parse)
        };
        assert_eq!(headers(None), None);
        let work = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(headers(None), Some(Duration::from_secs(3)));
            assert_eq!(headers(Some("1S")), Some(Duration::from_secs(1)));
            assert_eq!(headers(Some("9S")), Some(Duration::from_secs(3)));
            Response::default()
        };
        within(Duration::from_secs(5), work).await;
        assert_eq!(remaining(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_within_a_request_ends_with_it() {
        let inner = async {
            within(Duration::from_secs(60), async {
                assert_eq!(remaining(), Some(Duration::from_secs(5)));
                Response::default()
            })
            .await
        };
        within(Duration::from_secs(5), inner).await;
    }
}
