// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Who takes stake from operators that signed a wrong answer
/// @notice The seam between disputes and what is at stake under one quorum verifier: operator sets of EigenLayer, or the bond
/// of a single matchmaker. Only the disputes contract calls it, once per verdict and operator. A slash that would cut nothing
/// reverts.
interface ISlasher {
    /// @notice `cut` is what was taken, by quorum (EigenLayer: share of the operator's stake, 1e18 is all) or in SPON units.
    event OperatorSlashed(bytes32 indexed verdict, address indexed operator, uint8 quorum, uint256 cut);

    /// @dev Both functions are for the disputes contract alone.
    error NotDisputes(address caller);
    /// @dev The evidence does not open the commitment to who signed.
    error WrongSignatories(bytes32 given, bytes32 committed);
    /// @dev Did not sign, or was in no quorum at the reference block.
    error NotSignatory(address operator);
    /// @dev Nothing of the operator's was left to take.
    error NothingCut(address operator);
    /// @dev One of the two signatures is not the operator's.
    error NotSignedBy(address operator, bytes32 digest);

    /// @notice Slashes operators that signed.
    /// @param blockReference Close block of the answer: whose stakes counted.
    /// @param signatories What the quorum verifier returned for the answer.
    /// @param evidence Opens `signatories`; its shape is the implementation's.
    function slash(
        bytes32 verdict,
        uint32 blockReference,
        bytes32 signatories,
        address[] calldata operators,
        bytes calldata evidence
    ) external;

    /// @notice Slashes an operator that signed both digests, which the disputes contract found to contradict each other.
    /// @param evidence Both signatures; its shape is the implementation's.
    function slashEquivocator(
        bytes32 verdict,
        uint32 blockReference,
        bytes32[2] calldata digests,
        address operator,
        bytes calldata evidence
    ) external;
}
