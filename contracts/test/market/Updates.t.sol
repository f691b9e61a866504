// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {Order, OrderState, OrderTerms, SpendingRight, UpdateProposal} from "../../src/Types.sol";
import {UpdateTest} from "./UpdateTest.sol";
import {TermsHash} from "./TermsHash.sol";

/// @notice The user proposes other terms, the supplier accepts: one lease ends and the next begins in the same transaction.
contract UpdatesTest is UpdateTest {
    uint256 private constant UNLOCKED = 1_000_000e18;

    // ----------------------------------------------------------------- propose

    function test_proposeUpdate_leavesTheLeaseAlone() public {
        (uint256 word,,) = book.orderRecord(_orderId);
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        vm.expectEmit(address(book));
        emit ILeases.UpdateProposed(_orderId, user, _expiry, _newTerms());
        _propose(_newTerms());

        (uint256 after_,,) = book.orderRecord(_orderId);
        assertEq(after_, word, "order word");
        assertBalances(account, PLAIN_TOKEN, unlocked, locked);
        UpdateProposal memory proposal = leases.updateProposal(_orderId);
        assertEq(proposal.hash, _updateHash(_newTerms()), "hash");
        assertEq(proposal.expiry, _expiry, "expiry");
        assertEq(proposal.basis, escrow.basisOf(account, PLAIN_TOKEN, user), "basis");
        assertEq(proposal.by, user, "who proposed");
    }

    function test_updateProposal_standsForLiveLeasesOnly() public {
        assertEq(leases.updateProposal(_orderId).hash, 0, "none yet");
        _propose(_newTerms());
        vm.warp(_start + 700);
        _close(user, _orderId, OrderState.ClosedByUser);
        UpdateProposal memory proposal = leases.updateProposal(_orderId);
        assertEq(proposal.hash, 0, "nobody can accept it any more");
        assertEq(proposal.expiry, 0, "expiry");
        assertEq(proposal.basis, 0, "basis");
        assertEq(proposal.by, address(0), "nobody's");
    }

    // ------------------------------------------------------------------ accept

    function test_acceptUpdate_closesAndOpens() public {
        _propose(_newTerms());
        vm.warp(_start + 900);
        uint64 expected = _orderId + 1;
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseSettled(_orderId, _provider, 900, _net(RATE, 900));
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(_orderId, OrderState.ClosedUpdated, 900);
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseCreated(expected, _provider, NEW_RATE, uint32(_start + 900), 0);
        vm.expectEmit(address(book));
        emit ILeases.LeaseUpdated(_orderId, expected, _orderId);
        uint64 updatedId = _accept(_newTerms(), NEW_RATE);
        assertEq(updatedId, expected, "the account's next id");

        _assertOld(900);
        _assertNew(updatedId);
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _used(200, 128, 8), "capacity of the new one alone");
        // A match fee was paid for the match, and there was one match.
        uint256 lock = _leaseLock(NEW_RATE, 7_200);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - _spent(RATE, 900) - lock, lock);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "responder");
        assertEq(leases.updateProposal(_orderId).hash, 0, "taken");
    }

    function _assertOld(uint32 billed) private view {
        Order memory old = book.order(_orderId);
        assertEq(uint256(old.state), uint256(OrderState.ClosedUpdated), "state of the old one");
        assertEq(old.duration, billed, "billed");
        assertEq(old.settledFor, billed, "paid");
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(RATE, billed), "supplier");
    }

    function _assertNew(uint64 updatedId) private view {
        Order memory updated = book.order(updatedId);
        assertEq(uint256(updated.state), uint256(OrderState.Leased), "state of the new one");
        assertEq(updated.rate, NEW_RATE, "the accepted rate");
        assertEq(updated.duration, 7_200, "duration");
        assertEq(updated.start, block.timestamp, "start");
        assertEq(updated.settledFor, 0, "settled");
        assertEq(updated.closeBlock, block.number, "close block");
        assertEq(updated.supplier, _provider, "the same supplier");
        assertEq(updated.feeSchedule, PLAIN_SCHEDULE, "schedule");
        assertFalse(updated.requeued || updated.noted, "flags");
        bytes32 expected = TermsHash.whole(_newTerms());
        assertEq(book.termsHash(updatedId), expected, "terms");
        assertEq(leases.workloadOf(updatedId), _orderId, "workload");
    }

    /// @dev The workload keeps its name through every update.
    function test_acceptUpdate_twiceInARow() public {
        uint64 second = _update();
        assertEq(leases.workloadOf(_orderId), _orderId, "named after itself");
        assertEq(leases.workloadOf(second), _orderId, "named after the first");
        vm.warp(block.timestamp + 1_500);
        vm.prank(user);
        leases.proposeUpdate(second, _terms(), uint40(block.timestamp + 1));
        vm.prank(_owner);
        uint64 third = leases.acceptUpdate(second, _leaseResources(_newTerms()), _terms(), 100e18);
        assertEq(leases.workloadOf(third), _orderId, "still after the first");
        assertState(second, OrderState.ClosedUpdated);
        assertState(third, OrderState.Leased);
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _used(100, 64, 4), "capacity");
        vm.warp(block.timestamp + 3_600 + GRACE_WINDOW);
        leases.closeLease(third, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        // The first was updated inside its hold, where nothing had accrued.
        assertEq(locked, 0, "every lock is gone");
    }

    /// @dev What accrued before an update inside the hold waits for the old lease's hold, the new one has its own.
    function test_acceptUpdate_insideTheHold() public {
        _propose(_newTerms());
        vm.warp(_start + 100);
        uint64 updatedId = _accept(_newTerms(), NEW_RATE);
        uint256 lock = _leaseLock(NEW_RATE, 7_200) + _spent(RATE, 100);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - lock, lock);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "held");

        vm.warp(_start + CHALLENGE_WINDOW);
        book.settle(_both(_orderId, updatedId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(RATE, 100), "the old one's");
        vm.warp(_start + 100 + CHALLENGE_WINDOW);
        book.settle(_both(_orderId, updatedId));
        uint256 both = _net(RATE, 100) + _net(NEW_RATE, CHALLENGE_WINDOW);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), both, "and the new one's");
    }

    function test_acceptUpdate_settlesWhatWasSettledNotTwice() public {
        vm.warp(_start + 700);
        book.settle(_ids(_orderId));
        _propose(_newTerms());
        vm.warp(_start + 800);
        _accept(_newTerms(), NEW_RATE);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(RATE, 800), "supplier");
    }

    /// @dev After the end it bills until the end, up to the last second of the grace.
    function test_acceptUpdate_inTheGrace() public {
        _expiry = uint40(_start + 10_000);
        _propose(_newTerms());
        vm.warp(_start + 3_600 + GRACE_WINDOW - 1);
        _accept(_newTerms(), NEW_RATE);
        _assertOld(3_600);
    }

    function test_acceptUpdate_untilTheLastSecond() public {
        _propose(_newTerms());
        vm.warp(_expiry - 1);
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    function test_acceptUpdate_atAnyRateUpToTheMaximum() public {
        _propose(_newTerms());
        uint256 state = vm.snapshotState();
        assertEq(book.order(_accept(_newTerms(), 160e18)).rate, 160e18, "the maximum");
        vm.revertToState(state);
        assertEq(book.order(_accept(_newTerms(), 1)).rate, 1, "the least");
    }

    /// @dev Nearly all of the supplier is the old lease's: only in its place is there room.
    function test_acceptUpdate_takesWhatTheOldLeaseFrees() public {
        OrderTerms memory terms = _newTerms();
        terms.resources = _resources(300, 1_024, 64, 0, 0);
        _propose(terms);
        _accept(terms, NEW_RATE);
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _used(300, 1_024, 64), "all of it is taken");
    }

    /// @dev The money of the old lease is there for the new one as well.
    function test_acceptUpdate_takesTheMoneyThatTheOldLeaseFrees() public {
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        OrderTerms memory terms = _terms();
        terms.maximumRate = 2 * RATE;
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, unlocked - 10e18, user);
        _propose(terms);
        assertLt(10e18, 2 * locked, "not enough without it");
        uint64 updatedId = _accept(terms, 2 * RATE);
        assertBalances(account, PLAIN_TOKEN, 10e18 - locked, 2 * locked);
        assertState(updatedId, OrderState.Leased);
    }

    function test_acceptUpdate_takesGpusFromAnyEntry() public {
        uint256 capacity = _withGpus(_withGpus(_capacity(300, 1_024, 64), 0, 7, 4), 2, 9, 4);
        vm.prank(_owner);
        book.setCapacity(capacity);
        OrderTerms memory terms = _newTerms();
        terms.resources = _resources(200, 128, 8, 3, (1 << 9) | (1 << 11));
        _propose(terms);
        uint64 updatedId = _accept(terms, NEW_RATE);
        assertEq(book.order(updatedId).gpuEntry, 2, "the entry with an accepted model");
        (uint256 free,,) = book.capacityOf(_provider);
        assertEq(free, capacity - 8 - (128 << 44) - (200 << 84) - (uint256(3) << 188), "three of them");
        vm.warp(block.timestamp + 100);
        vm.prank(user);
        leases.closeLease(updatedId, OrderState.ClosedByUser, _leaseResources(terms));
        (free,,) = book.capacityOf(_provider);
        assertEq(free, capacity, "and back");
    }

    /// @dev Schedule and class are those of the day, like those of a new order; fees that change later let the proposal fall
    /// (`UpdateBasis.t.sol`).
    function test_acceptUpdate_freezesTodaysScheduleAndClass() public {
        registry.setVerified(_provider, 1, type(uint16).max, 0);
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        uint64 updatedId = _update();
        assertEq(book.order(_orderId).feeSchedule, PLAIN_SCHEDULE, "the old one keeps its own");
        assertEq(book.order(updatedId).feeSchedule, SPON_SCHEDULE | 1, "rebated twin of today's");
    }

    function test_proposeUpdate_aLaterOneReplacesIt() public {
        _propose(_newTerms());
        OrderTerms memory other = _newTerms();
        other.duration = 7_201;
        _propose(other);
        vm.expectRevert(
            abi.encodeWithSelector(
                ILeases.OtherUpdateProposed.selector, _orderId, _updateHash(_newTerms()), _updateHash(other)
            ),
            address(book)
        );
        _accept(_newTerms(), NEW_RATE);
        assertState(_accept(other, NEW_RATE), OrderState.Leased);
    }

    // ------------------------------------------------------------------- reject

    function test_rejectUpdate_byBothSides() public {
        address spender = makeAddress("spender");
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(0, _expiry, true));
        address[3] memory callers = [user, _owner, spender];
        for (uint256 index = 0; index < callers.length; ++index) {
            _propose(_newTerms());
            vm.expectEmit(address(book));
            emit ILeases.UpdateRejected(_orderId, callers[index]);
            vm.prank(callers[index]);
            leases.rejectUpdate(_orderId, _updateHash(_newTerms()));
            assertEq(leases.updateProposal(_orderId).hash, 0, "gone");
            vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId), address(book));
            _accept(_newTerms(), NEW_RATE);
            assertState(_orderId, OrderState.Leased);
        }
    }

    // ---------------------------------------------------------- what comes after

    /// @dev The old lease can be undone inside its hold although it was updated, the new one inside its own.
    function test_undoLease_ofBoth() public {
        _propose(_newTerms());
        vm.warp(_start + 100);
        uint64 updatedId = _accept(_newTerms(), NEW_RATE);
        vm.warp(_start + 200);
        vm.startPrank(disputes);
        leases.undoLease(_orderId, _leaseResources(_terms()));
        (uint256 capacity,,) = book.capacityOf(_provider);
        assertEq(capacity, _used(200, 128, 8), "the new lease keeps its capacity");
        uint256 lock = _leaseLock(NEW_RATE, 7_200);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - lock, lock);
        leases.undoLease(updatedId, _leaseResources(_newTerms()));
        vm.stopPrank();
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE, 0);
        assertFalse(book.hasLease(_provider), "all is free");
        assertState(_orderId, OrderState.ClosedUndone);
        assertState(updatedId, OrderState.ClosedUndone);
    }

    /// @dev An answer that names the updated lease in its close block finds nothing open.
    function test_openLeases_passesOverAnUpdatedLease() public {
        uint64 updatedId = _update();
        (uint256 word,,) = book.orderRecord(updatedId);
        uint256 closeBlock = block.number;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(updatedId, _newTerms(), _rank(_provider, 1)));
        _openLeases(closeBlock, _matches(updatedId, _newTerms(), new uint256[](0)));
        (uint256 after_,,) = book.orderRecord(updatedId);
        assertEq(after_, word, "as it was");
        (bytes32 digest, uint16 count) = book.bidsDigest(updatedId);
        assertEq(count, 0, "nobody bid");
        assertNotEq(digest, 0, "its seed");
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, updatedId, OrderState.Leased));
        _bid(_owner, updatedId, 1);
    }

    /// @dev E2: through any update, every unit goes somewhere.
    function testFuzz_update_conservesEveryUnit(uint256 acceptAt, uint96 rate, uint32 duration, uint256 closeAt)
        public
    {
        OrderTerms memory terms = _newTerms();
        terms.duration = uint32(bound(duration, 1, 30 days));
        rate = uint96(bound(rate, 1, terms.maximumRate));
        _expiry = type(uint40).max;
        _propose(terms);
        vm.warp(bound(acceptAt, _start, _start + 3_600 + GRACE_WINDOW - 1));
        uint256 billed = block.timestamp - _start;
        if (billed > 3_600) billed = 3_600;
        uint64 updatedId = _accept(terms, rate);
        uint256 again = block.timestamp;
        vm.warp(bound(closeAt, again, again + 60 days));
        vm.prank(user);
        leases.closeLease(updatedId, OrderState.ClosedByUser, _leaseResources(terms));
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        book.settle(_both(_orderId, updatedId));

        uint256 ran = book.order(updatedId).duration;
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - _spent(RATE, billed) - _spent(rate, ran), 0);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(RATE, billed) + _net(rate, ran), "supplier");
    }

    function _both(uint64 left, uint64 right) private pure returns (uint64[] memory list) {
        list = new uint64[](2);
        (list[0], list[1]) = (left, right);
    }
}
