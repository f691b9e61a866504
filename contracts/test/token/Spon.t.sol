// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {Spon} from "../../src/token/Spon.sol";
import {Test} from "../Test.sol";
import {Erc2612} from "../market/Erc2612.sol";

/// @notice What is ours in the token: its supply, its clock, and that permits and votes work together.
contract SponTest is Test {
    uint256 private constant SUPPLY = 1_000_000_000e18;
    uint256 private constant HOLDER_KEY = 0xa11ce;

    Spon private _spon;
    address private _holder;

    function setUp() public {
        vm.warp(1_800_000_000);
        _holder = vm.addr(HOLDER_KEY);
        _spon = new Spon(_holder, SUPPLY);
    }

    function test_supplyIsFixed() public view {
        assertEq(_spon.totalSupply(), SUPPLY, "supply");
        assertEq(_spon.balanceOf(_holder), SUPPLY, "holder");
        assertEq(_spon.symbol(), "SPON", "symbol");
        assertEq(_spon.decimals(), 18, "decimals");
    }

    function test_votesCountByTimestamp() public {
        assertEq(_spon.CLOCK_MODE(), "mode=timestamp", "clock mode");
        assertEq(_spon.clock(), block.timestamp, "clock");
        address delegate = makeAddress("delegate");
        vm.prank(_holder);
        _spon.delegate(delegate);
        uint256 before = block.timestamp;
        vm.warp(before + 100);
        vm.prank(_holder);
        _spon.transfer(delegate, 400e18);
        vm.warp(before + 200);
        assertEq(_spon.getPastVotes(delegate, before), SUPPLY, "votes then");
        assertEq(_spon.getVotes(delegate), SUPPLY - 400e18, "votes now");
    }

    function test_permit() public {
        address spender = makeAddress("spender");
        uint256 deadline = block.timestamp + 60;
        Erc2612.Permit memory permit = Erc2612.Permit(_holder, spender, 5e18, 0, deadline);
        (uint8 v, bytes32 r, bytes32 s) = Erc2612.sign(vm, HOLDER_KEY, address(_spon), permit);
        _spon.permit(_holder, spender, 5e18, deadline, v, r, s);
        assertEq(_spon.allowance(_holder, spender), 5e18, "allowance");
        assertEq(_spon.nonces(_holder), 1, "nonce");
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(ERC20Permit.ERC2612ExpiredSignature.selector, deadline));
        _spon.permit(_holder, spender, 5e18, deadline, v, r, s);
    }
}
