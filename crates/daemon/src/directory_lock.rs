//! One process per data directory: a second agent with the same key would sign, send and delete against the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";

/// An exclusive lock on a directory, held until dropped; the operating system releases it when the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    // Held open: closing the file releases the lock.
    _file: File,
    path: PathBuf,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "the data directory {directory} is in use by process {holder}; stop that process, or give this one its own directory"
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process id the holder wrote there, `(unknown)` where it could not be read.
        holder: String,
    },
    /// The directory or the lock file cannot be made.
    #[error("cannot lock the data directory {directory}; does it exist, and may this user write there?")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

impl DirectoryLock {
    /// Creates `directory` (mode 0700) where missing, and locks it.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let unusable = |source| LockError::Unusable {
            directory: directory.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(unusable)?;
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let holder = match file.take(32).read_to_string(&mut holder) {
                    Ok(length) if length > 0 => holder.trim().to_owned(),
                    _ => "(unknown)".to_owned(),
                };
                return Err(LockError::Held {
                    directory: directory.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_may_have_it_afterwards() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let data = directory.path().join("data");
        let first = DirectoryLock::acquire(&data).expect("free");
        let error = DirectoryLock::acquire(&data).expect_err("held");
        assert!(
            error.to_string().contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        DirectoryLock::acquire(&data).expect("free again");
    }

    #[test]
    fn a_path_below_a_file_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = DirectoryLock::acquire(&file.path().join("data")).expect_err("not a directory");
        assert!(matches!(error, LockError::Unusable { .. }), "{error}");
    }
}
