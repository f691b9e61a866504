// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {MatchingParameters, OrderState, OrderTerms, Task} from "../../src/Types.sol";
import {MarketTest} from "../market/MarketTest.sol";
import {QuorumTest} from "./QuorumTest.sol";

/// @notice The whole path of an answer on the real parts: EigenLayer's registries, the task manager, the market. Gas is that
/// of whole transactions, cold: one quorum whose stakes must be young, everybody signs and their aggregate key is proven, a ring
/// that has gone round once, a responder who was paid before, every order of another account; two tries to hash to the
/// curve, with roots; five providers bid on all of them and win in turn, so that answers have five ranks.
contract RespondTest is MarketTest, QuorumTest {
    uint32 private constant STAKE_AGE = 20;

    MatchingTaskManager private _tasks;
    BlsQuorumVerifier private _verifier;
    uint32[] private _providers;
    uint32[] private _accounts;

    function setUp() public override {
        // The order book names its task manager when it is wired, so its address is settled first.
        address deployer = makeAddress("deployer of the task manager");
        taskManager = vm.computeCreateAddress(deployer, 0);
        super.setUp();

        deployEigenLayer(1);
        addOperator(uint256(keccak256("one")), 100e18);
        addOperator(uint256(keccak256("two")), 200e18);
        addOperator(uint256(keccak256("three")), 300e18);
        addOperator(uint256(keccak256("four")), 400e18);
        _verifier = newVerifier(67, STAKE_AGE);
        vm.prank(deployer);
        _tasks = new MatchingTaskManager(address(accessManager), book, address(_verifier));
        assertEq(address(_tasks), taskManager, "task manager's address was predicted wrong");
        _tasks.addMatchingParameters(
            MatchingParameters(
                [uint32(400_000), 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
                1_000_000,
                5,
                64,
                address(book)
            )
        );
    }

    function test_respond_1() public {
        assertLe(_respondCold(1, "respond.1"), 250_000, "one match");
    }

    function test_respond_10() public {
        assertLe(_respondCold(10, "respond.10"), 460_000, "ten matches");
    }

    function test_respond_100() public {
        assertLe(_respondCold(100, "respond.100"), 2_800_000, "a hundred matches");
    }

    function test_sizes() public {
        _size("MatchingTaskManager", address(_tasks).code.length);
        _size("BlsQuorumVerifier", _tasks.quorumVerifier().code.length);
        bytes32 implementation = bytes32(uint256(keccak256("eip1967.proxy.implementation")) - 1);
        address service = address(uint160(uint256(vm.load(address(serviceManager), implementation))));
        _size("MatchingServiceManager", service.code.length);
    }

    function _size(string memory name, uint256 bytes_) private {
        vm.snapshotValue("Market", string.concat("size.", name), bytes_);
        assertLe(bytes_, 22_000, name);
    }

    /// @dev Answers a task in each of two rounds of the ring; the second is measured.
    function _respondCold(uint256 count, string memory name) private returns (uint256 gas) {
        _addSuppliersAndAccounts(count);
        (uint256 closeBlock, uint256[] memory matches, uint64 last) = _orders(count);
        _respond(closeBlock, matches, 15);
        assertState(last, OrderState.Leased);

        vm.roll(closeBlock + _tasks.RING_BLOCKS() - BID_WINDOW);
        uint256 again;
        (again, matches, last) = _orders(count);
        assertEq(again, closeBlock + _tasks.RING_BLOCKS(), "the same word of the ring");
        _respond(again, matches, 15);
        gas = vm.snapshotGasLastCall("Market", name);
        assertState(last, OrderState.Leased);
    }

    function _respond(uint256 closeBlock, uint256[] memory matches, uint256 signers) private {
        _verifier.refresh(0, accountsOf(15));
        vm.roll(closeBlock + 1);
        // A hash whose message takes the mean number of tries to get to the curve, two, so that nothing is left to luck.
        Task memory task = Task(uint32(closeBlock), keccak256(abi.encode("block", closeBlock)), 0, 1);
        while (rootsOf(_tasks.responseDigest(task, matches)).length != 2) {
            task.closeBlockHash = keccak256(abi.encode(task.closeBlockHash));
        }
        vm.setBlockhash(closeBlock, task.closeBlockHash);
        bytes32 digest = _tasks.responseDigest(task, matches);
        IBlsQuorumVerifier.BlsProof memory proof = prove(digest, task.closeBlock, signers, 1);
        _verifier.proveKey(keyOf(signers, 1), proof.apkG2);
        bytes memory encoded = withRoots(digest, proof);
        vm.prank(responder);
        _tasks.respond(task, matches, encoded);
    }

    function _addSuppliersAndAccounts(uint256 count) private {
        for (uint256 index = 0; index < 5; ++index) {
            (, uint32 provider) = _addProvider(string.concat("provider", vm.toString(index)));
            _providers.push(provider);
        }
        for (uint256 index = 0; index < count; ++index) {
            uint32 opened = escrow.open(user);
            _deposit(opened, PLAIN_TOKEN, 1_000e18);
            _accounts.push(opened);
        }
    }

    function _orders(uint256 count) private returns (uint256 closeBlock, uint256[] memory matches, uint64 orderId) {
        OrderTerms memory terms = _terms();
        closeBlock = vm.getBlockNumber() + BID_WINDOW;
        for (uint256 index = 0; index < count; ++index) {
            vm.prank(user);
            orderId = book.createOrder(_accounts[index], PLAIN_TOKEN, 0, terms);
            uint256[] memory ranks = new uint256[](5);
            for (uint256 rank = 0; rank < 5; ++rank) {
                ranks[rank] = _rank(_providers[(index + rank) % 5], 90e18 + rank);
            }
            matches = _join(matches, _matches(orderId, terms, ranks));
        }
    }
}
