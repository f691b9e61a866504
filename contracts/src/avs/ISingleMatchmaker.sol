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
    /// @notice In SPON units; `bond` is all that counts now.
    event BondDeposited(address indexed from, uint256 amount, uint256 bond);
    /// @notice `amount` SPON units more stopped counting. All that leaves can be withdrawn from this block on.
    event BondWithdrawalRequested(uint256 amount, uint256 fromBlock);
    /// @notice In SPON units; `bond` is all that still counts.
    event BondWithdrawn(address to, uint256 amount, uint256 bond);
    /// @notice Token units that one whole SPON of bond covers.
    event CoverageSet(uint8 indexed token, uint256 unitsPerSpon);
    /// @notice In SPON units, for slashes from now on.
    event SlashAmountSet(uint256 amount);

    /// @dev {hold} is for the task manager alone.
    error NotTaskManager(address caller);
    /// @dev Only the matchmaker takes bond back. At deployment: the key is zero.
    error NotMatchmaker(address caller);
    /// @dev Not the matchmaker's over this message, not 65 bytes, or not with the lower s.
    error InvalidSignature(bytes32 message);
    /// @dev Nothing is verified before the block after the close block.
    error ReferenceBlockNotPast(uint32 blockReference, uint256 blockNumber);
    /// @dev The leases that can still be disputed would be worth more than the bond covers: answer later, or add bond.
    error BondTooSmall(uint256 exposure, uint256 bond);
    /// @dev Governance has not said what one SPON of bond covers in the token: no lease in it can be opened.
    error NotCovered(uint8 token);
    /// @dev Of a deposit, a withdrawal or what a verdict costs.
    error ZeroAmount();
    /// @dev In SPON units: what counts, and what was asked back.
    error InsufficientBond(uint256 bond, uint256 needed);
    /// @dev What leaves stays slashable until this block.
    error WithdrawalTooEarly(uint256 fromBlock, uint256 blockNumber);
    /// @dev No bond leaves: {requestWithdrawal} comes first.
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
    /// @notice Moves out what {requestWithdrawal} asked for, as far as no slash has taken it. Only the matchmaker.
    function withdraw(address to) external returns (uint256 amount);

    // ------------------------------------------------------------- governance

    /// @notice Sets how many token units one whole SPON of bond covers; zero: none.
    function setCoverage(uint8 token, uint256 unitsPerSpon) external;
    /// @notice SPON units a verdict costs; what is slashed burns.
    function setSlashAmount(uint256 amount) external;

    // ------------------------------------------------------------------ views

    /// @notice The address of the key that answers. Immutable.
    function matchmaker() external view returns (address);
    /// @notice SPON units that count, and those that wait to leave.
    function bond() external view returns (uint256 counting, uint256 leaving, uint256 fromBlock);
    /// @notice SPON units needed for the leases that can still be disputed (rounded up; at most two challenge windows' worth).
    function exposure() external view returns (uint256);
    /// @notice Token units that one whole SPON of bond covers; zero if leases in the token cannot be opened.
    function coverage(uint8 token) external view returns (uint256 unitsPerSpon);
    /// @notice SPON units a verdict costs, which must stand behind every answer.
    function slashAmount() external view returns (uint256);
    /// @notice Who alone may slash. Immutable.
    function disputes() external view returns (address);
    /// @notice The {IMatchingTaskManager} whose answers the bond stands behind. Immutable.
    function taskManager() external view returns (address);
}
