//! What containers use of the disk. Docker's usual file systems cannot limit it, so it is measured.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::{Disk, Error};

/// A walk ends after so long, with what it has found by then: trees are a tenant's, and tenants can make deep ones.
const WALK_DEADLINE: Duration = Duration::from_secs(60);

/// The file system under a folder.
pub(super) fn file_system(folder: &str, minimum_free_bytes: u64) -> Result<Disk, Error> {
    let numbers = nix::sys::statvfs::statvfs(folder).map_err(|errno| Error::File {
        action: "measure",
        path: folder.to_owned(),
        source: errno.into(),
    })?;
    let block = numbers.fragment_size();
    let free_bytes = block.saturating_mul(numbers.blocks_available());
    Ok(Disk {
        total_bytes: block.saturating_mul(numbers.blocks()),
        free_bytes,
        below_watermark: free_bytes < minimum_free_bytes,
    })
}

/// Bytes on disk of everything below a folder; 0 where it is gone. Follows no links and stays on its file system.
pub(super) fn used_bytes(folder: &Path) -> u64 {
    let Ok(root) = std::fs::symlink_metadata(folder) else {
        return 0;
    };
    let begun = Instant::now();
    let mut used = root.blocks() * 512;
    let mut linked = HashSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if begun.elapsed() > WALK_DEADLINE {
            tracing::warn!(folder = %folder.display(), "measuring took too long; the rest is not counted");
            break;
        }
        // Files come and go while this walks.
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.dev() != root.dev() {
                continue;
            }
            if metadata.nlink() > 1 && metadata.is_file() && !linked.insert(metadata.ino()) {
                continue;
            }
            used += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let empty = used_bytes(folder.path());
        std::fs::write(folder.path().join("a"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("c")).unwrap();
        let used = used_bytes(folder.path()) - empty;
        assert!((1 << 20..3 << 19).contains(&used), "{used}");
        assert_eq!(used_bytes(&folder.path().join("missing")), 0);
    }

    #[test]
    fn the_watermark_counts_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(!file_system(path, 0).unwrap().below_watermark);
        assert!(file_system(path, u64::MAX).unwrap().below_watermark);
    }
}
