// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule} from "../Types.sol";

/// @title What a lease costs and pays
/// @notice Everything is a function of the rate, the seconds from the start and the frozen fee schedule; nothing that was
/// paid is stored. All amounts are cumulative from the start, so that any path of settlements pays the same sums. What the
/// supplier and the foundation get rounds down, what is locked rounds up.
library Fees {
    /// @notice Rates are token units per this many seconds.
    uint256 internal constant RATE_PERIOD = 36_000;
    uint256 internal constant BASIS_POINTS = 10_000;
    /// @notice Limit of commission, user fee and provider fee together. Immutable.
    uint256 internal constant MAXIMUM = 2_500;

    // None of the products below can overflow: rates have 84 bits, times 29, so an amount has at most 98, basis points 14.

    /// @notice Streamed amount after `time` seconds.
    function gross(uint256 rate, uint256 time) internal pure returns (uint256) {
        unchecked {
            return rate * time / RATE_PERIOD;
        }
    }

    /// @notice Part of a streamed amount that the supplier gets.
    function net(uint256 streamed, FeeSchedule memory schedule) internal pure returns (uint256) {
        unchecked {
            return
                streamed - streamed * schedule.commission / BASIS_POINTS - streamed * schedule.providerFee
                    / BASIS_POINTS;
        }
    }

    /// @notice Facilitation fee on top of a streamed amount.
    function userFee(uint256 streamed, FeeSchedule memory schedule) internal pure returns (uint256) {
        unchecked {
            return streamed * schedule.userFee / BASIS_POINTS;
        }
    }

    /// @notice Worst case of a lease without the match fee: what stays locked while it lives.
    function leaseLock(uint256 rate, uint256 duration, FeeSchedule memory schedule) internal pure returns (uint256) {
        unchecked {
            uint256 stream = (rate * duration + RATE_PERIOD - 1) / RATE_PERIOD;
            return stream + (stream * schedule.userFee + BASIS_POINTS - 1) / BASIS_POINTS;
        }
    }
}
