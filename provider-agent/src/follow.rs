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

/// What is wrong with what is known of the chain, in words. `quiet` is the time since the last new block, which is too long above
/// `stale_after`: an endpoint that is stuck, or answers everything with an error, answers.
pub fn problem(is_reachable: bool, caught_up: bool, quiet: Duration, stale_after: Duration) -> Option<String> {
    if !is_reachable {
        return Some("the chain does not answer: no bids, nothing is closed or removed; workloads run on".to_owned());
    }
    if !caught_up {
        return Some("the chain is being read; nothing is decided before its newest block was seen".to_owned());
    }
    (quiet > stale_after).then(|| {
        format!(
            "no new block for more than {} s: the RPC endpoint is stuck, or refuses (see the log); leases do not end and pay is not \
             collected until it goes on; give `rpc` another one",
            stale_after.as_secs()
        )
    })
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
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = begin(&follower, &seen) => {}
        }
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                batch = follower.next_batch() => batch,
            };
            if let Err(error) = store.apply(own, &batch).await {
                tracing::error!(%error, "the chain's events cannot be stored; nothing is decided until they can");
                seen.send_modify(|seen| seen.caught_up = false);
                start_again(&mut follower, &store, &stop).await;
                break;
            }
            seen.send_modify(|seen| *seen = after(*seen, &batch));
        }
    }
}

/// What is stored may be all there is: then nothing waits for the next block.
async fn begin(follower: &Follower, seen: &watch::Sender<Seen>) {
    if let Some((block, time)) = follower.newest_of_all().await {
        seen.send_replace(Seen {
            head: block.number,
            time,
            caught_up: true,
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_stands_still_is_no_chain_to_rely_on() {
        let stale_after = Duration::from_secs(60);
        let told = |is_reachable, caught_up, quiet| {
            problem(is_reachable, caught_up, Duration::from_secs(quiet), stale_after).unwrap_or_default()
        };
        assert_eq!(told(true, true, 60), "");
        assert!(told(true, true, 61).contains("no new block for more than 60 s"));
        assert!(told(true, false, 0).contains("is being read"));
        assert!(told(false, true, 100).contains("does not answer"));
    }
}
