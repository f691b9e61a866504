//! Output of real containers, through the ring.

use futures::StreamExt;
use workload::{Assignment, Engine, LeaseId, LogItem, LogLine, Stream};

use crate::support::{LIMIT, run_on, until, with_provider};

async fn lines(engine: &workload::Docker, lease: LeaseId, count: usize) -> Vec<LogLine> {
    until(&format!("{count} lines of output"), || async {
        let items: Vec<_> = engine
            .logs()
            .read(lease, "app", 0, None, false)
            .unwrap()
            .collect()
            .await;
        let lines: Vec<LogLine> = items
            .into_iter()
            .map(|item| match item.unwrap() {
                LogItem::Line(line) => line,
                gap => panic!("{gap:?}"),
            })
            .collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn output_survives_agent_and_container_without_loss_or_repetition() {
    with_provider(async |provider| {
        let lease = LeaseId(1);
        // Waits for a file between its lines, so that the test decides when the agent is away.
        let script =
            "echo one; echo two >&2; while ! test -e /tmp/go; do sleep 0.05; done; echo three; exec sleep 3600";
        let manifest = provider.manifest(&[("app", script, &[])]);
        let first = provider.again(|_| {});
        let applied = run_on(&first, lease, &manifest, &Assignment::default()).await;
        let recorded = lines(&first, lease, 2).await;
        let of = |stream| {
            recorded
                .iter()
                .filter(move |line| line.stream == stream)
                .map(|line| line.text.as_str())
        };
        assert!(
            of(Stream::Stdout).eq(["one"]) && of(Stream::Stderr).eq(["two"]),
            "{recorded:?}"
        );
        assert_eq!(recorded.iter().map(|line| line.sequence).collect::<Vec<_>>(), [0, 1]);
        drop(first);

        provider.exec(lease, "app", &["sh", "-c", "echo > /tmp/go"]).await;
        run_on(&provider.engine, lease, &manifest, &applied.assignment).await;
        let all = lines(&provider.engine, lease, 3).await;
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(all[2].text, "three");

        // The container starts again (its file is there now): the same lines once more, after the others.
        let id = provider.container_id(lease, "app").await;
        provider.docker.kill_container(&id, None).await.unwrap();
        let mut follow = provider.engine.logs().read(lease, "app", 3, Some(3), true).unwrap();
        until("the container to run again", || async {
            let applied = provider
                .engine
                .apply(lease, &manifest, &applied.assignment)
                .await
                .unwrap();
            (applied.status.is_ready() && applied.status.services["app"].replicas[0].restarts == 1).then_some(())
        })
        .await;
        for sequence in 3..6 {
            let item = tokio::time::timeout(LIMIT, follow.next())
                .await
                .expect("a line of the second run");
            let LogItem::Line(line) = item.expect("a line").unwrap() else {
                panic!("a gap");
            };
            assert_eq!(line.sequence, sequence);
        }

        // What was said last is kept after the lease.
        provider.engine.remove(lease).await.unwrap();
        assert_eq!(lines(&provider.engine, lease, 6).await.len(), 6);
        assert!(provider.folder().join("logs/1/closed").exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_are_recorded() {
    with_provider(async |provider| {
        let lease = LeaseId(2);
        let manifest = provider.manifest(&[(
            "app",
            "i=0; while test $i -lt 2000; do echo line $i; i=$((i+1)); done",
            &[],
        )]);
        provider
            .engine
            .apply(lease, &manifest, &Assignment::default())
            .await
            .unwrap();
        let first_run = lines(&provider.engine, lease, 2_000).await;
        assert!(
            first_run[..2_000]
                .iter()
                .enumerate()
                .all(|(number, line)| line.text == format!("line {number}"))
        );
    })
    .await;
}
