// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule} from "../Types.sol";

/// @title What a lease costs and pays
/// @notice Everything is a function of the rate, the seconds from the start and the frozen fee schedule; nothing that was
/// paid is stored. All amounts are cumulative from the start, so that any path of settlements pays the same sums. What the
/// supplier and the foundation get rounds down, what is locked rounds up.
/// @dev A schedule is kept packed so that the token's own slot has room for it: commission 12 at 0 | provider fee 12 at 12 |
/// user fee 12 at 24 | match fee as significand 44 at 36 and binary exponent 6 at 80.
library Fees {
    /// @notice Rates are token units per this many seconds.
    uint256 internal constant RATE_PERIOD = 36_000;
    uint256 internal constant BASIS_POINTS = 10_000;
    /// @notice Limit of commission, user fee and provider fee together. Immutable.
    uint256 internal constant MAXIMUM = 2_500;
    /// @notice Width of a packed schedule.
    uint256 internal constant PACKED_BITS = 86;

    uint256 private constant RATIO = 0xfff;
    uint256 private constant SIGNIFICAND_BITS = 44;

    /// @notice Packs a schedule whose ratios are within {MAXIMUM}. `exact` is false if the match fee needs more than 44
    /// significant bits.
    function pack(FeeSchedule memory schedule) internal pure returns (uint256 packed, bool exact) {
        uint256 significand = schedule.matchFee;
        uint256 exponent = 0;
        while (significand >> SIGNIFICAND_BITS != 0) {
            if (significand & 1 != 0) return (0, false);
            (significand, exponent) = (significand >> 1, exponent + 1);
        }
        packed = schedule.commission | (uint256(schedule.providerFee) << 12) | (uint256(schedule.userFee) << 24)
            | (significand << 36) | (exponent << 80);
        return (packed, true);
    }

    function unpack(uint256 packed) internal pure returns (FeeSchedule memory) {
        return FeeSchedule({
            commission: uint16(packed & RATIO),
            userFee: uint16((packed >> 24) & RATIO),
            providerFee: uint16((packed >> 12) & RATIO),
            matchFee: uint96(matchFee(packed))
        });
    }

    // None of the products below can overflow: rates have 84 bits, times 29, so an amount has at most 98, ratios 12.

    function matchFee(uint256 packed) internal pure returns (uint256) {
        return ((packed >> 36) & ((1 << SIGNIFICAND_BITS) - 1)) << ((packed >> 80) & 63);
    }

    /// @notice Streamed amount after `time` seconds.
    function gross(uint256 rate, uint256 time) internal pure returns (uint256) {
        unchecked {
            return rate * time / RATE_PERIOD;
        }
    }

    /// @notice Part of a streamed amount that the supplier gets.
    function net(uint256 streamed, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return
                streamed - streamed * (packed & RATIO) / BASIS_POINTS - streamed * ((packed >> 12) & RATIO)
                    / BASIS_POINTS;
        }
    }

    /// @notice Facilitation fee on top of a streamed amount.
    function userFee(uint256 streamed, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return streamed * ((packed >> 24) & RATIO) / BASIS_POINTS;
        }
    }

    /// @notice Worst case of a lease without the match fee: what stays locked while it lives.
    function leaseLock(uint256 rate, uint256 duration, uint256 packed) internal pure returns (uint256) {
        unchecked {
            uint256 stream = (rate * duration + RATE_PERIOD - 1) / RATE_PERIOD;
            return stream + (stream * ((packed >> 24) & RATIO) + BASIS_POINTS - 1) / BASIS_POINTS;
        }
    }

    /// @notice Worst case of an order: what is locked when it is created.
    function orderLock(uint256 rate, uint256 duration, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return leaseLock(rate, duration, packed) + matchFee(packed);
        }
    }
}
