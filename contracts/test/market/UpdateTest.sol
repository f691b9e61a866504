// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {TermsHash} from "./TermsHash.sol";

/// @notice A live lease, and terms that its user wants instead: twice the CPU for twice the time and another manifest.
abstract contract UpdateTest is MarketTest {
    uint96 internal constant RATE = 90e18;
    uint96 internal constant NEW_RATE = 150e18;

    address internal _owner;
    uint32 internal _provider;
    uint64 internal _orderId;
    uint256 internal _start;
    uint40 internal _expiry;

    function setUp() public virtual override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider", _capacity(300, 1_024, 64));
        _orderId = _lease(_owner, _provider, RATE);
        _start = block.timestamp;
        _expiry = uint40(_start + 1_000);
    }

    function _newTerms() internal pure returns (OrderTerms memory terms) {
        terms = _terms();
        terms.resources = _resources(200, 128, 8, 0, 0);
        terms.manifestHash = keccak256("next manifest");
        terms.maximumRate = 160e18;
        terms.duration = 7_200;
    }

    function _propose(OrderTerms memory terms) internal {
        vm.prank(user);
        leases.proposeUpdate(_orderId, terms, _expiry);
    }

    /// @dev Of the lease with the usual terms.
    function _accept(OrderTerms memory terms, uint96 rate) internal returns (uint64 updatedId) {
        vm.prank(_owner);
        return leases.acceptUpdate(_orderId, _leaseResources(_terms()), terms, rate);
    }

    function _update() internal returns (uint64 updatedId) {
        _propose(_newTerms());
        return _accept(_newTerms(), NEW_RATE);
    }

    function _updateHash(OrderTerms memory terms) internal pure returns (bytes32) {
        bytes32 termsHash = TermsHash.whole(terms);
        return keccak256(abi.encodePacked(termsHash, uint256(terms.maximumRate), uint256(terms.duration)));
    }

    function _leaseLock(uint96 rate, uint32 duration) internal view returns (uint256) {
        return escrow.lockFor(rate, duration, PLAIN_SCHEDULE) - MATCH_FEE;
    }

    function _net(uint256 rate, uint256 time) internal pure returns (uint256) {
        uint256 gross = rate * time / 36_000;
        return gross - gross * 2_200 / 10_000;
    }

    function _spent(uint256 rate, uint256 time) internal pure returns (uint256) {
        uint256 gross = rate * time / 36_000;
        return gross + gross * 200 / 10_000;
    }

    function _used(uint256 cpu, uint256 memory_, uint256 storage_) internal pure returns (uint256) {
        return _capacity(300, 1_024, 64) - storage_ - (memory_ << 44) - (cpu << 84);
    }
}
