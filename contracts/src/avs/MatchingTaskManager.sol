// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {MatchingParameters, Task} from "../Types.sol";
import {IOrderBook} from "../market/IOrderBook.sol";
import {IMatchingTaskManager} from "./IMatchingTaskManager.sol";
import {IQuorumVerifier} from "./IQuorumVerifier.sol";

/// @dev Verifier 160 bits @0 | block from which it decides 32 @160 | count of parameter versions 16 @192 | paused
/// 1 @208. Unpacked by hand: Solidity loads the slot again for every field.
type TaskConfig is uint256;

library TaskConfigs {
    function verifier(TaskConfig config) internal pure returns (address) {
        return address(uint160(TaskConfig.unwrap(config)));
    }

    function verifierFrom(TaskConfig config) internal pure returns (uint32) {
        return uint32(TaskConfig.unwrap(config) >> 160);
    }

    function parametersCount(TaskConfig config) internal pure returns (uint16) {
        return uint16(TaskConfig.unwrap(config) >> 192);
    }

    function paused(TaskConfig config) internal pure returns (bool) {
        return TaskConfig.unwrap(config) >> 208 != 0;
    }

    function withVerifier(TaskConfig config, address named, uint32 fromBlock) internal pure returns (TaskConfig) {
        return TaskConfig.wrap(TaskConfig.unwrap(config) >> 192 << 192 | uint256(fromBlock) << 160 | uint160(named));
    }

    function withParametersCount(TaskConfig config, uint16 count) internal pure returns (TaskConfig) {
        return TaskConfig.wrap(TaskConfig.unwrap(config) & ~(uint256(0xffff) << 192) | uint256(count) << 192);
    }

    function withPaused(TaskConfig config, bool stopped) internal pure returns (TaskConfig) {
        return TaskConfig.wrap(TaskConfig.unwrap(config) << 48 >> 48 | (stopped ? 1 << 208 : 0));
    }
}

