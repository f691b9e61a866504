// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Brackets} from "../market/Brackets.sol";
import {IEscrow} from "../market/IEscrow.sol";
import {IPaymentTokens} from "./IPaymentTokens.sol";
import {PriceReading} from "./PriceReading.sol";

/// @title PaymentTokens
contract PaymentTokens is IPaymentTokens, AccessManagedUpgradeable, UUPSUpgradeable {
    /// @dev Score cards number tokens with 32 bits.
    uint8 private constant MAXIMUM_TOKENS = 32;
    uint8 private constant UNKNOWN_BRACKET = 255;
    uint256 private constant DOLLAR = 10 ** PriceReading.PRICE_DECIMALS;

    IEscrow private immutable _escrow;

    struct KeptPrice {
        uint192 price;
        uint64 updatedAt;
    }

    /// @custom:storage-location erc7201:spheron.storage.PaymentTokens
    struct PaymentTokensStorage {
        uint8 count;
        mapping(uint8 id => PaymentToken) tokens;
        /// Id plus one, so that zero means not listed.
        mapping(address token => uint16) listed;
        /// Of the feed, when it was set.
        mapping(uint8 id => uint8) feedDecimals;
        mapping(uint8 id => KeptPrice) keptPrices;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("spheron.storage.PaymentTokens")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_LOCATION = 0x4ece5b06d1308a6e19860acf4544f59f683ab105e5f3b3e62c128cbe0df93100;

    function _storage() private pure returns (PaymentTokensStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_LOCATION
        }
    }

    /// @custom:oz-upgrades-unsafe-allow constructor state-variable-immutable
    constructor(IEscrow escrow) {
        _escrow = escrow;
        _disableInitializers();
    }

    /// @param authority The access manager, which says who may call what is `restricted`.
    function initialize(address authority) external initializer {
        __AccessManaged_init(authority);
    }

    /// @dev The access manager decides who may upgrade, and after which delay.
    function _authorizeUpgrade(address) internal override restricted {}

    // ---------------------------------------------------------------- listing

    /// @inheritdoc IPaymentTokens
    function list(
        address tokenAddress,
        string calldata symbol,
        uint16 feeSchedule,
        PriceFeed calldata feed,
        uint128 cap
    ) external override restricted returns (uint8 id) {
        PaymentTokensStorage storage $ = _storage();
        // Check
        require($.count < MAXIMUM_TOKENS, TokenListFull(MAXIMUM_TOKENS));
        uint16 listed = $.listed[tokenAddress];
        if (listed != 0) revert TokenListedAlready(tokenAddress, uint8(listed - 1));
        require(_isSymbol(symbol), InvalidSymbol(symbol));
        (uint8 decimals, bool usable) = PriceReading.decimalsOf(tokenAddress);
        require(usable, UnsuitableToken(tokenAddress));

        // Effect
        id = $.count++;
        $.listed[tokenAddress] = uint16(id) + 1;
        PaymentToken storage entry = $.tokens[id];
        (entry.id, entry.token, entry.symbol) = (id, tokenAddress, symbol);
        (entry.decimals, entry.status, entry.feeSchedule) = (decimals, Status.Enabled, feeSchedule);
        emit TokenListed(id, tokenAddress, symbol, decimals, feeSchedule);
        _setFeed($, entry, feed);
        _setCap(entry, cap);

        // Interaction
        _push(entry);
    }

    /// @inheritdoc IPaymentTokens
    function pauseToken(uint8 id) external override restricted {
        PaymentToken storage listed = _known(id);
        // What governance took off the list is not brought back as paused.
        require(listed.status == Status.Enabled, InvalidStatus(id, listed.status));
        _setStatus(listed, Status.Paused);
    }

    /// @inheritdoc IPaymentTokens
    function setStatus(uint8 id, Status status) external override restricted {
        PaymentToken storage listed = _known(id);
        require(status != Status.Paused, InvalidStatus(id, status));
        _setStatus(listed, status);
    }

    /// @inheritdoc IPaymentTokens
    function setFeeSchedule(uint8 id, uint16 feeSchedule) external override restricted {
        PaymentToken storage listed = _known(id);
        listed.feeSchedule = feeSchedule;
        emit TokenFeeScheduleChanged(id, feeSchedule);
        _push(listed);
    }

    /// @inheritdoc IPaymentTokens
    function setFeed(uint8 id, PriceFeed calldata feed) external override restricted {
        _setFeed(_storage(), _known(id), feed);
    }

    /// @inheritdoc IPaymentTokens
    function setCap(uint8 id, uint128 cap) external override restricted {
        _setCap(_known(id), cap);
    }

    // ----------------------------------------------------------------- prices

    /// @inheritdoc IPaymentTokens
    function keepPrice(uint8 id) external override returns (uint256 usable) {
        PriceReading.Reading memory reading = _usableReading(id);
        usable = reading.price;
        // Answers have 128 bits, their factor 60; times have 64 until the sun is gone.
        _storage().keptPrices[id] = KeptPrice(uint192(usable), uint64(reading.updatedAt));
        emit PriceKept(id, usable, uint64(reading.updatedAt));
    }

    /// @inheritdoc IPaymentTokens
    function assess(uint8 id, uint256 held) external view override returns (uint8 bracket, uint128 cap) {
        PaymentToken storage listed = _known(id);
        cap = listed.cap;
        PriceReading.Reading memory reading = PriceReading.read(listed.feed, _storage().feedDecimals[id]);
        if (reading.problem != PriceReading.Problem.None) return (UNKNOWN_BRACKET, cap);
        // Accounts hold 112 bits; more than this is the highest bracket at any price.
        if (held > type(uint128).max) held = type(uint128).max;
        uint256 steps = Math.mulDiv(held, reading.price, 10 ** listed.decimals * Brackets.FIRST_DOLLARS * DOLLAR);
        if (steps == 0) return (0, cap);
        return (uint8(Math.min(Math.log2(steps) + 1, Brackets.HIGHEST)), cap);
    }

    /// @inheritdoc IPaymentTokens
    function price(uint8 id) external view override returns (uint256) {
        return _usableReading(id).price;
    }

    /// @inheritdoc IPaymentTokens
    function lastPrice(uint8 id) external view override returns (uint256, uint64) {
        KeptPrice storage kept = _storage().keptPrices[id];
        return (kept.price, kept.updatedAt);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IPaymentTokens
    function token(uint8 id) external view override returns (PaymentToken memory) {
        return _known(id);
    }

    /// @inheritdoc IPaymentTokens
    function tokenCount() external view override returns (uint8) {
        return _storage().count;
    }

    // ---------------------------------------------------------------- private

    function _known(uint8 id) private view returns (PaymentToken storage listed) {
        listed = _storage().tokens[id];
        require(listed.token != address(0), UnknownTokenId(id));
    }

    function _setStatus(PaymentToken storage listed, Status status) private {
        listed.status = status;
        emit TokenStatusChanged(listed.id, status);
        _push(listed);
    }

    function _setFeed(PaymentTokensStorage storage $, PaymentToken storage listed, PriceFeed calldata feed) private {
        (uint8 decimals, bool usable) = PriceReading.decimalsOf(feed.feed);
        bool lets = feed.maximumPrice != 0 && feed.minimumPrice <= feed.maximumPrice;
        require(usable && lets && feed.heartbeat != 0, UnsuitableFeed(feed.feed));
        listed.feed = feed;
        $.feedDecimals[listed.id] = decimals;
        emit TokenFeedChanged(listed.id, feed);
    }

    function _setCap(PaymentToken storage listed, uint128 cap) private {
        listed.cap = cap;
        emit TokenCapChanged(listed.id, cap);
    }

    /// @dev The core keeps its own copy, so that it calls nothing upgradeable.
    function _push(PaymentToken storage listed) private {
        _escrow.setToken(listed.id, listed.token, listed.status == Status.Enabled, listed.feeSchedule);
    }

    function _usableReading(uint8 id) private view returns (PriceReading.Reading memory reading) {
        PriceFeed memory feed = _known(id).feed;
        reading = PriceReading.read(feed, _storage().feedDecimals[id]);
        if (reading.problem == PriceReading.Problem.Broken) revert FeedBroken(feed.feed);
        if (reading.problem == PriceReading.Problem.Stale) {
            revert StalePrice(feed.feed, reading.updatedAt, feed.heartbeat);
        }
        if (reading.problem == PriceReading.Problem.OutOfBounds) {
            revert PriceOutOfBounds(feed.feed, reading.answer, feed.minimumPrice, feed.maximumPrice);
        }
    }

    function _isSymbol(string calldata symbol) private pure returns (bool) {
        bytes calldata text = bytes(symbol);
        if (text.length == 0 || text.length > 11) return false;
        for (uint256 index = 0; index < text.length; ++index) {
            bytes1 letter = text[index];
            bool digit = letter >= "0" && letter <= "9";
            bool upper = letter >= "A" && letter <= "Z";
            bool lower = letter >= "a" && letter <= "z";
            if (!digit && !upper && !lower) return false;
        }
        return true;
    }
}
