// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderTerms} from "../../src/Types.sol";

/// @notice The hash of an order's terms as {OrderTerms} defines it, written down apart from the contracts.
library TermsHash {
    function whole(OrderTerms memory terms) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(terms.resources, rest(terms)));
    }

    /// @dev Of all but the resources. In two steps, because the stack has no room for one; packed, the entries of an array still
    /// take a word each.
    function rest(OrderTerms memory terms) internal pure returns (bytes32) {
        bytes memory fields = abi.encodePacked(
            terms.requirements, terms.regions, terms.manifestHash, uint256(terms.maximumRate), uint256(terms.duration)
        );
        return keccak256(
            abi.encodePacked(
                fields,
                terms.wantedSuppliers.length,
                terms.wantedSuppliers,
                terms.excludedSuppliers.length,
                terms.excludedSuppliers
            )
        );
    }
}
