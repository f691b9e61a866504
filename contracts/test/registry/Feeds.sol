// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAggregatorV3} from "../../src/registry/IAggregatorV3.sol";

/// @notice Answers what it is told.
contract SettableFeed {
    uint8 public decimals;
    uint80 public roundId = 7;
    int256 public answer;
    uint256 public updatedAt;
    uint80 public answeredInRound = 7;

    constructor(uint8 decimals_, int256 answer_) {
        (decimals, answer, updatedAt) = (decimals_, answer_, block.timestamp);
    }

    function setDecimals(uint8 decimals_) external {
        decimals = decimals_;
    }

    function setAnswer(int256 answer_) external {
        answer = answer_;
    }

    function setUpdatedAt(uint256 updatedAt_) external {
        updatedAt = updatedAt_;
    }

    function setRounds(uint80 roundId_, uint80 answeredInRound_) external {
        (roundId, answeredInRound) = (roundId_, answeredInRound_);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (roundId, answer, updatedAt, updatedAt, answeredInRound);
    }
}

/// @notice Where something upgradeable is asked by the escrow or the registry: nothing that it does may matter.
contract HostileAnswer {
    enum Mode {
        Nothing,
        Reverts,
        RevertsWithABomb,
        Bomb,
        BurnsGas,
        Short,
        AllOnes,
        Writes,
        DecimalsBurnGas,
        DecimalsRevert
    }

    Mode private immutable _mode;
    uint256 private _written;

    constructor(Mode mode) {
        _mode = mode;
    }

    fallback() external {
        Mode mode = _mode;
        if (mode == Mode.Reverts) revert("broken");
        if (mode == Mode.Writes) _written = 1;
        bool round = msg.sig == IAggregatorV3.latestRoundData.selector;
        if (mode == Mode.DecimalsBurnGas || mode == Mode.DecimalsRevert) {
            if (round) {
                bytes memory answer = abi.encode(uint80(1), int256(1e8), block.timestamp, block.timestamp, uint80(1));
                assembly {
                    return(add(answer, 0x20), mload(answer))
                }
            }
            if (mode == Mode.DecimalsRevert) revert();
        }
        while (mode == Mode.BurnsGas || mode == Mode.DecimalsBurnGas) {}
        assembly {
            // A megabyte costs its maker two million gas, and would cost who copies it as much; here as large as gas allows.
            let size := mul(sub(gas(), div(gas(), 4)), 8)
            if gt(size, 1000000) { size := 1000000 }
            switch mode
            case 2 { revert(0, size) }
            case 3 { return(0, size) }
            case 5 { return(0, 31) }
            case 6 {
                for { let at := 0 } lt(at, 0xa0) { at := add(at, 0x20) } { mstore(at, not(0)) }
                return(0, 0xa0)
            }
            case 7 { return(0, 0xa0) }
            default { return(0, 0) }
        }
    }
}
