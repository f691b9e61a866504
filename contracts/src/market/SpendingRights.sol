// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {SpendingRight} from "../Types.sol";
import {EscrowState} from "./EscrowState.sol";
import {Fees} from "./Fees.sol";
import {IEscrow} from "./IEscrow.sol";

/// @title Who may lock an account's money beside its owner
/// @notice A right names one spender, one token, a limit and an expiry. It lives in the account's epoch, which ends when the
/// account changes hands: what an earlier owner granted is out of reach, also when the account comes back.
abstract contract SpendingRights is EscrowState {
    uint256 private constant LIMIT = type(uint112).max;
    uint256 private constant MAY_CLOSE = 1 << 152;
    /// @dev How often the right was set stands above what it allows.
    uint256 private constant SETTINGS_OFFSET = 160;
    uint256 private constant ALLOWS_MASK = (MAY_CLOSE << 1) - 1;

    /// @inheritdoc IEscrow
    function setSpendingRight(uint32 account, address spender, uint8 token, SpendingRight calldata right)
        external
        override
    {
        _checkAccountOwner(account, msg.sender);
        if (spender == msg.sender) revert SpenderIsOwner(account, spender);
        _tokenAddress(token, _tokens[token]);
        uint256 key = _rightKey(account, spender, token);
        uint256 settings = (_spendingRights[key] >> SETTINGS_OFFSET) + 1;
        _spendingRights[key] = right.limit | (uint256(right.expiry) << 112) | (right.mayClose ? MAY_CLOSE : 0)
            | (settings << SETTINGS_OFFSET);
        emit SpendingRightSet(account, spender, token, right.limit, right.expiry, right.mayClose);
    }

    /// @inheritdoc IEscrow
    function spendingRight(uint32 account, address spender, uint8 token)
        external
        view
        override
        returns (SpendingRight memory)
    {
        uint256 right = _spendingRights[_rightKey(account, spender, token)];
        return SpendingRight(uint112(right), _expiryOf(right), right & MAY_CLOSE != 0);
    }

    /// @inheritdoc IEscrow
    function mayClose(uint32 account, uint8 token, address caller) external view override returns (bool may) {
        (may,) = _closingRight(account, token, caller);
    }

    /// @inheritdoc IEscrow
    function basisOf(uint32 account, uint8 token, address caller) external view override returns (uint56) {
        (bool may, uint256 settings) = _closingRight(account, token, caller);
        if (!may) return 0;
        uint256 pair = (_tokens[token] >> Fees.PACKED_BITS) & 255;
        // Neither comes round but by 2^24 transactions of the account's owners.
        return uint56((_epochs[account] << 32) | (uint256(uint24(settings)) << 8) | pair);
    }

    /// @inheritdoc IEscrow
    function epochOf(uint32 account) external view override returns (uint32) {
        return uint32(_epochs[account]);
    }

    /// @dev The owner may lock what is there, a spender what its right allows; that much is taken from the right.
    function _authorise(uint32 account, uint8 token, address caller, uint256 amount) internal {
        address owner = _ownerOf(account);
        if (owner == caller && caller != address(0)) return;
        uint256 key = _rightKey(account, caller, token);
        uint256 right = _spendingRights[key];
        if (right & ALLOWS_MASK == 0) revert NotAccountOwner(account, caller, owner);
        if (block.timestamp >= _expiryOf(right)) {
            revert SpendingRightExpired(account, token, caller, _expiryOf(right));
        }
        uint256 limit = right & LIMIT;
        if (amount > limit) revert SpendingLimitExceeded(account, token, caller, limit, amount);
        unchecked {
            _spendingRights[key] = right - amount;
            emit Spent(account, caller, token, amount, limit - amount);
        }
    }

    /// @dev Whether it may close, and how often its right was set, which is 0 for the owner.
    function _closingRight(uint32 account, uint8 token, address caller)
        private
        view
        returns (bool may, uint256 settings)
    {
        if (caller == address(0)) return (false, 0);
        if (caller == _ownerOf(account)) return (true, 0);
        uint256 right = _spendingRights[_rightKey(account, caller, token)];
        may = right & MAY_CLOSE != 0 && block.timestamp < _expiryOf(right);
        settings = right >> SETTINGS_OFFSET;
    }

    function _expiryOf(uint256 right) private pure returns (uint40) {
        return uint40(right >> 112);
    }

    /// @dev An epoch would need 2^32 transfers of one account to come again.
    function _rightKey(uint32 account, address spender, uint8 token) private view returns (uint256) {
        return (_epochs[account] << 200) | (uint256(account) << 168) | (uint256(uint160(spender)) << 8) | token;
    }
}
