// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {ILeases} from "../market/ILeases.sol";
import {IOrderBook} from "../market/IOrderBook.sol";
import {OrderWord, RankWord, RequirementWord} from "../market/Resources.sol";
import {Terms} from "../market/Terms.sol";
import {LeaseResources, MatchingParameters, OrderState, Task} from "../Types.sol";
import {ICommissionSplit} from "./ICommissionSplit.sol";
import {IMatchingDisputes} from "./IMatchingDisputes.sol";
import {IMatchingRule} from "./IMatchingRule.sol";
import {IMatchingTaskManager} from "./IMatchingTaskManager.sol";
import {ISlasher} from "./ISlasher.sol";

/// @title Disputes about matches
/// @dev Not upgradeable: the order book lets it undo leases, and changes its name only after a delay longer than every window.
contract MatchingDisputes is IMatchingDisputes, AccessManaged {
    using OrderWord for uint256;

    /// @dev One slot.
    /// @param place Of the first order proven wrong, counted in the answer; the others have bits of their own.
    struct Verdict {
        uint32 provenAt;
        uint32 closeBlock;
        uint32 place;
        address challenger;
    }

    // -------------------------------------------------------------- constants

    /// @dev The task manager's response ring: an answer is there for this many blocks after its close block.
    uint256 private constant RING_BLOCKS = 1024;
    /// @dev What the reserve may use of the challenger's gas. Two new slots and a few rewritten ones, at the next fork's prices.
    uint256 private constant REWARD_GAS = 400_000;

    // ---------------------------------------------------------------- storage

    IMatchingTaskManager private immutable _taskManager;
    IOrderBook private immutable _orderBook;
    /// @dev Seconds after a lease's start in which it can be undone: the order book's, which never change.
    uint256 private immutable _payoutHold;
    /// @dev Blocks after a close block in which an answer is taken.
    uint256 private immutable _responseWindow;
    /// @inheritdoc IMatchingDisputes
    uint32 public immutable challengeBlocks;

    /// @inheritdoc IMatchingDisputes
    address public reserve;
    /// @inheritdoc IMatchingDisputes
    mapping(address verifier => address) public slasherOf;
    mapping(bytes32 verdict => Verdict) private _verdicts;
    /// @dev Places in the answer proven wrong after the first, 256 a word.
    mapping(bytes32 verdict => mapping(uint256 index => uint256)) private _provenPlaces;
    /// @inheritdoc IMatchingDisputes
    mapping(bytes32 verdict => mapping(address operator => bool)) public isSlashed;

    // ------------------------------------------------------------ construction

    /// @param blocks See {IMatchingDisputes-challengeBlocks}. Answers must still be in the ring when they are challenged.
    constructor(address authority, IMatchingTaskManager manager, uint32 blocks) AccessManaged(authority) {
        if (address(manager).code.length == 0) revert NotAContract(address(manager));
        IOrderBook book = IOrderBook(manager.orderBook());
        IOrderBook.Parameters memory windows = book.parameters();
        uint256 limit = RING_BLOCKS - windows.responseWindow;
        if (blocks == 0 || blocks > limit) revert ChallengeWindowOutOfRange(blocks, limit);
        _taskManager = manager;
        _orderBook = book;
        _payoutHold = windows.challengeWindow;
        _responseWindow = windows.responseWindow;
        challengeBlocks = blocks;
    }

    // ------------------------------------------------------------------ anyone

    /// @inheritdoc IMatchingDisputes
    function challenge(uint64 orderId, Inputs calldata inputs, Answer calldata answer)
        external
        returns (bytes32 verdict)
    {
        // Check
        verdict = _checkAnswer(answer);
        (uint256 place, uint256[] calldata entry) = _entryOf(orderId, answer.matches);
        (uint256[] memory right, uint256 orderWord, bytes32 restHash) = _replay(orderId, inputs, answer.task);
        if (_isRight(entry, right, inputs.terms.resources, restHash)) revert AnswerIsRight(orderId);
        bool undone = _isUndoable(orderId, orderWord, answer.task.closeBlock) && _isWrongLease(orderWord, entry, right)
            && _wasOrdered(orderId, inputs.bids.length);

        // Effect
        bool first = _prove(verdict, orderId, place, answer.task.closeBlock);
        emit AnswerProvenWrong(verdict, orderId, answer.task.closeBlock, answer.task.chunk, msg.sender, undone);

        // Interaction
        if (undone) ILeases(address(_orderBook)).undoLease(orderId, LeaseResources(inputs.terms.resources, restHash));
        if (first && !_reward()) emit RewardMissed(verdict, msg.sender);
    }

    /// @inheritdoc IMatchingDisputes
    function slash(
        bytes32 digest,
        uint32 closeBlock,
        bytes32 signatories,
        address[] calldata operators,
        bytes calldata evidence
    ) external {
        bytes32 verdict = keccak256(abi.encode(digest, closeBlock, signatories));
        if (_verdicts[verdict].provenAt == 0) revert UnknownVerdict(verdict);
        address[] memory remaining = _markRemaining(verdict, operators);
        emit SignersSlashed(verdict, remaining);
        _slasherAt(closeBlock).slash(verdict, closeBlock, signatories, remaining, evidence);
    }

    /// @inheritdoc IMatchingDisputes
    function reportEquivocation(
        uint64 orderId,
        Answer calldata first,
        Answer calldata second,
        address operator,
        bytes calldata evidence
    ) external returns (bytes32 verdict) {
        uint32 closeBlock = first.task.closeBlock;
        // As late as an answer that was taken in the last block of its window can be challenged.
        _checkWindow(closeBlock, uint256(closeBlock) + _responseWindow + challengeBlocks);
        _checkContradiction(orderId, first, second);
        // One for every close block, so that many pairs of the same signatures cost an operator no more than one.
        verdict = keccak256(abi.encode("equivocation", closeBlock));
        _markSlashed(verdict, operator);
        emit EquivocationProven(verdict, orderId, operator, closeBlock, msg.sender);

        bytes32[2] memory digests = [
            _taskManager.responseDigest(first.task, first.matches),
            _taskManager.responseDigest(second.task, second.matches)
        ];
        _slasherAt(closeBlock).slashEquivocator(verdict, closeBlock, digests, operator, evidence);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IMatchingDisputes
    function setSlasher(address verifier, address slasher) external restricted {
        if (verifier.code.length == 0) revert NotAContract(verifier);
        if (slasher.code.length == 0) revert NotAContract(slasher);
        slasherOf[verifier] = slasher;
        emit SlasherSet(verifier, slasher);
    }

    /// @inheritdoc IMatchingDisputes
    function setReserve(address reserve_) external restricted {
        if (reserve_.code.length == 0) revert NotAContract(reserve_);
        reserve = reserve_;
        emit ReserveSet(reserve_);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IMatchingDisputes
    function verdictOf(bytes32 verdict) external view returns (uint32 provenAt, uint32 closeBlock, address challenger) {
        Verdict storage stored = _verdicts[verdict];
        return (stored.provenAt, stored.closeBlock, stored.challenger);
    }

    /// @inheritdoc IMatchingDisputes
    function taskManager() external view returns (address) {
        return address(_taskManager);
    }

    /// @inheritdoc IMatchingDisputes
    function orderBook() external view returns (address) {
        return address(_orderBook);
    }

    // --------------------------------------------------------- private: checks

    /// @dev The answer is the one that the ring holds, which the task manager took: its close block hash is the chain's, a
    /// quorum signed it, `signatories` did.
    function _checkAnswer(Answer calldata answer) private view returns (bytes32 verdict) {
        uint32 closeBlock = answer.task.closeBlock;
        uint16 chunk = answer.task.chunk;
        bytes32 digest = _taskManager.responseDigest(answer.task, answer.matches);
        verdict = keccak256(abi.encode(digest, closeBlock, answer.signatories));
        uint224 given = uint224(uint256(verdict) >> 32);
        uint224 stored = _taskManager.commitmentOf(closeBlock, chunk);
        if (given != stored) revert WrongAnswer(closeBlock, chunk, given, stored);
        uint32 answeredAt = _taskManager.answeredAt(closeBlock, chunk);
        _checkWindow(answeredAt, uint256(answeredAt) + challengeBlocks);
    }

    function _checkWindow(uint32 begun, uint256 lastBlock) private view {
        if (block.number > lastBlock) revert ChallengeWindowOver(begun, lastBlock, block.number);
    }

    /// @dev What an answer says about an order: its header, then, unless it has no rank, resource word, rest hash and ranks.
    /// @return place How many orders stand before it.
    function _entryOf(uint64 orderId, uint256[] calldata matches)
        private
        pure
        returns (uint256 place, uint256[] calldata entry)
    {
        uint256 cursor = 0;
        for (; cursor < matches.length; ++place) {
            uint256 header = matches[cursor];
            uint256 ranks = uint8(header);
            uint256 end = cursor + (ranks == 0 ? 1 : 3 + ranks);
            if (header >> 72 != 0 || end > matches.length) revert MalformedMatches(cursor);
            if (header >> 8 == orderId) return (place, matches[cursor:end]);
            cursor = end;
        }
        revert NotInAnswer(orderId);
    }

    /// @dev Runs the rule for the order as the task found it, over inputs that the order book committed to.
    function _replay(uint64 orderId, Inputs calldata inputs, Task calldata task)
        private
        view
        returns (uint256[] memory right, uint256 orderWord, bytes32 restHash)
    {
        uint256 storedBids;
        (orderWord, restHash, storedBids) = _checkTerms(orderId, inputs);
        uint256 bids;
        (bids, right) = _rank(orderId, inputs, task);
        _checkBids(orderId, bids, task.closeBlock, orderWord, storedBids);
    }

    function _rank(uint64 orderId, Inputs calldata inputs, Task calldata task)
        private
        view
        returns (uint256 bids, uint256[] memory right)
    {
        // The order names the parameters, whatever version the answer claims.
        MatchingParameters memory parameters =
            _taskManager.matchingParameters(RequirementWord.paramsVersion(inputs.terms.requirements));
        return IMatchingRule(parameters.rule)
            .rank(orderId, task.closeBlock, task.closeBlockHash, inputs.terms, parameters, inputs.bids, inputs.bidOrder);
    }

    /// @dev Equal hashes mean equal words, which were checked when the order was created.
    function _checkTerms(uint64 orderId, Inputs calldata inputs)
        private
        view
        returns (uint256 orderWord, bytes32 restHash, uint256 storedBids)
    {
        bytes32 stored;
        (orderWord, stored, storedBids) = _orderBook.orderRecord(orderId);
        restHash = Terms.restHash(inputs.terms);
        bytes32 given = Terms.hash(inputs.terms.resources, restHash);
        if (given != stored) revert WrongTerms(orderId, given, stored);
    }

    /// @dev All bids of the round that the task answered: the last one, or the one before an order was requeued. An order that
    /// was never in the task has neither.
    function _checkBids(uint64 orderId, uint256 bids, uint32 closeBlock, uint256 orderWord, uint256 stored)
        private
        view
    {
        if (orderWord.closeBlock() == closeBlock) {
            if (bids != stored) revert WrongBids(orderId, bids, stored);
        } else {
            bytes32 given = keccak256(abi.encode(bids, closeBlock));
            bytes32 earlier = _orderBook.earlierRound(orderId);
            if (given != earlier) revert WrongBids(orderId, uint256(given), uint256(earlier));
        }
    }

    function _checkContradiction(uint64 orderId, Answer calldata first, Answer calldata second) private pure {
        (, uint256[] calldata one) = _entryOf(orderId, first.matches);
        (, uint256[] calldata other) = _entryOf(orderId, second.matches);
        bool sameBlock =
            first.task.closeBlock == second.task.closeBlock && first.task.closeBlockHash == second.task.closeBlockHash;
        if (!sameBlock || _hash(one) == _hash(other)) revert NoContradiction(orderId);
    }

    function _hash(uint256[] calldata words) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(words));
    }

    // -------------------------------------------------------- private: verdict

    /// @dev Whether the entry is the one that the rule's ranks make.
    function _isRight(uint256[] calldata entry, uint256[] memory right, uint256 resources, bytes32 restHash)
        private
        pure
        returns (bool)
    {
        if (uint8(entry[0]) != right.length) return false;
        if (right.length == 0) return true;
        if (entry[1] != resources || bytes32(entry[2]) != restHash) return false;
        for (uint256 i = 0; i < right.length; ++i) {
            if (entry[3 + i] != right[i]) return false;
        }
        return true;
    }

    /// @dev A lease that came from an update has a close block as well, but no answer opened it, whatever one says. Nobody bid
    /// on it: the order book need not be asked about others.
    function _wasOrdered(uint64 orderId, uint256 bids) private view returns (bool) {
        return bids != 0 || ILeases(address(_orderBook)).workloadOf(orderId) == orderId;
    }

    /// @dev Whether an answer to this close block opened a lease that has not been paid from.
    function _isUndoable(uint64 orderId, uint256 orderWord, uint32 closeBlock) private view returns (bool) {
        OrderState state = orderWord.state();
        bool opened =
            state == OrderState.Leased || (state >= OrderState.ClosedByUser && state != OrderState.ClosedUndone);
        // A verdict stands, and costs its signers, even when the order book listens to another disputes contract by now.
        return opened && orderWord.closeBlock() == closeBlock && block.timestamp < orderWord.start() + _payoutHold
            && !_taskManager.matchedByRule(orderId)
            && _orderBook.collaborator(IOrderBook.Collaborator.Disputes) == address(this);
    }

    /// @dev Whether the entry may have opened the lease, and the rule's ranks do not lead to it. Its best supplier is right
    /// whatever else was answered; a later one only if the answer had the same suppliers before it, because then those were
    /// tried and had no room. An entry that does not name the lease did not open it: another chunk's answer did.
    function _isWrongLease(uint256 orderWord, uint256[] calldata entry, uint256[] memory right)
        private
        pure
        returns (bool)
    {
        uint256 ranks = uint8(entry[0]);
        for (uint256 i = 0; i < ranks; ++i) {
            if (_isLeaseOf(orderWord, entry[3 + i])) return !_isRightLease(orderWord, entry, right);
        }
        return false;
    }

    function _isRightLease(uint256 orderWord, uint256[] calldata entry, uint256[] memory right)
        private
        pure
        returns (bool)
    {
        if (right.length == 0) return false;
        if (_isLeaseOf(orderWord, right[0])) return true;
        uint256 ranks = uint8(entry[0]);
        for (uint256 i = 0; i < ranks && i < right.length; ++i) {
            if (entry[3 + i] != right[i]) return false;
            if (_isLeaseOf(orderWord, right[i])) return true;
        }
        return false;
    }

    function _isLeaseOf(uint256 orderWord, uint256 rank) private pure returns (bool) {
        return orderWord.supplier() == RankWord.supplier(rank) && orderWord.rate() == RankWord.rate(rank)
            && orderWord.gpuEntry() == RankWord.gpuEntry(rank);
    }

    /// @dev Returns whether it is the first proof against the answer.
    function _prove(bytes32 verdict, uint64 orderId, uint256 place, uint32 closeBlock) private returns (bool first) {
        Verdict memory stored = _verdicts[verdict];
        if (stored.provenAt == 0) {
            _verdicts[verdict] = Verdict(uint32(block.number), closeBlock, uint32(place), msg.sender);
            return true;
        }
        uint256 proven = _provenPlaces[verdict][place >> 8];
        uint256 bit = 1 << (place & 255);
        if (stored.place == place || proven & bit != 0) revert AlreadyProven(orderId);
        _provenPlaces[verdict][place >> 8] = proven | bit;
    }

    /// @dev A reserve that fails, or eats its gas, keeps nobody from proving an answer wrong. Of what it returns one word
    /// is looked at: the rest could be long.
    function _reward() private returns (bool rewarded) {
        address reserve_ = reserve;
        if (reserve_ == address(0)) return false;
        bytes memory input = abi.encodeCall(ICommissionSplit.rewardChallenger, (msg.sender));
        assembly ("memory-safe") {
            rewarded := call(REWARD_GAS, reserve_, 0, add(input, 0x20), mload(input), 0, 0x20)
            rewarded := and(rewarded, and(gt(returndatasize(), 0x1f), iszero(iszero(mload(0)))))
        }
    }

    // ------------------------------------------------------- private: slashing

    /// @dev Those who were not slashed yet, now marked. Who slashes one member of another's batch first does not stop the batch.
    function _markRemaining(bytes32 verdict, address[] calldata operators)
        private
        returns (address[] memory remaining)
    {
        if (operators.length == 0) revert NoOperators();
        remaining = new address[](operators.length);
        uint256 count = 0;
        for (uint256 i = 0; i < operators.length; ++i) {
            if (isSlashed[verdict][operators[i]]) continue;
            isSlashed[verdict][operators[i]] = true;
            remaining[count++] = operators[i];
        }
        if (count == 0) revert AlreadySlashed(verdict, operators[0]);
        assembly ("memory-safe") {
            mstore(remaining, count)
        }
    }

    function _markSlashed(bytes32 verdict, address operator) private {
        if (isSlashed[verdict][operator]) revert AlreadySlashed(verdict, operator);
        isSlashed[verdict][operator] = true;
    }

    function _slasherAt(uint32 closeBlock) private view returns (ISlasher) {
        address verifier = _taskManager.quorumVerifierAt(closeBlock);
        address slasher = slasherOf[verifier];
        if (slasher == address(0)) revert NoSlasher(verifier);
        return ISlasher(slasher);
    }
}
