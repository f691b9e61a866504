// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IProviderRegistry} from "../../src/registry/IProviderRegistry.sol";
import {OrderState} from "../../src/Types.sol";
import {MarketTest} from "../market/MarketTest.sol";

/// @notice Ratings as they reach the score card, and the fee class that a tier gives.
contract FeedbackTest is MarketTest {
    address private _owner;
    uint32 private _id;

    function setUp() public override {
        super.setUp();
        (_owner, _id) = _addProvider("provider");
    }

    // ----------------------------------------------------------------- ratings

    /// @dev From a lease to the score card: one dollar a token, 2.16 of them in fees.
    function test_rating_ofALease() public {
        uint64 orderId = _lease(_owner, _id, 90e18);
        vm.warp(block.timestamp + 3_600 + GRACE_WINDOW);
        _close(user, orderId, OrderState.ClosedAtEnd);
        uint256 fees = uint256(9e18) * 24 / 100;
        vm.expectEmit(address(registry));
        emit IProviderRegistry.FeedbackGiven(_id, 7, 3);
        vm.prank(user);
        leases.rateLease(orderId, 7);
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), fees, "what it paid");
        _assertFeedback(21, 3);
        vm.expectRevert(abi.encodeWithSelector(ILeases.AlreadyRated.selector, orderId));
        vm.prank(user);
        leases.rateLease(orderId, 7);
    }

    function test_weight_ofWholeDollars() public {
        uint256[8] memory fees = [uint256(0), 1e18 - 1, 1e18, 2e18 - 1, 998e18, 999e18, 1_000e18, 1 << 98];
        uint32[8] memory weights = [uint32(1), 1, 2, 2, 999, 1_000, 1_000, 1_000];
        uint256 sum = 0;
        uint256 count = 0;
        for (uint256 index = 0; index < fees.length; ++index) {
            vm.expectEmit(address(registry));
            emit IProviderRegistry.FeedbackGiven(_id, 3, weights[index]);
            _give(3, fees[index]);
            (sum, count) = (sum + 3 * weights[index], count + weights[index]);
            _assertFeedback(sum, count);
        }
    }

    /// @dev At today's price, else at the last one kept, else as one.
    function test_weight_ofWhatPrice() public {
        feed.setAnswer(50e8);
        _give(10, 2e18);
        _assertFeedback(1_010, 101);
        tokens.keepPrice(PLAIN_TOKEN);
        feed.setAnswer(0);
        _give(1, 2e18);
        _assertFeedback(1_010 + 101, 202);
        // Of a token whose price nobody kept.
        vm.prank(address(book));
        registry.giveFeedback(_id, SPON_TOKEN, 10, 1_000e18);
        _assertFeedback(1_010 + 101 + 10, 203);
    }

    /// @dev Everything else in the card stays.
    function test_feedback_staysInItsBits() public {
        uint256 before = registry.scoreCard(_id);
        _give(10, 999e18);
        uint256 changed = before ^ registry.scoreCard(_id);
        assertEq(changed & ~(((uint256(1) << 72) - 1) << 64), 0, "other bits");
        registry.setVerified(_id, 3, 7, 0);
        _assertFeedback(10_000, 1_000);
    }

    /// @dev A full count forgets half: the mean of a long time stays, and new ratings still move it.
    function test_feedback_saturates() public {
        uint256[3] memory ratings = [uint256(1), 7, 10];
        for (uint256 index = 0; index < ratings.length; ++index) {
            uint256 count = type(uint32).max;
            _store(ratings[index] * count, count);
            _give(10, 999e18);
            uint256 halved = count / 2;
            uint256 sum = ratings[index] * count / 2;
            if (sum > 10 * halved) sum = 10 * halved;
            _assertFeedback(sum + 10_000, halved + 1_000);
            // Never above the best there is.
            assertLe(_feedbackSum(), 10 * _feedbackCount(), "mean");

            // Both sides of full.
            _store(ratings[index] * (count - 1_000), count - 1_000);
            _give(10, 999e18);
            _assertFeedback(ratings[index] * (count - 1_000) + 10_000, count);
            _give(1, 0);
            assertEq(_feedbackCount(), halved + 1, "halved with the next");
        }
    }

    function test_feedback_isTheOrderBooks() public {
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotOrderBook.selector, user));
        vm.prank(user);
        registry.giveFeedback(_id, PLAIN_TOKEN, 10, 1e18);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.UnknownProvider.selector, 99));
        vm.prank(address(book));
        registry.giveFeedback(99, PLAIN_TOKEN, 10, 1e18);
    }

    // --------------------------------------------------------------- fee class

    function test_feeClass_followsTheTier() public {
        bytes memory rebate = abi.encodeCall(IOrderBook.setFeeClass, (_id, true));
        bytes memory none = abi.encodeCall(IOrderBook.setFeeClass, (_id, false));
        _assertRebated(false);
        vm.expectCall(address(book), rebate, 2);
        vm.expectCall(address(book), none, 1);
        registry.setVerified(_id, 1, 0, 0);
        _assertRebated(true);
        // Only when it changes.
        registry.setVerified(_id, 1, 3, 0);
        registry.setVerified(_id, 2, 3, 0);
        _assertRebated(false);
        registry.setVerified(_id, 7, 3, 0);
        registry.setVerified(_id, 1, 3, 0);
        _assertRebated(true);
    }

    // ----------------------------------------------------------------- private

    function _give(uint8 rating, uint256 fees) private {
        vm.prank(address(book));
        registry.giveFeedback(_id, PLAIN_TOKEN, rating, fees);
    }

    function _store(uint256 sum, uint256 count) private {
        bytes32 namespace =
            keccak256(abi.encode(uint256(keccak256("spheron.storage.ProviderRegistry")) - 1)) & ~bytes32(uint256(0xff));
        bytes32 slot = keccak256(abi.encode(uint256(_id), bytes32(uint256(namespace) + 1)));
        uint256 mask = ((uint256(1) << 72) - 1) << 64;
        vm.store(address(registry), slot, bytes32((registry.scoreCard(_id) & ~mask) | (count << 64) | (sum << 96)));
    }

    function _feedbackSum() private view returns (uint256) {
        return uint40(registry.scoreCard(_id) >> 96);
    }

    function _feedbackCount() private view returns (uint256) {
        return uint32(registry.scoreCard(_id) >> 64);
    }

    function _assertFeedback(uint256 sum, uint256 count) private view {
        assertEq(_feedbackSum(), sum, "sum");
        assertEq(_feedbackCount(), count, "count");
    }

    function _assertRebated(bool expected) private view {
        (bool rebated,) = book.supplierTerms(_id);
        assertEq(rebated, expected, "rebated");
    }
}
