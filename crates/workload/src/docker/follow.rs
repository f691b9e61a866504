//! From the engine's log of a container into its service's ring.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::StreamExt;
use tokio::task::JoinHandle;

use crate::logs::{Entry, Kind, ResumePoint, Ring, Stream};
use crate::timestamp;

/// Lines written at a time.
const BATCH_LINES: usize = 256;
/// The longest text of a line that is kept; engines cut at 16 KiB themselves.
const MAXIMUM_TEXT_BYTES: usize = 64 << 10;
/// How long the end of a stopped container's output is waited for.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
/// Engines take whole seconds, and two streams of one container are not in exact order.
const OVERLAP_SECONDS: i64 = 2;
/// What `sudo` says under `no-new-privileges`.
const PRIVILEGE_COMPLAINT: &str = "\"no new privileges\" flag is set";

/// Who follows which container.
#[derive(Debug, Default)]
pub(super) struct Followers {
    tasks: Mutex<HashMap<String, Follower>>,
}

#[derive(Debug)]
struct Follower {
    /// The start of the container's current or last run.
    run: String,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether the output was read to its end.
    complete: AtomicBool,
    /// Whether the container complained that it may not gain privileges.
    privilege_complaint: AtomicBool,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followers {
    /// Sees to it that a container that runs, or ran, is followed to the end of its output. `run` tells its runs apart.
    pub(super) fn ensure(
        &self,
        engine: &bollard::Docker,
        ring: &Arc<Ring>,
        container: &str,
        replica: u32,
        run: &str,
        is_running: bool,
    ) {
        let mut tasks = self.lock();
        let mut shared = Arc::<Shared>::default();
        if let Some(follower) = tasks.get(container) {
            let read_to_its_end =
                follower.run == run && !is_running && follower.shared.complete.load(Ordering::Acquire);
            if !follower.task.is_finished() || read_to_its_end {
                return;
            }
            shared = Arc::clone(&follower.shared);
            shared.complete.store(false, Ordering::Release);
        }
        let task = tokio::spawn(follow(
            engine.clone(),
            Arc::clone(ring),
            container.to_owned(),
            replica,
            Arc::clone(&shared),
        ));
        tasks.insert(
            container.to_owned(),
            Follower {
                run: run.to_owned(),
                task,
                shared,
            },
        );
    }

    /// Whether a container complained that it may not gain privileges.
    pub(super) fn complained_about_privileges(&self, container: &str) -> bool {
        self.lock()
            .get(container)
            .is_some_and(|follower| follower.shared.privilege_complaint.load(Ordering::Relaxed))
    }

    /// Waits, for a bounded time, until a stopped container's output is read to its end, and lets go of it.
    pub(super) async fn drain(&self, container: &str) {
        let Some(mut follower) = self.lock().remove(container) else {
            return;
        };
        if tokio::time::timeout(DRAIN_DEADLINE, &mut follower.task).await.is_err() {
            tracing::warn!(container, "the end of the container's output did not come");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Follower>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(engine: bollard::Docker, ring: Arc<Ring>, container: String, replica: u32, shared: Arc<Shared>) {
    let short: String = container.chars().take(12).collect();
    let mut resume = Resume::new(ring.resume_points(replica, &short));
    let options = LogsOptionsBuilder::new()
        .follow(true)
        .stdout(true)
        .stderr(true)
        .timestamps(true)
        .since(resume.since_seconds())
        .build();
    let mut batches = std::pin::pin!(engine.logs(&container, Some(options)).ready_chunks(BATCH_LINES));
    while let Some(batch) = batches.next().await {
        let mut entries = Vec::with_capacity(batch.len());
        let mut failure = None;
        for output in batch {
            match output {
                Ok(output) => {
                    let Some((stream, timestamp, text)) = line(output) else {
                        continue;
                    };
                    if text.contains(PRIVILEGE_COMPLAINT) {
                        shared.privilege_complaint.store(true, Ordering::Relaxed);
                    }
                    let (is_new, after_gap) = resume.admit(stream, &timestamp);
                    let entry = |kind, text| Entry {
                        kind,
                        replica,
                        container: short.clone(),
                        timestamp: timestamp.clone(),
                        text,
                    };
                    if after_gap {
                        entries.push(entry(
                            Kind::Gap,
                            "lines were lost while nobody recorded them".to_owned(),
                        ));
                    }
                    if is_new {
                        entries.push(entry(stream.into(), text));
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        // A disk that is full shows elsewhere too; what could not be written is read again after the next start.
        if let Err(error) = ring.append(entries) {
            tracing::error!(container = short, %error, "cannot record the container's output");
            return;
        }
        if let Some(error) = failure {
            tracing::debug!(container = short, %error, "the container's output broke off");
            return;
        }
    }
    shared.complete.store(true, Ordering::Release);
}

/// Splits what the engine sends: a timestamp, a space, the text.
fn line(output: LogOutput) -> Option<(Stream, String, String)> {
    let stream = match output {
        LogOutput::StdErr { .. } => Stream::Stderr,
        _ => Stream::Stdout,
    };
    let bytes = output.into_bytes();
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let timestamp = std::str::from_utf8(&bytes[..space]).ok()?.to_owned();
    timestamp::parse(&timestamp)?;
    let text = &bytes[space + 1..];
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let text = &text[..text.len().min(MAXIMUM_TEXT_BYTES)];
    Some((stream, timestamp, String::from_utf8_lossy(text).into_owned()))
}

/// Tells lines that are recorded already from new ones, and notices when the first line seen is not the next one.
struct Resume {
    points: HashMap<Stream, ResumePoint>,
    seen: HashMap<Stream, u32>,
    /// Time of the last recorded line, until it or a later one was seen.
    expected: Option<i64>,
}

impl Resume {
    fn new(points: HashMap<Stream, ResumePoint>) -> Self {
        let expected = points.values().map(|point| point.nanoseconds).max();
        Self {
            points,
            seen: HashMap::new(),
            expected,
        }
    }

    /// From when on the engine is asked, in seconds since 1970; 0 is everything.
    fn since_seconds(&self) -> i32 {
        let since = self.expected.map_or(0, |last| last / 1_000_000_000 - OVERLAP_SECONDS);
        i32::try_from(since.max(0)).unwrap_or_default()
    }

    /// Whether the line is new, and whether lines are missing before it: what was recorded last should have been seen
    /// again first.
    fn admit(&mut self, stream: Stream, timestamp: &str) -> (bool, bool) {
        let Some(time) = timestamp::parse(timestamp) else {
            return (true, false);
        };
        let after_gap = match self.expected {
            Some(last) if time >= last => {
                self.expected = None;
                time > last
            }
            _ => false,
        };
        let Some(point) = self.points.get(&stream) else {
            return (true, after_gap);
        };
        let is_new = match time.cmp(&point.nanoseconds) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => {
                let seen = self.seen.entry(stream).or_default();
                *seen += 1;
                *seen > point.lines
            }
            std::cmp::Ordering::Greater => {
                // From here on the stream is past what was recorded, even if the clock is set back.
                self.points.remove(&stream);
                true
            }
        };
        (is_new, after_gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> String {
        format!("1970-01-01T00:00:{seconds:02}.000000000Z")
    }

    fn point(seconds: i64, lines: u32) -> ResumePoint {
        ResumePoint {
            nanoseconds: seconds * 1_000_000_000,
            lines,
        }
    }

    #[test]
    fn recorded_lines_are_not_recorded_again() {
        let mut resume = Resume::new(HashMap::from([(Stream::Stdout, point(10, 2))]));
        assert_eq!(resume.since_seconds(), 8);
        assert_eq!(resume.admit(Stream::Stdout, &at(9)), (false, false));
        assert_eq!(resume.admit(Stream::Stdout, &at(10)), (false, false));
        assert_eq!(resume.admit(Stream::Stdout, &at(10)), (false, false));
        assert_eq!(resume.admit(Stream::Stdout, &at(10)), (true, false));
        assert_eq!(resume.admit(Stream::Stdout, &at(11)), (true, false));
        // The clock was set back: these lines are new.
        assert_eq!(resume.admit(Stream::Stdout, &at(3)), (true, false));
    }

    #[test]
    fn a_missing_last_line_is_a_gap_once() {
        let mut resume = Resume::new(HashMap::from([(Stream::Stdout, point(10, 1))]));
        assert_eq!(resume.admit(Stream::Stdout, &at(12)), (true, true));
        assert_eq!(resume.admit(Stream::Stdout, &at(13)), (true, false));
    }

    #[test]
    fn streams_are_told_apart() {
        let mut resume = Resume::new(HashMap::from([(Stream::Stdout, point(10, 1))]));
        assert_eq!(resume.admit(Stream::Stderr, &at(9)), (true, false));
        assert_eq!(resume.admit(Stream::Stdout, &at(10)), (false, false));
        assert_eq!(resume.admit(Stream::Stderr, &at(10)), (true, false));
    }

    #[test]
    fn engine_lines_are_split() {
        let output = LogOutput::StdErr {
            message: format!("{} two words\r\n", at(1)).into_bytes().into(),
        };
        assert_eq!(line(output), Some((Stream::Stderr, at(1), "two words".to_owned())));
        let nonsense = LogOutput::StdOut {
            message: "no time".into(),
        };
        assert_eq!(line(nonsense), None);
    }
}
