// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderTerms} from "../Types.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {OrderWord, RequirementWord, ResourceWord} from "./Resources.sol";

/// @title Terms of an order
/// @notice What is refused at the boundary, and the hashes that stand for the terms afterwards.
library Terms {
    /// @dev Matching walks the lists once per bid.
    uint256 private constant LONGEST_SUPPLIER_LIST = 64;

    /// @notice Refuses terms that no supplier could be matched with, or that do not fit their words.
    function check(OrderTerms calldata terms, uint16 paramsVersion) internal pure {
        if (!ResourceWord.isValid(terms.resources)) revert IOrderBook.InvalidResources(terms.resources);
        if (!RequirementWord.isValid(terms.requirements)) revert IOrderBook.InvalidRequirements(terms.requirements);
        uint16 given = RequirementWord.paramsVersion(terms.requirements);
        if (given != paramsVersion) revert IOrderBook.WrongParamsVersion(given, paramsVersion);
        if (terms.regions == 0) revert IOrderBook.NoRegionAccepted();
        if (terms.manifestHash == 0) revert IOrderBook.ManifestHashIsZero();
        if (terms.maximumRate == 0 || terms.maximumRate > OrderWord.MAXIMUM_RATE) {
            revert IOrderBook.RateOutOfRange(terms.maximumRate);
        }
        if (terms.duration == 0 || terms.duration > OrderWord.MAXIMUM_DURATION) {
            revert IOrderBook.DurationOutOfRange(terms.duration);
        }
        _checkSupplierList(terms.wantedSuppliers);
        _checkSupplierList(terms.excludedSuppliers);
    }

    function _checkSupplierList(uint32[] calldata suppliers) private pure {
        if (suppliers.length > LONGEST_SUPPLIER_LIST) {
            revert IOrderBook.SupplierListTooLong(suppliers.length, LONGEST_SUPPLIER_LIST);
        }
        uint32 previous = 0;
        for (uint256 index = 0; index < suppliers.length; ++index) {
            if (suppliers[index] <= previous) revert IOrderBook.SupplierListNotAscending(previous, suppliers[index]);
            previous = suppliers[index];
        }
    }

    /// @notice Everything but the resource word.
    function restHash(OrderTerms calldata terms) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                terms.requirements,
                terms.regions,
                terms.manifestHash,
                uint256(terms.maximumRate),
                uint256(terms.duration),
                terms.wantedSuppliers.length,
                terms.wantedSuppliers,
                terms.excludedSuppliers.length,
                terms.excludedSuppliers
            )
        );
    }

    /// @notice What storage keeps.
    function hash(uint256 resources, bytes32 rest) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            mstore(0x00, resources)
            mstore(0x20, rest)
            result := keccak256(0x00, 0x40)
        }
    }
}
