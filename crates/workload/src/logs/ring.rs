//! One service's lines on disk: a few files of bounded size, the oldest deleted when a new one begins.
//!
//! A file is named after the number of its first entry and holds one JSON object per line, so that a person can read
//! it too. What a crash left half-written at the end is cut off at the next opening.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{LogSettings, Stream, file_error};
use crate::engine::Error;
use crate::timestamp;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A line of standard output.
    Stdout,
    /// A line of standard error.
    Stderr,
    /// Lines before this one were never recorded.
    Gap,
}

impl Kind {
    pub(crate) fn stream(self) -> Option<Stream> {
        match self {
            Self::Stdout => Some(Stream::Stdout),
            Self::Stderr => Some(Stream::Stderr),
            Self::Gap => None,
        }
    }
}

impl From<Stream> for Kind {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// One entry without its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) replica: u32,
    /// The engine's id of the container that wrote it.
    pub(crate) container: String,
    pub(crate) timestamp: String,
    pub(crate) text: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    sequence: u64,
    entry: Entry,
}

/// Up to where a stream of a container is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    /// Time of the last recorded line, in nanoseconds since 1970.
    pub(crate) nanoseconds: i64,
    /// How many lines of exactly that time are recorded.
    pub(crate) lines: u32,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    next: u64,
    /// First number of the file being read, and the byte to read on from.
    file: Option<(u64, u64)>,
}

impl Position {
    pub(crate) fn at(next: u64) -> Self {
        Self { next, file: None }
    }
}

/// One service's lines.
#[derive(Debug)]
pub(crate) struct Ring {
    directory: PathBuf,
    settings: LogSettings,
    writer: Mutex<Writer>,
    next: watch::Sender<u64>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Writer {
    /// First numbers of the files, oldest first; the last one is written to.
    files: VecDeque<u64>,
    current: File,
    current_bytes: u64,
    next: u64,
    points: HashMap<(u32, String, Stream), ResumePoint>,
}

impl Ring {
    /// Opens the ring in `directory`, creating both where they are missing.
    pub(crate) fn open(directory: PathBuf, settings: LogSettings) -> Result<Self, Error> {
        std::fs::create_dir_all(&directory).map_err(|source| file_error("create", &directory, source))?;
        let writer = Writer::open(&directory)?;
        Ok(Self {
            next: watch::Sender::new(writer.next),
            directory,
            settings,
            writer: Mutex::new(writer),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        *self.next.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing more will come: readers that wait end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.next.send_modify(|_| {});
    }

    /// Up to where a container's output is recorded, by stream.
    pub(crate) fn resume_points(&self, replica: u32, container: &str) -> HashMap<Stream, ResumePoint> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer
            .points
            .iter()
            .filter(|((of, by, _), _)| *of == replica && by == container)
            .map(|((_, _, stream), point)| (*stream, *point))
            .collect()
    }

    /// Writes entries, in order.
    pub(crate) fn append(&self, entries: Vec<Entry>) -> Result<(), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = Vec::new();
        for entry in entries {
            let record = Record {
                sequence: writer.next,
                entry,
            };
            let start = pending.len();
            // Strings and numbers: this cannot fail.
            if serde_json::to_writer(&mut pending, &record).is_err() {
                pending.truncate(start);
                continue;
            }
            pending.push(b'\n');
            writer.next += 1;
            writer.note(&record.entry);
            if writer.current_bytes + pending.len() as u64 >= self.settings.segment_bytes {
                writer.write(&self.directory, &mut pending)?;
                writer.rotate(&self.directory, self.settings.segments)?;
            }
        }
        writer.write(&self.directory, &mut pending)?;
        let next = writer.next;
        drop(writer);
        self.next.send_replace(next);
        Ok(())
    }

    /// At most `lines` entries from `position` on, which moves behind them. A gap entry stands where the position was
    /// before the oldest entry that is left.
    pub(crate) fn read(&self, position: &mut Position, lines: usize) -> Result<Vec<(u64, Entry)>, Error> {
        let files: Vec<u64> = {
            let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.files.iter().copied().collect()
        };
        let Some(oldest) = files.first().copied() else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        if position.next < oldest {
            let missed = oldest - position.next;
            entries.push((
                oldest - 1,
                Entry {
                    kind: Kind::Gap,
                    replica: 0,
                    container: String::new(),
                    timestamp: String::new(),
                    text: format!("{missed} lines were overwritten before they were read"),
                },
            ));
            *position = Position::at(oldest);
        }
        for (index, first) in files.iter().copied().enumerate() {
            let end = files.get(index + 1).copied().unwrap_or(u64::MAX);
            if position.next >= end {
                continue;
            }
            if !self.read_file(first, position, lines, &mut entries)? || entries.len() >= lines {
                break;
            }
        }
        Ok(entries)
    }

