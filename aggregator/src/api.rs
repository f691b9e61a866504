//! The HTTP API for operators: whatever comes is hostile until it was checked.
//!
//! A handler only receives, parses and hands over; the collector works in its own task, so a sender that disconnects
//! changes nothing. Bodies are counted as they arrive, against one budget for all that is not answered yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::U256;
use avs::response::Domain;
use avs::submission::{
    BODY_LIMIT, PATH, RefusalCode, SignatureSubmission, SubmissionAnswer, SubmissionRefusal, SubmissionStatus,
};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::collect::{Refusal, Submission, TaskView};
use crate::metrics::AggregatorMetrics;

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

/// The part of the budget for bodies that a submission takes until it is answered.
pub(crate) type Budget = Vec<OwnedSemaphorePermit>;

/// What handlers ask the collector.
#[derive(Debug)]
pub(crate) enum Inquiry {
    Submit {
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
pub(crate) struct TasksAnswer {
    /// Newest first.
    pub(crate) tasks: Vec<TaskView>,
    /// Submissions that wait for a block or a check.
    pub(crate) waiting: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) domain: Domain,
    pub(crate) inquiries: mpsc::Sender<Inquiry>,
    /// One permit is one kibibyte of a body.
    pub(crate) receiving: Arc<Semaphore>,
    pub(crate) metrics: AggregatorMetrics,
    /// How long a sender may take for a body.
    pub(crate) body_deadline: Duration,
}

impl Api {
    pub(crate) fn router(self) -> Router {
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
        Err(refusal) => {
            api.metrics.refused(refusal.code);
            refuse(refusal)
        }
    }
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
    async fn take(&self, request: Request<Body>) -> Result<SubmissionStatus, Refusal> {
        let (body, budget) = tokio::time::timeout(self.body_deadline, self.receive(request))
            .await
            .map_err(|_| {
                Refusal::new(
                    RefusalCode::Malformed,
                    format!("the body did not arrive within {:?}", self.body_deadline),
                )
            })??;
        let submission = self.parse(body).await?;
        let (reply, answer) = oneshot::channel();
        let submission = Box::new(submission);
        self.inquiries
            .try_send(Inquiry::Submit {
                submission,
                reply,
                budget,
            })
            .map_err(|_| busy())?;
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(busy()),
        }
    }

    /// The body, and the part of the budget it takes.
    async fn receive(&self, request: Request<Body>) -> Result<(Bytes, Budget), Refusal> {
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > BODY_LIMIT) {
            return Err(too_large());
        }
        let mut body = request.into_body();
        let mut received = BytesMut::new();
        let mut budget = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| malformed(format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if received.len() + data.len() > BODY_LIMIT {
                return Err(too_large());
            }
            let kibibytes = data.len().div_ceil(1024) as u32;
            let permits = self.receiving.clone().try_acquire_many_owned(kibibytes);
            budget.push(permits.map_err(|_| busy())?);
            received.extend_from_slice(&data);
        }
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
        RefusalCode::Equivocation => StatusCode::CONFLICT,
        RefusalCode::WindowOver => StatusCode::GONE,
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Busy | RefusalCode::Other => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = SubmissionRefusal {
        error: refusal.code,
        message: refusal.message,
    };
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
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
