// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {MatchingParameters, Task} from "../../src/Types.sol";
import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {IMatchingTaskManager} from "../../src/avs/IMatchingTaskManager.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {EigenLayerTest} from "./EigenLayerTest.sol";
import {RecordingOrderBook} from "./RecordingOrderBook.sol";

contract MatchingTaskManagerTest is EigenLayerTest {
    RecordingOrderBook private book;
    MatchingTaskManager private manager;
    BlsQuorumVerifier private verifier;
    uint32 private closeBlock;

    function setUp() public {
        deployEigenLayer(1);
        addOperator(uint256(keccak256("one")), 100e18);
        addOperator(uint256(keccak256("two")), 200e18);
        verifier = _newVerifier(67);
        book = new RecordingOrderBook();
        manager = _newManager();
        manager.addMatchingParameters(_parameters());
        rememberKey(3, 1);
        closeBlock = _closeBlock(vm.getBlockNumber() + 10);
    }

    // ---------------------------------------------------------------- answers

    function test_an_answer_reaches_the_order_book_and_is_committed_to() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes32 digest = manager.responseDigest(task, matches);
        bytes memory proof = _proof(task, matches);
        bytes32 signatories = verifier.verify(digest, closeBlock, proof);
        uint224 commitment = uint224(uint256(keccak256(abi.encode(digest, closeBlock, signatories))) >> 32);
        address responder = makeAddress("responder");

        vm.expectEmit(address(manager));
        emit IMatchingTaskManager.TaskResponded(
            closeBlock, 3, responder, keccak256(abi.encodePacked(matches)), commitment
        );
        vm.prank(responder);
        manager.respond(task, matches, proof);

        assertEq(book.closeBlock(), closeBlock, "close block");
        assertEq(book.matchesHash(), keccak256(abi.encodePacked(matches)), "matches");
        assertEq(book.responder(), responder, "responder");
        assertEq(book.caller(), address(manager), "caller");
        assertEq(manager.answeredAt(closeBlock, 3), vm.getBlockNumber(), "answered at");
        assertEq(manager.answeredAt(closeBlock, 2), 0, "another chunk");
        assertEq(manager.commitmentOf(closeBlock, 3), commitment, "commitment");
    }

    /// @dev Independent of the contract: the digest from EIP-712's text.
    function test_the_digest_is_eip712() public view {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Spheron Matching"),
                keccak256("1"),
                block.chainid,
                address(manager)
            )
        );
        bytes32 response = keccak256(
            abi.encode(
                keccak256(
                    "MatchResponse(uint32 closeBlock,bytes32 closeBlockHash,uint16 chunk,uint16 paramsVersion,bytes32 matchesHash)"
                ),
                task.closeBlock,
                task.closeBlockHash,
                task.chunk,
                task.paramsVersion,
                keccak256(abi.encodePacked(matches))
            )
        );
        assertEq(
            manager.responseDigest(task, matches), keccak256(abi.encodePacked(hex"1901", domain, response)), "digest"
        );
    }

    function test_every_signed_field_matters() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes memory proof = _proof(task, matches);
        manager.addMatchingParameters(_parameters());

        Task memory other = _task();
        other.chunk = 4;
        _refused(other, matches, proof, _invalidSignature(other, matches));
        other = _task();
        other.paramsVersion = 2;
        _refused(other, matches, proof, _invalidSignature(other, matches));
        uint256[] memory changed = _matches();
        changed[1] += 1;
        _refused(task, changed, proof, _invalidSignature(task, changed));
        // Another contract (and so another domain) with the same task.
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        _refused(task, matches, proof, _invalidSignature(task, matches));
        vm.chainId(chain);
        manager.respond(task, matches, proof);
    }

    function test_an_answered_task_is_refused_before_any_pairing() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes memory proof = _proof(task, matches);
        manager.respond(task, matches, proof);
        bytes memory refusal = abi.encodeWithSelector(IMatchingTaskManager.TaskAlreadyAnswered.selector, closeBlock, 3);
        _refused(task, matches, proof, refusal);
        vm.roll(closeBlock + 100);
        _refused(task, matches, proof, refusal);

        // A pairing alone costs 113 000.
        uint256 before = gasleft();
        try manager.respond(task, matches, proof) {
            assertTrue(false, "answered twice");
        } catch {
            assertLt(before - gasleft(), 60_000, "gas of a refused answer");
        }
    }

    function test_the_window_is_closed_on_both_sides() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes memory proof = _proof(task, matches);
        vm.roll(closeBlock);
        _refused(task, matches, proof, _outside(closeBlock));
        vm.roll(closeBlock - 1);
        _refused(task, matches, proof, _outside(closeBlock - 1));
        vm.roll(closeBlock + 101);
        _refused(task, matches, proof, _outside(closeBlock + 101));
        vm.roll(closeBlock + 100);
        manager.respond(task, matches, proof);
    }

    function test_the_signed_hash_must_be_the_chains() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes32 actual = task.closeBlockHash;
        task.closeBlockHash = keccak256("a fork");
        _refused(
            task,
            matches,
            _proof(task, matches),
            abi.encodeWithSelector(
                IMatchingTaskManager.WrongCloseBlockHash.selector, closeBlock, task.closeBlockHash, actual
            )
        );
    }

    function test_chunk_and_params_version_must_exist() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        task.chunk = 64;
        _refused(task, matches, "", abi.encodeWithSelector(IMatchingTaskManager.ChunkOutOfRange.selector, 64, 64));
        task = _task();
        task.paramsVersion = 2;
        _refused(task, matches, "", abi.encodeWithSelector(IMatchingTaskManager.UnknownParamsVersion.selector, 2));
        task.paramsVersion = 0;
        _refused(task, matches, "", abi.encodeWithSelector(IMatchingTaskManager.UnknownParamsVersion.selector, 0));
    }

    function test_a_quorum_below_its_threshold_is_refused() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes memory proof = abi.encode(prove(manager.responseDigest(task, matches), closeBlock, 2, 1));
        _refused(
            task,
            matches,
            proof,
            abi.encodeWithSelector(IBlsQuorumVerifier.ThresholdNotReached.selector, 0, 200e18, 300e18, 67)
        );
    }

    /// @dev The word of the ring's previous round is neither an answer to this task nor in its way.
    function test_the_ring_goes_round() public {
        uint256 blocks = manager.RING_BLOCKS();
        for (uint256 round = 0; round < 3; round++) {
            (Task memory task, uint256[] memory matches) = (_task(), _matches());
            assertEq(manager.answeredAt(closeBlock, 3), 0, "not answered yet");
            assertEq(manager.commitmentOf(closeBlock, 3), 0, "no commitment yet");
            vm.roll(closeBlock + 1 + 49 * round);
            manager.respond(task, matches, _proof(task, matches));
            assertEq(manager.answeredAt(closeBlock, 3), closeBlock + 1 + 49 * round, "answered");
            closeBlock = _closeBlock(closeBlock + blocks);
            assertEq(manager.answeredAt(uint32(closeBlock - blocks), 3), closeBlock - blocks + 1 + 49 * round, "kept");
        }
    }

    /// @dev Whatever block a word was written in, it counts for exactly one close block of those that share it.
    function test_fuzz_a_word_counts_for_one_close_block(uint32 given, uint8 delay, uint8 rounds) public {
        uint256 blocks = manager.RING_BLOCKS();
        given = uint32(bound(given, 50_000, 4_000_000_000));
        delay = uint8(bound(delay, 1, 100));
        closeBlock = _closeBlock(given);
        // Stakes do not age here, the operators' last entries count.
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        vm.roll(uint256(given) + delay);
        manager.respond(task, matches, _proof(task, matches));
        uint256 distance = blocks * (uint256(rounds) % 40 + 1);
        assertEq(manager.answeredAt(given, 3), uint256(given) + delay, "its own close block");
        assertEq(manager.answeredAt(uint32(given + distance), 3), 0, "a later round");
        assertEq(manager.answeredAt(uint32(given - distance), 3), 0, "an earlier round");
    }

    // ------------------------------------------------------------- governance

    function test_only_who_the_access_manager_lets_may_govern() public {
        address stranger = makeAddress("stranger");
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        manager.addMatchingParameters(_parameters());
        vm.expectRevert(refusal);
        manager.setQuorumVerifier(address(verifier), 1 << 31);
        vm.expectRevert(refusal);
        manager.pause();
        vm.expectRevert(refusal);
        manager.resume();
        vm.stopPrank();
    }

    function test_parameters_are_checked_and_append_only() public {
        MatchingParameters memory parameters = _parameters();
        parameters.weights[0] += 1;
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.WeightsDoNotSumUp.selector, 1_000_001, 1_000_000));
        manager.addMatchingParameters(parameters);
        parameters = _parameters();
        (parameters.weights[0], parameters.weights[7]) = (399_999, 50_001);
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.RandomnessWeightTooHigh.selector, 50_001, 50_000));
        manager.addMatchingParameters(parameters);
        parameters = _parameters();
        parameters.stakeCap = 0;
        vm.expectRevert(IMatchingTaskManager.StakeCapIsZero.selector);
        manager.addMatchingParameters(parameters);
        parameters = _parameters();
        parameters.rankLimit = 9;
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.RankLimitOutOfRange.selector, 9, 8));
        manager.addMatchingParameters(parameters);
        parameters = _parameters();
        parameters.chunkSize = 0;
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.ChunkSizeOutOfRange.selector, 0, 256));
        manager.addMatchingParameters(parameters);

        parameters = _parameters();
        parameters.stakeCap = 7;
        assertEq(manager.addMatchingParameters(parameters), 2, "version");
        assertEq(manager.matchingParametersCount(), 2, "count");
        assertEq(manager.matchingParameters(1).stakeCap, 1_000_000, "first version");
        assertEq(manager.matchingParameters(2).stakeCap, 7, "second version");
        assertEq(manager.matchingParameters(2).weights[6], 50_000, "a weight");
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.UnknownParamsVersion.selector, 3));
        manager.matchingParameters(3);
    }

    /// @dev What decides a task is fixed by its close block.
    function test_another_verifier_decides_later_close_blocks_only() public {
        BlsQuorumVerifier strict = _newVerifier(100);
        // Two rounds of the longest bid window of 20, the response window of 100 and the match window of 50.
        uint32 fromBlock = uint32(vm.getBlockNumber() + 341);
        vm.expectRevert(
            abi.encodeWithSelector(
                IMatchingTaskManager.VerifierBlockTooEarly.selector, fromBlock - 1, uint256(fromBlock)
            )
        );
        manager.setQuorumVerifier(address(strict), fromBlock - 1);
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.NotAContract.selector, address(1)));
        manager.setQuorumVerifier(address(1), fromBlock);

        manager.setQuorumVerifier(address(strict), fromBlock);
        assertEq(manager.quorumVerifier(), address(verifier), "still the old one");
        assertEq(manager.quorumVerifierAt(fromBlock - 1), address(verifier), "before");
        assertEq(manager.quorumVerifierAt(fromBlock), address(strict), "from");

        // A task that closed before is decided by the old verifier although the new one is in force by now.
        closeBlock = _closeBlock(fromBlock - 1);
        vm.roll(fromBlock + 10);
        assertEq(manager.quorumVerifier(), address(strict), "now the new one");
        manager.respond(_task(), _matches(), _proof(_task(), _matches()));
        closeBlock = _closeBlock(fromBlock);
        Task memory task = _task();
        vm.roll(fromBlock + 11);
        bytes memory proof = abi.encode(prove(manager.responseDigest(task, _matches()), closeBlock, 2, 1));
        _refused(
            task,
            _matches(),
            proof,
            abi.encodeWithSelector(IBlsQuorumVerifier.ThresholdNotReached.selector, 0, 200e18, 300e18, 100)
        );
        manager.respond(task, _matches(), _proof(task, _matches()));
    }

    function test_a_change_is_replaced_only_while_it_concerns_no_order() public {
        (BlsQuorumVerifier second, BlsQuorumVerifier third) = (_newVerifier(70), _newVerifier(80));
        uint32 fromBlock = uint32(vm.getBlockNumber() + 341);
        manager.setQuorumVerifier(address(second), fromBlock);
        manager.setQuorumVerifier(address(third), fromBlock + 1);
        assertEq(manager.quorumVerifierAt(fromBlock), address(verifier), "the second never counted");
        assertEq(manager.quorumVerifierAt(fromBlock + 1), address(third), "replaced");

        // From now on orders can be made that the third decides.
        bytes4 refusal = IMatchingTaskManager.VerifierChangeTooSoon.selector;
        vm.roll(vm.getBlockNumber() + 2);
        vm.expectRevert(abi.encodeWithSelector(refusal, fromBlock + 1, vm.getBlockNumber()));
        manager.setQuorumVerifier(address(second), fromBlock + 1000);
        vm.roll(fromBlock);
        vm.expectRevert(abi.encodeWithSelector(refusal, fromBlock + 1, fromBlock));
        manager.setQuorumVerifier(address(second), fromBlock + 1000);
        vm.roll(fromBlock + 1);
        manager.setQuorumVerifier(address(second), fromBlock + 1000);
        assertEq(manager.quorumVerifier(), address(third), "in force");
        assertEq(manager.quorumVerifierAt(fromBlock + 1000), address(second), "next");
    }

    /// @dev Disputes about old answers find who slashes for them by this.
    function test_every_close_block_keeps_its_verifier() public {
        BlsQuorumVerifier[4] memory verifiers = [verifier, _newVerifier(70), _newVerifier(80), _newVerifier(90)];
        uint32[4] memory from;
        for (uint256 i = 1; i < 4; i++) {
            from[i] = uint32(vm.getBlockNumber() + 341);
            manager.setQuorumVerifier(address(verifiers[i]), from[i]);
            vm.roll(from[i]);
        }
        for (uint256 i = 0; i < 4; i++) {
            assertEq(manager.quorumVerifierAt(from[i]), address(verifiers[i]), "first block");
            uint32 last = i == 3 ? type(uint32).max : from[i + 1] - 1;
            assertEq(manager.quorumVerifierAt(last), address(verifiers[i]), "last block");
        }
    }

    function test_a_pause_stops_answers_until_it_ends() public {
        (Task memory task, uint256[] memory matches) = (_task(), _matches());
        bytes memory proof = _proof(task, matches);
        manager.pause();
        assertTrue(manager.paused(), "paused");
        _refused(task, matches, proof, abi.encodeWithSelector(IMatchingTaskManager.MatchingIsPaused.selector));
        manager.resume();
        manager.respond(task, matches, proof);
    }

    function test_the_response_window_is_the_order_books() public {
        assertEq(manager.responseWindow(), 100, "response window");
        book.setResponseWindow(257);
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.ResponseWindowOutOfRange.selector, 257, 256));
        _newManager();
        book.setResponseWindow(0);
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.ResponseWindowOutOfRange.selector, 0, 256));
        _newManager();
    }

    // ---------------------------------------------------------------- helpers

    function _refused(Task memory task, uint256[] memory matches, bytes memory proof, bytes memory reason) private {
        vm.expectRevert(reason);
        manager.respond(task, matches, proof);
    }

    function _outside(uint256 blockNumber) private view returns (bytes memory) {
        return abi.encodeWithSelector(IMatchingTaskManager.OutsideResponseWindow.selector, closeBlock, blockNumber);
    }

    function _invalidSignature(Task memory task, uint256[] memory matches) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, manager.responseDigest(task, matches));
    }

    function _newManager() private returns (MatchingTaskManager) {
        return new MatchingTaskManager(address(accessManager), IOrderBook(address(book)), address(verifier));
    }

    function _newVerifier(uint8 threshold) private returns (BlsQuorumVerifier) {
        uint8[] memory thresholds = new uint8[](1);
        thresholds[0] = threshold;
        return new BlsQuorumVerifier(EigenRegistryCoordinator(address(coordinator)), new uint8[](1), thresholds, 0);
    }

    /// @dev Goes to the block after `number` and gives `number` a hash.
    function _closeBlock(uint256 number) private returns (uint32) {
        vm.roll(number + 1);
        vm.setBlockhash(number, keccak256(abi.encode("block", number)));
        return uint32(number);
    }

    function _task() private view returns (Task memory) {
        return Task(closeBlock, keccak256(abi.encode("block", uint256(closeBlock))), 3, 1);
    }

    function _matches() private pure returns (uint256[] memory matches) {
        matches = new uint256[](4);
        (matches[0], matches[1], matches[2], matches[3]) = (0x1_00000001 << 8 | 1, 77, 88, 99);
    }

    function _proof(Task memory task, uint256[] memory matches) private view returns (bytes memory) {
        return abi.encode(prove(manager.responseDigest(task, matches), task.closeBlock, 3, 1));
    }

    function _parameters() private view returns (MatchingParameters memory) {
        return MatchingParameters(
            [uint32(400_000), 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
            1_000_000,
            5,
            64,
            address(book)
        );
    }
}
