// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {OrderState, OrderTerms, SpendingRight, UpdateProposal} from "../../src/Types.sol";
import {OrderActions} from "./OrderActions.sol";

/// @notice A lease's life: extended, updated, announced, closed by whoever may, rated.
abstract contract LeaseActions is OrderActions {
    // -------------------------------------------------------------------- close

    function closeByUser(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        address caller = _ownerOf[entry.account];
        uint256 who = _draw(seed, 40, 6);
        if (who < 2) caller = _someSpender(entry.account, entry.token, seed);
        if (who == 5) caller = _stranger;
        if (_draw(seed, 46, 6) == 0) _waitForGrace(entry);
        bool over = block.timestamp >= _overAt(entry);
        bool allowed = over || _mayClose(entry.account, entry.token, caller);
        bool bySignature = _keys[caller] != 0 && _draw(seed, 41, 3) == 0;
        bool closed = bySignature ? _tryCloseFor(entry, caller) : _tryClose(entry, caller, OrderState.ClosedByUser);
        if (closed) {
            _require(allowed, 4, "a lease was closed by a stranger");
            if (caller != _ownerOf[entry.account]) _reach(Reached.ClosedBySpender);
            if (bySignature) _reach(Reached.ClosedBySignature);
            _closed(entry, OrderState.ClosedByUser);
        } else {
            _require(!allowed, 11, "a lease could not be closed by its user");
        }
    }

    function _waitForGrace(Entry storage entry) private {
        uint256 end = uint256(entry.start) + entry.duration;
        if (block.timestamp <= end && end < block.timestamp + 30 days) {
            vm.warp(end + (_graceOf(entry.duration) + 1) / 2);
        }
    }

    function closeBySupplier(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        OrderState reason = OrderState(uint256(OrderState.ClosedNoManifest) + _draw(seed, 42, 4));
        address caller = _draw(seed, 43, 5) == 0
            ? _suppliers[_draw(seed, 44, _suppliers.length)].owner
            : _supplierOwner(entry.supplier);
        bool allowed = block.timestamp >= _overAt(entry) || caller == _supplierOwner(entry.supplier);
        if (_tryClose(entry, caller, reason)) {
            _require(allowed, 4, "a lease was closed by another supplier");
            _closed(entry, reason);
            _reach(Reached.ClosedBySupplier);
        } else {
            _require(!allowed, 11, "a lease could not be closed by its supplier");
        }
    }

    /// @dev E10: from end and grace on anybody closes, and not a second before.
    function closeAtEnd(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        _require(!_tryClose(entry, _stranger, OrderState.ClosedSlashed), 9, "closed for a reason that is not theirs");
        uint256 over = _overAt(entry);
        uint256 kind = _draw(seed, 45, 4);
        if (kind < 2 && block.timestamp < over) vm.warp(over - kind);
        _closeOver(entry);
    }

    function _closeOver(Entry storage entry) internal {
        bool over = block.timestamp >= _overAt(entry);
        if (_tryClose(entry, _stranger, OrderState.ClosedAtEnd)) {
            _require(over, 10, "a lease was over before its end and grace");
            uint256 bought = entry.duration;
            _closed(entry, OrderState.ClosedAtEnd);
            Word memory word = _unpack(entry.word);
            bool whole = word.state == OrderState.ClosedAtEnd && word.duration == bought;
            _require(whole, 10, "a lease that reached its end is not billed to it");
            _require(_isHeld(entry) || word.settledFor == bought, 10, "at the end of funds not all was paid");
        } else {
            _require(!over, 10, "a lease that is over could not be closed by anyone");
        }
    }

    function _tryClose(Entry storage entry, address caller, OrderState reason) private returns (bool) {
        vm.prank(caller);
        try leases.closeLease(entry.orderId, reason, _resourcesOf(entry)) {
            return true;
        } catch {
            return false;
        }
    }

    function _closed(Entry storage entry, OrderState reason) private {
        bool over = block.timestamp >= _overAt(entry);
        if (!over && block.timestamp > uint256(entry.start) + entry.duration) _reach(Reached.ClosedInGrace);
        if (reason == OrderState.ClosedByUser && !over) _reach(Reached.ClosedByUser);
        if (over) _reach(Reached.ClosedAtEnd);
        _end(entry, over ? OrderState.ClosedAtEnd : reason, _billable(entry));
    }

    /// @dev A close that bills `billed` seconds: inside the payout hold what accrued stays, later everything is paid.
    function _end(Entry storage entry, OrderState reason, uint256 billed) internal {
        bool held = _isHeld(entry);
        (entry.state, entry.duration) = (reason, uint32(billed));
        if (held) {
            entry.held = true;
            _refund(entry, _left(entry) - _costOf(entry, billed));
            _reach(Reached.ClosedHeld);
        } else {
            _accrue(entry, billed, _supplierOwner(entry.supplier), _gatewayOwner(entry.supplier));
            _finish(entry, _foundation);
        }
        _see(entry);
        _seePurse(entry.account, entry.token);
    }

    // ------------------------------------------------------------------- extend

    function extend(uint256 seed, uint256 added) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        address caller = _ownerOf[entry.account];
        uint256 who = _draw(seed, 50, 8);
        if (who < 3) caller = _someSpender(entry.account, entry.token, seed);
        if (who == 7) caller = _stranger;
        uint32 end = uint32(uint256(entry.start) + entry.duration);
        if (_draw(seed, 51, 4) == 0) _waitForGrace(entry);
        uint32 longer = uint32(bound(added, 1, 40_000));
        uint256 cost = _worstCase(entry.rate, uint256(entry.duration) + longer, entry.schedule)
            - _worstCase(entry.rate, entry.duration, entry.schedule);
        bool allowed = block.timestamp < _overAt(entry) && _maySpend(entry.account, entry.token, caller, cost)
            && cost <= _purseOf(entry).unlocked;
        vm.prank(caller);
        try leases.extendLease(entry.orderId, longer) {
            _require(block.timestamp < _overAt(entry), 10, "a lease was extended after end and grace");
            _require(allowed, 4, "a lease was extended without the money or the right");
            _consume(entry.account, entry.token, caller, cost);
            entry.duration += longer;
            _lock(entry, cost);
            _see(entry);
            _reach(Reached.Extended);
            if (caller != _ownerOf[entry.account]) _reach(Reached.ExtendedBySpender);
            if (block.timestamp > end) _reach(Reached.ExtendedInGrace);
        } catch {
            // Delisted tokens and paused markets are no reason.
            _require(!allowed, 12, "a lease could not be extended");
        }
        _seePurse(entry.account, entry.token);
    }

    function announce(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        uint256 end = uint256(entry.start) + entry.duration;
        uint256 window = entry.duration / 4 < _longestWarning ? entry.duration / 4 : _longestWarning;
        if (_draw(seed, 52, 3) == 0 && block.timestamp < end - window) vm.warp(end - window);
        uint64[] memory ids = new uint64[](1);
        ids[0] = entry.orderId;
        leases.announceLowFunds(ids);
        (uint256 word,,) = book.orderRecord(entry.orderId);
        if (word != entry.word) {
            bool low = block.timestamp >= end - window && block.timestamp < _overAt(entry);
            _require(low && word == entry.word | (1 << 248), 9, "a lease was announced that is not low on funds");
            _reach(Reached.Announced);
        }
        _see(entry);
    }

    // ------------------------------------------------------------------- update

    function propose(uint256 seed, uint256 rate, uint256 shape) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        _propose(_entries[index], seed, rate, shape);
    }

    function _propose(Entry storage entry, uint256 seed, uint256 rate, uint256 shape) private {
        address caller = _ownerOf[entry.account];
        uint256 who = _draw(seed, 60, 8);
        if (who < 2) caller = _someSpender(entry.account, entry.token, seed);
        if (who == 7) caller = _stranger;
        uint256 rateAndDuration = _affordable(entry.account, entry.token, seed, rate);
        Proposal memory proposal = Proposal({
            shape: shape,
            maximumRate: uint96(rateAndDuration >> 32),
            duration: uint32(rateAndDuration),
            expiry: uint40(block.timestamp + _draw(seed, 61, 5_000)),
            epoch: _epochs[entry.account],
            setting: _settingOf(entry.account, entry.token, caller),
            schedule: _currentSchedule[entry.token],
            by: caller,
            there: true
        });
        OrderTerms memory terms = _terms(shape, proposal.maximumRate, proposal.duration);
        uint256 amount = _worstCase(terms.maximumRate, terms.duration, _currentSchedule[entry.token]);
        bool fits = _withinBracket(
            terms.resources,
            escrow.bracketOf(entry.account, entry.token),
            (terms.resources >> 62) & 0xfff == 0 ? 0 : book.topGpus()
        );
        bool allowed = !_paused && fits && block.timestamp < _overAt(entry) && proposal.expiry > block.timestamp
            && _maySpend(entry.account, entry.token, caller, amount) && _mayClose(entry.account, entry.token, caller);
        vm.prank(caller);
        try leases.proposeUpdate(entry.orderId, terms, proposal.expiry) {
            if (_paused) _break(12, "an update in a paused market");
            _require(allowed, 4, "an update was proposed without the right");
            _consume(entry.account, entry.token, caller, amount);
            _proposals[entry.orderId] = proposal;
            _reach(Reached.Proposed);
        } catch {
            _require(!allowed, 12, "a good update was refused");
        }
        _see(entry);
    }

    /// @dev The first live lease with a proposal, counted from a random one.
    function _pickProposed(uint256 seed) private view returns (bool, uint256 index) {
        uint256 count = _entries.length;
        for (uint256 step = 0; step < count; ++step) {
            index = (seed % count + step) % count;
            if (_entries[index].state == OrderState.Leased && _proposals[_entries[index].orderId].there) {
                return (true, index);
            }
        }
        return (false, 0);
    }

    function acceptUpdate(uint256 seed, uint256 rate) public {
        ++steps;
        (bool found, uint256 index) = _pickProposed(seed);
        if (!found || _entries.length >= MOST_ENTRIES) return;
        _accept(_entries[index], seed, rate);
    }

    /// @dev Proposed and accepted at once: how an update mostly goes.
    function update(uint256 seed, uint256 rate, uint256 shape) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found || _entries.length >= MOST_ENTRIES) return;
        _propose(_entries[index], seed, rate, shape & ~(uint256(7) << 32));
        if (_proposals[_entries[index].orderId].there) _accept(_entries[index], seed, type(uint256).max);
    }

    function _accept(Entry storage entry, uint256 seed, uint256 rateSeed) private {
        Proposal memory proposal = _proposals[entry.orderId];
        OrderTerms memory terms = _terms(proposal.shape, proposal.maximumRate, proposal.duration);
        // One above the maximum is refused.
        uint96 rate = rateSeed == type(uint256).max
            ? proposal.maximumRate
            : uint96(bound(rateSeed, 1, uint256(proposal.maximumRate) + 1));
        address caller = _draw(seed, 62, 8) == 0 ? _stranger : _supplierOwner(entry.supplier);
        _undermine(entry, proposal, seed);
        bool allowed = _mayAccept(entry, proposal, rate) && caller == _supplierOwner(entry.supplier);
        vm.prank(caller);
        try leases.acceptUpdate(entry.orderId, _resourcesOf(entry), terms, rate) returns (uint64 updatedId) {
            if (_paused) _break(12, "an update in a paused market");
            _require(allowed, 4, "an update that was not agreed on, or without the money");
            if (proposal.by != _ownerOf[entry.account]) _reach(Reached.UpdatedBySpender);
            _replace(entry, updatedId, terms, rate);
            vm.prank(caller);
            try leases.acceptUpdate(entry.orderId, _resourcesOf(entry), terms, rate) {
                _break(9, "an update was accepted twice");
            } catch {}
        } catch (bytes memory reason) {
            // What is free of a supplier is checked in `Invariants.t.sol`; here it may or may not be enough.
            _require(!allowed || bytes4(reason) == ILeases.NoCapacity.selector, 12, "an agreed update was refused");
            if (bytes4(reason) == ILeases.NoUpdateProposed.selector) _reachFallen(entry, proposal);
        }
        _see(entry);
        _seePurse(entry.account, entry.token);
    }

    /// @dev Now and then the owner sets the spender's right anew before the supplier accepts, mostly to what it was; or the
    /// token's fees change.
    function _undermine(Entry storage entry, Proposal memory proposal, uint256 seed) private {
        uint256 what = _draw(seed, 66, 6);
        if (what == 0) return _setFees(entry.token, _otherPair(entry.token));
        if (what > 2 || proposal.by == _ownerOf[entry.account] || proposal.epoch != _epochs[entry.account]) return;
        if (what == 1) _grant(entry.account, proposal.by, entry.token, SpendingRight(0, 0, false));
        bytes32 key = _rightKey(entry.account, proposal.by, entry.token);
        SpendingRight memory right = SpendingRight(_rights[key].limit, uint40(block.timestamp + 1 hours), true);
        _grant(entry.account, proposal.by, entry.token, right);
    }

    /// @dev What would be accepted if it did not count how often a right was set, or what the fees were.
    function _reachFallen(Entry storage entry, Proposal memory proposal) private {
        bool mayClose = proposal.epoch == _epochs[entry.account] && _mayClose(entry.account, entry.token, proposal.by);
        bool sameFees = proposal.schedule == _currentSchedule[entry.token];
        if (mayClose && sameFees) _reach(Reached.FallenWithRight);
        if (_standsByRight(entry, proposal)) _reach(Reached.FallenWithFees);
    }

    function _mayAccept(Entry storage entry, Proposal memory proposal, uint96 rate) private view returns (bool) {
        bool stands = _stands(entry, proposal) && block.timestamp < proposal.expiry && block.timestamp < _overAt(entry)
            && rate <= proposal.maximumRate;
        uint256 paid = entry.supplierGot + entry.gatewayGot;
        uint256 comesBack = _left(entry) + paid - _costOf(entry, _billable(entry));
        uint256 needed = _worstCase(rate, proposal.duration, _currentSchedule[entry.token]);
        return stands && !_paused && needed <= _purseOf(entry).unlocked + comesBack;
    }

    /// @notice Half of E4: what the contracts say is proposed of a lease is what stands by the books, with all that it rests on.
    function proposals() external view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.state != OrderState.Leased) continue;
            UpdateProposal memory said = leases.updateProposal(entry.orderId);
            Proposal storage proposal = _proposals[entry.orderId];
            if (!proposal.there || !_stands(entry, proposal)) {
                if (said.hash != 0) return "an update stands that fell, or that nobody proposed";
                continue;
            }
            uint256 basis =
                (uint256(proposal.epoch) << 32) | (proposal.setting << 8) | (uint256(proposal.schedule) >> 1);
            if (said.by != proposal.by || said.expiry != proposal.expiry) return "another update than was proposed";
            if (said.basis != basis) return "an update rests on other than it was proposed on";
        }
        return "";
    }

    /// @dev Nobody is bound by what another owner proposed, a spender whose right has ended or was set anew, nor at other fees.
    function _stands(Entry storage entry, Proposal memory proposal) private view returns (bool) {
        return _standsByRight(entry, proposal) && proposal.schedule == _currentSchedule[entry.token];
    }

    function _standsByRight(Entry storage entry, Proposal memory proposal) private view returns (bool) {
        return proposal.epoch == _epochs[entry.account] && _mayClose(entry.account, entry.token, proposal.by)
            && proposal.setting == _settingOf(entry.account, entry.token, proposal.by);
    }

    /// @dev The old lease ends as any, the new one begins at once, without an order and without a match fee.
    function _replace(Entry storage old, uint64 updatedId, OrderTerms memory terms, uint96 rate) private {
        uint64 workload = leases.workloadOf(old.orderId);
        _require(leases.workloadOf(updatedId) == workload, 9, "an update changed the workload's name");
        if (_isHeld(old)) _reach(Reached.UpdatedHeld);
        delete _proposals[old.orderId];
        _end(old, OrderState.ClosedUpdated, _billable(old));
        Entry storage entry = _newEntry(updatedId, old.account, old.token, terms);
        entry.state = OrderState.Leased;
        (entry.rate, entry.supplier, entry.start) = (rate, old.supplier, uint32(block.timestamp));
        entry.closeBlock = uint32(block.number);
        entry.schedule = _currentSchedule[old.token];
        if (_suppliers[_supplierAt[entry.supplier] - 1].rebated) entry.schedule |= 1;
        _lock(entry, _worstCase(rate, entry.duration, entry.schedule));
        _see(entry);
        _reach(Reached.Updated);
    }

    function rejectUpdate(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickProposed(seed);
        if (!found) return;
        Entry storage entry = _entries[index];
        uint256 who = _draw(seed, 63, 3);
        address caller = who == 0 ? _ownerOf[entry.account] : _supplierOwner(entry.supplier);
        if (who == 2) caller = _stranger;
        bool other = _draw(seed, 65, 8) == 0;
        bytes32 hash = leases.updateProposal(entry.orderId).hash;
        if (other) hash = ~hash;
        bool allowed = who != 2 && !other && _stands(entry, _proposals[entry.orderId]);
        vm.prank(caller);
        try leases.rejectUpdate(entry.orderId, hash) {
            _require(allowed, 4, "a stranger refused an update, or one that was not proposed");
            delete _proposals[entry.orderId];
            _reach(Reached.Rejected);
        } catch {
            _require(!allowed, 9, "an update could not be refused");
        }
        _see(entry);
    }

    // --------------------------------------------------------------------- rate

    function rateSupplier(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickLease(seed);
        if (!found) return;
        Entry storage entry = _entries[index];
        uint256 fees =
            entry.paidTo == entry.duration ? _costOf(entry, entry.duration) - entry.supplierGot - entry.gatewayGot : 0;
        bool allowed = _isClosed(entry.state) && entry.state != OrderState.ClosedUpdated && fees != 0
            && entry.duration != 0 && entry.paidTo == entry.duration && !_rated[entry.orderId];
        vm.prank(_ownerOf[entry.account]);
        try leases.rateLease(entry.orderId, uint8(1 + _draw(seed, 64, 10))) {
            _require(allowed, 9, "a lease was rated twice, or before it was paid");
            _rated[entry.orderId] = true;
            _reach(Reached.Rated);
        } catch {
            _require(!allowed, 9, "a paid lease could not be rated");
        }
        _see(entry);
    }
}
