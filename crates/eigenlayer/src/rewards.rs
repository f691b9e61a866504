//! EigenLayer's rewards (RewardsCoordinator 1.3.1): what was submitted for operators, who is to be named in a submission, and
//! claims against the roots that EigenLayer's updater posts ([`claim_file`]).

pub mod claim_file;

use alloy::contract::Error as ContractError;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use alloy::sol;
use alloy::sol_types::{SolError as _, SolEvent as _};
use alloy::transports::TransportError;

use crate::contracts::IOperatorStateRetriever;
use crate::registration::Addresses;

/// Blocks asked for at once, and how few when the node refuses so many.
const MOST_BLOCKS: u64 = 50_000;
const FEWEST_BLOCKS: u64 = 500;

sol! {
    /// EigenLayer's RewardsCoordinator.
    #[derive(Debug, PartialEq, Eq)]
    #[sol(rpc)]
    interface IRewardsCoordinator {
        struct OperatorSet { address avs; uint32 id; }
        struct StrategyAndMultiplier { address strategy; uint96 multiplier; }
        struct OperatorReward { address operator; uint256 amount; }
        struct OperatorDirectedRewardsSubmission {
            StrategyAndMultiplier[] strategiesAndMultipliers;
            address token;
            OperatorReward[] operatorRewards;
            uint32 startTimestamp;
            uint32 duration;
            string description;
        }
        struct DistributionRoot {
            bytes32 root;
            uint32 rewardsCalculationEndTimestamp;
            uint32 activatedAt;
            bool disabled;
        }
        struct EarnerTreeMerkleLeaf { address earner; bytes32 earnerTokenRoot; }
        struct TokenTreeMerkleLeaf { address token; uint256 cumulativeEarnings; }
        struct RewardsMerkleClaim {
            uint32 rootIndex;
            uint32 earnerIndex;
            bytes earnerTreeProof;
            EarnerTreeMerkleLeaf earnerLeaf;
            uint32[] tokenIndices;
            bytes[] tokenTreeProofs;
            TokenTreeMerkleLeaf[] tokenLeaves;
        }

        event OperatorDirectedOperatorSetRewardsSubmissionCreated(
            address indexed caller,
            bytes32 indexed operatorDirectedRewardsSubmissionHash,
            OperatorSet operatorSet,
            uint256 submissionNonce,
            OperatorDirectedRewardsSubmission operatorDirectedRewardsSubmission
        );

        error CurrentlyPaused();
        error EarningsNotGreaterThanClaimed();
        error InvalidClaimProof();
        error InvalidEarnerLeafIndex();
        error InvalidPermissions();
        error InvalidTokenLeafIndex();
        error NewRootMustBeForNewCalculatedPeriod();
        error RewardsEndTimestampNotElapsed();
        error RootDisabled();
        error RootNotActivated();
        error UnauthorizedCaller();

        function CALCULATION_INTERVAL_SECONDS() external view returns (uint32);
        function activationDelay() external view returns (uint32);
        function setActivationDelay(uint32 activationDelay) external;
        function rewardsUpdater() external view returns (address);
        function claimerFor(address earner) external view returns (address);
        function setClaimerFor(address claimer) external;
        function cumulativeClaimed(address earner, address token) external view returns (uint256);
        function currRewardsCalculationEndTimestamp() external view returns (uint32);
        function getDistributionRootsLength() external view returns (uint256);
        function getDistributionRootAtIndex(uint256 index) external view returns (DistributionRoot);
        function checkClaim(RewardsMerkleClaim claim) external view returns (bool);
        function submitRoot(bytes32 root, uint32 rewardsCalculationEndTimestamp) external;
        function processClaim(RewardsMerkleClaim claim, address recipient) external;
    }
}

pub use IRewardsCoordinator::RewardsMerkleClaim as Claim;

/// Rewards the service submitted for a quorum's operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub block: u64,
    /// Quorum number: the operator set's id.
    pub quorum: u32,
    pub token: Address,
    /// Period: Unix seconds, the end not included.
    pub from: u64,
    pub until: u64,
    /// Token units by operator, ascending by address.
    pub rewards: Vec<(Address, U256)>,
}

