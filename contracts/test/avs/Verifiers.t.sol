// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IMatchingTaskManager} from "../../src/avs/IMatchingTaskManager.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {MatchingParameters, OrderState, OrderTerms, Task} from "../../src/Types.sol";
import {StandInVerifier} from "./StandInVerifier.sol";
import {TaskManagerTest} from "./TaskManagerTest.sol";

/// @notice Answers on the real market under one verifier after another, covered without limit or with one.
contract VerifiersTest is TaskManagerTest {
    uint96 private constant RATE = 90e18;

    address private _owner;
    uint32 private _provider;
    address private _second;
    uint32 private _secondId;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        (_second, _secondId) = _addProvider("second");
    }

    // ------------------------------------------------------------------- replay

    /// @dev A digest signed for another contract, task, chunk, version or hash proves nothing; one signed for this task does.
    function test_aDigestProvesOneTaskOfOneContract() public {
        uint64 orderId = _createOrder();
        uint64 other = _createOrder();
        uint256 closeBlock = book.order(orderId).closeBlock;
        uint256[] memory matches = _matches(orderId, _terms(), _rank(_provider, RATE));
        MatchingTaskManager twin = new MatchingTaskManager(address(manager), book, address(verifier));
        tasks.addMatchingParameters(_matchingParameters());
        _roll(closeBlock + 3, closeBlock + 1);
        vm.setBlockhash(closeBlock, _hash(closeBlock));

        _replayRefused(matches, twin.responseDigest(_task(closeBlock, 0), matches));
        _replayRefused(matches, tasks.responseDigest(_task(closeBlock + 1, 0), matches));
        _replayRefused(matches, tasks.responseDigest(_task(closeBlock, 1), matches));
        Task memory task = _task(closeBlock, 0);
        task.paramsVersion = 2;
        _replayRefused(matches, tasks.responseDigest(task, matches));
        task = _task(closeBlock, 0);
        task.closeBlockHash = _hash(closeBlock + 1);
        _replayRefused(matches, tasks.responseDigest(task, matches));
        uint256[] memory others = _matches(other, _terms(), _rank(_provider, RATE));
        _replayRefused(matches, tasks.responseDigest(_task(closeBlock, 0), others));
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        bytes32 elsewhere = tasks.responseDigest(_task(closeBlock, 0), matches);
        vm.chainId(chain);
        _replayRefused(matches, elsewhere);

        assertState(orderId, OrderState.Open);
        _respondNow(closeBlock, 0, matches);
        assertState(orderId, OrderState.Leased);
        // In another chunk the same words find nothing open any more.
        _respondNow(closeBlock, 1, matches);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "one match fee");
    }

    // -------------------------------------------------------------------- ranks

    /// @dev More ranks than the version's limit are a wrong answer: the order book serves in their order, and who signed them
    /// can be challenged. More than eight are no answer at all.
    function test_ranksBeyondTheLimitAreServedAndCanBeChallenged() public {
        uint64 orderId = _createOrder();
        uint256[] memory ranks = new uint256[](8);
        for (uint256 index = 0; index < 7; ++index) {
            ranks[index] = _rank(uint32(1_000 + index), RATE);
        }
        ranks[7] = _rank(_provider, RATE);
        assertLt(_matchingParameters().rankLimit, 8, "beyond the limit");
        uint256 closeBlock = book.order(orderId).closeBlock;
        _respond(closeBlock, 0, _matches(orderId, _terms(), ranks));
        assertEq(book.order(orderId).supplier, _provider, "served by the eighth");
        assertNotEq(uint256(tasks.commitmentOf(uint32(closeBlock), 0)), 0, "committed to, so it can be challenged");

        orderId = _createOrder();
        uint256[] memory matches = _matches(orderId, _terms(), new uint256[](9));
        closeBlock = book.order(orderId).closeBlock;
        _roll(closeBlock + 1, closeBlock);
        Task memory task = _task(closeBlock, 0);
        bytes memory proof = abi.encode(tasks.responseDigest(task, matches));
        vm.expectRevert();
        tasks.respond(task, matches, proof);
        assertEq(tasks.answeredAt(uint32(closeBlock), 0), 0, "not answered");
    }

    // ---------------------------------------------------------------- switching

    /// @dev Every order is decided under the verifier of its close block: those made before the change, those closing at
    /// either side of it, those requeued across it, and those nobody answers.
    function test_switchingLosesNoOpenOrder() public {
        StandInVerifier next = new StandInVerifier(true);
        uint256 rounds = 2 * (uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW) + 1;
        uint32 from = uint32(block.number + rounds);
        uint64 before = _createOrder();
        tasks.setQuorumVerifier(address(next), from);
        _respond(book.order(before).closeBlock, 0, _matches(before, _terms(), _rank(_provider, RATE)));
        assertState(before, OrderState.Leased);

        // The last close block of the old one and the first of the new one.
        vm.roll(from - 1 - BID_WINDOW);
        uint64 last = _createOrder();
        uint64 requeued = _createOrder();
        uint64 unanswered = _createOrder();
        _noteBid(_owner, unanswered, RATE);
        vm.roll(from - BID_WINDOW);
        uint64 first = _createOrder();
        assertEq(book.order(last).closeBlock, from - 1, "last of the old");
        assertEq(book.order(first).closeBlock, from, "first of the new");

        // Answered late, long after the change is in force.
        _roll(from + 30, from - 1);
        vm.setBlockhash(from, _hash(from));
        uint256[] memory matches = _matches(last, _terms(), _rank(_provider, RATE));
        _respondNow(from - 1, 0, _join(matches, _matches(requeued, _terms(), _rank(77, RATE))));
        assertState(last, OrderState.Leased);
        assertEq(next.holds(), 0, "the old one decided, which is not capped");
        assertTrue(book.order(requeued).requeued, "requeued");
        _respondNow(from, 0, _matches(first, _terms(), _rank(_provider, RATE)));
        assertState(first, OrderState.Leased);
        assertEq(next.holds(), 1, "the new one decided");

        _respond(book.order(requeued).closeBlock, 0, _matches(requeued, _terms(), _rank(_secondId, RATE)));
        assertState(requeued, OrderState.Leased);
        assertEq(next.holds(), 2, "its second round closed under the new one");
        _roll(uint256(from) + RESPONSE_WINDOW, from - 1);
        _matchOrder(unanswered);
        assertState(unanswered, OrderState.Leased);
        assertEq(next.holds(), 2, "nobody signed");
    }

    // ------------------------------------------------------------------- capped

    function test_aCappedVerifierIsToldOfTheLeasesOpened() public {
        StandInVerifier capped = _useCapped();
        vm.startPrank(user);
        uint64 inSpon = book.createOrder(account, SPON_TOKEN, 0, _terms());
        vm.stopPrank();
        OrderTerms memory long = _terms();
        long.duration = 30 days;
        uint64 cancelled = _createOrder();
        uint64 inPlain = _createOrder(long);
        uint64 requeued = _createOrder();
        uint64 ignored = _createOrder();
        uint64 expired = _createOrder();
        vm.prank(user);
        book.cancelOrder(cancelled);
        uint256[] memory matches = _matches(inSpon, _terms(), _rank(_provider, RATE));
        matches = _join(matches, _matches(cancelled, _terms(), _rank(_provider, RATE)));
        matches = _join(matches, _matches(inPlain, long, _rank(_provider, 70e18)));
        matches = _join(matches, _matches(requeued, _terms(), _rank(77, RATE)));
        matches = _join(matches, _matches(ignored, long, _rank(_provider, RATE)));
        matches = _join(matches, _matches(expired, _terms(), new uint256[](0)));
        _respond(book.order(inPlain).closeBlock, 0, matches);

        assertEq(capped.holds(), 1, "told once");
        assertEq(capped.holder(), address(tasks), "by the task manager");
        uint256[] memory values = capped.values();
        assertEq(values.length, 2, "two leases");
        // The lock of each at the rate taken, with the match fee that does not come back.
        assertEq(values[0], (escrow.lockFor(RATE, 3_600, SPON_SCHEDULE) << 8) | SPON_TOKEN, "in SPON");
        assertEq(values[1], (escrow.lockFor(70e18, 30 days, PLAIN_SCHEDULE) << 8) | PLAIN_TOKEN, "in PLAIN");
        (, uint256 locked,) = escrow.balances(account, SPON_TOKEN);
        assertEq(values[0] >> 8, locked + MATCH_FEE, "what the account has locked, and the fee");
    }

    /// @dev What the bond does not cover is not opened: the whole answer waits.
    function test_aCappedVerifierRefusesWhatItDoesNotCover() public {
        StandInVerifier capped = _useCapped();
        uint64 orderId = _createOrder();
        _noteBid(_owner, orderId, RATE);
        uint256 closeBlock = book.order(orderId).closeBlock;
        uint256[] memory matches = _matches(orderId, _terms(), _rank(_provider, RATE));
        _roll(closeBlock + 1, closeBlock);
        uint256 value = escrow.lockFor(RATE, 3_600, PLAIN_SCHEDULE);
        capped.setCover(value - 1);
        Task memory task = _task(closeBlock, 0);
        bytes memory proof = abi.encode(tasks.responseDigest(task, matches));
        vm.expectRevert(abi.encodeWithSelector(StandInVerifier.TooMuch.selector, value));
        tasks.respond(task, matches, proof);
        assertState(orderId, OrderState.Open);
        assertEq(tasks.answeredAt(uint32(closeBlock), 0), 0, "not answered");

        uint256 state = vm.snapshotState();
        capped.setCover(value);
        _respondNow(closeBlock, 0, matches);
        assertState(orderId, OrderState.Leased);
        // The rule needs no bond.
        assertTrue(vm.revertToState(state), "state reverted");
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _matchOrder(orderId);
        assertState(orderId, OrderState.Leased);
    }

    function test_aCappedVerifierSeesNoMalformedAnswer() public {
        StandInVerifier capped = _useCapped();
        uint64 orderId = _createOrder();
        uint256 closeBlock = book.order(orderId).closeBlock;
        _roll(closeBlock + 1, closeBlock);
        uint256[] memory good = _matches(orderId, _terms(), _rank(_provider, RATE));
        uint256[] memory broken = _matches(orderId, _terms(), _rank(_provider, RATE));
        // Ranks that are not there.
        broken[0] += 3;
        uint256[][] memory bad = new uint256[][](2);
        (bad[0], bad[1]) = (broken, _join(good, good));
        for (uint256 index = 0; index < bad.length; ++index) {
            Task memory task = _task(closeBlock, 0);
            bytes memory proof = abi.encode(tasks.responseDigest(task, bad[index]));
            vm.expectRevert();
            tasks.respond(task, bad[index], proof);
        }
        assertEq(capped.holds(), 0, "told nothing");
        // Nothing opened is nothing to hold.
        _respondNow(closeBlock, 0, new uint256[](0));
        assertEq(capped.values().length, 0, "no leases");
    }

    function test_anUncappedVerifierIsToldNothing() public {
        uint64 orderId = _createOrder();
        _respond(book.order(orderId).closeBlock, 0, _matches(orderId, _terms(), _rank(_provider, RATE)));
        assertState(orderId, OrderState.Leased);
        assertEq(verifier.holds(), 0, "told nothing");
    }

    function test_aRuleMustBeAContract() public {
        MatchingParameters memory parameters = _matchingParameters();
        parameters.rule = user;
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.NotAContract.selector, user));
        tasks.addMatchingParameters(parameters);
        parameters.rule = address(0);
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.NotAContract.selector, address(0)));
        tasks.addMatchingParameters(parameters);
        assertEq(tasks.matchingParameters(1).rule, address(rule), "rule");
        assertEq(tasks.matchWindow(), MATCH_WINDOW, "match window");
    }

    // ------------------------------------------------------------------ private

    /// @dev From the block that it goes to.
    function _useCapped() private returns (StandInVerifier capped) {
        capped = new StandInVerifier(true);
        uint256 from = block.number + 2 * (uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW) + 1;
        tasks.setQuorumVerifier(address(capped), uint32(from));
        vm.roll(from);
    }

    function _replayRefused(uint256[] memory matches, bytes32 signed) private {
        Task memory task = _task(book.order(uint64(matches[0] >> 8)).closeBlock, 0);
        bytes32 digest = tasks.responseDigest(task, matches);
        vm.expectRevert(abi.encodeWithSelector(StandInVerifier.NotTheDigest.selector, digest));
        tasks.respond(task, matches, abi.encode(signed));
    }
}
