// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {Brackets} from "../../src/market/Brackets.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice What one order may ask for, by the bracket that the account's money entitles to (whitepaper 4.6.3). How money
/// becomes a bracket is in `AccountBrackets.t.sol`.
contract OrderBracketsTest is MarketTest {
    // Of bracket 1, in the units of the resource word: 10 milli-CPU, 16 MiB, 256 MiB.
    uint256 private constant CPU = 800;
    uint256 private constant MEMORY = 2_048;
    uint256 private constant STORAGE = 2_048;
    uint256 private constant CPU_WITH_GPU = 3_200;
    uint256 private constant MEMORY_WITH_GPU = 8_192;
    uint256 private constant STORAGE_WITH_GPU = 4_096;
    // What the fields hold.
    uint256 private constant MOST_CPU = (1 << 20) - 1;
    uint256 private constant MOST_STORAGE = (1 << 22) - 1;
    uint256 private constant MOST_GPUS = (1 << 12) - 1;
    /// @dev A mid-tier and a top model.
    uint256 private constant MID = 1 << 7;
    uint256 private constant TOP = 1 << 80;

    /// @dev What the whitepaper says: 15 dollars, 8 CPUs, 32 GiB, 512 GiB; or a GPU with 32 CPUs, 128 GiB, 1 TiB.
    function test_bracket1_isTheWhitepapers() public {
        uint32 opened = _accountOf(1);
        _allowed(opened, _resources(8 * 100, 32 * 64, 512 * 4, 0, 0));
        _allowed(opened, _resources(32 * 100, 128 * 64, 1_024 * 4, 1, MID));
        _refused(opened, _resources(8 * 100 + 1, 1, 0, 0, 0), 1, 2);
        _refused(opened, _resources(1, 1, 0, 2, MID), 1, 2);
    }

    /// @dev Both sides of every boundary of the ladder, through whole orders.
    function test_createOrder_bothSidesOfEveryBoundary() public {
        for (uint256 bracket = 1; bracket <= 6; ++bracket) {
            uint32 opened = _accountOf(bracket);
            assertEq(escrow.bracketOf(opened, PLAIN_TOKEN), bracket, "bracket");
            uint256 state = vm.snapshotState();
            uint256 steps = bracket - 1;
            (uint256 cpu, uint256 memory_, uint256 disk) = (CPU << steps, MEMORY << steps, STORAGE << steps);
            _allowed(opened, _resources(cpu, memory_, disk, 0, 0));
            _refused(opened, _resources(cpu + 1, memory_, disk, 0, 0), bracket, bracket + 1);
            _refused(opened, _resources(cpu, memory_ + 1, disk, 0, 0), bracket, bracket + 1);
            _refused(opened, _resources(cpu, memory_, disk + 1, 0, 0), bracket, bracket + 1);
            (cpu, memory_, disk) = (CPU_WITH_GPU << steps, MEMORY_WITH_GPU << steps, STORAGE_WITH_GPU << steps);
            uint256 gpus = 1 << steps;
            _allowed(opened, _resources(cpu, memory_, disk, gpus, MID));
            _refused(opened, _resources(cpu + 1, memory_, disk, gpus, MID), bracket, bracket + 1);
            _refused(opened, _resources(cpu, memory_ + 1, disk, gpus, MID), bracket, bracket + 1);
            _refused(opened, _resources(cpu, memory_, disk + 1, gpus, MID), bracket, bracket + 1);
            _refused(opened, _resources(cpu, memory_, disk, gpus + 1, MID), bracket, bracket + 1);
            vm.revertToState(state);
        }
    }

    function test_createOrder_withoutABracket() public {
        uint32 opened = escrow.open(user);
        _deposit(opened, PLAIN_TOKEN, 15e18 - 1);
        assertEq(escrow.bracketOf(opened, PLAIN_TOKEN), 0, "below the first");
        _refused(opened, _resources(1, 1, 0, 0, 0), 0, 1);
        _deposit(opened, PLAIN_TOKEN, 1);
        _allowed(opened, _resources(1, 1, 0, 0, 0));
    }

    /// @dev A top GPU counts four times, also if the order would take another.
    function test_createOrder_topGpus() public {
        uint32 opened = _accountOf(3);
        _allowed(opened, _resources(1, 1, 0, 4, TOP));
        vm.expectEmit(address(book));
        emit IOrderBook.TopGpusChanged(TOP | (TOP << 1));
        book.setTopGpus(TOP | (TOP << 1));
        assertEq(book.topGpus(), TOP | (TOP << 1), "ids");
        _allowed(opened, _resources(1, 1, 0, 1, TOP));
        _refused(opened, _resources(1, 1, 0, 2, TOP), 3, 4);
        _refused(opened, _resources(1, 1, 0, 2, TOP | MID), 3, 4);
        _refused(opened, _resources(1, 1, 0, 4, TOP << 1), 3, 5);
        _allowed(opened, _resources(1, 1, 0, 4, MID));
        book.setTopGpus(0);
        _allowed(opened, _resources(1, 1, 0, 4, TOP));
    }

    function test_setTopGpus_isRestricted() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, user));
        vm.prank(user);
        book.setTopGpus(1);
    }

    function test_proposeUpdate_isHeldToTheBracket() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint32 opened = _accountOf(1);
        OrderTerms memory terms = _cheap(_resources(8 * 100, 1, 0, 0, 0));
        vm.prank(user);
        uint64 orderId = book.createOrder(opened, PLAIN_TOKEN, 0, terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(provider, 1)));
        assertEq(book.supplierOwner(provider), owner, "who serves");
        uint40 expiry = uint40(block.timestamp + 1);
        OrderTerms memory more = _cheap(_resources(8 * 100 + 1, 1, 0, 0, 0));
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.AboveBracket.selector, more.resources, 1, 2), address(book));
        vm.prank(user);
        leases.proposeUpdate(orderId, more, expiry);
        more.resources = _resources(8 * 100, 32 * 64, 512 * 4, 0, 0);
        vm.prank(user);
        leases.proposeUpdate(orderId, more, expiry);
    }

    /// @dev Whatever fits its fields, some bracket allows, and from bracket 16 on everything is allowed.
    function test_highestBrackets() public view {
        uint256 most = _resources(MOST_CPU, MOST_CPU, MOST_STORAGE, MOST_GPUS, TOP);
        assertEq(this.needed(most, TOP), 15, "with the most top GPUs");
        this.check(most, 15, TOP);
        assertEq(this.needed(_resources(MOST_CPU, MOST_CPU, MOST_STORAGE, 0, 0), 0), 12, "without GPUs");
        for (uint256 bracket = 15; bracket < 256; ++bracket) {
            this.check(most, bracket, TOP);
        }
    }

    /// @dev What is needed is allowed, and nothing below it is.
    function testFuzz_needed_isTheLeastThatIsAllowed(uint256 seed, uint256 topGpus) public {
        uint256 gpus = seed % 3 == 0 ? 0 : (seed >> 8) % MOST_GPUS + 1;
        uint256 resources = _resources(
            ((seed >> 32) & MOST_CPU) >> ((seed >> 128) % 20),
            ((seed >> 64) & MOST_CPU) >> ((seed >> 136) % 20),
            ((seed >> 96) & MOST_STORAGE) >> ((seed >> 144) % 22),
            gpus >> ((seed >> 152) % 12),
            gpus == 0 ? 0 : (seed >> 160) & ((1 << 96) - 1)
        );
        uint256 bracket = this.needed(resources, topGpus);
        for (uint256 tried = 0; tried < 34; ++tried) {
            if (tried < bracket) {
                vm.expectRevert(abi.encodeWithSelector(IOrderBook.AboveBracket.selector, resources, tried, bracket));
            }
            this.check(resources, tried, topGpus);
        }
    }

    // ----------------------------------------------------------------- private

    function check(uint256 resources, uint256 bracket, uint256 topGpus) external pure {
        Brackets.check(resources, bracket, topGpus);
    }

    function needed(uint256 resources, uint256 topGpus) external pure returns (uint256) {
        return Brackets.needed(resources, topGpus);
    }

    /// @dev Holds just what the bracket takes: a token is a dollar.
    function _accountOf(uint256 bracket) private returns (uint32 opened) {
        opened = escrow.open(user);
        _deposit(opened, PLAIN_TOKEN, 15e18 << (bracket - 1));
    }

    function _cheap(uint256 resources) private pure returns (OrderTerms memory terms) {
        terms = _terms();
        (terms.resources, terms.maximumRate) = (resources, 1);
    }

    function _allowed(uint32 opened, uint256 resources) private {
        vm.prank(user);
        book.createOrder(opened, PLAIN_TOKEN, 0, _cheap(resources));
    }

    function _refused(uint32 opened, uint256 resources, uint256 bracket, uint256 needed_) private {
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.AboveBracket.selector, resources, bracket, needed_), address(book)
        );
        vm.prank(user);
        book.createOrder(opened, PLAIN_TOKEN, 0, _cheap(resources));
    }
}
