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
    /// @param decimals The token's, 0 to 18, as it answered when it was listed.
    /// @param feeSchedule Fee schedule that new orders freeze; an even id.
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

    /// @notice Where a token's price comes from, and which of it is believed.
    /// @param feed Answers the price of one whole token in dollars (AggregatorV3), in at most 18 decimals.
    /// @param heartbeat Seconds after which a price is stale; not zero.
    /// @param minimumPrice Lowest answer believed, in the feed's decimals; a price outside the bounds is not used.
    /// @param maximumPrice Highest answer believed, in the feed's decimals; not zero.
    struct PriceFeed {
        address feed;
        uint32 heartbeat;
        uint128 minimumPrice;
        uint128 maximumPrice;
    }

    /// @notice Enabled from the start. Feed and cap are told by {TokenFeedChanged} and {TokenCapChanged} along with it.
    event TokenListed(uint8 indexed id, address indexed token, string symbol, uint8 decimals, uint16 feeSchedule);
    /// @notice New orders are held to it from now on, see {Status}.
    event TokenStatusChanged(uint8 indexed id, Status status);
    /// @notice What new orders freeze from now on. Live leases keep theirs, proposed updates fall ({IEscrow-basisOf}).
    event TokenFeeScheduleChanged(uint8 indexed id, uint16 feeSchedule);
    /// @notice Brackets and kept prices come from this feed from now on.
    event TokenFeedChanged(uint8 indexed id, PriceFeed feed);
    /// @notice In token units, from the next deposit on.
    event TokenCapChanged(uint8 indexed id, uint128 cap);
    /// @notice A usable price was kept: dollars with 18 decimals a whole token, and when the feed had it.
    event PriceKept(uint8 indexed id, uint256 price, uint64 updatedAt);

    /// @dev `maximum` (32) tokens are listed; the id of a delisted one is not given again.
    error TokenListFull(uint8 maximum);
    /// @dev The token has this id, whatever its status: {setStatus} enables it again.
    error TokenListedAlready(address token, uint8 id);
    /// @dev The address holds no contract that answers `decimals()`, or answers more than 18.
    error UnsuitableToken(address token);
    /// @dev Not 1 to 11 ASCII letters or digits.
    error InvalidSymbol(string symbol);
    /// @dev No token was listed under this id.
    error UnknownTokenId(uint8 id);
    /// @dev No contract, more than 18 decimals, no heartbeat, or bounds that let nothing pass.
    error UnsuitableFeed(address feed);
    /// @dev The feed's answer is of this Unix time, which is more than `heartbeat` seconds ago.
    error StalePrice(address feed, uint256 updatedAt, uint256 heartbeat);
    /// @dev Zero, negative, or outside the token's bounds.
    error PriceOutOfBounds(address feed, int256 answer, uint256 minimum, uint256 maximum);
    /// @dev The feed reverted, or answered with a round that is not complete or from the future.
    error FeedBroken(address feed);
    /// @dev {pauseToken}: the token has this status, and only an enabled one is paused. {setStatus} pauses nothing.
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
    /// @notice Sets where a token's price comes from; the token lister's. The feed's decimals are read now and must stay.
    function setFeed(uint8 id, PriceFeed calldata feed) external;
    /// @notice Sets the token units that the escrow may hold in all; the token lister's. What it holds already may be more.
    function setCap(uint8 id, uint128 cap) external;
    /// @notice Keeps today's price as the last good one. Anyone may call; reverts unless it is usable.
    function keepPrice(uint8 id) external returns (uint256 price);

    /// @notice Bracket of an amount held, for {IEscrow-deposit}: floor(log2(dollars / 15)) + 1, zero below 15 dollars, at
    /// most 32; 255 if the price is not usable now. And the token's cap, which the escrow enforces.
    function assess(uint8 id, uint256 held) external view returns (uint8 bracket, uint128 cap);
    /// @notice Today's price: dollars with 18 decimals a whole token. Reverts unless it is fresh, complete and within bounds.
    function price(uint8 id) external view returns (uint256);
    /// @notice Last price kept and when the feed had it; zero if none ever was.
    function lastPrice(uint8 id) external view returns (uint256 price, uint64 updatedAt);
    /// @notice Reverts with {UnknownTokenId} if none was listed under the id.
    function token(uint8 id) external view returns (PaymentToken memory);
    /// @notice How many were ever listed: ids run from 0 to one less.
    function tokenCount() external view returns (uint8);
}
