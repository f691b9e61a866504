//! `opt-in`, `opt-out` and `status`: the operator's membership in the service's operator sets on EigenLayer.
//!
//! Where it stands is read from the chain before every step, so that an interrupted command is simply run again.

mod slashings;
mod status;

use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::{Provider as _, RootProvider};
use avs::bn254::SecretKey;
use chain::network::Network;
use chain::{Call, Endpoints, SubmitError, TransactionSettings, Transactions};
use daemon::DirectoryLock;
use eigenlayer::registration::{self, Addresses, OptIn, QuorumStake, Standing, Step};
use eyre::{WrapErr as _, bail};
use tokio_util::sync::CancellationToken;

pub use slashings::Slashing;
pub use status::{QuorumStatus, Status};

use crate::config::Config;
use crate::keys;
use crate::store::OperatorStore;

/// How often a command that waits asks for the newest block: at first, and after a long wait.
const LOOK: Duration = Duration::from_millis(50);
const SLOWEST_LOOK: Duration = Duration::from_secs(3);
/// How long it waits after a look that failed.
const FAILED_LOOK: Duration = Duration::from_millis(500);
/// Looks that may fail in a row before a command gives up.
const LOOKS: u32 = 20;

/// A stake to have in a quorum: `QUORUM=UNITS`, the quorum by number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    pub quorum: String,
    pub units: U256,
}

impl std::str::FromStr for Deposit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (quorum, units) = text
            .split_once('=')
            .ok_or("expected QUORUM=UNITS, for example 1=5000000000000000000")?;
        let digits = units.replace('_', "");
        let whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let units = whole
            .then(|| U256::from_str_radix(&digits, 10).ok())
            .flatten()
            .ok_or_else(|| format!("{units:?} is not a whole number of token units"))?;
        Ok(Self {
            quorum: quorum.trim().to_owned(),
            units,
        })
    }
}

/// The operator's keys and contracts.
struct Member {
    network: Network,
    addresses: Addresses,
    provider: RootProvider,
    endpoints: Endpoints,
    operator: Address,
    signer: alloy::signers::local::PrivateKeySigner,
    key: SecretKey,
}

impl Member {
    async fn open(config: &Config) -> eyre::Result<Self> {
        let network = config.network()?;
        let endpoints = Endpoints::new(&config.rpc_settings(&network))?;
        let (signer, key) = tokio::try_join!(keys::account(&config.keys), keys::bls(&config.keys))?;
        endpoints.verify().await?;
        Ok(Self {
            addresses: Addresses::from(&network),
            provider: endpoints.provider(),
            operator: signer.address(),
            network,
            endpoints,
            signer,
            key,
        })
    }

    /// Where the operator stands. A look that fails is taken again, because a command may wait for hours.
    async fn standing(&self) -> eyre::Result<Standing> {
        let quorums = &self.network.eigenlayer.quorums;
        let quorums: Vec<(u8, Address)> = quorums.iter().map(|quorum| (quorum.number, quorum.strategy)).collect();
        let mut failures = 0;
        loop {
            match registration::observe(&self.provider, &self.addresses, self.operator, &quorums).await {
                Ok(standing) => return Ok(standing),
                Err(error) if failures < LOOKS => {
                    failures += 1;
                    tracing::warn!(%error, "EigenLayer's contracts cannot be read; trying again");
                    tokio::time::sleep(FAILED_LOOK).await;
                }
                Err(error) => return Err(error).wrap_err("EigenLayer's contracts cannot be read"),
            }
        }
    }

    /// Waits for a block above `seen`, or for `until` where that is known.
    async fn block_after(&self, seen: u64, until: Option<u64>) -> eyre::Result<()> {
        let (mut pause, mut failures) = (LOOK, 0);
        loop {
            tokio::time::sleep(pause).await;
            match self.provider.get_block_number().await {
                Ok(block) if block >= until.unwrap_or(0).max(seen + 1) => return Ok(()),
                Ok(_) => failures = 0,
                Err(error) if failures < LOOKS => {
                    failures += 1;
                    tracing::warn!(%error, "the chain cannot be read; trying again");
                }
                Err(error) => return Err(error).wrap_err("the chain cannot be read"),
            }
            pause = (pause * 21 / 20).min(SLOWEST_LOOK);
        }
    }

    fn wanted(&self, config: &Config, deposits: &[Deposit]) -> eyre::Result<OptIn> {
        let known = &self.network.eigenlayer.quorums;
        for deposit in deposits {
            if !known.iter().any(|quorum| names(quorum, deposit)) {
                let names: Vec<String> = known
                    .iter()
                    .map(|quorum| format!("{} ({})", quorum.number, quorum.name))
                    .collect();
                bail!(
                    "there is no quorum {:?}; the network has {}",
                    deposit.quorum,
                    names.join(", ")
                );
            }
        }
        let stake = |quorum: &chain::network::Quorum| QuorumStake {
            quorum: quorum.number,
            strategy: quorum.strategy,
            deposit: deposits
                .iter()
                .find(|deposit| names(quorum, deposit))
                .map_or(U256::ZERO, |deposit| deposit.units),
        };
        Ok(OptIn {
            operator: self.operator,
            quorums: known.iter().map(stake).collect(),
            allocation_delay: config.registration.allocation_delay,
            metadata_uri: config.registration.metadata_uri.clone(),
            socket: config.registration.socket.clone(),
        })
    }

