// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {MatchingParameters, Task} from "../Types.sol";

/// @title Answers to matching tasks
/// @notice A task is implicit in its close block: nobody creates it. Operators sign the EIP-712 digest
/// `MatchResponse(uint32 closeBlock,bytes32 closeBlockHash,uint16 chunk,uint16 paramsVersion,bytes32 matchesHash)` under the
/// domain (name "Spheron Matching", version "1", chain id, this contract), where `matchesHash` is the keccak256 of the
/// packed match words. Anyone may respond.
interface IMatchingTaskManager {
    /// @notice A task was answered. `commitment` covers all that was given: the challenge replays from it.
    event TaskResponded(
        uint32 indexed closeBlock, uint16 indexed chunk, address indexed responder, bytes32 matchesHash, uint224 commitment
    );
    event MatchingParametersAdded(uint16 indexed version, MatchingParameters parameters);

    /// @dev The close block is not yet past, or older than the response window.
    error OutsideResponseWindow(uint32 closeBlock, uint256 blockNumber);
    /// @dev The signed hash is not the chain's hash of the close block.
    error WrongCloseBlockHash(uint32 closeBlock, bytes32 given, bytes32 actual);
    error TaskAlreadyAnswered(uint32 closeBlock, uint16 chunk);
    error UnknownParamsVersion(uint16 version);
    error ChunkOutOfRange(uint16 chunk, uint16 limit);

    /// @notice Answers a task with the packed matches (layout in {IOrderBook-openLeases}) and a proof for the quorum
    /// verifier.
    function respond(Task calldata task, uint256[] calldata matches, bytes calldata proof) external;

    /// @notice The digest operators sign.
    function responseDigest(Task calldata task, uint256[] calldata matches) external view returns (bytes32);
    /// @notice Block in which a task was answered, zero if it was not (or the ring has gone round).
    function answeredAt(uint32 closeBlock, uint16 chunk) external view returns (uint32);
    function matchingParameters(uint16 version) external view returns (MatchingParameters memory);
    function quorumVerifier() external view returns (address);
}
