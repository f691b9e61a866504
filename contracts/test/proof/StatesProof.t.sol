// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderBook} from "../../src/market/OrderBook.sol";
import {OrderWord, ScoreCardWord} from "../../src/market/Resources.sol";
import {Terms} from "../../src/market/Terms.sol";
import {BidRequest, CloseRequest, LeaseResources, OrderState, OrderTerms, UpdateProposal} from "../../src/Types.sol";
import {Test} from "../Test.sol";
import {TermsHash} from "../market/TermsHash.sol";

/// @dev The order book itself, with a door for the words that a proof starts from.
contract OpenOrderBook is OrderBook {
    constructor(IEscrow escrow_, Parameters memory given) OrderBook(address(1), escrow_, given) {}

    function setOrder(uint64 orderId, uint256 word, bytes32 termsHash_) external {
        (_orders[orderId].word, _orders[orderId].termsHash) = (word, termsHash_);
    }

    function wordOf(uint64 orderId) external view returns (uint256) {
        return _orders[orderId].word;
    }

    function setProposal(uint64 orderId, UpdateProposal memory proposal) external {
        _updates[orderId] = proposal;
    }

    function setCapacityWord(uint32 supplier, uint256 word) external {
        _suppliers[supplier].capacity = word;
    }

    function setNonce(address signer, uint256 nonce) external {
        _nonces[signer] = nonce;
    }

    function setBidder(address owner, uint32 supplier) external {
        _bidders[owner].word = supplier;
    }

    /// @dev Everybody that governance names.
    function name(address everybody, address registry) external {
        _matching = uint160(everybody);
        (_disputes, _slasher) = (everybody, everybody);
        _bidding = (_bidding >> 160 << 160) | uint160(registry);
    }
}

/// @dev An escrow, a registry, an owner that agree to everything: whatever the order book refuses, it refuses by itself. What is asked
/// for a number is answered 1: the accounts' owner is address 1, every update rests on basis 1, every new id has nonce 1.
contract AgreeableWorld {
    /// @dev Whoever asks is its order book.
    function orderBook() external view returns (address) {
        return msg.sender;
    }

    /// @dev Everybody has stake.
    function scoreCard(uint32) external pure returns (uint256) {
        return ScoreCardWord.ACTIVE;
    }

    /// @dev It signs everything, as contracts do.
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }

    fallback() external {
        assembly {
            for { let at := 0 } lt(at, 0x100) { at := add(at, 0x20) } { mstore(at, 1) }
            return(0, 0x100)
        }
    }
}

