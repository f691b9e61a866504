// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderState} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice The dearest withdrawals of each kind, whole transactions, cold: of SPON, whose transfers look at votes, to a wallet
/// that holds none, together with an earlier credit, and with foundation and gateway credited for the first time since they
/// withdrew. The provider's agent weighs pay against gas: its tests hold what it reckons with against these numbers.
contract SettleGasTest is MarketTest {
    uint32 private constant NODE = 1_000;
    uint96 private constant RATE = 90e18;
    /// @dev What the agent puts into one transaction at most.
    uint256 private constant BATCH = 50;

    /// @param shared Served by a node whose gateway has a share.
    /// @param held Closed inside the payout hold.
    struct Shape {
        bool shared;
        bool held;
        uint256 count;
    }

    address private _gatewayOwner;
    address private _nodeOwner;
    uint32 private _gateway;

    function setUp() public override {
        super.setUp();
        uint256 capacity = _capacity(1_000_000, 1_000_000, 1_000_000);
        (_gatewayOwner, _gateway) = _addProvider("gateway", capacity);
        _nodeOwner = _addFizz("node", NODE, _gateway);
        vm.prank(_nodeOwner);
        book.setCapacity(capacity);
    }

    function test_withdrawCredit() public {
        _credit(_gateway);
        vm.prank(_gatewayOwner);
        escrow.withdrawCredit(SPON_TOKEN, _gatewayOwner);
        assertLe(vm.snapshotGasLastCall("Settle", "credit"), 65_000, "credit");
    }

    function test_live() public {
        assertLe(_measure("live", Shape(false, false, 1)), 90_000, "live");
        assertLe(_measure("live.50", Shape(false, false, BATCH)), 700_000, "50 live");
    }

    function test_closedInHold() public {
        assertLe(_measure("closedInHold", Shape(false, true, 1)), 120_000, "closed in its hold");
        assertLe(_measure("closedInHold.50", Shape(false, true, BATCH)), 1_050_000, "50 closed in their hold");
    }

    function test_shared() public {
        assertLe(_measure("shared", Shape(true, false, 1)), 120_000, "shared");
        assertLe(_measure("shared.50", Shape(true, false, BATCH)), 900_000, "50 shared");
    }

    function test_sharedAndClosedInHold() public {
        assertLe(_measure("shared.closedInHold", Shape(true, true, 1)), 150_000, "shared, closed in its hold");
        assertLe(
            _measure("shared.closedInHold.50", Shape(true, true, BATCH)), 1_250_000, "50 shared, closed in their hold"
        );
    }

    // ----------------------------------------------------------------- private

    /// @dev Nothing of it is left.
    function _measure(string memory name, Shape memory shape) private returns (uint256 gas) {
        uint256 state = vm.snapshotState();
        uint32 supplier = shape.shared ? NODE : _gateway;
        address owner = shape.shared ? _nodeOwner : _gatewayOwner;
        _credit(supplier);
        uint64[] memory ids = new uint64[](shape.count);
        for (uint256 index = 0; index < shape.count; ++index) {
            ids[index] = _leaseOfAnother(supplier);
        }
        vm.warp(block.timestamp + CHALLENGE_WINDOW / 2);
        for (uint256 index = 0; shape.held && index < shape.count; ++index) {
            _close(user, ids[index], OrderState.ClosedByUser);
        }
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        uint256 credit = escrow.creditOf(owner, SPON_TOKEN);
        assertGt(credit, 0, "an earlier credit");
        assertEq(spon.balanceOf(owner), 0, "the wallet");
        assertEq(escrow.creditOf(foundation, SPON_TOKEN), 0, "the foundation's credit");
        if (shape.shared) assertEq(escrow.creditOf(_gatewayOwner, SPON_TOKEN), 0, "the gateway's credit");
        vm.prank(owner);
        uint256 paid = book.settleAndWithdraw(ids, owner);
        gas = vm.snapshotGasLastCall("Settle", name);
        assertGt(paid, credit, "pay on top of the credit");
        for (uint256 index = 0; index < shape.count; ++index) {
            assertEq(_claimable(ids[index]), 0, "settled");
        }
        assertEq(escrow.creditOf(foundation, SPON_TOKEN) != 0, shape.held, "the foundation is paid at the end");
        if (shape.shared) assertGt(escrow.creditOf(_gatewayOwner, SPON_TOKEN), 0, "the gateway's share");
        vm.revertToState(state);
    }

    /// @dev Something of a lease is credited to its supplier. What that credits to a gateway is taken.
    function _credit(uint32 supplier) private {
        uint64 earlier = _leaseOfAnother(supplier);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        book.settle(_ids(earlier));
        if (supplier != NODE) return;
        vm.prank(_gatewayOwner);
        escrow.withdrawCredit(SPON_TOKEN, foundation);
    }

    /// @dev A lease of an account that has no other.
    function _leaseOfAnother(uint32 supplier) private returns (uint64 orderId) {
        uint32 opened = escrow.open(user);
        _deposit(opened, SPON_TOKEN, 1_000e18);
        vm.prank(user);
        orderId = book.createOrder(opened, SPON_TOKEN, 0, _terms());
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        uint256 node = supplier == NODE ? uint256(NODE) << 86 : 0;
        _openLeases(closeBlock, _matches(orderId, _terms(), _rank(_gateway, RATE) | node));
        assertEq(book.order(orderId).supplier, supplier, "who serves");
    }
}
