// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IMatchingRule} from "../../src/avs/IMatchingRule.sol";
import {IMatchingTaskManager} from "../../src/avs/IMatchingTaskManager.sol";
import {MatchingTaskManager} from "../../src/avs/MatchingTaskManager.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {MatchingParameters, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {TaskManagerTest} from "./TaskManagerTest.sol";
import {TermsHash} from "../market/TermsHash.sol";

/// @notice Nobody answered: the rule itself, run on chain by anyone, decides. Its windows here reach further back than
/// `blockhash`.
contract MatchOrderTest is TaskManagerTest {
    uint256 private constant UNLOCKED = 1_000_000e18;
    uint16 private constant LONG_MATCH_WINDOW = 1_000;

    address private _dear;
    uint32 private _dearId;
    address private _cheap;
    uint32 private _cheapId;

    function setUp() public override {
        super.setUp();
        (_dear, _dearId) = _addProvider("dear");
        (_cheap, _cheapId) = _addProvider("cheap");
    }

    function _parameters() internal pure override returns (IOrderBook.Parameters memory given) {
        given = super._parameters();
        given.matchWindow = LONG_MATCH_WINDOW;
    }

    // -------------------------------------------------------------------- works

    function test_matchOrder_opensTheLeaseAndPaysTheFee() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        vm.expectEmit(address(tasks));
        emit IMatchingTaskManager.OrderMatchedByRule(orderId, uint32(closeBlock), responder, 2);
        vm.expectEmit(address(book));
        emit IOrderBook.LeaseCreated(orderId, _cheapId, 50e18, uint32(block.timestamp), 0);
        _matchOrder(orderId);

        assertState(orderId, OrderState.Leased);
        assertTrue(tasks.matchedByRule(orderId), "by the rule");
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "match fee");
        uint256 lock = escrow.lockFor(50e18, 3_600, PLAIN_SCHEDULE) - MATCH_FEE;
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - lock - MATCH_FEE, lock);
        assertEq(tasks.answeredAt(uint32(closeBlock), 0), 0, "no answer of a quorum");
    }

    /// @dev The last block of the window, whose close block's hash only EIP-2935 still gives.
    function test_matchOrder_inTheLastBlock() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        _roll(closeBlock + RESPONSE_WINDOW + LONG_MATCH_WINDOW, closeBlock);
        assertEq(blockhash(closeBlock), bytes32(0), "out of reach");
        _matchOrder(orderId);
        assertEq(book.order(orderId).supplier, _cheapId, "supplier");
    }

    /// @dev The draws are those of the close block's hash, wherever it came from.
    function test_matchOrder_isWhatTheRuleSays() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        uint256[] memory bids = _bidsOf(orderId);
        (, uint256[] memory ranks) = rule.rank(
            orderId, uint32(closeBlock), _hash(closeBlock), _terms(), _matchingParameters(), bids, _bidOrderOf(bids)
        );
        assertEq(ranks.length, 2, "ranks");
        uint256[2] memory ages = [uint256(RESPONSE_WINDOW) + 1, RESPONSE_WINDOW + LONG_MATCH_WINDOW];
        for (uint256 index = 0; index < 2; ++index) {
            uint256 state = vm.snapshotState();
            _roll(closeBlock + ages[index], closeBlock);
            vm.expectCall(
                address(rule),
                abi.encodeCall(
                    IMatchingRule.rank,
                    (
                        orderId,
                        uint32(closeBlock),
                        _hash(closeBlock),
                        _terms(),
                        _matchingParameters(),
                        bids,
                        _bidOrderOf(bids)
                    )
                )
            );
            _matchOrder(orderId);
            assertEq(_rank(book.order(orderId).supplier, book.order(orderId).rate), ranks[0], "the first rank");
            assertTrue(vm.revertToState(state), "state reverted");
        }
    }

    function test_matchOrder_takesTheNextInRank() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        registry.suspend(_cheapId);
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _matchOrder(orderId);
        assertEq(book.order(orderId).supplier, _dearId, "supplier");
    }

    /// @dev An order's own version decides, also when newer ones exist.
    function test_matchOrder_underTheOrdersVersion() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        MatchingParameters memory parameters = _matchingParameters();
        parameters.rankLimit = 1;
        tasks.addMatchingParameters(parameters);
        book.setBidding(BID_WINDOW, BID_LIMIT, 2);
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        vm.expectEmit(address(tasks));
        emit IMatchingTaskManager.OrderMatchedByRule(orderId, uint32(closeBlock), responder, 2);
        _matchOrder(orderId);
    }

    function test_matchOrder_withoutAValidBidExpires() public {
        OrderTerms memory terms = _terms();
        // Nobody is in tier 7 alone.
        terms.requirements = (uint256(0x80) << 8) | (uint256(PARAMS_VERSION) << 88);
        uint64 orderId = _createOrder(terms);
        _noteBid(_cheap, orderId, 50e18);
        uint256 closeBlock = book.order(orderId).closeBlock;
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        vm.expectEmit(address(book));
        emit IOrderBook.OrderExpired(orderId);
        _matchOrder(orderId, terms);
        assertState(orderId, OrderState.Expired);
        assertTrue(tasks.matchedByRule(orderId), "by the rule");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), 0, "no match, no fee");
    }

    function test_matchOrder_withoutBidsExpires() public {
        uint64 orderId = _createOrder();
        uint256 closeBlock = book.order(orderId).closeBlock;
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _matchOrder(orderId);
        assertState(orderId, OrderState.Expired);
    }

    /// @dev Requeued once. The second round may be a quorum's again, or the rule's, with its own bids.
    function test_matchOrder_withoutCapacityRequeuesOnce() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        registry.suspend(_cheapId);
        registry.suspend(_dearId);
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _matchOrder(orderId);
        Order memory order = book.order(orderId);
        assertEq(uint256(order.state), uint256(OrderState.Open), "state");
        assertTrue(order.requeued, "requeued");
        assertFalse(tasks.matchedByRule(orderId), "not decided yet");

        registry.reinstate(_cheapId);
        registry.reinstate(_dearId);
        uint256[] memory earlier = _bidsOf(orderId);
        _forgetBids(orderId);
        _noteBid(_dear, orderId, 95e18);
        uint256 state = vm.snapshotState();

        // The first round's bids are not those of the second.
        _roll(uint256(order.closeBlock) + RESPONSE_WINDOW + 1, order.closeBlock);
        vm.expectPartialRevert(IMatchingTaskManager.WrongBids.selector);
        tasks.matchOrder(orderId, _terms(), earlier, _bidOrderOf(earlier));
        _matchOrder(orderId);
        assertEq(book.order(orderId).supplier, _dearId, "by the rule");
        assertTrue(tasks.matchedByRule(orderId), "by the rule");

        assertTrue(vm.revertToState(state), "state reverted");
        _respond(order.closeBlock, 0, _matches(orderId, _terms(), _rank(_dearId, 95e18)));
        assertState(orderId, OrderState.Leased);
        assertFalse(tasks.matchedByRule(orderId), "by a quorum");

        assertTrue(vm.revertToState(state), "state reverted");
        registry.suspend(_dearId);
        _roll(uint256(order.closeBlock) + RESPONSE_WINDOW + 1, order.closeBlock);
        _matchOrder(orderId);
        assertState(orderId, OrderState.Expired);
    }

    /// @dev A requeued order without new bids has none, whatever its record holds.
    function test_matchOrder_secondRoundWithoutBidsExpires() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        registry.suspend(_cheapId);
        registry.suspend(_dearId);
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _matchOrder(orderId);
        closeBlock = book.order(orderId).closeBlock;
        _forgetBids(orderId);
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _matchOrder(orderId);
        assertState(orderId, OrderState.Expired);
    }

    function test_matchOrder_saysNothingAboutAnAnsweredOrder() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        _respond(closeBlock, 0, _matches(orderId, _terms(), _rank(_dearId, 90e18)));
        assertFalse(tasks.matchedByRule(orderId), "by a quorum");
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _refused(orderId, abi.encodeWithSelector(IMatchingTaskManager.OrderNotOpen.selector, orderId));
    }

    // ---------------------------------------------------------------------- gas

    function test_matchOrder_1() public {
        assertLe(_gasOf(1, "matchOrder.1"), 250_000, "one bid");
    }

    /// @dev As many bids as an order takes, every one of another provider.
    function test_matchOrder_512() public {
        assertLe(_gasOf(BID_LIMIT, "matchOrder.512"), 16_777_216 / 2, "half of what a transaction may use");
    }

    function _gasOf(uint256 count, string memory name) private returns (uint256 gas) {
        uint64 orderId = _createOrder();
        for (uint256 index = 0; index < count; ++index) {
            (address owner,) = _addProvider(string.concat("bidder", vm.toString(index)));
            _noteBid(owner, orderId, uint96(50e18 + (index * 7_919) % 512));
        }
        uint256 closeBlock = book.order(orderId).closeBlock;
        uint256[] memory bids = _bidsOf(orderId);
        bytes memory data =
            abi.encodeCall(IMatchingTaskManager.matchOrder, (orderId, _terms(), bids, _bidOrderOf(bids)));
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        vm.prank(responder);
        (bool success,) = address(tasks).call(data);
        gas = vm.snapshotGasLastCall("Market", name);
        assertTrue(success, "matched");
        assertState(orderId, OrderState.Leased);
    }

    // ------------------------------------------------------------------ refused

    function test_matchOrder_tooEarlyAndTooLate() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        uint256[5] memory outside = [
            closeBlock - 1,
            closeBlock,
            closeBlock + 1,
            closeBlock + RESPONSE_WINDOW,
            closeBlock + RESPONSE_WINDOW + LONG_MATCH_WINDOW + 1
        ];
        for (uint256 index = 0; index < outside.length; ++index) {
            vm.roll(outside[index]);
            _refused(
                orderId,
                abi.encodeWithSelector(
                    IMatchingTaskManager.OutsideMatchWindow.selector, uint32(closeBlock), outside[index]
                )
            );
        }
        // Now anyone may end it.
        book.expireOrders(_ids(orderId));
        assertState(orderId, OrderState.Expired);
    }

    /// @dev Nobody ends an order that the rule may still be run for.
    function test_matchOrder_cannotBeForestalledByExpiring() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        uint256 first = closeBlock + RESPONSE_WINDOW + LONG_MATCH_WINDOW + 1;
        vm.roll(first - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.NotYetExpirable.selector, orderId, first, first - 1), address(book)
        );
        book.expireOrders(_ids(orderId));
        vm.roll(first);
        book.expireOrders(_ids(orderId));
    }

    function test_matchOrder_ordersThatAreNotOpen() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        vm.prank(user);
        book.cancelOrder(orderId);
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        _refused(orderId, abi.encodeWithSelector(IMatchingTaskManager.OrderNotOpen.selector, orderId));
        _refused(77, abi.encodeWithSelector(IMatchingTaskManager.OrderNotOpen.selector, 77));
    }

    function test_matchOrder_wrongTerms() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        bytes32 stored = book.termsHash(orderId);
        for (uint256 field = 0; field < 8; ++field) {
            OrderTerms memory terms = _terms();
            if (field == 0) terms.resources += 1;
            if (field == 1) terms.requirements ^= 1 << 20;
            if (field == 2) terms.regions -= 1;
            if (field == 3) terms.manifestHash = keccak256("another");
            if (field == 4) terms.maximumRate += 1;
            if (field == 5) terms.duration += 1;
            if (field == 6) terms.wantedSuppliers = _supplierList(_dearId);
            if (field == 7) terms.excludedSuppliers = _supplierList(_cheapId);
            bytes32 given = TermsHash.whole(terms);
            uint256[] memory bids = _bidsOf(orderId);
            vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.WrongTerms.selector, orderId, given, stored));
            tasks.matchOrder(orderId, terms, bids, _bidOrderOf(bids));
        }
    }

    function test_matchOrder_wrongBids() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        uint256[] memory bids = _bidsOf(orderId);
        (,, uint256 stored) = book.orderRecord(orderId);

        // None, one left out, one changed, two swapped, one twice.
        _bidsRefused(orderId, new uint256[](0), 0, stored);
        uint256[] memory fewer = new uint256[](3);
        (fewer[0], fewer[1], fewer[2]) = (bids[0], bids[1], bids[2]);
        _bidsRefused(orderId, fewer, 1, stored);
        for (uint256 word = 0; word < 6; ++word) {
            bids[word] += 1 << 40;
            _bidsRefused(orderId, bids, 1, stored);
            bids[word] -= 1 << 40;
        }
        uint256[] memory swapped = new uint256[](6);
        for (uint256 word = 0; word < 6; ++word) {
            swapped[word] = bids[(word + 3) % 6];
        }
        _bidsRefused(orderId, swapped, 1, stored);
        _bidsRefused(orderId, _join(bids, fewer), 1, stored);

        // The rule's own refusals come through.
        vm.expectPartialRevert(IMatchingRule.BidOrderLength.selector);
        tasks.matchOrder(orderId, _terms(), bids, "");
        vm.expectPartialRevert(IMatchingRule.BidOrderNotAscending.selector);
        tasks.matchOrder(orderId, _terms(), bids, hex"00000000");
        _matchOrder(orderId);
    }

    function test_matchOrder_unknownVersion() public {
        book.setBidding(BID_WINDOW, BID_LIMIT, 2);
        OrderTerms memory terms = _terms();
        terms.requirements = (uint256(0xfe) << 8) | (uint256(2) << 88);
        uint64 orderId = _createOrder(terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.UnknownParamsVersion.selector, 2));
        tasks.matchOrder(orderId, terms, new uint256[](0), "");
    }

    function test_matchOrder_pause() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        tasks.pause();
        _refused(orderId, abi.encodeWithSelector(IMatchingTaskManager.MatchingIsPaused.selector));
        // The guardian cannot keep money in: its owner takes the order back, later anyone may end it.
        uint256 state = vm.snapshotState();
        vm.prank(user);
        book.cancelOrder(orderId);
        assertTrue(vm.revertToState(state), "state reverted");
        tasks.resume();
        _matchOrder(orderId);
        assertState(orderId, OrderState.Leased);
    }

    function test_matchOrder_withoutTheChainsHistory() public {
        (uint64 orderId, uint256 closeBlock) = _order();
        vm.roll(closeBlock + RESPONSE_WINDOW + LONG_MATCH_WINDOW);
        // The contract is there and knows nothing of the block; then it is not there at all.
        _refused(orderId, abi.encodeWithSelector(IMatchingTaskManager.BlockHashUnknown.selector, uint32(closeBlock)));
        vm.etch(BLOCK_HASHES, "");
        _refused(orderId, abi.encodeWithSelector(IMatchingTaskManager.BlockHashUnknown.selector, uint32(closeBlock)));
        // A chain without it is no place for windows this long.
        vm.expectRevert(abi.encodeWithSelector(IMatchingTaskManager.NotAContract.selector, BLOCK_HASHES));
        new MatchingTaskManager(address(manager), book, address(verifier));
    }

    /// @dev Lists with bits above their 32 do not hash to the order's terms.
    function test_matchOrder_dirtyTerms() public {
        OrderTerms memory terms = _terms();
        terms.wantedSuppliers = _supplierList(0xabcdef);
        uint64 orderId = _createOrder(terms);
        _noteBid(_cheap, orderId, 50e18);
        uint256 closeBlock = book.order(orderId).closeBlock;
        _roll(closeBlock + RESPONSE_WINDOW + 1, closeBlock);
        uint256[] memory bids = _bidsOf(orderId);
        bytes memory data = abi.encodeCall(IMatchingTaskManager.matchOrder, (orderId, terms, bids, _bidOrderOf(bids)));
        for (uint256 index = 4; index + 32 <= data.length; index += 32) {
            uint256 word;
            assembly {
                word := mload(add(add(data, 0x20), index))
            }
            if (word != 0xabcdef) continue;
            assembly {
                mstore(add(add(data, 0x20), index), or(word, shl(32, 1)))
            }
        }
        (bool success,) = address(tasks).call(data);
        assertFalse(success, "an element of more than 32 bits");
        _matchOrder(orderId, terms);
        assertState(orderId, OrderState.Expired);
    }

    // ------------------------------------------------------------------ private

    /// @dev With two bids, the cheaper one the later.
    function _order() private returns (uint64 orderId, uint256 closeBlock) {
        orderId = _createOrder();
        _noteBid(_dear, orderId, 90e18);
        _noteBid(_cheap, orderId, 50e18);
        closeBlock = book.order(orderId).closeBlock;
    }

    function _refused(uint64 orderId, bytes memory reason) private {
        OrderTerms memory terms = _terms();
        uint256[] memory bids = _bidsOf(orderId);
        bytes memory order = _bidOrderOf(bids);
        vm.expectRevert(reason);
        tasks.matchOrder(orderId, terms, bids, order);
    }

    function _bidsRefused(uint64 orderId, uint256[] memory bids, uint256 least, uint256 stored) private {
        OrderTerms memory terms = _terms();
        bytes memory order = _bidOrderOf(bids);
        (bool success, bytes memory result) =
            address(tasks).call(abi.encodeCall(IMatchingTaskManager.matchOrder, (orderId, terms, bids, order)));
        assertFalse(success, "other bids were taken");
        assertEq(bytes32(bytes4(result)), bytes32(IMatchingTaskManager.WrongBids.selector), "reason");
        uint64 about;
        uint256 given;
        uint256 expected;
        assembly {
            about := mload(add(result, 0x24))
            given := mload(add(result, 0x44))
            expected := mload(add(result, 0x64))
        }
        assertEq(about, orderId, "order");
        assertEq(expected, stored, "stored");
        assertGe(given, least, "given");
        assertNotEq(given, stored, "differs");
    }

    function _supplierList(uint32 only) private pure returns (uint32[] memory list) {
        list = new uint32[](1);
        list[0] = only;
    }
}
