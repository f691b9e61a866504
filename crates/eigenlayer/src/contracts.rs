//! The calls we make, as EigenLayer's middleware 1.3.1 and the core of that generation declare them.

use alloy::sol;
use avs::bn254;

sol! {
    /// EigenLayer `OperatorSetLib`.
    #[derive(Debug, PartialEq, Eq)]
    struct OperatorSet { address avs; uint32 id; }

    /// EigenLayer `BN254.G1Point`.
    #[derive(Debug, PartialEq, Eq)]
    struct G1Point { uint256 X; uint256 Y; }

    /// EigenLayer `BN254.G2Point`; coordinates are (imaginary, real).
    #[derive(Debug, PartialEq, Eq)]
    struct G2Point { uint256[2] X; uint256[2] Y; }

    #[derive(Debug)]
    struct PubkeyRegistrationParams { G1Point pubkeyRegistrationSignature; G1Point pubkeyG1; G2Point pubkeyG2; }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IDelegationManager {
        error ActivelyDelegated();
        function registerAsOperator(address initDelegationApprover, uint32 allocationDelay, string metadataURI) external;
        function isOperator(address operator) external view returns (bool);
        function getOperatorShares(address operator, address[] strategies) external view returns (uint256[]);
        function minWithdrawalDelayBlocks() external view returns (uint32);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IStrategyManager {
        error StrategyNotWhitelisted();
        function depositIntoStrategy(address strategy, address token, uint256 amount) external returns (uint256);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IStrategy {
        function underlyingToken() external view returns (address);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IErc20 {
        function approve(address spender, uint256 amount) external returns (bool);
        function allowance(address owner, address spender) external view returns (uint256);
        function balanceOf(address owner) external view returns (uint256);
        function decimals() external view returns (uint8);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IAllocationManager {
        struct AllocateParams { OperatorSet operatorSet; address[] strategies; uint64[] newMagnitudes; }
        struct Allocation { uint64 currentMagnitude; int128 pendingDiff; uint32 effectBlock; }
        struct RegisterParams { address avs; uint32[] operatorSetIds; bytes data; }
        struct DeregisterParams { address operator; address avs; uint32[] operatorSetIds; }

        error AlreadyMemberOfSet();
        error InsufficientMagnitude();
        error InvalidOperatorSet();
        error ModificationAlreadyPending();
        error NotMemberOfSet();
        error UninitializedAllocationDelay();

        function DEALLOCATION_DELAY() external view returns (uint32);
        function ALLOCATION_CONFIGURATION_DELAY() external view returns (uint32);
        function getAllocationDelay(address operator) external view returns (bool, uint32);
        function getAllocatableMagnitude(address operator, address strategy) external view returns (uint64);
        function getAllocation(address operator, OperatorSet operatorSet, address strategy)
            external view returns (Allocation);
        function getMaxMagnitude(address operator, address strategy) external view returns (uint64);
        function getMinimumSlashableStake(
            OperatorSet operatorSet, address[] operators, address[] strategies, uint32 futureBlock
        ) external view returns (uint256[][]);
        function isMemberOfOperatorSet(address operator, OperatorSet operatorSet) external view returns (bool);
        function isOperatorSlashable(address operator, OperatorSet operatorSet) external view returns (bool);
        function modifyAllocations(address operator, AllocateParams[] params) external;
        function registerForOperatorSets(address operator, RegisterParams params) external;
        function deregisterFromOperatorSets(DeregisterParams params) external;
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface ISlashingRegistryCoordinator {
        error LookAheadPeriodTooLong();
        error MaxOperatorCountReached();
        error OperatorNotRegistered();

        function getOperatorId(address operator) external view returns (bytes32);
        function getOperatorStatus(address operator) external view returns (uint8);
        function pubkeyRegistrationMessageHash(address operator) external view returns (G1Point);
        function quorumCount() external view returns (uint8);
        function quorumUpdateBlockNumber(uint8 quorumNumber) external view returns (uint256);
        function updateSocket(string socket) external;
        function updateOperatorsForQuorum(address[][] operatorsPerQuorum, bytes quorumNumbers) external;
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IStakeRegistry {
        error BelowMinimumStakeRequirement();
        function getCurrentStake(bytes32 operatorId, uint8 quorumNumber) external view returns (uint96);
        function getCurrentTotalStake(uint8 quorumNumber) external view returns (uint96);
        function minimumStakeForQuorum(uint8 quorumNumber) external view returns (uint96);
        function weightOfOperatorForQuorum(uint8 quorumNumber, address operator) external view returns (uint96);
        function slashableStakeLookAheadPerQuorum(uint8 quorumNumber) external view returns (uint32);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IBlsApkRegistry {
        error BLSPubkeyAlreadyRegistered();
        error InvalidBLSSignatureOrPrivateKey();
        function getRegisteredPubkey(address operator) external view returns (G1Point, bytes32);
        function getOperatorPubkeyG2(address operator) external view returns (G2Point);
        function getOperatorFromPubkeyHash(bytes32 pubkeyHash) external view returns (address);
        function getApk(uint8 quorumNumber) external view returns (G1Point);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface ISocketRegistry {
        function getOperatorSocket(bytes32 operatorId) external view returns (string);
    }

    #[derive(Debug)]
    #[sol(rpc)]
    interface IOperatorStateRetriever {
        struct CheckSignaturesIndices {
            uint32[] nonSignerQuorumBitmapIndices;
            uint32[] quorumApkIndices;
            uint32[] totalStakeIndices;
            uint32[][] nonSignerStakeIndices;
        }
        struct Operator { address operator; bytes32 operatorId; uint96 stake; }

        function getCheckSignaturesIndices(
            address registryCoordinator, uint32 referenceBlockNumber, bytes quorumNumbers, bytes32[] nonSignerOperatorIds
        ) external view returns (CheckSignaturesIndices);
        function getOperatorState(address registryCoordinator, bytes quorumNumbers, uint32 blockNumber)
            external view returns (Operator[][]);
    }
}

impl From<bn254::G1Point> for G1Point {
    fn from(point: bn254::G1Point) -> Self {
        Self { X: point.x, Y: point.y }
    }
}

impl From<G1Point> for bn254::G1Point {
    fn from(point: G1Point) -> Self {
        Self { x: point.X, y: point.Y }
    }
}

impl From<bn254::G2Point> for G2Point {
    fn from(point: bn254::G2Point) -> Self {
        Self { X: point.x, Y: point.y }
    }
}

impl From<G2Point> for bn254::G2Point {
    fn from(point: G2Point) -> Self {
        Self { x: point.X, y: point.Y }
    }
}

/// A sentence for a revert of EigenLayer, if it is one we know.
pub fn describe_revert(data: &[u8]) -> Option<&'static str> {
    use alloy::sol_types::SolError;
    let selector: [u8; 4] = data.get(..4)?.try_into().ok()?;
    const KNOWN: &[([u8; 4], &str)] = &[
        (
            IDelegationManager::ActivelyDelegated::SELECTOR,
            "this address already delegates its stake, so it cannot become an operator",
        ),
        (
            IStrategyManager::StrategyNotWhitelisted::SELECTOR,
            "EigenLayer does not accept deposits into this strategy",
        ),
        (
            IAllocationManager::AlreadyMemberOfSet::SELECTOR,
            "the operator is already a member of this operator set",
        ),
        (
            IAllocationManager::InsufficientMagnitude::SELECTOR,
            "not enough of the operator's stake is left to allocate",
        ),
        (
            IAllocationManager::InvalidOperatorSet::SELECTOR,
            "the service has no such operator set",
        ),
        (
            IAllocationManager::ModificationAlreadyPending::SELECTOR,
            "an earlier change of this allocation is still pending",
        ),
        (
            IAllocationManager::NotMemberOfSet::SELECTOR,
            "the operator is not a member of this operator set",
        ),
        (
            IAllocationManager::UninitializedAllocationDelay::SELECTOR,
            "the operator's allocation delay is not in effect yet",
        ),
        (
            ISlashingRegistryCoordinator::MaxOperatorCountReached::SELECTOR,
            "the quorum is full",
        ),
        (
            ISlashingRegistryCoordinator::OperatorNotRegistered::SELECTOR,
            "the operator is not registered with the service",
        ),
        (
            IStakeRegistry::BelowMinimumStakeRequirement::SELECTOR,
            "the operator's allocated stake is below the quorum's minimum",
        ),
        (
            IBlsApkRegistry::BLSPubkeyAlreadyRegistered::SELECTOR,
            "this BLS key is registered by another operator",
        ),
        (
            IBlsApkRegistry::InvalidBLSSignatureOrPrivateKey::SELECTOR,
            "the proof of possession of the BLS key does not verify",
        ),
    ];
    KNOWN
        .iter()
        .find(|(known, _)| *known == selector)
        .map(|(_, sentence)| *sentence)
}
