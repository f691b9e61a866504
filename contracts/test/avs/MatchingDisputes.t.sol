// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {CommissionSplit} from "../../src/avs/CommissionSplit.sol";
import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {MatchingDisputes} from "../../src/avs/MatchingDisputes.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderState, OrderTerms, Task} from "../../src/Types.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @dev Reserves that do what they should not.
contract RevertingReserve {
    function rewardChallenger(address) external pure returns (uint256) {
        revert("empty");
    }
}

contract GreedyReserve {
    function rewardChallenger(address) external pure returns (uint256) {
        while (true) {}
        return 1;
    }
}

contract SilentReserve {
    function rewardChallenger(address) external pure {}
}

/// @notice What a challenge proves, and what it does to the lease and to money.
contract MatchingDisputesTest is DisputesTest {
    address[3] private _owners;
    uint32[3] private _providers;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 3; i++) {
            (_owners[i], _providers[i]) = _addProvider(string.concat("provider", vm.toString(i)));
        }
    }

    // ------------------------------------------------------------ wrong leases

    function test_wrong_winner_is_undone() public {
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        (uint256 capacity,,) = book.capacityOf(_providers[1]);
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
        assertState(orderId, OrderState.Leased);
        assertEq(book.order(orderId).supplier, _providers[1], "the dearer one got it");

        vm.warp(vm.getBlockTimestamp() + 100);
        vm.expectEmit(disputes);
        emit IMatchingDisputes.AnswerProvenWrong(_verdict(answer), orderId, answer.task.closeBlock, 0, challenger, true);
        bytes32 verdict = _challenge(orderId, answer);

        assertEq(verdict, _verdict(answer), "verdict");
        assertState(orderId, OrderState.ClosedUndone);
        assertEq(book.order(orderId).duration, 0, "nothing is billed");
        assertBalances(account, PLAIN_TOKEN, unlocked - MATCH_FEE, 0);
        (uint256 free,,) = book.capacityOf(_providers[1]);
        assertEq(free, capacity, "capacity is back");
        (uint32 provenAt, uint32 closeBlock, address by) = matchingDisputes.verdictOf(verdict);
        assertEq(provenAt, vm.getBlockNumber(), "proven at");
        assertEq(closeBlock, answer.task.closeBlock, "close block");
        assertEq(by, challenger, "challenger");

        // Nor later.
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_WINDOW + 3_600);
        vm.prank(_owners[1]);
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NothingDue.selector, orderId));
        book.settleAndWithdraw(_ids(orderId), _owners[1]);
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), 0, "no commission");
    }

    function test_wrong_rate_is_undone() public {
        uint64 orderId = _order();
        uint256[] memory ranks = _right(orderId);
        ranks[0] = _rank(_providers[0], 51e18);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, ranks);
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);
    }

    function test_wrong_gpu_entry_is_undone() public {
        uint256 capacity = _withGpus(_withGpus(_capacity(10_000, 65_536, 4_096), 0, 3, 8), 1, 4, 8);
        (address owner, uint32 id) = _addProvider("gpus", capacity);
        OrderTerms memory terms = _terms();
        terms.resources = _resources(100, 64, 4, 1, (1 << 3) | (1 << 4));
        uint64 orderId = _createOrder(terms);
        _bidAndKeep(owner, orderId, 50e18);
        uint256[] memory ranks = _right(orderId, terms);
        assertEq(ranks[0], _rank(id, 50e18), "the first entry that is acceptable");
        ranks[0] |= 1;
        IMatchingDisputes.Answer memory answer =
            _answer(_closeBlock(orderId), _matches(orderId, terms, ranks), EVERYBODY);
        assertEq(book.order(orderId).gpuEntry, 1, "the second was taken");
        _challenge(orderId, _inputs(orderId, terms), answer);
        assertState(orderId, OrderState.ClosedUndone);
        (uint256 free,,) = book.capacityOf(id);
        assertEq(free, capacity, "capacity is back");
    }

    function test_wrong_order_of_later_ranks_is_a_verdict_alone() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 1, 2));
        _challengeWithoutUndoing(orderId, answer, OrderState.Leased);
        assertEq(book.order(orderId).supplier, _providers[0], "the best has it");
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_WINDOW);
        assertGt(_claimable(orderId), 0, "and is paid");
    }

    /// @dev The first had no room; the one taken after it is not the rule's second.
    function test_wrong_second_choice_is_undone() public {
        uint64 orderId = _order();
        _fill(0);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 1, 2));
        assertEq(book.order(orderId).supplier, _providers[2], "the third was taken");
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);
    }

    function test_right_second_choice_stays_whatever_is_wrong_after_it() public {
        uint64 orderId = _order();
        _fill(0);
        uint256[] memory ranks = _right(orderId);
        ranks[2] = _rank(_providers[2], 1);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, ranks);
        assertEq(book.order(orderId).supplier, _providers[1], "the second was taken");
        _challengeWithoutUndoing(orderId, answer, OrderState.Leased);
    }

    /// @dev The wrong first one had no room, so that the best got it after all.
    function test_the_rules_best_stays_whatever_was_answered() public {
        uint64 orderId = _order();
        _fill(1);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
        assertEq(book.order(orderId).supplier, _providers[0], "the best was taken");
        _challengeWithoutUndoing(orderId, answer, OrderState.Leased);
    }

    function test_missing_and_additional_ranks_are_wrong() public {
        uint64 orderId = _order();
        uint256[] memory right = _right(orderId);
        uint256[] memory more = new uint256[](4);
        uint256[] memory fewer = new uint256[](2);
        for (uint256 i = 0; i < 3; i++) {
            more[i] = right[i];
            if (i < 2) fewer[i] = right[i];
        }
        more[3] = _rank(_providers[0], 60e18);
        uint256 snapshot = vm.snapshotState();
        _challengeWithoutUndoing(orderId, _answerOne(orderId, more), OrderState.Leased);
        vm.revertToState(snapshot);
        _challengeWithoutUndoing(orderId, _answerOne(orderId, fewer), OrderState.Leased);
    }

    // ----------------------------------------------------- wrong other answers

    function test_wrong_expired() public {
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, new uint256[](0));
        assertState(orderId, OrderState.Expired);
        _challengeWithoutUndoing(orderId, answer, OrderState.Expired);
        assertBalances(account, PLAIN_TOKEN, unlocked, 0);
    }

    function test_lease_for_an_order_without_bids_is_undone() public {
        uint64 orderId = _createOrder();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _list(_rank(_providers[0], 50e18)));
        assertState(orderId, OrderState.Leased);
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);
    }

    function test_lease_of_an_invalid_bid_is_undone() public {
        OrderTerms memory terms = _terms();
        terms.excludedSuppliers = new uint32[](1);
        terms.excludedSuppliers[0] = _providers[0];
        uint64 orderId = _createOrder(terms);
        _bidAndKeep(_owners[0], orderId, 50e18);
        assertEq(_right(orderId, terms).length, 0, "no valid bid");
        IMatchingDisputes.Answer memory answer =
            _answer(_closeBlock(orderId), _matches(orderId, terms, _rank(_providers[0], 50e18)), EVERYBODY);
        _challenge(orderId, _inputs(orderId, terms), answer);
        assertState(orderId, OrderState.ClosedUndone);
    }

    function test_right_expired_is_right() public {
        uint64 orderId = _createOrder();
        _assertRight(orderId, _answerOne(orderId, new uint256[](0)));
    }

    /// @dev The order stays open, the rule matches it on chain, and that lease no challenge of the answer undoes, though it is not
    /// what the answer's ranks lead to.
    function test_wrong_resources_and_a_lease_by_the_rule() public {
        uint64 orderId = _order();
        uint256[] memory matches = _matches(orderId, _terms(), _rank(_providers[2], 90e18));
        matches[1] += 1;
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(orderId), matches, EVERYBODY);
        assertState(orderId, OrderState.Open);

        _fill(0);
        uint32 closeBlock = _closeBlock(orderId);
        vm.roll(closeBlock + RESPONSE_WINDOW + 1);
        vm.setBlockhash(closeBlock, _blockHash(closeBlock));
        vm.prank(anybody);
        tasks.matchOrder(orderId, _terms(), bidsOf[orderId], _bidOrder(bidsOf[orderId]));
        assertEq(book.order(orderId).supplier, _providers[1], "the second: the best has no room");
        assertTrue(tasks.matchedByRule(orderId), "by the rule");
        _challengeWithoutUndoing(orderId, answer, OrderState.Leased);
    }

    function test_wrong_rest_hash_is_wrong_though_the_ranks_are_right() public {
        uint64 orderId = _order();
        uint256[] memory matches = _matches(orderId, _terms(), _right(orderId));
        matches[2] ^= 1;
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(orderId), matches, EVERYBODY);
        _challengeWithoutUndoing(orderId, answer, OrderState.Open);
    }

    function test_malformed_rank_is_wrong() public {
        uint64 orderId = _order();
        uint256[] memory ranks = _right(orderId);
        ranks[0] |= 1 << 200;
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, ranks);
        assertEq(book.order(orderId).supplier, _providers[1], "passed over");
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);
    }

    // --------------------------------------------------------- several orders

    function test_every_wrong_order_of_an_answer_can_be_challenged_once() public {
        uint64[3] memory orders = [_order(), _order(), _order()];
        uint256[] memory matches;
        for (uint256 i = 0; i < 3; i++) {
            matches = _join(matches, _matches(orders[i], _terms(), _reorder(_right(orders[i]), 0, 1)));
        }
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(orders[0]), matches, EVERYBODY);
        bytes32 verdict = _challenge(orders[1], answer);
        for (uint256 i = 0; i < 3; i += 2) {
            vm.prank(anybody);
            assertEq(matchingDisputes.challenge(orders[i], _inputs(orders[i]), answer), verdict, "one verdict");
        }
        for (uint256 i = 0; i < 3; i++) {
            assertState(orders[i], OrderState.ClosedUndone);
            _expectRefusal(
                orders[i], answer, abi.encodeWithSelector(IMatchingDisputes.AlreadyProven.selector, orders[i])
            );
        }
        (,, address by) = matchingDisputes.verdictOf(verdict);
        assertEq(by, challenger, "the first one's");
    }

    /// @dev A second answer that speaks of an order which another chunk has matched right.
    function test_right_lease_stays_when_another_chunk_is_wrong_about_it() public {
        uint64 orderId = _order();
        _assertRight(orderId, _answerOne(orderId, _right(orderId)));
        IMatchingDisputes.Answer memory other;
        other.task = _task(_closeBlock(orderId));
        other.task.chunk = 1;
        other = _answer(other.task, _matches(orderId, _terms(), _rank(_providers[2], 90e18)), EVERYBODY);
        _challengeWithoutUndoing(orderId, other, OrderState.Leased);
    }

    // ------------------------------------------------------------- other states

    function test_lease_closed_inside_the_hold_is_undone() public {
        OrderState[2] memory reasons = [OrderState.ClosedByUser, OrderState.ClosedMaintenance];
        for (uint256 i = 0; i < 2; i++) {
            (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
            uint64 orderId = _order();
            IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
            vm.warp(vm.getBlockTimestamp() + 100);
            vm.prank(i == 0 ? user : _owners[1]);
            leases.closeLease(orderId, reasons[i], _leaseResources(_terms()));
            (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
            assertGt(locked, 0, "what accrued waits");
            _challenge(orderId, answer);
            assertState(orderId, OrderState.ClosedUndone);
            assertBalances(account, PLAIN_TOKEN, unlocked - MATCH_FEE, 0);
        }
    }

    function test_undone_until_the_hold_ends() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
        uint256 start = book.order(orderId).start;
        uint256 snapshot = vm.snapshotState();
        vm.warp(start + CHALLENGE_WINDOW - 1);
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);

        vm.revertToState(snapshot);
        vm.warp(start + CHALLENGE_WINDOW);
        _challengeWithoutUndoing(orderId, answer, OrderState.Leased);
    }

    function test_challenged_until_the_window_ends() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
        uint32 answeredAt = tasks.answeredAt(answer.task.closeBlock, 0);
        vm.roll(answeredAt + CHALLENGE_BLOCKS + 1);
        _expectRefusal(
            orderId,
            answer,
            abi.encodeWithSelector(
                IMatchingDisputes.ChallengeWindowOver.selector,
                answeredAt,
                answeredAt + CHALLENGE_BLOCKS,
                answeredAt + CHALLENGE_BLOCKS + 1
            )
        );
        vm.roll(answeredAt + CHALLENGE_BLOCKS);
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);
    }

    /// @dev Answered twice: nobody of the first answer had room. Each answer is judged by the bids of its own round.
    function test_both_rounds_of_a_requeued_order() public {
        uint64 orderId = _order();
        uint256[] memory right = _right(orderId);
        _fill(1);
        uint256[] memory ranks = new uint256[](1);
        ranks[0] = right[1];
        IMatchingDisputes.Answer memory first = _answerOne(orderId, ranks);
        assertState(orderId, OrderState.Open);
        assertTrue(book.order(orderId).requeued, "requeued");
        IMatchingDisputes.Inputs memory firstInputs = _inputs(orderId);

        delete bidsOf[orderId];
        _bidAndKeep(_owners[2], orderId, 90e18);
        _bidAndKeep(_owners[0], orderId, 50e18);
        IMatchingDisputes.Inputs memory secondInputs = _inputs(orderId);
        IMatchingDisputes.Answer memory second = _answerOne(orderId, _reorder(_right(orderId), 0, 1));

        // The bids of the other round are none.
        vm.expectPartialRevert(IMatchingDisputes.WrongBids.selector);
        matchingDisputes.challenge(orderId, secondInputs, first);
        vm.expectPartialRevert(IMatchingDisputes.WrongBids.selector);
        matchingDisputes.challenge(orderId, firstInputs, second);

        _challenge(orderId, firstInputs, first);
        assertState(orderId, OrderState.Leased);
        _challenge(orderId, secondInputs, second);
        assertState(orderId, OrderState.ClosedUndone);
    }

    function test_honest_answer_before_a_requeue_is_right() public {
        uint64 orderId = _createOrder();
        _bidAndKeep(_owners[1], orderId, 70e18);
        _fill(1);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _right(orderId));
        assertTrue(book.order(orderId).requeued, "requeued");
        _assertRight(orderId, answer);
    }

    // ------------------------------------------------------------------ reward

    function test_first_challenger_is_rewarded_from_the_commission() public {
        CommissionSplit split = new CommissionSplit(
            address(accessManager),
            address(escrow),
            core_("rewards_coordinator"),
            address(serviceManager),
            address(coordinator)
        );
        escrow.setFoundation(address(split));
        split.setShares(1_000, 0);
        split.setReward(PLAIN_TOKEN, 0.25e18);
        matchingDisputes.setReserve(address(split));

        // A lease that ran its hour fills the reserve: a tenth of a fifth of 5 tokens, and of the fees.
        uint64 paid = _order();
        _assertRight(paid, _answerOne(paid, _right(paid)));
        vm.warp(vm.getBlockTimestamp() + 3_600 + GRACE_WINDOW);
        vm.prank(user);
        leases.closeLease(paid, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        split.collect(PLAIN_TOKEN);
        (uint256 reserve,,) = split.held(PLAIN_TOKEN);
        assertGt(reserve, 0.1e18, "reserve");

        uint64[2] memory orders = [_order(), _order()];
        uint256[] memory matches = _join(
            _matches(orders[0], _terms(), _reorder(_right(orders[0]), 0, 1)),
            _matches(orders[1], _terms(), _reorder(_right(orders[1]), 0, 1))
        );
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(orders[0]), matches, EVERYBODY);
        _challenge(orders[0], answer);
        uint256 expected = reserve < 0.25e18 ? reserve : 0.25e18;
        assertEq(split.rewardOf(challenger, PLAIN_TOKEN), expected, "reward");
        vm.prank(anybody);
        matchingDisputes.challenge(orders[1], _inputs(orders[1]), answer);
        assertEq(split.rewardOf(anybody, PLAIN_TOKEN), 0, "one for an answer");
        vm.prank(challenger);
        split.withdrawReward(PLAIN_TOKEN, challenger);
        assertEq(plain.balanceOf(challenger), expected, "paid out");
    }

    function test_no_reserve_and_bad_reserves_stop_nobody() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _reorder(_right(orderId), 0, 1));
        address[4] memory reserves =
            [address(0), address(new RevertingReserve()), address(new GreedyReserve()), address(new SilentReserve())];
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < 4; i++) {
            if (reserves[i] != address(0)) matchingDisputes.setReserve(reserves[i]);
            vm.expectEmit(disputes);
            emit IMatchingDisputes.RewardMissed(_verdict(answer), challenger);
            _challenge(orderId, answer);
            assertState(orderId, OrderState.ClosedUndone);
            vm.revertToState(snapshot);
        }
    }

    // -------------------------------------------------------------- governance

    function test_only_governance_names_slashers_and_the_reserve() public {
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, anybody);
        vm.startPrank(anybody);
        vm.expectRevert(refusal);
        matchingDisputes.setSlasher(address(verifier), address(slasher));
        vm.expectRevert(refusal);
        matchingDisputes.setReserve(address(slasher));
        vm.stopPrank();
        bytes memory noContract = abi.encodeWithSelector(IMatchingDisputes.NotAContract.selector, anybody);
        vm.expectRevert(noContract);
        matchingDisputes.setReserve(anybody);
        vm.expectRevert(noContract);
        matchingDisputes.setSlasher(anybody, address(slasher));
        vm.expectRevert(noContract);
        matchingDisputes.setSlasher(address(verifier), anybody);
        assertEq(matchingDisputes.slasherOf(address(verifier)), address(slasher), "slasher");
    }

    /// @dev The first choice had no room. A wrong answer in another chunk does not name the lease: it did not open it.
    function test_right_second_choice_stays_whatever_another_chunk_says() public {
        uint64 orderId = _order();
        _fill(0);
        _answerOne(orderId, _right(orderId));
        assertEq(book.order(orderId).supplier, _providers[1], "second choice");
        Task memory task = _task(_closeBlock(orderId));
        task.chunk = 7;
        IMatchingDisputes.Answer memory wrong = _answer(task, _matches(orderId, _terms(), new uint256[](0)), EVERYBODY);
        _challengeWithoutUndoing(orderId, wrong, OrderState.Leased);
    }

    /// @dev The order book listens to another disputes contract by now: the lease stays, the signers still pay.
    function test_verdicts_stand_after_the_disputes_were_replaced() public {
        MatchingDisputes next = new MatchingDisputes(address(accessManager), tasks, CHALLENGE_BLOCKS);
        book.proposeCollaborator(IOrderBook.Collaborator.Disputes, address(next));
        vm.roll(vm.getBlockNumber() + 2 * (uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW) + 1);
        vm.warp(vm.getBlockTimestamp() + 1 days);
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _list(_rank(_providers[2], 90e18)));
        book.acceptCollaborator(IOrderBook.Collaborator.Disputes);
        _challengeWithoutUndoing(orderId, answer, OrderState.Leased);
    }

    function test_challenge_window_fits_the_ring() public {
        uint32 limit = uint32(tasks.RING_BLOCKS()) - RESPONSE_WINDOW;
        new MatchingDisputes(address(accessManager), tasks, limit);
        vm.expectRevert(abi.encodeWithSelector(IMatchingDisputes.ChallengeWindowOutOfRange.selector, limit + 1, limit));
        new MatchingDisputes(address(accessManager), tasks, limit + 1);
        vm.expectRevert(abi.encodeWithSelector(IMatchingDisputes.ChallengeWindowOutOfRange.selector, 0, limit));
        new MatchingDisputes(address(accessManager), tasks, 0);
    }

    // ----------------------------------------------------------------- private

    /// @dev Bid on by all three, the first cheapest.
    function _order() private returns (uint64 orderId) {
        orderId = _createOrder();
        for (uint96 i = 0; i < 3; i++) {
            _bidAndKeep(_owners[i], orderId, 50e18 + i * 20e18);
        }
    }

    /// @dev Takes a supplier out of matches: it has room for nobody.
    function _fill(uint256 provider) private {
        vm.prank(address(registry));
        book.suspend(_providers[provider], true);
    }

    function _challengeWithoutUndoing(uint64 orderId, IMatchingDisputes.Answer memory answer, OrderState state)
        private
    {
        vm.expectEmit(disputes);
        emit IMatchingDisputes.AnswerProvenWrong(
            _verdict(answer), orderId, answer.task.closeBlock, answer.task.chunk, challenger, false
        );
        _challenge(orderId, answer);
        assertProven(_verdict(answer), true);
        assertState(orderId, state);
    }

    function _assertRight(uint64 orderId, IMatchingDisputes.Answer memory answer) private {
        _expectRefusal(orderId, answer, abi.encodeWithSelector(IMatchingDisputes.AnswerIsRight.selector, orderId));
    }

    function _expectRefusal(uint64 orderId, IMatchingDisputes.Answer memory answer, bytes memory refusal) private {
        IMatchingDisputes.Inputs memory inputs = _inputs(orderId);
        vm.prank(challenger);
        vm.expectRevert(refusal);
        matchingDisputes.challenge(orderId, inputs, answer);
    }
}
