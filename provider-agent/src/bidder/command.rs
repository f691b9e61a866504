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
use crate::pricing::Prices;

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
                        tracing::info!(
                            order = bid.order,
                            rate,
                            maximum = bid.maximum_rate,
                            "the program's price is too high"
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