/// Why rewards could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RewardsError {
    #[error("EigenLayer's contracts did not answer")]
    Contract(#[from] ContractError),
    #[error("the node gave no logs of blocks {from} to {to}")]
    Logs { from: u64, to: u64, source: TransportError },
    #[error("the node does not know its newest block's number")]
    Head(#[source] TransportError),
}

/// Everything `submitter` submitted for the service's operators since block `since`, oldest first.
pub async fn submissions<P: Provider>(
    provider: &P,
    rewards_coordinator: Address,
    service_manager: Address,
    submitter: Address,
    since: u64,
) -> Result<Vec<Submission>, RewardsError> {
    let head = provider.get_block_number().await.map_err(RewardsError::Head)?;
    let wanted = Filter::new()
        .address(rewards_coordinator)
        .event_signature(IRewardsCoordinator::OperatorDirectedOperatorSetRewardsSubmissionCreated::SIGNATURE_HASH)
        .topic1(submitter);
    let mut found = Vec::new();
    let (mut from, mut width) = (since, MOST_BLOCKS);
    while from <= head {
        let to = head.min(from + width - 1);
        let logs = match provider.get_logs(&wanted.clone().from_block(from).to_block(to)).await {
            Ok(logs) => logs,
            // Nodes bound the range they look through, each in its own words.
            Err(_) if width > FEWEST_BLOCKS => {
                width = (width / 4).max(FEWEST_BLOCKS);
                continue;
            }
            Err(source) => return Err(RewardsError::Logs { from, to, source }),
        };
        for log in logs {
            type Created = IRewardsCoordinator::OperatorDirectedOperatorSetRewardsSubmissionCreated;
            let Ok(event) = Created::decode_log_data(log.data()) else {
                continue;
            };
            if event.operatorSet.avs == service_manager {
                found.push(submission(log.block_number.unwrap_or(to), event));
            }
        }
        from = to + 1;
    }
    Ok(found)
}

fn submission(
    block: u64,
    event: IRewardsCoordinator::OperatorDirectedOperatorSetRewardsSubmissionCreated,
) -> Submission {
    let submitted = event.operatorDirectedRewardsSubmission;
    let from = u64::from(submitted.startTimestamp);
    let rewards = submitted.operatorRewards.into_iter();
    Submission {
        block,
        quorum: event.operatorSet.id,
        token: submitted.token,
        from,
        until: from + u64::from(submitted.duration),
        rewards: rewards.map(|reward| (reward.operator, reward.amount)).collect(),
    }
}

/// The operators with stake in each of `quorums` as of a block, ascending by address: whom a distribution has to name.
pub async fn named_operators<P: Provider>(
    provider: &P,
    addresses: &Addresses,
    quorums: &[u8],
    block: u32,
) -> Result<Vec<Vec<Address>>, RewardsError> {
    let retriever = IOperatorStateRetriever::new(addresses.operator_state_retriever, provider);
    let members = retriever
        .getOperatorState(addresses.registry_coordinator, Bytes::copy_from_slice(quorums), block)
        .call()
        .await?;
    let named = members.into_iter().map(|quorum| {
        let mut named: Vec<Address> = quorum
            .into_iter()
            .filter(|member| !member.stake.is_zero())
            .map(|member| member.operator)
            .collect();
        named.sort_unstable();
        named
    });
    Ok(named.collect())
}

/// A posted root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub index: u32,
    pub root: B256,
    /// Unix seconds up to which it was calculated, and from which it can be claimed against.
    pub calculated_until: u64,
    pub active_from: u64,
    pub disabled: bool,
}

/// The newest posted roots, newest first.
pub async fn newest_roots<P: Provider>(
    provider: &P,
    rewards_coordinator: Address,
    most: u32,
) -> Result<Vec<Root>, RewardsError> {
    let coordinator = IRewardsCoordinator::new(rewards_coordinator, provider);
    let count: u32 = coordinator.getDistributionRootsLength().call().await?.saturating_to();
    let mut roots = Vec::new();
    for index in (count.saturating_sub(most)..count).rev() {
        let found = coordinator.getDistributionRootAtIndex(U256::from(index)).call().await?;
        roots.push(Root {
            index,
            root: found.root,
            calculated_until: u64::from(found.rewardsCalculationEndTimestamp),
            active_from: u64::from(found.activatedAt),
            disabled: found.disabled,
        });
    }
    Ok(roots)
}

/// A sentence for a revert of the RewardsCoordinator, if it is one we know.
pub fn describe_revert(data: &[u8]) -> Option<&'static str> {
    let selector: [u8; 4] = data.get(..4)?.try_into().ok()?;
    const KNOWN: &[([u8; 4], &str)] = &[
        (
            IRewardsCoordinator::CurrentlyPaused::SELECTOR,
            "EigenLayer has paused this",
        ),
        (
            IRewardsCoordinator::EarningsNotGreaterThanClaimed::SELECTOR,
            "what the claim proves was claimed already",
        ),
        (
            IRewardsCoordinator::InvalidClaimProof::SELECTOR,
            "the claim's proof does not lead to the posted root: take a new claim file for that root",
        ),
        (
            IRewardsCoordinator::InvalidEarnerLeafIndex::SELECTOR,
            "the claim's earner index does not fit its proof",
        ),
        (
            IRewardsCoordinator::InvalidTokenLeafIndex::SELECTOR,
            "a token index of the claim does not fit its proof",
        ),
        (
            IRewardsCoordinator::InvalidPermissions::SELECTOR,
            "the service has not appointed the caller to submit rewards: governance calls setAppointee of the service manager",
        ),
        (
            IRewardsCoordinator::NewRootMustBeForNewCalculatedPeriod::SELECTOR,
            "a root for this period was posted already",
        ),
        (
            IRewardsCoordinator::RewardsEndTimestampNotElapsed::SELECTOR,
            "the period of the root is not over",
        ),
        (
            IRewardsCoordinator::RootDisabled::SELECTOR,
            "EigenLayer has disabled the root the claim is against: take a claim file for a newer one",
        ),
        (
            IRewardsCoordinator::RootNotActivated::SELECTOR,
            "the root the claim is against cannot be claimed against yet",
        ),
        (
            IRewardsCoordinator::UnauthorizedCaller::SELECTOR,
            "only the earner, or the claimer it named, may do this",
        ),
    ];
    let known = KNOWN.iter().find(|(known, _)| *known == selector)?;
    Some(known.1)
}
