//! Log streams that break.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{StreamExt, stream};
use gateway::ClientError;
use gateway::client::Timeouts;
use gateway::wire::{ErrorBody, ErrorCode, LogCursor, LogEnd, LogGap, LogItem, LogLine, LogQuery, OutputStream, path};

use crate::support::{LEASE, Running, identity};

/// One connection's worth: items, then whether the connection breaks.
type Episode = Result<(Vec<LogItem>, bool), ErrorBody>;

fn line(service: &str, sequence: u64) -> LogItem {
    LogItem::Line(LogLine {
        sequence,
        service: service.to_owned(),
        replica: 0,
        timestamp: "2026-11-22T17:30:00Z".to_owned(),
        stream: OutputStream::Stdout,
        text: format!("{service} says {sequence}"),
    })
}

fn end(reason: LogEnd) -> LogItem {
    LogItem::End { reason }
}

/// Plays one episode per connection and keeps the query each came with.
fn playing(episodes: Vec<Episode>) -> (Router, Arc<Mutex<Vec<LogQuery>>>) {
    let queries = Arc::new(Mutex::new(Vec::new()));
    let episodes = Arc::new(Mutex::new(VecDeque::from(episodes)));
    let seen = queries.clone();
    let handler = move |Query(query): Query<LogQuery>| async move {
        seen.lock().expect("lock").push(query);
        match episodes
            .lock()
            .expect("lock")
            .pop_front()
            .expect("no more connections than episodes")
        {
            Err(refusal) => refusal.into_response(),
            Ok((items, breaks)) => play(items, breaks),
        }
    };
    (Router::new().route(path::LOGS, get(handler)), queries)
}

fn play(items: Vec<LogItem>, breaks: bool) -> Response {
    let lines: Vec<_> = items
        .iter()
        .map(|item| Ok::<_, io::Error>(serde_json::to_string(item).expect("json") + "\n"))
        .collect();
    if !breaks {
        return Body::from_stream(stream::iter(lines)).into_response();
    }
    // Half a line, then the end of the connection: the half must not be shown. What is ready is sent before a pause only.
    let half = stream::iter([Ok("{\"kind\":\"line\",\"sequ".to_owned())]);
    let broken = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("broken on purpose"))
    });
    Body::from_stream(stream::iter(lines).chain(half).chain(broken)).into_response()
}

#[tokio::test]
async fn following_resumes_after_the_last_line_and_shows_each_once() {
    let gap = LogItem::Gap(LogGap {
        service: "web".to_owned(),
        from: 5,
        to: 8,
    });
    let (router, queries) = playing(vec![
        Ok((
            vec![line("web", 1), line("db", 1), LogItem::Heartbeat, line("web", 2)],
            true,
        )),
        Err(ErrorBody::new(ErrorCode::Overloaded, "later").retry_after(0)),
        Ok((vec![line("web", 2), line("web", 3), end(LogEnd::ShuttingDown)], false)),
        Ok((vec![line("web", 4), gap.clone(), line("web", 9)], true)),
        Ok((vec![LogItem::Unknown, line("db", 2), end(LogEnd::LeaseClosed)], false)),
    ]);
    let running = Running::with_router(router).await;
    let mut stream = running.client(&identity()).logs(
        LEASE,
        LogQuery {
            follow: true,
            ..LogQuery::default()
        },
    );
    let mut items = Vec::new();
    while let Some(item) = stream.next().await.expect("a stream that goes on") {
        items.push(item);
    }
    let expected = [
        line("web", 1),
        line("db", 1),
        line("web", 2),
        line("web", 3),
        line("web", 4),
        gap,
        line("web", 9),
        line("db", 2),
        end(LogEnd::LeaseClosed),
    ];
    assert_eq!(items, expected);
    let cursors: Vec<_> = queries
        .lock()
        .expect("lock")
        .iter()
        .map(|query| query.cursor.to_string())
        .collect();
    assert_eq!(cursors, ["", "db:1,web:2", "db:1,web:2", "db:1,web:3", "db:1,web:9"]);
    assert_eq!(stream.next().await.expect("after the end"), None);
}

#[tokio::test]
async fn a_final_refusal_is_reported_at_once() {
    let (router, _) = playing(vec![
        Ok((vec![line("web", 1)], true)),
        Err(ErrorBody::new(ErrorCode::NotYours, "the account has another owner")),
    ]);
    let running = Running::with_router(router).await;
    let mut stream = running.client(&identity()).logs(
        LEASE,
        LogQuery {
            follow: true,
            ..LogQuery::default()
        },
    );
    assert_eq!(stream.next().await.expect("a line"), Some(line("web", 1)));
    let error = stream.next().await.expect_err("refused");
    let ClientError::Refused { body, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(body.error, ErrorCode::NotYours);
}

#[tokio::test]
async fn what_stays_broken_is_given_up_and_the_cursor_kept() {
    let (router, _) = playing(vec![Ok((vec![line("web", 1)], true))]);
    let running = Running::with_router(router).await;
    let timeouts = Timeouts {
        reconnect: Duration::from_millis(500),
        ..Timeouts::default()
    };
    let client = running.client(&identity()).with_timeouts(timeouts);
    let mut stream = client.logs(
        LEASE,
        LogQuery {
            follow: true,
            ..LogQuery::default()
        },
    );
    assert_eq!(stream.next().await.expect("a line"), Some(line("web", 1)));
    running.stop.cancel();
    let error = stream.next().await.expect_err("nobody there any more");
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(*stream.cursor(), "web:1".parse::<LogCursor>().expect("cursor"));
}

#[tokio::test]
async fn silence_is_a_broken_connection() {
    let router = Router::new().route(
        path::LOGS,
        get(|| async { Body::from_stream(stream::pending::<Result<String, io::Error>>()) }),
    );
    let running = Running::with_router(router).await;
    let soon = Duration::from_millis(100);
    let timeouts = Timeouts {
        silence: soon,
        reconnect: soon,
        ..Timeouts::default()
    };
    let client = running.client(&identity()).with_timeouts(timeouts);
    let error = client
        .logs(LEASE, LogQuery::default())
        .next()
        .await
        .expect_err("not a word");
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_line_without_end_is_not_buffered_forever() {
    let router = Router::new().route(
        path::LOGS,
        get(|| async { Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>("x".repeat(16384)))) }),
    );
    let running = Running::with_router(router).await;
    let error = running
        .client(&identity())
        .logs(LEASE, LogQuery::default())
        .next()
        .await
        .expect_err("endless");
    assert!(matches!(error, ClientError::Nonsense { .. }), "{error:?}");
}
