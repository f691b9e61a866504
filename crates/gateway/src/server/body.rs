//! Request bodies: read whole before any handler runs, within limits of size, of time, and of memory for all of them
//! together.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Limits;
use crate::wire::{ErrorBody, ErrorCode};

/// Memory is taken in these steps as a body arrives: what a client announces costs nothing.
const STEP_BYTES: usize = 16 * 1024;

/// How much of a refused body is read and thrown away, in multiples of the largest allowed. A client whose unread data is
/// answered with a reset would not see the refusal.
const DISCARDED_BODIES: usize = 16;

/// A request's whole body.
#[derive(Debug)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    /// Its share of the memory for bodies: keep it until the handler is done.
    _memory: Option<OwnedSemaphorePermit>,
}

/// What all bodies share.
#[derive(Debug)]
pub(super) struct Bodies {
    memory: Arc<Semaphore>,
    read: Semaphore,
    discarded: Semaphore,
}

impl Bodies {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(limits.body_memory)),
            read: Semaphore::new(limits.bodies),
            discarded: Semaphore::new(limits.bodies),
        }
    }

    /// Reads a body to its end. On refusal, what the client still sends is thrown away (within limits) first.
    pub(super) async fn read(&self, mut body: Incoming, limits: &Limits) -> Result<WholeBody, ErrorBody> {
        if body.is_end_stream() {
            return Ok(WholeBody {
                bytes: Bytes::new(),
                _memory: None,
            });
        }
        let turn = self.read.try_acquire().map_err(|_| too_many())?;
        let refusal = match timeout(limits.body_timeout, gather(&mut body, limits.body_bytes, &self.memory)).await {
            Ok(Ok(whole)) => return Ok(whole),
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                let message = format!(
                    "the body did not arrive within {} seconds",
                    limits.body_timeout.as_secs()
                );
                return Err(ErrorBody::new(ErrorCode::BodyTooSlow, message));
            }
        };
        drop(turn);
        self.discard(body, limits).await;
        Err(refusal)
    }

    /// Throws away a body that nobody wants, so that the client reads the refusal instead of a reset.
    pub(super) async fn discard(&self, mut body: Incoming, limits: &Limits) {
        let Ok(_turn) = self.discarded.try_acquire() else {
            return;
        };
        let mut left = limits.body_bytes.saturating_mul(DISCARDED_BODIES);
        // Whatever ends this, end of body, error or time, the refusal is written next.
        let _ = timeout(limits.body_timeout.min(limits.header_timeout), async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(length) else { break };
                left = rest;
            }
        })
        .await;
    }
}

async fn gather(body: &mut Incoming, largest: usize, memory: &Arc<Semaphore>) -> Result<WholeBody, ErrorBody> {
    if body.size_hint().lower() > largest as u64 {
        return Err(too_large(largest));
    }
    let mut bytes = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ErrorBody::new(
                ErrorCode::BadRequest,
                format!("the body ended before it was complete: {error}"),
            )
        })?;
        let Some(data) = frame.data_ref() else { continue };
        let needed = bytes.len() + data.len();
        if needed > largest {
            return Err(too_large(largest));
        }
        if needed > bytes.capacity() {
            let capacity = needed.next_multiple_of(STEP_BYTES).min(largest);
            let share = take(memory, capacity - bytes.capacity())?;
            match &mut held {
                Some(held) => held.merge(share),
                None => held = Some(share),
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(data);
    }
    Ok(WholeBody {
        bytes: bytes.into(),
        _memory: held,
    })
}

fn take(memory: &Arc<Semaphore>, amount: usize) -> Result<OwnedSemaphorePermit, ErrorBody> {
    let amount = u32::try_from(amount).map_err(|_| too_many())?;
    // Waiting would hold what was taken already, and everybody could wait for everybody.
    memory.clone().try_acquire_many_owned(amount).map_err(|_| too_many())
}

fn too_many() -> ErrorBody {
    ErrorBody::new(ErrorCode::Overloaded, "too many uploads at once; try again shortly").retry_after(5)
}

fn too_large(largest: usize) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::BodyTooLarge,
        format!("the body is larger than {largest} bytes, the most that is taken"),
    )
}
