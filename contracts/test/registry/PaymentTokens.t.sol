// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {DevelopmentFeed} from "../../src/development/DevelopmentFeed.sol";
import {IEscrow} from "../../src/market/IEscrow.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {MarketTest} from "../market/MarketTest.sol";
import {PlainToken} from "../market/Tokens.sol";
import {HostileAnswer, SettableFeed} from "./Feeds.sol";

/// @notice Listing, status and caps of payment tokens, and prices from feeds that may be stale, wrong or broken.
contract PaymentTokensTest is MarketTest {
    uint32 private constant HEARTBEAT = 3_600;
    uint128 private constant CAP = 1_000_000e6;

    SettableFeed private _feed;
    PlainToken private _token;
    uint8 private _id;

    function setUp() public override {
        super.setUp();
        _feed = new SettableFeed(8, 2e8);
        _token = new PlainToken(6);
        _id = tokens.list(address(_token), "USDT", PLAIN_SCHEDULE, _priced(), CAP);
    }

    // ----------------------------------------------------------------- listing

    function test_list_pushesIntoTheEscrow() public {
        PlainToken token = new PlainToken(6);
        IPaymentTokens.PriceFeed memory priced = _priced();
        vm.expectEmit(address(tokens));
        emit IPaymentTokens.TokenListed(3, address(token), "USDC", 6, PLAIN_SCHEDULE);
        vm.expectEmit(address(tokens));
        emit IPaymentTokens.TokenFeedChanged(3, priced);
        vm.expectEmit(address(tokens));
        emit IPaymentTokens.TokenCapChanged(3, CAP);
        assertEq(tokens.list(address(token), "USDC", PLAIN_SCHEDULE, priced, CAP), 3, "id");
        IPaymentTokens.PaymentToken memory listed = tokens.token(3);
        assertEq(listed.id, 3, "id");
        assertEq(listed.token, address(token), "address");
        assertEq(listed.symbol, "USDC", "symbol");
        assertEq(listed.decimals, 6, "decimals");
        assertEq(uint8(listed.status), uint8(IPaymentTokens.Status.Enabled), "enabled");
        assertEq(listed.feeSchedule, PLAIN_SCHEDULE, "schedule");
        assertEq(keccak256(abi.encode(listed.feed)), keccak256(abi.encode(priced)), "feed");
        assertEq(listed.cap, CAP, "cap");
        assertEq(tokens.tokenCount(), 4, "count");
        _assertPushed(3, address(token), true, PLAIN_SCHEDULE);

        vm.expectEmit(address(tokens));
        emit IPaymentTokens.TokenFeeScheduleChanged(3, SPON_SCHEDULE);
        tokens.setFeeSchedule(3, SPON_SCHEDULE);
        _assertPushed(3, address(token), true, SPON_SCHEDULE);
    }

    function test_list_refusals() public {
        IPaymentTokens.PriceFeed memory priced = _priced();
        vm.expectRevert(abi.encodeWithSelector(IPaymentTokens.TokenListedAlready.selector, address(plain), PLAIN_TOKEN));
        tokens.list(address(plain), "AGAIN", PLAIN_SCHEDULE, priced, CAP);
        PlainToken token = new PlainToken(6);
        string[4] memory symbols = ["", "TWELVE_CHARS", "US DT", "USDT\x00"];
        for (uint256 index = 0; index < symbols.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IPaymentTokens.InvalidSymbol.selector, symbols[index]));
            tokens.list(address(token), symbols[index], PLAIN_SCHEDULE, priced, CAP);
        }
        // Of the escrow: an unknown schedule, and one that only a match gives.
        uint16[3] memory schedules = [uint16(0), PLAIN_SCHEDULE + 1, 99];
        for (uint256 index = 0; index < schedules.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, schedules[index]));
            tokens.list(address(token), "OTHER", schedules[index], priced, CAP);
        }
        tokens.list(address(token), "ElevenChars", PLAIN_SCHEDULE, priced, CAP);
    }

    function test_list_isBounded() public {
        for (uint256 id = 3; id < 32; ++id) {
            _list(address(new PlainToken(6)), string.concat("T", vm.toString(id)), PLAIN_SCHEDULE);
        }
        PlainToken last = new PlainToken(6);
        IPaymentTokens.PriceFeed memory priced = _priced();
        vm.expectRevert(abi.encodeWithSelector(IPaymentTokens.TokenListFull.selector, 32));
        tokens.list(address(last), "LAST", PLAIN_SCHEDULE, priced, CAP);
    }

    function test_unknownIds_areRefused() public {
        bytes memory unknown = abi.encodeWithSelector(IPaymentTokens.UnknownTokenId.selector, 9);
        IPaymentTokens.PriceFeed memory priced = _priced();
        vm.expectRevert(unknown);
        tokens.pauseToken(9);
        vm.expectRevert(unknown);
        tokens.setStatus(9, IPaymentTokens.Status.Enabled);
        vm.expectRevert(unknown);
        tokens.setFeeSchedule(9, PLAIN_SCHEDULE);
        vm.expectRevert(unknown);
        tokens.setFeed(9, priced);
        vm.expectRevert(unknown);
        tokens.setCap(9, 1);
        vm.expectRevert(unknown);
        tokens.token(9);
        vm.expectRevert(unknown);
        tokens.price(9);
        vm.expectRevert(unknown);
        tokens.keepPrice(9);
        vm.expectRevert(unknown);
        tokens.assess(9, 1);
    }

    function test_governance_isRestricted() public {
        bytes memory unauthorized = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, user);
        IPaymentTokens.PriceFeed memory priced = _priced();
        vm.startPrank(user);
        vm.expectRevert(unauthorized);
        tokens.list(address(plain), "MINE", PLAIN_SCHEDULE, priced, CAP);
        vm.expectRevert(unauthorized);
        tokens.pauseToken(_id);
        vm.expectRevert(unauthorized);
        tokens.setStatus(_id, IPaymentTokens.Status.Delisted);
        vm.expectRevert(unauthorized);
        tokens.setFeeSchedule(_id, SPON_SCHEDULE);
        vm.expectRevert(unauthorized);
        tokens.setFeed(_id, priced);
        vm.expectRevert(unauthorized);
        tokens.setCap(_id, 1);
        vm.stopPrank();
    }

    // ------------------------------------------------------------------ status

    /// @dev The guardian pauses what is enabled; governance enables and delists. Nobody has the other's word.
    function test_status() public {
        vm.expectEmit(address(tokens));
        emit IPaymentTokens.TokenStatusChanged(_id, IPaymentTokens.Status.Paused);
        tokens.pauseToken(_id);
        _assertStatus(IPaymentTokens.Status.Paused, false);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentTokens.InvalidStatus.selector, _id, IPaymentTokens.Status.Paused)
        );
        tokens.pauseToken(_id);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentTokens.InvalidStatus.selector, _id, IPaymentTokens.Status.Paused)
        );
        tokens.setStatus(_id, IPaymentTokens.Status.Paused);
        tokens.setStatus(_id, IPaymentTokens.Status.Enabled);
        _assertStatus(IPaymentTokens.Status.Enabled, true);
        tokens.setStatus(_id, IPaymentTokens.Status.Delisted);
        _assertStatus(IPaymentTokens.Status.Delisted, false);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentTokens.InvalidStatus.selector, _id, IPaymentTokens.Status.Delisted)
        );
        tokens.pauseToken(_id);
        // Other settings leave the status as it is.
        tokens.setFeeSchedule(_id, SPON_SCHEDULE);
        tokens.setCap(_id, 7);
        _assertStatus(IPaymentTokens.Status.Delisted, false);
    }

    function test_setCap() public {
        vm.expectEmit(address(tokens));
        emit IPaymentTokens.TokenCapChanged(_id, 7);
        tokens.setCap(_id, 7);
        assertEq(tokens.token(_id).cap, 7, "cap");
        (, uint128 cap) = tokens.assess(_id, 1);
        assertEq(cap, 7, "assessed");
    }

    // ------------------------------------------------------------------- feeds

    function test_setFeed_refusals() public {
        _feedRefused(address(0), HEARTBEAT, 1, 2);
        _feedRefused(user, HEARTBEAT, 1, 2);
        _feedRefused(address(new SettableFeed(19, 1)), HEARTBEAT, 1, 2);
        _feedRefused(address(_feed), 0, 1, 2);
        _feedRefused(address(_feed), HEARTBEAT, 2, 1);
        _feedRefused(address(_feed), HEARTBEAT, 0, 0);
        for (uint8 mode = 0; mode <= uint8(HostileAnswer.Mode.DecimalsRevert); ++mode) {
            // Without a round it has decimals: whether there is an answer is seen when it is needed.
            if (mode == uint8(HostileAnswer.Mode.Bomb)) continue;
            _feedRefused(address(new HostileAnswer(HostileAnswer.Mode(mode))), HEARTBEAT, 1, 2);
        }
        tokens.setFeed(_id, IPaymentTokens.PriceFeed(address(_feed), 1, 1, 1));
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentTokens.PriceOutOfBounds.selector, address(_feed), int256(2e8), 1, 1)
        );
        tokens.price(_id);
    }

    function test_price_ofEveryDecimals() public {
        for (uint8 decimals = 0; decimals <= 18; ++decimals) {
            SettableFeed feed_ = new SettableFeed(decimals, int256(3 * 10 ** decimals));
            tokens.setFeed(_id, IPaymentTokens.PriceFeed(address(feed_), HEARTBEAT, 1, uint128(100 * 10 ** decimals)));
            assertEq(tokens.price(_id), 3e18, "three dollars");
            (uint8 bracket,) = tokens.assess(_id, 5e6);
            assertEq(bracket, 1, "fifteen dollars");
            (bracket,) = tokens.assess(_id, 5e6 - 1);
            assertEq(bracket, 0, "a unit less");
        }
    }

    function test_assess_ofEveryTokensDecimals() public {
        for (uint8 decimals = 0; decimals <= 18; ++decimals) {
            uint8 id =
                _list(address(new PlainToken(decimals)), string.concat("D", vm.toString(decimals)), PLAIN_SCHEDULE);
            uint256 whole = 10 ** decimals;
            _assertBracket(id, 15 * whole - 1, 0);
            _assertBracket(id, 15 * whole, 1);
            _assertBracket(id, 30 * whole - 1, 1);
            _assertBracket(id, 30 * whole, 2);
            _assertBracket(id, 15 * whole << 31, 32);
            _assertBracket(id, type(uint112).max, uint8(_expectedBracket(type(uint112).max, whole)));
        }
        _assertBracket(_id, type(uint256).max, 32);
        _assertBracket(_id, 0, 0);
    }

    /// @dev The largest price there is, of the largest amount, is no overflow.
    function test_assess_atTheHighestPrice() public {
        SettableFeed dear = new SettableFeed(0, int256(uint256(type(uint128).max)));
        tokens.setFeed(_id, IPaymentTokens.PriceFeed(address(dear), HEARTBEAT, type(uint128).max, type(uint128).max));
        assertEq(tokens.price(_id), uint256(type(uint128).max) * 1e18, "price");
        _assertBracket(_id, type(uint256).max, 32);
        assertEq(tokens.keepPrice(_id), uint256(type(uint128).max) * 1e18, "kept");
        (uint256 kept,) = tokens.lastPrice(_id);
        assertEq(kept, uint256(type(uint128).max) * 1e18, "all of it");
    }

    function test_price_staleness_bothSides() public {
        uint256 updatedAt = block.timestamp;
        vm.warp(updatedAt + HEARTBEAT);
        assertEq(tokens.price(_id), 2e18, "at its heartbeat");
        vm.warp(updatedAt + HEARTBEAT + 1);
        _unusable(abi.encodeWithSelector(IPaymentTokens.StalePrice.selector, address(_feed), updatedAt, HEARTBEAT));
    }

    function test_price_bounds_bothSides() public {
        int256[2] memory within = [int256(1e8), 10e8];
        for (uint256 index = 0; index < within.length; ++index) {
            _feed.setAnswer(within[index]);
            assertEq(tokens.price(_id), uint256(within[index]) * 1e10, "within the bounds");
        }
        int256[6] memory outside = [int256(1e8 - 1), 10e8 + 1, 0, -1, type(int256).min, type(int256).max];
        for (uint256 index = 0; index < outside.length; ++index) {
            _feed.setAnswer(outside[index]);
            _unusable(
                abi.encodeWithSelector(
                    IPaymentTokens.PriceOutOfBounds.selector, address(_feed), outside[index], 1e8, 10e8
                )
            );
        }
        // A bound of zero does not let zero pass.
        _feed.setAnswer(0);
        tokens.setFeed(_id, IPaymentTokens.PriceFeed(address(_feed), HEARTBEAT, 0, 1));
        _unusable(abi.encodeWithSelector(IPaymentTokens.PriceOutOfBounds.selector, address(_feed), int256(0), 0, 1));
    }

    function test_price_rounds() public {
        bytes memory broken = abi.encodeWithSelector(IPaymentTokens.FeedBroken.selector, address(_feed));
        _feed.setUpdatedAt(0);
        _unusable(broken);
        _feed.setUpdatedAt(block.timestamp + 1);
        _unusable(broken);
        _feed.setUpdatedAt(type(uint256).max);
        _unusable(broken);
        _feed.setUpdatedAt(block.timestamp);
        _feed.setRounds(8, 7);
        _unusable(broken);
        _feed.setRounds(0, 0);
        _unusable(broken);
        _feed.setRounds(8, 8);
        assertEq(tokens.price(_id), 2e18, "complete");
        // The bounds are in the decimals that it had.
        _feed.setDecimals(9);
        _unusable(broken);
        _feed.setDecimals(8);
        assertEq(tokens.price(_id), 2e18, "as before");
    }

    function test_price_ofHostileFeeds() public {
        bytes memory broken = abi.encodeWithSelector(IPaymentTokens.FeedBroken.selector, address(_feed));
        for (uint8 mode = 0; mode <= uint8(HostileAnswer.Mode.DecimalsRevert); ++mode) {
            vm.etch(address(_feed), address(new HostileAnswer(HostileAnswer.Mode(mode))).code);
            _unusable(broken);
        }
        vm.etch(address(_feed), "");
        _unusable(broken);
    }

    // ------------------------------------------------------------- kept prices

    function test_keepPrice_byAnyone() public {
        (uint256 kept, uint64 keptAt) = tokens.lastPrice(_id);
        assertEq(kept, 0, "none yet");
        assertEq(keptAt, 0, "never");
        uint64 updatedAt = uint64(block.timestamp);
        vm.warp(updatedAt + 60);
        vm.expectEmit(address(tokens));
        emit IPaymentTokens.PriceKept(_id, 2e18, updatedAt);
        vm.prank(user);
        assertEq(tokens.keepPrice(_id), 2e18, "kept");
        (kept, keptAt) = tokens.lastPrice(_id);
        assertEq(kept, 2e18, "price");
        assertEq(keptAt, updatedAt, "as old as the feed has it");

        // What cannot be used today does not take the place of what could.
        _feed.setAnswer(0);
        vm.expectPartialRevert(IPaymentTokens.PriceOutOfBounds.selector);
        tokens.keepPrice(_id);
        (kept, keptAt) = tokens.lastPrice(_id);
        assertEq(kept, 2e18, "as before");
        (kept,) = tokens.lastPrice(PLAIN_TOKEN);
        assertEq(kept, 0, "tokens are apart");
    }

    // -------------------------------------------------------- development feed

    function test_developmentFeed() public {
        DevelopmentFeed settable = new DevelopmentFeed(8, "SPON / USD", 5e7);
        assertEq(settable.decimals(), 8, "decimals");
        assertEq(settable.description(), "SPON / USD", "description");
        assertEq(settable.version(), 1, "version");
        tokens.setFeed(_id, IPaymentTokens.PriceFeed(address(settable), HEARTBEAT, 1, 1e12));
        assertEq(tokens.price(_id), 0.5e18, "half a dollar");
        uint256 first = block.timestamp;
        vm.warp(first + HEARTBEAT + 1);
        vm.expectPartialRevert(IPaymentTokens.StalePrice.selector);
        tokens.price(_id);
        settable.setAnswer(6e7);
        assertEq(tokens.price(_id), 0.6e18, "set");
        (uint80 id, int256 answer,, uint256 updatedAt, uint80 answeredIn) = settable.getRoundData(1);
        assertEq(id, 1, "round");
        assertEq(uint256(answer), 5e7, "answer");
        assertEq(updatedAt, first, "time");
        assertEq(answeredIn, 1, "answered in");
        vm.expectRevert(abi.encodeWithSelector(DevelopmentFeed.UnknownRound.selector, 3));
        settable.getRoundData(3);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", user));
        vm.prank(user);
        settable.setAnswer(1);
    }

    // ----------------------------------------------------------------- private

    function _priced() private view returns (IPaymentTokens.PriceFeed memory) {
        return IPaymentTokens.PriceFeed(address(_feed), HEARTBEAT, 1e8, 10e8);
    }

    function _feedRefused(address feed_, uint32 heartbeat, uint128 minimum, uint128 maximum) private {
        vm.expectRevert(abi.encodeWithSelector(IPaymentTokens.UnsuitableFeed.selector, feed_));
        tokens.setFeed(_id, IPaymentTokens.PriceFeed(feed_, heartbeat, minimum, maximum));
    }

    /// @dev For all who ask: who needs a price is told why there is none, a deposit goes on.
    function _unusable(bytes memory reason) private {
        vm.expectRevert(reason);
        tokens.price(_id);
        vm.expectRevert(reason);
        tokens.keepPrice(_id);
        (uint8 bracket, uint128 cap) = tokens.assess(_id, 1_000e6);
        assertEq(bracket, 255, "not assessed");
        assertEq(cap, CAP, "the cap holds");
    }

    function _assertBracket(uint8 id, uint256 held, uint8 expected) private view {
        (uint8 bracket,) = tokens.assess(id, held);
        assertEq(bracket, expected, "bracket");
    }

    function _expectedBracket(uint256 held, uint256 whole) private pure returns (uint256 bracket) {
        while (bracket < 32 && held / whole >= uint256(15) << bracket) ++bracket;
    }

    function _assertStatus(IPaymentTokens.Status status, bool enabled) private view {
        assertEq(uint8(tokens.token(_id).status), uint8(status), "status");
        (, bool pushed,) = escrow.tokenOf(_id);
        assertEq(pushed, enabled, "pushed");
    }

    function _assertPushed(uint8 id, address token, bool enabled, uint16 schedule) private view {
        (address actual, bool actualEnabled, uint16 actualSchedule) = escrow.tokenOf(id);
        assertEq(actual, token, "pushed address");
        assertEq(actualEnabled, enabled, "pushed enabled");
        assertEq(actualSchedule, schedule, "pushed schedule");
    }
}
