// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IStakeManager} from "../../src/stake/IStakeManager.sol";
import {StakeManager} from "../../src/stake/StakeManager.sol";
import {MarketTest} from "../market/MarketTest.sol";

/// @notice Self-stake: in, thawing, out.
contract StakeManagerTest is MarketTest {
    address private _owner;
    uint32 private _provider;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
    }

    function test_stake_andOutAgain() public {
        assertEq(stakes.stakeOf(_provider), MINIMUM_STAKE, "stake");
        assertEq(stakes.sharesOf(_provider, _owner), MINIMUM_STAKE, "shares");
        assertEq(spon.balanceOf(address(stakes)), MINIMUM_STAKE, "tokens");

        uint64 withdrawableAt = uint64(block.timestamp) + THAW_PERIOD;
        vm.expectEmit(address(stakes));
        emit IStakeManager.ThawStarted(_provider, _owner, MINIMUM_STAKE, withdrawableAt);
        vm.prank(_owner);
        stakes.startThaw(_provider, MINIMUM_STAKE);
        assertEq(stakes.stakeOf(_provider), 0, "thawing stake does not count");
        (uint256 shares, uint64 until) = stakes.thawing(_provider, _owner);
        assertEq(shares, MINIMUM_STAKE, "thawing");
        assertEq(until, withdrawableAt, "until");

        vm.warp(withdrawableAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NothingThawed.selector, _provider, _owner, withdrawableAt));
        vm.prank(_owner);
        stakes.unstake(_provider);
        vm.warp(withdrawableAt);
        vm.expectEmit(address(stakes));
        emit IStakeManager.Unstaked(_provider, _owner, MINIMUM_STAKE);
        vm.prank(_owner);
        assertEq(stakes.unstake(_provider), MINIMUM_STAKE, "paid out");
        assertEq(spon.balanceOf(_owner), MINIMUM_STAKE, "received");
        assertEq(spon.balanceOf(address(stakes)), 0, "nothing is left");
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NothingThawed.selector, _provider, _owner, withdrawableAt));
        vm.prank(_owner);
        stakes.unstake(_provider);
    }

    function test_startThaw_aFurtherOneStartsAnew() public {
        _stake(_owner, _provider, 10e18);
        vm.prank(_owner);
        stakes.startThaw(_provider, 4e18);
        vm.warp(block.timestamp + THAW_PERIOD - 1);
        vm.prank(_owner);
        stakes.startThaw(_provider, 6e18);
        vm.warp(block.timestamp + 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IStakeManager.NothingThawed.selector, _provider, _owner, uint64(block.timestamp) + THAW_PERIOD - 1
            )
        );
        vm.prank(_owner);
        stakes.unstake(_provider);
        vm.warp(block.timestamp + THAW_PERIOD - 1);
        vm.prank(_owner);
        assertEq(stakes.unstake(_provider), 10e18, "both");
        assertEq(stakes.stakeOf(_provider), MINIMUM_STAKE, "the rest stays");
    }

    function test_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NotProviderOwner.selector, _provider, address(this)));
        stakes.stake(_provider, 1e18);
        vm.startPrank(_owner);
        vm.expectRevert(IStakeManager.ZeroStake.selector);
        stakes.stake(_provider, 0);
        vm.expectRevert(IStakeManager.ZeroStake.selector);
        stakes.startThaw(_provider, 0);
        vm.expectRevert(
            abi.encodeWithSelector(
                IStakeManager.NotEnoughShares.selector, _provider, _owner, MINIMUM_STAKE + 1, MINIMUM_STAKE
            )
        );
        stakes.startThaw(_provider, MINIMUM_STAKE + 1);
        // What remains is nothing or at least the minimum.
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.BelowMinimumStake.selector, MINIMUM_STAKE - 1, MINIMUM_STAKE)
        );
        stakes.startThaw(_provider, 1);
        vm.stopPrank();

        address newcomer = makeAddress("newcomer");
        vm.prank(newcomer);
        uint32 id = registry.register("newcomer", "https://newcomer.example", 1, 0, 1);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.BelowMinimumStake.selector, MINIMUM_STAKE - 1, MINIMUM_STAKE)
        );
        vm.prank(newcomer);
        stakes.stake(id, MINIMUM_STAKE - 1);
    }

    function test_initialize_refusals() public {
        StakeManager bare = new StakeManager(IERC20(address(spon)), registry);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InvalidThawPeriod.selector, 0));
        new ERC1967Proxy(address(bare), abi.encodeCall(StakeManager.initialize, (address(manager), MINIMUM_STAKE, 0)));
        vm.expectRevert(IStakeManager.ZeroStake.selector);
        new ERC1967Proxy(address(bare), abi.encodeCall(StakeManager.initialize, (address(manager), 0, THAW_PERIOD)));
    }

    /// @dev Whatever is staked and thawed in whatever order, the tokens held are what the pool owes.
    function testFuzz_poolHoldsWhatItOwes(uint256[6] memory amounts, uint256 steps) public {
        uint256 expected = MINIMUM_STAKE;
        for (uint256 index = 0; index < amounts.length; ++index) {
            uint256 step = (steps >> (8 * index)) % 3;
            (uint256 thawing,) = stakes.thawing(_provider, _owner);
            uint256 free = stakes.sharesOf(_provider, _owner) - thawing;
            if (step == 0) {
                uint256 amount = bound(amounts[index], MINIMUM_STAKE, 1_000_000e18);
                _stake(_owner, _provider, amount);
                expected += amount;
            } else if (step == 1 && free > MINIMUM_STAKE) {
                vm.prank(_owner);
                stakes.startThaw(_provider, bound(amounts[index], 1, free - MINIMUM_STAKE));
            } else if (thawing != 0) {
                vm.warp(block.timestamp + THAW_PERIOD);
                vm.prank(_owner);
                expected -= stakes.unstake(_provider);
            }
            assertEq(spon.balanceOf(address(stakes)), expected, "tokens held");
            (thawing,) = stakes.thawing(_provider, _owner);
            assertEq(stakes.stakeOf(_provider) + thawing, expected, "staked and thawing");
            assertEq(uint48(registry.scoreCard(_provider)), stakes.stakeOf(_provider) / 1e18, "score card");
        }
    }
}
