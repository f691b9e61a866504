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
    use ::chain::{AppliedBlock, BlockReference, Endpoints, Follow, RpcSettings};
    use alloy_primitives::B256;
    use axum::{Json, Router, routing};
    use serde_json::{Value, json};

    use super::*;

    /// How long a test waits at most.
    const PATIENCE: Duration = Duration::from_secs(60);
    const NEWEST: BlockReference = BlockReference {
        number: 7,
        hash: B256::repeat_byte(7),
    };
    const TIME: u64 = 1_700_000_000;

    /// A chain that stands still, as a URL.
    async fn still_chain() -> url::Url {
        let mut block = alloy::rpc::types::Block::<B256>::default();
        block.header.hash = NEWEST.hash;
        block.header.inner.number = NEWEST.number;
        block.header.inner.timestamp = TIME;
        let answer = move |Json(call): Json<Value>| async move {
            let result = match call["method"].as_str() {
                Some("eth_chainId") => json!("0x1"),
                Some("web3_clientVersion") => json!("still/1"),
                Some("eth_getBlockByNumber") => json!(block),
                other => panic!("nobody was to ask for {other:?}"),
            };
            Json(json!({"jsonrpc": "2.0", "id": call["id"], "result": result}))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", routing::post(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}").parse().expect("a URL")
    }

    #[tokio::test]
    async fn a_store_that_has_all_there_is_waits_for_no_other_block() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("store");
        let last = AppliedBlock {
            number: NEWEST.number,
            hash: NEWEST.hash,
            parent: B256::ZERO,
            timestamp: TIME,
            logs: Vec::new(),
        };
        let batch = Batch {
            events: vec![Event::Applied(last)],
            head: NEWEST,
            caught_up: true,
        };
        store.apply(1, &batch).await.expect("apply");

        let settings = RpcSettings::new(vec![still_chain().await]);
        let endpoints = Endpoints::new(&settings).expect("endpoints");
        let following = Follow {
            addresses: vec![alloy_primitives::Address::ZERO],
            topics: Vec::new(),
            start_block: 0,
        };
        let history = store.history().await.expect("history");
        let follower = Follower::new(&endpoints, &settings, following, history).expect("a follower");
        let seen = watch::Sender::new(Seen::default());
        let mut seen_by_others = seen.subscribe();
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow(follower, store, 1, seen, stop.clone()));
        let caught_up = tokio::time::timeout(PATIENCE, seen_by_others.wait_for(|seen| seen.caught_up));
        let expected = Seen {
            head: NEWEST.number,
            time: TIME,
            caught_up: true,
        };
        assert_eq!(
            *caught_up.await.expect("it is caught up in time").expect("it follows"),
            expected
        );
        stop.cancel();
        let Ok(()) = task.await.expect("it ends");
    }

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
