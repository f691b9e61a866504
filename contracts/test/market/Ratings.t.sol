// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IProviderRegistry} from "../../src/registry/IProviderRegistry.sol";
import {OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Stands where the registry does, owns an account, and rates again while it is told of a rating.
contract RatingRegistry {
    ILeases private immutable _leases;
    uint64 private immutable _orderId;
    bytes public refusal;

    constructor(ILeases leases, uint64 orderId) {
        (_leases, _orderId) = (leases, orderId);
    }

    function rate() external {
        _leases.rateLease(_orderId, 10);
    }

    function giveFeedback(uint32, uint8, uint8, uint256) external {
        try _leases.rateLease(_orderId, 1) {}
        catch (bytes memory reason) {
            refusal = reason;
        }
    }
}

/// @notice The owner of a closed lease that was paid in full rates it, once. What a rating weighs is the registry's to tell.
contract RatingsTest is MarketTest {
    uint96 private constant RATE = 90e18;
    uint32 private constant FIZZ = 900;

    address private _owner;
    uint32 private _provider;
    uint64 private _orderId;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _orderId = _lease(_owner, _provider, RATE);
    }

    function test_rateLease_tellsTheRegistry() public {
        _run(1_000);
        // 2.5 tokens were streamed: 20 % commission and twice 2 %.
        uint256 fees = 0.5e18 + 0.05e18 + 0.05e18;
        vm.expectEmit(address(book));
        emit ILeases.LeaseRated(_orderId, _provider, 8, fees);
        vm.expectCall(
            address(registry), abi.encodeCall(IProviderRegistry.giveFeedback, (_provider, PLAIN_TOKEN, 8, fees))
        );
        _rate(user, 8);
        assertTrue(book.order(_orderId).noted, "rated");
        assertEq(fees, escrow.creditOf(foundation, PLAIN_TOKEN), "what the lease paid to the foundation");
    }

    function test_rateLease_once() public {
        _run(1_000);
        _rate(user, 8);
        _refused(user, 8, abi.encodeWithSelector(ILeases.AlreadyRated.selector, _orderId));
        _refused(user, 1, abi.encodeWithSelector(ILeases.AlreadyRated.selector, _orderId));
        // Nor by whoever has the account now.
        address buyer = makeAddress("buyer");
        vm.prank(user);
        escrow.transferFrom(user, buyer, account);
        _refused(buyer, 1, abi.encodeWithSelector(ILeases.AlreadyRated.selector, _orderId));
    }

    function test_rateLease_from1To10() public {
        _run(1_000);
        _refused(user, 0, abi.encodeWithSelector(ILeases.InvalidRating.selector, 0, 10));
        _refused(user, 11, abi.encodeWithSelector(ILeases.InvalidRating.selector, 11, 10));
        uint256 state = vm.snapshotState();
        _rate(user, 1);
        vm.revertToState(state);
        _rate(user, 10);
    }

    function test_rateLease_byTheAccountsOwnerAlone() public {
        _run(1_000);
        address spender = makeAddress("spender");
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(type(uint112).max, type(uint40).max, true));
        address[4] memory others = [spender, _owner, foundation, address(this)];
        for (uint256 index = 0; index < others.length; ++index) {
            _refused(
                others[index],
                10,
                abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, _orderId, others[index], user)
            );
        }
    }

    /// @dev What was closed inside the hold is paid by a settlement after it.
    function test_rateLease_onlyPaidInFull() public {
        vm.warp(block.timestamp + 100);
        _close(user, _orderId, OrderState.ClosedByUser);
        bytes memory unpaid = abi.encodeWithSelector(ILeases.NotPaidInFull.selector, _orderId);
        _refused(user, 5, unpaid);
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        _refused(user, 5, unpaid);
        book.settle(_ids(_orderId));
        _rate(user, 5);
    }

    function test_rateLease_thatPaidNothing() public {
        _close(user, _orderId, OrderState.ClosedByUser);
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        book.settle(_ids(_orderId));
        _refused(user, 5, abi.encodeWithSelector(ILeases.NotPaidInFull.selector, _orderId));
        uint64 undone = _lease(_owner, _provider, RATE);
        vm.prank(disputes);
        leases.undoLease(undone, _leaseResources(_terms()));
        vm.expectRevert(abi.encodeWithSelector(ILeases.NotPaidInFull.selector, undone), address(book));
        vm.prank(user);
        leases.rateLease(undone, 5);
    }

    function test_rateLease_ofOrdersAndLiveLeases() public {
        _refused(user, 5, abi.encodeWithSelector(IOrderBook.WrongState.selector, _orderId, OrderState.Leased));
        uint64 open = _createOrder();
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, open, OrderState.Open));
        vm.prank(user);
        leases.rateLease(open, 5);
        vm.prank(user);
        book.cancelOrder(open);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, open, OrderState.Cancelled));
        vm.prank(user);
        leases.rateLease(open, 5);
    }

    /// @dev However it ended.
    function test_rateLease_forEveryReason() public {
        vm.warp(block.timestamp + 1_000);
        uint256 state = vm.snapshotState();
        for (
            uint256 reason = uint256(OrderState.ClosedByUser);
            reason <= uint256(OrderState.ClosedCannotStart);
            ++reason
        ) {
            if (OrderState(reason) == OrderState.ClosedAtEnd) vm.warp(block.timestamp + 3_600);
            _close(reason == uint256(OrderState.ClosedByUser) ? user : _owner, _orderId, OrderState(reason));
            _rate(user, 3);
            vm.revertToState(state);
        }
        vm.prank(leaseSlasher);
        leases.slashLease(_orderId, 500, _leaseResources(_terms()));
        _rate(user, 1);
        vm.revertToState(state);
        // A workload that goes on is rated by its last lease.
        vm.prank(user);
        leases.proposeUpdate(_orderId, _terms(), type(uint40).max);
        vm.prank(_owner);
        uint64 updated = leases.acceptUpdate(_orderId, _leaseResources(_terms()), _terms(), RATE);
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.WrongState.selector, _orderId, OrderState.ClosedUpdated), address(book)
        );
        vm.prank(user);
        leases.rateLease(_orderId, 10);
        vm.warp(block.timestamp + 1_000);
        vm.prank(user);
        leases.closeLease(updated, OrderState.ClosedByUser, _leaseResources(_terms()));
        vm.prank(user);
        leases.rateLease(updated, 10);
    }

    /// @dev One second at the lowest rate pays nobody a unit: it is worth no opinion.
    function test_rateLease_thatPaidNoFees() public {
        OrderTerms memory terms = _terms();
        (terms.maximumRate, terms.duration) = (1, 1);
        uint64 free = _lease(_owner, _provider, 1, terms);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        leases.closeLease(free, OrderState.ClosedAtEnd, _leaseResources(terms));
        vm.expectRevert(abi.encodeWithSelector(ILeases.NotPaidInFull.selector, free), address(book));
        vm.prank(user);
        leases.rateLease(free, 10);
    }

    /// @dev A fizz node has no score card: its gateway answers for it.
    function test_rateLease_ofAFizzNodeIsItsGateways() public {
        _addFizz("fizz", FIZZ, _provider);
        uint64 orderId = _createOrder();
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        uint256 rank = (uint256(_provider) << 118) | (uint256(FIZZ) << 86) | (uint256(RATE) << 2);
        _openLeases(closeBlock, _matches(orderId, _terms(), rank));
        vm.warp(block.timestamp + 1_000);
        _close(user, orderId, OrderState.ClosedByUser);
        uint256 fees = escrow.creditOf(foundation, PLAIN_TOKEN);
        vm.expectEmit(address(book));
        emit ILeases.LeaseRated(orderId, _provider, 7, fees);
        vm.prank(user);
        leases.rateLease(orderId, 7);
    }

    /// @dev The registry can be upgraded: whatever it does when it is told, a lease is rated once.
    function test_rateLease_reentered() public {
        _run(1_000);
        RatingRegistry hostile = new RatingRegistry(leases, _orderId);
        vm.prank(user);
        escrow.transferFrom(user, address(hostile), account);
        book.proposeCollaborator(IOrderBook.Collaborator.ProviderRegistry, address(hostile));
        vm.roll(block.number + 2 * (MAXIMUM_BID_WINDOW + RESPONSE_WINDOW + MATCH_WINDOW) + 1);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        book.acceptCollaborator(IOrderBook.Collaborator.ProviderRegistry);
        hostile.rate();
        assertEq(hostile.refusal(), abi.encodeWithSelector(ILeases.AlreadyRated.selector, _orderId), "refused");
        assertTrue(book.order(_orderId).noted, "rated once");
    }

    // ----------------------------------------------------------------- private

    function _run(uint256 time) private {
        vm.warp(block.timestamp + time);
        _close(user, _orderId, OrderState.ClosedByUser);
    }

    function _rate(address caller, uint8 rating) private {
        vm.prank(caller);
        leases.rateLease(_orderId, rating);
    }

    function _refused(address caller, uint8 rating, bytes memory reason) private {
        vm.expectRevert(reason, address(book));
        _rate(caller, rating);
    }
}
