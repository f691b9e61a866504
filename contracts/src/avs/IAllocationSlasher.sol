// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IBlsQuorumVerifier} from "./IBlsQuorumVerifier.sol";
import {ISlasher} from "./ISlasher.sol";

/// @title Slashes operator sets of EigenLayer
/// @notice Slashes through the AllocationManager every quorum that an operator was in at the reference block, and refreshes
/// its weight in the same transaction. Must be an appointee of the service manager for `slashOperator`. What is
/// slashed waits in EigenLayer's StrategyManager until anyone has it burned (`burnShares`).
///
/// Evidence of {slash} is `abi.encode(bytes32[] operatorIds)`: the non-signers' operator ids, ascending, as the signatories'
/// commitment has them. Evidence of {slashEquivocator} is `abi.encode(EquivocationEvidence)`.
interface IAllocationSlasher is ISlasher {
    /// @param key The operator's G2 key.
    /// @param signatures Over the first and the second digest.
    struct EquivocationEvidence {
        IBlsQuorumVerifier.G2Point key;
        IBlsQuorumVerifier.G1Point[2] signatures;
    }

    /// @notice 1e18 is all. Holds for slashes from now on, whenever the answer was given.
    event SlashFractionSet(uint64 fraction);

    /// @dev A fraction is above zero and at most half: slashing everything bricks an operator's strategy for good.
    error SlashFractionOutOfRange(uint64 fraction, uint64 limit);
    /// @dev At deployment: of the disputes contract.
    error NotAContract(address account);

    /// @notice Share of the slashable stake of a quorum that a verdict costs; 1e18 is all.
    function setSlashFraction(uint64 fraction) external;
    /// @notice See {setSlashFraction}.
    function slashFraction() external view returns (uint64);
    /// @notice Who alone may slash. Immutable.
    function disputes() external view returns (address);
    /// @notice The AVS account in EigenLayer.
    function serviceManager() external view returns (address);
    /// @notice The {IBlsQuorumVerifier} whose signatories are slashed. Immutable.
    function verifier() external view returns (address);
}
