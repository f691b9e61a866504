// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {
    BlocklistToken,
    FalseToken,
    FeeTakingToken,
    GenerousToken,
    GrowingToken,
    OddDecimals,
    PausableToken,
    PlainToken,
    RebasingToken,
    RefusingToken,
    SilentToken
} from "./Tokens.sol";

interface IMintable {
    function mint(address to, uint256 amount) external;
    function approve(address spender, uint256 amount) external returns (bool);
    function balanceOf(address holder) external view returns (uint256);
}

/// @notice Tokens that are not what ERC-20 says: refused when they are listed or deposited, or harmless to everybody else. What
/// calls back is in {ReentryTest}.
contract HostileTokensTest is MarketTest {
    uint256 private constant FUNDS = 1_000e18;

    address private _owner;
    uint32 private _provider;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
    }

    // ------------------------------------------------- wrong amounts: refused

    function test_feeTakingToken_isRefused() public {
        FeeTakingToken token = new FeeTakingToken();
        _depositRefused(address(token), FUNDS - FUNDS / 100);
    }

    function test_generousToken_isRefused() public {
        _depositRefused(address(new GenerousToken()), FUNDS + 1);
    }

    /// @dev The escrow has some already: it doubles while more is coming.
    function test_tokenThatGrowsInATransfer_isRefused() public {
        GrowingToken token = new GrowingToken();
        uint8 id = _list(address(token), "GROW", PLAIN_SCHEDULE);
        token.mint(address(this), FUNDS);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferMismatch.selector, address(token), FUNDS, 2 * FUNDS));
        escrow.deposit(account, id, FUNDS);
        assertBalances(account, id, 0, 0);
    }

    function test_tokenThatAnswersFalse_isRefused() public {
        FalseToken token = new FalseToken();
        uint8 id = _list(address(token), "FALSE", PLAIN_SCHEDULE);
        token.mint(address(this), FUNDS);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        escrow.deposit(account, id, FUNDS);
        assertBalances(account, id, 0, 0);
    }

    // -------------------------------------------------------------- no answer

    function test_tokenThatAnswersNothing_works() public {
        SilentToken token = new SilentToken();
        uint8 id = _list(address(token), "SILENT", PLAIN_SCHEDULE);
        token.mint(address(this), 100e6);
        escrow.deposit(account, id, 100e6);
        assertBalances(account, id, 100e6, 0);
        vm.prank(user);
        escrow.withdraw(account, id, 100e6, user);
        assertEq(token.balanceOf(user), 100e6, "received");
    }

    // ---------------------------------------------- paying out fails: harmless

    /// @dev E11: whoever pays out nothing keeps nobody from closing, and owes what it owed.
    function test_tokenThatRefusesToPay_blocksOnlyPayments() public {
        RefusingToken token = new RefusingToken();
        (uint8 id, uint64 orderId) = _leaseIn(address(token));
        token.setRefuses(true);
        (uint256 due,) = book.claimable(orderId);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(orderId), _owner);
        book.settle(_ids(orderId));
        _close(user, orderId, OrderState.ClosedByUser);
        assertEq(escrow.creditOf(_owner, id), due, "owed");
        (uint256 unlocked,,) = escrow.balances(account, id);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vm.prank(user);
        escrow.withdraw(account, id, unlocked, user);
        token.setRefuses(false);
        _everybodyIsPaid(id, address(token));
    }

    function test_pausedToken_blocksOnlyTransfers() public {
        PausableToken token = new PausableToken();
        (uint8 id, uint64 orderId) = _leaseIn(address(token));
        uint64 openId = _order(id);
        token.setPaused(true);
        book.settle(_ids(orderId));
        vm.prank(user);
        book.cancelOrder(openId);
        vm.prank(user);
        leases.extendLease(orderId, 60);
        _close(user, orderId, OrderState.ClosedByUser);
        assertGt(escrow.creditOf(_owner, id), 0, "credited");
        vm.expectRevert(PausableToken.TokenPaused.selector);
        vm.prank(_owner);
        escrow.withdrawCredit(id, _owner);
        vm.expectRevert(PausableToken.TokenPaused.selector);
        vm.prank(user);
        escrow.withdraw(account, id, 1, user);
        token.setPaused(false);
        _everybodyIsPaid(id, address(token));
    }

    /// @dev One of them alone is blocked: it waits alone, and may have itself paid elsewhere.
    function test_blocklist_blocksNobodyElse() public {
        address[4] memory payees = [user, _owner, foundation, responder];
        for (uint256 index = 0; index < payees.length; ++index) {
            BlocklistToken token = new BlocklistToken();
            (uint8 id, uint64 orderId) = _leaseIn(address(token));
            token.setBlocked(payees[index], true);
            book.settle(_ids(orderId));
            _close(user, orderId, OrderState.ClosedByUser);
            for (uint256 other = 0; other < payees.length; ++other) {
                if (other == index) continue;
                uint256 paid = _withdrawAll(id, payees[other], payees[other]);
                assertEq(token.balanceOf(payees[other]), paid, "paid");
            }
            (uint256 unlocked,,) = escrow.balances(account, id);
            vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, payees[index]));
            vm.prank(payees[index]);
            if (payees[index] == user) escrow.withdraw(account, id, unlocked, user);
            else escrow.withdrawCredit(id, payees[index]);
            _withdrawAll(id, payees[index], makeAddress("purse"));
            assertEq(token.balanceOf(address(escrow)), 0, "nothing is left");
        }
    }

    /// @dev All of them at once, and the escrow too.
    function test_blocklist_cannotBlockAClose() public {
        BlocklistToken token = new BlocklistToken();
        (uint8 id, uint64 orderId) = _leaseIn(address(token));
        uint64 openId = _order(id);
        address[5] memory blocked = [user, _owner, foundation, responder, address(escrow)];
        for (uint256 index = 0; index < blocked.length; ++index) {
            token.setBlocked(blocked[index], true);
        }
        vm.prank(user);
        book.cancelOrder(openId);
        book.settle(_ids(orderId));
        vm.warp(block.timestamp + 1 days);
        _close(makeAddress("anyone"), orderId, OrderState.ClosedAtEnd);
        assertState(orderId, OrderState.ClosedAtEnd);
        for (uint256 index = 0; index < blocked.length; ++index) {
            token.setBlocked(blocked[index], false);
        }
        _everybodyIsPaid(id, address(token));
    }

    // ---------------------------------------------------------------- rebasing

    /// @dev What appears out of nothing is nobody's; everybody gets what the escrow says.
    function test_rebaseUp_isASurplus() public {
        RebasingToken token = new RebasingToken();
        (uint8 id, uint64 orderId) = _leaseIn(address(token));
        token.rebase(2e18);
        _close(user, orderId, OrderState.ClosedByUser);
        _withdrawAll(id, user, user);
        _withdrawAll(id, _owner, _owner);
        _withdrawAll(id, foundation, foundation);
        _withdrawAll(id, responder, responder);
        assertEq(token.balanceOf(address(escrow)), FUNDS, "the surplus");
    }

    /// @dev What disappears is missing in that token alone: its leases close, the first are paid, the last is not.
    function test_rebaseDown_staysInItsToken() public {
        RebasingToken token = new RebasingToken();
        (uint8 id, uint64 orderId) = _leaseIn(address(token));
        uint64 plainId = _lease(_owner, _provider, 90e18);
        uint256 plainBalance = plain.balanceOf(address(escrow));
        token.rebase(0.5e18);
        _close(user, orderId, OrderState.ClosedByUser);
        assertGt(_withdrawAll(id, _owner, _owner), 0, "the first is paid");
        (uint256 unlocked,,) = escrow.balances(account, id);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        vm.prank(user);
        escrow.withdraw(account, id, unlocked, user);
        assertEq(plain.balanceOf(address(escrow)), plainBalance, "no other token pays for it");
        _close(user, plainId, OrderState.ClosedByUser);
        (unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, unlocked, user);
    }

    // ---------------------------------------------------------------- decimals

    function test_decimals_0_6_and_18_work() public {
        uint8[3] memory decimals = [0, 6, 18];
        for (uint256 index = 0; index < decimals.length; ++index) {
            PlainToken token = new PlainToken(decimals[index]);
            (uint8 id, uint64 orderId) = _leaseIn(address(token));
            book.settle(_ids(orderId));
            _close(user, orderId, OrderState.ClosedByUser);
            _everybodyIsPaid(id, address(token));
        }
    }

    function test_decimals_30_areRefused() public {
        _listingRefused(address(new PlainToken(30)));
        _listingRefused(address(new PlainToken(19)));
    }

    function test_decimals_thatAreNone_areRefused() public {
        _listingRefused(user);
        _listingRefused(address(escrow));
        _listingRefused(address(new OddDecimals("", false, false)));
        _listingRefused(address(new OddDecimals(hex"12", false, false)));
        _listingRefused(address(new OddDecimals(abi.encode(uint256(256 + 18)), false, false)));
        _listingRefused(address(new OddDecimals(abi.encode(type(uint256).max), false, false)));
        _listingRefused(address(new OddDecimals("", true, false)));
        _listingRefused(address(new OddDecimals("", false, true)));
    }

    // ----------------------------------------------------------------- private

    function _depositRefused(address token, uint256 received) private {
        uint8 id = _list(token, "REFUSED", PLAIN_SCHEDULE);
        IMintable(token).mint(address(this), FUNDS);
        IMintable(token).approve(address(escrow), FUNDS);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferMismatch.selector, token, FUNDS, received));
        escrow.deposit(account, id, FUNDS);
        assertBalances(account, id, 0, 0);
    }

    function _listingRefused(address token) private {
        IPaymentTokens.PriceFeed memory priced = IPaymentTokens.PriceFeed(address(feed), 1 days, 1, 2e8);
        vm.expectRevert(abi.encodeWithSelector(IPaymentTokens.UnsuitableToken.selector, token));
        tokens.list(token, "REFUSED", PLAIN_SCHEDULE, priced, 1);
    }

    function _order(uint8 id) private returns (uint64) {
        OrderTerms memory terms = _terms();
        vm.prank(user);
        return book.createOrder(account, id, 0, terms);
    }

    /// @dev A lease in the token that has accrued for a thousand seconds, of which nothing is settled.
    function _leaseIn(address token) private returns (uint8 id, uint64 orderId) {
        id = _list(token, string.concat("T", vm.toString(tokens.tokenCount())), PLAIN_SCHEDULE);
        IMintable(token).mint(address(this), FUNDS);
        IMintable(token).approve(address(escrow), FUNDS);
        escrow.deposit(account, id, FUNDS);
        orderId = _order(id);
        _bid(_owner, orderId, 90e18);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, _terms(), _rank(_provider, 90e18)));
        vm.warp(block.timestamp + 1_000);
    }

    /// @dev All that is unlocked or credited.
    function _withdrawAll(uint8 id, address payee, address to) private returns (uint256 amount) {
        if (payee == user) (amount,,) = escrow.balances(account, id);
        vm.prank(payee);
        if (payee != user) return escrow.withdrawCredit(id, to);
        escrow.withdraw(account, id, amount, to);
    }

    function _everybodyIsPaid(uint8 id, address token) private {
        uint256 paid = _withdrawAll(id, user, user) + _withdrawAll(id, _owner, _owner)
            + _withdrawAll(id, foundation, foundation) + _withdrawAll(id, responder, responder);
        assertEq(paid, FUNDS, "all that was deposited");
        assertEq(IMintable(token).balanceOf(address(escrow)), 0, "nothing is left");
    }
}
