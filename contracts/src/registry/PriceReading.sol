// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAggregatorV3} from "./IAggregatorV3.sol";
import {IPaymentTokens} from "./IPaymentTokens.sol";

/// @title Reading a price feed that may be stale, wrong, broken or hostile
/// @notice A feed is asked with bounded gas and only the words of its answer are read, so that whatever it does, the caller
/// goes on and knows what was wrong.
library PriceReading {
    /// @notice Prices are dollars with so many decimals. Feeds and tokens have no more: rates keep their precision up to here
    /// (whitepaper tokens have 6 to 18).
    uint256 internal constant PRICE_DECIMALS = 18;

    /// @dev For each of the two questions: Chainlink's proxies take about 20 000.
    uint256 private constant FEED_GAS = 80_000;

    enum Problem {
        None,
        Broken,
        Stale,
        OutOfBounds
    }

    /// @param price Dollars with 18 decimals a whole token; zero if there is a problem.
    struct Reading {
        Problem problem;
        int256 answer;
        uint256 updatedAt;
        uint256 price;
    }

    /// @param decimals Of the feed when it was set: bounds are in them, so a feed that changes them is broken.
    function read(IPaymentTokens.PriceFeed memory feed, uint8 decimals) internal view returns (Reading memory reading) {
        (bool answered, uint256[5] memory round) = _ask(feed.feed, IAggregatorV3.latestRoundData.selector, 0xa0);
        if (!answered || !_isDecimals(feed.feed, decimals) || !_isComplete(round)) {
            reading.problem = Problem.Broken;
            return reading;
        }
        (reading.answer, reading.updatedAt) = (int256(round[1]), round[3]);
        if (block.timestamp - reading.updatedAt > feed.heartbeat) {
            reading.problem = Problem.Stale;
        } else if (
            reading.answer <= 0 || uint256(reading.answer) < feed.minimumPrice
                || uint256(reading.answer) > feed.maximumPrice
        ) {
            reading.problem = Problem.OutOfBounds;
        } else {
            // The bounds have 128 bits.
            reading.price = uint256(reading.answer) * 10 ** (PRICE_DECIMALS - decimals);
        }
    }

    /// @notice Decimals of a feed or a token; `usable` is false if it does not say, or says more than 18.
    function decimalsOf(address asked) internal view returns (uint8 decimals, bool usable) {
        (bool answered, uint256[5] memory words) = _ask(asked, IAggregatorV3.decimals.selector, 0x20);
        if (!answered || words[0] > PRICE_DECIMALS) return (0, false);
        return (uint8(words[0]), true);
    }

    function _isDecimals(address feed, uint8 expected) private view returns (bool) {
        (uint8 decimals, bool usable) = decimalsOf(feed);
        return usable && decimals == expected;
    }

    /// @dev Round ids have 80 bits. An answer from an earlier round means that the latest one has none yet.
    function _isComplete(uint256[5] memory round) private view returns (bool) {
        (uint256 id, uint256 updatedAt, uint256 answeredIn) = (round[0], round[3], round[4]);
        bool numbered = id != 0 && id <= type(uint80).max && answeredIn >= id && answeredIn <= type(uint80).max;
        return numbered && updatedAt != 0 && updatedAt <= block.timestamp;
    }

    /// @dev Asks a question without arguments. `size` bytes of the answer are copied, never more.
    function _ask(address asked, bytes4 selector, uint256 size)
        private
        view
        returns (bool answered, uint256[5] memory words)
    {
        assembly ("memory-safe") {
            mstore(0x00, selector)
            answered := staticcall(FEED_GAS, asked, 0x00, 0x04, words, size)
            answered := and(answered, iszero(lt(returndatasize(), size)))
        }
    }
}
