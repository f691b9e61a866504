// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BidRequest, LeaseResources, Order, OrderState, OrderTerms} from "../Types.sol";

/// @title Orders, bids, leases and capacity
/// @notice Market core with {IEscrow}: one pair without upgrade. The same address answers {ILeases}: what happens to a lease
/// after its match. Order ids are `account << 32 | token << 24 | nonce`, the nonce being the account's own per token.
/// `leaseId == orderId`.
interface IOrderBook {
    /// @notice Windows and limits in force.
    /// @param bidWindow Default length of the bid window in blocks.
    /// @param maximumBidWindow Longest bid window an order may ask for, in blocks.
    /// @param responseWindow Blocks after the close block in which a response is taken; at most 256.
    /// @param matchWindow Blocks after the response window in which anyone may run the rule on chain for an order that nobody
    /// answered. Only then may anyone expire it. With the response window at most 8191: so far back block hashes reach.
    /// @param challengeWindow Seconds after a lease's start in which nothing is paid out.
    /// @param graceWindow Seconds after its end in which an unclosed lease can still be extended; never more than a sixteenth of
    /// its duration, so that short leases get no free hours.
    /// @param lowFundsWindow Seconds before its end from which a lease may be announced as low on funds; never more than a
    /// quarter of its duration.
    /// @param bidLimit Bids an order takes; at most 512, which the rule on chain handles in one transaction.
    /// @param paramsVersion Version of the matching parameters new orders must name.
    struct Parameters {
        uint16 bidWindow;
        uint16 maximumBidWindow;
        uint16 responseWindow;
        uint16 matchWindow;
        uint32 challengeWindow;
        uint32 graceWindow;
        uint32 lowFundsWindow;
        uint16 bidLimit;
        uint16 paramsVersion;
    }

    /// @notice Contracts named by governance. Set once, then changed in two steps with a delay longer than two rounds of the
    /// bid, response and match windows, and than the challenge window.
    enum Collaborator {
        /// Opens leases.
        TaskManager,
        /// Adds and suspends suppliers; keeps their score cards ({IProviderRegistry}).
        ProviderRegistry,
        /// Lists payment tokens in the escrow ({IPaymentTokens}).
        PaymentTokens,
        /// Undoes leases whose match was proven wrong ({IMatchingDisputes}), inside the payout hold, and can do nothing else.
        Disputes,
        /// Closes leases in the user's favour and can do nothing else.
        Slasher
    }

