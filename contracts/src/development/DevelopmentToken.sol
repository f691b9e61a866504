// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title DevelopmentToken
/// @notice Stands for a stablecoin or a staked asset on devnets. Its whole supply belongs to whoever deploys it.
contract DevelopmentToken is ERC20 {
    uint8 private immutable _decimals;

    constructor(string memory name, string memory symbol, uint8 decimals_, uint256 wholeSupply) ERC20(name, symbol) {
        _decimals = decimals_;
        _mint(msg.sender, wholeSupply * 10 ** decimals_);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}
