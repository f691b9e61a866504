// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {FeeSchedule, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {
    BlocklistToken,
    CallbackToken,
    FalseToken,
    FeeTakingToken,
    GenerousToken,
    PlainToken,
    SilentToken
} from "./Tokens.sol";

/// @notice Accounts, money in and out, tokens that misbehave, and who may do what.
contract EscrowTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;

    // ---------------------------------------------------------------- accounts

    function test_open_countsUp() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.AccountOpened(2, responder);
        assertEq(escrow.open(responder), 2, "account");
        assertEq(escrow.ownerOf(2), responder, "owner");
        assertEq(escrow.accountCount(), 2, "count");
        assertEq(escrow.open(responder), 3, "one wallet opens many");
    }

    function test_open_stopsAtTheLastId() public {
        // Foundation and account count share a slot.
        bytes32 slot = bytes32(uint256(7));
        vm.store(address(escrow), slot, bytes32((uint256(type(uint32).max) << 160) | uint160(foundation)));
        assertEq(escrow.accountCount(), type(uint32).max, "slot of the count");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AccountsExhausted.selector, type(uint32).max));
        escrow.open(user);
    }

    /// @dev Approval of the account's token moves the account, never its money.
    function test_approval_spendsNothing() public {
        address operator = makeAddress("operator");
        vm.startPrank(user);
        escrow.approve(operator, account);
        escrow.setApprovalForAll(operator, true);
        vm.stopPrank();
        vm.startPrank(operator);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, operator, user));
        escrow.withdraw(account, PLAIN_TOKEN, 1, operator);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, operator, user));
        book.createOrder(account, PLAIN_TOKEN, 0, _terms());
        escrow.transferFrom(user, operator, account);
        escrow.withdraw(account, PLAIN_TOKEN, 1, operator);
        vm.stopPrank();
    }

    function test_deposit_byAnyone() public {
        plain.mint(responder, 5e18);
        vm.startPrank(responder);
        plain.approve(address(escrow), 5e18);
        vm.expectEmit(address(escrow));
        emit IEscrow.Deposited(account, PLAIN_TOKEN, responder, 5e18);
        escrow.deposit(account, PLAIN_TOKEN, 5e18);
        vm.stopPrank();
        assertBalances(account, PLAIN_TOKEN, UNLOCKED + 5e18, 0);
        assertEq(plain.balanceOf(address(escrow)), UNLOCKED + 5e18, "tokens arrived");
    }

    function test_deposit_refusals() public {
        vm.expectRevert(IEscrow.ZeroAmount.selector);
        escrow.deposit(account, PLAIN_TOKEN, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownAccount.selector, 99));
        escrow.deposit(99, PLAIN_TOKEN, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, 9));
        escrow.deposit(account, 9, 1);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(escrow), 0, 1));
        vm.prank(responder);
        escrow.deposit(account, PLAIN_TOKEN, 1);
    }

    function test_deposit_keepsWithinItsWord() public {
        uint256 most = type(uint112).max;
        _createOrder();
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 room = most - unlocked - locked;
        plain.mint(address(this), room + 1);
        plain.approve(address(escrow), room + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.BalanceTooLarge.selector, account, PLAIN_TOKEN, unlocked + locked, room + 1)
        );
        escrow.deposit(account, PLAIN_TOKEN, room + 1);
        escrow.deposit(account, PLAIN_TOKEN, room);
        assertBalances(account, PLAIN_TOKEN, unlocked + room, locked);
    }

    function test_withdraw_byTheOwner() public {
        address purse = makeAddress("purse");
        vm.expectEmit(address(escrow));
        emit IEscrow.Withdrawn(account, PLAIN_TOKEN, purse, 3e18);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 3e18, purse);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - 3e18, 0);
        assertEq(plain.balanceOf(purse), 3e18, "received");
    }

    function test_withdraw_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, address(this), user));
        escrow.withdraw(account, PLAIN_TOKEN, 1, address(this));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, 99, address(this), address(0)));
        escrow.withdraw(99, PLAIN_TOKEN, 1, address(this));
        _createOrder();
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        vm.startPrank(user);
        vm.expectRevert(IEscrow.ZeroAmount.selector);
        escrow.withdraw(account, PLAIN_TOKEN, 0, user);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, account, PLAIN_TOKEN, unlocked, unlocked + 1)
        );
        escrow.withdraw(account, PLAIN_TOKEN, unlocked + 1, user);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(0)));
        escrow.withdraw(account, PLAIN_TOKEN, 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(escrow)));
        escrow.withdraw(account, PLAIN_TOKEN, 1, address(escrow));
        escrow.withdraw(account, PLAIN_TOKEN, unlocked, user);
        vm.stopPrank();
    }

    function test_withdrawCredit_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingToWithdraw.selector, address(this), PLAIN_TOKEN));
        escrow.withdrawCredit(PLAIN_TOKEN, address(this));
    }

    function test_withdrawCredit_paysOnce() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        vm.warp(block.timestamp + 1_000);
        book.settle(_ids(orderId));
        uint256 credit = escrow.creditOf(owner, PLAIN_TOKEN);
        vm.expectEmit(address(escrow));
        emit IEscrow.CreditWithdrawn(owner, PLAIN_TOKEN, owner, credit);
        vm.prank(owner);
        assertEq(escrow.withdrawCredit(PLAIN_TOKEN, owner), credit, "withdrawn");
        assertEq(plain.balanceOf(owner), credit, "received");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingToWithdraw.selector, owner, PLAIN_TOKEN));
        vm.prank(owner);
        escrow.withdrawCredit(PLAIN_TOKEN, owner);
    }

    function test_nonces_run_out() public {
        uint64 orderId = _createOrder();
        bytes32 slot = keccak256(abi.encode((uint256(account) << 8) | PLAIN_TOKEN, uint256(10)));
        uint256 word = uint256(vm.load(address(escrow), slot));
        assertEq((word >> 224) & 0xffffff, uint24(orderId), "slot of the account word");
        vm.store(address(escrow), slot, bytes32(word | (uint256(0xffffff) << 224)));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoncesExhausted.selector, account, PLAIN_TOKEN));
        _createOrder();
    }

    // ------------------------------------------------------------------ tokens

    function test_feeTakingToken_isRefused() public {
        FeeTakingToken token = new FeeTakingToken();
        uint8 id = tokens.list(address(token), "FEE", 2);
        token.mint(address(this), 100e18);
        token.approve(address(escrow), 100e18);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferMismatch.selector, address(token), 100e18, 99e18));
        escrow.deposit(account, id, 100e18);
        assertBalances(account, id, 0, 0);
    }

    function test_generousToken_isRefused() public {
        GenerousToken token = new GenerousToken();
        uint8 id = tokens.list(address(token), "GEN", 2);
        token.mint(address(this), 100e18);
        token.approve(address(escrow), 100e18);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferMismatch.selector, address(token), 100e18, 100e18 + 1));
        escrow.deposit(account, id, 100e18);
    }

    function test_tokenThatAnswersFalse_isRefused() public {
        FalseToken token = new FalseToken();
        uint8 id = tokens.list(address(token), "FALSE", 2);
        token.mint(address(this), 100e18);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        escrow.deposit(account, id, 100e18);
    }

    function test_tokenThatAnswersNothing_works() public {
        SilentToken token = new SilentToken();
        uint8 id = tokens.list(address(token), "SILENT", 2);
        token.mint(address(this), 100e6);
        escrow.deposit(account, id, 100e6);
        assertBalances(account, id, 100e6, 0);
        vm.prank(user);
        escrow.withdraw(account, id, 100e6, user);
        assertEq(token.balanceOf(user), 100e6, "received");
    }

    function test_callbackToken_cannotDepositTwice() public {
        CallbackToken token = new CallbackToken();
        uint8 id = tokens.list(address(token), "CALL", 2);
        token.mint(address(this), 200e18);
        token.approve(address(escrow), 200e18);
        token.mint(address(token), 200e18);
        token.arm(address(escrow), abi.encodeCall(IEscrow.deposit, (account, id, 100e18)));
        escrow.deposit(account, id, 100e18);
        assertFalse(token.called(), "the inner deposit failed");
        assertEq(
            bytes32(token.result()),
            bytes32(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector),
            "for re-entering"
        );
        assertBalances(account, id, 100e18, 0);
    }

    /// @dev In the middle of a withdrawal everything is written down already: what a token calls back takes nothing twice.
    function test_callbackToken_cannotWithdrawTwice() public {
        CallbackToken token = new CallbackToken();
        uint8 id = tokens.list(address(token), "CALL", 2);
        uint32 own = escrow.open(address(token));
        token.mint(address(this), 200e18);
        token.approve(address(escrow), 200e18);
        escrow.deposit(own, id, 100e18);
        escrow.deposit(account, id, 100e18);
        token.arm(address(escrow), abi.encodeCall(IEscrow.withdraw, (own, id, 60e18, address(token))));
        vm.prank(address(token));
        escrow.withdraw(own, id, 100e18, address(token));
        assertFalse(token.called(), "the inner withdrawal failed");
        assertEq(token.balanceOf(address(token)), 100e18, "its own money, once");
        assertEq(token.balanceOf(address(escrow)), 100e18, "the other account's money");
    }

    function test_callbackToken_cannotBePaidTwice() public {
        CallbackToken token = new CallbackToken();
        uint8 id = tokens.list(address(token), "CALL", 2);
        token.mint(address(this), 1_000e18);
        token.approve(address(escrow), 1_000e18);
        escrow.deposit(account, id, 1_000e18);
        // The token itself is the supplier: it may call what its owner may call.
        address owner = address(token);
        vm.prank(owner);
        uint32 provider = registry.register("token", "https://token.example", 1, 0, type(uint32).max);
        _stake(owner, provider, MINIMUM_STAKE);
        vm.prank(owner);
        book.setCapacity(_capacity(10_000, 65_536, 4_096));
        OrderTerms memory terms = _terms();
        vm.prank(user);
        uint64 orderId = book.createOrder(account, id, 0, terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(provider, 90e18)));
        vm.warp(block.timestamp + 1_000);

        uint256 due = book.claimable(orderId);
        token.arm(address(book), abi.encodeCall(IOrderBook.settleAndWithdraw, (_ids(orderId), owner)));
        vm.prank(owner);
        assertEq(book.settleAndWithdraw(_ids(orderId), owner), due, "paid");
        assertFalse(token.called(), "the inner payment failed");
        assertEq(token.balanceOf(owner), due, "once");
    }

    /// @dev E11: closing never depends on a transfer. Whoever is blocked waits alone.
    function test_blocklistToken_blocksNobodyElse() public {
        BlocklistToken token = new BlocklistToken();
        uint8 id = tokens.list(address(token), "BLOCK", 2);
        token.mint(address(this), 1_000e18);
        token.approve(address(escrow), 1_000e18);
        escrow.deposit(account, id, 1_000e18);
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        vm.prank(user);
        uint64 orderId = book.createOrder(account, id, 0, terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(provider, 90e18)));
        vm.warp(block.timestamp + 1_000);

        token.setBlocked(owner, true);
        token.setBlocked(user, true);
        token.setBlocked(responder, true);
        token.setBlocked(foundation, true);
        book.settle(_ids(orderId));
        vm.prank(user);
        book.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        assertState(orderId, OrderState.ClosedByUser);
        uint256 credit = escrow.creditOf(owner, id);
        assertGt(credit, 0, "credited");
        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, owner));
        vm.prank(owner);
        escrow.withdrawCredit(id, owner);

        // The credit is still there, for another address or another day.
        address purse = makeAddress("purse");
        vm.prank(owner);
        assertEq(escrow.withdrawCredit(id, purse), credit, "to another address");
        assertEq(token.balanceOf(purse), credit, "received");
    }

    // -------------------------------------------------------------- governance

    function test_addFeeSchedule() public {
        FeeSchedule memory schedule = FeeSchedule(1_500, 500, 500, 7e15);
        vm.expectEmit(address(escrow));
        emit IEscrow.FeeScheduleAdded(3, schedule);
        assertEq(escrow.addFeeSchedule(schedule), 3, "id");
        assertEq(keccak256(abi.encode(escrow.feeSchedule(3))), keccak256(abi.encode(schedule)), "schedule");
        assertEq(escrow.feeScheduleCount(), 3, "count");

        vm.expectRevert(abi.encodeWithSelector(IEscrow.FeesTooHigh.selector, 2_501, 2_500));
        escrow.addFeeSchedule(FeeSchedule(2_000, 500, 1, 0));
        uint96 precise = (1 << 44) + 1;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.MatchFeeTooPrecise.selector, precise));
        escrow.addFeeSchedule(FeeSchedule(0, 0, 0, precise));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, 4));
        escrow.feeSchedule(4);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, 0));
        escrow.lockFor(1, 1, 0);
    }

    function test_addFeeSchedule_stopsAtTheLastId() public {
        for (uint256 id = 3; id <= 511; ++id) {
            escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0));
        }
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FeeSchedulesExhausted.selector, 511));
        escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0));
    }

    function test_setFoundation() public {
        address next = makeAddress("next foundation");
        vm.expectEmit(address(escrow));
        emit IEscrow.FoundationChanged(next);
        escrow.setFoundation(next);
        assertEq(escrow.foundation(), next, "foundation");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(0)));
        escrow.setFoundation(address(0));
    }

    function test_setToken_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotPaymentTokens.selector, address(this)));
        escrow.setToken(5, address(plain), true, 1);
        vm.startPrank(address(tokens));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenIdOutOfRange.selector, 32, 31));
        escrow.setToken(32, address(plain), true, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, 3));
        escrow.setToken(5, address(plain), true, 3);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TokenAddressFixed.selector, PLAIN_TOKEN, address(plain), address(spon))
        );
        escrow.setToken(PLAIN_TOKEN, address(spon), true, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenAddressFixed.selector, 5, address(0), address(0)));
        escrow.setToken(5, address(0), true, 1);
        vm.expectEmit(address(escrow));
        emit IEscrow.TokenSet(31, address(spon), false, 2);
        escrow.setToken(31, address(spon), false, 2);
        vm.stopPrank();
        (address tokenAddress, bool enabled, uint16 schedule) = escrow.tokenOf(31);
        assertEq(tokenAddress, address(spon), "address");
        assertFalse(enabled, "enabled");
        assertEq(schedule, 2, "schedule");
    }

    function test_governance_isRestricted() public {
        bytes memory unauthorized = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, user);
        vm.startPrank(user);
        vm.expectRevert(unauthorized);
        escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0));
        vm.expectRevert(unauthorized);
        escrow.setFoundation(user);
        vm.stopPrank();
    }

    function test_orderBookFunctions_areItsAlone() public {
        bytes memory refused = abi.encodeWithSelector(IEscrow.NotOrderBook.selector, address(this));
        vm.expectRevert(refused);
        escrow.lockOrder(account, PLAIN_TOKEN, user, 1, 1);
        vm.expectRevert(refused);
        escrow.releaseOrder(1, 0);
        vm.expectRevert(refused);
        escrow.openLeases(new uint256[](0), address(this));
        vm.expectRevert(refused);
        escrow.settleLease(1, 0, 1);
        vm.expectRevert(refused);
        escrow.settleAndCredit(1, 0, 1, address(this));
        vm.expectRevert(refused);
        escrow.settleAndPay(1, 0, 1, 1e18, address(this), address(this));
        vm.expectRevert(refused);
        escrow.closeLease(1, 0, 1, false, address(this));
    }
}