    /// @notice An order was created and its worst case locked.
    event OrderCreated(uint64 indexed orderId, uint32 closeBlock, uint16 feeSchedule, OrderTerms terms);
    /// @notice A bid was folded into the order's digest. `offer`, `scoreCard` and `capacity` are packed words, see
    /// {Resources}.
    event BidPlaced(
        uint64 indexed orderId, uint32 indexed provider, uint256 offer, uint256 scoreCard, uint256 capacity
    );
    /// @notice A matched order became a lease. `start` is the block's timestamp.
    event LeaseCreated(uint64 indexed orderId, uint32 indexed supplier, uint96 rate, uint32 start, uint8 gpuEntry);
    /// @notice No ranked supplier had capacity left: the order takes bids again until `closeBlock`.
    event OrderRequeued(uint64 indexed orderId, uint32 closeBlock);
    /// @notice A quorum signed words for this order that are not its resources or its rest hash: the order stays open in its
    /// close block, and anyone may prove the answer wrong.
    event AnswerIgnored(uint64 indexed orderId);
    /// @notice Taken back by the account's owner or a spender who may close. Its whole lock is unlocked again.
    event OrderCancelled(uint64 indexed orderId);
    /// @notice No lease comes of the order: it had no bid, nobody answered, or the answer found no supplier. Its whole lock is
    /// unlocked again.
    event OrderExpired(uint64 indexed orderId);
    /// @notice The supplier was paid until `settledFor` seconds after the start. `amount` is net of fees and of the gateway's
    /// share.
    event LeaseSettled(uint64 indexed orderId, uint32 indexed supplier, uint32 settledFor, uint256 amount);
    /// @notice The gateway of a fizz node's lease was credited its share, along with {LeaseSettled}.
    event GatewayCredited(uint64 indexed orderId, uint32 indexed gateway, uint256 amount);
    /// @notice Capacity of a supplier. A decrease is `pending` until `effectiveBlock`.
    event CapacityChanged(uint32 indexed supplier, uint256 capacity, uint256 pending, uint32 effectiveBlock);
    /// @notice `gateway` is zero for a provider, the provider's id for a fizz node.
    event SupplierAdded(uint32 indexed supplier, address indexed owner, uint32 gateway);
    /// @notice A suspended supplier takes no bid and no lease, whatever its capacity says.
    event SupplierSuspended(uint32 indexed supplier, bool suspended);
    /// @notice From now on leases that the supplier wins freeze the rebated schedule, or no longer.
    event FeeClassChanged(uint32 indexed supplier, bool rebated);
    /// @notice What {MarketPaused} names stops in this block. `by` called: the guardian, or the access manager for it.
    event Paused(address by);
    /// @notice What {Paused} stopped goes on. `by` called: the governor, or the access manager for it.
    event Unpaused(address by);
    /// @notice Ids of GPU models that the brackets of small deposits count four times.
    event TopGpusChanged(uint256 ids);
    /// @notice `bidWindow` (blocks) and `paramsVersion` hold for new orders, `bidLimit` for open ones too. See {Parameters}.
    event BiddingChanged(uint16 bidWindow, uint16 bidLimit, uint16 paramsVersion);
    /// @notice The change can be accepted once both the block and the time are reached.
    event CollaboratorProposed(Collaborator indexed role, address proposed, uint32 fromBlock, uint64 fromTime);
    /// @notice `current` has the role from now on. `previous` is zero the first time.
    event CollaboratorChanged(Collaborator indexed role, address previous, address current);

    /// @dev The resource word is malformed: cpu or memory missing, GPU count and ids disagree, or unused bits set.
    error InvalidResources(uint256 resources);
    /// @dev The requirement word is malformed: unknown mode, no tier, or unused bits set.
    error InvalidRequirements(uint256 requirements);
    /// @dev The terms' bitmap of regions is empty; all ones means any.
    error NoRegionAccepted();
    /// @dev The terms name no manifest, against whose hash the supplier checks what the user sends.
    error ManifestHashIsZero();
    /// @dev The rate must be 1 to 2^84 - 1.
    error RateOutOfRange(uint96 rate);
    /// @dev The duration must be 1 to 2^29 - 1 seconds.
    error DurationOutOfRange(uint32 duration);
    /// @dev In blocks; `maximum` is {Parameters} `maximumBidWindow`.
    error BidWindowTooLong(uint16 bidWindow, uint16 maximum);
    /// @dev The requirement word names another version of the matching parameters than the one in force ({setBidding}).
    error WrongParamsVersion(uint16 given, uint16 current);
    /// @dev Wanted and excluded suppliers are at most `maximum` (64) each.
    error SupplierListTooLong(uint256 length, uint256 maximum);
    /// @dev Wanted and excluded suppliers must be strictly ascending and not zero.
    error SupplierListNotAscending(uint32 previous, uint32 supplier);
    /// @dev The call is not for an order or lease in this state; `None` means that there is no such order.
    error WrongState(uint64 orderId, OrderState state);
    /// @dev Neither the account's owner nor a spender who may close.
    error NotAccountOwner(uint64 orderId, address caller, address owner);
    /// @dev The order is at or past its close block: it takes no bid, and waits for an answer.
    error BidWindowOver(uint64 orderId, uint32 closeBlock, uint256 blockNumber);
    /// @dev Without a bid an order can be expired from its close block on, with bids from the block after its match window.
    error NotYetExpirable(uint64 orderId, uint256 firstBlock, uint256 blockNumber);

