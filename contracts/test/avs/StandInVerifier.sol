// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Stands where a quorum verifier does: takes the digest itself as its proof, and writes down what it is told to hold. What
/// stands behind it covers so much value a lease.
contract StandInVerifier {
    error NotTheDigest(bytes32 message);
    error TooMuch(uint256 value);

    bool public immutable capped;
    uint256 public cover = type(uint256).max;
    uint256 public holds;
    address public holder;
    uint256[] private _values;

    constructor(bool capped_) {
        capped = capped_;
    }

    function setCover(uint256 value) external {
        cover = value;
    }

    function verify(bytes32 message, uint32 blockReference, bytes calldata proof) external pure returns (bytes32) {
        if (abi.decode(proof, (bytes32)) != message) revert NotTheDigest(message);
        return keccak256(abi.encode(blockReference));
    }

    function hold(uint256[] calldata given) external {
        for (uint256 i = 0; i < given.length; i++) {
            if (given[i] >> 8 > cover) revert TooMuch(given[i] >> 8);
        }
        (_values, holder) = (given, msg.sender);
        ++holds;
    }

    function values() external view returns (uint256[] memory) {
        return _values;
    }
}
