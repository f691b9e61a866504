// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {
    BidRequest,
    CloseRequest,
    LeaseResources,
    Order,
    OrderRequest,
    OrderState,
    OrderTerms,
    SpendingRight
} from "../../src/Types.sol";
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
    /// @param refusal What it answers wherever it is called, nothing for a call that must do something somewhere.
    struct Call {
        string name;
        address target;
        bytes data;
        bytes4 refusal;
    }

    CallbackToken private _token;
    uint8 private _id;
    /// @dev The token's own account.
    uint32 private _own;
    /// @dev Leases of the user and of the token itself, all served by the token; one that is closed and paid, one that is about to
    /// end, one with an update proposed; an open order of the token's and one that may expire.
    uint64 private _userLease;
    uint64 private _ownLease;
    uint64 private _paidLease;
    uint64 private _endingLease;
    uint64 private _updatingLease;
    uint64 private _ownOrder;
    uint64 private _expirableOrder;

    Call[] private _inners;

    function setUp() public override {
        super.setUp();
        book.proposeCollaborator(IOrderBook.Collaborator.Slasher, leaseSlasher);
        vm.roll(block.number + 1_000);
        vm.warp(block.timestamp + 1_000);
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
        _expirableOrder = _orderOf(address(_token), _own, _terms());
        OrderTerms memory short = _terms();
        short.duration = 1_200;
        _endingLease = _leaseOf(address(_token), _own, provider, short);
        _userLease = _leaseOf(user, account, provider, _terms());
        _ownLease = _leaseOf(address(_token), _own, provider, _terms());
        _updatingLease = _leaseOf(address(_token), _own, provider, _terms());
        _paidLease = _leaseOf(address(_token), _own, provider, _terms());
        uint64 settled = _leaseOf(user, account, provider, _terms());
        _ownOrder = _orderOf(address(_token), _own, _terms());
        vm.warp(block.timestamp + 1_000);
        // A credit of the token's waits.
        book.settle(_ids(settled));
        _close(user, settled, OrderState.ClosedByUser);
        _close(address(_token), _paidLease, OrderState.ClosedByUser);
        vm.prank(address(_token));
        leases.proposeUpdate(_updatingLease, _terms(), type(uint40).max);
        _assertExact("at the start");
        _addDeposits();
        _addAccountCalls();
        _addOrderCalls();
        _addLeaseCalls();
        _addUpdateCalls();
        _addCallsOfOthers(provider);
    }

    function _permit2() internal override returns (address) {
        return Permit2.deploy(vm);
    }

    /// @dev From before, after and in the middle of every call out, into every function of the market that is open to anyone, to an
    /// account's owner, to a provider or a payee; and into those of the contracts and roles that it names.
    function test_reentry_fromEveryCallIntoEveryFunction() public {
        Call[] memory outers = _outers();
        uint256[] memory succeeded = new uint256[](_inners.length);
        for (uint256 outer = 0; outer < outers.length; ++outer) {
            for (uint256 moment = 1; moment <= (outer == 1 ? 3 : 2); ++moment) {
                for (uint256 inner = 0; inner < _inners.length; ++inner) {
                    uint256 state = vm.snapshotState();
                    bool did = _reenter(outers[outer], CallbackToken.Moment(moment), _inners[inner]);
                    vm.revertToState(state);
                    if (did) ++succeeded[inner];
                }
            }
        }
        // Otherwise this tests nothing.
        for (uint256 inner = 0; inner < _inners.length; ++inner) {
            assertEq(succeeded[inner] != 0, _inners[inner].refusal == bytes4(0), _inners[inner].name);
        }
    }

    /// @dev The outer call goes through whatever is called from within it, but for a deposit in the middle of which its token is paid
    /// out: that one is refused for its sum, which is wrong because it was re-entered.
    function _reenter(Call memory outer, CallbackToken.Moment moment, Call memory inner) private returns (bool did) {
        string memory what = string.concat(inner.name, " from ", outer.name);
        _token.arm(moment, inner.target, inner.data);
        vm.prank(address(_token));
        (bool success, bytes memory answer) = outer.target.call(outer.data);
        _assertExact(what);
        if (_isDeposit(outer) && _paysOut(inner) && moment != CallbackToken.Moment.Permit) {
            assertFalse(success, what);
            assertEq(bytes32(bytes4(answer)), bytes32(IEscrow.TransferMismatch.selector), what);
            return false;
        }
        assertTrue(success, what);
        assertTrue(_token.called(), what);
        if (inner.refusal != bytes4(0)) assertEq(bytes32(bytes4(_token.result())), bytes32(inner.refusal), what);
        return _token.succeeded();
    }

    function _isDeposit(Call memory call) private pure returns (bool) {
        bytes4 selector = bytes4(call.data);
        return selector == IEscrow.deposit.selector || selector == IEscrow.depositWithPermit.selector
            || selector == IEscrow.depositWithPermit2.selector;
    }

    function _paysOut(Call memory call) private pure returns (bool) {
        bytes4 selector = bytes4(call.data);
        return selector == IEscrow.withdraw.selector || selector == IEscrow.withdrawCredit.selector
            || selector == IOrderBook.settleAndWithdraw.selector;
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
        for (uint256 outer = 0; outer < 3; ++outer) {
            for (uint256 inner = 0; inner < 3; ++inner) {
                uint256 state = vm.snapshotState();
                _token.arm(CallbackToken.Moment.BeforeTransfer, _inners[inner].target, _inners[inner].data);
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
        calls[0] = _escrowCall("deposit", abi.encodeCall(IEscrow.deposit, (_own, _id, 10e18)));
        calls[1] =
            _escrowCall("depositWithPermit", abi.encodeCall(IEscrow.depositWithPermit, (_own, _id, 10e18, 0, 0, 0, 0)));
        calls[2] = _escrowCall(
            "depositWithPermit2",
            abi.encodeCall(IEscrow.depositWithPermit2, (_own, _id, 10e18, 7, block.timestamp, "anything"))
        );
        calls[3] = _escrowCall("withdraw", abi.encodeCall(IEscrow.withdraw, (_own, _id, unlocked, address(_token))));
        calls[4] = _escrowCall("withdrawCredit", abi.encodeCall(IEscrow.withdrawCredit, (_id, address(_token))));
        calls[5] = _bookCall(
            "settleAndWithdraw", abi.encodeCall(IOrderBook.settleAndWithdraw, (_ids(_userLease), address(_token)))
        );
    }

    /// @dev The first three of all.
    function _addDeposits() private {
        _addEscrow("deposit", abi.encodeCall(IEscrow.deposit, (_own, _id, 20e18)));
        _addEscrow("depositWithPermit", abi.encodeCall(IEscrow.depositWithPermit, (_own, _id, 20e18, 0, 0, 0, 0)));
        _addEscrow(
            "depositWithPermit2",
            abi.encodeCall(IEscrow.depositWithPermit2, (_own, _id, 20e18, 8, block.timestamp, "anything"))
        );
    }

    function _addAccountCalls() private {
        _addEscrow("withdraw", abi.encodeCall(IEscrow.withdraw, (_own, _id, 10e18, address(_token))));
        _addEscrow("withdrawCredit", abi.encodeCall(IEscrow.withdrawCredit, (_id, address(_token))));
        _addEscrow("updateBracket", abi.encodeCall(IEscrow.updateBracket, (_own, _id)));
        _addEscrow(
            "setSpendingRight",
            abi.encodeCall(IEscrow.setSpendingRight, (_own, user, _id, SpendingRight(1e18, type(uint40).max, true)))
        );
        _addEscrow("transferFrom", abi.encodeCall(IERC721.transferFrom, (address(_token), user, _own)));
        _addEscrow("approve", abi.encodeCall(IERC721.approve, (user, _own)));
        _addEscrow("setApprovalForAll", abi.encodeCall(IERC721.setApprovalForAll, (user, true)));
        _addEscrow("open", abi.encodeCall(IEscrow.open, (address(_token))));
    }

    function _addOrderCalls() private {
        OrderTerms memory terms = _terms();
        OrderRequest memory request =
            OrderRequest(address(_token), _own, _id, 0, PLAIN_SCHEDULE, terms, 0, block.timestamp);
        BidRequest[] memory bids = new BidRequest[](1);
        bids[0] = BidRequest(_ownOrder, 0, 90e18);
        _addBook("createOrder", abi.encodeCall(IOrderBook.createOrder, (_own, _id, 0, terms)));
        _addBook("createOrderFor", abi.encodeCall(ILeases.createOrderFor, (request, "anything")));
        _addBook("skipNonce", abi.encodeCall(ILeases.skipNonce, ()));
        _addBook("cancelOrder", abi.encodeCall(IOrderBook.cancelOrder, (_ownOrder)));
        _addBook("expireOrders", abi.encodeCall(IOrderBook.expireOrders, (_ids(_expirableOrder))));
        _addBook("placeBid", abi.encodeCall(IOrderBook.placeBid, (_ownOrder, 0, 90e18)));
        _addBook("placeBids", abi.encodeCall(IOrderBook.placeBids, (bids)));
        _addBook("setCapacity", abi.encodeCall(IOrderBook.setCapacity, (_capacity(20_000, 65_536, 4_096))));
        _addBook("acceptCollaborator", abi.encodeCall(IOrderBook.acceptCollaborator, (IOrderBook.Collaborator.Slasher)));
    }

    function _addLeaseCalls() private {
        LeaseResources memory resources = _leaseResources(_terms());
        CloseRequest memory request = CloseRequest(address(_token), _ownLease, 0, block.timestamp);
        _addBook("settleAndWithdraw", abi.encodeCall(IOrderBook.settleAndWithdraw, (_ids(_userLease), address(_token))));
        _addBook("settle", abi.encodeCall(IOrderBook.settle, (_ids(_userLease))));
        _addBook(
            "closeLease by the user",
            abi.encodeCall(ILeases.closeLease, (_ownLease, OrderState.ClosedByUser, resources))
        );
        _addBook(
            "closeLease by the supplier",
            abi.encodeCall(ILeases.closeLease, (_userLease, OrderState.ClosedMaintenance, resources))
        );
        _addBook("closeFor", abi.encodeCall(ILeases.closeFor, (request, resources, "anything")));
        _addBook("extendLease", abi.encodeCall(ILeases.extendLease, (_ownLease, 60)));
        _addBook("announceLowFunds", abi.encodeCall(ILeases.announceLowFunds, (_ids(_endingLease))));
        _addBook("rateLease", abi.encodeCall(ILeases.rateLease, (_paidLease, 10)));
    }

    function _addUpdateCalls() private {
        OrderTerms memory terms = _terms();
        bytes32 proposed = leases.updateProposal(_updatingLease).hash;
        _addBook("proposeUpdate", abi.encodeCall(ILeases.proposeUpdate, (_ownLease, terms, type(uint40).max)));
        _addBook("rejectUpdate", abi.encodeCall(ILeases.rejectUpdate, (_updatingLease, proposed)));
        _addBook(
            "acceptUpdate", abi.encodeCall(ILeases.acceptUpdate, (_updatingLease, _leaseResources(terms), terms, 90e18))
        );
    }

    function _addCallsOfOthers(uint32 provider) private {
        LeaseResources memory resources = _leaseResources(_terms());
        uint32 closeBlock = book.order(_expirableOrder).closeBlock;
        uint256[] memory matches = _matches(_expirableOrder, _terms(), _rank(provider, 90e18));
        _addRefused(
            _bookCall("openLeases", abi.encodeCall(IOrderBook.openLeases, (closeBlock, matches, address(_token)))),
            IOrderBook.NotTaskManager.selector
        );
        _addRefused(
            _bookCall("undoLease", abi.encodeCall(ILeases.undoLease, (_ownLease, resources))),
            ILeases.NotDisputes.selector
        );
        _addRefused(
            _bookCall("slashLease", abi.encodeCall(ILeases.slashLease, (_ownLease, 0, resources))),
            ILeases.NotSlasher.selector
        );
        _addRefused(
            _bookCall("suspend", abi.encodeCall(IOrderBook.suspend, (provider, false))),
            IOrderBook.NotProviderRegistry.selector
        );
        (uint256 word,,) = book.orderRecord(_userLease);
        bytes memory pay =
            abi.encodeCall(IEscrow.settleAndPay, (_userLease, word, 3_600, 0, address(0), address(0), address(_token)));
        _addRefused(_escrowCall("settleAndPay of the escrow", pay), IEscrow.NotOrderBook.selector);
    }

    function _addEscrow(string memory name, bytes memory data) private {
        _inners.push(_escrowCall(name, data));
    }

    function _addBook(string memory name, bytes memory data) private {
        _inners.push(_bookCall(name, data));
    }

    function _addRefused(Call memory call, bytes4 refusal) private {
        call.refusal = refusal;
        _inners.push(call);
    }

    function _escrowCall(string memory name, bytes memory data) private view returns (Call memory) {
        return Call(name, address(escrow), data, bytes4(0));
    }

    function _bookCall(string memory name, bytes memory data) private view returns (Call memory) {
        return Call(name, address(book), data, bytes4(0));
    }

    function _orderOf(address owner, uint32 account_, OrderTerms memory terms) private returns (uint64) {
        vm.prank(owner);
        return book.createOrder(account_, _id, 0, terms);
    }

    function _leaseOf(address owner, uint32 account_, uint32 provider, OrderTerms memory terms)
        private
        returns (uint64 orderId)
    {
        orderId = _orderOf(owner, account_, terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(provider, 90e18)));
        assertState(orderId, OrderState.Leased);
    }

    /// @dev E1 as an equality: what the escrow holds is what accounts hold, less what live leases have paid out of their locks,
    /// and all credits.
    function _assertExact(string memory when) private view {
        uint256 owed = _heldBy(account) + _heldBy(_own) + escrow.creditOf(address(_token), _id)
            + escrow.creditOf(responder, _id) + escrow.creditOf(foundation, _id);
        owed -= _paidBy(_userLease) + _paidBy(_ownLease) + _paidBy(_endingLease) + _paidBy(_updatingLease);
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
