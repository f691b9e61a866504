// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice What a user asks for. Travels whole in `OrderCreated`; storage keeps only
/// `keccak256(abi.encodePacked(resources, restHash))`, so that who needs the resources alone passes 64 bytes.
/// `restHash = keccak256(abi.encodePacked(requirements, regions, manifestHash, uint256(maximumRate), uint256(duration),
/// uint256(wanted.length), wanted, uint256(excluded.length), excluded))`, every list element as a whole word.
/// @param resources Resource word, see {Resources}: how much of each resource, and the acceptable GPU ids.
/// @param requirements Requirement word, see {Resources}: mode, tiers, preference, compliance, attribute minimums, version.
/// @param regions Bitmap of acceptable region ids; all ones means any.
/// @param manifestHash Salted hash of the manifest; the salt travels with the manifest, never on chain.
/// @param maximumRate Highest acceptable rate: token units per 36 000 seconds; at most 84 bits, never zero.
/// @param duration Length of the lease in seconds; at most 29 bits, never zero.
/// @param wantedSuppliers Strictly ascending supplier ids; empty means any supplier.
/// @param excludedSuppliers Strictly ascending supplier ids that must not win.
struct OrderTerms {
    uint256 resources;
    uint256 requirements;
    uint256 regions;
    bytes32 manifestHash;
    uint96 maximumRate;
    uint32 duration;
    uint32[] wantedSuppliers;
    uint32[] excludedSuppliers;
}

/// @notice The part of the terms that capacity needs, with the hash that ties it to the stored terms hash.
struct LeaseResources {
    uint256 resources;
    bytes32 restHash;
}

/// @notice Where an order stands. One way only: Open to Leased, Cancelled or Expired; Leased to any of the closed states.
/// Values are stored in five bits of the order word and never renumbered.
enum OrderState {
    None,
    Open,
    Leased,
    Cancelled,
    Expired,
    ClosedByUser,
    /// The lease reached its end; anyone may close it.
    ClosedAtEnd,
    /// The user sent no manifest in time (provider).
    ClosedNoManifest,
    /// The provider takes capacity out of service (provider).
    ClosedMaintenance,
    /// Services do not run, or restart abnormally (provider).
    ClosedAbnormalService,
    /// The workload cannot be started: image missing, architecture, crash at start (provider).
    ClosedCannotStart,
    /// Closed by the slasher in the user's favour.
    ClosedSlashed,
    /// The match was proven wrong and undone: nothing is billed.
    ClosedUndone,
    /// Replaced by an updated lease of the same workload.
    ClosedUpdated
}

/// @notice Order word, unpacked. The word's layout, from the lowest bit: rate 84, settledFor 29, duration 29, start 32,
/// closeBlock 32, supplier 32, feeSchedule 9, flags 2, gpuEntry 2, state 5.
/// @param rate Maximum rate while open, the lease's rate afterwards (token units per 36 000 seconds).
/// @param settledFor Seconds after `start` that are paid.
/// @param duration Seconds ordered; after the close, seconds billed.
/// @param start Block timestamp at which the lease began; zero while open.
/// @param closeBlock First block that takes no bid for the order.
/// @param supplier Id of the provider, or of the fizz node, that serves the lease.
/// @param feeSchedule Fee schedule frozen at creation; the match turns it into the rebated one if the supplier is of that class.
/// @param requeued Whether the order went back to Open once because no capacity was left.
/// @param noted Of a live lease: its low funds were announced; of a closed one: its owner has rated it.
/// @param gpuEntry Index of the GPU entry taken from the supplier's capacity word.
struct Order {
    uint96 rate;
    uint32 settledFor;
    uint32 duration;
    uint32 start;
    uint32 closeBlock;
    uint32 supplier;
    uint16 feeSchedule;
    bool requeued;
    bool noted;
    uint8 gpuEntry;
    OrderState state;
}

/// @notice One bid of a batch.
/// @param fizz Fizz node to run on, zero for the provider itself.
/// @param rate Token units per 36 000 seconds; at most 84 bits.
struct BidRequest {
    uint64 orderId;
    uint32 fizz;
    uint96 rate;
}

/// @notice Fees, frozen by id when an order is created; schedules are append-only. They come in pairs that differ in the
/// commission alone: an even id for everyone, the odd one after it for suppliers of the rebated class (trust tier 1).
/// @param commission Share of the streamed amount that goes to the foundation, in basis points.
/// @param userFee Facilitation fee on top of the streamed amount, in basis points.
/// @param providerFee Second fee taken from the streamed amount, in basis points.
/// @param gatewayShare Of what a fizz node's lease pays after fees, the share of its gateway, in basis points.
/// @param matchFee Token units credited to whoever responds with the match: at most 20 significant bits times a power of ten.
struct FeeSchedule {
    uint16 commission;
    uint16 userFee;
    uint16 providerFee;
    uint16 gatewayShare;
    uint96 matchFee;
}

/// @notice What an account's owner lets another address do with one token of the account. Ends by itself when the account
/// changes hands.
/// @param limit Token units that may still be locked; what comes back from a lease does not raise it.
/// @param expiry Unix time from which it is worth nothing.
/// @param mayClose Whether the spender may also cancel orders and close leases in that token.
struct SpendingRight {
    uint112 limit;
    uint40 expiry;
    bool mayClose;
}

/// @notice What a user proposes in place of a live lease.
/// @param hash keccak256(abi.encodePacked(termsHash, uint256(terms.maximumRate), uint256(terms.duration))): what the supplier
/// accepts must be it.
/// @param expiry Unix time from which it cannot be accepted.
/// @param basis What it rests on, see {IEscrow-basisOf}: it stands as long as that is the same.
/// @param by Who proposed it.
struct UpdateProposal {
    bytes32 hash;
    uint40 expiry;
    uint56 basis;
    address by;
}

/// @notice An order that somebody else brings in (EIP-712 type `OrderRequest`, which covers `OrderTerms` whole).
/// @param signer Owner of the account, or one of its spenders. A contract signs through ERC-1271.
/// @param feeSchedule The token's current one: what the order freezes is signed too.
/// @param nonce Next of the signer, see {IOrderBook-nonces}.
/// @param deadline Unix time after which it is worth nothing.
struct OrderRequest {
    address signer;
    uint32 account;
    uint8 token;
    uint16 bidWindow;
    uint16 feeSchedule;
    OrderTerms terms;
    uint256 nonce;
    uint256 deadline;
}

/// @notice A close by the user that somebody else brings in (EIP-712 type `CloseRequest`).
struct CloseRequest {
    address signer;
    uint64 orderId;
    uint256 nonce;
    uint256 deadline;
}

/// @notice All orders of one close block and chunk: what operators answer.
/// Orders of a close block are sorted by (params version, order id); a chunk holds at most `chunkSize` of them and never
/// two versions.
struct Task {
    uint32 closeBlock;
    bytes32 closeBlockHash;
    uint16 chunk;
    uint16 paramsVersion;
}

/// @notice Weights and limits of one version of the matching rule; append-only.
/// @param weights price, region, feedback, availability, slashes, trust tier, stake, randomness; they sum to 1 000 000.
/// @param stakeCap Stake (whole tokens) that already scores full.
/// @param rankLimit K: how many suppliers an answer ranks, 1 to 8.
/// @param chunkSize Orders per task.
/// @param rule Contract that runs this version on chain ({IMatchingRule}); immutable.
struct MatchingParameters {
    uint32[8] weights;
    uint48 stakeCap;
    uint8 rankLimit;
    uint16 chunkSize;
    address rule;
}
