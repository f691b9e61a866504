// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Order, OrderState, OrderTerms} from "../Types.sol";
import {Bids} from "./Bids.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {Leases} from "./Leases.sol";
import {MarketGovernance} from "./MarketGovernance.sol";
import {DigestWord, OrderId, OrderWord, PayeeWord, RankWord} from "./Resources.sol";
import {Terms} from "./Terms.sol";

/// @title Order book
/// @notice All orders, leases and capacity. Immutable like its escrow. An order costs two new slots, its first bid one, a
/// match none: bids are folded into a digest and never stored, the lease is the order's word rewritten. What happens to a lease
/// after its match is the code of {Leases}, run on this storage.
contract OrderBook is Bids {
    using DigestWord for uint256;
    using OrderWord for uint256;
    using PayeeWord for uint256;

    uint256 private constant MOST_RANKS = 8;

    Leases private immutable _leases;

    constructor(address authority, IEscrow escrow_, Parameters memory given)
        MarketGovernance(authority, escrow_, given)
    {
        _leases = new Leases(escrow_, given);
    }

    /// @dev Everything of {ILeases}. Its code is as fixed as this.
    fallback() external {
        address code = address(_leases);
        // Nothing is needed of this frame any more: it ends here.
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            calldatacopy(buffer, 0, calldatasize())
            let success := delegatecall(gas(), code, buffer, calldatasize(), 0, 0)
            returndatacopy(buffer, 0, returndatasize())
            if success { return(buffer, returndatasize()) }
            revert(buffer, returndatasize())
        }
    }

    // ------------------------------------------------------------------ users

    /// @inheritdoc IOrderBook
    function createOrder(uint32 account, uint8 token, uint16 bidWindow, OrderTerms calldata terms)
        external
        override
        returns (uint64)
    {
        return _openOrder(account, token, bidWindow, terms, msg.sender);
    }

    /// @inheritdoc IOrderBook
    function cancelOrder(uint64 orderId) external override {
        _cancelOrder(orderId, msg.sender);
    }

    /// @inheritdoc IOrderBook
    function expireOrders(uint64[] calldata orderIds) external override {
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            uint256 word = _orders[orderId].word;
            if (word.state() == OrderState.None) revert WrongState(orderId, OrderState.None);
            // Somebody was faster: nothing left to do.
            if (word.state() != OrderState.Open) continue;
            uint256 firstBlock = word.closeBlock();
            if (_orders[orderId].digest.count() != 0) firstBlock += _responseWindow + _matchWindow + 1;
            if (block.number < firstBlock) revert NotYetExpirable(orderId, firstBlock, block.number);
            _orders[orderId].word = word.withState(OrderState.Expired);
            emit OrderExpired(orderId);
            _escrow.releaseOrder(orderId, word);
        }
    }

    // ----------------------------------------------------------------- anyone

    /// @inheritdoc IOrderBook
    function settle(uint64[] calldata orderIds) external override {
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            (OrderRecord storage record, uint256 word, uint256 until) = _settleable(orderId);
            // Somebody was faster, or nothing is due yet.
            if (until == word.settledFor()) continue;
            record.word = word.withSettledFor(until);
            _settleAndCredit(orderId, word, until);
        }
    }

    /// @inheritdoc IOrderBook
    function settleAndWithdraw(uint64[] calldata orderIds, address to) external override returns (uint256 paid) {
        if (orderIds.length == 0) revert EmptyBatch();
        uint256 last = orderIds.length - 1;
        uint256 carried = 0;
        for (uint256 index = 0; index < last; ++index) {
            if (OrderId.token(orderIds[index]) != OrderId.token(orderIds[last])) {
                revert MixedTokens(orderIds[index], OrderId.token(orderIds[last]));
            }
            carried += _settleAndCarry(orderIds[index]);
        }
        return _payOut(orderIds[last], carried, to);
    }

    // ----------------------------------------------------------- task manager

    /// @inheritdoc IOrderBook
    function openLeases(uint32 closeBlock, uint256[] calldata matches, address responder) external override {
        uint256 matching = _matching;
        if (msg.sender != address(uint160(matching))) revert NotTaskManager(msg.sender);
        if (matching & MATCHING_PAUSED != 0) revert MarketPaused();
        if (block.number <= closeBlock || block.number > closeBlock + _responseWindow + _matchWindow) {
            revert OutsideResponseWindow(closeBlock, block.number);
        }
        // At most one change of a lock per word given.
        uint256[] memory changes = new uint256[](matches.length);
        uint256 changed = 0;
        uint64 previous = 0;
        uint256 cursor = 0;
        // Indices stay below the length of the calldata.
        unchecked {
            while (cursor < matches.length) {
                uint256 header = _wordAt(matches, cursor);
                uint256 end = _endOfOrder(header, cursor, matches.length);
                uint64 orderId = uint64(header >> 8);
                if (orderId <= previous) revert OrdersNotAscending(previous, orderId);
                previous = orderId;
                uint256 change = _answer(orderId, closeBlock, matches, cursor + 1, end);
                if (change != 0) changes[changed++] = change;
                cursor = end;
            }
        }
        if (changed == 0) return;
        assembly ("memory-safe") {
            mstore(changes, changed)
        }
        _escrow.openLeases(changes, responder);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IOrderBook
    function order(uint64 orderId) external view override returns (Order memory) {
        return _orders[orderId].word.unpack();
    }

    /// @inheritdoc IOrderBook
    function termsHash(uint64 orderId) external view override returns (bytes32) {
        return _orders[orderId].termsHash;
    }

    /// @inheritdoc IOrderBook
    function bidsDigest(uint64 orderId) external view override returns (bytes32 digest, uint16 count) {
        OrderRecord storage record = _orders[orderId];
        if (record.word.state() == OrderState.None) revert WrongState(orderId, OrderState.None);
        uint256 word = record.digest;
        if (word == 0) word = DigestWord.seed(orderId, record.word.closeBlock());
        return (word.digest(), uint16(word.count()));
    }

    /// @inheritdoc IOrderBook
    function orderRecord(uint64 orderId)
        external
        view
        override
        returns (uint256 word, bytes32 storedTermsHash, uint256 digestWord)
    {
        OrderRecord storage record = _orders[orderId];
        (word, storedTermsHash, digestWord) = (record.word, record.termsHash, record.digest);
        // A requeued order's slot holds the seed.
        if (digestWord.count() == 0) digestWord = 0;
    }

    /// @inheritdoc IOrderBook
    function earlierRound(uint64 orderId) external view override returns (bytes32) {
        return _orders[orderId].earlierRound;
    }

    /// @inheritdoc IOrderBook
    function claimable(uint64 orderId) external view override returns (uint256 amount, uint256 gatewayAmount) {
        (, uint256 word, uint256 until) = _settleable(orderId);
        return _escrow.netOf(orderId, word, until, _suppliers[word.supplier()].payee.gateway() != 0);
    }

    /// @inheritdoc IOrderBook
    function leases() external view override returns (address) {
        return address(_leases);
    }

    /// @inheritdoc IOrderBook
    function nonces(address signer) external view override returns (uint256) {
        return _nonces[signer];
    }

    // --------------------------------------------------------- private: matches

    /// @dev Index after the words of the order whose header stands at `cursor`.
    function _endOfOrder(uint256 header, uint256 cursor, uint256 length) private pure returns (uint256 end) {
        uint256 ranks = uint8(header);
        if (header >> 72 != 0) revert MalformedMatches(cursor);
        if (ranks > MOST_RANKS) revert TooManyRanks(uint64(header >> 8), ranks, MOST_RANKS);
        unchecked {
            end = cursor + (ranks == 0 ? 1 : 3 + ranks);
        }
        if (end > length) revert MalformedMatches(cursor);
    }

    /// @dev Only within what {_endOfOrder} has found to be there.
    function _wordAt(uint256[] calldata matches, uint256 index) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(matches.offset, shl(5, index)))
        }
    }

    /// @dev Returns what {IEscrow-openLeases} is told, zero for nothing. The order's words are those from `index` to `end`.
    function _answer(uint64 orderId, uint32 closeBlock, uint256[] calldata matches, uint256 index, uint256 end)
        private
        returns (uint256 change)
    {
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        // Cancelled, answered or requeued in the meantime: its neighbours go on.
        if (word.state() != OrderState.Open || word.closeBlock() != closeBlock) return 0;
        if (index == end) return _expire(orderId, record, word);
        uint256 resources = _wordAt(matches, index);
        unchecked {
            if (Terms.hash(resources, bytes32(_wordAt(matches, index + 1))) != record.termsHash) {
                emit AnswerIgnored(orderId);
                return 0;
            }
            // Takes the best supplier that can still serve; if none can, the order is requeued once.
            for (index += 2; index < end; ++index) {
                change = _match(orderId, record, word, resources, _wordAt(matches, index));
                if (change != 0) return change;
            }
        }
        if (word.requeued()) return _expire(orderId, record, word);
        _requeue(orderId, record, word);
    }

    /// @dev Keeps what the answer of the round that ends can be disputed with.
    function _requeue(uint64 orderId, OrderRecord storage record, uint256 word) private {
        uint256 digest = record.digest;
        uint256 closeBlock = block.number + _bidWindowOf(_bidding);
        record.earlierRound = DigestWord.round(digest, word.closeBlock());
        record.word = word.requeue(closeBlock);
        // Without a bid the slot is empty and stands for the seed, whatever the close block.
        if (digest != 0) record.digest = DigestWord.seed(orderId, closeBlock);
        emit OrderRequeued(orderId, uint32(closeBlock));
    }

    function _expire(uint64 orderId, OrderRecord storage record, uint256 word) private returns (uint256 change) {
        record.word = word.withState(OrderState.Expired);
        emit OrderExpired(orderId);
        return _lockChange(orderId, word, 0);
    }

    /// @dev Opens the lease if the supplier of this rank has room, otherwise returns zero. A rank that cannot be one counts as
    /// a supplier without room: who signed it can be proven wrong, the order's next rank and its neighbours go on.
    function _match(uint64 orderId, OrderRecord storage record, uint256 word, uint256 resources, uint256 rank)
        private
        returns (uint256 change)
    {
        uint256 rate = RankWord.rate(rank);
        if (rank >> RankWord.WIDTH != 0 || rate == 0 || rate > word.rate()) return 0;
        uint32 supplier = RankWord.supplier(rank);
        uint256 gpuEntry = RankWord.gpuEntry(rank);
        (bool fits, uint256 class) = _reserve(supplier, resources, gpuEntry);
        if (!fits) return 0;
        record.word = word.leased(rate, block.timestamp, supplier, gpuEntry, class);
        emit LeaseCreated(orderId, supplier, uint96(rate), uint32(block.timestamp), uint8(gpuEntry));
        return _lockChange(orderId, word, rate);
    }

    function _lockChange(uint64 orderId, uint256 word, uint256 rate) private pure returns (uint256) {
        return rate | (word.rate() << 84) | (word.duration() << 168) | (word.feeSchedule() << 197)
            | (OrderId.accountAndToken(orderId) << 206);
    }

    // --------------------------------------------------------- private: leases

    function _settleAndCredit(uint64 orderId, uint256 word, uint256 until) private {
        uint256 payee = _suppliers[word.supplier()].payee;
        _suppliers[word.supplier()].payee = payee | PayeeWord.credit(orderId);
        address gatewayPayee = _gatewayPayee(orderId, payee.gateway());
        (uint256 amount, uint256 gatewayAmount) =
            _escrow.settleAndCredit(orderId, word, until, payee.owner(), gatewayPayee);
        _emitSettled(orderId, word.supplier(), until, amount, payee.gateway(), gatewayAmount);
    }

    /// @dev Writes what a lease of the caller is settled to. Its word is the one before.
    function _settleOwn(uint64 orderId) private returns (uint256 word, uint256 until, uint256 payee) {
        OrderRecord storage record;
        (record, word, until) = _settleable(orderId);
        payee = _suppliers[word.supplier()].payee;
        if (payee.owner() != msg.sender) revert NotSupplierOwner(orderId, word.supplier(), msg.sender);
        if (until != word.settledFor()) record.word = word.withSettledFor(until);
    }

    /// @dev Settles a lease of a withdrawal before the last one; what it pays travels on.
    function _settleAndCarry(uint64 orderId) private returns (uint256 amount) {
        (uint256 word, uint256 until, uint256 payee) = _settleOwn(orderId);
        if (until == word.settledFor()) return 0;
        address gatewayPayee = _gatewayPayee(orderId, payee.gateway());
        uint256 gatewayAmount;
        (amount, gatewayAmount) = _escrow.settleLease(orderId, word, until, gatewayPayee);
        _emitSettled(orderId, word.supplier(), until, amount, payee.gateway(), gatewayAmount);
    }

    /// @dev Settles the last lease of a withdrawal and sends everything at once, with a credit where there may be one.
    function _payOut(uint64 orderId, uint256 carried, address to) private returns (uint256) {
        (uint256 word, uint256 until, uint256 payee) = _settleOwn(orderId);
        (uint256 amount, uint256 gatewayAmount, uint256 paid) = _pay(orderId, word, until, carried, payee, to);
        if (paid == 0) revert NothingDue(orderId);
        if (until != word.settledFor()) {
            _emitSettled(orderId, word.supplier(), until, amount, payee.gateway(), gatewayAmount);
        }
        return paid;
    }

    function _pay(uint64 orderId, uint256 word, uint256 until, uint256 carried, uint256 payee, address to)
        private
        returns (uint256 amount, uint256 gatewayAmount, uint256 paid)
    {
        address creditor = address(0);
        if (payee & PayeeWord.credit(orderId) != 0) {
            _suppliers[word.supplier()].payee = payee & ~PayeeWord.credit(orderId);
            creditor = msg.sender;
        }
        address gatewayPayee = _gatewayPayee(orderId, payee.gateway());
        return _escrow.settleAndPay(orderId, word, until, carried, creditor, gatewayPayee, to);
    }

    /// @dev An order that is or was a lease, and the seconds after its start up to which it can be paid now.
    function _settleable(uint64 orderId)
        private
        view
        returns (OrderRecord storage record, uint256 word, uint256 until)
    {
        record = _orders[orderId];
        word = record.word;
        OrderState state = word.state();
        if (state != OrderState.Leased && state < OrderState.ClosedByUser) revert WrongState(orderId, state);
        uint256 elapsed = block.timestamp - word.start();
        if (elapsed < _challengeWindow) return (record, word, word.settledFor());
        until = word.duration();
        if (state == OrderState.Leased && elapsed < until) until = elapsed;
    }
}
