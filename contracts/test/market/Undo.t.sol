// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {LeaseResources, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice A lease whose match was proven wrong never was: nothing billed, everything back, until the payout hold ends.
contract UndoTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;
    uint96 private constant RATE = 90e18;

    address private _owner;
    uint32 private _provider;
    uint256 private _free;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        (_free,,) = book.capacityOf(_provider);
    }

    function test_undoLease_live() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        uint256 start = block.timestamp;
        vm.warp(start + CHALLENGE_WINDOW - 1);
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(orderId, OrderState.ClosedUndone, 0);
        _undo(orderId);
        _assertUndone(orderId);
        Order memory order = book.order(orderId);
        assertEq(order.start, start, "what it was stays known");
        assertEq(order.supplier, _provider, "what it was stays known");
    }

    /// @dev The lock is rounded up, and comes back as it was locked.
    function test_undoLease_ofALockThatWasRounded() public {
        uint64 orderId = _lease(_owner, _provider, RATE - 1);
        _undo(orderId);
        _assertUndone(orderId);
    }

    function test_undoLease_closedInsideTheHold() public {
        OrderState[3] memory reasons =
            [OrderState.ClosedByUser, OrderState.ClosedNoManifest, OrderState.ClosedCannotStart];
        for (uint256 index = 0; index < reasons.length; ++index) {
            uint256 state = vm.snapshotState();
            uint64 orderId = _lease(_owner, _provider, RATE);
            vm.warp(block.timestamp + 123);
            vm.prank(reasons[index] == OrderState.ClosedByUser ? user : _owner);
            leases.closeLease(orderId, reasons[index], _leaseResources(_terms()));
            // 123 seconds wait for the end of the hold, rounded down, with 2 % for the user's fee.
            uint256 gross = uint256(RATE) * 123 / 36_000;
            uint256 held = gross + gross * 200 / 10_000;
            assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - held, held);
            _undo(orderId);
            _assertUndone(orderId);
            assertTrue(vm.revertToState(state), "state reverted");
        }
    }

    /// @dev A lease shorter than the hold is over inside it, and paid only after it.
    function test_undoLease_overInsideTheHold() public {
        OrderTerms memory terms = _terms();
        terms.duration = 60;
        uint64 orderId = _lease(_owner, _provider, RATE, terms);
        vm.warp(block.timestamp + 63);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(terms));
        vm.prank(disputes);
        leases.undoLease(orderId, _leaseResources(terms));
        _assertUndone(orderId);
    }

    /// @dev Its capacity was free already: another lease that took it keeps it.
    function test_undoLease_closedReleasesNoCapacityTwice() public {
        uint64 closed = _lease(_owner, _provider, RATE);
        vm.prank(user);
        leases.closeLease(closed, OrderState.ClosedByUser, _leaseResources(_terms()));
        uint64 live = _lease(_owner, _provider, RATE);
        (uint256 capacity,,) = book.capacityOf(_provider);
        _undo(closed);
        (uint256 unchanged,,) = book.capacityOf(_provider);
        assertEq(unchanged, capacity, "capacity of the live lease");
        assertTrue(book.hasLease(_provider), "has a lease");
        _undo(live);
        (unchanged,,) = book.capacityOf(_provider);
        assertEq(unchanged, _free, "all free");
    }

    function test_undoLease_leavesOtherLeasesAlone() public {
        uint64 wrong = _lease(_owner, _provider, RATE);
        uint64 right = _lease(_owner, _provider, 80e18);
        vm.warp(block.timestamp + 100);
        _undo(wrong);
        assertState(right, OrderState.Leased);
        uint256 lock = escrow.lockFor(80e18, 3_600, PLAIN_SCHEDULE) - MATCH_FEE;
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - lock - 2 * MATCH_FEE, lock);
        vm.warp(block.timestamp + 1_000);
        assertGt(_claimable(right), 0, "the other one pays");
    }

    /// @dev The match fee went to whoever responded: nothing credited is taken back.
    function test_undoLease_keepsTheRespondersFee() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        _undo(orderId);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "match fee");
    }

    /// @dev E12: in a delisted token too, and with a schedule that is not the token's any more.
    function test_undoLease_inADelistedToken() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        _undo(orderId);
        _assertUndone(orderId);
    }

    function test_undoLease_refusedOnceTheHoldIsOver() public {
        uint64 live = _lease(_owner, _provider, RATE);
        uint256 holdEnd = block.timestamp + CHALLENGE_WINDOW;
        uint64 closed = _lease(_owner, _provider, RATE);
        vm.prank(user);
        leases.closeLease(closed, OrderState.ClosedByUser, _leaseResources(_terms()));
        vm.warp(holdEnd);
        _refused(live, abi.encodeWithSelector(ILeases.PayoutHoldOver.selector, live, holdEnd, holdEnd));
        _refused(closed, abi.encodeWithSelector(ILeases.PayoutHoldOver.selector, closed, holdEnd, holdEnd));
        book.settle(_ids(live));
        assertEq(book.order(live).settledFor, CHALLENGE_WINDOW, "paid from now on");
    }

    function test_undoLease_refusals() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        LeaseResources memory resources = _leaseResources(_terms());
        address[4] memory strangers = [address(this), user, _owner, taskManager];
        for (uint256 index = 0; index < strangers.length; ++index) {
            _expectBookError(abi.encodeWithSelector(ILeases.NotDisputes.selector, strangers[index]));
            vm.prank(strangers[index]);
            leases.undoLease(orderId, resources);
        }
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotOrderBook.selector, disputes));
        vm.prank(disputes);
        escrow.undoLease(orderId, 0);

        resources.resources += 1;
        bytes32 given = keccak256(abi.encodePacked(resources.resources, resources.restHash));
        _expectBookError(
            abi.encodeWithSelector(ILeases.WrongResources.selector, orderId, given, book.termsHash(orderId))
        );
        vm.prank(disputes);
        leases.undoLease(orderId, resources);

        _undo(orderId);
        _refused(orderId, abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, OrderState.ClosedUndone));
        uint64 open = _createOrder();
        _refused(open, abi.encodeWithSelector(IOrderBook.WrongState.selector, open, OrderState.Open));
        vm.prank(user);
        book.cancelOrder(open);
        _refused(open, abi.encodeWithSelector(IOrderBook.WrongState.selector, open, OrderState.Cancelled));
        uint64 expired = _createOrder();
        vm.roll(block.number + BID_WINDOW);
        book.expireOrders(_ids(expired));
        _refused(expired, abi.encodeWithSelector(IOrderBook.WrongState.selector, expired, OrderState.Expired));
        _refused(77, abi.encodeWithSelector(IOrderBook.WrongState.selector, 77, OrderState.None));
    }

    /// @dev Whenever it is undone, the account has everything but the match fee.
    function test_fuzz_undoLease_returnsEverything(uint96 rate, uint32 duration, uint16 closeAfter, uint16 undoAfter)
        public
    {
        OrderTerms memory terms = _terms();
        terms.maximumRate = uint96(bound(rate, 1, 1_000e18));
        terms.duration = uint32(bound(duration, 1, 30 days));
        uint96 taken = uint96(bound(uint256(rate) * 7, 1, terms.maximumRate));
        uint64 orderId = _lease(_owner, _provider, taken, terms);
        uint256 start = block.timestamp;
        undoAfter = uint16(bound(undoAfter, 0, CHALLENGE_WINDOW - 1));
        closeAfter = uint16(bound(closeAfter, 0, CHALLENGE_WINDOW));
        if (closeAfter <= undoAfter) {
            vm.warp(start + closeAfter);
            vm.prank(user);
            leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        }
        vm.warp(start + undoAfter);
        vm.prank(disputes);
        leases.undoLease(orderId, _leaseResources(terms));
        _assertUndone(orderId);
    }

    // ------------------------------------------------------------------ private

    function _undo(uint64 orderId) private {
        vm.prank(disputes);
        leases.undoLease(orderId, _leaseResources(_terms()));
    }

    /// @dev Now and for ever after.
    function _assertUndone(uint64 orderId) private {
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE, 0);
        Order memory order = book.order(orderId);
        assertEq(uint256(order.state), uint256(OrderState.ClosedUndone), "state");
        assertEq(order.duration, 0, "billed");
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _free, "capacity");
        assertFalse(book.hasLease(_provider), "no lease");

        vm.warp(block.timestamp + 100_000);
        assertEq(_claimable(orderId), 0, "claimable");
        book.settle(_ids(orderId));
        _expectBookError(abi.encodeWithSelector(IOrderBook.NothingDue.selector, orderId));
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(orderId), _owner);
        _expectBookError(abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, OrderState.ClosedUndone));
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(_terms()));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "supplier");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), 0, "foundation");
    }

    function _refused(uint64 orderId, bytes memory reason) private {
        LeaseResources memory resources = _leaseResources(_terms());
        _expectBookError(reason);
        vm.prank(disputes);
        leases.undoLease(orderId, resources);
    }
}
