// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Capacity} from "./Capacity.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {MarketGovernance} from "./MarketGovernance.sol";

/// @title Suppliers and their capacity
/// @notice Providers and fizz nodes share one id space. What grows in a supplier's capacity counts at once; what shrinks waits
/// until every order that was bid on with it has its answer.
abstract contract Suppliers is MarketGovernance {
    using Capacity for uint256;

    /// @dev Three slots. `wish` and `effectiveBlock` mean something while the capacity word says that a decrease is pending.
    /// `creditTokens` has a bit for every token in which a close, or a settlement by anyone, credited the owner since the
    /// last withdrawal: a withdrawal from live leases need not look for a credit.
    struct SupplierRecord {
        uint256 capacity;
        uint256 wish;
        address owner;
        uint32 gateway;
        uint32 effectiveBlock;
        uint32 creditTokens;
    }

    struct BidderRecord {
        uint256 word;
    }

    mapping(uint256 supplier => SupplierRecord) internal _suppliers;
    /// @dev Bidder words: supplier 32 at 0 | position of the last bid 128 at 32, which is its block 32, order 64, fizz 32 from
    /// the highest. A position only ever grows, so bids within a block ascend.
    mapping(address owner => BidderRecord) internal _bidders;

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
            record.effectiveBlock = uint32(effectiveBlock);
            word |= Capacity.PENDING;
        }
        record.capacity = word;
        emit CapacityChanged(supplier, word.visible(), wish, uint32(effectiveBlock));
    }

    // ------------------------------------------------------ provider registry

    /// @inheritdoc IOrderBook
    function addSupplier(uint32 supplier, address owner, uint32 gateway) external override {
        _checkRegistry();
        if (supplier == 0 || (gateway != 0 && _suppliers[gateway].owner == address(0))) {
            revert UnknownSupplier(supplier == 0 ? supplier : gateway);
        }
        if (owner == address(0)) revert NotSupplier(owner);
        if (_suppliers[supplier].owner != address(0)) revert SupplierExists(supplier);
        if (_bidders[owner].word != 0) revert OwnerHasSupplier(owner, uint32(_bidders[owner].word));
        _suppliers[supplier].owner = owner;
        _suppliers[supplier].gateway = gateway;
        _bidders[owner].word = supplier;
        emit SupplierAdded(supplier, owner, gateway);
    }

    /// @inheritdoc IOrderBook
    function suspend(uint32 supplier, bool suspended) external override {
        _checkRegistry();
        SupplierRecord storage record = _suppliers[supplier];
        if (record.owner == address(0)) revert UnknownSupplier(supplier);
        uint256 word = record.capacity;
        record.capacity = suspended ? word | Capacity.SUSPENDED : word & ~Capacity.SUSPENDED;
        emit SupplierSuspended(supplier, suspended);
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
        if (capacity & Capacity.PENDING != 0) (pending, effectiveBlock) = (record.wish, record.effectiveBlock);
        capacity = capacity.visible();
    }

    /// @inheritdoc IOrderBook
    function supplierOf(address owner) external view override returns (uint32) {
        return uint32(_bidders[owner].word);
    }

    /// @inheritdoc IOrderBook
    function supplierOwner(uint32 supplier) external view override returns (address) {
        return _suppliers[supplier].owner;
    }

    /// @inheritdoc IOrderBook
    function hasLease(uint32 supplier) external view override returns (bool) {
        return _suppliers[supplier].capacity.isUsed();
    }

    // -------------------------------------------------------- private: suppliers

    function _supplierOfCaller() private view returns (uint32 supplier) {
        supplier = uint32(_bidders[msg.sender].word);
        if (supplier == 0) revert NotSupplier(msg.sender);
    }

    /// @dev Stored word with a due decrease applied as far as leases leave room.
    function _effectiveCapacity(SupplierRecord storage record) internal view returns (uint256 word) {
        word = record.capacity;
        if (word & Capacity.PENDING == 0 || block.number < record.effectiveBlock) return word;
        word = word.lower(record.wish);
        if (word.totals() == record.wish) word &= ~Capacity.PENDING;
    }

    /// @dev Whether the supplier could take the lease; if so it has.
    function _reserve(uint32 supplier, uint256 resources, uint256 gpuEntry) internal returns (bool fits) {
        SupplierRecord storage record = _suppliers[supplier];
        uint256 word = record.capacity;
        if (word & Capacity.PENDING != 0) word = _effectiveCapacity(record);
        if (!word.isActive()) return false;
        (fits, word) = word.reserve(resources, gpuEntry);
        if (fits) record.capacity = word;
    }

    function _release(uint32 supplier, uint256 resources, uint256 gpuEntry) internal {
        SupplierRecord storage record = _suppliers[supplier];
        record.capacity = record.capacity.release(resources, gpuEntry);
        // What was released may be what a pending decrease waits for.
        record.capacity = _effectiveCapacity(record);
    }
}
