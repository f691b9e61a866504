// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {Order, OrderState, SpendingRight} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Refuses whatever it is asked, and burns what gas it gets.
contract Obstinate {
    fallback() external payable {
        while (true) {}
    }
}

/// @notice How leases end, by whom, when and for what reason; and that nobody can keep one from ending.
contract ClosingTest is MarketTest {
    uint96 private constant RATE = 90e18;

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

    // ----------------------------------------------------------------- reasons

    /// @dev Abnormal service has a reason of its own, and bills what was served.
    function test_closeLease_forAbnormalService() public {
        vm.warp(_start + 1_234);
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(_orderId, OrderState.ClosedAbnormalService, 1_234);
        _close(_owner, _orderId, OrderState.ClosedAbnormalService);
        _assertClosed(OrderState.ClosedAbnormalService, 1_234);
    }

    /// @dev Reasons are their owners': no provider closes for the user, no user for the provider.
    function test_closeLease_everyReasonByEverybody() public {
        address[4] memory callers = [user, _owner, makeAddress("stranger"), leaseSlasher];
        vm.warp(_start + 700);
        for (uint256 caller = 0; caller < callers.length; ++caller) {
            for (uint256 reason = 0; reason <= uint256(OrderState.ClosedUpdated); ++reason) {
                bool allowed = (caller == 0 && reason == uint256(OrderState.ClosedByUser))
                    || (caller == 1
                        && reason >= uint256(OrderState.ClosedNoManifest)
                        && reason <= uint256(OrderState.ClosedCannotStart));
                uint256 state = vm.snapshotState();
                if (!allowed) vm.expectRevert();
                _close(callers[caller], _orderId, OrderState(reason));
                assertState(_orderId, allowed ? OrderState(reason) : OrderState.Leased);
                vm.revertToState(state);
            }
        }
    }

    function test_closeLease_bySpenders() public {
        address spender = makeAddress("spender");
        uint40 expiry = uint40(_start + 1_000);
        vm.prank(user);
        escrow.setSpendingRight(account, spender, SPON_TOKEN, SpendingRight(1, expiry, true));
        _notAllowed(spender);
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(type(uint112).max, expiry, false));
        _notAllowed(spender);
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(0, expiry, true));
        vm.warp(expiry);
        _notAllowed(spender);
        vm.warp(expiry - 1);
        uint64 open = _createOrder();
        vm.prank(spender);
        book.cancelOrder(open);
        assertState(open, OrderState.Cancelled);
        _close(spender, _orderId, OrderState.ClosedByUser);
        _assertClosed(OrderState.ClosedByUser, 999);
    }

    // ------------------------------------------------------------------- grace

    /// @dev From the end on it bills no more; until the grace is over only those who could before may close, for their reasons.
    function test_closeLease_inTheGrace() public {
        uint256[2] memory times = [_start + 3_600, _start + 3_600 + GRACE_WINDOW - 1];
        for (uint256 index = 0; index < times.length; ++index) {
            vm.warp(times[index]);
            uint256 state = vm.snapshotState();
            _close(user, _orderId, OrderState.ClosedByUser);
            _assertClosed(OrderState.ClosedByUser, 3_600);
            vm.revertToState(state);
            _close(_owner, _orderId, OrderState.ClosedMaintenance);
            _assertClosed(OrderState.ClosedMaintenance, 3_600);
            vm.revertToState(state);
            _notAllowed(makeAddress("stranger"));
            address[2] memory callers = [user, _owner];
            for (uint256 caller = 0; caller < 2; ++caller) {
                vm.expectRevert(
                    abi.encodeWithSelector(
                        ILeases.LeaseNotOver.selector, _orderId, _start + 3_600 + GRACE_WINDOW, times[index]
                    ),
                    address(book)
                );
                _close(callers[caller], _orderId, OrderState.ClosedAtEnd);
            }
            vm.revertToState(state);
        }
    }

    /// @dev E10: from then on every close is one at the end, by whoever comes.
    function test_closeLease_afterTheGrace() public {
        vm.warp(_start + 3_600 + GRACE_WINDOW);
        address[3] memory callers = [user, _owner, makeAddress("stranger")];
        uint256 state = vm.snapshotState();
        for (uint256 caller = 0; caller < callers.length; ++caller) {
            for (
                uint256 reason = uint256(OrderState.ClosedByUser);
                reason <= uint256(OrderState.ClosedCannotStart);
                ++reason
            ) {
                vm.expectEmit(address(book));
                emit ILeases.LeaseClosed(_orderId, OrderState.ClosedAtEnd, 3_600);
                _close(callers[caller], _orderId, OrderState(reason));
                _assertClosed(OrderState.ClosedAtEnd, 3_600);
                vm.revertToState(state);
            }
        }
    }

    function test_endOf_isOfLiveLeasesAlone() public {
        (uint256 end, uint256 graceEnd) = leases.endOf(_orderId);
        assertEq(end, _start + 3_600, "end");
        assertEq(graceEnd, _start + 3_600 + GRACE_WINDOW, "end of the grace");
        _close(user, _orderId, OrderState.ClosedByUser);
        (end, graceEnd) = leases.endOf(_orderId);
        assertEq(end + graceEnd, 0, "closed");
        (end, graceEnd) = leases.endOf(_createOrder());
        assertEq(end + graceEnd, 0, "open");
    }

    // ------------------------------------------------------------ nobody blocks

    /// @dev E11: everything that gets money or has a say is obstinate, and so are the token, the registry, the prices and the
    /// verifier's task manager. Closing calls none of them.
    function test_closeLease_cannotBeBlocked() public {
        bytes memory obstinate = type(Obstinate).runtimeCode;
        address[8] memory hostile =
            [_owner, foundation, user, address(plain), address(registry), address(tokens), address(feed), taskManager];
        for (uint256 index = 0; index < hostile.length; ++index) {
            vm.etch(hostile[index], obstinate);
        }
        uint256[4] memory times = [_start, _start + 10, _start + 700, _start + 100_000];
        for (uint256 index = 0; index < times.length; ++index) {
            uint256 state = vm.snapshotState();
            vm.warp(times[index]);
            vm.prank(user);
            (bool success,) = address(book).call{gas: 300_000}(
                abi.encodeCall(ILeases.closeLease, (_orderId, OrderState.ClosedByUser, _leaseResources(_terms())))
            );
            assertTrue(success, "closed");
            vm.revertToState(state);
        }
        vm.warp(_start + 700);
        vm.prank(leaseSlasher);
        leases.slashLease(_orderId, 1, _leaseResources(_terms()));
        assertState(_orderId, OrderState.ClosedSlashed);
    }

    function test_undoLease_cannotBeBlocked() public {
        vm.etch(_owner, type(Obstinate).runtimeCode);
        vm.etch(user, type(Obstinate).runtimeCode);
        vm.etch(address(plain), type(Obstinate).runtimeCode);
        vm.prank(disputes);
        leases.undoLease(_orderId, _leaseResources(_terms()));
        assertState(_orderId, OrderState.ClosedUndone);
    }

    /// @dev A supplier that shrinks to nothing or is suspended is closed like any other.
    function test_closeLease_ofASupplierThatIsGone() public {
        registry.suspend(_provider);
        vm.prank(_owner);
        book.setCapacity(0);
        vm.roll(block.number + 1_000);
        vm.warp(_start + 700);
        _close(user, _orderId, OrderState.ClosedByUser);
        _assertClosed(OrderState.ClosedByUser, 700);
        assertFalse(book.hasLease(_provider), "nothing is used");
    }

    // ----------------------------------------------------------------- private

    function _notAllowed(address caller) private {
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, _orderId, caller, user), address(book)
        );
        _close(caller, _orderId, OrderState.ClosedByUser);
    }

    function _assertClosed(OrderState state, uint32 billed) private view {
        Order memory order = book.order(_orderId);
        assertEq(uint256(order.state), uint256(state), "reason");
        assertEq(order.duration, billed, "billed");
        assertEq(order.settledFor, billed, "paid");
        uint256 gross = uint256(RATE) * billed / 36_000;
        assertEq(escrow.creditOf(_owner, PLAIN_TOKEN), gross - gross * 2_200 / 10_000, "supplier");
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, 0, "locked");
    }
}
