// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {IEscrow} from "../market/IEscrow.sol";
import {IOrderBook} from "../market/IOrderBook.sol";
import {OrderWord, RequirementWord} from "../market/Resources.sol";
import {Terms} from "../market/Terms.sol";
import {MatchingParameters, Order, OrderState, OrderTerms, Task} from "../Types.sol";
import {IMatchingRule} from "./IMatchingRule.sol";
import {IMatchingTaskManager} from "./IMatchingTaskManager.sol";
import {IQuorumVerifier} from "./IQuorumVerifier.sol";
import {ISingleMatchmaker} from "./ISingleMatchmaker.sol";
import {TaskConfig, TaskConfigs, VerifierWord, VerifierWords} from "./TaskConfig.sol";

/// @title Answers to matching tasks
/// @dev Not upgradeable: whoever opens leases is named by the order book, which changes the name only after a delay longer than
/// every window. An upgrade would get round that delay.
contract MatchingTaskManager is IMatchingTaskManager, AccessManaged {
    using OrderWord for uint256;
    using TaskConfigs for TaskConfig;
    using VerifierWords for VerifierWord;

    // -------------------------------------------------------------- constants

    /// @notice Close blocks the response ring holds. Longer than the response window (at most 256 blocks) and the challenge
    /// window together, so that a word is never rewritten while its answer can be disputed (deployment asserts it): it leaves
    /// 768 blocks for challenges. Not longer, because every block of the first round writes a new slot.
    uint256 public constant RING_BLOCKS = 1024;
    /// @notice Tasks a close block may have.
    uint16 public constant MAX_CHUNKS = 64;
    /// @dev `blockhash` reaches this far back.
    uint16 private constant MAXIMUM_RESPONSE_WINDOW = 256;
    /// @dev EIP-2935: gives the hashes of the last 8191 blocks. The order book's windows together are not longer.
    address private constant BLOCK_HASHES = 0x0000F90827F1C53a10cb7A02335B175320002935;

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
    /// @inheritdoc IMatchingTaskManager
    uint16 public immutable matchWindow;
    uint256 private immutable _chainId;
    bytes32 private immutable _domainSeparator;

    /// @dev All that `respond` reads beside the ring.
    TaskConfig private _config;
    /// @dev Every verifier that decided tasks or will, in the order of their blocks; the last one is the config's. Disputes ask
    /// about tasks long past.
    VerifierWord[] private _verifiers;
    /// @dev Versions count from 1.
    mapping(uint16 version => MatchingParameters) private _parameters;
    uint256[RING_BLOCKS * MAX_CHUNKS] private _ring;
    /// @inheritdoc IMatchingTaskManager
    mapping(uint64 orderId => bool) public matchedByRule;

    // ------------------------------------------------------------ construction

    /// @param verifier Decides every task until governance names another.
    constructor(address authority, IOrderBook book, address verifier) AccessManaged(authority) {
        // The order book's windows never change.
        IOrderBook.Parameters memory windows = book.parameters();
        if (windows.responseWindow == 0 || windows.responseWindow > MAXIMUM_RESPONSE_WINDOW) {
            revert ResponseWindowOutOfRange(windows.responseWindow, MAXIMUM_RESPONSE_WINDOW);
        }
        bool needsHistory = uint256(windows.responseWindow) + windows.matchWindow > MAXIMUM_RESPONSE_WINDOW;
        if (needsHistory && BLOCK_HASHES.code.length == 0) revert NotAContract(BLOCK_HASHES);
        _orderBook = book;
        (responseWindow, matchWindow) = (windows.responseWindow, windows.matchWindow);
        _chainId = block.chainid;
        _domainSeparator = _domain();
        _nameVerifier(verifier, 0);
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
        VerifierWord verifier = _verifierAt(closeBlock, config);
        bytes32 signatories = IQuorumVerifier(verifier.account()).verify(digest, closeBlock, proof);

        uint224 commitment = _commitment(digest, closeBlock, signatories);
        _store(slot, block.number << 224 | commitment);
        emit TaskResponded(closeBlock, chunk, msg.sender, matchesHash, commitment);

        if (verifier.capped()) return _openCapped(verifier.account(), closeBlock, matches);
        _orderBook.openLeases(closeBlock, matches, msg.sender);
    }

    /// @inheritdoc IMatchingTaskManager
    function matchOrder(uint64 orderId, OrderTerms calldata terms, uint256[] calldata bids, bytes calldata bidOrder)
        external
    {
        if (_config.paused()) revert MatchingIsPaused();
        (uint32 closeBlock, bytes32 termsHash, uint256 digestWord) = _unanswered(orderId);
        bytes32 restHash = _checkTerms(orderId, terms, termsHash);
        (uint256 givenBids, uint256[] memory ranks) = _rank(orderId, closeBlock, terms, bids, bidOrder);
        if (givenBids != digestWord) revert WrongBids(orderId, givenBids, digestWord);

        emit OrderMatchedByRule(orderId, closeBlock, msg.sender, ranks.length);
        _orderBook.openLeases(closeBlock, _answer(orderId, terms.resources, restHash, ranks), msg.sender);
        // Requeued, it may yet be a quorum's.
        if (!_isOpen(orderId)) matchedByRule[orderId] = true;
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

        if (parameters.rule.code.length == 0) revert NotAContract(parameters.rule);

        version = _config.parametersCount() + 1;
        _config = _config.withParametersCount(version);
        _parameters[version] = parameters;
        emit MatchingParametersAdded(version, parameters);
    }

    /// @inheritdoc IMatchingTaskManager
    function setQuorumVerifier(address verifier, uint32 fromBlock) external restricted {
        // As long as the order book takes to change who opens leases: every order that is there, requeued even, is decided
        // by the verifier it was made under.
        IOrderBook.Parameters memory windows = _orderBook.parameters();
        uint256 longestRound = uint256(windows.maximumBidWindow) + responseWindow + matchWindow;
        uint256 earliest = block.number + 2 * longestRound + 1;
        if (fromBlock < earliest) revert VerifierBlockTooEarly(fromBlock, earliest);

        // A change that does not concern any order yet is replaced.
        uint256 current = _config.verifier().from();
        if (current > block.number) {
            if (current < earliest) revert VerifierChangeTooSoon(current, block.number);
            _verifiers.pop();
        }
        _nameVerifier(verifier, fromBlock);
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
    function matchingParameters(uint16 version) public view returns (MatchingParameters memory) {
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
        return _verifierAt(closeBlock, _config).account();
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

    /// @dev What is stored of an open order in its match window.
    function _unanswered(uint64 orderId)
        private
        view
        returns (uint32 closeBlock, bytes32 termsHash, uint256 digestWord)
    {
        uint256 word;
        (word, termsHash, digestWord) = _orderBook.orderRecord(orderId);
        if (word.state() != OrderState.Open) revert OrderNotOpen(orderId);
        closeBlock = uint32(word.closeBlock());
        unchecked {
            // Wraps before the match window, far above any window.
            if (block.number - closeBlock - responseWindow - 1 >= matchWindow) {
                revert OutsideMatchWindow(closeBlock, block.number);
            }
        }
    }

    function _isOpen(uint64 orderId) private view returns (bool) {
        (uint256 word,,) = _orderBook.orderRecord(orderId);
        return word.state() == OrderState.Open;
    }

    /// @dev Equal hashes mean that every field is as it was when the order book checked it.
    function _checkTerms(uint64 orderId, OrderTerms calldata terms, bytes32 stored)
        private
        pure
        returns (bytes32 restHash)
    {
        restHash = Terms.restHash(terms);
        bytes32 given = Terms.hash(terms.resources, restHash);
        if (given != stored) revert WrongTerms(orderId, given, stored);
    }

    /// @dev Runs the rule of the order's own version.
    function _rank(
        uint64 orderId,
        uint32 closeBlock,
        OrderTerms calldata terms,
        uint256[] calldata bids,
        bytes calldata bidOrder
    ) private view returns (uint256, uint256[] memory) {
        MatchingParameters memory parameters = matchingParameters(RequirementWord.paramsVersion(terms.requirements));
        return IMatchingRule(parameters.rule)
            .rank(orderId, closeBlock, _hashOf(closeBlock), terms, parameters, bids, bidOrder);
    }

    /// @dev Of a block in the past that is at most as old as both windows together.
    function _hashOf(uint32 blockNumber) private view returns (bytes32 hash) {
        hash = blockhash(blockNumber);
        if (hash != 0) return hash;
        (bool success, bytes memory result) = BLOCK_HASHES.staticcall(abi.encode(uint256(blockNumber)));
        if (success && result.length == 32) hash = abi.decode(result, (bytes32));
        if (hash == 0) revert BlockHashUnknown(blockNumber);
    }

    /// @dev The rule's outcome for one order, packed as {IOrderBook-openLeases} takes it.
    function _answer(uint64 orderId, uint256 resources, bytes32 restHash, uint256[] memory ranks)
        private
        pure
        returns (uint256[] memory matches)
    {
        uint256 count = ranks.length;
        matches = new uint256[](count == 0 ? 1 : 3 + count);
        matches[0] = (uint256(orderId) << 8) | count;
        if (count == 0) return matches;
        (matches[1], matches[2]) = (resources, uint256(restHash));
        for (uint256 i = 0; i < count; i++) {
            matches[3 + i] = ranks[i];
        }
    }

    /// @dev Opens leases and reports their worth to the verifier, which reverts if what stands behind the answer does not cover
    /// them.
    function _openCapped(address verifier, uint32 closeBlock, uint256[] calldata matches) private {
        uint64[] memory open = _openOrders(matches);
        _orderBook.openLeases(closeBlock, matches, msg.sender);
        ISingleMatchmaker(verifier).hold(_valuesOf(open));
    }

    /// @dev Orders of an answer that are no leases yet. Matches that are malformed are left to the order book to refuse.
    function _openOrders(uint256[] calldata matches) private view returns (uint64[] memory open) {
        open = new uint64[](matches.length);
        uint256 count = 0;
        uint256 cursor = 0;
        while (cursor < matches.length) {
            uint256 ranks = uint8(matches[cursor]);
            uint64 orderId = uint64(matches[cursor] >> 8);
            if (_isOpen(orderId)) open[count++] = orderId;
            cursor += ranks == 0 ? 1 : 3 + ranks;
        }
        assembly ("memory-safe") {
            mstore(open, count)
        }
    }

    /// @dev What is locked for each order that has become a lease, with the match fee that has left the lock already: it does
    /// not come back when a lease is undone.
    function _valuesOf(uint64[] memory orderIds) private view returns (uint256[] memory values) {
        IEscrow escrow = IEscrow(_orderBook.escrow());
        values = new uint256[](orderIds.length);
        uint256 count = 0;
        for (uint256 i = 0; i < orderIds.length; i++) {
            Order memory order = _orderBook.order(orderIds[i]);
            if (order.state != OrderState.Leased) continue;
            uint256 amount = escrow.lockFor(order.rate, order.duration, order.feeSchedule);
            values[count++] = (amount << 8) | uint8(orderIds[i] >> 24);
        }
        assembly ("memory-safe") {
            mstore(values, count)
        }
    }

    function _verifierAt(uint32 closeBlock, TaskConfig config) private view returns (VerifierWord verifier) {
        verifier = config.verifier();
        if (closeBlock >= verifier.from()) return verifier;
        // The first one decides from block zero.
        for (uint256 index = _verifiers.length - 1; closeBlock < verifier.from(); --index) {
            verifier = _verifiers[index - 1];
        }
    }

    function _nameVerifier(address verifier, uint32 fromBlock) private {
        if (verifier.code.length == 0) revert NotAContract(verifier);
        VerifierWord named = VerifierWords.pack(verifier, IQuorumVerifier(verifier).capped(), fromBlock);
        _verifiers.push(named);
        _config = _config.withVerifier(named);
        emit QuorumVerifierChanged(verifier, fromBlock);
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
