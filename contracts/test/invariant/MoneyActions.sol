// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderState} from "../../src/Types.sol";
import {LeaseActions} from "./LeaseActions.sol";
import {IToken} from "./World.sol";

/// @notice What leases pay: settled by anyone, withdrawn by who is owed, taken back by disputes, cut by the slasher.
abstract contract MoneyActions is LeaseActions {
    /// @dev The most leases that one withdrawal settles here.
    uint256 private constant MOST_AT_ONCE = 6;

    // ------------------------------------------------------------------- settle

    function settle(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickLease(seed);
        if (!found) return;
        (, uint256 other) = _pickLease(seed >> 8);
        if (_draw(seed, 75, 4) != 0) index = _waitForHeld(seed, index);
        _settle(index, other);
    }

    /// @dev At a low rate every second is a unit or none: settled as often as that, nothing may round the wrong way.
    function settleEverySecond(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickLowRate(seed);
        if (!found) return;
        Entry storage entry = _entries[index];
        uint256 end = uint256(entry.start) + entry.duration;
        if (_isHeld(entry)) vm.warp(uint256(entry.start) + _hold);
        // The last seconds half the time: what is left then can only be closed.
        if (_draw(seed, 76, 2) == 0 && block.timestamp + 4 < end && end < block.timestamp + 30 days) vm.warp(end - 4);
        for (uint256 second = 0; second < 4; ++second) {
            _settle(index, index);
            vm.warp(block.timestamp + 1 + _draw(seed, 77 + second, 2));
        }
    }

    /// @dev A live lease of at most three units a second, or any live one.
    function _pickLowRate(uint256 seed) private view returns (bool, uint256 index) {
        for (uint256 step = 0; step < _entries.length; ++step) {
            index = (seed % _entries.length + step) % _entries.length;
            if (_entries[index].state == OrderState.Leased && _entries[index].rate <= 3 * RATE_PERIOD) {
                return (true, index);
            }
        }
        return _pickIn(seed, OrderState.Leased);
    }

    /// @dev A lease that was closed inside its hold, once the hold is over; the one given if there is none.
    function _waitForHeld(uint256 seed, uint256 otherwise) private returns (uint256 index) {
        for (uint256 step = 0; step < _entries.length; ++step) {
            index = (seed % _entries.length + step) % _entries.length;
            Entry storage entry = _entries[index];
            if (!entry.held || entry.duration == 0) continue;
            if (_isHeld(entry)) vm.warp(uint256(entry.start) + _hold);
            return index;
        }
        return otherwise;
    }

    function _settle(uint256 index, uint256 other) internal {
        uint64[] memory ids = new uint64[](3);
        // The second time there is nothing due.
        (ids[0], ids[1], ids[2]) = (_entries[index].orderId, _entries[other].orderId, _entries[index].orderId);
        vm.prank(_stranger);
        try book.settle(ids) {
            _pay(_entries[index]);
            if (other != index) _pay(_entries[other]);
        } catch {
            _break(11, "a lease could not be settled");
        }
    }

    function _pay(Entry storage entry) private {
        uint256 until = _payableUntil(entry);
        if (until != entry.paidTo) {
            _reach(entry.held ? Reached.SettledHeld : Reached.Settled);
            _accrueAll(entry, until);
        }
        _see(entry);
        _seePurse(entry.account, entry.token);
    }

    /// @dev Returns what is the supplier's.
    function _accrueAll(Entry storage entry, uint256 until) private returns (uint256 amount) {
        (amount,) = _accrue(entry, until, _supplierOwner(entry.supplier), _gatewayOwner(entry.supplier));
        if (entry.held) _finish(entry, _foundation);
    }

    /// @dev A supplier's own leases in one token, paid out together with what it was credited.
    function settleAndWithdraw(uint256 seed) public {
        ++steps;
        uint8 token = _pickToken(seed);
        Supplier storage supplier = _suppliers[_draw(seed, 70, _suppliers.length)];
        uint256[] memory own = _leasesOf(supplier.id, token, seed);
        if (own.length == 0) return;
        uint256 due = _dueTo(own) + _credits[_creditKey(supplier.owner, token)];
        address to = _recipient(supplier.owner, seed);
        bool moves = _moves(token, address(escrow), to) && _mayReceive(to);
        uint256 balance = IToken(_tokenAddress[token]).balanceOf(to);
        bool armed = _isArmed(token);
        try this.withdrawing(own, supplier.owner, token, to) returns (uint256 paid) {
            uint256 received = IToken(_tokenAddress[token]).balanceOf(to) - balance;
            _require(armed || (paid == due && received == due), 3, "a supplier was paid other than it is owed");
            _require(moves && due != 0, 11, "a payment that could not be");
            _reach(Reached.SettledAndWithdrawn);
        } catch {
            _require(!moves || due == 0, 11, "a supplier could not withdraw");
            if (!moves && _mayReceive(to)) _reach(Reached.TransferBlocked);
        }
        for (uint256 position = 0; position < own.length; ++position) {
            Entry storage entry = _entries[own[position]];
            _see(entry);
            _seePurse(entry.account, entry.token);
        }
    }

    /// @dev The ledger first, as in the escrow.
    function withdrawing(uint256[] calldata own, address owner, uint8 token, address to)
        external
        onlySelf
        returns (uint256)
    {
        uint64[] memory ids = new uint64[](own.length);
        for (uint256 position = 0; position < own.length; ++position) {
            Entry storage entry = _entries[own[position]];
            ids[position] = entry.orderId;
            uint256 until = _payableUntil(entry);
            if (until != entry.paidTo) _accrueAll(entry, until);
        }
        _payOut(owner, token, _credits[_creditKey(owner, token)]);
        vm.prank(owner);
        return book.settleAndWithdraw(ids, to);
    }

    function _dueTo(uint256[] memory own) private view returns (uint256 due) {
        for (uint256 position = 0; position < own.length; ++position) {
            Entry storage entry = _entries[own[position]];
            uint256 until = _payableUntil(entry);
            if (until == entry.paidTo) continue;
            (uint256 toSupplier,) = _shares(entry, until, _gatewayOwner(entry.supplier) != address(0));
            due += toSupplier - entry.supplierGot;
        }
    }

    function _leasesOf(uint32 supplier, uint8 token, uint256 seed) private view returns (uint256[] memory own) {
        own = new uint256[](MOST_AT_ONCE);
        uint256 count = 0;
        uint256 all = _entries.length;
        for (uint256 step = 0; step < all && count < MOST_AT_ONCE; ++step) {
            uint256 index = (seed % all + step) % all;
            if (_entries[index].supplier == supplier && _entries[index].token == token) own[count++] = index;
        }
        assembly ("memory-safe") {
            mstore(own, count)
        }
    }

    function withdrawCredit(uint256 seed) public {
        ++steps;
        address payee = _payees[_draw(seed, 71, _payees.length)];
        _withdrawCredit(payee, _pickToken(seed), _recipient(payee, seed));
    }

    function _withdrawCredit(address payee, uint8 token, address to) internal {
        uint256 credit = _credits[_creditKey(payee, token)];
        bool moves = _moves(token, address(escrow), to) && _mayReceive(to);
        uint256 balance = IToken(_tokenAddress[token]).balanceOf(to);
        bool armed = _isArmed(token);
        try this.withdrawing(payee, token, to) {
            _require(moves && credit != 0, 3, "a credit that is none was paid, or to nobody");
            uint256 received = IToken(_tokenAddress[token]).balanceOf(to) - balance;
            _require(armed || received == credit, 3, "a payee was paid other than its credit");
            _reach(Reached.CreditWithdrawn);
        } catch {
            _require(!moves || credit == 0, 11, "a credit was not paid");
            if (!moves && credit != 0 && _mayReceive(to)) _reach(Reached.TransferBlocked);
        }
    }

    function withdrawing(address payee, uint8 token, address to) external onlySelf {
        _payOut(payee, token, _credits[_creditKey(payee, token)]);
        vm.prank(payee);
        escrow.withdrawCredit(token, to);
    }

    // ---------------------------------------------------------- disputes, slasher

    function undo(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickInHold(seed, _draw(seed, 72, 2) == 0);
        if (!found) return;
        Entry storage entry = _entries[index];
        address caller = _draw(seed, 79, 8) == 0 ? _stranger : _roles.disputes;
        bool live = entry.state == OrderState.Leased;
        bool allowed = caller == _roles.disputes && _isHeld(entry) && entry.state != OrderState.ClosedUndone;
        vm.prank(caller);
        try leases.undoLease(entry.orderId, _resourcesOf(entry)) {
            _require(allowed, 3, "a lease was undone after its payout hold");
            (entry.state, entry.duration, entry.held) = (OrderState.ClosedUndone, 0, false);
            _refund(entry, _left(entry));
            _seePurse(entry.account, entry.token);
            _reach(live ? Reached.UndoneLive : Reached.UndoneClosed);
        } catch {
            _require(!allowed, 11, "a lease could not be undone inside its payout hold");
        }
        _see(entry);
    }

    /// @dev A live or a closed lease inside its hold, or any.
    function _pickInHold(uint256 seed, bool live) private view returns (bool, uint256 index) {
        for (uint256 step = 0; step < _entries.length; ++step) {
            index = (seed % _entries.length + step) % _entries.length;
            Entry storage entry = _entries[index];
            if (entry.start == 0 || !_isHeld(entry)) continue;
            if (entry.state == OrderState.Leased ? live : entry.held && !live) return (true, index);
        }
        return _pickLease(seed);
    }

    function slash(uint256 seed, uint256 billed) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        address caller = _draw(seed, 73, 8) == 0 ? _stranger : _roles.slasher;
        uint256 most = _billable(entry);
        // One outside of the range now and then.
        uint32 given = uint32(_draw(seed, 74, 8) == 0 ? most + 1 : bound(billed, entry.paidTo, most));
        bool allowed = caller == _roles.slasher && given <= most;
        vm.prank(caller);
        try leases.slashLease(entry.orderId, given, _resourcesOf(entry)) {
            _require(allowed, 3, "a slashed lease is billed for more than has passed");
            _end(entry, OrderState.ClosedSlashed, given);
            _reach(Reached.Slashed);
        } catch {
            _require(!allowed, 11, "a lease could not be slashed");
        }
        _see(entry);
    }

    // ---------------------------------------------------------------- two paths

    struct Outcome {
        uint256 unlocked;
        uint256 locked;
        uint256 supplier;
        uint256 gateway;
        uint256 foundation;
    }

    /// @dev E5, tried out: a lease that is settled at any times and then closed ends as one that is closed alone.
    function comparePaths(uint256 seed, uint256 first, uint256 second) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        uint256 later = block.timestamp + bound(second, 2, 20_000);
        uint256 between = bound(first, block.timestamp + 1, later - 1);
        Outcome memory many = _outcome(entry, between, later, true);
        Outcome memory one = _outcome(entry, between, later, false);
        _require(keccak256(abi.encode(many)) == keccak256(abi.encode(one)), 5, "two settlements paid other than one");
        _reach(Reached.PathsCompared);
    }

    /// @dev What everybody has after the close. All of it is taken back.
    function _outcome(Entry storage entry, uint256 between, uint256 later, bool settles)
        private
        returns (Outcome memory outcome)
    {
        uint256 snapshot = vm.snapshotState();
        if (settles) {
            uint64[] memory ids = new uint64[](1);
            ids[0] = entry.orderId;
            book.settle(ids);
            vm.warp(between);
            book.settle(ids);
        }
        vm.warp(later);
        vm.prank(_ownerOf[entry.account]);
        leases.closeLease(entry.orderId, OrderState.ClosedByUser, _resourcesOf(entry));
        outcome = _readOutcome(entry);
        vm.revertToState(snapshot);
    }

    function _readOutcome(Entry storage entry) private view returns (Outcome memory outcome) {
        uint8 token = entry.token;
        (outcome.unlocked, outcome.locked,) = escrow.balances(entry.account, token);
        outcome.supplier = escrow.creditOf(_supplierOwner(entry.supplier), token);
        outcome.gateway = escrow.creditOf(_gatewayOwner(entry.supplier), token);
        outcome.foundation = escrow.creditOf(_foundation, token);
    }
}