/// @notice The calls of both halves of the order book about an order that there is, each from every order word that there can be,
/// at every time and block of 32 bits and by every caller. All 256 bits of the word are symbolic.
/// @dev What creates an order is in `CreationProof`. What begins the word of an updated lease is not here: that its id is not given
/// out twice is left to E9's campaign.
abstract contract StatesCalls is Test {
    using OrderWord for uint256;

    /// @dev What a call does with the word: it may change it, may end the lease, or leaves it alone.
    enum Writes {
        Some,
        Closing,
        None
    }

    uint64 internal constant ORDER = (1 << 32) | 7;
    /// @dev Of the lease that replaces it: account and token are the same, the nonce is the world's.
    uint64 internal constant UPDATED = (1 << 32) | 1;
    uint256 internal constant HOLD = 600;
    uint256 private constant RESOURCES = 1 | (1 << 22) | (1 << 42);
    bytes32 private constant REST = keccak256("rest");
    uint32 private constant BIDDER = 9;

    OpenOrderBook internal _book;
    AgreeableWorld private _world;

    struct Moment {
        uint256 word;
        uint32 time;
        uint32 blockNumber;
        address caller;
    }

    function setUp() public {
        _world = new AgreeableWorld();
        _book = new OpenOrderBook(
            IEscrow(address(_world)),
            IOrderBook.Parameters({
                bidWindow: 2,
                maximumBidWindow: 20,
                responseWindow: 50,
                matchWindow: 30,
                challengeWindow: uint32(HOLD),
                graceWindow: 120,
                lowFundsWindow: 300,
                bidLimit: 512,
                paramsVersion: 1
            })
        );
        _book.name(address(this), address(_world));
    }

    function check_closeLease(Moment calldata moment, uint8 reason) external {
        vm.assume(reason <= uint8(OrderState.ClosedUpdated));
        _try(moment, abi.encodeCall(ILeases.closeLease, (ORDER, OrderState(reason), _resources())), Writes.Closing);
    }

    /// @notice Signed by who may close.
    function check_closeFor(Moment calldata moment, uint40 deadline) external {
        CloseRequest memory request = CloseRequest(address(_world), ORDER, 0, deadline);
        _try(moment, abi.encodeCall(ILeases.closeFor, (request, _resources(), "")), Writes.Closing);
    }

    function check_extendLease(Moment calldata moment, uint32 added) external {
        _try(moment, abi.encodeCall(ILeases.extendLease, (ORDER, added)), Writes.Some);
    }

    function check_undoLease(Moment calldata moment) external {
        _try(moment, abi.encodeCall(ILeases.undoLease, (ORDER, _resources())), Writes.Some);
    }

    function check_slashLease(Moment calldata moment, uint32 billed) external {
        _try(moment, abi.encodeCall(ILeases.slashLease, (ORDER, billed, _resources())), Writes.Closing);
    }

    function check_announceLowFunds(Moment calldata moment) external {
        _try(moment, abi.encodeCall(ILeases.announceLowFunds, (_only())), Writes.Some);
    }

    function check_rateLease(Moment calldata moment, uint8 rating) external {
        _try(moment, abi.encodeCall(ILeases.rateLease, (ORDER, rating)), Writes.Some);
    }

    function check_proposeUpdate(Moment calldata moment, uint40 expiry) external {
        _try(moment, abi.encodeCall(ILeases.proposeUpdate, (ORDER, _terms(1, 1), expiry)), Writes.None);
    }

    /// @notice A proposal of anything, by anybody, that stands.
    function check_rejectUpdate(Moment calldata moment, UpdateProposal calldata proposal, bytes32 hash) external {
        vm.assume(proposal.basis <= 1);
        _book.setProposal(ORDER, proposal);
        _try(moment, abi.encodeCall(ILeases.rejectUpdate, (ORDER, hash)), Writes.None);
    }

    /// @notice Terms of every length at every rate that they may have, accepted at any rate from a supplier with room.
    function check_acceptUpdate(Moment calldata moment, uint40 expiry, uint96 maximumRate, uint32 duration, uint96 rate)
        external
    {
        // As proposing has checked.
        vm.assume(maximumRate != 0 && maximumRate <= OrderWord.MAXIMUM_RATE);
        vm.assume(duration != 0 && duration <= OrderWord.MAXIMUM_DURATION);
        OrderTerms memory terms = _terms(maximumRate, duration);
        bytes32 hash = keccak256(abi.encodePacked(TermsHash.whole(terms), uint256(maximumRate), uint256(duration)));
        _book.setProposal(ORDER, UpdateProposal(hash, expiry, 1, address(_world)));
        // The old lease has its part of what there is.
        _book.setCapacityWord(moment.word.supplier(), _roomy() - (1 | (1 << 44) | (1 << 84)));
        _try(moment, abi.encodeCall(ILeases.acceptUpdate, (ORDER, _resources(), terms, rate)), Writes.Closing);
        _judgeUpdated(moment, maximumRate, duration, rate);
    }

    function check_placeBid(Moment calldata moment, uint96 rate) external {
        _book.setBidder(moment.caller, BIDDER);
        _book.setCapacityWord(BIDDER, _roomy());
        _try(moment, abi.encodeCall(IOrderBook.placeBid, (ORDER, 0, rate)), Writes.None);
    }

    function check_placeBids(Moment calldata moment, uint96 rate) external {
        _book.setBidder(moment.caller, BIDDER);
        _book.setCapacityWord(BIDDER, _roomy());
        BidRequest[] memory bids = new BidRequest[](1);
        bids[0] = BidRequest(ORDER, 0, rate);
        _try(moment, abi.encodeCall(IOrderBook.placeBids, (bids)), Writes.None);
    }

    function check_cancelOrder(Moment calldata moment) external {
        _try(moment, abi.encodeCall(IOrderBook.cancelOrder, (ORDER)), Writes.Some);
    }

    function check_expireOrders(Moment calldata moment) external {
        _try(moment, abi.encodeCall(IOrderBook.expireOrders, (_only())), Writes.Some);
    }

    function check_settle(Moment calldata moment) external {
        _try(moment, abi.encodeCall(IOrderBook.settle, (_only())), Writes.Some);
    }

    function check_settleAndWithdraw(Moment calldata moment, address to) external {
        _try(moment, abi.encodeCall(IOrderBook.settleAndWithdraw, (_only(), to)), Writes.Some);
    }

    /// @notice An answer without a supplier.
    function check_answeredWithNobody(Moment calldata moment, uint32 closeBlock) external {
        uint256[] memory words = new uint256[](1);
        words[0] = uint256(ORDER) << 8;
        _try(moment, abi.encodeCall(IOrderBook.openLeases, (closeBlock, words, address(1))), Writes.Some);
    }

    /// @notice An answer with any rank at all, for a supplier with room.
    function check_answeredWithARank(Moment calldata moment, uint32 closeBlock, uint256 rank) external {
        _book.setCapacityWord(uint32(rank >> 118), _roomy());
        uint256[] memory words = new uint256[](4);
        (words[0], words[1], words[2], words[3]) = ((uint256(ORDER) << 8) | 1, RESOURCES, uint256(REST), rank);
        _try(moment, abi.encodeCall(IOrderBook.openLeases, (closeBlock, words, address(1))), Writes.Some);
    }

    // ---------------------------------------------------------------- private

    function _try(Moment calldata moment, bytes memory call, Writes writes) private {
        uint256 before = moment.word;
        vm.assume(before >> 251 <= uint256(OrderState.ClosedUpdated) && _isSound(before, moment.time));
        _book.setOrder(ORDER, before, Terms.hash(RESOURCES, REST));
        vm.warp(moment.time);
        vm.roll(moment.blockNumber);
        vm.prank(moment.caller);
        (bool success,) = address(_book).call(call);
        _judge(moment, _book.wordOf(ORDER), success, writes);
    }

    function _judge(Moment calldata moment, uint256 current, bool success, Writes writes) internal virtual;

    /// @dev Of the lease that an accepted update began.
    function _judgeUpdated(Moment calldata moment, uint96 maximumRate, uint32 duration, uint96 rate) internal virtual;

    /// @dev What every stored word keeps to, assumed before a call and proved after it: nothing is settled or billed in the future,
    /// beyond the end, or inside the payout hold; what is undone is not billed.
    function _isSound(uint256 word, uint256 time) internal pure returns (bool) {
        OrderState state = word.state();
        uint256 settled = word.settledFor();
        if (word.start() > time || settled > word.duration() || word.start() + settled > time) return false;
        if (state < OrderState.Leased || state == OrderState.Cancelled || state == OrderState.Expired) {
            return settled == 0;
        }
        if (settled != 0 && time < word.start() + HOLD) return false;
        if (state == OrderState.ClosedUndone) return word.duration() == 0;
        return state == OrderState.Leased || word.start() + word.duration() <= time;
    }

    function _roomy() private pure returns (uint256) {
        return 0x3fffff | (uint256(0x3fffff) << 22) | (uint256(0xfffff) << 44) | (uint256(0xfffff) << 64)
            | (uint256(0xfffff) << 84) | (uint256(0xfffff) << 104) | (uint256(1) << 252);
    }

    function _resources() private pure returns (LeaseResources memory) {
        return LeaseResources(RESOURCES, REST);
    }

    function _only() private pure returns (uint64[] memory ids) {
        ids = new uint64[](1);
        ids[0] = ORDER;
    }

    /// @dev Valid terms, so that proposing them may succeed.
    function _terms(uint96 maximumRate, uint32 duration) private pure returns (OrderTerms memory terms) {
        (terms.resources, terms.regions, terms.manifestHash) = (RESOURCES, 1, REST);
        terms.requirements = (uint256(0xfe) << 8) | (uint256(1) << 88);
        (terms.maximumRate, terms.duration) = (maximumRate, duration);
    }
}

