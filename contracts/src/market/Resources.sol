// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Order, OrderState} from "../Types.sol";

// The words of the market: what is packed where. Offsets count from the lowest bit. Agents decode the same words, so a
// layout never changes once it is deployed.

/// @notice Order id: account 32 at 32 | token 8 at 24 | nonce 24 at 0. No global counter: two accounts never write one slot.
library OrderId {
    uint256 internal constant MAXIMUM_NONCE = (1 << 24) - 1;

    function pack(uint32 account_, uint8 token_, uint256 nonce) internal pure returns (uint64) {
        return (uint64(account_) << 32) | (uint64(token_) << 24) | uint64(nonce);
    }

    function account(uint64 orderId) internal pure returns (uint32) {
        return uint32(orderId >> 32);
    }

    function token(uint64 orderId) internal pure returns (uint8) {
        return uint8(orderId >> 24);
    }

    /// @notice The key of the word that holds what the account has of the token.
    function accountAndToken(uint64 orderId) internal pure returns (uint256) {
        return orderId >> 24;
    }
}

/// @notice What an order asks for, rounded up: storage 22 at 0 (256 MiB) | memory 20 at 22 (16 MiB) | cpu 20 at 42 (10
/// milli-CPU) | gpuCount 12 at 62 | zero 22 at 74 | bitmap of acceptable GPU ids 160 at 96.
library ResourceWord {
    uint256 private constant UNUSED = ((1 << 22) - 1) << 74;

    function storageAsked(uint256 word) internal pure returns (uint256) {
        return word & 0x3fffff;
    }

    function memoryAsked(uint256 word) internal pure returns (uint256) {
        return (word >> 22) & 0xfffff;
    }

    function cpuAsked(uint256 word) internal pure returns (uint256) {
        return (word >> 42) & 0xfffff;
    }

    function gpuCount(uint256 word) internal pure returns (uint256) {
        return (word >> 62) & 0xfff;
    }

    function acceptsGpu(uint256 word, uint256 id) internal pure returns (bool) {
        return (word >> (96 + id)) & 1 == 1;
    }

    /// @notice cpu and memory are asked for, GPUs are counted exactly if some are acceptable, id 0 is none.
    function isValid(uint256 word) internal pure returns (bool) {
        bool unusedIsZero = word & UNUSED == 0 && (word >> 96) & 1 == 0;
        bool gpusAreWhole = (gpuCount(word) == 0) == (word >> 96 == 0);
        return unusedIsZero && gpusAreWhole && cpuAsked(word) != 0 && memoryAsked(word) != 0;
    }
}

/// @notice What an order requires of its supplier: mode 8 at 0 (0 provider, 1 fizz) | trust tiers 8 at 8 (bit t: tier t) |
/// preferred region 8 at 16 | preferred zone 8 at 24 | compliance 16 at 32 | eight attribute minimums 5 at 48 (levels of 4
/// bits with a zero guard bit) | params version 16 at 88.
library RequirementWord {
    uint256 private constant GUARD_BITS = 0x8421084210 << 48;

    function paramsVersion(uint256 word) internal pure returns (uint16) {
        return uint16(word >> 88);
    }

    /// @notice Known mode, at least one tier of 1 to 7, guard bits and unused bits zero.
    function isValid(uint256 word) internal pure returns (bool) {
        bool tiersAreKnown = (word >> 8) & 0xff != 0 && (word >> 8) & 1 == 0;
        return word & 0xff <= 1 && tiersAreKnown && word & GUARD_BITS == 0 && word >> 104 == 0;
    }
}

/// @notice A bid's offer: block 32 at 0 | rate 84 at 32 | fizz 32 at 116 | provider 32 at 148.
library OfferWord {
    function pack(uint256 blockNumber, uint256 rate_, uint32 fizz_, uint32 provider_) internal pure returns (uint256) {
        return blockNumber | (rate_ << 32) | (uint256(fizz_) << 116) | (uint256(provider_) << 148);
    }

    function rate(uint256 word) internal pure returns (uint256) {
        return (word >> 32) & OrderWord.MAXIMUM_RATE;
    }

    function fizz(uint256 word) internal pure returns (uint32) {
        return uint32(word >> 116);
    }

    function provider(uint256 word) internal pure returns (uint32) {
        return uint32(word >> 148);
    }
}

