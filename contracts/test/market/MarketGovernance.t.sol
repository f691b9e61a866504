// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderBook} from "../../src/market/OrderBook.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice How far governance may go: every limit itself is allowed, and who is named has its own place.
contract MarketGovernanceTest is MarketTest {
    uint256 private constant ROLES = 5;

    function test_constructor_takesTheSmallestOfEverything() public {
        IOrderBook.Parameters memory smallest = IOrderBook.Parameters({
            bidWindow: 1,
            maximumBidWindow: 1,
            responseWindow: 1,
            matchWindow: 1,
            challengeWindow: 0,
            graceWindow: 0,
            lowFundsWindow: 0,
            bidLimit: 1,
            paramsVersion: 1
        });
        _assertTaken(smallest);
    }

    function test_constructor_takesTheLargestOfEverything() public {
        IOrderBook.Parameters memory largest = IOrderBook.Parameters({
            bidWindow: type(uint16).max,
            maximumBidWindow: type(uint16).max,
            responseWindow: 256,
            matchWindow: 8_191 - 256,
            challengeWindow: type(uint32).max,
            graceWindow: type(uint32).max,
            lowFundsWindow: type(uint32).max,
            bidLimit: 512,
            paramsVersion: type(uint16).max
        });
        _assertTaken(largest);
    }

    function test_constructor_announcesWhatBidsKeepTo() public {
        IOrderBook.Parameters memory given = _parameters();
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        Escrow pair = new Escrow(address(manager), next, foundation, address(0));
        vm.expectEmit(next);
        emit IOrderBook.BiddingChanged(BID_WINDOW, BID_LIMIT, PARAMS_VERSION);
        new OrderBook(address(manager), pair, given);
    }

    function test_setBidding_toItsLimits() public {
        book.setBidding(MAXIMUM_BID_WINDOW, 512, type(uint16).max);
        IOrderBook.Parameters memory now_ = book.parameters();
        assertEq(now_.bidWindow, MAXIMUM_BID_WINDOW, "longest bid window");
        assertEq(now_.bidLimit, 512, "most bids");
        assertEq(now_.paramsVersion, type(uint16).max, "last version");
        book.setBidding(1, 1, 1);
        now_ = book.parameters();
        assertEq(now_.bidWindow, 1, "shortest bid window");
        assertEq(now_.bidLimit, 1, "fewest bids");
        assertEq(now_.paramsVersion, 1, "first version");
    }

    /// @dev Each role has a place of its own, and every other stays as it was.
    function test_acceptCollaborator_changesNobodyElse() public {
        address[ROLES] memory expected = _current();
        for (uint256 index = 0; index < ROLES; ++index) {
            IOrderBook.Collaborator role = IOrderBook.Collaborator(index);
            address next = makeAddress(string.concat("next ", vm.toString(index)));
            book.proposeCollaborator(role, next);
            _waitForProposals();
            vm.expectEmit(address(book));
            emit IOrderBook.CollaboratorChanged(role, expected[index], next);
            vm.prank(user);
            book.acceptCollaborator(role);
            expected[index] = next;
            _assertCurrent(expected);
        }
        IOrderBook.Parameters memory now_ = book.parameters();
        assertEq(now_.bidWindow, BID_WINDOW, "bid window");
        assertEq(now_.bidLimit, BID_LIMIT, "bid limit");
        assertEq(now_.paramsVersion, PARAMS_VERSION, "params version");
        assertFalse(book.paused(), "no pause");
    }

    /// @dev The highest address that there can be does not spill over into what shares its word.
    function test_acceptCollaborator_ofTheHighestAddress() public {
        address highest = address(type(uint160).max);
        for (uint256 index = 0; index < ROLES; ++index) {
            book.proposeCollaborator(IOrderBook.Collaborator(index), highest);
        }
        _waitForProposals();
        for (uint256 index = 0; index < ROLES; ++index) {
            book.acceptCollaborator(IOrderBook.Collaborator(index));
            assertEq(book.collaborator(IOrderBook.Collaborator(index)), highest, "named");
        }
        assertFalse(book.paused(), "no pause");
        assertEq(book.parameters().bidWindow, BID_WINDOW, "bid window");
    }

    /// @dev Proposals of several roles wait side by side; a second one of a role replaces the first and waits anew.
    function test_proposeCollaborator_replacesItsRolesAlone() public {
        address first = makeAddress("first");
        address second = makeAddress("second");
        book.proposeCollaborator(IOrderBook.Collaborator.Slasher, first);
        book.proposeCollaborator(IOrderBook.Collaborator.Disputes, first);
        _waitForProposals();
        book.proposeCollaborator(IOrderBook.Collaborator.Slasher, second);
        vm.expectPartialRevert(IOrderBook.ChangeTooEarly.selector);
        book.acceptCollaborator(IOrderBook.Collaborator.Slasher);
        book.acceptCollaborator(IOrderBook.Collaborator.Disputes);
        assertEq(book.collaborator(IOrderBook.Collaborator.Disputes), first, "disputes");
        _waitForProposals();
        book.acceptCollaborator(IOrderBook.Collaborator.Slasher);
        assertEq(book.collaborator(IOrderBook.Collaborator.Slasher), second, "slasher");
    }

    /// @dev Before the first account the first of a role is there at once, a second one waits like any.
    function test_proposeCollaborator_beforeTheFirstAccount() public {
        (OrderBook fresh, Escrow pair) = _construct(_parameters());
        assertEq(pair.accountCount(), 0, "no account");
        vm.expectEmit(address(fresh));
        emit IOrderBook.CollaboratorChanged(IOrderBook.Collaborator.Disputes, address(0), disputes);
        fresh.proposeCollaborator(IOrderBook.Collaborator.Disputes, disputes);
        assertEq(fresh.collaborator(IOrderBook.Collaborator.Disputes), disputes, "at once");
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NothingProposed.selector, IOrderBook.Collaborator.Disputes));
        fresh.acceptCollaborator(IOrderBook.Collaborator.Disputes);

        fresh.proposeCollaborator(IOrderBook.Collaborator.Disputes, responder);
        assertEq(fresh.collaborator(IOrderBook.Collaborator.Disputes), disputes, "the second waits");
        _waitForProposals();
        fresh.acceptCollaborator(IOrderBook.Collaborator.Disputes);
        assertEq(fresh.collaborator(IOrderBook.Collaborator.Disputes), responder, "and comes");
    }

    function test_proposeCollaborator_refusesTheZeroAddressForEveryRole() public {
        for (uint256 index = 0; index < ROLES; ++index) {
            IOrderBook.Collaborator role = IOrderBook.Collaborator(index);
            vm.expectRevert(abi.encodeWithSelector(IOrderBook.CollaboratorIsZero.selector, role), address(book));
            book.proposeCollaborator(role, address(0));
        }
    }

    /// @dev A pause is of both halves, and says so.
    function test_pause_isOfBidsAndMatches() public {
        vm.expectEmit(address(book));
        emit IOrderBook.Paused(address(this));
        book.pause();
        assertTrue(book.paused(), "paused");
        assertEq(uint256(vm.load(address(book), 0)) >> 208, 1, "bids");
        assertEq(uint256(vm.load(address(book), bytes32(uint256(1)))) >> 160, 1, "matches");
        _assertCurrent(_current());
        vm.expectEmit(address(book));
        emit IOrderBook.Unpaused(address(this));
        book.unpause();
        assertFalse(book.paused(), "not paused");
        assertEq(uint256(vm.load(address(book), 0)) >> 208, 0, "bids again");
        assertEq(uint256(vm.load(address(book), bytes32(uint256(1)))) >> 160, 0, "matches again");
        _assertCurrent(_current());
    }

    /// @dev Whatever the addresses are that share a word with it.
    function test_pause_touchesNoCollaborator() public {
        for (uint160 named = 2; named <= 3; ++named) {
            for (uint256 index = 0; index < ROLES; ++index) {
                book.proposeCollaborator(IOrderBook.Collaborator(index), address(named));
            }
            _waitForProposals();
            for (uint256 index = 0; index < ROLES; ++index) {
                book.acceptCollaborator(IOrderBook.Collaborator(index));
            }
            address[ROLES] memory expected;
            for (uint256 index = 0; index < ROLES; ++index) {
                expected[index] = address(named);
            }
            book.pause();
            _assertCurrent(expected);
            book.unpause();
            _assertCurrent(expected);
        }
    }

    function test_setTopGpus_isKeptWhole() public {
        vm.expectEmit(address(book));
        emit IOrderBook.TopGpusChanged(type(uint256).max - 1);
        book.setTopGpus(type(uint256).max - 1);
        assertEq(book.topGpus(), type(uint256).max - 1, "all of them");
    }

    // ----------------------------------------------------------------- private

    function _current() private view returns (address[ROLES] memory) {
        return [taskManager, address(registry), address(tokens), disputes, leaseSlasher];
    }

    function _assertCurrent(address[ROLES] memory expected) private view {
        for (uint256 index = 0; index < ROLES; ++index) {
            assertEq(book.collaborator(IOrderBook.Collaborator(index)), expected[index], vm.toString(index));
        }
    }

    /// @dev Two rounds of the longest kind, and the challenge window.
    function _waitForProposals() private {
        vm.roll(block.number + 2 * (uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW) + 1);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
    }

    function _assertTaken(IOrderBook.Parameters memory given) private {
        (OrderBook fresh, Escrow pair) = _construct(given);
        assertEq(abi.encode(fresh.parameters()), abi.encode(given), "parameters");
        assertEq(fresh.escrow(), address(pair), "escrow");
        assertFalse(fresh.paused(), "no pause");
        assertEq(fresh.topGpus(), 0, "no top GPUs");
    }

    function _construct(IOrderBook.Parameters memory given) private returns (OrderBook fresh, Escrow pair) {
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        pair = new Escrow(address(manager), next, foundation, address(0));
        fresh = new OrderBook(address(manager), pair, given);
    }
}