    /// The registration data, once the coordinator answers; `registered` operators need none.
    async fn registration_data(&self, socket: &str) -> eyre::Result<Bytes> {
        registration::registration_data(&self.provider, &self.addresses, self.operator, &self.key, socket)
            .await
            .wrap_err("the proof that the operator holds its BLS key cannot be made")
    }
}

fn names(quorum: &chain::network::Quorum, deposit: &Deposit) -> bool {
    deposit.quorum == quorum.number.to_string() || deposit.quorum == quorum.name
}

/// Takes the operator into every quorum of the service, waiting out EigenLayer's delays.
pub async fn opt_in(config: &Config, deposits: &[Deposit]) -> eyre::Result<Status> {
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let member = Member::open(config).await?;
    let wanted = member.wanted(config, deposits)?;
    if registration::registered_key_is(&member.provider, &member.addresses, member.operator, &member.key)
        .await
        .wrap_err("the registered BLS key cannot be read")?
        == Some(false)
    {
        bail!(
            "operator {} registered another BLS key, and EigenLayer never changes it; configure that key as keys.bls, or \
             opt in with another account",
            member.operator
        );
    }
    let data = member.registration_data(&wanted.socket).await?;
    walk(&member, config, |standing| {
        registration::next_step(&wanted, standing, &member.addresses, &data)
    })
    .await?;
    member.status().await
}

/// Takes the operator out of every quorum and, if it shall, waits until its stake is free.
pub async fn opt_out(config: &Config, waits: bool) -> eyre::Result<Status> {
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let member = Member::open(config).await?;
    walk(&member, config, |standing| {
        let next = registration::next_step_out(member.operator, standing, &member.addresses);
        Ok(match next {
            Step::Wait { .. } if !waits => Step::Done,
            next => next,
        })
    })
    .await?;
    member.status().await
}

/// Where the operator stands.
pub async fn status(config: &Config) -> eyre::Result<Status> {
    if config.keys.bls.is_none() {
        bail!(
            "no BLS key is configured: `operator status` is for operators who opted in, and needs keys.bls; how a watcher \
             does is at its /healthz, on the address of http.listen"
        );
    }
    Member::open(config).await?.status().await
}

/// Takes one step after the other until there is none.
async fn walk(
    member: &Member,
    config: &Config,
    next: impl Fn(&Standing) -> Result<Step, registration::Impossible>,
) -> eyre::Result<()> {
    let store = OperatorStore::open(&config.data_dir)?;
    let settings = TransactionSettings {
        poll_interval: LOOK,
        ..TransactionSettings::default()
    };
    let (transactions, actor) = Transactions::new(
        &member.endpoints,
        member.signer.clone(),
        store.database().clone(),
        settings,
        Some(crate::chain::revert_decoder()),
    );
    let stop = CancellationToken::new();
    let sending = tokio::spawn(actor.run(stop.clone()));
    let walked = steps(member, &transactions, next).await;
    stop.cancel();
    let sent = sending.await.wrap_err("sending transactions was cut short")?;
    walked?;
    Ok(sent?)
}

async fn steps(
    member: &Member,
    transactions: &Transactions,
    next: impl Fn(&Standing) -> Result<Step, registration::Impossible>,
) -> eyre::Result<()> {
    let mut waiting_for = String::new();
    loop {
        let standing = member.standing().await?;
        match next(&standing)? {
            Step::Done => return Ok(()),
            Step::Send(call) => {
                tracing::info!(block = standing.block, "{}", call.label);
                match transactions.submit(Call::new(call.label, call.to, call.data)).await {
                    Ok(included) => tracing::info!(
                        block = included.block.number,
                        transaction = %included.hash,
                        "done"
                    ),
                    // It goes on being sent; what it leads to is seen on chain.
                    Err(error @ SubmitError::TimedOut { .. }) => tracing::warn!("{error}"),
                    Err(error) => return Err(error.into()),
                }
            }
            Step::Wait { until, reason } => {
                if reason != waiting_for {
                    match until {
                        Some(until) => {
                            let about = member.roughly_when(until).await;
                            tracing::info!(block = standing.block, until, about, "waiting: {reason}");
                        }
                        None => tracing::info!(block = standing.block, "waiting: {reason}"),
                    }
                    waiting_for = reason;
                }
                member.block_after(standing.block, until).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deposit_is_a_quorum_and_whole_units() {
        let deposit: Deposit = "1=5_000".parse().expect("valid");
        assert_eq!((deposit.quorum.as_str(), deposit.units), ("1", U256::from(5_000)));
        for wrong in ["1", "1=", "1=-5", "1=0x5", "1=1.5"] {
            assert!(wrong.parse::<Deposit>().is_err(), "{wrong}");
        }
    }
}
