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

    error TokenListFull(uint8 maximum);
    error TokenListedAlready(address token, uint8 id);
    /// @dev The address holds no contract that answers `decimals()`, or answers more than 18.
    error UnsuitableToken(address token);
    error InvalidSymbol(string symbol);
    error UnknownTokenId(uint8 id);

    /// @notice Lists a token under the next id, enabled. The symbol is what deployment files use: 1 to 11 letters or digits.
    function list(address token, string calldata symbol, uint16 feeSchedule) external returns (uint8 id);
    /// @notice Allows or refuses new orders in a token.
    function setEnabled(uint8 id, bool enabled) external;
    /// @notice Changes what new orders in a token freeze.
    function setFeeSchedule(uint8 id, uint16 feeSchedule) external;

    function token(uint8 id) external view returns (PaymentToken memory);
    function tokenCount() external view returns (uint8);
}