/// @notice A provider's score card: stake 48 at 0 (whole SPON) | slashes 16 at 48 | feedback count 32 at 64 | feedback sum
/// 40 at 96 | region 8 at 136 | zone 8 at 144 | trust tier 3 at 152 (0 none yet, 1 best) | eight attribute levels 5 at 155
/// | accepted tokens 32 at 195 | compliance 16 at 227 | active 1 at 243.
library ScoreCardWord {
    uint256 internal constant ACTIVE = 1 << 243;
    uint256 internal constant ATTRIBUTE_GUARD_BITS = 0x8421084210;
    uint256 internal constant MAXIMUM_STAKE = (1 << 48) - 1;

    function isActive(uint256 word) internal pure returns (bool) {
        return word & ACTIVE != 0;
    }

    function withActive(uint256 word, bool active) internal pure returns (uint256) {
        return active ? word | ACTIVE : word & ~ACTIVE;
    }

    function stake(uint256 word) internal pure returns (uint256) {
        return word & MAXIMUM_STAKE;
    }

    /// @dev Stake above 48 bits of whole tokens counts as the most.
    function withStake(uint256 word, uint256 wholeTokens) internal pure returns (uint256) {
        return (word & ~MAXIMUM_STAKE) | (wholeTokens < MAXIMUM_STAKE ? wholeTokens : MAXIMUM_STAKE);
    }

    /// @notice What the provider says of itself.
    function withSelfDescription(uint256 word, uint8 region, uint8 zone, uint32 tokens)
        internal
        pure
        returns (uint256)
    {
        uint256 mask = (uint256(0xffff) << 136) | (uint256(type(uint32).max) << 195);
        return (word & ~mask) | (uint256(region) << 136) | (uint256(zone) << 144) | (uint256(tokens) << 195);
    }

    function trustTier(uint256 word) internal pure returns (uint256) {
        return (word >> 152) & 7;
    }

    /// @notice Sum of the weights of all ratings.
    function feedbackCount(uint256 word) internal pure returns (uint256) {
        return uint32(word >> 64);
    }

    /// @notice Sum of all ratings times their weights.
    function feedbackSum(uint256 word) internal pure returns (uint256) {
        return uint40(word >> 96);
    }

    /// @dev The caller keeps both within their bits.
    function withFeedback(uint256 word, uint256 sum, uint256 count) internal pure returns (uint256) {
        uint256 mask = ((uint256(1) << 72) - 1) << 64;
        return (word & ~mask) | (count << 64) | (sum << 96);
    }

    /// @notice What a verifier says of the provider.
    function withVerification(uint256 word, uint8 tier, uint16 compliance, uint40 attributes)
        internal
        pure
        returns (uint256)
    {
        uint256 mask = (uint256(7) << 152) | (uint256(type(uint40).max) << 155) | (uint256(type(uint16).max) << 227);
        return (word & ~mask) | (uint256(tier) << 152) | (uint256(attributes) << 155) | (uint256(compliance) << 227);
    }
}

/// @notice Bids digest of an order and how many bids it covers: digest 240 at 16 | count 16 at 0.
library DigestWord {
    uint256 private constant COUNT = type(uint16).max;

    /// @notice The digest of an order without a bid.
    function seed(uint64 orderId, uint256 closeBlock) internal pure returns (uint256 word) {
        assembly ("memory-safe") {
            mstore(0x00, orderId)
            mstore(0x20, closeBlock)
            word := and(keccak256(0x00, 0x40), not(0xffff))
        }
    }

    /// @notice keccak256(abi.encode(word, closeBlock)): all that a requeued order keeps of its first round.
    function round(uint256 word, uint256 closeBlock) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0x00, word)
            mstore(0x20, closeBlock)
            hash := keccak256(0x00, 0x40)
        }
    }

    /// @notice Folds one bid. The caller checks the count against the limit, which fits.
    /// @return folded The word with the bid.
    /// @return bid Where offer, score card and capacity now stand in memory, until memory is next allocated.
    function fold(uint256 word, uint256 offer, uint256 scoreCard, uint256 capacity)
        internal
        pure
        returns (uint256 folded, uint256 bid)
    {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            bid := add(buffer, 0x20)
            mstore(buffer, and(word, not(0xffff)))
            mstore(bid, offer)
            mstore(add(buffer, 0x40), scoreCard)
            mstore(add(buffer, 0x60), capacity)
            folded := or(and(keccak256(buffer, 0x80), not(0xffff)), add(and(word, 0xffff), 1))
        }
    }

    function count(uint256 word) internal pure returns (uint256) {
        return word & COUNT;
    }

    function digest(uint256 word) internal pure returns (bytes32) {
        return bytes32(word & ~COUNT);
    }
}

