// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderTerms, SpendingRight} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {Permit2} from "./Permit2.sol";

/// @notice What accounts cost: whole transactions, cold, by somebody who has used the account before. Prices are asked of the
/// real PaymentTokens behind its proxy.
contract AccountGasTest is MarketTest {
    uint256 private constant KEY = uint256(keccak256("user"));

    function setUp() public override {
        super.setUp();
        plain.mint(user, 1_000e18);
        vm.startPrank(user);
        plain.approve(address(escrow), type(uint256).max);
        plain.approve(Permit2.DEPLOYED, type(uint256).max);
        vm.stopPrank();
        _permit2Deposit(0);
    }

    function _permit2() internal override returns (address) {
        return Permit2.deploy(vm);
    }

    function test_deposit() public {
        assertLe(_topUp(), 110_000, "deposit");
        vm.snapshotGasLastCall("Escrow", "deposit");
    }

    function test_depositWithPermit2() public {
        _permit2Deposit(1);
        assertLe(vm.snapshotGasLastCall("Escrow", "depositWithPermit2"), 140_000, "depositWithPermit2");
    }

    function test_withdraw() public {
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 1e18, user);
        assertLe(vm.snapshotGasLastCall("Escrow", "withdraw"), 55_000, "withdraw");
    }

    function test_withdrawCredit() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        plain.mint(owner, 1);
        vm.warp(block.timestamp + 1_000);
        book.settle(_ids(orderId));
        vm.prank(owner);
        escrow.withdrawCredit(PLAIN_TOKEN, owner);
        assertLe(vm.snapshotGasLastCall("Escrow", "withdrawCredit"), 50_000, "withdrawCredit");
    }

    function test_open() public {
        vm.prank(user);
        escrow.open(user);
        assertLe(vm.snapshotGasLastCall("Escrow", "open"), 65_000, "open");
    }

    function test_spendingRight() public {
        address spender = makeAddress("spender");
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(1_000e18, type(uint40).max, true));
        assertLe(vm.snapshotGasLastCall("Escrow", "setSpendingRight"), 58_000, "setSpendingRight");
        _createOrder();
        OrderTerms memory terms = _terms();
        vm.prank(spender);
        book.createOrder(account, PLAIN_TOKEN, 0, terms);
        assertLe(vm.snapshotGasLastCall("Escrow", "createOrder.bySpender"), 110_000, "createOrder");
    }

    function test_updateBracket() public {
        feed.setAnswer(2e8);
        escrow.updateBracket(account, PLAIN_TOKEN);
        assertLe(vm.snapshotGasLastCall("Escrow", "updateBracket"), 85_000, "updateBracket");
    }

    /// @dev With three hundred accounts, all of one wallet, and as many holders of rights, everything costs what it did.
    function test_gas_doesNotGrowWithAccounts() public {
        uint256 deposited = _topUp();
        uint256 ordered = _ordered();
        for (uint256 index = 0; index < 300; ++index) {
            uint32 opened = escrow.open(user);
            address spender = vm.addr(index + 1);
            vm.prank(user);
            escrow.setSpendingRight(opened, spender, PLAIN_TOKEN, SpendingRight(1e18, type(uint40).max, true));
            vm.prank(user);
            escrow.deposit(opened, PLAIN_TOKEN, 1e18);
        }
        assertEq(_topUp(), deposited, "deposit");
        assertEq(_ordered(), ordered, "createOrder");
    }

    function _topUp() private returns (uint256) {
        vm.prank(user);
        escrow.deposit(account, PLAIN_TOKEN, 1e18);
        return vm.lastCallGas().gasTotalUsed;
    }

    function _ordered() private returns (uint256) {
        _createOrder();
        return vm.lastCallGas().gasTotalUsed;
    }

    function _permit2Deposit(uint256 nonce) private {
        Permit2.Permit memory permit = Permit2.Permit(address(plain), 1e18, address(escrow), nonce, block.timestamp);
        bytes memory signature = Permit2.sign(vm, KEY, permit);
        vm.prank(user);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 1e18, nonce, permit.deadline, signature);
    }
}
