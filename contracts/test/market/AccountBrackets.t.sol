// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {OrderState, OrderTerms} from "../../src/Types.sol";
import {HostileAnswer} from "../registry/Feeds.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice When an account's bracket rises and falls, and that nothing upgradeable stands between anybody and the money. A token
/// is a dollar here, unless a test says otherwise; what a bracket allows is in {OrderBracketsTest}.
contract AccountBracketsTest is MarketTest {
    uint32 private _account;
    address private _anyone = makeAddress("anyone");

    function setUp() public override {
        super.setUp();
        _account = escrow.open(user);
    }

    // ----------------------------------------------------------------- deposits

    /// @dev 15 dollars are bracket 1, and every doubling one more.
    function test_deposit_raises_bothSidesOfEveryBracket() public {
        uint256 held = 0;
        for (uint8 bracket = 1; bracket <= 32; ++bracket) {
            uint256 needed = uint256(15e18) << (bracket - 1);
            _deposit(_account, PLAIN_TOKEN, needed - held - 1);
            assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), bracket - 1, "a unit below");
            plain.mint(address(this), 1);
            plain.approve(address(escrow), 1);
            vm.expectEmit(address(escrow));
            emit IEscrow.BracketChanged(_account, PLAIN_TOKEN, bracket);
            escrow.deposit(_account, PLAIN_TOKEN, 1);
            assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), bracket, "reached");
            held = needed;
        }
        _deposit(_account, PLAIN_TOKEN, held * 100);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 32, "there is none above");
        assertEq(escrow.bracketOf(_account, SPON_TOKEN), 0, "tokens are apart");
    }

    /// @dev Neither money nor nonce is touched by a bracket, nor a bracket by an order.
    function test_bracket_staysInItsBits() public {
        _deposit(_account, PLAIN_TOKEN, 1_000e18);
        OrderTerms memory terms = _terms();
        vm.startPrank(user);
        uint64 orderId = book.createOrder(_account, PLAIN_TOKEN, 0, terms);
        vm.stopPrank();
        assertEq(uint24(orderId), 1, "nonce");
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 7, "960 to 1920 dollars");
        uint256 lock = escrow.lockFor(terms.maximumRate, terms.duration, PLAIN_SCHEDULE);
        assertBalances(_account, PLAIN_TOKEN, 1_000e18 - lock, lock);
        // Locked money is held as well.
        _deposit(_account, PLAIN_TOKEN, 920e18);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 8, "1920 dollars");
        vm.prank(user);
        book.cancelOrder(orderId);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 8, "after the order");
        assertBalances(_account, PLAIN_TOKEN, 1_920e18, 0);
    }

    function test_deposit_withADeadFeed_goesThrough() public {
        _deposit(_account, PLAIN_TOKEN, 100e18);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 3, "60 to 120 dollars");
        feed.setAnswer(0);
        _deposit(_account, PLAIN_TOKEN, 1_000e18);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 3, "as before");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoUsablePrice.selector, PLAIN_TOKEN));
        escrow.updateBracket(_account, PLAIN_TOKEN);
        feed.setAnswer(1e8);
        vm.prank(_anyone);
        assertEq(escrow.updateBracket(_account, PLAIN_TOKEN), 7, "when it lives again");
    }

    /// @dev A deposit, which anybody can make, takes nothing from an account; the price of today comes by {updateBracket}.
    function test_deposit_neverLowers() public {
        _deposit(_account, PLAIN_TOKEN, 480e18);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 6, "480 dollars");
        feed.setAnswer(0.5e8);
        _deposit(_account, PLAIN_TOKEN, 1);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 6, "as before");
        vm.expectEmit(address(escrow));
        emit IEscrow.BracketChanged(_account, PLAIN_TOKEN, 5);
        vm.prank(_anyone);
        assertEq(escrow.updateBracket(_account, PLAIN_TOKEN), 5, "at half the price");
        assertEq(escrow.updateBracket(_account, PLAIN_TOKEN), 5, "again");
        assertBalances(_account, PLAIN_TOKEN, 480e18 + 1, 0);
    }

    // --------------------------------------------------------------- withdrawals

    /// @dev Half of it is one step, a unit more is two, all of it is none left.
    function test_withdraw_lowers_bothSides() public {
        uint256 held = uint256(15e18) << 9;
        _deposit(_account, PLAIN_TOKEN, held);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 10, "at first");
        uint256[7] memory left = [held - 1, held / 2, held / 2 - 1, held / 4, held / 4 - 1, 1, 0];
        uint8[7] memory expected = [9, 9, 8, 8, 7, 0, 0];
        for (uint256 index = 0; index < left.length; ++index) {
            uint256 state = vm.snapshotState();
            vm.expectEmit(address(escrow));
            emit IEscrow.BracketChanged(_account, PLAIN_TOKEN, expected[index]);
            vm.prank(user);
            escrow.withdraw(_account, PLAIN_TOKEN, held - left[index], user);
            assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), expected[index], "after it");
            assertBalances(_account, PLAIN_TOKEN, left[index], 0);
            vm.revertToState(state);
        }
    }

    /// @dev It never ends above what is left at the price that the bracket was set at, nor in steps above what one would.
    function test_withdraw_entitlesToNothingMore(uint256 held, uint256 first, uint256 second) public {
        held = bound(held, 3, type(uint112).max);
        first = bound(first, 1, held - 2);
        second = bound(second, 1, held - first - 1);
        _deposit(_account, PLAIN_TOKEN, held);
        uint256 state = vm.snapshotState();
        vm.startPrank(user);
        escrow.withdraw(_account, PLAIN_TOKEN, first, user);
        escrow.withdraw(_account, PLAIN_TOKEN, second, user);
        vm.stopPrank();
        uint8 inTwo = escrow.bracketOf(_account, PLAIN_TOKEN);
        uint8 today = escrow.updateBracket(_account, PLAIN_TOKEN);
        assertLe(inTwo, today, "no more than a deposit of what is left");
        vm.revertToState(state);
        vm.prank(user);
        escrow.withdraw(_account, PLAIN_TOKEN, first + second, user);
        assertLe(inTwo, escrow.bracketOf(_account, PLAIN_TOKEN), "no more than at once");
    }

    /// @dev What is locked stays held.
    function test_withdraw_countsLocks() public {
        _deposit(_account, PLAIN_TOKEN, 30e18);
        OrderTerms memory terms = _terms();
        vm.prank(user);
        book.createOrder(_account, PLAIN_TOKEN, 0, terms);
        (uint256 unlocked,,) = escrow.balances(_account, PLAIN_TOKEN);
        vm.prank(user);
        escrow.withdraw(_account, PLAIN_TOKEN, unlocked, user);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 0, "10.21 of 30 dollars: two steps");
        _deposit(_account, PLAIN_TOKEN, 15e18);
        assertEq(escrow.bracketOf(_account, PLAIN_TOKEN), 1, "25.21 dollars");
    }

    /// @dev Whitepaper 4.6.3: nothing below 15 dollars.
    function test_createOrder_belowTheFirstBracket() public {
        _deposit(_account, PLAIN_TOKEN, 15e18 - 1);
        OrderTerms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.AboveBracket.selector, terms.resources, 0, 1));
        vm.prank(user);
        book.createOrder(_account, PLAIN_TOKEN, 0, terms);
        _deposit(_account, PLAIN_TOKEN, 1);
        vm.prank(user);
        book.createOrder(_account, PLAIN_TOKEN, 0, terms);
    }

    // ------------------------------------------------ whatever PaymentTokens are

    /// @dev A contract at the address of PaymentTokens that reverts, answers too much, too little or nonsense, or burns all it
    /// gets: deposits go through at a bounded price, and keep their brackets.
    function test_hostilePaymentTokens_blockNothing() public {
        (address owner, uint32 provider) = _addProvider("provider");
        for (uint8 mode = 0; mode <= uint8(HostileAnswer.Mode.Writes); ++mode) {
            uint256 state = vm.snapshotState();
            uint64 orderId = _lease(owner, provider, 90e18);
            uint64 openId = _createOrder();
            uint8 bracket = escrow.bracketOf(account, PLAIN_TOKEN);
            vm.etch(address(tokens), address(new HostileAnswer(HostileAnswer.Mode(mode))).code);

            _deposit(account, PLAIN_TOKEN, 1e18);
            assertLe(vm.lastCallGas().gasTotalUsed, 600_000, "a deposit");
            assertEq(escrow.bracketOf(account, PLAIN_TOKEN), bracket, "bracket");
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NoUsablePrice.selector, PLAIN_TOKEN));
            escrow.updateBracket(account, PLAIN_TOKEN);
            _everythingElseGoesOn(owner, orderId, openId);
            vm.revertToState(state);
        }
    }

    /// @dev A feed that is any of these only leaves brackets as they are, and the cap still holds.
    function test_hostileFeed_blocksNothing() public {
        (address owner, uint32 provider) = _addProvider("provider");
        for (uint8 mode = 0; mode <= uint8(HostileAnswer.Mode.DecimalsRevert); ++mode) {
            uint256 state = vm.snapshotState();
            uint64 orderId = _lease(owner, provider, 90e18);
            uint64 openId = _createOrder();
            uint8 bracket = escrow.bracketOf(account, PLAIN_TOKEN);
            vm.etch(address(feed), address(new HostileAnswer(HostileAnswer.Mode(mode))).code);

            _deposit(account, PLAIN_TOKEN, 1e18);
            assertLe(vm.lastCallGas().gasTotalUsed, 600_000, "a deposit");
            assertEq(escrow.bracketOf(account, PLAIN_TOKEN), bracket, "bracket");
            vm.expectRevert(abi.encodeWithSelector(IPaymentTokens.FeedBroken.selector, address(feed)));
            tokens.price(PLAIN_TOKEN);
            (uint8 assessed,) = tokens.assess(PLAIN_TOKEN, 1e18);
            assertEq(assessed, 255, "not assessed");
            _everythingElseGoesOn(owner, orderId, openId);

            tokens.setCap(PLAIN_TOKEN, 1);
            plain.mint(address(this), 1);
            plain.approve(address(escrow), 1);
            vm.expectPartialRevert(IEscrow.CapExceeded.selector);
            escrow.deposit(account, PLAIN_TOKEN, 1);
            vm.revertToState(state);
        }
    }

    function _everythingElseGoesOn(address owner, uint64 orderId, uint64 openId) private {
        vm.startPrank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 1e18, user);
        book.cancelOrder(openId);
        leases.extendLease(orderId, 60);
        vm.stopPrank();
        vm.warp(block.timestamp + 1_000);
        book.settle(_ids(orderId));
        vm.warp(block.timestamp + 60);
        vm.prank(owner);
        book.settleAndWithdraw(_ids(orderId), owner);
        _close(user, orderId, OrderState.ClosedByUser);
        uint256 credit = escrow.creditOf(owner, PLAIN_TOKEN) + escrow.creditOf(foundation, PLAIN_TOKEN);
        assertGt(credit, 0, "credited");
        vm.prank(foundation);
        escrow.withdrawCredit(PLAIN_TOKEN, foundation);
    }
}
