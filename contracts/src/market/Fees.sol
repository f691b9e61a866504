// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule} from "../Types.sol";

/// @title What a lease costs and pays
/// @notice Everything is a function of the rate, the seconds from the start and the frozen fee schedule; nothing that was
/// paid is stored. All amounts are cumulative from the start, so that any path of settlements pays the same sums. What the
/// supplier and the foundation get rounds down, what is locked rounds up.
/// @dev A pair of schedules is kept packed so that the token's own slot has room for both classes: commission 12 at 0 | rebated
/// commission 12 at 12 | provider fee 12 at 24 | user fee 12 at 36 | gateway's share 13 at 48 | match fee as significand 20
/// at 61 and decimal exponent 5 at 81.
library Fees {
    /// @notice Rates are token units per this many seconds.
    uint256 internal constant RATE_PERIOD = 36_000;
    uint256 internal constant BASIS_POINTS = 10_000;
    /// @notice Limit of commission, user fee and provider fee together. Immutable.
    uint256 internal constant MAXIMUM = 2_500;
    /// @notice Limit of the gateway's share of what a fizz node's lease pays. Immutable.
    uint256 internal constant MAXIMUM_GATEWAY_SHARE = 5_000;
    /// @notice Width of a packed pair.
    uint256 internal constant PACKED_BITS = 86;

    uint256 private constant RATIO = 0xfff;
    uint256 private constant GATEWAY_SHARE = 0x1fff;
    uint256 private constant SIGNIFICAND_BITS = 20;

    /// @notice Packs a schedule whose ratios are within the limits, with the commission of its rebated twin. `exact` is false if
    /// the match fee needs more than 20 significant bits.
    function pack(FeeSchedule memory schedule, uint256 rebatedCommission)
        internal
        pure
        returns (uint256 packed, bool exact)
    {
        uint256 significand = schedule.matchFee;
        uint256 exponent = 0;
        while (significand >> SIGNIFICAND_BITS != 0) {
            if (significand % 10 != 0) return (0, false);
            (significand, exponent) = (significand / 10, exponent + 1);
        }
        packed = schedule.commission | (rebatedCommission << 12) | (uint256(schedule.providerFee) << 24)
            | (uint256(schedule.userFee) << 36) | (uint256(schedule.gatewayShare) << 48) | (significand << 61)
            | (exponent << 81);
        return (packed, true);
    }

    /// @notice The schedule of the class for everyone; what {ofClass} returned unpacks to that of its id.
    function unpack(uint256 packed) internal pure returns (FeeSchedule memory) {
        return FeeSchedule({
            commission: uint16(packed & RATIO),
            userFee: uint16((packed >> 36) & RATIO),
            providerFee: uint16((packed >> 24) & RATIO),
            gatewayShare: uint16((packed >> 48) & GATEWAY_SHARE),
            matchFee: uint96(matchFee(packed))
        });
    }

    /// @notice The schedule of a pair that an id stands for: odd ids take the rebated commission for the commission.
    function ofClass(uint256 packed, uint256 id) internal pure returns (uint256) {
        if (id & 1 == 0) return packed;
        return (packed & ~RATIO) | ((packed >> 12) & RATIO);
    }

    // None of the products below can overflow: rates have 84 bits, times 29, so an amount has at most 98, ratios 13.

    /// @notice Token units credited to whoever responds with the match. The same in both classes of a pair.
    function matchFee(uint256 packed) internal pure returns (uint256) {
        // {pack} got both from 96 bits.
        unchecked {
            return ((packed >> 61) & ((1 << SIGNIFICAND_BITS) - 1)) * 10 ** ((packed >> 81) & 31);
        }
    }

    /// @notice Streamed amount after `time` seconds.
    function gross(uint256 rate, uint256 time) internal pure returns (uint256) {
        unchecked {
            return rate * time / RATE_PERIOD;
        }
    }

    /// @notice Part of a streamed amount that goes to who serves: the supplier, or a fizz node and its gateway together. It
    /// never falls as the streamed amount grows, which commission and provider fee rounded down apart would make it do.
    function net(uint256 streamed, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return streamed - streamed * ((packed & RATIO) + ((packed >> 24) & RATIO)) / BASIS_POINTS;
        }
    }

    /// @notice Part of a fizz node's net amount that is its gateway's.
    function gatewayPart(uint256 netAmount, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return netAmount * ((packed >> 48) & GATEWAY_SHARE) / BASIS_POINTS;
        }
    }

    /// @notice Facilitation fee on top of a streamed amount.
    function userFee(uint256 streamed, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return streamed * ((packed >> 36) & RATIO) / BASIS_POINTS;
        }
    }

    /// @notice What a lease has paid to the foundation when its streamed amount reaches `streamed`.
    function foundationPart(uint256 streamed, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return streamed - net(streamed, packed) + userFee(streamed, packed);
        }
    }

    /// @notice Worst case of a lease without the match fee: what stays locked while it lives.
    function leaseLock(uint256 rate, uint256 duration, uint256 packed) internal pure returns (uint256) {
        unchecked {
            uint256 stream = (rate * duration + RATE_PERIOD - 1) / RATE_PERIOD;
            return stream + (stream * ((packed >> 36) & RATIO) + BASIS_POINTS - 1) / BASIS_POINTS;
        }
    }

    /// @notice Worst case of an order: what is locked when it is created.
    function orderLock(uint256 rate, uint256 duration, uint256 packed) internal pure returns (uint256) {
        unchecked {
            return leaseLock(rate, duration, packed) + matchFee(packed);
        }
    }
}
