// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

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

/// @notice Answers false instead of paying out, once it is told to.
contract RefusingToken is PlainToken {
    bool public refuses;

    constructor() PlainToken(18) {}

    function setRefuses(bool refuses_) external {
        refuses = refuses_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return refuses ? false : super.transfer(to, amount);
    }
}

/// @notice Everybody's balance is a share of a total that somebody moves up and down.
contract RebasingToken {
    uint8 public constant decimals = 18;
    uint256 private constant ONE = 1e18;

    uint256 public index = ONE;
    mapping(address holder => uint256) private _shares;

    /// @dev Parts of a whole: 2e18 doubles what everybody has.
    function rebase(uint256 newIndex) external {
        index = newIndex;
    }

    function mint(address to, uint256 amount) external {
        _shares[to] += amount * ONE / index;
    }

    function balanceOf(address holder) public view returns (uint256) {
        return _shares[holder] * index / ONE;
    }

    /// @dev Whoever asks may move what it likes.
    function approve(address, uint256) external pure returns (bool) {
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external virtual returns (bool) {
        return _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) internal returns (bool) {
        uint256 shares = amount * ONE / index;
        _shares[from] -= shares;
        _shares[to] += shares;
        return true;
    }
}

/// @notice Grows in the middle of a transfer.
contract GrowingToken is RebasingToken {
    function transferFrom(address from, address to, uint256 amount) external override returns (bool) {
        _move(from, to, amount);
        index = index * 2;
        return true;
    }
}

/// @notice Nothing moves while it is paused.
contract PausableToken is PlainToken {
    error TokenPaused();

    bool public paused;

    constructor() PlainToken(18) {}

    function setPaused(bool paused_) external {
        paused = paused_;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (paused) revert TokenPaused();
        super._update(from, to, value);
    }
}

/// @notice Says what it is told about its decimals.
contract OddDecimals {
    bytes private _answer;
    bool private _reverts;
    bool private _burns;

    constructor(bytes memory answer, bool reverts_, bool burns_) {
        (_answer, _reverts, _burns) = (answer, reverts_, burns_);
    }

    fallback(bytes calldata) external returns (bytes memory) {
        require(!_reverts);
        while (_burns) {}
        return _answer;
    }
}

/// @notice With ERC-2612 permits.
contract PermitToken is ERC20Permit {
    constructor() ERC20("Permit", "PERMIT") ERC20Permit("Permit") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
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

/// @notice As ERC-777 tokens do, and worse: calls whatever it was told to before a transfer, after one, and in a permit.
contract CallbackToken is PlainToken {
    enum Moment {
        Never,
        BeforeTransfer,
        AfterTransfer,
        Permit
    }

    address private _target;
    bytes private _call;
    Moment private _moment;
    bool public called;
    bool public succeeded;
    bytes public result;

    constructor() PlainToken(18) {}

    /// @dev Once.
    function arm(Moment moment, address target, bytes calldata data) external {
        (_moment, _target, _call, called, succeeded) = (moment, target, data, false, false);
        delete result;
    }

    /// @dev ERC-1271, for Permit2: it signs everything.
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }

    function permit(address owner, address spender, uint256 value, uint256, uint8, bytes32, bytes32) external {
        _approve(owner, spender, value);
        _callBack(Moment.Permit);
    }

    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0)) return super._update(from, to, value);
        _callBack(Moment.BeforeTransfer);
        super._update(from, to, value);
        _callBack(Moment.AfterTransfer);
    }

    function _callBack(Moment moment) private {
        if (moment != _moment) return;
        (_moment, called) = (Moment.Never, true);
        (succeeded, result) = _target.call(_call);
    }
}
