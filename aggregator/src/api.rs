//! The HTTP API for operators: whatever comes is hostile until it was checked.
//!
//! A handler only receives, parses and hands over; the collector works in its own task, so a sender that disconnects
//! changes nothing. Bodies are counted as they arrive, against one budget for all that is not answered yet, and against
//! the sender's own share of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::U256;
use avs::response::Domain;
use avs::submission::{
    BODY_LIMIT, PATH, RefusalCode, SignatureSubmission, SubmissionAnswer, SubmissionRefusal, SubmissionStatus,
};
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::collect::{Refusal, Source, Submission, TaskView};
use crate::config::CollectSettings;
use crate::metrics::AggregatorMetrics;
use crate::sources::{Share, SourceLimits, Sources, TooMany};

/// How long a sender may take for a body.
pub(crate) const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// How long a sender waits for an answer: longer than the collector waits for a block and a check together.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Bodies longer than this are parsed where it holds up nobody.
const SMALL_BODY: usize = 16 << 10;
/// Tasks shown at most.
const TASKS_SHOWN: usize = 128;
/// Seconds after which a sender may come again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What a submission takes until it is answered: of the budget for bodies, and of what its source may have in flight.
#[derive(Debug)]
pub struct Budget {
    _bytes: Vec<OwnedSemaphorePermit>,
    share: Share,
}

/// What handlers ask the collector.
#[derive(Debug)]
pub enum Inquiry {
    Submit {
        source: Source,
        submission: Box<Submission>,
        reply: oneshot::Sender<Result<SubmissionStatus, Refusal>>,
        budget: Budget,
    },
    Tasks {
        close_block: Option<u32>,
        limit: usize,
        reply: oneshot::Sender<TasksAnswer>,
    },
}

/// The body of `GET /v1/tasks`.
#[derive(Debug, Serialize)]
pub struct TasksAnswer {
    /// Newest first.
    pub tasks: Vec<TaskView>,
    /// Submissions that wait for a block or a check.
    pub waiting: usize,
}

/// What handlers work with.
#[derive(Debug, Clone)]
pub struct Api {
    pub(crate) domain: Domain,
    pub(crate) inquiries: mpsc::Sender<Inquiry>,
    /// One permit is one kibibyte of a body.
    pub(crate) receiving: Arc<Semaphore>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) metrics: AggregatorMetrics,
    /// How long a sender may take for a body.
    pub(crate) body_deadline: Duration,
}

/// Why nothing came of a request.
enum Failure {
    Refused(Refusal),
    /// The sender itself has too much in flight.
    TooMany,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TooMany> for Failure {
    fn from(TooMany: TooMany) -> Self {
        Self::TooMany
    }
}

impl Api {
    /// With the queue of what operators send.
    pub fn new(
        domain: Domain,
        settings: &CollectSettings,
        metrics: AggregatorMetrics,
    ) -> (Self, mpsc::Receiver<Inquiry>) {
        let (inquiries, inbox) = mpsc::channel(settings.queue_length);
        let kibibytes = settings.receive_megabytes << 10;
        let limits = SourceLimits {
            requests: settings.source_in_flight,
            requests_per_operator: settings.operator_in_flight,
            // A quarter, and always enough for one.
            kibibytes: (kibibytes / 4).max(BODY_LIMIT >> 10),
        };
        let api = Self {
            domain,
            inquiries,
            receiving: Arc::new(Semaphore::new(kibibytes)),
            sources: Sources::new(limits),
            metrics,
            body_deadline: BODY_DEADLINE,
        };
        (api, inbox)
    }

    /// What operators and people ask.
    pub fn router(self) -> Router {
        Router::new()
            .route(PATH, post(submit))
            .route("/v1/tasks", get(tasks))
            .with_state(self)
    }
}

async fn submit(State(api): State<Api>, request: Request<Body>) -> Response {
    let arrived = Instant::now();
    let answer = api.take(request).await;
    api.metrics.latency.observe(arrived.elapsed().as_secs_f64());
    match answer {
        Ok(status) => Json(SubmissionAnswer { status }).into_response(),
        Err(Failure::Refused(refusal)) => {
            api.metrics.refused(refusal.code);
            refuse(refusal)
        }
        Err(Failure::TooMany) => {
            api.metrics.refused(RefusalCode::Busy);
            too_many()
        }
    }
}

/// Without an address (no listener tells one in a test) all senders are one.
fn source_of(request: &Request<Body>) -> Source {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
    Source::from(address)
}

#[derive(Debug, Deserialize)]
struct TasksQuery {
    close_block: Option<u32>,
}

async fn tasks(State(api): State<Api>, Query(query): Query<TasksQuery>) -> Response {
    let (reply, answer) = oneshot::channel();
    let inquiry = Inquiry::Tasks {
        close_block: query.close_block,
        limit: TASKS_SHOWN,
        reply,
    };
    if api.inquiries.try_send(inquiry).is_err() {
        return refuse(busy());
    }
    match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        _ => refuse(busy()),
    }
}

