// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Fees} from "../../src/market/Fees.sol";
import {FeeSchedule, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {PlainToken} from "./Tokens.sol";

/// @notice The smallest and the largest streams there are, from the deposit to the last withdrawal: exact to the unit, whatever
/// the path, and near what the price says.
contract PrecisionTest is MarketTest {
    /// @dev Of a match, in units: small enough for tokens without decimals.
    uint96 private constant FEE = 1;

    address private _owner;
    uint32 private _provider;
    uint16 private _schedule;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _schedule = escrow.addFeeSchedule(FeeSchedule(2_000, 200, 200, 0, FEE), 2_000);
    }

    /// @dev 0.0001 an hour at 6 decimals is a hundred units an hour, a thousand a rate period.
    function test_6decimals_atTheSmallestPrice() public {
        uint256[5] memory rates = [uint256(1_000), 1_001, 1_009, 1_499, 1_999];
        for (uint256 index = 0; index < rates.length; ++index) {
            uint256 gross = _live(new PlainToken(6), 100e6, rates[index], 1 days, 977);
            _within(gross * 36_000, rates[index] * 1 days, 1_000);
        }
    }

    /// @dev Ten years with their leap days.
    function test_18decimals_aMillionAnHour_forTenYears() public {
        uint256 rate = 1_000_000e18 * 10;
        uint256 gross = _live(new PlainToken(18), 100_000_000_000e18, rate, 315_576_000, 20_000_003);
        assertEq(gross, uint256(1_000_000e18) * 315_576_000 / 3_600, "streamed");
    }

    /// @dev The most that words can say: 84 bits a rate period, 29 bits of seconds.
    function test_theLargestWords() public {
        _live(new PlainToken(18), type(uint112).max, (1 << 84) - 1, (1 << 29) - 1, 31_337_337);
    }

    /// @dev A unit a second, settled every second: each fee is a fraction of a unit, and together they never take back what was
    /// paid.
    function test_aUnitASecond_settledEverySecond() public {
        _live(new PlainToken(6), 100e6, 36_000, 1_000, 1);
    }

    /// @dev What a lease has paid to anybody only ever grows with what has streamed, so that every settlement and every close
    /// finds something due, or nothing, and never less. Both classes, with a gateway and without.
    function test_shares_neverFall(uint256 streamed, uint256 more, uint256 ratios, uint16 share) public pure {
        streamed = bound(streamed, 0, 1 << 97);
        more = bound(more, 1, 10_001);
        uint256 commission = bound(ratios & 0xffff, 0, 2_500);
        uint256 providerFee = bound((ratios >> 16) & 0xffff, 0, 2_500 - commission);
        share = uint16(bound(share, 0, 5_000));
        (uint256 pair,) = Fees.pack(
            FeeSchedule(uint16(commission), uint16(2_500 - commission - providerFee), uint16(providerFee), share, 0),
            commission / 2
        );
        for (uint256 id = 2; id <= 3; ++id) {
            uint256 packed = Fees.ofClass(pair, id);
            (uint256 net, uint256 later) = (Fees.net(streamed, packed), Fees.net(streamed + more, packed));
            (uint256 part, uint256 laterPart) = (Fees.gatewayPart(net, packed), Fees.gatewayPart(later, packed));
            assertGe(later, net, "net");
            assertGe(laterPart, part, "gateway");
            assertGe(later - laterPart, net - part, "node");
            assertGe(Fees.foundationPart(streamed + more, packed), Fees.foundationPart(streamed, packed), "foundation");
        }
    }

    function test_theSmallestWords() public {
        assertEq(_live(new PlainToken(0), 1_000, 1, 1, 1), 0, "less than a unit");
    }

    function test_anyStream(uint256 rate, uint256 duration, uint256 step) public {
        rate = bound(rate, 1, (1 << 84) - 1);
        duration = bound(duration, 1, (1 << 29) - 1);
        step = bound(step, duration / 20 + 1, duration);
        _live(new PlainToken(18), type(uint112).max, rate, duration, step);
    }

    /// @dev A whole lease, settled every `step` seconds and closed at its end: everybody gets the sum that one settlement would
    /// have given, and the escrow ends empty. Returns what was streamed.
    function _live(PlainToken token, uint256 funds, uint256 rate, uint256 duration, uint256 step)
        private
        returns (uint256 gross)
    {
        uint8 id = _list(address(token), string.concat("T", vm.toString(tokens.tokenCount())), _schedule);
        token.mint(address(this), funds);
        token.approve(address(escrow), funds);
        escrow.deposit(account, id, funds);
        _run(id, rate, duration, step);
        gross = rate * duration / 36_000;
        _assertShares(id, gross, funds);
        _empty(id, token);
    }

    function _run(uint8 id, uint256 rate, uint256 duration, uint256 step) private {
        uint64 orderId = _leaseOf(id, rate, duration);
        uint256 start = book.order(orderId).start;
        for (uint256 passed = step; passed < duration; passed += step) {
            vm.warp(start + passed);
            book.settle(_ids(orderId));
        }
        // However short the lease, its payout hold is over.
        vm.warp(start + duration + CHALLENGE_WINDOW + GRACE_WINDOW);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(_termsOf(rate, duration)));
    }

    function _assertShares(uint8 id, uint256 gross, uint256 funds) private view {
        uint256 net = gross - gross * 2_200 / 10_000;
        uint256 userFee = gross * 200 / 10_000;
        assertEq(escrow.creditOf(_owner, id), net, "provider");
        assertEq(escrow.creditOf(foundation, id), gross - net + userFee, "foundation");
        assertEq(escrow.creditOf(responder, id), FEE, "responder");
        assertBalances(account, id, funds - gross - userFee - FEE, 0);
    }

    function _termsOf(uint256 rate, uint256 duration) private pure returns (OrderTerms memory terms) {
        terms = _terms();
        (terms.maximumRate, terms.duration) = (uint96(rate), uint32(duration));
    }

    function _leaseOf(uint8 id, uint256 rate, uint256 duration) private returns (uint64 orderId) {
        OrderTerms memory terms = _termsOf(rate, duration);
        vm.prank(user);
        orderId = book.createOrder(account, id, 0, terms);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(_provider, rate)));
        assertState(orderId, OrderState.Leased);
    }

    function _empty(uint8 id, PlainToken token) private {
        (uint256 unlocked,,) = escrow.balances(account, id);
        vm.prank(user);
        escrow.withdraw(account, id, unlocked, user);
        address[3] memory payees = [_owner, foundation, responder];
        for (uint256 index = 0; index < payees.length; ++index) {
            if (escrow.creditOf(payees[index], id) == 0) continue;
            vm.prank(payees[index]);
            escrow.withdrawCredit(id, payees[index]);
        }
        assertEq(token.balanceOf(address(escrow)), 0, "nothing is left");
    }

    /// @dev Not above what was agreed, and less than one part of so many below it.
    function _within(uint256 actual, uint256 agreed, uint256 parts) private pure {
        assertLe(actual, agreed, "never above");
        assertLt((agreed - actual) * parts, agreed, "0.1 %");
    }
}
