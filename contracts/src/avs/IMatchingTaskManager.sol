// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {MatchingParameters, Task} from "../Types.sol";

/// @title Answers to matching tasks
/// @notice A task is implicit in its close block: nobody creates it. Operators sign the EIP-712 digest
/// `MatchResponse(uint32 closeBlock,bytes32 closeBlockHash,uint16 chunk,uint16 paramsVersion,bytes32 matchesHash)` under the
/// domain (name "Spheron Matching", version "1", chain id, this contract), where `matchesHash` is the keccak256 of the
/// packed match words. Anyone may respond.
///
/// Answers are kept in a ring of words, `(closeBlock % RING_BLOCKS) * MAX_CHUNKS + chunk`: answered-at block 32 bits above a
/// commitment of 224 bits, the upper bits of `keccak256(abi.encode(digest, closeBlock, signatories))`. The digest covers
/// the task and the matches, the signatories are what the quorum verifier returned for the reference block.
interface IMatchingTaskManager {
    /// @notice A task was answered. `commitment` covers all that was given: the challenge replays from it.
    event TaskResponded(
        uint32 indexed closeBlock,
        uint16 indexed chunk,
        address indexed responder,
        bytes32 matchesHash,
        uint224 commitment
    );
    event MatchingParametersAdded(uint16 indexed version, MatchingParameters parameters);
    /// @notice Tasks whose close block is `fromBlock` or later are verified by `verifier`.
    event QuorumVerifierChanged(address indexed verifier, uint32 fromBlock);
    event MatchingPaused();
    event MatchingResumed();

    /// @dev The close block is not yet past, or older than the response window.
    error OutsideResponseWindow(uint32 closeBlock, uint256 blockNumber);
    /// @dev The signed hash is not the chain's hash of the close block.
    error WrongCloseBlockHash(uint32 closeBlock, bytes32 given, bytes32 actual);
    error TaskAlreadyAnswered(uint32 closeBlock, uint16 chunk);
    error UnknownParamsVersion(uint16 version);
    error ChunkOutOfRange(uint16 chunk, uint16 limit);
    /// @dev The guardian paused matching; open orders expire and their money unlocks.
    error MatchingIsPaused();
    error WeightsDoNotSumUp(uint256 sum, uint256 expected);
    /// @dev Whoever proposes the close block can grind its hash, so luck stays a tie-breaker.
    error RandomnessWeightTooHigh(uint256 weight, uint256 limit);
    error StakeCapIsZero();
    error RankLimitOutOfRange(uint256 rankLimit, uint256 limit);
    error ChunkSizeOutOfRange(uint256 chunkSize, uint256 limit);
    /// @dev The order book asks for a window longer than block hashes reach, or for none.
    error ResponseWindowOutOfRange(uint256 responseWindow, uint256 limit);
    error NotAContract(address account);
    /// @dev Orders that are there now are decided by the verifier they were made under.
    error VerifierBlockTooEarly(uint32 fromBlock, uint256 earliest);
    /// @dev Tasks that the previous verifier decides can still be answered until `untilBlock`.
    error VerifierChangeTooSoon(uint256 untilBlock, uint256 blockNumber);

    /// @notice Answers a task with the packed matches (layout in {IOrderBook-openLeases}) and a proof for the quorum
    /// verifier.
    function respond(Task calldata task, uint256[] calldata matches, bytes calldata proof) external;

    // ------------------------------------------------------------- governance

    /// @notice Appends a version of the matching parameters; versions count from 1 and never change.
    function addMatchingParameters(MatchingParameters calldata parameters) external returns (uint16 version);
    /// @notice Names the verifier of all tasks whose close block is `fromBlock` or later, which is at least two bid and
    /// response windows ahead: what decides an order never changes once it is there.
    function setQuorumVerifier(address verifier, uint32 fromBlock) external;
    /// @notice Guardian: no task is answered until {resume}. Cancelling, expiring and closing go on.
    function pause() external;
    function resume() external;

    // ------------------------------------------------------------------ views

    /// @notice The digest operators sign.
    function responseDigest(Task calldata task, uint256[] calldata matches) external view returns (bytes32);
    /// @notice Block in which a task was answered, zero if it was not (or the ring has gone round).
    function answeredAt(uint32 closeBlock, uint16 chunk) external view returns (uint32);
    /// @notice Commitment of the answer to a task, zero if there is none (or the ring has gone round).
    function commitmentOf(uint32 closeBlock, uint16 chunk) external view returns (uint224);
    function matchingParameters(uint16 version) external view returns (MatchingParameters memory);
    /// @notice Latest version of the matching parameters, zero before the first.
    function matchingParametersCount() external view returns (uint16);
    /// @notice Verifier of tasks that close from now on.
    function quorumVerifier() external view returns (address);
    /// @notice Verifier of the tasks of one close block.
    function quorumVerifierAt(uint32 closeBlock) external view returns (address);
    function orderBook() external view returns (address);
    /// @notice Blocks after the close block in which an answer is taken: the order book's, which never changes.
    function responseWindow() external view returns (uint16);
    function paused() external view returns (bool);
}
