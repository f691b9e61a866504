use super::*;

const LEASE: LeaseId = LeaseId(u64::MAX);

fn salted(salt: u8) -> SaltedManifest {
    let file = include_bytes!("../../../examples/two-services.icl.yaml");
    let deployment = manifest::parse("two-services.icl.yaml", file).expect("a valid example");
    SaltedManifest {
        salt: B256::repeat_byte(salt),
        manifest: deployment.manifest,
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let manifests = Manifests::open(directory.path()).expect("open");
    let mut changes = manifests.changes();
    assert!(!manifests.put(LEASE, &salted(1), &[]).await.expect("stored"));
    assert!(changes.has_changed().expect("open"));
    changes.mark_unchanged();
    assert!(
        manifests.put(LEASE, &salted(1), &[]).await.expect("stored"),
        "the same again"
    );
    drop(manifests);

    let manifests = Manifests::open(directory.path()).expect("open");
    let stored = manifests
        .get(LEASE, salted(1).hash())
        .await
        .expect("read")
        .expect("there");
    assert_eq!((stored.hash, stored.applied), (salted(1).hash(), false));
    assert_eq!(stored.salted, salted(1));
    assert_eq!(manifests.workloads().await.expect("read"), [LEASE]);
    assert_eq!(manifests.get(LeaseId(1), salted(1).hash()).await.expect("read"), None);
    manifests.remove(LEASE).await.expect("removed");
    assert_eq!(manifests.workloads().await.expect("read"), []);
}

#[tokio::test]
async fn the_last_good_one_is_kept_until_it_is_let_go() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let manifests = Manifests::open(directory.path()).expect("open");
    let [first, second] = [1, 2].map(|salt| salted(salt).hash());
    let last_applied = async || {
        let stored = manifests.last_applied(LEASE).await.expect("read");
        stored.map(|stored| stored.hash)
    };
    manifests.put(LEASE, &salted(1), &[]).await.expect("stored");
    assert_eq!(last_applied().await, None);
    manifests.mark_applied(LEASE, first).await.expect("marked");
    manifests.put(LEASE, &salted(2), &[]).await.expect("stored");
    assert_eq!(last_applied().await, Some(first));
    manifests.mark_applied(LEASE, B256::ZERO).await.expect("unknown");
    assert_eq!(last_applied().await, Some(first));

    manifests.mark_applied(LEASE, second).await.expect("marked");
    assert_eq!(last_applied().await, Some(second));
    let before = manifests
        .last_good_but(LEASE, second)
        .await
        .expect("read")
        .expect("kept");
    assert_eq!((before.hash, before.applied), (first, true));
    // Going back makes the first one the last good one again.
    manifests.mark_applied(LEASE, first).await.expect("marked");
    assert_eq!(last_applied().await, Some(first));

    manifests.retain(LEASE, &[second]).await.expect("retained");
    assert_eq!(manifests.get(LEASE, first).await.expect("read"), None);
    assert_eq!(last_applied().await, Some(second));
}

#[tokio::test]
async fn of_those_that_never_ran_only_those_that_may_yet_be_wanted_are_kept() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let manifests = Manifests::open(directory.path()).expect("open");
    let hashes = [1, 2, 3].map(|salt| salted(salt).hash());
    manifests.put(LEASE, &salted(1), &[]).await.expect("stored");
    manifests.mark_applied(LEASE, hashes[0]).await.expect("marked");
    manifests.put(LEASE, &salted(2), &[]).await.expect("stored");
    manifests.put(LEASE, &salted(3), &[hashes[1]]).await.expect("stored");
    for hash in hashes {
        assert!(manifests.get(LEASE, hash).await.expect("read").is_some(), "{hash}");
    }
    assert!(
        manifests.put(LEASE, &salted(3), &[]).await.expect("stored"),
        "the same again"
    );
    let left = [true, false, true];
    for (hash, is_left) in hashes.into_iter().zip(left) {
        assert_eq!(
            manifests.get(LEASE, hash).await.expect("read").is_some(),
            is_left,
            "{hash}"
        );
    }
}

#[tokio::test]
async fn nothing_readable_is_on_disk_and_a_moved_row_does_not_open() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let manifests = Manifests::open(directory.path()).expect("open");
    manifests.put(LEASE, &salted(1), &[]).await.expect("stored");
    manifests
        .store
        .write(|transaction| {
            transaction.execute(
                "INSERT INTO manifests SELECT ?1, hash, sealed, 1, 0 FROM manifests",
                [row(LeaseId(7))],
            )
        })
        .await
        .expect("copied");
    let error = manifests
        .get(LeaseId(7), salted(1).hash())
        .await
        .expect_err("another lease's");
    assert!(matches!(error, ManifestsError::Sealed { .. }), "{error}");
    assert!(!manifests.put(LeaseId(7), &salted(1), &[]).await.expect("replaced"));
    assert_eq!(
        manifests
            .get(LeaseId(7), salted(1).hash())
            .await
            .expect("read")
            .expect("there")
            .salted,
        salted(1)
    );
    for entry in std::fs::read_dir(directory.path()).expect("list") {
        let path = entry.expect("entry").path();
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).expect("read");
        let image = b"spheron/hello";
        assert!(
            !bytes.windows(image.len()).any(|window| window == image),
            "{} is readable",
            path.display()
        );
    }
}

#[tokio::test]
async fn a_lost_key_loses_the_manifests_and_nothing_else() {
    let directory = tempfile::tempdir().expect("temporary directory");
    Manifests::open(directory.path())
        .expect("open")
        .put(LEASE, &salted(1), &[])
        .await
        .expect("stored");
    std::fs::remove_file(directory.path().join(KEY_FILE)).expect("remove");
    let manifests = Manifests::open(directory.path()).expect("open");
    assert!(
        manifests
            .get(LEASE, salted(1).hash())
            .await
            .expect_err("sealed")
            .is_lost_manifest()
    );
    manifests.put(LEASE, &salted(1), &[]).await.expect("sent again");
    assert_eq!(
        manifests
            .get(LEASE, salted(1).hash())
            .await
            .expect("read")
            .expect("there")
            .salted,
        salted(1)
    );
}

#[test]
fn a_key_file_that_is_cut_off_or_readable_by_others_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    drop(Manifests::open(directory.path()).expect("open"));
    let path = directory.path().join(KEY_FILE);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(matches!(
        Manifests::open(directory.path()),
        Err(ManifestsError::Key { .. })
    ));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::write(&path, [1; 31]).expect("write");
    assert!(matches!(
        Manifests::open(directory.path()),
        Err(ManifestsError::Key { .. })
    ));
}
