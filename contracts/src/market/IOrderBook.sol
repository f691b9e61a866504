// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BidRequest, LeaseResources, Order, OrderState, OrderTerms} from "../Types.sol";

/// @title Orders, bids, leases and capacity
/// @notice Market core with {IEscrow}: one pair without upgrade. Order ids are
/// `account << 32 | token << 24 | nonce`, the nonce being the account's own per token. `leaseId == orderId`.
interface IOrderBook {
    /// @notice Windows and limits in force.
    /// @param bidWindow Default length of the bid window in blocks.
    /// @param maximumBidWindow Longest bid window an order may ask for, in blocks.
    /// @param responseWindow Blocks after the close block in which a response is taken; at most 256.
    /// @param challengeWindow Seconds after a lease's start in which nothing is paid out.
    /// @param bidLimit Bids an order takes.
    /// @param paramsVersion Version of the matching parameters new orders must name.
    struct Parameters {
        uint16 bidWindow;
        uint16 maximumBidWindow;
        uint16 responseWindow;
        uint32 challengeWindow;
        uint16 bidLimit;
        uint16 paramsVersion;
    }

    /// @notice An order was created and its worst case locked.
    event OrderCreated(uint64 indexed orderId, uint32 closeBlock, uint16 feeSchedule, OrderTerms terms);
    /// @notice A bid was folded into the order's digest. `offer`, `scoreCard` and `capacity` are packed words, see
    /// {Resources}.
    event BidPlaced(uint64 indexed orderId, uint32 indexed provider, uint256 offer, uint256 scoreCard, uint256 capacity);
    /// @notice A matched order became a lease. `start` is the block's timestamp.
    event LeaseCreated(uint64 indexed orderId, uint32 indexed supplier, uint96 rate, uint32 start, uint8 gpuEntry);
    /// @notice No ranked supplier had capacity left: the order takes bids again until `closeBlock`.
    event OrderRequeued(uint64 indexed orderId, uint32 closeBlock);
    event OrderCancelled(uint64 indexed orderId);
    event OrderExpired(uint64 indexed orderId);
    /// @notice A lease ended. `billed` is in seconds; what accrued inside the payout hold is settled later.
    event LeaseClosed(uint64 indexed orderId, OrderState reason, uint32 billed);
    /// @notice The supplier was paid until `settledFor` seconds after the start. `amount` is net of fees.
    event LeaseSettled(uint64 indexed orderId, uint32 indexed supplier, uint32 settledFor, uint256 amount);
    /// @notice Capacity of a supplier. A decrease is `pending` until `effectiveBlock`.
    event CapacityChanged(uint32 indexed supplier, uint256 capacity, uint256 pending, uint32 effectiveBlock);

    // ------------------------------------------------------------------ users

    /// @notice Locks the worst case of the order in the caller's account and opens it for bids.
    /// @param account Escrow account; the caller must own it.
    /// @param token Payment token id.
    /// @param bidWindow Blocks in which bids are taken, zero for the default.
    function createOrder(uint32 account, uint8 token, uint16 bidWindow, OrderTerms calldata terms)
        external
        returns (uint64 orderId);

    /// @notice Takes an open order back: before its close block by the account's owner.
    function cancelOrder(uint64 orderId) external;

    /// @notice Ends an open order that nobody answered within the response window, or that has no bid at its close block.
    /// Anyone may call.
    function expireOrders(uint64[] calldata orderIds) external;

    /// @notice Ends a lease. `ClosedByUser` by the account's owner, the provider's reasons by the supplier's owner,
    /// `ClosedAtEnd` by anyone once the lease is over.
    function closeLease(uint64 orderId, OrderState reason, LeaseResources calldata resources) external;

    // -------------------------------------------------------------- providers

    /// @notice Sets what the caller's supplier offers. Increases count at once, decreases (and switching off) after the
    /// longest bid and response windows. The free parts of `capacity` are ignored.
    function setCapacity(uint256 capacity) external;

    /// @notice Folds a bid, with the caller's score card and capacity as they stand, into the order's digest.
    function placeBid(uint64 orderId, uint32 fizz, uint96 rate) external;

    /// @notice Many bids, strictly ascending in (order, fizz). A bid on an order that takes none any more is skipped.
    function placeBids(BidRequest[] calldata bids) external;

    // ----------------------------------------------------------------- anyone

    /// @notice Credits what leases have accrued to their suppliers' owners.
    function settle(uint64[] calldata orderIds) external;

    /// @notice Settles leases of one token and sends the proceeds, and the caller's earlier credit, to `to`. The caller must
    /// own the supplier of every lease.
    function settleAndWithdraw(uint64[] calldata orderIds, address to) external returns (uint256 amount);

    // ----------------------------------------------------------- task manager

    /// @notice Opens leases from a verified answer. Only the task manager.
    /// @param matches Packed: per order a header word `orderId << 8 | ranks`, then, unless ranks is zero (the order
    /// expires), the resource word, the rest hash, and one word a rank:
    /// `provider << 118 | fizz << 86 | rate << 2 | gpuEntry`.
    function openLeases(uint32 closeBlock, uint256[] calldata matches, address responder) external;

    // ------------------------------------------------------------------ views

    function parameters() external view returns (Parameters memory);
    function order(uint64 orderId) external view returns (Order memory);
    function termsHash(uint64 orderId) external view returns (bytes32);
    /// @notice Digest over the bids so far and their count. The digest of an order without a bid is its seed.
    function bidsDigest(uint64 orderId) external view returns (bytes32 digest, uint16 count);
    /// @notice Capacity word of a supplier with any due decrease applied, the pending word and its block (zero if none).
    function capacityOf(uint32 supplier) external view returns (uint256 capacity, uint256 pending, uint32 effectiveBlock);
    function supplierOf(address owner) external view returns (uint32 supplier);
    function supplierOwner(uint32 supplier) external view returns (address);
    /// @notice Live leases of a supplier.
    function leaseCount(uint32 supplier) external view returns (uint32);
    /// @notice Net amount that `settle` would credit now.
    function claimable(uint64 orderId) external view returns (uint256);
}
