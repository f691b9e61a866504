// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Fees} from "./Fees.sol";
import {IEscrow} from "./IEscrow.sol";

/// @title What the escrow stores, and the steps that its parts share
abstract contract EscrowState is IEscrow, ERC721, AccessManaged, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 internal constant ENABLED = 1 << 94;

    /// @inheritdoc IEscrow
    address public immutable override orderBook;
    /// @inheritdoc IEscrow
    address public immutable override permit2;

    // slot 7
    /// @inheritdoc IEscrow
    address public override foundation;
    /// @inheritdoc IEscrow
    uint32 public override accountCount;
    /// @inheritdoc IEscrow
    uint16 public override feeScheduleCount;

    /// @dev Token words: packed pair of schedules 86 at 0 | number of the pair 8 at 86 | enabled 1 at 94 | zero 1 at 95 |
    /// address 160 at 96. The pair is there a second time because every order, settlement and close needs the token and it.
    mapping(uint256 id => uint256 word) internal _tokens;
    /// @dev Packed pairs of schedules, see {Fees}. The ids of pair n are 2n and 2n + 1.
    mapping(uint256 pair => uint256 packed) internal _feeSchedules;
    /// @dev Account-and-token words by `account << 8 | token`.
    mapping(uint256 accountAndToken => uint256 word) internal _accounts;
    /// @dev Credits by `payee << 8 | token`.
    mapping(uint256 payeeAndToken => uint256 amount) internal _credits;
    /// @dev How often an account changed hands.
    mapping(uint256 account => uint256 epoch) internal _epochs;
    /// @dev Rights by `epoch << 200 | account << 168 | spender << 8 | token`: limit 112 at 0 | expiry 40 at 112 | may close 1 at
    /// 152 | how often it was set 96 at 160.
    mapping(uint256 holder => uint256 right) internal _spendingRights;

    modifier onlyOrderBook() {
        if (msg.sender != orderBook) revert NotOrderBook(msg.sender);
        _;
    }

    // --------------------------------------------------------------- accounts

    /// @inheritdoc IEscrow
    function ownerOf(uint256 account) public view override(IEscrow, ERC721) returns (address) {
        return super.ownerOf(account);
    }

    /// @dev Every transfer of the account ends its epoch; opening it does not.
    function _update(address to, uint256 account, address authorised) internal override returns (address from) {
        from = super._update(to, account, authorised);
        if (from != address(0)) ++_epochs[account];
    }

    // -------------------------------------------------------------- schedules

    /// @dev Packed pair of which `id` is one. Nearly always the token still has the one that the order froze.
    function _pairOf(uint256 listed, uint256 id) internal view returns (uint256) {
        return (listed >> Fees.PACKED_BITS) & 255 == id >> 1 ? listed : _feeSchedules[id >> 1];
    }

    /// @dev The schedule under an id, see {Fees-ofClass}.
    function _scheduleOf(uint256 listed, uint256 id) internal view returns (uint256) {
        return Fees.ofClass(_pairOf(listed, id), id);
    }

    function _knownSchedule(uint16 id) internal view returns (uint256 packed) {
        if (id < 2 || id >> 1 > feeScheduleCount) revert UnknownFeeSchedule(id);
        return Fees.ofClass(_feeSchedules[id >> 1], id);
    }

    // ------------------------------------------------------------------ money

    function _checkAccountOwner(uint32 account, address caller) internal view {
        address owner = _ownerOf(account);
        if (owner != caller || caller == address(0)) revert NotAccountOwner(account, caller, owner);
    }

    function _tokenAddress(uint8 token, uint256 listed) internal pure returns (address tokenAddress) {
        tokenAddress = address(uint160(listed >> 96));
        if (tokenAddress == address(0)) revert UnknownToken(token);
    }

    function _credit(address payee, uint8 token, uint256 amount) internal {
        if (amount != 0) _credits[_creditKey(payee, token)] += amount;
    }

    function _takeCredit(address payee, uint8 token, address to) internal returns (uint256 amount) {
        uint256 key = _creditKey(payee, token);
        amount = _credits[key];
        if (amount == 0) return 0;
        _credits[key] = 0;
        emit CreditWithdrawn(payee, token, to, amount);
    }

    /// @dev The last step of whoever calls it: a token that calls back finds everything done.
    function _send(uint8 token, uint256 listed, address to, uint256 amount) internal {
        // Tokens sent here would belong to nobody.
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
        IERC20(_tokenAddress(token, listed)).safeTransfer(to, amount);
    }

    // ------------------------------------------------------------------- keys

    function _accountKey(uint32 account, uint8 token) internal pure returns (uint256) {
        return (uint256(account) << 8) | token;
    }

    function _creditKey(address payee, uint8 token) internal pure returns (uint256) {
        return (uint256(uint160(payee)) << 8) | token;
    }
}
