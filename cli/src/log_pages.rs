//! Logs by ranges of blocks: no endpoint gives the logs of a whole chain at once, and each has a limit of its own.

use std::ops::RangeInclusive;

use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use eyre::WrapErr as _;

use crate::chain::Chain;

/// Blocks asked for at first, and at most.
const FIRST_RANGE: u64 = 5_000;
const LARGEST_RANGE: u64 = 10_000;
/// Order ids asked for in one filter.
pub(crate) const TOPICS_AT_ONCE: usize = 200;

/// How many blocks an endpoint gives the logs of.
#[derive(Debug, Clone, Copy)]
struct Range(u64);

impl Range {
    fn grow(&mut self) {
        self.0 = (self.0 + self.0 / 2 + 1).min(LARGEST_RANGE);
    }

    /// Whether a smaller range is worth asking for.
    fn shrink(&mut self) -> bool {
        let can = self.0 > 1;
        self.0 = (self.0 / 2).max(1);
        can
    }
}

impl Chain {
    /// All logs of a filter in these blocks, oldest first.
    pub(crate) async fn logs_in(&self, filter: &Filter, blocks: RangeInclusive<u64>) -> eyre::Result<Vec<Log>> {
        let (mut range, mut from, mut found) = (Range(FIRST_RANGE), *blocks.start(), Vec::new());
        while from <= *blocks.end() {
            let to = (*blocks.end()).min(from + range.0 - 1);
            if let Some(logs) = self.page(filter, from, to, &mut range).await? {
                found.extend(logs);
                from = to + 1;
            }
        }
        Ok(found)
    }

    /// The newest log of a filter in these blocks, looking from the end.
    pub(crate) async fn last_log(&self, filter: &Filter, blocks: RangeInclusive<u64>) -> eyre::Result<Option<Log>> {
        let (mut range, mut to) = (Range(FIRST_RANGE), *blocks.end());
        while to >= *blocks.start() {
            let from = (to.saturating_sub(range.0 - 1)).max(*blocks.start());
            if let Some(mut logs) = self.page(filter, from, to, &mut range).await? {
                if let Some(log) = logs.pop() {
                    return Ok(Some(log));
                }
                let Some(before) = from.checked_sub(1) else { break };
                to = before;
            }
        }
        Ok(None)
    }

    /// Nothing if the endpoint refused the range and a smaller one is worth asking for.
    async fn page(&self, filter: &Filter, from: u64, to: u64, range: &mut Range) -> eyre::Result<Option<Vec<Log>>> {
        match self
            .provider
            .get_logs(&filter.clone().from_block(from).to_block(to))
            .await
        {
            Ok(logs) => {
                range.grow();
                Ok(Some(logs))
            }
            // Endpoints word their limits in a hundred ways; whatever they refuse, less may do.
            Err(error) if error.as_error_resp().is_some() && from < to && range.shrink() => Ok(None),
            Err(error) => Err(error).wrap_err_with(|| format!("cannot read the logs of the blocks {from} to {to}")),
        }
    }
}

/// A log as the event it is.
pub(crate) fn decoded<E: SolEvent>(log: &Log) -> eyre::Result<E> {
    Ok(E::decode_log(&log.inner)
        .wrap_err("the chain holds a log that is not understood")?
        .data)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::{Arc, Mutex};

    use ::chain::network::Network;
    use axum::Json;
    use serde_json::{Value, json};

    use super::*;

    /// A node that gives the logs of at most `limit` blocks, one log in every block whose number ends in 7.
    async fn node(limit: u64) -> (Chain, Arc<Mutex<Vec<u64>>>) {
        let widths = Arc::new(Mutex::new(Vec::new()));
        let noted = widths.clone();
        let answer = move |Json(request): Json<Value>| {
            let number = |value: &Value| {
                let text = value.as_str().expect("a number").trim_start_matches("0x");
                u64::from_str_radix(text, 16).expect("hexadecimal")
            };
            let reply = match request["method"].as_str() {
                Some("eth_chainId") => json!({"result": "0x1"}),
                Some("eth_getLogs") => {
                    let filter = &request["params"][0];
                    let (from, to) = (number(&filter["fromBlock"]), number(&filter["toBlock"]));
                    noted.lock().expect("not poisoned").push(to - from + 1);
                    if to - from >= limit {
                        json!({"error": {"code": -32005, "message": "query returned more than 10000 results"}})
                    } else {
                        let logs: Vec<Value> = (from..=to).filter(|block| block % 10 == 7).map(log).collect();
                        json!({"result": logs})
                    }
                }
                other => panic!("{other:?} was not expected"),
            };
            let mut reply = reply;
            (reply["jsonrpc"], reply["id"]) = ("2.0".into(), request["id"].clone());
            async move { Json(reply) }
        };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let router = axum::Router::new().route("/", axum::routing::post(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut network: Network = crate::serving::nowhere();
        network.rpc = vec![url];
        daemon::tls::install_provider();
        (Chain::new(network, 500).expect("chain"), widths)
    }

    fn log(block: u64) -> Value {
        let zero = format!("0x{}", "0".repeat(64));
        json!({
            "address": format!("0x{}", "0".repeat(40)), "topics": [zero], "data": "0x", "blockHash": zero,
            "transactionHash": zero, "transactionIndex": "0x0", "logIndex": "0x0", "removed": false,
            "blockNumber": format!("0x{block:x}"),
        })
    }

    #[tokio::test]
    async fn ranges_shrink_to_what_the_endpoint_gives_and_nothing_is_missed() {
        let (chain, widths) = node(300).await;
        let logs = chain.logs_in(&Filter::new(), 3..=9_999).await.expect("read");
        let blocks: Vec<u64> = logs.iter().filter_map(|log| log.block_number).collect();
        let expected: Vec<u64> = (3..=9_999).filter(|block| block % 10 == 7).collect();
        assert_eq!(blocks, expected);
        let widths = widths.lock().expect("not poisoned");
        assert!(
            widths.iter().all(|width| *width <= FIRST_RANGE) && widths.len() < 120,
            "{widths:?}"
        );
    }

    #[tokio::test]
    async fn the_newest_log_is_looked_for_from_the_end() {
        let (chain, widths) = node(300).await;
        let log = chain
            .last_log(&Filter::new(), 0..=1_000_006)
            .await
            .expect("read")
            .expect("one");
        assert_eq!(log.block_number, Some(999_997));
        assert!(widths.lock().expect("not poisoned").len() < 10);
        assert_eq!(chain.last_log(&Filter::new(), 0..=6).await.expect("read"), None);
        let logs = chain
            .logs_in(&Filter::new(), std::ops::RangeInclusive::new(5, 4))
            .await
            .expect("nothing to read");
        assert!(logs.is_empty());
    }

    #[tokio::test]
    async fn an_endpoint_that_gives_nothing_at_all_is_a_failure() {
        let (chain, _) = node(0).await;
        let error = chain.logs_in(&Filter::new(), 0..=100).await.expect_err("refused");
        assert!(format!("{error:#}").contains("more than 10000 results"), "{error:#}");
    }
}
