// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A plain ERC-20 that anyone may mint.
contract PlainToken is ERC20 {
    uint8 private immutable _decimals;

    constructor(uint8 decimals_) ERC20("Plain", "PLAIN") {
        _decimals = decimals_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}

/// @notice Keeps a hundredth of every transfer.
contract FeeTakingToken is PlainToken {
    constructor() PlainToken(18) {}

    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, value);
        super._update(from, address(this), value / 100);
        super._update(from, to, value - value / 100);
    }
}

/// @notice Moves more than it is told.
contract GenerousToken is PlainToken {
    constructor() PlainToken(18) {}

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0)) super._update(address(0), to, 1);
    }
}

/// @notice Answers false instead of reverting, and moves nothing.
contract FalseToken is PlainToken {
    constructor() PlainToken(18) {}

    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @notice Answers nothing at all, as old stablecoins do.
contract SilentToken {
    uint8 public constant decimals = 6;
    mapping(address holder => uint256) public balanceOf;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Refuses to move anything to or from a blocked holder.
contract BlocklistToken is PlainToken {
    error Blocked(address holder);

    mapping(address holder => bool) public blocked;

    constructor() PlainToken(6) {}

    function setBlocked(address holder, bool isBlocked) external {
        blocked[holder] = isBlocked;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (blocked[from]) revert Blocked(from);
        if (blocked[to]) revert Blocked(to);
        super._update(from, to, value);
    }
}

/// @notice Calls its holder's chosen target in the middle of a transfer, before the balances move.
contract CallbackToken is PlainToken {
    address private _target;
    bytes private _call;
    bool public called;
    bytes public result;

    constructor() PlainToken(18) {}

    function arm(address target, bytes calldata data) external {
        (_target, _call, called) = (target, data, false);
    }

    function _update(address from, address to, uint256 value) internal override {
        if (_target != address(0) && from != address(0)) {
            address target = _target;
            _target = address(0);
            (called, result) = target.call(_call);
        }
        super._update(from, to, value);
    }
}
