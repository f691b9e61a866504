// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Providers and what the market knows of them
/// @notice Keeps the packed score card that a bid reads (layout in {Resources}), and the governed catalogue of names behind
/// the ids used in words: GPU models, regions, attributes. Supplier ids are one space for providers and fizz nodes.
interface IProviderRegistry {
    /// @param id Supplier id.
    /// @param gateway URL of the manifest gateway, `https://host:port`.
    struct Provider {
        uint32 id;
        address owner;
        string name;
        string gateway;
        uint256 scoreCard;
    }

    /// @notice A GPU model with its memory, in GiB. Names are lower case.
    struct GpuModel {
        string vendor;
        string model;
        uint16 vram;
    }

    event ProviderRegistered(uint32 indexed id, address indexed owner, string name, string gateway);
    event ProviderUpdated(uint32 indexed id, string name, string gateway);
    event ScoreCardChanged(uint32 indexed id, uint256 scoreCard);
    event GpuModelAdded(uint8 indexed id, string vendor, string model, uint16 vram);
    event RegionAdded(uint8 indexed id, string name);

    /// @notice Registers the caller as a provider. Needs the minimum self-stake to become active, see {IStakeManager}.
    /// @param tokens Bitmap of accepted payment token ids.
    function register(string calldata name, string calldata gateway, uint8 region, uint8 zone, uint32 tokens)
        external
        returns (uint32 id);
    /// @notice Changes what the provider says of itself.
    function update(string calldata name, string calldata gateway, uint8 region, uint8 zone, uint32 tokens) external;

    /// @notice Verifier role: trust tier 1 (best) to 7, compliance flags and the eight attribute levels (5 bits each, the
    /// fifth a zero guard bit).
    function setVerified(uint32 id, uint8 trustTier, uint16 compliance, uint40 attributes) external;

    function provider(uint32 id) external view returns (Provider memory);
    function providerOf(address owner) external view returns (uint32 id);
    /// @notice Ids are handed out from 1.
    function supplierCount() external view returns (uint32);
    function scoreCard(uint32 id) external view returns (uint256);
    /// @notice GPU ids run from 1 to 159.
    function gpuModel(uint8 id) external view returns (GpuModel memory);
    function gpuModelCount() external view returns (uint8);
    function region(uint8 id) external view returns (string memory);
    /// @notice Region ids run from 1 to 255.
    function regionCount() external view returns (uint8);
}
