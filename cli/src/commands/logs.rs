//! `spheron logs`: what a lease's services write.

use eyre::bail;
use gateway::wire::{LeaseId, LogCursor, LogEnd, LogItem, LogQuery, OutputStream};

use crate::arguments::Logs;
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, arguments: &Logs) -> eyre::Result<()> {
    let cursor: LogCursor = arguments
        .cursor
        .parse()
        .map_err(|error| Failure::bad_input(format!("--cursor: {error}")))?;
    let word = session.order(arguments.lease).await?;
    if word.supplier == 0 {
        bail!("order {} has no lease, so there are no logs", arguments.lease);
    }
    // Logs are kept for a while after the end of a lease.
    let (_, client) = session.reach(&word).await?;
    let query = LogQuery {
        service: arguments.service.clone(),
        cursor,
        tail: arguments.tail,
        follow: arguments.follow,
    };
    let mut stream = client.logs(LeaseId(arguments.lease), query);
    session.output.finish();
    let outcome = loop {
        let item = tokio::select! {
            item = stream.next() => item,
            interrupted = tokio::signal::ctrl_c() => { interrupted?; break Ok(()) }
        };
        match item {
            Ok(Some(item)) => {
                print(session, arguments, &item)?;
                if let LogItem::End {
                    reason: LogEnd::AccessEnded,
                } = item
                {
                    break Err(eyre::eyre!(
                        "the account has another owner, or this home's certificate was revoked"
                    ));
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    if !stream.cursor().is_start() {
        session.output.note(format!(
            "go on from here: spheron logs {} --cursor {}",
            arguments.lease,
            stream.cursor()
        ));
    }
    outcome
}

fn print(session: &Session<'_>, arguments: &Logs, item: &LogItem) -> eyre::Result<()> {
    if session.output.is_json() {
        session.output.line(&serde_json::to_string(item)?);
        return Ok(());
    }
    match item {
        LogItem::Line(line) => {
            let mut text = String::new();
            if arguments.timestamps {
                text.push_str(&format!("{} ", line.timestamp));
            }
            if arguments.service.is_none() {
                text.push_str(&format!("{}-{} | ", line.service, line.replica));
            }
            if line.stream == OutputStream::Stderr && arguments.service.is_none() {
                text.push_str("! ");
            }
            text.push_str(&line.text);
            session.output.line(&text);
        }
        LogItem::Gap(gap) if gap.to >= gap.from => {
            session
                .output
                .note(format!("{}: {} lines are gone", gap.service, gap.to - gap.from + 1));
        }
        LogItem::Gap(gap) => session.output.note(format!("{}: lines are gone", gap.service)),
        LogItem::End { .. } | LogItem::Heartbeat | LogItem::Unknown => {}
    }
    Ok(())
}
