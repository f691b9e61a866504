// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice A lease on a fizz node pays the node and its gateway; a supplier of the rebated class keeps more. Both are fixed by
/// the match.
contract PayeesTest is MarketTest {
    uint96 private constant RATE = 90e18;
    uint32 private constant FIZZ = 900;

    address private _gatewayOwner;
    uint32 private _gateway;
    address private _fizzOwner;
    uint64 private _orderId;
    uint256 private _start;

    function setUp() public override {
        super.setUp();
        (_gatewayOwner, _gateway) = _addProvider("gateway");
        _fizzOwner = _addFizz("fizz", FIZZ, _gateway);
        _orderId = _leaseOn(FIZZ);
        _start = block.timestamp;
    }

    // --------------------------------------------------------------- two payees

    function test_settle_paysBoth() public {
        vm.warp(_start + 1_000);
        (uint256 amount, uint256 gatewayAmount) = book.claimable(_orderId);
        uint256 net = _net(1_000);
        assertEq(gatewayAmount, net / 10, "a tenth is the gateway's");
        assertEq(amount, net - net / 10, "the rest is the node's");
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseSettled(_orderId, FIZZ, 1_000, amount);
        vm.expectEmit(address(book));
        emit IOrderBook.GatewayCredited(_orderId, _gateway, gatewayAmount);
        book.settle(_ids(_orderId));
        assertEq(escrow.creditOf(_fizzOwner, PLAIN_TOKEN), amount, "node");
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), gatewayAmount, "gateway");
    }

    /// @dev The node's withdrawal sends what is its own and credits the gateway, whose next withdrawal finds it.
    function test_settleAndWithdraw_ofBoth() public {
        uint64 own = _leaseOn(_gateway);
        vm.warp(_start + 1_000);
        uint256 net = _net(1_000);
        vm.prank(_fizzOwner);
        assertEq(book.settleAndWithdraw(_ids(_orderId), _fizzOwner), net - net / 10, "node");
        assertEq(plain.balanceOf(_fizzOwner), net - net / 10, "sent");
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), net / 10, "gateway's credit");
        vm.prank(_gatewayOwner);
        assertEq(book.settleAndWithdraw(_ids(own), _gatewayOwner), net + net / 10, "its own lease, and its share");
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), 0, "nothing left");
    }

    function test_settleAndWithdraw_ofSeveralNodesLeases() public {
        uint64 second = _leaseOn(FIZZ);
        vm.warp(_start + 1_000);
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (_orderId, second);
        uint256 net = _net(1_000);
        vm.prank(_fizzOwner);
        assertEq(book.settleAndWithdraw(both, _fizzOwner), 2 * (net - net / 10), "node");
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), 2 * (net / 10), "gateway");
    }

    function test_gateway_hasNoSayInTheNodesLease() public {
        vm.warp(_start + 1_000);
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.NotSupplierOwner.selector, _orderId, FIZZ, _gatewayOwner), address(book)
        );
        vm.prank(_gatewayOwner);
        book.settleAndWithdraw(_ids(_orderId), _gatewayOwner);
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.NotSupplierOwner.selector, _orderId, FIZZ, _gatewayOwner), address(book)
        );
        _close(_gatewayOwner, _orderId, OrderState.ClosedMaintenance);
    }

    function test_closeLease_paysBoth() public {
        vm.warp(_start + 700);
        book.settle(_ids(_orderId));
        vm.warp(_start + 1_111);
        _close(user, _orderId, OrderState.ClosedByUser);
        uint256 net = _net(1_111);
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), net / 10, "gateway");
        assertEq(escrow.creditOf(_fizzOwner, PLAIN_TOKEN), net - net / 10, "node");
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "nothing stays locked");
    }

    function test_closeLease_insideTheHold_paysBothAfterIt() public {
        vm.warp(_start + 100);
        _close(user, _orderId, OrderState.ClosedByUser);
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), 0, "held");
        vm.warp(_start + CHALLENGE_WINDOW);
        vm.prank(_fizzOwner);
        book.settleAndWithdraw(_ids(_orderId), _fizzOwner);
        uint256 net = _net(100);
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), net / 10, "gateway");
        assertEq(plain.balanceOf(_fizzOwner), net - net / 10, "node");
    }

    function test_providersLeases_creditNoGateway() public {
        uint64 orderId = _leaseOn(_gateway);
        vm.warp(_start + 1_000);
        (uint256 amount, uint256 gatewayAmount) = book.claimable(orderId);
        assertEq(amount, _net(1_000), "all of it");
        assertEq(gatewayAmount, 0, "no share");
        vm.recordLogs();
        book.settle(_ids(orderId));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1, "settled, and nothing else");
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), _net(1_000), "credited");
    }

    /// @dev E5: however often it is settled, each gets what one settlement would have paid.
    function testFuzz_twoPayees_anyPath(uint96 rate, uint256[5] memory stops) public {
        OrderTerms memory terms = _terms();
        terms.maximumRate = rate = uint96(bound(rate, 1, 1e24));
        _deposit(account, PLAIN_TOKEN, 1e24);
        uint64 orderId = _leaseOn(FIZZ, rate, terms);
        uint256 start = block.timestamp;
        for (uint256 index = 0; index < stops.length; ++index) {
            vm.warp(bound(stops[index], block.timestamp, start + 3_600));
            book.settle(_ids(orderId));
        }
        vm.warp(start + 3_600 + GRACE_WINDOW);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(terms));
        uint256 gross = uint256(rate) * 3_600 / 36_000;
        uint256 net = gross - gross * 2_200 / 10_000;
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), net * GATEWAY_SHARE / 10_000, "gateway");
        assertEq(escrow.creditOf(_fizzOwner, PLAIN_TOKEN), net - net * GATEWAY_SHARE / 10_000, "node");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), gross - net + gross * 200 / 10_000, "foundation");
    }

    // ------------------------------------------------------------ rebated class

    function test_rebatedClass_isFrozenByTheMatch() public {
        assertEq(book.order(_orderId).feeSchedule, PLAIN_SCHEDULE, "everyone's");
        vm.expectEmit(address(book));
        emit IOrderBook.FeeClassChanged(_gateway, true);
        registry.setVerified(_gateway, 1, type(uint16).max, 0);
        (bool rebated,) = book.supplierTerms(_gateway);
        assertTrue(rebated, "of the class");

        uint64 orderId = _leaseOn(_gateway);
        assertEq(book.order(orderId).feeSchedule, PLAIN_SCHEDULE | 1, "rebated");
        registry.setVerified(_gateway, 2, type(uint16).max, 0);
        (rebated,) = book.supplierTerms(_gateway);
        assertFalse(rebated, "not any more");
        vm.warp(_start + 1_000);
        _close(user, orderId, OrderState.ClosedByUser);
        // 15 % instead of 20.
        uint256 gross = uint256(RATE) * 1_000 / 36_000;
        assertEq(escrow.creditOf(_gatewayOwner, PLAIN_TOKEN), gross - gross * 1_700 / 10_000, "as it was matched");
        assertEq(book.order(_leaseOn(_gateway)).feeSchedule, PLAIN_SCHEDULE, "the next is everyone's");
    }

    /// @dev The user pays the same to either class.
    function test_rebatedClass_locksTheSame() public {
        registry.setVerified(_gateway, 1, type(uint16).max, 0);
        (, uint256 before,) = escrow.balances(account, PLAIN_TOKEN);
        _leaseOn(_gateway);
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked - before, escrow.lockFor(RATE, 3_600, PLAIN_SCHEDULE) - MATCH_FEE, "lock");
    }

    function test_rebatedClass_outlivesChangesOfCapacity() public {
        vm.prank(address(registry));
        book.setFeeClass(_gateway, true);
        vm.startPrank(_gatewayOwner);
        book.setCapacity(_capacity(20_000, 65_536, 4_096));
        book.setCapacity(_capacity(9_000, 65_536, 4_096));
        vm.stopPrank();
        vm.roll(block.number + MAXIMUM_BID_WINDOW + RESPONSE_WINDOW + MATCH_WINDOW + 1);
        assertEq(book.order(_leaseOn(_gateway)).feeSchedule, PLAIN_SCHEDULE | 1, "rebated");
        registry.suspend(_gateway);
        registry.reinstate(_gateway);
        (bool rebated,) = book.supplierTerms(_gateway);
        assertTrue(rebated, "still");
        // Nobody sees the bit in a bid or in a view.
        (uint256 capacity,,) = book.capacityOf(_gateway);
        assertEq(capacity >> 253, 0, "inner bits");
    }

    function test_setFeeClass_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotProviderRegistry.selector, address(this)));
        book.setFeeClass(_gateway, true);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.UnknownSupplier.selector, 77));
        vm.prank(address(registry));
        book.setFeeClass(77, true);
    }

    function test_supplierTerms_nameTheGateway() public view {
        (, uint32 gateway) = book.supplierTerms(FIZZ);
        assertEq(gateway, _gateway, "of the node");
        (, gateway) = book.supplierTerms(_gateway);
        assertEq(gateway, 0, "of a provider");
    }

    // ----------------------------------------------------------------- private

    function _leaseOn(uint32 supplier) private returns (uint64) {
        return _leaseOn(supplier, RATE, _terms());
    }

    function _leaseOn(uint32 supplier, uint96 rate, OrderTerms memory terms) private returns (uint64 orderId) {
        orderId = _createOrder(terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        uint256 fizz = supplier == FIZZ ? uint256(FIZZ) << 86 : 0;
        _openLeases(closeBlock, _matches(orderId, terms, _rank(_gateway, rate) | fizz));
        Order memory order = book.order(orderId);
        assertEq(order.supplier, supplier, "who serves");
    }

    function _net(uint256 time) private pure returns (uint256) {
        uint256 gross = uint256(RATE) * time / 36_000;
        return gross - gross * 2_200 / 10_000;
    }
}
