//! The services' output, kept on disk in a bounded ring per service.
//!
//! Every line has a sequence number, so a reader that went away comes back with the last number it saw and misses
//! nothing that is still there; what was overwritten in between it gets as a [`LogItem::Gap`]. The lines of a lease are
//! kept for a while after it closed: that is when people look at them.

mod ring;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::model::LeaseId;
use ring::Position;
pub(crate) use ring::{Entry, Kind, ResumePoint, Ring};

/// Marks a lease's folder as closed; its modification time is when.
const CLOSED_MARK: &str = "closed";
/// Lines handed over at a time: with the longest lines 1 MiB, which every reader may hold.
const BATCH_LINES: usize = 64;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Size of one file of a service's ring, in bytes.
    pub segment_bytes: u64,
    /// Files per ring.
    pub segments: usize,
    /// How long they are kept after a lease closed.
    pub kept_after_close: Duration,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 10 << 20,
            segments: 3,
            kept_after_close: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output. Lines above 16 KiB come in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number within its service, from 0, without holes.
    pub sequence: u64,
    /// The service.
    pub service: String,
    /// The replica, from 0.
    pub replica: u32,
    /// When the engine received it, RFC 3339 with nanoseconds.
    pub timestamp: String,
    /// Where it was written to.
    pub stream: Stream,
    /// The text, without the end of line.
    pub text: String,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogItem {
    /// A line.
    Line(LogLine),
    /// Lines are missing before `next_sequence`.
    Gap {
        /// The number of the line after the gap.
        next_sequence: u64,
        /// Why: overwritten before they were read, or never recorded.
        reason: String,
    },
}

impl LogItem {
    /// The cursor after this item: where to read on from.
    pub fn next_cursor(&self) -> u64 {
        match self {
            Self::Line(line) => line.sequence + 1,
            Self::Gap { next_sequence, .. } => *next_sequence,
        }
    }
}

/// All leases' output under one folder.
#[derive(Debug)]
pub struct LogStore {
    directory: PathBuf,
    settings: LogSettings,
    rings: Mutex<HashMap<(LeaseId, String), Arc<Ring>>>,
}

impl LogStore {
    /// Keeps its files under `directory`, which is created when it is first needed.
    pub fn new(directory: impl Into<PathBuf>, settings: LogSettings) -> Self {
        Self {
            directory: directory.into(),
            settings,
            rings: Mutex::default(),
        }
    }

