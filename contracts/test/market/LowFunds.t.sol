// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {OrderState, OrderTerms} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Anyone announces that a lease will end, once for every end it gets.
contract LowFundsTest is MarketTest {
    address private _owner;
    uint32 private _provider;
    uint64 private _orderId;
    uint256 private _end;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _orderId = _lease(_owner, _provider, 90e18);
        _end = block.timestamp + 3_600;
    }

    function test_announceLowFunds_fromTheWindowOn() public {
        vm.warp(_end - LOW_FUNDS_WINDOW - 1);
        _assertSilent(_orderId);
        vm.warp(_end - LOW_FUNDS_WINDOW);
        _assertAnnounced(_orderId, _end);
        assertTrue(book.order(_orderId).noted, "noted");
        // Once.
        _assertSilent(_orderId);
    }

    /// @dev A quarter of the duration, if that is less than the window.
    function test_announceLowFunds_ofShortLeases() public {
        OrderTerms memory terms = _terms();
        terms.duration = 100;
        uint64 orderId = _lease(_owner, _provider, 90e18, terms);
        uint256 end = block.timestamp + 100;
        vm.warp(end - 26);
        _assertSilent(orderId);
        vm.warp(end - 25);
        _assertAnnounced(orderId, end);
    }

    function test_announceLowFunds_untilTheGraceIsOver() public {
        vm.warp(_end + GRACE_WINDOW - 1);
        uint256 state = vm.snapshotState();
        _assertAnnounced(_orderId, _end);
        vm.revertToState(state);
        vm.warp(_end + GRACE_WINDOW);
        _assertSilent(_orderId);
    }

    /// @dev The next end is another one.
    function test_announceLowFunds_againAfterAnExtension() public {
        vm.warp(_end - 10);
        _assertAnnounced(_orderId, _end);
        vm.prank(user);
        leases.extendLease(_orderId, 1_000);
        assertFalse(book.order(_orderId).noted, "not noted any more");
        _assertSilent(_orderId);
        vm.warp(_end + 1_000 - LOW_FUNDS_WINDOW);
        _assertAnnounced(_orderId, _end + 1_000);
    }

    /// @dev Whatever else is in the list changes nothing for the one that is due.
    function test_announceLowFunds_passesOverAllOthers() public {
        uint64[] memory orderIds = new uint64[](6);
        (uint64 other, uint64 closed) = (_lease(_owner, _provider, 80e18), _lease(_owner, _provider, 80e18));
        vm.prank(user);
        leases.extendLease(other, 100_000);
        _close(user, closed, OrderState.ClosedByUser);
        (orderIds[0], orderIds[1], orderIds[2]) = (other, closed, 99);
        (orderIds[3], orderIds[4], orderIds[5]) = (_createOrder(), _orderId, _orderId);
        vm.warp(_end - 1);
        vm.recordLogs();
        vm.prank(makeAddress("anybody"));
        leases.announceLowFunds(orderIds);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1, "one announcement");
        assertEq(logs[0].topics[0], ILeases.LeaseLowOnFunds.selector, "low funds");
        assertEq(uint256(logs[0].topics[1]), _orderId, "of the one that is due");
    }

    /// @dev It moves no money and no end, and its bit means something else once the lease is closed.
    function test_announceLowFunds_changesNothingElse() public {
        (uint256 word,,) = book.orderRecord(_orderId);
        vm.warp(_end - 1);
        _assertAnnounced(_orderId, _end);
        (uint256 after_,,) = book.orderRecord(_orderId);
        assertEq(after_, word | (1 << 248), "one bit");
        _close(user, _orderId, OrderState.ClosedByUser);
        assertFalse(book.order(_orderId).noted, "not rated yet");
        vm.prank(user);
        leases.rateLease(_orderId, 9);
        assertTrue(book.order(_orderId).noted, "rated");
    }

    // ----------------------------------------------------------------- private

    function _assertAnnounced(uint64 orderId, uint256 end) private {
        vm.expectEmit(address(book));
        emit ILeases.LeaseLowOnFunds(orderId, end);
        vm.prank(makeAddress("anybody"));
        leases.announceLowFunds(_ids(orderId));
    }

    function _assertSilent(uint64 orderId) private {
        vm.recordLogs();
        leases.announceLowFunds(_ids(orderId));
        assertEq(vm.getRecordedLogs().length, 0, "no announcement");
    }
}
