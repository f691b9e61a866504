// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice A token with every bad habit that the market takes: answers nothing on a transfer, blocks holders, can be paused, and
/// calls whoever armed it in the middle of a transfer, before the balances move. It moves what it is told to the unit: tokens
/// that take a fee are refused at their first deposit (`HostileTokens.t.sol`), and rebasing tokens are outside what E1 assumes.
contract HostileToken {
    error Blocked(address holder);
    error TransfersPaused();
    error TooLittle(address holder, uint256 amount);

    uint8 public constant decimals = 6;
    string public constant symbol = "HOSTILE";

    mapping(address holder => uint256) public balanceOf;
    mapping(address holder => mapping(address spender => uint256)) public allowance;
    mapping(address holder => bool) public blocked;
    bool public paused;
    address private _armedBy;
    uint256 private _armedWith;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
    }

    function setBlocked(address holder, bool isBlocked) external {
        blocked[holder] = isBlocked;
    }

    function setPaused(bool isPaused) external {
        paused = isPaused;
    }

    /// @notice The next transfer calls `IReentrant.reenter(seed)` of the caller.
    function arm(uint256 seed) external {
        (_armedBy, _armedWith) = (msg.sender, seed);
    }

    function disarm() external {
        _armedBy = address(0);
    }

    function armed() external view returns (bool) {
        return _armedBy != address(0);
    }

    function _move(address from, address to, uint256 amount) private {
        if (paused) revert TransfersPaused();
        if (blocked[from]) revert Blocked(from);
        if (blocked[to]) revert Blocked(to);
        if (_armedBy != address(0)) {
            address target = _armedBy;
            _armedBy = address(0);
            IReentrant(target).reenter(_armedWith);
        }
        if (balanceOf[from] < amount) revert TooLittle(from, amount);
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

interface IReentrant {
    function reenter(uint256 seed) external;
}