/// @title Answers to matching tasks
/// @dev Not upgradeable: whoever opens leases is named by the order book, which changes the name only after a delay longer than
/// every window. An upgrade would get round that delay.
contract MatchingTaskManager is IMatchingTaskManager, AccessManaged {
    using TaskConfigs for TaskConfig;

    // -------------------------------------------------------------- constants

    /// @notice Close blocks the response ring holds. Longer than the response window (at most 256 blocks) and the challenge
    /// window together, so that a word is never rewritten while its answer can be disputed (deployment asserts it): it leaves
    /// 768 blocks for challenges. Not longer, because every block of the first round writes a new slot.
    uint256 public constant RING_BLOCKS = 1024;
    /// @notice Tasks a close block may have.
    uint16 public constant MAX_CHUNKS = 64;
    /// @dev `blockhash` reaches this far back.
    uint16 private constant MAXIMUM_RESPONSE_WINDOW = 256;

    uint256 private constant WEIGHT_SUM = 1_000_000;
    uint256 private constant MAXIMUM_RANDOMNESS_WEIGHT = 50_000;
    uint256 private constant MAXIMUM_RANK_LIMIT = 8;
    /// @dev More orders than this do not fit one transaction.
    uint256 private constant MAXIMUM_CHUNK_SIZE = 256;

    bytes32 private constant DOMAIN_TYPE_HASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant NAME_HASH = keccak256("Spheron Matching");
    bytes32 private constant VERSION_HASH = keccak256("1");
    bytes32 private constant RESPONSE_TYPE_HASH = keccak256(
        "MatchResponse(uint32 closeBlock,bytes32 closeBlockHash,uint16 chunk,uint16 paramsVersion,bytes32 matchesHash)"
    );

    // ---------------------------------------------------------------- storage

    IOrderBook private immutable _orderBook;
    /// @inheritdoc IMatchingTaskManager
    uint16 public immutable responseWindow;
    uint256 private immutable _chainId;
    bytes32 private immutable _domainSeparator;

    /// @dev All that `respond` reads beside the ring.
    TaskConfig private _config;
    /// @dev Verifier of tasks that close before the current one decides.
    address private _previousVerifier;
    /// @dev Versions count from 1.
    mapping(uint16 version => MatchingParameters) private _parameters;
    uint256[RING_BLOCKS * MAX_CHUNKS] private _ring;

    // ------------------------------------------------------------ construction

    /// @param verifier Decides every task until governance names another.
    constructor(address authority, IOrderBook book, address verifier) AccessManaged(authority) {
        // The order book's window never changes.
        uint16 window = book.parameters().responseWindow;
        if (window == 0 || window > MAXIMUM_RESPONSE_WINDOW) {
            revert ResponseWindowOutOfRange(window, MAXIMUM_RESPONSE_WINDOW);
        }
        if (verifier.code.length == 0) revert NotAContract(verifier);
        _orderBook = book;
        responseWindow = window;
        _chainId = block.chainid;
        _domainSeparator = _domain();
        _config = _config.withVerifier(verifier, 0);
        _previousVerifier = verifier;
        emit QuorumVerifierChanged(verifier, 0);
    }

    // ------------------------------------------------------------------ anyone

    /// @inheritdoc IMatchingTaskManager
    function respond(Task calldata task, uint256[] calldata matches, bytes calldata proof) external {
        uint32 closeBlock = task.closeBlock;
        uint16 chunk = task.chunk;
        TaskConfig config = _config;
        _check(task, closeBlock, chunk, config);
        uint256 slot = _ringSlot(closeBlock, chunk);
        if (_answeredAt(_load(slot), closeBlock) != 0) revert TaskAlreadyAnswered(closeBlock, chunk);

        bytes32 matchesHash = _hash(matches);
        bytes32 digest = _digest(task, matchesHash);
        bytes32 signatories = IQuorumVerifier(_verifierAt(closeBlock, config)).verify(digest, closeBlock, proof);

        uint224 commitment = _commitment(digest, closeBlock, signatories);
        _store(slot, block.number << 224 | commitment);
        emit TaskResponded(closeBlock, chunk, msg.sender, matchesHash, commitment);

        _orderBook.openLeases(closeBlock, matches, msg.sender);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IMatchingTaskManager
    function addMatchingParameters(MatchingParameters calldata parameters)
        external
        restricted
        returns (uint16 version)
    {
        uint256 sum;
        for (uint256 i = 0; i < parameters.weights.length; i++) {
            sum += parameters.weights[i];
        }
        if (sum != WEIGHT_SUM) revert WeightsDoNotSumUp(sum, WEIGHT_SUM);
        uint256 randomness = parameters.weights[7];
        if (randomness > MAXIMUM_RANDOMNESS_WEIGHT) {
            revert RandomnessWeightTooHigh(randomness, MAXIMUM_RANDOMNESS_WEIGHT);
        }
        if (parameters.stakeCap == 0) revert StakeCapIsZero();
        if (parameters.rankLimit < 1 || parameters.rankLimit > MAXIMUM_RANK_LIMIT) {
            revert RankLimitOutOfRange(parameters.rankLimit, MAXIMUM_RANK_LIMIT);
        }
        if (parameters.chunkSize < 1 || parameters.chunkSize > MAXIMUM_CHUNK_SIZE) {
            revert ChunkSizeOutOfRange(parameters.chunkSize, MAXIMUM_CHUNK_SIZE);
        }

        version = _config.parametersCount() + 1;
        _config = _config.withParametersCount(version);
        _parameters[version] = parameters;
        emit MatchingParametersAdded(version, parameters);
    }

    /// @inheritdoc IMatchingTaskManager
    function setQuorumVerifier(address verifier, uint32 fromBlock) external restricted {
        if (verifier.code.length == 0) revert NotAContract(verifier);
        // As long as the order book takes to change who opens leases: every order that is there, requeued even, is decided
        // by the verifier it was made under.
        IOrderBook.Parameters memory windows = _orderBook.parameters();
        uint256 earliest = block.number + 2 * (uint256(windows.maximumBidWindow) + windows.responseWindow) + 1;
        if (fromBlock < earliest) revert VerifierBlockTooEarly(fromBlock, earliest);

        // A change that has not come into force is replaced. One that has must first outlive the tasks decided by the verifier
        // before it, because only one previous verifier is kept.
        uint256 inForceFrom = _config.verifierFrom();
        if (inForceFrom <= block.number) {
            uint256 untilBlock = inForceFrom + MAXIMUM_RESPONSE_WINDOW;
            if (inForceFrom != 0 && block.number <= untilBlock) revert VerifierChangeTooSoon(untilBlock, block.number);
            _previousVerifier = _config.verifier();
        }
        _config = _config.withVerifier(verifier, fromBlock);
        emit QuorumVerifierChanged(verifier, fromBlock);
    }

    /// @inheritdoc IMatchingTaskManager
    function pause() external restricted {
        _setPaused(true);
        emit MatchingPaused();
    }

    /// @inheritdoc IMatchingTaskManager
    function resume() external restricted {
        _setPaused(false);
        emit MatchingResumed();
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IMatchingTaskManager
    function responseDigest(Task calldata task, uint256[] calldata matches) external view returns (bytes32) {
        // Solidity checks a field's range when it is read, and the digest takes the words as they are.
        (task.closeBlock, task.chunk, task.paramsVersion);
        return _digest(task, _hash(matches));
    }

    /// @inheritdoc IMatchingTaskManager
    function answeredAt(uint32 closeBlock, uint16 chunk) external view returns (uint32) {
        if (chunk >= MAX_CHUNKS) return 0;
        return _answeredAt(_load(_ringSlot(closeBlock, chunk)), closeBlock);
    }

    /// @inheritdoc IMatchingTaskManager
    function commitmentOf(uint32 closeBlock, uint16 chunk) external view returns (uint224) {
        if (chunk >= MAX_CHUNKS) return 0;
        uint256 word = _load(_ringSlot(closeBlock, chunk));
        return _answeredAt(word, closeBlock) == 0 ? 0 : uint224(word);
    }

    /// @inheritdoc IMatchingTaskManager
    function matchingParameters(uint16 version) external view returns (MatchingParameters memory) {
        if (version == 0 || version > _config.parametersCount()) revert UnknownParamsVersion(version);
        return _parameters[version];
    }

    /// @inheritdoc IMatchingTaskManager
    function matchingParametersCount() external view returns (uint16) {
        return _config.parametersCount();
    }

    /// @inheritdoc IMatchingTaskManager
    function quorumVerifier() external view returns (address) {
        return quorumVerifierAt(uint32(block.number));
    }

    /// @inheritdoc IMatchingTaskManager
    function quorumVerifierAt(uint32 closeBlock) public view returns (address) {
        return _verifierAt(closeBlock, _config);
    }

    /// @inheritdoc IMatchingTaskManager
    function orderBook() external view returns (address) {
        return address(_orderBook);
    }

    /// @inheritdoc IMatchingTaskManager
    function paused() external view returns (bool) {
        return _config.paused();
    }

    // ---------------------------------------------------------------- internal

    /// @dev Everything about a task that needs neither its signatures nor the ring.
    function _check(Task calldata task, uint32 closeBlock, uint16 chunk, TaskConfig config) private view {
        if (config.paused()) revert MatchingIsPaused();
        if (chunk >= MAX_CHUNKS) revert ChunkOutOfRange(chunk, MAX_CHUNKS);
        uint16 version = task.paramsVersion;
        if (version == 0 || version > config.parametersCount()) revert UnknownParamsVersion(version);
        unchecked {
            // Wraps for a close block ahead, far above any window; the close block itself gives the largest number.
            if (block.number - closeBlock - 1 >= responseWindow) {
                revert OutsideResponseWindow(closeBlock, block.number);
            }
        }
        bytes32 actual = blockhash(closeBlock);
        if (task.closeBlockHash != actual) revert WrongCloseBlockHash(closeBlock, task.closeBlockHash, actual);
    }

    function _verifierAt(uint32 closeBlock, TaskConfig config) private view returns (address) {
        return closeBlock >= config.verifierFrom() ? config.verifier() : _previousVerifier;
    }

    function _setPaused(bool stopped) private {
        _config = _config.withPaused(stopped);
    }

    /// @dev Storage slot of a task's word. The chunk was checked, so it lies in the ring.
    function _ringSlot(uint32 closeBlock, uint16 chunk) private pure returns (uint256 slot) {
        assembly ("memory-safe") {
            slot := add(add(_ring.slot, mul(mod(closeBlock, RING_BLOCKS), MAX_CHUNKS)), chunk)
        }
    }

    function _load(uint256 slot) private view returns (uint256 word) {
        assembly ("memory-safe") {
            word := sload(slot)
        }
    }

    function _store(uint256 slot, uint256 word) private {
        assembly ("memory-safe") {
            sstore(slot, word)
        }
    }

    /// @dev An answer comes after its close block and within the longest response window. Whatever else used the word did so
    /// a whole ring earlier or later, which is longer.
    function _answeredAt(uint256 word, uint32 closeBlock) private pure returns (uint32) {
        uint256 answered = word >> 224;
        unchecked {
            // Wraps, as in {_check}.
            return answered - closeBlock - 1 < MAXIMUM_RESPONSE_WINDOW ? uint32(answered) : 0;
        }
    }

    /// @dev keccak256 of the words as they lie in calldata, without allocating.
    function _hash(uint256[] calldata matches) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            let size := shl(5, matches.length)
            calldatacopy(buffer, matches.offset, size)
            hash := keccak256(buffer, size)
        }
    }

    /// @dev keccak256(abi.encode(digest, closeBlock, signatories)), the upper bits.
    function _commitment(bytes32 digest, uint32 closeBlock, bytes32 signatories)
        private
        pure
        returns (uint224 commitment)
    {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore(buffer, digest)
            mstore(add(buffer, 0x20), closeBlock)
            mstore(add(buffer, 0x40), signatories)
            commitment := shr(32, keccak256(buffer, 0x60))
        }
    }

    function _domain() private view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE_HASH, NAME_HASH, VERSION_HASH, block.chainid, address(this)));
    }

    /// @dev EIP-712. The task lies in calldata as the struct hash wants it: four words in the order of the type.
    function _digest(Task calldata task, bytes32 matchesHash) private view returns (bytes32 digest) {
        bytes32 domain = block.chainid == _chainId ? _domainSeparator : _domain();
        bytes32 responseTypeHash = RESPONSE_TYPE_HASH;
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore(buffer, responseTypeHash)
            calldatacopy(add(buffer, 0x20), task, 0x80)
            mstore(add(buffer, 0xa0), matchesHash)
            let response := keccak256(buffer, 0xc0)
            mstore(buffer, shl(240, 0x1901))
            mstore(add(buffer, 2), domain)
            mstore(add(buffer, 34), response)
            digest := keccak256(buffer, 66)
        }
    }
}
