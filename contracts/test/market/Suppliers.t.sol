// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {Escrow} from "../../src/market/Escrow.sol";
import {IEscrow} from "../../src/market/IEscrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderBook} from "../../src/market/OrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {OrderState, OrderTerms} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Suppliers, their capacity, and what governance may change in the order book.
contract SuppliersTest is MarketTest {
    uint256 private constant DELAY = uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW + 1;

    address private _owner;
    uint32 private _provider;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider", _withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4));
    }

    // ---------------------------------------------------------------- capacity

    function test_setCapacity_growsAtOnce() public {
        uint256 grown = _withGpus(_withGpus(_capacity(1_500, 2_000, 300), 0, 7, 6), 1, 9, 2);
        vm.expectEmit(address(book));
        emit IOrderBook.CapacityChanged(_provider, grown, 0, 0);
        _setCapacity(grown);
        _assertCapacity(grown, 0, 0);
    }

    function test_setCapacity_ignoresTheFreeParts() public {
        uint256 wish = _withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4);
        uint256 free = (uint256(0xfffff) << 44) | (uint256(0xfff) << 124);
        _setCapacity(wish & ~free);
        _assertCapacity(wish, 0, 0);
        _setCapacity(wish | (uint256(0xfffff) << 84));
        _assertCapacity(wish, 0, 0);
    }

    function test_setCapacity_shrinksAfterTheWindows() public {
        uint256 before = _withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4);
        uint256 wish = _withGpus(_capacity(400, 2_500, 300), 0, 7, 1);
        uint256 mixed = _withGpus(_capacity(1_000, 2_500, 300), 0, 7, 4);
        uint32 effective = uint32(block.number + DELAY);
        vm.expectEmit(address(book));
        emit IOrderBook.CapacityChanged(_provider, mixed, _totals(wish), effective);
        _setCapacity(wish);
        assertNotEq(before, mixed, "memory grew at once");
        _assertCapacity(mixed, _totals(wish), effective);
        vm.roll(effective - 1);
        _assertCapacity(mixed, _totals(wish), effective);
        vm.roll(effective);
        _assertCapacity(wish, 0, 0);
    }

    function test_setCapacity_switchesOffAfterTheWindows() public {
        uint64 orderId = _createOrder();
        _bid(_owner, orderId, 90e18);
        uint256 off = _withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4) & ~uint256(1 << 252);
        _setCapacity(off);
        // What was bid on can still be won: no free option to walk away.
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + RESPONSE_WINDOW + MATCH_WINDOW);
        _openLeases(closeBlock, _matches(orderId, _terms(), _rank(_provider, 90e18)));
        assertState(orderId, OrderState.Leased);

        vm.roll(block.number + DELAY);
        uint64 later = _createOrder();
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.SupplierInactive.selector, _provider));
        vm.prank(_owner);
        book.placeBid(later, 0, 90e18);
        closeBlock = book.order(later).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(later, _terms(), _rank(_provider, 90e18)));
        assertTrue(book.order(later).requeued, "not matched any more");
    }

    /// @dev A decrease known when a bid is placed counts in it, although it comes into force later: its answer may come later still.
    function test_placeBid_promisesNoMoreThanWillBeThere() public {
        // Less CPU, no GPUs of the old model, more memory.
        uint256 wish = _withGpus(_capacity(400, 2_500, 300), 0, 9, 8);
        _setCapacity(wish);
        (uint256 now_,,) = book.capacityOf(_provider);
        assertEq(now_, _withGpus(_capacity(1_000, 2_500, 300), 0, 7, 4), "still all there");
        assertEq(_capacityInBid(), _capacity(400, 2_500, 300), "the bid shows what will be left");

        // In force, it is all there.
        uint256 before = vm.snapshotState();
        vm.roll(block.number + DELAY);
        assertEq(_capacityInBid(), wish, "the new model");
        vm.revertToState(before);

        // A GPU entry of the same model is there with the smaller count.
        _setCapacity(_withGpus(_capacity(1_000, 2_500, 300), 0, 7, 1));
        assertEq(_capacityInBid(), _withGpus(_capacity(1_000, 2_500, 300), 0, 7, 1), "one GPU left");
    }

    function test_placeBid_refusesWhoIsSwitchingOff() public {
        _setCapacity(_withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4) & ~uint256(1 << 252));
        uint64 orderId = _createOrder();
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.SupplierInactive.selector, _provider));
        vm.prank(_owner);
        book.placeBid(orderId, 0, 90e18);
    }

    function _capacityInBid() private returns (uint256 capacity) {
        uint64 orderId = _createOrder();
        vm.recordLogs();
        _bid(_owner, orderId, 90e18);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        (,, capacity) = abi.decode(logs[logs.length - 1].data, (uint256, uint256, uint256));
    }

    /// @dev Leases keep what they use; a total shrinks no further and follows as they end.
    function test_setCapacity_waitsForLeases() public {
        OrderTerms memory terms = _terms();
        terms.resources = _resources(600, 64, 4, 3, 1 << 7);
        uint64 orderId = _lease(_owner, _provider, 90e18, terms);
        // Another GPU model, less CPU than is used.
        uint256 wish = _withGpus(_capacity(200, 2_000, 300), 0, 9, 8);
        _setCapacity(wish);
        vm.roll(block.number + DELAY);
        (uint256 capacity, uint256 pending,) = book.capacityOf(_provider);
        assertEq((capacity >> 104) & 0xfffff, 600, "CPU total stays at what is used");
        assertEq((capacity >> 84) & 0xfffff, 0, "no CPU free");
        assertEq((capacity >> 124) & 0xffffffff, (3 << 12) | (7 << 24), "GPU entry keeps its model");
        assertEq(pending, _totals(wish), "still pending");

        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        _assertCapacity(wish, 0, 0);
    }

    function test_setCapacity_takesBackADecrease() public {
        uint256 before = _withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4);
        _setCapacity(_capacity(1, 1, 1));
        _setCapacity(before);
        _assertCapacity(before, 0, 0);
        vm.roll(block.number + 2 * DELAY);
        _assertCapacity(before, 0, 0);

        // A second decrease starts the wait anew.
        _setCapacity(_capacity(10, 10, 10));
        vm.roll(block.number + DELAY - 1);
        _setCapacity(_capacity(20, 20, 20));
        vm.roll(block.number + DELAY - 1);
        _assertCapacity(before, _totals(_capacity(20, 20, 20)), uint32(block.number + 1));
        vm.roll(block.number + 1);
        _assertCapacity(_capacity(20, 20, 20), 0, 0);
    }

    function test_setCapacity_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotSupplier.selector, address(this)));
        book.setCapacity(_capacity(1, 1, 1));
        uint256 wish = _withGpus(_capacity(1, 1, 1), 0, 160, 1);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.InvalidCapacity.selector, wish));
        _setCapacity(wish);
        wish = _capacity(1, 1, 1) | (1 << 253);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.InvalidCapacity.selector, wish));
        _setCapacity(wish);
    }

    // ----------------------------------------------------------------- registry

    function test_suspend_atOnceAndBack() public {
        uint256 before = _withGpus(_capacity(1_000, 2_000, 300), 0, 7, 4);
        vm.expectEmit(address(book));
        emit IOrderBook.SupplierSuspended(_provider, true);
        registry.suspend(_provider);
        _assertCapacity(before & ~uint256(1 << 252), 0, 0);
        // Its owner cannot switch it on again.
        _setCapacity(before);
        _assertCapacity(before & ~uint256(1 << 252), 0, 0);
        registry.reinstate(_provider);
        _assertCapacity(before, 0, 0);
    }

    function test_addSupplier_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotProviderRegistry.selector, address(this)));
        book.addSupplier(50, responder, 0);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotProviderRegistry.selector, address(this)));
        book.suspend(_provider, true);
        vm.startPrank(address(registry));
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.UnknownSupplier.selector, 0));
        book.addSupplier(0, responder, 0);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.UnknownSupplier.selector, 77));
        book.addSupplier(50, responder, 77);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotSupplier.selector, address(0)));
        book.addSupplier(50, address(0), 0);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.SupplierExists.selector, _provider));
        book.addSupplier(_provider, responder, 0);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.OwnerHasSupplier.selector, _owner, _provider));
        book.addSupplier(50, _owner, 0);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.UnknownSupplier.selector, 77));
        book.suspend(77, true);
        vm.expectEmit(address(book));
        emit IOrderBook.SupplierAdded(50, responder, _provider);
        book.addSupplier(50, responder, _provider);
        vm.stopPrank();
        assertEq(book.supplierOf(responder), 50, "supplier of the owner");
        assertEq(book.supplierOwner(50), responder, "owner of the supplier");
    }

    // --------------------------------------------------------------- governance

    function test_setBidding() public {
        vm.expectEmit(address(book));
        emit IOrderBook.BiddingChanged(5, 100, 2);
        book.setBidding(5, 100, 2);
        IOrderBook.Parameters memory parameters = book.parameters();
        assertEq(parameters.bidWindow, 5, "bid window");
        assertEq(parameters.bidLimit, 100, "bid limit");
        assertEq(parameters.paramsVersion, 2, "params version");
        assertEq(parameters.maximumBidWindow, MAXIMUM_BID_WINDOW, "maximum bid window");
        assertEq(parameters.responseWindow, RESPONSE_WINDOW, "response window");
        assertEq(parameters.matchWindow, MATCH_WINDOW, "match window");
        assertEq(parameters.challengeWindow, CHALLENGE_WINDOW, "challenge window");
        assertEq(book.collaborator(IOrderBook.Collaborator.ProviderRegistry), address(registry), "registry stays");

        _biddingRefused(0, 100, 2);
        _biddingRefused(MAXIMUM_BID_WINDOW + 1, 100, 2);
        _biddingRefused(5, 0, 2);
        _biddingRefused(5, 100, 0);
        _biddingRefused(5, 513, 2);
    }

    function test_collaborators_changeInTwoSteps() public {
        IOrderBook.Collaborator[4] memory roles = [
            IOrderBook.Collaborator.TaskManager,
            IOrderBook.Collaborator.ProviderRegistry,
            IOrderBook.Collaborator.PaymentTokens,
            IOrderBook.Collaborator.Disputes
        ];
        address[4] memory current = [taskManager, address(registry), address(tokens), disputes];
        for (uint256 index = 0; index < roles.length; ++index) {
            IOrderBook.Collaborator role = roles[index];
            address next = makeAddress(string.concat("next", vm.toString(index)));
            uint32 fromBlock =
                uint32(block.number + 2 * (uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW) + 1);
            uint64 fromTime = uint64(block.timestamp + CHALLENGE_WINDOW + 1);
            vm.expectEmit(address(book));
            emit IOrderBook.CollaboratorProposed(role, next, fromBlock, fromTime);
            book.proposeCollaborator(role, next);
            assertEq(book.collaborator(role), current[index], "not yet");

            bytes memory early = abi.encodeWithSelector(IOrderBook.ChangeTooEarly.selector, role, fromBlock, fromTime);
            vm.roll(fromBlock);
            vm.expectRevert(early);
            book.acceptCollaborator(role);
            vm.warp(fromTime);
            vm.roll(fromBlock - 1);
            vm.expectRevert(early);
            book.acceptCollaborator(role);
            vm.roll(fromBlock);
            vm.expectEmit(address(book));
            emit IOrderBook.CollaboratorChanged(role, current[index], next);
            book.acceptCollaborator(role);
            assertEq(book.collaborator(role), next, "changed");
            vm.expectRevert(abi.encodeWithSelector(IOrderBook.NothingProposed.selector, role));
            book.acceptCollaborator(role);
        }
        assertEq(book.parameters().bidLimit, BID_LIMIT, "the registry's slot keeps the limits");
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.CollaboratorIsZero.selector, IOrderBook.Collaborator.TaskManager)
        );
        book.proposeCollaborator(IOrderBook.Collaborator.TaskManager, address(0));
    }

    function test_governance_isRestricted() public {
        bytes memory unauthorized = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, user);
        vm.startPrank(user);
        vm.expectRevert(unauthorized);
        book.setBidding(1, 1, 1);
        vm.expectRevert(unauthorized);
        book.proposeCollaborator(IOrderBook.Collaborator.TaskManager, user);
        vm.expectRevert(unauthorized);
        registry.suspend(_provider);
        vm.expectRevert(unauthorized);
        registry.setVerified(_provider, 1, 0, 0);
        vm.expectRevert(unauthorized);
        registry.addGpuModel("nvidia", "a100", 80);
        vm.expectRevert(unauthorized);
        registry.addRegion("mars");
        vm.expectRevert(unauthorized);
        registry.upgradeToAndCall(address(stakes), "");
        vm.expectRevert(unauthorized);
        stakes.upgradeToAndCall(address(stakes), "");
        vm.expectRevert(unauthorized);
        tokens.upgradeToAndCall(address(stakes), "");
        vm.expectRevert(unauthorized);
        _list(address(escrow), "X", SPON_SCHEDULE);
        vm.expectRevert(unauthorized);
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        vm.expectRevert(unauthorized);
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        vm.stopPrank();
    }

    function test_constructor_refusals() public {
        IOrderBook.Parameters memory good = _parameters();
        // The escrow obeys another order book.
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongEscrow.selector, address(escrow), address(book)));
        new OrderBook(address(manager), escrow, good);

        IOrderBook.Parameters memory bad = _parameters();
        bad.responseWindow = 257;
        _constructionRefused(bad);
        bad = _parameters();
        bad.responseWindow = 0;
        _constructionRefused(bad);
        bad = _parameters();
        bad.matchWindow = 0;
        _constructionRefused(bad);
        // The close block's hash must be there until the last block of the match window.
        bad.matchWindow = 8192 - RESPONSE_WINDOW;
        _constructionRefused(bad);
        bad.matchWindow = type(uint16).max;
        _constructionRefused(bad);
        good.matchWindow = 8191 - RESPONSE_WINDOW;
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        Escrow pair = new Escrow(address(manager), next, foundation, address(0));
        assertEq(new OrderBook(address(manager), pair, good).parameters().matchWindow, good.matchWindow, "longest");
        bad = _parameters();
        bad.bidWindow = MAXIMUM_BID_WINDOW + 1;
        _constructionRefused(bad);
        bad = _parameters();
        bad.bidWindow = 0;
        _constructionRefused(bad);
        bad = _parameters();
        bad.bidLimit = 0;
        _constructionRefused(bad);
        bad = _parameters();
        bad.bidLimit = 513;
        _constructionRefused(bad);
        bad = _parameters();
        bad.paramsVersion = 0;
        _constructionRefused(bad);

        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(0)));
        new Escrow(address(manager), address(book), address(0), address(0));
    }

    // ------------------------------------------------------------------ private

    function _constructionRefused(IOrderBook.Parameters memory bad) private {
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        Escrow pair = new Escrow(address(manager), next, foundation, address(0));
        vm.expectRevert(_invalidParameters(bad));
        new OrderBook(address(manager), pair, bad);
    }

    function _biddingRefused(uint16 bidWindow, uint16 bidLimit, uint16 paramsVersion) private {
        IOrderBook.Parameters memory bad = _parameters();
        (bad.bidWindow, bad.bidLimit, bad.paramsVersion) = (bidWindow, bidLimit, paramsVersion);
        vm.expectRevert(_invalidParameters(bad));
        book.setBidding(bidWindow, bidLimit, paramsVersion);
    }

    function _invalidParameters(IOrderBook.Parameters memory bad) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            IOrderBook.InvalidParameters.selector,
            bad.bidWindow,
            bad.maximumBidWindow,
            bad.responseWindow,
            bad.matchWindow,
            bad.bidLimit,
            bad.paramsVersion
        );
    }

    function _setCapacity(uint256 capacity) private {
        vm.prank(_owner);
        book.setCapacity(capacity);
    }

    function _assertCapacity(uint256 capacity, uint256 pending, uint32 effectiveBlock) private view {
        (uint256 actual, uint256 actualPending, uint32 actualBlock) = book.capacityOf(_provider);
        assertEq(actual, capacity, "capacity");
        assertEq(actualPending, pending, "pending");
        assertEq(actualBlock, effectiveBlock, "effective block");
    }

    function _totals(uint256 capacity) private pure returns (uint256) {
        return capacity
            & ~(uint256(0x3fffff)
                | (uint256(0xfffff) << 44)
                | (uint256(0xfffff) << 84)
                | (uint256(0xfff) << 124)
                | (uint256(0xfff) << 156)
                | (uint256(0xfff) << 188)
                | (uint256(0xfff) << 220));
    }
}
