// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {Order, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice More money, a later end: until end and grace are over, billed from the old end on.
contract ExtensionTest is MarketTest {
    uint96 private constant RATE = 90e18;

    address private _owner;
    uint32 private _provider;
    uint64 private _orderId;
    uint256 private _start;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _orderId = _lease(_owner, _provider, RATE);
        _start = block.timestamp;
    }

    // ------------------------------------------------------------------- works

    function test_extendLease_locksMoreAndMovesTheEnd() public {
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 more = _lockOf(5_400) - _lockOf(3_600);
        vm.expectEmit(address(book));
        emit ILeases.LeaseExtended(_orderId, user, 5_400, more);
        _extend(user, 1_800);

        assertBalances(account, PLAIN_TOKEN, unlocked - more, locked + more);
        assertEq(book.order(_orderId).duration, 5_400, "duration");
        _assertEnd(_start + 5_400, _start + 5_400 + GRACE_WINDOW);
        // All of it is streamed: at the end nothing but dust is left of the lock.
        vm.warp(_start + 5_400 + GRACE_WINDOW);
        _close(address(this), _orderId, OrderState.ClosedAtEnd);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(5_400), "supplier");
        assertBalances(account, PLAIN_TOKEN, unlocked - more, 0);
    }

    function test_extendLease_manyTimes() public {
        for (uint256 index = 0; index < 5; ++index) {
            _extend(user, 7);
            vm.warp(block.timestamp + 500);
            book.settle(_ids(_orderId));
        }
        assertEq(book.order(_orderId).duration, 3_635, "every extension counts");
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, _lockOf(3_635), "the lock of the whole duration, rounded once");
    }

    // ------------------------------------------------------------------- grace

    function test_extendLease_untilTheLastSecondOfTheGrace() public {
        uint256 end = _start + 3_600 + GRACE_WINDOW;
        vm.warp(end - 1);
        uint256 state = vm.snapshotState();
        _extend(user, 3_600);
        assertEq(book.order(_orderId).duration, 7_200, "extended");
        vm.revertToState(state);
        vm.warp(end);
        _refused(user, 3_600, abi.encodeWithSelector(ILeases.LeaseOver.selector, _orderId, end, end), address(book));
    }

    /// @dev What was not paid for between the old end and the extension is paid for by it.
    function test_extendLease_isBilledFromTheOldEnd() public {
        vm.warp(_start + 3_700);
        book.settle(_ids(_orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(3_600), "nothing beyond the end");
        _extend(user, 1_000);
        book.settle(_ids(_orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(3_700), "from the old end on");
        vm.warp(_start + 3_800);
        _close(user, _orderId, OrderState.ClosedByUser);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(3_800), "as if it had been ordered so");
        assertEq(book.order(_orderId).duration, 3_800, "billed");
    }

    /// @dev An extension that ends in the past buys time up to its end and the grace after it, no more.
    function test_extendLease_byLessThanHasPassed() public {
        vm.warp(_start + 3_700);
        _extend(user, 50);
        _assertEnd(_start + 3_650, _start + 3_650 + GRACE_WINDOW);
        book.settle(_ids(_orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(3_650), "to its end");
        vm.warp(_start + 3_650 + GRACE_WINDOW);
        uint256 end = block.timestamp;
        _refused(user, 50, abi.encodeWithSelector(ILeases.LeaseOver.selector, _orderId, end, end), address(book));
        _close(address(this), _orderId, OrderState.ClosedAtEnd);
        assertEq(book.order(_orderId).duration, 3_650, "billed");
    }

    /// @dev A sixteenth of the duration, if that is less than the window: no free hours for short leases.
    function test_grace_isASixteenthAtMost() public {
        uint32[4] memory durations = [uint32(15), 16, 160, 16 * GRACE_WINDOW - 1];
        for (uint256 index = 0; index < durations.length; ++index) {
            OrderTerms memory terms = _terms();
            terms.duration = durations[index];
            uint64 orderId = _lease(_owner, _provider, RATE, terms);
            (uint256 end, uint256 graceEnd) = leases.endOf(orderId);
            assertEq(end, block.timestamp + durations[index], "end");
            assertEq(graceEnd - end, durations[index] / 16, "grace");
            vm.warp(graceEnd - 1);
            uint256 state = vm.snapshotState();
            vm.prank(user);
            leases.extendLease(orderId, 1);
            vm.revertToState(state);
            vm.warp(graceEnd);
            vm.expectRevert(abi.encodeWithSelector(ILeases.LeaseOver.selector, orderId, graceEnd, graceEnd));
            vm.prank(user);
            leases.extendLease(orderId, 1);
        }
    }

    // -------------------------------------------------------- nothing stops it

    /// @dev E12: neither a delisted token nor a paused market stops a lease from going on.
    function test_extendLease_inADelistedTokenAndAPausedMarket() public {
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        book.pause();
        _extend(user, 1_800);
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, _lockOf(5_400), "by the schedule it froze");
    }

    // ---------------------------------------------------------------- refusals

    function test_extendLease_byStrangers() public {
        address[3] memory strangers = [_owner, address(this), makeAddress("stranger")];
        for (uint256 index = 0; index < strangers.length; ++index) {
            bytes memory reason =
                abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, strangers[index], user);
            _refused(strangers[index], 60, reason, address(escrow));
        }
    }

    function test_extendLease_bySpenders() public {
        address spender = makeAddress("spender");
        uint256 needed = _lockOf(3_660) - _lockOf(3_600);
        uint40 expiry = uint40(block.timestamp + 100);
        _grant(spender, uint112(needed - 1), expiry);
        bytes memory reason = abi.encodeWithSelector(
            IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, spender, needed - 1, needed
        );
        _refused(spender, 60, reason, address(escrow));

        _grant(spender, uint112(needed), expiry);
        vm.warp(expiry);
        reason = abi.encodeWithSelector(IEscrow.SpendingRightExpired.selector, account, PLAIN_TOKEN, spender, expiry);
        _refused(spender, 60, reason, address(escrow));

        vm.warp(expiry - 1);
        vm.expectEmit(address(book));
        emit ILeases.LeaseExtended(_orderId, spender, 3_660, needed);
        _extend(spender, 60);
        assertEq(escrow.spendingRight(account, spender, PLAIN_TOKEN).limit, 0, "limit is used up");
    }

    function test_extendLease_withoutMoney() public {
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 more = _lockOf(3_700) - _lockOf(3_600);
        vm.startPrank(user);
        escrow.withdraw(account, PLAIN_TOKEN, unlocked - more + 1, user);
        vm.stopPrank();
        bytes memory reason =
            abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, account, PLAIN_TOKEN, more - 1, more);
        _refused(user, 100, reason, address(escrow));
        _deposit(account, PLAIN_TOKEN, 1);
        _extend(user, 100);
        assertBalances(account, PLAIN_TOKEN, 0, _lockOf(3_700));
    }

    function test_extendLease_refusals() public {
        _refused(user, 0, abi.encodeWithSelector(ILeases.ExtensionIsZero.selector, _orderId), address(book));
        uint32 longest = (1 << 29) - 1;
        bytes memory reason = abi.encodeWithSelector(IOrderBook.DurationOutOfRange.selector, 1 << 29);
        _refused(user, longest - 3_600 + 1, reason, address(book));
        reason = abi.encodeWithSelector(IOrderBook.DurationOutOfRange.selector, type(uint32).max);
        _refused(user, type(uint32).max, reason, address(book));
        _deposit(account, PLAIN_TOKEN, 1e27);
        _extend(user, longest - 3_600);
        assertEq(book.order(_orderId).duration, longest, "the longest lease");

        uint64 open = _createOrder();
        _wrongState(open, OrderState.Open);
        vm.prank(user);
        book.cancelOrder(open);
        _wrongState(open, OrderState.Cancelled);
        _close(user, _orderId, OrderState.ClosedByUser);
        _wrongState(_orderId, OrderState.ClosedByUser);
        _wrongState(12_345, OrderState.None);
    }

    // ----------------------------------------------------------------- fuzzing

    /// @dev E2, E5: any way to a duration costs what the duration costs.
    function testFuzz_extendLease_conservesEveryUnit(uint256[6] memory times, uint256[6] memory added) public {
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 before = unlocked + locked;
        uint256 duration = 3_600;
        for (uint256 index = 0; index < times.length; ++index) {
            (, uint256 graceEnd) = leases.endOf(_orderId);
            vm.warp(bound(times[index], block.timestamp, graceEnd - 1));
            uint256 more = bound(added[index], 1, 20_000);
            if (times[index] % 3 == 0) book.settle(_ids(_orderId));
            _extend(user, uint32(more));
            duration += more;
            (, locked,) = escrow.balances(account, PLAIN_TOKEN);
            assertEq(locked, _lockOf(uint32(duration)), "lock of the whole duration");
        }
        vm.warp(_start + duration + GRACE_WINDOW);
        _close(address(this), _orderId, OrderState.ClosedAtEnd);
        (unlocked, locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "nothing stays locked");
        uint256 gross = uint256(RATE) * duration / 36_000;
        assertEq(before - unlocked, gross + gross * 200 / 10_000, "the user paid for every second");
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(duration), "supplier");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), gross + gross * 200 / 10_000 - _net(duration), "foundation");
    }

    // ----------------------------------------------------------------- private

    function _extend(address caller, uint32 added) private {
        vm.prank(caller);
        leases.extendLease(_orderId, added);
    }

    /// @dev Nothing has changed afterwards.
    function _refused(address caller, uint32 added, bytes memory reason, address reverter) private {
        (uint256 word,,) = book.orderRecord(_orderId);
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        vm.expectRevert(reason, reverter);
        _extend(caller, added);
        (uint256 after_,,) = book.orderRecord(_orderId);
        assertEq(after_, word, "order word");
        assertBalances(account, PLAIN_TOKEN, unlocked, locked);
    }

    function _wrongState(uint64 orderId, OrderState state) private {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, state), address(book));
        vm.prank(user);
        leases.extendLease(orderId, 60);
    }

    function _grant(address spender, uint112 limit, uint40 expiry) private {
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(limit, expiry, false));
    }

    function _assertEnd(uint256 expectedEnd, uint256 expectedGraceEnd) private view {
        (uint256 end, uint256 graceEnd) = leases.endOf(_orderId);
        assertEq(end, expectedEnd, "end");
        assertEq(graceEnd, expectedGraceEnd, "end of the grace");
    }

    function _lockOf(uint32 duration) private view returns (uint256) {
        return escrow.lockFor(RATE, duration, PLAIN_SCHEDULE) - MATCH_FEE;
    }

    function _net(uint256 time) private pure returns (uint256) {
        uint256 gross = uint256(RATE) * time / 36_000;
        return gross - gross * 2_200 / 10_000;
    }
}
