// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {Erc2612} from "./Erc2612.sol";
import {MarketTest} from "./MarketTest.sol";
import {Permit2} from "./Permit2.sol";
import {PermitToken} from "./Tokens.sol";

/// @notice Money into accounts: by whom, by which of the three ways, and what refuses it.
contract DepositsTest is MarketTest {
    uint256 private constant HELD = 1_000_000e18;
    uint256 private constant KEY = uint256(keccak256("payer"));

    PermitToken private _permitToken;
    uint8 private _permitId;
    address private _payer;

    function setUp() public override {
        super.setUp();
        _payer = makeAddress("payer");
        _permitToken = new PermitToken();
        _permitId = _list(address(_permitToken), "PERMIT", PLAIN_SCHEDULE);
        _permitToken.mint(_payer, 100e18);
        plain.mint(_payer, 100e18);
        // Once, for all tokens and all who take Permit2.
        vm.prank(_payer);
        plain.approve(Permit2.DEPLOYED, type(uint256).max);
    }

    function _permit2() internal override returns (address) {
        return Permit2.deploy(vm);
    }

    // ---------------------------------------------------------------- approved

    function test_deposit_byAnyoneIntoAnyones() public {
        vm.startPrank(_payer);
        plain.approve(address(escrow), 5e18);
        vm.expectEmit(address(escrow));
        emit IEscrow.Deposited(account, PLAIN_TOKEN, _payer, 5e18);
        escrow.deposit(account, PLAIN_TOKEN, 5e18);
        vm.stopPrank();
        assertBalances(account, PLAIN_TOKEN, HELD + 5e18, 0);
        assertEq(plain.balanceOf(address(escrow)), HELD + 5e18, "tokens arrived");
    }

    function test_deposit_refusals() public {
        vm.expectRevert(IEscrow.ZeroAmount.selector);
        escrow.deposit(account, PLAIN_TOKEN, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownAccount.selector, 99));
        escrow.deposit(99, PLAIN_TOKEN, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, 9));
        escrow.deposit(account, 9, 1);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(escrow), 0, 1));
        vm.prank(_payer);
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

    /// @dev What is in the way at one deposit is not in the way at the next: the guard is of the transaction.
    function test_deposit_twice() public {
        plain.mint(address(this), 2e18);
        plain.approve(address(escrow), 2e18);
        escrow.deposit(account, PLAIN_TOKEN, 1e18);
        escrow.deposit(account, PLAIN_TOKEN, 1e18);
        assertBalances(account, PLAIN_TOKEN, HELD + 2e18, 0);
    }

    // ---------------------------------------------------------------- ERC-2612

    function test_depositWithPermit() public {
        (uint8 v, bytes32 r, bytes32 s) = _signPermit(KEY, address(escrow), 7e18, block.timestamp);
        vm.prank(_payer);
        escrow.depositWithPermit(account, _permitId, 7e18, block.timestamp, v, r, s);
        assertBalances(account, _permitId, 7e18, 0);
        assertEq(_permitToken.allowance(_payer, address(escrow)), 0, "nothing stays approved");
    }

    /// @dev Somebody who saw the permit brings it in first: the allowance is there, and that is enough.
    function test_depositWithPermit_frontRun() public {
        (uint8 v, bytes32 r, bytes32 s) = _signPermit(KEY, address(escrow), 7e18, block.timestamp);
        vm.prank(responder);
        _permitToken.permit(_payer, address(escrow), 7e18, block.timestamp, v, r, s);
        vm.prank(_payer);
        escrow.depositWithPermit(account, _permitId, 7e18, block.timestamp, v, r, s);
        assertBalances(account, _permitId, 7e18, 0);
    }

    /// @dev Nobody deposits with another's permit: it is the caller's tokens that move.
    function test_depositWithPermit_isTheCallers() public {
        (uint8 v, bytes32 r, bytes32 s) = _signPermit(KEY, address(escrow), 7e18, block.timestamp);
        _refusedPermit(responder, 7e18, block.timestamp, v, r, s);
        (v, r, s) = _signPermit(KEY + 1, address(escrow), 7e18, block.timestamp);
        _refusedPermit(_payer, 7e18, block.timestamp, v, r, s);
    }

    function test_depositWithPermit_refusals() public {
        // Expired, for another spender, of another amount, of an earlier nonce.
        uint256 now_ = block.timestamp;
        (uint8 v, bytes32 r, bytes32 s) = _signPermit(KEY, address(escrow), 7e18, now_ - 1);
        _refusedPermit(_payer, 7e18, now_ - 1, v, r, s);
        (v, r, s) = _signPermit(KEY, responder, 7e18, now_);
        _refusedPermit(_payer, 7e18, now_, v, r, s);
        (v, r, s) = _signPermit(KEY, address(escrow), 7e18, now_);
        _refusedPermit(_payer, 8e18, now_, v, r, s);
        vm.startPrank(_payer);
        escrow.depositWithPermit(account, _permitId, 7e18, now_, v, r, s);
        vm.stopPrank();
        _refusedPermit(_payer, 7e18, now_, v, r, s);
        assertBalances(account, _permitId, 7e18, 0);
    }

    /// @dev The allowance carries a deposit in a token that knows no permits.
    function test_depositWithPermit_ofATokenWithout() public {
        vm.startPrank(_payer);
        plain.approve(address(escrow), 7e18);
        escrow.depositWithPermit(account, PLAIN_TOKEN, 7e18, 0, 0, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, 9));
        escrow.depositWithPermit(account, 9, 7e18, 0, 0, 0, 0);
        vm.stopPrank();
        assertBalances(account, PLAIN_TOKEN, HELD + 7e18, 0);
    }

    // ----------------------------------------------------------------- Permit2

    function test_depositWithPermit2() public {
        Permit2.Permit memory permit = _permit(7e18);
        bytes memory signature = Permit2.sign(vm, KEY, permit);
        vm.expectEmit(address(escrow));
        emit IEscrow.Deposited(account, PLAIN_TOKEN, _payer, 7e18);
        vm.prank(_payer);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 7e18, permit.nonce, permit.deadline, signature);
        assertBalances(account, PLAIN_TOKEN, HELD + 7e18, 0);
        assertEq(plain.balanceOf(_payer), 93e18, "paid");
        assertEq(plain.allowance(_payer, address(escrow)), 0, "the escrow itself may take nothing");
    }

    function test_depositWithPermit2_onlyOnce() public {
        Permit2.Permit memory permit = _permit(7e18);
        bytes memory signature = Permit2.sign(vm, KEY, permit);
        vm.prank(_payer);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 7e18, permit.nonce, permit.deadline, signature);
        _refusedPermit2(_payer, permit, signature, "InvalidNonce()");
        // Nonces have no order.
        permit.nonce = type(uint256).max;
        signature = Permit2.sign(vm, KEY, permit);
        vm.prank(_payer);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 7e18, permit.nonce, permit.deadline, signature);
        assertBalances(account, PLAIN_TOKEN, HELD + 14e18, 0);
    }

    function test_depositWithPermit2_refusals() public {
        Permit2.Permit memory permit = _permit(7e18);
        bytes memory signature = Permit2.sign(vm, KEY, permit);
        // By whom: neither with another's signature nor with another's key.
        vm.prank(responder);
        plain.approve(Permit2.DEPLOYED, type(uint256).max);
        plain.mint(responder, 7e18);
        _refusedPermit2(responder, permit, signature, "InvalidSigner()");
        _refusedPermit2(_payer, permit, Permit2.sign(vm, KEY + 1, permit), "InvalidSigner()");

        // What: every word of it is signed.
        Permit2.Permit memory other = _permit(8e18);
        _refusedPermit2(_payer, other, signature, "InvalidSigner()");
        (other.amount, other.nonce) = (7e18, permit.nonce + 1);
        _refusedPermit2(_payer, other, signature, "InvalidSigner()");
        (other.nonce, other.deadline) = (permit.nonce, permit.deadline + 1);
        _refusedPermit2(_payer, other, signature, "InvalidSigner()");
        other = _permit(7e18);
        other.spender = responder;
        _refusedPermit2(_payer, permit, Permit2.sign(vm, KEY, other), "InvalidSigner()");
        other = _permit(7e18);
        other.token = address(spon);
        _refusedPermit2(_payer, permit, Permit2.sign(vm, KEY, other), "InvalidSigner()");

        // When: until its deadline.
        other = _permit(7e18);
        other.deadline = block.timestamp - 1;
        vm.expectRevert(abi.encodeWithSignature("SignatureExpired(uint256)", other.deadline));
        vm.prank(_payer);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 7e18, other.nonce, other.deadline, Permit2.sign(vm, KEY, other));

        // Where: not on another chain.
        vm.chainId(block.chainid + 1);
        _refusedPermit2(_payer, permit, signature, "InvalidSigner()");
        vm.chainId(block.chainid - 1);
        assertBalances(account, PLAIN_TOKEN, HELD, 0);
        vm.prank(_payer);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 7e18, permit.nonce, permit.deadline, signature);
    }

    function test_depositWithPermit2_checksWhatDepositChecks() public {
        vm.startPrank(_payer);
        vm.expectRevert(IEscrow.ZeroAmount.selector);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 0, 0, block.timestamp, "");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownAccount.selector, 99));
        escrow.depositWithPermit2(99, PLAIN_TOKEN, 1, 0, block.timestamp, "");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownToken.selector, 9));
        escrow.depositWithPermit2(account, 9, 1, 0, block.timestamp, "");
        vm.stopPrank();
    }

    // ----------------------------------------------------------------- the cap

    function test_cap_bothSides() public {
        tokens.setCap(PLAIN_TOKEN, uint128(HELD + 10e18));
        vm.startPrank(_payer);
        plain.approve(address(escrow), 100e18);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.CapExceeded.selector, PLAIN_TOKEN, HELD + 10e18 + 1, HELD + 10e18)
        );
        escrow.deposit(account, PLAIN_TOKEN, 10e18 + 1);
        escrow.deposit(account, PLAIN_TOKEN, 10e18);
        vm.stopPrank();

        // A cap below what is there stops deposits, and nothing else.
        tokens.setCap(PLAIN_TOKEN, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CapExceeded.selector, PLAIN_TOKEN, HELD + 10e18 + 1, 1));
        vm.prank(_payer);
        escrow.deposit(account, PLAIN_TOKEN, 1);
        _createOrder();
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 1e18, user);
    }

    /// @dev Also what is brought in by Permit2, and while the price cannot be used.
    function test_cap_withoutAPrice() public {
        tokens.setCap(PLAIN_TOKEN, uint128(HELD));
        feed.setAnswer(0);
        Permit2.Permit memory permit = _permit(1);
        bytes memory signature = Permit2.sign(vm, KEY, permit);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.CapExceeded.selector, PLAIN_TOKEN, HELD + 1, HELD));
        vm.prank(_payer);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 1, permit.nonce, permit.deadline, signature);
    }

    /// @dev The look-up gets a fixed amount of gas: who sends less does not thereby deposit above the cap.
    function test_cap_cannotBeStarvedOfGas() public {
        tokens.setCap(PLAIN_TOKEN, uint128(HELD));
        plain.mint(address(this), 1);
        plain.approve(address(escrow), 1);
        bytes memory call = abi.encodeCall(IEscrow.deposit, (account, PLAIN_TOKEN, 1));
        uint256 refused = 0;
        for (uint256 gas = 60_000; gas <= 600_000; gas += 5_000) {
            (bool success, bytes memory reason) = address(escrow).call{gas: gas}(call);
            assertFalse(success, "deposited above the cap");
            if (reason.length != 0 && bytes4(reason) == IEscrow.GasTooLow.selector) ++refused;
        }
        assertGt(refused, 0, "some of them had too little gas for the look-up");
        assertBalances(account, PLAIN_TOKEN, HELD, 0);
    }

    // ----------------------------------------------------------------- private

    function _permit(uint256 amount) private view returns (Permit2.Permit memory) {
        return Permit2.Permit(address(plain), amount, address(escrow), 0xabc, block.timestamp);
    }

    function _refusedPermit2(address caller, Permit2.Permit memory permit, bytes memory signature, string memory reason)
        private
    {
        vm.expectRevert(abi.encodeWithSignature(reason));
        vm.prank(caller);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, permit.amount, permit.nonce, permit.deadline, signature);
    }

    function _signPermit(uint256 key, address spender, uint256 amount, uint256 deadline)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        uint256 nonce = _permitToken.nonces(_payer);
        return Erc2612.sign(vm, key, address(_permitToken), Erc2612.Permit(_payer, spender, amount, nonce, deadline));
    }

    /// @dev A permit that fails leaves no allowance, and the transfer says so.
    function _refusedPermit(address caller, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) private {
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(escrow), 0, amount)
        );
        vm.prank(caller);
        escrow.depositWithPermit(account, _permitId, amount, deadline, v, r, s);
    }
}
