// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {MatchingParameters, OrderTerms, Task} from "../Types.sol";

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
    /// @notice New orders can name the version once {IOrderBook-setBidding} does.
    event MatchingParametersAdded(uint16 indexed version, MatchingParameters parameters);
    /// @notice Tasks whose close block is `fromBlock` or later are verified by `verifier`.
    event QuorumVerifierChanged(address indexed verifier, uint32 fromBlock);
    /// @notice The rule ran on chain for an order that nobody answered, and ranked this many suppliers.
    event OrderMatchedByRule(uint64 indexed orderId, uint32 indexed closeBlock, address indexed caller, uint256 ranks);
    /// @notice {respond} and {matchOrder} revert from now on ({MatchingIsPaused}).
    event MatchingPaused();
    /// @notice What {MatchingPaused} stopped goes on.
    event MatchingResumed();

    /// @dev The close block is not yet past, or older than the response window.
    error OutsideResponseWindow(uint32 closeBlock, uint256 blockNumber);
    /// @dev The signed hash is not the chain's hash of the close block.
    error WrongCloseBlockHash(uint32 closeBlock, bytes32 given, bytes32 actual);
    /// @dev One answer a task, whoever came first; wrong ones are challenged ({IMatchingDisputes}).
    error TaskAlreadyAnswered(uint32 closeBlock, uint16 chunk);
    /// @dev Versions run from 1 to {matchingParametersCount}.
    error UnknownParamsVersion(uint16 version);
    /// @dev Chunks of a close block are 0 to `limit` - 1.
    error ChunkOutOfRange(uint16 chunk, uint16 limit);
    /// @dev The guardian paused matching; open orders expire and their money unlocks.
    error MatchingIsPaused();
    /// @dev Of the eight weights; `expected` is 1 000 000.
    error WeightsDoNotSumUp(uint256 sum, uint256 expected);
    /// @dev Whoever proposes the close block can grind its hash, so luck stays a tie-breaker.
    error RandomnessWeightTooHigh(uint256 weight, uint256 limit);
    /// @dev The stake that scores full is one whole token at least.
    error StakeCapIsZero();
    /// @dev From 1 to `limit` (8), as many ranks as the order book takes.
    error RankLimitOutOfRange(uint256 rankLimit, uint256 limit);
    /// @dev From 1 to `limit` (256) orders, which fit one transaction.
    error ChunkSizeOutOfRange(uint256 chunkSize, uint256 limit);
    /// @dev The order book asks for a window longer than block hashes reach, or for none.
    error ResponseWindowOutOfRange(uint256 responseWindow, uint256 limit);
    /// @dev Of a rule or a quorum verifier; at deployment also of what keeps block hashes (EIP-2935), if windows need it.
    error NotAContract(address account);
    /// @dev The rule can be run on chain in the match window after the response window, and not otherwise.
    error OutsideMatchWindow(uint32 closeBlock, uint256 blockNumber);
    /// @dev The chain does not keep block hashes (EIP-2935).
    error BlockHashUnknown(uint32 blockNumber);
    /// @dev {matchOrder}: the order has its lease, or ended without one, or was never there.
    error OrderNotOpen(uint64 orderId);
    /// @dev The terms given are not those of the order.
    error WrongTerms(uint64 orderId, bytes32 given, bytes32 stored);
    /// @dev The bids given are not those of the order, all of them in log order.
    error WrongBids(uint64 orderId, uint256 given, uint256 stored);
    /// @dev Orders that are there now are decided by the verifier they were made under.
    error VerifierBlockTooEarly(uint32 fromBlock, uint256 earliest);
    /// @dev Orders may be there already that the verifier coming into force at `untilBlock` decides: it cannot be replaced any
    /// more, and from then on the next one can be named.
    error VerifierChangeTooSoon(uint256 untilBlock, uint256 blockNumber);

    /// @notice Answers a task with the packed matches (layout in {IOrderBook-openLeases}) and a proof for the quorum
    /// verifier. Operators answer with at most as many ranks as the parameters' rank limit; the order book takes up to
    /// eight, whatever the version says. Ranks beyond the limit, like ranks below it that the rule would have filled, are a
    /// wrong answer that anyone can challenge ({IMatchingDisputes}), not one that is refused here.
    function respond(Task calldata task, uint256[] calldata matches, bytes calldata proof) external;

    /// @notice Runs the rule for an open order in its match window: no quorum can censor an order. The match fee is the
    /// caller's. What becomes of the order is as with an answer: without a valid bid it expires, without capacity it is
    /// requeued once. Arguments as in {IMatchingRule-rank}.
    function matchOrder(uint64 orderId, OrderTerms calldata terms, uint256[] calldata bids, bytes calldata bidOrder)
        external;

    // ------------------------------------------------------------- governance

    /// @notice Appends a version of the matching parameters; versions count from 1 and never change.
    function addMatchingParameters(MatchingParameters calldata parameters) external returns (uint16 version);
    /// @notice Names the verifier of all tasks whose close block is `fromBlock` or later, which is at least two rounds of
    /// the longest bid, response and match windows ahead: what decides an order never changes once it is there.
    function setQuorumVerifier(address verifier, uint32 fromBlock) external;
    /// @notice Guardian: no task is answered and no order matched until {resume}. Cancelling, expiring and closing go on.
    function pause() external;
    /// @notice Takes {pause} back; the governor's.
    function resume() external;

    // ------------------------------------------------------------------ views

    /// @notice The digest operators sign.
    function responseDigest(Task calldata task, uint256[] calldata matches) external view returns (bytes32);
    /// @notice Block in which a task was answered, zero if it was not (or the ring has gone round).
    function answeredAt(uint32 closeBlock, uint16 chunk) external view returns (uint32);
    /// @notice Commitment of the answer to a task, zero if there is none (or the ring has gone round).
    function commitmentOf(uint32 closeBlock, uint16 chunk) external view returns (uint224);
    /// @notice Reverts with {UnknownParamsVersion} if there is no such version.
    function matchingParameters(uint16 version) external view returns (MatchingParameters memory);
    /// @notice Latest version of the matching parameters, zero before the first.
    function matchingParametersCount() external view returns (uint16);
    /// @notice Verifier of tasks that close from now on.
    function quorumVerifier() external view returns (address);
    /// @notice Verifier of the tasks of one close block.
    function quorumVerifierAt(uint32 closeBlock) external view returns (address);
    /// @notice The {IOrderBook} that answers open leases in. Immutable.
    function orderBook() external view returns (address);
    /// @notice Blocks after the close block in which an answer is taken: the order book's, which never changes.
    function responseWindow() external view returns (uint16);
    /// @notice Blocks after the response window in which {matchOrder} is taken: the order book's, which never changes.
    function matchWindow() external view returns (uint16);
    /// @notice Whether the rule, run on chain, opened or ended this order: no answer of a quorum did.
    function matchedByRule(uint64 orderId) external view returns (bool);
    /// @notice Whether the guardian has stopped matching, see {MatchingPaused}.
    function paused() external view returns (bool);
}
