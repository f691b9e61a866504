//! From the chain into the store: every block's events, in the transaction that moves the checkpoint.

use std::convert::Infallible;
use std::time::Duration;

use ::chain::{Batch, Event, Follower};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How long to wait after a failed write, before the blocks are read again.
const RETRY: Duration = Duration::from_secs(1);

/// How far the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// The newest block whose events are stored.
    pub head: u64,
    /// Its time, Unix seconds.
    pub time: u64,
    /// Whether it is the newest block there is: only then decide.
    pub caught_up: bool,
}

/// Follows until `stop`. `own` is the provider's supplier id.
pub async fn follow(
    mut follower: Follower,
    store: Store,
    own: u32,
    seen: watch::Sender<Seen>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            batch = follower.next_batch() => batch,
        };
        if let Err(error) = store.apply(own, &batch).await {
            tracing::error!(%error, "the chain's events cannot be stored; nothing is decided until they can");
            seen.send_modify(|seen| seen.caught_up = false);
            start_again(&mut follower, &store, &stop).await;
            continue;
        }
        seen.send_modify(|seen| *seen = after(*seen, &batch));
    }
}

async fn start_again(follower: &mut Follower, store: &Store, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        match store.history().await {
            Ok(history) => return follower.rewind(history),
            Err(error) => tracing::error!(%error, "the checkpoint cannot be read"),
        }
    }
}

fn after(before: Seen, batch: &Batch) -> Seen {
    let mut seen = before;
    for event in &batch.events {
        match event {
            Event::Applied(block) => {
                seen.head = block.number;
                seen.time = block.timestamp;
            }
            Event::Reverted { above } => seen.head = *above,
        }
    }
    seen.caught_up = batch.caught_up;
    seen
}
