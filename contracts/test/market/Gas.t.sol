// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BidRequest, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Whole transactions, cold, in the steady state of a market that runs: the account has made orders, the provider has
/// bid and been paid before. The real registry answers behind its proxy.
contract MarketGasTest is MarketTest {
    address private _owner;
    uint32 private _provider;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _createOrder();
        plain.mint(_owner, 1e18);
        plain.mint(responder, 1e18);
    }

    function test_createOrder() public {
        _createOrder();
        uint256 gas = vm.snapshotGasLastCall("Market", "createOrder");
        assertLe(gas, 95_000, "createOrder");
    }

    function test_placeBid() public {
        uint64 orderId = _createOrder();
        (address other,) = _addProvider("other provider");
        _bid(_owner, orderId, 90e18);
        uint256 first = vm.snapshotGasLastCall("Market", "placeBid.first");
        _bid(other, orderId, 80e18);
        uint256 later = vm.snapshotGasLastCall("Market", "placeBid.later");
        assertLe(first, 70_000, "first bid");
        assertLe(later, 55_000, "later bid");
    }

    function test_placeBids() public {
        (address other,) = _addProvider("other provider");
        uint64[] memory orders = new uint64[](9);
        for (uint256 index = 0; index < orders.length; ++index) {
            orders[index] = _createOrder();
            _bid(other, orders[index], 90e18);
        }
        uint256 one = _placeBids(orders, 0, 1);
        vm.roll(block.number + 1);
        uint256 eight = _placeBids(orders, 1, 8);
        vm.snapshotValue("Market", "placeBids.each", (eight - one) / 7);
        assertLe((eight - one) / 7, 16_000, "each further bid of a batch");
    }

    function test_settleAndWithdraw() public {
        uint64 orderId = _lease(_owner, _provider, 90e18);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(orderId), _owner);
        vm.warp(block.timestamp + 600);
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(orderId), _owner);
        uint256 gas = vm.snapshotGasLastCall("Market", "settleAndWithdraw");
        assertLe(gas, 57_000, "settle and withdraw");
    }

    /// @dev Accounts and suppliers differ for every order: nothing is warm but the contracts.
    function test_openLeases_marginal() public {
        uint256 ten = _openLeasesOf(10, "ten");
        uint256 fifty = _openLeasesOf(50, "fifty");
        uint256 each = (fifty - ten) / 40;
        vm.snapshotValue("Market", "openLeases.each", each);
        assertLe(each, 28_000, "each further match");
    }

    function test_sizes() public {
        _size("OrderBook", address(book));
        _size("Escrow", address(escrow));
        _size("Spon", address(spon));
        _size("ProviderRegistry", _implementation(address(registry)));
        _size("PaymentTokens", _implementation(address(tokens)));
        _size("StakeManager", _implementation(address(stakes)));
    }

    function _size(string memory name, address deployed) private {
        vm.snapshotValue("Market", string.concat("size.", name), deployed.code.length);
        assertLe(deployed.code.length, 22_000, name);
    }

    function _implementation(address proxy) private view returns (address) {
        bytes32 slot = bytes32(uint256(keccak256("eip1967.proxy.implementation")) - 1);
        return address(uint160(uint256(vm.load(proxy, slot))));
    }

    function _placeBids(uint64[] memory orders, uint256 from, uint256 count) private returns (uint256 gas) {
        BidRequest[] memory bids = new BidRequest[](count);
        for (uint256 index = 0; index < count; ++index) {
            bids[index] = BidRequest(orders[from + index], 0, 80e18);
        }
        vm.prank(_owner);
        book.placeBids(bids);
        return vm.lastCallGas().gasTotalUsed;
    }

    function _openLeasesOf(uint256 count, string memory name) private returns (uint256 gas) {
        OrderTerms memory terms = _terms();
        uint256[] memory matches;
        uint32[] memory providers = new uint32[](count);
        for (uint256 index = 0; index < count; ++index) {
            (, providers[index]) = _addProvider(string.concat(name, vm.toString(index)));
        }
        for (uint256 index = 0; index < count; ++index) {
            uint32 opened = escrow.open(user);
            _deposit(opened, PLAIN_TOKEN, 1_000e18);
            vm.prank(user);
            uint64 orderId = book.createOrder(opened, PLAIN_TOKEN, 0, terms);
            uint256[] memory ranks = new uint256[](5);
            for (uint256 rank = 0; rank < 5; ++rank) {
                ranks[rank] = _rank(providers[(index + rank) % count], 90e18 + rank);
            }
            matches = _join(matches, _matches(orderId, terms, ranks));
        }
        uint256 closeBlock = block.number + BID_WINDOW;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, matches);
        gas = vm.lastCallGas().gasTotalUsed;
        assertTrue(book.hasLease(providers[count - 1]), "the last supplier has a lease");
    }
}
