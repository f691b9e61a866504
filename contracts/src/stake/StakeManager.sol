// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IProviderRegistry} from "../registry/IProviderRegistry.sol";
import {IStakeManager} from "./IStakeManager.sol";

/// @title StakeManager
/// @dev Not ERC-4626: its withdrawal is synchronous, and stake must stay slashable for a while after its owner wants it back.
/// Balances are counted inside, so that a token sent here changes no share's worth. Thawing shares stay in the pool: a slash
/// reaches them like the others.
contract StakeManager is IStakeManager, AccessManagedUpgradeable, UUPSUpgradeable {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    IERC20 private immutable _spon;
    IProviderRegistry private immutable _registry;

    struct Pool {
        uint128 tokens;
        uint128 shares;
        uint128 thawingShares;
    }

    struct Position {
        uint128 shares;
        uint128 thawingShares;
        uint64 withdrawableAt;
    }

    /// @custom:storage-location erc7201:spheron.storage.StakeManager
    struct StakeManagerStorage {
        uint128 minimumStake;
        uint64 thawPeriod;
        mapping(uint32 provider => Pool) pools;
        mapping(uint32 provider => mapping(address staker => Position)) positions;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("spheron.storage.StakeManager")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_LOCATION = 0x0743974d8e21a71e60c02c4f4b70ce3a3839276201f96a2f845b636a316ee900;

    function _storage() private pure returns (StakeManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_LOCATION
        }
    }

    /// @custom:oz-upgrades-unsafe-allow constructor state-variable-immutable
    constructor(IERC20 spon, IProviderRegistry registry) {
        _spon = spon;
        _registry = registry;
        _disableInitializers();
    }

    /// @param thawPeriod_ Seconds; longer than the challenge and dispute windows together.
    function initialize(address authority, uint128 minimumStake_, uint64 thawPeriod_) external initializer {
        __AccessManaged_init(authority);
        require(thawPeriod_ != 0, InvalidThawPeriod(thawPeriod_));
        require(minimumStake_ != 0, ZeroStake());
        StakeManagerStorage storage $ = _storage();
        $.minimumStake = minimumStake_;
        $.thawPeriod = thawPeriod_;
    }

    /// @dev The access manager decides who may upgrade, and after which delay.
    function _authorizeUpgrade(address) internal override restricted {}

    /// @inheritdoc IStakeManager
    function stake(uint32 provider, uint256 amount) external override returns (uint256 shares) {
        StakeManagerStorage storage $ = _storage();
        // Check
        require(amount != 0, ZeroStake());
        require(_registry.provider(provider).owner == msg.sender, NotProviderOwner(provider, msg.sender));
        Pool storage pool = $.pools[provider];
        Position storage position = $.positions[provider][msg.sender];

        // Effect: rounds down, in the pool's favour. A pool that a slash emptied starts again at one to one.
        shares = pool.tokens == 0 ? amount : amount * pool.shares / pool.tokens;
        require(shares != 0, ZeroStake());
        pool.tokens += amount.toUint128();
        pool.shares += shares.toUint128();
        position.shares += shares.toUint128();
        uint256 staked = _worth(pool, position.shares - position.thawingShares);
        require(staked >= $.minimumStake, BelowMinimumStake(staked, $.minimumStake));
        emit Staked(provider, msg.sender, amount, shares);

        // Interaction
        _spon.safeTransferFrom(msg.sender, address(this), amount);
        _registry.stakeChanged(provider, stakeOf(provider));
    }

    /// @inheritdoc IStakeManager
    function startThaw(uint32 provider, uint256 shares) external override {
        StakeManagerStorage storage $ = _storage();
        Pool storage pool = $.pools[provider];
        Position storage position = $.positions[provider][msg.sender];
        // Check
        require(shares != 0, ZeroStake());
        uint256 available = position.shares - position.thawingShares;
        require(shares <= available, NotEnoughShares(provider, msg.sender, shares, available));
        uint256 left = _worth(pool, available - shares);
        require(shares == available || left >= $.minimumStake, BelowMinimumStake(left, $.minimumStake));

        // Effect
        uint64 withdrawableAt = uint64(block.timestamp) + $.thawPeriod;
        position.thawingShares += shares.toUint128();
        position.withdrawableAt = withdrawableAt;
        pool.thawingShares += shares.toUint128();
        emit ThawStarted(provider, msg.sender, shares, withdrawableAt);

        // Interaction
        _registry.stakeChanged(provider, stakeOf(provider));
    }

    /// @inheritdoc IStakeManager
    function unstake(uint32 provider) external override returns (uint256 amount) {
        StakeManagerStorage storage $ = _storage();
        Pool storage pool = $.pools[provider];
        Position storage position = $.positions[provider][msg.sender];
        // Check
        uint128 shares = position.thawingShares;
        require(
            shares != 0 && block.timestamp >= position.withdrawableAt,
            NothingThawed(provider, msg.sender, position.withdrawableAt)
        );

        // Effect
        amount = _worth(pool, shares);
        position.shares -= shares;
        position.thawingShares = 0;
        pool.shares -= shares;
        pool.thawingShares -= shares;
        pool.tokens -= uint128(amount);
        emit Unstaked(provider, msg.sender, amount);

        // Interaction
        _spon.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStakeManager
    function stakeOf(uint32 provider) public view override returns (uint256) {
        Pool storage pool = _storage().pools[provider];
        return _worth(pool, pool.shares - pool.thawingShares);
    }

    /// @inheritdoc IStakeManager
    function sharesOf(uint32 provider, address staker) external view override returns (uint256) {
        return _storage().positions[provider][staker].shares;
    }

    /// @inheritdoc IStakeManager
    function thawing(uint32 provider, address staker)
        external
        view
        override
        returns (uint256 shares, uint64 withdrawableAt)
    {
        Position storage position = _storage().positions[provider][staker];
        return (position.thawingShares, position.withdrawableAt);
    }

    /// @inheritdoc IStakeManager
    function minimumStake() external view override returns (uint256) {
        return _storage().minimumStake;
    }

    /// @inheritdoc IStakeManager
    function thawPeriod() external view override returns (uint64) {
        return _storage().thawPeriod;
    }

    function _worth(Pool storage pool, uint256 shares) private view returns (uint256) {
        return pool.shares == 0 ? 0 : shares * pool.tokens / pool.shares;
    }
}
