//! Waiting for something outside of this process (a container gone, a server up) that sends no notice of its own.

use std::time::{Duration, Instant};

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks until `look` says `Ok`, and fails with the last reason that it gave when `within` is over.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        let reason = match look().await {
            Ok(value) => return value,
            Err(reason) => reason,
        };
        assert!(Instant::now() < deadline, "{what}: not within {within:?}. Last seen: {reason}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
