// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {MatchingRule} from "../../src/avs/MatchingRule.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {MatchingParameters, OrderTerms, Task} from "../../src/Types.sol";
import {Vm} from "../Vm.sol";
import {MarketTest} from "../market/MarketTest.sol";
import {StandInVerifier} from "./StandInVerifier.sol";

/// @notice The market with its real task manager and the real rule; the verifier stands in for a quorum.
abstract contract TaskManagerTest is MarketTest {
    /// @dev EIP-2935's contract, as the EIP has it, and where it stands.
    address internal constant BLOCK_HASHES = 0x0000F90827F1C53a10cb7A02335B175320002935;
    bytes internal constant BLOCK_HASHES_CODE =
        hex"3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500";

    MatchingTaskManager internal tasks;
    StandInVerifier internal verifier;
    MatchingRule internal rule;
    /// @dev Bids as they were emitted, in log order, three words each.
    mapping(uint64 orderId => uint256[]) private _bids;

    function setUp() public virtual override {
        address deployer = makeAddress("deployer of the task manager");
        taskManager = vm.computeCreateAddress(deployer, 0);
        super.setUp();
        vm.etch(BLOCK_HASHES, BLOCK_HASHES_CODE);
        verifier = new StandInVerifier(false);
        rule = new MatchingRule();
        vm.prank(deployer);
        tasks = new MatchingTaskManager(address(manager), book, address(verifier));
        assertEq(address(tasks), taskManager, "task manager's address was predicted wrong");
        tasks.addMatchingParameters(_matchingParameters());
    }

    function _matchingParameters() internal view returns (MatchingParameters memory) {
        return MatchingParameters(
            [uint32(400_000), 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
            1_000_000,
            5,
            64,
            address(rule)
        );
    }

    // ------------------------------------------------------------------- blocks

    function _hash(uint256 blockNumber) internal pure returns (bytes32) {
        return keccak256(abi.encode("block", blockNumber));
    }

    /// @dev Goes to a block, and gives an earlier one its hash.
    function _roll(uint256 number, uint256 earlier) internal {
        vm.roll(number);
        if (number - earlier <= 256) vm.setBlockhash(earlier, _hash(earlier));
        else vm.store(BLOCK_HASHES, bytes32(earlier % 8191), _hash(earlier));
    }

    // ------------------------------------------------------------------ answers

    function _task(uint256 closeBlock, uint16 chunk) internal pure returns (Task memory) {
        return Task(uint32(closeBlock), _hash(closeBlock), chunk, 1);
    }

    /// @dev In the block after the close block.
    function _respond(uint256 closeBlock, uint16 chunk, uint256[] memory matches) internal {
        _roll(closeBlock + 1, closeBlock);
        _respondNow(closeBlock, chunk, matches);
    }

    function _respondNow(uint256 closeBlock, uint16 chunk, uint256[] memory matches) internal {
        Task memory task = _task(closeBlock, chunk);
        bytes memory proof = abi.encode(tasks.responseDigest(task, matches));
        vm.prank(responder);
        tasks.respond(task, matches, proof);
    }

    // --------------------------------------------------------------------- bids

    function _noteBid(address owner, uint64 orderId, uint96 rate) internal {
        vm.recordLogs();
        _bid(owner, orderId, rate);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        Vm.Log memory last = logs[logs.length - 1];
        assertEq(last.topics[0], IOrderBook.BidPlaced.selector, "a bid");
        (uint256 offer, uint256 scoreCard, uint256 capacity) = abi.decode(last.data, (uint256, uint256, uint256));
        _bids[orderId].push(offer);
        _bids[orderId].push(scoreCard);
        _bids[orderId].push(capacity);
    }

    function _forgetBids(uint64 orderId) internal {
        delete _bids[orderId];
    }

    function _bidsOf(uint64 orderId) internal view returns (uint256[] memory) {
        return _bids[orderId];
    }

    /// @dev Sorted as the rule wants them: ascending (provider, fizz), each pair's last bid first.
    function _bidOrderOf(uint256[] memory bids) internal pure returns (bytes memory order) {
        uint256 count = bids.length / 3;
        uint256[] memory keys = new uint256[](count);
        for (uint256 index = 0; index < count; ++index) {
            uint256 key = ((bids[3 * index] >> 116) << 16) | (0xffff - index);
            uint256 place = index;
            for (; place > 0 && keys[place - 1] > key; --place) {
                keys[place] = keys[place - 1];
            }
            keys[place] = key;
        }
        for (uint256 place = 0; place < count; ++place) {
            order = abi.encodePacked(order, uint16(0xffff - (keys[place] & 0xffff)));
        }
    }

    function _matchOrder(uint64 orderId) internal {
        _matchOrder(orderId, _terms());
    }

    function _matchOrder(uint64 orderId, OrderTerms memory terms) internal {
        uint256[] memory bids = _bidsOf(orderId);
        vm.prank(responder);
        tasks.matchOrder(orderId, terms, bids, _bidOrderOf(bids));
    }
}
