// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Providers' stake
/// @notice One SPON share pool per provider. Today only self-stake enters; delegations join the same pool later.
interface IStakeManager {
    event Staked(uint32 indexed provider, address indexed staker, uint256 amount, uint256 shares);
    event ThawStarted(uint32 indexed provider, address indexed staker, uint256 shares, uint64 withdrawableAt);
    event Unstaked(uint32 indexed provider, address indexed staker, uint256 amount);

    /// @notice Stakes SPON of the caller for a provider. Only the provider's owner today.
    function stake(uint32 provider, uint256 amount) external returns (uint256 shares);
    /// @notice Starts to thaw shares; thawing stake can still be slashed.
    function startThaw(uint32 provider, uint256 shares) external;
    /// @notice Pays out what has thawed.
    function unstake(uint32 provider) external returns (uint256 amount);

    /// @notice Stake of a provider in token units, thawing stake excluded.
    function stakeOf(uint32 provider) external view returns (uint256);
    function sharesOf(uint32 provider, address staker) external view returns (uint256);
    function minimumStake() external view returns (uint256);
}