    /// @dev The caller owns no supplier. Of {addSupplier}: the zero address cannot own one.
    error NotSupplier(address caller);
    /// @dev Withdrawing from the lease, a provider's reason to close it and taking its update are for the owner of `supplier`.
    error NotSupplierOwner(uint64 orderId, uint32 supplier, address caller);
    /// @dev Switched off or suspended, or its score card is not active.
    error SupplierInactive(uint32 supplier);
    /// @dev A provider bids for its own fizz nodes alone, see {supplierTerms}.
    error NotBehindGateway(uint32 fizz, uint32 provider);
    /// @dev In token units per 36 000 seconds. `maximum` is the maximum rate of the terms, or the most that 84 bits hold.
    error RateAboveMaximum(uint64 orderId, uint256 rate, uint256 maximum);
    /// @dev Of a bid, or of an update that a supplier takes.
    error RateIsZero(uint64 orderId);
    /// @dev The order has as many bids as {Parameters} `bidLimit` allows now. {placeBids} passes it over instead.
    error BidLimitReached(uint64 orderId, uint16 limit);
    /// @dev Within a block a provider's bids ascend strictly in (order, fizz).
    error BidsNotAscending(uint64 previousOrderId, uint32 previousFizz, uint64 orderId, uint32 fizz);
    /// @dev A GPU entry without a count, without an id or with an unknown id, or unused bits set.
    error InvalidCapacity(uint256 capacity);

    /// @dev {placeBids} without a bid, {settleAndWithdraw} without a lease.
    error EmptyBatch();
    /// @dev Nothing accrued since the last settlement, or the payout hold still runs, and no credit waits.
    error NothingDue(uint64 orderId);
    /// @dev All leases of one withdrawal are in one token.
    error MixedTokens(uint64 orderId, uint8 token);

    /// @dev {openLeases} is for the {Collaborator} of that role alone.
    error NotTaskManager(address caller);
    /// @dev {addSupplier}, {suspend} and {setFeeClass} are for the {Collaborator} of that role alone.
    error NotProviderRegistry(address caller);
    /// @dev Answers are taken from the block after the close block to the last block of the match window.
    error OutsideResponseWindow(uint32 closeBlock, uint256 blockNumber);
    /// @dev The packed matches break off, or a word has bits set that must be zero, at this index.
    error MalformedMatches(uint256 index);
    /// @dev The order ids of an answer ascend strictly.
    error OrdersNotAscending(uint64 previous, uint64 orderId);
    /// @dev An answer ranks at most `maximum` (8) suppliers for an order.
    error TooManyRanks(uint64 orderId, uint256 ranks, uint256 maximum);
    /// @dev {addSupplier}: the id is another supplier's already.
    error SupplierExists(uint32 supplier);
    /// @dev One address owns at most one supplier.
    error OwnerHasSupplier(address owner, uint32 supplier);
    /// @dev No supplier has this id; zero is never one. Of a new fizz node `supplier` may be its gateway.
    error UnknownSupplier(uint32 supplier);

    /// @dev The guardian has stopped new orders, bids, matches and updates. Withdrawing, settling, extending and closing go on.
    error MarketPaused();
    /// @dev More than the deposit entitles to (whitepaper 4.6.3), see {Brackets}. Deposit more, or ask for less.
    error AboveBracket(uint256 resources, uint8 bracket, uint8 needed);
    /// @dev Neither the order book nor {ILeases} has it, or {leases} was called at its own address.
    error NoSuchFunction(bytes4 selector);
    /// @dev In blocks, see {Parameters}: a window is zero, too long or does not fit the others, the bid limit is not 1 to 512,
    /// or the version is zero. At deployment and of {setBidding}.
    error InvalidParameters(
        uint16 bidWindow,
        uint16 maximumBidWindow,
        uint16 responseWindow,
        uint16 matchWindow,
        uint16 bidLimit,
        uint16 paramsVersion
    );
    /// @dev At deployment: the escrow obeys `orderBook`, which is another contract.
    error WrongEscrow(address escrow, address orderBook);
    /// @dev A role goes from one contract to another; it is never emptied.
    error CollaboratorIsZero(Collaborator role);
    /// @dev No change of the role waits to be accepted.
    error NothingProposed(Collaborator role);
    /// @dev Can be accepted once both this block and this Unix time are reached.
    error ChangeTooEarly(Collaborator role, uint32 fromBlock, uint64 fromTime);

