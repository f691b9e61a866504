// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IEscrow} from "../../src/market/IEscrow.sol";
import {LeaseResources, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {UpdateTest} from "./UpdateTest.sol";

/// @notice What can happen to a lease, in any order: around the payout hold most of all.
contract AnyOrderTest is UpdateTest {
    /// @dev While an account exists, a collaborator waits, also the first of its role.
    function test_proposeCollaborator_theFirstWaitsToo() public {
        assertTrue(escrow.accountCount() != 0, "an account");
        vm.store(address(book), bytes32(uint256(3)), 0);
        assertEq(book.collaborator(IOrderBook.Collaborator.Slasher), address(0), "none yet");
        address next = makeAddress("next slasher");
        book.proposeCollaborator(IOrderBook.Collaborator.Slasher, next);
        assertEq(book.collaborator(IOrderBook.Collaborator.Slasher), address(0), "proposed");
        vm.expectPartialRevert(IOrderBook.ChangeTooEarly.selector);
        book.acceptCollaborator(IOrderBook.Collaborator.Slasher);
    }

    function test_setFoundation_isNotTheEscrow() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(escrow)), address(escrow));
        escrow.setFoundation(address(escrow));
    }

    /// @dev Who may close and has nothing to spend locks nothing.
    function testFuzz_rightOfZeroLocksNothing(uint96 rate, uint32 added) public {
        address spender = makeAddress("spender");
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(0, uint40(block.timestamp + 1 days), true));
        OrderTerms memory terms = _terms();
        terms.maximumRate = uint96(bound(rate, 1, 1e18));
        vm.prank(spender);
        vm.expectPartialRevert(IEscrow.SpendingLimitExceeded.selector);
        book.createOrder(account, PLAIN_TOKEN, 0, terms);
        (, uint256 before,) = escrow.balances(account, PLAIN_TOKEN);
        vm.prank(spender);
        try leases.extendLease(_orderId, uint32(bound(added, 1, 1e8))) {} catch {}
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, before, "locked by who may lock nothing");
    }

    uint64[] private _all;
    OrderTerms[] private _allTerms;

    /// @dev Extensions, updates, closes, slashes, undone leases and settlements in any order; then all is over. Nothing stays
    /// locked, nobody is paid for what was undone, the books are whole to the unit.
    function testFuzz_anyOrderOfEvents(uint256 seed) public {
        _all.push(_orderId);
        _allTerms.push(_terms());
        uint256 time = block.timestamp;
        for (uint256 i = 0; i < 14; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            time += (seed >> 8) % 130;
            vm.warp(time);
            _step(seed, (seed >> 32) % _all.length);
        }
        vm.warp(time + 40_000);
        uint256 paid;
        for (uint256 i = 0; i < _all.length; ++i) {
            paid += _end(_all[i], _allTerms[i]);
        }
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "nothing stays locked");
        assertFalse(book.hasLease(_provider), "capacity");
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN) + plain.balanceOf(_owner), paid, "supplier");
        uint256 credits = escrow.creditOf(_owner, PLAIN_TOKEN) + escrow.creditOf(foundation, PLAIN_TOKEN)
            + escrow.creditOf(responder, PLAIN_TOKEN);
        assertEq(plain.balanceOf(address(escrow)), unlocked + credits, "to the unit");
    }

    function _end(uint64 id, OrderTerms memory terms) private returns (uint256) {
        if (book.order(id).state == OrderState.Leased) {
            leases.closeLease(id, OrderState.ClosedAtEnd, _leaseResources(terms));
        }
        book.settle(_ids(id));
        uint256 gross = uint256(book.order(id).rate) * book.order(id).duration / 36_000;
        if (book.order(id).state == OrderState.ClosedUndone) assertEq(gross, 0, "undone pays nothing");
        return gross - gross * 2_200 / 10_000;
    }

    function _step(uint256 seed, uint256 which) private {
        uint256 what = (seed >> 64) % 7;
        uint64 id = _all[which];
        LeaseResources memory resources = _leaseResources(_allTerms[which]);
        if (what == 0) {
            vm.prank(user);
            try leases.extendLease(id, uint32((seed >> 72) % 5_000)) {} catch {}
        } else if (what == 1) {
            _tryUpdate(seed, id, resources);
        } else if (what == 2) {
            vm.prank(user);
            try leases.closeLease(id, OrderState.ClosedByUser, resources) {} catch {}
        } else if (what == 3) {
            vm.prank(leaseSlasher);
            try leases.slashLease(id, uint32((seed >> 72) % 600), resources) {} catch {}
        } else if (what == 4) {
            vm.prank(disputes);
            try leases.undoLease(id, resources) {} catch {}
        } else if (what == 5) {
            try book.settle(_ids(id)) {} catch {}
        } else {
            vm.prank(_owner);
            try book.settleAndWithdraw(_ids(id), _owner) {} catch {}
        }
    }

    function _tryUpdate(uint256 seed, uint64 id, LeaseResources memory resources) private {
        OrderTerms memory next = _newTerms();
        next.duration = uint32(1 + (seed >> 72) % 3_000);
        vm.prank(user);
        try leases.proposeUpdate(id, next, type(uint40).max) {}
        catch {
            return;
        }
        vm.prank(_owner);
        try leases.acceptUpdate(id, resources, next, uint96(1 + (seed >> 80) % 160e18)) returns (uint64 updated) {
            _all.push(updated);
            _allTerms.push(next);
        } catch {}
    }
}
