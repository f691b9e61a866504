//! How far an update came: what Ctrl-C and SIGTERM tell.

use alloy::primitives::B256;

use crate::dates::Date;

/// The last that is known of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A file is read, prices are asked for.
    Nothing,
    /// The chain is asked where an update that was proposed before stands.
    Looking,
    /// The proposal is being sent; its transaction may be out.
    Sending,
    /// Its transaction is out.
    Sent(B256),
    /// It is on chain until then (Unix seconds), and its provider has not answered.
    Proposed(u64),
    /// The provider took it: the lease that it opened.
    Taken(u64),
    /// It is being taken back; the transaction may be out.
    Withdrawing,
}

impl Stage {
    /// What an interruption leaves behind, and how to go on.
    pub(super) fn interruption(self, lease: u64) -> eyre::Report {
        let ways = format!(
            "go on:  spheron lease update {lease} --resume\n  cancel: spheron lease update {lease} --withdraw\n  look:   spheron \
             lease show {lease}"
        );
        match self {
            Self::Nothing => eyre::eyre!("interrupted; nothing was sent, and lease {lease} runs on as it is"),
            Self::Looking => {
                eyre::eyre!(
                    "interrupted before the chain said where the update of lease {lease} stands; nothing was sent\n  {ways}"
                )
            }
            Self::Sending => {
                eyre::eyre!(
                    "interrupted while the update was being proposed; it stands if its transaction went out\n  {ways}"
                )
            }
            Self::Sent(hash) => eyre::eyre!(
                "interrupted while the transaction {hash} that proposes the update is on its way; once it is included the update \
                 stands\n  {ways}"
            ),
            Self::Proposed(until) => eyre::eyre!(
                "interrupted; the update stands, and the provider may take it until {} UTC; until then lease {lease} runs on as it \
                 is\n  {ways}",
                Date(until)
            ),
            Self::Taken(updated) => eyre::eyre!(
                "interrupted; the update is taken: lease {updated} is in the place of lease {lease} and is paid by the second, and \
                 its provider goes on with the switch\n  go on:  spheron lease update {lease} --resume\n  cancel: spheron lease \
                 close {updated}\n  look:   spheron lease show {updated}"
            ),
            Self::Withdrawing => eyre::eyre!(
                "interrupted while the update was being withdrawn; `spheron lease show {lease}` says whether it still stands"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_tells_its_truth() {
        let told = |stage: Stage| stage.interruption(7).to_string();
        let nothing = told(Stage::Nothing);
        assert!(
            nothing.contains("nothing was sent") && !nothing.contains("--withdraw"),
            "{nothing}"
        );
        for stage in [
            Stage::Looking,
            Stage::Sending,
            Stage::Sent(B256::ZERO),
            Stage::Proposed(0),
        ] {
            let told = told(stage);
            assert!(
                told.contains("update 7 --resume") && told.contains("update 7 --withdraw"),
                "{told}"
            );
        }
        assert!(told(Stage::Proposed(0)).contains("until 1970-01-01 00:00:00 UTC"));
        let taken = told(Stage::Taken(9));
        assert!(taken.contains("lease 9 is in the place of lease 7"), "{taken}");
        assert!(
            taken.contains("lease close 9") && taken.contains("lease update 7 --resume"),
            "{taken}"
        );
        // Nothing is left to take back, and the old lease does not run on.
        assert!(!taken.contains("--withdraw") && !taken.contains("as it is"), "{taken}");
        assert!(told(Stage::Withdrawing).contains("lease show 7"));
    }
}
