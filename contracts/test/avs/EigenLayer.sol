// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";

/// @dev What the tests call of EigenLayer, from its published ABI.
interface DelegationManager {
    struct QueuedWithdrawalParams {
        address[] strategies;
        uint256[] depositShares;
        address unused;
    }

    function registerAsOperator(address delegationApprover, uint32 allocationDelay, string calldata metadataURI)
        external;
    function queueWithdrawals(QueuedWithdrawalParams[] calldata params) external returns (bytes32[] memory roots);
    function operatorShares(address operator, address strategy) external view returns (uint256);
}

interface StrategyManager {
    function depositIntoStrategy(address strategy, address token, uint256 amount) external returns (uint256 shares);
    function burnShares(address strategy) external;
    function getBurnableShares(address strategy) external view returns (uint256);
}

interface StrategyFactory {
    function deployNewStrategy(address token) external returns (address strategy);
}

interface AllocationManager {
    struct OperatorSet {
        address avs;
        uint32 id;
    }

    struct AllocateParams {
        OperatorSet operatorSet;
        address[] strategies;
        uint64[] newMagnitudes;
    }

    struct RegisterParams {
        address avs;
        uint32[] operatorSetIds;
        bytes data;
    }

    struct DeregisterParams {
        address operator;
        address avs;
        uint32[] operatorSetIds;
    }

    function modifyAllocations(address operator, AllocateParams[] calldata params) external;
    function registerForOperatorSets(address operator, RegisterParams calldata params) external;
    function deregisterFromOperatorSets(DeregisterParams calldata params) external;
    function DEALLOCATION_DELAY() external view returns (uint32);
    function getAVSRegistrar(address avs) external view returns (address);
    function isOperatorSet(OperatorSet calldata operatorSet) external view returns (bool);
}

interface PermissionController {
    function canCall(address account, address caller, address target, bytes4 selector) external view returns (bool);
}

interface ProxyAdmin {
    function upgrade(address proxy, address implementation) external;
    function upgradeAndCall(address proxy, address implementation, bytes calldata data) external payable;
}

interface RegistryCoordinator {
    struct OperatorSetParam {
        uint32 maxOperatorCount;
        uint16 kickBIPsOfOperatorStake;
        uint16 kickBIPsOfTotalStake;
    }

    struct StrategyParams {
        address strategy;
        uint96 multiplier;
    }

    struct PubkeyRegistrationParams {
        IBlsQuorumVerifier.G1Point pubkeyRegistrationSignature;
        IBlsQuorumVerifier.G1Point pubkeyG1;
        IBlsQuorumVerifier.G2Point pubkeyG2;
    }

    function initialize(
        address initialOwner,
        address churnApprover,
        address ejector,
        uint256 initialPausedStatus,
        address avs
    ) external;
    function createSlashableStakeQuorum(
        OperatorSetParam calldata operatorSetParams,
        uint96 minimumStake,
        StrategyParams[] calldata strategyParams,
        uint32 lookAheadPeriod
    ) external;
    function pubkeyRegistrationMessageHash(address operator) external view returns (IBlsQuorumVerifier.G1Point memory);
    function updateOperatorsForQuorum(address[][] calldata operatorsPerQuorum, bytes calldata quorumNumbers) external;
    function updateOperators(address[] calldata operators) external;
    function ejectOperator(address operator, bytes calldata quorumNumbers) external;
    function quorumUpdateBlockNumber(uint8 quorumNumber) external view returns (uint256);
    function stakeRegistry() external view returns (address);
    function blsApkRegistry() external view returns (address);
}

interface StakeRegistry {
    function getCurrentStake(bytes32 operatorId, uint8 quorumNumber) external view returns (uint96);
    function getCurrentTotalStake(uint8 quorumNumber) external view returns (uint96);
}

interface OperatorStateRetriever {
    struct CheckSignaturesIndices {
        uint32[] nonSignerQuorumBitmapIndices;
        uint32[] quorumApkIndices;
        uint32[] totalStakeIndices;
        uint32[][] nonSignerStakeIndices;
    }

    function getCheckSignaturesIndices(
        address registryCoordinator,
        uint32 referenceBlockNumber,
        bytes calldata quorumNumbers,
        bytes32[] calldata nonSignerOperatorIds
    ) external view returns (CheckSignaturesIndices memory);
}

/// @dev The reference: EigenLayer's own checker, inherited by its example's task manager.
interface SignatureChecker {
    struct QuorumStakeTotals {
        uint96[] signedStakeForQuorum;
        uint96[] totalStakeForQuorum;
    }

    function checkSignatures(
        bytes32 message,
        bytes calldata quorumNumbers,
        uint32 referenceBlockNumber,
        IBlsQuorumVerifier.BlsProof calldata proof
    ) external view returns (QuorumStakeTotals memory, bytes32);
}
