// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IAggregatorV3} from "../registry/IAggregatorV3.sol";

/// @title DevelopmentFeed
/// @notice Stands for a Chainlink price feed on devnets. Whoever deploys it sets the price; every answer is a round.
contract DevelopmentFeed is IAggregatorV3, Ownable {
    struct Round {
        int192 answer;
        uint64 updatedAt;
    }

    event AnswerSet(uint80 indexed roundId, int192 answer);

    error UnknownRound(uint80 roundId);

    /// @inheritdoc IAggregatorV3
    uint8 public immutable override decimals;
    /// @inheritdoc IAggregatorV3
    string public override description;
    /// @inheritdoc IAggregatorV3
    uint256 public constant override version = 1;

    uint80 private _latest;
    mapping(uint80 roundId => Round) private _rounds;

    constructor(uint8 decimals_, string memory description_, int192 answer) Ownable(msg.sender) {
        decimals = decimals_;
        description = description_;
        _answer(answer);
    }

    /// @notice Sets the price, in the feed's decimals.
    function setAnswer(int192 answer) external onlyOwner {
        _answer(answer);
    }

    /// @inheritdoc IAggregatorV3
    function latestRoundData() external view override returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData(_latest);
    }

    /// @inheritdoc IAggregatorV3
    function getRoundData(uint80 roundId)
        public
        view
        override
        returns (uint80 id, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        Round memory round = _rounds[roundId];
        require(round.updatedAt != 0, UnknownRound(roundId));
        return (roundId, round.answer, round.updatedAt, round.updatedAt, roundId);
    }

    function _answer(int192 answer) private {
        _rounds[++_latest] = Round(answer, uint64(block.timestamp));
        emit AnswerSet(_latest, answer);
    }
}
