// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice The answer of the quorum opens leases.
contract LeasesTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;
    uint96 private constant RATE = 90e18;
    // One hour at 90 tokens per 10 hours.
    uint256 private constant GROSS = 9e18;
    uint256 private constant LOCK = GROSS + GROSS / 50;

    address private _owner;
    uint32 private _provider;
    uint32 private _secondId;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        (, _secondId) = _addProvider("second");
    }

    // ------------------------------------------------------------------- match

    function test_openLeases_takesTheBest() public {
        uint64 orderId = _createOrder();
        _bid(_owner, orderId, RATE);
        uint256 closeBlock = _close(orderId);
        uint256[] memory ranks = new uint256[](2);
        (ranks[0], ranks[1]) = (_rank(_provider, RATE), _rank(_secondId, 80e18));
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseCreated(orderId, _provider, RATE, uint32(block.timestamp), 0);
        _openLeases(closeBlock, _matches(orderId, _terms(), ranks));

        Order memory order = book.order(orderId);
        assertEq(uint256(order.state), uint256(OrderState.Leased), "state");
        assertEq(order.rate, RATE, "rate taken");
        assertEq(order.start, block.timestamp, "start");
        assertEq(order.supplier, _provider, "supplier");
        assertEq(order.closeBlock, closeBlock, "close block");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - LOCK - MATCH_FEE, LOCK);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "match fee");
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _used(100, 64, 4), "capacity reserved");
        assertTrue(book.hasLease(_provider), "has a lease");
        assertFalse(book.hasLease(_secondId), "has no lease");
    }

    function test_openLeases_takesTheNextInRank() public {
        uint64 orderId = _createOrder();
        uint256 closeBlock = _close(orderId);
        registry.suspend(_provider);
        uint256[] memory ranks = new uint256[](3);
        (ranks[0], ranks[1], ranks[2]) = (_rank(_provider, RATE), _rank(77, RATE), _rank(_secondId, 80e18));
        _openLeases(closeBlock, _matches(orderId, _terms(), ranks));
        assertEq(book.order(orderId).supplier, _secondId, "supplier");
        assertEq(book.order(orderId).rate, 80e18, "rate");
        assertFalse(book.hasLease(_provider), "the suspended has none");
    }

    function test_openLeases_takesGpusFromTheEntryNamed() public {
        (, uint32 gpuProvider) =
            _addProvider("gpus", _withGpus(_withGpus(_capacity(1_000, 1_000, 100), 0, 7, 4), 2, 9, 8));
        OrderTerms memory terms = _terms();
        terms.resources = _resources(100, 64, 4, 3, 1 << 9);
        uint64 orderId = _createOrder(terms);
        uint256 closeBlock = _close(orderId);
        // Entry 0 holds a model that the order does not accept: passed over, the next rank is right.
        uint256[] memory ranks = new uint256[](2);
        (ranks[0], ranks[1]) = (_rank(gpuProvider, RATE), _rank(gpuProvider, RATE) | 2);
        _openLeases(closeBlock, _matches(orderId, terms, ranks));
        assertEq(book.order(orderId).gpuEntry, 2, "entry");
        (uint256 capacity,,) = book.capacityOf(gpuProvider);
        assertEq((capacity >> 188) & 0xfff, 5, "free GPUs of the entry");
        assertEq((capacity >> 124) & 0xfff, 4, "free GPUs of the other");

        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        (capacity,,) = book.capacityOf(gpuProvider);
        assertEq((capacity >> 188) & 0xfff, 8, "released");
    }

    function test_openLeases_requeuesOnceThenExpires() public {
        OrderTerms memory terms = _terms();
        uint64 orderId = _createOrder(terms);
        _bid(_owner, orderId, RATE);
        uint256 closeBlock = _close(orderId);
        uint32 next = uint32(block.number) + BID_WINDOW;
        vm.expectEmit(address(book));
        emit IOrderBook.OrderRequeued(orderId, next);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(77, RATE)));

        Order memory order = book.order(orderId);
        assertEq(uint256(order.state), uint256(OrderState.Open), "state");
        assertTrue(order.requeued, "requeued");
        assertEq(order.rate, terms.maximumRate, "maximum rate");
        (bytes32 digest, uint16 count) = book.bidsDigest(orderId);
        assertEq(count, 0, "bids");
        assertEq(
            digest, keccak256(abi.encodePacked(uint256(orderId), uint256(next))) & ~bytes32(uint256(0xffff)), "new seed"
        );
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - 10.2e18 - MATCH_FEE, 10.2e18 + MATCH_FEE);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), 0, "no match, no fee");

        _bid(_owner, orderId, RATE);
        vm.roll(next + 1);
        vm.expectEmit(address(book));
        emit IOrderBook.OrderExpired(orderId);
        _openLeases(next, _matches(orderId, terms, _rank(77, RATE)));
        assertState(orderId, OrderState.Expired);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
    }

    /// @dev A requeued order that nobody bids on again leaves at once after its new close block.
    function test_openLeases_requeuedWithoutBids() public {
        uint64 orderId = _createOrder();
        _bid(_owner, orderId, RATE);
        _openLeases(_close(orderId), _matches(orderId, _terms(), _rank(77, RATE)));
        vm.roll(book.order(orderId).closeBlock);
        book.expireOrders(_ids(orderId));
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
    }

    function test_openLeases_expiresWithoutRanks() public {
        uint64 orderId = _createOrder();
        _bid(_owner, orderId, RATE);
        _openLeases(_close(orderId), _matches(orderId, _terms(), new uint256[](0)));
        assertState(orderId, OrderState.Expired);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), 0, "no match, no fee");
    }

    /// @dev A failing order never reverts its neighbours.
    function test_openLeases_neighboursGoOn() public {
        OrderTerms memory terms = _terms();
        uint64 unknown = 5;
        uint64 cancelled = _createOrder();
        uint64 noCapacity = _createOrder();
        vm.prank(user);
        uint64 later = book.createOrder(account, PLAIN_TOKEN, 9, terms);
        uint64 noBid = _createOrder();
        uint64 fine = _createOrder();
        vm.prank(user);
        book.cancelOrder(cancelled);
        uint256 closeBlock = _close(fine);

        uint256[] memory matches = _matches(unknown, terms, _rank(_provider, RATE));
        matches = _join(matches, _matches(cancelled, terms, _rank(_provider, RATE)));
        matches = _join(matches, _matches(noCapacity, terms, _rank(77, RATE)));
        matches = _join(matches, _matches(later, terms, _rank(_provider, RATE)));
        matches = _join(matches, _matches(noBid, terms, new uint256[](0)));
        matches = _join(matches, _matches(fine, terms, _rank(_provider, RATE)));
        _openLeases(closeBlock, matches);

        assertState(cancelled, OrderState.Cancelled);
        assertTrue(book.order(noCapacity).requeued, "requeued");
        assertState(later, OrderState.Open);
        assertFalse(book.order(later).requeued, "not touched");
        assertState(noBid, OrderState.Expired);
        assertState(fine, OrderState.Leased);
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _used(100, 64, 4), "one lease");

        // The same answer again changes nothing: nothing is Open in that close block any more.
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        _openLeases(closeBlock, matches);
        assertBalances(account, PLAIN_TOKEN, unlocked, locked);
        (uint256 unchanged,,) = book.capacityOf(_provider);
        assertEq(unchanged, capacity, "capacity");
    }

    /// @dev Who wants the last free part is decided by the order in the answer.
    function test_openLeases_lastCapacityGoesToTheFirst() public {
        OrderTerms memory terms = _terms();
        terms.resources = _resources(10_000, 64, 4, 0, 0);
        uint64 first = _createOrder(terms);
        uint64 second = _createOrder(terms);
        uint256 closeBlock = _close(second);
        uint256[] memory ranks = new uint256[](2);
        (ranks[0], ranks[1]) = (_rank(_provider, RATE), _rank(_secondId, 95e18));
        _openLeases(closeBlock, _join(_matches(first, terms, ranks), _matches(second, terms, ranks)));
        assertEq(book.order(first).supplier, _provider, "first order");
        assertEq(book.order(second).supplier, _secondId, "second order");
    }

    function test_openLeases_creditsTheResponderPerToken() public {
        OrderTerms memory terms = _terms();
        uint32 other = escrow.open(user);
        _deposit(other, PLAIN_TOKEN, 100e18);
        vm.startPrank(user);
        uint64 inSpon = book.createOrder(account, SPON_TOKEN, 0, terms);
        uint64 inPlain = book.createOrder(account, PLAIN_TOKEN, 0, terms);
        uint64 inPlainToo = book.createOrder(other, PLAIN_TOKEN, 0, terms);
        vm.stopPrank();
        uint256 closeBlock = _close(inPlain);
        uint256[] memory matches = _matches(inSpon, terms, _rank(_provider, RATE));
        matches = _join(matches, _matches(inPlain, terms, _rank(_provider, RATE)));
        matches = _join(matches, _matches(inPlainToo, terms, _rank(_provider, RATE)));
        _openLeases(closeBlock, matches);
        assertEq(escrow.creditOf(responder, SPON_TOKEN), MATCH_FEE, "SPON");
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), 2 * MATCH_FEE, "PLAIN");
        vm.prank(responder);
        assertEq(escrow.withdrawCredit(PLAIN_TOKEN, responder), 2 * MATCH_FEE, "withdrawn");
        assertEq(plain.balanceOf(responder), 2 * MATCH_FEE, "received");
    }

    function test_openLeases_refusals() public {
        OrderTerms memory terms = _terms();
        uint64 orderId = _createOrder(terms);
        uint64 next = _createOrder(terms);
        uint256[] memory fine = _matches(orderId, terms, _rank(_provider, RATE));
        uint32 closeBlock = book.order(orderId).closeBlock;

        _expectBookError(abi.encodeWithSelector(IOrderBook.NotTaskManager.selector, address(this)));
        book.openLeases(closeBlock, fine, responder);

        vm.roll(closeBlock);
        _refused(
            closeBlock, fine, abi.encodeWithSelector(IOrderBook.OutsideResponseWindow.selector, closeBlock, closeBlock)
        );
        uint256 last = uint256(closeBlock) + RESPONSE_WINDOW + MATCH_WINDOW;
        vm.roll(last + 1);
        _refused(
            closeBlock, fine, abi.encodeWithSelector(IOrderBook.OutsideResponseWindow.selector, closeBlock, last + 1)
        );
        vm.roll(last);

        uint256[] memory bad = _matches(orderId, terms, new uint256[](9));
        _refused(closeBlock, bad, abi.encodeWithSelector(IOrderBook.TooManyRanks.selector, orderId, 9, 8));
        bad = _matches(orderId, terms, _rank(_provider, RATE));
        bad[0] |= 1 << 72;
        _refused(closeBlock, bad, abi.encodeWithSelector(IOrderBook.MalformedMatches.selector, 0));
        bad = _matches(orderId, terms, _rank(_provider, RATE));
        bad[0] += 1;
        _refused(closeBlock, bad, abi.encodeWithSelector(IOrderBook.MalformedMatches.selector, 0));
        bad = _join(fine, fine);
        _refused(closeBlock, bad, abi.encodeWithSelector(IOrderBook.OrdersNotAscending.selector, orderId, orderId));
        bad = _join(_matches(next, terms, _rank(_provider, RATE)), fine);
        _refused(closeBlock, bad, abi.encodeWithSelector(IOrderBook.OrdersNotAscending.selector, next, orderId));
        bad = new uint256[](1);
        _refused(closeBlock, bad, abi.encodeWithSelector(IOrderBook.OrdersNotAscending.selector, 0, 0));

        _openLeases(closeBlock, fine);
        assertState(orderId, OrderState.Leased);
    }

    // ----------------------------------------------------------------- private

    function _close(uint64 orderId) private returns (uint256 closeBlock) {
        closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
    }

    function _used(uint256 cpu, uint256 memory_, uint256 storage_) private pure returns (uint256) {
        return _capacity(10_000, 65_536, 4_096) - storage_ - (memory_ << 44) - (cpu << 84);
    }

    function _refused(uint32 closeBlock, uint256[] memory matches, bytes memory reason) private {
        _expectBookError(reason);
        _openLeases(closeBlock, matches);
    }
}
