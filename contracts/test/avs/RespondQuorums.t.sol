// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {MatchingParameters, OrderState, OrderTerms, Task} from "../../src/Types.sol";
import {MarketTest} from "../market/MarketTest.sol";
import {QuorumTest} from "./QuorumTest.sol";

/// @notice One answered order as in {RespondTest}, with one quorum and two, a proven aggregate key and an unproven one, the age of
/// stakes enforced.
contract RespondQuorumsTest is MarketTest, QuorumTest {
    uint32 private constant STAKE_AGE = 20;

    MatchingTaskManager private _tasks;
    BlsQuorumVerifier private _verifier;
    uint32[] private _providers;
    uint32 private _account;
    address private _deployer;

    function setUp() public override {
        // The order book names its task manager when it is wired, so its address is settled first.
        _deployer = makeAddress("deployer of the task manager");
        taskManager = vm.computeCreateAddress(_deployer, 0);
        super.setUp();
    }

    /// @dev The proven one is {RespondTest}'s.
    function test_one_quorum_with_an_unproven_key() public {
        _deploy(1);
        assertLe(_respondCold(false, "respond.1.unprovenKey"), 256_000, "one quorum");
    }

    function test_two_quorums_with_an_unproven_key() public {
        _deploy(2);
        assertLe(_respondCold(false, "respond.twoQuorums.unprovenKey"), 275_000, "two quorums");
    }

    function test_two_quorums_with_a_proven_key() public {
        _deploy(2);
        assertLe(_respondCold(true, "respond.twoQuorums"), 275_000, "two quorums, proven key");
    }

    // ---------------------------------------------------------------- private

    function _deploy(uint8 quorumCount) private {
        deployEigenLayer(quorumCount);
        addOperator(uint256(keccak256("one")), 100e18);
        addOperator(uint256(keccak256("two")), 200e18);
        addOperator(uint256(keccak256("three")), 300e18);
        addOperator(uint256(keccak256("four")), 400e18);
        uint8[] memory thresholds = new uint8[](quorumCount);
        for (uint8 q = 0; q < quorumCount; ++q) {
            thresholds[q] = 67;
        }
        _verifier = newVerifier(thresholds, STAKE_AGE);
        vm.prank(_deployer);
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
        for (uint256 index = 0; index < 5; ++index) {
            (, uint32 provider) = _addProvider(string.concat("provider", vm.toString(index)));
            _providers.push(provider);
        }
        _account = escrow.open(user);
        _deposit(_account, PLAIN_TOKEN, 1_000e18);
    }

    /// @dev Answers a task in each of two rounds of the ring; the second is measured.
    function _respondCold(bool proven, string memory name) private returns (uint256 gas) {
        (uint256 closeBlock, uint64 orderId) = _answer(proven);
        assertState(orderId, OrderState.Leased);
        vm.roll(closeBlock + _tasks.RING_BLOCKS() - BID_WINDOW);
        uint256 again;
        (again, orderId) = _answer(proven);
        gas = vm.snapshotGasLastCall("Market", name);
        assertEq(again, closeBlock + _tasks.RING_BLOCKS(), "the same word of the ring");
        assertState(orderId, OrderState.Leased);
    }

    function _answer(bool proven) private returns (uint256 closeBlock, uint64 orderId) {
        for (uint8 q = 0; q < strategies.length; ++q) {
            _verifier.refresh(q, accountsOf(15));
        }
        OrderTerms memory terms = _terms();
        closeBlock = vm.getBlockNumber() + BID_WINDOW;
        vm.prank(user);
        orderId = book.createOrder(_account, PLAIN_TOKEN, 0, terms);
        uint256[] memory ranks = new uint256[](5);
        for (uint256 rank = 0; rank < 5; ++rank) {
            ranks[rank] = _rank(_providers[rank], 90e18 + rank);
        }
        _respond(
            Task(uint32(closeBlock), keccak256(abi.encode(closeBlock)), 0, 1), _matches(orderId, terms, ranks), proven
        );
    }

    function _respond(Task memory task, uint256[] memory matches, bool proven) private {
        vm.roll(task.closeBlock + 1);
        // A hash whose message takes the mean number of tries to get to the curve, two, so that nothing is left to luck.
        while (rootsOf(_tasks.responseDigest(task, matches)).length != 2) {
            task.closeBlockHash = keccak256(abi.encode(task.closeBlockHash));
        }
        vm.setBlockhash(task.closeBlock, task.closeBlockHash);
        bytes32 digest = _tasks.responseDigest(task, matches);
        IBlsQuorumVerifier.BlsProof memory proof = prove(digest, task.closeBlock, 15, strategies.length);
        IBlsQuorumVerifier.G1Point memory key = keyOf(15, strategies.length);
        if (proven && !_verifier.isProvenKey(key, proof.apkG2)) _verifier.proveKey(key, proof.apkG2);
        bytes memory encoded = withRoots(digest, proof);
        vm.prank(responder);
        _tasks.respond(task, matches, encoded);
    }
}
