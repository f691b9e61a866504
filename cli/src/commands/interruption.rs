//! Commands that send and wait: one that is interrupted says what it sent, and what of that can still come.

use tokio::signal::unix::{SignalKind, signal};

use crate::chain::{Progress, Underway};
use crate::session::Session;

/// Runs a command until it is done, or Ctrl-C or SIGTERM ends it: then `interruption` says what it leaves behind.
pub(super) async fn unless_interrupted(
    command: impl Future<Output = eyre::Result<()>>,
    interruption: impl FnOnce() -> eyre::Report,
) -> eyre::Result<()> {
    // `timeout` and service managers end a command with this one.
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = command => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(interruption())
        }
        _ = terminated.recv() => Err(interruption()),
    }
}

/// Runs a command that tells of its transactions when it is interrupted.
pub(super) async fn told(session: &Session<'_>, command: impl Future<Output = eyre::Result<()>>) -> eyre::Result<()> {
    unless_interrupted(Box::pin(command), || interruption(&session.chain.journal())).await
}

fn interruption(journal: &[Underway]) -> eyre::Report {
    if journal.is_empty() {
        return eyre::eyre!("interrupted; nothing was sent");
    }
    let mut text = "interrupted; what was sent is not taken back by that:".to_owned();
    for Underway {
        purpose,
        hash,
        progress,
    } in journal
    {
        let came = match progress {
            Progress::Sending => "was being sent: it may be included",
            Progress::Sent => "was sent and is not included yet: it can still be",
            Progress::Included => "is included",
            Progress::Reverted => "was included and changed nothing",
        };
        text.push_str(&format!("\n  {purpose}: transaction {hash} {came}"));
    }
    if journal.iter().any(|sent| sent.progress != Progress::Reverted) {
        text.push_str("\nlook at the account before sending it again: spheron account history --since 10m");
    }
    eyre::eyre!(text)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    #[test]
    fn an_interruption_tells_what_was_sent_and_whether_it_can_still_come() {
        assert_eq!(interruption(&[]).to_string(), "interrupted; nothing was sent");
        let sent = |purpose, byte, progress| Underway {
            purpose,
            hash: B256::repeat_byte(byte),
            progress,
        };
        let told = interruption(&[
            sent("to approve the transfer", 1, Progress::Included),
            sent("to deposit", 2, Progress::Sent),
        ])
        .to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert!(
            lines[1].contains("to approve the transfer") && lines[1].ends_with("is included"),
            "{told}"
        );
        assert!(
            lines[2].contains(&B256::repeat_byte(2).to_string()) && lines[2].ends_with("it can still be"),
            "{told}"
        );
        assert!(lines[3].contains("before sending it again"), "{told}");
    }
}
