// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Capacity} from "./Capacity.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {MarketGovernance} from "./MarketGovernance.sol";
import {PayeeWord} from "./Resources.sol";

/// @title Suppliers and their capacity
/// @notice Providers and fizz nodes share one id space. What grows in a supplier's capacity counts at once; what shrinks waits
/// until every order that was bid on with it has its answer.
abstract contract Suppliers is MarketGovernance {
    using Capacity for uint256;
    using PayeeWord for uint256;

    /// @inheritdoc IOrderBook
    function setCapacity(uint256 capacity) external override {
        uint32 supplier = _supplierOfCaller();
        if (!capacity.isValidWish()) revert InvalidCapacity(capacity);
        uint256 wish = capacity.totals();
        SupplierRecord storage record = _suppliers[supplier];
        uint256 word = (_effectiveCapacity(record) & ~Capacity.PENDING).raise(wish);
        uint256 effectiveBlock = 0;
        if (word.totals() == wish) {
            wish = 0;
        } else {
            // Later than the last answer to any order that was bid on with the old capacity.
            effectiveBlock = block.number + _longestRound() + 1;
            record.wish = wish;
            record.payee = record.payee.withEffectiveBlock(effectiveBlock);
            word |= Capacity.PENDING;
        }
        record.capacity = word;
        emit CapacityChanged(supplier, word.visible(), wish, uint32(effectiveBlock));
    }

    // ------------------------------------------------------ provider registry

    /// @inheritdoc IOrderBook
    function addSupplier(uint32 supplier, address owner, uint32 gateway) external override {
        _checkRegistry();
        if (supplier == 0 || (gateway != 0 && _suppliers[gateway].payee == 0)) {
            revert UnknownSupplier(supplier == 0 ? supplier : gateway);
        }
        if (owner == address(0)) revert NotSupplier(owner);
        if (_suppliers[supplier].payee != 0) revert SupplierExists(supplier);
        if (_bidders[owner].word != 0) revert OwnerHasSupplier(owner, uint32(_bidders[owner].word));
        _suppliers[supplier].payee = PayeeWord.pack(owner, gateway);
        _bidders[owner].word = supplier;
        emit SupplierAdded(supplier, owner, gateway);
    }

    /// @inheritdoc IOrderBook
    function suspend(uint32 supplier, bool suspended) external override {
        _checkRegistry();
        SupplierRecord storage record = _suppliers[supplier];
        if (record.payee == 0) revert UnknownSupplier(supplier);
        uint256 word = record.capacity;
        record.capacity = suspended ? word | Capacity.SUSPENDED : word & ~Capacity.SUSPENDED;
        emit SupplierSuspended(supplier, suspended);
    }

    /// @inheritdoc IOrderBook
    function setFeeClass(uint32 supplier, bool rebated) external override {
        _checkRegistry();
        SupplierRecord storage record = _suppliers[supplier];
        if (record.payee == 0) revert UnknownSupplier(supplier);
        uint256 word = record.capacity;
        record.capacity = rebated ? word | Capacity.REBATED : word & ~Capacity.REBATED;
        emit FeeClassChanged(supplier, rebated);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IOrderBook
    function capacityOf(uint32 supplier)
        external
        view
        override
        returns (uint256 capacity, uint256 pending, uint32 effectiveBlock)
    {
        SupplierRecord storage record = _suppliers[supplier];
        capacity = _effectiveCapacity(record);
        if (capacity & Capacity.PENDING != 0) {
            (pending, effectiveBlock) = (record.wish, uint32(record.payee.effectiveBlock()));
        }
        capacity = capacity.visible();
    }

    /// @inheritdoc IOrderBook
    function supplierOf(address owner) external view override returns (uint32) {
        return uint32(_bidders[owner].word);
    }

    /// @inheritdoc IOrderBook
    function supplierOwner(uint32 supplier) external view override returns (address) {
        return _suppliers[supplier].payee.owner();
    }

    /// @inheritdoc IOrderBook
    function hasLease(uint32 supplier) external view override returns (bool) {
        return _suppliers[supplier].capacity.isUsed();
    }

    /// @inheritdoc IOrderBook
    function supplierTerms(uint32 supplier) external view override returns (bool rebated, uint32 gateway) {
        SupplierRecord storage record = _suppliers[supplier];
        return (record.capacity & Capacity.REBATED != 0, record.payee.gateway());
    }

    // -------------------------------------------------------- private: suppliers

    function _supplierOfCaller() private view returns (uint32 supplier) {
        supplier = uint32(_bidders[msg.sender].word);
        if (supplier == 0) revert NotSupplier(msg.sender);
    }
}
