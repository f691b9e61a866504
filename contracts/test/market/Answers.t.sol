// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Whatever a quorum signs about one order, and whatever becomes of that order meanwhile, its neighbours in the answer are
/// settled, and for a bounded price.
contract AnswersTest is MarketTest {
    uint96 private constant RATE = 90e18;

    address private _owner;
    uint32 private _provider;
    address private _second;
    uint32 private _secondId;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        (_second, _secondId) = _addProvider("second");
    }

    // -------------------------------------------------------------- neighbours

    function test_neighbour_ofACancelledOrder() public {
        (uint64 before, uint64 failing, uint64 after_) = _three();
        vm.prank(user);
        book.cancelOrder(failing);
        _answer(before, failing, after_, _matches(failing, _terms(), _rank(_provider, RATE)));
        assertState(failing, OrderState.Cancelled);
    }

    function test_neighbour_ofAnOrderWithoutCapacity() public {
        (uint64 before, uint64 failing, uint64 after_) = _three();
        (, uint32 small) = _addProvider("small", _capacity(99, 65_536, 4_096));
        _answer(before, failing, after_, _matches(failing, _terms(), _rank(small, RATE)));
        assertState(failing, OrderState.Open);
        assertTrue(book.order(failing).requeued, "requeued");
    }

    function test_neighbour_ofAnOrderOfASuspendedSupplier() public {
        (uint64 before, uint64 failing, uint64 after_) = _three();
        registry.suspend(_secondId);
        _answer(before, failing, after_, _matches(failing, _terms(), _rank(_secondId, RATE)));
        assertTrue(book.order(failing).requeued, "requeued");
    }

    function test_neighbour_ofAMalformedRank() public {
        uint256[4] memory bad = [
            _rank(_secondId, RATE) | (1 << 150),
            _rank(_secondId, RATE) | (1 << 255),
            // No rate.
            _rank(_secondId, 0),
            // Nobody.
            _rank(0, RATE)
        ];
        for (uint256 index = 0; index < bad.length; ++index) {
            (uint64 before, uint64 failing, uint64 after_) = _three();
            uint256[] memory ranks = new uint256[](2);
            (ranks[0], ranks[1]) = (bad[index], _rank(_secondId, 80e18));
            _answer(before, failing, after_, _matches(failing, _terms(), ranks));
            // The next rank serves.
            Order memory order = book.order(failing);
            assertEq(order.supplier, _secondId, "supplier");
            assertEq(order.rate, 80e18, "rate");
        }
    }

    function test_neighbour_ofARateAboveTheMaximum() public {
        (uint64 before, uint64 failing, uint64 after_) = _three();
        _answer(before, failing, after_, _matches(failing, _terms(), _rank(_secondId, 100e18 + 1)));
        assertTrue(book.order(failing).requeued, "requeued, never leased above its maximum");
        (before, failing, after_) = _three();
        _answer(before, failing, after_, _matches(failing, _terms(), _rank(_secondId, (1 << 84) - 1)));
        assertTrue(book.order(failing).requeued, "requeued, never leased above its maximum");
        assertFalse(book.hasLease(_secondId), "no lease");
    }

    function test_neighbour_ofWrongResourcesOrRestHash() public {
        for (uint256 word = 1; word <= 2; ++word) {
            (uint64 before, uint64 failing, uint64 after_) = _three();
            uint32 closeBlock = book.order(failing).closeBlock;
            uint256[] memory wrong = _matches(failing, _terms(), _rank(_secondId, RATE));
            wrong[word] ^= 1;
            vm.recordLogs();
            _answer(before, failing, after_, wrong);
            assertTrue(_emitted(vm.getRecordedLogs(), IOrderBook.AnswerIgnored.selector, failing), "said so");
            Order memory order = book.order(failing);
            assertEq(uint256(order.state), uint256(OrderState.Open), "still open");
            assertEq(order.closeBlock, closeBlock, "in the same close block");
            assertFalse(order.requeued, "not requeued");

            // The rule can still be run for it.
            vm.roll(uint256(closeBlock) + RESPONSE_WINDOW + 1);
            _openLeases(closeBlock, _matches(failing, _terms(), _rank(_secondId, RATE)));
            assertState(failing, OrderState.Leased);
        }
    }

    /// @dev The account's owner spends what is unlocked; the lock of an order cannot be spent.
    function test_neighbour_ofAnAccountThatWasEmptied() public {
        (uint64 before, uint64 failing, uint64 after_) = _three();
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, unlocked, user);
        _answer(before, failing, after_, _matches(failing, _terms(), _rank(_secondId, RATE)));
        assertState(failing, OrderState.Leased);
    }

    // ----------------------------------------------------------- close blocks

    function test_anOrderOfAnotherCloseBlockIsNotTouched() public {
        OrderTerms memory terms = _terms();
        uint64 early = _createOrder(terms);
        vm.prank(user);
        uint64 late = book.createOrder(account, PLAIN_TOKEN, 9, terms);
        uint32 closeBlock = book.order(early).closeBlock;
        uint32 later = book.order(late).closeBlock;
        vm.roll(uint256(later) + 1);
        // Signed for the close block of the other, in both directions.
        _openLeases(closeBlock, _matches(late, terms, _rank(_provider, RATE)));
        _openLeases(later, _matches(early, terms, _rank(_provider, RATE)));
        _openLeases(later, _matches(early, terms, new uint256[](0)));
        assertState(early, OrderState.Open);
        assertState(late, OrderState.Open);
        assertFalse(book.hasLease(_provider), "no lease");
        _openLeases(closeBlock, _matches(early, terms, _rank(_provider, RATE)));
        assertState(early, OrderState.Leased);
    }

    function test_aLateAnswerDoesNotReachARequeuedOrder() public {
        OrderTerms memory terms = _terms();
        uint64 orderId = _createOrder(terms);
        _bid(_owner, orderId, RATE);
        uint32 first = book.order(orderId).closeBlock;
        vm.roll(uint256(first) + 1);
        _openLeases(first, _matches(orderId, terms, _rank(77, RATE)));
        assertTrue(book.order(orderId).requeued, "requeued");

        // Both rounds' windows are open; an answer to the first says nothing any more.
        uint32 second = book.order(orderId).closeBlock;
        vm.roll(uint256(second) + 1);
        assertLe(block.number, uint256(first) + RESPONSE_WINDOW, "the first round's window is still open");
        _openLeases(first, _matches(orderId, terms, _rank(_provider, RATE)));
        _openLeases(first, _matches(orderId, terms, new uint256[](0)));
        assertState(orderId, OrderState.Open);
        assertEq(book.order(orderId).closeBlock, second, "close block");
        _openLeases(second, _matches(orderId, terms, _rank(_provider, RATE)));
        assertState(orderId, OrderState.Leased);
    }

    // ----------------------------------------------------------- what is kept

    function test_orderRecord_isWhatIsStored() public {
        OrderTerms memory terms = _terms();
        uint64 orderId = _createOrder(terms);
        (uint256 word, bytes32 termsHash, uint256 digestWord) = book.orderRecord(orderId);
        Order memory order = book.order(orderId);
        assertEq(word & ((1 << 84) - 1), order.rate, "rate");
        assertEq(uint32(word >> 174), order.closeBlock, "close block");
        assertEq(word >> 251, uint256(OrderState.Open), "state");
        assertEq(termsHash, book.termsHash(orderId), "terms hash");
        assertEq(digestWord, 0, "no bid");

        _bid(_owner, orderId, RATE);
        (,, digestWord) = book.orderRecord(orderId);
        (bytes32 digest, uint16 count) = book.bidsDigest(orderId);
        assertEq(digestWord, uint256(digest) | count, "digest and count");
        (word, termsHash, digestWord) = book.orderRecord(77);
        assertEq(word | uint256(termsHash) | digestWord, 0, "unknown order");
    }

    /// @dev What the first round was decided on stays provable; without bids there is no digest in either round.
    function test_earlierRound_isKeptAtTheRequeue() public {
        OrderTerms memory terms = _terms();
        uint64 withBid = _createOrder(terms);
        uint64 withoutBid = _createOrder(terms);
        _bid(_owner, withBid, RATE);
        (,, uint256 digestWord) = book.orderRecord(withBid);
        assertEq(book.earlierRound(withBid), bytes32(0), "not yet");
        uint256 closeBlock = book.order(withBid).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(
            closeBlock, _join(_matches(withBid, terms, _rank(77, RATE)), _matches(withoutBid, terms, _rank(77, RATE)))
        );
        assertEq(book.earlierRound(withBid), keccak256(abi.encode(digestWord, closeBlock)), "with a bid");
        assertEq(book.earlierRound(withoutBid), keccak256(abi.encode(0, closeBlock)), "without one");

        uint64[2] memory orders = [withBid, withoutBid];
        for (uint256 index = 0; index < 2; ++index) {
            (,, digestWord) = book.orderRecord(orders[index]);
            assertEq(digestWord, 0, "no bid in the second round");
            (bytes32 digest, uint16 count) = book.bidsDigest(orders[index]);
            bytes32 seed = keccak256(abi.encode(orders[index], book.order(orders[index]).closeBlock));
            assertEq(digest, seed & ~bytes32(uint256(0xffff)), "seed");
            assertEq(count, 0, "bids");
        }
        // Written once: the second failure ends the order.
        bytes32 kept = book.earlierRound(withBid);
        closeBlock = book.order(withBid).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(withBid, terms, _rank(77, RATE)));
        assertState(withBid, OrderState.Expired);
        assertEq(book.earlierRound(withBid), kept, "unchanged");
    }

    // --------------------------------------------------------------------- gas

    /// @dev Whatever state bidders and accounts have got themselves into: pending decreases that have come due, suspended,
    /// full or unknown suppliers, malformed ranks, first rounds and second ones, other tokens and fee schedules.
    function test_fuzz_gasOfAnOrderIsBounded(uint256 seed) public {
        uint256 count = 2 + seed % 6;
        uint32[] memory suppliers = _adversaries(seed);
        uint64[] memory orders = new uint64[](count);
        for (uint256 index = 0; index < count; ++index) {
            orders[index] = _orderOf(uint256(keccak256(abi.encode(seed, "order", index))));
        }
        // Half of the runs answer a second round.
        if (seed >> 255 == 1) {
            uint256 first = block.number + BID_WINDOW;
            vm.roll(first + 1);
            _openLeases(first, _answerOf(orders, suppliers, 0));
        }
        uint256 closeBlock = block.number + BID_WINDOW;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _answerOf(orders, suppliers, seed));
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        // The transaction, the responder's first credits in two tokens, and for every order: its words read, eight suppliers
        // of three cold slots each looked at, its record written (one new slot), its account's word written.
        assertLe(gas, 100_000 + count * ORDER_GAS, "gas of an answer");
    }

    /// @dev A hundred such orders fit a transaction with the proof.
    uint256 private constant ORDER_GAS = 130_000;

    /// @dev Eight suppliers, each in a bad state of its own.
    function _adversaries(uint256 seed) private returns (uint32[] memory ids) {
        ids = new uint32[](8);
        for (uint256 index = 0; index < ids.length; ++index) {
            uint256 state = uint256(keccak256(abi.encode(seed, "supplier", index)));
            string memory name = string.concat("adversary", vm.toString(index));
            uint256 cpu = state >> 8 & 1 == 0 ? 150 : 50;
            uint256 capacity = _capacity(cpu, 65_536, 4_096);
            for (uint256 entry = 0; entry < 4; ++entry) {
                capacity = _withGpus(capacity, entry, 1 + entry, 4);
            }
            address owner;
            (owner, ids[index]) = _addProvider(name, capacity);
            if (state % 4 == 0) registry.suspend(ids[index]);
            if (state % 4 == 1) {
                // A decrease that swaps every GPU model and comes due before the answer, or does not.
                uint256 wish = _capacity(cpu - (state >> 16) % 50, 60_000, 4_000);
                for (uint256 entry = 0; entry < 4; ++entry) {
                    wish = _withGpus(wish, entry, 9 + entry, 3);
                }
                vm.prank(owner);
                book.setCapacity(wish);
            }
            if (state % 4 == 2) ids[index] += 1_000_000;
        }
        if (seed >> 254 & 1 == 1) vm.roll(block.number + MAXIMUM_BID_WINDOW + RESPONSE_WINDOW + MATCH_WINDOW + 1);
    }

    function _orderOf(uint256 state) private returns (uint64 orderId) {
        uint8 token = state & 1 == 0 ? PLAIN_TOKEN : SPON_TOKEN;
        uint32 opened = escrow.open(user);
        _deposit(opened, token, 1_000e18);
        vm.prank(user);
        orderId = book.createOrder(opened, token, 0, _terms());
        // A schedule that is not the token's any more is read from its own slot.
        if (state & 2 != 0) {
            tokens.setFeeSchedule(token, token == PLAIN_TOKEN ? SPON_SCHEDULE : PLAIN_SCHEDULE);
        }
        if (state & 4 != 0) _bid(_owner, orderId, RATE);
        if (state & 56 == 56) {
            vm.prank(user);
            book.cancelOrder(orderId);
        }
    }

    /// @dev Seed zero: nobody can serve.
    function _answerOf(uint64[] memory orders, uint32[] memory suppliers, uint256 seed)
        private
        pure
        returns (uint256[] memory words)
    {
        OrderTerms memory terms = _terms();
        for (uint256 index = 0; index < orders.length; ++index) {
            uint256 state = uint256(keccak256(abi.encode(seed, "answer", index)));
            uint256[] memory ranks = new uint256[](seed == 0 ? 1 : state % 9);
            for (uint256 rank = 0; rank < ranks.length; ++rank) {
                uint256 which = uint256(keccak256(abi.encode(state, rank)));
                ranks[rank] = _rank(suppliers[which % 8], RATE + rank) | (which >> 8 & 3);
                if (which >> 16 & 7 == 0) ranks[rank] |= 1 << 150;
                if (seed == 0) ranks[rank] = _rank(77, RATE);
            }
            uint256[] memory own = _matches(orders[index], terms, ranks);
            if (seed != 0 && state >> 32 & 7 == 0 && ranks.length != 0) own[2] ^= 1;
            words = _join(words, own);
        }
    }

    /// @dev The dearest order there is: eight suppliers with decreases that have come due, all of them full, in its first
    /// round, with a bid.
    function test_gasOfTheDearestOrder() public {
        uint256[] memory ranks = new uint256[](8);
        for (uint256 index = 0; index < 8; ++index) {
            uint256 capacity = _capacity(150, 65_536, 4_096);
            for (uint256 entry = 0; entry < 4; ++entry) {
                capacity = _withGpus(capacity, entry, 1 + entry, 4);
            }
            (address owner, uint32 id) = _addProvider(string.concat("full", vm.toString(index)), capacity);
            uint256 wish = _capacity(50, 60_000, 4_000);
            for (uint256 entry = 0; entry < 4; ++entry) {
                wish = _withGpus(wish, entry, 9 + entry, 3);
            }
            vm.prank(owner);
            book.setCapacity(wish);
            ranks[index] = _rank(id, RATE);
        }
        vm.roll(block.number + MAXIMUM_BID_WINDOW + RESPONSE_WINDOW + MATCH_WINDOW + 1);
        uint64 first = _createOrder();
        uint64 second = _createOrder();
        _bid(_owner, first, RATE);
        _bid(_owner, second, RATE);
        uint256 closeBlock = book.order(first).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(first, _terms(), ranks));
        uint256 gas = vm.snapshotGasLastCall("Market", "openLeases.dearest");
        assertTrue(book.order(first).requeued, "requeued");
        assertLe(gas, 30_000 + ORDER_GAS, "the dearest order");
    }

    // ------------------------------------------------------------------ private

    /// @dev Three orders of one close block; the middle one is to fail.
    function _three() private returns (uint64 before, uint64 failing, uint64 after_) {
        (before, failing, after_) = (_createOrder(), _createOrder(), _createOrder());
    }

    function _answer(uint64 before, uint64 failing, uint64 after_, uint256[] memory words) private {
        OrderTerms memory terms = _terms();
        uint256 closeBlock = book.order(after_).closeBlock;
        vm.roll(closeBlock + 1);
        uint256[] memory matches = _join(_matches(before, terms, _rank(_provider, RATE)), words);
        assertEq(words[0] >> 8, failing, "the words are those of the failing order");
        _openLeases(closeBlock, _join(matches, _matches(after_, terms, _rank(_provider, RATE))));
        assertState(before, OrderState.Leased);
        assertState(after_, OrderState.Leased);
    }

    function _emitted(Vm.Log[] memory logs, bytes32 selector, uint64 orderId) private pure returns (bool) {
        for (uint256 index = 0; index < logs.length; ++index) {
            if (logs[index].topics[0] == selector && uint256(logs[index].topics[1]) == orderId) return true;
        }
        return false;
    }
}
