// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {Leases} from "../../src/market/Leases.sol";
import {CloseRequest, LeaseResources, OrderRequest, OrderState} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

interface IDomain {
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}

/// @notice One address, two pieces of code. `script/lib/storage-layout` compares the slots of both; here is what they answer.
contract HalvesTest is MarketTest {
    address private _code;

    function setUp() public override {
        super.setUp();
        _code = book.leases();
    }

    /// @dev The other half is nobody's but the order book's: at its own address it does nothing, and has nothing.
    function test_leases_answerNothingDirectly() public {
        bytes[] memory calls = _calls();
        for (uint256 index = 0; index < calls.length; ++index) {
            bytes memory expected = _noSuchFunction(bytes4(calls[index]));
            (bool success, bytes memory answer) = _code.call(calls[index]);
            assertFalse(success, "called directly");
            assertEq(answer, expected, "why");
        }
        address[5] memory callers = [user, disputes, leaseSlasher, taskManager, address(book)];
        for (uint256 index = 0; index < callers.length; ++index) {
            vm.prank(callers[index]);
            (bool success,) = _code.call(abi.encodeCall(ILeases.skipNonce, ()));
            assertFalse(success, "whoever calls");
        }
    }

    /// @dev A delegate call from anywhere else finds that other's storage, which is empty: nothing of the market.
    function test_leases_runElsewhereTouchNothingHere() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        (bool success,) = _code.delegatecall(
            abi.encodeCall(ILeases.closeLease, (orderId, OrderState.ClosedByUser, _leaseResources(_terms())))
        );
        assertFalse(success, "no such lease there");
        assertState(orderId, OrderState.Leased);
    }

    /// @dev Every function of the interface is answered, by its own refusal if not by its result.
    function test_orderBook_answersAllOfLeases() public {
        bytes[] memory calls = _calls();
        for (uint256 index = 0; index < calls.length; ++index) {
            (bool success, bytes memory answer) = address(book).call(calls[index]);
            if (success) continue;
            assertGe(answer.length, 4, "says why");
            assertNotEq(bytes32(bytes4(answer)), bytes32(IOrderBook.NoSuchFunction.selector), "is there");
        }
    }

    function test_unknownFunctions() public {
        bytes4[3] memory unknown = [bytes4(0xdeadbeef), bytes4(0), bytes4(0xffffffff)];
        for (uint256 index = 0; index < unknown.length; ++index) {
            (bool success, bytes memory answer) = address(book).call(abi.encodePacked(unknown[index], uint256(7)));
            assertFalse(success, "unknown");
            assertEq(answer, _noSuchFunction(unknown[index]), "named");
        }
        (bool sent, bytes memory reason) = address(book).call("");
        assertFalse(sent, "without a selector");
        assertEq(reason, _noSuchFunction(0), "none");
    }

    function test_etherIsRefused() public {
        vm.deal(address(this), 10);
        (bool success,) = address(book).call{value: 1}("");
        assertFalse(success, "plain");
        (success,) = address(book).call{value: 1}(abi.encodeCall(ILeases.skipNonce, ()));
        assertFalse(success, "with a call");
        (success,) = _code.call{value: 1}("");
        assertFalse(success, "to the other half");
    }

    /// @dev Views of the other half are views.
    function test_views_areStatic() public view {
        (bool success, bytes memory answer) = address(book).staticcall(abi.encodeCall(ILeases.workloadOf, (uint64(77))));
        assertTrue(success, "static");
        assertEq(abi.decode(answer, (uint64)), 77, "its own workload");
        (success,) = address(book).staticcall{gas: 200_000}(abi.encodeCall(ILeases.skipNonce, ()));
        assertFalse(success, "not a view");
    }

    function test_domain_isTheOrderBooks() public view {
        (, string memory name, string memory version, uint256 chainId, address verifier, bytes32 salt,) =
            IDomain(address(book)).eip712Domain();
        assertEq(name, "Spheron Market", "name");
        assertEq(version, "1", "version");
        assertEq(chainId, block.chainid, "chain");
        assertEq(verifier, address(book), "verifying contract");
        assertEq(salt, 0, "salt");
    }

    function test_windows_areTheSameInBoth() public {
        IOrderBook.Parameters memory given = book.parameters();
        assertEq(given.graceWindow, GRACE_WINDOW, "grace");
        assertEq(given.lowFundsWindow, LOW_FUNDS_WINDOW, "low funds");
        assertEq(given.challengeWindow, CHALLENGE_WINDOW, "challenge");
        // What the order book is made with is what the other half is made with: the code is the same to the byte.
        Leases again = new Leases(escrow, given);
        assertEq(_masked(address(again)), _masked(_code), "code");
        given.lowFundsWindow += 1;
        assertNotEq(_masked(address(new Leases(escrow, given))), _masked(_code), "other windows");
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        (uint256 end, uint256 graceEnd) = leases.endOf(orderId);
        assertEq(graceEnd - end, GRACE_WINDOW, "grace of a lease");
    }

    // ----------------------------------------------------------------- private

    /// @dev Hash of a contract's code without what follows from its own address: that, and the domain of signatures.
    function _masked(address contract_) private view returns (bytes32) {
        bytes memory code = contract_.code;
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Spheron Market"),
                keccak256("1"),
                block.chainid,
                contract_
            )
        );
        assertTrue(_blank(code, uint256(uint160(contract_))), "its own address");
        assertTrue(_blank(code, uint256(domain)), "its own domain");
        return keccak256(code);
    }

    /// @dev Immutables stand in the code as whole words.
    function _blank(bytes memory code, uint256 word) private pure returns (bool found) {
        for (uint256 index = 0; index + 32 <= code.length; ++index) {
            assembly ("memory-safe") {
                let place := add(add(code, 0x20), index)
                if eq(mload(place), word) {
                    mstore(place, 0)
                    found := 1
                }
            }
        }
    }

    function _noSuchFunction(bytes4 selector) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IOrderBook.NoSuchFunction.selector, selector);
    }

    /// @dev Every function of {ILeases}, and the domain, with arguments that decode.
    function _calls() private pure returns (bytes[] memory calls) {
        calls = new bytes[](16);
        calls[0] = abi.encodeCall(ILeases.closeLease, (1, OrderState.ClosedByUser, _leaseResources(_terms())));
        calls[1] = abi.encodeCall(ILeases.extendLease, (1, 1));
        calls[2] = abi.encodeCall(ILeases.proposeUpdate, (1, _terms(), 1));
        calls[3] = abi.encodeCall(ILeases.rejectUpdate, (1, 0));
        calls[4] = abi.encodeCall(ILeases.rateLease, (1, 1));
        calls[5] = abi.encodeCall(ILeases.acceptUpdate, (1, _leaseResources(_terms()), _terms(), 1));
        calls[6] = abi.encodeCall(ILeases.announceLowFunds, (new uint64[](0)));
        calls[7] = abi.encodeCall(ILeases.skipNonce, ());
        calls[8] = abi.encodeCall(ILeases.undoLease, (1, _leaseResources(_terms())));
        calls[9] = abi.encodeCall(ILeases.slashLease, (1, 1, _leaseResources(_terms())));
        calls[10] = abi.encodeCall(ILeases.updateProposal, (1));
        calls[11] = abi.encodeCall(ILeases.workloadOf, (1));
        calls[12] = abi.encodeCall(ILeases.endOf, (1));
        calls[13] = abi.encodeCall(IDomain.eip712Domain, ());
        calls[14] = abi.encodeCall(ILeases.createOrderFor, (OrderRequest(address(0), 1, 0, 0, 0, _terms(), 0, 0), ""));
        calls[15] = abi.encodeCall(ILeases.closeFor, (CloseRequest(address(0), 1, 0, 0), LeaseResources(0, 0), ""));
    }
}