    /// The services of a lease of which output is kept.
    pub fn services(&self, lease: LeaseId) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.lease_directory(lease)) else {
            return Vec::new();
        };
        let mut services: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        services.sort();
        services
    }

    /// The cursor from which the last `lines` lines of a service are read; 0 where there are none.
    pub fn tail(&self, lease: LeaseId, service: &str, lines: u64) -> Result<u64, Error> {
        Ok(self
            .existing(lease, service)?
            .map_or(0, |ring| ring.next_sequence().saturating_sub(lines)))
    }

    /// The lines of a service from `cursor` on, oldest first: at most `limit` of them, and when `follow` is set those
    /// that are still to come, until the lease closes. A service without output gives nothing.
    pub fn read(
        &self,
        lease: LeaseId,
        service: &str,
        cursor: u64,
        limit: Option<usize>,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, Error>>, Error> {
        let Some(ring) = self.existing(lease, service)? else {
            return Ok(stream::empty().boxed());
        };
        let reader = Reader {
            changes: ring.subscribe(),
            ring,
            service: service.to_owned(),
            position: Position::at(cursor),
            remaining: limit.unwrap_or(usize::MAX),
            follow,
        };
        let batches = stream::unfold(Some(reader), |reader| async move {
            match reader?.next_batch().await {
                Ok(Some((items, reader))) => Some((Ok(items), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(batches
            .flat_map(|batch| match batch {
                Ok(items) => stream::iter(items.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .boxed())
    }

    /// The ring that a running service writes to; its lease counts as open again.
    pub(crate) fn writer(&self, lease: LeaseId, service: &str) -> Result<Arc<Ring>, Error> {
        let key = (lease, service.to_owned());
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = rings.get(&key).filter(|ring| !ring.is_closed()) {
            return Ok(Arc::clone(ring));
        }
        remove_file(&self.lease_directory(lease).join(CLOSED_MARK))?;
        let ring = Arc::new(Ring::open(self.lease_directory(lease).join(service), self.settings)?);
        rings.insert(key, Arc::clone(&ring));
        Ok(ring)
    }

    /// Ends a lease's output: followers end, and the time it is kept for begins.
    pub fn close(&self, lease: LeaseId) -> Result<(), Error> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|(of, _), ring| {
            if *of == lease {
                ring.close();
            }
            *of != lease
        });
        let directory = self.lease_directory(lease);
        let mark = directory.join(CLOSED_MARK);
        if !directory.is_dir() || mark.exists() {
            return Ok(());
        }
        std::fs::write(&mark, b"").map_err(|source| file_error("write", &mark, source))
    }

    /// Deletes the output of leases that closed too long ago. Returns how many.
    pub fn sweep(&self, now: SystemTime) -> Result<usize, Error> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(file_error("read", &self.directory, source)),
        };
        let mut removed = 0;
        for directory in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let Ok(closed_at) = std::fs::metadata(directory.join(CLOSED_MARK)).and_then(|metadata| metadata.modified())
            else {
                continue;
            };
            let age = now.duration_since(closed_at).unwrap_or_default();
            if age < self.settings.kept_after_close {
                continue;
            }
            std::fs::remove_dir_all(&directory).map_err(|source| file_error("remove", &directory, source))?;
            removed += 1;
        }
        Ok(removed)
    }

    fn lease_directory(&self, lease: LeaseId) -> PathBuf {
        self.directory.join(lease.to_string())
    }

    /// The ring of a service that has output; the name may come from outside.
    fn existing(&self, lease: LeaseId, service: &str) -> Result<Option<Arc<Ring>>, Error> {
        let is_label = !service.is_empty() && service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_label {
            return Ok(None);
        }
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = rings.get(&(lease, service.to_owned())) {
            return Ok(Some(Arc::clone(ring)));
        }
        drop(rings);
        let directory = self.lease_directory(lease).join(service);
        if !directory.is_dir() {
            return Ok(None);
        }
        // Nobody writes to it: a closed lease, or one that was not applied since the start. It is not kept open.
        let ring = Ring::open(directory, self.settings)?;
        ring.close();
        Ok(Some(Arc::new(ring)))
    }
}

struct Reader {
    ring: Arc<Ring>,
    changes: tokio::sync::watch::Receiver<u64>,
    service: String,
    position: Position,
    remaining: usize,
    follow: bool,
}

impl Reader {
    async fn next_batch(mut self) -> Result<Option<(Vec<LogItem>, Self)>, Error> {
        loop {
            if self.remaining == 0 {
                return Ok(None);
            }
            // Taken before the read: a line that comes after it wakes the wait below.
            self.changes.mark_unchanged();
            let closed = self.ring.is_closed();
            let ring = Arc::clone(&self.ring);
            let mut position = self.position;
            let lines = self.remaining.min(BATCH_LINES);
            let (entries, position) = tokio::task::spawn_blocking(move || {
                let entries = ring.read(&mut position, lines);
                entries.map(|entries| (entries, position))
            })
            .await
            .map_err(|error| Error::File {
                action: "read",
                path: self.ring.directory().display().to_string(),
                source: std::io::Error::other(error),
            })??;
            self.position = position;
            if !entries.is_empty() {
                self.remaining -= entries.len();
                let items = entries
                    .into_iter()
                    .map(|(sequence, entry)| item(&self.service, sequence, entry))
                    .collect();
                return Ok(Some((items, self)));
            }
            if !self.follow || closed || self.changes.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

fn item(service: &str, sequence: u64, entry: Entry) -> LogItem {
    match entry.kind.stream() {
        Some(stream) => LogItem::Line(LogLine {
            sequence,
            service: service.to_owned(),
            replica: entry.replica,
            timestamp: entry.timestamp,
            stream,
            text: entry.text,
        }),
        None => LogItem::Gap {
            next_sequence: sequence + 1,
            reason: entry.text,
        },
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(file_error("remove", path, source)),
        _ => Ok(()),
    }
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File {
        action,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId(1);

    fn small(directory: &Path) -> LogStore {
        let settings = LogSettings {
            segment_bytes: 2_000,
            segments: 3,
            ..LogSettings::default()
        };
        LogStore::new(directory, settings)
    }

    fn entries(numbers: std::ops::Range<u32>) -> Vec<Entry> {
        numbers
            .map(|number| Entry {
                kind: Kind::Stdout,
                replica: 0,
                container: "c1".to_owned(),
                timestamp: format!("1970-01-01T00:{:02}:{:02}.000000000Z", number / 60 % 60, number % 60),
                text: number.to_string(),
            })
            .collect()
    }

    async fn read_all(store: &LogStore, cursor: u64) -> Vec<LogItem> {
        store
            .read(LEASE, "web", cursor, None, false)
            .unwrap()
            .map(Result::unwrap)
            .collect()
            .await
    }

    #[tokio::test]
    async fn lines_have_numbers_without_holes_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = small(folder.path());
        let ring = store.writer(LEASE, "web").unwrap();
        for start in 0..50 {
            ring.append(entries(start * 4..start * 4 + 4)).unwrap();
        }
        let items = read_all(&store, 0).await;
        let LogItem::Gap { next_sequence, .. } = items[0] else {
            panic!("{:?}", items[0]);
        };
        assert_eq!(items.len() as u64, 1 + 200 - next_sequence);
        for (expected, item) in (next_sequence..).zip(&items[1..]) {
            let LogItem::Line(line) = item else { panic!("{item:?}") };
            assert_eq!(line.sequence, expected);
            assert_eq!(line.text, expected.to_string());
        }
        let bytes: u64 = std::fs::read_dir(folder.path().join("1/web"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes < 7_000, "{bytes}");

        let last = read_all(&store, store.tail(LEASE, "web", 2).unwrap()).await;
        assert_eq!(last.len(), 2);
        assert_eq!(last[0].next_cursor(), 199);
    }

    #[tokio::test]
    async fn a_reader_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = small(folder.path());
        let ring = store.writer(LEASE, "web").unwrap();
        ring.append(entries(0..30)).unwrap();
        let first: Vec<_> = store
            .read(LEASE, "web", store.tail(LEASE, "web", 5).unwrap(), Some(2), true)
            .unwrap()
            .map(Result::unwrap)
            .collect()
            .await;
        assert_eq!(first.len(), 2);
        let rest = read_all(&store, first[1].next_cursor()).await;
        assert_eq!(rest.len(), 3);
    }

    #[tokio::test]
    async fn followers_get_what_comes_and_end_with_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let store = small(folder.path());
        let ring = store.writer(LEASE, "web").unwrap();
        let mut lines = store.read(LEASE, "web", 0, None, true).unwrap();
        for number in 0..3 {
            ring.append(entries(number..number + 1)).unwrap();
            let item = tokio::time::timeout(Duration::from_secs(60), lines.next())
                .await
                .expect("the appended line");
            assert_eq!(item.unwrap().unwrap().next_cursor(), u64::from(number) + 1);
        }
        store.close(LEASE).unwrap();
        let end = tokio::time::timeout(Duration::from_secs(60), lines.next())
            .await
            .expect("the end");
        assert!(end.is_none());
        assert_eq!(read_all(&store, 0).await.len(), 3);
    }

    #[tokio::test]
    async fn a_ring_that_was_cut_off_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = small(folder.path());
        store.writer(LEASE, "web").unwrap().append(entries(0..3)).unwrap();
        store.close(LEASE).unwrap();
        let file = folder.path().join("1/web/00000000000000000000.log");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.extend_from_slice(b"{\"sequence\":3,\"ent");
        std::fs::write(&file, bytes).unwrap();

        let store = small(folder.path());
        let ring = store.writer(LEASE, "web").unwrap();
        let point = ring.resume_points(0, "c1")[&Stream::Stdout];
        assert_eq!((point.nanoseconds, point.lines), (2_000_000_000, 1));
        ring.append(entries(3..5)).unwrap();
        let texts: Vec<_> = read_all(&store, 0).await.iter().map(LogItem::next_cursor).collect();
        assert_eq!(texts, [1, 2, 3, 4, 5]);
    }
}
