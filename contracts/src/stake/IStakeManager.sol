// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Providers' stake
/// @notice One SPON share pool per provider. Today only self-stake enters; delegations join the same pool later.
interface IStakeManager {
    /// @notice `amount` SPON units went into the provider's pool, for `shares` of it.
    event Staked(uint32 indexed provider, address indexed staker, uint256 amount, uint256 shares);
    /// @notice `shares` more thaw; all that thaws can be taken out from this Unix time on.
    event ThawStarted(uint32 indexed provider, address indexed staker, uint256 shares, uint64 withdrawableAt);
    /// @notice `amount` SPON units, what the thawed shares are worth now, went to the staker.
    event Unstaked(uint32 indexed provider, address indexed staker, uint256 amount);

    /// @dev Only a provider's owner stakes for it today.
    error NotProviderOwner(uint32 provider, address caller);
    /// @dev Nothing, or too little for one share, is staked or thawed; or the minimum would be nothing.
    error ZeroStake();
    /// @dev What a staker leaves in a pool is nothing or at least the minimum.
    error BelowMinimumStake(uint256 stake, uint256 minimum);
    /// @dev `available` are the staker's shares that do not thaw yet.
    error NotEnoughShares(uint32 provider, address staker, uint256 shares, uint256 available);
    /// @dev No share thaws, or they do until this Unix time.
    error NothingThawed(uint32 provider, address staker, uint64 withdrawableAt);
    /// @dev At deployment: stake must stay slashable for some time.
    error InvalidThawPeriod(uint64 thawPeriod);

    /// @notice Stakes SPON of the caller for a provider. Only the provider's owner today.
    function stake(uint32 provider, uint256 amount) external returns (uint256 shares);
    /// @notice Starts to thaw shares; thawing stake can still be slashed.
    /// A further thaw starts the wait anew for all that thaws.
    function startThaw(uint32 provider, uint256 shares) external;
    /// @notice Pays out what has thawed.
    function unstake(uint32 provider) external returns (uint256 amount);

    /// @notice Stake of a provider in token units, thawing stake excluded.
    function stakeOf(uint32 provider) external view returns (uint256);
    /// @notice Thawing ones included.
    function sharesOf(uint32 provider, address staker) external view returns (uint256);
    /// @notice Shares of a staker that thaw, and from when they can be withdrawn.
    function thawing(uint32 provider, address staker) external view returns (uint256 shares, uint64 withdrawableAt);
    /// @notice SPON units that a staker leaves in a pool at least, and that a provider needs to be active.
    function minimumStake() external view returns (uint256);
    /// @notice Seconds that stake stays slashable after its owner asked for it back.
    function thawPeriod() external view returns (uint64);
}
