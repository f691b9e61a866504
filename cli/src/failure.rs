//! Failures that programs tell apart by the exit status.

use serde_json::Value;

/// Exit status of everything that is neither bad input nor an order without a supplier.
pub(crate) const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
const NOBODY_SERVES: u8 = 3;

/// A failure with an exit status of its own; every other one has status 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The input must be corrected; nothing was sent.
    #[error("{message}")]
    BadInput {
        /// What is wrong, where, and what is expected.
        message: String,
        /// The same for programs, where there is more to say.
        report: Option<Value>,
    },
    /// Nobody can serve the order; it expired and its money is unlocked.
    #[error("{message}")]
    NobodyServes {
        /// Who there is, and why none fits.
        message: String,
        /// The same for programs.
        report: Option<Value>,
    },
}

impl Failure {
    /// Bad input, in a sentence.
    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::BadInput {
            message: message.into(),
            report: None,
        }
    }
}

/// The exit status for a failure.
pub(crate) fn exit_status(report: &eyre::Report) -> u8 {
    match report.downcast_ref() {
        Some(Failure::BadInput { .. }) => BAD_INPUT,
        Some(Failure::NobodyServes { .. }) => NOBODY_SERVES,
        None => FAILED,
    }
}

/// What a failure says to programs beside its message.
pub(crate) fn details(report: &eyre::Report) -> Option<&Value> {
    match report.downcast_ref()? {
        Failure::BadInput { report, .. } | Failure::NobodyServes { report, .. } => report.as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use eyre::WrapErr as _;

    use super::*;

    #[test]
    fn the_status_survives_context() {
        let failed: eyre::Result<()> = Err(Failure::bad_input("no such token").into());
        let report = failed.wrap_err("cannot deploy").expect_err("bad input");
        assert_eq!(exit_status(&report), 2);
        assert_eq!(exit_status(&eyre::eyre!("no connection")), 1);
        let nobody = Failure::NobodyServes {
            message: "no provider".to_owned(),
            report: None,
        };
        assert_eq!(exit_status(&nobody.into()), 3);
    }
}
