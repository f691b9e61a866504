// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Fees} from "../../src/market/Fees.sol";
import {Test} from "../Test.sol";

/// @notice Proofs by halmos of {Fees}, for every value and not for some: rates of 84 bits, times of 29, amounts of the 98 bits that
/// they come to, and all schedules within the caps. Multiplied and divided words do not yield to bit-blasting at these widths;
/// the solver reasons about them as integers (`script/lib/proofs`).
contract FeesProof is Test {
    uint256 private constant AMOUNT_BITS = 98;

    struct Ratios {
        uint16 commission;
        uint16 providerFee;
        uint16 userFee;
        uint16 gatewayShare;
    }

    /// @notice What a lease streamed never shrinks with time.
    function check_grossGrowsWithTime(uint96 rate, uint32 earlier, uint32 later) external pure {
        vm.assume(rate < 1 << 84 && earlier <= later && later < 1 << 29);
        assert(Fees.gross(rate, earlier) <= Fees.gross(rate, later));
    }

    /// @notice Nor does what is the supplier's and the gateway's together: were it to shrink by a unit, a lease that was settled a
    /// moment before could not be closed.
    function check_netGrowsWithTheStream(uint128 earlier, uint128 later, Ratios calldata ratios) external pure {
        uint256 packed = _schedule(ratios);
        _assumeAmounts(earlier, later);
        assert(Fees.net(earlier, packed) <= Fees.net(later, packed));
    }

    function check_userFeeGrowsWithTheStream(uint128 earlier, uint128 later, Ratios calldata ratios) external pure {
        uint256 packed = _schedule(ratios);
        _assumeAmounts(earlier, later);
        assert(Fees.userFee(earlier, packed) <= Fees.userFee(later, packed));
    }

    function check_gatewayPartGrowsWithTheNet(uint128 earlier, uint128 later, Ratios calldata ratios) external pure {
        uint256 packed = _schedule(ratios);
        _assumeAmounts(earlier, later);
        assert(Fees.gatewayPart(earlier, packed) <= Fees.gatewayPart(later, packed));
    }

    /// @notice The fizz node's part is what the gateway leaves, which never shrinks either.
    function check_fizzPartGrowsWithTheNet(uint128 earlier, uint128 later, Ratios calldata ratios) external pure {
        uint256 packed = _schedule(ratios);
        _assumeAmounts(earlier, later);
        // A part is at most the whole: the share is below one.
        unchecked {
            uint256 before = uint256(earlier) - Fees.gatewayPart(earlier, packed);
            assert(before <= uint256(later) - Fees.gatewayPart(later, packed));
        }
    }

    /// @notice Nothing is made or lost: supplier's side and foundation's side are the stream and the user fee.
    function check_partsAreTheWhole(uint128 streamed, Ratios calldata ratios) external pure {
        uint256 packed = _schedule(ratios);
        _assumeAmounts(0, streamed);
        uint256 whole = streamed + Fees.userFee(streamed, packed);
        assert(Fees.net(streamed, packed) + Fees.foundationPart(streamed, packed) == whole);
    }

    /// @notice The lock is enough for every moment that a lease can end at.
    function check_lockCoversEveryEnd(uint96 rate, uint32 billed, uint32 duration, Ratios calldata ratios)
        external
        pure
    {
        vm.assume(rate < 1 << 84 && billed <= duration && duration < 1 << 29);
        uint256 packed = _schedule(ratios);
        uint256 streamed = Fees.gross(rate, billed);
        assert(streamed + Fees.userFee(streamed, packed) <= Fees.leaseLock(rate, duration, packed));
    }

    /// @notice The lock's stream grows with the duration, so that an extension never needs less than nothing.
    function check_lockedStreamGrowsWithDuration(uint96 rate, uint32 shorter, uint32 longer) external pure {
        vm.assume(rate < 1 << 84 && shorter <= longer && longer < 1 << 29);
        assert(Fees.leaseLock(rate, shorter, 0) <= Fees.leaseLock(rate, longer, 0));
    }

    /// @notice It grows with the rate, so that a match at a lower one never needs more than the order locked.
    function check_lockedStreamGrowsWithRate(uint96 lower, uint96 higher, uint32 duration) external pure {
        vm.assume(lower <= higher && higher < 1 << 84 && duration < 1 << 29);
        assert(Fees.leaseLock(lower, duration, 0) <= Fees.leaseLock(higher, duration, 0));
    }

    function _assumeAmounts(uint128 smaller, uint128 larger) private pure {
        vm.assume(smaller <= larger && larger < 1 << AMOUNT_BITS);
    }

    /// @dev As {Fees-pack} lays it out, without a match fee.
    function _schedule(Ratios calldata ratios) private pure returns (uint256) {
        vm.assume(uint256(ratios.commission) + ratios.providerFee + ratios.userFee <= Fees.MAXIMUM);
        vm.assume(ratios.gatewayShare <= Fees.MAXIMUM_GATEWAY_SHARE);
        return uint256(ratios.commission) | (uint256(ratios.commission) << 12) | (uint256(ratios.providerFee) << 24)
            | (uint256(ratios.userFee) << 36) | (uint256(ratios.gatewayShare) << 48);
    }
}
