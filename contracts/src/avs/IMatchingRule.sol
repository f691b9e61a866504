// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {MatchingParameters, OrderTerms} from "../Types.sol";

/// @title The matching rule, on chain
/// @notice What operators compute off chain, for one order: 512 bids fit one transaction. Rust (`avs`), Python
/// (`avs/vectors`) and this contract agree on every input.
interface IMatchingRule {
    /// @dev Bids come in words of three: offer, score card, capacity.
    error BidsBreakOff(uint256 words);
    /// @dev One index of two bytes for every bid.
    error BidOrderLength(uint256 given, uint256 expected);
    /// @dev The bid at this place of the order given does not sort above the one before it, or does not exist.
    error BidOrderNotAscending(uint256 place);

    /// @notice Ranks an order's bids. The caller checks the terms against the order's terms hash first.
    /// @param parameters Those of the version that the terms name.
    /// @param bids Three words a bid as {IOrderBook-BidPlaced} emitted them, in log order.
    /// @param bidOrder The bids sorted: big-endian indices of two bytes, so that (provider, fizz, 0xffff - index) ascends
    /// strictly: each pair's last bid comes first.
    /// @return digestWord What the order book stores for these bids: digest 240 at 16 | count 16 at 0 (zero without bids).
    /// @return ranks The best suppliers, best first, as rank words of {IOrderBook-openLeases}; empty if no bid is valid.
    function rank(
        uint64 orderId,
        uint32 closeBlock,
        bytes32 closeBlockHash,
        OrderTerms calldata terms,
        MatchingParameters calldata parameters,
        uint256[] calldata bids,
        bytes calldata bidOrder
    ) external view returns (uint256 digestWord, uint256[] memory ranks);
}
