// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IBlsQuorumVerifier} from "./IBlsQuorumVerifier.sol";

/// @dev The few functions of EigenLayer's core and middleware that our contracts call, declared from its published ABI.
interface EigenAllocationManager {
    struct OperatorSet {
        address avs;
        uint32 id;
    }

    /// @param strategies Strictly ascending.
    /// @param wadsToSlash Of what is allocated; 1e18 is all.
    struct SlashingParams {
        address operator;
        uint32 operatorSetId;
        address[] strategies;
        uint256[] wadsToSlash;
        string description;
    }

    struct CreateSetParams {
        uint32 operatorSetId;
        address[] strategies;
    }

    function updateAVSMetadataURI(address avs, string calldata metadataURI) external;
    function setAVSRegistrar(address avs, address registrar) external;
    function createOperatorSets(address avs, CreateSetParams[] calldata params) external;
    function deregisterFromOperatorSets(DeregisterParams calldata params) external;
    /// @dev Succeeds and cuts nothing if nothing is allocated any more.
    function slashOperator(address avs, SlashingParams calldata params) external;
    /// @dev A member of the set, or one that left less than the deallocation delay ago.
    function isOperatorSlashable(address operator, OperatorSet calldata operatorSet) external view returns (bool);
    function getStrategiesInOperatorSet(OperatorSet calldata operatorSet) external view returns (address[] memory);
    /// @dev What slashes have left of an operator's stake, by strategy; 1e18 is all.
    function getMaxMagnitudes(address operator, address[] calldata strategies) external view returns (uint64[] memory);

    struct DeregisterParams {
        address operator;
        address avs;
        uint32[] operatorSetIds;
    }
}

interface EigenPermissionController {
    function setAppointee(address account, address appointee, address target, bytes4 selector) external;
    function removeAppointee(address account, address appointee, address target, bytes4 selector) external;
}

interface EigenRegistryCoordinator {
    function stakeRegistry() external view returns (address);
    function blsApkRegistry() external view returns (address);
    function quorumCount() external view returns (uint8);
    function getQuorumBitmapAtBlockNumberByIndex(bytes32 operatorId, uint32 blockNumber, uint256 index)
        external
        view
        returns (uint192);
    /// @dev Reverts if one of them was in no quorum's history at the block.
    function getQuorumBitmapIndicesAtBlockNumber(uint32 blockNumber, bytes32[] calldata operatorIds)
        external
        view
        returns (uint32[] memory);
    function updateOperators(address[] calldata operators) external;
    function updateOperatorsForQuorum(address[][] calldata operatorsPerQuorum, bytes calldata quorumNumbers) external;
    function supportsAVS(address avs) external view returns (bool);
}

interface EigenBlsApkRegistry {
    /// @dev Hash of the operator's key, for good; zero if it never registered one.
    function getOperatorId(address operator) external view returns (bytes32);
    function getRegisteredPubkey(address operator)
        external
        view
        returns (IBlsQuorumVerifier.G1Point memory key, bytes32 keyHash);
    function getApkHashAtBlockNumberAndIndex(uint8 quorumNumber, uint32 blockNumber, uint256 index)
        external
        view
        returns (bytes24);
}

interface EigenStakeRegistry {
    function getTotalStakeAtBlockNumberFromIndex(uint8 quorumNumber, uint32 blockNumber, uint256 index)
        external
        view
        returns (uint96);
    function getStakeAtBlockNumberAndIndex(uint8 quorumNumber, uint32 blockNumber, bytes32 operatorId, uint256 index)
        external
        view
        returns (uint96);
}
