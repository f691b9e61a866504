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

    /// @notice `owner` sends the provider's bids and is paid; it never changes.
    event ProviderRegistered(uint32 indexed id, address indexed owner, string name, string gateway);
    /// @notice Name and gateway as they are now; region, zone and tokens are told by {ScoreCardChanged} along with it.
    event ProviderUpdated(uint32 indexed id, string name, string gateway);
    /// @notice The whole packed card: bids from now on carry it.
    event ScoreCardChanged(uint32 indexed id, uint256 scoreCard);
    /// @notice `vram` in GiB. Ids are never used again.
    event GpuModelAdded(uint8 indexed id, string vendor, string model, uint16 vram);
    /// @notice Ids are never used again.
    event RegionAdded(uint8 indexed id, string name);
    /// @notice A rating counted with this weight: whole dollars of the fees the lease paid and one, at most 1 000.
    event FeedbackGiven(uint32 indexed id, uint8 rating, uint32 weight);
    /// @notice By the guardian, or taken back by the governor: see {IOrderBook-suspend}.
    event ProviderSuspended(uint32 indexed id, bool suspended);

    /// @dev One address is one provider at most.
    error AlreadyRegistered(address owner, uint32 id);
    /// @dev The caller is no provider, so it has nothing to change.
    error NotRegistered(address owner);
    /// @dev Nobody registered under this id.
    error UnknownProvider(uint32 id);
    /// @dev Names of providers, GPU models and regions have 1 to 64 bytes.
    error InvalidName(string name);
    /// @dev Not 9 to 256 bytes that begin with `https://`.
    error InvalidGateway(string gateway);
    /// @dev Region ids run from 1 to {regionCount}.
    error UnknownRegion(uint8 region);
    /// @dev The bitmap of payment tokens is empty.
    error NoTokenAccepted();
    /// @dev Tiers are 0 (none yet) to 7; the guard bit of every attribute is zero.
    error InvalidVerification(uint8 trustTier, uint40 attributes);
    /// @dev There are `maximum` (159 GPU models, 255 regions) already.
    error CatalogueFull(uint8 maximum);
    /// @dev {stakeChanged} is for the stake manager alone.
    error NotStakeManager(address caller);
    /// @dev {giveFeedback} is for the order book alone.
    error NotOrderBook(address caller);

    /// @notice Registers the caller as a provider. Needs the minimum self-stake to become active, see {IStakeManager}.
    /// @param tokens Bitmap of accepted payment token ids.
    function register(string calldata name, string calldata gateway, uint8 region, uint8 zone, uint32 tokens)
        external
        returns (uint32 id);
    /// @notice Changes what the provider says of itself.
    function update(string calldata name, string calldata gateway, uint8 region, uint8 zone, uint32 tokens) external;

    /// @notice Verifier role: trust tier 1 (best) to 7, compliance flags and the eight attribute levels (5 bits each, the
    /// fifth a zero guard bit). Tier 1 is the rebated fee class for leases won from now on.
    function setVerified(uint32 id, uint8 trustTier, uint16 compliance, uint40 attributes) external;

    /// @notice Guardian role: takes a provider out of bids and matches at once.
    function suspend(uint32 id) external;
    /// @notice Governor role: lets a suspended provider back.
    function reinstate(uint32 id) external;
    /// @notice Adds a GPU model to the catalogue, under the next id.
    function addGpuModel(string calldata vendor, string calldata model, uint16 vram) external returns (uint8 id);
    /// @notice Adds a region to the catalogue, under the next id.
    function addRegion(string calldata name) external returns (uint8 id);
    /// @notice A user rated a lease of the provider. Only the order book, which has checked lease and rating (1 to 10).
    /// @param fees Token units that the lease paid to the foundation: a rating weighs what it cost.
    function giveFeedback(uint32 id, uint8 token, uint8 rating, uint256 fees) external;
    /// @notice Stake of a provider changed. Only the stake manager.
    /// @param stake SPON units.
    function stakeChanged(uint32 id, uint256 stake) external;

    /// @notice Reverts with {UnknownProvider} if nobody registered under the id.
    function provider(uint32 id) external view returns (Provider memory);
    /// @notice Zero if the address is no provider.
    function providerOf(address owner) external view returns (uint32 id);
    /// @notice Ids are handed out from 1.
    function supplierCount() external view returns (uint32);
    /// @notice Packed, see {ScoreCardWord}; zero if nobody registered under the id.
    function scoreCard(uint32 id) external view returns (uint256);
    /// @notice GPU ids run from 1 to 159.
    function gpuModel(uint8 id) external view returns (GpuModel memory);
    /// @notice The highest id given; zero while there is none.
    function gpuModelCount() external view returns (uint8);
    /// @notice The region's name; empty if the id is not given yet.
    function region(uint8 id) external view returns (string memory);
    /// @notice Region ids run from 1 to 255.
    function regionCount() external view returns (uint8);
}
