// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";

import {MatchingParameters, Task} from "../Types.sol";
import {IOrderBook} from "../market/IOrderBook.sol";
import {IMatchingTaskManager} from "./IMatchingTaskManager.sol";
import {IQuorumVerifier} from "./IQuorumVerifier.sol";

/// @title Answers to matching tasks
contract MatchingTaskManager is IMatchingTaskManager, AccessManagedUpgradeable, UUPSUpgradeable {
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

    /// @custom:storage-location erc7201:spheron.storage.MatchingTaskManager
    /// @dev Slot 0 is all that `respond` reads beside the ring.
    struct TaskManagerStorage {
        // slot 0
        address verifier;
        uint32 verifierFrom;
        uint16 parametersCount;
        uint16 responseWindow;
        bool paused;
        // slot 1: verifier of tasks that close before `verifierFrom`
        address previousVerifier;
        // slot 2: versions count from 1
        mapping(uint16 version => MatchingParameters) parameters;
        // from slot 3: the response ring
        uint256[RING_BLOCKS * MAX_CHUNKS] ring;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("spheron.storage.MatchingTaskManager")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_LOCATION = 0xaf5acb327c0e81a4f08d0275c13bf2c55a20e7843d2c52456d5918b566e19a00;

    function _storage() private pure returns (TaskManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_LOCATION
        }
    }

    // ------------------------------------------------------------ construction

    /// @custom:oz-upgrades-unsafe-allow constructor state-variable-immutable
    constructor(IOrderBook book) {
        _orderBook = book;
        _disableInitializers();
    }

    /// @param verifier Decides every task until governance names another.
    function initialize(address authority, address verifier) external initializer {
        __AccessManaged_init(authority);
        require(verifier.code.length != 0, NotAContract(verifier));
        TaskManagerStorage storage $ = _storage();
        $.verifier = verifier;
        $.previousVerifier = verifier;
        emit QuorumVerifierChanged(verifier, 0);
        _syncResponseWindow($);
    }

    /// @dev The access manager decides who may upgrade, and after which delay.
    function _authorizeUpgrade(address) internal override restricted {}

    // ------------------------------------------------------------------ anyone

    /// @inheritdoc IMatchingTaskManager
    function respond(Task calldata task, uint256[] calldata matches, bytes calldata proof) external {
        TaskManagerStorage storage $ = _storage();
        uint32 closeBlock = task.closeBlock;
        address verifier = _check(task, $);
        uint256 slot = _ringSlot(closeBlock, task.chunk);
        require(_answeredAt($.ring[slot], closeBlock) == 0, TaskAlreadyAnswered(closeBlock, task.chunk));

        bytes32 matchesHash = _hash(matches);
        bytes32 digest = _digest(task, matchesHash);
        bytes32 signatories = IQuorumVerifier(verifier).verify(digest, closeBlock, proof);

        uint224 commitment = uint224(uint256(keccak256(abi.encode(digest, closeBlock, signatories))) >> 32);
        $.ring[slot] = block.number << 224 | commitment;
        emit TaskResponded(closeBlock, task.chunk, msg.sender, matchesHash, commitment);

        _orderBook.openLeases(closeBlock, matches, msg.sender);
    }

    /// @inheritdoc IMatchingTaskManager
    function syncResponseWindow() external {
        _syncResponseWindow(_storage());
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
        require(sum == WEIGHT_SUM, WeightsDoNotSumUp(sum, WEIGHT_SUM));
        uint256 randomness = parameters.weights[7];
        require(randomness <= MAXIMUM_RANDOMNESS_WEIGHT, RandomnessWeightTooHigh(randomness, MAXIMUM_RANDOMNESS_WEIGHT));
        require(parameters.stakeCap != 0, StakeCapIsZero());
        require(
            parameters.rankLimit >= 1 && parameters.rankLimit <= MAXIMUM_RANK_LIMIT,
            RankLimitOutOfRange(parameters.rankLimit, MAXIMUM_RANK_LIMIT)
        );
        require(
            parameters.chunkSize >= 1 && parameters.chunkSize <= MAXIMUM_CHUNK_SIZE,
            ChunkSizeOutOfRange(parameters.chunkSize, MAXIMUM_CHUNK_SIZE)
        );

        TaskManagerStorage storage $ = _storage();
        version = ++$.parametersCount;
        $.parameters[version] = parameters;
        emit MatchingParametersAdded(version, parameters);
    }

    /// @inheritdoc IMatchingTaskManager
    function setQuorumVerifier(address verifier, uint32 fromBlock) external restricted {
        require(verifier.code.length != 0, NotAContract(verifier));
        require(fromBlock > block.number, VerifierBlockNotAhead(fromBlock, block.number));

        TaskManagerStorage storage $ = _storage();
        // A change that has not come into force is replaced. One that has must first outlive the tasks decided by the verifier
        // before it, because only one previous verifier is kept.
        uint256 inForceFrom = $.verifierFrom;
        if (inForceFrom <= block.number) {
            uint256 untilBlock = inForceFrom + MAXIMUM_RESPONSE_WINDOW;
            require(inForceFrom == 0 || block.number > untilBlock, VerifierChangeTooSoon(untilBlock, block.number));
            $.previousVerifier = $.verifier;
        }
        $.verifier = verifier;
        $.verifierFrom = fromBlock;
        emit QuorumVerifierChanged(verifier, fromBlock);
    }

    /// @inheritdoc IMatchingTaskManager
    function pause() external restricted {
        _storage().paused = true;
        emit MatchingPaused();
    }

    /// @inheritdoc IMatchingTaskManager
    function resume() external restricted {
        _storage().paused = false;
        emit MatchingResumed();
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IMatchingTaskManager
    function responseDigest(Task calldata task, uint256[] calldata matches) external view returns (bytes32) {
        return _digest(task, _hash(matches));
    }

    /// @inheritdoc IMatchingTaskManager
    function answeredAt(uint32 closeBlock, uint16 chunk) external view returns (uint32) {
        if (chunk >= MAX_CHUNKS) return 0;
        return _answeredAt(_storage().ring[_ringSlot(closeBlock, chunk)], closeBlock);
    }

    /// @inheritdoc IMatchingTaskManager
    function commitmentOf(uint32 closeBlock, uint16 chunk) external view returns (uint224) {
        if (chunk >= MAX_CHUNKS) return 0;
        uint256 word = _storage().ring[_ringSlot(closeBlock, chunk)];
        return _answeredAt(word, closeBlock) == 0 ? 0 : uint224(word);
    }

    /// @inheritdoc IMatchingTaskManager
    function matchingParameters(uint16 version) external view returns (MatchingParameters memory) {
        TaskManagerStorage storage $ = _storage();
        require(version != 0 && version <= $.parametersCount, UnknownParamsVersion(version));
        return $.parameters[version];
    }

    /// @inheritdoc IMatchingTaskManager
    function matchingParametersCount() external view returns (uint16) {
        return _storage().parametersCount;
    }

    /// @inheritdoc IMatchingTaskManager
    function quorumVerifier() external view returns (address) {
        return _verifierAt(uint32(block.number), _storage());
    }

    /// @inheritdoc IMatchingTaskManager
    function quorumVerifierAt(uint32 closeBlock) external view returns (address) {
        return _verifierAt(closeBlock, _storage());
    }

    /// @inheritdoc IMatchingTaskManager
    function orderBook() external view returns (address) {
        return address(_orderBook);
    }

    /// @inheritdoc IMatchingTaskManager
    function responseWindow() external view returns (uint16) {
        return _storage().responseWindow;
    }

    /// @inheritdoc IMatchingTaskManager
    function paused() external view returns (bool) {
        return _storage().paused;
    }

    // ---------------------------------------------------------------- internal

    /// @dev Everything about a task that does not need its signatures; returns who verifies those.
    function _check(Task calldata task, TaskManagerStorage storage $) private view returns (address verifier) {
        uint32 closeBlock = task.closeBlock;
        require(!$.paused, MatchingIsPaused());
        require(task.chunk < MAX_CHUNKS, ChunkOutOfRange(task.chunk, MAX_CHUNKS));
        require(
            task.paramsVersion != 0 && task.paramsVersion <= $.parametersCount, UnknownParamsVersion(task.paramsVersion)
        );
        require(
            block.number > closeBlock && block.number <= uint256(closeBlock) + $.responseWindow,
            OutsideResponseWindow(closeBlock, block.number)
        );
        bytes32 actual = blockhash(closeBlock);
        require(task.closeBlockHash == actual, WrongCloseBlockHash(closeBlock, task.closeBlockHash, actual));
        return _verifierAt(closeBlock, $);
    }

    function _verifierAt(uint32 closeBlock, TaskManagerStorage storage $) private view returns (address) {
        return closeBlock >= $.verifierFrom ? $.verifier : $.previousVerifier;
    }

    function _syncResponseWindow(TaskManagerStorage storage $) private {
        uint16 window = _orderBook.parameters().responseWindow;
        require(
            window != 0 && window <= MAXIMUM_RESPONSE_WINDOW, ResponseWindowOutOfRange(window, MAXIMUM_RESPONSE_WINDOW)
        );
        $.responseWindow = window;
        emit ResponseWindowChanged(window);
    }

    function _ringSlot(uint32 closeBlock, uint16 chunk) private pure returns (uint256) {
        return (closeBlock % RING_BLOCKS) * MAX_CHUNKS + chunk;
    }

    /// @dev An answer comes after its close block and within the longest response window. Whatever else used the word did so
    /// a whole ring earlier or later, which is longer.
    function _answeredAt(uint256 word, uint32 closeBlock) private pure returns (uint32) {
        uint256 answered = word >> 224;
        return answered > closeBlock && answered <= uint256(closeBlock) + MAXIMUM_RESPONSE_WINDOW ? uint32(answered) : 0;
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

    function _digest(Task calldata task, bytes32 matchesHash) private view returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(DOMAIN_TYPE_HASH, NAME_HASH, VERSION_HASH, block.chainid, address(this)));
        bytes32 response = keccak256(
            abi.encode(
                RESPONSE_TYPE_HASH, task.closeBlock, task.closeBlockHash, task.chunk, task.paramsVersion, matchesHash
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, response));
    }
}