    // ------------------------------------------------------------------ users

    /// @notice Locks the worst case of the order in the account and opens it for bids.
    /// @param account Escrow account; the caller owns it or has a spending right in the token.
    /// @param token Payment token id.
    /// @param bidWindow Blocks in which bids are taken, zero for the default.
    function createOrder(uint32 account, uint8 token, uint16 bidWindow, OrderTerms calldata terms)
        external
        returns (uint64 orderId);

    /// @notice Takes an open order back: the account's owner or a spender who may close, before its close block or after its
    /// response window.
    function cancelOrder(uint64 orderId) external;

    /// @notice Ends an open order that nobody answered within the response and match windows, or that has no bid at its
    /// close block. Anyone may call.
    function expireOrders(uint64[] calldata orderIds) external;

    // -------------------------------------------------------------- providers

    /// @notice Sets what the caller's supplier offers. Increases count at once, decreases (and switching off) after the
    /// longest bid, response and match windows; bids promise no more than what will be left. The free parts of `capacity` are
    /// ignored.
    function setCapacity(uint256 capacity) external;

    /// @notice Folds a bid, with the caller's score card as it stands and what capacity it can promise (a pending decrease
    /// counts already), into the order's digest.
    function placeBid(uint64 orderId, uint32 fizz, uint96 rate) external;

    /// @notice Many bids, strictly ascending in (order, fizz). A bid on an order that takes none any more is skipped.
    function placeBids(BidRequest[] calldata bids) external;

    // ----------------------------------------------------------------- anyone

    /// @notice Credits what leases have accrued to their suppliers' owners, a fizz node's gateway's share to the gateway's.
    function settle(uint64[] calldata orderIds) external;

    /// @notice Settles leases of one token and sends the proceeds, and what earlier settlements and closes credited to the
    /// caller, to `to`. The caller must own the supplier of every lease.
    function settleAndWithdraw(uint64[] calldata orderIds, address to) external returns (uint256 amount);

    // ----------------------------------------------------------- task manager

    /// @notice Opens leases from an answer: of a quorum within the response window, of the rule run on chain within the
    /// match window after it. Only the task manager, which tells the two apart. An order that fails (closed, no capacity,
    /// malformed words) never keeps its neighbours from being settled: a rank with bits that must be zero, without a rate
    /// or with one above the maximum is passed over, wrong resources leave the order as it is ({AnswerIgnored}). Matches
    /// that break off, rank more than eight suppliers or do not ascend are no answer at all and revert.
    /// @param matches Packed: per order a header word `orderId << 8 | ranks`, then, unless ranks is zero (the order
    /// expires), the resource word, the rest hash, and one word a rank:
    /// `provider << 118 | fizz << 86 | rate << 2 | gpuEntry`.
    function openLeases(uint32 closeBlock, uint256[] calldata matches, address responder) external;

    // ------------------------------------------------------ provider registry

    /// @notice Adds a supplier under a new id. Only the provider registry.
    /// @param gateway Zero for a provider, the provider's id for a fizz node behind it.
    function addSupplier(uint32 supplier, address owner, uint32 gateway) external;
    /// @notice Takes a supplier out of bids and matches at once, or lets it back. Only the provider registry.
    function suspend(uint32 supplier, bool suspended) external;
    /// @notice Whether leases that the supplier wins from now on freeze the rebated schedule. Only the provider registry.
    function setFeeClass(uint32 supplier, bool rebated) external;

