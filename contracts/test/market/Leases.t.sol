// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {LeaseResources, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice From the answer of the quorum to the last unit: leases are opened, paid and closed.
contract LeasesTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;
    uint96 private constant RATE = 90e18;
    // One hour at 90 tokens per 10 hours.
    uint256 private constant GROSS = 9e18;
    uint256 private constant LOCK = GROSS + GROSS / 50;

    address private _owner;
    uint32 private _provider;
    address private _second;
    uint32 private _secondId;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        (_second, _secondId) = _addProvider("second");
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

    // ------------------------------------------------------------------ settle

    function test_settle_paysNothingInsideTheHold() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.warp(block.timestamp + CHALLENGE_WINDOW - 1);
        assertEq(_claimable(orderId), 0, "claimable");
        book.settle(_ids(orderId));
        assertEq(book.order(orderId).settledFor, 0, "settled");
        _expectBookError(abi.encodeWithSelector(IOrderBook.NothingDue.selector, orderId));
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(orderId), _owner);
    }

    function test_settle_paysPerSecond() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        uint256 start = block.timestamp;
        vm.warp(start + CHALLENGE_WINDOW);
        // 600 seconds at 90 tokens per 36 000 s, less 20 % and 2 %.
        uint256 net = _net(600);
        assertEq(net, 1.17e18, "worked example");
        assertEq(_claimable(orderId), net, "claimable");
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseSettled(orderId, _provider, 600, net);
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), net, "credit");
        // Settling touches neither the account nor the foundation.
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - LOCK - MATCH_FEE, LOCK);
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), 0, "fees at the close");

        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), net, "the same second pays nothing");
        vm.warp(start + 100_000);
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(3_600), "never beyond the end");
        assertEq(book.order(orderId).settledFor, 3_600, "settled for");
    }

    function test_settleAndWithdraw_sendsProceedsAndCredit() public {
        uint64 first = _lease(_owner, _provider, RATE);
        uint64 second = _lease(_owner, _provider, 80e18);
        vm.warp(block.timestamp + 700);
        book.settle(_ids(first));
        vm.warp(block.timestamp + 100);
        uint256 due = _claimable(first) + _claimable(second);
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (first, second);
        uint256 credit = escrow.creditOf(_owner, PLAIN_TOKEN);
        assertGt(credit, 0, "credit of the settlement by a stranger");
        address purse = makeAddress("purse");
        vm.prank(_owner);
        assertEq(book.settleAndWithdraw(both, purse), due + credit, "returned");
        assertEq(plain.balanceOf(purse), due + credit, "received");
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "no credit left");

        // Live leases alone: no credit is looked for, none is lost.
        vm.warp(block.timestamp + 100);
        due = _claimable(second);
        vm.prank(_owner);
        assertEq(book.settleAndWithdraw(_ids(second), purse), due, "live lease alone");
    }

    function test_settleAndWithdraw_takesTheCreditOfAClose() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.warp(block.timestamp + 1_000);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));
        vm.prank(_owner);
        assertEq(book.settleAndWithdraw(_ids(orderId), _owner), _net(1_000), "credit of the close");
        _expectBookError(abi.encodeWithSelector(IOrderBook.NothingDue.selector, orderId));
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(orderId), _owner);
    }

    function test_settleAndWithdraw_refusals() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.warp(block.timestamp + 1_000);
        _expectBookError(abi.encodeWithSelector(IOrderBook.EmptyBatch.selector));
        vm.prank(_owner);
        book.settleAndWithdraw(new uint64[](0), _owner);
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotSupplierOwner.selector, orderId, _provider, _second));
        vm.prank(_second);
        book.settleAndWithdraw(_ids(orderId), _second);
        uint64[] memory mixed = new uint64[](2);
        (mixed[0], mixed[1]) = (orderId, orderId & ~(uint64(0xff) << 24));
        _expectBookError(abi.encodeWithSelector(IOrderBook.MixedTokens.selector, orderId, 0));
        vm.prank(_owner);
        book.settleAndWithdraw(mixed, _owner);
        uint64 open = _createOrder();
        _expectBookError(abi.encodeWithSelector(IOrderBook.WrongState.selector, open, OrderState.Open));
        book.settle(_ids(open));
        // The same lease twice pays once.
        mixed[1] = orderId;
        vm.prank(_owner);
        assertEq(book.settleAndWithdraw(mixed, _owner), _net(1_000), "paid once");
    }

    // ------------------------------------------------------------------- close

    function test_closeLease_byTheUser() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.warp(block.timestamp + 1_000);
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseSettled(orderId, _provider, 1_000, _net(1_000));
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(orderId, OrderState.ClosedByUser, 1_000);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));

        _assertClosed(orderId, OrderState.ClosedByUser, 1_000);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(1_000), "supplier");
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _capacity(10_000, 65_536, 4_096), "capacity released");
        _expectBookError(abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, OrderState.ClosedByUser));
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));
    }

    function test_closeLease_afterSettlementsPaysTheRest() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        uint256 start = block.timestamp;
        for (uint256 time = 601; time < 1_500; time += 217) {
            vm.warp(start + time);
            book.settle(_ids(orderId));
        }
        vm.warp(start + 1_777);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(1_777), "any path pays the same");
        _assertClosed(orderId, OrderState.ClosedByUser, 1_777);
    }

    function test_closeLease_byTheProviderWithItsReason() public {
        for (
            uint256 reason = uint256(OrderState.ClosedNoManifest);
            reason <= uint256(OrderState.ClosedCannotStart);
            ++reason
        ) {
            uint64 orderId = _lease(_owner, _provider, RATE);
            vm.warp(block.timestamp + 1_000);
            _expectBookError(abi.encodeWithSelector(IOrderBook.NotSupplierOwner.selector, orderId, _provider, user));
            vm.prank(user);
            leases.closeLease(orderId, OrderState(reason), _leaseResources(_terms()));
            vm.prank(_owner);
            leases.closeLease(orderId, OrderState(reason), _leaseResources(_terms()));
            assertState(orderId, OrderState(reason));
        }
    }

    function test_closeLease_atItsEndByAnyone() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        uint256 end = block.timestamp + 3_600 + GRACE_WINDOW;
        vm.warp(end - 1);
        _expectBookError(abi.encodeWithSelector(ILeases.LeaseNotOver.selector, orderId, end, end - 1));
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        vm.warp(end);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        _assertClosed(orderId, OrderState.ClosedAtEnd, 3_600);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(3_600), "supplier");
        // E10: all of the lock is spent, up to rounding.
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "locked");
        assertEq(unlocked, UNLOCKED - LOCK - MATCH_FEE, "nothing was left");
    }

    /// @dev A provider cannot blame the user for a lease that ran to its end.
    function test_closeLease_afterTheEndIsAlwaysItsEnd() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.warp(block.timestamp + 5_000);
        vm.prank(_owner);
        leases.closeLease(orderId, OrderState.ClosedAbnormalService, _leaseResources(_terms()));
        assertState(orderId, OrderState.ClosedAtEnd);
    }

    function test_closeLease_refusals() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.warp(block.timestamp + 1_000);
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, _owner, user));
        vm.prank(_owner);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));

        LeaseResources memory wrong = _leaseResources(_terms());
        wrong.resources += 1;
        _expectBookError(
            abi.encodeWithSelector(
                ILeases.WrongResources.selector,
                orderId,
                keccak256(abi.encodePacked(wrong.resources, wrong.restHash)),
                book.termsHash(orderId)
            )
        );
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, wrong);

        for (uint256 reason = 0; reason <= uint256(OrderState.ClosedUpdated); ++reason) {
            if (reason >= uint256(OrderState.ClosedByUser) && reason <= uint256(OrderState.ClosedCannotStart)) {
                continue;
            }
            _expectBookError(abi.encodeWithSelector(ILeases.InvalidCloseReason.selector, orderId, OrderState(reason)));
            vm.prank(user);
            leases.closeLease(orderId, OrderState(reason), _leaseResources(_terms()));
        }
        vm.warp(block.timestamp + 5_000);
        _expectBookError(abi.encodeWithSelector(ILeases.InvalidCloseReason.selector, orderId, OrderState.ClosedSlashed));
        leases.closeLease(orderId, OrderState.ClosedSlashed, _leaseResources(_terms()));
    }

    /// @dev Payout hold: the unused part is back at once, what accrued waits.
    function test_closeLease_insideTheHold() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        uint256 start = block.timestamp;
        vm.warp(start + 100);
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(orderId, OrderState.ClosedByUser, 100);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));

        // 100 seconds at 90 tokens per 36 000 s, and 2 % on top.
        uint256 accrued = 0.25e18 + 0.005e18;
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - accrued, accrued);
        assertEq(book.order(orderId).duration, 100, "billed");
        assertEq(book.order(orderId).settledFor, 0, "nothing is paid yet");
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "supplier");
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "still held");
        assertFalse(book.hasLease(_provider), "capacity is free");

        vm.warp(start + CHALLENGE_WINDOW);
        assertEq(_claimable(orderId), _net(100), "claimable");
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(100), "supplier");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), accrued - _net(100), "fees");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - accrued, 0);
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(100), "once");
        assertEq(_claimable(orderId), 0, "nothing left");
    }

    function test_closeLease_insideTheHold_withdrawnDirectly() public {
        uint64 held = _lease(_owner, _provider, RATE);
        uint64 live = _lease(_owner, _provider, RATE);
        uint256 start = block.timestamp;
        vm.warp(start + 100);
        vm.prank(user);
        leases.closeLease(held, OrderState.ClosedByUser, _leaseResources(_terms()));
        vm.warp(start + 700);
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (held, live);
        vm.prank(_owner);
        assertEq(book.settleAndWithdraw(both, _owner), _net(100) + _net(700), "both");
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, LOCK, "the live lease's lock");
    }

    /// @dev In the second of its start nothing has accrued: all of it goes back.
    function test_closeLease_atOnce() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE, 0);
        vm.warp(block.timestamp + 10_000);
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "nothing");
    }

    /// @dev A lease shorter than the hold ends inside it.
    function test_closeLease_shorterThanTheHold() public {
        OrderTerms memory terms = _terms();
        terms.duration = 60;
        uint64 orderId = _lease(_owner, _provider, RATE, terms);
        uint256 start = block.timestamp;
        // And a sixteenth of it for an extension.
        vm.warp(start + 63);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(terms));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "held");
        vm.warp(start + CHALLENGE_WINDOW);
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(60), "paid after the hold");
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "lock");
    }

    /// @dev Fees of an order are those frozen at its creation, whatever the token's schedule says later.
    function test_feesAreFrozen() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        uint64 next = _createOrder();
        assertEq(book.order(next).feeSchedule, SPON_SCHEDULE, "new orders freeze the new one");
        vm.warp(block.timestamp + 1_000);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(1_000), "frozen schedule");
        vm.prank(user);
        book.cancelOrder(next);
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "every lock was undone by its own schedule");
    }

    function testFuzz_lease_conservesEveryUnit(uint96 rate, uint32 duration, uint256 closeAt, uint256 settleAt) public {
        OrderTerms memory terms = _terms();
        terms.maximumRate = uint96(bound(rate, 1, 1e24));
        terms.duration = uint32(bound(duration, 1, 400 days));
        _deposit(account, PLAIN_TOKEN, 1e27);
        (uint256 before,,) = escrow.balances(account, PLAIN_TOKEN);
        uint64 orderId = _lease(_owner, _provider, uint96(bound(rate / 2, 1, terms.maximumRate)), terms);
        uint256 start = block.timestamp;
        vm.warp(start + bound(settleAt, 0, terms.duration));
        book.settle(_ids(orderId));
        vm.warp(bound(closeAt, block.timestamp, start + 500 days));
        bool over = block.timestamp >= start + terms.duration;
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        vm.warp(start + 1_000 days);
        book.settle(_ids(orderId));

        // E2: to the unit.
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 paid = escrow.creditOf(_owner, PLAIN_TOKEN);
        uint256 fees = escrow.creditOf(foundation, PLAIN_TOKEN);
        assertEq(locked, 0, "nothing stays locked");
        assertEq(before - unlocked, paid + fees + MATCH_FEE, "user paid = supplier + foundation + responder");
        Order memory order = book.order(orderId);
        uint256 gross = uint256(order.rate) * order.duration / 36_000;
        assertEq(paid, gross - gross * 2_200 / 10_000, "supplier");
        assertEq(fees, gross - paid + gross * 200 / 10_000, "foundation");
        assertEq(order.settledFor, order.duration, "billed is paid");
        if (over) assertEq(order.duration, terms.duration, "ran to its end");
    }

    // ----------------------------------------------------------------- private

    function _close(uint64 orderId) private returns (uint256 closeBlock) {
        closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
    }

    function _used(uint256 cpu, uint256 memory_, uint256 storage_) private pure returns (uint256) {
        return _capacity(10_000, 65_536, 4_096) - storage_ - (memory_ << 44) - (cpu << 84);
    }

    function _net(uint256 time) private pure returns (uint256) {
        uint256 gross = uint256(RATE) * time / 36_000;
        return gross - gross * 2_200 / 10_000;
    }

    function _assertClosed(uint64 orderId, OrderState state, uint32 billed) private view {
        assertState(orderId, state);
        Order memory order = book.order(orderId);
        assertEq(order.duration, billed, "billed");
        assertEq(order.settledFor, billed, "paid");
        uint256 gross = uint256(RATE) * billed / 36_000;
        uint256 spent = gross + gross * 200 / 10_000;
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), spent - _net(billed), "foundation");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - spent, 0);
    }

    function _refused(uint32 closeBlock, uint256[] memory matches, bytes memory reason) private {
        _expectBookError(reason);
        _openLeases(closeBlock, matches);
    }

    function _expectBookError(bytes memory reason) private {
        vm.expectRevert(reason, address(book));
    }
}
