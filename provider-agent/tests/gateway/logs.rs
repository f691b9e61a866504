//! Reading what services write.

use std::time::Duration;

use gateway::LogStream;
use gateway::wire::{ErrorCode, LogEnd, LogItem, LogQuery};
use tokio::time::timeout;

use crate::fakes::{LEASE, Running, code_of, on_wire, running, running_with, salted, settings};

async fn next(stream: &mut LogStream) -> LogItem {
    let item = timeout(Duration::from_secs(60), stream.next())
        .await
        .expect("the next item of the log");
    item.expect("no error").expect("not the end")
}

async fn next_text(stream: &mut LogStream) -> String {
    match next(stream).await {
        LogItem::Line(line) => format!("{} {} {}", line.service, line.sequence, line.text),
        LogItem::Gap(gap) => format!("{} gap {}-{}", gap.service, gap.from, gap.to),
        LogItem::End { reason } => format!("{reason:?}"),
        other => panic!("{other:?}"),
    }
}

async fn with_manifest() -> Running {
    let running = running().await;
    running
        .as_owner()
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
    running
}

fn of_web(follow: bool) -> LogQuery {
    LogQuery {
        service: Some("web".to_owned()),
        follow,
        ..LogQuery::default()
    }
}

#[tokio::test]
async fn what_is_kept_is_read_to_its_end() {
    let running = with_manifest().await;
    running.engine.write("web", &["one", "two", "three"]);
    running.engine.write("backend", &["zero"]);
    let client = running.as_owner();
    let mut stream = client.logs(on_wire(LEASE), of_web(false));
    for expected in ["web 1 one", "web 2 two", "web 3 three", "Complete"] {
        assert_eq!(next_text(&mut stream).await, expected);
    }
    let mut tail = client.logs(
        on_wire(LEASE),
        LogQuery {
            tail: Some(1),
            ..of_web(false)
        },
    );
    assert_eq!(next_text(&mut tail).await, "web 3 three");
    let mut rest = client.logs(
        on_wire(LEASE),
        LogQuery {
            cursor: "web:2".parse().expect("cursor"),
            ..of_web(false)
        },
    );
    assert_eq!(next_text(&mut rest).await, "web 3 three");

    let mut all = client.logs(on_wire(LEASE), LogQuery::default());
    let mut texts = Vec::new();
    while texts.last().is_none_or(|last| last != "Complete") {
        texts.push(next_text(&mut all).await);
    }
    texts.sort();
    assert_eq!(
        texts,
        ["Complete", "backend 1 zero", "web 1 one", "web 2 two", "web 3 three"]
    );
}

#[tokio::test]
async fn what_is_lost_shows_as_a_gap() {
    let running = with_manifest().await;
    running.engine.lose_until("web", 40);
    running.engine.write("web", &["after"]);
    let query = LogQuery {
        cursor: "web:10".parse().expect("cursor"),
        ..of_web(false)
    };
    let mut stream = running.as_owner().logs(on_wire(LEASE), query);
    assert_eq!(next_text(&mut stream).await, "web gap 11-40");
    assert_eq!(next_text(&mut stream).await, "web 41 after");
}

#[tokio::test]
async fn a_follower_sees_what_comes_also_of_a_service_that_had_not_started() {
    let running = with_manifest().await;
    running.engine.write("web", &["one"]);
    let mut stream = running.as_owner().logs(
        on_wire(LEASE),
        LogQuery {
            follow: true,
            ..LogQuery::default()
        },
    );
    assert_eq!(next_text(&mut stream).await, "web 1 one");
    running.engine.write("web", &["two"]);
    assert_eq!(next_text(&mut stream).await, "web 2 two");
    running.engine.write("backend", &["late"]);
    assert_eq!(next_text(&mut stream).await, "backend 1 late");
    running
        .chain
        .change(|lease| lease.closed = Some("closed by its user".to_owned()));
    running.engine.end_output();
    assert_eq!(next_text(&mut stream).await, "LeaseClosed");
    assert_eq!(stream.next().await.expect("over"), None);
}

#[tokio::test]
async fn a_revoked_key_ends_open_streams() {
    let running = with_manifest().await;
    running.engine.write("web", &["one"]);
    let mut stream = running.as_owner().logs(on_wire(LEASE), of_web(true));
    assert_eq!(next_text(&mut stream).await, "web 1 one");
    *running.chain.away.lock().expect("lock") = true;
    running.engine.write("web", &["two"]);
    assert_eq!(next_text(&mut stream).await, "web 2 two");
    running.chain.change(|lease| lease.owner_keys = None);
    *running.chain.away.lock().expect("lock") = false;
    assert_eq!(
        next(&mut stream).await,
        LogItem::End {
            reason: LogEnd::AccessEnded
        }
    );
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_named() {
    let running = with_manifest().await;
    let query = LogQuery {
        service: Some("wed".to_owned()),
        ..LogQuery::default()
    };
    let refusal = code_of(running.as_owner().logs(on_wire(LEASE), query).next().await);
    assert_eq!(refusal.error, ErrorCode::BadRequest);
    assert!(
        refusal.message.contains("wed") && refusal.message.contains("backend, web"),
        "{}",
        refusal.message
    );
}

#[tokio::test]
async fn streams_are_limited_per_peer_and_end_when_the_agent_stops() {
    let running = running_with(provider_agent::api::Settings {
        streams_per_peer: 1,
        ..settings()
    })
    .await;
    running.engine.write("web", &["one"]);
    let mut first = running.as_owner().logs(on_wire(LEASE), of_web(true));
    assert_eq!(next_text(&mut first).await, "web 1 one");
    let timeouts = gateway::client::Timeouts {
        reconnect: Duration::ZERO,
        ..Default::default()
    };
    let client = running.as_owner().with_timeouts(timeouts);
    let refusal = code_of(client.logs(on_wire(LEASE), of_web(true)).next().await);
    assert_eq!(refusal.error, ErrorCode::RateLimited);

    let mut short = client.logs(on_wire(LEASE), of_web(true));
    drop(first);
    let freed = async {
        // The server learns that a reader left when it writes to it, or at once from the closed connection.
        while short.next().await.is_err() {}
    };
    timeout(Duration::from_secs(60), freed)
        .await
        .expect("the place comes back");
    running.stop.cancel();
    let error = timeout(Duration::from_secs(60), short.next())
        .await
        .expect("an end")
        .expect_err("nobody there");
    assert!(error.is_transient(), "{error:?}");
}
