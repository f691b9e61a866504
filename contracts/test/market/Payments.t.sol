// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {LeaseResources, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice From the first second to the last unit: leases are paid and closed.
contract PaymentsTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;
    uint96 private constant RATE = 90e18;
    // One hour at 90 tokens per 10 hours.
    uint256 private constant GROSS = 9e18;
    uint256 private constant LOCK = GROSS + GROSS / 50;

    address private _owner;
    uint32 private _provider;
    address private _second;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        (_second,) = _addProvider("second");
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
}
