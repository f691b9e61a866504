//! Files that nobody else may read, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use eyre::WrapErr as _;

use crate::failure::Failure;

/// Creates a folder, and those above it, for its owner alone.
pub(crate) fn create_folder(path: &Path) -> eyre::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .wrap_err_with(|| format!("cannot create the folder {}", path.display()))
}

/// Writes a file with mode 0600 so that after a power cut it is there with all of its bytes, or as it was before.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> eyre::Result<()> {
    create_folder(folder_of(path))?;
    write_whole(path, bytes)
}

/// Writes text where a user asked for it, as [`write_private`] does and with an end to its last line. The folder must be
/// there: a name that was mistyped must not become one.
pub(crate) fn write_result(path: &Path, text: &str) -> eyre::Result<()> {
    require_folder(path)?;
    write_whole(path, format!("{}\n", text.trim_end_matches('\n')).as_bytes())
}

/// Fails unless the folder of a file that is to be written is there.
pub(crate) fn require_folder(path: &Path) -> Result<(), Failure> {
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "cannot write {}: there is no folder {}; make it, or name another file",
        path.display(),
        folder.display()
    )))
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    // A bare name has an empty parent, which no system call takes for the working directory.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Writes a file of a folder that is there, whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> eyre::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.draft", std::process::id()));
    let draft = PathBuf::from(draft);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder_of(path))?.sync_all()
    };
    write().map_err(|error| {
        // A draft that can be neither used nor removed harms nobody.
        fs::remove_file(&draft).ok();
        eyre::Report::new(error).wrap_err(format!("cannot write {}", path.display()))
    })
}

/// A file's bytes, or none where it does not exist.
pub(crate) fn read_if_there(path: &Path) -> eyre::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(eyre::Report::new(error).wrap_err(format!("cannot read {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_file_is_its_owners_alone_and_leaves_no_draft() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("new/secret");
        for text in ["first", "second"] {
            write_private(&path, text.as_bytes()).expect("written");
            assert_eq!(read_if_there(&path).expect("read").as_deref(), Some(text.as_bytes()));
        }
        let mode = fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("new")).expect("list").count(), 1);
        assert!(read_if_there(&folder.path().join("none")).expect("no error").is_none());
    }

    #[test]
    fn a_bare_name_is_a_file_in_the_working_directory() {
        // Next to the crate, because a test must not change the directory of its process.
        let name = format!("bare-name-{}.test", std::process::id());
        let written = write_private(Path::new(&name), b"signed");
        let read = fs::read(&name).ok();
        fs::remove_file(&name).ok();
        written.expect("written");
        assert_eq!(read.as_deref(), Some(&b"signed"[..]));
    }

    #[test]
    fn a_result_ends_its_last_line_and_makes_no_folder() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("order.json");
        for text in ["{}", "{}\n"] {
            write_result(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), "{}\n");
        }
        let missing = folder.path().join("mistyped/order.json");
        let error = write_result(&missing, "{}").expect_err("no folder");
        let named = missing.parent().expect("a folder").display().to_string();
        assert!(
            error.to_string().contains(&format!("there is no folder {named}")),
            "{error}"
        );
        assert_eq!(crate::failure::exit_status(&error), 2);
        assert!(!missing.parent().expect("a folder").exists());
    }
}
