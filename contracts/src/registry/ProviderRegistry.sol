// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IOrderBook} from "../market/IOrderBook.sol";
import {ScoreCardWord} from "../market/Resources.sol";
import {IStakeManager} from "../stake/IStakeManager.sol";
import {IPaymentTokens} from "./IPaymentTokens.sol";
import {IProviderRegistry} from "./IProviderRegistry.sol";

/// @title ProviderRegistry
contract ProviderRegistry is IProviderRegistry, AccessManagedUpgradeable, UUPSUpgradeable {
    using ScoreCardWord for uint256;

    uint8 private constant MAXIMUM_GPU_MODELS = 159;
    uint8 private constant MAXIMUM_REGIONS = 255;
    uint8 private constant LOWEST_TRUST_TIER = 7;
    /// @dev Suppliers of this tier pay the rebated commission.
    uint8 private constant REBATED_TRUST_TIER = 1;
    uint256 private constant HIGHEST_RATING = 10;
    uint256 private constant HIGHEST_WEIGHT = 1_000;
    uint256 private constant MAXIMUM_NAME = 64;
    uint256 private constant MAXIMUM_GATEWAY = 256;
    uint256 private constant WHOLE_SPON = 1e18;

    IOrderBook private immutable _orderBook;

    struct Entry {
        address owner;
        string name;
        string gateway;
    }

    /// @custom:storage-location erc7201:spheron.storage.ProviderRegistry
    struct ProviderRegistryStorage {
        // slot 0
        IStakeManager stakeManager;
        uint32 supplierCount;
        uint8 gpuModelCount;
        uint8 regionCount;
        // slot 1: all that a bid reads
        mapping(uint32 id => uint256 word) scoreCards;
        mapping(uint32 id => Entry) entries;
        mapping(address owner => uint32 id) ids;
        mapping(uint8 id => GpuModel) gpuModels;
        mapping(uint8 id => string) regions;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("spheron.storage.ProviderRegistry")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_LOCATION = 0x126cb77d1a151cef18f2eeb36e1cf42db286d4346d3d6d55fd875ec56c1e1d00;

    function _storage() private pure returns (ProviderRegistryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_LOCATION
        }
    }

    /// @custom:oz-upgrades-unsafe-allow constructor state-variable-immutable
    constructor(IOrderBook book) {
        _orderBook = book;
        _disableInitializers();
    }

    /// @param authority The access manager, which says who may call what is `restricted`.
    /// @param stakeManager Alone says what a provider's stake is ({stakeChanged}). Named for good.
    function initialize(address authority, IStakeManager stakeManager) external initializer {
        __AccessManaged_init(authority);
        _storage().stakeManager = stakeManager;
    }

    /// @dev The access manager decides who may upgrade, and after which delay.
    function _authorizeUpgrade(address) internal override restricted {}

    // -------------------------------------------------------------- providers

    /// @inheritdoc IProviderRegistry
    function register(string calldata name, string calldata gateway, uint8 region_, uint8 zone, uint32 tokens)
        external
        override
        returns (uint32 id)
    {
        ProviderRegistryStorage storage $ = _storage();
        // Check
        require($.ids[msg.sender] == 0, AlreadyRegistered(msg.sender, $.ids[msg.sender]));
        _checkDescription($, name, gateway, region_, tokens);

        // Effect
        id = ++$.supplierCount;
        $.ids[msg.sender] = id;
        $.entries[id] = Entry(msg.sender, name, gateway);
        uint256 card = uint256(0).withSelfDescription(region_, zone, tokens);
        $.scoreCards[id] = card;
        emit ProviderRegistered(id, msg.sender, name, gateway);
        emit ScoreCardChanged(id, card);

        // Interaction
        _orderBook.addSupplier(id, msg.sender, 0);
    }

    /// @inheritdoc IProviderRegistry
    function update(string calldata name, string calldata gateway, uint8 region_, uint8 zone, uint32 tokens)
        external
        override
    {
        ProviderRegistryStorage storage $ = _storage();
        uint32 id = $.ids[msg.sender];
        require(id != 0, NotRegistered(msg.sender));
        _checkDescription($, name, gateway, region_, tokens);
        $.entries[id].name = name;
        $.entries[id].gateway = gateway;
        emit ProviderUpdated(id, name, gateway);
        _setScoreCard($, id, $.scoreCards[id].withSelfDescription(region_, zone, tokens));
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IProviderRegistry
    function setVerified(uint32 id, uint8 trustTier, uint16 compliance, uint40 attributes)
        external
        override
        restricted
    {
        ProviderRegistryStorage storage $ = _storage();
        _checkKnown($, id);
        require(
            trustTier <= LOWEST_TRUST_TIER && attributes & ScoreCardWord.ATTRIBUTE_GUARD_BITS == 0,
            InvalidVerification(trustTier, attributes)
        );
        uint256 card = $.scoreCards[id];
        bool rebated = trustTier == REBATED_TRUST_TIER;
        bool classChanges = rebated != (card.trustTier() == REBATED_TRUST_TIER);
        _setScoreCard($, id, card.withVerification(trustTier, compliance, attributes));
        if (classChanges) _orderBook.setFeeClass(id, rebated);
    }

    /// @inheritdoc IProviderRegistry
    function suspend(uint32 id) external override restricted {
        _setSuspended(id, true);
    }

    /// @inheritdoc IProviderRegistry
    function reinstate(uint32 id) external override restricted {
        _setSuspended(id, false);
    }

    /// @inheritdoc IProviderRegistry
    function addGpuModel(string calldata vendor, string calldata model, uint16 vram)
        external
        override
        restricted
        returns (uint8 id)
    {
        ProviderRegistryStorage storage $ = _storage();
        require($.gpuModelCount < MAXIMUM_GPU_MODELS, CatalogueFull(MAXIMUM_GPU_MODELS));
        require(bytes(model).length != 0 && bytes(model).length <= MAXIMUM_NAME, InvalidName(model));
        id = ++$.gpuModelCount;
        $.gpuModels[id] = GpuModel(vendor, model, vram);
        emit GpuModelAdded(id, vendor, model, vram);
    }

    /// @inheritdoc IProviderRegistry
    function addRegion(string calldata name) external override restricted returns (uint8 id) {
        ProviderRegistryStorage storage $ = _storage();
        require($.regionCount < MAXIMUM_REGIONS, CatalogueFull(MAXIMUM_REGIONS));
        require(bytes(name).length != 0 && bytes(name).length <= MAXIMUM_NAME, InvalidName(name));
        id = ++$.regionCount;
        $.regions[id] = name;
        emit RegionAdded(id, name);
    }

    // ---------------------------------------------------------- stake manager

    /// @inheritdoc IProviderRegistry
    function stakeChanged(uint32 id, uint256 stake) external override {
        ProviderRegistryStorage storage $ = _storage();
        require(msg.sender == address($.stakeManager), NotStakeManager(msg.sender));
        _checkKnown($, id);
        bool enough = stake >= $.stakeManager.minimumStake();
        _setScoreCard($, id, $.scoreCards[id].withStake(stake / WHOLE_SPON).withActive(enough));
    }

    // ------------------------------------------------------------- order book

    /// @inheritdoc IProviderRegistry
    function giveFeedback(uint32 id, uint8 token, uint8 rating, uint256 fees) external override {
        require(msg.sender == address(_orderBook), NotOrderBook(msg.sender));
        ProviderRegistryStorage storage $ = _storage();
        _checkKnown($, id);
        uint256 weight = Math.min(HIGHEST_WEIGHT, 1 + _wholeDollars(token, fees));
        emit FeedbackGiven(id, rating, uint32(weight));
        uint256 card = $.scoreCards[id];
        (uint256 sum, uint256 count) = (card.feedbackSum(), card.feedbackCount());
        // A full count makes room by forgetting half of everything: the mean stays, new ratings go on counting.
        if (count + weight > type(uint32).max) {
            count >>= 1;
            sum = Math.min(sum >> 1, HIGHEST_RATING * count);
        }
        _setScoreCard($, id, card.withFeedback(sum + rating * weight, count + weight));
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IProviderRegistry
    function provider(uint32 id) external view override returns (Provider memory) {
        ProviderRegistryStorage storage $ = _storage();
        _checkKnown($, id);
        Entry storage entry = $.entries[id];
        return Provider(id, entry.owner, entry.name, entry.gateway, $.scoreCards[id]);
    }

    /// @inheritdoc IProviderRegistry
    function providerOf(address owner) external view override returns (uint32 id) {
        return _storage().ids[owner];
    }

    /// @inheritdoc IProviderRegistry
    function supplierCount() external view override returns (uint32) {
        return _storage().supplierCount;
    }

    /// @inheritdoc IProviderRegistry
    function scoreCard(uint32 id) external view override returns (uint256) {
        return _storage().scoreCards[id];
    }

    /// @inheritdoc IProviderRegistry
    function gpuModel(uint8 id) external view override returns (GpuModel memory) {
        return _storage().gpuModels[id];
    }

    /// @inheritdoc IProviderRegistry
    function gpuModelCount() external view override returns (uint8) {
        return _storage().gpuModelCount;
    }

    /// @inheritdoc IProviderRegistry
    function region(uint8 id) external view override returns (string memory) {
        return _storage().regions[id];
    }

    /// @inheritdoc IProviderRegistry
    function regionCount() external view override returns (uint8) {
        return _storage().regionCount;
    }

    // ---------------------------------------------------------------- private

    function _setSuspended(uint32 id, bool suspended) private {
        _checkKnown(_storage(), id);
        emit ProviderSuspended(id, suspended);
        _orderBook.suspend(id, suspended);
    }

    function _setScoreCard(ProviderRegistryStorage storage $, uint32 id, uint256 card) private {
        $.scoreCards[id] = card;
        emit ScoreCardChanged(id, card);
    }

    /// @dev At today's price, else at the last one kept; nothing if there is neither.
    function _wholeDollars(uint8 token, uint256 amount) private view returns (uint256) {
        IPaymentTokens tokens = IPaymentTokens(_orderBook.collaborator(IOrderBook.Collaborator.PaymentTokens));
        uint256 price = 0;
        try tokens.price(token) returns (uint256 today) {
            price = today;
        } catch {
            (price,) = tokens.lastPrice(token);
        }
        // Prices are dollars with 18 decimals; amounts have at most 98 bits.
        return Math.mulDiv(amount, price, 10 ** tokens.token(token).decimals * 1e18);
    }

    function _checkKnown(ProviderRegistryStorage storage $, uint32 id) private view {
        require($.entries[id].owner != address(0), UnknownProvider(id));
    }

    function _checkDescription(
        ProviderRegistryStorage storage $,
        string calldata name,
        string calldata gateway,
        uint8 region_,
        uint32 tokens
    ) private view {
        require(bytes(name).length != 0 && bytes(name).length <= MAXIMUM_NAME, InvalidName(name));
        bytes calldata url = bytes(gateway);
        require(
            url.length > 8 && url.length <= MAXIMUM_GATEWAY && bytes8(url[:8]) == bytes8("https://"),
            InvalidGateway(gateway)
        );
        require(region_ != 0 && region_ <= $.regionCount, UnknownRegion(region_));
        require(tokens != 0, NoTokenAccepted());
    }
}
