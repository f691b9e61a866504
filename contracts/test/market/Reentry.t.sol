// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {LeaseResources, Order, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {Permit2} from "./Permit2.sol";
import {CallbackToken} from "./Tokens.sol";

/// @notice Calls what it was told to when it receives an account.
contract ReentrantReceiver {
    address private _target;
    bytes private _call;
    bool public succeeded;

    function arm(address target, bytes calldata data) external {
        (_target, _call) = (target, data);
    }

    function onERC721Received(address, address, uint256, bytes calldata) external returns (bytes4) {
        (succeeded,) = _target.call(_call);
        return this.onERC721Received.selector;
    }
}

/// @notice A token that is account owner, provider and payee at once, and calls back from every call that the escrow makes to
/// it. Whatever it calls, the escrow holds to the unit what it owes, and nothing is paid twice.
contract ReentryTest is MarketTest {
    struct Call {
        address target;
        bytes data;
    }

    CallbackToken private _token;
    uint8 private _id;
    /// @dev The token's own account.
    uint32 private _own;
    /// @dev Leases of the user and of the token itself, both served by the token; an open order of the token's.
    uint64 private _userLease;
    uint64 private _ownLease;
    uint64 private _ownOrder;

    function setUp() public override {
        super.setUp();
        _token = new CallbackToken();
        _id = _list(address(_token), "CALL", PLAIN_SCHEDULE);
        _own = escrow.open(address(_token));
        _token.mint(address(this), 2_000e18);
        _token.mint(address(_token), 2_000e18);
        _token.approve(address(escrow), 2_000e18);
        escrow.deposit(account, _id, 1_000e18);
        escrow.deposit(_own, _id, 1_000e18);
        vm.startPrank(address(_token));
        _token.approve(address(escrow), type(uint256).max);
        _token.approve(Permit2.DEPLOYED, type(uint256).max);
        uint32 provider = registry.register("token", "https://token.example", 1, 0, type(uint32).max);
        vm.stopPrank();
        _stake(address(_token), provider, MINIMUM_STAKE);
        vm.prank(address(_token));
        book.setCapacity(_capacity(10_000, 65_536, 4_096));
        _userLease = _leaseOf(user, account, provider);
        _ownLease = _leaseOf(address(_token), _own, provider);
        uint64 settled = _leaseOf(user, account, provider);
        _ownOrder = _orderOf(address(_token), _own);
        vm.warp(block.timestamp + 1_000);
        // A credit of the token's waits.
        book.settle(_ids(settled));
        _close(user, settled, OrderState.ClosedByUser);
        _assertExact("at the start");
    }

    function _permit2() internal override returns (address) {
        return Permit2.deploy(vm);
    }

    /// @dev From before, after and in the middle of every call out, every function there is.
    function test_reentry_fromEveryCallIntoEveryFunction() public {
        Call[] memory outers = _outers();
        Call[] memory inners = _inners();
        uint256 reached = 0;
        uint256 succeeded = 0;
        for (uint256 outer = 0; outer < outers.length; ++outer) {
            for (uint256 inner = 0; inner < inners.length; ++inner) {
                for (uint256 moment = 1; moment <= 3; ++moment) {
                    uint256 state = vm.snapshotState();
                    _token.arm(CallbackToken.Moment(moment), inners[inner].target, inners[inner].data);
                    vm.prank(address(_token));
                    (bool success,) = outers[outer].target.call(outers[outer].data);
                    if (success && _token.called()) ++reached;
                    if (success && _token.succeeded()) ++succeeded;
                    _assertExact("after a call back");
                    vm.revertToState(state);
                }
            }
        }
        // Otherwise this tests nothing.
        assertGt(reached, 100, "calls back that were made");
        assertGt(succeeded, 50, "calls back that did something");
    }

    /// @dev The same payment from within itself: the second finds nothing.
    function test_reentry_paysNothingTwice() public {
        Call[] memory outers = _outers();
        for (uint256 outer = 0; outer < outers.length; ++outer) {
            for (uint256 moment = 1; moment <= 2; ++moment) {
                uint256 state = vm.snapshotState();
                vm.prank(address(_token));
                (bool success,) = outers[outer].target.call(outers[outer].data);
                assertTrue(success, "once");
                uint256 once = _token.balanceOf(address(_token));
                vm.revertToState(state);

                state = vm.snapshotState();
                // A withdrawal of all that is there leaves nothing for a second one.
                _token.arm(CallbackToken.Moment(moment), outers[outer].target, outers[outer].data);
                vm.prank(address(_token));
                (success,) = outers[outer].target.call(outers[outer].data);
                assertTrue(success, "with a call back");
                assertTrue(_token.called(), "called back");
                assertFalse(_token.succeeded(), "the second is refused");
                assertEq(_token.balanceOf(address(_token)), once, "moved once");
                vm.revertToState(state);
            }
        }
    }

    /// @dev In the middle of a deposit the guard stands before every way to deposit.
    function test_reentry_depositsInADeposit() public {
        Call[] memory inners = _inners();
        for (uint256 outer = 0; outer < 3; ++outer) {
            for (uint256 inner = 0; inner < 3; ++inner) {
                uint256 state = vm.snapshotState();
                _token.arm(CallbackToken.Moment.BeforeTransfer, inners[inner].target, inners[inner].data);
                Call memory call = _outers()[outer];
                vm.prank(address(_token));
                (bool success,) = call.target.call(call.data);
                assertTrue(success, "the outer one");
                assertFalse(_token.succeeded(), "the inner one");
                assertEq(
                    bytes32(_token.result()),
                    bytes32(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector),
                    "for re-entering"
                );
                vm.revertToState(state);
            }
        }
    }

    /// @dev Whoever receives an account is called as well: it is the owner by then, and finds every right of before gone.
    function test_reentry_fromWhoeverReceivesAnAccount() public {
        ReentrantReceiver receiver = new ReentrantReceiver();
        (uint256 unlocked,,) = escrow.balances(_own, _id);
        receiver.arm(address(escrow), abi.encodeCall(IEscrow.withdraw, (_own, _id, unlocked, address(receiver))));
        vm.prank(address(_token));
        IERC721(address(escrow)).safeTransferFrom(address(_token), address(receiver), _own);
        assertTrue(receiver.succeeded(), "the owner's money");
        assertEq(_token.balanceOf(address(receiver)), unlocked, "once");
        assertEq(escrow.epochOf(_own), 1, "the epoch before the call");
        _assertExact("after it");
    }

    // ----------------------------------------------------------------- private

    /// @dev All in which the escrow calls a token: three deposits, then what pays out.
    function _outers() private view returns (Call[] memory calls) {
        (uint256 unlocked,,) = escrow.balances(_own, _id);
        calls = new Call[](6);
        calls[0] = _escrowCall(abi.encodeCall(IEscrow.deposit, (_own, _id, 10e18)));
        calls[1] = _escrowCall(abi.encodeCall(IEscrow.depositWithPermit, (_own, _id, 10e18, 0, 0, 0, 0)));
        calls[2] =
            _escrowCall(abi.encodeCall(IEscrow.depositWithPermit2, (_own, _id, 10e18, 7, block.timestamp, "anything")));
        calls[3] = _escrowCall(abi.encodeCall(IEscrow.withdraw, (_own, _id, unlocked, address(_token))));
        calls[4] = _escrowCall(abi.encodeCall(IEscrow.withdrawCredit, (_id, address(_token))));
        calls[5] =
            Call(address(book), abi.encodeCall(IOrderBook.settleAndWithdraw, (_ids(_userLease), address(_token))));
    }

    function _inners() private view returns (Call[] memory calls) {
        OrderTerms memory terms = _terms();
        LeaseResources memory resources = _leaseResources(terms);
        calls = new Call[](16);
        calls[0] = _escrowCall(abi.encodeCall(IEscrow.deposit, (_own, _id, 20e18)));
        calls[1] = _escrowCall(abi.encodeCall(IEscrow.depositWithPermit, (_own, _id, 20e18, 0, 0, 0, 0)));
        calls[2] =
            _escrowCall(abi.encodeCall(IEscrow.depositWithPermit2, (_own, _id, 20e18, 8, block.timestamp, "anything")));
        calls[3] = _escrowCall(abi.encodeCall(IEscrow.withdraw, (_own, _id, 10e18, address(_token))));
        calls[4] = _escrowCall(abi.encodeCall(IEscrow.withdrawCredit, (_id, address(_token))));
        calls[5] = _escrowCall(abi.encodeCall(IEscrow.updateBracket, (_own, _id)));
        calls[6] = _escrowCall(
            abi.encodeCall(IEscrow.setSpendingRight, (_own, user, _id, SpendingRight(1e18, type(uint40).max, true)))
        );
        calls[7] = _escrowCall(
            abi.encodeWithSignature("transferFrom(address,address,uint256)", address(_token), user, uint256(_own))
        );
        calls[8] = _escrowCall(abi.encodeCall(IEscrow.open, (address(_token))));
        calls[9] = _bookCall(abi.encodeCall(IOrderBook.settleAndWithdraw, (_ids(_userLease), address(_token))));
        calls[10] = _bookCall(abi.encodeCall(IOrderBook.settle, (_ids(_userLease))));
        calls[11] = _bookCall(abi.encodeCall(IOrderBook.cancelOrder, (_ownOrder)));
        calls[12] = _bookCall(abi.encodeCall(IOrderBook.createOrder, (_own, _id, 0, terms)));
        calls[13] = _bookCall(abi.encodeCall(ILeases.closeLease, (_ownLease, OrderState.ClosedByUser, resources)));
        calls[14] = _bookCall(abi.encodeCall(ILeases.closeLease, (_userLease, OrderState.ClosedMaintenance, resources)));
        calls[15] = _bookCall(abi.encodeCall(ILeases.extendLease, (_ownLease, 60)));
    }

    function _escrowCall(bytes memory data) private view returns (Call memory) {
        return Call(address(escrow), data);
    }

    function _bookCall(bytes memory data) private view returns (Call memory) {
        return Call(address(book), data);
    }

    function _orderOf(address owner, uint32 account_) private returns (uint64) {
        OrderTerms memory terms = _terms();
        vm.prank(owner);
        return book.createOrder(account_, _id, 0, terms);
    }

    function _leaseOf(address owner, uint32 account_, uint32 provider) private returns (uint64 orderId) {
        orderId = _orderOf(owner, account_);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, _terms(), _rank(provider, 90e18)));
        assertState(orderId, OrderState.Leased);
    }

    /// @dev E1 as an equality: what the escrow holds is what accounts hold, less what live leases have paid out of their locks,
    /// and all credits.
    function _assertExact(string memory when) private view {
        uint256 owed = _heldBy(account) + _heldBy(_own) + escrow.creditOf(address(_token), _id)
            + escrow.creditOf(responder, _id) + escrow.creditOf(foundation, _id);
        owed -= _paidBy(_userLease) + _paidBy(_ownLease);
        assertEq(_token.balanceOf(address(escrow)), owed, when);
    }

    function _heldBy(uint32 account_) private view returns (uint256) {
        (uint256 unlocked, uint256 locked,) = escrow.balances(account_, _id);
        return unlocked + locked;
    }

    function _paidBy(uint64 orderId) private view returns (uint256) {
        Order memory order = book.order(orderId);
        if (order.state != OrderState.Leased) return 0;
        uint256 gross = uint256(order.rate) * order.settledFor / 36_000;
        return gross - gross * 2_200 / 10_000;
    }
}
