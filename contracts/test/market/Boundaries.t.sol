// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {BidRequest, FeeSchedule, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "./MarketTest.sol";
import {FeeTakingToken, PlainToken, RebasingToken} from "./Tokens.sol";

/// @notice Halves everybody's balance in the middle of a transfer.
contract ShrinkingToken is RebasingToken {
    function transferFrom(address from, address to, uint256 amount) external override returns (bool) {
        _move(from, to, amount);
        index = index / 2;
        return true;
    }
}

/// @notice What stands exactly on a boundary, and what is written when nothing else shows it: mutation testing found these
/// places without a test (`script/mutation`).
contract BoundariesTest is MarketTest {
    uint96 private constant HIGHEST_RATE = (1 << 84) - 1;

    // ------------------------------------------------------------------- bids

    /// @dev A batch moves the bidder's position as single bids do.
    function test_placeBids_isRemembered() public {
        (address owner, uint32 provider) = _addProvider("provider");
        _addFizz("node", 70, provider);
        uint64 orderId = _createOrder();
        BidRequest[] memory bids = new BidRequest[](2);
        bids[0] = BidRequest(orderId, 0, 90e18);
        bids[1] = BidRequest(orderId, 70, 80e18);
        vm.startPrank(owner);
        book.placeBids(bids);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.BidsNotAscending.selector, orderId, 70, orderId, 70));
        book.placeBid(orderId, 70, 70e18);
        vm.stopPrank();
    }

    function test_placeBid_onACancelledOrder() public {
        (address owner,) = _addProvider("provider");
        uint64 orderId = _createOrder();
        vm.prank(user);
        book.cancelOrder(orderId);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, OrderState.Cancelled));
        _bid(owner, orderId, 90e18);
        BidRequest[] memory bids = new BidRequest[](1);
        bids[0] = BidRequest(orderId, 0, 90e18);
        vm.prank(owner);
        book.placeBids(bids);
        (, uint16 count) = book.bidsDigest(orderId);
        assertEq(count, 0, "passed over");
    }

    function test_placeBid_atTheOrdersRateAndAtTheHighest() public {
        (address owner,) = _addProvider("provider");
        uint64 orderId = _createOrder();
        _bid(owner, orderId, _terms().maximumRate);
        OrderTerms memory terms = _terms();
        terms.maximumRate = HIGHEST_RATE;
        _deposit(account, PLAIN_TOKEN, 1e28);
        orderId = _createOrder(terms);
        _bid(owner, orderId, HIGHEST_RATE);
        (, uint16 count) = book.bidsDigest(orderId);
        assertEq(count, 1, "bid");
    }

    // --------------------------------------------------------------- brackets

    /// @dev Locked money counts, the new bracket is kept, and what does not change is not announced.
    function test_updateBracket_isKept() public {
        uint32 opened = escrow.open(user);
        _deposit(opened, PLAIN_TOKEN, 240e18);
        assertEq(escrow.bracketOf(opened, PLAIN_TOKEN), 5, "240 dollars");
        vm.prank(user);
        book.createOrder(opened, PLAIN_TOKEN, 0, _terms());
        vm.recordLogs();
        assertEq(escrow.updateBracket(opened, PLAIN_TOKEN), 5, "with the lock");
        assertEq(vm.getRecordedLogs().length, 0, "nothing changed");
        feed.setAnswer(2e8);
        assertEq(escrow.updateBracket(opened, PLAIN_TOKEN), 6, "480 dollars");
        assertEq(escrow.bracketOf(opened, PLAIN_TOKEN), 6, "kept");
    }

    function test_withdraw_announcesNoBracketThatStays() public {
        uint32 opened = escrow.open(user);
        _deposit(opened, PLAIN_TOKEN, 10e18);
        vm.recordLogs();
        vm.prank(user);
        escrow.withdraw(opened, PLAIN_TOKEN, 1e18, user);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 index = 0; index < logs.length; ++index) {
            assertNotEq(logs[index].topics[0], IEscrow.BracketChanged.selector, "below the first bracket");
        }
        assertEq(logs.length, 2, "withdrawn and moved");
    }

    // --------------------------------------------------------------- deposits

    function test_deposit_thatLeavesLessThanBefore() public {
        ShrinkingToken token = new ShrinkingToken();
        uint8 id = _list(address(token), "SHRINK", PLAIN_SCHEDULE);
        token.mint(address(escrow), 100e18);
        token.mint(address(this), 10e18);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferMismatch.selector, address(token), 10e18, 0));
        escrow.deposit(account, id, 10e18);
    }

    function test_deposit_namesWhatArrived() public {
        FeeTakingToken token = new FeeTakingToken();
        uint8 id = _list(address(token), "FEE", PLAIN_SCHEDULE);
        token.mint(address(escrow), 7e18);
        token.mint(address(this), 100e18);
        token.approve(address(escrow), 100e18);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TransferMismatch.selector, address(token), 100e18, 99e18));
        escrow.deposit(account, id, 100e18);
    }

    function test_deposit_announcesNoBracketThatStays() public {
        uint32 opened = escrow.open(user);
        _deposit(opened, PLAIN_TOKEN, 16e18);
        plain.mint(address(this), 1e18);
        plain.approve(address(escrow), 1e18);
        vm.recordLogs();
        escrow.deposit(opened, PLAIN_TOKEN, 1e18);
        assertEq(vm.getRecordedLogs().length, 2, "moved and deposited");
        assertEq(escrow.bracketOf(opened, PLAIN_TOKEN), 1, "still");
    }

    function test_deposit_namesTheGasItNeeds() public {
        plain.mint(address(this), 1);
        plain.approve(address(escrow), 1);
        bytes memory call = abi.encodeCall(IEscrow.deposit, (account, PLAIN_TOKEN, 1));
        uint256 spent = 250_000;
        uint256 needed = spent + spent / 63 + 5_000;
        bytes32 expected = keccak256(abi.encodeWithSelector(IEscrow.GasTooLow.selector, needed));
        bool named = false;
        for (uint256 gas = 100_000; gas <= 600_000 && !named; gas += 10_000) {
            (, bytes memory reason) = address(escrow).call{gas: gas}(call);
            named = keccak256(reason) == expected;
        }
        assertTrue(named, "what the look-up needs");
    }

    // ----------------------------------------------------------------- tokens

    /// @dev Whether a token is enabled stands in its slot beside its schedule, and is neither read from nor written to it.
    function test_delisted_withAnOddCommission() public {
        FeeSchedule memory schedule =
            FeeSchedule({commission: 2_001, userFee: 0, providerFee: 0, gatewayShare: 0, matchFee: MATCH_FEE});
        uint16 id = escrow.addFeeSchedule(schedule, 2_001);
        uint8 token = _list(address(new PlainToken(18)), "ODD", id);
        tokens.setStatus(token, IPaymentTokens.Status.Delisted);
        (, bool enabled,) = escrow.tokenOf(token);
        assertFalse(enabled, "delisted");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenNotEnabled.selector, token));
        vm.prank(user);
        book.createOrder(account, token, 0, _terms());
    }

    function test_delisted_paysAsBefore() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        vm.warp(block.timestamp + 1_000);
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        book.settle(_ids(orderId));
        uint256 gross = uint256(90e18) * 1_000 / 36_000;
        assertEq(escrow.creditOf(owner, PLAIN_TOKEN), gross - gross * 2_200 / 10_000, "to the unit");
    }

    // --------------------------------------------------------------- payments

    /// @dev A single unit is paid like any other amount, to the supplier and to its gateway.
    function test_oneUnit_isPaid() public {
        (address owner, uint32 provider) = _addProvider("provider");
        address node = _addFizz("node", 70, provider);
        OrderTerms memory terms = _terms();
        uint64 single = _lease(owner, provider, 36, terms);
        uint64 shared = _createOrder(terms);
        vm.prank(owner);
        book.placeBid(shared, 70, 432);
        uint256 closeBlock = book.order(shared).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(shared, terms, (uint256(70) << 86) | _rank(provider, 432)));
        vm.warp(block.timestamp + 1_000);
        vm.prank(owner);
        assertEq(book.settleAndWithdraw(_ids(single), owner), 1, "one unit");
        assertEq(plain.balanceOf(owner), 1, "sent");
        // Twelve units gross, ten net, of which a tenth is the gateway's.
        vm.prank(node);
        assertEq(book.settleAndWithdraw(_ids(shared), node), 9, "the node's");
        assertEq(escrow.creditOf(owner, PLAIN_TOKEN), 1, "the gateway's");
    }

    /// @dev A lease that was closed inside its hold is paid once, whoever settles it and whoever collects.
    function test_settledThenCollected_paysOnce() public {
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        uint64 orderId = _lease(owner, provider, 90e18, terms);
        // Another lock of the account, which a second payment would eat.
        _createOrder(terms);
        (, uint256 otherLock,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 start = block.timestamp;
        vm.warp(start + 100);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        vm.warp(start + CHALLENGE_WINDOW);
        book.settle(_ids(orderId));
        uint256 fees = escrow.creditOf(foundation, PLAIN_TOKEN);
        uint256 credit = escrow.creditOf(owner, PLAIN_TOKEN);
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertLt(locked, otherLock, "its lock is gone");
        vm.prank(owner);
        assertEq(book.settleAndWithdraw(_ids(orderId), owner), credit, "the credit");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), fees, "fees");
        (, uint256 lockedAfter,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(lockedAfter, locked, "locked");
    }

    function test_openLeases_creditsNoOtherToken() public {
        (address owner, uint32 provider) = _addProvider("provider");
        _lease(owner, provider, 90e18);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "match fee");
        assertEq(escrow.creditOf(responder, type(uint8).max), 0, "of no token");
    }

    /// @dev There may be a credit whenever the supplier was credited since its last withdrawal; here it took it by itself.
    function test_settleAndWithdraw_announcesNoEmptyCredit() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        vm.warp(block.timestamp + 1_000);
        book.settle(_ids(orderId));
        vm.startPrank(owner);
        escrow.withdrawCredit(PLAIN_TOKEN, owner);
        vm.warp(block.timestamp + 100);
        vm.recordLogs();
        book.settleAndWithdraw(_ids(orderId), owner);
        vm.stopPrank();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 index = 0; index < logs.length; ++index) {
            assertNotEq(logs[index].topics[0], IEscrow.CreditWithdrawn.selector, "nothing was credited");
        }
    }

    // ------------------------------------------------------------------- fees

    /// @dev A lock covers the part of a unit that the stream and the fee on it begin.
    function test_lock_roundsTheSmallestPartUp() public {
        assertEq(escrow.lockFor(1, 36_001, SPON_SCHEDULE) - MATCH_FEE, 2, "a unit and a 36 000th");
        assertEq(escrow.lockFor(1, 36_000, SPON_SCHEDULE) - MATCH_FEE, 1, "a unit");
        FeeSchedule memory schedule =
            FeeSchedule({commission: 0, userFee: 1, providerFee: 0, gatewayShare: 0, matchFee: 0});
        uint16 id = escrow.addFeeSchedule(schedule, 0);
        assertEq(escrow.lockFor(1, 36_000, id), 2, "a ten thousandth of a unit");
    }

    /// @dev Whatever schedule the token has by then: the shortcut through the token's slot is taken for its own schedule only.
    function test_release_underEveryLaterSchedule() public {
        uint64[4] memory orders;
        for (uint256 index = 0; index < orders.length; ++index) {
            vm.prank(user);
            orders[index] = book.createOrder(account, SPON_TOKEN, 0, _terms());
        }
        for (uint256 index = 0; index < orders.length; ++index) {
            FeeSchedule memory schedule = FeeSchedule({
                commission: 0, userFee: uint16(100 + index), providerFee: 0, gatewayShare: 0, matchFee: 0
            });
            tokens.setFeeSchedule(SPON_TOKEN, escrow.addFeeSchedule(schedule, 0));
            vm.prank(user);
            book.cancelOrder(orders[index]);
        }
        assertBalances(account, SPON_TOKEN, 1_000_000e18, 0);
    }

    // ----------------------------------------------------------------- leases

    /// @dev A lease that was closed early has an end that lies just behind: nothing is low there, and the rating stays free.
    function test_announceLowFunds_leavesClosedLeasesAlone() public {
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        uint64 orderId = _lease(owner, provider, 90e18, terms);
        vm.warp(block.timestamp + 1_000);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        (uint256 word,,) = book.orderRecord(orderId);
        vm.recordLogs();
        leases.announceLowFunds(_ids(orderId));
        assertEq(vm.getRecordedLogs().length, 0, "nothing to announce");
        (uint256 wordAfter,,) = book.orderRecord(orderId);
        assertEq(wordAfter, word, "as it was");
        vm.prank(user);
        leases.rateLease(orderId, 9);
    }

    /// @dev A single second is paid, and can be rated.
    function test_rateLease_ofOneSecond() public {
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        uint64 orderId = _lease(owner, provider, 90e18, terms);
        vm.warp(block.timestamp + 1);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        book.settle(_ids(orderId));
        assertEq(book.order(orderId).settledFor, 1, "one second");
        vm.prank(user);
        leases.rateLease(orderId, 9);
    }

    function test_undoLease_leavesNoNote() public {
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        uint64 orderId = _lease(owner, provider, 90e18, terms);
        vm.prank(disputes);
        leases.undoLease(orderId, _leaseResources(terms));
        (uint256 word,,) = book.orderRecord(orderId);
        assertEq((word >> 248) & 1, 0, "noted");
    }

    /// @dev The hold is over at its last second's end: the close pays.
    function test_closeLease_whenTheHoldEnds() public {
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        uint64 orderId = _lease(owner, provider, 90e18, terms);
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        assertEq(book.order(orderId).settledFor, CHALLENGE_WINDOW, "paid");
        uint256 gross = uint256(90e18) * CHALLENGE_WINDOW / 36_000;
        assertEq(escrow.creditOf(owner, PLAIN_TOKEN), gross - gross * 2_200 / 10_000, "at once");
    }

    /// @dev What is not settled is not said to be.
    function test_noSettlement_isAnnouncedTwice() public {
        (address owner, uint32 provider) = _addProvider("provider");
        OrderTerms memory terms = _terms();
        uint64 first = _lease(owner, provider, 90e18, terms);
        uint64 second = _lease(owner, provider, 90e18, terms);
        uint64 held = _lease(owner, provider, 90e18, terms);
        vm.recordLogs();
        vm.warp(block.timestamp + 10);
        vm.prank(user);
        leases.closeLease(held, OrderState.ClosedByUser, _leaseResources(terms));
        assertEq(_settlements(), 0, "inside the hold");
        vm.warp(block.timestamp + 990);
        book.settle(_ids(first));
        assertEq(_settlements(), 1, "settled");
        book.settle(_ids(first));
        assertEq(_settlements(), 0, "in the same second");
        uint256 gross = uint256(90e18) * 1_000 / 36_000;
        uint256 net = gross - gross * 2_200 / 10_000;
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (first, second);
        vm.prank(owner);
        assertEq(book.settleAndWithdraw(both, owner), 2 * net, "the credit and the second");
        assertEq(_settlements(), 1, "of the second");
        vm.warp(block.timestamp + 1_000);
        vm.prank(owner);
        book.settleAndWithdraw(both, owner);
        assertEq(_settlements(), 2, "of both");
        book.settle(_ids(second));
        vm.prank(user);
        leases.closeLease(second, OrderState.ClosedByUser, _leaseResources(terms));
        assertEq(_settlements(), 0, "nothing new at the close");
        vm.warp(block.timestamp + 100);
        book.settle(_ids(first));
        assertEq(_settlements(), 1, "a credit");
        vm.prank(owner);
        book.settleAndWithdraw(_ids(first), owner);
        assertEq(_settlements(), 0, "only the credit is sent");
    }

    // ---------------------------------------------------------------- answers

    function test_openLeases_whoCannotServeKeepsItsCapacity() public {
        (address owner, uint32 provider) = _addProvider("provider");
        (, uint32 small) = _addProvider("small", _capacity(50, 65_536, 4_096));
        (uint256 before,,) = book.capacityOf(small);
        uint64 orderId = _createOrder();
        _bid(owner, orderId, 90e18);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        uint256[] memory ranks = new uint256[](8);
        for (uint256 index = 0; index < 7; ++index) {
            ranks[index] = _rank(small, 80e18);
        }
        ranks[7] = _rank(provider, 90e18);
        _openLeases(closeBlock, _matches(orderId, _terms(), ranks));
        assertEq(book.order(orderId).supplier, provider, "the last of eight");
        (uint256 left,,) = book.capacityOf(small);
        assertEq(left, before, "untouched");
        assertFalse(book.hasLease(small), "none");
    }

    function test_bidsDigest_ofNoOrder() public {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, 77, OrderState.None));
        book.bidsDigest(77);
    }

    // ------------------------------------------------------------------- GPUs

    /// @dev One GPU is some: an update looks for it in every entry, and a top model counts four times.
    function test_oneGpu() public {
        uint256 capacity = _withGpus(_capacity(10_000, 65_536, 4_096), 2, 7, 1);
        (address owner, uint32 provider) = _addProvider("provider", capacity);
        OrderTerms memory terms = _terms();
        uint64 orderId = _lease(owner, provider, 90e18, terms);
        OrderTerms memory wanted = _terms();
        wanted.resources = _resources(100, 64, 4, 1, 1 << 7);
        vm.prank(user);
        leases.proposeUpdate(orderId, wanted, uint40(block.timestamp + 60));
        vm.prank(owner);
        uint64 updated = leases.acceptUpdate(orderId, _leaseResources(terms), wanted, 90e18);
        assertEq(book.order(updated).gpuEntry, 2, "where it is");

        book.setTopGpus(1 << 7);
        uint32 opened = escrow.open(user);
        _deposit(opened, PLAIN_TOKEN, 16e18);
        wanted.maximumRate = 1e18;
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.AboveBracket.selector, wanted.resources, 1, 3));
        vm.prank(user);
        book.createOrder(opened, PLAIN_TOKEN, 0, wanted);
    }

    // ------------------------------------------------------ neighbours in a word

    /// @dev The pause stands beside the task manager's address, and no bit of one is taken for the other.
    function test_openLeases_byATaskManagerOfAnyAddress() public {
        (address owner, uint32 provider) = _addProvider("provider");
        taskManager = address(uint160(makeAddress("another")) | 1);
        book.proposeCollaborator(IOrderBook.Collaborator.TaskManager, taskManager);
        vm.roll(block.number + 10_000);
        vm.warp(block.timestamp + 1 days);
        book.acceptCollaborator(IOrderBook.Collaborator.TaskManager);
        _lease(owner, provider, 90e18);
    }

    /// @dev Rights are the account's, the spender's and the token's, whatever the numbers: none is found under another's.
    function test_spendingRights_ofNeighbours() public {
        uint32 even = escrow.open(user);
        uint32 odd = escrow.open(user);
        assertEq(uint256(even ^ odd), 1, "neighbours");
        address spender = address((uint160(1) << 159) | 0x5500);
        SpendingRight memory right = SpendingRight(1e18, uint40(block.timestamp + 1), true);
        vm.prank(user);
        escrow.setSpendingRight(even, spender, PLAIN_TOKEN, right);
        assertTrue(escrow.mayClose(even, PLAIN_TOKEN, spender), "given");
        assertFalse(escrow.mayClose(odd, PLAIN_TOKEN, spender), "another account");
        assertFalse(escrow.mayClose(account, PLAIN_TOKEN, spender), "the first account");
        assertFalse(escrow.mayClose(even, SPON_TOKEN, spender), "another token");
        assertFalse(escrow.mayClose(even, PLAIN_TOKEN, address(uint160(spender) ^ 1)), "another spender");
        assertFalse(escrow.mayClose(even, PLAIN_TOKEN, address(uint160(spender) ^ (1 << 159))), "far away");
        assertFalse(escrow.mayClose(odd, PLAIN_TOKEN, address(uint160(spender) ^ (1 << 159))), "both");
    }

    function test_addSupplier_zeroBehindAGateway() public {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.UnknownSupplier.selector, 0));
        vm.prank(address(registry));
        book.addSupplier(0, user, 5);
    }

    function _settlements() private returns (uint256 count) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 index = 0; index < logs.length; ++index) {
            if (logs[index].topics[0] == IOrderBook.LeaseSettled.selector) ++count;
        }
    }
}
