//! Calls of restricted functions, by whoever holds their role: at once, or announced, waited for and executed.
//!
//! [`Governance::call`] does all of it and takes as long as the role's delay. Who drives the chain's clock (a devnet, a test)
//! calls [`Governance::begin`], moves the clock to [`Announced::due`], and calls [`Governance::finish`].

use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, Bytes, FixedBytes};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolEvent as _};
use bindings::{IMatchingDisputes, IMatchingTaskManager, IOrderBook};
use chain::network::{Contracts, Network};

use crate::DeployError;
use crate::contracts::IAccessManager;
use crate::roles::Role;
use crate::sender::Sender;

/// How often the chain's time is asked for.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A call of a contract: its address and input.
pub type Call = (Address, Vec<u8>);

/// The roles' holders on a network, as far as their keys are here.
#[derive(Debug)]
pub struct Governance<P> {
    provider: P,
    contracts: Contracts,
    keys: Vec<PrivateKeySigner>,
}

/// Calls that wait for their delay.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before they are finished"]
pub struct Announced {
    /// Unix time from which they can be executed.
    pub due: u64,
    calls: Vec<(PrivateKeySigner, Vec<Call>)>,
}

/// How somebody may make a call.
enum Way {
    AtOnce,
    Announced,
}

impl<P: Provider + Clone> Governance<P> {
    pub fn new(provider: P, network: &Network, keys: Vec<PrivateKeySigner>) -> Self {
        Self {
            provider,
            contracts: network.contracts.clone(),
            keys,
        }
    }

    /// Makes a call and returns when it has happened.
    pub async fn call(&self, target: Address, call: &impl SolCall) -> Result<(), DeployError> {
        let Some(announced) = self.begin(vec![(target, call.abi_encode())]).await? else {
            return Ok(());
        };
        while self.timestamp().await? < announced.due {
            tokio::time::sleep(ASK_EVERY).await;
        }
        self.finish(announced).await
    }

    /// Makes the calls that need no delay, and announces the others; nothing if there is none.
    pub async fn begin(&self, calls: Vec<Call>) -> Result<Option<Announced>, DeployError> {
        let mut waiting: Vec<(PrivateKeySigner, Vec<Call>)> = Vec::new();
        for call in calls {
            self.check_presumptions(&call).await?;
            let (holder, way) = self.holder_of(&call).await?;
            match way {
                Way::AtOnce => {
                    let mut sender = Sender::new(self.provider.clone(), holder.clone()).await?;
                    sender.call("a decision", call.0, call.1).await?;
                }
                Way::Announced => match waiting
                    .iter_mut()
                    .find(|(other, _)| other.address() == holder.address())
                {
                    Some((_, calls)) => calls.push(call),
                    None => waiting.push((holder.clone(), vec![call])),
                },
            }
        }
        let mut due = 0;
        for (holder, calls) in &waiting {
            due = due.max(self.announce(holder, calls).await?);
        }
        Ok((!waiting.is_empty()).then_some(Announced { due, calls: waiting }))
    }

    /// Executes what was announced and is due.
    pub async fn finish(&self, announced: Announced) -> Result<(), DeployError> {
        for (holder, calls) in announced.calls {
            let executed = calls.into_iter().map(|(target, data)| {
                let data = data.into();
                IAccessManager::executeCall { target, data }.abi_encode()
            });
            let mut sender = Sender::new(self.provider.clone(), holder).await?;
            let all = multicall(executed);
            sender
                .call("announced decisions", self.contracts.access_manager, all)
                .await?;
        }
        Ok(())
    }

    /// Schedules calls in the manager; from when on they can be executed.
    async fn announce(&self, holder: &PrivateKeySigner, calls: &[Call]) -> Result<u64, DeployError> {
        let scheduled = calls.iter().map(|(target, data)| {
            let (target, data) = (*target, Bytes::from(data.clone()));
            let when = alloy::primitives::Uint::ZERO;
            IAccessManager::scheduleCall { target, data, when }.abi_encode()
        });
        let mut sender = Sender::new(self.provider.clone(), holder.clone()).await?;
        let manager = self.contracts.access_manager;
        let receipt = sender.call("an announcement", manager, multicall(scheduled)).await?;
        let times = receipt.logs().iter().filter_map(|log| {
            let event = IAccessManager::OperationScheduled::decode_log(&log.inner).ok()?;
            Some(event.schedule.to::<u64>())
        });
        Ok(times.max().unwrap_or_default())
    }

    /// The holder of the call's role whose key is here.
    async fn holder_of(&self, (target, data): &Call) -> Result<(&PrivateKeySigner, Way), DeployError> {
        let manager = IAccessManager::new(self.contracts.access_manager, &self.provider);
        let selector = FixedBytes::<4>::from_slice(data.get(..4).unwrap_or(&[0; 4]));
        for key in &self.keys {
            let (at_once, delay) = if *target == self.contracts.access_manager {
                let admin = manager.hasRole(Role::Admin.id(), key.address()).call().await?;
                (admin.isMember && admin.executionDelay == 0, admin.executionDelay)
            } else {
                let may = manager.canCall(key.address(), *target, selector).call().await?;
                (may.immediate, may.delay)
            };
            if at_once || delay > 0 {
                return Ok((key, if at_once { Way::AtOnce } else { Way::Announced }));
            }
        }
        let role = manager.getTargetFunctionRole(*target, selector).call().await?;
        Err(DeployError::NobodyMay {
            selector,
            target: *target,
            role: Role::ALL
                .into_iter()
                .find(|known| known.id() == role)
                .map_or_else(|| role.to_string(), |known| known.name().to_owned()),
        })
    }

    /// What a contract cannot check of a call because it concerns another contract.
    async fn check_presumptions(&self, (target, data): &Call) -> Result<(), DeployError> {
        let contracts = &self.contracts;
        if *target == contracts.order_book
            && let Ok(call) = IOrderBook::setBiddingCall::abi_decode(data)
        {
            return known_version(&self.provider, contracts, call.paramsVersion).await;
        }
        if *target == contracts.task_manager
            && let Ok(call) = IMatchingTaskManager::setQuorumVerifierCall::abi_decode(data)
        {
            return has_slasher(&self.provider, contracts, call.verifier).await;
        }
        Ok(())
    }

    async fn timestamp(&self) -> Result<u64, DeployError> {
        let newest = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
        Ok(newest.map_or(0, |block| block.header.timestamp))
    }
}

/// Orders of a version that the task manager does not have would never be matched.
pub(crate) async fn known_version<P: Provider>(
    provider: &P,
    contracts: &Contracts,
    version: u16,
) -> Result<(), DeployError> {
    let manager = IMatchingTaskManager::new(contracts.task_manager, provider);
    let known = manager.matchingParametersCount().call().await?;
    if version == 0 || version > known {
        return Err(DeployError::UnknownVersion { version, known });
    }
    Ok(())
}

/// Wrong answers of a verifier without a slasher would cost nobody anything.
pub(crate) async fn has_slasher<P: Provider>(
    provider: &P,
    contracts: &Contracts,
    verifier: Address,
) -> Result<(), DeployError> {
    let disputes = IMatchingDisputes::new(contracts.disputes, provider);
    if disputes.slasherOf(verifier).call().await?.is_zero() {
        return Err(DeployError::NoSlasher { verifier });
    }
    Ok(())
}

/// Calls of the manager's own functions, in one.
pub(crate) fn multicall(calls: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let data = calls.into_iter().map(Bytes::from).collect();
    IAccessManager::multicallCall { data }.abi_encode()
}
