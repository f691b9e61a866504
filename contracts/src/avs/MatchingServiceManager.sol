// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";

import {EigenAllocationManager, EigenPermissionController, EigenRegistryCoordinator} from "./EigenLayer.sol";
import {IMatchingServiceManager} from "./IMatchingServiceManager.sol";

/// @title The AVS as EigenLayer knows it
/// @dev Has no storage of its own. Who slashes ({IAllocationSlasher}) and who submits rewards ({ICommissionSplit}) are
/// appointees.
contract MatchingServiceManager is IMatchingServiceManager, AccessManagedUpgradeable, UUPSUpgradeable {
    EigenAllocationManager private immutable _allocationManager;
    EigenPermissionController private immutable _permissionController;

    /// @custom:oz-upgrades-unsafe-allow constructor state-variable-immutable
    constructor(EigenAllocationManager allocations, EigenPermissionController permissions) {
        _allocationManager = allocations;
        _permissionController = permissions;
        _disableInitializers();
    }

    /// @param authority The access manager, which says who may call what is `restricted`.
    function initialize(address authority) external initializer {
        __AccessManaged_init(authority);
    }

    /// @dev The access manager decides who may upgrade, and after which delay.
    function _authorizeUpgrade(address) internal override restricted {}

    /// @inheritdoc IMatchingServiceManager
    function connect(address registryCoordinator, string calldata metadataUri) external restricted {
        if (!EigenRegistryCoordinator(registryCoordinator).supportsAVS(address(this))) {
            revert RegistrarOfAnotherAvs(registryCoordinator);
        }
        // EigenLayer takes an AVS for one only after its metadata is there.
        _allocationManager.updateAVSMetadataURI(address(this), metadataUri);
        _allocationManager.setAVSRegistrar(address(this), registryCoordinator);
        emit RegistrarSet(registryCoordinator);
        _setAppointee(
            registryCoordinator, address(_allocationManager), EigenAllocationManager.createOperatorSets.selector
        );
        _setAppointee(
            registryCoordinator, address(_allocationManager), EigenAllocationManager.deregisterFromOperatorSets.selector
        );
    }

    /// @inheritdoc IMatchingServiceManager
    function updateMetadata(string calldata metadataUri) external restricted {
        _allocationManager.updateAVSMetadataURI(address(this), metadataUri);
    }

    /// @inheritdoc IMatchingServiceManager
    function setAppointee(address appointee, address target, bytes4 selector) external restricted {
        _setAppointee(appointee, target, selector);
    }

    /// @inheritdoc IMatchingServiceManager
    function removeAppointee(address appointee, address target, bytes4 selector) external restricted {
        _permissionController.removeAppointee(address(this), appointee, target, selector);
        emit AppointeeRemoved(appointee, target, selector);
    }

    /// @inheritdoc IMatchingServiceManager
    function allocationManager() external view returns (address) {
        return address(_allocationManager);
    }

    /// @inheritdoc IMatchingServiceManager
    function permissionController() external view returns (address) {
        return address(_permissionController);
    }

    function _setAppointee(address appointee, address target, bytes4 selector) private {
        _permissionController.setAppointee(address(this), appointee, target, selector);
        emit AppointeeSet(appointee, target, selector);
    }
}