    // ------------------------------------------------------------- governance

    /// @notice Sets the default bid window, the bid limit and the version new orders must name.
    function setBidding(uint16 bidWindow, uint16 bidLimit, uint16 paramsVersion) external;
    /// @notice Stops new orders, bids, matches and updates at once; the guardian's. Nothing else stops.
    function pause() external;
    /// @notice Lets go on what {pause} stopped; the governor's.
    function unpause() external;
    /// @notice Bitmap of the GPU ids that count four times against a bracket.
    function setTopGpus(uint256 ids) external;
    /// @notice Names a collaborator: at once if the role is empty and nobody has an account yet, else as a proposal.
    function proposeCollaborator(Collaborator role, address proposed) external;
    /// @notice Makes a proposal effective after its delay. Anyone may call.
    function acceptCollaborator(Collaborator role) external;

    // ------------------------------------------------------------------ views

    /// @notice The {IEscrow} that obeys this order book. Immutable.
    function escrow() external view returns (address);
    /// @notice Who has the role now; zero if governance never named anybody.
    function collaborator(Collaborator role) external view returns (address);
    /// @notice The windows, which are immutable, and what {setBidding} set last.
    function parameters() external view returns (Parameters memory);
    /// @notice The order's word, unpacked; all zero, state `None`, if there is no such order.
    function order(uint64 orderId) external view returns (Order memory);
    /// @notice `keccak256(abi.encodePacked(resources, restHash))`, see {OrderTerms}; zero if there is no such order.
    function termsHash(uint64 orderId) external view returns (bytes32);
    /// @notice Digest over the bids so far and their count. The digest of an order without a bid is its seed.
    function bidsDigest(uint64 orderId) external view returns (bytes32 digest, uint16 count);
    /// @notice What is stored of an order: its word, its terms' hash and its digest word (see {Resources}), zero before the
    /// first bid.
    function orderRecord(uint64 orderId) external view returns (uint256 word, bytes32 termsHash, uint256 digestWord);
    /// @notice `keccak256(abi.encode(digestWord, closeBlock))` of the round before an order was requeued, zero if it was not:
    /// what its first answer can be disputed with.
    function earlierRound(uint64 orderId) external view returns (bytes32);
    /// @notice Capacity word of a supplier with any due decrease applied, the pending word and its block (zero if none).
    function capacityOf(uint32 supplier)
        external
        view
        returns (uint256 capacity, uint256 pending, uint32 effectiveBlock);
    /// @notice The one supplier that the address owns; zero if none.
    function supplierOf(address owner) external view returns (uint32 supplier);
    /// @notice Whose the supplier is, and who is paid for its leases. Never changes; zero if there is no such supplier.
    function supplierOwner(uint32 supplier) external view returns (address);
    /// @notice Whether a supplier has a live lease.
    function hasLease(uint32 supplier) external view returns (bool);
    /// @notice Net amounts that `settle` would credit now to the supplier's owner and to its gateway's.
    function claimable(uint64 orderId) external view returns (uint256 amount, uint256 gatewayAmount);
    /// @notice Whether what {MarketPaused} names is stopped.
    function paused() external view returns (bool);
    /// @notice Bitmap of the GPU ids (bit n: id n) that count four times against a bracket.
    function topGpus() external view returns (uint256 ids);
    /// @notice Whether the supplier is of the rebated class, and its gateway (zero for a provider).
    function supplierTerms(uint32 supplier) external view returns (bool rebated, uint32 gateway);
    /// @notice The code behind {ILeases}.
    function leases() external view returns (address);
    /// @notice What a signer's next signature must name.
    function nonces(address signer) external view returns (uint256);
}
