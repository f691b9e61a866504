// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {LeaseResources, Order, OrderState} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice The slasher ends leases in the user's favour, and can do nothing else.
contract SlashingTest is MarketTest {
    uint96 private constant RATE = 90e18;
    uint256 private constant UNLOCKED = 1_000_000e18;

    address private _owner;
    uint32 private _provider;
    uint64 private _orderId;
    uint256 private _start;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _orderId = _lease(_owner, _provider, RATE);
        _start = block.timestamp;
    }

    function test_slashLease_billsLessThanHasPassed() public {
        vm.warp(_start + 1_000);
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseSettled(_orderId, _provider, 400, _net(400));
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(_orderId, OrderState.ClosedSlashed, 400);
        _slash(400);

        Order memory order = book.order(_orderId);
        assertState(_orderId, OrderState.ClosedSlashed);
        assertEq(order.duration, 400, "billed");
        assertEq(order.settledFor, 400, "paid");
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(400), "supplier");
        uint256 spent = 1e18 + 0.02e18;
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - spent, 0);
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), spent - _net(400), "foundation");
        assertFalse(book.hasLease(_provider), "capacity is free");
    }

    /// @dev Never below what is paid, never beyond what has passed.
    function test_slashLease_boundsOfWhatIsBilled() public {
        vm.warp(_start + 700);
        book.settle(_ids(_orderId));
        vm.warp(_start + 1_000);
        _outOfRange(699, 700, 1_000);
        _outOfRange(1_001, 700, 1_000);
        uint256 state = vm.snapshotState();
        _slash(700);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(700), "what was paid");
        vm.revertToState(state);
        _slash(1_000);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(1_000), "all that has passed");
    }

    /// @dev Over by itself, but nobody has closed it yet.
    function test_slashLease_afterTheEnd() public {
        vm.warp(_start + 100_000);
        _outOfRange(3_601, 0, 3_600);
        _slash(0);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "supplier");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE, 0);
    }

    /// @dev Inside the hold what is billed waits like in any other close, and can still be undone.
    function test_slashLease_insideTheHold() public {
        vm.warp(_start + 200);
        _slash(100);
        uint256 accrued = 0.25e18 + 0.005e18;
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - accrued, accrued);
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), 0, "held");

        uint256 state = vm.snapshotState();
        vm.warp(_start + CHALLENGE_WINDOW);
        book.settle(_ids(_orderId));
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(100), "paid after the hold");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - accrued, 0);

        vm.revertToState(state);
        vm.warp(_start + CHALLENGE_WINDOW - 1);
        vm.prank(disputes);
        leases.undoLease(_orderId, _leaseResources(_terms()));
        assertState(_orderId, OrderState.ClosedUndone);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE, 0);
    }

    function test_slashLease_refusals() public {
        LeaseResources memory resources = _leaseResources(_terms());
        vm.warp(_start + 1_000);
        address[4] memory others = [user, _owner, disputes, address(this)];
        for (uint256 index = 0; index < others.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(ILeases.NotSlasher.selector, others[index]));
            vm.prank(others[index]);
            leases.slashLease(_orderId, 0, resources);
        }
        uint64 open = _createOrder();
        _slashRefused(open, resources, abi.encodeWithSelector(IOrderBook.WrongState.selector, open, OrderState.Open));
        resources.resources += 1;
        bytes32 given = keccak256(abi.encodePacked(resources.resources, resources.restHash));
        _slashRefused(
            _orderId,
            resources,
            abi.encodeWithSelector(ILeases.WrongResources.selector, _orderId, given, book.termsHash(_orderId))
        );
        resources.resources -= 1;
        _slash(0);
        _slashRefused(
            _orderId,
            resources,
            abi.encodeWithSelector(IOrderBook.WrongState.selector, _orderId, OrderState.ClosedSlashed)
        );
    }

    /// @dev It can close in the user's favour, and nothing else that others may.
    function test_slasher_canDoNothingElse() public {
        LeaseResources memory resources = _leaseResources(_terms());
        vm.startPrank(leaseSlasher);
        vm.expectRevert(abi.encodeWithSelector(ILeases.NotDisputes.selector, leaseSlasher));
        leases.undoLease(_orderId, resources);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, _orderId, leaseSlasher, user));
        leases.closeLease(_orderId, OrderState.ClosedByUser, resources);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotSupplierOwner.selector, _orderId, _provider, leaseSlasher));
        leases.closeLease(_orderId, OrderState.ClosedMaintenance, resources);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotTaskManager.selector, leaseSlasher));
        book.openLeases(0, new uint256[](0), leaseSlasher);
        vm.stopPrank();
    }

    function test_slasher_isNamedLikeTheOthers() public {
        assertEq(book.collaborator(IOrderBook.Collaborator.Slasher), leaseSlasher, "named");
        address next = makeAddress("next slasher");
        book.proposeCollaborator(IOrderBook.Collaborator.Slasher, next);
        assertEq(book.collaborator(IOrderBook.Collaborator.Slasher), leaseSlasher, "not at once");
        vm.roll(block.number + 2 * (MAXIMUM_BID_WINDOW + RESPONSE_WINDOW + MATCH_WINDOW) + 1);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        book.acceptCollaborator(IOrderBook.Collaborator.Slasher);
        assertEq(book.collaborator(IOrderBook.Collaborator.Slasher), next, "after the delay");
    }

    /// @dev E2: whatever is billed, every unit goes somewhere.
    function testFuzz_slashLease_conservesEveryUnit(uint256 settleAt, uint256 slashAt, uint256 billed) public {
        vm.warp(_start + bound(settleAt, 0, 4_000));
        book.settle(_ids(_orderId));
        vm.warp(bound(slashAt, block.timestamp, _start + 5_000));
        uint256 most = block.timestamp - _start;
        if (most > 3_600) most = 3_600;
        billed = bound(billed, book.order(_orderId).settledFor, most);
        _slash(uint32(billed));
        vm.warp(_start + 10_000);
        book.settle(_ids(_orderId));
        uint256 gross = uint256(RATE) * billed / 36_000;
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), _net(billed), "supplier");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - MATCH_FEE - gross - gross * 200 / 10_000, 0);
    }

    // ----------------------------------------------------------------- private

    function _slash(uint32 billed) private {
        vm.prank(leaseSlasher);
        leases.slashLease(_orderId, billed, _leaseResources(_terms()));
    }

    function _slashRefused(uint64 orderId, LeaseResources memory resources, bytes memory reason) private {
        vm.expectRevert(reason, address(book));
        vm.prank(leaseSlasher);
        leases.slashLease(orderId, 0, resources);
    }

    function _outOfRange(uint32 billed, uint256 least, uint256 most) private {
        vm.expectRevert(
            abi.encodeWithSelector(ILeases.BilledOutOfRange.selector, _orderId, billed, least, most), address(book)
        );
        _slash(billed);
    }

    function _net(uint256 time) private pure returns (uint256) {
        uint256 gross = uint256(RATE) * time / 36_000;
        return gross - gross * 2_200 / 10_000;
    }
}
