// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Vm} from "../Vm.sol";

/// @notice Uniswap's Permit2 itself, as `script/setup` gets it, at the address that it has on every chain.
library Permit2 {
    address internal constant DEPLOYED = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    string private constant BYTECODE = "../.local/permit2/Permit2.json";
    bytes32 private constant DOMAIN = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
    bytes32 private constant PERMISSIONS = keccak256("TokenPermissions(address token,uint256 amount)");
    bytes32 private constant PERMIT = keccak256(
        "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)"
    );

    struct Permit {
        address token;
        uint256 amount;
        address spender;
        uint256 nonce;
        uint256 deadline;
    }

    function deploy(Vm vm) internal returns (address) {
        require(vm.exists(BYTECODE), "Permit2 is missing: run script/setup");
        vm.etch(DEPLOYED, vm.parseJsonBytes(vm.readFile(BYTECODE), ".bytecode"));
        return DEPLOYED;
    }

    /// @dev Written from the standard, not asked of the contract.
    function sign(Vm vm, uint256 privateKey, Permit memory permit) internal view returns (bytes memory) {
        bytes32 domain = keccak256(abi.encode(DOMAIN, keccak256("Permit2"), block.chainid, DEPLOYED));
        bytes32 permitted = keccak256(abi.encode(PERMISSIONS, permit.token, permit.amount));
        bytes32 message = keccak256(abi.encode(PERMIT, permitted, permit.spender, permit.nonce, permit.deadline));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(privateKey, keccak256(abi.encodePacked("\x19\x01", domain, message)));
        return abi.encodePacked(r, s, v);
    }
}
