// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice A price feed (Chainlink's AggregatorV3) that says what it is told, true or not.
contract MovingFeed {
    uint8 public constant decimals = 8;

    int256 private _answer;
    uint256 private _updatedAt;

    constructor(int256 answer) {
        (_answer, _updatedAt) = (answer, block.timestamp);
    }

    function move(int256 answer, uint256 updatedAt) external {
        (_answer, _updatedAt) = (answer, updatedAt);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (1, _answer, _updatedAt, _updatedAt, 1);
    }
}
