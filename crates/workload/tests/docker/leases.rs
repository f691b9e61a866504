//! A lease's life: applied, applied again, crashed, stopped, removed.

use std::time::Duration;

use manifest::{Mount, PullPolicy, Volume, VolumeKind};
use workload::{Assignment, Engine, LeaseId, ReplicaState};

use crate::support::{http_get, run_on, state, unique, until, wait, with_provider};

const WEB: &str = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";
const IDLE: &str = "exec sleep 3600";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_answers_and_applying_again_changes_nothing() {
    with_provider(async |provider| {
        let lease = LeaseId(1);
        let manifest = provider.manifest(&[("web", WEB, &[80])]);
        let applied = provider.run(lease, &manifest).await;
        let [port] = applied.assignment.ports.as_slice() else {
            panic!("{applied:?}");
        };
        assert!(provider.settings.host_ports.contains(&port.host_port));
        assert_eq!(http_get(&format!("127.0.0.1:{}", port.host_port)).await, "hello");

        let before = provider.container_id(lease, "web").await;
        let again = provider
            .engine
            .apply(lease, &manifest, &applied.assignment)
            .await
            .unwrap();
        assert_eq!((again.changes, &again.assignment), (0, &applied.assignment));

        // An agent that lost everything finds it by its labels.
        let fresh = provider.again(|_| {});
        let adopted = fresh.apply(lease, &manifest, &Assignment::default()).await.unwrap();
        assert_eq!((adopted.changes, &adopted.assignment), (0, &applied.assignment));
        assert!(adopted.status.is_ready());
        assert_eq!(provider.container_id(lease, "web").await, before);

        // Another provider on the same engine sees nothing of it, and removes nothing.
        let stranger = provider.again(|settings| settings.scope.devnet = None);
        assert!(stranger.observe().await.unwrap().is_empty());
        stranger.remove(lease).await.unwrap();
        stranger.remove_all().await.unwrap();
        assert_eq!(provider.container_id(lease, "web").await, before);

        provider.engine.remove(lease).await.unwrap();
        provider.engine.remove(lease).await.unwrap();
        assert!(provider.engine.observe().await.unwrap().is_empty());
        assert!(provider.engine.status(lease).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_replicas_find_each_other_by_name() {
    with_provider(async |provider| {
        let lease = LeaseId(2);
        let mut manifest = provider.manifest(&[("web", WEB, &[80]), ("client", IDLE, &[])]);
        manifest.services.get_mut("web").unwrap().count = 2;
        let applied = provider.run(lease, &manifest).await;
        assert_eq!(applied.assignment.ports.len(), 2);
        for port in &applied.assignment.ports {
            assert_eq!(http_get(&format!("127.0.0.1:{}", port.host_port)).await, "hello");
        }
        for name in ["web", "web-0", "web-1"] {
            let (output, status) = provider
                .exec(
                    lease,
                    "client",
                    &[
                        "sh",
                        "-c",
                        &format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {name} 80"),
                    ],
                )
                .await;
            assert!(status == 0 && output.contains("hello"), "{name}: {output}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_have_limits_and_no_privileges() {
    with_provider(async |provider| {
        let lease = LeaseId(3);
        let manifest = provider.manifest(&[("web", IDLE, &[])]);
        provider.run(lease, &manifest).await;
        let inspected = provider
            .docker
            .inspect_container(&provider.container_id(lease, "web").await, None)
            .await
            .unwrap();
        let host = inspected.host_config.unwrap();
        assert_eq!(host.nano_cpus, Some(500_000_000));
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.memory_swap, host.memory);
        assert!(host.pids_limit > Some(0));
        assert_eq!(host.privileged, Some(false));

        let (status, _) = provider.exec(lease, "web", &["cat", "/proc/1/status"]).await;
        let field = |name: &str| {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("{status}"));
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("Seccomp:"), "2");
        let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
        // CHOWN stays; NET_RAW (13), SYS_ADMIN (21) and MKNOD (27) are not there.
        assert_eq!(bounding & (1 | 1 << 13 | 1 << 21 | 1 << 27), 1, "{bounding:x}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_is_started_again_in_the_same_container() {
    with_provider(async |provider| {
        let lease = LeaseId(4);
        let manifest = provider.manifest(&[("web", "echo started; exec sleep 3600", &[80])]);
        let applied = provider.run(lease, &manifest).await;
        let id = provider.container_id(lease, "web").await;
        // The agent is killed, and so is the container; the engine starts nothing by itself.
        provider.docker.kill_container(&id, None).await.unwrap();
        let fresh = provider.again(|_| {});
        let first = fresh.apply(lease, &manifest, &Assignment::default()).await.unwrap();
        assert!(
            matches!(state(&first.status, "web"), ReplicaState::Exited { code: 137, .. }),
            "{:?}",
            first.status
        );
        let again = run_on(&fresh, lease, &manifest, &first.assignment).await;
        assert_eq!(again.assignment, applied.assignment);
        assert_eq!(again.status.services["web"].replicas[0].restarts, 1);
        assert_eq!(provider.container_id(lease, "web").await, id);

        // What fails at once waits longer each time, and says so.
        let failing = provider.manifest(&[("web", "exit 3", &[80])]);
        // Right after a start it may be seen to run.
        let ended = until("its third end", || async {
            wait(&fresh).await;
            let applied = fresh.apply(lease, &failing, &again.assignment).await.unwrap();
            let has_ended = matches!(state(&applied.status, "web"), ReplicaState::Exited { code: 3, .. });
            (has_ended && applied.status.services["web"].replicas[0].restarts >= 3).then_some(applied)
        })
        .await;
        // Its URL is the same as before.
        assert_eq!(ended.assignment.ports, applied.assignment.ports);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_keeps_the_disk_and_a_full_one_stops() {
    with_provider(async |provider| {
        let lease = LeaseId(5);
        let mut manifest = provider.manifest(&[("db", "date +%N >> /data/starts; exec sleep 3600", &[])]);
        manifest.services.get_mut("db").unwrap().resources.volumes = vec![
            Volume {
                name: "data".into(),
                bytes: 8 << 20,
                kind: VolumeKind::Beta2,
                mount: Some(Mount {
                    path: "/data".into(),
                    read_only: false,
                }),
            },
            Volume {
                name: "shm".into(),
                bytes: 16 << 20,
                kind: VolumeKind::Memory,
                mount: Some(Mount {
                    path: "/dev/shm".into(),
                    read_only: false,
                }),
            },
        ];
        manifest.services.get_mut("db").unwrap().resources.root_disk_bytes = 1 << 20;
        let applied = provider.run(lease, &manifest).await;
        // A container runs before its script has done anything.
        let started = async |times: usize| {
            until(&format!("start {times} to be written down"), || async {
                let (starts, status) = provider.exec(lease, "db", &["cat", "/data/starts"]).await;
                (status == 0 && starts.lines().count() == times).then_some(())
            })
            .await;
        };
        started(1).await;
        let (sizes, _) = provider.exec(lease, "db", &["df", "-k", "/dev/shm"]).await;
        assert!(sizes.contains(" 16384 "), "{sizes}");

        provider.engine.stop(lease).await.unwrap();
        provider.engine.stop(lease).await.unwrap();
        let stopped = provider.engine.status(lease).await.unwrap().unwrap();
        assert!(
            matches!(state(&stopped, "db"), ReplicaState::Stopped { .. }),
            "{stopped:?}"
        );
        run_on(&provider.engine, lease, &manifest, &applied.assignment).await;
        started(2).await;

        let usage = provider.engine.measure().await.unwrap();
        assert_eq!((usage.len(), usage[0].limit_bytes), (1, 9 << 20));
        assert!(usage[0].used_bytes < 1 << 20, "{usage:?}");
        provider
            .exec(
                lease,
                "db",
                &["dd", "if=/dev/zero", "of=/data/big", "bs=1M", "count=12"],
            )
            .await;
        let usage = provider.engine.measure().await.unwrap();
        assert!(usage[0].used_bytes > 12 << 20, "{usage:?}");
        let over = provider
            .engine
            .apply(lease, &manifest, &applied.assignment)
            .await
            .unwrap();
        assert!(
            matches!(state(&over.status, "db"), ReplicaState::Stopped { .. }),
            "{:?}",
            over.status
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_staged_beside_what_runs_and_keeps_its_volumes_and_ports() {
    with_provider(async |provider| {
        let lease = LeaseId(15);
        let with_volume = |script: &str| {
            let mut manifest = provider.manifest(&[("web", script, &[80])]);
            manifest.services.get_mut("web").unwrap().resources.volumes = vec![Volume {
                name: "data".into(),
                bytes: 8 << 20,
                kind: VolumeKind::Beta2,
                mount: Some(Mount {
                    path: "/data".into(),
                    read_only: false,
                }),
            }];
            manifest
        };
        let first = with_volume("echo first >> /data/index.html; exec httpd -f -p 80 -h /data");
        let mut second = with_volume("echo second >> /data/index.html; exec httpd -f -p 80 -h /data");
        let applied = provider.run(lease, &first).await;
        let address = format!("127.0.0.1:{}", applied.assignment.ports[0].host_port);
        assert_eq!(http_get(&address).await, "first");
        let before = provider.container_id(lease, "web").await;

        // What cannot run is found out while what runs is left alone.
        let mut missing = second.clone();
        let service = missing.services.get_mut("web").unwrap();
        service.image = format!("workload-test-missing-{:x}:1", unique());
        service.pull_policy = PullPolicy::Never;
        let staged = provider.engine.stage(lease, &missing).await.unwrap();
        let (service, reason) = staged.failure.clone().expect("a failure");
        assert!(service == "web" && reason.contains("pull_policy is Never"), "{reason}");
        second.services.get_mut("web").unwrap().image = provider.image.clone();
        let staged = provider.engine.stage(lease, &second).await.unwrap();
        assert!(staged.is_ready() && staged.images.contains_key("web"), "{staged:?}");
        let again = provider.engine.apply(lease, &first, &applied.assignment).await.unwrap();
        assert_eq!(again.changes, 0);
        assert_eq!(provider.container_id(lease, "web").await, before);

        provider.engine.unstage(lease).await;
        let mut assignment = applied.assignment.clone();
        assignment.images = staged.images;
        let updated = run_on(&provider.engine, lease, &second, &assignment).await;
        assert_ne!(provider.container_id(lease, "web").await, before);
        assert_eq!(updated.assignment.ports, applied.assignment.ports);
        assert_eq!(http_get(&address).await, "first\nsecond");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_ends_is_not_said_to_have_ended_by_itself() {
    with_provider(async |provider| {
        let lease = LeaseId(14);
        let before = provider.manifest(&[("a", IDLE, &[]), ("b", IDLE, &[])]);
        provider.run(lease, &before).await;
        let after = provider.manifest(&[("a", "exec sleep 3601", &[]), ("b", "exec sleep 3601", &[])]);
        let nothing = Assignment::default();
        let mut replacing = std::pin::pin!(run_on(&provider.engine, lease, &after, &nothing));
        let (mut looks, mut ended) = (0, Vec::new());
        // A process that does not listen to SIGTERM is killed: its exit status is 137.
        let applied = loop {
            tokio::select! {
                applied = &mut replacing => break applied,
                status = provider.engine.status(lease) => {
                    looks += 1;
                    let services = status.unwrap().map(|status| status.services).unwrap_or_default();
                    let replicas = services.into_values().flat_map(|service| service.replicas);
                    ended.extend(replicas.filter(|one| matches!(one.state, ReplicaState::Exited { .. })));
                }
            }
        };
        // How many there are is the engine's pace.
        assert!(looks > 1, "the switch could not be watched: {looks}");
        assert!(ended.is_empty(), "{ended:?}");
        let restarts = applied.status.services.values().flat_map(|service| &service.replicas);
        assert!(restarts.into_iter().all(|one| one.restarts == 0), "{applied:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_cannot_be_had_are_named() {
    with_provider(async |provider| {
        let lease = LeaseId(6);
        let mut manifest = provider.manifest(&[("web", IDLE, &[])]);
        let service = manifest.services.get_mut("web").unwrap();
        service.image = format!("workload-test-missing-{:x}:1", unique());
        service.pull_policy = PullPolicy::Never;
        let applied = provider
            .engine
            .apply(lease, &manifest, &Assignment::default())
            .await
            .unwrap();
        let (service, reason) = applied.status.failure().expect("a failure");
        assert!(service == "web" && reason.contains("pull_policy is Never"), "{reason}");

        // Nobody listens there: the pull is tried again, with its reason shown.
        manifest.services.get_mut("web").unwrap().image = "127.0.0.1:1/app:1".into();
        manifest.services.get_mut("web").unwrap().pull_policy = PullPolicy::Always;
        provider.engine.forget_failures(lease).await;
        until("the second attempt", || async {
            let applied = provider
                .engine
                .apply(lease, &manifest, &Assignment::default())
                .await
                .unwrap();
            match state(&applied.status, "web") {
                ReplicaState::Pulling {
                    attempt: 2..,
                    last_error: Some(error),
                    ..
                } => {
                    assert!(error.contains("127.0.0.1:1"), "{error}");
                    Some(())
                }
                ReplicaState::Pulling { .. } => None,
                other => panic!("{other:?}"),
            }
        })
        .await;
        let impatient = provider.again(|settings| settings.pull.deadline = Duration::from_secs(1));
        until("the end of the attempts", || async {
            let applied = impatient.apply(lease, &manifest, &Assignment::default()).await.unwrap();
            applied
                .status
                .failure()
                .map(|(_, reason)| assert!(reason.contains("within 1 seconds"), "{reason}"))
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_is_named() {
    with_provider(async |provider| {
        let lease = LeaseId(7);
        let mut manifest = provider.manifest(&[("web", IDLE, &[])]);
        manifest.services.get_mut("web").unwrap().command = vec!["/bin/nothing".into()];
        let applied = provider
            .engine
            .apply(lease, &manifest, &Assignment::default())
            .await
            .unwrap();
        let (_, reason) = applied.status.failure().expect("a failure");
        assert!(reason.contains("/bin/nothing"), "{reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_others_hold_are_left_to_them() {
    with_provider(async |provider| {
        let listeners: Vec<_> = provider
            .settings
            .host_ports
            .clone()
            .take(48)
            .filter_map(|port| std::net::TcpListener::bind(("0.0.0.0", port)).ok())
            .collect();
        let held: Vec<u16> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let lease = LeaseId(8);
        let applied = provider.run(lease, &provider.manifest(&[("web", WEB, &[80])])).await;
        assert!(!held.contains(&applied.assignment.ports[0].host_port));

        // A port that was decided on, and taken before the container first started, is given up for another.
        let other = LeaseId(9);
        let mut taken = applied.assignment.clone();
        taken.ports[0].host_port = held[0];
        let manifest = provider.manifest(&[("web", WEB, &[80])]);
        let mut last = provider.engine.apply(other, &manifest, &taken).await.unwrap();
        if !last.status.is_ready() {
            last = run_on(&provider.engine, other, &manifest, &last.assignment).await;
        }
        let port = last.assignment.ports[0].host_port;
        assert!(port != held[0] && port != applied.assignment.ports[0].host_port);
        assert_eq!(http_get(&format!("127.0.0.1:{port}")).await, "hello");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_described() {
    with_provider(async |provider| {
        let capacity = provider.engine.capacity().await.unwrap();
        assert!(
            capacity.milli_cpu >= 1_000 && capacity.memory_bytes > 1 << 28,
            "{capacity:?}"
        );
        assert!(!capacity.architecture.is_empty());
        let disk = provider.engine.disk().await.unwrap();
        assert!(disk.free_bytes <= disk.total_bytes && !disk.below_watermark, "{disk:?}");
        let greedy = provider.again(|settings| settings.minimum_free_bytes = u64::MAX);
        assert!(greedy.disk().await.unwrap().below_watermark);
    })
    .await;
}
