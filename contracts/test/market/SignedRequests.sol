// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {CloseRequest, OrderRequest, OrderTerms} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";

/// @notice What a user signs so that somebody else may bring it in, from the text of EIP-712, not asked of the contracts.
library SignedRequests {
    string private constant TERMS =
        "OrderTerms(uint256 resources,uint256 requirements,uint256 regions,bytes32 manifestHash,uint96 maximumRate,uint32 duration,uint32[] wantedSuppliers,uint32[] excludedSuppliers)";
    string private constant ORDER =
        "OrderRequest(address signer,uint32 account,uint8 token,uint16 bidWindow,uint16 feeSchedule,OrderTerms terms,uint256 nonce,uint256 deadline)";
    string private constant CLOSE = "CloseRequest(address signer,uint64 orderId,uint256 nonce,uint256 deadline)";
    string private constant DOMAIN =
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

    /// @dev By key, as wallets do; `verifier` is the order book.
    function sign(Vm vm, uint256 key, OrderRequest memory request, address verifier)
        internal
        view
        returns (bytes memory)
    {
        return sign(vm, key, digest(structHash(request), verifier));
    }

    function sign(Vm vm, uint256 key, CloseRequest memory request, address verifier)
        internal
        view
        returns (bytes memory)
    {
        return sign(vm, key, digest(structHash(request), verifier));
    }

    function sign(Vm vm, uint256 key, bytes32 signed) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, signed);
        return abi.encodePacked(r, s, v);
    }

    function digest(bytes32 hashed, address verifier) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(keccak256(bytes(DOMAIN)), keccak256("Spheron Market"), keccak256("1"), block.chainid, verifier)
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, hashed));
    }

    function structHash(OrderRequest memory request) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(abi.encodePacked(ORDER, TERMS)),
                request.signer,
                request.account,
                request.token,
                request.bidWindow,
                request.feeSchedule,
                _termsHash(request.terms),
                request.nonce,
                request.deadline
            )
        );
    }

    function structHash(CloseRequest memory request) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(keccak256(bytes(CLOSE)), request.signer, request.orderId, request.nonce, request.deadline)
        );
    }

    function _termsHash(OrderTerms memory terms) private pure returns (bytes32) {
        bytes memory head =
            abi.encode(keccak256(bytes(TERMS)), terms.resources, terms.requirements, terms.regions, terms.manifestHash);
        bytes memory tail = abi.encode(
            terms.maximumRate, terms.duration, _listHash(terms.wantedSuppliers), _listHash(terms.excludedSuppliers)
        );
        return keccak256(abi.encodePacked(head, tail));
    }

    function _listHash(uint32[] memory list) private pure returns (bytes32) {
        bytes memory words;
        for (uint256 index = 0; index < list.length; ++index) {
            words = abi.encodePacked(words, uint256(list[index]));
        }
        return keccak256(words);
    }
}
