//! The log store from outside: cursors, gaps, following, and what is left after a lease closed.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use workload::logs::LogSettings;
use workload::{LeaseId, LogItem, LogStore};

const LEASE: LeaseId = LeaseId(3);

#[tokio::test]
async fn names_from_outside_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("secret")).unwrap();
    let store = LogStore::new(folder.path().join("logs"), LogSettings::default());
    for service in ["", "..", "../secret", "a/b", "nothing"] {
        let items: Vec<_> = store.read(LEASE, service, 0, None, true).unwrap().collect().await;
        assert!(items.is_empty(), "`{service}` gave {items:?}");
        assert_eq!(store.tail(LEASE, service, 10).unwrap(), 0);
    }
    assert!(store.services(LEASE).is_empty());
    store.close(LEASE).unwrap();
    assert_eq!(store.sweep(SystemTime::now()).unwrap(), 0);
}

#[tokio::test]
async fn what_a_ring_holds_can_be_read_by_a_stored_file() {
    // The format on disk is read by later versions: this is one record of it.
    let folder = tempfile::tempdir().unwrap();
    let service = folder.path().join("3").join("web");
    std::fs::create_dir_all(&service).unwrap();
    let record = r#"{"sequence":5,"entry":{"kind":"stderr","replica":1,"container":"c","timestamp":"2026-11-22T16:54:55.260606558Z","text":"hello"}}"#;
    std::fs::write(
        service.join("00000000000000000005.log"),
        format!("{record}\n{{\"sequence\":6,\"en"),
    )
    .unwrap();
    let store = LogStore::new(folder.path(), LogSettings::default());

    assert_eq!(store.services(LEASE), ["web"]);
    let items: Vec<_> = store
        .read(LEASE, "web", 0, None, true)
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await;
    let [LogItem::Gap { next_sequence: 5, .. }, LogItem::Line(line)] = items.as_slice() else {
        panic!("{items:?}");
    };
    assert_eq!((line.sequence, line.text.as_str()), (5, "hello"));
    assert_eq!(store.tail(LEASE, "web", 1).unwrap(), 5);

    store.close(LEASE).unwrap();
    assert_eq!(store.sweep(SystemTime::now()).unwrap(), 0);
    assert_eq!(
        store
            .sweep(SystemTime::now() + Duration::from_secs(25 * 60 * 60))
            .unwrap(),
        1
    );
    assert!(!service.exists());
}
