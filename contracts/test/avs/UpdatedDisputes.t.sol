// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {OrderState, OrderTerms} from "../../src/Types.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @notice Wrong answers stay wrong when their lease has been updated or slashed since, and no answer reaches a lease that none
/// opened.
contract UpdatedDisputesTest is DisputesTest {
    address[2] private _owners;
    uint32[2] private _providers;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 2; i++) {
            (_owners[i], _providers[i]) = _addProvider(string.concat("provider", vm.toString(i)));
        }
    }

    /// @dev Who won wrongly cannot keep what it won by having it updated.
    function test_updated_lease_is_undone() public {
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        (uint64 orderId, IMatchingDisputes.Answer memory answer) = _wronglyLeased();
        uint64 updatedId = _update(orderId);
        vm.warp(vm.getBlockTimestamp() + 100);
        _challengeUndoing(orderId, answer, true);
        assertState(orderId, OrderState.ClosedUndone);
        assertState(updatedId, OrderState.Leased);
        uint256 lock = escrow.lockFor(70e18, 3_600, PLAIN_SCHEDULE) - MATCH_FEE;
        assertBalances(account, PLAIN_TOKEN, unlocked - MATCH_FEE - lock, lock);
    }

    function test_slashed_lease_is_undone() public {
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        (uint64 orderId, IMatchingDisputes.Answer memory answer) = _wronglyLeased();
        vm.warp(vm.getBlockTimestamp() + 100);
        vm.prank(leaseSlasher);
        leases.slashLease(orderId, 50, _leaseResources(_terms()));
        _challengeUndoing(orderId, answer, true);
        assertState(orderId, OrderState.ClosedUndone);
        assertBalances(account, PLAIN_TOKEN, unlocked - MATCH_FEE, 0);
    }

    /// @dev A quorum that signs for a lease it had nothing to do with is proven wrong, and the lease goes on.
    function test_lease_of_an_update_is_not_undone() public {
        (uint64 orderId,) = _wronglyLeased();
        uint64 updatedId = _update(orderId);
        uint32 closeBlock = _closeBlock(updatedId);
        IMatchingDisputes.Answer memory answer =
            _answer(closeBlock, _matches(updatedId, _terms(), _rank(_providers[0], 70e18)), EVERYBODY);
        assertState(updatedId, OrderState.Leased);
        _challengeUndoing(updatedId, answer, false);
        assertState(updatedId, OrderState.Leased);
    }

    // ----------------------------------------------------------------- private

    /// @dev To the dearer of the two.
    function _wronglyLeased() private returns (uint64 orderId, IMatchingDisputes.Answer memory answer) {
        orderId = _createOrder();
        for (uint96 i = 0; i < 2; i++) {
            _bidAndKeep(_owners[i], orderId, 50e18 + i * 20e18);
        }
        answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
        assertEq(book.order(orderId).supplier, _providers[1], "the dearer one got it");
    }

    function _update(uint64 orderId) private returns (uint64) {
        OrderTerms memory terms = _terms();
        vm.prank(user);
        leases.proposeUpdate(orderId, terms, type(uint40).max);
        vm.prank(_owners[1]);
        return leases.acceptUpdate(orderId, _leaseResources(terms), terms, 70e18);
    }

    function _challengeUndoing(uint64 orderId, IMatchingDisputes.Answer memory answer, bool undone) private {
        vm.expectEmit(disputes);
        emit IMatchingDisputes.AnswerProvenWrong(
            _verdict(answer), orderId, answer.task.closeBlock, answer.task.chunk, challenger, undone
        );
        _challenge(orderId, answer);
        assertProven(_verdict(answer), true);
    }
}
