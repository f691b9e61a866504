// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {CloseRequest, LeaseResources, OrderRequest, OrderState, OrderTerms, UpdateProposal} from "../Types.sol";

/// @title Leases after their match, and what others bring in for a signer
/// @notice Answered by the order book's address: the order book runs this code on its own storage ({Leases}). Errors that both
/// raise are in {IOrderBook}.
interface ILeases {
    /// @notice A lease ended. `billed` is in seconds; what accrued inside the payout hold is settled later. A lease that was
    /// closed inside its payout hold can end a second time: undone.
    event LeaseClosed(uint64 indexed orderId, OrderState reason, uint32 billed);
    /// @notice The lease now lasts `duration` seconds from its start; `locked` more is locked for it.
    event LeaseExtended(uint64 indexed orderId, address indexed by, uint32 duration, uint256 locked);
    /// @notice Unless extended, the lease ends at this Unix time.
    event LeaseLowOnFunds(uint64 indexed orderId, uint256 end);
    /// @notice The user would replace the lease by one of these terms. A later proposal replaces an earlier one.
    event UpdateProposed(uint64 indexed orderId, address indexed by, uint40 expiry, OrderTerms terms);
    /// @notice The user withdrew the proposal, or the supplier refused it. The lease goes on as it is.
    event UpdateRejected(uint64 indexed orderId, address indexed by);
    /// @notice The supplier took the update: `orderId` is closed ({LeaseClosed}, ClosedUpdated) and `updatedId` is its lease
    /// (`LeaseCreated` of {IOrderBook}) for the same workload, which is named after its first lease.
    event LeaseUpdated(uint64 indexed orderId, uint64 indexed updatedId, uint64 indexed workload);
    /// @notice `fees` is what the lease paid to the foundation, in token units.
    event LeaseRated(uint64 indexed orderId, uint32 indexed provider, uint8 rating, uint256 fees);

    /// @dev Reasons that can be given go from `ClosedByUser` to `ClosedCannotStart`; others are the market's own.
    error InvalidCloseReason(uint64 orderId, OrderState reason);
    /// @dev `end` includes the grace in which the lease can still be extended.
    error LeaseNotOver(uint64 orderId, uint256 end, uint256 timestamp);
    /// @dev The end and the grace after it have passed: the lease is over and can only be closed.
    error LeaseOver(uint64 orderId, uint256 end, uint256 timestamp);
    /// @dev The resources given are not those of the order.
    error WrongResources(uint64 orderId, bytes32 given, bytes32 stored);
    /// @dev Undoing is for the {IOrderBook-Collaborator} of that role alone.
    error NotDisputes(address caller);
    /// @dev Slashing is for the {IOrderBook-Collaborator} of that role alone.
    error NotSlasher(address caller);
    /// @dev The lease may have been paid from: it cannot be undone any more.
    error PayoutHoldOver(uint64 orderId, uint256 holdEnd, uint256 timestamp);
    /// @dev The slasher bills at least what is paid already and at most what has passed.
    error BilledOutOfRange(uint64 orderId, uint256 billed, uint256 least, uint256 most);
    /// @dev An extension is one second at least.
    error ExtensionIsZero(uint64 orderId);
    /// @dev No proposal, or it fell: the account changed hands since, the right of the spender who proposed it was set anew or
    /// has expired, or the token has other fees. See {IEscrow-basisOf}.
    error NoUpdateProposed(uint64 orderId);
    /// @dev What is accepted or rejected is not what was proposed.
    error OtherUpdateProposed(uint64 orderId, bytes32 given, bytes32 proposed);
    /// @dev The supplier was too late: the proposal could be taken before this Unix time.
    error UpdateExpired(uint64 orderId, uint40 expiry, uint256 timestamp);
    /// @dev A proposal must be takeable in a later second than the one it is made in.
    error ExpiryPassed(uint40 expiry, uint256 timestamp);
    /// @dev The supplier cannot hold the updated resources, even with the old ones free.
    error NoCapacity(uint64 orderId, uint32 supplier);
    /// @dev Ratings go from 1 to `highest` (10).
    error InvalidRating(uint8 rating, uint8 highest);
    /// @dev A lease is rated once; the rating stays.
    error AlreadyRated(uint64 orderId);
    /// @dev Nothing was paid yet (neither to the supplier nor in fees), or not everything: settle first.
    error NotPaidInFull(uint64 orderId);
    /// @dev The token's fees have changed since the request was signed.
    error OtherFeeSchedule(uint16 signed, uint16 current);
    /// @dev Unix times; in the second of the deadline itself the request can still be brought in.
    error SignatureExpired(uint256 deadline, uint256 timestamp);
    /// @dev Used already, or not yet its turn: `expected` is the signer's next.
    error WrongNonce(address signer, uint256 given, uint256 expected);
    /// @dev Not signed by `signer`, or not over these words on this chain and market.
    error InvalidSignature(address signer);

