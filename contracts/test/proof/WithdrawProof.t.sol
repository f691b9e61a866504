// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccountWord} from "../../src/market/Resources.sol";
import {Test} from "../Test.sol";
import {OpenEscrow} from "./EscrowProof.t.sol";

/// @dev Moves nothing and agrees.
contract AgreeableToken {
    function transfer(address, uint256) external pure returns (bool) {
        return true;
    }
}

/// @notice Proofs by halmos of the arithmetic of a withdrawal, on the escrow's own code, for every account word.
contract WithdrawProof is Test {
    using AccountWord for uint256;

    OpenEscrow private _escrow;

    function setUp() public {
        _escrow = new OpenEscrow(address(this), address(0x30));
        _escrow.open(address(this));
        _escrow.setToken(1, uint256(uint160(address(new AgreeableToken()))) << 96);
    }

    /// @notice A withdrawal takes its amount out of what is unlocked and touches neither what is locked nor the nonce.
    function check_withdrawTakesTheUnlocked(uint112 unlocked, uint112 locked, uint24 nonce, uint112 amount) external {
        vm.assume(uint256(unlocked) + locked <= type(uint112).max);
        _escrow.setAccount(1, 1, uint256(unlocked) | (uint256(locked) << 112) | (uint256(nonce) << 224));
        _escrow.withdraw(1, 1, amount, address(0x99));
        uint256 word = _escrow.accountWord(1, 1);
        assert(amount <= unlocked && word.unlocked() == unlocked - amount);
        assert(word.locked() == locked && word.nonce() == nonce && word.bracket() == 0);
    }

    /// @notice It lowers the bracket by as many steps as what is held halves, rounded up: no step too few, none too many. All
    /// thirty-two brackets.
    function check_withdrawLowersTheBracket(uint112 held, uint112 amount, uint8 bracket) external {
        vm.assume(bracket <= 32);
        _escrow.setAccount(1, 1, uint256(held) | (uint256(bracket) << 248));
        _escrow.withdraw(1, 1, amount, address(0x99));
        uint256 lowered = _escrow.bracketOf(1, 1);
        uint256 left = uint256(held) - amount;
        uint256 steps = bracket - lowered;
        assert(lowered <= bracket);
        assert(lowered == 0 || left << steps >= held);
        assert(steps == 0 || left << (steps - 1) < held);
    }
}