/// @notice Order word: rate 84 at 0 | settledFor 29 at 84 | duration 29 at 113 | start 32 at 142 | closeBlock 32 at 174 |
/// supplier 32 at 206 | feeSchedule 9 at 238 | flags 2 at 247 (bit 0: requeued once; bit 1: low funds announced while it
/// lives, rated once it is closed) | gpuEntry 2 at 249 | state 5 at 251.
library OrderWord {
    uint256 internal constant MAXIMUM_RATE = (1 << 84) - 1;
    uint256 internal constant MAXIMUM_DURATION = (1 << 29) - 1;

    uint256 private constant SETTLED_FOR = MAXIMUM_DURATION << 84;
    uint256 private constant DURATION = MAXIMUM_DURATION << 113;
    uint256 private constant CLOSE_BLOCK = uint256(type(uint32).max) << 174;
    uint256 private constant STATE = uint256(31) << 251;
    uint256 private constant REQUEUED = 1 << 247;
    uint256 private constant NOTED = 1 << 248;
    /// @dev Set in the id of a schedule of the rebated class, see {FeeSchedule}.
    uint256 internal constant REBATED_SCHEDULE = 1;
    // What a match writes: rate, start, supplier, GPU entry, state. Besides it may set a bit of the schedule.
    uint256 private constant KEPT_BY_LEASE =
        ~(MAXIMUM_RATE | (uint256(type(uint32).max) << 142) | (uint256(type(uint32).max) << 206) | (uint256(3) << 249)
            | STATE);

    function open(uint256 rate_, uint256 duration_, uint256 closeBlock_, uint256 feeSchedule_)
        internal
        pure
        returns (uint256)
    {
        return rate_ | (duration_ << 113) | (closeBlock_ << 174) | (feeSchedule_ << 238)
            | (uint256(OrderState.Open) << 251);
    }

    /// @param class {REBATED_SCHEDULE} if the supplier is of the rebated class, else zero.
    function leased(uint256 word, uint256 rate_, uint256 start_, uint256 supplier_, uint256 gpuEntry_, uint256 class)
        internal
        pure
        returns (uint256)
    {
        return (word & KEPT_BY_LEASE) | rate_ | (start_ << 142) | (supplier_ << 206) | (class << 238)
            | (gpuEntry_ << 249) | (uint256(OrderState.Leased) << 251);
    }

    function requeue(uint256 word, uint256 closeBlock_) internal pure returns (uint256) {
        return (word & ~CLOSE_BLOCK) | (closeBlock_ << 174) | REQUEUED;
    }

    function withState(uint256 word, OrderState state_) internal pure returns (uint256) {
        return (word & ~STATE) | (uint256(state_) << 251);
    }

    function withSettledFor(uint256 word, uint256 settledFor_) internal pure returns (uint256) {
        return (word & ~SETTLED_FOR) | (settledFor_ << 84);
    }

    function withNoted(uint256 word, bool noted_) internal pure returns (uint256) {
        return noted_ ? word | NOTED : word & ~NOTED;
    }

    function withDuration(uint256 word, uint256 duration_) internal pure returns (uint256) {
        return (word & ~DURATION) | (duration_ << 113);
    }

    function rate(uint256 word) internal pure returns (uint256) {
        return word & MAXIMUM_RATE;
    }

    function settledFor(uint256 word) internal pure returns (uint256) {
        return (word >> 84) & MAXIMUM_DURATION;
    }

    function duration(uint256 word) internal pure returns (uint256) {
        return (word >> 113) & MAXIMUM_DURATION;
    }

    function start(uint256 word) internal pure returns (uint256) {
        return uint32(word >> 142);
    }

    function closeBlock(uint256 word) internal pure returns (uint256) {
        return uint32(word >> 174);
    }

    function supplier(uint256 word) internal pure returns (uint32) {
        return uint32(word >> 206);
    }

    function feeSchedule(uint256 word) internal pure returns (uint256) {
        return (word >> 238) & 511;
    }

    function requeued(uint256 word) internal pure returns (bool) {
        return word & REQUEUED != 0;
    }

    function noted(uint256 word) internal pure returns (bool) {
        return word & NOTED != 0;
    }

    function gpuEntry(uint256 word) internal pure returns (uint256) {
        return (word >> 249) & 3;
    }

    /// @dev Only states of the enum are ever written, so the conversion needs no check.
    function state(uint256 word) internal pure returns (OrderState result) {
        assembly ("memory-safe") {
            result := shr(251, word)
        }
    }

    function unpack(uint256 word) internal pure returns (Order memory) {
        return Order({
            rate: uint96(rate(word)),
            settledFor: uint32(settledFor(word)),
            duration: uint32(duration(word)),
            start: uint32(start(word)),
            closeBlock: uint32(closeBlock(word)),
            supplier: supplier(word),
            feeSchedule: uint16(feeSchedule(word)),
            requeued: requeued(word),
            noted: noted(word),
            gpuEntry: uint8(gpuEntry(word)),
            state: state(word)
        });
    }
}

