// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AllocationSlasher} from "../../src/avs/AllocationSlasher.sol";
import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenAllocationManager, EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {IMatchingTaskManager} from "../../src/avs/IMatchingTaskManager.sol";
import {MatchingDisputes} from "../../src/avs/MatchingDisputes.sol";
import {MatchingRule} from "../../src/avs/MatchingRule.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {MatchingParameters, OrderTerms, Task} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "../market/MarketTest.sol";
import {EigenLayerTest} from "./EigenLayerTest.sol";

/// @notice Everything a dispute touches, for real: the market, the rule, the task manager, quorums on EigenLayer's bytecode, the
/// disputes and the slasher, which the AVS account appointed. Four operators with 10, 20, 30 and 40 percent of the stake in each
/// of two quorums that both need 67 percent.
abstract contract DisputesTest is MarketTest, EigenLayerTest {
    uint32 internal constant CHALLENGE_BLOCKS = 100;
    uint64 internal constant SLASH_FRACTION = 0.1e18;
    /// @dev All four, and all but the first.
    uint256 internal constant EVERYBODY = 15;
    uint256 internal constant ALL_BUT_FIRST = 14;

    MatchingTaskManager internal tasks;
    MatchingRule internal rule;
    BlsQuorumVerifier internal verifier;
    MatchingDisputes internal matchingDisputes;
    AllocationSlasher internal slasher;
    address internal challenger = makeAddress("challenger");
    address internal anybody = makeAddress("anybody");

    /// @dev Words of the bids placed on an order, in log order.
    mapping(uint64 orderId => uint256[]) internal bidsOf;

    function setUp() public virtual override {
        // The order book names its collaborators when it is wired, so their addresses are settled first.
        address deployer = makeAddress("deployer of the task manager");
        taskManager = vm.computeCreateAddress(deployer, 0);
        disputes = vm.computeCreateAddress(deployer, 1);
        super.setUp();
        deployEigenLayer(2);
        _addOperators();
        uint8[] memory numbers = new uint8[](2);
        numbers[1] = 1;
        uint8[] memory thresholds = new uint8[](2);
        (thresholds[0], thresholds[1]) = (67, 67);
        verifier = new BlsQuorumVerifier(EigenRegistryCoordinator(address(coordinator)), numbers, thresholds, 0);
        rule = new MatchingRule();
        vm.prank(deployer);
        tasks = new MatchingTaskManager(address(accessManager), book, address(verifier));
        assertEq(address(tasks), taskManager, "task manager's address was predicted wrong");
        tasks.addMatchingParameters(_rule1());

        vm.prank(deployer);
        matchingDisputes = new MatchingDisputes(address(accessManager), tasks, CHALLENGE_BLOCKS);
        assertEq(address(matchingDisputes), disputes, "disputes' address was predicted wrong");
        slasher =
            new AllocationSlasher(address(accessManager), matchingDisputes, serviceManager, verifier, SLASH_FRACTION);
        serviceManager.setAppointee(
            address(slasher), address(allocationManager), EigenAllocationManager.slashOperator.selector
        );
        matchingDisputes.setSlasher(address(verifier), address(slasher));
        rememberKey(EVERYBODY, 2);
        rememberKey(ALL_BUT_FIRST, 2);
    }

    function _addOperators() internal virtual {
        for (uint256 i = 1; i <= 4; i++) {
            addOperator(uint256(keccak256(abi.encode("operator", i))), i * 100e18);
        }
    }

    function _rule1() internal view returns (MatchingParameters memory) {
        return MatchingParameters(
            [uint32(400_000), 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
            1_000_000,
            5,
            64,
            address(rule)
        );
    }

    // ------------------------------------------------------------------- bids

    /// @dev Bids, and keeps the words that were emitted.
    function _bidAndKeep(address owner, uint64 orderId, uint96 rate) internal {
        vm.recordLogs();
        _bid(owner, orderId, rate);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] != IOrderBook.BidPlaced.selector) continue;
            (uint256 offer, uint256 scoreCard, uint256 capacity) = abi.decode(logs[i].data, (uint256, uint256, uint256));
            bidsOf[orderId].push(offer);
            bidsOf[orderId].push(scoreCard);
            bidsOf[orderId].push(capacity);
        }
    }

    function _inputs(uint64 orderId) internal view returns (IMatchingDisputes.Inputs memory) {
        return _inputs(orderId, _terms());
    }

    function _inputs(uint64 orderId, OrderTerms memory terms)
        internal
        view
        returns (IMatchingDisputes.Inputs memory inputs)
    {
        return IMatchingDisputes.Inputs(terms, bidsOf[orderId], _bidOrder(bidsOf[orderId]));
    }

    /// @dev Indices of two bytes, so that (provider, fizz, 0xffff - index) ascends.
    function _bidOrder(uint256[] memory bids) internal pure returns (bytes memory order) {
        uint256 count = bids.length / 3;
        uint256[] memory keys = new uint256[](count);
        order = new bytes(2 * count);
        for (uint256 i = 0; i < count; i++) {
            uint256 key = (bids[3 * i] >> 116) << 16 | (0xffff - i);
            uint256 place = i;
            for (; place != 0 && keys[place - 1] > key; place--) {
                keys[place] = keys[place - 1];
            }
            keys[place] = key;
        }
        for (uint256 i = 0; i < count; i++) {
            uint256 index = 0xffff - (keys[i] & 0xffff);
            (order[2 * i], order[2 * i + 1]) = (bytes1(uint8(index >> 8)), bytes1(uint8(index)));
        }
    }

    // ---------------------------------------------------------------- answers

    function _closeBlock(uint64 orderId) internal view returns (uint32) {
        return book.order(orderId).closeBlock;
    }

    function _blockHash(uint32 number) internal pure returns (bytes32) {
        return keccak256(abi.encode("block", number));
    }

    function _task(uint32 closeBlock) internal pure returns (Task memory) {
        return Task(closeBlock, _blockHash(closeBlock), 0, PARAMS_VERSION);
    }

    /// @dev What the rule says of an order in its present round.
    function _right(uint64 orderId, OrderTerms memory terms) internal view returns (uint256[] memory ranks) {
        uint32 closeBlock = _closeBlock(orderId);
        uint256[] memory bids = bidsOf[orderId];
        (, ranks) = rule.rank(orderId, closeBlock, _blockHash(closeBlock), terms, _rule1(), bids, _bidOrder(bids));
    }

    function _right(uint64 orderId) internal view returns (uint256[] memory) {
        return _right(orderId, _terms());
    }

    /// @dev Answers chunk 0 of a close block in the block after it, signed by those whose bit is set.
    function _answer(uint32 closeBlock, uint256[] memory matches, uint256 signers)
        internal
        returns (IMatchingDisputes.Answer memory)
    {
        return _answer(_task(closeBlock), matches, signers);
    }

    function _answer(Task memory task, uint256[] memory matches, uint256 signers)
        internal
        returns (IMatchingDisputes.Answer memory answer)
    {
        if (vm.getBlockNumber() <= task.closeBlock) vm.roll(task.closeBlock + 1);
        vm.setBlockhash(task.closeBlock, _blockHash(task.closeBlock));
        bytes memory proof = abi.encode(prove(tasks.responseDigest(task, matches), task.closeBlock, signers, 2));
        vm.prank(responder);
        tasks.respond(task, matches, proof);
        return IMatchingDisputes.Answer(task, matches, _signatories(task.closeBlock, signers));
    }

    /// @dev One order, one answer: these ranks.
    function _answerOne(uint64 orderId, uint256[] memory ranks) internal returns (IMatchingDisputes.Answer memory) {
        return _answer(_closeBlock(orderId), _matches(orderId, _terms(), ranks), EVERYBODY);
    }

    function _signatories(uint32 closeBlock, uint256 signers) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(closeBlock, _absent(signers)));
    }

    /// @dev Operator ids of those who did not sign, ascending.
    function _absent(uint256 signers) internal view returns (bytes32[] memory ids) {
        uint256 count;
        ids = new bytes32[](operators.length);
        for (uint256 i = 0; i < operators.length; i++) {
            if (signers >> i & 1 == 1) continue;
            uint256 place = count++;
            for (; place != 0 && ids[place - 1] > operators[i].id; place--) {
                ids[place] = ids[place - 1];
            }
            ids[place] = operators[i].id;
        }
        assembly ("memory-safe") {
            mstore(ids, count)
        }
    }

    // --------------------------------------------------------------- disputes

    function _challenge(uint64 orderId, IMatchingDisputes.Answer memory answer) internal returns (bytes32) {
        return _challenge(orderId, _inputs(orderId), answer);
    }

    function _challenge(uint64 orderId, IMatchingDisputes.Inputs memory inputs, IMatchingDisputes.Answer memory answer)
        internal
        returns (bytes32)
    {
        vm.prank(challenger);
        return matchingDisputes.challenge(orderId, inputs, answer);
    }

    function _digest(IMatchingDisputes.Answer memory answer) internal view returns (bytes32) {
        return tasks.responseDigest(answer.task, answer.matches);
    }

    function _verdict(IMatchingDisputes.Answer memory answer) internal view returns (bytes32) {
        return keccak256(abi.encode(_digest(answer), answer.task.closeBlock, answer.signatories));
    }

    function assertProven(bytes32 verdict, bool proven) internal view {
        (uint32 provenAt,,) = matchingDisputes.verdictOf(verdict);
        assertEq(provenAt != 0, proven, "proven");
    }

    /// @dev Ranks in another order, by index.
    function _reorder(uint256[] memory ranks, uint256 first, uint256 second)
        internal
        pure
        returns (uint256[] memory swapped)
    {
        swapped = new uint256[](ranks.length);
        for (uint256 i = 0; i < ranks.length; i++) {
            swapped[i] = ranks[i == first ? second : i == second ? first : i];
        }
    }

    function _one(address only) internal pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = only;
    }
}
