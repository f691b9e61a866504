//! The watcher: recomputes every answer that stands on chain, challenges wrong ones and has their signers slashed, and runs the
//! rule on chain for orders that nobody answered. It needs no stake and no BLS key, only an account that pays for gas.

mod examine;
mod matching;
mod plan;

use std::sync::Arc;

use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent as _;
use avs::response::Domain;
use bindings::ICommissionSplit;
use chain::Transactions;
use chain::network::Network;
use daemon::Shutdown;
use daemon::causes::with_causes;
use eigenlayer::registration::Addresses;
use tokio::sync::{Semaphore, mpsc};

pub use plan::{Answered, Job, JobKey, Outcome, Plan};

use crate::chain::{Market, Windows};
use crate::eigen_metrics::EigenMetrics;
use crate::metrics::WatchMetrics;
use crate::tasks::Tasks;

/// Jobs done at once: each reads the chain a few times.
const JOBS_AT_ONCE: usize = 8;

/// What a job needs.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) market: Arc<Market>,
    pub(crate) domain: Domain,
    pub(crate) registries: Addresses,
    pub(crate) network: Network,
    pub(crate) windows: Windows,
    /// Without them, wrong answers are only reported.
    pub(crate) transactions: Option<Transactions>,
    pub(crate) metrics: WatchMetrics,
    pub(crate) eigen: EigenMetrics,
}

/// Hands out what the plan says and takes what became of it.
#[derive(Debug)]
pub(crate) struct Watch {
    plan: Plan,
    watcher: Arc<Watcher>,
    shutdown: Shutdown,
    places: Arc<Semaphore>,
    report: mpsc::UnboundedSender<(JobKey, Outcome)>,
    reports: mpsc::UnboundedReceiver<(JobKey, Outcome)>,
}

impl Watch {
    pub(crate) fn new(watcher: Watcher, match_unanswered: bool, shutdown: Shutdown) -> Self {
        let account = watcher.transactions.as_ref().map(Transactions::sender);
        // Bounded by the jobs that the plan handed out.
        let (report, reports) = mpsc::unbounded_channel();
        Self {
            plan: Plan::new(watcher.windows, account, match_unanswered),
            watcher: Arc::new(watcher),
            shutdown,
            places: Arc::new(Semaphore::new(JOBS_AT_ONCE)),
            report,
            reports,
        }
    }

    /// Starts what is due now that `head` is the newest block.
    pub(crate) fn look(&mut self, tasks: &Tasks, head: u64) {
        while let Ok((key, outcome)) = self.reports.try_recv() {
            self.plan.report(key, outcome);
        }
        for job in self.plan.due(tasks, head) {
            let (watcher, places, report) = (self.watcher.clone(), self.places.clone(), self.report.clone());
            let stop = self.shutdown.token();
            self.shutdown.spawn("watching an answer", async move {
                let work = async {
                    let _place = places.acquire().await;
                    watcher.work(&job).await
                };
                if let Some(outcome) = stop.run_until_cancelled(work).await {
                    // The loop that listens ends only with the process.
                    let _ = report.send((job.key(), outcome));
                }
            });
        }
    }

    /// A reorganisation: what was done may have to be done again.
    pub(crate) fn reorganised(&mut self) {
        self.plan.reorganised();
    }
}

impl Watcher {
    async fn work(&self, job: &Job) -> Outcome {
        match job {
            Job::Examine(answered) => self.examine(answered).await.unwrap_or_else(|error| {
                tracing::warn!(
                    close_block = answered.close_block,
                    chunk = answered.chunk,
                    "an answer is not dealt with yet: {}",
                    with_causes(&error)
                );
                Outcome::Again
            }),
            Job::Match(order) => self.match_order(order).await.unwrap_or_else(|error| {
                tracing::warn!(
                    order = order.order_id,
                    "an order that nobody answered is not matched yet: {}",
                    with_causes(&error)
                );
                Outcome::Again
            }),
        }
    }

    /// Counts what a challenge earned.
    fn note_reward(&self, logs: &[Log]) {
        let rewards = logs
            .iter()
            .filter_map(|log| ICommissionSplit::ChallengerRewarded::decode_log_data(log.data()).ok());
        for reward in rewards {
            self.eigen.earned(&self.network, reward.token, reward.amount);
        }
    }
}
