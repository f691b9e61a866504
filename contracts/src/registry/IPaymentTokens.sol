// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Listed payment tokens
/// @notice Governance lists tokens under an id that is never given to another token. Listing is pushed into the market
/// core, so that closing and withdrawing call nothing upgradeable.
interface IPaymentTokens {
    /// @param id 0 to 31.
    /// @param enabled Whether new orders may use it; live leases are never affected.
    /// @param feeSchedule Fee schedule that new orders freeze.
    struct PaymentToken {
        uint8 id;
        address token;
        string symbol;
        uint8 decimals;
        bool enabled;
        uint16 feeSchedule;
    }

    event TokenListed(uint8 indexed id, address indexed token, string symbol, uint8 decimals, uint16 feeSchedule);
    event TokenEnabled(uint8 indexed id, bool enabled);
    event TokenFeeScheduleChanged(uint8 indexed id, uint16 feeSchedule);

    function list(address token, string calldata symbol, uint16 feeSchedule) external returns (uint8 id);
    function setEnabled(uint8 id, bool enabled) external;
    function setFeeSchedule(uint8 id, uint16 feeSchedule) external;

    function token(uint8 id) external view returns (PaymentToken memory);
    function tokenCount() external view returns (uint8);
}
