//! `spheron logs`: what a lease's services write.

use eyre::bail;
use gateway::wire::{LeaseId, LogCursor, LogEnd, LogGap, LogItem, LogQuery, OutputStream};

use crate::arguments::Logs;
use crate::failure::Failure;
use crate::output::plain;
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
                        "access ended: the account has another owner, the right to spend of it is over, or the certificate was revoked"
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
            let mut label = String::new();
            if arguments.timestamps {
                label.push_str(&format!("{} ", plain(&line.timestamp)));
            }
            if arguments.service.is_none() {
                label.push_str(&format!("{}-{} | ", plain(&line.service), line.replica));
            }
            if line.stream == OutputStream::Stderr && arguments.service.is_none() {
                label.push_str("! ");
            }
            session.output.log_line(&label, &line.text);
        }
        LogItem::Gap(gap) => session.output.note(missing(gap)),
        LogItem::End { .. } | LogItem::Heartbeat | LogItem::Unknown => {}
    }
    Ok(())
}

/// How many lines are gone. The numbers are a provider's.
fn missing(gap: &LogGap) -> String {
    let service = plain(&gap.service);
    match gap.to.checked_sub(gap.from) {
        Some(more) => format!("{service}: {} lines are gone", more.saturating_add(1)),
        None => format!("{service}: lines are gone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_whatever_its_numbers_are() {
        let told = |from, to| {
            missing(&LogGap {
                service: "web\n".to_owned(),
                from,
                to,
            })
        };
        assert_eq!(told(3, 5), "web : 3 lines are gone");
        assert_eq!(told(3, 2), "web : lines are gone");
        assert_eq!(told(0, u64::MAX), format!("web : {} lines are gone", u64::MAX));
    }
}
