// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {CommissionSplit} from "../../src/avs/CommissionSplit.sol";
import {ICommissionSplit} from "../../src/avs/ICommissionSplit.sol";
import {CommissionTest} from "./CommissionTest.sol";
import {RestakedToken} from "./EigenLayerTest.sol";

/// @dev Calls back into the split whenever it is moved.
contract CallingToken is RestakedToken {
    address private _target;
    bytes private _data;
    bytes public answer;

    function callOnTransfer(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        _call();
        return super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _call();
        return super.transferFrom(from, to, amount);
    }

    function _call() private {
        if (_target == address(0)) return;
        bool success;
        (success, answer) = _target.call(_data);
    }
}

/// @dev Refuses to be moved, or moves half, once it is told to.
contract FailingToken is RestakedToken {
    bool public stuck;
    bool public halving;

    function setStuck(bool stuck_) external {
        stuck = stuck_;
    }

    function setHalving(bool halving_) external {
        halving = halving_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        require(!stuck, "stuck");
        return super.transfer(to, halving ? amount / 2 : amount);
    }
}

contract CommissionSplitTest is CommissionTest {
    address private _challenger;
    address private _recipient;

    function setUp() public {
        deploySplit(1);
        _challenger = makeAddress("challenger");
        _recipient = makeAddress("recipient");
    }

    // ---------------------------------------------------------------- collect

    function test_collect_dividesTheCommissionByTheShares() public {
        market.earn(SPON, 1_000 ether);
        vm.expectEmit(address(split));
        emit ICommissionSplit.CommissionCollected(SPON, 100 ether, 400 ether, 500 ether);
        vm.prank(makeAddress("anybody"));
        assertEq(split.collect(SPON), 1_000 ether, "all that was credited");
        _assertHeld(SPON, 100 ether, 400 ether, 500 ether);
        assertEq(spon.balanceOf(address(split)), 1_000 ether, "is here");
        assertEq(escrow.creditOf(address(split), SPON), 0, "and not in the escrow");
        // The day and block from which operators earn.
        assertEq(split.rewardedUntil(SPON), vm.getBlockTimestamp() / INTERVAL * INTERVAL, "today");
        assertEq(split.stakedSince(SPON), vm.getBlockNumber(), "this block");
    }

    function test_collect_roundsInFavourOfTheFoundation() public {
        split.setShares(3_333, 3_333);
        earnAndCollect(SPON, 9_999);
        _assertHeld(SPON, 3_332, 3_332, 3_335);
        earnAndCollect(SPON, 1);
        _assertHeld(SPON, 3_332, 3_332, 3_336);
    }

    function test_collect_takesWhatElseWasSentHere() public {
        spon.mint(address(split), 10 ether);
        assertEq(split.collect(SPON), 10 ether, "a refund of EigenLayer is commission again");
        _assertHeld(SPON, 1 ether, 4 ether, 5 ether);
    }

    function test_collect_refusesWhenNothingCame() public {
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToCollect.selector, SPON));
        split.collect(SPON);
        earnAndCollect(SPON, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToCollect.selector, SPON));
        split.collect(SPON);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.UnknownToken.selector, OTHER));
        split.collect(OTHER);
    }

    function test_collect_afterAnotherFoundationWasNamed() public {
        market.earn(SPON, 1_000 ether);
        address successor = makeAddress("successor");
        escrow.setFoundation(successor);
        market.earn(SPON, 500 ether);
        assertEq(split.collect(SPON), 1_000 ether, "what was credited before stays the split's");
        assertEq(escrow.creditOf(successor, SPON), 500 ether, "what came after is not");
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToCollect.selector, SPON));
        split.collect(SPON);
    }

    // ------------------------------------------------------------ challengers

    function test_rewardChallenger_creditsTheRewardThenWhatIsThere() public {
        earnAndCollect(SPON, 1_500 ether);
        vm.expectEmit(address(split));
        emit ICommissionSplit.ChallengerRewarded(_challenger, SPON, 100 ether);
        assertEq(_reward(_challenger), 100 ether, "the reward");
        assertEq(_reward(_challenger), 50 ether, "what is left of the reserve");
        assertEq(_reward(_challenger), 0, "nothing, and no revert");
        assertEq(split.rewardOf(_challenger, SPON), 150 ether, "added up");
        _assertHeld(SPON, 0, 600 ether, 750 ether);

        vm.expectEmit(address(split));
        emit ICommissionSplit.RewardWithdrawn(_challenger, SPON, _recipient, 150 ether);
        vm.prank(_challenger);
        assertEq(split.withdrawReward(SPON, _recipient), 150 ether, "pulled");
        assertEq(spon.balanceOf(_recipient), 150 ether, "arrived");
        vm.prank(_challenger);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToWithdraw.selector, SPON));
        split.withdrawReward(SPON, _recipient);
    }

    function test_rewardChallenger_onlyTheDisputesOfTheOrderBook() public {
        earnAndCollect(SPON, 1_000 ether);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NotDisputes.selector, address(this)));
        split.rewardChallenger(_challenger);
        // The order book names others: the split follows.
        market.setDisputes(address(this));
        assertEq(split.rewardChallenger(_challenger), 100 ether, "the new ones");
        vm.prank(disputes);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NotDisputes.selector, disputes));
        split.rewardChallenger(_challenger);
    }

    function test_rewardChallenger_withoutAnyMoney() public {
        assertEq(_reward(_challenger), 0, "nothing was ever collected");
        split.setReward(SPON, 0);
        earnAndCollect(SPON, 1_000 ether);
        assertEq(_reward(_challenger), 0, "no reward is governed");
    }

    function test_withdrawReward_refusesNobodyAndItself() public {
        earnAndCollect(SPON, 1_000 ether);
        _reward(_challenger);
        address[2] memory wrong = [address(0), address(split)];
        for (uint256 i = 0; i < wrong.length; i++) {
            vm.prank(_challenger);
            vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.InvalidRecipient.selector, wrong[i]));
            split.withdrawReward(SPON, wrong[i]);
        }
    }

    // ------------------------------------------------------------- governance

    function test_withdrawFoundation_movesItsPartAlone() public {
        earnAndCollect(SPON, 1_000 ether);
        vm.expectEmit(address(split));
        emit ICommissionSplit.FoundationWithdrawn(SPON, _recipient, 500 ether);
        assertEq(split.withdrawFoundation(SPON, _recipient), 500 ether, "the rest");
        assertEq(spon.balanceOf(_recipient), 500 ether, "arrived");
        _assertHeld(SPON, 100 ether, 400 ether, 0);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.NothingToWithdraw.selector, SPON));
        split.withdrawFoundation(SPON, _recipient);
        earnAndCollect(SPON, 2);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.InvalidRecipient.selector, address(split)));
        split.withdrawFoundation(SPON, address(split));
    }

    function test_governance_isRestricted() public {
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, _challenger);
        vm.startPrank(_challenger);
        vm.expectRevert(refusal);
        split.withdrawFoundation(SPON, _challenger);
        vm.expectRevert(refusal);
        split.setShares(0, 10_000);
        vm.expectRevert(refusal);
        split.setReward(SPON, 1);
        vm.stopPrank();
    }

    function test_setShares_upToAllOfIt() public {
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.SharesTooHigh.selector, 10_001, 10_000));
        split.setShares(5_001, 5_000);
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.SharesTooHigh.selector, 131_070, 10_000));
        split.setShares(65_535, 65_535);
        vm.expectEmit(address(split));
        emit ICommissionSplit.SharesSet(5_000, 5_000);
        split.setShares(5_000, 5_000);
        earnAndCollect(SPON, 3);
        _assertHeld(SPON, 1, 1, 1);
        (uint16 reserve, uint16 forOperators) = split.shares();
        assertEq(uint256(reserve) + forOperators, 10_000, "shown");
    }

    function test_setReward_inAListedToken() public {
        vm.expectRevert(abi.encodeWithSelector(ICommissionSplit.UnknownToken.selector, OTHER));
        split.setReward(OTHER, 1);
        split.setReward(SPON, 7);
        (uint8 token, uint256 amount) = split.reward();
        assertEq(token, SPON, "token");
        assertEq(amount, 7, "amount");
    }

    function test_constructor_refusesTheCoordinatorOfAnotherAvs() public {
        address another = makeAddress("another service manager");
        vm.expectRevert(
            abi.encodeWithSelector(ICommissionSplit.CoordinatorOfAnotherAvs.selector, address(coordinator), another)
        );
        new CommissionSplit(address(accessManager), address(escrow), address(rewards), another, address(coordinator));
    }

    // --------------------------------------------------------- hostile tokens

    function test_aTokenThatCallsBackFindsTheDoorShut() public {
        CallingToken calling = new CallingToken();
        market.list(OTHER, address(calling), 2);
        split.setReward(OTHER, 50);
        earnAndCollect(OTHER, 1_000);
        vm.prank(disputes);
        split.rewardChallenger(address(calling));
        market.earn(OTHER, 1_000);

        bytes memory shut = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        // Taking its reward while the balance is measured would be collected a second time.
        calling.callOnTransfer(address(split), abi.encodeCall(split.withdrawReward, (OTHER, _recipient)));
        assertEq(split.collect(OTHER), 1_000, "no more than came");
        assertEq(calling.answer(), shut, "withdrawing was refused");
        calling.callOnTransfer(address(split), abi.encodeCall(split.collect, (OTHER)));
        split.withdrawFoundation(OTHER, _recipient);
        assertEq(calling.answer(), shut, "collecting was refused");
        calling.callOnTransfer(address(split), abi.encodeCall(split.rewardOperators, (OTHER, new address[][](1))));
        vm.prank(address(calling));
        split.withdrawReward(OTHER, _recipient);
        assertEq(calling.answer(), shut, "rewarding was refused");
        _assertHeld(OTHER, 150, 800, 0);
        assertEq(calling.balanceOf(address(split)), 950, "books and balance agree");
    }

    function test_aDisputeInTheMiddleOfACollectionKeepsTheSums() public {
        CallingToken calling = new CallingToken();
        market.list(OTHER, address(calling), 2);
        split.setReward(OTHER, 50);
        earnAndCollect(OTHER, 1_000);
        market.earn(OTHER, 1_000);
        market.setDisputes(address(calling));
        calling.callOnTransfer(address(split), abi.encodeCall(split.rewardChallenger, (_challenger)));
        assertEq(split.collect(OTHER), 1_000, "what came");
        assertEq(split.rewardOf(_challenger, OTHER), 50, "rewarded in between");
        _assertHeld(OTHER, 150, 800, 1_000);
    }

    function test_aStuckTokenSpoilsNothingElse() public {
        FailingToken failing = new FailingToken();
        market.list(OTHER, address(failing), 2);
        split.setReward(OTHER, 50);
        earnAndCollect(OTHER, 1_000);
        _reward(_challenger);
        failing.setStuck(true);
        market.earn(OTHER, 10);
        vm.expectRevert();
        split.collect(OTHER);
        vm.prank(_challenger);
        vm.expectRevert();
        split.withdrawReward(OTHER, _recipient);
        assertEq(_reward(_challenger), 50, "disputes do not depend on it");
        earnAndCollect(SPON, 1_000 ether);
        assertEq(split.withdrawFoundation(SPON, _recipient), 500 ether, "nor do other tokens");

        failing.setStuck(false);
        vm.prank(_challenger);
        assertEq(split.withdrawReward(OTHER, _recipient), 100, "all is there when it moves again");
        assertEq(split.collect(OTHER), 10, "and what was credited meanwhile");
    }

    function test_aTokenThatTakesAFeeIsCountedByWhatArrives() public {
        FailingToken failing = new FailingToken();
        market.list(OTHER, address(failing), 2);
        market.earn(OTHER, 1_000);
        failing.setHalving(true);
        assertEq(split.collect(OTHER), 500, "half of it arrived");
        _assertHeld(OTHER, 50, 200, 250);
    }

    function testFuzz_noAmountBreaksTheDivision(uint256 amount, uint16 reserve, uint16 forOperators) public {
        amount = bound(amount, 1, type(uint256).max - spon.totalSupply());
        reserve = uint16(bound(reserve, 0, 10_000));
        forOperators = uint16(bound(forOperators, 0, 10_000 - reserve));
        split.setShares(reserve, forOperators);
        spon.mint(address(split), amount);
        split.collect(SPON);
        (uint256 forChallengers, uint256 forThem, uint256 forFoundation) = split.held(SPON);
        assertEq(forChallengers + forThem + forFoundation, amount, "to the unit");
        if (amount < type(uint256).max / 10_000) {
            assertEq(forChallengers, amount * reserve / 10_000, "the reserve's share, rounded down");
            assertEq(forThem, amount * forOperators / 10_000, "the operators' share, rounded down");
        }
    }

    // ---------------------------------------------------------------- private

    function _reward(address challenger) private returns (uint256) {
        vm.prank(disputes);
        return split.rewardChallenger(challenger);
    }

    function _assertHeld(uint8 token, uint256 challengers, uint256 forOperators, uint256 foundation) private view {
        (uint256 a, uint256 b, uint256 c) = split.held(token);
        assertEq(a, challengers, "for challengers");
        assertEq(b, forOperators, "for operators");
        assertEq(c, foundation, "for the foundation");
    }
}
