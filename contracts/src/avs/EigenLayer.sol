// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev The few functions of EigenLayer's core and middleware that our contracts call, declared from its published ABI.
interface EigenAllocationManager {
    struct CreateSetParams {
        uint32 operatorSetId;
        address[] strategies;
    }

    function updateAVSMetadataURI(address avs, string calldata metadataURI) external;
    function setAVSRegistrar(address avs, address registrar) external;
    function createOperatorSets(address avs, CreateSetParams[] calldata params) external;
    function deregisterFromOperatorSets(DeregisterParams calldata params) external;

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
    function quorumUpdateBlockNumber(uint8 quorumNumber) external view returns (uint256);
    function getQuorumBitmapAtBlockNumberByIndex(bytes32 operatorId, uint32 blockNumber, uint256 index)
        external
        view
        returns (uint192);
    function supportsAVS(address avs) external view returns (bool);
}

interface EigenBlsApkRegistry {
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
