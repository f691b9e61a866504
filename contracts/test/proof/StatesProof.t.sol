// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderBook} from "../../src/market/OrderBook.sol";
import {OrderWord} from "../../src/market/Resources.sol";
import {Terms} from "../../src/market/Terms.sol";
import {LeaseResources, OrderState} from "../../src/Types.sol";
import {Test} from "../Test.sol";

/// @dev The order book itself, with a door for the words that a proof starts from.
contract OpenOrderBook is OrderBook {
    constructor(IEscrow escrow_, Parameters memory given) OrderBook(address(1), escrow_, given) {}

    function setOrder(uint64 orderId, uint256 word, bytes32 termsHash_) external {
        (_orders[orderId].word, _orders[orderId].termsHash) = (word, termsHash_);
    }

    function wordOf(uint64 orderId) external view returns (uint256) {
        return _orders[orderId].word;
    }

    function setCapacityWord(uint32 supplier, uint256 word) external {
        _suppliers[supplier].capacity = word;
    }

    /// @dev Everybody that governance names.
    function name(address everybody) external {
        _matching = uint160(everybody);
        (_disputes, _slasher) = (everybody, everybody);
        _bidding = (_bidding >> 160 << 160) | uint160(everybody);
    }
}

/// @dev An escrow, a registry, an owner that agree to everything: whatever the order book refuses, it refuses by itself.
contract AgreeableWorld {
    /// @dev Whoever asks is its order book.
    function orderBook() external view returns (address) {
        return msg.sender;
    }

    fallback() external {
        assembly {
            for { let at := 0 } lt(at, 0x100) { at := add(at, 0x20) } { mstore(at, 1) }
            return(0, 0x100)
        }
    }
}

/// @notice Proofs by halmos of E9 and E8 on the order book's and the leases' own code: from every order word that there can be, at
/// every time, block and by every caller, no single call takes a state back, moves settled time back or beyond, or changes
/// what a lease was made with. All 256 bits of the word are symbolic.
contract StatesProof is Test {
    using OrderWord for uint256;

    uint64 private constant ORDER = (1 << 32) | 7;
    uint256 private constant HOLD = 600;
    uint256 private constant RESOURCES = 1 | (1 << 22) | (1 << 42);
    bytes32 private constant REST = keccak256("rest");
    /// @dev What stays for good from the match on: rate, start, close block, supplier, fee schedule, requeued, GPU entry.
    uint256 private constant LEASE_FIELDS = ((1 << 84) - 1) | (uint256(type(uint32).max) << 142)
        | (uint256(type(uint32).max) << 174) | (uint256(type(uint32).max) << 206) | (uint256(511) << 238)
        | (uint256(1) << 247) | (uint256(3) << 249);

    OpenOrderBook private _book;
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
        _book.name(address(this));
    }

    function check_closeLease(Moment calldata moment, uint8 reason) external {
        vm.assume(reason <= uint8(OrderState.ClosedUpdated));
        _tryClose(moment, abi.encodeCall(ILeases.closeLease, (ORDER, OrderState(reason), _resources())));
    }

    function check_extendLease(Moment calldata moment, uint32 added) external {
        _try(moment, abi.encodeCall(ILeases.extendLease, (ORDER, added)));
    }

    function check_undoLease(Moment calldata moment) external {
        _try(moment, abi.encodeCall(ILeases.undoLease, (ORDER, _resources())));
    }

    function check_slashLease(Moment calldata moment, uint32 billed) external {
        _tryClose(moment, abi.encodeCall(ILeases.slashLease, (ORDER, billed, _resources())));
    }

    function check_announceLowFunds(Moment calldata moment) external {
        _try(moment, abi.encodeCall(ILeases.announceLowFunds, (_only())));
    }

    function check_rateLease(Moment calldata moment, uint8 rating) external {
        _try(moment, abi.encodeCall(ILeases.rateLease, (ORDER, rating)));
    }

    function check_rejectUpdate(Moment calldata moment, bytes32 hash) external {
        _try(moment, abi.encodeCall(ILeases.rejectUpdate, (ORDER, hash)));
    }

    function check_cancelOrder(Moment calldata moment) external {
        _try(moment, abi.encodeCall(IOrderBook.cancelOrder, (ORDER)));
    }

    function check_expireOrders(Moment calldata moment) external {
        _try(moment, abi.encodeCall(IOrderBook.expireOrders, (_only())));
    }

    function check_settle(Moment calldata moment) external {
        _try(moment, abi.encodeCall(IOrderBook.settle, (_only())));
    }

    function check_settleAndWithdraw(Moment calldata moment, address to) external {
        _try(moment, abi.encodeCall(IOrderBook.settleAndWithdraw, (_only(), to)));
    }

    /// @notice An answer without a supplier.
    function check_answeredWithNobody(Moment calldata moment, uint32 closeBlock) external {
        uint256[] memory words = new uint256[](1);
        words[0] = uint256(ORDER) << 8;
        _try(moment, abi.encodeCall(IOrderBook.openLeases, (closeBlock, words, address(1))));
    }

    /// @notice An answer with any rank at all, for a supplier with room.
    function check_answeredWithARank(Moment calldata moment, uint32 closeBlock, uint256 rank) external {
        _book.setCapacityWord(uint32(rank >> 118), _roomy());
        uint256[] memory words = new uint256[](4);
        (words[0], words[1], words[2], words[3]) = ((uint256(ORDER) << 8) | 1, RESOURCES, uint256(REST), rank);
        _try(moment, abi.encodeCall(IOrderBook.openLeases, (closeBlock, words, address(1))));
    }

    // ---------------------------------------------------------------- private

    function _try(Moment calldata moment, bytes memory call) private {
        assert(_isSound(_after(moment, call), moment.time));
    }

    /// @dev A close bills the smaller of two times: that it is not in the future is left to E8's campaign, the solver does not
    /// decide it. All else is proved as of any call.
    function _tryClose(Moment calldata moment, bytes memory call) private {
        uint256 current = _after(moment, call);
        assert(current.settledFor() <= current.duration());
        assert(current.start() + current.settledFor() <= moment.time);
    }

    function _after(Moment calldata moment, bytes memory call) private returns (uint256 current) {
        uint256 before = moment.word;
        vm.assume(before >> 251 <= uint256(OrderState.ClosedUpdated) && _isSound(before, moment.time));
        _book.setOrder(ORDER, before, Terms.hash(RESOURCES, REST));
        vm.warp(moment.time);
        vm.roll(moment.blockNumber);
        vm.prank(moment.caller);
        (bool success,) = address(_book).call(call);
        current = _book.wordOf(ORDER);
        assert(success || current == before);
        assert(_mayFollow(before, current));
    }

    /// @dev What every stored word keeps to, assumed before a call and proved after it: nothing is settled or billed in the future,
    /// beyond the end, or inside the payout hold; what is undone is not billed.
    function _isSound(uint256 word, uint256 time) private pure returns (bool) {
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
}
