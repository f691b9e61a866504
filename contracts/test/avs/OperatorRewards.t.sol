// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {EigenRewardsCoordinator} from "../../src/avs/EigenRewards.sol";
import {ICommissionSplit} from "../../src/avs/ICommissionSplit.sol";
import {CommissionTest, RewardsCoordinator} from "./CommissionTest.sol";
import {AllocationManager, StrategyManager} from "./EigenLayer.sol";
import {RestakedToken} from "./EigenLayerTest.sol";

/// @dev From EigenLayer's published ABI.
interface Slashing {
    struct SlashingParams {
        address operator;
        uint32 operatorSetId;
        address[] strategies;
        uint256[] wadsToSlash;
        string description;
    }

    function slashOperator(address avs, SlashingParams calldata params) external;
}

/// @dev Says it moved what it was told, and moves half.
contract HalvingToken is RestakedToken {
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return
            super.transferFrom(from, to, from.code.length != 0 && to.code.length != 0 && _armed ? amount / 2 : amount);
    }

    bool private _armed;

    function arm() external {
        _armed = true;
    }
}

/// @notice The operators' share on EigenLayer's real rewards coordinator, stake registry and allocation manager.
contract OperatorRewardsTest is CommissionTest {
    uint256 private constant DAY_ZERO = 2_000_000_000 / INTERVAL * INTERVAL;

    function setUp() public {
        deploySplit(2);
        addOperator(11, 100 ether);
        addOperator(12, 300 ether);
    }

    // ------------------------------------------------------------ what is paid

    function test_operatorsEarnByStakeAndQuorumsEqually() public {
        // A third operator is in the second quorum only.
        uint32[] memory second = new uint32[](1);
        second[0] = 1;
        addOperator(13, 400 ether, second);
        address[][] memory named = everybody(2);
        named[0] = _without(named[0], operators[2].account);

        earnAndCollect(SPON, 2_000 ether);
        nextDay();
        vm.recordLogs();
        vm.prank(makeAddress("anybody"));
        split.rewardOperators(SPON, named);

        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory made = submissions();
        assertEq(made.length, 2, "one submission a quorum");
        for (uint256 q = 0; q < 2; q++) {
            assertEq(made[q].token, address(spon), "token");
            assertEq(made[q].startTimestamp, DAY_ZERO, "from the day of the first collection");
            assertEq(made[q].duration, INTERVAL, "one day");
            assertEq(made[q].strategiesAndMultipliers.length, 1, "strategies");
            assertEq(made[q].strategiesAndMultipliers[0].strategy, strategies[q], "of that quorum");
            assertEq(made[q].strategiesAndMultipliers[0].multiplier, 1 ether, "as the quorum counts it");
        }
        // 40 % of 2 000, half of it to each quorum.
        assertEq(made[0].operatorRewards.length, 2, "members of the first");
        assertEq(made[1].operatorRewards.length, 3, "members of the second");
        assertEq(amountIn(made, operators[0].account), 100 ether + 50 ether, "a quarter and an eighth");
        assertEq(amountIn(made, operators[1].account), 300 ether + 150 ether, "three quarters and three eighths");
        assertEq(amountIn(made, operators[2].account), 200 ether, "half of the second");
        assertEq(spon.balanceOf(address(rewards)), 800 ether, "EigenLayer has it");
        assertEq(rewards.submissionNonce(address(serviceManager)), 2, "for our AVS");
        (uint256 reserve, uint256 left, uint256 foundation) = split.held(SPON);
        assertEq(reserve + foundation, 1_200 ether, "the rest is untouched");
        assertEq(left, 0, "nothing is left over");
        assertEq(split.rewardedUntil(SPON), DAY_ZERO + INTERVAL, "until today");
        assertEq(split.stakedSince(SPON), vm.getBlockNumber(), "stake must be there from now");
    }

    function test_stakeThatJustCameEarnsNothing() public {
        earnAndCollect(SPON, 2_000 ether);
        // One joins, and one brings more, after the period began.
        addOperator(13, 10_000 ether);
        _deposit(0, 900 ether);
        nextDay();
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory made = submissions();
        assertEq(made[0].operatorRewards.length, 2, "EigenLayer takes no rewards of zero: the newcomer is left out");
        assertEq(amountIn(made, operators[0].account), 200 ether, "for the stake it had, not for what it brought");
        assertEq(amountIn(made, operators[1].account), 600 ether, "as before");

        earnAndCollect(SPON, 2_240 ether);
        nextDay();
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        made = submissions();
        assertEq(amountIn(made, operators[0].account), 79_292035398230088494, "1 000 of 11 300 by now");
        assertEq(amountIn(made, operators[2].account), 792_920353982300884954, "10 000 of 11 300");
    }

    function test_stakeThatLeftEarnsNothing() public {
        earnAndCollect(SPON, 2_000 ether);
        nextDay();
        _leave(1);
        vm.roll(vm.getBlockNumber() + 1);
        address[][] memory named = everybody(2);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NotInQuorum.selector, operators[1].account, uint8(0)));
        split.rewardOperators(SPON, named);
        for (uint256 q = 0; q < 2; q++) {
            named[q] = _without(named[q], operators[1].account);
        }
        vm.recordLogs();
        split.rewardOperators(SPON, named);
        assertEq(submittedFor(operators[0].account), 800 ether, "who stayed has it all");
    }

    function test_whatHappensInTheSameBlockDoesNotCount() public {
        earnAndCollect(SPON, 2_000 ether);
        nextDay();
        _leave(1);
        // Still a member as of the last block, so it must still be named, and earns what it had.
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        assertEq(submittedFor(operators[1].account), 600 ether, "as of the last block");
    }

    function test_slashedOperatorsWeighLess() public {
        earnAndCollect(SPON, 2_000 ether);
        serviceManager.setAppointee(address(this), address(allocationManager), Slashing.slashOperator.selector);
        for (uint32 set = 0; set < 2; set++) {
            address[] memory strategy = new address[](1);
            strategy[0] = strategies[set];
            uint256[] memory wads = new uint256[](1);
            wads[0] = 0.5 ether;
            Slashing(address(allocationManager))
                .slashOperator(
                    address(serviceManager),
                    Slashing.SlashingParams(operators[1].account, set, strategy, wads, "wrong answer")
                );
        }
        _refresh(1);
        nextDay();
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory made = submissions();
        assertEq(amountIn(made, operators[0].account), 320 ether, "100 of 250");
        assertEq(amountIn(made, operators[1].account), 480 ether, "150 of 250, not 300 of 400");
    }

    function test_dustIsCarriedOver() public {
        split.setShares(0, 10_000);
        earnAndCollect(SPON, 7);
        nextDay();
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        // Three units a quorum: a quarter of three is nothing, three quarters are two.
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory made = submissions();
        assertEq(made[0].operatorRewards.length, 1, "nobody is rewarded with zero");
        assertEq(amountIn(made, operators[1].account), 4, "two in each quorum");
        _assertForOperators(3);
        earnAndCollect(SPON, 5);
        _assertForOperators(8);
        nextDay();
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        made = submissions();
        assertEq(amountIn(made, operators[0].account), 2, "a quarter of four, twice");
        assertEq(amountIn(made, operators[1].account), 6, "three quarters of four, twice");
        _assertForOperators(0);
    }

    function test_moreThanEigenLayerTakesWaits() public {
        split.setShares(0, 10_000);
        spon.mint(address(split), 5e38);
        split.collect(SPON);
        nextDay();
        split.rewardOperators(SPON, everybody(2));
        // Dividing what it takes at most by four leaves a unit in each quorum.
        _assertForOperators(5e38 - 2 * (1e38 - 2));
        nextDay();
        split.rewardOperators(SPON, everybody(2));
        _assertForOperators(5e38 - 4 * (1e38 - 2));
        nextDay();
        split.rewardOperators(SPON, everybody(2));
        _assertForOperators(0);
    }

    // ------------------------------------------------------------------ when

    function test_limitsOfTheRecordedRewardsCoordinator() public view {
        assertEq(rewards.CALCULATION_INTERVAL_SECONDS(), INTERVAL, "a day");
        assertEq(rewards.MAX_REWARDS_DURATION(), 70 days, "the longest");
        assertEq(rewards.MAX_RETROACTIVE_LENGTH(), 84 days, "the furthest back");
        assertEq(rewards.activationDelay(), 2 hours, "before a root can be claimed from");
        assertLt(rewards.GENESIS_REWARDS_TIMESTAMP(), DAY_ZERO, "long ago");
    }

    function test_onlyWholeDaysThatArePast() public {
        earnAndCollect(SPON, 2_000 ether);
        address[][] memory named = everybody(2);
        uint256 midnight = DAY_ZERO + INTERVAL;
        // A day that ends this very second is not past: EigenLayer wants it strictly.
        vm.warp(midnight);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.RewardsTooEarly.selector, midnight + 1, midnight));
        split.rewardOperators(SPON, named);
        vm.warp(midnight + 1);
        split.rewardOperators(SPON, named);
        earnAndCollect(SPON, 2_000 ether);
        vm.warp(midnight + INTERVAL);
        vm.expectRevert(
            abi.encodeWithSelector(
                ICommissionSplit.RewardsTooEarly.selector, midnight + INTERVAL + 1, midnight + INTERVAL
            )
        );
        split.rewardOperators(SPON, named);
    }

    function test_nothingToReward() public {
        address[][] memory named = everybody(2);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToReward.selector, SPON));
        split.rewardOperators(SPON, named);
        // One unit for two quorums.
        split.setShares(0, 10_000);
        earnAndCollect(SPON, 1);
        nextDay();
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToReward.selector, SPON));
        split.rewardOperators(SPON, named);
    }

    function testFuzz_anyPauseIsAPeriodThatEigenLayerTakes(uint256 pause) public {
        earnAndCollect(SPON, 2_000 ether);
        pause = bound(pause, 1, 1_000 days);
        vm.warp(DAY_ZERO + INTERVAL + pause);
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission memory made = submissions()[0];
        uint256 end = (vm.getBlockTimestamp() - 1) / INTERVAL * INTERVAL;
        assertEq(made.startTimestamp + made.duration, end, "up to the last whole day");
        uint256 whole = end - DAY_ZERO;
        assertEq(
            made.duration, whole < 70 days ? whole : 70 days, "from the last time on, or as long as EigenLayer takes"
        );
        assertEq(split.rewardedUntil(SPON), end, "and goes on from there");
        _assertForOperators(0);
    }

    // ------------------------------------------------------------------- who

    function test_everybodyIsNamedOnceAscending() public {
        earnAndCollect(SPON, 2_000 ether);
        addOperator(13, 400 ether);
        nextDay();

        address[][] memory named = everybody(2);
        (address low, address middle, address high) = (named[1][0], named[1][1], named[1][2]);
        _refuses(
            named,
            1,
            _three(low, high, middle),
            abi.encodeWithSelector(ICommissionSplit.OperatorsNotAscending.selector, high, middle)
        );
        _refuses(
            named,
            1,
            _three(low, low, high),
            abi.encodeWithSelector(ICommissionSplit.OperatorsNotAscending.selector, low, low)
        );
        _refuses(
            named,
            1,
            _three(address(0), low, high),
            abi.encodeWithSelector(ICommissionSplit.OperatorsNotAscending.selector, address(0), address(0))
        );
        _refuses(
            named,
            1,
            _without(everybody(2)[1], operators[0].account),
            abi.encodeWithSelector(ICommissionSplit.OperatorsMissing.selector, uint8(1), 700 ether, 800 ether)
        );
        _refuses(
            named,
            0,
            new address[](0),
            abi.encodeWithSelector(ICommissionSplit.OperatorsMissing.selector, uint8(0), 0, 800 ether)
        );
        address stranger = address(uint160(high) + 1);
        address[] memory four = new address[](4);
        (four[0], four[1], four[2], four[3]) = (low, middle, high, stranger);
        _refuses(named, 1, four, abi.encodeWithSelector(ICommissionSplit.NotInQuorum.selector, stranger, uint8(1)));
        for (uint256 count = 0; count < 4; count++) {
            if (count == 2) continue;
            address[][] memory wrong = everybody(count);
            vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.WrongQuorumCount.selector, count, 2));
            split.rewardOperators(SPON, wrong);
        }
        split.rewardOperators(SPON, everybody(2));
    }

    function test_withoutBeingAppointedNothingIsSubmitted() public {
        earnAndCollect(SPON, 2_000 ether);
        nextDay();
        serviceManager.removeAppointee(
            address(split),
            address(rewards),
            EigenRewardsCoordinator.createOperatorDirectedOperatorSetRewardsSubmission.selector
        );
        address[][] memory named = everybody(2);
        vm.expectRevert(RewardsCoordinator.InvalidPermissions.selector);
        split.rewardOperators(SPON, named);
        _assertForOperators(800 ether);
        assertEq(split.rewardedUntil(SPON), DAY_ZERO, "and nothing is forgotten");
        appoint();
        split.rewardOperators(SPON, named);
        _assertForOperators(0);
    }

    function test_aTokenThatMovesLessIsRefused() public {
        HalvingToken halving = new HalvingToken();
        market.list(OTHER, address(halving), 2);
        earnAndCollect(OTHER, 2_000);
        nextDay();
        halving.arm();
        address[][] memory named = everybody(2);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.TransferMismatch.selector, address(halving), 400, 200));
        split.rewardOperators(OTHER, named);
    }

    // ------------------------------------------------------------------- gas

    /// @dev The registry's own search for an old stake walks back one update after the other.
    function test_anOperatorCannotMakeItCostMoreThanABlock() public {
        earnAndCollect(SPON, 2_000 ether);
        for (uint256 i = 0; i < 300; i++) {
            vm.roll(vm.getBlockNumber() + 1);
            _deposit(0, 1);
        }
        nextDay();
        vm.recordLogs();
        uint256 gasUsed =
            transact(address(this), address(split), abi.encodeCall(split.rewardOperators, (SPON, everybody(2))));
        assertEq(submittedFor(operators[0].account), 200 ether, "found behind 300 updates");
        assertLt(gasUsed, 850_000, "without reading them all");
    }

    function test_gas_10() public {
        _measure(10, 2_500_000);
    }

    function test_gas_100() public {
        _measure(100, 8_000_000);
    }

    function test_gas_200() public {
        _measure(200, 16_777_216);
    }

    // ----------------------------------------------------------------- claim

    function test_whatIsSubmittedArrives() public {
        earnAndCollect(SPON, 2_000 ether);
        nextDay();
        split.rewardOperators(SPON, everybody(2));

        // EigenLayer's part, off chain: a tree of earners, each with a tree of tokens.
        RewardsCoordinator.Claim memory claim;
        claim.tokenIndices = new uint32[](1);
        claim.tokenTreeProofs = new bytes[](1);
        claim.tokenLeaves = new RewardsCoordinator.TokenLeaf[](1);
        claim.tokenLeaves[0] = RewardsCoordinator.TokenLeaf(address(spon), 200 ether);
        claim.earnerLeaf =
            RewardsCoordinator.EarnerLeaf(operators[0].account, rewards.calculateTokenLeafHash(claim.tokenLeaves[0]));
        bytes32 sibling = keccak256("somebody else");
        claim.earnerTreeProof = abi.encodePacked(sibling);
        bytes32 root = keccak256(abi.encodePacked(rewards.calculateEarnerLeafHash(claim.earnerLeaf), sibling));
        vm.prank(rewards.rewardsUpdater());
        rewards.submitRoot(root, uint32(DAY_ZERO + INTERVAL));
        vm.warp(vm.getBlockTimestamp() + rewards.activationDelay());

        address recipient = makeAddress("recipient");
        vm.prank(operators[0].account);
        rewards.processClaim(claim, recipient);
        assertEq(spon.balanceOf(recipient), 200 ether, "the operator's quarter");
    }

    // ----------------------------------------------------------- conservation

    /// @dev Whatever happens in whatever order: what was collected was given out or is held, to the unit.
    function testFuzz_collectedIsGivenOutOrHeld(uint256 seed) public {
        uint256 collected;
        uint256 given;
        address recipient = makeAddress("recipient");
        address[][] memory named = everybody(2);
        for (uint256 step = 0; step < 24; step++) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 action = seed % 8;
            uint256 amount = (seed >> 8) % 1e24;
            if (action <= 1) market.earn(SPON, 1 + amount);
            else if (action == 2 && escrow.creditOf(address(split), SPON) != 0) collected += split.collect(SPON);
            else if (action == 3) split.setShares(uint16(amount % 5_001), uint16((amount >> 16) % 5_001));
            else if (action == 4) _rewardSomebody(amount);
            else if (action == 5) given += _withdrawAll(recipient);
            else if (action == 6) given += _rewardIfDue(named);
            else vm.warp(vm.getBlockTimestamp() + (seed >> 100) % (3 * INTERVAL));
            vm.roll(vm.getBlockNumber() + 1);
            _assertBooks(collected, given);
        }
        assertEq(
            spon.balanceOf(recipient) + spon.balanceOf(address(rewards)) + spon.balanceOf(address(split)),
            collected,
            "and nothing went elsewhere"
        );
    }

    function _assertBooks(uint256 collected, uint256 given) private view {
        (uint256 reserve, uint256 forOperators, uint256 foundation) = split.held(SPON);
        uint256 owed = split.rewardOf(address(0xc0), SPON);
        assertEq(reserve + forOperators + foundation + owed + given, collected, "sums are conserved");
        assertEq(spon.balanceOf(address(split)), collected - given, "and covered");
    }

    function _rewardSomebody(uint256 amount) private {
        split.setReward(SPON, amount);
        vm.prank(disputes);
        split.rewardChallenger(address(0xc0));
    }

    function _withdrawAll(address recipient) private returns (uint256 moved) {
        if (split.rewardOf(address(0xc0), SPON) != 0) {
            vm.prank(address(0xc0));
            moved += split.withdrawReward(SPON, recipient);
        }
        (,, uint256 foundation) = split.held(SPON);
        if (foundation != 0) moved += split.withdrawFoundation(SPON, recipient);
    }

    function _rewardIfDue(address[][] memory named) private returns (uint256) {
        (, uint256 forOperators,) = split.held(SPON);
        if (forOperators < 2 || vm.getBlockTimestamp() <= split.rewardedUntil(SPON) + INTERVAL) return 0;
        uint256 before = spon.balanceOf(address(rewards));
        split.rewardOperators(SPON, named);
        return spon.balanceOf(address(rewards)) - before;
    }

    // ---------------------------------------------------------------- private

    function _measure(uint256 count, uint256 limit) private {
        for (uint256 i = operators.length; i < count; i++) {
            addOperator(1_000 + i, 100 ether + i);
        }
        earnAndCollect(SPON, 2_000 ether);
        // Everybody's stake changed once since: the old one is behind the last update.
        for (uint256 i = 0; i < count; i++) {
            _deposit(i, 1 ether);
        }
        nextDay();
        uint256 gasUsed =
            transact(address(this), address(split), abi.encodeCall(split.rewardOperators, (SPON, everybody(2))));
        assertLe(gasUsed, limit, "gas");
        vm.snapshotValue("Rewards", string.concat("rewardOperators.", vm.toString(count)), gasUsed);
    }

    function _deposit(uint256 index, uint256 amount) private {
        address account = operators[index].account;
        for (uint256 set = 0; set < 2; set++) {
            restaked[set].mint(account, amount);
            vm.startPrank(account);
            restaked[set].approve(core_("strategy_manager"), amount);
            StrategyManager(core_("strategy_manager"))
                .depositIntoStrategy(strategies[set], address(restaked[set]), amount);
            vm.stopPrank();
        }
        _refresh(index);
    }

    function _refresh(uint256 index) private {
        address[] memory one = new address[](1);
        one[0] = operators[index].account;
        coordinator.updateOperators(one);
    }

    function _leave(uint256 index) private {
        uint32[] memory sets = new uint32[](2);
        sets[1] = 1;
        vm.prank(operators[index].account);
        allocationManager.deregisterFromOperatorSets(
            AllocationManager.DeregisterParams(operators[index].account, address(serviceManager), sets)
        );
    }

    function _refuses(address[][] memory named, uint256 quorum, address[] memory wrong, bytes memory reason) private {
        address[] memory right = named[quorum];
        named[quorum] = wrong;
        vm.expectRevert(reason);
        split.rewardOperators(SPON, named);
        named[quorum] = right;
    }

    function _without(address[] memory all, address one) private pure returns (address[] memory rest) {
        rest = new address[](all.length - 1);
        uint256 kept = 0;
        for (uint256 i = 0; i < all.length; i++) {
            if (all[i] != one) rest[kept++] = all[i];
        }
    }

    function _three(address a, address b, address c) private pure returns (address[] memory list) {
        list = new address[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }

    function _assertForOperators(uint256 expected) private view {
        (, uint256 forOperators,) = split.held(SPON);
        assertEq(forOperators, expected, "held for operators");
    }
}

/// @notice A service that nobody joined yet.
contract RewardsWithoutOperatorsTest is CommissionTest {
    function setUp() public {
        deploySplit(2);
    }

    function test_aQuorumThatNobodyIsInKeepsItsShare() public {
        earnAndCollect(SPON, 2_000 ether);
        nextDay();
        split.rewardOperators(SPON, new address[][](2));
        _assertForOperators(800 ether);
        // Whoever joins now earns it, after a whole period.
        addOperator(21, 100 ether);
        nextDay();
        split.rewardOperators(SPON, everybody(2));
        _assertForOperators(800 ether);
        assertEq(rewards.submissionNonce(address(serviceManager)), 0, "nothing was submitted");
        nextDay();
        vm.recordLogs();
        split.rewardOperators(SPON, everybody(2));
        assertEq(submittedFor(operators[0].account), 800 ether, "with what was kept");
    }

    function _assertForOperators(uint256 expected) private view {
        (, uint256 forOperators,) = split.held(SPON);
        assertEq(forOperators, expected, "held for operators");
    }
}
