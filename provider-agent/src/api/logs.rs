//! Log streams: what is kept, then what comes, until the reader, the lease, the access or the agent ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use daemon::causes::with_causes;
use futures::StreamExt;
use futures::stream::BoxStream;
use gateway::Peer;
use gateway::wire::{self, ErrorBody, ErrorCode, LogEnd, LogGap, LogLine, LogQuery, OutputStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_stream::StreamMap;
use tokio_stream::wrappers::ReceiverStream;
use workload::LogItem;

use super::Shared;
use super::access::Granted;
use super::streams::Place;

/// A reader waits at most this long for a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a service without output is looked at again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Items on their way to a reader; a slow one holds no more.
const PENDING_ITEMS: usize = 16;

type Lines = BoxStream<'static, Result<LogItem, workload::Error>>;

/// Starts a stream. Refusals come now; later only [`wire::LogItem::End`] can say something.
pub(super) async fn stream(
    shared: Arc<Shared>,
    peer: Peer,
    granted: Granted,
    query: LogQuery,
) -> Result<Body, ErrorBody> {
    let place = shared.streams.take(peer.fingerprint)?;
    let services = services(&shared, &granted).await;
    if let Some(service) = &query.service
        && !services.contains(service)
    {
        let message = format!(
            "lease {} has no service {service}; it has: {}",
            granted.lease,
            services.join(", ")
        );
        return Err(ErrorBody::new(ErrorCode::BadRequest, message));
    }
    let (sender, receiver) = mpsc::channel(PENDING_ITEMS);
    let follower = Follower {
        shared,
        peer,
        granted,
        query,
        sender,
        sources: BTreeMap::new(),
        _place: place,
    };
    tokio::spawn(follower.run());
    let chunks = ReceiverStream::new(receiver)
        .ready_chunks(PENDING_ITEMS)
        .map(|items: Vec<wire::LogItem>| {
            let mut chunk = BytesMut::new();
            for item in items {
                chunk.extend_from_slice(&serde_json::to_vec(&item)?);
                chunk.extend_from_slice(b"\n");
            }
            Ok::<Bytes, serde_json::Error>(chunk.freeze())
        });
    Ok(Body::from_stream(chunks))
}

/// Those of the manifest, and those of which there is output.
async fn services(shared: &Arc<Shared>, granted: &Granted) -> Vec<String> {
    let lease = granted.on_chain.workload;
    let mut services: Vec<String> = match super::stored_for(shared, granted).await {
        Ok(Some(stored)) => stored.salted.manifest.services.into_keys().collect(),
        Ok(None) | Err(_) => Vec::new(),
    };
    let workloads = shared.workloads.clone();
    if let Ok(with_output) = tokio::task::spawn_blocking(move || workloads.log_services(lease)).await {
        services.extend(with_output);
    }
    services.sort();
    services.dedup();
    services
}

/// Where reading a service stands, in the engine's numbers (from 0: the next line to read).
#[derive(Debug)]
struct Source {
    next: Option<u64>,
    pause: Duration,
    open_at: Instant,
}

/// The reader is gone.
struct Gone;

struct Follower {
    shared: Arc<Shared>,
    peer: Peer,
    granted: Granted,
    query: LogQuery,
    sender: mpsc::Sender<wire::LogItem>,
    sources: BTreeMap<String, Source>,
    _place: Place,
}

impl Follower {
    async fn run(mut self) {
        let gone = self.sender.clone();
        let reason = tokio::select! {
            reason = self.follow() => reason,
            () = gone.closed() => return,
        };
        if let Ok(reason) = reason {
            // A reader that left in this moment needs no reason.
            let _ = gone.send(wire::LogItem::End { reason }).await;
        }
    }

    async fn follow(&mut self) -> Result<LogEnd, Gone> {
        let mut open: StreamMap<String, Lines> = StreamMap::new();
        let mut look = ticks(FIRST_PAUSE);
        let mut heartbeat = ticks(HEARTBEAT);
        let mut access = ticks(self.shared.settings.access_period);
        let stop = self.shared.stop.clone();
        self.open(&mut open).await;
        loop {
            if open.is_empty() && !self.query.follow {
                return Ok(LogEnd::Complete);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(LogEnd::ShuttingDown),
                next = open.next(), if !open.is_empty() => match next {
                    Some((service, Ok(item))) => self.send(&service, item).await?,
                    Some((service, Err(error))) => {
                        tracing::warn!(lease = %self.granted.lease, service, error = with_causes(&error), "log");
                        open.remove(&service);
                    }
                    // The last one ended: what that means is decided above.
                    None => {}
                },
                _ = look.tick(), if self.query.follow => {
                    self.open(&mut open).await;
                    let is_over = self.granted.on_chain.closed.is_some();
                    // Where an update put another lease in its place, its workload goes on, and so does its output there.
                    if is_over && (open.is_empty() || self.granted.on_chain.replaced_by.is_some()) {
                        return Ok(LogEnd::LeaseClosed);
                    }
                }
                _ = heartbeat.tick() => self.sender.send(wire::LogItem::Heartbeat).await.map_err(|_| Gone)?,
                _ = access.tick() => {
                    if let Some(end) = self.check_access().await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Opens what is not open and due.
    async fn open(&mut self, open: &mut StreamMap<String, Lines>) {
        let lease = self.granted.on_chain.workload;
        let services = match &self.query.service {
            Some(service) => vec![service.clone()],
            None => services(&self.shared, &self.granted).await,
        };
        for service in services {
            let now = Instant::now();
            let source = self.sources.entry(service.clone()).or_insert_with(|| Source {
                next: self.query.cursor.after(&service),
                pause: FIRST_PAUSE,
                open_at: now,
            });
            if open.contains_key(&service) || source.open_at > now {
                continue;
            }
            source.open_at = now + source.pause;
            source.pause = (source.pause * 2).min(LONGEST_PAUSE);
            let (workloads, name, next) = (self.shared.workloads.clone(), service.clone(), source.next);
            let (tail, follow) = (self.query.tail, self.query.follow);
            let opening = tokio::task::spawn_blocking(move || {
                let cursor = match (next, tail) {
                    (Some(next), _) => next,
                    (None, Some(lines)) => workloads.log_tail(lease, &name, lines.into())?,
                    (None, None) => 0,
                };
                workloads.read_log(lease, &name, cursor, follow)
            });
            match opening.await {
                Ok(Ok(lines)) => {
                    open.insert(service, lines);
                }
                Ok(Err(error)) => tracing::warn!(%lease, service, error = with_causes(&error), "log"),
                Err(error) => tracing::error!(%lease, service, %error, "log"),
            }
        }
    }

    async fn send(&mut self, service: &str, item: LogItem) -> Result<(), Gone> {
        let Some(source) = self.sources.get_mut(service) else {
            return Ok(());
        };
        let first = source.next.unwrap_or(0);
        source.next = Some(item.next_cursor());
        source.pause = FIRST_PAUSE;
        source.open_at = Instant::now();
        self.sender
            .send(on_the_wire(service, first, item))
            .await
            .map_err(|_| Gone)
    }

    /// Ends the stream of whoever may read no more. A chain that is away ends nothing.
    async fn check_access(&mut self) -> Option<LogEnd> {
        match self.shared.access.grant(self.peer, self.granted.lease).await {
            Ok(granted) => {
                self.granted = granted;
                None
            }
            Err(refusal) => {
                let ended = matches!(refusal.error, ErrorCode::NotYours | ErrorCode::UnknownLease);
                ended.then_some(LogEnd::AccessEnded)
            }
        }
    }
}

/// On the wire sequences count from 1 and a cursor is the last line seen; in the engine they count from 0 and a cursor is
/// the next line: the same number.
fn on_the_wire(service: &str, first_missing: u64, item: LogItem) -> wire::LogItem {
    match item {
        LogItem::Line(line) => wire::LogItem::Line(LogLine {
            sequence: line.sequence + 1,
            service: line.service,
            replica: line.replica,
            timestamp: line.timestamp,
            stream: match line.stream {
                workload::Stream::Stdout => OutputStream::Stdout,
                workload::Stream::Stderr => OutputStream::Stderr,
            },
            text: line.text,
        }),
        LogItem::Gap { next_sequence, .. } => wire::LogItem::Gap(LogGap {
            service: service.to_owned(),
            from: first_missing + 1,
            to: next_sequence,
        }),
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
