//! Follows a log stream across broken connections.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};
use url::form_urlencoded;

use super::{ClientError, GatewayClient};
use crate::wire::{LeaseId, LogCursor, LogEnd, LogItem, LogQuery, path};

/// A longer line is not one of this protocol: providers cut lines at far less.
const LONGEST_ITEM_BYTES: usize = 256 * 1024;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A lease's logs, in order, each line once, whatever happens to the connection.
#[derive(Debug)]
pub struct LogStream {
    client: GatewayClient,
    lease: LeaseId,
    query: LogQuery,
    lines: Option<Lines>,
    broken_since: Option<Instant>,
    pause: Duration,
    ended: bool,
}

impl LogStream {
    pub(super) fn new(client: GatewayClient, lease: LeaseId, query: LogQuery) -> Self {
        Self {
            client,
            lease,
            query,
            lines: None,
            broken_since: None,
            pause: FIRST_PAUSE,
            ended: false,
        }
    }

    /// From where another stream would go on.
    pub fn cursor(&self) -> &LogCursor {
        &self.query.cursor
    }

    /// The next [`LogItem::Line`], [`LogItem::Gap`] or, once and last, [`LogItem::End`]; `None` after that. Heartbeats,
    /// lines seen before and a gateway that restarts are dealt with inside.
    ///
    /// # Errors
    /// What is not transient at once, what is after it lasted for [`super::Timeouts::reconnect`]. The stream may be asked
    /// again after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<LogItem>, ClientError> {
        while !self.ended {
            let item = match self.read().await {
                Ok(item) => item,
                Err(error) => {
                    self.lines = None;
                    self.wait_or_give_up(error).await?;
                    continue;
                }
            };
            self.broken_since = None;
            self.pause = FIRST_PAUSE;
            match &item {
                LogItem::Line(line) if !self.query.cursor.advance(&line.service, line.sequence) => continue,
                LogItem::Line(_) => {}
                LogItem::Gap(gap) => {
                    self.query.cursor.advance(&gap.service, gap.to);
                }
                LogItem::Heartbeat | LogItem::Unknown => continue,
                LogItem::End {
                    reason: LogEnd::ShuttingDown,
                } if self.query.follow => {
                    self.lines = None;
                    sleep(FIRST_PAUSE).await;
                    continue;
                }
                LogItem::End { .. } => {
                    self.lines = None;
                    self.ended = true;
                }
            }
            return Ok(Some(item));
        }
        Ok(None)
    }

    async fn read(&mut self) -> Result<LogItem, ClientError> {
        let endpoint = &self.client.endpoint;
        let lines = match &mut self.lines {
            Some(lines) => lines,
            none => {
                let path = format!("{}?{}", path::logs(self.lease), query_text(&self.query));
                let response = self.client.send(Method::GET, &path, bytes::Bytes::new()).await?;
                none.insert(Lines::new(response.into_body()))
            }
        };
        let limit = self.client.timeouts.silence;
        let line = timeout(limit, lines.next())
            .await
            .map_err(|_| endpoint.timed_out("a line or a heartbeat", limit))?;
        match line {
            Ok(line) => {
                let item: LogItem = serde_json::from_slice(&line)
                    .map_err(|error| endpoint.nonsense(format!("a log line that is not one: {error}")))?;
                // What is kept for each service must not grow with what a provider invents.
                let service = match &item {
                    LogItem::Line(line) => Some(&line.service),
                    LogItem::Gap(gap) => Some(&gap.service),
                    LogItem::Heartbeat | LogItem::End { .. } | LogItem::Unknown => None,
                };
                match service {
                    Some(service) if !self.query.cursor.has_room_for(service) => {
                        Err(endpoint.nonsense("log lines of more services than a manifest can have".to_owned()))
                    }
                    _ => Ok(item),
                }
            }
            Err(LinesError::Broken(error)) => Err(endpoint.broken(error)),
            Err(LinesError::Ended) => Err(ClientError::Broken {
                gateway: endpoint.authority().to_owned(),
                source: "the log stream stopped without saying why".into(),
            }),
            Err(LinesError::TooLong) => Err(endpoint.nonsense(format!("a log line over {LONGEST_ITEM_BYTES} bytes"))),
        }
    }

    async fn wait_or_give_up(&mut self, error: ClientError) -> Result<(), ClientError> {
        let since = *self.broken_since.get_or_insert_with(Instant::now);
        if !error.is_transient() || since.elapsed() + self.pause > self.client.timeouts.reconnect {
            self.broken_since = None;
            return Err(error);
        }
        tracing::debug!(%error, "log stream broken; connecting again");
        let asked = match &error {
            ClientError::Refused { body, .. } => body.details.retry_after_seconds.map(Duration::from_secs),
            _ => None,
        };
        sleep(asked.unwrap_or(self.pause).min(LONGEST_PAUSE)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// The query as in a URL. Absent fields stay absent.
fn query_text(query: &LogQuery) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    if let Some(service) = &query.service {
        text.append_pair("service", service);
    }
    if !query.cursor.is_start() {
        text.append_pair("cursor", &query.cursor.to_string());
    }
    if let Some(tail) = query.tail {
        text.append_pair("tail", &tail.to_string());
    }
    text.append_pair("follow", if query.follow { "true" } else { "false" });
    text.finish()
}

/// A body, line by line.
#[derive(Debug)]
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    searched: usize,
}

enum LinesError {
    Broken(hyper::Error),
    Ended,
    TooLong,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// Cancel safe: what was received stays in the buffer.
    async fn next(&mut self) -> Result<BytesMut, LinesError> {
        loop {
            if let Some(position) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + position);
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LONGEST_ITEM_BYTES {
                return Err(LinesError::TooLong);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(LinesError::Broken(error)),
                None => return Err(LinesError::Ended),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_what_the_server_parses() {
        let mut cursor = LogCursor::default();
        cursor.advance("web", 7);
        let query = LogQuery {
            service: Some("web".to_owned()),
            cursor,
            tail: Some(10),
            follow: true,
        };
        assert_eq!(query_text(&query), "service=web&cursor=web%3A7&tail=10&follow=true");
        let uri: http::Uri = format!("/?{}", query_text(&query)).parse().expect("uri");
        let parsed: axum::extract::Query<LogQuery> = axum::extract::Query::try_from_uri(&uri).expect("parse");
        assert_eq!(parsed.0, query);
        assert_eq!(query_text(&LogQuery::default()), "follow=false");
    }
}
