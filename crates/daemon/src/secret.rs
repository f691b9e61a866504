//! Text that must never reach logs, `Debug`, argv or the chain.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Longest secret read from a file: passwords and keys are short, a mistyped path to a disk image is not.
const LONGEST_SECRET_BYTES: u64 = 64 * 1024;

/// A password, token or key as text. It is wiped from memory when dropped, and `Debug` prints `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or unreadable.
    #[error("cannot read the secret file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// Others may read the file.
    #[error("{path} holds a secret but others may read it (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is larger than any secret.
    #[error("{path} is larger than {LONGEST_SECRET_BYTES} bytes; it is not a password or key file")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// There is nothing in it.
    #[error("{0} is empty; put the secret there")]
    Empty(String),
}

impl Secret {
    /// Wraps text that is already in memory.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Reads a file that only its owner (or, for mounted secrets, its group) may read; one trailing newline is dropped.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        use std::io::Read;
        use std::os::unix::fs::PermissionsExt;
        let unreadable = |error: std::io::Error| SecretError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(SecretError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(LONGEST_SECRET_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > LONGEST_SECRET_BYTES {
            return Err(SecretError::TooLong { path: path.to_owned() });
        }
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(SecretError::Empty(path.display().to_string()));
        }
        Ok(Self(text))
    }

    /// Reads an environment variable.
    pub fn from_env(name: &str) -> Result<Self, SecretError> {
        match std::env::var(name) {
            Ok(text) if text.is_empty() => Err(SecretError::Empty(format!("the environment variable {name}"))),
            Ok(text) => Ok(Self::new(text)),
            Err(_) => Err(SecretError::NotSet(name.to_owned())),
        }
    }

    /// The text itself. Name the place it goes to; never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file_with(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("write");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("chmod");
        file
    }

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some([redacted])");
    }

    #[test]
    fn a_file_readable_by_everyone_is_refused_with_the_command_that_helps() {
        let file = file_with("hunter2\n", 0o644);
        let message = Secret::from_file(file.path()).expect_err("mode 644").to_string();
        assert!(message.contains("chmod 600"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_the_secret() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            let file = file_with(text, 0o600);
            assert_eq!(Secret::from_file(file.path()).expect("readable").expose(), "hunter2");
        }
        let empty = file_with("\n", 0o600);
        assert!(matches!(Secret::from_file(empty.path()), Err(SecretError::Empty(_))));
    }
}
