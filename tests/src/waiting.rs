//! Waits for conditions, never for times.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for something that should happen at once. Generous: machines are slow at times.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is there.
///
/// # Panics
/// When it is not there in time; says what was waited for.
pub async fn until<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for something that should happen at once.
///
/// # Panics
/// When it does not happen in time; says what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// A time so far from now, as proto JSON has it.
#[expect(clippy::disallowed_methods, reason = "a story runs on the wall's time")]
pub fn from_now(span: Duration) -> String {
    let seconds = (SystemTime::now() + span).duration_since(UNIX_EPOCH).expect("after 1970");
    let timestamp = prost_types::Timestamp {
        seconds: seconds.as_secs() as i64,
        nanos: seconds.subsec_millis() as i32 * 1_000_000,
    };
    timestamp.to_string()
}