/// @notice Proofs by halmos of E9 and E8 on the order book's and the leases' own code: none of these calls takes a state back, moves
/// settled time back or beyond, or changes what a lease was made with.
contract StatesProof is StatesCalls {
    using OrderWord for uint256;

    /// @dev What stays for good from the match on: rate, start, close block, supplier, fee schedule, requeued, GPU entry.
    uint256 private constant LEASE_FIELDS = ((1 << 84) - 1) | (uint256(type(uint32).max) << 142)
        | (uint256(type(uint32).max) << 174) | (uint256(type(uint32).max) << 206) | (uint256(511) << 238)
        | (uint256(1) << 247) | (uint256(3) << 249);

    function _judge(Moment calldata moment, uint256 current, bool success, Writes writes) internal pure override {
        assert(success && writes != Writes.None || current == moment.word);
        assert(_mayFollow(moment.word, current));
        if (writes != Writes.Closing) {
            assert(_isSound(current, moment.time));
        } else {
            // A close bills the smaller of two times: that it is not in the future is left to E8's campaign, the solver does not
            // decide it. All else is proved as of any call.
            assert(current.settledFor() <= current.duration());
            assert(current.start() + current.settledFor() <= moment.time);
        }
    }

    /// @dev The old lease ends with it, and it starts as a lease does that was matched now.
    function _judgeUpdated(Moment calldata moment, uint96 maximumRate, uint32 duration, uint96 rate)
        internal
        view
        override
    {
        uint256 old = _book.wordOf(ORDER);
        uint256 word = _book.wordOf(UPDATED);
        if (word == 0) return assert(old == moment.word);
        assert(old.state() == OrderState.ClosedUpdated);
        assert(word.state() == OrderState.Leased && word.start() == moment.time && word.settledFor() == 0);
        assert(word.rate() == rate && rate != 0 && rate <= maximumRate && word.duration() == duration);
        assert(word.supplier() == moment.word.supplier() && !word.requeued() && !word.noted());
    }

    function _mayFollow(uint256 before, uint256 current) private pure returns (bool) {
        if (current == before) return true;
        (OrderState from, OrderState to) = (before.state(), current.state());
        if (from == OrderState.Open) {
            if (to == OrderState.Open) return !before.requeued() && current.requeued();
            return to == OrderState.Leased || to == OrderState.Cancelled || to == OrderState.Expired;
        }
        if (before & LEASE_FIELDS != current & LEASE_FIELDS) return false;
        bool undone = to == OrderState.ClosedUndone && current.duration() == 0;
        if (from == OrderState.Leased) {
            if (current.settledFor() < before.settledFor()) return false;
            return to == OrderState.Leased ? current.duration() >= before.duration() : to >= OrderState.ClosedByUser;
        }
        // Nothing of an order that was cancelled, expired or undone changes.
        if (from < OrderState.ClosedByUser || from == OrderState.ClosedUndone) return false;
        if (undone) return true;
        return to == from && current.duration() == before.duration() && current.settledFor() >= before.settledFor();
    }
}

/// @notice The same calls with a statement that must be false: that none of them ever does anything. `script/lib/proofs` fails if one of
/// these is proved: a proof about calls that cannot succeed says nothing.
contract StatesProbe is StatesCalls {
    function _judge(Moment calldata moment, uint256 current, bool success, Writes writes) internal pure override {
        assert(writes == Writes.None ? !success : current == moment.word);
    }

    function _judgeUpdated(Moment calldata, uint96, uint32, uint96) internal pure override {}
}
