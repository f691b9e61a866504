// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule} from "../Types.sol";

/// @title Accounts, locks, credits
/// @notice Accounts are ERC-721 tokens: one wallet opens many and hands one over with its leases. Approval of the token
/// moves the account, never its money.
interface IEscrow {
    event AccountOpened(uint32 indexed account, address indexed owner);
    event Deposited(uint32 indexed account, uint8 indexed token, address from, uint256 amount);
    event Withdrawn(uint32 indexed account, uint8 indexed token, address to, uint256 amount);
    event CreditWithdrawn(address indexed payee, uint8 indexed token, address to, uint256 amount);
    event FeeScheduleAdded(uint16 indexed id, FeeSchedule schedule);

    /// @notice Opens an account for `owner`.
    function open(address owner) external returns (uint32 account);
    /// @notice Moves tokens of the caller into an account. Anyone may deposit into anyone's.
    function deposit(uint32 account, uint8 token, uint256 amount) external;
    /// @notice Moves unlocked tokens out. Only the account's owner.
    function withdraw(uint32 account, uint8 token, uint256 amount, address to) external;
    /// @notice Moves the caller's whole credit out.
    function withdrawCredit(uint8 token, address to) external returns (uint256 amount);

    function ownerOf(uint256 account) external view returns (address);
    function accountCount() external view returns (uint32);
    /// @notice What an account holds of a token, and the nonce of its last order in it.
    function balances(uint32 account, uint8 token) external view returns (uint256 unlocked, uint256 locked, uint32 nonce);
    function creditOf(address payee, uint8 token) external view returns (uint256);
    function feeSchedule(uint16 id) external view returns (FeeSchedule memory);
    /// @notice Worst case of a lease: the stream and the user fee, both rounded up, and the match fee.
    function lockFor(uint96 rate, uint32 duration, uint16 schedule) external view returns (uint256);
}
