// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {LeaseResources, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice What others may do with an account, and what is left of it when the account changes hands.
contract SpendingRightsTest is MarketTest {
    address private _spender = makeAddress("spender");
    address private _buyer = makeAddress("buyer");
    uint40 private _expiry;
    uint256 private _lock;

    function setUp() public override {
        super.setUp();
        _expiry = uint40(block.timestamp + 1 days);
        _lock = escrow.lockFor(_terms().maximumRate, _terms().duration, PLAIN_SCHEDULE);
    }

    // ------------------------------------------------------------------ granting

    function test_setSpendingRight_isTheOwners() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.SpendingRightSet(account, _spender, PLAIN_TOKEN, 5e18, _expiry, true);
        _grant(5e18, _expiry, true);
        _assertRight(5e18, _expiry, true);
        _assertNoRight(SPON_TOKEN, _spender);
        _assertNoRight(PLAIN_TOKEN, responder);

        _grant(0, 0, false);
        _assertNoRight(PLAIN_TOKEN, _spender);
    }

    function test_setSpendingRight_refusals() public {
        SpendingRight memory right = SpendingRight(5e18, _expiry, true);
        address[2] memory strangers = [_spender, address(this)];
        _grant(5e18, _expiry, true);
        for (uint256 index = 0; index < strangers.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, strangers[index], user));
            vm.prank(strangers[index]);
            escrow.setSpendingRight(account, _buyer, PLAIN_TOKEN, right);
        }
        vm.startPrank(user);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, 99, user, address(0)));
        escrow.setSpendingRight(99, _spender, PLAIN_TOKEN, right);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.SpenderIsOwner.selector, account, user));
        escrow.setSpendingRight(account, user, PLAIN_TOKEN, right);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, 9));
        escrow.setSpendingRight(account, _spender, 9, right);
        vm.stopPrank();
    }

    // ------------------------------------------------------------------ spending

    function test_limit_bothSides() public {
        _grant(uint112(_lock - 1), _expiry, false);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, _lock - 1, _lock
            )
        );
        _spend();
        _grant(uint112(_lock), _expiry, false);
        vm.expectEmit(address(escrow));
        emit IEscrow.Spent(account, _spender, PLAIN_TOKEN, _lock, 0);
        _spend();
        _assertRight(0, _expiry, false);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, 0, _lock)
        );
        _spend();
    }

    /// @dev What comes back from an order or a lease is the account's, not the spender's to lock again.
    function test_limit_isNotRefilled() public {
        _grant(uint112(2 * _lock - 1), _expiry, true);
        uint64 orderId = _spend();
        vm.prank(_spender);
        book.cancelOrder(orderId);
        _assertRight(uint112(_lock - 1), _expiry, true);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, _lock - 1, _lock
            )
        );
        _spend();
    }

    function test_expiry_bothSides() public {
        _grant(type(uint112).max, _expiry, true);
        uint64 orderId = _spend();
        vm.warp(_expiry - 1);
        _spend();
        assertTrue(escrow.mayClose(account, PLAIN_TOKEN, _spender), "in the last second");
        vm.warp(_expiry);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingRightExpired.selector, account, PLAIN_TOKEN, _spender, _expiry)
        );
        _spend();
        assertFalse(escrow.mayClose(account, PLAIN_TOKEN, _spender), "from its expiry on");
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, _spender, user));
        vm.prank(_spender);
        book.cancelOrder(orderId);
    }

    function test_strangers_lockNothing() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        _spend();
        // Taken back is none.
        _grant(type(uint112).max, _expiry, true);
        _grant(0, 0, false);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        _spend();
        // A limit without a time is none either.
        _grant(type(uint112).max, 0, true);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingRightExpired.selector, account, PLAIN_TOKEN, _spender, 0)
        );
        _spend();
        assertFalse(escrow.mayClose(account, PLAIN_TOKEN, _spender), "may not close");
    }

    /// @dev How often a right was set is no right: set to nothing, once or after others, its spender is a stranger everywhere.
    function test_setToNothing_isNoRight() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        OrderTerms memory terms = _terms();
        for (uint256 round = 0; round < 2; ++round) {
            _grant(0, 0, false);
            _assertNoRight(PLAIN_TOKEN, _spender);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
            _spend();
            vm.startPrank(_spender);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
            leases.extendLease(orderId, 60);
            vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, _spender, user));
            leases.proposeUpdate(orderId, terms, _expiry);
            vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, _spender, user));
            leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
            vm.stopPrank();
            _grant(type(uint112).max, _expiry, true);
        }
        // With any one of the three it is somebody, as before.
        _grant(0, _expiry, false);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, 0, _lock)
        );
        _spend();
        _grant(0, 0, true);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingRightExpired.selector, account, PLAIN_TOKEN, _spender, 0)
        );
        _spend();
        _grant(1, 0, false);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingRightExpired.selector, account, PLAIN_TOKEN, _spender, 0)
        );
        _spend();
    }

    /// @dev What is spent is taken from the limit alone: the count of settings beside it stays.
    function test_limit_isApartFromTheCount() public {
        _grant(uint112(_lock), _expiry, true);
        _grant(uint112(_lock), _expiry, true);
        uint56 basis = escrow.basisOf(account, PLAIN_TOKEN, _spender);
        _spend();
        _assertRight(0, _expiry, true);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), basis, "set twice");
    }

    /// @dev A limit is not money: what is unlocked bounds everybody.
    function test_limit_isNotABalance() public {
        _grant(type(uint112).max, _expiry, false);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 1_000_000e18 - _lock + 1, user);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, account, PLAIN_TOKEN, _lock - 1, _lock)
        );
        _spend();
        _assertRight(type(uint112).max, _expiry, false);
    }

    function test_tokens_areApart() public {
        _grant(type(uint112).max, _expiry, true);
        OrderTerms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        vm.prank(_spender);
        book.createOrder(account, SPON_TOKEN, 0, terms);
        assertFalse(escrow.mayClose(account, SPON_TOKEN, _spender), "may not close in another token");
    }

    function test_spenders_withdrawNothing() public {
        _grant(type(uint112).max, _expiry, true);
        vm.startPrank(_spender);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        escrow.withdraw(account, PLAIN_TOKEN, 1, _spender);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingToWithdraw.selector, _spender, PLAIN_TOKEN));
        escrow.withdrawCredit(PLAIN_TOKEN, _spender);
        vm.expectRevert(abi.encodeWithSelector(IERC721Errors.ERC721InsufficientApproval.selector, _spender, account));
        escrow.transferFrom(user, _spender, account);
        vm.stopPrank();
    }

    function test_extension_isTakenFromTheLimit() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        // 90 tokens in ten hours, and the user fee on top.
        uint256 hour = 9e18 + 0.18e18;
        _grant(uint112(hour - 1), _expiry, false);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, hour - 1, hour
            )
        );
        vm.prank(_spender);
        leases.extendLease(orderId, 3_600);
        _grant(uint112(hour), _expiry, false);
        vm.prank(_spender);
        leases.extendLease(orderId, 3_600);
        _assertRight(0, _expiry, false);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _buyer, user));
        vm.prank(_buyer);
        leases.extendLease(orderId, 1);
    }

    /// @dev A proposal is paid for in limit when it is made, with its worst case and without a match fee; the acceptance takes
    /// nothing more.
    function test_update_isTakenFromTheLimitOnce() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        OrderTerms memory terms = _terms();
        uint256 worst = _lock - MATCH_FEE;
        _grant(uint112(worst - 1), _expiry, true);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, worst - 1, worst
            )
        );
        vm.prank(_spender);
        leases.proposeUpdate(orderId, terms, _expiry);
        _grant(uint112(worst), _expiry, true);
        vm.prank(_spender);
        leases.proposeUpdate(orderId, terms, _expiry);
        _assertRight(0, _expiry, true);
        vm.warp(block.timestamp + 60);
        vm.prank(owner);
        uint64 updatedId = leases.acceptUpdate(orderId, _leaseResources(terms), terms, 80e18);
        assertState(updatedId, OrderState.Leased);
        assertState(orderId, OrderState.ClosedUpdated);
        _assertRight(0, _expiry, true);
    }

    function test_mayClose_isNamedSeparately() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        LeaseResources memory resources = _leaseResources(_terms());
        _grant(type(uint112).max, _expiry, false);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, _spender, user));
        vm.prank(_spender);
        leases.closeLease(orderId, OrderState.ClosedByUser, resources);
        _grant(0, _expiry, true);
        vm.prank(_spender);
        leases.closeLease(orderId, OrderState.ClosedByUser, resources);
        assertState(orderId, OrderState.ClosedByUser);
        assertTrue(escrow.mayClose(account, PLAIN_TOKEN, user), "the owner may");
        assertFalse(escrow.mayClose(account, PLAIN_TOKEN, address(0)), "nobody may not");
        assertFalse(escrow.mayClose(99, PLAIN_TOKEN, address(0)), "nor of an account that is not there");
    }

    // ------------------------------------------------------------------ changing hands

    function test_rights_endWhenTheAccountChangesHands() public {
        _grant(type(uint112).max, _expiry, true);
        assertEq(escrow.epochOf(account), 0, "first epoch");
        vm.prank(user);
        escrow.transferFrom(user, _buyer, account);
        assertEq(escrow.epochOf(account), 1, "second epoch");
        _assertNoRight(PLAIN_TOKEN, _spender);
        assertFalse(escrow.mayClose(account, PLAIN_TOKEN, _spender), "may not close");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, _buyer));
        _spend();

        // Not when it comes back, either: who sold it once grants again.
        vm.prank(_buyer);
        escrow.transferFrom(_buyer, user, account);
        assertEq(escrow.epochOf(account), 2, "third epoch");
        _assertNoRight(PLAIN_TOKEN, _spender);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        _spend();
        _grant(uint112(_lock), _expiry, false);
        _spend();
    }

    /// @dev Handed to itself, it is in new hands as well.
    function test_rights_endWithEveryTransfer() public {
        _grant(type(uint112).max, _expiry, true);
        vm.prank(user);
        escrow.transferFrom(user, user, account);
        _assertNoRight(PLAIN_TOKEN, _spender);
    }

    /// @dev Opening and approving are no change of hands, and other accounts have epochs of their own.
    function test_rights_outliveEverythingElse() public {
        _grant(type(uint112).max, _expiry, true);
        uint32 other = escrow.open(user);
        assertEq(escrow.epochOf(other), 0, "opened");
        vm.startPrank(user);
        escrow.approve(_buyer, account);
        escrow.setApprovalForAll(_buyer, true);
        escrow.transferFrom(user, _buyer, other);
        vm.stopPrank();
        _assertRight(type(uint112).max, _expiry, true);
        _spend();
    }

    /// @dev Approval of the account's token moves the account, never its money.
    function test_approval_movesTheAccountAndNoMoney() public {
        vm.startPrank(user);
        escrow.approve(_spender, account);
        escrow.setApprovalForAll(_spender, true);
        vm.stopPrank();
        vm.startPrank(_spender);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        escrow.withdraw(account, PLAIN_TOKEN, 1, _spender);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        book.createOrder(account, PLAIN_TOKEN, 0, _terms());
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _spender, user));
        escrow.setSpendingRight(account, _buyer, PLAIN_TOKEN, SpendingRight(1, _expiry, true));
        vm.stopPrank();
        assertFalse(escrow.mayClose(account, PLAIN_TOKEN, _spender), "may not close");
        // It moves the account, and with it the right to its money.
        vm.startPrank(_spender);
        escrow.transferFrom(user, _spender, account);
        escrow.withdraw(account, PLAIN_TOKEN, 1, _spender);
        vm.stopPrank();
    }

    /// @dev A lease goes with its account: what it returns is the buyer's, and the seller has no word in it any more.
    function test_handOver_withLiveLeases() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        uint64 openId = _createOrder();
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        LeaseResources memory resources = _leaseResources(_terms());
        vm.prank(user);
        leases.proposeUpdate(orderId, _terms(), _expiry);
        vm.prank(user);
        escrow.safeTransferFrom(user, _buyer, account);
        assertBalances(account, PLAIN_TOKEN, unlocked, locked);

        vm.startPrank(user);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, user, _buyer));
        escrow.withdraw(account, PLAIN_TOKEN, 1, user);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, user, _buyer));
        leases.closeLease(orderId, OrderState.ClosedByUser, resources);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, user, _buyer));
        leases.extendLease(orderId, 60);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, openId, user, _buyer));
        book.cancelOrder(openId);
        vm.stopPrank();

        // The seller's proposal binds the buyer to nothing.
        OrderTerms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, orderId));
        vm.prank(owner);
        leases.acceptUpdate(orderId, resources, terms, 90e18);
        assertState(orderId, OrderState.Leased);

        vm.warp(block.timestamp + 1_000);
        vm.startPrank(_buyer);
        book.cancelOrder(openId);
        leases.closeLease(orderId, OrderState.ClosedByUser, resources);
        uint256 spent = uint256(90e18) * 1_000 / 36_000;
        spent += spent * 200 / 10_000;
        assertBalances(account, PLAIN_TOKEN, 1_000_000e18 - MATCH_FEE - spent, 0);
        escrow.withdraw(account, PLAIN_TOKEN, 1_000_000e18 - MATCH_FEE - spent, _buyer);
        vm.stopPrank();
        assertEq(plain.balanceOf(_buyer), 1_000_000e18 - MATCH_FEE - spent, "the buyer's");
    }

    // ------------------------------------------------------------------ private

    function _grant(uint112 limit, uint40 expiry, bool mayClose) private {
        vm.prank(user);
        escrow.setSpendingRight(account, _spender, PLAIN_TOKEN, SpendingRight(limit, expiry, mayClose));
    }

    function _spend() private returns (uint64) {
        OrderTerms memory terms = _terms();
        vm.prank(_spender);
        return book.createOrder(account, PLAIN_TOKEN, 0, terms);
    }

    function _assertRight(uint112 limit, uint40 expiry, bool mayClose) private view {
        SpendingRight memory right = escrow.spendingRight(account, _spender, PLAIN_TOKEN);
        assertEq(right.limit, limit, "limit");
        assertEq(right.expiry, expiry, "expiry");
        assertEq(right.mayClose, mayClose, "may close");
    }

    function _assertNoRight(uint8 token, address spender) private view {
        SpendingRight memory right = escrow.spendingRight(account, spender, token);
        assertEq(right.limit, 0, "no limit");
        assertEq(right.expiry, 0, "no expiry");
        assertFalse(right.mayClose, "may not close");
    }
}
