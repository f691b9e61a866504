// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule} from "../Types.sol";
import {EscrowState} from "./EscrowState.sol";
import {Fees} from "./Fees.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";

/// @title What governance sets in the escrow: fee schedules, the foundation, payment tokens
/// @notice None of it reaches money that is there: schedules are appended and frozen by id in orders, a token's address is
/// fixed, and a token that is switched off takes no new orders, no less and no more.
abstract contract EscrowGovernance is EscrowState {
    /// @dev Score cards and answers number tokens with 32 bits.
    uint8 private constant HIGHEST_TOKEN = 31;
    /// @dev Order words have nine bits for the schedule, the lowest of which is its class.
    uint16 private constant MAXIMUM_FEE_SCHEDULES = 255;

    /// @inheritdoc IEscrow
    function addFeeSchedule(FeeSchedule calldata schedule, uint16 rebatedCommission)
        external
        override
        restricted
        returns (uint16 id)
    {
        // Check
        uint256 total = uint256(schedule.commission) + schedule.userFee + schedule.providerFee;
        if (total > Fees.MAXIMUM) revert FeesTooHigh(total, Fees.MAXIMUM);
        if (schedule.gatewayShare > Fees.MAXIMUM_GATEWAY_SHARE) {
            revert GatewayShareTooHigh(schedule.gatewayShare, Fees.MAXIMUM_GATEWAY_SHARE);
        }
        if (rebatedCommission > schedule.commission) revert RebateIsNegative(schedule.commission, rebatedCommission);
        uint16 pair = feeScheduleCount + 1;
        if (pair > MAXIMUM_FEE_SCHEDULES) revert FeeSchedulesExhausted(feeScheduleCount);
        (uint256 packed, bool exact) = Fees.pack(schedule, rebatedCommission);
        if (!exact) revert MatchFeeTooPrecise(schedule.matchFee);

        // Effect
        feeScheduleCount = pair;
        _feeSchedules[pair] = packed;
        id = pair << 1;
        emit FeeScheduleAdded(id, schedule);
        emit FeeScheduleAdded(id | 1, Fees.unpack(Fees.ofClass(packed, 1)));
    }

    /// @inheritdoc IEscrow
    function setFoundation(address newFoundation) external override restricted {
        _setFoundation(newFoundation);
    }

    /// @inheritdoc IEscrow
    function setToken(uint8 token, address tokenAddress, bool enabled, uint16 schedule) external override {
        if (msg.sender != IOrderBook(orderBook).collaborator(IOrderBook.Collaborator.PaymentTokens)) {
            revert NotPaymentTokens(msg.sender);
        }
        if (token > HIGHEST_TOKEN) revert TokenIdOutOfRange(token, HIGHEST_TOKEN);
        // Orders start in the class for everyone; the match finds out who is rebated.
        if (schedule & 1 != 0) revert UnknownFeeSchedule(schedule);
        uint256 packed = _knownSchedule(schedule);
        address current = address(uint160(_tokens[token] >> 96));
        if (tokenAddress == address(0) || (current != address(0) && current != tokenAddress)) {
            revert TokenAddressFixed(token, current, tokenAddress);
        }
        _tokens[token] = packed | (uint256(schedule >> 1) << Fees.PACKED_BITS) | (enabled ? ENABLED : 0)
            | (uint256(uint160(tokenAddress)) << 96);
        emit TokenSet(token, tokenAddress, enabled, schedule);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IEscrow
    function feeSchedule(uint16 id) external view override returns (FeeSchedule memory) {
        return Fees.unpack(_knownSchedule(id));
    }

    /// @inheritdoc IEscrow
    function tokenOf(uint8 token) external view override returns (address tokenAddress, bool enabled, uint16 schedule) {
        uint256 listed = _tokens[token];
        schedule = uint16(((listed >> Fees.PACKED_BITS) & 255) << 1);
        return (address(uint160(listed >> 96)), listed & ENABLED != 0, schedule);
    }

    /// @inheritdoc IEscrow
    function lockFor(uint96 rate, uint32 duration, uint16 schedule) external view override returns (uint256) {
        return Fees.orderLock(rate, duration, _knownSchedule(schedule));
    }

    // ---------------------------------------------------------------- private

    function _setFoundation(address newFoundation) internal {
        // Credits of this contract itself could never be withdrawn.
        if (newFoundation == address(0) || newFoundation == address(this)) revert InvalidRecipient(newFoundation);
        foundation = newFoundation;
        emit FoundationChanged(newFoundation);
    }
}
