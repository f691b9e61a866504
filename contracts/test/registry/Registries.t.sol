// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";

import {CertificateRegistry} from "../../src/registry/CertificateRegistry.sol";
import {ICertificateRegistry} from "../../src/registry/ICertificateRegistry.sol";
import {IProviderRegistry} from "../../src/registry/IProviderRegistry.sol";
import {PaymentTokens} from "../../src/registry/PaymentTokens.sol";
import {ProviderRegistry} from "../../src/registry/ProviderRegistry.sol";
import {MarketTest} from "../market/MarketTest.sol";

/// @notice Providers, certificates, and how all registries are upgraded. Payment tokens and ratings have tests of their own.
contract RegistriesTest is MarketTest {
    string private constant GATEWAY = "https://provider.example:8443";

    // --------------------------------------------------------------- providers

    function test_register_addsASupplier() public {
        address owner = makeAddress("owner");
        vm.expectEmit(address(registry));
        emit IProviderRegistry.ProviderRegistered(1, owner, "name", GATEWAY);
        vm.prank(owner);
        uint32 id = registry.register("name", GATEWAY, 2, 5, 3);
        assertEq(id, 1, "id");
        assertEq(registry.providerOf(owner), 1, "provider of its owner");
        assertEq(registry.supplierCount(), 1, "count");
        assertEq(book.supplierOf(owner), 1, "supplier in the order book");
        IProviderRegistry.Provider memory provider = registry.provider(1);
        assertEq(provider.owner, owner, "owner");
        assertEq(provider.name, "name", "name");
        assertEq(provider.gateway, GATEWAY, "gateway");
        assertEq(provider.scoreCard, (2 << 136) | (5 << 144) | (3 << 195), "score card: not active, no tier");
        assertEq(registry.scoreCard(1), provider.scoreCard, "score card");
    }

    function test_scoreCard_collectsItsParts() public {
        (address owner, uint32 id) = _addProvider("provider");
        registry.setVerified(id, 7, 0xbeef, 15 | (uint40(15) << 35));
        _stake(owner, id, 500.7e18);
        vm.prank(owner);
        registry.update("other", "https://other.example", 2, 9, 0x80000001);
        uint256 expected = 1_500 | (uint256(2) << 136) | (uint256(9) << 144) | (uint256(7) << 152)
            | ((15 | (uint256(15) << 35)) << 155) | (uint256(0x80000001) << 195) | (uint256(0xbeef) << 227) | (1 << 243);
        assertEq(registry.scoreCard(id), expected, "score card");
        assertEq(registry.provider(id).name, "other", "name");

        // Below the minimum it is active no more; with it, again.
        vm.prank(owner);
        stakes.startThaw(id, 1_500.7e18);
        assertEq((registry.scoreCard(id) >> 243) & 1, 0, "inactive");
        assertEq(uint48(registry.scoreCard(id)), 0, "no stake");
        _stake(owner, id, MINIMUM_STAKE);
        assertEq((registry.scoreCard(id) >> 243) & 1, 1, "active");
    }

    function test_register_refusals() public {
        _registrationRefused("", GATEWAY, 1, 1, abi.encodeWithSelector(IProviderRegistry.InvalidName.selector, ""));
        string memory long = "0123456789012345678901234567890123456789012345678901234567890123x";
        _registrationRefused(long, GATEWAY, 1, 1, abi.encodeWithSelector(IProviderRegistry.InvalidName.selector, long));
        string[3] memory gateways = ["http://provider.example", "https://", ""];
        for (uint256 index = 0; index < gateways.length; ++index) {
            _registrationRefused(
                "name",
                gateways[index],
                1,
                1,
                abi.encodeWithSelector(IProviderRegistry.InvalidGateway.selector, gateways[index])
            );
        }
        _registrationRefused("name", GATEWAY, 0, 1, abi.encodeWithSelector(IProviderRegistry.UnknownRegion.selector, 0));
        _registrationRefused("name", GATEWAY, 3, 1, abi.encodeWithSelector(IProviderRegistry.UnknownRegion.selector, 3));
        _registrationRefused("name", GATEWAY, 1, 0, abi.encodeWithSelector(IProviderRegistry.NoTokenAccepted.selector));
        registry.register("name", GATEWAY, 1, 0, 1);
        _registrationRefused(
            "name",
            GATEWAY,
            1,
            1,
            abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, address(this), 1)
        );
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, user));
        vm.prank(user);
        registry.update("name", GATEWAY, 1, 0, 1);
    }

    function test_verifier_refusals() public {
        bytes memory unknown = abi.encodeWithSelector(IProviderRegistry.UnknownProvider.selector, 9);
        vm.expectRevert(unknown);
        registry.setVerified(9, 1, 0, 0);
        vm.expectRevert(unknown);
        registry.suspend(9);
        vm.expectRevert(unknown);
        registry.provider(9);
        (, uint32 id) = _addProvider("provider");
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.InvalidVerification.selector, 8, 0));
        registry.setVerified(id, 8, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.InvalidVerification.selector, 1, 16));
        registry.setVerified(id, 1, 0, 16);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotStakeManager.selector, address(this)));
        registry.stakeChanged(id, 1);
        vm.expectRevert(unknown);
        vm.prank(address(stakes));
        registry.stakeChanged(9, 1);
    }

    function test_catalogue() public {
        vm.expectEmit(address(registry));
        emit IProviderRegistry.GpuModelAdded(1, "nvidia", "a100", 80);
        assertEq(registry.addGpuModel("nvidia", "a100", 80), 1, "first GPU model");
        assertEq(registry.addGpuModel("nvidia", "a100", 40), 2, "another size is another id");
        assertEq(registry.gpuModel(2).vram, 40, "memory");
        assertEq(registry.gpuModelCount(), 2, "count");
        assertEq(registry.addRegion("ap-south"), 3, "region");
        assertEq(registry.region(3), "ap-south", "name");
        assertEq(registry.regionCount(), 3, "regions");
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.InvalidName.selector, ""));
        registry.addRegion("");
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.InvalidName.selector, ""));
        registry.addGpuModel("nvidia", "", 1);
    }

    function test_catalogue_isBounded() public {
        for (uint256 id = 1; id <= 159; ++id) {
            registry.addGpuModel("vendor", vm.toString(id), 8);
        }
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.CatalogueFull.selector, 159));
        registry.addGpuModel("vendor", "one too many", 8);
        for (uint256 id = 3; id <= 255; ++id) {
            registry.addRegion(vm.toString(id));
        }
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.CatalogueFull.selector, 255));
        registry.addRegion("one too many");
    }

    // ------------------------------------------------------------- certificates

    function test_certificates() public {
        CertificateRegistry certificates = new CertificateRegistry();
        vm.expectEmit(address(certificates));
        emit ICertificateRegistry.CertificatePublished(user, "current", "next");
        vm.prank(user);
        certificates.publish("current", "next");
        (bytes32 current, bytes32 next) = certificates.fingerprints(user);
        assertEq(current, "current", "current");
        assertEq(next, "next", "next");
        (current,) = certificates.fingerprints(responder);
        assertEq(current, 0, "nobody else's");

        vm.prank(user);
        certificates.publish("next", 0);
        (current, next) = certificates.fingerprints(user);
        assertEq(current, "next", "rotated");
        assertEq(next, 0, "no next");
        vm.expectEmit(address(certificates));
        emit ICertificateRegistry.CertificateRevoked(user);
        vm.prank(user);
        certificates.revoke();
        (current, next) = certificates.fingerprints(user);
        assertEq(current | next, 0, "revoked");

        vm.expectRevert(ICertificateRegistry.FingerprintIsZero.selector);
        certificates.publish(0, "next");
        vm.expectRevert(abi.encodeWithSelector(ICertificateRegistry.NothingPublished.selector, user));
        vm.prank(user);
        certificates.revoke();
    }

    // ----------------------------------------------------------------- upgrades

    function test_implementationsAndProxies_initializeOnce() public {
        ProviderRegistry bareRegistry = new ProviderRegistry(book);
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        bareRegistry.initialize(address(manager), stakes);
        PaymentTokens bareTokens = new PaymentTokens(escrow);
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        bareTokens.initialize(address(manager));
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        registry.initialize(address(manager), stakes);
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        tokens.initialize(address(manager));
    }

    /// @dev ERC-7201: the first slot of a namespace is where it says, so an upgrade finds it again.
    function test_storageNamespaces() public {
        _addProvider("provider");
        uint256 first = uint256(vm.load(address(registry), _namespace("spheron.storage.ProviderRegistry")));
        assertEq(address(uint160(first)), address(stakes), "stake manager");
        assertEq(uint32(first >> 160), 1, "supplier count");
        assertEq(uint8(first >> 200), 2, "region count");
        bytes32 scoreCards = bytes32(uint256(_namespace("spheron.storage.ProviderRegistry")) + 1);
        assertEq(
            vm.load(address(registry), keccak256(abi.encode(uint256(1), scoreCards))),
            bytes32(registry.scoreCard(1)),
            "score card"
        );
        assertEq(
            uint8(uint256(vm.load(address(tokens), _namespace("spheron.storage.PaymentTokens")))), 2, "token count"
        );
        uint256 stake = uint256(vm.load(address(stakes), _namespace("spheron.storage.StakeManager")));
        assertEq(uint128(stake), MINIMUM_STAKE, "minimum stake");
        assertEq(uint64(stake >> 128), THAW_PERIOD, "thaw period");
    }

    function test_upgrade_keepsTheState() public {
        (address owner, uint32 id) = _addProvider("provider");
        uint256 scoreCard = registry.scoreCard(id);
        registry.upgradeToAndCall(address(new ProviderRegistry(book)), "");
        assertEq(registry.scoreCard(id), scoreCard, "score card");
        assertEq(registry.providerOf(owner), id, "provider");
    }

    // ------------------------------------------------------------------ private

    function _namespace(string memory name) private pure returns (bytes32) {
        return keccak256(abi.encode(uint256(keccak256(bytes(name))) - 1)) & ~bytes32(uint256(0xff));
    }

    function _registrationRefused(
        string memory name,
        string memory gateway,
        uint8 region,
        uint32 accepted,
        bytes memory reason
    ) private {
        vm.expectRevert(reason);
        registry.register(name, gateway, region, 0, accepted);
    }
}
