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

    /// @notice The EIP-712 type that requests refer to.
    string internal constant TYPE =
        "OrderTerms(uint256 resources,uint256 requirements,uint256 regions,bytes32 manifestHash,uint96 maximumRate,uint32 duration,uint32[] wantedSuppliers,uint32[] excludedSuppliers)";
    bytes32 private constant TYPE_HASH = keccak256(bytes(TYPE));

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

    /// @notice Everything but the resource word. Only after {check}, which has read every field: what is copied as it came is
    /// well formed.
    function restHash(OrderTerms calldata terms) internal pure returns (bytes32 result) {
        uint32[] calldata wanted = terms.wantedSuppliers;
        uint32[] calldata excluded = terms.excludedSuppliers;
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            // Requirements, regions, manifest hash, maximum rate and duration stand side by side after the resources.
            calldatacopy(buffer, add(terms, 0x20), 0xa0)
            // A list is preceded by its length.
            let wantedSize := shl(5, add(wanted.length, 1))
            let excludedSize := shl(5, add(excluded.length, 1))
            calldatacopy(add(buffer, 0xa0), sub(wanted.offset, 0x20), wantedSize)
            calldatacopy(add(add(buffer, 0xa0), wantedSize), sub(excluded.offset, 0x20), excludedSize)
            result := keccak256(buffer, add(0xa0, add(wantedSize, excludedSize)))
        }
    }

    /// @notice What storage keeps.
    function hash(uint256 resources, bytes32 rest) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            mstore(0x00, resources)
            mstore(0x20, rest)
            result := keccak256(0x00, 0x40)
        }
    }

    /// @notice What a supplier accepts must hash to what the user proposed.
    function updateHash(bytes32 termsHash, uint256 maximumRate, uint256 duration) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(termsHash, maximumRate, duration));
    }

    /// @notice EIP-712 hash of the terms, every field of them.
    function typedHash(OrderTerms calldata terms) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                TYPE_HASH,
                terms.resources,
                terms.requirements,
                terms.regions,
                terms.manifestHash,
                terms.maximumRate,
                terms.duration,
                keccak256(abi.encodePacked(terms.wantedSuppliers)),
                keccak256(abi.encodePacked(terms.excludedSuppliers))
            )
        );
    }
}
