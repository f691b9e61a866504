// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

import {Vm} from "../Vm.sol";

/// @notice Approvals that are signed for the token itself.
library Erc2612 {
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    struct Permit {
        address owner;
        address spender;
        uint256 amount;
        uint256 nonce;
        uint256 deadline;
    }

    /// @dev Written from the standard; the token is asked for its domain, which the standard leaves to it.
    function sign(Vm vm, uint256 privateKey, address token, Permit memory permit)
        internal
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 message = keccak256(
            abi.encode(PERMIT, permit.owner, permit.spender, permit.amount, permit.nonce, permit.deadline)
        );
        bytes32 domain = IERC20Permit(token).DOMAIN_SEPARATOR();
        return vm.sign(privateKey, keccak256(abi.encodePacked("\x19\x01", domain, message)));
    }
}
