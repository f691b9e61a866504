//! A provider's own program that prices an order: the order as JSON on stdin, whole tokens an hour on stdout.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use avs::words::OrderId;
use futures::future::join_all;
use manifest::Decimal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::bidding::{Bid, OpenOrder};
use crate::pricing::{Prices, TooDear};

/// A price has few digits.
const LONGEST_ANSWER_BYTES: u64 = 256;

/// The program.
#[derive(Debug, Clone)]
pub struct PricingCommand {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Why a program's time limit cannot be used with this bid window; nothing where it can.
pub fn too_slow(timeout: Duration, window: Duration) -> Option<String> {
    (timeout * 2 >= window).then(|| {
        format!(
            "bidding.command_timeout is {timeout:?}, it must be under half of the bid window of {window:?}: a bid that comes \
             late is no bid"
        )
    })
}

impl PricingCommand {
    /// The bids at the program's prices. Orders that it gives no price, or no usable one in time, get no bid.
    pub async fn price(&self, prices: &BTreeMap<u8, Prices>, orders: &[OpenOrder], bids: Vec<Bid>) -> Vec<Bid> {
        let priced = bids.into_iter().map(|bid| async move {
            let order = orders.iter().find(|order| order.id == bid.order)?;
            let list = prices.get(&OrderId::unpack(bid.order).token)?;
            match self.ask(order, &bid).await {
                Ok(None) => None,
                Ok(Some(price)) => match list.rate_of_hour(price) {
                    Ok(rate) if rate <= bid.maximum_rate => Some(Bid { rate, ..bid }),
                    Ok(rate) => {
                        let TooDear { asked, offered, symbol } = list.too_dear(rate, bid.maximum_rate);
                        tracing::info!(
                            order = bid.order,
                            "the program asks {asked} {symbol}/h, the order offers at most {offered}"
                        );
                        None
                    }
                    Err(error) => {
                        tracing::warn!(order = bid.order, %error, "the program's price cannot be used");
                        None
                    }
                },
                Err(reason) => {
                    tracing::warn!(order = bid.order, reason, "the pricing program failed; no bid");
                    None
                }
            }
        });
        join_all(priced).await.into_iter().flatten().collect()
    }

    async fn ask(&self, order: &OpenOrder, bid: &Bid) -> Result<Option<Decimal>, String> {
        let (resources, _) = order.terms.unpack().map_err(|error| error.to_string())?;
        let question = json!({
            "order": order.id.to_string(),
            "token": OrderId::unpack(order.id).token,
            "duration_seconds": order.terms.duration,
            "milli_cpu": u64::from(resources.cpu) * avs::words::CPU_UNIT_MILLIS,
            "memory_bytes": u64::from(resources.memory) * avs::words::MEMORY_UNIT_BYTES,
            "storage_bytes": u64::from(resources.storage) * avs::words::STORAGE_UNIT_BYTES,
            "gpus": resources.gpu_count,
            "gpu_ids": resources.gpus.iter().collect::<Vec<_>>(),
            "maximum_rate": order.terms.maximum_rate.to_string(),
            "own_rate": bid.rate.to_string(),
            "rate_seconds": avs::words::RATE_SECONDS,
        });
        let talking = self.talk(question.to_string());
        let answer = tokio::time::timeout(self.timeout, talking)
            .await
            .map_err(|_| format!("it took longer than {:?}", self.timeout))??;
        match answer.trim() {
            "" => Ok(None),
            price => price
                .parse()
                .map(Some)
                .map_err(|error| format!("it printed no price: {error}")),
        }
    }

    async fn talk(&self, question: String) -> Result<String, String> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err("no program is configured".to_owned());
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} cannot be run: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its question closes the pipe; what it prints counts all the same.
            let _ = stdin.write_all(question.as_bytes()).await;
        }
        let mut answer = String::new();
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(LONGEST_ANSWER_BYTES)
                .read_to_string(&mut answer)
                .await
                .map_err(|error| error.to_string())?;
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() {
            Ok(answer)
        } else {
            Err(format!("it ended with {status}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, U256};
    use avs::terms::Terms;
    use avs::words::{Requirements, Resources};

    use super::*;

    fn order() -> OpenOrder {
        let resources = Resources {
            cpu: 50,
            memory: 16,
            ..Resources::default()
        };
        let id = OrderId {
            account: 1,
            token: 1,
            nonce: 1,
        };
        OpenOrder {
            id: id.pack().expect("an id"),
            close_block: 10,
            terms: Terms {
                resources: resources.pack().expect("resources"),
                requirements: Requirements::default().pack().expect("requirements"),
                regions: U256::MAX,
                manifest_hash: B256::repeat_byte(1),
                maximum_rate: 10_000_000,
                duration: 60,
                wanted_suppliers: Vec::new(),
                excluded_suppliers: Vec::new(),
            },
            bid_for: None,
        }
    }

    async fn rates(script: &str) -> Vec<u128> {
        let zero = "0".parse().expect("a decimal");
        let list = Prices {
            symbol: "uSPON".to_owned(),
            decimals: 6,
            cpu: zero,
            memory_gib: zero,
            storage_gib: zero,
            gpus: BTreeMap::new(),
            minimum: zero,
        };
        let order = order();
        let bid = Bid {
            order: order.id,
            close_block: 10,
            rate: 1,
            maximum_rate: order.terms.maximum_rate,
        };
        let command = PricingCommand {
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            timeout: Duration::from_secs(60),
        };
        let bids = command.price(&BTreeMap::from([(1, list)]), &[order], vec![bid]).await;
        bids.into_iter().map(|bid| bid.rate).collect()
    }

    #[tokio::test]
    async fn the_programs_price_counts_and_what_is_no_price_is_no_bid() {
        assert_eq!(rates("echo 0.5").await, [5_000_000]);
        assert_eq!(rates("grep -q '\"milli_cpu\":500' && echo 1").await, [10_000_000]);
        for script in [
            "echo 1.1",
            "true",
            "echo cheap",
            "echo 0.5; exit 1",
            "yes",
            "exec /nowhere",
        ] {
            assert_eq!(rates(script).await, [0u128; 0], "{script}");
        }
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_ended() {
        let order = order();
        let bid = Bid {
            order: order.id,
            close_block: 10,
            rate: 1,
            maximum_rate: 10,
        };
        let slow = PricingCommand {
            command: vec!["sleep".to_owned(), "600".to_owned()],
            timeout: Duration::from_millis(50),
        };
        let answer = slow.ask(&order, &bid).await.expect_err("too slow");
        assert!(answer.contains("longer than 50ms"), "{answer}");
    }

    #[test]
    fn the_time_limit_must_be_under_half_of_the_window() {
        let limit = Duration::from_millis(1_500);
        assert!(too_slow(limit, Duration::from_secs(3)).is_some());
        assert!(too_slow(limit, Duration::from_millis(3_001)).is_none());
    }
}
