//! Waiting for what must come.

use std::time::{Duration, Instant};

use eyre::ensure;

/// How long a test waits for any one thing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Asks until there is an answer; the message says what was awaited.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> eyre::Result<Option<T>>) -> eyre::Result<T> {
    within(DEADLINE, what, ask).await
}

/// Asks until there is an answer or the time is over.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    ask: impl AsyncFn() -> eyre::Result<Option<T>>,
) -> eyre::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "waited {} s for {what}", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
