// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {CommissionSplit} from "../../src/avs/CommissionSplit.sol";
import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {MatchingDisputes} from "../../src/avs/MatchingDisputes.sol";
import {OrderState} from "../../src/Types.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @notice What a challenge costs: whole transactions, cold, with everything that the first challenger of an answer sets in
/// motion: the rule is run, the verdict stored, the lease undone, the challenger rewarded by the real split, for the first time
/// (somebody else's reward has not been withdrawn yet). Every bid is another provider's.
contract DisputeGasTest is DisputesTest {
    /// @dev EIP-7825.
    uint256 private constant TRANSACTION_GAS = 16_777_216;
    uint256 private constant STUFFING = 2_750;

    address[] private _owners;
    uint32[] private _providers;

    function setUp() public override {
        super.setUp();
        CommissionSplit split = new CommissionSplit(
            address(accessManager),
            address(escrow),
            core_("rewards_coordinator"),
            address(serviceManager),
            address(coordinator)
        );
        escrow.setFoundation(address(split));
        split.setShares(1_000, 0);
        split.setReward(PLAIN_TOKEN, 0.01e18);
        matchingDisputes.setReserve(address(split));
        _addProviders(2);
        // A lease that ran its hour fills the reserve.
        uint64 orderId = _order(2);
        _answerOne(orderId, _right(orderId));
        vm.warp(vm.getBlockTimestamp() + 3_600 + GRACE_WINDOW);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        split.collect(PLAIN_TOKEN);
        vm.prank(disputes);
        split.rewardChallenger(anybody);
    }

    function test_challenge_1() public {
        assertLe(_measure(1, "challenge.1"), 200_000, "one bid");
    }

    function test_challenge_64() public {
        assertLe(_measure(64, "challenge.64"), 700_000, "64 bids");
    }

    function test_challenge_512() public {
        assertLe(_measure(512, "challenge.512"), 4_500_000, "512 bids");
    }

    /// @dev A full chunk is longer to pass and to hash.
    function test_challenge_in_a_full_chunk() public {
        uint64[] memory orders = new uint64[](64);
        uint256[] memory matches;
        for (uint256 i = 0; i < 64; i++) {
            orders[i] = _order(2);
        }
        for (uint256 i = 0; i < 64; i++) {
            uint256[] memory ranks = new uint256[](5);
            for (uint256 rank = 0; rank < 5; rank++) {
                ranks[rank] = _rank(_providers[rank & 1], 99e18 - rank);
            }
            matches = _join(matches, _matches(orders[i], _terms(), ranks));
        }
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(orders[0]), matches, EVERYBODY);
        _challenge(orders[63], answer);
        uint256 gas = vm.snapshotGasLastCall("Disputes", "challenge.lastOf64Orders");
        assertState(orders[63], OrderState.ClosedUndone);
        assertLe(gas, 700_000, "the last order of a full chunk");
    }

    /// @dev Whatever a bad quorum stuffs an answer with, if the answer fits a transaction, so does its challenge.
    function test_answer_cannot_be_too_long_to_be_challenged() public {
        _addProviders(512);
        uint64 orderId = _order(512);
        // Orders that nobody made, with as many words as an order can have: zeros, which cost least.
        uint256[] memory junk = new uint256[](STUFFING * 11);
        for (uint256 i = 0; i < STUFFING; i++) {
            junk[11 * i] = ((i + 1) << 8) | 8;
        }
        uint256[] memory matches = _join(junk, _matches(orderId, _terms(), _rank(_providers[511], 99e18)));
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(orderId), matches, EVERYBODY);
        uint256 responding = vm.lastCallGas().gasTotalUsed;
        assertGt(responding, TRANSACTION_GAS - 1_000_000, "hardly fits");
        assertLe(responding, TRANSACTION_GAS, "fits");
        _challenge(orderId, answer);
        uint256 gas = vm.snapshotGasLastCall("Disputes", "challenge.longestAnswer");
        assertLe(gas, TRANSACTION_GAS, "its challenge does too");
        assertState(orderId, OrderState.ClosedUndone);
    }

    function test_sizes() public {
        _size("MatchingDisputes", disputes);
        _size("AllocationSlasher", address(slasher));
    }

    // ----------------------------------------------------------------- private

    /// @dev The dearest bid wins, so that the lease is undone; with a single one, a rate that nobody bid.
    function _measure(uint256 bids, string memory name) private returns (uint256 gas) {
        _addProviders(bids);
        uint64 orderId = _order(bids);
        uint256[] memory ranks = _right(orderId);
        ranks[0] = _rank(_providers[bids - 1], 99e18);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, ranks);
        assertState(orderId, OrderState.Leased);
        _challenge(orderId, answer);
        gas = vm.snapshotGasLastCall("Disputes", name);
        assertState(orderId, OrderState.ClosedUndone);
        assertEq(CommissionSplit(matchingDisputes.reserve()).rewardOf(challenger, PLAIN_TOKEN), 0.01e18, "rewarded");
    }

    function _addProviders(uint256 count) private {
        while (_owners.length < count) {
            (address owner, uint32 id) = _addProvider(string.concat("provider", vm.toString(_owners.length)));
            _owners.push(owner);
            _providers.push(id);
        }
    }

    function _order(uint256 bids) private returns (uint64 orderId) {
        orderId = _createOrder();
        for (uint96 i = 0; i < bids; i++) {
            _bidAndKeep(_owners[i], orderId, 50e18 + i * 0.09e18);
        }
    }

    function _size(string memory name, address account_) private {
        vm.snapshotValue("Disputes", string.concat("size.", name), account_.code.length);
        assertLe(account_.code.length, 22_000, name);
    }
}
