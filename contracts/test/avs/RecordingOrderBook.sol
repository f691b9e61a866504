// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "../../src/market/IOrderBook.sol";

/// @notice Stands where the order book does, for tests about tasks alone: writes down what it was given.
contract RecordingOrderBook {
    uint16 public responseWindow = 100;
    uint32 public closeBlock;
    bytes32 public matchesHash;
    address public responder;
    address public caller;

    function setResponseWindow(uint16 window) external {
        responseWindow = window;
    }

    function parameters() external view returns (IOrderBook.Parameters memory given) {
        (given.maximumBidWindow, given.responseWindow, given.matchWindow) = (20, responseWindow, 50);
    }

    function openLeases(uint32 closeBlock_, uint256[] calldata matches, address responder_) external {
        (closeBlock, responder, caller) = (closeBlock_, responder_, msg.sender);
        matchesHash = keccak256(abi.encodePacked(matches));
    }
}