impl Api {
    async fn take(&self, request: Request<Body>) -> Result<SubmissionStatus, Failure> {
        let source = source_of(&request);
        let share = self.sources.enter(source)?;
        let (body, mut budget) = tokio::time::timeout(self.body_deadline, self.receive(request, share))
            .await
            .map_err(|_| {
                Refusal::new(
                    RefusalCode::Malformed,
                    format!("the body did not arrive within {:?}", self.body_deadline),
                )
            })??;
        let submission = self.parse(body).await?;
        budget.share.speak_for(submission.operator)?;
        let (reply, answer) = oneshot::channel();
        let submission = Box::new(submission);
        self.inquiries
            .try_send(Inquiry::Submit {
                source,
                submission,
                reply,
                budget,
            })
            .map_err(|_| busy())?;
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(answer)) => Ok(answer?),
            _ => Err(busy().into()),
        }
    }

    /// The body, and the part of the budget it takes.
    async fn receive(&self, request: Request<Body>, mut share: Share) -> Result<(Bytes, Budget), Failure> {
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > BODY_LIMIT) {
            return Err(too_large().into());
        }
        let mut body = request.into_body();
        let mut received = BytesMut::new();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| malformed(format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if received.len() + data.len() > BODY_LIMIT {
                return Err(too_large().into());
            }
            let kibibytes = data.len().div_ceil(1024);
            share.grow(kibibytes)?;
            let permits = self.receiving.clone().try_acquire_many_owned(kibibytes as u32);
            bytes.push(permits.map_err(|_| busy())?);
            received.extend_from_slice(&data);
        }
        let budget = Budget { _bytes: bytes, share };
        Ok((received.freeze(), budget))
    }

    async fn parse(&self, body: Bytes) -> Result<Submission, Refusal> {
        let domain = self.domain;
        if body.len() <= SMALL_BODY {
            return parse(&body, &domain);
        }
        tokio::task::spawn_blocking(move || parse(&body, &domain))
            .await
            .unwrap_or_else(|_| Err(busy()))
    }
}

fn parse(body: &[u8], domain: &Domain) -> Result<Submission, Refusal> {
    let sent: SignatureSubmission = serde_json::from_slice(body)
        .map_err(|error| malformed(format!("the body is not a signature submission: {error}")))?;
    debug_assert!(
        sent.matches.len() * size_of::<U256>() <= BODY_LIMIT,
        "a word is longer as text"
    );
    Submission::parse(sent, domain)
}

fn malformed(message: String) -> Refusal {
    Refusal::new(RefusalCode::Malformed, message)
}

fn too_large() -> Refusal {
    Refusal::new(
        RefusalCode::TooLarge,
        format!("the body is longer than {BODY_LIMIT} bytes"),
    )
}

fn busy() -> Refusal {
    Refusal::new(RefusalCode::Busy, "too much to do; send it again")
}

fn refuse(refusal: Refusal) -> Response {
    let status = match refusal.code {
        RefusalCode::Malformed | RefusalCode::WrongDigest | RefusalCode::InvalidSignature => StatusCode::BAD_REQUEST,
        RefusalCode::UnknownOperator => StatusCode::FORBIDDEN,
        RefusalCode::UnknownBlock => StatusCode::NOT_FOUND,
        RefusalCode::NoQuorum | RefusalCode::Equivocation => StatusCode::CONFLICT,
        RefusalCode::WindowOver => StatusCode::GONE,
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Busy | RefusalCode::Other => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse_as(status, refusal)
}

fn too_many() -> Response {
    let refusal = Refusal::new(
        RefusalCode::Busy,
        "too many submissions of this sender are not answered yet; send it again",
    );
    refuse_as(StatusCode::TOO_MANY_REQUESTS, refusal)
}

fn refuse_as(status: StatusCode, refusal: Refusal) -> Response {
    let body = SubmissionRefusal {
        error: refusal.code,
        message: refusal.message,
    };
    let mut response = (status, Json(body)).into_response();
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        // What is still coming is not read.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
