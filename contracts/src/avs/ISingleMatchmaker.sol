// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IQuorumVerifier} from "./IQuorumVerifier.sol";
import {ISlasher} from "./ISlasher.sol";

/// @title One matchmaker in place of a quorum
/// @notice "Progressive decentralisation" of the whitepaper (section 3.2): governance names one key, behind which a bond of
/// SPON stands. The bond caps the value of leases that can still be disputed; the same challenge slashes it. A proof is the
/// key's 65-byte ECDSA signature (r, s, v) of the digest; the signatories' commitment is
/// `keccak256(abi.encodePacked(uint32 blockReference, address matchmaker))`; evidence of {slash} is empty, evidence of
/// {slashEquivocator} is `abi.encode(bytes first, bytes second)`.
interface ISingleMatchmaker is IQuorumVerifier, ISlasher {
    event BondDeposited(address indexed from, uint256 amount, uint256 bond);
    event BondWithdrawalRequested(uint256 amount, uint256 fromBlock);
    event BondWithdrawn(address to, uint256 amount, uint256 bond);
    /// @notice Token units that one whole SPON of bond covers.
    event CoverageSet(uint8 indexed token, uint256 unitsPerSpon);
    event SlashAmountSet(uint256 amount);

    error NotTaskManager(address caller);
    error NotMatchmaker(address caller);
    error InvalidSignature(bytes32 message);
    error ReferenceBlockNotPast(uint32 blockReference, uint256 blockNumber);
    /// @dev The leases that can still be disputed would be worth more than the bond covers: answer later, or add bond.
    error BondTooSmall(uint256 exposure, uint256 bond);
    error NotCovered(uint8 token);
    error ZeroAmount();
    error InsufficientBond(uint256 bond, uint256 needed);
    error WithdrawalTooEarly(uint256 fromBlock, uint256 blockNumber);
    error NothingRequested();

    /// @notice Counts leases that an answer opened; reverts if the bond does not cover them. Only the task manager.
    /// @param values Token id 8 at 0 | amount locked for the lease, with the match fee that an undone lease does not get back,
    /// 112 at 8; one per lease.
    function hold(uint256[] calldata values) external;
    /// @notice Adds to the bond; anyone.
    function deposit(uint256 amount) external;
    /// @notice Asks for a part of the bond back: it stops counting now, stays slashable through every dispute about what it
    /// stood behind, and leaves with {withdraw}.
    function requestWithdrawal(uint256 amount) external;
    function withdraw(address to) external returns (uint256 amount);

    // ------------------------------------------------------------- governance

    function setCoverage(uint8 token, uint256 unitsPerSpon) external;
    /// @notice SPON units a verdict costs; what is slashed burns.
    function setSlashAmount(uint256 amount) external;

    // ------------------------------------------------------------------ views

    function matchmaker() external view returns (address);
    /// @notice SPON units that count, and those that wait to leave.
    function bond() external view returns (uint256 counting, uint256 leaving, uint256 fromBlock);
    /// @notice SPON units needed for the leases that can still be disputed (rounded up; at most two challenge windows' worth).
    function exposure() external view returns (uint256);
    function coverage(uint8 token) external view returns (uint256 unitsPerSpon);
    function slashAmount() external view returns (uint256);
    function disputes() external view returns (address);
    function taskManager() external view returns (address);
}
