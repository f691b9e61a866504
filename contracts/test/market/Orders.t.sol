// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {BidRequest, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "./MarketTest.sol";
import {TermsHash} from "./TermsHash.sol";

/// @notice Orders and bids: created, bid on, cancelled, expired, and everything that is refused on the way.
contract OrdersTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;

    address private _owner;
    uint32 private _provider;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
    }

    // ------------------------------------------------------------------ create

    function test_createOrder_locksTheWorstCase() public {
        OrderTerms memory terms = _terms();
        uint64 expected = (uint64(account) << 32) | (uint64(PLAIN_TOKEN) << 24) | 1;
        vm.expectEmit(address(book));
        emit IOrderBook.OrderCreated(expected, uint32(block.number) + BID_WINDOW, PLAIN_SCHEDULE, terms);
        uint64 orderId = _createOrder(terms);

        assertEq(orderId, expected, "order id");
        // 100 tokens per 10 hours, for one hour, with 2 %, and the match fee.
        uint256 lock = 10e18 + 0.2e18 + MATCH_FEE;
        assertEq(escrow.lockFor(terms.maximumRate, terms.duration, PLAIN_SCHEDULE), lock, "worst case");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - lock, lock);
        Order memory order = book.order(orderId);
        assertEq(uint256(order.state), uint256(OrderState.Open), "state");
        assertEq(order.rate, terms.maximumRate, "rate");
        assertEq(order.duration, terms.duration, "duration");
        assertEq(order.closeBlock, block.number + BID_WINDOW, "close block");
        assertEq(order.feeSchedule, PLAIN_SCHEDULE, "fee schedule");
        assertEq(book.termsHash(orderId), TermsHash.whole(terms), "terms hash");
        (bytes32 digest, uint16 count) = book.bidsDigest(orderId);
        assertEq(count, 0, "bids");
        assertEq(digest, _seed(orderId, order.closeBlock), "seed");
    }

    function test_createOrder_countsPerAccountAndToken() public {
        uint64 first = _createOrder();
        vm.prank(user);
        uint64 inSpon = book.createOrder(account, SPON_TOKEN, 0, _terms());
        uint64 second = _createOrder();
        assertEq(uint24(first), 1, "first in PLAIN");
        assertEq(uint24(inSpon), 1, "first in SPON");
        assertEq(uint24(second), 2, "second in PLAIN");
        // SPON pays no user fee.
        assertBalances(account, SPON_TOKEN, UNLOCKED - 10e18 - MATCH_FEE, 10e18 + MATCH_FEE);
    }

    function test_createOrder_takesALongerWindow() public {
        vm.prank(user);
        uint64 orderId = book.createOrder(account, PLAIN_TOKEN, MAXIMUM_BID_WINDOW, _terms());
        assertEq(book.order(orderId).closeBlock, block.number + MAXIMUM_BID_WINDOW, "close block");

        _expectBookError(
            abi.encodeWithSelector(IOrderBook.BidWindowTooLong.selector, MAXIMUM_BID_WINDOW + 1, MAXIMUM_BID_WINDOW)
        );
        vm.prank(user);
        book.createOrder(account, PLAIN_TOKEN, MAXIMUM_BID_WINDOW + 1, _terms());
    }

    function test_createOrder_withSupplierLists() public {
        OrderTerms memory terms = _terms();
        terms.wantedSuppliers = new uint32[](3);
        (terms.wantedSuppliers[0], terms.wantedSuppliers[1], terms.wantedSuppliers[2]) = (1, 7, type(uint32).max);
        terms.excludedSuppliers = new uint32[](1);
        terms.excludedSuppliers[0] = 3;
        uint64 orderId = _createOrder(terms);
        assertEq(book.termsHash(orderId), TermsHash.whole(terms), "terms hash");
    }

    function test_createOrder_refusesBadTerms() public {
        OrderTerms memory terms = _terms();
        terms.resources = _resources(0, 64, 4, 0, 0);
        _refused(terms, abi.encodeWithSelector(IOrderBook.InvalidResources.selector, terms.resources));
        terms.resources = _resources(1, 0, 4, 0, 0);
        _refused(terms, abi.encodeWithSelector(IOrderBook.InvalidResources.selector, terms.resources));
        terms.resources = _resources(1, 1, 0, 1, 0);
        _refused(terms, abi.encodeWithSelector(IOrderBook.InvalidResources.selector, terms.resources));
        terms.resources = _resources(1, 1, 0, 0, 2);
        _refused(terms, abi.encodeWithSelector(IOrderBook.InvalidResources.selector, terms.resources));

        terms = _terms();
        terms.requirements |= 2;
        _refused(terms, abi.encodeWithSelector(IOrderBook.InvalidRequirements.selector, terms.requirements));
        terms = _terms();
        terms.requirements += uint256(1) << 88;
        _refused(terms, abi.encodeWithSelector(IOrderBook.WrongParamsVersion.selector, 2, PARAMS_VERSION));
        terms = _terms();
        terms.regions = 0;
        _refused(terms, abi.encodeWithSelector(IOrderBook.NoRegionAccepted.selector));
        terms = _terms();
        terms.manifestHash = 0;
        _refused(terms, abi.encodeWithSelector(IOrderBook.ManifestHashIsZero.selector));
        terms = _terms();
        terms.maximumRate = 0;
        _refused(terms, abi.encodeWithSelector(IOrderBook.RateOutOfRange.selector, 0));
        terms.maximumRate = 1 << 84;
        _refused(terms, abi.encodeWithSelector(IOrderBook.RateOutOfRange.selector, 1 << 84));
        terms = _terms();
        terms.duration = 0;
        _refused(terms, abi.encodeWithSelector(IOrderBook.DurationOutOfRange.selector, 0));
        terms.duration = 1 << 29;
        _refused(terms, abi.encodeWithSelector(IOrderBook.DurationOutOfRange.selector, 1 << 29));
    }

    function test_createOrder_refusesBadSupplierLists() public {
        OrderTerms memory terms = _terms();
        terms.wantedSuppliers = new uint32[](1);
        _refused(terms, abi.encodeWithSelector(IOrderBook.SupplierListNotAscending.selector, 0, 0));
        terms.wantedSuppliers = new uint32[](2);
        (terms.wantedSuppliers[0], terms.wantedSuppliers[1]) = (5, 5);
        _refused(terms, abi.encodeWithSelector(IOrderBook.SupplierListNotAscending.selector, 5, 5));
        terms = _terms();
        terms.excludedSuppliers = new uint32[](2);
        (terms.excludedSuppliers[0], terms.excludedSuppliers[1]) = (5, 4);
        _refused(terms, abi.encodeWithSelector(IOrderBook.SupplierListNotAscending.selector, 5, 4));
        terms.excludedSuppliers = new uint32[](65);
        _refused(terms, abi.encodeWithSelector(IOrderBook.SupplierListTooLong.selector, 65, 64));
    }

    /// @dev The hash copies the lists as they came: dirty high bits must not slip through.
    function test_createOrder_refusesDirtyListElements() public {
        OrderTerms memory terms = _terms();
        terms.wantedSuppliers = new uint32[](1);
        terms.wantedSuppliers[0] = 0xabcdef;
        bytes memory data = abi.encodeCall(IOrderBook.createOrder, (account, PLAIN_TOKEN, 0, terms));
        transact(user, address(book), data);
        for (uint256 index = 4; index + 32 <= data.length; index += 32) {
            uint256 word;
            assembly {
                word := mload(add(add(data, 0x20), index))
            }
            if (word != 0xabcdef) continue;
            assembly {
                mstore(add(add(data, 0x20), index), or(word, shl(32, 1)))
            }
        }
        vm.prank(user);
        (bool success,) = address(book).call(data);
        assertFalse(success, "an element of more than 32 bits");
    }

    function test_createOrder_refusesStrangersAndEmptyAccounts() public {
        OrderTerms memory terms = _terms();
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, address(this), user), address(escrow)
        );
        book.createOrder(account, PLAIN_TOKEN, 0, terms);

        uint32 empty = escrow.open(user);
        uint256 lock = escrow.lockFor(terms.maximumRate, terms.duration, PLAIN_SCHEDULE);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, empty, PLAIN_TOKEN, 0, lock), address(escrow)
        );
        vm.prank(user);
        book.createOrder(empty, PLAIN_TOKEN, 0, terms);

        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenNotEnabled.selector, 9), address(escrow));
        vm.prank(user);
        book.createOrder(account, 9, 0, terms);
    }

    /// @dev E12: delisting a token blocks new orders only.
    function test_delistedToken_blocksNewOrdersOnly() public {
        uint64 open = _createOrder();
        uint64 lease = _lease(_owner, _provider, 90e18);
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenNotEnabled.selector, PLAIN_TOKEN), address(escrow));
        _createOrder();

        _expire(open);
        _deposit(account, PLAIN_TOKEN, 1e18);
        vm.warp(block.timestamp + 4_000);
        vm.prank(_owner);
        assertGt(book.settleAndWithdraw(_ids(lease), _owner), 0, "paid in a delisted token");
        vm.prank(user);
        leases.closeLease(lease, OrderState.ClosedByUser, _leaseResources(_terms()));
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 1e18, user);
    }

    // ------------------------------------------------------------------ cancel

    function test_cancelOrder_unlocks() public {
        uint64 orderId = _createOrder();
        vm.expectEmit(address(book));
        emit IOrderBook.OrderCancelled(orderId);
        vm.prank(user);
        book.cancelOrder(orderId);
        assertState(orderId, OrderState.Cancelled);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
    }

    function test_cancelOrder_refusals() public {
        uint64 orderId = _createOrder();
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, address(this), user));
        book.cancelOrder(orderId);

        uint32 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock);
        _expectBookError(abi.encodeWithSelector(IOrderBook.BidWindowOver.selector, orderId, closeBlock, closeBlock));
        vm.prank(user);
        book.cancelOrder(orderId);

        // While it waits for its answer, to the last block of the response window.
        uint256 last = uint256(closeBlock) + RESPONSE_WINDOW;
        vm.roll(last);
        _expectBookError(abi.encodeWithSelector(IOrderBook.BidWindowOver.selector, orderId, closeBlock, last));
        vm.prank(user);
        book.cancelOrder(orderId);

        vm.roll(closeBlock - 1);
        vm.prank(user);
        book.cancelOrder(orderId);
        _expectBookError(abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, OrderState.Cancelled));
        vm.prank(user);
        book.cancelOrder(orderId);
    }

    /// @dev Nobody answered: its owner need not wait until the rule was run for it, or nobody did.
    function test_cancelOrder_afterTheResponseWindow() public {
        uint64 orderId = _createOrder();
        _bid(_owner, orderId, 90e18);
        vm.roll(uint256(book.order(orderId).closeBlock) + RESPONSE_WINDOW + 1);
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, address(this), user));
        book.cancelOrder(orderId);
        vm.prank(user);
        book.cancelOrder(orderId);
        assertState(orderId, OrderState.Cancelled);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
    }

    /// @dev Who buys the account owns its orders.
    function test_accountTransfer_handsOrdersOver() public {
        uint64 orderId = _createOrder();
        address buyer = makeAddress("buyer");
        vm.prank(user);
        escrow.transferFrom(user, buyer, account);
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, user, buyer));
        vm.prank(user);
        book.cancelOrder(orderId);
        vm.prank(buyer);
        book.cancelOrder(orderId);
        vm.prank(buyer);
        escrow.withdraw(account, PLAIN_TOKEN, UNLOCKED, buyer);
        assertEq(plain.balanceOf(buyer), UNLOCKED, "the buyer has the money");
    }

    // ------------------------------------------------------------------ expire

    function test_expireOrders_atOnceWithoutABid() public {
        uint64 orderId = _createOrder();
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock - 1);
        _expectBookError(
            abi.encodeWithSelector(IOrderBook.NotYetExpirable.selector, orderId, closeBlock, closeBlock - 1)
        );
        book.expireOrders(_ids(orderId));

        vm.roll(closeBlock);
        vm.expectEmit(address(book));
        emit IOrderBook.OrderExpired(orderId);
        book.expireOrders(_ids(orderId));
        assertState(orderId, OrderState.Expired);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
    }

    function test_expireOrders_afterResponseAndMatchWindowsWithABid() public {
        uint64 orderId = _createOrder();
        _bid(_owner, orderId, 90e18);
        uint256 last = uint256(book.order(orderId).closeBlock) + RESPONSE_WINDOW + MATCH_WINDOW;
        vm.roll(last);
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotYetExpirable.selector, orderId, last + 1, last));
        book.expireOrders(_ids(orderId));
        vm.roll(last + 1);
        book.expireOrders(_ids(orderId));
        assertState(orderId, OrderState.Expired);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
    }

    function test_expireOrders_passesOverWhatIsDone() public {
        uint64 cancelled = _createOrder();
        uint64 open = _createOrder();
        vm.prank(user);
        book.cancelOrder(cancelled);
        vm.roll(block.number + BID_WINDOW);
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (cancelled, open);
        book.expireOrders(both);
        assertState(cancelled, OrderState.Cancelled);
        assertState(open, OrderState.Expired);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);

        _expectBookError(abi.encodeWithSelector(IOrderBook.WrongState.selector, 77, OrderState.None));
        book.expireOrders(_ids(77));
    }

    // -------------------------------------------------------------------- bids

    function test_placeBid_foldsIntoTheDigest() public {
        uint64 orderId = _createOrder();
        (uint256 capacity,,) = book.capacityOf(_provider);
        uint256 scoreCard = registry.scoreCard(_provider);
        uint256 offer = block.number | (90e18 << 32) | (uint256(_provider) << 148);
        vm.expectEmit(address(book));
        emit IOrderBook.BidPlaced(orderId, _provider, offer, scoreCard, capacity);
        _bid(_owner, orderId, 90e18);

        bytes32 expected = _fold(_seed(orderId, book.order(orderId).closeBlock), offer, scoreCard, capacity);
        (bytes32 digest, uint16 count) = book.bidsDigest(orderId);
        assertEq(digest, expected, "digest");
        assertEq(count, 1, "bids");

        // The same provider again, a block later: folded like any other.
        vm.roll(block.number + 1);
        _bid(_owner, orderId, 80e18);
        expected = _fold(expected, block.number | (80e18 << 32) | (uint256(_provider) << 148), scoreCard, capacity);
        (digest, count) = book.bidsDigest(orderId);
        assertEq(digest, expected, "digest of two");
        assertEq(count, 2, "two bids");
    }

    function test_placeBid_refusals() public {
        uint64 orderId = _createOrder();
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotSupplier.selector, address(this)));
        book.placeBid(orderId, 0, 90e18);

        _bidRefused(orderId, 0, 0, abi.encodeWithSelector(IOrderBook.RateIsZero.selector, orderId));
        _bidRefused(
            orderId,
            0,
            100e18 + 1,
            abi.encodeWithSelector(IOrderBook.RateAboveMaximum.selector, orderId, 100e18 + 1, 100e18)
        );
        _bidRefused(
            orderId,
            0,
            1 << 84,
            abi.encodeWithSelector(IOrderBook.RateAboveMaximum.selector, orderId, 1 << 84, (1 << 84) - 1)
        );
        _bidRefused(77, 0, 1, abi.encodeWithSelector(IOrderBook.WrongState.selector, 77, OrderState.None));
        _bidRefused(orderId, 9, 1, abi.encodeWithSelector(IOrderBook.NotBehindGateway.selector, 9, _provider));

        // The close block is the first that takes no bid.
        uint32 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock);
        _bidRefused(
            orderId, 0, 1, abi.encodeWithSelector(IOrderBook.BidWindowOver.selector, orderId, closeBlock, closeBlock)
        );
        vm.roll(closeBlock - 1);
        _bid(_owner, orderId, 1);
    }

    function test_placeBid_needsAnActiveSupplier() public {
        uint64 orderId = _createOrder();
        bytes memory inactive = abi.encodeWithSelector(IOrderBook.SupplierInactive.selector, _provider);

        registry.suspend(_provider);
        _bidRefused(orderId, 0, 1, inactive);
        registry.reinstate(_provider);
        _bid(_owner, orderId, 1);

        vm.roll(block.number + 1);
        vm.prank(_owner);
        stakes.startThaw(_provider, MINIMUM_STAKE);
        _bidRefused(orderId, 0, 1, inactive);

        // Registered and staked, but without capacity.
        address other = makeAddress("other");
        vm.prank(other);
        uint32 id = registry.register("other", "https://other.example", 1, 0, 1);
        _stake(other, id, MINIMUM_STAKE);
        _expectBookError(abi.encodeWithSelector(IOrderBook.SupplierInactive.selector, id));
        vm.prank(other);
        book.placeBid(orderId, 0, 1);
    }

    function test_placeBid_ascendsWithinABlock() public {
        uint64 first = _createOrder();
        uint64 second = _createOrder();
        _bid(_owner, second, 90e18);
        _bidRefused(second, 0, 1, abi.encodeWithSelector(IOrderBook.BidsNotAscending.selector, second, 0, second, 0));
        _bidRefused(first, 0, 1, abi.encodeWithSelector(IOrderBook.BidsNotAscending.selector, second, 0, first, 0));
        vm.roll(block.number + 1);
        _bid(_owner, first, 90e18);
        _bid(_owner, second, 90e18);
    }

    function test_placeBid_stopsAtTheLimit() public {
        book.setBidding(BID_WINDOW, 2, PARAMS_VERSION);
        uint64 orderId = _createOrder();
        uint64 next = _createOrder();
        (address second,) = _addProvider("second");
        (address third,) = _addProvider("third");
        _bid(_owner, orderId, 90e18);
        _bid(second, orderId, 90e18);
        _expectBookError(abi.encodeWithSelector(IOrderBook.BidLimitReached.selector, orderId, 2));
        vm.prank(third);
        book.placeBid(orderId, 0, 1);

        // In a batch the full order is passed over.
        BidRequest[] memory bids = new BidRequest[](2);
        (bids[0], bids[1]) = (BidRequest(orderId, 0, 1), BidRequest(next, 0, 1));
        vm.prank(third);
        book.placeBids(bids);
        assertBids(orderId, 2);
        assertBids(next, 1);
    }

    function test_placeBids_skipsWhatTakesNone() public {
        uint64 cancelled = _createOrder();
        uint64 open = _createOrder();
        vm.prank(user);
        book.cancelOrder(cancelled);
        BidRequest[] memory bids = new BidRequest[](3);
        (bids[0], bids[1], bids[2]) = (BidRequest(5, 0, 1), BidRequest(cancelled, 0, 1), BidRequest(open, 0, 90e18));
        vm.prank(_owner);
        book.placeBids(bids);
        assertBids(open, 1);

        // A batch gives the same digest as single bids.
        uint64 alone = _createOrder();
        vm.roll(block.number + 1);
        bids = new BidRequest[](1);
        bids[0] = BidRequest(alone, 0, 90e18);
        uint256 state = vm.snapshotState();
        vm.prank(_owner);
        book.placeBids(bids);
        (bytes32 batched,) = book.bidsDigest(alone);
        assertTrue(vm.revertToState(state), "state reverted");
        _bid(_owner, alone, 90e18);
        (bytes32 single,) = book.bidsDigest(alone);
        assertEq(batched, single, "digest of a batch");
    }

    function test_placeBids_refusals() public {
        BidRequest[] memory bids = new BidRequest[](0);
        _expectBookError(abi.encodeWithSelector(IOrderBook.EmptyBatch.selector));
        vm.prank(_owner);
        book.placeBids(bids);

        uint64 orderId = _createOrder();
        bids = new BidRequest[](2);
        (bids[0], bids[1]) = (BidRequest(orderId, 0, 1), BidRequest(orderId, 0, 1));
        _expectBookError(abi.encodeWithSelector(IOrderBook.BidsNotAscending.selector, orderId, 0, orderId, 0));
        vm.prank(_owner);
        book.placeBids(bids);
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotSupplier.selector, address(this)));
        book.placeBids(bids);
        bids[1] = BidRequest(orderId + 1, 0, 0);
        _expectBookError(abi.encodeWithSelector(IOrderBook.RateIsZero.selector, orderId + 1));
        vm.prank(_owner);
        book.placeBids(bids);
        assertBids(orderId, 0);
    }

    /// @dev A fizz node bids through its gateway, with its own capacity and the gateway's score card.
    function test_placeBid_forAFizzNode() public {
        address fizzOwner = makeAddress("fizz");
        uint32 fizz = 900;
        vm.prank(address(registry));
        book.addSupplier(fizz, fizzOwner, _provider);
        vm.prank(fizzOwner);
        book.setCapacity(_capacity(400, 256, 16));
        uint64 orderId = _createOrder();
        vm.recordLogs();
        vm.prank(_owner);
        book.placeBid(orderId, fizz, 90e18);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        (uint256 offer, uint256 scoreCard, uint256 capacity) =
            abi.decode(logs[logs.length - 1].data, (uint256, uint256, uint256));
        assertEq(uint32(offer >> 116), fizz, "fizz");
        assertEq(uint32(offer >> 148), _provider, "provider");
        assertEq(scoreCard, registry.scoreCard(_provider), "score card of the gateway");
        assertEq(capacity, _capacity(400, 256, 16), "capacity of the node");

        (address stranger, uint32 strangerId) = _addProvider("stranger");
        _expectBookError(abi.encodeWithSelector(IOrderBook.NotBehindGateway.selector, fizz, strangerId));
        vm.prank(stranger);
        book.placeBid(orderId, fizz, 90e18);
    }

    // ----------------------------------------------------------------- private

    function assertBids(uint64 orderId, uint16 expected) private view {
        (, uint16 count) = book.bidsDigest(orderId);
        assertEq(count, expected, "bids");
    }

    function _expire(uint64 orderId) private {
        if (block.number < book.order(orderId).closeBlock) vm.roll(book.order(orderId).closeBlock);
        book.expireOrders(_ids(orderId));
        assertState(orderId, OrderState.Expired);
    }

    function _seed(uint64 orderId, uint256 closeBlock) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint256(orderId), closeBlock)) & ~bytes32(uint256(0xffff));
    }

    function _fold(bytes32 digest, uint256 offer, uint256 scoreCard, uint256 capacity) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(digest, offer, scoreCard, capacity)) & ~bytes32(uint256(0xffff));
    }

    function _refused(OrderTerms memory terms, bytes memory reason) private {
        _expectBookError(reason);
        _createOrder(terms);
    }

    function _bidRefused(uint64 orderId, uint32 fizz, uint96 rate, bytes memory reason) private {
        _expectBookError(reason);
        vm.prank(_owner);
        book.placeBid(orderId, fizz, rate);
    }
}
