//! Hands signatures to the aggregators, to all of them at once, each until it has it or it is of no use any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use avs::submission::{self, SignatureSubmission, SubmissionAnswer, SubmissionRefusal, SubmissionStatus};
use bytes::Bytes;
use daemon::Shutdown;
use daemon::causes::root_cause;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::metrics::{Delivery, OperatorMetrics};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Wait after a failed attempt, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Requests in flight to one aggregator.
const REQUESTS_AT_ONCE: usize = 16;
/// Longest answer read.
const LARGEST_ANSWER: usize = 64 << 10;

/// All aggregators. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Aggregators {
    client: reqwest::Client,
    endpoints: Vec<Arc<Endpoint>>,
    metrics: OperatorMetrics,
}

#[derive(Debug)]
struct Endpoint {
    /// Host and port: a path may be a credential.
    name: String,
    url: String,
    permits: Semaphore,
}

/// Why an attempt was not the last one, or was.
enum Failure {
    Passing(String),
    Final(String),
}

/// A signature on its way. Dropping it changes nothing; [`Sending::stop`] ends it.
#[derive(Debug)]
pub struct Sending {
    stop: CancellationToken,
}

impl Sending {
    /// Something that ends with the process or when it is told to, and what it listens to.
    pub(crate) fn new(shutdown: &Shutdown) -> (Self, CancellationToken) {
        let stop = shutdown.token().child_token();
        (Self { stop: stop.clone() }, stop)
    }

    /// Ends all attempts: the task is answered, its window over, or its block gone.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Aggregators {
    /// Installs the TLS provider.
    pub fn new(urls: &[Url], metrics: OperatorMetrics) -> Result<Self, reqwest::Error> {
        daemon::tls::install_provider();
        let endpoint = |url: &Url| Endpoint {
            name: format!(
                "{}:{}",
                url.host_str().unwrap_or("?"),
                url.port_or_known_default().unwrap_or(0)
            ),
            url: format!("{}{}", url.as_str().trim_end_matches('/'), submission::PATH),
            permits: Semaphore::new(REQUESTS_AT_ONCE),
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ATTEMPT)
            .build()?;
        Ok(Self {
            client,
            endpoints: urls.iter().map(endpoint).map(Arc::new).collect(),
            metrics,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.endpoints.len()
    }

    /// Starts sending a signature to every aggregator. `seen` is when its close block was.
    pub fn send(
        &self,
        shutdown: &Shutdown,
        submission: &SignatureSubmission,
        seen: Instant,
    ) -> Result<Sending, serde_json::Error> {
        let body = Bytes::from(serde_json::to_vec(submission)?);
        let stop = shutdown.token().child_token();
        for endpoint in &self.endpoints {
            let parcel = Parcel {
                client: self.client.clone(),
                endpoint: endpoint.clone(),
                metrics: self.metrics.clone(),
                body: body.clone(),
                close_block: submission.close_block,
                chunk: submission.chunk,
                seen,
            };
            let stop = stop.clone();
            shutdown.spawn("delivery of a signature", async move {
                stop.run_until_cancelled_owned(parcel.deliver()).await;
            });
        }
        Ok(Sending { stop })
    }
}

/// One signature for one aggregator.
struct Parcel {
    client: reqwest::Client,
    endpoint: Arc<Endpoint>,
    metrics: OperatorMetrics,
    body: Bytes,
    close_block: u32,
    chunk: u16,
    seen: Instant,
}

impl Parcel {
    async fn deliver(self) {
        let (aggregator, close_block, chunk) = (self.endpoint.name.as_str(), self.close_block, self.chunk);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.attempt().await {
                Ok(status) => {
                    self.metrics.deliver(aggregator, outcome_of(status));
                    let elapsed = self.seen.elapsed();
                    if status == SubmissionStatus::Accepted {
                        self.metrics.seconds_to_delivery.observe(elapsed.as_secs_f64());
                    }
                    tracing::debug!(aggregator, close_block, chunk, ?status, ?elapsed, "signature delivered");
                    return;
                }
                Err(Failure::Final(reason)) => {
                    self.metrics.deliver(aggregator, Delivery::Refused);
                    tracing::error!(
                        aggregator,
                        close_block,
                        chunk,
                        "the aggregator refuses the signature: {reason}"
                    );
                    return;
                }
                Err(Failure::Passing(reason)) => {
                    self.metrics.deliver(aggregator, Delivery::Failed);
                    tracing::warn!(aggregator, close_block, chunk, "signature not delivered yet: {reason}");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self) -> Result<SubmissionStatus, Failure> {
        let passing = |error: reqwest::Error| Failure::Passing(root_cause(&error.without_url()));
        let Ok(_permit) = self.endpoint.permits.acquire().await else {
            return Err(Failure::Passing("the queue is closed".to_owned()));
        };
        let mut response = self
            .client
            .post(&self.endpoint.url)
            .header(CONTENT_TYPE, "application/json")
            .body(self.body.clone())
            .send()
            .await
            .map_err(passing)?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(part) = response.chunk().await.map_err(passing)? {
            if text.len() + part.len() > LARGEST_ANSWER {
                return Err(Failure::Passing(format!(
                    "its answer is longer than {LARGEST_ANSWER} bytes"
                )));
            }
            text.extend_from_slice(&part);
        }
        judge(status, &text)
    }
}

fn judge(status: StatusCode, text: &[u8]) -> Result<SubmissionStatus, Failure> {
    if status.is_success() {
        return serde_json::from_slice::<SubmissionAnswer>(text)
            .map(|answer| answer.status)
            .map_err(|error| Failure::Passing(format!("its answer is not understood: {error}")));
    }
    match serde_json::from_slice::<SubmissionRefusal>(text) {
        Ok(refusal) if status.is_client_error() && !refusal.error.is_passing() => Err(Failure::Final(refusal.message)),
        Ok(refusal) => Err(Failure::Passing(refusal.message)),
        // Something in between answered: the aggregator itself always says why.
        Err(_) => Err(Failure::Passing(format!("HTTP status {status}"))),
    }
}

fn outcome_of(status: SubmissionStatus) -> Delivery {
    match status {
        SubmissionStatus::Accepted => Delivery::Accepted,
        SubmissionStatus::Duplicate => Delivery::Duplicate,
        SubmissionStatus::Answered => Delivery::Answered,
    }
}

#[cfg(test)]
mod tests;