    // -------------------------------------------------- account's owner and spenders

    /// @notice Ends a lease. `ClosedByUser` by the account's owner or a spender who may close, the provider's reasons by the
    /// supplier's owner at any time, `ClosedAtEnd` by anyone once end and grace are over; from then on every close is one.
    /// Never billed beyond the end, and never dependent on a transfer.
    function closeLease(uint64 orderId, OrderState reason, LeaseResources calldata resources) external;

    /// @notice Moves the end of a live lease by so many seconds and locks what they cost. Until end and grace are over; billed
    /// from the old end on.
    function extendLease(uint64 orderId, uint32 added) external;

    /// @notice The account's owner, or a spender who may close, proposes terms in place of a live lease: the new lease starts
    /// when the supplier accepts and lasts `terms.duration`, at `terms.maximumRate` or less and at the fees of the proposal.
    /// Nothing is locked before; the old lease is untouched until then.
    function proposeUpdate(uint64 orderId, OrderTerms calldata terms, uint40 expiry) external;

    /// @notice Withdraws (the user) or refuses (the supplier's owner) a proposal for a live lease.
    /// @param hash Of {updateProposal}: what was proposed in its place meanwhile stays.
    function rejectUpdate(uint64 orderId, bytes32 hash) external;

    /// @notice Rates the supplier of a closed lease that was paid in full: 1 to 10, once, by the account's owner. A fizz node's
    /// rating is its gateway's. A workload is rated once, by its last lease: an updated lease is not.
    function rateLease(uint64 orderId, uint8 rating) external;

    // -------------------------------------------------------------- providers

    /// @notice Takes an update as it was proposed, for `rate`: closes the lease, bills it until now, and opens the new one in
    /// the same transaction, or changes nothing. The caller owns the supplier, which must be as active as for a bid.
    /// @param resources Of the old lease.
    function acceptUpdate(uint64 orderId, LeaseResources calldata resources, OrderTerms calldata terms, uint96 rate)
        external
        returns (uint64 updatedId);

    // ----------------------------------------------------------------- anyone

    /// @notice Says of each live lease that is within the low-funds window and was not announced since its last extension that
    /// it is low on funds. Passes over all others.
    function announceLowFunds(uint64[] calldata orderIds) external;

    /// @notice `createOrder` of {IOrderBook} for the signer.
    function createOrderFor(OrderRequest calldata request, bytes calldata signature) external returns (uint64 orderId);

    /// @notice Closes the signer's lease (`ClosedByUser`), or cancels the order if it is not one yet; then `resources` are not
    /// read.
    function closeFor(CloseRequest calldata request, LeaseResources calldata resources, bytes calldata signature)
        external;

    /// @notice Makes the caller's next nonce worthless, and the signature over it.
    function skipNonce() external returns (uint256 skipped);

    // ------------------------------------------------------ disputes and slasher

    /// @notice Undoes a lease inside its payout hold, live or closed: nothing is billed, its lock returns, its capacity is
    /// free. Only the disputes contract.
    function undoLease(uint64 orderId, LeaseResources calldata resources) external;

    /// @notice Ends a live lease in the user's favour: billed for so many seconds after its start, not below what is paid
    /// already. Only the slasher.
    function slashLease(uint64 orderId, uint32 billed, LeaseResources calldata resources) external;

    // ------------------------------------------------------------------ views

    /// @notice All zero unless one stands for a live lease, see {NoUpdateProposed}. One that has expired is still told.
    function updateProposal(uint64 orderId) external view returns (UpdateProposal memory);
    /// @notice The first lease of the workload that this lease runs: itself, unless it came from an update.
    function workloadOf(uint64 orderId) external view returns (uint64);
    /// @notice Unix times of a lease: its end, and the end of its grace. Zero if it is no live lease.
    function endOf(uint64 orderId) external view returns (uint256 end, uint256 graceEnd);
}
