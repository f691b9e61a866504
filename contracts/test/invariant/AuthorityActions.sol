// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {FeeSchedule, OrderState} from "../../src/Types.sol";
import {IReentrant} from "./HostileToken.sol";
import {MoneyActions} from "./MoneyActions.sol";
import {IToken} from "./World.sol";

/// @notice Governance, the guardian, the registry, a token with every bad habit, and time.
abstract contract AuthorityActions is MoneyActions, IReentrant {
    uint256 private constant HIGHEST_FEES = 2_500;
    uint16 private constant MOST_BIDS = 512;

    // ----------------------------------------------------------------- governance

    function governFees(uint256 seed) public {
        ++steps;
        uint256 what = _draw(seed, 80, 3);
        if (what == 0) return _addSchedule(seed);
        if (what == 1) {
            _foundation = _draw(seed, 81, 2) == 0 ? _roles.foundation : _otherFoundation;
            vm.prank(_roles.admin);
            escrow.setFoundation(_foundation);
        } else {
            _changeFees(_pickToken(seed), seed);
        }
        _reach(Reached.FeesChanged);
    }

    /// @dev Above the caps now and then.
    function _addSchedule(uint256 seed) private {
        if (_schedules.length >= MOST_SCHEDULES) return;
        FeeSchedule memory schedule = FeeSchedule({
            commission: uint16(_draw(seed, 83, 1_500)),
            userFee: uint16(_draw(seed, 84, 1_000)),
            providerFee: uint16(_draw(seed, 85, 600)),
            gatewayShare: uint16(_draw(seed, 86, 5_300)),
            matchFee: uint96(_draw(seed, 87, 1 << 20) * 10 ** _draw(seed, 88, 3))
        });
        uint16 rebated = uint16(_draw(seed, 89, uint256(schedule.commission) + 100));
        bool allowed = uint256(schedule.commission) + schedule.userFee + schedule.providerFee <= HIGHEST_FEES
            && schedule.gatewayShare <= 5_000 && rebated <= schedule.commission;
        vm.prank(_roles.admin);
        try escrow.addFeeSchedule(schedule, rebated) returns (uint16 id) {
            _require(allowed, 7, "a schedule above the caps, or a rebate that is none");
            _require(id == _schedules.length, 7, "a schedule under another id");
            _pushSchedules(schedule, rebated);
            _reach(Reached.FeesChanged);
        } catch {
            _require(!allowed, 7, "a schedule within the caps was refused");
        }
    }

    function governToken(uint256 seed) public {
        ++steps;
        uint8 token = _pickToken(seed);
        if (_draw(seed, 90, 4) == 0) {
            // The cap stops deposits alone.
            _caps[token] = _draw(seed, 91, 2) == 0
                ? type(uint128).max
                : IToken(_tokenAddress[token]).balanceOf(address(escrow)) + _draw(seed, 92, 1_000e6);
            vm.prank(_roles.admin);
            paymentTokens.setCap(token, uint128(_caps[token]));
            _bear();
            return;
        }
        if (_draw(seed, 107, 6) == 0) return _changeFeed(token, seed);
        vm.startPrank(_roles.admin);
        // On the list most of the time.
        if (_enabled[token]) {
            if (_draw(seed, 93, 2) == 0) paymentTokens.pauseToken(token);
            else paymentTokens.setStatus(token, IPaymentTokens.Status.Delisted);
            _reach(Reached.Delisted);
        } else {
            paymentTokens.setStatus(token, IPaymentTokens.Status.Enabled);
        }
        vm.stopPrank();
        _enabled[token] = !_enabled[token];
    }

    /// @dev The same feed under other bounds, which it may be outside of.
    function _changeFeed(uint8 token, uint256 seed) private {
        IPaymentTokens.PriceFeed memory given = IPaymentTokens.PriceFeed({
            feed: address(feed),
            heartbeat: uint32(1 hours + _draw(seed, 108, 30 days)),
            minimumPrice: uint128(1 + _draw(seed, 109, 1e8)),
            maximumPrice: uint128(1e8 + _draw(seed, 118, 100e8))
        });
        vm.prank(_roles.admin);
        paymentTokens.setFeed(token, given);
        _reach(Reached.FeedChanged);
    }

    /// @dev Anyone writes down a price that can be used. It is no money: that it changes nothing else is what the books show.
    function keepPrice(uint256 seed) public {
        ++steps;
        uint8 token = _pickToken(seed);
        vm.prank(_stranger);
        try paymentTokens.keepPrice(token) returns (uint256 price) {
            (uint256 kept,) = paymentTokens.lastPrice(token);
            _require(kept == price && price == paymentTokens.price(token), 12, "another price was kept than is told");
            _reach(Reached.PriceKept);
        } catch {}
    }

    function governMarket(uint256 seed) public {
        ++steps;
        uint256 what = _draw(seed, 94, 5);
        if (what == 0 || _paused) {
            vm.prank(_roles.admin);
            if (_paused) book.unpause();
            else book.pause();
            _paused = !_paused;
            _reach(Reached.Paused);
        } else if (what == 1) {
            Supplier storage supplier = _suppliers[_draw(seed, 95, _suppliers.length)];
            supplier.rebated = !supplier.rebated;
            vm.prank(_roles.registry);
            book.setFeeClass(supplier.id, supplier.rebated);
        } else if (what == 2) {
            vm.prank(_roles.registry);
            book.suspend(_suppliers[_draw(seed, 96, _suppliers.length)].id, _draw(seed, 97, 4) == 0);
        } else if (what == 3) {
            // Of orders to come; those that are open close when they said they would.
            vm.prank(_roles.admin);
            book.setBidding(uint16(1 + _draw(seed, 119, 8)), MOST_BIDS, _paramsVersion);
            _reach(Reached.BiddingChanged);
        } else {
            vm.prank(_roles.admin);
            book.setTopGpus(_draw(seed, 98, 8) & ~uint256(1));
        }
    }

    /// @dev A feed may say anything: nothing, nonsense, yesterday's price.
    function movePrice(uint256 seed) public {
        ++steps;
        uint256 kind = _draw(seed, 99, 6);
        int256 answer = int256(0.2e8 + _draw(seed, 100, 5e8));
        if (kind == 0) answer = 0;
        if (kind == 1) answer = -answer;
        feed.move(answer, kind == 2 ? block.timestamp - 31 days : block.timestamp);
        _bear();
    }

    function setCapacity(uint256 seed) public {
        ++steps;
        Supplier storage supplier = _suppliers[_draw(seed, 101, _suppliers.length)];
        uint256 capacity = (4_096 << 22) | (4_096 << 64) | ((500 + _draw(seed, 102, 8_000)) << 104);
        if (_draw(seed, 103, 6) != 0) capacity |= 1 << 252;
        uint256 gpus = _draw(seed, 104, 8);
        if (gpus != 0) {
            capacity |= ((gpus << 12) | ((1 + _draw(seed, 105, 2)) << 24)) << (124 + 32 * _draw(seed, 106, 2));
        }
        vm.prank(supplier.owner);
        book.setCapacity(capacity);
        _bear();
    }

    // ------------------------------------------------------------------ the token

    function turnHostile(uint256 seed) public {
        ++steps;
        uint256 what = _draw(seed, 110, 4);
        if (what == 0) {
            hostile.setPaused(!hostile.paused() && _draw(seed, 117, 2) == 0);
        } else if (what == 1) {
            hostile.arm(seed);
        } else {
            address holder = _payees[_draw(seed, 111, _payees.length)];
            if (_draw(seed, 112, 3) == 0) holder = _users[_draw(seed, 113, _users.length)];
            if (_draw(seed, 114, 12) == 0) holder = address(escrow);
            hostile.setBlocked(holder, !hostile.blocked(holder));
        }
        _bear();
    }

    /// @notice What the token does in the middle of a transfer: most of what others do.
    function reenter(uint256 seed) external {
        require(msg.sender == address(hostile), "only the token");
        _reach(Reached.Reentered);
        uint256 what = _draw(seed, 115, 17);
        if (what == 0) withdraw(seed, seed);
        else if (what == 1) _deposit(_pickAccount(seed), hostileId, 1 + _draw(seed, 116, 1e6));
        else if (what == 2) withdrawCredit(seed);
        else if (what == 3) settleAndWithdraw(seed);
        else if (what == 4) settle(seed);
        else if (what == 5) closeByUser(seed);
        else if (what == 6) createOrder(seed, seed, seed);
        else if (what == 7) cancel(seed);
        else if (what == 8) extend(seed, seed);
        else if (what == 9) acceptUpdate(seed, seed);
        else if (what == 10) update(seed, seed, seed);
        else if (what == 11) undo(seed);
        else if (what == 12) slash(seed, seed);
        else if (what == 13) expire(seed);
        else if (what == 14) depositSigned(seed, seed);
        else if (what == 15) grant(seed, seed);
        else handOver(seed);
    }

    // ----------------------------------------------------------------------- time

    function pass(uint256 blocks, uint256 time) public {
        ++steps;
        vm.roll(block.number + bound(blocks, 1, 12));
        vm.warp(block.timestamp + bound(time, 1, 1_500));
        _recover(time);
        _bear();
    }

    /// @dev Nothing stays stopped for long: most of a campaign is about what works.
    function _recover(uint256 seed) private {
        if (_paused && _draw(seed, 123, 4) != 0) {
            vm.prank(_roles.admin);
            book.unpause();
            _paused = false;
        }
        for (uint256 which = 0; which < _tokens.length; ++which) {
            uint8 token = _tokens[which];
            if (_enabled[token] || _draw(seed, 125 + which, 4) == 0) continue;
            vm.prank(_roles.admin);
            paymentTokens.setStatus(token, IPaymentTokens.Status.Enabled);
            _enabled[token] = true;
        }
        if (_draw(seed, 124, 2) == 0) {
            hostile.setPaused(false);
            hostile.setBlocked(address(escrow), false);
        }
    }

    /// @dev To a moment that matters to some lease: the end of its hold, its end, the end of its grace, and a second before each.
    function passToMoment(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Leased);
        if (!found) return;
        Entry storage entry = _entries[index];
        uint256 which = _draw(seed, 120, 4);
        uint256 moment = uint256(entry.start) + _hold;
        if (which == 1) moment = uint256(entry.start) + entry.duration;
        if (which == 2) moment = _overAt(entry);
        // Nobody waits for the end of a lease of a year: the others would all be over.
        if (which == 3) moment = uint256(entry.start) + entry.duration / 2;
        moment -= _draw(seed, 121, 2);
        if (moment <= block.timestamp || moment > block.timestamp + 30 days) return;
        vm.warp(moment);
        vm.roll(block.number + 1 + _draw(seed, 122, 30));
        _recover(seed);
        _bear();
    }
}
