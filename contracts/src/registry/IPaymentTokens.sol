// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Listed payment tokens and their prices
/// @notice Governance lists tokens under an id that is never given to another token. Listing is pushed into the market
/// core, so that closing and withdrawing call nothing upgradeable. Prices come through Chainlink's AggregatorV3 interface and
/// decide the bracket of a deposit (whitepaper 4.6.3), nothing else.
interface IPaymentTokens {
    /// @notice What new orders may do with a token. Live leases, deposits and withdrawals never depend on it.
    enum Status {
        /// New orders may use it.
        Enabled,
        /// Stopped by the guardian, until governance enables it again.
        Paused,
        /// Taken off the list by governance.
        Delisted
    }

    /// @param id 0 to 31.
    /// @param feeSchedule Fee schedule that new orders freeze; an even id.
    /// @param feed Price of one whole token in dollars (AggregatorV3).
    /// @param heartbeat Seconds after which a price is stale.
    /// @param minimumPrice Lowest answer believed, in the feed's decimals; a price outside the bounds is not used.
    /// @param cap Token units that the escrow may hold in all; deposits above are refused.
    struct PaymentToken {
        uint8 id;
        address token;
        string symbol;
        uint8 decimals;
        Status status;
        uint16 feeSchedule;
        PriceFeed feed;
        uint128 cap;
    }

    struct PriceFeed {
        address feed;
        uint32 heartbeat;
        uint128 minimumPrice;
        uint128 maximumPrice;
    }

    event TokenListed(uint8 indexed id, address indexed token, string symbol, uint8 decimals, uint16 feeSchedule);
    event TokenStatusChanged(uint8 indexed id, Status status);
    event TokenFeeScheduleChanged(uint8 indexed id, uint16 feeSchedule);
    event TokenFeedChanged(uint8 indexed id, PriceFeed feed);
    event TokenCapChanged(uint8 indexed id, uint128 cap);
    /// @notice A usable price was kept: dollars with 18 decimals a whole token, and when the feed had it.
    event PriceKept(uint8 indexed id, uint256 price, uint64 updatedAt);

    error TokenListFull(uint8 maximum);
    error TokenListedAlready(address token, uint8 id);
    /// @dev The address holds no contract that answers `decimals()`, or answers more than 18.
    error UnsuitableToken(address token);
    error InvalidSymbol(string symbol);
    error UnknownTokenId(uint8 id);
    /// @dev No contract, more than 18 decimals, no heartbeat, or bounds that let nothing pass.
    error UnsuitableFeed(address feed);
    error StalePrice(address feed, uint256 updatedAt, uint256 heartbeat);
    /// @dev Zero, negative, or outside the token's bounds.
    error PriceOutOfBounds(address feed, int256 answer, uint256 minimum, uint256 maximum);
    /// @dev The feed reverted, or answered with a round that is not complete or from the future.
    error FeedBroken(address feed);
    error InvalidStatus(uint8 id, Status status);

    /// @notice Lists a token under the next id, enabled. The symbol is what deployment files use: 1 to 11 letters or digits.
    function list(address token, string calldata symbol, uint16 feeSchedule, PriceFeed calldata feed, uint128 cap)
        external
        returns (uint8 id);
    /// @notice Refuses new orders in a token at once; the guardian's.
    function pauseToken(uint8 id) external;
    /// @notice Enables or delists a token.
    function setStatus(uint8 id, Status status) external;
    /// @notice Changes what new orders in a token freeze.
    function setFeeSchedule(uint8 id, uint16 feeSchedule) external;
    function setFeed(uint8 id, PriceFeed calldata feed) external;
    function setCap(uint8 id, uint128 cap) external;
    /// @notice Keeps today's price as the last good one. Anyone may call; reverts unless it is usable.
    function keepPrice(uint8 id) external returns (uint256 price);

    /// @notice Bracket of an amount held, for {IEscrow-deposit}: floor(log2(dollars / 15)) + 1, zero below 15 dollars, at most 32;
    /// 255 if the price is not usable now. And the token's cap, which the escrow enforces.
    function assess(uint8 id, uint256 held) external view returns (uint8 bracket, uint128 cap);
    /// @notice Today's price: dollars with 18 decimals a whole token. Reverts unless it is fresh, complete and within bounds.
    function price(uint8 id) external view returns (uint256);
    /// @notice Last price kept and when the feed had it; zero if none ever was.
    function lastPrice(uint8 id) external view returns (uint256 price, uint64 updatedAt);
    function token(uint8 id) external view returns (PaymentToken memory);
    function tokenCount() external view returns (uint8);
}