    /// Returns whether the file was there: one that was deleted since is a gap, which the next call reports.
    fn read_file(
        &self,
        first: u64,
        position: &mut Position,
        lines: usize,
        entries: &mut Vec<(u64, Entry)>,
    ) -> Result<bool, Error> {
        let path = file_path(&self.directory, first);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(file_error("read", &path, source)),
        };
        let mut offset = match position.file {
            Some((of, offset)) if of == first => offset,
            _ => 0,
        };
        let mut reader = BufReader::new(file);
        reader
            .seek(SeekFrom::Start(offset))
            .map_err(|source| file_error("read", &path, source))?;
        let mut line = Vec::new();
        while entries.len() < lines {
            line.clear();
            let length = reader
                .read_until(b'\n', &mut line)
                .map_err(|source| file_error("read", &path, source))?;
            // A line without its end is still being written.
            if length == 0 || line.last() != Some(&b'\n') {
                break;
            }
            offset += length as u64;
            if let Ok(record) = serde_json::from_slice::<Record>(&line)
                && record.sequence >= position.next
            {
                position.next = record.sequence + 1;
                entries.push((record.sequence, record.entry));
            }
        }
        position.file = Some((first, offset));
        Ok(true)
    }
}

impl Writer {
    fn open(directory: &Path) -> Result<Self, Error> {
        let entries = std::fs::read_dir(directory).map_err(|source| file_error("read", directory, source))?;
        let mut files: Vec<u64> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_suffix(".log")?.parse().ok()
            })
            .collect();
        files.sort_unstable();
        if files.is_empty() {
            files.push(0);
        }
        let last = files.last().copied().unwrap_or_default();
        let path = file_path(directory, last);
        let current = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| file_error("write", &path, source))?;
        let mut writer = Self {
            files: files.iter().copied().collect(),
            current,
            current_bytes: 0,
            next: last,
            points: HashMap::new(),
        };
        for first in files {
            let complete_bytes = writer.recall(&file_path(directory, first))?;
            if first == last {
                writer
                    .current
                    .set_len(complete_bytes)
                    .map_err(|source| file_error("write", &path, source))?;
                writer.current_bytes = complete_bytes;
            }
        }
        Ok(writer)
    }

    /// Reads what a file says about how far the recording is. Returns the bytes of its complete lines.
    fn recall(&mut self, path: &Path) -> Result<u64, Error> {
        let file = File::open(path).map_err(|source| file_error("read", path, source))?;
        let mut reader = BufReader::new(file);
        let mut complete_bytes = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader
                .read_until(b'\n', &mut line)
                .map_err(|source| file_error("read", path, source))?;
            if length == 0 || line.last() != Some(&b'\n') {
                return Ok(complete_bytes);
            }
            complete_bytes += length as u64;
            if let Ok(record) = serde_json::from_slice::<Record>(&line) {
                self.next = self.next.max(record.sequence + 1);
                self.note(&record.entry);
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        let (Some(stream), Some(nanoseconds)) = (entry.kind.stream(), timestamp::parse(&entry.timestamp)) else {
            return;
        };
        let key = (entry.replica, entry.container.clone(), stream);
        // Containers come and go; how far the ones before went is asked no more.
        if !self.points.contains_key(&key) {
            self.points
                .retain(|(replica, container, _), _| *replica != key.0 || *container == key.1);
        }
        let point = self.points.entry(key).or_insert(ResumePoint { nanoseconds, lines: 0 });
        if point.nanoseconds == nanoseconds {
            point.lines += 1;
        } else {
            *point = ResumePoint { nanoseconds, lines: 1 };
        }
    }

    fn write(&mut self, directory: &Path, pending: &mut Vec<u8>) -> Result<(), Error> {
        self.current
            .write_all(pending)
            .map_err(|source| file_error("write", directory, source))?;
        self.current_bytes += pending.len() as u64;
        pending.clear();
        Ok(())
    }

    fn rotate(&mut self, directory: &Path, keep: usize) -> Result<(), Error> {
        let path = file_path(directory, self.next);
        self.current = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| file_error("write", &path, source))?;
        self.current_bytes = 0;
        self.files.push_back(self.next);
        while self.files.len() > keep.max(1) {
            if let Some(oldest) = self.files.pop_front() {
                super::remove_file(&file_path(directory, oldest))?;
            }
        }
        Ok(())
    }
}

fn file_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}
