// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule, Order, OrderState} from "../../src/Types.sol";
import {MarketHandler} from "./MarketHandler.sol";
import {MarketTest} from "./MarketTest.sol";
import {BlocklistToken} from "./Tokens.sol";

/// @notice The numbered invariants of the market (E5 to E7 are also fuzzed, in `Words.t.sol` and `Leases.t.sol`).
contract MarketInvariantsTest is MarketTest {
    MarketHandler private _handler;
    BlocklistToken private _token;
    uint8 private _tokenId;

    function setUp() public override {
        super.setUp();
        _token = new BlocklistToken();
        escrow.addFeeSchedule(FeeSchedule(777, 999, 333, 0, 12_345), 111);
        _tokenId = _list(address(_token), "BLOCK", PLAIN_SCHEDULE);
        _handler = new MarketHandler(escrow, book, tokens, _token, _tokenId, taskManager, responder, disputes);
        for (uint256 index = 0; index < 2; ++index) {
            address owner = makeAddress(string.concat("user", vm.toString(index)));
            _handler.addUser(owner, escrow.open(owner));
            _handler.deposit(index, 1_000e18);
            uint256 capacity = _withGpus(_withGpus(_capacity(4_000, 512, 512), 0, 1, 4), 1, 2, 4);
            (address supplierOwner, uint32 supplier) =
                _addProvider(string.concat("supplier", vm.toString(index)), capacity);
            _handler.addSupplier(supplierOwner, supplier);
        }
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @dev E1: the escrow holds exactly what it owes: unlocked amounts, locks less what was paid from them, credits.
    function invariant_E1_solvency() external view {
        uint256 owed = 0;
        uint32[] memory accounts = _handler.accounts();
        for (uint256 index = 0; index < accounts.length; ++index) {
            (uint256 unlocked, uint256 locked,) = escrow.balances(accounts[index], _tokenId);
            owed += unlocked + locked;
        }
        for (uint256 index = 0; index < _handler.placedCount(); ++index) {
            (MarketHandler.Placed memory placed, Order memory order) = _at(index);
            if (order.state == OrderState.Leased) owed -= _net(order.rate, order.settledFor, placed.schedule);
        }
        (address[] memory owners,) = _handler.suppliers();
        for (uint256 index = 0; index < owners.length; ++index) {
            owed += escrow.creditOf(owners[index], _tokenId);
        }
        owed += escrow.creditOf(foundation, _tokenId) + escrow.creditOf(responder, _tokenId);
        assertEq(_token.balanceOf(address(escrow)), owed, "balance is what is owed");
    }

    /// @dev E2, E4: what is locked in an account is what its own orders and leases lock, to the unit; what is gone from it
    /// is what they spent.
    function invariant_E2_E4_everyAccountPaysForItselfAlone() external view {
        uint32[] memory accounts = _handler.accounts();
        for (uint256 which = 0; which < accounts.length; ++which) {
            uint256 expectedLock = 0;
            uint256 spent = 0;
            for (uint256 index = 0; index < _handler.placedCount(); ++index) {
                (MarketHandler.Placed memory placed, Order memory order) = _at(index);
                if (placed.orderId >> 32 != accounts[which]) continue;
                FeeSchedule memory schedule = escrow.feeSchedule(placed.schedule);
                if (order.state == OrderState.Open) {
                    expectedLock += escrow.lockFor(placed.maximumRate, placed.duration, placed.schedule);
                } else if (order.state == OrderState.Leased) {
                    expectedLock += escrow.lockFor(order.rate, order.duration, placed.schedule) - schedule.matchFee;
                    spent += schedule.matchFee;
                } else if (order.state >= OrderState.ClosedByUser) {
                    uint256 gross = uint256(order.rate) * order.duration / 36_000;
                    uint256 cost = gross + gross * schedule.userFee / 10_000;
                    if (order.settledFor == order.duration) spent += cost;
                    else expectedLock += cost;
                    spent += schedule.matchFee;
                }
            }
            (uint256 unlocked, uint256 locked,) = escrow.balances(accounts[which], _tokenId);
            assertEq(locked, expectedLock, "locked by its own orders");
            assertEq(
                _handler.deposited(accounts[which]),
                unlocked + locked + spent + _handler.withdrawn(accounts[which]),
                "deposited = held + spent + withdrawn"
            );
        }
    }

    /// @dev E3, E5: a supplier got what its leases streamed, whatever the path of settlements, and never more than locked.
    function invariant_E3_E5_suppliersGotWhatWasStreamed() external view {
        (address[] memory owners, uint32[] memory ids) = _handler.suppliers();
        for (uint256 which = 0; which < owners.length; ++which) {
            uint256 expected = 0;
            for (uint256 index = 0; index < _handler.placedCount(); ++index) {
                (MarketHandler.Placed memory placed, Order memory order) = _at(index);
                if (order.supplier != ids[which]) continue;
                uint256 net = _net(order.rate, order.settledFor, placed.schedule);
                assertLe(net * 36_000, uint256(order.rate) * (block.timestamp - order.start), "paid within streamed");
                assertLe(net, escrow.lockFor(order.rate, placed.duration, placed.schedule), "paid within locked");
                if (order.settledFor != 0) {
                    assertGe(block.timestamp, uint256(order.start) + CHALLENGE_WINDOW, "nothing inside the hold");
                }
                expected += net;
            }
            assertEq(
                _handler.received(owners[which]) + escrow.creditOf(owners[which], _tokenId), expected, "got by supplier"
            );
        }
    }

    /// @dev The foundation and the responders got theirs, to the unit.
    function invariant_feesAreCredited() external view {
        uint256 fees = 0;
        uint256 matchFees = 0;
        for (uint256 index = 0; index < _handler.placedCount(); ++index) {
            (MarketHandler.Placed memory placed, Order memory order) = _at(index);
            if (order.supplier == 0) continue;
            FeeSchedule memory schedule = escrow.feeSchedule(placed.schedule);
            matchFees += schedule.matchFee;
            if (order.state == OrderState.Leased || order.settledFor != order.duration) continue;
            uint256 gross = uint256(order.rate) * order.duration / 36_000;
            fees += gross - _net(order.rate, order.duration, placed.schedule) + gross * schedule.userFee / 10_000;
        }
        assertEq(escrow.creditOf(foundation, _tokenId), fees, "foundation");
        assertEq(_handler.received(responder) + escrow.creditOf(responder, _tokenId), matchFees, "responder");
    }

    /// @dev E8, E9, and with the handler's own checks E10 to E12: see {MarketHandler}.
    function invariant_E8_to_E12_oneWayAndAlwaysAWayOut() external {
        _handler.observe();
        assertEq(_handler.broken(), "", "promises kept");
    }

    /// @dev What is used of a supplier's capacity is what its live leases use.
    function invariant_capacityIsWhatLeasesUse() external view {
        (, uint32[] memory ids) = _handler.suppliers();
        for (uint256 which = 0; which < ids.length; ++which) {
            uint256[7] memory used;
            bool leased = false;
            for (uint256 index = 0; index < _handler.placedCount(); ++index) {
                (MarketHandler.Placed memory placed, Order memory order) = _at(index);
                if (order.state != OrderState.Leased || order.supplier != ids[which]) continue;
                leased = true;
                used[0] += placed.resources & 0x3fffff;
                used[1] += (placed.resources >> 22) & 0xfffff;
                used[2] += (placed.resources >> 42) & 0xfffff;
                used[3 + order.gpuEntry] += (placed.resources >> 62) & 0xfff;
            }
            (uint256 capacity,,) = book.capacityOf(ids[which]);
            assertEq(_used(capacity, 0, 22), used[0], "storage");
            assertEq(_used(capacity, 44, 20), used[1], "memory");
            assertEq(_used(capacity, 84, 20), used[2], "cpu");
            for (uint256 entry = 0; entry < 4; ++entry) {
                assertEq(_used(capacity, 124 + 32 * entry, 12), used[3 + entry], "GPUs");
            }
            assertEq(book.hasLease(ids[which]), leased, "has a lease");
        }
    }

    /// @dev A fixed walk through the handler gets through every step: else the invariants would hold of nothing.
    function test_handlerGetsEverywhere() public {
        for (uint256 round = 0; round < 60; ++round) {
            uint256 seed = uint256(keccak256(abi.encode("walk", round)));
            _handler.createOrder(seed, seed >> 64, seed >> 128);
            _handler.bid(seed, seed >> 32);
            if (round % 3 == 0) _handler.cancel(seed);
            _handler.answer(seed);
            _handler.pass(seed, seed >> 8);
            if (round % 6 == 0) _handler.matchOnChain(seed - seed % 3);
            _handler.expire(seed >> 16);
            _handler.settle(seed);
            _handler.settleAndWithdraw(seed >> 4);
            if (round % 4 == 0) _handler.undo(seed);
            _handler.close(seed, seed >> 24);
            if (round % 4 == 1) _handler.undo(seed | 1);
            if (round % 5 == 0) _handler.setCapacity(seed);
            _handler.settle(seed + 1);
            _handler.withdrawCredit(seed);
            _handler.withdraw(seed, seed % 1e18);
            _handler.deposit(seed, seed % 100e18);
        }
        string[15] memory steps = [
            "deposit",
            "withdraw",
            "createOrder",
            "cancel",
            "close",
            "bid",
            "setCapacity",
            "settleAndWithdraw",
            "withdrawCredit",
            "settle",
            "expire",
            "answer",
            "matchOnChain",
            "undo a live lease",
            "undo a closed lease"
        ];
        for (uint256 index = 0; index < steps.length; ++index) {
            assertGt(_handler.done(steps[index]), 0, steps[index]);
        }
        assertGt(_handler.matches(), 5, "matches");
        this.invariant_E1_solvency();
        this.invariant_E2_E4_everyAccountPaysForItselfAlone();
        this.invariant_E3_E5_suppliersGotWhatWasStreamed();
        this.invariant_feesAreCredited();
        this.invariant_E8_to_E12_oneWayAndAlwaysAWayOut();
        this.invariant_capacityIsWhatLeasesUse();
    }

    // ------------------------------------------------------------------ private

    function _at(uint256 index) private view returns (MarketHandler.Placed memory placed, Order memory order) {
        placed = _handler.placedAt(index);
        order = book.order(placed.orderId);
    }

    function _net(uint256 rate, uint256 time, uint16 id) private view returns (uint256) {
        FeeSchedule memory schedule = escrow.feeSchedule(id);
        uint256 gross = rate * time / 36_000;
        return gross - gross * (uint256(schedule.commission) + schedule.providerFee) / 10_000;
    }

    function _used(uint256 capacity, uint256 offset, uint256 width) private pure returns (uint256) {
        uint256 mask = (1 << width) - 1;
        return ((capacity >> (offset + width)) & mask) - ((capacity >> offset) & mask);
    }
}