/// @notice Account-and-token word: unlocked 112 at 0 | locked 112 at 112 | nonce 24 at 224 | bracket 8 at 248, see {Brackets}.
library AccountWord {
    uint256 internal constant MAXIMUM_AMOUNT = type(uint112).max;

    function unlocked(uint256 word) internal pure returns (uint256) {
        return word & MAXIMUM_AMOUNT;
    }

    function locked(uint256 word) internal pure returns (uint256) {
        return (word >> 112) & MAXIMUM_AMOUNT;
    }

    function nonce(uint256 word) internal pure returns (uint256) {
        return (word >> 224) & OrderId.MAXIMUM_NONCE;
    }

    function bracket(uint256 word) internal pure returns (uint256) {
        return word >> 248;
    }

    function withBracket(uint256 word, uint256 bracket_) internal pure returns (uint256) {
        return (word & ((1 << 248) - 1)) | (bracket_ << 248);
    }
}

/// @notice Who is paid for a supplier's leases, and what goes with it: owner 160 at 0 | gateway 32 at 160 | block from which a
/// pending decrease of the capacity counts 32 at 192 | tokens in which a credit may wait for the owner 32 at 224.
library PayeeWord {
    function pack(address owner_, uint32 gateway_) internal pure returns (uint256) {
        return uint160(owner_) | (uint256(gateway_) << 160);
    }

    function owner(uint256 word) internal pure returns (address) {
        return address(uint160(word));
    }

    function gateway(uint256 word) internal pure returns (uint32) {
        return uint32(word >> 160);
    }

    function effectiveBlock(uint256 word) internal pure returns (uint256) {
        return uint32(word >> 192);
    }

    function withEffectiveBlock(uint256 word, uint256 block_) internal pure returns (uint256) {
        return (word & ~(uint256(type(uint32).max) << 192)) | (block_ << 192);
    }

    /// @notice The bit of the token of an order. Token ids are below 32.
    function credit(uint64 orderId) internal pure returns (uint256) {
        return 1 << (224 + uint256(OrderId.token(orderId)));
    }
}

/// @notice A ranked supplier in an answer: provider 32 at 118 | fizz 32 at 86 | rate 84 at 2 | gpuEntry 2 at 0.
library RankWord {
    uint256 internal constant WIDTH = 150;

    function rate(uint256 word) internal pure returns (uint256) {
        return (word >> 2) & OrderWord.MAXIMUM_RATE;
    }

    function gpuEntry(uint256 word) internal pure returns (uint256) {
        return word & 3;
    }

    /// @notice Who serves: the fizz node, or the provider itself.
    function supplier(uint256 word) internal pure returns (uint32) {
        uint32 fizz = uint32(word >> 86);
        return fizz != 0 ? fizz : uint32(word >> 118);
    }
}
